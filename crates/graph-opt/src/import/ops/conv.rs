use mslite_tensor::Dim;

use super::elementwise::activated;
use super::linear::is_channels_last;
use super::slice::reversed;
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::whole;
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Conv2d, Op, Pad, PadMode, Padding2d};

/// Names of padding modes by number.
pub(super) const PAD_MODES: &[&str] = &["pad", "same", "valid", "full"];

/// `(x, weight)` with everything else as attributes.
pub(in crate::import) fn conv2d(call: &mut Call) -> Result<ValueId> {
    convolution(call, None, "stride", "group")
}

/// `(x, weight, [bias])` with an activation, from the Lite converter.
pub(in crate::import) fn conv2d_fusion(call: &mut Call) -> Result<ValueId> {
    let bias = call.tensor_opt(2, "bias")?;
    let y = convolution(call, bias, "stride", "group")?;
    activated(call, y)
}

fn convolution(call: &mut Call, bias: Option<ValueId>, stride: &str, group: &str) -> Result<ValueId> {
    let (x, weight) = (call.tensor(0, "x")?, call.tensor(1, "weight")?);
    let channels_last = is_channels_last(call, ATTRIBUTE, "format")?;
    let op = Conv2d {
        strides: pair(call, ATTRIBUTE, stride, channels_last)?.unwrap_or([1, 1]),
        padding: padding(call)?,
        dilations: pair(call, ATTRIBUTE, "dilation", channels_last)?.unwrap_or([1, 1]),
        groups: groups(call, ATTRIBUTE, group)?,
        activation: None,
    };
    if !channels_last {
        return apply(call, op, x, weight, bias);
    }
    let x = call.emit.transpose(x, vec![0, 3, 1, 2])?;
    let weight = call.emit.transpose(weight, vec![0, 3, 1, 2])?;
    let y = apply(call, op, x, weight, bias)?;
    call.emit.transpose(y, vec![0, 2, 3, 1])
}

fn apply(call: &mut Call, op: Conv2d, x: ValueId, weight: ValueId, bias: Option<ValueId>) -> Result<ValueId> {
    match bias {
        Some(bias) => call.emit.op(Op::Conv2d(op), &[x, weight, bias]),
        None => call.emit.op(Op::Conv2d(op), &[x, weight]),
    }
}

fn groups(call: &mut Call, position: usize, name: &str) -> Result<usize> {
    let groups = call.int_or(position, name, 1)?;
    call.to_usize(groups, name)
}

/// Two numbers for height and width, from one, two, or one per axis.
pub(super) fn pair(
    call: &mut Call,
    position: usize,
    name: &str,
    channels_last: bool,
) -> Result<Option<[usize; 2]>> {
    let Some(ints) = call.ints(position, name)? else { return Ok(None) };
    let [h, w] = match (&ints[..], channels_last) {
        ([n], _) => [*n, *n],
        ([h, w], _) | ([_, h, w, _], true) | ([_, _, h, w], false) => [*h, *w],
        _ => return Err(call.invalid(format!("{name} has {} numbers", ints.len()))),
    };
    Ok(Some([call.to_usize(h, name)?, call.to_usize(w, name)?]))
}

/// Top, bottom, left, right from one, two (height and width) or four numbers.
pub(super) fn sides(call: &mut Call, position: usize, name: &str) -> Result<Option<[usize; 4]>> {
    let Some(ints) = call.ints(position, name)? else { return Ok(None) };
    let sides = match ints[..] {
        [n] => [n; 4],
        [h, w] => [h, h, w, w],
        [top, bottom, left, right] => [top, bottom, left, right],
        _ => return Err(call.invalid(format!("{name} has {} numbers", ints.len()))),
    };
    let mut result = [0; 4];
    for (to, from) in result.iter_mut().zip(sides) {
        *to = call.to_usize(from, name)?;
    }
    Ok(Some(result))
}

