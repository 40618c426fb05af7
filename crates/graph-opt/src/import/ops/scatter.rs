//! Writing to places that indices name, beyond `ScatterNd`.

use mslite_tensor::{DType, Dim};

use super::create::counter;
use super::index::{rows, scatter, scatter_elements};
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::{product, whole};
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Cumulative, Gather, Op, ReduceKind, ScatterKind, Unary};

pub(in crate::import) fn max(call: &mut Call) -> Result<ValueId> {
    scatter(call, ScatterKind::Max)
}

pub(in crate::import) fn min(call: &mut Call) -> Result<ValueId> {
    scatter(call, ScatterKind::Min)
}

pub(in crate::import) fn mul(call: &mut Call) -> Result<ValueId> {
    scatter(call, ScatterKind::Mul)
}

/// Adds the negative.
pub(in crate::import) fn sub(call: &mut Call) -> Result<ValueId> {
    with_updates(call, Unary::Neg)?;
    scatter(call, ScatterKind::Add)
}

/// Multiplies by the reciprocal.
pub(in crate::import) fn div(call: &mut Call) -> Result<ValueId> {
    with_updates(call, Unary::Reciprocal)?;
    scatter(call, ScatterKind::Mul)
}

fn with_updates(call: &mut Call, f: Unary) -> Result<()> {
    let updates = call.tensor(2, "updates")?;
    if f == Unary::Reciprocal && !call.emit.dtype(updates).is_float() {
        return Err(call.unsupported("division of integers is not known"));
    }
    call.args[2] = Item::Tensor(call.emit.unary(f, updates)?);
    Ok(())
}

/// `(variable, indices, updates)`: the same for whole rows.
pub(in crate::import) fn rows_sub(call: &mut Call) -> Result<ValueId> {
    row_pointers(call).and_then(|()| sub(call))
}

pub(in crate::import) fn rows_mul(call: &mut Call) -> Result<ValueId> {
    row_pointers(call).and_then(|()| mul(call))
}

pub(in crate::import) fn rows_div(call: &mut Call) -> Result<ValueId> {
    row_pointers(call).and_then(|()| div(call))
}

pub(in crate::import) fn rows_max(call: &mut Call) -> Result<ValueId> {
    row_pointers(call).and_then(|()| max(call))
}

pub(in crate::import) fn rows_min(call: &mut Call) -> Result<ValueId> {
    row_pointers(call).and_then(|()| min(call))
}

/// `(x, indices, updates)`: rows replaced.
pub(in crate::import) fn rows_update(call: &mut Call) -> Result<ValueId> {
    row_pointers(call)?;
    scatter(call, ScatterKind::Update)
}

fn row_pointers(call: &mut Call) -> Result<()> {
    let indices = call.tensor(1, "indices")?;
    call.args[1] = Item::Tensor(rows(call, indices)?);
    Ok(())
}

/// `(x, v)`, rows as an attribute: the rows of x plus v.
pub(in crate::import) fn rows_plus(call: &mut Call) -> Result<ValueId> {
    rows_with(call, ScatterKind::Add, false)
}

/// `(x, v)`, rows as an attribute: the rows of x minus v.
pub(in crate::import) fn rows_minus(call: &mut Call) -> Result<ValueId> {
    rows_with(call, ScatterKind::Add, true)
}

fn rows_with(call: &mut Call, kind: ScatterKind, negative: bool) -> Result<ValueId> {
    let (x, mut v) = (call.tensor(0, "x")?, call.tensor(1, "v")?);
    let at = call.required_ints(ATTRIBUTE, "indices")?;
    let at = call.emit.ints(at)?;
    let at = rows(call, at)?;
    if negative {
        v = call.emit.unary(Unary::Neg, v)?;
    }
    call.emit.scatter(kind, [x, at, v])
}

