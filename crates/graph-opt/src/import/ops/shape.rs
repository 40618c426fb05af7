use mslite_tensor::Dim;

use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::product;
use crate::import::item::{Item, MAX_ELEMENTS};
use crate::ir::ValueId;

pub(in crate::import) fn reshape(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let dims = call.required_dims(1, "shape")?;
    to_shape(call, x, dims)
}

/// Reshape to extents of which one may be -1.
pub(super) fn to_shape(call: &mut Call, x: ValueId, mut dims: Vec<Dim>) -> Result<ValueId> {
    if let Some(open) = dims.iter().position(|dim| dim.as_fixed() == Some(-1)) {
        let rest = product(dims.iter().enumerate().filter(|(i, _)| *i != open).map(|(_, dim)| dim));
        let count = product(&call.emit.dims(x)?);
        dims[open] = match rest.as_fixed() {
            Some(0) => Dim::from(0),
            _ => count.floor_div(&rest),
        };
    }
    call.emit.reshape(x, dims)
}

pub(in crate::import) fn transpose(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let name = if call.attributes.value("perm").is_some() { "perm" } else { "dims" };
    let axes = call.required_ints(1, name)?;
    let perm: Result<Vec<usize>> = axes.iter().map(|&axis| call.emit.axis(axis, axes.len())).collect();
    call.emit.transpose(x, perm?)
}

/// `(input, dim0, dim1)`
pub(in crate::import) fn swap_axes(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let rank = call.emit.rank(x)?;
    let (a, b) = (call.axis(1, "dim0", 0, rank)?, call.axis(2, "dim1", 0, rank)?);
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(a, b);
    call.emit.transpose(x, perm)
}

pub(in crate::import) fn expand_dims(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input_x")?;
    let mut dims = call.emit.dims(x)?;
    let axes = call.required_ints(1, "axis")?;
    for axis in axes {
        let axis = call.emit.axis(axis, dims.len() + 1)?;
        dims.insert(axis, Dim::from(1));
    }
    call.emit.reshape(x, dims)
}

/// `(input, axis=())`; no axes means every extent that is known to be 1.
pub(in crate::import) fn squeeze(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let dims = call.emit.dims(x)?;
    let one = Dim::from(1);
    let axes = match call.axes(1, "axis", dims.len())? {
        Some(axes) => axes,
        None => (0..dims.len()).filter(|&axis| dims[axis] == one).collect(),
    };
    if let Some(axis) = axes.iter().find(|&&axis| dims[axis].as_fixed().is_some_and(|n| n != 1)) {
        return Err(call.invalid(format!("axis {axis} has extent {}, not 1", dims[*axis])));
    }
    let kept = dims.into_iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, dim)| dim);
    call.emit.reshape(x, kept.collect())
}

/// Keeps the first axis.
pub(in crate::import) fn flatten(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input_x")?;
    let dims = call.emit.dims(x)?;
    let at = dims.len().min(1);
    call.emit.reshape(x, vec![product(&dims[..at]), product(&dims[at..])])
}

/// `(input, start_dim=0, end_dim=-1)`
pub(in crate::import) fn flatten_ext(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let mut dims = call.emit.dims(x)?;
    if dims.is_empty() {
        return call.emit.reshape(x, vec![Dim::from(1)]);
    }
    let start = call.axis(1, "start_dim", 0, dims.len())?;
    let end = call.axis(2, "end_dim", -1, dims.len())?;
    if start > end {
        return Err(call.invalid(format!("start_dim {start} comes after end_dim {end}")));
    }
    let merged = product(&dims[start..=end]);
    dims.splice(start..=end, [merged]);
    call.emit.reshape(x, dims)
}

/// `(tensors, axis=0)`, or the tensors one by one with the axis as an attribute.
pub(in crate::import) fn concat(call: &mut Call) -> Result<ValueId> {
    let tensors = call.tensor_list()?;
    let rank = call.emit.rank(tensors[0])?;
    let position = if matches!(call.args.first(), Some(Item::Tuple(_))) { 1 } else { ATTRIBUTE };
    let axis = call.axis(position, "axis", 0, rank)?;
    call.emit.concat(&tensors, axis)
}

