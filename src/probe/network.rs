//! Network interfaces and their addresses, from rtnetlink(7), in the order that serves clients best:
//! many take the first interface with an address, or the first ten interfaces, for the whole truth.
//!
//! Interfaces: those that are a device (have one in /sys/class/net), then those made of software,
//! then the loopback; by number among their like. Addresses of an interface: IPv4, then IPv6, then
//! link-local ones. An address belongs to the interface with its number, whatever its label.
//!
//! The kernel is asked once for all interfaces and once for all addresses, in whatever order it has
//! them. What is reported of each becomes a record in borrowed memory, and an index of the records is
//! sorted.
//!
//! A list that changes while the kernel goes through it may lack something; [`Network::read`] tells,
//! and it is up to the caller to begin again.

use crate::base::index;
use crate::base::limits::{DUMP_BYTES, NETWORK_BYTES};
use crate::base::store::Store;
use crate::base::text::cut;
use crate::parse::netlink::{Message, RTM_NEWADDR, RTM_NEWLINK, dump};
use crate::sys::Errno;
use crate::sys::mem::Buffer;
use crate::sys::netlink::Route;
use crate::sys::root::Root;

/// `IFF_LOOPBACK`, linux/if.h.
const IFF_LOOPBACK: u32 = 8;
/// `AF_INET`, linux/socket.h.
const AF_INET: u8 = 2;
/// `AF_INET6`, linux/socket.h.
const AF_INET6: u8 = 10;
/// `IFNAMSIZ`, linux/if.h: the room for a name and a NUL.
const IFNAMSIZ: usize = 16;

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface<'a> {
    /// Its number.
    index: u32,
    /// Its name.
    pub name: &'a [u8],
    /// The first six bytes of its hardware address, zeros for those it does not have.
    pub hardware: &'a [u8; 6],
    /// Its counters, as [`Message::statistics`] has them.
    pub counters: Option<[u64; 8]>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// The address: 4 bytes of IPv4, or 16 of IPv6.
    pub own: &'a [u8],
    /// The bits of its network part.
    pub prefix: u8,
}

/// The interfaces and addresses of a moment.
pub struct Network {
    /// Records of interfaces, then of addresses, then an index of either.
    bytes: Buffer,
    /// Where the records of addresses begin, and where they end.
    interfaces: usize,
    records: usize,
}

/// How a record begins, by which it is sorted: group and number of an interface; of an address, the
/// number of its interface, and whether it is link-local.
type Key = [u8; 5];

/// What the record of an interface has behind its key: name, hardware address, whether there are
/// counters, and these.
const INTERFACE_BYTES: usize = size_of::<Key>() + IFNAMSIZ + 6 + 1 + 8 * 8;
/// What the record of an address has behind its key: prefix, length, address.
const ADDRESS_BYTES: usize = size_of::<Key>() + 1 + 1 + 16;

impl Default for Network {
    fn default() -> Self {
        Self {
            bytes: Buffer::growing(NETWORK_BYTES),
            interfaces: 0,
            records: 0,
        }
    }
}

impl Network {
    /// Reads all interfaces and addresses; devices are looked for below `root`. Gives whether anything
    /// changed meanwhile.
    ///
    /// # Errors
    /// What the kernel said instead of an answer; [`Errno::FBIG`] if there are more than
    /// [`NETWORK_BYTES`] have room for.
    pub fn read(&mut self, root: &Root) -> Result<bool, Errno> {
        let bytes = &mut self.bytes;
        bytes.truncate(0);
        let mut answers = Answers {
            route: Route::open()?,
            sequence: 0,
            changed: false,
        };
        answers.ask(RTM_NEWLINK, &mut |link| put_interface(root, link, bytes))?;
        self.interfaces = bytes.len();
        answers.ask(RTM_NEWADDR, &mut |address| put_address(address, bytes))?;
        self.records = bytes.len();
        let interfaces = (0..self.interfaces).step_by(INTERFACE_BYTES);
        let addresses = (self.interfaces..self.records).step_by(ADDRESS_BYTES);
        for offset in interfaces.chain(addresses) {
            let _ = index::push(bytes, offset);
        }
        bytes.whole()?;
        let (records, indexes) = bytes.bytes_mut().split_at_mut(self.records);
        let of_interfaces = index::bytes_for(self.interfaces / INTERFACE_BYTES);
        let (of_interfaces, of_addresses) = indexes.split_at_mut(of_interfaces);
        for index in [of_interfaces, of_addresses] {
            // Addresses of the same kind stay in the order of the kernel.
            index::sort(index, &mut |one, other| {
                let keys = key(records, one).cmp(&key(records, other));
                keys.then(one.cmp(&other))
            });
        }
        Ok(answers.changed)
    }

