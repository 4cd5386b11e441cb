//! [`ValueStore`]: values written to disk in batches and read back in order.
//!
//! It is what `ExternalList` keeps its spilled part in, and what a group too large for memory is
//! handed out as.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyKeyboardInterrupt, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDict, PyFloat, PyFrozenSet, PyList, PySet, PyString, PyTuple,
};

use super::column_codec::{ColumnDecoder, ColumnEncoder};
use super::errors::of_iterator;
use super::ffi;
use crate::column::codec::{self, Columns};
use crate::error::{Error, Result};
use crate::memory;
use crate::spill::block::{self, BlockEncoder};
use crate::spill::local_dirs::LocalDirs;
use crate::spill::spill_file::{BlockAddress, SpillFiles};

/// Serialized values of about this size make a block: a reader holds one block of each store.
pub const BLOCK_BYTES: usize = 64 << 10;

/// Weight of a first block: small, since weights are guesses until a block was serialized.
pub const FIRST_BLOCK_WEIGHT: usize = 4 << 10;

/// What a number weighs, or a reference.
const LIGHT: usize = size_of::<usize>();

/// What anything weighs at least that may hold others which are not looked at.
const UNKNOWN: usize = 512;

/// Most items of a value that are looked at, at all depths together.
const LOOKS: usize = 64;

/// How many times its bytes the weight of a block may be.
const MOST_TIMES: usize = 64;

/// So many values ahead, a value is asked of memory before it is written, and what it has a few
/// later, when it is there itself.
const PREFETCH: usize = 16;
const PREFETCH_ITEMS: usize = 8;

/// About how many bytes a value takes when it is serialized, for blocks to be of a bounded size.
///
/// Of a large container some items are looked at, evenly spread.
pub fn weight(value: &Bound<'_, PyAny>) -> usize {
    weigh(value, LOOKS)
}

fn weigh(value: &Bound<'_, PyAny>, looks: usize) -> usize {
    if ffi::as_i64(value.as_borrowed()).is_some() {
        LIGHT
    } else if let Ok(text) = value.cast_exact::<PyString>() {
        LIGHT.saturating_add(text.len().unwrap_or_default())
    } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        weigh_items(tuple.len(), looks, |at| tuple.get_item(at).ok())
    } else if let Ok(list) = value.cast_exact::<PyList>() {
        weigh_items(list.len(), looks, |at| list.get_item(at).ok())
    } else if value.is_none()
        || value.is_exact_instance_of::<PyFloat>()
        || value.is_exact_instance_of::<PyBool>()
    {
        LIGHT
    } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        LIGHT.saturating_add(bytes.as_bytes().len())
    } else if let Ok(dict) = value.cast_exact::<PyDict>() {
        // Weighing may run code of the items, which must not find the dict being iterated over.
        let some: Vec<_> = dict
            .iter()
            .take(at_once(looks) / 2)
            .flat_map(|(key, value)| [key, value])
            .collect();
        weigh_some(&some, dict.len().saturating_mul(2), looks)
    } else if let Ok(set) = value.cast_exact::<PySet>() {
        let some: Vec<_> = set.iter().take(at_once(looks)).collect();
        weigh_some(&some, set.len(), looks)
    } else if let Ok(set) = value.cast_exact::<PyFrozenSet>() {
        let some: Vec<_> = set.iter().take(at_once(looks)).collect();
        weigh_some(&some, set.len(), looks)
    } else {
        // A huge `int`, an array, an object of a class of the user's: what it says of itself.
        let py = value.py();
        let said = value.call_method0(intern!(py, "__sizeof__"));
        if let Err(error) = &said
            && error.is_instance_of::<PyKeyboardInterrupt>(py)
        {
            ffi::interrupt_again(py);
        }
        said.and_then(|bytes| bytes.extract::<usize>())
            .unwrap_or_default()
            .max(UNKNOWN)
    }
}

/// How many items of one container are looked at, of so many looks in all.
const fn at_once(looks: usize) -> usize {
    looks.isqrt() + 1
}

