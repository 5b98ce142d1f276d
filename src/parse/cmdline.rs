//! The kernel command line, as /proc/cmdline has it: words that PID 1 gets as environment variables.
//!
//! Blanks separate words, except between double quotes; the quotes are not part of the word. Of the
//! words before `--` the kernel keeps those it knows and passes the others to its init: a word with `=`
//! as an environment variable, any other as an argument. All words after `--` are arguments. A word
//! with a dot before the `=` is for a module: the kernel keeps it, and nobody gets it but by
//! /proc/cmdline.

/// Iterates over all words, with their quotes.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    line.split(move |byte| {
        quoted ^= *byte == b'"';
        byte.is_ascii_whitespace() && !quoted
    })
}

/// Iterates over the words that become environment variables unless the kernel knows them, with their
/// quotes.
pub fn environment_words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let before_dashes = words(line).take_while(|word| *word != b"--");
    before_dashes.filter(|word| word.contains(&b'='))
}

/// Whether a word of the command line and an environment variable are the same but for quotes.
pub fn is_same(word: &[u8], variable: &[u8]) -> bool {
    unquoted(word).eq(unquoted(variable))
}

/// The bytes of a word without its quotes.
pub fn unquoted(text: &[u8]) -> impl Iterator<Item = &u8> {
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
    fn yields_words_with_a_value_up_to_the_dashes() {
        let words: Vec<_> = environment_words(SAMPLE).collect();
        let expected: [&[u8]; 4] = [
            b"console=ttyS0",
            b"--block-rpcs=a",
            b"\"--allow-rpcs=b c\"",
            b"-p=\"/x y\"",
        ];
        assert_eq!(words, expected);
        assert_eq!(
            super::words(SAMPLE).filter(|word| !word.is_empty()).count(),
            8
        );
        assert!(is_same(words[2], b"--allow-rpcs=b c"));
        assert!(is_same(words[3], b"-p=/x y"));
        assert!(!is_same(words[1], b"--block-rpcs=ab"));
    }

    #[test]
    fn no_input_panics() {
        torture(SAMPLE, |bytes| {
            for word in environment_words(bytes) {
                assert!(word.contains(&b'=') && is_same(word, word));
            }
        });
    }
}
