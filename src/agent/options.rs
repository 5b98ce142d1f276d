//! The options: how each is spelled, what it does, and the settings they make.
//!
//! There is one row for each option. Every source of settings (`agent::settings` lists them) calls
//! [`Options::take`], which sets one and notes what is wrong with its value. The last value of an option
//! wins, but lists of commands add up.
//!
//! Commas or semicolons separate the names of a list, which are of commands or of sets of them, such as
//! `@info`. Names that no command has are ignored, as with qemu-ga: lists are written for agents of
//! several versions. What no command can have for a name is an error. An empty list is no list; an allow
//! list without a known name, such as `,`, allows nothing.
//!
//! To add an option: a row, its line of the help in `agent::texts`, a case in [`Options::set`], and a
//! paragraph in the manual page. The long name is its key in the configuration file as well.
//!
//! Differences from qemu-ga: `blacklist`, the name of `block-rpcs` until QEMU 9.0, is read still; in
//! lists semicolons separate names too, and blanks around a name do not count; bytes that no name has
//! are an error; the log lists names that no command has; an empty method or path is the default; a
//! method may have its path behind a colon.

use super::channel_options::{ChannelOptions, OptionError};
use super::texts::AgentPhrase;
use crate::base::limits::{FREEZE_TIMEOUT_S, LISTS, LOGGED_OPTION_ERRORS, LOGGED_UNKNOWN_NAMES};
use crate::base::packed::Text;
use crate::base::sink::{ByteSink, Discard, Full, append_all};
use crate::base::text;
use crate::commands;
use crate::parse::{keys_path, until_nul, word_index};
use crate::state::filter::{Filter, bit};
use crate::state::hooks::{Main, Settings};
use crate::state::log::{Level, Log};
use crate::sys::{process, vsock};
use crate::wire::json::Str;

use OptionValue::{Flag, Optional, Required};

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
    /// Whether the option is a setting, and asks for no printout.
    pub(super) fn is_setting(self) -> bool {
        !matches!(
            self,
            Self::DumpConf | Self::Check | Self::Version | Self::Help
        )
    }
}

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OptionValue {
    /// No value on the command line, which sets it to [`TRUE`]; a truth value elsewhere.
    Flag,
    /// A value: attached, or the next argument.
    Required,
    /// An attached value or none, which is an empty one: the next argument is not part of the option.
    Optional,
}

/// The length of the longest name.
const NAME_BYTES: usize = 15;

/// One option.
#[derive(Clone, Copy)]
pub(super) struct OptionRow {
    pub(super) key: Key,
    /// The long name, padded with NULs: shorter than a reference with its text.
    name: [u8; NAME_BYTES],
    pub(super) short: Option<u8>,
    pub(super) value: OptionValue,
    /// Its line of the help. `None`: an old name, which the help leaves out.
    pub(super) help: Option<AgentPhrase>,
}

const fn row(
    key: Key,
    long: &[u8],
    short: Option<u8>,
    value: OptionValue,
    help: AgentPhrase,
) -> OptionRow {
    let mut name = [0; NAME_BYTES];
    name.split_at_mut(long.len()).0.copy_from_slice(long);
    OptionRow {
        key,
        name,
        short,
        value,
        help: Some(help),
    }
}

