//! [`ObjectTable`]: any keys, any combiners, merged by the user's functions.

use std::sync::Arc;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use super::external_list::{self, FIRST_BLOCK_WEIGHT, ValueStore};
use super::object_block::{self, RecordWriter};
use super::{ffi, typed};
use crate::aggregate::callback::{Callback, Functions};
use crate::aggregate::{Aggregate, Records};
use crate::column::KeyColumn;
use crate::column::codec;
use crate::column::object::ObjectColumn;
use crate::column::typed::TypedColumn;
use crate::error::{Error, Result};
use crate::map::{AppendOnlyMap, Found, KeyHash, Vacant};
use crate::memory;
use crate::metrics::{Counters, Sampler, Spilled};
use crate::spill::block::Block;
use crate::spill::layout::Layout;
use crate::spill::run::RunWriter;
use crate::spill::spill_file::{BlockAddress, SpillFiles};

/// Rows of a partition lie far apart: this many ahead are asked of memory before they are needed.
const PREFETCH: usize = 12;

/// Most items of a group that are written as one record, or as one value of a list of lists.
pub const SLICE_ITEMS: usize = 4096;

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

/// Table of Python keys and combiners.
pub struct ObjectTable {
    map: AppendOnlyMap<ObjectColumn>,
    aggregate: Callback,
    /// Combiners are lists of values: they may be cut where they are written, and kept on disk.
    grouping: Option<Grouping>,
    sampler: Sampler,
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
            sampler: Sampler::default(),
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
        kind: Records,
        records: usize,
        counters: &Counters,
    ) -> Result<Progress> {
        let mut merged = 0;
        let progress = match kind {
            Records::Values => {
                self.merge_records(iterator, records, counters, &mut merged, |table, pair| {
                    table.merge_value(pair, key_hash(pair.key)?)
                })
            }
            Records::Combiners => {
                self.merge_records(iterator, records, counters, &mut merged, |table, pair| {
                    table.merge_combiner(pair, key_hash(pair.key)?)
                })
            }
        };
        counters.called(kind, merged);
        progress
    }

    /// Merges combiners that are typed.
    fn merge_typed(
        &mut self,
        py: Python<'_>,
        keys: &TypedColumn,
        combiners: &TypedColumn,
    ) -> Result<()> {
        let mut hashes = memory::try_with_capacity(keys.len(), "the hashes of a block")?;
        for row in 0..keys.len() {
            let hash = typed::python_hash(py, keys, row)?;
            let is_own_hash =
                matches!(keys, TypedColumn::Int(ints) if ints.get(row) == Some(&hash));
            let hash = KeyHash::of_python(hash, is_own_hash);
            self.map.prefetch(hash);
            hashes.push(hash);
        }
        for hash in &hashes {
            if let Some(row) = self.map.start(*hash).row() {
                self.prefetch(row);
            }
        }
        for (row, hash) in hashes.into_iter().enumerate() {
            self.make_room()?;
            let key = typed::get(py, keys, row)?;
            let value = typed::get(py, combiners, row)?;
            let pair = ffi::Pair {
                key: key.as_borrowed(),
                value: value.as_borrowed(),
            };
            self.merge_combiner(pair, hash)?;
        }
        Ok(())
    }

    #[inline]
    fn merge_records(
        &mut self,
        iterator: &Bound<'_, PyAny>,
        records: usize,
        counters: &Counters,
        merged: &mut usize,
        merge: impl Fn(&mut Self, ffi::Pair<'_>) -> Result<()>,
    ) -> Result<Progress> {
        let mut sampler = self.sampler;
        let mut merge = |table: &mut Self, pair: ffi::Pair<'_>| {
            sampler.time(&counters.aggregate_time, || merge(table, pair))?;
            table.sampler = sampler;
            *merged += 1;
            Ok::<_, Error>(())
        };
        // As many rows had room for one more when there was a look.
        let mut roomy = usize::MAX;
        for _ in 0..records {
            if self.rows() != roomy {
                match self.make_room() {
                    Err(Error::OutOfMemory { .. }) if self.rows() > 0 => {
                        return Ok(Progress::OutOfMemory);
                    }
                    other => other?,
                }
                roomy = self.rows();
            }
            let Some(record) = ffi::next(iterator)? else {
                return Ok(Progress::Exhausted);
            };
            if let Some(pair) = ffi::pair(&record) {
                merge(self, pair)?;
            } else {
                let record = unpack(&record)?;
                merge(self, pair_of(&record)?)?;
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
    fn merge_value(&mut self, pair: ffi::Pair<'_>, hash: KeyHash) -> Result<()> {
        match self.map.find(hash, pair.key)? {
            Found::Row(row) => self.aggregate.merge_value(row, pair.value)?,
            Found::Vacant(vacant) => {
                self.aggregate.create(pair.value)?;
                push_key(&mut self.map, pair.key, hash, vacant)?;
            }
        }
        if let Some(grouping) = &mut self.grouping {
            grouping.items += 1;
        }
        Ok(())
    }

    #[inline]
    fn merge_combiner(&mut self, pair: ffi::Pair<'_>, hash: KeyHash) -> Result<()> {
        if self.grouping.is_some() {
            return self.merge_group(pair, hash);
        }
        match self.map.find(hash, pair.key)? {
            Found::Row(row) => self.aggregate.merge_combiner(row, pair.value),
            Found::Vacant(vacant) => {
                self.aggregate.adopt(pair.value)?;
                push_key(&mut self.map, pair.key, hash, vacant)
            }
        }
    }

    /// Merges one record.
    pub fn merge_pair(&mut self, pair: ffi::Pair<'_>, kind: Records) -> Result<()> {
        self.make_room()?;
        let hash = key_hash(pair.key)?;
        match kind {
            Records::Values => self.merge_value(pair, hash),
            Records::Combiners => self.merge_combiner(pair, hash),
        }
    }

    /// Adds a row for a key that is not there yet.
    pub fn push(
        &mut self,
        key: Borrowed<'_, '_, PyAny>,
        combiner: Borrowed<'_, '_, PyAny>,
        hash: KeyHash,
    ) -> Result<()> {
        self.make_room()?;
        self.aggregate.adopt(combiner)?;
        let vacant = self.map.vacant(hash);
        push_key(&mut self.map, key, hash, vacant)
    }

    /// Adds a group whose values are in blocks, and a row for it, to a table of such groups.
    pub fn push_on_disk(
        &mut self,
        key: Borrowed<'_, '_, PyAny>,
        blocks: Vec<BlockAddress>,
        count: usize,
        files: &Arc<SpillFiles>,
    ) -> Result<()> {
        let pending = ffi::empty_list(key.py())?.into_any();
        self.push(key, pending.as_borrowed(), key_hash(key)?)?;
        let grouping = self.grouping.get_or_insert_default();
        let on_disk = grouping.on_disk.get_or_insert_with(|| DiskGroups {
            files: Arc::clone(files),
            groups: Vec::new(),
        });
        on_disk.groups.push(DiskGroup { blocks, count });
        Ok(())
    }

    /// Whether combiners are lists that are merged by joining them.
    pub fn is_grouping(&self) -> bool {
        self.grouping.is_some()
    }

    fn merge_group(&mut self, pair: ffi::Pair<'_>, hash: KeyHash) -> Result<()> {
        let py = pair.key.py();
        let items = pair.value.len()?;
        let found = self.map.find(hash, pair.key)?;
        let Some(grouping) = &mut self.grouping else {
            return Ok(());
        };
        if let Some(on_disk) = &mut grouping.on_disk {
            let row = match found {
                Found::Row(row) => {
                    let pending = self.aggregate.combiners().get(row)?;
                    ffi::append(pending.bind(py).cast().map_err(PyErr::from)?, &pair.value)?;
                    row
                }
                Found::Vacant(vacant) => {
                    let pending = ffi::new_list(py, [pair.value.to_owned()])?;
                    on_disk.groups.push(DiskGroup::default());
                    self.aggregate.adopt(pending.as_any().as_borrowed())?;
                    push_key(&mut self.map, pair.key, hash, vacant)?;
                    self.map.len() - 1
                }
            };
            if let Some(group) = on_disk.groups.get_mut(row) {
                group.count += items;
            }
        } else {
            match found {
                Found::Row(row) => self.aggregate.merge_combiner(row, pair.value)?,
                Found::Vacant(vacant) => {
                    self.aggregate.adopt(pair.value)?;
                    push_key(&mut self.map, pair.key, hash, vacant)?;
                }
            }
        }
        grouping.items += items;
        Ok(())
    }

    /// Asks memory for what is in `row`, which is needed soon.
    #[inline]
    fn prefetch(&self, row: usize) {
        KeyColumn::prefetch(self.map.keys(), row);
        KeyColumn::prefetch(self.aggregate.combiners(), row);
    }

    fn write_row<'py>(
        &self,
        py: Python<'py>,
        row: usize,
        records: &mut RecordWriter<'py>,
        writer: &mut RunWriter<'_>,
    ) -> Result<()> {
        let key = self.map.keys().get(row)?.bind(py);
        let combiner = self.aggregate.combiners().get(row)?.bind(py);
        if self.grouping.is_some() {
            let mut slices = Slices::of(combiner);
            while let Some((slice, weight)) = slices.next(records.full_weight())? {
                records.add(key.clone(), slice, weight, writer)?;
            }
            return Ok(());
        }
        let weight = external_list::weight(combiner);
        records.add(key.clone(), combiner.clone(), weight, writer)
    }

    /// The key and the combiner in `row`, which stay there.
    #[inline]
    pub fn row(&self, py: Python<'_>, row: usize) -> Result<(Py<PyAny>, Py<PyAny>)> {
        let (key, combiner) = self.row_of(py, row)?;
        Ok((key.to_owned().unbind(), combiner.to_owned().unbind()))
    }

    /// The same, borrowed.
    #[inline]
    pub fn row_of<'a, 'py>(
        &'a self,
        py: Python<'py>,
        row: usize,
    ) -> Result<(Borrowed<'a, 'py, PyAny>, Borrowed<'a, 'py, PyAny>)> {
        let key = self.map.keys().get(row)?.bind_borrowed(py);
        Ok((key, self.aggregate.combiners().get(row)?.bind_borrowed(py)))
    }
}

/// What a table hashes a key to.
#[inline]
pub fn key_hash(key: Borrowed<'_, '_, PyAny>) -> Result<KeyHash> {
    let (hash, is_own_hash) = ffi::hash(key)?;
    Ok(KeyHash::of_python(hash as i64, is_own_hash))
}

#[inline]
fn push_key(
    map: &mut AppendOnlyMap<ObjectColumn>,
    key: Borrowed<'_, '_, PyAny>,
    hash: KeyHash,
    vacant: Vacant,
) -> Result<()> {
    map.push(hash, vacant, |keys| {
        keys.push(key.to_owned().unbind());
        Ok(())
    })
}

/// A group on its way to disk, in slices that each fit well into a block.
struct Slices<'py> {
    group: Bound<'py, PyAny>,
    /// `None` at the end.
    start: Option<usize>,
}

