//! Sorting rows by key columns: no Python code compares.

use std::borrow::Cow;
use std::cmp::{Ordering, Reverse};

use crate::column::typed::{Texts, TypedColumn};
use crate::error::Result;
use crate::memory::{try_grow, try_with_capacity};

const WHAT: &str = "the keys of a sort";

/// Runs of so few rows are sorted by comparing whole keys.
const SHORT_RUN: usize = 16;

/// So are runs whose keys have as many words alike: each word costs a look at all keys of a run,
/// however few of them leave it there.
const MOST_WORDS: usize = 8;

/// Keys, one in each row, that are compared as Python compares them without asking it.
pub struct KeyColumns<'a> {
    /// What is compared, the first first: numbers, texts and bytes, of which each has an order.
    fields: Vec<Cow<'a, TypedColumn>>,
    /// The kind of the whole, an empty column.
    kind: TypedColumn,
}

impl<'a> KeyColumns<'a> {
    /// Of a column of whole keys; `None` where Python has to be asked.
    pub fn of(keys: Cow<'a, TypedColumn>) -> Option<Self> {
        let mut fields = Vec::new();
        let kind = add_fields(keys, &mut fields)?;
        // Python does not order one `None` against another, and need not where one is enough.
        (!matches!(kind, TypedColumn::None(_))).then_some(Self { fields, kind })
    }

    /// Of keys that are tuples of what is in these.
    pub fn of_tuples(items: impl IntoIterator<Item = Cow<'a, TypedColumn>>) -> Option<Self> {
        let mut fields = Vec::new();
        let kinds = items.into_iter().map(|item| add_fields(item, &mut fields));
        let kind = TypedColumn::Tuple(kinds.collect::<Option<_>>()?);
        Some(Self { fields, kind })
    }

    /// The same with columns of their own.
    pub fn into_owned(self) -> KeyColumns<'static> {
        let fields = self.fields.into_iter();
        KeyColumns {
            fields: fields.map(|field| Cow::Owned(field.into_owned())).collect(),
            kind: self.kind,
        }
    }

    /// Whether the keys of both can be compared.
    pub fn is_of_kind(&self, other: &KeyColumns<'_>) -> bool {
        self.kind.is_of_kind(&other.kind)
    }

    /// The order of a key and one of `others`, which are of the same kind.
    #[inline]
    pub fn compare(&self, row: usize, others: &KeyColumns<'_>, other_row: usize) -> Ordering {
        let pairs = self.fields.iter().zip(&others.fields);
        pairs
            .map(|(field, other)| compare(field, row, other, other_row))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    /// Tells of each key in the rows `0..rows` of `others`, of the same kind, how many of these
    /// keys are less. Those are in order, or else it is what Python's `bisect_left` finds.
    pub fn count_below(
        &self,
        others: &KeyColumns<'_>,
        rows: usize,
        mut found: impl FnMut(usize),
    ) -> Result<()> {
        if let ([own], [other]) = (self.fields.as_slice(), others.fields.as_slice())
            && let (TypedColumn::Int(own), TypedColumn::Int(other)) = (&**own, &**other)
        {
            for key in other.iter().take(rows) {
                found(bisect(own.len(), |at| Ok(own.get(at) < Some(key)))?);
            }
            return Ok(());
        }
        // Where there is nothing to compare, none is less.
        let len = self.fields.first().map_or(0, |field| field.len());
        for row in 0..rows {
            found(bisect(len, |at| Ok(self.compare(at, others, row).is_lt()))?);
        }
        Ok(())
    }

    /// The rows `0..rows` in the order of their keys. Stable: equal keys stay in the order of their
    /// rows, in both directions, as with Python's `sort(reverse=True)`.
    ///
    /// Keys lie all over memory, so each is looked at once for a number that its order is told by,
    /// a word, not for every comparison; words that are equal send for the next ones.
    pub fn order(&self, rows: u32, reverse: bool) -> Result<Vec<u32>> {
        let mut all = try_with_capacity(rows as usize, WHAT)?;
        all.extend((0..rows).map(|row| (0, row)));
        let start = Place::default();
        let mut runs = vec![(0..all.len(), start, 1)];
        while let Some((range, place, words)) = runs.pop() {
            let first = range.start;
            let Some(run) = all.get_mut(range) else {
                continue;
            };
            let Some(field) = self.fields.get(place.field) else {
                continue;
            };
            let place = Place {
                offset: place.offset + common(field, run, place.offset),
                ..place
            };
            fill(field, run, place.offset);
            // The row is part of what is compared, so an unstable (in-place) sort is stable here.
            if reverse {
                run.sort_unstable_by_key(|&(word, row)| (Reverse(word), row));
            } else {
                run.sort_unstable();
            }
            let mut at = first;
            for equal in run.chunk_by_mut(|(a, _), (b, _)| a == b) {
                let end = at + equal.len();
                if let [(word, _), _, ..] = equal {
                    let after = place.after(*word, field);
                    if after.field == self.fields.len() {
                        // All alike.
                    } else if equal.len() <= SHORT_RUN || words == MOST_WORDS {
                        // A stable sort, of rows that are in order.
                        equal.sort_by(|&(_, a), &(_, b)| {
                            let order = self.compare(a as usize, self, b as usize);
                            if reverse { order.reverse() } else { order }
                        });
                    } else {
                        try_grow(&mut runs, 1, WHAT)?;
                        runs.push((at..end, after, words + 1));
                    }
                }
                at = end;
            }
        }
        let mut order = try_with_capacity(all.len(), WHAT)?;
        order.extend(all.iter().map(|(_, row)| row));
        Ok(order)
    }
}

