//! [`GilCell`]: a value that a Python object holds, guarded by the GIL alone.

use std::cell::UnsafeCell;

use pyo3::prelude::*;

use super::errors::of_iterator;
use crate::error::Result;

/// A value that is taken out while user code may run, and seen in place otherwise.
///
/// Whoever finds it taken has been called from within: that is an error of the caller's, never a
/// deadlock. A lock would say the same at the price of two atomic operations for every record.
pub struct GilCell<T>(UnsafeCell<Option<T>>);

// SAFETY: the value is reached only by who shows that the GIL is held, so by one thread at a
// time; the module asks a free-threaded interpreter to turn the GIL on.
unsafe impl<T: Send> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    /// A cell that holds `value`.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(Some(value)))
    }

    /// Takes the value out; `None` where it is out already.
    #[inline]
    pub fn take(&self, _: Python<'_>) -> Option<T> {
        // SAFETY: the GIL is held, and no reference into the cell outlives a call of `see`, which
        // runs no Python code: nothing else looks at the value now.
        unsafe { (*self.0.get()).take() }
    }

    /// Puts a value in, and gives back the one that was there.
    #[inline]
    pub fn put(&self, _: Python<'_>, value: T) -> Option<T> {
        // SAFETY: as in `take`. The old value is dropped by the caller, when this is done.
        unsafe { (*self.0.get()).replace(value) }
    }

    /// Shows the value to `look`, which must not run Python code, drop an object or let go of the
    /// GIL; `None` where the value is out.
    #[inline]
    pub fn see<R>(&self, _: Python<'_>, look: impl FnOnce(&mut T) -> R) -> Option<R> {
        // SAFETY: as in `take`: `look` does nothing in which the value could be reached again.
        unsafe { (*self.0.get()).as_mut().map(look) }
    }

    /// Shows the value to a traversal by the garbage collector, which holds the GIL and runs no
    /// Python code.
    pub fn see_in_traverse<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        // SAFETY: as in `see`.
        unsafe { (*self.0.get()).as_ref().map(look) }
    }
}

/// The state of an iterator, which is `Some(None)` at its end.
impl<T> GilCell<Option<Box<T>>> {
    /// What `next` gives; its end or an error ends the iterator. `busy` is raised where a step is
    /// being done already.
    pub fn step<R>(
        &self,
        py: Python<'_>,
        busy: fn() -> PyErr,
        next: impl FnOnce(&mut T) -> Result<Option<R>>,
    ) -> PyResult<Option<R>> {
        let mut state = self.take(py).ok_or_else(busy)?;
        let item = match &mut state {
            Some(state) => next(state),
            None => Ok(None),
        };
        let ended = if matches!(item, Ok(Some(_))) {
            None
        } else {
            state.take()
        };
        self.put(py, state);
        // Dropped now that the iterator is whole: that may run user code.
        drop(ended);
        item.map_err(|error| of_iterator(py, error.into()))
    }

    /// Ends the iterator, and frees what it holds.
    pub fn end(&self, py: Python<'_>, busy: fn() -> PyErr) -> PyResult<()> {
        let state = self.take(py).ok_or_else(busy)?;
        self.put(py, None);
        drop(state);
        Ok(())
    }
}