impl<'py> Slices<'py> {
    fn of(group: &Bound<'py, PyAny>) -> Self {
        Self {
            group: group.clone(),
            start: Some(0),
        }
    }

    /// The next slice and its weight, which is not much more than `most` if it is more than one
    /// value. What is no list is handed out whole.
    fn next(&mut self, most: usize) -> Result<Option<(Bound<'py, PyAny>, usize)>> {
        let Some(start) = self.start.take() else {
            return Ok(None);
        };
        let Ok(list) = self.group.cast_exact::<PyList>() else {
            return Ok(Some((
                self.group.clone(),
                external_list::weight(&self.group),
            )));
        };
        let (mut end, mut weight) = (start, 0_usize);
        while weight < most
            && end - start < SLICE_ITEMS
            && let Some(value) = ffi::item(list, end)
        {
            // Owned, since weighing may run code of the user's, which may change the list.
            weight = weight.saturating_add(external_list::weight(&value.to_owned()));
            end += 1;
        }
        if end < list.len() {
            self.start = Some(end);
        } else if start == 0 {
            return Ok(Some((self.group.clone(), weight)));
        }
        Ok(Some((ffi::slice(list, start, end)?.into_any(), weight)))
    }
}

/// The key and the value of what [`unpack`] gave.
pub fn pair_of<'a>(unpacked: &'a Bound<'_, PyAny>) -> Result<ffi::Pair<'a>> {
    ffi::pair(unpacked)
        .ok_or_else(|| Error::Usage("a record did not unpack into a key and a value".to_owned()))
}

