use mslite_tensor::{DType, Dim};

use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::product;
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{ArgReduce, Binary, Cumulative, Op, ReduceKind, Softmax, Unary};

/// `(x, axis=(), keep_dims=False, skip_mode=False)`
pub(in crate::import) fn reduce(call: &mut Call, kind: ReduceKind) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let keep_dims = call.flag(2, "keep_dims")?;
    if call.flag(3, "skip_mode")? && call.dims(1, "axis")?.is_some_and(|axes| axes.is_empty()) {
        return Ok(x);
    }
    along(call, kind, x, 1, "axis", keep_dims)
}

/// `(x, dim=None, keepdim=False, dtype=None)`; sums and products of integers are i64.
pub(in crate::import) fn reduce_as(call: &mut Call, kind: ReduceKind) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let dtype = call.emit.dtype(x);
    let default =
        if kind != ReduceKind::Mean && (dtype.is_int() || dtype == DType::Bool) { DType::I64 } else { dtype };
    let dtype = call.dtype(3, "dtype")?.unwrap_or(default);
    let x = call.emit.cast(x, dtype)?;
    let keep_dims = call.flag(2, "keepdim")?;
    along(call, kind, x, 1, "dim", keep_dims)
}

fn along(
    call: &mut Call,
    kind: ReduceKind,
    x: ValueId,
    position: usize,
    name: &str,
    keep_dims: bool,
) -> Result<ValueId> {
    let rank = call.emit.rank(x)?;
    let axes = call.axes(position, name, rank)?.unwrap_or_else(|| (0..rank).collect());
    let x = match kind {
        ReduceKind::All | ReduceKind::Any => call.emit.cast(x, DType::Bool)?,
        _ => x,
    };
    call.emit.reduce(kind, x, axes, keep_dims)
}

/// Reduction of the Lite converter.
pub(in crate::import) fn lite_reduce(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let rank = call.emit.rank(x)?;
    let axes = call.axes(1, "axes", rank)?.unwrap_or_else(|| (0..rank).collect());
    let keep_dims = call.flag(ATTRIBUTE, "keep_dims")?;
    let squared = |call: &mut Call| call.emit.unary(Unary::Square, x);
    match call.int_or(ATTRIBUTE, "mode", 0)? {
        0 => call.emit.reduce(ReduceKind::Mean, x, axes, keep_dims),
        1 => call.emit.reduce(ReduceKind::Max, x, axes, keep_dims),
        2 => call.emit.reduce(ReduceKind::Min, x, axes, keep_dims),
        3 => call.emit.reduce(ReduceKind::Prod, x, axes, keep_dims),
        4 => call.emit.reduce(ReduceKind::Sum, x, axes, keep_dims),
        5 => {
            let x = squared(call)?;
            call.emit.reduce(ReduceKind::Sum, x, axes, keep_dims)
        }
        8 => {
            let x = squared(call)?;
            let sum = call.emit.reduce(ReduceKind::Sum, x, axes, keep_dims)?;
            call.emit.unary(Unary::Sqrt, sum)
        }
        9 | 6 => {
            let x = call.emit.unary(Unary::Abs, x)?;
            call.emit.reduce(ReduceKind::Sum, x, axes, keep_dims)
        }
        mode => Err(call.unsupported(format!("reduction mode {mode} is not known"))),
    }
}

/// `(x, axis=[], unbiased=True, keep_dims=False) -> (deviation, mean)`
pub(in crate::import) fn std(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    let dims = call.emit.dims(x)?;
    let axes = call.axes(1, "axis", dims.len())?.unwrap_or_else(|| (0..dims.len()).collect());
    let unbiased = call.bool_opt(2, "unbiased")?.unwrap_or(true);
    let keep_dims = call.flag(3, "keep_dims")?;
    let count = product(axes.iter().map(|&axis| &dims[axis]));
    let centre = call.emit.reduce(ReduceKind::Mean, x, axes.clone(), true)?;
    let squares = call.emit.binary(Binary::SquaredDifference, x, centre)?;
    let sum = call.emit.reduce(ReduceKind::Sum, squares, axes.clone(), keep_dims)?;
    let divisor = if unbiased { &count - &Dim::from(1) } else { count };
    let divisor = call.emit.dim(&divisor, call.emit.dtype(x))?;
    let variance = call.emit.binary(Binary::Div, sum, divisor)?;
    let deviation = call.emit.unary(Unary::Sqrt, variance)?;
    let mean = if keep_dims { centre } else { call.emit.reduce(ReduceKind::Mean, x, axes, false)? };
    Ok(Item::tensors([deviation, mean]))
}

