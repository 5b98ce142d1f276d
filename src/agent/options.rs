//! The command line, as far as it is there: qemu-ga's spellings, getopt_long's rules.
//!
//! Short options bundle (`-vp x`), long ones may be shortened while unambiguous and take their value
//! behind `=` or as the next argument; operands are ignored (the kernel hands PID 1 words of its
//! command line that it does not know). Options of qemu-ga that are not here yet are errors.

use crate::agent::channel::DEFAULT_PORT;
use crate::base::limits::FREEZE_TIMEOUT_S;
use crate::base::text;
use crate::commands;
use crate::parse::{self, words};
use crate::state::filter::{Filter, List};

/// Where clients come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// A virtio port.
    VirtioSerial,
    /// Connections to a unix socket.
    UnixListen,
}

/// What the command line asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) method: Method,
    pub(super) path: &'static [u8],
    pub(super) state_directory: &'static [u8],
    /// Whether `path` was told.
    has_path: bool,
    pub(super) verbose: bool,
    pub(super) freeze_timeout_s: u32,
    pub(super) filter: Filter,
    /// The word that made no sense, if there was one.
    pub(super) about: &'static [u8],
}

/// Why there is nothing to serve: first what makes no sense, in the order of the lines in
/// [`texts`](crate::base::texts), then what is to be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum Stop {
    /// No such option.
    Unknown,
    /// A shortened option that could be several.
    Ambiguous,
    /// An option without the value it needs.
    NoValue,
    /// An option with a value it does not take.
    Value,
    /// Not a method.
    Method,
    /// Not a number of seconds.
    Seconds,
    /// The method needs a path.
    NoPath,
    /// How to use it.
    Help,
    /// The version.
    Version,
    /// The names of all commands.
    Commands,
}

/// The long names, those that take a value first. None is the beginning of another.
const LONG: &[u8] =
    b"block-rpcs allow-rpcs method path statedir freeze-timeout verbose help version";
/// The short names in the same order; a blank where there is none.
const SHORT: &[u8] = b"bampt vhV";
/// How many take a value.
const WITH_VALUE: usize = 6;

/// Reads the command line into `options`.
///
/// Whoever must serve whatever the words are, as PID 1 must, which has nobody to ask it for help and
/// may not end, reads on after an error: what made no sense is left out then, and what does make
/// sense around it counts, above all what is not allowed.
pub(super) fn read<I: Iterator<Item = &'static [u8]>>(
    args: &mut I,
    options: &mut Options,
) -> Result<(), Stop> {
    let mut reader = Reader { args, options };
    reader.all()?;
    if options.method == Method::UnixListen && !options.has_path {
        options.method = Method::VirtioSerial;
        options.about = b"";
        return Err(Stop::NoPath);
    }
    Ok(())
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
            filter: Filter::default(),
            about: b"",
        }
    }
}

struct Reader<'a, I> {
    args: &'a mut I,
    options: &'a mut Options,
}

