//! Sockets and pipes: making them, and reading and writing without waiting.
#![allow(unsafe_code)]

use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fcntl_setfl};
use rustix::io::{Errno, FdFlags, IoSlice, fcntl_setfd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::pipe::PipeFlags;
use static_assertions::const_assert_eq;

use super::{process, raw};
use crate::base::path::Path;

// `struct sockaddr_un` of linux/un.h.
const_assert_eq!(size_of::<libc::sockaddr_un>(), 110);

/// A socket, which never waits.
pub(super) fn socket(family: AddressFamily, kind: SocketType) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, kind, flags, None)
}

/// Connects to the unix socket at a path, or with an abstract name behind an `@`, to which each write
/// sends a datagram. Writes never wait.
pub fn connect_datagram(path: &[u8]) -> Result<OwnedFd, Errno> {
    let socket = socket(AddressFamily::UNIX, SocketType::DGRAM)?;
    let mut address = libc::sockaddr_un {
        sun_family: libc::AF_UNIX as u16,
        sun_path: [0; 108],
    };
    let room = address.sun_path.get_mut(..path.len());
    for (to, byte) in room.ok_or(Errno::NAMETOOLONG)?.iter_mut().zip(path) {
        *to = *byte as _;
    }
    if path.starts_with(b"@") {
        address.sun_path[0] = 0;
    }
    // SAFETY: connect reads the first bytes of one sockaddr_un, which is ours and outlives the call.
    unsafe {
        let at = ptr::from_ref(&address).expose_provenance();
        let len = size_of_val(&address.sun_family) + path.len();
        raw::call(
            libc::SYS_connect,
            [socket.as_raw_fd() as usize, at, len, 0, 0],
        )
    }?;
    Ok(socket)
}

/// Listens at `path` on a unix socket, to which only its owner may connect. An old socket that has the
/// name is removed first, if nobody listens there.
///
/// # Errors
/// [`Errno::NOTSOCK`] if a file of another type has the name, [`Errno::ADDRINUSE`] if a process listens
/// there.
pub fn listen_unix(path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = Path::of(&[path]);
    let (address, has_socket) = unix_address(&path)?;
    if has_socket {
        if is_served(&address)? {
            return Err(Errno::ADDRINUSE);
        }
        rustix::fs::unlink(path.as_c_str().unwrap_or_default())?;
    }
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM)?;
    // The socket has its mode from the start: a mode set after bind would not apply to a process
    // that has found the socket by then.
    let mask = rustix::process::umask(Mode::from_bits_truncate(0o177));
    let bound = rustix::net::bind(&socket, &address);
    rustix::process::umask(mask);
    bound?;
    rustix::net::listen(&socket, 1)?;
    Ok(socket)
}

/// Whether [`listen_unix`] could have this path, unless a process listens there. Changes nothing, and
/// such a process does not notice.
///
/// # Errors
/// Those of [`listen_unix`]. Whether the directory can be written is not looked at.
pub fn check_unix(path: &[u8]) -> Result<(), Errno> {
    let (_, has_socket) = unix_address(&Path::of(&[path]))?;
    if !has_socket {
        return Ok(());
    }
    match connect_datagram(path) {
        // A socket of another type, or of nobody.
        Err(Errno::PROTOTYPE | Errno::CONNREFUSED) => Ok(()),
        connected => connected.and(Err(Errno::PROTOTYPE)),
    }
}

/// The address of a path, and whether a socket has it.
fn unix_address(path: &Path) -> Result<(SocketAddrUnix, bool), Errno> {
    let path = path.as_c_str().ok_or(Errno::NAMETOOLONG)?;
    if path.is_empty() {
        // With an empty path the kernel would choose an abstract name.
        return Err(Errno::NOENT);
    }
    let address = SocketAddrUnix::new(path)?;
    match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => Ok((address, true)),
            _ => Err(Errno::NOTSOCK),
        },
        Err(Errno::NOENT) => Ok((address, false)),
        Err(errno) => Err(errno),
    }
}

/// Whether a process listens at an address. That process sees a client that leaves at once.
///
/// What an agent has left does not count, even if a child of it that hangs in the kernel still has the
/// socket: the process that called listen(2) has ended, or is this one, which as PID 1 has executed
/// itself again.
fn is_served(address: &SocketAddrUnix) -> Result<bool, Errno> {
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM)?;
    match rustix::net::connect(&socket, address) {
        Ok(()) => {
            let listener = peer(&socket).pid;
            let has_ended = process::kill(listener, 0) == Err(Errno::SRCH) && listener != 0;
            let is_own = process::is_init() && listener == process::own_pid();
            Ok(!has_ended && !is_own)
        }
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        // Its queue is full.
        Err(Errno::AGAIN) => Ok(true),
        Err(errno) => Err(errno),
    }
}

/// The first descriptor that a service manager hands over (sd_listen_fds(3)).
const FIRST_INHERITED: i32 = 3;

/// Takes the listening socket that a service manager has handed over, of unix(7) or vsock(7). Call it
/// before this process makes a listening socket of its own.
///
/// # Errors
/// [`Errno::NOTSOCK`] if it is something else, or was taken before.
pub fn inherited_listener() -> Result<OwnedFd, Errno> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if !has_inherited_listener() || TAKEN.swap(true, Ordering::Relaxed) {
        return Err(Errno::NOTSOCK);
    }
    // SAFETY: it listens, and this process has made no such socket: it was handed over, and nothing
    // owns it. It is taken once.
    let socket = unsafe { OwnedFd::from_raw_fd(FIRST_INHERITED) };
    fcntl_setfl(&socket, OFlags::NONBLOCK)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    Ok(socket)
}

