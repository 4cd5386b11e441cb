//! [`ShuffleWriter`]: the map side of a shuffle.

use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::batch::RECORD_BYTES;
use super::counters::Counters;
use super::ffi;
use super::gil_cell::GilCell;
use super::handover::{Form, Handed, next_columns};
use super::object_table::pair_of;
use super::partitioner::Partitioner;
use super::typed;
use super::typed_table::{as_pair, most_references};
use super::wire;
use crate::column::typed::TypedColumn;
use crate::error::{Error, Result};
use crate::memory::{self, CheckInterval, SpillPolicy};
use crate::metrics::{self, Sampler};
use crate::spill::layout::Layout;

/// Records that are gathered before their size is known.
const FIRST_RECORDS: usize = 1024;

/// Records to read until memory is looked at for the first time: they may be large.
const FIRST_LOOK: usize = 8;

/// Memory is looked at after so many objects at the latest, as in PySpark: the next ones may be far
/// larger than those that the size of a piece was learnt from. Of columns it is known how much they
/// grow.
const MOST_UNSEEN: usize = 1000;

/// Objects to read until memory is looked at for the first time, where records were columns before:
/// what does not fit there may be far larger.
const FIRST_OBJECTS: usize = 64;

/// Serialized records of about this size go to Spark in one piece: enough for the serializer and
/// Spark to work on, little enough to stay in the cache between here and there.
const CHUNK_BYTES: usize = 256 << 10;

/// No more than so many pieces' bytes of lists and texts are gathered, where partitions are few: the
/// next records may be far longer than those before.
const MOST_CHUNKS: usize = 32;

/// Objects waiting for their partition to be written.
#[derive(Default)]
struct Buckets {
    /// By partition, as far as one was needed yet.
    lists: Vec<Option<Py<PyList>>>,
    /// Partitions that have records, in the order of their first.
    filled: Vec<u32>,
}

const WHAT: &str = "the partitions of a map output";

impl Buckets {
    #[inline]
    fn push(&mut self, partition: u32, record: &Bound<'_, PyAny>) -> Result<()> {
        let py = record.py();
        let at = partition as usize;
        if let Some(Some(list)) = self.lists.get(at) {
            ffi::append(list.bind(py), record)?;
            return Ok(());
        }
        if at >= self.lists.len() {
            let more = at + 1 - self.lists.len();
            memory::try_grow(&mut self.lists, more, WHAT)?;
            self.lists.resize_with(at + 1, || None);
        }
        memory::try_grow(&mut self.filled, 1, WHAT)?;
        if let Some(place) = self.lists.get_mut(at) {
            *place = Some(ffi::new_list(py, [record.clone()])?.unbind());
            self.filled.push(partition);
        }
        Ok(())
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        let mut lists = self.lists.iter().flatten();
        lists.try_for_each(|list| visit.call(list))
    }

    fn rows(&self, py: Python<'_>, partition: u32) -> usize {
        let list = self.lists.get(partition as usize);
        let list = list.and_then(Option::as_ref);
        list.map_or(0, |list| list.bind(py).len())
    }

    fn take(&mut self, partition: u32) -> Option<Py<PyList>> {
        self.lists.get_mut(partition as usize)?.take()
    }
}

/// Typed records waiting for their partitions to be written.
struct Columns {
    keys: TypedColumn,
    values: TypedColumn,
    /// How many there are.
    rows: usize,
    /// How many more the columns have memory for.
    room: usize,
    /// The partition of each row, as far as it was told.
    partitions: Vec<u32>,
    has_lists: bool,
    /// There are texts or lists in the keys or values.
    is_long: bool,
}

impl Columns {
    /// For records as this one; `None` where they are not typed.
    fn for_pair(pair: ffi::Pair<'_>) -> Option<Self> {
        // A list as a key, or in one, may be held and changed by others.
        let keys = typed::column_for(pair.key).filter(|keys| !keys.has_lists())?;
        Some(Self::of(&keys, &typed::column_for(pair.value)?))
    }

