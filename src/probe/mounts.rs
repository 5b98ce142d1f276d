//! The mounted file systems on block devices, which are frozen, trimmed and reported; and how to
//! reach them safely.
//!
//! Rules, as in qemu-ga: each use reads /proc/self/mountinfo anew. File systems without a block
//! device (major number 0: tmpfs, proc, nfs, overlay, 9p, fuse) are left out, except btrfs. A file
//! system that is mounted several times is listed once, by its first mount, so bind mounts and
//! subvolumes do not show.
//!
//! The path of a mount may lead to something else: another mount may cover it, and a user who may
//! rename a directory on the path can make it lead anywhere. So [`FileSystem::reach`] takes the
//! first mount whose path leads to a [`Place`] with the device number of the file system.
//! Subvolumes of btrfs have device numbers that are not in the mount table; for btrfs the place
//! must have the mount number of the table. If no path leads there, the reason may have been a
//! rename at that moment, so the table is read again, a bounded number of times. Looking up a path
//! opens nothing on it and waits for no server.
//!
//! Differences from qemu-ga: qemu-ga takes the path of the first mount, wherever that leads, and
//! leaves out a btrfs whose source is no block device here; gaunt does neither. Kernels without
//! mountinfo (before 2.6.26) are not supported: there is no fallback to /proc/self/mounts.

use crate::base::index;
use crate::base::limits::{
    MOUNT_LIST_BYTES, MOUNT_SEARCHES, PATH_TRIES, SAME_PATH_READS, SEARCH_TRIES, THAWED_DEVICES,
};
use crate::base::path::Path;
use crate::base::sink::ByteSink;
use crate::base::text::{compare_until, cut};
use crate::parse::mountinfo::{self, Mount};
use crate::parse::{lines, unescaped, word_index};
use crate::sys::mem::Buffer;
use crate::sys::place::Place;
use crate::sys::root::{Root, relative};
use crate::sys::{Errno, OwnedFd};

const TABLE: &[&[u8]] = &[b"proc/self/mountinfo"];

/// Major and minor number of the device of a file system. For btrfs, which may lie on several
/// devices, the mount table has major number 0 and an anonymous minor number.
pub type Device = (u32, u32);

/// Why the path of a mount does not lead to its file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The path cannot be resolved, or its target not be used.
    Errno(Errno),
    /// The path leads to another file system.
    Elsewhere,
}

/// The number of file systems for which one command may still read the mount table again.
pub struct Searches(u32);

impl Searches {
    /// The limit of one command.
    pub(crate) fn new() -> Self {
        Self(MOUNT_SEARCHES)
    }

    fn take(&mut self) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// The mount table at one moment, and the file systems in it.
pub struct Mounts {
    /// The table as the kernel wrote it, then two indexes of its lines about block devices. The
    /// first index is in the order of the table. The second is sorted by device and then by that
    /// order, so the mounts of a file system are adjacent.
    bytes: Buffer,
    /// The length of the table.
    len: usize,
}

impl Mounts {
    /// An empty table.
    pub(crate) fn new() -> Self {
        Self {
            bytes: Buffer::growing(MOUNT_LIST_BYTES),
            len: 0,
        }
    }

    /// Reads the mount table.
    ///
    /// # Errors
    /// The error of reading the table; [`Errno::FBIG`] if it is larger than [`MOUNT_LIST_BYTES`].
    pub fn read(&mut self, root: &Root) -> Result<(), Errno> {
        let Self { bytes, len } = self;
        bytes.read(&root.file_at(TABLE)?)?;
        *len = index::append(bytes, &mut |rest| {
            mountinfo::parse(cut(rest, b'\n')).is_some_and(|mount| is_on_disk(&mount))
        });
        let end = bytes.len();
        bytes.extend(end - *len).map_err(|_| Errno::FBIG)?;
        bytes.bytes_mut().copy_within(*len..end, end);
        let (table, by_device) = bytes.bytes_mut().split_at_mut(end);
        index::sort(by_device, &mut |one, other| {
            let devices = compare_until(device_at(table, one), device_at(table, other), b' ');
            devices.then(one.cmp(&other))
        });
        bytes.whole()
    }

