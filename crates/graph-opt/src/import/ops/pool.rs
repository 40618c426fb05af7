use mslite_tensor::Dim;

use super::conv::{PAD_MODES, pair, sides};
use super::elementwise::activated;
use super::linear::is_channels_last;
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Op, Pad, PadMode, Padding2d, Pool2d, ReduceKind};

/// `(x)` with attributes.
pub(in crate::import) fn max_pool(call: &mut Call) -> Result<ValueId> {
    pool(call, false, [ATTRIBUTE; 4])
}

/// `(x, kernel_size=1, strides=1, pad_mode='VALID', data_format='NCHW')`
pub(in crate::import) fn avg_pool(call: &mut Call) -> Result<ValueId> {
    pool(call, true, [1, 2, 3, 4])
}

fn pool(call: &mut Call, average: bool, at: [usize; 4]) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let format = if at[3] == ATTRIBUTE { "format" } else { "data_format" };
    let channels_last = is_channels_last(call, at[3], format)?;
    let kernel = pair(call, at[0], "kernel_size", channels_last)?.unwrap_or([1, 1]);
    let strides = pair(call, at[1], "strides", channels_last)?.unwrap_or([1, 1]);
    let padding = match call.choice(at[2], "pad_mode", PAD_MODES, 2)? {
        0 => Padding2d::Explicit(sides(call, ATTRIBUTE, "pad")?.unwrap_or([0; 4])),
        1 => Padding2d::Same,
        _ => Padding2d::Explicit([0; 4]),
    };
    let op = Pool2d { average, kernel, strides, padding, ceil_mode: false, count_padding: false };
    apply(call, op, x, channels_last)
}

fn apply(call: &mut Call, op: Pool2d, x: ValueId, channels_last: bool) -> Result<ValueId> {
    if !channels_last {
        return call.emit.op(Op::Pool2d(op), &[x]);
    }
    let x = call.emit.transpose(x, vec![0, 3, 1, 2])?;
    let y = call.emit.op(Op::Pool2d(op), &[x])?;
    call.emit.transpose(y, vec![0, 2, 3, 1])
}

pub(in crate::import) fn max_pool_fusion(call: &mut Call) -> Result<ValueId> {
    fusion(call, false)
}

pub(in crate::import) fn avg_pool_fusion(call: &mut Call) -> Result<ValueId> {
    fusion(call, true)
}

/// Pooling of the Lite converter.
fn fusion(call: &mut Call, average: bool) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let channels_last = is_channels_last(call, ATTRIBUTE, "format")?;
    if call.flag(ATTRIBUTE, "global")? {
        let axes = if channels_last { vec![1, 2] } else { vec![2, 3] };
        let kind = if average { ReduceKind::Mean } else { ReduceKind::Max };
        let y = call.emit.reduce(kind, x, axes, true)?;
        return activated(call, y);
    }
    let kernel = pair(call, ATTRIBUTE, "kernel_size", channels_last)?;
    let kernel = kernel.ok_or_else(|| call.invalid("kernel_size is missing"))?;
    let strides = pair(call, ATTRIBUTE, "strides", channels_last)?.unwrap_or([1, 1]);
    let padding = match call.choice(ATTRIBUTE, "pad_mode", PAD_MODES, 0)? {
        1 => Padding2d::Same,
        2 => Padding2d::Explicit([0; 4]),
        _ => Padding2d::Explicit(sides(call, ATTRIBUTE, "pad")?.unwrap_or([0; 4])),
    };
    let ceil_mode = call.int_or(ATTRIBUTE, "round_mode", 0)? == 1;
    let op = Pool2d { average, kernel, strides, padding, ceil_mode, count_padding: false };
    let y = apply(call, op, x, channels_last)?;
    activated(call, y)
}

