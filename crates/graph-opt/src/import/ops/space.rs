//! Layout of images and sequences, and pooling of one and three axes.

use mslite_tensor::Dim;

use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Op, Pad, PadMode, ReduceKind, Unary};

/// Pairs of integers of an attribute or operand.
fn pairs(call: &mut Call, position: usize, name: &str) -> Result<Vec<[i64; 2]>> {
    let flat = match call.arg(position, name) {
        Some(Item::Tuple(items)) => {
            let lists: Option<Vec<Vec<Dim>>> = items.iter().map(|item| call.item_dims(item)).collect();
            lists.map(|lists| lists.concat())
        }
        Some(item) => call.item_dims(&item),
        None => None,
    };
    let flat: Option<Vec<i64>> = flat.and_then(|flat| flat.iter().map(Dim::as_fixed).collect());
    let flat = flat.ok_or_else(|| call.invalid(format!("{name} must be pairs of integers")))?;
    Ok(flat.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect())
}

/// The block's extents, and where the axes that it divides begin.
fn block(call: &mut Call, rank: usize) -> Result<(Vec<i64>, usize)> {
    let (position, name) = match call.op_type {
        "SpaceToBatch" | "BatchToSpace" => (ATTRIBUTE, "block_size"),
        "BatchToSpaceNDV2" => (1, "block_shape"),
        _ => (ATTRIBUTE, "block_shape"),
    };
    let mut block = call.required_ints(position, name)?;
    if name == "block_size" {
        block = vec![block[0]; 2];
    }
    // The last axes of [n, c, h, w]; [n, h, w, c] is not known to these primitives.
    match rank.checked_sub(block.len()).filter(|&first| first > 0) {
        Some(first) if block.iter().all(|&n| n > 0) => Ok((block, first)),
        _ => Err(call.invalid(format!("the block does not fit a tensor of rank {rank}"))),
    }
}

/// `(x)`, block and paddings as attributes: the places of each block go to the batch.
pub(in crate::import) fn space_to_batch(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input_x")?;
    let rank = call.emit.rank(x)?;
    let (block, first) = block(call, rank)?;
    let pads = pairs(call, ATTRIBUTE, "paddings")?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let (mut low, mut high) = (vec![0; rank], vec![0; rank]);
    for (i, pad) in pads.iter().enumerate().take(block.len()) {
        (low[first + i], high[first + i]) = (pad[0], pad[1]);
    }
    let x = call.emit.op(Op::Pad(Pad { low, high, mode: PadMode::Constant }), &[x, zero])?;
    let dims = call.emit.dims(x)?;
    let mut split = dims[..first].to_vec();
    let mut after = dims.clone();
    for (i, &n) in block.iter().enumerate() {
        after[first + i] = dims[first + i].floor_div(&Dim::from(n));
        split.extend([after[first + i].clone(), Dim::from(n)]);
        after[0] = &after[0] * &Dim::from(n);
    }
    let x = call.emit.reshape(x, split)?;
    let inner = (0..block.len()).map(|i| first + 2 * i + 1);
    let outer = (0..block.len()).map(|i| first + 2 * i);
    let perm = inner.chain(0..first).chain(outer).collect();
    let x = call.emit.transpose(x, perm)?;
    call.emit.reshape(x, after)
}

