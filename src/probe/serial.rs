//! The serial number of a disk, as in udev's property ID_SERIAL.
//!
//! With udevd it comes from udev's database. Without, it is made from sysfs as udev's own rules
//! make it (60-persistent-storage.rules, systemd 252 and later):
//!
//! | disk | ID_SERIAL |
//! | --- | --- |
//! | `vd*` | `serial` |
//! | `nvme*` | model, serial number and namespace |
//! | `sd*`, ATA | model and serial number: the T10 designator in `vpd_pg83` has both whole |
//! | `sd*`, SCSI | type and value of the best designator in `vpd_pg83`, as scsi_id words it |
//!
//! Blanks, and bytes that udev does not accept, become `_`. A partition has the serial number of
//! its disk.
//!
//! Reading `serial` of a virtio disk is a request to the host, which takes longer than all the rest. It
//! is kept under the number of the disk, which no other disk gets while the guest runs.
//!
//! Difference from qemu-ga: without udev it has no serial numbers. USB disks, CD drives, and SCSI
//! disks without `vpd_pg83`, which udev asks by a command to the device, have none here either
//! without udev. Difference from udev: of several designators of the best type the first one
//! counts, whatever its length.

use super::sysfs::{attribute, last_component};
use crate::base::limits::SERIAL_BYTES;
use crate::base::path::Path;
use crate::base::recent::RecentAnswers;
use crate::base::text::{cut, hex_digit};
use crate::sys::root::Root;

/// Bytes beside letters and digits that udev keeps in a serial number that it composes.
const HARMLESS: &[u8] = b"#+-.:=@_";

/// Bytes beside letters and digits that udev keeps in an attribute that it uses as a whole.
const HARMLESS_IN_ATTRIBUTES: &[u8] = b"#+-.:=@_/ $%?,";

/// A serial number; empty without one.
pub struct Serial {
    pub(super) text: heapless::Vec<u8, SERIAL_BYTES>,
    /// Whether the latest bytes were blanks, which become one `_` before the next byte.
    gap: bool,
    /// Bytes beside letters and digits that are kept.
    harmless: &'static [u8],
    /// Whether a byte did not fit.
    is_cut: bool,
}

impl Serial {
    /// An empty serial number.
    pub(super) fn empty() -> Self {
        Self {
            text: heapless::Vec::new(),
            gap: false,
            harmless: HARMLESS,
            is_cut: false,
        }
    }

    /// The text; `None` if it is empty.
    pub fn text(&self) -> Option<&[u8]> {
        Some(&self.text[..]).filter(|text| !text.is_empty())
    }

    /// Appends text. Blanks become one `_` between two words, also if the words come from two
    /// calls, and nothing at both ends. Each byte that is not harmless becomes `_`.
    fn append(&mut self, words: &[u8]) {
        for byte in words {
            let mut byte = *byte;
            if !byte.is_ascii_alphanumeric() && byte.is_ascii() && !self.harmless.contains(&byte) {
                if byte.is_ascii_whitespace() {
                    self.gap = true;
                    continue;
                }
                byte = b'_';
            }
            if self.gap && !self.text.is_empty() {
                self.push(b'_');
            }
            self.gap = false;
            self.push(byte);
        }
    }

    // Called in several places: keeps one copy of the code.
    #[inline(never)]
    fn push(&mut self, byte: u8) {
        self.is_cut |= self.text.push(byte).is_err();
    }
}

/// Composes the serial number of the disk at `path` from sysfs. `serial` must be empty. `attached` is
/// the number that the kernel gave the disk when it was attached, or 0.
pub(super) fn read(
    root: &Root,
    path: &Path,
    attached: u64,
    virtio_serials: &RecentAnswers,
    serial: &mut Serial,
) {
    let name = last_component(path);
    let known = if name.starts_with(b"vd") {
        virtio(root, path, attached, virtio_serials, serial)
    } else if name.starts_with(b"nvme") {
        // The `device` of a multipath head is its subsystem, which has the same attributes.
        const NAMES: &[u8] = b"/device/model /device/serial /nsid";
        attributes(root, path, NAMES, serial)
    } else if name.starts_with(b"sd") && !path.as_bytes().windows(4).any(|part| part == b"/usb") {
        scsi(root, path, serial)
    } else {
        None
    };
    if known.is_none() || serial.is_cut {
        serial.text.clear();
    }
}

/// Appends the serial number of a virtio disk: the one that is kept, or the host's.
fn virtio(
    root: &Root,
    disk: &Path,
    attached: u64,
    kept: &RecentAnswers,
    serial: &mut Serial,
) -> Option<()> {
    serial.harmless = HARMLESS_IN_ATTRIBUTES;
    if let Some(known) = kept.find(attached) {
        serial.append(cut(&mut &known[..], 0));
        return Some(());
    }
    let mut buffer = [0; 64];
    let answer = attribute(root, disk, b"/serial", &mut buffer).trim_ascii_end();
    answer.first()?;
    kept.keep(attached, answer);
    serial.append(answer);
    Some(())
}

