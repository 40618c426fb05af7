//! Functions of single elements.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use mslite_graph_opt::ir::op::{Binary, Unary};
use mslite_tensor::{Complex, DType};

use super::array::{Array, Scalar, float, stored, with};

/// `f(x)` for an element of type `dtype`.
pub(super) fn unary(f: Unary, x: Scalar, dtype: DType) -> Result<Scalar, String> {
    match x {
        Scalar::Int(v) if dtype == DType::Bool => match f {
            Unary::Not => Ok(Scalar::from(v == 0)),
            _ => Err(undefined(f.name(), dtype)),
        },
        Scalar::Int(v) => int_unary(f, v).ok_or_else(|| undefined(f.name(), dtype)),
        Scalar::Float(v) => float_unary(f, v).ok_or_else(|| undefined(f.name(), dtype)),
        Scalar::Complex(v) => complex_unary(f, v).ok_or_else(|| undefined(f.name(), dtype)),
    }
}

/// `f(a) * b` of the halves of the last axis.
pub(super) fn gated(f: Unary, x: &Array, dims: &[usize]) -> Result<Array, String> {
    let axis = dims.len() - 1;
    Array::build(x.dtype, dims, |index| {
        let half = |n: usize| x.at(&with(index, axis, index[axis] + n * dims[axis]));
        let gate = stored(x.dtype, unary(f, half(0), x.dtype)?);
        Ok(Scalar::Float(float(gate) * float(half(1))))
    })
}

fn undefined(function: &str, dtype: DType) -> String {
    format!("{function} has no reference for {dtype}")
}

fn int_unary(f: Unary, v: i128) -> Option<Scalar> {
    let result = match f {
        Unary::Abs => v.abs(),
        Unary::Neg => -v,
        Unary::Sign => v.signum(),
        Unary::Square => v.wrapping_mul(v),
        Unary::Relu => v.max(0),
        Unary::Relu6 => v.clamp(0, 6),
        Unary::Clip { low, high } => (v as f64).max(low).min(high) as i128,
        Unary::Not => !v,
        Unary::Floor | Unary::Ceil | Unary::Round | Unary::Trunc => v,
        Unary::IsNan | Unary::IsInf => 0,
        Unary::IsFinite => 1,
        _ => return None,
    };
    Some(Scalar::Int(result))
}

fn float_unary(f: Unary, v: f64) -> Option<Scalar> {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let result = match f {
        Unary::Abs => v.abs(),
        Unary::Neg => -v,
        Unary::Sign if v > 0.0 => 1.0,
        Unary::Sign if v < 0.0 => -1.0,
        Unary::Sign => v,
        Unary::Exp => v.exp(),
        Unary::Expm1 => v.exp_m1(),
        Unary::Log => v.ln(),
        Unary::Log1p => v.ln_1p(),
        Unary::Sqrt => v.sqrt(),
        Unary::Rsqrt => 1.0 / v.sqrt(),
        Unary::Square => v * v,
        Unary::Reciprocal => 1.0 / v,
        Unary::Floor => v.floor(),
        Unary::Ceil => v.ceil(),
        Unary::Round => v.round_ties_even(),
        Unary::Trunc => v.trunc(),
        Unary::Sin => v.sin(),
        Unary::Cos => v.cos(),
        Unary::Tan => v.tan(),
        Unary::Asin => v.asin(),
        Unary::Acos => v.acos(),
        Unary::Atan => v.atan(),
        Unary::Sinh => v.sinh(),
        Unary::Cosh => v.cosh(),
        Unary::Tanh => v.tanh(),
        Unary::Erf => libm::erf(v),
        Unary::Erfc => libm::erfc(v),
        Unary::Sigmoid => sigmoid(v),
        Unary::Relu => clip(v, 0.0, f64::INFINITY),
        Unary::Relu6 => clip(v, 0.0, 6.0),
        Unary::Gelu => v * (1.0 + libm::erf(v * FRAC_1_SQRT_2)) / 2.0,
        Unary::GeluTanh => v / 2.0 * (1.0 + ((2.0 / PI).sqrt() * (v + 0.044_715 * v * v * v)).tanh()),
        Unary::FastGelu => v * sigmoid(1.702 * v),
        Unary::Silu => v * sigmoid(v),
        Unary::Mish => v * softplus(v).tanh(),
        Unary::HardSwish => v * clip(v + 3.0, 0.0, 6.0) / 6.0,
        Unary::HardSigmoid => clip(v / 6.0 + 0.5, 0.0, 1.0),
        Unary::Softplus => softplus(v),
        Unary::Softsign => v / (1.0 + v.abs()),
        Unary::Elu { alpha } => if_positive(v, alpha * v.exp_m1()),
        Unary::LeakyRelu { alpha } => if_positive(v, alpha * v),
        Unary::Clip { low, high } => clip(v, low, high),
        Unary::IsNan => return Some(Scalar::from(v.is_nan())),
        Unary::IsInf => return Some(Scalar::from(v.is_infinite())),
        Unary::IsFinite => return Some(Scalar::from(v.is_finite())),
        _ => return None,
    };
    Some(Scalar::Float(result))
}

