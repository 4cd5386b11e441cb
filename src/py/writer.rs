//! [`ShuffleWriter`]: the map side of a shuffle.

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFrozenSet, PyList, PyTuple};

use super::ffi;
use super::gil_cell::GilCell;
use super::object_table::{pair_of, unpack};
use super::serializer::is_leaf;
use crate::error::Result;
use crate::memory::{self, CheckInterval, SpillPolicy};
use crate::partition::{TupleHash, partition_in_spark, partition_of};

/// Records that are gathered before their size is known.
const FIRST_RECORDS: usize = 1024;

/// Records to read until memory is looked at for the first time: they may be large.
const FIRST_LOOK: usize = 8;

/// Memory is looked at after so many records at the latest, as in PySpark: the next ones may be far
/// larger than those that the size of a piece was learnt from.
const MOST_UNSEEN: usize = 1000;

/// Serialized records of about this size go to Spark in one piece: enough for the serializer and
/// Spark to work on, little enough to stay in the cache between here and there.
const CHUNK_BYTES: usize = 256 << 10;

/// Tuples nested deeper than this are left to PySpark's own function, which words its error.
const MAX_DEPTH: usize = 32;

/// The function that tells the partition of a key.
struct Partitioner {
    function: Py<PyAny>,
    /// It is PySpark's `portable_hash`, which is computed here for the keys of most jobs.
    is_portable_hash: bool,
    partitions: u32,
}

impl Partitioner {
    #[inline]
    fn partition(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<u32> {
        if self.is_portable_hash && self.partitions > 0 {
            let hash = self.portable_hash(key, MAX_DEPTH)?;
            return Ok(partition_of(hash, self.partitions));
        }
        let number = ffi::call1(self.function.bind_borrowed(key.py()), key)?;
        let is_true = number.cast_exact::<PyBool>().map(PyBoolMethods::is_true);
        match ffi::as_i64(number.as_borrowed()).or(is_true.ok().map(i64::from)) {
            Some(number) if self.partitions > 0 => Ok(partition_of(number, self.partitions)),
            _ => self.partition_of_object(&number),
        }
    }

    fn portable_hash(&self, key: Borrowed<'_, '_, PyAny>, depth: usize) -> PyResult<i64> {
        if let Some(hash) = ffi::hash_of_small_int(key) {
            return Ok(hash as i64);
        }
        if key.is_none() {
            return Ok(0);
        }
        if is_leaf(&key) || key.is_exact_instance_of::<PyFrozenSet>() {
            return Ok(key.hash()? as i64);
        }
        if let Ok(tuple) = key.cast_exact::<PyTuple>()
            && depth > 0
        {
            let mut hash = TupleHash::new();
            for item in tuple.iter_borrowed() {
                hash.add(self.portable_hash(item, depth - 1)?);
            }
            return Ok(hash.finish(tuple.len()));
        }
        // What is left may pass for a tuple, or have a hash of its own.
        ffi::call1(self.function.bind_borrowed(key.py()), key)?.extract()
    }

    /// For a number that is no `int`, or a huge one, and where there is no partition.
    #[cold]
    fn partition_of_object(&self, number: &Bound<'_, PyAny>) -> PyResult<u32> {
        // PySpark looks the remainder up, then packs it into eight bytes, and says what cannot be.
        let remainder = number.rem(self.partitions)?;
        remainder.hash()?;
        let packed = number
            .py()
            .import("struct")?
            .call_method1("pack", ("!q", remainder))?;
        let number = i64::from_be_bytes(packed.extract()?);
        Ok(partition_in_spark(number, self.partitions))
    }
}

/// Records waiting for their partition to be written.
#[derive(Default)]
struct Buckets {
    /// By partition, as far as one was needed yet.
    lists: Vec<Option<Py<PyList>>>,
    /// Partitions that have records, in the order of their first.
    filled: Vec<u32>,
    records: usize,
}

impl Buckets {
    #[inline]
    fn push(&mut self, partition: u32, record: &Bound<'_, PyAny>) -> Result<()> {
        const WHAT: &str = "the partitions of a map output";
        let py = record.py();
        let at = partition as usize;
        if let Some(Some(list)) = self.lists.get(at) {
            ffi::append(list.bind(py), record)?;
        } else {
            if at >= self.lists.len() {
                let more = at + 1 - self.lists.len();
                memory::try_grow(&mut self.lists, more, WHAT)?;
                self.lists.resize_with(at + 1, || None);
            }
            memory::try_grow(&mut self.filled, 1, WHAT)?;
            if let Some(place) = self.lists.get_mut(at) {
                *place = Some(PyList::new(py, [record])?.unbind());
                self.filled.push(partition);
            }
        }
        self.records += 1;
        Ok(())
    }

