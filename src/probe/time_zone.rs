//! The time zone, as tzset(3) finds it: from TZ, else from /etc/localtime, else UTC. Without
//! /etc/localtime it comes from /etc/TZ, as in uClibc and OpenWrt.
//!
//! TZ is the name of a file, absolute or below /usr/share/zoneinfo, or a rule. An invalid TZ, and a
//! file that cannot be read or parsed, mean UTC.

use crate::base::path::Path;
use crate::parse::posix_tz::{self, Zone};
use crate::parse::tzfile;
use crate::sys::root::{Root, relative};

const UTC: Zone<'_> = (0, b"UTC");

/// The file with the zone of this machine, or a link to it.
const LOCALTIME: &[u8] = b"etc/localtime";

/// Bytes of the longest absolute link that is resolved below the root. Twice the length of the
/// longest link to a zone. The kernel follows longer links.
const LINK_BYTES: usize = 128;

/// Bytes of the longest /etc/TZ. Ten times the length of a rule with both changes of the year.
const RULE_BYTES: usize = 512;

/// Returns the seconds east of UTC and the abbreviation in force at `unix_seconds`. `tz` is the
/// value of TZ. `buffer` is for /etc/TZ and the file of the zone.
pub fn at<'b>(
    root: &Root,
    tz: Option<&'b [u8]>,
    unix_seconds: i64,
    buffer: &'b mut [u8],
) -> Zone<'b> {
    let (rule, buffer) = buffer.split_at_mut(RULE_BYTES.min(buffer.len()));
    let mut path = local_time(root, &mut buffer[..LINK_BYTES]);
    let mut tz = tz;
    if tz.is_none() && root.file_at(&[path.as_bytes()]).is_err() {
        tz = read_etc_tz(root, rule);
    }
    let tz = tz.map(|tz| tz.strip_prefix(b":").unwrap_or(tz));
    if let Some(name) = tz {
        let folder: &[u8] = if name.starts_with(b"/") {
            b""
        } else {
            b"usr/share/zoneinfo/"
        };
        path = Path::of(&[folder, relative(name)]);
    }
    let room = buffer.len();
    let file = root.read_at(&[path.as_bytes()], buffer).unwrap_or_default();
    // A file that fills the buffer may be incomplete.
    let mut zone = None;
    if file.len() < room {
        zone = tzfile::at(file, unix_seconds);
    }
    zone.or_else(|| posix_tz::at(tz?, unix_seconds))
        .unwrap_or(UTC)
}

/// The path of the file with the zone of this machine. An absolute link is resolved below `root`.
fn local_time(root: &Root, room: &mut [u8]) -> Path {
    match root.link_at(&[LOCALTIME], room) {
        Ok(target) if target.starts_with(b"/") => Path::of(&[relative(target)]),
        _ => Path::of(&[LOCALTIME]),
    }
}

/// Reads /etc/TZ.
fn read_etc_tz<'b>(root: &Root, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let text = root.read_at(&[b"etc/TZ"], buffer).ok()?;
    // A file that fills the buffer may be incomplete.
    (text.len() < RULE_BYTES).then(|| text.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;
    use std::fs;

    const KATHMANDU: &[u8] = include_bytes!("../../tests/fixtures/tz/Kathmandu");
    const NEW_YORK: &[u8] = include_bytes!("../../tests/fixtures/tz/New_York");
    /// 15 July 2024.
    const SUMMER: i64 = 1_721_000_000;

    fn machine() -> Tree {
        let tree = Tree::new();
        tree.file("usr/share/zoneinfo/Made/Up", KATHMANDU);
        tree.file("usr/share/zoneinfo/Made/York", NEW_YORK);
        tree.file("usr/share/zoneinfo/Made/Broken", &KATHMANDU[..60]);
        tree.directory("etc");
        tree
    }

    fn zone(root: &Root, tz: Option<&str>) -> (i64, String) {
        let mut buffer = [0; 4096];
        let (offset, name) = at(root, tz.map(str::as_bytes), SUMMER, &mut buffer);
        (offset, String::from_utf8(name.to_vec()).unwrap())
    }

    #[test]
    fn reads_localtime_as_a_file_or_a_link() {
        let tree = machine();
        let localtime = tree.path.join("etc/localtime");
        assert_eq!(zone(&tree.root, None), (0, "UTC".into()));
        for target in [
            "/usr/share/zoneinfo/Made/Up",
            "../usr/share/zoneinfo/Made/Up",
        ] {
            tree.link("etc/localtime", target);
            assert_eq!(zone(&tree.root, None), (20_700, "+0545".into()), "{target}");
            fs::remove_file(&localtime).unwrap();
        }
        tree.link("etc/localtime", "/nowhere");
        assert_eq!(zone(&tree.root, None), (0, "UTC".into()));
        fs::remove_file(&localtime).unwrap();
        tree.file("etc/localtime", NEW_YORK);
        assert_eq!(zone(&tree.root, None), (-14_400, "EDT".into()));
        tree.file("etc/localtime", "nonsense");
        assert_eq!(zone(&tree.root, None), (0, "UTC".into()));
        let large = [NEW_YORK, &[b' '; 4096]].concat();
        tree.file("etc/localtime", large);
        assert_eq!(zone(&tree.root, None), (0, "UTC".into()));
    }

    #[test]
    fn reads_etc_tz_without_localtime() {
        let tree = machine();
        for (text, offset, name) in [
            ("<-03>3\n", -10_800, "-03"),
            (" EST5EDT,M3.2.0,M11.1.0 \n\n", -14_400, "EDT"),
            (":Made/Up\n", 20_700, "+0545"),
            ("nonsense\n", 0, "UTC"),
            ("\n", 0, "UTC"),
        ] {
            tree.file("etc/TZ", text);
            assert_eq!(zone(&tree.root, None), (offset, name.into()), "{text}");
        }
        tree.file("etc/TZ", [b"XXX3\n", &[b' '; RULE_BYTES][..]].concat());
        assert_eq!(zone(&tree.root, None), (0, "UTC".into()));
        tree.file("etc/TZ", "XXX3\n");
        // In OpenWrt the link exists even if its target does not.
        for target in ["/tmp/no-localtime", "../tmp/no-localtime"] {
            tree.link("etc/localtime", target);
            assert_eq!(zone(&tree.root, None), (-10_800, "XXX".into()), "{target}");
            assert_eq!(zone(&tree.root, Some("UTC0")), (0, "UTC".into()));
            fs::remove_file(tree.path.join("etc/localtime")).unwrap();
        }
        tree.file("etc/localtime", NEW_YORK);
        assert_eq!(zone(&tree.root, None), (-14_400, "EDT".into()));
    }

    #[test]
    fn accepts_a_file_name_or_a_rule_in_tz() {
        let tree = machine();
        for (tz, offset, name) in [
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
            assert_eq!(zone(&tree.root, Some(tz)), (offset, name.into()), "{tz}");
        }
    }
}
