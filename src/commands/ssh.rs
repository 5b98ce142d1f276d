//! guest-ssh-get-authorized-keys, -add- and -remove-: the lines of `~/.ssh/authorized_keys`, or of the
//! file that the option `authorized-keys` names.
//!
//! Which lines are reported and in which order, and what counts as the same key: as qemu-ga has it.
//!
//! A child works on the home directory with the user's own rights. Of the agent's descriptors it
//! has only the root directory and the socket for its reply; it closes /etc before it switches to
//! the user. A user may thus put links in the way, of `.ssh` as well as of the file: they lead to
//! nothing that the user cannot reach. Links of /proc to open files are refused all the same, and
//! so is every file that is not regular: a FIFO would hang the child.
//!
//! A path outside the home may lead through a directory that only root can change. There the child
//! keeps the agent's rights, and the file must not be a link. It keeps owner and mode; a new one is
//! root's, and every user can read it: sshd reads it with the rights of the user. So users cannot
//! change keys there unless the administrator lets them. In any other directory the child acts as the
//! user; so it makes a missing directory only where the user may.
//!
//! Differences from qemu-ga:
//! - The home directory is entered with the user's own rights. Thus a home that is not the
//!   user's to write needs a `.ssh` directory that is; the error says who owns what is in the way. An
//!   agent that is that user already need not become it.
//! - A file that was changed ends in a line feed, and no blank line comes before a new key: qemu-ga
//!   leaves the last line open, and loses the key that `echo` appends to it. An empty key is not
//!   added.
//! - A file that cannot be read is an error. qemu-ga treats it as empty or missing: add then
//!   overwrites its keys, and remove leaves them.
//! - A user without a home directory is an error, where qemu-ga uses `.ssh` below its own directory.
//! - The second of two changes at the same moment is refused. A change reaches the disk before the
//!   reply.
//! - Users and their groups are those of /etc/passwd and /etc/group, no other data base's.
//! - A request, and a file before and after it, have at most [`KEYS_BYTES`] of keys. What the files of
//!   accounts take is at most [`ACCOUNTS_BYTES`].

use core::mem::ManuallyDrop;
use core::ops::Range;

use static_assertions::const_assert;

use super::command::Work;
use super::common::{UNFINISHED, user_name};
use crate::base::limits::{ACCOUNTS_BYTES, KEYS_BYTES};
use crate::base::packed::Text;
use crate::base::path::Path;
use crate::base::sink::ByteSink;
use crate::base::text::Digits;
use crate::parse::{accounts, file_name, keys_path, lines, parent_of};
use crate::state::guest::Guest;
use crate::state::trust;
use crate::sys::file::{self, Access, Links};
use crate::sys::identity::{self, Identity};
use crate::sys::mem::Buffer;
use crate::sys::root::{Root, relative};
use crate::sys::status::Status;
use crate::sys::{Errno, OwnedFd, number};
use crate::wire::args::{Args, Param, Type, index_of, may, must};
use crate::wire::json::Json;
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::{Name, Phrase};

pub(super) const REMOVE_KEYS: &[Param] =
    &[must("username", Type::Str), must("keys", Type::Strings)];

/// As [`REMOVE_KEYS`], and one more.
pub(super) const ADD_KEYS: &[Param] = &[
    must("username", Type::Str),
    must("keys", Type::Strings),
    may("reset", Type::Bool),
];

/// Lists keys.
pub(super) const GET: Work = |guest, _, args, reply| work(guest, args, reply, Task::Get);
/// Adds keys.
pub(super) const ADD: Work = |guest, _, args, reply| work(guest, args, reply, Task::Add);
/// Removes keys.
pub(super) const REMOVE: Work = |guest, _, args, reply| work(guest, args, reply, Task::Remove);

/// What to do with the keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    Get,
    Add,
    Remove,
}

