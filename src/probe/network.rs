//! Network interfaces and their addresses, from rtnetlink(7), in the order that serves clients best:
//! many take the first interface with an address, or the first ten interfaces, for the whole truth.
//!
//! Interfaces: those that are a device (have one in /sys/class/net), then those made of software,
//! then the loopback; by number among their like. Addresses of an interface: IPv4, then IPv6, then
//! link-local ones. An address belongs to the interface with its number, whatever its label.
//!
//! Nothing is collected. The kernel is asked again for every kind of interface and, where its order
//! is not that of the numbers, for every window of [`WINDOW`] of them; for the addresses of each
//! interface; and again for link-local ones, where there are any. Kernels before 4.20 do not filter
//! by interface and answer all addresses every time, which costs time alone.
//!
//! A list that changes while the kernel goes through it may lack something; [`Links::changed`] and
//! [`Addresses::changed`] tell, and it is up to the caller to begin again.

use core::ops::Range;

use crate::base::path::Path;
use crate::parse::netlink::{
    Address, HEADER_BYTES, Link, Message, address_dump, link_dump, messages,
};
use crate::sys::Errno;
use crate::sys::netlink::Route;
use crate::sys::root::Root;

/// `NLMSG_ALIGNTO`, linux/netlink.h.
const ALIGNMENT: usize = 4;
/// `IFF_LOOPBACK`, linux/if.h.
const IFF_LOOPBACK: u32 = 8;
/// `AF_INET`, linux/socket.h.
const AF_INET: u8 = 2;
/// `AF_INET6`, linux/socket.h.
const AF_INET6: u8 = 10;

/// Kernels before 6.9 go through 256 buckets, of which number `n` is in bucket `n % 256`
/// (`NETDEV_HASHENTRIES`): within an aligned window of that size they answer in order.
const WINDOW: u32 = 256;

/// Which interfaces come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Devices,
    Software,
    Loopback,
}

/// All interfaces, in order.
pub struct Links<'a> {
    dump: Dump<'a>,
    root: &'a Root,
    group: Group,
    /// The numbers that are due in this answer.
    due: Range<u32>,
    /// The least number of the group that is beyond them.
    beyond: Option<u32>,
    /// The greatest number of this answer so far, and whether none was out of order.
    greatest: u32,
    ordered: bool,
}

impl<'a> Links<'a> {
    /// Interfaces whose devices are looked for below `root`; `buffer` is for answers.
    pub fn new(route: Route, root: &'a Root, buffer: &'a mut [u8]) -> Self {
        Self {
            dump: Dump::new(route, buffer),
            root,
            group: Group::Devices,
            due: 0..0,
            beyond: None,
            greatest: 0,
            ordered: false,
        }
    }

    /// Begins before the first interface.
    ///
    /// # Errors
    /// What the kernel did not take the question for.
    pub fn begin(&mut self) -> Result<(), Errno> {
        self.dump.changed = false;
        self.group = Group::Devices;
        self.ordered = false;
        self.ask(0)
    }

    /// Asks for interfaces from number `first` on.
    fn ask(&mut self, first: u32) -> Result<(), Errno> {
        let window_end = (first | (WINDOW - 1)).saturating_add(1);
        self.due = first..if self.ordered { u32::MAX } else { window_end };
        self.beyond = None;
        self.greatest = 0;
        self.ordered = true;
        self.dump.ask(&link_dump(self.dump.next_sequence()))
    }

    /// Moves on to the next interface; gives whether there is one.
    ///
    /// # Errors
    /// What the kernel said instead of an answer.
    pub fn advance(&mut self) -> Result<bool, Errno> {
        loop {
            if self.dump.advance()? {
                if self.is_due() {
                    return Ok(true);
                }
                continue;
            }
            let first = match self.beyond {
                Some(first) => first,
                None => {
                    self.group = match self.group {
                        Group::Devices => Group::Software,
                        Group::Software => Group::Loopback,
                        Group::Loopback => return Ok(false),
                    };
                    0
                }
            };
            self.ask(first)?;
        }
    }

