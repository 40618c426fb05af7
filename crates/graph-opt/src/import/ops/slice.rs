use mslite_tensor::Dim;

use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::whole;
use crate::import::item::Item;
use crate::import::known::{is_from_data, minimum};
use crate::ir::ValueId;
use crate::ir::op::{Op, Pad, PadMode, Slice, Triangle};

/// What one entry of a strided slice does to an axis.
struct Range {
    start: Dim,
    size: Dim,
    step: i64,
    /// The axis is dropped.
    shrinks: bool,
}

/// The bit masks of a strided slice.
struct Masks {
    begin: i64,
    end: i64,
    ellipsis: i64,
    new_axis: i64,
    shrink: i64,
}

/// `(input_x, begin, end, strides, begin_mask=0, end_mask=0, ellipsis_mask=0, new_axis_mask=0, shrink_axis_mask=0)`
pub(in crate::import) fn strided_slice(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input_x")?;
    let (begin, end) = (call.required_dims(1, "begin")?, call.required_dims(2, "end")?);
    let steps = call.ints(3, "strides")?.unwrap_or_else(|| vec![1; begin.len()]);
    let masks = Masks {
        begin: call.int_or(4, "begin_mask", 0)?,
        end: call.int_or(5, "end_mask", 0)?,
        ellipsis: call.int_or(6, "ellipsis_mask", 0)?,
        new_axis: call.int_or(7, "new_axis_mask", 0)?,
        shrink: call.int_or(8, "shrink_axis_mask", 0)?,
    };
    if end.len() != begin.len() || steps.len() != begin.len() {
        return Err(call.invalid("begin, end and strides differ in length"));
    }
    let dims = call.emit.dims(x)?;
    let bit = |mask: i64, i: usize| i < 63 && mask >> i & 1 == 1;
    let is_new = |i: usize| bit(masks.new_axis, i) && !bit(masks.ellipsis, i);
    let named = (0..begin.len()).filter(|&i| !bit(masks.ellipsis, i) && !is_new(i)).count();
    let skipped =
        dims.len().checked_sub(named).ok_or_else(|| call.invalid("it names more axes than x has"))?;
    let (mut slice, mut result, mut axis) = (whole(dims.clone()), Vec::new(), 0);
    for i in 0..begin.len() {
        if bit(masks.ellipsis, i) {
            result.extend_from_slice(&dims[axis..axis + skipped]);
            axis += skipped;
        } else if is_new(i) {
            result.push(Dim::from(1));
        } else {
            let bounds = (
                (!bit(masks.begin, i) || bit(masks.shrink, i)).then_some(&begin[i]),
                (!bit(masks.end, i)).then_some(&end[i]),
            );
            let range = range(call, &dims[axis], bounds, steps[i], bit(masks.shrink, i))?;
            if !range.shrinks {
                result.push(range.size.clone());
            }
            slice.starts[axis] = range.start;
            slice.sizes[axis] = range.size;
            slice.steps[axis] = range.step;
            axis += 1;
        }
    }
    result.extend_from_slice(&dims[axis..]);
    let y = call.emit.slice(x, slice)?;
    call.emit.reshape(y, result)
}