/// Whether the service manager has handed over a socket that [`inherited_listener`] takes.
pub fn has_inherited_listener() -> bool {
    // SAFETY: the calls below end in an error if the descriptor is closed, and none changes it.
    let socket = unsafe { BorrowedFd::borrow_raw(FIRST_INHERITED) };
    let family = sockopt::socket_domain(socket);
    matches!(family, Ok(AddressFamily::UNIX | AddressFamily::VSOCK))
        && sockopt::socket_acceptconn(socket) == Ok(true)
}

/// Accepts the next connection of a listening socket; [`Errno::AGAIN`] if none is waiting.
pub fn accept(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::net::accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}

/// The user at the other end of a connection; `u32::MAX`, which is no user, if the kernel does not
/// say.
pub fn peer_user(connection: &OwnedFd) -> u32 {
    peer(connection).uid
}

/// The process and the user at the other end: of a client, those that have called listen(2). The
/// process is 0 if it is in another PID namespace, or unknown.
// Not rustix's function: its type for a process number has no 0.
fn peer(connection: &OwnedFd) -> libc::ucred {
    let mut peer = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut len = size_of_val(&peer) as u32;
    // SAFETY: getsockopt writes at most `len` bytes of a ucred, and their number into `len`. Both
    // are ours and outlive the call.
    let _ = unsafe {
        let level = libc::SOL_SOCKET as usize;
        let option = libc::SO_PEERCRED as usize;
        let peer = ptr::from_mut(&mut peer).expose_provenance();
        let len = ptr::from_mut(&mut len).expose_provenance();
        let args = [connection.as_raw_fd() as usize, level, option, peer, len];
        raw::call(libc::SYS_getsockopt, args)
    };
    peer
}

/// Makes a pipe: the end to read, which never waits, and the end to write, which waits.
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setfl(&reader, OFlags::NONBLOCK)?;
    Ok((reader, writer))
}

/// Makes a pipe for the other direction: the end to write, which never waits, and the end to read,
/// which waits.
pub fn pipe_to_write() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (reader, writer) = pipe()?;
    fcntl_setfl(&reader, OFlags::empty())?;
    fcntl_setfl(&writer, OFlags::NONBLOCK)?;
    Ok((writer, reader))
}

/// Makes two sockets that are connected to each other: one that never waits, and one that waits.
pub fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    fcntl_setfl(&ours, OFlags::NONBLOCK)?;
    Ok((ours, theirs))
}

/// Limits how long a read of a socket that waits may take: then it returns [`Read::NotYet`].
pub fn limit_wait(socket: &OwnedFd, limit_ms: u64) -> Result<(), Errno> {
    let limit = Some(Duration::from_millis(limit_ms));
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, limit)
}

/// Opens /dev/null: reads are at the end at once, writes are discarded.
pub fn null() -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, c"/dev/null", flags, Mode::empty())
}

/// The result of a read that does not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes were read.
    Bytes(usize),
    /// There are no bytes now.
    NotYet,
    /// The end: no bytes will follow. On a virtio port: no host is connected.
    End,
}

/// Reads the bytes that are there, as many as `buffer` holds.
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

/// Writes as many bytes as the descriptor takes now; returns their number.
pub fn write(fd: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        match rustix::io::write(&fd, bytes) {
            Err(Errno::AGAIN) => return Ok(0),
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// The error of a connection that was begun and has failed (SO_ERROR).
pub fn connected(socket: &OwnedFd) -> Result<(), Errno> {
    sockopt::socket_error(socket).unwrap_or_else(Err)
}

/// Writes two pieces with one call.
///
/// # Errors
/// [`Errno::NOBUFS`] if the descriptor took only a part of them.
pub fn write_both(fd: impl AsFd, first: &[u8], second: &[u8]) -> Result<(), Errno> {
    let written = rustix::io::writev(fd, &[IoSlice::new(first), IoSlice::new(second)])?;
    match written == first.len() + second.len() {
        true => Ok(()),
        false => Err(Errno::NOBUFS),
    }
}

/// Writes all of `bytes`, and waits where it must. For descriptors that do not make the loop wait,
/// and for children of the agent.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn socket_is_replaced_only_if_nobody_listens_there() {
        let tree = Tree::new();
        let listen = |name: &str| listen_unix(tree.path.join(name).to_str().unwrap().as_bytes());
        let first = listen("socket").unwrap();
        assert_eq!(listen("socket").err(), Some(Errno::ADDRINUSE));
        // The first one sees a client that leaves, and still has its socket.
        assert_eq!(read(accept(&first).unwrap(), &mut [0]), Ok(Read::End));
        // Nor is it replaced while its queue is full.
        let path = tree.path.join("socket");
        let clients = [(); 2].map(|()| std::os::unix::net::UnixStream::connect(&path).unwrap());
        assert_eq!(listen("socket").err(), Some(Errno::ADDRINUSE));
        drop((first, clients));
        let second = listen("socket").unwrap();
        assert_eq!(accept(&second).err(), Some(Errno::AGAIN));
    }

    #[test]
    fn file_of_another_type_is_left_alone() {
        let tree = Tree::new();
        let listen = |name: &str| listen_unix(tree.path.join(name).to_str().unwrap().as_bytes());
        let file = tree.file("file", "text");
        assert_eq!(listen("file").err(), Some(Errno::NOTSOCK));
        assert_eq!(std::fs::read_to_string(file).unwrap(), "text");
        tree.link("link", "socket");
        assert_eq!(listen("link").err(), Some(Errno::NOTSOCK));
        let _datagrams = UnixDatagram::bind(tree.path.join("socket")).unwrap();
        assert_eq!(listen("socket").err(), Some(Errno::PROTOTYPE));
        assert_eq!(listen_unix(b"").err(), Some(Errno::NOENT));
    }
}
