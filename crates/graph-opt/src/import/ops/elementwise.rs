use mslite_tensor::{DType, Dim};

use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Unary};

pub(in crate::import) fn unary(call: &mut Call, f: Unary) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let y = call.emit.unary(f, x)?;
    as_stated(call, y)
}

/// In the type that the file states: some functions of integers are computed in floats and cut off.
fn as_stated(call: &mut Call, y: ValueId) -> Result<ValueId> {
    match call.stated_dtype(0) {
        Some(dtype) => call.emit.cast(y, dtype),
        None => Ok(y),
    }
}

pub(in crate::import) fn binary(call: &mut Call, f: Binary) -> Result<ValueId> {
    let (x, y) = operands(call)?;
    apply(call, f, x, y)
}

/// As [`binary`]; an operand of rank 0 is a number that takes the type of the other.
pub(in crate::import) fn with_scalar(call: &mut Call, f: Binary) -> Result<ValueId> {
    for position in 0..2 {
        let other = call.args.get(1 - position).cloned();
        let (Some(Item::Tensor(number)), Some(Item::Tensor(x))) = (call.args.get(position).cloned(), other)
        else {
            continue;
        };
        let is_number = call.emit.spec(number).shape.rank() == Some(0);
        let types = (call.emit.dtype(number), call.emit.dtype(x));
        if is_number && types.0 != types.1 {
            let dtype = with_number(types.1, types.0.is_float(), types.0 == DType::Bool);
            call.args[position] = Item::Tensor(call.emit.cast(number, dtype)?);
            call.args[1 - position] = Item::Tensor(call.emit.cast(x, dtype)?);
            break;
        }
    }
    binary(call, f)
}

/// A function of two tensors of one type; integers are converted where the function has real results.
pub(super) fn apply(call: &mut Call, f: Binary, x: ValueId, y: ValueId) -> Result<ValueId> {
    let dtype = call.emit.dtype(x);
    let is_real = dtype.is_float() || dtype.is_complex();
    let target = match f {
        Binary::Div | Binary::Atan2 if !is_real => DType::F32,
        Binary::And | Binary::Or | Binary::Xor | Binary::Equal | Binary::NotEqual => dtype,
        _ if dtype == DType::Bool
            && !matches!(f, Binary::Add | Binary::Mul | Binary::Maximum | Binary::Minimum) =>
        {
            DType::I32
        }
        _ => dtype,
    };
    let (x, y) = (call.emit.cast(x, target)?, call.emit.cast(y, target)?);
    call.emit.binary(f, x, y)
}

/// The first two operands, promoted to one type.
pub(super) fn operands(call: &mut Call) -> Result<(ValueId, ValueId)> {
    let (Some(x), Some(y)) = (call.arg(0, "input"), call.arg(1, "other")) else {
        return Err(call.invalid("it needs two operands"));
    };
    match (&x, &y) {
        (Item::Tensor(a), _) if is_number(&y) => {
            let dtype = number_dtype(call, *a, &y);
            let y = number(call, &y, dtype)?;
            Ok((call.emit.cast(*a, dtype)?, y))
        }
        (_, Item::Tensor(b)) if is_number(&x) => {
            let dtype = number_dtype(call, *b, &x);
            let x = number(call, &x, dtype)?;
            Ok((x, call.emit.cast(*b, dtype)?))
        }
        _ => {
            let (x, y) = (call.tensor(0, "input")?, call.tensor(1, "other")?);
            promoted(call, x, y)
        }
    }
}

/// Two tensors converted to the type that holds both.
pub(super) fn promoted(call: &mut Call, x: ValueId, y: ValueId) -> Result<(ValueId, ValueId)> {
    let dtype = common(call.emit.dtype(x), call.emit.dtype(y));
    Ok((call.emit.cast(x, dtype)?, call.emit.cast(y, dtype)?))
}

fn is_number(item: &Item) -> bool {
    matches!(item, Item::Int(_) | Item::Float(_) | Item::Bool(_))
}

