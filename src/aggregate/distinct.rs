//! Items of lists, and of sets, in which none is added twice.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

use crate::column::typed::TypedColumn;
use crate::column::{Column, KeyColumn};
use crate::error::Result;
use crate::map::{AppendOnlyMap, Found, KeyHash, Keys};
use crate::memory::{self, try_grow};

const WHAT: &str = "a table of items";

/// Items, each of the list or set in a row.
pub struct Members {
    /// The row that each item belongs to.
    pub rows: Vec<u32>,
    /// The items.
    pub items: TypedColumn,
}

impl Members {
    /// None, of the kind of `items`.
    pub fn of(items: &TypedColumn) -> Self {
        Self {
            rows: Vec::new(),
            items: items.fresh(),
        }
    }

    /// Makes room for so many more.
    pub fn try_reserve(&mut self, items: usize) -> Result<()> {
        try_grow(&mut self.rows, items, WHAT)?;
        self.items.try_reserve(items)
    }

    /// Adds an item to `row`.
    #[inline]
    pub fn push(&mut self, row: u32, from: &TypedColumn, from_row: usize) -> Result<()> {
        try_grow(&mut self.rows, 1, WHAT)?;
        self.items.push_from(from, from_row)?;
        self.rows.push(row);
        Ok(())
    }
}

/// An item that is looked for in the set of a row.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    row: u32,
    from: &'a TypedColumn,
    from_row: usize,
}

/// Items that are added, each to the set of the row beside it.
struct Items<'a> {
    rows: &'a [u32],
    from: &'a TypedColumn,
}

impl Items<'_> {
    #[inline]
    fn row(&self, at: usize) -> u32 {
        self.rows.get(at).copied().unwrap_or(0)
    }
}

impl Keys<Members> for Items<'_> {
    #[inline]
    fn probe(&self, at: usize) -> Member<'_> {
        Member {
            row: self.row(at),
            from: self.from,
            from_row: at,
        }
    }

    #[inline]
    fn add_to(&self, members: &mut Members, at: usize) -> Result<()> {
        members.push(self.row(at), self.from, at)
    }
}

impl Column for Members {
    #[inline]
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn make_room(&mut self) -> Result<()> {
        self.try_reserve(1)
    }

    fn reserve(&mut self, more: usize) {
        // Refused room is asked for again, with an error, when it is needed.
        let _ = self.try_reserve(more);
    }

    fn heap_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<u32>() + self.items.heap_bytes()
    }

    fn reset(&mut self) {
        self.rows.clear();
        self.items.truncate(0);
    }

    fn clear(&mut self) {
        *self = Self::of(&self.items);
    }
}

impl KeyColumn for Members {
    type Probe<'a> = Member<'a>;

    #[inline]
    fn is_same(&self, at: usize, probe: Member<'_>) -> Result<bool> {
        Ok(self.rows.get(at) == Some(&probe.row)
            && self.items.is_same(at, probe.from, probe.from_row))
    }

    /// Nobody asks for them again.
    #[inline]
    fn makes_hashes(&self) -> bool {
        true
    }

    #[inline]
    fn prefetch(&self, at: usize) {
        self.items.prefetch(at);
    }
}

/// The items of sets.
pub struct Distinct {
    map: AppendOnlyMap<Members>,
    hashing: RandomState,
    /// Those of the batch that is being added.
    hashes: Vec<KeyHash>,
}

impl Distinct {
    /// None, of the kind of `items`.
    pub fn of(items: &TypedColumn) -> Self {
        Self {
            map: AppendOnlyMap::new(Members::of(items)),
            hashing: RandomState::new(),
            hashes: Vec::new(),
        }
    }

    /// The items, as they came.
    pub fn members(&self) -> &Members {
        self.map.keys()
    }

    /// The same, for what does not change what is equal.
    pub fn members_mut(&mut self) -> &mut Members {
        self.map.keys_mut()
    }

    /// Makes room for so many more, so that adding them asks for memory only within texts.
    pub fn try_reserve(&mut self, items: usize) -> Result<()> {
        self.map.make_room_for(items)?;
        try_grow(&mut self.hashes, items, WHAT)?;
        self.map.keys_mut().try_reserve(items)
    }

    /// Adds an item to the set in `row`, if it is not there; tells whether it was not.
    pub fn add(&mut self, row: u32, from: &TypedColumn, from_row: usize) -> Result<bool> {
        self.map.make_room_for(1)?;
        let hash = self.hash(row, from, from_row);
        let member = Member {
            row,
            from,
            from_row,
        };
        let Found::Vacant(vacant) = self.map.find(hash, member)? else {
            return Ok(false);
        };
        let add = |members: &mut Members| members.push(row, from, from_row);
        self.map.push(hash, vacant, add)?;
        Ok(true)
    }

