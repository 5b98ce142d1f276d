//! Channels: where clients come from.
//!
//! A virtio port is looked for at the path given (by default where udev would link it), then by its
//! name in sysfs, then, where /dev has no node for it, through a node of our own. If there is none,
//! the kernel's device events tell when to look again; nothing is polled. Once open a port stays
//! open, whether a host is there or not, because hosts see it close; it is given up only when the
//! device goes away.
//!
//! Differences from qemu-ga: a port that is not there is waited for, without `--retry-path`.

use crate::base::path::Path;
use crate::parse::{mountinfo, uevent};
use crate::sys::netlink::Uevents;
use crate::sys::root::{Root, relative};
use crate::sys::stream;
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
    let mut at = Path::of(&[path]);
    let opened = stream::open_port(at.as_c_str().ok_or(Errno::NAMETOOLONG)?);
    if !is_missing(&opened) {
        return opened;
    }
    let Some(name) = path.strip_prefix(BY_NAME) else {
        return opened;
    };
    let device = port_named(root, name)?;
    at = Path::of(&[b"/dev/"]);
    at.push(device.as_bytes());
    let opened = stream::open_port(at.as_c_str().ok_or(Errno::NAMETOOLONG)?);
    if is_missing(&opened) {
        open_without_node(root, device.as_bytes())
    } else {
        opened
    }
}

fn is_missing(opened: &Result<OwnedFd, Errno>) -> bool {
    // ENXIO and ENODEV: a node without a device behind it.
    matches!(
        opened,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NXIO | Errno::NODEV)
    )
}

/// The device, `vport1p1` or so, of the port called `name`.
fn port_named(root: &Root, name: &[u8]) -> Result<Path, Errno> {
    let mut found = None;
    root.list_at(&[b"sys/class/virtio-ports"], &mut |device, _| {
        let mut buffer = [0; 256];
        let is_it = about(root, device, b"/name", &mut buffer).is_ok_and(|is| is == name);
        if is_it {
            found = Some(Path::of(&[device]));
        }
        !is_it
    })?;
    found.ok_or(Errno::NOENT)
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
        let node = Path::of(&[directory, b".gaunt-port"]);
        let below = relative(node.as_bytes());
        if root.make_device(below, major, minor).is_ok() {
            let opened = stream::open_port(node.as_c_str().ok_or(Errno::NAMETOOLONG)?);
            let _ = root.remove_at(&[below]);
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
