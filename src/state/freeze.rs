//! The freeze as the agent sees it: its phase, its deadline, its marker.
//!
//! Children of the agent do the work (`commands::freeze`). [`next`] is the state machine, a pure
//! function.
//!
//! From before the first FIFREEZE until after the last FITHAW the agent writes to no file: the log
//! is held, and pages are locked in memory. The marker (`state::marker`) tells the next run that
//! something is frozen. The list of hooks that need their thaw lies beside it (`state::hooks`). A
//! list without a marker means that everything is thawed, but the last run was killed before its
//! hooks: they run at once.
//!
//! A freeze must be complete within the freeze timeout, counted from the request. From its end the
//! freeze timeout is counted anew: then the agent thaws. Without a freeze timeout what is frozen stays
//! frozen, but a freeze or a thaw that hangs is given up after [`FREEZE_TIMEOUT_S`]: every later thaw
//! and shutdown would wait for it. A thaw that waits for a freeze gives it [`UNDO_MS`].
//!
//! Differences from qemu-ga: the freeze timeout; a marker that cannot be looked at does not count
//! as frozen, nor does a marker that another user made.

use super::texts::LogPhrase;
use crate::base::limits::{FREEZE_TIMEOUT_S, UNDO_MS};
use crate::state::hooks::Ledger;
use crate::state::log::{Level, Log};
use crate::state::marker::{self, Marker, has_marker};
use crate::state::own_file::Version;
use crate::sys::clock::{self, NEVER_MS};
use crate::sys::mem;

/// The state of the guest's file systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The agent has frozen nothing.
    Thawed,
    /// A child is freezing.
    Freezing,
    /// Something is or may be frozen, or hooks of an earlier run still need their thaw.
    Frozen,
    /// A child is thawing what was frozen.
    Thawing,
}

/// A request, or the result of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreezeEvent {
    /// A freeze begins.
    Freeze,
    /// The freezing child froze something.
    Froze,
    /// The freezing child froze nothing, or undid its freeze.
    FrozeNothing,
    /// A thaw begins.
    Thaw,
    /// The thawing child thawed everything.
    Thawed,
    /// The thawing child failed.
    NotThawed,
    /// The child thawed everything but a file system that hangs in the kernel.
    Hangs,
    /// The child died or was killed. Anything may be frozen.
    Lost,
}

/// The reaction of the agent to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreezeAction {
    /// Nothing.
    None,
    /// Hold the log, lock pages, set the deadline.
    Enter,
    /// Undo [`FreezeAction::Enter`].
    Leave,
    /// Set the deadline to the next attempt to thaw.
    ThawSoon,
}

/// Returns the phase after `event`, and the reaction.
pub fn next(phase: Phase, event: FreezeEvent) -> (Phase, FreezeAction) {
    match (phase, event) {
        (Phase::Thawed, FreezeEvent::Freeze) => (Phase::Freezing, FreezeAction::Enter),
        (Phase::Freezing, FreezeEvent::Froze) => (Phase::Frozen, FreezeAction::None),
        (Phase::Freezing, FreezeEvent::FrozeNothing) => (Phase::Thawed, FreezeAction::Leave),
        (Phase::Freezing | Phase::Thawing, FreezeEvent::Hangs | FreezeEvent::Lost) => {
            (Phase::Frozen, FreezeAction::ThawSoon)
        }
        (Phase::Frozen, FreezeEvent::Thaw) => (Phase::Thawing, FreezeAction::None),
        (Phase::Thawing, FreezeEvent::Thawed) => (Phase::Thawed, FreezeAction::Leave),
        (Phase::Thawing, FreezeEvent::NotThawed) => (Phase::Frozen, FreezeAction::ThawSoon),
        // A thaw without a freeze thaws what other programs froze. Other pairs do not occur,
        // because freeze and thaw run one at a time.
        (phase, _) => (phase, FreezeAction::None),
    }
}

/// Milliseconds between a thaw that failed and the next attempt.
const RETRY_MS: u64 = 5_000;

/// Seconds that a thaw has at least, however short the freeze timeout: for the lock of the marker,
/// and for each file system that hangs.
const THAW_S: u32 = 30;

/// The freeze of this guest.
pub struct Freeze {
    phase: Phase,
    deadline_ms: u64,
    timeout_s: u32,
    marker: Marker,
    /// Whether a child hung or was lost since the freeze began.
    given_up: bool,
    /// Whether the last of these children hung, with everything else thawed.
    hangs: bool,
    /// The list of hooks when the deadline was last put off for them.
    hook_list: Option<Version>,
    /// Whether pages were unlocked, and [`Freeze::was_unlocked`] has not told.
    unlocked: bool,
}

