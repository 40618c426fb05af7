//! From symbolic to concrete shapes.

use std::sync::Arc;

use mslite_tensor::{Bindings, DType, Dim, Shape, TensorSpec};

use crate::ir::op::{Op, Random, Slice, TopK};
use crate::ir::{Def, Node};
use crate::{Error, Graph, GraphBuilder, Result};

/// The values of symbols that follow from concrete extents of the inputs, besides those that are known.
///
/// # Errors
/// [`Error::Input`] when an input's extents contradict the graph: another rank or number, or two values for one
/// symbol.
fn bind_inputs(graph: &Graph, dims: &[&[usize]], mut bindings: Bindings) -> Result<Bindings> {
    for (port, actual) in graph.inputs().iter().zip(dims) {
        let shape = &graph.spec(port.value).shape;
        let fail = |reason: String| Err(Error::Input { name: port.name.clone(), reason });
        let Some(expected) = shape.dims() else { continue };
        if expected.len() != actual.len() {
            return fail(format!("has shape {actual:?}, the model takes {shape}"));
        }
        for (dim, &n) in expected.iter().zip(*actual) {
            let n = Dim::from(n);
            if let [symbol] = &dim.symbols()[..]
                && *dim == Dim::symbol(symbol)
            {
                let n = n.as_fixed().unwrap_or_default();
                bindings.entry(symbol.clone()).or_insert(n);
            }
            if dim.bind(&bindings) != n {
                return fail(format!("has shape {actual:?}, the model takes {shape}"));
            }
        }
    }
    Ok(bindings)
}

/// The same graph for concrete extents of its inputs: the same nodes and values under the same ids, with every
/// symbol replaced and every shape inferred anew.
///
/// # Errors
/// [`Error::Input`] when an input's extents contradict the graph, [`Error::Infer`] when a node does not work for these extents.
pub fn specialise(graph: &Graph, dims: &[&[usize]]) -> Result<Graph> {
    specialise_within(graph, dims, &Bindings::new()).map(|(graph, _)| graph)
}

/// As [`specialise`], for a graph inside an operation: the values of some symbols are known from outside. Also gives
/// the values of all.
///
/// # Errors
/// As [`specialise`].
pub fn specialise_within(graph: &Graph, dims: &[&[usize]], known: &Bindings) -> Result<(Graph, Bindings)> {
    if dims.len() != graph.inputs().len() {
        let reason = format!("list has {} tensors, the model takes {}", dims.len(), graph.inputs().len());
        return Err(Error::Input { name: String::new(), reason });
    }
    let bindings = bind_inputs(graph, dims, known.clone())?;
    let graph = rebuild(graph, &bindings, |n, dtype| TensorSpec::new(dtype, Shape::fixed(dims[n])))?;
    Ok((graph, bindings))
}

/// The same graph with symbols replaced; `input` gives the type of the n-th input.
fn rebuild(graph: &Graph, bindings: &Bindings, input: impl Fn(usize, DType) -> TensorSpec) -> Result<Graph> {
    let mut builder = GraphBuilder::new(graph.name());
    let mut nodes = graph.nodes();
    for (id, value) in graph.values() {
        if id.index() < builder.graph().values().len() {
            continue;
        }
        match &value.def {
            Def::Input(n) => {
                builder.input(graph.inputs()[*n].name.clone(), input(*n, value.spec.dtype));
            }
            Def::State(n) => {
                let state = &graph.states()[*n];
                builder.state(state.name.clone(), state.initial.clone());
            }
            Def::Constant(constant) => {
                builder.shared_constant(constant.clone());
            }
            // Nodes without results stand between those with results.
            Def::Node(node, _) => {
                for (at, n) in nodes.by_ref() {
                    push_bound(&mut builder, n, bindings)?;
                    if at == *node {
                        break;
                    }
                }
            }
        }
    }
    for (_, node) in nodes {
        push_bound(&mut builder, node, bindings)?;
    }
    for (i, state) in graph.states().iter().enumerate() {
        builder.set_next(i, state.next)?;
    }
    for port in graph.outputs() {
        builder.output(port.name.clone(), port.value);
    }
    Ok(builder.into_graph())
}

fn push_bound(builder: &mut GraphBuilder, node: &Node, bindings: &Bindings) -> Result<()> {
    let results = builder.push(bind_op(&node.op, bindings)?, &node.operands, &node.origin)?;
    debug_assert!(results == node.results, "values keep their ids");
    Ok(())
}

/// The operation with the symbols in its attributes replaced.
fn bind_op(op: &Op, bindings: &Bindings) -> Result<Op> {
    let bind = |dims: &[Dim]| dims.iter().map(|d| d.bind(bindings)).collect::<Vec<_>>();
    Ok(match op {
        Op::Reshape(dims) => Op::Reshape(bind(dims)),
        Op::Broadcast(dims) => Op::Broadcast(bind(dims)),
        Op::Extents(dims) => Op::Extents(bind(dims)),
        Op::Random(random) => Op::Random(Random { dims: bind(&random.dims), ..random.clone() }),
        Op::Slice(slice) => Op::Slice(Slice {
            starts: bind(&slice.starts),
            sizes: bind(&slice.sizes),
            steps: slice.steps.clone(),
        }),
        Op::OneHot { depth, axis } => Op::OneHot { depth: depth.bind(bindings), axis: *axis },
        Op::TopK(top_k) => Op::TopK(TopK { k: top_k.k.bind(bindings), ..top_k.clone() }),
        other => other.try_map_bodies(|body| bind_body(body, bindings).map(Arc::new))?,
    })
}

fn bind_body(body: &Graph, bindings: &Bindings) -> Result<Graph> {
    rebuild(body, bindings, |n, dtype| {
        TensorSpec::new(dtype, body.spec(body.inputs()[n].value).shape.bind(bindings))
    })
}

#[cfg(test)]
mod tests {
    use mslite_tensor::Tensor;

    use super::*;
    use crate::ir::op::MatMul;

    /// `reshape(x @ w, [2 * batch, 2])` for x of `[batch, 3]` and w of `[3, 4]`.
    fn graph() -> Graph {
        let mut builder = GraphBuilder::new("g");
        let batch = Dim::symbol("batch");
        let x = builder.input("x", TensorSpec::new(DType::F32, Shape::ranked([batch.clone(), Dim::from(3)])));
        let w = builder.constant("w", Tensor::zeros(DType::F32, &[3, 4]).unwrap());
        let y = builder.push1(Op::MatMul(MatMul::default()), &[x, w], &"m".into()).unwrap();
        let dims = vec![&batch * &Dim::from(2), Dim::from(2)];
        let z = builder.push1(Op::Reshape(dims), &[y], &"r".into()).unwrap();
        builder.output("z", z);
        builder.finish().unwrap()
    }

    #[test]
    fn symbols_get_the_values_of_the_inputs() {
        let graph = specialise(&graph(), &[&[5, 3]]).unwrap();
        assert_eq!(graph.spec(graph.outputs()[0].value).to_string(), "f32[10, 2]");
        crate::ir::verify(&graph).unwrap();
    }

    #[test]
    fn contradicting_extents_name_the_input() {
        let error = specialise(&graph(), &[&[5, 4]]).unwrap_err().to_string();
        assert_eq!(error, "input \"x\" has shape [5, 4], the model takes [batch, 3]");
        assert!(specialise(&graph(), &[&[5]]).is_err());
        assert!(specialise(&graph(), &[]).is_err());
    }
}
