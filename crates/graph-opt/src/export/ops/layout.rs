use mslite_mindir::Value;
use mslite_tensor::{DType, Dim, Tensor, TensorSpec};

use super::elementwise::type_id;
use crate::Result;
use crate::export::writer::{Arg, Item, Writer, ints};
use crate::ir::op::{Pad, PadMode, Slice, Triangle};

/// One unknown extent is -1 where it follows from the others.
pub(in crate::export) fn reshape(w: &mut Writer, dims: &[Dim], x: &Item, spec: &TensorSpec) -> Result<Item> {
    let mut stated = dims.to_vec();
    let unknown: Vec<usize> = (0..dims.len()).filter(|&axis| dims[axis].as_fixed().is_none()).collect();
    if let (&[axis], Some(from)) = (&unknown[..], x.spec.shape.dims()) {
        let product = |dims: &mut dyn Iterator<Item = &Dim>| dims.fold(Dim::from(1), |n, dim| &n * dim);
        let rest = product(&mut dims.iter().filter(|dim| dim.as_fixed().is_some()));
        let count = product(&mut from.iter());
        if rest != Dim::from(0) && count.floor_div(&rest) == dims[axis] {
            stated[axis] = Dim::from(-1);
        }
    }
    let shape = w.extents(&stated)?;
    Ok(w.function("Reshape", &[x.into(), shape], spec))
}

pub(in crate::export) fn transpose(
    w: &mut Writer,
    perm: &[usize],
    x: &Item,
    spec: &TensorSpec,
) -> Result<Item> {
    Ok(w.function("Transpose", &[x.into(), ints(perm).into()], spec))
}

/// -1 keeps an extent.
pub(in crate::export) fn broadcast(
    w: &mut Writer,
    dims: &[Dim],
    x: &Item,
    spec: &TensorSpec,
) -> Result<Item> {
    let own = w.dims(x)?;
    let lead = dims.len().saturating_sub(own.len());
    let kept = |axis: usize, dim: &Dim| dim.as_fixed().is_none() && axis >= lead && own[axis - lead] == *dim;
    let stated = dims.iter().enumerate();
    let stated: Vec<Dim> =
        stated.map(|(axis, dim)| if kept(axis, dim) { Dim::from(-1) } else { dim.clone() }).collect();
    let shape = w.extents(&stated)?;
    Ok(w.function("BroadcastTo", &[x.into(), shape], spec))
}

pub(in crate::export) fn concat(w: &mut Writer, axis: usize, x: &[Item], spec: &TensorSpec) -> Result<Item> {
    let parts = x.iter().map(|item| item.symbol.clone()).collect();
    let specs: Vec<TensorSpec> = x.iter().map(|item| item.spec.clone()).collect();
    let types = specs.iter().map(crate::export::writer::tensor_type).collect::<Vec<_>>();
    let parts = w.make_tuple(parts, Some(mslite_mindir::Type::tuple(types)));
    Ok(w.function("Concat", &[parts.into(), (axis as i64).into()], spec))
}

pub(in crate::export) fn slice(w: &mut Writer, op: &Slice, x: &Item, spec: &TensorSpec) -> Result<Item> {
    if op.steps.iter().any(|&step| step != 1) {
        return strided(w, op, x, spec);
    }
    let dims = w.dims(x)?;
    let to_end =
        |axis: usize| op.sizes[axis].as_fixed().is_none() && &dims[axis] - &op.starts[axis] == op.sizes[axis];
    let sizes: Vec<Dim> = (0..dims.len())
        .map(|axis| if to_end(axis) { Dim::from(-1) } else { op.sizes[axis].clone() })
        .collect();
    let (starts, sizes) = (w.extents(&op.starts)?, w.extents(&sizes)?);
    Ok(w.function("Slice", &[x.into(), starts, sizes], spec))
}

/// Masks stand for axes that are taken from end to end.
fn strided(w: &mut Writer, op: &Slice, x: &Item, spec: &TensorSpec) -> Result<Item> {
    let dims = w.dims(x)?;
    let one = Dim::from(1);
    let (mut begin_mask, mut end_mask, mut ends) = (0i64, 0i64, Vec::with_capacity(dims.len()));
    for (axis, extent) in dims.iter().enumerate() {
        let (start, step) = (&op.starts[axis], op.steps[axis]);
        let last = start + &(&(&op.sizes[axis] - &one) * &Dim::from(step));
        let (first, beyond) = match step > 0 {
            true => (Dim::from(0), &last + &one),
            false => (extent - &one, &last - &one),
        };
        begin_mask |= i64::from(*start == first) << axis.min(62);
        let is_end = if step > 0 { beyond == *extent } else { beyond == Dim::from(-1) };
        end_mask |= i64::from(is_end) << axis.min(62);
        ends.push(if is_end { Dim::from(0) } else { beyond });
    }
    let (begin, end) = (w.extents(&op.starts)?, w.extents(&ends)?);
    let mut args: Vec<Arg> = vec![x.into(), begin, end, op.steps.as_slice().into()];
    args.extend([begin_mask, end_mask, 0, 0, 0].map(Arg::from));
    Ok(w.function("StridedSlice", &args, spec))
}

pub(in crate::export) fn pad(w: &mut Writer, op: &Pad, x: &[Item], spec: &TensorSpec) -> Result<Item> {
    let sides = || op.low.iter().zip(&op.high).map(|(&low, &high)| [low, high]);
    let mode: Value = match op.mode {
        PadMode::Constant => "constant".into(),
        PadMode::Edge => "edge".into(),
        PadMode::Reflect => return mirrored(w, "REFLECT", sides().flatten().collect(), &x[0], spec),
        PadMode::Symmetric => return mirrored(w, "SYMMETRIC", sides().flatten().collect(), &x[0], spec),
    };
    let backwards: Vec<i64> = sides().rev().flatten().collect();
    let value = x.get(1).map_or(Arg::Value(Value::None), Arg::from);
    let attributes = [("mode", mode), ("paddings_contiguous", true.into())];
    Ok(w.attributed("PadV3", &attributes, &[(&x[0]).into(), backwards.as_slice().into(), value], spec))
}

fn mirrored(w: &mut Writer, mode: &str, sides: Vec<i64>, x: &Item, spec: &TensorSpec) -> Result<Item> {
    let rank = sides.len() / 2;
    let sides = Tensor::from_vec(sides, &[rank, 2]);
    let sides = sides.map_err(|error| w.unsupported("a padding", error.to_string()))?;
    let sides = w.tensor(sides);
    Ok(w.attributed("MirrorPad", &[("mode", mode.into())], &[x.into(), (&sides).into()], spec))
}

pub(in crate::export) fn triangle(
    w: &mut Writer,
    op: &Triangle,
    x: &Item,
    spec: &TensorSpec,
) -> Result<Item> {
    Ok(match op.upper {
        true => w.function("Triu", &[x.into(), op.diagonal.into()], spec),
        false => w.attributed("Tril", &[("diagonal", op.diagonal.into())], &[x.into()], spec),
    })
}

pub(in crate::export) fn extents(w: &mut Writer, dims: &[Dim], spec: &TensorSpec) -> Result<Item> {
    let tuple = w.extents(dims)?;
    let dtype = type_id(w, DType::I64)?;
    Ok(w.function("TupleToTensor", &[tuple, dtype.into()], spec))
}
