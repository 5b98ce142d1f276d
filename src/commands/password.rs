//! guest-set-user-password: /etc/shadow, or /etc/passwd where there is no shadow, rewritten.
//!
//! What shadow-utils' chpasswd does is done here, without it: the same locks, the same choice of
//! file (shadow if the user is in it, or is sent there by `x`; passwd if not, or if it holds a
//! password besides), the day of the change, and a new line where one is missing. Plain passwords
//! are hashed here, see `base::crypt`. Order of checks and their texts are qemu-ga's.
//!
//! Differences from qemu-ga:
//! - A NUL in a password is refused, where qemu-ga takes what comes before it (Q25); so is a colon
//!   in a hash, which would spoil the line, and a plain password nobody could log in with, for its
//!   length.
//! - Nothing waits for a lock longer than a few seconds.
//! - PAM and its modules are not asked: no rules about good passwords, no other data base than the
//!   files, no other kind of hash.
//! - A file that is a symbolic link is refused, as what it points to could not be replaced in one
//!   step by its own name.
//! - New lines of shadow say nothing about ageing, whatever /etc/login.defs says; while the clock
//!   stands in 1970 the day is left empty, because 0 would mean that the password has expired.

use super::{NOT_BASE64, Slow};
use crate::base::base64::Fault;
use crate::base::crypt::{SALT_BYTES, sha512_crypt};
use crate::base::limits::{ACCOUNTS_BYTES, PASSWORD_BYTES};
use crate::base::text::Digits;
use crate::parse::accounts::{IN_SHADOW, set_password, user};
use crate::state::State;
use crate::sys::file::{self, Links};
use crate::sys::mem::Arena;
use crate::sys::root::Root;
use crate::sys::system::random;
use crate::sys::{Errno, clock, number};
use crate::wire::args::Args;
use crate::wire::reply::{Failed, Reply};

/// Sets a password.
pub(super) const SET_USER_PASSWORD: Slow = Slow::alone(set_user_password);

fn set_user_password(
    state: &mut State,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<u8, Failed> {
    let mut arena = Arena::new(ACCOUNTS_BYTES);
    let crypted = args.bool("crypted") == Some(true);
    let decoded = args
        .string("password")
        .map(|text| text.base64(&mut arena));
    let password = arena.take().unwrap_or_default();
    if let Some(name) = args.string("username") {
        let _ = name.decode(&mut arena);
    }
    let name = arena.take().unwrap_or_default();
    let wrong = if decoded == Some(Err(Fault::Invalid)) {
        NOT_BASE64
    } else if has(password, b'\n') || has(password, 0) || crypted && has(password, b':') {
        "forbidden characters in raw password"
    } else if has(name, b'\n') || has(name, b':') {
        "forbidden characters in username"
    } else if password.len() > PASSWORD_BYTES || decoded != Some(Ok(())) {
        "the password is too long"
    } else {
        let mut what = NO_USER;
        let done = if crypted {
            Ok(password)
        } else {
            hash(password, &mut arena)
        };
        let done = done.and_then(|hash| set(&state.root, name, hash, &mut arena, &mut what));
        let errno = match done {
            Ok(true) => return Ok(0),
            Ok(false) => 0,
            Err(errno) => number(errno),
        };
        const FAILED: &[u8] = b"child process has failed to set user password: ";
        return Err(reply.refuse(&[FAILED, what.as_bytes()], errno));
    };
    Err(reply.refuse(&[wrong.as_bytes()], 0))
}

fn hash(password: &[u8], arena: &mut Arena) -> Result<&'static [u8], Errno> {
    let mut salt = [0; SALT_BYTES];
    random(&mut salt)?;
    sha512_crypt(password, &salt, arena);
    arena.take()
}

#[inline(never)]
fn has(bytes: &[u8], byte: u8) -> bool {
    bytes.contains(&byte)
}

const NO_USER: &str = "no such user";

/// Where things are, all in /etc.
const ETC: &str = "/etc/";
const LOCK: &str = "/etc/.pwd.lock";
const PASSWD: &str = "/etc/passwd";
const SHADOW: &str = "/etc/shadow";

/// A name inside of /etc.
fn name_of(path: &'static str) -> &'static [u8] {
    path.as_bytes().get(ETC.len()..).unwrap_or_default()
}

/// Sets the hash; false if there is no such user. `what` is what an error is about.
fn set(
    root: &Root,
    name: &[u8],
    hash: &[u8],
    arena: &mut Arena,
    what: &mut &'static str,
) -> Result<bool, Errno> {
    let day = clock::realtime_ns() / (86_400 * 1_000_000_000);
    let digits = Digits::signed(day);
    let day = if day > 0 { digits.as_bytes() } else { b"" };
    *what = ETC;
    let etc = root.enter(ETC.as_bytes())?;
    *what = LOCK;
    // Held until this process ends: nobody else who keeps to the rules changes accounts meanwhile.
    let _lock = etc.lock_record(name_of(LOCK))?;
    *what = PASSWD;
    let passwd = etc.look(name_of(PASSWD), Links::Follow)?;
    let Some(user) = user(arena.read(&passwd)?, name) else {
        *what = NO_USER;
        return Ok(false);
    };
    let sent_there = user.password == IN_SHADOW;
    *what = SHADOW;
    let in_shadow = rewrite(&etc, what, (name, hash, Some(day)), sent_there, arena)?;
    if !in_shadow || !sent_there {
        *what = PASSWD;
        rewrite(&etc, what, (name, hash, None), false, arena)?;
    }
    Ok(true)
}

/// Changes one of the files, under its lock; tells whether the user is in it.
#[inline(never)]
fn rewrite(
    etc: &Root,
    path: &'static str,
    change: (&[u8], &[u8], Option<&[u8]>),
    make: bool,
    arena: &mut Arena,
) -> Result<bool, Errno> {
    let name = name_of(path);
    etc.lock_file(name)?;
    let changed = rewrite_locked(etc, name, change, make, arena);
    etc.unlock_file(name);
    changed
}

fn rewrite_locked(
    etc: &Root,
    name: &[u8],
    change: (&[u8], &[u8], Option<&[u8]>),
    make: bool,
    arena: &mut Arena,
) -> Result<bool, Errno> {
    let old = match etc.look(name, Links::Refuse) {
        Err(Errno::NOENT) => return Ok(false),
        old => old?,
    };
    let content = arena.read(&old)?;
    let is_there = set_password(content, change, make, arena);
    let new = arena.take()?;
    if is_there {
        etc.replace(name, new, file::owner(&old)?, Some(&old))?;
    }
    Ok(is_there)
}
