//! Every raw C-API call, each behind a small typed function.
//!
//! They are here for speed: what pyo3 offers safely for the same purpose costs a check, an
//! allocation or a second call for every record.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// The next item of an iterator, or `None` at its end.
#[inline]
pub fn next<'py>(iterator: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = iterator.py();
    // SAFETY: what `iter()` gave has `tp_iternext` (another object is told from it by null);
    // that returns an owned reference or null. `PyIter_Next` adds a call to it.
    let item = unsafe {
        let object = iterator.as_ptr();
        let next = (*ffi::Py_TYPE(object))
            .tp_iternext
            .unwrap_or(ffi::PyIter_Next);
        Bound::from_owned_ptr_or_opt(py, next(object))
    };
    match item {
        Some(item) => Ok(Some(item)),
        None => ended(py),
    }
}

/// Null from an iterator says that it has ended, with or without `StopIteration`, or failed.
#[cold]
fn ended<T>(py: Python<'_>) -> PyResult<Option<T>> {
    match PyErr::take(py) {
        Some(error) if !error.is_instance_of::<PyStopIteration>(py) => Err(error),
        _ => Ok(None),
    }
}

/// The key and the value of a record that is a tuple of two.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// First item.
    pub key: Borrowed<'a, 'a, PyAny>,
    /// Second item.
    pub value: Borrowed<'a, 'a, PyAny>,
}

/// Sees `record` as a pair, where it is exactly a `tuple` of two items.
#[inline]
pub fn pair<'a>(record: &'a Bound<'_, PyAny>) -> Option<Pair<'a>> {
    let tuple = record.cast_exact::<PyTuple>().ok()?;
    let tuple = tuple.as_ptr();
    // SAFETY: it is a tuple, its length is checked before its items are read, and they live as
    // long as the tuple that `record` keeps alive: a tuple's items never change.
    unsafe {
        if ffi::PyTuple_GET_SIZE(tuple) != 2 {
            return None;
        }
        let py = record.py();
        Some(Pair {
            key: Borrowed::from_ptr(py, ffi::PyTuple_GET_ITEM(tuple, 0)),
            value: Borrowed::from_ptr(py, ffi::PyTuple_GET_ITEM(tuple, 1)),
        })
    }
}

/// A new tuple of two.
#[inline]
pub fn new_pair(py: Python<'_>, key: Py<PyAny>, value: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the new tuple has two empty places, each of which takes over one owned reference;
    // nothing else has seen the tuple yet.
    unsafe {
        let tuple = Bound::from_owned_ptr_or_err(py, ffi::PyTuple_New(2))?;
        ffi::PyTuple_SET_ITEM(tuple.as_ptr(), 0, key.into_ptr());
        ffi::PyTuple_SET_ITEM(tuple.as_ptr(), 1, value.into_ptr());
        Ok(tuple)
    }
}

/// Calls `function(a)`.
#[inline]
pub fn call1<'py>(
    function: Borrowed<'_, 'py, PyAny>,
    a: Borrowed<'_, '_, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    call(function, &mut [std::ptr::null_mut(), a.as_ptr()])
}

/// Calls `function(a, b)`.
#[inline]
pub fn call2<'py>(
    function: Borrowed<'_, 'py, PyAny>,
    a: Borrowed<'_, '_, PyAny>,
    b: Borrowed<'_, '_, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    call(
        function,
        &mut [std::ptr::null_mut(), a.as_ptr(), b.as_ptr()],
    )
}

/// Calls `function` with the arguments after the first place, which is lent to the callee.
#[inline]
fn call<'py, const PLACES: usize>(
    function: Borrowed<'_, 'py, PyAny>,
    places: &mut [*mut ffi::PyObject; PLACES],
) -> PyResult<Bound<'py, PyAny>> {
    let callee = function.as_ptr();
    // SAFETY: the arguments are alive for the call, and the place before them is ours to lend,
    // which is what the offset flag says. A function made in Python has the entry that is asked
    // of other callables by `PyObject_Vectorcall`, at a place of its own. The result is an owned
    // reference or null with an error set.
    unsafe {
        let entry = if ffi::PyFunction_Check(callee) == 1 {
            (*callee.cast::<ffi::PyFunctionObject>()).vectorcall
        } else {
            None
        };
        let arguments = places.as_mut_ptr().add(1);
        let count = (PLACES - 1) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        let no_names = std::ptr::null_mut();
        // Not a choice of one of two pointers: before 3.11 the second is no C function.
        let result = match entry {
            Some(entry) => entry(callee, arguments, count, no_names),
            None => ffi::PyObject_Vectorcall(callee, arguments, count, no_names),
        };
        Bound::from_owned_ptr_or_err(function.py(), result)
    }
}

