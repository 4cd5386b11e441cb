//! Typed columns to and from Python objects.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyInt, PyList, PySet, PyString, PyTuple};

use super::ffi::{self, Text};
use crate::aggregate::native::{Cell, NativeAggregate};
use crate::aggregate::plan::Shape;
use crate::column::nullable::Nullable;
use crate::column::typed::{Lists, Texts, TypedColumn};
use crate::error::{Error, Result};
use crate::map::KeyHash;
use crate::python_hash::{self, TextHash, TupleHash};

/// Tuples of more items, or nested deeper, stay objects.
const MOST_FIELDS: usize = 8;
const DEEPEST: usize = 3;

/// Longer texts stay objects: to copy one takes longer than to call a function with it.
const LONGEST_TEXT: usize = 1024;

/// An empty column of the kind that holds `object`, if there is one.
pub fn column_for(object: Borrowed<'_, '_, PyAny>) -> Option<TypedColumn> {
    column_within(object, DEEPEST)
}

/// The same where only what is at `paths` is looked at.
pub fn column_at(object: Borrowed<'_, '_, PyAny>, paths: &[&[usize]]) -> Option<TypedColumn> {
    if paths.is_empty() {
        return Some(TypedColumn::Unread(0));
    }
    if paths.iter().any(|path| path.is_empty()) {
        return column_for(object);
    }
    let tuple = object.cast_exact::<PyTuple>().ok()?;
    if !(1..=MOST_FIELDS).contains(&tuple.len()) {
        return None;
    }
    let fields = tuple.iter_borrowed().enumerate().map(|(index, field)| {
        let within = paths.iter().filter_map(|path| match path.split_first() {
            Some((first, rest)) if *first == index => Some(rest),
            _ => None,
        });
        column_at(field, &within.collect::<Vec<_>>())
    });
    fields.collect::<Option<_>>().map(TypedColumn::Tuple)
}

fn column_within(object: Borrowed<'_, '_, PyAny>, depth: usize) -> Option<TypedColumn> {
    if ffi::as_i64(object).is_some() {
        return Some(TypedColumn::Int(Vec::new()));
    }
    if ffi::as_f64(object).is_some() {
        return Some(TypedColumn::Float(Vec::new()));
    }
    if ffi::text(object).is_some() {
        return Some(TypedColumn::Str(Texts::default()));
    }
    if object.is_none() {
        return Some(TypedColumn::None(0));
    }
    if object.is_exact_instance_of::<PyBool>() {
        return Some(TypedColumn::Bool(Vec::new()));
    }
    if object.is_exact_instance_of::<PyBytes>() {
        return Some(TypedColumn::Bytes(Texts::default()));
    }
    if let Ok(list) = object.cast_exact::<PyList>() {
        let items = column_within(ffi::item(&list, 0)?, depth.checked_sub(1)?)?;
        return (!items.has_lists()).then(|| TypedColumn::List(Lists::of(&items)));
    }
    if let Ok(set) = object.cast_exact::<PySet>() {
        let items = column_within(set.iter().next()?.as_borrowed(), depth.checked_sub(1)?)?;
        return items
            .is_for_sets()
            .then(|| TypedColumn::Set(Lists::of(&items)));
    }
    let tuple = object.cast_exact::<PyTuple>().ok()?;
    if depth == 0 || !(1..=MOST_FIELDS).contains(&tuple.len()) {
        return None;
    }
    let fields = tuple.iter_borrowed();
    let fields = fields.map(|field| column_within(field, depth - 1));
    fields.collect::<Option<_>>().map(TypedColumn::Tuple)
}

/// An empty column of the kind that holds what `column` does and `object`; `None` where that is its
/// own kind, or there may be no such kind. It is another one only by a `None`, in either of them.
#[cold]
pub fn kind_with(column: &TypedColumn, object: Borrowed<'_, '_, PyAny>) -> Option<TypedColumn> {
    let kind = kind_within(column, object, DEEPEST);
    (!kind.is_of_kind(column)).then_some(kind)
}

