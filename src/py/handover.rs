//! Columns that go from one of our iterators to one of our readers, with no tuples made.

use pyo3::prelude::*;

use super::block_reader::BlockReader;
use super::records::RecordsIterator;
use crate::column::typed::TypedColumn;
use crate::error::Result;

/// A column of keys and one of values.
pub type Handed = (TypedColumn, TypedColumn);

/// Tells of keys and values whether they are taken as columns.
pub type Accepts<'a> = &'a mut dyn FnMut(&TypedColumn, &TypedColumn) -> bool;

/// In which form combiners are handed over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Each as it is.
    Whole,
    /// For who merges combiners of equal keys: there may be several of one key, which come to what
    /// is one otherwise, such as pieces of a long list.
    InPieces,
    /// For who asks for no more than lengths: the items of lists and sets may be `Unread`.
    Lengths,
}

/// Up to `most` of the next records of `iterator`, as a column of keys and one of values.
///
/// `None` where it is an iterator of another kind, or its next record is not typed or not accepted,
/// or it is at its end: then records are read one by one, as of any iterator.
pub fn next_columns(
    iterator: &Bound<'_, PyAny>,
    most: usize,
    form: Form,
    accepts: Accepts<'_>,
) -> Result<Option<Handed>> {
    let py = iterator.py();
    if let Ok(records) = iterator.cast_exact::<RecordsIterator>() {
        return records.get().next_columns(py, most, form, accepts);
    }
    match iterator.cast_exact::<BlockReader>() {
        Ok(records) => records.get().next_columns(py, most, accepts),
        Err(_) => Ok(None),
    }
}
