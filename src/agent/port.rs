//! A virtio port: how to find and open it.
//!
//! A port has up to three names, tried in this order: its path, by default the link that udev
//! makes; its own name in /sys/class/virtio-ports, which leads to its node in /dev; and a temporary
//! node, for a guest without devtmpfs.

use crate::parse::{mountinfo, words};
use crate::sys::root::{Root, relative};
use crate::sys::{Errno, OwnedFd};

/// The directory in which udev links ports by name.
pub(super) const BY_NAME: &[u8] = b"/dev/virtio-ports/";
/// The directory of ports in sysfs.
const PORTS: &[u8] = b"sys/class/virtio-ports/";
/// The port of an agent, as all hosts name it.
pub(super) const DEFAULT_PORT: &[u8] = b"/dev/virtio-ports/org.qemu.guest_agent.0";

/// The size of an attribute in sysfs, in bytes: a name or a device number.
const ATTRIBUTE_BYTES: usize = 256;

/// Whether this error means that there is no such device. ENXIO and ENODEV: a node without a device
/// behind it.
#[inline(never)]
pub(super) fn is_missing(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOENT | Errno::NOTDIR | Errno::NXIO | Errno::NODEV
    )
}

/// Opens the port at `path`, or the port with the name in it.
///
/// # Errors
/// [`Errno::NOENT`] if there is no such port.
pub(super) fn open(root: &Root, path: &[u8]) -> Result<OwnedFd, Errno> {
    let opened = root.open_port(&[relative(path)]);
    let name = match &opened {
        Err(errno) if is_missing(*errno) => path.strip_prefix(BY_NAME),
        _ => None,
    };
    let Some(name) = name else { return opened };
    let mut opened = Err(Errno::NOENT);
    with_name(root, name, &mut |device| opened = open_device(root, device))?;
    opened
}

/// Calls `found` with the kernel's name of the port that has this name, such as `vport1p1`.
pub(super) fn with_name(
    root: &Root,
    name: &[u8],
    found: &mut dyn FnMut(&[u8]),
) -> Result<(), Errno> {
    root.list_at(&[PORTS], &mut |device, _| {
        let mut buffer = [0; ATTRIBUTE_BYTES];
        let is_it = attribute(root, device, b"/name", &mut buffer) == Some(name);
        if is_it {
            found(device);
        }
        !is_it
    })
}

/// Opens a device at its node, or, if it has none, at a temporary one.
fn open_device(root: &Root, device: &[u8]) -> Result<OwnedFd, Errno> {
    match root.open_port(&[b"dev/", device]) {
        Err(errno) if is_missing(errno) => open_without_node(root, device),
        opened => opened,
    }
}

fn open_without_node(root: &Root, device: &[u8]) -> Result<OwnedFd, Errno> {
    let mut buffer = [0; ATTRIBUTE_BYTES];
    let numbers = attribute(root, device, b"/dev", &mut buffer);
    let (major, minor) = numbers.and_then(mountinfo::device).ok_or(Errno::NOENT)?;
    // In memory only: a disk may be frozen, and making the node would then wait for the thaw.
    for node in words(b"dev/.gaunt-port run/.gaunt-port") {
        let node = &[node];
        if root.make_device(node, major, minor).is_ok() {
            let opened = root.open_port(node);
            let _ = root.remove_at(node);
            return opened;
        }
    }
    Err(Errno::NOENT)
}

/// Reads an attribute of a port from sysfs.
#[inline(never)]
fn attribute<'b>(
    root: &Root,
    device: &[u8],
    file: &[u8],
    buffer: &'b mut [u8; ATTRIBUTE_BYTES],
) -> Option<&'b [u8]> {
    let name: &[&[u8]] = &[PORTS, device, file];
    root.read_at(name, buffer).ok().map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    #[test]
    fn port_is_found_by_its_path_or_by_its_name_in_sysfs() {
        let tree = Tree::new();
        let find = |path: &[u8]| open(&tree.root, path).map(drop);
        let by_path = b"/dev/virtio-ports/agent";
        assert_eq!(find(by_path), Err(Errno::NOENT));
        for (device, name) in [("vport1p1", "console\n"), ("vport1p2", "agent\n")] {
            tree.file(format!("sys/class/virtio-ports/{device}/name"), name);
        }
        tree.directory("dev/virtio-ports");
        assert_eq!(find(by_path), Err(Errno::NOENT));
        tree.fifo(c"dev/vport1p2");
        assert_eq!(find(by_path), Ok(()));
        assert_eq!(find(b"/dev/virtio-ports/other"), Err(Errno::NOENT));
        assert_eq!(find(b"/dev/vport1p2"), Ok(()));
        // The link of udev comes first, whatever it leads to.
        tree.fifo(c"link");
        std::fs::remove_file(tree.path.join("dev/vport1p2")).unwrap();
        tree.link("dev/virtio-ports/agent", "../../link");
        assert_eq!(find(by_path), Ok(()));
    }
}
