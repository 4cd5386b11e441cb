//! [`Partitioner`]: which partition of a shuffle a key goes to.

use std::ops::Range;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFrozenSet, PyTuple};

use super::ffi;
use super::ranges::RangePartitioner;
use super::serializer::is_leaf;
use super::typed;
use crate::column::typed::TypedColumn;
use crate::error::Result;
use crate::memory::try_grow;
use crate::partition::{TupleHash, partition_in_spark, partition_of};

/// Tuples nested deeper than this are left to PySpark's own function, which words its error.
const MAX_DEPTH: usize = 32;

/// The function that tells the partition of a key.
pub struct Partitioner {
    /// The function.
    pub function: Py<PyAny>,
    /// It is PySpark's `portable_hash`, which is computed here for the keys of most jobs.
    pub is_portable_hash: bool,
    /// It is one of ours that tells ranges.
    pub ranges: Option<Py<RangePartitioner>>,
    /// How many partitions there are.
    pub partitions: u32,
}

impl Partitioner {
    /// By `function`, which is PySpark's `portable_hash` if that is said.
    pub fn new(function: &Bound<'_, PyAny>, is_portable_hash: bool, partitions: u32) -> Self {
        let ranges = function.cast_exact::<RangePartitioner>().ok();
        Self {
            function: function.clone().unbind(),
            is_portable_hash: is_portable_hash && partitions > 0,
            ranges: ranges.map(|ranges| ranges.clone().unbind()),
            partitions,
        }
    }

    /// Whether the function is computed here for typed keys: then it does not matter when.
    pub fn is_by_column(&self) -> bool {
        let ranges = self.ranges.as_ref();
        self.is_portable_hash || ranges.is_some_and(|ranges| ranges.get().is_by_column())
    }

    /// The partition of a key.
    #[inline]
    pub fn partition(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<u32> {
        if self.is_portable_hash {
            let hash = self.portable_hash(key, MAX_DEPTH)?;
            return Ok(partition_of(hash, self.partitions));
        }
        if let Some(ranges) = &self.ranges {
            return ranges.get().partition(key);
        }
        let number = ffi::call1(self.function.bind_borrowed(key.py()), key)?;
        let is_true = number.cast_exact::<PyBool>().map(PyBoolMethods::is_true);
        match ffi::as_i64(number.as_borrowed()).or(is_true.ok().map(i64::from)) {
            Some(number) if self.partitions > 0 => Ok(partition_of(number, self.partitions)),
            _ => self.partition_of_object(&number),
        }
    }

    /// Appends the partition of each of some keys to `partitions`.
    pub fn partitions_of(
        &self,
        py: Python<'_>,
        keys: &TypedColumn,
        rows: Range<usize>,
        partitions: &mut Vec<u32>,
    ) -> Result<()> {
        try_grow(partitions, rows.len(), "the partitions of a map output")?;
        // Ranges of columns are told of all keys at once.
        if let Some(ranges) = &self.ranges
            && rows == (0..keys.len())
            && ranges.get().partitions_of(keys, partitions)?
        {
            return Ok(());
        }
        for row in rows {
            partitions.push(if self.is_portable_hash {
                partition_of(hash_in(py, keys, row)?, self.partitions)
            } else {
                self.partition(typed::get(py, keys, row)?.as_borrowed())?
            });
        }
        Ok(())
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

/// The `portable_hash` of the key in `row`.
#[inline]
fn hash_in(py: Python<'_>, keys: &TypedColumn, row: usize) -> Result<i64> {
    match keys {
        TypedColumn::Nullable(nullable) if nullable.valid.get(row) => {
            hash_in(py, &nullable.values, row)
        }
        TypedColumn::None(_) | TypedColumn::Nullable(_) => Ok(0),
        TypedColumn::Tuple(fields) => {
            let mut hash = TupleHash::new();
            for field in fields {
                hash.add(hash_in(py, field, row)?);
            }
            Ok(hash.finish(fields.len()))
        }
        keys => typed::python_hash(py, keys, row),
    }
}
