//! Password hashes: SHA-512 crypt (`$6$`), which every C library's crypt(3) knows.
//!
//! The digest is SHA-512 of FIPS 180-4. The scheme is that of "Unix crypt using SHA-256 and
//! SHA-512" by its author, with its default of 5,000 rounds, which the hash therefore does not
//! name. The tests have the vectors of both documents.
//!
//! The code is written for size. The constants of SHA-512, 704 bytes as a table, are computed: they
//! are digits of the roots of the first primes. The first digest of the scheme, and the beginning
//! of the second, hash the same inputs as two of its rounds do, so [`Sha512::mix`] serves for all
//! of them.

use super::limits::PASSWORD_BYTES;
use super::sink::ByteSink;

/// Characters of salt: the most that the scheme uses.
pub const SALT_BYTES: usize = 16;

const ROUNDS: u32 = 5000;

/// An input of the digest: bytes that are repeated up to a length. They may be as many as those of
/// a password.
#[derive(Clone, Copy)]
struct Input {
    bytes: [u8; PASSWORD_BYTES],
    /// Bytes before the repetition begins.
    period: usize,
    /// Length, repetitions included.
    len: usize,
}

/// Index of the input that is the running digest.
const DIGEST: usize = 0;
/// Index of the input that is the password, later the bytes that the scheme derives from it (P).
const PASSWORD: usize = 1;
/// Index of the input that is the salt, later the bytes that the scheme derives from it (S).
const SALT: usize = 2;

/// Appends the hash of `password` to `out`: `$6$`, salt, `$`, digest. The salt is made of the lower
/// six bits of each random byte. The password is cut to [`PASSWORD_BYTES`].
///
/// The time grows with the square of the length of the password.
pub fn sha512_crypt(password: &[u8], random: &[u8; SALT_BYTES], out: &mut dyn ByteSink) {
    let mut hash = Sha512::ZERO;
    hash.prepare();
    hash.set_input(PASSWORD, password);
    hash.set_input(SALT, &random.map(|byte| character(byte.into())));
    let _ = out.append(b"$6$");
    let _ = out.append(&hash.inputs[SALT].bytes[..SALT_BYTES]);
    let _ = out.append(b"$");

    // Digest B of password, salt, password; the input DIGEST is empty.
    hash.mix(1);
    hash.finish(DIGEST);
    let len = hash.inputs[PASSWORD].len;
    hash.inputs[DIGEST].len = len;
    // Digest A begins with password, salt, and as many bytes of B as the password has.
    hash.mix(7);
    hash.inputs[DIGEST].len = DIGEST_BYTES;
    let mut bits = len;
    while bits != 0 {
        hash.feed(if bits & 1 == 0 { PASSWORD } else { DIGEST }, 1);
        bits >>= 1;
    }
    hash.finish(DIGEST);
    // Password and salt are replaced by P and S.
    hash.feed(PASSWORD, len);
    hash.finish(PASSWORD);
    hash.feed(SALT, 16 + usize::from(hash.inputs[DIGEST].bytes[0]));
    hash.finish(SALT);
    for round in 0..ROUNDS {
        hash.mix(round);
        hash.finish(DIGEST);
    }

    // Each group of three bytes, which are 21 apart in a ring of 63, becomes four characters; the
    // next group begins 22 further. The last byte becomes two.
    let mut index = 0;
    let mut bits = 0;
    for count in 0..86 {
        if count == 84 {
            bits = hash.inputs[DIGEST].bytes[DIGEST_BYTES - 1].into();
        } else if count % 4 == 0 {
            for _ in 0..3 {
                bits = bits << 8 | u32::from(hash.inputs[DIGEST].bytes[index % 63]);
                index += 21;
            }
            index += 22;
        }
        let _ = out.append(&[character(bits)]);
        bits >>= 6;
    }
}

/// Returns the character for the lowest six bits: `./0-9A-Za-z`.
// Out of line: one copy of the code is smaller.
#[inline(never)]
fn character(bits: u32) -> u8 {
    let mut character = (bits & 63) as u8 + b'.';
    if character > b'9' {
        character += b'A' - b'9' - 1;
    }
    if character > b'Z' {
        character += b'a' - b'Z' - 1;
    }
    character
}

const DIGEST_BYTES: usize = 64;
const BLOCK_BYTES: usize = 128;

/// SHA-512 and its inputs.
struct Sha512 {
    /// The state, last word first, then the current block. In each round all words move down by
    /// one, so that every round finds its words at the same indices.
    words: [u64; 24],
    /// Bytes hashed so far.
    len: usize,
    constants: [u64; 80],
    /// The initial state, last word first.
    initial: [u64; 8],
    inputs: [Input; 3],
}

impl Sha512 {
    const ZERO: Self = Self {
        inputs: [Input {
            bytes: [0; PASSWORD_BYTES],
            period: 0,
            len: 0,
        }; 3],
        constants: [0; 80],
        initial: [0; 8],
        words: [0; 24],
        len: 0,
    };

    /// Computes the constants: digits of the cube roots of the first 80 primes and of the square
    /// roots of the first eight.
    fn prepare(&mut self) {
        let mut prime = 1;
        for (index, constant) in self.constants.iter_mut().enumerate() {
            prime += 1;
            while (2..prime).any(|divisor| prime % divisor == 0) {
                prime += 1;
            }
            *constant = root_fraction(prime, 3);
            if index < 8 {
                self.initial[7 - index] = root_fraction(prime, 2);
            }
        }
        self.reset();
    }

