//! qemu-ga's configuration file, which is not read: it must not go unnoticed.
//!
//! It is the file that `QGA_CONF` names, else /etc/qemu/qemu-ga.conf. The agent says in its log that
//! the file is not read. One that restricts the commands, or might, is a policy that would be lost:
//! then PID 1 fails closed, and any other agent ends.
//!
//! An empty `QGA_CONF`, or /dev/null, means no file at all, and one that names a missing file is no error, as with
//! qemu-ga. A name that is not absolute counts as a policy: where qemu-ga would look for it depends
//! on who started the agent. So does a pipe or device, which nothing is read from.

use super::texts::AgentPhrase;
use crate::base::limits::CONFIG_BYTES;
use crate::base::store::Store;
use crate::parse::config::may_restrict;
use crate::state::log::{Level, Log};
use crate::sys::Errno;
use crate::sys::args::{Strings, variable};
use crate::sys::mem::Buffer;
use crate::sys::root::{Root, relative};
use crate::sys::status::Status;

/// Where the file is unless told.
const PATH: &[u8] = b"/etc/qemu/qemu-ga.conf";

/// Whether nothing restricts the commands that the agent does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No file, or one that restricts nothing.
    NoPolicy,
    /// A file that restricts the commands or cannot be understood.
    Policy,
}

/// Looks for a configuration file, and says so if there is one.
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

/// Whether the file may restrict commands.
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
    use std::ffi::CString;

    #[test]
    fn a_file_that_restricts_or_cannot_be_read_is_a_policy() {
        let path = std::env::temp_dir().join(format!("gaunt-config-{}", std::process::id()));
        let file = path.join("etc/qemu/qemu-ga.conf");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        let found = || look(&root, Strings::none(), &mut Log::new());
        assert_eq!(found(), Found::NoPolicy);
        std::fs::write(&file, "# nothing\n[general]\nverbose=1\n").unwrap();
        assert_eq!(found(), Found::NoPolicy);
        std::fs::write(&file, "[general]\nblock-rpcs=guest-exec\n").unwrap();
        assert_eq!(found(), Found::Policy);
        std::fs::write(&file, vec![b'\n'; CONFIG_BYTES + 1]).unwrap();
        assert_eq!(found(), Found::Policy);
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert_eq!(found(), Found::Policy);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_name_that_leads_to_no_file_is_a_policy_unless_nothing_is_there() {
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
