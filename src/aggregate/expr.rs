//! [`Expr`]: what a user's function computes of numbers, texts and truths, record by record.
//!
//! Kinds decide beforehand whether an expression is exact; what they cannot tell, an `int` beyond
//! 64 bits, stops it at the record where that is so. It has no other way to fail.

use std::cmp::Ordering;

use crate::column::typed::TypedColumn;

/// Operators between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `&`
    And,
    /// `|`
    Or,
    /// `^`
    Xor,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

/// Operators before one operand, and builtins of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `-`
    Negative,
    /// `not`
    Not,
    /// `abs`
    Absolute,
    /// `len`
    Length,
    /// `is None`
    IsNone,
}

/// What is computed of a field of a combiner and of a value.
#[derive(Clone, Debug)]
pub enum Expr {
    /// The field, or what is in it at a path of tuple indices.
    Field(Vec<usize>),
    /// The value, or what is in it.
    Value(Vec<usize>),
    /// The same each time: a column of one row.
    Constant(TypedColumn),
    /// A function of one operand.
    Apply(Function, Box<Expr>),
    /// An operator between two.
    Operate(Operator, Box<Expr>, Box<Expr>),
    /// `max`, or else `min`, of some; of equal ones the first.
    Extreme {
        /// `max`
        is_max: bool,
        /// One at least.
        of: Vec<Expr>,
    },
    /// The second if the first is true, else the third.
    If(Box<Expr>, Box<Expr>, Box<Expr>),
}

/// What an expression, or a part of it, may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `int` within 64 bits.
    Int,
    /// `float`
    Float,
    /// `bool`
    Bool,
    /// `str`
    Str,
    /// `bytes`
    Bytes,
    /// `None`
    None,
}

impl Kind {
    fn of(column: &TypedColumn) -> Option<Self> {
        match column {
            TypedColumn::Int(_) => Some(Self::Int),
            TypedColumn::Float(_) => Some(Self::Float),
            TypedColumn::Bool(_) => Some(Self::Bool),
            TypedColumn::Str(_) => Some(Self::Str),
            TypedColumn::Bytes(_) => Some(Self::Bytes),
            TypedColumn::None(_) => Some(Self::None),
            TypedColumn::Unread(_)
            | TypedColumn::Tuple(_)
            | TypedColumn::List(_)
            | TypedColumn::Set(_)
            | TypedColumn::Nullable(_) => None,
        }
    }

    /// An empty column of it, where results of it can be kept.
    pub fn column(self) -> Option<TypedColumn> {
        match self {
            Self::Int => Some(TypedColumn::Int(Vec::new())),
            Self::Float => Some(TypedColumn::Float(Vec::new())),
            Self::Bool => Some(TypedColumn::Bool(Vec::new())),
            Self::Str | Self::Bytes | Self::None => None,
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Float | Self::Bool)
    }
}

/// What an expression comes to, where that can be kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// `int`
    Int(i64),
    /// `float`
    Float(f64),
    /// `bool`
    Bool(bool),
}

