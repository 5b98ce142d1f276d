//! gaunt, a QEMU guest agent for guests that have nothing else in them.
//!
//! ```text
//! main -> agent -> commands -> probe -> { sys, parse } -> base
//!                     |------> state -> { sys, parse } -> base
//!                     `------> wire  ------------------> base
//! ```
//! Imports point down only, files never import each other in a circle, and inside `commands/` no
//! subject uses another. `tests/tidy.rs` holds all three, and that unsafe code stays in `sys/`.
//!
//! | folder | holds |
//! | --- | --- |
//! | `base/` | caps, byte sinks, sorted indices, packed texts, paths, numbers, dates, base64, password hashes, errno texts |
//! | `parse/` | one format a file, pure functions over bytes |
//! | `wire/` | bytes to messages, JSON, replies and their texts, argument checks; no I/O, no command names |
//! | `sys/` | all system calls and all unsafe code; no policy |
//! | `probe/` | typed facts about this machine, never JSON |
//! | `state/` | what outlives a request |
//! | `commands/` | one row a command, one file a subject |
//! | `agent/` | the loop, channels, clients, dispatch, children, command line, the duties of PID 1 |
//!
//! # The life of a request
//! 1. `agent::event_loop` learns from epoll that a client's descriptor can be read, and `agent::client`
//!    reads from it.
//! 2. `wire::frame` finds the end of the message and the members of its outer object, or what is wrong
//!    with it.
//! 3. `agent::dispatch` has `wire::request` check those members, looks the command up in the table,
//!    asks whether it is allowed (`commands::is_enabled`), and checks its arguments (`wire::args`).
//! 4. A command that never waits writes its reply right away (`wire::reply`, `wire::emit`). The reply of
//!    guest-file-read is a file, which `agent::file_stream` sends piece by piece.
//! 5. For a slow command `prepare` gives a ticket, and `agent::jobs` hands ticket and message to a
//!    worker, or makes a child for this task alone.
//! 6. That child (`agent::worker`) checks the arguments again, does `run`, and sends the reply back.
//! 7. `agent::child` calls `finish` with the ticket and the outcome; `agent::deliver` puts the
//!    reply into the client's outgoing bytes, or an error if the child died.
//! 8. `agent::client` writes what its descriptor takes; the rest leaves when epoll says so.
//!
//! # To add a command
//! Say `guest-get-uptime`, with an optional argument `precise`, from /proc/uptime:
//! 1. The format: `parse/uptime.rs`, a function from bytes to a value, tested with vectors and with
//!    `parse::testing::torture`; its line in `parse/mod.rs`. `parse/mod.rs` and `base::text` split lines,
//!    words and numbers; `parse::unescape` undoes octal escapes. There are no floating point numbers: 0.25
//!    is 25 hundredths.
//! 2. The handler, in the file of its subject in `commands/`, here `os`. A new subject needs its `mod`
//!    line in `commands/mod.rs` and its name in the `use super::` of `table.rs`.
//!    - Its parameters: `pub(super) const UPTIME: &[Param] = &[may("precise", Type::Bool)];`
//!    - `pub(super) fn get_uptime(state: &mut State, args: &Args<'_>, reply: &mut Reply<'_>)
//!      -> Result<(), Failed>` reads `args.bool(const { index_of(UPTIME, "precise") })` and writes
//!      `reply.object()` or `reply.list()`. An argument is an `Option`, also one that `must` be there.
//!    - The work is a function of its own that takes `&state.guest.root`, and reads files by
//!      `root.lines_at` or `root.read_at`; the pieces of a path are joined. Its test calls it with the root
//!      of a made-up tree (`sys::testing::Tree`). `commands/stats.rs` is the pattern. What takes more than
//!      a few lines to find out goes into `probe/`.
//!    - A number with a fraction is `object.member(name).decimal(...)`, which drops trailing zeros.
//!    - Errors: `common::cannot` for an error number, `reply.fail_with` for one with a name,
//!      `reply.error().about` for a string of the request, with a phrase that has one `@` for it.
//!    - An argument that is one of a few words is a `Type::Str`: `word_index(b"seconds days")` finds it, and
//!      the handler refuses others. `commands/shutdown.rs` does so, and its first test shows how a
//!      handler is tested with arguments.
//! 3. The texts: names of members and phrases of errors in `wire/texts.rs`, lines of the log in
//!    `state/texts.rs`, what `--check` says in `agent/texts.rs`. Numbers that follow one another share one
//!    name, such as `"used-bytes total-bytes"`: `Object::numbers` writes them. Names that a handler takes
//!    from a list of its own stay there: `Object::member_named`.
//! 4. The row: `commands/table.rs`, `Row::now(Info, "guest-get-uptime", os::UPTIME, os::get_uptime)`, at
//!    the place that QEMU's schema gives it; a command that QEMU does not have is the last one before the
//!    agent's own work. Files of /proc and /sys do not wait. A command that may wait for a disk, a server or
//!    a process, or whose list is very long on some machines, is a `Row::alone` with a `Work` in place of
//!    the handler: it gets a `&Guest` and a ticket.
//!    - Commands of the groups `Protocol` and `Info` stay allowed where the policy is not known; a test in
//!      `commands/packed.rs` lists them.
//!    - `commands/command.rs` explains the flags, such as `.without_files()`. A command that only reads
//!      files has none.
//!    - `.needs(&[...])` names what it needs of the guest, for `--check`. A new need is a variant of `Need`,
//!      what meets it and a line of the test in `commands/needs.rs`, and a phrase that
//!      `agent/self_check.rs` gives for it (`lack`).
//! 5. The documents: the table of commands in README.md, and COMMANDS in `image/package/gaunt.8`,
//!    which also says what differs from qemu-ga; CHANGELOG.md. A test of the command in `tests/e2e`:
//!    `protocol.rs` fails without one. A command that QEMU does not have is named in `OWN` of
//!    `tests/e2e/src/compare.rs`, and the sentences that say "all commands of QEMU" change, in README.md and
//!    in the manual page.
//!
//! guest-info, filters, argument errors and refusals while frozen then work: they read the row.
//! `cargo test --no-fail-fast` names the lists, tables and manual entries that lack the command; what else
//! point 5 says it cannot see. `make size` prints what the agent weighs; `tests/e2e/tests/budgets.rs` has
//! the limits, also of the instructions of a guest-info.
//!
//! # Words
//! | word | is |
//! | --- | --- |
//! | agent | this program, and its first process |
//! | host | whoever asks: libvirt, Proxmox, a person with a socket |
//! | channel | what requests come by: a virtio port, a serial line or a listening socket |
//! | client | one descriptor that sends requests and takes replies |
//! | message | the bytes of one request, from the first to the last brace |
//! | request | a message taken apart: command, arguments, id |
//! | reply | the line that answers it: a value or an error |
//! | row | all that is known of a command besides its code |
//! | handler | the function of a command that never waits |
//! | task | a slow command, or work of the agent's own: prepare, run, finish |
//! | ticket | what prepare tells run and finish |
//! | outcome | what became of a task |
//! | job | a task that runs now, and for whom |
//! | child | a process that the agent has made |
//! | worker | a child that runs one task after the other |
//! | guest | the machine, seen from the root directory; what a task may use of it |
//! | handle | the number by which a host knows an open file |
//! | program | what guest-exec has started |
//! | marker | the file that says that something is frozen |
//! | hook | a program that brings an application to rest before a freeze |
//! | phrase | the words of an error or a line of the log, with places for names |
//! | sink | memory that bytes are appended to: a buffer, or memory at rest |
#![cfg_attr(not(test), no_std)]

pub mod agent;
pub mod base;
pub mod commands;
pub mod parse;
pub mod probe;
pub mod state;
pub mod sys;
pub mod wire;
