//! Operations that move elements.

use mslite_graph_opt::ir::op::{Gather, Pad, PadMode, ScatterKind, Slice, TopK, Triangle};
use mslite_tensor::{DType, Dim};

use super::array::{Array, Scalar, flat, indices, with};
use super::elementwise;
use super::linear::sorted;

type Answer = Result<Array, String>;

pub(super) fn transpose(perm: &[usize], x: &Array) -> Answer {
    let dims: Vec<usize> = perm.iter().map(|&axis| x.dims[axis]).collect();
    Array::build(x.dtype, &dims, |index| {
        let from = perm.iter().zip(index).fold(index.to_vec(), |from, (&axis, &i)| with(&from, axis, i));
        Ok(x.at(&from))
    })
}

pub(super) fn concat(axis: usize, operands: &[&Array]) -> Answer {
    let first = operands.first().ok_or("nothing to join")?;
    let mut dims = first.dims.clone();
    dims[axis] = operands.iter().map(|x| x.dims[axis]).sum();
    Array::build(first.dtype, &dims, |index| {
        let mut at = index[axis];
        for x in operands {
            if at < x.dims[axis] {
                return Ok(x.at(&with(index, axis, at)));
            }
            at -= x.dims[axis];
        }
        Err(format!("{index:?} lies in no operand"))
    })
}

pub(super) fn slice(slice: &Slice, x: &Array) -> Answer {
    let dims = fixed(&slice.sizes)?;
    let starts = fixed(&slice.starts)?;
    Array::build(x.dtype, &dims, |index| {
        let along = |axis: usize| starts[axis] as i64 + index[axis] as i64 * slice.steps[axis];
        Ok(x.at(&(0..dims.len()).map(|axis| along(axis) as usize).collect::<Vec<_>>()))
    })
}

/// Extents, all of which must be known.
pub(super) fn fixed(dims: &[Dim]) -> Result<Vec<usize>, String> {
    dims.iter().map(|dim| dim.as_usize().ok_or_else(|| format!("the extent {dim} has no value"))).collect()
}

pub(super) fn pad(pad: &Pad, x: &Array, value: Option<&Array>) -> Answer {
    let padded = |axis: usize| x.dims[axis] as i64 + pad.low[axis] + pad.high[axis];
    let dims: Vec<usize> = (0..x.dims.len()).map(|axis| padded(axis) as usize).collect();
    Array::build(x.dtype, &dims, |index| {
        let mut from = Vec::new();
        for (axis, &i) in index.iter().enumerate() {
            match source(pad.mode, i as i64 - pad.low[axis], x.dims[axis] as i64) {
                Some(at) => from.push(at as usize),
                None => return value.map(|v| v.values[0]).ok_or_else(|| "no value to pad with".to_owned()),
            }
        }
        Ok(x.at(&from))
    })
}

/// Where a padded element comes from; `None` for the constant.
fn source(mode: PadMode, at: i64, extent: i64) -> Option<i64> {
    match mode {
        _ if (0..extent).contains(&at) => Some(at),
        PadMode::Edge => Some(at.clamp(0, extent - 1)),
        PadMode::Reflect if at < 0 => source(mode, -at, extent),
        PadMode::Reflect => source(mode, 2 * (extent - 1) - at, extent),
        PadMode::Symmetric if at < 0 => source(mode, -1 - at, extent),
        PadMode::Symmetric => source(mode, 2 * extent - 1 - at, extent),
        _ => None,
    }
}

pub(super) fn gather(gather: &Gather, x: &Array, at: &Array) -> Answer {
    let (axis, batch) = (gather.axis, gather.batch_dims);
    let chosen = at.dims.len() - batch;
    let dims = [&x.dims[..axis], &at.dims[batch..], &x.dims[axis + 1..]].concat();
    Array::build(x.dtype, &dims, |index| {
        let pointer = [&index[..batch], &index[axis..axis + chosen]].concat();
        let row = pointed(at.int_at(&pointer)?, x.dims[axis])?;
        Ok(x.at(&[&index[..axis], &[row], &index[axis + chosen..]].concat()))
    })
}

