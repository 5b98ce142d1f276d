//! `--dump-conf`: the settings as a configuration file that this agent and qemu-ga read back.
//!
//! Keys that qemu-ga knows are always there, if they have a value; those of this agent alone if they
//! were set. Lists are printed as they were given, but for sets of commands, which qemu-ga does not
//! know: their names are those of their commands.
//!
//! Of several channels the last, the one that qemu-ga would serve, has its method and path printed; all
//! are in `channels`, which this agent alone reads. A path with a semicolon has no place there: then
//! there is no file.

use super::channel_options::ChannelOption;
use super::options::{
    DEFAULT_HOOK, FALSE, Key, OLD_NAME, OptionValue, Options, PID_FILE, ROWS, names,
};
use crate::base::sink::{ByteSink, Full};
use crate::commands::{PREFIX, all, set_named};
use crate::state::filter::{CommandList, bit};

/// Appends the file.
pub(super) fn dump(options: &Options, file: &mut dyn ByteSink) -> Result<(), Full> {
    file.append(b"[general]\n")?;
    let rows = ROWS
        .iter()
        .filter(|row| row.key.is_setting() && row.key != Key::Config && row.long != OLD_NAME);
    for row in rows {
        let list = match row.key {
            Key::BlockRpcs => Some(CommandList::Blocked),
            Key::AllowRpcs => Some(CommandList::Allowed),
            _ => None,
        };
        let text = options.text(row.key).or(default(row.key));
        let value = match (row.key, text) {
            (Key::Method, _) => options
                .channels
                .list()
                .last()
                .map(|last| last.method.name()),
            (Key::Path, _) => options.channels.list().last().and_then(|last| last.path()),
            (Key::FreezeHook, Some(b"")) => Some(DEFAULT_HOOK),
            (Key::Channels, _) => None,
            _ if row.value == OptionValue::None && text == Some(b"") => Some(&b"true"[..]),
            _ => text,
        };
        if row.key == Key::Channels {
            put_channels(options.channels.list(), file)?;
        }
        if value.is_none() && list.is_none() {
            continue;
        }
        file.append(row.key_in_file())?;
        file.append(b"=")?;
        match list {
            Some(list) => put_list(options, list, file)?,
            None => escape(value.unwrap_or_default(), file)?,
        }
        file.append(b"\n")?;
    }
    Ok(())
}

/// What a key of qemu-ga says that was not set.
fn default(key: Key) -> Option<&'static [u8]> {
    match key {
        Key::Daemonize | Key::Verbose | Key::RetryPath => Some(FALSE),
        Key::PidFile => Some(PID_FILE),
        Key::StateDirectory => Some(b"/run"),
        _ => None,
    }
}

/// Appends the key of several channels.
fn put_channels(channels: &[ChannelOption], file: &mut dyn ByteSink) -> Result<(), Full> {
    let [_, _, ..] = channels else { return Ok(()) };
    let mut before: &[u8] = b"channels=";
    for channel in channels {
        let path = channel.path().unwrap_or_default();
        if path.contains(&b';') {
            return Err(Full);
        }
        for piece in [before, channel.method.name(), b":"] {
            file.append(piece)?;
        }
        escape(path, file)?;
        before = b";";
    }
    file.append(b"\n")
}

/// Appends all pieces of a list, with commas between them.
fn put_list(options: &Options, list: CommandList, file: &mut dyn ByteSink) -> Result<(), Full> {
    let mut comma: &[u8] = b"";
    for (_, piece) in options.lists().iter().filter(|(of, _)| *of == list) {
        file.append(comma)?;
        comma = b",";
        if !names(piece).any(|name| set_named(name).is_some()) {
            escape(piece, file)?;
            continue;
        }
        let mut comma: &[u8] = b"";
        for name in names(piece) {
            let set = set_named(name).unwrap_or(0);
            let commands = all()
                .enumerate()
                .filter(|(index, _)| bit(*index) & set != 0);
            for (_, command) in commands {
                file.append(comma)?;
                file.append(PREFIX)?;
                file.append(command.name())?;
                comma = b",";
            }
            if set == 0 {
                file.append(comma)?;
                escape(name, file)?;
                comma = b",";
            }
        }
    }
    Ok(())
}

