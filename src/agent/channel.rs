//! Channels: where clients come from.
//!
//! A virtio port is looked for at the path given (by default where udev would link it), then by its
//! name in sysfs, then, where /dev has no node for it, through a node of our own. If there is none,
//! the kernel's device events tell when to look again; nothing is polled. Once open a port stays
//! open, whether a host is there or not, because hosts see it close; it is given up only when the
//! device goes away.
//!
//! Differences from qemu-ga: a port that is not there is waited for, without `--retry-path`.

use crate::parse::{mountinfo, words};
use crate::sys::root::Root;
use crate::sys::{Errno, OwnedFd};

/// The directory in which udev links ports by name.
const BY_NAME: &[u8] = b"/dev/virtio-ports/";
/// The port that hosts expect an agent at.
pub(super) const DEFAULT_PORT: &[u8] = b"/dev/virtio-ports/org.qemu.guest_agent.0";

/// What is read of a file in sysfs: all of it.
const LINE_BYTES: usize = 256;

/// Opens the port at `path`, or of its name.
///
/// # Errors
/// [`Errno::NOENT`] if there is no such port, by path or by name.
pub(super) fn open_port(root: &Root, path: &[u8]) -> Result<OwnedFd, Errno> {
    let opened = root.open_port(&[path]);
    let name = match &opened {
        Err(errno) if says_missing(*errno) => path.strip_prefix(BY_NAME),
        _ => None,
    };
    let Some(name) = name else { return opened };
    let mut opened = Err(Errno::NOENT);
    // The devices are `vport1p1` or so.
    root.list_at(&[b"sys/class/virtio-ports"], &mut |device, _| {
        let mut buffer = [0; LINE_BYTES];
        let is_it = about(root, device, b"/name", &mut buffer) == Some(name);
        if is_it {
            opened = open_device(root, device);
        }
        !is_it
    })?;
    opened
}

/// Opens a device by its name, through a node made for the moment if it has none.
fn open_device(root: &Root, device: &[u8]) -> Result<OwnedFd, Errno> {
    match root.open_port(&[b"/dev/", device]) {
        Err(errno) if says_missing(errno) => open_without_node(root, device),
        opened => opened,
    }
}

/// Whether this error means that there is no such port. ENXIO and ENODEV: a node without a device
/// behind it.
#[inline(never)]
pub(super) fn says_missing(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOENT | Errno::NOTDIR | Errno::NXIO | Errno::NODEV
    )
}

/// What sysfs says about a port in a file of its directory there.
#[inline(never)]
fn about<'b>(
    root: &Root,
    device: &[u8],
    file: &[u8],
    buffer: &'b mut [u8; LINE_BYTES],
) -> Option<&'b [u8]> {
    let name: &[&[u8]] = &[b"sys/class/virtio-ports/", device, file];
    root.read_at(name, buffer).ok().map(<[u8]>::trim_ascii)
}

fn open_without_node(root: &Root, device: &[u8]) -> Result<OwnedFd, Errno> {
    let mut buffer = [0; LINE_BYTES];
    let numbers = about(root, device, b"/dev", &mut buffer);
    let (major, minor) = numbers.and_then(mountinfo::device).ok_or(Errno::NOENT)?;
    // Places in memory only: on a disk, which may be frozen, the attempt might never end.
    for node in words(b"/dev/.gaunt-port /run/.gaunt-port") {
        let node = &[node];
        if root.make_device(node, major, minor).is_ok() {
            let opened = root.open_port(node);
            let _ = root.remove_at(node);
            return opened;
        }
    }
    Err(Errno::NOENT)
}
