//! [`Merger`]: the engine of `InMemoryMerger`, `ExternalMerger` and `ExternalGroupBy`.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::counters::Counters;
use super::gil_cell::GilCell;
use super::guard::Function;
use super::handover::{Form, Handed};
use super::object_table::Progress;
use super::plan::plan_of;
use super::records::RecordsIterator;
use super::table::Table;
use crate::aggregate::Records;
use crate::error::{Error, Result};
use crate::memory::{self, CheckInterval, SpillPolicy};
use crate::metrics;
use crate::spill::external_table::{ExternalTable, MergeLimits, Position, Spillable, Unmerged};
use crate::spill::partition_merge::PartitionMerge;

/// More than a merger takes that has no record yet.
const MERGER_BYTES: usize = 16 << 10;

/// More than it takes to import what reads functions, and to read them.
const READING_BYTES: usize = 16 << 20;

/// What a merger holds. It leaves the merger while user code may run, so that user code that
/// calls back into the merger finds it busy instead of half changed.
struct State {
    table: ExternalTable<Table>,
    policy: SpillPolicy,
    is_drained: bool,
    /// The functions that were read, since when there is nothing left to become typed.
    read: Option<[Py<PyAny>; 3]>,
}

/// Merges records into a table that spills.
///
/// It decides when memory is short, and leaves the rest to `owner`, the Python object it serves:
/// that one's `_spill()` is called to spill and its `_next_limit()` for the next limit in MiB, so
/// that a subclass may override them.
#[pyclass(module = "ferroshuffle._core", frozen)]
pub struct Merger {
    state: GilCell<Box<State>>,
}

impl Merger {
    /// Runs `work` on the state, which is put back whatever comes of it.
    fn with_state<R>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut State) -> Result<R>,
    ) -> Result<R> {
        struct PutBack<'a, 'py>(&'a Merger, Python<'py>, Option<Box<State>>);
        impl Drop for PutBack<'_, '_> {
            fn drop(&mut self) {
                if let Some(state) = self.2.take() {
                    drop(self.0.state.put(self.1, state));
                }
            }
        }
        let mut held = PutBack(self, py, self.state.take(py));
        held.2.as_deref_mut().map_or_else(|| Err(busy()), work)
    }

    fn len(&self, py: Python<'_>) -> Result<usize> {
        self.state
            .see(py, |state| state.table.table.len())
            .ok_or_else(busy)
    }

    /// The key and the combiner in `row` of a table in memory that has as many `rows`.
    #[inline]
    pub fn row(&self, py: Python<'_>, row: usize, rows: usize) -> Result<(Py<PyAny>, Py<PyAny>)> {
        self.with_table_of(py, rows, |table| table.row(py, row))
    }

    /// What [`Table::columns`] gives of a table in memory that has as many `rows`.
    pub fn columns(
        &self,
        py: Python<'_>,
        at: Position,
        rows: usize,
        most: usize,
        form: Form,
    ) -> Result<Option<(Handed, Position)>> {
        self.with_table_of(py, rows, |table| table.columns(at, most, form))
    }

    #[inline]
    fn with_table_of<R>(
        &self,
        py: Python<'_>,
        rows: usize,
        read: impl FnOnce(&Table) -> Result<R>,
    ) -> Result<R> {
        self.with_state(py, |state| {
            let table = &state.table.table;
            if table.len() == rows {
                return read(table);
            }
            Err(Error::Usage(
                "the merger changed size while its items were read".to_owned(),
            ))
        })
    }

    fn merge(
        &self,
        owner: &Bound<'_, PyAny>,
        agg: &Bound<'_, PyAny>,
        iterator: &Bound<'_, PyAny>,
        kind: Records,
        limit_mib: Option<f64>,
        batch: usize,
    ) -> Result<()> {
        let iterator = iterator.try_iter()?.into_any();
        let py = iterator.py();
        let can_spill = limit_mib.is_some();
        let mut interval = CheckInterval::new(batch);
        interval.starts_at(memory::resident_bytes());
        self.with_state(py, |state| {
            state
                .policy
                .set_limit_mib(limit_mib.unwrap_or(f64::INFINITY));
            state.is_drained = false;
            Ok(())
        })?;
        let mut until_typed = self.records_until_typed(agg)?;
        let mut spilled_for_room = false;
        loop {
            if until_typed == Some(0) {
                until_typed = None;
                self.narrow(agg)?;
            }
            let records = interval.records().min(until_typed.unwrap_or(usize::MAX));
            let (progress, is_due) = self.with_state(py, |state| {
                let progress = state.table.table.merge(&iterator, kind, records)?;
                let resident = memory::resident_bytes();
                interval.checked(resident, &state.policy);
                let table = &state.table.table;
                // What would go over the limit is not grown: where more is to come, by that; else by
                // a group that is made a list when it is read.
                let growth = match progress {
                    Progress::Exhausted => table.largest_record(),
                    _ => table.growth_for(interval.records()) as u64,
                };
                let own = table.heap_bytes() as u64;
                let is_due = state.policy.is_due(resident + growth, own + growth);
                Ok((progress, is_due && !table.is_empty()))
            })?;
            let wants_room = progress == Progress::OutOfMemory;
            if wants_room && (spilled_for_room || !can_spill) {
                return Err(out_of_memory());
            }
            if is_due || wants_room {
                owner.call_method0("_spill")?;
                let limit: f64 = owner.call_method0("_next_limit")?.extract()?;
                self.with_state(py, |state| {
                    let resident = memory::resident_bytes();
                    let own = state.table.table.heap_bytes() as u64;
                    state.policy.set_limit_mib(limit);
                    state.policy.spilled(resident, own);
                    interval.starts_at(resident);
                    Ok(())
                })?;
            }
            if progress == Progress::Exhausted {
                return Ok(());
            }
            until_typed = until_typed.map(|until| until.saturating_sub(records));
            spilled_for_room = wants_room;
            py.check_signals()?;
        }
    }
}