    /// No record yet, of those kinds.
    fn of(keys: &TypedColumn, values: &TypedColumn) -> Self {
        Self {
            keys: keys.fresh(),
            values: values.fresh(),
            rows: 0,
            room: 0,
            partitions: Vec::new(),
            has_lists: values.has_lists(),
            is_long: keys.is_long() || values.is_long(),
        }
    }

    /// Appends a record, whose partition may be told later; `false` where it does not fit.
    ///
    /// A list is copied here, and shared in PySpark with who holds it too: so it fits only where
    /// that is nobody.
    #[inline]
    fn push(
        &mut self,
        pair: ffi::Pair<'_>,
        partition: Option<u32>,
        is_shared: bool,
    ) -> Result<bool> {
        if self.room == 0 {
            // As much for all, which do not ask before they take a number.
            let room = self.rows.max(FIRST_RECORDS);
            self.keys.try_reserve(room)?;
            self.values.try_reserve(room)?;
            memory::try_grow(&mut self.partitions, room, WHAT)?;
            self.room = room;
        }
        let pushed = typed::push_key(&mut self.keys, pair.key).and_then(|has_fit| {
            let (values, has_lists) = (&mut self.values, self.has_lists);
            Ok(has_fit && typed::push_unshared(values, pair.value, has_lists, is_shared)?)
        });
        if matches!(pushed, Ok(true)) {
            self.partitions.extend(partition);
            self.rows += 1;
            self.room -= 1;
        } else {
            self.truncate(self.rows);
        }
        pushed
    }

    /// Lets the columns hold `None` where `pair` needs that; `false` where it changes nothing.
    #[cold]
    fn make_kinds_for(&mut self, pair: ffi::Pair<'_>) -> Result<bool> {
        let keys = typed::kind_with(&self.keys, pair.key).filter(|keys| !keys.has_lists());
        let values = typed::kind_with(&self.values, pair.value);
        let are_new = keys.is_some() || values.is_some();
        let keys = keys.unwrap_or_else(|| self.keys.fresh());
        let values = values.unwrap_or_else(|| self.values.fresh());
        self.turn_into(&keys, &values)?;
        Ok(are_new)
    }

    fn turn_into(&mut self, keys: &TypedColumn, values: &TypedColumn) -> Result<()> {
        self.keys.turn_into(keys)?;
        self.values.turn_into(values)?;
        self.has_lists = self.values.has_lists();
        self.is_long = self.keys.is_long() || self.values.is_long();
        self.room = 0;
        Ok(())
    }

    /// Appends columns; `false` where they are of other kinds. Their partitions are told later.
    fn append(&mut self, (keys, values): &Handed) -> Result<bool> {
        if !self.keys.holds(keys) || !self.values.holds(values) {
            let kinds = self.keys.joined(keys).zip(self.values.joined(values));
            let Some((keys, values)) = kinds else {
                return Ok(false);
            };
            self.turn_into(&keys, &values)?;
        }
        let appended = self.keys.append(keys, 0..keys.len());
        let appended = appended.and_then(|()| self.values.append(values, 0..values.len()));
        if appended.is_err() {
            self.truncate(self.rows);
        }
        appended?;
        self.rows += keys.len();
        self.room = 0;
        Ok(true)
    }

    fn truncate(&mut self, rows: usize) {
        self.keys.truncate(rows);
        self.values.truncate(rows);
    }

    /// Bytes of texts and lists.
    #[inline]
    fn long_bytes(&self) -> usize {
        if self.is_long {
            self.keys.long_bytes() + self.values.long_bytes()
        } else {
            0
        }
    }

    /// Looks up the partitions that were not told yet.
    fn partition_all(&mut self, py: Python<'_>, partitioner: &Partitioner) -> Result<()> {
        let rows = self.partitions.len()..self.rows;
        partitioner.partitions_of(py, &self.keys, rows, &mut self.partitions)
    }

