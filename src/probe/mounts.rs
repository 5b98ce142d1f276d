//! The mounted file systems that live on a block device: what is frozen, trimmed and reported.
//!
//! Rules, as qemu-ga has them: built anew from /proc/self/mountinfo on every use; what has no block
//! device (major number 0: tmpfs, proc, nfs, overlay, 9p, fuse) is left out, but btrfs, whose
//! subvolumes have numbers of their own and go by the device they were mounted from; of several
//! mounts of one device only the first counts, so bind mounts and subvolumes do not show.
//!
//! Differences: kernels without mountinfo (before 2.6.26) are not served from /proc/self/mounts.

use crate::base::limits::MOUNT_LIST_BYTES;
use crate::base::path::Path;
use crate::base::store::Store;
use crate::parse::mountinfo::{self, unescape};
use crate::sys::Errno;
use crate::sys::mem::Buffer;
use crate::sys::root::{Root, relative};

/// A mounted file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// Major number of its block device.
    pub major: u32,
    /// Minor number of its block device.
    pub minor: u32,
    /// Where it is mounted.
    pub mount_point: &'a [u8],
    /// Its type.
    pub kind: &'a [u8],
}

/// Calls `each` with every mount on a block device, bind mounts included, in the order of the mount
/// table, until it returns false. Borrows no memory.
pub fn each(root: &Root, each: &mut dyn FnMut(Mount<'_>) -> bool) -> Result<(), Errno> {
    root.lines(&Path::of(&[b"proc/self/mountinfo"]), &mut |line| {
        let Some(mount) = mountinfo::parse(line) else {
            return true;
        };
        let device = match (mount.major, mount.kind) {
            (0, b"btrfs") => source_device(root, mount.source),
            (0, _) => None,
            (major, _) => Some((major, mount.minor)),
        };
        let Some((major, minor)) = device else {
            return true;
        };
        let mount_point = unescaped(mount.mount_point);
        // A path that does not fit could not be opened either.
        if mount_point.as_c_str().is_none() {
            return true;
        }
        let mount_point = mount_point.as_bytes();
        each(Mount {
            major,
            minor,
            mount_point,
            kind: mount.kind,
        })
    })
}

fn source_device(root: &Root, source: &[u8]) -> Option<(u32, u32)> {
    let source = unescaped(source);
    root.block_device(&Path::of(&[relative(source.as_bytes())]))
        .ok()?
}

/// A field of the mount table, or of /etc/fstab, as the path it stands for.
pub fn unescaped(field: &[u8]) -> Path {
    let mut path = Path::new();
    for byte in unescape(field) {
        path.push(&[byte]);
    }
    path
}

/// The mount list, to be walked either way.
pub struct Mounts {
    /// Records of a [`Header`], the mount point, the type, and the record's length once more, by
    /// which the list is walked backward.
    records: Buffer,
}

/// Major number, minor number, bytes of the mount point, bytes of the type.
type Header = [u32; 4];
const HEADER_BYTES: usize = size_of::<Header>();
const LENGTH_BYTES: usize = size_of::<u32>();

impl Mounts {
    /// The mounts of this moment.
    ///
    /// # Errors
    /// What reading the mount table came to; [`Errno::NOMEM`] if it is beyond all measure.
    pub fn read(root: &Root) -> Result<Self, Errno> {
        let mut list = Self {
            records: Buffer::new(&mut [], MOUNT_LIST_BYTES),
        };
        let mut full = false;
        each(root, &mut |mount| {
            let known = |other: Mount<'_>| (other.major, other.minor) == (mount.major, mount.minor);
            if !list.forward().any(known) {
                full = list.push(mount).is_none();
            }
            !full
        })?;
        if full { Err(Errno::NOMEM) } else { Ok(list) }
    }

    fn push(&mut self, mount: Mount<'_>) -> Option<()> {
        let point_bytes = u32::try_from(mount.mount_point.len()).ok()?;
        let kind_bytes = u32::try_from(mount.kind.len()).ok()?;
        let header: Header = [mount.major, mount.minor, point_bytes, kind_bytes];
        for number in header {
            self.records.append(&number.to_ne_bytes()).ok()?;
        }
        self.records.append(mount.mount_point).ok()?;
        self.records.append(mount.kind).ok()?;
        let len = mount.mount_point.len() + mount.kind.len() + HEADER_BYTES + LENGTH_BYTES;
        self.records
            .append(&u32::try_from(len).ok()?.to_ne_bytes())
            .ok()
    }

    /// In the order of the mount table.
    pub fn forward(&self) -> impl Iterator<Item = Mount<'_>> {
        let mut rest = self.records.bytes();
        core::iter::from_fn(move || {
            let (mount, len) = record(rest)?;
            rest = rest.get(len..)?;
            Some(mount)
        })
    }

    /// In the reverse of it: what is mounted on, or lies on, another comes before it.
    pub fn backward(&self) -> impl Iterator<Item = Mount<'_>> {
        let mut rest = self.records.bytes();
        core::iter::from_fn(move || {
            let len = u32::from_ne_bytes(*rest.last_chunk()?);
            let start = rest.len().checked_sub(usize::try_from(len).ok()?)?;
            let (before, last) = rest.split_at_checked(start)?;
            rest = before;
            Some(record(last)?.0)
        })
    }
}

