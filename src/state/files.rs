//! Open files: their handles, and the file that a client reads.
//!
//! A handle is the number by which a client calls an open file. No number is used twice, not even
//! by the next run of the agent, and no file has to remember the last one: handles are 1000, the
//! first handle of qemu-ga, plus the microseconds since the guest started, or one more than the
//! last.

use crate::sys::handles::{HandleTable, Handles, ReadEnd, Seized};
use crate::sys::{AsFd, Errno, clock};

/// The first handle of qemu-ga.
const FIRST: i64 = 1000;

/// The open files.
#[cfg_attr(test, derive(Default))]
pub struct Files {
    /// The files, by their handles.
    pub handles: Handles,
    /// The last handle.
    last: i64,
}

impl Files {
    /// No files; `table` keeps those that are opened.
    pub fn new(table: &'static mut HandleTable) -> Self {
        Self {
            handles: Handles::new(table),
            last: 0,
        }
    }

    /// Makes a new handle, with a copy of `stand_in` in place of its file until [`Seized::fill`].
    pub fn reserve(&mut self, stand_in: impl AsFd) -> Result<(i64, Seized), Errno> {
        let handle = FIRST.wrapping_add(clock::boottime_us()).max(self.last + 1);
        let file = self.handles.reserve(handle, stand_in)?;
        self.last = handle;
        Ok((handle, file))
    }
}

/// A file that a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its handle.
    pub handle: i64,
    /// The number of bytes that the client asked for.
    pub count: usize,
    /// The number of bytes read.
    pub done: usize,
    /// Why the last piece ended, if a worker read it.
    pub stop: Option<ReadEnd>,
}

impl Reading {
    /// A read of `count` bytes.
    pub fn new(handle: i64, count: usize) -> Self {
        Self {
            handle,
            count,
            done: 0,
            stop: None,
        }
    }

    /// The number of bytes still to be read.
    pub fn left(&self) -> usize {
        self.count.saturating_sub(self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::root::Root;

    #[test]
    fn every_handle_is_higher_than_the_last_and_exact_in_a_double() {
        let root = Root::open(c"/").unwrap();
        let mut files = Files::default();
        let mut last = FIRST;
        for _ in 0..10 {
            let (handle, file) = files.reserve(&root).unwrap();
            assert!(last < handle && handle < 1 << 53, "{last} {handle}");
            last = handle;
            files.handles.discard(file);
        }
    }
}
