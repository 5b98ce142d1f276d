//! Helpers of the end-to-end tests: agents, guests, libvirt, and clients that talk to them.
//!
//! | module | holds |
//! | --- | --- |
//! | `agent` | an agent on a unix socket of this machine, without privileges |
//! | `guest` | a QEMU guest with one of the images of `image/` |
//! | `shell` | commands on the guest's second serial port |
//! | `client` | a client of the protocol, line by line |
//! | `connection` | a stream socket that is read up to a marker |
//! | `reference` | the qemu-ga that gaunt is compared with |
//! | `compare` | sends the same requests to gaunt and to qemu-ga |
//! | `damage` | damaged requests, reproducible by a seed |
//! | `libvirt` | a private libvirt daemon with one domain |
//! | `debian` | a Debian guest with systemd, udev and databases |
//! | `disk` | disk images with file systems |
//! | `tree` | made-up directories that replace the machine's for one agent |
//! | `cpio`, `modules` | files and kernel modules added to an image for one test |
//! | `checks` | many checks on one guest, each reported on its own |
//! | `base64` | base64 for arguments and replies |
//! | `process`, `scratch`, `wait` | children that die with the tests, temporary directories, time limits |
//!
//! Rules:
//! - Every wait has a limit.
//! - What must happen is waited for, not expected after a pause. What must not happen is looked for after
//!   a pause, which lets a test pass if it is too short, and never makes one fail.
//! - Each check sets up what it needs, so a check that fails is the only one that fails.
//! - A program that is not installed fails the test, and the message names its Debian package.
//! - Nothing runs with more privileges than it needs: an agent with root's privileges on this machine
//!   would freeze it, as if it were its guest.

pub mod agent;
pub mod base64;
pub mod checks;
pub mod client;
pub mod compare;
pub mod connection;
pub mod cpio;
pub mod damage;
pub mod debian;
pub mod disk;
pub mod guest;
pub mod libvirt;
pub mod modules;
pub mod process;
pub mod reference;
pub mod scratch;
pub mod shell;
pub mod tree;
pub mod wait;

use std::path::{Path, PathBuf};

/// Returns the top of the source tree.
pub fn top() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("../..").canonicalize().expect("the source tree")
}

/// Returns the agent's release build, or the file that `AGENT` names.
pub fn agent_binary() -> PathBuf {
    let target = std::env::var("TARGET").unwrap_or_else(|_| "x86_64-unknown-linux-musl".into());
    let path = match std::env::var_os("AGENT") {
        Some(path) => PathBuf::from(path),
        None => top().join("target").join(target).join("release/gaunt"),
    };
    assert!(
        path.exists(),
        "no agent at {}: run `make build`",
        path.display()
    );
    path
}

/// Returns the plain build of the agent, made by stable Rust.
pub fn plain_binary() -> PathBuf {
    let path = top().join("target/plain/x86_64-unknown-linux-musl/release/gaunt");
    assert!(path.exists(), "no {}: run `make plain`", path.display());
    path
}

/// Returns the build of the agent that has only the commands of this set, `lifecycle` or `info`.
pub fn limited_binary(set: &str) -> PathBuf {
    let path = top().join(format!(
        "target/{set}/x86_64-unknown-linux-musl/release/gaunt"
    ));
    assert!(path.exists(), "no {}: run `make limited`", path.display());
    path
}

/// Returns a file of `target/image/`.
pub fn image_file(name: &str) -> PathBuf {
    let path = top().join("target/image").join(name);
    assert!(path.exists(), "no {}: run `make image`", path.display());
    path
}

/// Panics unless this machine is a guest of the tests. For programs that would harm any other machine.
pub fn assert_in_guest() {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    assert!(release.contains("ID=gaunt"), "not a guest of the tests");
}
