//! [`JoinedRecords`]: what joins and `cogroup` make of groups of tagged values.

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyList};

use super::ffi;
use super::gil_cell::GilCell;
use super::handover::{Form, next_columns};
use super::object_table::pair_of;
use super::typed;
use super::typed_table::as_pair;
use crate::column::typed::{Lists, TypedColumn};
use crate::error::{Error, Result};
use crate::memory;

/// Groups that are handed over at once.
const CHUNK_GROUPS: usize = 512;

/// Values of a group larger than memory that are written together.
const WRITTEN_AT_ONCE: usize = 4096;

const WHAT: &str = "the values of a key";

/// Groups that came as columns.
struct Chunk {
    keys: TypedColumn,
    /// Of tuples of a tag and a value.
    groups: Lists,
    row: usize,
}

impl Chunk {
    /// The tags and the values in all groups.
    fn items(&self) -> Option<(&TypedColumn, &TypedColumn)> {
        tagged(&self.groups.items)
    }
}

/// The tags and the values of a column of tuples of these.
fn tagged(items: &TypedColumn) -> Option<(&TypedColumn, &TypedColumn)> {
    match items {
        TypedColumn::Tuple(fields) => match fields.as_slice() {
            [tags @ (TypedColumn::Int(_) | TypedColumn::Bool(_)), values] => Some((tags, values)),
            _ => None,
        },
        _ => None,
    }
}

fn side_at(tags: &TypedColumn, row: usize) -> Option<usize> {
    match tags {
        TypedColumn::Bool(tags) => tags.get(row).map(|&tag| usize::from(tag)),
        TypedColumn::Int(tags) => tags.get(row).and_then(|&tag| usize::try_from(tag).ok()),
        _ => None,
    }
}

fn side_of(tag: Borrowed<'_, '_, PyAny>) -> Option<usize> {
    match tag.cast_exact::<PyBool>() {
        Ok(tag) => Some(usize::from(tag.is_true())),
        Err(_) => usize::try_from(ffi::as_i64(tag)?).ok(),
    }
}

/// What is made of a group.
enum Product {
    /// Pairs of a value of either side, in the order of the first. In place of a side without
    /// values there is a `None` if the other one is kept.
    Pairs {
        keeps: [bool; 2],
        next: (usize, usize),
    },
    /// One tuple of what a function makes of the list of each side's values.
    Groups {
        wrap: Py<PyAny>,
        is_next: bool,
        /// Makes a list of lists that goes to disk.
        external: Py<PyAny>,
        /// Values of each side that are there already, where the group is larger than memory.
        on_disk: Vec<Option<Py<PyAny>>>,
    },
}

struct State {
    groups: Py<PyAny>,
    chunk: Option<Chunk>,
    key: Option<Py<PyAny>>,
    /// The values of the key, by side.
    sides: Vec<Vec<Py<PyAny>>>,
    product: Product,
}

