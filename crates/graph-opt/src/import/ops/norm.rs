use mslite_tensor::{DType, Dim};

use super::linear::{along_channels, is_channels_last};
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::product;
use crate::import::item::Item;
use crate::import::table::Written;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Norm, Op, ReduceKind, Unary};

/// `(input_x, gamma, beta, begin_norm_axis=1, begin_params_axis=1, epsilon=1e-7) -> (y, mean, variance)`
pub(in crate::import) fn layer_norm(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input_x")?;
    let rank = call.emit.rank(x)?;
    let axis = call.axis(3, "begin_norm_axis", 1, rank)?;
    let epsilon = call.float_or(5, "epsilon", 1e-7)?;
    let (gamma, beta) = (call.tensor_opt(1, "gamma")?, call.tensor_opt(2, "beta")?);
    let y = normalised(call, x, axis, epsilon, gamma, beta)?;
    let (mean, variance) = statistics(call, x, axis)?;
    let mean = as_stated(call, mean, 1)?;
    let variance = as_stated(call, variance, 2)?;
    Ok(Item::tuple([Item::Tensor(y), mean, variance]))
}

/// `(input, normalized_shape, weight=None, bias=None, eps=1e-5) -> (y, mean, rstd)`
pub(in crate::import) fn layer_norm_ext(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input")?;
    let count = call.required_dims(1, "normalized_shape")?.len();
    let rank = call.emit.rank(x)?;
    let axis = rank.checked_sub(count).ok_or_else(|| call.invalid("normalized_shape has too many axes"))?;
    let epsilon = call.float_or(4, "eps", 1e-5)?;
    let (gamma, beta) = (call.tensor_opt(2, "weight")?, call.tensor_opt(3, "bias")?);
    let y = normalised(call, x, axis, epsilon, gamma, beta)?;
    let (mean, variance) = statistics(call, x, axis)?;
    let rstd = match variance {
        Item::Tensor(variance) if call.uses(2) => {
            let moved = call.emit.with_scalar(Binary::Add, variance, epsilon)?;
            Item::Tensor(call.emit.unary(Unary::Rsqrt, moved)?)
        }
        _ => Item::UNMADE,
    };
    Ok(Item::tuple([Item::Tensor(y), mean, rstd]))
}

fn normalised(
    call: &mut Call,
    x: ValueId,
    axis: usize,
    epsilon: f64,
    gamma: Option<ValueId>,
    beta: Option<ValueId>,
) -> Result<ValueId> {
    let op = Op::LayerNorm(Norm { axis, epsilon });
    let dtype = call.emit.dtype(x);
    let (gamma, beta) = match (gamma, beta) {
        (None, None) => return call.emit.op(op, &[x]),
        (gamma, beta) => {
            let gamma = gamma.map_or_else(|| call.emit.scalar(1.0, dtype), Ok)?;
            (gamma, beta.map_or_else(|| call.emit.scalar(0.0, dtype), Ok)?)
        }
    };
    let (gamma, beta) = (call.emit.cast(gamma, dtype)?, call.emit.cast(beta, dtype)?);
    call.emit.op(op, &[x, gamma, beta])
}

/// A statistic in the type that the file states.
fn as_stated(call: &mut Call, item: Item, result: usize) -> Result<Item> {
    match (item, call.stated_dtype(result)) {
        (Item::Tensor(x), Some(dtype)) => call.emit.cast(x, dtype).map(Item::Tensor),
        (item, _) => Ok(item),
    }
}

/// Mean and variance over the axes from `axis` on, as far as they are used.
fn statistics(call: &mut Call, x: ValueId, axis: usize) -> Result<(Item, Item)> {
    if !call.uses(1) && !call.uses(2) {
        return Ok((Item::UNMADE, Item::UNMADE));
    }
    let axes: Vec<usize> = (axis..call.emit.rank(x)?).collect();
    let mean = call.emit.reduce(ReduceKind::Mean, x, axes.clone(), true)?;
    let squares = call.emit.binary(Binary::SquaredDifference, x, mean)?;
    let variance = call.emit.reduce(ReduceKind::Mean, squares, axes, true)?;
    Ok((Item::Tensor(mean), Item::Tensor(variance)))
}

/// `(x, gamma, epsilon=1e-6) -> (y, rstd)`
pub(in crate::import) fn rms_norm(call: &mut Call) -> Result<Item> {
    let (x, gamma) = (call.tensor(0, "x")?, call.tensor(1, "gamma")?);
    let epsilon = call.float_or(2, "epsilon", 1e-6)?;
    let (y, rstd) = rms(call, x, gamma, epsilon, 1)?;
    Ok(Item::tuple([Item::Tensor(y), rstd]))
}