fn kind_within(column: &TypedColumn, object: Borrowed<'_, '_, PyAny>, depth: usize) -> TypedColumn {
    let nullable = |values: &TypedColumn| TypedColumn::Nullable(Nullable::of(values));
    match column {
        TypedColumn::Nullable(_) | TypedColumn::None(_) if object.is_none() => column.fresh(),
        TypedColumn::Nullable(column) => nullable(&kind_within(&column.values, object, depth)),
        TypedColumn::None(_) => match column_within(object, depth) {
            // It is told by the first item of a list.
            Some(values) => nullable(&kind_within(&values, object, depth)),
            None => column.fresh(),
        },
        column if object.is_none() && column.may_become_nullable() => nullable(column),
        TypedColumn::Tuple(fields) => match object.cast_exact::<PyTuple>() {
            Ok(tuple) if tuple.len() == fields.len() && depth > 0 => {
                let pairs = fields.iter().zip(tuple.iter_borrowed());
                let fields = pairs.map(|(field, item)| kind_within(field, item, depth - 1));
                TypedColumn::Tuple(fields.collect())
            }
            _ => column.fresh(),
        },
        TypedColumn::List(lists) => match object.cast_exact::<PyList>() {
            Ok(list) if depth > 0 => {
                let items = (0..list.len()).filter_map(|row| ffi::item(&list, row));
                let kind = items.fold(lists.items.fresh(), |kind, item| {
                    kind_within(&kind, item, depth - 1)
                });
                if kind.has_lists() {
                    column.fresh()
                } else {
                    TypedColumn::List(Lists::of(&kind))
                }
            }
            _ => column.fresh(),
        },
        TypedColumn::Set(sets) => match object.cast_exact::<PySet>() {
            Ok(set) if depth > 0 => {
                let kind = set.iter().fold(sets.items.fresh(), |kind, item| {
                    kind_within(&kind, item.as_borrowed(), depth - 1)
                });
                if kind.is_for_sets() {
                    TypedColumn::Set(Lists::of(&kind))
                } else {
                    column.fresh()
                }
            }
            _ => column.fresh(),
        },
        TypedColumn::Unread(_)
        | TypedColumn::Int(_)
        | TypedColumn::Float(_)
        | TypedColumn::Bool(_)
        | TypedColumn::Str(_)
        | TypedColumn::Bytes(_) => column.fresh(),
    }
}

/// Appends `object`; `false` where it does not fit. A tuple that does not fit may leave items
/// behind, which the caller takes back by [`TypedColumn::truncate`].
#[inline(always)]
#[allow(clippy::inline_always)] // once a record: the call costs as much as what it does
pub fn push(column: &mut TypedColumn, object: Borrowed<'_, '_, PyAny>) -> Result<bool> {
    // The kind of most columns, apart, so that it is read in line.
    if let TypedColumn::Int(ints) = column {
        return Ok(push_number(ints, ffi::as_i64(object)));
    }
    push_any(column, object)
}

fn push_any(column: &mut TypedColumn, object: Borrowed<'_, '_, PyAny>) -> Result<bool> {
    match column {
        TypedColumn::Int(ints) => Ok(push_number(ints, ffi::as_i64(object))),
        TypedColumn::Float(floats) => Ok(push_number(floats, ffi::as_f64(object))),
        TypedColumn::None(rows) => {
            *rows += usize::from(object.is_none());
            Ok(object.is_none())
        }
        TypedColumn::Unread(rows) => {
            *rows += 1;
            Ok(true)
        }
        TypedColumn::Str(texts) => match ffi::text(object) {
            Some(text) if text.length() > LONGEST_TEXT => Ok(false),
            Some(Text::Ascii(text)) => texts.push(text).map(|()| true),
            Some(Text::One(text)) => texts.push_chars(text.iter().map(|&char| char.into())),
            Some(Text::Two(text)) => texts.push_chars(text.iter().map(|&char| char.into())),
            Some(Text::Four(text)) => texts.push_chars(text.iter().copied()),
            None => Ok(false),
        },
        TypedColumn::Bool(bools) => {
            let bool = object.cast_exact::<PyBool>().ok();
            Ok(push_number(bools, bool.map(|bool| bool.is_true())))
        }
        TypedColumn::Bytes(all) => match ffi::bytes(object) {
            Some(bytes) if bytes.len() <= LONGEST_TEXT => all.push(bytes).map(|()| true),
            _ => Ok(false),
        },
        TypedColumn::Tuple(fields) => push_tuple(fields, object, push),
        TypedColumn::List(lists) => push_list(lists, object),
        TypedColumn::Set(sets) => push_set(sets, object),
        TypedColumn::Nullable(nullable) => push_nullable(nullable, object, push),
    }
}

