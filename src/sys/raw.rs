//! The two pieces of machine code: the entry of the program, and the system call instruction.
//!
//! A C library has both, and adds 3 kB: thread storage, exit handlers, environment and errno, which
//! a static program of one thread never uses. Of musl only memcpy and its like are linked. The
//! functions that the `libc` crate declares must not be called, because there is no thread storage
//! for their errno (`tests/tidy.rs` checks). A port to another processor needs its few lines here,
//! and a check of the kernel structures that are declared in this folder.
#![allow(unsafe_code)]

use core::ffi::c_long;

use rustix::io::Errno;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the system calls and signal actions of this processor are not known here");

/// Defines the entry of the program, `gaunt_start` (see `build.rs`). It calls `$main` with the
/// address of the stack, where the kernel has laid out arguments and environment (`sys::argv`).
/// `$main` must not return.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        // Marks the outermost frame, and aligns the stack as the calling convention requires.
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
/// The call must be sound with these arguments: addresses among them must lead to memory as the
/// call requires it, for as long as the kernel uses it.
#[cfg(miri)]
pub(super) unsafe fn call(_: c_long, _: [usize; 5]) -> Result<usize, Errno> {
    // Miri neither interprets machine code nor has a kernel.
    Err(Errno::NOSYS)
}

/// Makes system call `number`.
///
/// # Safety
/// The call must be sound with these arguments: addresses among them must lead to memory as the
/// call requires it, for as long as the kernel uses it.
#[cfg(not(miri))]
#[inline(always)]
pub(super) unsafe fn call(number: c_long, args: [usize; 5]) -> Result<usize, Errno> {
    let [a, b, c, d, e] = args;
    let result: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel reads these registers, writes rax, rcx and r11, and keeps the others and
    // the stack. The caller guarantees that the call itself is sound.
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
    // SAFETY: as above; x0 is the only register written.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e,
            options(nostack, preserves_flags),
        );
    }
    // Results from -4095 to -1 are errors.
    match result.wrapping_neg() {
        error @ 1..4096 => Err(Errno::from_raw_os_error(error as i32)),
        _ => Ok(result),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_results_from_errors() {
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
