//! Functions of MindSpore that belong to no family.

use mslite_tensor::{DType, Dim};

use super::create::counter;
use super::opaque;
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::product;
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Cumulative, Gather, Op, ReduceKind, ScatterKind, Unary};

/// `(start, end)`, `steps` and `base` as attributes: powers of the base.
pub(in crate::import) fn log_space(call: &mut Call) -> Result<ValueId> {
    let steps = call.int_or(ATTRIBUTE, "steps", 10)?;
    let base = call.float_or(ATTRIBUTE, "base", 10.0)?;
    let dtype = call.dtype(ATTRIBUTE, "dtype")?.unwrap_or(DType::F32);
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let ends = [(0, "start"), (1, "end")].map(|(position, name)| call.tensor_of(position, name, wide));
    let [start, end] = ends;
    let (Some(start), Some(end)) = (start?, end?) else { return Err(call.invalid("its ends are missing")) };
    let counter = counter(call, Dim::from(steps))?;
    let counter = call.emit.cast(counter, wide)?;
    let length = call.emit.binary(Binary::Sub, end, start)?;
    let step = call.emit.with_scalar(Binary::Div, length, (steps - 1).max(1) as f64)?;
    let along = call.emit.binary(Binary::Mul, counter, step)?;
    let exponent = call.emit.binary(Binary::Add, along, start)?;
    let base = call.emit.scalar(base, wide)?;
    let y = call.emit.binary(Binary::Pow, base, exponent)?;
    call.emit.cast(y, dtype)
}

/// `(x)`, `p`, `dim` and `maxnorm` as attributes: slices along an axis, made shorter if their norm is above the limit.
pub(in crate::import) fn renorm(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let rank = call.emit.rank(x)?;
    let axis = call.axis(ATTRIBUTE, "dim", 0, rank)?;
    let (p, limit) = (call.float_or(ATTRIBUTE, "p", 2.0)?, call.float_or(ATTRIBUTE, "maxnorm", 1.0)?);
    let axes: Vec<usize> = (0..rank).filter(|&other| other != axis).collect();
    let norm = super::stats::power_norm(call, x, p, axes, true)?;
    let limit_value = call.emit.scalar(limit, call.emit.dtype(norm))?;
    let moved = call.emit.with_scalar(Binary::Add, norm, 1e-7)?;
    let factor = call.emit.binary(Binary::Div, limit_value, moved)?;
    let one = call.emit.scalar(1.0, call.emit.dtype(norm))?;
    let is_long = call.emit.with_scalar(Binary::Greater, norm, limit)?;
    let factor = call.emit.select(is_long, factor, one)?;
    call.emit.binary(Binary::Mul, x, factor)
}

/// `(x, axis)`, `exclusive` and `reverse` as attributes: logarithms of running sums of exponentials.
pub(in crate::import) fn log_running_sum(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let rank = call.emit.rank(x)?;
    let axis = call.axis(1, "axis", 0, rank)?;
    let (exclusive, reverse) = (call.flag(ATTRIBUTE, "exclusive")?, call.flag(ATTRIBUTE, "reverse")?);
    let dtype = call.emit.dtype(x);
    let x = call.emit.cast(x, DType::F64)?;
    let highest = call.emit.reduce(ReduceKind::Max, x, vec![axis], true)?;
    let moved = call.emit.binary(Binary::Sub, x, highest)?;
    let exp = call.emit.unary(Unary::Exp, moved)?;
    let op = Cumulative { product: false, axis, exclusive, reverse };
    let sum = call.emit.op(Op::Cumulative(op), &[exp])?;
    let log = call.emit.unary(Unary::Log, sum)?;
    let y = call.emit.binary(Binary::Add, log, highest)?;
    // What sums up nothing is the lowest number of the type.
    let empty = call.emit.with_scalar(Binary::Equal, sum, 0.0)?;
    let lowest = match dtype {
        DType::F16 => -65504.0,
        DType::F64 => f64::MIN,
        _ => f64::from(f32::MIN),
    };
    let lowest = call.emit.scalar(lowest, DType::F64)?;
    let y = call.emit.select(empty, lowest, y)?;
    call.emit.cast(y, dtype)
}

