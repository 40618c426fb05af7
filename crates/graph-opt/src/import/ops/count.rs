//! Counts of elements, and sums over segments.

use mslite_tensor::{DType, Dim};

use super::create::counter;
use super::opaque;
use super::scatter::flattened;
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::product;
use crate::import::item::Item;
use crate::import::known::known_ints;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Gather, Op, ReduceKind, ScatterKind, Unary};

/// Adds `updates` at the places of a vector of zeros.
fn added(call: &mut Call, places: ValueId, updates: ValueId, length: Dim) -> Result<ValueId> {
    let zero = call.emit.scalar(0.0, call.emit.dtype(updates))?;
    let zeros = call.emit.broadcast(zero, vec![length])?;
    let places = super::index::rows(call, places)?;
    call.emit.op(Op::ScatterNd(ScatterKind::Add), &[zeros, places, updates])
}

/// `(array, size, weights)`: how often each number below the size occurs, or the sum of its weights.
pub(in crate::import) fn bincount(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "array")?;
    let Ok(Some(size)) = call.dim(1, "size") else { return opaque::lower(call) };
    let weights = call.tensor(2, "weights")?;
    let x = flattened(call, x)?;
    let dtype = call.emit.dtype(weights);
    let weights = match product(&call.emit.dims(weights)?).as_fixed() {
        Some(0) => {
            let one = call.emit.scalar(1.0, dtype)?;
            let count = call.emit.dims(x)?;
            call.emit.broadcast(one, count)?
        }
        _ => flattened(call, weights)?,
    };
    // Numbers outside add to a place behind the others.
    let limit = call.emit.dim(&size, call.emit.dtype(x))?;
    let inside = call.emit.binary(Binary::Less, x, limit)?;
    let not_negative = call.emit.with_scalar(Binary::GreaterEqual, x, 0.0)?;
    let inside = call.emit.binary(Binary::And, inside, not_negative)?;
    let places = call.emit.select(inside, x, limit)?;
    let all = added(call, places, weights, &size + &Dim::from(1))?;
    call.emit.narrow(all, 0, Dim::from(0), size).map(Item::Tensor)
}

/// `(labels, predictions, weights=None)`, `[classes, classes]`.
pub(in crate::import) fn confusion(call: &mut Call) -> Result<ValueId> {
    let (labels, predictions) = (call.tensor(0, "labels")?, call.tensor(1, "predictions")?);
    let classes = Dim::from(call.required_int(ATTRIBUTE, "num_classes")?);
    let dtype = match call.attribute("dtype") {
        Some(Item::Text(name)) => match &*name {
            "int64" => DType::I64,
            "float32" => DType::F32,
            _ => DType::I32,
        },
        _ => DType::I32,
    };
    let dtype = call.stated_dtype(0).unwrap_or(dtype);
    let (labels, predictions) =
        (call.emit.cast(labels, DType::I64)?, call.emit.cast(predictions, DType::I64)?);
    let width = call.emit.dim(&classes, DType::I64)?;
    let row = call.emit.binary(Binary::Mul, labels, width)?;
    let places = call.emit.binary(Binary::Add, row, predictions)?;
    let ones = match call.tensor_opt(2, "weights")? {
        Some(weights) => call.emit.cast(weights, dtype)?,
        None => {
            let (one, dims) = (call.emit.scalar(1.0, dtype)?, call.emit.dims(places)?);
            call.emit.broadcast(one, dims)?
        }
    };
    let all = added(call, places, ones, &classes * &classes)?;
    call.emit.reshape(all, vec![classes.clone(), classes])
}

