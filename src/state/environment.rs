//! The environment of programs that are given none: the agent's own, and what is missing in it.
//!
//! An agent started by the kernel or by a bare init has few variables. HOME is root's home where the
//! agent runs as root and has no HOME or only the `/` that the kernel gives its init. Without LANG
//! all is as with `C`.
//!
//! Of the agent's own variables hooks get only those that are meant for every program ([`FOR_HOOKS`]):
//! others are between the agent and what has started it, such as a service manager.

use core::ffi::CStr;

use crate::base::store::Store;
use crate::base::text::cut;
use crate::parse::accounts;
use crate::sys::args::{Strings, variable};
use crate::sys::exec::Vectors;
use crate::sys::root::{Root, relative};
use crate::sys::{identity, process};

/// What programs find set if the agent itself has no such variable. The last is true of root only.
static DEFAULTS: [&CStr; 3] = [
    c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    c"SHELL=/bin/sh",
    c"USER=root",
];

/// What names of variables begin with that hooks get from the agent.
const FOR_HOOKS: [&[u8]; 8] = [
    b"PATH=",
    b"HOME=",
    b"SHELL=",
    b"USER=",
    b"LOGNAME=",
    b"LANG=",
    b"LC_",
    b"TZ=",
];

/// Root's home where /etc/passwd does not say.
const HOME: &[u8] = b"/root";

/// The environment of programs.
#[derive(Clone, Copy)]
pub struct Environment {
    own: Strings,
    /// Whether HOME is the `/` that the kernel gives its init.
    home_of_kernel: bool,
    /// Whether it is for hooks.
    for_hooks: bool,
}

impl Environment {
    /// For programs of an agent that has this environment itself.
    pub fn of(own: Strings) -> Self {
        Self {
            own,
            home_of_kernel: process::is_init() && variable(own, b"HOME") == Some(b"/"),
            for_hooks: false,
        }
    }

    /// What is set in an agent that has no environment itself.
    pub const fn none() -> Self {
        Self {
            own: Strings::none(),
            home_of_kernel: false,
            for_hooks: false,
        }
    }

    /// The part of it that hooks get.
    pub const fn for_hooks(self) -> Self {
        Self {
            for_hooks: true,
            ..self
        }
    }

    /// Where programs are looked for.
    pub fn path(self) -> &'static [u8] {
        variable(self.own, b"PATH").unwrap_or(&DEFAULTS[0].to_bytes()[5..])
    }

    /// Adds it to what a program is run with, for which there must be room for a path.
    pub fn put(self, root: &Root, vectors: &mut Vectors) {
        let is_root = identity::is_root();
        let mut has_home = false;
        if is_root && (self.home_of_kernel || variable(self.own, b"HOME").is_none()) {
            // What does not fit is found out at the end.
            let _ = vectors.text().append(b"HOME=");
            has_home = put_home(root, self.home_of_kernel, vectors.text());
            match has_home {
                true => drop(vectors.push()),
                false => vectors.text().truncate(0),
            }
        }
        vectors.add_all(self.own, |entry| {
            let is_given = |name: &[u8]| entry.starts_with(name);
            !(has_home && is_given(b"HOME="))
                && (!self.for_hooks || FOR_HOOKS.into_iter().any(is_given))
        });
        for entry in &DEFAULTS[..if is_root { 3 } else { 2 }] {
            if variable(self.own, cut(&mut entry.to_bytes(), b'=')).is_none() {
                vectors.add(entry);
            }
        }
    }
}

/// Appends the home of root: what /etc/passwd says, else [`HOME`], which `must_exist` if there is
/// another choice. Gives whether it did.
fn put_home(root: &Root, must_exist: bool, text: &mut dyn Store) -> bool {
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
    use crate::sys::testing::Directory;

    #[test]
    fn the_home_of_root_is_what_its_account_says() {
        let directory = Directory::new("home");
        let (path, root) = (&directory.path, &directory.root);
        std::fs::create_dir_all(path.join("etc")).unwrap();
        let home = |must_exist| {
            let mut home = heapless::Vec::<u8, 64>::new();
            let found = put_home(root, must_exist, &mut home);
            found.then(|| String::from_utf8(home.to_vec()).unwrap())
        };
        let passwd = path.join("etc/passwd");
        assert_eq!(home(false).as_deref(), Some("/root"));
        assert_eq!(home(true), None);
        std::fs::create_dir(path.join("root")).unwrap();
        assert_eq!(home(true).as_deref(), Some("/root"));
        std::fs::write(&passwd, "a:x:1:1::/a:\nroot:x:0:0::/var/home:/bin/sh\n").unwrap();
        assert_eq!(home(true).as_deref(), Some("/var/home"));
        std::fs::write(&passwd, "root:x:0:0:::\n").unwrap();
        assert_eq!(home(true).as_deref(), Some("/root"));
    }
}
