//! The program: what the kernel enters, which is all there is here.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use core::ffi::c_char;
use core::panic::PanicInfo;

use gaunt::sys::args::Strings;
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
    // SAFETY: the count comes first, then as many arguments and a null, then the environment and a
    // null; all of it is there and stays as it is as long as the process.
    let (words, environment) = unsafe {
        let words = stack.add(1).cast::<*const c_char>();
        (Strings::new(words), Strings::new(words.add(*stack).add(1)))
    };
    process::exit(gaunt::agent::main(words, environment))
}

/// A panic of a build that has them say where they are; see `sys::fault`.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let (file, line) = info.location().map_or(("", 0), |at| (at.file(), at.line()));
    gaunt::sys::fault::panicked(file, line)
}