fn number_dtype(call: &Call, x: ValueId, number: &Item) -> DType {
    with_number(call.emit.dtype(x), matches!(number, Item::Float(_)), matches!(number, Item::Bool(_)))
}

/// The type of a tensor combined with a Python number.
fn with_number(tensor: DType, is_float: bool, is_bool: bool) -> DType {
    match tensor {
        _ if tensor.is_float() || tensor.is_complex() => tensor,
        _ if is_float => DType::F32,
        DType::Bool if !is_bool => DType::I64,
        _ => tensor,
    }
}

fn number(call: &mut Call, item: &Item, dtype: DType) -> Result<ValueId> {
    match item {
        Item::Int(dim) => call.emit.dim(dim, dtype),
        Item::Float(value) => call.emit.scalar(*value, dtype),
        Item::Bool(value) => call.emit.scalar(f64::from(u8::from(*value)), dtype),
        _ => Err(call.invalid("a number is missing")),
    }
}

/// The type that two tensors are promoted to.
pub(super) fn common(a: DType, b: DType) -> DType {
    let rank = |d: DType| match d {
        DType::Bool => 0,
        _ if d.is_int() => 1,
        _ if d.is_float() => 2,
        _ => 3,
    };
    match rank(a).cmp(&rank(b)) {
        _ if a == b => a,
        std::cmp::Ordering::Less => b,
        std::cmp::Ordering::Greater => a,
        std::cmp::Ordering::Equal => match (a, b) {
            (DType::F16, DType::BF16) | (DType::BF16, DType::F16) => DType::F32,
            _ if a.is_signed_int() != b.is_signed_int() && a.is_int() => signed_above(a, b),
            _ if a.size() >= b.size() => a,
            _ => b,
        },
    }
}

fn signed_above(a: DType, b: DType) -> DType {
    let (signed, unsigned) = if a.is_signed_int() { (a, b) } else { (b, a) };
    match unsigned.size() {
        n if n < signed.size() => signed,
        1 => DType::I16,
        2 => DType::I32,
        _ => DType::I64,
    }
}

/// `x / y`; of integers the quotient rounded towards 0, in their type.
pub(in crate::import) fn real_div(call: &mut Call) -> Result<ValueId> {
    let (x, y) = operands(call)?;
    let f = if call.emit.dtype(x).is_int() { Binary::TruncDiv } else { Binary::Div };
    apply(call, f, x, y)
}

/// `1 / x`, rounded towards 0 for integers.
pub(in crate::import) fn inverse(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let dtype = call.emit.dtype(x);
    if !dtype.is_int() {
        return call.emit.unary(Unary::Reciprocal, x);
    }
    let one = call.emit.scalar(1.0, dtype)?;
    call.emit.binary(Binary::TruncDiv, one, x)
}

pub(in crate::import) fn logical_not(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let x = call.emit.cast(x, DType::Bool)?;
    call.emit.unary(Unary::Not, x)
}

/// `log_base(scale * x + shift)`.
pub(in crate::import) fn log(call: &mut Call) -> Result<ValueId> {
    let mut x = call.tensor(0, "input")?;
    let (base, scale, shift) =
        (call.float_or(1, "base", -1.0)?, call.float_or(2, "scale", 1.0)?, call.float_or(3, "shift", 0.0)?);
    if scale != 1.0 {
        x = call.emit.with_scalar(Binary::Mul, x, scale)?;
    }
    if shift != 0.0 {
        x = call.emit.with_scalar(Binary::Add, x, shift)?;
    }
    let y = call.emit.unary(Unary::Log, x)?;
    if base > 0.0 { call.emit.with_scalar(Binary::Div, y, base.ln()) } else { Ok(y) }
}

pub(in crate::import) fn log2(call: &mut Call) -> Result<ValueId> {
    let y = unary(call, Unary::Log)?;
    call.emit.with_scalar(Binary::Div, y, std::f64::consts::LN_2)
}

pub(in crate::import) fn log10(call: &mut Call) -> Result<ValueId> {
    let y = unary(call, Unary::Log)?;
    call.emit.with_scalar(Binary::Div, y, std::f64::consts::LN_10)
}

