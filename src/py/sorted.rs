//! [`SortedIterator`]: values in order, merged from runs.

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::gil_cell::GilCell;
use super::sort_run::{Chunk, Ordering, Run};
use crate::error::Result;
use crate::spill::merge::LoserTree;
use crate::spill::spill_file::SpillFiles;

/// Runs on their way into one order. Of values with equal keys, those of the earlier run come first.
pub struct Merge {
    runs: Vec<Run>,
    /// The values of each run that are looked at.
    chunks: Vec<Option<Chunk>>,
    /// Of the numbers of runs.
    tree: LoserTree<usize>,
}

impl Merge {
    /// Reads the first values of each.
    pub fn new(
        py: Python<'_>,
        ordering: &Ordering,
        mut runs: Vec<Run>,
        files: &SpillFiles,
    ) -> Result<Self> {
        let mut chunks = Vec::new();
        for run in &mut runs {
            chunks.push(run.next(py, files, &ordering.key)?);
        }
        let heads = chunks.iter().enumerate();
        let heads = heads.map(|(run, chunk)| chunk.as_ref().map(|_| run));
        let tree = LoserTree::new(heads.collect(), &mut is_before(py, ordering, &chunks))?;
        Ok(Self { runs, chunks, tree })
    }

    /// The next value; `None` at the end.
    pub fn next<'py>(
        &mut self,
        py: Python<'py>,
        ordering: &Ordering,
        files: &SpillFiles,
    ) -> Result<Option<Bound<'py, PyAny>>> {
        let Some((run, _)) = self.tree.winner() else {
            return Ok(None);
        };
        let (Some(place), Some(source)) = (self.chunks.get_mut(run), self.runs.get_mut(run)) else {
            return Ok(None);
        };
        let Some(chunk) = place else { return Ok(None) };
        let value = chunk.value(py)?;
        chunk.step();
        if !chunk.has_value() {
            *place = source.next(py, files, &ordering.key)?;
        }
        let next = place.is_some().then_some(run);
        let mut is_before = is_before(py, ordering, &self.chunks);
        self.tree.replace_winner(next, &mut is_before)?;
        Ok(Some(value))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        self.runs.iter().try_for_each(|run| run.traverse(visit))?;
        let mut chunks = self.chunks.iter().flatten();
        chunks.try_for_each(|chunk| chunk.traverse(visit))
    }
}

/// Tells of two runs whether the next value of the first goes before that of the other.
fn is_before<'a>(
    py: Python<'a>,
    ordering: &'a Ordering,
    chunks: &'a [Option<Chunk>],
) -> impl FnMut(&usize, &usize) -> Result<bool> + 'a {
    move |&a, &b| {
        let (a, b) = if ordering.reverse { (b, a) } else { (a, b) };
        match (chunks.get(a), chunks.get(b)) {
            (Some(Some(a)), Some(Some(b))) => a.is_less(py, b, &ordering.key),
            _ => Ok(false),
        }
    }
}

/// What a [`SortedIterator`] reads from.
struct State {
    ordering: Ordering,
    files: SpillFiles,
    merge: Merge,
}

/// Iterator over values in order, merged from runs.
///
/// An error (of the key function, a comparison, a disk) ends it; `close()` frees what it holds.
#[pyclass(module = "ferroshuffle._core", frozen)]
pub struct SortedIterator {
    /// `Some(None)` at the end.
    state: GilCell<Option<Box<State>>>,
}

impl SortedIterator {
    /// Over the values of some runs.
    pub fn new(
        py: Python<'_>,
        ordering: Ordering,
        files: SpillFiles,
        runs: Vec<Run>,
    ) -> Result<Self> {
        let merge = Merge::new(py, &ordering, runs, &files)?;
        let state = State {
            ordering,
            files,
            merge,
        };
        Ok(Self {
            state: GilCell::new(Some(Box::new(state))),
        })
    }
}

#[pymethods]
impl SortedIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.state.step(py, busy, |state| {
            state.merge.next(py, &state.ordering, &state.files)
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
            state.ordering.key.traverse(&visit)?;
            state.merge.traverse(&visit)
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
        "sorted values are being read already: a function called while they are read reads on",
    )
}
