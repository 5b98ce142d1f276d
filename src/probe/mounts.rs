//! The mounted file systems that live on a block device: what is frozen, trimmed and reported.
//!
//! Rules, as qemu-ga has them: the list is made anew from /proc/self/mountinfo on every use; what has
//! no block device (major number 0: tmpfs, proc, nfs, overlay, 9p, fuse) is left out, but btrfs; a
//! file system that is mounted several times goes by its first mount, so bind mounts and subvolumes
//! do not show.
//!
//! A path need not lead to the mount that the table has there: another may cover it, and whoever may
//! rename a directory on the path can have it lead anywhere. So a file system is [reached] by the
//! first of its mounts that leads to a [`Place`] with the file system's device number. Subvolumes of
//! btrfs have device numbers that are not in the table; there the place must belong to the very mount
//! that the table has. If no mount leads there, that may have been so for a moment only, and the table
//! is read again, a bounded number of times. Nothing on the way is opened, and nothing waits.
//!
//! Differences from qemu-ga: it takes the path of the first mount, whatever that leads to; and it
//! leaves out btrfs whose source is no block device here. Kernels without mountinfo (before 2.6.26)
//! are not served from /proc/self/mounts.
//!
//! [reached]: FileSystem::reach

use crate::base::index;
use crate::base::limits::{
    MOUNT_LIST_BYTES, MOUNT_SEARCHES, PATH_TRIES, SAME_PATH_READS, SEARCH_TRIES, THAWED_DEVICES,
};
use crate::base::path::Path;
use crate::base::store::Store;
use crate::base::text::{compare_until, cut};
use crate::parse::mountinfo::{self, Mount, unescape};
use crate::parse::{lines, words};
use crate::sys::mem::Buffer;
use crate::sys::place::Place;
use crate::sys::root::{Root, relative};
use crate::sys::{Errno, OwnedFd};

const TABLE: &[&[u8]] = &[b"proc/self/mountinfo"];

/// The number of the device that a file system lies on, major and minor. The mount table has 0 and a
/// number of the kernel's own for btrfs, which may lie on several.
pub type Device = (u32, u32);

/// Why a mount is not where the table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The path leads nowhere, or to what cannot be opened.
    Errno(Errno),
    /// The path leads to another file system.
    Elsewhere,
}

/// How many file systems one command may still search for in tables of later moments.
pub struct Searches(u32);

impl Searches {
    /// For one command.
    pub fn new() -> Self {
        Self(MOUNT_SEARCHES)
    }

    fn take(&mut self) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

impl Default for Searches {
    fn default() -> Self {
        Self::new()
    }
}

/// The mount table of a moment, and the file systems in it.
pub struct Mounts {
    /// The table as the kernel wrote it, then two indexes of its lines about block devices. The first
    /// is in its order. The second is sorted by device: mounts of a file system stand together, the
    /// first one first.
    bytes: Buffer,
    /// How long the table is.
    len: usize,
}

impl Default for Mounts {
    fn default() -> Self {
        Self {
            bytes: Buffer::growing(MOUNT_LIST_BYTES),
            len: 0,
        }
    }
}

impl Mounts {
    /// Reads the mounts of this moment.
    ///
    /// # Errors
    /// What reading the mount table came to; [`Errno::FBIG`] if it is beyond all measure.
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

    /// The file systems, the last mounted first: what is mounted on, or lies on, another comes before
    /// it.
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

/// Calls `each` with all mounts of this moment, the last mounted first. A table that is beyond all
/// measure is cut short.
///
/// # Errors
/// What reading the mount table came to, after as much of it as was read.
pub fn backward(root: &Root, each: &mut dyn FnMut(&Mount<'_>)) -> Result<(), Errno> {
    let mut table = Buffer::growing(MOUNT_LIST_BYTES);
    let read = table.read(&root.file_at(TABLE)?);
    lines(table.bytes())
        .rev()
        .filter_map(mountinfo::parse)
        .for_each(|mount| each(&mount));
    read
}

/// The table from the device of a line on.
fn device_at(table: &[u8], line: usize) -> &[u8] {
    let mut rest = table.get(line..).unwrap_or_default();
    cut(&mut rest, b' ');
    cut(&mut rest, b' ');
    rest
}

/// The mount whose line begins there.
fn mount_at(table: &[u8], line: usize) -> Option<Mount<'_>> {
    mountinfo::parse(cut(&mut table.get(line..)?, b'\n'))
}

/// A mounted file system.
pub struct FileSystem<'a> {
    table: &'a [u8],
    first: Mount<'a>,
    /// An index of its mounts.
    mounts: &'a [u8],
}

impl<'a> FileSystem<'a> {
    /// Where it is mounted first; as the table has it, if the path is longer than any that can be used.
    pub fn mount_point<'b>(&'b self, room: &'b mut Path) -> &'b [u8] {
        *room = unescaped(self.first.mount_point);
        match room.as_c_str() {
            Some(path) => path.to_bytes(),
            None => self.first.mount_point,
        }
    }