/// `(x, bins=100, min=0, max=0)`: how many elements lie in each of equal parts of the range, or of that of the elements
/// if both ends are equal. The last part has its end.
pub(in crate::import) fn histogram(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let bins = call.int_or(1, "bins", 100)?;
    let (low, high) = (call.float_or(2, "min", 0.0)?, call.float_or(3, "max", 0.0)?);
    let result = call.stated_dtype(0).unwrap_or(DType::I32);
    let x = flattened(call, x)?;
    let wide = if call.emit.dtype(x) == DType::F64 { DType::F64 } else { DType::F32 };
    let x = call.emit.cast(x, wide)?;
    let (low, high) = match low == high {
        false => (call.emit.scalar(low, wide)?, call.emit.scalar(high, wide)?),
        true => {
            let ends = (
                call.emit.reduce(ReduceKind::Min, x, vec![0], false)?,
                call.emit.reduce(ReduceKind::Max, x, vec![0], false)?,
            );
            let is_point = call.emit.binary(Binary::Equal, ends.0, ends.1)?;
            let one = call.emit.cast(is_point, wide)?;
            (call.emit.binary(Binary::Sub, ends.0, one)?, call.emit.binary(Binary::Add, ends.1, one)?)
        }
    };
    let width = call.emit.binary(Binary::Sub, high, low)?;
    let from = call.emit.binary(Binary::Sub, x, low)?;
    let scaled = call.emit.with_scalar(Binary::Mul, from, bins as f64)?;
    let place = call.emit.binary(Binary::Div, scaled, width)?;
    let place = call.emit.cast(place, DType::I64)?;
    let last = call.emit.int_scalar(bins.saturating_sub(1), DType::I64)?;
    let place = call.emit.binary(Binary::Minimum, place, last)?;
    let (above, below) =
        (call.emit.binary(Binary::GreaterEqual, x, low)?, call.emit.binary(Binary::LessEqual, x, high)?);
    let inside = call.emit.binary(Binary::And, above, below)?;
    let zero = call.emit.int_scalar(0, DType::I64)?;
    let place = call.emit.select(inside, place, zero)?;
    let ones = call.emit.cast(inside, result)?;
    added(call, place, ones, Dim::from(bins))
}

/// `(x, range [2])`, `nbins`: the same with what lies outside in the first or last part.
pub(in crate::import) fn histogram_fixed(call: &mut Call) -> Result<ValueId> {
    let (x, range) = (call.tensor(0, "x")?, call.tensor(1, "range")?);
    let bins = call.required_int(ATTRIBUTE, "nbins")?;
    let x = flattened(call, x)?;
    let (x, range) = (call.emit.cast(x, DType::F64)?, call.emit.cast(range, DType::F64)?);
    let end = |call: &mut Call, at: i64| call.emit.narrow(range, 0, Dim::from(at), Dim::from(1));
    let (low, high) = (end(call, 0)?, end(call, 1)?);
    let width = call.emit.binary(Binary::Sub, high, low)?;
    let step = call.emit.with_scalar(Binary::Div, width, bins as f64)?;
    let from = call.emit.binary(Binary::Sub, x, low)?;
    let place = call.emit.binary(Binary::Div, from, step)?;
    let place = call.emit.unary(Unary::Clip { low: 0.0, high: (bins - 1) as f64 }, place)?;
    let place = call.emit.cast(place, DType::I64)?;
    let (one, dims) = (call.emit.int_scalar(1, DType::I32)?, call.emit.dims(place)?);
    let ones = call.emit.broadcast(one, dims)?;
    added(call, place, ones, Dim::from(bins))
}

/// Which element of an empty segment stays.
fn neutral(kind: ScatterKind) -> f64 {
    match kind {
        ScatterKind::Mul => 1.0,
        _ => 0.0,
    }
}

/// `(x [n, ..], segment_ids [n])` with known, sorted numbers: what each segment's rows come to.
pub(in crate::import) fn segments(call: &mut Call) -> Result<Item> {
    let (x, ids) = (call.tensor(0, "input_x")?, call.tensor(1, "segment_ids")?);
    let Some(count) = segment_count(call, ids) else { return opaque::lower(call) };
    let kind = match call.op_type {
        "SegmentProd" => ScatterKind::Mul,
        "SegmentMax" => ScatterKind::Max,
        "SegmentMin" => ScatterKind::Min,
        _ => ScatterKind::Add,
    };
    let sums = gathered(call, x, ids, count, kind)?;
    if call.op_type != "SegmentMean" {
        return Ok(Item::Tensor(sums));
    }
    divided(call, sums, ids, count, false).map(Item::Tensor)
}

fn segment_count(call: &Call, ids: ValueId) -> Option<i64> {
    let ids = known_ints(call.emit.graph(), ids)?;
    ids.iter()
        .map(Dim::as_fixed)
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .max()
        .map(|last| last.saturating_add(1))
}

