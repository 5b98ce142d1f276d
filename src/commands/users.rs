//! guest-get-users: everybody who is logged in, once, since the earliest login.
//!
//! Differences from qemu-ga: a user name of 32 bytes does not run into the name of the host;
//! where there is no /var, /run/utmp is read; a utmp larger than [`LOGIN_FILE_BYTES`] is an error.
//!
//! The list may be long, so a child makes it.
//!
//! [`LOGIN_FILE_BYTES`]: crate::base::limits::LOGIN_FILE_BYTES

use super::command::Work;
use super::common::cannot;
use crate::probe::users::Users;
use crate::sys::Errno;
use crate::sys::root::Root;
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::{Name, Phrase};

/// Lists users.
pub(super) const GET_USERS: Work = |guest, _, _, reply| list(&guest.root, reply);

fn list(root: &Root, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    let mut users = Users::default();
    let read = users.read(root);
    if let Err(errno @ Errno::FBIG) = read {
        return Err(cannot(reply, Phrase::CannotListUsers, errno));
    }
    let mut list = reply.list();
    // As for the C library, and so for qemu-ga, an unreadable file is empty.
    if read.is_ok() {
        users.each(&mut |user| {
            let mut item = list.object();
            item.text(Name::User, user.name);
            item.member(Name::LoginTime)
                .decimal(user.seconds, user.microseconds.into(), 6);
        });
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::LOGIN_FILE_BYTES;
    use crate::parse::utmp::{Layout, USER_PROCESS};
    use crate::sys::testing::Tree;
    use std::fs;

    fn reply(root: &Root) -> String {
        let mut out = heapless::Vec::<u8, 4096>::new();
        let mut reply = Reply::new(&mut out);
        let outcome = list(root, &mut reply).map(drop);
        reply.finish(outcome);
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn login(user: &[u8], seconds: u32, microseconds: u32) -> Vec<u8> {
        let mut record = vec![0; Layout::NATIVE.record_bytes()];
        record[..2].copy_from_slice(&USER_PROCESS.to_ne_bytes());
        record[44..44 + user.len()].copy_from_slice(user);
        let (word, seconds, microseconds) = match Layout::NATIVE {
            Layout::Narrow => (4, u64::from(seconds), u64::from(microseconds)),
            Layout::Wide => (8, u64::from(seconds), u64::from(microseconds)),
        };
        let at = if word == 4 { 340 } else { 344 };
        record[at..at + word].copy_from_slice(&seconds.to_ne_bytes()[..word]);
        record[at + word..at + 2 * word].copy_from_slice(&microseconds.to_ne_bytes()[..word]);
        record
    }

    #[test]
    fn users_are_listed_with_exact_times() {
        let tree = Tree::new();
        tree.directory("var/run");
        assert_eq!(reply(&tree.root), "{\"return\": []}\n");
        let records = [
            login(b"root", 1_700_000_050, 250_000),
            login(b"anna", 1_700_000_200, 1),
            login(b"root", 1_700_000_060, 0),
            login(b"", 1_700_000_300, 0),
        ];
        tree.file("var/run/utmp", records.concat());
        assert_eq!(
            reply(&tree.root),
            "{\"return\": [{\"user\": \"root\", \"login-time\": 1700000050.25}, \
             {\"user\": \"anna\", \"login-time\": 1700000200.000001}, \
             {\"user\": \"\", \"login-time\": 1700000300}]}\n"
        );
        let file = fs::File::create(tree.path.join("var/run/utmp")).unwrap();
        file.set_len(LOGIN_FILE_BYTES as u64 + 1).unwrap();
        assert_eq!(
            reply(&tree.root),
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \
             \"failed to read utmp (at most 64 MiB): File too large\"}}\n"
        );
    }
}
