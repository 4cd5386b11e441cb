//! [`Table`]: typed where keys and combiners are, of objects where they are not.

use std::sync::Arc;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::ffi;
use super::object_block;
use super::object_table::{ObjectTable, Progress, pair_of};
use super::typed_table::{Outcome, TypedTable};
use crate::aggregate::Records;
use crate::aggregate::callback::Functions;
use crate::aggregate::plan::Plan;
use crate::error::Result;
use crate::metrics::Spilled;
use crate::spill::block;
use crate::spill::external_table::Spillable;
use crate::spill::layout::Layout;
use crate::spill::run::RunWriter;
use crate::spill::spill_file::SpillFiles;

/// The table of a merger.
///
/// It starts with objects, which suit any record, becomes typed by [`narrow`](Self::narrow), and is
/// widened, once and for all, by the first record that does not fit.
pub struct Table {
    /// What there is where the table is not typed, and the functions for when it is widened.
    objects: ObjectTable,
    typed: Option<Box<TypedTable>>,
    /// By what an empty table becomes typed when its first record fits.
    plan: Option<Plan>,
}

impl Table {
    /// An empty table. With `is_grouping`, combiners are lists that are merged by joining them.
    pub fn new(is_grouping: bool) -> Self {
        Self {
            objects: ObjectTable::new(is_grouping),
            typed: None,
            plan: None,
        }
    }

    /// The functions that records are merged by.
    pub fn functions_mut(&mut self) -> &mut Functions {
        self.objects.functions_mut()
    }

    /// Shows every reference to Python's garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        self.objects.traverse(visit)
    }

    /// Merges by `plan` from now on, where what is in the table, of `iterator`, allows it.
    pub fn narrow(&mut self, iterator: &Bound<'_, PyAny>, plan: Plan) -> Result<()> {
        if self.objects.has_values_on_disk() {
            return Ok(());
        }
        if self.objects.rows() == 0 {
            self.plan = Some(plan);
            return Ok(());
        }
        if let Some(typed) = TypedTable::of(iterator, &self.objects, plan)? {
            self.typed = Some(Box::new(typed));
            self.objects.clear();
        }
        Ok(())
    }

    /// Puts what is typed into a table of objects.
    pub fn widen(&mut self, py: Python<'_>) -> Result<()> {
        self.plan = None;
        if let Some(typed) = &mut self.typed {
            typed.widen_into(py, &mut self.objects)?;
            self.typed = None;
        }
        Ok(())
    }

    /// Merges records that were read, and could not be merged for want of memory.
    pub fn settle(&mut self) -> Result<()> {
        self.typed
            .as_mut()
            .map_or(Ok(()), |typed| typed.merge_batch())
    }

    /// Merges up to `records` records of `iterator`.
    pub fn merge(
        &mut self,
        iterator: &Bound<'_, PyAny>,
        kind: Records,
        records: usize,
    ) -> Result<Progress> {
        if let Some(plan) = self.plan.take() {
            let Some(record) = ffi::next(iterator)? else {
                self.plan = Some(plan);
                return Ok(Progress::Exhausted);
            };
            match TypedTable::for_record(plan, kind, record, iterator)? {
                Ok(typed) => self.typed = Some(Box::new(typed)),
                Err(record) => self.objects.merge_pair(pair_of(&record)?, kind)?,
            }
        }
        let Some(typed) = &mut self.typed else {
            return self.objects.merge(iterator, kind, records);
        };
        let misfit = match typed.merge(iterator, kind, records)? {
            Outcome::Progress(progress) => return Ok(progress),
            Outcome::Misfit(record) => record,
        };
        self.widen(iterator.py())?;
        self.objects.merge_pair(pair_of(&misfit)?, kind)?;
        Ok(Progress::Checkpoint)
    }

    /// Bytes that the table grows by, all at once, when so many keys come.
    pub fn growth_for(&self, keys: usize) -> usize {
        match &self.typed {
            Some(typed) => typed.growth_for(keys),
            None => self.objects.growth_for(keys),
        }
    }

    /// The key and the combiner in `row`, which stay there.
    #[inline]
    pub fn row(&self, py: Python<'_>, row: usize) -> Result<(Py<PyAny>, Py<PyAny>)> {
        if let Some(typed) = &self.typed {
            let (key, combiner) = typed.record(py, row)?;
            return Ok((key.unbind(), combiner.unbind()));
        }
        self.objects.row(py, row)
    }
}

impl Spillable for Table {
    type Record = Py<PyAny>;

