//! Makes and inspects disk images with file systems, without mounting them.

use crate::process::{program, run};
use crate::wait::ANSWER;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// A file system and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fs {
    /// ext4, 64 MiB.
    Ext4,
    /// ext4, 512 MiB: room for a database.
    LargeExt4,
    /// XFS, 320 MiB. mkfs.xfs refuses less than 300.
    Xfs,
    /// btrfs, 128 MiB. mkfs.btrfs refuses less than 109.
    Btrfs,
    /// No file system: 16 MiB of zeros.
    None,
}

/// Makes a raw disk image with a file system on the whole disk.
pub fn raw(path: &Path, fs: Fs) {
    let mib: u64 = match fs {
        Fs::Ext4 => 64,
        Fs::LargeExt4 => 512,
        Fs::Xfs => 320,
        Fs::Btrfs => 128,
        Fs::None => 16,
    };
    let file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.set_len(mib << 20).expect("a sparse file");
    match fs {
        // No lazy initialization: later only the test writes to the disk.
        Fs::Ext4 | Fs::LargeExt4 => run(
            Command::new(program("mkfs.ext4", "e2fsprogs"))
                .args([
                    "-q",
                    "-F",
                    "-E",
                    "lazy_itable_init=0,lazy_journal_init=0,nodiscard",
                ])
                .arg(path),
            ANSWER,
        ),
        Fs::Xfs => run(
            Command::new(program("mkfs.xfs", "xfsprogs"))
                .args(["-q", "-f", "-K"])
                .arg(path),
            ANSWER,
        ),
        Fs::Btrfs => run(
            Command::new(program("mkfs.btrfs", "btrfs-progs"))
                .args(["-q", "-K"])
                .arg(path),
            ANSWER,
        ),
        Fs::None => String::new(),
    };
}

/// Makes a raw disk image of 512 MiB with ext4 that holds a copy of the content of `directory`.
pub fn ext4_of(path: &Path, directory: &Path) {
    let file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.set_len(512 << 20).expect("a sparse file");
    run(
        Command::new(program("mkfs.ext4", "e2fsprogs"))
            .args(["-q", "-F", "-E", "nodiscard,root_owner=0:0", "-d"])
            .args([directory, path]),
        ANSWER,
    );
}

/// Returns the content of a file on an ext4 image that is not mounted.
pub fn ext4_file(path: &Path, name: &str) -> String {
    run(
        Command::new(program("debugfs", "e2fsprogs"))
            .args(["-R", &format!("cat {name}")])
            .arg(path),
        ANSWER,
    )
}

/// Makes a qcow2 disk image with a file system on the whole disk.
pub fn qcow2(path: &Path, fs: Fs) {
    let plain = path.with_extension("raw");
    raw(&plain, fs);
    run(
        Command::new(program("qemu-img", "qemu-utils"))
            .args(["convert", "-f", "raw", "-O", "qcow2"])
            .args([&plain, path]),
        ANSWER,
    );
    std::fs::remove_file(&plain).expect("it was just made");
}

/// Makes a raw disk image with one ext4 partition, which begins at 1 MiB.
pub fn partitioned(path: &Path) {
    const SECTOR: u32 = 512;
    const START: u32 = 2048;
    let sectors: u32 = 16 << 11;
    let mut table = vec![0; 512];
    let entry = &mut table[446..462];
    entry[4] = 0x83; // Linux
    entry[8..12].copy_from_slice(&START.to_le_bytes());
    entry[12..16].copy_from_slice(&sectors.to_le_bytes());
    table[510..].copy_from_slice(&[0x55, 0xAA]);
    std::fs::write(path, table).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = File::options()
        .write(true)
        .open(path)
        .expect("it was just made");
    file.set_len(u64::from(START + sectors) * u64::from(SECTOR))
        .expect("a sparse file");
    run(
        Command::new(program("mkfs.ext4", "e2fsprogs"))
            .args(["-q", "-F", "-E", "nodiscard,offset=1048576"])
            .arg(path)
            .arg(format!("{}k", sectors / 2)),
        ANSWER,
    );
}

/// Writes a partition table to an image, as sfdisk(8) reads it.
pub fn partition(path: &Path, table: &str) {
    let mut sfdisk = Command::new(program("sfdisk", "fdisk"))
        .arg("-q")
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("sfdisk");
    let mut input = sfdisk.stdin.take().expect("a pipe");
    input.write_all(table.as_bytes()).expect("the table");
    drop(input);
    assert!(sfdisk.wait().expect("sfdisk").success(), "{table}");
}

/// Makes a raw disk image with a GPT and partitions of 16 MiB with ext4, which have these names. Returns
/// the UUIDs of the partitions.
pub fn with_gpt(path: &Path, names: &[&str]) -> Vec<String> {
    const MIB: u64 = 1 << 20;
    let file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.set_len(64 * MIB).expect("a sparse file");
    let table: String = names
        .iter()
        .map(|name| format!("size=16MiB, name={name}\n"))
        .collect();
    partition(path, &format!("label: gpt\n{table}"));
    let uuids = (0..).zip(names).map(|(index, _)| {
        let offset = format!("nodiscard,offset={}", MIB + index * 16 * MIB);
        run(
            Command::new(program("mkfs.ext4", "e2fsprogs"))
                .args(["-q", "-F", "-E", &offset])
                .arg(path)
                .arg("16384k"),
            ANSWER,
        );
        let number = (index + 1).to_string();
        let said = run(
            Command::new(program("sfdisk", "fdisk"))
                .arg("--part-uuid")
                .arg(path)
                .arg(number),
            ANSWER,
        );
        said.trim().to_owned()
    });
    uuids.collect()
}

/// Copies a qcow2 image, to which nothing writes, to a raw image.
pub fn raw_copy(image: &Path, to: &Path) {
    run(
        Command::new(program("qemu-img", "qemu-utils"))
            .args(["convert", "-U", "-f", "qcow2", "-O", "raw"])
            .args([image, to]),
        ANSWER,
    );
}

/// Returns the bytes that a disk image occupies: holes do not count.
pub fn allocated(path: &Path) -> u64 {
    std::fs::metadata(path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .blocks()
        * 512
}

/// Returns whether an ext4 image needs no recovery, because it is unmounted or frozen.
///
/// The kernel clears the feature `needs_recovery` after it has written the journal back. A freeze does
/// that as well, so a freeze can be seen in the image.
pub fn ext4_is_clean(path: &Path) -> bool {
    let header = run(
        Command::new(program("dumpe2fs", "e2fsprogs"))
            .arg("-h")
            .arg(path),
        ANSWER,
    );
    let features = header
        .lines()
        .find(|line| line.starts_with("Filesystem features:"));
    !features
        .expect("dumpe2fs lists features")
        .contains("needs_recovery")
}
