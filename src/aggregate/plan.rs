//! Plans: what a native aggregate is made of, and what kinds of values it holds for.

use std::borrow::Cow;

use super::Records;
use super::expr::{Expr, Kind, Operator};
use crate::column::typed::{Lists, TypedColumn};

/// Where a step takes its operand from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The value, or what is in it at a path of tuple indices.
    Value(Vec<usize>),
    /// The same each time: a column of one row.
    Constant(TypedColumn),
    /// A new list of these, which are no new ones themselves.
    List(Vec<Source>),
    /// A new set of such.
    Set(Vec<Source>),
    /// The result of that one of the plan's expressions.
    Computed(usize),
}

/// What operands are taken from: values, or combiners that are merged into others, and what was
/// computed of them.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    /// The values or combiners.
    pub values: &'a TypedColumn,
    /// A column for each expression of the plan.
    pub computed: &'a [TypedColumn],
}

/// How two numbers or texts are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// What becomes of a field of a combiner.
#[derive(Clone, Debug)]
pub enum Step {
    /// It stays.
    Keep,
    /// It becomes the operand.
    Take(Source),
    /// The operand is added to it: a number to a number, a text or list to the end of its like.
    Add(Source),
    /// These are added to it, one after the other.
    AddAll(Vec<Source>),
    /// It is a list, which is made longer by the operand.
    Extend(Source),
    /// It is a set, to which what is in the operand is added.
    Insert(Source),
    /// The operand is added in front: a number only, where that is the same.
    AddInFront(Source),
    /// It stays if `field[at] comparison operand` is as `keeps` says, and becomes `value` if not.
    Choose {
        /// What of the field is compared.
        at: Vec<usize>,
        /// How.
        comparison: Comparison,
        /// What with.
        operand: Source,
        /// Which outcome keeps the field.
        keeps: bool,
        /// What it becomes otherwise.
        value: Source,
    },
    /// It stays if the truth of `test` is `keeps`, and becomes `value` if not.
    ChooseBy {
        /// Is computed of it and of the value.
        test: Expr,
        /// Which outcome keeps the field.
        keeps: bool,
        /// What it becomes otherwise.
        value: Source,
    },
    /// It becomes what is computed of it and of the value.
    Compute(Expr),
}

/// A combiner, or a field of one, that is merged by itself.
#[derive(Clone, Debug)]
pub struct State {
    /// What it starts as.
    pub create: Source,
    /// What the first value then does to it.
    pub first: Step,
    /// How a value is merged into it.
    pub merge_value: Step,
    /// How another combiner is merged into it; the operand is the whole combiner.
    pub merge_combiner: Step,
}

/// How combiners are made up.
#[derive(Clone, Debug)]
pub enum Shape {
    /// One state.
    State(Box<State>),
    /// A tuple of such.
    Fields(Vec<Shape>),
}

/// What a shuffle's functions make together.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The combiner.
    pub shape: Shape,
    /// Places in a value where there is a tuple of so many items, or the plan does not hold.
    pub value_sizes: Vec<(Vec<usize>, usize)>,
    /// The same in a combiner that is merged into another.
    pub combiner_sizes: Vec<(Vec<usize>, usize)>,
    /// Whether it holds for values and combiners in which there are lists.
    pub holds_for_lists: bool,
    /// What is computed of each value by itself.
    pub of_values: Vec<Expr>,
    /// The same of each combiner that is merged into another.
    pub of_combiners: Vec<Expr>,
}

impl Plan {
    /// The places in a value that the plan looks at; what is at none of them, and in none of
    /// them, may be anything.
    pub fn paths(&self) -> Vec<&[usize]> {
        // Where merging may stop, the functions are called with the whole value.
        if self.may_stop() {
            return vec![&[]];
        }
        let mut paths = Vec::new();
        self.shape.paths(&mut paths);
        paths
    }

