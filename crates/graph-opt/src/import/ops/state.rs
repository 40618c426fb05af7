//! Writes: each gives what the parameter that is the first operand holds afterwards.

use super::index::{rows, scatter};
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Op, ScatterKind};

/// `(variable, value)`
pub(in crate::import) fn assign(call: &mut Call) -> Result<ValueId> {
    let held = call.tensor(0, "variable")?;
    let value = new_value(call, held)?;
    let dims = call.emit.dims(held)?;
    call.emit.broadcast(value, dims)
}

pub(in crate::import) fn assign_add(call: &mut Call) -> Result<ValueId> {
    combined(call, Binary::Add)
}

pub(in crate::import) fn assign_sub(call: &mut Call) -> Result<ValueId> {
    combined(call, Binary::Sub)
}

fn combined(call: &mut Call, f: Binary) -> Result<ValueId> {
    let held = call.tensor(0, "variable")?;
    let value = new_value(call, held)?;
    call.emit.binary(f, held, value)
}

fn new_value(call: &mut Call, held: ValueId) -> Result<ValueId> {
    let dtype = call.emit.dtype(held);
    call.tensor_of(1, "value", dtype)?.ok_or_else(|| call.invalid("value is missing"))
}

pub(in crate::import) fn scatter_nd_update(call: &mut Call) -> Result<ValueId> {
    scatter(call, ScatterKind::Update)
}

pub(in crate::import) fn scatter_nd_add(call: &mut Call) -> Result<ValueId> {
    scatter(call, ScatterKind::Add)
}

/// `(variable, indices, updates)`: rows of the variable.
pub(in crate::import) fn scatter_update(call: &mut Call) -> Result<ValueId> {
    scatter_rows(call, ScatterKind::Update)
}

pub(in crate::import) fn scatter_add(call: &mut Call) -> Result<ValueId> {
    scatter_rows(call, ScatterKind::Add)
}

fn scatter_rows(call: &mut Call, kind: ScatterKind) -> Result<ValueId> {
    let indices = call.tensor(1, "indices")?;
    let indices = Item::Tensor(rows(call, indices)?);
    match call.args.get_mut(1) {
        Some(argument) => *argument = indices,
        None => return Err(call.unsupported("indices are an attribute")),
    }
    scatter(call, kind)
}

/// `(input_x, indices, input_y)`: adds slices along the axis that is an attribute.
pub(in crate::import) fn index_add(call: &mut Call) -> Result<ValueId> {
    let (x, indices) = (call.tensor(0, "input_x")?, call.tensor(1, "indices")?);
    let updates = call.tensor(2, "input_y")?;
    let rank = call.emit.rank(x)?;
    let axis = call.axis(ATTRIBUTE, "axis", 0, rank)?;
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(0, axis);
    let x = call.emit.transpose(x, perm.clone())?;
    let updates = call.emit.transpose(updates, perm.clone())?;
    let indices = rows(call, indices)?;
    let y = call.emit.op(Op::ScatterNd(ScatterKind::Add), &[x, indices, updates])?;
    call.emit.transpose(y, perm)
}
