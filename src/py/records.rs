//! [`RecordsIterator`]: what `items()` gives.

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::errors::of_iterator;
use super::ffi;
use super::gil_cell::GilCell;
use super::merger::Merger;
use super::table::Table;
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
        merge: Box<PartitionMerge<Table>>,
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
    source: GilCell<Source>,
}

impl RecordsIterator {
    /// Over the `rows` records of `merger`, which stay there.
    pub fn in_memory(merger: Py<Merger>, rows: usize) -> Self {
        Self {
            source: GilCell::new(Source::InMemory {
                merger,
                row: 0,
                rows,
            }),
        }
    }

    /// Over the records of `merge`.
    pub fn external(merge: PartitionMerge<Table>, count_spilled: Py<PyAny>) -> Self {
        Self {
            source: GilCell::new(Source::External {
                merge: Box::new(merge),
                count_spilled,
            }),
        }
    }

    /// The next record of a merger in memory; `None` where that is not the source or is at its
    /// end.
    #[inline]
    fn next_in_memory<'py>(&self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let found = self.source.see(py, |source| match source {
            Source::InMemory { merger, row, rows } if *row < *rows => {
                let found = merger.get().row(py, *row, *rows);
                *row += usize::from(found.is_ok());
                Some(found)
            }
            _ => None,
        });
        let record = found.flatten()?;
        Some(match record {
            Ok((key, combiner)) => ffi::new_pair(py, key, combiner),
            Err(error) => Err(error.into()),
        })
    }

    /// The next record of any source. The source leaves the iterator meanwhile: making a record
    /// may run user code.
    fn next_of_any<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut source = self.source.take(py).ok_or_else(busy)?;
        let record = source.next_external(py);
        let exhausted =
            matches!(record, Ok(None)).then(|| std::mem::replace(&mut source, Source::Exhausted));
        self.source.put(py, source);
        // What is exhausted is dropped now that the iterator is whole: that may run user code.
        drop(exhausted);
        record
    }
}

impl Source {
    #[inline]
    fn next_external<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Self::External {
            merge,
            count_spilled,
        } = self
        else {
            return Ok(None);
        };
        let record = merge.next_record();
        let spilled = merge.take_spilled();
        if spilled.runs > 0 {
            count_spilled.call1(py, (spilled.memory_bytes, spilled.disk_bytes))?;
        }
        Ok(record?.map(|record| record.into_bound(py)))
    }
}

#[cold]
fn busy() -> PyErr {
    PyRuntimeError::new_err(
        "these items are being read already: a function called while they are read reads on",
    )
}

#[pymethods]
impl RecordsIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.next_in_memory(py) {
            Some(record) => record.map(Some),
            None => self.next_of_any(py).map_err(|error| of_iterator(py, error)),
        }
    }

    /// Frees what the iterator holds; it is at its end then.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let source = self.source.take(py).ok_or_else(busy)?;
        self.source.put(py, Source::Exhausted);
        drop(source);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let seen = self.source.see_in_traverse(|source| match source {
            Source::InMemory { merger, .. } => visit.call(merger),
            Source::External {
                merge,
                count_spilled,
            } => {
                visit.call(count_spilled)?;
                merge
                    .tables()
                    .into_iter()
                    .try_for_each(|table| table.traverse(&visit))
            }
            Source::Exhausted => Ok(()),
        });
        seen.unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        Python::attach(|py| drop(self.source.put(py, Source::Exhausted)));
    }
}
