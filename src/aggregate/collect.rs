//! Lists or sets of values as one column: what is appended is noted with the row of its list, and put
//! in order when the lists are read.

use std::cell::{Cell, OnceCell};
use std::ops::Range;

use super::distinct::{Distinct, Members};
use super::plan::{Operands, Part, Source, Step};
use crate::column::Column;
use crate::column::typed::{Lists, TypedColumn};
use crate::error::{Error, Result};
use crate::memory::{self, try_grow, try_with_capacity};
use crate::spill::layout::Layout;

const WHAT: &str = "a table of lists";

/// Lists that are made longer and read, by row.
pub struct Collected {
    /// Items of each list.
    counts: Vec<u32>,
    /// Those of the longest.
    longest: u32,
    store: Store,
    /// The items of each list. Made when one is first read; there is none while items are added.
    order: OnceCell<Layout>,
    /// How often that was done.
    sorts: Cell<usize>,
}

/// What is put into the lists.
enum Store {
    /// Every item.
    Every(Members),
    /// Each item that is not there yet.
    New(Distinct),
}

impl Store {
    fn members(&self) -> &Members {
        match self {
            Self::Every(members) => members,
            Self::New(distinct) => distinct.members(),
        }
    }

    fn members_mut(&mut self) -> &mut Members {
        match self {
            Self::Every(members) => members,
            Self::New(distinct) => distinct.members_mut(),
        }
    }
}

impl Collected {
    /// No list, of items of the kind of `items`.
    pub fn lists(items: &TypedColumn) -> Self {
        Self::with(Store::Every(Members::of(items)))
    }

    /// The same of sets: lists with each item once, where it came first.
    pub fn sets(items: &TypedColumn) -> Self {
        Self::with(Store::New(Distinct::of(items)))
    }

    fn with(store: Store) -> Self {
        Self {
            counts: Vec::new(),
            longest: 0,
            store,
            order: OnceCell::new(),
            sorts: Cell::new(0),
        }
    }

    /// No list, of items of the same kind.
    #[must_use]
    pub fn fresh(&self) -> Self {
        match &self.store {
            Store::Every(members) => Self::lists(&members.items),
            Store::New(distinct) => Self::sets(&distinct.members().items),
        }
    }

    /// Number of lists.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there is no list.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// All items, as they came.
    pub fn items(&self) -> &TypedColumn {
        &self.store.members().items
    }

    /// Makes the items of that kind, which holds them.
    pub fn turn_into(&mut self, items: &TypedColumn) -> Result<()> {
        self.store.members_mut().items.turn_into(items)
    }

    /// Makes room for so many more lists and items.
    pub fn try_reserve(&mut self, lists: usize, items: usize) -> Result<()> {
        // Items are numbered in 32 bits.
        if self.items().len().saturating_add(items) > u32::MAX as usize {
            return Err(Error::OutOfMemory {
                wanted: items.saturating_mul(size_of::<u32>()),
                what: WHAT,
            });
        }
        try_grow(&mut self.counts, lists, WHAT)?;
        match &mut self.store {
            Store::Every(members) => members.try_reserve(items),
            Store::New(distinct) => distinct.try_reserve(items),
        }
    }

    /// Makes room for so many bytes of texts, where items are such.
    pub fn try_reserve_bytes(&mut self, bytes: usize) -> Result<()> {
        self.store.members_mut().items.try_reserve_bytes(bytes)
    }

    /// The items of each of those lists, which are texts, as one text.
    pub fn joined(&self, rows: &[u32]) -> Result<TypedColumn> {
        let mut joined = self.items().fresh();
        joined.try_reserve(rows.len())?;
        for &row in rows {
            joined.push_joined(self.items(), self.list(row as usize)?)?;
        }
        Ok(joined)
    }

    /// Makes room for the texts in `values`.
    pub fn try_reserve_within(&mut self, values: &TypedColumn) -> Result<()> {
        self.store.members_mut().items.try_reserve_within(values)
    }

