use mslite_tensor::{DType, Dim};

use crate::Result;
use crate::export::writer::{Item, Writer};
use crate::ir::op::{Attention, Binary, MatMul, Op, Packed, Softmax, Unary};

/// Heads and lengths change places.
const SWAP: [usize; 4] = [0, 2, 1, 3];

/// Spelt out: MindSpore has the operation on Ascend only, and its passes find it again.
pub(in crate::export) fn attention(w: &mut Writer, op: &Attention, x: &[Item]) -> Result<Item> {
    let dtype = x[0].spec.dtype;
    let query = heads_first(w, &x[0], op, 0)?;
    let (key, value) = (heads_first(w, &x[1], op, 1)?, heads_first(w, &x[2], op, 2)?);
    let heads = w.dims(&query)?[1].clone();
    let (key, value) = (repeated(w, &key, &heads)?, repeated(w, &value, &heads)?);
    let wide = if dtype == DType::F64 { dtype } else { DType::F32 };
    let narrow = if dtype == DType::BF16 { wide } else { dtype };
    let (query, key) = (w.cast(&query, narrow)?, w.cast(&key, narrow)?);
    let product = MatMul { transpose_b: true, ..MatMul::default() };
    let mut scores = w.op(Op::MatMul(product), &[&query, &key])?;
    scores = w.cast(&scores, wide)?;
    if op.scale != 1.0 {
        scores = w.with_scalar(Binary::Mul, &scores, op.scale)?;
    }
    if let Some(mask) = x.get(3) {
        scores = masked(w, &scores, mask)?;
    }
    let weights = w.op(Op::Softmax(Softmax { axis: 3, log: false }), &[&scores])?;
    let weights = w.cast(&weights, dtype)?;
    let y = w.op(Op::MatMul(MatMul::default()), &[&weights, &value])?;
    let y = swapped(w, &y, op.heads[3])?;
    let Some(packed) = op.packed[3] else { return Ok(y) };
    let mut dims = w.dims(&y)?[..2].to_vec();
    dims.push(Dim::from(packed.heads * packed.width));
    w.op(Op::Reshape(dims), &[&y])
}

/// An operand with the axis of heads before that of lengths.
fn heads_first(w: &mut Writer, x: &Item, op: &Attention, operand: usize) -> Result<Item> {
    let Some(Packed { start, heads, width }) = op.packed[operand] else {
        return swapped(w, x, op.heads[operand]);
    };
    let x = w.part(x, 2, Dim::from(start), Dim::from(heads * width))?;
    let mut dims = w.dims(&x)?[..2].to_vec();
    dims.extend([Dim::from(heads), Dim::from(width)]);
    let x = w.op(Op::Reshape(dims), &[&x])?;
    swapped(w, &x, op.heads[operand])
}

/// From heads first to an order, or back.
fn swapped(w: &mut Writer, x: &Item, axis: usize) -> Result<Item> {
    if axis == 1 { Ok(x.clone()) } else { w.op(Op::Transpose(SWAP.to_vec()), &[x]) }
}

/// Heads of key or value that serve several of the query, each as often in a row.
fn repeated(w: &mut Writer, x: &Item, heads: &Dim) -> Result<Item> {
    let [batch, shared, length, width] = w.dims(x)? else {
        return Err(w.unsupported("attention", "key and value have not 4 axes"));
    };
    let [batch, shared, length, width] = [batch, shared, length, width].map(Dim::clone);
    if shared == *heads {
        return Ok(x.clone());
    }
    let times = heads.floor_div(&shared);
    let apart = vec![batch.clone(), shared.clone(), Dim::from(1), length.clone(), width.clone()];
    let spread = vec![batch.clone(), shared, times, length.clone(), width.clone()];
    let x = w.op(Op::Reshape(apart), &[x])?;
    let x = w.op(Op::Broadcast(spread), &[&x])?;
    w.op(Op::Reshape(vec![batch, heads.clone(), length, width]), &[&x])
}

/// Scores plus a mask, or the lowest number where it is true.
fn masked(w: &mut Writer, scores: &Item, mask: &Item) -> Result<Item> {
    if mask.spec.dtype != DType::Bool {
        return w.binary(Binary::Add, scores, mask);
    }
    let lowest = w.scalar(f64::from(f32::MIN), scores.spec.dtype)?;
    w.op(Op::Select, &[mask, &lowest, scores])
}

/// `x * cos + concat(-x2, x1) * sin` of the halves x1 and x2 of the last axis, or of each piece of it.
pub(in crate::export) fn rope(w: &mut Writer, [x, cos, sin]: [&Item; 3]) -> Result<Item> {
    let dims = w.dims(x)?.to_vec();
    let axis = dims.len() - 1;
    let width = w.dims(cos)?.last().cloned().unwrap_or(Dim::from(1));
    if width == dims[axis] {
        return rotated(w, [x, cos, sin]);
    }
    let mut pieces = dims[..axis].to_vec();
    pieces.extend([dims[axis].floor_div(&width), width]);
    let x = w.op(Op::Reshape(pieces), &[x])?;
    let (cos, sin) = (for_each_piece(w, cos)?, for_each_piece(w, sin)?);
    let y = rotated(w, [&x, &cos, &sin])?;
    w.op(Op::Reshape(dims), &[&y])
}

/// The factors with an axis for pieces before the last one.
fn for_each_piece(w: &mut Writer, x: &Item) -> Result<Item> {
    let mut dims = w.dims(x)?.to_vec();
    dims.insert(dims.len().saturating_sub(1), Dim::from(1));
    w.op(Op::Reshape(dims), &[x])
}

fn rotated(w: &mut Writer, [x, cos, sin]: [&Item; 3]) -> Result<Item> {
    let axis = w.dims(x)?.len() - 1;
    let half = w.dims(x)?[axis].floor_div(&Dim::from(2));
    let (first, second) =
        (w.part(x, axis, Dim::from(0), half.clone())?, w.part(x, axis, half.clone(), half)?);
    let negated = w.op(Op::Unary(Unary::Neg), &[&second])?;
    let turned = w.op(Op::Concat { axis }, &[&negated, &first])?;
    let straight = w.binary(Binary::Mul, x, cos)?;
    let turned = w.binary(Binary::Mul, &turned, sin)?;
    w.binary(Binary::Add, &straight, &turned)
}
