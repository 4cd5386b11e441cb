//! Numbers, bools, and tuples of these, each in its row of a column, and what is added to, compared
//! with and computed of them.

use std::collections::HashMap;

use super::expr::Record;
use super::plan::{Operands, Part, Source, Step};
use crate::column::typed::TypedColumn;
use crate::error::{Error, Result};
use crate::memory::try_with_capacity;

/// States that are each in their row of a column.
pub struct Cells {
    /// The states.
    pub column: TypedColumn,
    /// Sums of ints that are not within 64 bits: how many times 2**64 is to be added to the row.
    pub carries: HashMap<usize, i64>,
}

impl Cells {
    /// No state, of that kind.
    pub fn like(kind: &TypedColumn) -> Self {
        Self {
            column: kind.fresh(),
            carries: HashMap::new(),
        }
    }

    /// Whether it can turn into that kind, which holds it, and as it is now the step can be done
    /// on it.
    pub fn takes(&self, kind: &TypedColumn, step: &Step) -> bool {
        let keeps_carries = matches!(step, Step::Keep) || step.is_sum();
        self.carries.is_empty() || keeps_carries && self.column.is_of_kind(kind)
    }

    /// Makes room for `rows` records of `values`.
    pub fn try_reserve(&mut self, values: &TypedColumn, rows: usize) -> Result<()> {
        if matches!(self.column, TypedColumn::Int(_)) {
            // A map that grows where it may not ends the process.
            self.carries
                .try_reserve(rows)
                .map_err(|_| Error::OutOfMemory {
                    wanted: rows.saturating_mul(size_of::<(usize, i64)>()),
                    what: "sums beyond 64 bits",
                })?;
        }
        self.column.try_reserve(rows)?;
        self.column.try_reserve_within(values)
    }

    /// The states in `rows`; `None` where one of them is beyond 64 bits.
    pub fn gather(&self, rows: &[u32]) -> Result<Option<TypedColumn>> {
        let has_carry = |row: &u32| self.carries.contains_key(&(*row as usize));
        if !self.carries.is_empty() && rows.iter().any(has_carry) {
            return Ok(None);
        }
        self.column.gather(rows).map(Some)
    }

    /// How many times 2**64 is to be added to the int in `row`.
    #[inline]
    pub fn carry(&self, row: usize) -> i64 {
        if self.carries.is_empty() {
            return 0;
        }
        self.carries.get(&row).copied().unwrap_or(0)
    }

    /// Bytes allocated.
    pub fn heap_bytes(&self) -> usize {
        self.column.heap_bytes() + self.carries.capacity() * size_of::<(usize, i64)>()
    }

    /// Forgets all states and keeps their memory.
    pub fn reset(&mut self) {
        self.column.truncate(0);
        self.carries.clear();
    }

    /// Merges by steps that do not stop, each operand into the state in the row that `rows` names
    /// beside it; a row that there is not yet is the next one.
    pub(super) fn merge(
        &mut self,
        part: &Part<'_>,
        rows: &[u32],
        operands: Operands<'_>,
    ) -> Result<()> {
        let Part {
            create,
            first,
            step,
        } = part;
        let Some(created) = create.column(operands) else {
            return Ok(());
        };
        if let (Step::Keep, Step::Add(operand) | Step::AddInFront(operand)) = (first, step)
            && let Some(added) = operand.column(operands)
        {
            self.add_all((create, created), (operand, added), rows);
            return Ok(());
        }
        for (at, &row) in rows.iter().enumerate() {
            let row = row as usize;
            if row < self.column.len() {
                self.apply(step, row, at, operands);
            } else {
                self.column.push_from(created, create.row(at))?;
                self.apply(first, row, at, operands);
            }
        }
        Ok(())
    }

    /// The same by steps that may stop: returns how many records were merged.
    pub(super) fn merge_until_stopped(
        &mut self,
        part: &Part<'_>,
        rows: &[u32],
        operands: Operands<'_>,
        undo: &mut Undo,
    ) -> Result<usize> {
        let Some(created) = part.create.column(operands) else {
            return Ok(0);
        };
        for (at, &row) in rows.iter().enumerate() {
            let place = row as usize;
            let step = if place < self.column.len() {
                undo.saved.push_from(&self.column, place)?;
                undo.rows.push(Some(row));
                part.step
            } else {
                self.column.push_from(created, part.create.row(at))?;
                undo.rows.push(None);
                part.first
            };
            if !self.apply(step, place, at, operands) {
                return Ok(at);
            }
        }
        Ok(rows.len())
    }

