//! Blocks: self-describing, compressed, checksummed chunks of record columns.
//!
//! | part | bytes | what |
//! | --- | --- | --- |
//! | magic | 4 | `FSBK` |
//! | version | 2 | of this format |
//! | header length | 4 | |
//! | payload length | 8 | as stored |
//! | checksum | 8 | xxh3 of all bytes but its own |
//! | header | | rows, columns and segments in bincode's format |
//! | payload | | columns one after the other, in segments, most of them lz4 |
//!
//! Numbers are little-endian. A column is cut into segments of equal size and a smaller last one,
//! each compressed by itself, so neither side needs a big piece of memory beside the column, and
//! nothing comes near lz4's own limit of 2 GiB. This room knows nothing of what is in a column.

use std::io::Write as _;
use std::ops::Range;

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};
use wincode::{SchemaRead, SchemaWrite};
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};
use crate::memory::{self, as_u64};

/// Bytes before the header; [`frame_len`] needs just these.
pub const PREFIX_LEN: usize = CHECKSUM_AT + 8;

const MAGIC: [u8; 4] = *b"FSBK";
const VERSION: u16 = 2;
/// All of the prefix but the checksum.
const CHECKSUM_AT: usize = 18;
/// Uncompressed bytes in a segment: small enough to stay in the cache and to be had at low memory.
const SEGMENT_LEN: usize = 4 << 20;
/// lz4 makes a byte of at most this many.
const LZ4_MAX_RATIO: u64 = 255;
/// What lz4 allocates for itself, without asking: its table of matches.
const TABLE_LEN: usize = 32 << 10;

/// What a column holds. The tags are written to disk and never change their meaning.
#[derive(SchemaWrite, SchemaRead, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// Serialized Python objects.
    #[wincode(tag = 0)]
    Object,
    /// Integers of 64 bits, as [`ints`](crate::column::ints) writes them.
    #[wincode(tag = 1)]
    Int64,
    /// Lists: their lengths, as integers are. The next column has their items.
    #[wincode(tag = 2)]
    List,
    /// Tuples of one length: that, in 32 bits. As many columns follow, one for each item.
    #[wincode(tag = 3)]
    Tuple,
    /// Floats of 64 bits, least byte first.
    #[wincode(tag = 4)]
    Float64,
    /// Texts: how many, in 32 bits; then their lengths, as integers are; then their UTF-8.
    #[wincode(tag = 5)]
    Str,
    /// `None`: how many times, in 32 bits.
    #[wincode(tag = 6)]
    None,
    /// Bools of a byte each, 0 or 1.
    #[wincode(tag = 7)]
    Bool,
    /// Bytes, as texts are.
    #[wincode(tag = 8)]
    Bytes,
    /// `None` among the values of the next column: how many rows, in 32 bits; then a bit for each,
    /// lowest first, which is 0 where there is `None` and whatever value stands there is none.
    #[wincode(tag = 9)]
    Nullable,
    /// Sets, as lists are.
    #[wincode(tag = 10)]
    Set,
}

#[derive(SchemaWrite, SchemaRead, Default)]
struct Header {
    rows: u32,
    columns: Vec<Column>,
    /// Stored bytes of each segment; as many as it has uncompressed where lz4 did not help.
    segments: Vec<u32>,
}

#[derive(SchemaWrite, SchemaRead)]
struct Column {
    kind: ColumnKind,
    len: u64,
}

impl Header {
    /// Says what columns there are, with segments of length 0 for now.
    fn describe(&mut self, rows: u32, columns: &[(ColumnKind, impl AsRef<[u8]>)]) -> Result<()> {
        self.rows = rows;
        self.columns.clear();
        self.segments.clear();
        memory::try_grow(&mut self.columns, columns.len(), "a block's header")?;
        for (kind, bytes) in columns {
            self.columns.push(Column {
                kind: *kind,
                len: as_u64(bytes.as_ref().len()),
            });
        }
        let count = columns
            .iter()
            .map(|(_, bytes)| bytes.as_ref().len().div_ceil(SEGMENT_LEN))
            .sum();
        memory::try_grow(&mut self.segments, count, "a block's header")?;
        self.segments.resize(count, 0);
        Ok(())
    }

    fn len(&self) -> Result<usize> {
        let len = wincode::serialized_size(self).map_err(|e| unwritable(&e))?;
        usize::try_from(len).map_err(|_| too_big())
    }

