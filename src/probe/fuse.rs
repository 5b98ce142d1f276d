//! FUSE connections whose server owes the kernel an answer.
//!
//! A process that waits for such an answer cannot be killed while the server has its request. As
//! Documentation/filesystems/fuse.rst of the kernel says, fusectl has a directory for each
//! connection, below /sys/fs/fuse/connections, named after the device number of its mount.
//! `waiting` counts the requests without an answer. A write to `abort` fails them all; the mount is
//! unusable from then on.
//!
//! virtiofs has connections as well. Its server is the host, and the root file system may be one of
//! its mounts: connections of virtiofs are left alone.

use crate::base::text::parse_u32;
use crate::parse::mountinfo;
use crate::sys::Errno;
use crate::sys::root::Root;

/// Calls `each` with the directory of fusectl and the name of every connection whose server owes an
/// answer.
///
/// # Errors
/// [`Errno::NOENT`] for a kernel without FUSE, or the error of opening or listing fusectl.
pub fn each_waiting(root: &Root, each: &mut dyn FnMut(&Root, &[u8])) -> Result<(), Errno> {
    let connections = root.directory_at(&[b"sys/fs/fuse/connections"])?;
    connections.list(&mut |name, _| {
        if owes_answer(&connections, name) && !is_virtiofs(root, name) {
            each(&connections, name);
        }
        true
    })
}

fn owes_answer(connections: &Root, name: &[u8]) -> bool {
    let mut count = [0; 16];
    let count = connections.attribute(&[name, b"/waiting"], &mut count);
    count.is_ok_and(|count| count != b"0\n")
}

fn is_virtiofs(root: &Root, name: &[u8]) -> bool {
    let number = parse_u32(name);
    let mut found = false;
    let _ = root.lines_at(&[b"proc/self/mountinfo"], &mut |line| {
        found = mountinfo::parse(line).is_some_and(|mount| {
            mount.kind == b"virtiofs" && mount.major == 0 && Some(mount.minor) == number
        });
        !found
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    #[test]
    fn finds_connections_whose_server_owes_an_answer() {
        let table = "21 1 0:31 / / rw - virtiofs root rw\n\
                     22 21 0:40 / /home rw - fuse.sshfs host: rw\n\
                     23 21 8:33 / /ntfs rw - fuseblk /dev/sdc1 rw\n";
        let tree = Tree::of(&[
            ("proc/self/mountinfo", table),
            ("sys/fs/fuse/connections/31/waiting", "3\n"),
            ("sys/fs/fuse/connections/40/waiting", "1\n"),
            ("sys/fs/fuse/connections/41/waiting", "0\n"),
            ("sys/fs/fuse/connections/42/other", ""),
            ("sys/fs/fuse/connections/8388641/waiting", "12\n"),
        ]);
        let mut found = Vec::new();
        let each = &mut |connections: &Root, name: &[u8]| {
            assert_eq!(connections.has_at(&[name, b"/waiting"]), Ok(true));
            found.push(String::from_utf8(name.to_vec()).unwrap());
        };
        each_waiting(&tree.root, each).unwrap();
        found.sort();
        assert_eq!(found, ["40", "8388641"]);
        let without_fuse = Tree::new();
        let none = each_waiting(&without_fuse.root, &mut |_, _| panic!("no connection"));
        assert_eq!(none, Err(Errno::NOENT));
    }
}
