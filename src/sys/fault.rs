//! The end after a fault in the agent itself: one line, then out of the way, so that whoever started
//! the agent can start it again. PID 1, whose end would be the end of the guest, starts itself anew.
//!
//! A panic of the release build is an illegal instruction (see `targets/`); the address in the line
//! tells which, against an unstripped build. Builds with messages come by [`panicked`].
#![allow(unsafe_code)]

use core::ffi::{c_int, c_void};
use core::mem::offset_of;
use core::ptr;

use static_assertions::const_assert_eq;

use super::{log, process, raw};
use crate::base::text::Digits;

/// Exit status after a fault, as s6 uses it: try again.
pub const STATUS: u8 = 111;

/// What the kernel takes for a signal's action, asm/signal.h of x86-64 and arm64. The C library's
/// own structure is another.
#[repr(C)]
struct Action {
    handler: extern "C" fn(c_int, *const Info, *const c_void) -> !,
    flags: usize,
    restorer: extern "C" fn(c_int, *const Info, *const c_void) -> !,
    mask: u64,
}

/// The beginning of siginfo_t for a fault, asm-generic/siginfo.h.
#[repr(C)]
struct Info {
    signal: c_int,
    errno: c_int,
    code: c_int,
    address: usize,
}

#[cfg(target_pointer_width = "64")]
const_assert_eq!(offset_of!(Info, address), 16);
const_assert_eq!(offset_of!(Action, mask), 3 * size_of::<usize>());

/// `SA_RESTORER` of asm/signal.h; x86-64 insists on it.
const SA_RESTORER: usize = 0x0400_0000;

/// Has faults of this process end in the line and the exit described above.
pub fn catch() {
    let flags = libc::SA_SIGINFO as usize | SA_RESTORER;
    // The handler never returns, so nothing is ever restored.
    let action = Action {
        handler: on_signal,
        flags,
        restorer: on_signal,
        mask: 0,
    };
    for signal in &[
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGSEGV,
    ] {
        // SAFETY: rt_sigaction reads one action of the kernel's layout (asserted above), which is
        // ours and outlives the call. The handler uses nothing of what was interrupted: it writes
        // one line from its own stack and does not return.
        let _ = unsafe {
            let action = ptr::from_ref(&action).expose_provenance();
            let args = [*signal as usize, action, 0, size_of::<u64>(), 0];
            raw::call(libc::SYS_rt_sigaction, args)
        };
    }
}

extern "C" fn on_signal(signal: c_int, info: *const Info, _: *const c_void) -> ! {
    // SAFETY: the kernel hands a handler with SA_SIGINFO a siginfo_t that outlives it.
    let address = unsafe { (*info).address };
    let mut hex = [b'0'; 2 * size_of::<usize>()];
    for (place, digit) in hex.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"
            .get(address >> (4 * place) & 0xF)
            .copied()
            .unwrap_or(b'?');
    }
    let signal = Digits::signed(signal.into());
    end(&[b"fault: signal ", signal.as_bytes(), b" at ", &hex])
}

/// The end after a panic with a message, which stays unsaid, at this place of the source.
pub fn panicked(file: &str, line: u32) -> ! {
    let line = Digits::unsigned(line.into());
    end(&[b"fault: ", file.as_bytes(), b":", line.as_bytes()])
}

fn end(line: &[&[u8]]) -> ! {
    log::last_words(line);
    if process::is_init() {
        process::start_anew();
    }
    process::exit(STATUS.into())
}
