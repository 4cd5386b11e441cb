//! [`KeyFunction`]: what values are compared by, as columns where Python need not be asked.

use std::borrow::Cow;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::ffi;
use super::gil_cell::GilCell;
use super::plan;
use super::typed;
use crate::column::typed::TypedColumn;
use crate::error::Result;
use crate::memory;
use crate::sort::key::SortKey;
use crate::sort::order::KeyColumns;

const WHAT: &str = "the keys of a sort";

/// The function that makes a value's sort key.
pub struct KeyFunction {
    /// `None` where values are their own keys.
    function: Option<Py<PyAny>>,
    plan: Plan,
}

/// What the function computes.
enum Plan {
    /// It is called for so many values before it is read.
    Unread(usize),
    Known(SortKey),
    /// It has to be called.
    None,
}

impl Plan {
    fn of(told: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(plan::sort_key(told)?.map_or(Self::None, Self::Known))
    }
}

/// The keys of some values, one for each.
pub enum Keys<'a, 'py> {
    /// Compared here.
    Columns(KeyColumns<'a>),
    /// Compared by Python.
    Objects(Vec<Bound<'py, PyAny>>),
    /// Compared by Python, and the values themselves.
    Values,
}

impl KeyFunction {
    /// Of `function`, or of none, which computes what is `told` as a plan. Where nothing is, it is
    /// called for so many values before it is read, which takes as long as to call it for some
    /// thousands; with `None` it always is.
    pub fn new(
        function: Option<Py<PyAny>>,
        read_from: Option<usize>,
        told: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let plan = match (&function, read_from, told) {
            (_, _, Some(told)) => Plan::of(told)?,
            (_, None, None) => Plan::None,
            (None, _, _) => Plan::Known(SortKey::itself()),
            (Some(_), Some(values), None) => Plan::Unread(values),
        };
        Ok(Self { function, plan })
    }

    /// Shows what it holds to the garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        visit.call(&self.function)
    }

    /// Reads the function, if that was not done yet and it is worth it for so many values.
    pub fn read(&mut self, py: Python<'_>, values: usize) -> PyResult<()> {
        if let (Plan::Unread(read_from), Some(function)) = (&self.plan, &self.function)
            && values >= *read_from
        {
            let module = py.import(intern!(py, "ferroshuffle.shuffle"))?;
            let told = module.call_method1(intern!(py, "_sort_key"), (function,))?;
            self.plan = Plan::of(&told)?;
        }
        Ok(())
    }

    /// Whether it is known what the function computes.
    pub fn is_known(&self) -> bool {
        matches!(self.plan, Plan::Known(_))
    }

    /// The key of a value.
    #[inline]
    pub fn of<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match &self.function {
            Some(function) => ffi::call1(function.bind_borrowed(value.py()), value.as_borrowed()),
            None => Ok(value.clone()),
        }
    }

    /// The keys of the values in a column.
    pub fn of_column<'a, 'py>(
        &self,
        py: Python<'py>,
        values: &'a TypedColumn,
    ) -> Result<Keys<'a, 'py>> {
        if let Some(keys) = self.computed(values)? {
            return Ok(Keys::Columns(keys));
        }
        match self.called(py, values)? {
            Some(keys) => keys.into_keys(py),
            None => Ok(Keys::Values),
        }
    }

    /// The keys of the values in a column, where the function need not be called for them.
    pub fn computed<'a>(&self, values: &'a TypedColumn) -> Result<Option<KeyColumns<'a>>> {
        match &self.plan {
            Plan::Known(plan) => plan.columns(values),
            Plan::Unread(_) | Plan::None => Ok(None),
        }
    }

    /// What the function makes of each value in a column; `None` where there is no function.
    pub fn called<'py>(
        &self,
        py: Python<'py>,
        values: &TypedColumn,
    ) -> Result<Option<Gathered<'py>>> {
        if self.function.is_none() {
            return Ok(None);
        }
        let mut keys = Gathered::default();
        for row in 0..values.len() {
            let key = self.of(&typed::get(py, values, row)?)?;
            keys.push(key.as_borrowed(), values.len())?;
        }
        Ok(Some(keys))
    }

    /// The keys of the values in a list.
    pub fn of_list<'py>(&self, values: &Bound<'py, PyList>) -> Result<Keys<'static, 'py>> {
        let path = match &self.plan {
            Plan::Known(plan) => plan.path(),
            Plan::Unread(_) | Plan::None => None,
        };
        let mut keys = Gathered::default();
        for value in values.iter() {
            let part = path.and_then(|path| {
                let step = |part, at: &usize| ffi::tuple_item(part, *at);
                path.iter().try_fold(value.as_borrowed(), step)
            });
            match part {
                Some(key) => keys.push(key, values.len())?,
                None => keys.push(self.of(&value)?.as_borrowed(), values.len())?,
            }
            if keys.column.is_none() && self.function.is_none() {
                return Ok(Keys::Values);
            }
        }
        keys.into_keys(values.py())
    }
}

