//! `--check`: which channels, files and commands will work in this guest, and what the others lack.
//!
//! A line each, or one JSON object: the channels, the log and the pid file, the hooks and the state
//! directory, the commands in the order of their table.
//!
//! Looking changes nothing. It makes no socket file, which would be in the way of a running agent. It opens
//! no FIFO, and of devices only the terminal of this process: a host would notice that its port was
//! opened, and a serial line would move its control lines. A vsock address is bound, but not listened at.
//! A port, socket, address or pid file counts as working while another process has it; paths, types,
//! rights and addresses are as the agent finds them. A device node without a driver is not noticed.
//!
//! A command, hook or state directory is reported as blocked or left out before anything that it lacks,
//! and of several things that it lacks the first is reported. `tests/e2e/tests/check.rs` compares the
//! findings with what the agent then does.

use super::channel_options::{ChannelOption, Method, vsock_address};
use super::options::{CheckFormat, Key, Options};
use super::port;
use super::texts::AgentPhrase;
use crate::base::limits::REPLY_BYTES;
use crate::base::packed::Text;
use crate::base::path::Path;
use crate::base::sink::ByteSink;
use crate::base::text::{Digits, cut};
use crate::commands::info::VERSION;
use crate::commands::{self, Command, Facts, HAS_FREEZE, Need, PREFIX};
use crate::parse::file_name;
use crate::parse::hooks::DIRECTORY;
use crate::probe::hooks;
use crate::state::hooks::{Ledger, Refusal, check as check_safe, would_run};
use crate::state::{log, pid_file, target};
use crate::sys::mem::Buffer;
use crate::sys::root::{Root, relative};
use crate::sys::status::{FileType, Status};
use crate::sys::{Errno, stdio, stream, vsock, words};
use crate::wire::emit::{List, Out};

// Exit statuses; 1 is also an error in a setting.
const NOT_WRITTEN: i32 = 1;
/// No channel works, or the agent would not start.
const SERVES_NOTHING: i32 = 2;
/// A command, a hook, the state directory or the log lacks something.
const LACKS_SOMETHING: i32 = 3;

const GREEN: &[u8] = b"\x1b[32m";
const YELLOW: &[u8] = b"\x1b[33m";
const RED: &[u8] = b"\x1b[31m";
const NO_COLOUR: &[u8] = b"\x1b[0m";

/// How the line of a hook begins.
const HOOK: &[u8] = b"fsfreeze-hook ";

/// The longest link or attribute of a device in sysfs, in bytes.
const ATTRIBUTE_BYTES: usize = 256;

/// Whether something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Works,
    /// A setting or the build disables it.
    Disabled(AgentPhrase),
    /// Something is missing here.
    Lacks(AgentPhrase),
    /// The system refuses it.
    Fails(Errno),
    /// The agent does not run it, and does not freeze.
    Refused(Refusal),
    /// The agent does not run it, and freezes all the same.
    Ignored(Refusal),
}

/// A channel that works, or what is in its way.
type Checked = Result<(), Finding>;

/// The type of a device, as its directory in sysfs has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Device {
    Port,
    SerialLine,
}

/// Takes a name, in pieces, the finding about it, and for a [`Finding::Refused`] the path at fault.
type Each<'a> = &'a mut dyn FnMut(&[&[u8]], Finding, &Path);

