//! Statistics and norms.

use mslite_tensor::{DType, Dim};

use super::arith::real;
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::product;
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{ArgReduce, Binary, Op, ReduceKind, TopK, Unary};

/// `(input, dim=None, correction=1, keepdim=False)`
pub(in crate::import) fn var(call: &mut Call) -> Result<ValueId> {
    moments(call).map(|(variance, _)| variance)
}

pub(in crate::import) fn std(call: &mut Call) -> Result<ValueId> {
    let variance = var(call)?;
    call.emit.unary(Unary::Sqrt, variance)
}

pub(in crate::import) fn var_mean(call: &mut Call) -> Result<Item> {
    moments(call).map(|(variance, mean)| Item::tensors([variance, mean]))
}

pub(in crate::import) fn std_mean(call: &mut Call) -> Result<Item> {
    let (variance, mean) = moments(call)?;
    Ok(Item::tensors([call.emit.unary(Unary::Sqrt, variance)?, mean]))
}

fn moments(call: &mut Call) -> Result<(ValueId, ValueId)> {
    let x = call.tensor(0, "input")?;
    let dims = call.emit.dims(x)?;
    let axes = call.axes(1, "dim", dims.len())?.unwrap_or_else(|| (0..dims.len()).collect());
    let correction = call.int_or(2, "correction", 1)?;
    let keep_dims = call.flag(3, "keepdim")?;
    let count = product(axes.iter().map(|&axis| &dims[axis]));
    let centre = call.emit.reduce(ReduceKind::Mean, x, axes.clone(), true)?;
    let squares = call.emit.binary(Binary::SquaredDifference, x, centre)?;
    let sum = call.emit.reduce(ReduceKind::Sum, squares, axes.clone(), keep_dims)?;
    let divisor = call.emit.dim(&(&count - &Dim::from(correction)), call.emit.dtype(x))?;
    let variance = call.emit.binary(Binary::Div, sum, divisor)?;
    let mean = if keep_dims { centre } else { call.emit.reduce(ReduceKind::Mean, x, axes, false)? };
    Ok((variance, mean))
}

/// `(input, p=2.0, dim=None, keepdim=False, dtype=None)`
pub(in crate::import) fn vector_norm(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let p = call.float_or(1, "p", 2.0)?;
    let rank = call.emit.rank(x)?;
    let axes = call.axes(2, "dim", rank)?.unwrap_or_else(|| (0..rank).collect());
    let keep_dims = call.flag(3, "keepdim")?;
    let x = match call.op_type {
        "LpNormV2" => x,
        _ => match call.dtype(4, "dtype")? {
            Some(dtype) => call.emit.cast(x, dtype)?,
            None => x,
        },
    };
    power_norm(call, x, p, axes, keep_dims)
}

/// `(x, axes)`, keep_dims as an attribute.
pub(in crate::import) fn euclidean_norm(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let rank = call.emit.rank(x)?;
    let axes = call.axes(1, "axes", rank)?.unwrap_or_else(|| (0..rank).collect());
    let keep_dims = call.flag(ATTRIBUTE, "keep_dims")?;
    power_norm(call, x, 2.0, axes, keep_dims)
}

/// `sum(|x|^p)^(1/p)`
pub(super) fn power_norm(
    call: &mut Call,
    x: ValueId,
    p: f64,
    axes: Vec<usize>,
    keep: bool,
) -> Result<ValueId> {
    let x = real(call, x)?;
    let size = call.emit.unary(Unary::Abs, x)?;
    if p.is_infinite() {
        let kind = if p > 0.0 { ReduceKind::Max } else { ReduceKind::Min };
        return call.emit.reduce(kind, size, axes, keep);
    }
    if p == 0.0 {
        let some = call.emit.with_scalar(Binary::NotEqual, size, 0.0)?;
        let some = call.emit.cast(some, call.emit.dtype(size))?;
        return call.emit.reduce(ReduceKind::Sum, some, axes, keep);
    }
    let powers = match p {
        1.0 => size,
        2.0 => call.emit.unary(Unary::Square, x)?,
        _ => call.emit.with_scalar(Binary::Pow, size, p)?,
    };
    let sum = call.emit.reduce(ReduceKind::Sum, powers, axes, keep)?;
    match p {
        1.0 => Ok(sum),
        2.0 => call.emit.unary(Unary::Sqrt, sum),
        _ => call.emit.with_scalar(Binary::Pow, sum, 1.0 / p),
    }
}

/// `(input, dim=None)`: how many are not 0.
pub(in crate::import) fn count_non_zero(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let rank = call.emit.rank(x)?;
    let axes = call.axes(1, "dim", rank)?.unwrap_or_else(|| (0..rank).collect());
    let some = call.emit.cast(x, DType::Bool)?;
    let some = call.emit.cast(some, call.stated_dtype(0).unwrap_or(DType::I64))?;
    call.emit.reduce(ReduceKind::Sum, some, axes, false)
}