/// `sum(|x|^p)^(1/p)`
pub(in crate::import) fn lp_norm(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let rank = call.emit.rank(x)?;
    let axes = call.axes(1, "axis", rank)?.unwrap_or_else(|| (0..rank).collect());
    let p = call.float_or(2, "p", 2.0)?;
    let keep_dims = call.flag(3, "keep_dims")?;
    let x = call.emit.unary(Unary::Abs, x)?;
    if p == 1.0 {
        return call.emit.reduce(ReduceKind::Sum, x, axes, keep_dims);
    }
    if p == 2.0 {
        let x = call.emit.unary(Unary::Square, x)?;
        let sum = call.emit.reduce(ReduceKind::Sum, x, axes, keep_dims)?;
        return call.emit.unary(Unary::Sqrt, sum);
    }
    let x = call.emit.with_scalar(Binary::Pow, x, p)?;
    let sum = call.emit.reduce(ReduceKind::Sum, x, axes, keep_dims)?;
    call.emit.with_scalar(Binary::Pow, sum, 1.0 / p)
}

/// `log(sum(exp(x - max))) + max`
pub(in crate::import) fn log_sum_exp(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let rank = call.emit.rank(x)?;
    let axes = call.axes(1, "dim", rank)?.unwrap_or_else(|| (0..rank).collect());
    let keep_dims = call.flag(2, "keepdim")?;
    let highest = call.emit.reduce(ReduceKind::Max, x, axes.clone(), true)?;
    let moved = call.emit.binary(Binary::Sub, x, highest)?;
    let exp = call.emit.unary(Unary::Exp, moved)?;
    let sum = call.emit.reduce(ReduceKind::Sum, exp, axes.clone(), keep_dims)?;
    let log = call.emit.unary(Unary::Log, sum)?;
    let highest = if keep_dims { highest } else { call.emit.reduce(ReduceKind::Max, x, axes, false)? };
    call.emit.binary(Binary::Add, log, highest)
}

pub(in crate::import) fn argmax(call: &mut Call) -> Result<ValueId> {
    arg_extreme(call, true)
}

pub(in crate::import) fn argmin(call: &mut Call) -> Result<ValueId> {
    arg_extreme(call, false)
}

/// `Argmax(x, axis=-1, output_type=int32)`, `ArgMaxExt(x, dim=None, keepdim=False)`
fn arg_extreme(call: &mut Call, largest: bool) -> Result<ValueId> {
    let mut x = call.tensor(0, "input_x")?;
    let is_ext = call.op_type.ends_with("Ext");
    let (name, default) = if is_ext { ("dim", None) } else { ("axis", Some(-1)) };
    let axis = call.int(1, name)?.or(default);
    let (keep_dims, dtype) = match is_ext {
        true => (call.flag(2, "keepdim")?, DType::I64),
        false => (false, call.dtype(2, "output_type")?.unwrap_or(DType::I32)),
    };
    let rank = call.emit.rank(x)?;
    let axis = match axis {
        Some(axis) => call.emit.axis(axis, rank)?,
        None => {
            let count = product(&call.emit.dims(x)?);
            x = call.emit.reshape(x, vec![count])?;
            0
        }
    };
    call.emit.op(Op::ArgReduce(ArgReduce { largest, axis, keep_dims, dtype }), &[x])
}

pub(in crate::import) fn argmax_with_value(call: &mut Call) -> Result<Item> {
    extreme_with_index(call, true).map(|(value, index)| Item::tensors([index, value]))
}

