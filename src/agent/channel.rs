//! Channels: where clients come from.
//!
//! A virtio port is looked for at the path given (by default where udev would link it), then by its
//! name in sysfs, then, where /dev has no node for it, through a node of our own. If there is none,
//! the kernel's device events tell when to look again; nothing is polled. Once open a port stays
//! open, whether a host is there or not, because hosts see it close; it is given up only when the
//! device goes away.
//!
//! Differences from qemu-ga: a port that is not there is waited for, without `--retry-path`.

use crate::parse::{mountinfo, uevent};
use crate::sys::netlink::Uevents;
use crate::sys::root::Root;
use crate::sys::{Errno, OwnedFd};

/// The directory in which udev links ports by name.
const BY_NAME: &[u8] = b"/dev/virtio-ports/";
/// The port that hosts expect an agent at.
pub(super) const DEFAULT_PORT: &[u8] = b"/dev/virtio-ports/org.qemu.guest_agent.0";

/// Opens the port at `path`, or of its name.
///
/// # Errors
/// [`Errno::NOENT`] if there is no such port, by path or by name.
pub(super) fn open_port(root: &Root, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut opened = root.open_port(&[path]);
    let Some(name) = path.strip_prefix(BY_NAME).filter(|_| is_missing(&opened)) else {
        return opened;
    };
    // The device, `vport1p1` or so, of the port of that name.
    let mut device = heapless::Vec::<u8, DEVICE_BYTES>::new();
    root.list_at(&[b"sys/class/virtio-ports"], &mut |port, _| {
        let mut buffer = [0; 256];
        let is_it = about(root, port, b"/name", &mut buffer).is_ok_and(|is| is == name);
        if is_it {
            let _ = device.extend_from_slice(port);
        }
        !is_it
    })?;
    if device.is_empty() {
        return Err(Errno::NOENT);
    }
    opened = root.open_port(&[b"/dev/", &device]);
    if is_missing(&opened) {
        opened = open_without_node(root, &device);
    }
    opened
}

/// Room for the name of a port's device.
const DEVICE_BYTES: usize = 32;

fn is_missing(opened: &Result<OwnedFd, Errno>) -> bool {
    opened.as_ref().is_err_and(|errno| says_missing(*errno))
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
    buffer: &'b mut [u8],
) -> Result<&'b [u8], Errno> {
    let name: &[&[u8]] = &[b"sys/class/virtio-ports/", device, file];
    root.read_at(name, buffer).map(<[u8]>::trim_ascii)
}

/// Opens a device that has no node, through one made for the moment.
fn open_without_node(root: &Root, device: &[u8]) -> Result<OwnedFd, Errno> {
    let mut buffer = [0; 32];
    let numbers = about(root, device, b"/dev", &mut buffer)?;
    let (major, minor) = mountinfo::device(numbers).ok_or(Errno::NOENT)?;
    // Places in memory only: on a disk, which may be frozen, the attempt might never end.
    for directory in &[&b"/dev/"[..], b"/run/"] {
        let node: &[&[u8]] = &[directory, b".gaunt-port"];
        if root.make_device(node, major, minor).is_ok() {
            let opened = root.open_port(node);
            let _ = root.remove_at(node);
            return opened;
        }
    }
    Err(Errno::NOENT)
}

/// Whether the kernel reported, since the last time, a device that may be the port.
pub(super) fn news(uevents: &Uevents) -> bool {
    let mut news = false;
    let mut buffer = [0; 4096];
    loop {
        match uevents.receive(&mut buffer) {
            Ok(Some(datagram)) => {
                let subsystem = uevent::parse(datagram).and_then(|event| event.value(b"SUBSYSTEM"));
                news |= matches!(subsystem, Some(b"virtio-ports" | b"tty"));
            }
            Ok(None) => return news,
            // Events were lost; one of them may have been it.
            Err(_) => return true,
        }
    }
}
