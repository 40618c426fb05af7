//! Every operation of the IR by definition: in 64-bit floats and wide integers, index by index, slow and plain.
//!
//! Nothing here is shared with a backend, so that a backend that agrees with it is right, or wrong in the same
//! way for another reason.

pub(crate) mod array;
mod attention;
mod control;
mod elementwise;
mod exchange;
mod layout;
mod linear;
mod ranks;

use std::collections::BTreeMap;

use mslite_graph_opt::ir::Def;
use mslite_graph_opt::{Graph, NodeId, Op, ValueId, specialise, specialise_within};
use mslite_tensor::{Bindings, DType, Symbol, Tensor};

pub use exchange::exchange;
pub use ranks::evaluate_ranks;

use array::{Array, Scalar, broadcast_dims};

/// The outputs of a graph without collectives. Symbolic extents get their values from the inputs; states hold
/// what they hold before the first run.
///
/// # Errors
/// A sentence, for inputs that do not fit, an index out of range, a division of integers by 0, and for opaque
/// operations, which only their backend knows.
pub fn evaluate(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let mut states: Vec<Tensor> = graph.states().iter().map(|state| state.initial.clone()).collect();
    step(graph, inputs, &mut states)
}

/// One run of a graph that keeps state: takes what the states hold and leaves what they hold next.
///
/// # Errors
/// As [`evaluate`].
pub fn step(graph: &Graph, inputs: &[Tensor], states: &mut [Tensor]) -> Result<Vec<Tensor>, String> {
    let mut run = Run::start(graph, inputs, states)?;
    let graph = run.graph.clone();
    for (id, node) in graph.nodes() {
        if matches!(node.op, Op::Collective(_)) {
            return Err(format!("{id} ({}) needs other ranks", node.op.name()));
        }
        run.evaluate_node(id)?;
    }
    run.finish(states)
}

/// The values of a graph during a run.
struct Run {
    graph: Graph,
    values: BTreeMap<ValueId, Array>,
}

impl Run {
    fn start(graph: &Graph, inputs: &[Tensor], states: &[Tensor]) -> Result<Self, String> {
        let dims: Vec<&[usize]> = inputs.iter().map(Tensor::dims).collect();
        let graph = specialise(graph, &dims).map_err(|e| e.to_string())?;
        let mut values = BTreeMap::new();
        for (id, value) in graph.values() {
            let tensor = match &value.def {
                Def::Input(n) => &inputs[*n],
                Def::State(n) => &states[*n],
                Def::Constant(constant) => &constant.tensor,
                _ => continue,
            };
            if tensor.spec() != value.spec {
                return Err(format!("{id} is {}, not {}", value.spec, tensor.spec()));
            }
            values.insert(id, Array::from_tensor(tensor)?);
        }
        Ok(Run { graph, values })
    }

    fn evaluate_node(&mut self, id: NodeId) -> Result<(), String> {
        let node = self.graph.node(id);
        let operands: Vec<&Array> = node.operands.iter().map(|value| &self.values[value]).collect();
        if let Op::Bind(symbols) = &node.op {
            self.graph = bound(&self.graph, symbols, operands[0])?;
            return Ok(());
        }
        let specs: Vec<_> = node.results.iter().map(|&value| self.graph.spec(value).clone()).collect();
        let dims: Vec<Vec<usize>> =
            specs.iter().map(|spec| spec.shape.as_fixed().map(|d| d.to_vec()).unwrap_or_default()).collect();
        let at = |reason| format!("{id} ({} at {}): {reason}", node.op.name(), node.origin);
        let results = apply(&node.op, &operands, &dims).map_err(at)?;
        for ((result, spec), &value) in results.into_iter().zip(&specs).zip(&node.results.clone()) {
            let fits = result.dtype == spec.dtype && spec.shape.as_fixed().as_deref() == Some(&result.dims);
            if !fits {
                return Err(format!("{id} gives {}{:?}, not {spec}", result.dtype, result.dims));
            }
            self.values.insert(value, result);
        }
        Ok(())
    }

    fn finish(self, states: &mut [Tensor]) -> Result<Vec<Tensor>, String> {
        for (state, held) in self.graph.states().iter().zip(states) {
            *held = self.values[&state.next].to_tensor();
        }
        Ok(self.graph.outputs().iter().map(|port| self.values[&port.value].to_tensor()).collect())
    }
}