    fn partition(&self, row: usize) -> u32 {
        self.partitions.get(row).copied().unwrap_or(0)
    }

    fn record<'py>(&self, py: Python<'py>, row: usize) -> Result<Bound<'py, PyAny>> {
        typed::record(py, &self.keys, &self.values, row)
    }

    fn layout(&self) -> Result<Layout> {
        let partitions = self
            .partitions
            .iter()
            .max()
            .map_or(0, |&most| most as usize + 1);
        let partition = |row| self.partition(row) as usize;
        Layout::by(self.rows, partitions, partition)
    }
}

/// Records that were read and are not written yet.
enum Gathered {
    /// All of one kind, as far as they are.
    Columns(Columns),
    /// Of any kind.
    Objects(Buckets),
}

/// What goes with each value, so that the values of several map outputs can be told apart.
struct Tag {
    object: Py<PyAny>,
    /// A column of that one row.
    column: TypedColumn,
}

impl Tag {
    fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut column = typed::column_for(object.as_borrowed())
            .ok_or_else(|| PyTypeError::new_err("a tag is an int or a bool"))?;
        typed::push(&mut column, object.as_borrowed())?;
        Ok(Self {
            object: object.clone().unbind(),
            column,
        })
    }

    /// The record with its value tagged: a tuple of the tag and the value.
    fn put_on<'py>(&self, record: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>> {
        let (py, pair) = (record.py(), pair_of(record)?);
        let tagged = ffi::new_pair(
            py,
            self.object.clone_ref(py),
            pair.value.to_owned().unbind(),
        )?;
        Ok(ffi::new_pair(
            py,
            pair.key.to_owned().unbind(),
            tagged.unbind(),
        )?)
    }
}

/// What is being written.
enum Outgoing {
    Columns(Columns, Layout),
    Objects(Buckets),
}

/// Makes pieces of a map output.
struct Serializer {
    /// Makes bytes of a list of records.
    dumps: Py<PyAny>,
    /// Pieces are blocks; else they are what `dumps` makes, and no record is in columns.
    makes_blocks: bool,
    /// In which combiners are sent.
    form: Form,
    tag: Option<Tag>,
}

impl Serializer {
    fn piece<'py>(
        &mut self,
        py: Python<'py>,
        outgoing: &mut Outgoing,
        partition: u32,
    ) -> Result<Bound<'py, PyAny>> {
        match outgoing {
            Outgoing::Columns(columns, layout) => {
                let rows = layout.rows(partition as usize);
                let (keys, mut values) = (columns.keys.gather(rows)?, columns.values.gather(rows)?);
                if let Some(tag) = &self.tag {
                    let mut tags = tag.column.fresh();
                    tags.try_reserve(rows.len())?;
                    for _ in rows {
                        tags.push_from(&tag.column, 0)?;
                    }
                    values = TypedColumn::Tuple(vec![tags, values]);
                }
                Ok(wire::frame_of_columns(py, &keys, &values)?.into_any())
            }
            Outgoing::Objects(buckets) => {
                let records = buckets
                    .take(partition)
                    .map(|records| records.into_bound(py));
                let rows = records.as_ref().map_or(0, PyListMethods::len);
                let serialized = self.dumps.bind(py).call1((&records,))?;
                drop(records); // they may be large
                if !self.makes_blocks {
                    return Ok(serialized);
                }
                let bytes: &[u8] = serialized.extract().map_err(PyErr::from)?;
                Ok(wire::frame_of_objects(py, rows, bytes)?.into_any())
            }
        }
    }
}

