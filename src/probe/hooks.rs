//! Finds the freeze hooks: the main hook, or the programs in the directory beside it.
//!
//! The main hook is a program that the administrator installs. Without one, or if it is a link to
//! this program, the agent does the work of qemu-ga's script fsfreeze-hook: it runs the hooks in
//! the directory whose path is that of the main hook with `.d` behind it, in the byte order of
//! their names. Hooks are executable files, except backups, samples and hidden files
//! (`parse::hooks`).
//!
//! This file only finds hooks. `state::hooks` checks whether a hook is safe to run.

use core::slice;

use crate::base::limits::{DIRECTORY_BYTES, HOOK_LIST_BYTES, PATH_BYTES};
use crate::base::sink::append_all;
use crate::parse::hooks::{DIRECTORY, directory_of, is_hook};
use crate::probe::names::NameList;
use crate::sys::Errno;
use crate::sys::mem::Buffer;
use crate::sys::root::{Root, relative};
use crate::sys::status::Status;

/// The main hooks of distributions: Red Hat, then Debian. The first one counts that exists itself,
/// or whose directory exists.
const DEFAULTS: [&[u8]; 2] = [b"/etc/qemu-ga/fsfreeze-hook", b"/etc/qemu/fsfreeze-hook"];

/// The program of this process.
const SELF: &[u8] = b"proc/self/exe";
/// Added by the kernel to the path of a program whose file was replaced.
const REPLACED: &[u8] = b" (deleted)";

/// The hooks: a list of their paths in order, each ended by a NUL; or the main hook whose directory
/// cannot be read, and the error.
pub type Hooks<'a> = Result<Buffer, (&'a [u8], Errno)>;

/// Finds the hooks. `given` is the configured path of the main hook. If neither it nor its
/// directory exists, the list has that path, so that running it reports the error. Without `given`
/// the main hook is that of a distribution, and the list may be empty.
pub fn find<'a>(root: &Root, given: Option<&'a [u8]>) -> Hooks<'a> {
    let mut list = Buffer::growing(HOOK_LIST_BYTES);
    let has = |main, end| root.has_at(&[relative(main), end]) != Ok(false);
    for &main in given.as_ref().map_or(&DEFAULTS[..], slice::from_ref) {
        let is_there = has(main, b"");
        if is_there && !is_this_program(root, main) {
            let _ = append_all(&mut list, &[main, b"\0"]);
            return Ok(list);
        }
        if is_there || has(main, DIRECTORY) {
            return beside(root, main);
        }
    }
    if let Some(main) = given {
        let _ = append_all(&mut list, &[main, b"\0"]);
    }
    Ok(list)
}

/// Lists the hooks in the directory beside a main hook.
pub fn beside<'a>(root: &Root, main: &'a [u8]) -> Hooks<'a> {
    let mut list = Buffer::growing(HOOK_LIST_BYTES);
    let directory = directory_of(main);
    match put_all(root, directory.as_bytes(), &mut list) {
        // No directory means no hooks. A dangling link does not: its target may be on a disk that
        // is not mounted.
        Err(Errno::NOENT) if root.has_at(&[relative(directory.as_bytes())]) != Ok(true) => Ok(list),
        Err(errno) => Err((main, errno)),
        Ok(()) => Ok(list),
    }
}

/// Appends the hooks in a directory to the list.
fn put_all(root: &Root, directory: &[u8], list: &mut Buffer) -> Result<(), Errno> {
    let mut names = NameList::new(DIRECTORY_BYTES);
    names.read(root, relative(directory))?;
    for name in names.sorted() {
        if is_hook(name) && is_program(root, &[relative(directory), b"/", name]) {
            // A list that is too long is noticed at its end.
            let _ = append_all(list, &[directory, b"/", name, b"\0"]);
        }
    }
    list.whole()
}

/// Whether a path leads to an executable file. A path whose status cannot be read counts: running
/// it reports the error.
fn is_program(root: &Root, name: &[&[u8]]) -> bool {
    match Status::at(root, name) {
        Ok(status) => status.is_program(),
        Err(Errno::NOENT) => false,
        Err(_) => true,
    }
}

