//! Device properties without libudev: the `uevent` files of sysfs (`KEY=value` lines) and the
//! database of udevd, /run/udev/data/bMAJOR:MINOR (`E:KEY=value` lines; no documented format, but
//! libudev of every version reads it so).

use crate::base::text::cut;

/// The value of `key` in such a file; empty if it has none. Keys are `DEVNAME`, `DEVTYPE`... in sysfs,
/// `E:ID_SERIAL`, `E:DM_NAME`... in the database.
#[inline(never)]
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
    fn properties_are_found_by_their_whole_name() {
        assert_eq!(property(DATABASE, b"E:ID_SERIAL"), b"abc def=1");
        assert_eq!(property(DATABASE, b"E:ID_SERIAL_SHORT"), b"x");
        assert_eq!(property(DATABASE, b"E:ID_PATH"), b"pci-0000:00:04.0");
        assert_eq!(property(DATABASE, b"E:DM_NAME"), b"");
        assert_eq!(property(DATABASE, b"E:ID"), b"");
        assert_eq!(property(DATABASE, b"ID_PATH"), b"");
    }

    #[test]
    fn a_uevent_file_is_read() {
        let file = b"MAJOR=254\nMINOR=1\nDEVNAME=vda1\nDEVTYPE=partition\nPARTN=1\n";
        assert_eq!(property(file, b"DEVNAME"), b"vda1");
        assert_eq!(property(file, b"DEVTYPE"), b"partition");
        assert_eq!(property(file, b"DEV"), b"");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        torture(DATABASE, |bytes| {
            property(bytes, b"E:ID_SERIAL");
            property(bytes, b"E:DM_NAME");
        });
    }
}
