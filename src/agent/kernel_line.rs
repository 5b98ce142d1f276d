//! Options on the kernel's command line, for any agent: words such as `gaunt.block-rpcs=guest-exec`.
//!
//! Names are long ones, never shortened. A value must not be empty, unless the option needs none; one
//! of a flag is a truth value.
//!
//! Of other words PID 1 gets those that its kernel does not know. One such as `--block-rpcs=guest-exec`,
//! unless it stands behind `--`, becomes an entry of its environment (`agent::command_line` reads it). Of
//! entries that share a name the kernel keeps the last alone; [`check_environment`] finds those that
//! were lost.

use super::command_line::{find_long, split_value};
use super::options::{OptionValue, Options, TRUE};
use super::texts::AgentPhrase;
use crate::base::sink::ByteSink;
use crate::parse::{cmdline, config};
use crate::sys::mem::Buffer;
use crate::sys::root::Root;

/// How a word begins that is for the agent.
const PREFIX: &[u8] = b"gaunt.";

/// Reads the words of the kernel's command line that are for the agent.
pub(super) fn read(options: &mut Options, root: &Root) {
    // Without /proc there is no such line.
    let _ = root.lines_at(&[b"proc/cmdline"], &mut |line| {
        for word in cmdline::words(line) {
            if cmdline::unquoted(word).take(PREFIX.len()).eq(PREFIX) {
                let mut text = Buffer::lasting(word.len());
                // There is room for the whole word.
                let _ = cmdline::unquoted(word).try_for_each(|byte| text.append(&[*byte]));
                read_word(options, text.take());
            }
        }
        true
    });
}

/// Reads one word, without quotes.
fn read_word(options: &mut Options, word: &'static [u8]) {
    let (name, value) = split_value(word.get(PREFIX.len()..).unwrap_or_default());
    let row = match find_long(name) {
        // A shortened name might be ambiguous for a later version.
        Ok(row) if row.long().len() == name.len() && row.key.is_setting() => row,
        _ => return options.fail_closed(AgentPhrase::UnknownOption, word),
    };
    let value = match (row.value, value) {
        (OptionValue::Flag, None) => Ok(TRUE),
        (OptionValue::Flag, Some(value)) => config::truth(value).ok_or(AgentPhrase::NotConfigValue),
        (OptionValue::Required, None | Some(b"")) => Err(AgentPhrase::NoValue),
        (_, value) => Ok(value.unwrap_or_default()),
    };
    match value {
        Ok(value) => options.take(row.key, value),
        Err(what) => options.fail_closed(what, word),
    }
}

/// Checks that every option among the kernel's own words reached this process. The kernel keeps one
/// word of each name: of two block lists the first is lost.
pub(super) fn check_environment(
    options: &mut Options,
    root: &Root,
    environment: impl Iterator<Item = &'static [u8]> + Clone,
) {
    let mut lost = false;
    // Without /proc nothing can be checked.
    let _ = root.lines_at(&[b"proc/cmdline"], &mut |line| {
        let mut words = cmdline::environment_words(line);
        lost |= words.any(|word| {
            let mut entries = environment.clone();
            word.starts_with(b"-") && !entries.any(|entry| cmdline::is_same(word, entry))
        });
        !lost
    });
    if lost {
        options.fail_closed(AgentPhrase::OptionDropped, b"");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::command_line::tests::{allows, is_closed, of_init, path, words};
    use crate::agent::options::Key;
    use crate::state::hooks::Main;
    use crate::sys::testing::Tree;

    #[test]
    fn pid_1_finds_out_that_the_kernel_dropped_options() {
        let tree = Tree::new();
        tree.directory("proc");
        let kept = ["HOME=/", "x=y", "--block-rpcs=b", "-p=/a b"];
        for (line, is_whole) in [
            ("quiet x=y --block-rpcs=b -v -p=\"/a b\"\n", true),
            ("other=x \"-p=/a b\" -- --block-rpcs=c", true),
            ("--block-rpcs=a --block-rpcs=b", false),
            ("-p=\"/a  b\"", false),
        ] {
            tree.file("proc/cmdline", line);
            let mut read = of_init(&[], &kept);
            check_environment(&mut read, &tree.root, words(&kept));
            assert_eq!(is_closed(&read), !is_whole, "{line}");
        }
    }

    #[test]
    fn kernel_line_sets_options_by_their_long_names() {
        let tree = Tree::new();
        tree.directory("proc");
        let read = |line: &str| {
            tree.file("proc/cmdline", line);
            let mut options = Options::new();
            super::read(&mut options, &tree.root);
            options.settle(false);
            options
        };
        let options = read(
            "quiet gaunt.block-rpcs=guest-exec,guest-ping gaunt.block-rpcs=\"guest-sync ; guest-info\" \
             \"gaunt.path=/a b\" gaunt.verbose --gaunt.path=/c xgaunt.path=/c gauntpath=/c \
             gaunt.abort-fuse=0 gaunt.fsfreeze-hook -- gaunt.freeze-timeout=5\n",
        );
        assert!(options.errors().is_empty(), "{:?}", options.errors());
        for name in ["exec", "ping", "sync", "info"] {
            assert!(!allows(&options, name), "{name}");
        }
        assert!(allows(&options, "get-time"));
        assert_eq!(path(&options), b"/a b");
        assert!(options.is_on(Key::Verbose) && !options.is_on(Key::AbortFuse));
        assert_eq!(options.freeze_timeout_s, 5);
        assert_eq!(options.hooks.main, Main::Default);
        assert!(!read("gaunt.verbose=1 gaunt.verbose=false").is_on(Key::Verbose));
        for word in [
            "gaunt.",
            "gaunt.frob=1",
            "gaunt.block_rpcs=guest-exec",
            "gaunt.block=guest-exec",
            "gaunt.blacklis=guest-exec",
            "gaunt.verb",
            "gaunt.freeze-timeout-s=5",
            "gaunt.block-rpcs",
            "gaunt.allow-rpcs=",
            "gaunt.verbose=yes",
            "gaunt.verbose=",
            "gaunt.help",
            "gaunt.dump-conf",
            "gaunt.version=1",
            "gaunt.method=pigeon",
            "gaunt.method=unix-listen",
            "gaunt.freeze-timeout=soon",
        ] {
            assert!(is_closed(&read(word)), "{word}");
        }
        assert!(!is_closed(&read("quiet ro")));
    }
}
