//! Every system call of the agent, and every line of unsafe code.
//!
//! What is exported is safe and typed: owned descriptors, checked lengths, [`Errno`] for what the
//! kernel refused. No other folder names rustix or libc.

pub mod args;
pub mod clock;
pub mod fault;
pub mod file;
pub mod fsctl;
pub mod handles;
pub mod link;
pub mod mem;
pub mod mount;
pub mod netlink;
pub mod nvme;
pub mod place;
pub mod poll;
pub mod power;
pub mod process;
mod raw;
pub mod root;
pub mod rtc;
pub mod signal;
pub mod status;
pub mod stdio;
pub mod stream;
pub mod system;
#[cfg(test)]
pub(crate) mod testing;

use crate::base::errno::{self, Text};

pub use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
pub use rustix::io::Errno;

/// The positive number of an error.
pub fn number(errno: Errno) -> i32 {
    errno.raw_os_error()
}

/// The C library's words for an error, for the log.
pub fn words(errno: Errno) -> Text {
    errno::text_or_unknown(number(errno))
}
