//! Compares what `--check` says of files in odd states with what the agent then does; the tests have no
//! expected answers of their own. Also tests that a check makes no file, and that no listener or reader
//! notices it.
//!
//! On this machine, as nobody: the log, the pid file, the socket. In a guest with an ext4 disk, as root:
//! the log once more, passwords, ssh keys, hooks.
//!
//! Needs QEMU and the images.

use std::any::Any;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gaunt_e2e::base64::decode;
use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::{Client, Refusal};
use gaunt_e2e::cpio::Cpio;
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Guest, Image, Machine};
use gaunt_e2e::process::{self, Process, program, run};
use gaunt_e2e::scratch::{NOBODY, Scratch, is_root};
use gaunt_e2e::{agent_binary, wait};
use serde_json::{Value, json};

/// What keeps a state as it is: a listener or reader.
type Kept = Vec<Box<dyn Any>>;

/// Puts a file into a state. All are in the directory given, and their paths are relative to it.
type Arrange = fn(&Path) -> Kept;

/// A state of the file at a path below the scratch directory, or elsewhere.
struct State {
    name: &'static str,
    /// The path for the option.
    path: &'static str,
    arrange: Arrange,
    /// Only root can arrange it, for an agent of nobody's.
    needs_root: bool,
}

const fn state(name: &'static str, path: &'static str, arrange: Arrange) -> State {
    let needs_root = false;
    State {
        name,
        path,
        arrange,
        needs_root,
    }
}

const fn of_root(name: &'static str, path: &'static str, arrange: Arrange) -> State {
    let needs_root = true;
    State {
        name,
        path,
        arrange,
        needs_root,
    }
}

fn fifo(at: &Path, mode: &str) {
    run(
        Command::new("mkfifo").args(["-m", mode]).arg(at),
        wait::ANSWER,
    );
    give_away(at);
}

fn give_away(at: &Path) {
    if is_root() {
        std::os::unix::fs::lchown(at, Some(NOBODY), Some(NOBODY)).expect("an owner");
    }
}

fn file(at: &Path, mode: u32) {
    fs::write(at, "").expect("a file");
    fs::set_permissions(at, Permissions::from_mode(mode)).expect("a mode");
    give_away(at);
}

fn directory(at: &Path) {
    fs::create_dir(at).expect("a directory");
    give_away(at);
}

fn link(at: &Path, target: &str) {
    symlink(target, at).expect("a link");
    give_away(at);
}

fn take_back(at: &Path) {
    std::os::unix::fs::lchown(at, Some(0), Some(0)).expect("an owner");
}

fn node(at: &Path, numbers: [&str; 2]) {
    run(
        Command::new("mknod")
            .args(["-m", "666"])
            .arg(at)
            .arg("c")
            .args(numbers),
        wait::ANSWER,
    );
}

/// Sets or clears an attribute of a file. Returns whether its file system has such attributes.
fn set_attribute(at: &Path, attribute: &str) {
    run(
        Command::new(program("chattr", "e2fsprogs"))
            .arg(attribute)
            .arg(at),
        wait::ANSWER,
    );
}

const NOTHING: Arrange = |_| Kept::new();

