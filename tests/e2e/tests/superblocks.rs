//! Super blocks and partition tables as the real tools write them: type, label and UUID are what blkid
//! and sfdisk say.
//!
//! No guest. Needs e2fsprogs, xfsprogs, btrfs-progs, dosfstools, squashfs-tools, erofs-utils, xorriso,
//! blkid and sfdisk.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use gaunt::parse::superblock::{Disk, Uuid, partition_uuid};
use gaunt::probe::volumes::{MEMORY, super_block};
use gaunt::sys::root::Root;
use gaunt_e2e::disk;
use gaunt_e2e::process::{program, run};
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::wait::ANSWER;

/// Makes a sparse file of this many MiB.
fn make(image: &Path, mib: u64) {
    let file = File::create(image).expect("an image");
    file.set_len(mib << 20).expect("a sparse file");
}

/// Makes a file system. In the words `IMAGE` stands for the image and `FILES` for a directory of files.
fn format(directory: &Path, image: &Path, mib: u64, package: &str, command: &str) {
    make(image, mib);
    let files = directory.join("files");
    let mut words = command.split(' ').map(|word| match word {
        "IMAGE" => image.as_os_str().to_owned(),
        "FILES" => files.as_os_str().to_owned(),
        word => word.replace('~', " ").into(),
    });
    let tool = words.next().expect("a program");
    let tool = program(tool.to_str().expect("a plain name"), package);
    run(Command::new(tool).args(words), ANSWER);
}

/// Overwrites bytes of an image.
fn write(image: &Path, at: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(image);
    let file = file.expect("the image");
    file.write_all_at(bytes, at).expect("bytes of the image");
}

/// What blkid finds in an image; empty for nothing.
fn blkid(image: &Path, what: &str) -> String {
    let mut command = Command::new(program("blkid", "util-linux"));
    command.args(["-p", "-o", "value", "-s", what]).arg(image);
    let said = command.output().expect("blkid").stdout;
    let said = String::from_utf8(said).expect("UTF-8");
    said.trim_end_matches('\n').to_owned()
}

/// Compares what the agent finds in an image with what blkid finds.
fn compare(image: &Path) -> String {
    let directory = image.parent().expect("a directory").to_str();
    let root = CString::new(directory.expect("UTF-8")).expect("no NUL");
    let root = Root::open(&root).expect("the directory");
    let name = image.file_name().and_then(|name| name.to_str());
    let mut memory = vec![0xAA; MEMORY];
    let found = super_block(&root, name.expect("a name").as_bytes(), &mut memory);
    let [kind, label, uuid] = ["TYPE", "LABEL", "UUID"].map(|what| blkid(image, what));
    let said = format!("{kind}, label '{label}', UUID '{uuid}'");
    let found = found.unwrap_or_else(|| panic!("not found: {said}"));
    assert_eq!(String::from_utf8_lossy(found.kind), kind, "{said}");
    if label.is_empty() {
        assert!(!found.has_label(b"data"), "{said}");
    } else {
        assert!(found.has_label(label.as_bytes()), "{said}");
        for other in [format!("{label}x"), label[1..].to_owned()] {
            assert!(!found.has_label(other.as_bytes()), "{said}: {other}");
        }
    }
    let parsed = Uuid::parse(uuid.as_bytes());
    assert_eq!(parsed == Some(found.uuid), !uuid.is_empty(), "{said}");
    said
}

