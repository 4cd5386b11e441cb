//! [`RecordsIterator`]: what `items()` gives.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::errors::of_iterator;
use super::ffi;
use super::gil_cell::GilCell;
use super::handover::{Accepts, Handed};
use super::merger::Merger;
use super::table::Table;
use crate::error::Result;
use crate::metrics::Counters;
use crate::spill::external_table::MergeLimits;
use crate::spill::partition_merge::PartitionMerge;

enum Source {
    /// Records of a merger that has all of them in memory.
    InMemory {
        merger: Py<Merger>,
        row: usize,
        rows: usize,
    },
    /// Records of a merger that has spilled, which gives them away when the first is asked for.
    Spilled {
        merger: Py<Merger>,
        agg: Py<PyAny>,
        limits: MergeLimits,
        count_spilled: Py<PyAny>,
    },
    /// Records of runs, merged partition by partition.
    External {
        merge: Box<PartitionMerge<Table>>,
        counters: Arc<Counters>,
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

    /// Over all records of `merger`, which are taken from it by the first step.
    pub fn spilled(
        merger: Py<Merger>,
        agg: Py<PyAny>,
        limits: MergeLimits,
        count_spilled: Py<PyAny>,
    ) -> Self {
        Self {
            source: GilCell::new(Source::Spilled {
                merger,
                agg,
                limits,
                count_spilled,
            }),
        }
    }

    /// Over the records of `merge`.
    pub fn external(
        merge: PartitionMerge<Table>,
        counters: Arc<Counters>,
        count_spilled: Py<PyAny>,
    ) -> Self {
        Self {
            source: GilCell::new(Source::External {
                merge: Box::new(merge),
                counters,
                count_spilled,
            }),
        }
    }

    /// What [`handover::next_columns`](super::handover::next_columns) gives.
    pub fn next_columns(
        &self,
        py: Python<'_>,
        most: usize,
        accepts: Accepts<'_>,
    ) -> Result<Option<Handed>> {
        let mut source = self.source.take(py).ok_or_else(busy)?;
        let columns = source.next_columns(py, most, accepts);
        self.source.put(py, source);
        columns
    }

    /// The next record. The source leaves the iterator meanwhile: making one may run user code.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut source = self.source.take(py).ok_or_else(busy)?;
        let record = source.next(py);
        let exhausted =
            matches!(record, Ok(None)).then(|| std::mem::replace(&mut source, Source::Exhausted));
        self.source.put(py, source);
        // What is exhausted is dropped now that the iterator is whole: that may run user code.
        drop(exhausted);
        record
    }
}

impl Source {
    /// Takes the records of a merger that has spilled, if that is the source.
    #[inline]
    fn start(&mut self, py: Python<'_>) -> Result<()> {
        if let Self::Spilled {
            merger,
            agg,
            limits,
            count_spilled,
        } = self
        {
            let (merge, counters) = merger.get().take_merge(agg.bind(py), *limits)?;
            *self = Self::External {
                merge: Box::new(merge),
                counters,
                count_spilled: count_spilled.clone_ref(py),
            };
        }
        Ok(())
    }

    #[inline]
    fn next<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.start(py)?;
        match self {
            Self::InMemory { merger, row, rows } if *row < *rows => {
                let (key, combiner) = merger.get().row(py, *row, *rows)?;
                *row += 1;
                Ok(Some(ffi::new_pair(py, key, combiner)?))
            }
            Self::External {
                merge,
                counters,
                count_spilled,
            } => {
                load(py, merge, counters, count_spilled)?;
                let record = merge.next_record()?;
                Ok(record.map(|record| record.into_bound(py)))
            }
            _ => Ok(None),
        }
    }

    fn next_columns(
        &mut self,
        py: Python<'_>,
        most: usize,
        accepts: Accepts<'_>,
    ) -> Result<Option<Handed>> {
        self.start(py)?;
        let columns = match self {
            Self::InMemory { merger, row, rows } if *row < *rows => {
                let columns = merger.get().columns(py, *row, *rows, most)?;
                columns.map(|columns| (columns, row))
            }
            Self::External {
                merge,
                counters,
                count_spilled,
            } => {
                if load(py, merge, counters, count_spilled)? {
                    let (table, row) = merge.current();
                    table.columns(*row, most)?.map(|found| (found, row))
                } else {
                    None
                }
            }
            _ => None,
        };
        let accepted = columns.filter(|((keys, combiners), _)| accepts(keys, combiners));
        Ok(accepted.map(|(columns, row)| {
            *row += columns.0.len();
            columns
        }))
    }
}

/// Whether there is a row left, which is read from disk where it has to be; tells of what was
/// spilled on the way.
#[inline]
fn load(
    py: Python<'_>,
    merge: &mut PartitionMerge<Table>,
    counters: &Counters,
    count_spilled: &Py<PyAny>,
) -> Result<bool> {
    if merge.is_loaded() {
        return Ok(true);
    }
    let has_row = counters.spill_time.time(|| merge.has_row());
    let spilled = merge.take_spilled();
    if spilled.runs > 0 {
        counters.spilled(spilled);
        count_spilled.call1(py, (spilled.memory_bytes, spilled.disk_bytes))?;
    }
    has_row
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
        self.next(py).map_err(|error| of_iterator(py, error))
    }

    /// Frees what the iterator holds; it is at its end then.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let source = self.source.take(py).ok_or_else(busy)?;
        self.source.put(py, Source::Exhausted);
        drop(source);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        let seen = self.source.see_in_traverse(|source| match source {
            Source::InMemory { merger, .. } => visit.call(merger),
            Source::Spilled {
                merger,
                agg,
                limits: _,
                count_spilled,
            } => {
                visit.call(merger)?;
                visit.call(agg)?;
                visit.call(count_spilled)
            }
            Source::External {
                merge,
                counters: _,
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
