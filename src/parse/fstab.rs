//! Lines of /etc/fstab, as fstab(5) and mount(8) describe them, and their mount options.
//!
//! Fields are borrowed and still octal-escaped: [`unescape`](super::unescape) decodes them.
//! An option list is split into flags, which mean the same for every file system, and data, which
//! mount(2) passes to the file system unchanged. Of options that contradict each other the last one
//! counts. Propagation (`shared`, `private` ...) needs a second call of mount(2), which takes no other
//! flag, so it is separate. A source may be a tag such as `UUID=...`, with or without quotes.

use super::superblock::Uuid;
use super::{split_once, word_index, words};
use crate::base::path::Path;

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FstabEntry<'a> {
    /// A path, a tag such as `UUID=...`, or any word; escaped.
    pub source: &'a [u8],
    /// Mount point, escaped; `none` for swap.
    pub target: &'a [u8],
    /// File system type, `swap`, `auto`, or a list such as `ext4,xfs`.
    pub kind: &'a [u8],
    /// Mount options, separated by commas; may be empty.
    pub options: &'a [u8],
}

/// A device by a name that it has on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag<'a> {
    /// The label of a file system.
    Label(&'a [u8]),
    /// The UUID of a file system.
    Uuid(Uuid),
    /// The name of a partition.
    PartLabel(&'a [u8]),
    /// The UUID of a partition.
    PartUuid(Uuid),
}

impl<'a> Tag<'a> {
    /// The tag in a source without escapes; `None` for another source, and for a value that no device has.
    pub fn of(source: &'a [u8]) -> Option<Self> {
        let (name, mut value) = split_once(source, b'=')?;
        if let [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] = value {
            value = inner;
        }
        let name = word_index(b"UUID PARTUUID LABEL PARTLABEL", name)?;
        let uuid = Uuid::parse(value);
        match name {
            0 => uuid.map(Self::Uuid),
            1 => uuid.map(Self::PartUuid),
            _ if value.is_empty() => None,
            2 => Some(Self::Label(value)),
            _ => Some(Self::PartLabel(value)),
        }
    }
}

/// Parses one line; `None` for a blank line, a comment, and a line of fewer than three fields.
pub fn parse(line: &[u8]) -> Option<FstabEntry<'_>> {
    let mut fields = words(line);
    let source = fields.next().filter(|source| !source.starts_with(b"#"))?;
    Some(FstabEntry {
        source,
        target: fields.next()?,
        kind: fields.next()?,
        options: fields.next().unwrap_or_default(),
    })
}

/// Iterates over the options of a comma-separated list. Commas between double quotes separate nothing.
fn options(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    list.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    })
    .filter(|option| !option.is_empty())
}

