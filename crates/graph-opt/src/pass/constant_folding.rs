use std::collections::HashMap;

use mslite_tensor::Tensor;
use smallvec::SmallVec;

use super::{Pass, PassContext, Patch};
use crate::ir::op::Op;
use crate::ir::{Node, ValueId};
use crate::{Error, Graph, Result};

/// Computes what depends on constants only.
///
/// A reshaped constant keeps its bytes, and extents that are numbers become a vector; everything else needs an
/// [`Evaluator`](super::Evaluator). It does not fire for collectives and opaque nodes, nor for nodes with several
/// results, nor where the result would be larger than the operands and than
/// [`FoldLimits`](super::FoldLimits) allow: large weights stay packed.
///
/// ```text
/// constant %1 "b" : f32[2] = [1.0, 2.0]          |  constant %1 "b" : f32[1, 2] = [1.0, 2.0]
/// %2 = reshape(dims=[1, 2]) %1 : f32[1, 2]       |  %2 = add %0, %1 : f32[3, 2]
/// %3 = add %0, %2 : f32[3, 2]                    |
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct ConstantFolding;

impl Pass for ConstantFolding {
    fn name(&self) -> &'static str {
        "constant_folding"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        let mut patch = Patch::new(graph);
        let mut folded: HashMap<ValueId, Tensor> = HashMap::new();
        for (_, node) in graph.nodes() {
            let Some((tensor, bytes)) = fold(graph, node, &folded, cx)? else { continue };
            if cx.spend("constant_operands", &node.origin) {
                cx.count_growth(bytes, tensor.size_bytes());
                let tensor = tensor.into_shared();
                let value = patch.constant(name(graph, node), tensor.clone());
                patch.replace(node.results[0], value);
                folded.insert(node.results[0], tensor);
            }
        }
        Ok(patch.into_change())
    }
}

/// The tensor that a node with constant operands makes, and the bytes of the operands.
fn fold(
    graph: &Graph,
    node: &Node,
    folded: &HashMap<ValueId, Tensor>,
    cx: &PassContext,
) -> Result<Option<(Tensor, usize)>> {
    let constant = |value| graph.constant(value).map(|constant| &constant.tensor);
    let known = |value: &ValueId| folded.get(value).or_else(|| constant(*value));
    let operands: Option<SmallVec<[&Tensor; 3]>> = node.operands.iter().map(known).collect();
    let (Some(operands), &[result]) = (operands, node.results.as_slice()) else { return Ok(None) };
    let spec = graph.spec(result);
    let (Some(dims), Ok(size)) = (spec.shape.as_fixed(), spec.size_bytes()) else { return Ok(None) };
    let bytes = operands.iter().map(|tensor| tensor.size_bytes()).sum();
    if node.op.has_effect() || !cx.may_fold(bytes, size) {
        return Ok(None);
    }
    match evaluate(&node.op, &operands, &dims, cx) {
        Some(tensor) if tensor.spec() != *spec => Err(Error::Verify(format!(
            "{} at {} was evaluated to a {}, not a {spec}",
            node.op.name(),
            node.origin,
            tensor.spec()
        ))),
        tensor => Ok(tensor.map(|tensor| (tensor, bytes))),
    }
}

fn evaluate(op: &Op, operands: &[&Tensor], dims: &[usize], cx: &PassContext) -> Option<Tensor> {
    match (op, operands) {
        (Op::Opaque(_), _) => None,
        (Op::Reshape(_), [x]) => (*x).clone().reshape(dims).ok(),
        (Op::Extents(dims), []) => {
            let numbers = dims.iter().map(|dim| dim.as_fixed()).collect::<Option<Vec<i64>>>()?;
            Tensor::from_vec(numbers, &[dims.len()]).ok()
        }
        (op, operands) => cx.evaluator()?.evaluate(op, operands),
    }
}

/// A parameter's name stays with its bytes.
fn name(graph: &Graph, node: &Node) -> std::sync::Arc<str> {
    match (&node.op, &node.operands[..]) {
        (Op::Reshape(_), [x]) => {
            graph.constant(*x).map_or_else(|| "".into(), |constant| constant.name.clone())
        }
        _ => "".into(),
    }
}
