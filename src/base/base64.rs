//! Base64 as qemu-ga reads and writes it.
//!
//! Written: the standard alphabet, padded, no line breaks. Read: leniently, as GLib does. Anything but
//! the alphabet, `=` and LF is refused wherever it stands; characters are then taken in groups of
//! four, an incomplete last group is dropped, and `=` counts as a zero; as third or fourth character
//! of its group, also in the middle of the text, it takes away the second or third byte.

use core::cell::Cell;
use core::sync::atomic::{AtomicU16, Ordering};

use super::store::{Full, Store};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Why something is not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It holds a character that does not belong.
    Invalid,
    /// There is no room for it.
    Full,
}

/// Replaces a text by what it stands for, which is shorter; gives its length, unless it holds a
/// character that does not belong.
pub fn decode_in_place(text: &mut [u8]) -> Option<usize> {
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
            let [_, first, second, third] = group.to_be_bytes();
            let mut put = |byte| {
                if let Some(place) = text.get_mut(to) {
                    *place = byte;
                }
                to += 1;
            };
            put(first);
            // The third and the fourth character take away the second and the third byte.
            if gone & 4 == 0 {
                put(second);
            }
            if gone & 8 == 0 {
                put(third);
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
        let len = encode_in_place(&mut room, 64, chunk.len());
        out.append(room.get(..len).unwrap_or_default())?;
    }
    Ok(())
}

/// Bytes of the text of `len` bytes.
pub const fn encoded_len(len: usize) -> usize {
    len.div_ceil(3).saturating_mul(4)
}

/// Replaces the `len` bytes that stand in `room` at `from` by their text, which begins at 0; gives
/// its length. `from` is a quarter of the `room`, or more; behind the text, `room` is anything.
pub fn encode_in_place(room: &mut [u8], from: usize, len: usize) -> usize {
    if PAIRS[PAIRS.len() - 1].load(Ordering::Relaxed) == 0 {
        for (pair, place) in PAIRS.iter().zip(0..) {
            let letter = |sextet: usize| ALPHABET.get(sextet & 63).copied().unwrap_or_default();
            let letters = u16::from_le_bytes([letter(place >> 6), letter(place)]);
            pair.store(letters, Ordering::Relaxed);
        }
    }
    let room = Cell::from_mut(room).as_slice_of_cells();
    let bytes = room.get(from..).and_then(|bytes| bytes.get(..len));
    let (groups, rest) = bytes.unwrap_or_default().as_chunks::<3>();
    let (places, _) = room.as_chunks::<4>();
    for ([first, second, third], place) in groups.iter().zip(places) {
        put(place, [0, first.get(), second.get(), third.get()]);
    }
    // The last group may be short.
    if let Some(first) = rest.first()
        && let Some(place) = places.get(groups.len())
    {
        put(place, [0, first.get(), rest.get(1).map_or(0, Cell::get), 0]);
        place[3].set(b'=');
        if rest.len() == 1 {
            place[2].set(b'=');
        }
    }
    (groups.len() + usize::from(!rest.is_empty())) * 4
}

#[inline(always)]
fn put(place: &[Cell<u8>; 4], group: [u8; 4]) {
    let group = u32::from_be_bytes(group) as usize;
    let [first, second] = [group >> 12 & 4095, group & 4095];
    let pair = |bits: usize| u32::from(PAIRS[bits].load(Ordering::Relaxed));
    let [a, b, c, d] = (pair(second) << 16 | pair(first)).to_le_bytes();
    let [to_a, to_b, to_c, to_d] = place;
    to_a.set(a);
    to_b.set(b);
    to_c.set(c);
    to_d.set(d);
}

/// Two characters for each twelve bits, the first in the low byte; zeros before they are needed.
/// Twice as fast as character by character.
static PAIRS: [AtomicU16; 4096] = [const { AtomicU16::new(0) }; 4096];

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &[u8], out: &mut dyn Store) -> Result<(), DecodeError> {
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
    fn sloppy_text_is_read_as_qemu_ga_reads_it() {
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
