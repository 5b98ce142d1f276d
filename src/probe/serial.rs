//! The serial number of a disk, as udev would have it: its property ID_SERIAL.
//!
//! Where udevd runs, its database has the last word. Where it does not, sysfs knows what udev's own
//! rules (60-persistent-storage.rules, systemd 252 and later) make ID_SERIAL of:
//!
//! | disk | ID_SERIAL |
//! | --- | --- |
//! | `vd*` | `serial` |
//! | `nvme*` | model, serial number and namespace, joined by `_` |
//! | `sd*`, ATA | model and serial number, joined by `_`: the T10 designator in `vpd_pg83` has both whole |
//! | `sd*` | the best designator in `vpd_pg83`, else the number in `vpd_pg80`, as scsi_id words them |
//!
//! Bytes that udev does not suffer become `_`. A partition has the serial number of its disk.
//!
//! Deliberate difference from qemu-ga, which without udev knows no serial number at all. USB disks
//! and CD drives, for which udev asks the device itself, have none here either.

use super::block::{self, contains, last_component};
use crate::base::limits::SERIAL_BYTES;
use crate::base::path::Path;
use crate::parse::udev::property;
use crate::sys::root::Root;

/// A serial number; empty if there is none.
pub struct Serial {
    text: heapless::Vec<u8, SERIAL_BYTES>,
    /// Whether blanks came last.
    gap: bool,
}

impl Serial {
    /// None.
    pub(super) fn none() -> Self {
        Self {
            text: heapless::Vec::new(),
            gap: false,
        }
    }

    /// The text, if there is one.
    pub fn text(&self) -> Option<&[u8]> {
        Some(&self.text[..]).filter(|text| !text.is_empty())
    }

    /// Appends a byte as it is.
    fn push(&mut self, byte: u8) -> Option<()> {
        self.text.push(byte).ok()
    }

    /// Appends words: `_` for the blanks between two of them, be they of one call or of two, and for
    /// each byte that udev does not suffer, which those in `harmless` are not.
    fn append(&mut self, words: &[u8], harmless: &[u8]) -> Option<()> {
        for byte in words {
            if byte.is_ascii_whitespace() && !harmless.contains(byte) {
                self.gap = !self.text.is_empty();
                continue;
            }
            if self.gap {
                self.push(b'_')?;
                self.gap = false;
            }
            let is_kept = byte.is_ascii_alphanumeric()
                || !byte.is_ascii()
                || HARMLESS.contains(byte)
                || harmless.contains(byte);
            self.push(if is_kept { *byte } else { b'_' })?;
        }
        Some(())
    }
}

/// Bytes beside letters and digits that udev leaves alone everywhere.
const HARMLESS: &[u8] = b"#+-.:=@_";

/// What it leaves alone in attributes that it takes over as they are.
const HARMLESS_IN_ATTRIBUTES: &[u8] = b"/ $%?,";

/// What else it leaves alone in what it puts together.
const NONE: &[u8] = b"";

/// Reads the serial number of a disk, or of the disk at `path` that it is a part of.
///
/// `numbers` are its own major and minor number, in words. The path comes back as it was.
pub(super) fn read(root: &Root, path: &mut Path, numbers: [&[u8]; 2], serial: &mut Serial) {
    let [major, minor] = numbers;
    if from_database(
        root,
        &Path::of(&[b"run/udev/data/b", major, b":", minor]),
        serial,
    )
    .is_some()
    {
        return;
    }
    let name = last_component(path.as_bytes());
    let read = if name.starts_with(b"vd") {
        virtio
    } else if name.starts_with(b"nvme") {
        nvme
    } else if name.starts_with(b"sd") && !contains(path.as_bytes(), b"/usb") {
        scsi
    } else {
        return;
    };
    if read(root, path, serial).is_none() {
        serial.text.clear();
    }
}

/// What the database of udevd says. `None` if it has no such entry; an entry without the property
/// means that there is no serial number.
fn from_database(root: &Root, entry: &Path, serial: &mut Serial) -> Option<()> {
    let mut lines = root.lines(entry).ok()?;
    while let Ok(Some(line)) = lines.next_line() {
        if let Some(value) = property(line, b"ID_SERIAL") {
            let _ = serial.text.extend_from_slice(value);
        }
    }
    Some(())
}

fn virtio(root: &Root, disk: &mut Path, serial: &mut Serial) -> Option<()> {
    let mut buffer = [0; 64];
    let attribute = block::read(root, disk, b"/serial", &mut buffer);
    serial.append(attribute.trim_ascii_end(), HARMLESS_IN_ATTRIBUTES)
}

