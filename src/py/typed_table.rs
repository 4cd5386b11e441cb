//! [`TypedTable`]: typed keys, combiners made by a native aggregate. No Python object is touched
//! once a record has been read.

use std::sync::Arc;

use pyo3::prelude::*;

use super::ahead::Ahead;
use super::batch::{Batch, Rest};
use super::column_codec::ColumnEncoder;
use super::external_list;
use super::ffi;
use super::handover::{Form, Handed, next_columns};
use super::object_table::{ObjectTable, Progress, SLICE_ITEMS, key_hash, pair_of, unpack};
use super::typed;
use crate::aggregate::Records;
use crate::aggregate::native::NativeAggregate;
use crate::aggregate::plan::Plan;
use crate::column::codec::{self, Columns};
use crate::column::typed::{TypedColumn, TypedKeys};
use crate::error::{Error, Result};
use crate::map::AppendOnlyMap;
use crate::memory::try_grow;
use crate::metrics::Counters;
use crate::spill::block::{Block, BlockEncoder};
use crate::spill::external_table::Position;
use crate::spill::layout::Layout;
use crate::spill::run::RunWriter;
use crate::spill::spill_file::SpillFiles;

/// Records that are read before they are merged together, so that the misses of their look-ups
/// overlap. What is read of them fits in the first cache.
const BATCH_RECORDS: usize = 512;

/// Bytes of a small Python object.
const OBJECT_BYTES: usize = 32;

/// Each time that lists are read after some were added to, all of them are put in order.
const MOST_SORTS: usize = 8;

/// Slices of a list that are made objects at once, on their way to disk.
const SLICES_AT_ONCE: usize = 16;

/// About so many bytes of columns make a block.
const BLOCK_BYTES: usize = 256 << 10;

/// About so many bytes of columns are handed over at once.
const HANDED_BYTES: usize = 1 << 20;

const WHAT: &str = "a batch of records";

/// How reading records came to a stop.
pub enum Outcome<'py> {
    /// As in a table of objects.
    Progress(Progress),
    /// A record was read that does not fit: it is the first one that is not merged.
    Misfit(Bound<'py, PyAny>),
    /// An expression has stopped at a record, from which on none is merged: see
    /// [`TypedTable::take_rest`].
    Stopped,
}

/// What reading records of two numbers came to.
enum ReadNumbers<'py> {
    /// As many as were wanted.
    All,
    /// The iterator is at its end.
    End,
    /// A record that does not fit as it is, with so many left of those that were wanted.
    Until(Bound<'py, PyAny>, usize),
    /// The batch is not of numbers.
    None,
}

/// What merging columns came to.
pub enum Merged {
    /// All were merged.
    All,
    /// They are of other kinds than the table's, and none was merged.
    None,
    /// All but these, at the first of which an expression has stopped.
    AllBut(Rest),
}

/// Table of typed keys and natively made combiners.
pub struct TypedTable {
    map: AppendOnlyMap<TypedKeys>,
    aggregate: NativeAggregate,
    batch: Batch,
}

impl TypedTable {
    /// An empty table for keys as that of `record`, a tuple of two; `None` where it is not typed.
    pub fn for_record(plan: Plan, record: &Bound<'_, PyAny>) -> Result<Option<Self>> {
        let keys = typed::column_for(pair_of(record)?.key);
        Ok(keys.map(|keys| Self::new(&keys, NativeAggregate::new(plan))))
    }

    /// A table of what `objects` holds, merged by `plan` from now on; `None` where there is
    /// something in it that is not typed, or that `plan` does not hold for.
    pub fn of(py: Python<'_>, objects: &ObjectTable, plan: Plan) -> Result<Option<Self>> {
        let mut columns: Option<(TypedColumn, TypedColumn)> = None;
        for row in 0..objects.rows() {
            let (key, combiner) = objects.row_of(py, row)?;
            if columns.is_none() {
                columns = typed::column_for(key).zip(typed::column_for(combiner));
            }
            let Some((keys, combiners)) = &mut columns else {
                return Ok(None);
            };
            if !push_growing(combiners, combiner, typed::push_held_once)?
                || !push_growing(keys, key, typed::push_key)?
            {
                return Ok(None);
            }
        }
        let Some((keys, combiners)) = columns else {
            return Ok(None);
        };
        let mut table = Self::new(&keys, NativeAggregate::new(plan));
        let merged = table.merge_columns(keys, combiners)?;
        Ok(matches!(merged, Merged::All).then_some(table))
    }

