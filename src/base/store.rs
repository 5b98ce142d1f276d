//! A growing run of bytes with a cap, behind which its memory is somebody else's business.
//!
//! Messages are gathered into one and replies are written into one. The implementation that borrows
//! memory from the kernel is `sys::mem::Buffer`; a plain fixed-size vector serves tests.

/// A byte store that can be appended to and cut back.
pub trait Store {
    /// What has been stored.
    fn bytes(&self) -> &[u8];

    /// The same, to be changed in place.
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut []
    }

    /// Appends all of `more`, or nothing.
    ///
    /// A store that was full stays full until it is truncated, so that what is missing is always
    /// the end, and the last of a run of appends tells for all of them.
    ///
    /// # Errors
    /// [`Full`] if the cap would be passed or the kernel has no memory to lend.
    fn append(&mut self, more: &[u8]) -> Result<(), Full>;

    /// Cuts the store back to `len` bytes; longer than it is, it stays as it is.
    fn truncate(&mut self, len: usize);
}

/// The store cannot take what it was given. Nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<const N: usize> Store for heapless::Vec<u8, N> {
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

/// A store that forgets what it is given: for replies that nobody asked for.
pub struct Discard;

impl Store for Discard {
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

    /// A store without a cap.
    #[derive(Default)]
    pub(crate) struct Heap(pub(crate) Vec<u8>);

    impl Store for Heap {
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
