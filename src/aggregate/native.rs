//! Aggregates that are computed here, over typed columns, in place of calls of the user's
//! functions.
//!
//! What an aggregate is made of is told by `ferroshuffle.recognize`; which values it holds for is
//! checked before they get here: whatever [`NativeAggregate::accepts`] accepts is merged exactly
//! as the user's functions would merge it, and without fail, up to a record at which an
//! expression stops.

use super::Records;
use super::cells::{Cells, Undo};
use super::collect::{self, Collected};
use super::expr::{Kind, Record};
use super::plan::{
    Operands, Part, Plan, Shape, Source, State, Step, add_parts, adopted, created, shaped, states,
};
use crate::column::typed::{Lists, TypedColumn};
use crate::error::Result;

/// Combiners as typed columns, made and merged by a [`Plan`].
pub struct NativeAggregate {
    plan: Plan,
    /// Most items that a record makes a list longer by, of which it is not a list itself.
    most_added: usize,
    /// One for each state of the plan, in the order of its fields. None before the first batch.
    states: Vec<StateColumn>,
    /// The kind of each state with what was accepted last: there may be `None` in it where there is
    /// none in the state yet.
    kinds: Vec<TypedColumn>,
}

/// The states of one field, by row.
enum StateColumn {
    /// Each in its row.
    Cells(Cells),
    /// Lists.
    Lists(Collected),
    /// Sets.
    Sets(Collected),
    /// Texts, each the items of a list put together.
    Joined(Collected),
}

/// A state as it is read.
pub enum Cell<'a> {
    /// A row of a column, and how many times 2**64 is to be added to the int in it.
    Of(&'a TypedColumn, i64),
    /// A list: those rows of a column.
    List(&'a TypedColumn, &'a [u32]),
    /// A set of such.
    Set(&'a TypedColumn, &'a [u32]),
    /// A text: those rows of a column, put together.
    Text(&'a TypedColumn, &'a [u32]),
}

impl NativeAggregate {
    /// With no row yet.
    pub fn new(plan: Plan) -> Self {
        Self {
            most_added: plan.shape.most_added(),
            plan,
            states: Vec::new(),
            kinds: Vec::new(),
        }
    }

