//! Which partition of a shuffle a key goes to.
//!
//! The numbers are PySpark's: records that it and we have partitioned meet in one join.

/// The `portable_hash` of a tuple, made of those of its items.
#[derive(Clone, Copy, Debug)]
pub struct TupleHash(u64);

/// Hashes stay below this, as PySpark keeps them non-negative: Python's `sys.maxsize`.
const MAX_SIZE: u64 = i64::MAX as u64;

impl TupleHash {
    /// Of a tuple without items so far.
    pub const fn new() -> Self {
        Self(0x34_5678)
    }

    /// Takes in the hash of the next item.
    #[inline]
    pub const fn add(&mut self, item: i64) {
        self.0 = (self.0 ^ item.cast_unsigned()).wrapping_mul(1_000_003) & MAX_SIZE;
    }

    /// The hash of a tuple of `len` items, all of them taken in.
    #[inline]
    pub const fn finish(self, len: usize) -> i64 {
        (self.0 ^ len as u64).cast_signed()
    }
}

impl Default for TupleHash {
    fn default() -> Self {
        Self::new()
    }
}

/// The remainder of `hash` by the number of partitions, as Python has it: never negative. 0 where
/// there is no partition.
#[inline]
pub fn partition_of(hash: i64, partitions: u32) -> u32 {
    let partition = hash.checked_rem_euclid(i64::from(partitions));
    partition.and_then(|p| u32::try_from(p).ok()).unwrap_or(0)
}

/// Where Spark sends what a partition function numbered `number`, which may be any: it takes the
/// lower 32 bits, and their remainder.
pub const fn partition_in_spark(number: i64, partitions: u32) -> u32 {
    #[allow(clippy::cast_possible_truncation)] // that is what Spark does
    let number = number as i32 as i64;
    match number.checked_rem_euclid(partitions as i64) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // below `partitions`
        Some(partition) => partition as u32,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple_hash(items: &[i64]) -> i64 {
        let mut hash = TupleHash::new();
        for &item in items {
            hash.add(item);
        }
        hash.finish(items.len())
    }

    /// The numbers are PySpark's; those of a tuple of None and 1 stand in its documentation.
    #[test]
    fn tuples_hash_as_in_pyspark() {
        assert_eq!(tuple_hash(&[0, 1]) & 0xffff_ffff, 219_750_521);
        assert_eq!(tuple_hash(&[]), 0x34_5678);
        assert_eq!(
            tuple_hash(&[-7, i64::MIN, i64::MAX]),
            2_936_929_835_340_476_513
        );
    }

    #[test]
    fn remainders_are_python_s() {
        let found = [7, -1, -7, i64::MIN, i64::MAX].map(|hash| partition_of(hash, 5));
        assert_eq!(found, [2, 4, 3, 2, 2]);
        assert_eq!(partition_of(7, 0), 0);
    }

    #[test]
    fn numbers_of_any_size_end_up_where_spark_sends_them() {
        let found = [3, 9, -1, 1 << 32, (1 << 31) + 1].map(|n| partition_in_spark(n, 4));
        assert_eq!(found, [3, 1, 3, 0, 1]);
        assert_eq!(partition_in_spark(7, 0), 0);
    }
}
