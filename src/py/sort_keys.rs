//! [`KeyShape`]: sort keys that are plain, compared as Python compares them without calling it.

use std::cmp::Ordering;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyTuple};

use super::ffi::{self, Text};
use crate::error::Result;
use crate::sort::{Words, key_of_float, order_by_words, text};

/// Tuples nested deeper than this are left to Python.
const MOST_DEPTH: usize = 8;

/// So are those in which there is more to compare.
const MOST_FIELDS: usize = 64;

/// What all keys of a sort are.
pub enum KeyShape {
    /// Python compares it for being equal only, so it is no key by itself.
    None,
    /// Something that has an order.
    Plain(PlainKind),
    /// Exactly `tuple`, of one length.
    Tuple(Vec<KeyShape>),
}

/// What has an order of its own.
#[derive(Clone, Copy)]
pub enum PlainKind {
    /// Exactly `bool`.
    Bool,
    /// Exactly `int`, within 64 bits.
    Int,
    /// Exactly `float`, and no nan.
    Float,
    /// Exactly `str`, of a byte a character.
    Text,
    /// Exactly `str`.
    WideText,
    /// Exactly `bytes`.
    Bytes,
}

impl KeyShape {
    /// The shape of `key`; `None` where Python has to compare it.
    pub fn of(key: Borrowed<'_, '_, PyAny>) -> Option<Self> {
        let shape = Self::within(key, MOST_DEPTH, &mut { MOST_FIELDS });
        shape.filter(|shape| !matches!(shape, Self::None))
    }

    /// With so many `fields` left, of which each tuple counts for one too.
    fn within(key: Borrowed<'_, '_, PyAny>, depth: usize, fields: &mut usize) -> Option<Self> {
        use PlainKind::{Bool, Bytes, Float, Int, Text};
        *fields = fields.checked_sub(1)?;
        if key.is_none() {
            return Some(Self::None);
        }
        if let Some(kind) = [Int, Text, Float, Bool, Bytes]
            .into_iter()
            .find_map(|mut kind| kind.holds(key).then_some(kind))
        {
            return Some(Self::Plain(kind));
        }
        let (tuple, depth) = (key.cast_exact::<PyTuple>().ok()?, depth.checked_sub(1)?);
        let items = tuple.iter_borrowed();
        let shapes = items.map(|item| Self::within(item, depth, fields));
        shapes.collect::<Option<_>>().map(Self::Tuple)
    }

    /// Whether `key` is of this shape, which is made wider where it is almost.
    #[inline]
    pub fn holds(&mut self, key: Borrowed<'_, '_, PyAny>) -> bool {
        match self {
            Self::None => key.is_none(),
            Self::Plain(kind) => kind.holds(key),
            Self::Tuple(shapes) => key.cast_exact::<PyTuple>().is_ok_and(|tuple| {
                tuple.len() == shapes.len()
                    && (tuple.iter_borrowed().zip(shapes)).all(|(item, shape)| shape.holds(item))
            }),
        }
    }

    /// Adds what is compared of a key, in that order; `path` leads there.
    fn fields(&self, path: &mut Vec<usize>, fields: &mut Vec<Field>) {
        match self {
            Self::None => {}
            Self::Plain(kind) => fields.push(Field {
                path: path.clone(),
                kind: *kind,
            }),
            Self::Tuple(shapes) => {
                for (at, shape) in shapes.iter().enumerate() {
                    path.push(at);
                    shape.fields(path, fields);
                    path.pop();
                }
            }
        }
    }
}

impl PlainKind {
    #[inline]
    fn holds(&mut self, key: Borrowed<'_, '_, PyAny>) -> bool {
        match self {
            Self::Bool => key.is_exact_instance_of::<PyBool>(),
            Self::Int => ffi::as_i64(key).is_some(),
            Self::Float => ffi::as_f64(key).is_some_and(|float| !float.is_nan()),
            Self::Text if ffi::one_byte_text(key).is_some() => true,
            Self::Text | Self::WideText => {
                let holds = ffi::text_by_width(key).is_some();
                if holds {
                    *self = Self::WideText;
                }
                holds
            }
            Self::Bytes => key.is_exact_instance_of::<PyBytes>(),
        }
    }

    /// A number that is in order where values of this kind are; texts have none.
    fn number(self, value: Borrowed<'_, '_, PyAny>) -> Option<i64> {
        match self {
            Self::Bool => value.is_truthy().ok().map(i64::from),
            Self::Int => ffi::as_i64(value),
            Self::Float => ffi::as_f64(value).and_then(key_of_float),
            Self::Text | Self::WideText | Self::Bytes => None,
        }
    }

    /// How many characters of a text there are in a word; 0 for a number.
    fn chars_in_word(self) -> usize {
        match self {
            Self::Bool | Self::Int | Self::Float => 0,
            Self::Text | Self::Bytes => text::BYTES,
            Self::WideText => text::WIDE,
        }
    }
}

/// Something that is compared in each key.
struct Field {
    /// The key itself, or an item of it, of that item, and so on.
    path: Vec<usize>,
    kind: PlainKind,
}

