//! Block devices, and the disks they lie on.
//!
//! Everything comes from sysfs: the directory of a device is where its link in /sys/dev/block leads,
//! and that path names the buses on the way (`parse::sysfs_disk`). What is made of other devices
//! (device-mapper, RAID) has links to them in `slaves`, which are followed down to the disks, each
//! directory in the order of names.
//! Links are resolved as text, below the root: those of sysfs are relative, and no directory they
//! lead through is a link itself.
//!
//! Nothing here fails: what cannot be read makes a disk with less to tell, or none.
//!
//! Differences from qemu-ga: a partition of a RAID array lies on the array's disks; the head of an
//! NVMe multipath has the address of its first controller; at most [`STACKED_DEVICES`] layers are
//! followed. Serial numbers have their own rules, see `probe::serial`.

use crate::base::limits::{BLOCK_NAME_BYTES, STACKED_DEVICES};
use crate::base::path::Path;
use crate::parse::sysfs_disk::{self, Address, BusType, Ccw, Driver, Pci};
use crate::parse::udev::uevent;
use crate::probe::serial::{self, Serial};
use crate::sys::Errno;
use crate::sys::root::Root;

/// Where devices without hardware of their own are, as seen from the root.
const VIRTUAL: &[u8] = b"sys/devices/virtual/block/";

/// Where the heads of NVMe multipath are, each in the directory of its subsystem.
const NVME_HEADS: &[u8] = b"sys/devices/virtual/nvme-subsystem/";

/// Bytes read of a `uevent` file. What is looked for stands at its beginning.
const UEVENT_BYTES: usize = 512;

/// The name of a device, or the path of its node.
pub type Name = heapless::Vec<u8, BLOCK_NAME_BYTES>;

/// A block device: a whole disk, a partition, or what is made of them.
pub struct Device {
    /// Its directory: `sys/devices/...`, no links in it.
    path: Path,
}

impl Device {
    /// The device with these numbers, if there is one in sysfs.
    pub fn numbered(root: &Root, major: u32, minor: u32) -> Option<Self> {
        let mut path = Path::of(&[b"sys/dev/block/"]);
        push_numbers(&mut path, major, minor);
        follow(root, &mut path).ok()?;
        // In a container links may lead to devices that are not there.
        root.has(&path).ok()?.then_some(Self { path })
    }

    /// Its name: `vda1`, `dm-0`.
    pub fn name(&self) -> &[u8] {
        last_component(self.path.as_bytes())
    }

    /// The disks it lies on, itself if it is one or part of one.
    pub fn disks(self) -> Disks {
        Disks {
            path: self.path,
            begun: false,
            layers: heapless::Vec::new(),
        }
    }
}

/// A disk, or a part of it that something lies on.
pub struct Disk {
    /// The controller, if it is on PCI.
    pub pci: Option<Pci>,
    /// The channel device, on s390.
    pub ccw: Option<Ccw>,
    /// Where it is on its bus.
    pub address: Address,
    /// The path of its node, `/dev/vda1`; empty if there is none.
    pub node: Name,
    /// What udev calls its serial number.
    pub serial: Serial,
}

/// The disks below a device, found one after the other.
pub struct Disks {
    /// The directory of the device that is looked at.
    path: Path,
    begun: bool,
    /// From the device that was asked for down to the one looked at.
    layers: heapless::Vec<Layer, STACKED_DEVICES>,
}

/// A device made of others.
struct Layer {
    device: Name,
    /// Which of its slaves had its turn last.
    slave: Name,
}

impl Disks {
    /// The next disk.
    pub fn next(&mut self, root: &Root) -> Option<Disk> {
        loop {
            if self.begun {
                self.advance(root)?;
            }
            self.begun = true;
            let Some(name) = self.path.as_bytes().strip_prefix(VIRTUAL) else {
                let disk = disk(root, &self.path);
                if disk.is_some() {
                    return disk;
                }
                continue;
            };
            // A partition has no slaves of its own, but its disk has.
            let name = name.split(|byte| *byte == b'/').next().unwrap_or_default();
            if let Ok(device) = Name::from_slice(name) {
                let slave = Name::new();
                // Deeper than the cap there is nothing to be found.
                let _ = self.layers.push(Layer { device, slave });
            }
        }
    }

