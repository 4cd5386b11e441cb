//! Sorting any iterable: in memory, or in runs on disk that are merged.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::block_reader::BlockReader;
use super::errors::of_iterator;
use super::external_list::{read_values, write_values};
use super::ffi;
use super::gil_cell::GilCell;
use super::sort_keys::{self, KeyShape};
use crate::error::{Error, Result};
use crate::memory::{self, CheckInterval, SpillPolicy, try_grow};
use crate::metrics::{Counters, Spilled};
use crate::sort::{NumberKeys, float_of_key, key_of_float};
use crate::spill::local_dirs::LocalDirs;
use crate::spill::merge::LoserTree;
use crate::spill::spill_file::{BlockAddress, SpillFiles};

/// Values that are read before memory is looked at for the first time, as in stock PySpark.
const FIRST_CHECK: usize = 100;

/// Runs that are merged at once: each holds a decoded block in memory meanwhile.
const MAX_FAN_IN: usize = 64;

/// What sorting takes for each value, for its time: a number with its row, a key and a place.
const SORTING_BYTES: usize = size_of::<(u64, u32)>() + 2 * size_of::<usize>();

/// How values are compared.
struct SortOrder {
    key: Option<Py<PyAny>>,
    reverse: bool,
}

impl SortOrder {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            key: self.key.as_ref().map(|key| key.clone_ref(py)),
            reverse: self.reverse,
        }
    }

    /// The sort key of a value.
    #[inline]
    fn key_of<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match &self.key {
            Some(key) => ffi::call1(key.bind_borrowed(value.py()), value.as_borrowed()),
            None => Ok(value.clone()),
        }
    }

    /// Whether `a` goes before `b`.
    #[inline]
    fn is_before(&self, py: Python<'_>, a: &SortKey, b: &SortKey) -> Result<bool> {
        let (a, b) = if self.reverse { (b, a) } else { (a, b) };
        if let (SortKey::Int(a), SortKey::Int(b)) = (a, b) {
            return Ok(a < b);
        }
        let (a, b) = (a.to_object(py)?, b.to_object(py)?);
        Ok(ffi::is_less(a.as_borrowed(), b.as_borrowed())?)
    }
}

/// The key of one value in a merge.
enum SortKey {
    /// An `int` of 64 bits, compared without Python.
    Int(i64),
    /// Anything else.
    Object(Py<PyAny>),
}

impl SortKey {
    fn new(key: Bound<'_, PyAny>) -> Self {
        match ffi::as_i64(key.as_borrowed()) {
            Some(key) => Self::Int(key),
            None => Self::Object(key.unbind()),
        }
    }

    fn to_object<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        match self {
            Self::Int(key) => Ok(key.into_pyobject(py).map_err(PyErr::from)?.into_any()),
            Self::Object(key) => Ok(key.bind(py).clone()),
        }
    }
}

/// Number keys of one kind, as long as all keys are of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NumberKind {
    Int,
    Float,
}

fn number_of(key: &Bound<'_, PyAny>) -> Option<(NumberKind, i64)> {
    let key = key.as_borrowed();
    if let Some(int) = ffi::as_i64(key) {
        return Some((NumberKind::Int, int));
    }
    ffi::as_f64(key)
        .and_then(key_of_float)
        .map(|float| (NumberKind::Float, float))
}

/// Sorts a list that only we have, as `list.sort` does.
fn sort_list(values: &Bound<'_, PyList>, ordering: &SortOrder) -> Result<()> {
    let Some(rows) = order_of(values, ordering)? else {
        return Ok(());
    };
    if ffi::permute(values, rows) {
        return Ok(());
    }
    Err(Error::OutOfMemory {
        wanted: values.len() * size_of::<usize>(),
        what: "the order of a sort",
    })
}

