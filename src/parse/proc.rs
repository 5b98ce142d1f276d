//! Facts about a process: /proc/PID/status and /proc/PID/stat, as proc(5) describes them.

use super::words;
use crate::base::text::{parse_hex, parse_u64, value_of_key};

/// Whether a signal set of /proc/PID/status contains `signal`. `key` is `SigCgt`, `SigBlk` or `SigIgn`.
pub fn has_signal(status: &[u8], key: &[u8], signal: u32) -> Option<bool> {
    let set = parse_hex(value_of_key(status, key)?)?;
    let bit = set.checked_shr(signal.checked_sub(1)?)?;
    Some(bit & 1 == 1)
}

/// Returns field 22 of /proc/PID/stat: the start time of the process, in clock ticks after boot.
///
/// Field 2, the name of the program, may contain blanks and parentheses: counting begins after the last
/// closing parenthesis.
pub fn start_time(stat: &[u8]) -> Option<u64> {
    /// Index of the field after field 2.
    const START_TIME: usize = 22 - 3;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let (_, after_name) = stat.split_at_checked(end.checked_add(1)?)?;
    parse_u64(words(after_name).nth(START_TIME)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    const STATUS: &[u8] = b"Name:\tsystemd\nUmask:\t0000\nState:\tS (sleeping)\nTgid:\t1\n\
SigQ:\t0/15500\nSigPnd:\t0000000000000000\nSigBlk:\t7be3c0fe28014a03\nSigIgn:\t0000000000001000\n\
SigCgt:\t00000001800004ec\nCapInh:\t0000000000000000\n";

    #[test]
    fn keys_are_compared_whole() {
        assert_eq!(value_of_key(STATUS, b"Name"), Some(&b"systemd"[..]));
        assert_eq!(value_of_key(STATUS, b"State"), Some(&b"S (sleeping)"[..]));
        assert_eq!(value_of_key(STATUS, b"Stat"), None);
        assert_eq!(value_of_key(b"", b""), None);
    }

    #[test]
    fn signal_sets_count_from_one() {
        assert_eq!(has_signal(STATUS, b"SigBlk", 1), Some(true));
        assert_eq!(has_signal(STATUS, b"SigBlk", 3), Some(false));
        assert_eq!(has_signal(STATUS, b"SigCgt", 3), Some(true));
        assert_eq!(has_signal(STATUS, b"SigCgt", 33), Some(true));
        assert_eq!(has_signal(STATUS, b"SigCgt", 0), None);
        assert_eq!(has_signal(STATUS, b"SigCgt", 65), None);
        assert_eq!(has_signal(STATUS, b"SigXyz", 1), None);
    }

    const STAT: &[u8] = b"77 (a) S 5 (b \n) Z 12 77 77 0 -1 4194560 62 0 0 0 1 2 0 0 20 0 1 0 \
987654 4096 0\n";

    #[test]
    fn finds_the_start_time_after_any_program_name() {
        assert_eq!(start_time(STAT), Some(987_654));
        assert_eq!(start_time(b"77 (a"), None);
        assert_eq!(start_time(b"77 (a) S"), None);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri starts no process")]
    fn this_process_started_before_its_child() {
        let own = start_time(&std::fs::read("/proc/self/stat").unwrap()).unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("10")
            .spawn()
            .unwrap();
        let stat = std::fs::read(format!("/proc/{}/stat", child.id())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(start_time(&stat).unwrap() >= own && own != 0);
    }

    #[test]
    fn no_input_panics() {
        torture(STATUS, |bytes| {
            value_of_key(bytes, b"SigCgt");
            has_signal(bytes, b"SigCgt", 1);
        });
        torture(STAT, |bytes| _ = start_time(bytes));
    }
}
