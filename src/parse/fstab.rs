//! File system table lines, as fstab(5) and mount(8) describe them; /proc/self/mounts looks alike.
//!
//! Fields are borrowed and still octal-escaped ([`unescape`](super::mountinfo::unescape) undoes it).
//! Options are parted into flags, which mean the same for every file system, and data, which is
//! passed to the file system as it stands. Among options that contradict each other the last wins.
//! How mounts propagate is set by a second call of mount(2), which takes no other option.
//! A line that does not parse is skipped.
//! Finding the device of a tag (`UUID=...`) is not done here.

use super::{lines, split_once, word_index, words};
use crate::base::path::Path;

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What to mount: a path, a tag such as `UUID=...`, or any word; escaped.
    pub source: &'a [u8],
    /// Where; escaped. `none` for swap.
    pub target: &'a [u8],
    /// File system type; `swap`, `auto` and lists such as `ext4,xfs` occur.
    pub kind: &'a [u8],
    /// Options, parted by commas; empty if the line has none.
    pub options: &'a [u8],
}

/// The entries of an fstab file, in order.
pub fn entries(file: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    lines(file).filter_map(parse)
}

/// The entry on one fstab line, unless it is blank, a comment, or too short.
pub fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut fields = words(line);
    let source = fields.next().filter(|source| !source.starts_with(b"#"))?;
    Some(Entry {
        source,
        target: fields.next()?,
        kind: fields.next()?,
        options: fields.next().unwrap_or_default(),
    })
}

/// The entry on one line of /proc/self/mounts, where one blank parts two fields and the source may
/// be empty.
pub fn parse_mounts(line: &[u8]) -> Option<Entry<'_>> {
    let mut fields = line.split(|byte| *byte == b' ');
    Some(Entry {
        source: fields.next()?,
        target: fields.next()?,
        kind: fields.next().filter(|kind| !kind.is_empty())?,
        options: fields.next().unwrap_or_default(),
    })
}

/// Tag and value of a source such as `UUID=1234` or `LABEL="root"`; `None` for a path or a word.
pub fn tag(source: &[u8]) -> Option<(&[u8], &[u8])> {
    let (tag, value) = split_once(source, b'=').filter(|(tag, _)| !tag.contains(&b'/'))?;
    let quoted = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""));
    Some((tag, quoted.unwrap_or(value)))
}

/// The options of a comma-separated list; commas between double quotes do not part.
pub fn options(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    list.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    })
    .filter(|option| !option.is_empty())
}

/// A set of the options that mean the same for every file system. Those that the kernel knows have
/// its bits, linux/mount.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u64);

impl Flags {
    /// `ro`.
    pub const READ_ONLY: Self = Self(1);
    /// `nosuid`.
    pub const NO_SUID: Self = Self(1 << 1);
    /// `nodev`.
    pub const NO_DEV: Self = Self(1 << 2);
    /// `noexec`.
    pub const NO_EXEC: Self = Self(1 << 3);
    /// `sync`.
    pub const SYNC: Self = Self(1 << 4);
    /// `remount`.
    pub const REMOUNT: Self = Self(1 << 5);
    /// `dirsync`.
    pub const DIR_SYNC: Self = Self(1 << 7);
    /// `nosymfollow`.
    pub const NO_SYMLINK_FOLLOW: Self = Self(1 << 8);
    /// `noatime`.
    pub const NO_ATIME: Self = Self(1 << 10);
    /// `nodiratime`.
    pub const NO_DIR_ATIME: Self = Self(1 << 11);
    /// `bind`.
    pub const BIND: Self = Self(1 << 12);
    /// `rbind`.
    pub const BIND_ALL: Self = Self(1 << 12 | 1 << 14);
    /// `silent`.
    pub const SILENT: Self = Self(1 << 15);
    /// `relatime`.
    pub const REL_ATIME: Self = Self(1 << 21);
    /// `strictatime`.
    pub const STRICT_ATIME: Self = Self(1 << 24);
    /// `lazytime`.
    pub const LAZY_TIME: Self = Self(1 << 25);

