//! Exchanges of various lengths among all ranks of a group.

use mslite_collective::{CollectiveKind, Reduction, is_world_group};
use mslite_tensor::{Dim, Shape, TensorSpec};

use super::collective::{collective, reduction};
use super::opaque;
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Collective, MatMul, Norm, Op, Pad, PadMode};

/// What goes to, or comes from, another rank.
struct Message<T> {
    peer: usize,
    content: T,
}

/// The number of this rank in the group: stated, or that in the world.
fn own_rank(call: &mut Call) -> Result<Option<usize>> {
    if let Some(rank) = call.int(ATTRIBUTE, "rank_id")? {
        return call.to_usize(rank, "rank_id").map(Some);
    }
    let is_world = matches!(call.attribute("group"), Some(Item::Text(group)) if is_world_group(&group));
    Ok(call.rank.filter(|_| is_world))
}

/// Sends and receives, in an order in which no ranks wait for each other in a circle: that of the pairs of ranks, the
/// lower one of which gives first. The answers are in the order of `receives`.
fn swap(
    call: &mut Call,
    own: usize,
    sends: &[Message<ValueId>],
    receives: &[Message<TensorSpec>],
) -> Result<Vec<Option<ValueId>>> {
    let key = |peer: usize, gives: bool| (own.min(peer), own.max(peer), gives != (own < peer));
    let gives = sends.iter().enumerate().map(|(i, m)| (key(m.peer, true), true, i));
    let takes = receives.iter().enumerate().map(|(i, m)| (key(m.peer, false), false, i));
    let mut steps: Vec<_> = gives.chain(takes).collect();
    steps.sort_unstable();
    let mut results = vec![None; receives.len()];
    for (_, gives, i) in steps {
        if gives {
            let message = &sends[i];
            let op = collective(call, CollectiveKind::Send { dest: message.peer, tag: 0 }, None)?;
            call.emit.push(Op::Collective(op), &[message.content])?;
        } else {
            let message = &receives[i];
            let kind = CollectiveKind::Receive { src: message.peer, tag: 0 };
            let op = collective(call, kind, Some(message.content.clone()))?;
            results[i] = Some(call.emit.op(Op::Collective(op), &[])?);
        }
    }
    Ok(results)
}

/// `(x, send_numel_list, recv_numel_list)`: parts of a vector to all ranks, and theirs, joined.
pub(in crate::import) fn all_to_all_v(call: &mut Call) -> Result<Item> {
    let Some(own) = own_rank(call)? else { return opaque::lower(call) };
    let block = call.int_or(ATTRIBUTE, "block_size", 1)?;
    let sends = call.required_ints(1, "send_numel_list")?;
    let receives = call.required_ints(2, "recv_numel_list")?;
    by_counts(call, own, &scaled(&sends, block), &scaled(&receives, block))
}

/// `(x, send_count_matrix)`: as [`all_to_all_v`], with what every rank gives to every other.
pub(in crate::import) fn all_to_all_vc(call: &mut Call) -> Result<Item> {
    let Some(own) = own_rank(call)? else { return opaque::lower(call) };
    let block = call.int_or(ATTRIBUTE, "block_size", 1)?;
    let matrix = call.required_ints(1, "send_count_matrix")?;
    let size = matrix.len().isqrt();
    if size * size != matrix.len() || own >= size {
        return Err(call.invalid(format!("a matrix of {} counts at rank {own}", matrix.len())));
    }
    let row: Vec<i64> = matrix[own * size..][..size].to_vec();
    let column: Vec<i64> = matrix[own..].iter().step_by(size).copied().collect();
    let (sends, receives) = if call.flag(ATTRIBUTE, "transpose")? { (column, row) } else { (row, column) };
    by_counts(call, own, &scaled(&sends, block), &scaled(&receives, block))
}

fn scaled(counts: &[i64], block: i64) -> Vec<i64> {
    counts.iter().map(|count| count.saturating_mul(block)).collect()
}

