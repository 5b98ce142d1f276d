//! Words of the lines of /proc/net/route and /proc/net/ipv6_route, as proc(5) describes them.
//!
//! An IPv4 address is a hexadecimal number in native byte order, an IPv6 address is hexadecimal in
//! network byte order. All numbers are unsigned with 32 bits, also those that the kernel prints with a
//! minus sign.

use super::inet::{self, AddressText};

/// Splits the next word off the front of a line; at its end, an empty one.
pub fn take_word<'a>(line: &mut &'a [u8]) -> &'a [u8] {
    super::next_word(line).unwrap_or_default()
}

/// Parses a number in base 10 or 16. A character that is not a digit counts as 0.
pub fn parse_number(word: &[u8], base: u32) -> u64 {
    let (is_negative, digits) = match word.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, word),
    };
    let mut value = 0u32;
    for byte in digits {
        let digit = char::from(*byte).to_digit(base).unwrap_or(0);
        value = value.wrapping_mul(base).wrapping_add(digit);
    }
    u64::from(if is_negative {
        value.wrapping_neg()
    } else {
        value
    })
}

/// Appends an address to `text`: eight digits are IPv4, any others IPv6.
pub fn put_address(word: &[u8], text: &mut AddressText) {
    let mut bytes = [0u8; 16];
    for (index, digit) in word.iter().enumerate() {
        if let Some(byte) = bytes.get_mut(index >> 1) {
            *byte = *byte << 4 | parse_number(&[*digit], 16) as u8;
        }
    }
    if word.len() == 8 {
        let [a, b, c, d, ..] = bytes;
        let address = u32::from_be_bytes([a, b, c, d]).to_ne_bytes();
        return inet::put_address(&address, text);
    }
    inet::put_address(&bytes, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    #[test]
    fn blanks_and_tabs_separate_words() {
        let mut line = &b"  a\tbc  "[..];
        let words = [
            take_word(&mut line),
            take_word(&mut line),
            take_word(&mut line),
            take_word(&mut line),
        ];
        assert_eq!(words, [&b"a"[..], b"bc", b"", b""]);
    }

    #[test]
    fn numbers_are_unsigned_with_32_bits() {
        assert_eq!(parse_number(b"1400", 10), 1400);
        assert_eq!(parse_number(b"-1", 10), 4_294_967_295);
        assert_eq!(parse_number(b"80200001", 16), 2_149_580_801);
        assert_eq!(parse_number(b"ffffffff", 16), 4_294_967_295);
        assert_eq!(parse_number(b"", 16), 0);
    }

    #[test]
    fn addresses_have_the_byte_order_of_their_table() {
        let v4 = format!("{:08X}", u32::from_ne_bytes([10, 0, 2, 15]));
        let address = |word: &[u8]| {
            let mut text = AddressText::default();
            put_address(word, &mut text);
            text
        };
        assert_eq!(address(v4.as_bytes()).as_str(), "10.0.2.15");
        let v6 = b"20010db8000000000000000000000001";
        assert_eq!(address(v6).as_str(), "2001:db8::1");
    }

    #[test]
    fn no_input_panics() {
        torture(
            b"eth0 0002000A -1 20010db80000000000000000000000011",
            |bytes| {
                let mut line = bytes;
                while !line.is_empty() {
                    let word = take_word(&mut line);
                    parse_number(word, 10);
                    put_address(word, &mut AddressText::default());
                }
            },
        );
    }
}
