//! `None` among the values of a typed column: how a column comes to hold it, and which columns may
//! meet although one holds it and the other does not.

use super::bits::Bits;
use super::typed::{Lists, TypedColumn};
use crate::error::Result;

/// Values of one kind, and `None` among them.
#[derive(Clone, Debug)]
pub struct Nullable {
    /// Whether there is a value in the row.
    pub valid: Bits,
    /// The values, with any in the place of a `None`. They are not nullable themselves, nor all
    /// `None`, nor unread.
    pub values: Box<TypedColumn>,
}

impl Nullable {
    /// No row, of values of the kind of `values`.
    pub fn of(values: &TypedColumn) -> Self {
        Self {
            valid: Bits::default(),
            values: Box::new(values.fresh()),
        }
    }

    /// Appends so many times `None`. After an error no row was added.
    pub fn push_none(&mut self, times: usize) -> Result<()> {
        self.valid.try_reserve(times)?;
        self.values.fill(times)?;
        self.valid.fill(false, times)
    }

    /// Appends a value by `push`, which tells whether it fits; where it does not, or fails, it
    /// may leave parts behind, for the caller to [`truncate`](TypedColumn::truncate).
    #[inline]
    pub fn push_with(
        &mut self,
        push: impl FnOnce(&mut TypedColumn) -> Result<bool>,
    ) -> Result<bool> {
        self.valid.try_reserve(1)?;
        if !push(&mut self.values)? {
            return Ok(false);
        }
        self.valid.push(true).map(|()| true)
    }

    /// Puts row `from_row` of `from` in place of `row`.
    pub fn replace_from(&mut self, row: usize, from: &TypedColumn, from_row: usize) {
        let found = from.value_at(from_row);
        if let Some(values) = found {
            self.values.replace_from(row, values, from_row);
        }
        self.valid.set(row, found.is_some());
    }
}

impl TypedColumn {
    /// The column that the value in `row` is in; `None` where that is Python's.
    #[inline]
    pub fn value_at(&self, row: usize) -> Option<&Self> {
        match self {
            Self::Nullable(nullable) => nullable.valid.get(row).then_some(&nullable.values),
            Self::None(_) => None,
            Self::Unread(_)
            | Self::Int(_)
            | Self::Float(_)
            | Self::Bool(_)
            | Self::Str(_)
            | Self::Bytes(_)
            | Self::Tuple(_)
            | Self::List(_)
            | Self::Set(_) => Some(self),
        }
    }

    /// Whether there is a nullable column of such values: where there is not, either there may be
    /// `None` already, or nobody looks at them.
    pub fn may_become_nullable(&self) -> bool {
        !matches!(self, Self::None(_) | Self::Unread(_) | Self::Nullable(_))
    }

    /// An empty column of the kind that holds the values of both and no more; `None` where no
    /// typed one does.
    pub fn joined(&self, other: &Self) -> Option<Self> {
        let nullable = |values: &Self| Some(Self::Nullable(Nullable::of(values)));
        match (self, other) {
            (Self::None(_), Self::None(_)) => Some(self.fresh()),
            (Self::Unread(_), other) | (other, Self::Unread(_)) => {
                matches!((self, other), (Self::Unread(_), Self::Unread(_))).then(|| other.fresh())
            }
            (Self::None(_), Self::Nullable(values)) | (Self::Nullable(values), Self::None(_)) => {
                nullable(&values.values)
            }
            (Self::None(_), values) | (values, Self::None(_)) => nullable(values),
            (Self::Nullable(a), Self::Nullable(b)) => nullable(&a.values.joined(&b.values)?),
            (Self::Nullable(a), b) | (b, Self::Nullable(a)) => nullable(&a.values.joined(b)?),
            (Self::Tuple(a), Self::Tuple(b)) if a.len() == b.len() => {
                let fields = a.iter().zip(b).map(|(a, b)| a.joined(b));
                fields.collect::<Option<_>>().map(Self::Tuple)
            }
            (Self::List(a), Self::List(b)) => {
                let items = a.items.joined(&b.items)?;
                Some(Self::List(Lists::of(&items)))
            }
            (Self::Set(a), Self::Set(b)) => {
                let items = a.items.joined(&b.items)?;
                Some(Self::Set(Lists::of(&items)))
            }
            (a, b) => a.is_of_kind(b).then(|| a.fresh()),
        }
    }