/// Appends the attributes in `names`, which have a blank between two. All must exist.
fn attributes(root: &Root, disk: &Path, names: &[u8], serial: &mut Serial) -> Option<()> {
    let mut rest = names;
    while !rest.is_empty() {
        let name = cut(&mut rest, b' ');
        let mut buffer = [0; 64];
        let attribute = attribute(root, disk, name, &mut buffer).trim_ascii_end();
        attribute.first()?;
        serial.append(attribute);
        serial.gap = true;
    }
    Some(())
}

// Designator types of SPC-4 (7.8.6): vendor-specific, T10 vendor, EUI-64 (2), NAA. scsi_id prefers
// higher types.
const VENDOR: u8 = 0;
const T10: u8 = 1;
const NAA: u8 = 3;

fn scsi(root: &Root, disk: &Path, serial: &mut Serial) -> Option<()> {
    let (mut buffer, mut page) = ([0; 16], [0; 1024]);
    let page = attribute(root, disk, b"/device/vpd_pg83", &mut page);
    let vendor = attribute(root, disk, b"/device/vendor", &mut buffer);
    let is_ata = vendor.starts_with(b"ATA ");
    let (kind, is_text, mut value) = best_designator(page, is_ata)?;
    if is_ata {
        // Skips the vendor, `ATA     `, before model and serial number.
        value = value.get(8..)?;
    } else {
        serial.push(b'0'.wrapping_add(kind));
    }
    if kind == VENDOR {
        // Vendor and model make a vendor-specific designator unique. Both are padded with blanks.
        serial.append(vendor);
        serial.append(attribute(root, disk, b"/device/model", &mut buffer));
    }
    if is_text {
        serial.append(value);
    } else {
        for byte in value {
            serial.push(hex_digit(byte >> 4));
            serial.push(hex_digit(byte & 15));
        }
    }
    Some(())
}

