use mslite_tensor::{DType, Dim, Shape, Symbol, TensorSpec};

use super::Inferred;
use crate::Graph;
use crate::ir::op::{If, Loop};

pub(super) fn branch(branch: &If, operands: &[&TensorSpec]) -> Inferred {
    let Some((condition, operands)) = operands.split_first() else {
        return Err("it needs a condition".to_owned());
    };
    check_condition(condition)?;
    let (then, otherwise) = operands
        .split_at_checked(branch.then.inputs().len())
        .ok_or_else(|| format!("{} operands are too few", operands.len()))?;
    check_inputs("the graph of then", &branch.then, then)?;
    check_inputs("the graph of otherwise", &branch.otherwise, otherwise)?;
    let (results, others) = (outputs(&branch.then), outputs(&branch.otherwise));
    match results.iter().zip(&others).find(|(a, b)| a != b) {
        Some((a, b)) => Err(format!("one graph gives {a}, the other {b}")),
        None if results.len() != others.len() => {
            Err(format!("one graph gives {} results, the other {}", results.len(), others.len()))
        }
        None => {
            leaves(&branch.then, &results)?;
            Ok(results)
        }
    }
}

pub(super) fn turns(turns: &Loop, operands: &[&TensorSpec]) -> Inferred {
    check_inputs("the body", &turns.body, operands)?;
    let mut outputs = outputs(&turns.body);
    if outputs.len() <= turns.carried || operands.len() < turns.carried {
        return Err(format!("the body does not give a condition and {} carried values", turns.carried));
    }
    check_condition(&outputs[0])?;
    let results = outputs.split_off(1 + turns.carried);
    match outputs[1..].iter().zip(operands).find(|(next, first)| next != *first) {
        Some((next, first)) => Err(format!("a carried value is {first} in the first turn and then {next}")),
        None => {
            leaves(&turns.body, &results)?;
            Ok(results)
        }
    }
}

/// Checks that extents which are known inside a graph only do not leave it.
fn leaves(graph: &Graph, results: &[TensorSpec]) -> Inferred<()> {
    let dims = results.iter().flat_map(|spec| spec.shape.dims().unwrap_or_default());
    let symbols: Vec<Symbol> = dims.flat_map(Dim::symbols).collect();
    if symbols.is_empty() {
        return Ok(());
    }
    let bound = graph.bound_symbols();
    match symbols.iter().find(|symbol| bound.contains(symbol)) {
        Some(symbol) => Err(format!("the extent {symbol} of a result follows from data inside")),
        None => Ok(()),
    }
}

fn check_condition(spec: &TensorSpec) -> Inferred<()> {
    if (spec.dtype, spec.shape.rank()) == (DType::Bool, Some(0)) {
        return Ok(());
    }
    Err(format!("the condition is {spec}, not {}", TensorSpec::new(DType::Bool, Shape::scalar())))
}

fn check_inputs(what: &str, graph: &Graph, operands: &[&TensorSpec]) -> Inferred<()> {
    if graph.inputs().len() != operands.len() {
        return Err(format!("{what} takes {} inputs, not {}", graph.inputs().len(), operands.len()));
    }
    let mut pairs = graph.inputs().iter().map(|port| graph.spec(port.value)).zip(operands);
    match pairs.find(|(input, operand)| input != *operand) {
        Some((input, operand)) => Err(format!("{what} takes {input}, not {operand}")),
        None => Ok(()),
    }
}

fn outputs(graph: &Graph) -> Vec<TensorSpec> {
    graph.outputs().iter().map(|port| graph.spec(port.value).clone()).collect()
}