impl Field {
    #[inline]
    fn of<'a, 'py>(&self, key: Borrowed<'a, 'py, PyAny>) -> Option<Borrowed<'a, 'py, PyAny>> {
        let step = |key, at: &usize| ffi::tuple_item(key, *at);
        self.path.iter().try_fold(key, step)
    }
}

/// The rows of `keys`, which are all of `shape`, in order; equal ones stay in the order of their
/// rows, in both directions.
pub fn order_of(keys: &[Bound<'_, PyAny>], shape: &KeyShape, reverse: bool) -> Result<Vec<u32>> {
    let mut fields = Vec::new();
    shape.fields(&mut Vec::new(), &mut fields);
    let rows = u32::try_from(keys.len()).unwrap_or(u32::MAX);
    let start = Place {
        field: 0,
        offset: 0,
    };
    order_by_words(rows, &Keys { keys, fields }, start, reverse)
}

/// Keys, and what is compared of them.
struct Keys<'a, 'py> {
    keys: &'a [Bound<'py, PyAny>],
    fields: Vec<Field>,
}

/// A field of a key; of a text, from so many characters on.
#[derive(Clone, Copy)]
struct Place {
    field: usize,
    offset: usize,
}

impl Keys<'_, '_> {
    #[inline]
    fn value(&self, row: u32, field: &Field) -> Option<Borrowed<'_, '_, PyAny>> {
        field.of(self.keys.get(row as usize)?.as_borrowed())
    }

    /// What is left of a text, or of bytes.
    #[inline]
    fn rest(&self, row: u32, field: &Field, offset: usize) -> &[u8] {
        let value = self.value(row, field);
        let bytes = value.and_then(|value| match field.kind {
            PlainKind::Bytes => ffi::bytes(value),
            _ => ffi::one_byte_text(value),
        });
        bytes
            .and_then(|bytes| bytes.get(offset..))
            .unwrap_or_default()
    }

    #[inline]
    fn wide(&self, row: u32, field: &Field) -> Text<'_> {
        let text = self.value(row, field).and_then(ffi::text_by_width);
        text.unwrap_or(Text::One(&[]))
    }

    /// How many characters from `offset` on all texts have alike.
    fn common(&self, rows: &[(u64, u32)], field: &Field, offset: usize) -> usize {
        let Some(((_, first), rows)) = rows.split_first() else {
            return 0;
        };
        let mut common = usize::MAX;
        for (_, row) in rows {
            common = if let PlainKind::WideText = field.kind {
                let (a, b) = (self.wide(*first, field), self.wide(*row, field));
                let chars = a.chars(offset).zip(b.chars(offset));
                chars.take_while(|(a, b)| a == b).take(common).count()
            } else {
                let (a, b) = (
                    self.rest(*first, field, offset),
                    self.rest(*row, field, offset),
                );
                let most = common.min(a.len());
                if a.get(..most) == b.get(..most) {
                    most
                } else {
                    a.iter().zip(b).take_while(|(a, b)| a == b).count()
                }
            };
            if common == 0 {
                break;
            }
        }
        common
    }
}

impl Words for Keys<'_, '_> {
    type Place = Place;

    fn differ_at(&self, rows: &[(u64, u32)], place: Place) -> Option<Place> {
        let field = self.fields.get(place.field)?;
        let common = match field.kind.chars_in_word() {
            0 => 0,
            _ => self.common(rows, field, place.offset),
        };
        let offset = place.offset.saturating_add(common);
        Some(Place { offset, ..place })
    }

    #[allow(clippy::cast_sign_loss)] // the bits are what is wanted
    fn word(&self, row: u32, Place { field, offset }: Place) -> u64 {
        let Some(field) = self.fields.get(field) else {
            return 0;
        };
        match field.kind {
            PlainKind::Text | PlainKind::Bytes => text::word(self.rest(row, field, offset)),
            PlainKind::WideText => text::wide_word(self.wide(row, field).chars(offset)),
            number => {
                let value = self.value(row, field);
                let number = value.and_then(|value| number.number(value));
                number.unwrap_or_default() as u64 ^ (1 << 63)
            }
        }
    }

    fn after(&self, word: u64, Place { field, offset }: Place) -> Place {
        let chars = self
            .fields
            .get(field)
            .map_or(0, |field| field.kind.chars_in_word());
        if chars > 0 && text::goes_on(word, chars) {
            let offset = offset.saturating_add(chars);
            return Place { field, offset };
        }
        let field = field + 1;
        Place { field, offset: 0 }
    }

    fn compare(&self, a: u32, b: u32, place: Place) -> Ordering {
        let fields = self.fields.get(place.field..).unwrap_or_default();
        let compare = |field: &Field| {
            let order = match field.kind {
                PlainKind::Text | PlainKind::Bytes => {
                    self.rest(a, field, 0).cmp(self.rest(b, field, 0))
                }
                PlainKind::WideText => self.wide(a, field).compare(&self.wide(b, field)),
                number => {
                    let (a, b) = (self.value(a, field)?, self.value(b, field)?);
                    number.number(a).cmp(&number.number(b))
                }
            };
            Some(order).filter(|order| order.is_ne())
        };
        fields.iter().find_map(compare).unwrap_or(Ordering::Equal)
    }
}