    /// Whether merging values may stop at a record.
    fn may_stop(&self) -> bool {
        let of_state = |state: &State| state.first.may_stop() || state.merge_value.may_stop();
        !self.of_values.is_empty() || states(&self.shape).into_iter().any(of_state)
    }

    /// What is computed of those records.
    pub fn computed(&self, records: Records) -> &[Expr] {
        match records {
            Records::Values => &self.of_values,
            Records::Combiners => &self.of_combiners,
        }
    }
}

impl Shape {
    fn paths<'a>(&'a self, paths: &mut Vec<&'a [usize]>) {
        match self {
            Self::Fields(fields) => fields.iter().for_each(|field| field.paths(paths)),
            Self::State(state) => {
                state.create.paths(paths);
                for step in [&state.first, &state.merge_value] {
                    match step {
                        Step::Keep => {}
                        Step::Take(source)
                        | Step::Add(source)
                        | Step::AddInFront(source)
                        | Step::Extend(source)
                        | Step::Insert(source) => source.paths(paths),
                        Step::AddAll(sources) => {
                            for source in sources {
                                source.paths(paths);
                            }
                        }
                        Step::Choose { operand, value, .. } => {
                            operand.paths(paths);
                            value.paths(paths);
                        }
                        // These look at the whole value.
                        Step::ChooseBy { .. } | Step::Compute(_) => paths.push(&[]),
                    }
                }
            }
        }
    }

    pub(super) fn most_added(&self) -> usize {
        match self {
            Self::Fields(fields) => fields.iter().map(Self::most_added).max().unwrap_or(0),
            Self::State(state) => {
                let of_source = |source: &Source| source.new_items().map_or(1, <[_]>::len);
                let of_step = |step: &Step| -> usize {
                    let added = step.added();
                    added.iter().map(|source| of_source(source)).sum()
                };
                let later = of_step(&state.merge_value).max(of_step(&state.merge_combiner));
                later.max(of_source(&state.create) + of_step(&state.first))
            }
        }
    }
}

impl State {
    /// An empty column of what values of the kind of `values` are created as.
    pub(super) fn kind(&self, values: Operands<'_>) -> Option<TypedColumn> {
        let Some(items) = self.create.new_items() else {
            return self.create.column(values).map(TypedColumn::fresh);
        };
        // An empty one is of what is put into it first.
        let item = match (items.first(), self.first.added().first()) {
            (Some(item), _) => item.column(values)?.fresh(),
            (None, Some(added)) => match added.new_items() {
                Some(items) => items.first()?.column(values)?.fresh(),
                None => match added.column(values)? {
                    TypedColumn::List(lists) | TypedColumn::Set(lists) => lists.items.fresh(),
                    _ => return None,
                },
            },
            (None, None) => return None,
        };
        let mut items = items.iter().map(|item| item.column(values));
        let item = items.try_fold(item, |kind, column| kind.joined(column?))?;
        match &self.create {
            Source::Set(_) => item
                .is_for_sets()
                .then(|| TypedColumn::Set(Lists::of(&item))),
            _ => Some(TypedColumn::List(Lists::of(&item))),
        }
    }

    /// Whether what becomes of the state is what Python does, where it is of that `kind`, for any
    /// values of the kind of `values`.
    pub(super) fn is_exact(
        &self,
        records: Records,
        kind: &TypedColumn,
        values: Operands<'_>,
    ) -> bool {
        let is_begun = match records {
            Records::Values => self.first.is_exact(kind, values),
            Records::Combiners => true,
        };
        is_begun && self.step(records).is_exact(kind, values)
    }

    /// Bytes of the texts that are the same in each record.
    pub(super) fn constant_bytes(&self) -> usize {
        let of_source = |source: &Source| match source {
            Source::Constant(constant) => constant.long_bytes(),
            _ => 0,
        };
        let of_step = |step: &Step| -> usize {
            let added = step.added();
            added.iter().map(|source| of_source(source)).sum()
        };
        let later = of_step(&self.merge_value).max(of_step(&self.merge_combiner));
        later.max(of_source(&self.create) + of_step(&self.first))
    }

