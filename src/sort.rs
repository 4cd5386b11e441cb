//! Sorting by keys that are plain numbers or plain text: the order is found over numbers and bytes
//! alone, and no Python code compares.

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

/// The rows `0..rows` in the order of their texts' bytes: stable in both directions, as
/// [`NumberKeys::sort`].
///
/// What all texts start with is skipped, and the bytes behind it are compared as numbers first:
/// only where those are equal, the texts themselves are looked at, which lie all over memory.
pub fn order_of_texts<'a>(
    rows: u32,
    text: impl Fn(u32) -> &'a [u8],
    reverse: bool,
) -> Result<Vec<u32>> {
    let mut common = text(0);
    for row in 1..rows {
        let alike = common.iter().zip(text(row)).take_while(|(a, b)| a == b);
        common = common.get(..alike.count()).unwrap_or_default();
        if common.is_empty() {
            break;
        }
    }
    let mut keys = try_with_capacity(rows as usize, WHAT)?;
    keys.extend((0..rows).map(|row| (head(text(row).get(common.len()..)), row)));
    keys.sort_unstable_by(|&(one, one_row), &(other, other_row)| {
        let (low, low_row, high, high_row) = if reverse {
            (other, other_row, one, one_row)
        } else {
            (one, one_row, other, other_row)
        };
        low.cmp(&high)
            .then_with(|| text(low_row).cmp(text(high_row)))
            .then(one_row.cmp(&other_row))
    });
    Ok(keys.into_iter().map(|(_, row)| row).collect())
}

/// The first bytes of `text` as a number of the same order; a text that ends earlier is filled up
/// with zeros.
#[inline]
fn head(text: Option<&[u8]>) -> u64 {
    let text = text.unwrap_or_default();
    if let Some(head) = text.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; size_of::<u64>()];
    for (to, from) in head.iter_mut().zip(text) {
        *to = *from;
    }
    u64::from_be_bytes(head)
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

    proptest! {
        #[test]
        fn texts_sort_as_slices_do(
            start in prop::collection::vec(0..3_u8, 0..9),
            ends in prop::collection::vec(prop::collection::vec(0..3_u8, 0..12), 0..40),
            reverse in any::<bool>(),
        ) {
            let texts: Vec<Vec<u8>> = ends.iter().map(|end| [&start[..], &end[..]].concat()).collect();
            let rows = u32::try_from(texts.len()).unwrap();
            let text = |row: u32| texts.get(row as usize).map_or(&[][..], Vec::as_slice);
            let mut wanted: Vec<u32> = (0..rows).collect();
            if reverse {
                wanted.sort_by(|a, b| text(*b).cmp(text(*a)));
            } else {
                wanted.sort_by(|a, b| text(*a).cmp(text(*b)));
            }
            prop_assert_eq!(order_of_texts(rows, text, reverse).unwrap(), wanted);
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
