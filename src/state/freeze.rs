//! Whether file systems are frozen, for how long yet, and what that means for the agent.
//!
//! From before the first freeze until after the last thaw the agent writes nothing: the log is held,
//! pages are locked in memory. The marker (`state::marker`) tells the next run what a killed one left
//! behind.
//!
//! Hooks that are to be thawed are in a file beside the marker (`state::hooks`). Found without the
//! marker, it says that nothing is frozen any more, but the last run did not get as far as its hooks:
//! they are run at once.
//!
//! The deadline of a freeze counts from the request, that of the frozen guest from the end of the
//! freeze.
//!
//! Differences from qemu-ga: a freeze has a deadline, after which the agent thaws by itself; a marker
//! that cannot be looked at does not count as frozen (Q12), nor does one that another user made.
//!
//! The work itself, the ioctls, is done by children of the agent (`commands::freeze`); here is only
//! what the agent knows of it. [`next`] is the whole of it as a pure function.

use super::texts::LogPhrase;
use crate::base::limits::{FREEZE_TIMEOUT_S, HOOK_MARGIN_MS};
use crate::state::hooks::Ledger;
use crate::state::log::{Level, Log};
use crate::state::marker::{self, Marker, has_marker};
use crate::state::own_file::Version;
use crate::sys::clock::{self, NEVER_MS};
use crate::sys::mem;

/// What the agent knows of the guest's file systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is frozen by us.
    Thawed,
    /// A child is freezing.
    Freezing,
    /// Something is frozen.
    Frozen,
    /// A child is thawing what was frozen.
    Thawing,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A freeze was asked for.
    Freeze,
    /// The freezing child froze something.
    Froze,
    /// The freezing child froze nothing, or undid what it had.
    FrozeNothing,
    /// A thaw was asked for.
    Thaw,
    /// The thawing child is through.
    Thawed,
    /// The thawing child could not do it.
    NotThawed,
    /// The child is lost or given up; anything may be frozen.
    Lost,
}

/// What the agent does about it, besides knowing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Stop writing, lock pages, start the clock.
    Enter,
    /// Undo all that.
    Leave,
    /// Thaw as soon as possible.
    ThawSoon,
}

/// The phase after `event`, and what to do about it.
pub fn next(phase: Phase, event: Event) -> (Phase, Action) {
    match (phase, event) {
        (Phase::Thawed, Event::Freeze) => (Phase::Freezing, Action::Enter),
        (Phase::Freezing, Event::Froze) => (Phase::Frozen, Action::None),
        (Phase::Freezing, Event::FrozeNothing) => (Phase::Thawed, Action::Leave),
        (Phase::Freezing | Phase::Thawing, Event::Lost) => (Phase::Frozen, Action::ThawSoon),
        (Phase::Frozen, Event::Thaw) => (Phase::Thawing, Action::None),
        (Phase::Thawing, Event::Thawed) => (Phase::Thawed, Action::Leave),
        (Phase::Thawing, Event::NotThawed) => (Phase::Frozen, Action::ThawSoon),
        // A thaw without a freeze looks for what others froze and changes nothing here; the rest
        // cannot happen, because such commands run one at a time.
        (phase, _) => (phase, Action::None),
    }
}

/// How long after a thaw that failed, or was lost, the agent tries again by itself.
const RETRY_MS: u64 = 5_000;

/// Seconds that a thaw has at least: to wait for a lock, and for each file system beside a freeze that is
/// stuck.
const THAW_S: u32 = 30;

/// The freeze of this guest.
pub struct Freeze {
    phase: Phase,
    deadline_ms: u64,
    timeout_s: u32,
    marker: Marker,
    /// Whether one was given up, and nothing is known to be thawed since.
    given_up: bool,
    /// The list of hooks when a deadline was over that was put off for them.
    hook_list: Option<Version>,
}

impl Freeze {
    /// Nothing frozen; a freeze ends by itself after `timeout_s` seconds (0: never).
    pub fn new(marker: Marker, timeout_s: u32) -> Self {
        Self {
            phase: Phase::Thawed,
            deadline_ms: NEVER_MS,
            timeout_s,
            marker,
            hook_list: None,
            given_up: false,
        }
    }

