//! Which commands are allowed, as `--allow-rpcs` and `--block-rpcs` say.
//!
//! Commands go by their place in the table. A block beats an allowance; without any allowance all
//! are allowed. What is allowed while frozen is up to the table alone.

use static_assertions::const_assert_eq;

/// The number of commands a filter can tell apart.
pub const MOST_COMMANDS: usize = 64;

const_assert_eq!(MOST_COMMANDS, u64::BITS as usize);

/// Which commands are allowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    blocked: u64,
    /// All, as long as none was allowed by name.
    allowed: Option<u64>,
}

/// What a command is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Those that are blocked.
    Blocked,
    /// Those that alone are allowed.
    Allowed,
}

impl Filter {
    /// Puts the command at this place of the table, if there is one, on a list. Names nobody knows
    /// count too: a list of them allows nothing rather than everything.
    pub fn add(&mut self, list: List, place: Option<usize>) {
        let bit = place.map_or(0, bit);
        match list {
            List::Blocked => self.blocked |= bit,
            List::Allowed => *self.allowed.get_or_insert(0) |= bit,
        }
    }

    /// Blocks all commands but those of this set, one bit a place of the table.
    pub fn restrict(&mut self, to: u64) {
        self.blocked |= !to;
    }

    /// Whether the command at this place of the table is allowed.
    pub fn allows(&self, place: usize) -> bool {
        let bit = bit(place);
        self.blocked & bit == 0 && self.allowed.is_none_or(|allowed| allowed & bit != 0)
    }
}

fn bit(place: usize) -> u64 {
    1u64.unbounded_shl(place as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_beats_an_allowance() {
        let mut filter = Filter::default();
        assert!(filter.allows(0) && filter.allows(63));
        filter.add(List::Blocked, Some(3));
        assert!(!filter.allows(3) && filter.allows(4));
        filter.add(List::Allowed, None);
        assert!(!filter.allows(4));
        filter.add(List::Allowed, Some(4));
        filter.add(List::Allowed, Some(3));
        assert!(filter.allows(4) && !filter.allows(3));
    }

    #[test]
    fn a_restriction_holds_whatever_else_is_said_before_or_after() {
        let mut filter = Filter::default();
        filter.restrict(0b110);
        assert!(!filter.allows(0) && filter.allows(1) && filter.allows(2));
        for restrict_first in [true, false] {
            let mut filter = Filter::default();
            if restrict_first {
                filter.restrict(0b110);
            }
            filter.add(List::Allowed, Some(0));
            filter.add(List::Allowed, Some(1));
            filter.restrict(0b110);
            assert!(!filter.allows(0) && filter.allows(1) && !filter.allows(2));
        }
    }
}
