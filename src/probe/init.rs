//! Which init runs this guest, and how it is told to take the guest down.
//!
//! What each init listens to is documented: systemd(1), the INIT section of busybox (`halt`,
//! `poweroff` and `reboot` there are nothing but these signals), procd, finit's page on signals,
//! openrc-shutdown(8), initctl(5).
//!
//! Nothing is believed by its name alone: a script that runs as PID 1 is called `init` as well, and
//! its interpreter is busybox. The program file of PID 1 must be that of the init, and PID 1 must
//! catch the signal or wait for it; otherwise the signal would be lost, or worse: a runtime that
//! catches everything ends PID 1 by it, and with it the guest. Of busybox, which becomes what it is
//! called as, the name it was called by is asked for instead: its init waits in sigtimedwait(2),
//! during which /proc shows the signals neither as caught nor as blocked.
//!
//! Inits that are not told, because nothing they document does it (dinit, whose signal for that only
//! halts), because it takes more than a word (s6-linux-init, runit) or because they could not be
//! told from others: the guest is taken down past them. The same goes for a mode that an init has
//! no signal for.

use crate::parse::proc::has_signal;
use crate::parse::{file_name, until_nul, word_index};
use crate::sys::power::Down;
use crate::sys::root::Root;

/// How PID 1 is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By this signal, in the kernel's numbering.
    Signal(i32),
    /// By a word in OpenRC's FIFO.
    OpenRc,
    /// By a change of the runlevel in sysvinit's FIFO.
    SysV,
}

/// SIGRTMIN, as glibc counts it and systemd therefore means it.
const RTMIN: u8 = 34;
const USR1: u8 = 10;
const USR2: u8 = 12;
const TERM: u8 = 15;

/// In place of a signal: the init has an interface of its own.
const OPEN_RC: u8 = 255;
const SYS_V: u8 = 254;

/// The names of the program files of inits. The first of them are inits only if they were called
/// `init`. sysvinit is one if it has its FIFO; it adds its runlevel to what it is called.
const PROGRAMS: &[u8] = b"busybox init systemd procd finit openrc-init";
const BY_CALL: usize = 2;

/// Their signals to power off, halt and reboot; 0 if it has none.
const SIGNALS: [[u8; 3]; 6] = [
    [USR2, USR1, TERM],
    [SYS_V; 3],
    [RTMIN + 4, RTMIN + 3, RTMIN + 5],
    // SIGUSR1 powers off, too.
    [USR2, 0, TERM],
    // SIGUSR1 halted before finit 4.1.
    [USR2, 0, TERM],
    [OPEN_RC; 3],
];

/// How this guest's init takes it down like this, if it is one that can be told.
pub fn way_down(root: &Root, how: Down) -> Option<Way> {
    let mut buffer = [0; 256];
    let program = root.link_at(&[b"proc/1/exe"], &mut buffer).ok()?;
    let program = base_name(program);
    let known = word_index(PROGRAMS, program)?;
    let by_call = known < BY_CALL;
    if by_call {
        let called = root.read_at(&[b"proc/1/cmdline"], &mut buffer).ok()?;
        if !base_name(until_nul(called)).starts_with(b"init") {
            return None;
        }
    }
    match *SIGNALS.get(known)?.get(how as usize)? {
        0 => None,
        OPEN_RC => Some(Way::OpenRc),
        SYS_V => Some(Way::SysV),
        signal => (by_call || listens(root, signal)).then_some(Way::Signal(signal.into())),
    }
}

/// Whether PID 1 catches this signal, or blocks it, as those do that read signals from a descriptor.
fn listens(root: &Root, signal: u8) -> bool {
    let mut buffer = [0; 2048];
    let status = root.read_at(&[b"proc/1/status"], &mut buffer);
    status.is_ok_and(|status| {
        let is_in = |set: &[u8]| has_signal(status, set, signal.into()) == Some(true);
        is_in(b"SigCgt") || is_in(b"SigBlk")
    })
}

