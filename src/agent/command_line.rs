//! The command line, by the rules of getopt_long(3).
//!
//! Short options bundle (`-vp x`). Long ones may be shortened while that is unambiguous, and take their
//! value behind `=` or as the next argument. Operands are ignored, because the kernel hands PID 1 words
//! of its command line that it does not know; the name of a command is an error, because it is part of
//! a list that a blank tore apart.
//!
//! As with qemu-ga, a path belongs to `-F` only if it is attached: in `-F x` the option takes its
//! default, and `x` is an operand. A list that begins with a dash is an error: it is an option whose
//! value was left out.
//!
//! Reading goes on after an error: an agent that must not end serves whatever it is told, and then
//! fails closed ([`commands::FAIL_CLOSED`]). That is PID 1, or an agent that must thaw what an earlier
//! run has frozen.
//!
//! PID 1 has options in its environment as well, where the kernel puts words of its own command line
//! such as `--block-rpcs=guest-exec`. For PID 1 an empty list is one that was lost on the way.
//!
//! Difference from qemu-ga: a short option takes `-b=x` as `-b x`.

use core::iter;

use super::options::{Key, OptionRow, OptionValue, Options, Printout, ROWS, TRUE};
use super::texts::AgentPhrase;
use crate::commands;
use crate::parse::split_once;

/// The arguments not yet read.
type Args<'a> = &'a mut dyn Iterator<Item = &'static [u8]>;

/// Reads the command line.
pub(super) fn read(options: &mut Options, args: Args<'_>) {
    while let Some(arg) = args.next() {
        match arg {
            // Consumes all arguments: the rest are operands.
            b"--" => while args.next().is_some() {},
            [b'-', b'-', long @ ..] => read_long(options, arg, long, args),
            [b'-', letters @ ..] => read_short(options, letters, args),
            operand if operand.starts_with(commands::PREFIX) => {
                options.fail_closed(AgentPhrase::StrayCommand, operand);
            }
            _ => {}
        }
    }
}

/// Reads the environment of PID 1.
pub(super) fn read_environment(
    options: &mut Options,
    environment: impl Iterator<Item = &'static [u8]>,
) {
    // Each entry is an option with its value: the next entry is no part of it.
    for entry in environment.filter(|entry| entry.starts_with(b"-")) {
        read(options, &mut iter::once(entry));
    }
}

/// Reads the command line of PID 1.
pub(super) fn read_as_init(options: &mut Options, args: impl Iterator<Item = &'static [u8]>) {
    // The kernel has removed its own `--`: what stands behind another is an option as well.
    read(options, &mut args.filter(|arg| *arg != b"--"));
}

/// Splits the value off `name=value`.
pub(super) fn split_value(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match split_once(text, b'=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    }
}

/// Reads a long option, `name` or `name=value`.
fn read_long(options: &mut Options, arg: &'static [u8], long: &'static [u8], args: Args<'_>) {
    let (name, value) = split_value(long);
    match find_long(name) {
        Ok(row) => set(options, row, value, arg, args),
        Err(what) => options.fail_closed(what, arg),
    }
}

/// The option that a name, whole or shortened, stands for.
pub(super) fn find_long(name: &[u8]) -> Result<&'static OptionRow, AgentPhrase> {
    let mut alike = ROWS.iter().filter(|row| row.long().starts_with(name));
    let first = alike.next().ok_or(AgentPhrase::UnknownOption)?;
    match alike.all(|row| row.key == first.key) {
        true => Ok(first),
        false => Err(AgentPhrase::AmbiguousOption),
    }
}

/// Reads a bundle of short options, the last of which may have a value attached.
fn read_short(options: &mut Options, mut letters: &'static [u8], args: Args<'_>) {
    while let [letter, rest @ ..] = letters {
        let Some(row) = ROWS.iter().find(|row| row.short == Some(*letter)) else {
            return options.fail_closed(AgentPhrase::UnknownOption, letters);
        };
        let arg = letters;
        letters = rest;
        let mut attached = None;
        if row.value != OptionValue::Flag && !rest.is_empty() {
            attached = Some(rest.strip_prefix(b"=").unwrap_or(rest));
            letters = b"";
        }
        set(options, row, attached, arg, args);
    }
}