    /// The file systems, the last mounted first. So one that is mounted on another, or lies on
    /// another, comes before that.
    pub fn backward(&self) -> impl Iterator<Item = FileSystem<'_>> {
        let (table, indexes) = self.bytes.bytes().split_at(self.len);
        let (in_order, by_device) = indexes.split_at(indexes.len() / 2);
        index::offsets(in_order).rev().filter_map(move |start| {
            let first = mount_at(table, start)?;
            let device = device_at(table, start);
            let mounts = index::equal_range(by_device, &mut |other| {
                compare_until(device_at(table, other), device, b' ')
            });
            (index::offsets(mounts).next() == Some(start)).then_some(FileSystem {
                table,
                first,
                mounts,
            })
        })
    }
}

/// Reads the mount table and calls `each` with every mount, the last mounted first. Of a table
/// larger than [`MOUNT_LIST_BYTES`] only the first part is read.
///
/// # Errors
/// The error of reading the table, after the mounts that were read.
pub fn backward(root: &Root, each: &mut dyn FnMut(&Mount<'_>)) -> Result<(), Errno> {
    let mut table = Buffer::growing(MOUNT_LIST_BYTES);
    let read = table.read(&root.file_at(TABLE)?);
    for line in lines(table.bytes()).rev() {
        if let Some(mount) = mountinfo::parse(line) {
            each(&mount);
        }
    }
    read
}

/// The table from the device number in a line on.
fn device_at(table: &[u8], line: usize) -> &[u8] {
    let mut rest = table.get(line..).unwrap_or_default();
    cut(&mut rest, b' ');
    cut(&mut rest, b' ');
    rest
}

/// The mount whose line begins at an offset.
fn mount_at(table: &[u8], line: usize) -> Option<Mount<'_>> {
    mountinfo::parse(cut(&mut table.get(line..)?, b'\n'))
}

/// A mounted file system.
pub struct FileSystem<'a> {
    table: &'a [u8],
    first: Mount<'a>,
    /// An index of the lines of its mounts.
    mounts: &'a [u8],
}

impl<'a> FileSystem<'a> {
    /// The path of its first mount. A path too long to be used is returned as the table has it,
    /// escaped.
    pub fn mount_point<'b>(&'b self, room: &'b mut Path) -> &'b [u8] {
        *room = unescaped(self.first.mount_point);
        match room.as_c_str() {
            Some(path) => path.to_bytes(),
            None => self.first.mount_point,
        }
    }

    /// The file system type, such as `ext4`.
    pub fn kind(&self) -> &'a [u8] {
        self.first.kind
    }

    /// The number of its block device. For btrfs this is the source of the mount, if that is a
    /// block device here.
    pub fn device(&self, root: &Root) -> Device {
        let device = self.first.device();
        if device.0 != 0 {
            return device;
        }
        let source = unescaped(self.first.source);
        let source = root.block_device_at(relative(source.as_bytes()));
        source.unwrap_or(device)
    }

    /// Opens a directory or file of the file system for reading; `None` if it is no longer mounted.
    ///
    /// # Errors
    /// As for [`FileSystem::reach`].
    pub fn open(&self, root: &Root, searches: &mut Searches) -> Result<Option<OwnedFd>, Miss> {
        let mut opened = None;
        self.reach(root, searches, &mut |place| {
            opened = Some(place.open(root)?);
            Ok(())
        })?;
        Ok(opened)
    }

    /// Calls `enter` with a place on the file system; if that fails, with the place of another
    /// mount. Calls nothing if the file system is no longer mounted. Borrows no memory.
    ///
    /// # Errors
    /// The error of the first mount, if no mount could be reached and entered.
    pub fn reach(
        &self,
        root: &Root,
        searches: &mut Searches,
        enter: Enter<'_>,
    ) -> Result<(), Miss> {
        let mut missed = None;
        for line in index::offsets(self.mounts) {
            if let Some(mount) = mount_at(self.table, line) {
                match try_to_enter(root, &mount, enter) {
                    Ok(()) => return Ok(()),
                    Err(miss) => missed = missed.or(Some(miss)),
                }
            }
        }
        match search(root, self.first.device(), searches, enter) {
            true => Ok(()),
            false => Err(missed.unwrap_or(Miss::Elsewhere)),
        }
    }
}

/// Uses a place. After an error another mount is tried.
pub type Enter<'a> = &'a mut dyn FnMut(&Place) -> Result<(), Errno>;

