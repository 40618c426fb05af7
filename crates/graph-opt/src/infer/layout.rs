use mslite_tensor::{DType, Dim, Shape, TensorSpec};

use super::{Inferred, check_axis, may_equal, same_dtype, unranked};
use crate::ir::op::{Gather, Pad, PadMode, Slice, TopK};

pub(super) fn reshape(dims: &[Dim], x: &TensorSpec) -> Inferred<TensorSpec> {
    let result = TensorSpec::new(x.dtype, Shape::ranked(dims.to_vec()));
    if let (Some(from), Some(to)) = (x.shape.dims().and_then(product), product(dims))
        && from != to
    {
        return Err(format!("{x} has {from} elements, {result} has {to}"));
    }
    Ok(result)
}

/// Number of elements, if every extent is a number. Products of symbolic extents are not multiplied out: that
/// can take exponentially many terms.
fn product(dims: &[Dim]) -> Option<i64> {
    dims.iter().try_fold(1i64, |n, d| Some(n.saturating_mul(d.as_fixed()?)))
}

pub(super) fn transpose(perm: &[usize], x: &TensorSpec) -> Inferred<TensorSpec> {
    let Some(dims) = x.shape.dims() else { return Ok(unranked(x.dtype)) };
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..dims.len()) {
        return Err(format!("{perm:?} is not a permutation of the axes of {x}"));
    }
    Ok(TensorSpec::new(x.dtype, Shape::ranked(perm.iter().map(|&axis| dims[axis].clone()))))
}

pub(super) fn broadcast_to(dims: &[Dim], x: &TensorSpec) -> Inferred<TensorSpec> {
    let result = TensorSpec::new(x.dtype, Shape::ranked(dims.to_vec()));
    let Some(from) = x.shape.dims() else { return Ok(result) };
    let fits = from.len() <= dims.len()
        && from.iter().rev().zip(dims.iter().rev()).all(|(a, b)| *a == Dim::from(1) || may_equal(a, b));
    if fits { Ok(result) } else { Err(format!("{x} does not broadcast to {}", result.shape)) }
}

pub(super) fn concat(axis: usize, operands: &[&TensorSpec]) -> Inferred<TensorSpec> {
    let (first, rest) = operands.split_first().ok_or("it needs at least one operand")?;
    if operands.iter().any(|x| x.shape.dims().is_none()) {
        return Ok(unranked(first.dtype));
    }
    check_axis(first, axis)?;
    let mut dims = first.shape.dims().unwrap_or_default().to_vec();
    for x in rest {
        same_dtype(first, x)?;
        let others = x.shape.dims().unwrap_or_default();
        let fits = others.len() == dims.len()
            && others.iter().zip(&dims).enumerate().all(|(i, (a, b))| i == axis || may_equal(a, b));
        if !fits {
            return Err(format!("{first} and {x} cannot be joined along axis {axis}"));
        }
        dims[axis] = &dims[axis] + &others[axis];
    }
    Ok(TensorSpec::new(first.dtype, Shape::ranked(dims)))
}

pub(super) fn slice(slice: &Slice, x: &TensorSpec) -> Inferred<TensorSpec> {
    let result = TensorSpec::new(x.dtype, Shape::ranked(slice.sizes.clone()));
    let Some(dims) = x.shape.dims() else { return Ok(result) };
    let rank = dims.len();
    if slice.starts.len() != rank || slice.sizes.len() != rank || slice.steps.len() != rank {
        return Err(format!("it names {} axes of {x}", slice.sizes.len()));
    }
    for (axis, dim) in dims.iter().enumerate() {
        let numbers = (dim.as_fixed(), slice.starts[axis].as_fixed(), slice.sizes[axis].as_fixed());
        let step = slice.steps[axis];
        if step == 0 {
            return Err("a step must not be 0".to_owned());
        }
        if let (Some(extent), Some(start), Some(size)) = numbers {
            let last =
                size.checked_sub(1).and_then(|n| n.checked_mul(step)).and_then(|n| n.checked_add(start));
            let inside = |at: i64| (0..extent).contains(&at);
            let fits = size == 0 || (size > 0 && inside(start) && last.is_some_and(inside));
            if !fits {
                return Err(format!("{size} elements from {start} by {step} leave axis {axis} of {x}"));
            }
        }
    }
    Ok(result)
}

pub(super) fn pad(pad: &Pad, operands: &[&TensorSpec]) -> Inferred<TensorSpec> {
    let x = match (pad.mode, operands) {
        (PadMode::Constant, [x, value]) => {
            same_dtype(x, value)?;
            if value.shape.rank().is_some_and(|rank| rank != 0) {
                return Err(format!("the value {value} must have rank 0"));
            }
            x
        }
        (PadMode::Constant, _) => return Err("it takes a tensor and a value".to_owned()),
        (_, [x]) => x,
        _ => return Err("it takes one operand".to_owned()),
    };
    let Some(dims) = x.shape.dims() else { return Ok(unranked(x.dtype)) };
    if pad.low.len() != dims.len() || pad.high.len() != dims.len() {
        return Err(format!("it pads {} axes of {x}", pad.low.len()));
    }
    let padded: Vec<Dim> = dims
        .iter()
        .zip(pad.low.iter().zip(&pad.high))
        .map(|(dim, (&low, &high))| &(dim + &Dim::from(low)) + &Dim::from(high))
        .collect();
    Ok(TensorSpec::new(x.dtype, Shape::ranked(padded)))
}

