//! Whether a host is at the other end of a virtio port, and what is left of the host before it.
//!
//! A port stays open while hosts come and go. The kernel tells of them by a hang-up, and by a read
//! that ends, but not in step with the data: the first request of a new host may be there to read
//! while the port still says that nobody is connected, and its reply cannot be written before the
//! port takes note.
//!
//! What is left of a host that has gone are two things, and each has a rule of its own.
//! - Half a request. Once a read has ended while nobody was connected, all that the host had sent has
//!   been read. Whatever comes after that is another host's, however soon it comes, and must not
//!   complete the request.
//! - Replies that it did not wait for. They are for the host that asked; but one that is back at once
//!   may get them, as it would from qemu-ga, and clients begin with a sync for that reason. Replies that
//!   have waited [`STALE_MS`] are dropped when the next host comes.
//!
//! A host that came, left and came again between two looks of the agent was, for the agent, there all
//! the time.

/// How long a host is away before the next one is taken for another. The port takes note of a new
/// host within milliseconds, under emulation on a busy machine within tenths of a second.
const STALE_MS: u64 = 1_000;

/// What is known of the host. Times are of `sys::clock::boottime_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortPeer {
    /// Connected, as far as anybody knows.
    Here,
    /// Not connected since then.
    Away {
        since_ms: u64,
        /// Whether all that it had sent has been read.
        drained: bool,
    },
    /// The port says that nobody is connected, but somebody is: data came after all that the host before
    /// had sent. Reads that end say nothing then.
    Unannounced {
        /// When the latest data came.
        since_ms: u64,
    },
}

/// What is to be dropped, because it is of a host that has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what is left of another host must be dropped"]
pub(super) enum Left {
    /// Nothing.
    Nothing,
    /// Half a request, if there is one.
    Request,
    /// All: half a request, replies that wait to leave, and those still being made.
    All,
}

impl Left {
    /// Of a host that left so long ago, all of whose data has been read.
    fn after(ms: u64) -> Self {
        if is_long(ms) {
            Self::All
        } else {
            Self::Request
        }
    }
}

/// Whether who is here after so long is another host than before.
fn is_long(ms: u64) -> bool {
    ms >= STALE_MS
}

impl PortPeer {
    /// Whether the port last said that nobody is connected.
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

    /// A read ended: nobody is connected, as far as the port knows, and nothing is left to read.
    pub(super) fn end(&mut self, now_ms: u64) {
        self.hang_up(now_ms);
        if let Self::Away { drained, .. } = self {
            *drained = true;
        }
    }

    /// A read brought something. Gives what is to be dropped before it is looked at.
    pub(super) fn hear(&mut self, now_ms: u64) -> Left {
        let left = match *self {
            Self::Here | Self::Away { drained: false, .. } => return Left::Nothing,
            Self::Away { since_ms, .. } => Left::after(now_ms.saturating_sub(since_ms)),
            // By now the port would have taken note of the host that was heard last.
            Self::Unannounced { since_ms } if is_long(now_ms.saturating_sub(since_ms)) => Left::All,
            Self::Unannounced { .. } => Left::Nothing,
        };
        // It is there, whatever the port says; its replies wait from now on.
        *self = Self::Unannounced { since_ms: now_ms };
        left
    }

    /// The port says that somebody is connected. Gives what is to be dropped.
    pub(super) fn arrive(&mut self, now_ms: u64) -> Left {
        let was = core::mem::replace(self, Self::Here);
        match was {
            _ if was.is_stale(now_ms) => Left::All,
            Self::Away { drained: true, .. } => Left::Request,
            _ => Left::Nothing,
        }
    }

    /// Whether replies have waited so long that the next host is taken for another.
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
    fn half_a_request_ends_with_its_host_however_soon_the_next_comes() {
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
    fn a_request_that_overtakes_the_news_of_its_host_keeps_its_reply() {
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
    fn a_host_that_was_heard_and_never_announced_is_gone_after_a_while() {
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
    fn replies_to_a_host_that_left_are_dropped_when_the_next_arrives() {
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
    fn a_host_that_is_back_at_once_gets_its_replies() {
        let mut host = PortPeer::Here;
        host.end(10);
        assert_eq!(host.hear(500), Left::Request);
        assert_eq!(host.arrive(501), Left::Nothing);
        host.end(600);
        assert_eq!(host.arrive(900), Left::Request);
    }
}
