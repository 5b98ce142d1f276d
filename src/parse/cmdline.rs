//! The kernel's command line, as /proc/cmdline has it.
//!
//! Blanks part words, except between double quotes, which do not belong to the word. Up to a word
//! `--` the kernel keeps the words it knows and hands its init the others: as an entry of the
//! environment if there is a `=` in it, else as an argument. What stands behind `--` are arguments.

/// The words that the kernel puts into the environment of its init unless it knows them; quotes and
/// all.
pub fn environment_words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let words = line.split(move |byte| {
        quoted ^= *byte == b'"';
        byte.is_ascii_whitespace() && !quoted
    });
    let own = words.take_while(|word| *word != b"--");
    own.filter(|word| word.contains(&b'='))
}

/// Whether an entry of the environment is this word of the command line.
pub fn is_same(word: &[u8], entry: &[u8]) -> bool {
    unquoted(word).eq(unquoted(entry))
}

fn unquoted(text: &[u8]) -> impl Iterator<Item = &u8> {
    text.iter().filter(|byte| **byte != b'"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    const SAMPLE: &[u8] =
        b"console=ttyS0 quiet  --block-rpcs=a -v \"--allow-rpcs=b c\" -p=\"/x y\" \
                            -- --method=z";

    #[test]
    fn words_with_a_value_come_up_to_the_dashes() {
        let words: Vec<_> = environment_words(SAMPLE).collect();
        let expected: [&[u8]; 4] = [
            b"console=ttyS0",
            b"--block-rpcs=a",
            b"\"--allow-rpcs=b c\"",
            b"-p=\"/x y\"",
        ];
        assert_eq!(words, expected);
        assert!(is_same(words[2], b"--allow-rpcs=b c"));
        assert!(is_same(words[3], b"-p=/x y"));
        assert!(!is_same(words[1], b"--block-rpcs=ab"));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        torture(SAMPLE, |bytes| {
            for word in environment_words(bytes) {
                assert!(word.contains(&b'=') && is_same(word, word));
            }
        });
    }
}
