//! Mount table lines, as proc(5) describes /proc/PID/mountinfo.
//!
//! Fields are borrowed and still octal-escaped: [`unescape`](super::unescape) decodes them. A line
//! that does not parse is `None`, so that callers can skip it: one odd mount must not hide the others.
//! Exactly one blank separates two fields, because a source may be empty. Any number of optional fields
//! may stand before the lone dash: they are ignored.

use super::split_once;
use crate::base::text::{cut, parse_u32, parse_u64};

/// One mount, without the fields that the agent does not need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// Mount ID. The kernel may reuse it after the mount is gone.
    pub number: u64,
    /// Mount ID of the parent mount.
    pub parent: u64,
    /// Major device number; 0 if the file system is not on a block device.
    pub major: u32,
    /// Minor device number.
    pub minor: u32,
    /// Mount point, escaped.
    pub mount_point: &'a [u8],
    /// File system type, with its subtype if it has one (`fuse.sshfs`), escaped.
    pub kind: &'a [u8],
    /// Mount source, escaped; may be empty.
    pub source: &'a [u8],
    /// Whether the super block is writable. This mount may be read-only nevertheless.
    pub is_writable: bool,
}

impl Mount<'_> {
    /// Returns major and minor device number.
    pub fn device(&self) -> (u32, u32) {
        (self.major, self.minor)
    }
}

/// Parses a line without its line feed.
pub fn parse(line: &[u8]) -> Option<Mount<'_>> {
    let mut rest = line;
    let number = parse_u64(cut(&mut rest, b' '))?;
    let parent = parse_u64(cut(&mut rest, b' '))?;
    let (major, minor) = device(cut(&mut rest, b' '))?;
    let _root = cut(&mut rest, b' ');
    let mount_point = cut(&mut rest, b' ');
    let _mount_options = cut(&mut rest, b' ');
    while cut(&mut rest, b' ') != b"-" {
        if rest.is_empty() {
            return None;
        }
    }
    let mut last_fields = rest;
    let kind = cut(&mut last_fields, b' ');
    // The source may be empty, but its field may not be missing.
    if kind.is_empty() || kind.len() == rest.len() {
        return None;
    }
    Some(Mount {
        number,
        parent,
        major,
        minor,
        mount_point,
        kind,
        source: cut(&mut last_fields, b' '),
        is_writable: cut(&mut cut(&mut last_fields, b' '), b',') == b"rw",
    })
}

/// Parses a device number `major:minor`, also of a `dev` file in sysfs.
pub fn device(text: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = split_once(text.trim_ascii(), b':')?;
    Some((parse_u32(major)?, parse_u32(minor)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;
    use crate::parse::unescape;

    fn plain(field: &[u8]) -> Vec<u8> {
        unescape(field).collect()
    }

    #[test]
    fn parses_the_example_of_proc_5() {
        let line =
            b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = parse(line).unwrap();
        assert_eq!((mount.number, mount.parent), (36, 35));
        assert_eq!((mount.major, mount.minor), (98, 0));
        assert_eq!(mount.mount_point, b"/mnt2");
        assert_eq!(mount.kind, b"ext3");
        assert_eq!(mount.source, b"/dev/root");
        assert!(mount.is_writable);
    }

    #[test]
    fn the_options_of_the_super_block_decide_whether_it_is_writable() {
        for (options, expected) in [
            ("rw", true),
            ("rw,errors=continue", true),
            ("ro", false),
            ("ro,rw", false),
            ("rwx", false),
            ("", false),
        ] {
            let line = format!("1 2 8:1 / / ro - ext4 /dev/sda1 {options}");
            assert_eq!(
                parse(line.as_bytes()).unwrap().is_writable,
                expected,
                "{options}"
            );
        }
        assert!(
            !parse(b"1 2 8:1 / / rw - ext4 /dev/sda1")
                .unwrap()
                .is_writable
        );
    }

    #[test]
    fn any_number_of_optional_fields_is_skipped() {
        let none = b"22 27 0:21 / /proc rw,relatime - proc proc rw";
        assert_eq!(parse(none).unwrap().kind, b"proc");
        let many =
            b"1 2 8:1 / / rw shared:1 master:2 propagate_from:3 unbindable - xfs /dev/sda1 rw";
        assert_eq!(parse(many).unwrap().source, b"/dev/sda1");
    }

    #[test]
    fn an_empty_source_does_not_shift_the_fields() {
        let mount = parse(b"40 27 0:35 / /tmp rw - tmpfs  rw,size=1k").unwrap();
        assert_eq!(mount.source, b"");
        assert_eq!(mount.kind, b"tmpfs");
    }

    #[test]
    fn unescape_decodes_octal_numbers_and_backslashes() {
        let mount =
            parse(br"1 2 7:0 / /a\040b\134c\011\012\043 rw - ext4 /dev/my\040disk rw").unwrap();
        assert_eq!(plain(mount.mount_point), b"/a b\\c\t\n#");
        assert_eq!(plain(mount.source), b"/dev/my disk");
        assert_eq!(plain(br"\\040"), br"\040");
        assert_eq!(plain(br"\400\04\9\"), br"\400\04\9\");
        assert_eq!(plain(br"\377\303\244"), b"\xff\xc3\xa4");
    }

    #[test]
    fn invalid_lines_are_none() {
        for line in [
            &b""[..],
            b"1",
            b"x 2 8:1 / / rw - ext4 /dev/sda1 rw",
            b"1  8:1 / / rw - ext4 /dev/sda1 rw",
            b"1 2 x8:1 / / rw - ext4 /dev/sda1 rw",
            b"1 2 8 / / rw - ext4 /dev/sda1 rw",
            b"1 2 8: / / rw - ext4 /dev/sda1 rw",
            b"1 2 8:1 / / rw ext4 /dev/sda1 rw",
            b"1 2 8:1 / / rw -",
            b"1 2 8:1 / / rw -  /dev/sda1",
            b"1 2 8:1 / / rw - ext4",
        ] {
            assert_eq!(parse(line), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn every_mount_of_this_machine_parses() {
        let Ok(table) = std::fs::read("/proc/self/mountinfo") else {
            return;
        };
        for line in super::super::lines(&table).filter(|line| !line.is_empty()) {
            let mount = parse(line).unwrap();
            assert!(
                mount.mount_point.starts_with(b"/"),
                "{}",
                line.escape_ascii()
            );
        }
    }

    #[test]
    fn device_numbers_are_read() {
        assert_eq!(device(b"259:65536\n"), Some((259, 65536)));
        assert_eq!(device(b"259"), None);
    }

    #[test]
    fn no_input_panics() {
        torture(
            br"36 35 98:0 / /mnt\0402 rw master:1 - ext3 /dev/root rw,a=1",
            |bytes| {
                if let Some(mount) = parse(bytes) {
                    assert!(unescape(mount.mount_point).count() <= mount.mount_point.len());
                }
            },
        );
    }
}
