//! guest-get-time, guest-get-timezone.
//!
//! Difference from qemu-ga: TZ means what it means to the C library (`probe::time_zone`); bare
//! offsets such as `+05:30`, which GLib takes besides, are no names of a zone and thus UTC.

use crate::base::limits::TIME_ZONE_BYTES;
use crate::probe::time_zone;
use crate::state::State;
use crate::sys::clock;
use crate::sys::root::Root;
use crate::wire::args::Args;
use crate::wire::reply::{Failed, Reply};

const NS_PER_S: i64 = 1_000_000_000;

/// The guest's time, in nanoseconds.
pub(super) fn get_time(_: &mut State, _: &Args<'_>, reply: &mut Reply<'_>) -> Result<(), Failed> {
    reply.value().int(clock::realtime_ns());
    Ok(())
}

/// The time zone as it is now.
pub(super) fn get_timezone(
    state: &mut State,
    _: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    let unix_seconds = clock::realtime_ns().div_euclid(NS_PER_S);
    put_zone(reply, &state.root, state.time_zone, unix_seconds);
    Ok(())
}

fn put_zone(reply: &mut Reply<'_>, root: &Root, told: Option<&[u8]>, unix_seconds: i64) {
    let mut buffer = [0; TIME_ZONE_BYTES];
    let (offset_seconds, name) = time_zone::at(root, told, unix_seconds, &mut buffer);
    let mut object = reply.value().object();
    object.member("zone").text(name);
    object.member("offset").int(offset_seconds.into());
    object.end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    #[test]
    fn a_zone_has_a_name_and_an_offset() {
        let path = CString::new(std::env::temp_dir().to_str().unwrap()).unwrap();
        let root = Root::open(&path).unwrap();
        let replied = |told: &[u8]| {
            let mut out = heapless::Vec::<u8, 256>::new();
            let mut reply = Reply::new(&mut out, None);
            put_zone(&mut reply, &root, Some(told), 1_721_000_000);
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
