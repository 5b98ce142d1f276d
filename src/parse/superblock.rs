//! The beginnings of disks: super blocks of file systems, and partition tables.
//!
//! Offsets are those of the kernel's headers (fs/ext4/ext4.h, xfs_format.h, btrfs_tree.h, erofs_fs.h,
//! squashfs_fs.h), of ECMA-119 with Joliet for ISO 9660, of Microsoft's FAT specification, and of the UEFI
//! specification for GPT. Labels and UUIDs are those that blkid(8) shows as LABEL, UUID and PARTUUID:
//! - vfat: the label is an entry of the root directory, not the one in the boot sector; the UUID is the
//!   serial number.
//! - ISO 9660: the UUID is the date of the last change, or of the making. A disk may have its label a
//!   second time, as Joliet has it: either counts.
//! - squashfs has neither.
//!
//! Dashes and the case of digits do not count in a UUID. Labels of Joliet are compared if they are ASCII.
//! Bytes behind the end of a disk are 0. A journal device of ext4 is no super block.

use super::{array, until_nul};
use crate::base::limits::{LABEL_DIRECTORY_BYTES, SUPER_BLOCK_BYTES};

/// The beginning of a disk.
pub type Disk = [u8; SUPER_BLOCK_BYTES];

/// A file system.
pub struct SuperBlock<'a> {
    /// Its type, for mount(2).
    pub kind: &'static [u8],
    /// Its label, padded with NULs or blanks. Missing for vfat: see `directory`.
    pub label: &'a [u8],
    /// The label in UTF-16, big endian.
    joliet: &'a [u8],
    /// Its UUID.
    pub uuid: Uuid,
    /// For vfat: offset and length of the root directory, for [`label_in`].
    pub directory: (u64, usize),
}

/// A UUID, or a shorter number in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uuid {
    value: u128,
    /// How many hexadecimal digits it has.
    digits: u32,
}

/// A type of file systems, found by its magic number. Fields are an offset in the disk and a length.
struct Family {
    kind: &'static [u8],
    magic: &'static [u8],
    magic_at: u32,
    label: (u32, u32),
    uuid_at: u32,
    /// Reads the label or UUID that has no fixed offset. Returns false if the disk has another file system.
    read_rest: ReadRest,
}

type ReadRest = for<'a> fn(&mut SuperBlock<'a>, &'a Disk) -> bool;

const fn family(
    kind: &'static [u8],
    (magic_at, magic): (u32, &'static [u8]),
    label: (u32, u32),
    uuid_at: u32,
    read_rest: ReadRest,
) -> Family {
    Family {
        kind,
        magic,
        magic_at,
        label,
        uuid_at,
        read_rest,
    }
}

/// Behind the end of every disk: a UUID there is none.
const NOWHERE: u32 = u32::MAX;
const NOTHING: ReadRest = |_, _| true;

// vfat is the last, because its magic number is that of every boot sector.
#[rustfmt::skip]
static FAMILIES: [Family; 7] = [
    family(b"ext4", (1080, b"\x53\xEF"), (1144, 16), 1128, read_ext),
    family(b"xfs", (0, b"XFSB"), (108, 12), 32, NOTHING),
    family(b"squashfs", (0, b"hsqs"), (0, 0), NOWHERE, NOTHING),
    family(b"erofs", (1024, b"\xE2\xE1\xF5\xE0"), (1088, 16), 1072, NOTHING),
    family(b"btrfs", (65_600, b"_BHRfS_M"), (65_835, 256), 65_568, NOTHING),
    family(b"iso9660", (32_768, b"\x01CD001"), (32_808, 32), NOWHERE, read_iso),
    family(b"vfat", (510, BOOT_SECTOR), (0, 0), NOWHERE, read_fat),
];

const BOOT_SECTOR: &[u8] = b"\x55\xAA";

impl<'a> SuperBlock<'a> {
    /// Finds the super block in the beginning of a disk.
    pub fn find(disk: &'a Disk) -> Option<Self> {
        FAMILIES.iter().find_map(|family| family.read(disk))
    }

    /// Whether this is the label.
    pub fn has_label(&self, label: &[u8]) -> bool {
        let rest = self.label.strip_prefix(label);
        if rest.is_some_and(|rest| until_nul(rest).iter().all(|byte| *byte == b' ')) {
            return true;
        }
        let mut joliet = self.joliet.as_chunks::<2>().0.iter();
        let is_start = label.iter().all(|byte| joliet.next() == Some(&[0, *byte]));
        is_start && joliet.all(|unit| matches!(unit, [0, 0 | b' ']))
    }
}

impl Family {
    fn read<'a>(&self, disk: &'a Disk) -> Option<SuperBlock<'a>> {
        if field(disk, self.magic_at, self.magic.len()) != self.magic {
            return None;
        }
        let mut found = SuperBlock {
            kind: self.kind,
            label: field(disk, self.label.0, self.label.1 as usize),
            joliet: b"",
            uuid: array(disk, self.uuid_at as usize).map_or(Uuid::NONE, |bytes| {
                Uuid::new(u128::from_be_bytes(bytes), 32)
            }),
            directory: (0, 0),
        };
        (self.read_rest)(&mut found, disk).then_some(found)
    }
}

