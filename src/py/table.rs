//! [`Table`]: typed where keys and combiners are, of objects where they are not.

use std::sync::Arc;

use pyo3::exceptions::PyBaseException;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::batch::Rest;
use super::handover::{Form, Handed};
use super::object_table::{ObjectTable, Progress, pair_of};
use super::typed_table::{Merged, Outcome, TypedTable, as_pair};
use super::{ffi, typed};
use crate::aggregate::Records;
use crate::aggregate::callback::Functions;
use crate::aggregate::plan::Plan;
use crate::error::{Error, Result};
use crate::metrics::{Counters, Spilled};
use crate::spill::block;
use crate::spill::external_table::{Position, Spillable};
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
    /// By what the table becomes typed with the next record, where it can.
    plan: Option<Plan>,
    /// A record that did not fit, as a tuple of two, and that is not merged yet.
    misfit: Option<(Py<PyAny>, Records)>,
    /// Records before that one, which are to be merged as objects.
    rest: Option<Rest>,
    /// What was read behind a record that its function failed for.
    behind: Option<Box<Behind>>,
    counters: Arc<Counters>,
}

/// What was read of an iterator that, had each record been merged before the next one was asked
/// for, would still be in it. Who goes on with that iterator finds it.
struct Behind {
    iterator: Py<PyAny>,
    rest: Option<Rest>,
    misfit: Option<(Py<PyAny>, Records)>,
    /// What reading ended with. As an object, so that the garbage collector sees what its traceback
    /// holds.
    error: Option<Py<PyBaseException>>,
}

const BEYOND_64_BITS: &str = "an int beyond 64 bits was computed";

impl Table {
    /// An empty table. With `is_grouping`, combiners are lists that are merged by joining them.
    pub fn new(is_grouping: bool, counters: Arc<Counters>) -> Self {
        Self {
            counters,
            objects: ObjectTable::new(is_grouping),
            typed: None,
            plan: None,
            misfit: None,
            rest: None,
            behind: None,
        }
    }

    /// What is counted of the records that go through it.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The functions that records are merged by.
    pub fn functions_mut(&mut self) -> &mut Functions {
        self.objects.functions_mut()
    }