    fn new(keys: &TypedColumn, aggregate: NativeAggregate) -> Self {
        Self {
            map: AppendOnlyMap::new(TypedKeys(keys.fresh())),
            aggregate,
            batch: Batch::of(keys),
        }
    }

    /// An empty table that merges as this one does.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self::new(&self.map.keys().0, self.aggregate.fresh())
    }

    /// Number of keys.
    pub fn rows(&self) -> usize {
        self.map.len()
    }

    /// The bits of the hash of the key in `row`.
    pub fn hash(&self, row: usize) -> u64 {
        self.map.hash(row).unwrap_or(0)
    }

    /// Bytes allocated by the table.
    pub fn heap_bytes(&self) -> usize {
        self.map.heap_bytes() + self.aggregate.heap_bytes()
    }

    /// Bytes that the table grows by, all at once, when so many keys come; and when lists are read,
    /// as they are to be written.
    pub fn growth_for(&self, keys: usize) -> usize {
        let of_order = self.aggregate.all_items().saturating_mul(size_of::<u32>());
        self.map.growth_for(keys).saturating_add(of_order)
    }

    /// About as many bytes as the same would take in a table of objects.
    pub fn bytes_of_objects(&self) -> usize {
        let items = self.aggregate.all_items();
        let cells = self.rows().saturating_mul(2).saturating_add(items);
        // A small object, and the reference to it.
        let of_cells = cells.saturating_mul(OBJECT_BYTES + size_of::<usize>());
        of_cells.saturating_add(self.heap_bytes())
    }

    /// Merges up to `records` records of `iterator`. No record that was read is lost: what is not
    /// merged at the end, or where memory is refused, is to be by
    /// [`merge_counted`](Self::merge_counted).
    pub fn merge<'py>(
        &mut self,
        iterator: &Bound<'py, PyAny>,
        kind: Records,
        records: usize,
        counters: &Counters,
    ) -> Result<Outcome<'py>> {
        let mut left = records;
        let mut ahead = Ahead::of(iterator);
        loop {
            self.merge_counted(counters)?;
            if self.is_stopped() {
                return Ok(Outcome::Stopped);
            }
            if left == 0 {
                return Ok(Outcome::Progress(Progress::Checkpoint));
            }
            self.batch.start(kind);
            let wanted = left.min(BATCH_RECORDS);
            let read = self.read(iterator, wanted, &mut ahead);
            left = left.saturating_sub(self.batch.weight());
            if let Some(stopped) = read? {
                return Ok(stopped);
            }
        }
    }

    /// Reads up to `wanted` records into the batch, which is empty; what stopped it, if not that.
    fn read<'py>(
        &mut self,
        iterator: &Bound<'py, PyAny>,
        wanted: usize,
        ahead: &mut Ahead<'_>,
    ) -> Result<Option<Outcome<'py>>> {
        try_grow(&mut self.batch.hashes, wanted, WHAT)?;
        if self.read_columns(iterator, wanted)? {
            return Ok(None);
        }
        let most_references = most_references(iterator);
        self.batch.keys.try_reserve(wanted)?;
        if let Some(values) = &mut self.batch.values {
            values.try_reserve(wanted)?;
        }
        let unread = match self.read_numbers(iterator, wanted, ahead)? {
            ReadNumbers::All => return Ok(None),
            ReadNumbers::End => return Ok(Some(Outcome::Progress(Progress::Exhausted))),
            ReadNumbers::Until(record, unread) => {
                if let Some(misfit) = self.offer(record, most_references)? {
                    return Ok(Some(Outcome::Misfit(misfit)));
                }
                unread
            }
            ReadNumbers::None => wanted,
        };
        for _ in 0..unread {
            let Some(record) = ahead.next(iterator)? else {
                return Ok(Some(Outcome::Progress(Progress::Exhausted)));
            };
            // What failed does so once more where it is offered.
            if !matches!(self.take(&record, most_references), Ok(true))
                && let Some(misfit) = self.offer(record, most_references)?
            {
                return Ok(Some(Outcome::Misfit(misfit)));
            }
            if self.batch.is_long && self.batch.is_heavy() {
                break;
            }
        }
        Ok(None)
    }

    /// Reads up to `wanted` records into a batch of numbers, in a loop that has less to look at.
    fn read_numbers<'py>(
        &mut self,
        iterator: &Bound<'py, PyAny>,
        wanted: usize,
        ahead: &mut Ahead<'_>,
    ) -> Result<ReadNumbers<'py>> {
        let batch = &mut self.batch;
        let len = &mut batch.len;
        match (&mut batch.keys, &mut batch.values) {
            (TypedColumn::Int(keys), Some(TypedColumn::Int(values))) => {
                read_pairs(iterator, wanted, ahead, len, keys, values, ffi::as_i64)
            }
            (TypedColumn::Int(keys), Some(TypedColumn::Float(values))) => {
                read_pairs(iterator, wanted, ahead, len, keys, values, ffi::as_f64)
            }
            _ => Ok(ReadNumbers::None),
        }
    }

    /// Reads up to `wanted` records that come as columns into the batch, which is empty; `false`
    /// where they do not.
    fn read_columns(&mut self, iterator: &Bound<'_, PyAny>, wanted: usize) -> Result<bool> {
        let (batch, aggregate) = (&mut self.batch, &mut self.aggregate);
        let known = &self.map.keys().0;
        let found = next_columns(iterator, wanted, Form::Whole, &mut |keys, values| {
            known.joined(keys).is_some() && aggregate.accepts(batch.records, values)
        })?;
        let Some((keys, values)) = found else {
            return Ok(false);
        };
        if let Err(error) = typed::hashes(iterator.py(), &keys, &mut batch.hashes) {
            batch.hashes.clear();
            return Err(error);
        }
        batch.len = keys.len();
        batch.keys = keys;
        batch.values = Some(values);
        batch.look();
        Ok(true)
    }

    /// Adds the first record of `iterator`, of that kind, to the batch, or gives it back.
    pub fn offer_first<'py>(
        &mut self,
        record: Bound<'py, PyAny>,
        kind: Records,
        iterator: &Bound<'py, PyAny>,
    ) -> Result<Option<Bound<'py, PyAny>>> {
        self.batch.start(kind);
        self.offer(record, most_references(iterator))
    }

    /// Adds a record to the batch; `false` where it does not fit as it is.
    ///
    /// A list is copied here, and changed in stock where a combiner is one: so it fits only where
    /// its record is held by nobody who might bring it again.
    #[inline(always)]
    #[allow(clippy::inline_always)] // once a record: the call costs as much as what it does
    fn take(&mut self, record: &Bound<'_, PyAny>, most_references: isize) -> Result<bool> {
        let Some(pair) = ffi::pair(record) else {
            return Ok(false);
        };
        let before = self.batch.len();
        let has_fit = self.push(pair);
        let is_shared =
            self.batch.has_lists && ffi::references(record.as_borrowed()) > most_references;
        if matches!(has_fit, Ok(true)) && !is_shared {
            return Ok(true);
        }
        self.batch.truncate(before);
        has_fit.map(|_| false)
    }

    /// Adds a record to the batch, which is made to hold it where that is exact, or gives it back,
    /// as a tuple of two.
    #[cold]
    fn offer<'py>(
        &mut self,
        record: Bound<'py, PyAny>,
        most_references: isize,
    ) -> Result<Option<Bound<'py, PyAny>>> {
        let record = as_pair(record)?;
        loop {
            // As often as that lets the batch hold more.
            let may_fit = match self.take(&record, most_references) {
                Ok(true) => return Ok(None),
                Ok(false) => self.make_kinds_for(pair_of(&record)?),
                failed => failed,
            };
            match may_fit {
                Ok(true) => {}
                // One that there is no memory for to copy it may fit as it is.
                Ok(false) | Err(Error::OutOfMemory { .. }) => return Ok(Some(record)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets the batch hold `None` where `pair` needs that, as far as that is exact; `false` where
    /// it changes nothing.
    #[cold]
    fn make_kinds_for(&mut self, pair: ffi::Pair<'_>) -> Result<bool> {
        let batch = &mut self.batch;
        let keys = typed::kind_with(&batch.keys, pair.key);
        let values = batch.values.as_ref();
        let values = values.and_then(|values| typed::kind_with(values, pair.value));
        if keys.is_none() && values.is_none() {
            return Ok(false);
        }
        if let Some(keys) = &keys
            && (keys.has_lists() || self.map.keys().0.joined(keys).is_none())
        {
            return Ok(false);
        }
        if let Some(values) = &values
            && !self.aggregate.accepts(batch.records, values)
        {
            return Ok(false);
        }
        if let Some(kind) = keys {
            batch.hash_ints()?;
            batch.keys.turn_into(&kind)?;
            batch.keys.try_reserve(BATCH_RECORDS)?;
        }
        if let (Some(column), Some(kind)) = (&mut batch.values, values) {
            column.turn_into(&kind)?;
            column.try_reserve(BATCH_RECORDS)?;
        }
        batch.look();
        Ok(true)
    }

    /// Adds a record to the batch. Where it does not fit, or that fails, parts of it may be left
    /// in the batch, for the caller to take back.
    #[inline(always)]
    #[allow(clippy::inline_always)] // once a record: the call costs as much as what it does
    fn push(&mut self, pair: ffi::Pair<'_>) -> Result<bool> {
        if !typed::push_key(&mut self.batch.keys, pair.key)? {
            return Ok(false);
        }
        let has_fit = match &mut self.batch.values {
            Some(values) if self.batch.has_lists => typed::push_held_once(values, pair.value)?,
            Some(values) => typed::push(values, pair.value)?,
            None => self.push_first(pair.value)?,
        };
        if !has_fit {
            return Ok(false);
        }
        let batch = &mut self.batch;
        // Those of ints are made all at once.
        if !matches!(batch.keys, TypedColumn::Int(_)) {
            batch.hashes.push(typed::hash_of(pair.key)?);
        }
        batch.len += 1;
        Ok(true)
    }

    /// Adds the value of the batch's first record, which tells their kind.
    #[cold]
    fn push_first(&mut self, value: Borrowed<'_, '_, PyAny>) -> Result<bool> {
        let batch = &mut self.batch;
        let column = match batch.records {
            Records::Values => typed::column_at(value, &self.aggregate.plan().paths()),
            Records::Combiners => typed::column_for(value),
        };
        let Some(mut values) = column else {
            return Ok(false);
        };
        if !self.aggregate.accepts(batch.records, &values) {
            return Ok(false);
        }
        values.try_reserve(BATCH_RECORDS)?;
        let has_fit = typed::push_held_once(&mut values, value)?;
        batch.values = Some(values);
        batch.look();
        Ok(has_fit)
    }

    /// In words why a record, a tuple of two, does not fit.
    pub fn misfit(&self, record: &Bound<'_, PyAny>) -> Result<String> {
        let pair = pair_of(record)?;
        let of_key = typed::misfit(&self.map.keys().0, pair.key, "key");
        let of_value = || match &self.batch.values {
            Some(values) => typed::misfit(values, pair.value, "value"),
            None => Some(format!(
                "value is {}, which the aggregate is not for",
                typed::of_type(pair.value)
            )),
        };
        let held = || "value has a list that is held elsewhere too".to_owned();
        Ok(of_key.or_else(of_value).unwrap_or_else(held))
    }

    /// Merges the batch, as [`merge_batch`](Self::merge_batch) does, and counts its records.
    pub fn merge_counted(&mut self, counters: &Counters) -> Result<()> {
        let kind = self.batch.records;
        if !self.batch.is_empty() {
            let merged = counters.aggregate_time.time(|| self.merge_batch())?;
            counters.typed(kind, merged);
        }
        Ok(())
    }

    /// Whether an expression has stopped at a record of the batch.
    pub fn is_stopped(&self) -> bool {
        self.batch.stopped_at.is_some()
    }

    /// The records from the one on at which an expression has stopped, if one has.
    pub fn take_rest(&mut self) -> Option<Rest> {
        self.batch.stopped_at?;
        let batch = Batch::of(&self.map.keys().0);
        std::mem::replace(&mut self.batch, batch).rest()
    }

    /// Merges the batch, of which something is left where there was no memory for it, or where it
    /// has stopped; returns how many records were merged. Where memory is refused, it is as before.
    fn merge_batch(&mut self) -> Result<usize> {
        let batch = &mut self.batch;
        let records = batch.len();
        if batch.is_empty() || batch.stopped_at.is_some() {
            return Ok(0);
        }
        batch.hash_ints()?;
        let Some(values) = &batch.values else {
            return Ok(0);
        };
        let known = self.map.len();
        let keys = &self.map.keys().0;
        if !keys.holds(&batch.keys)
            && let Some(kind) = keys.joined(&batch.keys)
        {
            self.map.keep_hashes()?;
            self.map.keys_mut().0.turn_into(&kind)?;
        }
        self.map.make_room_for(records)?;
        let keys = &mut self.map.keys_mut().0;
        keys.try_reserve(records)?;
        keys.try_reserve_within(&batch.keys)?;
        self.aggregate.try_reserve(values, records)?;
        batch.rows.clear();
        try_grow(&mut batch.rows, records, WHAT)?;
        let (rows, aggregate) = (&mut batch.rows, &self.aggregate);
        let prefetch = |row| aggregate.prefetch(row);
        // Rows are numbered in 32 bits.
        let see = |_, row, _| rows.extend(u32::try_from(row));
        self.map
            .find_each(&batch.hashes, &batch.keys, prefetch, see)?;
        let merged = self.aggregate.merge(batch.records, &batch.rows, values);
        let count = *merged.as_ref().unwrap_or(&0);
        if count == records {
            batch.clear();
        } else {
            let rows = batch.rows.iter().take(count);
            let rows = rows
                .map(|&row| row as usize + 1)
                .max()
                .unwrap_or(0)
                .max(known);
            self.map.truncate(rows);
            self.map.keys_mut().0.truncate(rows);
            batch.stopped_at = merged.is_ok().then_some(count);
        }
        merged
    }

    /// Puts what is merged into `objects`, which is empty.
    pub fn widen_into(&self, py: Python<'_>, objects: &mut ObjectTable) -> Result<()> {
        for row in 0..self.rows() {
            let (key, combiner) = self.record(py, row)?;
            let hash = key_hash(key.as_borrowed())?;
            objects.push(key.as_borrowed(), combiner.as_borrowed(), hash)?;
        }
        Ok(())
    }

    /// Whether lists were read, and then added to, so often that keeping them in one column costs
    /// more than it gives.
    pub fn is_read_too_often(&self) -> bool {
        self.aggregate.sorts() > MOST_SORTS
    }

    /// The key and the combiner in `row`.
    #[inline]
    pub fn record<'py>(
        &self,
        py: Python<'py>,
        row: usize,
    ) -> Result<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let key = typed::get(py, &self.map.keys().0, row)?;
        Ok((key, typed::combiner(py, &self.aggregate, row)?))
    }

    /// Whether combiners are lists, sets or texts that merging puts together.
    pub fn joins(&self) -> bool {
        self.aggregate.joins()
    }

    /// Up to `most` keys and combiners from a position on, and the position behind them; `None`
    /// where a combiner is beyond any column.
    pub fn columns(
        &self,
        at: Position,
        most: usize,
        form: Form,
    ) -> Result<Option<(Handed, Position)>> {
        let row = at.row;
        let end = row.saturating_add(most).min(self.rows());
        let mut rows = crate::memory::try_with_capacity(end.saturating_sub(row), WHAT)?;
        // Rows are numbered in 32 bits.
        rows.extend((row..end).filter_map(|row| u32::try_from(row).ok()));
        let found = self.some(&rows, at.item, form)?;
        let Some((rows, combiners, item)) = found else {
            return Ok(None);
        };
        let keys = self.map.keys().0.slice(row..row + rows.len())?;
        let row = if item > 0 { row } else { row + rows.len() };
        Ok(Some(((keys, combiners), Position { row, item })))
    }

    /// Combiners of the first of some rows: one at least, and no more than go well together, of long
    /// ones. With them come those rows, and the item that the last of them goes on at, if it does.
    fn some<'a>(
        &self,
        rows: &'a [u32],
        item: usize,
        form: Form,
    ) -> Result<Option<(&'a [u32], TypedColumn, usize)>> {
        let items = |row: u32| self.aggregate.items(row as usize);
        let Some((&first, _)) = rows.split_first() else {
            return Ok(None);
        };
        let enough = self.cells_within(HANDED_BYTES);
        if form == Form::InPieces
            && items(first) > enough
            && let Some(piece) = self.aggregate.piece(first as usize, item, enough)?
        {
            let next = item.saturating_add(enough);
            let next = if next < items(first) { next } else { 0 };
            return Ok(Some((rows.get(..1).unwrap_or_default(), piece, next)));
        }
        let mut cells = 0;
        let has_room = |&&row: &&u32| {
            let has_room = cells < enough && !self.aggregate.has_carry(row as usize);
            cells += items(row) + 1;
            has_room
        };
        let count = rows.iter().take_while(has_room).count();
        let rows = rows.get(..count).unwrap_or_default();
        if rows.is_empty() {
            return Ok(None);
        }
        let combiners = match form {
            Form::Lengths => self.aggregate.lengths(rows)?,
            _ => self.aggregate.gather(rows)?,
        };
        Ok(combiners.map(|combiners| (rows, combiners, 0)))
    }

    /// About how many bytes the largest list takes as a list of objects.
    pub fn largest_list(&self) -> usize {
        let most = self.aggregate.most_items();
        most.saturating_mul(OBJECT_BYTES + size_of::<usize>())
    }

    /// How many rows, and items of lists and pieces of texts in them, take about so many bytes; one
    /// at least.
    fn cells_within(&self, bytes: usize) -> usize {
        let cells = self.rows().saturating_add(self.aggregate.all_items());
        let bytes_of_cell = self.heap_bytes() / cells.max(1);
        (bytes / bytes_of_cell.max(1)).max(1)
    }

    /// Writes all rows as blocks, partition by partition.
    pub fn write(&self, layout: &Layout, writer: &mut RunWriter<'_>) -> Result<()> {
        let mut encoder = BlockEncoder::new();
        let most = self.cells_within(BLOCK_BYTES);
        let mut block = Vec::new();
        for partition in 0..layout.partitions() {
            let mut weight = 0;
            for &row in layout.rows(partition) {
                let items = self.aggregate.items(row as usize);
                if items > most && self.write_slices(row, most, &mut encoder, writer)? {
                    continue;
                }
                try_grow(&mut block, 1, "the records of a block")?;
                block.push(row);
                weight += items + 1;
                if weight >= most {
                    self.write_rows(&block, &mut encoder, writer)?;
                    block.clear();
                    weight = 0;
                }
            }
            if !block.is_empty() {
                self.write_rows(&block, &mut encoder, writer)?;
                block.clear();
            }
            writer.end_partition();
        }
        Ok(())
    }

    fn write_rows(
        &self,
        rows: &[u32],
        encoder: &mut BlockEncoder,
        writer: &mut RunWriter<'_>,
    ) -> Result<()> {
        let mut columns = Columns::new();
        codec::encode(&self.map.keys().0.gather(rows)?, &mut columns)?;
        match self.aggregate.gather(rows)? {
            Some(combiners) => codec::encode(&combiners, &mut columns)?,
            None => self.encode_objects(rows, &mut columns)?,
        }
        let rows = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        writer.push(encoder.encode(rows, &columns)?, rows)
    }

    /// Writes a long list or text as several of up to `most` items; `false` where combiners are
    /// more than that, or merging does not join them.
    fn write_slices(
        &self,
        row: u32,
        most: usize,
        encoder: &mut BlockEncoder,
        writer: &mut RunWriter<'_>,
    ) -> Result<bool> {
        let key = self.map.keys().0.gather(&[row])?;
        let mut start = 0;
        while let Some(piece) = self.aggregate.piece(row as usize, start, most)? {
            let mut columns = Columns::new();
            codec::encode(&key, &mut columns)?;
            codec::encode(&piece, &mut columns)?;
            writer.push(encoder.encode(1, &columns)?, 1)?;
            start = start.saturating_add(most);
        }
        Ok(start > 0)
    }

    /// Puts the keys into `groups`, and their lists to `files`; `false` where combiners are more
    /// than a list.
    pub fn move_lists_to_disk(
        &self,
        py: Python<'_>,
        files: &Arc<SpillFiles>,
        groups: &mut ObjectTable,
    ) -> Result<bool> {
        let Some(lists) = self.aggregate.lists() else {
            return Ok(false);
        };
        for row in 0..self.rows() {
            let key = typed::get(py, &self.map.keys().0, row)?;
            let mut blocks = Vec::new();
            let list = lists.list(row)?;
            for part in list.chunks(SLICE_ITEMS * SLICES_AT_ONCE) {
                let slices = ffi::empty_list(py)?;
                for slice in part.chunks(SLICE_ITEMS) {
                    let rows = slice.iter().map(|&row| row as usize);
                    ffi::append(&slices, &typed::list(py, lists.items(), rows)?)?;
                }
                blocks.extend(external_list::write_values(&slices, None, files)?);
            }
            groups.push_on_disk(key.as_borrowed(), blocks, list.len(), files)?;
        }
        Ok(true)
    }

    fn encode_objects(&self, rows: &[u32], columns: &mut Columns) -> Result<()> {
        Python::attach(|py| {
            let mut combiners = Vec::new();
            try_grow(&mut combiners, rows.len(), "the records of a block")?;
            for &row in rows {
                combiners.push(typed::combiner(py, &self.aggregate, row as usize)?);
            }
            ColumnEncoder::default().encode(py, &combiners, columns)
        })
    }

    /// Merges the combiners of a block.
    pub fn merge_block(&mut self, block: &Block, place: &dyn Fn() -> String) -> Result<Merged> {
        match codec::read_two(block, place)? {
            Some((keys, combiners)) => self.merge_columns(keys, combiners),
            None => Ok(Merged::None),
        }
    }

    /// Keys and combiners of some of the `rows` of the table, from a position among them on, and
    /// the position behind; `None` where a combiner is beyond any column.
    pub fn columns_of(&self, rows: &[u32], at: Position) -> Result<Option<(Handed, Position)>> {
        let rows = rows.get(at.row..).unwrap_or_default();
        let form = if self.joins() {
            Form::InPieces
        } else {
            Form::Whole
        };
        let found = self.some(rows, at.item, form)?;
        let Some((rows, combiners, item)) = found else {
            return Ok(None);
        };
        let keys = self.map.keys().0.gather(rows)?;
        let row = if item > 0 {
            at.row
        } else {
            at.row + rows.len()
        };
        Ok(Some(((keys, combiners), Position { row, item })))
    }

    /// Whether combiners of those kinds can be merged.
    pub fn takes(&mut self, keys: &TypedColumn, combiners: &TypedColumn) -> bool {
        self.map.keys().0.joined(keys).is_some()
            && self.aggregate.accepts(Records::Combiners, combiners)
    }

    /// Merges combiners, one for each key.
    pub fn merge_columns(&mut self, keys: TypedColumn, combiners: TypedColumn) -> Result<Merged> {
        // What waits was accepted by the kinds as they are.
        self.merge_batch()?;
        if !self.takes(&keys, &combiners) {
            return Ok(Merged::None);
        }
        let mut hashes = Vec::new();
        Python::attach(|py| typed::hashes(py, &keys, &mut hashes))?;
        let rows = std::mem::take(&mut self.batch.rows);
        let batch = Batch {
            records: Records::Combiners,
            len: keys.len(),
            keys,
            hashes,
            values: Some(combiners),
            has_lists: false,
            is_long: false,
            rows,
            stopped_at: None,
        };
        let kept = std::mem::replace(&mut self.batch, batch);
        let merged = self.merge_batch();
        let rest = self.take_rest();
        self.batch = kept;
        merged.map(|_| rest.map_or(Merged::All, Merged::AllBut))
    }

    /// Forgets everything and keeps the memory for as much again.
    pub fn reset(&mut self) {
        self.map.reset();
        self.aggregate.reset();
        self.batch.truncate(0);
    }

    /// Forgets what is merged and frees its memory.
    pub fn clear(&mut self) {
        self.map.clear();
        self.aggregate.clear();
    }
}

