//! [`Ahead`]: records of a list, asked of memory before they are read.

use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use super::ffi;

/// So many records ahead a record is asked for; its items, half as many.
const AHEAD: usize = 64;

/// Asks memory for the records that an iterator gives soon, where it is known what these are.
///
/// The objects of a list lie all over memory, where it is long: each is waited for three times, as
/// a record, its key and its value, unless they were asked for before.
pub struct Ahead<'py> {
    list: Option<Bound<'py, PyList>>,
    next: usize,
}

impl<'py> Ahead<'py> {
    /// Of a list, if `iterator` is one of a list.
    pub fn of(iterator: &Bound<'py, PyAny>) -> Self {
        let behind = ffi::is_of_list(iterator)
            .then(|| list_behind(iterator).ok())
            .flatten();
        match behind {
            Some((list, next)) => Self {
                list: Some(list),
                next,
            },
            None => Self {
                list: None,
                next: 0,
            },
        }
    }

    /// To be called before each record is read.
    #[inline]
    pub fn step(&mut self) {
        let Some(list) = &self.list else { return };
        if let Some(record) = ffi::item(list, self.next + AHEAD) {
            crate::memory::prefetch(record.as_ptr());
        }
        if let Some(record) = ffi::item(list, self.next + AHEAD / 2) {
            ffi::prefetch_items(record);
        }
        self.next += 1;
    }
}

/// What an iterator of a list says to whoever would pickle it: its list, and the item that is next.
fn list_behind<'py>(iterator: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyList>, usize)> {
    let reduced = iterator.call_method0("__reduce__")?;
    let (_, arguments, next): (Bound<'py, PyAny>, Bound<'py, PyTuple>, usize) =
        reduced.extract()?;
    let list = arguments.get_item(0)?.cast_into()?;
    Ok((list, next))
}
