//! Plans of native aggregates, as `ferroshuffle.native` tells them.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::typed;
use crate::aggregate::plan::{Comparison, Plan, Shape, Source, State, Step};

/// The plan for an aggregator; `None` where its functions are to be called.
pub fn plan_of(agg: &Bound<'_, PyAny>) -> PyResult<Option<Plan>> {
    let module = agg.py().import("ferroshuffle.shuffle")?;
    let plan = module.call_method1("_plan_of", (agg,))?;
    if plan.is_none() {
        return Ok(None);
    }
    let (combiner, value_sizes, combiner_sizes, holds_for_lists): (Bound<'_, PyAny>, _, _, _) =
        plan.extract()?;
    let shape = shape(&combiner)?;
    Ok(shape.map(|shape| Plan {
        shape,
        value_sizes,
        combiner_sizes,
        holds_for_lists,
    }))
}

/// Whether the engine takes a plan, as far as that does not depend on the records.
#[pyfunction]
pub fn takes_plan(plan: &Bound<'_, PyTuple>) -> PyResult<bool> {
    Ok(shape(&plan.get_item(0)?)?.is_some())
}

/// `None` where a constant is not typed.
fn shape(combiner: &Bound<'_, PyAny>) -> PyResult<Option<Shape>> {
    let combiner = combiner.cast::<PyTuple>()?;
    let kind: String = combiner.get_item(0)?.extract()?;
    if kind == "fields" {
        let fields = combiner.get_item(1)?.try_iter()?;
        let fields: PyResult<Option<_>> = fields.map(|field| shape(&field?)).collect();
        return Ok(fields?.map(Shape::Fields));
    }
    let state = || -> PyResult<Option<State>> {
        let Some(create) = source(&combiner.get_item(1)?)? else {
            return Ok(None);
        };
        let mut steps = Vec::new();
        for at in 2..5 {
            let Some(step) = step(&combiner.get_item(at)?)? else {
                return Ok(None);
            };
            steps.push(step);
        }
        let [first, merge_value, merge_combiner] =
            <[Step; 3]>::try_from(steps).map_err(|_| unknown("state"))?;
        Ok(Some(State {
            create,
            first,
            merge_value,
            merge_combiner,
        }))
    };
    Ok(state()?.map(Box::new).map(Shape::State))
}

fn step(step: &Bound<'_, PyAny>) -> PyResult<Option<Step>> {
    let step = step.cast::<PyTuple>()?;
    let kind: String = step.get_item(0)?.extract()?;
    let operand = |at| source(&step.get_item(at)?);
    Ok(match kind.as_str() {
        "keep" => Some(Step::Keep),
        "take" => operand(1)?.map(Step::Take),
        "add" => operand(1)?.map(Step::Add),
        "extend" => operand(1)?.map(Step::Extend),
        "add in front" => operand(1)?.map(Step::AddInFront),
        "choose" => {
            let comparison: String = step.get_item(2)?.extract()?;
            let comparison = match comparison.as_str() {
                "<" => Comparison::Less,
                "<=" => Comparison::LessOrEqual,
                ">" => Comparison::Greater,
                ">=" => Comparison::GreaterOrEqual,
                _ => return Err(unknown(&comparison)),
            };
            let at = step.get_item(1)?.extract()?;
            let keeps = step.get_item(4)?.extract()?;
            operand(3)?
                .zip(operand(5)?)
                .map(|(operand, value)| Step::Choose {
                    at,
                    comparison,
                    operand,
                    keeps,
                    value,
                })
        }
        _ => return Err(unknown(&kind)),
    })
}

fn source(operand: &Bound<'_, PyAny>) -> PyResult<Option<Source>> {
    let (kind, what): (String, Bound<'_, PyAny>) = operand.extract()?;
    if kind == "value" {
        return Ok(Some(Source::Value(what.extract()?)));
    }
    if kind == "list" {
        let items = what.try_iter()?.map(|item| source(&item?));
        let items: PyResult<Option<_>> = items.collect();
        return Ok(items?.map(Source::List));
    }
    let constant = what.as_borrowed();
    let Some(mut column) = typed::column_for(constant) else {
        return Ok(None);
    };
    let has_fit = typed::push(&mut column, constant)?;
    Ok(has_fit.then_some(Source::Constant(column)))
}

#[cold]
fn unknown(what: &str) -> PyErr {
    PyValueError::new_err(format!("a plan of another version: {what:?} is not known"))
}
