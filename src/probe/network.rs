//! Network interfaces and their addresses, from rtnetlink(7).
//!
//! The order serves clients that look only at the first interface with an address, or at the first
//! ten interfaces. Interfaces with a device in /sys/class/net come first, then software interfaces,
//! then the loopback, each group by interface index. The addresses of an interface come in the
//! kernel's order, which has IPv4 before IPv6, link-local ones last. An address belongs to the
//! interface with its index, whatever its label.
//!
//! One request lists all interfaces, another all addresses. The messages are kept in borrowed
//! memory with a sorted index behind them.
//!
//! If interfaces or addresses change while the kernel lists them, some may be missing. Then
//! [`Network::read`] returns true, and the caller may read again.

use crate::base::index;
use crate::base::limits::{DUMP_BYTES, NETWORK_BYTES};
use crate::base::sink::ByteSink;
use crate::parse::netlink::{Message, RTM_NEWADDR, RTM_NEWLINK, dump_request};
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

/// The interfaces and addresses at one moment.
pub struct Network {
    /// The messages of the kernel, each behind one byte: its group ([`group_of`]). Then the index,
    /// sorted by [`key_at`]. Addresses of the same group keep the order of the kernel.
    bytes: Buffer,
    /// The offset of the index.
    index: usize,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            bytes: Buffer::growing(NETWORK_BYTES),
            index: 0,
        }
    }
}

impl Network {
    /// Reads all interfaces and addresses, and looks for devices below `root`. Returns whether
    /// anything changed meanwhile.
    ///
    /// # Errors
    /// The error of the kernel; [`Errno::FBIG`] if the messages do not fit into [`NETWORK_BYTES`].
    pub fn read(&mut self, root: &Root) -> Result<bool, Errno> {
        let Self { bytes, index } = self;
        bytes.truncate(0);
        let mut dumps = Dumps {
            route: Route::open()?,
            sequence: 0,
            changed: false,
        };
        for kind in [RTM_NEWLINK, RTM_NEWADDR] {
            dumps.request(kind, &mut |message| {
                if let Some(group) = group_of(root, message) {
                    let _ = bytes.append(&[group]);
                    message.put(bytes);
                }
            })?;
        }
        *index = index::append(bytes, &mut |rest| {
            *rest = rest.get(1..).unwrap_or_default();
            Message::take(rest).is_some()
        });
        bytes.whole()?;
        let (messages, index) = bytes.bytes_mut().split_at_mut(*index);
        index::sort(index, &mut |one, other| {
            let keys = key_at(messages, one).cmp(&key_at(messages, other));
            keys.then(one.cmp(&other))
        });
        Ok(dumps.changed)
    }

    /// All interfaces, in order.
    pub fn interfaces(&self) -> impl Iterator<Item = Message<'_>> {
        let (messages, index) = self.bytes.bytes().split_at(self.index);
        index::offsets(index)
            .filter_map(|offset| message_at(messages, offset))
            .take_while(|message| message.kind() == RTM_NEWLINK)
    }

    /// The addresses of an interface, in order.
    pub fn addresses(&self, interface: &Message<'_>) -> impl Iterator<Item = Message<'_>> {
        let (messages, index) = self.bytes.bytes().split_at(self.index);
        let own = index::equal_range(index, &mut |offset| {
            let [kind, number, _] = key_at(messages, offset);
            [kind, number].cmp(&[RTM_NEWADDR.into(), interface.interface_index()])
        });
        index::offsets(own).filter_map(|offset| message_at(messages, offset))
    }
}

fn message_at(messages: &[u8], offset: usize) -> Option<Message<'_>> {
    Message::take(&mut messages.get(offset + 1..)?)
}

