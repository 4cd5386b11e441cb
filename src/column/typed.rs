//! Columns of values of one kind without Python: numbers, text, tuples, lists and sets of these,
//! and `None` among them.

use std::ops::Range;

use super::nullable::Nullable;
use super::{Column, KeyColumn};
use crate::error::{Error, Result};
use crate::map::{KeyHash, Keys};
use crate::memory::{self, try_grow};
use crate::python_hash;

const WHAT: &str = "a typed column";

/// A vector of values of one kind.
#[derive(Clone, Debug)]
pub enum TypedColumn {
    /// So many times `None`.
    None(usize),
    /// So many values that no step looks at, whatever they are.
    Unread(usize),
    /// Exactly `int`, within 64 bits.
    Int(Vec<i64>),
    /// Exactly `float`.
    Float(Vec<f64>),
    /// Exactly `bool`.
    Bool(Vec<bool>),
    /// Exactly `str`, without lone surrogates.
    Str(Texts),
    /// Exactly `bytes`.
    Bytes(Texts),
    /// Exactly `tuple`, of one length above 0: a column for each item.
    Tuple(Vec<TypedColumn>),
    /// Exactly `list`.
    List(Lists),
    /// Exactly `set`, with no float in it: the items of each, which differ.
    Set(Lists),
    /// Any of these but the first two, with `None` among them.
    Nullable(Nullable),
}

/// Lists or sets of values of one kind, one after the other.
#[derive(Clone, Debug)]
pub struct Lists {
    /// Where each list ends in `items`; it starts where the one before ends.
    pub ends: Vec<usize>,
    /// What is in the lists.
    pub items: Box<TypedColumn>,
}

impl Lists {
    /// No list, of items of the kind of `items`.
    pub fn of(items: &TypedColumn) -> Self {
        Self {
            ends: Vec::new(),
            items: Box::new(items.fresh()),
        }
    }

    /// Where the items of the list in `row` are.
    #[inline]
    pub fn range(&self, row: usize) -> Range<usize> {
        let start = row.checked_sub(1).and_then(|before| self.ends.get(before));
        let end = self.ends.get(row).copied().unwrap_or(0);
        start.copied().unwrap_or(0).min(end)..end
    }

    /// Appends those rows of `from`. After an error no row was added.
    fn append(&mut self, from: &Self, rows: Range<usize>) -> Result<()> {
        let start = from.range(rows.start).start;
        let ends = from.ends.get(rows).unwrap_or_default();
        try_grow(&mut self.ends, ends.len(), WHAT)?;
        let before = self.items.len();
        let end = ends.last().copied().unwrap_or(start);
        self.items.append(&from.items, start..end)?;
        self.ends
            .extend(ends.iter().map(|end| end - start + before));
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.items.truncate(self.ends.last().copied().unwrap_or(0));
    }
}

/// Texts one after the other, in UTF-8, or any bytes.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    bytes: Vec<u8>,
    /// Where each text ends in `bytes`; it starts where the one before ends.
    ends: Vec<usize>,
}

impl Texts {
    /// Number of texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text in `row`; empty where there is no such row.
    #[inline]
    pub fn get(&self, row: usize) -> &[u8] {
        let range = self.start(row)..self.ends.get(row).copied().unwrap_or(0);
        self.bytes.get(range).unwrap_or_default()
    }

    /// Where the text in `row` starts.
    #[inline]
    pub fn start(&self, row: usize) -> usize {
        let end = row.checked_sub(1).and_then(|before| self.ends.get(before));
        end.copied().unwrap_or(0)
    }

