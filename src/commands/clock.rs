//! guest-get-time, guest-set-time, guest-get-timezone.
//!
//! With `time`, sets the system clock to the nanosecond, then the hardware clock (UTC) to the
//! nearest second. Without it, sets the system clock from the hardware clock. That one has whole
//! seconds: half a second is added, as the kernel does at boot.
//!
//! Differences from qemu-ga: the time has nanoseconds, not microseconds; no program is needed, and
//! no second waited for. Without a hardware clock or its node in /dev, a given time is still set.
//! The years that can be set are those of UTC; others are an `Invalid time`, to which qemu-ga
//! appends the text of a stale errno.
//!
//! TZ is read as by the C library (`probe::time_zone`). A bare offset such as `+05:30`, which GLib
//! also accepts, is no name of a zone and means UTC.

use super::command::{Slow, Ticket};
use super::common::{cannot, outcome};
use crate::base::limits::TIME_ZONE_BYTES;
use crate::probe::{rtc, time_zone};
use crate::state::State;
use crate::state::guest::Guest;
use crate::sys::Errno;
use crate::sys::clock::{self, NS_PER_S};
use crate::sys::root::Root;
use crate::wire::args::{Args, Param, Type, index_of, may};
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::{Name, Phrase};

pub(super) const TIME: &[Param] = &[may("time", Type::Int)];

/// The guest's time, in nanoseconds.
pub(super) fn get_time(_: &mut State, _: &Args<'_>, reply: &mut Reply<'_>) -> Result<(), Failed> {
    reply.value().int(clock::realtime_ns());
    Ok(())
}

/// Sets the system clock, which never waits, and the hardware clock, which may.
pub(super) const SET_TIME: Slow = Slow {
    prepare: set_clock,
    run: keep_in_step,
    finish: |_, _, _| {},
};

/// The first second that is refused: the beginning of 2070.
const END_S: i64 = 3_155_760_000;

fn set_clock(_: &mut State, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<Ticket, Failed> {
    let Some(unix_ns) = args.int(const { index_of(TIME, "time") }) else {
        return Ok(Ticket::default());
    };
    // qemu-ga counts seconds, so that the last one before 1970 is refused by the kernel.
    if !(1 - NS_PER_S..END_S * NS_PER_S).contains(&unix_ns) {
        return Err(reply.fail(Phrase::InvalidTime));
    }
    match clock::set_realtime_ns(unix_ns) {
        Ok(()) => Ok(Ticket::default()),
        Err(errno) => Err(cannot(reply, Phrase::CannotSetClock, errno)),
    }
}

fn keep_in_step(
    guest: &Guest,
    _: Ticket,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<u8, Failed> {
    let root = &guest.root;
    let done = if args.int(const { index_of(TIME, "time") }).is_some() {
        match rtc::set(root, clock::realtime_ns()) {
            // No hardware clock.
            Err(Errno::NOENT | Errno::NODEV | Errno::NXIO) => Ok(()),
            done => done,
        }
    } else {
        rtc::read_ns(root).and_then(clock::set_realtime_ns)
    };
    outcome(reply, Phrase::CannotSetRtc, done)
}

/// The time zone as it is now. Reads files that may be on a disk that does not answer.
pub(super) fn get_timezone(
    guest: &Guest,
    _: Ticket,
    _: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<u8, Failed> {
    let unix_seconds = clock::realtime_s();
    put_zone(reply, &guest.root, guest.time_zone, unix_seconds);
    Ok(0)
}

fn put_zone(reply: &mut Reply<'_>, root: &Root, told: Option<&[u8]>, unix_seconds: i64) {
    let mut buffer = [0; TIME_ZONE_BYTES];
    let (offset_seconds, name) = time_zone::at(root, told, unix_seconds, &mut buffer);
    let mut object = reply.object();
    object.text(Name::Zone, name);
    object.int(Name::Offset, offset_seconds);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    #[test]
    fn a_zone_has_a_name_and_an_offset() {
        let tree = Tree::new();
        let replied = |told: &[u8]| {
            let mut out = heapless::Vec::<u8, 256>::new();
            let mut reply = Reply::new(&mut out);
            put_zone(&mut reply, &tree.root, Some(told), 1_721_000_000);
            reply.finish(Ok(()));
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!(
            replied(b"EST5EDT,M3.2.0,M11.1.0"),
            "{\"return\": {\"zone\": \"EDT\", \"offset\": -14400}}\n"
        );
        assert_eq!(
            replied(b"No/Where"),
            "{\"return\": {\"zone\": \"UTC\", \"offset\": 0}}\n"
        );
    }
}
