//! The environment of programs that are given none: the agent's own, completed by defaults.
//!
//! An agent that the kernel or a bare init starts has few variables. An agent that runs as root
//! adds root's home if it has no HOME, or only the `HOME=/` that the kernel gives to PID 1. It adds
//! no LANG: the default is `C`.
//!
//! Hooks get only those of the agent's variables that are meant for every program ([`FOR_HOOKS`]).
//! The others may be private to the agent and the service manager that started it.

use core::ffi::CStr;

use crate::base::sink::ByteSink;
use crate::base::text::cut;
use crate::parse::{accounts, split_once, word_index};
use crate::sys::argv::{Strings, variable};
use crate::sys::exec::ExecArgs;
use crate::sys::root::{Root, relative};
use crate::sys::{identity, process};

/// Variables that are added if the agent has none of the name. The last one is for root only.
static DEFAULTS: [&CStr; 3] = [
    c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    c"SHELL=/bin/sh",
    c"USER=root",
];

/// The variables that hooks get from the agent, besides those that begin with `LC_`.
const FOR_HOOKS: &[u8] = b"PATH HOME SHELL USER LOGNAME LANG TZ";

/// The variables that are for the agent alone.
const FOR_AGENT: &[u8] = b"LISTEN_PID LISTEN_FDS LISTEN_FDNAMES NOTIFY_SOCKET";

/// Root's home if /etc/passwd has none.
const HOME: &[u8] = b"/root";

/// An environment for programs.
#[derive(Clone, Copy)]
pub struct Environment {
    own: Strings,
    /// Whether HOME is the `/` that the kernel gives to PID 1.
    home_of_kernel: bool,
    /// Whether it is restricted to [`FOR_HOOKS`].
    for_hooks: bool,
}

impl Environment {
    /// The environment of an agent whose own environment is `own`.
    pub fn of(own: Strings) -> Self {
        Self {
            own,
            home_of_kernel: process::is_init() && variable(own, b"HOME") == Some(b"/"),
            for_hooks: false,
        }
    }

    /// The environment of an agent that has none itself.
    pub const fn none() -> Self {
        Self {
            own: Strings::none(),
            home_of_kernel: false,
            for_hooks: false,
        }
    }

    /// The environment of hooks.
    pub const fn for_hooks(self) -> Self {
        Self {
            for_hooks: true,
            ..self
        }
    }

    /// The directories in which programs are looked up.
    pub fn path(self) -> &'static [u8] {
        variable(self.own, b"PATH").unwrap_or(&DEFAULTS[0].to_bytes()[5..])
    }

    /// Adds the variables to the vectors of a program, which must have room for a path.
    pub fn put(self, root: &Root, vectors: &mut ExecArgs) {
        let is_root = identity::is_root();
        let mut has_home = false;
        if is_root && (self.home_of_kernel || variable(self.own, b"HOME").is_none()) {
            // `ExecArgs::run` fails if something does not fit.
            let _ = vectors.text().append(b"HOME=");
            has_home = put_home(root, self.home_of_kernel, vectors.text());
            match has_home {
                true => drop(vectors.push()),
                false => vectors.text().truncate(0),
            }
        }
        vectors.add_all(self.own, |entry| {
            let (name, _) = split_once(entry, b'=').unwrap_or_default();
            let is_in = |names| word_index(names, name).is_some();
            let is_hidden = (has_home && name == b"HOME") || is_in(FOR_AGENT);
            let is_for_hooks = || is_in(FOR_HOOKS) || entry.starts_with(b"LC_");
            !is_hidden && (!self.for_hooks || is_for_hooks())
        });
        for entry in &DEFAULTS[..if is_root { 3 } else { 2 }] {
            if variable(self.own, cut(&mut entry.to_bytes(), b'=')).is_none() {
                vectors.add(entry);
            }
        }
    }
}

/// Appends root's home: from /etc/passwd, otherwise [`HOME`], with `must_exist` only if that
/// directory exists. Returns whether it appended one.
fn put_home(root: &Root, must_exist: bool, text: &mut dyn ByteSink) -> bool {
    let mut found = false;
    let _ = root.lines_at(&[b"etc/passwd"], &mut |line| {
        let user = accounts::user(line, b"root");
        found = user.is_some_and(|user| !user.home.is_empty() && text.append(user.home).is_ok());
        user.is_none()
    });
    if !found && (!must_exist || root.directory_at(&[relative(HOME)]).is_ok()) {
        found = text.append(HOME).is_ok();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    #[test]
    fn takes_home_of_root_from_its_account() {
        let tree = Tree::new();
        let root = &tree.root;
        let home = |must_exist| {
            let mut home = heapless::Vec::<u8, 64>::new();
            let found = put_home(root, must_exist, &mut home);
            found.then(|| String::from_utf8(home.to_vec()).unwrap())
        };
        assert_eq!(home(false).as_deref(), Some("/root"));
        assert_eq!(home(true), None);
        tree.directory("root");
        assert_eq!(home(true).as_deref(), Some("/root"));
        tree.file(
            "etc/passwd",
            "a:x:1:1::/a:\nroot:x:0:0::/var/home:/bin/sh\n",
        );
        assert_eq!(home(true).as_deref(), Some("/var/home"));
        tree.file("etc/passwd", "root:x:0:0:::\n");
        assert_eq!(home(true).as_deref(), Some("/root"));
    }
}
