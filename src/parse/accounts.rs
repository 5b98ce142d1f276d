//! Account files: passwd(5), shadow(5) and group(5); and key lists, whose lines are unique.
//!
//! A line that does not parse matches no name and no number. [`set_password`] changes one line and
//! keeps every other byte of the file, among them NIS lines (which begin with `+` or `-`) and
//! whether the last line ends in a line feed. Functions that append to a [`ByteSink`] ignore errors
//! of single appends: a full store stays full, and the caller checks it once at the end.

use crate::base::index;
use crate::base::sink::{ByteSink, Full};
use crate::base::text::{self, parse_u32};

/// The password field of passwd(5) if the hash is in shadow(5).
pub const IN_SHADOW: &[u8] = b"x";

/// -1, which setgid(2) and setgroups(2) refuse: no group has this number.
const NO_GROUP: u32 = u32::MAX;

/// A user, as passwd(5) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account<'a> {
    /// The hash of the password, or [`IN_SHADOW`].
    pub password: &'a [u8],
    /// User number.
    pub uid: u32,
    /// Number of the primary group.
    pub gid: u32,
    /// Home directory.
    pub home: &'a [u8],
}

/// Splits the text before the first `separator` off the front of `rest`, or all of it if there is
/// no separator. Returns `None` if `rest` is empty.
fn next_field<'a>(rest: &mut &'a [u8], separator: u8) -> Option<&'a [u8]> {
    let is_empty = rest.is_empty();
    let field = text::cut(rest, separator);
    (!is_empty).then_some(field)
}

/// Whether an entry of this name is an account: NIS lines and lines without a name are not.
fn is_account(name: &[u8]) -> bool {
    !matches!(name, [] | [b'+' | b'-', ..])
}

/// A file, split around the fields of one account.
struct Split<'a> {
    /// The lines before.
    before: &'a [u8],
    /// The fields after the name.
    fields: &'a [u8],
    /// The rest of the file, from the line feed on.
    after: &'a [u8],
}

/// Splits `file` around the fields of the first line whose first field is `name`. If there is none,
/// it splits at the end of the file, as if a new line without fields followed there.
fn split_at_line<'a>(file: &'a [u8], name: &[u8]) -> Split<'a> {
    let mut rest = file;
    if !is_account(name) {
        rest = b"";
    }
    loop {
        let from_line = rest;
        let Some(line) = next_field(&mut rest, b'\n') else {
            return Split {
                before: file,
                fields: b"",
                after: b"\n",
            };
        };
        let mut fields = line;
        if next_field(&mut fields, b':') == Some(name) {
            let start = file.len().wrapping_sub(from_line.len());
            return Split {
                before: file.get(..start).unwrap_or_default(),
                fields,
                after: from_line.get(line.len()..).unwrap_or_default(),
            };
        }
    }
}

/// Takes the two fields that follow the name in passwd(5) and group(5): password and number.
fn password_and_number<'a>(fields: &mut &'a [u8]) -> Option<(&'a [u8], u32)> {
    let password = next_field(fields, b':')?;
    Some((password, parse_u32(next_field(fields, b':')?)?))
}

/// Returns the user called `name`: the first line of that name counts.
pub fn user<'a>(passwd: &'a [u8], name: &[u8]) -> Option<Account<'a>> {
    let mut fields = split_at_line(passwd, name).fields;
    let (password, uid) = password_and_number(&mut fields)?;
    let gid = parse_u32(next_field(&mut fields, b':')?)?;
    let _full_name = next_field(&mut fields, b':');
    Some(Account {
        password,
        uid,
        gid,
        home: next_field(&mut fields, b':')?,
    })
}

/// Returns the name of the first user with this number.
pub fn name_of(mut passwd: &[u8], uid: u32) -> Option<&[u8]> {
    while let Some(mut line) = next_field(&mut passwd, b'\n') {
        let name = next_field(&mut line, b':').unwrap_or_default();
        let number = password_and_number(&mut line).map(|(_, number)| number);
        if number == Some(uid) && is_account(name) {
            return Some(name);
        }
    }
    None
}

/// Appends to `out` the number of each group that lists `name` as a member, as native `u32`,
/// without [`NO_GROUP`].
pub fn groups(mut group: &[u8], name: &[u8], out: &mut dyn ByteSink) {
    while let Some(mut line) = next_field(&mut group, b'\n') {
        next_field(&mut line, b':');
        let Some((_, gid)) = password_and_number(&mut line).filter(|(_, gid)| *gid != NO_GROUP)
        else {
            continue;
        };
        while let Some(member) = next_field(&mut line, b',') {
            if member == name {
                let _ = out.append(&gid.to_ne_bytes());
            }
        }
    }
}