    /// Writes what stands in a `block` before its payload, which is in its place from `payload_at`
    /// on.
    fn write_before_payload(&self, block: &mut [u8], payload_at: usize) -> Result<()> {
        let header_len = payload_at.saturating_sub(PREFIX_LEN);
        let mut prefix = Prefix {
            version: VERSION,
            header_len: u32::try_from(header_len).map_err(|_| too_big())?,
            payload_len: as_u64(block.len().saturating_sub(payload_at)),
            checksum: 0,
        };
        let header = block.get_mut(PREFIX_LEN..payload_at).unwrap_or_default();
        wincode::serialize_into(header, self).map_err(|e| unwritable(&e))?;
        let body = block.get(PREFIX_LEN..).unwrap_or_default();
        prefix.checksum = checksum(&prefix.to_bytes(), body);
        for (to, from) in block.iter_mut().zip(prefix.to_bytes()) {
            *to = from;
        }
        Ok(())
    }
}

/// A block that is not compressed, for those that compress blocks themselves, as Spark does: its
/// length is known before it is written.
pub struct PlainBlock<'a, B> {
    header: Header,
    columns: &'a [(ColumnKind, B)],
    payload_at: usize,
}

impl<'a, B: AsRef<[u8]>> PlainBlock<'a, B> {
    /// Of these columns.
    ///
    /// # Errors
    /// As of [`BlockEncoder::encode`].
    pub fn new(rows: u32, columns: &'a [(ColumnKind, B)]) -> Result<Self> {
        let mut header = Header::default();
        header.describe(rows, columns)?;
        let segments = columns
            .iter()
            .flat_map(|(_, bytes)| bytes.as_ref().chunks(SEGMENT_LEN));
        for (segment, len) in segments.zip(&mut header.segments) {
            *len = u32::try_from(segment.len()).unwrap_or(0); // at most a segment's length
        }
        let payload_at = PREFIX_LEN.saturating_add(header.len()?);
        Ok(Self {
            header,
            columns,
            payload_at,
        })
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        let columns = self.columns.iter();
        let payload: usize = columns.map(|(_, bytes)| bytes.as_ref().len()).sum();
        self.payload_at.saturating_add(payload)
    }

    /// Writes it to `place`, which has as many bytes.
    pub fn write(&self, place: &mut [u8]) -> Result<()> {
        let mut payload = place.get_mut(self.payload_at..).unwrap_or_default();
        for (_, bytes) in self.columns {
            // A slice writes itself forward.
            payload.write_all(bytes.as_ref()).map_err(|_| too_big())?;
        }
        self.header.write_before_payload(place, self.payload_at)
    }
}

#[cold]
fn too_big() -> Error {
    Error::Usage("a block has too many columns or bytes".to_owned())
}

/// Most bytes of a buffer that are kept for the next block: one huge record is not to stay.
const MOST_KEPT: usize = 4 << 20;

/// Encodes blocks, one after the other, in buffers it keeps.
#[derive(Default)]
pub struct BlockEncoder {
    header: Header,
    /// Grows as blocks need it, so that it is not zeroed for every one.
    frame: Vec<u8>,
    table: Option<CompressTable>,
}

impl BlockEncoder {
    /// Allocates nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes a block. After an error the encoder can be used again.
    ///
    /// # Errors
    /// `OutOfMemory`; `Usage` when there are more columns or bytes than the format can say.
    pub fn encode(
        &mut self,
        rows: u32,
        columns: &[(ColumnKind, impl AsRef<[u8]>)],
    ) -> Result<&[u8]> {
        if self.frame.len() > MOST_KEPT {
            self.frame = Vec::new();
        }
        self.header.describe(rows, columns)?;
        // The header's length does not depend on that of the segments, which are compressed
        // straight into their place behind it.
        let payload_at = PREFIX_LEN.saturating_add(self.header.len()?);
        let end = self.compress(payload_at, columns)?;
        let block = self.frame.get_mut(..end).unwrap_or_default();
        self.header.write_before_payload(block, payload_at)?;
        Ok(block)
    }

