use mslite_tensor::{DType, Dim};

use crate::Result;
use crate::import::call::Call;
use crate::import::emit::{product, whole};
use crate::ir::ValueId;
use crate::ir::op::{Op, Triangle};

/// `(input)`: zeros with the elements of the operand on the diagonal; every axis comes twice.
pub(in crate::import) fn diag(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let dims = call.emit.dims(x)?;
    let n = product(&dims);
    let x = call.emit.reshape(x, vec![n.clone()])?;
    let yes = call.emit.scalar(1.0, DType::Bool)?;
    let yes = call.emit.broadcast(yes, vec![n.clone(), n])?;
    let lower = call.emit.op(Op::Triangle(Triangle { upper: false, diagonal: 0 }), &[yes])?;
    let main = call.emit.op(Op::Triangle(Triangle { upper: true, diagonal: 0 }), &[lower])?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let y = call.emit.op(Op::Select, &[main, x, zero])?;
    call.emit.reshape(y, [&dims[..], &dims[..]].concat())
}

/// `(input, offset=0, dim1=0, dim2=1)`: the elements of a diagonal, along a new last axis. In a matrix whose rows
/// follow each other they are a step of one row and one element apart.
pub(in crate::import) fn diagonal(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let dims = call.emit.dims(x)?;
    let offset = call.int_or(1, "offset", 0)?;
    let (first, second) = (call.axis(2, "dim1", 0, dims.len())?, call.axis(3, "dim2", 1, dims.len())?);
    let (Some(rows), Some(columns)) = (dims[first].as_fixed(), dims[second].as_fixed()) else {
        return Err(call.unsupported("the axes of the diagonal must be fixed; export with fixed shapes"));
    };
    if first == second {
        return Err(call.invalid("dim1 and dim2 are the same axis"));
    }
    let others: Vec<usize> = (0..dims.len()).filter(|&axis| axis != first && axis != second).collect();
    let x = call.emit.transpose(x, [&others[..], &[first, second]].concat())?;
    let mut flat: Vec<Dim> = others.iter().map(|&axis| dims[axis].clone()).collect();
    flat.push(&dims[first] * &dims[second]);
    let x = call.emit.reshape(x, flat.clone())?;
    let length = match offset >= 0 {
        true => rows.min(columns.saturating_sub(offset)),
        false => columns.min(rows.saturating_add(offset)),
    };
    let start = if offset >= 0 { offset } else { offset.saturating_neg().saturating_mul(columns) };
    let mut part = whole(flat);
    let last = others.len();
    part.sizes[last] = Dim::from(length.max(0));
    part.starts[last] = Dim::from(if length > 0 { start } else { 0 });
    part.steps[last] = columns.saturating_add(1);
    call.emit.slice(x, part)
}
