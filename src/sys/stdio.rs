//! Standard output and error, and that their numbers mean nothing else.
#![allow(unsafe_code)]

use core::mem::forget;

use rustix::event::epoll::{CreateFlags, create};
use rustix::fd::{AsRawFd, BorrowedFd};

/// Makes sure that descriptors 0 to 2 are open, so that no channel can get their numbers and be
/// mistaken for the log. The kernel starts PID 1 without them where there is no console.
pub fn secure() {
    // An empty epoll set is the one descriptor that needs no file system, and cannot be written.
    while let Ok(filler) = create(CreateFlags::empty()) {
        if filler.as_raw_fd() > 2 {
            break;
        }
        forget(filler);
    }
}

/// Standard output.
pub fn stdout() -> BorrowedFd<'static> {
    // SAFETY: `secure` opened descriptor 1 if nobody else had, and nothing here ever closes it.
    unsafe { rustix::stdio::stdout() }
}

/// Standard error.
pub fn stderr() -> BorrowedFd<'static> {
    // SAFETY: as for standard output.
    unsafe { rustix::stdio::stderr() }
}
