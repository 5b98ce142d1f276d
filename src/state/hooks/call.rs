//! What is told about hooks on the command line, what one hook is told, and how it fails.

use crate::base::limits::{HOOK_SPARE_MS, HOOK_TIMEOUT_S};

/// The user that hooks must belong to: root, in whose name they run.
pub(super) const OWNER: u32 = 0;

/// Where the main hook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Main {
    /// There are no hooks.
    None,
    /// Where distributions have it.
    Default,
    /// At this path.
    At(&'static [u8]),
}

/// What is told about hooks on the command line.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Where the main hook is.
    pub main: Main,
    /// The seconds that one hook has.
    pub timeout_s: u32,
    /// Whether a hook that fails is only logged.
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

    /// How long one hook may take, in milliseconds, with all that is done about it.
    pub fn hook_ms(&self) -> u64 {
        u64::from(self.timeout_s) * 1000 + HOOK_SPARE_MS
    }
}

/// A hook and what it is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    /// Its path, and in a failure whatever else that is about.
    pub(super) hook: &'a [u8],
    /// Its argument.
    pub(super) word: &'static [u8],
}

impl<'a> Call<'a> {
    /// To bring its application to rest.
    pub(super) const fn freeze(hook: &'a [u8]) -> Self {
        let word = b"freeze";
        Self { hook, word }
    }

    /// To let it go on.
    pub(super) const fn thaw(hook: &'a [u8]) -> Self {
        let word = b"thaw";
        Self { hook, word }
    }
}

/// A hook failed. What became of it is in `Session::failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether it was started.
    pub(super) started: bool,
    /// Whether no other hook is to be started either.
    pub(super) is_final: bool,
}