    /// The interface moved on to.
    pub fn link(&self) -> Option<Link<'_>> {
        self.dump.message()?.link()
    }

    fn is_due(&mut self) -> bool {
        let Some(link) = &self.link() else {
            return false;
        };
        let index = link.index;
        let is_beyond = index >= self.due.end;
        let is_known =
            index < self.due.start || is_beyond && self.beyond.is_some_and(|least| least <= index);
        // The group is looked at last, for that may take a look at a file.
        let is_wanted = !is_known && group(self.root, link) == self.group;
        self.ordered &= index >= self.greatest;
        self.greatest = self.greatest.max(index);
        if is_wanted && is_beyond {
            self.beyond = Some(index);
        }
        is_wanted && !is_beyond
    }

    /// Whether anything changed since the beginning, so that something may be missing.
    pub fn changed(&self) -> bool {
        self.dump.changed
    }
}

fn group(root: &Root, link: &Link<'_>) -> Group {
    if link.flags & IFF_LOOPBACK != 0 {
        return Group::Loopback;
    }
    match root.has(&Path::of(&[b"sys/class/net/", link.name, b"/device"])) {
        Ok(true) => Group::Devices,
        _ => Group::Software,
    }
}

/// The addresses of an interface, in order.
pub struct Addresses<'a> {
    dump: Dump<'a>,
    index: u32,
    /// Whether link-local addresses are due rather than the others.
    link_local: bool,
    /// Whether there are addresses of the kind that is not due.
    others: bool,
}

impl<'a> Addresses<'a> {
    /// Addresses of no interface yet; `buffer` is for answers.
    pub fn new(route: Route, buffer: &'a mut [u8]) -> Self {
        Self {
            dump: Dump::new(route, buffer),
            index: 0,
            link_local: false,
            others: false,
        }
    }

    /// Forgets what changed so far.
    pub fn begin(&mut self) {
        self.dump.changed = false;
    }

    /// Begins before the first address of the interface with this number.
    ///
    /// # Errors
    /// What the kernel did not take the question for.
    pub fn begin_link(&mut self, index: u32) -> Result<(), Errno> {
        self.index = index;
        self.ask(false)
    }

    fn ask(&mut self, link_local: bool) -> Result<(), Errno> {
        self.link_local = link_local;
        self.others = false;
        // Family 0 is all: one of them alone is an error where the kernel lacks it.
        let request = address_dump(self.dump.next_sequence(), 0, self.index);
        self.dump.ask(&request)
    }

    /// Moves on to the next address; gives whether there is one. An interface that is gone has none.
    ///
    /// # Errors
    /// What the kernel said instead of an answer.
    pub fn advance(&mut self) -> Result<bool, Errno> {
        loop {
            match self.dump.advance() {
                Ok(true) if self.is_due() => return Ok(true),
                Ok(true) => {}
                Ok(false) if self.others && !self.link_local => self.ask(true)?,
                Ok(false) | Err(Errno::NODEV) => return Ok(false),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// The address moved on to.
    pub fn address(&self) -> Option<Address<'_>> {
        self.dump.message()?.address()
    }

    fn is_due(&mut self) -> bool {
        let link_local = match &self.address() {
            Some(address) if address.index == self.index => is_link_local(address),
            _ => None,
        };
        let Some(link_local) = link_local else {
            return false;
        };
        let is_due = link_local == self.link_local;
        self.others |= !is_due;
        is_due
    }

    /// Whether anything changed since the beginning, so that something may be missing.
    pub fn changed(&self) -> bool {
        self.dump.changed
    }
}

/// Whether an address is of use on its own link only; `None` if it is no internet address.
fn is_link_local(address: &Address<'_>) -> Option<bool> {
    match (address.family, address.own()?) {
        (AF_INET, [first, second, _, _]) => Some((*first, *second) == (169, 254)),
        (AF_INET6, own @ [first, second, ..]) if own.len() == 16 => {
            Some(*first == 0xFE && *second & 0xC0 == 0x80)
        }
        _ => None,
    }
}

/// A question to the kernel and its answer, message by message.
struct Dump<'b> {
    route: Route,
    buffer: &'b mut [u8],
    /// Where the message moved on to begins in the buffer, and where the next does.
    here: usize,
    next: usize,
    /// Where the datagram in the buffer ends.
    end: usize,
    sequence: u32,
    changed: bool,
}

impl<'b> Dump<'b> {
    fn new(route: Route, buffer: &'b mut [u8]) -> Self {
        Self {
            route,
            buffer,
            here: 0,
            next: 0,
            end: 0,
            sequence: 0,
            changed: false,
        }
    }