/// `(input, dim, index, src)`
pub(in crate::import) fn add_elements(call: &mut Call) -> Result<ValueId> {
    let updates = call.tensor(3, "src")?;
    scatter_elements(call, (1, "dim"), (2, "index"), updates, ScatterKind::Add)
}

/// `(input, dim, index, value, reduce)`: one number for all places.
pub(in crate::import) fn value_elements(call: &mut Call) -> Result<ValueId> {
    let (x, index) = (call.tensor(0, "input")?, call.tensor(2, "index")?);
    let value = call.tensor_of(3, "value", call.emit.dtype(x))?;
    let value = value.ok_or_else(|| call.invalid("value is missing"))?;
    let dims = call.emit.dims(index)?;
    let value = call.emit.reshape(value, Vec::new())?;
    let updates = call.emit.broadcast(value, dims)?;
    let kind = reduction(call, 4)?;
    scatter_elements(call, (1, "dim"), (2, "index"), updates, kind)
}

/// `(input, dim, index, src, reduce)`
pub(in crate::import) fn reduced_elements(call: &mut Call) -> Result<ValueId> {
    let updates = call.tensor(3, "src")?;
    let kind = reduction(call, 4)?;
    scatter_elements(call, (1, "dim"), (2, "index"), updates, kind)
}

/// What a reduction of elements does, by name or number.
pub(super) fn reduction(call: &mut Call, position: usize) -> Result<ScatterKind> {
    Ok(match call.choice(position, "reduction", &["none", "add", "multiply"], 0)? {
        0 => ScatterKind::Update,
        1 => ScatterKind::Add,
        _ => ScatterKind::Mul,
    })
}

/// `(input, dim, index, source, alpha=1)`: adds slices along an axis.
pub(in crate::import) fn index_add_ext(call: &mut Call) -> Result<ValueId> {
    let alpha = call.float_or(4, "alpha", 1.0)?;
    let mut source = call.tensor(3, "source")?;
    if alpha != 1.0 {
        source = call.emit.with_scalar(Binary::Mul, source, alpha)?;
    }
    along_axis(call, source, ScatterKind::Add)
}

/// `(input, dim, index, tensor)`: replaces slices along an axis.
pub(in crate::import) fn index_copy(call: &mut Call) -> Result<ValueId> {
    let source = call.tensor(3, "tensor")?;
    along_axis(call, source, ScatterKind::Update)
}

fn along_axis(call: &mut Call, source: ValueId, kind: ScatterKind) -> Result<ValueId> {
    let (x, index) = (call.tensor(0, "input")?, call.tensor(2, "index")?);
    let rank = call.emit.rank(x)?;
    let axis = call.axis(1, "dim", 0, rank)?;
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(0, axis);
    let x = call.emit.transpose(x, perm.clone())?;
    let source = call.emit.cast(source, call.emit.dtype(x))?;
    let source = call.emit.transpose(source, perm.clone())?;
    let index = rows(call, index)?;
    let y = call.emit.scatter(kind, [x, index, source])?;
    call.emit.transpose(y, perm)
}

/// `(x, values, indices, accumulate=False)` of `IndexPut`, `(x, indices, values, accumulate=False)` of the others:
/// `x[indices] = values` with one tensor of integers for each leading axis.
pub(in crate::import) fn index_put(call: &mut Call) -> Result<ValueId> {
    let (values, indices) = if call.op_type == "IndexPut" { (1, 2) } else { (2, 1) };
    let x = call.tensor(0, "input")?;
    let accumulate = match call.op_type {
        "IndexPut" => call.int_or(ATTRIBUTE, "accumulate", 0)? != 0,
        _ => call.flag(3, "accumulate")?,
    };
    let pointers = pointers(call, indices)?;
    let at = call.emit.dims(pointers)?;
    let depth = at.last().and_then(Dim::as_usize).unwrap_or(0);
    let dims = call.emit.dims(x)?;
    let updates = [&at[..at.len() - 1], dims.get(depth..).unwrap_or_default()].concat();
    let values = call.tensor_of(values, "values", call.emit.dtype(x))?;
    let values = values.ok_or_else(|| call.invalid("values is missing"))?;
    let values = call.emit.broadcast(values, updates)?;
    let kind = if accumulate { ScatterKind::Add } else { ScatterKind::Update };
    call.emit.scatter(kind, [x, pointers, values])
}

