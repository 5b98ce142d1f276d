//! The qemu-ga that gaunt is compared with.
//!
//! `image/setup` unpacks the version that gaunt announces into `image/cache/reference/`, with the
//! libraries of the same Debian release. If that directory is missing, or with `REFERENCE=installed`,
//! the installed qemu-ga is the reference, and texts that older versions word differently are masked.
//!
//! The reference runs from one directory with all its files, started by its own dynamic loader. So it
//! runs for an account without access to the source tree, and in a guest without libraries.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::cpio::Cpio;
use crate::process::{program, run};
use crate::{top, wait};

/// File names in the reference's directory.
const LOADER: &str = "loader";
const PROGRAM: &str = "qemu-ga";

/// One qemu-ga and its files.
pub struct Reference {
    /// Version, as in `11.1.3`.
    pub version: String,
    /// Each file, and its name in the reference's directory.
    files: Vec<(PathBuf, String)>,
}

/// Returns the reference of all comparisons. The first call prints its version.
pub fn reference() -> &'static Reference {
    static REFERENCE: OnceLock<Reference> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let directory = top().join("image/cache/reference");
        let wants_installed = std::env::var("REFERENCE").is_ok_and(|which| which == "installed");
        let (reference, remark) = if directory.join("version").exists() && !wants_installed {
            (Reference::fetched(&directory), "")
        } else {
            (Reference::installed(), " (installed)")
        };
        eprintln!("reference: qemu-ga {}{remark}", reference.version);
        reference
    })
}

impl Reference {
    /// Returns whether its version is before 11.1, which words some errors differently.
    pub fn is_older(&self) -> bool {
        let mut numbers = self
            .version
            .split('.')
            .map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (11, 1)
    }

    fn fetched(directory: &Path) -> Reference {
        let libraries = directory.join("usr/lib/x86_64-linux-gnu");
        let loader = directory.join("usr/lib64/ld-linux-x86-64.so.2");
        let program = directory.join("usr/sbin/qemu-ga");
        let mut list = Command::new(&loader);
        list.arg("--library-path").arg(libraries);
        list.arg("--list").arg(&program);
        Reference::of(program, &mut list)
    }

    fn installed() -> Reference {
        let program = program("qemu-ga", "qemu-guest-agent");
        let mut list = Command::new(crate::process::program("ldd", "libc-bin"));
        list.arg(&program);
        Reference::of(program, &mut list)
    }

    /// Takes a program and the libraries that `list` prints, in the format of ldd(1).
    fn of(program: PathBuf, list: &mut Command) -> Reference {
        let mut files = vec![(program, PROGRAM.to_owned())];
        for line in run(list, wait::ANSWER).lines() {
            // "NAME => FILE (ADDRESS)", or "FILE (ADDRESS)" for the loader. The kernel's vDSO has no file.
            let mut words = line.split_whitespace().filter(|word| word.contains('/'));
            if let Some(file) = words.next_back() {
                let name = file.rsplit('/').next().unwrap_or_default();
                let name = if name.starts_with("ld-") {
                    LOADER
                } else {
                    name
                };
                files.push((PathBuf::from(file), name.to_owned()));
            }
        }
        let mut reference = Reference {
            version: String::new(),
            files,
        };
        let scratch = crate::scratch::Scratch::new();
        reference.copy_to(scratch.path());
        let words = reference.words(scratch.path());
        let said = run(
            Command::new(&words[0]).args(&words[1..]).arg("--version"),
            wait::ANSWER,
        );
        let version = said.split_whitespace().nth(3);
        reference.version = version.expect("a version").to_owned();
        reference
    }

    /// Copies its files into a directory of this machine.
    pub fn copy_to(&self, directory: &Path) {
        for (file, name) in &self.files {
            std::fs::copy(file, directory.join(name))
                .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        }
    }

    /// Adds its files to an archive, below a directory of the guest.
    pub fn pack(&self, directory: &str, archive: Cpio) -> Cpio {
        let directory = directory.trim_start_matches('/');
        self.files.iter().fold(archive, |archive, (file, name)| {
            archive.copy(&format!("{directory}/{name}"), file)
        })
    }

    /// Returns the command line that starts it from a directory with its files.
    pub fn words(&self, directory: &Path) -> Vec<String> {
        let at = |name: &str| directory.join(name).display().to_string();
        let directory = directory.display().to_string();
        vec![at(LOADER), "--library-path".into(), directory, at(PROGRAM)]
    }
}