/// Checks all and prints it; returns the exit status.
pub(super) fn run(options: &Options, root: &Root, format: CheckFormat) -> i32 {
    let mut out = Buffer::growing(REPLY_BYTES);
    let (mut any_channel, mut starts, mut all_work) = (false, true, true);
    let mut facts = Facts {
        root,
        keys: options.text(Key::AuthorizedKeys),
        hooks_run: true,
    };
    let none = &Path::new();
    let channels = &mut |each: Each<'_>| {
        for channel in options.channels.list() {
            let finding = check_channel(root, channel);
            any_channel |= finding == Finding::Works;
            let (method, path): (&[u8], &[u8]) = match channel.method {
                Method::Inherited => (b"inherited socket", b"(LISTEN_FDS)"),
                method => (method.name(), channel.path().unwrap_or_default()),
            };
            each(&[method, b" ", path], finding, none);
        }
    };
    // Two lists: of files, and of commands.
    let others = &mut |of_files: bool, each: Each<'_>| {
        let each: Each<'_> = &mut |name, finding, about| {
            // Without its log or pid file the agent ends; no command fails so.
            starts &= !matches!(finding, Finding::Fails(_));
            all_work &= matches!(
                finding,
                Finding::Works | Finding::Disabled(_) | Finding::Ignored(_)
            );
            each(name, finding, about);
        };
        if of_files {
            facts.hooks_run = check_files(options, root, each);
            return;
        }
        for (index, command) in commands::all().enumerate() {
            let finding = check_command(options, &facts, index, &command);
            each(&[PREFIX, command.name()], finding, none);
        }
    };
    match format {
        CheckFormat::Text => {
            let is_coloured = stdio::is_terminal();
            let put: Each<'_> = &mut |name, finding, about| {
                put_line(&mut out, name, finding, about, is_coloured);
            };
            channels(put);
            others(true, put);
            others(false, put);
        }
        CheckFormat::Json => {
            let mut json = Out::new(&mut out);
            let mut object = json.value().object();
            object.member_named(b"version").text(VERSION.as_bytes());
            put_list(object.member_named(b"channels").list(), channels);
            for (name, of_files) in [(&b"files"[..], true), (b"commands", false)] {
                let list = object.member_named(name).list();
                put_list(list, &mut |each| others(of_files, each));
            }
            drop(object);
            let _ = out.append(b"\n");
        }
    }
    if stream::write_all(stdio::stdout(), out.bytes()).is_err() {
        return NOT_WRITTEN;
    }
    match (any_channel && (starts || is_for_init(root)), all_work) {
        (false, _) => SERVES_NOTHING,
        (true, false) => LACKS_SOMETHING,
        (true, true) => 0,
    }
}

/// The number of the first PID namespace: `PROC_PID_INIT_INO` of linux/proc_ns.h.
const FIRST_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Whether this program is the init of the guest: the agent then serves whatever is wrong.
fn is_for_init(root: &Root) -> bool {
    let [first, own, namespace] = [&b"1/exe"[..], b"self/exe", b"self/ns/pid"]
        .map(|name| Status::at(root, &[b"proc/", name]));
    match (first, own, namespace) {
        (Ok(first), Ok(own), Ok(namespace)) => {
            first.is_same_file(&own) && namespace.inode == FIRST_NAMESPACE
        }
        _ => false,
    }
}

/// Checks the files and directories of options. [`Finding::Fails`] is about one without which the agent
/// does not start. Returns whether no hook stops a freeze because it cannot be run.
fn check_files(options: &Options, root: &Root, each: Each<'_>) -> bool {
    let about = &mut Path::new();
    if let Some(path) = options.text(Key::LogFile) {
        let finding = match log::check(root, path) {
            Ok(()) => Finding::Works,
            Err(errno) if log::may_come(path, errno) => Finding::Lacks(AgentPhrase::NoDevice),
            Err(errno) => Finding::Fails(errno),
        };
        each(&[b"logfile ", path], finding, about);
    }
    if let Some(path) = options.pid_file() {
        let failed = pid_file::check(path).err().map(Finding::Fails);
        each(
            &[b"pidfile ", path],
            failed.unwrap_or(Finding::Works),
            about,
        );
    }
    if !HAS_FREEZE {
        return true;
    }
    let is_allowed = commands::all()
        .enumerate()
        .any(|(index, _)| options.filter.allows(index) && commands::needs(index).has(Need::Hooks));
    let mut hooks_run = true;
    let each: Each<'_> = &mut |name, finding, about| {
        hooks_run &= !matches!(finding, Finding::Refused(_));
        // Nothing else has them run, or needs the directory.
        let finding = match is_allowed {
            true => finding,
            false => Finding::Disabled(AgentPhrase::Blocked),
        };
        each(name, finding, about);
    };
    let has_hooks = check_hooks(options, root, about, each);
    let directory = options.state_directory;
    let opened = Root::at(directory).ok();
    let opened = opened.filter(|opened| opened.is_writable(&[b"."]));
    let is_safe = check_safe(root, directory, about);
    let finding = match opened.as_ref().map(Ledger::check) {
        None => Finding::Lacks(AgentPhrase::NoDirectory),
        // Each freeze looks for hooks that an earlier one has left.
        Some(Err(errno)) => Finding::Refused(Refusal::unreadable(errno)),
        Some(Ok(())) => match is_safe {
            // The hooks on a list in it run as root.
            Err(refusal) if has_hooks => Finding::Refused(refusal),
            _ => Finding::Works,
        },
    };
    each(&[b"statedir ", directory], finding, about);
    // Without the directory no hook is remembered, and so none is run.
    hooks_run && (opened.is_some() || !has_hooks)
}