/// What `len` items weigh, by as many `looks` at some of them and at what those hold.
fn weigh_items<'py>(
    len: usize,
    looks: usize,
    item: impl Fn(usize) -> Option<Bound<'py, PyAny>>,
) -> usize {
    if looks == 0 && len > 0 {
        return LIGHT.saturating_mul(len).max(UNKNOWN);
    }
    let looked_at = len.clamp(1, at_once(looks));
    let step = len.div_ceil(looked_at).max(1);
    // Fewer at each depth, so that an object that holds itself comes to an end.
    let looks_each = looks.saturating_sub(looked_at) / looked_at;
    (0..len)
        .step_by(step)
        .filter_map(item)
        .map(|item| weigh(&item, looks_each).saturating_mul(step))
        .fold(LIGHT, usize::saturating_add)
}

/// What `len` items weigh, of which `some` can be looked at.
fn weigh_some(some: &[Bound<'_, PyAny>], len: usize, looks: usize) -> usize {
    let weight = weigh_items(some.len(), looks, |at| some.get(at).cloned());
    weight.saturating_mul(len.max(1)) / some.len().max(1)
}

/// The weight of a full block after one of `weight`, which came to `bytes` where `target` is
/// wanted; `full` is what was taken for a full block so far.
pub fn next_full(full: usize, weight: usize, bytes: usize, target: usize) -> usize {
    let wanted = weight.saturating_mul(target) / bytes.max(1);
    // At most twice the block before, and not without end: a run of values that weigh more than
    // their bytes, such as one object many times, is not to let others in that do not.
    let most = full.max(weight.saturating_mul(2));
    wanted.clamp(1, most.min(target.saturating_mul(MOST_TIMES)).max(1))
}

/// Writes the items of a list as blocks to one file, in their order, or in that of the rows that
/// `order` names. Where that fails, nothing is left on disk.
pub fn write_values(
    values: &Bound<'_, PyList>,
    order: Option<&[u32]>,
    files: &SpillFiles,
) -> Result<Vec<BlockAddress>> {
    files.write_all(|blocks| write_blocks(values, order, files, blocks))
}

fn write_blocks(
    values: &Bound<'_, PyList>,
    order: Option<&[u32]>,
    files: &SpillFiles,
    blocks: &mut Vec<BlockAddress>,
) -> Result<()> {
    const WHAT: &str = "the index of a spilled list";
    let py = values.py();
    let row = |at: usize| match order {
        Some(order) => order.get(at).map_or(usize::MAX, |&row| row as usize),
        None => at,
    };
    let (values_encoder, mut encoder) = (ColumnEncoder::default(), BlockEncoder::new());
    let mut batch = Vec::new();
    let (mut start, mut full) = (0, FIRST_BLOCK_WEIGHT);
    while start < values.len() {
        let mut taken = 0;
        batch.clear();
        while start < values.len() && taken < full {
            // Sorted values lie all over memory, and so does what a tuple has.
            if let Some(ahead) = ffi::item(values, row(start + PREFETCH_ITEMS)) {
                ffi::prefetch_items(ahead);
            }
            if let Some(ahead) = ffi::item(values, row(start + PREFETCH)) {
                memory::prefetch(ahead.as_ptr());
            }
            let value = values.get_item(row(start))?;
            taken = weight(&value).saturating_add(taken);
            memory::try_grow(&mut batch, 1, WHAT)?;
            batch.push(value);
            start += 1;
        }
        let rows = u32::try_from(batch.len())
            .map_err(|_| Error::Usage("a block holds at most 2**32 - 1 values".to_owned()))?;
        let mut columns = Columns::new();
        values_encoder.encode(py, &batch, &mut columns)?;
        let bytes = codec::bytes_when_read(&columns);
        memory::try_grow(blocks, 1, WHAT)?;
        blocks.push(py.detach(|| files.append(0, encoder.encode(rows, &columns)?, rows))?);
        full = next_full(full, taken, bytes, BLOCK_BYTES);
    }
    Ok(())
}

/// The values of one block.
pub fn read_values<'py>(
    py: Python<'py>,
    files: &SpillFiles,
    address: &BlockAddress,
) -> Result<Vec<Bound<'py, PyAny>>> {
    let place = || files.place(address);
    let block = py.detach(|| files.read_block(address, &mut Vec::new()))?;
    ColumnDecoder::new(py, &block, &place).read()
}