/// The inverse, block and crops as attributes.
pub(in crate::import) fn batch_to_space(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let dims = call.emit.dims(x)?;
    let (block, first) = block(call, dims.len())?;
    let crops = pairs(call, if call.op_type == "BatchToSpaceNDV2" { 2 } else { ATTRIBUTE }, "crops")?;
    let count = block.len();
    let batch = dims[0].floor_div(&Dim::from(block.iter().product::<i64>()));
    let mut split: Vec<Dim> = block.iter().map(|&n| Dim::from(n)).collect();
    split.push(batch.clone());
    split.extend_from_slice(&dims[1..]);
    let x = call.emit.reshape(x, split)?;
    let lead = count..count + first;
    let pairs = (0..count).flat_map(|i| [count + first + i, i]);
    let x = call.emit.transpose(x, lead.chain(pairs).collect())?;
    let mut joined = dims.clone();
    joined[0] = batch;
    for (i, &n) in block.iter().enumerate() {
        joined[first + i] = &dims[first + i] * &Dim::from(n);
    }
    let x = call.emit.reshape(x, joined)?;
    let (mut low, mut high) = (vec![0; dims.len()], vec![0; dims.len()]);
    for (i, crop) in crops.iter().enumerate().take(count) {
        (low[first + i], high[first + i]) = (-crop[0], -crop[1]);
    }
    if low.iter().chain(&high).all(|&n| n == 0) {
        return Ok(x);
    }
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    call.emit.op(Op::Pad(Pad { low, high, mode: PadMode::Constant }), &[x, zero])
}

/// `(x)`, group as an attribute: channels dealt out to groups.
pub(in crate::import) fn channel_shuffle(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let group = Dim::from(call.int_or(ATTRIBUTE, "group", 1)?);
    let dims = call.emit.dims(x)?;
    let [n, c, rest @ ..] = &dims[..] else { return Err(call.invalid("x must have channels")) };
    let split = [&[n.clone(), group.clone(), c.floor_div(&group)], rest].concat();
    let x = call.emit.reshape(x, split)?;
    let perm = [0, 2, 1].into_iter().chain(3..dims.len() + 1).collect();
    let x = call.emit.transpose(x, perm)?;
    call.emit.reshape(x, dims)
}

/// `(input, padding)`: pairs from the last axis backwards, mirrored without the edge.
pub(in crate::import) fn reflection_pad(call: &mut Call) -> Result<ValueId> {
    padded(call, PadMode::Reflect)
}

/// `(input, padding)`: pairs from the last axis backwards, the edge repeated.
pub(in crate::import) fn replication_pad(call: &mut Call) -> Result<ValueId> {
    padded(call, PadMode::Edge)
}

fn padded(call: &mut Call, mode: PadMode) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let rank = call.emit.rank(x)?;
    let pads = call.required_ints(1, "padding")?;
    let (mut low, mut high) = (vec![0; rank], vec![0; rank]);
    for (i, pair) in pads.chunks_exact(2).enumerate() {
        let axis = rank.checked_sub(i + 1).ok_or_else(|| call.invalid("more paddings than axes"))?;
        (low[axis], high[axis]) = (pair[0], pair[1]);
    }
    call.emit.op(Op::Pad(Pad { low, high, mode }), &[x])
}

/// `x / (bias + alpha * sum of squares of 2 * radius + 1 channels)^beta`
pub(in crate::import) fn lrn(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let radius = call.int_or(ATTRIBUTE, "depth_radius", 5)?;
    let (bias, alpha) = (call.float_or(ATTRIBUTE, "bias", 1.0)?, call.float_or(ATTRIBUTE, "alpha", 1.0)?);
    let beta = call.float_or(ATTRIBUTE, "beta", 0.5)?;
    let dims = call.emit.dims(x)?;
    if dims.len() != 4 || !(0..=64).contains(&radius) {
        return Err(call.unsupported("it needs rank 4 and a radius up to 64"));
    }
    let squares = call.emit.unary(Unary::Square, x)?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let around = vec![0, radius, 0, 0];
    let pad = Pad { low: around.clone(), high: around, mode: PadMode::Constant };
    let squares = call.emit.op(Op::Pad(pad), &[squares, zero])?;
    let mut sum: Option<ValueId> = None;
    for start in 0..=2 * radius {
        let part = call.emit.narrow(squares, 1, Dim::from(start), dims[1].clone())?;
        sum = Some(match sum {
            Some(sum) => call.emit.binary(Binary::Add, sum, part)?,
            None => part,
        });
    }
    let scaled = call.emit.with_scalar(Binary::Mul, sum.unwrap_or(x), alpha)?;
    let base = call.emit.with_scalar(Binary::Add, scaled, bias)?;
    let scale = call.emit.with_scalar(Binary::Pow, base, -beta)?;
    call.emit.binary(Binary::Mul, x, scale)
}

