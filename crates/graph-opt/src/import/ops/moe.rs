//! Mixtures of experts: which tokens go where, and back.

use mslite_tensor::{DType, Dim};

use super::opaque;
use crate::Result;
use crate::import::call::Call;
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Gather, Op, ReduceKind, Softmax, TopK};

const ROWS: Op = Op::Gather(Gather { axis: 0, batch_dims: 0 });

/// `(x [.., experts], finished=None, k) -> (weights, experts: i32, row numbers: i32)`: the k best of the softmax.
pub(in crate::import) fn gating(call: &mut Call) -> Result<Item> {
    if call.arg(1, "finished").is_some() || call.uses(2) {
        return opaque::lower(call);
    }
    let x = call.tensor(0, "x")?;
    let k = call.dim(2, "k")?.unwrap_or(Dim::from(1));
    let axis = call.emit.axis(-1, call.emit.rank(x)?)?;
    let weights = call.emit.op(Op::Softmax(Softmax { axis, log: false }), &[x])?;
    let best = call.emit.push(Op::TopK(TopK { k, axis, largest: true }), &[weights])?;
    Ok(Item::tuple([Item::Tensor(best[0]), Item::Tensor(best[1]), Item::UNMADE]))
}

/// `(tokens [n, width], indices [n, k] or [n], num_out_tokens=None, padded_mode=False) -> (tokens by expert, where each
/// token went: i32)`
pub(in crate::import) fn permute(call: &mut Call) -> Result<Item> {
    let is_plain = call.int_or(2, "num_out_tokens", 0)? == 0 && !call.flag(3, "padded_mode")?;
    if !is_plain {
        return opaque::lower(call);
    }
    let (tokens, experts) = (call.tensor(0, "tokens")?, call.tensor(1, "indices")?);
    let each = call.emit.dims(experts)?.get(1).cloned().unwrap_or(Dim::from(1));
    let experts = super::scatter::flattened(call, experts)?;
    let order = ascending(call, experts)?;
    let each = call.emit.dim(&each, call.emit.dtype(order))?;
    let from = call.emit.binary(Binary::FloorDiv, order, each)?;
    let permuted = call.emit.op(ROWS, &[tokens, from])?;
    let went = ascending(call, order)?;
    Ok(Item::tensors([permuted, went]))
}

/// Numbers of the elements of a vector from the smallest to the largest: i32.
fn ascending(call: &mut Call, x: ValueId) -> Result<ValueId> {
    let k = call.emit.dims(x)?[0].clone();
    let sorted = call.emit.push(Op::TopK(TopK { k, axis: 0, largest: false }), &[x])?;
    Ok(sorted[1])
}

/// `(permuted tokens, where each went, probs [n, k]=None, padded_mode=False, restore_shape=None)`: each token's k rows, by
/// their weights, added.
pub(in crate::import) fn unpermute(call: &mut Call) -> Result<Item> {
    if call.flag(3, "padded_mode")? || call.arg(4, "restore_shape").is_some() {
        return opaque::lower(call);
    }
    let (tokens, went) = (call.tensor(0, "permuted_tokens")?, call.tensor(1, "sorted_indices")?);
    let went = call.emit.cast(went, DType::I64)?;
    let rows = call.emit.op(ROWS, &[tokens, went])?;
    let Some(weights) = call.tensor_opt(2, "probs")? else { return Ok(Item::Tensor(rows)) };
    let dims = call.emit.dims(weights)?;
    let [count, each] = &dims[..] else { return opaque::lower(call) };
    let width = call.emit.dims(rows)?[1].clone();
    let dtype = call.emit.dtype(rows);
    let rows = call.emit.reshape(rows, vec![count.clone(), each.clone(), width])?;
    let weights = super::index::rows(call, weights)?;
    let (rows, weights) = (call.emit.cast(rows, DType::F32)?, call.emit.cast(weights, DType::F32)?);
    let weighted = call.emit.binary(Binary::Mul, rows, weights)?;
    let sum = call.emit.reduce(ReduceKind::Sum, weighted, vec![1], false)?;
    call.emit.cast(sum, dtype).map(Item::Tensor)
}
