//! The entry point of the program, and the panic handler.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use core::panic::PanicInfo;

use gaunt::sys::argv::Start;
use gaunt::sys::process;

// memcpy and its like from musl, which no other line of the source requests.
#[link(name = "c", kind = "static", modifiers = "-bundle")]
unsafe extern "C" {}

gaunt::entry!(start);

/// The first function that runs.
///
/// # Safety
/// Only the kernel may call it, by way of `gaunt::entry`: `stack` is the address of arguments and
/// environment as the kernel lays them out.
unsafe extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the kernel has laid the stack out there. It lives as long as the process, and nothing
    // writes to that part of it. No other function of the crate has run.
    let start = unsafe { Start::at(stack) };
    process::exit(gaunt::agent::main(start))
}

/// Ends the agent with a line in the log. Only builds whose panics have a location come here: the
/// panics of the small build are illegal instructions (see `agent::fault`).
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let (file, line) = info.location().map_or(("", 0), |at| (at.file(), at.line()));
    gaunt::agent::panicked(file, line)
}
