//! Block devices, and the disks below them.
//!
//! The facts come from sysfs. A link in /sys/dev/block or /sys/class/block leads to the directory
//! of a device; its path names the buses on the way to it (`parse::sysfs_disk`). A device that is
//! made of others (device-mapper, RAID) has links to them in `slaves`. They are followed down to
//! the disks, in the reverse order of their names. Links are resolved as text, below the root:
//! links in sysfs go some steps up and then straight down, and pass through no other link.
//!
//! A fact that cannot be read is left out; that is no error.
//!
//! Differences from qemu-ga: a partition of a RAID array lies on the disks of the array; the head
//! of an NVMe multipath has the address of its first controller; at most [`STACKED_DEVICES`] layers
//! are followed; a device-mapper device that udev does not know gets its name from the kernel. For
//! serial numbers see `probe::serial`.

use crate::base::limits::{BLOCK_NAME_BYTES, DIRECTORY_BYTES, STACKED_DEVICES, UDEV_ENTRY_BYTES};
use crate::base::path::Path;
use crate::base::recent::RecentAnswers;
use crate::base::sink::ByteSink;
use crate::base::text::{cut, parse_u64};
use crate::parse::sysfs_disk::{Attachment, Bus, Driver};
use crate::parse::udev::property;
use crate::parse::{file_name, mountinfo, parent_of};
use crate::probe::names::NameList;
use crate::probe::serial::{self, Serial};
use crate::probe::sysfs::{attribute, follow, last_component, to_parent};
use crate::sys::OwnedFd;
use crate::sys::mem::Buffer;
use crate::sys::root::{Root, block_device, relative};

/// The directory of devices without hardware of their own, relative to the root.
const VIRTUAL: &[u8] = b"sys/devices/virtual/block/";

/// Bytes read of a `uevent` file. The properties used here are at its beginning.
const UEVENT_BYTES: usize = 512;

/// Room for `major:minor`, which has at most 4 and 7 digits.
const NUMBERS_BYTES: usize = 16;

/// The name of a device, or the path of its node.
pub type BlockName = heapless::Vec<u8, BLOCK_NAME_BYTES>;

/// A name of device-mapper: at most 127 bytes.
pub type MapperName = heapless::Vec<u8, 127>;

/// A disk or a partition, or a device made of those, as its `uevent` file describes it.
pub struct BlockDevice {
    /// Whether it is a partition.
    pub is_partition: bool,
    /// The path of its device node, `/dev/vda1`; empty without one.
    pub node: BlockName,
    /// Its device number as udev writes it, `254:1`.
    number: heapless::Vec<u8, NUMBERS_BYTES>,
    /// The number that the kernel gave the disk when it was attached; 0 before Linux 5.15.
    attached: u64,
}

/// A disk, or a partition with the facts about its disk.
pub struct Disk {
    /// The disk or partition itself.
    pub device: BlockDevice,
    /// The facts in its path.
    pub attachment: Attachment,
    /// The kind of bus it is on, if that is known.
    pub bus: Option<Bus>,
    /// Its bus (channel), target and unit.
    pub numbers: [u64; 3],
    /// Its serial number, as udev words it.
    pub serial: Serial,
}

/// The block devices of a machine.
pub struct Devices<'r> {
    root: &'r Root,
    virtio_serials: &'r RecentAnswers,
    /// A cache: the latest NVMe subsystem, and its first controller on a known bus.
    subsystem: Path,
    controller: Path,
}

/// Calls `each` with the targets of the symbolic links `names` in `directory`, in the reverse order
/// of their names.
pub fn backward(root: &Root, directory: &Path, names: &NameList, each: &mut dyn FnMut(&mut Path)) {
    let mut path = Path::new();
    for name in names.sorted().rev() {
        if follow_in(root, directory, name, &mut path) {
            each(&mut path);
        }
    }
}

/// Sets `path` to the target of the link `name` in a directory. Returns false if that is no link.
fn follow_in(root: &Root, directory: &Path, name: &[u8], path: &mut Path) -> bool {
    path.truncate(0);
    path.push(directory.as_bytes());
    path.push(name);
    follow(root, path).is_ok()
}

/// Appends the directory of the device `major:minor` in sysfs to an empty path, without links, and
/// returns true; or appends the link that should lead to it, whose last component is `major:minor`.
pub fn numbered(root: &Root, (major, minor): (u32, u32), path: &mut Path) -> bool {
    path.push(b"sys/dev/block/");
    path.push_number(u64::from(major));
    path.push(b":");
    path.push_number(u64::from(minor));
    // In a container the link may be there and its target not.
    root.has_at(&[path.as_bytes(), b"/."]) == Ok(true) && follow(root, path).is_ok()
}

