//! Patterns for the path of a user's ssh keys, as AuthorizedKeysFile of sshd_config(5) has them.
//!
//! `%u` is the name of the user, `%h` the home directory, `%%` a percent sign. What does not begin with a
//! slash is below the home directory.
//!
//! Differences from sshd: one pattern only, so blanks are errors; no `%U`; a user name that would lead
//! to another directory has no path.

use core::slice;

use super::file_name;
use crate::base::sink::ByteSink;

/// Appends the path of the keys of `user`, whose absolute home directory has no slash at its end.
/// `None` if the pattern is wrong, or if there is no such path: it needs a home and there is none, or it
/// needs a name and `user` cannot be the name of a file. What does not fit is missing.
pub fn expand(
    pattern: &[u8],
    user: &[u8],
    home: Option<&[u8]>,
    path: &mut dyn ByteSink,
) -> Option<()> {
    if is_below_home(pattern) && !pattern.starts_with(b"%h") {
        let _ = path.append(home?);
        let _ = path.append(b"/");
    }
    let mut bytes = pattern.iter();
    while let Some(byte) = bytes.next() {
        let piece = match byte {
            b'%' => match bytes.next()? {
                b'h' => home?,
                b'u' if is_file_name(user) => user,
                percent @ b'%' => slice::from_ref(percent),
                _ => return None,
            },
            b' ' => return None,
            byte => slice::from_ref(byte),
        };
        let _ = path.append(piece);
    }
    is_file_name(file_name(pattern)).then_some(())
}

/// Whether the path is below the home directory, which belongs to the user.
pub fn is_below_home(pattern: &[u8]) -> bool {
    !pattern.starts_with(b"/")
}

fn is_file_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sink::testing::Heap;
    use crate::parse::testing::torture;

    fn path_of(pattern: &str, user: &str, home: Option<&str>) -> Option<String> {
        let mut path = Heap::default();
        let home = home.map(str::as_bytes);
        expand(pattern.as_bytes(), user.as_bytes(), home, &mut path)?;
        Some(String::from_utf8(path.0).unwrap())
    }

    #[test]
    fn pattern_becomes_the_path_of_a_user() {
        for (pattern, path) in [
            (
                "%h/.ssh/authorized_keys",
                "/home/alice/.ssh/authorized_keys",
            ),
            (".ssh/authorized_keys", "/home/alice/.ssh/authorized_keys"),
            ("keys", "/home/alice/keys"),
            ("%u/keys", "/home/alice/alice/keys"),
            ("%%u", "/home/alice/%u"),
            (
                "/etc/dropbear/authorized_keys",
                "/etc/dropbear/authorized_keys",
            ),
            ("/etc/ssh/keys/%u", "/etc/ssh/keys/alice"),
            ("/etc/ssh/%u/keys%%.%u", "/etc/ssh/alice/keys%.alice"),
            ("/data%h/keys", "/data/home/alice/keys"),
        ] {
            assert_eq!(
                path_of(pattern, "alice", Some("/home/alice")).as_deref(),
                Some(path)
            );
            assert_eq!(is_below_home(pattern.as_bytes()), !pattern.starts_with('/'));
        }
        // The home directory is the root directory.
        assert_eq!(path_of("%h/k", "alice", Some("")).as_deref(), Some("/k"));
        assert_eq!(path_of("k", "alice", Some("")).as_deref(), Some("/k"));
    }

    #[test]
    fn wrong_patterns_have_no_path() {
        for pattern in [
            "",
            "/",
            "/etc/",
            ".",
            "..",
            "/etc/..",
            "/etc/%",
            "/%x",
            "/%U",
            "%",
            "%h/",
            "a b",
            "/etc/keys ",
        ] {
            assert_eq!(
                path_of(pattern, "alice", Some("/home/alice")),
                None,
                "{pattern}"
            );
        }
    }

    #[test]
    fn users_without_a_name_or_home_have_no_path_that_needs_it() {
        for user in ["", ".", "..", "a/b", "/", "../x"] {
            assert_eq!(path_of("/etc/keys/%u", user, Some("/h")), None, "{user}");
            assert_eq!(path_of("/etc/keys/x%u", user, Some("/h")), None, "{user}");
            assert_eq!(
                path_of("/etc/keys", user, None).as_deref(),
                Some("/etc/keys")
            );
        }
        for pattern in ["%h/keys", "keys", "/data%h/keys"] {
            assert_eq!(path_of(pattern, "alice", None), None, "{pattern}");
        }
    }

    #[test]
    fn no_input_panics() {
        torture(b"/a/%u/%h/%%/b", |pattern| {
            expand(pattern, b"alice", Some(b"/h"), &mut Heap::default());
        });
    }
}
