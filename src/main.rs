//! The program: musl's entry code calls `main`, which is all there is here.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use core::ffi::{c_char, c_int};
use core::panic::PanicInfo;

use gaunt::sys::args::Strings;

// musl's start-up code and memcpy; linked by name because nothing else here asks for it.
#[link(name = "c", kind = "static", modifiers = "-bundle")]
unsafe extern "C" {}

/// What the C library's entry code calls.
///
/// # Safety
/// Nobody else may call it: the vectors are those that the kernel laid out, ended by nulls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(
    _: c_int,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> c_int {
    // SAFETY: the caller is the C library's entry code, as asked for above.
    let (words, environment) = unsafe { (Strings::new(argv), Strings::new(envp)) };
    gaunt::agent::main(words, environment)
}

/// A panic of a build that has them say where they are; see `sys::fault`.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let (file, line) = info.location().map_or(("", 0), |at| (at.file(), at.line()));
    gaunt::sys::fault::panicked(file, line)
}