/// Pooling of the last axes to a size: `(input, output_size)`, windows as equal as they can be.
pub(in crate::import) fn adaptive_avg(call: &mut Call) -> Result<ValueId> {
    adaptive(call, ReduceKind::Mean)
}

/// The same with the largest: `(values, indices)`; the indices are not made.
pub(in crate::import) fn adaptive_max(call: &mut Call) -> Result<Item> {
    if call.uses(1) {
        return super::opaque::lower(call);
    }
    let y = adaptive(call, ReduceKind::Max)?;
    Ok(Item::tuple([Item::Tensor(y), Item::UNMADE]))
}

/// Most windows along an axis.
const MAX_WINDOWS: i64 = 256;

pub(super) fn adaptive(call: &mut Call, kind: ReduceKind) -> Result<ValueId> {
    let mut x = call.tensor(0, "input")?;
    let rank = call.emit.rank(x)?;
    let count = match call.op_type {
        name if name.contains("1D") => 1,
        name if name.contains("3D") => 3,
        _ => 2,
    };
    let sizes = match call.arg(1, "output_size") {
        Some(Item::Tuple(items)) => {
            items.iter().map(|item| call.item_dims(item)?.first()?.as_fixed()).collect()
        }
        Some(item) => vec![call.item_dims(&item).and_then(|dims| dims.first()?.as_fixed())],
        None => vec![call.int(ATTRIBUTE, "output_size")?],
    };
    for i in 0..count {
        let axis = rank.checked_sub(count - i).ok_or_else(|| call.invalid("x has too few axes"))?;
        let size = sizes.get(i).or(sizes.first()).copied().flatten().filter(|&size| size > 0);
        let Some(size) = size else { continue };
        x = pooled(call, x, axis, size, kind)?;
    }
    Ok(x)
}

/// Windows `[floor(i * n / size), ceil((i + 1) * n / size))`.
fn pooled(call: &mut Call, x: ValueId, axis: usize, size: i64, kind: ReduceKind) -> Result<ValueId> {
    let dims = call.emit.dims(x)?;
    let extent = &dims[axis];
    if size == 1 {
        return call.emit.reduce(kind, x, vec![axis], true);
    }
    let Some(n) = extent.as_fixed().filter(|_| size <= MAX_WINDOWS) else {
        return Err(call.unsupported("the axis must have a fixed extent, and not too many windows"));
    };
    if n % size == 0 {
        let mut split = dims.clone();
        split[axis] = Dim::from(size);
        split.insert(axis + 1, Dim::from(n / size));
        let x = call.emit.reshape(x, split)?;
        return call.emit.reduce(kind, x, vec![axis + 1], false);
    }
    let mut parts = Vec::new();
    for i in 0..size {
        let (start, end) = (i * n / size, ((i + 1) * n + size - 1) / size);
        let part = call.emit.narrow(x, axis, Dim::from(start), Dim::from(end - start))?;
        parts.push(call.emit.reduce(kind, part, vec![axis], true)?);
    }
    call.emit.concat(&parts, axis)
}

/// `(x, gamma, beta, mean, variance)` of training: normalised over the axes behind the channels.
pub(in crate::import) fn instance_norm(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    let epsilon = call.float_or(ATTRIBUTE, "epsilon", 1e-5)?;
    let rank = call.emit.rank(x)?;
    let mut y = call.emit.op(Op::LayerNorm(crate::ir::op::Norm { axis: 2, epsilon }), &[x])?;
    for (position, name, f) in [(1, "gamma", Binary::Mul), (2, "beta", Binary::Add)] {
        if let Some(factor) = call.tensor_of(position, name, call.emit.dtype(x))? {
            let factor = super::linear::along_channels(call, factor, rank)?;
            y = call.emit.binary(f, y, factor)?;
        }
    }
    Ok(Item::tuple([Item::Tensor(y), Item::UNMADE, Item::UNMADE]))
}
