//! Long texts, packed while the program is compiled: a pair of bytes that occurs often becomes one
//! byte that no text has, as does a pair of such, over and over (byte pair encoding).
//!
//! A text is scanned by line without unpacking the lines before: line ends are never part of a pair.
#![allow(long_running_const_eval)]

/// Bytes from this one on stand for pairs, and behind the last those from 0 on, as far as they print
/// nothing: all but [`LINE_END`]. No text has what prints from here on.
const FIRST: u8 = b'~';
const PAIRS: usize = 256 - FIRST as usize + 32;
/// Where among the pairs the line end is, which stands for itself.
const LINE_END: usize = 256 - FIRST as usize + b'\n' as usize;

/// A packed text of at most `N` bytes: an ASCII text as it is to begin with.
#[derive(Clone, Copy)]
pub struct Packed<const N: usize> {
    /// The bytes; what is beyond `len` means nothing.
    pub bytes: [u8; N],
    /// How many they are.
    pub len: usize,
    /// What bytes stand for.
    pub pairs: Pairs,
}

/// What the bytes from [`FIRST`] on stand for, and those from 0 on.
pub type Pairs = [[u8; 2]; PAIRS];

/// Packs an ASCII text of `N` bytes.
pub const fn pack<const N: usize>(text: &str) -> Packed<N> {
    assert!(text.len() == N && is_plain(text.as_bytes()));
    let mut packed = Packed {
        bytes: [0; N],
        len: N,
        pairs: [[0; 2]; PAIRS],
    };
    packed.bytes.copy_from_slice(text.as_bytes());
    let mut counts = [[0u16; 256]; 256];
    let mut code = 0;
    while code < PAIRS {
        let (pair, count) = most_frequent(&packed.bytes, packed.len, &mut counts);
        // One that occurs less often saves less than its two bytes here.
        if count < 4 {
            break;
        }
        if code == LINE_END {
            code += 1;
        }
        let byte = FIRST.wrapping_add(code as u8);
        packed.len = replace(&mut packed.bytes, packed.len, pair, byte);
        packed.pairs[code] = pair;
        code += 1;
    }
    packed
}

/// Whether text is ASCII that is printed, and line ends.
const fn is_plain(text: &[u8]) -> bool {
    let mut at = 0;
    while at < text.len() {
        if !matches!(text[at], b'\n' | b' '..FIRST) {
            return false;
        }
        at += 1;
    }
    true
}

/// The pair that occurs most often in the first `len` bytes, and how often; `counts` is zero before
/// and after.
const fn most_frequent(bytes: &[u8], len: usize, counts: &mut [[u16; 256]; 256]) -> ([u8; 2], u16) {
    let (mut pair, mut most) = ([0; 2], 0);
    let mut at = 1;
    while at < len {
        let (first, second) = (bytes[at - 1], bytes[at]);
        if first != b'\n' && second != b'\n' {
            let count = &mut counts[first as usize][second as usize];
            *count += 1;
            if *count > most {
                (pair, most) = ([first, second], *count);
            }
        }
        at += 1;
    }
    at = 1;
    while at < len {
        counts[bytes[at - 1] as usize][bytes[at] as usize] = 0;
        at += 1;
    }
    (pair, most)
}

/// Replaces `pair` by `code` in the first `len` bytes; gives how many they are then.
const fn replace(bytes: &mut [u8], len: usize, pair: [u8; 2], code: u8) -> usize {
    let (mut from, mut to) = (0, 0);
    while from < len {
        if from + 1 < len && bytes[from] == pair[0] && bytes[from + 1] == pair[1] {
            bytes[to] = code;
            from += 2;
        } else {
            bytes[to] = bytes[from];
            from += 1;
        }
        to += 1;
    }
    to
}

/// Appends what a byte of a packed line, its end excepted, stands for to `out`.
pub fn unpack(pairs: &[[u8; 2]], byte: u8, out: &mut heapless::VecView<u8>) {
    match pairs.get(usize::from(byte.wrapping_sub(FIRST))) {
        Some(pair) => pair.iter().for_each(|byte| unpack(pairs, *byte, out)),
        None => {
            let _ = out.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        const TEXT: &str = "one line, two lines,\nthree lines, four lines\nno line, no lines\n";
        const PACKED: Packed<{ TEXT.len() }> = pack(TEXT);
        let bytes = &PACKED.bytes[..PACKED.len];
        let mut out = heapless::Vec::<u8, 128>::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (end, line) = line.split_last().unwrap();
            line.iter()
                .for_each(|byte| unpack(&PACKED.pairs, *byte, &mut out));
            out.push(*end).unwrap();
        }
        assert_eq!(out, TEXT.as_bytes());
        assert!(PACKED.len < TEXT.len() - 10);
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 3);
    }
}