/// A tuple, with the new axis as an attribute or second argument.
pub(in crate::import) fn stack(call: &mut Call) -> Result<ValueId> {
    let tensors = call.tensor_list()?;
    let rank = call.emit.rank(tensors[0])? + 1;
    let name = if call.op_type == "StackExt" { "dim" } else { "axis" };
    let position = if matches!(call.args.first(), Some(Item::Tuple(_))) { 1 } else { ATTRIBUTE };
    let axis = call.axis(position, name, 0, rank)?;
    let mut parts = Vec::with_capacity(tensors.len());
    for x in tensors {
        let mut dims = call.emit.dims(x)?;
        dims.insert(axis.min(dims.len()), Dim::from(1));
        parts.push(call.emit.reshape(x, dims)?);
    }
    call.emit.concat(&parts, axis)
}

pub(in crate::import) fn unstack(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    let dims = call.emit.dims(x)?;
    let position = if call.op_type.starts_with("UnstackExt") { 1 } else { ATTRIBUTE };
    let axis = call.axis(position, if position == 1 { "dim" } else { "axis" }, 0, dims.len())?;
    let count = count(call, &dims[axis])?;
    let mut rest = dims;
    rest.remove(axis);
    let mut parts = Vec::with_capacity(count);
    for i in 0..count {
        let part = call.emit.narrow(x, axis, Dim::from(i), Dim::from(1))?;
        parts.push(call.emit.reshape(part, rest.clone())?);
    }
    Ok(Item::tensors(parts))
}

/// How many parts there are, which must be known and reasonable.
fn count(call: &Call, dim: &Dim) -> Result<usize> {
    dim.as_usize().filter(|&n| n <= MAX_ELEMENTS).ok_or_else(|| {
        call.unsupported(format!("it makes {dim} parts, which must be a number up to {MAX_ELEMENTS}"))
    })
}

/// `(input_x, axis=0, output_num=1)`
pub(in crate::import) fn split(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input_x")?;
    let dims = call.emit.dims(x)?;
    let axis = call.axis(1, "axis", 0, dims.len())?;
    let number = call.int_or(2, "output_num", 1)?;
    let number = count(call, &Dim::from(number))?;
    if number == 0 || dims[axis].as_usize().is_some_and(|n| n % number != 0) {
        return Err(call.invalid(format!("{} cannot be divided into {number} parts", dims[axis])));
    }
    let size = dims[axis].floor_div(&Dim::from(number));
    parts(call, x, axis, vec![size; number])
}

/// Parts of the given sizes, one after the other.
fn parts(call: &mut Call, x: ValueId, axis: usize, sizes: Vec<Dim>) -> Result<Item> {
    let mut start = Dim::from(0);
    let mut parts = Vec::with_capacity(sizes.len());
    for size in sizes {
        parts.push(call.emit.narrow(x, axis, start.clone(), size.clone())?);
        start = &start + &size;
    }
    Ok(Item::tensors(parts))
}

/// `(input, split_sizes, dim=0)`
pub(in crate::import) fn split_with_size(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input")?;
    let sizes = call.required_dims(1, "split_size_or_sections")?;
    let rank = call.emit.rank(x)?;
    let axis = call.axis(2, "dim", 0, rank)?;
    parts(call, x, axis, sizes)
}

/// `(x)` with sizes and axis as attributes.
pub(in crate::import) fn split_v(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    let sizes = call.required_dims(ATTRIBUTE, "size_splits")?;
    let rank = call.emit.rank(x)?;
    let axis = call.axis(ATTRIBUTE, "split_dim", 0, rank)?;
    parts(call, x, axis, sizes)
}

/// `(input, size of a part, dim=0)`; the last part may be smaller.
pub(in crate::import) fn split_tensor(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input")?;
    let size = call.required_int(1, "split_int")?;
    let dims = call.emit.dims(x)?;
    let axis = call.axis(2, "dim", 0, dims.len())?;
    pieces(call, x, axis, &dims[axis], size)
}

/// `(input, chunks, dim=0)`
pub(in crate::import) fn chunk(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input")?;
    let chunks = call.required_int(1, "chunks")?;
    let dims = call.emit.dims(x)?;
    let axis = call.axis(2, "dim", 0, dims.len())?;
    let size = dims[axis].ceil_div(&Dim::from(chunks));
    match size.as_fixed() {
        Some(size) => pieces(call, x, axis, &dims[axis], size),
        None => Err(call.unsupported(format!("{} must be fixed; export with fixed shapes", dims[axis]))),
    }
}

fn pieces(call: &mut Call, x: ValueId, axis: usize, extent: &Dim, size: i64) -> Result<Item> {
    let Some(extent) = extent.as_fixed() else {
        return Err(call.unsupported(format!("{extent} must be fixed; export with fixed shapes")));
    };
    if size <= 0 {
        return Err(call.invalid(format!("parts of size {size}")));
    }
    let number = count(call, &Dim::from(extent).ceil_div(&Dim::from(size)))?;
    let sizes = (0..number).map(|i| {
        let start = i64::try_from(i).unwrap_or(i64::MAX).saturating_mul(size);
        Dim::from(size.min(extent - start))
    });
    parts(call, x, axis, sizes.collect())
}

