//! Arguments and environment, as the kernel lays them out on the stack of a new program.
//!
//! The layout is that of the System V ABI: the number of arguments, pointers to the arguments, a
//! null, pointers to the environment, a null.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_char};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::stdio;

/// Arguments and environment of this process.
#[derive(Clone, Copy)]
pub struct Start {
    /// The command line, with the name of the program first.
    pub words: Strings,
    /// The environment.
    pub environment: Strings,
}

/// The address of the layout, for [`Start::remembered`]; null before [`Start::at`].
static LAID_OUT: AtomicPtr<usize> = AtomicPtr::new(ptr::null_mut());

impl Start {
    /// Reads the layout at `stack`, and remembers it. Opens descriptors 0 to 2 if they are closed,
    /// see [`stdio::secure`].
    ///
    /// # Safety
    /// `stack` must be the address of the layout above, which lives as long as the process.
    /// Nothing may ever write to it. No other function of this crate may have run before.
    pub unsafe fn at(stack: *const usize) -> Self {
        LAID_OUT.store(stack.cast_mut(), Ordering::Relaxed);
        stdio::secure();
        // SAFETY: the caller guarantees the layout.
        unsafe { Self::of(stack) }
    }

    /// # Safety
    /// As for [`Start::at`].
    unsafe fn of(stack: *const usize) -> Self {
        // SAFETY: the pointers to arguments follow their number, as the caller guarantees.
        let words = unsafe { stack.add(1) }.cast::<*const c_char>();
        // SAFETY: the pointers to arguments, as many as the number says, and a null come before the
        // environment.
        let environment = unsafe { words.add(*stack).add(1) };
        Self {
            words: Strings(words),
            environment: Strings(environment),
        }
    }

    /// The arguments and the environment that [`Start::at`] read; `None` in tests, which never call
    /// it.
    pub(super) fn remembered() -> Option<Self> {
        let stack = LAID_OUT.load(Ordering::Relaxed);
        // SAFETY: only `at` stores an address, and its caller guarantees the layout there.
        (!stack.is_null()).then(|| unsafe { Self::of(stack) })
    }
}

/// A list of strings of this process: pointers to strings, ended by a null.
#[derive(Clone, Copy)]
pub struct Strings(*const *const c_char);

impl Strings {
    /// The strings of `vector`.
    ///
    /// # Safety
    /// `vector` must be pointers to strings, ended by a null. The strings must live as long as the
    /// process, and nothing may write to them. Nothing may write to the vector while this value or
    /// a copy of it is in use.
    pub unsafe fn new(vector: *const *const c_char) -> Self {
        Self(vector)
    }

    /// The address of the vector, for execve(2).
    pub(super) fn address(self) -> usize {
        self.0.expose_provenance()
    }

    /// Takes the next string.
    pub(super) fn next_c_str(&mut self) -> Option<&'static CStr> {
        // SAFETY: the vector ends in a null (`new`), which this has not passed yet.
        let string = unsafe { *self.0 };
        if string.is_null() {
            return None;
        }
        // SAFETY: this element is not the null, so the vector has a next one.
        self.0 = unsafe { self.0.add(1) };
        // SAFETY: an element that is not the null is a string that lives as long as the process.
        Some(unsafe { CStr::from_ptr(string) })
    }

    /// An empty list.
    pub const fn none() -> Self {
        const NONE: &[*const c_char] = &[core::ptr::null()];
        Self(NONE.as_ptr())
    }
}

impl Iterator for Strings {
    type Item = &'static [u8];

    fn next(&mut self) -> Option<Self::Item> {
        self.next_c_str().map(CStr::to_bytes)
    }
}

/// The value of a variable of an environment.
pub fn variable(environment: Strings, name: &[u8]) -> Option<&'static [u8]> {
    let mut values = environment.filter_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="));
    values.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_variables_by_their_whole_name() {
        let entries = [c"PATHS=x", c"PATH=/bin", c"TZ="];
        let vector = [
            entries[0].as_ptr(),
            entries[1].as_ptr(),
            entries[2].as_ptr(),
            core::ptr::null(),
        ];
        // SAFETY: the entries are constants, and the vector outlives its use below.
        let environment = unsafe { Strings::new(vector.as_ptr()) };
        assert_eq!(environment.count(), 3);
        assert_eq!(variable(environment, b"PATH"), Some(&b"/bin"[..]));
        assert_eq!(variable(environment, b"TZ"), Some(&b""[..]));
        assert_eq!(variable(environment, b"HOME"), None);
    }
}