    /// `loop`: the source is a file, to be given a loop device first.
    pub const LOOP: Self = Self(1 << 16);
    /// `noauto`: only to be mounted when asked for.
    pub const NO_AUTO: Self = Self(1 << 17);
    /// `nofail`: a missing device is no error.
    pub const NO_FAIL: Self = Self(1 << 18);
    /// `_netdev`: needs the network.
    pub const NETWORK: Self = Self(1 << 19);

    /// How mounts propagate: `unbindable`, `private`, `slave`, `shared`, then their recursive forms
    /// (`rprivate` …). The last one in the options counts.
    const PROPAGATION: Self = Self(0xFF << PROPAGATION_BIT);

    /// What is not to be mounted here and now.
    pub const NOT_NOW: Self = Self(Self::NO_AUTO.0 | Self::NETWORK.0);

    /// Those that the kernel knows.
    const KERNEL: u32 = 0x03A0_DDBF;

    const NONE: Self = Self(0);
    const ATIMES: Self = Self(Self::NO_ATIME.0 | Self::REL_ATIME.0 | Self::STRICT_ATIME.0);
    const NO_SUID_DEV: Self = Self(Self::NO_SUID.0 | Self::NO_DEV.0);
    const RESTRICTED: Self = Self(Self::NO_SUID_DEV.0 | Self::NO_EXEC.0);
    const DEFAULTS: Self =
        Self(Self::READ_ONLY.0 | Self::RESTRICTED.0 | Self::NO_AUTO.0 | Self::SYNC.0);

    /// The flags that an option list ends up with. What its other options say, data for the file
    /// system itself, is appended to `data`.
    pub fn read(list: &[u8], data: &mut Path) -> Self {
        let mut flags = 0;
        for option in options(list) {
            if let Some(change) = meaning(option) {
                flags = flags & !change.clear.0 | change.set.0;
                continue;
            }
            if !data.is_empty() {
                data.push(b",");
            }
            data.push(option);
        }
        Self(flags)
    }

    /// What the kernel is told.
    pub fn for_kernel(self) -> u32 {
        self.0 as u32 & Self::KERNEL
    }

    /// What it is told then by a call of its own; 0 if nothing.
    pub fn propagation(self) -> u32 {
        let both = (self.0 & Self::PROPAGATION.0) >> PROPAGATION_BIT;
        // The kernel has one bit for what is mounted below, MS_REC.
        let below = if both > 0xF { 1 << 14 } else { 0 };
        ((both | both >> 4) as u32 & 0xF) << 17 | below
    }