/// `(input, kernel_size, stride, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None)`
pub(in crate::import) fn avg_pool2d(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let kernel =
        pair(call, 1, "kernel_size", false)?.ok_or_else(|| call.invalid("kernel_size is missing"))?;
    let divisor = call.int(6, "divisor_override")?.filter(|&n| n != 0);
    let op = Pool2d {
        average: true,
        kernel,
        strides: pair(call, 2, "stride", false)?.unwrap_or(kernel),
        padding: Padding2d::Explicit(sides(call, 3, "padding")?.unwrap_or([0; 4])),
        ceil_mode: call.flag(4, "ceil_mode")?,
        count_padding: divisor.is_some() || call.bool_opt(5, "count_include_pad")?.unwrap_or(true),
    };
    let y = call.emit.op(Op::Pool2d(op), &[x])?;
    match divisor {
        Some(divisor) => {
            let scale = kernel[0] as f64 * kernel[1] as f64 / divisor as f64;
            call.emit.with_scalar(Binary::Mul, y, scale)
        }
        None => Ok(y),
    }
}

pub(in crate::import) fn avg_pool3d(call: &mut Call) -> Result<ValueId> {
    pool3d(call, true)
}

pub(in crate::import) fn max_pool3d(call: &mut Call) -> Result<ValueId> {
    pool3d(call, false)
}

/// Pooling of [n, c, d, h, w] is pooling over height and width, then over depth.
fn pool3d(call: &mut Call, average: bool) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let dims = call.emit.dims(x)?;
    let three = |call: &mut Call, name: &str| -> Result<[usize; 3]> {
        let ints = call.required_ints(ATTRIBUTE, name)?;
        let [d, h, w] = match ints[..] {
            [d, h, w] | [_, _, d, h, w] => [d, h, w],
            [n] => [n, n, n],
            _ => return Err(call.invalid(format!("{name} has {} numbers", ints.len()))),
        };
        Ok([call.to_usize(d, name)?, call.to_usize(h, name)?, call.to_usize(w, name)?])
    };
    let (kernel, strides) = (three(call, "kernel_size")?, three(call, "strides")?);
    let mode = call.choice(ATTRIBUTE, "pad_mode", PAD_MODES, 2)?;
    let pad = call.ints(ATTRIBUTE, "pad_list")?.unwrap_or_default();
    let ceil_mode = call.flag(ATTRIBUTE, "ceil_mode")?;
    let count_padding = call.bool_opt(ATTRIBUTE, "count_include_pad")?.unwrap_or(false);
    let sides = |call: &mut Call, at: [usize; 4]| -> Result<Padding2d> {
        let mut sides = [0; 4];
        for (to, from) in sides.iter_mut().zip(at) {
            *to = call.to_usize(pad.get(from).copied().unwrap_or(0), "pad_list")?;
        }
        Ok(if mode == 1 { Padding2d::Same } else { Padding2d::Explicit(sides) })
    };
    let flat = kernel[0] == 1 && strides[0] == 1;
    let is_padded = pad.iter().any(|&n| n != 0);
    let divisor = call.int_or(ATTRIBUTE, "divisor_override", 0)?;
    let [n, c, d, h, w] = &dims[..] else { return Err(call.invalid("x must have rank 5")) };
    if average && !flat && (mode == 1 || ceil_mode) {
        return Err(call.unsupported("averages over a depth that is padded to the same size or sticks out"));
    }
    if average && (divisor != 0 || (is_padded && !flat)) {
        let around = (pad, divisor, count_padding);
        return padded_average(call, x, [kernel, strides], around);
    }
    let plane = call.emit.reshape(x, vec![n.clone(), c * d, h.clone(), w.clone()])?;
    let padding = sides(call, [2, 3, 4, 5])?;
    let op = |kernel, strides, padding| {
        Op::Pool2d(Pool2d { average, kernel, strides, padding, ceil_mode, count_padding })
    };
    let plane = call.emit.op(op([kernel[1], kernel[2]], [strides[1], strides[2]], padding), &[plane])?;
    let after = call.emit.dims(plane)?;
    let (h, w) = (after[2].clone(), after[3].clone());
    if flat {
        return call.emit.reshape(plane, vec![n.clone(), c.clone(), d.clone(), h, w]);
    }
    let column = call.emit.reshape(plane, vec![n.clone(), c.clone(), d.clone(), &h * &w])?;
    let padding = sides(call, [0, 1, 6, 6])?;
    let column = call.emit.op(op([kernel[0], 1], [strides[0], 1], padding), &[column])?;
    let d = call.emit.dims(column)?[2].clone();
    call.emit.reshape(column, vec![n.clone(), c.clone(), d, h, w])
}

