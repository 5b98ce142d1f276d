//! The channels that the options ask for: pairs of a method and a path.
//!
//! The method and the path of a pair may come in either order. What comes behind a complete pair
//! begins the next one; a path there without a method replaces that of the pair, as with qemu-ga. So
//! `-m x -p a -p b` is one channel, and `-m x -p a -p b -m y` are two. Within an incomplete pair the
//! last method and the last path count. The first value of a source of settings is for the first
//! channel of earlier sources, and drops their others.
//!
//! The path of a method that was refused is ignored: one mistake is one error.
//!
//! Differences from qemu-ga: it serves the last pair only; the CID of a vsock listener may be left out.

use super::port::DEFAULT_PORT;
use super::texts::AgentPhrase;
use crate::base::limits::CHANNELS;
use crate::base::text;
use crate::parse::split_once;
use crate::sys::vsock;

/// Something that was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OptionError {
    pub(super) what: AgentPhrase,
    /// The word it is about.
    pub(super) about: &'static [u8],
}

/// Where clients come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// A virtio port.
    VirtioSerial,
    /// A serial line.
    IsaSerial,
    /// Connections to a unix socket.
    UnixListen,
    /// Connections over vsock(7).
    VsockListen,
    /// Connections to a socket that the service manager has made.
    Inherited,
}

