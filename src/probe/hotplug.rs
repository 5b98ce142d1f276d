//! Processors and memory blocks, which can come and go while the machine runs: which exist, and
//! whether they are in use.
//!
//! From /sys/devices/system (Documentation/ABI/testing/sysfs-devices-system-cpu and
//! sysfs-devices-memory of the kernel), in the order of its directories. Parts are looked up
//! relative to the open directory of their kind, because a path from the root takes twice as long
//! and there may be 100,000 of them. A negative number is looked up as any other, and not found.

use crate::base::limits::CPU_LIST_BYTES;
use crate::base::text::{Digits, parse_u64};
use crate::parse::cpu_list;
use crate::sys::Errno;
use crate::sys::root::{KeptDirectory, Root};

/// A kind of part: processors or memory blocks.
#[derive(Debug)]
pub struct PartKind {
    /// The directory of all parts of this kind.
    pub directory: &'static str,
    /// The name of a part, without its number.
    pub prefix: &'static str,
    /// The file of a part that says whether it is in use, and that changes it.
    pub file: &'static str,
    /// The content of that file for a part that is not in use, and for one that is in use.
    words: [&'static [u8]; 2],
    /// Whether these are memory blocks.
    pub is_memory: bool,
}

/// Processors.
pub static CPUS: PartKind = PartKind {
    directory: "sys/devices/system/cpu",
    prefix: "cpu",
    file: "/online",
    words: [b"0", b"1"],
    is_memory: false,
};

/// Memory blocks.
pub static MEMORY: PartKind = PartKind {
    directory: "sys/devices/system/memory",
    prefix: "memory",
    file: "/state",
    words: [b"offline", b"online"],
    is_memory: true,
};

/// The file that says whether a memory block can be taken out of use. A processor can be if it has
/// the file `online`.
pub const REMOVABLE: &str = "/removable";

/// The step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartStep {
    /// Finding the part: its directory is missing.
    Find,
    /// Taking out of use a part that can never be out of use.
    TakeOut,
    /// Opening a file.
    Open,
    /// Reading a file.
    Read,
    /// Writing a file.
    Write,
}

/// An error of reading or changing the state of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The step that failed.
    pub step: PartStep,
    /// The error; `None` if the file is empty.
    pub errno: Option<Errno>,
}

impl Fault {
    /// An error of a step. EACCES is reported as an error of opening the file.
    pub fn new(step: PartStep, errno: Errno) -> Self {
        let step = if errno == Errno::ACCESS {
            PartStep::Open
        } else {
            step
        };
        let errno = Some(errno);
        Self { step, errno }
    }
}

/// The parts of a kind.
#[derive(Clone, Copy)]
pub struct Parts<'k> {
    kind: &'static PartKind,
    kept: &'k KeptDirectory,
}

impl PartKind {
    /// Opens the directory of all parts of this kind, and the kernel's list of running processors.
    pub fn open(&self, root: &Root) -> Result<KeptDirectory, Errno> {
        KeptDirectory::open(root, self.directory.as_bytes(), b"online")
    }

    /// The parts of this kind in that directory.
    pub fn parts<'k>(&'static self, kept: &'k KeptDirectory) -> Parts<'k> {
        Parts { kind: self, kept }
    }

    /// Puts a part into use, or takes it out of use. May take minutes.
    pub fn set(&'static self, root: &Root, part: i64, online: bool) -> Result<(), Fault> {
        let kept = self.open(root);
        let kept = kept.map_err(|errno| Fault::new(PartStep::Find, errno))?;
        match self.parts(&kept).is_online(None, part)? {
            None if !online => return Err(Fault::new(PartStep::TakeOut, Errno::NOENT)),
            Some(is_online) if is_online != online => {}
            _ => return Ok(()),
        }
        let word = self.words[usize::from(online)];
        let number = Digits::signed(part);
        let path = self.path_of(&number, self.file);
        let written = kept.directory.tell(&path, word);
        written.or_else(|errno| match self.parts(&kept).is_online(None, part) {
            // Somebody else has done it meanwhile: Linux refuses a change to what is.
            Ok(Some(is_online)) if is_online == online => Ok(()),
            _ => Err(Fault::new(PartStep::Write, errno)),
        })
    }

    /// The path of a file of a part, in pieces, relative to the directory of all parts. The first
    /// two pieces are the directory of the part.
    fn path_of<'p>(&'p self, number: &'p Digits, file: &'p str) -> [&'p [u8]; 3] {
        [self.prefix.as_bytes(), number.as_bytes(), file.as_bytes()]
    }
}