/// `pad_mode` with `pad_list`, which the front end has computed, or `pad`.
fn padding(call: &mut Call) -> Result<Padding2d> {
    match call.choice(ATTRIBUTE, "pad_mode", PAD_MODES, 0)? {
        0 => explicit_pad(call).map(Padding2d::Explicit),
        1 => Ok(Padding2d::Same),
        2 => Ok(Padding2d::Explicit([0; 4])),
        _ => Err(call.unsupported("pad_mode full is not known")),
    }
}

fn explicit_pad(call: &mut Call) -> Result<[usize; 4]> {
    let list = call.ints(ATTRIBUTE, "pad_list")?.filter(|list| list.iter().all(|&n| n >= 0));
    let name = if list.is_some() { "pad_list" } else { "pad" };
    Ok(sides(call, ATTRIBUTE, name)?.unwrap_or([0; 4]))
}

/// `(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1)`
pub(in crate::import) fn conv2d_ext(call: &mut Call) -> Result<ValueId> {
    let (x, weight) = (call.tensor(0, "input")?, call.tensor(1, "weight")?);
    let bias = call.tensor_opt(2, "bias")?;
    let padding = match call.arg(4, "padding") {
        Some(Item::Text(_)) => match call.choice(4, "padding", PAD_MODES, 2)? {
            1 => Padding2d::Same,
            _ => Padding2d::Explicit([0; 4]),
        },
        _ => Padding2d::Explicit(sides(call, 4, "padding")?.unwrap_or([0; 4])),
    };
    let op = Conv2d {
        strides: pair(call, 3, "stride", false)?.unwrap_or([1, 1]),
        padding,
        dilations: pair(call, 5, "dilation", false)?.unwrap_or([1, 1]),
        groups: groups(call, 6, "groups")?,
        activation: None,
    };
    apply(call, op, x, weight, bias)
}

/// `(x, weight [in, out / group, kh, kw], output sizes)`: the convolution of x, spread by the strides, with the
/// weight turned around.
pub(in crate::import) fn conv2d_transpose(call: &mut Call) -> Result<ValueId> {
    let (x, weight) = (call.tensor(0, "out_backprop")?, call.tensor(1, "filter")?);
    if is_channels_last(call, ATTRIBUTE, "format")? {
        return Err(call.unsupported("format NHWC is not known; export with NCHW"));
    }
    let sizes = call.required_ints(2, "input_sizes")?;
    let strides = pair(call, ATTRIBUTE, "stride", false)?.unwrap_or([1, 1]);
    let dilations = pair(call, ATTRIBUTE, "dilation", false)?.unwrap_or([1, 1]);
    let groups = groups(call, ATTRIBUTE, "group")?;
    let pad = match call.choice(ATTRIBUTE, "pad_mode", PAD_MODES, 0)? {
        2 => [0; 4],
        _ => explicit_pad(call)?,
    };
    let kernel = fixed_tail(call, weight)?;
    let input = fixed_tail(call, x)?;
    let [_, _, out_h, out_w] = sizes[..] else {
        return Err(call.invalid("input_sizes must have 4 numbers"));
    };
    let (mut low, mut high) = (vec![0; 4], vec![0; 4]);
    for (i, out) in [out_h, out_w].into_iter().enumerate() {
        let (stride, reach) =
            (int(strides[i]), int(dilations[i]).saturating_mul(kernel[i].saturating_sub(1)));
        low[2 + i] = reach - int(pad[2 * i]);
        // The spread tensor has `stride - 1` zeros after its last element already.
        high[2 + i] = out
            .saturating_add(reach)
            .saturating_sub(low[2 + i])
            .saturating_sub(input[i].saturating_mul(stride));
    }
    let x = spread(call, x, strides)?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let x = call.emit.op(Op::Pad(Pad { low, high, mode: PadMode::Constant }), &[x, zero])?;
    let weight = turned(call, weight, groups)?;
    let op =
        Conv2d { strides: [1, 1], padding: Padding2d::Explicit([0; 4]), dilations, groups, activation: None };
    apply(call, op, x, weight, None)
}

