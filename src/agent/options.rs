//! The options: how each is spelled, what it does, and the settings they make.
//!
//! There is one row for each option. [`Options::set`] takes the value of one, whatever its source;
//! `agent::settings` has the sources. The last value of an option wins, but lists of commands add up.
//!
//! Commas or semicolons separate the names of a list, which are of commands or of sets of them, such as
//! `@info`. Names that no command has are ignored, as with qemu-ga: lists are written for agents of
//! several versions. What no command can have for a name is an error. An empty list is no list; an allow
//! list without a known name, such as `,`, allows nothing.
//!
//! To add an option: a row, a case in [`Options::set`], and a paragraph in the manual page. The long
//! name is its key in the configuration file as well.
//!
//! Differences from qemu-ga: `blacklist`, its name until 9.0, is read as `block-rpcs`; semicolons
//! separate names, which in qemu-ga are part of them; blanks around the names of a list do not count,
//! other bytes that no name has are an error;
//! the log lists names that no command has; an empty method or path is the default; a method may have
//! its path behind a colon.

use super::channel_options::{ChannelOptions, Method, OptionError};
use super::texts::AgentPhrase;
use crate::base::limits::{FREEZE_TIMEOUT_S, LISTS, LOGGED_OPTION_ERRORS, LOGGED_UNKNOWN_NAMES};
use crate::base::packed::{Pack, Text, pack};
use crate::base::sink::Discard;
use crate::base::text;
use crate::commands;
use crate::parse::keys_path;
use crate::state::filter::{CommandList, Filter, bit};
use crate::state::hooks::{Main, Settings};
use crate::state::log::{Level, Log};
use crate::sys::{process, vsock};

/// What an option sets, or asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Config,
    Method,
    Path,
    Channels,
    StateDirectory,
    BlockRpcs,
    AllowRpcs,
    FreezeTimeout,
    AbortFuse,
    FreezeHook,
    HookTimeout,
    HookFailures,
    AuthorizedKeys,
    Verbose,
    PidFile,
    RetryPath,
    VsockPeer,
    Daemonize,
    LogFile,
    DumpConf,
    Check,
    Version,
    Help,
}

impl Key {
    /// Whether the option is a setting, not a request to print something.
    pub(super) fn is_setting(self) -> bool {
        !matches!(
            self,
            Self::DumpConf | Self::Check | Self::Version | Self::Help
        )
    }
}

/// Whether an option has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OptionValue {
    None,
    /// Attached, or the next argument.
    Required,
    /// Attached, or left out: the next argument is not part of the option.
    Optional,
}

/// One option.
#[derive(Clone, Copy)]
pub(super) struct OptionRow {
    pub(super) key: Key,
    pub(super) long: &'static str,
    pub(super) short: Option<u8>,
    pub(super) value: OptionValue,
}

const fn row(
    key: Key,
    long: &'static str,
    short: Option<u8>,
    value: OptionValue,
    help: &'static str,
) -> (OptionRow, &'static str) {
    let row = OptionRow {
        key,
        long,
        short,
        value,
    };
    (row, help)
}

