use mslite_tensor::{DType, Dim};

use super::create::counter;
use super::elementwise::promoted;
use super::scatter::reduction;
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::product;
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Gather, Op, ReduceKind, ScatterKind, Slice, TopK};

/// `(input_params, input_indices, axis, batch_dims=0)`
pub(in crate::import) fn gather(call: &mut Call) -> Result<ValueId> {
    let (x, indices) = (call.tensor(0, "input_params")?, call.tensor(1, "input_indices")?);
    let rank = call.emit.rank(x)?;
    let axis = call.axis(2, "axis", 0, rank)?;
    let batch = call.int_or(3, "batch_dims", 0)?;
    let batch_dims = match batch {
        0 => 0,
        n => {
            let rank = call.emit.rank(indices)?;
            call.emit.axis(n, rank + 1)?
        }
    };
    call.emit.op(Op::Gather(Gather { axis, batch_dims }), &[x, indices])
}

/// `(input, dim, index)`
pub(in crate::import) fn index_select(call: &mut Call) -> Result<ValueId> {
    let (x, indices) = (call.tensor(0, "input")?, call.tensor(2, "index")?);
    let rank = call.emit.rank(x)?;
    let axis = call.axis(1, "dim", 0, rank)?;
    call.emit.op(Op::Gather(Gather { axis, batch_dims: 0 }), &[x, indices])
}

/// `(x, dim, index)`
pub(in crate::import) fn gather_d(call: &mut Call) -> Result<ValueId> {
    let (x, index) = (call.tensor(0, "x")?, call.tensor(2, "index")?);
    let rank = call.emit.rank(x)?;
    let axis = call.axis(1, "dim", 0, rank)?;
    call.emit.op(Op::GatherElements { axis }, &[x, index])
}

pub(in crate::import) fn gather_nd(call: &mut Call) -> Result<ValueId> {
    let (x, indices) = (call.tensor(0, "input_x")?, call.tensor(1, "indices")?);
    call.emit.op(Op::GatherNd, &[x, indices])
}

/// `(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False)`
pub(in crate::import) fn embedding(call: &mut Call) -> Result<ValueId> {
    if call.arg(3, "max_norm").is_some() {
        return Err(call.unsupported("max_norm rewrites the table; export without it"));
    }
    let (indices, table) = (call.tensor(0, "input")?, call.tensor(1, "weight")?);
    call.emit.op(Op::Gather(Gather { axis: 0, batch_dims: 0 }), &[table, indices])
}

/// `(params, indices, offset)`: rows of `indices - offset`, zeros for indices outside the table.
pub(in crate::import) fn embedding_lookup(call: &mut Call) -> Result<ValueId> {
    let (table, indices) = (call.tensor(0, "params")?, call.tensor(1, "indices")?);
    let offset = call.int_or(2, "offset", 0)?;
    let dtype = call.emit.dtype(indices);
    let rows =
        call.emit.dims(table)?.first().cloned().ok_or_else(|| call.invalid("params must have an axis"))?;
    let offset = call.emit.int_scalar(offset, dtype)?;
    let at = call.emit.binary(Binary::Sub, indices, offset)?;
    let zero = call.emit.int_scalar(0, dtype)?;
    let last = call.emit.dim(&(&rows - &Dim::from(1)), dtype)?;
    let inside = call.emit.binary(Binary::Maximum, at, zero)?;
    let inside = call.emit.binary(Binary::Minimum, inside, last)?;
    let y = call.emit.op(Op::Gather(Gather { axis: 0, batch_dims: 0 }), &[table, inside])?;
    let valid = call.emit.binary(Binary::Equal, at, inside)?;
    let mut dims = call.emit.dims(valid)?;
    dims.resize(call.emit.rank(y)?, Dim::from(1));
    let valid = call.emit.reshape(valid, dims)?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(y))?;
    call.emit.op(Op::Select, &[valid, y, zero])
}

/// `(indices, updates, shape)`: zeros to which the updates are added.
pub(in crate::import) fn scatter_nd(call: &mut Call) -> Result<ValueId> {
    let (indices, updates) = (call.tensor(0, "indices")?, call.tensor(1, "updates")?);
    let dims = call.required_dims(2, "shape")?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(updates))?;
    let zeros = call.emit.broadcast(zero, dims)?;
    call.emit.scatter(ScatterKind::Add, [zeros, indices, updates])
}

pub(in crate::import) fn tensor_scatter_update(call: &mut Call) -> Result<ValueId> {
    scatter(call, ScatterKind::Update)
}

pub(in crate::import) fn tensor_scatter_add(call: &mut Call) -> Result<ValueId> {
    scatter(call, ScatterKind::Add)
}

