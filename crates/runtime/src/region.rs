//! Parts of a graph as graphs of their own.

use std::collections::HashMap;

use mslite_graph_opt::ir::Def;
use mslite_graph_opt::{Graph, GraphBuilder, NodeId, ValueId};

use crate::Result;

/// A part of a graph. Constants belong to it; everything else that it reads is an input, states included, and
/// what others read is an output.
#[derive(Debug, Clone)]
pub struct Region {
    /// The part.
    pub graph: Graph,
    /// Its inputs, as values of the whole graph.
    pub inputs: Vec<ValueId>,
    /// Its outputs, as values of the whole graph.
    pub outputs: Vec<ValueId>,
}

impl Region {
    /// The part of `graph` that consists of `nodes`, which are in execution order.
    ///
    /// # Errors
    /// [`Internal`](crate::ErrorKind::Internal) when the nodes are not in execution order.
    pub fn extract(graph: &Graph, nodes: &[NodeId]) -> Result<Self> {
        let mut builder = GraphBuilder::new(graph.name());
        let mut known: HashMap<ValueId, ValueId> = HashMap::new();
        let mut inputs = Vec::new();
        for &id in nodes {
            let node = graph.node(id);
            let mut operands = Vec::with_capacity(node.operands.len());
            for &value in &node.operands {
                let operand = *known.entry(value).or_insert_with(|| match &graph.value(value).def {
                    Def::Constant(constant) => builder.shared_constant(constant.clone()),
                    _ => {
                        inputs.push(value);
                        builder.input(name_of(graph, value), graph.spec(value).clone())
                    }
                });
                operands.push(operand);
            }
            let results = builder.push(node.op.clone(), &operands, &node.origin)?;
            known.extend(node.results.iter().copied().zip(results));
        }
        let outputs = read_outside(graph, nodes);
        for &value in &outputs {
            builder.output(name_of(graph, value), known[&value]);
        }
        Ok(Region { graph: builder.finish()?, inputs, outputs })
    }
}

/// Results of `nodes` that other nodes, outputs or states read.
fn read_outside(graph: &Graph, nodes: &[NodeId]) -> Vec<ValueId> {
    let mut outside = vec![false; graph.values().len()];
    let inside: std::collections::HashSet<NodeId> = nodes.iter().copied().collect();
    for (_, node) in graph.nodes().filter(|(id, _)| !inside.contains(id)) {
        for value in &node.operands {
            outside[value.index()] = true;
        }
    }
    for value in graph.results() {
        outside[value.index()] = true;
    }
    let results = nodes.iter().flat_map(|&id| graph.node(id).results.iter().copied());
    results.filter(|value| outside[value.index()]).collect()
}

/// A name that is unique in the graph: that of an input or state where the value is one.
fn name_of(graph: &Graph, value: ValueId) -> String {
    match &graph.value(value).def {
        Def::Input(n) => graph.inputs()[*n].name.clone(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use mslite_graph_opt::Op;
    use mslite_graph_opt::ir::op::{Binary, Unary};
    use mslite_tensor::{DType, Tensor, TensorSpec};

    use super::*;

    #[test]
    fn a_region_owns_constants_and_names_its_borders() {
        let mut builder = GraphBuilder::new("g");
        let x = builder.input("x", TensorSpec::fixed(DType::F32, &[2]));
        let c = builder.constant("c", Tensor::from_vec(vec![1.0f32, 2.0], &[2]).unwrap());
        let a = builder.push1(Op::Unary(Unary::Abs), &[x], &"a".into()).unwrap();
        let b = builder.push1(Op::Binary(Binary::Add), &[a, c], &"b".into()).unwrap();
        let d = builder.push1(Op::Binary(Binary::Mul), &[b, a], &"d".into()).unwrap();
        builder.output("y", d);
        let graph = builder.finish().unwrap();
        let region = Region::extract(&graph, &[NodeId::new(1)]).unwrap();
        assert_eq!((region.inputs, region.outputs), (vec![a], vec![b]));
        assert_eq!(region.graph.nodes().len(), 1);
        let whole = Region::extract(&graph, &[0, 1, 2].map(NodeId::new)).unwrap();
        assert_eq!((whole.inputs, whole.outputs), (vec![x], vec![d]));
    }
}