/// The graph with these values of symbols.
fn bound(graph: &Graph, symbols: &[Symbol], values: &Array) -> Result<Graph, String> {
    let mut bindings = Bindings::new();
    for (symbol, value) in symbols.iter().zip(&values.values) {
        let Scalar::Int(n) = *value else { return Err(format!("{symbol} is no integer")) };
        bindings.insert(symbol.clone(), i64::try_from(n).map_err(|e| e.to_string())?);
    }
    let inputs: Option<Vec<_>> =
        graph.inputs().iter().map(|port| graph.spec(port.value).shape.as_fixed()).collect();
    let inputs = inputs.ok_or("the extents of an input are not known")?;
    let inputs: Vec<&[usize]> = inputs.iter().map(|dims| &dims[..]).collect();
    specialise_within(graph, &inputs, &bindings).map(|(graph, _)| graph).map_err(|e| e.to_string())
}

/// The results of an operation; `dims` are the shapes that the type rules give them.
fn apply(op: &Op, operands: &[&Array], dims: &[Vec<usize>]) -> Result<Vec<Array>, String> {
    let (&x, rest) = match operands.split_first() {
        Some(split) => split,
        None => return without_operands(op).map(|array| vec![array]),
    };
    let third = rest.get(1).copied();
    let one = match op {
        Op::Unary(f) => {
            let dtype = if f.is_predicate() { DType::Bool } else { x.dtype };
            Array::build(dtype, &x.dims, |index| elementwise::unary(*f, x.at(index), x.dtype))
        }
        Op::Binary(f) => {
            let dtype = if f.is_comparison() { DType::Bool } else { x.dtype };
            let dims = broadcast_dims(&x.dims, &rest[0].dims);
            Array::build(dtype, &dims, |index| {
                elementwise::binary(*f, x.at_broadcast(index), rest[0].at_broadcast(index), x.dtype)
            })
        }
        Op::Select => Array::build(rest[0].dtype, &dims[0], |index| {
            let chosen = if x.at_broadcast(index) == Scalar::Int(0) { rest[1] } else { rest[0] };
            Ok(chosen.at_broadcast(index))
        }),
        Op::Cast(dtype) => Ok(Array::new(*dtype, &x.dims, x.values.clone())),
        Op::Reduce(reduce) => linear::reduce(reduce, x),
        Op::ArgReduce(reduce) => linear::arg_reduce(reduce, x),
        Op::Cumulative(cumulative) => linear::cumulative(cumulative, x),
        Op::Softmax(softmax) => linear::softmax(softmax, x),
        Op::LayerNorm(norm) => linear::layer_norm(norm, x, third.map(|beta| (rest[0], beta))),
        Op::RmsNorm(norm) => linear::rms_norm(norm, x, rest[0]),
        Op::AddNorm(norm) => return linear::add_norm(norm, operands),
        Op::Gated(f) => elementwise::gated(*f, x, &dims[0]),
        Op::Rope => attention::rope(x, rest[0], rest[1]),
        Op::Attention(op) => attention::attention(op, [x, rest[0], rest[1]], rest.get(2).copied(), &dims[0]),
        Op::MatMul(matmul) => linear::matmul(matmul, x, rest[0], third),
        Op::Conv2d(conv) => linear::conv2d(conv, x, rest[0], third, &dims[0]),
        Op::Pool2d(pool) => linear::pool2d(pool, x, &dims[0]),
        Op::Reshape(_) => Ok(Array::new(x.dtype, &dims[0], x.values.clone())),
        Op::Broadcast(_) => Array::build(x.dtype, &dims[0], |index| Ok(x.at_broadcast(index))),
        Op::Transpose(perm) => layout::transpose(perm, x),
        Op::Concat { axis } => layout::concat(*axis, operands),
        Op::Slice(slice) => layout::slice(slice, x),
        Op::Pad(pad) => layout::pad(pad, x, rest.first().copied()),
        Op::Gather(gather) => layout::gather(gather, x, rest[0]),
        Op::GatherElements { axis } => layout::gather_elements(*axis, x, rest[0]),
        Op::GatherNd => layout::gather_nd(x, rest[0]),
        Op::ScatterNd(kind) => layout::scatter_nd(*kind, x, rest[0], rest[1]),
        Op::OneHot { depth, axis } => layout::one_hot(depth, *axis, x, rest[0], rest[1]),
        Op::TopK(top_k) => return layout::top_k(top_k, x),
        Op::Triangle(triangle) => layout::triangle(triangle, x),
        Op::If(branch) => return control::branch(branch, operands),
        Op::Loop(turns) => return control::turns(turns, operands),
        other => return Err(format!("{} has no reference", other.name())),
    };
    one.map(|array| vec![array])
}

fn without_operands(op: &Op) -> Result<Array, String> {
    match op {
        Op::Extents(dims) => {
            let values: Vec<Scalar> =
                layout::fixed(dims)?.into_iter().map(|n| Scalar::Int(n as i128)).collect();
            Ok(Array::new(DType::I64, &[values.len()], values))
        }
        other => Err(format!("{} has no reference", other.name())),
    }
}

#[cfg(test)]
mod tests;
