//! Parts of the machine that can be taken away while it runs, processors and memory blocks: which
//! there are, and whether they are in use.
//!
//! From /sys/devices/system, in the order of its directories. Parts are looked up in the open directory
//! of their kind: from the root that takes twice as long, and there can be very many. A number below 0 names a part like any
//! other, which does not exist.

use crate::base::limits::CPU_LIST_BYTES;
use crate::base::text::{Digits, parse_u64};
use crate::parse::cpu_list;
use crate::sys::Errno;
use crate::sys::root::Root;

/// A kind of part.
#[derive(Debug)]
pub struct Kind {
    /// The directory that all are in.
    pub directory: &'static str,
    /// What the names of parts begin with, before their number.
    pub prefix: &'static str,
    /// The file that says whether a part is in use.
    pub file: &'static str,
    /// What that file says, and is told, of a part that is not in use and of one that is.
    words: [&'static [u8]; 2],
    /// Which of the words has to be there: whatever else a processor's file says, it is in use, and
    /// whatever else that of a memory block says, such as `going-offline`, it is not.
    telling: usize,
}

/// Processors.
pub static CPUS: Kind = Kind {
    directory: "sys/devices/system/cpu",
    prefix: "cpu",
    file: "/online",
    words: [b"0", b"1"],
    telling: 0,
};

/// Memory blocks.
pub static MEMORY: Kind = Kind {
    directory: "sys/devices/system/memory",
    prefix: "memory",
    file: "/state",
    words: [b"offline", b"online"],
    telling: 1,
};

/// The file that says whether a memory block can be taken out of use. A processor can if it has a
/// file that says whether it is in use.
pub const REMOVABLE: &str = "/removable";

/// What could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To find the part: its directory is missing.
    Find,
    /// To take a part out of use that never can be.
    TakeOut,
    /// To open the file.
    Open,
    /// To read it.
    Read,
    /// To write it.
    Write,
}

/// Why something could not be said of a part, or done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What could not be done.
    pub step: Step,
    /// The error; none if the file is empty.
    pub errno: Option<Errno>,
}

impl Fault {
    /// An error of a step. EACCES is reported as an error of opening the file.
    pub fn new(step: Step, errno: Errno) -> Self {
        let step = if errno == Errno::ACCESS {
            Step::Open
        } else {
            step
        };
        let errno = Some(errno);
        Self { step, errno }
    }
}

impl Kind {
    /// Whether these are memory blocks, which are told of in other words than processors.
    pub fn is_memory(&self) -> bool {
        core::ptr::eq(self, &MEMORY)
    }

