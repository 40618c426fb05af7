//! Element-wise functions made of others.

use mslite_tensor::{DType, Dim};

use super::elementwise::{apply, common, operands};
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, ReduceKind, Unary};

/// `x` in a float type.
pub(super) fn real(call: &mut Call, x: ValueId) -> Result<ValueId> {
    let dtype = call.emit.dtype(x);
    if dtype.is_float() || dtype.is_complex() { Ok(x) } else { call.emit.cast(x, DType::F32) }
}

/// `x - trunc(x)`
pub(in crate::import) fn frac(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let whole = call.emit.unary(Unary::Trunc, x)?;
    call.emit.binary(Binary::Sub, x, whole)
}

/// `x * y`, 0 where y is 0.
pub(in crate::import) fn mul_no_nan(call: &mut Call) -> Result<ValueId> {
    let (x, y) = operands(call)?;
    let product = call.emit.binary(Binary::Mul, x, y)?;
    zero_where(call, y, product)
}

/// `x * log(y)`, 0 where x is 0.
pub(in crate::import) fn xlogy(call: &mut Call) -> Result<ValueId> {
    let (x, y) = operands(call)?;
    let (x, y) = (real(call, x)?, real(call, y)?);
    let log = call.emit.unary(Unary::Log, y)?;
    let product = call.emit.binary(Binary::Mul, x, log)?;
    zero_where(call, x, product)
}

fn zero_where(call: &mut Call, condition: ValueId, y: ValueId) -> Result<ValueId> {
    let is_zero = call.emit.with_scalar(Binary::Equal, condition, 0.0)?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(y))?;
    call.emit.select(is_zero, zero, y)
}

/// 0 for negative x, 1 for positive, `values` for 0.
pub(in crate::import) fn heaviside(call: &mut Call) -> Result<ValueId> {
    let (x, values) = operands(call)?;
    let dtype = call.emit.dtype(x);
    let positive = call.emit.with_scalar(Binary::Greater, x, 0.0)?;
    let step = call.emit.cast(positive, dtype)?;
    let is_zero = call.emit.with_scalar(Binary::Equal, x, 0.0)?;
    call.emit.select(is_zero, values, step)
}

/// `log(exp(x) + exp(y))`
pub(in crate::import) fn log_add_exp(call: &mut Call) -> Result<ValueId> {
    let (x, y) = operands(call)?;
    log_sum(call, x, y, 1.0)
}

/// `log2(2^x + 2^y)`
pub(in crate::import) fn log_add_exp2(call: &mut Call) -> Result<ValueId> {
    let (x, y) = operands(call)?;
    log_sum(call, x, y, std::f64::consts::LN_2)
}

/// `max(x, y) + log(1 + exp(-|x - y| * ln(base))) / ln(base)`
fn log_sum(call: &mut Call, x: ValueId, y: ValueId, base: f64) -> Result<ValueId> {
    let highest = call.emit.binary(Binary::Maximum, x, y)?;
    let apart = call.emit.binary(Binary::Sub, x, y)?;
    let apart = call.emit.unary(Unary::Abs, apart)?;
    let apart = call.emit.with_scalar(Binary::Mul, apart, -base)?;
    let exp = call.emit.unary(Unary::Exp, apart)?;
    let log = call.emit.unary(Unary::Log1p, exp)?;
    let log = call.emit.with_scalar(Binary::Div, log, base)?;
    call.emit.binary(Binary::Add, highest, log)
}

/// `log(x / (1 - x))`, x limited to `[eps, 1 - eps]` unless eps is negative.
pub(in crate::import) fn logit(call: &mut Call) -> Result<ValueId> {
    let mut x = call.tensor(0, "input")?;
    x = real(call, x)?;
    let epsilon = call.float_or(1, "eps", -1.0)?;
    if epsilon >= 0.0 {
        x = call.emit.unary(Unary::Clip { low: epsilon, high: 1.0 - epsilon }, x)?;
    }
    let one = call.emit.scalar(1.0, call.emit.dtype(x))?;
    let rest = call.emit.binary(Binary::Sub, one, x)?;
    let odds = call.emit.binary(Binary::Div, x, rest)?;
    call.emit.unary(Unary::Log, odds)
}

