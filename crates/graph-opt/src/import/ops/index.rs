use mslite_tensor::{DType, Dim};

use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Gather, Op, ScatterKind, TopK};

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
    call.emit.op(Op::ScatterNd(ScatterKind::Add), &[zeros, indices, updates])
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
    call.emit.op(Op::ScatterNd(kind), &[x, indices, updates])
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
