//! The two things that take machine code: how the program begins, and system calls that rustix does
//! not have.
//!
//! A C library would do both, and weigh 3 kB: thread storage, exit handlers, environment and errno,
//! which a static program of one thread never uses. Nothing of musl is linked but its memcpy and its
//! like. What else is declared in the `libc` crate must not be called: there is no thread storage for
//! it to keep its errno in (`tests/tidy.rs` looks). Another machine needs its few lines here, and a look
//! at the structures of the kernel that are laid out by hand in this folder.
#![allow(unsafe_code)]

use core::ffi::c_long;

use rustix::io::Errno;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("this machine's system calls and signal actions are not known here");

/// Defines the symbol `gaunt_start`, which the kernel enters (see `build.rs`), and which calls
/// `$main` with the address of what the kernel laid out: the number of arguments, the arguments, a
/// null, the environment, a null. `$main` must not return.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        // Outermost frame, stack aligned as the machine's calling convention has it.
        #[cfg(target_arch = "x86_64")]
        core::arch::global_asm!(
            ".globl gaunt_start", "gaunt_start:",
            "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {}",
            sym $main,
        );
        #[cfg(target_arch = "aarch64")]
        core::arch::global_asm!(
            ".globl gaunt_start", "gaunt_start:",
            "mov x29, xzr", "mov x30, xzr", "mov x0, sp", "and sp, x0, #-16", "bl {}",
            sym $main,
        );
    };
}

/// Makes system call `number`.
///
/// # Safety
/// The call must be sound with these arguments: addresses among them lead to what the call wants
/// there, for as long as it wants it.
#[cfg(miri)]
pub(super) unsafe fn call(_: c_long, _: [usize; 5]) -> Result<usize, Errno> {
    // Miri interprets no machine code, and has no kernel.
    Err(Errno::NOSYS)
}

/// Makes system call `number`.
///
/// # Safety
/// The call must be sound with these arguments: addresses among them lead to what the call wants
/// there, for as long as it wants it.
#[cfg(not(miri))]
#[inline(always)]
pub(super) unsafe fn call(number: c_long, args: [usize; 5]) -> Result<usize, Errno> {
    let [a, b, c, d, e] = args;
    let result: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel reads these registers, writes the result, rcx and r11, and leaves the rest
    // and the stack alone; what the call itself does the caller answers for.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as usize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            lateout("rcx") _, lateout("r11") _,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above, with the result the only register written.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e,
            options(nostack, preserves_flags),
        );
    }
    // The last 4095 numbers are errors.
    match result.wrapping_neg() {
        error @ 1..4096 => Err(Errno::from_raw_os_error(error as i32)),
        _ => Ok(result),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_errors_are_told_apart() {
        // SAFETY: getpid and close take no address; no descriptor has this number.
        let (pid, close) = unsafe {
            (
                call(libc::SYS_getpid, [0; 5]),
                call(libc::SYS_close, [usize::MAX, 0, 0, 0, 0]),
            )
        };
        assert_eq!(pid, Ok(std::process::id() as usize));
        assert_eq!(close, Err(Errno::BADF));
    }
}
