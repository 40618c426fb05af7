use mslite_tensor::{DType, Dim, Tensor};

use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Cumulative, Op, Triangle};

/// Longest sequence that is made as a constant.
const MAX_CONSTANT: usize = 1 << 12;

pub(in crate::import) fn zeros(call: &mut Call) -> Result<ValueId> {
    let name = if call.attributes.value("shape").is_some() { "shape" } else { "size" };
    filled(call, name, 0.0)
}

pub(in crate::import) fn ones(call: &mut Call) -> Result<ValueId> {
    filled(call, "shape", 1.0)
}

/// `(shape, dtype=None)`
fn filled(call: &mut Call, name: &str, value: f64) -> Result<ValueId> {
    let dims = call.required_dims(0, name)?;
    let dtype = call.dtype(1, "dtype")?.unwrap_or(DType::F32);
    let value = call.emit.scalar(value, dtype)?;
    call.emit.broadcast(value, dims)
}

pub(in crate::import) fn zeros_like(call: &mut Call) -> Result<ValueId> {
    filled_like(call, 0.0)
}

pub(in crate::import) fn ones_like(call: &mut Call) -> Result<ValueId> {
    filled_like(call, 1.0)
}

fn filled_like(call: &mut Call, value: f64) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let dtype = call.dtype(1, "dtype")?.unwrap_or_else(|| call.emit.dtype(x));
    let value = call.emit.scalar(value, dtype)?;
    let dims = call.emit.dims(x)?;
    call.emit.broadcast(value, dims)
}

/// `(shape, value, dtype=None)`
pub(in crate::import) fn fill(call: &mut Call) -> Result<ValueId> {
    let dims = call.required_dims(0, "shape")?;
    let mut value = call.tensor(1, "value")?;
    if let Some(dtype) = call.dtype(2, "dtype")? {
        value = call.emit.cast(value, dtype)?;
    }
    let value = call.emit.reshape(value, Vec::new())?;
    call.emit.broadcast(value, dims)
}

/// `(dtype, shape, value)`
pub(in crate::import) fn fill_v1(call: &mut Call) -> Result<ValueId> {
    let dtype = call.dtype(0, "type")?.ok_or_else(|| call.invalid("the type is missing"))?;
    let dims = call.required_dims(1, "shape")?;
    let value = call.tensor_of(2, "value", dtype)?.ok_or_else(|| call.invalid("value is missing"))?;
    call.emit.broadcast(value, dims)
}

/// `(input, fill_value, dtype=None)`
pub(in crate::import) fn full_like(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let dtype = call.dtype(2, "dtype")?.unwrap_or_else(|| call.emit.dtype(x));
    let value =
        call.tensor_of(1, "fill_value", dtype)?.ok_or_else(|| call.invalid("fill_value is missing"))?;
    let dims = call.emit.dims(x)?;
    call.emit.broadcast(value, dims)
}

/// `(n, m, dtype)`: both triangles of ones.
pub(in crate::import) fn eye(call: &mut Call) -> Result<ValueId> {
    let n = call.dim(0, "n")?.ok_or_else(|| call.invalid("n is missing"))?;
    let m = call.dim(1, "m")?.unwrap_or_else(|| n.clone());
    let dtype = call.dtype(2, "dtype")?.unwrap_or(DType::F32);
    let one = call.emit.scalar(1.0, dtype)?;
    let ones = call.emit.broadcast(one, vec![n, m])?;
    let lower = call.emit.op(Op::Triangle(Triangle { upper: false, diagonal: 0 }), &[ones])?;
    call.emit.op(Op::Triangle(Triangle { upper: true, diagonal: 0 }), &[lower])
}