/// `(x [.., n, m])`, `p` as an attribute: the distances of all pairs of rows, the first before the second.
pub(in crate::import) fn pair_distances(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    let dims = call.emit.dims(x)?;
    let axis = dims.len().saturating_sub(2);
    let Some(count) = dims.get(axis).and_then(Dim::as_fixed).filter(|&n| n <= 2048) else {
        return opaque::lower(call);
    };
    let p = call.float_or(ATTRIBUTE, "p", 2.0)?;
    let pairs = (0..count).flat_map(|i| (i + 1..count).map(move |j| (i, j)));
    let (first, second): (Vec<i64>, Vec<i64>) = pairs.unzip();
    let rows = Op::Gather(Gather { axis, batch_dims: 0 });
    let (first, second) = (call.emit.ints(first)?, call.emit.ints(second)?);
    let (a, b) = (call.emit.op(rows.clone(), &[x, first])?, call.emit.op(rows, &[x, second])?);
    let apart = call.emit.binary(Binary::Sub, a, b)?;
    super::stats::power_norm(call, apart, p, vec![axis + 1], false).map(Item::Tensor)
}

/// `(sorted rows [n, m], values [n, k])`: how many elements of each row are less than each value, or not greater.
pub(in crate::import) fn bound(call: &mut Call) -> Result<ValueId> {
    let (rows, values) = (call.tensor(0, "sorted_x")?, call.tensor(1, "values")?);
    let dtype = call.dtype(ATTRIBUTE, "out_type")?.unwrap_or(DType::I32);
    let f = if call.op_type == "UpperBound" { Binary::LessEqual } else { Binary::Less };
    let (mut before, mut each) = (call.emit.dims(rows)?, call.emit.dims(values)?);
    before.insert(1, Dim::from(1));
    each.push(Dim::from(1));
    let (rows, values) = (call.emit.reshape(rows, before)?, call.emit.reshape(values, each)?);
    let passed = call.emit.binary(f, rows, values)?;
    let passed = call.emit.cast(passed, dtype)?;
    call.emit.reduce(ReduceKind::Sum, passed, vec![2], false)
}

/// The greatest common divisor of sizes, by Euclid's algorithm.
pub(in crate::import) fn common_divisor(call: &mut Call) -> Result<ValueId> {
    let (x, y) = super::elementwise::operands(call)?;
    divisor(call, x, y)
}

fn divisor(call: &mut Call, x: ValueId, y: ValueId) -> Result<ValueId> {
    let dtype = call.emit.dtype(x);
    let shape = crate::infer::broadcast(&call.emit.spec(x).shape, &call.emit.spec(y).shape);
    let shape = shape.map_err(|e| call.invalid(e))?;
    let dims = shape.dims().map(<[Dim]>::to_vec).ok_or_else(|| call.invalid("a number has no rank"))?;
    let mut first = Vec::new();
    for x in [x, y] {
        let x = call.emit.cast(x, DType::I64)?;
        let x = call.emit.unary(Unary::Abs, x)?;
        first.push(call.emit.broadcast(x, dims.clone())?);
    }
    // Remainders at least halve in two steps; by 0 they are 0.
    let steps = Dim::from(92);
    let last = call.emit.turns(&steps, &first, |emit, _, carried| {
        let is_done = emit.with_scalar(Binary::Equal, carried[1], 0.0)?;
        let one = emit.int_scalar(1, DType::I64)?;
        let by = emit.select(is_done, one, carried[1])?;
        let rest = emit.binary(Binary::FloorMod, carried[0], by)?;
        Ok(vec![emit.select(is_done, carried[0], carried[1])?, rest])
    })?;
    call.emit.cast(last[0], dtype)
}

/// The least common multiple of sizes.
pub(in crate::import) fn common_multiple(call: &mut Call) -> Result<ValueId> {
    let (x, y) = super::elementwise::operands(call)?;
    let by = divisor(call, x, y)?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(by))?;
    let one = call.emit.scalar(1.0, call.emit.dtype(by))?;
    let is_zero = call.emit.binary(Binary::Equal, by, zero)?;
    let by = call.emit.select(is_zero, one, by)?;
    let part = call.emit.binary(Binary::TruncDiv, x, by)?;
    let multiple = call.emit.binary(Binary::Mul, part, y)?;
    call.emit.unary(Unary::Abs, multiple)
}

/// How many bits of each integer are set: u8.
pub(in crate::import) fn population_count(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let bits = 8 * call.emit.dtype(x).size();
    let x = call.emit.cast(x, DType::I64)?;
    let mut sum: Option<ValueId> = None;
    for bit in 0..bits {
        let mask = call.emit.int_scalar(1i64.wrapping_shl(bit as u32), DType::I64)?;
        let set = call.emit.binary(Binary::And, x, mask)?;
        let set = call.emit.with_scalar(Binary::NotEqual, set, 0.0)?;
        let set = call.emit.cast(set, DType::U8)?;
        sum = Some(match sum {
            Some(sum) => call.emit.binary(Binary::Add, sum, set)?,
            None => set,
        });
    }
    sum.ok_or_else(|| call.invalid("it has no bits"))
}

