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
//!    words and numbers; `parse::unescape` undoes octal escapes.
//! 2. The handler, in the file of its subject in `commands/`, here `os`. A new subject needs its `mod`
//!    line in `commands/mod.rs` and its name in the `use super::` of `table.rs`.
//!    - Its parameters: `const UPTIME: &[Param] = &[may("precise", Type::Bool)];`
//!    - `fn get_uptime(state: &mut State, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<(), Failed>`
//!      reads `args.bool(const { index_of(UPTIME, "precise") })` and writes `reply.object()` or
//!      `reply.list()`.
//!    - Errors: `reply.fail_with`, `common::cannot` for an error number, `reply.error().about` for a
//!      phrase that names a string of the request.
//!    - The work is a function of its own that takes `&state.guest.root`: its test calls it with the root
//!      of a made-up tree (`sys::testing::Tree`). `commands/stats.rs` is the pattern, and
//!      `commands/shutdown.rs` for arguments. What takes more than a few lines to find out goes into
//!      `probe/`.
//! 3. The texts: names of members and phrases of errors in `wire/texts.rs`, lines of the log in
//!    `state/texts.rs`. Numbers that follow one another share one name, such as `"used-bytes total-bytes"`:
//!    `Object::numbers` writes them.
//! 4. The row: `commands/table.rs`, `Row::now(Info, "guest-get-uptime", os::UPTIME, os::get_uptime)`, at
//!    the place that QEMU's schema gives it; a command that QEMU does not have is the last one before the
//!    agent's own work. Commands of the groups `Protocol` and `Info` stay allowed where the policy is not
//!    known; a test in `commands/packed.rs` lists them. A command that may wait for a disk, a server or a
//!    process, or whose list is very long on some machines, is a `Row::alone` with a `Work` in place of
//!    the handler: it gets a `&Guest` and a ticket. `.needs(&[...])` names what it needs of the guest, for
//!    `--check` (`commands/needs.rs`).
//! 5. The documents: the table of commands in README.md, and COMMANDS in `image/package/gaunt.8`,
//!    which also says what differs from qemu-ga. `tests/e2e/tests/protocol.rs` fails if a command
//!    has no test, `tests/e2e/src/compare.rs` if the agent has other commands than qemu-ga.
//!
//! guest-info, filters, argument errors and refusals while frozen then work: they read the row.
//! `cargo test --no-fail-fast` names everything that is missing outside `tests/e2e`. `make size` prints
//! what the agent weighs; `tests/e2e/tests/budgets.rs` has the limit.
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
