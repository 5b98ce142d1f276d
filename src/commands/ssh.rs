//! guest-ssh-get-authorized-keys, -add- and -remove-: the lines of `~/.ssh/authorized_keys`.
//!
//! Which lines are reported and in which order, what counts as the same key, and that a file that
//! ends in a line feed gets a blank line before the next key: all as qemu-ga has it.
//!
//! Differences from qemu-ga:
//! - The home directory is entered with the user's own rights, so a user who puts links there reaches
//!   nothing new by them (Q30). Thus a home that is not the user's to write needs a `.ssh` directory
//!   that is. An agent that may not become that user refuses.
//! - A file that cannot be read is an error also where qemu-ga takes it for empty or for missing, and
//!   replaces it or leaves it: its keys would be lost, or would stay.
//! - A user without a home directory is an error, where qemu-ga uses `.ssh` below its own directory.
//! - The second of two changes at the same moment is refused. A change reaches the disk before the
//!   reply.
//! - Users and their groups are those of /etc/passwd and /etc/group, no other data base's.
//! - All that one command reads and writes takes at most [`ACCOUNTS_BYTES`].

use core::ffi::CStr;

use super::{ADD_KEYS, Work, user_name};
use crate::base::limits::ACCOUNTS_BYTES;
use crate::base::store::Store;
use crate::base::text::trim;
use crate::base::texts::Phrase;
use crate::parse::{accounts, lines};
use crate::state::State;
use crate::sys::file::Links;
use crate::sys::mem::Buffer;
use crate::sys::root::Root;
use crate::sys::{Errno, number, process};
use crate::wire::args::{Args, place};
use crate::wire::json::Json;
use crate::wire::reply::{Failed, Reply};

/// Lists keys.
pub(super) const GET: Work = |state, args, reply| work(state, args, reply, Task::Get);
/// Adds keys.
pub(super) const ADD: Work = |state, args, reply| work(state, args, reply, Task::Add);
/// Removes keys.
pub(super) const REMOVE: Work = |state, args, reply| work(state, args, reply, Task::Remove);

/// What is done with keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    Get,
    Add,
    Remove,
}

/// Length of `/.ssh`.
const DIRECTORY: usize = 5;
const NAME: &CStr = c"authorized_keys";

/// What an error is about. One without a number is that there is no such user.
struct About<'a> {
    /// What it says.
    phrase: Phrase,
    /// The user, or path.
    subject: &'a [u8],
}

fn work(
    state: &mut State,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
    work: Task,
) -> Result<u8, Failed> {
    let mut room = Buffer::lasting(ACCOUNTS_BYTES);
    let given = args
        .value(const { place(ADD_KEYS, "keys") })
        .map(Json::items)
        .unwrap_or_default();
    for key in given.filter_map(Json::string) {
        let start = room.len();
        let _ = key.decode(&mut *room);
        let key = room.bytes().get(start..).unwrap_or_default();
        if key.first() == Some(&b'#') || key.contains(&b'\n') {
            return Err(reply.say(Phrase::InvalidKey, &[key], 0));
        }
        let _ = room.append(b"\n");
    }
    let mut lines = room.take();
    let mut about = About {
        phrase: Phrase::CannotLookUp,
        subject: user_name(args, &mut room),
    };
    let reset = args.bool(const { place(ADD_KEYS, "reset") }) == Some(true);
    let done = change(&state.root, work, &mut lines, reset, &mut room, &mut about);
    if let Err(errno) = done {
        let subject = about.subject;
        // The latter three where it is said twice.
        let pieces: [&[u8]; 4] = [subject, b"\xE2\x80\x9C", subject, b"\xE2\x80\x9D"];
        let twice = matches!(
            about.phrase,
            Phrase::CannotOpenKeys | Phrase::CannotReadKeys
        );
        let pieces = if twice { &pieces[..] } else { &pieces[..1] };
        let mut error = reply.fail().phrase(about.phrase, pieces);
        error = match errno {
            Some(errno) => error.errno(number(errno)),
            None => error.text(": no such user"),
        };
        return Err(error.end());
    }
    if work == Task::Get {
        list(lines, reply);
    }
    Ok(0)
}

/// Becomes the user that an error would be about, and gives the lines that there are, or changes them
/// by those given.
#[inline(never)]
fn change(
    root: &Root,
    work: Task,
    lines: &mut &'static [u8],
    reset: bool,
    room: &mut Buffer,
    about: &mut About<'_>,
) -> Result<(), Option<Errno>> {
    let etc = root.enter(b"etc", false)?;
    etc.read_named(c"passwd", Links::Follow, room)?;
    let passwd = room.take();
    let user = accounts::user(passwd, about.subject).ok_or(None)?;
    let mut home = user.home;
    if home.first() != Some(&b'/') {
        return Err(Some(Errno::NOTDIR));
    }
    while let [shorter @ .., b'/'] = home {
        home = shorter;
    }
    // Groups left out are only rights left out.
    let _ = etc.read_named(c"group", Links::Follow, room);
    let group = room.take();
    accounts::groups(group, about.subject, room);
    process::act_as(user.uid, user.gid, room.take())?;

    for piece in &[home, b"/.ssh/authorized_keys"] {
        let _ = room.append(piece);
    }
    let path = room.take();
    room.whole()?;
    let (above, _) = path
        .split_at_checked(home.len() + DIRECTORY)
        .unwrap_or_default();
    about.phrase = Phrase::CannotCreate;
    about.subject = above;
    let directory = root.enter(above, work == Task::Add);
    if work != Task::Add || directory.is_ok() {
        about.phrase = Phrase::CannotOpenKeys;
        about.subject = path;
    }
    let directory = match directory {
        Err(Errno::NOENT | Errno::NOTDIR) if work == Task::Remove => return Ok(()),
        directory => directory?,
    };
    if work != Task::Get {
        directory.lock()?;
    }
    let file = match reset {
        true => Err(Errno::NOENT),
        false => directory.look(NAME, Links::Follow),
    };
    match file {
        Err(Errno::NOENT) if work == Task::Remove => return Ok(()),
        Err(Errno::NOENT) if work == Task::Add => {}
        file => {
            let file = file?;
            about.phrase = Phrase::CannotReadKeys;
            room.read(&file)?;
            // An empty file has no line at all, which is not the same as an empty one.
            if !room.is_empty() {
                let _ = room.append(b"\n");
            }
        }
    }
    if work == Task::Get {
        *lines = room.take();
        return Ok(());
    }
    let mut others = None;
    if work == Task::Remove {
        others = Some(core::mem::replace(lines, room.take()));
    }
    accounts::add_lines(lines, others, room);
    about.phrase = Phrase::CannotWriteKeys;
    let new = room.take();
    room.whole()?;
    let new = new.strip_suffix(b"\n").unwrap_or_default();
    Ok(directory.replace(NAME, new, None)?)
}

fn list(file: &[u8], reply: &mut Reply<'_>) {
    let mut object = reply.object();
    let mut list = object.list("keys");
    for line in lines(file).rev() {
        let line = trim(line);
        if !matches!(line, [] | [b'#', ..]) {
            list.item().text(line);
        }
    }
    list.end();
    object.end();
}