/// `(input_x, indices, updates)`
pub(super) fn scatter(call: &mut Call, kind: ScatterKind) -> Result<ValueId> {
    let x = call.tensor(0, "input_x")?;
    let (indices, updates) = (call.tensor(1, "indices")?, call.tensor(2, "updates")?);
    call.emit.scatter(kind, [x, indices, updates])
}

/// `(indices, depth, on_value, off_value, axis=-1)`
pub(in crate::import) fn one_hot(call: &mut Call) -> Result<ValueId> {
    let indices = call.tensor(0, "indices")?;
    let depth = call.dim(1, "depth")?.ok_or_else(|| call.invalid("depth is missing"))?;
    let (on, off) = (call.tensor(2, "on_value")?, call.tensor(3, "off_value")?);
    let rank = call.emit.rank(indices)? + 1;
    let axis = call.axis(4, "axis", -1, rank)?;
    call.emit.op(Op::OneHot { depth, axis }, &[indices, on, off])
}

/// `(input, k)`, sorted along the last axis: `(values, indices: i32)`
pub(in crate::import) fn top_k(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input")?;
    let k = call.dim(1, "k")?.ok_or_else(|| call.invalid("k is missing"))?;
    let axis = call.emit.axis(-1, call.emit.rank(x)?)?;
    let results = call.emit.push(Op::TopK(TopK { k, axis, largest: true }), &[x])?;
    Ok(Item::tensors(results))
}

/// `(input, k, dim=-1, largest=True, sorted=True) -> (values, indices: i64)`
pub(in crate::import) fn top_k_ext(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input")?;
    let k = call.dim(1, "k")?.ok_or_else(|| call.invalid("k is missing"))?;
    let rank = call.emit.rank(x)?;
    let axis = call.axis(2, "dim", -1, rank)?;
    let largest = call.bool_opt(3, "largest")?.unwrap_or(true);
    let results = call.emit.push(Op::TopK(TopK { k, axis, largest }), &[x])?;
    let indices = call.emit.cast(results[1], DType::I64)?;
    Ok(Item::tensors([results[0], indices]))
}

/// `(x)` with attributes: `(values, indices: i32)`
pub(in crate::import) fn sort(call: &mut Call) -> Result<Item> {
    let descending = call.flag(ATTRIBUTE, "descending")?;
    sorted(call, ATTRIBUTE, "axis", descending, DType::I32)
}

/// `(input, dim=-1, descending=False, stable=False) -> (values, indices: i64)`
pub(in crate::import) fn sort_ext(call: &mut Call) -> Result<Item> {
    let descending = call.flag(2, "descending")?;
    sorted(call, 1, "dim", descending, DType::I64)
}

fn sorted(call: &mut Call, position: usize, name: &str, largest: bool, index: DType) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    let dims = call.emit.dims(x)?;
    let axis = call.axis(position, name, -1, dims.len())?;
    let k = dims[axis].clone();
    let results = call.emit.push(Op::TopK(TopK { k, axis, largest }), &[x])?;
    let indices = call.emit.cast(results[1], index)?;
    Ok(Item::tensors([results[0], indices]))
}

/// An index of the whole tensor for each of some rows: `[n]` becomes `[n, 1]`.
pub(super) fn rows(call: &mut Call, indices: ValueId) -> Result<ValueId> {
    let mut dims = call.emit.dims(indices)?;
    dims.push(Dim::from(1));
    call.emit.reshape(indices, dims)
}

/// `(data, indices, updates, axis=0, reduce=none)`
pub(in crate::import) fn tensor_scatter_elements(call: &mut Call) -> Result<ValueId> {
    let updates = call.tensor(2, "updates")?;
    let kind = reduction(call, 4)?;
    scatter_elements(call, (3, "axis"), (1, "indices"), updates, kind)
}

/// `(input, dim, index, src, reduce=none)`
pub(in crate::import) fn scatter_dim(call: &mut Call) -> Result<ValueId> {
    let updates = call.tensor(3, "src")?;
    let kind = reduction(call, 4)?;
    scatter_elements(call, (1, "dim"), (2, "index"), updates, kind)
}

