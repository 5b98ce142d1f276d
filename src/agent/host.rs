//! Whether a host is at the other end of a virtio port, and whether it is still the same one.
//!
//! A port stays open while hosts come and go. The kernel tells of them by a hang-up, and by a read
//! that ends, but not in step with the data: the first request of a new host may be there to read
//! while the port still says that nobody is connected, and its reply cannot be written before the
//! port takes note. So replies are not dropped in a hurry: only what has waited [`STALE_MS`] for its
//! host counts as left behind by one that is gone, and must not reach the next. A host that comes
//! back sooner may get a reply to what it asked before, as it would from qemu-ga; clients begin with
//! a sync for that reason. Half a request is forgotten once all that came with it has been read and
//! nobody was connected: what comes after that is another connection's.

/// How long a host is away before the next one is taken for another. The port takes note of a new
/// host within milliseconds, under emulation on a busy machine within tenths of a second.
const STALE_MS: u64 = 1_000;

/// What is known of the host. Times are of `sys::clock::boottime_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// Connected, as far as anybody knows.
    Here,
    /// Not connected since then.
    Away {
        since_ms: u64,
        /// Whether all that it had sent has been read, so that what comes now is another's.
        drained: bool,
    },
}

impl Host {
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

    /// A read ended: nobody is connected, and nothing is left to read.
    pub(super) fn end(&mut self, now_ms: u64) {
        self.hang_up(now_ms);
        if let Self::Away { drained, .. } = self {
            *drained = true;
        }
    }

    /// A read brought something. Gives whether it is from another connection than what came before.
    pub(super) fn hear(&mut self, now_ms: u64) -> bool {
        if let Self::Away { since_ms, drained } = self
            && *drained
        {
            // It is there, whatever the port says; its replies wait from now on.
            *since_ms = now_ms;
            *drained = false;
            return true;
        }
        false
    }

    /// The port says that somebody is connected. Gives whether what waits is for another.
    pub(super) fn arrive(&mut self, now_ms: u64) -> bool {
        let stale = self.is_stale(now_ms);
        *self = Self::Here;
        stale
    }

    /// Whether the host has been away so long that the next one is taken for another.
    pub(super) fn is_stale(self, now_ms: u64) -> bool {
        match self {
            Self::Here => false,
            Self::Away { since_ms, .. } => now_ms.saturating_sub(since_ms) >= STALE_MS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_overtakes_the_news_of_its_host_keeps_its_reply() {
        let mut host = Host::Here;
        host.hang_up(10);
        host.end(10);
        // Minutes later: data first, then the port takes note.
        assert!(
            host.hear(100_000),
            "half a request of the host before is forgotten"
        );
        assert!(!host.is_stale(100_300), "the reply may be written");
        assert!(!host.arrive(100_300), "and is not dropped");
        assert_eq!(host, Host::Here);
    }

    #[test]
    fn replies_to_a_host_that_left_are_dropped_when_the_next_arrives() {
        let mut host = Host::Here;
        host.hang_up(10);
        assert!(!host.hear(11), "what it sent before it left is its own");
        assert!(host.is_stale(2_000), "nothing is written to whoever comes");
        assert!(host.arrive(2_000));
    }

    #[test]
    fn a_host_that_is_back_at_once_loses_nothing() {
        let mut host = Host::Here;
        host.end(10);
        assert!(host.hear(500), "but for half a request");
        assert!(!host.arrive(501));
        host.end(600);
        assert!(!host.arrive(900));
    }
}
