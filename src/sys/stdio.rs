//! Descriptors 0 to 2: standard input, output and error.
//!
//! They are open from the start of the process to its end, so no other file ever gets one of their
//! numbers and is taken for the log. What they refer to may change.
#![allow(unsafe_code)]

use core::mem::forget;

use rustix::event::epoll::{CreateFlags, create};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::status::Status;
use super::stream;
use crate::base::path::Path;

/// Opens those of descriptors 0 to 2 that are closed, as an empty epoll set. The kernel starts PID
/// 1 without them if there is no console.
pub(super) fn secure() {
    // An epoll set needs no file system, and cannot be written.
    while let Ok(filler) = create(CreateFlags::empty()) {
        if filler.as_raw_fd() > 2 {
            break;
        }
        forget(filler);
    }
}

/// Replaces those of descriptors 0 to 2 that [`secure`] opened by the console.
pub fn adopt_console() {
    // The type of an epoll set.
    replace_by_console(FileType::Unknown);
}

/// Replaces those of descriptors 0 to 2 that are regular files by the console: a file open for
/// writing keeps its file system from becoming read-only.
pub fn leave_files() {
    replace_by_console(FileType::RegularFile);
}

/// Replaces those of descriptors 0 to 2 that are of this type by the console, or /dev/null without
/// one.
fn replace_by_console(kind: FileType) {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |path| rustix::fs::open(path, flags, Mode::empty());
    let Ok(console) = open(c"/dev/console").or_else(|_| open(c"/dev/null")) else {
        return;
    };
    for number in 0..3 {
        // SAFETY: descriptors 0 to 2 are always open, see `stdout`.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let found = rustix::fs::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
        if found == Ok(kind) {
            set(number, &console);
        }
    }
}

/// Makes a standard descriptor, 0 to 2, a copy of `fd`.
fn set(number: i32, fd: &OwnedFd) {
    let _ = match number {
        0 => rustix::stdio::dup2_stdin(fd),
        1 => rustix::stdio::dup2_stdout(fd),
        _ => rustix::stdio::dup2_stderr(fd),
    };
}

/// Replaces descriptors 0 to 2 by an empty epoll set: reads and writes fail. For children of the
/// agent.
pub fn detach() {
    // Not /dev/null, which may be missing.
    if let Ok(nothing) = create(CreateFlags::CLOEXEC) {
        for number in 0..3 {
            set(number, &nothing);
        }
    }
}

/// What standard error is after [`log_to`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// An ordinary file.
    File,
    /// A socket of syslog(3), or the kernel's log: each write is a record, with a priority in front.
    Records,
}

/// Makes standard error the log file at `path`: an ordinary file, which `may_create` makes if it is
/// missing, a device such as /dev/kmsg, a FIFO, or the socket of a syslog daemon. Writes to it never
/// wait. A FIFO that nobody reads keeps lines until somebody does, or it is full.
pub fn log_to(path: &[u8], may_create: bool) -> Result<LogKind, Errno> {
    let name = Path::of(&[path]);
    let name = name.as_c_str().ok_or(Errno::NAMETOOLONG)?;
    let mut flags = OFlags::APPEND | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    flags.set(OFlags::CREATE, may_create);
    let open = |access| rustix::fs::open(name, flags | access, Mode::from_bits_truncate(0o640));
    let mut opened = open(OFlags::WRONLY);
    // ENXIO: a socket, a FIFO without a reader, or a device without a driver.
    if matches!(opened, Err(Errno::NXIO)) {
        match Status::at_path(name)?.kind {
            FileType::Socket => opened = stream::connect_datagram(path),
            // This process is its reader too.
            FileType::Fifo => opened = open(OFlags::RDWR),
            _ => {}
        }
    }
    let file = opened?;
    let kind = match Status::of(&file)?.kind {
        FileType::CharacterDevice | FileType::Socket => LogKind::Records,
        _ => LogKind::File,
    };
    rustix::stdio::dup2_stderr(file)?;
    Ok(kind)
}

/// Replaces descriptors 0 to 2 by copies of these. A `None` takes the same as the descriptor before
/// it; without one before it, the descriptor stays.
pub fn replace(ends: &[Option<OwnedFd>; 3]) {
    let mut last = None;
    for (number, end) in (0..).zip(ends) {
        last = end.as_ref().or(last);
        if let Some(end) = last {
            set(number, end);
        }
    }
}

/// Standard output.
pub fn stdout() -> BorrowedFd<'static> {
    // SAFETY: `Start::at` calls `secure` before any other function of this crate runs, so
    // descriptors 0 to 2 are open; in tests the standard library opens them. This crate never
    // closes one. If the kernel had no memory for the epoll set, writes to the closed number fail.
    unsafe { rustix::stdio::stdout() }
}

/// Whether standard output is a terminal.
pub fn is_terminal() -> bool {
    rustix::termios::isatty(stdout())
}

/// Standard error.
pub fn stderr() -> BorrowedFd<'static> {
    // SAFETY: as for standard output.
    unsafe { rustix::stdio::stderr() }
}
