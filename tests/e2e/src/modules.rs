//! Kernel modules added to an image for one test.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cpio::Cpio;
use crate::top;

/// Kernel modules that the image has not, in the order in which they can be loaded.
pub struct Modules {
    tree: PathBuf,
    loaded: Vec<(String, Vec<u8>)>,
}

impl Modules {
    /// Modules and those they depend on; what the kernel has built in is passed over.
    pub fn of(names: &[&str]) -> Modules {
        let mut modules = Modules {
            tree: top().join("image/cache/kernel/lib/modules"),
            loaded: Vec::new(),
        };
        for name in names {
            modules.add(name);
        }
        modules
    }

    fn add(&mut self, name: &str) {
        if name.is_empty() || self.loaded.iter().any(|(known, _)| known == name) {
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
        self.loaded.push((name.to_owned(), module));
    }

    /// Adds them to an archive, as `/root/modules/NN-NAME.ko`.
    pub fn put(&self, mut archive: Cpio) -> Cpio {
        for (place, (name, module)) in self.loaded.iter().enumerate() {
            archive = archive.file(&format!("root/modules/{place:02}-{name}.ko"), 0o644, module);
        }
        archive
    }
}