    /// The number of the next question.
    fn next_sequence(&self) -> u32 {
        self.sequence.wrapping_add(1)
    }

    fn ask(&mut self, request: &[u8]) -> Result<(), Errno> {
        self.sequence = self.next_sequence();
        self.end = 0;
        self.route.ask(request)
    }

    /// Moves on to the next message of the answer; gives whether there is one.
    fn advance(&mut self) -> Result<bool, Errno> {
        loop {
            self.here = self.next;
            let Some(message) = self.message() else {
                self.end = self.route.receive(self.buffer)?.len();
                self.next = 0;
                continue;
            };
            let end = message.end();
            let changed = message.is_interrupted();
            // What is left of an answer that failed is not part of this one.
            let is_ours = message.sequence == self.sequence;
            let len = (HEADER_BYTES + message.body.len()).next_multiple_of(ALIGNMENT);
            self.next = self.here + len;
            if is_ours {
                self.changed |= changed;
                return match end {
                    Some(Err(errno)) => Err(Errno::from_raw_os_error(errno)),
                    Some(Ok(())) => Ok(false),
                    None => Ok(true),
                };
            }
        }
    }

    /// The message moved on to.
    fn message(&self) -> Option<Message<'_>> {
        messages(self.buffer.get(self.here..self.end)?).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link_local(family: u8, own: &[u8]) -> Option<bool> {
        is_link_local(&Address {
            family,
            prefix: 0,
            scope: 0,
            flags: 0,
            index: 1,
            local: None,
            address: Some(own),
            label: b"",
        })
    }

    #[test]
    fn link_local_addresses_are_told_by_their_first_bits() {
        let v6 = |first, second| {
            let mut bytes = [1; 16];
            (bytes[0], bytes[1]) = (first, second);
            link_local(AF_INET6, &bytes)
        };
        assert_eq!(link_local(AF_INET, &[169, 254, 0, 1]), Some(true));
        assert_eq!(link_local(AF_INET, &[169, 253, 0, 1]), Some(false));
        assert_eq!(v6(0xFE, 0x80), Some(true));
        assert_eq!(v6(0xFE, 0xBF), Some(true));
        assert_eq!(v6(0xFE, 0xC0), Some(false));
        assert_eq!(v6(0xFD, 0x80), Some(false));
        assert_eq!(link_local(AF_INET, &[169, 254, 0]), None);
        assert_eq!(link_local(AF_INET6, &[0xFE, 0x80]), None);
        assert_eq!(link_local(35, &[1]), None);
    }

    #[test]
    fn the_loopback_has_its_addresses_and_nothing_else_has_them() {
        let (mut links, mut addresses) = (vec![0; 32 << 10], vec![0; 8 << 10]);
        let root = Root::open(c"/").unwrap();
        let mut links = Links::new(Route::open().unwrap(), &root, &mut links);
        let mut addresses = Addresses::new(Route::open().unwrap(), &mut addresses);
        // A second time round it is the same.
        for _ in 0..2 {
            links.begin().unwrap();
            addresses.begin();
            while links.advance().unwrap() {
                let link = links.link().unwrap();
                let (index, is_loopback) = (link.index, link.flags & IFF_LOOPBACK != 0);
                addresses.begin_link(index).unwrap();
                let mut was_link_local = false;
                while addresses.advance().unwrap() {
                    let address = addresses.address().unwrap();
                    assert_eq!(address.index, index);
                    let is_loopback_address = address.own() == Some(&[127, 0, 0, 1]);
                    assert!(is_loopback || !is_loopback_address);
                    let is_link_local = is_link_local(&address).unwrap();
                    assert!(is_link_local || !was_link_local);
                    was_link_local = is_link_local;
                }
            }
        }
        addresses.begin_link(u32::MAX >> 1).unwrap();
        assert_eq!(addresses.advance(), Ok(false));
    }
}
