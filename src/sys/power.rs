//! The end of the machine: sync(2), reboot(2), and SysRq.

use rustix::io::Errno;
use rustix::system::{RebootCommand, reboot};

use super::root::Root;

/// How the machine goes down.
// Tables in `commands::shutdown` and `probe::init` have this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownMode {
    /// Power off.
    PowerOff,
    /// Stop, and leave the power on.
    Halt,
    /// Start again.
    Reboot,
}

/// Writes all file systems out (sync(2)).
pub fn sync() {
    rustix::fs::sync();
}

/// Takes the machine down at once: writes nothing out, ends no process. Returns only if that
/// failed.
pub fn down(how: ShutdownMode) -> Errno {
    let refused = reboot(match how {
        ShutdownMode::PowerOff => RebootCommand::PowerOff,
        ShutdownMode::Halt => RebootCommand::Halt,
        ShutdownMode::Reboot => RebootCommand::Restart,
    });
    refused.err().unwrap_or(Errno::NOSYS)
}

/// Makes Ctrl-Alt-Del a signal to PID 1 instead of an instant reset.
///
/// This is also the harmless way to ask whether the process may use reboot(2) at all.
///
/// # Errors
/// [`Errno::PERM`] without the privilege (`CAP_SYS_BOOT`); [`Errno::INVAL`] in the PID namespace of
/// a container, where reboot(2) can only end the container.
pub fn soften_ctrl_alt_del() -> Result<(), Errno> {
    reboot(RebootCommand::CadOff)
}

/// Has the kernel make all file systems on disks read-only, even while processes write to them
/// (SysRq `u`). The kernel may still be at it when this returns. An error on kernels without SysRq.
pub fn force_read_only(root: &Root) -> Result<(), Errno> {
    root.tell(SYSRQ, b"u")
}

/// Has the kernel thaw all file systems, even those whose mount points cannot be reached, or that
/// are not mounted any more (SysRq `j`). The kernel may still be at it when this returns. It also
/// thaws block devices, which device-mapper may have frozen to take a snapshot. An error on kernels
/// without SysRq.
pub fn thaw_all(root: &Root) -> Result<(), Errno> {
    root.tell(SYSRQ, b"j")
}

/// The file that takes SysRq commands.
const SYSRQ: &[&[u8]] = &[b"proc/sysrq-trigger"];