fn range(
    call: &mut Call,
    extent: &Dim,
    (begin, end): (Option<&Dim>, Option<&Dim>),
    step: i64,
    shrinks: bool,
) -> Result<Range> {
    if step == 0 {
        return Err(call.invalid("a stride is 0"));
    }
    if let (true, Some(begin)) = (shrinks, begin) {
        let start = from_front(extent, begin);
        return Ok(Range { start, size: Dim::from(1), step: 1, shrinks });
    }
    let zero = Dim::from(0);
    let last = extent - &Dim::from(1);
    let (start, length) = if step > 0 {
        let start = begin.map_or(zero, |begin| clamped(extent, begin));
        let end = end.map_or(extent.clone(), |end| clamped(extent, end));
        (start.clone(), &end - &start)
    } else {
        let start = begin.map_or(last.clone(), |begin| minimum_of(&last, &from_front(extent, begin)));
        let end = end.map_or(Dim::from(-1), |end| match from_front(extent, end) {
            end if end.as_fixed().is_some_and(|n| n < -1) => Dim::from(-1),
            end if is_from_data(&end) => minimum_of(&last, &end.maximum(&Dim::from(-1))),
            end => minimum_of(&last, &end),
        });
        (start.clone(), &start - &end)
    };
    let size = length.ceil_div(&Dim::from(step.saturating_abs()));
    let size = match size.as_fixed() {
        Some(n) => Dim::from(n.max(0)),
        None if is_from_data(&size) => size.maximum(&Dim::from(0)),
        None => size,
    };
    if is_from_data(&size) {
        call.emit.limit(size.clone(), extent.clone());
    }
    let start = if size.as_fixed() == Some(0) { Dim::from(0) } else { start };
    Ok(Range { start, size, step, shrinks: false })
}

/// A place counted from the front; a negative one counts from the end.
fn from_front(extent: &Dim, place: &Dim) -> Dim {
    match place.as_fixed() {
        Some(n) if n < 0 => extent + place,
        None if is_from_data(place) => {
            // -1 for what is negative, else 0.
            let sign = place.floor_div(&Dim::from(1_i64 << 62));
            place - &(&sign * extent)
        }
        _ => place.clone(),
    }
}

/// A place of a forward slice, within 0 and the extent.
fn clamped(extent: &Dim, place: &Dim) -> Dim {
    match place.as_fixed() {
        None if is_from_data(place) => minimum_of(extent, &from_front(extent, place).maximum(&Dim::from(0))),
        // A symbolic extent is at least 1, so that its last place needs no bound.
        Some(-1) if extent.as_fixed().is_none() => extent + place,
        Some(n) if n < 0 => (extent + place).maximum(&Dim::from(0)),
        _ => minimum_of(extent, place),
    }
}

/// The smaller of an extent and a place, without an expression where one is plainly smaller.
fn minimum_of(extent: &Dim, place: &Dim) -> Dim {
    const BEYOND: i64 = i32::MAX as i64;
    match (extent - place).as_fixed() {
        Some(n) => {
            if n >= 0 {
                place.clone()
            } else {
                extent.clone()
            }
        }
        None if place.as_fixed().is_some_and(|n| n >= BEYOND) => extent.clone(),
        None if place.as_fixed() == Some(0) => place.clone(),
        None => minimum(extent, place),
    }
}

/// `(input, begin, size)`; size -1 takes the rest.
pub(in crate::import) fn slice(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let (starts, mut sizes) = (call.required_dims(1, "begin")?, call.required_dims(2, "size")?);
    let dims = call.emit.dims(x)?;
    if starts.len() != dims.len() || sizes.len() != dims.len() {
        return Err(call.invalid("begin and size must name every axis"));
    }
    for ((size, start), extent) in sizes.iter_mut().zip(&starts).zip(&dims) {
        if size.as_fixed() == Some(-1) {
            *size = extent - start;
        }
    }
    let steps = vec![1; dims.len()];
    call.emit.slice(x, Slice { starts, sizes, steps })
}

/// `(input, dim, start, length)`
pub(in crate::import) fn narrow(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let dims = call.emit.dims(x)?;
    let axis = call.axis(1, "dim", 0, dims.len())?;
    let start = call.dim(2, "start")?.ok_or_else(|| call.invalid("start is missing"))?;
    let length = call.dim(3, "length")?.ok_or_else(|| call.invalid("length is missing"))?;
    call.emit.narrow(x, axis, from_front(&dims[axis], &start), length)
}

