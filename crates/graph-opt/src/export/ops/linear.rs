use mslite_mindir::Value;

use crate::Result;
use crate::export::writer::{Item, Writer};
use crate::infer::infer_node;
use crate::ir::op::{Binary, MatMul, Op};

/// The product, the bias and the activation, one after the other.
pub(in crate::export) fn matmul(w: &mut Writer, op: &MatMul, x: &[Item]) -> Result<Item> {
    if op.wide {
        let reason = "its sums are not rounded, which the ranks of a session agree upon when they start; \
                      optimise without wide_sums";
        return Err(w.unsupported("a wide product", reason));
    }
    let mut y = product(w, op, &x[0], &x[1])?;
    if let Some(bias) = x.get(2) {
        y = w.binary(Binary::Add, &y, bias)?;
    }
    match op.activation {
        Some(f) => w.op(Op::Unary(f), &[&y]),
        None => Ok(y),
    }
}

/// MindSpore's kernel of `BatchMatMul` on the CPU does not broadcast.
fn product(w: &mut Writer, op: &MatMul, a: &Item, b: &Item) -> Result<Item> {
    let plain = MatMul { transpose_a: op.transpose_a, transpose_b: op.transpose_b, ..MatMul::default() };
    let specs = infer_node(&Op::MatMul(plain), &[&a.spec, &b.spec], &w.origin)?;
    let flags = [a.into(), b.into(), op.transpose_a.into(), op.transpose_b.into()];
    match (w.dims(a)?, w.dims(b)?) {
        ([_, _], [_, _]) => return Ok(w.function("MatMul", &flags, &specs[0])),
        ([first @ .., _, _], [second @ .., _, _]) if first == second => {
            return Ok(w.function("BatchMatMul", &flags, &specs[0]));
        }
        ([_, _, _, ..], [_, _]) if op.transpose_b && !op.transpose_a => {
            return Ok(w.function("Dense", &[a.into(), b.into(), Value::None.into()], &specs[0]));
        }
        _ => {}
    }
    let (a, b) = (turned(w, a, op.transpose_a)?, turned(w, b, op.transpose_b)?);
    Ok(w.function("MatMulExt", &[(&a).into(), (&b).into()], &specs[0]))
}

/// With the last two axes swapped, if it has two.
fn turned(w: &mut Writer, x: &Item, transposed: bool) -> Result<Item> {
    let rank = w.dims(x)?.len();
    if !transposed || rank < 2 {
        return Ok(x.clone());
    }
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 2, rank - 1);
    w.op(Op::Transpose(perm), &[x])
}
