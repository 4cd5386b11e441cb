//! [`ObjectTable`]: any keys, any combiners, merged by the user's functions.

use std::sync::Arc;

use ahash::RandomState;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use super::external_list::{self, ValueStore};
use super::ffi;
use super::serializer::{self, AutoSerializer};
use crate::aggregate::Aggregate;
use crate::aggregate::callback::{Callback, Functions};
use crate::column::object::ObjectColumn;
use crate::error::{Error, Result};
use crate::map::AppendOnlyMap;
use crate::metrics::Spilled;
use crate::spill::block::{self, BlockEncoder, ColumnKind};
use crate::spill::external_table::Spillable;
use crate::spill::run::RunWriter;
use crate::spill::spill_file::{BlockAddress, SpillFiles};

/// Serialized records of about this size make a block: large enough for pickle and lz4 to do
/// well, small enough that a block of each of some dozens of runs fits in memory at once.
const BLOCK_BYTES: usize = 256 << 10;

/// Items that a first block may hold; the sizes seen from then on set the number.
const FIRST_BLOCK_WEIGHT: usize = 1024;

/// Most items of a list that are written as one record when lists are groups.
const GROUP_SLICE: usize = 4096;

/// How reading records came to a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The iterator is at its end.
    Exhausted,
    /// As many records as asked for were read.
    Checkpoint,
    /// The table cannot grow; no record was read that is not merged.
    OutOfMemory,
}

/// Which of the aggregate's functions the records of an iterator go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Records hold values.
    Values,
    /// Records hold combiners.
    Combiners,
}

/// Table of Python keys and combiners.
pub struct ObjectTable {
    map: AppendOnlyMap<ObjectColumn>,
    aggregate: Callback,
    /// Combiners are lists of values: they may be cut where they are written, and kept on disk.
    grouping: Option<Grouping>,
    mixer: RandomState,
}

/// What a table knows about its groups.
#[derive(Default)]
struct Grouping {
    /// Items in all lists, which is what a group's size in memory is counted by.
    items: usize,
    /// Where the values are, once they were moved to disk: by row.
    on_disk: Option<DiskGroups>,
}

struct DiskGroups {
    files: Arc<SpillFiles>,
    groups: Vec<DiskGroup>,
}

/// One key's lists of values: those on disk, by block, and their number of values in all. Lists
/// that are still in memory are in the table's column of combiners, as a list of lists.
#[derive(Default)]
struct DiskGroup {
    blocks: Vec<BlockAddress>,
    count: usize,
}

impl ObjectTable {
    /// An empty table. With `is_grouping`, combiners are lists that are merged by joining them.
    pub fn new(is_grouping: bool) -> Self {
        Self {
            map: AppendOnlyMap::new(ObjectColumn::default()),
            aggregate: Callback::default(),
            grouping: is_grouping.then(Grouping::default),
            mixer: RandomState::with_seeds(1, 2, 3, 4),
        }
    }

    /// The functions that records are merged by.
    pub fn functions_mut(&mut self) -> &mut Functions {
        &mut self.aggregate.functions
    }