/// The same where there are lists or sets in the column: one that others than what it was borrowed from
/// hold, or a tuple that has it, may come again, or be changed, and does not fit.
pub fn push_held_once(column: &mut TypedColumn, object: Borrowed<'_, '_, PyAny>) -> Result<bool> {
    match column {
        TypedColumn::List(lists) if ffi::references(object) == 1 => push_list(lists, object),
        TypedColumn::Set(sets) if ffi::references(object) == 1 => push_set(sets, object),
        TypedColumn::Tuple(fields) if fields.iter().any(TypedColumn::has_lists) => {
            if ffi::references(object) == 1 {
                push_tuple(fields, object, push_held_once)
            } else {
                Ok(false)
            }
        }
        TypedColumn::List(_) | TypedColumn::Set(_) => Ok(false),
        TypedColumn::Nullable(nullable) if nullable.values.has_lists() => {
            push_nullable(nullable, object, push_held_once)
        }
        column => push(column, object),
    }
}

/// The same for any column, which `has_lists` or not: a value that `is_shared` with others does not fit
/// where lists are copied.
#[inline]
pub fn push_unshared(
    column: &mut TypedColumn,
    object: Borrowed<'_, '_, PyAny>,
    has_lists: bool,
    is_shared: bool,
) -> Result<bool> {
    if !has_lists {
        return push(column, object);
    }
    if is_shared {
        return Ok(false);
    }
    push_held_once(column, object)
}

fn push_nullable(
    nullable: &mut Nullable,
    object: Borrowed<'_, '_, PyAny>,
    push: fn(&mut TypedColumn, Borrowed<'_, '_, PyAny>) -> Result<bool>,
) -> Result<bool> {
    if object.is_none() {
        return nullable.push_none(1).map(|()| true);
    }
    nullable.push_with(|values| push(values, object))
}

fn push_list(lists: &mut Lists, object: Borrowed<'_, '_, PyAny>) -> Result<bool> {
    let Ok(list) = object.cast_exact::<PyList>() else {
        return Ok(false);
    };
    lists.items.try_reserve(list.len())?;
    for row in 0..list.len() {
        let Some(item) = ffi::item(&list, row) else {
            return Ok(false);
        };
        if !push(&mut lists.items, item)? {
            return Ok(false);
        }
    }
    crate::memory::try_grow(&mut lists.ends, 1, "a batch of records")?;
    lists.ends.push(lists.items.len());
    Ok(true)
}

fn push_set(sets: &mut Lists, object: Borrowed<'_, '_, PyAny>) -> Result<bool> {
    let Ok(set) = object.cast_exact::<PySet>() else {
        return Ok(false);
    };
    sets.items.try_reserve(set.len())?;
    for item in &*set {
        if !push(&mut sets.items, item.as_borrowed())? {
            return Ok(false);
        }
    }
    crate::memory::try_grow(&mut sets.ends, 1, "a batch of records")?;
    sets.ends.push(sets.items.len());
    Ok(true)
}

/// The same for a key: a nan is a key of its own, whatever its bits are.
#[inline(always)]
#[allow(clippy::inline_always)] // once a record: the call costs as much as what it does
pub fn push_key(column: &mut TypedColumn, key: Borrowed<'_, '_, PyAny>) -> Result<bool> {
    match column {
        TypedColumn::Int(ints) => Ok(push_number(ints, ffi::as_i64(key))),
        TypedColumn::Float(floats) => Ok(push_number(
            floats,
            ffi::as_f64(key).filter(|key| !key.is_nan()),
        )),
        TypedColumn::Tuple(fields) => push_tuple(fields, key, push_key),
        TypedColumn::Nullable(nullable) => push_nullable(nullable, key, push_key),
        column => push(column, key),
    }
}