pub(super) fn gather(gather: &Gather, [x, indices]: [&TensorSpec; 2]) -> Inferred<TensorSpec> {
    integer(indices)?;
    let (Some(dims), Some(at)) = (x.shape.dims(), indices.shape.dims()) else {
        return Ok(unranked(x.dtype));
    };
    check_axis(x, gather.axis)?;
    let batch = gather.batch_dims;
    if batch > gather.axis || batch > at.len() || !dims.iter().zip(&at[..batch]).all(|(a, b)| may_equal(a, b))
    {
        return Err(format!("{x} and {indices} do not share {batch} leading axes"));
    }
    let result = dims[..gather.axis].iter().chain(&at[batch..]).chain(&dims[gather.axis + 1..]);
    Ok(TensorSpec::new(x.dtype, Shape::ranked(result.cloned())))
}

pub(super) fn gather_elements(axis: usize, [x, index]: [&TensorSpec; 2]) -> Inferred<TensorSpec> {
    integer(index)?;
    check_axis(x, axis)?;
    match (x.shape.rank(), index.shape.rank()) {
        (Some(a), Some(b)) if a != b => Err(format!("{x} and {index} differ in rank")),
        _ => Ok(TensorSpec::new(x.dtype, index.shape.clone())),
    }
}

pub(super) fn gather_nd([x, indices]: [&TensorSpec; 2]) -> Inferred<TensorSpec> {
    integer(indices)?;
    let (Some(dims), Some(at)) = (x.shape.dims(), indices.shape.dims()) else {
        return Ok(unranked(x.dtype));
    };
    let (depth, lead) = pointer_depth(x, indices, dims, at)?;
    Ok(TensorSpec::new(x.dtype, Shape::ranked(lead.iter().chain(&dims[depth..]).cloned())))
}

pub(super) fn scatter_nd([x, indices, updates]: [&TensorSpec; 3]) -> Inferred<TensorSpec> {
    integer(indices)?;
    same_dtype(x, updates)?;
    if let (Some(dims), Some(at), Some(new)) = (x.shape.dims(), indices.shape.dims(), updates.shape.dims()) {
        let (depth, lead) = pointer_depth(x, indices, dims, at)?;
        let expected = lead.iter().chain(&dims[depth..]);
        if new.len() != lead.len() + dims.len() - depth || !expected.zip(new).all(|(a, b)| may_equal(a, b)) {
            return Err(format!("updates {updates} do not fit {x} at {indices}"));
        }
    }
    Ok(x.clone())
}

/// How many axes of x the last axis of the indices covers, and the other axes of the indices.
fn pointer_depth<'a>(
    x: &TensorSpec,
    indices: &TensorSpec,
    dims: &[Dim],
    at: &'a [Dim],
) -> Inferred<(usize, &'a [Dim])> {
    let (last, lead) = at.split_last().ok_or("indices must have an axis")?;
    let depth = last.as_usize().ok_or_else(|| format!("the last axis of {indices} must be known"))?;
    if depth > dims.len() {
        return Err(format!("indices of {depth} numbers do not fit {x}"));
    }
    Ok((depth, lead))
}

pub(super) fn one_hot(
    depth: &Dim,
    axis: usize,
    [indices, on, off]: [&TensorSpec; 3],
) -> Inferred<TensorSpec> {
    integer(indices)?;
    same_dtype(on, off)?;
    let Some(dims) = indices.shape.dims() else { return Ok(unranked(on.dtype)) };
    if axis > dims.len() {
        return Err(format!("axis {axis} is outside the result"));
    }
    let mut dims = dims.to_vec();
    dims.insert(axis, depth.clone());
    Ok(TensorSpec::new(on.dtype, Shape::ranked(dims)))
}

pub(super) fn top_k(top_k: &TopK, x: &TensorSpec) -> Inferred {
    let Some(dims) = x.shape.dims() else { return Ok(vec![unranked(x.dtype), unranked(DType::I32)]) };
    check_axis(x, top_k.axis)?;
    let mut dims = dims.to_vec();
    if let (Some(k), Some(n)) = (top_k.k.as_fixed(), dims[top_k.axis].as_fixed())
        && (k < 0 || k > n)
    {
        return Err(format!("{k} of {n} elements cannot be taken"));
    }
    dims[top_k.axis] = top_k.k.clone();
    let shape = Shape::ranked(dims);
    Ok(vec![TensorSpec::new(x.dtype, shape.clone()), TensorSpec::new(DType::I32, shape)])
}

pub(super) fn triangle(x: &TensorSpec) -> Inferred<TensorSpec> {
    match x.shape.rank() {
        Some(rank) if rank < 2 => Err(format!("{x} is not a matrix")),
        _ => Ok(x.clone()),
    }
}

fn integer(x: &TensorSpec) -> Inferred<()> {
    if x.dtype.is_int() { Ok(()) } else { Err(format!("indices must be integers, not {}", x.dtype)) }
}
