//! Channels and pipes: opening them, and reading and writing without waiting.
#![allow(unsafe_code)]

use core::ptr;

use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::{Errno, IoSlice};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;

use super::raw;
use crate::base::path::Path;

/// A unix socket listening at `path`, which its owner alone may connect to. A socket already there is
/// removed first, as qemu-ga does.
///
/// # Errors
/// [`Errno::NOTSOCK`] if another file is there.
pub fn listen_unix(path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = Path::of(&[path]);
    let path = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    let name = path.to_bytes();
    if name.is_empty() {
        // To the kernel that would be a name of its own choice.
        return Err(Errno::NOENT);
    }
    let mut address = heapless::Vec::<u8, { size_of::<libc::sockaddr_un>() }>::new();
    let family = libc::AF_UNIX as libc::sa_family_t;
    let _ = address.extend_from_slice(&family.to_ne_bytes());
    let fits = address.extend_from_slice(name);
    fits.map_err(|_| Errno::NAMETOOLONG)?;
    match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => {
            rustix::fs::unlink(path)?;
        }
        Ok(_) => return Err(Errno::NOTSOCK),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    // Nobody can connect before listen, but a mode set after bind would be too late for whoever has
    // opened the file by then.
    let mask = rustix::process::umask(Mode::from_bits_truncate(0o177));
    // SAFETY: bind reads `len` bytes of a sockaddr_un (family and path), which is ours and outlives the
    // call.
    let bound = unsafe {
        let (start, len) = (address.as_ptr().expose_provenance(), address.len());
        let args = [socket.as_raw_fd() as usize, start, len, 0, 0];
        raw::call(libc::SYS_bind, args)
    };
    rustix::process::umask(mask);
    bound?;
    rustix::net::listen(&socket, 1)?;
    Ok(socket)
}

/// The next client of a listening socket; [`Errno::AGAIN`] if none is waiting.
pub fn accept(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: accept4 takes numbers; the nulls are no address.
    let fd = unsafe {
        let args = [socket.as_raw_fd() as usize, 0, 0, flags as usize, 0];
        raw::call(libc::SYS_accept4, args)
    }?;
    // SAFETY: accept4 just made this descriptor and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The user at the other end of a connection; `u32::MAX`, which is no user, if the kernel does not say.
// Not rustix's function: its type for a process number has no 0, which the kernel gives for a process
// of another PID namespace.
pub fn peer_user(connection: &OwnedFd) -> u32 {
    let mut peer = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut len = size_of_val(&peer) as u32;
    // SAFETY: getsockopt writes at most `len` bytes of a ucred, which is ours and outlives the call,
    // and how many those are. It stays as it is if the call fails.
    let _ = unsafe {
        let level = libc::SOL_SOCKET as usize;
        let option = libc::SO_PEERCRED as usize;
        let place = ptr::from_mut(&mut peer).expose_provenance();
        let len = ptr::from_mut(&mut len).expose_provenance();
        let args = [connection.as_raw_fd() as usize, level, option, place, len];
        raw::call(libc::SYS_getsockopt, args)
    };
    peer.uid
}

/// A pipe: the end to read, which never waits, and the end to write, which does.
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    set_flags(&reader, OFlags::NONBLOCK)?;
    Ok((reader, writer))
}

#[inline(never)]
fn set_flags(fd: &OwnedFd, flags: OFlags) -> Result<(), Errno> {
    rustix::fs::fcntl_setfl(fd, flags)
}

/// A pipe for the other direction: the end to write, which never waits, and the end to read, which
/// does.
pub fn pipe_to_write() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (reader, writer) = pipe()?;
    set_flags(&reader, OFlags::empty())?;
    set_flags(&writer, OFlags::NONBLOCK)?;
    Ok((writer, reader))
}

/// Two sockets that are connected with each other: one that never waits, and one that does.
pub fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    set_flags(&ours, OFlags::NONBLOCK)?;
    Ok((ours, theirs))
}

/// What is always at its end, and swallows everything.
pub fn null() -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, c"/dev/null", flags, Mode::empty())
}

/// What a read that does not wait came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// This many bytes.
    Bytes(usize),
    /// Nothing yet.
    NotYet,
    /// Nothing ever again; on a virtio port, nothing while the host is away.
    End,
}

/// Reads what there is into `buffer`.
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> Result<Read, Errno> {
    loop {
        match rustix::io::read(&fd, &mut *buffer) {
            Ok(0) => return Ok(Read::End),
            Ok(count) => return Ok(Read::Bytes(count)),
            Err(Errno::AGAIN) => return Ok(Read::NotYet),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Writes what can be written now and says how much that was.
pub fn write(fd: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        match rustix::io::write(&fd, bytes) {
            Err(Errno::AGAIN) => return Ok(0),
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Writes two pieces, one after the other, at once; an error if there is no room for all of both.
pub fn write_both(fd: impl AsFd, first: &[u8], second: &[u8]) -> Result<(), Errno> {
    let written = rustix::io::writev(fd, &[IoSlice::new(first), IoSlice::new(second)])?;
    match written == first.len() + second.len() {
        true => Ok(()),
        false => Err(Errno::NOBUFS),
    }
}

/// Writes all of `bytes`, waiting where need be. Only children of the agent do that.
pub fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let count = match rustix::io::write(&fd, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(errno),
        };
        bytes = &bytes[count..];
    }
    Ok(())
}