    /// An aggregate that merges as this one does, with no row yet.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self::new(self.plan.clone())
    }

    /// Whether values of the kind of `values` are merged exactly, and into the states that are
    /// here. The first kind that is accepted decides about the kind of the states.
    pub fn accepts(&mut self, records: Records, values: &TypedColumn) -> bool {
        let sizes = match records {
            Records::Values => &self.plan.value_sizes,
            Records::Combiners => &self.plan.combiner_sizes,
        };
        let is_sized = |(path, size): &(Vec<usize>, usize)| matches!(values.at(path), Some(TypedColumn::Tuple(fields)) if fields.len() == *size);
        if !sizes.iter().all(is_sized) {
            return false;
        }
        let mut kinds = Vec::new();
        if !self.plan.holds_for_lists && values.has_lists() {
            return false;
        }
        let computed = self.plan.computed(records).iter();
        let computed = computed.map(|expr| expr.kind(None, values)?.column());
        let Some(computed) = computed.collect::<Option<Vec<_>>>() else {
            return false;
        };
        let operands = Operands {
            values,
            computed: &computed,
        };
        let is_known = match records {
            Records::Values => created(&self.plan.shape, operands, &mut kinds),
            Records::Combiners => adopted(&self.plan.shape, values, &mut kinds),
        };
        if !is_known {
            return false;
        }
        if !self.kinds.is_empty() {
            let pairs = self.kinds.iter().zip(&kinds);
            let joined = pairs.map(|(known, kind)| known.joined(kind));
            let Some(joined) = joined.collect::<Option<_>>() else {
                return false;
            };
            kinds = joined;
        }
        let plans = states(&self.plan.shape);
        let mut parts = plans.iter().zip(&kinds);
        if !parts.all(|(state, kind)| state.is_exact(records, kind, operands)) {
            return false;
        }
        if self.states.is_empty() {
            let like = |(kind, plan): (&TypedColumn, &&State)| StateColumn::like(kind, plan);
            self.states = kinds.iter().zip(&plans).map(like).collect();
        }
        let mut parts = self.states.iter().zip(&kinds).zip(plans);
        let is_taken = parts.all(|((state, kind), plan)| state.takes(kind, plan.step(records)));
        if is_taken {
            self.kinds = kinds;
        }
        is_taken
    }

    /// Makes room for `rows` records of `values`, in states that hold what was accepted.
    pub fn try_reserve(&mut self, values: &TypedColumn, rows: usize) -> Result<()> {
        for (state, kind) in self.states.iter_mut().zip(&self.kinds) {
            state.turn_into(kind)?;
        }
        self.states
            .iter_mut()
            .zip(states(&self.plan.shape))
            .try_for_each(|(state, plan)| state.try_reserve(plan, values, rows, self.most_added))
    }

    /// Merges `values`, each into the state in the row that `rows` names beside it. A row that
    /// there is not yet is the next one, and starts with the value. Returns how many records were
    /// merged: all, or those before one at which an expression stops.
    ///
    /// To be called after [`accepts`](Self::accepts) and [`try_reserve`](Self::try_reserve). Where
    /// memory is refused, nothing was merged.
    pub fn merge(&mut self, records: Records, rows: &[u32], values: &TypedColumn) -> Result<usize> {
        let mut merged = rows.len();
        let mut computed = Vec::new();
        for expr in self.plan.computed(records) {
            let kind = expr.kind(None, values);
            let mut results = kind.and_then(Kind::column).unwrap_or(TypedColumn::None(0));
            results.try_reserve(merged)?;
            let result = |row| {
                let record = Record {
                    field: None,
                    value: (values, row),
                };
                expr.number(record)
            };
            let stopped = (0..merged)
                .find(|&row| !result(row).is_some_and(|result| result.put(&mut results, row)));
            merged = stopped.unwrap_or(merged);
            computed.push(results);
        }
        let operands = Operands {
            values,
            computed: &computed,
        };
        let mut parts = Vec::new();
        add_parts(&self.plan.shape, records, &mut Vec::new(), &mut parts);
        let mut stopping = Vec::new();
        let mut others = Vec::new();
        for (part, state) in parts.iter().zip(&mut self.states) {
            match (state, part.may_stop()) {
                (StateColumn::Cells(cells), true) => {
                    let undo = Undo::new(cells, merged)?;
                    stopping.push((part, undo, cells));
                }
                (state, _) => others.push((part, state)),
            }
        }
        for (part, undo, cells) in &mut stopping {
            let rows = rows.get(..merged).unwrap_or_default();
            merged = cells.merge_until_stopped(part, rows, operands, undo)?;
        }
        for (_, undo, cells) in stopping {
            undo.back_to(merged, cells);
        }
        let rows = rows.get(..merged).unwrap_or_default();
        for (part, state) in others {
            state.merge(part, rows, operands)?;
        }
        Ok(merged)
    }

    /// The combiners in `rows`; `None` where one of them is beyond any typed column.
    pub fn gather(&self, rows: &[u32]) -> Result<Option<TypedColumn>> {
        let mut gathered = Vec::new();
        for state in &self.states {
            let Some(column) = state.gather(rows)? else {
                return Ok(None);
            };
            gathered.push(column);
        }
        Ok(Some(shaped(&self.plan.shape, &mut gathered.into_iter())))
    }

    /// The same, where nothing but the lengths of lists and sets is asked: these have items that
    /// are not read, if combiners are nothing else.
    pub fn lengths(&self, rows: &[u32]) -> Result<Option<TypedColumn>> {
        match (&self.plan.shape, self.states.as_slice()) {
            (Shape::State(_), [state @ (StateColumn::Lists(all) | StateColumn::Sets(all))]) => {
                Ok(Some(state.wrapped(all.lengths(rows)?)))
            }
            _ => self.gather(rows),
        }
    }

    /// Whether the combiner in `row` is beyond any typed column.
    #[inline]
    pub fn has_carry(&self, row: usize) -> bool {
        self.states.iter().any(|state| match state {
            StateColumn::Cells(cells) => cells.carries.contains_key(&row),
            _ => false,
        })
    }

    /// The lists, where combiners are nothing else.
    pub fn lists(&self) -> Option<&Collected> {
        match (&self.plan.shape, self.states.as_slice()) {
            (Shape::State(_), [StateColumn::Lists(lists)]) => Some(lists),
            _ => None,
        }
    }

    /// Whether combiners are lists, sets or texts, and merging one with another puts that behind it.
    pub fn joins(&self) -> bool {
        let Shape::State(state) = &self.plan.shape else {
            return false;
        };
        let added = state.merge_combiner.added();
        let is_joined = matches!(added.as_slice(), [added]
            if matches!(&**added, Source::Value(path) if path.is_empty()));
        is_joined && self.collected().next().is_some()
    }

    /// A piece of the combiner in `row`, from item `start` on and of up to `most`, as a column of one
    /// row; `None` where combiners are not [joined](Self::joins), or there is no such item.
    pub fn piece(&self, row: usize, start: usize, most: usize) -> Result<Option<TypedColumn>> {
        let Some((first, collected)) = self.states.first().zip(self.collected().next()) else {
            return Ok(None);
        };
        let rest = collected.list(row)?.get(start..).unwrap_or_default();
        let slice = rest.get(..most).unwrap_or(rest);
        if slice.is_empty() || !self.joins() {
            return Ok(None);
        }
        if let StateColumn::Joined(_) = first {
            let mut piece = collected.items().fresh();
            piece.push_joined(collected.items(), slice)?;
            return Ok(Some(piece));
        }
        let items = collected.items().gather(slice)?;
        let lists = Lists {
            ends: vec![items.len()],
            items: Box::new(items),
        };
        Ok(Some(first.wrapped(lists)))
    }

    /// The lists and sets, and the texts that are put together.
    fn collected(&self) -> impl Iterator<Item = &Collected> {
        self.states.iter().filter_map(StateColumn::collected)
    }

    /// Items of all lists and sets, and pieces of all texts that are put together.
    pub fn all_items(&self) -> usize {
        self.collected().map(|lists| lists.items().len()).sum()
    }

    /// How often lists were put in order.
    pub fn sorts(&self) -> usize {
        self.collected().map(Collected::sorts).max().unwrap_or(0)
    }

    /// The items or pieces of the longest.
    pub fn most_items(&self) -> usize {
        self.collected().map(Collected::longest).max().unwrap_or(0)
    }

    /// The items and pieces of those in `row`.
    pub fn items(&self, row: usize) -> usize {
        self.collected().map(|lists| lists.count(row)).sum()
    }

    /// By what combiners are made.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The state with that number, in `row`.
    #[inline]
    pub fn state(&self, number: usize, row: usize) -> Result<Option<Cell<'_>>> {
        Ok(match self.states.get(number) {
            None => None,
            Some(StateColumn::Cells(cells)) => Some(Cell::Of(&cells.column, cells.carry(row))),
            Some(StateColumn::Lists(lists)) => Some(Cell::List(lists.items(), lists.list(row)?)),
            Some(StateColumn::Sets(sets)) => Some(Cell::Set(sets.items(), sets.list(row)?)),
            Some(StateColumn::Joined(texts)) => Some(Cell::Text(texts.items(), texts.list(row)?)),
        })
    }

    /// Asks memory for the states in `row`, which are needed soon.
    #[inline]
    pub fn prefetch(&self, row: usize) {
        for state in &self.states {
            match state {
                StateColumn::Cells(cells) => cells.column.prefetch(row),
                StateColumn::Lists(all) | StateColumn::Sets(all) | StateColumn::Joined(all) => {
                    all.prefetch(row);
                }
            }
        }
    }

    /// Bytes allocated for the states.
    pub fn heap_bytes(&self) -> usize {
        self.states.iter().map(StateColumn::heap_bytes).sum()
    }

    /// Forgets all rows and keeps their memory, and their kinds.
    pub fn reset(&mut self) {
        for state in &mut self.states {
            match state {
                StateColumn::Cells(cells) => cells.reset(),
                StateColumn::Lists(all) | StateColumn::Sets(all) | StateColumn::Joined(all) => {
                    all.reset();
                }
            }
        }
    }

    /// Forgets all rows and gives their memory back; keeps their kinds.
    pub fn clear(&mut self) {
        for state in &mut self.states {
            *state = state.fresh();
        }
    }
}

