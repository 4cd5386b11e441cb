//! [`AutoSerializer`]: marshal where that is exact, pickle for everything else.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use ahash::RandomState;
use pyo3::exceptions::{PyAttributeError, PyException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString,
    PyTuple,
};

const MARSHAL: u8 = b'M';
const PICKLE: u8 = b'P';

/// Deeper nesting than this goes to pickle, which words its own error.
const MAX_DEPTH: usize = 50;

/// Of containers this deep or deeper it is remembered that marshal gives them back. A list of
/// records is less deep, so it pays nothing for it.
const REMEMBERED_DEPTH: usize = 3;

/// Serializes to one byte `M` and marshal's bytes, or `P` and pickle's.
///
/// It starts with marshal, and stays with pickle after the first object that marshal cannot give
/// back exactly.
#[pyclass(module = "ferroshuffle._core", frozen)]
#[derive(Default)]
pub struct AutoSerializer {
    /// Atomic only to be shared: the GIL guards it, and pickling may call for us once more.
    stays_with_pickle: AtomicBool,
}

#[pymethods]
impl AutoSerializer {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// The bytes of `obj`.
    #[pyo3(name = "dumps")]
    fn py_dumps<'py>(&self, obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
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
    pub fn dumps(&self, object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
        let py = object.py();
        if !self.stays_with_pickle.load(Ordering::Relaxed) {
            if is_exact_in_marshal(object, MAX_DEPTH, &mut Seen::default())
                && let Ok(bytes) = py
                    .import("marshal")?
                    .call_method1("dumps", (object, version_for(object)))
            {
                return append(out, MARSHAL, bytes.cast::<PyBytes>()?.as_bytes());
            }
            self.stays_with_pickle.store(true, Ordering::Relaxed);
        }
        append(out, PICKLE, pickled(object)?.cast::<PyBytes>()?.as_bytes())
    }
}

/// Pickle's bytes of `object`.
///
/// Pickle refuses what it does not find again by name: a lambda, and in a worker every class and
/// function of the driver's main script. As in stock PySpark those go by value, where PySpark is
/// installed. The error is pickle's own if that does not help.
fn pickled<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    let pickle = py.import("pickle")?;
    let refused = match pickle.call_method1("dumps", (object, -1)) {
        Ok(bytes) => return Ok(bytes),
        Err(error) => error,
    };
    // Any other error is one of the object's own methods: it is not to be called again.
    let is_pickle_s = refused.is_instance(py, &pickle.getattr("PicklingError")?)
        || refused.is_instance_of::<PyAttributeError>(py)
        || refused.is_instance_of::<PyTypeError>(py);
    if !is_pickle_s {
        return Err(refused);
    }
    py.import("pyspark.cloudpickle")
        .and_then(|cloudpickle| cloudpickle.call_method1("dumps", (object, -1)))
        .map_err(|error| {
            if error.is_instance_of::<PyException>(py) {
                refused
            } else {
                error // Ctrl-C
            }
        })
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

/// Containers that were found to be exact, so that one that is reached on many ways is looked
/// through once.
type Seen = HashSet<*mut pyo3::ffi::PyObject, RandomState>;

/// Whether `object` is exactly of a builtin type that holds no other object.
pub fn is_leaf(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<PyInt>()
        || object.is_exact_instance_of::<PyString>()
        || object.is_exact_instance_of::<PyFloat>()
        || object.is_none()
        || object.is_exact_instance_of::<PyBool>()
        || object.is_exact_instance_of::<PyBytes>()
        || object.is_exact_instance_of::<PyComplex>()
}

/// `object` as a tuple, where it is one that holds leaves alone.
pub fn tuple_of_leaves<'a, 'py>(object: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, PyTuple>> {
    let tuple = object.cast_exact::<PyTuple>().ok()?;
    let are_leaves = tuple.iter_borrowed().all(|item| is_leaf(&item));
    are_leaves.then_some(tuple)
}

/// Whether `object` is a leaf or a tuple of them, so that it holds nothing that holds it.
pub fn is_plain(object: &Bound<'_, PyAny>) -> bool {
    is_leaf(object) || tuple_of_leaves(object).is_some()
}

/// Whether marshal gives back an equal object of the same types all through.
///
/// What marshal accepts is not enough: it writes anything with a buffer (`bytearray`, an array,
/// a numpy scalar) as `bytes`. So only exact builtin types pass here. Sets within sets do not: it
/// writes their items twice, at every depth.
fn is_exact_in_marshal(object: &Bound<'_, PyAny>, depth: usize, seen: &mut Seen) -> bool {
    if is_leaf(object) {
        return true;
    }
    let Some(depth) = depth.checked_sub(1) else {
        return false;
    };
    if seen.contains(&object.as_ptr()) {
        return true;
    }
    let mut is_exact = |item: &Bound<'_, PyAny>| is_exact_in_marshal(item, depth, seen);
    let all_are_exact = if let Ok(tuple) = object.cast_exact::<PyTuple>() {
        tuple.iter_borrowed().all(|item| is_exact(&item))
    } else if let Ok(list) = object.cast_exact::<PyList>() {
        list.iter().all(|item| is_exact(&item))
    } else if let Ok(dict) = object.cast_exact::<PyDict>() {
        dict.iter()
            .all(|(key, value)| is_exact(&key) && is_exact(&value))
    } else if let Ok(set) = object.cast_exact::<PySet>() {
        set.iter().all(|item| is_plain(&item))
    } else if let Ok(set) = object.cast_exact::<PyFrozenSet>() {
        set.iter().all(|item| is_plain(&item))
    } else {
        false
    };
    if all_are_exact && depth + REMEMBERED_DEPTH <= MAX_DEPTH && seen.try_reserve(1).is_ok() {
        seen.insert(object.as_ptr());
    }
    all_are_exact
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
