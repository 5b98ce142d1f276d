//! Where a disk is attached, told from its resolved path in sysfs.
//!
//! A path such as `/sys/devices/pci0000:00/0000:00:04.0/virtio1/block/vda` names every bus the disk
//! hangs on. What the path does not tell (the driver of a PCI function, the neighbours of a host
//! adapter) the caller looks up: [`pci_functions`] and [`Host`] say where.
//!
//! Differences from qemu-ga: the rank of an adapter counts all its neighbours, not eight; a disk of
//! virtio-scsi has its real target, as libvirt numbers it, not always 0; NVMe multipath heads are
//! [`Place::Other`], as there.
//! Symbolic links, serial numbers and device nodes are the caller's.

use super::after;
use crate::base::text::parse_u64;

/// What kind of place a path is, and so how to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Made of other devices (device-mapper, RAID) or of none (loop): look at its `slaves`.
    Virtual,
    /// Behind a PCI function: try [`pci_functions`].
    Pci,
    /// A channel device of s390: [`ccw`], then [`virtio`].
    Ccw,
    /// virtio without PCI, such as virtio-mmio: [`virtio`].
    Virtio,
    /// Anything else.
    Other,
}

/// The kind of place `path` is.
pub fn place(path: &[u8]) -> Place {
    let has = |part: &[u8]| after(path, part).is_some();
    if has(b"/devices/virtual/block/") {
        Place::Virtual
    } else if has(b"/devices/pci") {
        Place::Pci
    } else if has(b"/devices/css") {
        Place::Ccw
    } else if has(b"/virtio") && has(b"/block") {
        Place::Virtio
    } else {
        Place::Other
    }
}

/// A function of a PCI device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pci {
    /// Domain.
    pub domain: u64,
    /// Bus.
    pub bus: u64,
    /// Slot (device).
    pub slot: u64,
    /// Function.
    pub function: u64,
    /// Where its directory ends in the path: `driver` is looked for right below.
    pub end: usize,
}

/// The PCI functions on the way to the disk, bridges first.
///
/// The first of them whose driver [`Driver::named`] knows is the disk's controller.
pub fn pci_functions(path: &[u8]) -> impl Iterator<Item = Pci> {
    components(path).filter_map(|(component, end)| {
        let [domain, bus, slot, function] = numbers(component, b"::.", 16)?;
        Some(Pci {
            domain,
            bus,
            slot,
            function,
            end,
        })
    })
}

/// A channel device of s390.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ccw {
    /// Channel subsystem.
    pub cssid: u64,
    /// Subchannel set.
    pub ssid: u64,
    /// Subchannel.
    pub subchno: u64,
    /// Device number.
    pub devno: u64,
}

/// The channel device a path goes through.
pub fn ccw(path: &[u8]) -> Option<Ccw> {
    let mut ids = after(path, b"/devices/css")?.split(|byte| *byte == b'/');
    let mut id = || numbers(ids.next()?, b"..", 16);
    // What is left of the channel subsystem's own name.
    let _ = id();
    let [cssid, ssid, subchno] = id()?;
    let [_, _, devno] = id()?;
    Some(Ccw {
        cssid,
        ssid,
        subchno,
        devno,
    })
}

/// Where a SCSI disk is on its host adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scsi {
    /// Channel.
    pub channel: u64,
    /// Target.
    pub target: u64,
    /// Logical unit.
    pub unit: u64,
}

/// The SCSI numbers in a path: those of `H:C:T:L` below `targetH:C:T`.
pub fn scsi(path: &[u8]) -> Option<Scsi> {
    let mut parts = after(path, b"/target")?.split(|byte| *byte == b'/');
    let [_, _, _] = numbers(parts.next()?, b"::", 10)?;
    let [_, channel, target, unit] = numbers(parts.next()?, b":::", 10)?;
    Some(Scsi {
        channel,
        target,
        unit,
    })
}

/// The `N` numbers to this base that, parted by these separators, make up all of `text`.
fn numbers<const N: usize>(text: &[u8], separators: &[u8], base: u32) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    scan(text, separators, base, &mut numbers)?;
    Some(numbers)
}