/// Checks the hooks; returns whether there are any. `about` is room for the path at fault.
fn check_hooks(options: &Options, root: &Root, about: &mut Path, each: Each<'_>) -> bool {
    let Some(given) = options.hooks.main.given() else {
        return false;
    };
    let refused = match options.hooks.ignore_failures {
        true => Finding::Ignored,
        false => Finding::Refused,
    };
    let list = match hooks::find(root, given) {
        Ok(list) => list,
        Err((main, errno)) => {
            let refusal = Refusal::unreadable(errno);
            each(&[HOOK, main, DIRECTORY], refused(refusal), about);
            return false;
        }
    };
    let mut rest = list.bytes();
    let any = !rest.is_empty();
    if !any {
        each(&[HOOK, b"(none)"], Finding::Works, about);
    }
    while !rest.is_empty() {
        let hook = cut(&mut rest, 0);
        let finding = would_run(root, hook, about).map_or_else(refused, |()| Finding::Works);
        each(&[HOOK, hook], finding, about);
    }
    any
}

fn check_command(options: &Options, facts: &Facts<'_>, index: usize, command: &Command) -> Finding {
    if !command.is_built() {
        return Finding::Disabled(AgentPhrase::LeftOut);
    }
    if !options.filter.allows(index) {
        return Finding::Disabled(AgentPhrase::Blocked);
    }
    match commands::needs(index).first_missing(facts) {
        Some(need) => Finding::Lacks(lack(need)),
        None => Finding::Works,
    }
}

/// What to say about a need that is not met.
fn lack(need: Need) -> AgentPhrase {
    match need {
        Need::Superuser => AgentPhrase::NotRoot,
        Need::HardwareClock => AgentPhrase::NoHardwareClock,
        Need::MountTable => AgentPhrase::NoMountTable,
        Need::Processors => AgentPhrase::NoProcessors,
        Need::HotPlug => AgentPhrase::NoHotPlug,
        Need::MemoryBlocks => AgentPhrase::NoMemoryBlocks,
        Need::BlockDevices => AgentPhrase::NoBlockDevices,
        Need::Network => AgentPhrase::NoNetwork,
        Need::SleepInMemory => AgentPhrase::NoSleepInMemory,
        Need::SleepOnDisk => AgentPhrase::NoSleepOnDisk,
        Need::SleepOnBoth => AgentPhrase::NoSleepOnBoth,
        Need::Users => AgentPhrase::NoUsers,
        Need::WritablePasswords => AgentPhrase::PasswordsReadOnly,
        Need::KeysDirectory => AgentPhrase::NoDirectory,
        Need::Routes => AgentPhrase::NoRoutes,
        Need::DiskCounters => AgentPhrase::NoDiskCounters,
        Need::CpuCounters => AgentPhrase::NoCpuCounters,
        Need::Hooks => AgentPhrase::HooksStopFreeze,
        Need::WritableSys => AgentPhrase::SysReadOnly,
    }
}

