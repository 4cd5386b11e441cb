//! From our errors to Python's, and back.

use pyo3::create_exception;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;

use crate::error::Error;
use crate::memory;

create_exception!(
    ferroshuffle,
    CorruptBlockError,
    PyOSError,
    "A spilled or shuffled block does not hold what was written: a disk or memory damaged it."
);

/// What an iterator of ours raises for `error`: a `StopIteration` of user code would pass for the
/// end of the items, so it becomes the `RuntimeError` that a generator makes of it.
pub fn of_iterator(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyStopIteration>(py) {
        return error;
    }
    let raised = PyRuntimeError::new_err("generator raised StopIteration");
    raised.set_cause(py, Some(error));
    raised
}

impl From<PyErr> for Error {
    #[cold]
    fn from(error: PyErr) -> Self {
        memory::prepare_to_raise();
        Self::Raised(Box::new(error))
    }
}

impl From<Error> for PyErr {
    #[cold]
    fn from(error: Error) -> Self {
        memory::prepare_to_raise();
        let message = error.to_string();
        let errno = error.errno();
        match error {
            Error::Raised(raised) => match raised.downcast::<PyErr>() {
                Ok(raised) => *raised,
                Err(other) => PyRuntimeError::new_err(other.to_string()),
            },
            Error::CorruptBlock { .. } => CorruptBlockError::new_err(message),
            Error::NoSpaceToSpill { .. } | Error::Io { .. } => match errno {
                // With an errno Python picks the subclass (PermissionError, …) by itself.
                Some(errno) => PyOSError::new_err((errno, message)),
                None => PyOSError::new_err(message),
            },
            Error::OutOfMemory { .. } => PyMemoryError::new_err(message),
            Error::Busy { .. } | Error::Usage(_) => PyRuntimeError::new_err(message),
        }
    }
}
