//! os-release files, as os-release(5) describes them: `KEY=value` lines with shell-like quoting.
//!
//! QuotedValues are read as qemu-ga does: between double quotes, a backslash before `$`, `'`, `"`, `\` or a
//! backquote is removed, any other is kept; without quotes, the value ends at the first blank or `;`.
//! `export X=y` sets the key `export X`.
//!
//! Differences from qemu-ga: single quotes work; a value without its closing quote ends with the line; a
//! line that is neither comment nor assignment, or is not UTF-8, is skipped and does not spoil the file.

use crate::base::text::cut;

/// Returns the value of `key`; the last one, if several lines set it.
pub fn value<'a>(file: &'a [u8], key: &[u8]) -> Option<QuotedValue<'a>> {
    let mut last = None;
    let mut rest = file;
    while !rest.is_empty() {
        let mut text = cut(&mut rest, b'\n');
        let len = text.len();
        let other = cut(&mut text, b'=');
        // A line without `=` is no assignment.
        if other.len() < len && other.trim_ascii() == key {
            last = Some(QuotedValue { text });
        }
    }
    last
}

/// A value with its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotedValue<'a> {
    text: &'a [u8],
}

impl<'a> QuotedValue<'a> {
    /// Iterates over the bytes of the value, quotes and backslashes removed.
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

/// The iterator that [`QuotedValue::bytes`] returns.
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
    fn reads_the_file_of_a_distribution() {
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
    fn quotes_are_removed_as_a_shell_does() {
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
    fn every_quoted_character_is_decoded() {
        let plain = "a$b'c\"d\\e`f g;h #=\t";
        let quoted: String = plain
            .chars()
            .flat_map(|c| "$'\"\\`".contains(c).then_some('\\').into_iter().chain([c]))
            .collect();
        assert_eq!(decoded(&format!("\"{quoted}\"")), plain);
    }

    #[test]
    fn invalid_lines_do_not_hide_others() {
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
    fn no_input_panics() {
        torture(DEBIAN, |bytes| {
            for key in [&b"ID"[..], b"NAME", b"VERSION", b""] {
                let value = value(bytes, key);
                assert!(value.is_none_or(|value| value.bytes().count() <= value.text.len()));
            }
        });
    }
}