impl Freeze {
    /// Nothing is frozen. The freeze timeout is `timeout_s`, 0 for none.
    pub fn new(marker: Marker, timeout_s: u32) -> Self {
        Self {
            phase: Phase::Thawed,
            deadline_ms: NEVER_MS,
            timeout_s,
            marker,
            hook_list: None,
            unlocked: false,
            given_up: false,
            hangs: false,
        }
    }

    /// Takes over the freeze of an earlier run, or the hooks that it did not run after its thaw.
    /// Returns whether it left either.
    // Not inlined: the caller keeps its stack for as long as the agent runs.
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
        self.deadline_ms = match is_frozen {
            true => self.thaw_due_ms(),
            false => clock::boottime_ms(),
        };
        // The log is held: this line is written after the thaw.
        let what = match is_frozen {
            true => LogPhrase::WasFrozen,
            false => LogPhrase::HadHooks,
        };
        log.say(Level::Error, what, &[]);
        true
    }

    /// Puts off the deadline of a child that runs hooks, which have time limits of their own.
    /// Returns whether it did. Each hook changes the list of hooks: if the list has not changed for
    /// `hook_ms`, more than the limit of a hook, the child hangs.
    pub fn waits_for_hooks(&mut self, hook_ms: u64) -> bool {
        let list = self.hook_list_now();
        let goes_on = list.is_some() && list != self.hook_list;
        self.hook_list = list;
        if goes_on {
            self.deadline_ms = clock::in_ms(hook_ms);
        }
        goes_on
    }

    fn hook_list_now(&self) -> Option<Version> {
        let directory = self.marker.open_directory();
        directory.as_ref().and_then(Ledger::version)
    }

    /// The end of a freeze that has just begun. Its child then undoes the freeze; the agent kills the
    /// child [`UNDO_MS`] later.
    pub fn freeze_deadline_ms(&self) -> u64 {
        self.deadline_ms.saturating_sub(UNDO_MS)
    }

    /// Whether commands that may write are refused.
    pub fn is_frozen(&self) -> bool {
        self.phase != Phase::Thawed
    }

    /// Whether a child hung or was lost since the freeze began, so that the thaw may never succeed.
    pub fn was_given_up(&self) -> bool {
        self.given_up
    }

    /// Whether a file system hangs, with everything else thawed.
    pub fn hangs(&self) -> bool {
        self.hangs
    }

    /// Whether pages were unlocked since the last call. Until then all memory was in use, as the lock has
    /// filled it.
    pub fn was_unlocked(&mut self) -> bool {
        core::mem::take(&mut self.unlocked)
    }

    /// The phase.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When the agent must act, on [`clock::boottime_ms`]; or [`NEVER_MS`].
    pub fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// Leaves a freeze that runs little time, because a thaw waits for it: it may hang in the kernel.
    pub fn hurry(&mut self) {
        let due_ms = clock::in_ms(UNDO_MS);
        if self.phase == Phase::Freezing && due_ms < self.deadline_ms {
            self.deadline_ms = due_ms;
            // Hooks that have ended before do not put that off.
            self.hook_list = self.hook_list_now();
        }
    }

    /// Puts off a thaw that cannot begin at its deadline.
    pub fn postpone(&mut self) {
        self.deadline_ms = clock::in_ms(RETRY_MS);
    }

    /// Changes the phase, and reacts.
    pub fn note(&mut self, event: FreezeEvent, log: &mut Log) {
        let before = self.phase;
        let (phase, action) = next(before, event);
        self.phase = phase;
        let hangs = event == FreezeEvent::Hangs;
        if phase == Phase::Thawed {
            (self.given_up, self.hangs) = (false, false);
        } else if hangs || event == FreezeEvent::Lost {
            (self.given_up, self.hangs) = (true, hangs);
        }
        match action {
            // At this deadline the agent kills the child and thaws anew.
            FreezeAction::None if event == FreezeEvent::Thaw && phase == Phase::Thawing => {
                self.deadline_ms = self.task_due_ms(THAW_S);
            }
            // The time of the hooks is not taken from the host's.
            FreezeAction::None if event == FreezeEvent::Froze => {
                self.deadline_ms = self.thaw_due_ms();
            }
            FreezeAction::None => {}
            FreezeAction::Enter => {
                self.enter(log);
                self.deadline_ms = self.task_due_ms(0) + UNDO_MS;
            }
            FreezeAction::Leave => self.leave(log),
            FreezeAction::ThawSoon if before == Phase::Freezing && !hangs => {
                self.deadline_ms = clock::boottime_ms();
            }
            FreezeAction::ThawSoon => self.postpone(),
        }
    }

    fn enter(&mut self, log: &mut Log) {
        log.hold();
        // Without the privilege (CAP_IPC_LOCK) freezes all the same.
        let _ = mem::lock_pages();
        self.hook_list = None;
    }

    /// The end of a freeze that has begun, or of a thaw that has begun and has `least_s`.
    fn task_due_ms(&self, least_s: u32) -> u64 {
        let limit_s = match self.timeout_s {
            0 => FREEZE_TIMEOUT_S,
            s => s.max(least_s),
        };
        clock::in_ms(u64::from(limit_s) * 1000)
    }

    /// When the agent thaws what is frozen now.
    fn thaw_due_ms(&self) -> u64 {
        match self.timeout_s {
            0 => NEVER_MS,
            _ => self.task_due_ms(0),
        }
    }

    fn leave(&mut self, log: &mut Log) {
        self.deadline_ms = NEVER_MS;
        let _ = mem::unlock_pages();
        self.unlocked = true;
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
    use crate::sys::testing::Tree;

    const PHASES: [Phase; 4] = [
        Phase::Thawed,
        Phase::Freezing,
        Phase::Frozen,
        Phase::Thawing,
    ];
    const EVENTS: [FreezeEvent; 8] = [
        FreezeEvent::Freeze,
        FreezeEvent::Froze,
        FreezeEvent::FrozeNothing,
        FreezeEvent::Thaw,
        FreezeEvent::Thawed,
        FreezeEvent::NotThawed,
        FreezeEvent::Hangs,
        FreezeEvent::Lost,
    ];

    #[test]
    fn only_leaving_makes_it_thawed_and_only_entering_makes_it_frozen() {
        for phase in PHASES {
            for event in EVENTS {
                let (after, action) = next(phase, event);
                let entered = phase == Phase::Thawed && after != Phase::Thawed;
                let left = phase != Phase::Thawed && after == Phase::Thawed;
                assert_eq!(
                    action == FreezeAction::Enter,
                    entered,
                    "{phase:?} {event:?}"
                );
                assert_eq!(action == FreezeAction::Leave, left, "{phase:?} {event:?}");
            }
        }
    }

    #[test]
    fn a_lost_child_never_counts_as_thawed() {
        for phase in [Phase::Freezing, Phase::Thawing] {
            assert_eq!(
                next(phase, FreezeEvent::Lost),
                (Phase::Frozen, FreezeAction::ThawSoon)
            );
        }
        assert_eq!(
            next(Phase::Thawing, FreezeEvent::NotThawed).0,
            Phase::Frozen
        );
    }

    #[test]
    fn a_second_freeze_changes_nothing() {
        for phase in [Phase::Freezing, Phase::Frozen, Phase::Thawing] {
            assert_eq!(
                next(phase, FreezeEvent::Freeze),
                (phase, FreezeAction::None)
            );
        }
    }

    #[test]
    fn the_marker_outlives_the_agent() {
        let tree = Tree::new();
        let name: &'static [u8] =
            Box::leak(tree.path.to_str().unwrap().to_owned().into_bytes().into());
        let marker = tree.path.join("qga.state.isfrozen");
        let mut log = Log::new();
        let mut freeze = Freeze::new(Marker::of(name), 60);
        assert!(!freeze.take_over(&mut log));
        freeze.note(FreezeEvent::Freeze, &mut log);
        assert!(freeze.marker.make());
        assert!(marker.exists() && freeze.is_frozen() && freeze.deadline_ms() != NEVER_MS);

        let mut freeze = Freeze::new(Marker::of(name), 0);
        assert!(freeze.take_over(&mut log));
        assert_eq!(
            (freeze.phase(), freeze.deadline_ms()),
            (Phase::Frozen, NEVER_MS)
        );
        freeze.note(FreezeEvent::Thaw, &mut log);
        freeze.marker.remove();
        freeze.note(FreezeEvent::Thawed, &mut log);
        assert!(!marker.exists() && !freeze.is_frozen());
    }

    #[test]
    fn only_a_marker_of_our_own_counts_where_others_may_make_files() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
        let tree = Tree::new();
        let name: &'static [u8] =
            Box::leak(tree.path.to_str().unwrap().to_owned().into_bytes().into());
        let marker = tree.path.join("qga.state.isfrozen");
        let mode = |path: &std::path::Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let counts = || {
            let mut log = Log::new();
            let mut freeze = Freeze::new(Marker::of(name), 0);
            let counts = freeze.take_over(&mut log);
            freeze.note(FreezeEvent::Thaw, &mut log);
            freeze.note(FreezeEvent::Thawed, &mut log);
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
                std::fs::hard_link(&marker, tree.path.join("other")).unwrap();
            }),
            ("our own", true, &own),
        ];
        for (what, is_own, make) in strangers {
            make();
            // Where nobody else can have made it, the name is enough, as with qemu-ga.
            mode(&tree.path, 0o755);
            assert!(counts(), "{what}");
            mode(&tree.path, 0o1777);
            assert_eq!(counts(), is_own, "{what}");
            // It gives way to our own.
            assert!(freeze.marker.make(), "{what}");
            assert!(counts(), "{what}");
            freeze.marker.remove();
            assert!(!counts() && !marker.exists(), "{what}");
        }
        // Only root can give files away.
        if std::fs::metadata(&tree.path).unwrap().uid() == 0 {
            own();
            chown(&marker, Some(65_534), None).unwrap();
            assert!(!counts());
            freeze.marker.remove();
        }
        // One that cannot be removed is not taken for a marker either.
        std::fs::create_dir(&marker).unwrap();
        assert!(!counts() && !freeze.marker.make());
    }

    #[test]
    fn after_a_child_that_was_lost_or_given_up_a_thaw_is_due_until_one_succeeds() {
        let mut log = Log::new();
        let mut freeze = Freeze::new(Marker::of(b"/nonexistent"), 60);
        freeze.note(FreezeEvent::Freeze, &mut log);
        freeze.note(FreezeEvent::Lost, &mut log);
        let due_ms = freeze.deadline_ms();
        assert!(freeze.phase() == Phase::Frozen && due_ms <= clock::boottime_ms());
        freeze.note(FreezeEvent::Thaw, &mut log);
        freeze.note(FreezeEvent::Lost, &mut log);
        let again_ms = freeze.deadline_ms();
        assert!(
            again_ms != NEVER_MS && again_ms > clock::boottime_ms(),
            "not at once"
        );
        freeze.note(FreezeEvent::Thaw, &mut log);
        freeze.note(FreezeEvent::Thawed, &mut log);
        assert_eq!(
            (freeze.phase(), freeze.deadline_ms()),
            (Phase::Thawed, NEVER_MS)
        );
    }

    #[test]
    fn without_a_freeze_timeout_only_what_is_frozen_has_no_deadline() {
        let mut log = Log::new();
        let mut freeze = Freeze::new(Marker::of(b"/nonexistent"), 0);
        freeze.hurry();
        assert_eq!(freeze.deadline_ms(), NEVER_MS);
        let limit_ms = u64::from(FREEZE_TIMEOUT_S) * 1000;
        let earliest_ms = clock::in_ms(limit_ms);
        freeze.note(FreezeEvent::Freeze, &mut log);
        let (due_ms, latest_ms) = (freeze.freeze_deadline_ms(), clock::in_ms(limit_ms));
        assert!((earliest_ms..=latest_ms).contains(&due_ms));
        assert_eq!(freeze.deadline_ms(), due_ms + UNDO_MS);
        // A thaw waits for it.
        freeze.hurry();
        let hurried_ms = freeze.deadline_ms();
        assert!(hurried_ms <= clock::in_ms(UNDO_MS));
        freeze.hurry();
        assert_eq!(freeze.deadline_ms(), hurried_ms);
        freeze.note(FreezeEvent::Froze, &mut log);
        freeze.hurry();
        assert_eq!(freeze.deadline_ms(), NEVER_MS);
        let earliest_ms = clock::in_ms(limit_ms);
        freeze.note(FreezeEvent::Thaw, &mut log);
        assert!((earliest_ms..=clock::in_ms(limit_ms)).contains(&freeze.deadline_ms()));
        freeze.note(FreezeEvent::Thawed, &mut log);
        assert_eq!(freeze.deadline_ms(), NEVER_MS);
    }

    #[test]
    fn a_deadline_is_put_off_only_while_hooks_go_on() {
        use crate::state::hooks::Ledger;
        let tree = Tree::new();
        let path = tree.path.to_str().unwrap().to_owned();
        let mut log = Log::new();
        let mut freeze = Freeze::new(Marker::of(Box::leak(path.into_bytes().into())), 60);
        freeze.note(FreezeEvent::Freeze, &mut log);
        assert!(!freeze.waits_for_hooks(7_000), "there are none");
        let mut ledger = Ledger::new();
        ledger.keep_in(tree.open()).unwrap();
        ledger.add(b"/a").unwrap();
        let earliest_ms = clock::in_ms(7_000);
        assert!(freeze.waits_for_hooks(7_000));
        let latest_ms = clock::in_ms(7_000);
        assert!((earliest_ms..=latest_ms).contains(&freeze.deadline_ms()));
        ledger.add(b"/b").unwrap();
        assert!(freeze.waits_for_hooks(7_000));
        assert!(!freeze.waits_for_hooks(7_000), "one takes too long");
        // Thaw hooks also run beside a file system that hangs, which has the marker.
        ledger.add(b"/c").unwrap();
        assert!(freeze.marker.make() && freeze.waits_for_hooks(7_000));
        assert!(!freeze.waits_for_hooks(7_000));
        freeze.marker.remove();
        freeze.note(FreezeEvent::FrozeNothing, &mut log);
    }
}
