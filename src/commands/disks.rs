//! guest-get-disks: every disk and partition, used or not, and what each is made of.
//!
//! They come in the reverse order of their names, so partitions before their disk, as with qemu-ga.
//! Left out, as there, is what has no size (unused loop devices, empty drives) or no device node.
//!
//! Differences from qemu-ga: qemu-ga lists disks in the reverse of directory order, which is that
//! of a hash. NVMe multipath and SCSI targets are found (`probe::block`, `parse::sysfs_disk`), and
//! serial numbers and device-mapper names need no udev (`probe::serial`).
//!
//! A disk that does not answer keeps the reply waiting, and nothing else: this runs in a child.

use super::command::Ticket;
use super::common::{cannot, put_address};
use crate::base::limits::DIRECTORY_BYTES;
use crate::base::path::Path;
use crate::base::recent::RecentAnswers;
use crate::parse::nvme;
use crate::parse::sysfs_disk::Bus;
use crate::probe::block::{self, BlockDevice, Devices, virtual_name};
use crate::probe::names::NameList;
use crate::probe::sysfs::{attribute, to_parent};
use crate::state::guest::Guest;
use crate::sys::AsFd;
use crate::sys::nvme::{HEALTH_LOG_LEN, HealthLog, health_log};
use crate::sys::root::Root;
use crate::wire::args::Args;
use crate::wire::emit::{List, Object};
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::{Name, Phrase};