/// `(start, end, step)`, and for `Arange` a type.
pub(in crate::import) fn range(call: &mut Call) -> Result<ValueId> {
    let is_float = (0..3).any(|i| match call.args.get(i) {
        Some(Item::Float(_)) => true,
        Some(Item::Tensor(x)) => call.emit.dtype(*x).is_float(),
        _ => false,
    });
    let tensor_dtype = match call.args.first() {
        Some(Item::Tensor(x)) => Some(call.emit.dtype(*x)),
        _ => None,
    };
    let default = tensor_dtype.unwrap_or(if is_float { DType::F32 } else { DType::I64 });
    let dtype = match call.op_type {
        "Arange" => call.dtype(3, "dtype")?.unwrap_or(default),
        _ => call.stated_dtype(0).unwrap_or(default),
    };
    if is_float { float_range(call, dtype) } else { int_range(call, dtype) }
}

fn int_range(call: &mut Call, dtype: DType) -> Result<ValueId> {
    let start = call.dim(0, "start")?.unwrap_or(Dim::from(0));
    let end = call.dim(1, "end")?.ok_or_else(|| call.invalid("end is missing"))?;
    let step = call.int_or(2, "step", 1)?;
    if step == 0 {
        return Err(call.invalid("step is 0"));
    }
    let length = if step > 0 { &end - &start } else { &start - &end };
    let count = length.ceil_div(&Dim::from(step.saturating_abs()));
    let count = count.as_fixed().map_or(count, |n| Dim::from(n.max(0)));
    if let (Some(start), Some(n)) = (start.as_fixed(), count.as_usize().filter(|&n| n <= MAX_CONSTANT)) {
        let values = (0i64..).take(n).map(|i| start.saturating_add(i.saturating_mul(step))).collect();
        let values = call.emit.ints(values)?;
        return call.emit.cast(values, dtype);
    }
    let counter = counter(call, count)?;
    let step = call.emit.int_scalar(step, DType::I64)?;
    let scaled = call.emit.binary(Binary::Mul, counter, step)?;
    let start = call.emit.dim(&start, DType::I64)?;
    let values = call.emit.binary(Binary::Add, scaled, start)?;
    call.emit.cast(values, dtype)
}

/// 0, 1, 2, ... so many.
pub(super) fn counter(call: &mut Call, count: Dim) -> Result<ValueId> {
    let one = call.emit.int_scalar(1, DType::I64)?;
    let ones = call.emit.broadcast(one, vec![count])?;
    let op = Op::Cumulative(Cumulative { product: false, axis: 0, exclusive: true, reverse: false });
    call.emit.op(op, &[ones])
}

fn float_range(call: &mut Call, dtype: DType) -> Result<ValueId> {
    let (start, end) = (call.float_or(0, "start", 0.0)?, call.float_or(1, "end", 0.0)?);
    let step = call.float_or(2, "step", 1.0)?;
    let count = ((end - start) / step).ceil().max(0.0);
    if !count.is_finite() || count > 1e15 {
        return Err(call.invalid(format!("a range from {start} to {end} by {step}")));
    }
    spaced(call, start, step, count as usize, dtype)
}

fn spaced(call: &mut Call, start: f64, step: f64, count: usize, dtype: DType) -> Result<ValueId> {
    if count <= MAX_CONSTANT {
        let values: Vec<f64> = (0..count).map(|i| start + step * i as f64).collect();
        let tensor = Tensor::from_vec(values, &[count]).map_err(|e| call.invalid(e))?;
        let values = call.emit.builder.constant("", tensor);
        return call.emit.cast(values, dtype);
    }
    let counter = counter(call, Dim::from(count))?;
    let counter = call.emit.cast(counter, DType::F64)?;
    let scaled = call.emit.with_scalar(Binary::Mul, counter, step)?;
    let values = call.emit.with_scalar(Binary::Add, scaled, start)?;
    call.emit.cast(values, dtype)
}

/// `(start, stop, num)`
pub(in crate::import) fn lin_space(call: &mut Call) -> Result<ValueId> {
    let count = call.required_int(2, "num")?;
    let count = call.to_usize(count, "num")?;
    let (start, stop) = match (call.float_or(0, "start", 0.0), call.float_or(1, "stop", 0.0)) {
        (Ok(start), Ok(stop)) => (start, stop),
        _ => return spaced_between(call, count),
    };
    let dtype = match call.args.first() {
        Some(Item::Tensor(x)) => call.emit.dtype(*x),
        _ => DType::F32,
    };
    let step = if count > 1 { (stop - start) / (count - 1) as f64 } else { 0.0 };
    spaced(call, start, step, count, dtype)
}

