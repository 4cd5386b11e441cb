//! [`BlockReader`]: the reduce side of a shuffle.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::counters::Counters;
use super::ffi;
use super::gil_cell::GilCell;
use super::handover::{Accepts, Handed};
use super::typed;
use super::wire::{self, Records};
use crate::column::typed::TypedColumn;
use crate::error::{Error, Result};
use crate::metrics;

/// What Spark sends in place of a length where its data ends.
const END_OF_DATA: i32 = -1;

/// Records that are read one after the other.
pub enum Frame {
    /// Typed records, and the next row of them.
    Columns {
        /// Their keys.
        keys: TypedColumn,
        /// Their values.
        values: TypedColumn,
        /// The next row.
        row: usize,
    },
    /// Any records, and the next of them.
    Objects {
        /// The records.
        records: Py<PyList>,
        /// The next row.
        row: usize,
    },
}

impl Frame {
    fn of_objects(records: Bound<'_, PyAny>) -> PyResult<Self> {
        let list = records.py().get_type::<PyList>().call1((records,))?;
        let records = list.cast_into::<PyList>()?.unbind();
        Ok(Self::Objects { records, row: 0 })
    }

    /// The next record; `None` at the end.
    pub fn next<'py>(&mut self, py: Python<'py>) -> Result<Option<Bound<'py, PyAny>>> {
        let (record, row) = match self {
            Self::Columns { keys, values, row } if *row < keys.len() => {
                (Some(typed::record(py, keys, values, *row)?), row)
            }
            Self::Columns { row, .. } => (None, row),
            Self::Objects { records, row } => {
                let record = ffi::item(records.bind(py), *row).map(Borrowed::to_owned);
                (record, row)
            }
        };
        *row += usize::from(record.is_some());
        Ok(record)
    }

    /// Up to `most` typed records; `None` where there is none, or they are not accepted.
    pub fn next_columns(&mut self, most: usize, accepts: Accepts<'_>) -> Result<Option<Handed>> {
        let Self::Columns { keys, values, row } = self else {
            return Ok(None);
        };
        let rows = *row..row.saturating_add(most).min(keys.len());
        if rows.is_empty() || !accepts(keys, values) {
            return Ok(None);
        }
        let columns = (keys.slice(rows.clone())?, values.slice(rows.clone())?);
        *row = rows.end;
        Ok(Some(columns))
    }

    /// Whether there is no record left.
    pub fn is_at_its_end(&self, py: Python<'_>) -> bool {
        match self {
            Self::Columns { keys, row, .. } => *row >= keys.len(),
            Self::Objects { records, row } => *row >= records.bind(py).len(),
        }
    }

    /// Shows what it holds to the garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        match self {
            Self::Columns { .. } => Ok(()),
            Self::Objects { records, .. } => visit.call(records),
        }
    }
}

struct State {
    /// `None` once its data has ended: what follows on the same stream is for others.
    stream: Option<Py<PyAny>>,
    loads: Py<PyAny>,
    frame: Option<Frame>,
    /// The next frame, where it could not be decoded for want of memory.
    unread: Option<Py<PyBytes>>,
    frames: usize,
    counters: Arc<metrics::Counters>,
}

impl State {
    /// The frame with the next record; `None` where there is none left.
    fn frame(&mut self, py: Python<'_>) -> Result<Option<&mut Frame>> {
        while self
            .frame
            .as_ref()
            .is_none_or(|frame| frame.is_at_its_end(py))
        {
            if !self.read_frame(py)? {
                return Ok(None);
            }
        }
        Ok(self.frame.as_mut())
    }

    /// Reads the next frame; `false` where the data ends.
    fn read_frame(&mut self, py: Python<'_>) -> Result<bool> {
        self.frame = None;
        if let (None, Some(stream)) = (&self.unread, &self.stream) {
            self.unread = self.read(stream.bind(py))?;
        }
        if self.unread.is_none() {
            self.stream = None;
            return Ok(false);
        }
        let counters = Arc::clone(&self.counters);
        counters.decode_time.time(|| self.decode(py))?;
        Ok(true)
    }

    /// Makes the next frame of what was read.
    fn decode(&mut self, py: Python<'_>) -> Result<()> {
        let Some(frame) = &self.unread else {
            return Ok(());
        };
        let (frame, loads) = (frame.bind(py), self.loads.bind(py));
        let number = self.frames;
        let place = move || place(number);
        let block = wire::block_in(frame.as_bytes(), &place)?;
        let records = block.map(|block| wire::decode(py, block, &place));
        let frame = match records.transpose()? {
            Some(Records::Columns(keys, values)) => Frame::Columns {
                keys,
                values,
                row: 0,
            },
            Some(Records::Serialized(block)) => {
                self.unread = None; // before its records are there too
                Frame::of_objects(wire::objects_of(block, loads)?)?
            }
            // What PySpark itself has written for this serializer.
            None => Frame::of_objects(loads.call1((frame,))?)?,
        };
        self.frame = Some(frame);
        self.unread = None;
        self.frames += 1;
        Ok(())
    }