/// Appends a value with escapes, without which its blanks at the beginning would be lost.
fn escape(value: &[u8], file: &mut dyn ByteSink) -> Result<(), Full> {
    let mut begins = true;
    for byte in value {
        begins &= byte.is_ascii_whitespace();
        let letter = match byte {
            b' ' if begins => b's',
            b'\t' if begins => b't',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\\' => b'\\',
            _ => 0,
        };
        match letter {
            0 => file.append(&[*byte])?,
            letter => file.append(&[b'\\', letter])?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::config;
    use crate::base::sink::testing::Heap;
    use crate::state::hooks::Main;
    use crate::sys::testing::Tree;

    fn dumped(options: &Options) -> String {
        let mut file = Heap::default();
        dump(options, &mut file).unwrap();
        String::from_utf8(file.0).unwrap()
    }

    /// What a file says, as it is dumped.
    fn dumped_again(file: &str) -> String {
        let tree = Tree::new();
        tree.file("etc/qemu/qemu-ga.conf", file);
        let mut options = Options::new();
        config::read(&mut options, &tree.root, None, None);
        options.settle(false);
        assert!(options.errors().is_empty(), "{file}");
        dumped(&options)
    }

    #[test]
    fn defaults_are_those_of_qemu_ga_but_for_directories() {
        let file = dumped(&Options::new());
        let mut lines: Vec<_> = file.lines().collect();
        assert_eq!(lines.remove(0), "[general]");
        lines.sort();
        let expected = [
            "allow-rpcs=",
            "block-rpcs=",
            "daemon=false",
            "method=virtio-serial",
            "path=/dev/virtio-ports/org.qemu.guest_agent.0",
            "pidfile=/run/qemu-ga.pid",
            "retry-path=false",
            "statedir=/run",
            "verbose=false",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn dump_is_read_back_as_it_is() {
        let file = "[general]\nblock-rpcs=\\s a,b\\n;c\nverbose=1\npath=\\t\\s\\\\ \\t x\nretry-path=0\n\
                    hook-timeout=5\nabort-fuse=true\nfsfreeze-hook=\nstatedir=/s\n\
                    authorized-keys=/etc/%u\n";
        let once = dumped_again(file);
        for line in [
            "block-rpcs=\\s\\sa,b\\n;c",
            "verbose=true",
            "path=\\t\\s\\\\ \t x",
            "hook-timeout=5",
            "abort-fuse=true",
            "fsfreeze-hook=/etc/qemu/fsfreeze-hook",
            "statedir=/s",
            "authorized-keys=/etc/%u",
        ] {
            assert!(once.lines().any(|other| other == line), "{line}: {once}");
        }
        assert_eq!(dumped_again(&once), once);
        // As QEMU's own test of its agent has it.
        let file = "[general]\ndaemon=false\nmethod=virtio-serial\npath=/p/org.qemu.guest_agent.0\n\
                    pidfile=/v/foo.pid\nstatedir=/v/state\nverbose=true\n\
                    block-rpcs=guest-ping;guest-get-time\n";
        let once = dumped_again(file);
        for line in file.lines() {
            assert!(once.lines().any(|other| other == line), "{line}: {once}");
        }
    }

    #[test]
    fn several_channels_are_read_back_as_they_are() {
        let file = "[general]\nmethod=unix-listen\npath=/x\n\
                    channels=virtio-serial; vsock-listen::1234;unix-listen:/a:b c\\n;\n";
        let once = dumped_again(file);
        for line in [
            "channels=virtio-serial:/dev/virtio-ports/org.qemu.guest_agent.0;\
             vsock-listen::1234;unix-listen:/a:b c\\n",
            "method=unix-listen",
            "path=/a:b c\\n",
        ] {
            assert!(once.lines().any(|other| other == line), "{line}: {once}");
        }
        assert_eq!(dumped_again(&once), once);
        // One is as qemu-ga has it.
        let one = dumped_again("[general]\nchannels=unix-listen:/a\n");
        assert!(one.contains("\npath=/a\n") && !one.contains("channels"));
        let mut options = Options::new();
        for path in [&b"/a"[..], b"/b;c"] {
            options.set(Key::Method, b"unix-listen").unwrap();
            options.set(Key::Path, path).unwrap();
        }
        assert!(dump(&options, &mut Heap::default()).is_err());
    }

    #[test]
    fn default_hook_is_the_default_when_it_is_read_back() {
        let tree = Tree::new();
        let mut options = Options::new();
        options.set(Key::FreezeHook, b"").unwrap();
        tree.file("etc/qemu/qemu-ga.conf", dumped(&options));
        let mut again = Options::new();
        config::read(&mut again, &tree.root, None, None);
        assert_eq!(again.hooks.main, options.hooks.main);
        assert_eq!(again.hooks.main, Main::Default);
    }

    #[test]
    fn lists_of_all_sources_are_one() {
        let mut options = Options::new();
        for value in [&b"a;b"[..], b"", b"c"] {
            options.set(Key::BlockRpcs, value).unwrap();
        }
        options.set(Key::AllowRpcs, b"d").unwrap();
        let file = dumped(&options);
        assert!(file.contains("\nblock-rpcs=a;b,c\n") && file.contains("\nallow-rpcs=d\n"));
        options.set(Key::AllowRpcs, b"x;@lifecycle, y").unwrap();
        let file = dumped(&options);
        let (_, list) = file
            .split_once("allow-rpcs=d,x,guest-sync-delimited,")
            .unwrap();
        let (list, _) = list.split_once('\n').unwrap();
        assert!(
            list.contains(",guest-shutdown,") && list.ends_with(",y"),
            "{list}"
        );
        assert!(!list.contains("guest-exec"), "{list}");
        assert!(dump(&options, &mut heapless::Vec::<u8, 40>::new()).is_err());
    }
}