pub(in crate::import) fn exp2(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let two = call.emit.scalar(2.0, call.emit.dtype(x))?;
    call.emit.binary(Binary::Pow, two, x)
}

pub(in crate::import) fn round(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let decimals = call.int_or(1, "decimals", 0)?;
    if decimals == 0 || !call.emit.dtype(x).is_float() {
        return call.emit.unary(Unary::Round, x);
    }
    let scale = 10f64.powi(i32::try_from(decimals.clamp(-300, 300)).unwrap_or(0));
    let x = call.emit.with_scalar(Binary::Mul, x, scale)?;
    let x = call.emit.unary(Unary::Round, x)?;
    call.emit.with_scalar(Binary::Div, x, scale)
}

pub(in crate::import) fn gelu(call: &mut Call) -> Result<ValueId> {
    let f = [Unary::Gelu, Unary::GeluTanh][call.choice(1, "approximate", &["none", "tanh"], 0)?];
    unary(call, f)
}

pub(in crate::import) fn elu(call: &mut Call) -> Result<ValueId> {
    let alpha = call.float_or(1, "alpha", 1.0)?;
    unary(call, Unary::Elu { alpha })
}

const SELU_SCALE: f64 = 1.050_700_987_355_480_5;
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;

pub(in crate::import) fn selu(call: &mut Call) -> Result<ValueId> {
    let y = unary(call, Unary::Elu { alpha: SELU_ALPHA })?;
    call.emit.with_scalar(Binary::Mul, y, SELU_SCALE)
}

/// `max(0, x) + min(0, alpha * (exp(x / alpha) - 1))`, which is `alpha * elu(x / alpha)` for positive alpha.
pub(in crate::import) fn celu(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let alpha = call.float_or(1, "alpha", 1.0)?;
    if alpha <= 0.0 {
        return Err(call.unsupported(format!("alpha is {alpha}, only positive ones are known")));
    }
    let x = call.emit.with_scalar(Binary::Div, x, alpha)?;
    let y = call.emit.unary(Unary::Elu { alpha: 1.0 }, x)?;
    call.emit.with_scalar(Binary::Mul, y, alpha)
}

pub(in crate::import) fn leaky_relu(call: &mut Call) -> Result<ValueId> {
    let alpha = match call.attribute("alpha") {
        Some(Item::Float(alpha)) => alpha,
        _ => call.float_or(1, "negative_slope", 0.01)?,
    };
    unary(call, Unary::LeakyRelu { alpha })
}

pub(in crate::import) fn hardtanh(call: &mut Call) -> Result<ValueId> {
    let (low, high) = (call.float_or(1, "min_val", -1.0)?, call.float_or(2, "max_val", 1.0)?);
    unary(call, Unary::Clip { low, high })
}

pub(in crate::import) fn hard_shrink(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let lambda = call.float_or(1, "lambd", 0.5)?;
    let magnitude = call.emit.unary(Unary::Abs, x)?;
    let keeps = call.emit.with_scalar(Binary::Greater, magnitude, lambda)?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    call.emit.op(crate::Op::Select, &[keeps, x, zero])
}

/// `x` without what lies between `-lambda` and `lambda`.
pub(in crate::import) fn soft_shrink(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let lambda = call.float_or(1, "lambd", 0.5)?;
    let inside = call.emit.unary(Unary::Clip { low: -lambda, high: lambda }, x)?;
    call.emit.binary(Binary::Sub, x, inside)
}

/// The weight goes along axis 1.
pub(in crate::import) fn prelu(call: &mut Call) -> Result<ValueId> {
    let (x, weight) = (call.tensor(0, "input")?, call.tensor(1, "weight")?);
    let rank = call.emit.rank(x)?;
    let channels = call.emit.dims(weight)?.first().cloned().unwrap_or(Dim::from(1));
    let mut dims = vec![channels];
    dims.resize(rank.saturating_sub(1).max(1), Dim::from(1));
    let weight = call.emit.reshape(weight, dims)?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let scaled = call.emit.binary(Binary::Mul, x, weight)?;
    let positive = call.emit.binary(Binary::Greater, x, zero)?;
    call.emit.op(crate::Op::Select, &[positive, x, scaled])
}

