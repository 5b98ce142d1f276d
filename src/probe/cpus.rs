//! The processors, from /sys/devices/system/cpu, in the order of the directory.

use crate::base::path::Path;
use crate::base::text::parse_u64;
use crate::sys::Errno;
use crate::sys::root::Root;
use crate::sys::stream::{self, Read};

const DIRECTORY: &[u8] = b"sys/devices/system/cpu";

/// Calls `each` with the number of every processor until it returns false.
pub fn each(root: &Root, each: &mut dyn FnMut(u64) -> bool) -> Result<(), Errno> {
    root.list(&Path::of(&[DIRECTORY]), &mut |name, _| {
        let number = name.strip_prefix(b"cpu").and_then(parse_u64);
        number.is_none_or(&mut *each)
    })
}

/// Whether a processor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Online {
    /// It does, and cannot be stopped.
    Always,
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// Why it is not known whether a processor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its directory is gone.
    Directory(Errno),
    /// The file that says so cannot be opened.
    Open(Errno),
    /// The file cannot be read.
    Read(Errno),
    /// The file is empty.
    Empty,
}

/// Whether the processor with this number runs.
pub fn online(root: &Root, number: u64) -> Result<Online, Fault> {
    let mut path = Path::of(&[DIRECTORY, b"/cpu"]);
    path.push_number(number);
    let directory = path.len();
    path.push(b"/online");
    let file = match root.file(&path) {
        Ok(file) => file,
        Err(Errno::NOENT) => {
            path.truncate(directory);
            return match root.has(&path) {
                Ok(true) => Ok(Online::Always),
                Ok(false) => Err(Fault::Directory(Errno::NOENT)),
                Err(errno) => Err(Fault::Directory(errno)),
            };
        }
        Err(errno) => return Err(Fault::Open(errno)),
    };
    let mut byte = [0];
    match stream::read(&file, &mut byte) {
        Ok(Read::Bytes(_)) if byte == *b"0" => Ok(Online::No),
        Ok(Read::Bytes(_)) => Ok(Online::Yes),
        Ok(_) => Err(Fault::Empty),
        Err(errno) => Err(Fault::Read(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs;

    fn machine(name: &str) -> (std::path::PathBuf, std::path::PathBuf, Root) {
        let path = std::env::temp_dir().join(format!("gaunt-cpus-{}-{name}", std::process::id()));
        let cpus = path.join("sys/devices/system/cpu");
        fs::create_dir_all(&cpus).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        (path, cpus, root)
    }

    fn numbers(root: &Root) -> Vec<u64> {
        let mut numbers = Vec::new();
        each(root, &mut |number| {
            numbers.push(number);
            true
        })
        .unwrap();
        numbers.sort();
        numbers
    }

    #[test]
    fn no_processor_is_missing() {
        let (path, cpus, root) = machine("many");
        for name in ["cpufreq", "cpuidle", "cpu", "cpu1x", "cpux", "online"] {
            fs::create_dir(cpus.join(name)).unwrap();
        }
        assert_eq!(numbers(&root), []);
        let all: Vec<u64> = (0..1030).chain([5000, 1 << 40]).collect();
        for number in &all {
            fs::create_dir(cpus.join(format!("cpu{number}"))).unwrap();
        }
        assert_eq!(numbers(&root), all);
        let mut seen = 0;
        each(&root, &mut |_| {
            seen += 1;
            seen < 3
        })
        .unwrap();
        assert_eq!(seen, 3);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_processor_says_whether_it_runs() {
        let (path, cpus, root) = machine("online");
        for (number, online) in [(1, "1\n"), (2, "0\n"), (3, "")] {
            fs::create_dir(cpus.join(format!("cpu{number}"))).unwrap();
            fs::write(cpus.join(format!("cpu{number}/online")), online).unwrap();
        }
        fs::create_dir(cpus.join("cpu0")).unwrap();
        fs::create_dir_all(cpus.join("cpu4/online")).unwrap();
        let states: Vec<_> = (0..6).map(|number| online(&root, number)).collect();
        let expected = [
            Ok(Online::Always),
            Ok(Online::Yes),
            Ok(Online::No),
            Err(Fault::Empty),
            Err(Fault::Read(Errno::ISDIR)),
            Err(Fault::Directory(Errno::NOENT)),
        ];
        assert_eq!(states, expected);
        fs::remove_dir_all(path).unwrap();
    }
}
