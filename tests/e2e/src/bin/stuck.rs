//! Processes that hinder a shutdown or a freeze. Runs in guests only.
//!
//! | arguments | effect |
//! | --- | --- |
//! | `memory UID DIRECTORY` | as a user, waits with its memory map locked for a FUSE server that never answers |
//! | `write UID DIRECTORY FILE` | as a user, writes to the file from memory that such a server never fills |
//! | `read UID DIRECTORY` | as a user, reads a file of such a server, and holds on to its connection |
//! | `image FILE DIRECTORY` | serves a copy of the file as `DIRECTORY/file`, by FUSE |
//! | `fork DIRECTORY` | as a user, forks for ever; each child writes to the file `forked` |
//! | `wait UID` | as a user, waits for SIGTERM and then prints its name and user on the console |
//!
//! Each appends its process id to `/run/stuck` when it is ready.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io::{Error, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::thread;
use std::time::Duration;

/// The user of the image.
const USER: u32 = 1000;

fn main() {
    gaunt_e2e::assert_in_guest();
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ready = File::options().append(true).create(true).open("/run/stuck");
    let ready = ready.expect("/run/stuck");
    match words[1..] {
        ["memory", user, directory] => memory(ready, user.parse().expect("a number"), directory),
        ["write", user, directory, file] => {
            write(ready, user.parse().expect("a number"), directory, file);
        }
        ["read", user, directory] => read(ready, user.parse().expect("a number"), directory),
        ["image", file, directory] => image(ready, file, directory),
        ["fork", directory] => fork(ready, directory),
        ["wait", user] => wait(ready, words[0], user.parse().expect("a number")),
        _ => panic!("expected memory, write, read, image, fork or wait"),
    }
}

fn say_ready(mut ready: &File) {
    writeln!(ready, "{}", std::process::id()).expect("/run/stuck");
}

/// Panics if a system call failed.
fn check(result: i32) {
    assert!(result >= 0, "{}", Error::last_os_error());
}

fn become_user(user: u32) {
    // SAFETY: these take numbers.
    unsafe {
        check(libc::setgid(user));
        check(libc::setuid(user));
        // Makes the user the owner of the files in /proc/self.
        check(libc::prctl(libc::PR_SET_DUMPABLE, 1));
    }
}

// memory

fn memory(ready: File, user: u32, directory: &str) {
    // The first two reads fail: the readahead before the page fault, and a read that the kernel makes with
    // the memory map unlocked.
    let (file, _) = mute_server(user, directory, 2);
    let mapped = map(Some(&file));
    // This thread reads the page, and waits for the server with the memory map locked for reading.
    thread::spawn(move || {
        // SAFETY: `map` has mapped a readable page there, which is never unmapped.
        unsafe { std::ptr::with_exposed_provenance::<u8>(mapped).read_volatile() }
    });
    thread::sleep(Duration::from_millis(300));
    say_ready(&ready);
    // A change of the map waits for that lock, and every later reader of the map waits behind it.
    map(None);
    panic!("the server answered");
}

/// Becomes a user in namespaces of its own, and starts a FUSE server there. Returns a file that it serves:
/// after some reads that fail, it never answers a read. And its connection, which stays as long as this
/// is open.
fn mute_server(user: u32, directory: &str, failing_reads: u32) -> (File, File) {
    // As in distributions.
    let everybody = Permissions::from_mode(0o666);
    std::fs::set_permissions("/dev/fuse", everybody).expect("a kernel with FUSE");
    become_user(user);
    // SAFETY: unshare takes a number.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) });
    for (file, content) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {user} 1")),
        ("gid_map", format!("0 {user} 1")),
    ] {
        std::fs::write(format!("/proc/self/{file}"), content).expect(file);
    }
    let fuse = mount_fuse(directory);
    // SAFETY: fork takes nothing, and there is no other thread yet.
    let child = unsafe { libc::fork() };
    check(child);
    if child == 0 {
        let server = Server {
            failing_reads,
            content: None,
        };
        server.serve(fuse);
    }
    let file = File::open(format!("{directory}/file")).expect("the server answers an open");
    (file, fuse)
}

