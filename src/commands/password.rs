//! guest-set-user-password: /etc/shadow, or /etc/passwd where there is no shadow, rewritten.
//!
//! What shadow-utils' chpasswd does is done here, without it: the same locks, the day of the
//! change, and a new line of shadow where one is missing. The file is that in which a login looks:
//! shadow if there is one and passwd says `x`, passwd if not. That is decided while passwd is
//! locked. Plain passwords are hashed here, see
//! `base::crypt`. Order of checks and their texts are qemu-ga's.
//!
//! Differences from qemu-ga:
//! - A NUL in a password is refused, where qemu-ga takes what comes before it; so is a colon
//!   in a hash, which would spoil the line, and a plain password nobody could log in with, for its
//!   length.
//! - If a user has passwords in both files, the one in passwd is changed: a login reads that one.
//! - Nothing waits for a lock longer than a few seconds.
//! - PAM and its modules are not asked: no rules about good passwords, no other data base than the
//!   files, no other kind of hash.
//! - A file that is a mount point, or is in a directory that cannot be written, is overwritten
//!   (`state::etc_file`), where chpasswd fails. A symbolic link stays, as with chpasswd; one that leads
//!   to a device is an error.
//! - New lines of shadow say nothing about ageing, whatever /etc/login.defs says; while the clock
//!   stands in 1970 the day is left empty, because 0 would mean that the password has expired.

use core::ffi::CStr;
use core::mem::ManuallyDrop;

use super::command::Ticket;
use super::common::{UNFINISHED, user_name};
use crate::base::base64::DecodeError;
use crate::base::crypt::{SALT_BYTES, sha512_crypt};
use crate::base::limits::{ACCOUNTS_BYTES, LOCK_POLL_MS, LOCK_WAIT_MS, PASSWORD_BYTES};
use crate::base::sink::ByteSink;
use crate::base::text::{Digits, parse_u32};
use crate::parse::accounts::{IN_SHADOW, set_password, user};
use crate::state::etc_file::EtcFile;
use crate::state::guest::Guest;
use crate::sys::file::{self, Links};
use crate::sys::mem::Buffer;
use crate::sys::root::{OpenOptions, Root};
use crate::sys::system::random;
use crate::sys::{Errno, clock, number, process, stream};
use crate::wire::args::{Args, Param, Type, index_of, must};
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::Phrase;

pub(super) const PASSWORD: &[Param] = &[
    must("username", Type::Str),
    must("password", Type::Str),
    must("crypted", Type::Bool),
];