    /// Whether any of `flags` is in this set.
    pub fn has_any(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    /// Whether all of `flags` are in this set.
    pub fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

/// The first bit of those that say how mounts propagate.
const PROPAGATION_BIT: u32 = 26;

/// What an option does to the flags. Clearing comes first.
#[derive(Clone, Copy)]
struct Change {
    clear: Flags,
    set: Flags,
}

/// The options that set one flag, in the order of the flags' bits; `-` where there is none.
const SETTING: &[u8] = b"ro nosuid nodev noexec sync remount - dirsync nosymfollow - noatime \
nodiratime bind - rbind silent loop noauto nofail _netdev - relatime - iversion strictatime lazytime \
unbindable private slave shared runbindable rprivate rslave rshared";

/// The options that clear one flag, in the same order.
const CLEARING: &[u8] =
    b"rw suid dev exec async - - - symfollow - atime diratime - - - loud - auto \
- - - norelatime - noiversion nostrictatime nolazytime";

/// Options that no file system is to see: four that change nothing, four that set several flags, and
/// one that clears several.
const OTHERS: &[u8] = b"nouser nousers noowner nogroup user users owner group defaults";

/// What notes to mount(8), systemd and others begin with; no file system knows them.
const NOTES: &[u8] = b"x- X- comment= helper= uhelper=";

/// What `option` does to the flags, or `None` if it is the file system's own.
fn meaning(option: &[u8]) -> Option<Change> {
    let among = |names| Some(Flags(1u64.unbounded_shl(word_index(names, option)? as u32)));
    let mut change = Change {
        clear: Flags::NONE,
        set: Flags::NONE,
    };
    if let Some(set) = among(SETTING) {
        change.set = set;
        if Flags::ATIMES.has(set) {
            // The kernel keeps one way of noting access times.
            change.clear = Flags::ATIMES;
        } else if Flags::PROPAGATION.has(set) {
            change.clear = Flags::PROPAGATION;
        } else if Flags::BIND_ALL.has(set) {
            change.set.0 |= Flags::BIND.0;
        }
    } else if let Some(clear) = among(CLEARING) {
        change.clear = clear;
    } else if let Some(place) = word_index(OTHERS, option) {
        match place {
            0..4 => {}
            4..6 => change.set = Flags::RESTRICTED,
            6..8 => change.set = Flags::NO_SUID_DEV,
            _ => change.clear = Flags::DEFAULTS,
        }
    } else if option.starts_with(b"loop=") {
        change.set = Flags::LOOP;
    } else if !words(NOTES).any(|note| option.starts_with(note)) {
        return None;
    }
    Some(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::mountinfo::unescape;
    use crate::parse::testing::torture;

    impl Flags {
        fn of(list: &[u8]) -> Self {
            Self::read(list, &mut Path::new())
        }
    }

    fn data(list: &[u8]) -> impl Iterator<Item = &[u8]> {
        options(list).filter(|option| meaning(option).is_none())
    }

    #[test]
    fn data_is_joined_by_commas() {
        let mut data = Path::new();
        let flags = Flags::read(b"a=1,ro,b,_netdev,c", &mut data);
        assert_eq!(data.as_bytes(), b"a=1,b,c");
        assert_eq!(flags.for_kernel(), 1);
        assert!(flags.has_any(Flags::NETWORK) && !flags.has_any(Flags::NO_AUTO));
        assert_eq!(Flags(u64::MAX).for_kernel(), Flags::KERNEL);
    }

    const SAMPLE: &[u8] = b"\
# /etc/fstab: static file system information.
UUID=0a3407de-014b-458b-b5c1-848e92a327a3 /     ext4  errors=remount-ro,noatime 0 1
\t/dev/sdb1\t/srv/my\\040files\txfs\tdefaults,nofail,x-systemd.device-timeout=5s\t0\t2

LABEL=\"swap\" none swap sw
tmpfs /tmp tmpfs
short
proc /proc proc ro,rw,suid 0 0";

    #[test]
    fn entries_come_in_order_and_odd_lines_are_passed_over() {
        let all: Vec<_> = entries(SAMPLE).collect();
        assert_eq!(all.len(), 5);
        assert_eq!(tag(all[0].source), Some((&b"UUID"[..], &SAMPLE[51..87])));
        assert_eq!(all[0].target, b"/");
        assert_eq!(all[1].source, b"/dev/sdb1");
        assert!(unescape(all[1].target).eq(*b"/srv/my files"));
        assert_eq!(tag(all[1].source), None);
        assert_eq!(tag(all[2].source), Some((&b"LABEL"[..], &b"swap"[..])));
        assert_eq!(all[3].options, b"");
        assert_eq!(all[4].kind, b"proc");
    }

    #[test]
    fn flags_and_data_are_parted() {
        let list = b"rw,noatime,errors=remount-ro,x-systemd.automount,nofail,commit=5,nodev,";
        let flags = Flags::of(list);
        assert!(
            flags.has(Flags::NO_ATIME) && flags.has(Flags::NO_FAIL) && flags.has(Flags::NO_DEV)
        );
        assert!(!flags.has(Flags::READ_ONLY) && !flags.has(Flags::NO_EXEC));
        assert!(data(list).eq([&b"errors=remount-ro"[..], b"commit=5"]));
    }

    #[test]
    fn the_last_of_two_contradicting_options_wins() {
        assert_eq!(Flags::of(b"ro,rw"), Flags::default());
        assert_eq!(Flags::of(b"rw,ro"), Flags::READ_ONLY);
        assert_eq!(Flags::of(b"noatime,relatime"), Flags::REL_ATIME);
        assert_eq!(Flags::of(b"user"), Flags::RESTRICTED);
        assert_eq!(Flags::of(b"user,exec"), Flags::NO_SUID_DEV);
        assert_eq!(Flags::of(b"noauto,nofail,defaults"), Flags::NO_FAIL);
        assert_eq!(Flags::of(b"loop=/dev/loop0"), Flags::LOOP);
    }

    #[test]
    fn how_mounts_propagate_is_no_data() {
        let mut data = Path::new();
        let flags = Flags::read(b"mode=1777,rshared,nosuid", &mut data);
        assert_eq!(data.as_bytes(), b"mode=1777");
        assert_eq!(flags.for_kernel(), Flags::NO_SUID.for_kernel());
        // MS_REC, then MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE and MS_SHARED of linux/mount.h.
        assert_eq!(flags.propagation(), 1 << 14 | 1 << 20);
        let propagation = |list| Flags::of(list).propagation();
        assert_eq!(propagation(b"unbindable"), 1 << 17);
        assert_eq!(propagation(b"rshared,private"), 1 << 18);
        assert_eq!(propagation(b"private,rslave,ro"), 1 << 14 | 1 << 19);
        assert_eq!(propagation(b"defaults"), 0);
        for word in ["", "r", "rr", "rro", "rrshared", "sharedr"] {
            assert!(meaning(word.as_bytes()).is_none(), "{word}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn every_flag_stands_where_its_names_do() {
        for (name, flag) in [
            (&b"ro"[..], Flags::READ_ONLY),
            (b"nosuid", Flags::NO_SUID),
            (b"nodev", Flags::NO_DEV),
            (b"noexec", Flags::NO_EXEC),
            (b"sync", Flags::SYNC),
            (b"dirsync", Flags::DIR_SYNC),
            (b"noatime", Flags::NO_ATIME),
            (b"nodiratime", Flags::NO_DIR_ATIME),
            (b"relatime", Flags::REL_ATIME),
            (b"strictatime", Flags::STRICT_ATIME),
            (b"lazytime", Flags::LAZY_TIME),
            (b"nosymfollow", Flags::NO_SYMLINK_FOLLOW),
            (b"silent", Flags::SILENT),
            (b"bind", Flags::BIND),
            (b"rbind", Flags::BIND_ALL),
            (b"remount", Flags::REMOUNT),
            (b"loop", Flags::LOOP),
            (b"noauto", Flags::NO_AUTO),
            (b"nofail", Flags::NO_FAIL),
            (b"_netdev", Flags::NETWORK),
            (b"iversion", Flags(1 << 23)),
        ] {
            assert_eq!(Flags::of(name), flag, "{}", name.escape_ascii());
        }
        let undone = b"nosuid,suid,nodev,dev,noexec,exec,sync,async,noatime,atime,nodiratime,\
diratime,relatime,norelatime,strictatime,nostrictatime,lazytime,nolazytime,nosymfollow,symfollow,\
silent,loud,noauto,auto,iversion,noiversion,ro,rw,nouser,helper=h,x-a,X-b,comment=c";
        assert_eq!(Flags::of(undone), Flags::default());
        assert_eq!(data(undone).count(), 0);
        assert!(data(b"x,loopy,r").eq([&b"x"[..], b"loopy", b"r"]));
    }

    #[test]
    fn a_quoted_comma_does_not_part() {
        let list = b"context=\"system_u:object_r:tmp_t:s0:c127,c456\",noexec";
        assert!(data(list).eq([&list[..46]]));
        assert_eq!(Flags::of(list), Flags::NO_EXEC);
    }

    #[test]
    fn the_kernel_s_own_table_parses() {
        let entry = parse_mounts(br"/dev/vda1 /a\040b ext4 rw,relatime 0 0").unwrap();
        assert!(unescape(entry.target).eq(*b"/a b"));
        assert_eq!(entry.kind, b"ext4");
        assert_eq!(parse_mounts(b" /tmp tmpfs rw 0 0").unwrap().target, b"/tmp");
        assert_eq!(parse_mounts(b""), None);
        let Ok(table) = std::fs::read("/proc/self/mounts") else {
            return;
        };
        for line in lines(&table).filter(|line| !line.is_empty()) {
            assert!(parse_mounts(line).unwrap().target.starts_with(b"/"));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn no_bytes_make_it_panic() {
        torture(SAMPLE, |bytes| {
            for entry in entries(bytes) {
                tag(entry.source);
                Flags::of(entry.options);
                assert!(data(entry.options).count() <= options(entry.options).count());
            }
            lines(bytes).for_each(|line| _ = parse_mounts(line));
        });
    }
}
