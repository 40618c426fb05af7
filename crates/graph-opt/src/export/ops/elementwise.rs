use std::f64::consts::FRAC_1_SQRT_2;

use mslite_mindir::type_id_of_dtype;
use mslite_tensor::{DType, Dim, TensorSpec};

use crate::Result;
use crate::export::writer::{Item, Writer};
use crate::ir::op::{Binary, Op, Unary};

/// How a function is called.
enum Spelling {
    /// All arguments are operands.
    Function(&'static str),
    /// Options are attributes.
    Primitive(&'static str),
    /// By several primitives, or with options.
    Special,
}

use Spelling::{Function as F, Primitive as P, Special};

#[rustfmt::skip]
fn unary_spelling(f: Unary) -> Spelling {
    match f {
        Unary::Abs => F("Abs"), Unary::Neg => F("Neg"), Unary::Sign => F("Sign"), Unary::Exp => F("Exp"),
        Unary::Expm1 => F("Expm1"), Unary::Log1p => F("Log1p"), Unary::Sqrt => F("Sqrt"),
        Unary::Rsqrt => F("Rsqrt"), Unary::Square => F("Square"), Unary::Reciprocal => F("Reciprocal"),
        Unary::Floor => F("Floor"), Unary::Ceil => F("Ceil"), Unary::Trunc => F("Trunc"), Unary::Sin => F("Sin"),
        Unary::Cos => F("Cos"), Unary::Tan => F("Tan"), Unary::Asin => F("Asin"), Unary::Acos => F("ACos"),
        Unary::Atan => F("Atan"), Unary::Sinh => F("Sinh"), Unary::Cosh => F("Cosh"), Unary::Tanh => F("Tanh"),
        Unary::Erf => F("Erf"), Unary::Erfc => F("Erfc"), Unary::Sigmoid => F("Sigmoid"),
        Unary::Relu => F("ReLU"), Unary::Relu6 => F("ReLU6"), Unary::GeluTanh => F("GeLU"),
        Unary::FastGelu => F("FastGeLU"), Unary::Silu => F("SiLU"), Unary::Mish => P("Mish"),
        Unary::HardSwish => F("HSwish"), Unary::HardSigmoid => F("HSigmoid"), Unary::Softplus => P("Softplus"),
        Unary::Softsign => P("Softsign"), Unary::IsNan => P("IsNan"), Unary::IsInf => F("IsInf"),
        Unary::IsFinite => F("IsFinite"),
        Unary::Log | Unary::Round | Unary::Gelu | Unary::Not | Unary::Elu { .. } | Unary::LeakyRelu { .. }
        | Unary::Clip { .. } | Unary::SwapParts => Special,
    }
}

#[rustfmt::skip]
fn binary_spelling(f: Binary) -> Spelling {
    match f {
        Binary::Add => F("Add"), Binary::Sub => F("Sub"), Binary::Mul => F("Mul"), Binary::Div => F("Div"),
        Binary::FloorDiv => F("FloorDiv"), Binary::TruncDiv => P("TruncateDiv"), Binary::FloorMod => F("FloorMod"),
        Binary::TruncMod => P("TruncateMod"), Binary::Pow => F("Pow"), Binary::Maximum => F("Maximum"),
        Binary::Minimum => F("Minimum"), Binary::SquaredDifference => P("SquaredDifference"),
        Binary::Atan2 => F("Atan2"), Binary::Equal => F("Equal"), Binary::NotEqual => F("NotEqual"),
        Binary::Less => F("Less"), Binary::LessEqual => F("LessEqual"), Binary::Greater => F("Greater"),
        Binary::GreaterEqual => F("GreaterEqual"), Binary::And | Binary::Or | Binary::Xor => Special,
    }
}

pub(in crate::export) fn unary(w: &mut Writer, f: Unary, x: &Item, spec: &TensorSpec) -> Result<Item> {
    Ok(match (unary_spelling(f), f) {
        (F(name), _) => w.function(name, &[x.into()], spec),
        (P(name), _) => w.attributed(name, &[], &[x.into()], spec),
        (_, Unary::Log) => log(w, x, spec),
        (_, Unary::Round) => w.function("Round", &[x.into(), 0.into()], spec),
        (_, Unary::Gelu) => return gelu(w, x),
        (_, Unary::SwapParts) => swap_parts(w, x, spec),
        (_, Unary::Elu { alpha }) => return elu(w, x, alpha, spec),
        (_, Unary::LeakyRelu { alpha }) => return leaky_relu(w, x, alpha),
        (_, Unary::Clip { low, high }) => {
            let y = w.with_scalar(Binary::Maximum, x, low)?;
            return w.with_scalar(Binary::Minimum, &y, high);
        }
        _ if spec.dtype == DType::Bool => w.function("LogicalNot", &[x.into()], spec),
        _ => w.attributed("Invert", &[], &[x.into()], spec),
    })
}

fn swap_parts(w: &mut Writer, x: &Item, spec: &TensorSpec) -> Item {
    let part = if spec.dtype == DType::C64 { DType::F32 } else { DType::F64 };
    let part = TensorSpec::new(part, spec.shape.clone());
    let real = w.function("Real", &[x.into()], &part);
    let imaginary = w.attributed("Imag", &[], &[x.into()], &part);
    w.function("Complex", &[(&imaginary).into(), (&real).into()], spec)
}

/// The one function that keeps its attributes.
fn log(w: &mut Writer, x: &Item, spec: &TensorSpec) -> Item {
    let mut primitive =
        w.primitive("Log", &[("base", (-1f32).into()), ("scale", 1f32.into()), ("shift", 0f32.into())]);
    primitive.kind = mslite_mindir::PrimitiveKind::Function;
    w.apply(&primitive, &[x.into()], spec)
}

/// `x * (1 + erf(x / sqrt 2)) / 2`
fn gelu(w: &mut Writer, x: &Item) -> Result<Item> {
    let wide = if x.spec.dtype.size() < 4 { DType::F32 } else { x.spec.dtype };
    let narrow = w.cast(x, wide)?;
    let scaled = w.with_scalar(Binary::Mul, &narrow, FRAC_1_SQRT_2)?;
    let erf = w.op(Op::Unary(Unary::Erf), &[&scaled])?;
    let gate = w.with_scalar(Binary::Add, &erf, 1.0)?;
    let y = w.binary(Binary::Mul, &narrow, &gate)?;
    let y = w.with_scalar(Binary::Mul, &y, 0.5)?;
    w.cast(&y, x.spec.dtype)
}

/// MindSpore has no other alpha than 1 on the CPU: `relu(x) + alpha * elu(min(x, 0))`.
fn elu(w: &mut Writer, x: &Item, alpha: f64, spec: &TensorSpec) -> Result<Item> {
    if alpha == 1.0 {
        return Ok(w.function("Elu", &[x.into(), 1f32.into()], spec));
    }
    let positive = w.op(Op::Unary(Unary::Relu), &[x])?;
    let negative = w.with_scalar(Binary::Minimum, x, 0.0)?;
    let negative = w.op(Op::Unary(Unary::Elu { alpha: 1.0 }), &[&negative])?;
    let negative = w.with_scalar(Binary::Mul, &negative, alpha)?;
    w.binary(Binary::Add, &positive, &negative)
}

/// The larger of `x` and `alpha * x` while alpha is at most 1, else the smaller.
fn leaky_relu(w: &mut Writer, x: &Item, alpha: f64) -> Result<Item> {
    let scaled = w.with_scalar(Binary::Mul, x, alpha)?;
    w.binary(if alpha <= 1.0 { Binary::Maximum } else { Binary::Minimum }, x, &scaled)
}

pub(in crate::export) fn binary(
    w: &mut Writer,
    f: Binary,
    [x, y]: [&Item; 2],
    spec: &TensorSpec,
) -> Result<Item> {
    let args = [x.into(), y.into()];
    let is_bool = x.spec.dtype == DType::Bool;
    Ok(match (binary_spelling(f), f) {
        (F(name), _) => w.function(name, &args, spec),
        (P(name), _) => w.attributed(name, &[], &args, spec),
        (_, Binary::And) if is_bool => w.function("LogicalAnd", &args, spec),
        (_, Binary::Or) if is_bool => w.function("LogicalOr", &args, spec),
        (_, Binary::Xor) if is_bool => w.function("LogicalXor", &args, spec),
        (_, Binary::And) => w.attributed("BitwiseAnd", &[], &args, spec),
        (_, Binary::Or) => w.attributed("BitwiseOr", &[], &args, spec),
        _ => w.attributed("BitwiseXor", &[], &args, spec),
    })
}

pub(in crate::export) fn cast(w: &mut Writer, x: &Item, dtype: DType, spec: &TensorSpec) -> Result<Item> {
    let id = type_id(w, dtype)?;
    Ok(w.function("Cast", &[x.into(), id.into()], spec))
}

/// The number of an element type.
pub(super) fn type_id(w: &Writer, dtype: DType) -> Result<i64> {
    type_id_of_dtype(dtype)
        .ok_or_else(|| w.unsupported("an element type", format!("MindSpore has no {dtype}")))
}

/// `f(a) * b` of the halves a and b of the last axis.
pub(in crate::export) fn gated(w: &mut Writer, f: Unary, x: &Item) -> Result<Item> {
    let last = w.dims(x)?.len() - 1;
    let half = w.dims(x)?[last].floor_div(&Dim::from(2));
    let (a, b) = (w.part(x, last, Dim::from(0), half.clone())?, w.part(x, last, half.clone(), half)?);
    let a = w.op(Op::Unary(f), &[&a])?;
    w.binary(Binary::Mul, &a, &b)
}