    fn fresh(&self) -> Self {
        Self {
            objects: self.objects.fresh(),
            typed: self.typed.as_ref().map(|typed| Box::new(typed.fresh())),
            plan: self.plan.clone(),
        }
    }

    fn len(&self) -> usize {
        match &self.typed {
            Some(typed) => typed.rows(),
            None => self.objects.rows(),
        }
    }

    fn hash(&self, row: usize) -> u64 {
        match &self.typed {
            Some(typed) => typed.hash(row),
            None => self.objects.hash(row),
        }
    }

    fn heap_bytes(&self) -> usize {
        let typed = self.typed.as_ref().map_or(0, |typed| typed.heap_bytes());
        typed + self.objects.heap_bytes()
    }

    fn write(&self, layout: &Layout, writer: &mut RunWriter<'_>) -> Result<()> {
        match &self.typed {
            Some(typed) => typed.write(layout, writer),
            None => self.objects.write(layout, writer),
        }
    }

    fn merge_block(&mut self, encoded: &[u8]) -> Result<()> {
        let place = || "a spilled block".to_owned();
        Python::attach(|py| {
            let block = py.detach(|| block::decode(encoded, &place))?;
            if let Some(typed) = &mut self.typed {
                if typed.merge_block(&block, &place)? {
                    return Ok(());
                }
                self.widen(py)?;
            }
            let (keys, combiners) = object_block::read(py, &block, &place)?;
            self.objects.merge_columns(&keys, &combiners)
        })
    }

    fn merge_rows(&mut self, other: &Self, rows: &[u32]) -> Result<()> {
        Python::attach(|py| {
            if let (Some(typed), Some(other)) = (&mut self.typed, &other.typed)
                && typed.merge_rows(other, rows)?
            {
                return Ok(());
            }
            if rows.is_empty() {
                return Ok(());
            }
            self.widen(py)?;
            match &other.typed {
                None => self.objects.merge_rows(py, &other.objects, rows),
                Some(other) => rows.iter().try_for_each(|&row| {
                    let (key, combiner) = other.record(py, row as usize)?;
                    let pair = ffi::Pair {
                        key: key.as_borrowed(),
                        value: combiner.as_borrowed(),
                    };
                    self.objects.merge_pair(pair, Records::Combiners)
                }),
            }
        })
    }

    fn forget(&mut self, rows: &[u32]) -> Result<()> {
        match &self.typed {
            // Typed rows are freed as a whole.
            Some(_) => Ok(()),
            None => self.objects.forget(rows),
        }
    }

    fn move_values_to_disk(&mut self, files: &Arc<SpillFiles>) -> Result<Option<Spilled>> {
        let Some(typed) = &self.typed else {
            return self.objects.move_values_to_disk(files);
        };
        if !self.objects.is_grouping() {
            return Ok(None);
        }
        let (memory_bytes, disk_bytes) = (self.heap_bytes() as u64, files.disk_bytes());
        let objects = &mut self.objects;
        let moved = Python::attach(|py| typed.move_lists_to_disk(py, files, objects));
        if !matches!(moved, Ok(true)) {
            self.objects.clear();
            return moved.map(|_| None);
        }
        self.typed = None;
        crate::memory::give_back();
        Ok(Some(Spilled {
            memory_bytes,
            disk_bytes: files.disk_bytes().saturating_sub(disk_bytes),
            runs: 1,
            records: 0,
        }))
    }

    fn has_values_on_disk(&self) -> bool {
        self.objects.has_values_on_disk()
    }

    fn take_record(&mut self, row: usize) -> Result<Py<PyAny>> {
        Python::attach(|py| {
            let Some(typed) = &self.typed else {
                return self.objects.take_record(py, row);
            };
            let (key, combiner) = typed.record(py, row)?;
            Ok(ffi::new_pair(py, key.unbind(), combiner.unbind())?.unbind())
        })
    }

    fn clear(&mut self) {
        self.objects.clear();
        if let Some(typed) = &mut self.typed {
            typed.clear();
        }
    }

    fn reserve(&mut self, rows: usize) {
        // Beside typed rows an index for as many, all zeros, would be much of what was freed.
        if self.typed.is_none() {
            self.objects.reserve(rows);
        }
    }

    fn reset(&mut self) {
        self.objects.reset();
        if let Some(typed) = &mut self.typed {
            typed.reset();
        }
    }

    fn give_back(&self) {
        match &self.typed {
            Some(_) => crate::memory::give_back(),
            None => Python::attach(super::give_back),
        }
    }
}