/// Keys that were made one by one.
#[derive(Default)]
pub struct Gathered<'py> {
    /// All of them, as long as they are of one kind.
    pub column: Option<TypedColumn>,
    /// All of them, where they are not.
    pub objects: Vec<Bound<'py, PyAny>>,
    len: usize,
}

impl<'py> Gathered<'py> {
    /// Adds a key, of so many in all.
    #[inline]
    fn push(&mut self, key: Borrowed<'_, 'py, PyAny>, all: usize) -> Result<()> {
        if self.len == 0
            && let Some(mut column) = typed::column_for(key).filter(|column| !column.has_lists())
        {
            column.try_reserve(all)?;
            self.column = Some(column);
        }
        let has_fit = match &mut self.column {
            Some(column) => typed::push_key(column, key)?,
            None => false,
        };
        if !has_fit {
            self.push_object(key, all)?;
        }
        self.len += 1;
        Ok(())
    }

    fn push_object(&mut self, key: Borrowed<'_, 'py, PyAny>, all: usize) -> Result<()> {
        if self.objects.is_empty() {
            memory::try_grow(&mut self.objects, all, WHAT)?;
            if let Some(mut column) = self.column.take() {
                column.truncate(self.len);
                for row in 0..self.len {
                    self.objects.push(typed::get(key.py(), &column, row)?);
                }
            }
        }
        self.objects.push(key.to_owned());
        Ok(())
    }

    /// The same as keys of values.
    pub fn into_keys(self, py: Python<'py>) -> Result<Keys<'static, 'py>> {
        let Some(column) = self.column else {
            return Ok(Keys::Objects(self.objects));
        };
        if KeyColumns::of(Cow::Borrowed(&column)).is_none() {
            return Ok(Keys::Objects(objects_of(py, &column)?));
        }
        let keys = KeyColumns::of(Cow::Owned(column));
        Ok(keys.map_or(Keys::Values, Keys::Columns))
    }
}

/// A column of the keys in a list; `None` where they are not of one kind.
pub fn column_of(keys: &Bound<'_, PyList>) -> Result<Option<TypedColumn>> {
    let mut gathered = Gathered::default();
    for key in keys.iter() {
        gathered.push(key.as_borrowed(), keys.len())?;
    }
    Ok(gathered.column)
}

/// The objects in a column.
pub fn objects_of<'py>(py: Python<'py>, column: &TypedColumn) -> Result<Vec<Bound<'py, PyAny>>> {
    let mut objects = memory::try_with_capacity(column.len(), WHAT)?;
    for row in 0..column.len() {
        objects.push(typed::get(py, column, row)?);
    }
    Ok(objects)
}

/// Keys that were made already. A key function is called once for a value, and that was done:
/// `list.sort` asks for the key of each value in order, and then holds it alone.
#[pyclass(frozen)]
pub struct KeysInOrder(GilCell<std::vec::IntoIter<Py<PyAny>>>);

impl KeysInOrder {
    /// What gives them one by one, for any argument.
    pub fn next_of<'py>(
        py: Python<'py>,
        keys: Vec<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let keys: Vec<_> = keys.into_iter().map(Bound::unbind).collect();
        Bound::new(py, Self(GilCell::new(keys.into_iter())))?.getattr("next")
    }
}

#[pymethods]
impl KeysInOrder {
    fn next(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let key = self.0.see(value.py(), Iterator::next).flatten();
        key.ok_or_else(|| PyRuntimeError::new_err("a sort asks for more keys than values"))
    }
}