/// Sets a password.
pub(super) fn set_user_password(
    guest: &Guest,
    _: Ticket,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<u8, Failed> {
    let mut room = Buffer::lasting(ACCOUNTS_BYTES);
    let crypted = args.bool(const { index_of(PASSWORD, "crypted") }) == Some(true);
    let password = args.string(const { index_of(PASSWORD, "password") });
    let decoded = password.unwrap_or_default().base64(&mut *room);
    let password = room.take();
    let name = user_name(args, &mut room);
    let wrong = if decoded == Err(DecodeError::Invalid) {
        Phrase::NotBase64
    } else if has(password, if crypted { b"\n\0:" } else { b"\n\0" }) {
        Phrase::InvalidPassword
    } else if has(name, b"\n:") {
        Phrase::InvalidUserName
    } else if password.len() > PASSWORD_BYTES || decoded.is_err() {
        Phrase::PasswordTooLong
    } else {
        let mut about = PASSWD.path;
        let done = set(
            &guest.root,
            name,
            (password, crypted),
            &mut room,
            &mut about,
        );
        let Err(errno) = done else { return Ok(0) };
        let errno = errno.map_or(0, number);
        return Err(reply.fail_with(Phrase::CannotSetPassword, &[about], errno));
    };
    Err(reply.fail(wrong))
}

/// Whether `text` has one of these bytes.
#[inline(never)]
fn has(bytes: &[u8], any: &[u8]) -> bool {
    bytes.iter().any(|byte| any.contains(byte))
}

const ETC: &[u8] = b"etc";

/// A file with passwords.
struct File {
    path: &'static [u8],
    /// Its name in /etc.
    name: &'static CStr,
    /// The name of its lock.
    lock: &'static CStr,
    /// The number of fields of a line that change.
    new_fields: usize,
}

static PASSWD: File = File {
    path: b"/etc/passwd",
    name: c"passwd",
    lock: c"passwd.lock",
    new_fields: 2,
};
static SHADOW: File = File {
    path: b"/etc/shadow",
    name: c"shadow",
    lock: c"shadow.lock",
    new_fields: 3,
};

/// Sets the password. After an error `about` names the file; for `Err(None)` it is the whole text
/// of the error.
fn set(
    root: &Root,
    name: &[u8],
    (password, crypted): (&[u8], bool),
    room: &mut Buffer,
    about: &mut &'static [u8],
) -> Result<(), Option<Errno>> {
    room.whole()?;
    let etc = ManuallyDrop::new(root.enter(ETC, Links::Follow)?);
    // Before the locks: an unknown user is an error at once, and the hash takes long.
    file_of(&etc, name, room, about)?;
    let mut hash = password;
    if !crypted {
        let mut salt = [0; SALT_BYTES];
        random(&mut salt).inspect_err(|_| *about = b"/dev/urandom")?;
        sha512_crypt(password, &salt, room);
        hash = room.take();
    }
    let day = clock::realtime_s() / 86_400;
    let digits = Digits::signed(day);
    let day = if day > 0 { digits.as_bytes() } else { b"" };
    let new = [name, hash, day];
    let locked = lock_accounts(&etc, PASSWD.lock);
    if locked == Err(Errno::NOLCK) {
        *about = PASSWD.path;
    }
    locked?;
    let done = set_locked(root, &etc, &new, room, about);
    etc.remove_named(PASSWD.lock);
    done
}

/// Sets the password while passwd is locked: until then it could move to the other file.
fn set_locked(
    root: &Root,
    etc: &Root,
    new: &[&[u8]; 3],
    room: &mut Buffer,
    about: &mut &'static [u8],
) -> Result<(), Option<Errno>> {
    let [name, ..] = *new;
    let file = file_of(etc, name, room, about)?;
    if core::ptr::eq(file, &SHADOW) {
        // After passwd, as shadow-utils does.
        lock_accounts(etc, SHADOW.lock)?;
        let done = rewrite(root, file, new, room);
        etc.remove_named(SHADOW.lock);
        return Ok(done?);
    }
    Ok(rewrite(root, file, new, room)?)
}

/// The file with the password of a user; it becomes `about`.
fn file_of(
    etc: &Root,
    name: &[u8],
    room: &mut Buffer,
    about: &mut &'static [u8],
) -> Result<&'static File, Option<Errno>> {
    *about = PASSWD.path;
    etc.read_named(PASSWD.name, Links::Follow, room)?;
    let in_shadow = user(room.bytes(), name).map(|user| user.password == IN_SHADOW);
    room.truncate(0);
    let Some(in_shadow) = in_shadow else {
        *about = b"no such user";
        return Err(None);
    };
    if in_shadow && etc.has_at(&[SHADOW.name.to_bytes()]) != Ok(false) {
        *about = SHADOW.path;
        return Ok(&SHADOW);
    }
    Ok(&PASSWD)
}

fn rewrite(root: &Root, file: &File, new: &[&[u8]; 3], room: &mut Buffer) -> Result<(), Errno> {
    let found = EtcFile::find(root, root.enter(ETC, Links::Follow)?, file.name)?;
    let old = found.read(room)?;
    let old_content = room.take();
    set_password(old_content, &new[..file.new_fields], room);
    let new = room.take();
    room.whole()?;
    found.rewrite((&old, old_content), new, UNFINISHED)
}