/// All options and their help, in the order of the help. It leaves out those without a text.
#[rustfmt::skip]
const OPTIONS: [(OptionRow, &str); 24] = [
    row(Key::Config, "config", Some(b'c'), OptionValue::Required,
        "configuration file (default: /etc/qemu/qemu-ga.conf, if it exists)"),
    row(Key::Method, "method", Some(b'm'), OptionValue::Required,
        "virtio-serial (default), isa-serial, unix-listen or vsock-listen"),
    row(Key::Path, "path", Some(b'p'), OptionValue::Required,
        "device, socket or CID:PORT (default: the port org.qemu.guest_agent.0)"),
    row(Key::Channels, "channels", None, OptionValue::Required,
        "several channels: METHOD:PATH;METHOD:PATH, instead of -m and -p"),
    row(Key::StateDirectory, "statedir", Some(b't'), OptionValue::Required,
        "directory in memory for the mark of a freeze (default: /run)"),
    row(Key::BlockRpcs, "block-rpcs", Some(b'b'), OptionValue::Required,
        "commands to refuse, separated by commas; 'help' lists all"),
    row(Key::BlockRpcs, OLD_NAME, None, OptionValue::Required,
        ""),
    row(Key::AllowRpcs, "allow-rpcs", Some(b'a'), OptionValue::Required,
        "commands to allow, separated by commas; all others are refused"),
    row(Key::FreezeTimeout, "freeze-timeout", None, OptionValue::Required,
        "seconds after which a freeze ends by itself, 0 for never (default: 600)"),
    row(Key::AbortFuse, "abort-fuse", None, OptionValue::None,
        "abort FUSE connections that owe an answer at the freeze timeout"),
    row(Key::FreezeHook, "fsfreeze-hook", Some(b'F'), OptionValue::Optional,
        "run hooks: this (default: /etc/qemu-ga/fsfreeze-hook) or those in its .d"),
    row(Key::HookTimeout, "hook-timeout", None, OptionValue::Required,
        "seconds that one hook has (default: 60)"),
    row(Key::HookFailures, "hook-failures", None, OptionValue::Required,
        "stop (default) the freeze if a hook fails, or ignore that"),
    row(Key::AuthorizedKeys, "authorized-keys", None, OptionValue::Required,
        "file of a user's ssh keys; %u is the user, %h the home directory"),
    row(Key::Verbose, "verbose", Some(b'v'), OptionValue::None,
        "log more"),
    row(Key::PidFile, "pidfile", Some(b'f'), OptionValue::Required,
        "pid file of a daemon (default: /run/qemu-ga.pid)"),
    row(Key::RetryPath, "retry-path", Some(b'r'), OptionValue::None,
        "try again if a socket cannot be made; devices are always waited for"),
    row(Key::VsockPeer, "vsock-peer", None, OptionValue::Required,
        "CID that may connect besides the host's; 4294967295 for any"),
    row(Key::Daemonize, "daemonize", Some(b'd'), OptionValue::None,
        "run in the background, as soon as the agent is ready"),
    row(Key::LogFile, "logfile", Some(b'l'), OptionValue::Required,
        "log to this file, /dev/kmsg, or the socket of a syslog daemon"),
    row(Key::DumpConf, "dump-conf", Some(b'D'), OptionValue::None,
        "print the settings as a configuration file"),
    row(Key::Check, "check", None, OptionValue::Optional,
        "print what works in this guest and what is missing; =json for programs"),
    row(Key::Version, "version", Some(b'V'), OptionValue::None,
        "print the version"),
    row(Key::Help, "help", Some(b'h'), OptionValue::None,
        "print this"),
];

/// The options without their help, which is packed.
pub(super) static ROWS: [OptionRow; OPTIONS.len()] = {
    let mut rows = [OPTIONS[0].0; OPTIONS.len()];
    let mut at = 0;
    while at < OPTIONS.len() {
        rows[at] = OPTIONS[at].0;
        // No long name is the start of another, so that a whole name is never ambiguous.
        let mut other = 0;
        while other < at {
            assert!(are_distinct(&rows[at], &rows[other]) && are_distinct(&rows[other], &rows[at]));
            other += 1;
        }
        at += 1;
    }
    rows
};

const HELP_TEXTS: [&str; OPTIONS.len()] = {
    let mut texts = [""; OPTIONS.len()];
    let mut at = 0;
    while at < OPTIONS.len() {
        texts[at] = OPTIONS[at].1;
        at += 1;
    }
    texts
};

/// The help, a line for each row.
static HELP: Pack = pack!(&HELP_TEXTS);

/// Whether the letters differ, and the first long name is not the start of the second.
const fn are_distinct(one: &OptionRow, other: &OptionRow) -> bool {
    if let (Some(one), Some(other)) = (one.short, other.short)
        && one == other
    {
        return false;
    }
    let (one, other) = (one.long.as_bytes(), other.long.as_bytes());
    let mut at = 0;
    while at < one.len() {
        if at == other.len() || one[at] != other[at] {
            return true;
        }
        at += 1;
    }
    false
}

