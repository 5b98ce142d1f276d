//! Recognises the init of this guest, and finds the interface by which it shuts the guest down.
//!
//! The interfaces are documented: systemd(1), the INIT section of busybox (whose `halt`, `poweroff`
//! and `reboot` only send these signals), procd, finit's page on signals, openrc-shutdown(8),
//! initctl(5).
//!
//! A name alone proves nothing: a script that runs as PID 1 may be called `init` too, and be
//! interpreted by busybox. So the program file of PID 1 must be that of an init, and PID 1 must
//! catch or block the signal. Otherwise the signal would be lost, or would end PID 1, and with it
//! the guest. For busybox, which acts by the name it is called by, that name must be `init`
//! instead: its init waits in sigtimedwait(2), during which /proc shows the signals neither as
//! caught nor as blocked.
//!
//! Some inits are bypassed, and the agent shuts the guest down itself: dinit, whose documented
//! signal only halts; s6-linux-init and runit, which need more than a signal or a word in a FIFO;
//! and all inits that are not recognised. The same goes for a mode for which an init has no signal.

use crate::parse::proc::has_signal;
use crate::parse::{file_name, until_nul};
use crate::sys::power::ShutdownMode;
use crate::sys::process;
use crate::sys::root::Root;

/// The interface of an init for shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitInterface {
    /// This signal to PID 1, in the numbering of the kernel.
    Signal(u8),
    /// A word in OpenRC's FIFO.
    OpenRc,
    /// A request for another runlevel in sysvinit's FIFO.
    SysV,
}

/// An init that is recognised.
struct Init {
    /// The name of its program file.
    program: &'static [u8],
    /// Whether PID 1 must be called by a name that begins with `init`, and may do as it likes with
    /// signals.
    by_call: bool,
    /// Its interfaces to power off, halt and reboot, in the order of [`ShutdownMode`].
    interfaces: [Option<InitInterface>; 3],
}

/// SIGRTMIN of glibc, on which systemd's signals are based.
const RTMIN: u8 = 34;

const USR1: Option<InitInterface> = signal(10);
const USR2: Option<InitInterface> = signal(12);
const TERM: Option<InitInterface> = signal(process::TERM as u8);

const fn signal(number: u8) -> Option<InitInterface> {
    Some(InitInterface::Signal(number))
}

static INITS: [Init; 6] = [
    Init {
        program: b"busybox",
        by_call: true,
        interfaces: [USR2, USR1, TERM],
    },
    // sysvinit, which appends its runlevel to the name it is called by.
    Init {
        program: b"init",
        by_call: true,
        interfaces: [Some(InitInterface::SysV); 3],
    },
    Init {
        program: b"systemd",
        by_call: false,
        interfaces: [signal(RTMIN + 4), signal(RTMIN + 3), signal(RTMIN + 5)],
    },
    // SIGUSR1 powers off as well.
    Init {
        program: b"procd",
        by_call: false,
        interfaces: [USR2, None, TERM],
    },
    // SIGUSR1 halts only before version 4.1.
    Init {
        program: b"finit",
        by_call: false,
        interfaces: [USR2, None, TERM],
    },
    Init {
        program: b"openrc-init",
        by_call: false,
        interfaces: [Some(InitInterface::OpenRc); 3],
    },
];

/// Returns the interface of this guest's init for `how`; `None` if the agent must shut the guest
/// down itself.
pub fn interface(root: &Root, how: ShutdownMode) -> Option<InitInterface> {
    let mut buffer = [0; 256];
    let program = root.link_at(&[b"proc/1/exe"], &mut buffer).ok()?;
    let program = base_name(program);
    let init = INITS.iter().find(|init| init.program == program)?;
    if init.by_call {
        let called = root.read_at(&[b"proc/1/cmdline"], &mut buffer).ok()?;
        if !base_name(until_nul(called)).starts_with(b"init") {
            return None;
        }
    }
    let interface = *init.interfaces.get(how as usize)?;
    interface.filter(|interface| match *interface {
        InitInterface::Signal(signal) => init.by_call || listens(root, signal),
        InitInterface::OpenRc | InitInterface::SysV => true,
    })
}

/// Whether PID 1 catches the signal, or blocks it to read it from a signalfd.
fn listens(root: &Root, signal: u8) -> bool {
    let mut buffer = [0; 2048];
    let status = root.read_at(&[b"proc/1/status"], &mut buffer);
    status.is_ok_and(|status| {
        let is_in = |set: &[u8]| has_signal(status, set, signal.into()) == Some(true);
        is_in(b"SigCgt") || is_in(b"SigBlk")
    })
}