/// All options, in the order of the help.
#[rustfmt::skip]
pub(super) static ROWS: [OptionRow; 24] = [
    row(Key::Config, b"config", Some(b'c'), Required, AgentPhrase::HelpConfig),
    row(Key::Method, b"method", Some(b'm'), Required, AgentPhrase::HelpMethod),
    row(Key::Path, b"path", Some(b'p'), Required, AgentPhrase::HelpPath),
    row(Key::Channels, b"channels", None, Required, AgentPhrase::HelpChannels),
    row(Key::StateDirectory, b"statedir", Some(b't'), Required, AgentPhrase::HelpStateDirectory),
    row(Key::BlockRpcs, b"block-rpcs", Some(b'b'), Required, AgentPhrase::HelpBlockRpcs),
    // Its name until QEMU 9.0.
    OptionRow { help: None, ..row(Key::BlockRpcs, b"blacklist", None, Required, AgentPhrase::HelpBlockRpcs) },
    row(Key::AllowRpcs, b"allow-rpcs", Some(b'a'), Required, AgentPhrase::HelpAllowRpcs),
    row(Key::FreezeTimeout, b"freeze-timeout", None, Required, AgentPhrase::HelpFreezeTimeout),
    row(Key::AbortFuse, b"abort-fuse", None, Flag, AgentPhrase::HelpAbortFuse),
    row(Key::FreezeHook, b"fsfreeze-hook", Some(b'F'), Optional, AgentPhrase::HelpFreezeHook),
    row(Key::HookTimeout, b"hook-timeout", None, Required, AgentPhrase::HelpHookTimeout),
    row(Key::HookFailures, b"hook-failures", None, Required, AgentPhrase::HelpHookFailures),
    row(Key::AuthorizedKeys, b"authorized-keys", None, Required, AgentPhrase::HelpAuthorizedKeys),
    row(Key::Verbose, b"verbose", Some(b'v'), Flag, AgentPhrase::HelpVerbose),
    row(Key::PidFile, b"pidfile", Some(b'f'), Required, AgentPhrase::HelpPidFile),
    row(Key::RetryPath, b"retry-path", Some(b'r'), Flag, AgentPhrase::HelpRetryPath),
    row(Key::VsockPeer, b"vsock-peer", None, Required, AgentPhrase::HelpVsockPeer),
    row(Key::Daemonize, b"daemonize", Some(b'd'), Flag, AgentPhrase::HelpDaemonize),
    row(Key::LogFile, b"logfile", Some(b'l'), Required, AgentPhrase::HelpLogFile),
    row(Key::DumpConf, b"dump-conf", Some(b'D'), Flag, AgentPhrase::HelpDumpConf),
    row(Key::Check, b"check", None, Optional, AgentPhrase::HelpCheck),
    row(Key::Version, b"version", Some(b'V'), Flag, AgentPhrase::HelpVersion),
    row(Key::Help, b"help", Some(b'h'), Flag, AgentPhrase::HelpHelp),
];

/// The pid file of a daemon, if no option names another.
pub(super) const PID_FILE: &[u8] = b"/run/qemu-ga.pid";

/// The main hook of qemu-ga, if no path is given.
pub(super) const DEFAULT_HOOK: &[u8] = b"/etc/qemu/fsfreeze-hook";

/// The values of a flag.
pub(super) const TRUE: &[u8] = b"true";
pub(super) const FALSE: &[u8] = b"false";

const USAGE: &[u8] = b"\
Usage: gaunt [OPTION]...
QEMU guest agent for guests that have nothing else in them.";

/// Appends the help.
pub(super) fn put_help(text: &mut dyn ByteSink) -> Result<(), Full> {
    text.append(USAGE)?;
    for row in &ROWS {
        let Some(help) = row.help else { continue };
        let help = Text::from(help).unpack();
        let mut short = *b"\n\n      --";
        if let Some(letter) = row.short {
            short[4..8].copy_from_slice(&[b'-', letter, b',', b' ']);
        }
        let value: &[u8] = match row.value {
            Flag => b"\n        ",
            Required => b"=VALUE\n        ",
            Optional => b"[=VALUE]\n        ",
        };
        append_all(text, &[&short, row.long(), value, &help])?;
    }
    text.append(b"\n")
}

