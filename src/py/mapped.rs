//! [`MappedValues`]: what `mapValues` makes of records.

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::ffi;
use super::gil_cell::GilCell;
use super::guard::guarded;
use super::handover::{Form, next_columns};
use super::typed;
use crate::column::typed::{Lists, TypedColumn};
use crate::error::Result;

/// Groups of which the lengths are taken at once.
const CHUNK_GROUPS: usize = 512;

/// Reads no more than the lengths of groups.
#[derive(Default)]
struct Lengths {
    groups: Option<Groups>,
    /// Records to leave before columns are asked for again, which were none of groups.
    skipped: usize,
}

impl Lengths {
    /// The next record, if it is of groups that come as columns.
    fn next<'py>(&mut self, records: &Bound<'py, PyAny>) -> Result<Option<Bound<'py, PyAny>>> {
        let py = records.py();
        if let Some(groups) = &mut self.groups {
            if let Some(record) = groups.next(py)? {
                return Ok(Some(record));
            }
            self.groups = None;
        }
        if self.skipped > 0 {
            self.skipped -= 1;
            return Ok(None);
        }
        let are_groups = &mut |_: &TypedColumn, values: &TypedColumn| lists(values).is_some();
        let handed = next_columns(records, CHUNK_GROUPS, Form::Lengths, are_groups)?;
        let Some((keys, values)) = handed else {
            // They were made in vain.
            self.skipped = CHUNK_GROUPS;
            return Ok(None);
        };
        let groups = Groups {
            keys,
            values,
            row: 0,
        };
        self.groups.insert(groups).next(py)
    }
}

/// Groups that came as columns, of which only the lengths are asked.
struct Groups {
    keys: TypedColumn,
    values: TypedColumn,
    row: usize,
}

impl Groups {
    /// The next key and the length of its group; `None` at the end.
    fn next<'py>(&mut self, py: Python<'py>) -> Result<Option<Bound<'py, PyAny>>> {
        let (row, Some(lists)) = (self.row, lists(&self.values)) else {
            return Ok(None);
        };
        if row >= self.keys.len() {
            return Ok(None);
        }
        let key = typed::get(py, &self.keys, row)?;
        let length = i64::try_from(lists.range(row).len()).unwrap_or(i64::MAX);
        let length = ffi::new_int(py, length)?;
        self.row += 1;
        Ok(Some(ffi::new_pair(py, key.unbind(), length.unbind())?))
    }
}

fn lists(values: &TypedColumn) -> Option<&Lists> {
    match values {
        TypedColumn::List(lists) | TypedColumn::Set(lists) => Some(lists),
        _ => None,
    }
}

/// Iterator over (key, function(value)) of records. As with `map`, an error is of one record, and
/// the next one can be asked for.
#[pyclass(module = "ferroshuffle._core", frozen)]
pub struct MappedValues {
    /// Iterator over what is mapped.
    #[pyo3(get)]
    records: Py<PyAny>,
    /// What is called with each value; here a `StopIteration` of it is guarded.
    #[pyo3(get)]
    function: Py<PyAny>,
    /// What a value goes through before, unless it is a list: then `function` gives the same without.
    wrap: Option<Py<PyAny>>,
    /// The function is `len`, which needs no list.
    is_len: bool,
    lengths: GilCell<Lengths>,
}

#[pymethods]
impl MappedValues {
    /// With `wrap`, of `function(wrap(value))`, where `wrap` makes no difference for lists.
    #[new]
    #[pyo3(signature = (records, function, wrap=None))]
    fn new(
        records: &Bound<'_, PyAny>,
        function: Py<PyAny>,
        wrap: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let len = records.py().import("builtins")?.getattr("len")?;
        Ok(Self {
            records: records.try_iter()?.into_any().unbind(),
            is_len: function.is(&len),
            function,
            wrap,
            lengths: GilCell::new(Lengths::default()),
        })
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.is_len
            && let Some(record) = self.next_length(py)?
        {
            return Ok(Some(record));
        }
        match ffi::next(self.records.bind(py))? {
            Some(record) => {
                // PySpark guards what takes the record apart as well.
                let record = self.mapped(&record).map_err(|error| guarded(py, error))?;
                Ok(Some(record))
            }
            None => Ok(None),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        visit.call(&self.records)?;
        visit.call(&self.function)?;
        visit.call(&self.wrap)
    }
}

impl MappedValues {
    /// The next record, if it is of groups that come as columns.
    fn next_length<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut lengths = self.lengths.take(py).ok_or_else(busy)?;
        let record = lengths.next(self.records.bind(py));
        self.lengths.put(py, lengths);
        Ok(record?)
    }

    #[inline]
    fn mapped<'py>(&self, record: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = record.py();
        if let Some(pair) = ffi::pair(record) {
            let value = self.value(pair.value.as_any())?;
            return ffi::new_pair(py, pair.key.to_owned().unbind(), value.unbind());
        }
        let key = record.get_item(0)?;
        let value = self.value(&record.get_item(1)?)?;
        ffi::new_pair(py, key.unbind(), value.unbind())
    }

    #[inline]
    fn value<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let function = self.function.bind_borrowed(value.py());
        match &self.wrap {
            Some(wrap) if !value.is_exact_instance_of::<PyList>() => {
                let value = wrap.bind(value.py()).call1((value,))?;
                ffi::call1(function, value.as_borrowed())
            }
            _ => ffi::call1(function, value.as_borrowed()),
        }
    }
}

#[cold]
fn busy() -> PyErr {
    PyRuntimeError::new_err(
        "these records are being read already: a function called meanwhile reads on",
    )
}