fn check_channel(root: &Root, channel: &ChannelOption) -> Finding {
    let path = channel.path().unwrap_or_default();
    let checked = match channel.method {
        Method::UnixListen => check_socket(root, path),
        Method::VirtioSerial => check_port(root, path),
        Method::IsaSerial => check_device(root, &[relative(path)], Device::SerialLine),
        Method::VsockListen => check_vsock(root, path),
        Method::Inherited => match stream::has_inherited_listener() {
            true => Ok(()),
            false => Err(Finding::Lacks(AgentPhrase::UnsupportedSocket)),
        },
    };
    checked.err().unwrap_or(Finding::Works)
}

fn check_socket(root: &Root, path: &[u8]) -> Checked {
    stream::check_unix(path).map_err(|errno| match errno {
        Errno::NOTSOCK => Finding::Lacks(AgentPhrase::OtherFile),
        Errno::NOENT | Errno::NOTDIR => Finding::Lacks(AgentPhrase::NoDirectory),
        errno => Finding::Fails(errno),
    })?;
    // As for the agent, a relative path begins at the working directory.
    let found = target::split(path).and_then(|(directory, name)| directory.may_replace(root, name));
    found.map_err(|_| Finding::Lacks(AgentPhrase::NoDirectory))
}

fn check_vsock(root: &Root, path: &'static [u8]) -> Checked {
    // Without it a socket would have the kernel load the module.
    if root.has_at(&[b"sys/class/misc/vsock"]) != Ok(true) {
        return Err(Finding::Lacks(AgentPhrase::NoDevice));
    }
    let (cid, port) = vsock_address(path).map_err(|error| Finding::Lacks(error.what))?;
    vsock::check(cid, port).map_err(|errno| match errno {
        Errno::ADDRNOTAVAIL => Finding::Lacks(AgentPhrase::NoSuchCid),
        errno => Finding::Fails(errno),
    })
}

/// Looks for a device that the agent could open. Of a device that sysfs does not know, any type counts.
fn check_device(root: &Root, name: &[&[u8]], device: Device) -> Checked {
    let status = Status::at(root, name).map_err(|errno| match port::is_missing(errno) {
        true => Finding::Lacks(AgentPhrase::NoDevice),
        false => Finding::Fails(errno),
    })?;
    let other = Err(Finding::Lacks(AgentPhrase::OtherFile));
    match status.kind {
        FileType::CharacterDevice => {}
        // Serves as a port as well.
        FileType::Fifo if device == Device::Port => {}
        _ => return other,
    }
    root.may_open(name).map_err(Finding::Fails)?;
    let (major, minor) = status.number;
    let [major, minor] = [major, minor].map(|number| Digits::unsigned(number.into()));
    let attribute = |name| -> [&[u8]; 5] {
        let (major, minor) = (major.as_bytes(), minor.as_bytes());
        [b"sys/dev/char/", major, b":", minor, name]
    };
    let mut buffer = [0; ATTRIBUTE_BYTES];
    let subsystem: &[u8] = match device {
        Device::Port => b"virtio-ports",
        Device::SerialLine => b"tty",
    };
    match root.link_at(&attribute(b"/subsystem"), &mut buffer) {
        Ok(link) if file_name(link) != subsystem => return other,
        _ => {}
    }
    // The kernel has nodes for lines whose circuit is not there.
    match root.attribute(&attribute(b"/type"), &mut buffer) {
        Ok(b"0\n") => Err(Finding::Lacks(AgentPhrase::NoDevice)),
        _ => Ok(()),
    }
}

/// Looks for a port by its path, or by the name in it.
fn check_port(root: &Root, path: &[u8]) -> Checked {
    let missing = Err(Finding::Lacks(AgentPhrase::NoDevice));
    let checked = check_device(root, &[relative(path)], Device::Port);
    if checked != missing {
        return checked;
    }
    let name = path.strip_prefix(port::BY_NAME);
    let mut found = Err(Finding::Lacks(AgentPhrase::NoPort));
    let listed = port::with_name(root, name.unwrap_or_default(), &mut |device| {
        if name.is_some() {
            found = check_device(root, &[b"dev/", device], Device::Port);
        }
    });
    match listed {
        Err(_) => Err(Finding::Lacks(AgentPhrase::NoPortDriver)),
        // For a port without a node the agent makes one.
        Ok(()) if found == missing => Ok(()),
        Ok(()) => found,
    }
}

