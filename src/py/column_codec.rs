//! Columns of Python objects as bytes, and back.
//!
//! Integers, tuples and lists have a form of their own, the latter two where their items hold no
//! objects that others may hold too; everything else is serialized as a whole, in one go for all
//! rows of a block.

use std::ops::Range;
use std::slice::Iter;

use pyo3::prelude::*;
use pyo3::types::{PyList, PySet};

use super::ffi;
use super::serializer::{self, AutoSerializer, is_plain, tuple_of_leaves};
use super::typed;
use crate::column::codec::{self, Columns};
use crate::column::ints;
use crate::error::{Error, Result};
use crate::memory::try_grow;
use crate::spill::block::{Block, ColumnKind};

const WHAT: &str = "the records of a block";

/// Longer tuples are serialized: a column for each item would be short.
const MOST_FIELDS: usize = 8;

/// Encodes columns of one kind of data after the other; it remembers what marshal refused.
#[derive(Default)]
pub struct ColumnEncoder {
    serializer: AutoSerializer,
}

impl ColumnEncoder {
    /// Appends the column of `values`, which may take several, to `columns`.
    pub fn encode(
        &self,
        py: Python<'_>,
        values: &[Bound<'_, PyAny>],
        columns: &mut Columns,
    ) -> Result<()> {
        if let Some((lengths, items)) = flatten_lists(values)? {
            columns.push((ColumnKind::List, lengths));
            return self.encode_items(py, &items, columns);
        }
        self.encode_items(py, values, columns)
    }

    /// Columns of what is no list.
    fn encode_items(
        &self,
        py: Python<'_>,
        items: &[Bound<'_, PyAny>],
        columns: &mut Columns,
    ) -> Result<()> {
        let Some((length, fields)) = split_tuples(items)? else {
            return self.encode_flat(py, items, columns);
        };
        columns.push((ColumnKind::Tuple, length.to_le_bytes().to_vec()));
        for field in &fields {
            self.encode_flat(py, field, columns)?;
        }
        Ok(())
    }

    /// A column that is one of its own: integers, or any objects.
    fn encode_flat(
        &self,
        py: Python<'_>,
        values: &[Bound<'_, PyAny>],
        columns: &mut Columns,
    ) -> Result<()> {
        if let Some(bytes) = encode_ints(values)? {
            columns.push((ColumnKind::Int64, bytes));
            return Ok(());
        }
        self.encode_objects(py, values, columns)
    }

    fn encode_objects(
        &self,
        py: Python<'_>,
        values: &[Bound<'_, PyAny>],
        columns: &mut Columns,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        self.serializer.dumps(
            ffi::new_list(py, values.iter().cloned())?.as_any(),
            &mut bytes,
        )?;
        columns.push((ColumnKind::Object, bytes));
        Ok(())
    }
}

/// The column of integers, where all values are exactly `int` and fit in 64 bits.
fn encode_ints(values: &[Bound<'_, PyAny>]) -> Result<Option<Vec<u8>>> {
    let mut all = Vec::new();
    // Most columns that are none show it at their first value, before anything is allocated.
    if values
        .first()
        .is_some_and(|value| ffi::as_i64(value.as_borrowed()).is_some())
    {
        try_grow(&mut all, values.len(), WHAT)?;
    }
    for value in values {
        match ffi::as_i64(value.as_borrowed()) {
            Some(int) => all.push(int),
            None => return Ok(None),
        }
    }
    let mut bytes = Vec::new();
    ints::encode(&all, &mut bytes)?;
    Ok(Some(bytes))
}

/// The length of `values`, where all are exactly `tuple`, of one length and of leaves; and their
/// items, by place in the tuple.
#[allow(clippy::type_complexity)] // a length and columns, where there are any
fn split_tuples<'py>(
    values: &[Bound<'py, PyAny>],
) -> Result<Option<(u32, Vec<Vec<Bound<'py, PyAny>>>)>> {
    let Some(first) = values.first().and_then(tuple_of_leaves) else {
        return Ok(None);
    };
    let length = first.len();
    if !(1..=MOST_FIELDS).contains(&length) {
        return Ok(None);
    }
    let mut fields: Vec<Vec<_>> = (0..length).map(|_| Vec::new()).collect();
    for field in &mut fields {
        try_grow(field, values.len(), WHAT)?;
    }
    for value in values {
        let Some(tuple) = tuple_of_leaves(value).filter(|tuple| tuple.len() == length) else {
            return Ok(None);
        };
        for (field, item) in fields.iter_mut().zip(tuple.iter()) {
            field.push(item);
        }
    }
    Ok(u32::try_from(length).ok().map(|length| (length, fields)))
}

/// The lengths and the items of `values`, where all are exactly `list` and their items plain.
#[allow(clippy::type_complexity)] // two vectors, where there are any
fn flatten_lists<'py>(
    values: &[Bound<'py, PyAny>],
) -> Result<Option<(Vec<u8>, Vec<Bound<'py, PyAny>>)>> {
    let (mut lengths, mut items) = (Vec::new(), Vec::new());
    for value in values {
        let Ok(list) = value.cast_exact::<PyList>() else {
            return Ok(None);
        };
        // A list may hold itself, or what another one holds too: then it is not written apart.
        if !list.iter().all(|item| is_plain(&item)) {
            return Ok(None);
        }
        try_grow(&mut lengths, 1, WHAT)?;
        lengths.push(list.len());
        try_grow(&mut items, list.len(), WHAT)?;
        items.extend(list.iter());
    }
    Ok(Some((ints::encode_lengths(lengths.into_iter())?, items)))
}

/// Reads the columns of a block, one after the other.
pub struct ColumnDecoder<'a, 'py> {
    py: Python<'py>,
    block: &'a Block,
    columns: Iter<'a, (ColumnKind, Range<usize>)>,
    place: &'a dyn Fn() -> String,
}

impl<'a, 'py> ColumnDecoder<'a, 'py> {
    /// `place` tells where the block was, for errors.
    pub fn new(py: Python<'py>, block: &'a Block, place: &'a dyn Fn() -> String) -> Self {
        Self {
            py,
            block,
            columns: block.columns.iter(),
            place,
        }
    }

    /// The values of the next column, one for each row of the block.
    pub fn read(&mut self) -> Result<Vec<Bound<'py, PyAny>>> {
        let rows = self.block.rows as usize;
        let values = self.column(codec::DEEPEST)?;
        if values.len() == rows {
            Ok(values)
        } else {
            Err(self.corrupt("a column has another number of rows than its block"))
        }
    }

    fn column(&mut self, depth: usize) -> Result<Vec<Bound<'py, PyAny>>> {
        let (kind, bytes) = self.take()?;
        if depth == 0 {
            return Err(self.corrupt("tuples are nested too deep"));
        }
        if kind == ColumnKind::List {
            let items = self.column(depth - 1)?;
            let new = |items: &[Bound<'py, PyAny>]| {
                Ok(ffi::new_list(self.py, items.iter().cloned())?.into_any())
            };
            return self.lists(bytes, &items, new);
        }
        if kind == ColumnKind::Set {
            let items = self.column(depth - 1)?;
            return self.lists(bytes, &items, |items| {
                Ok(PySet::new(self.py, items)?.into_any())
            });
        }
        if kind == ColumnKind::Nullable {
            let values = self.column(depth - 1)?;
            return self.nullable(bytes, values);
        }
        if kind != ColumnKind::Tuple {
            return self.flat(kind, bytes);
        }
        let length = <[u8; 4]>::try_from(bytes).map(u32::from_le_bytes);
        let Ok(length @ 1..) = length else {
            return Err(self.corrupt("tuples of no length"));
        };
        let mut fields = Vec::new();
        for _ in 0..length {
            fields.push(self.column(depth - 1)?.into_iter());
        }
        let rows = fields.first().map_or(0, ExactSizeIterator::len);
        if fields.iter().any(|field| field.len() != rows) {
            return Err(self.corrupt("the items of tuples are not as many of each"));
        }
        let mut tuples = Vec::new();
        try_grow(&mut tuples, rows, WHAT)?;
        for _ in 0..rows {
            let item = |place: usize| {
                let item = fields.get_mut(place).and_then(Iterator::next);
                item.ok_or_else(|| {
                    Error::corrupt((self.place)(), "the items of tuples are missing")
                })
            };
            tuples.push(ffi::new_tuple(self.py, length as usize, item)?);
        }
        Ok(tuples)
    }

    fn take(&mut self) -> Result<(ColumnKind, &'a [u8])> {
        let Some((kind, range)) = self.columns.next() else {
            return Err(self.corrupt("a column is missing"));
        };
        match self.block.payload.get(range.clone()) {
            Some(bytes) => Ok((*kind, bytes)),
            None => Err(self.corrupt("a column is cut")),
        }
    }

    fn flat(&self, kind: ColumnKind, bytes: &[u8]) -> Result<Vec<Bound<'py, PyAny>>> {
        let mut values = Vec::new();
        match kind {
            ColumnKind::Object => {
                let list = serializer::loads(self.py, bytes)?;
                let list = list
                    .cast_into::<PyList>()
                    .map_err(|_| self.corrupt("a column of objects is no list"))?;
                try_grow(&mut values, list.len(), WHAT)?;
                values.extend(list.iter());
            }
            ColumnKind::List | ColumnKind::Set | ColumnKind::Tuple | ColumnKind::Nullable => {
                return Err(self.corrupt("columns with others within are not read as one"));
            }
            ColumnKind::Int64
            | ColumnKind::Float64
            | ColumnKind::Str
            | ColumnKind::None
            | ColumnKind::Bool
            | ColumnKind::Bytes => {
                if let Some(column) = codec::flat(kind, bytes, self.place)? {
                    try_grow(&mut values, column.len(), WHAT)?;
                    for row in 0..column.len() {
                        values.push(typed::get(self.py, &column, row)?);
                    }
                }
            }
        }
        Ok(values)
    }

    fn lists(
        &self,
        lengths: &[u8],
        items: &[Bound<'py, PyAny>],
        new: impl Fn(&[Bound<'py, PyAny>]) -> PyResult<Bound<'py, PyAny>>,
    ) -> Result<Vec<Bound<'py, PyAny>>> {
        let Some(ends) = ints::decode_ends(lengths, items.len())? else {
            return Err(self.corrupt("the lengths of lists do not sum up to their items"));
        };
        let mut lists = Vec::new();
        try_grow(&mut lists, ends.len(), WHAT)?;
        let mut start = 0;
        for end in ends {
            lists.push(new(items.get(start..end).unwrap_or_default())?);
            start = end;
        }
        Ok(lists)
    }

    fn nullable(
        &self,
        bytes: &[u8],
        mut values: Vec<Bound<'py, PyAny>>,
    ) -> Result<Vec<Bound<'py, PyAny>>> {
        let valid = codec::validity(bytes, self.place)?;
        if values.len() != valid.len() {
            return Err(self.corrupt("there are not as many values as are told of"));
        }
        for (row, value) in values.iter_mut().enumerate() {
            if !valid.get(row) {
                *value = self.py.None().into_bound(self.py);
            }
        }
        Ok(values)
    }

    #[cold]
    fn corrupt(&self, reason: &str) -> Error {
        Error::CorruptBlock {
            place: (self.place)(),
            reason: reason.to_owned(),
        }
    }
}
