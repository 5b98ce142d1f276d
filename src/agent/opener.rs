//! When to open a channel, and when to try again.
//!
//! An open port stays open, even without a host, because a host would notice that it was closed. It is
//! closed only when the device fails or goes away.
//!
//! A missing device is looked for at each of the kernel's device events, without polling. For a vsock
//! listener that is the driver, or the guest's own CID. A device that cannot be opened is tried again
//! after [`RETRY_MS`], as is a listener with `--retry-path`; a port that fails while it is open, after
//! [`REOPEN_MS`].
//!
//! Differences from qemu-ga: a missing device is waited for without `--retry-path`; the socket of a
//! process that still listens is not taken over, nor is a file of another type replaced.

use super::channel_options::{ChannelOption, Method, vsock_address};
use super::port;
use super::texts::AgentPhrase;
use crate::state::log::{Level, Log};
use crate::sys::clock::NEVER_MS;
use crate::sys::root::{Root, relative};
use crate::sys::{Errno, OwnedFd, serial, stream, vsock};

/// Milliseconds from a failed attempt to the next. A port that another agent holds is busy, and
/// there is no event when that agent closes it.
const RETRY_MS: u64 = 10_000;

/// Milliseconds from the failure of an open port to the next attempt. Without them a device that
/// opens and then fails would keep the agent busy.
const REOPEN_MS: u64 = 200;

/// Milliseconds from the event of a vsock device or module to a second look: the kernel reports a
/// module before it has set the module up.
const SETTLE_MS: u64 = 500;

/// How the last attempt to open the channel ended. The log has a line when this changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// There was none.
    New,
    /// Open.
    Open,
    /// No such device; the kernel reports when a device is added.
    Missing,
    /// Failed, or closed after a failure.
    Failed,
}

/// A channel that is open, or is to be opened.
pub(super) struct Opener {
    pub(super) method: Method,
    path: &'static [u8],
    status: Status,
    /// When the next attempt is due.
    next_ms: u64,
    /// Whether an attempt that finds no device is repeated after [`SETTLE_MS`].
    looks_again: bool,
}

impl Opener {
    /// A channel that is opened at the first opportunity.
    pub(super) fn new(option: &ChannelOption) -> Self {
        Self {
            method: option.method,
            path: option.path().unwrap_or_default(),
            status: Status::New,
            next_ms: 0,
            looks_again: false,
        }
    }

    /// When the next attempt is due.
    pub(super) fn next_ms(&self) -> u64 {
        self.next_ms
    }

    /// Whether there was no attempt yet.
    pub(super) fn is_new(&self) -> bool {
        self.status == Status::New
    }

    /// Whether the last attempt failed, and not for want of a device.
    pub(super) fn has_failed(&self) -> bool {
        self.status == Status::Failed
    }

    /// Whether the channel is open.
    pub(super) fn is_open(&self) -> bool {
        self.status == Status::Open
    }

    /// Whether the next attempt waits for a device event.
    pub(super) fn waits_for_device(&self) -> bool {
        self.status == Status::Missing
    }

    /// Whether there may be a device to wait for.
    pub(super) fn needs_device(&self) -> bool {
        !self.is_open() && self.method.has_device()
    }

    /// Whether a slot for a client is reserved for it.
    pub(super) fn waits_for_slot(&self) -> bool {
        !self.is_open() && !self.method.listens()
    }

    /// A device was added or changed.
    pub(super) fn device_event(&mut self) {
        if self.waits_for_device() {
            self.next_ms = 0;
            self.looks_again = self.method == Method::VsockListen;
        }
    }

    /// Opens the device or the socket.
    pub(super) fn open(&self, root: &Root) -> Result<OwnedFd, Errno> {
        match self.method {
            Method::VirtioSerial => port::open(root, self.path),
            Method::IsaSerial => {
                let line = root.open_port(&[relative(self.path)])?;
                serial::make_raw(&line)?;
                Ok(line)
            }
            Method::UnixListen => stream::listen_unix(self.path),
            Method::Inherited => stream::inherited_listener(),
            Method::VsockListen => {
                let (cid, port) = vsock_address(self.path).map_err(|_| Errno::INVAL)?;
                vsock::listen(cid, port)
            }
        }
    }