/// `(indices, dims)`: places of row-major elements, `[rank, count]`.
pub(in crate::import) fn unravel(call: &mut Call) -> Result<Item> {
    let indices = call.tensor(0, "indices")?;
    let Ok(Some(sides)) = call.dims(1, "dims") else { return opaque::lower(call) };
    let dtype = call.emit.dtype(indices);
    let dims = call.emit.dims(indices)?;
    let mut places = Vec::new();
    for (axis, side) in sides.iter().enumerate() {
        let step = call.emit.dim(&product(&sides[axis + 1..]), dtype)?;
        let side = call.emit.dim(side, dtype)?;
        let whole = call.emit.binary(Binary::FloorDiv, indices, step)?;
        let place = call.emit.binary(Binary::FloorMod, whole, side)?;
        places.push(call.emit.reshape(place, [&[Dim::from(1)], &dims[..]].concat())?);
    }
    call.emit.concat(&places, 0).map(Item::Tensor)
}

/// `(x, argmax)`: elements at their places, which are numbered row by row, and zeros elsewhere. The extents of the result
/// are those that the file states.
pub(in crate::import) fn unpooled(call: &mut Call) -> Result<Item> {
    let (x, at) = (call.tensor(0, "x")?, call.tensor(1, "argmax")?);
    let dims = call.emit.dims(x)?;
    let spatial = if call.op_type.contains("3D") { 3 } else { 2 };
    let stated = call.ty.and_then(mslite_mindir::Type::as_tensor).and_then(|tensor| {
        let spec = tensor.spec(|_| Dim::symbol("unknown"))?;
        let dims = spec.shape.as_fixed()?;
        Some(dims.iter().map(|&n| Dim::from(n)).collect::<Vec<_>>())
    });
    let is_channels_last =
        call.choice(ATTRIBUTE, "data_format", &["NCHW", "NHWC", "NCDHW", "NDHWC"], 0)? % 2 == 1;
    let Some(result) = stated.filter(|result| result.len() == dims.len() && !is_channels_last) else {
        return opaque::lower(call);
    };
    let lead = dims.len().saturating_sub(spatial);
    let (count, places) = (product(&dims[lead..]), product(&result[lead..]));
    let planes = product(&dims[..lead]);
    let flat = vec![planes.clone(), count];
    let (x, at) = (call.emit.reshape(x, flat.clone())?, call.emit.reshape(at, flat)?);
    let at = call.emit.cast(at, DType::I64)?;
    let plane = counter(call, planes.clone())?;
    let size = call.emit.dim(&places, DType::I64)?;
    let first = call.emit.binary(Binary::Mul, plane, size)?;
    let first = super::index::rows(call, first)?;
    let at = call.emit.binary(Binary::Add, at, first)?;
    let (x, at) = (super::scatter::flattened(call, x)?, super::scatter::flattened(call, at)?);
    let at = super::index::rows(call, at)?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let zeros = call.emit.broadcast(zero, vec![&planes * &places])?;
    let y = call.emit.op(Op::ScatterNd(ScatterKind::Update), &[zeros, at, x])?;
    call.emit.reshape(y, result).map(Item::Tensor)
}

/// `(x)`, with the letters of two formats as attributes: the places in the first format of the axes of the second, for numbers of
/// axes, or elements in the order of the second.
pub(in crate::import) fn format_map(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input_x")?;
    let format = |call: &mut Call, name: &str, default: &str| match call.attribute(name) {
        Some(Item::Text(text)) => text.to_string(),
        _ => default.to_owned(),
    };
    let (from, to) = (format(call, "src_format", "NHWC"), format(call, "dst_format", "NCHW"));
    let order: Option<Vec<i64>> = to.chars().map(|letter| from.find(letter).map(|n| n as i64)).collect();
    let order = order.ok_or_else(|| call.invalid(format!("formats {from} and {to}")))?;
    let order = call.emit.ints(order)?;
    let rows = Op::Gather(Gather { axis: 0, batch_dims: 0 });
    if call.op_type == "DataFormatDimMap" {
        let order = call.emit.cast(order, call.emit.dtype(x))?;
        return call.emit.op(rows, &[order, x]);
    }
    call.emit.op(rows, &[x, order])
}
