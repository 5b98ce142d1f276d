//! Route netlink messages about links and addresses, as rtnetlink(7), linux/rtnetlink.h,
//! linux/if_link.h and linux/if_addr.h define them, in native byte order.
//!
//! A message or attribute that is cut short ends the iteration; complete ones before it are
//! returned. The caller sends and receives, and repeats a dump that was interrupted.

use super::{array, take, until_nul};
use crate::base::sink::ByteSink;

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
pub const RTM_NEWLINK: u16 = 16;
/// `RTM_GETLINK`, linux/rtnetlink.h.
const RTM_GETLINK: u16 = 18;
/// `RTM_NEWADDR`, linux/rtnetlink.h.
pub const RTM_NEWADDR: u16 = 20;
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
/// The attributes above. Links and addresses share these numbers: one list serves both.
const KEPT: [u16; 4] = [IFLA_ADDRESS, IFA_LOCAL, IFLA_IFNAME, IFLA_STATS64];
/// `NLA_TYPE_MASK`, linux/netlink.h: masks the flags for nesting and byte order off the type.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Size of `struct nlmsghdr`, linux/netlink.h.
const HEADER_BYTES: usize = 16;
/// Size of `struct rtattr`, linux/rtnetlink.h.
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// Size of `struct ifinfomsg`, linux/rtnetlink.h.
const LINK_BYTES: usize = 16;
/// Size of `struct ifaddrmsg`, linux/if_addr.h.
const ADDRESS_BYTES: usize = 8;

/// The bytes of one message, with its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a>(&'a [u8]);

impl<'a> Message<'a> {
    /// Splits the first message off the front of a datagram.
    pub fn take(datagram: &mut &'a [u8]) -> Option<Self> {
        let len = usize::try_from(u32_at(datagram, 0)?).ok()?;
        let message = take_aligned(datagram, len)?;
        (len >= HEADER_BYTES).then_some(Self(message))
    }

    /// Appends the message to `out` without the attributes that this file does not read. What is
    /// left is a valid message, a sixth of the kernel's for an interface.
    pub fn put(&self, out: &mut dyn ByteSink) {
        let start = out.bytes().len();
        let (head, mut rest) = self.parts();
        let _ = out.append(head);
        while let Some((kind, attribute)) = take_attribute(&mut rest) {
            if KEPT.contains(&kind) {
                let _ = out.append(attribute);
                let padding = attribute.len().wrapping_neg() & 3;
                let _ = out.append([0; 3].get(..padding).unwrap_or_default());
            }
        }
        let message = out.bytes_mut().get_mut(start..).unwrap_or_default();
        let len = message.len() as u32;
        if let Some(field) = message.first_chunk_mut() {
            *field = len.to_ne_bytes();
        }
    }

    /// Splits the message into its headers and its attributes.
    fn parts(&self) -> (&'a [u8], &'a [u8]) {
        let head = match self.kind() {
            RTM_NEWADDR => HEADER_BYTES + ADDRESS_BYTES,
            _ => HEADER_BYTES + LINK_BYTES,
        };
        self.0.split_at_checked(head).unwrap_or((self.0, &[]))
    }

    /// Returns the message type: `RTM_*` or `NLMSG_*`.
    pub fn kind(&self) -> u16 {
        u16_at(self.0, 4).unwrap_or(0)
    }

    /// Returns the sequence number of the request that this message answers.
    pub fn sequence(&self) -> u32 {
        u32_at(self.0, 8).unwrap_or(0)
    }

    /// Returns the result of the dump if this message ends it: 0 or a positive error number.
    pub fn dump_end(&self) -> Option<i32> {
        let status = u32_at(self.0, HEADER_BYTES);
        let status = match self.kind() {
            NLMSG_ERROR => status?,
            // Old kernels send no status.
            NLMSG_DONE => status.unwrap_or(0),
            _ => return None,
        };
        Some(status.cast_signed().min(0).wrapping_neg())
    }

    /// Whether the list changed during the dump, which may therefore be incomplete.
    pub fn is_interrupted(&self) -> bool {
        u16_at(self.0, 6).unwrap_or(0) & NLM_F_DUMP_INTR != 0
    }

    /// Returns the index of the interface of a link or an address.
    pub fn interface_index(&self) -> u32 {
        u32_at(self.0, HEADER_BYTES + 4).unwrap_or(0)
    }

    /// Returns the flags of a link: `IFF_*`, linux/if.h.
    pub fn link_flags(&self) -> u32 {
        u32_at(self.0, HEADER_BYTES + 8).unwrap_or(0)
    }