impl Merger {
    /// How many more records are merged by the functions before they are read to find out what
    /// they compute. `None` where that was done, or is not to be.
    fn records_until_typed(&self, agg: &Bound<'_, PyAny>) -> Result<Option<usize>> {
        if self.heed_functions(agg)? {
            return Ok(None);
        }
        let module = agg.py().import("ferroshuffle.shuffle")?;
        let until = module.call_method1("_records_until_read", (agg,))?;
        Ok(until.extract()?)
    }

    /// Whether the functions have been read. Where others are in their place since, those are
    /// called from now on.
    fn heed_functions(&self, agg: &Bound<'_, PyAny>) -> Result<bool> {
        let py = agg.py();
        let read = self.with_state(py, |state| {
            let read = state.read.as_ref();
            Ok(read.map(|read| read.each_ref().map(|function| function.clone_ref(py))))
        })?;
        let Some(read) = read else {
            return Ok(false);
        };
        let now = functions_of(agg).ok();
        let is_same = |now: &[Py<PyAny>; 3]| now.iter().zip(&read).all(|(now, read)| now.is(read));
        if !now.as_ref().is_some_and(is_same) {
            self.with_state(py, |state| {
                let cause = || "other functions than were read".to_owned();
                state.table.table.widen(py, cause)?;
                state.read = Some(now.unwrap_or(read));
                Ok(())
            })?;
        }
        Ok(true)
    }

    /// Reads the functions, and goes on with typed columns where they allow that.
    fn narrow(&self, agg: &Bound<'_, PyAny>) -> Result<()> {
        let py = agg.py();
        // One that has not all three is nothing to be read.
        let Ok(functions) = functions_of(agg) else {
            return Ok(());
        };
        // Python itself fails in odd ways where an import is refused memory; calling needs less.
        let plan = match memory::ensure_headroom(READING_BYTES) {
            Ok(()) => plan_of(agg)?,
            Err(_) => None,
        };
        self.with_state(py, |state| {
            state.read = Some(functions);
            if let Some(plan) = plan {
                state.table.table.narrow(plan);
            }
            Ok(())
        })
    }
}