fn mount_fuse(directory: &str) -> File {
    let fuse = File::options().read(true).write(true).open("/dev/fuse");
    let fuse = fuse.expect("a kernel with FUSE");
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0",
        fuse.as_raw_fd()
    );
    let [source, target, kind, data] =
        ["stuck", directory, "fuse", &data].map(|text| CString::new(text).expect("no NUL"));
    // SAFETY: mount takes strings that end in a NUL and outlive the call.
    unsafe {
        check(libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            libc::MS_NOSUID | libc::MS_NODEV,
            data.as_ptr().cast(),
        ));
    }
    fuse
}

// write

fn write(ready: File, user: u32, directory: &str, path: &str) {
    let (memory, _) = mute_server(user, directory, 0);
    let mapped = map(Some(&memory));
    let file = File::create(path).expect("a file of the user's");
    say_ready(&ready);
    // SAFETY: `map` has mapped a readable page there, which is never unmapped.
    let written = unsafe {
        let page = std::ptr::with_exposed_provenance(mapped);
        libc::write(file.as_raw_fd(), page, 4096)
    };
    println!("{written}: {}", Error::last_os_error());
}

// read

fn read(ready: File, user: u32, directory: &str) {
    // The readahead fails. The read behind it cannot be killed, not even with the server: only an abort
    // ends it.
    let (mut file, _connection) = mute_server(user, directory, 1);
    say_ready(&ready);
    let done = file.read(&mut [0]);
    panic!("an answer: {done:?}");
}

// image

fn image(ready: File, file: &str, directory: &str) {
    let content = std::fs::read(file).expect("an image");
    let fuse = mount_fuse(directory);
    say_ready(&ready);
    let server = Server {
        failing_reads: 0,
        content: Some(content),
    };
    server.serve(fuse)
}

/// Maps a page of a file, or anonymous memory. Returns its address.
fn map(file: Option<&File>) -> usize {
    let anonymous = if file.is_some() {
        0
    } else {
        libc::MAP_ANONYMOUS
    };
    // SAFETY: the kernel chooses an unused address, so no existing memory changes.
    let mapped = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ,
            libc::MAP_PRIVATE | anonymous,
            file.map_or(-1, AsRawFd::as_raw_fd),
            0,
        )
    };
    assert!(mapped != libc::MAP_FAILED, "{}", Error::last_os_error());
    mapped.expose_provenance()
}

/// A FUSE server with one file.
struct Server {
    /// Reads of the file that still fail.
    failing_reads: u32,
    /// The content of the file; without it, other reads are never answered.
    content: Option<Vec<u8>>,
}

impl Server {
    /// Answers the kernel.
    fn serve(mut self, mut fuse: File) -> ! {
        let mut request = vec![0; 1 << 20];
        loop {
            let Ok(len) = fuse.read(&mut request) else {
                std::process::exit(0);
            };
            assert!(len >= 40, "a whole header");
            let Some((error, body)) = self.answer(&request[..len]) else {
                continue;
            };
            let mut reply = pack(&[(16 + body.len() as u64, 4)], 4);
            reply.extend_from_slice(&i32::to_ne_bytes(error));
            reply.extend_from_slice(&request[8..16]);
            reply.extend(body);
            let _ = fuse.write(&reply);
        }
    }