/// Averages over zeros around the last three axes: all cells of a window count, those of the operand only, or as
/// many as the divisor says.
fn padded_average(
    call: &mut Call,
    x: ValueId,
    [kernel, strides]: [[usize; 3]; 2],
    (pad, divisor, count_padding): (Vec<i64>, i64, bool),
) -> Result<ValueId> {
    let side = |offset: usize| -> Vec<i64> {
        [0, 0].into_iter().chain((0..3).map(|i| pad.get(2 * i + offset).copied().unwrap_or(0))).collect()
    };
    let around = Op::Pad(Pad { low: side(0), high: side(1), mode: PadMode::Constant });
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let padded = call.emit.op(around.clone(), &[x, zero])?;
    let y = plain_average(call, padded, kernel, strides)?;
    if divisor != 0 {
        let scale = kernel.iter().product::<usize>() as f64 / divisor as f64;
        return call.emit.with_scalar(Binary::Mul, y, scale);
    }
    if count_padding {
        return Ok(y);
    }
    let one = call.emit.scalar(1.0, call.emit.dtype(x))?;
    let dims = call.emit.dims(x)?;
    let ones = call.emit.broadcast(one, dims)?;
    let ones = call.emit.op(around, &[ones, zero])?;
    let share = plain_average(call, ones, kernel, strides)?;
    call.emit.binary(Binary::Div, y, share)
}

/// Over height and width, then over depth.
fn plain_average(call: &mut Call, x: ValueId, kernel: [usize; 3], strides: [usize; 3]) -> Result<ValueId> {
    let op = |kernel, strides| {
        let padding = Padding2d::Explicit([0; 4]);
        let op = Pool2d { average: true, kernel, strides, padding, ceil_mode: false, count_padding: true };
        Op::Pool2d(op)
    };
    let dims = call.emit.dims(x)?;
    let [n, c, d, h, w] = &dims[..] else { return Err(call.invalid("x must have rank 5")) };
    let plane = call.emit.reshape(x, vec![n.clone(), c * d, h.clone(), w.clone()])?;
    let plane = call.emit.op(op([kernel[1], kernel[2]], [strides[1], strides[2]]), &[plane])?;
    let after = call.emit.dims(plane)?;
    let column = vec![n.clone(), c.clone(), d.clone(), &after[2] * &after[3]];
    let column = call.emit.reshape(plane, column)?;
    let column = call.emit.op(op([kernel[0], 1], [strides[0], 1]), &[column])?;
    let d = call.emit.dims(column)?[2].clone();
    call.emit.reshape(column, vec![n.clone(), c.clone(), d, after[2].clone(), after[3].clone()])
}

/// `(x) -> (y, index)` with attributes; the index is not made.
pub(in crate::import) fn max_pool_with_argmax(call: &mut Call) -> Result<Item> {
    with_index(call, ATTRIBUTE)
}

/// `(x, kernel_size, strides=None, pads=0, dilation=(1, 1), ceil_mode=False) -> (y, mask)`; the mask is not made.
pub(in crate::import) fn max_pool_with_mask(call: &mut Call) -> Result<Item> {
    with_index(call, 1)
}

