//! Texts that are packed while the program is compiled, by byte pair encoding: the most frequent pair of
//! bytes becomes one byte that no text has, again and again.
//!
//! Texts are read rarely and would take more bytes than much of the code. `pack!` packs an array of
//! texts into a [`Pack`], and `texts!` declares an enum with a text for each variant. A [`Text`] is one
//! text of a pack, so that functions take texts of any pack.
//!
//! A pack has a line for each text. It is scanned by line without unpacking the lines before, because
//! line ends are never part of a pair. An index would cost more than it saves.

use super::text::cut;

/// Codes of pairs are the bytes from this one to 255, then those from 0 on that do not print, except
/// [`LINE_END`]. No text has printable bytes from here on.
const FIRST: u8 = b'~';
const MOST_PAIRS: usize = 256 - FIRST as usize + 32;
/// The number of the pair that would have the line end for its code.
const LINE_END: usize = 256 - FIRST as usize + b'\n' as usize;

/// Length of the longest text.
const LINE_BYTES: usize = 208;

/// An unpacked text.
pub type Line = heapless::Vec<u8, LINE_BYTES>;

/// Packed texts.
#[derive(Debug)]
pub struct Pack {
    lines: &'static [u8],
    pairs: &'static [[u8; 2]],
}

impl Pack {
    /// A pack of packed lines and their pairs. For `pack!`.
    pub const fn new(lines: &'static [u8], pairs: &'static [[u8; 2]]) -> Self {
        Self { lines, pairs }
    }

    /// Appends the meaning of a packed byte.
    fn unpack(&self, byte: u8, out: &mut heapless::VecView<u8>) {
        match self.pairs.get(usize::from(byte.wrapping_sub(FIRST))) {
            Some(pair) => pair.iter().for_each(|byte| self.unpack(*byte, out)),
            None => {
                let _ = out.push(byte);
            }
        }
    }
}

/// A text of a pack.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    pack: &'static Pack,
    line: u8,
}

impl Text {
    /// The text on this line of the pack. Past the last line all texts are empty.
    pub const fn new(pack: &'static Pack, line: u8) -> Self {
        Self { pack, line }
    }

    /// Unpacks the text.
    // Not inlined, to keep one copy of the code.
    #[inline(never)]
    pub fn unpack(self) -> Line {
        let mut text = Line::new();
        let mut rest = self.pack.lines;
        for _ in 0..self.line {
            cut(&mut rest, b'\n');
        }
        for byte in cut(&mut rest, b'\n') {
            self.pack.unpack(*byte, &mut text);
        }
        text
    }

    /// Passes the text to `put` with each `@` replaced by the next of `pieces`. Pieces without an `@`
    /// come last.
    // Not inlined, to keep one copy of the code.
    #[inline(never)]
    pub fn put(self, pieces: &[&[u8]], put: &mut dyn FnMut(&[u8])) {
        let text = self.unpack();
        let mut rest = &*text;
        put(cut(&mut rest, b'@'));
        for piece in pieces {
            put(piece);
            put(cut(&mut rest, b'@'));
        }
    }
}

/// Packs a constant array of texts into a [`Pack`].
macro_rules! pack {
    ($texts:expr) => {{
        const TO_PACK: &[&str] = $texts;
        #[allow(long_running_const_eval)]
        const PACKED: $crate::base::packed::Packed<
            { $crate::base::packed::len_of_lines(TO_PACK) },
        > = $crate::base::packed::pack_lines(TO_PACK);
        static LINES: [u8; PACKED.len] = *PACKED.bytes.first_chunk().unwrap();
        static PAIRS: [[u8; 2]; PACKED.pairs_len] = *PACKED.pairs.first_chunk().unwrap();
        $crate::base::packed::Pack::new(&LINES, &PAIRS)
    }};
}