impl State {
    fn next<'py>(&mut self, py: Python<'py>) -> Result<Option<Bound<'py, PyAny>>> {
        loop {
            if let Some(value) = self.next_of_group(py)? {
                let Some(key) = &self.key else {
                    return Ok(None);
                };
                return Ok(Some(ffi::new_pair(py, key.clone_ref(py), value)?));
            }
            for side in &mut self.sides {
                side.clear();
            }
            py.check_signals()?;
            if !self.read_group(py)? {
                return Ok(None);
            }
            self.start_group(py)?;
        }
    }

    /// The next value of the key that was read last; `None` where there is no more.
    fn next_of_group(&mut self, py: Python<'_>) -> Result<Option<Py<PyAny>>> {
        match &mut self.product {
            Product::Pairs {
                next: (left, right),
                ..
            } => {
                let [lefts, rights] = self.sides.as_slice() else {
                    return Ok(None);
                };
                if *right >= rights.len() {
                    *right = 0;
                    *left += 1;
                }
                let (Some(one), Some(other)) = (lefts.get(*left), rights.get(*right)) else {
                    return Ok(None);
                };
                *right += 1;
                let pair = ffi::new_pair(py, one.clone_ref(py), other.clone_ref(py))?;
                Ok(Some(pair.unbind()))
            }
            Product::Groups {
                wrap,
                is_next,
                on_disk,
                ..
            } => {
                if !std::mem::take(is_next) {
                    return Ok(None);
                }
                let (count, sides) = (self.sides.len(), &mut self.sides);
                let group = |side: usize| -> PyResult<Bound<'_, PyAny>> {
                    let values = take_list(py, sides.get_mut(side))?;
                    let Some(on_disk) = on_disk.get_mut(side).and_then(Option::take) else {
                        return wrap.bind(py).call1((values,));
                    };
                    on_disk.call_method1(py, "append", (values,))?;
                    wrap.bind(py).call1((on_disk,))
                };
                let groups = ffi::new_tuple(py, count, group)?;
                Ok(Some(groups.unbind()))
            }
        }
    }

    /// Prepares for the first value of a key whose values have been read.
    fn start_group(&mut self, py: Python<'_>) -> Result<()> {
        match &mut self.product {
            Product::Pairs { keeps, next } => {
                *next = (0, 0);
                if let [lefts, rights] = self.sides.as_mut_slice() {
                    let [keeps_lefts, keeps_rights] = *keeps;
                    for (side, fills) in [(lefts, keeps_rights), (rights, keeps_lefts)] {
                        if side.is_empty() && fills {
                            memory::try_grow(side, 1, WHAT)?;
                            side.push(py.None());
                        }
                    }
                }
            }
            Product::Groups { is_next, .. } => *is_next = true,
        }
        Ok(())
    }

    /// Reads the values of the next key; `false` where there is none.
    fn read_group(&mut self, py: Python<'_>) -> Result<bool> {
        let groups = self.groups.bind(py).clone();
        if self
            .chunk
            .as_ref()
            .is_none_or(|chunk| chunk.row >= chunk.keys.len())
        {
            self.chunk = None;
            let handed = next_columns(
                &groups,
                CHUNK_GROUPS,
                Form::Whole,
                &mut |_, groups| matches!(groups, TypedColumn::List(lists) if tagged(&lists.items).is_some()),
            )?;
            if let Some((keys, TypedColumn::List(groups))) = handed {
                self.chunk = Some(Chunk {
                    keys,
                    groups,
                    row: 0,
                });
            }
        }
        if let Some(chunk) = &mut self.chunk {
            let (row, rows) = (chunk.row, chunk.groups.range(chunk.row));
            chunk.row += 1;
            self.key = Some(typed::get(py, &chunk.keys, row)?.unbind());
            if let Some((tags, values)) = chunk.items() {
                for at in rows {
                    let value = typed::get(py, values, at)?;
                    put(&mut self.sides, side_at(tags, at), value)?;
                }
            }
            return Ok(true);
        }
        let Some(group) = ffi::next(&groups)? else {
            return Ok(false);
        };
        let group = as_pair(group)?;
        let pair = pair_of(&group)?;
        self.key = Some(pair.key.to_owned().unbind());
        // One that is larger than memory is no list.
        let is_on_disk = !pair.value.is_exact_instance_of::<PyList>();
        for item in pair.value.try_iter()? {
            let item = item?;
            let Some(tagged) = ffi::pair(&item) else {
                return Err(Error::Usage("a value without its side's number".to_owned()));
            };
            let side = side_of(tagged.key);
            put(&mut self.sides, side, tagged.value.to_owned())?;
            if is_on_disk && let Some(side) = side {
                self.write_long(py, side)?;
            }
        }
        Ok(true)
    }

    /// Writes the values of a side that are in memory, where they are many and are to be a group.
    fn write_long(&mut self, py: Python<'_>, side: usize) -> Result<()> {
        let Product::Groups {
            external, on_disk, ..
        } = &mut self.product
        else {
            return Ok(());
        };
        let (Some(values), Some(on_disk)) = (self.sides.get_mut(side), on_disk.get_mut(side))
        else {
            return Ok(());
        };
        if values.len() < WRITTEN_AT_ONCE {
            return Ok(());
        }
        if on_disk.is_none() {
            let empty = external.bind(py).call1((ffi::empty_list(py)?,))?;
            *on_disk = Some(empty.unbind());
        }
        if let Some(on_disk) = on_disk {
            let on_disk = on_disk.bind(py);
            on_disk.call_method1("append", (take_list(py, Some(values))?,))?;
            on_disk.call_method0("_spill")?;
        }
        Ok(())
    }
}