/// `(input, dims)`: every axis repeated so many times.
pub(in crate::import) fn tile(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let name = if call.attributes.value("multiples").is_some() { "multiples" } else { "dims" };
    let times = call.required_dims(1, name)?;
    let mut dims = call.emit.dims(x)?;
    let mut times = times;
    let one = Dim::from(1);
    while times.len() < dims.len() {
        times.insert(0, one.clone());
    }
    while dims.len() < times.len() {
        dims.insert(0, one.clone());
    }
    let (mut apart, mut spread) = (Vec::new(), Vec::new());
    for (dim, n) in dims.iter().zip(&times) {
        if *n != one && *dim != one {
            apart.push(one.clone());
            spread.push(n.clone());
        }
        apart.push(dim.clone());
        spread.push(if *dim == one { n.clone() } else { dim.clone() });
    }
    let x = call.emit.reshape(x, apart)?;
    let x = call.emit.broadcast(x, spread)?;
    call.emit.reshape(x, dims.iter().zip(&times).map(|(dim, n)| dim * n).collect())
}

/// `(input, repeats, dim, output_size)`: every element so many times in a row.
pub(in crate::import) fn repeat_interleave(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let times = call.dim(1, "repeats")?.ok_or_else(|| call.invalid("repeats is missing"))?;
    let dims = call.emit.dims(x)?;
    let (x, dims, axis) = match call.int(2, "dim")? {
        Some(axis) => (x, dims.clone(), call.emit.axis(axis, dims.len())?),
        None => {
            let count = product(&dims);
            (call.emit.reshape(x, vec![count.clone()])?, vec![count], 0)
        }
    };
    let (mut apart, mut spread, mut merged) = (dims.clone(), dims.clone(), dims.clone());
    apart.insert(axis + 1, Dim::from(1));
    spread.insert(axis + 1, times.clone());
    merged[axis] = &merged[axis] * &times;
    let x = call.emit.reshape(x, apart)?;
    let x = call.emit.broadcast(x, spread)?;
    call.emit.reshape(x, merged)
}

/// `(input, shape)`; -1 keeps an extent.
pub(in crate::import) fn broadcast_to(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let mut dims = call.required_dims(1, "shape")?;
    let from = call.emit.dims(x)?;
    if from.len() > dims.len() {
        return Err(call.invalid(format!(
            "a tensor of rank {} cannot be broadcast to rank {}",
            from.len(),
            dims.len()
        )));
    }
    let lead = dims.len() - from.len();
    for (dim, own) in dims[lead..].iter_mut().zip(from) {
        if dim.as_fixed() == Some(-1) {
            *dim = own;
        }
    }
    call.emit.broadcast(x, dims)
}

/// `(input, other)`
pub(in crate::import) fn expand_as(call: &mut Call) -> Result<ValueId> {
    let (x, other) = (call.tensor(0, "input")?, call.tensor(1, "other")?);
    let dims = call.emit.dims(other)?;
    call.emit.broadcast(x, dims)
}

pub(in crate::import) fn shape(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    Ok(Item::tuple(call.emit.dims(x)?.into_iter().map(Item::Int)))
}

pub(in crate::import) fn tensor_shape(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    let dims = call.emit.dims(x)?;
    call.emit.extents(dims).map(Item::Tensor)
}

pub(in crate::import) fn rank(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    Ok(Item::Int(Dim::from(call.emit.rank(x)?)))
}

pub(in crate::import) fn size(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    Ok(Item::Int(product(&call.emit.dims(x)?)))
}

/// Channels in blocks `[b, b, c / b^2]` become places.
pub(in crate::import) fn depth_to_space(call: &mut Call) -> Result<ValueId> {
    let block = block(call, ATTRIBUTE, "block_size")?;
    let x = call.tensor(0, "x")?;
    let [n, c, h, w] = four(call, x)?;
    let rest = c.floor_div(&(&block * &block));
    let x = call
        .emit
        .reshape(x, vec![n.clone(), block.clone(), block.clone(), rest.clone(), h.clone(), w.clone()])?;
    let x = call.emit.transpose(x, vec![0, 3, 4, 1, 5, 2])?;
    call.emit.reshape(x, vec![n, rest, &h * &block, &w * &block])
}