/// Calls `enter` with a place on every mounted file system, at least once. Borrows no memory.
/// Returns the number of mounts whose file system could not be reached and entered, by this mount
/// or another.
///
/// # Errors
/// The error of reading the mount table.
pub fn reach_all(root: &Root, searches: &mut Searches, enter: Enter<'_>) -> Result<u32, Errno> {
    let mut done = heapless::HistoryBuf::<Device, THAWED_DEVICES>::new();
    let mut missed = 0;
    // The first pass tries each mount. Only the second pass searches, for file systems that no
    // mount has reached.
    for searching in [false, true] {
        missed = 0;
        let whole = each_on_disk(root, &mut |mount| {
            let device = mount.device();
            if !done.as_slice().contains(&device) {
                // `done` keeps the latest devices only, so the second pass may enter a file system
                // again.
                let reached = try_to_enter(root, mount, enter).is_ok()
                    || searching && search(root, device, searches, enter);
                missed += u32::from(!reached);
                if reached || searching {
                    done.write(device);
                }
            }
            true
        })?;
        missed += u32::from(!whole);
        if missed == 0 {
            break;
        }
    }
    Ok(missed)
}

/// Reads the mount table repeatedly until a mount of the file system can be reached and entered.
/// Returns whether that succeeded, or the file system is no longer mounted.
///
/// Tries each path several times after each reading: reading the table waits for a rename to end,
/// so if renames follow each other without a pause, the first lookup always hits the same moment of
/// the next one. Stops once the paths stay the same for several readings: then nothing is renamed,
/// and another mount covers them.
fn search(root: &Root, device: Device, searches: &mut Searches, enter: Enter<'_>) -> bool {
    let mut tries = if searches.take() { SEARCH_TRIES } else { 0 };
    let (mut seen_before, mut times) = (None, 0);
    while tries != 0 && times < SAME_PATH_READS {
        let (mut entered, mut seen) = (false, None);
        let whole = each_on_disk(root, &mut |mount| {
            if mount.device() == device {
                seen = Some(mount.mount_point.iter().fold(seen.unwrap_or(0), hash));
                entered = try_to_enter(root, mount, enter).is_ok();
                for _ in 0..PATH_TRIES.min(tries) {
                    tries -= 1;
                    entered = entered || try_cached(root, mount, enter).is_ok();
                }
            }
            !entered && tries != 0
        });
        if entered || whole == Ok(true) && seen.is_none() {
            return true;
        }
        times = if seen == seen_before { times + 1 } else { 1 };
        seen_before = seen;
    }
    false
}