    /// Its type.
    pub fn kind(&self) -> &'a [u8] {
        self.first.kind
    }

    /// The block device it lies on. That of btrfs is the one it was mounted from, if there is such a
    /// device here.
    pub fn device(&self, root: &Root) -> Device {
        let device = self.first.device();
        if device.0 != 0 {
            return device;
        }
        let source = unescaped(self.first.source);
        let source = root.block_device_at(relative(source.as_bytes()));
        source.unwrap_or(device)
    }

    /// Opens a directory or file of this file system to read; `None` if it is not mounted any more.
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

    /// Calls `enter` with a place on this file system, and if that fails with one that another mount
    /// leads to. Does not if it is not mounted any more. Borrows no memory.
    ///
    /// # Errors
    /// Why its first mount could not be reached or entered, if no other could either.
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

/// What is done with a place. An error means that another mount may be better.
pub type Enter<'a> = &'a mut dyn FnMut(&Place) -> Result<(), Errno>;

/// Calls `enter` with a place on every mounted file system, at least once, and borrows no memory. Gives
/// how many mounts could not be reached or entered, nor their file systems by other mounts.
///
/// # Errors
/// What reading the mount table came to.
pub fn reach_all(root: &Root, searches: &mut Searches, enter: Enter<'_>) -> Result<u32, Errno> {
    let mut done = heapless::HistoryBuf::<Device, THAWED_DEVICES>::new();
    let mut missed = 0;
    // A mount that leads elsewhere is searched for only if no other mount leads to its file system.
    for searching in [false, true] {
        missed = 0;
        let whole = every(root, &mut |mount| {
            let device = mount.device();
            if !done.as_slice().contains(&device) {
                // In the searching pass this device may be one that the first pass already reached.
                let reached = try_to_enter(root, &mount, enter).is_ok()
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

/// Looks for a file system in the mount table of this moment, again and again, and enters it. Gives
/// whether that was done, or it is not mounted any more.
///
/// Each path is tried several times. Reading the table waits for a rename to be done, and where one
/// follows the other without a pause, the path is then looked up at the same wrong moment every time.
/// If the paths stay as they are, nobody renames anything, and something else covers them.
fn search(root: &Root, device: Device, searches: &mut Searches, enter: Enter<'_>) -> bool {
    let mut tries = if searches.take() { SEARCH_TRIES } else { 0 };
    let (mut seen_before, mut times) = (None, 0);
    while tries != 0 && times < SAME_PATH_READS {
        let (mut entered, mut seen) = (false, None);
        let whole = every(root, &mut |mount| {
            if mount.device() == device {
                seen = Some(mount.mount_point.iter().fold(seen.unwrap_or(0), hash));
                entered = try_to_enter(root, &mount, enter).is_ok();
                for _ in 0..PATH_TRIES.min(tries) {
                    tries -= 1;
                    entered = entered || try_cached(root, &mount, enter).is_ok();
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

/// Tells one list of paths from another.
fn hash(before: u64, byte: &u8) -> u64 {
    // FNV-1a.
    (before ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
}

/// Calls `each` with every mount on a block device in the order of the mount table, until it returns
/// false. Gives whether there was none that has a path too long to be read. Borrows no memory.
fn every(root: &Root, each: &mut dyn FnMut(Mount<'_>) -> bool) -> Result<bool, Errno> {
    let mut whole = true;
    root.beginnings_at(TABLE, &mut |line, is_whole| match mountinfo::parse(line) {
        Some(mount) => !is_on_disk(&mount) || each(mount),
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

/// Finds the place that the path of a mount leads to, and enters it if it is on the mount's file
/// system.
#[inline(never)]
fn try_to_enter(root: &Root, mount: &Mount<'_>, enter: Enter<'_>) -> Result<(), Miss> {
    enter_found(mount, enter, &mut |path| {
        Place::find(root, path, &mut |here| {
            let number = here.mount.unwrap_or(0);
            number == mount.parent || answers_by_itself(root, number)
        })
    })
}

/// As [`try_to_enter`], but asks no file system for a name: as good as that on a path that was right a
/// moment ago.
fn try_cached(root: &Root, mount: &Mount<'_>, enter: Enter<'_>) -> Result<(), Miss> {
    enter_found(mount, enter, &mut |path| Place::find_cached(root, path))
}

#[inline(never)]
fn enter_found(
    mount: &Mount<'_>,
    enter: Enter<'_>,
    find: &mut dyn FnMut(&[u8]) -> Result<Place, Errno>,
) -> Result<(), Miss> {
    let path = unescaped(mount.mount_point);
    let path = path.as_c_str().ok_or(Miss::Errno(Errno::NAMETOOLONG))?;
    let place = find(relative(path.to_bytes())).map_err(|errno| match errno {
        // A file system would have to be asked that is not on the path.
        Errno::AGAIN => Miss::Elsewhere,
        errno => Miss::Errno(errno),
    })?;
    let same_device = place.device == mount.device();
    let same_mount = place.mount == Some(mount.number);
    let is_proven = match is_btrfs(mount) {
        true => same_mount && place.is_on_btrfs(),
        // An overlay may show files, though no directories, with another file system's number.
        false => same_device && (same_mount || place.is_directory()),
    };
    match is_proven {
        true => enter(&place).map_err(Miss::Errno),
        false => Err(Miss::Elsewhere),
    }
}

/// File systems of which the kernel alone knows the names, so that nobody is waited for.
const LOCAL: &[u8] =
    b"rootfs tmpfs ramfs devtmpfs ext4 ext3 ext2 xfs btrfs f2fs vfat squashfs iso9660";

/// Whether the mount with this number is a file system that answers without waiting for anybody.
fn answers_by_itself(root: &Root, number: u64) -> bool {
    let mut answers = false;
    let _ = root.lines_at(TABLE, &mut |line| {
        let mount = mountinfo::parse(line).filter(|mount| mount.number == number);
        answers = mount.is_some_and(|mount| words(LOCAL).any(|kind| kind == mount.kind));
        mount.is_none()
    });
    answers
}

/// A field of the mount table, or of /etc/fstab, as the path it stands for.
pub fn unescaped(field: &[u8]) -> Path {
    let mut path = Path::new();
    for byte in unescape(field) {
        path.push(&[byte]);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::block::testing::Tree;
    use crate::sys::place::inode;

    fn tree(name: &str, table: &str, files: &[(&str, &str)]) -> Tree {
        let table = [("proc/self/mountinfo", table)];
        Tree::new(&format!("mounts-{name}"), &[&table, files].concat())
    }

    /// Replaces the mount table of a tree; `@D` and `@N` stand for the device that the tree lies on
    /// and for the number of the mount.
    fn set_table(tree: &Tree, table: &str) {
        let here = Place::find(&tree.root, b".", &mut |_| true).unwrap();
        let (major, minor) = here.device;
        let table = table.replace("@D", &format!("{major}:{minor}"));
        let table = table.replace("@N", &here.mount.unwrap().to_string());
        tree.write("proc/self/mountinfo", &table);
    }

    /// Whether the tree lies on a block device, as few containers' do not.
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
        let mut mounts = Mounts::default();
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

    /// The directory or file by which each file system was reached, or why it was not.
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
    fn a_file_system_goes_by_its_first_mount() {
        let tree = tree(
            "first",
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
    fn a_path_that_is_too_long_hides_no_file_system() {
        let long = "/x".repeat(20_000);
        let table = format!(
            "21 1 254:1 / / rw - ext4 /dev/vda1 rw\n\
             22 1 254:2 / {long} rw - ext4 /dev/vda2 rw\n"
        );
        let tree = tree("long", &table, &[]);
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
    fn the_first_mount_that_leads_to_its_file_system_is_used() {
        let files = [("a/file", ""), ("b/file", "")];
        let tree = tree("choice", "", &files);
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
        // Opened through /proc, which a made-up tree has not.
        assert_ne!(file, b);
        assert_eq!(
            reached_by(&mounted_at(&["/b/file"])),
            [Err(Miss::Errno(Errno::NOENT))]
        );
        // Another file system's number: something else is mounted there.
        let elsewhere = Err(Miss::Elsewhere);
        let covered = "@N 1 9:9 / /a rw - ext4 /dev/x rw\n";
        assert_eq!(reached_by(covered), [elsewhere]);
        // A file may be an overlay's, with the number of the file system below.
        let other = format!("1{}", mounted_at(&["/b/file"]));
        assert_eq!(reached_by(&other), [elsewhere]);
        // A directory of the right file system will do, whatever the number of the mount.
        let other = format!("1{}", mounted_at(&["/b"]));
        assert_eq!(reached_by(&other), [b]);
        // A number is no proof that something is on btrfs.
        let btrfs = "@N 1 0:9 / /a rw - btrfs /dev/x rw\n";
        if !Place::find(&tree.root, b"a", &mut |_| true)
            .unwrap()
            .is_on_btrfs()
        {
            assert_eq!(reached_by(btrfs), [elsewhere]);
        }
    }

    #[test]
    fn a_mount_that_cannot_be_entered_makes_way_for_another() {
        let tree = tree("enter", "", &[("a/x", ""), ("b/x", "")]);
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
        // One that is not mounted any more is nobody's failure.
        set_table(&tree, "");
        assert_eq!(fs.reach(&tree.root, &mut Searches::new(), never), Ok(()));
        // And one that has moved is found where it is now.
        let stale = "@N 1 @D / /none rw - ext4 /dev/x rw\n";
        set_table(&tree, stale);
        let mounts = read(&tree.root);
        let fs = mounts.backward().next().unwrap();
        set_table(&tree, table);
        let opened = fs.open(&tree.root, &mut Searches::new());
        assert!(opened.unwrap().is_some());
    }

    #[test]
    fn a_walk_over_all_enters_each_and_counts_what_it_missed() {
        let tree = tree("all", "", &[("a/x", ""), ("b/x", "")]);
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
    fn a_list_of_thousands_is_whole() {
        let line = |n: u32| {
            format!(
                "{n} 1 {}:{} / /mnt/{n} rw - ext4 /dev/x rw\n",
                8 + n / 256,
                n % 256
            )
        };
        let table: String = (0..3000).map(line).collect();
        let tree = tree("many", &table, &[]);
        let points = mount_points(&read(&tree.root));
        let expected = (0..3000).rev().map(|n| format!("/mnt/{n}"));
        assert!(points.into_iter().eq(expected));
    }

    #[test]
    fn thousands_of_bind_mounts_leave_their_devices() {
        let line = |n: u32| format!("{n} 1 8:{} /{n} /mnt/{n} rw - ext4 /dev/x rw\n", n % 500);
        let table: String = (0..5000).map(line).collect();
        let tree = tree("binds", &table, &[]);
        let points = mount_points(&read(&tree.root));
        assert!(
            points
                .into_iter()
                .eq((0..500).rev().map(|n| format!("/mnt/{n}")))
        );
    }

    /// Nanoseconds that this thread has run.
    fn run_ns() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        stat.split(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn a_list_costs_what_it_is_long() {
        // Each its own device, in an order that is neither that of the numbers nor its reverse.
        let cost = |count: u32| {
            let line = |n: u32| {
                let device = n.wrapping_mul(2_654_435_761) >> 8;
                format!(
                    "{n} 1 {}:{n} / /mnt/{n} rw - ext4 /dev/x rw\n",
                    1 + device % 4000
                )
            };
            let table: String = (0..count).map(line).collect();
            let tree = tree(&format!("cost-{count}"), &table, &[]);
            let once = || {
                let start = run_ns();
                let mounts = read(&tree.root);
                assert_eq!(mounts.backward().count(), count as usize);
                run_ns() - start
            };
            (0..3).map(|_| once()).min().unwrap()
        };
        let (few, many) = (cost(1_000), cost(20_000));
        // Compared each with each they take 400 times as long.
        assert!(many < 80 * few, "{few} ns and {many} ns");
    }
}