struct State {
    /// `None` at their end.
    records: Option<Py<PyAny>>,
    partitioner: Partitioner,
    serializer: Serializer,
    gathered: Option<Gathered>,
    /// How many records were read since the last were written.
    count: usize,
    outgoing: Option<Outgoing>,
    /// Partitions that are being written, the next one last.
    partitions: Vec<u32>,
    /// The piece of the partition whose number was handed out last.
    chunk: Option<Py<PyAny>>,
    /// Bytes of the pieces that were written since records were read.
    written: usize,
    /// How many pieces that were.
    chunks: usize,
    /// Records to gather until all are written.
    full: usize,
    policy: SpillPolicy,
    interval: CheckInterval,
    /// Records to read until memory is looked at.
    unseen: usize,
    /// How fast memory grows was learnt from columns.
    are_columns: bool,
    counters: Arc<metrics::Counters>,
    sampler: Sampler,
}

impl State {
    fn next<'py>(&mut self, py: Python<'py>) -> Result<Option<Bound<'py, PyAny>>> {
        if let Some(chunk) = self.chunk.take() {
            return Ok(Some(chunk.into_bound(py)));
        }
        if self.partitions.is_empty() {
            self.outgoing = None;
            self.learn();
            // What was written is gone: growth is measured from here.
            self.interval.starts_at(memory::resident_bytes());
            self.read(py)?;
            let counters = Arc::clone(&self.counters);
            counters.partition_time.time(|| self.lay_out(py))?;
        }
        let (Some(partition), Some(outgoing)) = (self.partitions.pop(), &mut self.outgoing) else {
            return Ok(None);
        };
        let counters = &self.counters;
        let (sent, rows) = match outgoing {
            Outgoing::Columns(_, layout) => {
                (&counters.sent_typed, layout.rows(partition as usize).len())
            }
            Outgoing::Objects(buckets) => (&counters.sent_pickled, buckets.rows(py, partition)),
        };
        let make_piece = || self.serializer.piece(py, outgoing, partition);
        let chunk = counters.encode_time.time(make_piece)?;
        let size = chunk.len()?;
        sent.add(rows as u64);
        counters.sent_bytes.add(size as u64);
        self.written = self.written.saturating_add(size);
        self.chunks += 1;
        self.chunk = Some(chunk.unbind());
        let number = i64::from(partition).to_be_bytes();
        Ok(Some(ffi::new_bytes(py, &number)?))
    }

    /// Puts what was gathered in the order of its partitions.
    fn lay_out(&mut self, py: Python<'_>) -> Result<()> {
        match self.gathered.take() {
            None => {}
            Some(Gathered::Objects(mut buckets)) => {
                self.partitions = std::mem::take(&mut buckets.filled);
                self.partitions.reverse();
                self.outgoing = Some(Outgoing::Objects(buckets));
            }
            Some(Gathered::Columns(mut columns)) => {
                columns.partition_all(py, &self.partitioner)?;
                let layout = columns.layout()?;
                for partition in (0..layout.partitions()).rev() {
                    if !layout.rows(partition).is_empty() {
                        memory::try_grow(&mut self.partitions, 1, WHAT)?;
                        // Partitions are numbered in 32 bits.
                        self.partitions.extend(u32::try_from(partition));
                    }
                }
                self.outgoing = Some(Outgoing::Columns(columns, layout));
            }
        }
        Ok(())
    }

    /// Sets how many records to gather next, by the size of those that were written.
    fn learn(&mut self) {
        if self.chunks == 0 {
            return;
        }
        let records = std::mem::take(&mut self.count);
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
        let most_references = most_references(&records);
        let counters = Arc::clone(&self.counters);
        let mut sampler = self.sampler;
        while self.count < self.full {
            let long_bytes = self.long_bytes();
            let most = (self.full - self.count).min(self.unseen);
            let columns = if self.serializer.makes_blocks {
                next_columns(&records, most, self.serializer.form, &mut |_, _| true)?
            } else {
                None
            };
            let read = if let Some(columns) = columns {
                let push = || self.push_columns(py, &columns);
                counters.partition_time.time(push)?;
                columns.0.len()
            } else if let Some(record) = ffi::next(&records)? {
                let record = self.as_pair(record)?;
                let push = || self.push(&record, most_references);
                sampler.time(&counters.partition_time, push)?;
                self.sampler = sampler;
                1
            } else {
                self.records = None;
                return Ok(());
            };
            self.count += read;
            if self.is_heavy() {
                break;
            }
            // A long record counts for many.
            let long_bytes = self.long_bytes().saturating_sub(long_bytes);
            let read = read.saturating_add(long_bytes / RECORD_BYTES);
            self.unseen = self.unseen.saturating_sub(read);
            if self.unseen == 0 && self.is_memory_short() {
                break;
            }
        }
        py.check_signals()?;
        Ok(())
    }

    /// Adds a record, a tuple of two.
    #[inline]
    fn push(&mut self, record: &Bound<'_, PyAny>, most_references: isize) -> Result<()> {
        let pair = pair_of(record)?;
        if self.gathered.is_none() && self.serializer.makes_blocks {
            self.gathered = Columns::for_pair(pair).map(Gathered::Columns);
        }
        let mut partition = None;
        if let Some(Gathered::Columns(columns)) = &mut self.gathered {
            if !self.partitioner.is_by_column() {
                partition = Some(self.partitioner.partition(pair.key)?);
            }
            let is_shared = ffi::references(record.as_borrowed()) > most_references;
            if columns.push(pair, partition, is_shared)?
                || columns.make_kinds_for(pair)? && columns.push(pair, partition, is_shared)?
            {
                return Ok(());
            }
        }
        let partition = match partition {
            Some(partition) => partition,
            None => self.partitioner.partition(pair.key)?,
        };
        let record = self.tagged(record.clone())?;
        self.objects(record.py())?.push(partition, &record)
    }

    /// The record as a tuple of two. Where PySpark tags values it takes the first two items of
    /// whatever a record is.
    fn as_pair<'py>(&self, record: Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>> {
        if self.serializer.tag.is_none() || ffi::pair(&record).is_some() {
            return as_pair(record);
        }
        let (key, value) = (record.get_item(0)?, record.get_item(1)?);
        Ok(ffi::new_pair(record.py(), key.unbind(), value.unbind())?)
    }

    /// Adds columns.
    fn push_columns(&mut self, py: Python<'_>, added: &Handed) -> Result<()> {
        let (keys, values) = added;
        let gathered = self
            .gathered
            .get_or_insert_with(|| Gathered::Columns(Columns::of(keys, values)));
        if let Gathered::Columns(columns) = gathered
            && columns.append(added)?
        {
            if !self.partitioner.is_by_column() {
                columns.partition_all(py, &self.partitioner)?;
            }
            return Ok(());
        }
        let mut other = Columns::of(keys, values);
        other.append(added)?;
        other.partition_all(py, &self.partitioner)?;
        for row in 0..other.rows {
            let record = self.tagged(other.record(py, row)?)?;
            self.objects(py)?.push(other.partition(row), &record)?;
        }
        Ok(())
    }

    /// The record with its value tagged, where values are.
    fn tagged<'py>(&self, record: Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>> {
        match &self.serializer.tag {
            Some(tag) => tag.put_on(&record),
            None => Ok(record),
        }
    }

    /// What was gathered, as objects.
    fn objects(&mut self, py: Python<'_>) -> Result<&mut Buckets> {
        if std::mem::take(&mut self.are_columns) {
            self.interval = CheckInterval::new(FIRST_OBJECTS);
            self.interval.starts_at(memory::resident_bytes());
            self.unseen = self.unseen.min(FIRST_OBJECTS);
        }
        if let Some(Gathered::Columns(columns)) = &mut self.gathered {
            columns.partition_all(py, &self.partitioner)?;
        }
        if let Some(Gathered::Columns(columns)) = &self.gathered {
            let mut buckets = Buckets::default();
            for row in 0..columns.rows {
                let record = self.tagged(columns.record(py, row)?)?;
                buckets.push(columns.partition(row), &record)?;
            }
            self.gathered = Some(Gathered::Objects(buckets));
        }
        let gathered = self
            .gathered
            .get_or_insert_with(|| Gathered::Objects(Buckets::default()));
        match gathered {
            Gathered::Objects(buckets) => Ok(buckets),
            Gathered::Columns(_) => Err(Error::Usage("records were not made objects".to_owned())),
        }
    }

    /// Bytes of the texts and lists that were gathered in columns.
    #[inline]
    fn long_bytes(&self) -> usize {
        match &self.gathered {
            Some(Gathered::Columns(columns)) => columns.long_bytes(),
            _ => 0,
        }
    }

    /// Whether lists and texts of many bytes were gathered, however few records.
    fn is_heavy(&self) -> bool {
        match &self.gathered {
            Some(Gathered::Columns(columns)) if columns.has_lists => {
                let partitions = self.partitioner.partitions as usize;
                let most = MOST_CHUNKS.max(partitions).saturating_mul(CHUNK_BYTES);
                columns.values.long_bytes() >= most
            }
            _ => false,
        }
    }

    fn is_memory_short(&mut self) -> bool {
        let resident = memory::resident_bytes();
        self.interval.checked(resident, &self.policy);
        self.are_columns = matches!(self.gathered, Some(Gathered::Columns(_)));
        self.unseen = if self.are_columns {
            self.interval.records()
        } else {
            self.interval.records().min(MOST_UNSEEN)
        };
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
    /// early where the process holds more than `limit_mib` MiB. With `makes_blocks` pieces are
    /// frames of blocks, in which typed records are columns; else they are what `dumps` makes.
    /// What becomes of the records is counted by `counters`. With a `tag`, an int or a bool, the value
    /// of each is a tuple of that and what it was. With `in_pieces`, combiners of equal keys are merged
    /// where they are sent to, and may be sent as they were spilled, or a long list as several.
    #[new]
    #[pyo3(signature = (
        records, partition_function, is_portable_hash, partitions, dumps, makes_blocks, limit_mib,
        counters=None, tag=None, in_pieces=false
    ))]
    #[allow(clippy::too_many_arguments)] // all are told by name in one place
    fn new(
        records: &Bound<'_, PyAny>,
        partition_function: &Bound<'_, PyAny>,
        is_portable_hash: bool,
        partitions: u32,
        dumps: Py<PyAny>,
        makes_blocks: bool,
        limit_mib: f64,
        counters: Option<&Bound<'_, Counters>>,
        tag: Option<&Bound<'_, PyAny>>,
        in_pieces: bool,
    ) -> PyResult<Self> {
        let mut interval = CheckInterval::new(FIRST_LOOK);
        interval.starts_at(memory::resident_bytes());
        Ok(Self {
            state: GilCell::new(Some(Box::new(State {
                records: Some(records.try_iter()?.into_any().unbind()),
                partitioner: Partitioner::new(partition_function, is_portable_hash, partitions),
                serializer: Serializer {
                    dumps,
                    makes_blocks,
                    form: if in_pieces {
                        Form::InPieces
                    } else {
                        Form::Whole
                    },
                    tag: tag.map(Tag::of).transpose()?,
                },
                gathered: None,
                count: 0,
                outgoing: None,
                partitions: Vec::new(),
                chunk: None,
                written: 0,
                chunks: 0,
                full: FIRST_RECORDS,
                policy: SpillPolicy::new(limit_mib),
                unseen: interval.records(),
                are_columns: false,
                interval,
                counters: Counters::of(counters),
                sampler: Sampler::default(),
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
            visit.call(&state.serializer.dumps)?;
            visit.call(&state.chunk)?;
            if let Some(Gathered::Objects(buckets)) = &state.gathered {
                buckets.traverse(&visit)?;
            }
            if let Some(Outgoing::Objects(buckets)) = &state.outgoing {
                buckets.traverse(&visit)?;
            }
            Ok(())
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