/// Sets an option to its attached value, or to the next argument.
fn set(
    options: &mut Options,
    row: &OptionRow,
    attached: Option<&'static [u8]>,
    arg: &'static [u8],
    args: Args<'_>,
) {
    let value = match (row.value, attached) {
        (OptionValue::Flag, None) => Ok(TRUE),
        (OptionValue::Flag, Some(_)) => Err(AgentPhrase::TakesNoValue),
        (OptionValue::Required, None) => args.next().ok_or(AgentPhrase::NoValue),
        (_, value) => Ok(value.unwrap_or_default()),
    };
    let value = match value {
        Ok(value) => value,
        Err(what) => return options.fail_closed(what, arg),
    };
    if matches!(row.key, Key::BlockRpcs | Key::AllowRpcs) {
        match value {
            b"help" | b"?" => return options.ask(Printout::Commands),
            [b'-', ..] => return options.fail_closed(AgentPhrase::NoValue, value),
            [] => options.has_empty_list = true,
            _ => {}
        }
    }
    options.take(row.key, value);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::agent::channel_options::{Method, OptionError};
    use crate::agent::port::DEFAULT_PORT;
    use crate::state::hooks::Main;

    pub(in crate::agent) fn words(
        args: &[&'static str],
    ) -> impl Iterator<Item = &'static [u8]> + Clone {
        let args: Vec<_> = args.iter().map(|arg| arg.as_bytes()).collect();
        args.into_iter()
    }

    fn read_all(args: &[&'static str]) -> Options {
        let mut options = Options::new();
        read(&mut options, &mut words(args));
        options.settle(false);
        options
    }

    /// The first error of a command line that asks for nothing.
    fn error(args: &[&'static str]) -> OptionError {
        let options = read_all(args);
        assert_eq!(options.printout, None, "{args:?}");
        options.errors()[0]
    }

    fn options(args: &[&'static str]) -> Options {
        let options = read_all(args);
        assert!(options.errors().is_empty(), "{args:?}");
        options
    }

    pub(in crate::agent) fn of_init(
        args: &[&'static str],
        environment: &[&'static str],
    ) -> Options {
        let mut options = Options::new();
        read_environment(&mut options, words(environment));
        read_as_init(&mut options, words(args));
        options.settle(true);
        options
    }

    fn method(options: &Options) -> Method {
        options.channels.list()[0].method
    }

    pub(in crate::agent) fn path(options: &Options) -> &'static [u8] {
        options.channels.list()[0].path().unwrap()
    }

    pub(in crate::agent) fn allows(options: &Options, name: &str) -> bool {
        let name = name.as_bytes();
        let place = commands::all().position(|row| row.name() == name);
        options.filter.allows(place.unwrap())
    }

    /// Whether only what changes nothing is allowed.
    pub(in crate::agent) fn is_closed(options: &Options) -> bool {
        let closed = !allows(options, "exec");
        assert_eq!(closed, !allows(options, "file-read"));
        assert_eq!(closed, !options.errors().is_empty());
        closed
    }

    #[test]
    fn follows_the_rules_of_getopt_long() {
        let read = options(&[
            "-vm",
            "unix-listen",
            "word",
            "--pa=/x",
            "--freeze-timeout",
            "0",
        ]);
        assert_eq!(method(&read), Method::UnixListen);
        assert_eq!(path(&read), b"/x");
        assert!(read.is_on(Key::Verbose));
        assert_eq!(read.freeze_timeout_s, 0);
        assert_eq!(path(&options(&["-p/y", "--", "-q"])), b"/y");
        assert_eq!(path(&options(&["-vp=/z"])), b"/z");
        let read = options(&["-m", "unix-listen:/a:b", "-m", "", "--path=", "--method="]);
        assert_eq!(method(&read), Method::UnixListen);
        assert_eq!(path(&read), b"/a:b");
        assert_eq!(path(&options(&["-m", ""])), DEFAULT_PORT);
        assert_eq!(path(&options(&[])), DEFAULT_PORT);
    }

    #[test]
    fn options_of_hooks_are_those_of_qemu_ga() {
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
    fn rejects_what_makes_no_sense() {
        use AgentPhrase::*;
        for (args, what, about) in [
            (&["-q"][..], UnknownOption, "q"),
            (&["--frob"], UnknownOption, "--frob"),
            (&["--config"], NoValue, "--config"),
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
            (&["--authorized-keys=/etc/%x"], NotKeysPath, "/etc/%x"),
            (&["--authorized-keys="], NotKeysPath, ""),
            (&["-Fhook"], NotAbsolute, "hook"),
            (&["--fsfreeze-hook=./hook"], NotAbsolute, "./hook"),
            (&["-m", "unix-listen"], NoPath, ""),
        ] {
            let about = about.as_bytes();
            assert_eq!(error(args), OptionError { what, about });
        }
    }

    #[test]
    fn the_first_printout_or_error_counts() {
        let printout = |args: &[&'static str]| read_all(args).printout;
        assert_eq!(printout(&["-V", "-q", "-h"]), Some(Printout::Version));
        assert_eq!(printout(&["--help", "--check"]), Some(Printout::Help));
        assert_eq!(printout(&["-D", "-h"]), Some(Printout::Help));
        assert_eq!(printout(&["-b", "?"]), Some(Printout::Commands));
        assert_eq!(printout(&["--allow-rpcs=help"]), Some(Printout::Commands));
        assert_eq!(printout(&["-q", "-V", "-h"]), None);
    }

    #[test]
    fn one_mistake_is_one_error() {
        let errors = |args: &[&'static str]| {
            let options = read_all(args);
            let errors = options.errors().iter().map(|error| error.what);
            errors.collect::<Vec<_>>()
        };
        let three = &["-m", "unix-listen", "-p", "/a"].repeat(2);
        let three = [three, &["-m", "vsock-listen", "-p", ":1"][..]].concat();
        let more = |more: &[&'static str]| errors(&[&three, more].concat());
        assert!(more(&[]).is_empty());
        for fourth in [
            &["-m", "unix-listen", "-p", "/b"][..],
            &["-m", "unix-listen:/b"],
            &["-p", "/b", "-m", "unix-listen"],
        ] {
            assert_eq!(more(fourth), [AgentPhrase::TooManyChannels], "{fourth:?}");
        }
        let pigeon = ["-m", "vsock-listen", "-p", ":1", "-m", "pigeon", "-p", "/b"];
        assert_eq!(errors(&pigeon), [AgentPhrase::NotMethod]);
        assert_eq!(errors(&["-m", "unix-listen"]), [AgentPhrase::NoPath]);
    }

    #[test]
    fn of_settings_and_a_check_the_last_one_is_printed() {
        use crate::agent::options::CheckFormat;
        let check = Some(Printout::Check(CheckFormat::Text));
        assert_eq!(options(&["-D", "--check"]).printout, check);
        assert_eq!(
            options(&["--check=json", "-D"]).printout,
            Some(Printout::Settings)
        );
        assert_eq!(options(&["-v"]).printout, None);
    }

    #[test]
    fn list_of_channels_replaces_those_before_it() {
        let list = "--channels=virtio-serial;unix-listen:/a;";
        let read = options(&["-m", "unix-listen", "-p", "/x", list]);
        let paths: Vec<_> = read.channels.list().iter().map(|one| one.path()).collect();
        assert_eq!(paths, [Some(DEFAULT_PORT), Some(b"/a")]);
        assert_eq!(
            path(&options(&[list, "-m", "unix-listen", "-p", "/x"])),
            b"/x"
        );
        let wrong = |args: &[&'static str]| error(args).what;
        let list = "--channels=unix-listen:/a;pigeon:/b";
        assert_eq!(wrong(&[list]), AgentPhrase::NotMethod);
        let list = "--channels=unix-listen:/a;unix-listen:/b;unix-listen:/c;unix-listen:/d";
        assert_eq!(wrong(&[list]), AgentPhrase::TooManyChannels);
        assert_eq!(wrong(&["--channels=unix-listen"]), AgentPhrase::NoPath);
    }

    #[test]
    fn pid_1_reads_on_after_errors_and_fails_closed() {
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
        assert!(read.is_on(Key::Verbose));
        assert_eq!(method(&read), Method::VirtioSerial);
        assert_eq!(path(&read), DEFAULT_PORT);
        let errors: Vec<_> = read.errors().iter().map(|error| error.what).collect();
        use AgentPhrase::{NoPath, NotSeconds, UnknownOption};
        assert_eq!(errors, [UnknownOption, NotSeconds, NoPath]);
        assert!(is_closed(&read) && allows(&read, "info"));
        // What was understood holds too, before the error and after it.
        assert!(!allows(&read, "ping") && !allows(&read, "get-osinfo"));
        // So does what follows such an option in a bundle.
        assert!(!allows(&of_init(&["-hbguest-exec"], &[]), "exec"));
    }

    #[test]
    fn pid_1_fails_closed_if_one_word_is_not_understood() {
        for args in [
            &["-b"][..],
            &["-a"],
            &["--block-rpcs"],
            &["--blocked=guest-exec"],
            &["-v=1"],
            &["--verbose=1"],
            &["-m", "carrier-pigeon"],
            &["-m", "vsock-listen", "-p", "x"],
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
        // Operands and what would be printed are no policy, nor is what PID 1 ignores.
        let fine: [&[_]; 4] = [
            &["-V", "quiet", "root=/dev/vda"],
            &["-b", "help"],
            &["-d"],
            &[],
        ];
        for args in fine {
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
        assert_eq!(path(&read), b"/b");
        assert!(read.errors().is_empty());
        assert!(is_closed(&of_init(&[], &["--blocked=guest-exec"])));
        // An entry never takes another for its value.
        assert!(is_closed(&of_init(&["guest-ping"], &["-vq=", "-v="])));
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
}
