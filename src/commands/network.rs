//! guest-network-get-interfaces.
//!
//! Names, members and texts are qemu-ga's; a link without a hardware address has zeros for one, as
//! SIOCGIFHWADDR says; statistics come with addresses only.
//!
//! Differences from qemu-ga: real devices come first and the loopback last, link-local addresses
//! after all others (`probe::network`); an address with a label of its own, such as `eth0:1`, is
//! listed with its interface rather than as an interface that does not exist, so none hides another;
//! a link that changes its name or goes away meanwhile does not fail the command.

use serde::Serialize;

use crate::base::limits::{ADDRESS_DUMP_BYTES, LINK_DUMP_ATTEMPTS, LINK_DUMP_BYTES};
use crate::parse::inet;
use crate::parse::netlink::{Address, Link};
use crate::probe::network::{Addresses, Links};
use crate::state::State;
use crate::sys::netlink::Route;
use crate::sys::root::Root;
use crate::sys::{Errno, number};
use crate::wire::args::Args;
use crate::wire::emit::{Object, Text, Value};
use crate::wire::reply::{Failed, Reply};

/// Counters by the names of the protocol.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Statistics {
    rx_bytes: u64,
    rx_packets: u64,
    rx_errs: u64,
    rx_dropped: u64,
    tx_bytes: u64,
    tx_packets: u64,
    tx_errs: u64,
    tx_dropped: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct IpAddress<'a> {
    ip_address_type: &'static str,
    ip_address: Text<'a>,
    prefix: u8,
}

/// Lists interfaces with their addresses and counters.
pub(super) fn get_interfaces(
    state: &mut State,
    _: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    list(&state.root, reply).map_err(|errno| {
        let error = reply.fail().text("getifaddrs failed");
        error.errno(number(errno)).end()
    })
}

fn list(root: &Root, reply: &mut Reply<'_>) -> Result<(), Errno> {
    let mut links = [0; LINK_DUMP_BYTES];
    let mut addresses = [0; ADDRESS_DUMP_BYTES];
    let mut links = Links::new(Route::open()?, root, &mut links);
    let mut addresses = Addresses::new(Route::open()?, &mut addresses);
    for _ in 0..LINK_DUMP_ATTEMPTS {
        links.begin()?;
        addresses.begin();
        let mut list = reply.value().list();
        while links.advance()? {
            if let Some(link) = &links.link() {
                interface(list.item(), link, &mut addresses)?;
            }
        }
        list.end();
        if !links.changed() && !addresses.changed() {
            break;
        }
    }
    Ok(())
}

// Out of line, as is the next: code beside buffers this large takes longer instructions.
#[inline(never)]
fn interface(
    value: Value<'_>,
    link: &Link<'_>,
    addresses: &mut Addresses<'_>,
) -> Result<(), Errno> {
    let mut interface = value.object();
    interface.member("name").text(link.name);
    let hardware = inet::hardware(link.address);
    interface
        .member("hardware-address")
        .text(hardware.as_bytes());
    addresses.begin_link(link.index)?;
    if addresses.advance()? {
        let mut list = interface.member("ip-addresses").list();
        loop {
            if let Some(address) = &addresses.address() {
                put_address(list.item(), address);
            }
            if !addresses.advance()? {
                break;
            }
        }
        list.end();
        put_statistics(&mut interface, link);
    }
    interface.end();
    Ok(())
}

#[inline(never)]
fn put_address(value: Value<'_>, address: &Address<'_>) {
    let text = address.own().and_then(inet::address).unwrap_or_default();
    let text = text.as_bytes();
    value.put(&IpAddress {
        ip_address_type: if text.contains(&b':') { "ipv6" } else { "ipv4" },
        ip_address: Text(text),
        prefix: address.prefix,
    });
}

fn put_statistics(interface: &mut Object<'_>, link: &Link<'_>) {
    let Some(counted) = &link.statistics else {
        return;
    };
    interface.member("statistics").put(&Statistics {
        rx_bytes: counted.rx_bytes,
        rx_packets: counted.rx_packets,
        rx_errs: counted.rx_errors,
        rx_dropped: counted.rx_dropped,
        tx_bytes: counted.tx_bytes,
        tx_packets: counted.tx_packets,
        tx_errs: counted.tx_errors,
        tx_dropped: counted.tx_dropped,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs;

    fn root(path: &std::path::Path) -> Root {
        Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap()
    }

    fn names(root: &Root) -> Vec<String> {
        let mut out = heapless::Vec::<u8, 262_144>::new();
        let mut reply = Reply::new(&mut out, None);
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
        let mut reply = Reply::new(&mut out, None);
        let address = Address {
            family,
            prefix,
            scope: 0,
            flags: 0,
            index: 2,
            local: Some(own),
            address: Some(peer),
            label: b"eth0:1",
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