    /// Goes to the next slave of the innermost layer that has one left.
    fn advance(&mut self, root: &Root) -> Option<()> {
        loop {
            let layer = self.layers.last_mut()?;
            self.path.truncate(0);
            for piece in [VIRTUAL, &layer.device, b"/slaves/"] {
                self.path.push(piece);
            }
            if next_link(root, &mut self.path, &mut layer.slave) {
                return Some(());
            }
            self.layers.pop();
        }
    }
}

/// Appends the numbers of a device as `major:minor`.
pub fn push_numbers(path: &mut Path, major: u32, minor: u32) {
    path.push_number(u64::from(major));
    path.push(b":");
    path.push_number(u64::from(minor));
}

/// Goes from a directory (`path`, with its slash) to where a link in it leads: the first, by bytes,
/// whose name comes after `name`, which then becomes that one's. False if there is none.
///
/// Looking anew for each name keeps neither a list nor a directory open.
fn next_link(root: &Root, path: &mut Path, name: &mut Name) -> bool {
    let directory = path.len();
    loop {
        let mut next = Name::new();
        let _ = root.list(path, &mut |other, _| {
            if other > &name[..] && (next.is_empty() || other < &next[..]) {
                next.clear();
                let _ = next.extend_from_slice(other);
            }
            true
        });
        if next.is_empty() {
            return false;
        }
        path.push(&next);
        *name = next;
        if follow(root, path).is_ok() {
            return true;
        }
        path.truncate(directory);
    }
}

/// What is at `path`, a device with hardware; `None` if nothing is known of it at all.
fn disk(root: &Root, path: &Path) -> Option<Disk> {
    let mut disk = Disk {
        pci: None,
        ccw: None,
        address: Address::sole(BusType::Unknown),
        node: Name::new(),
        serial: Serial::none(),
    };
    let mut buffer = [0; UEVENT_BYTES];
    let mut whole = Path::of(&[path.as_bytes()]);
    let facts = read(root, &mut whole, b"/uevent", &mut buffer);
    let fact = |key: &[u8]| uevent(facts, key).unwrap_or_default();
    let name = fact(b"DEVNAME");
    if !name.is_empty() && name.len() < BLOCK_NAME_BYTES - 5 {
        let _ = disk.node.extend_from_slice(b"/dev/");
        let _ = disk.node.extend_from_slice(name);
    }
    if fact(b"DEVTYPE") == b"partition" {
        leave(&mut whole);
    }
    serial::read(
        root,
        &mut whole,
        [fact(b"MAJOR"), fact(b"MINOR")],
        &mut disk.serial,
    );
    let located = disk.locate(root, path).is_some();
    (located || !disk.node.is_empty() || disk.serial.text().is_some()).then_some(disk)
}

impl Disk {
    /// Finds out where the disk at `path` is; gives `None` if that is not known.
    fn locate(&mut self, root: &Root, path: &Path) -> Option<()> {
        let mut path = Path::of(&[path.as_bytes()]);
        if let Some(head) = path.as_bytes().strip_prefix(NVME_HEADS) {
            let subsystem = head.iter().position(|byte| *byte == b'/')?;
            path.truncate(NVME_HEADS.len() + subsystem + 1);
            // The first link behind this name is that to the first controller.
            let mut link = Name::from_slice(b"nvme").ok()?;
            next_link(root, &mut path, &mut link).then_some(())?;
        }
        let path = path.as_bytes();
        let mut functions = sysfs_disk::pci_functions(path);
        let controller = functions.find_map(|pci| Some((pci, driver(root, path.get(..pci.end)?)?)));
        if let Some((pci, driver)) = controller {
            self.pci = Some(pci);
            self.address = driver.address(path, rank(root, path))?;
            return Some(());
        }
        self.ccw = sysfs_disk::ccw(path);
        if contains(path, b"/virtio") {
            self.address = sysfs_disk::virtio(path);
        } else {
            self.ccw.as_ref()?;
        }
        Some(())
    }
}