/// The sort key of a message. Interfaces come first: by group, then interface index. Addresses
/// follow: by interface index, then group.
fn key_at(messages: &[u8], offset: usize) -> [u32; 3] {
    let group = messages.get(offset).copied().unwrap_or_default().into();
    message_at(messages, offset).map_or([0; 3], |message| match message.kind() {
        RTM_NEWADDR => [RTM_NEWADDR.into(), message.interface_index(), group],
        kind => [kind.into(), group, message.interface_index()],
    })
}

/// The group of a message. Interfaces: 0 with a device, 1 in software, 2 the loopback. Addresses:
/// 0, or 1 if link-local; `None` for addresses that are not IPv4 or IPv6.
fn group_of(root: &Root, message: &Message<'_>) -> Option<u8> {
    if message.kind() == RTM_NEWADDR {
        let [family, _] = message.family_and_prefix();
        return is_link_local(family, message.own_address()?).map(u8::from);
    }
    if message.link_flags() & IFF_LOOPBACK != 0 {
        return Some(2);
    }
    let device = root.has_at(&[b"sys/class/net/", message.name(), b"/device"]);
    Some(u8::from(device != Ok(true)))
}

/// Whether an address is link-local; `None` if it is not IPv4 or IPv6.
fn is_link_local(family: u8, own: &[u8]) -> Option<bool> {
    match (family, own) {
        (AF_INET, [first, second, _, _]) => Some((*first, *second) == (169, 254)),
        (AF_INET6, [first, second, ..]) if own.len() == 16 => {
            Some(*first == 0xFE && *second & 0xC0 == 0x80)
        }
        _ => None,
    }
}

/// A sequence of requests to the kernel.
struct Dumps {
    route: Route,
    /// The number of the latest request.
    sequence: u32,
    /// Whether a list changed while the kernel sent it, so that something may be missing.
    changed: bool,
}

impl Dumps {
    /// Requests all messages of one kind.
    fn request(&mut self, kind: u16, each: &mut dyn FnMut(&Message<'_>)) -> Result<(), Errno> {
        self.sequence += 1;
        let mut words = [[0; 4]; 8];
        let len = dump_request(&mut words, self.sequence, kind);
        self.route.ask(&words.as_flattened()[..len])?;
        let mut part = [0; DUMP_BYTES];
        loop {
            let mut rest = self.route.receive(&mut part)?;
            while let Some(message) = Message::take(&mut rest) {
                if message.sequence() != self.sequence {
                    continue;
                }
                self.changed |= message.is_interrupted();
                match message.dump_end() {
                    Some(0) => return Ok(()),
                    Some(errno) => return Err(Errno::from_raw_os_error(errno)),
                    None if message.kind() == kind => each(&message),
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
    fn recognises_link_local_addresses() {
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
    fn loopback_addresses_belong_to_the_loopback_only() {
        let root = Root::open(c"/").unwrap();
        let mut network = Network::default();
        let mut lists = Vec::new();
        // Reads twice, with the same result.
        for _ in 0..2 {
            network.read(&root).unwrap();
            for interface in network.interfaces() {
                let mut was_link_local = false;
                for address in network.addresses(&interface) {
                    let own = address.own_address().unwrap();
                    assert!(interface.name() == b"lo" || own != [127, 0, 0, 1]);
                    let family = [AF_INET, AF_INET6][usize::from(own.len() == 16)];
                    let is_link_local = is_link_local(family, own).unwrap();
                    assert!(is_link_local || !was_link_local);
                    was_link_local = is_link_local;
                }
                lists.push(interface.name().to_vec());
            }
        }
        let (first, second) = lists.split_at(lists.len() / 2);
        assert!(!first.is_empty() && first == second);
        let last = network.interfaces().last().unwrap();
        assert_eq!((last.name(), last.interface_index()), (&b"lo"[..], 1));
        let mut nowhere = heapless::Vec::<u8, 512>::new();
        last.put(&mut nowhere);
        nowhere[20..24].fill(0xFF);
        let nowhere = Message::take(&mut &nowhere[..]).unwrap();
        assert_eq!(network.addresses(&nowhere).next(), None);
    }
}