/// `(input, dim=None, keepdim=False, dtype=None)`, NaN as 0.
pub(in crate::import) fn nansum(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    if call.emit.dtype(x).is_float() {
        let is_nan = call.emit.unary(Unary::IsNan, x)?;
        let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
        call.args[0] = Item::Tensor(call.emit.select(is_nan, zero, x)?);
    }
    super::reduce::reduce_as(call, ReduceKind::Sum)
}

/// `(input)` or `(input, dim, keepdim=False)`
pub(in crate::import) fn any(call: &mut Call) -> Result<ValueId> {
    super::reduce::reduce(call, ReduceKind::Any)
}

/// `(input, offset=0)`: the sum of the diagonal.
pub(in crate::import) fn trace(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let dtype = call.emit.dtype(x);
    let dims = call.emit.dims(x)?;
    let [rows, columns] = &dims[..] else { return Err(call.invalid("it needs a matrix")) };
    let side = crate::import::known::minimum(rows, columns);
    let counter = super::create::counter(call, side.clone())?;
    let at = call.emit.reshape(counter, vec![side, Dim::from(1)])?;
    let at = call.emit.concat(&[at, at], 1)?;
    let diagonal = call.emit.op(Op::GatherNd, &[x, at])?;
    let diagonal = match call.op_type {
        "TraceExt" if !dtype.is_float() => call.emit.cast(diagonal, DType::I64)?,
        _ => diagonal,
    };
    call.emit.reduce(ReduceKind::Sum, diagonal, vec![0], false)
}

/// `(x, y) -> (sum(x^2), sum(y^2))`
pub(in crate::import) fn square_sum_all(call: &mut Call) -> Result<Item> {
    let mut sums = Vec::new();
    for (position, name) in [(0, "x"), (1, "y")] {
        let x = call.tensor(position, name)?;
        let axes = (0..call.emit.rank(x)?).collect();
        let squares = call.emit.unary(Unary::Square, x)?;
        sums.push(call.emit.reduce(ReduceKind::Sum, squares, axes, false)?);
    }
    Ok(Item::tensors(sums))
}

/// `(input, dim=-1, descending=False, stable=False)`
pub(in crate::import) fn arg_sort(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let dims = call.emit.dims(x)?;
    let axis = call.axis(1, "dim", -1, dims.len())?;
    let largest = call.flag(2, "descending")?;
    let results = call.emit.push(Op::TopK(TopK { k: dims[axis].clone(), axis, largest }), &[x])?;
    call.emit.cast(results[1], DType::I64)
}

/// `(x, axis)`
pub(in crate::import) fn argmin_v2(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let rank = call.emit.rank(x)?;
    let axis = call.axis(1, "axis", -1, rank)?;
    let op = ArgReduce { largest: false, axis, keep_dims: false, dtype: DType::I32 };
    call.emit.op(Op::ArgReduce(op), &[x])
}

/// `(x, k)` with the lower of two in the middle: `Median` with attributes, `MedianExt` over all, `MedianDim` along an
/// axis: `(values, indices)`.
pub(in crate::import) fn median(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    let is_global = match call.op_type {
        "Median" => call.flag(ATTRIBUTE, "global_median")?,
        name => name == "MedianExt",
    };
    if call.flag(ATTRIBUTE, "ignore_nan")? {
        return Err(call.unsupported("ignore_nan is not known"));
    }
    let mut dims = call.emit.dims(x)?;
    let (x, axis) = match is_global {
        true => {
            dims = vec![product(&dims)];
            (call.emit.reshape(x, dims.clone())?, 0)
        }
        false if call.op_type == "Median" => (x, call.axis(ATTRIBUTE, "axis", 0, dims.len())?),
        false => (x, call.axis(1, "dim", -1, dims.len())?),
    };
    let keep = match call.op_type {
        "Median" => call.flag(ATTRIBUTE, "keep_dims")? && !is_global,
        _ => call.flag(2, "keepdim")? && !is_global,
    };
    let middle = (&dims[axis] - &Dim::from(1)).floor_div(&Dim::from(2));
    let op = TopK { k: dims[axis].clone(), axis, largest: false };
    let sorted = call.emit.push(Op::TopK(op), &[x])?;
    if keep {
        dims[axis] = Dim::from(1);
    } else {
        dims.remove(axis);
    }
    let mut taken = Vec::new();
    for &result in &sorted {
        let part = call.emit.narrow(result, axis, middle.clone(), Dim::from(1))?;
        taken.push(call.emit.reshape(part, dims.clone())?);
    }
    taken[1] = call.emit.cast(taken[1], DType::I64)?;
    match call.op_type {
        "MedianExt" => Ok(Item::Tensor(taken[0])),
        _ => Ok(Item::tensors(taken)),
    }
}

/// `(input, axis) -> (values, indices)`: the largest so far, the later one of equals.
pub(in crate::import) fn cummax(call: &mut Call) -> Result<Item> {
    running(call, Binary::GreaterEqual)
}

/// `(input, axis) -> (values, indices)`: the smallest so far, the later one of equals.
pub(in crate::import) fn cummin(call: &mut Call) -> Result<Item> {
    running(call, Binary::LessEqual)
}

