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
use core::mem::ManuallyDrop;

use super::{ADD_KEYS, Work, user_name};
use crate::base::limits::ACCOUNTS_BYTES;
use crate::base::store::Store;
use crate::base::text::trim;
use crate::base::texts::{Name, Phrase};
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
/// What stands before the path of the file where errors name it a second time.
const QUOTE: &[u8] = b"\xE2\x80\x9C";

/// What an error is about.
struct About<'a> {
    /// What it says.
    phrase: Phrase,
    /// The user, or path; and what comes behind it.
    subjects: [&'a [u8]; 2],
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
        subjects: [user_name(args, &mut room), b""],
    };
    let reset = args.bool(const { place(ADD_KEYS, "reset") }) == Some(true);
    let done = change(&state.root, work, &mut lines, reset, &mut room, &mut about);
    if let Err(errno) = done {
        let errno = errno.map_or(0, number);
        return Err(reply.say(about.phrase, &about.subjects, errno));
    }
    if work == Task::Get {
        list(lines, reply);
    }
    Ok(0)
}

/// Becomes the user that an error would be about, and gives the lines that there are, or changes them
/// by those given. An error without a number is told by its subjects alone.
#[inline(never)]
fn change(
    root: &Root,
    work: Task,
    lines: &mut &'static [u8],
    reset: bool,
    room: &mut Buffer,
    about: &mut About<'_>,
) -> Result<(), Option<Errno>> {
    let etc = ManuallyDrop::new(root.enter(b"etc", false)?);
    etc.read_named(c"passwd", Links::Follow, room)?;
    let passwd = room.take();
    let [name, _] = about.subjects;
    let Some(user) = accounts::user(passwd, name) else {
        about.subjects = [name, b": no such user"];
        return Err(None);
    };
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
    accounts::groups(group, name, room);
    process::act_as(user.uid, user.gid, room.take())?;

    let _ = room.append(QUOTE);
    let _ = room.append(home);
    let _ = room.append(b"/.ssh/authorized_keys\xE2\x80\x9D");
    let quoted = room.take();
    room.whole()?;
    let (path, _) = quoted.split_at(quoted.len() - QUOTE.len());
    let path = &path[QUOTE.len()..];
    let above = &path[..home.len() + DIRECTORY];
    about.phrase = Phrase::CannotCreate;
    about.subjects = [above, b""];
    let directory = root.enter(above, work == Task::Add);
    if work != Task::Add || directory.is_ok() {
        about.phrase = Phrase::CannotOpenKeys;
        about.subjects = [path, quoted];
    }
    let directory = match directory {
        Err(Errno::NOENT | Errno::NOTDIR) if work == Task::Remove => return Ok(()),
        directory => ManuallyDrop::new(directory?),
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
    let file = room.take();
    let mut index = Buffer::growing(ACCOUNTS_BYTES);
    let changed = match work {
        Task::Remove => accounts::remove_lines(file, lines, &mut index, room),
        _ => accounts::add_lines(file, lines, &mut index, room),
    };
    changed.map_err(|_| Errno::NOMEM)?;
    about.phrase = Phrase::CannotWriteKeys;
    about.subjects = [path, b""];
    let new = room.take();
    room.whole()?;
    // Without the line feed at its end.
    let new = new.split_last().map_or(&b""[..], |(_, new)| new);
    Ok(directory.replace(NAME, new, None)?)
}

fn list(file: &[u8], reply: &mut Reply<'_>) {
    let mut object = reply.object();
    let mut list = object.list(Name::Keys);
    for line in lines(file).rev() {
        let line = trim(line);
        if !matches!(line, [] | [b'#', ..]) {
            list.item().text(line);
        }
    }
    list.end();
    object.end();
}
