//! Results whose extents follow from data.

use mslite_tensor::{DType, Dim};

use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::product;
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{ArgReduce, Binary, Cumulative, Gather, Op, ReduceKind, ScatterKind, TopK, Unary};

/// The places at which a bool vector holds, in order: an i64 vector.
fn places(call: &mut Call, mask: ValueId) -> Result<ValueId> {
    let len = product(&call.emit.dims(mask)?);
    let ones = call.emit.cast(mask, DType::I64)?;
    let count = call.emit.reduce(ReduceKind::Sum, ones, vec![0], false)?;
    let count = call.emit.bound_count(count, len.clone())?;
    // Each place goes where as many places are before it; the others go behind the end.
    let before = sum_before(call, ones, 0)?;
    let end = call.emit.dim(&len, DType::I64)?;
    let to = call.emit.select(mask, before, end)?;
    let to = super::index::rows(call, to)?;
    let zero = call.emit.int_scalar(0, DType::I64)?;
    let room = call.emit.broadcast(zero, vec![&len + &Dim::from(1)])?;
    let counter = super::create::counter(call, len)?;
    let all = call.emit.op(Op::ScatterNd(ScatterKind::Update), &[room, to, counter])?;
    call.emit.narrow(all, 0, Dim::from(0), count)
}

/// The sum of the elements before each one along an axis.
fn sum_before(call: &mut Call, x: ValueId, axis: usize) -> Result<ValueId> {
    let op = Cumulative { product: false, axis, exclusive: true, reverse: false };
    call.emit.op(Op::Cumulative(op), &[x])
}

fn flat(call: &mut Call, x: ValueId) -> Result<ValueId> {
    let len = product(&call.emit.dims(x)?);
    call.emit.reshape(x, vec![len])
}

/// Elements of a vector.
fn taken(call: &mut Call, x: ValueId, at: ValueId) -> Result<ValueId> {
    call.emit.op(Op::Gather(Gather { axis: 0, batch_dims: 0 }), &[x, at])
}

/// `(input) -> [n, rank]`: where it is not 0.
pub(in crate::import) fn non_zero(call: &mut Call) -> Result<ValueId> {
    let coordinates = coordinates(call)?;
    match &coordinates[..] {
        [] => Err(call.unsupported("its operand has no axes")),
        _ => columns(call, &coordinates),
    }
}

/// The same as a vector for each axis.
pub(in crate::import) fn non_zero_by_axis(call: &mut Call) -> Result<Item> {
    coordinates(call).map(Item::tensors)
}

fn coordinates(call: &mut Call) -> Result<Vec<ValueId>> {
    let x = call.tensor(0, "input")?;
    let dims = call.emit.dims(x)?;
    let mask = call.emit.cast(x, DType::Bool)?;
    let mask = flat(call, mask)?;
    let mut rest = places(call, mask)?;
    let mut coordinates = Vec::with_capacity(dims.len());
    for axis in 0..dims.len() {
        let block = product(&dims[axis + 1..]);
        if axis + 1 == dims.len() {
            coordinates.push(rest);
            break;
        }
        let block = call.emit.dim(&block, DType::I64)?;
        coordinates.push(call.emit.binary(Binary::FloorDiv, rest, block)?);
        rest = call.emit.binary(Binary::FloorMod, rest, block)?;
    }
    Ok(coordinates)
}

/// Vectors as the columns of a matrix.
fn columns(call: &mut Call, vectors: &[ValueId]) -> Result<ValueId> {
    let columns: Result<Vec<ValueId>> = vectors.iter().map(|&x| super::index::rows(call, x)).collect();
    call.emit.concat(&columns?, 1)
}

/// `(input, mask) -> [n]`, both broadcast.
pub(in crate::import) fn masked_select(call: &mut Call) -> Result<ValueId> {
    let (x, mask) = (call.tensor(0, "input")?, call.tensor(1, "mask")?);
    let specs = [x, mask].map(|x| call.emit.spec(x).shape.clone());
    let shape = crate::infer::broadcast(&specs[0], &specs[1]).map_err(|reason| call.invalid(reason))?;
    let dims = shape.dims().ok_or_else(|| call.unsupported("the number of axes is not known"))?.to_vec();
    let (x, mask) = (call.emit.broadcast(x, dims.clone())?, call.emit.broadcast(mask, dims)?);
    let (x, mask) = (flat(call, x)?, flat(call, mask)?);
    let at = places(call, mask)?;
    taken(call, x, at)
}

/// Equal elements of a vector, put together.
struct Runs {
    /// One of each.
    values: ValueId,
    /// For each element, which of `values` it is.
    inverse: ValueId,
    /// How often each is there.
    counts: ValueId,
}

