//! Where a disk is attached: its controller and its address there, found in its resolved sysfs path.
//!
//! A path such as `sys/devices/pci0000:00/0000:00:04.0/virtio1/block/vda` names every bus between the
//! root of the machine and the disk. Two facts are missing in it, and the caller reads them from sysfs:
//! the driver of a PCI function ([`Attachment::of`] asks for it), and the rank of an IDE or SATA
//! adapter ([`Attachment::adapter_directory_len`], [`Attachment::is_lower_adapter`]).
//!
//! Differences from qemu-ga: the rank of an adapter counts all adapters beside it, not only the first
//! eight; a virtio-scsi disk has its real target, as libvirt numbers it, not always 0; PCI functions
//! count anywhere in the path, also below a bridge on the platform bus, as on ARM with a device tree.
//! Symbolic links, serial numbers and device nodes are not handled here.

use crate::base::text::cut;

/// The kind of bus that a disk is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// Parallel ATA.
    Ide,
    /// Serial ATA.
    Sata,
    /// SCSI, also virtio-scsi.
    Scsi,
    /// virtio-blk.
    Virtio,
    /// NVMe.
    Nvme,
    /// USB.
    Usb,
}

/// The driver of a disk controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Intel's parallel ATA.
    AtaPiix,
    /// Serial ATA.
    Ahci,
    /// LSI's parallel SCSI.
    Sym53c8xx,
    /// virtio.
    VirtioPci,
    /// NVMe.
    Nvme,
    /// USB 2 and 3.
    Usb,
    /// Any other.
    Unknown,
}

impl Driver {
    /// Returns the driver with this name in sysfs; `Unknown` also for bridges.
    pub fn named(name: &[u8]) -> Self {
        const NAMES: &[u8] = b"ata_piix ahci sym53c8xx virtio-pci nvme xhci_hcd ehci-pci";
        /// The drivers of these names, in the same order.
        const DRIVERS: &[Driver] = &[
            Driver::AtaPiix,
            Driver::Ahci,
            Driver::Sym53c8xx,
            Driver::VirtioPci,
            Driver::Nvme,
            Driver::Usb,
            Driver::Usb,
        ];
        let mut names = NAMES;
        for driver in DRIVERS {
            if cut(&mut names, b' ') == name {
                return *driver;
            }
        }
        Self::Unknown
    }
}

/// The path components that matter; `#` stands for a number. Indices are the constants below.
const PATTERNS: &[[u8; 8]; 7] = &[
    *b"#:#:#.#\0",
    *b"#.#.#\0\0\0",
    *b"#.#.#\0\0\0",
    *b"#:#:#:#\0",
    *b"ata#\0\0\0\0",
    *b"host#\0\0\0",
    *b"virtio#\0",
];
/// A PCI function: domain, bus, slot, function.
const PCI: usize = 0;
/// A subchannel of s390: channel subsystem, subchannel set, subchannel.
const SUBCHANNEL: usize = 1;
/// The channel device in it: the third number is its own.
const CHANNEL_DEVICE: usize = 2;
/// A SCSI device: host, channel, target, unit.
const SCSI: usize = 3;
/// An ATA port.
const ATA: usize = 4;
/// A host adapter.
const HOST: usize = 5;
/// A virtio device.
const VIRTIO: usize = 6;

/// The numbers of a component that the path does not have.
const NONE: [u64; 4] = [u64::MAX; 4];

fn is_found(numbers: &[u64; 4]) -> bool {
    numbers[0] != u64::MAX
}

/// Reads the numbers of a component that matches `pattern` into `numbers`; the rest of them is 0. Returns
/// whether it matches; if not, the content of `numbers` is undefined.
///
/// Numbers are hexadecimal if the pattern has a dot, otherwise decimal.
fn read_numbers(component: &[u8], pattern: &[u8; 8], numbers: &mut [u64; 4]) -> bool {
    let base = if pattern.contains(&b'.') { 16 } else { 10 };
    *numbers = [0; 4];
    let mut slots = numbers.iter_mut();
    let mut rest = component;
    for expected in pattern {
        if *expected == 0 {
            break;
        }
        if *expected != b'#' {
            match rest.split_first() {
                Some((byte, after)) if byte == expected => rest = after,
                _ => return false,
            }
            continue;
        }
        let Some(slot) = slots.next() else {
            return false;
        };
        let before = rest;
        while let Some((byte, after)) = rest.split_first()
            && let Some(digit) = char::from(*byte).to_digit(base)
        {
            *slot = slot.wrapping_mul(base.into()).wrapping_add(digit.into());
            rest = after;
        }
        if rest.len() == before.len() {
            return false;
        }
    }
    rest.is_empty()
}

