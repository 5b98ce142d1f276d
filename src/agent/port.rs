//! A virtio port: how to find it, open it, and when to try again.
//!
//! A port has up to three names, tried in this order: its path, by default the link that udev
//! makes; its own name in /sys/class/virtio-ports, which leads to its node in /dev; and a temporary
//! node, for a guest without devtmpfs.
//!
//! An open port stays open, whether a host is connected or not: hosts see it close. It is closed
//! only when the device fails or goes away.
//!
//! A missing port is looked for at each of the kernel's device events, without polling. A port that
//! cannot be opened is tried again after [`RETRY_MS`]; a port that fails while it is open, after
//! [`REOPEN_MS`].
//!
//! Difference from qemu-ga: a missing port is waited for without `--retry-path`.

use super::texts::AgentPhrase;
use crate::parse::{mountinfo, words};
use crate::state::log::{Level, Log};
use crate::sys::clock::NEVER_MS;
use crate::sys::root::{Root, relative};
use crate::sys::{Errno, OwnedFd};

/// The directory in which udev links ports by name.
pub(super) const BY_NAME: &[u8] = b"/dev/virtio-ports/";
/// The directory of ports in sysfs.
pub(super) const PORTS: &[u8] = b"sys/class/virtio-ports/";
/// The port of an agent, as all hosts name it.
pub(super) const DEFAULT_PORT: &[u8] = b"/dev/virtio-ports/org.qemu.guest_agent.0";

/// The size of an attribute in sysfs, in bytes: a name or a device number.
const ATTRIBUTE_BYTES: usize = 256;

/// Milliseconds from a failed attempt to the next. A port that another agent holds is busy, and
/// there is no event when that agent closes it.
const RETRY_MS: u64 = 10_000;

/// Milliseconds from the failure of an open port to the next attempt. Without them a device that
/// opens and then fails would keep the agent busy.
const REOPEN_MS: u64 = 200;

/// How the last attempt to open the port ended. The log has a line when this changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// There was none.
    New,
    /// Open.
    Open,
    /// No such port; the kernel reports when a device is added.
    Missing,
    /// Failed, or closed after a failure.
    Failed,
}

/// A port, open or not.
pub(super) struct Port {
    path: &'static [u8],
    status: Status,
    /// When the next attempt is due.
    next_ms: u64,
}

impl Port {
    /// A port that is opened at the first opportunity.
    pub(super) fn new(path: &'static [u8]) -> Self {
        Self {
            path,
            status: Status::New,
            next_ms: 0,
        }
    }

    /// When the next attempt to open the port is due.
    pub(super) fn next_ms(&self) -> u64 {
        self.next_ms
    }

    /// Whether the port is open.
    pub(super) fn is_open(&self) -> bool {
        self.status == Status::Open
    }

    /// Whether the next attempt waits for a device event.
    pub(super) fn waits_for_device(&self) -> bool {
        self.status == Status::Missing
    }

    /// A device was added or changed.
    pub(super) fn device_event(&mut self) {
        if self.waits_for_device() {
            self.next_ms = 0;
        }
    }

    /// Opens the port.
    pub(super) fn open(&self, root: &Root) -> Result<OwnedFd, Errno> {
        open(root, self.path)
    }

    /// Takes the result of an attempt to open the port, and logs it if it is another than last
    /// time.
    pub(super) fn tried(
        &mut self,
        opened: Result<(), Errno>,
        has_events: bool,
        now_ms: u64,
        log: &mut Log,
    ) {
        let status = Status::after(opened, has_events);
        if !self.change(status, now_ms) {
            return;
        }
        let (level, what) = match opened {
            Err(errno) if status == Status::Failed => {
                let what = AgentPhrase::CannotOpenChannel;
                return log.failure(Level::Error, what, self.path, errno);
            }
            Err(_) => (Level::Notice, AgentPhrase::WaitingForPort),
            Ok(()) => (Level::Detail, AgentPhrase::PortOpen),
        };
        log.say(level, what, &[self.path]);
    }

    /// Takes note that the open port failed and was closed.
    pub(super) fn lost(&mut self, errno: Errno, now_ms: u64, log: &mut Log) {
        log.failure(Level::Notice, AgentPhrase::PortGone, b"", errno);
        self.change(Status::Failed, now_ms);
        self.next_ms = now_ms.saturating_add(REOPEN_MS);
    }

