//! The SMART and health log page of NVMe (log 02h), as the NVMe base specification has it: little
//! endian; its counters, two words of eight bytes each, lower half first, are told as they are.

/// Where the counters begin, in words of eight bytes.
pub const COUNTERS: usize = 4;

/// Critical warning, temperature in Kelvin, available spare and its threshold in percent, percentage
/// used: what the first eight bytes tell, read as a little-endian number.
pub fn state(first: u64) -> [u64; 5] {
    let byte = |at: u32| first.wrapping_shr(at) & 0xFF;
    [byte(0), first >> 8 & 0xFFFF, byte(24), byte(32), byte(40)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_where_the_specification_has_it() {
        let first = u64::from_le_bytes([4, 0x2C, 0x01, 100, 10, 7, 0xFF, 0xFF]);
        assert_eq!(state(first), [4, 300, 100, 10, 7]);
        assert_eq!(state(u64::MAX), [255, 65535, 255, 255, 255]);
    }
}