fn scan(text: &[u8], separators: &[u8], base: u32, numbers: &mut [u64]) -> Option<()> {
    let mut separators = separators.iter();
    let mut numbers = numbers.iter_mut();
    let mut number = numbers.next()?;
    let mut is_begun = false;
    for byte in text {
        match char::from(*byte).to_digit(base) {
            Some(digit) => {
                *number = number.checked_mul(base.into())?.checked_add(digit.into())?;
                is_begun = true;
            }
            None if is_begun && separators.next() == Some(byte) => {
                number = numbers.next()?;
                is_begun = false;
            }
            None => return None,
        }
    }
    (is_begun && separators.next().is_none()).then_some(())
}

/// The adapter (`ata3` if there is one, else `host2`) a path goes through.
///
/// Its rank, how many of its neighbours have lower numbers, is the bus or unit of IDE and SATA
/// disks, for those two number their adapters through the whole machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    prefix: &'static [u8],
    number: u64,
    /// Where the directory with its neighbours ends in the path.
    pub parent_end: usize,
}

/// The adapter in a path.
pub fn host(path: &[u8]) -> Option<Host> {
    [&b"ata"[..], b"host"].into_iter().find_map(|prefix| {
        components(path).find_map(|(component, end)| {
            let parent_end = end.checked_sub(component.len())?.checked_sub(1)?;
            Some(Host {
                prefix,
                number: numbered(component, prefix)?,
                parent_end,
            })
        })
    })
}

impl Host {
    /// Whether the directory entry `name` is a neighbour with a lower number.
    ///
    /// The rank is how many entries of the parent directory this says yes to.
    pub fn follows(&self, name: &[u8]) -> bool {
        numbered(name, self.prefix).is_some_and(|number| number < self.number)
    }
}

/// The number in a name that consists of `prefix` and a number.
fn numbered(name: &[u8], prefix: &[u8]) -> Option<u64> {
    parse_u64(name.strip_prefix(prefix)?)
}

/// What a disk hangs on, as the protocol names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusType {
    /// Parallel ATA.
    Ide,
    /// SCSI of any kind.
    Scsi,
    /// virtio-blk.
    Virtio,
    /// USB.
    Usb,
    /// Serial ATA.
    Sata,
    /// NVMe.
    Nvme,
    /// Not known.
    Unknown,
}

impl BusType {
    /// Its name in a reply.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ide => "ide",
            Self::Scsi => "scsi",
            Self::Virtio => "virtio",
            Self::Usb => "usb",
            Self::Sata => "sata",
            Self::Nvme => "nvme",
            Self::Unknown => "unknown",
        }
    }
}

/// Where a disk is, as libvirt writes it into a drive address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// What kind of bus.
    pub bus_type: BusType,
    /// Which bus (channel) of the controller.
    pub bus: u64,
    /// Which target.
    pub target: u64,
    /// Which unit.
    pub unit: u64,
}

impl Address {
    /// The only place on a bus of this type.
    pub const fn sole(bus_type: BusType) -> Self {
        Self {
            bus_type,
            bus: 0,
            target: 0,
            unit: 0,
        }
    }
}

/// The address of a virtio disk that is not on PCI.
pub fn virtio(path: &[u8]) -> Address {
    match scsi(path) {
        Some(Scsi {
            channel,
            target,
            unit,
        }) => Address {
            bus_type: BusType::Scsi,
            bus: channel,
            target,
            unit,
        },
        None => Address::sole(BusType::Virtio),
    }
}

/// A driver of PCI functions that disks hang on.
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
}

impl Driver {
    /// The driver with this name in sysfs; `None` for bridges and all that is not known.
    pub fn named(name: &[u8]) -> Option<Self> {
        /// One a word: comparing with each in turn takes more code.
        const NAMES: &[u8] = b"ata_piix ahci sym53c8xx virtio-pci nvme xhci_hcd ehci-pci";
        let mut names = NAMES.split(|byte| *byte == b' ');
        Some(match names.position(|known| known == name)? {
            0 => Self::AtaPiix,
            1 => Self::Ahci,
            2 => Self::Sym53c8xx,
            3 => Self::VirtioPci,
            4 => Self::Nvme,
            _ => Self::Usb,
        })
    }

