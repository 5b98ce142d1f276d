//! qemu-ga's configuration file, as far as to find out whether it restricts anything.
//!
//! It is a key file as GLib has them: groups in brackets, `key = value`, comments behind `#`. What
//! would be an error there may have been meant as a restriction, and so may a key of a group that
//! qemu-ga does not look at.

use super::{lines, word_index};
use crate::base::text::{cut, trim};

/// The keys that say which commands are allowed, those of older versions included.
const LISTS: &[u8] = b"block-rpcs allow-rpcs blacklist black-list";

/// Whether a file restricts the commands, or holds anything that is not understood.
pub fn may_restrict(file: &[u8]) -> bool {
    lines(file).any(|line| match trim(line) {
        [] | [b'#', ..] | [b'[', .., b']'] => false,
        line => {
            let mut value = line;
            let key = trim(cut(&mut value, b'='));
            let is_list = word_index(LISTS, key).is_some();
            is_list && !trim(value).is_empty()
                || !line.contains(&b'=')
                || !key.iter().all(|byte| is_of_key(*byte))
        }
    })
}

/// Whether the keys that qemu-ga reads, or any with a language behind it (`path[de]`), have such bytes.
fn is_of_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.@[]".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    const SAMPLE: &[u8] = b"# qemu-ga\n\n [general]\r\ndaemon = 0\nblock-rpcs=\nmethod=isa-serial";

    #[test]
    fn lists_and_what_is_not_understood_count() {
        for file in [&b""[..], b"\n\n# block-rpcs=guest-exec\n", SAMPLE] {
            assert!(!may_restrict(file), "{}", file.escape_ascii());
        }
        for line in [
            "block-rpcs=guest-exec",
            "\tallow-rpcs = guest-ping,guest-info\r",
            "blacklist=guest-exec",
            "block-rpcs guest-exec",
            "; block-rpcs",
            "[general] # comment",
            "block-rpcs\0=guest-exec",
            "block rpcs=guest-exec",
        ] {
            let file = [SAMPLE, b"\n", line.as_bytes()].concat();
            assert!(may_restrict(&file), "{line}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        torture(SAMPLE, |bytes| _ = may_restrict(bytes));
    }
}
