//! [`MappedValues`]: what `mapValues` makes of records.

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::ffi;
use super::gil_cell::GilCell;
use super::guard::Function;
use super::handover::{Form, next_columns};
use super::typed;
use crate::column::typed::{Lists, TypedColumn};
use crate::error::Result;

/// Groups of which the lengths are taken at once.
const CHUNK_GROUPS: usize = 512;

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
    function: Function,
    /// What a value goes through before, unless it is a list: then `function` gives the same without.
    wrap: Option<Py<PyAny>>,
    /// The function is `len`, which needs no list.
    is_len: bool,
    /// `None` where another step is reading them.
    groups: GilCell<Option<Groups>>,
}

#[pymethods]
impl MappedValues {
    /// With `wrap`, of `function(wrap(value))`, where `wrap` makes no difference for lists.
    #[new]
    #[pyo3(signature = (records, function, wrap=None))]
    fn new(
        records: &Bound<'_, PyAny>,
        function: &Bound<'_, PyAny>,
        wrap: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let len = records.py().import("builtins")?.getattr("len")?;
        let function = Function::new(function)?;
        Ok(Self {
            records: records.try_iter()?.into_any().unbind(),
            is_len: function.is(&len),
            function,
            wrap,
            groups: GilCell::new(None),
        })
    }

    /// What is called with each value.
    #[getter]
    fn function(&self, py: Python<'_>) -> Py<PyAny> {
        self.function.callable(py)
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
        let Some(record) = ffi::next(self.records.bind(py))? else {
            return Ok(None);
        };
        if let Some(pair) = ffi::pair(&record) {
            let value = self.mapped(pair.value)?;
            let key = pair.key.to_owned();
            return Ok(Some(ffi::new_pair(py, key.unbind(), value.unbind())?));
        }
        let key = record.get_item(0)?;
        let value = self.mapped(record.get_item(1)?.as_borrowed())?;
        Ok(Some(ffi::new_pair(py, key.unbind(), value.unbind())?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        visit.call(&self.records)?;
        visit.call(&self.wrap)?;
        self.function.traverse(&visit)
    }
}

impl MappedValues {
    /// The next record, if it is of groups that come as columns.
    fn next_length<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut groups = self.groups.take(py).ok_or_else(busy)?;
        let record = next_length(self.records.bind(py), &mut groups);
        self.groups.put(py, groups);
        Ok(record?)
    }

    #[inline]
    fn mapped<'py>(&self, value: Borrowed<'_, 'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match &self.wrap {
            Some(wrap) if !value.is_exact_instance_of::<PyList>() => {
                let value = wrap.bind(value.py()).call1((value,))?;
                self.function.call1(value.as_borrowed())
            }
            _ => self.function.call1(value),
        }
    }
}

fn next_length<'py>(
    records: &Bound<'py, PyAny>,
    groups: &mut Option<Groups>,
) -> Result<Option<Bound<'py, PyAny>>> {
    let py = records.py();
    if let Some(read) = groups {
        if let Some(record) = read.next(py)? {
            return Ok(Some(record));
        }
        *groups = None;
    }
    let are_groups = &mut |_: &TypedColumn, values: &TypedColumn| lists(values).is_some();
    let Some((keys, values)) = next_columns(records, CHUNK_GROUPS, Form::Lengths, are_groups)?
    else {
        return Ok(None);
    };
    let read = groups.insert(Groups {
        keys,
        values,
        row: 0,
    });
    read.next(py)
}

#[cold]
fn busy() -> PyErr {
    PyRuntimeError::new_err(
        "these records are being read already: a function called meanwhile reads on",
    )
}
