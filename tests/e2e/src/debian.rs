//! The Debian guest of `image/debian`: systemd, udev, PostgreSQL, MariaDB and Redis.
//!
//! Its disk is made once and never written to: guests get a layer of their own on top of it. What is
//! to be installed travels in the initramfs, which puts it onto the disk (`image/debian-init.sh`).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cpio::{Cpio, appended};
use crate::guest::{Image, Machine};
use crate::process::{program, run};
use crate::{image_file, top, wait};

/// Memory that it needs with all its databases.
pub const MEMORY_MIB: u32 = 768;

/// What making the disk may take: it is installed from packages.
const MAKING: Duration = Duration::from_secs(540);

/// Makes a disk for one guest. The layer refers to the disk by a name in its own directory.
pub fn disk(directory: &Path, name: &str) {
    run(&mut Command::new(top().join("image/debian")), MAKING);
    let cached = top().join("image/cache/debian/root.raw");
    let base = directory.join("root.raw");
    // Another file system than the cache's has no such link.
    if std::fs::hard_link(&cached, &base).is_err() {
        let words = ["--sparse=always", "--reflink=auto"];
        run(
            Command::new("cp").args(words).args([&cached, &base]),
            wait::ANSWER,
        );
    }
    run(
        Command::new(program("qemu-img", "qemu-utils"))
            .current_dir(directory)
            .args(["create", "-q", "-f", "qcow2", "-b", "root.raw", "-F", "raw"])
            .arg(name),
        wait::ANSWER,
    );
}

/// What its initramfs has besides the busybox image: its own first program, and what is to be
/// installed, a tree that `make install` has laid out.
pub fn overlay(installed: Option<&Path>) -> Vec<u8> {
    let mut archive = Cpio::new().copy("init", &top().join("image/debian-init.sh"));
    if let Some(tree) = installed {
        archive = archive.tree("install", tree);
    }
    archive.finish()
}

/// Its initramfs as one file.
pub fn initramfs(installed: Option<&Path>) -> Vec<u8> {
    appended(&image_file("busybox.cpio.gz"), &overlay(installed))
}

/// A machine that boots from `disk`, with nothing installed besides.
pub fn machine(disk: &Path) -> Machine {
    Machine::new(Image::Busybox)
        .overlay(&overlay(None))
        .memory(MEMORY_MIB)
        .disk(disk)
}