/// Reads up to `wanted` records as far as they are pairs of an int and what `value_of` is for.
#[inline(always)]
#[allow(clippy::inline_always)] // each use of it is to be a loop of its own
fn read_pairs<'py, V>(
    iterator: &Bound<'py, PyAny>,
    wanted: usize,
    ahead: &mut Ahead<'_>,
    len: &mut usize,
    keys: &mut Vec<i64>,
    values: &mut Vec<V>,
    value_of: impl Fn(Borrowed<'_, '_, PyAny>) -> Option<V>,
) -> Result<ReadNumbers<'py>> {
    for read in 1..=wanted {
        let Some(record) = ahead.next(iterator)? else {
            return Ok(ReadNumbers::End);
        };
        if let Some(pair) = ffi::pair(&record)
            && let Some(key) = ffi::as_i64(pair.key)
            && let Some(value) = value_of(pair.value)
        {
            keys.push(key);
            values.push(value);
            *len += 1;
        } else {
            return Ok(ReadNumbers::Until(record, wanted - read));
        }
    }
    Ok(ReadNumbers::All)
}

/// Appends `object` by `push`, to a column that is made to hold `None` in more places where that is
/// needed; `false` where it does not fit then either.
fn push_growing(
    column: &mut TypedColumn,
    object: Borrowed<'_, '_, PyAny>,
    push: fn(&mut TypedColumn, Borrowed<'_, '_, PyAny>) -> Result<bool>,
) -> Result<bool> {
    let rows = column.len();
    if push(column, object)? {
        return Ok(true);
    }
    column.truncate(rows);
    match typed::kind_with(column, object) {
        Some(kind) => {
            column.turn_into(&kind)?;
            push(column, object)
        }
        None => Ok(false),
    }
}

/// The record as a tuple of two.
pub fn as_pair(record: Bound<'_, PyAny>) -> Result<Bound<'_, PyAny>> {
    match ffi::pair(&record) {
        Some(_) => Ok(record),
        None => unpack(&record),
    }
}

/// How many references there are to a record that nobody keeps who might bring it again: the one
/// that we have, and that of an iterator that makes its next record of the same tuple.
pub fn most_references(iterator: &Bound<'_, PyAny>) -> isize {
    if ffi::makes_tuples_again(iterator) {
        2
    } else {
        1
    }
}