    /// Shows every reference to Python's garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        if let Some(behind) = &self.behind {
            visit.call(&behind.iterator)?;
            visit.call(&behind.error)?;
        }
        let behind = self
            .behind
            .as_ref()
            .and_then(|behind| behind.misfit.as_ref());
        for (record, _) in self.misfit.iter().chain(behind) {
            visit.call(record)?;
        }
        self.objects.traverse(visit)
    }

    /// Merges by `plan` from the next record on, where what is in the table allows it.
    pub fn narrow(&mut self, plan: Plan) {
        if self.typed.is_none() && !self.objects.has_values_on_disk() {
            self.plan = Some(plan);
        }
    }

    /// Puts what is typed into a table of objects, for that cause. Where that fails, it stays as
    /// it was.
    pub fn widen(&mut self, py: Python<'_>, cause: impl FnOnce() -> String) -> Result<()> {
        self.plan = None;
        let Some(typed) = &mut self.typed else {
            return Ok(());
        };
        typed.merge_counted(&self.counters)?;
        if let Err(error) = typed.widen_into(py, &mut self.objects) {
            self.objects.clear();
            return Err(error);
        }
        if let Some(rest) = typed.take_rest() {
            self.rest = Some(rest);
        }
        self.typed = None;
        self.counters.widened(cause);
        Ok(())
    }

    /// Merges, as objects, the records from one on at which an expression has stopped.
    fn merge_rest(&mut self, py: Python<'_>) -> Result<()> {
        while let Some(rest) = &mut self.rest {
            let Some(record) = rest.first(py)? else {
                self.rest = None;
                break;
            };
            let records = rest.records;
            let merged = self.objects.merge_pair(pair_of(&record)?, records);
            // A record that its function fails for is not merged again.
            if !matches!(merged, Err(Error::OutOfMemory { .. })) {
                rest.advance();
            }
            merged?;
            self.counters.called(records, 1);
        }
        Ok(())
    }

    /// Merges a combiner in a table of objects.
    fn merge_combiner(
        &mut self,
        key: &Bound<'_, PyAny>,
        combiner: &Bound<'_, PyAny>,
    ) -> Result<()> {
        let pair = ffi::Pair {
            key: key.as_borrowed(),
            value: combiner.as_borrowed(),
        };
        self.objects.merge_pair(pair, Records::Combiners)
    }

    /// Becomes a table of objects, and merges what could not be merged over columns.
    fn merge_all_but(&mut self, py: Python<'_>, rest: Rest) -> Result<()> {
        self.rest = Some(rest);
        self.widen(py, || BEYOND_64_BITS.to_owned())?;
        self.merge_rest(py)
    }

    /// Merges records that were read, and could not be merged for want of memory.
    pub fn settle(&mut self, py: Python<'_>) -> Result<()> {
        let settled = self.merge_read(py);
        if !matches!(settled, Ok(()) | Err(Error::OutOfMemory { .. })) {
            self.rest = None;
            self.misfit = None;
        }
        settled
    }

    /// Merges records that were read of `iterator`, and then fails with what reading ended with,
    /// if it did with an error.
    fn settle_before(&mut self, iterator: &Bound<'_, PyAny>, error: Option<Error>) -> Result<()> {
        let Err(first) = self.merge_read(iterator.py()) else {
            return error.map_or(Ok(()), Err);
        };
        let (rest, misfit) = match first {
            Error::OutOfMemory { .. } => (None, None),
            _ => (self.rest.take(), self.misfit.take()),
        };
        self.behind = Some(Box::new(Behind {
            iterator: iterator.clone().unbind(),
            rest,
            misfit,
            error: error.map(|error| PyErr::from(error).into_value(iterator.py())),
        }));
        Err(first)
    }

    /// What reading `iterator` ended with, behind a record that its function failed for; the other
    /// records behind that one are the next to be merged.
    fn go_on_with(&mut self, iterator: &Bound<'_, PyAny>, kind: Records) -> Option<Error> {
        let of_this = |behind: &mut Box<Behind>| behind.iterator.is(iterator);
        let behind = self.behind.take_if(of_this)?;
        if let Some(mut rest) = behind.rest {
            rest.records = kind;
            self.rest = Some(rest);
        }
        if let Some((record, _)) = behind.misfit {
            self.misfit = Some((record, kind));
        }
        let error = behind.error?.into_bound(iterator.py());
        Some(PyErr::from_value(error.into_any()).into())
    }

    /// Merges records that were read. Where a function fails for one, those behind it stay.
    fn merge_read(&mut self, py: Python<'_>) -> Result<()> {
        if let Some(typed) = &mut self.typed {
            typed.merge_counted(&self.counters)?;
            if typed.is_stopped() || self.rest.is_some() {
                self.widen(py, || BEYOND_64_BITS.to_owned())?;
            }
        }
        self.merge_rest(py)?;
        if let Some((record, _)) = &self.misfit {
            let record = record.clone_ref(py).into_bound(py);
            let cause = match &self.typed {
                Some(typed) => typed.misfit(&record)?,
                None => String::new(),
            };
            self.widen(py, || cause)?;
        }
        let Some((record, kind)) = self.misfit.take() else {
            return Ok(());
        };
        let merged = self.objects.merge_pair(pair_of(record.bind(py))?, kind);
        if matches!(merged, Err(Error::OutOfMemory { .. })) {
            self.misfit = Some((record, kind));
        } else {
            self.counters.called(kind, 1);
        }
        merged
    }

    /// Merges up to `records` records of `iterator`.
    pub fn merge(
        &mut self,
        iterator: &Bound<'_, PyAny>,
        kind: Records,
        records: usize,
    ) -> Result<Progress> {
        match self.merge_some(iterator, kind, records) {
            Err(Error::OutOfMemory { .. })
                if (self.typed.is_some()
                    || self.misfit.is_some()
                    || self.rest.is_some()
                    || self.behind.is_some())
                    && !self.is_empty() =>
            {
                Ok(Progress::OutOfMemory)
            }
            progress => progress,
        }
    }

    fn merge_some(
        &mut self,
        iterator: &Bound<'_, PyAny>,
        kind: Records,
        records: usize,
    ) -> Result<Progress> {
        let py = iterator.py();
        let error = self.go_on_with(iterator, kind);
        self.settle_before(iterator, error)?;
        if self
            .typed
            .as_ref()
            .is_some_and(|typed| typed.is_read_too_often())
        {
            self.widen(py, || {
                "lists that are read and added to by turns".to_owned()
            })?;
        }
        if self.plan.is_some() {
            // What the iterator has held of the record before, it holds no more.
            let Some(record) = ffi::next(iterator)? else {
                return Ok(Progress::Exhausted);
            };
            let record = as_pair(record)?;
            self.start_typed(&record)?;
            let misfit = match &mut self.typed {
                Some(typed) => typed.offer_first(record, kind, iterator)?,
                None => Some(record),
            };
            if let Some(record) = misfit {
                return Ok(self.set_aside(&record, kind));
            }
        }
        let Some(typed) = &mut self.typed else {
            return self.objects.merge(iterator, kind, records, &self.counters);
        };
        let error = match typed.merge(iterator, kind, records, &self.counters) {
            Ok(Outcome::Progress(Progress::Exhausted)) => None,
            Ok(Outcome::Progress(progress)) => return Ok(progress),
            Ok(Outcome::Misfit(record)) => return Ok(self.set_aside(&record, kind)),
            // As with a misfit, the caller makes room first, where it has to.
            Ok(Outcome::Stopped) => return Ok(Progress::Checkpoint),
            Err(error @ Error::OutOfMemory { .. }) => return Err(error),
            Err(error) => Some(error),
        };
        self.settle_before(iterator, error)?;
        Ok(Progress::Exhausted)
    }

    /// Keeps a record that did not fit until the next call, before which the caller makes room for
    /// the wider table, where it has to.
    fn set_aside(&mut self, record: &Bound<'_, PyAny>, kind: Records) -> Progress {
        self.misfit = Some((record.clone().unbind(), kind));
        Progress::Checkpoint
    }

    /// Becomes typed by the plan, where there is one that holds for what is in the table.
    fn start_typed(&mut self, record: &Bound<'_, PyAny>) -> Result<()> {
        let Some(plan) = self.plan.take() else {
            return Ok(());
        };
        let typed = if self.objects.rows() == 0 {
            TypedTable::for_record(plan, record)
        } else {
            TypedTable::of(record.py(), &self.objects, plan)
        };
        match typed {
            Ok(Some(typed)) => {
                self.objects.clear();
                self.typed = Some(Box::new(typed));
                Ok(())
            }
            Ok(None) => {
                let key = typed::of_type(pair_of(record)?.key);
                self.counters
                    .widened(|| format!("key is {key}, or one before is not typed"));
                Ok(())
            }
            // Where there is no memory for both, it stays as it is.
            Err(Error::OutOfMemory { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Bytes that the table grows by, all at once, when so many keys come.
    pub fn growth_for(&self, keys: usize) -> usize {
        match &self.typed {
            Some(typed) if self.misfit.is_some() || self.rest.is_some() || typed.is_stopped() => {
                typed.bytes_of_objects()
            }
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

    /// Up to `most` keys and combiners from a position on, and the position behind them; `None`
    /// where they are not typed.
    pub fn columns(
        &self,
        at: Position,
        most: usize,
        form: Form,
    ) -> Result<Option<(Handed, Position)>> {
        match &self.typed {
            Some(typed) => typed.columns(at, most, form),
            None => Ok(None),
        }
    }

    /// Whether combiners are typed, and lists, sets or texts that merging puts together.
    pub fn joins(&self) -> bool {
        self.typed.as_ref().is_some_and(|typed| typed.joins())
    }
}

impl Spillable for Table {
    type Record = Py<PyAny>;

    fn fresh(&self) -> Self {
        Self {
            objects: self.objects.fresh(),
            typed: self.typed.as_ref().map(|typed| Box::new(typed.fresh())),
            plan: self.plan.clone(),
            misfit: None,
            rest: None,
            behind: None,
            counters: Arc::clone(&self.counters),
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

    fn largest_record(&self) -> u64 {
        let typed = self.typed.as_ref().filter(|_| self.objects.is_grouping());
        typed.map_or(0, |typed| typed.largest_list() as u64)
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
                match typed.merge_block(&block, &place)? {
                    Merged::All => return Ok(()),
                    Merged::AllBut(rest) => return self.merge_all_but(py, rest),
                    Merged::None => {
                        self.widen(py, || "a spilled block of other types".to_owned())?;
                    }
                }
            }
            self.objects.merge_block(py, &block, &place)
        })
    }

    fn merge_rows(&mut self, other: &Self, rows: &[u32], at: Position) -> Result<Option<Position>> {
        const OTHER_TYPES: &str = "rows in memory of other types than spilled ones";
        let Some(rest) = rows.get(at.row..).filter(|rest| !rest.is_empty()) else {
            return Ok(None);
        };
        Python::attach(|py| {
            let Some(theirs) = &other.typed else {
                self.widen(py, || OTHER_TYPES.to_owned())?;
                self.objects.merge_rows(py, &other.objects, rest)?;
                return Ok(None);
            };
            let Some(((keys, combiners), next)) = theirs.columns_of(rows, at)? else {
                self.widen(py, || OTHER_TYPES.to_owned())?;
                let (key, combiner) = match rest.first() {
                    Some(&row) => theirs.record(py, row as usize)?,
                    None => return Ok(None),
                };
                self.merge_combiner(&key, &combiner)?;
                return Ok(Some(Position::of_row(at.row + 1)));
            };
            if let Some(typed) = &mut self.typed
                && typed.takes(&keys, &combiners)
            {
                if let Merged::AllBut(rest) = typed.merge_columns(keys, combiners)? {
                    self.merge_all_but(py, rest)?;
                }
                return Ok(Some(next));
            }
            self.widen(py, || OTHER_TYPES.to_owned())?;
            for row in 0..keys.len() {
                let key = typed::get(py, &keys, row)?;
                let combiner = typed::get(py, &combiners, row)?;
                self.merge_combiner(&key, &combiner)?;
            }
            Ok(Some(next))
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