    /// Appends a text.
    #[inline]
    pub fn push(&mut self, text: &[u8]) -> Result<()> {
        try_grow(&mut self.ends, 1, WHAT)?;
        try_grow(&mut self.bytes, text.len(), WHAT)?;
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// Appends a text of so many code points; `false` where one of them is no character, as a
    /// lone surrogate is none: nothing was appended then.
    pub fn push_chars(&mut self, chars: impl ExactSizeIterator<Item = u32>) -> Result<bool> {
        const MOST_BYTES: usize = 4;
        try_grow(&mut self.ends, 1, WHAT)?;
        try_grow(
            &mut self.bytes,
            chars.len().saturating_mul(MOST_BYTES),
            WHAT,
        )?;
        let start = self.bytes.len();
        for code in chars {
            let Some(char) = char::from_u32(code) else {
                self.bytes.truncate(start);
                return Ok(false);
            };
            let mut utf8 = [0; MOST_BYTES];
            self.bytes
                .extend_from_slice(char.encode_utf8(&mut utf8).as_bytes());
        }
        self.ends.push(self.bytes.len());
        Ok(true)
    }

    /// The texts that end in `bytes` at each of `ends`.
    pub fn of_parts(bytes: Vec<u8>, ends: Vec<usize>) -> Self {
        Self { bytes, ends }
    }

    /// Appends the texts in those rows of `from`, in the order of the rows.
    fn gather(&mut self, from: &Self, rows: &[u32]) -> Result<()> {
        let texts = || rows.iter().map(|&row| from.get(row as usize));
        try_grow(&mut self.ends, rows.len(), WHAT)?;
        try_grow(&mut self.bytes, texts().map(<[u8]>::len).sum(), WHAT)?;
        for text in texts() {
            self.bytes.extend_from_slice(text);
            self.ends.push(self.bytes.len());
        }
        Ok(())
    }

    /// Appends those rows of `from`.
    fn append(&mut self, from: &Self, rows: Range<usize>) -> Result<()> {
        let start = from.start(rows.start);
        let ends = from.ends.get(rows).unwrap_or_default();
        let bytes = from.bytes.get(start..ends.last().copied().unwrap_or(start));
        let bytes = bytes.unwrap_or_default();
        try_grow(&mut self.ends, ends.len(), WHAT)?;
        try_grow(&mut self.bytes, bytes.len(), WHAT)?;
        let before = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.ends
            .extend(ends.iter().map(|end| end - start + before));
        Ok(())
    }

    /// All texts, one after the other.
    pub fn all(&self) -> &[u8] {
        &self.bytes
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }
}

impl TypedColumn {
    /// An empty column of the same kind.
    #[must_use]
    pub fn fresh(&self) -> Self {
        match self {
            Self::None(_) => Self::None(0),
            Self::Unread(_) => Self::Unread(0),
            Self::Int(_) => Self::Int(Vec::new()),
            Self::Float(_) => Self::Float(Vec::new()),
            Self::Bool(_) => Self::Bool(Vec::new()),
            Self::Str(_) => Self::Str(Texts::default()),
            Self::Bytes(_) => Self::Bytes(Texts::default()),
            Self::Tuple(fields) => Self::Tuple(fields.iter().map(Self::fresh).collect()),
            Self::List(lists) => Self::List(Lists::of(&lists.items)),
            Self::Set(sets) => Self::Set(Lists::of(&sets.items)),
            Self::Nullable(nullable) => Self::Nullable(Nullable::of(&nullable.values)),
        }
    }

