//! guest-get-fsinfo: the mounted file systems, how full they are, and the disks they lie on.
//!
//! Listed are the file systems of `probe::mounts`, in the reverse order of the mount table, as
//! libvirt expects them. A device that is not in sysfs (in a container) goes by its numbers.
//!
//! Differences from qemu-ga: a file system whose mount points all lead elsewhere has no sizes,
//! where qemu-ga has those of what covers it; what cannot be found out about one device leaves its
//! list of disks empty or shorter and fails nothing; disks of one file system come in the reverse
//! order of their names; arrays with partitions and NVMe multipath are found (`probe::block`);
//! serial numbers need no udev (`probe::serial`).
//!
//! A file system that does not answer keeps the reply waiting, and nothing else: this runs in a
//! child.

use super::command::Ticket;
use super::common::{no_mount_table, put_address};
use crate::base::path::Path;
use crate::base::recent::RecentAnswers;
use crate::probe::block::{Devices, numbered};
use crate::probe::mounts::{FileSystem, Mounts, Searches};
use crate::probe::sysfs::last_component;
use crate::state::guest::Guest;
use crate::sys::mount::{Space, space};
use crate::sys::root::Root;
use crate::wire::args::Args;
use crate::wire::emit::Object;
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::Name;

/// Lists the mounted file systems.
pub(super) fn get_fsinfo(
    guest: &Guest,
    _: Ticket,
    _: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<u8, Failed> {
    list(&guest.root, &guest.virtio_serials, reply)
}

fn list(root: &Root, virtio_serials: &RecentAnswers, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    let mut mounts = Mounts::new();
    if mounts.read(root).is_err() {
        return Err(no_mount_table(reply));
    }
    let mut devices = Devices::new(root, virtio_serials);
    let mut searches = Searches::new();
    let mut list = reply.list();
    for fs in mounts.backward() {
        let mut object = list.object();
        describe(root, &mut devices, &fs, &mut searches, &mut object);
    }
    Ok(0)
}

#[inline(never)]
fn describe(
    root: &Root,
    devices: &mut Devices<'_>,
    fs: &FileSystem<'_>,
    searches: &mut Searches,
    object: &mut Object<'_, '_>,
) {
    let mut device = Path::new();
    let is_known = numbered(root, fs.device(root), &mut device);
    object.text(Name::Name, last_component(&device));
    object.text(Name::Mountpoint, fs.mount_point(&mut Path::new()));
    object.text(Name::Type, fs.kind());
    // A covered mount point leads to another file system: then there are no sizes.
    let mut found = None;
    let _ = fs.reach(root, searches, &mut |place| {
        found = Some(space(place)?);
        Ok(())
    });
    if let Some(space) = found {
        object.numbers(Name::Sizes, &sizes(&space));
    }
    let mut list = object.list(Name::Disk);
    if is_known {
        devices.disks(&device, &mut |disk| put_address(list.item(), disk));
    }
}

/// used-bytes, total-bytes and total-bytes-privileged: the blocks in use, those and what every user
/// can use, and all blocks.
fn sizes(space: &Space) -> [u64; 3] {
    let used = space.blocks.saturating_sub(space.free);
    let total = used.saturating_add(space.available);
    [used, total, space.blocks].map(|blocks| blocks.saturating_mul(space.block_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sink::ByteSink;
    use crate::sys::mem::Buffer;
    use crate::sys::place::Place;
    use crate::sys::testing::Tree;

    fn reply(root: &Root) -> String {
        let mut out = Buffer::growing(1 << 22);
        let mut reply = Reply::new(&mut out);
        let outcome = list(root, &RecentAnswers::new(), &mut reply).map(|_| ());
        reply.finish(outcome);
        String::from_utf8(out.bytes().to_vec()).unwrap()
    }

    /// The reply without its frame, an element a line.
    fn elements(root: &Root) -> String {
        let reply = reply(root);
        let list = reply.strip_prefix(r#"{"return": ["#).unwrap();
        let list = list.strip_suffix("]}\n").unwrap();
        list.replace(r#"]}, {"name""#, "]},\n{\"name\"")
    }

    const NO_PCI: &str =
        r#""pci-controller": {"domain": -1, "bus": -1, "slot": -1, "function": -1}"#;

    fn one_mount(device: &str, kind: &str) -> String {
        format!("22 1 {device} / /a/b rw - {kind} /dev/x rw\n")
    }

    #[test]
    fn captured_machines_have_their_disks() {
        for machine in ["q35", "pc", "pc-usb"] {
            let path = format!(
                "{}/tests/fixtures/{machine}/guest-get-fsinfo.json",
                env!("CARGO_MANIFEST_DIR")
            );
            let expected = std::fs::read_to_string(path).unwrap();
            assert_eq!(
                elements(&Tree::captured(machine).root),
                expected.trim_end(),
                "{machine}"
            );
        }
    }

    #[test]
    fn without_a_mount_table_it_fails() {
        let tree = Tree::new();
        assert_eq!(
            reply(&tree.root),
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \
             \"failed to open mtab file: '/proc/self/mounts'\"}}\n"
        );
    }

    #[test]
    fn nothing_mounted_is_an_empty_list() {
        let table = "22 1 0:5 / /proc rw - proc proc rw\n";
        let tree = Tree::of(&[("proc/self/mountinfo", table)]);
        assert_eq!(reply(&tree.root), "{\"return\": []}\n");
    }

    #[test]
    fn a_device_that_is_nowhere_goes_by_its_numbers() {
        let expected = r#"{"name": "254:1", "mountpoint": "/a/b", "type": "ext4", "disk": []}"#;
        let table = one_mount("254:1", "ext4");
        let table = ("proc/self/mountinfo", &table[..]);
        let tree = Tree::of(&[table]);
        assert_eq!(elements(&tree.root), expected);
        let dangling = (
            "sys/dev/block/254:1",
            "-> ../../devices/pci0000:00/block/vda",
        );
        let tree = Tree::of(&[table, dangling]);
        assert_eq!(elements(&tree.root), expected);
        let no_link = ("sys/dev/block/254:1", "a file");
        let tree = Tree::of(&[table, no_link]);
        assert_eq!(elements(&tree.root), expected);
    }

    #[test]
    fn thousands_of_file_systems_are_all_listed() {
        // Each its own device, which sysfs does not know, so that nothing makes one of two.
        let line = |n: u32| {
            let (major, minor) = (259 + n / 256, n % 256);
            format!(
                "{} 1 {major}:{minor} / /mnt/{n} rw - ext4 /dev/x rw\n",
                22 + n
            )
        };
        let table: String = (0..2000).map(line).collect();
        let tree = Tree::of(&[("proc/self/mountinfo", &table)]);
        let reply = elements(&tree.root);
        let places = reply.lines().map(|element| {
            let (_, rest) = element.split_once("\"mountpoint\": \"/mnt/").unwrap();
            let (number, _) = rest.split_once('"').unwrap();
            number.parse::<u32>().unwrap()
        });
        assert!(places.eq((0..2000).rev()), "{reply}");
    }

    #[test]
    fn sizes_are_told_together_where_the_file_system_can_be_reached() {
        let tree = Tree::of(&[("proc/self/mountinfo", ""), ("a/b/x", "")]);
        let here = Place::find(&tree.root, b"a/b", &mut |_| true).unwrap();
        let (major, minor) = here.device;
        if major == 0 {
            eprintln!("untested: the temporary directory is on no block device");
            return;
        }
        let set = |device: &str| {
            tree.file("proc/self/mountinfo", one_mount(device, "ext4"));
            elements(&tree.root)
        };
        let reply = set(&format!("{major}:{minor}"));
        // Others use the disk this is on meanwhile; its size stays.
        let [_, _, total] = sizes(&space(&here).unwrap());
        let total = format!(r#""total-bytes-privileged": {total}, "#);
        assert!(reply.contains(&total), "{reply}");
        for member in ["\"used-bytes\": ", "\"total-bytes\": "] {
            assert!(reply.contains(member), "{reply}");
        }
        // Another file system is mounted there.
        let reply = set("254:77");
        assert!(
            reply.contains("254:77") && !reply.contains("-bytes"),
            "{reply}"
        );
    }

    #[test]
    fn what_is_not_understood_keeps_its_node() {
        let table = one_mount("254:1", "ext4");
        let tree = Tree::of(&[
            ("proc/self/mountinfo", &table),
            (
                "sys/dev/block/254:1",
                "-> ../../devices/vbd-51712/block/xvda",
            ),
            (
                "sys/devices/vbd-51712/block/xvda/uevent",
                "MAJOR=254\nMINOR=1\nDEVNAME=xvda\nDEVTYPE=disk\n",
            ),
        ]);
        let disk = format!(
            r#"{{{NO_PCI}, "bus-type": "unknown", "bus": 0, "target": 0, "unit": 0, "dev": "/dev/xvda"}}"#
        );
        let head = r#"{"name": "xvda", "mountpoint": "/a/b", "type": "ext4", "#;
        assert_eq!(elements(&tree.root), format!("{head}\"disk\": [{disk}]}}"));
    }

    #[test]
    fn a_channel_device_has_its_address() {
        let table = one_mount("94:1", "xfs");
        let disk = "sys/devices/css0/0.0.0001/0.0.0a02/virtio1/block/vda";
        let tree = Tree::of(&[
            ("proc/self/mountinfo", &table),
            (
                "sys/dev/block/94:1",
                "-> ../../devices/css0/0.0.0001/0.0.0a02/virtio1/block/vda/vda1",
            ),
            (&format!("{disk}/serial"), "S390"),
            (
                &format!("{disk}/vda1/uevent"),
                "MAJOR=94\nMINOR=1\nDEVNAME=vda1\nDEVTYPE=partition\n",
            ),
        ]);
        let disk = format!(
            r#"{{{NO_PCI}, "bus-type": "virtio", "bus": 0, "target": 0, "unit": 0, "serial": "S390", "dev": "/dev/vda1", "ccw-address": {{"cssid": 0, "ssid": 0, "subchno": 1, "devno": 2562}}}}"#
        );
        let head = r#"{"name": "vda1", "mountpoint": "/a/b", "type": "xfs", "#;
        assert_eq!(elements(&tree.root), format!("{head}\"disk\": [{disk}]}}"));
    }

    #[test]
    fn blocks_kept_for_root_are_neither_used_nor_free() {
        let space = |blocks, free, available, block_bytes| Space {
            blocks,
            free,
            available,
            block_bytes,
        };
        let expected = [600 * 4096, 950 * 4096, 1000 * 4096];
        assert_eq!(sizes(&space(1000, 400, 350, 4096)), expected);
        // Nonsense from a file system overflows nothing.
        let [used, total, _] = sizes(&space(1, 2, u64::MAX, u64::MAX));
        assert_eq!((used, total), (0, u64::MAX));
    }
}
