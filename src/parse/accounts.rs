//! Accounts: lines of passwd(5), shadow(5) and group(5).
//!
//! A line that does not parse is nobody's, and stays as it is, byte for byte, when a file is
//! rewritten; so do lines of NIS (`+`), and whether the last line is ended.

use super::lines;
use crate::base::store::Store;
use crate::base::text::parse_u32;

/// What a field of passwd(5) says when the password is in shadow(5).
pub const IN_SHADOW: &[u8] = b"x";

/// Fields of a line of shadow(5).
const SHADOW_FIELDS: u32 = 9;

/// A user, as passwd(5) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User<'a> {
    /// The password, hashed, or [`IN_SHADOW`].
    pub password: &'a [u8],
    /// The user's number.
    pub uid: u32,
    /// The number of the user's first group.
    pub gid: u32,
    /// The home directory.
    pub home: &'a [u8],
}

/// The user called `name`; the first, if there are several.
#[inline(never)]
pub fn user<'a>(passwd: &'a [u8], name: &[u8]) -> Option<User<'a>> {
    lines(passwd).find_map(|line| {
        let mut fields = split(line, b':');
        if !is_of(fields.next()?, name) {
            return None;
        }
        let user = User {
            password: fields.next()?,
            uid: parse_u32(fields.next()?)?,
            gid: parse_u32(fields.next()?)?,
            home: fields.nth(1)?,
        };
        fields.next().map(|_| user)
    })
}

/// Whether the first field of a line makes it one of `name`, which must be a name of somebody's own:
/// `+` and `-` begin lines that stand for others'.
#[inline(never)]
fn is_of(first: &[u8], name: &[u8]) -> bool {
    first == name && !matches!(name, [] | [b'+' | b'-', ..])
}

/// Fields or members.
fn split(line: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    line.split(move |byte| *byte == separator)
}

/// Appends to `out` the number of every group that lists `name` as a member, four bytes each, in the
/// machine's order.
#[inline(never)]
pub fn groups(group: &[u8], name: &[u8], out: &mut dyn Store) {
    for line in lines(group) {
        let mut fields = split(line, b':');
        if let Some(gid) = fields.nth(2).and_then(parse_u32)
            && let Some(members) = fields.next()
            && split(members, b',').any(|member| member == name)
        {
            let _ = out.append(&gid.to_ne_bytes());
        }
    }
}