static STATES: &[State] = &[
    state("new", "x", NOTHING),
    state("file", "x", |at| {
        file(&at.join("x"), 0o600);
        Kept::new()
    }),
    state("file that others may write to", "x", |at| {
        file(&at.join("x"), 0o666);
        Kept::new()
    }),
    state("file that may only be written", "x", |at| {
        file(&at.join("x"), 0o200);
        Kept::new()
    }),
    state("file that may only be read", "x", |at| {
        file(&at.join("x"), 0o400);
        Kept::new()
    }),
    state("directory", "x", |at| {
        directory(&at.join("x"));
        Kept::new()
    }),
    state("slash behind a directory", "x/", |at| {
        directory(&at.join("x"));
        Kept::new()
    }),
    state("slash behind nothing", "x/", NOTHING),
    state("FIFO without a reader", "x", |at| {
        fifo(&at.join("x"), "600");
        Kept::new()
    }),
    state("FIFO with a reader", "x", |at| {
        fifo(&at.join("x"), "600");
        vec![Box::new(reader(&at.join("x")))]
    }),
    state("FIFO that may not be written", "x", |at| {
        fifo(&at.join("x"), "400");
        Kept::new()
    }),
    state("socket of a stream that has ended", "x", |at| {
        drop(UnixListener::bind(at.join("x")).expect("a socket"));
        give_away(&at.join("x"));
        Kept::new()
    }),
    state("socket of datagrams that has ended", "x", |at| {
        drop(UnixDatagram::bind(at.join("x")).expect("a socket"));
        give_away(&at.join("x"));
        Kept::new()
    }),
    state("socket of datagrams", "x", |at| {
        let socket = UnixDatagram::bind(at.join("x")).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        give_away(&at.join("x"));
        vec![Box::new(socket)]
    }),
    state("link to a file", "x", |at| {
        file(&at.join("file"), 0o600);
        link(&at.join("x"), "file");
        Kept::new()
    }),
    state("link to a FIFO", "x", |at| {
        fifo(&at.join("fifo"), "600");
        link(&at.join("x"), "fifo");
        Kept::new()
    }),
    state("link to nothing", "x", |at| {
        link(&at.join("x"), "new");
        Kept::new()
    }),
    state("links to nothing", "x", |at| {
        directory(&at.join("d"));
        link(&at.join("x"), "d/y");
        link(&at.join("d/y"), "../new");
        Kept::new()
    }),
    state("link into nothing", "x", |at| {
        link(&at.join("x"), "none/new");
        Kept::new()
    }),
    state("absolute link into nothing", "x", |at| {
        link(&at.join("x"), "/nonexistent/new");
        Kept::new()
    }),
    state("link to where nobody may write", "x", |at| {
        link(&at.join("x"), "/usr/new");
        Kept::new()
    }),
    state("link through a file", "x", |at| {
        file(&at.join("file"), 0o600);
        link(&at.join("x"), "file/new");
        Kept::new()
    }),
    state("link to itself", "x", |at| {
        link(&at.join("x"), "x");
        Kept::new()
    }),
    state("directory that is missing", "none/x", NOTHING),
    state("file for a directory", "file/x", |at| {
        file(&at.join("file"), 0o600);
        Kept::new()
    }),
    state("directory behind a link", "d/x", |at| {
        directory(&at.join("e"));
        link(&at.join("d"), "e");
        Kept::new()
    }),
    state("directory behind a link to nothing", "d/x", |at| {
        link(&at.join("d"), "e");
        Kept::new()
    }),
    state("directory that may not be written", "d/x", |at| {
        directory(&at.join("d"));
        fs::set_permissions(at.join("d"), Permissions::from_mode(0o500)).expect("a mode");
        Kept::new()
    }),
    of_root("another user's file", "x", |at| {
        file(&at.join("x"), 0o600);
        take_back(&at.join("x"));
        Kept::new()
    }),
    of_root("another user's open file", "x", |at| {
        file(&at.join("x"), 0o666);
        take_back(&at.join("x"));
        Kept::new()
    }),
    of_root("another user's socket of a stream", "x", |at| {
        let listener = UnixListener::bind(at.join("x")).expect("a socket");
        listener.set_nonblocking(true).expect("a socket");
        fs::set_permissions(at.join("x"), Permissions::from_mode(0o600)).expect("a mode");
        vec![Box::new(listener)]
    }),
    of_root("another user's directory", "d/x", |at| {
        fs::create_dir(at.join("d")).expect("a directory");
        Kept::new()
    }),
    of_root("immutable file", "x", |at| {
        file(&at.join("x"), 0o600);
        set_attribute(&at.join("x"), "+i");
        Kept::new()
    }),
    of_root("file for appending only", "x", |at| {
        file(&at.join("x"), 0o600);
        set_attribute(&at.join("x"), "+a");
        Kept::new()
    }),
    of_root("immutable directory", "d/x", |at| {
        directory(&at.join("d"));
        set_attribute(&at.join("d"), "+i");
        Kept::new()
    }),
    of_root("device that takes everything", "x", |at| {
        node(&at.join("x"), ["1", "3"]);
        Kept::new()
    }),
    state("no terminal", "/dev/tty", NOTHING),
    state("no such device", "/dev/no-such-device", NOTHING),
    state("file system that cannot be written", "/sys/x", NOTHING),
    state(
        "file of a file system of the kernel",
        "/proc/version",
        NOTHING,
    ),
];

/// An option without a path; a channel has none.
const EMPTY: State = state("no path", "", NOTHING);

/// Opens a FIFO to read.
fn reader(at: &Path) -> fs::File {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    options.open(at).expect("a FIFO")
}

/// A directory with one state in it.
struct Place {
    scratch: Scratch,
    path: String,
    kept: Kept,
}