/// Where the keys are unless the option says otherwise.
const DEFAULT: &[u8] = b"%h/.ssh/authorized_keys";
/// The user root.
const ROOT: u32 = 0;
/// Around the path where an error has it a second time; both are equally long.
const QUOTES: [&[u8]; 2] = [b"\xE2\x80\x9C", b"\xE2\x80\x9D"];
/// What is wrong with a file of too many keys; [`Phrase::TooManyKeys`] says the same of a request.
const TOO_MANY: &[u8] = b": more than 256 KiB of keys";
const NOT_REGULAR: &[u8] = b": not a regular file";

const_assert!(KEYS_BYTES == 256 << 10);

/// The names in a request and its errors.
type Names = [&'static [u8]; 4];
// Indices of them.
/// The user.
const USER: usize = 0;
/// The path of the user's keys.
const FILE: usize = 1;
/// The directory of that file.
const DIRECTORY: usize = 2;
/// The directory above that: the home directory by default.
const ABOVE: usize = 3;

/// What a request is about, and the parts of its error.
struct About {
    names: Names,
    /// The phrase.
    phrase: Phrase,
    /// The index of the name in it.
    subject: usize,
    /// The path again, in quotes, where the phrase has it twice.
    quoted: &'static [u8],
    /// The text after that.
    detail: &'static [u8],
    /// The paths whose owner may explain an EACCES, the likelier one first.
    denied_by: Range<usize>,
    /// The user id of the keys' owner.
    uid: u32,
    /// The content of /etc/passwd, to name the owner of a path.
    passwd: &'static [u8],
}

impl About {
    /// Sets the phrase and the path of the next error.
    #[inline(never)]
    fn turn_to(&mut self, phrase: Phrase, subject: usize, denied_by: Range<usize>) {
        self.phrase = phrase;
        self.subject = subject;
        self.denied_by = denied_by;
    }

    /// An error that no errno describes.
    fn wrong(&mut self, detail: &'static [u8]) -> Errno {
        self.detail = detail;
        Errno::INVAL
    }
}

fn work(guest: &Guest, args: &Args<'_>, reply: &mut Reply<'_>, task: Task) -> Result<u8, Failed> {
    let mut room = Buffer::lasting(ACCOUNTS_BYTES);
    let keys = keys(args, task, &mut room, reply)?;
    let mut about = About {
        names: [user_name(args, &mut room), b"", b"", b""],
        phrase: Phrase::CannotLookUp,
        subject: USER,
        quoted: b"",
        detail: b"",
        denied_by: 0..0,
        uid: 0,
        passwd: b"",
    };
    let reset = args.bool(const { index_of(ADD_KEYS, "reset") }) == Some(true);
    match change(guest, task, keys, reset, &mut room, &mut about) {
        Ok(lines) => {
            if task == Task::Get {
                list(lines, reply);
            }
            Ok(0)
        }
        Err(errno) => {
            let number = if about.detail.is_empty() {
                number(errno)
            } else {
                0
            };
            if let Errno::ACCESS | Errno::PERM = errno {
                name_owner(&guest.root, &mut room, &mut about);
            }
            let mut pieces = [about.names[about.subject], b"", about.detail];
            if let Phrase::CannotOpenKeys | Phrase::CannotReadKeys = about.phrase {
                pieces[1] = about.quoted;
            }
            Err(reply.fail_with(about.phrase, &pieces, number))
        }
    }
}

/// The keys of the request, each with a line feed behind it.
fn keys(
    args: &Args<'_>,
    task: Task,
    room: &mut Buffer,
    reply: &mut Reply<'_>,
) -> Result<&'static [u8], Failed> {
    let given = args
        .value(const { index_of(ADD_KEYS, "keys") })
        .map(Json::items)
        .unwrap_or_default();
    for key in given.filter_map(Json::string) {
        let start = room.len();
        let _ = key.decode(room);
        let key = room.bytes().get(start..).unwrap_or_default();
        if key.first() == Some(&b'#') || key.contains(&b'\n') {
            return Err(reply.fail_with(Phrase::InvalidKey, &[key], 0));
        }
        // An empty key: `remove` takes it for blank lines; `add` would make one.
        if !(key.is_empty() && task == Task::Add) {
            let _ = room.append(b"\n");
        }
    }
    let keys = room.take();
    if keys.len() > KEYS_BYTES || room.whole().is_err() {
        return Err(reply.fail(Phrase::TooManyKeys));
    }
    Ok(keys)
}

