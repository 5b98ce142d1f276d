//! The command line, as far as it is there: qemu-ga's spellings, getopt_long's rules.
//!
//! Short options bundle (`-vp x`), long ones may be shortened while unambiguous and take their value
//! behind `=` or as the next argument; operands are ignored (the kernel hands PID 1 words of its
//! command line that it does not know), but not the name of a command: that is a list torn apart by a
//! blank. A list that begins with a dash is an option whose value was left out. Options of qemu-ga that are not here yet are errors.
//!
//! PID 1 has nobody who could ask it for help and must not end: it serves whatever it is told, reads
//! on after an error, and then fails closed: only what tells something stays allowed
//! ([`commands::FAIL_CLOSED`]). It reads the kernel's own words too: the kernel puts a word such as
//! `--block-rpcs=guest-exec`, unless it stands behind `--`, into the environment of its init. Of
//! those that share a name it keeps the last alone, so [`Options::check_kernel_words`] counts.
//!
//! As with qemu-ga, a path belongs to `-F` only if it is attached: `-F x` takes the default, and `x` is
//! an operand.
//!
//! Differences from qemu-ga: `--blacklist`, its name until 9.0, is read as `--block-rpcs`; a short
//! option takes `-b=x` as `-b x`; blanks around the names of a list do not count; names that no
//! command has are named in the log.

use crate::agent::channel::DEFAULT_PORT;
use crate::base::limits::{FREEZE_TIMEOUT_S, LOGGED_OPTION_ERRORS, LOGGED_UNKNOWN_NAMES};
use crate::base::text;
use crate::base::texts::{Phrase, phrase};
use crate::commands;
use crate::parse::{self, cmdline};
use crate::state::filter::{Filter, List};
use crate::state::hooks::{Main, Settings};
use crate::state::log::{Level, Log};
use crate::sys::root::Root;

/// Where clients come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// A virtio port.
    VirtioSerial,
    /// Connections to a unix socket.
    UnixListen,
}

/// What the command line asks for.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) method: Method,
    pub(super) path: &'static [u8],
    pub(super) state_directory: &'static [u8],
    /// Whether `path` was given.
    has_path: bool,
    pub(super) verbose: bool,
    pub(super) freeze_timeout_s: u32,
    pub(super) hooks: Settings,
    pub(super) filter: Filter,
    /// Whether a list was empty, which PID 1 takes for one that was lost.
    has_empty_list: bool,
    /// What was not understood and yet must not end the agent, and the word.
    complaints: heapless::Vec<(Phrase, &'static [u8]), LOGGED_OPTION_ERRORS>,
    /// Names in lists that no command has.
    unknown_names: heapless::Vec<&'static [u8], LOGGED_UNKNOWN_NAMES>,
    /// The last word that was read.
    about: &'static [u8],
}

/// Why there is nothing to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The command line makes no sense.
    Wrong(Phrase),
    /// How to use it is to be printed.
    Help,
    /// The version is to be printed.
    Version,
    /// The names of all commands are to be printed.
    Commands,
}

/// What an option is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Block,
    Allow,
    Method,
    Path,
    StateDirectory,
    FreezeTimeout,
    Hook,
    HookTimeout,
    HookFailures,
    Verbose,
    Help,
    Version,
}

/// The long names of all options. None is the beginning of another.
const NAMES: &[u8] = b"block-rpcs blacklist allow-rpcs method path statedir freeze-timeout \
    fsfreeze-hook hook-timeout hook-failures verbose help version";
/// Their letters (0 for none) and what they are for, in the same order.
static OPTIONS: [(u8, Meaning); 13] = [
    (b'b', Meaning::Block),
    (0, Meaning::Block),
    (b'a', Meaning::Allow),
    (b'm', Meaning::Method),
    (b'p', Meaning::Path),
    (b't', Meaning::StateDirectory),
    (0, Meaning::FreezeTimeout),
    (b'F', Meaning::Hook),
    (0, Meaning::HookTimeout),
    (0, Meaning::HookFailures),
    (b'v', Meaning::Verbose),
    (b'h', Meaning::Help),
    (b'V', Meaning::Version),
];