/// The name of `block-rpcs` until QEMU 9.0.
pub(super) const OLD_NAME: &str = "blacklist";

/// The pid file of a daemon, if no option names another.
pub(super) const PID_FILE: &[u8] = b"/run/qemu-ga.pid";

/// The main hook of qemu-ga, if no path is given.
pub(super) const DEFAULT_HOOK: &[u8] = b"/etc/qemu/fsfreeze-hook";

/// What takes back an option without a value.
pub(super) const FALSE: &[u8] = b"false";

const USAGE: &[u8] = b"\
Usage: gaunt [OPTION]...
QEMU guest agent for guests that have nothing else in them.
";

/// Writes the help, in pieces, until `write` returns false; returns whether all was written.
pub(super) fn write_help(write: &mut dyn FnMut(&[&[u8]]) -> bool) -> bool {
    write(&[USAGE])
        && ROWS.iter().zip(0..).all(|(row, line)| {
            let help = Text::new(&HELP, line).unpack();
            help.is_empty() || row.write_help(&help, write)
        })
}

/// Whether a command of another version may have this name. What has other bytes, such as a blank, is a
/// mistake: as part of a block list it would block nothing.
fn may_be_command(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl OptionRow {
    /// Its key in the configuration file.
    pub(super) fn key_in_file(&self) -> &'static [u8] {
        match self.key {
            Key::Daemonize => b"daemon",
            _ => self.long.as_bytes(),
        }
    }

    fn write_help(&self, help: &[u8], write: &mut dyn FnMut(&[&[u8]]) -> bool) -> bool {
        let short = match self.short {
            Some(letter) => [b'-', letter, b',', b' '],
            None => [b' '; 4],
        };
        let value: &[u8] = match self.value {
            OptionValue::None => b"",
            OptionValue::Required => b"=VALUE",
            OptionValue::Optional => b"[=VALUE]",
        };
        let long = self.long.as_bytes();
        write(&[
            b"\n  ",
            &short,
            b"--",
            long,
            value,
            b"\n        ",
            help,
            b"\n",
        ])
    }
}

/// How the findings of a check are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckFormat {
    /// A line each.
    Text,
    /// One JSON object.
    Json,
}

/// Why there is nothing to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// An option makes no sense.
    Wrong(OptionError),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
    /// Print the settings.
    Settings,
    /// Print what works.
    Check(CheckFormat),
    /// Print the names of all commands.
    Commands,
}

/// The names in a list, some of which may be empty.
pub(super) fn names(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let names = list.split(|byte| matches!(byte, b',' | b';'));
    names.map(|name| name.trim_ascii())
}

impl Stop {
    pub(super) fn wrong(what: AgentPhrase, about: &'static [u8]) -> Self {
        Self::Wrong(OptionError { what, about })
    }
}

