//! [`Merger`]: the engine of `InMemoryMerger`, `ExternalMerger` and `ExternalGroupBy`.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::guard::Function;
use super::object_table::{ObjectTable, Progress, Stage};
use super::records::RecordsIterator;
use crate::error::{Error, Result};
use crate::memory::{self, CheckInterval, SpillPolicy};
use crate::spill::external_table::{ExternalTable, MergeLimits, Spillable};

/// What a merger holds. It leaves the merger while user code may run, so that user code that
/// calls back into the merger finds it busy instead of half changed.
struct State {
    table: ExternalTable<ObjectTable>,
    policy: SpillPolicy,
    is_drained: bool,
}

/// Merges records into a table that spills.
///
/// It decides when memory is short, and leaves the rest to `owner`, the Python object it serves:
/// that one's `_spill()` is called to spill and its `_next_limit()` for the next limit in MiB, so
/// that a subclass may override them.
#[pyclass(module = "ferroshuffle._core", frozen)]
pub struct Merger {
    state: Mutex<Option<Box<State>>>,
}

impl Merger {
    fn lock(&self) -> MutexGuard<'_, Option<Box<State>>> {
        // Held for a few instructions under the GIL, never while Python code runs.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on the state, which is put back whatever comes of it.
    fn with_state<R>(&self, work: impl FnOnce(&mut State) -> Result<R>) -> Result<R> {
        struct PutBack<'a>(&'a Merger, Option<Box<State>>);
        impl Drop for PutBack<'_> {
            fn drop(&mut self) {
                *self.0.lock() = self.1.take();
            }
        }
        let taken = self.lock().take();
        let mut held = match taken {
            Some(state) => PutBack(self, Some(state)),
            None => return Err(busy()),
        };
        match held.1.as_deref_mut() {
            Some(state) => work(state),
            None => Err(busy()),
        }
    }

    fn len(&self) -> Result<usize> {
        self.lock()
            .as_ref()
            .map(|state| state.table.table.len())
            .ok_or_else(busy)
    }

    /// The key and the combiner in `row` of a table in memory that has as many `rows`.
    #[inline]
    pub fn row(&self, py: Python<'_>, row: usize, rows: usize) -> Result<(Py<PyAny>, Py<PyAny>)> {
        let state = self.lock();
        let table = &state.as_ref().ok_or_else(busy)?.table.table;
        if table.len() != rows {
            return Err(Error::Usage(
                "the merger changed size while its items were read".to_owned(),
            ));
        }
        table.row(py, row)
    }

    fn merge(
        &self,
        owner: &Bound<'_, PyAny>,
        iterator: &Bound<'_, PyAny>,
        stage: Stage,
        limit_mib: Option<f64>,
        batch: usize,
    ) -> Result<()> {
        let iterator = iterator.try_iter()?.into_any();
        let can_spill = limit_mib.is_some();
        self.with_state(|state| {
            state
                .policy
                .set_limit_mib(limit_mib.unwrap_or(f64::INFINITY));
            Ok(())
        })?;
        let mut interval = CheckInterval::new(batch);
        let mut spilled_for_room = false;
        loop {
            let records = interval.records();
            let (progress, is_due) = self.with_state(|state| {
                let progress = state.table.table.merge(&iterator, stage, records)?;
                let resident = memory::resident_bytes();
                interval.checked(resident, &state.policy);
                let own = state.table.table.heap_bytes() as u64;
                let is_due = !state.table.table.is_empty() && state.policy.is_due(resident, own);
                Ok((progress, is_due))
            })?;
            let wants_room = progress == Progress::OutOfMemory;
            if wants_room && (spilled_for_room || !can_spill) {
                return Err(out_of_memory());
            }
            if is_due || wants_room {
                owner.call_method0("_spill")?;
                let limit: f64 = owner.call_method0("_next_limit")?.extract()?;
                self.with_state(|state| {
                    state.policy.set_limit_mib(limit);
                    state.policy.spilled(memory::resident_bytes());
                    Ok(())
                })?;
            }
            if progress == Progress::Exhausted {
                return Ok(());
            }
            spilled_for_room = wants_room;
            iterator.py().check_signals()?;
        }
    }
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
    /// With `is_grouping`, combiners are lists that `mergeCombiners` joins.
    #[new]
    fn new(localdirs: Vec<PathBuf>, partitions: usize, is_grouping: bool) -> Self {
        let table = ExternalTable::new(ObjectTable::new(is_grouping), localdirs, partitions);
        let policy = SpillPolicy::new(f64::INFINITY);
        Self {
            state: Mutex::new(Some(Box::new(State {
                table,
                policy,
                is_drained: false,
            }))),
        }
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
        let create = Function::new(&agg.getattr("createCombiner")?);
        let merge = Function::new(&agg.getattr("mergeValue")?);
        self.with_state(|state| {
            let functions = state.table.table.functions_mut();
            functions.create_combiner = Some(create);
            functions.merge_value = Some(merge);
            state.is_drained = false;
            Ok(())
        })?;
        Ok(self.merge(owner, iterator, Stage::Values, limit_mib, batch)?)
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
        Ok(self.merge(owner, iterator, Stage::Combiners, limit_mib, batch)?)
    }

    /// Writes what is in memory to disk; returns (bytes freed, bytes written).
    fn spill(&self) -> PyResult<(u64, u64)> {
        let spilled = self.with_state(|state| state.table.spill())?;
        Ok((spilled.memory_bytes, spilled.disk_bytes))
    }

    /// Iterator over the records in memory, which stay.
    fn items(slf: &Bound<'_, Self>) -> PyResult<RecordsIterator> {
        Ok(RecordsIterator::in_memory(
            slf.clone().unbind(),
            slf.get().len()?,
        ))
    }

    /// Iterator over all records, in memory and spilled, which leaves the merger empty.
    ///
    /// `count_spilled(memory_bytes, disk_bytes)` is called where merging spills once more.
    #[pyo3(signature = (agg, limit_mib, scale, max_partitions, split_key_limit, count_spilled))]
    fn external_items(
        &self,
        agg: &Bound<'_, PyAny>,
        limit_mib: f64,
        scale: usize,
        max_partitions: usize,
        split_key_limit: usize,
        count_spilled: Py<PyAny>,
    ) -> PyResult<RecordsIterator> {
        self.with_state(|state| {
            if state.is_drained {
                return Err(Error::Usage(
                    "the spilled items of a merger can be read once, and they were".to_owned(),
                ));
            }
            Ok(())
        })?;
        self.read_merge_combiners(agg)?;
        let limits = MergeLimits {
            memory_mib: limit_mib,
            scale,
            max_partitions,
            split_key_limit,
        };
        let merge = self.with_state(|state| {
            state.is_drained = true;
            state.table.take().into_merge(limits)
        })?;
        Ok(RecordsIterator::external(merge, count_spilled))
    }

    /// Iterator over the records of one partition of what was spilled, which stay on disk; other
    /// arguments as for `external_items`. What is in memory is left out.
    #[pyo3(signature = (index, agg, limit_mib, scale, max_partitions, split_key_limit, count_spilled))]
    #[allow(clippy::too_many_arguments)] // the arguments of `external_items` and one more
    fn partition_items(
        &self,
        index: usize,
        agg: &Bound<'_, PyAny>,
        limit_mib: f64,
        scale: usize,
        max_partitions: usize,
        split_key_limit: usize,
        count_spilled: Py<PyAny>,
    ) -> PyResult<RecordsIterator> {
        self.read_merge_combiners(agg)?;
        let limits = MergeLimits {
            memory_mib: limit_mib,
            scale,
            max_partitions,
            split_key_limit,
        };
        let merge = self.with_state(|state| state.table.merge_of_partition(index, limits))?;
        Ok(RecordsIterator::external(merge, count_spilled))
    }

    /// Forgets what is in memory and on disk.
    fn clear(&self) -> PyResult<()> {
        let dropped = self.with_state(|state| Ok(state.table.take()))?;
        drop(dropped);
        Ok(())
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(self.len()?)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        // While the state is away its references count as held from outside, which is safe.
        match self.state.try_lock() {
            Ok(state) => match state.as_ref() {
                Some(state) => state.table.table.traverse(&visit),
                None => Ok(()),
            },
            Err(TryLockError::Poisoned(_) | TryLockError::WouldBlock) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let state = self.lock().take();
        drop(state);
    }
}

impl Merger {
    fn read_merge_combiners(&self, agg: &Bound<'_, PyAny>) -> PyResult<()> {
        let merge = Function::new(&agg.getattr("mergeCombiners")?);
        self.with_state(|state| {
            state.table.table.functions_mut().merge_combiners = Some(merge);
            state.is_drained = false;
            Ok(())
        })?;
        Ok(())
    }
}