/// What a path says about a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// For each pattern, the numbers of the first component that matches, or [`NONE`]. Patterns with one
    /// number have the component's offset in the path as fourth.
    found: [[u64; 4]; 7],
    driver: Driver,
}

impl Attachment {
    /// Returns the attachment of a disk without a path.
    pub fn unknown() -> Self {
        Self {
            found: [NONE; 7],
            driver: Driver::Unknown,
        }
    }

    /// Returns what a path says. `driver` is called with the directory of each PCI function in it,
    /// bridges first, until it returns a known driver.
    pub fn of(path: &[u8], driver: &mut dyn FnMut(&[u8]) -> Driver) -> Self {
        let mut attachment = Self::unknown();
        let mut start = 0usize;
        let mut rest = path;
        while !rest.is_empty() {
            let component = cut(&mut rest, b'/');
            let end = start.wrapping_add(component.len());
            for (index, (slot, pattern)) in attachment.found.iter_mut().zip(PATTERNS).enumerate() {
                if is_found(slot) {
                    continue;
                }
                let mut matches = read_numbers(component, pattern, slot);
                if index == PCI
                    && matches
                    && let Some(function) = path.get(..end)
                {
                    attachment.driver = driver(function);
                    matches = attachment.driver != Driver::Unknown;
                }
                if matches {
                    if index >= ATA {
                        slot[3] = start as u64;
                    }
                    break;
                }
                *slot = NONE;
            }
            start = end.wrapping_add(1);
        }
        // A subchannel without a channel device stays without a device number.
        attachment.found[SUBCHANNEL][3] = attachment.found[CHANNEL_DEVICE][2];
        attachment
    }

    /// Returns domain, bus, slot and function of the PCI controller; all bits set if there is none.
    pub fn pci(&self) -> &[u64; 4] {
        &self.found[PCI]
    }

    /// Returns channel subsystem, subchannel set, subchannel and device number on s390.
    pub fn ccw(&self) -> Option<&[u64; 4]> {
        Some(&self.found[SUBCHANNEL]).filter(|[.., device]| *device != u64::MAX)
    }

    /// For an IDE or SATA disk, returns the length of the path up to the directory of its adapter (`ata3`
    /// if there is one, otherwise `host2`), with its slash.
    ///
    /// The caller counts the adapters in that directory that have a lower number
    /// ([`Attachment::is_lower_adapter`]): that rank is bus or unit of the disk, because adapter numbers
    /// are unique in the whole machine. An AHCI controller has at most 32 ports, so this is cheap.
    pub fn adapter_directory_len(&self) -> Option<usize> {
        let [.., start] = *self.adapter().1;
        let is_ranked = matches!(self.driver, Driver::AtaPiix | Driver::Ahci);
        (is_ranked && start != u64::MAX).then_some(start as usize)
    }

    /// Whether `name` is an adapter of the same kind as the disk's, with a lower number.
    pub fn is_lower_adapter(&self, name: &[u8]) -> bool {
        let (pattern, [own, ..]) = self.adapter();
        let mut other = NONE;
        read_numbers(name, pattern, &mut other) && other[0] < *own
    }

    fn adapter(&self) -> (&'static [u8; 8], &[u64; 4]) {
        if is_found(&self.found[ATA]) {
            (&PATTERNS[ATA], &self.found[ATA])
        } else {
            (&PATTERNS[HOST], &self.found[HOST])
        }
    }

