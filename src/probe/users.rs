//! Who is logged in, from the records in /var/run/utmp, or /run/utmp where there is no /var.
//!
//! The file is read once, as it is at that moment, into borrowed memory; it may change any time.

use crate::base::limits::LOGIN_LIST_BYTES;
use crate::base::store::Store;
use crate::parse::utmp::{Layout, USER_PROCESS, parse};
use crate::sys::Errno;
use crate::sys::mem::Buffer;
use crate::sys::root::Root;
use crate::sys::stream::{self, Read};

/// Where the records are: the first that can be opened counts.
const PLACES: [&[u8]; 2] = [b"var/run/utmp", b"run/utmp"];

/// Somebody who is logged in, once or several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User<'a> {
    /// The name; may be empty.
    pub name: &'a [u8],
    /// When the earliest of the logins was: seconds since the epoch.
    pub seconds: i64,
    /// And what is beyond them, below a million.
    pub microseconds: u32,
}

/// The records of a moment.
pub struct Users {
    records: Buffer,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            records: Buffer::growing(LOGIN_LIST_BYTES),
        }
    }
}

impl Users {
    /// Adds the records of this moment; none if there is no file.
    ///
    /// # Errors
    /// What reading the file came to.
    pub fn read(&mut self, root: &Root) -> Result<(), Errno> {
        for place in &PLACES {
            let Ok(file) = root.file_at(&[place]) else {
                continue;
            };
            let mut chunk = [0; 4096];
            while let Read::Bytes(len) = stream::read(&file, &mut chunk)? {
                if self.records.append(&chunk[..len]).is_err() {
                    break;
                }
            }
            break;
        }
        Ok(())
    }

    /// Calls `each` with everybody, in the order of their first records.
    pub fn each(&self, each: &mut dyn FnMut(User<'_>)) {
        let records = self.records.bytes();
        let mut rest = records;
        while let Some(mut user) = next(&mut rest) {
            let (mut others, mut known) = (records, false);
            while let Some(other) = next(&mut others) {
                if other.name != user.name {
                    continue;
                }
                // One that comes before this has more behind it.
                known |= others.len() > rest.len();
                if (other.seconds, other.microseconds) < (user.seconds, user.microseconds) {
                    user = other;
                }
            }
            if !known {
                each(user);
            }
        }
    }
}

/// The next login in these records, which are then those behind it.
#[inline(never)]
fn next<'a>(records: &mut &'a [u8]) -> Option<User<'a>> {
    loop {
        let login = parse(records, Layout::NATIVE)?;
        *records = records.get(Layout::NATIVE.record_bytes()..)?;
        if login.kind == USER_PROCESS {
            // The microseconds may be any number.
            return Some(User {
                name: login.user,
                seconds: login
                    .seconds
                    .saturating_add(login.microseconds.div_euclid(1_000_000)),
                microseconds: login.microseconds.rem_euclid(1_000_000) as u32,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs;

    fn record(kind: i16, user: &[u8], seconds: u32, microseconds: u32) -> Vec<u8> {
        let mut bytes = vec![0; Layout::NATIVE.record_bytes()];
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

    fn machine(name: &str) -> (std::path::PathBuf, Root) {
        let path = std::env::temp_dir().join(format!("gaunt-users-{}-{name}", std::process::id()));
        fs::create_dir_all(path.join("run")).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        (path, root)
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
    fn everybody_is_there_once_since_the_earliest_login() {
        let (path, root) = machine("once");
        assert_eq!(users(&root), []);
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
        fs::write(path.join("run/utmp"), file).unwrap();
        let expected = [
            ("root", 1_700_000_050, 250_000),
            ("", 5, 0),
            ("anna", 1_700_000_302, 500_000),
            ("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 7, 0),
        ];
        let expected = expected.map(|(name, seconds, rest)| (name.to_owned(), seconds, rest));
        assert_eq!(users(&root), expected);
        fs::create_dir_all(path.join("var/run")).unwrap();
        fs::write(path.join("var/run/utmp"), "").unwrap();
        assert_eq!(users(&root), []);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_thousand_users_come_whole() {
        let (path, root) = machine("many");
        let one = |n: u32| {
            record(
                USER_PROCESS,
                format!("u{}", n % 1000).as_bytes(),
                5000 - n,
                0,
            )
        };
        let file: Vec<u8> = (0..1500).flat_map(one).collect();
        fs::write(path.join("run/utmp"), file).unwrap();
        let users = users(&root);
        assert_eq!(users.len(), 1000);
        assert_eq!(users[999], ("u999".to_owned(), 4001, 0));
        assert_eq!(users[0], ("u0".to_owned(), 4000, 0));
        fs::remove_dir_all(path).unwrap();
    }
}