pub(in crate::import) fn log_sigmoid(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let x = call.emit.unary(Unary::Neg, x)?;
    let y = call.emit.unary(Unary::Softplus, x)?;
    call.emit.unary(Unary::Neg, y)
}

/// `log(x + sqrt(x^2 - 1))`
pub(in crate::import) fn acosh(call: &mut Call) -> Result<ValueId> {
    inverse_hyperbolic(call, -1.0)
}

/// `log(x + sqrt(x^2 + 1))`, for negative x by symmetry.
pub(in crate::import) fn asinh(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    if call.emit.dtype(x).is_complex() {
        return inverse_hyperbolic(call, 1.0);
    }
    let sign = call.emit.unary(Unary::Sign, x)?;
    let magnitude = call.emit.unary(Unary::Abs, x)?;
    call.args = vec![Item::Tensor(magnitude)];
    let y = inverse_hyperbolic(call, 1.0)?;
    call.emit.binary(Binary::Mul, sign, y)
}

fn inverse_hyperbolic(call: &mut Call, offset: f64) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    if call.emit.dtype(x).is_complex() && offset < 0.0 {
        return complex_acosh(call, x);
    }
    let square = call.emit.unary(Unary::Square, x)?;
    let moved = call.emit.with_scalar(Binary::Add, square, offset)?;
    let root = call.emit.unary(Unary::Sqrt, moved)?;
    let sum = call.emit.binary(Binary::Add, x, root)?;
    call.emit.unary(Unary::Log, sum)
}

/// `log(x + sqrt(x + 1) * sqrt(x - 1))`, the branch with a positive real part.
fn complex_acosh(call: &mut Call, x: ValueId) -> Result<ValueId> {
    let mut roots = Vec::new();
    for offset in [1.0, -1.0] {
        let moved = call.emit.with_scalar(Binary::Add, x, offset)?;
        roots.push(call.emit.unary(Unary::Sqrt, moved)?);
    }
    let product = call.emit.binary(Binary::Mul, roots[0], roots[1])?;
    let sum = call.emit.binary(Binary::Add, x, product)?;
    call.emit.unary(Unary::Log, sum)
}

/// `(log(1 + x) - log(1 - x)) / 2`
pub(in crate::import) fn atanh(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let negative = call.emit.unary(Unary::Neg, x)?;
    let (a, b) = (call.emit.unary(Unary::Log1p, x)?, call.emit.unary(Unary::Log1p, negative)?);
    let y = call.emit.binary(Binary::Sub, a, b)?;
    call.emit.with_scalar(Binary::Mul, y, 0.5)
}

pub(in crate::import) fn nan_to_num(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let dtype = call.emit.dtype(x);
    let largest = match dtype {
        DType::F16 => 65504.0,
        DType::BF16 => f64::from(mslite_tensor::bf16::MAX),
        DType::F64 => f64::MAX,
        _ => f64::from(f32::MAX),
    };
    let nan = call.float_or(1, "nan", 0.0)?;
    let high = call.float_or(2, "posinf", largest)?;
    let low = call.float_or(3, "neginf", -largest)?;
    let is_nan = call.emit.unary(Unary::IsNan, x)?;
    let is_high = call.emit.with_scalar(Binary::Equal, x, f64::INFINITY)?;
    let is_low = call.emit.with_scalar(Binary::Equal, x, f64::NEG_INFINITY)?;
    let mut y = x;
    for (condition, value) in [(is_nan, nan), (is_high, high), (is_low, low)] {
        let value = call.emit.scalar(value, dtype)?;
        y = call.emit.op(crate::Op::Select, &[condition, value, y])?;
    }
    Ok(y)
}

pub(in crate::import) fn swiglu(call: &mut Call) -> Result<ValueId> {
    let (gate, x) = halves(call)?;
    let gate = call.emit.unary(Unary::Silu, gate)?;
    call.emit.binary(Binary::Mul, gate, x)
}

