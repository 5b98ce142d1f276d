//! Open files, and the reading of one.

use crate::sys::handles::{Handles, Stop, Table};

/// What is known of open files.
#[cfg_attr(test, derive(Default))]
pub struct Files {
    /// The files.
    pub handles: Handles,
}

impl Files {
    /// None yet.
    pub fn new(table: &'static mut Table) -> Self {
        Self {
            handles: Handles::new(table),
        }
    }
}

/// A file being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its handle.
    pub handle: i64,
    /// Bytes that are asked for.
    pub count: usize,
    /// Bytes of those that have been read.
    pub done: usize,
    /// How the last piece ended, if a worker read it.
    pub stop: Option<Stop>,
}

impl Reading {
    /// To read `count` bytes.
    pub fn new(handle: i64, count: usize) -> Self {
        Self {
            handle,
            count,
            done: 0,
            stop: None,
        }
    }

    /// Bytes that are still to be read.
    pub fn left(&self) -> usize {
        self.count.saturating_sub(self.done)
    }
}