    /// Whether states of that kind are texts that are put together of pieces.
    pub(super) fn joins(&self, kind: &TypedColumn) -> bool {
        let steps = [&self.first, &self.merge_value, &self.merge_combiner];
        let is_added_to = |step: &&Step| matches!(step, Step::Add(_) | Step::AddAll(_));
        matches!(kind, TypedColumn::Str(_) | TypedColumn::Bytes(_)) && steps.iter().any(is_added_to)
    }

    pub(super) fn step(&self, records: Records) -> &Step {
        match records {
            Records::Values => &self.merge_value,
            Records::Combiners => &self.merge_combiner,
        }
    }
}

impl Source {
    fn paths<'a>(&'a self, paths: &mut Vec<&'a [usize]>) {
        match self {
            Self::Value(path) => paths.push(path),
            Self::Constant(_) | Self::Computed(_) => {}
            Self::List(items) | Self::Set(items) => items.iter().for_each(|item| item.paths(paths)),
        }
    }

    /// What is in it, where it is a new list or set.
    pub(super) fn new_items(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) | Self::Set(items) => Some(items),
            Self::Value(_) | Self::Constant(_) | Self::Computed(_) => None,
        }
    }

    /// The column that the operands are in.
    #[inline]
    pub(super) fn column<'a>(&'a self, operands: Operands<'a>) -> Option<&'a TypedColumn> {
        match self {
            Self::Value(path) => operands.values.at(path),
            Self::Computed(number) => operands.computed.get(*number),
            Self::Constant(column) => Some(column),
            Self::List(_) | Self::Set(_) => None,
        }
    }

    /// How far on the operand of the next record is.
    #[inline]
    pub(super) fn stride(&self) -> usize {
        match self {
            Self::Value(_) | Self::Computed(_) => 1,
            Self::Constant(_) | Self::List(_) | Self::Set(_) => 0,
        }
    }

    /// The row of the operand for record `at`.
    #[inline]
    pub(super) fn row(&self, at: usize) -> usize {
        at * self.stride()
    }
}

impl Step {
    /// Whether the step on a state of that kind is what Python does, for any values of the kind
    /// of `values`.
    pub(super) fn is_exact(&self, state: &TypedColumn, values: Operands<'_>) -> bool {
        let is_held = |source: &Source| {
            let column = source.column(values);
            column.is_some_and(|column| state.holds(column)) && state.is_replaceable()
        };
        match self {
            Self::Keep => true,
            Self::Take(value) => is_held(value),
            Self::Add(operand) | Self::AddInFront(operand) => match (state, operand) {
                (TypedColumn::Int(_) | TypedColumn::Float(_), operand) => is_held(operand),
                _ if matches!(self, Self::AddInFront(_)) => false,
                (TypedColumn::Str(_) | TypedColumn::Bytes(_), operand) => {
                    let added = operand.column(values);
                    added.is_some_and(|added| added.is_of_kind(state))
                }
                (TypedColumn::List(lists), Source::List(items)) => items.iter().all(|item| {
                    let column = item.column(values);
                    column.is_some_and(|column| lists.items.holds(column))
                }),
                (TypedColumn::List(_), operand) => operand
                    .column(values)
                    .is_some_and(|added| state.holds(added)),
                _ => false,
            },
            Self::AddAll(operands) => {
                let mut steps = operands.iter().cloned().map(Self::Add);
                steps.all(|step| step.is_exact(state, values))
            }
            Self::Extend(operand) => {
                matches!(state, TypedColumn::List(_))
                    && Self::Add(operand.clone()).is_exact(state, values)
            }
            Self::Insert(operand) => {
                let TypedColumn::Set(sets) = state else {
                    return false;
                };
                let is_item =
                    |column: &TypedColumn| sets.items.is_for_sets() && sets.items.holds(column);
                match operand.new_items() {
                    Some(items) => {
                        let mut items = items.iter().map(|item| item.column(values));
                        items.all(|column| column.is_some_and(is_item))
                    }
                    None => matches!(operand.column(values),
                        Some(TypedColumn::List(added) | TypedColumn::Set(added))
                        if is_item(&added.items)),
                }
            }
            Self::Choose {
                at, operand, value, ..
            } => {
                let Some(compared) = state.at(at) else {
                    return false;
                };
                let is_comparable = matches!(
                    compared,
                    TypedColumn::Int(_) | TypedColumn::Float(_) | TypedColumn::Str(_)
                );
                let operand = operand.column(values);
                is_comparable
                    && operand.is_some_and(|operand| compared.holds(operand))
                    && is_held(value)
            }
            Self::ChooseBy { test, value, .. } => {
                test.kind(Some(state), values.values).is_some() && is_held(value)
            }
            Self::Compute(_) if matches!(state, TypedColumn::Set(_)) => {
                let united = self.united();
                let united = united.as_ref().and_then(|united| united.column(values));
                united.is_some_and(|united| state.holds(united))
            }
            Self::Compute(result) => {
                let kind = result.kind(Some(state), values.values);
                let column = kind.and_then(Kind::column);
                column.is_some_and(|column| column.is_of_kind(state))
            }
        }
    }