/// Unpacks a record that is no tuple of two as Python's `for k, v in …` does.
#[cold]
pub fn unpack<'py>(record: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>> {
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

/// What [`Table`](super::table::Table) asks of it as [`Spillable`](crate::spill::external_table::Spillable).
impl ObjectTable {
    /// An empty table that merges as this one does.
    #[must_use]
    pub fn fresh(&self) -> Self {
        let mut fresh = Self::new(self.grouping.is_some());
        fresh.aggregate.functions = Python::attach(|py| self.aggregate.functions.clone_ref(py));
        fresh
    }

    /// Number of rows, one for each key.
    #[inline]
    pub fn rows(&self) -> usize {
        self.map.len()
    }

    /// Bytes that the table grows by, all at once, when so many keys come.
    pub fn growth_for(&self, keys: usize) -> usize {
        self.map.growth_for(keys)
    }

    /// The bits of the hash of the key in `row`.
    pub fn hash(&self, row: usize) -> u64 {
        self.map.hash(row).unwrap_or(0)
    }

    /// Bytes that the table is known to hold.
    pub fn heap_bytes(&self) -> usize {
        let items = self.grouping.as_ref().map_or(0, |grouping| grouping.items);
        self.map.heap_bytes() + self.aggregate.heap_bytes() + items * size_of::<usize>()
    }