/// In words why `object`, which is called `name`, does not fit; `None` where it does.
pub fn misfit(column: &TypedColumn, object: Borrowed<'_, '_, PyAny>, name: &str) -> Option<String> {
    let within = |fields: &mut dyn Iterator<Item = (&TypedColumn, Borrowed<'_, '_, PyAny>)>| {
        let mut fields = fields.enumerate();
        fields.find_map(|(at, (field, item))| misfit(field, item, &format!("{name}[{at}]")))
    };
    let what = match column {
        TypedColumn::Tuple(fields) if let Ok(tuple) = object.cast_exact::<PyTuple>() => {
            if tuple.len() == fields.len() {
                return within(&mut fields.iter().zip(tuple.iter_borrowed()));
            }
            format!("a tuple of {}", tuple.len())
        }
        TypedColumn::List(lists) if let Ok(list) = object.cast_exact::<PyList>() => {
            let mut items = (0..list.len()).filter_map(|at| ffi::item(&list, at));
            return within(&mut items.by_ref().map(|item| (&*lists.items, item)));
        }
        TypedColumn::Set(sets) if let Ok(set) = object.cast_exact::<PySet>() => {
            let mut items = set.iter();
            let name = format!("an item of {name}");
            return items.find_map(|item| misfit(&sets.items, item.as_borrowed(), &name));
        }
        TypedColumn::Nullable(nullable) if !object.is_none() => {
            return misfit(&nullable.values, object, name);
        }
        column if matches!(push(&mut column.fresh(), object), Ok(true)) => return None,
        TypedColumn::Int(_) if object.is_exact_instance_of::<PyInt>() => {
            "an int beyond 64 bits".to_owned()
        }
        TypedColumn::Str(_) if object.is_exact_instance_of::<PyString>() => {
            format!("a str of over {LONGEST_TEXT} characters or with lone surrogates")
        }
        TypedColumn::Bytes(_) if object.is_exact_instance_of::<PyBytes>() => {
            format!("of over {LONGEST_TEXT} bytes")
        }
        _ => of_type(object),
    };
    Some(format!("{name} is {what}"))
}

/// In words of what type an object is.
pub fn of_type(object: Borrowed<'_, '_, PyAny>) -> String {
    let name = object.get_type().name();
    name.map_or_else(
        |_| "of some type".to_owned(),
        |name| format!("of type {name}"),
    )
}

#[inline]
fn push_number<T>(numbers: &mut Vec<T>, number: Option<T>) -> bool {
    let Some(number) = number else { return false };
    numbers.push(number);
    true
}