/// `(x, indices)`: `x[indices]` with one tensor of integers for each leading axis.
pub(in crate::import) fn index(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let pointers = pointers(call, 1)?;
    call.emit.op(Op::GatherNd, &[x, pointers])
}

/// Tensors of integers for the leading axes, broadcast and joined along a new last axis.
fn pointers(call: &mut Call, position: usize) -> Result<ValueId> {
    let tensors = match call.args.get(position) {
        Some(Item::Tuple(items)) => items.to_vec(),
        Some(item @ Item::Tensor(_)) => vec![item.clone()],
        _ => return Err(call.invalid("indices are missing")),
    };
    let mut indices = Vec::new();
    for item in &tensors {
        let Item::Tensor(x) = *item else {
            return Err(
                call.unsupported("an index is no tensor; index the leading axes by tensors of integers")
            );
        };
        if !call.emit.dtype(x).is_int() {
            return Err(call.unsupported("an index is no integer: how many places it names depends on data"));
        }
        indices.push(call.emit.cast(x, DType::I64)?);
    }
    let mut shape = call.emit.spec(indices[0]).shape.clone();
    for &x in &indices[1..] {
        shape = crate::infer::broadcast(&shape, &call.emit.spec(x).shape).map_err(|e| call.invalid(e))?;
    }
    let dims = shape.dims().map(<[Dim]>::to_vec).ok_or_else(|| call.invalid("an index has no rank"))?;
    let mut parts = Vec::new();
    for x in indices {
        let x = call.emit.broadcast(x, dims.clone())?;
        parts.push(rows(call, x)?);
    }
    call.emit.concat(&parts, dims.len())
}

/// `(x, index)`: elements of x, flattened.
pub(in crate::import) fn take(call: &mut Call) -> Result<ValueId> {
    let (x, index) = (call.tensor(0, "input")?, call.tensor(1, "index")?);
    let flat = flattened(call, x)?;
    call.emit.op(Op::Gather(Gather { axis: 0, batch_dims: 0 }), &[flat, index])
}

/// `(input, index, source, accumulate=False)`: elements of x, flattened, are written.
pub(in crate::import) fn put(call: &mut Call) -> Result<ValueId> {
    let (x, index) = (call.tensor(0, "input")?, call.tensor(1, "index")?);
    let source = call.tensor(2, "source")?;
    let kind = if call.flag(3, "accumulate")? { ScatterKind::Add } else { ScatterKind::Update };
    let dims = call.emit.dims(x)?;
    let (flat, index, source) = (flattened(call, x)?, flattened(call, index)?, flattened(call, source)?);
    let index = rows(call, index)?;
    let y = call.emit.scatter(kind, [flat, index, source])?;
    call.emit.reshape(y, dims)
}

pub(super) fn flattened(call: &mut Call, x: ValueId) -> Result<ValueId> {
    let count = product(&call.emit.dims(x)?);
    call.emit.reshape(x, vec![count])
}

/// `(input, mask, source)`: where the mask holds, the elements of source in order.
pub(in crate::import) fn masked_scatter(call: &mut Call) -> Result<ValueId> {
    let (x, mask) = (call.tensor(0, "input")?, call.tensor(1, "mask")?);
    let source = call.tensor(2, "source")?;
    let dims = call.emit.dims(x)?;
    let mask = call.emit.cast(mask, DType::Bool)?;
    let mask = call.emit.broadcast(mask, dims.clone())?;
    let flat = flattened(call, mask)?;
    let counted = call.emit.cast(flat, DType::I64)?;
    let op = Op::Cumulative(Cumulative { product: false, axis: 0, exclusive: true, reverse: false });
    let before = call.emit.op(op, &[counted])?;
    let source = flattened(call, source)?;
    let last = &call.emit.dims(source)?[0] - &Dim::from(1);
    let last = call.emit.dim(&last, DType::I64)?;
    let at = call.emit.binary(Binary::Minimum, before, last)?;
    let taken = call.emit.op(Op::Gather(Gather { axis: 0, batch_dims: 0 }), &[source, at])?;
    let taken = call.emit.reshape(taken, dims)?;
    call.emit.select(mask, taken, x)
}