/// Switches to the user if need be, then reads or edits the keys.
#[inline(never)]
fn change(
    guest: &Guest,
    task: Task,
    keys: &[u8],
    reset: bool,
    room: &mut Buffer,
    about: &mut About,
) -> Result<&'static [u8], Errno> {
    let are_roots = become_user(guest, room, about)?;
    let name = Path::of(&[file_name(about.names[FILE])]);
    let name = name.as_c_str().ok_or(Errno::NAMETOOLONG)?;
    let directory = match open_directory(&guest.root, task, about) {
        Err(Errno::NOENT | Errno::NOTDIR) if task == Task::Remove => return Ok(b""),
        directory => directory?,
    };
    about.turn_to(Phrase::CannotOpenKeys, FILE, FILE..ABOVE);
    if task != Task::Get {
        // Held until this function returns, before the reply leaves.
        file::lock(&directory)?;
    }
    let mut old: &'static [u8] = b"";
    let old_file;
    let (links, mut access) = match are_roots {
        true => (Links::Refuse, Access::Readable),
        false => (Links::NotMagic, Access::Private),
    };
    if !reset || are_roots {
        match directory.look(name, links) {
            Err(Errno::NOENT) if task == Task::Remove => return Ok(b""),
            Err(Errno::NOENT) if task == Task::Add => {}
            file => {
                old_file = file?;
                if Status::of(&*old_file)?.is_special() {
                    return Err(about.wrong(NOT_REGULAR));
                }
                if are_roots {
                    access = Access::As(&old_file);
                }
                if !reset {
                    about.phrase = Phrase::CannotReadKeys;
                    old = read(&old_file, about)?;
                }
            }
        }
    }
    if task == Task::Get {
        return Ok(old);
    }
    let mut new = Buffer::lasting(2 * KEYS_BYTES + 1);
    // Four bytes for each line; the shortest line has one byte.
    let mut index = Buffer::lasting(4 * 2 * KEYS_BYTES);
    let changed = match task {
        Task::Remove => accounts::remove_lines(old, keys, &mut *index, &mut *new),
        _ => accounts::add_lines(old, keys, &mut *index, &mut *new),
    };
    changed.map_err(|_| Errno::NOMEM)?;
    about.turn_to(Phrase::CannotWriteKeys, FILE, DIRECTORY..ABOVE);
    let new = new.take();
    if new.len() > KEYS_BYTES {
        return Err(about.wrong(TOO_MANY));
    }
    directory.replace(name, UNFINISHED, new, access)?;
    Ok(b"")
}