/// Whether an option has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// None.
    Nothing,
    /// One that is attached to it or the next argument.
    Value,
    /// One that is attached to it, or none.
    Attached,
}

impl Meaning {
    fn takes(self) -> Takes {
        match self {
            Self::Verbose | Self::Help | Self::Version => Takes::Nothing,
            Self::Hook => Takes::Attached,
            _ => Takes::Value,
        }
    }
}

impl Options {
    /// What no option changes.
    pub(super) fn new() -> Self {
        Self {
            method: Method::VirtioSerial,
            path: DEFAULT_PORT,
            has_path: false,
            state_directory: b"/run",
            verbose: false,
            freeze_timeout_s: FREEZE_TIMEOUT_S,
            hooks: Settings::none(),
            filter: Filter::default(),
            has_empty_list: false,
            complaints: heapless::Vec::new(),
            unknown_names: heapless::Vec::new(),
            about: b"",
        }
    }

    /// Reads the command line, as a program does that ends if it makes no sense. The error comes with
    /// the word it is about.
    pub(super) fn read(
        &mut self,
        args: impl Iterator<Item = &'static [u8]>,
    ) -> Result<(), (Stop, &'static [u8])> {
        let mut args = args;
        self.read_on(&mut args).map_err(|stop| (stop, self.about))?;
        match self.lacks_path() {
            true => Err((Stop::Wrong(Phrase::NoPath), b"")),
            false => Ok(()),
        }
    }

    /// Reads the command line and the environment of PID 1.
    pub(super) fn read_as_init(
        &mut self,
        args: impl Iterator<Item = &'static [u8]>,
        environment: impl Iterator<Item = &'static [u8]>,
    ) {
        // Each is an option with its value, whatever follows it.
        for entry in environment.filter(|entry| entry.starts_with(b"-")) {
            self.read_all(&mut core::iter::once(entry));
        }
        // The kernel has taken its own `--` off: what stands behind another is meant as well.
        self.read_all(&mut args.filter(|arg| *arg != b"--"));
        if self.lacks_path() {
            self.method = Method::VirtioSerial;
            self.about = b"";
            self.complain(Phrase::NoPath);
        }
        if self.has_empty_list {
            self.about = b"--block-rpcs or --allow-rpcs";
            self.complain(Phrase::NoValue);
        }
    }

    /// Checks that every option among the kernel's own words was handed on to this process. The
    /// kernel keeps one word of each name: of two block lists the first is lost.
    pub(super) fn check_kernel_words(
        &mut self,
        root: &Root,
        environment: impl Iterator<Item = &'static [u8]> + Clone,
    ) {
        let mut lost = false;
        // Without /proc nothing can be checked.
        let _ = root.lines_at(&[b"proc/cmdline"], &mut |line| {
            let mut words = cmdline::environment_words(line);
            lost |= words.any(|word| {
                word.starts_with(b"-")
                    && !environment
                        .clone()
                        .any(|entry| cmdline::is_same(word, entry))
            });
            !lost
        });
        if lost {
            self.about = b"";
            self.complain(Phrase::OptionDropped);
        }
    }

    /// Writes into the log what was not understood.
    pub(super) fn report(&self, log: &mut Log) {
        for (what, about) in &self.complaints {
            log.say(Level::Error, Phrase::FailsClosed, &[&phrase(*what), about]);
        }
        for name in &self.unknown_names {
            log.say(Level::Error, Phrase::NoSuchCommand, &[name]);
        }
    }

    /// Reads all arguments, whatever they are.
    fn read_all(&mut self, args: &mut dyn Iterator<Item = &'static [u8]>) {
        while let Err(stop) = self.read_on(args) {
            // Nobody reads what would be printed instead.
            if let Stop::Wrong(what) = stop {
                self.complain(what);
            }
        }
    }

    fn complain(&mut self, what: Phrase) {
        self.filter.restrict(commands::FAIL_CLOSED);
        // What is said of the first is enough to find the others.
        let _ = self.complaints.push((what, self.about));
    }