impl Parts<'_> {
    /// Reads the kernel's list of running processors; `None` for memory blocks, without such a
    /// list, or if it does not fit into `buffer`.
    ///
    /// Reading the file of a processor takes the lock that is held while a processor starts or
    /// stops, and may wait for seconds. Reading the list takes no lock.
    pub fn running<'b>(&self, buffer: &'b mut [u8; CPU_LIST_BYTES]) -> Option<&'b [u8]> {
        let list = self.kept.read(buffer);
        list.filter(|list| list.ends_with(b"\n"))
    }

    /// Calls `each` with the number of every part until it returns false.
    pub fn each_number(&self, each: &mut dyn FnMut(i64) -> bool) -> Result<(), Errno> {
        self.kept.list(&mut |name, _| {
            let name = name.strip_prefix(self.kind.prefix.as_bytes());
            let number = name.and_then(parse_u64);
            number.is_none_or(|number| each(number.cast_signed()))
        })
    }

    /// Whether a part is in use, from the list of running processors if there is one, else from its
    /// own file; `None` if the part has no such file, because it is always in use.
    pub fn is_online(&self, running: Option<&[u8]>, part: i64) -> Result<Option<bool>, Fault> {
        let listed = running.and_then(|list| cpu_list::contains(list, part.cast_unsigned()));
        if listed.is_some() {
            match self.has_file(part) {
                Ok(true) => return Ok(listed),
                // It runs and has no such file: it always runs.
                Ok(false) if listed == Some(true) => return Ok(None),
                _ => {}
            }
        }
        // A processor is in use unless its file says `0`. A memory block is in use only if its file
        // says `online`, and not for example `going-offline`.
        let word = self.kind.words[usize::from(self.kind.is_memory)];
        let has_word = self.begins_with(part, self.kind.file, word)?;
        Ok(has_word.map(|has_word| has_word == self.kind.is_memory))
    }

    /// Whether a part has its file, which a processor has that can be stopped.
    pub fn has_file(&self, part: i64) -> Result<bool, Errno> {
        let number = Digits::signed(part);
        self.kept
            .directory
            .has_at(&self.kind.path_of(&number, self.kind.file))
    }

    /// Whether a memory block can be taken out of use.
    pub fn is_removable(&self, part: i64) -> Result<bool, Fault> {
        let fixed = self.begins_with(part, REMOVABLE, b"0");
        fixed.map(|fixed| fixed == Some(false))
    }

    /// Whether a file of a part begins with `word`; `None` if the part has no such file.
    fn begins_with(&self, part: i64, file: &str, word: &[u8]) -> Result<Option<bool>, Fault> {
        let mut buffer = [0; 24];
        let number = Digits::signed(part);
        let path = self.kind.path_of(&number, file);
        match self.kept.directory.attribute(&path, &mut buffer) {
            Ok([]) => Err(Fault {
                step: PartStep::Read,
                errno: None,
            }),
            Ok(text) => Ok(Some(text.starts_with(word))),
            Err(Errno::NOENT) => {
                if self.kept.directory.has_at(&path[..2]) == Ok(true) {
                    return Ok(None);
                }
                Err(Fault::new(PartStep::Find, Errno::NOENT))
            }
            Err(errno) => Err(Fault::new(PartStep::Read, errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;
    use std::fs;
    use std::path::Path;

    fn fault<T>(step: PartStep, errno: i32) -> Result<T, Fault> {
        let errno = (errno != 0).then(|| Errno::from_raw_os_error(errno));
        Err(Fault { step, errno })
    }

    fn numbers(parts: Parts<'_>) -> Vec<i64> {
        let mut numbers = Vec::new();
        parts
            .each_number(&mut |number| {
                numbers.push(number);
                true
            })
            .unwrap();
        numbers.sort();
        numbers
    }

    #[test]
    fn lists_every_processor() {
        let (tree, cpus) = (Tree::new(), Path::new(CPUS.directory));
        for name in ["cpufreq", "cpuidle", "cpu", "cpu1x", "cpux", "online"] {
            tree.directory(cpus.join(name));
        }
        assert_eq!(numbers(CPUS.parts(&CPUS.open(&tree.root).unwrap())), []);
        let all: Vec<i64> = (0..1030).chain([5000, 1 << 40]).collect();
        for number in &all {
            tree.directory(cpus.join(format!("cpu{number}")));
        }
        assert_eq!(numbers(CPUS.parts(&CPUS.open(&tree.root).unwrap())), all);
        let mut seen = 0;
        let kept = CPUS.open(&tree.root).unwrap();
        CPUS.parts(&kept)
            .each_number(&mut |_| {
                seen += 1;
                seen < 3
            })
            .unwrap();
        assert_eq!(seen, 3);
    }

    #[test]
    fn reads_whether_a_part_is_in_use() {
        let (tree, cpus) = (Tree::new(), Path::new(CPUS.directory));
        for (number, online) in [(1, "1\n"), (2, "0\n"), (3, ""), (5, "x")] {
            tree.file(cpus.join(format!("cpu{number}/online")), online);
        }
        tree.directory(cpus.join("cpu0"));
        tree.directory(cpus.join("cpu4/online"));
        let kept = CPUS.open(&tree.root).unwrap();
        let parts = CPUS.parts(&kept);
        let states: Vec<_> = (-1..7).map(|cpu| parts.is_online(None, cpu)).collect();
        let expected = [
            fault(PartStep::Find, 2),
            Ok(None),
            Ok(Some(true)),
            Ok(Some(false)),
            fault(PartStep::Read, 0),
            fault(PartStep::Read, 21),
            Ok(Some(true)),
            fault(PartStep::Find, 2),
        ];
        assert_eq!(states, expected);
    }

    #[test]
    fn reads_the_list_of_running_processors_instead_of_their_files() {
        let (tree, cpus) = (Tree::new(), Path::new(CPUS.directory));
        // Reading one of these files fails, because they are directories.
        for number in [1, 2] {
            tree.directory(cpus.join(format!("cpu{number}/online")));
        }
        tree.directory(cpus.join("cpu0"));
        let state = |kept: &KeptDirectory, cpu| {
            let mut buffer = [0; CPU_LIST_BYTES];
            let cpus = CPUS.parts(kept);
            cpus.is_online(cpus.running(&mut buffer), cpu)
        };
        let without_list = CPUS.open(&tree.root).unwrap();
        assert_eq!(state(&without_list, 1), fault(PartStep::Read, 21));
        tree.file(cpus.join("online"), "0-1\n");
        let kept = CPUS.open(&tree.root).unwrap();
        assert_eq!(state(&kept, 0), Ok(None));
        assert_eq!(state(&kept, 1), Ok(Some(true)));
        assert_eq!(state(&kept, 2), Ok(Some(false)));
        assert_eq!(state(&kept, 3), fault(PartStep::Find, 2));
        // Directory and list stay open, and are read anew.
        tree.file(cpus.join("online"), "0,2\n");
        tree.directory(cpus.join("cpu3"));
        assert_eq!(state(&kept, 1), Ok(Some(false)));
        assert_eq!(numbers(CPUS.parts(&kept)), [0, 1, 2, 3]);
        assert_eq!(numbers(CPUS.parts(&kept)), [0, 1, 2, 3]);
        // A list that does not fit into the buffer is ignored.
        tree.file(cpus.join("online"), "0-1,".repeat(CPU_LIST_BYTES));
        assert_eq!(state(&kept, 1), fault(PartStep::Read, 21));
    }

    #[test]
    fn changes_a_part_only_if_its_state_differs() {
        let (tree, blocks) = (Tree::new(), Path::new(MEMORY.directory));
        tree.directory(blocks.join("memory7"));
        let state = &blocks.join("memory7/state");
        assert_eq!(MEMORY.set(&tree.root, 7, true), Ok(()));
        assert_eq!(
            MEMORY.set(&tree.root, 7, false),
            fault(PartStep::TakeOut, 2)
        );
        for (before, online, after) in [
            ("online\n", true, "online\n"),
            ("online\n", false, "offline"),
            ("offline\n", false, "offline\n"),
            ("offline\n", true, "onlinee\n"),
            ("going-offline\n", true, "onlineoffline\n"),
        ] {
            tree.file(state, before);
            assert_eq!(MEMORY.set(&tree.root, 7, online), Ok(()));
            // In this plain file the rest of the former content remains; in sysfs there is none.
            assert_eq!(fs::read_to_string(tree.path.join(state)).unwrap(), after);
        }
        fs::remove_file(tree.path.join(state)).unwrap();
        tree.link(state, "/dev/full");
        assert_eq!(MEMORY.set(&tree.root, 7, true), fault(PartStep::Write, 28));
    }
}