    /// What it puts into a list, a set or a text that is there, one after the other.
    pub(super) fn added(&self) -> Vec<Cow<'_, Source>> {
        match self {
            Self::Add(source) | Self::Extend(source) | Self::Insert(source) => {
                vec![Cow::Borrowed(source)]
            }
            Self::AddAll(sources) => sources.iter().map(Cow::Borrowed).collect(),
            Self::Compute(_) => self.united().map(Cow::Owned).into_iter().collect(),
            Self::Keep
            | Self::Take(_)
            | Self::AddInFront(_)
            | Self::Choose { .. }
            | Self::ChooseBy { .. } => Vec::new(),
        }
    }

    /// The other set, where `|` of it and another is computed. Of two sets of our kinds it does not
    /// matter which comes first.
    fn united(&self) -> Option<Source> {
        let Self::Compute(Expr::Operate(Operator::Or, left, right)) = self else {
            return None;
        };
        let ((Expr::Field(field), Expr::Value(path)) | (Expr::Value(path), Expr::Field(field))) =
            (&**left, &**right)
        else {
            return None;
        };
        field.is_empty().then(|| Source::Value(path.clone()))
    }

    /// Whether it adds to what is there.
    pub(super) fn is_sum(&self) -> bool {
        matches!(self, Self::Add(_) | Self::AddAll(_) | Self::AddInFront(_))
    }

    /// Whether it may stop at a record.
    pub(super) fn may_stop(&self) -> bool {
        match self {
            Self::ChooseBy { .. } | Self::Compute(_) => true,
            Self::Keep
            | Self::Take(_)
            | Self::Add(_)
            | Self::AddAll(_)
            | Self::AddInFront(_)
            | Self::Extend(_)
            | Self::Insert(_)
            | Self::Choose { .. } => false,
        }
    }
}

impl Comparison {
    #[inline]
    pub(super) fn holds<T: PartialOrd + ?Sized>(self, a: &T, b: &T) -> bool {
        match self {
            Self::Less => a < b,
            Self::LessOrEqual => a <= b,
            Self::Greater => a > b,
            Self::GreaterOrEqual => a >= b,
        }
    }