/// `(input, fill_value, wrap=False)`
pub(in crate::import) fn fill_diagonal(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let at = if call.op_type == "FillDiagonal" { ATTRIBUTE } else { 1 };
    let value = call.float_or(at, "fill_value", 0.0)?;
    let wraps = call.flag(if at == 1 { 2 } else { ATTRIBUTE }, "wrap")?;
    let dims = call.emit.dims(x)?;
    let tall = dims.len() == 2 && dims[0].as_fixed().zip(dims[1].as_fixed()).is_none_or(|(h, w)| h > w);
    if dims.len() < 2 || (wraps && tall) {
        return Err(call.unsupported("a diagonal that wraps around is not known"));
    }
    let side = dims.iter().skip(1).fold(dims[0].clone(), |a, b| crate::import::known::minimum(&a, b));
    let counter = counter(call, side.clone())?;
    let at = call.emit.reshape(counter, vec![side.clone(), Dim::from(1)])?;
    let at = call.emit.concat(&vec![at; dims.len()], 1)?;
    let value = call.emit.scalar(value, call.emit.dtype(x))?;
    let value = call.emit.broadcast(value, vec![side])?;
    call.emit.scatter(ScatterKind::Update, [x, at, value])
}

/// `(x, value, begin, end, strides)`: a strided part of the leading axes replaced.
pub(in crate::import) fn copy_slices(call: &mut Call) -> Result<ValueId> {
    let (x, value) = (call.tensor(0, "x")?, call.tensor(1, "value")?);
    let (begin, end) = (call.required_ints(2, "begin")?, call.required_ints(3, "end")?);
    let steps = call.required_ints(4, "strides")?;
    let dims = call.emit.dims(x)?;
    let mut places: Option<ValueId> = None;
    let mut sizes = dims.clone();
    let mut scale = Dim::from(1);
    // Numbers of the elements that are replaced, from the last axis on.
    for axis in (0..dims.len()).rev() {
        let (start, step) = (begin.get(axis).copied().unwrap_or(0), steps.get(axis).copied().unwrap_or(1));
        let along = match (end.get(axis), dims[axis].as_fixed()) {
            (None, _) => counter(call, dims[axis].clone())?,
            (Some(&end), Some(extent)) if step > 0 => {
                let bound = |place: i64| if place < 0 { place + extent } else { place }.clamp(0, extent);
                let step_by = usize::try_from(step).unwrap_or(1);
                call.emit.ints((bound(start)..bound(end)).step_by(step_by).collect())?
            }
            _ => return Err(call.unsupported("it replaces a part of an axis whose extent is not known")),
        };
        sizes[axis] = call.emit.dims(along)?[0].clone();
        let factor = call.emit.dim(&scale, DType::I64)?;
        let along = call.emit.binary(Binary::Mul, along, factor)?;
        places = Some(match places {
            None => along,
            Some(inner) => {
                let along = rows(call, along)?;
                let sum = call.emit.binary(Binary::Add, along, inner)?;
                flattened(call, sum)?
            }
        });
        scale = &scale * &dims[axis];
    }
    let Some(places) = places else { return call.emit.cast(value, call.emit.dtype(x)) };
    let value = call.emit.cast(value, call.emit.dtype(x))?;
    let value = broadcast_aside(call, value, sizes)?;
    let (flat, value) = (flattened(call, x)?, flattened(call, value)?);
    let places = rows(call, places)?;
    let y = call.emit.scatter(ScatterKind::Update, [flat, places, value])?;
    call.emit.reshape(y, dims)
}