/// The name of the virtual device at `path`, or of the one of which that is a partition; `None` for
/// other devices. A virtual device has no hardware of its own: it is made of others, or of memory.
pub fn virtual_name(path: &Path) -> Option<&[u8]> {
    let mut name = path.as_bytes().strip_prefix(VIRTUAL)?;
    Some(cut(&mut name, b'/'))
}

impl<'r> Devices<'r> {
    /// The block devices of the machine at `root`.
    pub fn new(root: &'r Root, virtio_serials: &'r RecentAnswers) -> Self {
        Self {
            root,
            virtio_serials,
            subsystem: Path::new(),
            controller: Path::new(),
        }
    }

    /// Calls `each` with the disks below the device at `path`: the device itself if it is a disk or
    /// a partition of one. Leaves out disks of which nothing is known.
    pub fn disks(&mut self, path: &Path, each: &mut dyn FnMut(&Disk)) {
        self.disks_below(path, STACKED_DEVICES, each);
    }

    fn disks_below(&mut self, path: &Path, layers: usize, each: &mut dyn FnMut(&Disk)) {
        let Some(name) = virtual_name(path) else {
            let disk = self.disk(BlockDevice::at(self.root, path), path);
            if disk.bus.is_some() || !disk.device.node.is_empty() || disk.serial.text().is_some() {
                each(&disk);
            }
            return;
        };
        // Deeper layers are not followed.
        let Some(layers) = layers.checked_sub(1) else {
            return;
        };
        // A partition has no `slaves`; its disk has.
        let slaves = Path::of(&[VIRTUAL, name, b"/slaves/"]);
        let mut names = NameList::new(DIRECTORY_BYTES);
        if names.read(self.root, slaves.as_bytes()).is_ok() {
            backward(self.root, &slaves, &names, &mut |slave| {
                self.disks_below(slave, layers, each);
            });
        }
    }

    /// The disk or partition `device` at `path`, with the attachment and the serial number of the
    /// disk.
    pub fn disk(&mut self, device: BlockDevice, path: &Path) -> Disk {
        let mut path = Path::of(&[path.as_bytes()]);
        if device.is_partition {
            to_parent(&mut path);
        }
        let mut disk = Disk {
            device,
            attachment: Attachment::unknown(),
            bus: None,
            numbers: [0; 3],
            serial: Serial::empty(),
        };
        disk.locate(self.root, &path);
        if disk.bus.is_none() {
            self.locate_by_controller(&mut disk, &path);
        }
        let Disk { device, serial, .. } = &mut disk;
        if !device.ask_udev(self.root, b"E:ID_SERIAL", &mut serial.text) {
            serial::read(
                self.root,
                &path,
                device.attached,
                self.virtio_serials,
                serial,
            );
        }
        disk
    }

    /// Gives the head of an NVMe multipath the attachment of the first controller on a known bus.
    /// The directory of the head is in that of its subsystem, which has links to the controllers.
    ///
    /// Keeps the controller, because the namespaces of a subsystem come one after the other.
    fn locate_by_controller(&mut self, disk: &mut Disk, path: &Path) {
        let directory = parent_of(path.as_bytes());
        let subsystem = file_name(directory.strip_suffix(b"/").unwrap_or_default());
        if !subsystem.starts_with(b"nvme-subsys") {
            return;
        }
        if directory == self.subsystem.as_bytes() {
            disk.locate(self.root, &self.controller);
            return;
        }
        self.subsystem = Path::of(&[directory]);
        let mut controller = Path::new();
        let mut names = NameList::new(DIRECTORY_BYTES);
        if names.read(self.root, directory).is_ok() {
            for name in names.sorted() {
                if follow_in(self.root, &self.subsystem, name, &mut controller) {
                    disk.locate(self.root, &controller);
                }
                if disk.bus.is_some() {
                    break;
                }
            }
        }
        self.controller = controller;
    }
}

/// The path of the node of the device at `path`; empty without one.
pub fn node(root: &Root, path: &Path) -> BlockName {
    node_of(attribute(root, path, b"/uevent", &mut [0; UEVENT_BYTES]))
}