fn by_counts(call: &mut Call, own: usize, sends: &[i64], receives: &[i64]) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    let counts = [sends, receives].concat();
    let total = sends.iter().try_fold(0i64, |sum, &n| sum.checked_add(n));
    let fits = match (&call.emit.dims(x)?[..], total) {
        ([length], Some(total)) => length.as_fixed().is_none_or(|n| n == total),
        _ => false,
    };
    if !fits || sends.len() != receives.len() || own >= sends.len() || counts.iter().any(|&n| n < 0) {
        return Err(call.invalid(format!("counts {sends:?} and {receives:?} at rank {own}")));
    }
    if sends[own] != receives[own] {
        return Err(
            call.invalid(format!("rank {own} gives itself {}, and takes {}", sends[own], receives[own]))
        );
    }
    let dtype = call.emit.dtype(x);
    let (mut given, mut taken, mut kept) = (Vec::new(), Vec::new(), None);
    let mut at = 0;
    for (peer, &count) in sends.iter().enumerate() {
        if count > 0 {
            let part = call.emit.narrow(x, 0, Dim::from(at), Dim::from(count))?;
            if peer == own { kept = Some(part) } else { given.push(Message { peer, content: part }) }
        }
        at += count;
    }
    for (peer, &count) in receives.iter().enumerate().filter(|&(peer, &count)| peer != own && count > 0) {
        let content = TensorSpec::new(dtype, Shape::ranked([Dim::from(count)]));
        taken.push(Message { peer, content });
    }
    let results = swap(call, own, &given, &taken)?;
    let mut parts: Vec<(usize, ValueId)> =
        taken.iter().zip(results).filter_map(|(message, part)| Some((message.peer, part?))).collect();
    parts.extend(kept.map(|part| (own, part)));
    parts.sort_unstable_by_key(|&(peer, _)| peer);
    let parts: Vec<ValueId> = parts.into_iter().map(|(_, part)| part).collect();
    if parts.is_empty() {
        return call.emit.narrow(x, 0, Dim::from(0), Dim::from(0)).map(Item::Tensor);
    }
    call.emit.concat(&parts, 0).map(Item::Tensor)
}

/// A tuple of tensors, one for each of `send_rank_ids`; the answer has one for each of `recv_rank_ids`.
pub(in crate::import) fn neighbor_exchange(call: &mut Call) -> Result<Item> {
    let Some(own) = own_rank(call)? else { return opaque::lower(call) };
    let (to, from) =
        (call.required_ints(ATTRIBUTE, "send_rank_ids")?, call.required_ints(ATTRIBUTE, "recv_rank_ids")?);
    let dtype = call.dtype(ATTRIBUTE, "recv_type")?.ok_or_else(|| call.invalid("recv_type is missing"))?;
    let shapes = match call.attribute("recv_shapes") {
        Some(Item::Tuple(shapes)) => shapes.to_vec(),
        _ => Vec::new(),
    };
    let tensors = if to.is_empty() { Vec::new() } else { call.tensor_list()? };
    if tensors.len() != to.len() || shapes.len() != from.len() {
        return Err(call.invalid("ranks, tensors and shapes differ in number"));
    }
    let mut given = Vec::new();
    for (rank, content) in to.into_iter().zip(tensors) {
        given.push(Message { peer: call.to_usize(rank, "send_rank_ids")?, content });
    }
    let mut taken = Vec::new();
    for (rank, shape) in from.into_iter().zip(&shapes) {
        let dims = call.item_dims(shape).ok_or_else(|| call.invalid("recv_shapes must be numbers"))?;
        let content = TensorSpec::new(dtype, Shape::ranked(dims));
        taken.push(Message { peer: call.to_usize(rank, "recv_rank_ids")?, content });
    }
    if given.iter().map(|m| m.peer).chain(taken.iter().map(|m| m.peer)).any(|peer| peer == own) {
        return Err(call.unsupported(format!("rank {own} gives something to itself")));
    }
    let results = swap(call, own, &given, &taken)?;
    Ok(Item::tensors(results.into_iter().flatten()))
}

