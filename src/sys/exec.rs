//! The execution of programs: execve(2), with argument and environment vectors, and a search in
//! PATH.
//!
//! rustix keeps execve private, so it is the bare system call. For children of the agent, and for
//! an agent that starts anew.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_char};
use core::mem::ManuallyDrop;
use core::ptr;

use rustix::io::Errno;

use super::argv::{Start, Strings, variable};
use super::mem::Buffer;
use super::{process, raw, signal};
use crate::base::limits::REQUEST_BYTES;
use crate::base::path::Path;
use crate::base::sink::{ByteSink, Full};
use crate::base::text::cut;

/// Executes the program of this process again, with the arguments and the environment that it was
/// started with. Returns only if that failed.
///
/// Finds the program through /proc, or, without /proc, at the path that it was started by. No
/// signal is then handled, and only the signals of [`Signals`](signal::Signals) are blocked.
pub fn execute_again() {
    signal::restore_for_agent();
    let Some(Start { words, environment }) = Start::remembered() else {
        return;
    };
    execute(c"/proc/self/exe", words, environment);
    if let Some(name) = { words }.next_c_str()
        && name.to_bytes().contains(&b'/')
    {
        execute(name, words, environment);
    }
}

/// Sets the name of this process to the name of its program. After [`execute_again`] through /proc
/// the name is `exe`.
pub fn restore_name() {
    let name = Start::remembered().and_then(|start| { start.words }.next_c_str());
    let Some(name) = name else {
        return;
    };
    let slash = name.to_bytes().iter().rposition(|byte| *byte == b'/');
    let name = &name[slash.map_or(0, |slash| slash + 1)..];
    let _ = rustix::thread::set_name(name);
}

/// Executes the program at `path`. Returns only if that failed, with the error.
fn execute(path: &CStr, words: Strings, environment: Strings) -> Errno {
    let path = path.as_ptr().expose_provenance();
    let args = [path, words.address(), environment.address(), 0, 0];
    // SAFETY: the path ends in a NUL and outlives the call. Both vectors end in a null, their
    // strings end in a NUL, and nothing writes to them during the call (`Strings::new`).
    let done = unsafe { raw::call(libc::SYS_execve, args) };
    done.err().unwrap_or(Errno::NOEXEC)
}

/// The interpreter of scripts without a `#!` line.
const SHELL: &CStr = c"/bin/sh";

/// The arguments and the environment of a program, as execve(2) takes them. For children of the
/// agent only: the memory is never freed.
pub struct ExecArgs {
    /// Strings, each with its NUL. A string that [`ExecArgs::push`] has taken never moves.
    text: ManuallyDrop<Buffer>,
    /// Pointers only: the shell, the arguments, a null, the environment, a null. The shell comes
    /// first in case it has to run a script. Each pointer but the nulls leads to a string that ends
    /// in a NUL and lives as long as the process. The list is written as pointers, because bytes
    /// would have no provenance. It is read only when it grows no more, and so does not move.
    list: ManuallyDrop<Buffer>,
    /// The index of the first pointer of the environment.
    environment: usize,
    /// Whether there was room for everything.
    fits: bool,
}

/// An element of the list.
type Pointer = *const c_char;

impl ExecArgs {
    /// The arguments that `write` adds, and no environment yet. `room` is the number of bytes for
    /// the strings of both, NULs included.
    pub fn with_arguments(room: usize, write: impl FnOnce(&mut Self)) -> Self {
        let mut vectors = Self {
            text: Buffer::lasting(room),
            list: ManuallyDrop::new(Buffer::growing(REQUEST_BYTES)),
            environment: 0,
            fits: true,
        };
        vectors.add(SHELL);
        write(&mut vectors);
        vectors.add_pointer(ptr::null());
        vectors.environment = vectors.list.len() / size_of::<Pointer>();
        vectors
    }

    /// The buffer for the next string, which must not contain a NUL.
    pub fn text(&mut self) -> &mut Buffer {
        &mut self.text
    }

