//! [`RecordsIterator`]: what `items()` gives.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::block_reader::Frame;
use super::errors::of_iterator;
use super::ffi;
use super::gil_cell::GilCell;
use super::handover::{Accepts, Form, Handed};
use super::merger::Merger;
use super::object_block;
use super::table::Table;
use super::typed;
use crate::column::codec;
use crate::error::{Error, Result};
use crate::metrics::Counters;
use crate::spill::external_table::{MergeLimits, Position, Unmerged};
use crate::spill::partition_merge::PartitionMerge;

enum Source {
    /// Records of a merger that has all of them in memory.
    InMemory {
        merger: Py<Merger>,
        at: Position,
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
    /// Records of runs as they are, for who merges them, and of what was never written.
    Unmerged(Box<UnmergedRecords>),
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
                at: Position::default(),
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
        form: Form,
        accepts: Accepts<'_>,
    ) -> Result<Option<Handed>> {
        let mut source = self.source.take(py).ok_or_else(busy)?;
        let columns = source.next_columns(py, most, form, accepts);
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
    fn start(&mut self, py: Python<'_>, form: Form) -> Result<()> {
        if let Self::Spilled {
            merger,
            agg,
            limits,
            count_spilled,
        } = self
        {
            let unmerged = if form == Form::InPieces {
                merger.get().take_unmerged(agg.bind(py))?
            } else {
                None
            };
            if let Some(unmerged) = unmerged {
                *self = Self::Unmerged(Box::new(UnmergedRecords::of(unmerged)));
                return Ok(());
            }
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
        self.start(py, Form::Whole)?;
        match self {
            Self::InMemory { merger, at, rows } if at.row < *rows => {
                let (key, combiner) = merger.get().row(py, at.row, *rows)?;
                at.row += 1;
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
            Self::Unmerged(records) => Ok(records.next(py)?),
            _ => Ok(None),
        }
    }

    fn next_columns(
        &mut self,
        py: Python<'_>,
        most: usize,
        form: Form,
        accepts: Accepts<'_>,
    ) -> Result<Option<Handed>> {
        self.start(py, form)?;
        match self {
            Self::InMemory { merger, at, rows } if at.row < *rows => {
                let columns = merger.get().columns(py, *at, *rows, most, form)?;
                Ok(accepted(columns, at, accepts))
            }
            Self::External {
                merge,
                counters,
                count_spilled,
            } => {
                if !load(py, merge, counters, count_spilled)? {
                    return Ok(None);
                }
                let (table, row) = merge.current();
                let mut at = Position::of_row(*row);
                // These are merged: each is told of by its row alone.
                let form = match form {
                    Form::InPieces => Form::Whole,
                    form => form,
                };
                let columns = table.columns(at, most, form)?;
                let columns = accepted(columns, &mut at, accepts);
                *row = at.row;
                Ok(columns)
            }
            Self::Unmerged(records) => records.next_columns(py, most, accepts),
            _ => Ok(None),
        }
    }
}

/// The columns, if they are accepted: then their reader is behind them.
fn accepted(
    found: Option<(Handed, Position)>,
    at: &mut Position,
    accepts: Accepts<'_>,
) -> Option<Handed> {
    let (columns, next) = found?;
    accepts(&columns.0, &columns.1).then(|| {
        *at = next;
        columns
    })
}

/// Reads the records of runs that are not merged.
struct UnmergedRecords {
    unmerged: Unmerged<Table>,
    /// The block that is being read, as a frame.
    frame: Option<Frame>,
    /// The next row of those that were never written.
    at: Position,
}

impl UnmergedRecords {
    fn of(unmerged: Unmerged<Table>) -> Self {
        Self {
            unmerged,
            frame: None,
            at: Position::default(),
        }
    }

    /// The block with the next record; `None` where all were read.
    fn frame(&mut self, py: Python<'_>) -> Result<Option<&mut Frame>> {
        while self
            .frame
            .as_ref()
            .is_none_or(|frame| frame.is_at_its_end(py))
        {
            self.frame = None;
            let Unmerged { blocks, files, .. } = &self.unmerged;
            let Some(address) = blocks.as_slice().first() else {
                return Ok(None);
            };
            let counters = self.unmerged.table.counters();
            let frame = counters.spill_time.time(|| {
                let place = || files.place(address);
                let block = py.detach(|| files.read_block(address, &mut Vec::new()))?;
                if let Some((keys, values)) = codec::read_two(&block, &place)? {
                    return Ok(Frame::Columns {
                        keys,
                        values,
                        row: 0,
                    });
                }
                let (keys, combiners) = object_block::read(py, &block, &place)?;
                let records = ffi::empty_list(py)?;
                for (key, combiner) in keys.into_iter().zip(combiners) {
                    let record = ffi::new_pair(py, key.unbind(), combiner.unbind())?;
                    ffi::append(&records, &record)?;
                }
                Ok::<_, Error>(Frame::Objects {
                    records: records.unbind(),
                    row: 0,
                })
            })?;
            self.frame = Some(frame);
            self.unmerged.blocks.next();
        }
        Ok(self.frame.as_mut())
    }

    fn next<'py>(&mut self, py: Python<'py>) -> Result<Option<Bound<'py, PyAny>>> {
        if let Some(frame) = self.frame(py)? {
            return frame.next(py);
        }
        let columns = self.next_columns(py, 1, &mut |_, _| true)?;
        let record = columns.map(|(keys, values)| typed::record(py, &keys, &values, 0));
        record.transpose()
    }

    fn next_columns(
        &mut self,
        py: Python<'_>,
        most: usize,
        accepts: Accepts<'_>,
    ) -> Result<Option<Handed>> {
        if let Some(frame) = self.frame(py)? {
            return frame.next_columns(most, accepts);
        }
        let columns = self.unmerged.table.columns(self.at, most, Form::InPieces)?;
        Ok(accepted(columns, &mut self.at, accepts))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        self.unmerged.table.traverse(visit)?;
        self.frame
            .as_ref()
            .map_or(Ok(()), |frame| frame.traverse(visit))
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
            Source::Unmerged(records) => records.traverse(&visit),
            Source::Exhausted => Ok(()),
        });
        seen.unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        Python::attach(|py| drop(self.source.put(py, Source::Exhausted)));
    }
}
