//! Aggregates: how combiners are made from values and merged with each other.
//!
//! One file an aggregate. An aggregate owns the column of its combiners; their rows are the rows
//! of the keys in the map beside it.

use crate::error::Result;

#[cfg(feature = "python")]
pub mod callback;
pub mod cells;
pub mod collect;
pub mod distinct;
pub mod expr;
pub mod native;
pub mod plan;

/// Which of an aggregate's functions records go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records {
    /// Records hold values.
    Values,
    /// Records hold combiners.
    Combiners,
}

/// Makes and merges combiners.
///
/// Protocol: for each record the table looks its key up. A new key gets the next row by
/// [`create`](Self::create) or [`adopt`](Self::adopt), called after
/// [`make_room`](Self::make_room) and before the key is added to the map; a known key's row is
/// changed by [`merge_value`](Self::merge_value) or [`merge_combiner`](Self::merge_combiner).
/// A call that fails leaves the column as it was.
pub trait Aggregate {
    /// A value or combiner as read from a record, borrowed from it.
    type Value<'a>: Copy;

    /// Makes room for one more row.
    fn make_room(&mut self) -> Result<()>;

    /// Makes room for as many `more` rows, where there is as much memory.
    fn reserve(&mut self, more: usize);

    /// Appends the combiner made from a first value.
    fn create(&mut self, value: Self::Value<'_>) -> Result<()>;

    /// Merges a further value into the combiner in `row`.
    fn merge_value(&mut self, row: usize, value: Self::Value<'_>) -> Result<()>;

    /// Appends a combiner that was made elsewhere.
    fn adopt(&mut self, combiner: Self::Value<'_>) -> Result<()>;

    /// Merges a combiner that was made elsewhere into the one in `row`.
    fn merge_combiner(&mut self, row: usize, combiner: Self::Value<'_>) -> Result<()>;

    /// Bytes allocated for the combiners' column.
    fn heap_bytes(&self) -> usize;

    /// Forgets all combiners and keeps their memory for as many again.
    fn reset(&mut self);

    /// Forgets all combiners and gives their memory back.
    fn clear(&mut self);
}
