use mslite_graph_opt::Graph;
use mslite_graph_opt::ir::op::{If, Loop};
use mslite_tensor::Tensor;

use super::array::{Array, Scalar};
use super::evaluate;

pub(super) fn branch(branch: &If, operands: &[&Array]) -> Result<Vec<Array>, String> {
    let (then, otherwise) = operands[1..].split_at(branch.then.inputs().len());
    match is_true(operands[0]) {
        true => run(&branch.then, then),
        false => run(&branch.otherwise, otherwise),
    }
}

pub(super) fn turns(turns: &Loop, operands: &[&Array]) -> Result<Vec<Array>, String> {
    let (first, others) = operands.split_at(turns.carried);
    let mut carried: Vec<Array> = first.iter().map(|&array| array.clone()).collect();
    loop {
        let inputs: Vec<&Array> = carried.iter().chain(others.iter().copied()).collect();
        let mut outputs = run(&turns.body, &inputs)?;
        let results = outputs.split_off(1 + turns.carried);
        if !is_true(&outputs.remove(0)) {
            return Ok(results);
        }
        carried = outputs;
    }
}

fn is_true(condition: &Array) -> bool {
    condition.values[0] != Scalar::Int(0)
}

fn run(graph: &Graph, inputs: &[&Array]) -> Result<Vec<Array>, String> {
    let inputs: Vec<Tensor> = inputs.iter().map(|array| array.to_tensor()).collect();
    evaluate(graph, &inputs)?.iter().map(Array::from_tensor).collect()
}
