//! The SMART / Health Information log page (02h), as the NVMe base specification defines it.
//!
//! The page is an array of 64-bit little-endian words. Its counters have 128 bits, lower half first: the
//! caller reports both halves as they are.

/// Index of the first word that belongs to a counter.
pub const COUNTERS: usize = 4;

/// Returns the fields of the first word: critical warning, temperature in Kelvin, available spare and
/// its threshold in percent, and percentage used.
pub fn state(first: u64) -> [u64; 5] {
    let byte = |shift: u32| first.wrapping_shr(shift) & 0xFF;
    [byte(0), first >> 8 & 0xFFFF, byte(24), byte(32), byte(40)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_field_of_the_first_word() {
        let first = u64::from_le_bytes([4, 0x2C, 0x01, 100, 10, 7, 0xFF, 0xFF]);
        assert_eq!(state(first), [4, 300, 100, 10, 7]);
        assert_eq!(state(u64::MAX), [255, 65535, 255, 255, 255]);
    }
}
