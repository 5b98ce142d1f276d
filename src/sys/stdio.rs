//! Standard output and error, and that their numbers mean nothing else.
#![allow(unsafe_code)]

use core::mem::forget;

use rustix::event::epoll::{CreateFlags, create};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};

use super::raw;

/// Makes sure that descriptors 0 to 2 are open, so that no channel can get their numbers and be
/// mistaken for the log. The kernel starts PID 1 without them where there is no console.
pub(super) fn secure() {
    // An empty epoll set is the one descriptor that needs no file system, and cannot be written.
    while let Ok(filler) = create(CreateFlags::empty()) {
        if filler.as_raw_fd() > 2 {
            break;
        }
        forget(filler);
    }
}

/// Points those of descriptors 0 to 2 that [`secure`] had to fill at the console.
pub fn adopt_console() {
    to_console(FileType::Unknown);
}

/// Points those of descriptors 0 to 2 that are files at the console: a file open for writing keeps
/// its file system from becoming read-only.
pub fn leave_files() {
    to_console(FileType::RegularFile);
}

fn to_console(from: FileType) {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |path| rustix::fs::open(path, flags, Mode::empty());
    let Ok(console) = open(c"/dev/console").or_else(|_| open(c"/dev/null")) else {
        return;
    };
    for number in 0..3 {
        // SAFETY: descriptors 0 to 2 are always open, see `stdout`.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let kind = rustix::fs::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
        if kind == Ok(from) {
            // SAFETY: one of 0 to 2.
            unsafe { put(number, &console) };
        }
    }
}

/// Makes one of descriptors 0 to 2 a copy of one above them.
///
/// # Safety
/// `number` must be 0, 1 or 2: these are borrowed as what they are at that moment, and belong to no
/// value.
unsafe fn put(number: i32, fd: &OwnedFd) {
    // SAFETY: dup3 takes any numbers; what it closes is nobody's, and the number stays open.
    let _ = unsafe {
        let args = [fd.as_raw_fd() as usize, number as usize, 0, 0, 0];
        raw::call(libc::SYS_dup3, args)
    };
}

/// Points descriptors 0 to 2 at nothing, in a child of the agent: what is written to them is lost.
pub fn detach() {
    // As in `secure`: there may be no /dev/null.
    if let Ok(nothing) = create(CreateFlags::CLOEXEC) {
        for number in 0..3 {
            // SAFETY: one of 0 to 2.
            unsafe { put(number, &nothing) };
        }
    }
}

/// Replaces descriptors 0 to 2 by these; one that is missing becomes the same as that before it.
/// Without any they stay.
pub fn replace(ends: &[Option<OwnedFd>; 3]) {
    let mut last = None;
    for (number, end) in (0..).zip(ends) {
        last = end.as_ref().or(last);
        if let Some(end) = last {
            // SAFETY: one of 0 to 2, as there are three ends.
            unsafe { put(number, end) };
        }
    }
}

/// Standard output.
pub fn stdout() -> BorrowedFd<'static> {
    // SAFETY: before anything else here runs, `Start::at` has `secure` open descriptors 0 to 2 if
    // nobody else had; in tests the standard library does. Nothing here ever closes one. Only a kernel
    // that had no memory for one of them has none there, and all that is written to it is lost.
    unsafe { rustix::stdio::stdout() }
}

/// Standard error.
pub fn stderr() -> BorrowedFd<'static> {
    // SAFETY: as for standard output.
    unsafe { rustix::stdio::stderr() }
}