    /// Reads the kernel's list of the processors that run into `buffer`; `None` without such a list,
    /// or if it is too long to be read whole.
    ///
    /// A processor's own file takes the lock that somebody who starts or stops it holds all the while:
    /// reading it may wait for seconds. The list takes none.
    pub fn online_list<'b>(
        &self,
        directory: &Root,
        buffer: &'b mut [u8; CPU_LIST_BYTES],
    ) -> Option<&'b [u8]> {
        if self.is_memory() {
            return None;
        }
        let list = directory.attribute(&[b"online"], buffer).ok();
        list.filter(|list| list.ends_with(b"\n"))
    }

    /// Opens the directory that all are in.
    pub fn open(&self, root: &Root) -> Result<Root, Errno> {
        root.directory_at(&[self.directory.as_bytes()])
    }

    /// Calls `each` with the number of every part in that directory until it returns false.
    pub fn each(&self, directory: &Root, each: &mut dyn FnMut(i64) -> bool) -> Result<(), Errno> {
        directory.list(&mut |name, _| {
            let name = name.strip_prefix(self.prefix.as_bytes());
            let number = name.and_then(parse_u64);
            number.is_none_or(|number| each(number.cast_signed()))
        })
    }

    /// Whether a part is in use, by the list of those that are or else by its own file; `None` if it
    /// has no such file, because it always is.
    pub fn is_online(
        &self,
        directory: &Root,
        list: Option<&[u8]>,
        part: i64,
    ) -> Result<Option<bool>, Fault> {
        let listed = list.and_then(|list| cpu_list::contains(list, part.cast_unsigned()));
        if listed.is_some() {
            let number = Digits::signed(part);
            if directory.has_at(&self.pieces(&number, self.file)) == Ok(true) {
                return Ok(listed);
            }
        }
        let said = self.says(directory, part, self.file, self.words[self.telling])?;
        Ok(said.map(|said| said == (self.telling == 1)))
    }

    /// Whether a memory block can be taken out of use.
    pub fn is_removable(&self, directory: &Root, part: i64) -> Result<bool, Fault> {
        let fixed = self.says(directory, part, REMOVABLE, b"0");
        fixed.map(|fixed| fixed == Some(false))
    }

    /// Puts a part into use, or takes it out. May take long.
    pub fn set(&self, root: &Root, part: i64, online: bool) -> Result<(), Fault> {
        let directory = self.open(root);
        let directory = directory.map_err(|errno| Fault::new(Step::Find, errno))?;
        match self.is_online(&directory, None, part)? {
            None if !online => return Err(Fault::new(Step::TakeOut, Errno::NOENT)),
            Some(is_online) if is_online != online => {}
            _ => return Ok(()),
        }
        let word = self.words[usize::from(online)];
        let number = Digits::signed(part);
        let told = directory.tell(&self.pieces(&number, self.file), word);
        told.map_err(|errno| Fault::new(Step::Write, errno))
    }

    /// Whether a file of a part begins with `word`; `None` if there is no such file.
    #[inline(never)]
    fn says(
        &self,
        directory: &Root,
        part: i64,
        file: &str,
        word: &[u8],
    ) -> Result<Option<bool>, Fault> {
        let mut buffer = [0; 24];
        let number = Digits::signed(part);
        let path = self.pieces(&number, file);
        match directory.attribute(&path, &mut buffer) {
            Ok([]) => Err(Fault {
                step: Step::Read,
                errno: None,
            }),
            Ok(text) => Ok(Some(text.starts_with(word))),
            Err(Errno::NOENT) => {
                if directory.has_at(&path[..2]) == Ok(true) {
                    return Ok(None);
                }
                Err(Fault::new(Step::Find, Errno::NOENT))
            }
            Err(errno) => Err(Fault::new(Step::Read, errno)),
        }
    }

    /// The name of a file of a part within the directory of all, in pieces; the first two name that
    /// part's directory.
    fn pieces<'p>(&'p self, number: &'p Digits, file: &'p str) -> [&'p [u8]; 3] {
        [self.prefix.as_bytes(), number.as_bytes(), file.as_bytes()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs;

    fn machine(name: &str, kind: &Kind) -> (std::path::PathBuf, std::path::PathBuf, Root) {
        let path = std::env::temp_dir().join(format!("gaunt-parts-{}-{name}", std::process::id()));
        let parts = path.join(kind.directory);
        fs::create_dir_all(&parts).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        (path, parts, root)
    }

    fn fault<T>(step: Step, errno: i32) -> Result<T, Fault> {
        let errno = (errno != 0).then(|| Errno::from_raw_os_error(errno));
        Err(Fault { step, errno })
    }

    fn numbers(root: &Root) -> Vec<i64> {
        let mut numbers = Vec::new();
        CPUS.each(&CPUS.open(root).unwrap(), &mut |number| {
            numbers.push(number);
            true
        })
        .unwrap();
        numbers.sort();
        numbers
    }

    #[test]
    fn no_processor_is_missing() {
        let (path, cpus, root) = machine("many", &CPUS);
        for name in ["cpufreq", "cpuidle", "cpu", "cpu1x", "cpux", "online"] {
            fs::create_dir(cpus.join(name)).unwrap();
        }
        assert_eq!(numbers(&root), []);
        let all: Vec<i64> = (0..1030).chain([5000, 1 << 40]).collect();
        for number in &all {
            fs::create_dir(cpus.join(format!("cpu{number}"))).unwrap();
        }
        assert_eq!(numbers(&root), all);
        let mut seen = 0;
        CPUS.each(&CPUS.open(&root).unwrap(), &mut |_| {
            seen += 1;
            seen < 3
        })
        .unwrap();
        assert_eq!(seen, 3);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_part_says_whether_it_is_in_use() {
        let (path, cpus, root) = machine("online", &CPUS);
        for (number, online) in [(1, "1\n"), (2, "0\n"), (3, ""), (5, "x")] {
            fs::create_dir(cpus.join(format!("cpu{number}"))).unwrap();
            fs::write(cpus.join(format!("cpu{number}/online")), online).unwrap();
        }
        fs::create_dir(cpus.join("cpu0")).unwrap();
        fs::create_dir_all(cpus.join("cpu4/online")).unwrap();
        let directory = CPUS.open(&root).unwrap();
        let states: Vec<_> = (-1..7)
            .map(|cpu| CPUS.is_online(&directory, None, cpu))
            .collect();
        let expected = [
            fault(Step::Find, 2),
            Ok(None),
            Ok(Some(true)),
            Ok(Some(false)),
            fault(Step::Read, 0),
            fault(Step::Read, 21),
            Ok(Some(true)),
            fault(Step::Find, 2),
        ];
        assert_eq!(states, expected);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn the_list_of_running_processors_spares_reading_their_files() {
        let (path, cpus, root) = machine("list", &CPUS);
        // Their files say nothing: whoever reads one gets an error.
        for number in [1, 2] {
            fs::create_dir_all(cpus.join(format!("cpu{number}/online"))).unwrap();
        }
        fs::create_dir(cpus.join("cpu0")).unwrap();
        let directory = CPUS.open(&root).unwrap();
        let state = |cpu| {
            let mut buffer = [0; CPU_LIST_BYTES];
            let list = CPUS.online_list(&directory, &mut buffer);
            CPUS.is_online(&directory, list, cpu)
        };
        assert_eq!(state(1), fault(Step::Read, 21));
        fs::write(cpus.join("online"), "0-1\n").unwrap();
        assert_eq!(state(0), Ok(None));
        assert_eq!(state(1), Ok(Some(true)));
        assert_eq!(state(2), Ok(Some(false)));
        assert_eq!(state(3), fault(Step::Find, 2));
        // One that was not read to its end is not trusted.
        fs::write(cpus.join("online"), "0-1,".repeat(CPU_LIST_BYTES)).unwrap();
        assert_eq!(state(1), fault(Step::Read, 21));
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_part_is_told_only_what_is_new_to_it() {
        let (path, blocks, root) = machine("set", &MEMORY);
        fs::create_dir(blocks.join("memory7")).unwrap();
        let state = blocks.join("memory7/state");
        assert_eq!(MEMORY.set(&root, 7, true), Ok(()));
        assert_eq!(MEMORY.set(&root, 7, false), fault(Step::TakeOut, 2));
        for (before, online, after) in [
            ("online\n", true, "online\n"),
            ("online\n", false, "offline"),
            ("offline\n", false, "offline\n"),
            ("offline\n", true, "onlinee\n"),
            ("going-offline\n", true, "onlineoffline\n"),
        ] {
            fs::write(&state, before).unwrap();
            assert_eq!(MEMORY.set(&root, 7, online), Ok(()));
            // A file in sysfs has nothing behind what is written.
            assert_eq!(fs::read_to_string(&state).unwrap(), after);
        }
        fs::remove_file(&state).unwrap();
        std::os::unix::fs::symlink("/dev/full", &state).unwrap();
        assert_eq!(MEMORY.set(&root, 7, true), fault(Step::Write, 28));
        fs::remove_dir_all(path).unwrap();
    }
}
