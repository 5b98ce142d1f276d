//! Accounts: lines of passwd(5), shadow(5) and group(5); and any file of lines of which each counts
//! once.
//!
//! A line that does not parse is nobody's. All but one line of a file stay as they are, byte for
//! byte, when a password is set in it: lines of NIS (`+`), and whether the last line is ended.

use crate::base::index;
use crate::base::store::{Full, Store};
use crate::base::text::{self, parse_u32};

/// What a field of passwd(5) says when the password is in shadow(5).
pub const IN_SHADOW: &[u8] = b"x";

/// The number that no group has: -1, which the kernel refuses.
const NO_GROUP: u32 = u32::MAX;

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

/// Cuts off what stands before the first `separator`, and that; everything, if there is none; nothing,
/// if there is nothing.
#[inline(never)]
fn cut<'a>(rest: &mut &'a [u8], separator: u8) -> Option<&'a [u8]> {
    let is_empty = rest.is_empty();
    let piece = text::cut(rest, separator);
    (!is_empty).then_some(piece)
}

/// The first line whose first field is `name`: what stands before it, its other fields, and what
/// stands behind it, line feed and all. If there is none, it would be the last, without other fields.
///
/// It must be a name of somebody's own: `+` and `-` begin lines that stand for others'.
#[inline(never)]
fn line_of<'a>(file: &'a [u8], name: &[u8]) -> [&'a [u8]; 3] {
    let mut rest = file;
    if matches!(name, [] | [b'+' | b'-', ..]) {
        rest = b"";
    }
    loop {
        let line_on = rest;
        let Some(line) = cut(&mut rest, b'\n') else {
            return [file, b"", b"\n"];
        };
        let mut fields = line;
        if cut(&mut fields, b':') == Some(name) {
            let start = file.len().wrapping_sub(line_on.len());
            let before = file.get(..start).unwrap_or_default();
            return [
                before,
                fields,
                line_on.get(line.len()..).unwrap_or_default(),
            ];
        }
    }
}

/// Takes off what follows the name in passwd(5) and group(5).
#[inline(never)]
fn password_and_number<'a>(fields: &mut &'a [u8]) -> Option<(&'a [u8], u32)> {
    let password = cut(fields, b':')?;
    Some((password, parse_u32(cut(fields, b':')?)?))
}

/// The user called `name`; the first, if there are several.
#[inline(never)]
pub fn user<'a>(passwd: &'a [u8], name: &[u8]) -> Option<User<'a>> {
    let [_, mut fields, _] = line_of(passwd, name);
    let (password, uid) = password_and_number(&mut fields)?;
    let gid = parse_u32(cut(&mut fields, b':')?)?;
    cut(&mut fields, b':');
    Some(User {
        password,
        uid,
        gid,
        home: cut(&mut fields, b':')?,
    })
}

/// The name of the first user with this number.
pub fn name_of(mut passwd: &[u8], uid: u32) -> Option<&[u8]> {
    while let Some(mut line) = cut(&mut passwd, b'\n') {
        let name = cut(&mut line, b':').unwrap_or_default();
        let number = password_and_number(&mut line).map(|(_, number)| number);
        if number == Some(uid) && !matches!(name, [] | [b'+' | b'-', ..]) {
            return Some(name);
        }
    }
    None
}

/// Appends to `out` the number of every group that lists `name` as a member, four bytes each, in the
/// machine's order. [`NO_GROUP`] is left out.
#[inline(never)]
pub fn groups(mut group: &[u8], name: &[u8], out: &mut dyn Store) {
    while let Some(mut line) = cut(&mut group, b'\n') {
        cut(&mut line, b':');
        let Some((_, gid)) = password_and_number(&mut line).filter(|(_, gid)| *gid != NO_GROUP)
        else {
            continue;
        };
        while let Some(member) = cut(&mut line, b',') {
            if member == name {
                let _ = out.append(&gid.to_ne_bytes());
            }
        }
    }
}

