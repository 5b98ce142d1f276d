//! What the end-to-end tests stand on: agents, guests, libvirt, and clients that talk to them.
//!
//! | module | holds |
//! | --- | --- |
//! | `agent` | an agent on a unix socket of this machine, without privileges |
//! | `guest` | a QEMU guest with one of the images of `image/` |
//! | `shell` | commands on the guest's second serial port |
//! | `client` | the protocol, line by line |
//! | `reference` | the qemu-ga that gaunt is compared with |
//! | `compare` | the same requests to gaunt and to qemu-ga |
//! | `damage` | requests that were damaged on the way |
//! | `libvirt` | a libvirt daemon of our own, and domains in it |
//! | `debian` | a Debian guest with systemd, udev and databases |
//! | `disk` | file systems made on the host |
//! | `tree` | made-up directories that an agent takes for its machine's |
//! | `cpio`, `modules` | files and kernel modules added to an image for one test |
//! | `checks` | many checks on one guest, each reported |
//! | `process`, `scratch`, `wait` | children that never outlive us, directories, time limits |
//!
//! Rules: everything waits with a limit; a program that is not installed fails the test and says
//! which package it is in; nothing here is run with more privileges than it needs, because an agent
//! that mistakes this machine for its guest would freeze it.

pub mod agent;
pub mod checks;
pub mod client;
pub mod compare;
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

/// The top of the source tree.
pub fn top() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("../..").canonicalize().expect("the source tree")
}

/// The agent's release build.
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

/// The plain build of the agent, by stable Rust.
pub fn plain_binary() -> PathBuf {
    let path = top().join("target/plain/x86_64-unknown-linux-musl/release/gaunt");
    assert!(path.exists(), "no {}: run `make plain`", path.display());
    path
}

/// A file of `target/image/`.
pub fn image_file(name: &str) -> PathBuf {
    let path = top().join("target/image").join(name);
    assert!(path.exists(), "no {}: run `make image`", path.display());
    path
}
