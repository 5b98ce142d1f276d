//! The commands.
//!
//! | file | |
//! | --- | --- |
//! | `command` | what a command is |
//! | `common` | what several subjects use |
//! | `clock` … `users` | a subject each: what its commands do |
//! | `table` | one row a command |
//! | `needs` | what a command needs of its guest |
//! | `packed` | the table as the program has it |
//!
//! The top of `src/lib.rs` says how to add a command.
#![forbid(unsafe_code)]

mod clock;
mod command;
mod common;
mod disks;
mod exec;
pub mod file;
mod freeze;
mod fsinfo;
mod fstrim;
mod hotplug;
pub mod info;
mod needs;
mod network;
mod os;
mod packed;
mod password;
mod route;
mod shutdown;
mod ssh;
mod stats;
mod suspend;
mod sync;
mod table;
mod users;

pub use command::{
    Command, DELIMITED, EXCLUSIVE, OWN_CHILD, Outcome, PREFIX, Run, SHARES_FILES, SILENT,
    TaskClass, Ticket, WITHOUT_FILES, is_enabled,
};
pub use needs::{Facts, Need};
pub use packed::{TABLE, Task, all, find, run};
pub use table::{
    BY_FORCE, FAIL_CLOSED, FETCH, HAS_FILES, HAS_FREEZE, HAS_PROGRAMS, LATE_THAW, REBOOT, needs,
    set_named,
};
