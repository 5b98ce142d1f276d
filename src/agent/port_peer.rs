//! Whether a host is connected to a virtio port, and what to drop of the host before it.
//!
//! A port stays open while hosts come and go. The kernel reports a missing host by a hang-up and by
//! the end of a read, but not in step with the data: the first request of a new host can be read
//! while the port still reports that no host is connected. The reply can be written only when that
//! has changed.
//!
//! A host that has left may leave two things behind, each with a rule of its own.
//! - Half a request. A read that ends while no host is connected has taken all that the host had
//!   sent. Data after that is from another host, however soon it comes, and must not complete the
//!   request.
//! - Replies that it did not wait for. A host that is back at once may get them, as it would from
//!   qemu-ga; clients begin with a sync for that reason. Replies older than [`STALE_MS`] are dropped
//!   when the next host comes.
//!
//! If a host leaves and comes back before the agent looks again, the agent does not notice.

/// Milliseconds without a host after which the next host counts as another one. The port reports a
/// new host within milliseconds; under emulation, on a busy machine, within tenths of a second.
const STALE_MS: u64 = 1_000;

/// The state of the host. Times are those of `sys::clock::boottime_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortPeer {
    /// Connected.
    Here,
    /// Not connected since then.
    Away {
        since_ms: u64,
        /// Whether all data of the host has been read.
        drained: bool,
    },
    /// A new host has sent data although the port still reports that no host is connected. Until it
    /// reports the new host, the end of a read means nothing.
    Unannounced {
        /// When the last data came.
        since_ms: u64,
    },
}

/// What a host that has left leaves behind, and is to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the next host must not get data of the last one"]
pub(super) enum Left {
    /// Nothing.
    Nothing,
    /// Half a request, if there is one.
    Request,
    /// All: half a request, unsent replies, and the reply of a running command.
    All,
}

impl Left {
    /// What is left of a host `ms` after it left, if all its data has been read.
    fn after(ms: u64) -> Self {
        if is_long(ms) {
            Self::All
        } else {
            Self::Request
        }
    }
}

/// Whether a host that connects after `ms` counts as another one.
fn is_long(ms: u64) -> bool {
    ms >= STALE_MS
}

impl PortPeer {
    /// Whether the port last reported that no host is connected.
    pub(super) fn is_away(self) -> bool {
        self != Self::Here
    }

    /// The port hung up.
    pub(super) fn hang_up(&mut self, now_ms: u64) {
        if *self == Self::Here {
            *self = Self::Away {
                since_ms: now_ms,
                drained: false,
            };
        }
    }

    /// A read ended: the port reports no host, and all data has been read.
    pub(super) fn end(&mut self, now_ms: u64) {
        self.hang_up(now_ms);
        if let Self::Away { drained, .. } = self {
            *drained = true;
        }
    }

    /// A read returned data. Returns what to drop before it is parsed.
    pub(super) fn hear(&mut self, now_ms: u64) -> Left {
        let left = match *self {
            Self::Here | Self::Away { drained: false, .. } => return Left::Nothing,
            Self::Away { since_ms, .. } => Left::after(now_ms.saturating_sub(since_ms)),
            // By now the port would have reported the host that was heard last: it has left.
            Self::Unannounced { since_ms } if is_long(now_ms.saturating_sub(since_ms)) => Left::All,
            Self::Unannounced { .. } => Left::Nothing,
        };
        // A host is there, whatever the port reports. Its replies wait from now on.
        *self = Self::Unannounced { since_ms: now_ms };
        left
    }

    /// The port reports a host. Returns what to drop.
    pub(super) fn arrive(&mut self, now_ms: u64) -> Left {
        let was = core::mem::replace(self, Self::Here);
        match was {
            _ if was.is_stale(now_ms) => Left::All,
            Self::Away { drained: true, .. } => Left::Request,
            _ => Left::Nothing,
        }
    }

    /// Whether replies have waited so long that the next host counts as another one.
    pub(super) fn is_stale(self, now_ms: u64) -> bool {
        match self {
            Self::Here => false,
            Self::Away { since_ms, .. } | Self::Unannounced { since_ms } => {
                is_long(now_ms.saturating_sub(since_ms))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_request_is_dropped_however_soon_the_next_host_comes() {
        for ms in [0, 50, 300, 999] {
            let mut host = PortPeer::Here;
            host.hang_up(10);
            host.end(10);
            assert_eq!(host.arrive(10 + ms), Left::Request, "{ms} ms");
            assert_eq!(host.hear(11 + ms), Left::Nothing, "{ms} ms");
        }
        let mut host = PortPeer::Here;
        // Not all of it was read: what comes may be the other half.
        host.hang_up(10);
        assert_eq!(host.hear(11), Left::Nothing);
        assert_eq!(host.arrive(12), Left::Nothing);
    }

    #[test]
    fn request_that_comes_before_the_report_of_its_host_keeps_its_reply() {
        for (gap_ms, left) in [(100_000, Left::All), (300, Left::Request)] {
            let mut host = PortPeer::Here;
            host.hang_up(10);
            host.end(10);
            // Data first, in two parts; the port takes note in between, or later.
            let now_ms = 10 + gap_ms;
            assert_eq!(host.hear(now_ms), left);
            assert!(!host.is_stale(now_ms + 300), "the reply may be written");
            host.end(now_ms + 1);
            assert_eq!(host.hear(now_ms + 200), Left::Nothing, "its second half");
            host.end(now_ms + 201);
            assert_eq!(host.arrive(now_ms + 300), Left::Nothing);
            assert_eq!(host, PortPeer::Here);
        }
    }

    #[test]
    fn host_that_was_heard_but_never_reported_counts_as_gone_after_a_while() {
        let heard = || {
            let mut host = PortPeer::Here;
            host.end(10);
            let _ = host.hear(500);
            host
        };
        assert_eq!(heard().arrive(1_500), Left::All);
        assert_eq!(heard().hear(1_500), Left::All);
        assert!(heard().is_stale(1_500));
    }

    #[test]
    fn replies_to_a_host_that_left_are_dropped_when_the_next_comes() {
        let mut host = PortPeer::Here;
        host.hang_up(10);
        assert_eq!(
            host.hear(11),
            Left::Nothing,
            "what it sent before it left is its own"
        );
        assert!(host.is_stale(2_000), "nothing is written to whoever comes");
        assert_eq!(host.arrive(2_000), Left::All);
    }

    #[test]
    fn host_that_is_back_at_once_gets_its_replies() {
        let mut host = PortPeer::Here;
        host.end(10);
        assert_eq!(host.hear(500), Left::Request);
        assert_eq!(host.arrive(501), Left::Nothing);
        host.end(600);
        assert_eq!(host.arrive(900), Left::Request);
    }
}
