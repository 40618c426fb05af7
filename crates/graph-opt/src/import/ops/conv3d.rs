//! Convolutions of one and three axes, and their transposes, by those of two.

use mslite_tensor::Dim;

use super::conv::{PAD_MODES, spread, turned};
use super::opaque;
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::whole;
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Conv2d, Op, Pad, PadMode, Padding2d};

/// Steps, dilations and padding along depth, height and width.
struct Window {
    strides: [usize; 3],
    dilations: [usize; 3],
    /// Before and after.
    padding: [[i64; 2]; 3],
    groups: usize,
}

/// Three numbers from one, three, or one per axis.
fn three(call: &mut Call, position: usize, name: &str, default: i64) -> Result<[usize; 3]> {
    let ints = call.ints(position, name)?.unwrap_or_else(|| vec![default]);
    let three = match ints[..] {
        [n] => [n; 3],
        [d, h, w] | [_, _, d, h, w] => [d, h, w],
        _ => return Err(call.invalid(format!("{name} has {} numbers", ints.len()))),
    };
    let mut result = [0; 3];
    for (to, from) in result.iter_mut().zip(three) {
        *to = call.to_usize(from, name)?;
    }
    Ok(result)
}

/// Padding before and after for which the result has `ceil(input / stride)` places.
fn same(
    call: &Call,
    x: ValueId,
    kernel: &[Dim],
    strides: [usize; 3],
    dilations: [usize; 3],
) -> Result<[[i64; 2]; 3]> {
    let dims = call.emit.dims(x)?;
    let mut padding = [[0; 2]; 3];
    for axis in 0..3 {
        let (Some(extent), Some(kernel)) = (dims[2 + axis].as_fixed(), kernel[axis].as_fixed()) else {
            return Err(
                call.unsupported("padding of unknown extents to the same size; export with fixed shapes")
            );
        };
        let (stride, dilation) = (strides[axis].max(1) as i64, dilations[axis] as i64);
        let places = extent.div_euclid(stride) + i64::from(extent % stride != 0);
        let span = dilation.saturating_mul(kernel - 1).saturating_add(1);
        let total = (places - 1).saturating_mul(stride).saturating_add(span).saturating_sub(extent).max(0);
        padding[axis] = [total / 2, total - total / 2];
    }
    Ok(padding)
}

/// `(x [n, c, d, h, w], weight [out, c / groups, kd, kh, kw])` with attributes.
pub(in crate::import) fn conv3d(call: &mut Call) -> Result<ValueId> {
    let (x, weight) = (call.tensor(0, "x")?, call.tensor(1, "w")?);
    let strides = three(call, ATTRIBUTE, "strides", 1)?;
    let dilations = three(call, ATTRIBUTE, "dilations", 1)?;
    let groups = call.int_or(ATTRIBUTE, "groups", 1)?;
    let groups = call.to_usize(groups, "groups")?;
    let padding = match call.choice(ATTRIBUTE, "pad_mode", PAD_MODES, 2)? {
        0 => stated_padding(call, ATTRIBUTE, "pad_list")?,
        1 => {
            let kernel = call.emit.dims(weight)?;
            same(call, x, kernel.get(2..5).unwrap_or_default(), strides, dilations)?
        }
        _ => [[0; 2]; 3],
    };
    let y = convolved(call, x, weight, &Window { strides, dilations, padding, groups })?;
    Ok(y)
}

/// Before and after along each axis, from one number, three, or six.
fn stated_padding(call: &mut Call, position: usize, name: &str) -> Result<[[i64; 2]; 3]> {
    let ints = call.ints(position, name)?.unwrap_or_else(|| vec![0]);
    Ok(match ints[..] {
        [n] => [[n; 2]; 3],
        [d, h, w] => [[d; 2], [h; 2], [w; 2]],
        [a, b, c, d, e, f] => [[a, b], [c, d], [e, f]],
        _ => return Err(call.invalid(format!("{name} has {} numbers", ints.len()))),
    })
}

