//! os-release files, as os-release(5) describes them: `KEY=value` lines with shell-like quoting.
//!
//! Value rules are qemu-ga's: between double quotes, a backslash is taken off before `$ ' " \` and
//! the backquote and otherwise kept; without quotes, the value ends at the first blank or `;`.
//!
//! Differences from qemu-ga: single quotes are understood; a value that lacks its closing quote is
//! what is there; a line that is neither comment nor assignment is passed over and hides nothing,
//! nor does text that is not UTF-8.
//! `export X=y` sets the key `export X`, as there.

use crate::base::text::cut;

/// The value of `key`; of several, the last. A key that is empty or begins with `#` is nobody's.
#[inline(never)]
pub fn value<'a>(file: &'a [u8], key: &[u8]) -> Option<Value<'a>> {
    let mut last = None;
    let mut rest = file;
    while !rest.is_empty() {
        let mut text = cut(&mut rest, b'\n');
        let len = text.len();
        let other = cut(&mut text, b'=');
        // Without the sign there is no value, not even an empty one.
        if other.len() < len && other.trim_ascii() == key {
            last = Some(Value { text });
        }
    }
    last
}

/// A value, still quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    text: &'a [u8],
}

impl<'a> Value<'a> {
    /// The value without its quoting.
    pub fn bytes(self) -> Bytes<'a> {
        match self.text.trim_ascii() {
            [quote @ (b'"' | b'\''), rest @ ..] => Bytes {
                rest,
                quote: Some(*quote),
            },
            rest => Bytes { rest, quote: None },
        }
    }
}

/// The iterator of [`Value::bytes`].
#[derive(Clone, Debug)]
pub struct Bytes<'a> {
    rest: &'a [u8],
    quote: Option<u8>,
}

impl Iterator for Bytes<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = match (self.quote, self.rest) {
            (
                Some(b'"'),
                [
                    b'\\',
                    byte @ (b'$' | b'\'' | b'"' | b'\\' | b'`'),
                    rest @ ..,
                ],
            ) => (*byte, rest),
            (Some(quote), [byte, ..]) if *byte == quote => return None,
            (None, [b' ' | b'\t' | b';', ..]) => return None,
            (_, [byte, rest @ ..]) => (*byte, rest),
            (_, []) => return None,
        };
        self.rest = rest;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    const DEBIAN: &[u8] =
        b"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\n\
VERSION_ID=\"12\"\nVERSION=\"12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n\
HOME_URL=\"https://www.debian.org/\"\n";

    fn text(file: &[u8], key: &str) -> Option<String> {
        let bytes = value(file, key.as_bytes())?.bytes().collect();
        Some(String::from_utf8(bytes).unwrap())
    }

    fn decoded(text: &str) -> String {
        self::text(format!("X={text}\n").as_bytes(), "X").unwrap()
    }

    #[test]
    fn a_distribution_s_file_is_read() {
        assert_eq!(
            text(DEBIAN, "PRETTY_NAME").unwrap(),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(text(DEBIAN, "ID").unwrap(), "debian");
        assert_eq!(text(DEBIAN, "VERSION_ID").unwrap(), "12");
        assert_eq!(text(DEBIAN, "VARIANT"), None);
        for line in super::super::lines(DEBIAN).filter(|line| !line.is_empty()) {
            let key = line.split(|byte| *byte == b'=').next().unwrap();
            assert!(value(DEBIAN, key).is_some(), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn quoting_is_undone_as_the_shell_does() {
        for (quoted, plain) in [
            ("", ""),
            ("\"\"", ""),
            ("''", ""),
            ("plain", "plain"),
            ("cut here", "cut"),
            ("cut;here", "cut"),
            (
                "\"a \\\"b\\\" \\$c \\\\ \\` \\' \\n\"",
                "a \"b\" $c \\ ` ' \\n",
            ),
            ("\"ends\" not this", "ends"),
            ("'Foo Bar'", "Foo Bar"),
            ("'a\\b\"c'", "a\\b\"c"),
            ("\"abc", "abc"),
            ("'abc", "abc"),
            ("\"abc\\", "abc\\"),
            ("a\\ b", "a\\"),
            ("crlf\r", "crlf"),
        ] {
            assert_eq!(decoded(quoted), plain, "{quoted}");
        }
    }

    #[test]
    fn quoting_round_trips() {
        let plain = "a$b'c\"d\\e`f g;h #=\t";
        let quoted: String = plain
            .chars()
            .flat_map(|c| "$'\"\\`".contains(c).then_some('\\').into_iter().chain([c]))
            .collect();
        assert_eq!(decoded(&format!("\"{quoted}\"")), plain);
    }

    #[test]
    fn odd_lines_hide_nothing() {
        let file =
            b"# NAME=no\n\nnonsense\n[group]\n=x\nexport ID=no\n \xff\n  ID = first\nID=last";
        assert_eq!(text(file, "ID").unwrap(), "last");
        assert_eq!(text(file, "export ID").unwrap(), "no");
        assert_eq!(text(file, "NAME"), None);
        for key in [
            "nonsense", "[group]", "x", "no", "\u{FFFD}", "  ID ", "first",
        ] {
            assert_eq!(text(file, key), None, "{key}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        torture(DEBIAN, |bytes| {
            for key in [&b"ID"[..], b"NAME", b"VERSION", b""] {
                let value = value(bytes, key);
                assert!(value.is_none_or(|value| value.bytes().count() <= value.text.len()));
            }
        });
    }
}