impl Method {
    /// The method of this name.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        let named = [
            Self::VirtioSerial,
            Self::IsaSerial,
            Self::UnixListen,
            Self::VsockListen,
        ];
        named.into_iter().find(|method| method.name() == name)
    }

    /// Its name.
    pub(super) fn name(self) -> &'static [u8] {
        match self {
            Self::VirtioSerial => b"virtio-serial",
            Self::IsaSerial => b"isa-serial",
            // qemu-ga calls an inherited socket so, whatever it is.
            Self::UnixListen | Self::Inherited => b"unix-listen",
            Self::VsockListen => b"vsock-listen",
        }
    }

    /// The path of a channel that was given none; `None` if the method has no default.
    fn default_path(self) -> Option<&'static [u8]> {
        match self {
            Self::VirtioSerial => Some(DEFAULT_PORT),
            Self::IsaSerial => Some(b"/dev/ttyS0"),
            Self::UnixListen | Self::VsockListen => None,
            Self::Inherited => Some(b""),
        }
    }

    /// Whether its clients connect to a socket.
    pub(super) fn listens(self) -> bool {
        matches!(self, Self::UnixListen | Self::VsockListen | Self::Inherited)
    }

    /// Whether there may be a device to wait for.
    pub(super) fn has_device(self) -> bool {
        !matches!(self, Self::UnixListen | Self::Inherited)
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

    /// What is wrong with it.
    pub(super) fn error(&self) -> Option<OptionError> {
        match (self.method, self.path()) {
            (_, None) => Some(OptionError {
                what: AgentPhrase::NoPath,
                about: b"",
            }),
            (Method::VsockListen, Some(path)) => vsock_address(path).err(),
            _ => None,
        }
    }

    /// A channel of this method and path.
    #[cfg(test)]
    pub(super) const fn at(method: Method, path: &'static [u8]) -> Self {
        Self {
            method,
            path: Some(path),
        }
    }

    /// A listener at this path.
    #[cfg(test)]
    pub(super) fn unix_listen(path: &std::path::Path) -> Self {
        Self::at(
            Method::UnixListen,
            path.to_str().unwrap().to_owned().leak().as_bytes(),
        )
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
    /// A path behind a complete pair.
    next_path: Option<&'static [u8]>,
    /// Whether the last method was refused.
    was_refused: bool,
}

impl ChannelOptions {
    /// The default: one channel.
    pub(super) fn new() -> Self {
        Self {
            list: heapless::Vec::from_array([ChannelOption::DEFAULT]),
            has_method: false,
            has_path: false,
            next_path: None,
            was_refused: false,
        }
    }

    /// Takes a method, which may have its path behind a colon.
    pub(super) fn take(&mut self, value: &'static [u8]) -> Result<(), AgentPhrase> {
        let (name, path) = split_once(value, b':').unwrap_or((value, b""));
        let what = match Method::of(name) {
            Some(method) if self.set_method(method) => {
                if !path.is_empty() {
                    self.set_path(path);
                }
                return Ok(());
            }
            Some(_) => AgentPhrase::TooManyChannels,
            None => AgentPhrase::NotMethod,
        };
        self.refuse_method();
        Err(what)
    }

    /// Takes a list of channels instead of all before it.
    pub(super) fn take_all(&mut self, list: &'static [u8]) -> Result<(), OptionError> {
        *self = Self::new();
        let mut rest = list;
        while !rest.is_empty() {
            let about = text::cut(&mut rest, b';').trim_ascii_start();
            if !about.is_empty() {
                let taken = self.take(about);
                taken.map_err(|what| OptionError { what, about })?;
                self.end_channel();
            }
        }
        self.end_source();
        Ok(())
    }

    /// Ends a source of settings: channels of the next one replace these.
    pub(super) fn end_source(&mut self) {
        self.end_channel();
        (self.has_method, self.has_path) = (false, false);
    }

    /// Ends the last channel: the next value begins another.
    fn end_channel(&mut self) {
        if let Some(path) = self.next_path.take() {
            self.last().path = Some(path);
        }
        (self.has_method, self.has_path) = (true, true);
        self.was_refused = false;
    }

    /// Takes an inherited socket instead of all channels.
    pub(super) fn inherit(&mut self) {
        self.list.clear();
        let _ = self.list.push(ChannelOption {
            method: Method::Inherited,
            path: None,
        });
    }

    /// The channels.
    pub(super) fn list(&self) -> &[ChannelOption] {
        &self.list
    }

    /// Takes a method. Returns false if there are too many channels.
    fn set_method(&mut self, method: Method) -> bool {
        if self.has_method && self.has_path {
            if self.list.push(ChannelOption::DEFAULT).is_err() {
                return false;
            }
            self.has_path = false;
        }
        self.last().method = method;
        self.has_method = true;
        self.was_refused = false;
        if let Some(path) = self.next_path.take() {
            self.set_path(path);
        }
        true
    }

    /// Ignores the path of a method that was refused.
    fn refuse_method(&mut self) {
        self.next_path = None;
        self.was_refused = true;
    }

    /// Takes a path.
    pub(super) fn set_path(&mut self, path: &'static [u8]) {
        if self.was_refused {
            return;
        }
        if self.has_method && self.has_path {
            self.next_path = Some(path);
            return;
        }
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

    /// Takes the agent's port instead of channels with an error. Returns the last error.
    pub(super) fn replace_wrong(&mut self) -> Option<OptionError> {
        let mut last = None;
        for channel in &mut self.list {
            if let Some(error) = channel.error() {
                *channel = ChannelOption::DEFAULT;
                last = Some(error);
            }
        }
        last
    }
}

/// The CID and the port in the path of a vsock listener, `CID:PORT` or `:PORT`.
pub(super) fn vsock_address(path: &'static [u8]) -> Result<(u32, u32), OptionError> {
    let number = |what, about| text::parse_u32(about).ok_or(OptionError { what, about });
    let (cid, port) = match split_once(path, b':') {
        Some((cid, port)) if !port.is_empty() => (cid, port),
        _ => {
            return Err(OptionError {
                what: AgentPhrase::NotVsockAddress,
                about: path,
            });
        }
    };
    let cid = match cid {
        b"" => vsock::ANY,
        _ => number(AgentPhrase::NotCid, cid)?,
    };
    Ok((cid, number(AgentPhrase::NotVsockPort, port)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Method::{IsaSerial, UnixListen, VirtioSerial, VsockListen};

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
        options.end_source();
        let path = |channel: &ChannelOption| channel.path.map(|path| str::from_utf8(path).unwrap());
        let list = options.list().iter();
        list.map(|channel| (channel.method, path(channel)))
            .collect()
    }

    #[test]
    fn either_option_behind_a_complete_pair_begins_the_next() {
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
            (
                &["a", "-unix-listen", "b", "-vsock-listen"],
                &[(UnixListen, Some("a")), (VsockListen, Some("b"))],
            ),
            (
                &["a", "-unix-listen", "-vsock-listen", "b"],
                &[(UnixListen, Some("a")), (VsockListen, Some("b"))],
            ),
            (
                &[
                    "-unix-listen",
                    "a",
                    "b",
                    "-vsock-listen",
                    "-isa-serial",
                    "c",
                ],
                &[
                    (UnixListen, Some("a")),
                    (VsockListen, Some("b")),
                    (IsaSerial, Some("c")),
                ],
            ),
            (
                &["-unix-listen", "a", "b", "-vsock-listen", "c", "d"],
                &[(UnixListen, Some("a")), (VsockListen, Some("d"))],
            ),
            (&["a", "b", "-unix-listen"], &[(UnixListen, Some("b"))]),
        ] {
            assert_eq!(channels(words), expected, "{words:?}");
        }
    }

    #[test]
    fn vsock_address_has_a_port_and_may_have_a_cid() {
        let address = |path: &'static str| {
            let error = |error: OptionError| (error.what, str::from_utf8(error.about).unwrap());
            vsock_address(path.as_bytes()).map_err(error)
        };
        assert_eq!(address("3:1024"), Ok((3, 1024)));
        assert_eq!(address(":1"), Ok((vsock::ANY, 1)));
        assert_eq!(address("4294967295:0"), Ok((vsock::ANY, 0)));
        for path in ["", "3", "3:", ":"] {
            assert_eq!(address(path), Err((AgentPhrase::NotVsockAddress, path)));
        }
        assert_eq!(address("x:1"), Err((AgentPhrase::NotCid, "x")));
        assert_eq!(
            address("4294967296:1"),
            Err((AgentPhrase::NotCid, "4294967296"))
        );
        assert_eq!(address("3:1:2"), Err((AgentPhrase::NotVsockPort, "1:2")));
    }

    #[test]
    fn refuses_more_channels_than_there_is_room_for() {
        let mut options = ChannelOptions::new();
        for number in 0..=CHANNELS {
            assert_eq!(options.set_method(UnixListen), number < CHANNELS);
            options.set_path(b"a");
        }
        options.end_source();
        assert_eq!(options.list().len(), CHANNELS);
    }

    #[test]
    fn path_of_a_method_that_was_refused_is_ignored() {
        let mut options = ChannelOptions::new();
        options.set_method(VsockListen);
        options.set_path(b":1");
        // Behind the path that it would have had, and before it.
        options.set_path(b"/a");
        options.refuse_method();
        options.set_path(b"/b");
        options.set_method(UnixListen);
        options.set_path(b"/c");
        options.end_source();
        let paths: Vec<_> = options.list().iter().map(ChannelOption::path).collect();
        assert_eq!(paths, [Some(&b":1"[..]), Some(b"/c")]);
        assert_eq!(options.replace_wrong(), None);
    }

    #[test]
    fn later_source_replaces_channels_but_keeps_what_it_does_not_set() {
        let mut options = ChannelOptions::new();
        for path in [&b"a"[..], b"b"] {
            options.set_method(UnixListen);
            options.set_path(path);
        }
        options.end_source();
        assert_eq!(options.list().len(), 2);
        options.set_path(b"c");
        options.end_source();
        let [channel] = options.list() else {
            panic!("{options:?}");
        };
        assert_eq!(
            (channel.method, channel.path()),
            (UnixListen, Some(&b"c"[..]))
        );
    }
}
