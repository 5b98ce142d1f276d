//! Devices by the labels and UUIDs of file systems and partitions, without udev.
//!
//! Every block device of /sys/class/block is looked at, in the order of that directory; the first that
//! fits counts. Names of partitions are the kernel's, which has `!` for what is not ASCII.
//!
//! Not looked at: what lies below RAID, LVM or encryption.

use super::block::{self, BlockName, node_of};
use super::sysfs::attribute;
use crate::base::limits::{LABEL_DIRECTORY_BYTES, SUPER_BLOCK_BYTES};
use crate::base::path::Path;
use crate::base::text::parse_u32;
use crate::parse::fstab::Tag;
use crate::parse::superblock::{Disk, SuperBlock, label_in, partition_uuid};
use crate::parse::udev::property;
use crate::sys::root::{Root, relative};

/// Bytes that are read of one device, which all functions here take from their caller.
pub const MEMORY: usize = SUPER_BLOCK_BYTES + LABEL_DIRECTORY_BYTES;

/// A `uevent` file, in bytes. The name of a partition has at most 72.
const UEVENT_BYTES: usize = 512;

/// The node of the device that has this tag.
pub fn find(root: &Root, tag: &Tag<'_>, memory: &mut [u8]) -> Option<BlockName> {
    let mut node = BlockName::new();
    let mut is_found = false;
    // Without sysfs there are no devices.
    let _ = root.list_at(&[b"sys/class/block"], &mut |name, _| {
        let mut path = Path::of(&[b"sys/class/block/", name]);
        let mut buffer = [0; UEVENT_BYTES];
        let facts = attribute(root, &path, b"/uevent", &mut buffer);
        node = node_of(facts);
        is_found = has_tag(root, &mut path, facts, &node, tag, memory) == Some(true);
        !is_found
    });
    is_found.then_some(node)
}

/// Whether the device at `path`, with this node and `uevent` file, has the tag.
fn has_tag(
    root: &Root,
    path: &mut Path,
    facts: &[u8],
    node: &[u8],
    tag: &Tag<'_>,
    memory: &mut [u8],
) -> Option<bool> {
    Some(match *tag {
        Tag::Label(label) => super_block(root, node, memory)?.has_label(label),
        Tag::Uuid(uuid) => super_block(root, node, memory)?.uuid == uuid,
        Tag::PartLabel(label) => property(facts, b"PARTNAME") == label,
        Tag::PartUuid(uuid) => {
            let number = parse_u32(property(facts, b"PARTN"))?;
            path.push(b"/..");
            let (disk, _) = read(root, &block::node(root, path), memory)?;
            partition_uuid(disk, number) == uuid
        }
    })
}

/// The super block on the device with this node.
// Not inlined, to keep one copy of the code.
#[inline(never)]
pub fn super_block<'m>(root: &Root, node: &[u8], memory: &'m mut [u8]) -> Option<SuperBlock<'m>> {
    let (disk, directory) = read(root, node, memory)?;
    let mut found = SuperBlock::find(disk)?;
    let (offset, len) = found.directory;
    if let Some(room @ [_, ..]) = directory.get_mut(..len) {
        let directory = root.read_from(&[relative(node)], offset, room);
        found.label = label_in(directory.unwrap_or_default());
    }
    Some(found)
}

