//! Mixtures of experts: which tokens go where, and back.

use mslite_tensor::{DType, Dim};

use super::opaque;
use crate::Result;
use crate::import::call::Call;
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Gather, MatMul, Op, ReduceKind, Softmax, TopK, Unary};

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

/// `(x [n, width], row_idx [n, k], expert_idx [n, k], active_num) -> (rows by expert, where each went: i32, experts: i32)`
pub(in crate::import) fn init_routing(call: &mut Call) -> Result<Item> {
    let (x, numbers, experts) =
        (call.tensor(0, "x")?, call.tensor(1, "row_idx")?, call.tensor(2, "expert_idx")?);
    let tokens = call.emit.dims(x)?[0].clone();
    let active = call.dim(3, "active_num")?.unwrap_or(tokens.clone());
    let each = call.emit.dims(experts)?.get(1).cloned().unwrap_or(Dim::from(1));
    let (experts, numbers) =
        (super::scatter::flattened(call, experts)?, super::scatter::flattened(call, numbers)?);
    let order = ascending(call, experts)?;
    let sorted = call.emit.op(ROWS, &[experts, order])?;
    // Row numbers count column by column.
    let from = call.emit.op(ROWS, &[numbers, order])?;
    let went = ascending(call, from)?;
    let (rows, count) = (call.emit.dim(&tokens, call.emit.dtype(from))?, &active * &each);
    let taken = call.emit.narrow(from, 0, Dim::from(0), count)?;
    let taken = call.emit.binary(Binary::FloorMod, taken, rows)?;
    let expanded = call.emit.op(ROWS, &[x, taken])?;
    let sorted = call.emit.cast(sorted, DType::I32)?;
    Ok(Item::tensors([expanded, went, sorted]))
}

/// `(sorted_experts, num_expert)`: how many rows belong to each expert and those before it: i32.
pub(in crate::import) fn expert_tokens(call: &mut Call) -> Result<ValueId> {
    let sorted = call.tensor(0, "sorted_experts")?;
    let count = call.dim(1, "num_expert")?.ok_or_else(|| call.invalid("num_expert is missing"))?;
    let numbers = super::create::counter(call, count)?;
    let numbers = super::index::rows(call, numbers)?;
    let sorted = call.emit.cast(sorted, DType::I64)?;
    let before = call.emit.binary(Binary::LessEqual, sorted, numbers)?;
    let before = call.emit.cast(before, DType::I32)?;
    call.emit.reduce(ReduceKind::Sum, before, vec![1], false)
}

/// `(expanded_x [n * k, width], x1 [n, width], x2=None, bias [experts, width], scales [n, k], expanded_row_idx [n * k],
/// expanded_expert_idx [n, k])`: the sum of a token's rows with their biases, by weight, and of x1 and x2.
pub(in crate::import) fn finalize_routing(call: &mut Call) -> Result<ValueId> {
    let rows = call.tensor(0, "expanded_x")?;
    let went = call.tensor(5, "expanded_row_idx")?;
    let weights = call.tensor(4, "scales")?;
    let dims = call.emit.dims(weights)?;
    let [count, each] = &dims[..] else { return Err(call.invalid("scales must have rank 2")) };
    let (dtype, width) = (call.emit.dtype(rows), call.emit.dims(rows)?[1].clone());
    let rows = call.emit.op(ROWS, &[rows, went])?;
    // Row numbers count column by column.
    let rows = call.emit.reshape(rows, vec![each.clone(), count.clone(), width])?;
    let mut rows = call.emit.transpose(rows, vec![1, 0, 2])?;
    if let Some(bias) = call.tensor_opt(3, "bias")? {
        let experts = call.tensor(6, "expanded_expert_idx")?;
        let bias = call.emit.op(ROWS, &[bias, experts])?;
        rows = call.emit.binary(Binary::Add, rows, bias)?;
    }
    let weights = super::index::rows(call, weights)?;
    let (rows, weights) = (call.emit.cast(rows, DType::F32)?, call.emit.cast(weights, DType::F32)?);
    let weighted = call.emit.binary(Binary::Mul, rows, weights)?;
    let mut sum = call.emit.reduce(ReduceKind::Sum, weighted, vec![1], false)?;
    for (position, name) in [(1, "x1"), (2, "x2")] {
        if let Some(x) = call.tensor_of(position, name, DType::F32)? {
            sum = call.emit.binary(Binary::Add, sum, x)?;
        }
    }
    call.emit.cast(sum, dtype)
}

/// `(x, weight1, weight2, expert_tokens=None, bias1=None, bias2=None, ...)` with one expert:
/// `activation(x @ weight1 + bias1) @ weight2 + bias2`.
pub(in crate::import) fn feed_forward(call: &mut Call) -> Result<Item> {
    let quantises = (6..14).any(|position| call.arg(position, "").is_some());
    if quantises || call.arg(3, "expertTokens").is_some() {
        return opaque::lower(call);
    }
    let Some(f) = activation(call)? else { return opaque::lower(call) };
    let mut x = call.tensor(0, "x")?;
    for (weight, bias) in [(1, 4), (2, 5)] {
        let weight = call.tensor(weight, "weight")?;
        x = call.emit.op(Op::MatMul(MatMul::default()), &[x, weight])?;
        if let Some(bias) = call.tensor_of(bias, "bias", call.emit.dtype(x))? {
            x = call.emit.binary(Binary::Add, x, bias)?;
        }
        if bias == 4 {
            x = call.emit.unary(f, x)?;
        }
    }
    Ok(Item::Tensor(x))
}

/// The function between the products, by name or by its number among those of the Lite converter.
fn activation(call: &mut Call) -> Result<Option<Unary>> {
    let name = match call.arg(14, "activation") {
        Some(Item::Text(name)) => name.to_lowercase(),
        Some(_) => call.required_int(14, "activation")?.to_string(),
        None => return Ok(None),
    };
    Ok(match &*name {
        "relu" | "1" => Some(Unary::Relu),
        "gelu" | "19" => Some(Unary::GeluTanh),
        "fastgelu" | "22" => Some(Unary::FastGelu),
        "silu" | "23" => Some(Unary::Silu),
        _ => None,
    })
}