/// The last part of a path, without what the kernel appends for a file that was replaced, or
/// packagers for one that was linked statically.
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
    use std::ffi::CString;

    const ALL: [Down; 3] = [Down::PowerOff, Down::Halt, Down::Reboot];

    /// How PID 1 of this program, command line and signal sets (blocked, caught) would be told.
    fn ways(program: &str, command_line: &[u8], blocked: u64, caught: u64) -> [Option<Way>; 3] {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gaunt-init-{}-{number}", std::process::id()));
        std::fs::create_dir_all(path.join("proc/1")).unwrap();
        std::os::unix::fs::symlink(program, path.join("proc/1/exe")).unwrap();
        std::fs::write(path.join("proc/1/cmdline"), command_line).unwrap();
        let status = format!(
            "Name:\tinit\nState:\tS (sleeping)\nPid:\t1\nPPid:\t0\nSigBlk:\t{blocked:016x}\n\
             SigIgn:\t0000000000001000\nSigCgt:\t{caught:016x}\n"
        );
        std::fs::write(path.join("proc/1/status"), status).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        let ways = ALL.map(|how| way_down(&root, how));
        std::fs::remove_dir_all(path).unwrap();
        ways
    }

    fn signals(numbers: [i32; 3]) -> [Option<Way>; 3] {
        numbers.map(|number| (number != 0).then_some(Way::Signal(number)))
    }

    fn set(signals: &[u32]) -> u64 {
        signals
            .iter()
            .fold(0, |set, signal| set | 1 << (signal - 1))
    }

    const NOBODY: [Option<Way>; 3] = [None; 3];

    #[test]
    fn systemd_takes_real_time_signals() {
        // As read from a running one.
        let blocked = 0x7be3_c0fe_2801_4a03;
        for program in ["/usr/lib/systemd/systemd", "/lib/systemd/systemd (deleted)"] {
            let running = ways(program, b"/sbin/init\0splash\0", blocked, 0x1_8000_04ec);
            assert_eq!(running, signals([38, 37, 39]));
            let starting = ways(program, b"/sbin/init\0splash\0", 0, 0);
            assert_eq!(starting, NOBODY);
        }
    }

    #[test]
    fn busybox_is_an_init_only_when_it_is_called_one() {
        let all = set(&[1, 10, 12, 15, 17]);
        for program in [
            "/bin/busybox",
            "/usr/bin/busybox-static",
            "/busybox.static (deleted)",
        ] {
            assert_eq!(ways(program, b"init\0\0", all, 0), signals([12, 10, 15]));
        }
        assert_eq!(
            ways("/bin/busybox", b"init\0", 0, all),
            signals([12, 10, 15])
        );
        // The script /init, by #!/bin/sh.
        assert_eq!(ways("/bin/busybox", b"/bin/sh\0/init\0", 0, 0), NOBODY);
        // The same, with traps.
        assert_eq!(ways("/bin/busybox", b"/bin/sh\0/init\0", 0, all), NOBODY);
        assert_eq!(ways("/bin/busybox", b"sh\0", 0, all), NOBODY);
        // Waiting in sigtimedwait.
        let waiting = ways("/bin/busybox", b"init\0\0", 0, set(&[20]));
        assert_eq!(waiting, signals([12, 10, 15]));
    }

    #[test]
    fn inits_without_a_signal_to_halt_are_not_sent_one() {
        let all = set(&[10, 12, 15]);
        assert_eq!(
            ways("/sbin/procd", b"/sbin/procd\0", 0, all),
            signals([12, 0, 15])
        );
        assert_eq!(
            ways("/sbin/finit", b"/sbin/init\0", all, 0),
            signals([12, 0, 15])
        );
    }

    #[test]
    fn two_inits_read_fifos() {
        assert_eq!(
            ways("/sbin/openrc-init", b"/sbin/init\0", 0, 0),
            [Some(Way::OpenRc), Some(Way::OpenRc), Some(Way::OpenRc)]
        );
        for called in [&b"init [2]\0"[..], b"/sbin/init\0"] {
            assert_eq!(
                ways("/usr/sbin/init", called, 0, 0),
                [Some(Way::SysV), Some(Way::SysV), Some(Way::SysV)]
            );
        }
    }

    #[test]
    fn nobody_else_is_sent_a_signal() {
        // A runtime that catches all there is, shells, containers' inits, and ourselves.
        assert_eq!(
            ways("/sbin/tini", b"/sbin/tini\0", u64::MAX, u64::MAX),
            NOBODY
        );
        assert_eq!(ways("/bin/dash", b"/bin/sh\0/init\0", 0, u64::MAX), NOBODY);
        assert_eq!(ways("/usr/bin/bash", b"init\0", 0, u64::MAX), NOBODY);
        assert_eq!(ways("/gaunt", b"/gaunt\0", set(&[2, 15, 17]), 0), NOBODY);
        assert_eq!(ways("/sbin/dinit", b"dinit\0", 0, u64::MAX), NOBODY);
        assert_eq!(ways("-", b"", u64::MAX, u64::MAX), NOBODY);
    }
}