/// Broadcasts a value that may lack axes of extent 1, or have more of them.
fn broadcast_aside(call: &mut Call, value: ValueId, sizes: Vec<Dim>) -> Result<ValueId> {
    let own = call.emit.dims(value)?;
    if product(&own) == product(&sizes) {
        return call.emit.reshape(value, sizes);
    }
    let kept: Vec<Dim> = own.into_iter().skip_while(|dim| dim.as_fixed() == Some(1)).collect();
    let value = call.emit.reshape(value, kept)?;
    call.emit.broadcast(value, sizes)
}

/// `(x, segment_ids, num_segments)`: sums of rows by segment; rows of a negative segment are left out.
pub(in crate::import) fn segment_sum(call: &mut Call) -> Result<ValueId> {
    segments(call, ScatterKind::Add, 0.0)
}

pub(in crate::import) fn segment_prod(call: &mut Call) -> Result<ValueId> {
    segments(call, ScatterKind::Mul, 1.0)
}

/// Segments without rows hold the lowest number of the type.
pub(in crate::import) fn segment_max(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let lowest = limits(call.emit.dtype(x)).0;
    segments(call, ScatterKind::Max, lowest)
}

/// Segments without rows hold the highest number of the type.
pub(in crate::import) fn segment_min(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let highest = limits(call.emit.dtype(x)).1;
    segments(call, ScatterKind::Min, highest)
}

fn limits(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::F16 => (-65504.0, 65504.0),
        DType::F64 => (f64::MIN, f64::MAX),
        DType::I8 => (f64::from(i8::MIN), f64::from(i8::MAX)),
        DType::I16 => (f64::from(i16::MIN), f64::from(i16::MAX)),
        DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        DType::I64 => (i64::MIN as f64, i64::MAX as f64),
        DType::U8 => (0.0, f64::from(u8::MAX)),
        DType::U16 => (0.0, f64::from(u16::MAX)),
        DType::U32 => (0.0, f64::from(u32::MAX)),
        DType::U64 => (0.0, u64::MAX as f64),
        _ => (f64::from(f32::MIN), f64::from(f32::MAX)),
    }
}

fn segments(call: &mut Call, kind: ScatterKind, empty: f64) -> Result<ValueId> {
    let (x, ids) = (call.tensor(0, "x")?, call.tensor(1, "segment_ids")?);
    let count = call.dim(2, "num_segments")?.ok_or_else(|| call.invalid("num_segments is missing"))?;
    let (dims, at) = (call.emit.dims(x)?, call.emit.dims(ids)?);
    if at.len() > dims.len() {
        return Err(call.invalid("segment_ids have more axes than x"));
    }
    // One segment more takes the rows that belong to none.
    let spare = call.emit.dim(&count, DType::I64)?;
    let ids = call.emit.cast(ids, DType::I64)?;
    let outside = call.emit.with_scalar(Binary::Less, ids, 0.0)?;
    let ids = call.emit.select(outside, spare, ids)?;
    let rest = &dims[at.len()..];
    let start = call.emit.scalar(empty, call.emit.dtype(x))?;
    let shape = [&[&count + &Dim::from(1)], rest].concat();
    let start = call.emit.broadcast(start, shape)?;
    let ids = rows(call, ids)?;
    let sums = call.emit.scatter(kind, [start, ids, x])?;
    call.emit.narrow(sums, 0, Dim::from(0), count)
}

