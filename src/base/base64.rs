//! Base64 as qemu-ga reads and writes it.
//!
//! Output has the standard alphabet and padding, without line breaks. Input is read as leniently as
//! in GLib: only characters of the alphabet, `=` and line feeds are allowed, line feeds are
//! ignored, and an incomplete last group of four characters is dropped. A `=` counts as zero bits,
//! anywhere in the text; as third or fourth character of its group it drops the second or third
//! byte.

use core::cell::Cell;
use core::sync::atomic::{AtomicU16, Ordering};

use super::sink::{ByteSink, Full};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Why a text cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It contains an invalid character.
    Invalid,
    /// The store is full.
    Full,
}

/// Replaces a text by the bytes it encodes, which are fewer. Returns how many they are; `None` if
/// the text contains an invalid character.
pub fn decode_in_place(text: &mut [u8]) -> Option<usize> {
    let mut table = [0xFFu8; 256];
    for (sextet, byte) in (0..).zip(ALPHABET) {
        table[usize::from(*byte)] = sextet;
    }
    // Most texts are whole groups of four characters of the alphabet: a group is decoded in one step.
    let cells = Cell::from_mut(&mut *text).as_slice_of_cells();
    let (groups, bytes) = (cells.as_chunks::<4>().0, cells.as_chunks::<3>().0);
    let mut whole = 0;
    for ([a, b, c, d], [first, second, third]) in groups.iter().zip(bytes) {
        let sextet = |byte: &Cell<u8>| u32::from(table[usize::from(byte.get())]);
        let (a, b, c, d) = (sextet(a), sextet(b), sextet(c), sextet(d));
        if a | b | c | d > 63 {
            break;
        }
        let group = a << 18 | b << 12 | c << 6 | d;
        first.set((group >> 16) as u8);
        second.set((group >> 8) as u8);
        third.set(group as u8);
        whole += 1;
    }
    let (mut from, mut to) = (whole * 4, whole * 3);
    // The current group: its bits, its characters so far, and a bit for each of them that is a `=`.
    let (mut group, mut len, mut padding) = (0u32, 0, 0);
    while let Some(byte) = text.get(from) {
        from += 1;
        let mut sextet = table[usize::from(*byte)];
        if sextet > 63 {
            match byte {
                b'\n' => continue,
                b'=' => padding |= 1 << len,
                _ => return None,
            }
            sextet = 0;
        }
        group = group << 6 | u32::from(sextet);
        len += 1;
        if len == 4 {
            let [_, first, second, third] = group.to_be_bytes();
            let mut put = |byte| {
                if let Some(slot) = text.get_mut(to) {
                    *slot = byte;
                }
                to += 1;
            };
            put(first);
            if padding & 4 == 0 {
                put(second);
            }
            if padding & 8 == 0 {
                put(third);
            }
            (group, len, padding) = (0, 0, 0);
        }
    }
    Some(to)
}

/// Appends `bytes` to `out` as base64. A caller that encodes in pieces must split at multiples of
/// three bytes.
pub fn encode(bytes: &[u8], out: &mut dyn ByteSink) -> Result<(), Full> {
    let mut room = [0; 256];
    for chunk in bytes.chunks(192) {
        for (to, byte) in room.iter_mut().skip(64).zip(chunk) {
            *to = *byte;
        }
        let len = encode_in_place(&mut room, 64, chunk.len());
        out.append(room.get(..len).unwrap_or_default())?;
    }
    Ok(())
}

/// Returns the length of the base64 text of `len` bytes.
pub const fn encoded_len(len: usize) -> usize {
    len.div_ceil(3).saturating_mul(4)
}

/// Encodes `len` bytes of `room`, from offset `from` on, into base64 at its beginning. Returns the
/// length of the text. The rest of `room` is undefined.
///
/// `from` must be at least a quarter of the length of `room`: then the text never overwrites bytes
/// that are not encoded yet.
pub fn encode_in_place(room: &mut [u8], from: usize, len: usize) -> usize {
    if PAIRS[PAIRS.len() - 1].load(Ordering::Relaxed) == 0 {
        for (pair, bits) in PAIRS.iter().zip(0..) {
            let character = |bits: usize| ALPHABET.get(bits & 63).copied().unwrap_or_default();
            let characters = u16::from_le_bytes([character(bits >> 6), character(bits)]);
            pair.store(characters, Ordering::Relaxed);
        }
    }
    let room = Cell::from_mut(room).as_slice_of_cells();
    let bytes = room.get(from..).and_then(|bytes| bytes.get(..len));
    let (groups, rest) = bytes.unwrap_or_default().as_chunks::<3>();
    let (texts, _) = room.as_chunks::<4>();
    for ([first, second, third], text) in groups.iter().zip(texts) {
        put(text, [0, first.get(), second.get(), third.get()]);
    }
    // One or two bytes are left for the last group.
    if let Some(first) = rest.first()
        && let Some(text) = texts.get(groups.len())
    {
        put(text, [0, first.get(), rest.get(1).map_or(0, Cell::get), 0]);
        text[3].set(b'=');
        if rest.len() == 1 {
            text[2].set(b'=');
        }
    }
    (groups.len() + usize::from(!rest.is_empty())) * 4
}