impl StateColumn {
    /// For states of that kind, which `plan` makes.
    fn like(kind: &TypedColumn, plan: &State) -> Self {
        match kind {
            TypedColumn::List(lists) => Self::Lists(Collected::lists(&lists.items)),
            TypedColumn::Set(sets) => Self::Sets(Collected::sets(&sets.items)),
            column if plan.joins(column) => Self::Joined(Collected::lists(column)),
            column => Self::Cells(Cells::like(column)),
        }
    }

    fn fresh(&self) -> Self {
        match self {
            Self::Cells(cells) => Self::Cells(Cells::like(&cells.column)),
            Self::Lists(lists) => Self::Lists(lists.fresh()),
            Self::Sets(sets) => Self::Sets(sets.fresh()),
            Self::Joined(texts) => Self::Joined(texts.fresh()),
        }
    }

    fn collected(&self) -> Option<&Collected> {
        match self {
            Self::Cells(_) => None,
            Self::Lists(all) | Self::Sets(all) | Self::Joined(all) => Some(all),
        }
    }

    /// Lists of it as a column: of lists, or of sets.
    fn wrapped(&self, lists: Lists) -> TypedColumn {
        match self {
            Self::Sets(_) => TypedColumn::Set(lists),
            _ => TypedColumn::List(lists),
        }
    }