fn with_index(call: &mut Call, first: usize) -> Result<Item> {
    if call.uses(1) {
        return super::opaque::lower(call);
    }
    let at = |n: usize| if first == ATTRIBUTE { ATTRIBUTE } else { first + n };
    let x = call.tensor(0, "x")?;
    let kernel =
        pair(call, at(0), "kernel_size", false)?.ok_or_else(|| call.invalid("kernel_size is missing"))?;
    if pair(call, at(3), "dilation", false)?.is_some_and(|dilation| dilation != [1, 1]) {
        return super::opaque::lower(call);
    }
    let [h, w] = pair(call, at(2), "pads", false)?.unwrap_or([0, 0]);
    let op = Pool2d {
        average: false,
        kernel,
        strides: pair(call, at(1), "strides", false)?.unwrap_or(kernel),
        padding: Padding2d::Explicit([h, h, w, w]),
        ceil_mode: call.flag(at(4), "ceil_mode")?,
        count_padding: false,
    };
    let y = call.emit.op(Op::Pool2d(op), &[x])?;
    Ok(Item::tuple([Item::Tensor(y), Item::UNMADE]))
}

pub(in crate::import) fn adaptive_avg_pool(call: &mut Call) -> Result<ValueId> {
    adaptive(call, true)
}

/// `(input, output_size) -> (y, index)`
pub(in crate::import) fn adaptive_max_pool(call: &mut Call) -> Result<Item> {
    if call.uses(1) {
        return super::opaque::lower(call);
    }
    let y = adaptive(call, false)?;
    Ok(Item::tuple([Item::Tensor(y), Item::UNMADE]))
}

/// Pooling to a size that divides the operand's.
fn adaptive(call: &mut Call, average: bool) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let dims = call.emit.dims(x)?;
    if dims.len() < 2 {
        return Err(call.invalid("the operand must have height and width"));
    }
    let sizes = match call.arg(1, "output_size") {
        Some(Item::Tuple(items)) => {
            items.iter().map(|item| call.item_dims(item)?.first()?.as_fixed()).collect()
        }
        _ => call
            .ints(1, "output_size")?
            .unwrap_or_default()
            .into_iter()
            .map(Some)
            .collect::<Vec<Option<i64>>>(),
    };
    let mut windows = [1usize; 2];
    for (i, window) in windows.iter_mut().enumerate() {
        let extent = &dims[dims.len() - 2 + i];
        let size = sizes.get(i).or(sizes.first()).copied().flatten();
        let Some(size) = size.filter(|&size| size > 0) else { continue };
        *window = match extent.as_fixed() {
            Some(n) if n % size == 0 => call.to_usize(n / size, "output_size")?,
            _ if sizes.iter().all(|size| *size == Some(1)) => return global(call, x, average),
            _ => {
                let kind = if average { ReduceKind::Mean } else { ReduceKind::Max };
                return super::space::adaptive(call, kind);
            }
        };
    }
    let rank = dims.len();
    let channels = crate::import::emit::product(&dims[..rank - 2]);
    let x =
        call.emit.reshape(x, vec![Dim::from(1), channels, dims[rank - 2].clone(), dims[rank - 1].clone()])?;
    let op = Pool2d {
        average,
        kernel: windows,
        strides: windows,
        padding: Padding2d::Explicit([0; 4]),
        ceil_mode: false,
        count_padding: false,
    };
    let y = call.emit.op(Op::Pool2d(op), &[x])?;
    let tail = call.emit.dims(y)?[2..].to_vec();
    call.emit.reshape(y, [&dims[..rank - 2], &tail[..]].concat())
}

fn global(call: &mut Call, x: ValueId, average: bool) -> Result<ValueId> {
    let rank = call.emit.rank(x)?;
    let kind = if average { ReduceKind::Mean } else { ReduceKind::Max };
    call.emit.reduce(kind, x, vec![rank - 2, rank - 1], true)
}