/// Finds the paths of the user's keys. If only root can change their directory, returns true; otherwise
/// switches to the user and returns false.
fn become_user(guest: &Guest, room: &mut Buffer, about: &mut About) -> Result<bool, Errno> {
    let root = &guest.root;
    let etc = root.enter(b"etc", Links::Follow)?;
    ManuallyDrop::into_inner(etc.read_named(c"passwd", Links::Follow, room)?);
    about.passwd = room.take();
    let name = about.names[USER];
    let user = accounts::user(about.passwd, name).ok_or_else(|| about.wrong(b": no such user"))?;
    about.uid = user.uid;
    let home = user.home.starts_with(b"/");
    let home = home.then(|| without_slash(user.home));
    let pattern = guest.authorized_keys.unwrap_or(DEFAULT);
    let _ = room.append(QUOTES[0]);
    let expanded = keys_path::expand(pattern, name, home, room);
    let _ = room.append(QUOTES[1]);
    about.quoted = room.take();
    room.whole()?;
    expanded.ok_or(Errno::NOTDIR)?;
    let file = about
        .quoted
        .get(QUOTES[0].len()..about.quoted.len() - QUOTES[1].len())
        .unwrap_or_default();
    let directory = directory_of(file);
    let are_roots = !keys_path::is_below_home(pattern)
        && trust::check(root, directory, ROOT, &mut Path::new()).is_ok();
    about.names = [name, file, directory, directory_of(directory)];
    if are_roots {
        return Ok(true);
    }
    // Groups that do not fit only take rights away.
    let group = etc.read_named(c"group", Links::Follow, room);
    drop(group.map(ManuallyDrop::into_inner));
    drop(etc);
    let group = room.take();
    accounts::groups(group, name, room);
    identity::act_as(user.uid, user.gid, room.take()).map_err(|(identity, errno)| {
        about.phrase = match identity {
            Identity::Group => Phrase::CannotSetGroup,
            Identity::User => Phrase::CannotSetUser,
        };
        errno
    })?;
    Ok(false)
}

/// The directory of a file at an absolute path, without a slash at its end.
fn directory_of(path: &[u8]) -> &[u8] {
    match without_slash(parent_of(path)) {
        b"" => b"/",
        directory => directory,
    }
}

fn without_slash(mut path: &[u8]) -> &[u8] {
    while let [shorter @ .., b'/'] = path {
        path = shorter;
    }
    path
}

/// Opens the directory of the keys, and makes it if keys are to be added.
fn open_directory(root: &Root, task: Task, about: &mut About) -> Result<Root, Errno> {
    let path = about.names[DIRECTORY];
    let what = match task {
        Task::Add => Phrase::CannotWriteKeys,
        Task::Get | Task::Remove => Phrase::CannotOpenKeys,
    };
    about.turn_to(what, FILE, DIRECTORY..ABOVE + 1);
    let mut directory = root.enter(path, Links::NotMagic);
    if task == Task::Add && matches!(directory, Err(Errno::NOENT | Errno::NOTDIR)) {
        about.turn_to(Phrase::CannotCreate, DIRECTORY, ABOVE..ABOVE + 1);
        root.make_directory(relative(path), 0o700)?;
        directory = root.enter(path, Links::NotMagic);
    }
    directory
}

/// The content of a file of keys.
fn read(file: &OwnedFd, about: &mut About) -> Result<&'static [u8], Errno> {
    // One byte more, so that it is not filled.
    let mut room = Buffer::lasting(KEYS_BYTES + 1);
    match room.read(file) {
        Err(Errno::FBIG) => Err(about.wrong(TOO_MANY)),
        done => done.map(|()| room.take()),
    }
}

/// Adds the owner of the file or directory that denied access to the error.
fn name_owner(root: &Root, room: &mut Buffer, about: &mut About) {
    for path in about.names.get(about.denied_by.clone()).unwrap_or_default() {
        if let Ok(Status { owner, .. }) = Status::at(root, &[relative(path)])
            && owner != about.uid
        {
            let number = Digits::unsigned(owner.into());
            let name = accounts::name_of(about.passwd, owner).unwrap_or(b"nobody known");
            let pieces: [&[u8]; 3] = [path, name, number.as_bytes()];
            Text::from(Phrase::BelongsTo).put(&pieces, &mut |piece| {
                let _ = room.append(piece);
            });
            about.detail = room.take();
            return;
        }
    }
}

fn list(file: &[u8], reply: &mut Reply<'_>) {
    let mut object = reply.object();
    let mut list = object.list(Name::Keys);
    for line in lines(file).rev() {
        let line = line.trim_ascii();
        if !matches!(line, [] | [b'#', ..]) {
            list.item().text(line);
        }
    }
}