/// `sin(pi x) / (pi x)`
pub(in crate::import) fn sinc(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let x = real(call, x)?;
    let angle = call.emit.with_scalar(Binary::Mul, x, std::f64::consts::PI)?;
    let sin = call.emit.unary(Unary::Sin, angle)?;
    let y = call.emit.binary(Binary::Div, sin, angle)?;
    let is_zero = call.emit.with_scalar(Binary::Equal, x, 0.0)?;
    let one = call.emit.scalar(1.0, call.emit.dtype(y))?;
    call.emit.select(is_zero, one, y)
}

/// `(input, beta=1, threshold=20)`: `log(1 + exp(beta x)) / beta`, x itself where `beta x` is above the threshold.
pub(in crate::import) fn softplus(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let (beta, threshold) = (call.float_or(1, "beta", 1.0)?, call.float_or(2, "threshold", 20.0)?);
    let scaled = call.emit.with_scalar(Binary::Mul, x, beta)?;
    let y = call.emit.unary(Unary::Softplus, scaled)?;
    let y = call.emit.with_scalar(Binary::Div, y, beta)?;
    let is_linear = call.emit.with_scalar(Binary::Greater, scaled, threshold)?;
    call.emit.select(is_linear, x, y)
}

/// `(input, threshold, value)`: x where it is above the threshold, else the value.
pub(in crate::import) fn threshold(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let (threshold, value) = (call.float_or(1, "threshold", 0.0)?, call.float_or(2, "value", 0.0)?);
    let keeps = call.emit.with_scalar(Binary::Greater, x, threshold)?;
    let value = call.emit.scalar(value, call.emit.dtype(x))?;
    call.emit.select(keeps, x, value)
}

/// `(input, other, rtol=1e-5, atol=1e-8, equal_nan=False)`
pub(in crate::import) fn is_close(call: &mut Call) -> Result<ValueId> {
    let (relative, absolute) = (call.float_or(2, "rtol", 1e-5)?, call.float_or(3, "atol", 1e-8)?);
    let equal_nan = call.flag(4, "equal_nan")?;
    let (x, y) = operands(call)?;
    let same = call.emit.binary(Binary::Equal, x, y)?;
    let (a, b) = (real(call, x)?, real(call, y)?);
    let apart = call.emit.binary(Binary::Sub, a, b)?;
    let apart = call.emit.unary(Unary::Abs, apart)?;
    let size = call.emit.unary(Unary::Abs, b)?;
    let limit = call.emit.with_scalar(Binary::Mul, size, relative)?;
    let limit = call.emit.with_scalar(Binary::Add, limit, absolute)?;
    let near = call.emit.binary(Binary::LessEqual, apart, limit)?;
    let finite = call.emit.unary(Unary::IsFinite, apart)?;
    let near = call.emit.binary(Binary::And, near, finite)?;
    let close = call.emit.binary(Binary::Or, near, same)?;
    if !equal_nan {
        return Ok(close);
    }
    let (a, b) = (call.emit.unary(Unary::IsNan, a)?, call.emit.unary(Unary::IsNan, b)?);
    let both = call.emit.binary(Binary::And, a, b)?;
    call.emit.binary(Binary::Or, close, both)
}

/// `|x - y| < tolerance`
pub(in crate::import) fn approximate_equal(call: &mut Call) -> Result<ValueId> {
    let tolerance = call.float_or(ATTRIBUTE, "tolerance", 1e-5)?;
    let (x, y) = operands(call)?;
    let apart = call.emit.binary(Binary::Sub, x, y)?;
    let apart = call.emit.unary(Unary::Abs, apart)?;
    call.emit.with_scalar(Binary::Less, apart, tolerance)
}