pub(in crate::import) fn glu(call: &mut Call) -> Result<ValueId> {
    let (x, gate) = halves(call)?;
    let gate = call.emit.unary(Unary::Sigmoid, gate)?;
    call.emit.binary(Binary::Mul, x, gate)
}

fn halves(call: &mut Call) -> Result<(ValueId, ValueId)> {
    let x = call.tensor(0, "input")?;
    let dims = call.emit.dims(x)?;
    let axis = call.axis(1, "dim", -1, dims.len())?;
    let half = dims[axis].floor_div(&Dim::from(2));
    let first = call.emit.narrow(x, axis, Dim::from(0), half.clone())?;
    let second = call.emit.narrow(x, axis, half.clone(), half)?;
    Ok((first, second))
}

/// Inference keeps everything: `(x, mask)`, and the mask is not made.
pub(in crate::import) fn dropout(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "x")?;
    Ok(Item::tuple([Item::Tensor(x), Item::UNMADE]))
}

pub(in crate::import) fn div_mod(call: &mut Call) -> Result<ValueId> {
    let rounding = match call.arg(2, "rounding_mode") {
        None => None,
        Some(_) => Some(call.choice(2, "rounding_mode", &["round", "trunc", "floor", "ceil"], 0)?),
    };
    let (x, y) = operands(call)?;
    let is_int = call.emit.dtype(x).is_int();
    let quotient = match rounding {
        Some(1) if is_int => return call.emit.binary(Binary::TruncDiv, x, y),
        Some(2) => return apply(call, Binary::FloorDiv, x, y),
        _ => apply(call, Binary::Div, x, y)?,
    };
    match rounding {
        None => Ok(quotient),
        Some(mode) => {
            call.emit.unary([Unary::Round, Unary::Trunc, Unary::Floor, Unary::Ceil][mode], quotient)
        }
    }
}

pub(in crate::import) fn hypot(call: &mut Call) -> Result<ValueId> {
    let (x, y) = operands(call)?;
    let (x, y) = (call.emit.unary(Unary::Square, x)?, call.emit.unary(Unary::Square, y)?);
    let sum = call.emit.binary(Binary::Add, x, y)?;
    call.emit.unary(Unary::Sqrt, sum)
}

/// `x + alpha * y`
pub(in crate::import) fn add_ext(call: &mut Call) -> Result<ValueId> {
    scaled(call, Binary::Add)
}

/// `x - alpha * y`
pub(in crate::import) fn sub_ext(call: &mut Call) -> Result<ValueId> {
    scaled(call, Binary::Sub)
}

fn scaled(call: &mut Call, f: Binary) -> Result<ValueId> {
    let alpha = call.float_or(2, "alpha", 1.0)?;
    let (x, mut y) = operands(call)?;
    if alpha != 1.0 {
        y = call.emit.with_scalar(Binary::Mul, y, alpha)?;
    }
    call.emit.binary(f, x, y)
}

/// 0 where the divisor is 0.
pub(in crate::import) fn div_no_nan(call: &mut Call) -> Result<ValueId> {
    let (x, y) = operands(call)?;
    let quotient = apply(call, Binary::Div, x, y)?;
    zero_where(call, y, quotient)
}

/// 0 where the dividend is 0.
pub(in crate::import) fn xdivy(call: &mut Call) -> Result<ValueId> {
    let (x, y) = operands(call)?;
    let quotient = apply(call, Binary::Div, x, y)?;
    zero_where(call, x, quotient)
}

fn zero_where(call: &mut Call, condition: ValueId, y: ValueId) -> Result<ValueId> {
    let is_zero = call.emit.with_scalar(Binary::Equal, condition, 0.0)?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(y))?;
    call.emit.op(crate::Op::Select, &[is_zero, zero, y])
}

pub(in crate::import) fn add_n(call: &mut Call) -> Result<ValueId> {
    let tensors = call.tensor_list()?;
    let mut sum = tensors[0];
    for &x in &tensors[1..] {
        sum = call.emit.binary(Binary::Add, sum, x)?;
    }
    Ok(sum)
}