/// `(x1, x2, gamma, beta, epsilon=1e-5, additionalOut=False) -> (y, mean, rstd, x1 + x2)`
pub(in crate::import) fn add_layer_norm(call: &mut Call) -> Result<Item> {
    let (a, b) = (call.tensor(0, "x1")?, call.tensor(1, "x2")?);
    let (gamma, beta) = (call.tensor_opt(2, "gamma")?, call.tensor_opt(3, "beta")?);
    let epsilon = call.float_or(4, "epsilon", 1e-5)?;
    if call.uses(1) || call.uses(2) {
        return super::opaque::lower(call);
    }
    let sum = call.emit.binary(Binary::Add, a, b)?;
    let axis = call.emit.axis(-1, call.emit.rank(sum)?)?;
    let y = normalised(call, sum, axis, epsilon, gamma, beta)?;
    Ok(Item::tuple([Item::Tensor(y), Item::UNMADE, Item::UNMADE, Item::Tensor(sum)]))
}

/// `(x1, x2, gamma, epsilon=1e-6) -> (y, rstd, x1 + x2)`
pub(in crate::import) fn add_rms_norm(call: &mut Call) -> Result<Item> {
    let (a, b) = (call.tensor(0, "x1")?, call.tensor(1, "x2")?);
    let gamma = call.tensor(2, "gamma")?;
    let epsilon = call.float_or(3, "epsilon", 1e-6)?;
    let sum = call.emit.binary(Binary::Add, a, b)?;
    let (y, rstd) = rms(call, sum, gamma, epsilon, 1)?;
    Ok(Item::tuple([Item::Tensor(y), rstd, Item::Tensor(sum)]))
}

fn rms(call: &mut Call, x: ValueId, gamma: ValueId, epsilon: f64, result: usize) -> Result<(ValueId, Item)> {
    let rank = call.emit.rank(x)?;
    let axis = rank
        .checked_sub(call.emit.rank(gamma)?)
        .filter(|&axis| axis < rank)
        .ok_or_else(|| call.invalid("gamma does not fit x"))?;
    let gamma = call.emit.cast(gamma, call.emit.dtype(x))?;
    let y = call.emit.op(Op::RmsNorm(Norm { axis, epsilon }), &[x, gamma])?;
    if !call.uses(result) {
        return Ok((y, Item::UNMADE));
    }
    let wide = call.emit.cast(x, DType::F32)?;
    let squares = call.emit.unary(Unary::Square, wide)?;
    let mean = call.emit.reduce(ReduceKind::Mean, squares, (axis..rank).collect(), true)?;
    let moved = call.emit.with_scalar(Binary::Add, mean, epsilon)?;
    Ok((y, Item::Tensor(call.emit.unary(Unary::Rsqrt, moved)?)))
}

/// `(input_x, scale, bias, mean, variance, is_training=False, epsilon=1e-5, momentum=0.1, data_format='NCHW')`, and what
/// mean and variance hold afterwards if it trains. Of the five results only the first is made if it does not.
pub(in crate::import) fn batch_norm(call: &mut Call) -> Result<Written> {
    if call.flag(5, "is_training")? {
        return training_batch_norm(call);
    }
    inferring_batch_norm(call).map(|item| (item, Vec::new()))
}

/// By the statistics of the batch, which move the given ones by the momentum: `(y, mean, variance, mean of the batch,
/// its variance)`.
fn training_batch_norm(call: &mut Call) -> Result<Written> {
    let x = call.tensor(0, "input_x")?;
    let (epsilon, momentum) = (call.float_or(6, "epsilon", 1e-5)?, call.float_or(7, "momentum", 0.1)?);
    let channels_last = is_channels_last(call, 8, "data_format")?;
    let (dtype, dims) = (call.emit.dtype(x), call.emit.dims(x)?);
    let channel = if channels_last { dims.len() - 1 } else { 1 };
    let axes: Vec<usize> = (0..dims.len()).filter(|&axis| axis != channel).collect();
    let count = product(axes.iter().map(|&axis| &dims[axis]));
    let wide = call.emit.cast(x, DType::F32)?;
    let mean = call.emit.reduce(ReduceKind::Mean, wide, axes.clone(), true)?;
    let squares = call.emit.binary(Binary::SquaredDifference, wide, mean)?;
    let variance = call.emit.reduce(ReduceKind::Mean, squares, axes, true)?;
    let moved = call.emit.with_scalar(Binary::Add, variance, epsilon)?;
    let scale = call.emit.unary(Unary::Rsqrt, moved)?;
    let centred = call.emit.binary(Binary::Sub, wide, mean)?;
    let mut y = call.emit.binary(Binary::Mul, centred, scale)?;
    for (position, name, f) in [(1, "scale", Binary::Mul), (2, "bias", Binary::Add)] {
        if let Some(factor) = call.tensor_of(position, name, DType::F32)? {
            let shape = call.emit.dims(mean)?;
            let factor = call.emit.reshape(factor, shape)?;
            y = call.emit.binary(f, y, factor)?;
        }
    }
    let y = call.emit.cast(y, dtype)?;
    let channels = vec![dims[channel].clone()];
    let mut flat = |x: ValueId| call.emit.reshape(x, channels.clone());
    let (mean, variance) = (flat(mean)?, flat(variance)?);
    // The running variance is that of the population, estimated without bias.
    let less = call.emit.dim(&(&count - &Dim::from(1)), DType::F32)?;
    let count = call.emit.dim(&count, DType::F32)?;
    let unbiased = call.emit.binary(Binary::Mul, variance, count)?;
    let unbiased = call.emit.binary(Binary::Div, unbiased, less)?;
    let mut held = Vec::new();
    for (position, name, new) in [(3, "mean", mean), (4, "variance", unbiased)] {
        let old = call.tensor(position, name)?;
        let new = call.emit.cast(new, call.emit.dtype(old))?;
        let (old, new) = (
            call.emit.with_scalar(Binary::Mul, old, 1.0 - momentum)?,
            call.emit.with_scalar(Binary::Mul, new, momentum)?,
        );
        held.push(call.emit.binary(Binary::Add, old, new)?);
    }
    Ok((Item::tensors([y, held[0], held[1], mean, variance]), held))
}