/// `(input, dim, start, end, step)`
pub(in crate::import) fn slice_ext(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let dims = call.emit.dims(x)?;
    let axis = call.axis(1, "dim", 0, dims.len())?;
    let (start, end) = (call.dim(2, "start")?, call.dim(3, "end")?);
    let step = call.int_or(4, "step", 1)?;
    let range = range(call, &dims[axis], (start.as_ref(), end.as_ref()), step, false)?;
    let mut slice = whole(dims);
    slice.starts[axis] = range.start;
    slice.sizes[axis] = range.size;
    slice.steps[axis] = range.step;
    call.emit.slice(x, slice)
}

/// `(input, dim, index)`: one place of an axis, which is dropped.
pub(in crate::import) fn select_ext(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let mut dims = call.emit.dims(x)?;
    let axis = call.axis(1, "dim", 0, dims.len())?;
    let index = call.dim(2, "index")?.ok_or_else(|| call.invalid("index is missing"))?;
    let y = call.emit.narrow(x, axis, from_front(&dims[axis], &index), Dim::from(1))?;
    dims.remove(axis);
    call.emit.reshape(y, dims)
}

pub(in crate::import) fn reverse(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let rank = call.emit.rank(x)?;
    let axes = call.axes(1, "axis", rank)?.unwrap_or_default();
    reversed(call, x, &axes)
}

/// Some axes from the last place to the first.
pub(super) fn reversed(call: &mut Call, x: ValueId, axes: &[usize]) -> Result<ValueId> {
    let dims = call.emit.dims(x)?;
    let mut slice = whole(dims.clone());
    for &axis in axes {
        slice.starts[axis] = &dims[axis] - &Dim::from(1);
        slice.steps[axis] = -1;
    }
    call.emit.slice(x, slice)
}

/// `(input, shifts, dims=None)`
pub(in crate::import) fn roll(call: &mut Call) -> Result<ValueId> {
    let mut x = call.tensor(0, "input")?;
    let own = call.emit.dims(x)?;
    let shifts = match call.ints(1, "shifts")? {
        Some(shifts) => shifts,
        None => call.required_ints(ATTRIBUTE, "shift")?,
    };
    let name = if call.attributes.value("axis").is_some() { "axis" } else { "dims" };
    let axes = call.ints(2, name)?.filter(|axes| !axes.is_empty());
    if axes.is_none() {
        x = call.emit.reshape(x, vec![crate::import::emit::product(&own)])?;
    }
    for (i, axis) in axes.unwrap_or_else(|| vec![0]).into_iter().enumerate() {
        let dims = call.emit.dims(x)?;
        let axis = call.emit.axis(axis, dims.len())?;
        let Some(extent) = dims[axis].as_fixed() else {
            return Err(call.unsupported("the axis must have a fixed extent; export with fixed shapes"));
        };
        let shift = shifts.get(i).copied().unwrap_or(0);
        let moved = if extent == 0 { 0 } else { shift.rem_euclid(extent) };
        if moved != 0 {
            let (front, back) = (Dim::from(extent - moved), Dim::from(moved));
            let tail = call.emit.narrow(x, axis, front.clone(), back)?;
            let head = call.emit.narrow(x, axis, Dim::from(0), front)?;
            x = call.emit.concat(&[tail, head], axis)?;
        }
    }
    call.emit.reshape(x, own)
}

/// `(x, paddings, constant_value)`: pairs from the last axis backwards, or for every axis when not contiguous.
pub(in crate::import) fn pad_v3(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let rank = call.emit.rank(x)?;
    let pads = call.required_ints(1, "paddings")?;
    if pads.len() % 2 != 0 || pads.len() > 2 * rank {
        return Err(call.invalid(format!("{} paddings for a tensor of rank {rank}", pads.len())));
    }
    let contiguous = call.bool_opt(ATTRIBUTE, "paddings_contiguous")?.unwrap_or(true);
    let (mut low, mut high) = (vec![0; rank], vec![0; rank]);
    let count = pads.len() / 2;
    for i in 0..count {
        let axis = rank - 1 - i;
        (low[axis], high[axis]) = match contiguous {
            true => (pads[2 * i], pads[2 * i + 1]),
            false => (pads[count - 1 - i], pads[2 * count - 1 - i]),
        };
    }
    let mode = match call.choice(ATTRIBUTE, "mode", &["constant", "reflect", "edge", "circular"], 0)? {
        0 => PadMode::Constant,
        1 => PadMode::Reflect,
        2 => PadMode::Edge,
        _ => return Err(call.unsupported("mode circular is not known")),
    };
    padded(call, x, Pad { low, high, mode }, 2, "constant_value")
}