/// The settings.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) channels: ChannelOptions,
    /// Whether a listener that cannot be opened is tried again.
    pub(super) retries: bool,
    /// The CID that may connect over vsock besides the host's.
    pub(super) vsock_peer: u32,
    pub(super) state_directory: &'static [u8],
    pub(super) verbose: bool,
    pub(super) freeze_timeout_s: u32,
    /// Whether a freeze that is too late aborts FUSE connections.
    pub(super) aborts_fuse: bool,
    pub(super) hooks: Settings,
    pub(super) filter: Filter,
    /// Whether a list of the command line was empty, which PID 1 takes for one that was lost.
    pub(super) has_empty_list: bool,
    /// The configuration file; `None` unless set.
    pub(super) config: Option<&'static [u8]>,
    /// What to print instead of serving: the settings or a check. The last of the two options counts.
    pub(super) prints: Option<Stop>,
    /// The last value of each option, by its key.
    texts: [Option<&'static [u8]>; ROWS.len()],
    /// All lists that are not empty.
    lists: heapless::Vec<(CommandList, &'static [u8]), LISTS>,
    /// What was not understood, for an agent that must serve all the same.
    errors: heapless::Vec<OptionError, LOGGED_OPTION_ERRORS>,
    /// Names in lists that no command has.
    unknown_names: heapless::Vec<&'static [u8], LOGGED_UNKNOWN_NAMES>,
}

impl Options {
    /// The defaults.
    // Not inlined, to keep one copy of the code.
    #[inline(never)]
    pub(super) fn new() -> Self {
        Self {
            channels: ChannelOptions::new(),
            retries: false,
            vsock_peer: vsock::HOST,
            state_directory: b"/run",
            verbose: false,
            freeze_timeout_s: FREEZE_TIMEOUT_S,
            aborts_fuse: false,
            hooks: Settings::none(),
            filter: Filter::default(),
            has_empty_list: false,
            config: None,
            prints: None,
            texts: [None; ROWS.len()],
            lists: heapless::Vec::new(),
            errors: heapless::Vec::new(),
            unknown_names: heapless::Vec::new(),
        }
    }

    /// Gives an option its value; one that was given none takes an empty one. `false` takes back what
    /// an option without a value says.
    pub(super) fn set(&mut self, key: Key, value: &'static [u8]) -> Result<(), Stop> {
        let wrong = |what| Err(Stop::wrong(what, value));
        self.texts[key as usize] = Some(value);
        match key {
            Key::BlockRpcs => self.add_list(CommandList::Blocked, value)?,
            Key::AllowRpcs => self.add_list(CommandList::Allowed, value)?,
            // Settings files of distributions leave these empty.
            Key::Method | Key::Path if value.is_empty() => {}
            Key::Method => self.set_channel(value)?,
            Key::Path => self.channels.set_path(value),
            Key::Channels => {
                self.channels.clear();
                let channels = value
                    .split(|byte| *byte == b';')
                    .map(<[u8]>::trim_ascii_start);
                for channel in channels.filter(|channel| !channel.is_empty()) {
                    self.set_channel(channel)?;
                    self.channels.end_channel();
                }
                self.channels.end_source();
            }
            Key::StateDirectory => self.state_directory = value,
            Key::FreezeTimeout => match text::parse_u32(value) {
                Some(limit_s) => self.freeze_timeout_s = limit_s,
                None => return wrong(AgentPhrase::NotSeconds),
            },
            Key::AbortFuse => self.aborts_fuse = value != FALSE,
            Key::FreezeHook => {
                // An empty value is the default, as distributions' settings have it, and /dev/null
                // is none, as Red Hat's have it. The path of qemu-ga's default is what
                // `--dump-conf` prints for the default.
                self.hooks.main = match value {
                    b"" | DEFAULT_HOOK => Main::Default,
                    b"/dev/null" => Main::None,
                    [b'/', ..] => Main::At(value),
                    _ => return wrong(AgentPhrase::NotAbsolute),
                }
            }
            Key::HookTimeout => match text::parse_u32(value) {
                Some(0) => return wrong(AgentPhrase::NoTimeLimit),
                Some(limit_s) => self.hooks.timeout_s = limit_s,
                None => return wrong(AgentPhrase::NotSeconds),
            },
            Key::HookFailures => {
                self.hooks.ignore_failures = match value {
                    b"stop" => false,
                    b"ignore" => true,
                    _ => return wrong(AgentPhrase::NeitherStopNorIgnore),
                }
            }
            Key::AuthorizedKeys => {
                let any_user = keys_path::expand(value, b"user", Some(b""), &mut Discard);
                if any_user.is_none() {
                    return wrong(AgentPhrase::NotKeysPath);
                }
            }
            Key::Verbose => self.verbose = value != FALSE,
            Key::Config => self.config = Some(value),
            Key::RetryPath => self.retries = value != FALSE,
            Key::VsockPeer => match text::parse_u32(value) {
                Some(cid) => self.vsock_peer = cid,
                None => return wrong(AgentPhrase::NotCid),
            },
            Key::PidFile | Key::Daemonize | Key::LogFile => {}
            Key::DumpConf => self.prints = Some(Stop::Settings),
            Key::Check => {
                let format = match value {
                    b"" => CheckFormat::Text,
                    b"json" => CheckFormat::Json,
                    _ => return wrong(AgentPhrase::NeitherTextNorJson),
                };
                self.prints = Some(Stop::Check(format));
            }
            Key::Help => return Err(Stop::Help),
            Key::Version => return Err(Stop::Version),
        }
        Ok(())
    }

    /// Takes a method, which may have its path behind a colon.
    fn set_channel(&mut self, value: &'static [u8]) -> Result<(), Stop> {
        let mut path = value;
        let name = text::cut(&mut path, b':');
        let what = match Method::of(name) {
            Some(method) if self.channels.set_method(method) => {
                if !path.is_empty() {
                    self.channels.set_path(path);
                }
                return Ok(());
            }
            Some(_) => AgentPhrase::TooManyChannels,
            None => AgentPhrase::NotMethod,
        };
        self.channels.refuse_method();
        Err(Stop::wrong(what, value))
    }

    /// Adds the commands of a list to the filter.
    fn add_list(&mut self, list: CommandList, value: &'static [u8]) -> Result<(), Stop> {
        if value.is_empty() {
            return Ok(());
        }
        let kept = self.lists.push((list, value));
        kept.map_err(|_| Stop::wrong(AgentPhrase::TooManyLists, value))?;
        for name in names(value) {
            let named = |name| commands::all().position(|command| command.name() == name);
            let index = name.strip_prefix(commands::PREFIX).and_then(named);
            let set = commands::set_named(name).or(index.map(bit));
            if set.is_none() && !may_be_command(name) {
                return Err(Stop::wrong(AgentPhrase::NotCommand, name));
            }
            // Without a known name a list allows nothing.
            self.filter.add(list, set.unwrap_or(0));
            if set.is_none() && !name.is_empty() && !self.unknown_names.contains(&name) {
                // Past the first few a list is for another program.
                let _ = self.unknown_names.push(name);
            }
        }
        Ok(())
    }

    /// The last value of an option.
    pub(super) fn text(&self, key: Key) -> Option<&'static [u8]> {
        self.texts[key as usize]
    }

    /// The path of the pid file, if the agent is to be a daemon: PID 1 never is.
    pub(super) fn pid_file(&self) -> Option<&'static [u8]> {
        let asked = self.text(Key::Daemonize);
        let daemonizes = asked.is_some_and(|value| value != FALSE) && process::own_pid() != 1;
        daemonizes.then(|| self.text(Key::PidFile).unwrap_or(PID_FILE))
    }

    /// All lists that are not empty.
    pub(super) fn lists(&self) -> &[(CommandList, &'static [u8])] {
        &self.lists
    }

    /// Checks what only all sources together show.
    pub(super) fn settle(&mut self, is_init: bool) {
        self.channels.end_source();
        if let Some(OptionError { what, about }) = self.channels.replace_wrong() {
            self.fail_closed(what, about);
        }
        if is_init && self.has_empty_list {
            self.fail_closed(AgentPhrase::NoValue, b"--block-rpcs or --allow-rpcs");
        }
    }

    /// Notes what was not understood: from now on only commands that change nothing are allowed.
    pub(super) fn fail_closed(&mut self, what: AgentPhrase, about: &'static [u8]) {
        self.filter.restrict(commands::FAIL_CLOSED);
        // The first few are enough to find the others.
        let _ = self.errors.push(OptionError { what, about });
    }

    /// Whether something was not understood.
    pub(super) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Logs what was not understood; `stays` is whether the agent serves all the same.
    pub(super) fn report(&self, stays: bool, log: &mut Log) {
        for OptionError { what, about } in &self.errors {
            let text = Text::from(*what).unpack();
            let (phrase, pieces): (AgentPhrase, &[&[u8]]) = match stays {
                true => (AgentPhrase::FailsClosed, &[&text, about]),
                false => (*what, &[about]),
            };
            log.say(Level::Error, phrase, pieces);
        }
        for name in &self.unknown_names {
            log.say(Level::Error, AgentPhrase::NoSuchCommand, &[name]);
        }
    }

    #[cfg(test)]
    pub(super) fn errors(&self) -> &[OptionError] {
        &self.errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::port::DEFAULT_PORT;

    #[test]
    fn what_cannot_be_a_name_in_a_list_is_an_error() {
        for list in [
            "guest-exec guest-file-open",
            "guest-ping,guest-exec:guest-file-open",
            "@exec",
            "@lifecycle,@",
            "guest-ex\u{e9}c",
        ] {
            for key in [Key::BlockRpcs, Key::AllowRpcs] {
                let set = Options::new().set(key, list.as_bytes());
                let Err(Stop::Wrong(error)) = set else {
                    panic!("{list}: {set:?}");
                };
                assert_eq!(error.what, AgentPhrase::NotCommand, "{list}");
            }
        }
        let mut options = Options::new();
        let list = b"guest-of-the-future,guest_x,Guest-Exec, @info ;guest-exec";
        options.set(Key::BlockRpcs, list).unwrap();
        assert_eq!(options.unknown_names.len(), 3);
    }

    #[test]
    fn the_help_has_every_option_but_the_old_name() {
        let mut help = Vec::new();
        let mut write = |pieces: &[&[u8]]| {
            pieces
                .iter()
                .for_each(|piece| help.extend_from_slice(piece));
            true
        };
        assert!(write_help(&mut write));
        let help = String::from_utf8(help).unwrap();
        assert!(
            help.contains("\n  -p, --path=VALUE\n        device"),
            "{help}"
        );
        assert!(help.contains("\n      --hook-timeout=VALUE\n"), "{help}");
        assert!(help.contains("\n  -F, --fsfreeze-hook[=VALUE]\n"), "{help}");
        assert!(
            help.ends_with("\n  -h, --help\n        print this\n"),
            "{help}"
        );
        let shown = ROWS
            .iter()
            .filter(|row| help.contains(&format!("--{}", row.long)));
        assert_eq!(shown.count(), ROWS.len() - 1);
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
    }

    #[test]
    fn the_manual_page_describes_every_option() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/image/package/gaunt.8");
        let page = std::fs::read_to_string(page).unwrap();
        let (_, section) = page.split_once("\n.Ss Options\n").unwrap();
        let (section, _) = section.split_once("\n.Ss ").unwrap();
        let titles = section.lines().filter(|line| line.starts_with(".It "));
        let described: Vec<_> = titles.flat_map(str::split_whitespace).collect();
        for (row, _) in OPTIONS.iter().filter(|(_, help)| !help.is_empty()) {
            // mdoc(7) writes the first dash itself.
            let mut names = vec![format!("-{}", row.long)];
            names.extend(row.short.map(|letter| char::from(letter).to_string()));
            for name in names {
                assert!(described.contains(&&*name), "-{name}");
            }
        }
    }

    #[test]
    fn help_ends_where_it_cannot_be_written() {
        let mut written = 0;
        assert!(!write_help(&mut |_| {
            written += 1;
            written < 3
        }));
        assert_eq!(written, 3);
    }

    #[test]
    fn the_last_value_counts() {
        let mut options = Options::new();
        let path = |options: &Options| options.channels.list()[0].path();
        assert_eq!(path(&options), Some(DEFAULT_PORT));
        for value in [&b"/a"[..], b"/b"] {
            options.set(Key::Path, value).unwrap();
        }
        assert_eq!(path(&options), Some(&b"/b"[..]));
    }

    #[test]
    fn unknown_names_in_lists_are_kept_once() {
        let mut options = Options::new();
        let lists = [
            (Key::BlockRpcs, &b"guest-x,guest-ping,,guest-y"[..]),
            (Key::AllowRpcs, b"guest-x, guest-z"),
        ];
        for (key, value) in lists {
            options.set(key, value).unwrap();
        }
        let expected: [&[u8]; 3] = [b"guest-x", b"guest-y", b"guest-z"];
        assert_eq!(options.unknown_names, expected);
    }
}