/// Elements of a vector that begin a run of equal ones become one; i64 numbers.
fn runs(call: &mut Call, x: ValueId) -> Result<Runs> {
    let begins = begins(call, x)?;
    let at = places(call, begins)?;
    let ones = call.emit.cast(begins, DType::I64)?;
    let op = Cumulative { product: false, axis: 0, exclusive: false, reverse: false };
    let upto = call.emit.op(Op::Cumulative(op), &[ones])?;
    let inverse = call.emit.with_scalar(Binary::Sub, upto, 1.0)?;
    let counts = counted(call, inverse, at)?;
    Ok(Runs { values: taken(call, x, at)?, inverse, counts })
}

/// How often each number from 0 on is in `numbers`; as many as `like` has elements.
fn counted(call: &mut Call, numbers: ValueId, like: ValueId) -> Result<ValueId> {
    let zero = call.emit.int_scalar(0, DType::I64)?;
    let dims = call.emit.dims(like)?;
    let room = call.emit.broadcast(zero, dims)?;
    let one = call.emit.int_scalar(1, DType::I64)?;
    let dims = call.emit.dims(numbers)?;
    let ones = call.emit.broadcast(one, dims)?;
    let to = super::index::rows(call, numbers)?;
    call.emit.op(Op::ScatterNd(ScatterKind::Add), &[room, to, ones])
}

/// Whether each element of a vector differs from the one before it; the first does.
fn begins(call: &mut Call, x: ValueId) -> Result<ValueId> {
    let len = product(&call.emit.dims(x)?);
    let rest = &len - &Dim::from(1);
    let (first, second) =
        (call.emit.narrow(x, 0, Dim::from(0), rest.clone())?, call.emit.narrow(x, 0, Dim::from(1), rest)?);
    let differs = call.emit.binary(Binary::NotEqual, first, second)?;
    let yes = call.emit.scalar(1.0, DType::Bool)?;
    let yes = call.emit.reshape(yes, vec![Dim::from(1)])?;
    call.emit.concat(&[yes, differs], 0)
}

/// `(input, return_inverse, return_counts, dim=None)`
pub(in crate::import) fn unique_consecutive(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input")?;
    let dims = call.emit.dims(x)?;
    let axis = match call.arg(3, "dim") {
        Some(_) => call.int(3, "dim")?,
        None => call.int(ATTRIBUTE, "axis")?.filter(|&axis| axis != 1000),
    };
    if dims.len() != 1 && axis.is_some() {
        return Err(call.unsupported("it compares whole slices along an axis; only single elements are"));
    }
    let flattened = flat(call, x)?;
    let Runs { values, inverse, counts } = runs(call, flattened)?;
    let inverse = call.emit.reshape(inverse, dims)?;
    Ok(Item::tensors([values, inverse, counts]))
}

/// Equal elements anywhere, from the smallest to the largest.
fn sorted_runs(call: &mut Call, x: ValueId) -> Result<Runs> {
    let k = product(&call.emit.dims(x)?);
    let sorted = call.emit.push(Op::TopK(TopK { k, axis: 0, largest: false }), &[x])?;
    let Runs { values, inverse, counts } = runs(call, sorted[0])?;
    let to = super::index::rows(call, sorted[1])?;
    let inverse = call.emit.op(Op::ScatterNd(ScatterKind::Update), &[inverse, to, inverse])?;
    Ok(Runs { values, inverse, counts })
}

/// `(x) -> (values, index)`: each once, in the order of their first places.
pub(in crate::import) fn unique(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    let index = call.stated_dtype(1).unwrap_or(DType::I32);
    let dims = call.emit.dims(x)?;
    let x = flat(call, x)?;
    let Runs { values, inverse, .. } = sorted_runs(call, x)?;
    // The first place of each: the least of those that are equal.
    let count = call.emit.dims(values)?;
    let len = product(&call.emit.dims(x)?);
    let last = call.emit.dim(&len, DType::I64)?;
    let room = call.emit.broadcast(last, count.clone())?;
    let counter = super::create::counter(call, len)?;
    let to = super::index::rows(call, inverse)?;
    let first = call.emit.op(Op::ScatterNd(ScatterKind::Min), &[room, to, counter])?;
    let k = count[0].clone();
    let order = call.emit.push(Op::TopK(TopK { k: k.clone(), axis: 0, largest: false }), &[first])?[1];
    let values = taken(call, values, order)?;
    let to = super::index::rows(call, order)?;
    let numbers = super::create::counter(call, k)?;
    let rank = call.emit.op(Op::ScatterNd(ScatterKind::Update), &[numbers, to, numbers])?;
    let inverse = taken(call, rank, inverse)?;
    let inverse = call.emit.reshape(inverse, dims)?;
    Ok(Item::tensors([values, call.emit.cast(inverse, index)?]))
}

