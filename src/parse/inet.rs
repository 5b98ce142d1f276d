//! Network addresses as text.
//!
//! IP addresses are spelled as glibc's inet_ntop(3) does: IPv6 follows RFC 5952, and the last 32 bits of
//! IPv4-mapped (`::ffff:1.2.3.4`) and IPv4-compatible (`::1.2.3.4`) addresses are dotted. Hardware
//! addresses are pairs of lower-case hexadecimal digits.

use crate::base::text::{Digits, hex_digit};

/// `INET6_ADDRSTRLEN`, netinet/in.h: an IPv6 address with eight groups, the last two dotted.
const TEXT_BYTES: usize = 46;

/// An address as text, in a buffer of fixed size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressText(heapless::Vec<u8, TEXT_BYTES>);

impl AddressText {
    /// Returns the text, which is ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Appends bytes. Every address fits, so none is ever dropped.
    // Out of line: one copy of the code is smaller.
    #[inline(never)]
    fn push(&mut self, more: &[u8]) {
        self.0.extend_from_slice(more).unwrap_or_default();
    }

    /// Appends a hexadecimal number of at least `width` digits.
    fn push_hexadecimal(&mut self, value: u16, width: u32) {
        let mut is_leading_zero = true;
        for position in (0..4u32).rev() {
            let digit = value.unbounded_shr(position.wrapping_mul(4)) & 15;
            is_leading_zero &= digit == 0 && position >= width;
            if !is_leading_zero {
                self.push(&[hex_digit(digit as u8)]);
            }
        }
    }

    fn push_v4(&mut self, address: &[u8]) {
        for (index, byte) in address.iter().enumerate() {
            if index > 0 {
                self.push(b".");
            }
            self.push(Digits::unsigned(u64::from(*byte)).as_bytes());
        }
    }

    fn push_v6(&mut self, address: &[u8]) {
        let (groups, _) = address.as_chunks::<2>();
        // Find the first of the longest runs of two or more zero groups: `::` replaces it.
        let (mut zeros, mut most, mut run) = (8usize..8, 1usize, 0usize);
        for (end, group) in (1usize..).zip(groups) {
            run = match group {
                [0, 0] => run.wrapping_add(1),
                _ => 0,
            };
            if run > most {
                (zeros, most) = (end.wrapping_sub(run)..end, run);
            }
        }
        let is_mapped = zeros.end == 5 && groups.get(5) == Some(&[255, 255]);
        let is_dotted = zeros.start == 0 && (zeros.end == 6 || is_mapped);
        for (index, group) in groups.iter().enumerate() {
            if index == zeros.start {
                self.push(b"::");
            }
            if zeros.contains(&index) {
                continue;
            }
            if index > 0 && index != zeros.end {
                self.push(b":");
            }
            if is_dotted && index == 6 {
                return self.push_v4(address.get(12..).unwrap_or_default());
            }
            self.push_hexadecimal(u16::from_be_bytes(*group), 1);
        }
    }
}

/// Appends an IPv4 address of 4 bytes or an IPv6 address of 16 bytes to `text`; otherwise nothing.
pub fn put_address(bytes: &[u8], text: &mut AddressText) {
    match bytes.len() {
        4 => text.push_v4(bytes),
        16 => text.push_v6(bytes),
        _ => {}
    }
}

/// Appends the first six bytes of a hardware address to `text`, padded with zeros.
///
/// qemu-ga reports six bytes for every kind of link, because it asks with SIOCGIFHWADDR.
pub fn put_hardware_address(address: &[u8], text: &mut AddressText) {
    for index in 0..6usize {
        if index > 0 {
            text.push(b":");
        }
        let byte = address.get(index).copied().unwrap_or(0);
        text.push_hexadecimal(byte.into(), 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::Random;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn address(bytes: &[u8]) -> AddressText {
        let mut text = AddressText::default();
        put_address(bytes, &mut text);
        text
    }

    fn hardware(address: &[u8]) -> AddressText {
        let mut text = AddressText::default();
        put_hardware_address(address, &mut text);
        text
    }

    fn v4(bytes: [u8; 4]) -> AddressText {
        address(&bytes)
    }

    fn v6(bytes: [u8; 16]) -> AddressText {
        address(&bytes)
    }

    fn text6(address: &str) -> String {
        v6(address.parse::<Ipv6Addr>().unwrap().octets())
            .as_str()
            .to_owned()
    }

    #[test]
    fn addresses_are_spelled_as_inet_ntop_does() {
        for address in [
            "::",
            "::1",
            "1::",
            "fe80::1",
            "2001:db8::1",
            "2001:db8:0:1:1:1:1:1",
            "0:1::",
            "2001:0:0:1::1",
            "2001:db8::1:0:0:1",
            "1:2:3:4:5:6:7:8",
            "ff02::1:ff00:abcd",
            "::ffff:192.0.2.1",
            "::192.0.2.1",
            "::0.1.0.0",
            "::1:0:0",
            "::fffe:0:0",
            "::ffff:0.0.0.0",
            "64:ff9b::c000:201",
            "0:0:1::",
            "1:0:2:0:3:0:4:0",
        ] {
            assert_eq!(text6(address), address);
        }
        assert_eq!(v4([192, 0, 2, 255]).as_bytes(), b"192.0.2.255");
        assert_eq!(v4([0; 4]).as_bytes(), b"0.0.0.0");
        assert_eq!(v6([0xab; 16]).as_str().len(), 39);
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn texts_parse_as_the_same_address() {
        let mut random = Random::new(7);
        for _ in 0..2000 {
            let keep = random.next() as u8;
            let mut bytes = [0; 16];
            for (index, byte) in bytes.iter_mut().enumerate() {
                if keep >> (index / 2) & 1 == 1 {
                    *byte = random.next() as u8;
                }
            }
            let read: Ipv6Addr = v6(bytes).as_str().parse().unwrap();
            assert_eq!(read.octets(), bytes);
            let four = *bytes.first_chunk().unwrap();
            assert_eq!(v4(four).as_str(), Ipv4Addr::from(four).to_string());
        }
    }

    #[test]
    fn the_length_decides_the_address_family() {
        assert_eq!(address(&[127, 0, 0, 1]).as_str(), "127.0.0.1");
        assert_eq!(address(&[0; 16]).as_str(), "::");
        for len in (0..40).filter(|len| ![4, 16].contains(len)) {
            assert_eq!(address(&vec![0; len]).as_bytes(), b"");
        }
    }

    #[test]
    fn hardware_addresses_have_six_pairs() {
        assert_eq!(
            hardware(&[0x52, 0x54, 0, 0xA, 0xBC, 0xFF]).as_str(),
            "52:54:00:0a:bc:ff"
        );
        assert_eq!(hardware(&[1; 20]).as_str(), "01:01:01:01:01:01");
        assert_eq!(hardware(&[10, 0, 0, 1]).as_str(), "0a:00:00:01:00:00");
        assert_eq!(hardware(&[]).as_str(), "00:00:00:00:00:00");
    }
}