/// The rows of a list, which only we have, in the order of `list.sort`; `None` where the list has
/// been sorted instead.
///
/// The key function is called once for each value, in order. Keys that are all of one plain kind
/// are sorted here; others are left to `list.sort`.
fn order_of(values: &Bound<'_, PyList>, ordering: &SortOrder) -> Result<Option<Vec<u32>>> {
    let py = values.py();
    let mut numbers = NumberKeys::default();
    let mut kind = NumberKind::Int;
    for value in values.iter() {
        let key = ordering.key_of(&value)?;
        match number_of(&key) {
            Some((of, number)) if of == kind || numbers.is_empty() => {
                kind = of;
                numbers.push(number)?;
            }
            _ => {
                let mut keys = memory::try_with_capacity(values.len(), KEYS)?;
                for number in numbers.iter() {
                    keys.push(match kind {
                        NumberKind::Int => ffi::new_int(py, number)?,
                        NumberKind::Float => ffi::new_float(py, float_of_key(number))?,
                    });
                }
                drop(numbers);
                keys.push(key);
                return sort_by_keys(values, ordering, keys);
            }
        }
    }
    Ok(Some(py.detach(|| numbers.sort(ordering.reverse))))
}

/// The same by keys that are objects; `keys` are those of the first values.
fn sort_by_keys<'py>(
    values: &Bound<'py, PyList>,
    ordering: &SortOrder,
    mut keys: Vec<Bound<'py, PyAny>>,
) -> Result<Option<Vec<u32>>> {
    let py = values.py();
    let mut shape = keys.first().and_then(|key| KeyShape::of(key.as_borrowed()));
    for key in &keys {
        shape.take_if(|shape| !shape.holds(key.as_borrowed()));
    }
    for value in values.iter().skip(keys.len()) {
        if shape.is_none() && ordering.key.is_none() {
            break;
        }
        let key = ordering.key_of(&value)?;
        shape.take_if(|shape| !shape.holds(key.as_borrowed()));
        try_grow(&mut keys, 1, KEYS)?;
        keys.push(key);
    }
    if let Some(shape) = shape.filter(|_| u32::try_from(keys.len()).is_ok()) {
        return sort_keys::order_of(&keys, &shape, ordering.reverse).map(Some);
    }
    let options = PyDict::new(py);
    options.set_item("reverse", ordering.reverse)?;
    if ordering.key.is_some() {
        let keys = keys.into_iter().map(Bound::unbind).collect::<Vec<_>>();
        let keys = Bound::new(py, Keys(GilCell::new(keys.into_iter())))?;
        options.set_item("key", keys.getattr("next")?)?;
    }
    values.call_method("sort", (), Some(&options))?;
    Ok(None)
}

const KEYS: &str = "the keys of a sort";

/// Keys that were made already. A key function is called once for a value, and that was done:
/// `list.sort` asks for the key of each value in order, and then holds it alone.
#[pyclass(frozen)]
struct Keys(GilCell<std::vec::IntoIter<Py<PyAny>>>);

#[pymethods]
impl Keys {
    fn next(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let key = self.0.see(value.py(), Iterator::next).flatten();
        key.ok_or_else(|| PyRuntimeError::new_err("a sort asks for more keys than values"))
    }
}

/// The state of a sort that reads its input.
struct Sorter<'py> {
    owner: Bound<'py, PyAny>,
    ordering: SortOrder,
    files: SpillFiles,
    runs: Vec<Vec<BlockAddress>>,
    values: Bound<'py, PyList>,
    policy: SpillPolicy,
    /// Those of the shuffle that the values come from.
    counters: Arc<Counters>,
}

impl<'py> Sorter<'py> {
    fn next_limit(&self) -> Result<f64> {
        Ok(self.owner.call_method0("_next_limit")?.extract()?)
    }

    fn read(&mut self, iterator: &Bound<'py, PyAny>) -> Result<()> {
        let py = iterator.py();
        let mut interval = CheckInterval::new(FIRST_CHECK);
        interval.starts_at(memory::resident_bytes());
        loop {
            for _ in 0..interval.records() {
                let Some(value) = ffi::next(iterator)? else {
                    return Ok(());
                };
                ffi::append(&self.values, &value)?;
            }
            let resident = memory::resident_bytes();
            interval.checked(resident, &self.policy);
            let own = (self.values.len() * size_of::<usize>()) as u64;
            let wanted = (self.values.len() * SORTING_BYTES) as u64;
            if self.policy.is_due(resident.saturating_add(wanted), own) {
                let counters = Arc::clone(&self.counters);
                counters.spill_time.time(|| self.spill())?;
                let resident = memory::resident_bytes();
                self.policy.set_limit_mib(self.next_limit()?);
                self.policy.spilled(resident, 0);
                interval.starts_at(resident);
            }
            py.check_signals()?;
        }
    }

