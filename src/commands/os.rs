//! guest-get-osinfo, guest-get-host-name, guest-get-load: what the kernel and the distribution say
//! about themselves.
//!
//! Differences from qemu-ga: os-release is read as the shell would, and a line that makes no
//! sense hides nothing (`parse::os_release`). Load averages are exact: the kernel counts them in
//! 65536ths, whose sixteen decimal places are all written, where qemu-ga stops after seventeen
//! digits. Asking the kernel for its names cannot fail, so the errors for that do not occur.

use super::command::Ticket;
use crate::base::limits::OS_RELEASE_BYTES;
use crate::base::text::cut;
use crate::parse::os_release;
use crate::probe::os;
use crate::state::State;
use crate::state::guest::Guest;
use crate::sys::root::Root;
use crate::sys::system::{self, SystemNames};
use crate::wire::args::Args;
use crate::wire::emit::Object;
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::Name;

/// Members that come from os-release. Its keys are in capitals, with `_` for `-`.
const MEMBERS: &[u8] = b"id name pretty-name version version-id variant variant-id";

/// Decimal places of 1/65536, and ten to their power divided by 65536.
const LOAD_PLACES: usize = 16;
const LOAD_UNIT: u64 = 5u64.pow(16);

/// The name of the host.
pub(super) fn get_host_name(
    _: &mut State,
    _: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    let mut object = reply.object();
    object.text(Name::HostName, SystemNames::now().host());
    Ok(())
}

/// The kernel and the distribution, whose file may be on a disk that does not answer.
pub(super) fn get_osinfo(
    guest: &Guest,
    _: Ticket,
    _: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<u8, Failed> {
    let mut object = reply.object();
    let names = SystemNames::now();
    object.text(Name::KernelRelease, names.release());
    object.text(Name::KernelVersion, names.version());
    object.text(Name::Machine, names.machine());
    put_release(&mut object, &guest.root, guest.os_release);
    Ok(0)
}

fn put_release(object: &mut Object<'_, '_>, root: &Root, told: Option<&[u8]>) {
    let mut buffer = [0; OS_RELEASE_BYTES];
    let file = os::release(root, told, &mut buffer);
    let mut members = MEMBERS;
    while !members.is_empty() {
        let member = cut(&mut members, b' ');
        let mut key = [0; 16];
        for (slot, byte) in key.iter_mut().zip(member) {
            *slot = if *byte == b'-' { b'_' } else { byte & !0x20 };
        }
        let key = key.get(..member.len()).unwrap_or_default();
        if let Some(value) = os_release::value(file, key) {
            object.member_named(member).text_iter(value.bytes());
        }
    }
}

/// The load averages.
pub(super) fn get_load(_: &mut State, _: &Args<'_>, reply: &mut Reply<'_>) -> Result<(), Failed> {
    put_loads(reply, &system::loads());
    Ok(())
}

fn put_loads(reply: &mut Reply<'_>, loads: &[u64; 3]) {
    let mut object = reply.object();
    let mut members = &b"load1m load5m load15m"[..];
    for load in loads {
        let member = cut(&mut members, b' ');
        let units = (load >> 16).cast_signed();
        let fraction = (load & 0xFFFF) * LOAD_UNIT;
        object
            .member_named(member)
            .decimal(units, fraction, LOAD_PLACES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    fn reply(write: impl FnOnce(&mut Reply<'_>)) -> String {
        let mut out = heapless::Vec::<u8, 4096>::new();
        let mut reply = Reply::new(&mut out);
        write(&mut reply);
        reply.finish(Ok(()));
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn loads_are_exact() {
        assert_eq!(
            reply(|reply| put_loads(reply, &[33_568, 0, 1])),
            "{\"return\": {\"load1m\": 0.51220703125, \"load5m\": 0, \
             \"load15m\": 0.0000152587890625}}\n"
        );
        assert_eq!(
            reply(|reply| put_loads(reply, &[(12 << 16) + 65_535, 3 << 15, 7 << 16])),
            "{\"return\": {\"load1m\": 12.9999847412109375, \"load5m\": 1.5, \
             \"load15m\": 7}}\n"
        );
    }

    #[test]
    fn the_distribution_says_what_it_says_and_no_more() {
        let tree = Tree::new();
        tree.directory("etc");
        let replied = |told: Option<&[u8]>| {
            reply(|reply| {
                let mut object = reply.object();
                put_release(&mut object, &tree.root, told);
            })
        };
        assert_eq!(replied(None), "{\"return\": {}}\n");
        tree.file(
            "etc/os-release",
            "NAME='Made \\ Up'\nID=made\nVERSION_ID=\"4.2\"\nVARIANT=\nVERSION=\"\"\n\
             PRETTY_NAME=\"Made \\\"Up\\\" Ü\"\nVARIANT_ID=none\nHOME_URL=x\n",
        );
        assert_eq!(
            replied(None),
            "{\"return\": {\"id\": \"made\", \"name\": \"Made \\\\ Up\", \
             \"pretty-name\": \"Made \\\"Up\\\" \\u00DC\", \"version\": \"\", \
             \"version-id\": \"4.2\", \"variant\": \"\", \"variant-id\": \"none\"}}\n"
        );
        assert_eq!(replied(Some(b"/etc/nothing")), "{\"return\": {}}\n");
    }

    #[test]
    fn every_member_s_key_fits() {
        let mut members = MEMBERS.split(|byte| *byte == b' ');
        assert!(members.all(|member| member.len() <= 16));
    }
}