/// Tells ext2, ext3 and ext4 apart by the features that a driver must know.
fn read_ext<'a>(found: &mut SuperBlock<'a>, disk: &'a Disk) -> bool {
    const HAS_JOURNAL: u32 = 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    /// FILETYPE, RECOVER and META_BG.
    const INCOMPATIBLE_OF_EXT3: u32 = 0x2 | 0x4 | 0x10;
    /// SPARSE_SUPER, LARGE_FILE and BTREE_DIR.
    const READ_ONLY_OF_EXT3: u32 = 0x1 | 0x2 | 0x4;
    let (incompatible, read_only) = (long(disk, 1120), long(disk, 1124));
    if incompatible & !INCOMPATIBLE_OF_EXT3 | read_only & !READ_ONLY_OF_EXT3 == 0 {
        found.kind = match long(disk, 1116) & HAS_JOURNAL {
            0 => b"ext2",
            _ => b"ext3",
        };
    }
    incompatible & JOURNAL_DEVICE == 0
}

/// Reads the date and Joliet's label.
fn read_iso<'a>(found: &mut SuperBlock<'a>, disk: &'a Disk) -> bool {
    const MADE_AT: u32 = 33_581;
    const CHANGED_AT: u32 = 33_598;
    /// Descriptors behind the first, which is in sector 16.
    const NEXT: core::ops::Range<u32> = 17..32;
    let date = |at| Uuid::parse(field(disk, at, 16));
    found.uuid = match date(CHANGED_AT) {
        Some(Uuid { value: 0, .. }) => date(MADE_AT),
        date => date,
    }
    .unwrap_or(Uuid::NONE);
    for sector in NEXT {
        let at = sector << 11;
        // A descriptor in another character set: UTF-16 of some level.
        if field(disk, at, 6) == b"\x02CD001" && field(disk, at | 88, 2) == b"%/" {
            found.joliet = field(disk, at | 40, 32);
        }
    }
    true
}

/// Reads the serial number, and finds the root directory. There are other boot sectors.
fn read_fat<'a>(found: &mut SuperBlock<'a>, disk: &'a Disk) -> bool {
    const SMALLEST_MEDIUM: u8 = 0xF0;
    const ENTRY_BYTES: u64 = 32;
    let (sector, cluster) = (short(disk, 11), byte(disk, 13));
    let (reserved, tables) = (short(disk, 14), byte(disk, 16));
    let mut entries = u64::from(short(disk, 17));
    let mut table = u64::from(short(disk, 22));
    let mut serial = long(disk, 39);
    // In sectors.
    let mut directory = 0;
    if table == 0 {
        // FAT32, where the root directory is a chain of clusters: the first has the label. Clusters
        // are counted from 2.
        table = long(disk, 36).into();
        serial = long(disk, 67);
        directory = u64::from(long(disk, 44).wrapping_sub(2)).wrapping_mul(cluster.into());
        entries = u64::MAX;
    }
    directory = directory
        .wrapping_add(reserved.into())
        .wrapping_add(table.wrapping_mul(tables.into()));
    let bytes = entries.saturating_mul(ENTRY_BYTES);
    let bytes = bytes.min(LABEL_DIRECTORY_BYTES as u64);
    found.directory = (directory.wrapping_mul(sector.into()), bytes as usize);
    found.uuid = Uuid::new(serial.into(), 8);
    sector.is_power_of_two()
        && cluster.is_power_of_two()
        && reserved != 0
        && tables != 0
        && byte(disk, 21) >= SMALLEST_MEDIUM
}
/// The label in a root directory of vfat; empty without one.
pub fn label_in(directory: &[u8]) -> &[u8] {
    const DELETED: u8 = 0xE5;
    const LABEL: u8 = 0x08;
    /// The attributes of a label, a directory, and of read-only, hidden and system files: pieces of long
    /// names have several of them.
    const ATTRIBUTES: u8 = 0x1F;
    let entries = directory.as_chunks::<32>().0.iter();
    let mut entries = entries.take_while(|entry| entry[0] != 0);
    let label = entries.find(|entry| entry[0] != DELETED && entry[11] & ATTRIBUTES == LABEL);
    label.map_or(b"", |label| field(label, 0, 11))
}

