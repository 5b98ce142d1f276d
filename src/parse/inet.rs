//! Network addresses as text, spelled as glibc's inet_ntop does: IPv4 with dots, IPv6 as RFC 5952
//! asks, with the last 32 bits of mapped (`::ffff:1.2.3.4`) and compatible (`::1.2.3.4`) addresses
//! dotted; hardware addresses as lower-case pairs.

use crate::base::text::Digits;

/// The longest text: an uncompressed IPv6 address ending in a dotted one (INET6_ADDRSTRLEN).
const TEXT_BYTES: usize = 46;

/// An address as text, held in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(heapless::Vec<u8, TEXT_BYTES>);

impl Text {
    /// The text: ASCII only.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Every address fits, so nothing is ever dropped.
    fn push(&mut self, more: &[u8]) {
        self.0.extend_from_slice(more).unwrap_or_default();
    }

    /// Appends a number in hexadecimal without leading zeros, but at least `width` digits.
    fn push_hexadecimal(&mut self, value: u16, width: u32) {
        let digits = 4u32.saturating_sub(value.leading_zeros() / 4).max(width);
        for place in (0..digits).rev() {
            let digit = value.unbounded_shr(place.wrapping_mul(4)) & 15;
            self.push(&[match digit as u8 {
                digit @ 0..=9 => b'0'.wrapping_add(digit),
                digit => b'a'.wrapping_sub(10).wrapping_add(digit),
            }]);
        }
    }

    fn push_v4(&mut self, address: [u8; 4]) {
        for (index, byte) in address.into_iter().enumerate() {
            if index > 0 {
                self.push(b".");
            }
            self.push(Digits::unsigned(u64::from(byte)).as_bytes());
        }
    }
}

/// An address of 4 or 16 bytes as text.
pub fn address(bytes: &[u8]) -> Option<Text> {
    match bytes.len() {
        4 => Some(v4(*bytes.first_chunk()?)),
        16 => Some(v6(*bytes.first_chunk()?)),
        _ => None,
    }
}

/// An IPv4 address as text.
pub fn v4(address: [u8; 4]) -> Text {
    let mut text = Text::default();
    text.push_v4(address);
    text
}

/// An IPv6 address as text.
pub fn v6(address: [u8; 16]) -> Text {
    let bits = u128::from_be_bytes(address);
    let zeros = longest_zeros(bits);
    let dotted = zeros.start == 0 && (zeros.end == 6 || bits >> 32 == 0xffff);
    let mut text = Text::default();
    let mut index = 0;
    while index < 8 {
        if index == zeros.start {
            text.push(b"::");
            index = zeros.end;
            continue;
        }
        if index > 0 && index != zeros.end {
            text.push(b":");
        }
        if dotted && index == 6 {
            text.push_v4((bits as u32).to_be_bytes());
            break;
        }
        text.push_hexadecimal(group(bits, index), 1);
        index = index.wrapping_add(1);
    }
    text
}

/// The first six bytes of a hardware address as text, zeros in place of what is missing.
///
/// That is what SIOCGIFHWADDR makes of every kind of link, and so what clients know.
pub fn hardware(address: &[u8]) -> Text {
    let mut text = Text::default();
    for (index, byte) in address.iter().chain(&[0; 6]).take(6).enumerate() {
        if index > 0 {
            text.push(b":");
        }
        text.push_hexadecimal(u16::from(*byte), 2);
    }
    text
}

/// The 16-bit group of an IPv6 address at `index` (0 to 7, as written).
fn group(bits: u128, index: u32) -> u16 {
    bits.unbounded_shr(7u32.wrapping_sub(index).wrapping_mul(16)) as u16
}

/// The first of the longest runs of two or more zero groups; none is past the end.
fn longest_zeros(bits: u128) -> core::ops::Range<u32> {
    let mut best = 8..8u32;
    let mut start = 0;
    for index in 0..8u32 {
        let end = index.wrapping_add(1);
        if group(bits, index) != 0 {
            start = end;
        } else if end.wrapping_sub(start) > best.end.wrapping_sub(best.start).max(1) {
            best = start..end;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::Random;
    use std::net::{Ipv4Addr, Ipv6Addr};

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
    fn texts_read_back_as_the_same_address() {
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
    fn the_length_tells_the_family() {
        assert_eq!(address(&[127, 0, 0, 1]).unwrap().as_str(), "127.0.0.1");
        assert_eq!(address(&[0; 16]).unwrap().as_str(), "::");
        for len in (0..40).filter(|len| ![4, 16].contains(len)) {
            assert_eq!(address(&vec![0; len]), None);
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