/// A possibly negative index along an axis.
fn pointed(at: i128, extent: usize) -> Result<usize, String> {
    let counted = if at < 0 { at + extent as i128 } else { at };
    usize::try_from(counted)
        .ok()
        .filter(|&i| i < extent)
        .ok_or_else(|| format!("index {at} is outside an axis of {extent}"))
}

pub(super) fn gather_elements(axis: usize, x: &Array, at: &Array) -> Answer {
    Array::build(x.dtype, &at.dims, |index| {
        Ok(x.at(&with(index, axis, pointed(at.int_at(index)?, x.dims[axis])?)))
    })
}

pub(super) fn gather_nd(x: &Array, at: &Array) -> Answer {
    let (lead, depth) = at.dims.split_at(at.dims.len() - 1);
    let dims = [lead, &x.dims[depth[0]..]].concat();
    Array::build(x.dtype, &dims, |index| {
        let mut from = place(x, at, &index[..lead.len()])?;
        from.extend(&index[lead.len()..]);
        Ok(x.at(&from))
    })
}

/// The leading part of an index of x that the last axis of the indices gives.
fn place(x: &Array, at: &Array, lead: &[usize]) -> Result<Vec<usize>, String> {
    let depth = at.dims[at.dims.len() - 1];
    (0..depth).map(|i| pointed(at.int_at(&[lead, &[i]].concat())?, x.dims[i])).collect()
}

pub(super) fn scatter_nd(kind: ScatterKind, x: &Array, at: &Array, updates: &Array) -> Answer {
    use mslite_graph_opt::ir::op::Binary;
    let lead = at.dims.len() - 1;
    let mut result = x.clone();
    for index in indices(&updates.dims) {
        let mut to = place(x, at, &index[..lead])?;
        to.extend(&index[lead..]);
        let to = flat(&to, &x.dims);
        let new = updates.at(&index);
        let f = match kind {
            ScatterKind::Update => None,
            ScatterKind::Add => Some(Binary::Add),
            ScatterKind::Mul => Some(Binary::Mul),
            ScatterKind::Max => Some(Binary::Maximum),
            ScatterKind::Min => Some(Binary::Minimum),
            other => return Err(format!("{other:?} has no reference")),
        };
        result.values[to] = match f {
            Some(f) => elementwise::binary(f, result.values[to], new, x.dtype)?,
            None => new,
        };
    }
    Ok(Array::new(x.dtype, &x.dims, result.values))
}

pub(super) fn one_hot(depth: &Dim, axis: usize, at: &Array, on: &Array, off: &Array) -> Answer {
    let mut dims = at.dims.clone();
    dims.insert(axis, fixed(std::slice::from_ref(depth))?[0]);
    Array::build(on.dtype, &dims, |index| {
        let mut pointer = index.to_vec();
        let here = pointer.remove(axis) as i128;
        Ok(if at.int_at(&pointer)? == here { on.values[0] } else { off.values[0] })
    })
}

pub(super) fn top_k(top_k: &TopK, x: &Array) -> Result<Vec<Array>, String> {
    let mut dims = x.dims.clone();
    dims[top_k.axis] = fixed(std::slice::from_ref(&top_k.k))?[0];
    let place = |index: &[usize]| {
        let line: Vec<Scalar> = (0..x.dims[top_k.axis]).map(|i| x.at(&with(index, top_k.axis, i))).collect();
        sorted(&line, top_k.largest)[index[top_k.axis]]
    };
    let values = Array::build(x.dtype, &dims, |index| Ok(x.at(&with(index, top_k.axis, place(index)))))?;
    let places = Array::build(DType::I32, &dims, |index| Ok(Scalar::Int(place(index) as i128)))?;
    Ok(vec![values, places])
}

pub(super) fn triangle(triangle: &Triangle, x: &Array) -> Answer {
    let rank = x.dims.len();
    Array::build(x.dtype, &x.dims, |index| {
        let above = index[rank - 1] as i64 - index[rank - 2] as i64 - triangle.diagonal;
        let keeps = if triangle.upper { above >= 0 } else { above <= 0 };
        Ok(if keeps { x.at(index) } else { Scalar::Int(0) })
    })
}