    /// Adds an empty list.
    pub fn push_list(&mut self) -> Result<()> {
        self.order.take();
        try_grow(&mut self.counts, 1, WHAT)?;
        self.counts.push(0);
        Ok(())
    }

    /// Appends rows `from_rows` of `from` to the list in `row`.
    pub fn extend(&mut self, row: u32, from: &TypedColumn, from_rows: Range<usize>) -> Result<()> {
        self.order.take();
        for from_row in from_rows {
            let is_added = match &mut self.store {
                Store::Every(members) => members.push(row, from, from_row).map(|()| true),
                Store::New(distinct) => distinct.add(row, from, from_row),
            };
            if let Some(count) = self.counts.get_mut(row as usize) {
                *count += u32::from(is_added?);
                self.longest = self.longest.max(*count);
            }
        }
        Ok(())
    }

    /// Appends the first rows of `from`, one to each list in `rows`; a list that there is not yet is
    /// the next.
    pub fn append_each(&mut self, rows: &[u32], from: &TypedColumn) -> Result<()> {
        self.order.take();
        try_grow(&mut self.counts, rows.len(), WHAT)?;
        let (counts, longest) = (&mut self.counts, &mut self.longest);
        let mut count = |row: u32, is_added| {
            if row as usize == counts.len() {
                counts.push(0);
            }
            if let Some(count) = counts.get_mut(row as usize) {
                *count += u32::from(is_added);
                *longest = (*longest).max(*count);
            }
        };
        match &mut self.store {
            Store::Every(members) => {
                try_grow(&mut members.rows, rows.len(), WHAT)?;
                members.items.append(from, 0..rows.len())?;
                members.rows.extend_from_slice(rows);
                for &row in rows {
                    count(row, true);
                }
            }
            Store::New(distinct) => distinct.add_each(rows, from, count)?,
        }
        Ok(())
    }

    /// Appends the items of the first lists of `from` to the lists in `rows`, each to one; a list that
    /// there is not yet is the next.
    fn extend_each(&mut self, rows: &[u32], from: &Lists) -> Result<()> {
        let Store::Every(members) = &mut self.store else {
            return rows.iter().enumerate().try_for_each(|(at, &row)| {
                if row as usize == self.len() {
                    self.push_list()?;
                }
                self.extend(row, &from.items, from.range(at))
            });
        };
        self.order.take();
        let items = rows
            .len()
            .checked_sub(1)
            .map_or(0, |last| from.range(last).end);
        try_grow(&mut self.counts, rows.len(), WHAT)?;
        try_grow(&mut members.rows, items, WHAT)?;
        members.items.append(&from.items, 0..items)?;
        for (at, &row) in rows.iter().enumerate() {
            let items = from.range(at).len();
            members.rows.extend(std::iter::repeat_n(row, items));
            if row as usize == self.counts.len() {
                self.counts.push(0);
            }
            if let Some(count) = self.counts.get_mut(row as usize) {
                // There are no more items than are numbered in 32 bits.
                *count += u32::try_from(items).unwrap_or(u32::MAX);
                self.longest = self.longest.max(*count);
            }
        }
        Ok(())
    }

    fn order(&self) -> Result<&Layout> {
        if self.order.get().is_none() {
            let rows = self.store.members().rows.as_slice();
            let list_of = |item: usize| rows.get(item).map_or(0, |&row| row as usize);
            let made = Layout::by(rows.len(), self.counts.len(), list_of)?;
            let _ = self.order.set(made);
            self.sorts.set(self.sorts.get() + 1);
        }
        self.order.get().ok_or_else(|| Error::OutOfMemory {
            wanted: 0,
            what: WHAT,
        })
    }

    /// How often all items were put in order, as they are to be read after some were added.
    pub fn sorts(&self) -> usize {
        self.sorts.get()
    }

    /// Which items are in the list in `row`, in their order.
    pub fn list(&self, row: usize) -> Result<&[u32]> {
        Ok(self.order()?.rows(row))
    }

