//! Where a disk is attached, told from its resolved path in sysfs.
//!
//! A path such as `sys/devices/pci0000:00/0000:00:04.0/virtio1/block/vda` names every bus the disk
//! hangs on. What the path does not tell (the driver of a PCI function, the neighbours of a host
//! adapter) the caller looks up: [`Attachment::read`] asks for the one, [`Attachment::adapter_directory_len`] says where the others are.
//!
//! Differences from qemu-ga: the rank of an adapter counts all its neighbours, not eight; a disk of
//! virtio-scsi has its real target, as libvirt numbers it, not always 0; PCI functions count wherever
//! in the path they are, also below a bridge of the platform, as on ARM with a device tree.
//! Symbolic links, serial numbers and device nodes are the caller's.

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

/// What disks hang on.
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
    /// Nothing that is known.
    Unknown,
}

impl Driver {
    /// The driver of PCI functions with this name in sysfs; `Unknown` for bridges and others.
    #[inline(never)]
    pub fn named(name: &[u8]) -> Self {
        /// One a word: comparing with each in turn takes more code.
        const NAMES: &[u8] = b"ata_piix ahci sym53c8xx virtio-pci nvme xhci_hcd ehci-pci";
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

/// What the components of a path look like that tell something, `#` being a number: a PCI function,
/// the subchannel and the channel device in it, a SCSI device, an ATA port, a host adapter, a virtio
/// device.
const PATTERNS: &[[u8; 8]; 7] = &[
    *b"#:#:#.#\0",
    *b"#.#.#\0\0\0",
    *b"#.#.#\0\0\0",
    *b"#:#:#:#\0",
    *b"ata#\0\0\0\0",
    *b"host#\0\0\0",
    *b"virtio#\0",
];

/// The component was not found.
const NONE: [u64; 4] = [u64::MAX; 4];

fn is_something(numbers: &[u64; 4]) -> bool {
    numbers[0] != u64::MAX
}

/// Whether a component looks like `pattern`. If so, `all` are its numbers, 0 for those it has not;
/// hexadecimal but for SCSI and what has a name. If not, they mean nothing.
#[inline(never)]
fn numbers(component: &[u8], pattern: &[u8; 8], all: &mut [u64; 4]) -> bool {
    let base = if pattern.contains(&b'.') { 16 } else { 10 };
    *all = [0; 4];
    let mut slots = all.iter_mut();
    let mut rest = component;
    for wanted in pattern {
        if *wanted == 0 {
            break;
        }
        if *wanted != b'#' {
            match rest.split_first() {
                Some((byte, behind)) if byte == wanted => rest = behind,
                _ => return false,
            }
            continue;
        }
        let Some(slot) = slots.next() else {
            return false;
        };
        let before = rest;
        while let Some((byte, behind)) = rest.split_first()
            && let Some(digit) = char::from(*byte).to_digit(base)
        {
            *slot = slot.wrapping_mul(base.into()).wrapping_add(digit.into());
            rest = behind;
        }
        if rest.len() == before.len() {
            return false;
        }
    }
    rest.is_empty()
}

/// What a path tells of a disk: the numbers of the first component of each pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    found: [[u64; 4]; 7],
    driver: Driver,
}

impl Attachment {
    /// That of no path.
    pub fn unknown() -> Self {
        Self {
            found: [NONE; 7],
            driver: Driver::Unknown,
        }
    }

    /// Becomes what `path` tells. `driver` is given the directories of the PCI functions on the way,
    /// bridges first, until it knows the driver of one.
    pub fn read(&mut self, path: &[u8], driver: &mut dyn FnMut(&[u8]) -> Driver) {
        self.found.as_flattened_mut().fill(u64::MAX);
        self.driver = Driver::Unknown;
        let mut start = 0usize;
        let mut rest = path;
        while !rest.is_empty() {
            let part = cut(&mut rest, b'/');
            let end = start.wrapping_add(part.len());
            for (kind, (slot, pattern)) in self.found.iter_mut().zip(PATTERNS).enumerate() {
                if is_something(slot) {
                    continue;
                }
                let mut is_found = numbers(part, pattern, slot);
                if kind == 0
                    && is_found
                    && let Some(function) = path.get(..end)
                {
                    self.driver = driver(function);
                    is_found = self.driver != Driver::Unknown;
                }
                if is_found {
                    if kind > 3 {
                        // Where its neighbours are.
                        slot[3] = start as u64;
                    }
                    break;
                }
                *slot = NONE;
            }
            start = end.wrapping_add(1);
        }
        // A subchannel counts by the channel device in it.
        self.found[1][3] = self.found[2][2];
    }

    /// Domain, bus, slot and function of the controller; all bits set if it is not on PCI.
    pub fn pci(&self) -> &[u64; 4] {
        &self.found[0]
    }

    /// Channel subsystem, subchannel set, subchannel and device number, on s390.
    pub fn ccw(&self) -> Option<&[u64; 4]> {
        Some(&self.found[1]).filter(|[.., device]| *device != u64::MAX)
    }

    /// The adapter of an IDE or SATA disk (`ata3` if there is one, else `host2`): where the directory
    /// it is in ends in the path, slash included. `None` for disks on other buses.
    ///
    /// Its rank, how many of its neighbours there have lower numbers ([`Attachment::follows`]), is the bus
    /// or unit of the disk, for these two number their adapters through the whole machine. An AHCI
    /// controller has at most 32 ports, so counting them costs every disk the same.
    pub fn adapter_directory_len(&self) -> Option<usize> {
        let [.., start] = *self.adapter().1;
        let is_ranked = matches!(self.driver, Driver::AtaPiix | Driver::Ahci);
        (is_ranked && start != u64::MAX).then_some(start as usize)
    }