    /// Whether it can turn into that kind, which holds it, and as it is now the step can be done
    /// on it.
    fn takes(&self, kind: &TypedColumn, step: &Step) -> bool {
        match self {
            Self::Lists(_) => matches!(kind, TypedColumn::List(_)),
            Self::Sets(_) => matches!(kind, TypedColumn::Set(_)),
            Self::Joined(texts) => texts.items().is_of_kind(kind),
            Self::Cells(cells) => cells.takes(kind, step),
        }
    }

    fn turn_into(&mut self, kind: &TypedColumn) -> Result<()> {
        match (self, kind) {
            (Self::Lists(lists), TypedColumn::List(kind))
            | (Self::Sets(lists), TypedColumn::Set(kind)) => lists.turn_into(&kind.items),
            (Self::Lists(_) | Self::Sets(_) | Self::Joined(_), _) => Ok(()),
            (Self::Cells(cells), kind) => cells.column.turn_into(kind),
        }
    }

    fn try_reserve(
        &mut self,
        plan: &State,
        values: &TypedColumn,
        rows: usize,
        most_added: usize,
    ) -> Result<()> {
        match self {
            Self::Cells(cells) => cells.try_reserve(values, rows),
            Self::Lists(lists) | Self::Sets(lists) => {
                let added = rows.saturating_mul(most_added);
                lists.try_reserve(rows, added.saturating_add(values.most_items()))?;
                lists.try_reserve_within(values)
            }
            Self::Joined(texts) => {
                let added = rows.saturating_mul(most_added.saturating_add(1));
                texts.try_reserve(rows, added)?;
                let most = values
                    .long_bytes()
                    .saturating_mul(most_added.saturating_add(1));
                texts.try_reserve_bytes(
                    most.saturating_add(rows.saturating_mul(plan.constant_bytes())),
                )
            }
        }
    }

    fn gather(&self, rows: &[u32]) -> Result<Option<TypedColumn>> {
        match self {
            Self::Cells(cells) => cells.gather(rows),
            Self::Lists(lists) | Self::Sets(lists) => Ok(Some(self.wrapped(lists.gather(rows)?))),
            Self::Joined(texts) => texts.joined(rows).map(Some),
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Cells(cells) => cells.heap_bytes(),
            Self::Lists(all) | Self::Sets(all) | Self::Joined(all) => all.heap_bytes(),
        }
    }

