//! Handlers for the signals of a fault: SIGILL, SIGTRAP, SIGBUS, SIGFPE and SIGSEGV.
//!
//! sigaction(2) and sigaltstack(2). The handler runs on a stack of its own, because the fault may
//! be that the other stack is used up. It never returns.
#![allow(unsafe_code)]

use core::ffi::{c_int, c_void};
use core::mem::{MaybeUninit, offset_of};
use core::ptr::{self, NonNull};

use static_assertions::const_assert_eq;

use super::mem::{self, Buffer};
use super::{raw, signal};

/// The kernel's `struct sigaction`, asm/signal.h of x86-64 and arm64; the C library's own structure
/// has another layout.
#[repr(C)]
struct Action {
    handler: FaultHandler,
    flags: usize,
    restorer: FaultHandler,
    mask: u64,
}

/// The function that the kernel calls: signal number, siginfo_t, and the interrupted context.
pub type FaultHandler = extern "C" fn(c_int, &Info, *const c_void) -> !;

/// The beginning of siginfo_t for a fault, asm-generic/siginfo.h.
#[repr(C)]
pub struct Info {
    signal: c_int,
    errno: c_int,
    code: c_int,
    address: usize,
}

impl Info {
    /// The address that the fault is about: of the instruction for SIGILL, SIGTRAP and SIGFPE, of
    /// the memory for SIGBUS and SIGSEGV.
    pub fn address(&self) -> usize {
        self.address
    }
}

const_assert_eq!(offset_of!(Info, address), 16);
const_assert_eq!(offset_of!(Action, mask), 3 * size_of::<usize>());

/// `SA_RESTORER` of asm/signal.h, which x86-64 requires.
const SA_RESTORER: usize = 0x0400_0000;

/// The signals of a fault.
const SIGNALS: [c_int; 5] = [
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
];

/// Bytes of the handler's stack. The agent's handler needs at most 4 KiB. Before those the kernel
/// stores the registers: some 3 KiB with AVX-512, 11 KiB with AMX.
const STACK_BYTES: usize = 32 << 10;

/// Has the kernel call `handler` when this process faults.
///
/// A second fault, in the handler, is not caught: its default action ends the process.
pub fn catch(handler: FaultHandler) {
    // Address space only: the kernel gives pages of it when the handler first runs.
    let mut stack = Buffer::lasting(STACK_BYTES);
    if let Ok(room) = stack.extend(STACK_BYTES) {
        let stack = libc::stack_t {
            ss_sp: room.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: STACK_BYTES,
        };
        // SAFETY: sigaltstack reads one stack_t, which is ours and outlives the call. The stack is
        // a lasting buffer, which is never given back, and only the kernel and the handler use it.
        let _ = unsafe {
            let stack = ptr::from_ref(&stack).expose_provenance();
            raw::call(libc::SYS_sigaltstack, [stack, 0, 0, 0, 0])
        };
    }
    let mask = SIGNALS
        .iter()
        .fold(0, |mask, number| mask | signal::bit(*number));
    let action = Action {
        handler,
        flags: (libc::SA_SIGINFO | libc::SA_ONSTACK) as usize | SA_RESTORER,
        // The handler never returns, so the kernel never calls this.
        restorer: handler,
        mask,
    };
    for signal in &SIGNALS {
        // SAFETY: rt_sigaction reads one action of the kernel's layout (asserted above), which is
        // ours and outlives the call. With SA_SIGINFO the kernel calls the handler with a siginfo_t
        // that outlives it, as its type says. The interrupted code does not go on, because the
        // handler does not return: for the handler it is a thread that has stopped.
        let _ = unsafe {
            let action = ptr::from_ref(&action).expose_provenance();
            let args = [*signal as usize, action, 0, size_of::<u64>(), 0];
            raw::call(libc::SYS_rt_sigaction, args)
        };
    }
}

/// Gives back the handler's stack, which holds nothing before the handler runs. Does nothing in the
/// handler.
pub fn release_stack() {
    let mut stack = MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: sigaltstack writes one stack_t, which is ours and outlives the call. Zeros, a null and
    // numbers, are valid as well. Only the kernel and handlers use the stack, and the kernel tells
    // whether this is a handler on it.
    unsafe {
        let to = stack.as_mut_ptr().expose_provenance();
        let _ = raw::call(libc::SYS_sigaltstack, [0, to, 0, 0, 0]);
        let stack = stack.assume_init();
        if let Some(start) = NonNull::new(stack.ss_sp.cast())
            && stack.ss_flags & libc::SS_ONSTACK == 0
        {
            mem::release(start, stack.ss_size);
        }
    }
}