fn functions_of(agg: &Bound<'_, PyAny>) -> PyResult<[Py<PyAny>; 3]> {
    let function = |name| agg.getattr(name).map(Bound::unbind);
    Ok([
        function("createCombiner")?,
        function("mergeValue")?,
        function("mergeCombiners")?,
    ])
}

#[cold]
fn busy() -> Error {
    Error::Busy { what: "the merger" }
}

#[cold]
fn out_of_memory() -> Error {
    Error::OutOfMemory {
        wanted: 0,
        what: "the table of keys",
    }
}

#[pymethods]
impl Merger {
    /// With `is_grouping`, combiners are lists that `mergeCombiners` joins. What becomes of the
    /// records is counted by `counters`.
    #[new]
    #[pyo3(signature = (localdirs, partitions, is_grouping, counters=None))]
    fn new(
        localdirs: Vec<PathBuf>,
        partitions: usize,
        is_grouping: bool,
        counters: Option<&Bound<'_, Counters>>,
    ) -> PyResult<Self> {
        memory::ensure_headroom(MERGER_BYTES)?;
        let table = Table::new(is_grouping, Counters::of(counters));
        let table = ExternalTable::new(table, localdirs, partitions);
        let policy = SpillPolicy::new(f64::INFINITY);
        Ok(Self {
            state: GilCell::new(Box::new(State {
                table,
                policy,
                is_drained: false,
                read: None,
            })),
        })
    }

    /// Merges (key, value) records.
    ///
    /// `limit_mib` is the memory limit of the process in MiB, `None` for none; `batch` how many
    /// records are merged before memory is looked at for the first time.
    #[pyo3(signature = (owner, agg, iterator, limit_mib, batch))]
    fn merge_values(
        &self,
        owner: &Bound<'_, PyAny>,
        agg: &Bound<'_, PyAny>,
        iterator: &Bound<'_, PyAny>,
        limit_mib: Option<f64>,
        batch: usize,
    ) -> PyResult<()> {
        let py = agg.py();
        let create = Function::new(&agg.getattr("createCombiner")?)?;
        let merge = Function::new(&agg.getattr("mergeValue")?)?;
        self.with_state(py, |state| {
            let functions = state.table.table.functions_mut();
            functions.create_combiner = Some(create);
            functions.merge_value = Some(merge);
            Ok(())
        })?;
        Ok(self.merge(owner, agg, iterator, Records::Values, limit_mib, batch)?)
    }

    /// Merges (key, combiner) records; arguments as for `merge_values`.
    #[pyo3(signature = (owner, agg, iterator, limit_mib, batch))]
    fn merge_combiners(
        &self,
        owner: &Bound<'_, PyAny>,
        agg: &Bound<'_, PyAny>,
        iterator: &Bound<'_, PyAny>,
        limit_mib: Option<f64>,
        batch: usize,
    ) -> PyResult<()> {
        self.read_merge_combiners(agg)?;
        Ok(self.merge(owner, agg, iterator, Records::Combiners, limit_mib, batch)?)
    }

    /// Writes what is in memory to disk; returns (bytes freed, bytes written).
    fn spill(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let spilled = self.with_state(py, |state| {
            let counters = Arc::clone(state.table.table.counters());
            let spilled = counters.spill_time.time(|| state.table.spill())?;
            counters.spilled(spilled);
            Ok(spilled)
        })?;
        Ok((spilled.memory_bytes, spilled.disk_bytes))
    }

    /// Iterator over the records in memory, which stay.
    fn items(slf: &Bound<'_, Self>) -> PyResult<RecordsIterator> {
        let (py, merger) = (slf.py(), slf.get());
        merger.with_state(py, |state| state.table.table.settle(py))?;
        Ok(RecordsIterator::in_memory(
            slf.clone().unbind(),
            merger.len(py)?,
        ))
    }