/// Whether a command of another version may have this name. What has other bytes, such as a blank, is a
/// mistake: as part of a block list it would block nothing.
fn may_be_command(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl OptionRow {
    /// Its long name.
    pub(super) fn long(&self) -> &[u8] {
        until_nul(&self.name)
    }

    /// Its key in the configuration file.
    pub(super) fn key_in_file(&self) -> &[u8] {
        match self.key {
            Key::Daemonize => b"daemon",
            _ => self.long(),
        }
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

/// What to print instead of serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Printout {
    Help,
    Version,
    /// The names of all commands.
    Commands,
    /// The settings.
    Settings,
    /// What works.
    Check(CheckFormat),
}

impl Printout {
    /// Whether it counts whatever follows it.
    fn is_final(self) -> bool {
        !matches!(self, Self::Settings | Self::Check(_))
    }
}

/// The names in a list, some of which may be empty.
pub(super) fn names(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let names = list.split(|byte| matches!(byte, b',' | b';'));
    names.map(|name| name.trim_ascii())
}

/// The settings.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) channels: ChannelOptions,
    /// The CID that may connect over vsock besides the host's.
    pub(super) vsock_peer: u32,
    pub(super) state_directory: &'static [u8],
    pub(super) freeze_timeout_s: u32,
    pub(super) hooks: Settings,
    pub(super) filter: Filter,
    /// Whether a list of the command line was empty, which PID 1 takes for one that was lost.
    pub(super) has_empty_list: bool,
    pub(super) printout: Option<Printout>,
    /// The last value of each option, by its key.
    texts: [Option<&'static [u8]>; ROWS.len()],
    /// All lists that are not empty, with their keys.
    lists: heapless::Vec<(Key, &'static [u8]), LISTS>,
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
            vsock_peer: vsock::HOST,
            state_directory: b"/run",
            freeze_timeout_s: FREEZE_TIMEOUT_S,
            hooks: Settings::none(),
            filter: Filter::default(),
            has_empty_list: false,
            printout: None,
            texts: [None; ROWS.len()],
            lists: heapless::Vec::new(),
            errors: heapless::Vec::new(),
            unknown_names: heapless::Vec::new(),
        }
    }

    /// Sets an option, or notes what is wrong with the value.
    pub(super) fn take(&mut self, key: Key, value: &'static [u8]) {
        if let Err(what) = self.set(key, value) {
            self.fail_closed(what, value);
        }
    }

    /// Sets an option. Returns what is wrong with the value; notes what is wrong with a part of it.
    pub(super) fn set(&mut self, key: Key, value: &'static [u8]) -> Result<(), AgentPhrase> {
        let number = |otherwise| text::parse_u32(value).ok_or(otherwise);
        self.texts[key as usize] = Some(value);
        match key {
            Key::BlockRpcs | Key::AllowRpcs => self.add_list(key, value)?,
            // Settings files of distributions leave these empty.
            Key::Method | Key::Path if value.is_empty() => {}
            Key::Method => self.channels.take(value)?,
            Key::Path => self.channels.set_path(value),
            Key::Channels => {
                if let Err(OptionError { what, about }) = self.channels.take_all(value) {
                    self.fail_closed(what, about);
                }
            }
            Key::StateDirectory => self.state_directory = value,
            Key::FreezeTimeout => self.freeze_timeout_s = number(AgentPhrase::NotSeconds)?,
            Key::FreezeHook => {
                // An empty value is the default, as distributions' settings have it, and /dev/null
                // is none, as Red Hat's have it. The path of qemu-ga's default is what
                // `--dump-conf` prints for the default.
                self.hooks.main = if value.is_empty() || value == DEFAULT_HOOK {
                    Main::Default
                } else if value == b"/dev/null" {
                    Main::None
                } else if value.starts_with(b"/") {
                    Main::At(value)
                } else {
                    return Err(AgentPhrase::NotAbsolute);
                }
            }
            Key::HookTimeout => {
                self.hooks.timeout_s = match number(AgentPhrase::NotSeconds)? {
                    0 => return Err(AgentPhrase::NoTimeLimit),
                    limit_s => limit_s,
                }
            }
            Key::HookFailures => {
                let index = word_index(b"stop ignore", value);
                self.hooks.ignore_failures = index.ok_or(AgentPhrase::NeitherStopNorIgnore)? == 1;
            }
            Key::AuthorizedKeys => {
                let any_user = keys_path::expand(value, b"user", Some(b""), &mut Discard);
                any_user.ok_or(AgentPhrase::NotKeysPath)?;
            }
            Key::VsockPeer => self.vsock_peer = number(AgentPhrase::NotCid)?,
            Key::Config
            | Key::AbortFuse
            | Key::Verbose
            | Key::PidFile
            | Key::RetryPath
            | Key::Daemonize
            | Key::LogFile => {}
            Key::DumpConf => self.ask(Printout::Settings),
            Key::Check => self.ask(Printout::Check(match value {
                b"" => CheckFormat::Text,
                b"json" => CheckFormat::Json,
                _ => return Err(AgentPhrase::NeitherTextNorJson),
            })),
            Key::Version => self.ask(Printout::Version),
            Key::Help => self.ask(Printout::Help),
        }
        Ok(())
    }

    /// Asks for a printout. The first help, version or list of commands counts, unless an error precedes
    /// it; otherwise the last of settings and check.
    // Not inlined, to keep one copy of the code.
    #[inline(never)]
    pub(super) fn ask(&mut self, printout: Printout) {
        let is_settled = self.printout.is_some_and(Printout::is_final);
        if !(is_settled || printout.is_final() && self.has_errors()) {
            self.printout = Some(printout);
        }
    }

    /// Adds the commands of a list to the filter.
    fn add_list(&mut self, key: Key, value: &'static [u8]) -> Result<(), AgentPhrase> {
        if value.is_empty() {
            return Ok(());
        }
        let kept = self.lists.push((key, value));
        kept.map_err(|_| AgentPhrase::TooManyLists)?;
        for name in names(value) {
            let set = commands::set_named(name);
            if set.is_none() && !may_be_command(name) {
                self.fail_closed(AgentPhrase::NotCommand, name);
                break;
            }
            let command = || commands::find(Str::ascii(name));
            let set = set.or_else(|| command().map(|(index, _)| bit(index)));
            match key {
                Key::BlockRpcs => self.filter.block(set.unwrap_or(0)),
                // Without a known name a list allows nothing.
                _ => self.filter.allow(set.unwrap_or(0)),
            }
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

    /// Whether a flag is set.
    pub(super) fn is_on(&self, key: Key) -> bool {
        self.text(key).is_some_and(|value| value != FALSE)
    }

    /// The path of the pid file, if the agent is to be a daemon: PID 1 never is.
    pub(super) fn pid_file(&self) -> Option<&'static [u8]> {
        let daemonizes = self.is_on(Key::Daemonize) && process::own_pid() != 1;
        daemonizes.then(|| self.text(Key::PidFile).unwrap_or(PID_FILE))
    }

    /// All lists that are not empty, with their keys.
    pub(super) fn lists(&self) -> &[(Key, &'static [u8])] {
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
    // Not inlined, to keep one copy of the code.
    #[inline(never)]
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

    /// What was not understood.
    pub(super) fn errors(&self) -> &[OptionError] {
        &self.errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::port::DEFAULT_PORT;
    use crate::base::sink::testing::Heap;

    fn name(row: &OptionRow) -> &str {
        str::from_utf8(row.long()).unwrap()
    }

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
                let mut options = Options::new();
                options.take(key, list.as_bytes());
                let [error] = options.errors() else {
                    panic!("{list}: {options:?}");
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
        let mut help = Heap::default();
        put_help(&mut help).unwrap();
        let help = String::from_utf8(help.0).unwrap();
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
            .filter(|row| help.contains(&format!("--{}", name(row))));
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
        for row in ROWS.iter().filter(|row| row.help.is_some()) {
            // mdoc(7) writes the first dash itself.
            let mut names = vec![format!("-{}", name(row))];
            names.extend(row.short.map(|letter| char::from(letter).to_string()));
            for name in names {
                assert!(described.contains(&&*name), "-{name}");
            }
        }
    }

    #[test]
    fn help_without_room_is_an_error() {
        assert_eq!(put_help(&mut heapless::Vec::<u8, 300>::new()), Err(Full));
    }

    #[test]
    fn whole_names_are_never_ambiguous() {
        for (at, one) in ROWS.iter().enumerate() {
            for (_, other) in ROWS.iter().enumerate().filter(|(other, _)| *other != at) {
                assert!(!one.long().starts_with(other.long()), "{}", name(one));
                assert!(one.short.is_none() || one.short != other.short);
            }
        }
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
