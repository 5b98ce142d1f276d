//! Adds kernel modules to an image for one test.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cpio::Cpio;
use crate::shell::GuestShell;
use crate::top;

/// Kernel modules that the image lacks. Each comes after the modules it depends on.
pub struct Modules {
    tree: PathBuf,
    modules: Vec<(String, Vec<u8>)>,
}

impl Modules {
    /// Collects these modules and their dependencies, without those that are built into the kernel.
    pub fn of(names: &[&str]) -> Modules {
        let mut modules = Modules {
            tree: top().join("image/cache/kernel/lib/modules"),
            modules: Vec::new(),
        };
        for name in names {
            modules.add(name);
        }
        modules
    }

    /// Appends the dependencies of a module, then the module.
    fn add(&mut self, name: &str) {
        if name.is_empty() || self.modules.iter().any(|(known, _)| known == name) {
            return;
        }
        let pattern = format!("{}.ko*", name.replace('_', "[-_]"));
        let find = Command::new("find")
            .args([&self.tree, Path::new("-name"), Path::new(&pattern)])
            .output();
        let found = String::from_utf8(find.expect("find").stdout).expect("plain names");
        let Some(file) = found.lines().next() else {
            return;
        };
        let unpacked = Command::new("xz").args(["-dc", file]).output().expect("xz");
        let module = unpacked.stdout;
        let key = b"\0depends=";
        let at = module.windows(key.len()).position(|part| part == key);
        let depends: Vec<u8> = at.map_or_else(Vec::new, |at| {
            let text = module[at + key.len()..].iter().copied();
            text.take_while(|byte| *byte != 0).collect()
        });
        for other in String::from_utf8(depends).expect("plain names").split(',') {
            self.add(&other.replace('-', "_"));
        }
        self.modules.push((name.to_owned(), module));
    }

    /// Inserts the modules that a guest has from [`Modules::put`]. The kernel may have some of them
    /// already.
    pub fn insert(shell: &mut GuestShell) {
        shell.run("for m in /root/modules/*.ko; do insmod $m 2>/dev/null; done; true");
    }

    /// Adds the modules to an archive as `/root/modules/NN-NAME.ko`, numbered in load order.
    pub fn put(&self, mut archive: Cpio) -> Cpio {
        for (index, (name, module)) in self.modules.iter().enumerate() {
            archive = archive.file(&format!("root/modules/{index:02}-{name}.ko"), 0o644, module);
        }
        archive
    }
}