    fn lacks_path(&self) -> bool {
        self.method == Method::UnixListen && !self.has_path
    }

    /// Reads arguments until there is an error, which may be read on after.
    fn read_on(&mut self, args: &mut dyn Iterator<Item = &'static [u8]>) -> Result<(), Stop> {
        while let Some(arg) = args.next() {
            self.about = arg;
            match arg {
                // Consumes all arguments, so that reading on stops.
                b"--" => while args.next().is_some() {},
                [b'-', b'-', long @ ..] => self.long(long, args)?,
                [b'-', letters @ ..] => self.short(letters, args)?,
                operand if operand.starts_with(commands::PREFIX) => {
                    return Err(Stop::Wrong(Phrase::StrayCommand));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn long(
        &mut self,
        long: &'static [u8],
        args: &mut dyn Iterator<Item = &'static [u8]>,
    ) -> Result<(), Stop> {
        let mut value = long;
        let name = text::cut(&mut value, b'=');
        let given = (name.len() != long.len()).then_some(value);
        let mut meant = None;
        for (long, (_, meaning)) in parse::words(NAMES).zip(&OPTIONS) {
            if long.starts_with(name) {
                if meant.is_some_and(|meant| meant != *meaning) {
                    return Err(Stop::Wrong(Phrase::AmbiguousOption));
                }
                meant = Some(*meaning);
            }
        }
        let meant = meant.ok_or(Stop::Wrong(Phrase::UnknownOption))?;
        if given.is_some() && meant.takes() == Takes::Nothing {
            return Err(Stop::Wrong(Phrase::TakesNoValue));
        }
        self.apply(meant, given, args)
    }

    fn short(
        &mut self,
        mut letters: &'static [u8],
        args: &mut dyn Iterator<Item = &'static [u8]>,
    ) -> Result<(), Stop> {
        while let Some((letter, rest)) = letters.split_first() {
            self.about = letters;
            let mut known = OPTIONS.iter();
            let known = known.find(|(short, _)| short == letter && *short != 0);
            let (_, meant) = known.ok_or(Stop::Wrong(Phrase::UnknownOption))?;
            letters = rest;
            let mut given = None;
            if meant.takes() != Takes::Nothing {
                letters = b"";
                let value = rest.strip_prefix(b"=").unwrap_or(rest);
                given = (!rest.is_empty()).then_some(value);
            }
            self.apply(*meant, given, args)?;
        }
        Ok(())
    }

    /// Does what an option says; a value that is not given is the next argument.
    fn apply(
        &mut self,
        meant: Meaning,
        given: Option<&'static [u8]>,
        args: &mut dyn Iterator<Item = &'static [u8]>,
    ) -> Result<(), Stop> {
        let mut value = given;
        if meant.takes() == Takes::Value {
            value = Some(
                given
                    .or_else(|| args.next())
                    .ok_or(Stop::Wrong(Phrase::NoValue))?,
            );
        }
        self.about = value.unwrap_or(self.about);
        let value = value.unwrap_or_default();
        match meant {
            Meaning::Block => self.list(List::Blocked, value)?,
            Meaning::Allow => self.list(List::Allowed, value)?,
            Meaning::Method => {
                self.method = match parse::word_index(b"virtio-serial unix-listen", value) {
                    Some(0) => Method::VirtioSerial,
                    Some(_) => Method::UnixListen,
                    None => return Err(Stop::Wrong(Phrase::NotMethod)),
                }
            }
            Meaning::Path => (self.path, self.has_path) = (value, true),
            Meaning::StateDirectory => self.state_directory = value,
            Meaning::FreezeTimeout => {
                self.freeze_timeout_s =
                    text::parse_u32(value).ok_or(Stop::Wrong(Phrase::NotSeconds))?;
            }
            Meaning::Hook => self.hooks.main = main_hook(given.unwrap_or_default())?,
            Meaning::HookTimeout => {
                let limit_s = text::parse_u32(value).ok_or(Stop::Wrong(Phrase::NotSeconds))?;
                if limit_s == 0 {
                    return Err(Stop::Wrong(Phrase::NoTimeLimit));
                }
                self.hooks.timeout_s = limit_s;
            }
            Meaning::HookFailures => {
                let place = parse::word_index(b"stop ignore", value);
                self.hooks.ignore_failures =
                    place.ok_or(Stop::Wrong(Phrase::NeitherStopNorIgnore))? == 1;
            }
            Meaning::Verbose => self.verbose = true,
            Meaning::Help => return Err(Stop::Help),
            Meaning::Version => return Err(Stop::Version),
        }
        Ok(())
    }

    /// Adds the commands of a comma-separated list to the filter. Names that no command has are
    /// otherwise ignored, as qemu-ga does: lists are written for agents of several versions.
    fn list(&mut self, list: List, value: &'static [u8]) -> Result<(), Stop> {
        if parse::word_index(b"help ?", value).is_some() {
            return Err(Stop::Commands);
        }
        // An option in place of a list; no command has such a name.
        if value.starts_with(b"-") {
            return Err(Stop::Wrong(Phrase::NoValue));
        }
        // An empty list is none. One without a name, such as `,`, allows nothing.
        match value {
            [] => self.has_empty_list = true,
            _ => self.filter.add(list, None),
        }
        let mut names = value;
        while !names.is_empty() {
            let name = text::cut(&mut names, b',').trim_ascii();
            let known = |name| commands::all().position(|command| command.name() == name);
            let place = name.strip_prefix(commands::PREFIX).and_then(known);
            self.filter.add(list, place);
            if place.is_none() && !name.is_empty() && !self.unknown_names.contains(&name) {
                // Past the first few a list is for another program.
                let _ = self.unknown_names.push(name);
            }
        }
        Ok(())
    }
}

/// Where the main hook is, by the value of its option. Without a value, or with an empty one, it is
/// where distributions have it; /dev/null says that there is none, as settings files of Red Hat's
/// package have it.
fn main_hook(path: &'static [u8]) -> Result<Main, Stop> {
    match path {
        b"" => Ok(Main::Default),
        b"/dev/null" => Ok(Main::None),
        [b'/', ..] => Ok(Main::At(path)),
        _ => Err(Stop::Wrong(Phrase::NotAbsolute)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    fn words(args: &[&'static str]) -> impl Iterator<Item = &'static [u8]> + Clone {
        let args: Vec<_> = args.iter().map(|arg| arg.as_bytes()).collect();
        args.into_iter()
    }

    fn stop(args: &[&'static str]) -> (Stop, &'static [u8]) {
        Options::new().read(words(args)).unwrap_err()
    }

    fn options(args: &[&'static str]) -> Options {
        let mut options = Options::new();
        options.read(words(args)).unwrap();
        options
    }

    fn of_init(args: &[&'static str], environment: &[&'static str]) -> Options {
        let mut options = Options::new();
        options.read_as_init(words(args), words(environment));
        options
    }

    fn allows(options: &Options, name: &str) -> bool {
        let name = name.as_bytes();
        let place = commands::all().position(|row| row.name() == name);
        options.filter.allows(place.unwrap())
    }

    /// Whether only what changes nothing is allowed.
    fn is_closed(options: &Options) -> bool {
        let closed = !allows(options, "exec");
        assert_eq!(closed, !allows(options, "file-read"));
        assert_eq!(closed, !options.complaints.is_empty());
        closed
    }

    #[test]
    fn options_are_read_as_getopt_long_reads_them() {
        let read = options(&[
            "-vm",
            "unix-listen",
            "word",
            "--pa=/x",
            "--freeze-timeout",
            "0",
        ]);
        assert_eq!(read.method, Method::UnixListen);
        assert_eq!(read.path, b"/x");
        assert!(read.verbose);
        assert_eq!(read.freeze_timeout_s, 0);
        assert_eq!(options(&["-p/y", "--", "-q"]).path, b"/y");
        assert_eq!(options(&["-vp=/z"]).path, b"/z");
        assert_eq!(options(&[]).path, DEFAULT_PORT);
    }

    #[test]
    fn hooks_are_told_as_qemu_ga_is_told() {
        let hooks = |args| options(args).hooks;
        assert_eq!(hooks(&[]).main, Main::None);
        assert_eq!(hooks(&[]).timeout_s, 60);
        for args in [
            &["-F"][..],
            &["-F", "/x"],
            &["-vF"],
            &["--fsfreeze-hook"],
            &["--fsfreeze-hook="],
        ] {
            assert_eq!(hooks(args).main, Main::Default, "{args:?}");
        }
        for args in [
            &["-F/x"][..],
            &["-F=/x"],
            &["--fsfreeze-hook=/x"],
            &["-vF/x", "/y"],
        ] {
            assert_eq!(hooks(args).main, Main::At(b"/x"), "{args:?}");
        }
        assert_eq!(hooks(&["-F/dev/null"]).main, Main::None);
        let told = hooks(&["--hook-timeout=5", "--hook-failures", "ignore"]);
        assert_eq!((told.timeout_s, told.ignore_failures), (5, true));
        assert!(!hooks(&["--hook-failures=stop"]).ignore_failures);
    }

    #[test]
    fn no_long_name_is_the_beginning_of_another() {
        assert_eq!(parse::words(NAMES).count(), OPTIONS.len());
        for name in parse::words(NAMES) {
            let alike = parse::words(NAMES).filter(|other| other.starts_with(name));
            assert_eq!(alike.count(), 1);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        use Phrase::*;
        for (args, what, about) in [
            (&["-q"][..], UnknownOption, "q"),
            (&["--frob"], UnknownOption, "--frob"),
            (&["--config=x"], UnknownOption, "--config=x"),
            (&["--ver"], AmbiguousOption, "--ver"),
            (&["--path"], NoValue, "--path"),
            (&["-b"], NoValue, "b"),
            (&["-b", "-v"], NoValue, "-v"),
            (
                &["-b", "guest-exec,", "guest-ping"],
                StrayCommand,
                "guest-ping",
            ),
            (&["--help=x"], TakesNoValue, "--help=x"),
            (&["-m", "carrier-pigeon"], NotMethod, "carrier-pigeon"),
            (&["--freeze-timeout=soon"], NotSeconds, "soon"),
            (&["--hook-timeout", "0"], NoTimeLimit, "0"),
            (&["--hook-timeout=-1"], NotSeconds, "-1"),
            (&["--hook-failures=maybe"], NeitherStopNorIgnore, "maybe"),
            (&["-Fhook"], NotAbsolute, "hook"),
            (&["--fsfreeze-hook=./hook"], NotAbsolute, "./hook"),
            (&["-m", "unix-listen"], NoPath, ""),
        ] {
            assert_eq!(stop(args), (Stop::Wrong(what), about.as_bytes()));
        }
    }

    #[test]
    fn what_is_met_first_is_done() {
        assert_eq!(stop(&["-V", "-q"]).0, Stop::Version);
        assert_eq!(stop(&["--help"]).0, Stop::Help);
        assert_eq!(stop(&["-b", "?"]).0, Stop::Commands);
        assert_eq!(stop(&["--allow-rpcs=help"]).0, Stop::Commands);
    }

    #[test]
    fn pid_1_serves_whatever_it_is_told_and_fails_closed() {
        let read = of_init(
            &[
                "-V",
                "--bogus",
                "-b",
                "guest-ping",
                "--help",
                "-m",
                "unix-listen",
                "--freeze-timeout=x",
                "-a",
                "guest-ping,guest-info,guest-exec",
                "--",
                "-v",
            ],
            &[],
        );
        assert!(read.verbose);
        assert_eq!(read.method, Method::VirtioSerial);
        assert_eq!(read.path, DEFAULT_PORT);
        let complaints: Vec<_> = read.complaints.iter().map(|(what, _)| *what).collect();
        use Phrase::{NoPath, NotSeconds, UnknownOption};
        assert_eq!(complaints, [UnknownOption, NotSeconds, NoPath]);
        assert!(is_closed(&read) && allows(&read, "info"));
        // What was understood holds too, before the complaint and after it.
        assert!(!allows(&read, "ping") && !allows(&read, "get-osinfo"));
    }

    #[test]
    fn pid_1_allows_little_if_it_does_not_understand_one_word() {
        for args in [
            &["-b"][..],
            &["-a"],
            &["--block-rpcs"],
            &["--blocked=guest-exec"],
            &["-c", "/etc/qemu/qemu-ga.conf"],
            &["-v=1"],
            &["--verbose=1"],
            &["-m", "isa-serial"],
            &["-b", "--verbose"],
            &["-b", "guest-exec,", "guest-set-user-password"],
            &["-a", ""],
            &["--allow-rpcs="],
        ] {
            let read = of_init(args, &[]);
            assert!(is_closed(&read), "{args:?}");
            for name in ["ping", "sync", "info", "shutdown", "get-fsinfo"] {
                assert!(allows(&read, name), "{args:?}: {name}");
            }
        }
        // Operands and what would be printed are no policy.
        for args in [&["-V", "quiet", "root=/dev/vda"][..], &["-b", "help"], &[]] {
            assert!(
                !is_closed(&of_init(args, &["HOME=/", "TERM=linux"])),
                "{args:?}"
            );
        }
    }

    #[test]
    fn pid_1_finds_options_in_its_environment() {
        let read = of_init(
            &["-b", "guest-get-load", "--path=/b"],
            &["HOME=/", "--block-rpcs=guest-exec", "-p=/a", "b=guest-ping"],
        );
        assert!(!allows(&read, "exec") && !allows(&read, "get-load") && allows(&read, "ping"));
        assert_eq!(read.path, b"/b");
        assert!(read.complaints.is_empty());
        assert!(is_closed(&of_init(&[], &["--blocked=guest-exec"])));
        // An entry never takes another for its value.
        assert!(is_closed(&of_init(&["guest-ping"], &["-vq=", "-v="])));
    }

    #[test]
    fn pid_1_misses_options_that_the_kernel_dropped() {
        let path = std::env::temp_dir().join(format!("gaunt-words-{}", std::process::id()));
        std::fs::create_dir_all(path.join("proc")).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        let kept = ["HOME=/", "x=y", "--block-rpcs=b", "-p=/a b"];
        for (line, is_whole) in [
            ("quiet x=y --block-rpcs=b -v -p=\"/a b\"\n", true),
            ("other=x \"-p=/a b\" -- --block-rpcs=c", true),
            ("--block-rpcs=a --block-rpcs=b", false),
            ("-p=\"/a  b\"", false),
        ] {
            std::fs::write(path.join("proc/cmdline"), line).unwrap();
            let mut read = of_init(&[], &kept);
            read.check_kernel_words(&root, words(&kept));
            assert_eq!(is_closed(&read), !is_whole, "{line}");
        }
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn lists_allow_and_block() {
        let read = options(&["-b", "guest-ping,nonsense", "-bguest-info"]);
        assert!(!allows(&read, "ping") && !allows(&read, "info") && allows(&read, "sync"));
        for option in [
            "--blacklist=",
            "--black=",
            "--bl=",
            "--block=",
            "--b=",
            "-b=",
            "-b",
        ] {
            let option: &'static str = String::leak(format!("{option}guest-ping"));
            assert!(!allows(&options(&[option]), "ping"), "{option}");
        }
        let read = options(&["-a", "guest-ping"]);
        assert!(allows(&read, "ping") && !allows(&read, "info"));
        let read = options(&["--allow-rpcs", " guest-ping, guest-sync"]);
        assert!(allows(&read, "ping") && allows(&read, "sync") && !allows(&read, "info"));
        assert!(allows(&options(&["-a", ""]), "info"));
        for list in ["nonsense", ",", " ", "ping", "guest-Ping"] {
            assert!(!allows(&options(&["-a", list]), "ping"), "{list}");
        }
    }

    #[test]
    fn names_that_no_command_has_are_kept_once() {
        let read = options(&["-b", "guest-x,guest-ping,,guest-y", "-aguest-x, guest-z"]);
        let expected: [&[u8]; 3] = [b"guest-x", b"guest-y", b"guest-z"];
        assert_eq!(read.unknown_names, expected);
    }
}
