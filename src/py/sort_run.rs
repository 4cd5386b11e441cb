//! Runs of a sort: values in order, in memory or on disk, and read chunk by chunk.

use std::borrow::Cow;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::column_codec::ColumnDecoder;
use super::external_list::{BLOCK_BYTES, next_full, write_values};
use super::ffi;
use super::sort_keys::{KeyFunction, Keys, KeysInOrder, objects_of};
use super::typed;
use crate::column::codec::{self, Columns, Decoder};
use crate::column::typed::TypedColumn;
use crate::error::{Error, Result};
use crate::memory;
use crate::sort::key::SortKey;
use crate::sort::order::KeyColumns;
use crate::spill::block::BlockEncoder;
use crate::spill::spill_file::{BlockAddress, SpillFiles};

/// Values in memory that are merged are looked at so many at once.
const CHUNK: usize = 4096;

const WHAT: &str = "the values of a sort";

/// How values are compared.
pub struct Ordering {
    /// By what.
    pub key: KeyFunction,
    /// The greatest first.
    pub reverse: bool,
}

/// Typed values.
pub struct Rows {
    column: TypedColumn,
    /// The column is one of tuples of a value's key and the value: the key function had to be called.
    are_keyed: bool,
}

impl Rows {
    fn values(&self) -> &TypedColumn {
        match &self.column {
            TypedColumn::Tuple(fields) if self.are_keyed => fields.get(1).unwrap_or(&self.column),
            column => column,
        }
    }

    /// Those rows, in that order.
    fn gather(&self, rows: &[u32]) -> Result<Self> {
        Ok(Self {
            column: self.column.gather(rows)?,
            are_keyed: self.are_keyed,
        })
    }

    /// The value in a row.
    pub fn value<'py>(&self, py: Python<'py>, row: usize) -> Result<Bound<'py, PyAny>> {
        typed::get(py, self.values(), row)
    }
}

/// Values in memory, and the order of their rows.
pub enum Sorted<'py> {
    /// Typed values.
    Rows(Rows, Vec<u32>),
    /// Any, which are in order where there is no other one.
    List(Bound<'py, PyList>, Option<Vec<u32>>),
}

impl<'py> Sorted<'py> {
    /// Sorts typed values.
    pub fn of_column(py: Python<'py>, column: TypedColumn, ordering: &Ordering) -> Result<Self> {
        let (reverse, rows) = (ordering.reverse, count(column.len())?);
        if let Some(keys) = ordering.key.computed(&column)? {
            let order = py.detach(|| keys.order(rows, reverse))?;
            drop(keys);
            let are_keyed = false;
            return Ok(Self::Rows(Rows { column, are_keyed }, order));
        }
        let called = ordering.key.called(py, &column)?;
        let keys = called.as_ref().and_then(|keys| keys.column.as_ref());
        if let Some(keys) = keys.map(Cow::Borrowed).and_then(KeyColumns::of) {
            let order = py.detach(|| keys.order(rows, reverse))?;
            drop(keys);
            let keys = called.and_then(|keys| keys.column);
            let column = TypedColumn::Tuple(keys.into_iter().chain([column]).collect());
            let are_keyed = true;
            return Ok(Self::Rows(Rows { column, are_keyed }, order));
        }
        let keys = called.map_or(Ok(Keys::Values), |keys| keys.into_keys(py))?;
        let values = ffi::new_list(py, objects_of(py, &column)?)?;
        drop(column);
        sort_by_python(&values, keys, ordering)?;
        Ok(Self::List(values, None))
    }

