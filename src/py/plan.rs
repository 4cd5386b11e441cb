//! Plans of native aggregates, as `ferroshuffle.native` tells them.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::typed;
use crate::aggregate::expr::{Expr, Function, Operator};
use crate::aggregate::plan::{Comparison, Plan, Shape, Source, State, Step};
use crate::column::typed::TypedColumn;
use crate::sort::key::{Part, SortKey};

/// The plan for an aggregator; `None` where its functions are to be called.
pub fn plan_of(agg: &Bound<'_, PyAny>) -> PyResult<Option<Plan>> {
    let module = agg.py().import("ferroshuffle.shuffle")?;
    let plan = module.call_method1("_plan_of", (agg,))?;
    if plan.is_none() {
        return Ok(None);
    }
    let (combiner, value_sizes, combiner_sizes, holds_for_lists): (Bound<'_, PyAny>, _, _, _) =
        plan.extract()?;
    let (mut of_values, mut of_combiners) = (Vec::new(), Vec::new());
    let shape = shape(&combiner, &mut of_values, &mut of_combiners)?;
    Ok(shape.map(|shape| Plan {
        shape,
        value_sizes,
        combiner_sizes,
        holds_for_lists,
        of_values,
        of_combiners,
    }))
}

/// Whether the engine takes a plan, as far as that does not depend on the records.
#[pyfunction]
pub fn takes_plan(plan: &Bound<'_, PyTuple>) -> PyResult<bool> {
    let shape = shape(&plan.get_item(0)?, &mut Vec::new(), &mut Vec::new())?;
    Ok(shape.is_some())
}

/// What a sort key function computes; `None` where it is to be called.
pub fn sort_key(told: &Bound<'_, PyAny>) -> PyResult<Option<SortKey>> {
    if told.is_none() {
        return Ok(None);
    }
    let (key, sizes): (Bound<'_, PyAny>, _) = told.extract()?;
    Ok(part(&key)?.map(|key| SortKey { key, sizes }))
}

fn part(told: &Bound<'_, PyAny>) -> PyResult<Option<Part>> {
    let (kind, what): (String, Bound<'_, PyAny>) = told.extract()?;
    Ok(match kind.as_str() {
        "of" => Some(Part::Of(what.extract()?)),
        "lower" => Some(Part::Lower(what.extract()?)),
        "tuple" => {
            let items = what.try_iter()?.map(|item| part(&item?));
            items.collect::<PyResult<Option<_>>>()?.map(Part::Tuple)
        }
        "computed" => expression(&what)?.map(Part::Computed),
        _ => return Err(unknown(&kind)),
    })
}

/// `None` where a constant is not typed. What is computed of values, and of combiners that are
/// merged into others, is added to the expressions.
fn shape(
    combiner: &Bound<'_, PyAny>,
    of_values: &mut Vec<Expr>,
    of_combiners: &mut Vec<Expr>,
) -> PyResult<Option<Shape>> {
    let combiner = combiner.cast::<PyTuple>()?;
    let kind: String = combiner.get_item(0)?.extract()?;
    if kind == "fields" {
        let fields = combiner.get_item(1)?.try_iter()?;
        let fields = fields.map(|field| shape(&field?, of_values, of_combiners));
        let fields: PyResult<Option<_>> = fields.collect();
        return Ok(fields?.map(Shape::Fields));
    }
    let Some(create) = source(&combiner.get_item(1)?, of_values)? else {
        return Ok(None);
    };
    let Some(first) = step(&combiner.get_item(2)?, of_values)? else {
        return Ok(None);
    };
    let Some(merge_value) = step(&combiner.get_item(3)?, of_values)? else {
        return Ok(None);
    };
    let merge_combiner = step(&combiner.get_item(4)?, of_combiners)?;
    Ok(merge_combiner.map(|merge_combiner| {
        Shape::State(Box::new(State {
            create,
            first,
            merge_value,
            merge_combiner,
        }))
    }))
}

fn step(step: &Bound<'_, PyAny>, computed: &mut Vec<Expr>) -> PyResult<Option<Step>> {
    let step = step.cast::<PyTuple>()?;
    let kind: String = step.get_item(0)?.extract()?;
    let mut operand = |at| source(&step.get_item(at)?, computed);
    Ok(match kind.as_str() {
        "keep" => Some(Step::Keep),
        "take" => operand(1)?.map(Step::Take),
        "add" => operand(1)?.map(Step::Add),
        "add all" => {
            let operands = step.get_item(1)?.try_iter()?;
            let operands = operands.map(|operand| source(&operand?, computed));
            operands.collect::<PyResult<Option<_>>>()?.map(Step::AddAll)
        }
        "extend" => operand(1)?.map(Step::Extend),
        "insert" => operand(1)?.map(Step::Insert),
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
        "choose by" => {
            let test = expression(&step.get_item(1)?)?;
            let keeps = step.get_item(2)?.extract()?;
            let value = operand(3)?;
            test.zip(value)
                .map(|(test, value)| Step::ChooseBy { test, keeps, value })
        }
        "compute" => expression(&step.get_item(1)?)?.map(Step::Compute),
        _ => return Err(unknown(&kind)),
    })
}

fn source(operand: &Bound<'_, PyAny>, computed: &mut Vec<Expr>) -> PyResult<Option<Source>> {
    let (kind, what): (String, Bound<'_, PyAny>) = operand.extract()?;
    Ok(match kind.as_str() {
        "value" => Some(Source::Value(what.extract()?)),
        "constant" => constant(&what)?.map(Source::Constant),
        "list" | "set" => {
            let items = what.try_iter()?.map(|item| source(&item?, computed));
            let items = items.collect::<PyResult<Option<_>>>()?;
            items.map(if kind == "set" {
                Source::Set
            } else {
                Source::List
            })
        }
        "computed" => expression(&what)?.map(|expression| {
            computed.push(expression);
            Source::Computed(computed.len() - 1)
        }),
        _ => return Err(unknown(&kind)),
    })
}

fn constant(object: &Bound<'_, PyAny>) -> PyResult<Option<TypedColumn>> {
    let constant = object.as_borrowed();
    let Some(mut column) = typed::column_for(constant) else {
        return Ok(None);
    };
    let has_fit = typed::push(&mut column, constant)?;
    Ok(has_fit.then_some(column))
}

/// `None` where a constant is not typed.
fn expression(expression: &Bound<'_, PyAny>) -> PyResult<Option<Expr>> {
    let expression = expression.cast::<PyTuple>()?;
    let kind: String = expression.get_item(0)?.extract()?;
    let part = |at| -> PyResult<Option<Box<Expr>>> {
        let part = self::expression(&expression.get_item(at)?)?;
        Ok(part.map(Box::new))
    };
    Ok(match kind.as_str() {
        "field" => Some(Expr::Field(expression.get_item(1)?.extract()?)),
        "value" => Some(Expr::Value(expression.get_item(1)?.extract()?)),
        "constant" => constant(&expression.get_item(1)?)?.map(Expr::Constant),
        "apply" => {
            let function = function(&expression.get_item(1)?.extract::<String>()?)?;
            part(2)?.map(|of| Expr::Apply(function, of))
        }
        "operate" => {
            let operator = operator(&expression.get_item(1)?.extract::<String>()?)?;
            let (left, right) = (part(2)?, part(3)?);
            left.zip(right)
                .map(|(left, right)| Expr::Operate(operator, left, right))
        }
        "extreme" => {
            let is_max = expression.get_item(1)?.extract()?;
            let of = expression.get_item(2)?.try_iter()?;
            let of = of.map(|each| self::expression(&each?));
            let of = of.collect::<PyResult<Option<_>>>()?;
            of.map(|of| Expr::Extreme { is_max, of })
        }
        "if" => {
            let (test, then, other) = (part(1)?, part(2)?, part(3)?);
            let branches = then.zip(other);
            test.zip(branches)
                .map(|(test, (then, other))| Expr::If(test, then, other))
        }
        _ => return Err(unknown(&kind)),
    })
}

fn function(name: &str) -> PyResult<Function> {
    Ok(match name {
        "-" => Function::Negative,
        "not" => Function::Not,
        "abs" => Function::Absolute,
        "len" => Function::Length,
        "is None" => Function::IsNone,
        _ => return Err(unknown(name)),
    })
}

fn operator(spelt: &str) -> PyResult<Operator> {
    Ok(match spelt {
        "+" => Operator::Add,
        "-" => Operator::Subtract,
        "*" => Operator::Multiply,
        "&" => Operator::And,
        "|" => Operator::Or,
        "^" => Operator::Xor,
        "<" => Operator::Less,
        "<=" => Operator::LessOrEqual,
        ">" => Operator::Greater,
        ">=" => Operator::GreaterOrEqual,
        "==" => Operator::Equal,
        "!=" => Operator::NotEqual,
        _ => return Err(unknown(spelt)),
    })
}

#[cold]
fn unknown(what: &str) -> PyErr {
    PyValueError::new_err(format!("a plan of another version: {what:?} is not known"))
}