    /// The records, the index of interfaces, and that of addresses.
    fn parts(&self) -> [&[u8]; 3] {
        let (records, indexes) = self.bytes.bytes().split_at(self.records);
        let of_interfaces = index::bytes_for(self.interfaces / INTERFACE_BYTES);
        let (of_interfaces, of_addresses) = indexes.split_at(of_interfaces);
        [records, of_interfaces, of_addresses]
    }

    /// All interfaces, in order.
    pub fn interfaces(&self) -> impl Iterator<Item = Interface<'_>> {
        let [records, index, _] = self.parts();
        index::offsets(index).filter_map(|offset| interface_at(records, offset))
    }

    /// The addresses of an interface, in order.
    pub fn addresses(&self, interface: &Interface<'_>) -> impl Iterator<Item = Address<'_>> {
        let number = interface.index.to_be_bytes();
        let [records, _, index] = self.parts();
        let own = index::alike(index, &mut |offset| key(records, offset)[..4].cmp(&number));
        index::offsets(own).filter_map(|offset| address_at(records, offset))
    }
}

fn key(records: &[u8], offset: usize) -> Key {
    let key = records
        .get(offset..)
        .and_then(|record| record.first_chunk());
    key.copied().unwrap_or_default()
}

fn put_interface(root: &Root, link: &Message<'_>, records: &mut Buffer) {
    let group = if link.link_flags() & IFF_LOOPBACK != 0 {
        2
    } else {
        let device = root.has_at(&[b"sys/class/net/", link.name(), b"/device"]);
        u8::from(device != Ok(true))
    };
    let mut name = [0; IFNAMSIZ];
    let mut hardware = [0; 6];
    for (room, bytes) in [
        (&mut name[..], link.name()),
        (&mut hardware, link.hardware()),
    ] {
        room.iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
    }
    let mut counters = [0; 8];
    let counted = link.statistics(&mut counters).is_some();
    for piece in [
        &[group][..],
        &link.index().to_be_bytes(),
        &name,
        &hardware,
        &[u8::from(counted)],
        counters.map(u64::to_ne_bytes).as_flattened(),
    ] {
        let _ = records.append(piece);
    }
}

fn interface_at(records: &[u8], offset: usize) -> Option<Interface<'_>> {
    let ([_, index @ ..], rest) = records.get(offset..)?.split_first_chunk::<5>()?;
    let (mut name, rest) = rest.split_at_checked(IFNAMSIZ)?;
    let (hardware, rest) = rest.split_first_chunk()?;
    let ([counted], rest) = rest.split_first_chunk()?;
    let (counters, _) = rest.as_chunks().0.split_first_chunk::<8>()?;
    Some(Interface {
        index: u32::from_be_bytes(*index),
        name: cut(&mut name, 0),
        hardware,
        counters: (*counted != 0).then(|| counters.map(u64::from_ne_bytes)),
    })
}

fn put_address(address: &Message<'_>, records: &mut Buffer) {
    let own = address.own_address().unwrap_or_default();
    let [family, prefix] = address.family_and_prefix();
    let Some(is_link_local) = is_link_local(family, own) else {
        return;
    };
    let mut room = [0; 16];
    room[..own.len()].copy_from_slice(own);
    for piece in [
        &address.index().to_be_bytes()[..],
        &[u8::from(is_link_local), prefix, own.len() as u8],
        &room,
    ] {
        let _ = records.append(piece);
    }
}

