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
    root.lines_at(&[b"proc/self/mountinfo"], &mut |line| {
        let Some(mount) = mountinfo::parse(line) else {
            return true;
        };
        let (mut major, mut minor) = (mount.major, mount.minor);
        if major == 0 {
            if mount.kind != b"btrfs" {
                return true;
            }
            let Some(source) = source_device(root, mount.source) else {
                return true;
            };
            (major, minor) = source;
        }
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
    root.block_device_at(relative(source.as_bytes())).ok()?
}

/// A field of the mount table, or of /etc/fstab, as the path it stands for.
pub fn unescaped(field: &[u8]) -> Path {
    let mut path = Path::new();
    for byte in unescape(field) {
        path.push(&[byte]);
    }
    path
}

/// The mount list, to be walked backward: what is mounted on, or lies on, another comes before it.
pub struct Mounts {
    /// Records of the mount point, the type, and a [`Trailer`].
    records: Buffer,
}

/// Major number, minor number, bytes of the mount point, bytes of the type.
type Trailer = [[u8; 4]; 4];

impl Default for Mounts {
    fn default() -> Self {
        Self {
            records: Buffer::growing(MOUNT_LIST_BYTES),
        }
    }
}

impl Mounts {
    /// Adds the mounts of this moment.
    ///
    /// Into what is there already: handed over as a result the list would be copied.
    ///
    /// # Errors
    /// What reading the mount table came to; [`Errno::FBIG`] if it is beyond all measure.
    pub fn read(&mut self, root: &Root) -> Result<(), Errno> {
        each(root, &mut |mount| {
            let known = |other: Mount<'_>| (other.major, other.minor) == (mount.major, mount.minor);
            if !self.backward().any(known) {
                let trailer: Trailer = [
                    mount.major.to_ne_bytes(),
                    mount.minor.to_ne_bytes(),
                    (mount.mount_point.len() as u32).to_ne_bytes(),
                    (mount.kind.len() as u32).to_ne_bytes(),
                ];
                let _ = self.records.append(mount.mount_point);
                let _ = self.records.append(mount.kind);
                let _ = self.records.append(trailer.as_flattened());
            }
            true
        })?;
        self.records.whole()
    }

    /// In the reverse order of the mount table.
    pub fn backward(&self) -> Backward<'_> {
        Backward {
            rest: self.records.bytes(),
        }
    }
}

/// The iterator of [`Mounts::backward`].
pub struct Backward<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Backward<'a> {
    type Item = Mount<'a>;

    #[inline(never)]
    fn next(&mut self) -> Option<Mount<'a>> {
        let (rest, trailer) = self.rest.split_last_chunk::<16>()?;
        let (&[major, minor, point, kind], _) = trailer.as_chunks::<4>() else {
            return None;
        };
        let [major, minor, point, kind] = [major, minor, point, kind].map(u32::from_ne_bytes);
        let (rest, kind) = rest.split_at_checked(rest.len().checked_sub(kind as usize)?)?;
        let (rest, mount_point) = rest.split_at_checked(rest.len().checked_sub(point as usize)?)?;
        self.rest = rest;
        Some(Mount {
            major,
            minor,
            mount_point,
            kind,
        })
    }
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
        let mut mounts = Mounts::default();
        mounts.read(&root).unwrap();
        let mount = |major, minor, mount_point, kind| Mount {
            major,
            minor,
            mount_point,
            kind,
        };
        let first = mount(254, 1, &b"/"[..], &b"ext4"[..]);
        let second = mount(254, 16, b"/with blank", b"xfs");
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
        let mut mounts = Mounts::default();
        mounts.read(&root).unwrap();
        assert_eq!(mounts.backward().count(), 3000);
        let mut backward = mounts.backward();
        assert_eq!(backward.next().unwrap().mount_point, b"/mnt/2999");
        assert_eq!(backward.last().unwrap().mount_point, b"/mnt/0");
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn thousands_of_bind_mounts_leave_their_devices() {
        let line = |n: u32| format!("{n} 1 8:{} /{n} /mnt/{n} rw - ext4 /dev/x rw\n", n % 500);
        let table: String = (0..5000).map(line).collect();
        let (path, root) = machine("binds", &table);
        let mut mounts = Mounts::default();
        mounts.read(&root).unwrap();
        let minors: Vec<u32> = mounts.backward().map(|mount| mount.minor).collect();
        assert!(minors.into_iter().eq((0..500).rev()));
        std::fs::remove_dir_all(path).unwrap();
    }
}