impl Finding {
    /// Passes its words to `put`.
    fn put(self, about: &Path, put: &mut dyn FnMut(&[u8])) {
        let phrase = match self {
            Self::Works => AgentPhrase::Works,
            Self::Disabled(phrase) | Self::Lacks(phrase) => phrase,
            Self::Fails(errno) => return put(&words(errno)),
            Self::Refused(refusal) => return refusal.put(about, put),
            Self::Ignored(refusal) => {
                refusal.put(about, put);
                AgentPhrase::HookIgnored
            }
        };
        Text::from(phrase).put(&[], put);
    }
}

fn put_line(out: &mut Buffer, name: &[&[u8]], finding: Finding, about: &Path, is_coloured: bool) {
    let colour = match finding {
        Finding::Works => GREEN,
        Finding::Disabled(_) | Finding::Ignored(_) => YELLOW,
        Finding::Lacks(_) | Finding::Fails(_) | Finding::Refused(_) => RED,
    };
    let (before, behind) = match is_coloured {
        true => (colour, NO_COLOUR),
        false => (&b""[..], &b""[..]),
    };
    let put = &mut |piece: &[u8]| {
        let _ = out.append(piece);
    };
    name.iter().for_each(|piece| put(piece));
    put(b": ");
    put(before);
    finding.put(about, put);
    put(behind);
    put(b"\n");
}

