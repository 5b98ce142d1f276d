//! Passwords as SHA-512 crypt (`$6$`), which every C library's crypt(3) knows.
//!
//! The hash is FIPS 180-4's, the scheme is the one its author published ("Unix crypt using SHA-256
//! and SHA-512"), both held against their official vectors below. 5,000 rounds, the scheme's default,
//! which therefore is not written out.
//!
//! Own code of 2.4 kB: the hash 1.15 kB, the scheme 1 kB, the constants 0.23 kB. The latter, 704 bytes
//! as a table, are computed: they are digits of the roots of the first primes.

use super::store::Store;

/// Characters of salt: as many as the scheme takes.
pub const SALT_BYTES: usize = 16;

const ROUNDS: u32 = 5000;

/// Appends the hash of `password`, `$6$` and all, salted by the lower six bits of each random byte.
///
/// Takes time in the square of the length of the password.
#[inline(never)]
pub fn sha512_crypt(password: &[u8], random: &[u8; SALT_BYTES], out: &mut dyn Store) {
    let salt = random.map(|byte| letter(byte.into()));
    let len = password.len();
    let mut hash = Sha512::ZERO;
    hash.prepare();

    hash.feed(password, len);
    hash.feed(&salt, SALT_BYTES);
    hash.feed(password, len);
    let other = hash.finish();

    hash.feed(password, len);
    hash.feed(&salt, SALT_BYTES);
    hash.feed(&other, len);
    let mut bits = len;
    while bits != 0 {
        if bits & 1 == 0 {
            hash.feed(password, len);
        } else {
            hash.feed(&other, DIGEST_BYTES);
        }
        bits >>= 1;
    }
    let mut digest = hash.finish();

    hash.feed(password, len * len);
    let word = hash.finish();
    hash.feed(&salt, SALT_BYTES * (16 + usize::from(digest[0])));
    let grain = hash.finish();

    for round in 0..ROUNDS {
        for step in 0..4 {
            // The running digest comes first or last by turns; where it is not, the password is.
            if step == 0 && round & 1 == 0 || step == 3 && round & 1 == 1 {
                hash.feed(&digest, DIGEST_BYTES);
            } else if step == 1 && round % 3 != 0 {
                hash.feed(&grain, SALT_BYTES);
            } else if step != 1 && (step != 2 || round % 7 != 0) {
                hash.feed(&word, len);
            }
        }
        digest = hash.finish();
    }

    let _ = out.append(b"$6$");
    let _ = out.append(&salt);
    let _ = out.append(b"$");
    // Three bytes a group, 21 apart, the first by turns; of the last group
    // only its last byte counts, in two letters.
    for group in 0..22 {
        let mut bits = 0;
        for place in 0..3 {
            let place = group + 21 * ((group + place) % 3);
            bits = bits << 8 | u32::from(digest[place & 63]);
        }
        let mut count = 4;
        if group == 21 {
            bits &= 0xFF;
            count = 2;
        }
        let letters = [0, 6, 12, 18].map(|shift| letter(bits >> shift));
        let _ = out.append(&letters[..count]);
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

/// SHA-512.
struct Sha512 {
    constants: [u64; 80],
    initial: [u64; 8],
    state: [u64; 8],
    block: [u8; BLOCK_BYTES],
    len: usize,
}

impl Sha512 {
    const ZERO: Self = Self {
        constants: [0; 80],
        initial: [0; 8],
        state: [0; 8],
        block: [0; BLOCK_BYTES],
        len: 0,
    };

    /// Computes the constants.
    fn prepare(&mut self) {
        let mut prime = 1;
        for place in 0..80 {
            prime += 1;
            while (2..prime).any(|divisor| prime % divisor == 0) {
                prime += 1;
            }
            self.constants[place] = root_fraction(prime, 3);
            if place < 8 {
                self.initial[place] = root_fraction(prime, 2);
            }
        }
        self.state = self.initial;
    }

    /// Takes in `len` bytes: `bytes` over and over.
    fn feed(&mut self, bytes: &[u8], len: usize) {
        for byte in bytes.iter().cycle().take(len) {
            self.block[self.len % BLOCK_BYTES] = *byte;
            self.len += 1;
            if self.len.is_multiple_of(BLOCK_BYTES) {
                self.compress();
            }
        }
    }

    /// The digest of what was taken in, which is then forgotten.
    fn finish(&mut self) -> [u8; DIGEST_BYTES] {
        let bits = (self.len as u64) << 3;
        self.feed(&[0x80], 1);
        while self.len % BLOCK_BYTES != BLOCK_BYTES - 16 {
            self.feed(&[0], 1);
        }
        // The length takes 16 bytes, of which the first eight are zero.
        self.feed(&[0], 8);
        self.feed(&bits.to_be_bytes(), 8);
        let mut digest = [0; DIGEST_BYTES];
        for (bytes, word) in digest.chunks_exact_mut(8).zip(self.state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        self.state = self.initial;
        self.len = 0;
        digest
    }

    fn compress(&mut self) {
        let mut words = [0; 16];
        for (word, bytes) in words.iter_mut().zip(self.block.as_chunks().0) {
            *word = u64::from_be_bytes(*bytes);
        }
        let mut state = self.state;
        for (round, constant) in self.constants.iter().enumerate() {
            // Instead of moving the eight variables a place up, places are counted a place down.
            let at = |variable: usize| variable.wrapping_sub(round) & 7;
            let [a, b, c, e, f, g] = [0, 1, 2, 4, 5, 6].map(|variable| state[at(variable)]);
            if round >= 16 {
                let [second, eighth, fifteenth] = [14, 9, 1].map(|ago| words[(round + ago) & 15]);
                let far = rotated(fifteenth, 1, 8) ^ fifteenth >> 7;
                let near = rotated(second, 19, 61) ^ second >> 6;
                let word = &mut words[round & 15];
                *word = word
                    .wrapping_add(far)
                    .wrapping_add(eighth)
                    .wrapping_add(near);
            }
            let first = state[at(7)]
                .wrapping_add(rotated(e, 14, 18) ^ e.rotate_right(41))
                .wrapping_add(e & f ^ !e & g)
                .wrapping_add(*constant)
                .wrapping_add(words[round & 15]);
            let fourth = &mut state[at(3)];
            *fourth = fourth.wrapping_add(first);
            state[at(7)] = first
                .wrapping_add(rotated(a, 28, 34) ^ a.rotate_right(39))
                .wrapping_add(a & b ^ a & c ^ b & c);
        }
        for (sum, word) in self.state.iter_mut().zip(state) {
            *sum = sum.wrapping_add(word);
        }
    }
}

fn rotated(word: u64, by: u32, or: u32) -> u64 {
    word.rotate_right(by) ^ word.rotate_right(or)
}

/// The first 64 bits behind the point of the square or cube root of a prime, the root being less
/// than 8.
fn root_fraction(prime: u64, degree: usize) -> u64 {
    // The root with 64 binary places, found bit by bit.
    let mut root = 0;
    let mut bit = 1u128 << 66;
    while bit != 0 {
        let tried = root | bit;
        let (low, high) = (tried as u64, tried >> 64);
        let mut power = [low, high as u64, 0, 0];
        for _ in 1..degree {
            let (mut carry, mut below) = (0, 0);
            for limb in &mut power {
                let sum = u128::from(*limb) * u128::from(low) + u128::from(below) * high + carry;
                below = *limb;
                *limb = sum as u64;
                carry = sum >> 64;
            }
        }
        // The whole part of the power.
        if power[degree] < prime {
            root = tried;
        }
        bit >>= 1;
    }
    root as u64
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
        hash.feed(bytes, bytes.len());
        hex(&hash.finish())
    }

    #[test]
    fn constants_are_those_of_the_standard() {
        let mut hash = Sha512::ZERO;
        hash.prepare();
        assert_eq!(hash.constants[0], 0x428a_2f98_d728_ae22);
        assert_eq!(hash.constants[1], 0x7137_4491_23ef_65cd);
        assert_eq!(hash.constants[79], 0x6c44_198c_4a47_5817);
        assert_eq!(hash.initial[0], 0x6a09_e667_f3bc_c908);
        assert_eq!(hash.initial[7], 0x5be0_cd19_137e_2179);
    }

    #[test]
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
