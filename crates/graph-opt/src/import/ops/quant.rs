//! Quantised tensors: integers with scales.

use mslite_tensor::{DType, Dim};

use super::opaque;
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, MatMul, Op, ReduceKind, Unary};

/// Rounds to the nearest i8.
fn narrowed(call: &mut Call, x: ValueId) -> Result<ValueId> {
    let x = call.emit.unary(Unary::Round, x)?;
    let x = call.emit.unary(Unary::Clip { low: -128.0, high: 127.0 }, x)?;
    call.emit.cast(x, DType::I8)
}

/// `(x, smooth_scales=None) -> (i8, scale: f32)`: each row by its largest size over 127.
pub(in crate::import) fn dynamic(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    let mut x = call.emit.cast(x, DType::F32)?;
    if let Some(smooth) = call.tensor_of(1, "smooth_scales", DType::F32)? {
        x = call.emit.binary(Binary::Mul, x, smooth)?;
    }
    let mut dims = call.emit.dims(x)?;
    let axis = call.emit.axis(-1, dims.len())?;
    let size = call.emit.unary(Unary::Abs, x)?;
    let size = call.emit.reduce(ReduceKind::Max, size, vec![axis], true)?;
    let scale = call.emit.with_scalar(Binary::Div, size, 127.0)?;
    let y = call.emit.binary(Binary::Div, x, scale)?;
    // A row of zeros has the scale 0.
    let is_zero = call.emit.with_scalar(Binary::Equal, scale, 0.0)?;
    let zero = call.emit.scalar(0.0, DType::F32)?;
    let y = call.emit.select(is_zero, zero, y)?;
    let y = narrowed(call, y)?;
    dims.remove(axis);
    Ok(Item::tensors([y, call.emit.reshape(scale, dims)?]))
}

/// `(x, scale, offset, sqrt_mode=False, rounding_mode=ROUND, dst_type=i8)`: `round(x * scale + offset)`.
pub(in crate::import) fn quantised(call: &mut Call) -> Result<Item> {
    let plain = call.choice(4, "rounding_mode", &["round", "floor", "ceil", "trunc"], 0)? == 0;
    let dtype = call.dtype(5, "dst_type")?.unwrap_or(DType::I8);
    if !plain || dtype != DType::I8 {
        return opaque::lower(call);
    }
    let twice = call.flag(3, "sqrt_mode")?;
    let x = call.tensor(0, "x")?;
    let mut x = call.emit.cast(x, DType::F32)?;
    let scale = call.tensor_of(1, "scale", DType::F32)?.ok_or_else(|| call.invalid("scale is missing"))?;
    for _ in 0..=usize::from(twice) {
        x = call.emit.binary(Binary::Mul, x, scale)?;
    }
    if let Some(offset) = call.tensor_of(2, "offset", DType::F32)? {
        x = call.emit.binary(Binary::Add, x, offset)?;
    }
    narrowed(call, x).map(Item::Tensor)
}

/// `(x, weight: i8, antiquant_scale, antiquant_offset=None, quant_scale=None, quant_offset=None, bias=None,
/// transpose_x=False, transpose_weight=False, antiquant_group_size=0)`: `x @ ((weight + offset) * scale) + bias`.
pub(in crate::import) fn by_weight(call: &mut Call) -> Result<Item> {
    let (x, weight) = (call.tensor(0, "x")?, call.tensor(1, "weight")?);
    let (transpose_a, transpose_b) = (call.flag(7, "transpose_x")?, call.flag(8, "transpose_weight")?);
    let group = call.int_or(9, "antiquant_group_size", 0)?;
    let quantises = call.arg(4, "quant_scale").is_some() || call.arg(5, "quant_offset").is_some();
    if quantises || group != 0 || call.emit.dtype(weight) != DType::I8 {
        return opaque::lower(call);
    }
    let dtype = call.emit.dtype(x);
    let mut wide = call.emit.cast(weight, DType::F32)?;
    for (position, name, f) in [(3, "antiquant_offset", Binary::Add), (2, "antiquant_scale", Binary::Mul)] {
        let Some(factor) = call.tensor_of(position, name, DType::F32)? else { continue };
        let mut dims = call.emit.dims(factor)?;
        // One for each column of the product, which are the rows of a transposed weight.
        if transpose_b && dims.len() == 1 {
            dims.push(Dim::from(1));
        }
        let factor = call.emit.reshape(factor, dims)?;
        wide = call.emit.binary(f, wide, factor)?;
    }
    let wide = call.emit.cast(wide, dtype)?;
    let op = Op::MatMul(MatMul { transpose_a, transpose_b, ..MatMul::default() });
    let mut y = call.emit.op(op, &[x, wide])?;
    if let Some(bias) = call.tensor_of(6, "bias", dtype)? {
        y = call.emit.binary(Binary::Add, y, bias)?;
    }
    Ok(Item::Tensor(y))
}