/// The PARTUUID of a partition, by the table at the beginning of its disk.
pub fn partition_uuid(disk: &Disk, partition: u32) -> Uuid {
    for sector in [512, 4096] {
        if field(disk, sector, 8) == b"EFI PART" {
            let number = |at| u32::from_le_bytes(array(disk, at as usize).unwrap_or_default());
            let entry = number(sector | 72)
                .wrapping_mul(sector)
                .wrapping_add(number(sector | 84).wrapping_mul(partition.wrapping_sub(1)));
            let [a, b, c, d, e, f, g, h, rest @ ..] =
                array::<16>(disk, entry.wrapping_add(16) as usize).unwrap_or_default();
            // Three numbers in little endian, and bytes.
            let high = u64::from_be_bytes([d, c, b, a, f, e, h, g]);
            let value = u128::from(high) << 64 | u128::from(u64::from_be_bytes(rest));
            return Uuid::new(value, 32);
        }
    }
    if field(disk, 510, 2) != BOOT_SECTOR {
        return Uuid::NONE;
    }
    let signature = u64::from(long(disk, 440));
    Uuid::new(u128::from(signature << 8 | u64::from(partition)), 10)
}

/// A field of the disk; empty if it is behind the end.
// Not inlined, to keep one copy of the code.
#[inline(never)]
fn field(disk: &[u8], at: u32, len: usize) -> &[u8] {
    let rest = disk.get(at as usize..).unwrap_or_default();
    rest.get(..len).unwrap_or_default()
}

// Inlined, because at a fixed offset each is one instruction.

#[inline(always)]
fn byte(disk: &Disk, at: usize) -> u8 {
    array::<1>(disk, at).map_or(0, |[byte]| byte)
}

#[inline(always)]
fn short(disk: &Disk, at: usize) -> u16 {
    u16::from_le_bytes(array(disk, at).unwrap_or_default())
}

#[inline(always)]
fn long(disk: &Disk, at: usize) -> u32 {
    u32::from_le_bytes(array(disk, at).unwrap_or_default())
}

impl Uuid {
    /// Equal to no other.
    const NONE: Self = Self::new(0, 0);

    const fn new(value: u128, digits: u32) -> Self {
        Self { value, digits }
    }

    /// Reads a UUID with or without dashes; `None` if there are other characters, or no digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut uuid = Self::NONE;
        for byte in text.iter().filter(|byte| **byte != b'-') {
            let digit = char::from(*byte).to_digit(16)?;
            uuid.value = uuid.value << 4 | u128::from(digit);
            uuid.digits = uuid.digits.wrapping_add(1);
        }
        (uuid.digits != 0).then_some(uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    const UUID: &[u8] = b"0a3407de-014b-458b-B5C1-848e92a327a3";
    const UUID_BYTES: [u8; 16] = [
        0x0a, 0x34, 0x07, 0xde, 0x01, 0x4b, 0x45, 0x8b, 0xb5, 0xc1, 0x84, 0x8e, 0x92, 0xa3, 0x27,
        0xa3,
    ];

    /// A disk with these bytes at these offsets.
    fn disk(fields: &[(usize, &[u8])]) -> Box<Disk> {
        let mut disk = vec![0; SUPER_BLOCK_BYTES];
        for (at, field) in fields {
            disk[*at..][..field.len()].copy_from_slice(field);
        }
        disk.try_into().unwrap()
    }

    fn kind(disk: &Disk) -> Option<&'static [u8]> {
        SuperBlock::find(disk).map(|found| found.kind)
    }

