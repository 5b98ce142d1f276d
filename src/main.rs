//! The program: what the kernel enters, which is all there is here.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use core::panic::PanicInfo;

use gaunt::sys::args::Start;
use gaunt::sys::process;

// musl's memcpy and its like; linked by name because nothing else here asks for it.
#[link(name = "c", kind = "static", modifiers = "-bundle")]
unsafe extern "C" {}

gaunt::entry!(start);

/// The first function that runs.
///
/// # Safety
/// Nobody else may call it: `stack` is what the kernel laid out, as `gaunt::entry` tells.
unsafe extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the kernel laid it out, it stays as long as the process, and nothing here writes to it.
    let start = unsafe { Start::at(stack) };
    process::exit(gaunt::agent::main(start))
}

/// Ends the agent with a line in the log. Only builds whose panics have a location come here: the panics
/// of the small build are illegal instructions (see `agent::fault`).
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let (file, line) = info.location().map_or(("", 0), |at| (at.file(), at.line()));
    gaunt::agent::panicked(file, line)
}
