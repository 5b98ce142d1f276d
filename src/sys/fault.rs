//! The end after a fault in the agent itself: one line, then out of the way, so that whoever started
//! the agent can start it again. PID 1, whose end would be the end of the guest, starts itself anew
//! ([`process::end`]); a child of it ends as any other.
//!
//! The handler has a stack of its own, for the fault may be that the other one is used up. It makes
//! only system calls, and nothing of what was interrupted matters to it.
//!
//! A panic of the release build is an illegal instruction (see `targets/`); the address in the line
//! tells which, against an unstripped build. Builds with messages come by [`panicked`].
#![allow(unsafe_code)]

use core::ffi::{c_int, c_void};
use core::mem::offset_of;
use core::ptr;

use static_assertions::const_assert_eq;

use super::mem::Buffer;
use super::{log, process, raw, signal};
use crate::base::text::Digits;
use crate::base::texts::Phrase;

/// Exit status after a fault, as s6 uses it: try again.
pub const STATUS: u8 = 111;

/// What the kernel takes for a signal's action, asm/signal.h of x86-64 and arm64. The C library's
/// own structure is another.
#[repr(C)]
struct Action {
    handler: Handler,
    flags: usize,
    restorer: Handler,
    mask: u64,
}

/// What the kernel calls, with what it hands over for `SA_SIGINFO`.
type Handler = unsafe extern "C" fn(c_int, *const Info, *const c_void) -> !;

/// The beginning of siginfo_t for a fault, asm-generic/siginfo.h.
#[repr(C)]
struct Info {
    signal: c_int,
    errno: c_int,
    code: c_int,
    address: usize,
}

const_assert_eq!(offset_of!(Info, address), 16);
const_assert_eq!(offset_of!(Action, mask), 3 * size_of::<usize>());

/// `SA_RESTORER` of asm/signal.h; x86-64 insists on it.
const SA_RESTORER: usize = 0x0400_0000;

/// The signals of a fault.
const SIGNALS: [c_int; 5] = [
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
];

/// Bytes of the handler's stack. It needs 4 KiB at most, on top of what the kernel puts there: the
/// registers, some 3 KiB of them with AVX-512 and 11 KiB with AMX.
const STACK_BYTES: usize = 32 << 10;

/// Has faults of this process end in the line and the exit described above.
pub fn catch() {
    // No memory as long as there is no fault.
    let mut stack = Buffer::lasting(STACK_BYTES);
    if let Ok(room) = stack.extend(STACK_BYTES) {
        let stack = libc::stack_t {
            ss_sp: room.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: STACK_BYTES,
        };
        // SAFETY: sigaltstack reads one stack_t, which is ours and outlives the call. The memory it
        // names is never given back, and nobody but the kernel and the handler ever uses it.
        let _ = unsafe {
            let stack = ptr::from_ref(&stack).expose_provenance();
            raw::call(libc::SYS_sigaltstack, [stack, 0, 0, 0, 0])
        };
    }
    // Faults within the handler are not caught: one that waits comes to the next run or to nobody.
    let mask = SIGNALS
        .iter()
        .fold(0, |mask, number| mask | signal::bit(*number));
    // The handler never returns, so nothing is ever restored.
    let action = Action {
        handler: on_signal,
        flags: (libc::SA_SIGINFO | libc::SA_ONSTACK) as usize | SA_RESTORER,
        restorer: on_signal,
        mask,
    };
    for signal in &SIGNALS {
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

/// The handler.
///
/// # Safety
/// `info` must lead to a siginfo_t.
unsafe extern "C" fn on_signal(signal: c_int, info: *const Info, _: *const c_void) -> ! {
    // SAFETY: the kernel alone calls this, with a siginfo_t that outlives it.
    let address = unsafe { (*info).address };
    let mut hex = [b'0'; 2 * size_of::<usize>()];
    for (place, digit) in hex.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"
            .get(address >> (4 * place) & 0xF)
            .copied()
            .unwrap_or(b'?');
    }
    let signal = Digits::signed(signal.into());
    end(Phrase::Fault, &[signal.as_bytes(), &hex])
}

/// The end after a panic, at this place of the source; its message is dropped.
pub fn panicked(file: &str, line: u32) -> ! {
    let line = Digits::unsigned(line.into());
    end(Phrase::Panicked, &[file.as_bytes(), line.as_bytes()])
}

fn end(what: Phrase, about: &[&[u8]]) -> ! {
    log::last_words(what, about);
    process::end(STATUS.into())
}