    /// Adds the first rows of `from`, one to each set in `rows`; tells `see` of each whether it was
    /// not there.
    pub fn add_each(
        &mut self,
        rows: &[u32],
        from: &TypedColumn,
        mut see: impl FnMut(u32, bool),
    ) -> Result<()> {
        self.map.make_room_for(rows.len())?;
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        try_grow(&mut hashes, rows.len(), WHAT)?;
        for (at, &row) in rows.iter().enumerate() {
            hashes.push(self.hash(row, from, at));
        }
        let items = Items { rows, from };
        let added = self.map.find_each(
            &hashes,
            &items,
            |_| {},
            |at, _, is_new| see(items.row(at), is_new),
        );
        self.hashes = hashes;
        added
    }

    #[inline]
    fn hash(&self, row: u32, from: &TypedColumn, from_row: usize) -> KeyHash {
        let mut hasher = self.hashing.build_hasher();
        hasher.write_u32(row);
        write(from, from_row, &mut hasher);
        KeyHash {
            bits: hasher.finish(),
            is_unique: false,
        }
    }

    /// Bytes allocated.
    pub fn heap_bytes(&self) -> usize {
        self.map.heap_bytes() + self.hashes.capacity() * size_of::<KeyHash>()
    }

    /// Forgets all items and keeps their memory.
    pub fn reset(&mut self) {
        self.map.reset();
    }
}

/// Shows what is in a row to `hasher`; values that are equal look alike, whether there may be
/// `None` beside them or not.
#[inline]
fn write(column: &TypedColumn, row: usize, hasher: &mut impl Hasher) {
    match column {
        TypedColumn::Int(ints) => hasher.write_i64(ints.get(row).copied().unwrap_or(0)),
        TypedColumn::Bool(bools) => hasher.write_u8(bools.get(row).map_or(0, |&bool| bool.into())),
        TypedColumn::Str(texts) | TypedColumn::Bytes(texts) => {
            let text = texts.get(row);
            hasher.write(text);
            hasher.write_u64(memory::as_u64(text.len()));
        }
        TypedColumn::Tuple(fields) => fields.iter().for_each(|field| write(field, row, hasher)),
        TypedColumn::Nullable(nullable) if nullable.valid.get(row) => {
            write(&nullable.values, row, hasher);
        }
        TypedColumn::None(_) | TypedColumn::Nullable(_) => hasher.write_u8(u8::MAX),
        // None of these is in a set.
        TypedColumn::Unread(_)
        | TypedColumn::Float(_)
        | TypedColumn::List(_)
        | TypedColumn::Set(_) => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::column::nullable::Nullable;
    use crate::column::typed::Texts;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn an_item_is_found_whether_there_may_be_none_or_not() {
        let mut texts = Texts::default();
        for text in ["a", "", "b"] {
            texts.push(text.as_bytes()).unwrap();
        }
        let texts = TypedColumn::Str(texts);
        let mut sets = Distinct::of(&texts);
        assert!((0..3).all(|row| sets.add(7, &texts, row).unwrap()));
        let nullable = TypedColumn::Nullable(Nullable::of(&texts));
        sets.members_mut().items.turn_into(&nullable).unwrap();
        assert!((0..3).all(|row| !sets.add(7, &texts, row).unwrap()));
        assert!(sets.add(7, &TypedColumn::None(1), 0).unwrap());
        assert!(!sets.add(7, &TypedColumn::None(1), 0).unwrap());
        assert!(sets.add(8, &texts, 0).unwrap());
        assert_eq!(sets.members().rows, [7, 7, 7, 7, 8]);
        sets.reset();
        assert!(sets.add(7, &texts, 1).unwrap());
    }

    proptest! {
        #[test]
        fn each_is_added_once(
            added in proptest::collection::vec((0_u32..3, -2_i64..3, any::<bool>()), 0..300),
            batch in 1_usize..40,
        ) {
            let mut sets = Distinct::of(&TypedColumn::Tuple(vec![
                TypedColumn::Int(Vec::new()),
                TypedColumn::Bool(Vec::new()),
            ]));
            let (mut seen, mut expected) = (HashSet::new(), Vec::new());
            for batch in added.chunks(batch) {
                let rows: Vec<u32> = batch.iter().map(|each| each.0).collect();
                let from = TypedColumn::Tuple(vec![
                    TypedColumn::Int(batch.iter().map(|each| each.1).collect()),
                    TypedColumn::Bool(batch.iter().map(|each| each.2).collect()),
                ]);
                let mut told = Vec::new();
                sets.add_each(&rows, &from, |row, is_new| told.push((row, is_new))).unwrap();
                for (each, told) in batch.iter().zip(told) {
                    prop_assert_eq!(told, (each.0, seen.insert(*each)));
                    expected.extend(told.1.then_some(each.0));
                }
            }
            prop_assert_eq!(&sets.members().rows, &expected);
            prop_assert_eq!(sets.members().items.len(), expected.len());
        }
    }
}