/// `input + value * tensor1 * tensor2`
pub(in crate::import) fn addcmul(call: &mut Call) -> Result<ValueId> {
    fused(call, Binary::Mul)
}

/// `input + value * tensor1 / tensor2`
pub(in crate::import) fn addcdiv(call: &mut Call) -> Result<ValueId> {
    fused(call, Binary::Div)
}

fn fused(call: &mut Call, f: Binary) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    let (a, b) = (call.tensor(1, "tensor1")?, call.tensor(2, "tensor2")?);
    let y = call.emit.binary(f, a, b)?;
    let y = match call.tensor_of(3, "value", call.emit.dtype(y))? {
        Some(value) => call.emit.binary(Binary::Mul, y, value)?,
        None => y,
    };
    call.emit.binary(Binary::Add, x, y)
}

/// `start + weight * (end - start)`
pub(in crate::import) fn lerp(call: &mut Call) -> Result<ValueId> {
    let (start, end) = (call.tensor(0, "input")?, call.tensor(1, "end")?);
    let dtype = call.emit.dtype(start);
    let weight = call.tensor_of(2, "weight", dtype)?.ok_or_else(|| call.invalid("weight is missing"))?;
    let way = call.emit.binary(Binary::Sub, end, start)?;
    let way = call.emit.binary(Binary::Mul, weight, way)?;
    call.emit.binary(Binary::Add, start, way)
}

pub(in crate::import) fn add_fusion(call: &mut Call) -> Result<ValueId> {
    fusion(call, Binary::Add)
}

pub(in crate::import) fn sub_fusion(call: &mut Call) -> Result<ValueId> {
    fusion(call, Binary::Sub)
}

pub(in crate::import) fn mul_fusion(call: &mut Call) -> Result<ValueId> {
    fusion(call, Binary::Mul)
}

pub(in crate::import) fn div_fusion(call: &mut Call) -> Result<ValueId> {
    fusion(call, Binary::Div)
}

/// The Lite converter's operators end in an activation.
fn fusion(call: &mut Call, f: Binary) -> Result<ValueId> {
    let y = binary(call, f)?;
    activated(call, y)
}

pub(in crate::import) fn lite_activation(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    activated(call, x)
}

/// Applies the `activation_type` of a primitive of the Lite converter.
pub(super) fn activated(call: &mut Call, x: ValueId) -> Result<ValueId> {
    let Some(item) = call.attribute("activation_type") else { return Ok(x) };
    let Some(number) = call.item_dims(&item).and_then(|dims| dims.first()?.as_fixed()) else {
        return Err(call.unsupported("activation_type must be a number"));
    };
    let alpha = |call: &mut Call, default| match call.attribute("alpha") {
        Some(Item::Float(alpha)) => alpha,
        _ => default,
    };
    let f = match number {
        0 | 15 => return Ok(x),
        1 => Unary::Relu,
        2 => Unary::Sigmoid,
        3 => Unary::Relu6,
        4 => Unary::Elu { alpha: alpha(call, 1.0) },
        5 => Unary::LeakyRelu { alpha: alpha(call, 0.01) },
        6 => Unary::Abs,
        7 => Unary::Clip { low: -1.0, high: 1.0 },
        8 => Unary::Softsign,
        9 => Unary::Softplus,
        10 => Unary::Tanh,
        12 => Unary::HardSwish,
        13 => Unary::HardSigmoid,
        14 | 11 | 20 => return Err(call.unsupported(format!("activation_type {number} is not known"))),
        16 => Unary::Clip {
            low: call.float_or(ATTRIBUTE, "min_val", -1.0)?,
            high: call.float_or(ATTRIBUTE, "max_val", 1.0)?,
        },
        17 => Unary::Sign,
        18 | 23 => Unary::Silu,
        19 => match call.bool_opt(ATTRIBUTE, "approximate")? {
            Some(false) => Unary::Gelu,
            _ => Unary::GeluTanh,
        },
        22 => Unary::FastGelu,
        _ => return Err(call.unsupported(format!("activation_type {number} is not known"))),
    };
    call.emit.unary(f, x)
}
