//! The Debian guest of `image/debian`: systemd, udev, PostgreSQL, MariaDB and Redis.
//!
//! Its disk is made once and stays unchanged: each guest writes to a qcow2 layer of its own above it.
//! Files to install travel in the initramfs; its init, `image/debian-init.sh`, copies them to the disk.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cpio::{Cpio, appended};
use crate::guest::{Image, Machine};
use crate::process::{program, run};
use crate::{image_file, top, wait};

/// Memory of the guest: enough for all databases.
pub const MEMORY_MIB: u32 = 768;

/// Time limit for making the disk, which installs packages.
const MAKING: Duration = Duration::from_secs(540);

/// Returns the directory of the packages that `image/debian` has fetched under this name.
pub fn packages(name: &str) -> PathBuf {
    let path = top().join("image/cache/debian").join(name);
    assert!(path.is_dir(), "no {}: run `image/debian`", path.display());
    path
}

/// Makes a disk for one guest: `name` in `directory`, a layer above `root.raw` there.
pub fn disk(directory: &Path, name: &str) {
    run(&mut Command::new(top().join("image/debian")), MAKING);
    let cached = top().join("image/cache/debian/root.raw");
    let base = directory.join("root.raw");
    // A hard link fails when the cache is on another file system.
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

/// Returns the archive that turns the busybox image into this guest's initramfs: its init, and the
/// files to install, a tree made by `make install`.
pub fn overlay(installed: Option<&Path>) -> Vec<u8> {
    let mut archive = Cpio::new().copy("init", &top().join("image/debian-init.sh"));
    if let Some(tree) = installed {
        archive = archive.tree("install", tree);
    }
    archive.finish()
}

/// Returns the whole initramfs.
pub fn initramfs(installed: Option<&Path>) -> Vec<u8> {
    appended(&image_file("busybox.cpio.gz"), &overlay(installed))
}

/// Returns a machine that boots from `disk`, with nothing to install.
pub fn machine(disk: &Path) -> Machine {
    Machine::new(Image::Busybox)
        .overlay(&overlay(None))
        .memory(MEMORY_MIB)
        .disk(disk)
}