    /// Whether [`Driver::address`] needs the rank of the path's [`host`].
    pub fn needs_rank(self) -> bool {
        matches!(self, Self::AtaPiix | Self::Ahci)
    }

    /// The address of the disk at `path`, whose adapter has this `rank` among its neighbours.
    ///
    /// `None` if the path lacks a part that this driver's disks must have.
    pub fn address(self, path: &[u8], rank: Option<u64>) -> Option<Address> {
        let place = scsi(path);
        Some(match self {
            Self::AtaPiix => {
                let unit = place?.target;
                Address {
                    bus_type: BusType::Ide,
                    bus: rank?,
                    target: 0,
                    unit,
                }
            }
            Self::Ahci => {
                place?;
                Address {
                    bus_type: BusType::Sata,
                    bus: 0,
                    target: 0,
                    unit: rank?,
                }
            }
            Self::Sym53c8xx => {
                let unit = place?.target;
                Address {
                    bus_type: BusType::Scsi,
                    bus: 0,
                    target: 0,
                    unit,
                }
            }
            Self::VirtioPci => match place {
                Some(Scsi { target, unit, .. }) => Address {
                    bus_type: BusType::Scsi,
                    bus: 0,
                    target,
                    unit,
                },
                None => Address::sole(BusType::Virtio),
            },
            Self::Nvme => Address::sole(BusType::Nvme),
            Self::Usb => Address::sole(BusType::Usb),
        })
    }
}

