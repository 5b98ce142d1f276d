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
    allowed: u64,
    blocked: u64,
    only_allowed: bool,
}

impl Filter {
    /// Allows only commands allowed by name from now on; names nobody knows count too, so that a
    /// list of them allows nothing rather than everything.
    pub fn allow_only_named(&mut self) {
        self.only_allowed = true;
    }

    /// Allows the command at this place of the table.
    pub fn allow(&mut self, place: usize) {
        self.allowed |= bit(place);
    }

    /// Blocks the command at this place of the table.
    pub fn block(&mut self, place: usize) {
        self.blocked |= bit(place);
    }

    /// Whether the command at this place of the table is allowed.
    pub fn allows(&self, place: usize) -> bool {
        let bit = bit(place);
        self.blocked & bit == 0 && (!self.only_allowed || self.allowed & bit != 0)
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
        filter.block(3);
        assert!(!filter.allows(3) && filter.allows(4));
        filter.allow_only_named();
        assert!(!filter.allows(4));
        filter.allow(4);
        filter.allow(3);
        assert!(filter.allows(4) && !filter.allows(3));
    }
}
