//! The command line, as far as it is there: qemu-ga's spellings, getopt_long's rules.
//!
//! Short options bundle (`-vp x`), long ones may be shortened while unambiguous and take their value
//! behind `=` or as the next argument; operands are ignored (the kernel hands PID 1 words of its
//! command line that it does not know). Options of qemu-ga that are not here yet are errors.

use crate::agent::channel::DEFAULT_PORT;
use crate::base::limits::FREEZE_TIMEOUT_S;
use crate::base::text;
use crate::commands;
use crate::state::filter::Filter;

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
    pub(super) path: Option<&'static [u8]>,
    pub(super) state_directory: &'static [u8],
    pub(super) verbose: bool,
    pub(super) freeze_timeout_s: u32,
    pub(super) filter: Filter,
}

/// Why there is nothing to serve.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Print the version.
    Version,
    /// Print how to use it.
    Help,
    /// Print the names of all commands.
    Commands,
    /// These words do not make sense.
    Nonsense(Nonsense, &'static [u8]),
}

/// What is wrong with the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nonsense {
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Method,
    Path,
    StateDirectory,
    Verbose,
    Version,
    Help,
    Block,
    Allow,
    FreezeTimeout,
}

/// Long name, short name if there is one, whether it takes a value.
const OPTIONS: [(&str, u8, bool, Name); 9] = [
    ("method", b'm', true, Name::Method),
    ("path", b'p', true, Name::Path),
    ("statedir", b't', true, Name::StateDirectory),
    ("verbose", b'v', false, Name::Verbose),
    ("version", b'V', false, Name::Version),
    ("help", b'h', false, Name::Help),
    ("block-rpcs", b'b', true, Name::Block),
    ("allow-rpcs", b'a', true, Name::Allow),
    ("freeze-timeout", 0, true, Name::FreezeTimeout),
];

/// What `--help` prints.
pub(super) const HELP: &str = "\
Usage: gaunt [-m <method> -p <path>] [<options>]
QEMU guest agent for guests that have nothing else in them.

  -m, --method          virtio-serial (default) or unix-listen
  -p, --path            device or socket; default for virtio-serial:
                        /dev/virtio-ports/org.qemu.guest_agent.0, where there is
                        none the port of that name wherever it is
  -t, --statedir        directory for the mark of a freeze; should be in memory
                        (default: /run)
  -b, --block-rpcs      comma-separated commands to refuse; 'help' lists all
  -a, --allow-rpcs      comma-separated commands to allow, all others are refused
      --freeze-timeout  seconds after which a freeze ends by itself, 0 for never
                        (default: 600)
  -v, --verbose         log more
  -V, --version         print the version
  -h, --help            print this
";

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
    if options.path.is_none() {
        options.path = Some(DEFAULT_PORT);
        if options.method == Method::UnixListen {
            options.method = Method::VirtioSerial;
            return Err(Stop::Nonsense(Nonsense::NoPath, b""));
        }
    }
    Ok(())
}

impl Options {
    /// What no option changes.
    pub(super) fn new() -> Self {
        Self {
            method: Method::VirtioSerial,
            path: None,
            state_directory: b"/run",
            verbose: false,
            freeze_timeout_s: FREEZE_TIMEOUT_S,
            filter: Filter::default(),
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
            if arg == b"--" {
                // Nothing is left for whoever reads on.
                while self.args.next().is_some() {}
                break;
            }
            if let Some(long) = arg.strip_prefix(b"--") {
                self.long(arg, long)?;
            } else if let Some(letters @ [_, ..]) = arg.strip_prefix(b"-") {
                self.short(letters)?;
            }
        }
        Ok(())
    }

    fn long(&mut self, arg: &'static [u8], long: &'static [u8]) -> Result<(), Stop> {
        let equals = long.iter().position(|byte| *byte == b'=');
        let (name, given) = long.split_at(equals.unwrap_or(long.len()));
        let (mut found, mut several) = (None, false);
        for option in &OPTIONS {
            if option.0.as_bytes() == name {
                (found, several) = (Some(option), false);
                break;
            }
            if option.0.as_bytes().starts_with(name) {
                several |= found.is_some();
                found = Some(option);
            }
        }
        let (_, _, takes_value, name) = *found.ok_or(Stop::Nonsense(Nonsense::Unknown, arg))?;
        if several {
            return Err(Stop::Nonsense(Nonsense::Ambiguous, arg));
        }
        let value = match (takes_value, given.split_first()) {
            (true, Some((_, value))) => value,
            (true, None) => self.value(arg)?,
            (false, None) => b"",
            (false, Some(_)) => return Err(Stop::Nonsense(Nonsense::Value, arg)),
        };
        self.apply(name, value)
    }