    /// Whether they are of one kind, down to where there may be `None`.
    pub fn is_of_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None(_), Self::None(_))
            | (Self::Unread(_), Self::Unread(_))
            | (Self::Int(_), Self::Int(_))
            | (Self::Float(_), Self::Float(_))
            | (Self::Bool(_), Self::Bool(_))
            | (Self::Str(_), Self::Str(_))
            | (Self::Bytes(_), Self::Bytes(_)) => true,
            (Self::Tuple(a), Self::Tuple(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_of_kind(b))
            }
            (Self::List(a), Self::List(b)) | (Self::Set(a), Self::Set(b)) => {
                a.items.is_of_kind(&b.items)
            }
            (Self::Nullable(a), Self::Nullable(b)) => a.values.is_of_kind(&b.values),
            _ => false,
        }
    }

    /// Whether there are lists or sets in it, at any depth.
    pub fn has_lists(&self) -> bool {
        self.has(&|kind| matches!(kind, Self::List(_) | Self::Set(_)))
    }

    /// Whether there is something at any depth that `is_that`.
    fn has(&self, is_that: &dyn Fn(&Self) -> bool) -> bool {
        is_that(self)
            || match self {
                Self::Tuple(fields) => fields.iter().any(|field| field.has(is_that)),
                Self::Nullable(nullable) => nullable.values.has(is_that),
                Self::List(lists) | Self::Set(lists) => lists.items.has(is_that),
                _ => false,
            }
    }

    /// Whether these may be the items of a set: they have a hash, and of those that are equal
    /// nothing tells one from another.
    pub fn is_for_sets(&self) -> bool {
        !self.has(&|kind| matches!(kind, Self::List(_) | Self::Set(_) | Self::Float(_)))
    }

    /// Number of rows.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::None(rows) | Self::Unread(rows) => *rows,
            Self::Int(rows) => rows.len(),
            Self::Float(rows) => rows.len(),
            Self::Bool(rows) => rows.len(),
            Self::Str(texts) | Self::Bytes(texts) => texts.len(),
            Self::Tuple(fields) => fields.first().map_or(0, Self::len),
            Self::List(lists) | Self::Set(lists) => lists.ends.len(),
            Self::Nullable(nullable) => nullable.valid.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The column at `path`, an index into a tuple for each step.
    pub fn at(&self, path: &[usize]) -> Option<&Self> {
        path.iter().try_fold(self, |column, &index| match column {
            Self::Tuple(fields) => fields.get(index),
            _ => None,
        })
    }

    /// Forgets the rows from `rows` on.
    pub fn truncate(&mut self, rows: usize) {
        match self {
            Self::None(len) | Self::Unread(len) => *len = rows.min(*len),
            Self::Int(ints) => ints.truncate(rows),
            Self::Float(floats) => floats.truncate(rows),
            Self::Bool(bools) => bools.truncate(rows),
            Self::Str(texts) | Self::Bytes(texts) => texts.truncate(rows),
            Self::Tuple(fields) => fields.iter_mut().for_each(|field| field.truncate(rows)),
            Self::List(lists) | Self::Set(lists) => lists.truncate(rows),
            Self::Nullable(nullable) => {
                nullable.valid.truncate(rows);
                nullable.values.truncate(rows);
            }
        }
    }

    /// Makes room for `more` rows, so that pushing numbers as often cannot fail.
    #[inline]
    pub fn try_reserve(&mut self, more: usize) -> Result<()> {
        match self {
            Self::None(_) | Self::Unread(_) => Ok(()),
            Self::Int(ints) => try_grow(ints, more, WHAT),
            Self::Float(floats) => try_grow(floats, more, WHAT),
            Self::Bool(bools) => try_grow(bools, more, WHAT),
            Self::Str(texts) | Self::Bytes(texts) => try_grow(&mut texts.ends, more, WHAT),
            Self::List(lists) | Self::Set(lists) => try_grow(&mut lists.ends, more, WHAT),
            Self::Nullable(nullable) => {
                nullable.valid.try_reserve(more)?;
                nullable.values.try_reserve(more)
            }
            Self::Tuple(fields) => fields
                .iter_mut()
                .try_for_each(|field| field.try_reserve(more)),
        }
    }

    /// Makes room for all the texts and items in `from`, of any kind, where this column has any.
    pub fn try_reserve_within(&mut self, from: &Self) -> Result<()> {
        match self {
            Self::Str(texts) | Self::Bytes(texts) => {
                try_grow(&mut texts.bytes, from.text_bytes(), WHAT)
            }
            Self::Tuple(fields) => fields
                .iter_mut()
                .try_for_each(|field| field.try_reserve_within(from)),
            Self::List(lists) | Self::Set(lists) => {
                lists.items.try_reserve(from.most_items())?;
                lists.items.try_reserve_within(from)
            }
            Self::Nullable(nullable) => nullable.values.try_reserve_within(from),
            _ => Ok(()),
        }
    }

    /// Makes room for so many bytes of texts, where this is a column of such.
    pub fn try_reserve_bytes(&mut self, bytes: usize) -> Result<()> {
        match self {
            Self::Str(texts) | Self::Bytes(texts) => try_grow(&mut texts.bytes, bytes, WHAT),
            _ => Ok(()),
        }
    }

    /// Appends the texts in those rows of `from` as one. After an error no row was added.
    pub fn push_joined(&mut self, from: &Self, rows: &[u32]) -> Result<()> {
        let ((Self::Str(to), Self::Str(from)) | (Self::Bytes(to), Self::Bytes(from))) =
            (self, from)
        else {
            return Err(mixed());
        };
        let bytes = rows.iter().map(|&row| from.get(row as usize).len()).sum();
        try_grow(&mut to.ends, 1, WHAT)?;
        try_grow(&mut to.bytes, bytes, WHAT)?;
        for &row in rows {
            to.bytes.extend_from_slice(from.get(row as usize));
        }
        to.ends.push(to.bytes.len());
        Ok(())
    }

    fn text_bytes(&self) -> usize {
        match self {
            Self::Str(texts) | Self::Bytes(texts) => texts.bytes.len(),
            Self::Tuple(fields) => fields.iter().map(Self::text_bytes).sum(),
            Self::List(lists) | Self::Set(lists) => lists.items.text_bytes(),
            Self::Nullable(nullable) => nullable.values.text_bytes(),
            _ => 0,
        }
    }

    /// Whether there are texts, lists or sets in it, at any depth.
    pub fn is_long(&self) -> bool {
        self.has_lists() || self.has(&|kind| matches!(kind, Self::Str(_) | Self::Bytes(_)))
    }

    /// Bytes of what rows are long by: texts, and items of lists and sets.
    pub fn long_bytes(&self) -> usize {
        match self {
            Self::Str(texts) | Self::Bytes(texts) => texts.bytes.len(),
            Self::Tuple(fields) => fields.iter().map(Self::long_bytes).sum(),
            Self::List(lists) | Self::Set(lists) => {
                lists.items.len() * size_of::<u64>() + lists.items.long_bytes()
            }
            Self::Nullable(nullable) => nullable.values.long_bytes(),
            _ => 0,
        }
    }

    /// As many items as may be put into one list or set, of all rows.
    pub fn most_items(&self) -> usize {
        match self {
            Self::List(lists) | Self::Set(lists) => lists.items.most_items(),
            Self::Tuple(fields) => fields.iter().map(Self::most_items).max().unwrap_or(0),
            Self::Nullable(nullable) => nullable.values.most_items(),
            column => column.len(),
        }
    }

    /// Appends row `row` of `from`, which this one [`holds`](Self::holds). After an error no row
    /// was added.
    #[inline]
    pub fn push_from(&mut self, from: &Self, row: usize) -> Result<()> {
        match (self, from) {
            (Self::None(rows), Self::None(_)) | (Self::Unread(rows), Self::Unread(_)) => *rows += 1,
            (Self::Int(ints), Self::Int(from)) => {
                try_grow(ints, 1, WHAT)?;
                ints.extend(from.get(row));
            }
            (Self::Float(floats), Self::Float(from)) => {
                try_grow(floats, 1, WHAT)?;
                floats.extend(from.get(row));
            }
            (Self::Bool(bools), Self::Bool(from)) => {
                try_grow(bools, 1, WHAT)?;
                bools.extend(from.get(row));
            }
            (Self::Str(texts), Self::Str(from)) | (Self::Bytes(texts), Self::Bytes(from)) => {
                texts.push(from.get(row))?;
            }
            (Self::List(lists), Self::List(from)) | (Self::Set(lists), Self::Set(from)) => {
                lists.append(from, row..row + 1)?;
            }
            (Self::Tuple(fields), Self::Tuple(from)) => {
                let rows = fields.first().map_or(0, Self::len);
                let mut pairs = fields.iter_mut().zip(from);
                if let Err(error) = pairs.try_for_each(|(field, from)| field.push_from(from, row)) {
                    for field in fields.iter_mut() {
                        field.truncate(rows);
                    }
                    return Err(error);
                }
            }
            (Self::Nullable(to), from) => {
                let Some(values) = from.value_at(row) else {
                    return to.push_none(1);
                };
                to.push_with(|to| to.push_from(values, row).map(|()| true))?;
            }
            _ => return Err(mixed()),
        }
        Ok(())
    }

    /// Appends so many values, any. After an error no row was added.
    pub fn fill(&mut self, rows: usize) -> Result<()> {
        self.try_reserve(rows)?;
        match self {
            Self::None(len) | Self::Unread(len) => *len += rows,
            Self::Int(ints) => ints.resize(ints.len() + rows, 0),
            Self::Float(floats) => floats.resize(floats.len() + rows, 0.0),
            Self::Bool(bools) => bools.resize(bools.len() + rows, false),
            Self::Str(texts) | Self::Bytes(texts) => {
                let end = texts.bytes.len();
                texts.ends.resize(texts.ends.len() + rows, end);
            }
            Self::Tuple(fields) => fields.iter_mut().try_for_each(|field| field.fill(rows))?,
            Self::List(lists) | Self::Set(lists) => {
                let end = lists.items.len();
                lists.ends.resize(lists.ends.len() + rows, end);
            }
            Self::Nullable(nullable) => nullable.push_none(rows)?,
        }
        Ok(())
    }

    /// Appends those rows of `from`, which this one [`holds`](Self::holds). After an error
    /// no row was added.
    pub fn append(&mut self, from: &Self, rows: Range<usize>) -> Result<()> {
        let before = self.len();
        let appended = match (&mut *self, from) {
            (Self::None(len), Self::None(_)) | (Self::Unread(len), Self::Unread(_)) => {
                *len += rows.len();
                Ok(())
            }
            (Self::Int(ints), Self::Int(from)) => extend(ints, from, rows),
            (Self::Float(floats), Self::Float(from)) => extend(floats, from, rows),
            (Self::Bool(bools), Self::Bool(from)) => extend(bools, from, rows),
            (Self::Str(texts), Self::Str(from)) | (Self::Bytes(texts), Self::Bytes(from)) => {
                texts.append(from, rows)
            }
            (Self::List(lists), Self::List(from)) | (Self::Set(lists), Self::Set(from)) => {
                lists.append(from, rows)
            }
            (Self::Tuple(fields), Self::Tuple(from)) => fields
                .iter_mut()
                .zip(from)
                .try_for_each(|(field, from)| field.append(from, rows.clone())),
            (Self::Nullable(to), from) => append_to_nullable(to, from, rows),
            (column, from) => rows
                .into_iter()
                .try_for_each(|row| column.push_from(from, row)),
        };
        if appended.is_err() {
            self.truncate(before);
        }
        appended
    }

    /// Puts row `from_row` of `from`, which this one holds, in place of `row`. Texts have
    /// places of different sizes and cannot be replaced: see [`is_replaceable`](Self::is_replaceable).
    #[inline]
    pub fn replace_from(&mut self, row: usize, from: &Self, from_row: usize) {
        match (self, from) {
            (Self::Int(ints), Self::Int(from)) => {
                if let (Some(to), Some(from)) = (ints.get_mut(row), from.get(from_row)) {
                    *to = *from;
                }
            }
            (Self::Float(floats), Self::Float(from)) => {
                if let (Some(to), Some(from)) = (floats.get_mut(row), from.get(from_row)) {
                    *to = *from;
                }
            }
            (Self::Bool(bools), Self::Bool(from)) => {
                if let (Some(to), Some(from)) = (bools.get_mut(row), from.get(from_row)) {
                    *to = *from;
                }
            }
            (Self::Tuple(fields), Self::Tuple(from)) => {
                for (field, from) in fields.iter_mut().zip(from) {
                    field.replace_from(row, from, from_row);
                }
            }
            (Self::Nullable(to), from) => to.replace_from(row, from, from_row),
            _ => {}
        }
    }

    /// Whether rows can be replaced.
    pub fn is_replaceable(&self) -> bool {
        !self.is_long()
    }

    /// The `rows` of this column, in their order.
    pub fn gather(&self, rows: &[u32]) -> Result<Self> {
        let mut gathered = self.fresh();
        gathered.try_reserve(rows.len())?;
        match (&mut gathered, self) {
            (Self::None(len) | Self::Unread(len), _) => *len = rows.len(),
            (Self::Int(to), Self::Int(from)) => {
                to.extend(rows.iter().filter_map(|&row| from.get(row as usize)));
            }
            (Self::Float(to), Self::Float(from)) => {
                to.extend(rows.iter().filter_map(|&row| from.get(row as usize)));
            }
            (Self::Str(to), Self::Str(from)) | (Self::Bytes(to), Self::Bytes(from)) => {
                to.gather(from, rows)?;
            }
            (Self::Tuple(to), Self::Tuple(from)) => {
                for (to, from) in to.iter_mut().zip(from) {
                    *to = from.gather(rows)?;
                }
            }
            (Self::Nullable(to), Self::Nullable(from)) => {
                to.valid = from.valid.gather(rows)?;
                *to.values = from.values.gather(rows)?;
            }
            (gathered, _) => {
                for &row in rows {
                    gathered.push_from(self, row as usize)?;
                }
            }
        }
        Ok(gathered)
    }

    /// Those rows of this column.
    pub fn slice(&self, rows: Range<usize>) -> Result<Self> {
        let mut slice = self.fresh();
        slice.append(self, rows)?;
        Ok(slice)
    }

    /// Whether `row` and `other_row` of a column, of a kind that [joins](Self::joined) with this
    /// one, hold equal values, as Python's `==` says of them.
    #[inline(always)]
    #[allow(clippy::inline_always)] // once a record: the call costs as much as what it does
    pub fn is_same(&self, row: usize, other: &Self, other_row: usize) -> bool {
        // The kind of most keys, apart, so that its comparison is in line.
        if let (Self::Int(a), Self::Int(b)) = (self, other) {
            return a.get(row) == b.get(other_row);
        }
        self.is_same_of_any(row, other, other_row)
    }

    fn is_same_of_any(&self, row: usize, other: &Self, other_row: usize) -> bool {
        match (self, other) {
            (Self::None(_), Self::None(_)) => true,
            (Self::Int(a), Self::Int(b)) => a.get(row) == b.get(other_row),
            #[allow(clippy::float_cmp)] // as Python compares them
            (Self::Float(a), Self::Float(b)) => a.get(row) == b.get(other_row),
            (Self::Bool(a), Self::Bool(b)) => a.get(row) == b.get(other_row),
            (Self::Str(a), Self::Str(b)) | (Self::Bytes(a), Self::Bytes(b)) => {
                a.get(row) == b.get(other_row)
            }
            (Self::Tuple(a), Self::Tuple(b)) => {
                a.iter().zip(b).all(|(a, b)| a.is_same(row, b, other_row))
            }
            _ => self.is_same_or_none(row, other, other_row),
        }
    }

    /// The same where one may be `None`, apart, so that others do not pay for it.
    #[inline(never)]
    fn is_same_or_none(&self, row: usize, other: &Self, other_row: usize) -> bool {
        if !matches!(
            (self, other),
            (Self::Nullable(_), _) | (_, Self::Nullable(_))
        ) {
            return false;
        }
        match (self.value_at(row), other.value_at(other_row)) {
            (Some(value), Some(other)) => value.is_same(row, other, other_row),
            (value, other) => value.is_none() && other.is_none(),
        }
    }

    /// Bytes allocated for the rows.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::None(_) | Self::Unread(_) => 0,
            Self::Int(ints) => ints.capacity() * size_of::<i64>(),
            Self::Float(floats) => floats.capacity() * size_of::<f64>(),
            Self::Bool(bools) => bools.capacity(),
            Self::Str(texts) | Self::Bytes(texts) => {
                texts.bytes.capacity() + texts.ends.capacity() * size_of::<usize>()
            }
            Self::Tuple(fields) => fields.iter().map(Self::heap_bytes).sum(),
            Self::List(lists) | Self::Set(lists) => {
                lists.items.heap_bytes() + lists.ends.capacity() * size_of::<usize>()
            }
            Self::Nullable(nullable) => nullable.valid.heap_bytes() + nullable.values.heap_bytes(),
        }
    }

    /// Asks memory for what is in `row`, which is needed soon.
    #[inline(always)]
    #[allow(clippy::inline_always)] // once a record: the call costs as much as what it does
    pub fn prefetch(&self, row: usize) {
        match self {
            Self::None(_) | Self::Unread(_) | Self::List(_) | Self::Set(_) => {}
            Self::Int(ints) => ints
                .get(row)
                .into_iter()
                .for_each(|place| memory::prefetch(place)),
            Self::Float(floats) => {
                floats
                    .get(row)
                    .into_iter()
                    .for_each(|place| memory::prefetch(place));
            }
            Self::Bool(bools) => bools
                .get(row)
                .into_iter()
                .for_each(|place| memory::prefetch(place)),
            Self::Str(texts) | Self::Bytes(texts) => {
                texts
                    .ends
                    .get(row)
                    .into_iter()
                    .for_each(|place| memory::prefetch(place));
            }
            Self::Tuple(_) | Self::Nullable(_) => self.prefetch_within(row),
        }
    }

    fn prefetch_within(&self, row: usize) {
        match self {
            Self::Tuple(fields) => fields.iter().for_each(|field| field.prefetch(row)),
            Self::Nullable(nullable) => nullable.values.prefetch(row),
            _ => {}
        }
    }

    /// Asks memory for the texts in `row`, some time after [`prefetch`](Self::prefetch).
    #[inline]
    pub fn prefetch_long(&self, row: usize) {
        match self {
            Self::Str(texts) | Self::Bytes(texts) => {
                if let Some(text) = texts.bytes.get(texts.start(row)) {
                    memory::prefetch(text);
                }
            }
            Self::Tuple(fields) => fields.iter().for_each(|field| field.prefetch_long(row)),
            Self::Nullable(nullable) => nullable.values.prefetch_long(row),
            _ => {}
        }
    }
}