/// The last component of a path, without ` (deleted)`, which the kernel appends if the file was
/// replaced, and without the suffix of a statically linked busybox.
fn base_name(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let name = file_name(path);
    let plain = name
        .strip_suffix(b"-static")
        .or_else(|| name.strip_suffix(b".static"));
    plain.unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    const ALL: [ShutdownMode; 3] = [
        ShutdownMode::PowerOff,
        ShutdownMode::Halt,
        ShutdownMode::Reboot,
    ];

    /// The interfaces of a PID 1 with this program file, command line, blocked and caught signals.
    fn interfaces(
        program: &str,
        command_line: &[u8],
        blocked: u64,
        caught: u64,
    ) -> [Option<InitInterface>; 3] {
        let tree = Tree::new();
        tree.link("proc/1/exe", program);
        tree.file("proc/1/cmdline", command_line);
        let status = format!(
            "Name:\tinit\nState:\tS (sleeping)\nPid:\t1\nPPid:\t0\nSigBlk:\t{blocked:016x}\n\
             SigIgn:\t0000000000001000\nSigCgt:\t{caught:016x}\n"
        );
        tree.file("proc/1/status", status);
        ALL.map(|how| interface(&tree.root, how))
    }

    fn signals(numbers: [u8; 3]) -> [Option<InitInterface>; 3] {
        numbers.map(|number| (number != 0).then_some(InitInterface::Signal(number)))
    }

    fn set(signals: &[u32]) -> u64 {
        signals
            .iter()
            .fold(0, |set, signal| set | 1 << (signal - 1))
    }

    const NONE: [Option<InitInterface>; 3] = [None; 3];

    #[test]
    fn sends_real_time_signals_to_systemd() {
        // As read from a running one.
        let blocked = 0x7be3_c0fe_2801_4a03;
        for program in ["/usr/lib/systemd/systemd", "/lib/systemd/systemd (deleted)"] {
            let running = interfaces(program, b"/sbin/init\0splash\0", blocked, 0x1_8000_04ec);
            assert_eq!(running, signals([38, 37, 39]));
            let starting = interfaces(program, b"/sbin/init\0splash\0", 0, 0);
            assert_eq!(starting, NONE);
        }
    }

    #[test]
    fn recognises_busybox_only_if_it_is_called_init() {
        let all = set(&[1, 10, 12, 15, 17]);
        for program in [
            "/bin/busybox",
            "/usr/bin/busybox-static",
            "/busybox.static (deleted)",
        ] {
            assert_eq!(
                interfaces(program, b"init\0\0", all, 0),
                signals([12, 10, 15])
            );
        }
        assert_eq!(
            interfaces("/bin/busybox", b"init\0", 0, all),
            signals([12, 10, 15])
        );
        // The script /init, run by #!/bin/sh.
        assert_eq!(interfaces("/bin/busybox", b"/bin/sh\0/init\0", 0, 0), NONE);
        // The same script, with traps.
        assert_eq!(
            interfaces("/bin/busybox", b"/bin/sh\0/init\0", 0, all),
            NONE
        );
        assert_eq!(interfaces("/bin/busybox", b"sh\0", 0, all), NONE);
        // Waiting in sigtimedwait.
        let waiting = interfaces("/bin/busybox", b"init\0\0", 0, set(&[20]));
        assert_eq!(waiting, signals([12, 10, 15]));
    }

    #[test]
    fn sends_no_signal_to_halt_to_an_init_without_one() {
        let all = set(&[10, 12, 15]);
        assert_eq!(
            interfaces("/sbin/procd", b"/sbin/procd\0", 0, all),
            signals([12, 0, 15])
        );
        assert_eq!(
            interfaces("/sbin/finit", b"/sbin/init\0", all, 0),
            signals([12, 0, 15])
        );
    }

    #[test]
    fn recognises_inits_that_read_a_fifo() {
        assert_eq!(
            interfaces("/sbin/openrc-init", b"/sbin/init\0", 0, 0),
            [
                Some(InitInterface::OpenRc),
                Some(InitInterface::OpenRc),
                Some(InitInterface::OpenRc)
            ]
        );
        for called in [&b"init [2]\0"[..], b"/sbin/init\0"] {
            assert_eq!(
                interfaces("/usr/sbin/init", called, 0, 0),
                [
                    Some(InitInterface::SysV),
                    Some(InitInterface::SysV),
                    Some(InitInterface::SysV)
                ]
            );
        }
    }

    #[test]
    fn sends_no_signal_to_other_programs() {
        // Runtimes that catch every signal, shells, inits of containers, and this program.
        assert_eq!(
            interfaces("/sbin/tini", b"/sbin/tini\0", u64::MAX, u64::MAX),
            NONE
        );
        assert_eq!(
            interfaces("/bin/dash", b"/bin/sh\0/init\0", 0, u64::MAX),
            NONE
        );
        assert_eq!(interfaces("/usr/bin/bash", b"init\0", 0, u64::MAX), NONE);
        assert_eq!(
            interfaces("/gaunt", b"/gaunt\0", set(&[2, 15, 17]), 0),
            NONE
        );
        assert_eq!(interfaces("/sbin/dinit", b"dinit\0", 0, u64::MAX), NONE);
        assert_eq!(interfaces("-", b"", u64::MAX, u64::MAX), NONE);
    }
}