impl Place {
    fn of(state: &State) -> Place {
        let scratch = Scratch::new();
        fs::copy(agent_binary(), scratch.join("gaunt")).expect("a copy");
        for name in ["at", "state"] {
            fs::create_dir(scratch.join(name)).expect("a directory");
        }
        scratch.give_away();
        let at = scratch.join("at");
        let kept = (state.arrange)(&at);
        let path = match state.path {
            path if path.is_empty() || path.starts_with('/') => path.to_owned(),
            path => format!("{}/{path}", at.display()),
        };
        Place {
            scratch,
            path,
            kept,
        }
    }

    /// The command that starts gaunt as nobody, in a session without a terminal.
    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new("setsid");
        command.arg(self.scratch.join("gaunt"));
        command
            .args(options)
            .arg("-t")
            .arg(self.scratch.join("state"));
        command.env_clear().current_dir("/");
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// What a check says of the one item in a list; `Ok` if it works.
    fn check(&self, list: &str, item: &str, options: &[&str]) -> (Result<(), String>, i32) {
        let before = self.files();
        let output = process::output(self.command(options).arg("--check=json"), wait::ANSWER);
        assert_eq!(before, self.files(), "a check changes nothing");
        self.assert_unnoticed();
        let found: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", process::text(&output)));
        let items = found[list].as_array().expect("a list");
        let mut items = items.iter().filter(|one| {
            let name = one["name"].as_str().expect("a name");
            name.split(' ').next() == Some(item)
        });
        let one = items.next().unwrap_or_else(|| panic!("no {item}: {found}"));
        assert!(items.next().is_none(), "{found}");
        let status = output.status.code().expect("a status");
        match one["works"].as_bool().expect("a finding") {
            true => (Ok(()), status),
            false => (
                Err(one["missing"].as_str().expect("text").to_owned()),
                status,
            ),
        }
    }

    /// All files, with their types and what a change of them would change.
    fn files(&self) -> Vec<String> {
        let mut list = Vec::new();
        list_files(&self.scratch.join("at"), &mut list);
        list.sort();
        list
    }

    /// Asserts that no listener has a client.
    fn assert_unnoticed(&self) {
        for kept in &self.kept {
            if let Some(listener) = kept.downcast_ref::<UnixListener>() {
                let accepted = listener.accept().map(drop).map_err(|error| error.kind());
                assert_eq!(accepted, Err(ErrorKind::WouldBlock));
            }
        }
    }
}