fn nvme(root: &Root, disk: &mut Path, serial: &mut Serial) -> Option<()> {
    // Of a multipath head, the device is the subsystem, which has both as well.
    for name in [&b"/device/model"[..], b"/device/serial", b"/nsid"] {
        let mut buffer = [0; 64];
        let attribute = block::read(root, disk, name, &mut buffer);
        // Older kernels do not tell the namespace.
        if attribute.is_empty() && name != b"/nsid" {
            return None;
        }
        serial.append(attribute, NONE)?;
        serial.append(b" ", NONE)?;
    }
    Some(())
}

fn scsi(root: &Root, disk: &mut Path, serial: &mut Serial) -> Option<()> {
    let (mut vendor, mut model, mut page) = ([0; 9], [0; 17], [0; 1024]);
    // Both are filled up with blanks, which count, and a line feed.
    let vendor = block::read(root, disk, b"/device/vendor", &mut vendor).get(..8)?;
    let model = block::read(root, disk, b"/device/model", &mut model).get(..16)?;
    let page_83 = block::read(root, disk, b"/device/vpd_pg83", &mut page);
    let is_ata = vendor == b"ATA     ";
    if let Some(best) = best_designator(page_83, is_ata) {
        if is_ata {
            // Once more the vendor, then what the disk itself says.
            let (model, number) = best.value.get(8..)?.split_at_checked(40)?;
            serial.append(model, NONE)?;
            serial.append(b" ", NONE)?;
            return serial.append(number, NONE);
        }
        serial.push(b'0'.wrapping_add(best.kind))?;
        // What means something only to its vendor is told apart by vendor and model.
        if best.kind == VENDOR {
            serial.append(vendor, NONE)?;
            serial.append(model, NONE)?;
        }
        if best.is_text {
            return serial.append(best.value, NONE);
        }
        for byte in best.value {
            for digit in [byte >> 4, byte & 15] {
                let first = if digit < 10 { b'0' } else { b'a' - 10 };
                serial.push(first + digit)?;
            }
        }
        return Some(());
    }
    let number = block::read(root, disk, b"/device/vpd_pg80", &mut page).get(4..)?;
    serial.push(b'S')?;
    serial.append(vendor, NONE)?;
    serial.append(model, NONE)?;
    serial.append(number, NONE)
}

/// A name of a logical unit.
struct Designator<'a> {
    kind: u8,
    is_text: bool,
    value: &'a [u8],
}

/// Designator types of SPC-4.
const VENDOR: u8 = 0;
const T10: u8 = 1;
const EUI_64: u8 = 2;
const NAA: u8 = 3;

