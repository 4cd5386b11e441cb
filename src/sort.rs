//! Sorting by keys that are numbers, or a row of numbers each: no Python code compares.

use std::cmp::Ordering;

use crate::error::{Error, Result};
use crate::memory::{try_grow, try_with_capacity};

const WHAT: &str = "the keys of a sort";

/// Sort keys of one kind, each with the row it came from.
#[derive(Default)]
pub struct NumberKeys {
    keys: Vec<(i64, u32)>,
}

impl NumberKeys {
    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key yet.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys in the order of their rows, before [`sort`](Self::sort).
    pub fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        self.keys.iter().map(|&(key, _)| key)
    }

    /// Adds the key of the next row. Rows are numbered in 32 bits; fails when there are more.
    #[inline]
    pub fn push(&mut self, key: i64) -> Result<()> {
        let row = u32::try_from(self.keys.len()).map_err(|_| Error::OutOfMemory {
            wanted: self.keys.len(),
            what: WHAT,
        })?;
        if self.keys.len() == self.keys.capacity() {
            try_grow(&mut self.keys, 1, WHAT)?;
        }
        self.keys.push((key, row));
        Ok(())
    }

    /// Sorts, and gives the rows in order: stable, equal keys stay in the order of their rows in
    /// both directions, as with Python's `sort(reverse=True)`.
    pub fn sort(mut self, reverse: bool) -> Vec<u32> {
        // The row is part of what is compared, so an unstable (in-place) sort is stable here.
        if reverse {
            self.keys
                .sort_unstable_by_key(|&(key, row)| (std::cmp::Reverse(key), row));
        } else {
            self.keys.sort_unstable();
        }
        // Collected into the allocation of the keys.
        self.keys.into_iter().map(|(_, row)| row).collect()
    }
}

/// Runs of so few rows are sorted by comparing whole keys.
const SHORT_RUN: usize = 16;

/// So are runs whose keys have as many words alike: each word costs a look at all keys of a run,
/// however few of them leave it there.
const MOST_WORDS: usize = 8;

/// Keys that are compared word by word: for each place in a key there is a number, whose order is
/// that of the keys as long as all words before are equal.
pub trait Words {
    /// Where in a key.
    type Place: Copy;

    /// Where the keys start to differ, of which all words before `place` are equal; `None` where
    /// none of them has a word left.
    fn differ_at(&self, rows: &[(u64, u32)], place: Self::Place) -> Option<Self::Place>;

    /// The word of a key at `place`.
    fn word(&self, row: u32, place: Self::Place) -> u64;

    /// Where keys go on that have this word at `place`.
    fn after(&self, word: u64, place: Self::Place) -> Self::Place;

    /// The order of two keys whose words before `place` are equal.
    fn compare(&self, a: u32, b: u32, place: Self::Place) -> Ordering;
}

/// The rows `0..rows` in the order of their keys, which is looked for from `start` on: stable in
/// both directions, as [`NumberKeys::sort`].
///
/// Keys lie all over memory, so each is looked at once for a word, not for every comparison.
pub fn order_by_words<K: Words>(
    rows: u32,
    keys: &K,
    start: K::Place,
    reverse: bool,
) -> Result<Vec<u32>> {
    let compare = |run: &mut [(u64, u32)], place| {
        // A stable sort, of rows that are in order.
        run.sort_by(|&(_, a), &(_, b)| {
            let order = keys.compare(a, b, place);
            if reverse { order.reverse() } else { order }
        });
    };
    let mut all = try_with_capacity(rows as usize, WHAT)?;
    all.extend((0..rows).map(|row| (0, row)));
    let mut runs = vec![(0..all.len(), start, 1)];
    while let Some((range, place, words)) = runs.pop() {
        let first = range.start;
        let Some(run) = all.get_mut(range) else {
            continue;
        };
        let Some(place) = keys.differ_at(run, place) else {
            continue;
        };
        for (word, row) in &mut *run {
            *word = keys.word(*row, place);
        }
        // The row is part of what is compared, so an unstable (in-place) sort is stable here.
        if reverse {
            run.sort_unstable_by_key(|&(word, row)| (std::cmp::Reverse(word), row));
        } else {
            run.sort_unstable();
        }
        let mut at = first;
        for equal in run.chunk_by_mut(|(a, _), (b, _)| a == b) {
            let end = at + equal.len();
            if let [(word, _), _, ..] = equal {
                let after = keys.after(*word, place);
                if equal.len() <= SHORT_RUN || words == MOST_WORDS {
                    compare(equal, after);
                } else {
                    try_grow(&mut runs, 1, WHAT)?;
                    runs.push((at..end, after, words + 1));
                }
            }
            at = end;
        }
    }
    Ok(all.into_iter().map(|(_, row)| row).collect())
}

/// A part of a text as a word.
pub mod text {
    /// Bytes of a text in a word; the last byte of it says how many there are.
    pub const BYTES: usize = size_of::<u64>() - 1;
    /// As many characters, where one may be of more than a byte.
    pub const WIDE: usize = 2;

    /// The word of the first bytes of `rest`.
    #[inline]
    pub fn word(rest: &[u8]) -> u64 {
        let mut word = [0; BYTES + 1];
        for (to, from) in word.iter_mut().zip(rest.iter().take(BYTES)) {
            *to = *from;
        }
        u64::from_be_bytes(word) | length(rest.len(), BYTES)
    }