/// An element of the updates goes where its own place says, except along one axis, where its index does.
pub(super) fn scatter_elements(
    call: &mut Call,
    (axis, axis_name): (usize, &str),
    (index, index_name): (usize, &str),
    updates: ValueId,
    kind: ScatterKind,
) -> Result<ValueId> {
    let (x, index) = (call.tensor(0, "data")?, call.tensor(index, index_name)?);
    let dims = call.emit.dims(index)?;
    let axis = call.axis(axis, axis_name, 0, dims.len())?;
    let index = call.emit.cast(index, DType::I64)?;
    let mut pointer = dims.clone();
    pointer.push(Dim::from(1));
    let mut places = Vec::with_capacity(dims.len());
    for (along, extent) in dims.iter().enumerate() {
        let place = match along == axis {
            true => index,
            false => own_place(call, &dims, along, extent)?,
        };
        places.push(call.emit.reshape(place, pointer.clone())?);
    }
    let places = call.emit.concat(&places, dims.len())?;
    let zeros = vec![Dim::from(0); dims.len()];
    let steps = vec![1; dims.len()];
    let updates = call.emit.slice(updates, Slice { starts: zeros, sizes: dims, steps })?;
    call.emit.scatter(kind, [x, places, updates])
}

/// The place of each element along one axis.
fn own_place(call: &mut Call, dims: &[Dim], axis: usize, extent: &Dim) -> Result<ValueId> {
    let counter = counter(call, extent.clone())?;
    let mut across = vec![Dim::from(1); dims.len()];
    across[axis] = extent.clone();
    let counter = call.emit.reshape(counter, across)?;
    call.emit.broadcast(counter, dims.to_vec())
}

/// `(x, dim, index, value)`: whole rows along an axis become one number.
pub(in crate::import) fn index_fill(call: &mut Call) -> Result<ValueId> {
    let (x, index) = (call.tensor(0, "x")?, call.tensor(2, "index")?);
    let dims = call.emit.dims(x)?;
    let axis = call.axis(1, "dim", 0, dims.len())?;
    let value = call.tensor_of(3, "value", call.emit.dtype(x))?;
    let value = value.ok_or_else(|| call.invalid("value is missing"))?;
    let count = product(&call.emit.dims(index)?);
    let index = call.emit.reshape(index, vec![count.clone(), Dim::from(1)])?;
    let (no, yes) = (call.emit.scalar(0.0, DType::Bool)?, call.emit.scalar(1.0, DType::Bool)?);
    let no = call.emit.broadcast(no, vec![dims[axis].clone()])?;
    let yes = call.emit.broadcast(yes, vec![count])?;
    let named = call.emit.scatter(ScatterKind::Update, [no, index, yes])?;
    let mut across = vec![Dim::from(1); dims.len()];
    across[axis] = dims[axis].clone();
    let named = call.emit.reshape(named, across)?;
    let value = call.emit.reshape(value, Vec::new())?;
    call.emit.op(Op::Select, &[named, value, x])
}

/// `(input, k, dim=-1, keepdim=False) -> (value, index: i64)` of the k-th smallest, counted from 1.
pub(in crate::import) fn kth_value(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input")?;
    let k = call.required_int(1, "k")?;
    let mut dims = call.emit.dims(x)?;
    let axis = call.axis(2, "dim", -1, dims.len())?;
    let results = call.emit.push(Op::TopK(TopK { k: Dim::from(k), axis, largest: false }), &[x])?;
    if call.flag(3, "keepdim")? {
        dims[axis] = Dim::from(1);
    } else {
        dims.remove(axis);
    }
    let mut last = |x: ValueId| {
        let x = call.emit.narrow(x, axis, Dim::from(k - 1), Dim::from(1))?;
        call.emit.reshape(x, dims.clone())
    };
    let (value, index) = (last(results[0])?, last(results[1])?);
    let index = call.emit.cast(index, DType::I64)?;
    Ok(Item::tensors([value, index]))
}

/// `(sorted_sequence, values, sorter=None, dtype=int64, right=False)`: how many elements of the sequence are less
/// than each value, or not greater.
pub(in crate::import) fn search_sorted(call: &mut Call) -> Result<ValueId> {
    if call.arg(2, "sorter").is_some() {
        return Err(call.unsupported("a sorter; export with the sequence sorted"));
    }
    let (sequence, values) = (call.tensor(0, "sorted_sequence")?, call.tensor(1, "values")?);
    let dtype = call.dtype(3, "dtype")?.unwrap_or(DType::I64);
    let f = if call.flag(4, "right")? { Binary::LessEqual } else { Binary::Less };
    let (mut before, mut each) = (call.emit.dims(sequence)?, call.emit.dims(values)?);
    if before.len() > 1 {
        before.insert(before.len() - 1, Dim::from(1));
    }
    let axis = each.len();
    each.push(Dim::from(1));
    let (sequence, values) = promoted(call, sequence, values)?;
    let (sequence, values) = (call.emit.reshape(sequence, before)?, call.emit.reshape(values, each)?);
    let smaller = call.emit.binary(f, sequence, values)?;
    let smaller = call.emit.cast(smaller, dtype)?;
    call.emit.reduce(ReduceKind::Sum, smaller, vec![axis], false)
}
