//! [`RangePartitioner`]: the partition function of a sort.

use std::borrow::Cow;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::ffi;
use super::handover::{Form, next_columns};
use super::plan;
use super::sort_keys::column_of;
use super::typed;
use crate::column::typed::TypedColumn;
use crate::error::Result;
use crate::memory;
use crate::sort::key::SortKey;
use crate::sort::order::{KeyColumns, bisect};

/// Tells the partition of a key by the bounds between which its sort key lies.
#[pyclass(module = "ferroshuffle._core", frozen)]
pub struct RangePartitioner {
    bounds: Py<PyList>,
    partitions: u32,
    reverse: bool,
    key: Py<PyAny>,
    plan: Option<Py<PyAny>>,
    native: Option<Native>,
}

/// What it takes to compare columns of keys.
struct Native {
    key: SortKey,
    bounds: KeyColumns<'static>,
}

impl RangePartitioner {
    /// Whether partitions are told of columns, as far as one can say without them.
    pub const fn is_by_column(&self) -> bool {
        self.native.is_some()
    }

    /// The partition of a key.
    pub fn partition(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<u32> {
        let py = key.py();
        let sort_key = match &self.native {
            Some(native) if native.key.path() == Some(&[]) => key.to_owned(),
            _ => ffi::call1(self.key.bind_borrowed(py), key)?,
        };
        let bounds = self.bounds.bind(py);
        let below = bisect(bounds.len(), |at| {
            let bound = bounds.get_item(at)?;
            Ok(ffi::is_less(bound.as_borrowed(), sort_key.as_borrowed())?)
        })?;
        Ok(self.numbered(below))
    }

    /// Appends the partition of each of some `keys` to `partitions`, which has room for them;
    /// `false`, and nothing was appended, where that takes Python.
    pub fn partitions_of(&self, keys: &TypedColumn, partitions: &mut Vec<u32>) -> Result<bool> {
        let Some(native) = &self.native else {
            return Ok(false);
        };
        let sort_keys = native.key.columns(keys)?;
        let Some(sort_keys) = sort_keys.filter(|sort_keys| native.bounds.is_of_kind(sort_keys))
        else {
            return Ok(false);
        };
        native.bounds.count_below(&sort_keys, keys.len(), |below| {
            partitions.push(self.numbered(below));
        })?;
        Ok(true)
    }

    /// The partition of keys above so many bounds.
    fn numbered(&self, below: usize) -> u32 {
        let below = u32::try_from(below).unwrap_or(u32::MAX);
        if self.reverse {
            self.partitions.saturating_sub(1).saturating_sub(below)
        } else {
            below
        }
    }
}

#[pymethods]
impl RangePartitioner {
    /// `bounds` are where all `partitions` but the last end, as `bisect.bisect_left` looks for a sort
    /// key in them; with `reverse` the last partition has the least keys. A key's sort key is
    /// `key(key)`, which computes what is told by `plan`, if that is known.
    #[new]
    #[pyo3(signature = (bounds, partitions, reverse, key, plan=None))]
    fn new(
        bounds: &Bound<'_, PyList>,
        partitions: u32,
        reverse: bool,
        key: Py<PyAny>,
        plan: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let native = match plan.map(plan::sort_key).transpose()?.flatten() {
            Some(key) => {
                let bounds = column_of(bounds)?.map(Cow::Owned);
                let bounds = bounds.and_then(KeyColumns::of);
                bounds.map(|bounds| Native { key, bounds })
            }
            None => None,
        };
        Ok(Self {
            bounds: bounds.clone().unbind(),
            partitions,
            reverse,
            key,
            plan: plan.map(|plan| plan.clone().unbind()),
            native,
        })
    }

    /// The partition of a key, from 0.
    fn __call__(&self, key: &Bound<'_, PyAny>) -> PyResult<u32> {
        self.partition(key.as_borrowed())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let (py, this) = (slf.py(), slf.get());
        let plan = this.plan.as_ref().map(|plan| plan.clone_ref(py));
        let arguments = (
            this.bounds.clone_ref(py),
            this.partitions,
            this.reverse,
            this.key.clone_ref(py),
            plan,
        );
        let arguments = arguments.into_pyobject(py)?.into_any();
        Ok((slf.get_type().into_any(), arguments))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        visit.call(&self.bounds)?;
        visit.call(&self.key)?;
        visit.call(&self.plan)
    }
}

/// A key, behind the number that it was drawn by.
type Drawn<'py> = (f64, Bound<'py, PyAny>);

/// Counts records, and draws some of their keys.
///
/// `uniform()` gives a number from 0 to 1 for each record, in their order. Of n records there are at
/// least those keys for which it is below `wanted` / n, in their order, each behind its number.
#[pyfunction]
pub fn sample_keys<'py>(
    records: &Bound<'py, PyAny>,
    uniform: &Bound<'py, PyAny>,
    wanted: f64,
) -> PyResult<(usize, Vec<Drawn<'py>>)> {
    let py = records.py();
    let records = records.try_iter()?.into_any();
    let mut sample = Sample {
        uniform,
        wanted,
        seen: 0,
        keys: Vec::new(),
    };
    loop {
        let columns = next_columns(&records, AT_ONCE, Form::Whole, &mut |_, _| true)?;
        if let Some((keys, _)) = columns {
            for row in 0..keys.len() {
                if let Some(number) = sample.draws()? {
                    sample.push(number, typed::get(py, &keys, row)?)?;
                }
            }
        } else if let Some(record) = ffi::next(&records)? {
            if let Some(number) = sample.draws()? {
                let key = match ffi::pair(&record) {
                    Some(pair) => pair.key.to_owned().unbind(),
                    None => record.get_item(0)?.unbind(),
                };
                sample.push(number, key.into_bound(py))?;
            }
        } else {
            sample.cut();
            return Ok((sample.seen, sample.keys));
        }
        if sample.seen.is_multiple_of(AT_ONCE) {
            py.check_signals()?;
        }
    }
}

/// Records that are read between looks for signals.
const AT_ONCE: usize = 1024;

/// Keys that are drawn from the records seen so far.
struct Sample<'a, 'py> {
    uniform: &'a Bound<'py, PyAny>,
    wanted: f64,
    seen: usize,
    keys: Vec<Drawn<'py>>,
}

impl<'py> Sample<'_, 'py> {
    /// The numbers of keys that are drawn are below this, the less the more records there are.
    #[allow(clippy::cast_precision_loss)] // there are fewer than 2**53
    fn threshold(&self) -> f64 {
        self.wanted / self.seen as f64
    }

    /// Counts a record, and tells the number by which its key is drawn, if it is.
    #[inline]
    fn draws(&mut self) -> PyResult<Option<f64>> {
        self.seen += 1;
        let number = self.uniform.call0()?.extract()?;
        Ok((number < self.threshold()).then_some(number))
    }

    fn push(&mut self, number: f64, key: Bound<'py, PyAny>) -> Result<()> {
        if self.keys.len() == self.keys.capacity() {
            self.cut();
            memory::try_grow(&mut self.keys, 1, "a sample of keys")?;
        }
        self.keys.push((number, key));
        Ok(())
    }

    /// Forgets those that are not among the drawn any more.
    fn cut(&mut self) {
        let threshold = self.threshold();
        self.keys.retain(|(number, _)| *number < threshold);
    }
}