fn extend<T: Copy>(to: &mut Vec<T>, from: &[T], rows: Range<usize>) -> Result<()> {
    let from = from.get(rows).unwrap_or_default();
    try_grow(to, from.len(), WHAT)?;
    to.extend_from_slice(from);
    Ok(())
}

fn append_to_nullable(to: &mut Nullable, from: &TypedColumn, rows: Range<usize>) -> Result<()> {
    match from {
        TypedColumn::None(_) => to.push_none(rows.len()),
        TypedColumn::Nullable(from) => {
            to.valid.append(&from.valid, rows.clone())?;
            to.values.append(&from.values, rows)
        }
        values => {
            to.valid.fill(true, rows.len())?;
            to.values.append(values, rows)
        }
    }
}

#[cold]
fn mixed() -> Error {
    Error::Usage("a value was put into a column of another kind".to_owned())
}

/// The keys of a table, typed.
pub struct TypedKeys(pub TypedColumn);

/// A key that is looked for: a row of a column.
#[derive(Clone, Copy)]
pub struct TypedProbe<'a> {
    /// The column.
    pub column: &'a TypedColumn,
    /// Its row.
    pub row: usize,
}

impl Column for TypedKeys {
    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }

    fn make_room(&mut self) -> Result<()> {
        self.0.try_reserve(1)
    }

    fn reserve(&mut self, more: usize) {
        // Refused room is asked for again, with an error, when it is needed.
        let _ = self.0.try_reserve(more);
    }

    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }

    fn reset(&mut self) {
        self.0.truncate(0);
    }

    fn clear(&mut self) {
        self.0 = self.0.fresh();
    }
}