fn address_at(records: &[u8], offset: usize) -> Option<Address<'_>> {
    let ([.., prefix, len], rest) = records.get(offset..)?.split_first_chunk::<7>()?;
    Some(Address {
        own: rest.get(..usize::from(*len))?,
        prefix: *prefix,
    })
}

/// Whether an address is of use on its own link only; `None` if it is no internet address.
fn is_link_local(family: u8, own: &[u8]) -> Option<bool> {
    match (family, own) {
        (AF_INET, [first, second, _, _]) => Some((*first, *second) == (169, 254)),
        (AF_INET6, [first, second, ..]) if own.len() == 16 => {
            Some(*first == 0xFE && *second & 0xC0 == 0x80)
        }
        _ => None,
    }
}

/// Questions to the kernel.
struct Answers {
    route: Route,
    /// The number of the question before.
    sequence: u32,
    /// Whether anything changed during an answer, so that something may be missing.
    changed: bool,
}

impl Answers {
    /// Asks for all messages of this kind.
    fn ask(&mut self, kind: u16, each: &mut dyn FnMut(&Message<'_>)) -> Result<(), Errno> {
        self.sequence += 1;
        let mut words = [[0; 4]; 8];
        let len = dump(&mut words, self.sequence, kind);
        self.route.ask(&words.as_flattened()[..len])?;
        let mut part = [0; DUMP_BYTES];
        loop {
            let mut rest = self.route.receive(&mut part)?;
            while let Some(message) = Message::take(&mut rest) {
                if message.sequence != self.sequence {
                    continue;
                }
                self.changed |= message.is_interrupted();
                match message.end() {
                    Some(0) => return Ok(()),
                    Some(errno) => return Err(Errno::from_raw_os_error(errno)),
                    None if message.kind == kind => each(&message),
                    None => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_are_told_by_their_first_bits() {
        let v6 = |first, second| {
            let mut bytes = [1; 16];
            (bytes[0], bytes[1]) = (first, second);
            is_link_local(AF_INET6, &bytes)
        };
        assert_eq!(is_link_local(AF_INET, &[169, 254, 0, 1]), Some(true));
        assert_eq!(is_link_local(AF_INET, &[169, 253, 0, 1]), Some(false));
        assert_eq!(v6(0xFE, 0x80), Some(true));
        assert_eq!(v6(0xFE, 0xBF), Some(true));
        assert_eq!(v6(0xFE, 0xC0), Some(false));
        assert_eq!(v6(0xFD, 0x80), Some(false));
        assert_eq!(is_link_local(AF_INET, &[169, 254, 0]), None);
        assert_eq!(is_link_local(AF_INET6, &[0xFE, 0x80]), None);
        assert_eq!(is_link_local(35, &[1]), None);
    }

    #[test]
    fn the_loopback_has_its_addresses_and_nothing_else_has_them() {
        let root = Root::open(c"/").unwrap();
        let mut network = Network::default();
        let mut lists = Vec::new();
        // A second time it is the same.
        for _ in 0..2 {
            network.read(&root).unwrap();
            for interface in network.interfaces() {
                let mut was_link_local = false;
                for address in network.addresses(&interface) {
                    assert!(interface.name == b"lo" || address.own != [127, 0, 0, 1]);
                    let family = [AF_INET, AF_INET6][usize::from(address.own.len() == 16)];
                    let is_link_local = is_link_local(family, address.own).unwrap();
                    assert!(is_link_local || !was_link_local);
                    was_link_local = is_link_local;
                }
                lists.push(interface.name.to_vec());
            }
        }
        let (first, second) = lists.split_at(lists.len() / 2);
        assert!(!first.is_empty() && first == second);
        let last = network.interfaces().last().unwrap();
        assert_eq!((last.name, last.index), (&b"lo"[..], 1));
        let nowhere = Interface {
            index: u32::MAX,
            ..last
        };
        assert_eq!(network.addresses(&nowhere).next(), None);
    }
}
