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
//! - Changes wait for each other, and reach the disk before the reply; a kept file keeps its label.
//! - Users and their groups are those of /etc/passwd and /etc/group, no other data base's.
//! - Files have at most [`ACCOUNT_FILE_BYTES`].

use super::Slow;
use crate::base::limits::ACCOUNTS_BYTES;
use crate::base::store::Store;
use crate::base::text::trim;
use crate::parse::{accounts, lines};
use crate::state::State;
use crate::sys::file::{Links, Owner};
use crate::sys::mem::Arena;
use crate::sys::root::Root;
use crate::sys::{Errno, number, process};
use crate::wire::args::Args;
use crate::wire::json::{Items, Json};
use crate::wire::reply::{Failed, Reply};

/// Lists keys.
pub(super) const GET: Slow = Slow::alone(|state, args, reply| work(state, args, reply, Work::Get));
/// Adds keys.
pub(super) const ADD: Slow = Slow::alone(|state, args, reply| work(state, args, reply, Work::Add));
/// Removes keys.
pub(super) const REMOVE: Slow =
    Slow::alone(|state, args, reply| work(state, args, reply, Work::Remove));

/// What is done with keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Get,
    Add,
    Remove,
}

const DIRECTORY: &[u8] = b"/.ssh/";
const NAME: &[u8] = b"authorized_keys";

/// Finds the user and takes over the user's rights; gives the path of the keys, and how they are to
/// be owned. `what` is what an error is about; that there is none is [`NO_ERROR`].
#[inline(never)]
fn become_user(
    root: &Root,
    name: &[u8],
    arena: &mut Arena,
    what: &mut &'static str,
) -> Result<(&'static [u8], Owner), i32> {
    *what = "/etc/passwd";
    let passwd = root.look(b"etc/passwd", Links::Follow).map_err(number)?;
    let passwd = arena.read(&passwd).map_err(number)?;
    let group = root.look(b"etc/group", Links::Follow);
    // Groups left out are only rights left out.
    let group = group.and_then(|group| arena.read(&group));
    *what = "no such user";
    let user = accounts::user(passwd, name).ok_or(NO_ERROR)?;
    *what = "no home directory";
    let mut home = user.home;
    if home.first() != Some(&b'/') {
        return Err(NO_ERROR);
    }
    while let [shorter @ .., b'/'] = home {
        home = shorter;
    }
    for piece in [home, DIRECTORY, NAME] {
        let _ = arena.append(piece);
    }
    let path = arena.take();
    *what = "becoming that user";
    accounts::groups(group.unwrap_or_default(), name, arena);
    let owner = Owner {
        uid: user.uid,
        gid: user.gid,
        mode: 0o600,
    };
    arena
        .take()
        .and_then(|groups| process::act_as(owner.uid, owner.gid, groups))
        .and(path)
        .map(|path| (path, owner))
        .map_err(number)
}

/// Without an error number.
const NO_ERROR: i32 = 0;

fn work(
    state: &mut State,
    args: &Args<'_>,
    reply: &mut Reply<'_>,
    work: Work,
) -> Result<u8, Failed> {
    let given = args.value("keys").map(Json::items).unwrap_or_default();
    for key in given.filter_map(Json::string) {
        let mut before = b'\n';
        for byte in key.bytes() {
            if byte == b'\n' || before == b'\n' && byte == b'#' {
                let error = reply.fail().text("invalid OpenSSH public key: '");
                return Err(error.string(key).text("'").end());
            }
            before = byte;
        }
    }
    let mut arena = Arena::new(ACCOUNTS_BYTES);
    if let Some(name) = args.string("username") {
        let _ = name.decode(&mut arena);
    }
    let name = arena.take().unwrap_or_default();
    let mut what = "";
    let (path, owner) = match become_user(&state.root, name, &mut arena, &mut what) {
        Ok(found) => found,
        Err(errno) => {
            let pieces = [
                &b"failed to lookup user '"[..],
                name,
                b"': ",
                what.as_bytes(),
            ];
            return Err(reply.refuse(&pieces, errno));
        }
    };
    let above = path.get(..path.len().saturating_sub(NAME.len() + 1));
    let above = above.unwrap_or_default();
    let mut directory = state.root.enter(above);
    if work != Work::Get
        && let Err(Errno::NOENT | Errno::NOTDIR) = directory
    {
        if work == Work::Remove {
            return Ok(0);
        }
        let made = state.root.make_private(above);
        directory = made.and_then(|()| state.root.enter(above));
        if let Err(errno) = directory {
            let create = b"failed to create directory '";
            return Err(reply.refuse(&[create, above, b"'"], number(errno)));
        }
    }
    // Without it the last of two changes at once would undo the other.
    let mut locked = Ok(());
    if work != Work::Get
        && let Ok(directory) = &directory
    {
        locked = directory.lock();
    }
    let mut what = "': Failed to open file \u{201C}";
    let mut file = Err(Errno::NOENT);
    if args.bool("reset") != Some(true) {
        let directory = directory.as_ref().map_err(|errno| *errno);
        file = directory.and_then(|directory| directory.look(NAME, Links::Follow));
    }
    let old = match &file {
        Ok(file) => {
            what = "': Error reading file \u{201C}";
            arena.read(file)
        }
        Err(Errno::NOENT) if work == Work::Remove => return Ok(0),
        Err(Errno::NOENT) if work == Work::Add => Ok(&[][..]),
        Err(errno) => Err(*errno),
    };
    let (old, directory) = match (old, directory) {
        (Ok(old), Ok(directory)) => (old, directory),
        (Err(errno), _) | (_, Err(errno)) => {
            let (read, end) = (&b"failed to read '"[..], "\u{201D}".as_bytes());
            let pieces = [read, path, what.as_bytes(), path, end];
            return Err(reply.refuse(&pieces, number(errno)));
        }
    };
    if work == Work::Get {
        list(old, reply);
        return Ok(0);
    }
    edit(old, given, work, &mut arena);
    let done = locked
        .and_then(|()| arena.take())
        .and_then(|new| directory.replace(NAME, new, owner, file.as_ref().ok()));
    done.map(|()| 0)
        .map_err(|errno| reply.refuse(&[b"failed to write to '", path, b"'"], number(errno)))
}

fn list(file: &[u8], reply: &mut Reply<'_>) {
    let mut object = reply.value().object();
    let mut list = object.member("keys").list();
    for line in lines(file).rev() {
        let line = trim(line);
        if !matches!(line, [] | [b'#', ..]) {
            list.item().text(line);
        }
    }
    list.end();
    object.end();
}

/// Writes the lines of `old`, and behind them every key that is not yet a line; or the lines that are
/// no key.
#[inline(never)]
fn edit(old: &[u8], given: Items<'_>, work: Work, out: &mut dyn Store) {
    // No line at all is not the same as an empty one.
    let mut separator: &[u8] = b"";
    for line in lines(old) {
        let is_key = |key: Json<'_>| key.string().is_some_and(|key| key.stands_for(line));
        if old.is_empty() || work == Work::Remove && given.clone().any(is_key) {
            continue;
        }
        let _ = out.append(separator);
        let _ = out.append(line);
        separator = b"\n";
    }
    if work == Work::Remove {
        return;
    }
    for key in given.filter_map(Json::string) {
        let end = out.bytes().len();
        let _ = out.append(separator);
        let _ = key.decode(out);
        let (before, key) = out.bytes().split_at(end);
        let key = key.strip_prefix(separator).unwrap_or_default();
        if !separator.is_empty() && lines(before).any(|line| line == key) {
            out.truncate(end);
        }
        separator = b"\n";
    }
}
