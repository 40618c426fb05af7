use mslite_tensor::TensorSpec;

use super::elementwise::type_id;
use crate::Result;
use crate::export::writer::{Arg, Item, Writer, ints};
use crate::ir::op::{ArgReduce, Cumulative, Op, Reduce, ReduceKind, Softmax};

pub(in crate::export) fn reduce(w: &mut Writer, op: &Reduce, x: &Item, spec: &TensorSpec) -> Result<Item> {
    // MindSpore reduces over all axes where none is named.
    if op.axes.is_empty() {
        return Ok(x.clone());
    }
    let mut args: Vec<Arg> = vec![x.into(), ints(&op.axes).into(), op.keep_dims.into()];
    let name = match op.kind {
        ReduceKind::Sum => "ReduceSum",
        ReduceKind::Mean => "ReduceMean",
        ReduceKind::Max => "ReduceMax",
        ReduceKind::Min => "ReduceMin",
        ReduceKind::Prod => "ReduceProd",
        ReduceKind::All => "ReduceAll",
        ReduceKind::Any => "ReduceAny",
    };
    if op.kind == ReduceKind::Sum {
        args.push(false.into());
    }
    Ok(w.function(name, &args, spec))
}

/// The primitive drops the axis.
pub(in crate::export) fn arg_reduce(
    w: &mut Writer,
    op: &ArgReduce,
    x: &Item,
    spec: &TensorSpec,
) -> Result<Item> {
    if op.keep_dims {
        let dropped = w.op(Op::ArgReduce(ArgReduce { keep_dims: false, ..op.clone() }), &[x])?;
        return Ok(w.function("ExpandDims", &[(&dropped).into(), (op.axis as i64).into()], spec));
    }
    let name = if op.largest { "Argmax" } else { "Argmin" };
    let dtype = type_id(w, op.dtype)?;
    Ok(w.function(name, &[x.into(), (op.axis as i64).into(), dtype.into()], spec))
}

pub(in crate::export) fn cumulative(
    w: &mut Writer,
    op: &Cumulative,
    x: &Item,
    spec: &TensorSpec,
) -> Result<Item> {
    let name = if op.product { "CumProd" } else { "CumSum" };
    let args = [x.into(), (op.axis as i64).into(), op.exclusive.into(), op.reverse.into()];
    Ok(w.function(name, &args, spec))
}

pub(in crate::export) fn softmax(w: &mut Writer, op: &Softmax, x: &Item, spec: &TensorSpec) -> Result<Item> {
    Ok(match op.log {
        true => w.function("LogSoftmax", &[x.into(), (op.axis as i64).into()], spec),
        false => w.function("Softmax", &[x.into(), ints(&[op.axis]).into()], spec),
    })
}