/// `(x, counts)`: a vector in parts of various lengths; the parts are exchanged at the length of the longest.
pub(in crate::import) fn reduce_scatter_v(call: &mut Call) -> Result<Item> {
    let Some(own) = own_rank(call)? else { return opaque::lower(call) };
    let kind = CollectiveKind::ReduceScatter(reduction(call)?);
    let x = call.tensor(0, "x")?;
    let counts = call.required_ints(1, "input_split_sizes")?;
    let longest = counts.iter().copied().max().unwrap_or(0);
    let Some(&count) = counts.get(own).filter(|_| counts.iter().all(|&n| n >= 0)) else {
        return Err(call.invalid(format!("counts {counts:?} at rank {own}")));
    };
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let (mut parts, mut at) = (Vec::new(), 0i64);
    for &n in &counts {
        let part = call.emit.narrow(x, 0, Dim::from(at), Dim::from(n))?;
        let pad = Pad { low: vec![0], high: vec![longest - n], mode: PadMode::Constant };
        parts.push(call.emit.op(Op::Pad(pad), &[part, zero])?);
        at = at.saturating_add(n);
    }
    let x = call.emit.concat(&parts, 0)?;
    let op = Collective { size: Some(counts.len()), ..collective(call, kind, None)? };
    let y = call.emit.op(Op::Collective(op), &[x])?;
    call.emit.narrow(y, 0, Dim::from(0), Dim::from(count)).map(Item::Tensor)
}

/// `(x1, x2, bias, residual, gamma, epsilon, group, reduce_op, ...) -> (normed, sum)`: a product that is added up among ranks,
/// the residual added, and normalised.
pub(in crate::import) fn matmul_all_reduce_norm(call: &mut Call) -> Result<Item> {
    let (a, b) = (call.tensor(0, "x1")?, call.tensor(1, "x2")?);
    let mut y = call.emit.op(Op::MatMul(MatMul::default()), &[a, b])?;
    if let Some(bias) = call.tensor_of(2, "bias", call.emit.dtype(y))? {
        y = call.emit.binary(Binary::Add, y, bias)?;
    }
    let op = collective(call, CollectiveKind::AllReduce(Reduction::Sum), None)?;
    let y = call.emit.op(Op::Collective(op), &[y])?;
    let (residual, gamma) = (call.tensor(3, "residual")?, call.tensor(4, "gamma")?);
    let sum = call.emit.binary(Binary::Add, y, residual)?;
    let epsilon = call.float_or(5, "epsilon", 1e-6)?;
    let axis = call.emit.axis(-1, call.emit.rank(sum)?)?;
    let normed = call.emit.op(Op::RmsNorm(Norm { axis, epsilon }), &[sum, gamma])?;
    Ok(Item::tensors([normed, sum]))
}

/// The product of two matrices that are transposed on demand, with a bias.
fn product(call: &mut Call, a: ValueId, transposes: [usize; 2], bias: usize) -> Result<ValueId> {
    let b = call.tensor(1, "x2")?;
    let (transpose_a, transpose_b) =
        (call.flag(transposes[0], "trans_input")?, call.flag(transposes[1], "trans_x2")?);
    let op = Op::MatMul(MatMul { transpose_a, transpose_b, ..MatMul::default() });
    let y = call.emit.op(op, &[a, b])?;
    match call.tensor_of(bias, "bias", call.emit.dtype(y))? {
        Some(bias) => call.emit.binary(Binary::Add, y, bias),
        None => Ok(y),
    }
}

/// The group of this many ranks.
fn sized(call: &mut Call, kind: CollectiveKind, position: usize) -> Result<Op> {
    let size = call.required_int(position, "world_size")?;
    let size = Some(call.to_usize(size, "world_size")?);
    Ok(Op::Collective(Collective { size, ..collective(call, kind, None)? }))
}

/// `(input, x2, group, world_size, bias=None, gather_index=0, gather_output=True, comm_turn=0, trans_input=False,
/// trans_x2=False) -> (product, gathered)`
pub(in crate::import) fn all_gather_matmul(call: &mut Call) -> Result<Item> {
    if call.int_or(5, "gather_index", 0)? != 0 || call.flag(8, "trans_input")? {
        return opaque::lower(call);
    }
    let x = call.tensor(0, "input")?;
    let op = sized(call, CollectiveKind::AllGather, 3)?;
    let all = call.emit.op(op, &[x])?;
    let y = product(call, all, [8, 9], 4)?;
    Ok(Item::tensors([y, all]))
}

/// `(input, x2, group, world_size, reduce_op=sum, bias=None, comm_turn=0, trans_input=False, trans_x2=False)`
pub(in crate::import) fn matmul_reduce_scatter(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input")?;
    let y = product(call, x, [7, 8], 5)?;
    let op = sized(call, CollectiveKind::ReduceScatter(Reduction::Sum), 3)?;
    call.emit.op(op, &[y]).map(Item::Tensor)
}
