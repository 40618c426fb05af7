use mslite_mindir::Symbol;
use mslite_tensor::{Dim, TensorSpec};

use crate::Result;
use crate::export::flow::of;
use crate::export::writer::{Item, Writer};
use crate::ir::op::{Gather, Op, ScatterKind, Slice, TopK};

pub(in crate::export) fn gather(
    w: &mut Writer,
    op: &Gather,
    [x, indices]: [&Item; 2],
    spec: &TensorSpec,
) -> Result<Item> {
    let args = [x.into(), indices.into(), (op.axis as i64).into(), (op.batch_dims as i64).into()];
    Ok(w.function("Gather", &args, spec))
}

pub(in crate::export) fn gather_elements(
    w: &mut Writer,
    axis: usize,
    [x, index]: [&Item; 2],
    spec: &TensorSpec,
) -> Result<Item> {
    Ok(w.function("GatherD", &[x.into(), (axis as i64).into(), index.into()], spec))
}

pub(in crate::export) fn scatter_nd(
    w: &mut Writer,
    kind: ScatterKind,
    [x, indices, updates]: [&Item; 3],
    spec: &TensorSpec,
) -> Result<Item> {
    let args = [x.into(), indices.into(), updates.into()];
    Ok(match kind {
        ScatterKind::Update => w.attributed("TensorScatterUpdate", &[], &args, spec),
        ScatterKind::Add => w.function("TensorScatterAdd", &args, spec),
        ScatterKind::Mul => w.attributed("TensorScatterMul", &[], &args, spec),
        ScatterKind::Max => w.attributed("TensorScatterMax", &[], &args, spec),
        ScatterKind::Min => w.attributed("TensorScatterMin", &[], &args, spec),
    })
}

pub(in crate::export) fn one_hot(
    w: &mut Writer,
    depth: &Dim,
    axis: usize,
    [indices, on, off]: [&Item; 3],
    spec: &TensorSpec,
) -> Result<Item> {
    let depth = w.extent(depth)?;
    // The axis behind the last is -1 for MindSpore.
    let last = spec.shape.rank() == Some(axis + 1);
    let axis = if last { -1 } else { axis as i64 };
    Ok(w.function("OneHot", &[indices.into(), depth.into(), on.into(), off.into(), axis.into()], spec))
}

/// The largest along the last axis; others by sorting.
pub(in crate::export) fn top_k(
    w: &mut Writer,
    op: &TopK,
    x: &Item,
    specs: &[TensorSpec],
    used: &[bool],
) -> Result<Vec<Option<Symbol>>> {
    let dims = w.dims(x)?.to_vec();
    if op.largest && op.axis + 1 == dims.len() {
        let k = w.extent(&op.k)?;
        let primitive = w.primitive("TopK", &[("sorted", true.into())]);
        let tuple = w.call(&primitive, &[x.into(), k.into()], Some(of(specs)));
        return Ok(w.elements(&tuple, specs, used));
    }
    let whole: Vec<TensorSpec> =
        specs.iter().map(|spec| TensorSpec::new(spec.dtype, x.spec.shape.clone())).collect();
    let attributes = [("axis", (op.axis as i64).into()), ("descending", op.largest.into())];
    let primitive = w.primitive("Sort", &attributes);
    let tuple = w.call(&primitive, &[x.into()], Some(of(&whole)));
    let sorted = w.elements(&tuple, &whole, used);
    let mut sizes = dims.clone();
    sizes[op.axis] = op.k.clone();
    let slice = Slice { starts: vec![Dim::from(0); dims.len()], sizes, steps: vec![1; dims.len()] };
    let mut first = |(symbol, spec): (Option<Symbol>, &TensorSpec)| match symbol {
        Some(symbol) if op.k != dims[op.axis] => {
            let item = Item { symbol, spec: spec.clone() };
            w.op(Op::Slice(slice.clone()), &[&item]).map(|item| Some(item.symbol))
        }
        symbol => Ok(symbol),
    };
    sorted.into_iter().zip(&whole).map(&mut first).collect()
}
