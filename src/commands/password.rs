//! guest-set-user-password: /etc/shadow, or /etc/passwd where there is no shadow, rewritten.
//!
//! What shadow-utils' chpasswd does is done here, without it: the same locks, the day of the change,
//! and a new line of shadow where one is missing. The file is that in which a login looks: shadow if
//! there is one and passwd says `x`, passwd if not. Plain passwords are hashed here, see
//! `base::crypt`. Order of checks and their texts are qemu-ga's.
//!
//! Differences from qemu-ga:
//! - A NUL in a password is refused, where qemu-ga takes what comes before it (Q25); so is a colon
//!   in a hash, which would spoil the line, and a plain password nobody could log in with, for its
//!   length.
//! - Who has passwords in both files has the one in passwd changed, which is the one that counts.
//! - Nothing waits for a lock longer than a few seconds.
//! - PAM and its modules are not asked: no rules about good passwords, no other data base than the
//!   files, no other kind of hash.
//! - A file that is a symbolic link is refused, as what it points to could not be replaced in one
//!   step by its own name.
//! - New lines of shadow say nothing about ageing, whatever /etc/login.defs says; while the clock
//!   stands in 1970 the day is left empty, because 0 would mean that the password has expired.

use core::ffi::CStr;

use super::{PASSWORD, Work, user_name};
use crate::base::base64::Fault;
use crate::base::crypt::{SALT_BYTES, sha512_crypt};
use crate::base::limits::{ACCOUNTS_BYTES, PASSWORD_BYTES};
use crate::base::store::Store;
use crate::base::text::Digits;
use crate::base::texts::Phrase;
use crate::parse::accounts::{IN_SHADOW, set_password, user};
use crate::state::State;
use crate::sys::file::Links;
use crate::sys::mem::Buffer;
use crate::sys::root::Root;
use crate::sys::system::random;
use crate::sys::{Errno, clock, number};
use crate::wire::args::{Args, place};
use crate::wire::reply::{Failed, Reply};

/// Sets a password.
pub(super) const SET_USER_PASSWORD: Work = set_user_password;

fn set_user_password(
    state: &mut State,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<u8, Failed> {
    let mut room = Buffer::lasting(ACCOUNTS_BYTES);
    let crypted = args.bool(const { place(PASSWORD, "crypted") }) == Some(true);
    let decoded = args
        .string(const { place(PASSWORD, "password") })
        .map(|text| text.base64(&mut *room));
    let password = room.take();
    let name = user_name(args, &mut room);
    let (mut etc, mut what) = (&b""[..], c"");
    let mut errno = None;
    let wrong = if decoded == Some(Err(Fault::Invalid)) {
        Phrase::NotBase64
    } else if has(password, b'\n') || has(password, 0) || crypted && has(password, b':') {
        Phrase::InvalidPassword
    } else if has(name, b'\n') || has(name, b':') {
        Phrase::InvalidUserName
    } else if password.len() > PASSWORD_BYTES || decoded != Some(Ok(())) {
        Phrase::PasswordTooLong
    } else {
        what = PASSWD.0;
        match set(&state.root, name, (password, crypted), &mut room, &mut what) {
            Ok(()) => return Ok(0),
            Err(None) => what = c"no such user",
            Err(error) => {
                etc = b"/etc/";
                errno = error;
            }
        }
        Phrase::CannotSetPassword
    };
    let pieces = [etc, what.to_bytes()];
    Err(reply.say(wrong, &pieces, errno.map_or(0, number)))
}

#[inline(never)]
fn has(bytes: &[u8], byte: u8) -> bool {
    bytes.contains(&byte)
}

const ETC: &[u8] = b"etc";

/// One of the files, in /etc: its name, that of its lock, and whether it is shadow.
type File = (&'static CStr, &'static CStr, bool);

static PASSWD: File = (c"passwd", c"passwd.lock", false);
static SHADOW: File = (c"shadow", c"shadow.lock", true);

/// Sets the password. `what` is the file that an error is about; one without a number is
/// that there is no such user.
fn set(
    root: &Root,
    name: &[u8],
    (password, crypted): (&[u8], bool),
    room: &mut Buffer,
    what: &mut &'static CStr,
) -> Result<(), Option<Errno>> {
    let etc = root.enter(ETC, false)?;
    etc.read_named(PASSWD.0, Links::Follow, room)?;
    let user = user(room.take(), name).ok_or(None)?;
    let mut file = &PASSWD;
    let shadow =
        user.password == IN_SHADOW && etc.look(SHADOW.0, Links::Refuse).err() != Some(Errno::NOENT);
    if shadow {
        file = &SHADOW;
    }
    *what = file.0;
    // The line as it will begin.
    let _ = room.append(name);
    let _ = room.append(b":");
    if crypted {
        let _ = room.append(password);
    } else {
        let mut salt = [0; SALT_BYTES];
        random(&mut salt)?;
        sha512_crypt(password, &salt, room);
    }
    let _ = room.append(b":");
    if shadow {
        let day = clock::realtime_ns() / (86_400 * 1_000_000_000);
        if day > 0 {
            let _ = room.append(Digits::signed(day).as_bytes());
        }
        let _ = room.append(b":");
    }
    let start = room.take();
    etc.lock_accounts(file.1)?;
    let done = rewrite(&etc, file, name, start, room);
    etc.remove_named(file.1);
    Ok(done?)
}

fn rewrite(
    etc: &Root,
    file: &File,
    name: &[u8],
    start: &[u8],
    room: &mut Buffer,
) -> Result<(), Errno> {
    let old = etc.read_named(file.0, Links::Refuse, room)?;
    set_password(room.take(), name, start, file.2, room);
    let new = room.take();
    room.whole()?;
    etc.replace(file.0, new, Some(&old))
}