    /// Items of the list in `row`.
    pub fn count(&self, row: usize) -> usize {
        self.counts.get(row).map_or(0, |&count| count as usize)
    }

    /// Items of the longest list.
    pub fn longest(&self) -> usize {
        self.longest as usize
    }

    /// The lists in `rows`.
    pub fn gather(&self, rows: &[u32]) -> Result<Lists> {
        let total = rows.iter().map(|&row| self.count(row as usize)).sum();
        let mut items = try_with_capacity(total, WHAT)?;
        let mut ends = try_with_capacity(rows.len(), WHAT)?;
        for &row in rows {
            items.extend_from_slice(self.list(row as usize)?);
            ends.push(items.len());
        }
        let items = Box::new(self.items().gather(&items)?);
        Ok(Lists { ends, items })
    }

    /// The lists in `rows`, with items that are not read.
    pub fn lengths(&self, rows: &[u32]) -> Result<Lists> {
        let mut ends = try_with_capacity(rows.len(), WHAT)?;
        let mut end = 0;
        for &row in rows {
            end += self.count(row as usize);
            ends.push(end);
        }
        let items = Box::new(TypedColumn::Unread(end));
        Ok(Lists { ends, items })
    }

    /// Asks memory for the count in `row`, which is needed soon.
    #[inline]
    pub fn prefetch(&self, row: usize) {
        if let Some(count) = self.counts.get(row) {
            memory::prefetch(count);
        }
    }

    /// Bytes allocated.
    pub fn heap_bytes(&self) -> usize {
        let of_items = match &self.store {
            Store::Every(members) => members.heap_bytes(),
            Store::New(distinct) => distinct.heap_bytes(),
        };
        let of_order = self.order.get().map_or(0, Layout::heap_bytes);
        self.counts.capacity() * size_of::<u32>() + of_order + of_items
    }

    /// Forgets all lists and keeps their memory.
    pub fn reset(&mut self) {
        self.order.take();
        self.counts.clear();
        self.longest = 0;
        match &mut self.store {
            Store::Every(members) => members.reset(),
            Store::New(distinct) => distinct.reset(),
        }
    }
}

/// Merges lists, sets or texts, each operand into that in the row that `rows` names beside it; a row
/// that there is not yet is the next one.
pub(super) fn merge(
    lists: &mut Collected,
    part: &Part<'_>,
    rows: &[u32],
    operands: Operands<'_>,
) -> Result<()> {
    let (first, later) = (part.first.added(), part.step.added());
    // One operand a record, whether the list is new or not: an item, as where groups are made, or a
    // list of such, as where they are merged.
    if let (Step::Keep, [added]) = (part.first, later.as_slice())
        && let Some(item) = only_item(added)
        && only_item(&part.create) == Some(item)
        && let Some(column) = operands.values.at(item)
    {
        match column {
            TypedColumn::List(from) | TypedColumn::Set(from)
                if added.new_items().is_none() && part.create.new_items().is_none() =>
            {
                return lists.extend_each(rows, from);
            }
            column if !column.has_lists() => return lists.append_each(rows, column),
            _ => {}
        }
    }
    for (at, &row) in rows.iter().enumerate() {
        let added = if (row as usize) < lists.len() {
            &later
        } else {
            lists.push_list()?;
            extend(lists, row, &part.create, at, operands)?;
            &first
        };
        for added in added {
            extend(lists, row, added, at, operands)?;
        }
    }
    Ok(())
}

/// Where in a value the only item of a new list or set is, or the text or list that is no new one.
fn only_item(source: &Source) -> Option<&[usize]> {
    match source.new_items() {
        Some([Source::Value(path)]) => Some(path),
        Some(_) => None,
        None => match source {
            Source::Value(path) => Some(path),
            _ => None,
        },
    }
}