/// `hash(key)`, and whether it tells the key from any other that it is said of: an `int` that is
/// its own hash. What cannot be hashed raises the error that a dict raises for it as a key.
#[inline]
pub fn hash(key: Borrowed<'_, '_, PyAny>) -> PyResult<(isize, bool)> {
    if let Some(hash) = hash_of_small_int(key) {
        return Ok((hash, true));
    }
    // SAFETY: `key` is alive; -1 says that an exception is set.
    let hash = unsafe { ffi::PyObject_Hash(key.as_ptr()) };
    if hash == -1 {
        Err(hash_error(key))
    } else {
        Ok((hash, false))
    }
}

/// The hash of an exact `int` where that is the `int` itself.
#[inline]
pub fn hash_of_small_int(key: Borrowed<'_, '_, PyAny>) -> Option<isize> {
    // Python's hash of a number is its remainder by this prime, but -2 for -1, which tells its C
    // code of an exception.
    const MODULUS: i64 = if isize::BITS == 64 {
        (1 << 61) - 1
    } else {
        (1 << 31) - 1
    };
    let value = as_i64(key)?;
    if value != -1 && (1 - MODULUS..MODULUS).contains(&value) {
        isize::try_from(value).ok()
    } else {
        None
    }
}

#[cold]
fn hash_error(key: Borrowed<'_, '_, PyAny>) -> PyErr {
    let py = key.py();
    let raised = PyErr::fetch(py);
    if !raised.is_instance_of::<pyo3::exceptions::PyTypeError>(py) {
        return raised;
    }
    // Since 3.14 a dict words its TypeError differently from hash(): let a dict raise it.
    PyDict::new(py).contains(key).err().unwrap_or(raised)
}

/// Whether two keys of one hash are one key: the same object, or equal as Python's `==` says.
#[inline]
pub fn is_same_key(
    stored: Borrowed<'_, '_, PyAny>,
    probe: Borrowed<'_, '_, PyAny>,
) -> PyResult<bool> {
    if stored.as_ptr() == probe.as_ptr() {
        return Ok(true);
    }
    if let (Ok(stored), Ok(probe)) = (
        stored.cast_exact::<PyString>(),
        probe.cast_exact::<PyString>(),
    ) && let Some(is_same) = is_same_str(stored, probe)
    {
        return Ok(is_same);
    }
    // The stored key may be dropped by what its own `__eq__` does: hold it.
    let stored = stored.to_owned();
    // SAFETY: both are alive; -1 says that an exception is set.
    match unsafe { ffi::PyObject_RichCompareBool(stored.as_ptr(), probe.as_ptr(), ffi::Py_EQ) } {
        -1 => Err(PyErr::fetch(probe.py())),
        is_same => Ok(is_same == 1),
    }
}

/// Compares two `str` by their storage; `None` where an old interpreter has not made it ready.
#[inline]
fn is_same_str(a: Borrowed<'_, '_, PyString>, b: Borrowed<'_, '_, PyString>) -> Option<bool> {
    let (a, b) = (a.as_ptr(), b.as_ptr());
    // SAFETY: both are `str` and ready, so kind, length and data describe live memory. Equal
    // strings have equal kinds, since CPython stores each in the narrowest that fits.
    unsafe {
        #[allow(deprecated)] // since 3.14, where every `str` is ready
        if ffi::PyUnicode_IS_READY(a) == 0 || ffi::PyUnicode_IS_READY(b) == 0 {
            return None;
        }
        let (length, kind) = (ffi::PyUnicode_GET_LENGTH(a), ffi::PyUnicode_KIND(a));
        if length != ffi::PyUnicode_GET_LENGTH(b) || kind != ffi::PyUnicode_KIND(b) {
            return Some(false);
        }
        let bytes = usize::try_from(length).ok()?.checked_mul(kind as usize)?;
        let a = std::slice::from_raw_parts(ffi::PyUnicode_DATA(a).cast::<u8>(), bytes);
        let b = std::slice::from_raw_parts(ffi::PyUnicode_DATA(b).cast::<u8>(), bytes);
        Some(a == b)
    }
}