    /// Returns the name of a link.
    pub fn name(&self) -> &'a [u8] {
        until_nul(self.attribute(IFLA_IFNAME).unwrap_or_default())
    }

    /// Returns the hardware address of a link, which may have any length.
    pub fn hardware_address(&self) -> &'a [u8] {
        self.attribute(IFLA_ADDRESS).unwrap_or_default()
    }

    /// Returns eight counters of a link, as /proc/net/dev shows them: received bytes, packets, errors
    /// and dropped packets, then the same for sending. `None` if the kernel does not report all of
    /// them.
    pub fn statistics(&self) -> Option<[u64; 8]> {
        // `struct rtnl_link_stats64`, linux/if_link.h. Newer kernels only append to it.
        let (words, _) = self.attribute(IFLA_STATS64)?.as_chunks::<8>();
        let [
            packets_in,
            packets_out,
            bytes_in,
            bytes_out,
            errors_in,
            errors_out,
            dropped_in,
            dropped_out,
            ..,
            missed_in,
        ] = words.first_chunk::<16>()?.map(u64::from_ne_bytes);
        // The `drop` column of received packets counts both.
        let lost_in = dropped_in.wrapping_add(missed_in);
        Some([
            bytes_in,
            packets_in,
            errors_in,
            lost_in,
            bytes_out,
            packets_out,
            errors_out,
            dropped_out,
        ])
    }

    /// Returns family (`AF_INET` is 2, `AF_INET6` is 10) and prefix length of an address.
    pub fn family_and_prefix(&self) -> [u8; 2] {
        array(self.0, HEADER_BYTES).unwrap_or_default()
    }

    /// Returns the local address of an address message. `IFA_ADDRESS` is the peer's on
    /// point-to-point links, which have `IFA_LOCAL` as well.
    pub fn own_address(&self) -> Option<&'a [u8]> {
        self.attribute(IFA_LOCAL)
            .or_else(|| self.attribute(IFA_ADDRESS))
    }

    /// Returns the value of an attribute.
    fn attribute(&self, wanted: u16) -> Option<&'a [u8]> {
        let (_, mut rest) = self.parts();
        loop {
            let (kind, attribute) = take_attribute(&mut rest)?;
            if kind == wanted {
                return attribute.get(ATTRIBUTE_HEADER_BYTES..);
            }
        }
    }
}

/// Splits the first attribute off the front of `rest`. Returns its type and its bytes with the
/// header.
fn take_attribute<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let len = u16_at(rest, 0)?;
    let attribute = take_aligned(rest, len.into())?;
    Some((u16_at(attribute, 2)? & NLA_TYPE_MASK, attribute))
}

/// Writes a dump request into `words`, which must be zero. `answer` is the type of the messages
/// that answer it: [`RTM_NEWLINK`] or [`RTM_NEWADDR`]. Returns the length of the request in bytes.
///
/// The request is for all address families: a kernel without a family refuses requests for it.
pub fn dump_request(words: &mut [[u8; 4]; 8], sequence: u32, answer: u16) -> usize {
    // The `struct ifinfomsg` or `struct ifaddrmsg` after the header is zero: no filter.
    let (kind, len) = match answer {
        RTM_NEWADDR => (RTM_GETADDR, HEADER_BYTES + ADDRESS_BYTES),
        _ => (RTM_GETLINK, HEADER_BYTES + LINK_BYTES),
    };
    let [k0, k1] = kind.to_ne_bytes();
    let [f0, f1] = (NLM_F_DUMP | NLM_F_REQUEST).to_ne_bytes();
    words[0] = (len as u32).to_ne_bytes();
    words[1] = [k0, k1, f0, f1];
    words[2] = sequence.to_ne_bytes();
    len
}

