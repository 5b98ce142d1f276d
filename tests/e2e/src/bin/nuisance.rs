//! Burdens PID 1 of a guest. Runs in guests only.
//!
//! | arguments | effect |
//! | --- | --- |
//! | `orphans COUNT` | leaves PID 1 COUNT children that sleep |
//! | `storm COUNT SECONDS` | COUNT processes leave PID 1 orphans that end at once, without a pause |
//! | `overflow PID` | moves the stack pointer of PID to unmapped memory |
//! | `hang DIRECTORY` | mounts a FUSE file system that never answers |
//!
//! As PID 1 it remounts the root read-only, as a kernel mounts it, and executes the agent.

use std::ffi::CString;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

fn main() {
    gaunt_e2e::assert_in_guest();
    if std::process::id() == 1 {
        start_agent();
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse().expect("a number");
    match words[..] {
        ["orphans", count] => orphans(number(count)),
        ["storm", count, seconds] => storm(number(count), number(seconds)),
        ["overflow", pid] => overflow(number(pid) as i32),
        ["hang", directory] => hang(directory),
        _ => panic!("unexpected arguments: {words:?}"),
    }
}

fn start_agent() -> ! {
    let root = CString::new("/").expect("no NUL");
    let flags = libc::MS_REMOUNT | libc::MS_RDONLY;
    let none = std::ptr::null();
    // SAFETY: mount reads a string that outlives the call; a remount reads no other argument.
    let mounted = unsafe { libc::mount(none, root.as_ptr(), none, flags, none.cast()) };
    assert!(mounted == 0, "mount: {}", std::io::Error::last_os_error());
    let mut agent = Command::new("/usr/bin/gaunt");
    let error = agent.args(std::env::args_os().skip(1)).exec();
    panic!("the agent: {error}");
}

/// Runs `child` in a child process.
fn fork(child: impl FnOnce()) {
    // SAFETY: this process has one thread, so the child may run any code.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        child();
        // SAFETY: _exit takes a number and runs no exit handler.
        unsafe { libc::_exit(0) };
    }
}

fn sleep() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn orphans(count: u64) {
    for _ in 0..count {
        fork(|| sleep());
    }
}

/// Leaves orphans as fast as possible: they share the memory of their parent, so nothing is copied.
fn storm(count: u64, seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    for _ in 0..count {
        fork(|| {
            let mut stack = vec![[0u128; 1024]; 2];
            while Instant::now() < end {
                let [outer, inner] = &mut stack[..] else {
                    return;
                };
                let inner = inner.as_mut_ptr_range().end.cast();
                let middle = spawn(leave_orphan, outer.as_mut_ptr_range().end.cast(), inner);
                // SAFETY: with a null pointer waitpid writes no status.
                unsafe { libc::waitpid(middle, std::ptr::null_mut(), 0) };
            }
        });
    }
}

/// The main function of a cloned child.
type Body = extern "C" fn(*mut libc::c_void) -> libc::c_int;

/// Runs `body` in a child that shares this process's memory, on a stack that ends at `stack`.
fn spawn(body: Body, stack: *mut libc::c_void, given: *mut libc::c_void) -> i32 {
    // SAFETY: the inner stack may serve several orphans at once, which all run `end_at_once` and use no
    // value on it. The outer stack serves one child, whose parent waits for it.
    unsafe { libc::clone(body, stack, libc::CLONE_VM | libc::SIGCHLD, given) }
}

extern "C" fn leave_orphan(stack: *mut libc::c_void) -> libc::c_int {
    spawn(end_at_once, stack, std::ptr::null_mut());
    0
}

extern "C" fn end_at_once(_: *mut libc::c_void) -> libc::c_int {
    0
}

#[cfg(target_arch = "x86_64")]
fn overflow(pid: i32) {
    let none = std::ptr::null_mut::<libc::c_void>();
    let trace = |request, data: *mut libc::c_void| {
        // SAFETY: each request below reads or writes the registers at `data`, or uses no memory.
        let result = unsafe { libc::ptrace(request, pid, none, data) };
        assert!(result == 0, "ptrace: {}", std::io::Error::last_os_error());
    };
    trace(libc::PTRACE_ATTACH, none);
    // SAFETY: with a null pointer waitpid writes no status.
    let stopped = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
    assert_eq!(stopped, pid);
    // SAFETY: all members are integers, for which zero is a valid value.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    trace(
        libc::PTRACE_GETREGS,
        std::ptr::from_mut(&mut registers).cast(),
    );
    // The kernel maps nothing at the lowest addresses.
    registers.rsp = 4096;
    trace(
        libc::PTRACE_SETREGS,
        std::ptr::from_mut(&mut registers).cast(),
    );
    trace(libc::PTRACE_DETACH, none);
}

#[cfg(not(target_arch = "x86_64"))]
fn overflow(_: i32) {
    panic!("not written for this processor");
}

fn hang(directory: &str) {
    let text = |text: &str| CString::new(text).expect("no NUL");
    let (directory, kind) = (text(directory), text("fuse"));
    // SAFETY: open and mount read strings that outlive the calls.
    unsafe {
        let fuse = libc::open(text("/dev/fuse").as_ptr(), libc::O_RDWR);
        let data = text(&format!("fd={fuse},rootmode=40000,user_id=0,group_id=0"));
        let mounted = libc::mount(
            kind.as_ptr(),
            directory.as_ptr(),
            kind.as_ptr(),
            0,
            data.as_ptr().cast(),
        );
        assert!(mounted == 0, "mount: {}", std::io::Error::last_os_error());
    }
    // No process ever reads the kernel's requests.
    sleep()
}