/// `log(1 + exp(x))`, without overflow.
fn softplus(v: f64) -> f64 {
    if v > 0.0 { v + (-v).exp().ln_1p() } else { v.exp().ln_1p() }
}

fn if_positive(v: f64, otherwise: f64) -> f64 {
    if v > 0.0 { v } else { otherwise }
}

/// NaN stays NaN.
fn clip(v: f64, low: f64, high: f64) -> f64 {
    match v {
        v if v < low => low,
        v if v > high => high,
        v => v,
    }
}

fn complex_unary(f: Unary, v: Complex<f64>) -> Option<Scalar> {
    let result = match f {
        Unary::Neg => -v,
        Unary::Square => v * v,
        Unary::Reciprocal => v.inv(),
        Unary::Exp => v.exp(),
        Unary::Log => v.ln(),
        Unary::Sqrt => v.sqrt(),
        Unary::Sin => v.sin(),
        Unary::Cos => v.cos(),
        Unary::Tanh => v.tanh(),
        Unary::SwapParts => Complex::new(v.im, v.re),
        _ => return None,
    };
    Some(Scalar::Complex(result))
}

/// `f(x, y)` for elements of type `dtype`.
pub(super) fn binary(f: Binary, x: Scalar, y: Scalar, dtype: DType) -> Result<Scalar, String> {
    match (x, y) {
        (Scalar::Int(a), Scalar::Int(b)) => int_binary(f, a, b, dtype),
        (Scalar::Float(a), Scalar::Float(b)) => {
            float_binary(f, a, b).ok_or_else(|| undefined(f.name(), dtype))
        }
        (Scalar::Complex(a), Scalar::Complex(b)) => {
            complex_binary(f, a, b).ok_or_else(|| undefined(f.name(), dtype))
        }
        _ => Err(format!("{x:?} and {y:?} differ in type")),
    }
}

/// Truth values are stored as "not 0", so that sums are "or" and products "and".
fn int_binary(f: Binary, a: i128, b: i128, dtype: DType) -> Result<Scalar, String> {
    if let Some(answer) = comparison(f, a.partial_cmp(&b)) {
        return Ok(Scalar::from(answer));
    }
    let divided = || floor_div(a, b).ok_or_else(|| "division by 0".to_owned());
    let truncated = || a.checked_div(b).ok_or_else(|| "division by 0".to_owned());
    let result = match f {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a.wrapping_mul(b),
        Binary::FloorDiv => divided()?,
        Binary::TruncDiv => truncated()?,
        Binary::FloorMod => a - divided()? * b,
        Binary::TruncMod => a - truncated()? * b,
        Binary::Pow => int_pow(a, b)?,
        Binary::Maximum => a.max(b),
        Binary::Minimum => a.min(b),
        Binary::SquaredDifference => (a - b).wrapping_mul(a - b),
        Binary::And => a & b,
        Binary::Or => a | b,
        Binary::Xor => a ^ b,
        _ => return Err(undefined(f.name(), dtype)),
    };
    Ok(Scalar::Int(result))
}

fn floor_div(a: i128, b: i128) -> Option<i128> {
    let quotient = a.checked_div(b)?;
    Some(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
}

fn int_pow(base: i128, exponent: i128) -> Result<i128, String> {
    let exponent = u32::try_from(exponent).map_err(|_| format!("{base} to the power of {exponent}"))?;
    Ok((0..exponent).fold(1i128, |product, _| product.wrapping_mul(base)))
}

fn float_binary(f: Binary, a: f64, b: f64) -> Option<Scalar> {
    if f.is_comparison() {
        return comparison(f, a.partial_cmp(&b)).map(Scalar::from);
    }
    let result = match f {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::FloorDiv => (a / b).floor(),
        Binary::TruncDiv => (a / b).trunc(),
        Binary::FloorMod => a - (a / b).floor() * b,
        Binary::TruncMod => a - (a / b).trunc() * b,
        Binary::Pow => a.powf(b),
        Binary::Maximum => a.max(b),
        Binary::Minimum => a.min(b),
        Binary::SquaredDifference => (a - b) * (a - b),
        Binary::Atan2 => a.atan2(b),
        _ => return None,
    };
    Some(Scalar::Float(result))
}

/// `None` for what is not a comparison; NaN is only "not equal".
fn comparison(f: Binary, order: Option<std::cmp::Ordering>) -> Option<bool> {
    Some(match f {
        Binary::Equal => order.is_some_and(|o| o.is_eq()),
        Binary::NotEqual => order.is_none_or(|o| o.is_ne()),
        Binary::Less => order.is_some_and(|o| o.is_lt()),
        Binary::LessEqual => order.is_some_and(|o| o.is_le()),
        Binary::Greater => order.is_some_and(|o| o.is_gt()),
        Binary::GreaterEqual => order.is_some_and(|o| o.is_ge()),
        _ => return None,
    })
}

fn complex_binary(f: Binary, a: Complex<f64>, b: Complex<f64>) -> Option<Scalar> {
    let result = match f {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Pow => a.powc(b),
        Binary::Equal => return Some(Scalar::from(a == b)),
        Binary::NotEqual => return Some(Scalar::from(a != b)),
        _ => return None,
    };
    Some(Scalar::Complex(result))
}