    fn spill(&mut self) -> Result<()> {
        let py = self.values.py();
        let resident = memory::resident_bytes();
        // Not sorted first: it is freed faster in the order in which it came.
        let order = order_of(&self.values, &self.ordering)?;
        let run = write_values(&self.values, order.as_deref(), &self.files)?;
        drop(order);
        let disk_bytes: u64 = run.iter().map(|block| block.len).sum();
        let records = self.values.len() as u64;
        self.runs.push(run);
        self.values = ffi::empty_list(py)?;
        super::give_back(py);
        let memory_bytes = resident.saturating_sub(memory::resident_bytes());
        self.counters.spilled(Spilled {
            memory_bytes,
            disk_bytes,
            runs: 1,
            records,
        });
        self.owner
            .call_method1("_count_spilled", (memory_bytes, disk_bytes))?;
        Ok(())
    }

    /// Merges runs into longer ones until so few are left that they can be merged at once.
    fn merge_runs(&mut self) -> Result<()> {
        let py = self.values.py();
        while self.runs.len() > MAX_FAN_IN {
            let mut merged = Vec::new();
            for runs in self.runs.chunks(MAX_FAN_IN) {
                let ordering = self.ordering.clone_ref(py);
                let sources = runs.iter().cloned().map(Cursor::on_disk).collect();
                let mut merge = Merge::new(py, ordering, sources, &self.files)?;
                let mut run = Vec::new();
                let mut written = 0;
                loop {
                    let batch = ffi::empty_list(py)?;
                    while batch.len() < MERGE_BATCH
                        && let Some(value) = merge.next(py, &self.files)?
                    {
                        ffi::append(&batch, &value)?;
                    }
                    if batch.is_empty() {
                        break;
                    }
                    let blocks = write_values(&batch, None, &self.files)?;
                    written += blocks.iter().map(|block| block.len).sum::<u64>();
                    run.extend(blocks);
                }
                self.owner.call_method1("_count_spilled", (0, written))?;
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
/// of every spill in bytes. Returns a list, or an iterator where runs were written to `localdirs`.
#[pyfunction]
#[pyo3(signature = (owner, iterator, key, reverse, localdirs))]
#[allow(clippy::needless_pass_by_value)] // what pyo3 extracts
pub fn sort_external<'py>(
    owner: &Bound<'py, PyAny>,
    iterator: &Bound<'py, PyAny>,
    key: Option<Bound<'py, PyAny>>,
    reverse: bool,
    localdirs: Vec<PathBuf>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = owner.py();
    let iterator = iterator.try_iter()?.into_any();
    let shuffled = iterator.cast_exact::<BlockReader>();
    let mut sorter = Sorter {
        counters: shuffled.map_or_else(|_| Arc::default(), |shuffled| shuffled.get().counters(py)),
        owner: owner.clone(),
        ordering: SortOrder {
            key: key.map(Bound::unbind),
            reverse,
        },
        files: SpillFiles::new(LocalDirs::new(localdirs)),
        runs: Vec::new(),
        values: ffi::empty_list(py)?,
        policy: SpillPolicy::new(f64::INFINITY),
    };
    sorter.policy.set_limit_mib(sorter.next_limit()?);
    sorter.read(&iterator)?;
    sort_list(&sorter.values, &sorter.ordering)?;
    if sorter.runs.is_empty() {
        return Ok(sorter.values.into_any());
    }
    // Runs are read as the values are asked for, so errors are those of an iterator.
    let raised = |error: Error| of_iterator(py, error.into());
    sorter.merge_runs().map_err(raised)?;
    let Sorter {
        ordering,
        files,
        runs,
        values,
        ..
    } = sorter;
    let mut sources: Vec<Cursor> = runs.into_iter().map(Cursor::on_disk).collect();
    sources.push(Cursor::in_memory(values.unbind()));
    let merge = Merge::new(py, ordering, sources, &files).map_err(raised)?;
    let state = GilCell::new(Some(Box::new(Sorted { files, merge })));
    Ok(Bound::new(py, SortedIterator { state })?.into_any())
}

/// Reads one sorted run.
struct Cursor {
    blocks: std::vec::IntoIter<BlockAddress>,
    values: Option<Py<PyList>>,
    row: usize,
}

impl Cursor {
    fn on_disk(blocks: Vec<BlockAddress>) -> Self {
        Self {
            blocks: blocks.into_iter(),
            values: None,
            row: 0,
        }
    }

    fn in_memory(values: Py<PyList>) -> Self {
        Self {
            blocks: Vec::new().into_iter(),
            values: Some(values),
            row: 0,
        }
    }

    /// The next value with its key, or `None` at the end of the run.
    fn next(
        &mut self,
        py: Python<'_>,
        files: &SpillFiles,
        ordering: &SortOrder,
    ) -> Result<Option<Head>> {
        loop {
            if let Some(values) = &self.values {
                let values = values.bind(py);
                if self.row < values.len() {
                    let value = values.get_item(self.row)?;
                    let key = SortKey::new(ordering.key_of(&value)?);
                    self.row += 1;
                    return Ok(Some(Head {
                        key,
                        value: value.unbind(),
                    }));
                }
                self.values = None;
                self.row = 0;
            }
            let Some(address) = self.blocks.as_slice().first() else {
                return Ok(None);
            };
            self.values = Some(ffi::new_list(py, read_values(py, files, address)?)?.unbind());
            self.blocks.next();
        }
    }
}

/// The first value of a run that is not merged yet.
struct Head {
    key: SortKey,
    value: Py<PyAny>,
}

/// Runs on their way into one order.
struct Merge {
    ordering: SortOrder,
    sources: Vec<Cursor>,
    tree: LoserTree<Head>,
}

impl Merge {
    fn new(
        py: Python<'_>,
        ordering: SortOrder,
        mut sources: Vec<Cursor>,
        files: &SpillFiles,
    ) -> Result<Self> {
        let mut heads = Vec::new();
        for source in &mut sources {
            heads.push(source.next(py, files, &ordering)?);
        }
        let tree = LoserTree::new(heads, &mut |a, b| ordering.is_before(py, &a.key, &b.key))?;
        Ok(Self {
            ordering,
            sources,
            tree,
        })
    }

    fn next<'py>(
        &mut self,
        py: Python<'py>,
        files: &SpillFiles,
    ) -> Result<Option<Bound<'py, PyAny>>> {
        let Self {
            ordering,
            sources,
            tree,
        } = self;
        let Some((source, _)) = tree.winner() else {
            return Ok(None);
        };
        let next = match sources.get_mut(source) {
            Some(source) => source.next(py, files, ordering)?,
            None => None,
        };
        let winner =
            tree.replace_winner(next, &mut |a, b| ordering.is_before(py, &a.key, &b.key))?;
        Ok(winner.map(|head| head.value.into_bound(py)))
    }
}

/// What a [`SortedIterator`] reads from.
struct Sorted {
    files: SpillFiles,
    merge: Merge,
}

/// Iterator over values in order, merged from runs on disk.
///
/// An error (of the key function, a comparison, a disk) ends it; `close()` frees what it holds.
#[pyclass(module = "ferroshuffle._core", frozen)]
pub struct SortedIterator {
    /// `Some(None)` at the end.
    state: GilCell<Option<Box<Sorted>>>,
}

#[pymethods]
impl SortedIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.state
            .step(py, busy, |sorted| sorted.merge.next(py, &sorted.files))
    }

    /// Frees what the iterator holds; it is at its end then.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.state.end(py, busy)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        let seen = self.state.see_in_traverse(|state| {
            let Some(sorted) = state else {
                return Ok(());
            };
            let Merge {
                ordering,
                sources,
                tree,
            } = &sorted.merge;
            visit.call(&ordering.key)?;
            sources
                .iter()
                .try_for_each(|source| visit.call(&source.values))?;
            tree.items().try_for_each(|head| {
                if let SortKey::Object(key) = &head.key {
                    visit.call(key)?;
                }
                visit.call(&head.value)
            })
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
