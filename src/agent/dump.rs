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
use super::options::{DEFAULT_HOOK, FALSE, Key, Options, PID_FILE, ROWS, names};
use crate::base::sink::{ByteSink, Full, append_all};
use crate::commands::{PREFIX, all, set_named};
use crate::parse::config::escape;
use crate::state::filter::bit;

/// Appends the file.
pub(super) fn dump(options: &Options, file: &mut dyn ByteSink) -> Result<(), Full> {
    let channels = options.channels.list();
    file.append(b"[general]")?;
    for row in ROWS.iter().filter(|row| row.key.is_setting()) {
        let text = options.text(row.key);
        let value: Option<&[u8]> = match row.key {
            Key::BlockRpcs if row.help.is_none() => None,
            Key::BlockRpcs | Key::AllowRpcs => Some(b""),
            Key::Config => None,
            Key::Method => channels.last().map(|last| last.method.name()),
            Key::Path => channels.last().and_then(|last| last.path()),
            Key::Channels => (channels.len() > 1).then_some(b""),
            Key::StateDirectory => Some(options.state_directory),
            Key::PidFile => text.or(Some(PID_FILE)),
            Key::Daemonize | Key::Verbose | Key::RetryPath => text.or(Some(FALSE)),
            Key::FreezeHook if text == Some(b"") => Some(DEFAULT_HOOK),
            _ => text,
        };
        let Some(value) = value else { continue };
        append_all(file, &[b"\n", row.key_in_file(), b"="])?;
        escape(value, file)?;
        match row.key {
            Key::BlockRpcs | Key::AllowRpcs => put_lists(options, row.key, file)?,
            Key::Channels => put_channels(channels, file)?,
            _ => {}
        }
    }
    file.append(b"\n")
}

/// Appends several channels.
fn put_channels(channels: &[ChannelOption], file: &mut dyn ByteSink) -> Result<(), Full> {
    let mut before: &[u8] = b"";
    for channel in channels {
        let path = channel.path().unwrap_or_default();
        if path.contains(&b';') {
            return Err(Full);
        }
        append_all(file, &[before, channel.method.name(), b":"])?;
        escape(path, file)?;
        before = b";";
    }
    Ok(())
}

/// Appends the lists of a key as one, with commas between them; one that names a set, name by name.
fn put_lists(options: &Options, key: Key, file: &mut dyn ByteSink) -> Result<(), Full> {
    let mut comma: &[u8] = b"";
    for (_, list) in options.lists().iter().filter(|(of, _)| *of == key) {
        let mut put = |name: &[&[u8]]| {
            file.append(comma)?;
            comma = b",";
            name.iter().try_for_each(|piece| escape(piece, file))
        };
        if !names(list).any(|name| set_named(name).is_some()) {
            put(&[list])?;
            continue;
        }
        for name in names(list) {
            let Some(set) = set_named(name) else {
                put(&[name])?;
                continue;
            };
            let mut commands = all().enumerate();
            commands.try_for_each(|(index, command)| match bit(index) & set {
                0 => Ok(()),
                _ => put(&[PREFIX, command.name()]),
            })?;
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
