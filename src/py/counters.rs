//! [`Counters`]: what a worker counts of a shuffle, as Python sees it.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use crate::metrics;

/// What is counted of one shuffle in one task.
///
/// Pickled, it is the dict that `to_dict()` gives at that moment.
#[pyclass(module = "ferroshuffle._core", frozen)]
#[derive(Default)]
pub struct Counters {
    counters: Arc<metrics::Counters>,
}

impl Counters {
    /// Those that somebody gave, or else some that nobody sees.
    pub fn of(given: Option<&Bound<'_, Self>>) -> Arc<metrics::Counters> {
        given.map_or_else(Arc::default, |given| Arc::clone(&given.get().counters))
    }
}

#[pymethods]
impl Counters {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// The counts by their names, times in nanoseconds; and `cause`, a text or None.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, count) in self.counters.all() {
            dict.set_item(name, count)?;
        }
        dict.set_item("cause", self.counters.cause())?;
        Ok(dict)
    }

    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyType>, (Bound<'py, PyDict>,))> {
        Ok((py.get_type::<PyDict>(), (self.to_dict(py)?,)))
    }
}
