//! `--check`: which channels and commands will work in this guest, and what the others lack.
//!
//! A line each, or one JSON object, in the order of the table of commands. Looking changes nothing, opens
//! no device and makes no socket: a host would notice the one, a serial line moves its control lines,
//! and the other would be in the way of an agent that runs. So a port, socket or address counts as
//! working while another process has it, and everything else is as the agent finds it when it opens the
//! channel: paths, types, rights, addresses. A vsock address is bound, but not listened at.
//!
//! A command is reported as blocked or left out before anything that it lacks, and of several things
//! that it lacks the first is reported.

use super::channel_options::{ChannelOption, Method, vsock_address};
use super::options::{CheckFormat, Key, Options};
use super::port;
use super::texts::AgentPhrase;
use crate::base::limits::REPLY_BYTES;
use crate::base::packed::{Line, Text};
use crate::base::sink::ByteSink;
use crate::base::text::Digits;
use crate::commands::info::VERSION;
use crate::commands::{self, Command, Need, PREFIX};
use crate::parse::{file_name, parent_of};
use crate::sys::mem::Buffer;
use crate::sys::root::{Root, relative};
use crate::sys::status::{FileType, Status};
use crate::sys::{Errno, stdio, stream, vsock, words};
use crate::wire::emit::{List, Out};

// Exit statuses; 1 is also an error in a setting.
const NOT_WRITTEN: i32 = 1;
const NO_CHANNEL_WORKS: i32 = 2;
const COMMAND_LACKS_SOMETHING: i32 = 3;

const GREEN: &[u8] = b"\x1b[32m";
const YELLOW: &[u8] = b"\x1b[33m";
const RED: &[u8] = b"\x1b[31m";
const NO_COLOUR: &[u8] = b"\x1b[0m";

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
}

/// A channel that works, or what is in its way.
type Checked = Result<(), Finding>;

/// The type of a device, as its directory in sysfs has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Device {
    Port,
    SerialLine,
}

/// Takes a name, in pieces, and the finding about it.
type Each<'a> = &'a mut dyn FnMut(&[&[u8]], Finding);

/// Checks all and prints it; returns the exit status.
pub(super) fn run(options: &Options, root: &Root, format: CheckFormat) -> i32 {
    let mut out = Buffer::growing(REPLY_BYTES);
    let (mut any_channel, mut all_commands) = (false, true);
    let channels = &mut |each: Each<'_>| {
        for channel in options.channels.list() {
            let finding = check_channel(root, channel);
            any_channel |= finding == Finding::Works;
            let path = channel.path().unwrap_or_default();
            each(&[channel.method.name(), b" ", path], finding);
        }
    };
    let commands = &mut |each: Each<'_>| {
        for (index, command) in commands::all().enumerate() {
            let finding = check_command(options, root, index, &command);
            all_commands &= !matches!(finding, Finding::Lacks(_));
            each(&[PREFIX, command.name()], finding);
        }
    };
    match format {
        CheckFormat::Text => {
            let is_coloured = stdio::is_terminal();
            let put = &mut |name: &[&[u8]], finding| put_line(&mut out, name, finding, is_coloured);
            channels(put);
            commands(put);
        }
        CheckFormat::Json => {
            let mut json = Out::new(&mut out);
            let mut object = json.value().object();
            object.member_named(b"version").text(VERSION.as_bytes());
            put_list(object.member_named(b"channels").list(), channels);
            put_list(object.member_named(b"commands").list(), commands);
            drop(object);
            let _ = out.append(b"\n");
        }
    }
    if stream::write_all(stdio::stdout(), out.bytes()).is_err() {
        return NOT_WRITTEN;
    }
    match (any_channel, all_commands) {
        (false, _) => NO_CHANNEL_WORKS,
        (true, false) => COMMAND_LACKS_SOMETHING,
        (true, true) => 0,
    }
}

fn check_command(options: &Options, root: &Root, index: usize, command: &Command) -> Finding {
    if !command.is_built() {
        return Finding::Disabled(AgentPhrase::LeftOut);
    }
    if !options.filter.allows(index) {
        return Finding::Disabled(AgentPhrase::Blocked);
    }
    let keys = options.text(Key::AuthorizedKeys);
    match commands::needs(index).first_missing(root, keys) {
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
        Need::WritableUsers => AgentPhrase::UsersReadOnly,
        Need::KeysDirectory => AgentPhrase::NoDirectory,
        Need::Routes => AgentPhrase::NoRoutes,
        Need::DiskCounters => AgentPhrase::NoDiskCounters,
        Need::CpuCounters => AgentPhrase::NoCpuCounters,
    }
}

fn check_channel(root: &Root, channel: &ChannelOption) -> Finding {
    let path = channel.path().unwrap_or_default();
    let checked = match channel.method {
        Method::UnixListen => check_socket(path),
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

fn check_socket(path: &[u8]) -> Checked {
    stream::check_unix(path).map_err(|errno| match errno {
        Errno::NOTSOCK => Finding::Lacks(AgentPhrase::OtherFile),
        Errno::NOENT | Errno::NOTDIR => Finding::Lacks(AgentPhrase::NoDirectory),
        errno => Finding::Fails(errno),
    })?;
    // As for the agent, a relative path begins at the working directory.
    let here = Root::open(c".").map_err(Finding::Fails)?;
    match here.is_writable(&[parent_of(path), b"."]) {
        true => Ok(()),
        false => Err(Finding::Lacks(AgentPhrase::NoDirectory)),
    }
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
    fn text(self) -> Line {
        match self {
            Self::Works => Text::from(AgentPhrase::Works).unpack(),
            Self::Disabled(phrase) | Self::Lacks(phrase) => Text::from(phrase).unpack(),
            Self::Fails(errno) => words(errno),
        }
    }
}

fn put_line(out: &mut Buffer, name: &[&[u8]], finding: Finding, is_coloured: bool) {
    let colour = match finding {
        Finding::Works => GREEN,
        Finding::Disabled(_) => YELLOW,
        Finding::Lacks(_) | Finding::Fails(_) => RED,
    };
    let (before, behind) = match is_coloured {
        true => (colour, NO_COLOUR),
        false => (&b""[..], &b""[..]),
    };
    for piece in name {
        let _ = out.append(piece);
    }
    for piece in [b": ", before, &finding.text(), behind, b"\n"] {
        let _ = out.append(piece);
    }
}

/// Writes an object for each finding.
fn put_list(mut list: List<'_, '_>, findings: &mut dyn FnMut(Each<'_>)) {
    findings(&mut |name, finding| {
        let mut object = list.object();
        object.member_named(b"name").text_pieces(name);
        object
            .member_named(b"works")
            .bool(finding == Finding::Works);
        if finding != Finding::Works {
            object.member_named(b"missing").text(&finding.text());
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
            (name, check_command(options, root, index, &command))
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

    #[test]
    fn line_has_a_colour_on_a_terminal_only() {
        let line = |finding, is_coloured| {
            let mut out = Buffer::growing(4096);
            put_line(&mut out, &[b"guest-", b"ping"], finding, is_coloured);
            String::from_utf8(out.bytes().to_vec()).unwrap()
        };
        assert_eq!(line(Finding::Works, false), "guest-ping: works\n");
        let lacks = Finding::Lacks(AgentPhrase::NoUsers);
        assert_eq!(
            line(lacks, true),
            "guest-ping: \x1b[31mno /etc/passwd\x1b[0m\n"
        );
    }
}