    /// Takes over what an earlier run left frozen, and the hooks that it had no time to run after a
    /// thaw: then nothing is frozen, and they are run at once. Gives whether there was anything.
    #[inline(never)]
    pub fn take_over(&mut self, log: &mut Log) -> bool {
        let Some(directory) = self.marker.open_directory() else {
            return false;
        };
        let is_frozen = has_marker(&directory);
        if !is_frozen && directory.has_at(&[marker::NAME]) == Ok(true) {
            log.say(Level::Error, LogPhrase::StrangeMark, &[marker::NAME]);
        }
        if !is_frozen && !Ledger::exists(&directory) {
            return false;
        }
        self.phase = Phase::Frozen;
        self.enter(log);
        if !is_frozen {
            self.deadline_ms = clock::boottime_ms();
        }
        // Written after the thaw: where it would be written now may be frozen.
        let what = match is_frozen {
            true => LogPhrase::WasFrozen,
            false => LogPhrase::HadHooks,
        };
        log.say(Level::Error, what, &[]);
        true
    }

    /// The deadline of a child that freezes or thaws is over. Gives whether it has still to be waited
    /// for, because it runs hooks, which have time limits of their own: nothing is frozen then. Each
    /// hook changes the list; a list that stays the same for longer than `hook_ms`, which one hook may
    /// take, tells of a child that is stuck.
    pub fn waits_for_hooks(&mut self, hook_ms: u64) -> bool {
        let list = match self.marker.open_directory() {
            Some(directory) if !has_marker(&directory) => Ledger::version(&directory),
            _ => None,
        };
        let goes_on = list.is_some() && list != self.hook_list;
        self.hook_list = list;
        if goes_on {
            self.deadline_ms = clock::in_ms(hook_ms);
        }
        goes_on
    }

    /// When hooks must have come to an end for the freeze to be in time, or [`NEVER_MS`].
    pub fn hooks_deadline_ms(&self) -> u64 {
        match self.deadline_ms {
            NEVER_MS => NEVER_MS,
            deadline_ms => deadline_ms.saturating_sub(HOOK_MARGIN_MS),
        }
    }

    /// Whether commands that could write must be refused.
    pub fn is_frozen(&self) -> bool {
        self.phase != Phase::Thawed
    }

    /// Whether a freeze or thaw was given up, or lost: whoever waits for it may wait for ever.
    pub fn was_given_up(&self) -> bool {
        self.given_up
    }

    /// The phase.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When something is to be done without being asked, on [`clock::boottime_ms`]; or [`NEVER_MS`].
    pub fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// What the deadline asked for cannot be done yet.
    pub fn postpone(&mut self) {
        self.deadline_ms = clock::in_ms(RETRY_MS);
    }

    /// Takes note of `event` and does what it asks for.
    pub fn note(&mut self, event: Event, log: &mut Log) {
        let before = self.phase;
        let (phase, action) = next(before, event);
        self.phase = phase;
        self.given_up = phase != Phase::Thawed && (self.given_up || event == Event::Lost);
        match action {
            // A thaw has as long as a freeze, but not less than it may need beside one that is stuck; if
            // it does not come to an end, it is given up and tried anew.
            Action::None if event == Event::Thaw && phase == Phase::Thawing => {
                self.start_clock(THAW_S);
            }
            // What hooks took is not taken off the time that the host has.
            Action::None if event == Event::Froze => self.start_clock(0),
            Action::None => {}
            Action::Enter => self.enter(log),
            Action::Leave => self.leave(log),
            Action::ThawSoon if before == Phase::Freezing => {
                self.deadline_ms = clock::boottime_ms();
            }
            Action::ThawSoon => self.postpone(),
        }
    }

    fn enter(&mut self, log: &mut Log) {
        log.hold();
        // Without the privilege to lock, a freeze is better than none.
        let _ = mem::lock_pages();
        self.hook_list = None;
        self.start_clock(0);
    }

