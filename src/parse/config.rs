//! qemu-ga's configuration file: does it restrict the commands?
//!
//! A GLib key file: groups in brackets, `key = value`, comments after `#`. It may restrict the commands
//! if a list of commands is not empty in any group (also in groups that qemu-ga ignores), or if a line
//! is not valid in a key file: that line may have been meant as a restriction. The lists themselves are
//! not read.

use super::{lines, word_index};
use crate::base::text::cut;

/// Keys of lists of commands, including those of older versions of qemu-ga.
const LISTS: &[u8] = b"block-rpcs allow-rpcs blacklist black-list";

/// Whether the file restricts the commands, or has a line that is not valid in a key file.
pub fn may_restrict(file: &[u8]) -> bool {
    lines(file).any(|line| match line.trim_ascii() {
        [] | [b'#', ..] | [b'[', .., b']'] => false,
        line => {
            let mut value = line;
            let key = cut(&mut value, b'=').trim_ascii();
            let is_list = word_index(LISTS, key).is_some();
            is_list && !value.trim_ascii().is_empty()
                || !line.contains(&b'=')
                || !key.iter().all(|byte| is_key_byte(*byte))
        }
    })
}

/// Whether a key may have this byte. Brackets enclose a language: `path[de]`.
fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.@[]".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    const SAMPLE: &[u8] = b"# qemu-ga\n\n [general]\r\ndaemon = 0\nblock-rpcs=\nmethod=isa-serial";

    #[test]
    fn lists_and_invalid_lines_may_restrict() {
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
    fn no_input_panics() {
        torture(SAMPLE, |bytes| _ = may_restrict(bytes));
    }
}
