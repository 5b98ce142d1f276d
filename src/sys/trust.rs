//! Paths that only root can change: looked at before a program there is run as root.
//!
//! A path is walked from the root directory by directory, through O_PATH descriptors. Symbolic links
//! are resolved here, so that every directory that the kernel will walk is looked at. Each must
//! belong to root and be writable by nobody else. Write access by an access control list shows in the
//! bits of the group (acl(5)).
//!
//! Others may write to a directory with the sticky bit if the walk goes on to a directory in it: that
//! one is root's, and the sticky bit keeps others from replacing it. The root of an initramfs is such
//! a directory. A file in it could be a link that somebody made to a program of root's.
//!
//! The program is then run by its path, not through a descriptor, which for a script would need
//! /dev/fd. Whoever could make the path lead elsewhere in between can write to one of its
//! directories, and that is root alone.
//!
//! Owner and mode of a symbolic link do not count: nobody can change one, and who may replace it is
//! decided by its directory.

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;

use super::root::Root;
use crate::base::limits::{HOOK_SYMLINKS, PATH_BYTES};
use crate::base::path::Path;
use crate::base::text::cut;

/// Why a path is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It, or a directory on it, does not belong to the user.
    Owner,
    /// It, or a directory on it, may be written to by others.
    Writable,
    /// It cannot be looked at.
    Errno(Errno),
}

impl From<Errno> for Why {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// What a path leads to: the same file is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    mode: u32,
    uid: u32,
    device: u64,
    inode: u64,
}