    /// Begins a new digest.
    // Out of line: one copy of the code is smaller.
    #[inline(never)]
    fn reset(&mut self) {
        self.words[..8].copy_from_slice(&self.initial);
        self.len = 0;
    }

    /// Sets an input, without repetition.
    fn set_input(&mut self, input: usize, bytes: &[u8]) {
        let input = &mut self.inputs[input];
        for (to, byte) in input.bytes.iter_mut().zip(bytes) {
            *to = *byte;
            input.len += 1;
        }
        input.period = input.len;
    }

    /// Hashes the inputs of one round of the scheme. In even rounds the digest comes first and the
    /// password last, in odd rounds the other way round. Salt and password are between them except
    /// in every third and every seventh round.
    fn mix(&mut self, round: u32) {
        // DIGEST is 0, PASSWORD is 1.
        let first = (round & 1) as usize;
        self.feed(first, 1);
        if !round.is_multiple_of(3) {
            self.feed(SALT, 1);
        }
        if !round.is_multiple_of(7) {
            self.feed(PASSWORD, 1);
        }
        self.feed(1 - first, 1);
    }

    /// Hashes an input several times.
    fn feed(&mut self, input: usize, times: usize) {
        let mut at = 0;
        for _ in 0..self.inputs[input].len * times {
            self.push(self.inputs[input].bytes[at]);
            at += 1;
            if at == self.inputs[input].period {
                at = 0;
            }
        }
    }

    /// Ends the digest and begins a new one. The digest replaces the bytes of an input, which keeps
    /// its length.
    fn finish(&mut self, input: usize) {
        let bits = (self.len as u64) << 3;
        self.push(0x80);
        // The length has 16 bytes; the first eight are zero.
        while self.len % BLOCK_BYTES != BLOCK_BYTES - 16 {
            self.push(0);
        }
        self.words[22] = 0;
        self.words[23] = bits;
        self.compress();
        let input = &mut self.inputs[input];
        input.period = DIGEST_BYTES;
        for (bytes, word) in input
            .bytes
            .chunks_exact_mut(8)
            .zip(self.words[..8].iter().rev())
        {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        self.reset();
    }

    fn push(&mut self, byte: u8) {
        // Eight bytes shift out the word of the block before.
        let word = &mut self.words[8 + self.len / 8 % 16];
        *word = *word << 8 | u64::from(byte);
        self.len += 1;
        if self.len.is_multiple_of(BLOCK_BYTES) {
            self.compress();
        }
    }

    fn compress(&mut self) {
        let words = &mut self.words;
        let mut before = [0; 8];
        before.copy_from_slice(&words[..8]);
        for constant in &self.constants {
            // The names a to h are those of FIPS 180-4. W is the first word of the block; the word
            // that enters at its end follows from words 0, 1, 9 and 14 of the block.
            let [h, g, f, e, _, c, b, a, w, w1, ..] = *words;
            let first = h
                .wrapping_add(xor_of_rotations(e, 23, 4, 14))
                .wrapping_add(e & (f ^ g) ^ g)
                .wrapping_add(*constant)
                .wrapping_add(w);
            let next = w
                .wrapping_add(w1.rotate_right(1) ^ w1.rotate_right(8) ^ w1 >> 7)
                .wrapping_add(words[17])
                .wrapping_add(
                    words[22].rotate_right(19) ^ words[22].rotate_right(61) ^ words[22] >> 6,
                );
            for index in 1..words.len() {
                words[index - 1] = words[index];
            }
            words[3] = words[3].wrapping_add(first);
            words[7] = first
                .wrapping_add(xor_of_rotations(a, 5, 6, 28))
                .wrapping_add(a & (b | c) | b & c);
            words[23] = next;
        }
        for (word, before) in words.iter_mut().zip(&before) {
            *word = word.wrapping_add(*before);
        }
    }
}

/// Returns the exclusive or of `word` rotated right by `c`, by `b + c` and by `a + b + c` bits.
fn xor_of_rotations(word: u64, a: u32, b: u32, c: u32) -> u64 {
    let two = (word.rotate_right(a) ^ word).rotate_right(b);
    (two ^ word).rotate_right(c)
}

/// Returns the first 64 bits of the fraction of the square or cube root of a prime. The root must
/// be less than 8.
fn root_fraction(prime: u32, degree: u32) -> u64 {
    // The root divided by 8, as a fraction of 128 bits, found bit by bit.
    let mut root = 0u128;
    let mut bit = 1 << 127;
    while bit != 1 << 60 {
        let candidate = root | bit;
        let mut power = candidate;
        for _ in 1..degree {
            power = upper_product(power, candidate);
        }
        // The lower 64 bits of the prime, scaled likewise, are zero: comparing the upper ones is
        // enough.
        if ((power >> 64) as u64) < u64::from(prime) << (64 - 3 * degree) {
            root = candidate;
        }
        bit >>= 1;
    }
    (root >> 61) as u64
}

/// Returns the upper 128 bits of a product, or a little less: lower partial products are dropped.
fn upper_product(a: u128, b: u128) -> u128 {
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
        hex(&hash.inputs[DIGEST].bytes[..DIGEST_BYTES])
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
        // Random bytes that yield this salt.
        let random = core::array::from_fn(|index| {
            let wanted = salt.as_bytes()[index];
            (0..64)
                .find(|bits| character((*bits).into()) == wanted)
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
        // Hashes by glibc and by `openssl passwd -6` of `k`, repeated.
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