/// Values on disk, in the order in which they were appended.
#[pyclass(module = "ferroshuffle._core", frozen)]
pub struct ValueStore {
    files: Arc<SpillFiles>,
    blocks: Mutex<Vec<BlockAddress>>,
}

impl ValueStore {
    /// The store of blocks that are already on disk.
    pub fn with_blocks(files: Arc<SpillFiles>, blocks: Vec<BlockAddress>) -> Self {
        Self {
            files,
            blocks: Mutex::new(blocks),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BlockAddress>> {
        // Held for a few instructions under the GIL, never while Python code runs.
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl ValueStore {
    /// An empty store that writes to the first of `dirs` that takes it.
    #[new]
    fn new(dirs: Vec<PathBuf>) -> Self {
        Self::with_blocks(Arc::new(SpillFiles::new(LocalDirs::new(dirs))), Vec::new())
    }

    /// Writes the values of a list; returns how many bytes that took on disk.
    ///
    /// Raises `OSError` where no local dir takes them, and what pickle raises for a value that it
    /// refuses; nothing is written then.
    fn append(&self, values: &Bound<'_, PyList>) -> PyResult<u64> {
        let blocks = write_values(values, None, &self.files)?;
        let bytes = blocks.iter().map(|block| block.len).sum();
        self.lock().extend(blocks);
        Ok(bytes)
    }

    fn __iter__(slf: &Bound<'_, Self>) -> ValuesIterator {
        ValuesIterator {
            store: slf.clone().unbind(),
            block: 0,
            values: None,
            row: 0,
        }
    }

    /// All blocks as bytes, for `extend_bytes` of another store.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let blocks = self.lock().clone();
        let bytes = py.detach(|| -> Result<Vec<u8>> {
            let (mut bytes, mut block) = (Vec::new(), Vec::new());
            for address in &blocks {
                self.files.read(address, &mut block)?;
                memory::try_grow(&mut bytes, block.len(), "the bytes of a spilled list")?;
                bytes.extend_from_slice(&block);
            }
            Ok(bytes)
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Appends the values that `to_bytes` of another store gave.
    ///
    /// Raises `CorruptBlockError` where the bytes are damaged.
    fn extend_bytes(&self, py: Python<'_>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        let place = || "a pickled list".to_owned();
        let data = data.as_bytes();
        let blocks = py.detach(|| -> Result<Vec<BlockAddress>> {
            let mut blocks = Vec::new();
            let mut rest = data;
            while !rest.is_empty() {
                let length = block::frame_len(rest)?;
                let split = usize::try_from(length)
                    .ok()
                    .and_then(|at| rest.split_at_checked(at));
                let Some((block, after)) = split else {
                    return Err(Error::CorruptBlock {
                        place: place(),
                        reason: "it is cut".into(),
                    });
                };
                let rows = block::decode(block, &place)?.rows;
                blocks.push(self.files.append(0, block, rows)?);
                rest = after;
            }
            Ok(blocks)
        })?;
        self.lock().extend(blocks);
        Ok(())
    }

    #[allow(clippy::unused_self)] // pickle calls it on the object
    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a ValueStore is pickled by the list that holds it",
        ))
    }
}

/// Iterator over a [`ValueStore`]'s values, those included that are appended while it is read.
#[pyclass(module = "ferroshuffle._core")]
pub struct ValuesIterator {
    store: Py<ValueStore>,
    block: usize,
    values: Option<Py<PyList>>,
    row: usize,
}

#[pymethods]
impl ValuesIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        loop {
            if let Some(values) = &self.values {
                let values = values.bind(py);
                if self.row < values.len() {
                    self.row += 1;
                    return values.get_item(self.row - 1).map(Some);
                }
                self.values = None;
            }
            let store = self.store.get();
            let Some(address) = store.lock().get(self.block).copied() else {
                return Ok(None);
            };
            let values = read_values(py, &store.files, &address)
                .map_err(|error| of_iterator(py, error.into()))?;
            self.values = Some(ffi::new_list(py, values)?.unbind());
            self.block += 1;
            self.row = 0;
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        visit.call(&self.store)?;
        visit.call(&self.values)
    }

    fn __clear__(&mut self) {
        self.values = None;
    }
}