/// The components of a path, each with the offset at which it ends.
fn components(path: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut next = 0usize;
    path.split(|byte| *byte == b'/').map(move |component| {
        let end = next.saturating_add(component.len());
        next = end.saturating_add(1);
        (component, end)
    })
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
    const AHCI: &[u8] =
        b"/sys/devices/pci0000:00/0000:00:1f.2/ata12/host11/target11:0:0/11:0:0:0/block/sda";
    const IDE: &[u8] =
        b"/sys/devices/pci0000:00/0000:00:01.1/ata2/host1/target1:0:1/1:0:1:0/block/sr0";
    const NVME: &[u8] = b"/sys/devices/pci0000:00/0000:00:06.0/nvme/nvme0/nvme0n1";
    const USB: &[u8] = b"/sys/devices/pci0000:00/0000:00:03.0/usb1/1-1/1-1:1.0/host3/target3:0:0\
/3:0:0:0/block/sdc";
    const CCW: &[u8] = b"/sys/devices/css0/0.0.0001/0.0.0a02/virtio1/block/vda";
    const MMIO: &[u8] = b"/sys/devices/platform/a003e00.virtio_mmio/virtio0/block/vda";
    const LOOP: &[u8] = b"/sys/devices/virtual/block/loop0";
    const VMD: &[u8] =
        b"/sys/devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0/10000:e1:00.0/nvme/nvme0";

    #[test]
    fn places_are_told_apart() {
        for (path, expected) in [
            (VIRTIO, Place::Pci),
            (CCW, Place::Ccw),
            (MMIO, Place::Virtio),
            (LOOP, Place::Virtual),
            (
                b"/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1",
                Place::Other,
            ),
            (
                b"/sys/devices/platform/soc/sdhci/mmc_host/mmc0/block/mmcblk0",
                Place::Other,
            ),
            (b"", Place::Other),
        ] {
            assert_eq!(place(path), expected, "{}", path.escape_ascii());
        }
    }

    #[test]
    fn pci_functions_come_with_their_directories() {
        let all: Vec<_> = pci_functions(BRIDGED).collect();
        assert_eq!(all.len(), 3);
        let last = all[2];
        assert_eq!(
            (last.domain, last.bus, last.slot, last.function),
            (0, 2, 10, 3)
        );
        assert!(BRIDGED[..last.end].ends_with(b"/0000:02:0a.3"));
        assert!(BRIDGED[..all[0].end].ends_with(b"/0000:00:1e.0"));
        assert_eq!(pci_functions(VIRTIO).count(), 1);
        assert_eq!(pci_functions(USB).count(), 1);
        assert_eq!(pci_functions(VMD).last().unwrap().domain, 0x10000);
        assert_eq!(pci_functions(MMIO).count(), 0);
    }

    #[test]
    fn scsi_numbers_are_found() {
        let found = scsi(VIRTIO_SCSI);
        assert_eq!(
            found,
            Some(Scsi {
                channel: 0,
                target: 3,
                unit: 7
            })
        );
        for path in [
            VIRTIO,
            NVME,
            b"/target1:0/1:0:1:0",
            b"/target1:0:1",
            b"/target1:0:1/1:0:1:0x",
        ] {
            assert_eq!(scsi(path), None);
        }
    }

    #[test]
    fn an_adapter_is_ranked_among_its_like() {
        let ata = host(AHCI).unwrap();
        assert!(AHCI[..ata.parent_end].ends_with(b"/0000:00:1f.2"));
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
            neighbours.iter().filter(|name| ata.follows(name)).count(),
            2
        );
        let scsi = host(VIRTIO_SCSI).unwrap();
        assert!(VIRTIO_SCSI[..scsi.parent_end].ends_with(b"/virtio2"));
        assert!(scsi.follows(b"host1") && !scsi.follows(b"host2") && !scsi.follows(b"ata1"));
        assert_eq!(host(VIRTIO), None);
    }

    #[test]
    fn addresses_follow_the_table() {
        let address = |driver: &[u8], path, rank| {
            let found = Driver::named(driver).unwrap().address(path, rank)?;
            Some((found.bus_type.name(), found.bus, found.target, found.unit))
        };
        assert_eq!(address(b"ata_piix", IDE, Some(1)), Some(("ide", 1, 0, 1)));
        assert_eq!(address(b"ata_piix", IDE, None), None);
        assert_eq!(address(b"ahci", AHCI, Some(4)), Some(("sata", 0, 0, 4)));
        assert_eq!(address(b"ahci", VIRTIO, Some(4)), None);
        assert_eq!(
            address(b"sym53c8xx", VIRTIO_SCSI, None),
            Some(("scsi", 0, 0, 3))
        );
        assert_eq!(
            address(b"virtio-pci", VIRTIO_SCSI, None),
            Some(("scsi", 0, 3, 7))
        );
        assert_eq!(
            address(b"virtio-pci", VIRTIO, None),
            Some(("virtio", 0, 0, 0))
        );
        assert_eq!(address(b"nvme", NVME, None), Some(("nvme", 0, 0, 0)));
        assert_eq!(address(b"xhci_hcd", USB, None), Some(("usb", 0, 0, 0)));
        assert_eq!(Driver::named(b"pcieport"), None);
        assert!(Driver::Ahci.needs_rank() && !Driver::Nvme.needs_rank());
    }

    #[test]
    fn virtio_without_pci_has_an_address() {
        assert_eq!(virtio(MMIO), Address::sole(BusType::Virtio));
        let path =
            b"/sys/devices/platform/a.virtio_mmio/virtio0/host0/target0:1:2/0:1:2:3/block/sda";
        let expected = Address {
            bus_type: BusType::Scsi,
            bus: 1,
            target: 2,
            unit: 3,
        };
        assert_eq!(virtio(path), expected);
    }

    #[test]
    fn channel_devices_have_their_numbers() {
        let expected = Ccw {
            cssid: 0,
            ssid: 0,
            subchno: 1,
            devno: 0xa02,
        };
        assert_eq!(ccw(CCW), Some(expected));
        assert_eq!(ccw(b"/sys/devices/css0/0.0.0001"), None);
        assert_eq!(ccw(VIRTIO), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for path in [BRIDGED, VIRTIO_SCSI, AHCI, CCW, MMIO] {
            torture(path, |bytes| {
                place(bytes);
                for pci in pci_functions(bytes) {
                    assert!(pci.end <= bytes.len());
                }
                if let Some(host) = host(bytes) {
                    assert!(host.parent_end < bytes.len());
                }
                ccw(bytes);
                virtio(bytes);
                Driver::Ahci.address(bytes, Some(0));
            });
        }
    }
}
