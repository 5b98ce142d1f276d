//! Passwords as SHA-512 crypt (`$6$`), which every C library's crypt(3) knows.
//!
//! The hash is FIPS 180-4's, the scheme is the one its author published ("Unix crypt using SHA-256
//! and SHA-512"), both held against their official vectors below. 5,000 rounds, the scheme's default,
//! which therefore is not written out.
//!
//! Made to be small: the constants, 704 bytes as a table, are computed, as they are digits of the
//! roots of the first primes; and the beginning of the scheme is told as two of its rounds.

use super::limits::PASSWORD_BYTES;
use super::store::Store;

/// Characters of salt: as many as the scheme takes.
pub const SALT_BYTES: usize = 16;

const ROUNDS: u32 = 5000;

/// What is hashed over and over, bytes that may be as many as those of a password.
#[derive(Clone, Copy)]
struct Source {
    bytes: [u8; PASSWORD_BYTES],
    /// After so many bytes it begins anew.
    period: usize,
    /// So many bytes of it are hashed in one round.
    count: usize,
}

/// The places of the running digest, of what stands for the password, and for the salt.
const DIGEST: usize = 0;
const WORD: usize = 1;
const GRAIN: usize = 2;

/// Appends the hash of `password`, `$6$` and all, salted by the lower six bits of each random byte.
/// What is longer than [`PASSWORD_BYTES`] is cut there.
///
/// Takes time in the square of the length of the password.
#[inline(never)]
pub fn sha512_crypt(password: &[u8], random: &[u8; SALT_BYTES], out: &mut dyn Store) {
    let mut hash = Sha512::ZERO;
    hash.prepare();
    hash.give(WORD, password);
    hash.give(GRAIN, &random.map(|byte| letter(byte.into())));
    let _ = out.append(b"$6$");
    let _ = out.append(&hash.sources[GRAIN].bytes[..SALT_BYTES]);
    let _ = out.append(b"$");

    // Password, salt, password, and a digest that is empty as yet.
    hash.mix(1);
    hash.finish(DIGEST);
    let len = hash.sources[WORD].count;
    hash.sources[DIGEST].count = len;
    // Password, salt, digest.
    hash.mix(7);
    hash.sources[DIGEST].count = DIGEST_BYTES;
    let mut bits = len;
    while bits != 0 {
        hash.feed(if bits & 1 == 0 { WORD } else { DIGEST }, 1);
        bits >>= 1;
    }
    hash.finish(DIGEST);
    hash.feed(WORD, len);
    hash.finish(WORD);
    hash.feed(GRAIN, 16 + usize::from(hash.sources[DIGEST].bytes[0]));
    hash.finish(GRAIN);
    for round in 0..ROUNDS {
        hash.mix(round);
        hash.finish(DIGEST);
    }

    // Four letters for three bytes, 21 apart, the first by turns; and two for the last byte.
    let mut place = 0;
    let mut bits = 0;
    for count in 0..86 {
        if count == 84 {
            bits = hash.sources[DIGEST].bytes[DIGEST_BYTES - 1].into();
        } else if count % 4 == 0 {
            for _ in 0..3 {
                bits = bits << 8 | u32::from(hash.sources[DIGEST].bytes[place % 63]);
                place += 21;
            }
            place += 22;
        }
        let _ = out.append(&[letter(bits)]);
        bits >>= 6;
    }
}

/// The letter for the lowest six bits: `./0-9A-Za-z`.
#[inline(never)]
fn letter(bits: u32) -> u8 {
    let mut letter = (bits & 63) as u8 + b'.';
    if letter > b'9' {
        letter += b'A' - b'9' - 1;
    }
    if letter > b'Z' {
        letter += b'a' - b'Z' - 1;
    }
    letter
}

const DIGEST_BYTES: usize = 64;
const BLOCK_BYTES: usize = 128;

/// SHA-512, and what is hashed. What is used most comes first, where its addresses are short.
#[repr(C)]
struct Sha512 {
    /// The state, last word first, and the block: what the next round needs is always at the same
    /// place, because after each all moves down by one.
    words: [u64; 24],
    len: usize,
    constants: [u64; 80],
    /// The state at the beginning, last word first.
    initial: [u64; 8],
    sources: [Source; 3],
}

impl Sha512 {
    const ZERO: Self = Self {
        sources: [Source {
            bytes: [0; PASSWORD_BYTES],
            period: 0,
            count: 0,
        }; 3],
        constants: [0; 80],
        initial: [0; 8],
        words: [0; 24],
        len: 0,
    };

