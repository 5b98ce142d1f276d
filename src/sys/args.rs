//! What the kernel hands a program at its start: arguments and environment.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_char, c_int};

/// The arguments of this process, without the program's own name.
#[derive(Clone, Copy)]
pub struct Args {
    next: *const *const c_char,
    left: usize,
}

impl Args {
    /// The arguments as `main` receives them.
    ///
    /// # Safety
    /// `argv` must be the vector that the C library's entry code passes to `main`: `argc` pointers
    /// to strings that live as long as the process and that nobody writes to.
    pub unsafe fn new(argc: c_int, argv: *const *const c_char) -> Self {
        let count = usize::try_from(argc).unwrap_or(0);
        if count == 0 {
            return Self {
                next: argv,
                left: 0,
            };
        }
        // SAFETY: there is at least one element, so one past it is inside or just behind the vector.
        let next = unsafe { argv.add(1) };
        Self {
            next,
            left: count - 1,
        }
    }
}

impl Iterator for Args {
    type Item = &'static [u8];

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // SAFETY: `left` counted this element, so it is inside the vector that `new` was promised,
        // and it is a string that lives as long as the process.
        let text = unsafe { CStr::from_ptr(*self.next) };
        // SAFETY: one past an element of the vector is inside or just behind it.
        self.next = unsafe { self.next.add(1) };
        Some(text.to_bytes())
    }
}

/// The value of environment variable `name`.
pub fn variable(name: &CStr) -> Option<&'static [u8]> {
    // SAFETY: `name` ends in a NUL. Nothing in the agent changes the environment, so the value,
    // which lies where the kernel put it at the start, stays as it is for the life of the process.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: getenv returns a string, and as said above it is never changed.
    Some(unsafe { CStr::from_ptr(value) }.to_bytes())
}
