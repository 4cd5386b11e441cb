//! Columns: vectors of values of one kind.
//!
//! This room is where values wait: the keys of a map, the combiners of an aggregate. What is done
//! with them (find, merge, spill) belongs to the rooms above.

use crate::error::Result;

pub mod bits;
pub mod codec;
pub mod ints;
pub mod nullable;
#[cfg(feature = "python")]
pub mod object;
pub mod typed;

/// A vector of values of one kind, by row from 0.
pub trait Column {
    /// Number of rows.
    fn len(&self) -> usize;

    /// Whether there is no row.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for one more row, so that adding it asks for no memory.
    fn make_room(&mut self) -> Result<()>;

    /// Makes room for as many `more` rows, where there is as much memory.
    fn reserve(&mut self, more: usize);

    /// Bytes allocated for the rows, without what they refer to.
    fn heap_bytes(&self) -> usize;

    /// Forgets all rows and keeps their memory for as many again.
    fn reset(&mut self);

    /// Forgets all rows and gives their memory back.
    fn clear(&mut self);
}

/// A column whose rows are compared as keys.
pub trait KeyColumn: Column {
    /// A key that is looked for, borrowed from its record.
    type Probe<'a>: Copy;

    /// Whether the key in `row` and `probe` are one key. The stored key stands on the left of
    /// the comparison, as in a Python dict.
    fn is_same(&self, row: usize, probe: Self::Probe<'_>) -> Result<bool>;

    /// Whether [`hash`](Self::hash) makes hashes of the keys, since that is faster than keeping
    /// them is.
    #[inline]
    fn makes_hashes(&self) -> bool {
        false
    }

    /// The bits of the hash of the key in `row`, where the column makes them.
    #[inline]
    fn hash(&self, _row: usize) -> Option<u64> {
        None
    }

    /// Asks memory for the key in `row`, which is needed soon.
    #[inline]
    fn prefetch(&self, _row: usize) {}

    /// Whether a row says where the key is, and is not all of it.
    #[inline]
    fn is_long(&self) -> bool {
        false
    }

    /// Asks memory for what [`prefetch`](Self::prefetch) leaves, some time after it.
    #[inline]
    fn prefetch_long(&self, _row: usize) {}
}
