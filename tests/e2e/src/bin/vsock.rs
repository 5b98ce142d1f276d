//! The other end of vsock connections. Runs in guests only.
//!
//! | arguments | effect |
//! | --- | --- |
//! | `clients CID PORT COUNT` | COUNT clients at once, each of which pings in turn, three times; prints the replies |
//! | `receive PORT` | prints what the first connection sends |
//! | `ready TYPE PORT` | `listening`, then the peer's port and what the first connection to a socket of this type, a number, sends |

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};

/// `VMADDR_CID_ANY`.
const ANY: u32 = u32::MAX;

fn main() {
    gaunt_e2e::assert_in_guest();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse().expect("a number");
    match words[..] {
        ["clients", cid, port, count] => clients(number(cid), number(port), number(count)),
        ["receive", port] => println!("{}", receive(libc::SOCK_STREAM, number(port), || ()).1),
        ["ready", kind, port] => {
            let kind = kind.parse().expect("a number");
            let (from, text) = receive(kind, number(port), || println!("listening"));
            println!("{from} {text}");
        }
        _ => panic!("unexpected arguments: {words:?}"),
    }
}

fn clients(cid: u32, port: u32, count: u32) {
    let mut clients: Vec<_> = (0..count)
        .map(|_| {
            let (socket, address) = (socket(), address(cid, port));
            // SAFETY: connect reads one address of the given size.
            checked("connect", unsafe {
                libc::connect(raw(&socket), (&raw const address).cast(), LEN)
            });
            BufReader::new(File::from(socket))
        })
        .collect();
    for round in 0..3 {
        for (client, stream) in clients.iter_mut().enumerate() {
            let id = round * 10 + client;
            let request = format!("{{\"execute\": \"guest-ping\", \"id\": {id}}}\n");
            // A connection that was refused fails here or below.
            let _ = stream.get_mut().write_all(request.as_bytes());
        }
        for stream in &mut clients {
            let mut line = String::new();
            match stream.read_line(&mut line) {
                Ok(0) | Err(_) => println!("closed"),
                Ok(_) => print!("{line}"),
            }
        }
    }
}

/// Returns the port of the first connection, and what it sends.
fn receive(kind: i32, port: u32, listens: impl Fn()) -> (u32, String) {
    let (listener, mut address) = (socket_of(kind), address(ANY, port));
    // SAFETY: bind reads one address of the given size.
    checked("bind", unsafe {
        libc::bind(raw(&listener), (&raw const address).cast(), LEN)
    });
    // SAFETY: accept writes one address of the given size.
    let connection = unsafe {
        checked("listen", libc::listen(raw(&listener), 1));
        listens();
        let mut len = LEN;
        let peer = (&raw mut address).cast();
        let fd = libc::accept(raw(&listener), peer, &raw mut len);
        checked("accept", fd);
        OwnedFd::from_raw_fd(fd)
    };
    let mut text = String::new();
    let _ = File::from(connection).read_to_string(&mut text);
    (address.svm_port, text)
}

const LEN: u32 = size_of::<libc::sockaddr_vm>() as u32;

fn address(cid: u32, port: u32) -> libc::sockaddr_vm {
    libc::sockaddr_vm {
        svm_family: libc::AF_VSOCK as u16,
        svm_reserved1: 0,
        svm_port: port,
        svm_cid: cid,
        svm_zero: [0; 4],
    }
}

fn socket() -> OwnedFd {
    socket_of(libc::SOCK_STREAM)
}

fn socket_of(kind: i32) -> OwnedFd {
    // SAFETY: socket takes numbers; the descriptor is new.
    unsafe {
        let fd = libc::socket(libc::AF_VSOCK, kind, 0);
        checked("socket", fd);
        OwnedFd::from_raw_fd(fd)
    }
}

fn raw(socket: &OwnedFd) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(socket)
}

fn checked(what: &str, result: i32) {
    assert!(result >= 0, "{what}: {}", std::io::Error::last_os_error());
}