    /// The word of the first code points of `rest`.
    #[inline]
    pub fn wide_word(mut rest: impl Iterator<Item = u32>) -> u64 {
        let (mut word, mut taken) = (0, 0);
        for at in 0..WIDE {
            let char = rest.next();
            taken += usize::from(char.is_some());
            // 24 bits each, above those of the length.
            word |= u64::from(char.unwrap_or_default()) << (40 - 24 * at);
        }
        word | length(taken + usize::from(rest.next().is_some()), WIDE)
    }

    /// One more than fit means that the text goes on.
    fn length(length: usize, most: usize) -> u64 {
        crate::memory::as_u64(length.min(most + 1))
    }

    /// Whether a text of which a word has so many characters goes on behind that `word`.
    pub fn goes_on(word: u64, most: usize) -> bool {
        word & 0xFF > length(most, most)
    }
}

/// A number whose order among its kind is the float's, with both zeros equal; `None` for nan,
/// which has no place in an order.
#[inline]
#[allow(clippy::cast_possible_wrap)] // the bits are what is wanted
pub fn key_of_float(value: f64) -> Option<i64> {
    if value.is_nan() {
        return None;
    }
    // Adding a positive zero turns -0.0 into 0.0 and changes nothing else.
    let bits = (value + 0.0).to_bits() as i64;
    // A negative float's bits grow as the number falls: turn all but the sign around.
    Some(if bits < 0 { bits ^ i64::MAX } else { bits })
}

/// The float that [`key_of_float`] made `key` from; a negative zero comes back as zero.
#[inline]
#[allow(clippy::cast_sign_loss)] // the bits are what is wanted
pub fn float_of_key(key: i64) -> f64 {
    f64::from_bits(if key < 0 { key ^ i64::MAX } else { key } as u64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pairs of texts.
    struct Pairs(Vec<[Vec<u8>; 2]>);

    impl Pairs {
        fn rest(&self, row: u32, (field, offset): (usize, usize)) -> &[u8] {
            self.0[row as usize]
                .get(field)
                .map_or(&[], |text| &text[offset..])
        }
    }

    impl Words for Pairs {
        type Place = (usize, usize);

        fn differ_at(&self, _: &[(u64, u32)], place: (usize, usize)) -> Option<(usize, usize)> {
            (place.0 < 2).then_some(place)
        }

        fn word(&self, row: u32, place: (usize, usize)) -> u64 {
            text::word(self.rest(row, place))
        }

        fn after(&self, word: u64, (field, offset): (usize, usize)) -> (usize, usize) {
            if text::goes_on(word, text::BYTES) {
                (field, offset + text::BYTES)
            } else {
                (field + 1, 0)
            }
        }

        fn compare(&self, a: u32, b: u32, place: (usize, usize)) -> Ordering {
            let after = (place.0 + 1, 0);
            (self.rest(a, place).cmp(self.rest(b, place)))
                .then_with(|| self.rest(a, after).cmp(self.rest(b, after)))
        }
    }

    proptest! {
        #[test]
        fn words_sort_as_texts_do(
            starts in prop::collection::vec(prop::collection::vec(0..2_u8, 0..18), 1..4),
            ends in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(0..2_u8, 0..10)), 0..150),
            reverse in any::<bool>(),
        ) {
            let pairs = ends.into_iter().map(|(start, end)| [start.get(&starts).clone(), end]);
            let pairs = Pairs(pairs.collect());
            let mut wanted: Vec<u32> = (0..u32::try_from(pairs.0.len()).unwrap()).collect();
            wanted.sort_by(|a, b| {
                let order = pairs.0[*a as usize].cmp(&pairs.0[*b as usize]);
                if reverse { order.reverse() } else { order }
            });
            let rows = u32::try_from(wanted.len()).unwrap();
            prop_assert_eq!(order_by_words(rows, &pairs, (0, 0), reverse).unwrap(), wanted);
        }
    }

    fn order(keys: &[i64], reverse: bool) -> Vec<u32> {
        let mut numbers = NumberKeys::default();
        for &key in keys {
            assert!(numbers.push(key).is_ok());
        }
        numbers.sort(reverse)
    }

    #[test]
    fn equal_keys_keep_their_order_in_both_directions() {
        assert_eq!(order(&[2, 1, 2, 1, 3], false), [1, 3, 0, 2, 4]);
        assert_eq!(order(&[2, 1, 2, 1, 3], true), [4, 0, 2, 1, 3]);
        assert_eq!(order(&[i64::MAX, i64::MIN, 0], true), [0, 2, 1]);
    }

    #[test]
    fn floats_keep_their_order_as_numbers() {
        let sorted = [
            f64::NEG_INFINITY,
            f64::MIN,
            -1.5,
            -f64::MIN_POSITIVE,
            -5e-324,
            0.0,
            5e-324,
            1.0,
            1.5,
            f64::MAX,
            f64::INFINITY,
        ];
        assert!(sorted.is_sorted_by(|a, b| key_of_float(*a) < key_of_float(*b)));
        for float in sorted {
            assert_eq!(key_of_float(float).map(float_of_key), Some(float));
        }
        assert_eq!(key_of_float(-0.0), key_of_float(0.0));
        assert_eq!(key_of_float(f64::NAN), None);
    }
}