    /// Adds the string in [`ExecArgs::text`], and returns it; an empty one if there was no room for
    /// it.
    pub fn push(&mut self) -> &'static [u8] {
        let _ = self.text.append(b"\0");
        let run = self.text.take();
        match run {
            [string @ .., 0] => {
                self.add_pointer(run.as_ptr().cast());
                string
            }
            // There was no room for the string or its NUL.
            _ => {
                self.fits = false;
                b""
            }
        }
    }

    /// Adds a string.
    pub fn add(&mut self, string: &'static CStr) {
        self.add_pointer(string.as_ptr());
    }

    /// Adds the strings for which `is_wanted` returns true.
    pub fn add_all(&mut self, mut strings: Strings, is_wanted: impl Fn(&[u8]) -> bool) {
        while let Some(string) = strings.next_c_str() {
            if is_wanted(string.to_bytes()) {
                self.add(string);
            }
        }
    }

    /// Adds a null, or a pointer to a string that ends in a NUL and lives as long as the process.
    // Not inlined, to keep one copy of the code.
    #[inline(never)]
    fn add_pointer(&mut self, pointer: Pointer) {
        match self.list.extend(size_of::<Pointer>()) {
            // SAFETY: there is room for one pointer. It is aligned: the list has no memory at rest,
            // so it begins where a mapping begins, with a page, and holds pointers only.
            Ok(room) => unsafe { room.as_mut_ptr().cast::<Pointer>().write(pointer) },
            Err(Full) => self.fits = false,
        }
    }

    /// Executes the program `name`, as execvpe(3) does. Returns only if that failed, with the
    /// error.
    ///
    /// A name without a slash is searched for in the directories of PATH of this environment, or of
    /// `path` if that has no PATH (execvpe uses PATH of the caller). The first file that can be
    /// executed is taken.
    ///
    /// Resets the signals ([`signal::restore`]), and closes descriptors above 2.
    pub fn run(&mut self, name: &[u8], path: &[u8]) -> Errno {
        self.add_pointer(ptr::null());
        if !self.fits {
            return Errno::NOMEM;
        }
        // SAFETY: everything has found room, so the environment begins at `second`, and this null
        // ends it. Each pointer before the null leads to a string (`add_pointer`), and nothing is
        // written to the list while this is read.
        let environment = unsafe {
            let list = self.list.bytes().as_ptr().cast::<Pointer>();
            Strings::new(list.add(self.environment))
        };
        let mut search = variable(environment, b"PATH").unwrap_or(path);
        if name.is_empty() || name.contains(&b'/') {
            search = b"";
        }
        signal::restore();
        let mut denied = false;
        loop {
            let rest = search.len();
            let directory = cut(&mut search, b':');
            let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
            let file = Path::of(&[directory, slash, name]);
            let Some(file) = file.as_c_str() else {
                return Errno::NAMETOOLONG;
            };
            let errno = self.execute(file);
            match errno {
                Errno::ACCESS => denied = true,
                Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV | Errno::TIMEDOUT => {}
                _ => return errno,
            }
            // This was the last directory: no colon followed.
            if directory.len() == rest {
                return if denied { Errno::ACCESS } else { errno };
            }
        }
    }

    /// Executes the program at `path`, or the shell with the script at `path`. Returns only if that
    /// failed, with the error. The list is complete.
    fn execute(&mut self, path: &CStr) -> Errno {
        process::close_on_exec();
        let list = self.list.bytes_mut().as_mut_ptr().cast::<Pointer>();
        // SAFETY: the list has three pointers at least: the shell, the null that ends the arguments
        // (`with_arguments`), and a null at the end (`run`). Each that is no null leads to a string
        // that stays for good (`add_pointer`), or to `path` while that is there: before this
        // returns, the first argument is again what it was. Nothing is written to the list while a
        // call reads it.
        unsafe {
            let first = list.add(1);
            let environment = Strings::new(list.add(self.environment));
            let errno = execute(path, Strings::new(first), environment);
            if errno != Errno::NOEXEC {
                return errno;
            }
            let argument = first.replace(path.as_ptr());
            let errno = execute(SHELL, Strings::new(list), environment);
            first.write(argument);
            errno
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The arguments, with the shell before them, and the environment of a program.
    fn given(vectors: &ExecArgs) -> [Vec<&'static [u8]>; 2] {
        let list = vectors.list.bytes().as_ptr().cast::<Pointer>();
        // SAFETY: both end in a null (`ExecArgs::with_arguments`, `filled`), and nothing is added
        // meanwhile.
        unsafe {
            [list, list.add(vectors.environment)].map(|vector| Strings::new(vector).collect())
        }
    }

    fn filled(strings: usize) -> ExecArgs {
        let mut vectors = ExecArgs::with_arguments(100 + 8 * strings, |arguments| {
            for text in [&b"name"[..], b"an argument", b""] {
                arguments.text().append(text).unwrap();
                assert_eq!(arguments.push(), text);
            }
        });
        vectors.add(c"A=1");
        for number in 0..strings {
            vectors
                .text()
                .append(format!("B{number}").as_bytes())
                .unwrap();
            vectors.push();
        }
        let own = [c"LANG=C".as_ptr(), c"HOME=/".as_ptr(), ptr::null()];
        // SAFETY: constants in a vector that ends in a null and outlives its use.
        let own = unsafe { Strings::new(own.as_ptr()) };
        vectors.add_all(own, |entry| entry.starts_with(b"HOME"));
        vectors.add_pointer(ptr::null());
        vectors
    }

    #[test]
    fn vectors_hold_the_strings_that_were_added() {
        // Enough for the list to move while it grows.
        let strings = if cfg!(miri) { 1_000 } else { 100_000 };
        let vectors = filled(strings);
        let [arguments, environment] = given(&vectors);
        assert_eq!(arguments, [b"/bin/sh", &b"name"[..], b"an argument", b""]);
        assert_eq!(environment.len(), strings + 2);
        assert_eq!(environment[0], b"A=1");
        assert_eq!(environment[900], b"B899");
        assert_eq!(environment[strings + 1], b"HOME=/");
        assert!(vectors.fits);
    }

    #[test]
    fn never_executes_with_a_string_without_nul() {
        // Too long, whatever is done about it afterwards; and never written.
        let cut = ExecArgs::with_arguments(4, |arguments| {
            let _ = arguments.text().append(b"long");
            assert_eq!(arguments.push(), b"");
            arguments.text().truncate(0);
        });
        let moved = ExecArgs::with_arguments(4, |arguments| {
            *arguments.text() = Buffer::growing(100);
            let _ = arguments.text().append(b"long");
            assert_eq!(arguments.push(), b"");
        });
        for mut vectors in [cut, moved] {
            assert_eq!(vectors.run(b"/nothing", b""), Errno::NOMEM);
        }
    }
}
