//! The users that are logged in, from the records in /var/run/utmp (utmp(5)), or in /run/utmp if
//! that cannot be opened.
//!
//! The file may change at any time, so it is read once into borrowed memory. An index of its
//! records, sorted by name, brings the logins of a user together.

use crate::base::index;
use crate::base::limits::LOGIN_FILE_BYTES;
use crate::base::sink::ByteSink;
use crate::parse::utmp::{Layout, USER_PROCESS, parse};
use crate::sys::Errno;
use crate::sys::mem::Buffer;
use crate::sys::root::Root;

/// The paths of the file. The first that can be opened counts.
const PATHS: [&[u8]; 2] = [b"var/run/utmp", b"run/utmp"];

/// The size of a record in bytes.
const RECORD_BYTES: usize = Layout::NATIVE.record_bytes();

/// A user with one or more logins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User<'a> {
    /// The name, which may be empty.
    pub name: &'a [u8],
    /// The time of the earliest login, in seconds since 1970.
    pub seconds: i64,
    /// The microseconds of that time, less than a million.
    pub microseconds: u32,
}

/// The records at one moment.
pub struct Users {
    records: Buffer,
    /// An index of the records of logins, sorted by name.
    by_name: Buffer,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            // One byte more than the limit shows that a file is larger.
            records: Buffer::growing(LOGIN_FILE_BYTES + 1),
            by_name: Buffer::growing(LOGIN_FILE_BYTES),
        }
    }
}

impl Users {
    /// Reads the records. Without a file there are none.
    ///
    /// # Errors
    /// The error of reading the file; [`Errno::FBIG`] if it is larger than [`LOGIN_FILE_BYTES`], or
    /// there is no memory for it.
    pub fn read(&mut self, root: &Root) -> Result<(), Errno> {
        let Some(file) = PATHS.iter().find_map(|path| root.file_at(&[path]).ok()) else {
            return Ok(());
        };
        self.records.read(&file)?;
        let records = self.records.bytes();
        for offset in (0..records.len()).step_by(RECORD_BYTES) {
            if user_at(records, offset).is_some() {
                let _ = index::push(&mut self.by_name, offset);
            }
        }
        index::sort(self.by_name.bytes_mut(), &mut |one, other| {
            name_at(records, one)
                .cmp(&name_at(records, other))
                .then(one.cmp(&other))
        });
        self.by_name.whole()
    }

    /// Calls `each` with every user, in the order of their first records.
    pub fn each(&self, each: &mut dyn FnMut(User<'_>)) {
        let records = self.records.bytes();
        for offset in (0..records.len()).step_by(RECORD_BYTES) {
            let name = name_at(records, offset);
            let logins = index::equal_range(self.by_name.bytes(), &mut |other| {
                name_at(records, other).cmp(&name)
            });
            let mut logins = index::offsets(logins);
            if logins.next() == Some(offset)
                && let Some(mut earliest) = user_at(records, offset)
            {
                for login in logins.filter_map(|offset| user_at(records, offset)) {
                    if login.time() < earliest.time() {
                        earliest = login;
                    }
                }
                each(earliest);
            }
        }
    }
}

impl User<'_> {
    fn time(&self) -> (i64, u32) {
        (self.seconds, self.microseconds)
    }
}

/// The login in the record at `offset`; `None` for a record of another type.
fn user_at(records: &[u8], offset: usize) -> Option<User<'_>> {
    let login = parse(records.get(offset..)?, Layout::NATIVE)?;
    // Nothing keeps the microseconds of a record below a million.
    let seconds = login.microseconds.div_euclid(1_000_000);
    (login.kind == USER_PROCESS).then_some(User {
        name: login.user,
        seconds: login.seconds.saturating_add(seconds),
        microseconds: login.microseconds.rem_euclid(1_000_000) as u32,
    })
}

fn name_at(records: &[u8], offset: usize) -> Option<&[u8]> {
    user_at(records, offset).map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;
    use std::fs;

    fn record(kind: i16, user: &[u8], seconds: u32, microseconds: u32) -> Vec<u8> {
        let mut bytes = vec![0; RECORD_BYTES];
        bytes[..2].copy_from_slice(&kind.to_ne_bytes());
        bytes[44..44 + user.len()].copy_from_slice(user);
        match Layout::NATIVE {
            Layout::Narrow => {
                bytes[340..344].copy_from_slice(&seconds.to_ne_bytes());
                bytes[344..348].copy_from_slice(&microseconds.to_ne_bytes());
            }
            Layout::Wide => {
                bytes[344..352].copy_from_slice(&i64::from(seconds).to_ne_bytes());
                bytes[352..360].copy_from_slice(&i64::from(microseconds).to_ne_bytes());
            }
        }
        bytes
    }

    fn machine() -> Tree {
        let tree = Tree::new();
        tree.directory("run");
        tree
    }

    fn users(root: &Root) -> Vec<(String, i64, u32)> {
        let mut users = Vec::new();
        let mut records = Users::default();
        records.read(root).unwrap();
        records.each(&mut |user| {
            let name = String::from_utf8(user.name.to_vec()).unwrap();
            users.push((name, user.seconds, user.microseconds));
        });
        users
    }

    #[test]
    fn lists_every_user_once_with_the_earliest_login() {
        let tree = machine();
        assert_eq!(users(&tree.root), []);
        let file = [
            record(2, b"reboot", 1, 0),
            record(USER_PROCESS, b"root", 1_700_000_200, 1),
            record(8, b"left", 1, 0),
            record(USER_PROCESS, b"", 5, 0),
            record(USER_PROCESS, b"anna", 1_700_000_300, 2_500_000),
            record(USER_PROCESS, b"root", 1_700_000_050, 250_000),
            record(USER_PROCESS, b"root", 1_700_000_050, 260_000),
            record(USER_PROCESS, &[b'x'; 32], 7, 0),
            vec![0; 100],
        ]
        .concat();
        tree.file("run/utmp", file);
        let expected = [
            ("root", 1_700_000_050, 250_000),
            ("", 5, 0),
            ("anna", 1_700_000_302, 500_000),
            ("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 7, 0),
        ];
        let expected = expected.map(|(name, seconds, rest)| (name.to_owned(), seconds, rest));
        assert_eq!(users(&tree.root), expected);
        tree.directory("var/run");
        tree.file("var/run/utmp", "");
        assert_eq!(users(&tree.root), []);
    }

    #[test]
    fn rejects_a_file_larger_than_the_limit() {
        let tree = machine();
        let file = fs::File::create(tree.path.join("run/utmp")).unwrap();
        file.set_len(LOGIN_FILE_BYTES as u64 + 1).unwrap();
        assert_eq!(Users::default().read(&tree.root), Err(Errno::FBIG));
        file.set_len(LOGIN_FILE_BYTES as u64).unwrap();
        assert_eq!(users(&tree.root), []);
    }

    #[test]
    fn lists_thousands_of_logins() {
        let tree = machine();
        let one = |n: u32| {
            record(
                USER_PROCESS,
                format!("u{}", n % 20_000).as_bytes(),
                50_000 - n,
                0,
            )
        };
        let file: Vec<u8> = (0..30_000).flat_map(one).collect();
        tree.file("run/utmp", file);
        let users = users(&tree.root);
        assert_eq!(users.len(), 20_000);
        assert_eq!(users[19_999], ("u19999".to_owned(), 30_001, 0));
        assert_eq!(users[0], ("u0".to_owned(), 30_000, 0));
    }
}