/// `(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1)`, with the padding as a mode, too.
pub(in crate::import) fn conv3d_ext(call: &mut Call) -> Result<ValueId> {
    let (x, weight) = (call.tensor(0, "input")?, call.tensor(1, "weight")?);
    let (strides, dilations) = (three(call, 3, "stride", 1)?, three(call, 5, "dilation", 1)?);
    let groups = call.int_or(6, "groups", 1)?;
    let groups = call.to_usize(groups, "groups")?;
    let mode = padding_mode(call)?;
    let padding = match mode {
        Some(1) => {
            let kernel = call.emit.dims(weight)?;
            same(call, x, kernel.get(2..5).unwrap_or_default(), strides, dilations)?
        }
        Some(_) => [[0; 2]; 3],
        None => stated_padding(call, 4, "padding")?,
    };
    let y = convolved(call, x, weight, &Window { strides, dilations, padding, groups })?;
    biased(call, y, 2)
}

/// The mode by which a primitive pads that has no numbers for it.
fn padding_mode(call: &mut Call) -> Result<Option<usize>> {
    if !call.op_type.ends_with("Padding") {
        return Ok(None);
    }
    call.choice(4, "padding", PAD_MODES, 2).map(Some)
}

fn biased(call: &mut Call, y: ValueId, position: usize) -> Result<ValueId> {
    let Some(bias) = call.tensor_opt(position, "bias")? else { return Ok(y) };
    let rank = call.emit.rank(y)?;
    let bias = super::linear::along_channels(call, bias, rank)?;
    call.emit.binary(crate::ir::op::Binary::Add, y, bias)
}

/// Most elements of a kernel's depth.
const MAX_DEPTH: usize = 64;

/// Slices of the depth that one place of the result sees become channels of images.
fn convolved(call: &mut Call, x: ValueId, weight: ValueId, window: &Window) -> Result<ValueId> {
    let x = padded(call, x, &[window.padding[0], [0; 2], [0; 2]])?;
    let (dims, kernel) = (call.emit.dims(x)?, call.emit.dims(weight)?);
    let ([n, c, depth, h, w], [out, inner, kd, kh, kw]) = (&dims[..], &kernel[..]) else {
        return Err(call.invalid("x and the weight must have rank 5"));
    };
    let Some(slices) = kd.as_usize().filter(|slices| (1..=MAX_DEPTH).contains(slices)) else {
        return Err(call.unsupported(format!("a kernel of depth {kd} is not known")));
    };
    let (stride, dilation) = (window.strides[0], window.dilations[0]);
    if stride == 0 {
        return Err(call.invalid("a stride is 0"));
    }
    let span = Dim::from(dilation.saturating_mul(slices - 1) + 1);
    let places = &(depth - &span).floor_div(&Dim::from(stride)) + &Dim::from(1);
    let mut parts = Vec::new();
    for slice in 0..slices {
        let mut part = whole(dims.clone());
        part.starts[2] = Dim::from(slice * dilation);
        part.sizes[2] = places.clone();
        part.steps[2] = stride as i64;
        let part = call.emit.slice(x, part)?;
        let shape = [n, c, &Dim::from(1), &places, h, w].into_iter().cloned().collect();
        parts.push(call.emit.reshape(part, shape)?);
    }
    let stacked = call.emit.concat(&parts, 2)?;
    let images = call.emit.transpose(stacked, vec![0, 3, 1, 2, 4, 5])?;
    let channels = c * &Dim::from(slices);
    let images = call.emit.reshape(images, vec![n * &places, channels, h.clone(), w.clone()])?;
    let weight = call.emit.reshape(weight, vec![out.clone(), inner * kd, kh.clone(), kw.clone()])?;
    let [_, [top, bottom], [left, right]] = window.padding;
    let mut sides = [0; 4];
    for (to, from) in sides.iter_mut().zip([top, bottom, left, right]) {
        *to = call.to_usize(from, "padding")?;
    }
    let op = Conv2d {
        strides: [window.strides[1], window.strides[2]],
        padding: Padding2d::Explicit(sides),
        dilations: [window.dilations[1], window.dilations[2]],
        groups: window.groups,
        activation: None,
    };
    let y = call.emit.op(Op::Conv2d(op), &[images, weight])?;
    let after = call.emit.dims(y)?;
    let split = vec![n.clone(), places, out.clone(), after[2].clone(), after[3].clone()];
    let y = call.emit.reshape(y, split)?;
    call.emit.transpose(y, vec![0, 2, 1, 3, 4])
}

