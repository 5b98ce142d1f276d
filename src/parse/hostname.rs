//! /etc/hostname, as hostname(5) describes it: the first line that is neither blank nor a comment.
//!
//! Of that line systemd's rules keep what may be in a host name: letters, digits, `-`, `_`, and dots
//! between other characters, at most as many as the kernel takes.

/// The longest name that the kernel takes: `__NEW_UTS_LEN` of linux/utsname.h.
const NAME_BYTES: usize = 64;

/// A host name.
pub type Name = heapless::Vec<u8, NAME_BYTES>;

/// The name on a line of the file, which may turn out empty; `None` for a blank line and a comment.
pub fn parse(line: &[u8]) -> Option<Name> {
    let line = line.trim_ascii();
    if matches!(line, [] | [b'#', ..]) {
        return None;
    }
    let mut name = Name::new();
    for byte in line {
        let may_follow = match byte {
            b'.' => name.last().is_some_and(|last| *last != b'.'),
            byte => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
        };
        if may_follow && name.push(*byte).is_err() {
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
    fn a_name_is_what_may_be_in_one() {
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
    fn no_bytes_make_it_panic() {
        torture(b"  some.host-name.example ", |bytes| {
            let name = parse(bytes).unwrap_or_default();
            assert!(name.len() <= NAME_BYTES && name.last() != Some(&b'.'));
        });
    }
}
