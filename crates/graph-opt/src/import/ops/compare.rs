use mslite_tensor::DType;

use super::elementwise::promoted;
use crate::Result;
use crate::import::call::Call;
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Op};

pub(in crate::import) fn logical_and(call: &mut Call) -> Result<ValueId> {
    logical(call, Binary::And)
}

pub(in crate::import) fn logical_or(call: &mut Call) -> Result<ValueId> {
    logical(call, Binary::Or)
}

pub(in crate::import) fn logical_xor(call: &mut Call) -> Result<ValueId> {
    logical(call, Binary::Xor)
}

fn logical(call: &mut Call, f: Binary) -> Result<ValueId> {
    let (x, y) = (call.tensor(0, "x")?, call.tensor(1, "y")?);
    let (x, y) = (call.emit.cast(x, DType::Bool)?, call.emit.cast(y, DType::Bool)?);
    call.emit.binary(f, x, y)
}

pub(in crate::import) fn select(call: &mut Call) -> Result<ValueId> {
    let condition = call.tensor(0, "condition")?;
    let condition = call.emit.cast(condition, DType::Bool)?;
    let (x, y) = match (call.arg(1, "input"), call.arg(2, "other")) {
        (Some(Item::Tensor(x)), Some(Item::Int(_) | Item::Float(_))) => {
            (x, call.tensor_of(2, "other", call.emit.dtype(x))?)
        }
        (Some(Item::Int(_) | Item::Float(_)), Some(Item::Tensor(y))) => {
            let x = call.tensor_of(1, "input", call.emit.dtype(y))?;
            (x.unwrap_or(y), Some(y))
        }
        _ => (call.tensor(1, "input")?, Some(call.tensor(2, "other")?)),
    };
    let (x, y) = promoted(call, x, y.unwrap_or(x))?;
    call.emit.op(Op::Select, &[condition, x, y])
}

pub(in crate::import) fn masked_fill(call: &mut Call) -> Result<ValueId> {
    let (x, mask) = (call.tensor(0, "input_x")?, call.tensor(1, "mask")?);
    let mask = call.emit.cast(mask, DType::Bool)?;
    let value = call.tensor_of(2, "value", call.emit.dtype(x))?;
    let value = value.ok_or_else(|| call.invalid("value is missing"))?;
    call.emit.op(Op::Select, &[mask, value, x])
}

/// Bounds may be numbers, tensors or absent.
pub(in crate::import) fn clamp(call: &mut Call) -> Result<ValueId> {
    let mut x = call.tensor(0, "input")?;
    for (position, name, f) in [(1, "min", Binary::Maximum), (2, "max", Binary::Minimum)] {
        if let Some(Item::Float(_)) = call.arg(position, name)
            && call.emit.dtype(x).is_int()
        {
            x = call.emit.cast(x, DType::F32)?;
        }
        if let Some(bound) = call.tensor_of(position, name, call.emit.dtype(x))? {
            x = call.emit.binary(f, x, bound)?;
        }
    }
    Ok(x)
}