impl KeyColumn for TypedKeys {
    type Probe<'a> = TypedProbe<'a>;

    #[inline]
    fn is_same(&self, row: usize, probe: TypedProbe<'_>) -> Result<bool> {
        Ok(self.0.is_same(row, probe.column, probe.row))
    }

    #[inline]
    fn makes_hashes(&self) -> bool {
        matches!(self.0, TypedColumn::Int(_))
    }

    #[inline]
    fn hash(&self, row: usize) -> Option<u64> {
        match &self.0 {
            TypedColumn::Int(ints) => ints.get(row).map(|&int| hash_of_int(int).bits),
            _ => None,
        }
    }

    #[inline]
    fn prefetch(&self, row: usize) {
        self.0.prefetch(row);
    }

    #[inline]
    fn is_long(&self) -> bool {
        self.0.is_long()
    }

    #[inline]
    fn prefetch_long(&self, row: usize) {
        self.0.prefetch_long(row);
    }
}

impl Keys<TypedKeys> for TypedColumn {
    #[inline]
    fn probe(&self, row: usize) -> TypedProbe<'_> {
        TypedProbe { column: self, row }
    }

    #[inline]
    fn add_to(&self, known: &mut TypedKeys, row: usize) -> Result<()> {
        known.0.push_from(self, row)
    }
}

