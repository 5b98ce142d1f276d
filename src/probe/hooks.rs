//! Which hooks there are: the main hook, or those of the directory beside it.
//!
//! The main hook is a program of the administrator's. Where there is none, or it is a link to this
//! very program, its work is done here: every executable file of the directory that has the main
//! hook's path and `.d` behind it, in the order of the bytes of their names. Names that
//! `parse::hooks` passes over are no hooks, nor is what is not executable, or no file.
//!
//! Whether a hook may be run is for `state::hooks` to say.

use core::slice;

use crate::base::limits::{DIRECTORY_BYTES, HOOK_LIST_BYTES, PATH_BYTES};
use crate::base::path::Path;
use crate::base::store::Store;
use crate::parse::hooks::{DIRECTORY, directory_of, is_hook};
use crate::probe::names::Names;
use crate::sys::Errno;
use crate::sys::mem::Buffer;
use crate::sys::root::{Root, relative};
use crate::sys::status::Status;

/// Where distributions have the main hook: Red Hat, then Debian. The first counts that is there, or
/// whose directory is.
const DEFAULTS: [&[u8]; 2] = [b"/etc/qemu-ga/fsfreeze-hook", b"/etc/qemu/fsfreeze-hook"];

/// The program that runs.
const SELF: &[u8] = b"proc/self/exe";
/// What the kernel says behind the path of a program whose file was replaced.
const REPLACED: &[u8] = b" (deleted)";

/// The hooks of this moment: a list of their paths, in order, as `parse::hooks` has it; or the main
/// hook whose directory cannot be read, and why.
pub type Hooks<'a> = Result<Buffer, (&'a [u8], Errno)>;

/// Finds the hooks. Without a path the main hook is where distributions have it, and none there is no
/// error; a path that is given must lead to one, or its directory be there.
pub fn find<'a>(root: &Root, given: Option<&'a [u8]>) -> Hooks<'a> {
    let mut list = Buffer::growing(HOOK_LIST_BYTES);
    let has = |main, end| root.has_at(&[relative(main), end]) != Ok(false);
    for &main in given.as_ref().map_or(&DEFAULTS[..], slice::from_ref) {
        let is_there = has(main, b"");
        if is_there && !is_this_program(root, main) {
            add(&mut list, &[main]);
            return Ok(list);
        }
        if is_there || has(main, DIRECTORY) {
            return beside(root, main);
        }
    }
    if let Some(main) = given {
        add(&mut list, &[main]);
    }
    Ok(list)
}

/// The hooks in the directory beside a main hook.
pub fn beside<'a>(root: &Root, main: &'a [u8]) -> Hooks<'a> {
    let mut list = Buffer::growing(HOOK_LIST_BYTES);
    let directory = directory_of(main);
    match put_all(root, directory.as_bytes(), &mut list) {
        // A link that leads nowhere, to a disk that is not mounted say, is no directory without hooks.
        Err(Errno::NOENT) if root.has_at(&[relative(directory.as_bytes())]) != Ok(true) => Ok(list),
        Err(errno) => Err((main, errno)),
        Ok(()) => Ok(list),
    }
}

/// Puts the hooks in a directory on the list.
fn put_all(root: &Root, directory: &[u8], list: &mut Buffer) -> Result<(), Errno> {
    let mut names = Names::none(DIRECTORY_BYTES);
    names.read(root, &Path::of(&[relative(directory)]))?;
    for name in names.sorted() {
        if is_hook(name) && is_program(root, &[relative(directory), b"/", name]) {
            add(list, &[directory, b"/", name]);
        }
    }
    list.whole()
}

/// Puts a path on the list.
fn add(list: &mut Buffer, pieces: &[&[u8]]) {
    for piece in pieces {
        let _ = list.append(piece);
    }
    let _ = list.append(b"\0");
}

/// Whether a path leads to something that can be executed. One that cannot be looked at counts: what
/// is wrong with it is said when it is to be run.
fn is_program(root: &Root, name: &[&[u8]]) -> bool {
    match Status::at(root, name) {
        Ok(status) => status.is_program(),
        Err(Errno::NOENT) => false,
        Err(_) => true,
    }
}