/// Zeros around the last three axes.
fn padded(call: &mut Call, x: ValueId, padding: &[[i64; 2]; 3]) -> Result<ValueId> {
    if padding.iter().all(|sides| *sides == [0; 2]) {
        return Ok(x);
    }
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let side = |i: usize| [0, 0].into_iter().chain(padding.iter().map(|sides| sides[i])).collect();
    let pad = Pad { low: side(0), high: side(1), mode: PadMode::Constant };
    call.emit.op(Op::Pad(pad), &[x, zero])
}

/// `(x [n, c, d, h, w], weight [c, out / groups, kd, kh, kw])` with attributes: the convolution of x, spread by the
/// strides, with the weight turned around.
pub(in crate::import) fn conv3d_transpose(call: &mut Call) -> Result<ValueId> {
    let (x, weight) = (call.tensor(0, "x")?, call.tensor(1, "filter")?);
    let strides = three(call, ATTRIBUTE, "strides", 1)?;
    let dilations = three(call, ATTRIBUTE, "dilations", 1)?;
    let groups = call.int_or(ATTRIBUTE, "groups", 1)?;
    let groups = call.to_usize(groups, "groups")?;
    let extra = three(call, ATTRIBUTE, "output_padding", 0)?;
    let pads = match call.choice(ATTRIBUTE, "pad_mode", PAD_MODES, 2)? {
        0 | 1 => stated_padding(call, ATTRIBUTE, "pad_list")?,
        _ => [[0; 2]; 3],
    };
    let (dims, kernel) = (call.emit.dims(x)?, call.emit.dims(weight)?);
    if dims.len() != 5 || kernel.len() != 5 || groups == 0 || strides.contains(&0) {
        return Err(call.invalid("x and the weight must have rank 5, and steps must not be 0"));
    }
    let mut x = x;
    for (axis, &stride) in strides.iter().enumerate() {
        x = spread_along(call, x, 2 + axis, stride)?;
    }
    let mut padding = [[0; 2]; 3];
    for axis in 0..3 {
        let Some(span) = kernel[2 + axis].as_fixed() else {
            return Err(call.unsupported("a kernel of unknown extents"));
        };
        let reach = (span - 1).saturating_mul(dilations[axis] as i64);
        let after = reach.saturating_add(extra[axis] as i64).saturating_sub(strides[axis] as i64 - 1);
        padding[axis] = [reach - pads[axis][0], after - pads[axis][1]];
    }
    let x = padded(call, x, &padding)?;
    let (parts, inputs) = (Dim::from(groups), kernel[0].floor_div(&Dim::from(groups)));
    let split = [&[parts.clone(), inputs.clone()], &kernel[1..]].concat();
    let weight = call.emit.reshape(weight, split)?;
    let weight = call.emit.transpose(weight, vec![0, 2, 1, 3, 4, 5])?;
    let weight = call.emit.reshape(weight, [&[&parts * &kernel[1], inputs], &kernel[2..]].concat())?;
    let weight = super::slice::reversed(call, weight, &[2, 3, 4])?;
    let window = Window { strides: [1; 3], dilations, padding: [[0; 2]; 3], groups };
    convolved(call, x, weight, &window)
}

/// Zeros behind each element of an axis.
fn spread_along(call: &mut Call, x: ValueId, axis: usize, stride: usize) -> Result<ValueId> {
    if stride == 1 {
        return Ok(x);
    }
    let mut dims = call.emit.dims(x)?;
    let mut apart = dims.clone();
    apart.insert(axis + 1, Dim::from(1));
    let x = call.emit.reshape(x, apart.clone())?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let mut high = vec![0; apart.len()];
    high[axis + 1] = stride as i64 - 1;
    let pad = Pad { low: vec![0; apart.len()], high, mode: PadMode::Constant };
    let x = call.emit.op(Op::Pad(pad), &[x, zero])?;
    dims[axis] = &dims[axis] * &Dim::from(stride);
    call.emit.reshape(x, dims)
}