    /// Sorts the values in a list that only we have, as `list.sort` does. The key function is
    /// called once for each value, in their order.
    pub fn of_list(values: Bound<'py, PyList>, ordering: &Ordering) -> Result<Self> {
        let keys = match ordering.key.of_list(&values)? {
            Keys::Columns(keys) => {
                let rows = count(values.len())?;
                let order = values.py().detach(|| keys.order(rows, ordering.reverse))?;
                return Ok(Self::List(values, Some(order)));
            }
            keys => keys,
        };
        sort_by_python(&values, keys, ordering)?;
        Ok(Self::List(values, None))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Rows(_, order) => order.len(),
            Self::List(values, _) => values.len(),
        }
    }

    /// Writes them as blocks, in order. Where that fails, nothing is left on disk.
    pub fn write(&self, py: Python<'py>, files: &SpillFiles) -> Result<Spilled> {
        let (blocks, are_keyed) = match self {
            Self::Rows(rows, order) => {
                let write = |blocks: &mut _| write_rows(py, rows, order, files, blocks);
                (files.write_all(write)?, rows.are_keyed)
            }
            Self::List(values, order) => (write_values(values, order.as_deref(), files)?, false),
        };
        Ok(Spilled { blocks, are_keyed })
    }

    /// Hands the memory of the values back to the system.
    pub fn give_back(self, py: Python<'py>) {
        let has_objects = matches!(self, Self::List(..));
        drop(self);
        if has_objects {
            super::give_back(py);
        } else {
            memory::give_back();
        }
    }

    /// The values as a list.
    pub fn into_list(self, py: Python<'py>) -> Result<Bound<'py, PyList>> {
        match self {
            Self::Rows(rows, order) => {
                let mut values = memory::try_with_capacity(order.len(), WHAT)?;
                for chunk in order.chunks(CHUNK) {
                    let rows = rows.gather(chunk)?;
                    for row in 0..chunk.len() {
                        values.push(rows.value(py, row)?);
                    }
                }
                Ok(ffi::new_list(py, values)?)
            }
            Self::List(values, None) => Ok(values),
            Self::List(values, Some(order)) => {
                if !ffi::permute(&values, order) {
                    return Err(out_of_memory(values.len()));
                }
                Ok(values)
            }
        }
    }

    /// The values as a run of those that are merged.
    pub fn into_run(self, py: Python<'py>) -> Result<Run> {
        match self {
            Self::Rows(rows, order) => Ok(Run::Rows(rows, order, 0)),
            list @ Self::List(..) => Ok(Run::List(list.into_list(py)?.unbind(), 0)),
        }
    }
}

fn count(values: usize) -> Result<u32> {
    u32::try_from(values).map_err(|_| out_of_memory(values))
}

#[cold]
fn out_of_memory(values: usize) -> Error {
    Error::OutOfMemory {
        wanted: values.saturating_mul(size_of::<usize>()),
        what: "the order of a sort",
    }
}

fn sort_by_python<'py>(
    values: &Bound<'py, PyList>,
    keys: Keys<'_, 'py>,
    ordering: &Ordering,
) -> Result<()> {
    let py = values.py();
    let options = PyDict::new(py);
    options.set_item("reverse", ordering.reverse)?;
    if let Keys::Objects(keys) = keys {
        options.set_item("key", KeysInOrder::next_of(py, keys)?)?;
    }
    values.call_method("sort", (), Some(&options))?;
    Ok(())
}

fn write_rows(
    py: Python<'_>,
    rows: &Rows,
    mut order: &[u32],
    files: &SpillFiles,
    blocks: &mut Vec<BlockAddress>,
) -> Result<()> {
    let mut encoder = BlockEncoder::new();
    let bytes_a_row = rows.column.heap_bytes() / order.len().max(1);
    let mut full = (BLOCK_BYTES / bytes_a_row.max(1)).max(1);
    while !order.is_empty() {
        let (block, rest) = order.split_at_checked(full).unwrap_or((order, &[]));
        let mut columns = Columns::new();
        codec::encode(&rows.gather(block)?.column, &mut columns)?;
        let bytes = codec::bytes_when_read(&columns);
        memory::try_grow(blocks, 1, WHAT)?;
        let count = count(block.len())?;
        blocks.push(py.detach(|| files.append(0, encoder.encode(count, &columns)?, count))?);
        full = next_full(full, block.len(), bytes, BLOCK_BYTES);
        order = rest;
    }
    Ok(())
}

/// A run on disk.
#[derive(Clone, Default)]
pub struct Spilled {
    blocks: Vec<BlockAddress>,
    are_keyed: bool,
}

impl Spilled {
    /// Writes the values of a list behind those that are there.
    pub fn append(&mut self, values: &Bound<'_, PyList>, files: &SpillFiles) -> Result<()> {
        self.blocks.extend(write_values(values, None, files)?);
        Ok(())
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.len).sum()
    }
}

/// A run that is read, and how much of it was.
pub enum Run {
    /// On disk: so many blocks.
    Spilled(Spilled, usize),
    /// Typed values in memory, in an order: so many of them.
    Rows(Rows, Vec<u32>, usize),
    /// Any, in order: so many of them.
    List(Py<PyList>, usize),
}