fn push_tuple(
    fields: &mut [TypedColumn],
    object: Borrowed<'_, '_, PyAny>,
    push: fn(&mut TypedColumn, Borrowed<'_, '_, PyAny>) -> Result<bool>,
) -> Result<bool> {
    let Ok(tuple) = object.cast_exact::<PyTuple>() else {
        return Ok(false);
    };
    if tuple.len() != fields.len() {
        return Ok(false);
    }
    for (field, item) in fields.iter_mut().zip(tuple.iter_borrowed()) {
        // A tuple with a nan in it is equal to no other, but to itself: it has to stay one object.
        let is_nan = matches!(field, TypedColumn::Float(_) | TypedColumn::Nullable(_))
            && ffi::as_f64(item).is_some_and(f64::is_nan);
        if is_nan || !push(field, item)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The hash of a key.
pub fn hash_of(key: Borrowed<'_, '_, PyAny>) -> Result<KeyHash> {
    Ok(KeyHash::of_python(ffi::hash(key)?.0 as i64, false))
}

/// The hashes of all keys of a column.
pub fn hashes(py: Python<'_>, keys: &TypedColumn, hashes: &mut Vec<KeyHash>) -> Result<()> {
    crate::memory::try_grow(hashes, keys.len(), "the hashes of a block")?;
    for row in 0..keys.len() {
        hashes.push(KeyHash::of_python(python_hash(py, keys, row)?, false));
    }
    Ok(())
}

/// Python's hash of what is in `row`.
#[inline]
pub fn python_hash(py: Python<'_>, column: &TypedColumn, row: usize) -> Result<i64> {
    match column {
        TypedColumn::Int(ints) => Ok(ints.get(row).map_or(0, |&int| python_hash::of_int(int))),
        column => python_hash_of_any(py, column, row),
    }
}

fn python_hash_of_any(py: Python<'_>, column: &TypedColumn, row: usize) -> Result<i64> {
    match column {
        TypedColumn::Str(texts) => {
            let text = texts.get(row);
            if let Some(hash) = text_hash(py)
                && text.is_ascii()
            {
                return Ok(hash.of_bytes(text));
            }
        }
        TypedColumn::Bytes(bytes) => {
            if let Some(hash) = text_hash(py) {
                return Ok(hash.of_bytes(bytes.get(row)));
            }
        }
        TypedColumn::Bool(bools) => {
            return Ok(bools.get(row).map_or(0, |&bool| i64::from(bool)));
        }
        TypedColumn::Tuple(fields) => {
            let mut hash = TupleHash::new();
            for field in fields {
                hash.add(python_hash(py, field, row)?);
            }
            return Ok(hash.finish(fields.len()));
        }
        TypedColumn::Nullable(nullable) if nullable.valid.get(row) => {
            return python_hash(py, &nullable.values, row);
        }
        _ => {}
    }
    Ok(get(py, column, row)?.hash()? as i64)
}

/// How this interpreter hashes text, where that is known.
fn text_hash(py: Python<'_>) -> Option<&'static TextHash> {
    static FOUND: PyOnceLock<Option<TextHash>> = PyOnceLock::new();
    let found = FOUND.get_or_init(py, || find_text_hash(py).ok().flatten());
    found.as_ref()
}

fn find_text_hash(py: Python<'_>) -> PyResult<Option<TextHash>> {
    let Ok(seed) = std::env::var("PYTHONHASHSEED") else {
        return Ok(None);
    };
    let info = py.import("sys")?.getattr("hash_info")?;
    let algorithm: String = info.getattr("algorithm")?.extract()?;
    let Some(found) = TextHash::new(&algorithm, &seed) else {
        return Ok(None);
    };
    // The interpreter may have been told to overlook the variable, or hash short text otherwise.
    for length in 1..24 {
        let text = "f".repeat(length);
        if PyString::new(py, &text).hash()? as i64 != found.of_bytes(text.as_bytes()) {
            return Ok(None);
        }
    }
    Ok(Some(found))
}

/// The object in `row`.
#[inline]
pub fn get<'py>(py: Python<'py>, column: &TypedColumn, row: usize) -> Result<Bound<'py, PyAny>> {
    let object = match column {
        TypedColumn::Unread(_) => None,
        TypedColumn::None(rows) => (row < *rows).then(|| py.None().into_bound(py)),
        TypedColumn::Int(ints) => match ints.get(row) {
            Some(&int) => Some(ffi::new_int(py, int)?),
            None => None,
        },
        TypedColumn::Float(floats) => match floats.get(row) {
            Some(&float) => Some(ffi::new_float(py, float)?),
            None => None,
        },
        TypedColumn::Bool(bools) => bools.get(row).map(|&bool| {
            let bool = PyBool::new(py, bool);
            bool.to_owned().into_any()
        }),
        TypedColumn::Str(texts) => Some(ffi::new_text(py, texts.get(row))?),
        TypedColumn::Bytes(bytes) => Some(ffi::new_bytes(py, bytes.get(row))?),
        TypedColumn::Tuple(fields) => {
            let item = |place| match fields.get(place) {
                Some(field) => get(py, field, row),
                None => Err(no_row(row)),
            };
            Some(ffi::new_tuple(py, fields.len(), item)?)
        }
        TypedColumn::List(lists) => Some(list(py, &lists.items, lists.range(row))?),
        TypedColumn::Set(sets) => Some(set(py, &sets.items, sets.range(row))?),
        TypedColumn::Nullable(nullable) if nullable.valid.get(row) => {
            Some(get(py, &nullable.values, row)?)
        }
        TypedColumn::Nullable(nullable) => {
            (row < nullable.valid.len()).then(|| py.None().into_bound(py))
        }
    };
    object.ok_or_else(|| no_row(row))
}

/// About how many bytes the objects in a column take, and references to them.
pub fn object_bytes(column: &TypedColumn) -> usize {
    const REFERENCE: usize = size_of::<usize>();
    /// Of an `int` or a `float`; of what has items or bytes, without these.
    const NUMBER: usize = 32 + REFERENCE;
    const CONTAINER: usize = 64 + REFERENCE;
    let rows = column.len();
    match column {
        TypedColumn::None(_) | TypedColumn::Bool(_) | TypedColumn::Unread(_) => rows * REFERENCE,
        TypedColumn::Int(_) | TypedColumn::Float(_) => rows * NUMBER,
        TypedColumn::Str(texts) | TypedColumn::Bytes(texts) => rows * CONTAINER + texts.all().len(),
        TypedColumn::Tuple(fields) => {
            rows * CONTAINER + fields.iter().map(object_bytes).sum::<usize>()
        }
        TypedColumn::List(lists) => rows * CONTAINER + object_bytes(&lists.items),
        // A table of twice as many places, each with a hash, and no set is smaller than of eight.
        TypedColumn::Set(sets) => rows * (3 * CONTAINER) + 4 * object_bytes(&sets.items),
        TypedColumn::Nullable(nullable) => object_bytes(&nullable.values),
    }
}

/// A record of what is in `row` of a column of keys and of one of values.
#[inline]
pub fn record<'py>(
    py: Python<'py>,
    keys: &TypedColumn,
    values: &TypedColumn,
    row: usize,
) -> Result<Bound<'py, PyAny>> {
    let key = get(py, keys, row)?.unbind();
    let value = get(py, values, row)?.unbind();
    Ok(ffi::new_pair(py, key, value)?)
}

