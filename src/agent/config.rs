//! Detects the configuration file of qemu-ga, whose settings the agent does not apply.
//!
//! The environment variable `QGA_CONF` names the file; the default is /etc/qemu/qemu-ga.conf. If it
//! exists, the agent logs that it is not read. A file that restricts commands, or might, is a
//! policy that would be lost: the agent exits. PID 1, and an agent that must thaw what an earlier
//! run has frozen, fail closed instead.
//!
//! As with qemu-ga, an empty `QGA_CONF` or /dev/null means that there is no file, and the name of a
//! missing file is no error. A relative name counts as a policy, because the directory in which
//! qemu-ga would look for it is unknown. So does a pipe or a device, from which the agent does not
//! read.

use super::texts::AgentPhrase;
use crate::base::limits::CONFIG_BYTES;
use crate::base::sink::ByteSink;
use crate::parse::config::may_restrict;
use crate::state::log::{Level, Log};
use crate::sys::Errno;
use crate::sys::argv::{Strings, variable};
use crate::sys::mem::Buffer;
use crate::sys::root::{Root, relative};
use crate::sys::status::Status;

/// The default path of the file.
const PATH: &[u8] = b"/etc/qemu/qemu-ga.conf";

/// The outcome of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No file, or a file without restrictions.
    NoPolicy,
    /// A file that restricts commands or cannot be understood.
    Policy,
}

/// Looks for the configuration file, and logs that it is not read.
pub(super) fn look(root: &Root, environment: Strings, log: &mut Log) -> Found {
    look_at(
        root,
        variable(environment, b"QGA_CONF").unwrap_or(PATH),
        log,
    )
}

fn look_at(root: &Root, path: &[u8], log: &mut Log) -> Found {
    if path.is_empty() || path == b"/dev/null" {
        return Found::NoPolicy;
    }
    let (found, what) = match read(root, path) {
        Err(Errno::NOENT | Errno::NOTDIR) if path == PATH => return Found::NoPolicy,
        Err(Errno::NOENT) => (Found::NoPolicy, AgentPhrase::NoConfig),
        Ok(false) => (Found::NoPolicy, AgentPhrase::ConfigNotRead),
        Ok(true) | Err(_) => (Found::Policy, AgentPhrase::ConfigMayRestrict),
    };
    log.say(Level::Error, what, &[path]);
    found
}

/// Returns whether the file may restrict commands.
fn read(root: &Root, path: &[u8]) -> Result<bool, Errno> {
    if !path.starts_with(b"/") {
        return Err(Errno::INVAL);
    }
    let opened = root.file_at(&[relative(path)])?;
    if Status::of(&opened)?.is_special() {
        return Err(Errno::INVAL);
    }
    let mut text = Buffer::growing(CONFIG_BYTES);
    text.read(&opened)?;
    Ok(may_restrict(text.bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    #[test]
    fn a_file_that_restricts_commands_or_cannot_be_read_is_a_policy() {
        let tree = Tree::new();
        let file = "etc/qemu/qemu-ga.conf";
        let found = || look(&tree.root, Strings::none(), &mut Log::new());
        assert_eq!(found(), Found::NoPolicy);
        tree.file(file, "# nothing\n[general]\nverbose=1\n");
        assert_eq!(found(), Found::NoPolicy);
        tree.file(file, "[general]\nblock-rpcs=guest-exec\n");
        assert_eq!(found(), Found::Policy);
        tree.file(file, vec![b'\n'; CONFIG_BYTES + 1]);
        assert_eq!(found(), Found::Policy);
        std::fs::remove_file(tree.path.join(file)).unwrap();
        tree.directory(file);
        assert_eq!(found(), Found::Policy);
    }

    #[test]
    fn a_name_of_no_regular_file_is_a_policy_unless_nothing_has_it() {
        let root = Root::open(c"/").unwrap();
        for (name, found) in [
            ("", Found::NoPolicy),
            ("/etc/none/qemu-ga.conf", Found::NoPolicy),
            ("etc/passwd", Found::Policy),
            ("etc/none", Found::Policy),
            ("/etc/passwd/qemu-ga.conf", Found::Policy),
            ("/dev/null", Found::NoPolicy),
            ("/dev/zero", Found::Policy),
        ] {
            assert_eq!(
                look_at(&root, name.as_bytes(), &mut Log::new()),
                found,
                "{name}"
            );
        }
    }
}