/// `x == -inf`
pub(in crate::import) fn is_neg_inf(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let x = real(call, x)?;
    call.emit.with_scalar(Binary::Equal, x, f64::NEG_INFINITY)
}

pub(in crate::import) fn left_shift(call: &mut Call) -> Result<ValueId> {
    let (x, factor) = shifted(call)?;
    call.emit.binary(Binary::Mul, x, factor)
}

/// Arithmetic: the sign stays.
pub(in crate::import) fn right_shift(call: &mut Call) -> Result<ValueId> {
    let (x, factor) = shifted(call)?;
    call.emit.binary(Binary::FloorDiv, x, factor)
}

/// x and `2^y`; y is limited to the width of the type, as MindSpore's kernels do.
fn shifted(call: &mut Call) -> Result<(ValueId, ValueId)> {
    let (x, y) = operands(call)?;
    let two = call.emit.int_scalar(2, call.emit.dtype(x))?;
    Ok((x, call.emit.binary(Binary::Pow, two, y)?))
}

/// The larger; the other one where one is NaN.
pub(in crate::import) fn fmax(call: &mut Call) -> Result<ValueId> {
    without_nan(call, Binary::Maximum)
}

/// The smaller; the other one where one is NaN.
pub(in crate::import) fn fmin(call: &mut Call) -> Result<ValueId> {
    without_nan(call, Binary::Minimum)
}

fn without_nan(call: &mut Call, f: Binary) -> Result<ValueId> {
    let (x, y) = operands(call)?;
    let extreme = call.emit.binary(f, x, y)?;
    if !call.emit.dtype(x).is_float() {
        return Ok(extreme);
    }
    let (a, b) = (call.emit.unary(Unary::IsNan, x)?, call.emit.unary(Unary::IsNan, y)?);
    let z = call.emit.select(b, x, extreme)?;
    call.emit.select(a, y, z)
}

/// The inverse of the error function, by two polynomials in `w = -log(1 - x^2)` (M. Giles, 2012).
pub(in crate::import) fn erfinv(call: &mut Call) -> Result<ValueId> {
    const CENTRE: [f64; 9] = [
        2.810_226_36e-8,
        3.432_739_39e-7,
        -3.523_387_7e-6,
        -4.391_506_54e-6,
        2.185_808_7e-4,
        -1.253_725_03e-3,
        -4.177_681_64e-3,
        2.466_407_27e-1,
        1.501_409_41,
    ];
    const TAIL: [f64; 9] = [
        -2.002_142_57e-4,
        1.009_505_58e-4,
        1.349_343_22e-3,
        -3.673_428_44e-3,
        5.739_507_73e-3,
        -7.622_461_3e-3,
        9.438_870_47e-3,
        1.001_674_06,
        2.832_976_82,
    ];
    let x = call.tensor(0, "input")?;
    let dtype = call.emit.dtype(x);
    let x = call.emit.cast(x, DType::F32)?;
    let negative = call.emit.unary(Unary::Neg, x)?;
    let (a, b) = (call.emit.unary(Unary::Log1p, x)?, call.emit.unary(Unary::Log1p, negative)?);
    let w = call.emit.binary(Binary::Add, a, b)?;
    let w = call.emit.unary(Unary::Neg, w)?;
    let centre = call.emit.with_scalar(Binary::Sub, w, 2.5)?;
    let centre = polynomial(call, centre, &CENTRE)?;
    let root = call.emit.unary(Unary::Sqrt, w)?;
    let tail = call.emit.with_scalar(Binary::Sub, root, 3.0)?;
    let tail = polynomial(call, tail, &TAIL)?;
    let is_centre = call.emit.with_scalar(Binary::Less, w, 5.0)?;
    let factor = call.emit.select(is_centre, centre, tail)?;
    let mut y = call.emit.binary(Binary::Mul, factor, x)?;
    for (at, value) in [(1.0, f64::INFINITY), (-1.0, f64::NEG_INFINITY)] {
        let is_end = call.emit.with_scalar(Binary::Equal, x, at)?;
        let value = call.emit.scalar(value, DType::F32)?;
        y = call.emit.select(is_end, value, y)?;
    }
    call.emit.cast(y, dtype)
}