/// Channels in blocks `[c / b^2, b, b]` become places.
pub(in crate::import) fn pixel_shuffle(call: &mut Call) -> Result<ValueId> {
    let block = block(call, 1, "upscale_factor")?;
    let x = call.tensor(0, "input")?;
    let [n, c, h, w] = four(call, x)?;
    let rest = c.floor_div(&(&block * &block));
    let x = call
        .emit
        .reshape(x, vec![n.clone(), rest.clone(), block.clone(), block.clone(), h.clone(), w.clone()])?;
    let x = call.emit.transpose(x, vec![0, 1, 4, 2, 5, 3])?;
    call.emit.reshape(x, vec![n, rest, &h * &block, &w * &block])
}

pub(in crate::import) fn space_to_depth(call: &mut Call) -> Result<ValueId> {
    let block = block(call, ATTRIBUTE, "block_size")?;
    let x = call.tensor(0, "x")?;
    let [n, c, h, w] = four(call, x)?;
    let (h, w) = (h.floor_div(&block), w.floor_div(&block));
    let x = call
        .emit
        .reshape(x, vec![n.clone(), c.clone(), h.clone(), block.clone(), w.clone(), block.clone()])?;
    let x = call.emit.transpose(x, vec![0, 3, 5, 1, 2, 4])?;
    call.emit.reshape(x, vec![n, &(&block * &block) * &c, h, w])
}

fn block(call: &mut Call, position: usize, name: &str) -> Result<Dim> {
    let block = call.required_int(position, name)?;
    if block > 0 { Ok(Dim::from(block)) } else { Err(call.invalid(format!("{name} is {block}"))) }
}

fn four(call: &Call, x: ValueId) -> Result<[Dim; 4]> {
    <[Dim; 4]>::try_from(call.emit.dims(x)?).map_err(|_| call.invalid("x must have rank 4"))
}

/// `(vectors, indexing='xy')`: each vector along its own axis, broadcast along the others.
pub(in crate::import) fn meshgrid(call: &mut Call) -> Result<Item> {
    let by_column = call.choice(1, "indexing", &["ij", "xy"], 1)? == 1;
    let Some(Item::Tuple(items)) = call.args.first().cloned() else {
        return Err(call.invalid("it takes a tuple"));
    };
    let mut vectors = Vec::with_capacity(items.len());
    for item in items.iter() {
        let x = call.emit.tensor(item)?.ok_or_else(|| call.invalid("it takes tensors"))?;
        vectors.push((x, product(&call.emit.dims(x)?)));
    }
    let axis_of = |i: usize| match i {
        0 | 1 if by_column && vectors.len() > 1 => 1 - i,
        _ => i,
    };
    let mut full = vec![Dim::from(1); vectors.len()];
    for (i, (_, count)) in vectors.iter().enumerate() {
        full[axis_of(i)] = count.clone();
    }
    let mut grids = Vec::with_capacity(vectors.len());
    for (i, (x, count)) in vectors.iter().enumerate() {
        let mut own = vec![Dim::from(1); full.len()];
        own[axis_of(i)] = count.clone();
        let x = call.emit.reshape(*x, own)?;
        grids.push(call.emit.broadcast(x, full.clone())?);
    }
    Ok(Item::tensors(grids))
}

/// `(x)`, axis as an attribute.
pub(in crate::import) fn unsqueeze(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let mut axes = call.required_ints(ATTRIBUTE, "axis")?;
    let mut dims = call.emit.dims(x)?;
    let rank = dims.len() + axes.len();
    for axis in &mut axes {
        *axis = call.emit.axis(*axis, rank)? as i64;
    }
    axes.sort_unstable();
    for axis in axes {
        dims.insert((axis as usize).min(dims.len()), Dim::from(1));
    }
    call.emit.reshape(x, dims)
}

/// The transpose of a matrix; vectors stay.
pub(in crate::import) fn matrix_transpose(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    match call.emit.rank(x)? {
        2 => call.emit.transpose(x, vec![1, 0]),
        _ => Ok(x),
    }
}

/// `(x)` of several tensors: the same.
pub(in crate::import) fn all(call: &mut Call) -> Result<Item> {
    match call.args.first() {
        Some(item @ Item::Tuple(_)) => Ok(item.clone()),
        _ => Ok(Item::tuple(call.args.clone())),
    }
}

/// `(input, other)`: the elements in the shape of other.
pub(in crate::import) fn view_as(call: &mut Call) -> Result<ValueId> {
    let (x, other) = (call.tensor(0, "input")?, call.tensor(1, "other")?);
    let dims = call.emit.dims(other)?;
    call.emit.reshape(x, dims)
}