/// Positions of the arguments of a product of integers.
struct Places {
    offset: usize,
    bias: usize,
    per_token: usize,
    transposes: [usize; 2],
    dtype: usize,
}

/// `(x1: i8, x2: i8, scale, offset=None, bias=None, pertoken_scale=None, transpose_x1=False, transpose_x2=False,
/// dtype=f16)`
pub(in crate::import) fn matmul(call: &mut Call) -> Result<Item> {
    product(call, &Places { offset: 3, bias: 4, per_token: 5, transposes: [6, 7], dtype: 8 })
}

/// `(x1: i8, x2: i8, scale, offset=None, pertoken_scale=None, bias=None, output_dtype=f16)`
pub(in crate::import) fn matmul_v2(call: &mut Call) -> Result<Item> {
    let never = usize::MAX;
    product(call, &Places { offset: 3, bias: 5, per_token: 4, transposes: [never; 2], dtype: 6 })
}

/// `(x1 @ x2 + bias) * scale`, for each row times its scale, too. Integers add in i32.
fn product(call: &mut Call, places: &Places) -> Result<Item> {
    let (a, b) = (call.tensor(0, "x1")?, call.tensor(1, "x2")?);
    let scale = call.tensor(2, "scale")?;
    let is_plain = [a, b].iter().all(|&x| call.emit.dtype(x) == DType::I8);
    // A scale of 64 bits is packed for one kind of device.
    if !is_plain || !call.emit.dtype(scale).is_float() || call.arg(places.offset, "offset").is_some() {
        return opaque::lower(call);
    }
    let transpose_a = call.flag(places.transposes[0], "transpose_x1")?;
    let transpose_b = call.flag(places.transposes[1], "transpose_x2")?;
    let dtype = call.dtype(places.dtype, "dtype")?.unwrap_or(DType::F16);
    let (a, b) = (call.emit.cast(a, DType::I32)?, call.emit.cast(b, DType::I32)?);
    let op = Op::MatMul(MatMul { transpose_a, transpose_b, ..MatMul::default() });
    let mut y = call.emit.op(op, &[a, b])?;
    let bias = call.tensor_opt(places.bias, "bias")?;
    if let Some(bias) = bias.filter(|&bias| call.emit.dtype(bias) == DType::I32) {
        y = call.emit.binary(Binary::Add, y, bias)?;
    }
    y = call.emit.cast(y, DType::F32)?;
    let scale = call.emit.cast(scale, DType::F32)?;
    y = call.emit.binary(Binary::Mul, y, scale)?;
    if let Some(rows) = call.tensor_of(places.per_token, "pertoken_scale", DType::F32)? {
        let rows = super::index::rows(call, rows)?;
        y = call.emit.binary(Binary::Mul, y, rows)?;
    }
    if let Some(bias) = bias.filter(|&bias| call.emit.dtype(bias) != DType::I32) {
        let bias = call.emit.cast(bias, DType::F32)?;
        y = call.emit.binary(Binary::Add, y, bias)?;
    }
    call.emit.cast(y, dtype).map(Item::Tensor)
}

/// `(x)`: `round(x * scale + offset)` with numbers as attributes.
pub(in crate::import) fn by_numbers(call: &mut Call) -> Result<Item> {
    let (scale, offset) = (call.float_or(ATTRIBUTE, "scale", 1.0)?, call.float_or(ATTRIBUTE, "offset", 0.0)?);
    let scale = if call.flag(ATTRIBUTE, "sqrt_mode")? { scale * scale } else { scale };
    let f = match call.choice(ATTRIBUTE, "round_mode", &["Round", "Floor", "Ceil", "Trunc"], 0)? {
        0 => Unary::Round,
        1 => Unary::Floor,
        2 => Unary::Ceil,
        _ => Unary::Trunc,
    };
    let x = call.tensor(0, "x")?;
    let x = call.emit.cast(x, DType::F32)?;
    let x = call.emit.with_scalar(Binary::Mul, x, scale)?;
    let x = call.emit.with_scalar(Binary::Add, x, offset)?;
    let x = call.emit.unary(f, x)?;
    narrowed(call, x).map(Item::Tensor)
}

/// `(x, scale, offset)`: `(x + offset) * scale`, by the square of the scale in `sqrt_mode`.
pub(in crate::import) fn restored(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let dtype = call.dtype(ATTRIBUTE, "dtype")?.or(call.stated_dtype(0)).unwrap_or(DType::F16);
    let twice = call.flag(ATTRIBUTE, "sqrt_mode")?;
    let mut x = call.emit.cast(x, DType::F32)?;
    if let Some(offset) = call.tensor_of(2, "offset", DType::F32)? {
        x = call.emit.binary(Binary::Add, x, offset)?;
    }
    let scale = call.tensor_of(1, "scale", DType::F32)?.ok_or_else(|| call.invalid("scale is missing"))?;
    for _ in 0..=usize::from(twice) {
        x = call.emit.binary(Binary::Mul, x, scale)?;
    }
    call.emit.cast(x, dtype)
}