    /// Stores the segments from `at` on, and gives the end of the last.
    fn compress(
        &mut self,
        mut at: usize,
        columns: &[(ColumnKind, impl AsRef<[u8]>)],
    ) -> Result<usize> {
        if self.table.is_none() {
            memory::ensure_headroom(TABLE_LEN)?;
            self.table = Some(CompressTable::large());
        }
        let frame = &mut self.frame;
        make_room(frame, at)?;
        let raw = columns
            .iter()
            .flat_map(|(_, bytes)| bytes.as_ref().chunks(SEGMENT_LEN));
        for (raw, stored) in raw.zip(&mut self.header.segments) {
            make_room(frame, at.saturating_add(get_maximum_output_size(raw.len())))?;
            let room = frame.get_mut(at..).unwrap_or_default();
            let table = self.table.as_mut();
            let compressed = table.map(|table| compress_into_with_table(raw, room, table));
            let len = match compressed {
                Some(Ok(len)) if len < raw.len() => len,
                _ => {
                    room.get_mut(..raw.len())
                        .unwrap_or_default()
                        .copy_from_slice(raw);
                    raw.len()
                }
            };
            *stored = u32::try_from(len).unwrap_or(0); // at most a segment's length
            at += len;
        }
        Ok(at)
    }
}

fn make_room(frame: &mut Vec<u8>, len: usize) -> Result<()> {
    if len > frame.len() {
        memory::try_grow(frame, len - frame.len(), "a block")?;
        frame.resize(len, 0);
    }
    Ok(())
}

fn unwritable(error: &wincode::WriteError) -> Error {
    Error::Usage(format!("a block's header cannot be written: {error}"))
}

/// A decoded block.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// How many records it has.
    pub rows: u32,
    /// Each column's kind, and where it lies in the payload.
    pub columns: Vec<(ColumnKind, Range<usize>)>,
    /// All columns, uncompressed, one after the other.
    pub payload: Vec<u8>,
}

/// Whether `bytes` start as those of a block of any version.
pub fn starts_with_magic(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Bytes of the whole block that starts with this prefix, which is not verified yet.
///
/// # Errors
/// `CorruptBlock` when no block of this version starts so.
pub fn frame_len(prefix: &[u8]) -> Result<u64> {
    Prefix::read(prefix)
        .and_then(|prefix| prefix.frame_len())
        .map_err(|reason| Error::corrupt("at its start".to_owned(), reason))
}

/// Decodes exactly one block. `place` says where it was read from.
///
/// # Errors
/// `CorruptBlock` for anything but what [`BlockEncoder::encode`] made; `OutOfMemory`.
pub fn decode(bytes: &[u8], place: &dyn Fn() -> String) -> Result<Block> {
    let corrupt = |reason: String| Error::corrupt(place(), reason);
    let (header, payload) = verified(bytes).map_err(corrupt)?;
    // wincode allocates the vectors of the header without asking.
    memory::ensure_headroom(header.len().saturating_mul(2))?;
    let header: Header = wincode::deserialize_exact(header)
        .map_err(|error| corrupt(format!("its header makes no sense: {error}")))?;

    let most = as_u64(payload.len()).saturating_mul(LZ4_MAX_RATIO);
    let len = header
        .columns
        .iter()
        .try_fold(0_u64, |sum, column| sum.checked_add(column.len));
    let len = len
        .filter(|&len| len <= most)
        .and_then(|len| usize::try_from(len).ok());
    let len = len.ok_or_else(|| corrupt("its columns are longer than can be".to_owned()))?;
    let columns = memory::try_with_capacity(header.columns.len(), "a block's columns")?;
    let payload_out = memory::try_with_capacity(len, "a block's columns")?;
    let mut block = Block {
        rows: header.rows,
        columns,
        payload: payload_out,
    };
    block
        .decompress(&header, payload)
        .map_err(|reason| corrupt(reason.to_owned()))?;
    Ok(block)
}

/// Header and payload, if the checksum says that they are what was written.
fn verified(bytes: &[u8]) -> std::result::Result<(&[u8], &[u8]), String> {
    let prefix = Prefix::read(bytes)?;
    let len = prefix.frame_len()?;
    if len != as_u64(bytes.len()) {
        return Err(format!("it is {} bytes long instead of {len}", bytes.len()));
    }
    let (start, body) = bytes.split_at_checked(PREFIX_LEN).unwrap_or_default();
    let computed = checksum(start, body);
    if computed != prefix.checksum {
        return Err(format!(
            "its checksum is {computed:016x} instead of {:016x}",
            prefix.checksum
        ));
    }
    Ok(body
        .split_at_checked(prefix.header_len as usize)
        .unwrap_or_default())
}

impl Block {
    /// Each column's kind and bytes.
    pub fn parts(&self) -> impl Iterator<Item = (ColumnKind, &[u8])> {
        self.columns.iter().map(|(kind, range)| {
            let bytes = self.payload.get(range.clone());
            (*kind, bytes.unwrap_or_default())
        })
    }

    /// Within the capacity that `columns` and `payload` have.
    fn decompress(
        &mut self,
        header: &Header,
        stored: &[u8],
    ) -> std::result::Result<(), &'static str> {
        let mut stored = stored;
        let mut segments = header.segments.iter();
        for column in &header.columns {
            let start = self.payload.len();
            let mut left = usize::try_from(column.len).map_err(|_| "a column is too long")?;
            while left > 0 {
                let at = self.payload.len();
                let raw_len = left.min(SEGMENT_LEN);
                let &stored_len = segments.next().ok_or("segments are missing")?;
                let (segment, rest) = stored
                    .split_at_checked(stored_len as usize)
                    .ok_or("a segment is longer than what is stored")?;
                if segment.len() == raw_len {
                    self.payload.extend_from_slice(segment);
                } else {
                    self.payload.resize(at + raw_len, 0);
                    let raw = self.payload.get_mut(at..).unwrap_or_default();
                    let done = decompress_into(segment, raw).map_err(|_| "lz4 data is invalid")?;
                    if done != raw_len {
                        return Err("a segment is too short");
                    }
                }
                stored = rest;
                left -= raw_len;
            }
            self.columns.push((column.kind, start..self.payload.len()));
        }
        if segments.next().is_some() || !stored.is_empty() {
            return Err("something is left over behind its columns");
        }
        Ok(())
    }
}