/// Returns type, whether it is text, and value of the best designator in a page 83h. Only
/// designators of the logical unit count, not those of its port or target. For ATA disks only the
/// T10 designator counts.
fn best_designator(page: &[u8], is_ata: bool) -> Option<(u8, bool, &[u8])> {
    let (mut least, most) = if is_ata { (T10, T10) } else { (VENDOR, NAA) };
    let mut best = None;
    let mut rest = page.get(4..)?;
    while let Some((head @ [_, about, _, len], behind)) = rest.split_first_chunk() {
        let (value, behind) = behind.split_at_checked(usize::from(*len))?;
        rest = behind;
        let kind = about & 0x3F;
        if (least..=most).contains(&kind) {
            least = kind + 1;
            best = Some((head, value));
        }
    }
    let ([code_set, about, ..], value) = best?;
    Some((about & 0x3F, code_set & 0x0F == 2, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;
    use crate::probe::block;
    use crate::sys::testing::Tree;

    /// The serial number of a disk that has these files.
    fn serial(disk: &str, files: &[(&str, &str)]) -> Option<String> {
        let mut files = files.to_vec();
        let facts = format!("{disk}/uevent");
        files.push((&facts, "MAJOR=8\nMINOR=0\n"));
        let tree = Tree::of(&files);
        let path = Path::of(&[disk.as_bytes()]);
        let device = block::BlockDevice::at(&tree.root, &path);
        let found = block::Devices::new(&tree.root, &RecentAnswers::new()).disk(device, &path);
        let serial = found.serial.text();
        serial.map(|text| String::from_utf8(text.to_vec()).unwrap())
    }

    /// A page 83h with designators of code set, type (with association) and value. Its header is
    /// not read.
    fn page(designators: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let mut page = vec![0; 4];
        for (code_set, about, value) in designators {
            page.extend([*code_set, *about, 0, value.len() as u8]);
            page.extend(*value);
        }
        page
    }

    fn scsi_serial(vendor: &str, page_83: &[u8]) -> Option<String> {
        let page_83 = std::str::from_utf8(page_83).unwrap();
        serial(
            "sda",
            &[
                ("sda/device/vendor", &format!("{vendor:8}\n")),
                ("sda/device/model", "QEMU HARDDISK   \n"),
                ("sda/device/vpd_pg83", page_83),
            ],
        )
    }

    #[test]
    fn serial_of_a_virtio_disk_is_kept_as_long_as_its_number() {
        let disk = "sys/devices/pci0/virtio1/block/vda";
        let tree = Tree::new();
        let kept = RecentAnswers::new();
        let read = |number: &str, serial: &str| {
            let facts = format!("MAJOR=254\nMINOR=0\nDEVNAME=vda\nDEVTYPE=disk\n{number}");
            tree.file(format!("{disk}/uevent"), &facts);
            tree.file(format!("{disk}/serial"), serial);
            let path = Path::of(&[disk.as_bytes()]);
            let device = block::BlockDevice::at(&tree.root, &path);
            let found = block::Devices::new(&tree.root, &kept).disk(device, &path);
            String::from_utf8(found.serial.text().unwrap_or_default().to_vec()).unwrap()
        };
        assert_eq!(read("DISKSEQ=3\n", "first"), "first");
        assert_eq!(read("DISKSEQ=3\n", "changed"), "first");
        assert_eq!(read("DISKSEQ=4\n", "another"), "another");
        // A serial number that is missing is asked for again.
        assert_eq!(read("DISKSEQ=5\n", ""), "");
        assert_eq!(read("DISKSEQ=5\n", "late"), "late");
        // An old kernel gives disks no numbers.
        assert_eq!(read("", "one"), "one");
        assert_eq!(read("", "two"), "two");
    }

    #[test]
    fn prefers_the_database_of_udev() {
        let attribute = ("vda/serial", "from sysfs");
        let entry = |text| [("run/udev/data/b8:0", text), attribute];
        let known = entry("S:disk/by-id/virtio-abc\nE:ID_SERIAL_SHORT=x\nE:ID_SERIAL=abc def\n");
        assert_eq!(serial("vda", &known).as_deref(), Some("abc def"));
        assert_eq!(serial("vda", &entry("E:ID_PATH=x\n")), None);
        assert_eq!(serial("vda", &[attribute]).as_deref(), Some("from sysfs"));
    }

    #[test]
    fn copies_attributes_as_udev_does() {
        let virtio = |text| serial("vda", &[("vda/serial", text)]);
        assert_eq!(virtio("a b/%*\\\u{e4}").as_deref(), Some("a b/%__\u{e4}"));
        assert_eq!(virtio("x\n").as_deref(), Some("x"));
        assert_eq!(virtio(""), None);
        assert_eq!(serial("vda", &[]), None);
        assert_eq!(serial("sda", &[]), None);
        assert_eq!(serial("loop0", &[("loop0/serial", "x")]), None);
    }

    #[test]
    fn composes_nvme_serial_of_model_number_and_namespace() {
        let model = (
            "nvme0n1/device/model",
            "QEMU NVMe Ctrl                          \n",
        );
        let number = ("nvme0n1/device/serial", "abc            \n");
        let namespace = ("nvme0n1/nsid", "3\n");
        let found = |files: &[(&str, &str)]| serial("nvme0n1", files);
        let whole = found(&[model, number, namespace]);
        assert_eq!(whole.as_deref(), Some("QEMU_NVMe_Ctrl_abc_3"));
        assert_eq!(found(&[model, number]), None);
        assert_eq!(found(&[model, namespace]), None);
    }

    #[test]
    fn uses_the_best_designator_of_scsi_disks() {
        let vendor = (2, VENDOR, &b"drive-scsi0"[..]);
        let t10 = (2, T10, &b"QEMU    thing"[..]);
        let naa = (1, NAA, &b"\x50\x00\x5c"[..]);
        let eui = (1, 2, &b"\x00\x5c"[..]);
        let port = (1, 0x10 | NAA, &b"\x61"[..]);
        let named = |all: &[_]| scsi_serial("QEMU", &page(all)).unwrap();
        assert_eq!(named(&[vendor]), "0QEMU_QEMU_HARDDISK_drive-scsi0");
        assert_eq!(named(&[vendor, t10]), "1QEMU_thing");
        assert_eq!(named(&[vendor, port, naa, t10]), "350005c");
        assert_eq!(named(&[vendor, eui]), "2005c");
    }

    #[test]
    fn composes_ata_serial_of_model_and_number() {
        let whole = format!("ATA     {:40}{:>20}", "My Model", "4711");
        let found = scsi_serial(
            "ATA",
            &page(&[(2, VENDOR, b"x"), (2, T10, whole.as_bytes())]),
        );
        assert_eq!(found.as_deref(), Some("My_Model_4711"));
        let nameless = format!("ATA     {:60}", "My Model");
        let found = scsi_serial("ATA", &page(&[(2, T10, nameless.as_bytes())]));
        assert_eq!(found.as_deref(), Some("My_Model"));
    }

    #[test]
    fn has_no_serial_for_usb_disks() {
        let disk = "pci/usb1/1-1/block/sda";
        let page = page(&[(2, VENDOR, b"x")]);
        let files = [
            (&format!("{disk}/device/vendor")[..], "QEMU    \n"),
            (&format!("{disk}/device/model"), "QEMU HARDDISK   \n"),
            (
                &format!("{disk}/device/vpd_pg83"),
                std::str::from_utf8(&page).unwrap(),
            ),
        ];
        assert_eq!(serial(disk, &files), None);
    }

    #[test]
    fn drops_a_serial_that_is_too_long() {
        let long = "x".repeat(SERIAL_BYTES + 1);
        let entry = format!("E:ID_SERIAL={long}\n");
        assert_eq!(serial("vda", &[("run/udev/data/b8:0", &entry)]), None);
    }

    #[test]
    fn no_page_makes_it_panic() {
        let sample = page(&[
            (2, VENDOR, b"drive"),
            (1, NAA, &[0x50; 8]),
            (1, 0x14, &[0, 1]),
        ]);
        torture(&sample, |bytes| {
            best_designator(bytes, false);
            best_designator(bytes, true);
        });
    }
}