    /// Whether every value of a column of the kind of `other` can be put into this one.
    pub fn holds(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nullable(_), Self::None(_)) => true,
            (Self::Nullable(a), Self::Nullable(b)) => a.values.holds(&b.values),
            (Self::Nullable(a), b) => a.values.holds(b),
            (Self::Tuple(a), Self::Tuple(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.holds(b))
            }
            (Self::List(a), Self::List(b)) | (Self::Set(a), Self::Set(b)) => {
                a.items.holds(&b.items)
            }
            (a, b) => a.is_of_kind(b),
        }
    }

    /// Makes this a column of that kind, which [`holds`](Self::holds) it; any other is left alone.
    /// After an error the values are what they were, and the kind is one in between.
    pub fn turn_into(&mut self, kind: &Self) -> Result<()> {
        match (&mut *self, kind) {
            (Self::None(rows), Self::Nullable(kind)) => {
                let mut nullable = Nullable::of(&kind.values);
                nullable.push_none(*rows)?;
                *self = Self::Nullable(nullable);
                Ok(())
            }
            (Self::Nullable(column), Self::Nullable(kind)) => column.values.turn_into(&kind.values),
            (Self::Unread(_), _) => Ok(()),
            (column, Self::Nullable(kind)) => {
                column.turn_into(&kind.values)?;
                let mut valid = Bits::default();
                valid.fill(true, column.len())?;
                let values = Box::new(std::mem::replace(column, Self::None(0)));
                *column = Self::Nullable(Nullable { valid, values });
                Ok(())
            }
            (Self::Tuple(fields), Self::Tuple(kinds)) => {
                let mut fields = fields.iter_mut().zip(kinds);
                fields.try_for_each(|(field, kind)| field.turn_into(kind))
            }
            (Self::List(lists), Self::List(kind)) | (Self::Set(lists), Self::Set(kind)) => {
                lists.items.turn_into(&kind.items)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::column::typed::Texts;

    fn nullable(of: &[Option<i64>]) -> TypedColumn {
        let mut column = Nullable::of(&TypedColumn::Int(Vec::new()));
        for int in of {
            match int {
                Some(int) => {
                    let from = TypedColumn::Int(vec![*int]);
                    let push = |values: &mut TypedColumn| values.push_from(&from, 0).map(|()| true);
                    assert!(column.push_with(push).unwrap());
                }
                None => column.push_none(1).unwrap(),
            }
        }
        TypedColumn::Nullable(column)
    }

    fn ints(of: &[i64]) -> TypedColumn {
        TypedColumn::Int(of.to_vec())
    }

    fn same(a: &TypedColumn, b: &TypedColumn) -> bool {
        a.len() == b.len() && (0..a.len()).all(|row| a.is_same(row, b, row))
    }

    #[test]
    fn columns_with_and_without_none_meet() {
        let kinds = [
            TypedColumn::None(2),
            ints(&[1, 2]),
            nullable(&[None, Some(1)]),
        ];
        for a in &kinds {
            for b in &kinds {
                let kind = a.joined(b).unwrap();
                assert!(kind.is_empty() && kind.holds(a) && kind.holds(b));
                let mut both = a.clone();
                both.turn_into(&kind).unwrap();
                assert!(both.is_of_kind(&kind) && same(&both, a) && same(a, &both));
                both.append(b, 0..2).unwrap();
                both.push_from(b, 1).unwrap();
                assert_eq!(both.len(), 5);
                for (row, from_row) in [(2, 0), (3, 1), (4, 1)] {
                    assert!(both.is_same(row, b, from_row), "{both:?} {b:?}");
                }
                let gathered = both.gather(&[4, 0, 2]).unwrap();
                assert!(gathered.is_same(0, b, 1) && gathered.is_same(1, a, 0));
                assert!(same(&both.slice(2..5).unwrap().slice(0..2).unwrap(), b));
                both.truncate(2);
                assert!(same(&both, a));
            }
        }
        assert!(!ints(&[0]).is_same(0, &nullable(&[None]), 0));
        assert!(!nullable(&[None]).is_same(0, &ints(&[0]), 0));
        assert!(!ints(&[0]).holds(&nullable(&[])) && !ints(&[0]).holds(&TypedColumn::None(0)));
    }

    #[test]
    fn kinds_are_joined_within_tuples_and_lists() {
        let texts = TypedColumn::Str(Texts::default());
        let list = |items: &TypedColumn| TypedColumn::List(Lists::of(items));
        let pair = |a: TypedColumn, b: TypedColumn| TypedColumn::Tuple(vec![a, list(&b)]);
        let (one, other) = (
            pair(ints(&[]), TypedColumn::None(0)),
            pair(nullable(&[]), texts.fresh()),
        );
        let kind = one.joined(&other).unwrap();
        let mut nullable_texts = TypedColumn::None(0);
        nullable_texts
            .turn_into(&TypedColumn::Nullable(Nullable::of(&texts)))
            .unwrap();
        assert!(kind.is_of_kind(&pair(nullable(&[]), nullable_texts)));
        assert!(kind.holds(&one) && kind.holds(&other) && !other.holds(&one));
        assert!(ints(&[]).joined(&texts).is_none());
        assert!(nullable(&[]).joined(&texts).is_none());
        assert!(one.joined(&TypedColumn::Unread(0)).is_none());
        assert!(
            TypedColumn::None(0)
                .joined(&TypedColumn::Unread(0))
                .is_none()
        );
        let unread = TypedColumn::Unread(0);
        assert!(unread.joined(&unread).unwrap().is_of_kind(&unread));
        let whole = TypedColumn::None(0).joined(&one).unwrap();
        assert!(matches!(&whole, TypedColumn::Nullable(rows) if rows.values.is_of_kind(&one)));
    }

    #[test]
    fn rows_are_replaced_by_none_and_back() {
        let mut column = nullable(&[Some(1), None]);
        assert!(column.is_replaceable());
        column.replace_from(0, &nullable(&[None]), 0);
        column.replace_from(1, &ints(&[7]), 0);
        assert!(same(&column, &nullable(&[None, Some(7)])));
        column.replace_from(1, &TypedColumn::None(1), 0);
        column.replace_from(9, &ints(&[1]), 0);
        assert!(same(&column, &TypedColumn::None(2)));
    }
}