/// Appends to `out` the file with the password of `name` set: passwd(5), or shadow(5) if there is a
/// day on which that happened (which may be unknown, and empty). Who has no line in it gets one if
/// `make` says so. Tells whether there is such a line now.
#[inline(never)]
pub fn set_password(
    file: &[u8],
    (name, password, day): (&[u8], &[u8], Option<&[u8]>),
    make: bool,
    out: &mut dyn Store,
) -> bool {
    let mut put = |bytes: &[u8]| {
        let _ = out.append(bytes);
    };
    let mut is_there = false;
    // The line to be made comes last, as one of nothing but the name.
    let lines = lines(file).map(|line| (line, false));
    for (number, (line, made)) in lines.chain([(name, true)]).enumerate() {
        if made && (!make || is_there) {
            break;
        }
        // What follows a final line feed is an empty line, which need not be ended.
        if number != 0 && !(made && matches!(file, [] | [.., b'\n'])) {
            put(b"\n");
        }
        let mut fields = split(line, b':');
        let mut field = fields.next();
        let count = line.len().wrapping_sub(field.map_or(0, <[u8]>::len));
        let own = made || count != 0 && field.is_some_and(|first| is_of(first, name));
        is_there |= own;
        let mut place = 0u32;
        loop {
            let mut text = field;
            if own {
                text = match place {
                    1 => Some(password),
                    2 if day.is_some() => day,
                    // Too short a line of shadow(5) would not be understood.
                    ..SHADOW_FIELDS if day.is_some() => Some(field.unwrap_or_default()),
                    _ => field,
                };
            }
            let Some(text) = text else {
                break;
            };
            if place != 0 {
                put(b":");
            }
            put(text);
            field = fields.next();
            place = place.wrapping_add(1);
        }
        if made {
            put(b"\n");
        }
    }
    is_there
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\nbroken\nbob:x:1000:100:Bob,,,:/home/bob:\n\
        short:x:1:1:\nnan:x:one:1::/:\nbig:x:4294967296:1::/:\n+::::::\n+net:x:5:5::/:/x\nann::1001:100::/a:/x";

    #[test]
    fn users_are_found_by_name() {
        let bob = User {
            password: IN_SHADOW,
            uid: 1000,
            gid: 100,
            home: b"/home/bob",
        };
        assert_eq!(user(PASSWD, b"bob"), Some(bob));
        assert_eq!(user(PASSWD, b"ann").map(|ann| ann.password), Some(&b""[..]));
        for nobody in [
            "", "+", "+net", "bo", "bobb", "broken", "short", "nan", "big", "ROOT",
        ] {
            assert_eq!(user(PASSWD, nobody.as_bytes()), None, "{nobody}");
        }
        torture(PASSWD, |file| {
            user(file, b"bob");
        });
    }

    #[test]
    fn groups_are_those_that_list_the_name() {
        let file = b"root:x:0:\nwheel:x:10:bob,ann\nbroken\nbobs:x:11:bobby\nbad:x:y:bob\nlast:x:12:ann,bob";
        let mut out = heapless::Vec::<u8, 64>::new();
        groups(file, b"bob", &mut out);
        assert_eq!(
            out.to_vec(),
            [10u32.to_ne_bytes(), 12u32.to_ne_bytes()].concat()
        );
        torture(file, |file| {
            let mut out = heapless::Vec::<u8, 4096>::new();
            groups(file, b"bob", &mut out);
        });
    }

    fn set(file: &[u8], name: &str, day: Option<&str>, make: bool) -> (bool, String) {
        let mut out = heapless::Vec::<u8, 8192>::new();
        let what = (name.as_bytes(), &b"$6$new"[..], day.map(str::as_bytes));
        let is_there = set_password(file, what, make, &mut out);
        (is_there, String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn one_line_changes_and_no_other_byte() {
        let file = b"root:*:19000:0:99999:7:::\n\n+::::::::\nodd\n:x:\nbob:!old:1:2:3:4:5:6:7";
        let (is_there, text) = set(file, "bob", Some("20000"), true);
        assert!(is_there);
        assert_eq!(
            text,
            "root:*:19000:0:99999:7:::\n\n+::::::::\nodd\n:x:\nbob:$6$new:20000:2:3:4:5:6:7"
        );
        let (_, text) = set(file, "root", Some(""), true);
        assert!(text.starts_with("root:$6$new::0:99999:7:::\n\n+::::::::\nodd\n"));
        let (_, text) = set(
            b"a:x:1:2:::\nbob:old:5:6:g:/h:/s:more\n",
            "bob",
            None,
            false,
        );
        assert_eq!(text, "a:x:1:2:::\nbob:$6$new:5:6:g:/h:/s:more\n");
        torture(file, |file| {
            // Taken together, what is not bob's is what it was.
            let rest = |text: &[u8]| {
                let others = lines(text).filter(|line| !line.starts_with(b"bob:"));
                others.collect::<Vec<_>>().join(&b'\n').to_vec()
            };
            let mut out = heapless::Vec::<u8, 65536>::new();
            let what = (&b"bob"[..], &b"$6$new"[..], None);
            set_password(file, what, false, &mut out);
            assert_eq!(rest(&out), rest(file));
        });
    }

    #[test]
    fn short_and_missing_lines_become_whole_ones() {
        let whole = "bob:$6$new:20000::::::\n";
        for (file, before) in [("", ""), ("a:b\n", "a:b\n"), ("a:b", "a:b\n")] {
            let (is_there, text) = set(file.as_bytes(), "bob", Some("20000"), true);
            assert_eq!((is_there, text), (true, format!("{before}{whole}")));
            let (is_there, text) = set(file.as_bytes(), "bob", Some("20000"), false);
            assert_eq!((is_there, text.as_str()), (false, file));
        }
        for short in ["bob:\n", "bob:!\n", "bob:!:5\n", "bob:!::::::\n"] {
            assert_eq!(set(short.as_bytes(), "bob", Some("20000"), false).1, whole);
        }
    }
}
