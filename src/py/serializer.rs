//! [`AutoSerializer`]: marshal where that is exact, pickle for everything else.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString,
    PyTuple,
};

const MARSHAL: u8 = b'M';
const PICKLE: u8 = b'P';

/// Deeper nesting than this goes to pickle, which words its own error.
const MAX_DEPTH: usize = 50;

/// Serializes to one byte `M` and marshal's bytes, or `P` and pickle's.
///
/// It starts with marshal, and stays with pickle after the first object that marshal cannot give
/// back exactly.
#[pyclass(module = "ferroshuffle._core")]
#[derive(Default)]
pub struct AutoSerializer {
    stays_with_pickle: bool,
}

#[pymethods]
impl AutoSerializer {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// The bytes of `obj`.
    #[pyo3(name = "dumps")]
    fn py_dumps<'py>(&mut self, obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let mut bytes = Vec::new();
        self.dumps(obj, &mut bytes)?;
        Ok(PyBytes::new(obj.py(), &bytes))
    }

    /// The object that `data` (any bytes-like object) was made from.
    ///
    /// Raises `ValueError` where `data` starts with neither `M` nor `P`.
    #[pyo3(name = "loads")]
    #[allow(clippy::unused_self)] // any serializer reads what any has written
    fn py_loads<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match data.cast::<PyBytes>() {
            Ok(bytes) => loads(py, bytes.as_bytes()),
            Err(_) => loads(
                py,
                &data.extract::<pyo3::buffer::PyBuffer<u8>>()?.to_vec(py)?,
            ),
        }
    }
}

impl AutoSerializer {
    /// Appends the bytes of `object` to `out`, whose growth is checked.
    pub fn dumps(&mut self, object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
        let py = object.py();
        if !self.stays_with_pickle {
            if is_exact_in_marshal(object, MAX_DEPTH)
                && let Ok(bytes) = py
                    .import("marshal")?
                    .call_method1("dumps", (object, version_for(object)))
            {
                return append(out, MARSHAL, bytes.cast::<PyBytes>()?.as_bytes());
            }
            self.stays_with_pickle = true;
        }
        let bytes = py.import("pickle")?.call_method1("dumps", (object, -1))?;
        append(out, PICKLE, bytes.cast::<PyBytes>()?.as_bytes())
    }
}

fn append(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) -> PyResult<()> {
    crate::memory::try_grow(out, bytes.len() + 1, "serialized records")?;
    out.push(kind);
    out.extend_from_slice(bytes);
    Ok(())
}

/// The object that `bytes` were made from by [`AutoSerializer::dumps`].
pub fn loads<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let (kind, body) = bytes
        .split_first()
        .ok_or_else(|| PyValueError::new_err("no bytes to read an object from"))?;
    let module = match *kind {
        MARSHAL => "marshal",
        PICKLE => "pickle",
        other => {
            return Err(PyValueError::new_err(format!(
                "a serialized object starts with 'M' or 'P', not with byte {other}"
            )));
        }
    };
    py.import(module)?
        .call_method1("loads", (PyBytes::new(py, body),))
}

/// The version of marshal's format to write.
///
/// From version 3 on marshal looks each object up among those it wrote, so that what was one
/// object stays one. For a list of numbers that is most of its time, and tells nothing.
fn version_for(object: &Bound<'_, PyAny>) -> u8 {
    let is_number = |item: Bound<'_, PyAny>| {
        item.is_exact_instance_of::<PyInt>()
            || item.is_exact_instance_of::<PyFloat>()
            || item.is_none()
            || item.is_exact_instance_of::<PyBool>()
    };
    match object.cast_exact::<PyList>() {
        Ok(list) if list.iter().all(is_number) => 2,
        _ => 4,
    }
}

/// Whether marshal gives back an equal object of the same types all through.
///
/// What marshal accepts is not enough: it writes anything with a buffer (`bytearray`, an array,
/// a numpy scalar) as `bytes`. So only exact builtin types pass here.
fn is_exact_in_marshal(object: &Bound<'_, PyAny>, depth: usize) -> bool {
    if object.is_exact_instance_of::<PyInt>()
        || object.is_exact_instance_of::<PyString>()
        || object.is_exact_instance_of::<PyFloat>()
        || object.is_none()
        || object.is_exact_instance_of::<PyBool>()
        || object.is_exact_instance_of::<PyBytes>()
        || object.is_exact_instance_of::<PyComplex>()
    {
        return true;
    }
    let Some(depth) = depth.checked_sub(1) else {
        return false;
    };
    if let Ok(tuple) = object.cast_exact::<PyTuple>() {
        return tuple
            .iter_borrowed()
            .all(|item| is_exact_in_marshal(&item, depth));
    }
    if let Ok(list) = object.cast_exact::<PyList>() {
        return list.iter().all(|item| is_exact_in_marshal(&item, depth));
    }
    if let Ok(dict) = object.cast_exact::<PyDict>() {
        return dict.iter().all(|(key, value)| {
            is_exact_in_marshal(&key, depth) && is_exact_in_marshal(&value, depth)
        });
    }
    if let Ok(set) = object.cast_exact::<PySet>() {
        return set.iter().all(|item| is_exact_in_marshal(&item, depth));
    }
    if let Ok(set) = object.cast_exact::<PyFrozenSet>() {
        return set.iter().all(|item| is_exact_in_marshal(&item, depth));
    }
    false
}

/// The same error, its message (or, where it has none of one string, its notes) extended.
#[cold]
pub fn with_note(py: Python<'_>, error: PyErr, note: &str) -> PyErr {
    let value = error.value(py);
    let extended = value
        .getattr("args")
        .and_then(|args| args.extract::<(String,)>())
        .and_then(|(message,)| value.setattr("args", (format!("{message}; {note}"),)));
    if extended.is_err() {
        // Before 3.11 exceptions take no notes; the error is then raised as it is.
        let _ = value.call_method1("add_note", (note,));
    }
    error
}