    /// Returns the error number and the body of the answer to a request; `None` for no answer.
    fn answer(&mut self, request: &[u8]) -> Option<(i32, Vec<u8>)> {
        const LOOKUP: u32 = 1;
        const GETATTR: u32 = 3;
        const SETATTR: u32 = 4;
        const WRITE: u32 = 16;
        const GETXATTR: u32 = 22;
        const NO_SUCH_CALL: i32 = -38;
        const OPEN: u32 = 14;
        const READ: u32 = 15;
        const INIT: u32 = 26;
        const FORGET: u32 = 2;
        const IO_ERROR: i32 = -5;
        let number = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().expect("four"));
        let (operation, node) = (number(4), number(16));
        let bytes = self.content.as_ref().map_or(1 << 20, Vec::len) as u64;
        // Offset and size of a read or write.
        let range = || {
            let start = number(48) as usize;
            let end = start + number(56) as usize;
            start..end.min(bytes as usize)
        };
        let body = match operation {
            READ if self.failing_reads > 0 => {
                self.failing_reads -= 1;
                return Some((IO_ERROR, Vec::new()));
            }
            READ => self.content.as_ref()?.get(range())?.to_vec(),
            WRITE => {
                let data = &request[80..];
                self.content.as_mut()?[range()].copy_from_slice(data);
                pack(&[(data.len() as u64, 4)], 8)
            }
            FORGET => return None,
            GETXATTR => return Some((NO_SUCH_CALL, Vec::new())),
            // Major and minor version, readahead, flags, requests at once, largest write; then zeros.
            INIT => pack(&[(7, 4), (31, 4), (4096, 4), (0, 4), (0, 4), (4096, 4)], 64),
            LOOKUP => [pack(&[(2, 8)], 40), attributes(2, bytes)].concat(),
            GETATTR | SETATTR => [pack(&[], 16), attributes(node, bytes)].concat(),
            OPEN => pack(&[], 16),
            _ => Vec::new(),
        };
        Some((0, body))
    }
}

/// Packs numbers, each with its width in bytes, and then zeros up to `len`.
fn pack(numbers: &[(u64, usize)], len: usize) -> Vec<u8> {
    let mut packed = Vec::new();
    for (number, width) in numbers {
        packed.extend_from_slice(&number.to_le_bytes()[..*width]);
    }
    packed.resize(len, 0);
    packed
}

/// Returns the `struct fuse_attr` of the root directory or of the file.
fn attributes(node: u32, bytes: u64) -> Vec<u8> {
    let mode = if node == 1 { 0o040_755 } else { 0o100_644 };
    let times = [(0, 8); 3];
    let head = [(node.into(), 8), (bytes, 8), (bytes / 512, 8)];
    let numbers = [
        &head[..],
        &times,
        &[(0, 4), (0, 4), (0, 4), (mode, 4), (1, 4)],
    ]
    .concat();
    pack(&numbers, 88)
}

// fork

fn fork(ready: File, directory: &str) {
    become_user(USER);
    // Overwritten and never truncated, so that a reader finds a number at any moment.
    let forked = File::create(format!("{directory}/forked")).expect("a file of the user's");
    forked.write_all_at(b"0", 0).expect("a disk with room");
    say_ready(&ready);
    for count in 1_u64.. {
        // SAFETY: fork takes nothing, and there is no other thread.
        let child = unsafe { libc::fork() };
        if child != 0 {
            // The child continues as an orphan under a new process id.
            std::process::exit(0);
        }
        // SAFETY: signal takes two numbers here.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        let _ = forked.write_all_at(count.to_string().as_bytes(), 0);
    }
}

// wait

fn wait(ready: File, name: &str, user: u32) {
    let mut console = File::options()
        .write(true)
        .open("/dev/console")
        .expect("a console");
    become_user(user);
    // SAFETY: a signal set is integers, which these calls fill in and read; it outlives them.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        say_ready(&ready);
        let mut signal = 0;
        libc::sigwait(&set, &mut signal);
    }
    // If SIGKILL comes too early, the line below is missing.
    thread::sleep(Duration::from_secs(1));
    let line = format!("got SIGTERM: {name} of {user}\n");
    console.write_all(line.as_bytes()).expect("a console");
}