/// `(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1)` along one axis.
pub(in crate::import) fn conv1d_ext(call: &mut Call) -> Result<ValueId> {
    let (x, weight) = (call.tensor(0, "input")?, call.tensor(1, "weight")?);
    let bias = call.tensor_opt(2, "bias")?;
    let one = |call: &mut Call, position: usize, name: &str, default: i64| -> Result<usize> {
        let ints = call.ints(position, name)?.unwrap_or_else(|| vec![default]);
        call.to_usize(ints.first().copied().unwrap_or(default), name)
    };
    let padding = match padding_mode(call)? {
        Some(1) => Padding2d::Same,
        Some(_) => Padding2d::Explicit([0; 4]),
        None => {
            let pad = one(call, 4, "padding", 0)?;
            Padding2d::Explicit([0, 0, pad, pad])
        }
    };
    let op = Conv2d {
        strides: [1, one(call, 3, "stride", 1)?],
        padding,
        dilations: [1, one(call, 5, "dilation", 1)?],
        groups: one(call, 6, "groups", 1)?,
        activation: None,
    };
    let flat = |call: &mut Call, x: ValueId| {
        let mut dims = call.emit.dims(x)?;
        dims.insert(dims.len().saturating_sub(1), Dim::from(1));
        call.emit.reshape(x, dims)
    };
    let operands: Vec<ValueId> = [flat(call, x)?, flat(call, weight)?].into_iter().chain(bias).collect();
    let y = call.emit.op(Op::Conv2d(op), &operands)?;
    let mut dims = call.emit.dims(y)?;
    dims.remove(dims.len() - 2);
    call.emit.reshape(y, dims)
}

/// `(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1)`, x of rank 4.
pub(in crate::import) fn conv_transpose2d(call: &mut Call) -> Result<ValueId> {
    transposed(call, [3, 4, 5, 6, 7])
}

/// `(input, weight, bias=None, stride=1, padding=0, dilation=1, transposed=False, output_padding=0, groups=1)`
pub(in crate::import) fn convolution(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input")?;
    let rank = call.emit.rank(x)?;
    if call.flag(6, "transposed")? {
        if rank != 4 {
            return opaque::lower(call);
        }
        return transposed(call, [3, 4, 7, 8, 5]).map(Item::Tensor);
    }
    let groups = call.args.get(8).cloned();
    call.args.truncate(6);
    call.args.extend(groups);
    match rank {
        3 => conv1d_ext(call).map(Item::Tensor),
        4 => super::conv::conv2d_ext(call).map(Item::Tensor),
        5 => conv3d_ext(call).map(Item::Tensor),
        _ => opaque::lower(call),
    }
}

/// The convolution of x, spread by the strides, with the weight turned around; positions of stride, padding, output
/// padding, groups and dilation.
fn transposed(call: &mut Call, [stride, padding, extra, groups, dilation]: [usize; 5]) -> Result<ValueId> {
    let (x, weight) = (call.tensor(0, "input")?, call.tensor(1, "weight")?);
    let bias = call.tensor_opt(2, "bias")?;
    let pair = |call: &mut Call, position: usize, name: &str, default: usize| {
        super::conv::pair(call, position, name, false).map(|pair| pair.unwrap_or([default; 2]))
    };
    let strides = pair(call, stride, "stride", 1)?;
    let (pads, extra) = (pair(call, padding, "padding", 0)?, pair(call, extra, "output_padding", 0)?);
    let dilations = pair(call, dilation, "dilation", 1)?;
    let groups = call.int_or(groups, "groups", 1)?;
    let groups = call.to_usize(groups, "groups")?;
    let kernel = call.emit.dims(weight)?;
    let x = spread(call, x, strides)?;
    let mut low = vec![0i64; 4];
    let mut high = vec![0i64; 4];
    for axis in 0..2 {
        let Some(span) = kernel.get(2 + axis).and_then(Dim::as_fixed) else {
            return Err(call.unsupported("a kernel of unknown extents"));
        };
        let reach = (span - 1).saturating_mul(dilations[axis] as i64);
        low[2 + axis] = reach - pads[axis] as i64;
        // The spread leaves zeros behind the last element, too.
        high[2 + axis] = low[2 + axis] + extra[axis] as i64 - (strides[axis] as i64 - 1);
    }
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let x = call.emit.op(Op::Pad(Pad { low, high, mode: PadMode::Constant }), &[x, zero])?;
    let weight = turned(call, weight, groups)?;
    let op =
        Conv2d { strides: [1, 1], padding: Padding2d::Explicit([0; 4]), dilations, groups, activation: None };
    let operands: Vec<ValueId> = [x, weight].into_iter().chain(bias).collect();
    call.emit.op(Op::Conv2d(op), &operands)
}
