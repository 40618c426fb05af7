//! Writes whose value is that of a functional primitive.

use crate::Result;
use crate::import::call::Call;
use crate::import::item::Item;
use crate::import::table::find;
use crate::ir::ValueId;

/// What the functional primitive gives, in the type and shape of the tensor that is written.
pub(in crate::import) fn written(call: &mut Call, functional: &str) -> Result<ValueId> {
    let held = call.tensor(0, "input")?;
    let (dtype, dims) = (call.emit.dtype(held), call.emit.dims(held)?);
    let lowering = find(functional).ok_or_else(|| call.invalid("it has no functional counterpart"))?;
    match lowering.apply(call)? {
        Item::Tensor(value) => {
            let value = call.emit.cast(value, dtype)?;
            call.emit.broadcast(value, dims)
        }
        _ => Err(call.invalid("its value is no tensor")),
    }
}