impl Target {
    fn of(descriptor: &OwnedFd) -> Result<Self, Errno> {
        let stat = fstat(descriptor)?;
        Ok(Self {
            mode: stat.st_mode,
            uid: stat.st_uid,
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }

    /// What is at a name below `root`, whoever may change the path. Symbolic links are followed.
    pub fn at(root: &Root, name: &[&[u8]]) -> Result<Self, Errno> {
        Self::of(&root.place_at(name, OFlags::empty())?)
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    fn is_directory(&self) -> bool {
        self.kind() == FileType::Directory
    }

    fn is_sticky(&self) -> bool {
        self.mode & 0o1000 != 0
    }

    /// Whether it is a file that root may execute, which is any that somebody may.
    pub fn is_program(&self) -> bool {
        self.kind() == FileType::RegularFile && self.mode & 0o111 != 0
    }

    /// Whether it is `owner`'s, and nobody else may write to it.
    fn judge(&self, owner: u32) -> Result<(), Why> {
        if self.uid != owner {
            Err(Why::Owner)
        } else if self.mode & 0o022 != 0 {
            Err(Why::Writable)
        } else {
            Ok(())
        }
    }
}

/// Whether what is at an absolute path, and all directories on the way, are `owner`'s alone. `about`
/// becomes the path without symbolic links; after an error, the part of it that the error is about.
pub fn check(root: &Root, path: &[u8], owner: u32, about: &mut Path) -> Result<(), Why> {
    find(root, path, owner, about)?.judge(owner)
}

fn find(root: &Root, path: &[u8], owner: u32, resolved: &mut Path) -> Result<Target, Why> {
    resolved.truncate(0);
    let (here, target) = open(root, b".")?;
    let mut walk = Walk {
        root,
        here,
        target,
        owner,
        resolved,
        links: 0,
    };
    walk.follow(path)?;
    Ok(walk.target)
}

/// A walk along a path.
struct Walk<'a> {
    root: &'a Root,
    here: Root,
    /// What `here` is.
    target: Target,
    owner: u32,
    /// The path to `here`.
    resolved: &'a mut Path,
    /// How many symbolic links were followed.
    links: usize,
}

impl Walk<'_> {
    fn follow(&mut self, mut path: &[u8]) -> Result<(), Why> {
        if path.starts_with(b"/") {
            (self.here, self.target) = open(self.root, b".")?;
            self.resolved.truncate(0);
        }
        while !path.is_empty() {
            let name = cut(&mut path, b'/');
            if !matches!(name, b"" | b".") {
                self.enter(name)?;
            }
        }
        Ok(())
    }

    /// Goes on to `name` in this directory, or to what it leads to if it is a symbolic link.
    fn enter(&mut self, name: &[u8]) -> Result<(), Why> {
        if !self.target.is_directory() {
            return Err(Errno::NOTDIR.into());
        }
        let judged = self.target.judge(self.owner);
        if judged.is_err() && !(judged == Err(Why::Writable) && self.target.is_sticky()) {
            return judged;
        }
        let len = self.resolved.len();
        if name == b".." {
            let path = self.resolved.as_bytes();
            let slash = path.iter().rposition(|byte| *byte == b'/');
            self.resolved.truncate(slash.unwrap_or(0));
        } else {
            self.resolved.push(b"/");
            self.resolved.push(name);
        }
        let (next, found) = open(&self.here, name)?;
        if !found.is_directory() && judged.is_err() {
            self.resolved.truncate(len);
            return judged;
        }
        if found.kind() != FileType::Symlink {
            (self.here, self.target) = (next, found);
            return Ok(());
        }
        self.links += 1;
        if self.links > HOOK_SYMLINKS {
            return Err(Errno::LOOP.into());
        }
        let mut link = [0; PATH_BYTES];
        let link = next.link_at(&[], &mut link)?;
        self.resolved.truncate(len);
        self.follow(link)
    }
}

/// Opens what is at one name as a place: nothing happens to it, and no link is followed.
fn open(directory: &Root, name: &[u8]) -> Result<(Root, Target), Errno> {
    let opened = directory.place_at(&[name], OFlags::NOFOLLOW)?;
    let target = Target::of(&opened)?;
    Ok((opened.into(), target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Directory;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    const ROOT: u32 = 0;

    fn target(mode: u32, uid: u32) -> Target {
        let (device, inode) = (1, 2);
        Target {
            mode,
            uid,
            device,
            inode,
        }
    }

    #[test]
    fn what_others_own_or_may_write_to_is_not_trusted() {
        for (mode, uid, judged) in [
            (0o100_755, ROOT, Ok(())),
            (0o100_500, ROOT, Ok(())),
            (0o106_755, ROOT, Ok(())),
            (0o100_755, 1, Err(Why::Owner)),
            (0o100_700, u32::MAX, Err(Why::Owner)),
            (0o100_775, ROOT, Err(Why::Writable)),
            (0o100_757, ROOT, Err(Why::Writable)),
            (0o041_777, ROOT, Err(Why::Writable)),
            (0o040_711, ROOT, Ok(())),
        ] {
            assert_eq!(target(mode, uid).judge(ROOT), judged, "{mode:o} {uid}");
        }
    }

    #[test]
    fn only_an_executable_file_is_a_program() {
        for (mode, is_program) in [
            (0o100_755, true),
            (0o100_001, true),
            (0o100_644, false),
            (0o040_755, false),
            (0o120_777, false),
            (0o010_777, false),
        ] {
            assert_eq!(target(mode, ROOT).is_program(), is_program, "{mode:o}");
        }
    }

    struct Tree {
        directory: Directory,
        owner: u32,
    }

    impl Tree {
        fn new(name: &str) -> Self {
            let directory = Directory::new(&format!("trust-{name}"));
            let path = &directory.path;
            fs::create_dir_all(path.join("etc/d")).unwrap();
            fs::write(path.join("etc/d/hook"), "").unwrap();
            for name in ["", "etc", "etc/d", "etc/d/hook"] {
                fs::set_permissions(path.join(name), Permissions::from_mode(0o755)).unwrap();
            }
            let owner = rustix::process::geteuid().as_raw();
            Self { directory, owner }
        }

        fn mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.directory.path.join(name), Permissions::from_mode(mode))
                .unwrap();
        }

        /// What became of the walk, and the path it is about.
        fn find(&self, path: &str) -> (Result<Target, Why>, String) {
            let mut resolved = Path::new();
            let found = find(
                &self.directory.root,
                path.as_bytes(),
                self.owner,
                &mut resolved,
            );
            let resolved = String::from_utf8(resolved.as_bytes().to_vec()).unwrap();
            (found, resolved)
        }

        fn leads_to(&self, path: &str, expected: &str) {
            let (found, resolved) = self.find(path);
            assert!(found.is_ok(), "{path}: {found:?} {resolved}");
            assert_eq!(resolved, expected, "{path}");
        }

        fn fails(&self, path: &str, why: Why, about: &str) {
            let (found, resolved) = self.find(path);
            assert_eq!((found, &resolved[..]), (Err(why), about), "{path}");
        }
    }

    #[test]
    fn every_directory_on_the_way_is_judged() {
        let tree = Tree::new("judged");
        tree.leads_to("/etc/d/hook", "/etc/d/hook");
        tree.leads_to("//etc/./d/../d//hook", "/etc/d/hook");
        for (name, about) in [("etc/d", "/etc/d"), ("etc", "/etc"), ("", "")] {
            for mode in [0o775, 0o757] {
                tree.mode(name, mode);
                tree.fails("/etc/d/hook", Why::Writable, about);
            }
            tree.mode(name, 0o755);
        }
        let others = Tree {
            owner: tree.owner + 1,
            ..tree
        };
        others.fails("/etc/d/hook", Why::Owner, "");
    }

    #[test]
    fn a_directory_in_a_sticky_one_cannot_be_replaced_by_others() {
        let tree = Tree::new("sticky");
        tree.mode("", 0o1777);
        tree.mode("etc", 0o1775);
        tree.leads_to("/etc/d/hook", "/etc/d/hook");
        tree.mode("etc/d", 0o1777);
        tree.fails("/etc/d/hook", Why::Writable, "/etc/d");
        tree.leads_to("/etc/d", "/etc/d");
        assert_eq!(
            tree.find("/etc/d").0.unwrap().judge(tree.owner),
            Err(Why::Writable)
        );
        tree.mode("etc/d", 0o755);
        symlink("d", tree.directory.path.join("etc/link")).unwrap();
        tree.fails("/etc/link/hook", Why::Writable, "/etc");
        tree.leads_to("/etc/d/../d/hook", "/etc/d/hook");
    }

    #[test]
    fn the_directories_that_a_link_leads_through_are_judged() {
        let tree = Tree::new("links");
        fs::create_dir_all(tree.directory.path.join("opt/open/deep")).unwrap();
        fs::write(tree.directory.path.join("opt/open/deep/hook"), "").unwrap();
        symlink(
            "/opt/open/deep/hook",
            tree.directory.path.join("etc/d/absolute"),
        )
        .unwrap();
        symlink(
            "../../opt/open/deep",
            tree.directory.path.join("etc/d/relative"),
        )
        .unwrap();
        symlink("hook", tree.directory.path.join("etc/d/beside")).unwrap();
        for name in ["opt", "opt/open", "opt/open/deep"] {
            tree.mode(name, 0o755);
        }
        tree.leads_to("/etc/d/absolute", "/opt/open/deep/hook");
        tree.leads_to("/etc/d/relative/hook", "/opt/open/deep/hook");
        tree.leads_to("/etc/d/beside", "/etc/d/hook");
        tree.leads_to("/etc/d/relative/../..", "/opt");
        tree.mode("opt/open", 0o777);
        tree.fails("/etc/d/absolute", Why::Writable, "/opt/open");
        tree.fails("/etc/d/relative/hook", Why::Writable, "/opt/open");
        tree.leads_to("/etc/d/beside", "/etc/d/hook");
    }

    #[test]
    fn a_path_that_leads_nowhere_is_an_error() {
        let tree = Tree::new("nowhere");
        symlink("loop", tree.directory.path.join("etc/loop")).unwrap();
        symlink("/none", tree.directory.path.join("etc/dangling")).unwrap();
        tree.fails("/etc/loop", Errno::LOOP.into(), "/etc/loop");
        tree.fails("/etc/dangling", Errno::NOENT.into(), "/none");
        tree.fails("/etc/d/hook/x", Errno::NOTDIR.into(), "/etc/d/hook");
        tree.fails("/none/x", Errno::NOENT.into(), "/none");
        let long = "x".repeat(PATH_BYTES);
        assert!(matches!(tree.find(&long).0, Err(Why::Errno(_))));
    }

    #[test]
    fn a_file_is_itself_under_every_name() {
        let tree = Tree::new("same");
        symlink("d/hook", tree.directory.path.join("etc/link")).unwrap();
        fs::write(tree.directory.path.join("etc/d/other"), "").unwrap();
        let at = |name: &[u8]| Target::at(&tree.directory.root, &[name]).unwrap();
        assert_eq!(at(b"etc/link"), at(b"etc/d/hook"));
        assert_ne!(at(b"etc/d/other"), at(b"etc/d/hook"));
        assert!(Target::at(&tree.directory.root, &[b"none"]).is_err());
    }
}