/// The path of the node by a `uevent` file.
pub(super) fn node_of(facts: &[u8]) -> BlockName {
    let name = property(facts, b"DEVNAME");
    let mut node = BlockName::new();
    if !name.is_empty() && name.len() < BLOCK_NAME_BYTES - 5 {
        let _ = node.extend_from_slice(b"/dev/");
        let _ = node.extend_from_slice(name);
    }
    node
}

impl BlockDevice {
    /// The device at `path`: its node, type and number.
    pub fn at(root: &Root, path: &Path) -> Self {
        let mut buffer = [0; UEVENT_BYTES];
        let facts = attribute(root, path, b"/uevent", &mut buffer);
        let mut number = heapless::Vec::new();
        for piece in &[property(facts, b"MAJOR"), b":", property(facts, b"MINOR")] {
            let _ = number.extend_from_slice(piece);
        }
        Self {
            is_partition: property(facts, b"DEVTYPE") == b"partition",
            node: node_of(facts),
            number,
            attached: parse_u64(property(facts, b"DISKSEQ")).unwrap_or(0),
        }
    }

    /// Opens its node for reading; `None` if that fails, or if the node is another device: in a
    /// container, or after the name has moved to another device.
    pub fn open(&self, root: &Root) -> Option<OwnedFd> {
        let opened = root.file_at(&[relative(&self.node)]).ok()?;
        let device = block_device(&opened)?;
        (mountinfo::device(&self.number) == Some(device)).then_some(opened)
    }

    /// The name that device-mapper has for the device, which is at `path`; empty for other devices.
    pub fn alias(&self, root: &Root, path: &Path) -> MapperName {
        let mut name = MapperName::new();
        if last_component(path).starts_with(b"dm-") && !self.ask_udev(root, b"E:DM_NAME", &mut name)
        {
            let mut buffer = [0; 128];
            let found = attribute(root, path, b"/dm/name", &mut buffer);
            let _ = name.extend_from_slice(found.trim_ascii_end());
        }
        name
    }

    /// Appends a property of the device in the database of udevd, if it has it. Returns whether it knows
    /// the device.
    fn ask_udev(&self, root: &Root, key: &[u8], value: &mut heapless::VecView<u8>) -> bool {
        let mut entry = Buffer::growing(UDEV_ENTRY_BYTES);
        if let Ok(file) = root.file_at(&[b"run/udev/data/b", &self.number]) {
            // What does not fit is ignored.
            let _ = entry.read(&file);
        }
        let _ = value.extend_from_slice(property(entry.bytes(), key));
        !entry.is_empty()
    }
}

