//! Python's hashes of plain values, computed without Python.

use siphasher::sip::{SipHasher13, SipHasher24};

/// Python's hashes of numbers are remainders by this prime.
const MODULUS: u64 = (1 << 61) - 1;

/// `hash(int)`.
#[inline]
pub fn of_int(int: i64) -> i64 {
    let is_own_hash = int != -1 && int.unsigned_abs() < MODULUS;
    if is_own_hash { int } else { remainder(int) }
}

/// The hash of an `int` that is not its own.
#[cold]
#[allow(clippy::cast_possible_wrap)] // far below 63 bits
fn remainder(int: i64) -> i64 {
    let remainder = (int.unsigned_abs() % MODULUS) as i64;
    valid(if int < 0 { -remainder } else { remainder })
}

/// A hash is never -1, which tells Python's C code of an exception.
#[inline]
fn valid(hash: i64) -> i64 {
    if hash == -1 { -2 } else { hash }
}

/// `hash(tuple)`, made of those of its items: xxHash in the form that Python has.
#[derive(Clone, Copy, Debug)]
pub struct TupleHash(u64);

impl TupleHash {
    const PRIME_1: u64 = 11_400_714_785_074_694_791;
    const PRIME_2: u64 = 14_029_467_366_897_019_727;
    const PRIME_5: u64 = 2_870_177_450_012_600_261;
    const IN_PLACE_OF_MINUS_ONE: i64 = 1_546_275_796;

    /// Of a tuple without items so far.
    pub const fn new() -> Self {
        Self(Self::PRIME_5)
    }

    /// Takes in the hash of the next item.
    #[inline]
    pub const fn add(&mut self, item: i64) {
        let item = item.cast_unsigned().wrapping_mul(Self::PRIME_2);
        let sum = self.0.wrapping_add(item).rotate_left(31);
        self.0 = sum.wrapping_mul(Self::PRIME_1);
    }

    /// The hash of a tuple of `len` items, all of them taken in.
    #[inline]
    pub const fn finish(self, len: usize) -> i64 {
        let len = len as u64 ^ (Self::PRIME_5 ^ 0x0035_d373);
        match self.0.wrapping_add(len).cast_signed() {
            -1 => Self::IN_PLACE_OF_MINUS_ONE,
            hash => hash,
        }
    }
}

impl Default for TupleHash {
    fn default() -> Self {
        Self::new()
    }
}

/// How an interpreter hashes text, known where it was started with a seed.
#[derive(Clone, Copy, Debug)]
pub struct TextHash {
    keys: (u64, u64),
    algorithm: Algorithm,
}

#[derive(Clone, Copy, Debug)]
enum Algorithm {
    Sip13,
    Sip24,
}

impl TextHash {
    /// Of an interpreter whose `PYTHONHASHSEED` is `seed`; `algorithm` as in `sys.hash_info`.
    pub fn new(algorithm: &str, seed: &str) -> Option<Self> {
        let algorithm = match algorithm {
            "siphash13" => Algorithm::Sip13,
            "siphash24" => Algorithm::Sip24,
            _ => return None,
        };
        let seed: u32 = seed.parse().ok()?;
        let keys = if seed == 0 {
            (0, 0)
        } else {
            let mut state = seed;
            let mut key = || {
                u64::from_le_bytes(std::array::from_fn(|_| {
                    state = state.wrapping_mul(214_013).wrapping_add(2_531_011);
                    let [_, _, byte, _] = state.to_le_bytes();
                    byte
                }))
            };
            (key(), key())
        };
        Some(Self { keys, algorithm })
    }

    /// `hash(bytes)`, and `hash(str)` of ASCII.
    #[inline]
    pub fn of_bytes(&self, text: &[u8]) -> i64 {
        if text.is_empty() {
            return 0;
        }
        let (one, other) = self.keys;
        let hash = match self.algorithm {
            Algorithm::Sip13 => SipHasher13::new_with_keys(one, other).hash(text),
            Algorithm::Sip24 => SipHasher24::new_with_keys(one, other).hash(text),
        };
        valid(hash.cast_signed())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn integers_hash_as_in_python() {
        let cases = [
            (0, 0),
            (-7, -7),
            (-1, -2),
            (i64::MAX, 3),
            (i64::MIN, -4),
            ((1 << 61) - 1, 0),
            (-(1 << 61), -2),
        ];
        for (int, hash) in cases {
            assert_eq!(of_int(int), hash);
        }
    }

    fn tuple(items: &[i64]) -> i64 {
        let mut hash = TupleHash::new();
        for &item in items {
            hash.add(item);
        }
        hash.finish(items.len())
    }

    #[test]
    fn tuples_hash_as_in_python() {
        assert_eq!(tuple(&[]), 5_740_354_900_026_072_187);
        assert_eq!(tuple(&[1, 2]), -3_550_055_125_485_641_917);
        assert_eq!(tuple(&[-2, 0, 5]), -3_211_696_414_420_712_927);
    }

    #[test]
    fn text_hashes_as_in_python() {
        let seeds = [
            (
                "0",
                [
                    4_644_417_185_603_328_019,
                    4_818_608_453_759_643_096,
                    1_359_644_457_043_326_220,
                ],
            ),
            (
                "42",
                [
                    -123_207_753_977_932_514,
                    550_375_832_604_717_545,
                    -1_345_814_288_082_900_963,
                ],
            ),
        ];
        for (seed, hashes) in seeds {
            let hash = TextHash::new("siphash13", seed).unwrap();
            let long = [b'x'; 100];
            let texts = [&b"a"[..], b"key-123", &long];
            assert_eq!(texts.map(|text| hash.of_bytes(text)), hashes);
            assert_eq!(hash.of_bytes(b""), 0);
        }
        assert!(TextHash::new("siphash13", "random").is_none());
        assert!(TextHash::new("fnv", "0").is_none());
    }
}