/// The driver of the PCI function at `directory`, if disks hang on it.
fn driver(root: &Root, directory: &[u8]) -> Option<Driver> {
    let mut target = [0; 256];
    let target = root
        .link(&Path::of(&[directory, b"/driver"]), &mut target)
        .ok()?;
    Driver::named(last_component(target))
}

/// How many adapters beside that of the disk at `path` have lower numbers.
fn rank(root: &Root, path: &[u8]) -> Option<u64> {
    let host = sysfs_disk::host(path)?;
    let mut rank = 0;
    let neighbours = Path::of(&[path.get(..host.parent_end)?]);
    let counted = root.list(&neighbours, &mut |name, _| {
        rank += u64::from(host.follows(name));
        true
    });
    counted.ok().map(|()| rank)
}

/// Puts in place of `path`, a symbolic link, where it leads.
fn follow(root: &Root, path: &mut Path) -> Result<(), Errno> {
    let mut target = [0; 1024];
    let target = root.link(path, &mut target)?;
    leave(path);
    for component in target.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => leave(path),
            name => {
                // Nothing leads out of the root, not even too many steps up.
                if !path.is_empty() {
                    path.push(b"/");
                }
                path.push(name);
            }
        }
    }
    Ok(())
}

/// Cuts the last component off.
pub(super) fn leave(path: &mut Path) {
    let above = path.as_bytes().iter().rposition(|byte| *byte == b'/');
    path.truncate(above.unwrap_or(0));
}

/// Reads the file `name` below `path`; nothing if that does not work out.
pub(super) fn read<'b>(
    root: &Root,
    path: &mut Path,
    name: &[u8],
    buffer: &'b mut [u8],
) -> &'b [u8] {
    let len = path.len();
    path.push(name);
    let bytes = root.read(path, buffer).unwrap_or_default();
    path.truncate(len);
    bytes
}

/// Whether `part` is anywhere in `path`.
pub(super) fn contains(path: &[u8], part: &[u8]) -> bool {
    path.windows(part.len()).any(|window| window == part)
}

