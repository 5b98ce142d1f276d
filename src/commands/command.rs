//! What a command is: how it runs, what is special about it, and its row as the table packs it.

use crate::state::State;
use crate::state::files::Reading;
use crate::state::guest::Guest;
use crate::sys::handles::Seized;
use crate::wire::args::{Args, PackedItem, PackedList};
use crate::wire::reply::{Failed, Reply};

/// A handler: writes the value of the reply, or fails. Without a value the reply is the empty
/// object.
pub(super) type Handler = fn(&mut State, &Args<'_>, &mut Reply<'_>) -> Result<(), Failed>;

/// How a command runs.
#[derive(Clone, Copy)]
pub enum Run {
    /// In the agent: it never waits.
    Now(Handler),
    /// In the agent, which sends a file as the reply, piece by piece.
    Stream(Opening),
    /// In a child of the agent, because it may wait.
    Alone(Work),
    /// In a child of the agent, with `prepare` and `finish` in the agent.
    Slow(Slow),
}

/// Finds the file that is the reply.
pub(super) type Opening = fn(&mut State, &Args<'_>, &mut Reply<'_>) -> Result<Reading, Failed>;

/// A command that may take long.
#[derive(Clone, Copy)]
pub struct Slow {
    /// In the agent: refuses, or changes what only the agent can, and gives the ticket.
    pub prepare: Prepare,
    /// In a child, with the ticket: does the work and writes the reply. On success it gives a number
    /// that tells `finish` what it needs to know.
    pub run: Work,
    /// In the agent, with the same ticket and the outcome.
    pub finish: Finish,
}

/// See [`Slow::prepare`].
pub(super) type Prepare = fn(&mut State, &Args<'_>, &mut Reply<'_>) -> Result<Ticket, Failed>;
/// See [`Slow::run`].
pub(super) type Work = fn(&Guest, Ticket, &Args<'_>, &mut Reply<'_>) -> Result<u8, Failed>;
/// See [`Slow::finish`].
pub(super) type Finish = fn(&mut State, Ticket, Outcome);

/// All that `prepare` tells `run` and `finish`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ticket {
    /// A number, whose meaning is the command's.
    pub number: i64,
    /// The open file that the work is about.
    pub file: Option<Seized>,
}

impl Ticket {
    /// A ticket without a file.
    pub(super) const fn of(number: i64) -> Self {
        Self { number, file: None }
    }
}

impl Slow {
    /// A command with neither `prepare` nor `finish`.
    pub(super) const fn alone(run: Work) -> Self {
        Self {
            prepare: |_, _, _| Ok(Ticket::of(0)),
            run,
            finish: |_, _, _| {},
        }
    }
}

/// The outcome of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It replied with a value and gave this number.
    Replied(u8),
    /// It replied with an error.
    Refused,
    /// Its child has become a program and is this process.
    Started(i32),
    /// The child was not made, was killed, or is out of reach: how far it came is unknown.
    Lost,
}

// Flags of a command.
/// Allowed while frozen, blocked or not. No command that could write has it.
pub(super) const WHILE_FROZEN: u8 = 1;
/// Success has no reply.
pub const SILENT: u8 = 2;
/// A successful reply begins with the delimiter.
pub const DELIMITED: u8 = 4;
/// Uses no file of the guest, so the root directory may be missing.
pub const WITHOUT_FILES: u8 = 8;
/// Waits until no other command with this flag runs. Freeze, thaw, suspend and shutdown have it.
pub const EXCLUSIVE: u8 = 16;
/// The child shares the agent's descriptors: what it opens and closes, it opens and closes in the
/// agent.
pub const SHARES_FILES: u8 = 32;
/// Changes its process for good, or leaves a secret in its memory: needs a child of its own.
pub const OWN_CHILD: u8 = 64;
/// Takes the guest down: also allowed after a freeze was given up.
pub(super) const DOWN: u8 = 128;

/// Each class of tasks has its own quota of children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TaskClass {
    /// Looks at the guest, or changes a setting of it.
    Guest,
    /// Works on the host's open files.
    Files,
    /// Works on files of a user, who can keep it waiting.
    Users,
    /// Starts a program.
    Programs,
    /// Freezes, thaws, and takes the guest down or has it sleep.
    Vital,
}

impl TaskClass {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::Guest,
            1 => Self::Files,
            2 => Self::Users,
            3 => Self::Programs,
            _ => Self::Vital,
        }
    }
}

/// The kind of run of a command whose code is not in this build.
pub(super) const LEFT_OUT: u8 = 4;

/// What all names begin with.
pub const PREFIX: &[u8; 6] = b"guest-";

/// A command.
#[derive(Clone, Copy)]
pub struct Command {
    item: PackedItem,
}

/// Bytes of a packed row before its parameters: how it runs (two of them), its class.
const BEFORE_PARAMS: usize = 3;

impl Command {
    /// The commands of a packed table.
    pub fn all(table: PackedList) -> impl Iterator<Item = Self> {
        table.map(Self::of)
    }

    /// The command of a packed row.
    pub(super) fn of(item: PackedItem) -> Self {
        Self { item }
    }

    /// Its name without [`PREFIX`].
    pub fn name(&self) -> &'static [u8] {
        self.item.name
    }

    /// Whether it has this flag.
    pub fn is(&self, flag: u8) -> bool {
        self.item.tag & flag != 0
    }

    /// Its parameters, in the order of the schema.
    pub fn params(&self) -> PackedList {
        PackedList(self.item.body.get(BEFORE_PARAMS..).unwrap_or_default())
    }

    /// How it runs, as packed: the list that has its code, and the index there.
    pub(super) fn packed_run(&self) -> (u8, usize) {
        let [kind, index, _] = self.facts();
        (kind, index.into())
    }

    /// Whether this build has its code.
    pub fn is_built(&self) -> bool {
        self.packed_run().0 != LEFT_OUT
    }

    /// The class of its task.
    pub fn class(&self) -> TaskClass {
        let [.., class] = self.facts();
        TaskClass::of(class)
    }

    /// The bytes before its parameters.
    fn facts(&self) -> [u8; BEFORE_PARAMS] {
        let facts = self.item.body.first_chunk();
        facts.copied().unwrap_or_default()
    }
}

/// Whether a command may run now. While frozen only the table counts: a thaw must never be blocked.
pub fn is_enabled(index: usize, command: &Command, state: &State) -> bool {
    if state.freeze.is_frozen() && !(command.is(DOWN) && state.freeze.was_given_up()) {
        command.is(WHILE_FROZEN)
    } else {
        command.is_built() && state.filter.allows(index)
    }
}
