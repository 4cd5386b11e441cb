//! Calling the user's functions, with `StopIteration` kept from ending a loop in silence.

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::ffi;

/// A callable that calls another and turns its `StopIteration` into PySpark's `RuntimeError`.
///
/// An `Aggregator` shows its functions as these. The engine knows the class, calls the function
/// within and guards by itself, so that no record pays for a wrapper.
#[pyclass(module = "ferroshuffle._core", frozen)]
pub struct StopIterationGuard {
    /// The function within.
    #[pyo3(get, name = "__wrapped__")]
    function: Py<PyAny>,
}

#[pymethods]
impl StopIterationGuard {
    #[new]
    fn new(function: Py<PyAny>) -> Self {
        Self { function }
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.function
            .bind(py)
            .call(args, kwargs)
            .map_err(|error| guarded(py, error))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let py = slf.py();
        (slf.get_type(), (slf.get().function.clone_ref(py),)).into_pyobject(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!(
            "StopIterationGuard({})",
            self.function.bind(py).repr()?
        ))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)
    }
}

/// A function of the user's, ready to be called for every record.
pub struct Function {
    callable: Py<PyAny>,
    is_guarded: bool,
    /// It is the function of ours that returns its argument: there is nothing to call.
    is_identity: bool,
}

impl Function {
    /// Looks into a guard, so that the guarded function is called directly.
    pub fn new(callable: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = callable.py();
        let guard = callable.cast_exact::<StopIterationGuard>().ok();
        let callable = match guard {
            Some(guard) => guard.get().function.clone_ref(py),
            None => callable.clone().unbind(),
        };
        let identity = py.import("ferroshuffle.shuffle")?.getattr("_identity")?;
        Ok(Self {
            is_identity: callable.is(&identity),
            is_guarded: guard.is_some(),
            callable,
        })
    }

    /// The same function once more.
    #[must_use]
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            callable: self.callable.clone_ref(py),
            is_guarded: self.is_guarded,
            is_identity: self.is_identity,
        }
    }

    /// Calls the function with one argument.
    #[inline]
    pub fn call1<'py>(&self, a: Borrowed<'_, 'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if self.is_identity {
            return Ok(a.to_owned());
        }
        let py = a.py();
        ffi::call1(self.callable.bind_borrowed(py), a).map_err(|error| self.raised(py, error))
    }

    /// Calls the function with two arguments.
    #[inline]
    pub fn call2<'py>(
        &self,
        a: Borrowed<'_, 'py, PyAny>,
        b: Borrowed<'_, 'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = a.py();
        ffi::call2(self.callable.bind_borrowed(py), a, b).map_err(|error| self.raised(py, error))
    }

    /// Shows the function to Python's garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.callable)
    }

    #[cold]
    fn raised(&self, py: Python<'_>, error: PyErr) -> PyErr {
        if self.is_guarded {
            guarded(py, error)
        } else {
            error
        }
    }
}

/// `error`, or what PySpark raises in place of a `StopIteration`.
#[cold]
pub fn guarded(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyStopIteration>(py) {
        return error;
    }
    // The wording differs between PySpark's versions, so the Python side asks PySpark for it.
    let replaced = py
        .import("ferroshuffle.shuffle")
        .and_then(|module| module.getattr("_stop_iteration_error"))
        .and_then(|function| function.call1((error.value(py),)));
    // It has the error as its context, as in PySpark.
    if let Ok(exception) = replaced {
        return PyErr::from_value(exception);
    }
    let raised = PyRuntimeError::new_err("StopIteration was raised by a user function");
    raised.set_cause(py, Some(error));
    raised
}