    #[test]
    fn families_have_their_fields_at_fixed_offsets() {
        for family in &FAMILIES[1..5] {
            let uuid: (usize, &[u8]) = match family.uuid_at {
                NOWHERE => (0, b""),
                at => (at as usize, &UUID_BYTES),
            };
            let label = "x".repeat(family.label.1 as usize);
            let fields = [
                uuid,
                (family.label.0 as usize, label.as_bytes()),
                (family.magic_at as usize, family.magic),
            ];
            let disk = disk(&fields);
            let found = SuperBlock::find(&disk).unwrap();
            assert_eq!(found.kind, family.kind);
            assert!(found.has_label(label.as_bytes()));
            assert_eq!(found.uuid != Uuid::NONE, family.uuid_at != NOWHERE);
            assert_eq!(
                Uuid::parse(UUID) == Some(found.uuid),
                family.uuid_at != NOWHERE
            );
        }
        assert!(kind(&disk(&[])).is_none());
    }

    #[test]
    fn features_tell_ext2_ext3_and_ext4_apart() {
        for (compatible, incompatible, read_only, expected) in [
            (0, 0, 0, Some(&b"ext2"[..])),
            (0x3F8, 0x02, 0x03, Some(b"ext2")),
            (0x4, 0x16, 0x07, Some(b"ext3")),
            (0x4, 0x42, 0x03, Some(b"ext4")),
            (0x4, 0x02, 0x10, Some(b"ext4")),
            (0, 0x40, 0, Some(b"ext4")),
            // The journal of another disk.
            (0, 0x8, 0, None),
        ] {
            let features = [compatible, incompatible, read_only].map(u32::to_le_bytes);
            let disk = disk(&[(1080, b"\x53\xEF"), (1116, features.as_flattened())]);
            assert_eq!(kind(&disk), expected);
        }
    }

    #[test]
    fn labels_end_at_their_padding() {
        let disk = disk(&[(0, b"XFSB"), (108, b"ab c  \0x")]);
        let found = SuperBlock::find(&disk).unwrap();
        assert!(found.has_label(b"ab c") && found.has_label(b"ab c "));
        for other in [&b"ab"[..], b"ab c  x", b"b", b"AB C", b"ab cd"] {
            assert!(!found.has_label(other));
        }
    }

    const BOOT: &[(usize, &[u8])] = &[
        // Sectors of 512 bytes, 4 in a cluster, 1 reserved, 2 tables of 9 sectors, 224 entries.
        (11, &[0, 2, 4, 1, 0, 2, 224, 0, 0, 0, 0xF0, 9, 0]),
        (39, &[0x78, 0x56, 0xCD, 0xAB]),
        (510, BOOT_SECTOR),
    ];

    #[test]
    fn serial_number_of_vfat_is_its_uuid() {
        let small = disk(BOOT);
        let found = SuperBlock::find(&small).unwrap();
        assert_eq!(Uuid::parse(b"abcd-5678"), Some(found.uuid));
        assert_eq!(found.directory, (19 * 512, 224 * 32));
        // FAT32: 32 reserved sectors, 2 tables of 0x10000 sectors, the root directory in cluster 3.
        let large = disk(&[
            (11, &[0, 2, 8, 32, 0, 2, 0, 0, 0, 0, 0xF8, 0, 0]),
            (36, &[0, 0, 1, 0]),
            (44, &[3]),
            (67, &[1, 2, 3, 4]),
            (510, BOOT_SECTOR),
        ]);
        let found = SuperBlock::find(&large).unwrap();
        assert_eq!(Uuid::parse(b"0403-0201"), Some(found.uuid));
        let root = (32 + 2 * 0x10000 + 8) * 512;
        assert_eq!(found.directory, (root, LABEL_DIRECTORY_BYTES));
    }

    #[test]
    fn other_boot_sectors_are_not_vfat() {
        assert_eq!(kind(&disk(BOOT)), Some(&b"vfat"[..]));
        for wrong in [
            (11, &[1u8][..]),
            (12, &[0]),
            (13, &[3]),
            (13, &[0]),
            (14, &[0]),
            (16, &[0]),
            (21, &[0xEF]),
            (510, &[0]),
        ] {
            assert_eq!(kind(&disk(&[BOOT, &[wrong]].concat())), None, "{wrong:?}");
        }
    }