    fn start_clock(&mut self, least_s: u32) {
        self.deadline_ms = match self.timeout_s {
            0 => NEVER_MS,
            s => clock::in_ms(u64::from(s.max(least_s)) * 1000),
        };
    }

    fn leave(&mut self, log: &mut Log) {
        self.deadline_ms = NEVER_MS;
        let _ = mem::unlock_pages();
        log.release();
    }
}

impl Default for Freeze {
    fn default() -> Self {
        Self::new(Marker::of(b"/run"), FREEZE_TIMEOUT_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 4] = [
        Phase::Thawed,
        Phase::Freezing,
        Phase::Frozen,
        Phase::Thawing,
    ];
    const EVENTS: [Event; 7] = [
        Event::Freeze,
        Event::Froze,
        Event::FrozeNothing,
        Event::Thaw,
        Event::Thawed,
        Event::NotThawed,
        Event::Lost,
    ];

    #[test]
    fn only_leaving_makes_it_thawed_and_only_entering_makes_it_frozen() {
        for phase in PHASES {
            for event in EVENTS {
                let (after, action) = next(phase, event);
                let entered = phase == Phase::Thawed && after != Phase::Thawed;
                let left = phase != Phase::Thawed && after == Phase::Thawed;
                assert_eq!(action == Action::Enter, entered, "{phase:?} {event:?}");
                assert_eq!(action == Action::Leave, left, "{phase:?} {event:?}");
            }
        }
    }

    #[test]
    fn a_lost_child_never_counts_as_thawed() {
        for phase in [Phase::Freezing, Phase::Thawing] {
            assert_eq!(next(phase, Event::Lost), (Phase::Frozen, Action::ThawSoon));
        }
        assert_eq!(next(Phase::Thawing, Event::NotThawed).0, Phase::Frozen);
    }

    #[test]
    fn a_second_freeze_changes_nothing() {
        for phase in [Phase::Freezing, Phase::Frozen, Phase::Thawing] {
            assert_eq!(next(phase, Event::Freeze), (phase, Action::None));
        }
    }

    #[test]
    fn the_marker_outlives_the_agent() {
        let path = std::env::temp_dir().join(format!("gaunt-freeze-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let name: &'static [u8] = Box::leak(path.to_str().unwrap().to_owned().into_bytes().into());
        let marker = path.join("qga.state.isfrozen");
        let mut log = Log::new();
        let mut freeze = Freeze::new(Marker::of(name), 60);
        assert!(!freeze.take_over(&mut log));
        freeze.note(Event::Freeze, &mut log);
        assert!(freeze.marker.make());
        assert!(marker.exists() && freeze.is_frozen() && freeze.deadline_ms() != NEVER_MS);

        let mut freeze = Freeze::new(Marker::of(name), 0);
        assert!(freeze.take_over(&mut log));
        assert_eq!(
            (freeze.phase(), freeze.deadline_ms()),
            (Phase::Frozen, NEVER_MS)
        );
        freeze.note(Event::Thaw, &mut log);
        freeze.marker.remove();
        freeze.note(Event::Thawed, &mut log);
        assert!(!marker.exists() && !freeze.is_frozen());
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn only_a_marker_of_our_own_counts_where_others_may_make_files() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
        let path = std::env::temp_dir().join(format!("gaunt-marker-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let name: &'static [u8] = Box::leak(path.to_str().unwrap().to_owned().into_bytes().into());
        let marker = path.join("qga.state.isfrozen");
        let mode = |path: &std::path::Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let counts = || {
            let mut log = Log::new();
            let mut freeze = Freeze::new(Marker::of(name), 0);
            let counts = freeze.take_over(&mut log);
            freeze.note(Event::Thaw, &mut log);
            freeze.note(Event::Thawed, &mut log);
            counts
        };
        let freeze = Freeze::new(Marker::of(name), 0);
        let fifo = || {
            let mut command = std::process::Command::new("mkfifo");
            assert!(command.arg(&marker).status().unwrap().success());
        };
        let own = || {
            std::fs::write(&marker, "").unwrap();
            mode(&marker, 0o600);
        };
        type Make<'a> = (&'a str, bool, &'a dyn Fn());
        let strangers: [Make<'_>; 6] = [
            ("a FIFO", false, &fifo),
            ("a link", false, &|| symlink("/dev/null", &marker).unwrap()),
            ("one that others may write", false, &|| {
                own();
                mode(&marker, 0o620);
            }),
            ("one with content", false, &|| {
                own();
                std::fs::write(&marker, "x").unwrap();
            }),
            ("one with another name", false, &|| {
                own();
                std::fs::hard_link(&marker, path.join("other")).unwrap();
            }),
            ("our own", true, &own),
        ];
        for (what, is_own, make) in strangers {
            make();
            // Where nobody else can have made it, the name is enough, as with qemu-ga.
            mode(&path, 0o755);
            assert!(counts(), "{what}");
            mode(&path, 0o1777);
            assert_eq!(counts(), is_own, "{what}");
            // It gives way to our own.
            assert!(freeze.marker.make(), "{what}");
            assert!(counts(), "{what}");
            freeze.marker.remove();
            assert!(!counts() && !marker.exists(), "{what}");
        }
        // Only root can give files away.
        if std::fs::metadata(&path).unwrap().uid() == 0 {
            own();
            chown(&marker, Some(65_534), None).unwrap();
            assert!(!counts());
            freeze.marker.remove();
        }
        // One that cannot be removed is not taken for a marker either.
        std::fs::create_dir(&marker).unwrap();
        assert!(!counts() && !freeze.marker.make());
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn after_a_child_that_was_lost_or_given_up_a_thaw_is_due_until_one_succeeds() {
        let mut log = Log::new();
        let mut freeze = Freeze::new(Marker::of(b"/nonexistent"), 60);
        freeze.note(Event::Freeze, &mut log);
        freeze.note(Event::Lost, &mut log);
        let due_ms = freeze.deadline_ms();
        assert!(freeze.phase() == Phase::Frozen && due_ms <= clock::boottime_ms());
        freeze.note(Event::Thaw, &mut log);
        freeze.note(Event::Lost, &mut log);
        let again_ms = freeze.deadline_ms();
        assert!(
            again_ms != NEVER_MS && again_ms > clock::boottime_ms(),
            "not at once"
        );
        freeze.note(Event::Thaw, &mut log);
        freeze.note(Event::Thawed, &mut log);
        assert_eq!(
            (freeze.phase(), freeze.deadline_ms()),
            (Phase::Thawed, NEVER_MS)
        );
    }

    #[test]
    fn a_deadline_is_put_off_only_while_hooks_go_on() {
        use crate::state::hooks::Ledger;
        use crate::sys::mem::Buffer;
        let directory = crate::sys::testing::Directory::new("freeze-hooks");
        let path = directory.path.to_str().unwrap().to_owned();
        let mut log = Log::new();
        let mut freeze = Freeze::new(Marker::of(Box::leak(path.into_bytes().into())), 60);
        freeze.note(Event::Freeze, &mut log);
        assert!(!freeze.waits_for_hooks(7_000), "there are none");
        let mut ledger = Ledger::of(Buffer::growing(1000));
        ledger.keep_in(directory.open()).unwrap();
        ledger.add(b"/a").unwrap();
        let before_ms = clock::boottime_ms();
        assert!(freeze.waits_for_hooks(7_000));
        assert!(freeze.deadline_ms().abs_diff(before_ms + 7_000) < 1_000);
        ledger.add(b"/b").unwrap();
        assert!(freeze.waits_for_hooks(7_000));
        assert!(!freeze.waits_for_hooks(7_000), "one takes too long");
        // Beyond hooks, the kernel has the child.
        ledger.add(b"/c").unwrap();
        assert!(freeze.marker.make() && !freeze.waits_for_hooks(7_000));
        freeze.marker.remove();
        freeze.note(Event::FrozeNothing, &mut log);
    }
}