/// The characters of an exact `str` that is stored with a byte for each; the order of such `str`
/// is that of these bytes.
#[inline]
pub fn one_byte_text<'a>(object: Borrowed<'a, '_, PyAny>) -> Option<&'a [u8]> {
    let text = object.cast_exact::<PyString>().ok()?;
    let text = text.as_ptr();
    // SAFETY: it is a `str` and ready, so kind, length and data describe live memory, which does
    // not change and is there as long as the reference to it that `object` borrows.
    unsafe {
        #[allow(deprecated)] // since 3.14, where every `str` is ready
        if ffi::PyUnicode_IS_READY(text) == 0 || ffi::PyUnicode_KIND(text) != 1 {
            return None;
        }
        let length = usize::try_from(ffi::PyUnicode_GET_LENGTH(text)).ok()?;
        let data = ffi::PyUnicode_DATA(text).cast::<u8>();
        Some(std::slice::from_raw_parts(data, length))
    }
}

/// Item `row` of a list that is not changed while the item is used.
#[inline]
pub fn item<'a, 'py>(list: &'a Bound<'py, PyList>, row: usize) -> Option<Borrowed<'a, 'py, PyAny>> {
    if row >= list.len() {
        return None;
    }
    // SAFETY: the row is one of the list's, where `row` fits in `isize` as the length does; the
    // list holds a reference to its item, and nobody takes it away meanwhile.
    unsafe {
        let item = ffi::PyList_GET_ITEM(list.as_ptr(), row.cast_signed());
        Some(Borrowed::from_ptr(list.py(), item))
    }
}

/// Item `at` of an exact tuple.
#[inline]
pub fn tuple_item<'a, 'py>(
    tuple: Borrowed<'a, 'py, PyAny>,
    at: usize,
) -> Option<Borrowed<'a, 'py, PyAny>> {
    if at >= tuple.cast_exact::<PyTuple>().ok()?.len() {
        return None;
    }
    // SAFETY: it is a tuple with that item, which it holds as long as it is there itself.
    unsafe {
        let item = ffi::PyTuple_GET_ITEM(tuple.as_ptr(), at.cast_signed());
        Some(Borrowed::from_ptr(tuple.py(), item))
    }
}

/// The bytes of an exact `bytes`.
#[inline]
pub fn bytes<'a>(object: Borrowed<'a, '_, PyAny>) -> Option<&'a [u8]> {
    let bytes: *const [u8] = object.cast_exact::<PyBytes>().ok()?.as_bytes();
    // SAFETY: they do not change, and are there as long as the reference that `object` borrows.
    unsafe { Some(&*bytes) }
}

/// Has Python find an interrupt, as by Ctrl-C, where one was raised and could not be passed on.
pub fn interrupt_again(_: Python<'_>) {
    // SAFETY: the GIL is held, and it needs no more than that.
    unsafe { ffi::PyErr_SetInterrupt() }
}

/// Asks memory for the first two items of a tuple, which are needed soon.
#[inline]
pub fn prefetch_items(object: Borrowed<'_, '_, PyAny>) {
    let Ok(tuple) = object.cast_exact::<PyTuple>() else {
        return;
    };
    let tuple = tuple.as_ptr();
    // SAFETY: it is a tuple, of which no item beyond its length is read.
    unsafe {
        for at in 0..ffi::PyTuple_GET_SIZE(tuple).min(2) {
            crate::memory::prefetch(ffi::PyTuple_GET_ITEM(tuple, at));
        }
    }
}