    #[inline]
    pub(super) fn holds_at(
        self,
        a: &TypedColumn,
        row: usize,
        b: &TypedColumn,
        other: usize,
    ) -> bool {
        match (a, b) {
            (TypedColumn::Int(a), TypedColumn::Int(b)) => {
                matches!((a.get(row), b.get(other)), (Some(a), Some(b)) if self.holds(a, b))
            }
            (TypedColumn::Float(a), TypedColumn::Float(b)) => {
                matches!((a.get(row), b.get(other)), (Some(a), Some(b)) if self.holds(a, b))
            }
            // The order of characters is that of their bytes in UTF-8.
            (TypedColumn::Str(a), TypedColumn::Str(b)) => self.holds(a.get(row), b.get(other)),
            _ => false,
        }
    }
}

/// The kinds of the states that are created from values of the kind of `values`.
pub(super) fn created(shape: &Shape, values: Operands<'_>, kinds: &mut Vec<TypedColumn>) -> bool {
    match shape {
        Shape::State(state) => match state.kind(values) {
            Some(kind) => {
                // A first sum may go beyond 64 bits, where nothing but sums knows what to do.
                let is_sum = state.first.is_sum();
                let may_carry = is_sum && matches!(kind, TypedColumn::Int(_));
                let replaces =
                    !matches!(state.merge_value, Step::Keep) && !state.merge_value.is_sum();
                kinds.push(kind);
                !(may_carry && replaces)
            }
            None => false,
        },
        Shape::Fields(fields) => fields.iter().all(|field| created(field, values, kinds)),
    }
}

/// The kinds of the states that combiners of the kind of `combiners` are taken apart into.
pub(super) fn adopted(
    shape: &Shape,
    combiners: &TypedColumn,
    kinds: &mut Vec<TypedColumn>,
) -> bool {
    match (shape, combiners) {
        (Shape::State(_), column) => {
            kinds.push(column.fresh());
            true
        }
        (Shape::Fields(fields), TypedColumn::Tuple(columns)) if fields.len() == columns.len() => {
            let mut parts = fields.iter().zip(columns);
            parts.all(|(field, column)| adopted(field, column, kinds))
        }
        _ => false,
    }
}

/// Each state.
pub(super) fn states(shape: &Shape) -> Vec<&State> {
    match shape {
        Shape::State(state) => vec![state],
        Shape::Fields(fields) => fields.iter().flat_map(states).collect(),
    }
}

/// Columns put together as the combiners are.
pub(super) fn shaped(
    shape: &Shape,
    columns: &mut impl Iterator<Item = TypedColumn>,
) -> TypedColumn {
    match shape {
        Shape::State(_) => columns.next().unwrap_or(TypedColumn::None(0)),
        Shape::Fields(fields) => {
            TypedColumn::Tuple(fields.iter().map(|field| shaped(field, columns)).collect())
        }
    }
}

/// How a state is made and merged.
pub(super) struct Part<'a> {
    /// What one that is new starts as.
    pub create: Cow<'a, Source>,
    /// What is then done to it.
    pub first: &'a Step,
    /// What is done to one that is there.
    pub step: &'a Step,
}

impl Part<'_> {
    pub(super) fn may_stop(&self) -> bool {
        self.first.may_stop() || self.step.may_stop()
    }
}

/// Adds the parts of a combiner, in the order of its fields; `path` leads to it.
pub(super) fn add_parts<'a>(
    shape: &'a Shape,
    records: Records,
    path: &mut Vec<usize>,
    parts: &mut Vec<Part<'a>>,
) {
    match (shape, records) {
        (Shape::State(state), Records::Values) => parts.push(Part {
            create: Cow::Borrowed(&state.create),
            first: &state.first,
            step: &state.merge_value,
        }),
        (Shape::State(state), Records::Combiners) => parts.push(Part {
            create: Cow::Owned(Source::Value(path.clone())),
            first: &Step::Keep,
            step: &state.merge_combiner,
        }),
        (Shape::Fields(fields), _) => {
            for (index, field) in fields.iter().enumerate() {
                path.push(index);
                add_parts(field, records, path, parts);
                path.pop();
            }
        }
    }
}