fn int(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn fixed_tail(call: &mut Call, x: ValueId) -> Result<[i64; 2]> {
    let dims = call.emit.dims(x)?;
    match &dims[..] {
        [_, _, h, w] => match (h.as_fixed(), w.as_fixed()) {
            (Some(h), Some(w)) => Ok([h, w]),
            _ => Err(call.unsupported("height and width must be fixed; export with fixed shapes")),
        },
        _ => Err(call.invalid("its operands must have rank 4")),
    }
}

/// Zeros between the elements of the last two axes.
pub(super) fn spread(call: &mut Call, x: ValueId, strides: [usize; 2]) -> Result<ValueId> {
    if strides == [1, 1] {
        return Ok(x);
    }
    let dims = call.emit.dims(x)?;
    let one = Dim::from(1);
    let apart = [&dims[0], &dims[1], &dims[2], &one, &dims[3], &one].into_iter().cloned().collect();
    let x = call.emit.reshape(x, apart)?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let mut high = vec![0; 6];
    (high[3], high[5]) = (int(strides[0]) - 1, int(strides[1]) - 1);
    let x = call.emit.op(Op::Pad(Pad { low: vec![0; 6], high, mode: PadMode::Constant }), &[x, zero])?;
    let wide = |axis: usize| &dims[axis] * &Dim::from(strides[axis - 2]);
    call.emit.reshape(x, vec![dims[0].clone(), dims[1].clone(), wide(2), wide(3)])
}

/// A weight [in, out / groups, kh, kw] as [out, in / groups, kh, kw], both kernel axes reversed.
pub(super) fn turned(call: &mut Call, weight: ValueId, groups: usize) -> Result<ValueId> {
    let dims = call.emit.dims(weight)?;
    let groups = Dim::from(groups);
    let inputs = dims[0].floor_div(&groups);
    let (kh, kw) = (dims[2].clone(), dims[3].clone());
    let split = vec![groups.clone(), inputs.clone(), dims[1].clone(), kh.clone(), kw.clone()];
    let weight = call.emit.reshape(weight, split)?;
    let weight = call.emit.transpose(weight, vec![0, 2, 1, 3, 4])?;
    let weight = call.emit.reshape(weight, vec![&groups * &dims[1], inputs, kh, kw])?;
    reversed(call, weight, &[2, 3])
}

/// Window, steps, dilations and padding of the last two axes.
struct Windows {
    kernel: [i64; 2],
    strides: [i64; 2],
    dilations: [i64; 2],
    pads: [i64; 2],
}

impl Windows {
    /// From numbers by name, or `(x, kernel, dilation, padding, stride)` from a position on.
    fn read(call: &mut Call, first: usize) -> Result<Self> {
        let at = |n: usize| if first == ATTRIBUTE { ATTRIBUTE } else { first + n };
        let is_ext = call.op_type.starts_with("Im2Col") && first != ATTRIBUTE;
        let names = match (call.op_type, is_ext) {
            ("Im2Col", _) => ["ksizes", "dilations", "pads", "strides"],
            _ => ["kernel_size", "dilation", "padding", "stride"],
        };
        let mut two = |i: usize, default: Option<i64>| -> Result<[i64; 2]> {
            let given = call.ints(at(i), names[i])?.or(default.map(|n| vec![n]));
            let pair = given.as_deref().and_then(twice);
            pair.ok_or_else(|| call.invalid(format!("{} must be two numbers", names[i])))
        };
        let (kernel, dilations) = (two(0, None)?, two(1, Some(1))?);
        let (pads, strides) = (two(2, Some(0))?, two(3, Some(1))?);
        let sizes = kernel.iter().all(|n| (1..=64).contains(n));
        if !sizes || strides.iter().chain(&dilations).any(|&n| n <= 0) || pads.iter().any(|&n| n < 0) {
            return Err(call.invalid("the window, its steps or its dilations are out of range"));
        }
        Ok(Windows { kernel, strides, dilations, pads })
    }

    /// Places of the window along an axis of so many elements, padding included.
    fn places(&self, axis: usize, extent: i64) -> i64 {
        let span = self.dilations[axis].saturating_mul(self.kernel[axis] - 1).saturating_add(1);
        extent.saturating_sub(span).div_euclid(self.strides[axis]) + 1
    }

    /// The first element of each place in a kernel, along both axes.
    fn starts(&self) -> impl Iterator<Item = [i64; 2]> {
        let [high, wide] = self.kernel;
        let [a, b] = self.dilations;
        (0..high * wide).map(move |place| [place / wide * a, place % wide * b])
    }
}

/// `(x)` with `ksizes`, `strides`, `dilations` and `pads`: the elements under each place of a window, as
/// [batch, channels, window, places].
pub(in crate::import) fn im2col(call: &mut Call) -> Result<ValueId> {
    let windows = Windows::read(call, ATTRIBUTE)?;
    let x = call.tensor(0, "x")?;
    under_windows(call, x, &windows).map(|(y, _)| y)
}

/// `(input, kernel_size, dilation=1, padding=0, stride=1)`: the same as [batch, channels * window, places].
pub(in crate::import) fn im2col_ext(call: &mut Call) -> Result<ValueId> {
    let windows = Windows::read(call, 1)?;
    let x = call.tensor(0, "input")?;
    let (y, _) = under_windows(call, x, &windows)?;
    let dims = call.emit.dims(y)?;
    call.emit.reshape(y, vec![dims[0].clone(), &dims[1] * &dims[2], dims[3].clone()])
}

/// `(x, ksizes, strides, rates, padding)`, each with four numbers: [batch, window * channels, rows, columns].
pub(in crate::import) fn extract_patches(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input_x")?;
    let two = |call: &mut Call, position: usize, name: &str| -> Result<[i64; 2]> {
        match call.required_ints(position, name)?[..] {
            [_, _, h, w] | [h, w] => Ok([h, w]),
            _ => Err(call.invalid(format!("{name} must have four numbers"))),
        }
    };
    let (kernel, strides) = (two(call, 1, "ksizes")?, two(call, 2, "strides")?);
    let dilations = two(call, 3, "rates")?;
    if call.choice(4, "padding", PAD_MODES, 2)? != 2 {
        return Err(call.unsupported("padding to the same size is not known"));
    }
    let windows = Windows { kernel, strides, dilations, pads: [0, 0] };
    if kernel.iter().any(|n| !(1..=64).contains(n)) || strides.iter().chain(&dilations).any(|&n| n <= 0) {
        return Err(call.invalid("the window, its steps or its dilations are out of range"));
    }
    let (y, [rows, columns]) = under_windows(call, x, &windows)?;
    let y = call.emit.transpose(y, vec![0, 2, 1, 3])?;
    let dims = call.emit.dims(y)?;
    call.emit.reshape(y, vec![dims[0].clone(), &dims[1] * &dims[2], Dim::from(rows), Dim::from(columns)])
}

/// `(x [batch, channels, window, places] or [batch, channels * window, places], output_size)`: the inverse of
/// [`im2col`]; elements that fall on one place add.
pub(in crate::import) fn col2im(call: &mut Call) -> Result<ValueId> {
    let is_ext = call.op_type == "Col2ImExt";
    let windows = Windows::read(call, if is_ext { 2 } else { ATTRIBUTE })?;
    let x = call.tensor(0, "x")?;
    // The size may be an input; the file states the type of the result in any case.
    let stated =
        call.ty.and_then(|ty| ty.as_tensor()?.spec(|_| Dim::from(-1))?.shape.dims().map(<[Dim]>::to_vec));
    let stated: Option<Vec<i64>> = stated.and_then(|dims| dims.get(2..)?.iter().map(Dim::as_fixed).collect());
    let sizes = match stated.filter(|sizes| sizes.iter().all(|&n| n > 0)) {
        Some(sizes) => sizes,
        None => call.required_ints(1, "output_size")?,
    };
    let [height, width] = sizes[..] else { return Err(call.invalid("output_size must be two numbers")) };
    let dims = call.emit.dims(x)?;
    let padded = [height + 2 * windows.pads[0], width + 2 * windows.pads[1]];
    let (rows, columns) = (windows.places(0, padded[0]), windows.places(1, padded[1]));
    let count = windows.kernel[0] * windows.kernel[1];
    let channels = if is_ext { dims[1].floor_div(&Dim::from(count)) } else { dims[1].clone() };
    if rows <= 0 || columns <= 0 {
        return Err(call.invalid("the window is larger than the result"));
    }
    let split =
        vec![dims[0].clone(), channels.clone(), Dim::from(count), Dim::from(rows), Dim::from(columns)];
    let x = call.emit.reshape(x, split)?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let mut sum: Option<ValueId> = None;
    for (place, start) in windows.starts().enumerate() {
        let part = call.emit.narrow(x, 2, Dim::from(place), Dim::from(1))?;
        let image = vec![dims[0].clone(), channels.clone(), Dim::from(rows), Dim::from(columns)];
        let part = call.emit.reshape(part, image)?;
        let part = spread(call, part, windows.strides.map(|n| usize::try_from(n).unwrap_or(1)))?;
        let (mut low, mut high) = (vec![0; 4], vec![0; 4]);
        for (axis, places) in [rows, columns].into_iter().enumerate() {
            low[2 + axis] = start[axis] - windows.pads[axis];
            high[2 + axis] = padded[axis] - start[axis] - places * windows.strides[axis] - windows.pads[axis];
        }
        let part = call.emit.op(Op::Pad(Pad { low, high, mode: PadMode::Constant }), &[part, zero])?;
        sum = Some(match sum {
            Some(sum) => call.emit.binary(crate::ir::op::Binary::Add, sum, part)?,
            None => part,
        });
    }
    sum.ok_or_else(|| call.invalid("the window is empty"))
}

/// The elements under each place of a window, and how many places there are along both axes.
fn under_windows(call: &mut Call, mut x: ValueId, windows: &Windows) -> Result<(ValueId, [i64; 2])> {
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    if windows.pads != [0, 0] {
        let around = vec![0, 0, windows.pads[0], windows.pads[1]];
        let pad = Pad { low: around.clone(), high: around, mode: PadMode::Constant };
        x = call.emit.op(Op::Pad(pad), &[x, zero])?;
    }
    let [h, w] = fixed_tail(call, x)?;
    let sizes = [windows.places(0, h), windows.places(1, w)];
    if sizes.iter().any(|&n| n <= 0) {
        return Err(call.invalid("the window is larger than the tensor"));
    }
    let dims = call.emit.dims(x)?;
    let row =
        vec![dims[0].clone(), dims[1].clone(), Dim::from(1), Dim::from(sizes[0].saturating_mul(sizes[1]))];
    let mut rows = Vec::new();
    for starts in windows.starts() {
        let mut part = whole(dims.clone());
        for (axis, start) in starts.into_iter().enumerate() {
            part.starts[2 + axis] = Dim::from(start);
            part.sizes[2 + axis] = Dim::from(sizes[axis]);
            part.steps[2 + axis] = windows.strides[axis];
        }
        let part = call.emit.slice(x, part)?;
        rows.push(call.emit.reshape(part, row.clone())?);
    }
    Ok((call.emit.concat(&rows, 2)?, sizes))
}

/// Two numbers, given as such or as one that counts twice.
fn twice(numbers: &[i64]) -> Option<[i64; 2]> {
    match *numbers {
        [n] => Some([n, n]),
        [a, b] => Some([a, b]),
        _ => None,
    }
}