/// Writes the four characters of a group, whose three bytes follow a zero.
// In line, in spite of the low inlining threshold of the release build: it runs for every three
// bytes.
#[inline(always)]
fn put(text: &[Cell<u8>; 4], group: [u8; 4]) {
    let group = u32::from_be_bytes(group) as usize;
    let [first, second] = [group >> 12 & 4095, group & 4095];
    let pair = |bits: usize| u32::from(PAIRS[bits].load(Ordering::Relaxed));
    let [a, b, c, d] = (pair(second) << 16 | pair(first)).to_le_bytes();
    let [to_a, to_b, to_c, to_d] = text;
    to_a.set(a);
    to_b.set(b);
    to_c.set(c);
    to_d.set(d);
}

/// The two characters for each value of twelve bits, the first in the low byte. All zero until the
/// first use. Twice as fast as one character at a time.
static PAIRS: [AtomicU16; 4096] = [const { AtomicU16::new(0) }; 4096];

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &[u8], out: &mut dyn ByteSink) -> Result<(), DecodeError> {
        let start = out.bytes().len();
        out.append(text).map_err(|_| DecodeError::Full)?;
        let len = decode_in_place(&mut out.bytes_mut()[start..]).ok_or(DecodeError::Invalid)?;
        out.truncate(start + len);
        Ok(())
    }

    fn decoded(text: &str) -> Result<Vec<u8>, DecodeError> {
        let mut out = heapless::Vec::<u8, 512>::new();
        decode(text.as_bytes(), &mut out).map(|()| out.to_vec())
    }

    #[test]
    fn encoded_bytes_decode_to_themselves() {
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
    fn encodes_in_place_with_a_quarter_of_the_room_before_the_bytes() {
        for len in (0..200usize).step_by(if cfg!(miri) { 29 } else { 1 }) {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 37 + len) as u8).collect();
            let mut room = vec![0xAA; encoded_len(len)];
            let from = room.len() / 4;
            room[from..from + len].copy_from_slice(&bytes);
            let text_len = encode_in_place(&mut room, from, len);
            assert_eq!(text_len, encoded_len(len));
            let mut out = heapless::Vec::<u8, 512>::new();
            decode(&room, &mut out).unwrap();
            assert_eq!(out, *bytes);
        }
    }

    #[test]
    fn a_text_decodes_alike_wherever_its_lines_end() {
        let bytes: Vec<u8> = (0..96u8).map(|byte| byte.wrapping_mul(37)).collect();
        let mut text = heapless::Vec::<u8, 128>::new();
        encode(&bytes, &mut text).unwrap();
        let text = std::str::from_utf8(&text).unwrap();
        for at in 0..=text.len() {
            let (before, behind) = text.split_at(at);
            assert_eq!(decoded(&format!("{before}\n{behind}")).unwrap(), bytes);
            assert_eq!(
                decoded(&format!("{before}*{behind}")),
                Err(DecodeError::Invalid)
            );
        }
    }

    #[test]
    fn invalid_padding_is_decoded_as_in_qemu_ga() {
        assert_eq!(decoded("aGVsbG8").unwrap(), b"hel");
        assert_eq!(decoded("aGVsbG8=aGVsbG8=").unwrap(), b"hellohello");
        assert_eq!(decoded("aGVsbG8=====").unwrap(), b"hello\0");
        assert_eq!(decoded("aGVs\nbG8=").unwrap(), b"hello");
        assert_eq!(decoded("a=VsaG=s").unwrap(), b"h\x05\x6ch\x2c");
        for wrong in ["aGVs bG8=", "aGVs\r\n", "-_==", "a\0"] {
            assert_eq!(decoded(wrong), Err(DecodeError::Invalid));
        }
        let mut out = heapless::Vec::<u8, 4>::new();
        assert_eq!(decode(b"aGVsbG8=", &mut out), Err(DecodeError::Full));
    }
}