/// What a part comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scalar<'a> {
    Int(i64),
    Float(f64),
    Bool(bool),
    Str(&'a [u8]),
    Bytes(&'a [u8]),
    None,
}

/// The record that an expression is computed for.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// The states of the field, and its row.
    pub field: Option<(&'a TypedColumn, usize)>,
    /// The values, and the row of the record's.
    pub value: (&'a TypedColumn, usize),
}

impl Expr {
    /// What it comes to, for any fields and values of those kinds; `None` where that, or whether
    /// it fails, depends on more than that.
    pub fn kind(&self, field: Option<&TypedColumn>, values: &TypedColumn) -> Option<Kind> {
        match self {
            Self::Field(path) => Kind::of(field?.at(path)?),
            Self::Value(path) => Kind::of(values.at(path)?),
            Self::Constant(constant) => Kind::of(constant),
            // Of what is at a path it is known, whatever else it may be.
            Self::Apply(Function::IsNone, of) if let Some(path) = of.path() => {
                let column = if let Self::Field(_) = **of {
                    field?
                } else {
                    values
                };
                column.at(path).map(|_| Kind::Bool)
            }
            Self::Apply(function, of) => of_function(*function, of.kind(field, values)?),
            Self::Operate(operator, left, right) => of_operator(
                *operator,
                left.kind(field, values)?,
                right.kind(field, values)?,
            ),
            Self::Extreme { of, .. } => {
                let (first, rest) = of.split_first()?;
                let kind = first.kind(field, values)?;
                let mut rest = rest.iter();
                let is_one = rest.all(|of| of.kind(field, values) == Some(kind));
                (is_one && kind != Kind::None).then_some(kind)
            }
            Self::If(test, then, other) => {
                test.kind(field, values)?;
                let kind = then.kind(field, values)?;
                (other.kind(field, values)? == kind).then_some(kind)
            }
        }
    }

    /// The path of a part of the field or of the value.
    fn path(&self) -> Option<&[usize]> {
        match self {
            Self::Field(path) | Self::Value(path) => Some(path),
            _ => None,
        }
    }

    /// The number that it comes to for a record; `None` where it stops.
    pub fn number(&self, record: Record<'_>) -> Option<Number> {
        match self.compute(record)? {
            Scalar::Int(int) => Some(Number::Int(int)),
            Scalar::Float(float) => Some(Number::Float(float)),
            Scalar::Bool(bool) => Some(Number::Bool(bool)),
            Scalar::Str(_) | Scalar::Bytes(_) | Scalar::None => None,
        }
    }

    /// Whether it is true for a record; `None` where it stops.
    pub fn is_true(&self, record: Record<'_>) -> Option<bool> {
        Some(is_true(self.compute(record)?))
    }

    fn compute<'a>(&'a self, record: Record<'a>) -> Option<Scalar<'a>> {
        match self {
            Self::Field(path) => {
                let (states, row) = record.field?;
                scalar(states.at(path)?, row)
            }
            Self::Value(path) => scalar(record.value.0.at(path)?, record.value.1),
            Self::Constant(constant) => scalar(constant, 0),
            Self::Apply(Function::IsNone, of) if let Some(path) = of.path() => {
                let (column, row) = match **of {
                    Self::Field(_) => record.field?,
                    _ => record.value,
                };
                Some(Scalar::Bool(column.at(path)?.value_at(row).is_none()))
            }
            Self::Apply(function, of) => apply(*function, of.compute(record)?),
            Self::Operate(operator, left, right) => {
                operate(*operator, left.compute(record)?, right.compute(record)?)
            }
            Self::Extreme { is_max, of } => {
                let wanted = if *is_max {
                    Ordering::Greater
                } else {
                    Ordering::Less
                };
                let (first, rest) = of.split_first()?;
                let mut found = first.compute(record)?;
                for of in rest {
                    let other = of.compute(record)?;
                    if compare(other, found) == Some(wanted) {
                        found = other;
                    }
                }
                Some(found)
            }
            Self::If(test, then, other) => {
                let taken = if is_true(test.compute(record)?) {
                    then
                } else {
                    other
                };
                taken.compute(record)
            }
        }
    }
}

impl Number {
    /// Puts it into `row` of a column of its kind, or appends it where that is the next row, for
    /// which there is room; `false` where the column is of another kind.
    pub fn put(self, column: &mut TypedColumn, row: usize) -> bool {
        match (self, column) {
            (Self::Int(int), TypedColumn::Int(to)) => put(to, row, int),
            (Self::Float(float), TypedColumn::Float(to)) => put(to, row, float),
            (Self::Bool(bool), TypedColumn::Bool(to)) => put(to, row, bool),
            _ => return false,
        }
        true
    }
}

fn put<T>(to: &mut Vec<T>, row: usize, result: T) {
    match to.get_mut(row) {
        Some(place) => *place = result,
        None => to.push(result),
    }
}

fn of_function(function: Function, kind: Kind) -> Option<Kind> {
    match function {
        Function::Not | Function::IsNone => Some(Kind::Bool),
        Function::Negative | Function::Absolute => match kind {
            Kind::Int | Kind::Bool => Some(Kind::Int),
            Kind::Float => Some(Kind::Float),
            Kind::Str | Kind::Bytes | Kind::None => None,
        },
        Function::Length => matches!(kind, Kind::Str | Kind::Bytes).then_some(Kind::Int),
    }
}

fn of_operator(operator: Operator, left: Kind, right: Kind) -> Option<Kind> {
    let are_numbers = left.is_number() && right.is_number();
    let is_float = left == Kind::Float || right == Kind::Float;
    match operator {
        Operator::Add | Operator::Subtract | Operator::Multiply if are_numbers => {
            Some(if is_float { Kind::Float } else { Kind::Int })
        }
        Operator::And | Operator::Or | Operator::Xor if are_numbers && !is_float => {
            let is_bool = left == Kind::Bool && right == Kind::Bool;
            Some(if is_bool { Kind::Bool } else { Kind::Int })
        }
        Operator::Less
        | Operator::LessOrEqual
        | Operator::Greater
        | Operator::GreaterOrEqual
        | Operator::Equal
        | Operator::NotEqual
            if are_numbers || left == right && left != Kind::None =>
        {
            Some(Kind::Bool)
        }
        _ => None,
    }
}

#[inline]
fn scalar(column: &TypedColumn, row: usize) -> Option<Scalar<'_>> {
    match column {
        TypedColumn::Int(ints) => ints.get(row).map(|&int| Scalar::Int(int)),
        TypedColumn::Float(floats) => floats.get(row).map(|&float| Scalar::Float(float)),
        TypedColumn::Bool(bools) => bools.get(row).map(|&bool| Scalar::Bool(bool)),
        TypedColumn::Str(texts) => Some(Scalar::Str(texts.get(row))),
        TypedColumn::Bytes(bytes) => Some(Scalar::Bytes(bytes.get(row))),
        TypedColumn::None(_) => Some(Scalar::None),
        TypedColumn::Unread(_)
        | TypedColumn::Tuple(_)
        | TypedColumn::List(_)
        | TypedColumn::Set(_)
        | TypedColumn::Nullable(_) => None,
    }
}

fn is_true(scalar: Scalar<'_>) -> bool {
    match scalar {
        Scalar::Int(int) => int != 0,
        Scalar::Float(float) => float != 0.0,
        Scalar::Bool(bool) => bool,
        Scalar::Str(text) | Scalar::Bytes(text) => !text.is_empty(),
        Scalar::None => false,
    }
}

fn apply(function: Function, of: Scalar<'_>) -> Option<Scalar<'_>> {
    Some(match (function, of) {
        (Function::Not, of) => Scalar::Bool(!is_true(of)),
        (Function::IsNone, of) => Scalar::Bool(of == Scalar::None),
        (Function::Negative, Scalar::Float(float)) => Scalar::Float(-float),
        (Function::Absolute, Scalar::Float(float)) => Scalar::Float(float.abs()),
        (Function::Negative, of) => Scalar::Int(int(of)?.checked_neg()?),
        (Function::Absolute, of) => Scalar::Int(int(of)?.checked_abs()?),
        (Function::Length, Scalar::Str(text)) => {
            // Characters, of which each has one byte that does not go on with another.
            let starts = text.iter().filter(|&&byte| byte & 0xc0 != 0x80);
            Scalar::Int(i64::try_from(starts.count()).ok()?)
        }
        (Function::Length, Scalar::Bytes(bytes)) => Scalar::Int(i64::try_from(bytes.len()).ok()?),
        (Function::Length, _) => return None,
    })
}

fn int(of: Scalar<'_>) -> Option<i64> {
    match of {
        Scalar::Int(int) => Some(int),
        Scalar::Bool(bool) => Some(i64::from(bool)),
        Scalar::Float(_) | Scalar::Str(_) | Scalar::Bytes(_) | Scalar::None => None,
    }
}

#[allow(clippy::cast_precision_loss)] // rounded as Python rounds it: to the nearest, ties to even
fn float(of: Scalar<'_>) -> Option<f64> {
    match of {
        Scalar::Float(float) => Some(float),
        of => int(of).map(|int| int as f64),
    }
}

fn operate<'a>(operator: Operator, left: Scalar<'a>, right: Scalar<'a>) -> Option<Scalar<'a>> {
    let is_float = matches!(left, Scalar::Float(_)) || matches!(right, Scalar::Float(_));
    let ordering = || compare(left, right);
    let found = match operator {
        Operator::Add if is_float => Scalar::Float(float(left)? + float(right)?),
        Operator::Subtract if is_float => Scalar::Float(float(left)? - float(right)?),
        Operator::Multiply if is_float => Scalar::Float(float(left)? * float(right)?),
        Operator::Add => Scalar::Int(int(left)?.checked_add(int(right)?)?),
        Operator::Subtract => Scalar::Int(int(left)?.checked_sub(int(right)?)?),
        Operator::Multiply => Scalar::Int(int(left)?.checked_mul(int(right)?)?),
        Operator::And => bitwise(left, right, |a, b| a & b)?,
        Operator::Or => bitwise(left, right, |a, b| a | b)?,
        Operator::Xor => bitwise(left, right, |a, b| a ^ b)?,
        // With a nan there is no ordering, and all but `!=` are false.
        Operator::Less => Scalar::Bool(ordering() == Some(Ordering::Less)),
        Operator::Greater => Scalar::Bool(ordering() == Some(Ordering::Greater)),
        Operator::LessOrEqual => Scalar::Bool(ordering().is_some_and(Ordering::is_le)),
        Operator::GreaterOrEqual => Scalar::Bool(ordering().is_some_and(Ordering::is_ge)),
        Operator::Equal => Scalar::Bool(ordering() == Some(Ordering::Equal)),
        Operator::NotEqual => Scalar::Bool(ordering() != Some(Ordering::Equal)),
    };
    Some(found)
}

fn bitwise<'a>(
    left: Scalar<'a>,
    right: Scalar<'a>,
    of_ints: fn(i64, i64) -> i64,
) -> Option<Scalar<'a>> {
    let found = of_ints(int(left)?, int(right)?);
    let are_bools = matches!((left, right), (Scalar::Bool(_), Scalar::Bool(_)));
    Some(if are_bools {
        Scalar::Bool(found != 0)
    } else {
        Scalar::Int(found)
    })
}

