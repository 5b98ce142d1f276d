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

/// Replaces a text by what it stands for, which is shorter; gives its length, unless it holds a
/// character that does not belong.
pub fn decode_within(text: &mut [u8]) -> Option<usize> {
    let mut table = [0xFFu8; 256];
    for (sextet, byte) in (0..).zip(ALPHABET) {
        table[usize::from(*byte)] = sextet;
    }
    let (mut from, mut to) = (0, 0);
    let (mut group, mut len, mut gone) = (0u32, 0, 0);
    while let Some(byte) = text.get(from) {
        from += 1;
        let mut sextet = table[usize::from(*byte)];
        if sextet > 63 {
            match byte {
                b'\n' => continue,
                b'=' => gone |= 1 << len,
                _ => return None,
            }
            sextet = 0;
        }
        group = group << 6 | u32::from(sextet);
        len += 1;
        if len == 4 {
            // The third and the fourth character take away the second and the third byte.
            for shift in [16, 8, 0] {
                if gone & 4 != 0 && shift == 8 || gone & 8 != 0 && shift == 0 {
                    continue;
                }
                if let Some(place) = text.get_mut(to) {
                    *place = (group >> shift) as u8;
                }
                to += 1;
            }
            (group, len, gone) = (0, 0, 0);
        }
    }
    Some(to)
}

/// Appends `bytes` as text to `out`. What is written in pieces must be cut at multiples of three.
pub fn encode(bytes: &[u8], out: &mut dyn Store) -> Result<(), Full> {
    let mut room = [0; 256];
    for chunk in bytes.chunks(192) {
        for (to, byte) in room.iter_mut().skip(64).zip(chunk) {
            *to = *byte;
        }
        let len = encode_within(&mut room, 64, chunk.len());
        out.append(room.get(..len).unwrap_or_default())?;
    }
    Ok(())
}

/// Bytes of the text of `len` bytes.
pub const fn encoded_len(len: usize) -> usize {
    len.div_ceil(3).saturating_mul(4)
}

/// Replaces the `len` bytes that stand in `room` at `from` by their text, which begins at 0; gives
/// its length. `from` is a quarter of the `room`, or more.
pub fn encode_within(room: &mut [u8], from: usize, len: usize) -> usize {
    let (mut input, mut left, mut output) = (from, len, 0);
    while left != 0 {
        let Some(&[first, second, third]) = room.get(input..).and_then(<[u8]>::first_chunk) else {
            break;
        };
        let mut group = u32::from_be_bytes([0, first, second, third]);
        // The last group may be short; then what stands behind it is none of it.
        if left < 3 {
            group &= if left == 1 { 0xFF_0000 } else { 0xFF_FF00 };
        }
        let mut text = [18, 12, 6, 0].map(|shift| ALPHABET[(group >> shift) as usize & 63]);
        if left < 3 {
            text[3] = b'=';
            if left == 1 {
                text[2] = b'=';
            }
        }
        let Some(to) = room.get_mut(output..).and_then(<[u8]>::first_chunk_mut) else {
            break;
        };
        *to = text;
        (input, output, left) = (input + 3, output + 4, left.saturating_sub(3));
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &[u8], out: &mut dyn Store) -> Result<(), Fault> {
        let start = out.bytes().len();
        out.append(text).map_err(|_| Fault::Full)?;
        let len = decode_within(&mut out.bytes_mut()[start..]).ok_or(Fault::Invalid)?;
        out.truncate(start + len);
        Ok(())
    }

    fn decoded(text: &str) -> Result<Vec<u8>, Fault> {
        let mut out = heapless::Vec::<u8, 256>::new();
        decode(text.as_bytes(), &mut out).map(|()| out.to_vec())
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
    fn a_text_may_stand_where_its_bytes_stood() {
        for len in 0..200usize {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 37 + len) as u8).collect();
            let mut room = vec![0xAA; encoded_len(len)];
            let from = room.len() / 4;
            room[from..from + len].copy_from_slice(&bytes);
            let text_len = encode_within(&mut room, from, len);
            assert_eq!(text_len, encoded_len(len));
            let mut out = heapless::Vec::<u8, 256>::new();
            decode(&room, &mut out).unwrap();
            assert_eq!(out, *bytes);
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
        assert_eq!(decode(b"aGVsbG8=", &mut out), Err(Fault::Full));
    }
}