    /// Iterator over all records, in memory and spilled, which leaves the merger empty from its
    /// first step on.
    ///
    /// `limits` are the memory limit in MiB, the number of partitions that this merger is one of,
    /// the most partitions there may be in all, and the number of keys up to which one is not
    /// divided. `count_spilled(memory_bytes, disk_bytes)` is called where merging spills again.
    #[pyo3(signature = (agg, limits, count_spilled))]
    fn external_items(
        slf: &Bound<'_, Self>,
        agg: Py<PyAny>,
        limits: Limits,
        count_spilled: Py<PyAny>,
    ) -> RecordsIterator {
        let merger = slf.clone().unbind();
        RecordsIterator::spilled(merger, agg, merge_limits(limits), count_spilled)
    }

    /// Iterator over the records of one partition of what was spilled, which stay on disk; other
    /// arguments as for `external_items`. What is in memory is left out.
    #[pyo3(signature = (index, agg, limits, count_spilled))]
    fn partition_items(
        &self,
        index: usize,
        agg: &Bound<'_, PyAny>,
        limits: Limits,
        count_spilled: Py<PyAny>,
    ) -> PyResult<RecordsIterator> {
        let py = agg.py();
        self.prepare_external(agg)?;
        let limits = merge_limits(limits);
        Ok(self.with_state(py, |state| {
            let merge = state.table.merge_of_partition(index, limits)?;
            let counters = Arc::clone(state.table.table.counters());
            Ok(RecordsIterator::external(merge, counters, count_spilled))
        })?)
    }

    /// Forgets what is in memory and on disk.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let dropped = self.with_state(py, |state| Ok(state.table.take()))?;
        drop(dropped);
        Ok(())
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.len(py)?)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        // While the state is away its references count as held from outside, which is safe.
        self.state
            .see_in_traverse(|state| {
                let read = state.read.iter().flatten();
                read.into_iter().try_for_each(|each| visit.call(each))?;
                state.table.table.traverse(&visit)
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        Python::attach(|py| drop(self.state.take(py)));
    }
}

impl Merger {
    /// All records, in memory and spilled, merged partition by partition, which leaves the merger
    /// empty; and what counts them.
    pub fn take_merge(
        &self,
        agg: &Bound<'_, PyAny>,
        limits: MergeLimits,
    ) -> Result<(PartitionMerge<Table>, Arc<metrics::Counters>)> {
        let py = agg.py();
        self.prepare_external(agg)?;
        self.with_state(py, |state| {
            state.table.table.settle(py)?;
            let merge = state.table.take_merge(limits)?;
            state.is_drained = true;
            Ok((merge, Arc::clone(state.table.table.counters())))
        })
    }

    /// What was merged and spilled, as it is: for who merges combiners of equal keys. `None` where
    /// that is another thing than to put them together.
    pub fn take_unmerged(&self, agg: &Bound<'_, PyAny>) -> Result<Option<Unmerged<Table>>> {
        let py = agg.py();
        self.prepare_external(agg)?;
        self.with_state(py, |state| {
            state.table.table.settle(py)?;
            if !state.table.table.joins() {
                return Ok(None);
            }
            state.is_drained = true;
            Ok(Some(state.table.take_unmerged()))
        })
    }

    fn read_merge_combiners(&self, agg: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = agg.py();
        let merge = Function::new(&agg.getattr("mergeCombiners")?)?;
        self.with_state(py, |state| {
            state.table.table.functions_mut().merge_combiners = Some(merge);
            Ok(())
        })?;
        Ok(())
    }

    /// Makes ready for reading what was spilled; fails where that was given away before.
    fn prepare_external(&self, agg: &Bound<'_, PyAny>) -> PyResult<()> {
        self.with_state(agg.py(), |state| {
            if state.is_drained {
                return Err(Error::Usage(
                    "the spilled items of a merger can be read once, and they were".to_owned(),
                ));
            }
            Ok(())
        })?;
        self.heed_functions(agg)?;
        self.read_merge_combiners(agg)
    }
}

/// The fields of [`MergeLimits`] in their order.
type Limits = (f64, usize, usize, usize);

fn merge_limits((memory_mib, scale, max_partitions, split_key_limit): Limits) -> MergeLimits {
    MergeLimits {
        memory_mib,
        scale,
        max_partitions,
        split_key_limit,
    }
}
