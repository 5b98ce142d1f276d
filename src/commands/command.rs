//! What a command is: how it runs, what is special about it, and its row as the table packs it.

use crate::state::State;
use crate::state::files::Reading;
use crate::state::guest::Guest;
use crate::sys::handles::Seized;
use crate::wire::args::{Args, PackedItem, PackedList};
use crate::wire::reply::{Failed, Reply};

/// What a command does: writes the value of its reply (none written is the empty object), or fails.
pub(super) type Handler = fn(&mut State, &Args<'_>, &mut Reply<'_>) -> Result<(), Failed>;

/// How a command runs.
#[derive(Clone, Copy)]
pub enum Run {
    /// Right away: it never waits for anything.
    Now(Handler),
    /// Right away, but its reply is a file, sent piece by piece.
    Stream(Opening),
    /// In a child of the agent, because it may take long; the agent itself has no part in it.
    Alone(Work),
    /// In a child of the agent, before and after which the agent has something to do.
    Slow(Slow),
}

/// What finds the file that is the reply.
pub(super) type Opening = fn(&mut State, &Args<'_>, &mut Reply<'_>) -> Result<Reading, Failed>;

/// A command that may take long.
#[derive(Clone, Copy)]
pub struct Slow {
    /// In the agent: refuses, or changes what only the agent can, and gives the ticket.
    pub prepare: Prepare,
    /// In a child, with the ticket: does the work and writes the reply. On success it gives a number
    /// that tells `finish` what it needs to know.
    pub run: Work,
    /// In the agent, with the same ticket, whatever became of the child.
    pub finish: Finish,
}

/// See [`Slow::prepare`].
pub(super) type Prepare = fn(&mut State, &Args<'_>, &mut Reply<'_>) -> Result<Ticket, Failed>;
/// See [`Slow::run`].
pub(super) type Work = fn(&Guest, Ticket, &Args<'_>, &mut Reply<'_>) -> Result<u8, Failed>;
/// See [`Slow::finish`].
pub(super) type Finish = fn(&mut State, Ticket, Outcome);

/// All that `prepare` tells `run` and `finish`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticket {
    /// A number, whose meaning is the command's.
    pub number: i64,
    /// The open file that the work is about.
    pub file: Option<Seized>,
}

impl Ticket {
    /// One with this number, about no file.
    pub(super) const fn of(number: i64) -> Self {
        Self { number, file: None }
    }
}

impl Slow {
    /// A command that the agent itself has no part in.
    pub(super) const fn alone(run: Work) -> Self {
        Self {
            prepare: |_, _, _| Ok(Ticket::of(0)),
            run,
            finish: |_, _, _| {},
        }
    }
}

/// What became of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It replied with a value and gave this number.
    Replied(u8),
    /// It replied with an error.
    Refused,
    /// Its child has become a program and is this process.
    Started(i32),
    /// Its child was never made, was killed, or is out of reach: there is no telling how far it came.
    Lost,
}

// What is special about a command: bits of its packed tag.
/// It is allowed while frozen, be it blocked or not. Nothing that could write is.
pub(super) const WHILE_FROZEN: u8 = 1;
/// Its success is silent.
pub const SILENT: u8 = 2;
/// Its successful reply begins with the delimiter.
pub const DELIMITED: u8 = 4;
/// It looks at no file of the guest, so the root directory need not be there.
pub const WITHOUT_FILES: u8 = 8;
/// Waits until no other command with this flag runs. Freeze, thaw, suspend and shutdown have it.
pub const EXCLUSIVE: u8 = 16;
/// Its child shares the agent's descriptors: what it opens and closes is opened and closed in the agent.
pub const SHARES_FILES: u8 = 32;
/// It changes its process for good, or leaves a secret in its memory: it has a child of its own.
pub const OWN_CHILD: u8 = 64;
/// It takes the guest down, which is allowed also when a freeze has come to no end.
pub(super) const DOWN: u8 = 128;

/// Tasks that share a quota of children: those of one class never use up the children of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
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

impl Class {
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

/// What all names begin with.
pub const PREFIX: &[u8] = b"guest-";

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
        table.map(|item| Self { item })
    }

    /// Its name without [`PREFIX`].
    pub fn name(&self) -> &'static [u8] {
        self.item.name()
    }

    /// Whether this is special about it.
    pub fn is(&self, flag: u8) -> bool {
        self.item.tag() & flag != 0
    }

    /// Its parameters, in the order of the schema.
    pub fn params(&self) -> PackedList {
        PackedList(self.item.body().get(BEFORE_PARAMS..).unwrap_or_default())
    }

    /// How it runs, as the table's packer has it: which of several lists says what, and where.
    pub(super) fn packed_run(&self) -> (u8, usize) {
        (self.body(0), self.body(1).into())
    }

    /// The class of its task.
    pub fn class(&self) -> Class {
        Class::of(self.body(2))
    }

    /// One of the bytes before its parameters.
    fn body(&self, place: usize) -> u8 {
        self.item.body().get(place).copied().unwrap_or_default()
    }
}

/// Whether a command may run now. While frozen only the table counts: what could thaw the guest must
/// not be blocked then.
pub fn is_enabled(place: usize, command: &Command, state: &State) -> bool {
    if state.freeze.is_frozen() && !(command.is(DOWN) && state.freeze.was_given_up()) {
        command.is(WHILE_FROZEN)
    } else {
        state.filter.allows(place)
    }
}
