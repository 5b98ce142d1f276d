//! gaunt, a QEMU guest agent for guests that have nothing else in them.
//!
//! ```text
//! main -> agent -> commands -> probe -> { sys, parse } -> base
//!                     |------> state -> { sys, parse } -> base
//!                     `------> wire  ------------------> base
//! ```
//! Imports point down only, files never import each other in a circle, and inside `commands/` no file uses
//! another. `tests/tidy.rs` holds all three, and that unsafe code stays in `sys/`.
//!
//! | folder | holds |
//! | --- | --- |
//! | `base/` | caps, byte stores, paths, number formatting, base64, errno texts |
//! | `parse/` | one format a file, pure functions over bytes |
//! | `wire/` | bytes to messages, JSON, replies, argument checks; no I/O, no command names |
//! | `sys/` | all system calls and all unsafe code |
//! | `probe/` | typed facts about this machine, never JSON |
//! | `state/` | what outlives a request |
//! | `commands/` | `mod` is the table, one row a command; one file a subject |
//! | `agent/` | the loop, channels, clients, dispatch, options, the duties of PID 1 |
//!
//! To add a command: a handler in the file of its subject in `commands/` (it takes what it reports
//! from `probe/`, and writes its reply through `wire::reply`), and a row in `commands::TABLE`, at the
//! place QEMU's schema gives it. Arguments are checked, guest-info, filters and refusals while frozen
//! work, and the README's list is asked for by `tests/tidy.rs`, all from the row.
//!
//! To add a format: a file in `parse/` with functions from bytes to borrowed values, tested with
//! vectors and with `parse::testing::torture`; a fact that is read from it goes into `probe/`.
#![cfg_attr(not(test), no_std)]

pub mod agent;
pub mod base;
pub mod commands;
pub mod parse;
pub mod probe;
pub mod state;
pub mod sys;
pub mod wire;