struct Prefix {
    version: u16,
    header_len: u32,
    payload_len: u64,
    checksum: u64,
}

impl Prefix {
    fn to_bytes(&self) -> [u8; PREFIX_LEN] {
        let [m0, m1, m2, m3] = MAGIC;
        let [v0, v1] = self.version.to_le_bytes();
        let [h0, h1, h2, h3] = self.header_len.to_le_bytes();
        let [p0, p1, p2, p3, p4, p5, p6, p7] = self.payload_len.to_le_bytes();
        let [c0, c1, c2, c3, c4, c5, c6, c7] = self.checksum.to_le_bytes();
        [
            m0, m1, m2, m3, v0, v1, h0, h1, h2, h3, p0, p1, p2, p3, p4, p5, p6, p7, c0, c1, c2, c3,
            c4, c5, c6, c7,
        ]
    }

    fn read(bytes: &[u8]) -> std::result::Result<Self, String> {
        let mut rest = bytes;
        let (Some(magic), Some(version), Some(header_len), Some(payload_len), Some(checksum)) = (
            take(&mut rest),
            take(&mut rest),
            take(&mut rest),
            take(&mut rest),
            take(&mut rest),
        ) else {
            return Err(format!("{} bytes are too few for a block", bytes.len()));
        };
        if magic != MAGIC {
            return Err("it does not start as a block does".to_owned());
        }
        let version = u16::from_le_bytes(version);
        if version != VERSION {
            return Err(format!(
                "its version is {version}, known is {VERSION}: ferroshuffle has to be of one \
                 version on the driver and all workers"
            ));
        }
        Ok(Self {
            version,
            header_len: u32::from_le_bytes(header_len),
            payload_len: u64::from_le_bytes(payload_len),
            checksum: u64::from_le_bytes(checksum),
        })
    }