/// Whether a path leads to this program: to the same file, or, after an update has replaced that
/// file, by a link to its path.
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
    use crate::base::sink::ByteSink;
    use crate::sys::testing::Tree;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// Makes a file with this mode.
    fn file(tree: &Tree, name: &str, mode: u32) {
        let path = tree.file(name, "");
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn hooks(tree: &Tree, main: Option<&str>) -> Vec<String> {
        let list = find(&tree.root, main.map(str::as_bytes)).ok().unwrap();
        let list = String::from_utf8(list.bytes().to_vec()).unwrap();
        list.split_terminator('\0').map(str::to_owned).collect()
    }

    const MAIN: &str = "/etc/qemu-ga/fsfreeze-hook";
    const DEBIAN: &str = "/etc/qemu/fsfreeze-hook";

    #[test]
    fn lists_executables_of_the_directory_in_the_order_of_their_names() {
        let tree = Tree::new();
        for name in ["9-late", "10-early", "Z", "a", "\u{e4}", "_"] {
            file(&tree, &format!("etc/qemu-ga/fsfreeze-hook.d/{name}"), 0o755);
        }
        let in_directory = |name: &str| format!("etc/qemu-ga/fsfreeze-hook.d/{name}");
        file(&tree, &in_directory("notes"), 0o644);
        file(&tree, &in_directory("b.sample"), 0o755);
        file(&tree, &in_directory(".hidden"), 0o755);
        file(&tree, &in_directory("directory/inside"), 0o755);
        tree.link(in_directory("nowhere"), "none");
        tree.link(in_directory("to-directory"), "directory");
        tree.link(in_directory("to-hook"), "directory/inside");
        let expected = ["10-early", "9-late", "Z", "_", "a", "to-hook", "\u{e4}"];
        let expected = expected.map(|name| format!("{MAIN}.d/{name}"));
        assert_eq!(hooks(&tree, None), expected);
        assert_eq!(hooks(&tree, Some(MAIN)), expected);
    }

    #[test]
    fn prefers_the_first_layout_that_exists() {
        let tree = Tree::new();
        assert!(hooks(&tree, None).is_empty());
        file(&tree, "etc/qemu/fsfreeze-hook.d/debian", 0o755);
        assert_eq!(hooks(&tree, None), [format!("{DEBIAN}.d/debian")]);
        file(&tree, "etc/qemu/fsfreeze-hook", 0o755);
        assert_eq!(hooks(&tree, None), [DEBIAN]);
        tree.directory("etc/qemu-ga/fsfreeze-hook.d");
        assert!(hooks(&tree, None).is_empty());
        file(&tree, "etc/qemu-ga/fsfreeze-hook", 0o644);
        assert_eq!(hooks(&tree, None), [MAIN]);
    }

    #[test]
    fn lists_a_given_path_even_if_it_does_not_exist() {
        let tree = Tree::new();
        // Running it reports the error.
        assert_eq!(hooks(&tree, Some("/opt/hook")), ["/opt/hook"]);
        tree.link("opt/hook", "/none");
        assert_eq!(hooks(&tree, Some("/opt/hook")), ["/opt/hook"]);
        fs::remove_file(tree.path.join("opt/hook")).unwrap();
        tree.directory("opt/hook.d");
        assert!(hooks(&tree, Some("/opt/hook")).is_empty());
        file(&tree, "opt/hook.d/one", 0o755);
        assert_eq!(hooks(&tree, Some("/opt/hook")), ["/opt/hook.d/one"]);
    }

    #[test]
    fn fails_if_the_directory_is_a_dangling_link() {
        let tree = Tree::of(&[("etc/qemu-ga/fsfreeze-hook.d", "-> /nowhere")]);
        let found = find(&tree.root, None).map(|_| ());
        assert_eq!(found, Err((DEFAULTS[0], Errno::NOENT)));
    }

    #[test]
    fn fails_if_the_directory_cannot_be_read() {
        let tree = Tree::new();
        file(&tree, "opt/hook.d", 0o755);
        let (main, errno) = find(&tree.root, Some(b"/opt/hook")).err().unwrap();
        let directory = directory_of(main);
        assert_eq!(
            (directory.as_bytes(), errno),
            (&b"/opt/hook.d"[..], Errno::NOTDIR)
        );
    }

    #[test]
    fn replaces_a_main_hook_that_is_this_program() {
        let tree = Tree::new();
        file(&tree, "usr/bin/gaunt", 0o755);
        file(&tree, "etc/qemu-ga/fsfreeze-hook.d/one", 0o755);
        tree.link("etc/qemu-ga/fsfreeze-hook", "../../usr/bin/gaunt");
        tree.link("proc/self/exe", "../../usr/bin/gaunt");
        let inside = [format!("{MAIN}.d/one")];
        assert_eq!(hooks(&tree, None), inside);
        file(&tree, "usr/bin/other", 0o755);
        fs::remove_file(tree.path.join("proc/self/exe")).unwrap();
        tree.link("proc/self/exe", "../../usr/bin/other");
        assert_eq!(hooks(&tree, None), [MAIN]);
        // The file of the program was replaced while it ran: the link leads to the new file.
        let link = tree.path.join("etc/qemu-ga/fsfreeze-hook");
        fs::remove_file(&link).unwrap();
        symlink("/usr/bin/gaunt", link).unwrap();
        fs::remove_file(tree.path.join("proc/self/exe")).unwrap();
        tree.link("proc/self/exe", "/usr/bin/gaunt (deleted)");
        assert_eq!(hooks(&tree, None), inside);
        assert_eq!(hooks(&tree, Some(MAIN)), inside);
    }
}
