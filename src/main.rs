//! The program: musl's entry code calls `main`, which is all there is here.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use core::ffi::{c_char, c_int};
use core::panic::PanicInfo;

use gaunt::sys::args::Args;

// musl's start-up code and memcpy; linked by name because nothing else here asks for it.
#[link(name = "c", kind = "static", modifiers = "-bundle")]
unsafe extern "C" {}

/// What the C library's entry code calls.
#[unsafe(no_mangle)]
pub extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: these are the arguments of `main`, as the C library's entry code passes them.
    gaunt::agent::main(unsafe { Args::new(argc, argv) })
}

/// A fault in the agent itself: one line, then out of the way, so that whoever started the agent can
/// start it again. PID 1, whose end would be the end of the guest, starts itself again.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let (file, line) = info.location().map_or(("", 0), |at| (at.file(), at.line()));
    gaunt::agent::fail(file, line)
}
