//! The time zone, as tzset(3) finds it: what TZ says, else /etc/localtime, else UTC.
//!
//! TZ names a file (from the root, or below /usr/share/zoneinfo) or is a rule in itself. What is
//! neither, and a file that cannot be read or makes no sense, is UTC.

use crate::base::path::Path;
use crate::parse::posix_tz::{self, Zone};
use crate::parse::tzfile;
use crate::sys::root::{Root, relative};

const UTC: Zone<'_> = (0, b"UTC");

/// Where the zone of this machine is, or a link to it.
const LOCALTIME: &[u8] = b"etc/localtime";

/// The longest link that is followed below the root rather than by the kernel, in bytes: twice the
/// longest that leads to a zone.
const LINK_BYTES: usize = 128;

/// Seconds east of UTC, and the abbreviation, in force at `unix_seconds`. `told` is what TZ says;
/// `buffer` is for the zone's file.
pub fn at<'b>(
    root: &Root,
    told: Option<&'b [u8]>,
    unix_seconds: i64,
    buffer: &'b mut [u8],
) -> Zone<'b> {
    let told = told.map(|told| told.strip_prefix(b":").unwrap_or(told));
    let room = &mut buffer[..LINK_BYTES];
    let mut path = Path::of(&[LOCALTIME]);
    let (folder, name): (&[u8], &[u8]) = match told {
        Some(name) if name.starts_with(b"/") => (b"", name),
        Some(name) => (b"usr/share/zoneinfo/", name),
        None => match root.link(&path, room) {
            // A link that begins at the root means this root.
            Ok(target) if target.starts_with(b"/") => (b"", target),
            _ => (b"", LOCALTIME),
        },
    };
    path.truncate(0);
    path.push(folder);
    path.push(relative(name));
    let mut zone = UTC;
    let room = buffer.len();
    let file = root.read(&path, buffer).unwrap_or_default();
    // One that fills the buffer may be cut short.
    let is_known = file.len() < room && tzfile::at(file, unix_seconds, &mut zone).is_some();
    if !is_known && let Some(rule) = told {
        let _ = posix_tz::at(rule, unix_seconds, &mut zone);
    }
    zone
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::fs::symlink;

    const KATHMANDU: &[u8] = include_bytes!("../../tests/fixtures/tz/Kathmandu");
    const NEW_YORK: &[u8] = include_bytes!("../../tests/fixtures/tz/New_York");
    /// 15 July 2024.
    const SUMMER: i64 = 1_721_000_000;

    fn machine(name: &str) -> (std::path::PathBuf, Root) {
        let path = std::env::temp_dir().join(format!("gaunt-zone-{}-{name}", std::process::id()));
        let zones = path.join("usr/share/zoneinfo/Made");
        fs::create_dir_all(&zones).unwrap();
        fs::create_dir_all(path.join("etc")).unwrap();
        fs::write(zones.join("Up"), KATHMANDU).unwrap();
        fs::write(zones.join("York"), NEW_YORK).unwrap();
        fs::write(zones.join("Broken"), &KATHMANDU[..60]).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        (path, root)
    }

    fn zone(root: &Root, told: Option<&str>) -> (i64, String) {
        let mut buffer = [0; 4096];
        let (offset, name) = at(root, told.map(str::as_bytes), SUMMER, &mut buffer);
        (offset, String::from_utf8(name.to_vec()).unwrap())
    }

    #[test]
    fn localtime_is_a_file_or_a_link_of_either_kind() {
        let (path, root) = machine("localtime");
        let localtime = path.join("etc/localtime");
        assert_eq!(zone(&root, None), (0, "UTC".into()));
        for target in [
            "/usr/share/zoneinfo/Made/Up",
            "../usr/share/zoneinfo/Made/Up",
        ] {
            symlink(target, &localtime).unwrap();
            assert_eq!(zone(&root, None), (20_700, "+0545".into()), "{target}");
            fs::remove_file(&localtime).unwrap();
        }
        symlink("/nowhere", &localtime).unwrap();
        assert_eq!(zone(&root, None), (0, "UTC".into()));
        fs::remove_file(&localtime).unwrap();
        fs::write(&localtime, NEW_YORK).unwrap();
        assert_eq!(zone(&root, None), (-14_400, "EDT".into()));
        fs::write(&localtime, "nonsense").unwrap();
        assert_eq!(zone(&root, None), (0, "UTC".into()));
        let large = [NEW_YORK, &[b' '; 4096]].concat();
        fs::write(&localtime, large).unwrap();
        assert_eq!(zone(&root, None), (0, "UTC".into()));
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn tz_names_a_file_or_is_a_rule() {
        let (path, root) = machine("told");
        for (told, offset, name) in [
            ("", 0, "UTC"),
            (":", 0, "UTC"),
            ("Made/York", -14_400, "EDT"),
            (":Made/York", -14_400, "EDT"),
            ("/usr/share/zoneinfo/Made/Up", 20_700, "+0545"),
            ("XXX3", -10_800, "XXX"),
            ("<+05>-5", 18_000, "+05"),
            ("EST5EDT,M3.2.0,M11.1.0", -14_400, "EDT"),
            ("Made", 0, "UTC"),
            ("Made/Broken", 0, "UTC"),
            ("Made/Nowhere", 0, "UTC"),
        ] {
            assert_eq!(zone(&root, Some(told)), (offset, name.into()), "{told}");
        }
        fs::remove_dir_all(path).unwrap();
    }
}