    /// Shows every reference to Python's garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        self.map.keys().traverse(visit)?;
        self.aggregate.traverse(visit)
    }

    /// Merges up to `records` records of `iterator`.
    pub fn merge(
        &mut self,
        iterator: &Bound<'_, PyAny>,
        stage: Stage,
        records: usize,
    ) -> Result<Progress> {
        match stage {
            Stage::Values => self.merge_records(iterator, records, Self::merge_value),
            Stage::Combiners => self.merge_records(iterator, records, Self::merge_combiner),
        }
    }

    #[inline]
    fn merge_records(
        &mut self,
        iterator: &Bound<'_, PyAny>,
        records: usize,
        merge: impl Fn(&mut Self, ffi::Pair<'_>) -> Result<()>,
    ) -> Result<Progress> {
        for _ in 0..records {
            match self.make_room() {
                Err(Error::OutOfMemory { .. }) if !self.is_empty() => {
                    return Ok(Progress::OutOfMemory);
                }
                other => other?,
            }
            let Some(record) = ffi::next(iterator)? else {
                return Ok(Progress::Exhausted);
            };
            if let Some(pair) = ffi::pair(&record) {
                merge(self, pair)?;
            } else {
                let record = unpack(&record)?;
                let pair = ffi::pair(&record).ok_or_else(|| {
                    Error::Usage("a record did not unpack into a key and a value".to_owned())
                })?;
                merge(self, pair)?;
            }
        }
        Ok(Progress::Checkpoint)
    }

    #[inline]
    fn make_room(&mut self) -> Result<()> {
        self.map.make_room()?;
        self.aggregate.make_room()
    }

    #[inline]
    fn merge_value(&mut self, pair: ffi::Pair<'_>) -> Result<()> {
        let hash = self.hash(pair.key)?;
        if let Some(row) = self.map.find(hash, pair.key)? {
            self.aggregate.merge_value(row, pair.value)?;
        } else {
            self.aggregate.create(pair.value)?;
            self.map.push(hash, pair.key.to_owned().unbind());
        }
        if let Some(grouping) = &mut self.grouping {
            grouping.items += 1;
        }
        Ok(())
    }

    #[inline]
    fn merge_combiner(&mut self, pair: ffi::Pair<'_>) -> Result<()> {
        if self.grouping.is_some() {
            return self.merge_group(pair);
        }
        let hash = self.hash(pair.key)?;
        if let Some(row) = self.map.find(hash, pair.key)? {
            return self.aggregate.merge_combiner(row, pair.value);
        }
        self.aggregate.adopt(pair.value)?;
        self.map.push(hash, pair.key.to_owned().unbind());
        Ok(())
    }

    fn merge_group(&mut self, pair: ffi::Pair<'_>) -> Result<()> {
        let py = pair.key.py();
        let items = pair.value.len()?;
        let hash = self.hash(pair.key)?;
        let found = self.map.find(hash, pair.key)?;
        let Some(grouping) = &mut self.grouping else {
            return Ok(());
        };
        if let Some(on_disk) = &mut grouping.on_disk {
            let row = if let Some(row) = found {
                let pending = self.aggregate.combiners().get(row)?;
                ffi::append(pending.bind(py).cast().map_err(PyErr::from)?, &pair.value)?;
                row
            } else {
                let pending = PyList::new(py, [pair.value])?;
                on_disk.groups.push(DiskGroup::default());
                self.aggregate.adopt(pending.as_any().as_borrowed())?;
                self.map.push(hash, pair.key.to_owned().unbind());
                self.map.len() - 1
            };
            if let Some(group) = on_disk.groups.get_mut(row) {
                group.count += items;
            }
        } else if let Some(row) = found {
            self.aggregate.merge_combiner(row, pair.value)?;
        } else {
            self.aggregate.adopt(pair.value)?;
            self.map.push(hash, pair.key.to_owned().unbind());
        }
        grouping.items += items;
        Ok(())
    }

    #[inline]
    fn hash(&self, key: Borrowed<'_, '_, PyAny>) -> Result<u64> {
        // Python's hash of an int is the int: mixed, its bits serve the table and the partitions.
        Ok(self.mixer.hash_one(ffi::hash(key)?))
    }

    /// The key and the combiner in `row`, which stay there.
    #[inline]
    pub fn row(&self, py: Python<'_>, row: usize) -> Result<(Py<PyAny>, Py<PyAny>)> {
        let key = self.map.keys().get(row)?.clone_ref(py);
        Ok((key, self.aggregate.combiners().get(row)?.clone_ref(py)))
    }
}

/// Unpacks a record that is no tuple of two as Python's `for k, v in …` does.
#[cold]
fn unpack<'py>(record: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>> {
    let py = record.py();
    if let Ok(list) = record.cast_exact::<PyList>()
        && list.len() == 2
    {
        return Ok(PyTuple::new(py, list.iter())?.into_any());
    }
    // Python words its errors differently in each version, so Python unpacks what is left.
    Ok(py
        .import("ferroshuffle.shuffle")?
        .getattr("_unpack")?
        .call1((record,))?)
}

impl Spillable for ObjectTable {
    type Record = Py<PyAny>;

    fn fresh(&self) -> Self {
        let mut fresh = Self::new(self.grouping.is_some());
        fresh.aggregate.functions = Python::attach(|py| self.aggregate.functions.clone_ref(py));
        fresh
    }

    fn len(&self) -> usize {
        self.map.len()
    }

    fn hashes(&self) -> &[u64] {
        self.map.hashes()
    }

    fn heap_bytes(&self) -> usize {
        let items = self.grouping.as_ref().map_or(0, |grouping| grouping.items);
        self.map.heap_bytes() + self.aggregate.heap_bytes() + items * size_of::<usize>()
    }

    fn write_rows(&self, rows: &[u32], writer: &mut RunWriter<'_>) -> Result<()> {
        Python::attach(|py| {
            let mut batch = Batch::new(py);
            for &row in rows {
                let key = self.map.keys().get(row as usize)?.bind(py);
                let combiner = self.aggregate.combiners().get(row as usize)?.bind(py);
                match combiner.cast_exact::<PyList>() {
                    Ok(list) if self.grouping.is_some() && list.len() > GROUP_SLICE => {
                        for start in (0..list.len()).step_by(GROUP_SLICE) {
                            let slice = list.get_slice(start, start + GROUP_SLICE);
                            batch.add(key, slice.as_any(), writer)?;
                        }
                    }
                    _ => batch.add(key, combiner, writer)?,
                }
            }
            batch.write(writer)
        })
    }

