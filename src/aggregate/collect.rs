//! Lists of values as one column: what is appended is noted with the row of its list, and put in
//! order when the lists are read.

use std::cell::{Cell, OnceCell};
use std::ops::Range;

use crate::column::typed::{Lists, TypedColumn};
use crate::error::{Error, Result};
use crate::memory::{self, try_grow, try_with_capacity};
use crate::spill::layout::Layout;

const WHAT: &str = "a table of lists";

/// Lists that are made longer and read, by row.
pub struct Collected {
    /// Items of each list.
    counts: Vec<u32>,
    /// The list that each item belongs to.
    rows: Vec<u32>,
    items: TypedColumn,
    /// The items of each list. Made when one is first read; there is none while items are added.
    order: OnceCell<Layout>,
    /// How often that was done.
    sorts: Cell<usize>,
}

impl Collected {
    /// No list, of items of the kind of `items`.
    pub fn of(items: &TypedColumn) -> Self {
        Self {
            counts: Vec::new(),
            rows: Vec::new(),
            items: items.fresh(),
            order: OnceCell::new(),
            sorts: Cell::new(0),
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
        &self.items
    }

    /// Makes the items of that kind, which holds them.
    pub fn turn_into(&mut self, items: &TypedColumn) -> Result<()> {
        self.items.turn_into(items)
    }

    /// Makes room for so many more lists and items.
    pub fn try_reserve(&mut self, lists: usize, items: usize) -> Result<()> {
        // Items are numbered in 32 bits.
        if self.rows.len().saturating_add(items) > u32::MAX as usize {
            return Err(Error::OutOfMemory {
                wanted: items.saturating_mul(size_of::<u32>()),
                what: WHAT,
            });
        }
        try_grow(&mut self.counts, lists, WHAT)?;
        try_grow(&mut self.rows, items, WHAT)?;
        self.items.try_reserve(items)
    }

    /// Makes room for so many bytes of texts, where items are such.
    pub fn try_reserve_bytes(&mut self, bytes: usize) -> Result<()> {
        self.items.try_reserve_bytes(bytes)
    }

    /// The items of each of those lists, which are texts, as one text.
    pub fn joined(&self, rows: &[u32]) -> Result<TypedColumn> {
        let mut joined = self.items.fresh();
        joined.try_reserve(rows.len())?;
        for &row in rows {
            joined.push_joined(&self.items, self.list(row as usize)?)?;
        }
        Ok(joined)
    }

    /// Makes room for the texts in `values`.
    pub fn try_reserve_within(&mut self, values: &TypedColumn) -> Result<()> {
        self.items.try_reserve_within(values)
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
            try_grow(&mut self.rows, 1, WHAT)?;
            self.items.push_from(from, from_row)?;
            self.rows.push(row);
            if let Some(count) = self.counts.get_mut(row as usize) {
                *count += 1;
            }
        }
        Ok(())
    }

    /// Appends the first rows of `from`, one to each list in `rows`; a list that there is not yet is the next.
    pub fn append_each(&mut self, rows: &[u32], from: &TypedColumn) -> Result<()> {
        self.order.take();
        try_grow(&mut self.rows, rows.len(), WHAT)?;
        try_grow(&mut self.counts, rows.len(), WHAT)?;
        self.items.append(from, 0..rows.len())?;
        self.rows.extend_from_slice(rows);
        for &row in rows {
            match self.counts.get_mut(row as usize) {
                Some(count) => *count += 1,
                None => self.counts.push(1),
            }
        }
        Ok(())
    }

    fn order(&self) -> Result<&Layout> {
        if self.order.get().is_none() {
            let list_of = |item: usize| self.rows.get(item).map_or(0, |&row| row as usize);
            let made = Layout::by(self.rows.len(), self.counts.len(), list_of)?;
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

    /// The lists in `rows`.
    pub fn gather(&self, rows: &[u32]) -> Result<Lists> {
        let total = rows.iter().map(|&row| self.count(row as usize)).sum();
        let mut items = try_with_capacity(total, WHAT)?;
        let mut ends = try_with_capacity(rows.len(), WHAT)?;
        for &row in rows {
            items.extend_from_slice(self.list(row as usize)?);
            ends.push(items.len());
        }
        let items = Box::new(self.items.gather(&items)?);
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
        (self.counts.capacity() + self.rows.capacity()) * size_of::<u32>()
            + self.order.get().map_or(0, Layout::heap_bytes)
            + self.items.heap_bytes()
    }

    /// Forgets all lists and keeps their memory.
    pub fn reset(&mut self) {
        self.order.take();
        self.counts.clear();
        self.rows.clear();
        self.items.truncate(0);
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
        let mut lists = Collected::of(&ints(&[]));
        lists
            .append_each(&[0, 1, 0, 2, 1], &ints(&[10, 11, 12, 13, 14]))
            .unwrap();
        assert_eq!(list(&lists, 0), [10, 12]);
        assert_eq!(list(&lists, 1), [11, 14]);
        lists.push_list().unwrap();
        lists.extend(1, &ints(&[7, 8, 9]), 1..3).unwrap();
        assert_eq!(list(&lists, 1), [11, 14, 8, 9]);
        assert!(list(&lists, 3).is_empty());
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
    fn more_items_than_are_numbered_are_refused() {
        let mut lists = Collected::of(&TypedColumn::None(0));
        let refused = lists.try_reserve(0, u32::MAX as usize + 1);
        assert!(matches!(refused, Err(Error::OutOfMemory { .. })));
    }
}
