//! Records that a typed table has read and not merged.

use pyo3::prelude::*;

use super::typed;
use crate::aggregate::Records;
use crate::column::typed::{TypedColumn, hash_of_int};
use crate::error::Result;
use crate::map::KeyHash;
use crate::memory::try_grow;

/// A batch of texts or lists ends when it has as many bytes: they are there twice meanwhile.
const BATCH_BYTES: usize = 256 << 10;

/// Bytes of texts and lists that count for a record of their own.
pub const RECORD_BYTES: usize = 64;

/// Most bytes of a column of a batch that are kept for the next.
const MOST_KEPT: usize = 1 << 20;

/// Records that were read and are not merged yet.
pub struct Batch {
    /// Which functions they go through.
    pub records: Records,
    /// How many there are.
    pub len: usize,
    /// Their keys.
    pub keys: TypedColumn,
    /// The hashes of these, but for the last ones where they are ints: see
    /// [`hash_ints`](Self::hash_ints).
    pub hashes: Vec<KeyHash>,
    /// Of the kind that the aggregate accepted last; none before.
    pub values: Option<TypedColumn>,
    /// There are lists in the values.
    pub has_lists: bool,
    /// There are texts or lists in the keys or values.
    pub is_long: bool,
    /// The rows that the records belong to.
    pub rows: Vec<u32>,
    /// The record at which an expression has stopped; those before it are merged.
    pub stopped_at: Option<usize>,
}

impl Batch {
    /// No record, with keys of the kind of `keys`.
    pub fn of(keys: &TypedColumn) -> Self {
        Self {
            records: Records::Values,
            len: 0,
            keys: keys.fresh(),
            hashes: Vec::new(),
            values: None,
            has_lists: false,
            is_long: false,
            rows: Vec::new(),
            stopped_at: None,
        }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Notes what is in the keys and values.
    pub fn look(&mut self) {
        let values = self.values.as_ref();
        self.has_lists = values.is_some_and(TypedColumn::has_lists);
        self.is_long = values.is_some_and(TypedColumn::is_long) || self.keys.is_long();
    }

    /// Makes the hashes that are not there yet. To be called before the keys are looked up, and
    /// before they become of another kind, whose hashes are told by the objects as they are read.
    pub fn hash_ints(&mut self) -> Result<()> {
        if let TypedColumn::Int(keys) = &self.keys {
            let keys = keys.get(self.hashes.len()..).unwrap_or_default();
            try_grow(&mut self.hashes, keys.len(), "a batch of records")?;
            self.hashes.extend(keys.iter().map(|&key| hash_of_int(key)));
        }
        Ok(())
    }

    /// What comes next is of that kind.
    pub fn start(&mut self, records: Records) {
        if self.records != records {
            self.records = records;
            self.values = None;
        }
    }

    /// Whether it has as many bytes as are to wait to be merged.
    pub fn is_heavy(&self) -> bool {
        self.long_bytes() >= BATCH_BYTES
    }

    /// For how many records it counts where memory is looked at after so many: a long list is many.
    pub fn weight(&self) -> usize {
        self.len().max(1) + self.long_bytes() / RECORD_BYTES
    }

    fn long_bytes(&self) -> usize {
        let of_values = self.values.as_ref().map_or(0, TypedColumn::long_bytes);
        self.keys.long_bytes() + of_values
    }

    /// Forgets the records, and gives memory back that is more than most batches need.
    pub fn clear(&mut self) {
        self.truncate(0);
        if self.keys.heap_bytes() > MOST_KEPT {
            self.keys = self.keys.fresh();
        }
        if let Some(values) = self
            .values
            .as_mut()
            .filter(|values| values.heap_bytes() > MOST_KEPT)
        {
            *values = values.fresh();
        }
    }

    /// Forgets the records from that one on.
    pub fn truncate(&mut self, records: usize) {
        self.len = self.len.min(records);
        self.hashes.truncate(records);
        self.keys.truncate(records);
        if let Some(values) = &mut self.values {
            values.truncate(records);
        }
    }

    /// The records from the one on at which an expression has stopped, if one has.
    pub fn rest(self) -> Option<Rest> {
        Some(Rest {
            records: self.records,
            row: self.stopped_at?,
            keys: self.keys,
            values: self.values?,
        })
    }
}

/// Records that were read and cannot be merged over columns.
pub struct Rest {
    /// Which functions they go through.
    pub records: Records,
    keys: TypedColumn,
    values: TypedColumn,
    row: usize,
}

impl Rest {
    /// The first of them; `None` where none is left.
    pub fn first<'py>(&self, py: Python<'py>) -> Result<Option<Bound<'py, PyAny>>> {
        if self.row >= self.keys.len() {
            return Ok(None);
        }
        typed::record(py, &self.keys, &self.values, self.row).map(Some)
    }

    /// Goes on to the next.
    pub fn advance(&mut self) {
        self.row += 1;
    }
}