/// `(x, indices, segment_ids)`, with the number of segments as a fourth argument or from the numbers: sums of rows of x.
pub(in crate::import) fn sparse_segments(call: &mut Call) -> Result<Item> {
    let (x, indices, ids) =
        (call.tensor(0, "x")?, call.tensor(1, "indices")?, call.tensor(2, "segment_ids")?);
    let count = match call.args.len() {
        4 => call.int(3, "num_segments").ok().flatten(),
        _ => segment_count(call, ids),
    };
    let Some(count) = count else { return opaque::lower(call) };
    let rows = call.emit.op(Op::Gather(Gather { axis: 0, batch_dims: 0 }), &[x, indices])?;
    let sums = gathered(call, rows, ids, count, ScatterKind::Add)?;
    if call.op_type.contains("Sum") {
        return Ok(Item::Tensor(sums));
    }
    divided(call, sums, ids, count, call.op_type.contains("Sqrt")).map(Item::Tensor)
}

/// Rows combined by the numbers of their segments; empty segments have neutral elements.
fn gathered(call: &mut Call, x: ValueId, ids: ValueId, count: i64, kind: ScatterKind) -> Result<ValueId> {
    let mut dims = call.emit.dims(x)?;
    dims[0] = Dim::from(count);
    let places = super::index::rows(call, ids)?;
    let start = call.emit.scalar(neutral(kind), call.emit.dtype(x))?;
    let start = call.emit.broadcast(start, dims)?;
    let start = match kind {
        // The first row of a segment takes the place of 0, which may be larger.
        ScatterKind::Max | ScatterKind::Min => {
            call.emit.op(Op::ScatterNd(ScatterKind::Update), &[start, places, x])?
        }
        _ => start,
    };
    call.emit.op(Op::ScatterNd(kind), &[start, places, x])
}

/// Sums divided by the number of rows, or by its root.
fn divided(call: &mut Call, sums: ValueId, ids: ValueId, count: i64, root: bool) -> Result<ValueId> {
    let dims = call.emit.dims(sums)?;
    let dtype = call.emit.dtype(sums);
    let (one, each) = (call.emit.scalar(1.0, dtype)?, call.emit.dims(ids)?);
    let ones = call.emit.broadcast(one, each)?;
    let counts = added(call, ids, ones, Dim::from(count))?;
    let counts = call.emit.with_scalar(Binary::Maximum, counts, 1.0)?;
    let counts = if root { call.emit.unary(Unary::Sqrt, counts)? } else { counts };
    let mut across = vec![Dim::from(1); dims.len()];
    across[0] = Dim::from(count);
    let counts = call.emit.reshape(counts, across)?;
    let f = if dtype.is_int() { Binary::TruncDiv } else { Binary::Div };
    call.emit.binary(f, sums, counts)
}

/// `(x)`: which place each number of a permutation has.
pub(in crate::import) fn inverted_permutation(call: &mut Call) -> Result<Item> {
    if let Some(Item::Tuple(items)) = call.args.first() {
        let known: Option<Vec<i64>> = items
            .iter()
            .map(|item| match item {
                Item::Int(dim) => dim.as_fixed(),
                _ => None,
            })
            .collect();
        let Some(known) = known else { return opaque::lower(call) };
        let mut inverse = vec![0i64; known.len()];
        for (at, &to) in (0i64..).zip(&known) {
            let place = usize::try_from(to).ok().and_then(|to| inverse.get_mut(to));
            *place.ok_or_else(|| call.invalid(format!("{known:?} is no permutation")))? = at;
        }
        return Ok(Item::tuple(inverse.into_iter().map(|n| Item::Int(Dim::from(n)))));
    }
    let x = call.tensor(0, "x")?;
    let count = call.emit.dims(x)?.first().cloned().unwrap_or(Dim::from(1));
    let places = super::index::rows(call, x)?;
    let numbers = counter(call, count)?;
    let numbers = call.emit.cast(numbers, call.emit.dtype(x))?;
    call.emit.op(Op::ScatterNd(ScatterKind::Update), &[numbers, places, numbers]).map(Item::Tensor)
}