/// What stands behind the last slash.
pub(super) fn last_component(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod testing {
    //! Machines to look at.

    use super::*;
    use std::ffi::{CString, OsStr};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    /// A made-up tree of files, removed when dropped.
    pub(crate) struct Tree {
        path: PathBuf,
        pub(crate) root: Root,
    }

    impl Tree {
        /// Files with their content; content that begins with `-> ` makes a symbolic link.
        pub(crate) fn new(name: &str, files: &[(&str, &str)]) -> Self {
            Self::of(
                name,
                files
                    .iter()
                    .map(|(path, content)| (*path, content.as_bytes().to_vec())),
            )
        }

        /// A machine out of tests/fixtures, whose `tree` lists its files.
        ///
        /// They are not kept as files: links that go in circles, as those of sysfs do, and names with
        /// colons give other programs trouble.
        pub(crate) fn captured(machine: &str) -> Self {
            let top = env!("CARGO_MANIFEST_DIR");
            let list = format!("{top}/tests/fixtures/{machine}/tree");
            let list = std::fs::read_to_string(list).unwrap();
            let entries = list.lines().filter(|line| !line.starts_with('#'));
            let files = entries.map(|line| {
                let (path, content) = line.split_once('\t').unwrap();
                (path, unescaped(content))
            });
            Self::of(machine, files)
        }

        fn of<'f>(name: &str, files: impl Iterator<Item = (&'f str, Vec<u8>)>) -> Self {
            let path = std::env::temp_dir().join(format!("gaunt-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            for (file, content) in files {
                let file = path.join(file);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                match content.strip_prefix(b"-> ") {
                    Some(target) => symlink(OsStr::from_bytes(target), file).unwrap(),
                    None => std::fs::write(file, content).unwrap(),
                }
            }
            let root = CString::new(path.to_str().unwrap()).unwrap();
            let root = Root::open(&root).unwrap();
            Self { path, root }
        }
    }

    /// Undoes `\n`, `\t`, `\xNN` and `\\`.
    fn unescaped(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'\\' => match rest.next().unwrap() {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'x' => {
                        let digits = [rest.next().unwrap(), rest.next().unwrap()];
                        u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap()
                    }
                    other => other,
                },
                byte => byte,
            });
        }
        bytes
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Tree;
    use super::*;

    /// The node and address of each disk below a device.
    fn disks(root: &Root, major: u32, minor: u32) -> Vec<String> {
        let mut disks = Device::numbered(root, major, minor).unwrap().disks();
        let mut found = Vec::new();
        while let Some(disk) = disks.next(root) {
            let Address {
                bus_type,
                bus,
                target,
                unit,
            } = disk.address;
            let node = String::from_utf8_lossy(&disk.node).into_owned();
            let slot = disk.pci.map_or(-1, |pci| pci.slot.cast_signed());
            let bus_type = bus_type.name();
            found.push(format!("{node} {bus_type} {slot} {bus}:{target}:{unit}"));
        }
        found
    }

    /// A device in sysfs: its link in /sys/dev/block, and the facts about it.
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

    /// That a device in sys/devices/virtual/block is made of another.
    fn made_of(name: &str, slave: &str) -> (String, String) {
        let slave_name = slave.rsplit('/').next().unwrap();
        (
            format!("sys/devices/virtual/block/{name}/slaves/{slave_name}"),
            format!("-> ../../../../{slave}"),
        )
    }

    fn tree(name: &str, files: impl IntoIterator<Item = (String, String)>) -> Tree {
        let files: Vec<_> = files.into_iter().collect();
        let files: Vec<_> = files.iter().map(|(a, b)| (&a[..], &b[..])).collect();
        Tree::new(&format!("block-{name}"), &files)
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
    fn a_disk_is_found_behind_bridges() {
        let tree = tree("plain", two_disks());
        assert_eq!(disks(&tree.root, 254, 1), ["/dev/vda1 virtio 4 0:0:0"]);
        assert_eq!(disks(&tree.root, 254, 16), ["/dev/vdb virtio 5 0:0:0"]);
        let device = Device::numbered(&tree.root, 254, 1).unwrap();
        assert_eq!(device.name(), b"vda1");
        assert!(Device::numbered(&tree.root, 254, 2).is_none());
    }

    #[test]
    fn layers_are_followed_down_to_the_disks() {
        let mut files = two_disks();
        // A volume on an array of a partition and a disk; the array has a partition, too.
        files.extend(device("253:0", "virtual/block/dm-0", "disk"));
        files.push(made_of("dm-0", "virtual/block/md127"));
        files.extend(device("9:127", "virtual/block/md127", "disk"));
        files.extend(device("259:0", "virtual/block/md127/md127p1", "partition"));
        files.push(made_of("md127", VDB));
        files.push(made_of("md127", &format!("{VDA}/vda1")));
        files.push(made_of("md127", "pci0000:00/0000:00:09.0/block/gone"));
        files.push(file("sys/devices/virtual/block/md127/slaves/odd", ""));
        let tree = tree("layers", files);
        let both = ["/dev/vda1 virtio 4 0:0:0", "/dev/vdb virtio 5 0:0:0"];
        assert_eq!(disks(&tree.root, 253, 0), both);
        assert_eq!(disks(&tree.root, 9, 127), both);
        assert_eq!(disks(&tree.root, 259, 0), both);
    }

    #[test]
    fn what_is_made_of_nothing_has_no_disks() {
        let mut files = Vec::new();
        files.extend(device("7:0", "virtual/block/loop0", "disk"));
        files.push(file("sys/devices/virtual/block/dm-1/slaves/.keep", ""));
        files.extend(device("253:1", "virtual/block/dm-1", "disk"));
        let tree = tree("nothing", files);
        assert!(disks(&tree.root, 7, 0).is_empty());
        assert!(disks(&tree.root, 253, 1).is_empty());
    }

    #[test]
    fn only_so_many_layers_are_followed() {
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
        // Whatever that should mean: a device made of itself.
        files.extend(device("253:100", "virtual/block/dm-100", "disk"));
        files.push(made_of("dm-100", "virtual/block/dm-100"));
        files.push(made_of("dm-100", VDB));
        let tree = tree("deep", files);
        let minor = |layer: usize| u32::try_from(layer).unwrap();
        let disk = "/dev/vdb virtio 5 0:0:0";
        assert_eq!(disks(&tree.root, 253, minor(last - 1)), [disk]);
        assert!(disks(&tree.root, 253, minor(last)).is_empty());
        assert_eq!(disks(&tree.root, 253, 100), [disk; STACKED_DEVICES]);
    }

    #[test]
    fn adapters_are_ranked_among_their_neighbours() {
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
        let tree = tree("ranks", files);
        assert_eq!(disks(&tree.root, 8, 0), ["/dev/sda sata 31 0:0:3"]);
        assert_eq!(disks(&tree.root, 8, 16), ["/dev/sdb ide 1 1:0:1"]);
    }

    #[test]
    fn a_head_of_nvme_multipath_is_where_its_first_controller_is() {
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
        let tree = tree("nvme", files);
        assert_eq!(disks(&tree.root, 259, 1), ["/dev/nvme0n1 nvme 6 0:0:0"]);
        assert_eq!(disks(&tree.root, 259, 2), ["/dev/nvme0n1p1 nvme 6 0:0:0"]);
    }

    #[test]
    fn other_buses_are_told_apart() {
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
        let tree = tree("buses", files);
        assert_eq!(disks(&tree.root, 254, 0), ["/dev/vda virtio -1 0:0:0"]);
        assert_eq!(disks(&tree.root, 8, 0), ["/dev/sda scsi -1 1:2:3"]);
        assert_eq!(disks(&tree.root, 8, 16), ["/dev/sdb usb 3 0:0:0"]);
        assert_eq!(disks(&tree.root, 94, 0), ["/dev/dasda unknown -1 0:0:0"]);
    }

    #[test]
    fn what_is_missing_is_left_out() {
        // Neither facts nor a driver: there is nothing to tell of such a disk.
        let bare = "pci0000:00/0000:00:04.0/block/xyz";
        let mut files = vec![
            file("sys/dev/block/254:0", &format!("-> ../../devices/{bare}")),
            file(&format!("sys/devices/{bare}/size"), "1"),
        ];
        // A controller that is known, and a disk on it whose place is not.
        let odd = "pci0000:00/0000:00:05.0/ata1/block/sda";
        files.extend(device("8:0", odd, "disk"));
        files.push(driver_of("0000:00:05.0", "ahci"));
        let tree = tree("missing", files);
        assert!(disks(&tree.root, 254, 0).is_empty());
        assert_eq!(disks(&tree.root, 8, 0), ["/dev/sda unknown 5 0:0:0"]);
    }

    #[test]
    fn links_never_lead_out_of_the_root() {
        let link = ("a/b/link", "-> ../../../../../etc/./x//y/../z");
        let tree = Tree::new("block-follow", &[link]);
        let mut path = Path::of(&[b"a/b/link"]);
        follow(&tree.root, &mut path).unwrap();
        assert_eq!(path.as_bytes(), b"etc/x/z");
    }
}
