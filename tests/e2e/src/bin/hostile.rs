//! Makes paths that are hard for the agent to look up. Runs in guests only.
//!
//! | arguments | effect |
//! | --- | --- |
//! | `exchange A B` | as user 1000, exchanges the names of two directories for ever |
//! | `mute DIRECTORY` | mounts a FUSE file system that every user may enter and that never answers |
//! | `deep DEVICE DIRECTORY` | mounts ext4 below `DIRECTORY`, at a path of more than 16 KiB |

use std::ffi::CString;
use std::io::{Error, Write};
use std::os::fd::AsRawFd;

/// Number of directories above the mount point of `deep`, and letters in each name.
const DEEP: usize = 70;
const LETTERS: usize = 250;

fn main() {
    gaunt_e2e::assert_in_guest();
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[1..] {
        ["exchange", one, other] => exchange(one, other),
        ["mute", directory] => mute(directory),
        ["deep", device, directory] => deep(device, directory),
        _ => panic!("expected exchange, mute or deep"),
    }
}

fn c_string(text: &str) -> CString {
    CString::new(text).expect("no NUL")
}

fn exchange(one: &str, other: &str) {
    let (one, other) = (c_string(one), c_string(other));
    // SAFETY: the calls take numbers, and strings that end in a NUL and outlive them.
    unsafe {
        assert_eq!(libc::setgid(1000), 0);
        assert_eq!(libc::setuid(1000), 0);
        loop {
            let (from, to) = (one.as_ptr(), other.as_ptr());
            let here = libc::AT_FDCWD;
            let done = libc::renameat2(here, from, here, to, libc::RENAME_EXCHANGE);
            assert_eq!(done, 0, "{}", Error::last_os_error());
        }
    }
}

fn mount(source: &str, directory: &str, kind: &str, data: &str) {
    let [source, directory, kind, data] = [source, directory, kind, data].map(c_string);
    // SAFETY: mount takes strings that end in a NUL and outlive the call.
    let done = unsafe {
        libc::mount(
            source.as_ptr(),
            directory.as_ptr(),
            kind.as_ptr(),
            0,
            data.as_ptr().cast(),
        )
    };
    assert_eq!(done, 0, "{}", Error::last_os_error());
}

fn mute(directory: &str) {
    let device = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .expect("a kernel with FUSE");
    let data = format!(
        "fd={},rootmode=40000,user_id=1000,group_id=1000,allow_other",
        device.as_raw_fd()
    );
    mount("mute", directory, "fuse", &data);
    println!("mounted");
    std::io::stdout().flush().expect("standard output");
    loop {
        std::thread::park();
    }
}

fn deep(device: &str, directory: &str) {
    std::env::set_current_dir(directory).expect("a directory");
    let name = "x".repeat(LETTERS);
    for _ in 0..DEEP {
        std::fs::create_dir(&name).expect("a new directory");
        std::env::set_current_dir(&name).expect("a new directory");
    }
    mount(device, ".", "ext4", "");
}