/// How two of kinds that may be compared are ordered, exactly; `None` with a nan.
fn compare(left: Scalar<'_>, right: Scalar<'_>) -> Option<Ordering> {
    match (left, right) {
        // The order of characters is that of their bytes in UTF-8.
        (Scalar::Str(a), Scalar::Str(b)) | (Scalar::Bytes(a), Scalar::Bytes(b)) => Some(a.cmp(b)),
        (Scalar::Float(a), Scalar::Float(b)) => a.partial_cmp(&b),
        (Scalar::Float(a), b) => compare_int_and_float(int(b)?, a).map(Ordering::reverse),
        (a, Scalar::Float(b)) => compare_int_and_float(int(a)?, b),
        (a, b) => Some(int(a)?.cmp(&int(b)?)),
    }
}

fn compare_int_and_float(int: i64, float: f64) -> Option<Ordering> {
    /// 2**63, beyond every `i64`.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        return None;
    }
    if float >= BEYOND {
        return Some(Ordering::Less);
    }
    if float < -BEYOND {
        return Some(Ordering::Greater);
    }
    #[allow(clippy::cast_possible_truncation)] // within 64 bits, and whole
    let whole = float.trunc() as i64;
    // Of equal whole parts the fraction decides.
    Some(
        int.cmp(&whole)
            .then_with(|| 0.0_f64.total_cmp(&(float.fract() + 0.0))),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> Expr {
        Expr::Value(Vec::new())
    }

    fn constant(int: i64) -> Expr {
        Expr::Constant(TypedColumn::Int(vec![int]))
    }

    fn operate(operator: Operator, left: Expr, right: Expr) -> Expr {
        Expr::Operate(operator, Box::new(left), Box::new(right))
    }

    fn apply(function: Function, of: Expr) -> Expr {
        Expr::Apply(function, Box::new(of))
    }

    fn choice(test: Expr, then: Expr, other: Expr) -> Expr {
        Expr::If(Box::new(test), Box::new(then), Box::new(other))
    }

    fn results(expr: &Expr, values: &TypedColumn) -> Vec<Option<Number>> {
        assert!(expr.kind(None, values).is_some());
        let record = |row| Record {
            field: None,
            value: (values, row),
        };
        (0..values.len())
            .map(|row| expr.number(record(row)))
            .collect()
    }

    fn ints(expr: &Expr, values: &[i64]) -> Vec<Option<i64>> {
        let found = results(expr, &TypedColumn::Int(values.to_vec()));
        let found = found.into_iter().map(|found| match found {
            Some(Number::Int(int)) => Some(int),
            _ => None,
        });
        found.collect()
    }

    #[test]
    fn an_int_beyond_64_bits_stops() {
        let square = operate(Operator::Multiply, value(), value());
        assert_eq!(ints(&square, &[3, -4, 1 << 32]), [Some(9), Some(16), None]);
        let negative = apply(Function::Negative, value());
        assert_eq!(ints(&negative, &[5, i64::MIN]), [Some(-5), None]);
        let absolute = apply(Function::Absolute, value());
        assert_eq!(ints(&absolute, &[-5, i64::MIN]), [Some(5), None]);
        let more = operate(Operator::Add, value(), constant(1));
        assert_eq!(ints(&more, &[i64::MAX, 1]), [None, Some(2)]);
    }

    #[test]
    fn what_is_not_taken_is_not_computed() {
        let square = operate(Operator::Multiply, value(), value());
        let is_small = operate(Operator::Less, value(), constant(10));
        let expr = choice(is_small, square, value());
        assert_eq!(ints(&expr, &[3, 1 << 40]), [Some(9), Some(1 << 40)]);
    }

    #[test]
    fn kinds_decide_beforehand() {
        let floats = TypedColumn::Float(Vec::new());
        let texts = TypedColumn::Str(crate::column::typed::Texts::default());
        let sum = |left, right| operate(Operator::Add, left, right);
        assert_eq!(
            sum(value(), constant(1)).kind(None, &floats),
            Some(Kind::Float)
        );
        assert_eq!(sum(value(), constant(1)).kind(None, &texts), None);
        let bools = TypedColumn::Bool(Vec::new());
        assert_eq!(sum(value(), value()).kind(None, &bools), Some(Kind::Int));
        let and = operate(Operator::And, value(), value());
        assert_eq!(and.kind(None, &bools), Some(Kind::Bool));
        assert_eq!(and.kind(None, &floats), None);
        let mixed = choice(value(), value(), constant(0));
        assert_eq!(mixed.kind(None, &floats), None);
        let largest = |of| Expr::Extreme { is_max: true, of };
        assert_eq!(
            largest(vec![value(), constant(1)]).kind(None, &floats),
            None
        );
        assert_eq!(largest(vec![value()]).kind(None, &texts), Some(Kind::Str));
        assert_eq!(Expr::Field(Vec::new()).kind(None, &floats), None);
        let length = apply(Function::Length, value());
        assert_eq!(length.kind(None, &texts), Some(Kind::Int));
        assert_eq!(length.kind(None, &floats), None);
    }

    #[test]
    fn a_length_is_counted_in_characters() {
        let mut texts = crate::column::typed::Texts::default();
        for text in ["", "aé", "\u{1f980}x"] {
            texts.push(text.as_bytes()).unwrap();
        }
        let length = apply(Function::Length, value());
        let found = results(&length, &TypedColumn::Str(texts));
        assert_eq!(found, [0, 2, 2].map(|length| Some(Number::Int(length))));
    }

    #[test]
    fn nothing_is_equal_to_a_nan() {
        let values = TypedColumn::Float(vec![f64::NAN, 1.0]);
        for (operator, expected) in [
            (Operator::Equal, [false, true]),
            (Operator::NotEqual, [true, false]),
            (Operator::LessOrEqual, [false, true]),
        ] {
            let expr = operate(operator, value(), value());
            let found = results(&expr, &values);
            assert_eq!(found, expected.map(|bool| Some(Number::Bool(bool))));
        }
    }

    proptest! {
        #[test]
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        fn ints_and_floats_are_compared_exactly(
            int in prop_oneof![any::<i64>(), (-3_i64..3).prop_map(|by| (1 << 53) + by)],
            float in prop_oneof![any::<f64>(), any::<i64>().prop_map(|int| int as f64),
                Just(9_007_199_254_740_992.0), Just(0.5), Just(-0.5), Just(-0.0)],
        ) {
            let found = compare_int_and_float(int, float);
            if float.is_nan() {
                prop_assert_eq!(found, None);
            } else if float.is_finite() && float.abs() < 1e30 {
                // Doubled, halves are whole.
                let exact = (i128::from(int) * 2).cmp(&((float.trunc() as i128) * 2
                    + if float.fract() > 0.0 { 1 } else { -i128::from(float.fract() < 0.0) }));
                prop_assert_eq!(found, Some(exact));
            } else {
                prop_assert_eq!(found, Some(if float > 0.0 { Ordering::Less } else { Ordering::Greater }));
            }
        }
    }
}