/// Lists disks and partitions.
pub(super) fn get_disks(
    guest: &Guest,
    _: Ticket,
    _: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<u8, Failed> {
    list(&guest.root, &guest.virtio_serials, reply)
}

fn list(root: &Root, virtio_serials: &RecentAnswers, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    // This directory has partitions, too; a kernel without it has no /sys/block either.
    let directory = Path::of(&[b"sys/class/block/"]);
    let mut names = NameList::new(DIRECTORY_BYTES);
    if let Err(errno) = names.read(root, directory.as_bytes()) {
        return Err(cannot(reply, Phrase::CannotListDisks, errno));
    }
    let mut devices = Devices::new(root, virtio_serials);
    let mut list = reply.list();
    block::backward(root, &directory, &names, &mut |path| {
        let mut size = [0; 8];
        let size = attribute(root, path, b"/size", &mut size);
        if size.is_empty() || size == b"0\n" {
            return;
        }
        let device = BlockDevice::at(root, path);
        if !device.node.is_empty() {
            let mut object = list.object();
            describe(root, &mut devices, path, device, &mut object);
        }
    });
    Ok(0)
}

/// Writes about the disk or partition `device`, which is at `path`.
fn describe(
    root: &Root,
    devices: &mut Devices<'_>,
    path: &mut Path,
    device: BlockDevice,
    object: &mut Object<'_, '_>,
) {
    object.text(Name::Name, &device.node);
    object.bool(Name::Partition, device.is_partition);
    let put_node = |list: &mut List<'_, '_>, path: &mut Path| {
        let node = block::node(root, path);
        if !node.is_empty() {
            list.item().text(&node);
        }
    };
    if device.is_partition {
        to_parent(path);
        let mut list = object.list(Name::Dependencies);
        put_node(&mut list, path);
        return;
    }
    let slaves = Path::of(&[path.as_bytes(), b"/slaves/"]);
    let mut names = NameList::new(DIRECTORY_BYTES);
    if names.read(root, slaves.as_bytes()).is_ok() {
        let mut list = object.list(Name::Dependencies);
        block::backward(root, &slaves, &names, &mut |slave| {
            put_node(&mut list, slave);
        });
    }
    if virtual_name(path).is_some() {
        let alias = device.alias(root, path);
        if !alias.is_empty() {
            object.text(Name::Alias, &alias);
        }
        return;
    }
    let disk = devices.disk(device, path);
    put_address(object.member(Name::Address), &disk);
    let mut log = [0; HEALTH_LOG_LEN];
    if disk.bus == Some(Bus::Nvme)
        && let Some(file) = disk.device.open(root)
        && health_log(file.as_fd(), &mut log)
    {
        put_health(object, &log);
    }
}

fn put_health(object: &mut Object<'_, '_>, log: &HealthLog) {
    const STATE: Name = Name::SmartState;
    // Every other word: a counter has 128 bits.
    const COUNTERS: Name = Name::SmartCounters;
    let mut smart = object.object(Name::Smart);
    smart.text(Name::Type, b"nvme");
    smart.numbers(STATE, &nvme::state(log[0]));
    smart.numbers_with_suffix(COUNTERS, "-lo", &log[nvme::COUNTERS..]);
    smart.numbers_with_suffix(COUNTERS, "-hi", &log[nvme::COUNTERS + 1..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sink::ByteSink;
    use crate::sys::mem::Buffer;
    use crate::sys::testing::Tree;

    fn reply(root: &Root) -> String {
        let mut out = Buffer::growing(1 << 20);
        let mut reply = Reply::new(&mut out);
        let outcome = list(root, &RecentAnswers::new(), &mut reply).map(|_| ());
        reply.finish(outcome);
        String::from_utf8(out.bytes().to_vec()).unwrap()
    }

    /// A device: its link, its facts and its size.
    fn device(path: &str, numbers: (u32, u32), kind: &str, size: &str) -> Vec<(String, String)> {
        let name = path.rsplit('/').next().unwrap();
        let (major, minor) = numbers;
        vec![
            (
                format!("sys/class/block/{name}"),
                format!("-> ../../devices/{path}"),
            ),
            (
                format!("sys/devices/{path}/uevent"),
                format!("MAJOR={major}\nMINOR={minor}\nDEVNAME={name}\nDEVTYPE={kind}\n"),
            ),
            (format!("sys/devices/{path}/size"), size.to_owned()),
        ]
    }

    fn tree(files: &[(String, String)]) -> Tree {
        let files: Vec<_> = files.iter().map(|(a, b)| (&a[..], &b[..])).collect();
        Tree::of(&files)
    }

    fn file(path: &str, content: &str) -> (String, String) {
        (path.to_owned(), content.to_owned())
    }

    #[test]
    fn without_the_directory_it_fails() {
        assert_eq!(
            reply(&tree(&[]).root),
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \
             \"Can't open directory \\\"/sys/block\\\": No such file or directory\"}}\n"
        );
    }

    #[test]
    fn disks_and_their_partitions_are_listed() {
        const VDA: &str = "pci0000:00/0000:00:04.0/virtio1/block/vda";
        let mut files = device(VDA, (254, 0), "disk", "2048\n");
        files.extend(device(
            &format!("{VDA}/vda1"),
            (254, 1),
            "partition",
            "1024\n",
        ));
        files.push(file(
            "sys/devices/pci0000:00/0000:00:04.0/driver",
            "-> ../../../bus/pci/drivers/virtio-pci",
        ));
        files.push(file(&format!("sys/devices/{VDA}/slaves/.keep"), ""));
        files.push(file(&format!("sys/devices/{VDA}/serial"), "S1"));
        // On the disk and its partition, with a name of the kernel's; another of udev's.
        files.extend(device("virtual/block/dm-0", (253, 0), "disk", "9\n"));
        files.push(file("sys/devices/virtual/block/dm-0/dm/name", "luks-x\n"));
        for (name, slave) in [("vda", VDA), ("vda1", &format!("{VDA}/vda1"))] {
            files.push((
                format!("sys/devices/virtual/block/dm-0/slaves/{name}"),
                format!("-> ../../../../{slave}"),
            ));
        }
        files.extend(device("virtual/block/dm-1", (253, 1), "disk", "9\n"));
        files.push(file("sys/devices/virtual/block/dm-1/dm/name", "x"));
        files.push(file("run/udev/data/b253:1", "E:DM_NAME=vg-lv\n"));
        // A disk of no known bus.
        files.extend(device(
            "platform/mmc0/block/mmcblk0",
            (179, 0),
            "disk",
            "7\n",
        ));
        // Without a size, with none, without a node: unused, or not for anybody to use.
        files.extend(device("virtual/block/loop0", (7, 0), "disk", "0\n"));
        files.extend(device("virtual/block/loop1", (7, 1), "disk", ""));
        files.extend(device("virtual/block/nvme0c0n1", (0, 0), "disk", "8\n"));
        let facts = "sys/devices/virtual/block/nvme0c0n1/uevent";
        files.retain(|(path, _)| path != facts);
        files.push(file("sys/class/block/dangling", "-> ../../devices/nothing"));
        files.push(file("sys/class/block/odd", "a file"));
        let no_pci = r#""pci-controller": {"domain": -1, "bus": -1, "slot": -1, "function": -1}"#;
        let expected = [
            r#"{"name": "/dev/vda1", "partition": true, "dependencies": ["/dev/vda"]}"#,
            r#"{"name": "/dev/vda", "partition": false, "dependencies": [], "address": {"pci-controller": {"domain": 0, "bus": 0, "slot": 4, "function": 0}, "bus-type": "virtio", "bus": 0, "target": 0, "unit": 0, "serial": "S1", "dev": "/dev/vda"}}"#,
            &format!(
                r#"{{"name": "/dev/mmcblk0", "partition": false, "address": {{{no_pci}, "bus-type": "unknown", "bus": 0, "target": 0, "unit": 0, "dev": "/dev/mmcblk0"}}}}"#
            ),
            r#"{"name": "/dev/dm-1", "partition": false, "alias": "vg-lv"}"#,
            r#"{"name": "/dev/dm-0", "partition": false, "dependencies": ["/dev/vda1", "/dev/vda"], "alias": "luks-x"}"#,
        ];
        assert_eq!(
            reply(&tree(&files).root),
            format!("{{\"return\": [{}]}}\n", expected.join(", "))
        );
    }

    #[test]
    fn a_disk_behind_multipath_is_listed_once() {
        const SUBSYSTEM: &str = "virtual/nvme-subsystem/nvme-subsys0";
        const CONTROLLER: &str = "pci0000:00/0000:00:06.0/nvme/nvme1";
        let head = format!("{SUBSYSTEM}/nvme0n1");
        let mut files = device(&head, (259, 0), "disk", "8\n");
        files.extend(device(
            &format!("{head}/nvme0n1p2"),
            (259, 1),
            "partition",
            "4\n",
        ));
        files.push(file(&format!("sys/devices/{SUBSYSTEM}/model"), "M"));
        for (name, content) in [("model", "QEMU NVMe"), ("serial", "X ")] {
            files.push(file(&format!("sys/devices/{head}/device/{name}"), content));
        }
        files.push(file(&format!("sys/devices/{head}/nsid"), "1\n"));
        files.push((
            format!("sys/devices/{SUBSYSTEM}/nvme1"),
            format!("-> ../../../{CONTROLLER}"),
        ));
        files.push((
            format!("sys/devices/{SUBSYSTEM}/subsystem"),
            "-> ../../../../class/nvme-subsystem".to_owned(),
        ));
        files.push(file(
            "sys/devices/pci0000:00/0000:00:06.0/driver",
            "-> ../../../bus/pci/drivers/nvme",
        ));
        // The path below it has no numbers, and so no node.
        let path = format!("{CONTROLLER}/nvme0c1n1");
        files.push((
            "sys/class/block/nvme0c1n1".to_owned(),
            format!("-> ../../devices/{path}"),
        ));
        files.push(file(&format!("sys/devices/{path}/size"), "8\n"));
        files.push(file(
            &format!("sys/devices/{path}/uevent"),
            "DEVTYPE=disk\n",
        ));
        assert_eq!(
            reply(&tree(&files).root),
            concat!(
                r#"{"return": [{"name": "/dev/nvme0n1p2", "partition": true, "#,
                r#""dependencies": ["/dev/nvme0n1"]}, "#,
                r#"{"name": "/dev/nvme0n1", "partition": false, "address": {"pci-controller": "#,
                r#"{"domain": 0, "bus": 0, "slot": 6, "function": 0}, "bus-type": "nvme", "#,
                r#""bus": 0, "target": 0, "unit": 0, "serial": "QEMU_NVMe_X_1", "#,
                r#""dev": "/dev/nvme0n1"}}]}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_thousand_disks_are_all_listed() {
        let mut files = Vec::new();
        for disk in 0..1000 {
            let path = format!("pci0000:00/0000:00:05.0/virtio2/block/vd{disk}");
            files.extend(device(&path, (252, disk), "disk", "8\n"));
        }
        let tree = tree(&files);
        let reply = reply(&tree.root);
        assert_eq!(reply.matches("\"partition\": false").count(), 1000);
        for disk in 0..1000 {
            assert!(reply.contains(&format!("\"name\": \"/dev/vd{disk}\"")));
        }
    }

    #[test]
    fn every_number_of_a_health_log_has_its_name() {
        let mut log = [0; HEALTH_LOG_LEN];
        log[0] = u64::from_le_bytes([1, 0x2C, 1, 100, 10, 7, 0, 0]);
        for (place, word) in log[nvme::COUNTERS..].iter_mut().enumerate() {
            *word = place as u64;
        }
        log[4] = u64::MAX;
        let mut out = heapless::Vec::<u8, 4096>::new();
        let mut reply = Reply::new(&mut out);
        put_health(&mut reply.object(), &log);
        reply.finish(Ok(()));
        let mut low = Vec::new();
        let mut high = Vec::new();
        for (place, name) in [
            "data-units-read",
            "data-units-written",
            "host-read-commands",
            "host-write-commands",
            "controller-busy-time",
            "power-cycles",
            "power-on-hours",
            "unsafe-shutdowns",
            "media-errors",
            "number-of-error-log-entries",
        ]
        .iter()
        .enumerate()
        {
            let first = if place == 0 {
                u64::MAX
            } else {
                2 * place as u64
            };
            low.push(format!("\"{name}-lo\": {first}"));
            high.push(format!("\"{name}-hi\": {}", 2 * place + 1));
        }
        let expected = format!(
            "{{\"return\": {{\"smart\": {{\"type\": \"nvme\", \"critical-warning\": 1, \
             \"temperature\": 300, \"available-spare\": 100, \"available-spare-threshold\": 10, \
             \"percentage-used\": 7, {}, {}}}}}}}\n",
            low.join(", "),
            high.join(", ")
        );
        assert_eq!(String::from_utf8(out.to_vec()).unwrap(), expected);
    }
}