    fn merge(&mut self, part: &Part<'_>, rows: &[u32], operands: Operands<'_>) -> Result<()> {
        match self {
            Self::Cells(cells) => cells.merge(part, rows, operands),
            Self::Lists(all) | Self::Sets(all) | Self::Joined(all) => {
                collect::merge(all, part, rows, operands)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::aggregate::plan::{Comparison, State};
    use crate::column::nullable::Nullable;
    use proptest::prelude::*;

    fn value(path: &[usize]) -> Source {
        Source::Value(path.to_vec())
    }

    fn one_state(merge: Step) -> Plan {
        Plan {
            shape: Shape::State(Box::new(State {
                create: value(&[]),
                first: Step::Keep,
                merge_value: merge.clone(),
                merge_combiner: merge,
            })),
            value_sizes: Vec::new(),
            combiner_sizes: Vec::new(),
            holds_for_lists: true,
            of_values: Vec::new(),
            of_combiners: Vec::new(),
        }
    }

    fn merged(plan: Plan, records: Records, rows: &[u32], values: &TypedColumn) -> NativeAggregate {
        let mut aggregate = NativeAggregate::new(plan);
        assert!(aggregate.accepts(records, values));
        aggregate.try_reserve(values, rows.len()).unwrap();
        aggregate.merge(records, rows, values).unwrap();
        aggregate
    }

    fn exact_sum(aggregate: &NativeAggregate, row: usize) -> i128 {
        let Some(Cell::Of(TypedColumn::Int(sums), carry)) = aggregate.state(0, row).unwrap() else {
            return 0;
        };
        i128::from(*sums.get(row).unwrap()) + (i128::from(carry) << 64)
    }

    proptest! {
        #[test]
        fn sums_of_ints_are_exact(values in proptest::collection::vec((0_u32..4, prop_oneof![
            any::<i64>(), Just(i64::MAX), Just(i64::MIN), -3_i64..3]), 1..200)) {
            let mut seen = Vec::new();
            let mut rows = Vec::new();
            for (key, _) in &values {
                let row = seen.iter().position(|k| k == key).unwrap_or_else(|| {
                    seen.push(*key);
                    seen.len() - 1
                });
                rows.push(u32::try_from(row).unwrap());
            }
            let column = TypedColumn::Int(values.iter().map(|(_, v)| *v).collect());
            let sums = merged(one_state(Step::Add(value(&[]))), Records::Values, &rows, &column);
            for row in 0..seen.len() {
                let expected: i128 = rows.iter().zip(&values)
                    .filter(|(r, _)| **r as usize == row).map(|(_, (_, v))| i128::from(*v)).sum();
                prop_assert_eq!(exact_sum(&sums, row), expected);
                let fits = i64::try_from(expected).is_ok();
                let gathered = sums.gather(&[u32::try_from(row).unwrap()]).unwrap();
                prop_assert_eq!(gathered.is_some(), fits);
            }
        }
    }

    #[test]
    fn an_average_counts_with_a_constant() {
        let count = Source::Constant(TypedColumn::Int(vec![1]));
        let state = |create: Source, add: Source, field: usize| {
            Shape::State(Box::new(State {
                create,
                first: Step::Keep,
                merge_value: Step::Add(add),
                merge_combiner: Step::Add(value(&[field])),
            }))
        };
        let plan = Plan {
            shape: Shape::Fields(vec![
                state(value(&[]), value(&[]), 0),
                state(count.clone(), count, 1),
            ]),
            value_sizes: Vec::new(),
            combiner_sizes: Vec::new(),
            holds_for_lists: true,
            of_values: Vec::new(),
            of_combiners: Vec::new(),
        };
        let values = TypedColumn::Float(vec![0.5, 2.0, 1.0]);
        let mut average = merged(plan, Records::Values, &[0, 1, 0], &values);
        let combiners = average.gather(&[0, 1]).unwrap().unwrap();
        assert!(average.accepts(Records::Combiners, &combiners));
        average
            .merge(Records::Combiners, &[0, 1], &combiners)
            .unwrap();
        let expected = TypedColumn::Tuple(vec![
            TypedColumn::Float(vec![3.0, 4.0]),
            TypedColumn::Int(vec![4, 2]),
        ]);
        let found = average.gather(&[0, 1]).unwrap().unwrap();
        assert!((0..2).all(|row| found.is_same(row, &expected, row)));
        assert!(!average.accepts(Records::Values, &TypedColumn::Int(vec![1])));
        assert!(!average.accepts(Records::Combiners, &values));
    }

    #[test]
    fn the_newest_of_tuples_is_chosen_by_a_field() {
        let plan = one_state(Step::Choose {
            at: vec![1],
            comparison: Comparison::Greater,
            operand: value(&[1]),
            keeps: true,
            value: value(&[]),
        });
        let values = TypedColumn::Tuple(vec![
            TypedColumn::Int(vec![1, 2, 3]),
            TypedColumn::Float(vec![5.0, 5.0, f64::NAN]),
        ]);
        let two = values.gather(&[0, 1]).unwrap();
        let newest = merged(plan.clone(), Records::Values, &[0, 0], &two);
        let gathered = newest.gather(&[0]).unwrap().unwrap();
        assert!(gathered.is_same(0, &values, 1));
        // Nothing is greater than nan, and nan than nothing: the last one stays.
        let newest = merged(plan, Records::Values, &[0, 0, 0], &values);
        let Some(TypedColumn::Tuple(fields)) = newest.gather(&[0]).unwrap() else {
            unreachable!("a tuple was put in")
        };
        assert!(matches!(fields.first(), Some(TypedColumn::Int(ints)) if ints == &[3]));
    }

    #[test]
    fn what_is_not_exact_is_not_accepted() {
        let texts = TypedColumn::Str(crate::column::typed::Texts::default());
        let mut sum = NativeAggregate::new(one_state(Step::Add(value(&[]))));
        assert!(!sum.accepts(Records::Values, &TypedColumn::Bool(Vec::new())));
        assert!(!sum.accepts(Records::Values, &TypedColumn::None(0)));
        assert!(sum.accepts(Records::Values, &TypedColumn::Int(Vec::new())));
        assert!(!sum.accepts(Records::Values, &TypedColumn::Float(Vec::new())));
        let mut first = NativeAggregate::new(one_state(Step::Keep));
        assert!(first.accepts(Records::Values, &texts));
        let mut last = NativeAggregate::new(one_state(Step::Take(value(&[]))));
        assert!(!last.accepts(Records::Values, &texts));
    }

    fn ints_or_none(of: &[Option<i64>]) -> TypedColumn {
        let mut column = TypedColumn::Nullable(Nullable::of(&TypedColumn::Int(Vec::new())));
        for int in of {
            let from = int.map_or(TypedColumn::None(1), |int| TypedColumn::Int(vec![int]));
            column.push_from(&from, 0).unwrap();
        }
        column
    }

    fn merge(aggregate: &mut NativeAggregate, rows: &[u32], values: &TypedColumn) {
        assert!(aggregate.accepts(Records::Values, values));
        aggregate.try_reserve(values, rows.len()).unwrap();
        aggregate.merge(Records::Values, rows, values).unwrap();
    }

    #[test]
    fn none_is_kept_and_taken_among_values() {
        let batches = [
            TypedColumn::Int(vec![1, 2]),
            ints_or_none(&[None, Some(3)]),
            TypedColumn::None(2),
            TypedColumn::Int(vec![4, 5]),
        ];
        let mut last = NativeAggregate::new(one_state(Step::Take(value(&[]))));
        let mut first = NativeAggregate::new(one_state(Step::Keep));
        for (values, rows) in batches.iter().zip([[0, 1], [1, 2], [0, 3], [3, 4]]) {
            merge(&mut last, &rows, values);
            merge(&mut first, &rows, values);
        }
        let found = last.gather(&[0, 1, 2, 3, 4]).unwrap().unwrap();
        let expected = ints_or_none(&[None, None, Some(3), Some(4), Some(5)]);
        assert!((0..5).all(|row| found.is_same(row, &expected, row)));
        let found = first.gather(&[0, 1, 2, 3, 4]).unwrap().unwrap();
        let expected = ints_or_none(&[Some(1), Some(2), Some(3), None, Some(5)]);
        assert!((0..5).all(|row| found.is_same(row, &expected, row)));
    }

    #[test]
    fn none_is_not_added_or_compared() {
        let less = Step::Choose {
            at: Vec::new(),
            comparison: Comparison::Less,
            operand: value(&[]),
            keeps: false,
            value: value(&[]),
        };
        for step in [Step::Add(value(&[])), less] {
            let mut aggregate = NativeAggregate::new(one_state(step));
            assert!(!aggregate.accepts(Records::Values, &ints_or_none(&[])));
            assert!(aggregate.accepts(Records::Values, &TypedColumn::Int(Vec::new())));
            assert!(!aggregate.accepts(Records::Values, &ints_or_none(&[])));
            assert!(!aggregate.accepts(Records::Values, &TypedColumn::None(0)));
            assert!(aggregate.accepts(Records::Values, &TypedColumn::Int(Vec::new())));
        }
    }

    #[test]
    fn a_state_that_may_be_none_is_not_added_to() {
        let mut plan = one_state(Step::Take(value(&[])));
        if let Shape::State(state) = &mut plan.shape {
            state.merge_combiner = Step::Add(value(&[]));
        }
        let mut aggregate = NativeAggregate::new(plan);
        let ints = TypedColumn::Int(vec![i64::MAX]);
        assert!(aggregate.accepts(Records::Values, &ints));
        assert!(aggregate.accepts(Records::Combiners, &ints));
        for _ in 0..2 {
            aggregate.try_reserve(&ints, 1).unwrap();
            aggregate.merge(Records::Combiners, &[0], &ints).unwrap();
        }
        // A sum beyond 64 bits has no place among nullable ints.
        assert!(!aggregate.accepts(Records::Values, &ints_or_none(&[])));
        aggregate.reset();
        assert!(aggregate.accepts(Records::Values, &ints_or_none(&[])));
        assert!(!aggregate.accepts(Records::Combiners, &ints));
    }

    #[test]
    fn lists_take_items_that_may_be_none() {
        let item = || Source::List(vec![value(&[])]);
        let mut plan = one_state(Step::Extend(value(&[])));
        if let Shape::State(state) = &mut plan.shape {
            state.create = item();
            state.merge_value = Step::Extend(item());
        }
        let mut lists = NativeAggregate::new(plan);
        merge(&mut lists, &[0, 1], &TypedColumn::Int(vec![1, 2]));
        merge(&mut lists, &[0, 0], &ints_or_none(&[None, Some(3)]));
        merge(&mut lists, &[1, 0], &TypedColumn::Int(vec![4, 5]));
        let Some(TypedColumn::List(found)) = lists.gather(&[0, 1]).unwrap() else {
            unreachable!("lists were made")
        };
        assert_eq!(found.ends, [4, 6]);
        let expected = ints_or_none(&[Some(1), None, Some(3), Some(5), Some(2), Some(4)]);
        assert!((0..6).all(|item| found.items.is_same(item, &expected, item)));
    }

    #[test]
    fn texts_are_put_together() {
        let texts = |of: &[&str]| {
            let mut texts = crate::column::typed::Texts::default();
            for text in of {
                texts.push(text.as_bytes()).unwrap();
            }
            TypedColumn::Str(texts)
        };
        let comma = Source::Constant(texts(&[", "]));
        let mut plan = one_state(Step::AddAll(vec![comma, value(&[])]));
        if let Shape::State(state) = &mut plan.shape {
            state.merge_combiner = Step::Add(value(&[]));
        }
        let mut joined = merged(
            plan,
            Records::Values,
            &[0, 1, 0, 0],
            &texts(&["a", "b", "", "é"]),
        );
        let found = joined.gather(&[1, 0]).unwrap().unwrap();
        let expected = texts(&["b", "a, , é"]);
        assert!((0..2).all(|row| found.is_same(row, &expected, row)));
        // One that is put together is a piece of the next.
        assert!(joined.accepts(Records::Combiners, &found));
        joined.try_reserve(&found, 2).unwrap();
        joined.merge(Records::Combiners, &[0, 2], &found).unwrap();
        let found = joined.gather(&[0, 2]).unwrap().unwrap();
        let expected = texts(&["a, , éb", "a, , é"]);
        assert!((0..2).all(|row| found.is_same(row, &expected, row)));
        assert!(joined.joins());
        for (start, expected) in [(0, "a, , "), (4, "éb")] {
            let piece = joined.piece(0, start, 4).unwrap().unwrap();
            assert!(piece.is_same(0, &texts(&[expected]), 0));
        }
        assert!(joined.piece(0, 6, 4).unwrap().is_none());
    }

    #[test]
    fn a_value_of_another_size_is_outside() {
        let mut plan = one_state(Step::Keep);
        plan.value_sizes = vec![(Vec::new(), 2)];
        let mut aggregate = NativeAggregate::new(plan);
        assert!(!aggregate.accepts(Records::Values, &TypedColumn::Int(vec![])));
        let three = TypedColumn::Tuple(vec![TypedColumn::None(0); 3]);
        assert!(!aggregate.accepts(Records::Values, &three));
        let two = TypedColumn::Tuple(vec![TypedColumn::None(0); 2]);
        assert!(aggregate.accepts(Records::Values, &two));
    }
}