pub(in crate::import) fn argmin_with_value(call: &mut Call) -> Result<Item> {
    extreme_with_index(call, false).map(|(value, index)| Item::tensors([index, value]))
}

pub(in crate::import) fn max_dim(call: &mut Call) -> Result<Item> {
    extreme_with_index(call, true).map(|(value, index)| Item::tensors([value, index]))
}

pub(in crate::import) fn min_dim(call: &mut Call) -> Result<Item> {
    extreme_with_index(call, false).map(|(value, index)| Item::tensors([value, index]))
}

fn extreme_with_index(call: &mut Call, largest: bool) -> Result<(ValueId, ValueId)> {
    let x = call.tensor(0, "input")?;
    let rank = call.emit.rank(x)?;
    let axis = call.axis(1, "axis", 0, rank)?;
    let keep_dims = call.flag(2, "keep_dims")?;
    let stated =
        [call.stated_dtype(0), call.stated_dtype(1)].into_iter().flatten().find(|dtype| dtype.is_int());
    let dtype = match call.emit.dtype(x).is_int() {
        true => call
            .stated_dtype(0)
            .filter(|dtype| matches!(dtype, DType::I32 | DType::I64))
            .unwrap_or(DType::I64),
        false => stated.unwrap_or(DType::I64),
    };
    let kind = if largest { ReduceKind::Max } else { ReduceKind::Min };
    let value = call.emit.reduce(kind, x, vec![axis], keep_dims)?;
    let index = call.emit.op(Op::ArgReduce(ArgReduce { largest, axis, keep_dims, dtype }), &[x])?;
    Ok((value, index))
}

pub(in crate::import) fn cumsum(call: &mut Call) -> Result<ValueId> {
    cumulative(call, false)
}

pub(in crate::import) fn cumprod(call: &mut Call) -> Result<ValueId> {
    cumulative(call, true)
}

fn cumulative(call: &mut Call, product: bool) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let rank = call.emit.rank(x)?;
    let axis = call.required_int(1, "axis")?;
    let axis = call.emit.axis(axis, rank)?;
    let (exclusive, reverse) = (call.flag(2, "exclusive")?, call.flag(3, "reverse")?);
    call.emit.cumulative(Cumulative { product, axis, exclusive, reverse }, x)
}

pub(in crate::import) fn cumsum_ext(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let dtype = call.emit.dtype(x);
    let default = if dtype.is_int() || dtype == DType::Bool { DType::I64 } else { dtype };
    let dtype = call.dtype(2, "dtype")?.unwrap_or(default);
    let x = call.emit.cast(x, dtype)?;
    let rank = call.emit.rank(x)?;
    let axis = call.axis(1, "dim", 0, rank)?;
    call.emit.cumulative(Cumulative { product: false, axis, exclusive: false, reverse: false }, x)
}

pub(in crate::import) fn softmax(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let rank = call.emit.rank(x)?;
    match call.axes(1, "axis", rank)?.as_deref() {
        None => along_one(call, x, call.emit.axis(-1, rank)?, false),
        Some(&[axis]) => along_one(call, x, axis, false),
        Some(axes) => softmax_over(call, x, axes.to_vec()),
    }
}

pub(in crate::import) fn log_softmax(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "logits")?;
    let rank = call.emit.rank(x)?;
    let axis = call.axis(1, "axis", -1, rank)?;
    along_one(call, x, axis, true)
}

fn along_one(call: &mut Call, x: ValueId, axis: usize, log: bool) -> Result<ValueId> {
    call.emit.op(Op::Softmax(Softmax { axis, log }), &[x])
}

fn softmax_over(call: &mut Call, x: ValueId, axes: Vec<usize>) -> Result<ValueId> {
    let highest = call.emit.reduce(ReduceKind::Max, x, axes.clone(), true)?;
    let moved = call.emit.binary(Binary::Sub, x, highest)?;
    let exp = call.emit.unary(Unary::Exp, moved)?;
    let sum = call.emit.reduce(ReduceKind::Sum, exp, axes, true)?;
    call.emit.binary(Binary::Div, exp, sum)
}