#[cold]
fn no_row(row: usize) -> Error {
    Error::Usage(format!("row {row} of the table does not exist"))
}

/// So many items ahead, memory is asked for what is to be made an object.
const AHEAD: usize = 16;

/// A list of the items in those rows.
pub fn list<'py>(
    py: Python<'py>,
    items: &TypedColumn,
    rows: impl ExactSizeIterator<Item = usize> + Clone,
) -> Result<Bound<'py, PyAny>> {
    let mut objects = crate::memory::try_with_capacity(rows.len(), "a list")?;
    let mut ahead = rows.clone();
    ahead
        .by_ref()
        .take(AHEAD)
        .for_each(|row| items.prefetch(row));
    for row in rows {
        if let Some(row) = ahead.next() {
            items.prefetch(row);
        }
        objects.push(get(py, items, row)?);
    }
    Ok(ffi::new_list(py, objects)?.into_any())
}

/// A set of the items in those rows.
pub fn set<'py>(
    py: Python<'py>,
    items: &TypedColumn,
    rows: impl Iterator<Item = usize>,
) -> Result<Bound<'py, PyAny>> {
    let set = PySet::empty(py)?;
    for row in rows {
        set.add(get(py, items, row)?)?;
    }
    Ok(set.into_any())
}

/// The combiner in `row`.
#[inline]
pub fn combiner<'py>(
    py: Python<'py>,
    aggregate: &NativeAggregate,
    row: usize,
) -> Result<Bound<'py, PyAny>> {
    shaped(py, aggregate, &aggregate.plan().shape, &mut 0, row)
}

fn shaped<'py>(
    py: Python<'py>,
    aggregate: &NativeAggregate,
    shape: &Shape,
    state: &mut usize,
    row: usize,
) -> Result<Bound<'py, PyAny>> {
    match shape {
        Shape::State(_) => {
            let found = aggregate.state(*state, row)?;
            *state += 1;
            match found {
                Some(Cell::Of(column, 0)) => get(py, column, row),
                Some(Cell::List(items, rows)) => {
                    if let Ok(Some(Cell::List(_, next))) = aggregate.state(*state - 1, row + 1) {
                        next.iter()
                            .take(AHEAD)
                            .for_each(|&row| items.prefetch(row as usize));
                    }
                    list(py, items, rows.iter().map(|&row| row as usize))
                }
                Some(Cell::Set(items, rows)) => {
                    set(py, items, rows.iter().map(|&row| row as usize))
                }
                Some(Cell::Text(items, rows)) => {
                    let mut joined = items.fresh();
                    joined.push_joined(items, rows)?;
                    get(py, &joined, 0)
                }
                Some(Cell::Of(TypedColumn::Int(ints), carry)) => {
                    let wrapped = ints.get(row).copied().unwrap_or(0);
                    let sum = i128::from(wrapped) + (i128::from(carry) << 64);
                    Ok(sum.into_pyobject(py).map_err(PyErr::from)?.into_any())
                }
                _ => Err(Error::Usage("a combiner has no such field".to_owned())),
            }
        }
        Shape::Fields(fields) => {
            let item = |place| match fields.get(place) {
                Some(field) => shaped(py, aggregate, field, state, row),
                None => Err(no_row(row)),
            };
            ffi::new_tuple(py, fields.len(), item)
        }
    }
}
