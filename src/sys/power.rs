//! sync(2) and reboot(2), and telling an init by its FIFO.

use rustix::fs::FileType;
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
    let trigger = root.for_writing(&[b"proc/sysrq-trigger"])?;
    rustix::io::write(trigger, b"u").map(|_| ())
}

/// Writes `text` at once into the FIFO at `path`, never waiting.
///
/// # Errors
/// [`Errno::NXIO`] if nobody reads it, [`Errno::INVAL`] if it is no FIFO.
pub fn tell_fifo(root: &Root, path: &[u8], text: &[u8]) -> Result<(), Errno> {
    let fifo = root.for_writing(&[path])?;
    let mode = rustix::fs::fstat(&fifo)?.st_mode;
    if FileType::from_raw_mode(mode) != FileType::Fifo {
        return Err(Errno::INVAL);
    }
    rustix::io::write(&fifo, text).map(|_| ())
}