fn list_files(at: &Path, list: &mut Vec<String>) {
    let data = at.symlink_metadata().expect("a file");
    let times = (
        data.mtime(),
        data.mtime_nsec(),
        data.ctime(),
        data.ctime_nsec(),
    );
    let (mode, inode) = (data.mode(), data.ino());
    list.push(format!(
        "{} {mode:o} {inode} {} {times:?}",
        at.display(),
        data.len()
    ));
    if data.is_dir() {
        for entry in fs::read_dir(at).expect("a directory") {
            list_files(&entry.expect("an entry").path(), list);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if is_root() {
            let chattr = program("chattr", "e2fsprogs");
            let all = self.scratch.join("at");
            let _ = Command::new(chattr)
                .args(["-R", "-f", "-i", "-a"])
                .arg(all)
                .status();
        }
    }
}

/// Runs `compare` for each state.
fn for_each_state(title: &'static str, further: &[State], compare: fn(&Place) -> String) {
    let mut checks = Checks::new(title);
    for state in STATES.iter().chain(further) {
        if state.needs_root && !is_root() {
            continue;
        }
        checks.run(state.name, || compare(&Place::of(state)));
    }
    checks.finish();
}

/// The options of an agent that listens at a socket.
fn listening_at(socket: &Path) -> [&str; 4] {
    let socket = socket.to_str().expect("ASCII");
    ["-m", "unix-listen", "-p", socket]
}

/// A line of each start, with `--verbose`.
const LINE: &str = "port open";

#[test]
fn a_log() {
    for_each_state("log", &[EMPTY], |place| {
        let socket = place.scratch.join("socket");
        let path = &place.path;
        let own = ["-v", "-l", path];
        let options = [&listening_at(&socket)[..], &own].concat();
        let (found, status) = place.check("files", "logfile", &options);
        let errors = place.scratch.join("stderr");
        let stderr = fs::File::create(&errors).expect("a file");
        let mut agent = Process::spawn(place.command(&options).stderr(stderr));
        let ended = wait::until(wait::ANSWER, || {
            let ended = agent.ended();
            let serves = UnixStream::connect(&socket).is_ok();
            (ended.is_some() || serves).then_some(ended)
        });
        let said = fs::read_to_string(&errors).expect("text");
        // A channel works in each case: 2 means that the agent does not start.
        let Some(ended) = ended.expect("an agent that serves or ends") else {
            assert_ne!(status, 2, "{found:?}");
            Client::connect(&socket).get("guest-ping");
            let reaches = reaches_log(place, &agent);
            match &found {
                Ok(()) => assert!(reaches, "{said}"),
                Err(why) => {
                    assert!(!reaches && said.contains(LINE), "{why}: {said}");
                    assert_ne!(status, 0, "{why}");
                }
            }
            return format!("{found:?}, {status}");
        };
        assert_eq!((ended.code(), status), (Some(1), 2), "{found:?} {said}");
        let begins = "gaunt: unable to open specified log file: ";
        let why = said.lines().find_map(|line| line.strip_prefix(begins));
        let why = why.unwrap_or_else(|| panic!("{said}"));
        assert_eq!(found, Err(why.to_owned()));
        why.to_owned()
    });
}

/// Whether a line of the agent reaches its log.
fn reaches_log(place: &Place, agent: &Process) -> bool {
    let Ok(kind) = fs::metadata(&place.path).map(|data| data.file_type()) else {
        return false;
    };
    if kind.is_char_device() {
        // Nothing can be read back.
        let stderr = fs::read_link(format!("/proc/{}/fd/2", agent.id()));
        return stderr.expect("a link") == Path::new(&place.path);
    }
    let mut text = Vec::new();
    let mut bytes = [0; 4096];
    let mut fifo = kind.is_fifo().then(|| reader(Path::new(&place.path)));
    let found = wait::until(wait::ANSWER, || {
        if let Some(fifo) = &mut fifo {
            let count = fifo.read(&mut bytes).unwrap_or(0);
            text.extend(&bytes[..count]);
        } else if kind.is_socket() {
            for socket in place
                .kept
                .iter()
                .filter_map(|kept| kept.downcast_ref::<UnixDatagram>())
            {
                let count = socket.recv(&mut bytes).unwrap_or(0);
                text.extend(&bytes[..count]);
            }
        } else {
            // As root: the agent need not be able to read it.
            text = fs::read(&place.path).unwrap_or_default();
        }
        String::from_utf8_lossy(&text).contains(LINE).then_some(())
    });
    found.is_some()
}

#[test]
fn a_pid_file() {
    for_each_state("pid file", &[EMPTY], |place| {
        let socket = place.scratch.join("socket");
        let path = &place.path;
        let own = ["-d", "-f", path];
        let options = [&listening_at(&socket)[..], &own].concat();
        let (found, status) = place.check("files", "pidfile", &options);
        let output = process::output(&mut place.command(&options), wait::ANSWER);
        let said = process::text(&output);
        if output.status.success() {
            let number = fs::read_to_string(path).expect("a pid file");
            process::signal(number.trim().parse().expect("a number"), libc::SIGKILL);
            assert_eq!(found, Ok(()));
            assert_ne!(status, 2);
            return format!("works, {status}");
        }
        assert_eq!(
            (output.status.code(), status),
            (Some(1), 2),
            "{found:?} {said}"
        );
        let begins = format!("gaunt: Could not create '{path}': ");
        let why = said.lines().find_map(|line| line.strip_prefix(&begins));
        let why = why.unwrap_or_else(|| panic!("{said}"));
        assert_eq!(found, Err(why.to_owned()));
        why.to_owned()
    });
}

#[test]
fn a_socket() {
    for_each_state("socket", &[], |place| {
        let path = &place.path;
        let options = ["-m", "unix-listen", "-p", path];
        let (found, status) = place.check("channels", "unix-listen", &options);
        let errors = place.scratch.join("stderr");
        let stderr = fs::File::create(&errors).expect("a file");
        let mut agent = Process::spawn(place.command(&options).stderr(stderr));
        let ended = wait::until(wait::ANSWER, || {
            let ended = agent.ended();
            let serves = UnixStream::connect(path).is_ok_and(|client| {
                // Not a listener of ours.
                place.kept.is_empty() && client.peer_addr().is_ok()
            });
            (ended.is_some() || serves).then_some(ended)
        });
        let said = fs::read_to_string(&errors).expect("text");
        let Some(ended) = ended.expect("an agent that serves or ends") else {
            Client::connect(Path::new(path)).get("guest-ping");
            assert_eq!(found, Ok(()));
            assert_ne!(status, 2);
            return format!("works, {status}");
        };
        assert_eq!((ended.code(), status), (Some(1), 2), "{found:?} {said}");
        let begins = format!("gaunt: error opening channel '{path}': ");
        let why = said.lines().find_map(|line| line.strip_prefix(&begins));
        let why = why.unwrap_or_else(|| panic!("{said}"));
        let found = found.expect_err(why);
        format!("{found} ({why})")
    });
}

/// Runs a program that does nothing. Its path is a line of the log.
fn log_line(client: &mut Client) {
    client.call("guest-exec", json!({ "path": "/bin/true" }));
}

/// Reads what is in a FIFO now.
fn read_now(fifo: &mut fs::File) -> String {
    let mut text = Vec::new();
    let mut bytes = [0; 65536];
    while let Ok(count @ 1..) = fifo.read(&mut bytes) {
        text.extend(&bytes[..count]);
    }
    String::from_utf8(text).expect("text")
}

#[test]
fn a_fifo_as_the_log_keeps_lines_and_never_waits() {
    let place = Place::of(&state("FIFO", "x", |at| {
        fifo(&at.join("x"), "600");
        Kept::new()
    }));
    let path = Path::new(&place.path);
    let socket = place.scratch.join("socket");
    // A reader that leaves.
    let first = reader(path);
    let own = ["-v", "-l", &place.path];
    let options = [&listening_at(&socket)[..], &own].concat();
    let mut command = place.command(&options);
    let _agent = Process::spawn(command.env("PATH", "/usr/bin:/bin"));
    wait::expect("its socket", wait::ANSWER, || {
        UnixStream::connect(&socket).is_ok()
    });
    let mut client = Client::connect(&socket);
    drop(first);
    log_line(&mut client);
    let mut second = reader(path);
    assert!(read_now(&mut second).contains("exec: /bin/true"));
    // SAFETY: fcntl takes three numbers, and touches no memory of this process.
    let bytes = unsafe { libc::fcntl(second.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    assert_eq!(bytes, 4096);
    drop(second);
    let sent = 200;
    for _ in 0..sent {
        log_line(&mut client);
    }
    client.get("guest-ping");
    let mut third = reader(path);
    let kept = read_now(&mut third).lines().count();
    log_line(&mut client);
    let said = read_now(&mut third);
    let dropped = format!("gaunt: {} log lines were dropped", sent - kept);
    assert!(
        0 < kept && kept < sent && said.contains(&dropped),
        "{kept}: {said}"
    );
    assert_eq!(said.lines().count(), 2, "{said}");
}

/// A state of the files in a guest: a name, and the commands that arrange it.
type GuestState = (&'static str, &'static str);

/// For logs at /mnt/x/log.
const LOGS: &[GuestState] = &[
    ("a new file", ""),
    ("a read-only mount", "mount -o remount,ro,bind /mnt/x"),
    (
        "a file in a read-only mount",
        "touch /mnt/x/log; mount -o remount,ro,bind /mnt/x",
    ),
    (
        "a FIFO in a read-only mount",
        "mkfifo /mnt/x/log; mount -o remount,ro,bind /mnt/x",
    ),
    (
        "a link into a read-only mount",
        "ln -s y/new /mnt/x/log; mkdir /mnt/x/y; mount -t tmpfs -o ro none /mnt/x/y",
    ),
    ("a link to nothing", "ln -s new /mnt/x/log"),
    ("a link into nothing", "ln -s /none/new /mnt/x/log"),
    (
        "an immutable file",
        "touch /mnt/x/log; chattr +i /mnt/x/log",
    ),
    (
        "a file for appending",
        "touch /mnt/x/log; chattr +a /mnt/x/log",
    ),
    ("an immutable directory", "chattr +i /mnt/x"),
    ("a directory for appending", "chattr +a /mnt/x"),
    ("a directory", "mkdir /mnt/x/log"),
    ("nothing at all", "cd /; umount /mnt/x; rmdir /mnt/x"),
];

/// For passwords in /etc, which is a copy on /mnt.
const PASSWORDS: &[GuestState] = &[
    ("files as usual", ""),
    ("no shadow", "rm shadow"),
    (
        "no user in shadow",
        "sed -i s/:x:/:*:/ passwd; chattr +i shadow",
    ),
    ("a link", "mv shadow real; ln -s real shadow"),
    (
        "a link to another disk",
        "mv shadow /run/real; ln -s /run/real shadow",
    ),
    ("a link to nothing", "ln -sf nothing shadow"),
    ("a link into nothing", "ln -sf /none/shadow shadow"),
    ("a link to itself", "ln -sf shadow shadow"),
    ("a link to a directory", "ln -sf /root shadow"),
    (
        "a link to a device",
        "mknod /run/null c 1 3; ln -sf /run/null shadow",
    ),
    ("a FIFO", "rm shadow; mkfifo shadow"),
    ("a directory", "rm shadow; mkdir shadow"),
    ("an immutable file", "chattr +i shadow"),
    ("a file for appending", "chattr +a shadow"),
    ("an immutable directory", "chattr +i ."),
    (
        "an immutable directory with a link",
        "mv shadow /run/real; ln -s /run/real shadow; chattr +i .",
    ),
    (
        "a link into an immutable directory",
        "mkdir d; mv shadow d; ln -s d/shadow shadow; chattr +i d",
    ),
    (
        "a mount point",
        "cp shadow /run/real; mount --bind /run/real shadow",
    ),
    (
        "a read-only mount point",
        "cp shadow /run/real; mount --bind /run/real shadow; mount -o remount,ro,bind shadow",
    ),
    ("a read-only directory", "mount -o remount,ro,bind /etc"),
    (
        "a mount point in a read-only directory",
        "cp shadow /run/real; mount --bind /run/real shadow; mount -o remount,ro,bind /etc",
    ),
    ("no passwd", "rm passwd"),
    ("a passwd that leads to nothing", "ln -sf nothing passwd"),
    ("an immutable passwd", "chattr +i passwd"),
    (
        "an immutable passwd with passwords",
        "rm shadow; chattr +i passwd",
    ),
];

/// For the keys of all users in /mnt/x/keys.
const KEYS: &[GuestState] = &[
    ("a new file", ""),
    ("a file", "echo k >keys"),
    ("a link", "echo k >real; ln -s real keys"),
    ("a link to nothing", "ln -s nothing keys"),
    ("a FIFO", "mkfifo keys"),
    ("a device", "mknod keys c 1 3"),
    ("a directory", "mkdir keys"),
    ("an immutable file", "echo k >keys; chattr +i keys"),
    ("a file for appending", "echo k >keys; chattr +a keys"),
    ("an immutable directory", "chattr +i ."),
    ("a directory for appending", "chattr +a ."),
    (
        "a mount point",
        "touch keys /run/keys; mount --bind /run/keys keys",
    ),
    ("a read-only directory", "mount -o remount,ro,bind /mnt/x"),
    ("no directory", "cd /; umount /mnt/x; rmdir /mnt/x"),
    (
        "a file for a directory",
        "cd /; umount /mnt/x; rmdir /mnt/x; touch /mnt/x",
    ),
    (
        "a directory behind a link to nothing",
        "cd /; umount /mnt/x; rmdir /mnt/x; ln -s nothing /mnt/x",
    ),
];

/// For the hook /mnt/x/hook: a name, options of the agent, and the commands.
const HOOKS: &[(&str, &str, &str)] = &[
    ("a hook", "", ""),
    ("a hook that is missing", "", "rm hook"),
    ("a hook behind a link", "", "mv hook real; ln -s real hook"),
    ("a link to nothing", "", "ln -sf nothing hook"),
    ("a directory", "", "rm hook; mkdir hook"),
    ("a FIFO", "", "rm hook; mkfifo -m 755 hook"),
    ("a hook without the right to run", "", "chmod 644 hook"),
    ("a hook that others may write to", "", "chmod 775 hook"),
    ("another user's hook", "", "chown 1000 hook"),
    ("an immutable hook", "", "chattr +i hook"),
    ("a read-only mount", "", "mount -o remount,ro,bind /mnt/x"),
    (
        "a mount without programs",
        "",
        "mount -o remount,noexec,bind /mnt/x",
    ),
    ("no hooks in the directory", "", "rm hook; mkdir hook.d"),
    (
        "a hook in the directory",
        "",
        "mkdir hook.d; mv hook hook.d",
    ),
    ("a file for the directory", "", "rm hook; touch hook.d"),
    (
        "a directory that is a link to nothing",
        "",
        "rm hook; ln -s nothing hook.d",
    ),
    (
        "failures that are ignored",
        "--hook-failures=ignore",
        "chmod 644 hook",
    ),
    (
        "a missing directory that is ignored",
        "--hook-failures=ignore",
        "rm hook; touch hook.d",
    ),
    ("no hooks", "--fsfreeze-hook=/dev/null", "chmod 644 hook"),
    (
        "a policy",
        "--block-rpcs=guest-fsfreeze-freeze",
        "chmod 644 hook",
    ),
    ("a state directory that is missing", "-t /mnt/x/none", ""),
    ("a file for the state directory", "-t /mnt/x/hook", ""),
    ("a state directory that others may write to", "-t /tmp", ""),
    (
        "a read-only state directory",
        "-t /mnt/x",
        "mount -o remount,ro,bind /mnt/x",
    ),
    (
        "a read-only state directory without hooks",
        "-t /mnt/x -F/dev/null",
        "chattr +i .",
    ),
    (
        "a directory for the list of hooks",
        "-t /mnt/x",
        "mkdir gaunt.hooks",
    ),
    (
        "a state directory whose failures are not ignored",
        "-t /tmp --hook-failures=ignore",
        "",
    ),
];

/// A guest whose /mnt is an ext4 disk. The arranged directory, /mnt/x, is a mount point.
struct Arranged {
    guest: Guest,
    client: Client,
}

impl Arranged {
    /// Removes the files of the state before, and puts those of the next one in place.
    fn arrange(&mut self, directory: &str, commands: &str) {
        let shell = self.guest.shell();
        shell.run(
            "cd /; umount -l /etc/shadow /etc /mnt/x/y /mnt/x/keys /mnt/x 2>/dev/null; \
             chattr -R -f -i -a /mnt/x /mnt/etc; rm -rf /mnt/x /mnt/etc /run/real /run/null; \
             cp -a /etc /mnt/etc; mkdir /mnt/x; mount --bind /mnt/x /mnt/x",
        );
        if directory == "/etc" {
            shell.run("mount --bind /mnt/etc /etc");
        }
        if !commands.is_empty() {
            shell.run(&format!("cd {directory}; set -e; {commands}"));
        }
    }

    /// What a check with these options finds out about an item of a list, and its status.
    fn check(&mut self, options: &str, list: &str, item: &str) -> (Result<(), String>, i32) {
        let shell = self.guest.shell();
        let before = shell.run(LIST);
        let command = format!("/usr/bin/gaunt {options} --check=json");
        let ran = shell.try_run(&command, wait::ANSWER);
        assert_eq!(before, shell.run(LIST));
        let found: Value = serde_json::from_str(&ran.output).expect("JSON");
        let items = found[list].as_array().expect("a list");
        let mut items = items.iter().filter(|one| {
            let name = one["name"].as_str().expect("a name");
            name.split(' ').next() == Some(item)
        });
        let one = items.next().expect("an item");
        let finding = match one["works"].as_bool().expect("a finding") {
            true => Ok(()),
            false => Err(one["missing"].as_str().expect("text").to_owned()),
        };
        (finding, ran.status)
    }
}

/// Everything that a check could change.
const LIST: &str = "find /etc /mnt /run -exec stat -c '%n %i %s %f %Y %Z' {} + | \
                    grep -v /run/agent.log";

const PASSWD: &[u8] = b"root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";

#[test]
fn files_of_a_guest() {
    let mut checks = Checks::new("guest");
    let scratch = Scratch::new();
    let ext4 = scratch.join("ext4.raw");
    disk::raw(&ext4, Fs::Ext4);
    let overlay = Cpio::new()
        .file("etc/passwd", 0o644, PASSWD)
        .file("etc/shadow", 0o600, b"root:*:19000:0:99999:7:::\n")
        .program_as("bin/chattr", &program("chattr", "e2fsprogs"))
        .finish();
    let mut guest = Machine::new(Image::Busybox)
        .overlay(&overlay)
        .disk(&ext4)
        .agent("--authorized-keys=/mnt/x/keys")
        .boot();
    guest.wait_shell();
    guest
        .shell()
        .run("umount /data; mkdir /mnt; mount /dev/vda /mnt");
    let client = guest.client();
    let mut guest = Arranged { guest, client };
    for state in LOGS {
        checks.run(state.0, || log_in_guest(&mut guest, state.1));
    }
    for state in PASSWORDS {
        checks.run(state.0, || {
            guest.arrange("/etc", state.1);
            let (found, _) = guest.check("", "commands", "guest-set-user-password");
            let arguments = json!({ "username": "root", "password": "eA==", "crypted": true });
            let set = guest.client.try_call("guest-set-user-password", arguments);
            let no_file = "[ ! -e /run/null ] || [ -c /run/null ]";
            assert!(guest.guest.shell().test(no_file), "a device was replaced");
            compared(found, set)
        });
    }
    let option = "--authorized-keys=/mnt/x/keys";
    for state in KEYS {
        checks.run(state.0, || {
            guest.arrange("/mnt/x", state.1);
            let command = "guest-ssh-add-authorized-keys";
            let (found, _) = guest.check(option, "commands", command);
            let arguments = json!({ "username": "alice", "keys": ["k"] });
            let added = guest.client.try_call(command, arguments);
            compared(found, added)
        });
    }
    for state in ["rw", "ro"] {
        checks.run("processors", || {
            guest
                .guest
                .shell()
                .run(&format!("mount -o remount,{state} /sys"));
            let (found, _) = guest.check("", "commands", "guest-set-vcpus");
            let arguments = json!({ "vcpus": [{ "logical-id": 1, "online": state == "ro" }] });
            let set = guest.client.try_call("guest-set-vcpus", arguments);
            compared(found, set)
        });
    }
    guest.guest.shell().run("mount -o remount,rw /sys");
    for state in HOOKS {
        checks.run(state.0, || freeze_in_guest(&mut guest, state.1, state.2));
    }
    checks.finish();
}

/// Asserts that a command works if a check says so, and fails if not.
fn compared(found: Result<(), String>, done: Result<Value, Refusal>) -> String {
    let done = done.map(drop).map_err(|refusal| refusal.desc);
    assert_eq!(found.is_ok(), done.is_ok(), "{found:?}, {done:?}");
    format!("{found:?}, {done:?}")
}

fn log_in_guest(guest: &mut Arranged, commands: &str) -> String {
    guest.arrange("/mnt/x", commands);
    let options = "-m unix-listen -p /run/other -t /run -l /mnt/x/log";
    let (found, _) = guest.check(options, "files", "logfile");
    let command = format!("timeout 3 /usr/bin/gaunt {options} 2>&1");
    let ran = guest.guest.shell().try_run(&command, wait::ANSWER);
    let said = ran.output.trim_end();
    if ran.status == 1 {
        let begins = "gaunt: unable to open specified log file: ";
        let why = said.lines().find_map(|line| line.strip_prefix(begins));
        let why = why.unwrap_or_else(|| panic!("{said}"));
        assert_eq!(found, Err(why.to_owned()));
        return why.to_owned();
    }
    assert_eq!(found, Ok(()), "{ran:?}");
    format!("works: {}", ran.status)
}

/// What the agent may do while hooks are looked at, so that the status is about them alone.
const FREEZES: &str = "--allow-rpcs=guest-fsfreeze-freeze,guest-fsfreeze-thaw,guest-sync";

fn freeze_in_guest(guest: &mut Arranged, options: &str, commands: &str) -> String {
    const HOOK: &str = "printf '#!/bin/sh\\n' >hook; chmod 755 hook;";
    guest.arrange("/mnt/x", &format!("{HOOK} {commands}"));
    let options = format!("-F/mnt/x/hook {FREEZES} {options}");
    let command = "guest-fsfreeze-freeze";
    let (found, status) = guest.check(&options, "commands", command);
    guest.guest.shell().restart_agent(&options);
    let synced = wait::until(wait::ANSWER, || guest.client.sync(Duration::from_secs(3)));
    synced.expect("the new agent");
    let frozen = guest.client.try_call(command, json!({}));
    let _ = guest.client.try_call("guest-fsfreeze-thaw", json!({}));
    let is_blocked = found.as_ref().is_err_and(|why| why == "blocked by policy");
    // Without its directory a freeze works, but would not survive the agent.
    let (directory, _) = guest.check(&options, "files", "statedir");
    let all_well = is_blocked || frozen.is_ok() && directory.is_ok();
    assert_eq!(status == 0, all_well, "{found:?} {frozen:?}");
    compared(found, frozen)
}

/// PID 1 serves without its log, and knows no other way: a check beside it says so.
#[test]
fn pid_1_without_its_log() {
    let log = "/none/log";
    let mut guest = Machine::new(Image::Bare)
        .agent(&format!("--logfile={log}"))
        .boot();
    let mut client = guest.client();
    client.get("guest-ping");
    let words = [
        "--check=json",
        "-t",
        "/run",
        "-l",
        log,
        "-m",
        "unix-listen",
        "-p",
        "/run/x",
    ];
    let words = json!({ "path": "/proc/1/exe", "arg": words, "capture-output": true });
    let pid = client.call("guest-exec", words);
    let status = wait::until(wait::ANSWER, || {
        let status = client.call("guest-exec-status", pid.clone());
        (status["exited"] == true).then_some(status)
    });
    let status = status.expect("its end");
    let output = decode(status["out-data"].as_str().expect("output"));
    let found: Value = serde_json::from_slice(&output).expect("JSON");
    assert_eq!(found["files"][0]["works"], false, "{found}");
    assert_eq!(status["exitcode"], 3, "{found}");
}