/// The values of a side as a list; none are left there.
fn take_list<'py>(
    py: Python<'py>,
    values: Option<&mut Vec<Py<PyAny>>>,
) -> PyResult<Bound<'py, PyList>> {
    let values = values.map(std::mem::take).unwrap_or_default();
    ffi::new_list(py, values.into_iter().map(|value| value.into_bound(py)))
}

/// Adds a value to that side.
#[inline]
fn put(sides: &mut [Vec<Py<PyAny>>], side: Option<usize>, value: Bound<'_, PyAny>) -> Result<()> {
    let Some(values) = side.and_then(|side| sides.get_mut(side)) else {
        return Err(Error::Usage(
            "a value of a side that there is not".to_owned(),
        ));
    };
    memory::try_grow(values, 1, WHAT)?;
    values.push(value.unbind());
    Ok(())
}

/// Iterator over what a join makes of groups of values that are tagged with the number of their
/// side: (key, (left, right)) for each two, one key after the other; or, for `cogroup`, (key, groups).
///
/// An error ends it; `close()` frees what it holds.
#[pyclass(module = "ferroshuffle._core", frozen)]
pub struct JoinedRecords {
    /// `Some(None)` at the end.
    state: GilCell<Option<Box<State>>>,
}

impl JoinedRecords {
    fn of(groups: &Bound<'_, PyAny>, sides: usize, product: Product) -> PyResult<Self> {
        Ok(Self {
            state: GilCell::new(Some(Box::new(State {
                groups: groups.try_iter()?.into_any().unbind(),
                chunk: None,
                key: None,
                sides: (0..sides).map(|_| Vec::new()).collect(),
                product,
            }))),
        })
    }
}

#[pymethods]
impl JoinedRecords {
    /// Of `groups`, (key, tagged values), with `False` or 0 as the tag of the left side and `True`
    /// or 1 as that of the right one. Where one side has no value for a key, there is `None` in its
    /// place if the other one `keeps` its values.
    #[staticmethod]
    #[pyo3(signature = (groups, keeps))]
    fn pairs(groups: &Bound<'_, PyAny>, keeps: (bool, bool)) -> PyResult<Self> {
        let product = Product::Pairs {
            keeps: keeps.into(),
            next: (0, 0),
        };
        Self::of(groups, 2, product)
    }

    /// The same as tuples of what `wrap` makes of the list of values of each of `sides`; or of one
    /// that `external` makes of a list of lists, where the group is larger than memory.
    #[staticmethod]
    #[pyo3(signature = (groups, sides, wrap, external))]
    fn cogroups(
        groups: &Bound<'_, PyAny>,
        sides: usize,
        wrap: Py<PyAny>,
        external: Py<PyAny>,
    ) -> PyResult<Self> {
        let product = Product::Groups {
            wrap,
            is_next: false,
            external,
            on_disk: (0..sides).map(|_| None).collect(),
        };
        Self::of(groups, sides, product)
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.state.step(py, busy, |state| state.next(py))
    }

    /// Frees what the iterator holds; it is at its end then.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.state.end(py, busy)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        let seen = self.state.see_in_traverse(|state| {
            let Some(state) = state else {
                return Ok(());
            };
            visit.call(&state.groups)?;
            visit.call(&state.key)?;
            if let Product::Groups {
                wrap,
                external,
                on_disk,
                ..
            } = &state.product
            {
                visit.call(wrap)?;
                visit.call(external)?;
                on_disk.iter().try_for_each(|list| visit.call(list))?;
            }
            let mut values = state.sides.iter().flatten();
            values.try_for_each(|value| visit.call(value))
        });
        seen.unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        Python::attach(|py| drop(self.state.put(py, None)));
    }
}

#[cold]
fn busy() -> PyErr {
    PyRuntimeError::new_err(
        "these joined records are being read already: a function called meanwhile reads on",
    )
}