/// Whether an iterator may make its next item of the same tuple: one of `zip`, `enumerate` or
/// `dict.items`.
pub fn makes_tuples_again(iterator: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the iterator is alive, and the types are only compared by their addresses.
    unsafe {
        let kind = ffi::Py_TYPE(iterator.as_ptr());
        [
            &raw mut ffi::PyZip_Type,
            &raw mut ffi::PyEnum_Type,
            &raw mut ffi::PyDictIterItem_Type,
        ]
        .contains(&kind)
    }
}

/// Whether an iterator is one that `iter` gives of a list.
pub fn is_of_list(iterator: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the iterator is alive, and the types are only compared by their addresses.
    unsafe { ffi::Py_TYPE(iterator.as_ptr()) == &raw mut ffi::PyListIter_Type }
}

/// How many references there are to an object.
#[inline]
pub fn references(object: Borrowed<'_, '_, PyAny>) -> isize {
    // SAFETY: it is alive.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

/// `a < b`, as a sort asks it.
#[inline]
pub fn is_less(a: Borrowed<'_, '_, PyAny>, b: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
    // SAFETY: both are alive; -1 says that an exception is set.
    match unsafe { ffi::PyObject_RichCompareBool(a.as_ptr(), b.as_ptr(), ffi::Py_LT) } {
        -1 => Err(PyErr::fetch(a.py())),
        is_less => Ok(is_less == 1),
    }
}

/// The value of an exact `int` that fits in 64 bits.
#[inline]
pub fn as_i64(object: Borrowed<'_, '_, PyAny>) -> Option<i64> {
    object.cast_exact::<PyInt>().ok()?;
    if let Some(value) = short_int(object) {
        return Some(value);
    }
    let mut overflow = 0;
    // SAFETY: it is an `int`, for which the call cannot raise; `overflow` is ours.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(object.as_ptr(), &raw mut overflow) };
    (overflow == 0).then_some(value)
}

/// Bits in a digit of an `int`, but for odd builds of the interpreter.
const DIGIT_BITS: u32 = 30;

/// Whether this interpreter's are as many.
static HAS_USUAL_DIGITS: AtomicBool = AtomicBool::new(false);

/// Finds out how this interpreter stores an `int`. To be called when the module is made.
pub fn look_at_ints(py: Python<'_>) -> PyResult<()> {
    let info = py.import("sys")?.getattr("int_info")?;
    let bits: u32 = info.getattr("bits_per_digit")?.extract()?;
    HAS_USUAL_DIGITS.store(bits == DIGIT_BITS, Ordering::Relaxed);
    Ok(())
}

/// The head of an `int`, and the first of its digits.
#[repr(C)]
struct Int {
    #[cfg(not(Py_3_12))]
    base: ffi::PyVarObject,
    #[cfg(Py_3_12)]
    base: ffi::PyObject,
    /// The sign, then the number of digits.
    #[cfg(Py_3_12)]
    tag: usize,
    digit: u32,
}

/// The value of an `int` of at most two digits, as most are.
#[inline]
fn short_int(int: Borrowed<'_, '_, PyAny>) -> Option<i64> {
    if !HAS_USUAL_DIGITS.load(Ordering::Relaxed) {
        return None;
    }
    // SAFETY: the caller checked that it is an `int`, of which this is the layout; a digit is read
    // where the number of digits says that it is there. The digits of an `int` never change.
    unsafe {
        let int = int.as_ptr().cast::<Int>();
        #[cfg(not(Py_3_12))]
        let (digits, is_negative) = ((*int).base.ob_size.unsigned_abs(), (*int).base.ob_size < 0);
        #[cfg(Py_3_12)]
        let (digits, is_negative) = ((*int).tag >> 3, (*int).tag & 3 == 2);
        let digit = &raw const (*int).digit;
        let value = match digits {
            0 => 0,
            1 => i64::from(*digit),
            2 => i64::from(*digit) | i64::from(*digit.add(1)) << DIGIT_BITS,
            _ => return None,
        };
        Some(if is_negative { -value } else { value })
    }
}

/// A new `int`.
#[inline]
pub fn new_int(py: Python<'_>, value: i64) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the result is an owned reference or null with an error set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyLong_FromLongLong(value)) }
}

/// A new `bytes`.
pub fn new_bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: start and length are those of live bytes, which are copied; the result is an owned
    // reference or null with an error set.
    unsafe {
        let start = bytes.as_ptr().cast();
        let new = ffi::PyBytes_FromStringAndSize(start, bytes.len().cast_signed());
        Bound::from_owned_ptr_or_err(py, new)
    }
}

