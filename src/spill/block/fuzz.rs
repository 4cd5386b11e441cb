//! Blocks that were damaged, and then given the checksum they would have: whatever is in them, they
//! are columns or an error, and take no more memory than they say.

use proptest::prelude::*;

use super::{BlockEncoder, CHECKSUM_AT, Header, PREFIX_LEN, Prefix, checksum, decode, verified};
use crate::allocated::asked_by;
use crate::column::codec::{Columns, encode, read_two, tests::column};
use crate::column::typed::TypedColumn;
use crate::error::Error;
use crate::memory::as_u64;

/// What is asked for beside the columns: errors in words, and tables of lz4.
const BESIDE: usize = 4 << 10;

/// Times that each byte of columns is asked for at most: a length of one takes sixteen in memory.
const TIMES: usize = 20;

fn nowhere() -> String {
    "a test".to_owned()
}

/// One thing that happens to bytes.
#[derive(Clone, Debug)]
enum Damage {
    Byte(usize, u8),
    /// Four or eight bytes that may be a length.
    Number(usize, u64, bool),
    Cut(usize, usize),
    Insert(usize, Vec<u8>),
    Copy(usize, usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let numbers = prop_oneof![
        0_u64..12,
        Just(u64::from(u32::MAX)),
        Just(u64::MAX),
        Just(1 << 31),
        (0_u32..64).prop_map(|bit| 1 << bit),
    ];
    let at = any::<usize>();
    prop_oneof![
        (at, any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (at, 0_u8..12).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (at, numbers, any::<bool>())
            .prop_map(|(at, number, is_long)| Damage::Number(at, number, is_long)),
        (at, 0_usize..9).prop_map(|(at, len)| Damage::Cut(at, len)),
        (at, prop::collection::vec(any::<u8>(), 0..9))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (at, at, 0_usize..9).prop_map(|(at, from, len)| Damage::Copy(at, from, len)),
    ]
}

fn damaged(mut bytes: Vec<u8>, all: &[Damage]) -> Vec<u8> {
    for damage in all {
        let place = |at: usize, room: usize| at % (bytes.len().saturating_sub(room) + 1);
        let with = match damage {
            Damage::Byte(at, byte) => (place(*at, 1), 1, vec![*byte]),
            Damage::Number(at, number, is_long) => {
                let number = number.to_le_bytes()[..if *is_long { 8 } else { 4 }].to_vec();
                (place(*at, number.len()), number.len(), number)
            }
            Damage::Cut(at, len) => (place(*at, *len), *len, Vec::new()),
            Damage::Insert(at, inserted) => (place(*at, 0), 0, inserted.clone()),
            Damage::Copy(at, from, len) => {
                let from = place(*from, *len);
                let copied = bytes[from..(from + len).min(bytes.len())].to_vec();
                (place(*at, *len), copied.len(), copied)
            }
        };
        let (at, replaced, with) = with;
        let end = (at + replaced).min(bytes.len());
        bytes.splice(at..end, with);
    }
    bytes
}

/// A block of what was header and payload, with its checksum made right.
fn sealed(body: &[u8], header_len: usize) -> Vec<u8> {
    let header_len = header_len.min(body.len());
    let mut prefix = Prefix {
        version: super::VERSION,
        header_len: u32::try_from(header_len).unwrap(),
        payload_len: as_u64(body.len() - header_len),
        checksum: 0,
    };
    prefix.checksum = checksum(&prefix.to_bytes()[..CHECKSUM_AT], body);
    [&prefix.to_bytes()[..], body].concat()
}

/// Bytes that the columns of a block have by what its header says.
fn claimed(block: &[u8]) -> usize {
    let Ok((header, payload)) = verified(block) else {
        return 0;
    };
    let Ok(header) = wincode::deserialize_exact::<Header>(header) else {
        return 0;
    };
    let lens = header.columns.iter().map(|column| column.len);
    let claimed = lens.fold(0_u64, u64::saturating_add);
    let most = as_u64(payload.len()) * super::LZ4_MAX_RATIO;
    if claimed > most {
        return 0; // which is refused
    }
    usize::try_from(claimed).unwrap()
}

fn is_well_known(error: &Error) -> bool {
    matches!(error, Error::CorruptBlock { place, .. } if place == "a test")
        || matches!(error, Error::OutOfMemory { .. })
}

/// Whether there is as much of each part as of the others.
fn is_whole(column: &TypedColumn) -> bool {
    match column {
        TypedColumn::Nullable(nullable) => {
            nullable.valid.len() == nullable.values.len() && is_whole(&nullable.values)
        }
        TypedColumn::Tuple(fields) => fields
            .iter()
            .all(|field| field.len() == column.len() && is_whole(field)),
        TypedColumn::List(lists) | TypedColumn::Set(lists) => {
            lists.ends.is_sorted()
                && lists.ends.last().copied().unwrap_or(0) == lists.items.len()
                && is_whole(&lists.items)
        }
        TypedColumn::Str(texts) => {
            (0..texts.len()).all(|row| std::str::from_utf8(texts.get(row)).is_ok())
        }
        TypedColumn::None(_)
        | TypedColumn::Unread(_)
        | TypedColumn::Int(_)
        | TypedColumn::Float(_)
        | TypedColumn::Bool(_)
        | TypedColumn::Bytes(_) => true,
    }
}

/// Reads what may be a block; tells whether there were columns in it.
fn read(bytes: &[u8]) -> std::result::Result<bool, TestCaseError> {
    let (block, asked) = asked_by(|| decode(bytes, &nowhere));
    let most = claimed(bytes) + TIMES * bytes.len() + BESIDE;
    prop_assert!(asked <= most, "{asked} bytes asked for, {most} at most");
    let block = match block {
        Ok(block) => block,
        Err(error) => {
            prop_assert!(is_well_known(&error), "{error}");
            return Ok(false);
        }
    };
    let (columns, asked) = asked_by(|| read_two(&block, &nowhere));
    let most = TIMES * (block.payload.len() + size_of::<TypedColumn>() * block.columns.len());
    prop_assert!(
        asked <= most + BESIDE,
        "{asked} bytes asked for, {most} at most"
    );
    match columns {
        Ok(Some((keys, values))) => {
            let rows = block.rows as usize;
            prop_assert_eq!((keys.len(), values.len()), (rows, rows));
            for column in [&keys, &values] {
                prop_assert!(is_whole(column), "{column:?}");
                let mut copy = column.fresh();
                for row in 0..rows.min(100) {
                    copy.push_from(column, row).unwrap();
                }
                let slice = column.slice(0..rows.min(100)).unwrap();
                prop_assert_eq!((copy.len(), slice.len()), (rows.min(100), rows.min(100)));
            }
            Ok(true)
        }
        Ok(None) => Ok(false),
        Err(error) => {
            prop_assert!(is_well_known(&error), "{error}");
            Ok(false)
        }
    }
}

fn encoded(keys: &TypedColumn, values: &TypedColumn) -> Vec<u8> {
    let mut columns = Columns::new();
    encode(keys, &mut columns).unwrap();
    encode(values, &mut columns).unwrap();
    BlockEncoder::new().encode(3, &columns).unwrap().to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_damaged_block_is_columns_or_an_error(
        keys in column(),
        values in column(),
        all in prop::collection::vec(damage(), 0..4),
        in_payload: bool,
    ) {
        let block = encoded(&keys, &values);
        prop_assert!(read(&block)?);
        let header_len = verified(&block).unwrap().0.len();
        let (header, payload) = block[PREFIX_LEN..].split_at(header_len);
        if in_payload {
            // Nothing is left over of it, nor missing, as far as the block itself can tell.
            let mut cut = damaged(payload.to_vec(), &all);
            cut.resize(payload.len(), 0);
            read(&sealed(&[header, &cut].concat(), header_len))?;
        } else {
            let header = damaged(header.to_vec(), &all);
            read(&sealed(&[&header, payload].concat(), header.len()))?;
        }
        read(&sealed(&damaged(block[PREFIX_LEN..].to_vec(), &all), header_len))?;
    }

    #[test]
    fn any_bytes_under_a_right_checksum_are_columns_or_an_error(
        body in prop::collection::vec(prop_oneof![0_u8..10, any::<u8>()], 0..120),
        header_len in 0_usize..120,
    ) {
        read(&sealed(&body, header_len))?;
    }
}
