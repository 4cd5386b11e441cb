//! [`RecordsIterator`]: what `items()` gives.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::merger::Merger;
use super::object_table::ObjectTable;
use crate::spill::partition_merge::PartitionMerge;

enum Source {
    /// Records of a merger that has all of them in memory.
    InMemory { merger: Py<Merger>, row: usize, rows: usize },
    /// Records of runs, merged partition by partition.
    External { merge: Box<PartitionMerge<ObjectTable>>, count_spilled: Py<PyAny> },
    Exhausted,
}

/// Iterator over merged records, as (key, combiner) tuples.
///
/// `close()` frees what it holds, in memory and on disk; so does reading to the end.
#[pyclass(module = "ferroshuffle._core", frozen)]
pub struct RecordsIterator {
    /// `None` while a record is being made, which may run user code.
    source: Mutex<Option<Source>>,
}

impl RecordsIterator {
    /// Over the `rows` records of `merger`, which stay there.
    pub fn in_memory(merger: Py<Merger>, rows: usize) -> Self {
        Self { source: Mutex::new(Some(Source::InMemory { merger, row: 0, rows })) }
    }

    /// Over the records of `merge`.
    pub fn external(merge: PartitionMerge<ObjectTable>, count_spilled: Py<PyAny>) -> Self {
        let merge = Box::new(merge);
        Self { source: Mutex::new(Some(Source::External { merge, count_spilled })) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Source>> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn next<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self {
            Self::InMemory { merger, row, rows } => {
                let merger = merger.get();
                if merger.len()? != *rows {
                    return Err(PyRuntimeError::new_err(
                        "the merger changed size while its items were read",
                    ));
                }
                if row == rows {
                    return Ok(None);
                }
                *row += 1;
                Ok(Some(merger.record(py, *row - 1)?))
            }
            Self::External { merge, count_spilled } => {
                let record = merge.next();
                let spilled = merge.take_spilled();
                if spilled.runs > 0 {
                    count_spilled.call1(py, (spilled.memory_bytes, spilled.disk_bytes))?;
                }
                Ok(record?.map(|record| record.into_bound(py)))
            }
            Self::Exhausted => Ok(None),
        }
    }
}

#[pymethods]
impl RecordsIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(mut source) = self.lock().take() else {
            return Err(PyValueError::new_err("these items are already being read"));
        };
        let record = source.next(py);
        // What is exhausted is dropped after the iterator is whole again: that may run user code.
        let exhausted = matches!(record, Ok(None))
            .then(|| std::mem::replace(&mut source, Source::Exhausted));
        *self.lock() = Some(source);
        drop(exhausted);
        record
    }

    /// Frees what the iterator holds; it is at its end then.
    fn close(&self) -> PyResult<()> {
        let Some(source) = self.lock().replace(Source::Exhausted) else {
            *self.lock() = None;
            return Err(PyValueError::new_err("these items are already being read"));
        };
        drop(source);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.source.try_lock() {
            Ok(source) => match source.as_ref() {
                Some(Source::InMemory { merger, .. }) => visit.call(merger),
                Some(Source::External { merge, count_spilled }) => {
                    visit.call(count_spilled)?;
                    merge.tables().into_iter().try_for_each(|table| table.traverse(&visit))
                }
                Some(Source::Exhausted) | None => Ok(()),
            },
            Err(TryLockError::Poisoned(_) | TryLockError::WouldBlock) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let source = self.lock().replace(Source::Exhausted);
        drop(source);
    }
}
