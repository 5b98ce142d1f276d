//! The configuration file: a key file as GLib reads it, of which the group `general` counts.
//!
//! Groups stand in brackets, keys before `=`, comments behind `#` at the beginning of a line. Blanks
//! before a line, around a key and before a value do not count; those behind a value do. Of several
//! values of a key the last counts, in all groups of one name together. `key[de]`, a translation, is
//! another key. A line that is none of these is an error, whatever its group, and so is a key before
//! the first group.
//!
//! Differences from GLib: a byte 0 is an error, where GLib drops the rest of the line; values need not
//! be UTF-8, which callers check; `Encoding` is a key like any other.

use core::slice;

use super::{split_once, word_index};
use crate::base::sink::{ByteSink, Full};
use crate::base::text::cut;

/// The group that counts.
const GROUP: &[u8] = b"general";

/// Returns the value of `key`, as it is in the file; `None` if it has none.
///
/// # Errors
/// The first line that is not valid.
pub fn value<'a>(file: &'a [u8], key: &[u8]) -> Result<Option<&'a [u8]>, &'a [u8]> {
    // Whether the group counts; none before the first.
    let mut counts = None;
    let (mut rest, mut value) = (file, None);
    while !rest.is_empty() {
        let line = cut(&mut rest, b'\n');
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = line.trim_ascii_start();
        if matches!(text, [] | [b'#', ..]) {
            continue;
        }
        if let Some(name) = group_name(text) {
            counts = Some(name == GROUP);
        } else if let (Some(counts), Some(entry)) = (counts, entry(text)) {
            if counts && entry.0 == key {
                value = Some(entry.1);
            }
        } else {
            return Err(line);
        }
    }
    Ok(value)
}

/// The name in a line that begins a group.
fn group_name(line: &[u8]) -> Option<&[u8]> {
    let name = line
        .trim_ascii_end()
        .strip_prefix(b"[")?
        .strip_suffix(b"]")?;
    let is_name = |byte: &u8| !byte.is_ascii_control() && !matches!(byte, b'[' | b']');
    (!name.is_empty() && name.iter().all(is_name)).then_some(name)
}

/// The key and the value of a line.
fn entry(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, value) = split_once(line, b'=')?;
    let key = key.trim_ascii_end();
    let mut locale = key;
    let name = cut(&mut locale, b'[');
    let is_in_locale =
        |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"-_.@".contains(byte);
    let is_valid = !line.contains(&0)
        && !matches!(name, [] | [.., b' ' | b'\t'])
        && !name.contains(&b']')
        && (name.len() == key.len() || locale.strip_suffix(b"]")?.iter().all(is_in_locale));
    is_valid.then_some((key, value.trim_ascii_start()))
}

/// Returns the word for a truth value: `true` for that and `1`, `false` for that and `0`.
pub fn truth(value: &[u8]) -> Option<&'static [u8]> {
    let words: [&[u8]; 2] = [b"true", b"false"];
    let index = word_index(b"true false 1 0", value.trim_ascii_end())?;
    words.get(index & 1).copied()
}

/// The bytes that have an escape, each with the letter behind the backslash.
const ESCAPES: [[u8; 2]; 5] = [*b" s", *b"\tt", *b"\nn", *b"\rr", *b"\\\\"];

/// Appends a value with its escapes decoded. `None`: an escape is not valid, or there is no room.
pub fn unescape(value: &[u8], text: &mut dyn ByteSink) -> Option<()> {
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'\\' => {
                let letter = bytes.next()?;
                let [byte, _] = ESCAPES.iter().find(|[_, other]| other == letter)?;
                byte
            }
            byte => byte,
        };
        text.append(slice::from_ref(byte)).ok()?;
    }
    Some(())
}