/// A new `float`.
#[inline]
pub fn new_float(py: Python<'_>, value: f64) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the result is an owned reference or null with an error set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyFloat_FromDouble(value)) }
}

/// A new `str` of UTF-8.
#[inline]
pub fn new_text<'py>(py: Python<'py>, utf8: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: start and length are those of live bytes; a null `errors` is the strict handler.
    // The result is an owned reference or null with an error set.
    unsafe {
        let start = utf8.as_ptr().cast();
        let text = ffi::PyUnicode_DecodeUTF8(start, utf8.len().cast_signed(), std::ptr::null());
        Bound::from_owned_ptr_or_err(py, text)
    }
}

/// The characters of an exact `str`, by the width that it is stored in.
pub enum Text<'a> {
    /// Which are their own UTF-8.
    Ascii(&'a [u8]),
    /// Below 256.
    One(&'a [u8]),
    /// Below 65,536.
    Two(&'a [u16]),
    /// Any.
    Four(&'a [u32]),
}

impl Text<'_> {
    /// Number of characters.
    #[inline]
    pub fn length(&self) -> usize {
        match self {
            Self::Ascii(chars) | Self::One(chars) => chars.len(),
            Self::Two(chars) => chars.len(),
            Self::Four(chars) => chars.len(),
        }
    }

    /// The order of two texts, which is that of their code points.
    pub fn compare(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Ascii(a) | Self::One(a), Self::Ascii(b) | Self::One(b)) => a.cmp(b),
            (Self::Two(a), Self::Two(b)) => a.cmp(b),
            (Self::Four(a), Self::Four(b)) => a.cmp(b),
            _ => self.chars(0).cmp(other.chars(0)),
        }
    }

    /// The code points from place `from` on.
    #[inline]
    pub fn chars(&self, from: usize) -> impl Iterator<Item = u32> + '_ {
        let char = |at: usize| match self {
            Self::Ascii(chars) | Self::One(chars) => chars.get(at).map(|&char| u32::from(char)),
            Self::Two(chars) => chars.get(at).map(|&char| u32::from(char)),
            Self::Four(chars) => chars.get(at).copied(),
        };
        (from..).map_while(char)
    }
}

/// The characters of an exact `str`; `None` for another object.
#[inline]
pub fn text<'a>(object: Borrowed<'a, '_, PyAny>) -> Option<Text<'a>> {
    match text_by_width(object) {
        Some(Text::One(bytes)) if bytes.is_ascii() => Some(Text::Ascii(bytes)),
        text => text,
    }
}

/// The same without a look at the characters: never `Ascii`.
#[inline]
pub fn text_by_width<'a>(object: Borrowed<'a, '_, PyAny>) -> Option<Text<'a>> {
    if let Some(bytes) = one_byte_text(object) {
        return Some(Text::One(bytes));
    }
    let text = object.cast_exact::<PyString>().ok()?.as_ptr();
    // SAFETY: it is a `str` and ready, so kind, length and data describe live memory, aligned for
    // its kind, which does not change and is there as long as the reference that `object` borrows.
    unsafe {
        #[allow(deprecated)] // since 3.14, where every `str` is ready
        if ffi::PyUnicode_IS_READY(text) == 0 {
            return None;
        }
        let length = usize::try_from(ffi::PyUnicode_GET_LENGTH(text)).ok()?;
        let data = ffi::PyUnicode_DATA(text);
        match ffi::PyUnicode_KIND(text) {
            2 => Some(Text::Two(std::slice::from_raw_parts(data.cast(), length))),
            4 => Some(Text::Four(std::slice::from_raw_parts(data.cast(), length))),
            _ => None,
        }
    }
}

