//! Records on their way through Spark: frames of one block each.
//!
//! A frame is what `pickle` makes of a call of `ferroshuffle.serializers._records` with a block, so
//! that whoever reads frames in PySpark's way gets the block's list of records.
//! [`BlockReader`](super::block_reader::BlockReader) takes the block out of it instead.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::ffi;
use crate::column::codec::{self, Columns};
use crate::column::typed::TypedColumn;
use crate::error::{Error, Result};
use crate::spill::block::{self, Block, ColumnKind, PlainBlock};

/// Protocol 3, the function, and the opcode of bytes, which the length in 32 bits follows.
const BEFORE: &[u8] = b"\x80\x03cferroshuffle.serializers\n_records\nB";

/// A tuple of the one argument, the call, and the end.
const AFTER: &[u8] = b"\x85R.";

const LENGTH: usize = size_of::<u32>();

/// What a block on the wire holds.
pub enum Records {
    /// A column of keys and one of values.
    Columns(TypedColumn, TypedColumn),
    /// A block of one column, of which [`objects_of`] makes a list of any records.
    Serialized(Block),
}

/// A frame of records that are typed.
pub fn frame_of_columns<'py>(
    py: Python<'py>,
    keys: &TypedColumn,
    values: &TypedColumn,
) -> Result<Bound<'py, PyBytes>> {
    let mut columns = Columns::new();
    codec::encode(keys, &mut columns)?;
    codec::encode(values, &mut columns)?;
    frame(py, keys.len(), &columns)
}

/// A frame of so many records that are serialized.
pub fn frame_of_objects<'py>(
    py: Python<'py>,
    records: usize,
    serialized: &[u8],
) -> Result<Bound<'py, PyBytes>> {
    frame(py, records, &[(ColumnKind::Object, serialized)])
}

fn frame<'py>(
    py: Python<'py>,
    records: usize,
    columns: &[(ColumnKind, impl AsRef<[u8]>)],
) -> Result<Bound<'py, PyBytes>> {
    let too_big = |_| Error::Usage("a block on the wire has over 4 GiB or records".to_owned());
    let rows = u32::try_from(records).map_err(too_big)?;
    let block = PlainBlock::new(rows, columns)?;
    let length = u32::try_from(block.size()).map_err(too_big)?.to_le_bytes();
    let before = [BEFORE, &length].concat();
    let whole = before
        .len()
        .saturating_add(block.size())
        .saturating_add(AFTER.len());
    let frame = PyBytes::new_with(py, whole, |place| {
        let (start, rest) = place.split_at_mut_checked(before.len()).unwrap_or_default();
        let (middle, end) = rest.split_at_mut_checked(block.size()).unwrap_or_default();
        start.copy_from_slice(&before);
        end.copy_from_slice(AFTER);
        Ok(block.write(middle)?)
    })?;
    Ok(frame)
}

/// The block in a frame; `None` where it is another pickle.
pub fn block_in<'a>(frame: &'a [u8], place: &dyn Fn() -> String) -> Result<Option<&'a [u8]>> {
    let found = frame.strip_prefix(BEFORE).and_then(|rest| {
        let (length, rest) = rest.split_first_chunk::<LENGTH>()?;
        let block = rest.strip_suffix(AFTER)?;
        (block.len() == u32::from_le_bytes(*length) as usize).then_some(block)
    });
    let body = frame.get(BEFORE.len() + LENGTH..).unwrap_or_default();
    // What pickle would make of it then is anything.
    if found.is_none() && block::starts_with_magic(body) {
        let reason = "it is not framed as a block is";
        return Err(Error::corrupt(place(), reason));
    }
    Ok(found)
}

/// The records of a block.
pub fn decode(
    py: Python<'_>,
    bytes: &[u8],
    place: &(dyn Fn() -> String + Sync),
) -> Result<Records> {
    let block = py.detach(|| block::decode(bytes, place))?;
    if let [(ColumnKind::Object, _)] = block.columns.as_slice() {
        return Ok(Records::Serialized(block));
    }
    let columns = codec::read_two(&block, place)?;
    columns
        .map(|(keys, values)| Records::Columns(keys, values))
        .ok_or_else(|| {
            let reason = "its columns are of no kind that records have on the wire";
            Error::corrupt(place(), reason)
        })
}

/// The list of records in a block, by `loads`. The block is gone by then: a record may be large.
pub fn objects_of<'py>(block: Block, loads: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let bytes = block.parts().next().map_or(&[][..], |(_, bytes)| bytes);
    let serialized = ffi::new_bytes(loads.py(), bytes)?;
    drop(block);
    loads.call1((serialized,))
}
