//! Typed columns as the columns of a block, and back.

use super::bits::Bits;
use super::ints;
use super::nullable::Nullable;
use super::typed::{Lists, Texts, TypedColumn};
use crate::error::{Error, Result};
use crate::memory::try_grow;
use crate::spill::block::{Block, ColumnKind};

const WHAT: &str = "the records of a block";

/// Columns within others are nested deeper in no block of ours.
pub const DEEPEST: usize = 32;

/// Columns of a block: one that has others within comes before these.
pub type Columns = Vec<(ColumnKind, Vec<u8>)>;

/// Appends the columns that `column` is written as.
pub fn encode(column: &TypedColumn, columns: &mut Columns) -> Result<()> {
    let mut bytes = Vec::new();
    let kind = match column {
        TypedColumn::Unread(_) => {
            return Err(Error::Usage(
                "what was not read cannot be written".to_owned(),
            ));
        }
        TypedColumn::None(rows) => {
            bytes.extend_from_slice(&count(*rows)?);
            ColumnKind::None
        }
        TypedColumn::Int(ints) => {
            ints::encode(ints, &mut bytes)?;
            ColumnKind::Int64
        }
        TypedColumn::Float(floats) => {
            try_grow(&mut bytes, size_of_val(floats.as_slice()), WHAT)?;
            bytes.extend(floats.iter().flat_map(|float| float.to_le_bytes()));
            ColumnKind::Float64
        }
        TypedColumn::Bool(bools) => {
            try_grow(&mut bytes, bools.len(), WHAT)?;
            bytes.extend(bools.iter().map(|&bool| u8::from(bool)));
            ColumnKind::Bool
        }
        TypedColumn::Str(texts) | TypedColumn::Bytes(texts) => {
            let lengths = (0..texts.len()).map(|row| texts.get(row).len());
            let lengths = ints::encode_lengths(lengths)?;
            let len = size_of::<u32>().saturating_add(lengths.len());
            try_grow(&mut bytes, len.saturating_add(texts.all().len()), WHAT)?;
            bytes.extend_from_slice(&count(texts.len())?);
            bytes.extend_from_slice(&lengths);
            bytes.extend_from_slice(texts.all());
            match column {
                TypedColumn::Bytes(_) => ColumnKind::Bytes,
                _ => ColumnKind::Str,
            }
        }
        TypedColumn::List(lists) | TypedColumn::Set(lists) => {
            let lengths = (0..lists.ends.len()).map(|row| lists.range(row).len());
            let kind = match column {
                TypedColumn::Set(_) => ColumnKind::Set,
                _ => ColumnKind::List,
            };
            columns.push((kind, ints::encode_lengths(lengths)?));
            return encode(&lists.items, columns);
        }
        TypedColumn::Nullable(nullable) => {
            let valid = nullable.valid.bytes();
            try_grow(
                &mut bytes,
                valid.len().saturating_add(size_of::<u32>()),
                WHAT,
            )?;
            bytes.extend_from_slice(&count(nullable.valid.len())?);
            bytes.extend_from_slice(valid);
            columns.push((ColumnKind::Nullable, bytes));
            return encode(&nullable.values, columns);
        }
        TypedColumn::Tuple(fields) => {
            bytes.extend_from_slice(&count(fields.len())?);
            columns.push((ColumnKind::Tuple, bytes));
            return fields.iter().try_for_each(|field| encode(field, columns));
        }
    };
    columns.push((kind, bytes));
    Ok(())
}

/// About how many bytes columns take once they are read: integers are wider then.
pub fn bytes_when_read(columns: &Columns) -> usize {
    let bytes = |(kind, bytes): &(ColumnKind, Vec<u8>)| match kind {
        ColumnKind::Int64 => ints::count(bytes).saturating_mul(size_of::<i64>()),
        _ => bytes.len(),
    };
    columns.iter().map(bytes).sum()
}

fn count(of: usize) -> Result<[u8; 4]> {
    match u32::try_from(of) {
        Ok(count) => Ok(count.to_le_bytes()),
        Err(_) => Err(Error::Usage("a block's column is over 4 GiB".to_owned())),
    }
}

/// The two columns that a block of records has; `None` where one of them is not typed.
pub fn read_two(
    block: &Block,
    place: &dyn Fn() -> String,
) -> Result<Option<(TypedColumn, TypedColumn)>> {
    let mut columns = Decoder::new(block.parts(), place);
    let rows = block.rows as usize;
    let Some(keys) = columns.read(rows)? else {
        return Ok(None);
    };
    Ok(columns.read(rows)?.map(|values| (keys, values)))
}

