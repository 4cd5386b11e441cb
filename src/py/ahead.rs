//! [`Ahead`]: records of a list, asked of memory before they are read.

use pyo3::intern;
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
    at: usize,
}

impl<'py> Ahead<'py> {
    /// Of a list, if `iterator` is one of a list.
    pub fn of(iterator: &Bound<'py, PyAny>) -> Self {
        let behind = ffi::is_of_list(iterator)
            .then(|| list_behind(iterator).ok())
            .flatten();
        let (list, at) = behind.unzip();
        Self {
            list,
            at: at.unwrap_or(0),
        }
    }

    /// The next record of the iterator; `None` at its end.
    #[inline(always)]
    #[allow(clippy::inline_always)] // once a record: the call costs as much as what it does
    pub fn next<'a>(&mut self, iterator: &Bound<'a, PyAny>) -> PyResult<Option<Bound<'a, PyAny>>> {
        if let Some(list) = &self.list {
            if let Some(record) = ffi::item(list, self.at + AHEAD) {
                crate::memory::prefetch(record.as_ptr());
            }
            if let Some(record) = ffi::item(list, self.at + AHEAD / 2) {
                ffi::prefetch_items(record);
            }
            self.at += 1;
        }
        ffi::next(iterator)
    }
}

/// What an iterator of a list says to whoever would pickle it: its list, and the item that is next.
fn list_behind<'py>(iterator: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyList>, usize)> {
    let reduced = iterator.call_method0(intern!(iterator.py(), "__reduce__"))?;
    let (_, arguments, next): (Bound<'py, PyAny>, Bound<'py, PyTuple>, usize) =
        reduced.extract()?;
    let list = arguments.get_item(0)?.cast_into()?;
    Ok((list, next))
}