    /// The bytes of the next frame; `None` where the data ends.
    fn read(&self, stream: &Bound<'_, PyAny>) -> Result<Option<Py<PyBytes>>> {
        let read = stream.getattr("read")?;
        let length = read.call1((size_of::<i32>(),))?;
        let length = length.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes();
        let length = match <[u8; 4]>::try_from(length) {
            Ok(length) => i32::from_be_bytes(length),
            Err(_) if length.is_empty() => return Ok(None),
            Err(_) => return Err(self.corrupt("it is cut within its length".to_owned())),
        };
        if length == END_OF_DATA {
            return Ok(None);
        }
        let Ok(length) = usize::try_from(length) else {
            return Err(self.corrupt(format!("its length is {length}")));
        };
        let frame = read.call1((length,))?;
        let frame = frame.cast_into::<PyBytes>().map_err(PyErr::from)?;
        let found = frame.as_bytes().len();
        if found < length {
            return Err(self.corrupt(format!("it is {found} bytes long instead of {length}")));
        }
        Ok(Some(frame.unbind()))
    }

    #[cold]
    fn corrupt(&self, reason: String) -> Error {
        Error::corrupt(place(self.frames), reason)
    }
}

#[cold]
fn place(frame: usize) -> String {
    format!("block {frame} of a partition's shuffled data")
}

/// Iterator over the records in `stream`, a binary file of frames, each behind its length in four
/// bytes, most significant first, up to the end of the file or a length of -1.
///
/// `loads` makes a list of records of what is serialized. An error ends the iterator; `close()`
/// frees what it holds, and leaves the file open.
#[pyclass(module = "ferroshuffle._core", frozen)]
pub struct BlockReader {
    /// `Some(None)` at the end.
    state: GilCell<Option<Box<State>>>,
}

impl BlockReader {
    /// What is counted of the records.
    pub fn counters(&self, py: Python<'_>) -> Arc<metrics::Counters> {
        let of_state = |state: &mut Option<Box<State>>| {
            let state = state.as_ref();
            state.map_or_else(Arc::default, |state| Arc::clone(&state.counters))
        };
        self.state.see(py, of_state).unwrap_or_default()
    }

    /// What [`handover::next_columns`](super::handover::next_columns) gives.
    pub fn next_columns(
        &self,
        py: Python<'_>,
        most: usize,
        accepts: Accepts<'_>,
    ) -> Result<Option<Handed>> {
        let mut state = self.state.take(py).ok_or_else(busy)?;
        let columns = match &mut state {
            Some(state) => match state.frame(py) {
                Ok(Some(frame)) => frame.next_columns(most, accepts),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            },
            None => Ok(None),
        };
        // Where memory is short, nothing has been taken, and the caller may try again.
        let ended = match &columns {
            Ok(_) | Err(Error::OutOfMemory { .. }) => None,
            Err(_) => state.take(),
        };
        self.state.put(py, state);
        drop(ended);
        columns
    }
}

#[pymethods]
impl BlockReader {
    #[new]
    #[pyo3(signature = (stream, loads, counters=None))]
    fn new(stream: Py<PyAny>, loads: Py<PyAny>, counters: Option<&Bound<'_, Counters>>) -> Self {
        Self {
            state: GilCell::new(Some(Box::new(State {
                stream: Some(stream),
                loads,
                frame: None,
                unread: None,
                frames: 0,
                counters: Counters::of(counters),
            }))),
        }
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.state.step(py, busy, |state| match state.frame(py)? {
            Some(frame) => frame.next(py),
            None => Ok(None),
        })
    }

    /// Frees what the iterator holds; it is at its end then.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.state.end(py, busy)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        let seen = self.state.see_in_traverse(|state| {
            let Some(state) = state else {
                return Ok(());
            };
            visit.call(&state.stream)?;
            visit.call(&state.loads)?;
            state
                .frame
                .as_ref()
                .map_or(Ok(()), |frame| frame.traverse(&visit))
        });
        seen.unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        Python::attach(|py| drop(self.state.put(py, None)));
    }
}

#[cold]
fn busy() -> PyErr {
    PyRuntimeError::new_err(
        "shuffled records are being read already: a function called meanwhile reads on",
    )
}

/// The list of records in a block, which `loads` makes of those that are serialized.
#[pyfunction]
pub fn records_of<'py>(block: &[u8], loads: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = loads.py();
    match wire::decode(py, block, &|| "of shuffled records".to_owned())? {
        Records::Serialized(block) => wire::objects_of(block, loads),
        Records::Columns(keys, values) => {
            let records = ffi::empty_list(py)?;
            for row in 0..keys.len() {
                ffi::append(&records, &typed::record(py, &keys, &values, row)?)?;
            }
            Ok(records.into_any())
        }
    }
}
