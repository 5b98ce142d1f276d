//! The commands that `--allow-rpcs` and `--block-rpcs` allow.
//!
//! A command is known by its index in the table. A command on both lists is blocked; without an
//! allow list all others are allowed. While frozen the filter does not count: the table says what
//! is allowed.

use static_assertions::const_assert_eq;

/// Commands that a filter has room for, one bit each.
pub const MOST_COMMANDS: usize = 64;

const_assert_eq!(MOST_COMMANDS, u64::BITS as usize);

/// The allowed commands: sets with one bit per command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    blocked: u64,
    /// `None` without an allow list.
    allowed: Option<u64>,
}

impl Filter {
    /// Blocks a set of commands.
    pub fn block(&mut self, set: u64) {
        self.blocked |= set;
    }

    /// Adds a set of commands to the allow list. One of empty sets allows nothing, not everything.
    pub fn allow(&mut self, set: u64) {
        *self.allowed.get_or_insert(0) |= set;
    }

    /// Blocks all commands but those in this set.
    pub fn restrict(&mut self, to: u64) {
        self.block(!to);
    }

    /// Whether the command at this index of the table is allowed.
    pub fn allows(&self, index: usize) -> bool {
        let bit = bit(index);
        self.blocked & bit == 0 && self.allowed.is_none_or(|allowed| allowed & bit != 0)
    }
}

/// The set of the command at this index of the table.
pub fn bit(index: usize) -> u64 {
    1u64.unbounded_shl(index as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_command_on_both_lists() {
        let mut filter = Filter::default();
        assert!(filter.allows(0) && filter.allows(63));
        filter.block(bit(3));
        assert!(!filter.allows(3) && filter.allows(4));
        filter.allow(0);
        assert!(!filter.allows(4));
        filter.allow(bit(4));
        filter.allow(bit(3));
        assert!(filter.allows(4) && !filter.allows(3));
    }

    #[test]
    fn restriction_holds_whatever_is_allowed_before_or_after() {
        let mut filter = Filter::default();
        filter.restrict(0b110);
        assert!(!filter.allows(0) && filter.allows(1) && filter.allows(2));
        for restrict_first in [true, false] {
            let mut filter = Filter::default();
            if restrict_first {
                filter.restrict(0b110);
            }
            filter.allow(bit(0));
            filter.allow(bit(1));
            filter.restrict(0b110);
            assert!(!filter.allows(0) && filter.allows(1) && !filter.allows(2));
        }
    }
}
