//! Which primitives each operation becomes.

use mslite_mindir::Symbol;
use mslite_tensor::TensorSpec;

use super::ops::{attention, collective, elementwise, index, layout, linear, norm, opaque, reduce, window};
use super::writer::{Item, Writer};
use crate::Result;
use crate::ir::op::Op;

/// Writes an operation; the symbols of those results that are used.
pub(super) fn write(
    w: &mut Writer,
    op: &Op,
    x: &[Item],
    specs: &[TensorSpec],
    used: &[bool],
) -> Result<Vec<Option<Symbol>>> {
    let y = match (op, specs) {
        (Op::If(branch), _) => return w.branch(branch, x, specs, used),
        (Op::Loop(turns), _) => return w.turns(turns, x, specs, used),
        (Op::Bind(symbols), _) => return Ok(w.bind(symbols, &x[0])),
        (Op::AddNorm(op), _) => return norm::add_norm(w, op, x),
        (Op::TopK(top), _) => return index::top_k(w, top, &x[0], specs, used),
        (Op::Opaque(opaque), _) => return opaque::write(w, opaque, x, used),
        (Op::Collective(op), _) => return collective::write(w, op, x, specs),
        (Op::Random(_), _) => return Err(w.unsupported("random", "MindSpore cannot be given its state")),
        (_, [spec]) => one(w, op, x, spec)?,
        _ => return Err(w.unsupported(op.name(), "it has not one result")),
    };
    Ok(vec![Some(y.symbol)])
}

/// Writes an operation that has one result.
fn one(w: &mut Writer, op: &Op, x: &[Item], spec: &TensorSpec) -> Result<Item> {
    match op {
        Op::Unary(f) => elementwise::unary(w, *f, &x[0], spec),
        Op::Binary(f) => elementwise::binary(w, *f, [&x[0], &x[1]], spec),
        Op::Select => Ok(w.function("Select", &[(&x[0]).into(), (&x[1]).into(), (&x[2]).into()], spec)),
        Op::Cast(dtype) => elementwise::cast(w, &x[0], *dtype, spec),
        Op::Reduce(op) => reduce::reduce(w, op, &x[0], spec),
        Op::ArgReduce(op) => reduce::arg_reduce(w, op, &x[0], spec),
        Op::Cumulative(op) => reduce::cumulative(w, op, &x[0], spec),
        Op::Softmax(op) => reduce::softmax(w, op, &x[0], spec),
        Op::LayerNorm(op) => norm::layer_norm(w, op, x, spec),
        Op::RmsNorm(op) => norm::rms_norm(w, op, &x[0], &x[1]),
        Op::Gated(f) => elementwise::gated(w, *f, &x[0]),
        Op::Rope => attention::rope(w, [&x[0], &x[1], &x[2]]),
        Op::Attention(op) => attention::attention(w, op, x),
        Op::MatMul(op) => linear::matmul(w, op, x),
        Op::Conv2d(op) => window::conv2d(w, op, x),
        Op::Pool2d(op) => window::pool2d(w, op, &x[0], spec),
        Op::Reshape(dims) => layout::reshape(w, dims, &x[0], spec),
        Op::Transpose(perm) => layout::transpose(w, perm, &x[0], spec),
        Op::Broadcast(dims) => layout::broadcast(w, dims, &x[0], spec),
        Op::Concat { axis } => layout::concat(w, *axis, x, spec),
        Op::Slice(op) => layout::slice(w, op, &x[0], spec),
        Op::Pad(op) => layout::pad(w, op, x, spec),
        Op::Triangle(op) => layout::triangle(w, op, &x[0], spec),
        Op::Extents(dims) => layout::extents(w, dims, spec),
        Op::Gather(op) => index::gather(w, op, [&x[0], &x[1]], spec),
        Op::GatherElements { axis } => index::gather_elements(w, *axis, [&x[0], &x[1]], spec),
        Op::GatherNd => Ok(w.function("GatherNd", &[(&x[0]).into(), (&x[1]).into()], spec)),
        Op::ScatterNd(kind) => index::scatter_nd(w, *kind, [&x[0], &x[1], &x[2]], spec),
        Op::OneHot { depth, axis } => index::one_hot(w, depth, *axis, [&x[0], &x[1], &x[2]], spec),
        Op::AddNorm(_)
        | Op::If(_)
        | Op::Loop(_)
        | Op::Bind(_)
        | Op::TopK(_)
        | Op::Opaque(_)
        | Op::Collective(_)
        | Op::Random(_) => Err(w.unsupported(op.name(), "it has not one result")),
    }
}
