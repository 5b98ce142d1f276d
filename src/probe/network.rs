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
//! A list that changes while the kernel goes through it may lack something; [`Dump::changed`] tells,
//! and it is up to the caller to begin again.

use crate::parse::netlink::{Message, RTM_NEWADDR, RTM_NEWLINK, dump};
use crate::sys::Errno;
use crate::sys::netlink::Route;
use crate::sys::root::Root;

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

/// What takes a link or an address.
pub type Each<'e> = dyn FnMut(&Message<'_>) -> Result<(), Errno> + 'e;

/// Calls `each` with all interfaces, in order, whose devices are looked for below `root`.
///
/// # Errors
/// What the kernel said instead of an answer, or `each`.
pub fn links(dump: &mut Dump<'_>, root: &Root, each: &mut Each<'_>) -> Result<(), Errno> {
    let mut due = Due {
        group: Group::Devices,
        first: 0,
        end: WINDOW,
        beyond: u32::MAX,
        greatest: 0,
        ordered: true,
    };
    loop {
        dump.ask(None, &mut |link| {
            if due.has(root, link) {
                return each(link);
            }
            Ok(())
        })?;
        due.first = due.beyond;
        if due.first == u32::MAX {
            due.first = 0;
            due.group = match due.group {
                Group::Devices => Group::Software,
                Group::Software => Group::Loopback,
                Group::Loopback => return Ok(()),
            };
        }
        due.end = match due.ordered {
            true => u32::MAX,
            false => (due.first | (WINDOW - 1)).saturating_add(1),
        };
        due.beyond = u32::MAX;
        due.greatest = 0;
        due.ordered = true;
    }
}

/// Which links are due in one answer.
struct Due {
    group: Group,
    /// The numbers that are due begin here, and end there.
    first: u32,
    end: u32,
    /// The least number of the group that is beyond them.
    beyond: u32,
    /// The greatest number so far, and whether none came before a lesser one.
    greatest: u32,
    ordered: bool,
}

impl Due {
    /// Whether the next link of the answer is due.
    fn has(&mut self, root: &Root, link: &Message<'_>) -> bool {
        let index = link.index();
        self.ordered &= index >= self.greatest;
        self.greatest = self.greatest.max(index);
        // The group is looked at last, for that may take a look at a file.
        if index < self.first || index >= self.beyond || group(root, link) != self.group {
            return false;
        }
        if index >= self.end {
            self.beyond = index;
        }
        index < self.end
    }
}

fn group(root: &Root, link: &Message<'_>) -> Group {
    if link.link_flags() & IFF_LOOPBACK != 0 {
        return Group::Loopback;
    }
    match root.has_at(&[b"sys/class/net/", link.name(), b"/device"]) {
        Ok(true) => Group::Devices,
        _ => Group::Software,
    }
}

/// Calls `each` with the addresses of the interface with this number, in order. One that is gone has
/// none.
///
/// # Errors
/// What the kernel said instead of an answer, or `each`.
pub fn addresses(dump: &mut Dump<'_>, index: u32, each: &mut Each<'_>) -> Result<(), Errno> {
    for due in [false, true] {
        let mut others = false;
        let asked = dump.ask(Some(index), &mut |address| {
            if address.index() == index
                && let Some(link_local) = is_link_local(address)
            {
                if link_local == due {
                    return each(address);
                }
                others = true;
            }
            Ok(())
        });
        match asked {
            Err(Errno::NODEV) => break,
            other => other?,
        }
        if !others {
            break;
        }
    }
    Ok(())
}

/// Whether an address is of use on its own link only; `None` if it is no internet address.
fn is_link_local(address: &Message<'_>) -> Option<bool> {
    let [family, _] = address.family_and_prefix();
    match (family, address.own_address()?) {
        (AF_INET, [first, second, _, _]) => Some((*first, *second) == (169, 254)),
        (AF_INET6, own @ [first, second, ..]) if own.len() == 16 => {
            Some(*first == 0xFE && *second & 0xC0 == 0x80)
        }
        _ => None,
    }
}

/// Questions to the kernel.
pub struct Dump<'b> {
    route: Route,
    buffer: &'b mut [u8],
    /// The number of the question before.
    sequence: u32,
    /// Whether anything changed, so that something may be missing, since this was last set.
    pub changed: bool,
}

impl<'b> Dump<'b> {
    /// `buffer` is for answers.
    ///
    /// # Errors
    /// That of making a socket.
    pub fn new(buffer: &'b mut [u8]) -> Result<Self, Errno> {
        Ok(Self {
            route: Route::open()?,
            buffer,
            sequence: 0,
            changed: false,
        })
    }

    /// Asks for all links, or the addresses of the one with this number.
    fn ask(&mut self, index: Option<u32>, each: &mut Each<'_>) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut words = [[0; 4]; 8];
        let len = dump(&mut words, self.sequence, index);
        let kind = match index {
            Some(_) => RTM_NEWADDR,
            None => RTM_NEWLINK,
        };
        self.route.ask(&words.as_flattened()[..len])?;
        loop {
            let mut rest = self.route.receive(self.buffer)?;
            while let Some(message) = Message::take(&mut rest) {
                // What is left of an answer that failed is not part of this one.
                if message.sequence != self.sequence {
                    continue;
                }
                self.changed |= message.is_interrupted();
                match message.end() {
                    Some(0) => return Ok(()),
                    Some(errno) => return Err(Errno::from_raw_os_error(errno)),
                    None if message.kind == kind => each(&message)?,
                    None => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link_local(family: u8, own: &[u8]) -> Option<bool> {
        let len = u16::try_from(own.len() + 4).unwrap().to_ne_bytes();
        let attribute = [&len, &1u16.to_ne_bytes(), own].concat();
        is_link_local(&Message {
            kind: RTM_NEWADDR,
            flags: 0,
            sequence: 0,
            body: &[&[family, 0, 0, 0, 1, 0, 0, 0], &attribute[..]].concat(),
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
        let mut dump = Dump::new(&mut links).unwrap();
        let mut of_links = Dump::new(&mut addresses).unwrap();
        let mut count = 0;
        // A second time round it is the same.
        for _ in 0..2 {
            super::links(&mut dump, &root, &mut |link| {
                count += 1;
                let index = link.index();
                let is_loopback = link.link_flags() & IFF_LOOPBACK != 0;
                let mut was_link_local = false;
                super::addresses(&mut of_links, index, &mut |address| {
                    assert_eq!(address.index(), index);
                    let is_loopback_address = address.own_address() == Some(&[127, 0, 0, 1]);
                    assert!(is_loopback || !is_loopback_address);
                    let is_link_local = is_link_local(address).unwrap();
                    assert!(is_link_local || !was_link_local);
                    was_link_local = is_link_local;
                    Ok(())
                })
            })
            .unwrap();
        }
        assert!(count > 0 && count % 2 == 0);
        let none = super::addresses(&mut of_links, u32::MAX >> 1, &mut |_| unreachable!());
        assert_eq!(none, Ok(()));
    }
}
