//! /etc/hostname, as hostname(5) describes it: the first line that is neither blank nor a comment.
//!
//! As in systemd, only valid characters of that line are kept: letters, digits, `-`, `_`, and single
//! dots between other characters. A longer name is cut to the kernel's limit.

/// The longest host name of the kernel: `__NEW_UTS_LEN`, linux/utsname.h.
const NAME_BYTES: usize = 64;

/// A host name.
pub type HostName = heapless::Vec<u8, NAME_BYTES>;

/// Returns the name on a line, which is empty if the line has no valid character; `None` for a blank
/// line and a comment.
pub fn parse(line: &[u8]) -> Option<HostName> {
    let line = line.trim_ascii();
    if matches!(line, [] | [b'#', ..]) {
        return None;
    }
    let mut name = HostName::new();
    for byte in line {
        let is_valid = match byte {
            b'.' => name.last().is_some_and(|last| *last != b'.'),
            byte => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
        };
        if is_valid && name.push(*byte).is_err() {
            break;
        }
    }
    if name.last() == Some(&b'.') {
        name.pop();
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    #[test]
    fn keeps_only_characters_that_are_valid_in_a_host_name() {
        let long = [b'x'; 70];
        for (line, name) in [
            (&b"  guest-1 \t\r"[..], &b"guest-1"[..]),
            (b"a.b_c.example", b"a.b_c.example"),
            (b".a..b.", b"a.b"),
            (b"two words", b"twowords"),
            ("gr\u{fc}n".as_bytes(), b"grn"),
            (&long, &long[..64]),
            (b"...", b""),
        ] {
            assert_eq!(parse(line).unwrap(), name, "{}", line.escape_ascii());
        }
        for line in [&b""[..], b" \t", b"# name", b"  #name"] {
            assert_eq!(parse(line), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn no_input_panics() {
        torture(b"  some.host-name.example ", |bytes| {
            let name = parse(bytes).unwrap_or_default();
            assert!(name.len() <= NAME_BYTES && name.last() != Some(&b'.'));
        });
    }
}
