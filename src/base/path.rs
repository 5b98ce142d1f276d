//! A path buffer of fixed size, always terminated by a NUL.

use core::ffi::CStr;

use super::limits::PATH_BYTES;
use super::text::Digits;

/// A path of at most [`PATH_BYTES`] with its NUL.
///
/// A path that contains a NUL is invalid: [`Path::as_c_str`] returns `None`. A path that does not fit is
/// replaced by a NUL, and so becomes invalid: it can never be used cut short.
#[derive(Clone)]
pub struct Path {
    /// The path and its NUL.
    bytes: heapless::Vec<u8, PATH_BYTES>,
}

impl Path {
    /// Returns an empty path.
    pub fn new() -> Self {
        let mut bytes = heapless::Vec::new();
        bytes.push(0).unwrap_or_default();
        Self { bytes }
    }

    /// Joins pieces, without separators.
    // Out of line: one copy of the code is smaller.
    #[inline(never)]
    pub fn of(pieces: &[&[u8]]) -> Self {
        let mut path = Self::new();
        path.append(pieces);
        path
    }

    /// Appends pieces, without separators.
    pub fn append(&mut self, pieces: &[&[u8]]) {
        for piece in pieces {
            self.push(piece);
        }
    }

    /// Appends bytes.
    // Out of line: one copy of the code is smaller.
    #[inline(never)]
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.pop();
        if self.bytes.len() + piece.len() >= PATH_BYTES {
            self.bytes.clear();
            self.bytes.push(0).unwrap_or_default();
        } else {
            self.bytes.extend_from_slice(piece).unwrap_or_default();
        }
        self.bytes.push(0).unwrap_or_default();
    }

    /// Appends a number in decimal.
    pub fn push_number(&mut self, value: u64) {
        self.push(Digits::unsigned(value).as_bytes());
    }

    /// Cuts the path back to `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.bytes.truncate(len);
            self.bytes.push(0).unwrap_or_default();
        }
    }

    /// Returns the length without the NUL.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the path is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the path without its NUL.
    // Out of line: one copy of the code is smaller.
    #[inline(never)]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.split_last().map_or(b"", |(_, path)| path)
    }

    /// Returns the path for a system call; `None` if it is invalid.
    pub fn as_c_str(&self) -> Option<&CStr> {
        CStr::from_bytes_with_nul(&self.bytes).ok()
    }
}

impl Default for Path {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_pieces_and_numbers() {
        let mut path = Path::of(&[b"sys/block/", b"vda"]);
        path.push(b"/size");
        assert_eq!(path.as_c_str(), Some(c"sys/block/vda/size"));
        path.truncate(13);
        path.push_number(7);
        assert_eq!(path.as_c_str(), Some(c"sys/block/vda7"));
    }

    #[test]
    fn a_path_that_does_not_fit_is_invalid() {
        let mut path = Path::of(&[&[b'x'; PATH_BYTES - 1]]);
        assert!(path.as_c_str().is_some());
        path.push(b"y");
        assert!(path.as_c_str().is_none());
        assert!(Path::of(&[b"a\0b"]).as_c_str().is_none());
    }
}
