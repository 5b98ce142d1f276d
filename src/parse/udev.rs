//! Device properties: `uevent` files of sysfs and the database of udevd.
//!
//! A `uevent` file has `KEY=value` lines. The database, /run/udev/data/bMAJOR:MINOR, has `E:KEY=value`
//! lines among others. Its format is not documented, but every version of libudev reads it.

use crate::base::text::cut;

/// Returns the value of `key`, or an empty one if the file does not have it. Keys of the database begin
/// with `E:`.
pub fn property<'a>(file: &'a [u8], key: &[u8]) -> &'a [u8] {
    let mut rest = file;
    while !rest.is_empty() {
        let mut value = cut(&mut rest, b'\n');
        if cut(&mut value, b'=') == key {
            return value;
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    const DATABASE: &[u8] = b"S:disk/by-id/virtio-abc\nW:3\nI:1534209\nE:ID_SERIAL=abc def=1\n\
E:ID_SERIAL_SHORT=x\nE:DM_NAME=\nE:ID_PATH=pci-0000:00:04.0\nG:systemd\n";

    #[test]
    fn keys_are_compared_whole() {
        assert_eq!(property(DATABASE, b"E:ID_SERIAL"), b"abc def=1");
        assert_eq!(property(DATABASE, b"E:ID_SERIAL_SHORT"), b"x");
        assert_eq!(property(DATABASE, b"E:ID_PATH"), b"pci-0000:00:04.0");
        assert_eq!(property(DATABASE, b"E:DM_NAME"), b"");
        assert_eq!(property(DATABASE, b"E:ID"), b"");
        assert_eq!(property(DATABASE, b"ID_PATH"), b"");
    }

    #[test]
    fn reads_a_uevent_file() {
        let file = b"MAJOR=254\nMINOR=1\nDEVNAME=vda1\nDEVTYPE=partition\nPARTN=1\n";
        assert_eq!(property(file, b"DEVNAME"), b"vda1");
        assert_eq!(property(file, b"DEVTYPE"), b"partition");
        assert_eq!(property(file, b"DEV"), b"");
    }

    #[test]
    fn no_input_panics() {
        torture(DATABASE, |bytes| {
            property(bytes, b"E:ID_SERIAL");
            property(bytes, b"E:DM_NAME");
        });
    }
}