    fn merge_block(&mut self, block: &[u8]) -> Result<()> {
        Python::attach(|py| {
            let (keys, combiners) = read_block(py, block)?;
            for (key, combiner) in keys.iter().zip(combiners.iter()) {
                self.make_room()?;
                self.merge_combiner(ffi::Pair {
                    key: key.as_borrowed(),
                    value: combiner.as_borrowed(),
                })?;
            }
            Ok(())
        })
    }

    fn merge_rows(&mut self, other: &Self, rows: &[u32]) -> Result<()> {
        Python::attach(|py| {
            for &row in rows {
                self.make_room()?;
                self.merge_combiner(ffi::Pair {
                    key: other.map.keys().get(row as usize)?.bind_borrowed(py),
                    value: other
                        .aggregate
                        .combiners()
                        .get(row as usize)?
                        .bind_borrowed(py),
                })?;
            }
            Ok(())
        })
    }

    fn forget(&mut self, rows: &[u32]) -> Result<()> {
        for &row in rows {
            drop(self.map.keys_mut().take(row as usize)?);
            drop(self.aggregate.combiners_mut().take(row as usize)?);
        }
        Ok(())
    }

    fn move_values_to_disk(&mut self, files: &Arc<SpillFiles>) -> Result<Option<Spilled>> {
        let Some(grouping) = &mut self.grouping else {
            return Ok(None);
        };
        let rows = self.map.len();
        let combiners = self.aggregate.combiners_mut();
        Python::attach(|py| {
            if grouping.on_disk.is_none() {
                let mut groups = Vec::new();
                for row in 0..rows {
                    let list = combiners.get(row)?.bind(py);
                    groups.push(DiskGroup {
                        blocks: Vec::new(),
                        count: list.len()?,
                    });
                    let pending = PyList::new(py, [list])?;
                    combiners.replace(row, pending.into_any().unbind());
                }
                grouping.on_disk = Some(DiskGroups {
                    files: Arc::clone(files),
                    groups,
                });
            }
            let Some(on_disk) = &mut grouping.on_disk else {
                return Ok(None);
            };
            let mut spilled = Spilled {
                runs: 1,
                ..Spilled::default()
            };
            for (row, group) in on_disk.groups.iter_mut().enumerate() {
                let pending = combiners
                    .get(row)?
                    .bind(py)
                    .cast::<PyList>()
                    .map_err(PyErr::from)?;
                if pending.is_empty() {
                    continue;
                }
                let written = external_list::write_values(pending, &on_disk.files)?;
                spilled.disk_bytes += written.iter().map(|block| block.len).sum::<u64>();
                spilled.records += written
                    .iter()
                    .map(|block| u64::from(block.rows))
                    .sum::<u64>();
                group.blocks.extend(written);
                let emptied = PyList::empty(py).into_any().unbind();
                combiners.replace(row, emptied);
            }
            spilled.memory_bytes = (grouping.items * size_of::<usize>()) as u64;
            grouping.items = 0;
            super::give_back(py);
            Ok(Some(spilled))
        })
    }

    fn has_values_on_disk(&self) -> bool {
        self.grouping
            .as_ref()
            .is_some_and(|grouping| grouping.on_disk.is_some())
    }

    fn take_record(&mut self, row: usize) -> Result<Py<PyAny>> {
        Python::attach(|py| {
            let key = self.map.keys_mut().take(row)?;
            let mut combiner = self.aggregate.combiners_mut().take(row)?;
            if let Some(on_disk) = self
                .grouping
                .as_mut()
                .and_then(|groups| groups.on_disk.as_mut())
                && let Some(group) = on_disk.groups.get_mut(row)
            {
                let blocks = std::mem::take(&mut group.blocks);
                let store = ValueStore::with_blocks(Arc::clone(&on_disk.files), blocks);
                combiner = py
                    .import("ferroshuffle.shuffle")?
                    .getattr("ExternalListOfList")?
                    .call_method1("_of_store", (store, combiner, group.count))?
                    .unbind();
            }
            Ok(ffi::new_pair(py, key, combiner)?.unbind())
        })
    }

    fn clear(&mut self) {
        self.map.clear();
        self.aggregate.clear();
        if let Some(grouping) = &mut self.grouping {
            *grouping = Grouping::default();
        }
    }

    fn give_back(&self) {
        Python::attach(super::give_back);
    }
}

