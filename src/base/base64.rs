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

/// Decodes the text that is stored in it into another store.
pub struct Decoder<'a> {
    out: &'a mut dyn Store,
    /// What each byte stands for; [`NONE`] if it is not of the alphabet.
    table: [u8; 256],
    /// What is about to be stored.
    room: [u8; 252],
    used: usize,
    /// The group that has been begun.
    group: u32,
    len: usize,
    last: [u8; 2],
    fault: Option<Fault>,
}

const NONE: u8 = 0xFF;

impl<'a> Decoder<'a> {
    /// To decode into `out`.
    pub fn new(out: &'a mut dyn Store) -> Self {
        let mut table = [NONE; 256];
        for (sextet, byte) in (0..).zip(ALPHABET) {
            table[usize::from(*byte)] = sextet;
        }
        Self {
            out,
            table,
            room: [0; 252],
            used: 0,
            group: 0,
            len: 0,
            last: [0; 2],
            fault: None,
        }
    }

    /// Whether all of it was well.
    pub fn end(mut self) -> Result<(), Fault> {
        self.flush();
        self.fault.map_or(Ok(()), Err)
    }

    #[inline(never)]
    fn flush(&mut self) {
        let bytes = self.room.get(..self.used).unwrap_or_default();
        if self.out.append(bytes).is_err() {
            self.fault = self.fault.or(Some(Fault::Full));
        }
        self.used = 0;
    }

    fn sextet(&self, byte: u8) -> u32 {
        u32::from(self.table[usize::from(byte)])
    }

    /// Takes whole groups of the alphabet alone, as far as they go.
    fn groups<'t>(&mut self, mut text: &'t [u8]) -> &'t [u8] {
        while let Some((group, rest)) = text.split_first_chunk::<4>() {
            let [a, b, c, d] = group.map(|byte| self.sextet(byte));
            if (a | b | c | d) > 63 {
                break;
            }
            let to = self.room.get_mut(self.used..).unwrap_or_default();
            let Some(to) = to.first_chunk_mut::<3>() else {
                self.flush();
                continue;
            };
            let [_, bytes @ ..] = (a << 18 | b << 12 | c << 6 | d).to_be_bytes();
            *to = bytes;
            self.used += 3;
            text = rest;
        }
        text
    }
}

impl Store for Decoder<'_> {
    fn bytes(&self) -> &[u8] {
        &[]
    }

    fn append(&mut self, mut more: &[u8]) -> Result<(), Full> {
        loop {
            if self.len == 0 {
                more = self.groups(more);
            }
            let Some((byte, rest)) = more.split_first() else {
                break;
            };
            more = rest;
            if *byte == b'\n' {
                continue;
            }
            let sextet = if *byte == b'=' { 0 } else { self.sextet(*byte) };
            if sextet > 63 {
                self.fault = self.fault.or(Some(Fault::Invalid));
                break;
            }
            self.group = self.group << 6 | sextet;
            self.last = [self.last[1], *byte];
            self.len += 1;
            if self.len == 4 {
                let [_, bytes @ ..] = self.group.to_be_bytes();
                let [third, fourth] = self.last;
                for (byte, left_out) in bytes.iter().zip([0, third, fourth]) {
                    if left_out != b'=' {
                        if self.used == self.room.len() {
                            self.flush();
                        }
                        self.room[self.used] = *byte;
                        self.used += 1;
                    }
                }
                self.len = 0;
            }
        }
        if self.fault.is_some() { Err(Full) } else { Ok(()) }
    }

    fn truncate(&mut self, _: usize) {}
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

    /// Decodes what comes in pieces of all sizes.
    fn decode(text: &[u8], out: &mut dyn Store) -> Result<(), Fault> {
        let mut decoder = Decoder::new(out);
        let (mut rest, mut len) = (text, 0);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(len));
            (rest, len) = (behind, len + 1);
            let _ = decoder.append(piece);
        }
        decoder.end()
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
