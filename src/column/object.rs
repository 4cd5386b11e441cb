//! Columns of references to Python objects: any key, any combiner.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::{Column, KeyColumn};
use crate::error::{Error, Result};
use crate::memory::{self, try_grow};
use crate::py::ffi;

/// A column of Python objects. A row can be taken out, which leaves it empty.
#[derive(Default)]
pub struct ObjectColumn {
    rows: Vec<Option<Py<PyAny>>>,
}

impl ObjectColumn {
    /// The object in `row`; fails where it was taken out or never was.
    #[inline]
    pub fn get(&self, row: usize) -> Result<&Py<PyAny>> {
        match self.rows.get(row) {
            Some(Some(object)) => Ok(object),
            _ => Err(missing(row)),
        }
    }

    /// Puts `object` in place of the one in `row`, which is returned.
    #[inline]
    pub fn replace(&mut self, row: usize, object: Py<PyAny>) -> Option<Py<PyAny>> {
        self.rows
            .get_mut(row)
            .and_then(|place| place.replace(object))
    }

    /// Takes the object out of `row`.
    #[inline]
    pub fn take(&mut self, row: usize) -> Result<Py<PyAny>> {
        self.rows
            .get_mut(row)
            .and_then(Option::take)
            .ok_or_else(|| missing(row))
    }

    /// Appends an object, after [`make_room`](Column::make_room).
    #[inline]
    pub fn push(&mut self, object: Py<PyAny>) {
        self.rows.push(Some(object));
    }

    /// Shows every reference to Python's garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        self.rows
            .iter()
            .flatten()
            .try_for_each(|object| visit.call(object))
    }
}

#[cold]
fn missing(row: usize) -> Error {
    Error::Usage(format!("row {row} of the table was already handed out"))
}

impl Column for ObjectColumn {
    fn len(&self) -> usize {
        self.rows.len()
    }

    #[inline]
    fn make_room(&mut self) -> Result<()> {
        if self.rows.len() < self.rows.capacity() {
            return Ok(());
        }
        try_grow(&mut self.rows, 1, "a column of objects")
    }

    fn reserve(&mut self, more: usize) {
        // Refused room is asked for again, with an error, when it is needed.
        let _ = self.rows.try_reserve(more);
    }

    fn heap_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Option<Py<PyAny>>>()
    }

    fn reset(&mut self) {
        self.rows.clear();
    }

    fn clear(&mut self) {
        self.rows = Vec::new();
    }
}

impl KeyColumn for ObjectColumn {
    type Probe<'a> = Borrowed<'a, 'a, PyAny>;

    #[inline]
    fn is_same(&self, row: usize, probe: Borrowed<'_, '_, PyAny>) -> Result<bool> {
        let stored = self.get(row)?;
        Ok(ffi::is_same_key(stored.bind_borrowed(probe.py()), probe)?)
    }

    #[inline]
    fn prefetch(&self, row: usize) {
        if let Some(Some(object)) = self.rows.get(row) {
            memory::prefetch(object.as_ptr());
        }
    }
}
