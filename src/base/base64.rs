//! Base64 as qemu-ga reads and writes it.
//!
//! Written: the standard alphabet, padded, no line breaks. Read: leniently, as GLib does. Anything but
//! the alphabet, `=` and LF is refused wherever it stands; characters are then taken in groups of
//! four, an incomplete last group is dropped, and `=` counts as a zero; as third or fourth character
//! of its group, also in the middle of the text, it takes away the second or third byte.

use super::store::{Full, Store};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Why something is not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It holds a character that does not belong.
    Invalid,
    /// There is no room for it.
    Full,
}

/// Appends what `text` stands for to `out`.
pub fn decode(text: impl Iterator<Item = u8>, out: &mut dyn Store) -> Result<(), Fault> {
    let (mut group, mut len, mut last) = (0u32, 0, [0; 2]);
    for byte in text {
        let sextet = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => 0,
            b'\n' => continue,
            _ => return Err(Fault::Invalid),
        };
        group = group << 6 | u32::from(sextet);
        last = [last[1], byte];
        len += 1;
        if len == 4 {
            let [_, first, second, third] = group.to_be_bytes();
            let bytes: &[u8] = match last.map(|byte| byte == b'=') {
                [false, false] => &[first, second, third],
                [false, true] => &[first, second],
                [true, false] => &[first, third],
                [true, true] => &[first],
            };
            out.append(bytes).map_err(|Full| Fault::Full)?;
            (group, len) = (0, 0);
        }
    }
    Ok(())
}

/// Appends `bytes` as text to `out`. What is written in pieces must be cut at multiples of three.
pub fn encode(bytes: &[u8], out: &mut dyn Store) -> Result<(), Full> {
    for chunk in bytes.chunks(3) {
        let at = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
        let group = at(0) << 16 | at(1) << 8 | at(2);
        let mut text = *b"====";
        for (place, byte) in text.iter_mut().enumerate().take(chunk.len() + 1) {
            *byte = ALPHABET[(group >> (18 - 6 * place)) as usize & 63];
        }
        out.append(&text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Result<Vec<u8>, Fault> {
        let mut out = heapless::Vec::<u8, 256>::new();
        decode(text.bytes(), &mut out).map(|()| out.to_vec())
    }

    #[test]
    fn what_is_written_is_read() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"\xFF\xFE\xFD\x00", "//79AA=="),
        ] {
            let mut out = heapless::Vec::<u8, 16>::new();
            encode(bytes, &mut out).unwrap();
            assert_eq!(out, text.as_bytes());
            assert_eq!(decoded(text).unwrap(), bytes);
        }
    }

    #[test]
    fn sloppy_text_is_read_as_qemu_ga_reads_it() {
        assert_eq!(decoded("aGVsbG8").unwrap(), b"hel");
        assert_eq!(decoded("aGVsbG8=aGVsbG8=").unwrap(), b"hellohello");
        assert_eq!(decoded("aGVsbG8=====").unwrap(), b"hello\0");
        assert_eq!(decoded("aGVs\nbG8=").unwrap(), b"hello");
        assert_eq!(decoded("a=VsaG=s").unwrap(), b"h\x05\x6ch\x2c");
        for wrong in ["aGVs bG8=", "aGVs\r\n", "-_==", "a\0"] {
            assert_eq!(decoded(wrong), Err(Fault::Invalid));
        }
        let mut out = heapless::Vec::<u8, 4>::new();
        assert_eq!(decode("aGVsbG8=".bytes(), &mut out), Err(Fault::Full));
    }
}