impl Run {
    /// The next values; `None` at the end.
    pub fn next(
        &mut self,
        py: Python<'_>,
        files: &SpillFiles,
        key: &KeyFunction,
    ) -> Result<Option<Chunk>> {
        match self {
            Self::Spilled(Spilled { blocks, are_keyed }, at) => {
                let Some(address) = blocks.get(*at) else {
                    return Ok(None);
                };
                let place = || files.place(address);
                let block = py.detach(|| files.read_block(address, &mut Vec::new()))?;
                let typed = Decoder::new(block.parts(), &place).read(block.rows as usize)?;
                let are_keyed = *are_keyed;
                let chunk = if let Some(column) = typed {
                    Chunk::of_rows(py, Rows { column, are_keyed }, key)?
                } else {
                    let values = ColumnDecoder::new(py, &block, &place).read()?;
                    Chunk::of_list(ffi::new_list(py, values)?, key)?
                };
                *at += 1;
                Ok(Some(chunk))
            }
            Self::Rows(rows, order, at) => {
                let rest = order.get(*at..).unwrap_or_default();
                let some = rest.get(..CHUNK).unwrap_or(rest);
                if some.is_empty() {
                    return Ok(None);
                }
                let chunk = Chunk::of_rows(py, rows.gather(some)?, key)?;
                *at += some.len();
                Ok(Some(chunk))
            }
            Self::List(values, at) => {
                let some = ffi::slice(values.bind(py), *at, at.saturating_add(CHUNK))?;
                if some.is_empty() {
                    return Ok(None);
                }
                *at += some.len();
                Chunk::of_list(some, key).map(Some)
            }
        }
    }

    /// Shows what it holds to the garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        match self {
            Self::List(values, _) => visit.call(values),
            Self::Spilled(..) | Self::Rows(..) => Ok(()),
        }
    }
}

/// Some values of a run, with their keys.
pub struct Chunk {
    values: ChunkValues,
    keys: ChunkKeys,
    /// The next one.
    row: usize,
    len: usize,
}

enum ChunkValues {
    Rows(Rows),
    List(Py<PyList>),
}

enum ChunkKeys {
    Columns(KeyColumns<'static>),
    Objects(Vec<Py<PyAny>>),
    Values,
}

impl From<Keys<'_, '_>> for ChunkKeys {
    fn from(keys: Keys<'_, '_>) -> Self {
        match keys {
            Keys::Columns(keys) => Self::Columns(keys.into_owned()),
            Keys::Objects(keys) => Self::Objects(keys.into_iter().map(Bound::unbind).collect()),
            Keys::Values => Self::Values,
        }
    }
}

impl Chunk {
    fn of_rows(py: Python<'_>, rows: Rows, key: &KeyFunction) -> Result<Self> {
        let keyed = if rows.are_keyed {
            SortKey::at(vec![0]).columns(&rows.column)?
        } else {
            None
        };
        let keys = match keyed {
            Some(keys) => Keys::Columns(keys),
            None => key.of_column(py, rows.values())?,
        };
        Ok(Self {
            keys: keys.into(),
            row: 0,
            len: rows.column.len(),
            values: ChunkValues::Rows(rows),
        })
    }

    fn of_list(values: Bound<'_, PyList>, key: &KeyFunction) -> Result<Self> {
        Ok(Self {
            keys: key.of_list(&values)?.into(),
            row: 0,
            len: values.len(),
            values: ChunkValues::List(values.unbind()),
        })
    }

    /// Whether there is a next value.
    pub fn has_value(&self) -> bool {
        self.row < self.len
    }

    /// The next value.
    pub fn value<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        match &self.values {
            ChunkValues::Rows(rows) => rows.value(py, self.row),
            ChunkValues::List(values) => Ok(values.bind(py).get_item(self.row)?),
        }
    }

    /// Goes on to the one behind it.
    pub const fn step(&mut self) {
        self.row += 1;
    }

    /// Whether the next value's key is less than that of `other`.
    #[inline]
    pub fn is_less(&self, py: Python<'_>, other: &Self, key: &KeyFunction) -> Result<bool> {
        if let (ChunkKeys::Columns(own), ChunkKeys::Columns(others)) = (&self.keys, &other.keys)
            && own.is_of_kind(others)
        {
            return Ok(own.compare(self.row, others, other.row).is_lt());
        }
        let (own, other) = (self.key(py, key)?, other.key(py, key)?);
        Ok(ffi::is_less(own.as_borrowed(), other.as_borrowed())?)
    }

    fn key<'py>(&self, py: Python<'py>, key: &KeyFunction) -> Result<Bound<'py, PyAny>> {
        match &self.keys {
            ChunkKeys::Objects(keys) if let Some(key) = keys.get(self.row) => {
                Ok(key.bind(py).clone())
            }
            ChunkKeys::Values => self.value(py),
            ChunkKeys::Objects(_) | ChunkKeys::Columns(_) => Ok(key.of(&self.value(py)?)?),
        }
    }

    /// Shows what it holds to the garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        if let ChunkValues::List(values) = &self.values {
            visit.call(values)?;
        }
        match &self.keys {
            ChunkKeys::Objects(keys) => keys.iter().try_for_each(|key| visit.call(key)),
            ChunkKeys::Columns(_) | ChunkKeys::Values => Ok(()),
        }
    }
}