/// A new tuple of `length` items, each made by `item`.
#[inline]
pub fn new_tuple<'py, E: From<PyErr>>(
    py: Python<'py>,
    length: usize,
    mut item: impl FnMut(usize) -> Result<Bound<'py, PyAny>, E>,
) -> Result<Bound<'py, PyAny>, E> {
    // SAFETY: the new tuple has as many empty places, each of which takes over one owned
    // reference; one with places left empty can be dropped, and nothing else has seen it yet.
    unsafe {
        let tuple = ffi::PyTuple_New(length.cast_signed());
        let tuple = Bound::from_owned_ptr_or_err(py, tuple)?;
        for place in 0..length {
            let item = item(place)?;
            ffi::PyTuple_SET_ITEM(tuple.as_ptr(), place.cast_signed(), item.into_ptr());
        }
        Ok(tuple)
    }
}

/// A new list of `items`.
pub fn new_list<'py>(
    py: Python<'py>,
    items: impl IntoIterator<Item = Bound<'py, PyAny>, IntoIter: ExactSizeIterator>,
) -> PyResult<Bound<'py, PyList>> {
    let items = items.into_iter();
    // SAFETY: the result is an owned reference to a list, or null with an error set. It has as many
    // empty places, each of which takes over one owned reference; one with places left empty can be
    // dropped.
    unsafe {
        let list = ffi::PyList_New(items.len().cast_signed());
        let list = Bound::from_owned_ptr_or_err(py, list)?;
        for (place, item) in (0..items.len()).zip(items) {
            ffi::PyList_SET_ITEM(list.as_ptr(), place.cast_signed(), item.into_ptr());
        }
        Ok(list.cast_into_unchecked())
    }
}

/// A new list without items.
pub fn empty_list(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    new_list(py, [])
}

/// A new list of the items `start..end` of another.
pub fn slice<'py>(
    list: &Bound<'py, PyList>,
    start: usize,
    end: usize,
) -> PyResult<Bound<'py, PyList>> {
    // SAFETY: any bounds will do; the result is an owned reference or null with an error set.
    let slice = unsafe {
        let slice = ffi::PyList_GetSlice(list.as_ptr(), start.cast_signed(), end.cast_signed());
        Bound::from_owned_ptr_or_err(list.py(), slice)
    }?;
    Ok(slice.cast_into()?)
}

/// The value of an exact `float`.
#[inline]
pub fn as_f64(object: Borrowed<'_, '_, PyAny>) -> Option<f64> {
    let float = object.cast_exact::<PyFloat>().ok()?;
    // SAFETY: it is a `float`.
    Some(unsafe { ffi::PyFloat_AS_DOUBLE(float.as_ptr()) })
}

/// Appends to a list that only we have.
#[inline]
pub fn append(list: &Bound<'_, PyList>, item: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: both are alive; -1 says that an exception is set.
    match unsafe { ffi::PyList_Append(list.as_ptr(), item.as_ptr()) } {
        -1 => Err(PyErr::fetch(list.py())),
        _ => Ok(()),
    }
}

/// Puts the items of `list` in the order that `rows` names them in; `list` must be one that only
/// we have, and `rows` must name each of its rows once.
///
/// `false` where `rows` is of another length or memory is short; the list is as it was then.
pub fn permute(list: &Bound<'_, PyList>, rows: Vec<u32>) -> bool {
    let length = list.len();
    let mut items = Vec::new();
    if rows.len() != length || items.try_reserve_exact(length).is_err() {
        return false;
    }
    // SAFETY: the list has `length` places (and a null start where that is 0), and nobody else
    // has the list: it is not changed and no Python code runs while they are seen.
    let places = unsafe {
        let start = (*list.as_ptr().cast::<ffi::PyListObject>()).ob_item;
        if start.is_null() {
            &mut []
        } else {
            std::slice::from_raw_parts_mut(start, length)
        }
    };
    items.extend(
        rows.into_iter()
            .filter_map(|row| places.get(row as usize).copied()),
    );
    if items.len() != length {
        return false;
    }
    // The references only change places: the list owns each exactly once before and after.
    places.copy_from_slice(&items);
    true
}