/// Reads typed columns off a block's columns, one after the other.
pub struct Decoder<'a, I> {
    columns: I,
    place: &'a dyn Fn() -> String,
}

impl<'a, 'b, I: Iterator<Item = (ColumnKind, &'b [u8])>> Decoder<'a, I> {
    /// `place` tells where the block was, for errors.
    pub fn new(columns: I, place: &'a dyn Fn() -> String) -> Self {
        Self { columns, place }
    }

    /// The next column, of so many `rows`; `None` where it, or a part of it, is not typed.
    pub fn read(&mut self, rows: usize) -> Result<Option<TypedColumn>> {
        let column = self.column(DEEPEST)?;
        match &column {
            Some(column) if !has_rows(column, rows) => {
                Err(self.corrupt("a column has another number of rows than its block"))
            }
            _ => Ok(column),
        }
    }

    fn column(&mut self, depth: usize) -> Result<Option<TypedColumn>> {
        let Some((kind, bytes)) = self.columns.next() else {
            return Err(self.corrupt("a column is missing"));
        };
        if depth == 0 {
            return Err(self.corrupt("tuples are nested too deep"));
        }
        if kind == ColumnKind::List {
            let lists = self.lists(bytes, depth)?;
            return Ok(lists.map(TypedColumn::List));
        }
        if kind == ColumnKind::Set {
            let sets = self.lists(bytes, depth)?;
            if sets.as_ref().is_some_and(|sets| !sets.items.is_for_sets()) {
                return Err(self.corrupt("there is something in a set that is not put there"));
            }
            return Ok(sets.map(TypedColumn::Set));
        }
        if kind == ColumnKind::Nullable {
            return self.nullable(bytes, depth);
        }
        if kind != ColumnKind::Tuple {
            return flat(kind, bytes, self.place);
        }
        let Ok(length @ 1..) = <[u8; 4]>::try_from(bytes).map(u32::from_le_bytes) else {
            return Err(self.corrupt("tuples of no length"));
        };
        let mut fields = Vec::new();
        for _ in 0..length {
            let Some(field) = self.column(depth - 1)? else {
                return Ok(None);
            };
            fields.push(field);
        }
        Ok(Some(TypedColumn::Tuple(fields)))
    }

    fn lists(&mut self, lengths: &[u8], depth: usize) -> Result<Option<Lists>> {
        let Some(items) = self.column(depth - 1)? else {
            return Ok(None);
        };
        let ends = ints::decode_ends(lengths, items.len())?;
        let Some(ends) = ends.filter(|_| has_rows(&items, items.len())) else {
            return Err(self.corrupt("the lengths of lists do not sum up to their items"));
        };
        let items = Box::new(items);
        Ok(Some(Lists { ends, items }))
    }

    fn nullable(&mut self, bytes: &[u8], depth: usize) -> Result<Option<TypedColumn>> {
        let valid = validity(bytes, self.place)?;
        let Some(values) = self.column(depth - 1)? else {
            return Ok(None);
        };
        if !values.may_become_nullable() {
            return Err(self.corrupt("there is None among what is None already"));
        }
        if !has_rows(&values, valid.len()) {
            return Err(self.corrupt("there are not as many values as are told of"));
        }
        let values = Box::new(values);
        Ok(Some(TypedColumn::Nullable(Nullable { valid, values })))
    }

    #[cold]
    fn corrupt(&self, reason: &str) -> Error {
        corrupt(self.place, reason)
    }
}

/// Which rows of the column behind one of that content have a value.
pub fn validity(bytes: &[u8], place: &dyn Fn() -> String) -> Result<Bits> {
    let cut = || corrupt(place, "the bits of a column are not as many as its rows");
    let (rows, bytes) = bytes.split_first_chunk::<4>().ok_or_else(cut)?;
    let rows = u32::from_le_bytes(*rows) as usize;
    let mut bits = Vec::new();
    try_grow(&mut bits, bytes.len(), WHAT)?;
    bits.extend_from_slice(bytes);
    Bits::of_parts(bits, rows).ok_or_else(cut)
}

fn has_rows(column: &TypedColumn, rows: usize) -> bool {
    match column {
        TypedColumn::Tuple(fields) => fields.iter().all(|field| has_rows(field, rows)),
        column => column.len() == rows,
    }
}

/// The typed column of that kind, which is no tuple; `None` where the kind is not a typed one.
pub fn flat(
    kind: ColumnKind,
    bytes: &[u8],
    place: &dyn Fn() -> String,
) -> Result<Option<TypedColumn>> {
    let cut = |what: &[u8]| {
        if what.is_empty() {
            Ok(())
        } else {
            Err(corrupt(place, "a column is cut"))
        }
    };
    Ok(Some(match kind {
        ColumnKind::Int64 => {
            let ints = ints::decode(bytes)?;
            TypedColumn::Int(ints.ok_or_else(|| corrupt(place, "a column is cut"))?)
        }
        ColumnKind::Float64 => {
            let (floats, rest) = bytes.as_chunks::<8>();
            cut(rest)?;
            let mut column = Vec::new();
            try_grow(&mut column, floats.len(), WHAT)?;
            column.extend(floats.iter().map(|float| f64::from_le_bytes(*float)));
            TypedColumn::Float(column)
        }
        ColumnKind::Bool => {
            if bytes.iter().any(|&byte| byte > 1) {
                return Err(corrupt(place, "a bool is neither true nor false"));
            }
            let mut column = Vec::new();
            try_grow(&mut column, bytes.len(), WHAT)?;
            column.extend(bytes.iter().map(|&byte| byte == 1));
            TypedColumn::Bool(column)
        }
        ColumnKind::Str => {
            let texts = texts(bytes, place)?;
            let whole = std::str::from_utf8(texts.all());
            let is_cut = |whole: &str, row| !whole.is_char_boundary(texts.start(row));
            if !whole.is_ok_and(|whole| !(0..texts.len()).any(|row| is_cut(whole, row))) {
                return Err(corrupt(place, "a text is not UTF-8"));
            }
            TypedColumn::Str(texts)
        }
        ColumnKind::Bytes => TypedColumn::Bytes(texts(bytes, place)?),
        ColumnKind::None => match <[u8; 4]>::try_from(bytes) {
            Ok(rows) => TypedColumn::None(u32::from_le_bytes(rows) as usize),
            Err(_) => return Err(corrupt(place, "a column is cut")),
        },
        ColumnKind::Object
        | ColumnKind::List
        | ColumnKind::Set
        | ColumnKind::Tuple
        | ColumnKind::Nullable => return Ok(None),
    }))
}

fn texts(bytes: &[u8], place: &dyn Fn() -> String) -> Result<Texts> {
    let cut = || corrupt(place, "a column of texts is cut");
    let (rows, bytes) = bytes.split_first_chunk::<4>().ok_or_else(cut)?;
    let rows = u32::from_le_bytes(*rows) as usize;
    let (lengths, bytes) = ints::split(bytes, rows).ok_or_else(cut)?;
    let ends = ints::decode_ends(lengths, bytes.len())?.ok_or_else(cut)?;
    let mut all = Vec::new();
    try_grow(&mut all, bytes.len(), WHAT)?;
    all.extend_from_slice(bytes);
    Ok(Texts::of_parts(all, ends))
}

#[cold]
fn corrupt(place: &dyn Fn() -> String, reason: &str) -> Error {
    Error::CorruptBlock {
        place: place(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Columns of any kind, of three rows.
    pub(crate) fn column() -> impl Strategy<Value = TypedColumn> {
        let rows = 3_usize;
        let leaf = prop_oneof![
            Just(TypedColumn::None(rows)),
            proptest::collection::vec(any::<i64>(), rows).prop_map(TypedColumn::Int),
            proptest::collection::vec(any::<f64>(), rows).prop_map(TypedColumn::Float),
            proptest::collection::vec(any::<bool>(), rows).prop_map(TypedColumn::Bool),
            proptest::collection::vec(any::<Vec<u8>>(), rows).prop_map(|all| {
                let mut bytes = Texts::default();
                for each in all {
                    bytes.push(&each).unwrap();
                }
                TypedColumn::Bytes(bytes)
            }),
            proptest::collection::vec(any::<String>(), rows).prop_map(|all| {
                let mut texts = Texts::default();
                for text in all {
                    texts.push(text.as_bytes()).unwrap();
                }
                TypedColumn::Str(texts)
            }),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 1..4).prop_map(TypedColumn::Tuple),
                inner.clone().prop_map(|items| {
                    let of_sets = items.is_for_sets();
                    let lists = Lists {
                        ends: vec![0, 1, 3],
                        items: Box::new(items),
                    };
                    if of_sets {
                        TypedColumn::Set(lists)
                    } else {
                        TypedColumn::List(lists)
                    }
                }),
                inner.clone().prop_map(|items| TypedColumn::List(Lists {
                    ends: vec![0, 1, 3],
                    items: Box::new(items),
                })),
                (inner, any::<[bool; 3]>()).prop_map(|(column, valid)| nullable(column, valid)),
            ]
        })
    }

    /// `None` in some rows of a column, where that is not there already.
    fn nullable(mut column: TypedColumn, valid: [bool; 3]) -> TypedColumn {
        let kind = column.joined(&TypedColumn::None(0)).unwrap();
        column.turn_into(&kind).unwrap();
        if let TypedColumn::Nullable(nullable) = &mut column {
            (0..)
                .zip(valid)
                .for_each(|(row, bit)| nullable.valid.set(row, bit));
        }
        column
    }

    fn place() -> String {
        "here".to_owned()
    }

    fn decode(columns: &Columns, rows: usize) -> Result<Option<TypedColumn>> {
        let parts = columns
            .iter()
            .map(|(kind, bytes)| (*kind, bytes.as_slice()));
        Decoder::new(parts, &place).read(rows)
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(column in column()) {
            let mut columns = Columns::new();
            encode(&column, &mut columns).unwrap();
            let back = decode(&columns, 3).unwrap().unwrap();
            prop_assert_eq!(format!("{back:?}"), format!("{column:?}"));
        }

        #[test]
        fn any_bytes_are_a_column_or_an_error(
            kinds in proptest::collection::vec(0_u8..11, 0..6),
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
            rows in 0_usize..6,
        ) {
            let kind = |tag| match tag {
                0 => ColumnKind::Object,
                1 => ColumnKind::Int64,
                2 => ColumnKind::List,
                3 => ColumnKind::Tuple,
                4 => ColumnKind::Float64,
                5 => ColumnKind::Str,
                6 => ColumnKind::Bool,
                7 => ColumnKind::Bytes,
                8 => ColumnKind::Nullable,
                9 => ColumnKind::Set,
                _ => ColumnKind::None,
            };
            let columns: Columns = kinds.into_iter().map(|tag| (kind(tag), bytes.clone())).collect();
            if let Ok(Some(column)) = decode(&columns, rows) {
                prop_assert!(has_rows(&column, rows));
            }
        }
    }

    #[test]
    fn bits_that_are_not_as_many_as_values_are_found() {
        let ints = |rows: usize| {
            let (ints, mut bytes) = (vec![0; rows], Vec::new());
            ints::encode(&ints, &mut bytes).unwrap();
            (ColumnKind::Int64, bytes)
        };
        let bits = |rows: u32, bits: &[u8]| {
            let bytes = [&rows.to_le_bytes(), bits].concat();
            (ColumnKind::Nullable, bytes)
        };
        let fine = decode(&vec![bits(3, &[0b101]), ints(3)], 3)
            .unwrap()
            .unwrap();
        assert!(fine.value_at(0).is_some() && fine.value_at(1).is_none() && fine.len() == 3);
        let none = (ColumnKind::None, 3_u32.to_le_bytes().to_vec());
        for damaged in [
            vec![bits(3, &[0b1101]), ints(3)],
            vec![bits(3, &[0, 0]), ints(3)],
            vec![bits(3, &[]), ints(3)],
            vec![bits(u32::MAX, &[0]), ints(3)],
            vec![(ColumnKind::Nullable, vec![3, 0]), ints(3)],
            vec![bits(3, &[0]), ints(2)],
            vec![bits(3, &[0]), ints(4)],
            vec![bits(3, &[0]), none],
            vec![bits(3, &[0]), bits(3, &[0]), ints(3)],
            vec![bits(3, &[0])],
        ] {
            let found = decode(&damaged, 3);
            assert!(
                matches!(found, Err(Error::CorruptBlock { .. })),
                "{damaged:?}"
            );
        }
        let objects = (ColumnKind::Object, vec![]);
        assert!(decode(&vec![bits(3, &[0]), objects], 3).unwrap().is_none());
    }

    #[test]
    fn sets_have_items_with_a_hash_of_which_none_is_a_float() {
        let lengths = |items: u8| ints::encode_lengths([usize::from(items)].into_iter()).unwrap();
        let of = |kind, items: u8| {
            let lengths = (kind, lengths(items));
            let floats = (ColumnKind::Float64, vec![0; usize::from(items) * 8]);
            vec![lengths, floats]
        };
        assert!(decode(&of(ColumnKind::List, 2), 1).unwrap().is_some());
        assert!(decode(&of(ColumnKind::Set, 2), 1).is_err());
        let mut sets_of_lists = of(ColumnKind::List, 2);
        sets_of_lists.insert(0, (ColumnKind::Set, lengths(1)));
        assert!(decode(&sets_of_lists, 1).is_err());
    }

    #[test]
    fn objects_are_not_typed() {
        let columns = vec![
            (ColumnKind::Tuple, 1_u32.to_le_bytes().to_vec()),
            (ColumnKind::Object, vec![]),
        ];
        assert!(decode(&columns, 1).unwrap().is_none());
        assert!(decode(&Columns::new(), 1).is_err());
    }
}
