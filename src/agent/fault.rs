//! The end after a fault in the agent itself: one line in the log, then exit.
//!
//! The supervisor starts the agent again. PID 1 of the machine must not exit, because the kernel
//! would panic: it executes itself again ([`restart::end`]). After a fault in one of its children,
//! only that child exits.
//!
//! A panic of the small build (`make build`) is an illegal instruction. The line has the address of
//! the instruction; an unstripped build of the same source says which line that is. The plain build
//! has panics with file and line ([`panicked`]).

use core::ffi::{c_int, c_void};

use super::restart;
use super::texts::AgentPhrase;
use crate::base::text::{Digits, hex_digit};
use crate::state::log;
use crate::sys::fault::{self, Info};

/// Exit status after a fault, as s6 uses it: try again.
const STATUS: i32 = 111;

/// Ends the agent with a line in the log when it faults.
pub(super) fn catch() {
    fault::catch(on_signal);
}

/// The handler of the signals of a fault.
extern "C" fn on_signal(signal: c_int, info: &Info, _: *const c_void) -> ! {
    let mut hex = [0; 2 * size_of::<usize>()];
    for (digit, &byte) in hex.chunks_mut(2).zip(&info.address().to_be_bytes()) {
        digit.copy_from_slice(&[hex_digit(byte >> 4), hex_digit(byte & 15)]);
    }
    let signal = Digits::signed(signal.into());
    end(AgentPhrase::Fault, &[signal.as_bytes(), &hex])
}

/// Ends the agent after a panic at this line of the source. The message of the panic is dropped.
pub fn panicked(file: &str, line: u32) -> ! {
    let line = Digits::unsigned(line.into());
    end(AgentPhrase::Panicked, &[file.as_bytes(), line.as_bytes()])
}

fn end(what: AgentPhrase, about: &[&[u8]]) -> ! {
    log::error(what, about);
    restart::end(STATUS)
}
