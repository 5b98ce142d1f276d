//! The configuration file of qemu-ga: `--config`, else the environment variable `QGA_CONF`, else
//! /etc/qemu/qemu-ga.conf. `parse::config` has its format.
//!
//! The keys are the long names of the options, but `daemon` for `--daemonize`. A truth value stands for
//! an option without a value. Keys that are no option are ignored, as with qemu-ga. A file with an
//! error sets nothing at all. Only a file that `--config` names must exist.
//!
//! The agent never waits for a pipe or a device, because it reads regular files only.
//!
//! Differences from qemu-ga: all options of the agent are keys; `blacklist` is a key; a value with a
//! noncharacter such as U+FFFE counts as not UTF-8.

use super::channel_options::OptionError;
use super::options::{OptionValue, Options, ROWS};
use super::texts::AgentPhrase;
use crate::base::limits::{CONFIG_BYTES, PATH_BYTES};
use crate::base::sink::append_all;
use crate::parse::config;
use crate::sys::mem::Buffer;
use crate::sys::root::{Root, relative};
use crate::sys::status::Status;
use crate::sys::{Errno, words};
use crate::wire::json::is_utf8;

/// The default path of the file.
const PATH: &[u8] = b"/etc/qemu/qemu-ga.conf";

/// Sets `options`, which are the defaults, from the file that the options name, the one that the
/// environment names, or the default one.
pub(super) fn read(
    options: &mut Options,
    root: &Root,
    in_options: Option<&'static [u8]>,
    in_environment: Option<&'static [u8]>,
) {
    let path = in_options.or(in_environment).unwrap_or(PATH);
    match read_file(root, path) {
        Err(Errno::NOENT) if in_options.is_none() => {}
        Err(Errno::NOTDIR) if path == PATH => {}
        Err(errno) => {
            let about = with_words(path, errno);
            options.fail_closed(AgentPhrase::CannotLoadConfig, about);
        }
        Ok(text) => set_all(options, text),
    }
    if let [OptionError { what, about }, ..] = *options.errors() {
        *options = Options::new();
        options.fail_closed(what, about);
    }
}

/// Returns the text of the file.
fn read_file(root: &Root, path: &[u8]) -> Result<&'static [u8], Errno> {
    let file = match path {
        [] => return Err(Errno::NOENT),
        [b'/', ..] => root.file_at(&[relative(path)]),
        // Relative to the working directory.
        _ => Root::open(c".")?.file_at(&[path]),
    }?;
    let status = Status::of(&file)?;
    if status.is_special() {
        return Err(Errno::INVAL);
    }
    let len = usize::try_from(status.bytes).unwrap_or(usize::MAX);
    if len > CONFIG_BYTES {
        return Err(Errno::FBIG);
    }
    // One byte more, to see the end of the file.
    let mut text = Buffer::lasting(len + 1);
    text.read(&file)?;
    Ok(text.take())
}

/// Returns the path and the words for the error.
fn with_words(path: &[u8], errno: Errno) -> &'static [u8] {
    let mut text = Buffer::lasting(PATH_BYTES);
    // What does not fit is an end that a line of the log has no room for either.
    let _ = append_all(&mut *text, &[path, b": ", &words(errno)]);
    text.take()
}