/// `(x, seq_lengths)`: the first elements along `seq_dim` reversed, as many as each entry of the batch says.
pub(in crate::import) fn reverse_sequence(call: &mut Call) -> Result<ValueId> {
    let (x, lengths) = (call.tensor(0, "x")?, call.tensor(1, "seq_lengths")?);
    let dims = call.emit.dims(x)?;
    let axis = call.axis(ATTRIBUTE, "seq_dim", 0, dims.len())?;
    let batch = call.axis(ATTRIBUTE, "batch_dim", 0, dims.len())?;
    let along = |axis: usize| {
        let mut shape = vec![Dim::from(1); dims.len()];
        shape[axis] = dims[axis].clone();
        shape
    };
    let counter = counter(call, dims[axis].clone())?;
    let place = call.emit.reshape(counter, along(axis))?;
    let lengths = call.emit.cast(lengths, DType::I64)?;
    let lengths = call.emit.reshape(lengths, along(batch))?;
    let inside = call.emit.binary(Binary::Less, place, lengths)?;
    let one = call.emit.int_scalar(1, DType::I64)?;
    let last = call.emit.binary(Binary::Sub, lengths, one)?;
    let turned = call.emit.binary(Binary::Sub, last, place)?;
    let from = call.emit.select(inside, turned, place)?;
    let from = call.emit.broadcast(from, dims)?;
    call.emit.op(Op::GatherElements { axis }, &[x, from])
}

/// `(input, repeats, dim=None)`: repeats known before the run.
pub(in crate::import) fn repeat_interleave(call: &mut Call) -> Result<ValueId> {
    let mut x = call.tensor(0, "input")?;
    let repeats = call.required_ints(1, "repeats")?;
    let dims = call.emit.dims(x)?;
    let axis = match call.int(2, "dim")? {
        Some(axis) => call.emit.axis(axis, dims.len())?,
        None => {
            x = flattened(call, x)?;
            0
        }
    };
    let extent = call.emit.dims(x)?[axis].as_usize();
    let repeats = match (&repeats[..], extent) {
        ([n], Some(extent)) => vec![*n; extent],
        (_, Some(extent)) if extent == repeats.len() => repeats,
        _ => return Err(call.unsupported("repeats must be as many as the axis has places")),
    };
    const MOST: i64 = 1 << 24;
    if repeats.iter().any(|&n| n < 0) || repeats.iter().fold(0, |sum: i64, &n| sum.saturating_add(n)) > MOST {
        return Err(call.invalid("repeats are negative or too many"));
    }
    let places = repeats.iter().enumerate().flat_map(|(i, &n)| (0..n).map(move |_| i as i64)).collect();
    let places = call.emit.ints(places)?;
    call.emit.op(Op::Gather(Gather { axis, batch_dims: 0 }), &[x, places])
}

/// `(x, bins)` with boundaries as an attribute: how many boundaries are not above each element.
pub(in crate::import) fn bucketize(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let boundaries = call.attribute("boundaries").ok_or_else(|| call.invalid("boundaries are missing"))?;
    let bounds = call.emit.tensor(&boundaries)?.ok_or_else(|| call.invalid("boundaries are no numbers"))?;
    let bounds = call.emit.cast(bounds, DType::F32)?;
    let x = call.emit.cast(x, DType::F32)?;
    let axis = call.emit.rank(x)?;
    let x = rows(call, x)?;
    let above = call.emit.binary(Binary::GreaterEqual, x, bounds)?;
    let above = call.emit.cast(above, DType::I32)?;
    call.emit.reduce(ReduceKind::Sum, above, vec![axis], false)
}

/// `(input, index, axis)`: one place of an axis, which is dropped.
pub(in crate::import) fn select_view(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let mut dims = call.emit.dims(x)?;
    let axis = call.axis(2, "axis", 0, dims.len())?;
    let index = call.required_int(1, "index")?;
    let start = if index < 0 { &dims[axis] + &Dim::from(index) } else { Dim::from(index) };
    let mut slice = whole(dims.clone());
    slice.starts[axis] = start;
    slice.sizes[axis] = Dim::from(1);
    let y = call.emit.slice(x, slice)?;
    dims.remove(axis);
    call.emit.reshape(y, dims)
}