/// Appends to `out` the file with the line of `name` begun anew by `new`: the name, the password, and
/// in shadow(5) the day of the change. What follows are the old fields behind those. Who has no line
/// gets one, as those of shadow(5) are.
#[inline(never)]
pub fn set_password(file: &[u8], new: &[&[u8]], out: &mut dyn Store) {
    let name = new.first().copied().unwrap_or_default();
    let [before, mut fields, after] = line_of(file, name);
    let _ = out.append(before);
    if !matches!(before, [] | [.., b'\n']) {
        let _ = out.append(b"\n");
    }
    for (place, field) in new.iter().enumerate() {
        let _ = out.append(field);
        let _ = out.append(b":");
        // The name is not among the old fields.
        if place != 0 {
            cut(&mut fields, b':');
        }
    }
    // A line of shadow(5) that is too short would not be understood.
    if fields.is_empty() {
        fields = b":::::";
    }
    let _ = out.append(fields);
    let _ = out.append(after);
}

/// Appends to `out` a file of lines, and of `more` lines each that is not there yet. The last line of
/// the file is ended if it was not.
///
/// `index` is memory: four bytes for each line. [`Full`] if that is too little.
pub fn add_lines(
    file: &[u8],
    more: &[u8],
    index: &mut dyn Store,
    out: &mut dyn Store,
) -> Result<(), Full> {
    let _ = out.append(file);
    if !matches!(file, [] | [.., b'\n']) {
        let _ = out.append(b"\n");
    }
    put_new_lines([file, more], true, index, out)
}

/// Appends to `out` the lines of a file that are not among `others`.
///
/// `index` is memory, as above.
pub fn remove_lines(
    file: &[u8],
    others: &[u8],
    index: &mut dyn Store,
    out: &mut dyn Store,
) -> Result<(), Full> {
    put_new_lines([others, file], false, index, out)
}

/// Appends to `out`, each with a line feed behind it, the lines of the second text that the first does
/// not have; if `once` says so, those that are the same only once.
///
/// Sorting brings lines that are the same together: the lines of both texts, as if one followed the
/// other.
fn put_new_lines(
    texts: [&[u8]; 2],
    once: bool,
    index: &mut dyn Store,
    out: &mut dyn Store,
) -> Result<(), Full> {
    let [known, _] = texts;
    let mut start = 0usize;
    for text in texts {
        let mut rest = text;
        while !rest.is_empty() {
            index::push(
                index,
                start.wrapping_add(text.len().wrapping_sub(rest.len())),
            )?;
            cut(&mut rest, b'\n');
        }
        start = start.wrapping_add(text.len());
    }
    let order = |one, other| text::compare_until(from(texts, one), from(texts, other), b'\n');
    index::sort(index.bytes_mut(), &mut |one, other| {
        order(one, other).then(one.cmp(&other))
    });
    let mut offset = known.len();
    while offset < start {
        let same = index::equal_range(index.bytes(), &mut |other| order(other, offset));
        let first = index::offsets(same).next().unwrap_or(offset);
        let line = line_at(texts, offset);
        if first == offset || first >= known.len() && !once {
            let _ = out.append(line);
            let _ = out.append(b"\n");
        }
        offset = offset.wrapping_add(line.len()).wrapping_add(1);
    }
    Ok(())
}

/// What follows an offset in two texts, the second of which follows the first.
fn from([first, second]: [&[u8]; 2], offset: usize) -> &[u8] {
    let rest = match offset.checked_sub(first.len()) {
        Some(offset) => second.get(offset..),
        None => first.get(offset..),
    };
    rest.unwrap_or_default()
}