    fn take(&mut self, partition: u32) -> Option<Py<PyList>> {
        self.lists.get_mut(partition as usize)?.take()
    }
}

struct State {
    /// `None` at their end.
    records: Option<Py<PyAny>>,
    partitioner: Partitioner,
    dumps: Py<PyAny>,
    buckets: Buckets,
    /// Partitions that are being written, the next one last.
    outgoing: Vec<u32>,
    /// The serialized records of the partition whose number was handed out last.
    chunk: Option<Py<PyAny>>,
    /// Serialized bytes of the partitions that were written since records were read.
    written: usize,
    /// How many partitions that were.
    chunks: usize,
    /// Records to gather until all are written.
    full: usize,
    policy: SpillPolicy,
    interval: CheckInterval,
    /// Records to read until memory is looked at.
    unseen: usize,
}

impl State {
    fn next<'py>(&mut self, py: Python<'py>) -> Result<Option<Bound<'py, PyAny>>> {
        if let Some(chunk) = self.chunk.take() {
            return Ok(Some(chunk.into_bound(py)));
        }
        if self.outgoing.is_empty() {
            self.learn();
            // What was written is gone: growth is measured from here.
            self.interval.starts_at(memory::resident_bytes());
            self.read(py)?;
            self.outgoing = std::mem::take(&mut self.buckets.filled);
            self.outgoing.reverse();
        }
        let Some(partition) = self.outgoing.pop() else {
            return Ok(None);
        };
        let records = self.buckets.take(partition);
        let chunk = self.dumps.bind(py).call1((records,))?;
        self.written = self.written.saturating_add(chunk.len()?);
        self.chunks += 1;
        self.chunk = Some(chunk.unbind());
        let number = i64::from(partition).to_be_bytes();
        Ok(Some(ffi::new_bytes(py, &number)?))
    }

    /// Sets how many records to gather next, by the size of those that were written.
    fn learn(&mut self) {
        if self.chunks == 0 {
            return;
        }
        let records = std::mem::take(&mut self.buckets.records);
        let wanted = self.chunks.saturating_mul(CHUNK_BYTES);
        let fitting = records.saturating_mul(wanted) / self.written.max(1);
        self.full = fitting.clamp(1, self.full.saturating_mul(2));
        self.written = 0;
        self.chunks = 0;
    }

    /// Reads records until there are enough to write, or memory is short, or there are no more.
    fn read(&mut self, py: Python<'_>) -> Result<()> {
        let Some(records) = &self.records else {
            return Ok(());
        };
        let records = records.clone_ref(py).into_bound(py);
        while self.buckets.records < self.full {
            let Some(record) = ffi::next(&records)? else {
                self.records = None;
                return Ok(());
            };
            match ffi::pair(&record) {
                Some(pair) => {
                    let partition = self.partitioner.partition(pair.key)?;
                    self.buckets.push(partition, &record)?;
                }
                None => self.push_unpacked(&unpack(&record)?)?,
            }
            self.unseen -= 1;
            if self.unseen == 0 && self.is_memory_short() {
                break;
            }
        }
        py.check_signals()?;
        Ok(())
    }

    #[cold]
    fn push_unpacked(&mut self, record: &Bound<'_, PyAny>) -> Result<()> {
        let partition = self.partitioner.partition(pair_of(record)?.key)?;
        self.buckets.push(partition, record)
    }

    fn is_memory_short(&mut self) -> bool {
        let resident = memory::resident_bytes();
        self.interval.checked(resident, &self.policy);
        self.unseen = self.interval.records().min(MOST_UNSEEN);
        // Nothing is spilled here, so there is no floor to what is worth it: as in PySpark, records
        // go as often as memory is found to be short.
        resident >= self.policy.limit_bytes()
    }
}

/// Iterator over what the map side of a shuffle hands to Spark: in turn the number of a partition
/// in eight bytes, most significant first, and records of it as `dumps` serializes a list of them.
///
/// An error (of the records, the partition function, `dumps`) ends it; `close()` frees what it
/// holds.
#[pyclass(module = "ferroshuffle._core", frozen)]
pub struct ShuffleWriter {
    /// `Some(None)` at the end.
    state: GilCell<Option<Box<State>>>,
}

#[pymethods]
impl ShuffleWriter {
    /// `partition_function(key)` gives the partition's number, of which the remainder by
    /// `partitions` is taken; with `is_portable_hash` it is PySpark's own. Records are written
    /// early where the process holds more than `limit_mib` MiB.
    #[new]
    fn new(
        records: &Bound<'_, PyAny>,
        partition_function: Py<PyAny>,
        is_portable_hash: bool,
        partitions: u32,
        dumps: Py<PyAny>,
        limit_mib: f64,
    ) -> PyResult<Self> {
        let mut interval = CheckInterval::new(FIRST_LOOK);
        interval.starts_at(memory::resident_bytes());
        Ok(Self {
            state: GilCell::new(Some(Box::new(State {
                records: Some(records.try_iter()?.into_any().unbind()),
                partitioner: Partitioner {
                    function: partition_function,
                    is_portable_hash,
                    partitions,
                },
                dumps,
                buckets: Buckets::default(),
                outgoing: Vec::new(),
                chunk: None,
                written: 0,
                chunks: 0,
                full: FIRST_RECORDS,
                policy: SpillPolicy::new(limit_mib),
                unseen: interval.records(),
                interval,
            }))),
        })
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.state.step(py, busy, |state| state.next(py))
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
            visit.call(&state.records)?;
            visit.call(&state.partitioner.function)?;
            visit.call(&state.dumps)?;
            visit.call(&state.chunk)?;
            let mut lists = state.buckets.lists.iter().flatten();
            lists.try_for_each(|list| visit.call(list))
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
        "the output of a map side is being read already: a function called meanwhile reads on",
    )
}
