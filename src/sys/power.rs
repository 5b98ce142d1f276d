//! The end of the machine: sync(2), reboot(2), and SysRq.

use rustix::io::Errno;
use rustix::system::{RebootCommand, reboot};

use super::root::Root;

/// How the machine goes down; tables of ways have them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// Off.
    PowerOff,
    /// Stopped, the power left on.
    Halt,
    /// Up again.
    Reboot,
}

/// Writes everything out.
pub fn sync() {
    rustix::fs::sync();
}

/// Takes the machine down this instant: nothing is written out, nobody is asked. Returns only if
/// that failed.
pub fn down(how: Down) -> Errno {
    let refused = reboot(match how {
        Down::PowerOff => RebootCommand::PowerOff,
        Down::Halt => RebootCommand::Halt,
        Down::Reboot => RebootCommand::Restart,
    });
    refused.err().unwrap_or(Errno::NOSYS)
}

/// Makes Ctrl-Alt-Del a signal to PID 1 instead of an instant reset.
///
/// It is also the one use of reboot(2) that does no harm, so any error means that this process may
/// not take the machine down.
///
/// # Errors
/// [`Errno::PERM`] without the privilege, [`Errno::INVAL`] in the PID namespace of a container, where
/// reboot(2) ends the container at most.
pub fn soften_ctrl_alt_del() -> Result<(), Errno> {
    reboot(RebootCommand::CadOff)
}

/// Has the kernel make all file systems on disks read-only, whoever writes to them; it goes on with
/// that after this has returned. Kernels without SysRq cannot.
pub fn force_read_only(root: &Root) -> Result<(), Errno> {
    root.tell(SYSRQ, b"u")
}

/// Has the kernel thaw all file systems, mounted where nobody can reach them or not at all; it goes on
/// with that after this has returned. It also thaws the device of a file system, which device-mapper
/// may have frozen to take a snapshot. Kernels without SysRq cannot.
pub fn thaw_all(root: &Root) -> Result<(), Errno> {
    root.tell(SYSRQ, b"j")
}

const SYSRQ: &[&[u8]] = &[b"proc/sysrq-trigger"];
