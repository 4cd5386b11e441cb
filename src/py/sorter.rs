//! Sorting any iterable: in memory, or in runs on disk that are merged.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyList;

use super::block_reader::BlockReader;
use super::errors::of_iterator;
use super::ffi;
use super::handover::{Form, Handed, next_columns};
use super::sort_keys::{KeyFunction, objects_of};
use super::sort_run::{Ordering, Run, Sorted, Spilled};
use super::sorted::{Merge, SortedIterator};
use super::typed;
use super::typed_table::most_references;
use crate::column::typed::TypedColumn;
use crate::error::{Error, Result};
use crate::memory::{self, CheckInterval, SpillPolicy};
use crate::metrics::{self, Counters};
use crate::spill::local_dirs::LocalDirs;
use crate::spill::spill_file::SpillFiles;

/// Values that are read before memory is looked at for the first time, as in stock PySpark.
const FIRST_CHECK: usize = 100;

/// Runs that are merged at once: each holds a decoded block in memory meanwhile.
const MAX_FAN_IN: usize = 64;

/// What sorting takes for each value, for its time: a number with its row, a key and a place.
const SORTING_BYTES: usize = size_of::<(u64, u32)>() + 2 * size_of::<usize>();

/// Values that were read.
enum Gathered<'py> {
    /// As long as they are of one kind, and it is known what the key function computes of them.
    Column(Column),
    /// Any.
    List(Bound<'py, PyList>),
}

impl Gathered<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Column(column) => column.values.len(),
            Self::List(values) => values.len(),
        }
    }

    /// Bytes of its own.
    fn own_bytes(&self) -> usize {
        match self {
            Self::Column(column) => column.values.heap_bytes(),
            Self::List(values) => values.len() * size_of::<usize>(),
        }
    }
}

/// Typed values.
struct Column {
    values: TypedColumn,
    /// How many more there is memory for.
    room: usize,
    has_lists: bool,
}

impl Column {
    fn of(values: TypedColumn) -> Self {
        Self {
            room: 0,
            has_lists: values.has_lists(),
            values,
        }
    }

    /// Appends a value; `false` where it does not fit.
    ///
    /// A list is copied here, so it fits only where nobody else has it; `is_shared` tells that of
    /// the value.
    #[inline]
    fn push(&mut self, value: Borrowed<'_, '_, PyAny>, is_shared: bool) -> Result<bool> {
        let rows = self.values.len();
        if self.room == 0 {
            // Columns of numbers do not ask before they take one.
            let room = rows.max(FIRST_CHECK);
            self.values.try_reserve(room)?;
            self.room = room;
        }
        self.room -= 1;
        let pushed = typed::push_unshared(&mut self.values, value, self.has_lists, is_shared);
        if !matches!(pushed, Ok(true)) {
            self.values.truncate(rows);
        }
        pushed
    }

    /// Lets it hold `None` where `value` needs that; `false` where it changes nothing.
    #[cold]
    fn make_kind_for(&mut self, value: Borrowed<'_, '_, PyAny>) -> Result<bool> {
        let Some(kind) = typed::kind_with(&self.values, value) else {
            return Ok(false);
        };
        self.turn_into(&kind)?;
        Ok(true)
    }

    fn turn_into(&mut self, kind: &TypedColumn) -> Result<()> {
        self.values.turn_into(kind)?;
        self.has_lists = self.values.has_lists();
        self.room = 0;
        Ok(())
    }

    /// Appends values of a kind that joins with these.
    fn append(&mut self, values: &TypedColumn) -> Result<()> {
        if !self.values.holds(values)
            && let Some(kind) = self.values.joined(values)
        {
            self.turn_into(&kind)?;
        }
        self.room = 0;
        self.values.append(values, 0..values.len())
    }
}

/// The state of a sort that reads its input.
struct Sorter<'py> {
    owner: Bound<'py, PyAny>,
    ordering: Ordering,
    files: SpillFiles,
    runs: Vec<Spilled>,
    gathered: Gathered<'py>,
    policy: SpillPolicy,
    /// Those of the shuffle that the values come from.
    counters: Arc<Counters>,
}