    /// Takes the result of an attempt to open the channel, and logs it if it differs from the last
    /// result.
    pub(super) fn tried(
        &mut self,
        opened: Result<(), Errno>,
        has_events: bool,
        now_ms: u64,
        log: &mut Log,
    ) {
        let status = Status::after(self.method, opened, has_events);
        if !self.change(status, now_ms) {
            return;
        }
        let (level, what) = match opened {
            Err(_) if self.method == Method::Inherited => {
                (Level::Error, AgentPhrase::UnsupportedSocket)
            }
            Err(Errno::NOTSOCK) => (Level::Error, AgentPhrase::NotSocket),
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
        let looks_again = core::mem::take(&mut self.looks_again);
        self.next_ms = match status {
            Status::Failed => now_ms.saturating_add(RETRY_MS),
            Status::Missing if looks_again => now_ms.saturating_add(SETTLE_MS),
            _ => NEVER_MS,
        };
        core::mem::replace(&mut self.status, status) != status
    }
}

impl Status {
    /// The status after an attempt. Without device events a missing device is a failure like any
    /// other.
    fn after(method: Method, opened: Result<(), Errno>, has_events: bool) -> Self {
        let Err(errno) = opened else {
            return Self::Open;
        };
        let is_missing = match method {
            Method::UnixListen | Method::Inherited => false,
            Method::VsockListen => matches!(errno, Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL),
            Method::VirtioSerial | Method::IsaSerial => port::is_missing(errno),
        };
        match is_missing && has_events {
            true => Self::Missing,
            false => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port.
    fn port() -> Opener {
        Opener::new(&ChannelOption::DEFAULT)
    }

    /// Takes the result of an attempt; returns whether it is logged.
    fn attempt(
        port: &mut Opener,
        opened: Result<(), Errno>,
        has_events: bool,
        now_ms: u64,
    ) -> bool {
        port.change(Status::after(port.method, opened, has_events), now_ms)
    }

    #[test]
    fn missing_port_is_logged_once_and_looked_for_at_each_device_event() {
        let mut port = port();
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
        let mut port = port();
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
        let mut port = port();
        assert!(attempt(&mut port, Err(Errno::NOENT), false, 7));
        assert_eq!(
            (port.next_ms(), port.status),
            (7 + RETRY_MS, Status::Failed)
        );
    }

    #[test]
    fn vsock_is_looked_for_twice_after_a_device_event() {
        let vsock = ChannelOption::at(Method::VsockListen, b":1");
        let mut listener = Opener::new(&vsock);
        for errno in [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL] {
            attempt(&mut listener, Err(errno), true, 0);
            assert_eq!(listener.next_ms(), NEVER_MS);
            listener.device_event();
            assert_eq!(listener.next_ms(), 0);
            attempt(&mut listener, Err(errno), true, 5);
            assert_eq!(listener.next_ms(), 5 + SETTLE_MS);
        }
        attempt(&mut listener, Err(Errno::ADDRINUSE), true, 5);
        assert_eq!(listener.next_ms(), 5 + RETRY_MS);
    }

    #[test]
    fn lost_port_is_opened_again_soon_and_then_seldom() {
        let mut port = port();
        attempt(&mut port, Ok(()), true, 5);
        port.lost(Errno::IO, 100, &mut Log::new());
        assert_eq!((port.next_ms(), port.is_open()), (100 + REOPEN_MS, false));
        // The loss is in the log already.
        assert!(!attempt(&mut port, Err(Errno::BUSY), true, 300));
        assert_eq!(port.next_ms(), 300 + RETRY_MS);
    }
}
