use mslite_tensor::{DType, Dim};

use super::elementwise;
use crate::Result;
use crate::import::call::Call;
use crate::import::item::Item;
use crate::import::known::{arithmetic as known_arithmetic, known_float, known_ints};
use crate::ir::ValueId;
use crate::ir::op::{Binary, Unary};

/// Arithmetic on numbers: on extents where it can be, on tensors of rank 0 where it must.
pub(in crate::import) fn arithmetic(call: &mut Call, f: Binary) -> Result<Item> {
    let (Some(x), Some(y)) = (call.args.first().cloned(), call.args.get(1).cloned()) else {
        return Err(call.invalid("it needs two operands"));
    };
    if let (Some(a), Some(b)) = (integer(&x), integer(&y))
        && let Some(item) = on_integers(f, &a, &b)
    {
        return Ok(item);
    }
    if let (Some(a), Some(b)) = (real(&x), real(&y))
        && let Some(item) = on_reals(f, a, b)
    {
        return Ok(item);
    }
    elementwise::binary(call, f).map(Item::Tensor)
}

fn integer(item: &Item) -> Option<Dim> {
    match item {
        Item::Int(dim) => Some(dim.clone()),
        Item::Bool(value) => Some(Dim::from(i64::from(*value))),
        _ => None,
    }
}

fn real(item: &Item) -> Option<f64> {
    match item {
        Item::Float(value) => Some(*value),
        _ => integer(item)?.as_fixed().map(|n| n as f64),
    }
}

fn on_integers(f: Binary, a: &Dim, b: &Dim) -> Option<Item> {
    let equal = (a - b).as_fixed();
    Some(match f {
        Binary::Equal => Item::Bool(equal? == 0),
        Binary::NotEqual => Item::Bool(equal? != 0),
        Binary::Less => Item::Bool(equal? < 0),
        Binary::LessEqual => Item::Bool(equal? <= 0),
        Binary::Greater => Item::Bool(equal? > 0),
        Binary::GreaterEqual => Item::Bool(equal? >= 0),
        Binary::And => Item::Bool(a.as_fixed()? != 0 && b.as_fixed()? != 0),
        Binary::Or => Item::Bool(a.as_fixed()? != 0 || b.as_fixed()? != 0),
        Binary::Div => Item::Float(a.as_fixed()? as f64 / b.as_fixed()? as f64),
        Binary::Pow => Item::Int(Dim::from(a.as_fixed()?.checked_pow(u32::try_from(b.as_fixed()?).ok()?)?)),
        _ => Item::Int(known_arithmetic(f, a, b)?),
    })
}

fn on_reals(f: Binary, a: f64, b: f64) -> Option<Item> {
    Some(match f {
        Binary::Add => Item::Float(a + b),
        Binary::Sub => Item::Float(a - b),
        Binary::Mul => Item::Float(a * b),
        Binary::Div => Item::Float(a / b),
        Binary::FloorDiv => Item::Float((a / b).floor()),
        Binary::FloorMod => Item::Float(a - (a / b).floor() * b),
        Binary::Pow => Item::Float(a.powf(b)),
        Binary::Maximum => Item::Float(a.max(b)),
        Binary::Minimum => Item::Float(a.min(b)),
        Binary::Equal => Item::Bool(a == b),
        Binary::NotEqual => Item::Bool(a != b),
        Binary::Less => Item::Bool(a < b),
        Binary::LessEqual => Item::Bool(a <= b),
        Binary::Greater => Item::Bool(a > b),
        Binary::GreaterEqual => Item::Bool(a >= b),
        _ => return None,
    })
}

pub(in crate::import) fn not(call: &mut Call) -> Result<Item> {
    match call.args.first() {
        Some(Item::Bool(value)) => Ok(Item::Bool(!value)),
        _ => elementwise::logical_not(call).map(Item::Tensor),
    }
}

pub(in crate::import) fn negate(call: &mut Call) -> Result<Item> {
    match call.args.first() {
        Some(Item::Int(dim)) => Ok(Item::Int(&Dim::from(0) - dim)),
        Some(Item::Float(value)) => Ok(Item::Float(-value)),
        _ => elementwise::unary(call, Unary::Neg).map(Item::Tensor),
    }
}

/// Whether a number is not 0.
pub(in crate::import) fn truth(call: &mut Call) -> Result<Item> {
    match call.args.first() {
        Some(Item::Bool(value)) => Ok(Item::Bool(*value)),
        Some(Item::Int(Dim::Fixed(n))) => Ok(Item::Bool(*n != 0)),
        Some(Item::Float(value)) => Ok(Item::Bool(*value != 0.0)),
        _ => {
            let x = call.tensor(0, "input")?;
            call.emit.cast(x, DType::Bool).map(Item::Tensor)
        }
    }
}

/// `(input_x, dtype)`
pub(in crate::import) fn cast(call: &mut Call) -> Result<Item> {
    let dtype = match call.dtype(1, "dtype")? {
        Some(dtype) => dtype,
        None => call.stated_dtype(0).ok_or_else(|| call.invalid("dtype is missing"))?,
    };
    match call.args.first() {
        Some(Item::Int(dim)) if call.op_type == "ScalarCast" && dtype.is_int() => Ok(Item::Int(dim.clone())),
        Some(Item::Int(Dim::Fixed(n))) if call.op_type == "ScalarCast" && dtype.is_float() => {
            Ok(Item::Float(*n as f64))
        }
        Some(Item::Float(value)) if call.op_type == "ScalarCast" && dtype.is_float() => {
            Ok(Item::Float(*value))
        }
        Some(Item::Float(value)) if call.op_type == "ScalarCast" && dtype.is_int() => {
            Ok(Item::Int(Dim::from(*value as i64)))
        }
        _ => {
            let x = call.tensor(0, "input_x")?;
            call.emit.cast(x, dtype).map(Item::Tensor)
        }
    }
}

/// `(number or tuple, dtype)`
pub(in crate::import) fn to_tensor(call: &mut Call) -> Result<Item> {
    let dtype = call.dtype(1, "dtype")?;
    let x: ValueId = match (call.args.first().cloned(), dtype) {
        (Some(Item::Tuple(_)), _) | (_, None) => call.tensor(0, "input")?,
        (_, Some(dtype)) => {
            call.tensor_of(0, "input", dtype)?.ok_or_else(|| call.invalid("input is missing"))?
        }
    };
    Ok(Item::Tensor(dtype.map_or(Ok(x), |dtype| call.emit.cast(x, dtype))?))
}

/// A number where it is known, else the tensor.
pub(in crate::import) fn to_scalar(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input")?;
    let dtype = call.emit.dtype(x);
    if dtype.is_int()
        && let Some([dim]) = known_ints(call.emit.graph(), x).as_deref()
    {
        return Ok(Item::Int(dim.clone()));
    }
    match known_float(call.emit.graph(), x) {
        Some(value) if dtype.is_float() => Ok(Item::Float(value)),
        _ => call.emit.reshape(x, Vec::new()).map(Item::Tensor),
    }
}

pub(in crate::import) fn to_tuple(call: &mut Call) -> Result<Item> {
    let dims = call.required_dims(0, "input")?;
    Ok(Item::tuple(dims.into_iter().map(Item::Int)))
}

pub(in crate::import) fn length(call: &mut Call) -> Result<Item> {
    match call.args.first() {
        Some(Item::Tuple(items)) => Ok(Item::Int(Dim::from(items.len()))),
        _ => Err(call.invalid("it takes a tuple")),
    }
}