/// `(input, sorted, return_inverse, return_counts)`, from the smallest to the largest.
pub(in crate::import) fn unique_sorted(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input")?;
    let dims = call.emit.dims(x)?;
    let x = flat(call, x)?;
    let Runs { values, inverse, counts } = sorted_runs(call, x)?;
    let inverse = call.emit.reshape(inverse, dims)?;
    Ok(Item::tensors([values, inverse, counts]))
}

/// `(inputs [time, batch, classes], sequence_length [batch])`, merge_repeated as an attribute: the indices and values
/// of what is decoded as a sparse matrix, its extents, and for each sequence minus the sum of the highest inputs. The
/// last class is blank.
pub(in crate::import) fn ctc_greedy_decoder(call: &mut Call) -> Result<Item> {
    let (x, lengths) = (call.tensor(0, "inputs")?, call.tensor(1, "sequence_length")?);
    let merges = call.bool_opt(ATTRIBUTE, "merge_repeated")?.unwrap_or(true);
    let dims = call.emit.dims(x)?;
    let [time, batch, classes] = &dims[..] else {
        return Err(call.invalid("inputs must have the axes time, batch and classes"));
    };
    let x = call.emit.transpose(x, vec![1, 0, 2])?;
    let valid = within(call, lengths, time.clone(), batch.clone())?;
    let op = ArgReduce { largest: true, axis: 2, keep_dims: false, dtype: DType::I64 };
    let class = call.emit.op(Op::ArgReduce(op), &[x])?;
    let blank = call.emit.dim(&(classes - &Dim::from(1)), DType::I64)?;
    let is_class = call.emit.binary(Binary::NotEqual, class, blank)?;
    let mut stays = call.emit.binary(Binary::And, valid, is_class)?;
    if merges {
        let is_new = differs_from_before(call, class, time, batch)?;
        stays = call.emit.binary(Binary::And, stays, is_new)?;
    }
    let ones = call.emit.cast(stays, DType::I64)?;
    let before = sum_before(call, ones, 1)?;
    let (stays, class, before) = (flat(call, stays)?, flat(call, class)?, flat(call, before)?);
    let at = places(call, stays)?;
    let values = taken(call, class, at)?;
    let steps = call.emit.dim(time, DType::I64)?;
    let row = call.emit.binary(Binary::FloorDiv, at, steps)?;
    let column = taken(call, before, at)?;
    let indices = columns(call, &[row, column])?;
    let shape = decoded_shape(call, ones, batch)?;
    let score = score(call, x, valid)?;
    Ok(Item::tensors([indices, values, shape, score]))
}

/// `[batch, time]`: whether a step is within the length of its sequence.
fn within(call: &mut Call, lengths: ValueId, time: Dim, batch: Dim) -> Result<ValueId> {
    let lengths = call.emit.cast(lengths, DType::I64)?;
    let lengths = call.emit.reshape(lengths, vec![batch, Dim::from(1)])?;
    let steps = super::create::counter(call, time)?;
    call.emit.binary(Binary::Less, steps, lengths)
}

/// `[batch, time]`: whether a step has another class than the one before it.
fn differs_from_before(call: &mut Call, class: ValueId, time: &Dim, batch: &Dim) -> Result<ValueId> {
    let rest = time - &Dim::from(1);
    let first = call.emit.narrow(class, 1, Dim::from(0), rest.clone())?;
    let second = call.emit.narrow(class, 1, Dim::from(1), rest)?;
    let differs = call.emit.binary(Binary::NotEqual, first, second)?;
    let yes = call.emit.scalar(1.0, DType::Bool)?;
    let yes = call.emit.broadcast(yes, vec![batch.clone(), Dim::from(1)])?;
    call.emit.concat(&[yes, differs], 1)
}

/// Number of sequences, and the length of the longest that is decoded.
fn decoded_shape(call: &mut Call, ones: ValueId, batch: &Dim) -> Result<ValueId> {
    let lengths = call.emit.reduce(ReduceKind::Sum, ones, vec![1], false)?;
    let longest = call.emit.reduce(ReduceKind::Max, lengths, vec![0], true)?;
    let batch = call.emit.extents(vec![batch.clone()])?;
    call.emit.concat(&[batch, longest], 0)
}

/// `[batch, 1]`: minus the sum of the highest inputs of all steps.
fn score(call: &mut Call, x: ValueId, valid: ValueId) -> Result<ValueId> {
    let highest = call.emit.reduce(ReduceKind::Max, x, vec![2], false)?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let highest = call.emit.select(valid, highest, zero)?;
    let sum = call.emit.reduce(ReduceKind::Sum, highest, vec![1], true)?;
    call.emit.unary(Unary::Neg, sum)
}