    fn frame_len(&self) -> std::result::Result<u64, String> {
        let before = as_u64(PREFIX_LEN) + u64::from(self.header_len);
        before
            .checked_add(self.payload_len)
            .ok_or_else(|| "it is longer than can be".to_owned())
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

/// Of what stands before the checksum and what follows it.
fn checksum(prefix: &[u8], body: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(prefix.get(..CHECKSUM_AT).unwrap_or_default());
    hasher.update(body);
    hasher.digest()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod fuzz;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    fn nowhere() -> String {
        "a test".to_owned()
    }

    fn encoded(rows: u32, columns: &[&[u8]]) -> Vec<u8> {
        let columns: Vec<_> = columns
            .iter()
            .map(|&bytes| (ColumnKind::Object, bytes))
            .collect();
        BlockEncoder::new().encode(rows, &columns).unwrap().to_vec()
    }

    fn columns_of(block: &Block) -> Vec<&[u8]> {
        block
            .columns
            .iter()
            .map(|(_, range)| &block.payload[range.clone()])
            .collect()
    }

    fn noise(len: usize) -> Vec<u8> {
        let hashes = (0_u64..).flat_map(|i| xxh3_64(&i.to_le_bytes()).to_le_bytes());
        hashes.take(len).collect()
    }

    fn is_corrupt(bytes: &[u8]) -> bool {
        matches!(
            decode(bytes, &nowhere),
            Err(Error::CorruptBlock { place, .. }) if place == "a test"
        )
    }

    /// A block whose checksum is right, whatever else is not.
    fn forged(header: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut prefix = Prefix {
            version: VERSION,
            header_len: u32::try_from(header.len()).unwrap(),
            payload_len: as_u64(payload.len()),
            checksum: 0,
        };
        let body = [header, payload].concat();
        prefix.checksum = checksum(&prefix.to_bytes(), &body);
        [&prefix.to_bytes()[..], &body].concat()
    }

    fn header(lens: &[u64], segments: &[u32]) -> Vec<u8> {
        let column = |&len| Column {
            kind: ColumnKind::Object,
            len,
        };
        let columns = lens.iter().map(column).collect();
        wincode::serialize(&Header {
            rows: 1,
            columns,
            segments: segments.to_vec(),
        })
        .unwrap()
    }

    #[test]
    fn the_format_is_what_the_table_says() {
        let bytes = encoded(7, &[b"abc"]);
        assert_eq!(&bytes[..6], b"FSBK\x02\x00");
        let header = [
            &7_u32.to_le_bytes()[..],
            &1_u64.to_le_bytes(), // columns
            &0_u32.to_le_bytes(), // the kind's tag
            &3_u64.to_le_bytes(),
            &1_u64.to_le_bytes(), // segments
            &3_u32.to_le_bytes(),
        ]
        .concat();
        assert_eq!(
            bytes[6..10],
            u32::try_from(header.len()).unwrap().to_le_bytes()
        );
        assert_eq!(bytes[10..18], 3_u64.to_le_bytes());
        assert_eq!(bytes[PREFIX_LEN..], [&header[..], b"abc"].concat());
        assert_eq!(
            frame_len(&bytes[..PREFIX_LEN]).unwrap(),
            as_u64(bytes.len())
        );
    }

    #[test]
    fn an_encoder_can_be_used_again() {
        let mut encoder = BlockEncoder::new();
        for len in [100_000, 10, 0, 5000] {
            let column = vec![b'x'; len];
            let bytes = encoder.encode(3, &[(ColumnKind::Object, &column)]).unwrap();
            assert!(bytes.len() < 1000, "not compressed");
            assert_eq!(decode(bytes, &nowhere).unwrap().payload, column);
        }
    }

    #[test]
    fn long_columns_are_cut_into_segments() {
        let zeros = vec![0; 2 * SEGMENT_LEN + 1];
        let noise = noise(SEGMENT_LEN + 5);
        let columns: [&[u8]; 3] = [&zeros, &noise, &zeros[..SEGMENT_LEN]];
        let bytes = encoded(1, &columns);
        let block = decode(&bytes, &nowhere).unwrap();
        assert!(columns_of(&block) == columns);
    }

    #[test]
    fn what_lz4_does_not_shrink_is_stored_as_it_is() {
        let noise = noise(10_000);
        let bytes = encoded(1, &[&noise]);
        assert_eq!(&bytes[bytes.len() - noise.len()..], noise);
        assert!(bytes.len() < noise.len() + 100);
    }

    #[test]
    fn a_plain_block_is_one_as_well() {
        let (short, long) = (b"short".to_vec(), noise(SEGMENT_LEN + 1));
        let columns = [short, Vec::new(), long].map(|bytes| (ColumnKind::Object, bytes));
        let plain = PlainBlock::new(7, &columns).unwrap();
        let mut bytes = vec![0; plain.size()];
        plain.write(&mut bytes).unwrap();
        let block = decode(&bytes, &nowhere).unwrap();
        assert_eq!(block.rows, 7);
        let found: Vec<_> = block.parts().map(|(_, bytes)| bytes.to_vec()).collect();
        assert_eq!(found, columns.map(|(_, bytes)| bytes));
    }

    #[test]
    fn a_block_without_columns() {
        let block = decode(&encoded(0, &[]), &nowhere).unwrap();
        assert_eq!(
            block,
            Block {
                rows: 0,
                columns: Vec::new(),
                payload: Vec::new()
            }
        );
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = encoded(2, &[b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", b"bc"]);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(is_corrupt(&damaged), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn every_truncation_and_addition_is_found() {
        let mut bytes = encoded(2, &[b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", b"bc"]);
        for len in 0..bytes.len() {
            assert!(is_corrupt(&bytes[..len]), "{len} bytes");
        }
        bytes.push(0);
        assert!(is_corrupt(&bytes));
    }

    #[test]
    fn a_header_that_lies_under_a_right_checksum_is_found() {
        let cases: [(&str, Vec<u8>, &[u8]); 9] = [
            ("garbage", b"garbage".to_vec(), b""),
            ("no header", Vec::new(), b""),
            (
                "trailing bytes",
                [header(&[1], &[1]), vec![0]].concat(),
                b"x",
            ),
            (
                "an unknown kind",
                {
                    let mut bytes = header(&[1], &[1]);
                    bytes[12] = 77;
                    bytes
                },
                b"x",
            ),
            ("more than lz4 can make", header(&[256], &[1]), b"x"),
            ("lengths that overflow", header(&[u64::MAX, 2], &[1]), b"x"),
            ("missing segments", header(&[1], &[]), b"x"),
            ("a segment beyond the payload", header(&[1], &[2]), b"x"),
            ("payload left over", header(&[1], &[1]), b"xy"),
        ];
        for (what, header, payload) in cases {
            assert!(is_corrupt(&forged(&header, payload)), "{what}");
        }
        assert!(
            is_corrupt(&forged(&header(&[1], &[1, 0]), b"x")),
            "segments left over"
        );
        assert!(
            is_corrupt(&forged(&header(&[9], &[2]), b"\x10x")),
            "too short a segment"
        );
        assert!(
            is_corrupt(&forged(&header(&[9], &[3]), b"\xf0\xff\xff")),
            "invalid lz4"
        );
        assert!(decode(&forged(&header(&[1], &[1]), b"x"), &nowhere).is_ok());
    }

    #[test]
    fn a_claimed_vector_of_huge_length_is_found_before_it_is_allocated() {
        let mut bytes = header(&[], &[]);
        bytes[4..12].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(is_corrupt(&forged(&bytes, b"")));
    }

    #[test]
    fn other_versions_and_other_bytes_are_named() {
        let mut bytes = encoded(1, &[b"x"]);
        bytes[4] = 9;
        let error = decode(&bytes, &nowhere).unwrap_err().to_string();
        assert!(error.contains("version is 9, known is 2"), "{error}");
        assert!(frame_len(&bytes).is_err());
        assert!(frame_len(b"FSBK").is_err());
        let endless = Prefix {
            version: VERSION,
            header_len: 9,
            payload_len: u64::MAX,
            checksum: 0,
        };
        assert!(frame_len(&endless.to_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn columns_come_back(
            rows: u32,
            columns in prop::collection::vec(
                prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..400), 0..5,
            ),
        ) {
            let columns: Vec<&[u8]> = columns.iter().map(Vec::as_slice).collect();
            let bytes = encoded(rows, &columns);
            prop_assert_eq!(frame_len(&bytes).unwrap(), as_u64(bytes.len()));
            let block = decode(&bytes, &nowhere).unwrap();
            prop_assert_eq!(block.rows, rows);
            prop_assert_eq!(columns_of(&block), columns);
        }

        #[test]
        fn any_other_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(is_corrupt(&bytes));
            let _ = frame_len(&bytes);
        }

        /// The checksum lets none of these through, yet what comes after it must not panic either.
        #[test]
        fn any_segment_is_decoded_or_refused(
            len in 0..2000_u64,
            payload in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let stored = u32::try_from(payload.len()).unwrap();
            let _ = decode(&forged(&header(&[len], &[stored]), &payload), &nowhere);
        }
    }
}
