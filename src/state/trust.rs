//! Proof that only one user, root, can change a path, before root runs the hook there or edits the keys
//! there.
//!
//! The path is walked from the root directory, one directory after the other, through O_PATH
//! descriptors. Symbolic links are resolved here, so that every directory that the kernel will walk
//! is checked. Each must belong to root, and no other user may write to it. Write access by an
//! access control list shows in the bits of the group (acl(5)).
//!
//! Other users may write to a directory with the sticky bit if the walk continues to a directory in
//! it: that one belongs to root, and the sticky bit keeps other users from replacing it. The root
//! of an initramfs is such a directory. A file in it could be a link that another user has made to
//! a program of root's.
//!
//! The path is used afterwards as it is: through a descriptor a script would need /dev/fd. To make
//! the path lead elsewhere in between, a user must write to one of its directories, and only root can.
//!
//! Owner and mode of a symbolic link do not count: nobody can change a link, and the directory
//! decides who may replace it.

use crate::base::limits::{HOOK_SYMLINKS, PATH_BYTES};
use crate::base::path::Path;
use crate::base::text::cut;
use crate::parse::parent_of;
use crate::sys::Errno;
use crate::sys::root::Root;
use crate::sys::status::{FileType, Status};

/// Why a path is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The file, or a directory on the path, belongs to another user.
    Owner,
    /// Another user may write to the file, or to a directory on the path.
    Writable,
    /// An error of the kernel.
    Errno(Errno),
}

impl From<Errno> for Why {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// Whether a file belongs to `owner`, and no other user may write to it.
fn judge(status: &Status, owner: u32) -> Result<(), Why> {
    if status.owner != owner {
        Err(Why::Owner)
    } else if status.mode & 0o022 != 0 {
        Err(Why::Writable)
    } else {
        Ok(())
    }
}

/// Checks that the file at an absolute path and all directories on the way belong to `owner` (root,
/// except in tests), and that no other user may write to them. `about` becomes the path without symbolic
/// links; after an error, the part of it that the error is about.
pub fn check(root: &Root, path: &[u8], owner: u32, about: &mut Path) -> Result<(), Why> {
    about.truncate(0);
    let mut walk = Walk {
        root,
        here: locate(root, b".", owner)?,
        owner,
        resolved: about,
        links: 0,
    };
    walk.follow(path)?;
    walk.here.judged
}

/// A file on the path, which is found and not open.
struct Found {
    file: Root,
    kind: FileType,
    is_sticky: bool,
    judged: Result<(), Why>,
}

/// A walk along a path.
struct Walk<'a> {
    root: &'a Root,
    here: Found,
    owner: u32,
    /// The path of `here`, without symbolic links.
    resolved: &'a mut Path,
    /// The number of symbolic links followed.
    links: usize,
}