/// Reads the beginning of the device with this node; returns it and the rest of the memory.
// Not inlined, to keep one copy of the code.
#[inline(never)]
fn read<'m>(root: &Root, node: &[u8], memory: &'m mut [u8]) -> Option<(&'m Disk, &'m mut [u8])> {
    let (disk, rest) = memory.split_first_chunk_mut::<SUPER_BLOCK_BYTES>()?;
    let len = root.read_from(&[relative(node)], 0, disk).ok()?.len();
    disk.get_mut(len..)?.fill(0);
    Some((disk, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    /// Adds a device, with these bytes at these offsets.
    fn add(tree: &Tree, directory: &str, name: &str, facts: &str, fields: &[(usize, &[u8])]) {
        let path = format!("sys/devices/{directory}{name}");
        tree.file(
            format!("{path}/uevent"),
            format!("MAJOR=254\nDEVNAME={name}\n{facts}"),
        );
        tree.link(
            format!("sys/class/block/{name}"),
            format!("../../devices/{directory}{name}"),
        );
        let mut content = Vec::new();
        for (at, field) in fields {
            content.resize(content.len().max(at + field.len()), 0);
            content[*at..][..field.len()].copy_from_slice(field);
        }
        tree.file(format!("dev/{name}"), content);
    }

    fn machine() -> Tree {
        let tree = Tree::new();
        let signature: [(usize, &[u8]); 2] = [(440, &[4, 3, 2, 1]), (510, b"\x55\xAA")];
        add(&tree, "", "vda", "", &signature);
        let xfs: [(usize, &[u8]); 2] = [(0, b"XFSB\0\0"), (108, b"data\0\0\0\0\0\0\0\0")];
        add(&tree, "vda/", "vda1", "PARTN=1\n", &[]);
        add(&tree, "vda/", "vda2", "PARTN=2\nPARTNAME=second\n", &xfs);
        // A reader without a disk, and a device without a node.
        tree.directory("dev/sr0");
        tree.file("sys/class/block/sr0/uevent", "DEVNAME=sr0\n");
        tree.directory("sys/class/block/ram0");
        // vfat whose label is far behind its beginning.
        let fat: [(usize, &[u8]); 5] = [
            (11, &[0, 2, 1, 32, 0, 2, 0, 0, 0, 0, 0xF8, 0, 0]),
            (36, &[200]),
            (44, &[2]),
            (67, &[0x78, 0x56, 0x34, 0x12]),
            (510, b"\x55\xAA"),
        ];
        let far = (32 + 2 * 200) * 512;
        let label: [(usize, &[u8]); 2] = [(far, b"FAR AWAY   \x08"), (far + 32, b"\0")];
        add(&tree, "", "sda", "", &[&fat[..], &label].concat());
        tree
    }

    #[test]
    fn devices_are_found_by_all_their_tags() {
        let tree = machine();
        for (source, node) in [
            ("LABEL=data", Some("/dev/vda2")),
            ("LABEL=FAR AWAY", Some("/dev/sda")),
            ("UUID=1234-5678", Some("/dev/sda")),
            ("PARTLABEL=second", Some("/dev/vda2")),
            ("PARTUUID=01020304-01", Some("/dev/vda1")),
            ("PARTUUID=01020304-02", Some("/dev/vda2")),
            ("LABEL=second", None),
            ("PARTLABEL=data", None),
            ("UUID=01020304-01", None),
            ("PARTUUID=01020304-03", None),
        ] {
            let tag = Tag::of(source.as_bytes()).unwrap();
            let found = find(&tree.root, &tag, &mut vec![1; MEMORY]);
            assert_eq!(found.as_deref(), node.map(str::as_bytes), "{source}");
            assert_eq!(find(&Tree::new().root, &tag, &mut vec![0; MEMORY]), None);
            assert_eq!(
                find(&tree.root, &tag, &mut []).filter(|_| !source.starts_with("PARTL")),
                None
            );
        }
    }

    #[test]
    fn short_disks_are_recognized_whatever_was_read_before() {
        let tree = machine();
        let kind = |node: &str, memory: &mut [u8]| {
            super_block(&tree.root, node.as_bytes(), memory).map(|found| found.kind)
        };
        let memory = &mut vec![0; MEMORY];
        assert_eq!(kind("/dev/vda2", memory), Some(&b"xfs"[..]));
        assert_eq!(kind("/dev/vda1", memory), None);
        assert_eq!(kind("/dev/sda", memory), Some(&b"vfat"[..]));
        assert_eq!(kind("/dev/none", memory), None);
        assert_eq!(kind("/dev", memory), None);
    }
}
