//! guest-network-get-interfaces.
//!
//! Names, members and texts are qemu-ga's; a link without a hardware address has zeros for one, as
//! SIOCGIFHWADDR says; statistics come with addresses only.
//!
//! Differences from qemu-ga: real devices come first and the loopback last, link-local addresses
//! after all others (`probe::network`); an address with a label of its own, such as `eth0:1`, is
//! listed with its interface rather than as an interface that does not exist, so none hides another;
//! a link that changes its name or goes away meanwhile does not fail the command.

use super::cannot;
use crate::base::limits::{ADDRESS_DUMP_BYTES, LINK_DUMP_ATTEMPTS, LINK_DUMP_BYTES};
use crate::base::texts::{Name, Phrase};
use crate::parse::inet::{self, Text, put_hardware};
use crate::parse::netlink::Message;
use crate::probe::network::{Dump, addresses, links};
use crate::state::State;
use crate::sys::Errno;
use crate::sys::root::Root;
use crate::wire::args::Args;
use crate::wire::emit::Value;
use crate::wire::reply::{Failed, Reply};

/// Lists interfaces with their addresses and counters.
pub(super) fn get_interfaces(
    state: &mut State,
    _: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    list(&state.root, reply).map_err(|errno| cannot(reply, Phrase::CannotListInterfaces, errno))
}

fn list(root: &Root, reply: &mut Reply<'_>) -> Result<(), Errno> {
    let mut for_links = [0; LINK_DUMP_BYTES];
    let mut for_addresses = [0; ADDRESS_DUMP_BYTES];
    let mut link_dump = Dump::new(&mut for_links)?;
    let mut address_dump = Dump::new(&mut for_addresses)?;
    for _ in 0..LINK_DUMP_ATTEMPTS {
        link_dump.changed = false;
        address_dump.changed = false;
        let mut list = reply.list();
        links(&mut link_dump, root, &mut |link| {
            interface(list.item(), link, &mut address_dump)
        })?;
        list.end();
        if !link_dump.changed && !address_dump.changed {
            break;
        }
    }
    Ok(())
}

fn interface(value: Value<'_, '_>, link: &Message<'_>, dump: &mut Dump<'_>) -> Result<(), Errno> {
    let mut interface = value.object();
    interface.text(Name::Name, link.name());
    let mut hardware = Text::default();
    put_hardware(link.hardware(), &mut hardware);
    interface.text(Name::HardwareAddress, hardware.as_bytes());
    let mut is_first = true;
    addresses(dump, link.index(), &mut |address| {
        put_address(interface.item(Name::IpAddresses, is_first), address);
        is_first = false;
        Ok(())
    })?;
    if !is_first {
        interface.end_items();
        let mut counters = [0; 8];
        if link.statistics(&mut counters).is_some() {
            const NAMES: Name = Name::Counters;
            let mut statistics = interface.object(Name::Statistics);
            statistics.numbers(NAMES, &counters);
            statistics.end();
        }
    }
    interface.end();
    Ok(())
}

fn put_address(value: Value<'_, '_>, address: &Message<'_>) {
    let own = address.own_address().unwrap_or_default();
    let mut text = Text::default();
    inet::put_address(own, &mut text);
    let kind: &[u8] = if own.len() > 4 { b"ipv6" } else { b"ipv4" };
    let mut object = value.object();
    object.text(Name::IpAddressType, kind);
    object.text(Name::IpAddress, text.as_bytes());
    let [_, prefix] = address.family_and_prefix();
    object.uint(Name::Prefix, prefix.into());
    object.end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::netlink::RTM_NEWADDR;
    use std::ffi::CString;
    use std::fs;

    fn root(path: &std::path::Path) -> Root {
        Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap()
    }

    fn names(root: &Root) -> Vec<String> {
        let mut out = heapless::Vec::<u8, 262_144>::new();
        let mut reply = Reply::new(&mut out);
        list(root, &mut reply).unwrap();
        reply.finish(Ok(()));
        let text = String::from_utf8(out.to_vec()).unwrap();
        let mut parts = text.split("{\"name\": \"");
        assert_eq!(parts.next(), Some("{\"return\": ["));
        parts
            .map(|part| {
                assert!(part.contains("\", \"hardware-address\": \""));
                assert_eq!(
                    part.contains("\"ip-addresses\": [{\"ip-address-type\": \"ipv"),
                    part.contains("}], \"statistics\": {\"rx-bytes\": ")
                );
                part.split('"').next().unwrap().to_owned()
            })
            .collect()
    }

    #[test]
    fn every_interface_of_this_machine_is_there_once_and_devices_are_first() {
        let path = std::env::temp_dir().join(format!("gaunt-network-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let root = root(&path);
        let plain = names(&root);
        let mut sorted = plain.clone();
        sorted.sort();
        let table = fs::read_to_string("/proc/net/dev").unwrap();
        let lines = table.lines().skip(2);
        let mut expected: Vec<_> = lines
            .map(|line| line.split(':').next().unwrap().trim().to_owned())
            .collect();
        expected.sort();
        assert_eq!(sorted, expected);
        let software: Vec<_> = plain.iter().filter(|name| *name != "lo").collect();
        if let Some(last) = software.last() {
            fs::create_dir_all(path.join(format!("sys/class/net/{last}/device"))).unwrap();
            fs::create_dir_all(path.join("sys/class/net/lo/device")).unwrap();
            let names = names(&root);
            assert_eq!(names.first(), Some(*last));
            assert_eq!(names.last(), plain.last());
            assert_eq!(names.len(), plain.len());
        }
        fs::remove_dir_all(path).unwrap();
    }

    fn address_text(family: u8, own: &[u8], peer: &[u8], prefix: u8) -> String {
        let mut out = heapless::Vec::<u8, 256>::new();
        let mut reply = Reply::new(&mut out);
        let attribute = |kind: u16, value: &[u8]| {
            let len = u16::try_from(value.len() + 4).unwrap().to_ne_bytes();
            [&len, &kind.to_ne_bytes(), value].concat()
        };
        let body = [
            vec![family, prefix, 0, 0, 2, 0, 0, 0],
            attribute(1, peer),
            attribute(2, own),
            attribute(3, b"eth0:1"),
        ];
        let address = Message {
            kind: RTM_NEWADDR,
            flags: 0,
            sequence: 0,
            body: &body.concat(),
        };
        put_address(reply.value(), &address);
        reply.finish(Ok(()));
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn an_address_is_the_interface_s_own_and_has_no_zone() {
        assert_eq!(
            address_text(2, &[10, 0, 0, 1], &[10, 0, 0, 2], 30),
            "{\"return\": {\"ip-address-type\": \"ipv4\", \"ip-address\": \"10.0.0.1\", \
             \"prefix\": 30}}\n"
        );
        let mut own = [0; 16];
        (own[0], own[1], own[15]) = (0xFE, 0x80, 1);
        assert_eq!(
            address_text(10, &own, &own, 64),
            "{\"return\": {\"ip-address-type\": \"ipv6\", \"ip-address\": \"fe80::1\", \
             \"prefix\": 64}}\n"
        );
    }
}