/// Appends a text as a value. Blanks have an escape at its beginning only, where they would be lost.
pub fn escape(text: &[u8], value: &mut dyn ByteSink) -> Result<(), Full> {
    let mut begins = true;
    for byte in text {
        begins &= byte.is_ascii_whitespace();
        let mut escapes = ESCAPES.iter().filter(|[plain, _]| plain == byte);
        match escapes.next() {
            Some([_, letter]) if begins || !matches!(byte, b' ' | b'\t') => {
                value.append(&[b'\\', *letter])?;
            }
            _ => value.append(slice::from_ref(byte))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sink::testing::Heap;
    use crate::parse::testing::torture;

    const SAMPLE: &[u8] =
        b"# qemu-ga\n\n [general] \r\ndaemon = 0\npath[de]=x\n[other]\npath=\\s/y\n\
                            [general]\n\tpath =  /x=1 \n;z=\nblock-rpcs=guest-exec";

    #[test]
    fn the_last_value_in_all_groups_of_the_name_counts() {
        for (key, expected) in [
            (&b"daemon"[..], Some(&b"0"[..])),
            (b"path", Some(b"/x=1 ")),
            (b"path[de]", Some(b"x")),
            (b"block-rpcs", Some(b"guest-exec")),
            (b";z", Some(b"")),
            (b"Path", None),
            (b"# qemu-ga", None),
        ] {
            assert_eq!(value(SAMPLE, key), Ok(expected), "{}", key.escape_ascii());
        }
        let file = b"[general]\npath=a\r\npath=b\r\n[general2]\npath=c";
        assert_eq!(value(file, b"path"), Ok(Some(&b"b"[..])));
        assert_eq!(value(b"", b"path"), Ok(None));
    }

    #[test]
    fn a_line_that_is_not_valid_is_an_error_in_any_group() {
        for line in [
            "path",
            "=x",
            "  =x",
            "; comment",
            "[other",
            "[]",
            "[a]b]",
            "[a[b]",
            "[a\tb]",
            "[general] # comment",
            "[path]=x",
            "path[de=x",
            "path]de[=x",
            "path[d e]=x",
            "path [de]=x",
            "path[de]x=x",
            "path=a\0b",
            "pa\0th=a",
        ] {
            for before in [SAMPLE, b"[other]"] {
                let file = [before, b"\n", line.as_bytes(), b"\npath=x"].concat();
                assert_eq!(value(&file, b"path"), Err(line.as_bytes()), "{line}");
            }
        }
        assert_eq!(value(b"path=x\n[general]", b"path"), Err(&b"path=x"[..]));
        for line in [
            "path[]=x", "a b=x", "aä=x", "[ a b ]", "[ä]", "p!=\\q", "\t # x",
        ] {
            let file = ["[general]\n", line].concat();
            assert_eq!(value(file.as_bytes(), b"path"), Ok(None), "{line}");
        }
    }

    #[test]
    fn truth_values_have_four_words() {
        for (word, expected) in [
            ("true", Some("true")),
            ("1 \t", Some("true")),
            ("false", Some("false")),
            ("0", Some("false")),
            ("", None),
            ("TRUE", None),
            ("yes", None),
            ("01", None),
            ("1 # x", None),
            ("1\x0b", None),
        ] {
            assert_eq!(
                truth(word.as_bytes()),
                expected.map(str::as_bytes),
                "{word}"
            );
        }
    }

    #[test]
    fn escapes_are_those_of_key_files() {
        let text = |value: &[u8]| {
            let mut text = Heap::default();
            unescape(value, &mut text).map(|()| text.0)
        };
        assert_eq!(text(b"\\s\\n\\t\\r\\\\s "), Some(b" \n\t\r\\s ".to_vec()));
        for value in ["\\", "a\\", "\\;", "\\q", "\\S"] {
            assert_eq!(text(value.as_bytes()), None, "{value}");
        }
        assert_eq!(unescape(b"ab", &mut heapless::Vec::<u8, 1>::new()), None);
    }

    #[test]
    fn no_input_panics() {
        torture(SAMPLE, |bytes| {
            if let Ok(Some(value)) = value(bytes, b"path") {
                unescape(value, &mut Heap::default());
                truth(value);
            }
        });
    }
}
