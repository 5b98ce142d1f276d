//! Which hooks there are: the main hook, or those of the directory beside it.
//!
//! The main hook is a program of the administrator's. Where there is none, or it is a link to this
//! very program, its work is done here: every executable file of the directory that has the main
//! hook's path and `.d` behind it, in the order of the bytes of their names. Names that
//! `parse::hooks` passes over are no hooks, nor is what is not executable, or no file.
//!
//! Whether a hook may be run is for `sys::trust` to say.

use crate::base::limits::PATH_BYTES;
use crate::base::path::Path;
use crate::parse::hooks::is_hook;
use crate::probe::names::Names;
use crate::sys::Errno;
use crate::sys::root::{Root, relative};
use crate::sys::trust::Target;

/// Where distributions have the main hook: Red Hat, then Debian. The first counts that is there, or
/// whose directory is.
const DEFAULTS: [&[u8]; 2] = [b"/etc/qemu-ga/fsfreeze-hook", b"/etc/qemu/fsfreeze-hook"];

/// The program that runs.
const SELF: &[u8] = b"proc/self/exe";
/// What the kernel says behind the path of a program whose file was replaced.
const REPLACED: &[u8] = b" (deleted)";

/// The hooks of this moment.
pub enum Hooks {
    /// None.
    None,
    /// The main hook.
    Main(Path),
    /// Those of a directory, and all names in it, or why they cannot be read.
    Directory(Path, Result<Names, Errno>),
}

impl Hooks {
    /// Finds them. Without a path the main hook is where distributions have it, and none there is no
    /// error; a path that is given must lead to one, or its directory be there.
    pub fn find(root: &Root, main: Option<&[u8]>) -> Self {
        let has = |path: &[u8]| root.has_at(&[relative(path)]) != Ok(false);
        let is_there = |path: &[u8]| has(path) || has(directory_of(path).as_bytes());
        let default = || DEFAULTS.into_iter().find(|path| is_there(path));
        let Some(main) = main.or_else(default) else {
            return Self::None;
        };
        if has(main) && !is_this_program(root, main) || !is_there(main) {
            return Self::Main(Path::of(&[main]));
        }
        Self::beside(root, main)
    }

    /// Those of the directory beside a main hook.
    pub fn beside(root: &Root, main: &[u8]) -> Self {
        let directory = directory_of(main);
        match Names::read(root, &Path::of(&[relative(directory.as_bytes())])) {
            Err(Errno::NOENT) => Self::None,
            names => Self::Directory(directory, names),
        }
    }

    /// The directory that cannot be read, and why.
    pub fn error(&self) -> Option<(&Path, Errno)> {
        match self {
            Self::Directory(directory, Err(errno)) => Some((directory, *errno)),
            _ => None,
        }
    }

    /// Their paths, in order.
    pub fn paths(&self, root: &Root) -> impl Iterator<Item = Path> {
        let (main, directory) = match self {
            Self::None => (None, None),
            Self::Main(path) => (Some(path.clone()), None),
            Self::Directory(path, names) => (None, names.as_ref().ok().map(|names| (path, names))),
        };
        let inside = directory.into_iter().flat_map(move |(directory, names)| {
            let names = names.sorted().filter(|name| is_hook(name));
            let paths = names.map(|name| Path::of(&[directory.as_bytes(), b"/", name]));
            paths.filter(|path| is_program(root, path))
        });
        main.into_iter().chain(inside)
    }
}

/// The directory beside a main hook.
fn directory_of(main: &[u8]) -> Path {
    Path::of(&[main, b".d"])
}

/// Whether a path leads to something that can be executed. One that cannot be looked at counts: what
/// is wrong with it is said when it is to be run.
fn is_program(root: &Root, path: &Path) -> bool {
    match Target::at(root, &[relative(path.as_bytes())]) {
        Ok(target) => target.is_program(),
        Err(Errno::NOENT) => false,
        Err(_) => true,
    }
}

/// Whether a path leads to this program: the same file, or, once that was replaced by an update, a
/// link to where it was.
fn is_this_program(root: &Root, path: &[u8]) -> bool {
    let name: &[&[u8]] = &[relative(path)];
    if let (Ok(target), Ok(own)) = (Target::at(root, name), Target::at(root, &[SELF]))
        && target.is_same_file(&own)
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
    use std::ffi::CString;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Tree {
        path: std::path::PathBuf,
        root: Root,
    }

    impl Tree {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir();
            let path = path.join(format!("gaunt-hooks-{}-{name}", std::process::id()));
            fs::create_dir_all(path.join("proc/self")).unwrap();
            let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
            Self { path, root }
        }

        fn file(&self, name: &str, mode: u32) {
            let path = self.path.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }

        fn link(&self, name: &str, to: &str) {
            let path = self.path.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(to, path).unwrap();
        }

        fn hooks(&self, main: Option<&str>) -> Vec<String> {
            let hooks = Hooks::find(&self.root, main.map(str::as_bytes));
            assert!(hooks.error().is_none());
            let text = |path: Path| String::from_utf8(path.as_bytes().to_vec()).unwrap();
            hooks.paths(&self.root).map(text).collect()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.path);
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
        fs::create_dir_all(tree.path.join("etc/qemu-ga/fsfreeze-hook.d")).unwrap();
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
        fs::remove_file(tree.path.join("opt/hook")).unwrap();
        fs::create_dir_all(tree.path.join("opt/hook.d")).unwrap();
        assert!(tree.hooks(Some("/opt/hook")).is_empty());
        tree.file("opt/hook.d/one", 0o755);
        assert_eq!(tree.hooks(Some("/opt/hook")), ["/opt/hook.d/one"]);
    }

    #[test]
    fn a_directory_that_cannot_be_read_is_an_error() {
        let tree = Tree::new("error");
        tree.file("opt/hook.d", 0o755);
        let hooks = Hooks::find(&tree.root, Some(b"/opt/hook"));
        let (directory, errno) = hooks.error().unwrap();
        assert_eq!(
            (directory.as_bytes(), errno),
            (&b"/opt/hook.d"[..], Errno::NOTDIR)
        );
        assert_eq!(hooks.paths(&tree.root).count(), 0);
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
        fs::remove_file(tree.path.join("proc/self/exe")).unwrap();
        tree.link("proc/self/exe", "../../usr/bin/other");
        assert_eq!(tree.hooks(None), [MAIN]);
        // Its file was replaced while it ran: the link leads to the new one.
        let link = tree.path.join("etc/qemu-ga/fsfreeze-hook");
        fs::remove_file(&link).unwrap();
        symlink("/usr/bin/gaunt", link).unwrap();
        fs::remove_file(tree.path.join("proc/self/exe")).unwrap();
        tree.link("proc/self/exe", "/usr/bin/gaunt (deleted)");
        assert_eq!(tree.hooks(None), inside);
        assert_eq!(tree.hooks(Some(MAIN)), inside);
    }
}
