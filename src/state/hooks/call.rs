//! Options of hooks, the arguments of one hook, and its failure.

use crate::base::limits::{HOOK_SPARE_MS, HOOK_TIMEOUT_S};

/// The owner of every hook: root, because hooks run as root.
pub(super) const OWNER: u32 = 0;

/// The option `--fsfreeze-hook`: where the main hook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Main {
    /// No hooks.
    None,
    /// At the path that distributions use.
    Default,
    /// At this path.
    At(&'static [u8]),
}

impl Main {
    /// The path that was given, if there was one; `None` without hooks.
    pub fn given(self) -> Option<Option<&'static [u8]>> {
        match self {
            Self::None => None,
            Self::Default => Some(None),
            Self::At(path) => Some(Some(path)),
        }
    }
}

/// The options of hooks.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Where the main hook is.
    pub main: Main,
    /// The time limit of one hook, in seconds.
    pub timeout_s: u32,
    /// Whether a failure is only logged.
    pub ignore_failures: bool,
}

impl Settings {
    /// No hooks.
    pub const fn none() -> Self {
        Self {
            main: Main::None,
            timeout_s: HOOK_TIMEOUT_S,
            ignore_failures: false,
        }
    }

    /// The most milliseconds that one hook takes, including its end, list and log.
    pub fn hook_ms(&self) -> u64 {
        u64::from(self.timeout_s) * 1000 + HOOK_SPARE_MS
    }
}

/// A hook and its argument.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    /// Its path. In a failure: the file that the failure is about.
    pub(super) hook: &'a [u8],
    /// Its argument.
    pub(super) word: &'static [u8],
}

impl<'a> Call<'a> {
    /// Brings the application to rest.
    pub(super) const fn freeze(hook: &'a [u8]) -> Self {
        let word = b"freeze";
        Self { hook, word }
    }

    /// Lets the application go on.
    pub(super) const fn thaw(hook: &'a [u8]) -> Self {
        let word = b"thaw";
        Self { hook, word }
    }
}

/// A hook failed. `Session::failure` has the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookFailure {
    /// Whether the hook was started.
    pub(super) started: bool,
    /// Whether the remaining hooks must not be started.
    pub(super) is_final: bool,
}
