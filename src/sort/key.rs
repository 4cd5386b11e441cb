//! [`SortKey`]: what a user's key function makes of a record.

use std::borrow::Cow;

use super::order::KeyColumns;
use crate::aggregate::expr::{Expr, Kind, Record};
use crate::column::typed::{Texts, TypedColumn};
use crate::error::Result;

/// What records are sorted by.
#[derive(Clone, Debug)]
pub struct SortKey {
    /// The key of a record.
    pub key: Part,
    /// Where there has to be a tuple of so many items in a record.
    pub sizes: Vec<(Vec<usize>, usize)>,
}

/// A key, or an item of one.
#[derive(Clone, Debug)]
pub enum Part {
    /// The record, or what is in it at a path of tuple indices.
    Of(Vec<usize>),
    /// A text at such a path in lower case.
    Lower(Vec<usize>),
    /// What is computed of it.
    Computed(Expr),
    /// A tuple of these.
    Tuple(Vec<Part>),
}

impl SortKey {
    /// The record itself.
    pub const fn itself() -> Self {
        Self::at(Vec::new())
    }

    /// What is in the record at a path of tuple indices.
    pub const fn at(path: Vec<usize>) -> Self {
        Self {
            key: Part::Of(path),
            sizes: Vec::new(),
        }
    }

    /// The path in a record to its key; `None` where the key is another object, or may be none.
    pub fn path(&self) -> Option<&[usize]> {
        match &self.key {
            Part::Of(path) if self.sizes.is_empty() => Some(path),
            _ => None,
        }
    }

    /// The keys of records; `None` where the key function has to be called, or Python to compare.
    pub fn columns<'a>(&self, records: &'a TypedColumn) -> Result<Option<KeyColumns<'a>>> {
        let has_size = |(path, size): &(Vec<usize>, usize)| match records.at(path) {
            Some(TypedColumn::Tuple(items)) => items.len() == *size,
            _ => false,
        };
        if !self.sizes.iter().all(has_size) {
            return Ok(None);
        }
        if let Part::Tuple(items) = &self.key {
            let items = columns_of(items, records)?;
            return Ok(items.and_then(KeyColumns::of_tuples));
        }
        Ok(self.key.column(records)?.and_then(KeyColumns::of))
    }
}

fn columns_of<'a>(
    parts: &[Part],
    records: &'a TypedColumn,
) -> Result<Option<Vec<Cow<'a, TypedColumn>>>> {
    parts.iter().map(|part| part.column(records)).collect()
}

impl Part {
    fn column<'a>(&self, records: &'a TypedColumn) -> Result<Option<Cow<'a, TypedColumn>>> {
        match self {
            Self::Of(path) => Ok(records.at(path).map(Cow::Borrowed)),
            Self::Lower(path) => match records.at(path) {
                Some(TypedColumn::Str(texts)) => Ok(lower(texts)?.map(Cow::Owned)),
                _ => Ok(None),
            },
            Self::Computed(expression) => Ok(computed(expression, records)?.map(Cow::Owned)),
            Self::Tuple(parts) => {
                let items = columns_of(parts, records)?;
                let items = items.map(|items| items.into_iter().map(Cow::into_owned).collect());
                Ok(items.map(|items| Cow::Owned(TypedColumn::Tuple(items))))
            }
        }
    }
}

/// Texts in lower case; `None` where it takes more than ASCII to know that.
fn lower(texts: &Texts) -> Result<Option<TypedColumn>> {
    if !texts.all().is_ascii() {
        return Ok(None);
    }
    let mut lower = Texts::default();
    for row in 0..texts.len() {
        lower.push(&texts.get(row).to_ascii_lowercase())?;
    }
    Ok(Some(TypedColumn::Str(lower)))
}

/// What an expression comes to for each record; `None` where it stops at one.
fn computed(expression: &Expr, records: &TypedColumn) -> Result<Option<TypedColumn>> {
    let kind = expression.kind(None, records);
    let Some(mut column) = kind.and_then(Kind::column) else {
        return Ok(None);
    };
    column.try_reserve(records.len())?;
    for row in 0..records.len() {
        let record = Record {
            field: None,
            value: (records, row),
        };
        match expression.number(record) {
            Some(number) if number.put(&mut column, row) => {}
            _ => return Ok(None),
        }
    }
    Ok(Some(column))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::aggregate::expr::Function;

    fn texts(all: &[&str]) -> TypedColumn {
        let mut column = Texts::default();
        for text in all {
            column.push(text.as_bytes()).unwrap();
        }
        TypedColumn::Str(column)
    }

    fn records() -> TypedColumn {
        TypedColumn::Tuple(vec![
            texts(&["b", "A", "C", "a"]),
            TypedColumn::Int(vec![1, i64::MIN, 3, 4]),
        ])
    }

    fn order(key: Part, sizes: Vec<(Vec<usize>, usize)>) -> Option<Vec<u32>> {
        let records = records();
        let keys = SortKey { key, sizes }.columns(&records).unwrap();
        keys.map(|keys| keys.order(4, false).unwrap())
    }

    #[test]
    fn keys_are_parts_of_records() {
        assert_eq!(order(Part::Of(vec![0]), vec![]), Some(vec![1, 2, 3, 0]));
        assert_eq!(order(Part::Lower(vec![0]), vec![]), Some(vec![1, 3, 0, 2]));
        let both = Part::Tuple(vec![Part::Lower(vec![0]), Part::Of(vec![1])]);
        assert_eq!(order(both, vec![(vec![], 2)]), Some(vec![1, 3, 0, 2]));
        assert_eq!(order(Part::Of(vec![0]), vec![(vec![], 3)]), None);
        assert_eq!(order(Part::Of(vec![2]), vec![]), None);
    }

    #[test]
    fn what_cannot_be_computed_is_left_to_the_function() {
        let negative = Expr::Apply(Function::Negative, Box::new(Expr::Value(vec![1])));
        assert_eq!(order(Part::Computed(negative), vec![]), None);
        let length = Expr::Apply(Function::Length, Box::new(Expr::Value(vec![0])));
        let length = Part::Computed(length);
        assert_eq!(order(length, vec![]), Some(vec![0, 1, 2, 3]));
        let records = TypedColumn::Tuple(vec![texts(&["b", "\u{130}"])]);
        let lower = SortKey {
            key: Part::Lower(vec![0]),
            sizes: vec![],
        };
        assert!(lower.columns(&records).unwrap().is_none());
    }
}