    /// Computes the constants.
    #[inline(never)]
    fn prepare(&mut self) {
        let mut prime = 1;
        for (place, constant) in self.constants.iter_mut().enumerate() {
            prime += 1;
            while (2..prime).any(|divisor| prime % divisor == 0) {
                prime += 1;
            }
            *constant = root_fraction(prime, 3);
            if place < 8 {
                self.initial[7 - place] = root_fraction(prime, 2);
            }
        }
        self.begin();
    }

    /// Has nothing taken in.
    #[inline(never)]
    fn begin(&mut self) {
        self.words[..8].copy_from_slice(&self.initial);
        self.len = 0;
    }

    /// Makes a source of these bytes.
    #[inline(never)]
    fn give(&mut self, source: usize, bytes: &[u8]) {
        let source = &mut self.sources[source];
        for (to, byte) in source.bytes.iter_mut().zip(bytes) {
            *to = *byte;
            source.count += 1;
        }
        source.period = source.count;
    }

    /// Takes in what a round of the scheme hashes.
    #[inline(never)]
    fn mix(&mut self, round: u32) {
        // The running digest comes first or last by turns; where it is not, the password is.
        let first = (round & 1) as usize;
        self.feed(first, 1);
        if !round.is_multiple_of(3) {
            self.feed(GRAIN, 1);
        }
        if !round.is_multiple_of(7) {
            self.feed(WORD, 1);
        }
        self.feed(1 - first, 1);
    }

    /// Takes in a source, so many times.
    #[inline(never)]
    fn feed(&mut self, source: usize, times: usize) {
        let mut at = 0;
        for _ in 0..self.sources[source].count * times {
            self.push(self.sources[source].bytes[at]);
            at += 1;
            if at == self.sources[source].period {
                at = 0;
            }
        }
    }