/// A set of options that mean the same for every file system. Flags of mount(2) have the bits that
/// linux/mount.h gives them; options of mount(8) have bits that the kernel does not use.
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

    /// `loop`: the source is a file, which needs a loop device.
    pub const LOOP: Self = Self(1 << 16);
    /// `noauto`: not mounted at boot.
    pub const NO_AUTO: Self = Self(1 << 17);
    /// `nofail`: a missing device is not an error.
    pub const NO_FAIL: Self = Self(1 << 18);
    /// `_netdev`: needs the network.
    pub const NETWORK: Self = Self(1 << 19);

    /// Propagation: `unbindable`, `private`, `slave`, `shared`, then their recursive forms (`rprivate`
    /// ...). Only the last of them in the list counts.
    const PROPAGATION: Self = Self(0xFF << PROPAGATION_BIT);

    /// Entries with one of these are not mounted at boot.
    pub const NOT_NOW: Self = Self(Self::NO_AUTO.0 | Self::NETWORK.0);

    /// Flags of mount(2).
    const KERNEL: u32 = 0x03A0_DDBF;

    const NONE: Self = Self(0);
    const ATIMES: Self = Self(Self::NO_ATIME.0 | Self::REL_ATIME.0 | Self::STRICT_ATIME.0);
    const NO_SUID_DEV: Self = Self(Self::NO_SUID.0 | Self::NO_DEV.0);
    const RESTRICTED: Self = Self(Self::NO_SUID_DEV.0 | Self::NO_EXEC.0);
    const DEFAULTS: Self =
        Self(Self::READ_ONLY.0 | Self::RESTRICTED.0 | Self::NO_AUTO.0 | Self::SYNC.0);

    /// Reads an option list. Returns its flags, and appends all other options to `data`.
    pub fn read(list: &[u8], data: &mut Path) -> Self {
        let mut flags = 0;
        for option in options(list) {
            if let Some(change) = change_by(option) {
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

    /// Returns the flags for mount(2).
    pub fn for_kernel(self) -> u32 {
        self.0 as u32 & Self::KERNEL
    }

    /// Returns the flags for the second call of mount(2), which sets the propagation; 0 for none.
    pub fn propagation(self) -> u32 {
        let kinds = (self.0 & Self::PROPAGATION.0) >> PROPAGATION_BIT;
        // The upper four are the recursive ones. MS_REC is one flag for all of them.
        let recursive = if kinds > 0xF { 1 << 14 } else { 0 };
        ((kinds | kinds >> 4) as u32 & 0xF) << 17 | recursive
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

/// The lowest bit of [`Flags::PROPAGATION`].
const PROPAGATION_BIT: u32 = 26;

/// The effect of an option on the flags: some are cleared, then some are set.
#[derive(Clone, Copy)]
struct Change {
    clear: Flags,
    set: Flags,
}

/// Options that set one flag: the index of the word is the flag's bit. `-` stands for a bit without one.
const SETTING: &[u8] = b"ro nosuid nodev noexec sync remount - dirsync nosymfollow - noatime \
nodiratime bind - rbind silent loop noauto nofail _netdev - relatime - iversion strictatime lazytime \
unbindable private slave shared runbindable rprivate rslave rshared";

/// Options that clear one flag, likewise.
const CLEARING: &[u8] =
    b"rw suid dev exec async - - - symfollow - atime diratime - - - loud - auto \
- - - norelatime - noiversion nostrictatime nolazytime";

/// Other options of mount(8): four without effect, four that set several flags, and one that clears
/// several.
const OTHERS: &[u8] = b"nouser nousers noowner nogroup user users owner group defaults";

/// Prefixes of options for mount(8), its helpers, systemd and others. They are ignored.
const IGNORED: &[u8] = b"x- X- comment= helper= uhelper=";

/// Returns the effect of an option on the flags; `None` for an option of the file system.
fn change_by(option: &[u8]) -> Option<Change> {
    let flag_in = |names| Some(Flags(1u64.unbounded_shl(word_index(names, option)? as u32)));
    let mut change = Change {
        clear: Flags::NONE,
        set: Flags::NONE,
    };
    if let Some(set) = flag_in(SETTING) {
        change.set = set;
        if Flags::ATIMES.has(set) {
            // Ways to record access times exclude each other.
            change.clear = Flags::ATIMES;
        } else if Flags::PROPAGATION.has(set) {
            change.clear = Flags::PROPAGATION;
        } else if Flags::BIND_ALL.has(set) {
            change.set.0 |= Flags::BIND.0;
        }
    } else if let Some(clear) = flag_in(CLEARING) {
        change.clear = clear;
    } else if let Some(index) = word_index(OTHERS, option) {
        match index {
            0..4 => {}
            4..6 => change.set = Flags::RESTRICTED,
            6..8 => change.set = Flags::NO_SUID_DEV,
            _ => change.clear = Flags::DEFAULTS,
        }
    } else if option.starts_with(b"loop=") {
        change.set = Flags::LOOP;
    } else if !words(IGNORED).any(|prefix| option.starts_with(prefix)) {
        return None;
    }
    Some(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::lines;
    use crate::parse::testing::torture;
    use crate::parse::unescape;

    fn entries(file: &[u8]) -> impl Iterator<Item = FstabEntry<'_>> {
        lines(file).filter_map(parse)
    }

    impl Flags {
        fn of(list: &[u8]) -> Self {
            Self::read(list, &mut Path::new())
        }
    }

    fn data(list: &[u8]) -> impl Iterator<Item = &[u8]> {
        options(list).filter(|option| change_by(option).is_none())
    }

    #[test]
    fn tags_may_have_quotes() {
        for (source, tag) in [
            (&b"LABEL=my data"[..], Some(Tag::Label(b"my data"))),
            (b"LABEL=\"my data\"", Some(Tag::Label(b"my data"))),
            (b"PARTLABEL='a=b'", Some(Tag::PartLabel(b"a=b"))),
            (b"LABEL=\"", Some(Tag::Label(b"\""))),
            (b"UUID=\"AB-cd\"", Uuid::parse(b"abcd").map(Tag::Uuid)),
            (b"PARTUUID=1-2", Uuid::parse(b"12").map(Tag::PartUuid)),
            (b"LABEL=", None),
            (b"LABEL=\"\"", None),
            (b"UUID=", None),
            (b"UUID=x", None),
            (b"ID=x", None),
            (b"label=x", None),
            (b"/dev/vda", None),
            (b"/srv/a=b", None),
        ] {
            assert_eq!(Tag::of(source), tag, "{}", source.escape_ascii());
        }
    }

    #[test]
    fn data_options_are_joined_by_commas() {
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
    fn entries_come_in_order_and_invalid_lines_are_skipped() {
        let all: Vec<_> = entries(SAMPLE).collect();
        assert_eq!(all.len(), 5);
        assert_eq!(all[0].source, &SAMPLE[46..87]);
        assert_eq!(all[0].target, b"/");
        assert_eq!(all[1].source, b"/dev/sdb1");
        assert!(unescape(all[1].target).eq(*b"/srv/my files"));
        assert_eq!(all[2].source, b"LABEL=\"swap\"");
        assert_eq!(all[3].options, b"");
        assert_eq!(all[4].kind, b"proc");
    }

    #[test]
    fn an_option_list_is_split_into_flags_and_data() {
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
    fn propagation_options_are_not_data() {
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
            assert!(change_by(word.as_bytes()).is_none(), "{word}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn every_option_sets_its_flag() {
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
        let without_effect =
            b"nosuid,suid,nodev,dev,noexec,exec,sync,async,noatime,atime,nodiratime,\
diratime,relatime,norelatime,strictatime,nostrictatime,lazytime,nolazytime,nosymfollow,symfollow,\
silent,loud,noauto,auto,iversion,noiversion,ro,rw,nouser,helper=h,x-a,X-b,comment=c";
        assert_eq!(Flags::of(without_effect), Flags::default());
        assert_eq!(data(without_effect).count(), 0);
        assert!(data(b"x,loopy,r").eq([&b"x"[..], b"loopy", b"r"]));
    }

    #[test]
    fn a_quoted_comma_does_not_separate_options() {
        let list = b"context=\"system_u:object_r:tmp_t:s0:c127,c456\",noexec";
        assert!(data(list).eq([&list[..46]]));
        assert_eq!(Flags::of(list), Flags::NO_EXEC);
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn no_input_panics() {
        torture(SAMPLE, |bytes| {
            for entry in entries(bytes) {
                Flags::of(entry.options);
                assert!(data(entry.options).count() <= options(entry.options).count());
            }
        });
    }
}