/// Highest power first.
fn polynomial(call: &mut Call, x: ValueId, coefficients: &[f64]) -> Result<ValueId> {
    let mut y = call.emit.scalar(coefficients[0], call.emit.dtype(x))?;
    for &coefficient in &coefficients[1..] {
        y = call.emit.binary(Binary::Mul, y, x)?;
        y = call.emit.with_scalar(Binary::Add, y, coefficient)?;
    }
    Ok(y)
}

/// `(input, other)` to the type of other.
pub(in crate::import) fn type_as(call: &mut Call) -> Result<ValueId> {
    let (x, other) = (call.tensor(0, "input")?, call.tensor(1, "other")?);
    call.emit.cast(x, call.emit.dtype(other))
}

/// `(input, device=None, dtype=None, ...)` or `(input, dtype=None, ...)`: the type is the argument that is one.
pub(in crate::import) fn to_dtype(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let position = if call.op_type == "ToDevice" { 2 } else { 1 };
    let dtype = call.dtype(position, "dtype")?.unwrap_or_else(|| call.emit.dtype(x));
    call.emit.cast(x, dtype)
}

/// `(dtype, x)`; only floats are converted.
pub(in crate::import) fn mixed_precision_cast(call: &mut Call) -> Result<Item> {
    let dtype = call.dtype(0, "dst_dtype")?.ok_or_else(|| call.invalid("the type is missing"))?;
    let item = call.arg(1, "input_x").ok_or_else(|| call.invalid("the tensor is missing"))?;
    lowered(call, &item, dtype)
}

fn lowered(call: &mut Call, item: &Item, dtype: DType) -> Result<Item> {
    match item {
        Item::Tensor(x) if call.emit.dtype(*x).is_float() => call.emit.cast(*x, dtype).map(Item::Tensor),
        Item::Tuple(items) => {
            let items: Result<Vec<Item>> = items.iter().map(|item| lowered(call, item, dtype)).collect();
            Ok(Item::tuple(items?))
        }
        item => Ok(item.clone()),
    }
}

/// `(lengths, maxlen)`: for each length so many times true, then false.
pub(in crate::import) fn sequence_mask(call: &mut Call) -> Result<ValueId> {
    let lengths = call.tensor(0, "lengths")?;
    let longest = call.dim(1, "maxlen")?.ok_or_else(|| call.invalid("maxlen is missing"))?;
    let mut dims = call.emit.dims(lengths)?;
    let places = super::create::counter(call, longest)?;
    dims.push(Dim::from(1));
    let lengths = call.emit.cast(lengths, DType::I64)?;
    let lengths = call.emit.reshape(lengths, dims)?;
    call.emit.binary(Binary::Less, places, lengths)
}

/// Whether shapes and all elements are equal: a bool in the shape that the file states, `[]` or `[1]`.
pub(in crate::import) fn all_equal(call: &mut Call) -> Result<ValueId> {
    let (x, y) = operands(call)?;
    let dtype = common(call.emit.dtype(x), call.emit.dtype(y));
    let (x, y) = (call.emit.cast(x, dtype)?, call.emit.cast(y, dtype)?);
    let rank = call.emit.rank(x)?;
    let same = match call.emit.dims(x)? == call.emit.dims(y)? {
        true => {
            let same = apply(call, Binary::Equal, x, y)?;
            call.emit.reduce(ReduceKind::All, same, (0..rank).collect(), false)?
        }
        false => call.emit.scalar(0.0, DType::Bool)?,
    };
    let stated = call.ty.and_then(|ty| ty.as_tensor()?.spec(|_| Dim::from(1))?.shape.rank());
    let dims = vec![Dim::from(1); stated.unwrap_or(0)];
    call.emit.reshape(same, dims)
}