impl<I: Iterator<Item = &'static [u8]>> Reader<'_, I> {
    fn all(&mut self) -> Result<(), Stop> {
        while let Some(arg) = self.args.next() {
            self.options.about = arg;
            match arg {
                // Nothing is left for whoever reads on.
                b"--" => while self.args.next().is_some() {},
                [b'-', b'-', long @ ..] => self.long(long)?,
                [b'-', letters @ ..] => self.short(letters)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn long(&mut self, long: &'static [u8]) -> Result<(), Stop> {
        let mut value = long;
        let name = text::cut(&mut value, b'=');
        let given = (name.len() != long.len()).then_some(value);
        let (mut at, mut place, mut meant) = (0, 0, 0);
        for option in words(LONG) {
            if option.starts_with(name) {
                place = at;
                meant += 1;
            }
            at += 1;
        }
        match meant {
            0 => return Err(Stop::Unknown),
            1 => {}
            _ => return Err(Stop::Ambiguous),
        }
        if place >= WITH_VALUE && given.is_some() {
            return Err(Stop::Value);
        }
        self.apply(place, given)
    }

    fn short(&mut self, mut letters: &'static [u8]) -> Result<(), Stop> {
        while let Some((letter, rest)) = letters.split_first() {
            self.options.about = letters;
            let place = SHORT.iter().position(|option| option == letter);
            let place = place.filter(|_| *letter != b' ').ok_or(Stop::Unknown)?;
            letters = rest;
            if place < WITH_VALUE {
                letters = b"";
            }
            self.apply(place, Some(rest).filter(|rest| !rest.is_empty()))?;
        }
        Ok(())
    }

    /// Does what the option at `place` says; a value that is not given is the next argument.
    #[inline(never)]
    fn apply(&mut self, place: usize, given: Option<&'static [u8]>) -> Result<(), Stop> {
        let options = &mut *self.options;
        if place >= WITH_VALUE {
            return match place {
                WITH_VALUE => {
                    options.verbose = true;
                    Ok(())
                }
                7 => Err(Stop::Help),
                _ => Err(Stop::Version),
            };
        }
        let value = given.or_else(|| self.args.next()).ok_or(Stop::NoValue)?;
        options.about = value;
        match place {
            0 | 1 => {
                if parse::place(b"help ?", value).is_some() {
                    return Err(Stop::Commands);
                }
                let lists = [List::Blocked, List::Allowed];
                list(&mut options.filter, lists[place], value);
            }
            2 => {
                options.method = match parse::place(b"virtio-serial unix-listen", value) {
                    Some(0) => Method::VirtioSerial,
                    Some(_) => Method::UnixListen,
                    None => return Err(Stop::Method),
                }
            }
            3 => (options.path, options.has_path) = (value, true),
            4 => options.state_directory = value,
            _ => options.freeze_timeout_s = text::parse_u32(value).ok_or(Stop::Seconds)?,
        }
        Ok(())
    }
}

/// Adds the commands of a comma-separated list to the filter. Names nobody knows are ignored, as
/// qemu-ga does: lists are written for agents of several versions.
fn list(filter: &mut Filter, list: List, mut names: &[u8]) {
    while !names.is_empty() {
        let name = text::cut(&mut names, b',');
        if !name.is_empty() {
            let known = |name| commands::all().position(|command| command.name() == name);
            filter.add(list, name.strip_prefix(commands::PREFIX).and_then(known));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(args: &[&'static str]) -> (Stop, &'static [u8]) {
        let mut args = args.iter().map(|arg| arg.as_bytes());
        let mut options = Options::new();
        let stop = read(&mut args, &mut options).unwrap_err();
        (stop, options.about)
    }

    fn options(args: &[&'static str]) -> Options {
        let mut options = Options::new();
        read(&mut args.iter().map(|arg| arg.as_bytes()), &mut options).unwrap();
        options
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
        assert_eq!(options(&[]).path, DEFAULT_PORT);
    }

    #[test]
    fn no_long_name_is_the_beginning_of_another() {
        for name in words(LONG) {
            let alike = words(LONG).filter(|other| other.starts_with(name));
            assert_eq!(alike.count(), 1);
        }
        assert_eq!(words(LONG).count(), SHORT.len());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        use Stop::*;
        for (args, what, about) in [
            (&["-q"][..], Unknown, "q"),
            (&["--frob"], Unknown, "--frob"),
            (&["--ver"], Ambiguous, "--ver"),
            (&["--path"], NoValue, "--path"),
            (&["--help=x"], Value, "--help=x"),
            (&["-m", "carrier-pigeon"], Method, "carrier-pigeon"),
            (&["--freeze-timeout=soon"], Seconds, "soon"),
            (&["-m", "unix-listen"], NoPath, ""),
        ] {
            assert_eq!(stop(args), (what, about.as_bytes()));
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
    fn pid_1_serves_whatever_it_is_told() {
        let words: [&'static [u8]; 10] = [
            b"-V",
            b"--bogus",
            b"-b",
            b"guest-ping",
            b"--help",
            b"-m",
            b"unix-listen",
            b"--freeze-timeout=x",
            b"--",
            b"-v",
        ];
        let (mut words, mut options) = (words.into_iter(), Options::new());
        let mut complaints = 0;
        while let Err(stop) = read(&mut words, &mut options) {
            complaints += usize::from(stop < Stop::Help);
        }
        assert!(!options.verbose);
        assert_eq!(complaints, 3);
        assert_eq!(options.method, Method::VirtioSerial);
        assert_eq!(options.path, DEFAULT_PORT);
        let ping = commands::all().position(|row| row.name() == b"ping");
        assert!(!options.filter.allows(ping.unwrap()));
    }

    #[test]
    fn lists_allow_and_block() {
        let place = |name: &str| {
            let name = name.strip_prefix("guest-").unwrap().as_bytes();
            let mut commands = commands::all();
            commands.position(|command| command.name() == name).unwrap()
        };
        let filter = options(&["-b", "guest-ping,nonsense", "-bguest-info"]).filter;
        assert!(!filter.allows(place("guest-ping")) && !filter.allows(place("guest-info")));
        assert!(filter.allows(place("guest-sync")));
        let filter = options(&["-a", "guest-ping"]).filter;
        assert!(filter.allows(place("guest-ping")) && !filter.allows(place("guest-info")));
        let filter = options(&["-a", ""]).filter;
        assert!(filter.allows(place("guest-info")));
        let filter = options(&["-a", "nonsense"]).filter;
        assert!(!filter.allows(place("guest-info")));
    }
}