/// Puts the operand of record `at` into the list in `row`: what is in it, if that is a list or set.
fn extend(
    lists: &mut Collected,
    row: u32,
    operand: &Source,
    at: usize,
    operands: Operands<'_>,
) -> Result<()> {
    if let Some(items) = operand.new_items() {
        return items.iter().try_for_each(|item| {
            let from = item.row(at);
            let column = item.column(operands);
            column.map_or(Ok(()), |column| lists.extend(row, column, from..from + 1))
        });
    }
    let from = operand.row(at);
    match operand.column(operands) {
        Some(TypedColumn::List(lists_of) | TypedColumn::Set(lists_of)) => {
            lists.extend(row, &lists_of.items, lists_of.range(from))
        }
        Some(column) => lists.extend(row, column, from..from + 1),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ints(of: &[i64]) -> TypedColumn {
        TypedColumn::Int(of.to_vec())
    }

    fn list(collected: &Collected, row: usize) -> Vec<i64> {
        let TypedColumn::Int(items) = collected.items() else {
            return Vec::new();
        };
        let list = collected.list(row).unwrap();
        list.iter()
            .map(|&item| *items.get(item as usize).unwrap())
            .collect()
    }

    #[test]
    fn items_stay_in_the_order_in_which_they_came() {
        let mut lists = Collected::lists(&ints(&[]));
        lists
            .append_each(&[0, 1, 0, 2, 1], &ints(&[10, 11, 12, 13, 14]))
            .unwrap();
        assert_eq!(list(&lists, 0), [10, 12]);
        assert_eq!(list(&lists, 1), [11, 14]);
        lists.push_list().unwrap();
        lists.extend(1, &ints(&[7, 8, 9]), 1..3).unwrap();
        assert_eq!(list(&lists, 1), [11, 14, 8, 9]);
        assert!(list(&lists, 3).is_empty());
        let others = Lists {
            ends: vec![2, 2, 3, 4],
            items: Box::new(ints(&[1, 2, 3, 4])),
        };
        let mut extended = lists.fresh();
        extended.extend_each(&[0, 1, 0], &others).unwrap();
        extended.extend_each(&[2], &others).unwrap();
        assert_eq!(list(&extended, 0), [1, 2, 3]);
        assert!(list(&extended, 1).is_empty());
        assert_eq!(list(&extended, 2), [1, 2]);
        assert_eq!((extended.len(), extended.longest()), (3, 3));
        assert!(list(&lists, 9).is_empty());
        let gathered = lists.gather(&[1, 3, 2]).unwrap();
        assert_eq!(gathered.ends, [4, 4, 5]);
        let expected = ints(&[11, 14, 8, 9, 13]);
        assert!((0..5).all(|row| gathered.items.is_same(row, &expected, row)));
        lists.reset();
        assert!(lists.is_empty());
        assert!(list(&lists, 0).is_empty());
    }

    #[test]
    fn an_item_is_in_a_set_once_where_it_came_first() {
        let mut sets = Collected::sets(&ints(&[]));
        sets.append_each(&[0, 1, 0, 0, 1], &ints(&[5, 5, 7, 5, 6]))
            .unwrap();
        assert_eq!((list(&sets, 0), list(&sets, 1)), (vec![5, 7], vec![5, 6]));
        sets.push_list().unwrap();
        sets.extend(1, &ints(&[6, 4, 5, 4]), 0..4).unwrap();
        assert_eq!((list(&sets, 1), sets.count(1)), (vec![5, 6, 4], 3));
        assert!(list(&sets, 2).is_empty());
        let fresh = sets.fresh();
        assert!(fresh.is_empty() && fresh.items().is_empty());
        sets.reset();
        sets.append_each(&[0, 0], &ints(&[5, 5])).unwrap();
        assert_eq!(list(&sets, 0), [5]);
    }

    #[test]
    fn more_items_than_are_numbered_are_refused() {
        let mut lists = Collected::lists(&TypedColumn::None(0));
        let refused = lists.try_reserve(0, u32::MAX as usize + 1);
        assert!(matches!(refused, Err(Error::OutOfMemory { .. })));
    }
}