/// The first of these records, and its length.
fn record(records: &[u8]) -> Option<(Mount<'_>, usize)> {
    let number = |place: usize| {
        let bytes = records.get(place * LENGTH_BYTES..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    };
    let point_end = HEADER_BYTES.checked_add(usize::try_from(number(2)?).ok()?)?;
    let kind_end = point_end.checked_add(usize::try_from(number(3)?).ok()?)?;
    let mount = Mount {
        major: number(0)?,
        minor: number(1)?,
        mount_point: records.get(HEADER_BYTES..point_end)?,
        kind: records.get(point_end..kind_end)?,
    };
    Some((mount, kind_end.checked_add(LENGTH_BYTES)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    fn machine(name: &str, mountinfo: &str) -> (std::path::PathBuf, Root) {
        let path = std::env::temp_dir().join(format!("gaunt-mounts-{}-{name}", std::process::id()));
        std::fs::create_dir_all(path.join("proc/self")).unwrap();
        std::fs::write(path.join("proc/self/mountinfo"), mountinfo).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        (path, root)
    }

    #[test]
    fn the_first_mount_of_each_block_device_counts() {
        let (path, root) = machine(
            "first",
            "21 1 254:1 / / rw - ext4 /dev/vda1 rw\n\
             22 21 0:5 / /proc rw - proc proc rw\n\
             nonsense\n\
             23 21 254:1 /sub /bind rw - ext4 /dev/vda1 rw\n\
             24 21 254:16 / /with\\040blank rw shared:1 - xfs /dev/vdb rw\n\
             25 21 0:40 / /pool rw - btrfs /dev/nothing rw\n",
        );
        let mounts = Mounts::read(&root).unwrap();
        let mount = |major, minor, mount_point, kind| Mount {
            major,
            minor,
            mount_point,
            kind,
        };
        let first = mount(254, 1, &b"/"[..], &b"ext4"[..]);
        let second = mount(254, 16, b"/with blank", b"xfs");
        assert_eq!(mounts.forward().collect::<Vec<_>>(), [first, second]);
        assert_eq!(mounts.backward().collect::<Vec<_>>(), [second, first]);
        let mut all = 0;
        each(&root, &mut |_| {
            all += 1;
            true
        })
        .unwrap();
        assert_eq!(all, 3);
        std::fs::remove_dir_all(path).unwrap();
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
        let (path, root) = machine("many", &table);
        let mounts = Mounts::read(&root).unwrap();
        assert_eq!(mounts.forward().count(), 3000);
        let mut backward = mounts.backward();
        assert_eq!(backward.next().unwrap().mount_point, b"/mnt/2999");
        assert_eq!(backward.last().unwrap().mount_point, b"/mnt/0");
        std::fs::remove_dir_all(path).unwrap();
    }
}