/// What a table hashes an `int` to. It is not called unique: comparing two integers takes less
/// than comparing the hashes that are made of them.
#[inline]
pub fn hash_of_int(int: i64) -> KeyHash {
    KeyHash::of_python(python_hash::of_int(int), false)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::map::{AppendOnlyMap, Found};

    fn texts(of: &[&str]) -> TypedColumn {
        let mut texts = Texts::default();
        for text in of {
            texts.push(text.as_bytes()).unwrap();
        }
        TypedColumn::Str(texts)
    }

    fn pairs() -> TypedColumn {
        TypedColumn::Tuple(vec![
            TypedColumn::Int(vec![1, 1, i64::MIN]),
            texts(&["", "a", "é"]),
        ])
    }

    #[test]
    fn rows_are_copied_and_compared_by_kind() {
        let from = pairs();
        let mut to = from.fresh();
        for row in [2, 0, 1, 2] {
            to.push_from(&from, row).unwrap();
        }
        assert_eq!(to.len(), 4);
        for (row, from_row) in [(0, 2), (1, 0), (2, 1), (3, 2)] {
            assert!(to.is_same(row, &from, from_row));
        }
        assert!(!to.is_same(1, &from, 1));
        assert!(to.is_of_kind(&from));
        assert!(!to.is_of_kind(&texts(&["a"])));
        assert!(to.push_from(&texts(&["a"]), 0).is_err());
        to.truncate(1);
        assert_eq!(to.len(), 1);
        assert!(to.is_same(0, &from, 2));
    }

    #[test]
    fn gathering_keeps_the_order_of_rows() {
        let from = pairs();
        let to = from.gather(&[1, 1, 0]).unwrap();
        assert_eq!(to.len(), 3);
        assert!(to.is_same(0, &from, 1) && to.is_same(1, &from, 1) && to.is_same(2, &from, 0));
        assert_eq!(TypedColumn::None(9).gather(&[3, 4]).unwrap().len(), 2);
    }

    #[test]
    fn characters_become_utf8_and_surrogates_nothing() {
        let mut texts = Texts::default();
        assert!(texts.push_chars([0x61, 0xe9, 0x1f980].into_iter()).unwrap());
        assert!(!texts.push_chars([0x61, 0xd800].into_iter()).unwrap());
        assert_eq!((texts.len(), texts.get(0)), (1, "aé\u{1f980}".as_bytes()));
        assert_eq!(texts.all().len(), texts.get(0).len());
    }

    #[test]
    fn floats_are_the_same_as_python_says() {
        let floats = TypedColumn::Float(vec![0.0, -0.0, f64::NAN]);
        assert!(floats.is_same(0, &floats, 1));
        assert!(!floats.is_same(2, &floats, 2));
    }

    #[test]
    fn keys_are_found_when_there_may_be_none_among_them() {
        let mut map = AppendOnlyMap::new(TypedKeys(TypedColumn::Int(Vec::new())));
        let row_of = |map: &mut AppendOnlyMap<TypedKeys>, hash, column: &TypedColumn| {
            map.make_room().unwrap();
            match map.find(hash, TypedProbe { column, row: 0 }).unwrap() {
                Found::Row(row) => row,
                Found::Vacant(vacant) => {
                    let add = |keys: &mut TypedKeys| keys.0.push_from(column, 0);
                    map.push(hash, vacant, add).unwrap();
                    map.len() - 1
                }
            }
        };
        let int = |int: i64| (hash_of_int(int), TypedColumn::Int(vec![int]));
        for row in 0..100_usize {
            let (hash, key) = int(i64::try_from(row).unwrap());
            assert_eq!(row_of(&mut map, hash, &key), row);
        }
        let none = TypedColumn::None(1);
        map.keep_hashes().unwrap();
        let kind = map.keys().0.joined(&none).unwrap();
        map.keys_mut().0.turn_into(&kind).unwrap();
        // Python may hash None as it hashes an int.
        assert_eq!(row_of(&mut map, hash_of_int(0), &none), 100);
        for row in 0..100_usize {
            let (hash, key) = int(i64::try_from(row).unwrap());
            assert_eq!(row_of(&mut map, hash, &key), row);
            assert_eq!(map.hash(row), Some(hash.bits));
        }
        for new in 101..900 {
            let (hash, key) = int(new);
            assert_eq!(i64::try_from(row_of(&mut map, hash, &key)).unwrap(), new);
        }
        assert_eq!(row_of(&mut map, hash_of_int(0), &none), 100);
    }

    #[test]
    fn a_path_leads_into_tuples_only() {
        let column = pairs();
        assert!(matches!(column.at(&[0]), Some(TypedColumn::Int(_))));
        assert!(column.at(&[2]).is_none());
        assert!(column.at(&[0, 0]).is_none());
        assert!(!column.is_replaceable());
    }
}
