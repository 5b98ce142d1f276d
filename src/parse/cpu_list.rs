//! Lists of CPU numbers, as Documentation/admin-guide/cputopology.rst describes them: `0-3,5,7-9`.
//!
//! Numbers are decimal, ranges include both ends. An empty list is a line feed alone.

use crate::base::text::{cut, parse_u64};

/// Whether a list contains this CPU; `None` if it is not a valid list.
pub fn contains(list: &[u8], cpu: u64) -> Option<bool> {
    let mut rest = list.trim_ascii();
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

    /// Returns the CPUs below 12 in a list.
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
    fn contains_single_numbers_and_both_ends_of_ranges() {
        assert_eq!(members("0-3,5,7-9\n").unwrap(), [0, 1, 2, 3, 5, 7, 8, 9]);
        assert_eq!(members("11\n").unwrap(), [11]);
        assert_eq!(members("0").unwrap(), [0]);
        assert_eq!(members("\n").unwrap(), []);
        assert_eq!(members("").unwrap(), []);
        assert_eq!(contains(b"0-8191\n", 8191), Some(true));
        assert_eq!(contains(b"0-8191\n", 8192), Some(false));
    }

    #[test]
    fn rejects_invalid_lists() {
        for list in ["x", "0-x", "-3", "0,,2", "1 2", "ffffffff,00000003"] {
            assert_eq!(members(list), None, "{list}");
        }
    }

    #[test]
    fn no_input_panics() {
        torture(b"0-3,5,7-9\n", |bytes| {
            contains(bytes, 5);
        });
    }
}