    #[test]
    fn label_of_vfat_is_in_the_root_directory() {
        fn entry(name: &[u8], attributes: u8) -> Vec<u8> {
            let mut entry = vec![b'!'; 32];
            entry[..name.len()].copy_from_slice(name);
            entry[11] = attributes;
            entry
        }
        let long = entry(b"AL\0o\0n\0g\0e\0", 0x0F);
        let deleted = entry(b"\xE5LD        ", 0x08);
        let directory = entry(b"DIRECTORY  ", 0x10);
        let label = entry(b"MY LABEL   ", 0x28);
        let all = [&long[..], &deleted, &directory, &label].concat();
        assert_eq!(label_in(&all), b"MY LABEL   ");
        assert_eq!(label_in(&all[..96]), b"");
        assert_eq!(label_in(&[&entry(b"\0", 0)[..], &label].concat()), b"");
    }

    #[test]
    fn date_and_both_labels_of_an_iso_count() {
        let mut fields: Vec<(usize, &[u8])> = vec![
            (32_768, b"\x01CD001\x01"),
            (32_808, b"DISK OF TESTS                   "),
            (33_581, b"1999123123595900\0"),
            (33_598, b"2026112823480512\0"),
            (34_816, b"\x02CD001\x01"),
            (34_856, b"\0D\0i\0s\0k\0 \0o\0f\0 \0T\0e\0s\0t\0s\0 \0 \0 "),
            (34_904, b"%/E"),
        ];
        let iso = disk(&fields);
        let found = SuperBlock::find(&iso).unwrap();
        assert_eq!(Uuid::parse(b"2026-11-28-23-48-05-12"), Some(found.uuid));
        for label in [&b"DISK OF TESTS"[..], b"Disk of Tests"] {
            assert!(found.has_label(label));
        }
        for label in [&b"Disk of"[..], b"Disk of Tests of", b"DISK OF"] {
            assert!(!found.has_label(label));
        }
        fields.push((33_598, b"0000000000000000\0"));
        // No set of characters that Joliet has.
        fields.push((34_904, b"   "));
        let iso = disk(&fields);
        let found = SuperBlock::find(&iso).unwrap();
        assert_eq!(Uuid::parse(b"1999-12-31-23-59-59-00"), Some(found.uuid));
        assert!(!found.has_label(b"Disk of Tests"));
    }

    #[test]
    fn partitions_have_the_uuids_of_gpt_and_mbr() {
        let guid = [
            0xde, 0x07, 0x34, 0x0a, 0x4b, 0x01, 0x8b, 0x45, 0xb5, 0xc1, 0x84, 0x8e, 0x92, 0xa3,
            0x27, 0xa3,
        ];
        for sector in [512, 4096] {
            let gpt = disk(&[
                (510, BOOT_SECTOR),
                (sector, b"EFI PART"),
                (sector + 72, &[2]),
                (sector + 84, &[0, 1]),
                (2 * sector + 256 + 16, &guid),
            ]);
            assert_eq!(Some(partition_uuid(&gpt, 2)), Uuid::parse(UUID));
            for missing in [1, 1000, u32::MAX] {
                assert_ne!(Some(partition_uuid(&gpt, missing)), Uuid::parse(UUID));
            }
        }
        let mbr = disk(&[(440, &[4, 3, 2, 0xF1]), (510, BOOT_SECTOR)]);
        assert_eq!(Some(partition_uuid(&mbr, 17)), Uuid::parse(b"F1020304-11"));
        assert_eq!(partition_uuid(&disk(&[(440, &[4])]), 1), Uuid::NONE);
    }

    #[test]
    fn dashes_and_case_do_not_count_in_a_uuid() {
        let upper = UUID.to_ascii_uppercase();
        assert_eq!(Uuid::parse(&upper), Uuid::parse(UUID));
        assert_ne!(Uuid::parse(b"0-1"), Uuid::parse(b"1"));
        for wrong in [&b""[..], b"-", b"x", b"12 ", b"0x1"] {
            assert_eq!(Uuid::parse(wrong), None);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn no_input_panics() {
        let sample = [BOOT[0].1, b"EFI PART\x01CD001\x53\xEFXFSB", &[0xFF; 64]].concat();
        torture(&sample, |bytes| {
            let bytes = &bytes[..bytes.len().min(512)];
            for at in [0, 11, 440, 512, 1024, 32_768, 65_536] {
                let disk = disk(&[(510, BOOT_SECTOR), (32_768, b"\x01CD001"), (at, bytes)]);
                if let Some(found) = SuperBlock::find(&disk) {
                    found.has_label(bytes);
                }
                partition_uuid(&disk, u32::from(bytes.first().copied().unwrap_or(0)));
            }
            label_in(bytes);
            Uuid::parse(bytes);
        });
    }
}