    fn short(&mut self, mut letters: &'static [u8]) -> Result<(), Stop> {
        while let Some((letter, rest)) = letters.split_first() {
            let option = OPTIONS
                .iter()
                .find(|option| option.1 == *letter && *letter != 0);
            let unknown = Stop::Nonsense(Nonsense::Unknown, letters);
            let (_, _, takes_value, name) = *option.ok_or(unknown)?;
            if takes_value {
                let value = if rest.is_empty() {
                    self.value(letters)?
                } else {
                    rest
                };
                return self.apply(name, value);
            }
            self.apply(name, b"")?;
            letters = rest;
        }
        Ok(())
    }

    fn value(&mut self, option: &'static [u8]) -> Result<&'static [u8], Stop> {
        self.args
            .next()
            .ok_or(Stop::Nonsense(Nonsense::NoValue, option))
    }

    fn apply(&mut self, name: Name, value: &'static [u8]) -> Result<(), Stop> {
        let options = &mut *self.options;
        match name {
            Name::Method => {
                options.method = match value {
                    b"virtio-serial" => Method::VirtioSerial,
                    b"unix-listen" => Method::UnixListen,
                    _ => return Err(Stop::Nonsense(Nonsense::Method, value)),
                }
            }
            Name::Path => options.path = Some(value),
            Name::StateDirectory => options.state_directory = value,
            Name::Verbose => options.verbose = true,
            Name::Version => return Err(Stop::Version),
            Name::Help => return Err(Stop::Help),
            Name::Block | Name::Allow => {
                if matches!(value, b"help" | b"?") {
                    return Err(Stop::Commands);
                }
                list(&mut options.filter, name == Name::Allow, value);
            }
            Name::FreezeTimeout => {
                let seconds = text::parse_u32(value);
                options.freeze_timeout_s =
                    seconds.ok_or(Stop::Nonsense(Nonsense::Seconds, value))?;
            }
        }
        Ok(())
    }
}

/// Adds the commands of a comma-separated list to the filter. Names nobody knows are ignored, as
/// qemu-ga does: lists are written for agents of several versions.
fn list(filter: &mut Filter, allow: bool, names: &[u8]) {
    for name in names
        .split(|byte| *byte == b',')
        .filter(|name| !name.is_empty())
    {
        if allow {
            filter.allow_only_named();
        }
        let known = |name| commands::all().position(|command| command.name() == name);
        match name.strip_prefix(commands::PREFIX).and_then(known) {
            Some(place) if allow => filter.allow(place),
            Some(place) => filter.block(place),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(args: &[&'static str]) -> Stop {
        let mut args = args.iter().map(|arg| arg.as_bytes());
        read(&mut args, &mut Options::new()).unwrap_err()
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
        assert_eq!(read.path, Some(&b"/x"[..]));
        assert!(read.verbose);
        assert_eq!(read.freeze_timeout_s, 0);
        assert_eq!(options(&["-p/y", "--", "-q"]).path, Some(&b"/y"[..]));
        assert_eq!(options(&[]).path, Some(DEFAULT_PORT));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        use Nonsense::*;
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
            assert_eq!(stop(args), Stop::Nonsense(what, about.as_bytes()));
        }
    }

    #[test]
    fn what_is_met_first_is_done() {
        assert_eq!(stop(&["-V", "-q"]), Stop::Version);
        assert_eq!(stop(&["--help"]), Stop::Help);
        assert_eq!(stop(&["-b", "?"]), Stop::Commands);
        assert_eq!(stop(&["--allow-rpcs=help"]), Stop::Commands);
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
            complaints += usize::from(matches!(stop, Stop::Nonsense(..)));
        }
        assert!(!options.verbose);
        assert_eq!(complaints, 3);
        assert_eq!(options.method, Method::VirtioSerial);
        assert_eq!(options.path, Some(DEFAULT_PORT));
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
