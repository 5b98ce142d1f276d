//! Byte stores: append-only buffers with a cap, wherever their memory comes from.
//!
//! Messages are received into a sink, and replies are written into one. `sys::mem::Buffer` borrows
//! memory from the kernel; a vector of fixed size is a sink as well.

/// A byte sink that can be appended to and cut back.
pub trait ByteSink {
    /// Returns the content.
    fn bytes(&self) -> &[u8];

    /// Returns the content, to change it in place.
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut []
    }

    /// Appends all of `more`, or nothing.
    ///
    /// After an error every append to `sys::mem::Buffer` fails until it is truncated. So only the
    /// end can be missing, and a caller may check the last of several appends alone.
    ///
    /// # Errors
    /// [`Full`] if `more` does not fit below the cap, or if the kernel has no memory.
    fn append(&mut self, more: &[u8]) -> Result<(), Full>;

    /// Shortens the content to `len` bytes; has no effect if it is not longer.
    fn truncate(&mut self, len: usize);
}

/// The error of a sink without room. Nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Appends pieces, up to the first that does not fit.
pub fn append_all(sink: &mut dyn ByteSink, pieces: &[&[u8]]) -> Result<(), Full> {
    pieces.iter().try_for_each(|piece| sink.append(piece))
}

impl<const N: usize> ByteSink for heapless::Vec<u8, N> {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }

    fn append(&mut self, more: &[u8]) -> Result<(), Full> {
        self.extend_from_slice(more).map_err(|_| Full)
    }

    fn truncate(&mut self, len: usize) {
        heapless::Vec::truncate(self, len);
    }
}

/// A sink that discards everything: for a command of the agent itself, whose reply has no client.
pub struct Discard;

impl ByteSink for Discard {
    fn bytes(&self) -> &[u8] {
        &[]
    }

    fn append(&mut self, _: &[u8]) -> Result<(), Full> {
        Ok(())
    }

    fn truncate(&mut self, _: usize) {}
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A sink without a cap.
    #[derive(Default)]
    pub(crate) struct Heap(pub(crate) Vec<u8>);

    impl ByteSink for Heap {
        fn bytes(&self) -> &[u8] {
            &self.0
        }

        fn append(&mut self, more: &[u8]) -> Result<(), Full> {
            self.0.extend_from_slice(more);
            Ok(())
        }

        fn truncate(&mut self, len: usize) {
            self.0.truncate(len);
        }
    }
}