/// Doubles how far each place looks back, until it sees everything before it.
fn running(call: &mut Call, wins: Binary) -> Result<Item> {
    let x = call.tensor(0, "input")?;
    let dims = call.emit.dims(x)?;
    let axis = call.axis(1, "axis", 0, dims.len())?;
    let Some(extent) = dims[axis].as_fixed() else {
        return Err(call.unsupported("the axis must have a fixed extent; export with fixed shapes"));
    };
    let dtype = call.stated_dtype(1).filter(|dtype| dtype.is_int()).unwrap_or(DType::I64);
    let counter = super::create::counter(call, dims[axis].clone())?;
    let mut across = vec![Dim::from(1); dims.len()];
    across[axis] = dims[axis].clone();
    let counter = call.emit.cast(counter, dtype)?;
    let counter = call.emit.reshape(counter, across)?;
    let mut places = call.emit.broadcast(counter, dims.clone())?;
    let mut values = x;
    let mut back = 1;
    while back < extent {
        let rest = Dim::from(extent - back);
        let mut parts = |x: ValueId| -> Result<[ValueId; 3]> {
            Ok([
                call.emit.narrow(x, axis, Dim::from(0), Dim::from(back))?,
                call.emit.narrow(x, axis, Dim::from(back), rest.clone())?,
                call.emit.narrow(x, axis, Dim::from(0), rest.clone())?,
            ])
        };
        let ([head, later, earlier], [heads, laters, earliers]) = (parts(values)?, parts(places)?);
        let wins = call.emit.binary(wins, later, earlier)?;
        let value = call.emit.select(wins, later, earlier)?;
        let place = call.emit.select(wins, laters, earliers)?;
        values = call.emit.concat(&[head, value], axis)?;
        places = call.emit.concat(&[heads, place], axis)?;
        back *= 2;
    }
    Ok(Item::tensors([values, places]))
}

/// `(x1, x2, p=2.0)`: the distances of all rows of `[.., n, m]` to all of `[.., k, m]`.
pub(in crate::import) fn cdist(call: &mut Call) -> Result<ValueId> {
    let (x, y) = (call.tensor(0, "x1")?, call.tensor(1, "x2")?);
    let p = call.float_or(2, "p", 2.0)?;
    let (mut a, mut b) = (call.emit.dims(x)?, call.emit.dims(y)?);
    if a.len() < 2 || b.len() < 2 {
        return Err(call.invalid("it needs matrices"));
    }
    let axis = a.len();
    a.insert(a.len() - 1, Dim::from(1));
    b.insert(b.len() - 2, Dim::from(1));
    let (x, y) = (call.emit.reshape(x, a)?, call.emit.reshape(y, b)?);
    let apart = call.emit.binary(Binary::Sub, x, y)?;
    power_norm(call, apart, p, vec![axis], false)
}

/// `(x, clip_norm)`: x, made shorter if its norm over the axes is above the limit.
pub(in crate::import) fn clip_by_norm(call: &mut Call) -> Result<ValueId> {
    let (x, limit) = (call.tensor(0, "x")?, call.tensor(1, "clip_norm")?);
    let rank = call.emit.rank(x)?;
    let axes = call.axes(ATTRIBUTE, "axis", rank)?.unwrap_or_else(|| (0..rank).collect());
    let norm = power_norm(call, x, 2.0, axes, true)?;
    let limit = call.emit.cast(limit, call.emit.dtype(norm))?;
    let longest = call.emit.binary(Binary::Maximum, norm, limit)?;
    let scaled = call.emit.binary(Binary::Mul, x, limit)?;
    call.emit.binary(Binary::Div, scaled, longest)
}

/// `x - mean(x)` over the axes.
pub(in crate::import) fn centralization(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input_x")?;
    let rank = call.emit.rank(x)?;
    let axes = call.axes(1, "axis", rank)?.unwrap_or_else(|| (0..rank).collect());
    let mean = call.emit.reduce(ReduceKind::Mean, x, axes, true)?;
    call.emit.binary(Binary::Sub, x, mean)
}

/// `(predictions [n, classes], targets [n], k)`: whether the target is among the k best; ties count as being so.
pub(in crate::import) fn in_top_k(call: &mut Call) -> Result<ValueId> {
    let (x, target) = (call.tensor(0, "x1")?, call.tensor(1, "x2")?);
    let k = match call.int(2, "k")? {
        Some(k) => k,
        None => call.int_or(ATTRIBUTE, "k", 1)?,
    };
    let target = super::index::rows(call, target)?;
    let score = call.emit.op(Op::GatherElements { axis: 1 }, &[x, target])?;
    let better = call.emit.binary(Binary::Greater, x, score)?;
    let better = call.emit.cast(better, DType::I64)?;
    let better = call.emit.reduce(ReduceKind::Sum, better, vec![1], false)?;
    let among = call.emit.with_scalar(Binary::Less, better, k as f64)?;
    let finite = call.emit.unary(Unary::IsFinite, score)?;
    let rows = call.emit.dims(among)?;
    let finite = call.emit.reshape(finite, rows)?;
    call.emit.binary(Binary::And, among, finite)
}
