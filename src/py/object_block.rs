//! Records of Python objects as blocks: a column of keys and one of combiners, each encoded as
//! a whole.

use pyo3::prelude::*;

use super::column_codec::{ColumnDecoder, ColumnEncoder};
use super::external_list::{FIRST_BLOCK_WEIGHT, next_full, weight};
use super::serializer::{self, AutoSerializer};
use crate::column::codec::{self, Columns};
use crate::error::{Error, Result};
use crate::memory::try_grow;
use crate::spill::block::{Block, BlockEncoder};
use crate::spill::run::RunWriter;

/// Serialized records of about this size make a block: large enough for pickle and lz4 to do
/// well, small enough that a block of each of some dozens of runs fits in memory at once.
const BLOCK_BYTES: usize = 256 << 10;

/// Gathers records into blocks of a bounded size.
pub struct RecordWriter<'py> {
    py: Python<'py>,
    keys: Vec<Bound<'py, PyAny>>,
    combiners: Vec<Bound<'py, PyAny>>,
    weight: usize,
    /// Weight at which a block is full, by what the blocks before came to.
    full: usize,
    key_encoder: ColumnEncoder,
    combiner_encoder: ColumnEncoder,
    block_encoder: BlockEncoder,
}

impl<'py> RecordWriter<'py> {
    /// With no record yet.
    pub fn new(py: Python<'py>) -> Self {
        Self {
            py,
            keys: Vec::new(),
            combiners: Vec::new(),
            weight: 0,
            full: FIRST_BLOCK_WEIGHT,
            key_encoder: ColumnEncoder::default(),
            combiner_encoder: ColumnEncoder::default(),
            block_encoder: BlockEncoder::new(),
        }
    }

    /// What the records of a full block weigh, as far as is known.
    pub fn full_weight(&self) -> usize {
        self.full
    }

    /// Adds a record, and writes a block where that fills one; `combiner` has the weight that is given.
    #[inline]
    pub fn add(
        &mut self,
        key: Bound<'py, PyAny>,
        combiner: Bound<'py, PyAny>,
        weight_of_combiner: usize,
        writer: &mut RunWriter<'_>,
    ) -> Result<()> {
        const WHAT: &str = "the records of a block";
        if self.keys.len() == self.keys.capacity() {
            try_grow(&mut self.keys, 1, WHAT)?;
        }
        if self.combiners.len() == self.combiners.capacity() {
            try_grow(&mut self.combiners, 1, WHAT)?;
        }
        let record = weight(&key).saturating_add(weight_of_combiner);
        self.weight = self.weight.saturating_add(record);
        self.keys.push(key);
        self.combiners.push(combiner);
        if self.weight >= self.full {
            self.flush(writer)
        } else {
            Ok(())
        }
    }

    /// Writes what was gathered.
    pub fn flush(&mut self, writer: &mut RunWriter<'_>) -> Result<()> {
        let py = self.py;
        if self.keys.is_empty() {
            return Ok(());
        }
        let rows = u32::try_from(self.keys.len())
            .map_err(|_| Error::Usage("a block holds at most 2**32 - 1 records".to_owned()))?;
        let mut columns = Columns::new();
        self.key_encoder
            .encode(py, &self.keys, &mut columns)
            .and_then(|()| {
                self.combiner_encoder
                    .encode(py, &self.combiners, &mut columns)
            })
            .map_err(|error| self.name_the_record(error))?;
        let bytes = codec::bytes_when_read(&columns);
        self.full = next_full(self.full, self.weight, bytes, BLOCK_BYTES);
        self.weight = 0;
        self.keys.clear();
        self.combiners.clear();
        let encoder = &mut self.block_encoder;
        py.detach(|| writer.push(encoder.encode(rows, &columns)?, rows))
    }

    /// Puts the key of the record that cannot be serialized into the error.
    #[cold]
    fn name_the_record(&self, error: Error) -> Error {
        for (key, combiner) in self.keys.iter().zip(&self.combiners) {
            for (object, what) in [(key, "key"), (combiner, "value of key")] {
                let mut bytes = Vec::new();
                if let Err(culprit) = AutoSerializer::default().dumps(object, &mut bytes) {
                    let note = match key.repr() {
                        Ok(repr) => format!("raised while spilling the {what} {repr}"),
                        Err(_) => format!("raised while spilling a {what}"),
                    };
                    return serializer::with_note(self.py, culprit, &note).into();
                }
            }
        }
        error
    }
}

/// The keys and the combiners of a block.
#[allow(clippy::type_complexity)] // two columns
pub fn read<'py>(
    py: Python<'py>,
    block: &Block,
    place: &dyn Fn() -> String,
) -> Result<(Vec<Bound<'py, PyAny>>, Vec<Bound<'py, PyAny>>)> {
    let mut columns = ColumnDecoder::new(py, block, place);
    Ok((columns.read()?, columns.read()?))
}
