//! What the kernel hands a program at its start: arguments and environment.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_char};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::stdio;

/// What this process was started with.
#[derive(Clone, Copy)]
pub struct Start {
    /// Its command line, its own name included.
    pub words: Strings,
    /// Its environment.
    pub environment: Strings,
}

/// The number of words that the kernel laid out at the start of this process, with the words and the
/// environment behind it; null until [`Start::at`].
static LAID_OUT: AtomicPtr<usize> = AtomicPtr::new(ptr::null_mut());

impl Start {
    /// What the kernel laid out for this process, which is remembered for [`Start::remembered`].
    /// Descriptors 0 to 2 are open from here on: [`stdio::secure`].
    ///
    /// # Safety
    /// `stack` must be what the kernel hands a program: the number of words, as many pointers to
    /// words and a null, pointers to the environment and a null. It stays as long as the process,
    /// and nobody may ever write to any of it. Nothing else of this crate may have run before.
    pub unsafe fn at(stack: *const usize) -> Self {
        LAID_OUT.store(stack.cast_mut(), Ordering::Relaxed);
        stdio::secure();
        // SAFETY: the caller answers for what is there.
        unsafe { Self::of(stack) }
    }

    /// # Safety
    /// As for [`Start::at`].
    unsafe fn of(stack: *const usize) -> Self {
        // SAFETY: the words begin behind their number; the caller answers for them.
        let words = unsafe { stack.add(1) }.cast::<*const c_char>();
        // SAFETY: as many words as the number says, and their null, come before the environment.
        let environment = unsafe { words.add(*stack).add(1) };
        Self {
            words: Strings(words),
            environment: Strings(environment),
        }
    }

    /// The same, as this process was started; `None` in a test, which the kernel did not start here.
    pub(super) fn remembered() -> Option<Self> {
        let stack = LAID_OUT.load(Ordering::Relaxed);
        // SAFETY: `at` alone stores an address, and was promised what is there.
        (!stack.is_null()).then(|| unsafe { Self::of(stack) })
    }
}

/// Strings of this process, as many as there are before the null that ends them.
#[derive(Clone, Copy)]
pub struct Strings(*const *const c_char);

impl Strings {
    /// The strings of a vector that a program is handed.
    ///
    /// # Safety
    /// `vector` must be as the kernel lays them out for a program: pointers to strings, ended by a
    /// null. The strings live as long as the process, and nobody writes to them; nor to the vector, as
    /// long as this value or a copy of it is used.
    pub unsafe fn new(vector: *const *const c_char) -> Self {
        Self(vector)
    }

    /// Where the vector is that execve(2) takes.
    pub(super) fn address(self) -> usize {
        self.0.expose_provenance()
    }

    /// The next string, with the NUL that ends it.
    pub(super) fn next_c_str(&mut self) -> Option<&'static CStr> {
        // SAFETY: `new` was promised a vector ended by a null, and this has not passed it.
        let string = unsafe { *self.0 };
        if string.is_null() {
            return None;
        }
        // SAFETY: this element is not the last, so the next is inside the vector.
        self.0 = unsafe { self.0.add(1) };
        // SAFETY: what is not the null is a string that lives as long as the process.
        Some(unsafe { CStr::from_ptr(string) })
    }

    /// No strings.
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

/// The value of a variable of this environment.
pub fn variable(environment: Strings, name: &[u8]) -> Option<&'static [u8]> {
    let mut values = environment.filter_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="));
    values.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_by_their_whole_name() {
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
