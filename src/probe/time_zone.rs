//! The time zone, as tzset(3) finds it: what TZ says, else /etc/localtime, else UTC. Without
//! /etc/localtime it is what /etc/TZ says, as for uClibc and in OpenWrt.
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

/// The longest /etc/TZ that is understood, in bytes: ten times a rule with both changes of the year.
const RULE_BYTES: usize = 512;

/// Seconds east of UTC, and the abbreviation, in force at `unix_seconds`. `told` is what TZ says;
/// `buffer` is for the zone's file.
pub fn at<'b>(
    root: &Root,
    told: Option<&'b [u8]>,
    unix_seconds: i64,
    buffer: &'b mut [u8],
) -> Zone<'b> {
    let (rule, buffer) = buffer.split_at_mut(RULE_BYTES.min(buffer.len()));
    let mut path = local_time(root, &mut buffer[..LINK_BYTES]);
    let mut told = told;
    if told.is_none() && root.file_at(&[path.as_bytes()]).is_err() {
        told = written(root, rule);
    }
    let told = told.map(|told| told.strip_prefix(b":").unwrap_or(told));
    if let Some(name) = told {
        let folder: &[u8] = if name.starts_with(b"/") {
            b""
        } else {
            b"usr/share/zoneinfo/"
        };
        path = Path::of(&[folder, relative(name)]);
    }
    let room = buffer.len();
    let file = root.read_at(&[path.as_bytes()], buffer).unwrap_or_default();
    // One that fills the buffer may be cut short.
    let mut zone = None;
    if file.len() < room {
        zone = tzfile::at(file, unix_seconds);
    }
    zone.or_else(|| posix_tz::at(told?, unix_seconds))
        .unwrap_or(UTC)
}

/// The file of this machine's zone. A link to it that begins at the root means this root.
fn local_time(root: &Root, room: &mut [u8]) -> Path {
    match root.link_at(&[LOCALTIME], room) {
        Ok(target) if target.starts_with(b"/") => Path::of(&[relative(target)]),
        _ => Path::of(&[LOCALTIME]),
    }
}

/// What /etc/TZ says.
fn written<'b>(root: &Root, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let text = root.read_at(&[b"etc/TZ"], buffer).ok()?;
    // One that fills the buffer may be cut short.
    (text.len() < RULE_BYTES).then(|| text.trim_ascii())
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
    fn without_localtime_the_zone_is_what_is_written_in_tz() {
        let (path, root) = machine("written");
        let file = path.join("etc/TZ");
        for (text, offset, name) in [
            ("<-03>3\n", -10_800, "-03"),
            (" EST5EDT,M3.2.0,M11.1.0 \n\n", -14_400, "EDT"),
            (":Made/Up\n", 20_700, "+0545"),
            ("nonsense\n", 0, "UTC"),
            ("\n", 0, "UTC"),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(zone(&root, None), (offset, name.into()), "{text}");
        }
        fs::write(&file, [b"XXX3\n", &[b' '; RULE_BYTES][..]].concat()).unwrap();
        assert_eq!(zone(&root, None), (0, "UTC".into()));
        fs::write(&file, "XXX3\n").unwrap();
        // In OpenWrt the link is there whether or not its target is.
        for target in ["/tmp/no-localtime", "../tmp/no-localtime"] {
            symlink(target, path.join("etc/localtime")).unwrap();
            assert_eq!(zone(&root, None), (-10_800, "XXX".into()), "{target}");
            assert_eq!(zone(&root, Some("UTC0")), (0, "UTC".into()));
            fs::remove_file(path.join("etc/localtime")).unwrap();
        }
        fs::write(path.join("etc/localtime"), NEW_YORK).unwrap();
        assert_eq!(zone(&root, None), (-14_400, "EDT".into()));
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
