//! Parts of a graph as graphs of their own.

use std::collections::{HashMap, HashSet};

use mslite_graph_opt::ir::Def;
use mslite_graph_opt::{Graph, GraphBuilder, NodeId, ValueId};
use mslite_tensor::{Dim, Shape, Symbol};

use crate::Result;

/// A part of a graph. Constants belong to it; everything else that it reads is an input, states included, and
/// what others read is an output. It also takes inputs of the whole graph that it does not read, where only their
/// extents tell the value of a symbol.
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
        for value in symbol_sources(graph, &inputs) {
            inputs.push(value);
            builder.input(name_of(graph, value), graph.spec(value).clone());
        }
        let outputs = read_outside(graph, nodes);
        for &value in &outputs {
            builder.output(name_of(graph, value), known[&value]);
        }
        Ok(Region { graph: builder.finish()?, inputs, outputs })
    }
}

/// Inputs of the graph that declare a symbol that none of `inputs` declares.
fn symbol_sources(graph: &Graph, inputs: &[ValueId]) -> Vec<ValueId> {
    let mut declared: HashSet<Symbol> =
        inputs.iter().flat_map(|&value| declared_symbols(&graph.spec(value).shape)).collect();
    let mut sources = Vec::new();
    for port in graph.inputs() {
        let known = declared.len();
        declared.extend(declared_symbols(&graph.spec(port.value).shape));
        if declared.len() > known {
            sources.push(port.value);
        }
    }
    sources
}

/// Symbols that are an extent by themselves.
fn declared_symbols(shape: &Shape) -> Vec<Symbol> {
    let dims = shape.dims().unwrap_or_default();
    dims.iter().filter_map(|dim| dim.symbols().into_iter().find(|s| *dim == Dim::symbol(s))).collect()
}

/// Results of `nodes` that other nodes, outputs or states read.
fn read_outside(graph: &Graph, nodes: &[NodeId]) -> Vec<ValueId> {
    let mut outside = vec![false; graph.values().len()];
    let inside: HashSet<NodeId> = nodes.iter().copied().collect();
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
    use mslite_tensor::{DType, Dim, Shape, Tensor, TensorSpec};

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

    #[test]
    fn a_region_keeps_the_input_that_tells_a_symbol() {
        let mut builder = GraphBuilder::new("g");
        let of = |name: &str| TensorSpec::new(DType::F32, Shape::ranked([Dim::symbol(name), Dim::from(2)]));
        let x = builder.input("x", of("rows"));
        let y = builder.input("y", of("columns"));
        builder.input("z", of("rows"));
        let read = builder.push1(Op::Unary(Unary::Abs), &[y], &"abs".into()).unwrap();
        let extents = Op::Extents(vec![Dim::symbol("rows"), Dim::symbol("columns")]);
        let counted = builder.push1(extents, &[], &"shape".into()).unwrap();
        builder.output("abs", read);
        builder.output("shape", counted);
        let graph = builder.finish().unwrap();
        let region = Region::extract(&graph, &[0, 1].map(NodeId::new)).unwrap();
        assert_eq!((region.inputs, region.outputs), (vec![y, x], vec![read, counted]));
        let bound = mslite_graph_opt::specialise(&region.graph, &[&[3, 2], &[5, 2]]).unwrap();
        let node = bound.nodes().last().unwrap().1;
        assert_eq!(node.op, Op::Extents(vec![Dim::from(5), Dim::from(3)]));
    }
}
