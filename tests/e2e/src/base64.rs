//! base64 (RFC 4648) for tests: a straightforward implementation, independent of the agent's.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes bytes.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(*chunk.get(index).unwrap_or(&0));
        let group = at(0) << 16 | at(1) << 8 | at(2);
        for index in 0..4 {
            text.push(if index <= chunk.len() {
                char::from(ALPHABET[(group >> (18 - 6 * index)) as usize & 63])
            } else {
                '='
            });
        }
    }
    text
}

/// Decodes text that an agent has encoded.
pub fn decode(text: &str) -> Vec<u8> {
    let text = text.as_bytes();
    let mut values = [0; 256];
    for (value, byte) in (0..).zip(ALPHABET) {
        values[usize::from(*byte)] = value;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.chunks_exact(4) {
        let mut number: u32 = 0;
        for byte in group {
            number = number << 6 | values[usize::from(*byte)];
        }
        bytes.extend_from_slice(&number.to_be_bytes()[1..]);
    }
    let padding = text.iter().rev().take_while(|byte| **byte == b'=');
    bytes.truncate(bytes.len() - padding.count());
    bytes
}