/// Appends `file` to `out` with the first fields of one account replaced by `new`: the name, the
/// password, and in shadow(5) the day of the change. The other fields of the line stay. If the
/// account has no line, one with the fields of shadow(5) is added.
pub fn set_password(file: &[u8], new: &[&[u8]], out: &mut dyn ByteSink) {
    let name = new.first().copied().unwrap_or_default();
    let Split {
        before,
        mut fields,
        after,
    } = split_at_line(file, name);
    let _ = out.append(before);
    if !matches!(before, [] | [.., b'\n']) {
        let _ = out.append(b"\n");
    }
    for (index, field) in new.iter().enumerate() {
        let _ = out.append(field);
        let _ = out.append(b":");
        // `fields` begins after the name.
        if index != 0 {
            next_field(&mut fields, b':');
        }
    }
    // Programs that read shadow(5) may reject a line with fewer fields.
    if fields.is_empty() {
        fields = b":::::";
    }
    let _ = out.append(fields);
    let _ = out.append(after);
}

/// Appends to `out` the lines of `file`, and those of `more` that it lacks, each once. Every line
/// gets a line feed, also the last one of `file`.
///
/// `index` is working memory of four bytes for each line; [`Full`] if it has less.
pub fn add_lines(
    file: &[u8],
    more: &[u8],
    index: &mut dyn ByteSink,
    out: &mut dyn ByteSink,
) -> Result<(), Full> {
    let _ = out.append(file);
    if !matches!(file, [] | [.., b'\n']) {
        let _ = out.append(b"\n");
    }
    put_new_lines([file, more], Repeats::Drop, index, out)
}

/// Appends to `out` the lines of `file` that `others` lacks.
///
/// `index` is working memory of four bytes for each line; [`Full`] if it has less.
pub fn remove_lines(
    file: &[u8],
    others: &[u8],
    index: &mut dyn ByteSink,
    out: &mut dyn ByteSink,
) -> Result<(), Full> {
    put_new_lines([others, file], Repeats::Keep, index, out)
}

/// Lines that occur more than once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeats {
    /// Each is written.
    Keep,
    /// The first is written.
    Drop,
}

/// Appends to `out` the lines of the second text that the first lacks, in order, each with a line
/// feed.
///
/// Sorts the lines of both texts, so that equal lines are neighbours: n log n comparisons. Offsets
/// in the index count through both texts, as if the second one followed the first.
fn put_new_lines(
    texts: [&[u8]; 2],
    repeats: Repeats,
    index: &mut dyn ByteSink,
    out: &mut dyn ByteSink,
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
            next_field(&mut rest, b'\n');
        }
        start = start.wrapping_add(text.len());
    }
    let order =
        |one, other| text::compare_until(text_from(texts, one), text_from(texts, other), b'\n');
    // Equal lines in the order of their offsets: the first of them comes first.
    index::sort(index.bytes_mut(), &mut |one, other| {
        order(one, other).then(one.cmp(&other))
    });
    let mut offset = known.len();
    while offset < start {
        let equal = index::equal_range(index.bytes(), &mut |other| order(other, offset));
        let first = index::offsets(equal).next().unwrap_or(offset);
        let line = line_at(texts, offset);
        let is_kept_repeat = first >= known.len() && repeats == Repeats::Keep;
        if first == offset || is_kept_repeat {
            let _ = out.append(line);
            let _ = out.append(b"\n");
        }
        offset = offset.wrapping_add(line.len()).wrapping_add(1);
    }
    Ok(())
}

/// Returns the rest of the text that `offset` lies in.
fn text_from([first, second]: [&[u8]; 2], offset: usize) -> &[u8] {
    let rest = match offset.checked_sub(first.len()) {
        Some(offset) => second.get(offset..),
        None => first.get(offset..),
    };
    rest.unwrap_or_default()
}

/// Returns the line at this offset.
fn line_at(texts: [&[u8]; 2], offset: usize) -> &[u8] {
    text::cut(&mut text_from(texts, offset), b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\nbroken\nbob:x:1000:100:Bob,,,:/home/bob:\n\
        short:x:1:1:\nnan:x:one:1::/:\nbig:x:4294967296:1::/:\n+::::::\n+net:x:5:5::/:/x\nann::1001:100::/a:/x";

    #[test]
    fn finds_users_by_name_and_by_number() {
        let bob = Account {
            password: IN_SHADOW,
            uid: 1000,
            gid: 100,
            home: b"/home/bob",
        };
        assert_eq!(user(PASSWD, b"bob"), Some(bob));
        assert_eq!(user(PASSWD, b"ann").map(|ann| ann.password), Some(&b""[..]));
        for absent in [
            "", "+", "+net", "bo", "bobb", "broken", "short", "nan", "big", "ROOT",
        ] {
            assert_eq!(user(PASSWD, absent.as_bytes()), None, "{absent}");
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
    fn lists_groups_that_have_the_name_as_a_member() {
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
        // A day with a colon stands for shadow(5), none for passwd(5).
        new.extend(day.strip_suffix(':').map(str::as_bytes));
        set_password(file, &new, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn set_password_changes_one_line_and_no_other_byte() {
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
            // The lines of other names stay; the last of them may get a line feed.
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
    fn short_and_missing_lines_get_all_fields_of_shadow() {
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
    fn adds_each_missing_line_once() {
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
    fn removes_every_copy_of_a_line() {
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