// Locks.

/// The lock on all accounts.
const ALL: &[u8] = b".pwd.lock";

/// Takes the locks of shadow-utils: the lock on all accounts, as lckpwdf(3) takes it, until this
/// process ends; and the file `lock`, until that is removed.
///
/// The file is a link to a file that holds the process id of its owner. If that process has ended,
/// the file is removed. If another process has the id by now, as it may after a power cut, the file
/// stays: as with shadow-utils, a person has to remove it.
///
/// # Errors
/// [`Errno::NOLCK`] after [`LOCK_WAIT_MS`].
#[inline(never)]
fn lock_accounts(etc: &Root, lock: &CStr) -> Result<(), Errno> {
    let all = match etc.open_private(ALL, OpenOptions::WRITE.create()) {
        // Nobody else can make a lock either.
        Err(Errno::ROFS) => return Ok(()),
        // Closing it would give up the lock.
        all => ManuallyDrop::new(all?),
    };
    for _ in 0..LOCK_WAIT_MS / LOCK_POLL_MS {
        let locked = file::lock_record(&*all);
        match locked.and_then(|()| make_lock(etc, lock)) {
            Err(Errno::AGAIN) => {}
            Err(Errno::EXIST) if is_stale(etc, lock) => etc.remove_named(lock),
            Err(Errno::EXIST) => {}
            done => return done,
        }
        clock::sleep_ms(LOCK_POLL_MS);
    }
    Err(Errno::NOLCK)
}

/// Makes a lock file; [`Errno::EXIST`] if there is one.
fn make_lock(etc: &Root, lock: &CStr) -> Result<(), Errno> {
    let pid = Digits::signed(process::own_pid().into());
    let made = etc.make(UNFINISHED, pid.as_bytes());
    let linked = made.and_then(|_| etc.link(UNFINISHED, lock));
    etc.remove_named(UNFINISHED);
    linked
}

/// Whether the owner of a lock file has ended. A file without a process id counts as owned by a
/// living process.
fn is_stale(etc: &Root, lock: &CStr) -> bool {
    let mut content = [0; 16];
    if let Ok(file) = etc.look(lock, Links::Follow) {
        let _ = stream::read(&*file, &mut content);
    }
    // shadow-utils ends the number with a NUL.
    let end = content.iter().position(|byte| *byte == 0);
    let number = content.get(..end.unwrap_or_default()).and_then(parse_u32);
    number.map(u32::cast_signed).is_some_and(|owner| {
        owner == process::own_pid() || process::kill(owner, 0) == Err(Errno::SRCH)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;
    use std::fs;

    #[test]
    fn takes_lock_files_and_those_of_processes_that_have_ended() {
        let tree = Tree::new();
        let root = &tree.root;
        let content = || fs::read_to_string(tree.path.join("x.lock")).unwrap();
        let names = || {
            let entries = fs::read_dir(&tree.path).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.collect();
            names.sort();
            names
        };
        lock_accounts(root, c"x.lock").unwrap();
        let own = std::process::id().to_string();
        assert_eq!(content(), own);
        assert_eq!(names(), [".pwd.lock", "x.lock"]);
        root.remove_named(c"x.lock");
        // Of a process that has ended.
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        for left in [format!("{}\0", child.id()), child.id().to_string()] {
            tree.file("x.lock", left);
            lock_accounts(root, c"x.lock").unwrap();
            assert_eq!(content(), own);
        }
        // Of one that lives, or nobody's; neither goes by itself.
        for held in ["1\0", "1", "", "x\0"] {
            tree.file("x.lock", held);
            let refused = lock_accounts(root, c"x.lock").err();
            assert_eq!(refused, Some(Errno::NOLCK), "{held:?}");
            assert_eq!(content(), held);
        }
        assert_eq!(names(), [".pwd.lock", "x.lock"]);
    }
}