/// Writes an object for each finding.
fn put_list(mut list: List<'_, '_>, findings: &mut dyn FnMut(Each<'_>)) {
    findings(&mut |name, finding, about| {
        let mut object = list.object();
        object.member_named(b"name").text_pieces(name);
        let works = finding == Finding::Works;
        object.member_named(b"works").bool(works);
        if !works {
            let mut text = Path::new();
            finding.put(about, &mut |piece| text.push(piece));
            object.member_named(b"missing").text(text.as_bytes());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    fn findings(options: &Options, root: &Root) -> Vec<(String, Finding)> {
        let commands = commands::all().enumerate();
        let found = commands.map(|(index, command)| {
            let name = String::from_utf8(command.name().to_vec()).unwrap();
            let facts = Facts {
                root,
                keys: None,
                hooks_run: true,
            };
            (name, check_command(options, &facts, index, &command))
        });
        found.collect()
    }

    #[test]
    fn port_is_found_as_the_agent_finds_it_but_not_opened() {
        let tree = Tree::new();
        let check = |path: &[u8]| match check_port(&tree.root, path) {
            Ok(()) => None,
            Err(Finding::Lacks(what)) => Some(what),
            Err(other) => panic!("{other:?}"),
        };
        let agent = b"/dev/virtio-ports/agent";
        assert_eq!(check(agent), Some(AgentPhrase::NoPortDriver));
        tree.file("sys/class/virtio-ports/vport1p1/name", "console\n");
        assert_eq!(check(agent), Some(AgentPhrase::NoPort));
        tree.file("sys/class/virtio-ports/vport1p2/name", "agent\n");
        assert_eq!(check(agent), None);
        tree.link("dev/vport1p2", "/dev");
        assert_eq!(check(agent), Some(AgentPhrase::OtherFile));
        assert_eq!(check(b"/dev/vport1p1"), Some(AgentPhrase::NoPort));
        // Opening a FIFO to write would fail: nobody reads it.
        tree.fifo(c"dev/vport1p1");
        assert_eq!(check(b"/dev/vport1p1"), None);
        // A link of udev that outlived the port.
        tree.link("dev/virtio-ports/old", "../vport9p9");
        assert_eq!(check(b"/dev/virtio-ports/old"), Some(AgentPhrase::NoPort));
    }

    #[test]
    fn device_must_be_of_the_right_type() {
        let tree = Tree::new();
        let check = |path: &'static [u8]| {
            let line = ChannelOption::at(Method::IsaSerial, path);
            check_channel(&tree.root, &line)
        };
        let [missing, other] = [AgentPhrase::NoDevice, AgentPhrase::OtherFile].map(Finding::Lacks);
        assert_eq!(check(b"/dev/ttyS0"), missing);
        tree.directory("dev/directory");
        assert_eq!(check(b"/dev/directory"), other);
        tree.file("dev/file", "");
        assert_eq!(check(b"/dev/file"), other);
        tree.fifo(c"dev/fifo");
        assert_eq!(check(b"/dev/fifo"), other);
        tree.link("dev/ttyS0", "/dev/null");
        assert_eq!(check(b"/dev/ttyS0"), Finding::Works);
        tree.link("sys/dev/char/1:3/subsystem", "../../../class/mem");
        assert_eq!(check(b"/dev/ttyS0"), other);
        std::fs::remove_file(tree.path.join("sys/dev/char/1:3/subsystem")).unwrap();
        tree.link("sys/dev/char/1:3/subsystem", "../../../class/tty");
        tree.file("sys/dev/char/1:3/type", "4\n");
        assert_eq!(check(b"/dev/ttyS0"), Finding::Works);
        tree.file("sys/dev/char/1:3/type", "0\n");
        assert_eq!(check(b"/dev/ttyS0"), missing);
        assert_eq!(check_port(&tree.root, b"/dev/ttyS0"), Err(other));
    }

    #[test]
    fn socket_needs_a_directory() {
        let tree = Tree::new();
        let check = |name: &str| {
            let path = tree.path.join(name);
            check_channel(&tree.root, &ChannelOption::unix_listen(&path))
        };
        let lacks = Finding::Lacks(AgentPhrase::NoDirectory);
        assert_eq!(check("run/x/agent"), lacks);
        assert_eq!(check("agent"), Finding::Works);
        tree.directory("run/x");
        assert_eq!(check("run/x/agent"), Finding::Works);
        let other = Finding::Lacks(AgentPhrase::OtherFile);
        assert_eq!(check("run/x"), other);
        tree.file("file", "");
        assert_eq!(check("file"), other);
        assert_eq!(check("file/agent"), lacks);
        assert_eq!(check(&"x".repeat(108)), Finding::Fails(Errno::NAMETOOLONG));
        // A path of an agent that runs, which is not asked.
        let agent = std::os::unix::net::UnixListener::bind(tree.path.join("agent")).unwrap();
        agent.set_nonblocking(true).unwrap();
        assert_eq!(check("agent"), Finding::Works);
        assert!(agent.accept().is_err());
        assert_eq!(std::fs::read_dir(&tree.path).unwrap().count(), 3);
        // Relative to the working directory, as for the agent: below `/` it could not be written.
        for path in ["Cargo.lock", "src/none/agent"] {
            let path = ChannelOption::unix_listen(std::path::Path::new(path));
            assert_ne!(check_channel(&tree.root, &path), Finding::Works);
        }
        let path = ChannelOption::unix_listen(std::path::Path::new("src/socket"));
        assert_eq!(check_channel(&tree.root, &path), Finding::Works);
    }

    #[test]
    fn vsock_needs_its_driver_and_an_address() {
        let tree = Tree::new();
        let vsock = ChannelOption::at(Method::VsockListen, b"4294967290:1024");
        let missing = Finding::Lacks(AgentPhrase::NoDevice);
        assert_eq!(check_channel(&tree.root, &vsock), missing);
        tree.directory("sys/class/misc/vsock");
        // Depends on this machine: it may have no vsock, but never this CID.
        assert!(!matches!(
            check_channel(&tree.root, &vsock),
            Finding::Works | Finding::Disabled(_)
        ));
    }

    #[test]
    fn policy_comes_before_what_is_missing() {
        let tree = Tree::new();
        let mut options = Options::new();
        let before = findings(&options, &tree.root);
        let sleep = before
            .iter()
            .find(|(name, _)| name == "get-cpustats")
            .unwrap();
        assert_eq!(sleep.1, Finding::Lacks(AgentPhrase::NoCpuCounters));
        options
            .set(
                super::super::options::Key::BlockRpcs,
                b"guest-get-cpustats,guest-exec",
            )
            .unwrap();
        for ((name, before), (_, after)) in before.iter().zip(findings(&options, &tree.root)) {
            let is_blocked = name == "get-cpustats" || name == "exec";
            let expected = if is_blocked {
                Finding::Disabled(AgentPhrase::Blocked)
            } else {
                *before
            };
            assert_eq!(after, expected, "{name}");
        }
    }

    /// The lines about files, with the paths of the tree cut off.
    fn lines_of_files(options: &Options, tree: &Tree) -> String {
        let mut out = Buffer::growing(4096);
        check_files(options, &tree.root, &mut |name, finding, about| {
            put_line(&mut out, name, finding, about, false);
        });
        let text = String::from_utf8(out.bytes().to_vec()).unwrap();
        text.replace(tree.path.to_str().unwrap(), "@")
    }

    /// A path in the tree, for an option.
    fn at(tree: &Tree, name: &str) -> &'static [u8] {
        let path = tree.path.join(name);
        path.to_str().unwrap().to_owned().leak().as_bytes()
    }

    #[test]
    fn log_and_pid_file_are_found_as_the_agent_finds_them() {
        let tree = Tree::new();
        let mut options = Options::new();
        let mut set = |key, value| options.set(key, value).unwrap();
        set(Key::StateDirectory, at(&tree, ""));
        set(Key::LogFile, at(&tree, "none/log"));
        set(Key::PidFile, at(&tree, "none/pid"));
        let state = "statedir @/: works\n";
        // Without --daemonize there is no pid file.
        let log = "logfile @/none/log: No such file or directory\n";
        assert_eq!(lines_of_files(&options, &tree), format!("{log}{state}"));
        options.set(Key::Daemonize, b"").unwrap();
        let pid_file = "pidfile @/none/pid: No such file or directory\n";
        let expected = format!("{log}{pid_file}{state}");
        assert_eq!(lines_of_files(&options, &tree), expected);
        tree.directory("none");
        let expected = format!("logfile @/none/log: works\npidfile @/none/pid: works\n{state}");
        assert_eq!(lines_of_files(&options, &tree), expected);
        let made = std::fs::read_dir(tree.path.join("none")).unwrap().count();
        assert_eq!(made, 0);
        options.set(Key::LogFile, b"/dev/no-such-log").unwrap();
        let said = lines_of_files(&options, &tree);
        assert!(
            said.starts_with("logfile /dev/no-such-log: no such device\n"),
            "{said}"
        );
        options
            .set(Key::StateDirectory, at(&tree, "state"))
            .unwrap();
        let said = lines_of_files(&options, &tree);
        let expected = "statedir @/state: the directory is missing or cannot be written\n";
        assert!(said.ends_with(expected), "{said}");
    }

    #[test]
    fn each_hook_is_checked_as_the_agent_checks_it() {
        use std::os::unix::fs::PermissionsExt;
        if !crate::sys::identity::is_root() {
            return;
        }
        let tree = Tree::new();
        let chmod = |name: &str, mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(tree.path.join(name), mode).unwrap();
        };
        for name in ["one", "two"] {
            tree.file(format!("etc/hook.d/{name}"), "");
            chmod(&format!("etc/hook.d/{name}"), 0o755);
        }
        tree.directory("run");
        for name in ["", "etc", "etc/hook.d", "run"] {
            chmod(name, 0o755);
        }
        let mut options = Options::new();
        options.set(Key::StateDirectory, at(&tree, "run")).unwrap();
        let mut said = |hook: &'static [u8]| {
            options.set(Key::FreezeHook, hook).unwrap();
            lines_of_files(&options, &tree)
        };
        // The path of the state directory is not below the root of the tree.
        let state = "statedir @/run: refused: /tmp: No such file or directory\n";
        let lines = |of_hooks: &[&str]| {
            let hooks = of_hooks
                .iter()
                .map(|line| format!("fsfreeze-hook {line}\n"));
            hooks.collect::<String>()
        };
        assert_eq!(said(b"/dev/null"), "statedir @/run: works\n");
        let none = "fsfreeze-hook (none): works\nstatedir @/run: works\n";
        assert_eq!(said(b""), none);
        let one = "/etc/hook.d/one: works";
        let two = "/etc/hook.d/two: works";
        assert_eq!(said(b"/etc/hook"), lines(&[one, two]) + state);
        chmod("etc/hook.d/two", 0o775);
        let two = "/etc/hook.d/two: refused: others may write to /etc/hook.d/two";
        assert_eq!(said(b"/etc/hook"), lines(&[one, two]) + state);
        let none = "/etc/none: refused: /etc/none: No such file or directory";
        assert_eq!(said(b"/etc/none"), lines(&[none]) + state);
        // Main hooks, which need not be executable to be found.
        tree.file("etc/main", "");
        chmod("etc/main", 0o644);
        let main = "/etc/main: cannot be run: Permission denied";
        assert_eq!(said(b"/etc/main"), lines(&[main]) + state);
        let main = "/etc/hook.d: cannot be run: Permission denied";
        assert_eq!(said(b"/etc/hook.d"), lines(&[main]) + state);
        tree.file("etc/file.d", "");
        let file = "/etc/file.d: cannot be read: Not a directory";
        assert_eq!(
            said(b"/etc/file"),
            lines(&[file]) + "statedir @/run: works\n"
        );
    }

    #[test]
    fn hooks_count_as_far_as_they_stop_a_freeze() {
        if !crate::sys::identity::is_root() {
            return;
        }
        let tree = Tree::new();
        tree.directory("run");
        let mut options = Options::new();
        options.set(Key::StateDirectory, at(&tree, "run")).unwrap();
        options.set(Key::FreezeHook, b"/none").unwrap();
        let check = |options: &Options| {
            let mut lines = String::new();
            let runs = check_files(options, &tree.root, &mut |name, finding, about| {
                let mut out = Buffer::growing(4096);
                put_line(&mut out, name, finding, about, true);
                lines += str::from_utf8(out.bytes()).unwrap();
            });
            (lines.replace(tree.path.to_str().unwrap(), "@"), runs)
        };
        let (said, runs) = check(&options);
        assert!(said.contains("\x1b[31mrefused: /none") && !runs, "{said}");
        // The state directory must be safe all the same.
        options.set(Key::HookFailures, b"ignore").unwrap();
        let (said, runs) = check(&options);
        let ignored =
            "\x1b[33mrefused: /none: No such file or directory; failures of hooks are ignored";
        assert!(said.contains(ignored) && !runs, "{said}");
        // A list of what is allowed.
        options.set(Key::AllowRpcs, b"guest-fsfreeze-thaw").unwrap();
        let (said, runs) = check(&options);
        let expected = "fsfreeze-hook /none: \x1b[33mblocked by policy\x1b[0m\n\
                        statedir @/run: \x1b[33mblocked by policy\x1b[0m\n";
        assert!(said == expected && !runs, "{said}");
        options
            .set(Key::AllowRpcs, b"guest-fsfreeze-freeze-list")
            .unwrap();
        assert!(check(&options).0.contains(ignored));
    }

    #[test]
    fn line_has_a_colour_on_a_terminal_only() {
        let line = |finding, is_coloured| {
            let mut out = Buffer::growing(4096);
            let name = &[&b"guest-"[..], b"ping"];
            put_line(&mut out, name, finding, &Path::new(), is_coloured);
            String::from_utf8(out.bytes().to_vec()).unwrap()
        };
        assert_eq!(line(Finding::Works, false), "guest-ping: works\n");
        let lacks = Finding::Lacks(AgentPhrase::NoUsers);
        assert_eq!(
            line(lacks, true),
            "guest-ping: \x1b[31mno user in /etc/passwd\x1b[0m\n"
        );
    }
}