/// Records on their way into a block.
struct Batch<'py> {
    keys: Bound<'py, PyList>,
    combiners: Bound<'py, PyList>,
    weight: usize,
    /// Weight at which a block is full, by what the blocks before came to.
    full: usize,
    key_serializer: AutoSerializer,
    combiner_serializer: AutoSerializer,
    encoder: BlockEncoder,
    key_bytes: Vec<u8>,
    combiner_bytes: Vec<u8>,
}

impl<'py> Batch<'py> {
    fn new(py: Python<'py>) -> Self {
        Self {
            keys: PyList::empty(py),
            combiners: PyList::empty(py),
            weight: 0,
            full: FIRST_BLOCK_WEIGHT,
            key_serializer: AutoSerializer::default(),
            combiner_serializer: AutoSerializer::default(),
            encoder: BlockEncoder::new(),
            key_bytes: Vec::new(),
            combiner_bytes: Vec::new(),
        }
    }

    fn add(
        &mut self,
        key: &Bound<'py, PyAny>,
        combiner: &Bound<'py, PyAny>,
        writer: &mut RunWriter<'_>,
    ) -> Result<()> {
        ffi::append(&self.keys, key)?;
        ffi::append(&self.combiners, combiner)?;
        self.weight += external_list::weight(combiner);
        if self.weight >= self.full {
            self.write(writer)
        } else {
            Ok(())
        }
    }

    fn write(&mut self, writer: &mut RunWriter<'_>) -> Result<()> {
        let py = self.keys.py();
        let rows = self.keys.len();
        if rows == 0 {
            return Ok(());
        }
        self.key_bytes.clear();
        self.combiner_bytes.clear();
        self.key_serializer
            .dumps(self.keys.as_any(), &mut self.key_bytes)
            .and_then(|()| {
                self.combiner_serializer
                    .dumps(self.combiners.as_any(), &mut self.combiner_bytes)
            })
            .map_err(|error| name_the_record(&self.keys, &self.combiners, error))?;
        let columns = [
            (ColumnKind::Object, self.key_bytes.as_slice()),
            (ColumnKind::Object, self.combiner_bytes.as_slice()),
        ];
        let rows = u32::try_from(rows)
            .map_err(|_| Error::Usage("a block holds at most 2**32 - 1 records".to_owned()))?;
        let encoder = &mut self.encoder;
        py.detach(|| writer.push(encoder.encode(rows, &columns)?, rows))?;
        let bytes = self.key_bytes.len() + self.combiner_bytes.len();
        self.full = external_list::next_full(self.weight, bytes, BLOCK_BYTES);
        self.weight = 0;
        self.keys = PyList::empty(py);
        self.combiners = PyList::empty(py);
        Ok(())
    }
}

/// Puts the key of the record that cannot be serialized into the error.
#[cold]
fn name_the_record(keys: &Bound<'_, PyList>, combiners: &Bound<'_, PyList>, error: PyErr) -> PyErr {
    let py = keys.py();
    for (key, combiner) in keys.iter().zip(combiners.iter()) {
        let mut bytes = Vec::new();
        for (object, what) in [(&key, "key"), (&combiner, "value of key")] {
            bytes.clear();
            if let Err(culprit) = AutoSerializer::default().dumps(object, &mut bytes) {
                let note = match key.repr() {
                    Ok(repr) => format!("raised while spilling the {what} {repr}"),
                    Err(_) => format!("raised while spilling a {what}"),
                };
                return serializer::with_note(py, culprit, &note);
            }
        }
    }
    error
}

/// The keys and the combiners of an encoded block.
fn read_block<'py>(
    py: Python<'py>,
    encoded: &[u8],
) -> Result<(Bound<'py, PyList>, Bound<'py, PyList>)> {
    let place = || "a spilled block".to_owned();
    let block = py.detach(|| block::decode(encoded, &place))?;
    let corrupt = |reason: &str| Error::CorruptBlock {
        place: place(),
        reason: reason.to_owned(),
    };
    let [(ColumnKind::Object, keys), (ColumnKind::Object, combiners)] = block.columns.as_slice()
    else {
        return Err(corrupt(
            "it does not hold a column of keys and one of combiners",
        ));
    };
    let read = |range: &std::ops::Range<usize>| -> Result<Bound<'py, PyList>> {
        let bytes = block
            .payload
            .get(range.clone())
            .ok_or_else(|| corrupt("a column is cut"))?;
        let list = serializer::loads(py, bytes)?
            .cast_into::<PyList>()
            .map_err(PyErr::from)?;
        if list.len() == block.rows as usize {
            Ok(list)
        } else {
            Err(corrupt("a column is shorter or longer than the block"))
        }
    };
    Ok((read(keys)?, read(combiners)?))
}
