//! Route netlink messages: links and addresses, as rtnetlink(7), linux/rtnetlink.h, linux/if_link.h
//! and linux/if_addr.h lay them out. Everything is in the byte order of this machine.
//!
//! A buffer that ends within a message or an attribute ends the iteration: what was whole is used.
//! Sending, receiving and asking again when a dump was interrupted are the caller's.

use super::{array, take, until_nul};

/// `NLMSG_ERROR`, linux/netlink.h.
const NLMSG_ERROR: u16 = 2;
/// `NLMSG_DONE`, linux/netlink.h.
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST`, linux/netlink.h.
const NLM_F_REQUEST: u16 = 1;
/// `NLM_F_DUMP_INTR`, linux/netlink.h.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// `NLM_F_DUMP`, linux/netlink.h.
const NLM_F_DUMP: u16 = 0x300;
/// `RTM_NEWLINK`, linux/rtnetlink.h.
const RTM_NEWLINK: u16 = 16;
/// `RTM_GETLINK`, linux/rtnetlink.h.
const RTM_GETLINK: u16 = 18;
/// `RTM_NEWADDR`, linux/rtnetlink.h.
const RTM_NEWADDR: u16 = 20;
/// `RTM_GETADDR`, linux/rtnetlink.h.
const RTM_GETADDR: u16 = 22;
/// `IFLA_ADDRESS`, linux/if_link.h.
const IFLA_ADDRESS: u16 = 1;
/// `IFLA_IFNAME`, linux/if_link.h.
const IFLA_IFNAME: u16 = 3;
/// `IFLA_STATS64`, linux/if_link.h.
const IFLA_STATS64: u16 = 23;
/// `IFA_ADDRESS`, linux/if_addr.h.
const IFA_ADDRESS: u16 = 1;
/// `IFA_LOCAL`, linux/if_addr.h.
const IFA_LOCAL: u16 = 2;
/// `IFA_LABEL`, linux/if_addr.h.
const IFA_LABEL: u16 = 3;
/// `IFA_FLAGS`, linux/if_addr.h.
const IFA_FLAGS: u16 = 8;
/// `NLA_TYPE_MASK`, linux/netlink.h: the type without the flags for nesting and byte order.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// `struct nlmsghdr`, linux/netlink.h.
pub const HEADER_BYTES: usize = 16;
/// `struct rtattr`, linux/rtnetlink.h.
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// `struct ifinfomsg`, linux/rtnetlink.h.
const LINK_BYTES: usize = 16;
/// `struct ifaddrmsg`, linux/if_addr.h.
const ADDRESS_BYTES: usize = 8;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// `RTM_*` or `NLMSG_*`.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// The number of the request this answers.
    pub sequence: u32,
    /// The port it is for.
    pub port: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// The messages of a datagram.
pub fn messages(datagram: &[u8]) -> Messages<'_> {
    Messages { rest: datagram }
}

/// The iterator of [`messages`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let len = usize::try_from(u32_at(self.rest, 0)?).ok()?;
        let message = take_aligned(&mut self.rest, len)?;
        Some(Message {
            kind: u16_at(message, 4)?,
            flags: u16_at(message, 6)?,
            sequence: u32_at(message, 8)?,
            port: u32_at(message, 12)?,
            body: message.get(HEADER_BYTES..)?,
        })
    }
}

impl<'a> Message<'a> {
    /// How the answer ended, if this message ends it: errors carry their number (positive).
    pub fn end(&self) -> Option<Result<(), i32>> {
        let status = match self.kind {
            NLMSG_ERROR => i32_at(self.body, 0)?,
            // Old kernels end a dump without a status.
            NLMSG_DONE => i32_at(self.body, 0).unwrap_or(0).min(0),
            _ => return None,
        };
        Some(if status == 0 {
            Ok(())
        } else {
            Err(status.saturating_neg())
        })
    }

    /// Whether the list changed while it was dumped, so that it may lack something.
    pub fn is_interrupted(&self) -> bool {
        self.flags & NLM_F_DUMP_INTR != 0
    }

    /// The network interface this message describes.
    pub fn link(&self) -> Option<Link<'a>> {
        if self.kind != RTM_NEWLINK {
            return None;
        }
        let mut link = Link {
            kind: u16_at(self.body, 2)?,
            index: u32_at(self.body, 4)?,
            flags: u32_at(self.body, 8)?,
            name: &[],
            address: &[],
            statistics: None,
        };
        for (kind, value) in attributes(self.body.get(LINK_BYTES..)?) {
            match kind {
                IFLA_IFNAME => link.name = until_nul(value),
                IFLA_ADDRESS => link.address = value,
                IFLA_STATS64 => link.statistics = Statistics::parse(value),
                _ => {}
            }
        }
        Some(link)
    }

    /// The address this message describes.
    pub fn address(&self) -> Option<Address<'a>> {
        if self.kind != RTM_NEWADDR {
            return None;
        }
        let [family, prefix, flags, scope] = array(self.body, 0)?;
        let mut address = Address {
            family,
            prefix,
            scope,
            flags: u32::from(flags),
            index: u32_at(self.body, 4)?,
            local: None,
            address: None,
            label: &[],
        };
        for (kind, value) in attributes(self.body.get(ADDRESS_BYTES..)?) {
            match kind {
                IFA_ADDRESS => address.address = Some(value),
                IFA_LOCAL => address.local = Some(value),
                IFA_LABEL => address.label = until_nul(value),
                IFA_FLAGS => address.flags = u32_at(value, 0).unwrap_or(address.flags),
                _ => {}
            }
        }
        Some(address)
    }
}

/// A network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    /// `ARPHRD_*`, linux/if_arp.h: 1 is Ethernet, 772 loopback.
    pub kind: u16,
    /// Its number.
    pub index: u32,
    /// `IFF_*`, linux/if.h.
    pub flags: u32,
    /// Its name.
    pub name: &'a [u8],
    /// Its hardware address; empty if it has none. Any length.
    pub address: &'a [u8],
    /// What went through it.
    pub statistics: Option<Statistics>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// `AF_INET` (2) or `AF_INET6` (10).
    pub family: u8,
    /// Bits of the network part.
    pub prefix: u8,
    /// `RT_SCOPE_*`, linux/rtnetlink.h.
    pub scope: u8,
    /// `IFA_F_*`, linux/if_addr.h.
    pub flags: u32,
    /// Number of the interface.
    pub index: u32,
    /// The interface's own address, where it differs from `address` or the family always has it.
    pub local: Option<&'a [u8]>,
    /// The address, or the peer's if there is a `local` one.
    pub address: Option<&'a [u8]>,
    /// Name with which an IPv4 address was given, such as `eth0:1`; empty for IPv6.
    pub label: &'a [u8],
}

impl<'a> Address<'a> {
    /// The interface's own address, not the peer's.
    pub fn own(&self) -> Option<&'a [u8]> {
        self.local.or(self.address)
    }
}

/// Counters of an interface, as /proc/net/dev has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Errors in receiving.
    pub rx_errors: u64,
    /// Packets received and dropped, by the stack or for want of a buffer in the device: the `drop`
    /// column of /proc/net/dev adds the two.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors in sending.
    pub tx_errors: u64,
    /// Packets dropped instead of sent.
    pub tx_dropped: u64,
}

impl Statistics {
    /// From a `struct rtnl_link_stats64`, linux/if_link.h, of any kernel's length.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (counters, _) = bytes.as_chunks::<8>();
        let counter = |index: usize| counters.get(index).map(|bytes| u64::from_ne_bytes(*bytes));
        let missed = counter(15)?;
        Some(Self {
            rx_packets: counter(0)?,
            tx_packets: counter(1)?,
            rx_bytes: counter(2)?,
            tx_bytes: counter(3)?,
            rx_errors: counter(4)?,
            tx_errors: counter(5)?,
            rx_dropped: counter(6)?.wrapping_add(missed),
            tx_dropped: counter(7)?,
        })
    }
}

/// Types and values of the attributes in `bytes`.
pub fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes { rest: bytes }
}

/// The iterator of [`attributes`].
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(u16_at(self.rest, 0)?);
        let attribute = take_aligned(&mut self.rest, len)?;
        let value = attribute.get(ATTRIBUTE_HEADER_BYTES..)?;
        Some((u16_at(attribute, 2)? & NLA_TYPE_MASK, value))
    }
}

/// A request for all interfaces.
pub fn link_dump(sequence: u32) -> [u8; HEADER_BYTES + LINK_BYTES] {
    request(RTM_GETLINK, NLM_F_DUMP, sequence, [0; 4], 0)
}

/// A request for the interface with this number.
pub fn link(sequence: u32, index: u32) -> [u8; HEADER_BYTES + LINK_BYTES] {
    request(RTM_GETLINK, 0, sequence, [0; 4], index)
}

/// A request for all addresses.
///
/// `family` (0: all) always counts. `index` (0: all) counts only on a socket that has
/// `NETLINK_GET_STRICT_CHK` set (Linux 4.20); without it, the answer holds those of all interfaces.
pub fn address_dump(sequence: u32, family: u8, index: u32) -> [u8; HEADER_BYTES + ADDRESS_BYTES] {
    request(RTM_GETADDR, NLM_F_DUMP, sequence, [family, 0, 0, 0], index)
}

/// A request of `N` bytes. `struct ifinfomsg` and `struct ifaddrmsg` both begin with four bytes, of
/// which the first is the family, and the number of the interface.
fn request<const N: usize>(
    kind: u16,
    flags: u16,
    sequence: u32,
    family: [u8; 4],
    index: u32,
) -> [u8; N] {
    let len = u32::try_from(N).unwrap_or(0).to_ne_bytes();
    let [k0, k1] = kind.to_ne_bytes();
    let [f0, f1] = (flags | NLM_F_REQUEST).to_ne_bytes();
    let words = [
        len,
        [k0, k1, f0, f1],
        sequence.to_ne_bytes(),
        [0; 4],
        family,
        index.to_ne_bytes(),
    ];
    let mut bytes = [0; N];
    for (slot, byte) in bytes.iter_mut().zip(words.as_flattened()) {
        *slot = *byte;
    }
    bytes
}

/// Takes `len` bytes and the padding to a multiple of four; the last padding may be missing.
fn take_aligned<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let taken = take(bytes, len)?;
    let padding = len.wrapping_neg() & 3;
    *bytes = bytes.get(padding..).unwrap_or_default();
    Some(taken)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_ne_bytes)
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    array(bytes, at).map(i32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    /// An attribute with its padding.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// A message with its padding.
    fn message(kind: u16, flags: u16, parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        let mut bytes = Vec::new();
        bytes.extend(u32::try_from(body.len() + 16).unwrap().to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(5u32.to_ne_bytes());
        bytes.extend(9u32.to_ne_bytes());
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn counters() -> Vec<u8> {
        (100..124u64).flat_map(u64::to_ne_bytes).collect()
    }

    fn sample_link() -> Vec<u8> {
        let head = [
            &[0, 0][..],
            &1u16.to_ne_bytes(),
            &2u32.to_ne_bytes(),
            &0x1_1043u32.to_ne_bytes(),
            &[0; 4],
        ];
        let attributes = [
            attribute(IFLA_IFNAME, b"eth0\0"),
            attribute(IFLA_ADDRESS, &[0x52, 0x54, 0, 1, 2, 3]),
            attribute(99 | 0x8000, b"nested"),
            attribute(IFLA_STATS64, &counters()),
        ];
        message(RTM_NEWLINK, 2, &[&head.concat(), &attributes.concat()])
    }

    fn sample_address() -> Vec<u8> {
        let attributes = [
            attribute(IFA_ADDRESS, &[10, 0, 0, 2]),
            attribute(IFA_LOCAL, &[10, 0, 0, 1]),
            attribute(IFA_LABEL, b"eth0:1\0"),
            attribute(IFA_FLAGS, &0x280u32.to_ne_bytes()),
        ];
        message(
            RTM_NEWADDR,
            2,
            &[&[2, 24, 0x80, 0], &2u32.to_ne_bytes(), &attributes.concat()],
        )
    }

    #[test]
    fn a_link_is_read() {
        let bytes = sample_link();
        let message = messages(&bytes).next().unwrap();
        assert_eq!((message.sequence, message.port), (5, 9));
        assert_eq!(message.address(), None);
        assert_eq!(message.end(), None);
        let link = message.link().unwrap();
        assert_eq!((link.kind, link.index, link.flags), (1, 2, 0x1_1043));
        assert_eq!(link.name, b"eth0");
        assert_eq!(link.address, [0x52, 0x54, 0, 1, 2, 3]);
        let expected = Statistics {
            rx_packets: 100,
            tx_packets: 101,
            rx_bytes: 102,
            tx_bytes: 103,
            rx_errors: 104,
            tx_errors: 105,
            rx_dropped: 106 + 115,
            tx_dropped: 107,
        };
        assert_eq!(link.statistics, Some(expected));
    }

    #[test]
    fn an_address_is_read() {
        let bytes = sample_address();
        let address = messages(&bytes).next().unwrap().address().unwrap();
        assert_eq!((address.family, address.prefix, address.scope), (2, 24, 0));
        assert_eq!((address.flags, address.index), (0x280, 2));
        assert_eq!(address.own(), Some(&[10, 0, 0, 1][..]));
        assert_eq!(address.address, Some(&[10, 0, 0, 2][..]));
        assert_eq!(address.label, b"eth0:1");
    }

    #[test]
    fn several_messages_share_a_datagram_and_the_end_is_seen() {
        let done = message(NLMSG_DONE, NLM_F_DUMP_INTR, &[&0i32.to_ne_bytes()]);
        let bytes = [sample_link(), sample_address(), done].concat();
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all.len(), 3);
        assert!(all[0].link().is_some() && all[1].address().is_some());
        assert_eq!(all[2].end(), Some(Ok(())));
        assert!(all[2].is_interrupted() && !all[0].is_interrupted());
    }

    #[test]
    fn errors_carry_their_number() {
        let end = |kind, body: &[u8]| {
            messages(&message(kind, 0, &[body]))
                .next()
                .and_then(|message| message.end())
        };
        assert_eq!(end(NLMSG_ERROR, &(-95i32).to_ne_bytes()), Some(Err(95)));
        assert_eq!(end(NLMSG_ERROR, &0i32.to_ne_bytes()), Some(Ok(())));
        assert_eq!(end(NLMSG_DONE, &(-4i32).to_ne_bytes()), Some(Err(4)));
        assert_eq!(end(NLMSG_DONE, &[]), Some(Ok(())));
        assert_eq!(end(NLMSG_ERROR, &[]), None);
    }

    #[test]
    fn requests_read_back_as_they_were_meant() {
        let dump = link_dump(7);
        let message = messages(&dump).next().unwrap();
        assert_eq!(
            (message.kind, message.flags, message.sequence),
            (18, 0x301, 7)
        );
        assert_eq!(message.body, [0; 16]);
        let one = link(8, 3);
        let message = messages(&one).next().unwrap();
        assert_eq!((message.kind, message.flags), (18, 1));
        assert_eq!(u32_at(message.body, 4), Some(3));
        let dump = address_dump(9, 10, 4);
        let message = messages(&dump).next().unwrap();
        assert_eq!(
            (message.kind, message.flags, message.body.len()),
            (22, 0x301, 8)
        );
        assert_eq!((message.body[0], u32_at(message.body, 4)), (10, Some(4)));
    }

    #[test]
    fn lengths_that_lie_end_the_iteration() {
        for len in [0u32, 15, 33, u32::MAX] {
            let mut bytes = link_dump(1);
            bytes[..4].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(messages(&bytes).count(), 0, "{len}");
        }
        assert_eq!(attributes(&[0, 0, 0, 0, 0, 0]).count(), 0);
        assert_eq!(attributes(&3u32.to_ne_bytes()).count(), 0);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        torture(&[sample_link(), sample_address()].concat(), |bytes| {
            for message in messages(bytes) {
                message.link();
                message.address();
                message.end();
            }
            assert!(attributes(bytes).count() <= bytes.len());
        });
    }
}