/// Whether a path leads to this program: the same file, or, once that was replaced by an update, a
/// link to where it was.
fn is_this_program(root: &Root, path: &[u8]) -> bool {
    let name: &[&[u8]] = &[relative(path)];
    if let (Ok(own), Ok(found)) = (Status::at(root, &[SELF]), Status::at(root, name))
        && found.is_same_file(&own)
    {
        return true;
    }
    let (mut link, mut own) = ([0; PATH_BYTES], [0; PATH_BYTES]);
    let (Ok(link), Ok(own)) = (
        root.link_at(name, &mut link),
        root.link_at(&[SELF], &mut own),
    ) else {
        return false;
    };
    own.strip_suffix(REPLACED).unwrap_or(own) == link
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Directory;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Tree(Directory);

    impl Tree {
        fn new(name: &str) -> Self {
            let directory = Directory::new(&format!("hooks-{name}"));
            fs::create_dir_all(directory.path.join("proc/self")).unwrap();
            Self(directory)
        }

        fn file(&self, name: &str, mode: u32) {
            let path = self.0.path.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }

        fn link(&self, name: &str, to: &str) {
            let path = self.0.path.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(to, path).unwrap();
        }

        fn hooks(&self, main: Option<&str>) -> Vec<String> {
            let list = find(&self.0.root, main.map(str::as_bytes)).ok().unwrap();
            let list = String::from_utf8(list.bytes().to_vec()).unwrap();
            list.split_terminator('\0').map(str::to_owned).collect()
        }
    }

    const MAIN: &str = "/etc/qemu-ga/fsfreeze-hook";
    const DEBIAN: &str = "/etc/qemu/fsfreeze-hook";

    #[test]
    fn the_directory_s_executables_are_hooks_in_the_order_of_their_names() {
        let tree = Tree::new("order");
        for name in ["9-late", "10-early", "Z", "a", "\u{e4}", "_"] {
            tree.file(&format!("etc/qemu-ga/fsfreeze-hook.d/{name}"), 0o755);
        }
        let in_directory = |name: &str| format!("etc/qemu-ga/fsfreeze-hook.d/{name}");
        tree.file(&in_directory("notes"), 0o644);
        tree.file(&in_directory("b.sample"), 0o755);
        tree.file(&in_directory(".hidden"), 0o755);
        tree.file(&in_directory("directory/inside"), 0o755);
        tree.link(&in_directory("nowhere"), "none");
        tree.link(&in_directory("to-directory"), "directory");
        tree.link(&in_directory("to-hook"), "directory/inside");
        let expected = ["10-early", "9-late", "Z", "_", "a", "to-hook", "\u{e4}"];
        let expected = expected.map(|name| format!("{MAIN}.d/{name}"));
        assert_eq!(tree.hooks(None), expected);
        assert_eq!(tree.hooks(Some(MAIN)), expected);
    }

    #[test]
    fn the_first_layout_that_is_there_counts() {
        let tree = Tree::new("layout");
        assert!(tree.hooks(None).is_empty());
        tree.file("etc/qemu/fsfreeze-hook.d/debian", 0o755);
        assert_eq!(tree.hooks(None), [format!("{DEBIAN}.d/debian")]);
        tree.file("etc/qemu/fsfreeze-hook", 0o755);
        assert_eq!(tree.hooks(None), [DEBIAN]);
        fs::create_dir_all(tree.0.path.join("etc/qemu-ga/fsfreeze-hook.d")).unwrap();
        assert!(tree.hooks(None).is_empty());
        tree.file("etc/qemu-ga/fsfreeze-hook", 0o644);
        assert_eq!(tree.hooks(None), [MAIN]);
    }

    #[test]
    fn a_path_that_is_given_must_lead_to_a_hook() {
        let tree = Tree::new("given");
        // It cannot be run, which is then said.
        assert_eq!(tree.hooks(Some("/opt/hook")), ["/opt/hook"]);
        tree.link("opt/hook", "/none");
        assert_eq!(tree.hooks(Some("/opt/hook")), ["/opt/hook"]);
        fs::remove_file(tree.0.path.join("opt/hook")).unwrap();
        fs::create_dir_all(tree.0.path.join("opt/hook.d")).unwrap();
        assert!(tree.hooks(Some("/opt/hook")).is_empty());
        tree.file("opt/hook.d/one", 0o755);
        assert_eq!(tree.hooks(Some("/opt/hook")), ["/opt/hook.d/one"]);
    }

    #[test]
    fn a_directory_that_is_a_link_to_nowhere_is_an_error() {
        let machine = Directory::new("hooks-dangling");
        fs::create_dir_all(machine.path.join("etc/qemu-ga")).unwrap();
        let link = machine.path.join("etc/qemu-ga/fsfreeze-hook.d");
        symlink("/nowhere", link).unwrap();
        let found = find(&machine.root, None).map(|_| ());
        assert_eq!(found, Err((DEFAULTS[0], Errno::NOENT)));
    }

    #[test]
    fn a_directory_that_cannot_be_read_is_an_error() {
        let tree = Tree::new("error");
        tree.file("opt/hook.d", 0o755);
        let (main, errno) = find(&tree.0.root, Some(b"/opt/hook")).err().unwrap();
        let directory = directory_of(main);
        assert_eq!(
            (directory.as_bytes(), errno),
            (&b"/opt/hook.d"[..], Errno::NOTDIR)
        );
    }

    #[test]
    fn a_main_hook_that_is_this_program_is_built_in() {
        let tree = Tree::new("own");
        tree.file("usr/bin/gaunt", 0o755);
        tree.file("etc/qemu-ga/fsfreeze-hook.d/one", 0o755);
        tree.link("etc/qemu-ga/fsfreeze-hook", "../../usr/bin/gaunt");
        tree.link("proc/self/exe", "../../usr/bin/gaunt");
        let inside = [format!("{MAIN}.d/one")];
        assert_eq!(tree.hooks(None), inside);
        tree.file("usr/bin/other", 0o755);
        fs::remove_file(tree.0.path.join("proc/self/exe")).unwrap();
        tree.link("proc/self/exe", "../../usr/bin/other");
        assert_eq!(tree.hooks(None), [MAIN]);
        // Its file was replaced while it ran: the link leads to the new one.
        let link = tree.0.path.join("etc/qemu-ga/fsfreeze-hook");
        fs::remove_file(&link).unwrap();
        symlink("/usr/bin/gaunt", link).unwrap();
        fs::remove_file(tree.0.path.join("proc/self/exe")).unwrap();
        tree.link("proc/self/exe", "/usr/bin/gaunt (deleted)");
        assert_eq!(tree.hooks(None), inside);
        assert_eq!(tree.hooks(Some(MAIN)), inside);
    }
}
