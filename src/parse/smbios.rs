//! The SMBIOS table as /sys/firmware/dmi/tables/DMI has it (DMTF DSP0134): the OEM strings, structures
//! of type 11, in which QEMU puts `-smbios type=11,value=...`.
//!
//! A structure is its type, the length of its fields, a handle, the fields, and strings, each with a
//! NUL at its end and one more after the last. Reading ends at the first structure that is not whole,
//! or whose length is none.

use crate::base::text;

/// The type of the OEM strings.
const OEM_STRINGS: u8 = 11;
/// The type of the last structure.
const END: u8 = 127;
/// Bytes before the fields; the length counts them.
const HEADER_BYTES: u8 = 4;

/// Calls `each` with every OEM string.
pub fn oem_strings(table: &[u8], each: &mut dyn FnMut(&[u8])) {
    let mut rest = table;
    while let Some((&[kind, len], _)) = rest.split_first_chunk()
        && kind != END
        && len >= HEADER_BYTES
        && let Some(strings) = rest.get(len.into()..)
    {
        // Without strings there are two NULs as well.
        rest = strings.strip_prefix(b"\0").unwrap_or(strings);
        loop {
            let string = text::cut(&mut rest, 0);
            if string.is_empty() || rest.is_empty() {
                break;
            }
            if kind == OEM_STRINGS {
                each(string);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    const SAMPLE: &[u8] = b"\x00\x06\0\0\x01\x02SeaBIOS\x001.16\0\0\
        \x01\x05\x01\0\0\0\0\
        \x0b\x05\0\x0e\x02one=1\0two=2\0\0\
        \x0b\x05\x01\x0e\x01three\0\0\
        \x7f\x04\0\x7f\0\0\
        \x0b\x05\0\x0e\x01late\0\0";

    fn all(table: &[u8]) -> Vec<String> {
        let mut all = Vec::new();
        oem_strings(table, &mut |text| {
            all.push(str::from_utf8(text).unwrap().to_owned())
        });
        all
    }

    #[test]
    fn yields_the_strings_of_type_11_up_to_the_end() {
        assert_eq!(all(SAMPLE), ["one=1", "two=2", "three"]);
    }

    #[test]
    fn ends_at_a_structure_that_is_not_whole() {
        for len in 0..SAMPLE.len() {
            // The byte behind a string is its NUL; the one behind that shows that it is not the last.
            let whole = [(39, "one=1"), (45, "two=2"), (57, "three")];
            let expected = whole.into_iter().filter(|(end, _)| len >= *end);
            let expected: Vec<_> = expected.map(|(_, text)| text).collect();
            assert_eq!(all(&SAMPLE[..len]), expected, "{len}");
        }
        for len in 0..4 {
            assert!(all(&[11, len, 0, 0, b'x', 0, 0, 11, 4, 0, 0, b'x', 0, 0]).is_empty());
        }
        assert!(all(b"\x0b\xffxx\0\0").is_empty());
    }

    #[test]
    fn no_input_panics() {
        torture(SAMPLE, |bytes| {
            oem_strings(bytes, &mut |text| assert!(!text.is_empty()));
        });
    }
}