/// The designator that scsi_id, or for ATA disks ata_id, would name a disk by: the best of those in
/// VPD page 83h (SPC-4, 7.8.6) that name the logical unit itself, not its port or target.
fn best_designator(page: &[u8], is_ata: bool) -> Option<Designator<'_>> {
    let mut best = None;
    let mut best_order = u8::MAX;
    let mut rest = page.get(4..)?;
    while let Some(([code_set, about, _, len], behind)) = rest.split_first_chunk() {
        let (value, behind) = behind.split_at_checked(usize::from(*len))?;
        rest = behind;
        let is_text = match code_set & 0x0F {
            1 => false,
            2 => true,
            _ => continue,
        };
        let kind = about & 0x0F;
        // The type of an NAA designator is in its first half byte.
        let order = match (about & 0x3F, value.first().map_or(0, |byte| byte >> 4)) {
            (T10, _) if is_ata => 0,
            _ if is_ata => continue,
            (NAA, 6) => 0,
            (NAA, 5) => 1,
            (NAA, _) => 2,
            (EUI_64, _) => 3,
            (T10, _) => 4,
            (VENDOR, _) => 5,
            _ => continue,
        } << 1
            | u8::from(is_text);
        if order < best_order {
            best_order = order;
            best = Some(Designator {
                kind,
                is_text,
                value,
            });
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;
    use crate::probe::block::testing::Tree;

    /// The serial number of a disk that has these files.
    fn serial(disk: &str, files: &[(&str, &str)]) -> Option<String> {
        let name = format!(
            "serial-{}",
            std::thread::current().name()?.replace(':', "-")
        );
        let tree = Tree::new(&name, files);
        let mut serial = Serial::none();
        let mut path = Path::of(&[disk.as_bytes()]);
        read(&tree.root, &mut path, [b"8", b"0"], &mut serial);
        assert_eq!(path.as_bytes(), disk.as_bytes());
        serial
            .text()
            .map(|text| String::from_utf8(text.to_vec()).unwrap())
    }

    /// Page 83h with designators of code set, type (with association) and value; its header, which
    /// nobody looks at, is left blank.
    fn page(designators: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let mut page = vec![0; 4];
        for (code_set, about, value) in designators {
            page.extend([*code_set, *about, 0, value.len() as u8]);
            page.extend(*value);
        }
        page
    }

    fn scsi_serial(vendor: &str, page_83: &[u8], page_80: &str) -> Option<String> {
        let page_83 = std::str::from_utf8(page_83).unwrap();
        serial(
            "sda",
            &[
                ("sda/device/vendor", &format!("{vendor:8}\n")),
                ("sda/device/model", "QEMU HARDDISK   \n"),
                ("sda/device/vpd_pg83", page_83),
                ("sda/device/vpd_pg80", page_80),
            ],
        )
    }

    #[test]
    fn the_database_has_the_last_word() {
        let attribute = ("vda/serial", "from sysfs");
        let entry = |text| [("run/udev/data/b8:0", text), attribute];
        let known = entry("S:disk/by-id/virtio-abc\nE:ID_SERIAL_SHORT=x\nE:ID_SERIAL=abc def\n");
        assert_eq!(serial("vda", &known).as_deref(), Some("abc def"));
        assert_eq!(serial("vda", &entry("E:ID_PATH=x\n")), None);
        assert_eq!(serial("vda", &[attribute]).as_deref(), Some("from sysfs"));
    }

    #[test]
    fn attributes_are_taken_over_as_udev_does() {
        let virtio = |text| serial("vda", &[("vda/serial", text)]);
        assert_eq!(virtio("a b/%*\\\u{e4}").as_deref(), Some("a b/%__\u{e4}"));
        assert_eq!(virtio("x\n").as_deref(), Some("x"));
        assert_eq!(virtio(""), None);
        assert_eq!(serial("vda", &[]), None);
        assert_eq!(serial("loop0", &[("loop0/serial", "x")]), None);
    }

    #[test]
    fn nvme_has_model_number_and_namespace() {
        let model = (
            "nvme0n1/device/model",
            "QEMU NVMe Ctrl                          \n",
        );
        let number = ("nvme0n1/device/serial", "abc            \n");
        let namespace = ("nvme0n1/nsid", "3\n");
        let found = |files: &[(&str, &str)]| serial("nvme0n1", files);
        let whole = found(&[model, number, namespace]);
        assert_eq!(whole.as_deref(), Some("QEMU_NVMe_Ctrl_abc_3"));
        assert_eq!(
            found(&[model, number]).as_deref(),
            Some("QEMU_NVMe_Ctrl_abc")
        );
        assert_eq!(found(&[model, namespace]), None);
    }

    #[test]
    fn scsi_disks_go_by_their_best_designator() {
        let vendor = (2, VENDOR, &b"drive-scsi0"[..]);
        let t10 = (2, T10, &b"QEMU    thing"[..]);
        let naa = (1, NAA, &b"\x50\x00\x5c"[..]);
        let extended = (1, NAA, &b"\x60\x01"[..]);
        let port = (1, 0x10 | NAA, &b"\x61"[..]);
        let named = |all: &[_]| scsi_serial("QEMU", &page(all), "").unwrap();
        assert_eq!(named(&[vendor]), "0QEMU_QEMU_HARDDISK_drive-scsi0");
        assert_eq!(named(&[vendor, t10]), "1QEMU_thing");
        assert_eq!(named(&[vendor, port, naa, t10]), "350005c");
        assert_eq!(named(&[naa, extended, vendor]), "36001");
    }

    #[test]
    fn without_designators_there_may_be_a_number() {
        let number = "\0\u{0}\0\x04 4711";
        let found = scsi_serial("QEMU", b"", number);
        assert_eq!(found.as_deref(), Some("SQEMU_QEMU_HARDDISK_4711"));
        assert_eq!(scsi_serial("QEMU", b"", ""), None);
        assert_eq!(serial("sda", &[]), None);
    }

    #[test]
    fn ata_disks_have_model_and_number() {
        let whole = format!("ATA     {:40}{:>20}", "My Model", "4711");
        let found = scsi_serial(
            "ATA",
            &page(&[(2, VENDOR, b"x"), (2, T10, whole.as_bytes())]),
            "",
        );
        assert_eq!(found.as_deref(), Some("My_Model_4711"));
        let nameless = format!("ATA     {:60}", "My Model");
        let found = scsi_serial("ATA", &page(&[(2, T10, nameless.as_bytes())]), "");
        assert_eq!(found.as_deref(), Some("My_Model"));
    }

    #[test]
    fn usb_disks_have_none() {
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
    fn what_is_too_long_is_none() {
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