    /// Writes all rows as blocks, partition by partition.
    pub fn write(&self, layout: &Layout, writer: &mut RunWriter<'_>) -> Result<()> {
        Python::attach(|py| {
            let mut records = RecordWriter::new(py);
            for partition in 0..layout.partitions() {
                let rows = layout.rows(partition);
                for (at, &row) in rows.iter().enumerate() {
                    if let Some(&ahead) = rows.get(at + PREFETCH) {
                        self.prefetch(ahead as usize);
                    }
                    self.write_row(py, row as usize, &mut records, writer)?;
                }
                records.flush(writer)?;
                writer.end_partition();
            }
            Ok(())
        })
    }

    /// Merges the combiners of a block.
    pub fn merge_block(
        &mut self,
        py: Python<'_>,
        block: &Block,
        place: &dyn Fn() -> String,
    ) -> Result<()> {
        if let Some((keys, combiners)) = codec::read_two(block, place)? {
            return self.merge_typed(py, &keys, &combiners);
        }
        let (keys, combiners) = object_block::read(py, block, place)?;
        let mut hashes = memory::try_with_capacity(keys.len(), "the hashes of a block")?;
        for key in &keys {
            let hash = key_hash(key.as_borrowed())?;
            self.map.prefetch(hash);
            hashes.push(hash);
        }
        for ((key, combiner), hash) in keys.iter().zip(&combiners).zip(hashes) {
            self.make_room()?;
            let key = key.as_borrowed();
            let value = combiner.as_borrowed();
            self.merge_combiner(ffi::Pair { key, value }, hash)?;
        }
        Ok(())
    }

    /// Merges `rows` of another table, which keeps them.
    pub fn merge_rows(&mut self, py: Python<'_>, other: &Self, rows: &[u32]) -> Result<()> {
        for (at, &row) in rows.iter().enumerate() {
            if let Some(&ahead) = rows.get(at + PREFETCH) {
                other.prefetch(ahead as usize);
            }
            let (key, value) = other.row_of(py, row as usize)?;
            self.merge_pair(ffi::Pair { key, value }, Records::Combiners)?;
        }
        Ok(())
    }

    /// Lets go of rows that were merged elsewhere; they are not asked for again.
    pub fn forget(&mut self, rows: &[u32]) -> Result<()> {
        for &row in rows {
            drop(self.map.keys_mut().take(row as usize)?);
            drop(self.aggregate.combiners_mut().take(row as usize)?);
        }
        Ok(())
    }

    /// Moves the values of groups to `files`; `None` where combiners are none.
    pub fn move_values_to_disk(&mut self, files: &Arc<SpillFiles>) -> Result<Option<Spilled>> {
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
                    let pending = ffi::empty_list(py)?;
                    let mut slices = Slices::of(list);
                    while let Some((slice, _)) = slices.next(FIRST_BLOCK_WEIGHT)? {
                        ffi::append(&pending, &slice)?;
                    }
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
                let written = external_list::write_values(pending, None, &on_disk.files)?;
                spilled.disk_bytes += written.iter().map(|block| block.len).sum::<u64>();
                spilled.records += written
                    .iter()
                    .map(|block| u64::from(block.rows))
                    .sum::<u64>();
                group.blocks.extend(written);
                let emptied = ffi::empty_list(py)?.into_any().unbind();
                combiners.replace(row, emptied);
            }
            spilled.memory_bytes = (grouping.items * size_of::<usize>()) as u64;
            grouping.items = 0;
            super::give_back(py);
            Ok(Some(spilled))
        })
    }

    /// Whether values were moved to disk.
    pub fn has_values_on_disk(&self) -> bool {
        self.grouping
            .as_ref()
            .is_some_and(|grouping| grouping.on_disk.is_some())
    }

    /// Hands a row out; each row once.
    pub fn take_record(&mut self, py: Python<'_>, row: usize) -> Result<Py<PyAny>> {
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
    }

    /// Forgets everything and frees its memory.
    pub fn clear(&mut self) {
        self.map.clear();
        self.aggregate.clear();
        self.grouping = self.grouping.is_some().then(Grouping::default);
    }

    /// Makes room for `rows` rows, where there is as much memory.
    pub fn reserve(&mut self, rows: usize) {
        self.map.reserve(rows);
        self.aggregate.reserve(rows);
    }

    /// Forgets everything and keeps the memory, for as much again.
    pub fn reset(&mut self) {
        self.map.reset();
        self.aggregate.reset();
        self.grouping = self.grouping.is_some().then(Grouping::default);
    }
}