impl Disk {
    /// Reads the attachment of the disk at `path`: its controller, bus, target and unit.
    fn locate(&mut self, root: &Root, path: &Path) {
        let path = path.as_bytes();
        self.attachment = Attachment::of(path, &mut |function| {
            let mut target = [0; 256];
            let link = root.link_at(&[function, b"/driver"], &mut target);
            Driver::named(link.map_or(b"", file_name))
        });
        let attachment = &self.attachment;
        let rank = attachment.adapter_directory_len().and_then(|end| {
            let mut rank = 0;
            let counted = root.list_at(&[path.get(..end)?], &mut |name, _| {
                rank += u64::from(attachment.is_lower_adapter(name));
                true
            });
            counted.ok().map(|()| rank)
        });
        if let Some((bus, numbers)) = attachment.drive_address(rank) {
            (self.bus, self.numbers) = (Some(bus), numbers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::root::relative;
    use crate::sys::testing::Tree;

    /// The path of a device, and whether it is there.
    fn at(root: &Root, device: (u32, u32)) -> (Path, bool) {
        let mut path = Path::new();
        let is_there = numbered(root, device, &mut path);
        (path, is_there)
    }

    #[test]
    fn opens_no_node_of_another_device() {
        let [uevent, link] = device("259:0", "pci0000:00/block/nvme0n1", "disk");
        let files = [
            (&uevent.0[..], &uevent.1[..]),
            (&link.0, &link.1),
            ("dev/nvme0n1", "a file"),
        ];
        let tree = Tree::of(&files);
        let (path, is_there) = at(&tree.root, (259, 0));
        assert!(is_there);
        let device = BlockDevice::at(&tree.root, &path);
        assert_eq!(&device.node[..], b"/dev/nvme0n1");
        assert!(device.open(&tree.root).is_none());
    }

    /// The node and address of each disk below a device.
    fn disks(root: &Root, major: u32, minor: u32) -> Vec<String> {
        disks_of(&mut Devices::new(root, &RecentAnswers::new()), major, minor)
    }

    fn disks_of(devices: &mut Devices<'_>, major: u32, minor: u32) -> Vec<String> {
        let mut found = Vec::new();
        let (path, is_there) = at(devices.root, (major, minor));
        assert!(is_there);
        devices.disks(&path, &mut |disk| {
            let node = String::from_utf8_lossy(&disk.device.node).into_owned();
            let slot = disk.attachment.pci()[2].cast_signed();
            let name = disk
                .bus
                .map_or("unknown".into(), |bus| format!("{bus:?}").to_lowercase());
            let [bus, target, unit] = disk.numbers;
            found.push(format!("{node} {name} {slot} {bus}:{target}:{unit}"));
        });
        found
    }

    /// A device in sysfs: its link in /sys/dev/block, and its `uevent` file.
    fn device(numbers: &str, path: &str, kind: &str) -> [(String, String); 2] {
        let (major, minor) = numbers.split_once(':').unwrap();
        let name = path.rsplit('/').next().unwrap();
        let facts =
            format!("MAJOR={major}\nMINOR={minor}\nDEVNAME={name}\nDEVTYPE={kind}\nDISKSEQ=1\n");
        [
            (
                format!("sys/dev/block/{numbers}"),
                format!("-> ../../devices/{path}"),
            ),
            (format!("sys/devices/{path}/uevent"), facts),
        ]
    }

    fn file(path: &str, content: &str) -> (String, String) {
        (path.to_owned(), content.to_owned())
    }

    /// A link that makes a device in sys/devices/virtual/block consist of another.
    fn made_of(name: &str, slave: &str) -> (String, String) {
        let slave_name = slave.rsplit('/').next().unwrap();
        (
            format!("sys/devices/virtual/block/{name}/slaves/{slave_name}"),
            format!("-> ../../../../{slave}"),
        )
    }

    fn tree(files: impl IntoIterator<Item = (String, String)>) -> Tree {
        let files: Vec<_> = files.into_iter().collect();
        let files: Vec<_> = files.iter().map(|(a, b)| (&a[..], &b[..])).collect();
        Tree::of(&files)
    }

    const VDA: &str = "pci0000:00/0000:00:04.0/virtio1/block/vda";
    const VDB: &str = "pci0000:00/0000:00:1e.0/0000:01:05.0/virtio2/block/vdb";

    fn driver_of(function: &str, driver: &str) -> (String, String) {
        let path = format!("sys/devices/pci0000:00/{function}/driver");
        (path, format!("-> ../../../bus/pci/drivers/{driver}"))
    }

    /// Two disks, the first with a partition, the second behind a bridge.
    fn two_disks() -> Vec<(String, String)> {
        let mut files = Vec::new();
        files.extend(device("254:0", VDA, "disk"));
        files.extend(device("254:1", &format!("{VDA}/vda1"), "partition"));
        files.extend(device("254:16", VDB, "disk"));
        files.push(driver_of("0000:00:04.0", "virtio-pci"));
        files.push(driver_of("0000:00:1e.0", "pcieport"));
        files.push(driver_of("0000:00:1e.0/0000:01:05.0", "virtio-pci"));
        files
    }

    #[test]
    fn finds_disks_behind_bridges() {
        let tree = tree(two_disks());
        assert_eq!(disks(&tree.root, 254, 1), ["/dev/vda1 virtio 4 0:0:0"]);
        assert_eq!(disks(&tree.root, 254, 16), ["/dev/vdb virtio 5 0:0:0"]);
        for (minor, expected) in [(1, (&b"vda1"[..], true)), (2, (b"254:2", false))] {
            let (path, is_there) = at(&tree.root, (254, minor));
            assert_eq!((last_component(&path), is_there), expected);
        }
    }

    #[test]
    fn follows_layers_down_to_the_disks() {
        let mut files = two_disks();
        // A volume on an array, which consists of a partition and a disk, and has a partition
        // itself.
        files.extend(device("253:0", "virtual/block/dm-0", "disk"));
        files.push(made_of("dm-0", "virtual/block/md127"));
        files.extend(device("9:127", "virtual/block/md127", "disk"));
        files.extend(device("259:0", "virtual/block/md127/md127p1", "partition"));
        files.push(made_of("md127", VDB));
        files.push(made_of("md127", &format!("{VDA}/vda1")));
        files.push(made_of("md127", "pci0000:00/0000:00:09.0/block/gone"));
        files.push(file("sys/devices/virtual/block/md127/slaves/odd", ""));
        let tree = tree(files);
        let both = ["/dev/vdb virtio 5 0:0:0", "/dev/vda1 virtio 4 0:0:0"];
        assert_eq!(disks(&tree.root, 253, 0), both);
        assert_eq!(disks(&tree.root, 9, 127), both);
        assert_eq!(disks(&tree.root, 259, 0), both);
    }

    #[test]
    fn devices_in_memory_have_no_disks() {
        let mut files = Vec::new();
        files.extend(device("7:0", "virtual/block/loop0", "disk"));
        files.push(file("sys/devices/virtual/block/dm-1/slaves/.keep", ""));
        files.extend(device("253:1", "virtual/block/dm-1", "disk"));
        let tree = tree(files);
        assert!(disks(&tree.root, 7, 0).is_empty());
        assert!(disks(&tree.root, 253, 1).is_empty());
    }

    #[test]
    fn limits_the_number_of_layers() {
        let mut files = two_disks();
        let last = STACKED_DEVICES;
        for layer in 0..=last {
            let name = format!("dm-{layer}");
            files.extend(device(
                &format!("253:{layer}"),
                &format!("virtual/block/{name}"),
                "disk",
            ));
            files.push(match layer {
                0 => made_of(&name, VDB),
                _ => made_of(&name, &format!("virtual/block/dm-{}", layer - 1)),
            });
        }
        // A device that consists of itself.
        files.extend(device("253:100", "virtual/block/dm-100", "disk"));
        files.push(made_of("dm-100", "virtual/block/dm-100"));
        files.push(made_of("dm-100", VDB));
        let tree = tree(files);
        let minor = |layer: usize| u32::try_from(layer).unwrap();
        let disk = "/dev/vdb virtio 5 0:0:0";
        assert_eq!(disks(&tree.root, 253, minor(last - 1)), [disk]);
        assert!(disks(&tree.root, 253, minor(last)).is_empty());
        assert_eq!(disks(&tree.root, 253, 100), [disk; STACKED_DEVICES]);
    }

    #[test]
    fn ranks_adapters_among_their_neighbours() {
        let disk = "pci0000:00/0000:00:1f.2/ata12/host11/target11:0:0/11:0:0:0/block/sda";
        let mut files = Vec::from(device("8:0", disk, "disk"));
        files.push(driver_of("0000:00:1f.2", "ahci"));
        for ata in ["ata9", "ata10", "ata11", "ata13"] {
            files.push(file(
                &format!("sys/devices/pci0000:00/0000:00:1f.2/{ata}/.keep"),
                "",
            ));
        }
        let disk = "pci0000:00/0000:00:01.1/ata2/host1/target1:0:1/1:0:1:0/block/sdb";
        files.extend(device("8:16", disk, "disk"));
        files.push(driver_of("0000:00:01.1", "ata_piix"));
        files.push(file("sys/devices/pci0000:00/0000:00:01.1/ata1/.keep", ""));
        let tree = tree(files);
        assert_eq!(disks(&tree.root, 8, 0), ["/dev/sda sata 31 0:0:3"]);
        assert_eq!(disks(&tree.root, 8, 16), ["/dev/sdb ide 1 1:0:1"]);
    }

    #[test]
    fn head_of_nvme_multipath_has_the_address_of_its_first_controller() {
        let subsystem = "virtual/nvme-subsystem/nvme-subsys0";
        let mut files = Vec::from(device("259:1", &format!("{subsystem}/nvme0n1"), "disk"));
        let part = format!("{subsystem}/nvme0n1/nvme0n1p1");
        files.extend(device("259:2", &part, "partition"));
        for (name, slot) in [("nvme2", "07"), ("nvme1", "06")] {
            let controller = format!("pci0000:00/0000:00:{slot}.0/nvme/{name}");
            files.push((
                format!("sys/devices/{subsystem}/{name}"),
                format!("-> ../../../{controller}"),
            ));
            files.push(file(&format!("sys/devices/{controller}/state"), "live"));
            files.push(driver_of(&format!("0000:00:{slot}.0"), "nvme"));
        }
        files.push((
            format!("sys/devices/{subsystem}/subsystem"),
            "-> ../../../../class/nvme-subsystem".to_owned(),
        ));
        let tree = tree(files);
        assert_eq!(disks(&tree.root, 259, 1), ["/dev/nvme0n1 nvme 6 0:0:0"]);
        assert_eq!(disks(&tree.root, 259, 2), ["/dev/nvme0n1p1 nvme 6 0:0:0"]);
    }

    #[test]
    fn heads_of_two_subsystems_have_different_controllers() {
        let mut files = Vec::new();
        for number in [0u32, 1] {
            let subsystem = format!("virtual/nvme-subsystem/nvme-subsys{number}");
            for namespace in [1, 2] {
                let numbers = format!("259:{}", 2 * number + namespace);
                let head = format!("{subsystem}/nvme{number}n{namespace}");
                files.extend(device(&numbers, &head, "disk"));
            }
            let controller = format!("pci0000:00/0000:00:0{number}.0/nvme/nvme{number}");
            files.push((
                format!("sys/devices/{subsystem}/nvme{number}"),
                format!("-> ../../../{controller}"),
            ));
            files.push(file(&format!("sys/devices/{controller}/state"), "live"));
            files.push(driver_of(&format!("0000:00:0{number}.0"), "nvme"));
        }
        // A controller that is gone is skipped.
        files.push((
            "sys/devices/virtual/nvme-subsystem/nvme-subsys1/nvme0".to_owned(),
            "-> ../../../pci0000:00/0000:00:09.0/nvme/nvme0".to_owned(),
        ));
        let tree = tree(files);
        let serials = RecentAnswers::new();
        let mut devices = Devices::new(&tree.root, &serials);
        for (minor, expected) in [
            (1, "/dev/nvme0n1 nvme 0 0:0:0"),
            (2, "/dev/nvme0n2 nvme 0 0:0:0"),
            (3, "/dev/nvme1n1 nvme 1 0:0:0"),
            (4, "/dev/nvme1n2 nvme 1 0:0:0"),
            (1, "/dev/nvme0n1 nvme 0 0:0:0"),
        ] {
            assert_eq!(disks_of(&mut devices, 259, minor), [expected]);
        }
    }

    #[test]
    fn recognises_other_buses() {
        let mmio = "platform/a003e00.virtio_mmio/virtio0/block/vda";
        let scsi = "platform/a003c00.virtio_mmio/virtio1/host0/target0:1:2/0:1:2:3/block/sda";
        let usb = "pci0000:00/0000:00:03.0/usb1/1-1/1-1:1.0/host3/target3:0:0/3:0:0:0/block/sdb";
        let dasd = "css0/0.0.0003/0.0.e000/block/dasda";
        let mut files = Vec::new();
        files.extend(device("254:0", mmio, "disk"));
        files.extend(device("8:0", scsi, "disk"));
        files.extend(device("8:16", usb, "disk"));
        files.extend(device("94:0", dasd, "disk"));
        files.push(driver_of("0000:00:03.0", "xhci_hcd"));
        let tree = tree(files);
        assert_eq!(disks(&tree.root, 254, 0), ["/dev/vda virtio -1 0:0:0"]);
        assert_eq!(disks(&tree.root, 8, 0), ["/dev/sda scsi -1 1:2:3"]);
        assert_eq!(disks(&tree.root, 8, 16), ["/dev/sdb usb 3 0:0:0"]);
        assert_eq!(disks(&tree.root, 94, 0), ["/dev/dasda unknown -1 0:0:0"]);
    }

    #[test]
    fn leaves_out_missing_facts() {
        // A disk without a `uevent` file and a known driver is left out.
        let bare = "pci0000:00/0000:00:04.0/block/xyz";
        let mut files = vec![
            file("sys/dev/block/254:0", &format!("-> ../../devices/{bare}")),
            file(&format!("sys/devices/{bare}/size"), "1"),
        ];
        // The controller is known, the position of the disk on it is not.
        let odd = "pci0000:00/0000:00:05.0/ata1/block/sda";
        files.extend(device("8:0", odd, "disk"));
        files.push(driver_of("0000:00:05.0", "ahci"));
        let tree = tree(files);
        assert!(disks(&tree.root, 254, 0).is_empty());
        assert_eq!(disks(&tree.root, 8, 0), ["/dev/sda unknown 5 0:0:0"]);
    }

    #[test]
    fn resolves_links_within_the_root() {
        let link = ("a/b/link", "-> ../../../../../etc/x");
        let tree = Tree::of(&[link]);
        let mut path = Path::of(&[b"a/b/link"]);
        follow(&tree.root, &mut path).unwrap();
        assert_eq!(relative(path.as_bytes()), b"etc/x");
    }
}
