//! [`GilCell`]: a value that a Python object holds, guarded by the GIL alone.

use std::cell::UnsafeCell;

use pyo3::prelude::*;

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