    /// Sets the status and the time of the next attempt; returns whether the status is another one.
    fn change(&mut self, status: Status, now_ms: u64) -> bool {
        self.next_ms = match status {
            Status::Failed => now_ms.saturating_add(RETRY_MS),
            _ => NEVER_MS,
        };
        core::mem::replace(&mut self.status, status) != status
    }
}

impl Status {
    /// The status after an attempt. Without device events a missing port is a failure like any
    /// other.
    fn after(opened: Result<(), Errno>, has_events: bool) -> Self {
        match opened {
            Ok(()) => Self::Open,
            Err(errno) if is_missing(errno) && has_events => Self::Missing,
            Err(_) => Self::Failed,
        }
    }
}

/// Whether this error means that there is no such port. ENXIO and ENODEV: a node without a device
/// behind it.
#[inline(never)]
fn is_missing(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOENT | Errno::NOTDIR | Errno::NXIO | Errno::NODEV
    )
}

/// Opens the port at `path`, or the port with the name in it.
///
/// # Errors
/// [`Errno::NOENT`] if there is no such port.
fn open(root: &Root, path: &[u8]) -> Result<OwnedFd, Errno> {
    let opened = root.open_port(&[relative(path)]);
    let name = match &opened {
        Err(errno) if is_missing(*errno) => path.strip_prefix(BY_NAME),
        _ => None,
    };
    let Some(name) = name else { return opened };
    let mut opened = Err(Errno::NOENT);
    // The kernel calls the devices `vport1p1` and so on.
    root.list_at(&[PORTS], &mut |device, _| {
        let mut buffer = [0; ATTRIBUTE_BYTES];
        let found = attribute(root, device, b"/name", &mut buffer) == Some(name);
        if found {
            opened = open_device(root, device);
        }
        !found
    })?;
    opened
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

    /// A port, and whether each attempt is logged.
    fn attempt(port: &mut Port, opened: Result<(), Errno>, has_events: bool, now_ms: u64) -> bool {
        port.change(Status::after(opened, has_events), now_ms)
    }

    #[test]
    fn missing_port_is_logged_once_and_looked_for_at_each_device_event() {
        let mut port = Port::new(b"/dev/none");
        assert_eq!(port.next_ms(), 0);
        for errno in [Errno::NOENT, Errno::NOTDIR, Errno::NXIO, Errno::NODEV] {
            let is_first = port.status == Status::New;
            assert_eq!(attempt(&mut port, Err(errno), true, 5), is_first);
            assert_eq!((port.next_ms(), port.waits_for_device()), (NEVER_MS, true));
            port.device_event();
            assert_eq!(port.next_ms(), 0);
        }
        assert!(attempt(&mut port, Ok(()), true, 5));
        port.device_event();
        assert_eq!((port.next_ms(), port.is_open()), (NEVER_MS, true));
    }

    #[test]
    fn failure_is_logged_once_and_tried_again_after_a_while() {
        let mut port = Port::new(b"/dev/none");
        for (count, now_ms) in [0, 10_000, 20_000].into_iter().enumerate() {
            let failed = Err([Errno::BUSY, Errno::ACCESS, Errno::MFILE][count]);
            assert_eq!(attempt(&mut port, failed, true, now_ms), count == 0);
            assert_eq!(port.next_ms(), now_ms + RETRY_MS);
            // Its own time counts, not that of another channel's device.
            port.device_event();
            assert_eq!(port.next_ms(), now_ms + RETRY_MS);
        }
        assert!(attempt(&mut port, Err(Errno::NOENT), true, 30_000));
        assert!(attempt(&mut port, Err(Errno::BUSY), true, 30_000));
    }

    #[test]
    fn missing_port_is_a_failure_if_there_are_no_device_events() {
        let mut port = Port::new(b"/dev/none");
        assert!(attempt(&mut port, Err(Errno::NOENT), false, 7));
        assert_eq!(
            (port.next_ms(), port.status),
            (7 + RETRY_MS, Status::Failed)
        );
    }

    #[test]
    fn lost_port_is_opened_again_soon_and_then_seldom() {
        let mut port = Port::new(b"/dev/none");
        attempt(&mut port, Ok(()), true, 5);
        port.lost(Errno::IO, 100, &mut Log::new());
        assert_eq!((port.next_ms(), port.is_open()), (100 + REOPEN_MS, false));
        // The loss is in the log already.
        assert!(!attempt(&mut port, Err(Errno::BUSY), true, 300));
        assert_eq!(port.next_ms(), 300 + RETRY_MS);
    }

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