    /// Makes a source the digest of what was taken in, which is then forgotten.
    #[inline(never)]
    fn finish(&mut self, source: usize) {
        let bits = (self.len as u64) << 3;
        self.push(0x80);
        // The length takes 16 bytes, of which the first eight are zero.
        while self.len % BLOCK_BYTES != BLOCK_BYTES - 16 {
            self.push(0);
        }
        self.words[22] = 0;
        self.words[23] = bits;
        self.compress();
        let source = &mut self.sources[source];
        source.period = DIGEST_BYTES;
        for (bytes, word) in source
            .bytes
            .chunks_exact_mut(8)
            .zip(self.words[..8].iter().rev())
        {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        self.begin();
    }

    #[inline(never)]
    fn push(&mut self, byte: u8) {
        // The eighth byte pushes out what was there of the block before.
        let word = &mut self.words[8 + self.len / 8 % 16];
        *word = *word << 8 | u64::from(byte);
        self.len += 1;
        if self.len.is_multiple_of(BLOCK_BYTES) {
            self.compress();
        }
    }

    #[inline(never)]
    fn compress(&mut self) {
        let words = &mut self.words;
        let mut before = [0; 8];
        before.copy_from_slice(&words[..8]);
        for constant in &self.constants {
            let [h, g, f, e, _, c, b, a, word, far, ..] = *words;
            let first = h
                .wrapping_add(turned(e, 23, 4, 14))
                .wrapping_add(e & (f ^ g) ^ g)
                .wrapping_add(*constant)
                .wrapping_add(word);
            let next = word
                .wrapping_add(far.rotate_right(1) ^ far.rotate_right(8) ^ far >> 7)
                .wrapping_add(words[17])
                .wrapping_add(
                    words[22].rotate_right(19) ^ words[22].rotate_right(61) ^ words[22] >> 6,
                );
            for place in 1..words.len() {
                words[place - 1] = words[place];
            }
            words[3] = words[3].wrapping_add(first);
            words[7] = first
                .wrapping_add(turned(a, 5, 6, 28))
                .wrapping_add(a & (b | c) | b & c);
            words[23] = next;
        }
        for (word, before) in words.iter_mut().zip(&before) {
            *word = word.wrapping_add(*before);
        }
    }
}

/// The word rotated by `c`, by `b + c`, and by `a + b + c`, added up bit by bit.
fn turned(word: u64, a: u32, b: u32, c: u32) -> u64 {
    let two = (word.rotate_right(a) ^ word).rotate_right(b);
    (two ^ word).rotate_right(c)
}

/// The first 64 bits behind the point of the square or cube root of a prime, the root being less
/// than 8.
fn root_fraction(prime: u32, degree: u32) -> u64 {
    // All of it divided by 8, so that 128 bits behind the point are enough, and found bit by bit.
    let mut root = 0u128;
    let mut bit = 1 << 127;
    while bit != 1 << 60 {
        let tried = root | bit;
        let mut power = tried;
        for _ in 1..degree {
            power = product(power, tried);
        }
        // The lower half of the right side is zero.
        if ((power >> 64) as u64) < u64::from(prime) << (64 - 3 * degree) {
            root = tried;
        }
        bit >>= 1;
    }
    (root >> 61) as u64
}

/// The upper half of a product, or little less.
fn product(a: u128, b: u128) -> u128 {
    let [a, a_low, b, b_low] = [
        a >> 64,
        a & u128::from(u64::MAX),
        b >> 64,
        b & u128::from(u64::MAX),
    ];
    a * b + ((a * b_low) >> 64) + ((a_low * b) >> 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digest: &[u8]) -> String {
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn sha512(bytes: &[u8]) -> String {
        let mut hash = Sha512::ZERO;
        hash.prepare();
        bytes.iter().for_each(|byte| hash.push(*byte));
        hash.finish(DIGEST);
        hex(&hash.sources[DIGEST].bytes[..DIGEST_BYTES])
    }

    #[test]
    fn constants_are_those_of_the_standard() {
        let mut hash = Sha512::ZERO;
        hash.prepare();
        assert_eq!(hash.constants[0], 0x428a_2f98_d728_ae22);
        assert_eq!(hash.constants[1], 0x7137_4491_23ef_65cd);
        assert_eq!(hash.constants[79], 0x6c44_198c_4a47_5817);
        assert_eq!(hash.initial[7], 0x6a09_e667_f3bc_c908);
        assert_eq!(hash.initial[0], 0x5be0_cd19_137e_2179);
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn digests_are_those_of_the_standard() {
        for (text, digest) in [
            (
                &b""[..],
                "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                 47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
            ),
            (
                b"abc",
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
            (
                b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn\
                  hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
                "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018\
                 501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909",
            ),
            (
                &[b'a'; 1_000_000],
                "e718483d0ce769644e2e42c7bc15b4638e1f98b13b2044285632a803afa973eb\
                 de0ff244877ea60a4cb0432ce577c31beb009c5c2c49aa2e4eadb217ad8cc09b",
            ),
        ] {
            assert_eq!(sha512(text), digest);
        }
    }

    fn crypt(password: &[u8], salt: &str) -> String {
        // Random bytes that come out as this salt.
        let random = core::array::from_fn(|place| {
            let wanted = salt.as_bytes()[place];
            (0..64)
                .find(|bits| letter((*bits).into()) == wanted)
                .unwrap()
        });
        let mut out = heapless::Vec::<u8, 128>::new();
        sha512_crypt(password, &random, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn hashes_are_those_of_other_implementations() {
        // The published vector for 5,000 rounds and a salt of 16, which it gives as
        // "toolongsaltstring".
        assert_eq!(
            crypt(b"This is just a test", "toolongsaltstrin"),
            "$6$toolongsaltstrin$lQ8jolhgVRVhY4b5pZKaysCLi0QBxGoNeKQzQ3glMhwllF7oGDZxUhx1yxdYcz/\
             e1JSbq3y6JMxxl8audkUEm0"
        );
        // What glibc and `openssl passwd -6` make of `k`, so many times.
        for (len, hash) in [
            (
                0,
                "4gKQPovd5tP44WHW5TaFs9ER69kJuwzPCw5gPmbERRCqEEXsKJIKSEim9ytFKLMYYPjOlPx9gYTtSj19DX.jc/",
            ),
            (
                1,
                "kmKrvc.RyrosI29qZIAKwCxpruskIVjRRbq24xHgyV5qEl7LPFrwpJRFwgOcD/0XF2lBfBu0l2FRhspQ4thgr/",
            ),
            (
                63,
                "Aj4bR.fgu23lS1KtJszUK0jReiVeGuMyJtriw.03QCdE0tItVQbotnvellPyzOl.8A7KLWeP9DQ7WrSba9e.Q.",
            ),
            (
                64,
                "77qKA1x/kTMM7I2RCL7/mDwNYdfnnvU.iskEuTdIkCZjuqWFiYR7c39k9xUnXCVa.qdVlvb20kf/b0fCVqRLK1",
            ),
            (
                65,
                "qINgszVNRf2fHegVUskq4.jemElong3zwYiATSqS9YjeiZTrUiUvDjF5TL82lWinjyCziyZ.u1gan4/BqvqSn0",
            ),
            (
                128,
                "AJmwir5D54/quTwW2tDsGElZMI7vU5TkRW4okLS3kL7LfN0l7IbhKPf9kliEo6XCpy7xEsABi4A8HgGQLaEgX0",
            ),
            (
                255,
                "z.ilBJgTJpeZzQYfXfiMdsDzcGkes.Q2p2aPeIvyenQQrQbFVUjEyueEUZO5KNDq5ZHglQaw2B2I6PMBbHqAQ/",
            ),
        ] {
            let whole = format!("$6$saltsaltSALT./09${hash}");
            assert_eq!(crypt(&b"k".repeat(len), "saltsaltSALT./09"), whole);
        }
    }
}