/// The line at this offset of two texts.
fn line_at(texts: [&[u8]; 2], offset: usize) -> &[u8] {
    text::cut(&mut from(texts, offset), b'\n')
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
        for (uid, name) in [(0, "root"), (1000, "bob"), (1001, "ann")] {
            assert_eq!(name_of(PASSWD, uid), Some(name.as_bytes()));
        }
        for uid in [5, 7, u32::MAX] {
            assert_eq!(name_of(PASSWD, uid), None, "{uid}");
        }
        torture(PASSWD, |file| {
            user(file, b"bob");
            name_of(file, 1001);
        });
    }

    #[test]
    fn groups_are_those_that_list_the_name() {
        let file = b"root:x:0:\nwheel:x:10:bob,ann\nbroken\nbobs:x:11:bobby\nbad:x:y:bob\n\
            none:x:4294967295:bob\nlast:x:12:ann,bob";
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

    fn set(file: &[u8], name: &str, day: &str) -> String {
        let mut out = heapless::Vec::<u8, 8192>::new();
        let mut new = vec![name.as_bytes(), b"$6$new"];
        // Without a colon it is not shadow(5).
        new.extend(day.strip_suffix(':').map(str::as_bytes));
        set_password(file, &new, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn one_line_changes_and_no_other_byte() {
        let file = b"root:*:19000:0:99999:7:::\n\n+::::::::\nodd\n:x:\nbob:!old:1:2:3:4:5:6:7";
        assert_eq!(
            set(file, "bob", "20000:"),
            "root:*:19000:0:99999:7:::\n\n+::::::::\nodd\n:x:\nbob:$6$new:20000:2:3:4:5:6:7"
        );
        let text = set(file, "root", ":");
        assert!(text.starts_with("root:$6$new::0:99999:7:::\n\n+::::::::\nodd\n"));
        let text = set(b"a:x:1:2:::\nbob:old:5:6:g:/h:/s:more\n", "bob", "");
        assert_eq!(text, "a:x:1:2:::\nbob:$6$new:5:6:g:/h:/s:more\n");
        torture(file, |file| {
            // Taken together, what is not bob's is what it was; one more line may end in a line feed.
            let rest = |text: &[u8]| {
                let others = text.split(|byte| *byte == b'\n');
                let others = others.filter(|line| {
                    !line.starts_with(b"bob:") && *line != b"bob" && !line.is_empty()
                });
                others.collect::<Vec<_>>().join(&b'\n').to_vec()
            };
            let mut out = heapless::Vec::<u8, 65536>::new();
            set_password(file, &[b"bob", b"$6$new"], &mut out);
            assert_eq!(rest(&out), rest(file));
        });
    }

    #[test]
    fn short_and_missing_lines_become_whole_ones() {
        let whole = "bob:$6$new:20000::::::\n";
        for (file, before) in [("", ""), ("a:b\n", "a:b\n"), ("a:b", "a:b\n")] {
            let text = set(file.as_bytes(), "bob", "20000:");
            assert_eq!(text, format!("{before}{whole}"));
        }
        for short in ["bob\n", "bob:\n", "bob:!\n", "bob:!:5\n"] {
            assert_eq!(set(short.as_bytes(), "bob", "20000:"), whole, "{short}");
        }
    }

    #[test]
    fn each_line_is_added_once() {
        let add = |file: &[u8], more: &[u8]| {
            let mut index = heapless::Vec::<u8, 1024>::new();
            let mut out = heapless::Vec::<u8, 1024>::new();
            add_lines(file, more, &mut index, &mut out).unwrap();
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!(add(b"a\n\n", b"b\na\nb\n\nc\n"), "a\n\nb\nc\n");
        assert_eq!(add(b"", b"z\ny\nz"), "z\ny\n");
        assert_eq!(add(b"a\nb", b"b\nc\n"), "a\nb\nc\n");
        assert_eq!(add(b"a\nb", b""), "a\nb\n");
        assert_eq!(add(b"z\nz\n", b"a\n"), "z\nz\na\n");
        assert_eq!(add(b"ab\n", b"a\nabc\n"), "ab\na\nabc\n");
    }

    #[test]
    fn lines_are_removed_wherever_they_are() {
        let mut index = heapless::Vec::<u8, 64>::new();
        let mut out = heapless::Vec::<u8, 64>::new();
        let file = b"c\na\n\nb\nc\nb\nbb";
        remove_lines(file, b"b\n\n", &mut index, &mut out).unwrap();
        assert_eq!(out, b"c\na\nc\nbb\n");
        let mut small = heapless::Vec::<u8, 16>::new();
        assert_eq!(
            remove_lines(file, b"b\n\n", &mut small, &mut out),
            Err(Full)
        );
    }
}
