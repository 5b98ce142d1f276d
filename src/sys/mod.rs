//! All system calls of the agent, and all its unsafe code.
//!
//! The functions here are safe and typed: owned descriptors, checked lengths, [`Errno`] for errors
//! of the kernel. They decide nothing: paths, texts, limits of time and the meaning of a result
//! come from the folders above. No other folder names rustix or libc.
//!
//! rustix makes most system calls. [`raw`] makes those that rustix lacks, keeps private, or has
//! with types that are too narrow here; a comment at the call says why.

pub mod argv;
pub mod clock;
pub mod exec;
pub mod fault;
pub mod file;
pub mod fsctl;
pub mod handles;
pub mod identity;
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
pub mod serial;
pub mod signal;
pub mod status;
pub mod stdio;
pub mod stream;
pub mod system;
#[cfg(test)]
pub(crate) mod testing;
pub mod vsock;

use crate::base::errno;
use crate::base::packed::Line;

pub use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
pub use rustix::io::Errno;

/// The errno of an error, a positive number.
pub fn number(errno: Errno) -> i32 {
    errno.raw_os_error()
}

/// The text of an error, as strerror(3) has it, for the log.
pub fn words(errno: Errno) -> Line {
    errno::text_or_unknown(number(errno))
}
