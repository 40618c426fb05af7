use mslite_collective::{CollectiveKind, CollectiveOp, Reduction};
use mslite_tensor::{DType, Dim, Shape, TensorSpec};

use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::product;
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Collective, Op, Pad, PadMode};

pub(in crate::import) fn all_reduce(call: &mut Call) -> Result<Item> {
    let kind = CollectiveKind::AllReduce(reduction(call)?);
    exchange(call, kind)
}

pub(in crate::import) fn all_gather(call: &mut Call) -> Result<Item> {
    exchange(call, CollectiveKind::AllGather)
}

pub(in crate::import) fn reduce_scatter(call: &mut Call) -> Result<Item> {
    let kind = CollectiveKind::ReduceScatter(reduction(call)?);
    exchange(call, kind)
}

/// A tuple in, a tuple out: one exchange per element.
pub(in crate::import) fn broadcast(call: &mut Call) -> Result<Item> {
    let kind = CollectiveKind::Broadcast { root: rank(call, "root_rank")? };
    let is_tuple = matches!(call.args.first(), Some(Item::Tuple(_)));
    let tensors = call.tensor_list()?;
    let mut results = Vec::with_capacity(tensors.len());
    for x in tensors {
        results.push(apply(call, kind.clone(), x)?);
    }
    match results[..] {
        [y] if !is_tuple => Ok(Item::Tensor(y)),
        _ => Ok(Item::tensors(results)),
    }
}

pub(in crate::import) fn reduce(call: &mut Call) -> Result<Item> {
    let kind = CollectiveKind::Reduce { root: rank(call, "dest_rank")?, reduction: reduction(call)? };
    exchange(call, kind)
}

pub(in crate::import) fn gather(call: &mut Call) -> Result<Item> {
    let kind = CollectiveKind::Gather { root: rank(call, "dest_rank")? };
    exchange(call, kind)
}

pub(in crate::import) fn scatter(call: &mut Call) -> Result<Item> {
    let kind = CollectiveKind::Scatter { root: rank(call, "src_rank")? };
    exchange(call, kind)
}

/// The result stands for the operand, so that what depends on it can go on.
pub(in crate::import) fn send(call: &mut Call) -> Result<Item> {
    let kind =
        CollectiveKind::Send { dest: rank(call, "dest_rank")?, tag: call.int_or(ATTRIBUTE, "sr_tag", 0)? };
    let x = call.tensor(0, "x")?;
    let op = collective(call, kind, None)?;
    call.emit.push(Op::Collective(op), &[x])?;
    Ok(Item::Tensor(x))
}

/// The operand only orders.
pub(in crate::import) fn receive(call: &mut Call) -> Result<Item> {
    let kind =
        CollectiveKind::Receive { src: rank(call, "src_rank")?, tag: call.int_or(ATTRIBUTE, "sr_tag", 0)? };
    let dims = call.required_ints(ATTRIBUTE, "shape")?;
    let dtype = call.dtype(ATTRIBUTE, "dtype")?.ok_or_else(|| call.invalid("dtype is missing"))?;
    let spec = received(call, &dims, dtype)?;
    let op = collective(call, kind, Some(spec))?;
    call.emit.op(Op::Collective(op), &[]).map(Item::Tensor)
}

fn received(call: &Call, dims: &[i64], dtype: DType) -> Result<TensorSpec> {
    if dims.iter().any(|&n| n < 0) {
        return Err(call.unsupported(format!("shape {dims:?} is not fixed; export with fixed shapes")));
    }
    Ok(TensorSpec::new(dtype, Shape::ranked(dims.iter().map(|&n| Dim::from(n)))))
}

/// The result is a dummy that nobody should read.
pub(in crate::import) fn barrier(call: &mut Call) -> Result<Item> {
    let op = collective(call, CollectiveKind::Barrier, None)?;
    call.emit.push(Op::Collective(op), &[])?;
    Ok(Item::UNMADE)
}

/// `(x)` with `split_count`, `split_dim` and `concat_dim`: parts along one axis are exchanged and joined along
/// another. The exchange itself is of blocks along axis 0.
pub(in crate::import) fn all_to_all(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    let dims = call.emit.dims(x)?;
    let count = call.required_int(ATTRIBUTE, "split_count")?;
    let parts = Dim::from(count);
    let split = call.axis(ATTRIBUTE, "split_dim", 0, dims.len())?;
    let joined = call.axis(ATTRIBUTE, "concat_dim", 0, dims.len())?;
    if count <= 0 || dims[split].as_fixed().is_some_and(|n| n % count != 0) {
        return Err(call.invalid(format!("axis {split} of extent {} in {count} parts", dims[split])));
    }
    let mut block = dims.clone();
    block[split] = dims[split].floor_div(&parts);
    let mut apart = dims;
    apart.splice(split..=split, [parts.clone(), block[split].clone()]);
    let rank = apart.len();
    let x = call.emit.reshape(x, apart)?;
    let front = std::iter::once(split).chain((0..rank).filter(|&axis| axis != split)).collect();
    let x = call.emit.transpose(x, front)?;
    let x = call.emit.reshape(x, vec![&parts * &block[0], product(&block[1..])])?;
    let y = apply(call, CollectiveKind::AllToAll, x)?;
    let y = call.emit.reshape(y, [std::slice::from_ref(&parts), &block[..]].concat())?;
    let back = (1..=joined).chain([0]).chain(joined + 1..rank).collect();
    let y = call.emit.transpose(y, back)?;
    block[joined] = &block[joined] * &parts;
    call.emit.reshape(y, block).map(Item::Tensor)
}

