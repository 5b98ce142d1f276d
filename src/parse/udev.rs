//! Device properties without libudev: the `uevent` files of sysfs (`KEY=value` lines) and the
//! database of udevd, /run/udev/data/bMAJOR:MINOR (`E:KEY=value` lines; no documented format, but
//! libudev of every version reads it so).

use super::lines;

/// The value of `key` in a `uevent` file of sysfs: `DEVNAME`, `DEVTYPE`, `DRIVER`, `PARTN`...
pub fn uevent<'a>(file: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    lines(file).find_map(|line| line.strip_prefix(key)?.strip_prefix(b"="))
}

/// The value of property `key` in a database file: `ID_SERIAL`, `DM_NAME`...
///
/// An empty value is as good as none.
pub fn property<'a>(file: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut properties = lines(file).filter_map(|line| line.strip_prefix(b"E:"));
    let value = properties.find_map(|line| line.strip_prefix(key)?.strip_prefix(b"="));
    value.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    const DATABASE: &[u8] = b"S:disk/by-id/virtio-abc\nW:3\nI:1534209\nE:ID_SERIAL=abc def\n\
E:ID_SERIAL_SHORT=x\nE:DM_NAME=\nE:ID_PATH=pci-0000:00:04.0\nG:systemd\n";

    #[test]
    fn properties_are_found_by_their_whole_name() {
        assert_eq!(property(DATABASE, b"ID_SERIAL"), Some(&b"abc def"[..]));
        assert_eq!(property(DATABASE, b"ID_SERIAL_SHORT"), Some(&b"x"[..]));
        assert_eq!(
            property(DATABASE, b"ID_PATH"),
            Some(&b"pci-0000:00:04.0"[..])
        );
        assert_eq!(property(DATABASE, b"DM_NAME"), None);
        assert_eq!(property(DATABASE, b"ID"), None);
    }

    #[test]
    fn a_uevent_file_is_read() {
        let file = b"MAJOR=254\nMINOR=1\nDEVNAME=vda1\nDEVTYPE=partition\nPARTN=1\n";
        assert_eq!(uevent(file, b"DEVNAME"), Some(&b"vda1"[..]));
        assert_eq!(uevent(file, b"DEVTYPE"), Some(&b"partition"[..]));
        assert_eq!(uevent(file, b"DEV"), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        torture(DATABASE, |bytes| {
            property(bytes, b"ID_SERIAL");
            uevent(bytes, b"DEVNAME");
        });
    }
}
