//! Lists of processors, as Documentation/admin-guide/cputopology.rst describes them: `0-3,5,7-9`.
//!
//! Numbers are decimal, ranges include both ends, and an empty list ends in its newline like any other.

use crate::base::text::{cut, parse_u64, trim};

/// Whether a list has this processor; `None` if it is no list.
pub fn contains(list: &[u8], cpu: u64) -> Option<bool> {
    let mut rest = trim(list);
    let mut found = false;
    while !rest.is_empty() {
        let mut range = cut(&mut rest, b',');
        let first = parse_u64(cut(&mut range, b'-'))?;
        let last = match range {
            [] => first,
            last => parse_u64(last)?,
        };
        found |= (first..=last).contains(&cpu);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    /// The processors below 12 that a list has.
    fn members(list: &str) -> Option<Vec<u64>> {
        let mut members = Vec::new();
        for cpu in 0..12 {
            if contains(list.as_bytes(), cpu)? {
                members.push(cpu);
            }
        }
        Some(members)
    }

    #[test]
    fn has_single_processors_and_both_ends_of_ranges() {
        assert_eq!(members("0-3,5,7-9\n").unwrap(), [0, 1, 2, 3, 5, 7, 8, 9]);
        assert_eq!(members("11\n").unwrap(), [11]);
        assert_eq!(members("0").unwrap(), [0]);
        assert_eq!(members("\n").unwrap(), []);
        assert_eq!(members("").unwrap(), []);
        assert_eq!(contains(b"0-8191\n", 8191), Some(true));
        assert_eq!(contains(b"0-8191\n", 8192), Some(false));
    }

    #[test]
    fn rejects_what_is_no_list() {
        for list in ["x", "0-x", "-3", "0,,2", "1 2", "ffffffff,00000003"] {
            assert_eq!(members(list), None, "{list}");
        }
    }

    #[test]
    fn survives_damaged_lists() {
        torture(b"0-3,5,7-9\n", |bytes| {
            contains(bytes, 5);
        });
    }
}
