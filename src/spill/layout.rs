//! Which partition a row belongs to, and the rows of each partition.

use crate::error::{Error, Result};
use crate::map::mix;
use crate::memory;

/// Odd, and far from any pattern that hashes have: the golden ratio's 64 fractional bits.
const LEVEL_SALT: u64 = 0x9e37_79b9_7f4a_7c15;

/// Partition of a key, in `0..partitions`, from its hash.
///
/// Any hash will do, Python's included, where that of a small integer is the integer. Each level
/// splits independently of the others, so the keys of one partition spread evenly over the
/// partitions of the next level.
pub fn partition_of(hash: u64, level: u32, partitions: usize) -> usize {
    let salt = LEVEL_SALT.wrapping_mul(u64::from(level) + 1);
    let spread = u128::from(mix(hash.wrapping_add(salt)));
    // Multiply and shift instead of a remainder: faster, and as even.
    let partition = (spread * u128::from(memory::as_u64(partitions))) >> 64;
    usize::try_from(partition).unwrap_or(0) // below `partitions`, which is a usize
}

/// Row numbers ordered by partition; within one in the order they came.
#[derive(Debug)]
pub struct Layout {
    order: Vec<u32>,
    /// Where each partition starts in `order`, and the end of the last.
    starts: Vec<u32>,
}

impl Layout {
    /// Lays out rows `0..rows` by the hashes of their keys.
    pub fn new(
        rows: usize,
        hash: impl Fn(usize) -> u64,
        level: u32,
        partitions: usize,
    ) -> Result<Self> {
        Self::by(rows, partitions, |row| {
            partition_of(hash(row), level, partitions)
        })
    }

    /// Lays out rows `0..rows` by the `partition` that each belongs to.
    pub fn by(rows: usize, partitions: usize, partition: impl Fn(usize) -> usize) -> Result<Self> {
        let rows = u32::try_from(rows)
            .map_err(|_| Error::Usage(format!("{rows} rows are too many to lay out")))?;
        let mut starts = memory::try_with_capacity(partitions.saturating_add(1), "a layout")?;
        starts.resize(partitions.saturating_add(1), 0_u32);
        for row in 0..rows {
            // One further on, so that adding up turns the counts into starts.
            if let Some(count) = starts.get_mut(partition(row as usize) + 1) {
                *count += 1;
            }
        }
        let mut end = 0;
        for start in &mut starts {
            end += *start;
            *start = end;
        }
        let mut order = memory::try_with_capacity(rows as usize, "a layout")?;
        order.resize(rows as usize, 0_u32);
        let mut next = memory::try_with_capacity(starts.len(), "a layout")?;
        next.extend_from_slice(&starts);
        for row in 0..rows {
            if let Some(at) = next.get_mut(partition(row as usize)) {
                if let Some(slot) = order.get_mut(*at as usize) {
                    *slot = row;
                }
                *at += 1;
            }
        }
        Ok(Self { order, starts })
    }

    /// Bytes allocated.
    pub fn heap_bytes(&self) -> usize {
        (self.order.capacity() + self.starts.capacity()) * size_of::<u32>()
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Rows of a partition; none beyond the last.
    pub fn rows(&self, partition: usize) -> &[u32] {
        let (Some(&start), Some(&end)) = (
            self.starts.get(partition),
            self.starts.get(partition.saturating_add(1)),
        ) else {
            return &[];
        };
        self.order.get(start as usize..end as usize).unwrap_or(&[])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Counts stray from the mean by some standard deviations at most.
    fn assert_even(counts: &[u32], total: u32) {
        let mean = f64::from(total) / f64::from(u32::try_from(counts.len()).unwrap());
        for &count in counts {
            assert!(
                (f64::from(count) - mean).abs() < 6.0 * mean.sqrt(),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn raw_hashes_spread_evenly() {
        let patterns: [fn(u64) -> u64; 4] = [|i| i, |i| i << 32, |i| i * 1000, |i| !i];
        for pattern in patterns {
            let mut counts = [0; 59];
            for hash in (0..59_000).map(pattern) {
                counts[partition_of(hash, 0, 59)] += 1;
            }
            assert_even(&counts, 59_000);
        }
    }

    #[test]
    fn levels_split_independently() {
        let mut counts = [0; 16];
        let mut total = 0;
        for hash in (0..160_000).filter(|&hash| partition_of(hash, 0, 16) == 5) {
            counts[partition_of(hash, 1, 16)] += 1;
            total += 1;
        }
        assert_even(&counts, total);
    }

    #[test]
    fn the_answer_never_changes() {
        // A task that is run again must do the same work, on another machine too.
        assert_eq!(partition_of(0, 0, 1000), 883); // splitmix64's first number from seed 0
    }

    #[test]
    fn edges() {
        assert_eq!(partition_of(7, 0, 0), 0);
        assert_eq!(partition_of(u64::MAX, u32::MAX, 1), 0);
        let empty = Layout::new(0, |_| 0, 0, 3).unwrap();
        assert_eq!(empty.partitions(), 3);
        assert!((0..5).all(|p| empty.rows(p).is_empty()));
        assert!(empty.rows(usize::MAX).is_empty());
    }

    proptest! {
        #[test]
        fn every_row_is_in_its_partition_in_order(
            hashes in prop::collection::vec(any::<u64>(), 0..300),
            level in 0..4_u32,
            partitions in 1..40_usize,
        ) {
            let layout = Layout::new(hashes.len(), |row| hashes[row], level, partitions).unwrap();
            let mut seen = 0;
            for partition in 0..partitions {
                let rows = layout.rows(partition);
                seen += rows.len();
                prop_assert!(rows.is_sorted());
                for &row in rows {
                    prop_assert_eq!(partition_of(hashes[row as usize], level, partitions), partition);
                }
            }
            prop_assert_eq!(seen, hashes.len());
        }
    }
}