/// Sets all options that the text has a value for, up to a line that is not valid.
fn set_all(options: &mut Options, text: &'static [u8]) {
    // For the values, which are shorter without their escapes.
    let mut room = Buffer::lasting(text.len());
    for row in ROWS.iter().filter(|row| row.key.is_setting()) {
        let name = row.key_in_file();
        let found = match config::value(text, name) {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(line) => return options.fail_closed(AgentPhrase::NotConfigLine, line),
        };
        let value = match row.value {
            OptionValue::Flag => config::truth(found),
            _ if !is_utf8(found) => None,
            _ => config::unescape(found, &mut *room).map(|()| room.take()),
        };
        match value {
            Some(value) => options.take(row.key, value),
            None => options.fail_closed(AgentPhrase::NotConfigValue, name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::channel_options::Method;
    use crate::agent::options::Key;
    use crate::state::hooks::Main;
    use crate::sys::testing::Tree;

    const FILE: &str = "etc/qemu/qemu-ga.conf";

    /// Reads the default file of a tree.
    fn read_default(tree: &Tree) -> Options {
        let mut options = Options::new();
        read(&mut options, &tree.root, None, None);
        options
    }

    fn read_text(text: impl AsRef<[u8]>) -> Options {
        let tree = Tree::new();
        tree.file(FILE, text);
        read_default(&tree)
    }

    #[test]
    fn keys_are_the_options() {
        let options = read_text(
            "[general]\nmethod=unix-listen\npath=/run\\s/x\nstatedir=/s\nverbose=true\nunknown=\\q\n\
             fsfreeze-hook=/h\nblock-rpcs=guest-exec;guest-ping\nfreeze-timeout=5\nversion=1\nhelp=x\n\
             [other]\npath=/y\n",
        );
        assert!(options.errors().is_empty());
        let [channel] = options.channels.list() else {
            panic!("{options:?}");
        };
        assert_eq!(channel.method, Method::UnixListen);
        assert_eq!(channel.path(), Some(&b"/run /x"[..]));
        assert_eq!(options.state_directory, b"/s");
        assert!(options.is_on(Key::Verbose));
        assert_eq!(options.hooks.main, Main::At(b"/h"));
        assert_eq!(options.freeze_timeout_s, 5);
        let blocked = |name: &str| {
            let mut commands = crate::commands::all();
            let index = commands.position(|command| command.name() == name.as_bytes());
            !options.filter.allows(index.unwrap())
        };
        assert!(blocked("exec") && blocked("ping") && !blocked("info"));
        assert!(!read_text("[general]\nverbose=1\nverbose=0\n").is_on(Key::Verbose));
        assert!(!read_text("[general]\nallow-rpcs=\n").has_empty_list);
    }

    #[test]
    fn a_file_with_an_error_sets_nothing_and_fails_closed() {
        use AgentPhrase::*;
        for (text, what, about) in [
            ("path=/x\n[general]\n", NotConfigLine, "path=/x"),
            (
                "[general]\npath=/x\nblock-rpcs",
                NotConfigLine,
                "block-rpcs",
            ),
            (
                "[general]\npath=/x\nverbose=yes\n",
                NotConfigValue,
                "verbose",
            ),
            (
                "[general]\npath=/x\nstatedir=\\q\n",
                NotConfigValue,
                "statedir",
            ),
        ] {
            let options = read_text(text);
            let [error] = options.errors() else {
                panic!("{text}");
            };
            assert_eq!(
                (error.what, error.about),
                (what, about.as_bytes()),
                "{text}"
            );
            assert_ne!(options.channels.list()[0].path(), Some(&b"/x"[..]));
            assert!(!options.filter.allows(7), "{text}");
        }
        // Not UTF-8, which GLib reports of the value that counts alone.
        for value in [&b"\xff"[..], b"/x\xc0\x80", b"/x\xed\xa0\x80", b"\xc3"] {
            let text = [b"[general]\nverbose=1\npath=/x\nlogfile=", value].concat();
            let options = read_text(&text);
            let [error] = options.errors() else {
                panic!("{}", value.escape_ascii());
            };
            assert_eq!((error.what, error.about), (NotConfigValue, &b"logfile"[..]));
            assert!(!options.is_on(Key::Verbose) && !options.filter.allows(7));
            let read = read_text([&text, &b"\nlogfile=/\xc3\xa4\n"[..]].concat());
            assert!(read.is_on(Key::Verbose));
        }
        let [error] = read_text("[general]\nmethod=pigeon\n").errors()[..] else {
            panic!("the method is unknown");
        };
        assert_eq!(error.what, NotMethod);
    }

    #[test]
    fn only_a_regular_file_of_some_size_is_read() {
        let errors = |options: Options| options.errors().len();
        let tree = Tree::new();
        assert_eq!(errors(read_default(&tree)), 0);
        tree.file(FILE, vec![b'\n'; CONFIG_BYTES]);
        assert_eq!(errors(read_default(&tree)), 0);
        tree.file(FILE, vec![b'\n'; CONFIG_BYTES + 1]);
        assert_eq!(errors(read_default(&tree)), 1);
        std::fs::remove_file(tree.path.join(FILE)).unwrap();
        tree.directory(FILE);
        assert_eq!(errors(read_default(&tree)), 1);
        let root = Root::open(c"/").unwrap();
        for (name, in_options, in_environment) in [
            ("", 1, 0),
            ("/etc/none/qemu-ga.conf", 1, 0),
            ("none", 1, 0),
            ("/etc/passwd", 1, 1),
            ("/dev/zero", 1, 1),
            ("/dev/null", 1, 1),
        ] {
            let name = Some(name.as_bytes());
            for (expected, given, variable) in
                [(in_options, name, None), (in_environment, None, name)]
            {
                let mut options = Options::new();
                read(&mut options, &root, given, variable);
                assert_eq!(errors(options), expected, "{name:?}");
            }
        }
    }
}