/// Declares an enum with a text for each variant, which converts into a [`Text`].
macro_rules! texts {
    ($(#[$about:meta])* $vis:vis enum $name:ident { $($variant:ident = $text:literal;)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        $vis enum $name {
            // As code: a text may hold brackets, which would be links.
            $(#[doc = concat!("```text\n", $text, "\n```")] $variant,)*
        }

        impl From<$name> for $crate::base::packed::Text {
            fn from(text: $name) -> Self {
                static PACK: $crate::base::packed::Pack =
                    $crate::base::packed::pack!(&[$($text),*]);
                Self::new(&PACK, text as u8)
            }
        }

        #[cfg(test)]
        impl $name {
            /// Checks that every text is unpacked as it is declared.
            fn assert_all_unpack() {
                for (text, words) in [$((Self::$variant, $text)),*] {
                    assert_eq!($crate::base::packed::Text::from(text).unpack(), words.as_bytes());
                }
            }
        }
    };
}

pub(crate) use pack;
pub(crate) use texts;

/// Packed lines, and the pairs that they are packed with.
#[derive(Clone, Copy)]
pub struct Packed<const N: usize> {
    /// The lines, and bytes without meaning behind the first `len`.
    pub bytes: [u8; N],
    /// The length of the lines.
    pub len: usize,
    /// The pairs, by their code less [`FIRST`].
    pub pairs: [[u8; 2]; MOST_PAIRS],
    /// The number of pairs.
    pub pairs_len: usize,
}

/// The length of the texts, each with a line end.
pub const fn len_of_lines(texts: &[&str]) -> usize {
    let (mut at, mut len) = (0, 0);
    while at < texts.len() {
        len += texts[at].len() + 1;
        at += 1;
    }
    len
}

/// Packs texts, of which `N` is the [`len_of_lines`].
pub const fn pack_lines<const N: usize>(texts: &[&str]) -> Packed<N> {
    assert!(texts.len() <= u8::MAX as usize);
    let mut packed = Packed {
        bytes: lines(texts),
        len: N,
        pairs: [[0; 2]; MOST_PAIRS],
        pairs_len: 0,
    };
    let mut counts = [[0u16; 256]; 256];
    while packed.pairs_len < MOST_PAIRS {
        let (pair, count) = most_frequent(&packed.bytes, packed.len, &mut counts);
        // A rarer pair saves no more than its own two bytes.
        if count < 3 {
            break;
        }
        if packed.pairs_len == LINE_END {
            packed.pairs_len += 1;
        }
        let code = FIRST.wrapping_add(packed.pairs_len as u8);
        packed.len = replace(&mut packed.bytes, packed.len, pair, code);
        packed.pairs[packed.pairs_len] = pair;
        packed.pairs_len += 1;
    }
    packed
}

/// Joins texts, each with a line end.
const fn lines<const N: usize>(texts: &[&str]) -> [u8; N] {
    let mut lines = [b'\n'; N];
    let (mut text, mut len) = (0, 0);
    while text < texts.len() {
        let bytes = texts[text].as_bytes();
        assert!(bytes.len() <= LINE_BYTES);
        let mut at = 0;
        while at < bytes.len() {
            assert!(matches!(bytes[at], b' '..FIRST));
            lines[len] = bytes[at];
            (at, len) = (at + 1, len + 1);
        }
        (text, len) = (text + 1, len + 1);
    }
    assert!(len == N);
    lines
}

/// Returns the most frequent pair of the first `len` bytes and its count. `counts` is zero before and
/// after.
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

/// Replaces `pair` by `code` in the first `len` bytes; returns the new length.
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

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 5] = [
        "one line, two lines,",
        "three lines, four lines",
        "",
        "@ of @ lines: ",
        "no line, no lines",
    ];
    static PACK: Pack = pack!(&TEXTS);

    #[test]
    fn unpacks_what_was_packed() {
        for (line, text) in TEXTS.iter().enumerate() {
            assert_eq!(Text::new(&PACK, line as u8).unpack(), text.as_bytes());
        }
        assert_eq!(Text::new(&PACK, 5).unpack(), b"");
        assert_eq!(Text::new(&PACK, 255).unpack(), b"");
        assert!(!PACK.pairs.is_empty());
        assert!(PACK.lines.len() < len_of_lines(&TEXTS) - 10);
        assert_eq!(PACK.lines.iter().filter(|byte| **byte == b'\n').count(), 5);
    }

    #[test]
    fn pieces_replace_their_signs_and_the_others_come_last() {
        let put = |pieces: &[&[u8]]| {
            let mut put = Vec::new();
            Text::new(&PACK, 3).put(pieces, &mut |piece| put.extend(piece));
            String::from_utf8(put).unwrap()
        };
        assert_eq!(put(&[b"1", b"2"]), "1 of 2 lines: ");
        assert_eq!(put(&[b"1", b"2", b"a", b"b"]), "1 of 2 lines: ab");
        assert_eq!(put(&[b"@", b"2"]), "@ of 2 lines: ");
        assert_eq!(put(&[b"1"]), "1 of ");
    }
}