    /// Whether `name` is a neighbour of the adapter and has a lower number.
    pub fn is_lower_adapter(&self, name: &[u8]) -> bool {
        let (pattern, [own, ..]) = self.adapter();
        let mut theirs = NONE;
        numbers(name, pattern, &mut theirs) && theirs[0] < *own
    }

    fn adapter(&self) -> (&'static [u8; 8], &[u64; 4]) {
        if is_something(&self.found[4]) {
            (&PATTERNS[4], &self.found[4])
        } else {
            (&PATTERNS[5], &self.found[5])
        }
    }

    /// The kind of the disk's bus, and its bus (channel), target and unit there, all 0 before, as
    /// libvirt writes them into a drive address. `rank` is that of its adapter.
    ///
    /// `None` if the controller is not known, or the path lacks a part that its disks must have.
    #[inline(never)]
    pub fn drive_address(&self, rank: Option<u64>, numbers: &mut [u64; 3]) -> Option<Bus> {
        let [_, channel, target, unit] = self.found[3];
        match self.driver {
            Driver::Nvme => return Some(Bus::Nvme),
            Driver::Usb => return Some(Bus::Usb),
            Driver::Unknown if !is_something(&self.found[6]) => return None,
            _ if is_something(&self.found[3]) => {}
            Driver::VirtioPci | Driver::Unknown => return Some(Bus::Virtio),
            _ => return None,
        }
        match self.driver {
            Driver::AtaPiix => {
                *numbers = [rank?, 0, target];
                return Some(Bus::Ide);
            }
            Driver::Ahci => {
                numbers[2] = rank?;
                return Some(Bus::Sata);
            }
            Driver::Sym53c8xx => numbers[2] = target,
            Driver::VirtioPci => *numbers = [0, target, unit],
            _ => *numbers = [channel, target, unit],
        }
        Some(Bus::Scsi)
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

    fn place_of(path: &[u8], driver: &mut dyn FnMut(&[u8]) -> Driver) -> Attachment {
        let mut place = Attachment::unknown();
        place.read(path, driver);
        place
    }

    /// The place where only the last PCI function has a driver that is known.
    fn place(path: &[u8], driver: &[u8]) -> Attachment {
        let mut functions = 0;
        place_of(path, &mut |_| {
            functions += 1;
            Driver::Unknown
        });
        let mut seen = 0;
        place_of(path, &mut |directory| {
            seen += 1;
            assert!(path.starts_with(directory) && path[directory.len()] == b'/');
            match seen == functions {
                true => Driver::named(driver),
                false => Driver::named(b"pcieport"),
            }
        })
    }

    #[test]
    fn the_controller_is_found_behind_bridges() {
        let pci = |path| *place(path, b"virtio-pci").pci();
        assert_eq!(pci(VIRTIO), [0, 0, 4, 0]);
        assert_eq!(pci(BRIDGED), [0, 2, 10, 3]);
        assert_eq!(pci(USB), [0, 0, 3, 0]);
        assert_eq!(pci(ARM), [0, 0, 2, 0]);
        assert_eq!(pci(VMD), [0x10000, 0xe1, 0, 0]);
        assert_eq!(pci(MMIO), NONE);
        let mut asked = Vec::new();
        place_of(BRIDGED, &mut |directory| {
            asked.push(directory.to_vec());
            Driver::named(if asked.len() == 2 { b"ahci" } else { b"" })
        });
        assert_eq!(asked.len(), 2);
        assert!(asked[0].ends_with(b"/0000:00:1e.0") && asked[1].ends_with(b"/0000:01:01.0"));
    }

    #[test]
    fn scsi_numbers_are_found() {
        let scsi = |path| place(path, b"").found[3];
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
    fn an_adapter_is_ranked_among_its_like() {
        let ata = place(AHCI, b"ahci");
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
        let ide = place(b"0000:00:01.1/host1/target1:0:0/1:0:0:0", b"ata_piix");
        assert_eq!(ide.adapter_directory_len(), Some(13));
        let scsi = place(VIRTIO_SCSI, b"");
        assert_eq!(scsi.adapter_directory_len(), None);
        assert!(
            scsi.is_lower_adapter(b"host1")
                && !scsi.is_lower_adapter(b"host2")
                && !scsi.is_lower_adapter(b"ata1")
        );
        assert_eq!(place(VIRTIO, b"").adapter_directory_len(), None);
    }

    #[test]
    fn addresses_follow_the_table() {
        let address = |driver: &[u8], path, rank| {
            let mut numbers = [0; 3];
            let bus = place(path, driver).drive_address(rank, &mut numbers);
            assert!(bus.is_some() || numbers == [0; 3]);
            bus.map(|bus| (bus, numbers))
        };
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
    fn channel_devices_have_their_numbers() {
        let ccw = |path| place(path, b"").ccw().copied();
        assert_eq!(ccw(CCW), Some([0, 0, 1, 0xa02]));
        assert_eq!(ccw(b"/sys/devices/css0/0.0.0001"), None);
        assert_eq!(ccw(VIRTIO), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for path in [BRIDGED, VIRTIO_SCSI, AHCI, CCW, MMIO] {
            torture(path, |bytes| {
                let place = place_of(bytes, &mut |directory| {
                    assert!(directory.len() <= bytes.len());
                    Driver::Unknown
                });
                if let Some(end) = place.adapter_directory_len() {
                    assert!(end <= bytes.len());
                }
                place.ccw();
                place.is_lower_adapter(bytes);
                place.drive_address(Some(1), &mut [0; 3]);
            });
        }
    }
}