    /// Returns the kind of the disk's bus, and bus (channel), target and unit, as libvirt writes them
    /// into a drive address. `rank` is that of the adapter.
    ///
    /// `None` if the controller is not known, or if the path lacks a component that its disks have.
    pub fn drive_address(&self, rank: Option<u64>) -> Option<(Bus, [u64; 3])> {
        let [_, channel, target, unit] = self.found[SCSI];
        let has_target = is_found(&self.found[SCSI]);
        Some(match self.driver {
            Driver::Nvme => (Bus::Nvme, [0; 3]),
            Driver::Usb => (Bus::Usb, [0; 3]),
            Driver::Unknown if !is_found(&self.found[VIRTIO]) => return None,
            Driver::VirtioPci | Driver::Unknown if !has_target => (Bus::Virtio, [0; 3]),
            _ if !has_target => return None,
            Driver::AtaPiix => (Bus::Ide, [rank?, 0, target]),
            Driver::Ahci => (Bus::Sata, [0, 0, rank?]),
            Driver::Sym53c8xx => (Bus::Scsi, [0, 0, target]),
            Driver::VirtioPci => (Bus::Scsi, [0, target, unit]),
            _ => (Bus::Scsi, [channel, target, unit]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    const VIRTIO: &[u8] = b"/sys/devices/pci0000:00/0000:00:04.0/virtio1/block/vda/vda1";
    const BRIDGED: &[u8] =
        b"/sys/devices/pci0000:00/0000:00:1e.0/0000:01:01.0/0000:02:0a.3/virtio5/block/vdb";
    const VIRTIO_SCSI: &[u8] =
        b"/sys/devices/pci0000:00/0000:00:05.0/virtio2/host2/target2:0:3/2:0:3:7/block/sdb";
    const MEGARAID: &[u8] =
        b"/sys/devices/pci0000:00/0000:00:05.0/host2/target2:0:3/2:0:3:7/block/sdb";
    const AHCI: &[u8] =
        b"/sys/devices/pci0000:00/0000:00:1f.2/ata12/host11/target11:0:0/11:0:0:0/block/sda";
    const IDE: &[u8] =
        b"/sys/devices/pci0000:00/0000:00:01.1/ata2/host1/target1:0:1/1:0:1:0/block/sr0";
    const NVME: &[u8] = b"/sys/devices/pci0000:00/0000:00:06.0/nvme/nvme0/nvme0n1";
    const USB: &[u8] = b"/sys/devices/pci0000:00/0000:00:03.0/usb1/1-1/1-1:1.0/host3/target3:0:0\
/3:0:0:0/block/sdc";
    const CCW: &[u8] = b"/sys/devices/css0/0.0.0001/0.0.0a02/virtio1/block/vda";
    const MMIO: &[u8] = b"/sys/devices/platform/a003e00.virtio_mmio/virtio0/block/vda";
    const MMIO_SCSI: &[u8] =
        b"/sys/devices/platform/a.virtio_mmio/virtio0/host0/target0:1:2/0:1:2:3/block/sda";
    const ARM: &[u8] = b"/sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:02.0/virtio1/\
block/vda";
    const VMD: &[u8] =
        b"/sys/devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0/10000:e1:00.0/nvme/nvme0";

    fn read(path: &[u8], driver: &mut dyn FnMut(&[u8]) -> Driver) -> Attachment {
        Attachment::of(path, driver)
    }

    /// Reads a path in which only the last PCI function has a known driver.
    fn attachment(path: &[u8], driver: &[u8]) -> Attachment {
        let mut functions = 0;
        read(path, &mut |_| {
            functions += 1;
            Driver::Unknown
        });
        let mut seen = 0;
        read(path, &mut |directory| {
            seen += 1;
            assert!(path.starts_with(directory) && path[directory.len()] == b'/');
            match seen == functions {
                true => Driver::named(driver),
                false => Driver::named(b"pcieport"),
            }
        })
    }

    #[test]
    fn finds_the_controller_behind_bridges() {
        let pci = |path| *attachment(path, b"virtio-pci").pci();
        assert_eq!(pci(VIRTIO), [0, 0, 4, 0]);
        assert_eq!(pci(BRIDGED), [0, 2, 10, 3]);
        assert_eq!(pci(USB), [0, 0, 3, 0]);
        assert_eq!(pci(ARM), [0, 0, 2, 0]);
        assert_eq!(pci(VMD), [0x10000, 0xe1, 0, 0]);
        assert_eq!(pci(MMIO), NONE);
        let mut asked = Vec::new();
        read(BRIDGED, &mut |directory| {
            asked.push(directory.to_vec());
            Driver::named(if asked.len() == 2 { b"ahci" } else { b"" })
        });
        assert_eq!(asked.len(), 2);
        assert!(asked[0].ends_with(b"/0000:00:1e.0") && asked[1].ends_with(b"/0000:01:01.0"));
    }

    #[test]
    fn finds_the_numbers_of_the_scsi_device() {
        let scsi = |path| attachment(path, b"").found[SCSI];
        assert_eq!(scsi(VIRTIO_SCSI), [2, 0, 3, 7]);
        for path in [
            VIRTIO,
            NVME,
            b"/target1:0:1",
            b"/target1:0:1/1:0:1",
            b"/target1:0:1/1:0:1:0x",
            b"/target1:0:1/1:0::1:0",
        ] {
            assert_eq!(scsi(path), NONE, "{}", path.escape_ascii());
        }
    }

    #[test]
    fn the_rank_of_an_adapter_counts_lower_numbers_of_its_kind() {
        let ata = attachment(AHCI, b"ahci");
        assert!(AHCI[..ata.adapter_directory_len().unwrap()].ends_with(b"/0000:00:1f.2/"));
        let neighbours = [
            &b"ata7"[..],
            b"ata8",
            b"ata12",
            b"ata13",
            b"ata_x",
            b"host1",
            b"driver",
        ];
        assert_eq!(
            neighbours
                .iter()
                .filter(|name| ata.is_lower_adapter(name))
                .count(),
            2
        );
        let ide = attachment(b"0000:00:01.1/host1/target1:0:0/1:0:0:0", b"ata_piix");
        assert_eq!(ide.adapter_directory_len(), Some(13));
        let scsi = attachment(VIRTIO_SCSI, b"");
        assert_eq!(scsi.adapter_directory_len(), None);
        assert!(
            scsi.is_lower_adapter(b"host1")
                && !scsi.is_lower_adapter(b"host2")
                && !scsi.is_lower_adapter(b"ata1")
        );
        assert_eq!(attachment(VIRTIO, b"").adapter_directory_len(), None);
    }

    #[test]
    fn each_driver_has_its_kind_of_drive_address() {
        let address = |driver: &[u8], path, rank| attachment(path, driver).drive_address(rank);
        for (driver, path, rank, expected) in [
            (&b"ata_piix"[..], IDE, Some(1), Some((Bus::Ide, [1, 0, 1]))),
            (b"ata_piix", IDE, None, None),
            (b"ata_piix", VIRTIO, Some(1), None),
            (b"ahci", AHCI, Some(4), Some((Bus::Sata, [0, 0, 4]))),
            (b"ahci", AHCI, None, None),
            (b"ahci", VIRTIO, Some(4), None),
            (
                b"sym53c8xx",
                VIRTIO_SCSI,
                None,
                Some((Bus::Scsi, [0, 0, 3])),
            ),
            (b"sym53c8xx", VIRTIO, None, None),
            (
                b"virtio-pci",
                VIRTIO_SCSI,
                None,
                Some((Bus::Scsi, [0, 3, 7])),
            ),
            (b"virtio-pci", VIRTIO, None, Some((Bus::Virtio, [0; 3]))),
            (b"nvme", NVME, None, Some((Bus::Nvme, [0; 3]))),
            (b"xhci_hcd", USB, None, Some((Bus::Usb, [0; 3]))),
            (b"ehci-pci", USB, None, Some((Bus::Usb, [0; 3]))),
            (b"uhci_hcd", USB, None, None),
            (b"megaraid_sas", MEGARAID, None, None),
            (b"", MMIO, None, Some((Bus::Virtio, [0; 3]))),
            (b"", MMIO_SCSI, None, Some((Bus::Scsi, [1, 2, 3]))),
            (b"", CCW, None, Some((Bus::Virtio, [0; 3]))),
        ] {
            let found = address(driver, path, rank);
            assert_eq!(found, expected, "{}", path.escape_ascii());
        }
    }

    #[test]
    fn reads_the_numbers_of_channel_devices() {
        let ccw = |path| attachment(path, b"").ccw().copied();
        assert_eq!(ccw(CCW), Some([0, 0, 1, 0xa02]));
        assert_eq!(ccw(b"/sys/devices/css0/0.0.0001"), None);
        assert_eq!(ccw(VIRTIO), None);
    }

    #[test]
    fn no_input_panics() {
        for path in [BRIDGED, VIRTIO_SCSI, AHCI, CCW, MMIO] {
            torture(path, |bytes| {
                let attachment = read(bytes, &mut |directory| {
                    assert!(directory.len() <= bytes.len());
                    Driver::Unknown
                });
                if let Some(end) = attachment.adapter_directory_len() {
                    assert!(end <= bytes.len());
                }
                attachment.ccw();
                attachment.is_lower_adapter(bytes);
                attachment.drive_address(Some(1));
            });
        }
    }
}