/// Hashes paths (FNV-1a), to see whether they change.
fn hash(before: u64, byte: &u8) -> u64 {
    (before ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
}

/// Calls `each` with every mount on a block device, in the order of the mount table, until it
/// returns false. Returns false if a line was too long to be read. Borrows no memory.
fn each_on_disk(root: &Root, each: &mut dyn FnMut(&Mount<'_>) -> bool) -> Result<bool, Errno> {
    let mut whole = true;
    root.beginnings_at(TABLE, &mut |line, is_whole| match mountinfo::parse(line) {
        Some(mount) => !is_on_disk(&mount) || each(&mount),
        None => {
            whole &= is_whole;
            true
        }
    })?;
    Ok(whole)
}

fn is_on_disk(mount: &Mount<'_>) -> bool {
    mount.major != 0 || is_btrfs(mount)
}

fn is_btrfs(mount: &Mount<'_>) -> bool {
    mount.kind == b"btrfs"
}

/// Looks up the path of a mount, and enters the place if it is on the file system of the mount.
fn try_to_enter(root: &Root, mount: &Mount<'_>, enter: Enter<'_>) -> Result<(), Miss> {
    enter_found(mount, enter, &mut |path| {
        Place::find(root, path, &mut |here| {
            let number = here.mount.unwrap_or(0);
            number == mount.parent || is_local(root, number)
        })
    })
}

/// As [`try_to_enter`], but looks only at names that the kernel has cached. That is enough for a
/// path that was valid a moment ago.
fn try_cached(root: &Root, mount: &Mount<'_>, enter: Enter<'_>) -> Result<(), Miss> {
    enter_found(mount, enter, &mut |path| Place::find_cached(root, path))
}

fn enter_found(
    mount: &Mount<'_>,
    enter: Enter<'_>,
    find: &mut dyn FnMut(&[u8]) -> Result<Place, Errno>,
) -> Result<(), Miss> {
    let path = unescaped(mount.mount_point);
    let path = path.as_c_str().ok_or(Miss::Errno(Errno::NAMETOOLONG))?;
    let place = find(relative(path.to_bytes())).map_err(|errno| match errno {
        // The path leads through a file system that is not expected on it, and might wait for a
        // server.
        Errno::AGAIN => Miss::Elsewhere,
        errno => Miss::Errno(errno),
    })?;
    let same_device = place.device == mount.device();
    let same_mount = place.mount == Some(mount.number);
    let is_proven = match is_btrfs(mount) {
        true => same_mount && place.is_on_btrfs(),
        // A file in an overlay, unlike a directory, may have the device number of the file system
        // below.
        false => same_device && (same_mount || place.is_directory()),
    };
    match is_proven {
        true => enter(&place).map_err(Miss::Errno),
        false => Err(Miss::Elsewhere),
    }
}

/// File systems in which the kernel looks up names without a server.
const LOCAL: &[u8] =
    b"rootfs tmpfs ramfs devtmpfs ext4 ext3 ext2 xfs btrfs f2fs vfat squashfs iso9660";

/// Whether the mount `number` is of a file system without a server.
fn is_local(root: &Root, number: u64) -> bool {
    let mut is_local = false;
    let _ = root.lines_at(TABLE, &mut |line| match mountinfo::parse(line) {
        Some(mount) if mount.number == number => {
            is_local = word_index(LOCAL, mount.kind).is_some();
            false
        }
        _ => true,
    });
    is_local
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::place::inode;
    use crate::sys::testing::Tree;

    fn tree(table: &str, files: &[(&str, &str)]) -> Tree {
        let table = [("proc/self/mountinfo", table)];
        Tree::of(&[&table, files].concat())
    }

    /// Replaces the mount table of a tree. `@D` stands for the device of the tree, `@N` for the
    /// number of its mount.
    fn set_table(tree: &Tree, table: &str) {
        let here = Place::find(&tree.root, b".", &mut |_| true).unwrap();
        let (major, minor) = here.device;
        let table = table.replace("@D", &format!("{major}:{minor}"));
        let table = table.replace("@N", &here.mount.unwrap().to_string());
        tree.file("proc/self/mountinfo", &table);
    }

    /// Whether the tree is on a block device. In some containers it is not.
    fn is_on_disk(tree: &Tree) -> bool {
        let is_on_disk = Place::find(&tree.root, b".", &mut |_| true)
            .unwrap()
            .device
            .0
            != 0;
        if !is_on_disk {
            eprintln!("untested: the temporary directory is on no block device");
        }
        is_on_disk
    }

    fn read(root: &Root) -> Mounts {
        let mut mounts = Mounts::new();
        mounts.read(root).unwrap();
        mounts
    }

    fn mount_points(mounts: &Mounts) -> Vec<String> {
        let text = |fs: FileSystem<'_>| {
            let mut room = Path::new();
            String::from_utf8(fs.mount_point(&mut room).to_vec()).unwrap()
        };
        mounts.backward().map(text).collect()
    }

    /// The inode by which each file system was reached, or the error.
    fn reached(root: &Root) -> Vec<Result<Option<u64>, Miss>> {
        let mounts = read(root);
        let mut searches = Searches::new();
        let reach = |fs: FileSystem<'_>| {
            let opened = fs.open(root, &mut searches)?;
            Ok(opened.map(|opened| inode(&opened)))
        };
        mounts.backward().map(reach).collect()
    }

    #[test]
    fn lists_a_file_system_by_its_first_mount() {
        let tree = tree(
            "21 1 254:1 / / rw - ext4 /dev/vda1 rw\n\
             22 21 0:5 / /proc rw - proc proc rw\n\
             nonsense\n\
             23 21 254:1 /sub /bind rw - ext4 /dev/vda1 rw\n\
             24 21 254:16 / /with\\040blank rw shared:1 - xfs /dev/vdb rw\n\
             25 21 0:40 /s /pool/s rw - btrfs /dev/nothing rw\n\
             26 21 0:40 / /pool rw - btrfs /dev/nothing rw\n",
            &[],
        );
        let mounts = read(&tree.root);
        assert_eq!(mount_points(&mounts), ["/pool/s", "/with blank", "/"]);
        let kinds: Vec<&[u8]> = mounts.backward().map(|fs| fs.kind()).collect();
        assert_eq!(kinds, [&b"btrfs"[..], b"xfs", b"ext4"]);
        let device = |fs: FileSystem<'_>| fs.device(&tree.root);
        let devices: Vec<Device> = mounts.backward().map(device).collect();
        assert_eq!(devices, [(0, 40), (254, 16), (254, 1)]);
    }

    #[test]
    fn lists_a_file_system_whose_path_is_too_long() {
        let long = "/x".repeat(20_000);
        let table = format!(
            "21 1 254:1 / / rw - ext4 /dev/vda1 rw\n\
             22 1 254:2 / {long} rw - ext4 /dev/vda2 rw\n"
        );
        let tree = tree(&table, &[]);
        let mounts = read(&tree.root);
        assert_eq!(mount_points(&mounts), [&long, "/"]);
        let miss = Err(Miss::Errno(Errno::NAMETOOLONG));
        assert_eq!(reached(&tree.root)[0], miss);
        let missed = reach_all(&tree.root, &mut Searches::new(), &mut |_| Ok(()));
        assert_eq!(
            missed,
            Ok(2),
            "one leads elsewhere, one is too long to be read"
        );
    }

    #[test]
    fn reaches_a_file_system_by_the_first_mount_that_leads_to_it() {
        let files = [("a/file", ""), ("b/file", "")];
        let tree = tree("", &files);
        if !is_on_disk(&tree) {
            return;
        }
        let reached_by = |table: &str| {
            set_table(&tree, table);
            reached(&tree.root)
        };
        let [a, b, file] = [&b"a"[..], b"b", b"b/file"].map(|name| {
            let opened = tree.root.file_at(&[name]).unwrap();
            Ok(Some(inode(&opened)))
        });
        assert_ne!(a, b);
        let mounted_at = |points: &[&str]| -> String {
            let line = |point: &&str| format!("@N 1 @D / {point} rw - ext4 /dev/x rw\n");
            points.iter().map(line).collect()
        };
        for (points, expected) in [
            (&["/a", "/b"][..], &a),
            (&["/none", "/b"], &b),
            (&["/a/file/x", "/none", "/b", "/a"], &b),
            (&["/none", "/a/none"], &Err(Miss::Errno(Errno::NOENT))),
            (&["/a/file/x", "/none"], &Err(Miss::Errno(Errno::NOTDIR))),
        ] {
            assert_eq!(reached_by(&mounted_at(points)), [*expected], "{points:?}");
        }
        // A file is opened through /proc, which a made-up tree lacks.
        assert_ne!(file, b);
        assert_eq!(
            reached_by(&mounted_at(&["/b/file"])),
            [Err(Miss::Errno(Errno::NOENT))]
        );
        // Another device number: something else is mounted there.
        let elsewhere = Err(Miss::Elsewhere);
        let covered = "@N 1 9:9 / /a rw - ext4 /dev/x rw\n";
        assert_eq!(reached_by(covered), [elsewhere]);
        // A file with another mount number may belong to an overlay.
        let other = format!("1{}", mounted_at(&["/b/file"]));
        assert_eq!(reached_by(&other), [elsewhere]);
        // For a directory the device number is enough.
        let other = format!("1{}", mounted_at(&["/b"]));
        assert_eq!(reached_by(&other), [b]);
        // The mount number alone does not prove that a place is on btrfs.
        let btrfs = "@N 1 0:9 / /a rw - btrfs /dev/x rw\n";
        if !Place::find(&tree.root, b"a", &mut |_| true)
            .unwrap()
            .is_on_btrfs()
        {
            assert_eq!(reached_by(btrfs), [elsewhere]);
        }
    }

    #[test]
    fn tries_another_mount_if_one_cannot_be_entered() {
        let tree = tree("", &[("a/x", ""), ("b/x", "")]);
        if !is_on_disk(&tree) {
            return;
        }
        let table = "@N 1 @D / /a rw - ext4 /dev/x rw\n@N 1 @D / /b rw - ext4 /dev/x rw\n";
        set_table(&tree, table);
        let mounts = read(&tree.root);
        let fs = mounts.backward().next().unwrap();
        let mut tries = 0;
        let second = &mut |_: &Place| {
            tries += 1;
            (tries == 2).then_some(()).ok_or(Errno::ACCESS)
        };
        assert_eq!(fs.reach(&tree.root, &mut Searches::new(), second), Ok(()));
        let never = &mut |_: &Place| Err(Errno::ACCESS);
        let refused = fs.reach(&tree.root, &mut Searches::new(), never);
        assert_eq!(refused, Err(Miss::Errno(Errno::ACCESS)));
        // A file system that is no longer mounted is no error.
        set_table(&tree, "");
        assert_eq!(fs.reach(&tree.root, &mut Searches::new(), never), Ok(()));
        // A file system that has moved is found at its new path.
        let stale = "@N 1 @D / /none rw - ext4 /dev/x rw\n";
        set_table(&tree, stale);
        let mounts = read(&tree.root);
        let fs = mounts.backward().next().unwrap();
        set_table(&tree, table);
        let opened = fs.open(&tree.root, &mut Searches::new());
        assert!(opened.unwrap().is_some());
    }

    #[test]
    fn reach_all_enters_each_file_system_and_counts_the_missed_ones() {
        let tree = tree("", &[("a/x", ""), ("b/x", "")]);
        if !is_on_disk(&tree) {
            return;
        }
        let walk = |table: &str| {
            set_table(&tree, table);
            let mut entered = 0;
            let missed = reach_all(&tree.root, &mut Searches::new(), &mut |_| {
                entered += 1;
                Ok(())
            });
            (entered, missed.unwrap())
        };
        let bound = "@N 1 @D / /a rw - ext4 /dev/x rw\n".repeat(3000);
        assert_eq!(walk(&bound), (1, 0));
        let hidden = "@N 1 @D / /none rw - ext4 /dev/x rw\n";
        assert_eq!(walk(&format!("{hidden}{bound}")), (1, 0));
        assert_eq!(walk(&hidden.repeat(3)), (0, 1));
        let others = "7 1 9:8 / /a rw - ext4 /dev/x rw\n8 1 9:7 / /b rw - xfs /dev/y rw\n";
        assert_eq!(walk(&format!("{others}{bound}")), (1, 2));
        assert_eq!(walk(""), (0, 0));
    }

    #[test]
    fn lists_thousands_of_file_systems() {
        let line = |n: u32| {
            format!(
                "{n} 1 {}:{} / /mnt/{n} rw - ext4 /dev/x rw\n",
                8 + n / 256,
                n % 256
            )
        };
        let table: String = (0..3000).map(line).collect();
        let tree = tree(&table, &[]);
        let points = mount_points(&read(&tree.root));
        let expected = (0..3000).rev().map(|n| format!("/mnt/{n}"));
        assert!(points.into_iter().eq(expected));
    }

    #[test]
    fn lists_file_systems_with_thousands_of_bind_mounts_once() {
        let line = |n: u32| format!("{n} 1 8:{} /{n} /mnt/{n} rw - ext4 /dev/x rw\n", n % 500);
        let table: String = (0..5000).map(line).collect();
        let tree = tree(&table, &[]);
        let points = mount_points(&read(&tree.root));
        assert!(
            points
                .into_iter()
                .eq((0..500).rev().map(|n| format!("/mnt/{n}")))
        );
    }

    /// The CPU time of this thread in nanoseconds.
    fn run_ns() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        stat.split(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn cost_grows_with_the_length_of_the_list_only() {
        // Each mount has its own device, in an order that is not sorted either way.
        let cost = |count: u32| {
            let line = |n: u32| {
                let device = n.wrapping_mul(2_654_435_761) >> 8;
                format!(
                    "{n} 1 {}:{n} / /mnt/{n} rw - ext4 /dev/x rw\n",
                    1 + device % 4000
                )
            };
            let table: String = (0..count).map(line).collect();
            let tree = tree(&table, &[]);
            let once = || {
                let start = run_ns();
                let mounts = read(&tree.root);
                assert_eq!(mounts.backward().count(), count as usize);
                run_ns() - start
            };
            (0..3).map(|_| once()).min().unwrap()
        };
        let (few, many) = (cost(1_000), cost(20_000));
        // Comparing each with each would take 400 times as long.
        assert!(many < 80 * few, "{few} ns and {many} ns");
    }
}