/// Splits `len` bytes and their padding to a multiple of four off the front of `bytes`. At the end
/// the padding may be missing.
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
            attribute(3, b"eth0:1\0"),
        ];
        message(
            RTM_NEWADDR,
            2,
            &[&[2, 24, 0x80, 0], &2u32.to_ne_bytes(), &attributes.concat()],
        )
    }

    fn messages(mut datagram: &[u8]) -> Vec<Message<'_>> {
        std::iter::from_fn(|| Message::take(&mut datagram)).collect()
    }

    #[test]
    fn reads_a_link() {
        let bytes = sample_link();
        let link = messages(&bytes)[0];
        assert_eq!(
            (link.sequence(), link.kind(), link.dump_end()),
            (5, RTM_NEWLINK, None)
        );
        assert_eq!((link.interface_index(), link.link_flags()), (2, 0x1_1043));
        assert_eq!(link.name(), b"eth0");
        assert_eq!(link.hardware_address(), [0x52, 0x54, 0, 1, 2, 3]);
        assert_eq!(
            link.statistics(),
            Some([102, 100, 104, 106 + 115, 103, 101, 105, 107])
        );
    }

    #[test]
    fn reads_an_address() {
        let bytes = sample_address();
        let address = messages(&bytes)[0];
        assert_eq!(address.kind(), RTM_NEWADDR);
        assert_eq!(
            (address.family_and_prefix(), address.interface_index()),
            ([2, 24], 2)
        );
        assert_eq!(address.own_address(), Some(&[10, 0, 0, 1][..]));
        let attribute = attribute(IFA_ADDRESS, &[10, 0, 0, 2]);
        let bytes = message(RTM_NEWADDR, 2, &[&[2, 24, 0, 0, 0, 0, 0, 0], &attribute]);
        let address = messages(&bytes)[0];
        assert_eq!(address.own_address(), Some(&[10, 0, 0, 2][..]));
    }

    #[test]
    fn put_keeps_the_attributes_that_are_read() {
        for bytes in [sample_link(), sample_address()] {
            let message = messages(&bytes)[0];
            let mut kept = heapless::Vec::<u8, 512>::new();
            kept.push(7).unwrap();
            message.put(&mut kept);
            assert!(kept.len() <= 1 + bytes.len());
            let again = Message::take(&mut &kept[1..]).unwrap();
            let facts = |message: &Message<'_>| {
                let own = message.own_address().map(<[u8]>::to_vec);
                let names = [message.name(), message.hardware_address()].map(<[u8]>::to_vec);
                (
                    message.kind(),
                    message.interface_index(),
                    own,
                    names,
                    message.statistics(),
                )
            };
            assert_eq!(facts(&again), facts(&message));
        }
    }

    #[test]
    fn reads_all_messages_of_a_datagram_and_the_end_of_the_dump() {
        let done = message(NLMSG_DONE, NLM_F_DUMP_INTR, &[&0i32.to_ne_bytes()]);
        let bytes = [sample_link(), sample_address(), done].concat();
        let all = messages(&bytes);
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].kind(), all[1].kind()), (RTM_NEWLINK, RTM_NEWADDR));
        assert_eq!(all[2].dump_end(), Some(0));
        assert!(all[2].is_interrupted() && !all[0].is_interrupted());
    }

    #[test]
    fn the_end_of_a_dump_has_an_error_number() {
        let end = |kind, body: &[u8]| messages(&message(kind, 0, &[body]))[0].dump_end();
        assert_eq!(end(NLMSG_ERROR, &(-95i32).to_ne_bytes()), Some(95));
        assert_eq!(end(NLMSG_ERROR, &0i32.to_ne_bytes()), Some(0));
        assert_eq!(end(NLMSG_DONE, &(-4i32).to_ne_bytes()), Some(4));
        assert_eq!(end(NLMSG_DONE, &[]), Some(0));
        assert_eq!(end(NLMSG_ERROR, &[]), None);
        // No kernel sends these.
        assert_eq!(end(NLMSG_ERROR, &1i32.to_ne_bytes()), Some(0));
        assert_eq!(end(NLMSG_DONE, &i32::MIN.to_ne_bytes()), Some(i32::MIN));
    }

    fn request(sequence: u32, answer: u16) -> ([[u8; 4]; 8], usize) {
        let mut words = [[0; 4]; 8];
        let len = dump_request(&mut words, sequence, answer);
        (words, len)
    }

    #[test]
    fn requests_have_the_type_flags_and_sequence_number() {
        let (words, len) = request(7, RTM_NEWLINK);
        let message = messages(&words.as_flattened()[..len])[0];
        assert_eq!(
            (message.kind(), u16_at(message.0, 6), message.sequence()),
            (18, Some(0x301), 7)
        );
        assert_eq!(message.0[16..], [0; 16]);
        let (words, len) = request(9, RTM_NEWADDR);
        let message = messages(&words.as_flattened()[..len])[0];
        assert_eq!(
            (message.kind(), u16_at(message.0, 6), message.sequence()),
            (22, Some(0x301), 9)
        );
        assert_eq!(message.0[16..], [0; 8]);
    }

    #[test]
    fn wrong_lengths_end_the_iteration() {
        for len in [0u32, 15, 33, u32::MAX] {
            let (mut words, _) = request(1, RTM_NEWLINK);
            words[0] = len.to_ne_bytes();
            assert_eq!(messages(words.as_flattened()).len(), 0, "{len}");
        }
        for wrong in [[0, 0, 0, 0], 3u32.to_ne_bytes(), 99u32.to_ne_bytes()] {
            let bytes = message(RTM_NEWLINK, 0, &[&[0; 16], &wrong]);
            assert_eq!(messages(&bytes)[0].attribute(0), None);
        }
    }

    #[test]
    fn no_input_panics() {
        torture(&[sample_link(), sample_address()].concat(), |bytes| {
            for message in messages(bytes) {
                message.put(&mut heapless::Vec::<u8, 256>::new());
                _ = (message.name(), message.hardware_address());
                _ = message.statistics();
                _ = (message.own_address(), message.family_and_prefix());
                _ = (
                    message.interface_index(),
                    message.link_flags(),
                    message.dump_end(),
                );
            }
        });
    }
}