/// `(x, counts)`: parts of various lengths, joined in rank order. They are exchanged at the length of the longest.
pub(in crate::import) fn all_gather_v(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    let counts = call.required_ints(1, "output_split_sizes")?;
    let [length] = &call.emit.dims(x)?[..] else {
        return Err(call.invalid("its operand must have one axis"));
    };
    let longest = counts.iter().copied().max().unwrap_or(0);
    let missing = length.as_fixed().map(|n| longest.saturating_sub(n)).filter(|&n| n >= 0);
    let Some(missing) = missing.filter(|_| counts.iter().all(|&n| n >= 0)) else {
        return Err(call.invalid(format!("a part of {length} elements where the counts are {counts:?}")));
    };
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let pad = Pad { low: vec![0], high: vec![missing], mode: PadMode::Constant };
    let x = call.emit.op(Op::Pad(pad), &[x, zero])?;
    let all = apply(call, CollectiveKind::AllGather, x)?;
    let mut parts = Vec::with_capacity(counts.len());
    for (rank, &count) in (0i64..).zip(&counts) {
        let start = Dim::from(rank.saturating_mul(longest));
        parts.push(call.emit.narrow(all, 0, start, Dim::from(count))?);
    }
    call.emit.concat(&parts, 0).map(Item::Tensor)
}

/// Sends and receives in one primitive, in order.
pub(in crate::import) fn batch(call: &mut Call) -> Result<Item> {
    let Some(Item::Tuple(kinds)) = call.attribute("op_types") else {
        return Err(call.invalid("op_types is missing"));
    };
    let peers = call.required_ints(ATTRIBUTE, "remote_ranks")?;
    let (shapes, dtypes) = (call.attribute("receive_shapes"), call.attribute("receive_dtypes"));
    let mut tensors = match call.args.is_empty() {
        true => Vec::new().into_iter(),
        false => call.tensor_list()?.into_iter(),
    };
    let (mut results, mut receives) = (Vec::new(), 0);
    for (i, kind) in kinds.iter().enumerate() {
        let peer = peers.get(i).copied().unwrap_or(-1);
        let peer = call.to_usize(peer, "remote_ranks")?;
        if matches!(kind, Item::Text(text) if &**text == "isend") {
            let x = tensors.next().ok_or_else(|| call.invalid("an operand is missing"))?;
            let op = collective(call, CollectiveKind::Send { dest: peer, tag: 0 }, None)?;
            call.emit.push(Op::Collective(op), &[x])?;
            results.push(Item::UNMADE);
            continue;
        }
        let spec = nth_spec(call, &shapes, &dtypes, receives)?;
        receives += 1;
        let op = collective(call, CollectiveKind::Receive { src: peer, tag: 0 }, Some(spec))?;
        results.push(Item::Tensor(call.emit.op(Op::Collective(op), &[])?));
    }
    Ok(Item::tuple(results))
}

fn nth_spec(call: &Call, shapes: &Option<Item>, dtypes: &Option<Item>, n: usize) -> Result<TensorSpec> {
    let nth = |items: &Option<Item>| match items {
        Some(Item::Tuple(items)) => items.get(n).cloned(),
        _ => None,
    };
    let (Some(shape), Some(Item::DType(dtype))) = (nth(shapes), nth(dtypes)) else {
        return Err(call.invalid("receive_shapes or receive_dtypes is too short"));
    };
    let dims = call.item_dims(&shape).unwrap_or_default();
    let dims: Vec<i64> = dims.iter().filter_map(Dim::as_fixed).collect();
    received(call, &dims, dtype)
}

fn exchange(call: &mut Call, kind: CollectiveKind) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    apply(call, kind, x).map(Item::Tensor)
}

fn apply(call: &mut Call, kind: CollectiveKind, x: ValueId) -> Result<ValueId> {
    let op = collective(call, kind, None)?;
    call.emit.op(Op::Collective(op), &[x])
}

pub(super) fn collective(
    call: &mut Call,
    kind: CollectiveKind,
    receives: Option<TensorSpec>,
) -> Result<Collective> {
    let group = match call.attribute("group") {
        Some(Item::Text(group)) => group,
        // Products that are followed by an exchange have it among their arguments.
        _ => match call.args.iter().find(|item| matches!(item, Item::Text(_))) {
            Some(Item::Text(group)) => group.clone(),
            _ => return Err(call.invalid("group is missing")),
        },
    };
    let ranks = ranks(call)?;
    let stated = call.int(ATTRIBUTE, "rank_size")?.filter(|&n| n > 0);
    let stated = stated.map(|n| call.to_usize(n, "rank_size")).transpose()?;
    let size = stated.or(ranks.as_ref().map(Vec::len));
    Ok(Collective { op: CollectiveOp::new(kind, &*group), size, ranks, receives })
}

/// World ranks of the group, as MindSpore's parallel front end writes them.
fn ranks(call: &mut Call) -> Result<Option<Vec<usize>>> {
    for name in ["rank_list", "group_rank_ids"] {
        if let Some(ranks) = call.ints(ATTRIBUTE, name)?.filter(|ranks| !ranks.is_empty()) {
            let ranks: Result<Vec<usize>> = ranks.into_iter().map(|rank| call.to_usize(rank, name)).collect();
            return ranks.map(Some);
        }
    }
    Ok(None)
}

fn rank(call: &mut Call, name: &str) -> Result<usize> {
    let rank = call.required_int(ATTRIBUTE, name)?;
    call.to_usize(rank, name)
}

pub(super) fn reduction(call: &mut Call) -> Result<Reduction> {
    match call.attribute("op") {
        None => Ok(Reduction::Sum),
        Some(Item::Text(op)) => {
            op.parse().map_err(|_| call.unsupported(format!("reduction {op:?} is not known")))
        }
        Some(item) => Err(call.invalid(format!("op must be text, not {}", item.kind()))),
    }
}
