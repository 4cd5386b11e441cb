//! The aggregate that calls the user's functions, for any of them and any object.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::Aggregate;
use crate::column::Column;
use crate::column::object::ObjectColumn;
use crate::error::{Error, Result};
use crate::py::guard::Function;

/// The three functions of an aggregator. Each is there only where it may be called: a merge of
/// combiners reads no `createCombiner` from the aggregator, as in stock PySpark.
#[derive(Default)]
pub struct Functions {
    /// `createCombiner(value)`
    pub create_combiner: Option<Function>,
    /// `mergeValue(combiner, value)`
    pub merge_value: Option<Function>,
    /// `mergeCombiners(combiner, combiner)`
    pub merge_combiners: Option<Function>,
}

impl Functions {
    /// The same functions once more.
    #[must_use]
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        let again = |function: &Option<Function>| function.as_ref().map(|f| f.clone_ref(py));
        Self {
            create_combiner: again(&self.create_combiner),
            merge_value: again(&self.merge_value),
            merge_combiners: again(&self.merge_combiners),
        }
    }
}

/// Combiners as Python objects, made and merged by [`Functions`].
#[derive(Default)]
pub struct Callback {
    /// What is called.
    pub functions: Functions,
    combiners: ObjectColumn,
}

impl Callback {
    /// The combiners, by row.
    pub fn combiners(&self) -> &ObjectColumn {
        &self.combiners
    }

    /// The combiners, to be taken out or replaced row by row.
    pub fn combiners_mut(&mut self) -> &mut ObjectColumn {
        &mut self.combiners
    }

    /// Shows every reference to Python's garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        let Functions {
            create_combiner,
            merge_value,
            merge_combiners,
        } = &self.functions;
        for function in [create_combiner, merge_value, merge_combiners]
            .into_iter()
            .flatten()
        {
            function.traverse(visit)?;
        }
        self.combiners.traverse(visit)
    }

    /// Calls `function(combiner in row, value)` and puts its result in the row.
    #[inline]
    fn merge(
        combiners: &mut ObjectColumn,
        function: Option<&Function>,
        row: usize,
        value: Borrowed<'_, '_, PyAny>,
    ) -> Result<()> {
        let py = value.py();
        let merged = {
            let combiner = combiners.get(row)?.bind_borrowed(py);
            function.ok_or_else(unset)?.call2(combiner, value)?
        };
        // The old combiner is dropped here, when the row is whole again: that may run user code.
        drop(combiners.replace(row, merged.unbind()));
        Ok(())
    }
}

#[cold]
fn unset() -> Error {
    Error::Usage("the aggregator's function was not read before it was needed".to_owned())
}

impl Aggregate for Callback {
    type Value<'a> = Borrowed<'a, 'a, PyAny>;

    #[inline]
    fn make_room(&mut self) -> Result<()> {
        self.combiners.make_room()
    }

    fn reserve(&mut self, more: usize) {
        self.combiners.reserve(more);
    }

    #[inline]
    fn create(&mut self, value: Self::Value<'_>) -> Result<()> {
        let function = self.functions.create_combiner.as_ref().ok_or_else(unset)?;
        let combiner = function.call1(value)?;
        self.combiners.push(combiner.unbind());
        Ok(())
    }

    #[inline]
    fn merge_value(&mut self, row: usize, value: Self::Value<'_>) -> Result<()> {
        Self::merge(
            &mut self.combiners,
            self.functions.merge_value.as_ref(),
            row,
            value,
        )
    }

    #[inline]
    fn adopt(&mut self, combiner: Self::Value<'_>) -> Result<()> {
        self.combiners.push(combiner.to_owned().unbind());
        Ok(())
    }

    #[inline]
    fn merge_combiner(&mut self, row: usize, combiner: Self::Value<'_>) -> Result<()> {
        Self::merge(
            &mut self.combiners,
            self.functions.merge_combiners.as_ref(),
            row,
            combiner,
        )
    }

    fn heap_bytes(&self) -> usize {
        self.combiners.heap_bytes()
    }

    fn reset(&mut self) {
        self.combiners.reset();
    }

    fn clear(&mut self) {
        self.combiners.clear();
    }
}
