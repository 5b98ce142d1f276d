//! guest-network-get-interfaces.
//!
//! Names, members and texts are qemu-ga's; a link without a hardware address has zeros for one, as
//! SIOCGIFHWADDR says; statistics come with addresses only.
//!
//! Differences from qemu-ga: real devices come first and the loopback last, link-local addresses
//! after all others (`probe::network`); an address with a label of its own, such as `eth0:1`, is
//! listed with its interface rather than as an interface that does not exist, so none hides another;
//! a link that changes its name or goes away meanwhile does not fail the command.
//!
//! The kernel makes readers wait while it changes a link, and a driver may take long over that: so a
//! worker asks.

use super::command::Ticket;
use super::common::cannot;
use crate::base::limits::DUMP_ATTEMPTS;
use crate::parse::inet::{self, AddressText, put_hardware_address};
use crate::parse::netlink::Message;
use crate::probe::network::Network;
use crate::state::guest::Guest;
use crate::sys::Errno;
use crate::sys::root::Root;
use crate::wire::args::Args;
use crate::wire::emit::Value;
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::{Name, Phrase};

/// Lists interfaces with their addresses and counters.
pub(super) fn get_interfaces(
    guest: &Guest,
    _: Ticket,
    _: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<u8, Failed> {
    match list(&guest.root, reply) {
        Ok(()) => Ok(0),
        Err(errno) => Err(cannot(reply, Phrase::CannotListInterfaces, errno)),
    }
}

fn list(root: &Root, reply: &mut Reply<'_>) -> Result<(), Errno> {
    let mut network = Network::default();
    for _ in 0..DUMP_ATTEMPTS {
        if !network.read(root)? {
            break;
        }
    }
    let mut list = reply.list();
    for interface in network.interfaces() {
        put_interface(list.item(), &interface, &network);
    }
    Ok(())
}

fn put_interface(value: Value<'_, '_>, interface: &Message<'_>, network: &Network) {
    let mut object = value.object();
    object.text(Name::Name, interface.name());
    let mut hardware = AddressText::default();
    put_hardware_address(interface.hardware_address(), &mut hardware);
    object.text(Name::HardwareAddress, hardware.as_bytes());
    if network.addresses(interface).next().is_none() {
        return;
    }
    let mut list = object.list(Name::IpAddresses);
    for address in network.addresses(interface) {
        let [_, prefix] = address.family_and_prefix();
        let own = address.own_address().unwrap_or_default();
        put_address(list.item(), own, prefix);
    }
    drop(list);
    if let Some(counters) = interface.statistics() {
        let mut statistics = object.object(Name::Statistics);
        statistics.numbers(Name::Counters, &counters);
    }
}

fn put_address(value: Value<'_, '_>, own: &[u8], prefix: u8) {
    let mut text = AddressText::default();
    inet::put_address(own, &mut text);
    let is_long = own.len() > 4;
    let kind: &[u8] = if is_long { b"ipv6" } else { b"ipv4" };
    let mut object = value.object();
    object.text(Name::IpAddressType, kind);
    object.text(Name::IpAddress, text.as_bytes());
    object.uint(Name::Prefix, prefix.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;
    use std::fs;

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
        let tree = Tree::new();
        let plain = names(&tree.root);
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
            tree.directory(format!("sys/class/net/{last}/device"));
            tree.directory("sys/class/net/lo/device");
            let names = names(&tree.root);
            assert_eq!(names.first(), Some(*last));
            assert_eq!(names.last(), plain.last());
            assert_eq!(names.len(), plain.len());
        }
    }

    fn address_text(own: &[u8], prefix: u8) -> String {
        let mut out = heapless::Vec::<u8, 256>::new();
        let mut reply = Reply::new(&mut out);
        put_address(reply.value(), own, prefix);
        reply.finish(Ok(()));
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn an_address_has_its_type_and_no_zone() {
        assert_eq!(
            address_text(&[10, 0, 0, 1], 30),
            "{\"return\": {\"ip-address-type\": \"ipv4\", \"ip-address\": \"10.0.0.1\", \
             \"prefix\": 30}}\n"
        );
        let mut own = [0; 16];
        (own[0], own[1], own[15]) = (0xFE, 0x80, 1);
        assert_eq!(
            address_text(&own, 64),
            "{\"return\": {\"ip-address-type\": \"ipv6\", \"ip-address\": \"fe80::1\", \
             \"prefix\": 64}}\n"
        );
    }
}