fn inferring_batch_norm(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input_x")?;
    let epsilon = call.float_or(6, "epsilon", 1e-5)?;
    let channels_last = is_channels_last(call, 8, "data_format")?;
    let (dtype, rank) = (call.emit.dtype(x), call.emit.rank(x)?);
    let mean = call.tensor(3, "mean")?;
    let wide = call.emit.dtype(mean);
    let (mean, variance) = (mean, call.tensor(4, "variance")?);
    let moved = call.emit.with_scalar(Binary::Add, variance, epsilon)?;
    let deviation = call.emit.unary(Unary::Sqrt, moved)?;
    let mut scale = call.emit.unary(Unary::Reciprocal, deviation)?;
    if let Some(gamma) = call.tensor_of(1, "scale", wide)? {
        scale = call.emit.binary(Binary::Mul, gamma, scale)?;
    }
    let offset = call.emit.binary(Binary::Mul, mean, scale)?;
    let shift = match call.tensor_of(2, "bias", wide)? {
        Some(beta) => call.emit.binary(Binary::Sub, beta, offset)?,
        None => call.emit.unary(Unary::Neg, offset)?,
    };
    let (scale, shift) = match channels_last {
        true => (scale, shift),
        false => (along_channels(call, scale, rank)?, along_channels(call, shift, rank)?),
    };
    let x = call.emit.cast(x, wide)?;
    let y = call.emit.binary(Binary::Mul, x, scale)?;
    let y = call.emit.binary(Binary::Add, y, shift)?;
    let y = call.emit.cast(y, dtype)?;
    Ok(Item::tuple([Item::Tensor(y), Item::UNMADE, Item::UNMADE, Item::UNMADE, Item::UNMADE]))
}

/// `(input, num_groups, weight=None, bias=None, eps=1e-5) -> (y, mean, rstd)`
pub(in crate::import) fn group_norm(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input")?;
    let groups = call.required_int(1, "num_groups")?;
    let epsilon = call.float_or(4, "eps", 1e-5)?;
    let dims = call.emit.dims(x)?;
    let [n, c, ..] = &dims[..] else { return Err(call.invalid("x must have at least two axes")) };
    let groups = Dim::from(groups);
    let inside = &c.floor_div(&groups) * &product(&dims[2..]);
    let grouped = call.emit.reshape(x, vec![n.clone(), groups.clone(), inside])?;
    let y = call.emit.op(Op::LayerNorm(Norm { axis: 2, epsilon }), &[grouped])?;
    let mut y = call.emit.reshape(y, dims.clone())?;
    for (position, name, f) in [(2, "weight", Binary::Mul), (3, "bias", Binary::Add)] {
        if let Some(factor) = call.tensor_of(position, name, call.emit.dtype(y))? {
            let factor = along_channels(call, factor, dims.len())?;
            y = call.emit.binary(f, y, factor)?;
        }
    }
    let (mean, variance) = statistics(call, grouped, 2)?;
    let (Item::Tensor(mean), Item::Tensor(variance)) = (mean, variance) else {
        return Ok(Item::tuple([Item::Tensor(y), Item::UNMADE, Item::UNMADE]));
    };
    let moved = call.emit.with_scalar(Binary::Add, variance, epsilon)?;
    let rstd = call.emit.unary(Unary::Rsqrt, moved)?;
    let flat = vec![n.clone(), groups];
    Ok(Item::tensors([y, call.emit.reshape(mean, flat.clone())?, call.emit.reshape(rstd, flat)?]))
}

/// `x / sqrt(max(sum(x^2), epsilon))`
pub(in crate::import) fn l2_normalize(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let rank = call.emit.rank(x)?;
    let axes = call.axes(ATTRIBUTE, "axis", rank)?.unwrap_or_else(|| (0..rank).collect());
    let epsilon = call.float_or(ATTRIBUTE, "epsilon", 1e-4)?;
    let squares = call.emit.unary(Unary::Square, x)?;
    let sum = call.emit.reduce(ReduceKind::Sum, squares, axes, true)?;
    let sum = call.emit.with_scalar(Binary::Maximum, sum, epsilon)?;
    let norm = call.emit.unary(Unary::Sqrt, sum)?;
    call.emit.binary(Binary::Div, x, norm)
}