    /// The loop for sums, over numbers of one kind.
    fn add_all(
        &mut self,
        (create, created): (&Source, &TypedColumn),
        (operand, added): (&Source, &TypedColumn),
        rows: &[u32],
    ) {
        let (created_by, added_by) = (create.stride(), operand.stride());
        match (&mut self.column, created, added) {
            (TypedColumn::Int(sums), TypedColumn::Int(created), TypedColumn::Int(added)) => {
                for (at, &row) in rows.iter().enumerate() {
                    match (sums.get_mut(row as usize), added.get(at * added_by)) {
                        (Some(sum), Some(&added)) => {
                            add_int(sum, &mut self.carries, row as usize, added);
                        }
                        _ => sums.extend(created.get(at * created_by)),
                    }
                }
            }
            (TypedColumn::Float(sums), TypedColumn::Float(created), TypedColumn::Float(added)) => {
                for (at, &row) in rows.iter().enumerate() {
                    match (sums.get_mut(row as usize), added.get(at * added_by)) {
                        (Some(sum), Some(added)) => *sum += added,
                        _ => sums.extend(created.get(at * created_by)),
                    }
                }
            }
            _ => {}
        }
    }

    #[inline]
    fn add(&mut self, operand: &Source, row: usize, at: usize, operands: Operands<'_>) {
        let from = operand.row(at);
        match (&mut self.column, operand.column(operands)) {
            (TypedColumn::Int(sums), Some(TypedColumn::Int(added))) => {
                if let (Some(sum), Some(&added)) = (sums.get_mut(row), added.get(from)) {
                    add_int(sum, &mut self.carries, row, added);
                }
            }
            (TypedColumn::Float(sums), Some(TypedColumn::Float(added))) => {
                if let (Some(sum), Some(added)) = (sums.get_mut(row), added.get(from)) {
                    *sum += added;
                }
            }
            _ => {}
        }
    }

    /// Does a step with the operands of record `at`; `false` where it stops, and nothing is done.
    #[inline]
    fn apply(&mut self, step: &Step, row: usize, at: usize, operands: Operands<'_>) -> bool {
        let record = || Record {
            field: Some((&self.column, row)),
            value: (operands.values, at),
        };
        let value = match step {
            Step::Keep | Step::Extend(_) | Step::Insert(_) => return true,
            Step::Compute(result) => {
                let result = result.number(record());
                return result.is_some_and(|result| result.put(&mut self.column, row));
            }
            Step::ChooseBy { test, keeps, value } => match test.is_true(record()) {
                None => return false,
                Some(is_true) if is_true == *keeps => return true,
                Some(_) => value,
            },
            Step::Add(operand) | Step::AddInFront(operand) => {
                self.add(operand, row, at, operands);
                return true;
            }
            Step::AddAll(all) => {
                for operand in all {
                    self.add(operand, row, at, operands);
                }
                return true;
            }
            Step::Take(value) => value,
            Step::Choose {
                at: path,
                comparison,
                operand,
                keeps,
                value,
            } => {
                if let (Some(field), Some(with)) = (self.column.at(path), operand.column(operands))
                    && comparison.holds_at(field, row, with, operand.row(at)) == *keeps
                {
                    return true;
                }
                value
            }
        };
        if let Some(column) = value.column(operands) {
            self.column.replace_from(row, column, value.row(at));
        }
        true
    }
}

#[inline]
fn add_int(sum: &mut i64, carries: &mut HashMap<usize, i64>, row: usize, added: i64) {
    let (wrapped, has_overflowed) = sum.overflowing_add(added);
    *sum = wrapped;
    if has_overflowed {
        carry(carries, row, added.signum());
    }
}

/// Counts an overflow of the sum in `row`; what has come back within 64 bits is forgotten.
#[cold]
fn carry(carries: &mut HashMap<usize, i64>, row: usize, by: i64) {
    let carry = carries.entry(row).or_insert(0);
    *carry += by;
    if *carry == 0 {
        carries.remove(&row);
    }
}

/// What takes back what was done to a state, record by record.
pub(super) struct Undo {
    /// The row that each record was merged into; `None` where the row was new.
    rows: Vec<Option<u32>>,
    /// What was in those that were not.
    saved: TypedColumn,
}

impl Undo {
    /// For so many records that are merged into `cells`.
    pub(super) fn new(cells: &Cells, records: usize) -> Result<Self> {
        let mut saved = cells.column.fresh();
        saved.try_reserve(records)?;
        let rows = try_with_capacity(records, "what takes a batch back")?;
        Ok(Self { rows, saved })
    }

    /// Takes back all but the first `records`.
    pub(super) fn back_to(mut self, records: usize, cells: &mut Cells) {
        while self.rows.len() > records {
            match self.rows.pop() {
                Some(Some(row)) => {
                    let last = self.saved.len().saturating_sub(1);
                    cells.column.replace_from(row as usize, &self.saved, last);
                    self.saved.truncate(last);
                }
                _ => cells.column.truncate(cells.column.len().saturating_sub(1)),
            }
        }
    }
}
