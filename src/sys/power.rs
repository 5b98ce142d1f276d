//! sync(2) and reboot(2).

use rustix::io::Errno;
use rustix::system::{RebootCommand, reboot};

/// How the machine goes down.
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

/// Takes the machine down this instant: nothing is written out, nobody is asked.
pub fn down(how: Down) -> Result<(), Errno> {
    reboot(match how {
        Down::PowerOff => RebootCommand::PowerOff,
        Down::Halt => RebootCommand::Halt,
        Down::Reboot => RebootCommand::Restart,
    })
}

/// Makes Ctrl-Alt-Del a signal to PID 1 instead of an instant reset.
pub fn soften_ctrl_alt_del() -> Result<(), Errno> {
    reboot(RebootCommand::CadOff)
}