impl<'py> Sorter<'py> {
    fn py(&self) -> Python<'py> {
        self.owner.py()
    }

    fn next_limit(&self) -> Result<f64> {
        Ok(self.owner.call_method0("_next_limit")?.extract()?)
    }

    fn read(&mut self, iterator: &Bound<'py, PyAny>) -> Result<()> {
        let py = iterator.py();
        let most_references = most_references(iterator);
        let mut interval = CheckInterval::new(FIRST_CHECK);
        interval.starts_at(memory::resident_bytes());
        loop {
            let mut unseen = interval.records();
            while unseen > 0 {
                let mut accepts = |keys: &_, values: &_| self.accepts(keys, values);
                if let Some(columns) = next_columns(iterator, unseen, Form::Whole, &mut accepts)? {
                    unseen = unseen.saturating_sub(columns.0.len());
                    self.append(columns)?;
                } else if let Some(value) = ffi::next(iterator)? {
                    unseen -= 1;
                    let is_shared = ffi::references(value.as_borrowed()) > most_references;
                    self.push(&value, is_shared)?;
                } else {
                    return Ok(());
                }
            }
            self.read_key(most_references)?;
            let resident = memory::resident_bytes();
            interval.checked(resident, &self.policy);
            if self.is_due(resident, 0) {
                self.spill()?;
                interval.starts_at(memory::resident_bytes());
            }
            py.check_signals()?;
        }
    }

    /// Whether to spill, with so many bytes more.
    fn is_due(&self, resident: u64, more: usize) -> bool {
        let wanted = self.gathered.len().saturating_mul(SORTING_BYTES);
        let wanted = wanted.saturating_add(more) as u64;
        let own = self.gathered.own_bytes() as u64;
        self.policy.is_due(resident.saturating_add(wanted), own)
    }

    /// Whether records can be gathered in columns of these kinds.
    fn accepts(&self, keys: &TypedColumn, values: &TypedColumn) -> bool {
        let kind = || TypedColumn::Tuple(vec![keys.fresh(), values.fresh()]);
        match &self.gathered {
            Gathered::Column(column) => column.values.joined(&kind()).is_some(),
            Gathered::List(list) => list.is_empty() && self.is_for_columns(&kind()),
        }
    }

    /// Whether keys of such values can be computed.
    fn is_for_columns(&self, values: &TypedColumn) -> bool {
        matches!(self.ordering.key.computed(values), Ok(Some(_)))
    }

    /// Appends records that are accepted.
    fn append(&mut self, (keys, values): Handed) -> Result<()> {
        let records = TypedColumn::Tuple(vec![keys, values]);
        if let Gathered::Column(column) = &mut self.gathered {
            match column.append(&records) {
                Err(Error::OutOfMemory { .. }) => self.spill()?,
                done => return done,
            }
        }
        self.gathered = Gathered::Column(Column::of(records));
        Ok(())
    }

    #[inline]
    fn push(&mut self, value: &Bound<'py, PyAny>, is_shared: bool) -> Result<()> {
        if let Gathered::Column(column) = &mut self.gathered {
            let value = value.as_borrowed();
            match column.push(value, is_shared) {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    if column.make_kind_for(value)? && column.push(value, is_shared)? {
                        return Ok(());
                    }
                    self.make_list()?;
                }
                Err(Error::OutOfMemory { .. }) => self.spill()?,
                Err(error) => return Err(error),
            }
        }
        if let Gathered::List(list) = &self.gathered {
            if list.is_empty() && self.ordering.key.is_known() && !is_shared {
                return self.push_first(value);
            }
            ffi::append(list, value)?;
        }
        Ok(())
    }

    #[cold]
    fn push_first(&mut self, value: &Bound<'py, PyAny>) -> Result<()> {
        if let Some(values) = typed::column_for(value.as_borrowed()) {
            let mut column = Column::of(values);
            if column.push(value.as_borrowed(), false)? && self.is_for_columns(&column.values) {
                self.gathered = Gathered::Column(column);
                return Ok(());
            }
        }
        if let Gathered::List(list) = &self.gathered {
            ffi::append(list, value)?;
        }
        Ok(())
    }

    /// Makes objects of typed values, or writes them where there is no memory for that.
    fn make_list(&mut self) -> Result<()> {
        let Gathered::Column(column) = &self.gathered else {
            return Ok(());
        };
        let objects = typed::object_bytes(&column.values);
        if self.is_due(memory::resident_bytes(), objects) {
            return self.spill();
        }
        let values = objects_of(self.py(), &column.values)?;
        self.gathered = Gathered::List(ffi::new_list(self.py(), values)?);
        Ok(())
    }

    /// Reads the key function once there are values enough, which may make them typed.
    fn read_key(&mut self, most_references: isize) -> Result<()> {
        let Gathered::List(list) = &self.gathered else {
            return Ok(());
        };
        let was_known = self.ordering.key.is_known();
        self.ordering.key.read(list.py(), list.len())?;
        if was_known || !self.ordering.key.is_known() {
            return Ok(());
        }
        // The list has each of them, and so do we.
        let most_references = most_references + 1;
        let first = ffi::item(list, 0);
        let Some(values) = first.and_then(|first| typed::column_for(first)) else {
            return Ok(());
        };
        let mut column = Column::of(values);
        for value in list.iter() {
            let is_shared = ffi::references(value.as_borrowed()) > most_references;
            if is_shared || !column.push(value.as_borrowed(), is_shared)? {
                return Ok(());
            }
        }
        if self.is_for_columns(&column.values) {
            self.gathered = Gathered::Column(column);
        }
        Ok(())
    }

    /// What was gathered, in order.
    fn sorted(&mut self) -> Result<Sorted<'py>> {
        let py = self.py();
        let nothing = Gathered::List(ffi::empty_list(py)?);
        match std::mem::replace(&mut self.gathered, nothing) {
            Gathered::Column(column) => Sorted::of_column(py, column.values, &self.ordering),
            Gathered::List(list) => {
                self.ordering.key.read(py, list.len())?;
                Sorted::of_list(list, &self.ordering)
            }
        }
    }

    fn spill(&mut self) -> Result<()> {
        let (py, resident) = (self.py(), memory::resident_bytes());
        let counters = Arc::clone(&self.counters);
        counters.spill_time.time(|| {
            let sorted = self.sorted()?;
            let run = sorted.write(py, &self.files)?;
            let (disk_bytes, records) = (run.bytes(), sorted.count() as u64);
            self.runs.push(run);
            sorted.give_back(py);
            let memory_bytes = resident.saturating_sub(memory::resident_bytes());
            counters.spilled(metrics::Spilled {
                memory_bytes,
                disk_bytes,
                runs: 1,
                records,
            });
            let counted = (memory_bytes, disk_bytes);
            self.owner.call_method1("_count_spilled", counted)?;
            Ok::<_, Error>(())
        })?;
        self.policy.set_limit_mib(self.next_limit()?);
        self.policy.spilled(memory::resident_bytes(), 0);
        Ok(())
    }

    /// Merges runs into longer ones until so few are left that they can be merged at once.
    fn merge_runs(&mut self) -> Result<()> {
        let py = self.py();
        while self.runs.len() > MAX_FAN_IN {
            let mut merged = Vec::new();
            for runs in self.runs.chunks(MAX_FAN_IN) {
                let sources = runs
                    .iter()
                    .cloned()
                    .map(|run| Run::Spilled(run, 0))
                    .collect();
                let mut merge = Merge::new(py, &self.ordering, sources, &self.files)?;
                let mut run = Spilled::default();
                loop {
                    let batch = ffi::empty_list(py)?;
                    while batch.len() < MERGE_BATCH
                        && let Some(value) = merge.next(py, &self.ordering, &self.files)?
                    {
                        ffi::append(&batch, &value)?;
                    }
                    if batch.is_empty() {
                        break;
                    }
                    run.append(&batch, &self.files)?;
                }
                self.owner
                    .call_method1("_count_spilled", (0, run.bytes()))?;
                merged.push(run);
            }
            self.runs = merged;
        }
        Ok(())
    }
}

