//! [`RecordsIterator`]: what `items()` gives.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::ffi;
use super::merger::Merger;
use super::object_table::ObjectTable;
use crate::spill::partition_merge::PartitionMerge;

enum Source {
    /// Records of a merger that has all of them in memory.
    InMemory {
        merger: Py<Merger>,
        row: usize,
        rows: usize,
    },
    /// Records of runs, merged partition by partition.
    External {
        merge: Box<PartitionMerge<ObjectTable>>,
        count_spilled: Py<PyAny>,
    },
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
        Self {
            source: Mutex::new(Some(Source::InMemory {
                merger,
                row: 0,
                rows,
            })),
        }
    }

    /// Over the records of `merge`.
    pub fn external(merge: PartitionMerge<ObjectTable>, count_spilled: Py<PyAny>) -> Self {
        let merge = Box::new(merge);
        Self {
            source: Mutex::new(Some(Source::External {
                merge,
                count_spilled,
            })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Source>> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cold]
fn busy() -> PyErr {
    PyValueError::new_err("these items are already being read")
}

impl RecordsIterator {
    /// The next record of a merger in memory; `None` where that is not the source.
    ///
    /// No Python code runs while the source is locked, so it can stay where it is.
    #[inline]
    fn next_in_memory<'py>(&self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let refs = {
            let mut source = self.lock();
            let Some(Source::InMemory { merger, row, rows }) = source.as_mut() else {
                return None;
            };
            if row == rows {
                return None;
            }
            let refs = merger.get().row(py, *row, *rows);
            if refs.is_ok() {
                *row += 1;
            }
            refs
        };
        Some(match refs {
            Ok((key, combiner)) => ffi::new_pair(py, key, combiner),
            Err(error) => Err(error.into()),
        })
    }

    /// The next record of any source. The source leaves the iterator meanwhile: making a record
    /// may run user code.
    fn next_of_any<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let taken = self.lock().take();
        let Some(Source::External {
            mut merge,
            count_spilled,
        }) = taken
        else {
            // Nothing is left to read: what a source in memory held is dropped.
            let is_busy = taken.is_none();
            if is_busy {
                return Err(busy());
            }
            *self.lock() = Some(Source::Exhausted);
            drop(taken);
            return Ok(None);
        };
        let record = merge.next_record();
        let spilled = merge.take_spilled();
        let counted = if spilled.runs > 0 {
            count_spilled
                .call1(py, (spilled.memory_bytes, spilled.disk_bytes))
                .map(drop)
        } else {
            Ok(())
        };
        let source = Source::External {
            merge,
            count_spilled,
        };
        if matches!(record, Ok(None)) {
            *self.lock() = Some(Source::Exhausted);
            drop(source);
        } else {
            *self.lock() = Some(source);
        }
        let record = record?;
        counted?;
        Ok(record.map(|record| record.into_bound(py)))
    }
}

#[pymethods]
impl RecordsIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.next_in_memory(py) {
            Some(record) => record.map(Some),
            None => self.next_of_any(py),
        }
    }

    /// Frees what the iterator holds; it is at its end then.
    fn close(&self) -> PyResult<()> {
        let source = {
            let mut place = self.lock();
            if place.is_none() {
                return Err(busy());
            }
            place.replace(Source::Exhausted)
        };
        drop(source);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.source.try_lock() {
            Ok(source) => match source.as_ref() {
                Some(Source::InMemory { merger, .. }) => visit.call(merger),
                Some(Source::External {
                    merge,
                    count_spilled,
                }) => {
                    visit.call(count_spilled)?;
                    merge
                        .tables()
                        .into_iter()
                        .try_for_each(|table| table.traverse(&visit))
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
