//! `--check`: which channels and commands will work in this guest, and what the others lack.
//!
//! A line each, or one JSON object, in the order of the table of commands. Looking changes nothing, opens no port and
//! needs no host. A command is reported as blocked or left out before anything that it lacks, and of
//! several things that it lacks the first is reported.

use super::channel_options::{ChannelOption, Method};
use super::options::{CheckFormat, Key, Options};
use super::port;
use super::texts::AgentPhrase;
use crate::base::limits::REPLY_BYTES;
use crate::base::packed::Text;
use crate::base::sink::ByteSink;
use crate::commands::info::VERSION;
use crate::commands::{self, Command, Need, PREFIX};
use crate::probe::sysfs::parent_of;
use crate::sys::mem::Buffer;
use crate::sys::root::{Root, relative};
use crate::sys::{stdio, stream};
use crate::wire::emit::{List, Out};

// Exit statuses; 1 is also an error in a setting.
const NOT_WRITTEN: i32 = 1;
const NO_CHANNEL_WORKS: i32 = 2;
const COMMAND_LACKS_SOMETHING: i32 = 3;

const GREEN: &[u8] = b"\x1b[32m";
const YELLOW: &[u8] = b"\x1b[33m";
const RED: &[u8] = b"\x1b[31m";
const NO_COLOUR: &[u8] = b"\x1b[0m";

/// Whether something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Works,
    /// A setting or the build disables it.
    Disabled(AgentPhrase),
    /// Something is missing here.
    Lacks(AgentPhrase),
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
    let missing = match channel.method {
        Method::UnixListen => {
            let is_writable = root.is_writable(&[relative(parent_of(path))]);
            (!is_writable).then_some(AgentPhrase::NoDirectory)
        }
        Method::VirtioSerial => check_port(root, path),
        Method::IsaSerial => check_device(root, relative(path)),
        Method::VsockListen => check_device(root, b"dev/vsock"),
        Method::Inherited => None,
    };
    missing.map_or(Finding::Works, Finding::Lacks)
}

fn check_device(root: &Root, path: &[u8]) -> Option<AgentPhrase> {
    (root.has_at(&[path]) != Ok(true)).then_some(AgentPhrase::NoDevice)
}

/// Looks for a port by its path, or by the name in it, and does not open it: the host would see that.
fn check_port(root: &Root, path: &[u8]) -> Option<AgentPhrase> {
    if root.has_at(&[relative(path)]) == Ok(true) {
        return None;
    }
    let name = path.strip_prefix(port::BY_NAME);
    let mut missing = Some(AgentPhrase::NoPort);
    let listed = port::with_name(root, name.unwrap_or_default(), &mut |_| {
        if name.is_some() {
            missing = None;
        }
    });
    match listed {
        Err(_) => Some(AgentPhrase::NoPortDriver),
        Ok(()) => missing,
    }
}

fn put_line(out: &mut Buffer, name: &[&[u8]], finding: Finding, is_coloured: bool) {
    let (colour, text) = match finding {
        Finding::Works => (GREEN, AgentPhrase::Works),
        Finding::Disabled(why) => (YELLOW, why),
        Finding::Lacks(what) => (RED, what),
    };
    let (before, behind) = match is_coloured {
        true => (colour, NO_COLOUR),
        false => (&b""[..], &b""[..]),
    };
    for piece in name {
        let _ = out.append(piece);
    }
    let text = Text::from(text).unpack();
    for piece in [b": ", before, &text, behind, b"\n"] {
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
        if let Finding::Disabled(why) | Finding::Lacks(why) = finding {
            let text = Text::from(why).unpack();
            object.member_named(b"missing").text(&text);
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
        let check = |path: &[u8]| check_port(&tree.root, path);
        let agent = b"/dev/virtio-ports/agent";
        assert_eq!(check(agent), Some(AgentPhrase::NoPortDriver));
        tree.file("sys/class/virtio-ports/vport1p1/name", "console\n");
        assert_eq!(check(agent), Some(AgentPhrase::NoPort));
        tree.file("sys/class/virtio-ports/vport1p2/name", "agent\n");
        assert_eq!(check(agent), None);
        assert_eq!(check(b"/dev/vport1p1"), Some(AgentPhrase::NoPort));
        // Opening a FIFO to write would fail: nobody reads it.
        tree.directory("dev");
        tree.fifo(c"dev/vport1p1");
        assert_eq!(check(b"/dev/vport1p1"), None);
    }

    #[test]
    fn socket_needs_a_directory() {
        let tree = Tree::new();
        let check = |path: &'static [u8]| {
            let mut options = Options::new();
            options.channels.set_method(Method::UnixListen);
            options.channels.set_path(path);
            check_channel(&tree.root, &options.channels.list()[0])
        };
        let lacks = Finding::Lacks(AgentPhrase::NoDirectory);
        assert_eq!(check(b"/run/x/agent"), lacks);
        assert_eq!(check(b"/agent"), Finding::Works);
        tree.directory("run/x");
        assert_eq!(check(b"/run/x/agent"), Finding::Works);
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