fn padded(call: &mut Call, x: ValueId, pad: Pad, position: usize, name: &str) -> Result<ValueId> {
    if pad.mode != PadMode::Constant {
        return call.emit.op(Op::Pad(pad), &[x]);
    }
    let dtype = call.emit.dtype(x);
    let value = match call.tensor_of(position, name, dtype)? {
        Some(value) => call.emit.reshape(value, Vec::new())?,
        None => call.emit.scalar(0.0, dtype)?,
    };
    call.emit.op(Op::Pad(pad), &[x, value])
}

/// Pairs for every axis as an attribute; zeros are added.
pub(in crate::import) fn pad(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let pairs = match call.attribute("paddings") {
        Some(Item::Tuple(pairs)) => pairs,
        _ => return Err(call.invalid("paddings is missing")),
    };
    let mut flat = Vec::new();
    for pair in pairs.iter() {
        let pair = call.item_dims(pair).unwrap_or_default();
        flat.extend(pair.iter().filter_map(Dim::as_fixed));
    }
    let pad = by_axis(call, x, &flat, PadMode::Constant)?;
    padded(call, x, pad, ATTRIBUTE, "value")
}

fn by_axis(call: &Call, x: ValueId, pairs: &[i64], mode: PadMode) -> Result<Pad> {
    let rank = call.emit.rank(x)?;
    if pairs.len() != 2 * rank {
        return Err(call.invalid(format!("{} paddings for a tensor of rank {rank}", pairs.len())));
    }
    let side = |offset: usize| (0..rank).map(|axis| pairs[2 * axis + offset]).collect();
    Ok(Pad { low: side(0), high: side(1), mode })
}

/// `(x, paddings)` with `padding_mode` as an attribute, from the Lite converter.
pub(in crate::import) fn pad_fusion(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let pairs = call.required_ints(1, "paddings")?;
    let mode = [PadMode::Constant, PadMode::Reflect, PadMode::Symmetric]
        [call.choice(ATTRIBUTE, "padding_mode", &["constant", "reflect", "symmetric"], 0)?];
    let pad = by_axis(call, x, &pairs, mode)?;
    padded(call, x, pad, ATTRIBUTE, "constant_value")
}

/// `(x, paddings [rank, 2])`
pub(in crate::import) fn mirror_pad(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let pairs = call.required_ints(1, "paddings")?;
    let mode = [PadMode::Reflect, PadMode::Symmetric]
        [call.choice(ATTRIBUTE, "mode", &["reflect", "symmetric"], 0)?];
    let pad = by_axis(call, x, &pairs, mode)?;
    padded(call, x, pad, ATTRIBUTE, "value")
}

/// `(input, padding, value)`: pairs from the last axis backwards.
pub(in crate::import) fn constant_pad(call: &mut Call) -> Result<ValueId> {
    pad_v3(call)
}

pub(in crate::import) fn tril(call: &mut Call) -> Result<ValueId> {
    triangle(call, false)
}

pub(in crate::import) fn triu(call: &mut Call) -> Result<ValueId> {
    triangle(call, true)
}

fn triangle(call: &mut Call, upper: bool) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let diagonal = call.int_or(1, "diagonal", 0)?;
    call.emit.op(Op::Triangle(Triangle { upper, diagonal }), &[x])
}