/// Values that a merge of runs into a longer run writes at once.
const MERGE_BATCH: usize = 4096;

/// Sorts `iterator`'s values by `key` (`None` for the values themselves) in memory that `owner`
/// limits: its `_next_limit()` gives the limit in MiB, its `_count_spilled(memory, disk)` is told
/// of every spill in bytes. Returns a list, or an iterator where runs were written to `localdirs`,
/// or a list would be over the limit; `lazily`, also where values are typed.
///
/// `plan` is what the key function computes, if it was read before; else it is read once there are
/// `read_from` values. Where neither is given it is called for each value, and none is put into
/// columns.
#[pyfunction]
#[pyo3(signature = (
    owner, iterator, key, reverse, localdirs, read_from=None, plan=None, lazily=false
))]
#[allow(clippy::needless_pass_by_value, clippy::too_many_arguments)] // what pyo3 extracts, by name
pub fn sort_external<'py>(
    owner: &Bound<'py, PyAny>,
    iterator: &Bound<'py, PyAny>,
    key: Option<Py<PyAny>>,
    reverse: bool,
    localdirs: Vec<PathBuf>,
    read_from: Option<usize>,
    plan: Option<&Bound<'py, PyAny>>,
    lazily: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let py = owner.py();
    let iterator = iterator.try_iter()?.into_any();
    let shuffled = iterator.cast_exact::<BlockReader>();
    let mut sorter = Sorter {
        counters: shuffled.map_or_else(|_| Arc::default(), |shuffled| shuffled.get().counters(py)),
        owner: owner.clone(),
        ordering: Ordering {
            key: KeyFunction::new(key, read_from, plan)?,
            reverse,
        },
        files: SpillFiles::new(LocalDirs::new(localdirs)),
        runs: Vec::new(),
        gathered: Gathered::List(ffi::empty_list(py)?),
        policy: SpillPolicy::new(f64::INFINITY),
    };
    sorter.policy.set_limit_mib(sorter.next_limit()?);
    sorter.read(&iterator)?;
    let is_iterator = match &sorter.gathered {
        _ if !sorter.runs.is_empty() => true,
        Gathered::Column(column) => {
            let objects = typed::object_bytes(&column.values);
            lazily || sorter.is_due(memory::resident_bytes(), objects)
        }
        Gathered::List(_) => false,
    };
    let last = sorter.sorted()?;
    if !is_iterator {
        return Ok(last.into_list(py)?.into_any());
    }
    // Runs are read as the values are asked for, so errors are those of an iterator.
    let raised = |error: Error| of_iterator(py, error.into());
    sorter.merge_runs().map_err(raised)?;
    let mut runs: Vec<_> = sorter
        .runs
        .into_iter()
        .map(|run| Run::Spilled(run, 0))
        .collect();
    runs.push(last.into_run(py)?);
    let iterator = SortedIterator::new(py, sorter.ordering, sorter.files, runs).map_err(raised)?;
    Ok(Bound::new(py, iterator)?.into_any())
}