/// So many numbers between two that are computed.
fn spaced_between(call: &mut Call, count: usize) -> Result<ValueId> {
    let (start, stop) = (call.tensor(0, "start")?, call.tensor(1, "stop")?);
    let dtype = call.emit.dtype(start);
    let stop = call.emit.cast(stop, dtype)?;
    let steps = call.emit.scalar(count.saturating_sub(1).max(1) as f64, dtype)?;
    let length = call.emit.binary(Binary::Sub, stop, start)?;
    let step = call.emit.binary(Binary::Div, length, steps)?;
    let (start, step) =
        (call.emit.reshape(start, vec![Dim::from(1)])?, call.emit.reshape(step, vec![Dim::from(1)])?);
    let counter = counter(call, Dim::from(count))?;
    let counter = call.emit.cast(counter, dtype)?;
    let scaled = call.emit.binary(Binary::Mul, counter, step)?;
    call.emit.binary(Binary::Add, start, scaled)
}

/// `(input, size, dtype=None)`: of the type of another tensor, with 0 or 1 everywhere; memory that is not set is 0.
pub(in crate::import) fn new_zeros(call: &mut Call) -> Result<ValueId> {
    new_filled(call, 0.0)
}

pub(in crate::import) fn new_ones(call: &mut Call) -> Result<ValueId> {
    new_filled(call, 1.0)
}

fn new_filled(call: &mut Call, value: f64) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let dims = call.required_dims(1, "size")?;
    let dtype = call.dtype(2, "dtype")?.unwrap_or_else(|| call.emit.dtype(x));
    let value = call.emit.scalar(value, dtype)?;
    call.emit.broadcast(value, dims)
}

/// `(input, size, fill_value, dtype=None)`
pub(in crate::import) fn new_full(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let dims = call.required_dims(1, "size")?;
    let dtype = call.dtype(3, "dtype")?.unwrap_or_else(|| call.emit.dtype(x));
    let value =
        call.tensor_of(2, "fill_value", dtype)?.ok_or_else(|| call.invalid("fill_value is missing"))?;
    call.emit.broadcast(value, dims)
}

/// `(tensor, num_classes, on_value, off_value, axis=-1)`
pub(in crate::import) fn one_hot_ext(call: &mut Call) -> Result<ValueId> {
    if call.int_or(1, "num_classes", -1)? == -1 {
        return Err(call.unsupported("num_classes -1 follows the largest index; give the number of classes"));
    }
    super::index::one_hot(call)
}

/// Row and column numbers of a triangle, `[2, count]`, all as attributes.
pub(in crate::import) fn triangle_indices(call: &mut Call) -> Result<ValueId> {
    let (rows, columns) = (call.required_int(ATTRIBUTE, "row")?, call.required_int(ATTRIBUTE, "col")?);
    let offset = call.int_or(ATTRIBUTE, "offset", 0)?;
    let dtype = call.dtype(ATTRIBUTE, "dtype")?.unwrap_or(DType::I32);
    let upper = call.op_type == "TriuIndices";
    const MOST: i64 = 1 << 22;
    if rows < 0 || columns < 0 || rows.saturating_mul(columns) > MOST {
        return Err(call.invalid(format!("a triangle of {rows} rows and {columns} columns")));
    }
    let all = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    let kept = |&(row, column): &(i64, i64)| match upper {
        true => column >= row.saturating_add(offset),
        false => column <= row.saturating_add(offset),
    };
    let (a, b): (Vec<i64>, Vec<i64>) = all.filter(kept).unzip();
    let count = Dim::from(a.len());
    let places = call.emit.ints([a, b].concat())?;
    let places = call.emit.reshape(places, vec![Dim::from(2), count])?;
    call.emit.cast(places, dtype)
}
