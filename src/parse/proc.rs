//! Small texts of /proc, as proc(5) and the kernel's `kernel-parameters` document describe them:
//! `Key: value` files, /proc/PID/stat, and the kernel command line.

use super::modules::is_same_name;
use super::{split_once, words};
use crate::base::text::{parse_hex, parse_u64, value_of_key};

/// Whether the signal set under `key` (`SigCgt`, `SigBlk`, ...) of /proc/PID/status has `signal`.
pub fn has_signal(status: &[u8], key: &[u8], signal: u32) -> Option<bool> {
    let set = parse_hex(value_of_key(status, key)?)?;
    let bit = set.checked_shr(signal.checked_sub(1)?)?;
    Some(bit & 1 == 1)
}

/// When a process started, by its /proc/PID/stat: in clock ticks since the machine did. The second
/// field, the name of the program, may hold blanks and parentheses.
pub fn start_time(stat: &[u8]) -> Option<u64> {
    const FIELDS_BETWEEN: usize = 19;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let (_, after_name) = stat.split_at_checked(end.checked_add(1)?)?;
    parse_u64(words(after_name).nth(FIELDS_BETWEEN)?)
}

/// The parameters of a kernel command line, as (name, value); without `=`, the value is empty.
///
/// Double quotes keep blanks together, around a value or around the whole parameter, and are taken
/// off there. What follows `--` is for init and is no parameter.
pub fn parameters(command_line: &[u8]) -> Parameters<'_> {
    Parameters { rest: command_line }
}

/// The value of the parameter called `name`, dash and underscore being the same; the last one wins.
pub fn parameter<'a>(command_line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let found = parameters(command_line)
        .filter(|(other, _)| is_same_name(other, name))
        .last();
    found.map(|(_, value)| value)
}

/// The iterator of [`parameters`].
#[derive(Clone, Debug)]
pub struct Parameters<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.rest.trim_ascii_start();
        let mut quoted = false;
        let end = text.iter().position(|byte| {
            quoted ^= *byte == b'"';
            byte.is_ascii_whitespace() && !quoted
        });
        let (word, rest) = text.split_at_checked(end.unwrap_or(text.len()))?;
        if word.is_empty() || word == b"--" {
            self.rest = &[];
            return None;
        }
        self.rest = rest;
        let word = unquote(word);
        Some(match split_once(word, b'=') {
            Some((name, value)) => (name, unquote(value)),
            None => (word, &[]),
        })
    }
}

/// `text` without a quote at its beginning and, if it has that, at its end.
fn unquote(text: &[u8]) -> &[u8] {
    match text.strip_prefix(b"\"") {
        Some(text) => text.strip_suffix(b"\"").unwrap_or(text),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    const STATUS: &[u8] = b"Name:\tsystemd\nUmask:\t0000\nState:\tS (sleeping)\nTgid:\t1\n\
SigQ:\t0/15500\nSigPnd:\t0000000000000000\nSigBlk:\t7be3c0fe28014a03\nSigIgn:\t0000000000001000\n\
SigCgt:\t00000001800004ec\nCapInh:\t0000000000000000\n";

    #[test]
    fn values_are_found_by_their_whole_key() {
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
    fn a_start_time_is_found_behind_any_program_name() {
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
    fn the_command_line_is_split_as_the_kernel_does() {
        let line = b"BOOT_IMAGE=/vmlinuz root=UUID=1-2 ro quiet \"gaunt.allow=@info, @lifecycle\" \
gaunt.block-rpcs=\"a b\" empty= gaunt.x=1 gaunt.x=2 -- gaunt.x=3\n";
        let all: Vec<_> = parameters(line).collect();
        assert_eq!(all[0], (&b"BOOT_IMAGE"[..], &b"/vmlinuz"[..]));
        assert_eq!(all[1], (&b"root"[..], &b"UUID=1-2"[..]));
        assert_eq!(all[2], (&b"ro"[..], &b""[..]));
        assert_eq!(
            parameter(line, b"gaunt.allow"),
            Some(&b"@info, @lifecycle"[..])
        );
        assert_eq!(parameter(line, b"gaunt.block_rpcs"), Some(&b"a b"[..]));
        assert_eq!(parameter(line, b"empty"), Some(&b""[..]));
        assert_eq!(parameter(line, b"quiet"), Some(&b""[..]));
        assert_eq!(parameter(line, b"gaunt.x"), Some(&b"2"[..]));
        assert_eq!(parameter(line, b"absent"), None);
        assert_eq!(all.len(), 9);
        assert!(parameters(b"a=\"open ended\n").eq([(&b"a"[..], &b"open ended\n"[..])]));
        assert_eq!(parameters(b" \n").count(), 0);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        torture(STATUS, |bytes| {
            value_of_key(bytes, b"SigCgt");
            has_signal(bytes, b"SigCgt", 1);
        });
        torture(STAT, |bytes| _ = start_time(bytes));
        torture(b"a=\"b c\" \"d=e f\" g -- h", |bytes| {
            assert!(parameters(bytes).count() <= bytes.len())
        });
    }
}