impl Walk<'_> {
    fn follow(&mut self, mut path: &[u8]) -> Result<(), Why> {
        if path.starts_with(b"/") {
            self.here = locate(self.root, b".", self.owner)?;
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

    /// Continues with `name` in this directory, or with its target if it is a symbolic link.
    fn enter(&mut self, name: &[u8]) -> Result<(), Why> {
        if self.here.kind != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        let judged = self.here.judged;
        if judged.is_err() && !(judged == Err(Why::Writable) && self.here.is_sticky) {
            return judged;
        }
        let len = self.resolved.len();
        if name == b".." {
            let len = parent_of(self.resolved.as_bytes()).len();
            self.resolved.truncate(len.saturating_sub(1));
        } else {
            self.resolved.push(b"/");
            self.resolved.push(name);
        }
        let found = locate(&self.here.file, name, self.owner)?;
        if found.kind != FileType::Directory && judged.is_err() {
            self.resolved.truncate(len);
            return judged;
        }
        if found.kind != FileType::Symlink {
            self.here = found;
            return Ok(());
        }
        self.links += 1;
        if self.links > HOOK_SYMLINKS {
            return Err(Errno::LOOP.into());
        }
        let mut link = [0; PATH_BYTES];
        let link = found.file.link_at(&[], &mut link)?;
        self.resolved.truncate(len);
        self.follow(link)
    }
}

/// Finds the file of one name without opening it, and judges it; no link is followed.
fn locate(directory: &Root, name: &[u8], owner: u32) -> Result<Found, Errno> {
    let file = directory.locate(&[name])?;
    let status = Status::of(&file)?;
    Ok(Found {
        file: file.into(),
        kind: status.kind,
        is_sticky: status.mode & 0o1000 != 0,
        judged: judge(&status, owner),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    const ROOT: u32 = 0;

    #[test]
    fn trusts_nothing_that_others_own_or_may_write_to() {
        let found = Status::at_path(c"/").unwrap();
        for (mode, owner, judged) in [
            (0o0755, ROOT, Ok(())),
            (0o0500, ROOT, Ok(())),
            (0o6755, ROOT, Ok(())),
            (0o0755, 1, Err(Why::Owner)),
            (0o0700, u32::MAX, Err(Why::Owner)),
            (0o0775, ROOT, Err(Why::Writable)),
            (0o0757, ROOT, Err(Why::Writable)),
            (0o1777, ROOT, Err(Why::Writable)),
            (0o0711, ROOT, Ok(())),
        ] {
            let status = Status {
                mode,
                owner,
                ..found
            };
            assert_eq!(judge(&status, ROOT), judged, "{mode:o} {owner}");
        }
    }

    struct Guest {
        tree: Tree,
        owner: u32,
    }

    impl Guest {
        /// A guest with a hook that its owner may trust.
        fn new() -> Self {
            let tree = Tree::of(&[("etc/d/hook", "")]);
            let owner = crate::sys::identity::effective_user();
            let guest = Self { tree, owner };
            for name in ["", "etc", "etc/d", "etc/d/hook"] {
                guest.mode(name, 0o755);
            }
            guest
        }

        fn mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.tree.path.join(name), Permissions::from_mode(mode)).unwrap();
        }

        /// What became of the walk, and the path it is about.
        fn find(&self, path: &str) -> (Result<(), Why>, String) {
            let mut resolved = Path::new();
            let found = check(&self.tree.root, path.as_bytes(), self.owner, &mut resolved);
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
    fn checks_every_directory_on_the_way() {
        let guest = Guest::new();
        guest.leads_to("/etc/d/hook", "/etc/d/hook");
        guest.leads_to("//etc/./d/../d//hook", "/etc/d/hook");
        for (name, about) in [("etc/d", "/etc/d"), ("etc", "/etc"), ("", "")] {
            for mode in [0o775, 0o757] {
                guest.mode(name, mode);
                guest.fails("/etc/d/hook", Why::Writable, about);
            }
            guest.mode(name, 0o755);
        }
        let others = Guest {
            owner: guest.owner + 1,
            ..guest
        };
        others.fails("/etc/d/hook", Why::Owner, "");
    }

    #[test]
    fn a_directory_in_a_sticky_one_cannot_be_replaced_by_others() {
        let guest = Guest::new();
        guest.mode("", 0o1777);
        guest.mode("etc", 0o1775);
        guest.leads_to("/etc/d/hook", "/etc/d/hook");
        guest.mode("etc/d", 0o1777);
        guest.fails("/etc/d/hook", Why::Writable, "/etc/d");
        guest.fails("/etc/d", Why::Writable, "/etc/d");
        guest.mode("etc/d", 0o755);
        guest.tree.link("etc/link", "d");
        guest.fails("/etc/link/hook", Why::Writable, "/etc");
        guest.leads_to("/etc/d/../d/hook", "/etc/d/hook");
    }

    #[test]
    fn checks_the_directories_that_a_link_leads_through() {
        let guest = Guest::new();
        guest.tree.file("opt/open/deep/hook", "");
        guest.tree.link("etc/d/absolute", "/opt/open/deep/hook");
        guest.tree.link("etc/d/relative", "../../opt/open/deep");
        guest.tree.link("etc/d/beside", "hook");
        for name in ["opt", "opt/open", "opt/open/deep"] {
            guest.mode(name, 0o755);
        }
        guest.leads_to("/etc/d/absolute", "/opt/open/deep/hook");
        guest.leads_to("/etc/d/relative/hook", "/opt/open/deep/hook");
        guest.leads_to("/etc/d/beside", "/etc/d/hook");
        guest.leads_to("/etc/d/relative/../..", "/opt");
        guest.mode("opt/open", 0o777);
        guest.fails("/etc/d/absolute", Why::Writable, "/opt/open");
        guest.fails("/etc/d/relative/hook", Why::Writable, "/opt/open");
        guest.leads_to("/etc/d/beside", "/etc/d/hook");
    }

    #[test]
    fn reports_a_path_that_leads_nowhere() {
        let guest = Guest::new();
        guest.tree.link("etc/loop", "loop");
        guest.tree.link("etc/dangling", "/none");
        guest.fails("/etc/loop", Errno::LOOP.into(), "/etc/loop");
        guest.fails("/etc/dangling", Errno::NOENT.into(), "/none");
        guest.fails("/etc/d/hook/x", Errno::NOTDIR.into(), "/etc/d/hook");
        guest.fails("/none/x", Errno::NOENT.into(), "/none");
        let long = "x".repeat(PATH_BYTES);
        assert!(matches!(guest.find(&long).0, Err(Why::Errno(_))));
    }
}