#[test]
fn file_systems_are_recognized_as_by_blkid() {
    let scratch = Scratch::new();
    let directory = scratch.join("images");
    fs::create_dir_all(directory.join("files")).expect("a directory");
    // Long names come before a label that is set afterwards.
    for name in ["a file with a long name", "another file with a long name"] {
        fs::write(directory.join("files").join(name), "content").expect("a file");
    }
    let image = directory.join("image");
    for (mib, package, command) in [
        (8, "e2fsprogs", "mke2fs -q -F -t ext2 -L two IMAGE"),
        (8, "e2fsprogs", "mke2fs -q -F -t ext3 IMAGE"),
        (
            16,
            "e2fsprogs",
            "mke2fs -q -F -t ext3 -L sixteen~letters! IMAGE",
        ),
        (16, "e2fsprogs", "mkfs.ext4 -q -F -L data IMAGE"),
        (
            16,
            "e2fsprogs",
            "mkfs.ext4 -q -F -O ^has_journal,^metadata_csum -b 1024 IMAGE",
        ),
        (320, "xfsprogs", "mkfs.xfs -q -f -K -L twelve-bytes IMAGE"),
        (
            320,
            "xfsprogs",
            "mkfs.xfs -q -f -K -m crc=0,bigtime=0,inobtcount=0,reflink=0 IMAGE",
        ),
        (
            128,
            "btrfs-progs",
            "mkfs.btrfs -q -K -L a~long~label~of~btrfs,~longer~than~others IMAGE",
        ),
        (128, "btrfs-progs", "mkfs.btrfs -q -K IMAGE"),
        (2, "dosfstools", "mkfs.vfat -F 12 -n TWELVE IMAGE"),
        (16, "dosfstools", "mkfs.vfat -F 16 -n SIX~TEEN IMAGE"),
        (16, "dosfstools", "mkfs.vfat -F 16 -r 4096 IMAGE"),
        (40, "dosfstools", "mkfs.vfat -F 32 -n THIRTY-TWO IMAGE"),
        (40, "dosfstools", "mkfs.vfat -F 32 -s 1 -f 1 -R 64 IMAGE"),
        (
            256,
            "dosfstools",
            "mkfs.vfat -F 32 -S 4096 -n SECTORS IMAGE",
        ),
        (
            0,
            "squashfs-tools",
            "mksquashfs FILES IMAGE -quiet -noappend",
        ),
        (0, "erofs-utils", "mkfs.erofs --quiet IMAGE FILES"),
        (
            0,
            "xorriso",
            "xorriso -as mkisofs -quiet -V data -o IMAGE FILES",
        ),
        (
            0,
            "xorriso",
            "xorriso -as mkisofs -quiet -J -r -V cidata -o IMAGE FILES",
        ),
        (
            0,
            "xorriso",
            "xorriso -as mkisofs -quiet -J -V a~label~of~more~than~sixteen -o IMAGE FILES",
        ),
        (
            0,
            "xorriso",
            "xorriso -as mkisofs -quiet -J -V DISK --modification-date=2020010203040506 -o IMAGE FILES",
        ),
    ] {
        let _ = fs::remove_file(&image);
        format(&directory, &image, mib, package, command);
        println!("{command}: {}", compare(&image));
        if package == "erofs-utils" {
            // Not every version of the tool can set a label.
            write(&image, 1088, b"data");
            assert_eq!(blkid(&image, "LABEL"), "data");
            println!("with a label: {}", compare(&image));
        }
    }
}

#[test]
fn label_of_vfat_is_not_that_of_its_boot_sector() {
    let scratch = Scratch::new();
    let directory = scratch.join("images");
    fs::create_dir_all(&directory).expect("a directory");
    let image = directory.join("image");
    format(
        &directory,
        &image,
        16,
        "dosfstools",
        "mkfs.vfat -F 16 -n ROOT IMAGE",
    );
    write(&image, 43, b"BOOT       ");
    assert_eq!(blkid(&image, "LABEL"), "ROOT");
    println!("{}", compare(&image));
}

#[test]
fn partitions_are_recognized_as_by_sfdisk() {
    let scratch = Scratch::new();
    let image = scratch.join("image");
    let sfdisk = program("sfdisk", "fdisk");
    for (table, count) in [("gpt", 4), ("dos", 3), ("dos", 6)] {
        let _ = fs::remove_file(&image);
        make(&image, 64);
        let mut lines = format!("label: {table}\n");
        for number in 1..=count {
            // The fourth of six contains the others.
            let kind = if table == "dos" && number == 4 {
                ",type=5"
            } else {
                ""
            };
            let size = if kind.is_empty() {
                "size=4MiB"
            } else {
                "size=30MiB"
            };
            lines += &format!("{size}{kind}\n");
        }
        disk::partition(&image, &lines);
        let mut start: Box<Disk> = vec![0; size_of::<Disk>()]
            .try_into()
            .expect("as long as the beginning of a disk");
        let file = File::open(&image).expect("the image");
        file.read_exact_at(&mut start[..], 0).expect("64 MiB");
        let of_disk = run(Command::new(&sfdisk).arg("--disk-id").arg(&image), ANSWER);
        for number in 1..=count {
            let uuid = match table {
                "gpt" => run(
                    Command::new(&sfdisk)
                        .arg("--part-uuid")
                        .arg(&image)
                        .arg(number.to_string()),
                    ANSWER,
                ),
                // As the kernel and blkid compose it.
                _ => format!("{}-{number:02x}", of_disk.trim().trim_start_matches("0x")),
            };
            let uuid = uuid.trim();
            println!("{table} {number}: {uuid}");
            assert_eq!(
                Some(partition_uuid(&start, number)),
                Uuid::parse(uuid.as_bytes())
            );
        }
    }
}