/// The first of `len` places that is not less, as Python's `bisect_left` looks for it.
#[inline]
pub fn bisect(len: usize, is_less: impl Fn(usize) -> Result<bool>) -> Result<usize> {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low.midpoint(high);
        if is_less(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Adds what is compared of `keys`, and tells the kind of that; `None` where Python has to be asked.
fn add_fields<'a>(
    keys: Cow<'a, TypedColumn>,
    fields: &mut Vec<Cow<'a, TypedColumn>>,
) -> Option<TypedColumn> {
    let kind = match &*keys {
        TypedColumn::Int(_)
        | TypedColumn::Bool(_)
        | TypedColumn::Str(_)
        | TypedColumn::Bytes(_) => keys.fresh(),
        TypedColumn::Float(floats) if !floats.iter().any(|float| float.is_nan()) => keys.fresh(),
        // Items that are equal, and so are not compared.
        TypedColumn::None(_) => return Some(TypedColumn::None(0)),
        TypedColumn::Tuple(_) => {
            let items: Vec<_> = match keys {
                Cow::Borrowed(TypedColumn::Tuple(items)) => {
                    items.iter().map(Cow::Borrowed).collect()
                }
                Cow::Owned(TypedColumn::Tuple(items)) => {
                    items.into_iter().map(Cow::Owned).collect()
                }
                _ => return None,
            };
            let kinds = items.into_iter().map(|item| add_fields(item, fields));
            return kinds.collect::<Option<_>>().map(TypedColumn::Tuple);
        }
        TypedColumn::Nullable(nullable) => {
            let valid = (0..nullable.valid.len()).filter(|row| nullable.valid.get(*row));
            return match valid.count() {
                0 => Some(TypedColumn::None(0)),
                count if count < nullable.valid.len() => None,
                _ => match keys {
                    Cow::Borrowed(TypedColumn::Nullable(nullable)) => {
                        add_fields(Cow::Borrowed(&nullable.values), fields)
                    }
                    Cow::Owned(TypedColumn::Nullable(nullable)) => {
                        add_fields(Cow::Owned(*nullable.values), fields)
                    }
                    _ => None,
                },
            };
        }
        TypedColumn::Float(_)
        | TypedColumn::Unread(_)
        | TypedColumn::List(_)
        | TypedColumn::Set(_) => return None,
    };
    fields.push(keys);
    Some(kind)
}

/// Where in a key: a field; of a text, from so many bytes on.
#[derive(Clone, Copy, Default)]
struct Place {
    field: usize,
    offset: usize,
}

impl Place {
    /// Where keys go on that have this word here.
    fn after(self, word: u64, field: &TypedColumn) -> Self {
        if texts(field).is_some() && text::goes_on(word) {
            let offset = self.offset.saturating_add(text::BYTES);
            return Self { offset, ..self };
        }
        Self {
            field: self.field + 1,
            offset: 0,
        }
    }
}

fn texts(field: &TypedColumn) -> Option<&Texts> {
    match field {
        TypedColumn::Str(texts) | TypedColumn::Bytes(texts) => Some(texts),
        _ => None,
    }
}

fn rest(texts: &Texts, row: u32, offset: usize) -> &[u8] {
    texts.get(row as usize).get(offset..).unwrap_or_default()
}

/// How many bytes from `offset` on all texts have alike; 0 for numbers.
fn common(field: &TypedColumn, rows: &[(u64, u32)], offset: usize) -> usize {
    let (Some(texts), Some(((_, first), rows))) = (texts(field), rows.split_first()) else {
        return 0;
    };
    let first = rest(texts, *first, offset);
    let mut common = first.len();
    for (_, row) in rows {
        let alike = first.iter().zip(rest(texts, *row, offset)).take(common);
        common = alike.take_while(|(a, b)| a == b).count();
        if common == 0 {
            break;
        }
    }
    common
}

/// Puts the word of each key beside its row: a number whose order is that of the keys as long as
/// all words before it are equal.
fn fill(field: &TypedColumn, rows: &mut [(u64, u32)], offset: usize) {
    match field {
        TypedColumn::Int(ints) => fill_by(rows, |row| ints.get(row).copied().map(word_of_int)),
        TypedColumn::Float(floats) => {
            fill_by(rows, |row| floats.get(row).copied().map(word_of_float));
        }
        TypedColumn::Bool(bools) => fill_by(rows, |row| bools.get(row).copied().map(u64::from)),
        field => {
            if let Some(texts) = texts(field) {
                for (word, row) in rows {
                    *word = text::word(rest(texts, *row, offset));
                }
            }
        }
    }
}

#[inline]
fn fill_by(rows: &mut [(u64, u32)], word_of: impl Fn(usize) -> Option<u64>) {
    for (word, row) in rows {
        *word = word_of(*row as usize).unwrap_or_default();
    }
}

/// The order of what is in a row of one column and of another one of its kind.
#[inline]
fn compare(a: &TypedColumn, row: usize, b: &TypedColumn, other_row: usize) -> Ordering {
    match (a, b) {
        (TypedColumn::Int(a), TypedColumn::Int(b)) => a.get(row).cmp(&b.get(other_row)),
        (TypedColumn::Float(a), TypedColumn::Float(b)) => {
            let word = |float: Option<&f64>| float.copied().map(word_of_float);
            word(a.get(row)).cmp(&word(b.get(other_row)))
        }
        (TypedColumn::Bool(a), TypedColumn::Bool(b)) => a.get(row).cmp(&b.get(other_row)),
        (TypedColumn::Str(a), TypedColumn::Str(b))
        | (TypedColumn::Bytes(a), TypedColumn::Bytes(b)) => a.get(row).cmp(b.get(other_row)),
        _ => Ordering::Equal,
    }
}

const SIGN: u64 = 1 << 63;

#[inline]
const fn word_of_int(int: i64) -> u64 {
    int.cast_unsigned() ^ SIGN
}

/// A number whose order is the float's, with both zeros equal; of what is no nan.
#[inline]
fn word_of_float(float: f64) -> u64 {
    // Adding a positive zero turns -0.0 into 0.0 and changes nothing else.
    let bits = (float + 0.0).to_bits();
    // A negative float's bits grow as the number falls: turn all of them around.
    if bits & SIGN == 0 { bits ^ SIGN } else { !bits }
}

/// A part of a text as a word.
mod text {
    /// Bytes of a text in a word; the last byte of it says how many there are.
    pub const BYTES: usize = size_of::<u64>() - 1;

    /// The word of the first bytes of `rest`.
    #[inline]
    pub fn word(rest: &[u8]) -> u64 {
        let length = crate::memory::as_u64(rest.len().min(BYTES + 1));
        if let Some(first) = rest.first_chunk() {
            return u64::from_be_bytes(*first) & !0xFF | length;
        }
        let mut word = [0; BYTES + 1];
        for (to, from) in word.iter_mut().zip(rest) {
            *to = *from;
        }
        u64::from_be_bytes(word) | length
    }

    /// Whether a text goes on behind that `word` of it: one more than fit means so.
    pub fn goes_on(word: u64) -> bool {
        word & 0xFF > crate::memory::as_u64(BYTES)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::column::nullable::Nullable;
    use proptest::prelude::*;

    fn texts(all: impl IntoIterator<Item = Vec<u8>>) -> TypedColumn {
        let mut column = Texts::default();
        for text in all {
            column.push(&text).unwrap();
        }
        TypedColumn::Bytes(column)
    }

    fn order(keys: &TypedColumn, reverse: bool) -> Vec<u32> {
        let rows = u32::try_from(keys.len()).unwrap();
        let keys = KeyColumns::of(Cow::Borrowed(keys)).unwrap();
        keys.order(rows, reverse).unwrap()
    }

    proptest! {
        #[test]
        fn tuples_are_ordered_item_by_item(
            starts in prop::collection::vec(prop::collection::vec(0..2_u8, 0..18), 1..4),
            ends in prop::collection::vec(
                (any::<prop::sample::Index>(), prop::collection::vec(0..2_u8, 0..10), 0..2_i64),
                0..150,
            ),
            reverse in any::<bool>(),
        ) {
            let keys = ends.into_iter().map(|(start, end, int)| (int / 2, start.get(&starts).clone(), end, int));
            let keys: Vec<_> = keys.collect();
            let mut wanted: Vec<u32> = (0..u32::try_from(keys.len()).unwrap()).collect();
            wanted.sort_by(|&a, &b| {
                let order = keys.get(a as usize).cmp(&keys.get(b as usize));
                if reverse { order.reverse() } else { order }
            });
            let columns = TypedColumn::Tuple(vec![
                TypedColumn::Int(keys.iter().map(|key| key.0).collect()),
                texts(keys.iter().map(|key| key.1.clone())),
                TypedColumn::None(keys.len()),
                TypedColumn::Tuple(vec![
                    texts(keys.iter().map(|key| key.2.clone())),
                    TypedColumn::Int(keys.iter().map(|key| key.3).collect()),
                ]),
            ]);
            prop_assert_eq!(order(&columns, reverse), wanted);
        }

        #[test]
        fn bounds_are_found_as_by_bisecting(
            mut bounds in prop::collection::vec((0..5_i64, 0..3_u8), 0..8),
            keys in prop::collection::vec((0..5_i64, 0..3_u8), 0..20),
        ) {
            bounds.sort_unstable();
            let column = |pairs: &[(i64, u8)]| TypedColumn::Tuple(vec![
                TypedColumn::Int(pairs.iter().map(|pair| pair.0).collect()),
                texts(pairs.iter().map(|pair| vec![pair.1])),
            ]);
            let (all, looked_for) = (column(&bounds), column(&keys));
            let of = |column| KeyColumns::of(Cow::Borrowed(column)).unwrap();
            let mut found = Vec::new();
            of(&all).count_below(&of(&looked_for), keys.len(), |count| found.push(count)).unwrap();
            let wanted = keys.iter().map(|key| bounds.partition_point(|bound| bound < key));
            prop_assert_eq!(found, wanted.collect::<Vec<_>>());
        }
    }

    #[test]
    fn equal_keys_keep_their_order_in_both_directions() {
        let ints = |ints: &[i64]| TypedColumn::Int(ints.to_vec());
        assert_eq!(order(&ints(&[2, 1, 2, 1, 3]), false), [1, 3, 0, 2, 4]);
        assert_eq!(order(&ints(&[2, 1, 2, 1, 3]), true), [4, 0, 2, 1, 3]);
        assert_eq!(order(&ints(&[i64::MAX, i64::MIN, 0]), true), [0, 2, 1]);
        let zeros = TypedColumn::Float(vec![0.0, -0.0, -1.0, 0.0]);
        assert_eq!(order(&zeros, false), [2, 0, 1, 3]);
        assert_eq!(
            order(&TypedColumn::Bool(vec![true, false, true]), true),
            [0, 2, 1]
        );
    }

    #[test]
    fn floats_keep_their_order_as_numbers() {
        let sorted = [
            f64::NEG_INFINITY,
            f64::MIN,
            -1.5,
            -f64::MIN_POSITIVE,
            -5e-324,
            0.0,
            5e-324,
            1.0,
            1.5,
            f64::MAX,
            f64::INFINITY,
        ];
        assert!(sorted.is_sorted_by(|a, b| word_of_float(*a) < word_of_float(*b)));
        assert_eq!(word_of_float(-0.0), word_of_float(0.0));
    }

    #[test]
    fn what_python_has_to_compare_is_left_to_it() {
        let is_left = |keys: TypedColumn| KeyColumns::of(Cow::Owned(keys)).is_none();
        assert!(is_left(TypedColumn::Float(vec![1.0, f64::NAN])));
        assert!(is_left(TypedColumn::None(2)));
        let mut some = Nullable::of(&TypedColumn::Int(vec![]));
        some.push_none(1).unwrap();
        assert!(is_left(TypedColumn::Nullable(some.clone())));
        let with_none = TypedColumn::Tuple(vec![TypedColumn::Nullable(some.clone())]);
        assert!(!is_left(with_none.clone()));
        some.values
            .push_from(&TypedColumn::Int(vec![7]), 0)
            .unwrap();
        some.valid.push(true).unwrap();
        assert!(is_left(TypedColumn::Tuple(vec![TypedColumn::Nullable(
            some
        )])));
        // Of one shape, although what is compared is as many numbers.
        let one = TypedColumn::Tuple(vec![TypedColumn::Int(vec![1]), with_none]);
        let nested = TypedColumn::Tuple(vec![TypedColumn::Tuple(vec![TypedColumn::Int(vec![1])])]);
        let of = |column| KeyColumns::of(Cow::Borrowed(column)).unwrap();
        assert!(!of(&one).is_of_kind(&of(&nested)));
    }
}
