//! The channels that the options ask for: pairs of a method and a path.
//!
//! `-m` after a complete pair begins the next one; anything else replaces what the current pair has.
//! So `-m x -p a -p b` is one channel, as with qemu-ga, and `-m x -p a -m y -p b` are two. The first
//! value of a source of settings is for the first channel of earlier sources, and drops their others.
//!
//! Difference from qemu-ga: it serves the last pair only.

use super::port::DEFAULT_PORT;
use crate::base::limits::CHANNELS;

/// Where clients come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// A virtio port.
    VirtioSerial,
    /// Connections to a unix socket.
    UnixListen,
}

impl Method {
    /// The method of this name.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        match name {
            b"virtio-serial" => Some(Self::VirtioSerial),
            b"unix-listen" => Some(Self::UnixListen),
            _ => None,
        }
    }

    /// Its name.
    pub(super) fn name(self) -> &'static [u8] {
        match self {
            Self::VirtioSerial => b"virtio-serial",
            Self::UnixListen => b"unix-listen",
        }
    }

    /// The path of a channel that was given none; `None` if the method has no default.
    fn default_path(self) -> Option<&'static [u8]> {
        match self {
            Self::VirtioSerial => Some(DEFAULT_PORT),
            Self::UnixListen => None,
        }
    }
}

/// One channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChannelOption {
    pub(super) method: Method,
    /// The device or socket; `None` unless set.
    path: Option<&'static [u8]>,
}

impl ChannelOption {
    /// The agent's port.
    pub(super) const DEFAULT: Self = Self {
        method: Method::VirtioSerial,
        path: None,
    };

    /// The device or socket; `None` if the method needs a path that was not set.
    pub(super) fn path(&self) -> Option<&'static [u8]> {
        self.path.or(self.method.default_path())
    }
}

/// All channels, at least one.
#[derive(Debug)]
pub(super) struct ChannelOptions {
    list: heapless::Vec<ChannelOption, CHANNELS>,
    /// Whether the present source has set the method of the last channel.
    has_method: bool,
    /// Whether it has set its path.
    has_path: bool,
}

impl ChannelOptions {
    /// The default: one channel.
    pub(super) fn new() -> Self {
        Self {
            list: heapless::Vec::from_array([ChannelOption::DEFAULT]),
            has_method: false,
            has_path: false,
        }
    }

    /// Begins a source of settings, whose channels replace those of earlier ones.
    pub(super) fn begin_source(&mut self) {
        (self.has_method, self.has_path) = (false, false);
    }

    /// The channels.
    pub(super) fn list(&self) -> &[ChannelOption] {
        &self.list
    }

    /// Takes a method. Returns false if there are too many channels.
    pub(super) fn set_method(&mut self, method: Method) -> bool {
        if self.has_method && self.has_path {
            if self.list.push(ChannelOption::DEFAULT).is_err() {
                return false;
            }
            self.has_path = false;
        }
        self.last().method = method;
        self.has_method = true;
        true
    }

    /// Takes a path.
    pub(super) fn set_path(&mut self, path: &'static [u8]) {
        self.last().path = Some(path);
        self.has_path = true;
    }

    /// The channel that the next value is for. The first value of a source drops all channels but
    /// one.
    fn last(&mut self) -> &mut ChannelOption {
        if !self.has_method && !self.has_path {
            self.list.truncate(1);
        }
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// Takes the agent's port instead of channels without the path that they need. Returns whether
    /// there are any.
    pub(super) fn replace_without_path(&mut self) -> bool {
        let mut any = false;
        for channel in &mut self.list {
            if channel.path().is_none() {
                *channel = ChannelOption::DEFAULT;
                any = true;
            }
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Method::{UnixListen, VirtioSerial};

    /// The channels after these settings: a method behind a dash, all else is a path.
    fn channels(words: &[&'static str]) -> Vec<(Method, Option<&'static str>)> {
        let mut options = ChannelOptions::new();
        for word in words {
            match word.strip_prefix('-') {
                Some(name) => {
                    let method = Method::of(name.as_bytes()).unwrap();
                    assert!(options.set_method(method));
                }
                None => options.set_path(word.as_bytes()),
            }
        }
        let path = |channel: &ChannelOption| channel.path.map(|path| str::from_utf8(path).unwrap());
        let list = options.list().iter();
        list.map(|channel| (channel.method, path(channel)))
            .collect()
    }

    #[test]
    fn method_after_a_complete_pair_begins_the_next() {
        for (words, expected) in [
            (&[][..], &[(VirtioSerial, None)][..]),
            (&["-unix-listen", "a", "b"], &[(UnixListen, Some("b"))]),
            (&["a", "-unix-listen"], &[(UnixListen, Some("a"))]),
            (
                &["-virtio-serial", "-unix-listen", "a"],
                &[(UnixListen, Some("a"))],
            ),
            (
                &["-unix-listen", "a", "-unix-listen", "-virtio-serial"],
                &[(UnixListen, Some("a")), (VirtioSerial, None)],
            ),
            (
                &["-virtio-serial", "a", "-unix-listen", "b", "c"],
                &[(VirtioSerial, Some("a")), (UnixListen, Some("c"))],
            ),
        ] {
            assert_eq!(channels(words), expected, "{words:?}");
        }
    }

    #[test]
    fn refuses_more_channels_than_there_is_room_for() {
        let mut options = ChannelOptions::new();
        for number in 0..=CHANNELS {
            assert_eq!(options.set_method(UnixListen), number < CHANNELS);
            options.set_path(b"a");
        }
        assert_eq!(options.list().len(), CHANNELS);
    }

    #[test]
    fn later_source_replaces_channels_but_keeps_what_it_does_not_set() {
        let mut options = ChannelOptions::new();
        for path in [&b"a"[..], b"b"] {
            options.set_method(UnixListen);
            options.set_path(path);
        }
        options.begin_source();
        assert_eq!(options.list().len(), 2);
        options.set_path(b"c");
        let [channel] = options.list() else {
            panic!("{options:?}");
        };
        assert_eq!(
            (channel.method, channel.path()),
            (UnixListen, Some(&b"c"[..]))
        );
    }
}
