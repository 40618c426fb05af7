//! Special functions, from series and integrals of elementary ones. They are computed in f64.

use mslite_tensor::{DType, Dim, Tensor};

use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::Emitter;
use crate::ir::ValueId;
use crate::ir::op::{Binary, ReduceKind, Unary};

/// The operand in f64, and the type of the result.
fn wide(call: &mut Call) -> Result<(ValueId, DType)> {
    let x = call.tensor(0, "x")?;
    let dtype = call.emit.dtype(x);
    let result = if dtype.is_float() { dtype } else { DType::F32 };
    Ok((call.emit.cast(x, DType::F64)?, result))
}

/// The logarithm of the size of the gamma function.
pub(in crate::import) fn log_gamma(call: &mut Call) -> Result<ValueId> {
    let (x, dtype) = wide(call)?;
    let y = log_gamma_of(call.emit, x)?;
    call.emit.cast(y, dtype)
}

/// `f` of x from 1/2 on, and elsewhere what its reflection makes of `f(1 - x)`.
fn reflected(
    emit: &mut Emitter,
    x: ValueId,
    f: impl FnOnce(&mut Emitter, ValueId) -> Result<ValueId>,
    reflection: impl FnOnce(&mut Emitter, ValueId) -> Result<ValueId>,
) -> Result<ValueId> {
    let is_low = emit.with_scalar(Binary::Less, x, 0.5)?;
    let one = emit.scalar(1.0, DType::F64)?;
    let mirrored = emit.binary(Binary::Sub, one, x)?;
    let high = emit.select(is_low, mirrored, x)?;
    let y = f(emit, high)?;
    let correction = reflection(emit, x)?;
    let low = emit.binary(Binary::Sub, correction, y)?;
    emit.select(is_low, low, y)
}

fn log_gamma_of(emit: &mut Emitter, x: ValueId) -> Result<ValueId> {
    let y = reflected(emit, x, lanczos, |emit, x| {
        // log(pi / |sin(pi x)|)
        let sin = sin_pi(emit, x)?;
        let size = emit.unary(Unary::Abs, sin)?;
        let log = emit.unary(Unary::Log, size)?;
        let pi = emit.scalar(std::f64::consts::PI.ln(), DType::F64)?;
        emit.binary(Binary::Sub, pi, log)
    })?;
    let is_infinite = emit.unary(Unary::IsInf, x)?;
    let infinity = emit.scalar(f64::INFINITY, DType::F64)?;
    emit.select(is_infinite, infinity, y)
}

/// `sin(pi x)`, exactly 0 for whole numbers.
fn sin_pi(emit: &mut Emitter, x: ValueId) -> Result<ValueId> {
    let nearest = emit.unary(Unary::Round, x)?;
    let rest = emit.binary(Binary::Sub, x, nearest)?;
    let angle = emit.with_scalar(Binary::Mul, rest, std::f64::consts::PI)?;
    let sin = emit.unary(Unary::Sin, angle)?;
    let odd = emit.with_scalar(Binary::FloorMod, nearest, 2.0)?;
    let sign = emit.with_scalar(Binary::Mul, odd, -2.0)?;
    let sign = emit.with_scalar(Binary::Add, sign, 1.0)?;
    emit.binary(Binary::Mul, sin, sign)
}

/// Lanczos' approximation with g = 7, from 1/2 on.
fn lanczos(emit: &mut Emitter, x: ValueId) -> Result<ValueId> {
    const FIRST: f64 = 0.999_999_999_999_809_9;
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let z = emit.with_scalar(Binary::Sub, x, 1.0)?;
    let mut sum = emit.scalar(FIRST, DType::F64)?;
    for (i, term) in TERMS.into_iter().enumerate() {
        let below = emit.with_scalar(Binary::Add, z, (i + 1) as f64)?;
        let term = emit.scalar(term, DType::F64)?;
        let part = emit.binary(Binary::Div, term, below)?;
        sum = emit.binary(Binary::Add, sum, part)?;
    }
    // (z + 1/2) log(t) - t + log(sqrt(2 pi) sum) with t = z + 7.5
    let t = emit.with_scalar(Binary::Add, z, 7.5)?;
    let power = emit.with_scalar(Binary::Add, z, 0.5)?;
    let log = emit.unary(Unary::Log, t)?;
    let product = emit.binary(Binary::Mul, power, log)?;
    let rest = emit.unary(Unary::Log, sum)?;
    let rest = emit.with_scalar(Binary::Add, rest, std::f64::consts::TAU.ln() / 2.0)?;
    let y = emit.binary(Binary::Sub, product, t)?;
    emit.binary(Binary::Add, y, rest)
}

/// `(x)`, `p` as an attribute: `p (p - 1) / 4 log(pi) + sum of log gamma(x - j / 2)` for j below p.
pub(in crate::import) fn multivariate_log_gamma(call: &mut Call) -> Result<ValueId> {
    let (x, dtype) = wide(call)?;
    let p = call.required_int(ATTRIBUTE, "p")?;
    if !(1..=1024).contains(&p) {
        return Err(call.unsupported(format!("p is {p}")));
    }
    let constant = (p * (p - 1)) as f64 / 4.0 * std::f64::consts::PI.ln();
    let mut sum = call.emit.scalar(constant, DType::F64)?;
    for j in 0..p {
        let moved = call.emit.with_scalar(Binary::Sub, x, j as f64 / 2.0)?;
        let log = log_gamma_of(call.emit, moved)?;
        sum = call.emit.binary(Binary::Add, sum, log)?;
    }
    call.emit.cast(sum, dtype)
}

/// The derivative of the logarithm of the gamma function.
pub(in crate::import) fn digamma(call: &mut Call) -> Result<ValueId> {
    let (x, dtype) = wide(call)?;
    let one = call.emit.scalar(1.0, DType::F64)?;
    let is_low = call.emit.with_scalar(Binary::Less, x, 0.5)?;
    let mirrored = call.emit.binary(Binary::Sub, one, x)?;
    let high = call.emit.select(is_low, mirrored, x)?;
    let y = digamma_from_half(call.emit, high)?;
    // digamma(1 - x) - pi / tan(pi x)
    let angle = call.emit.with_scalar(Binary::Mul, x, std::f64::consts::PI)?;
    let tan = call.emit.unary(Unary::Tan, angle)?;
    let pi = call.emit.scalar(std::f64::consts::PI, DType::F64)?;
    let correction = call.emit.binary(Binary::Div, pi, tan)?;
    let low = call.emit.binary(Binary::Sub, y, correction)?;
    let y = call.emit.select(is_low, low, y)?;
    call.emit.cast(y, dtype)
}

/// The asymptotic series ten places further on, less the steps up to there.
fn digamma_from_half(emit: &mut Emitter, x: ValueId) -> Result<ValueId> {
    const STEPS: usize = 10;
    const SERIES: [f64; 6] =
        [-1.0 / 12.0, 1.0 / 120.0, -1.0 / 252.0, 1.0 / 240.0, -1.0 / 132.0, 691.0 / 32760.0];
    let far = emit.with_scalar(Binary::Add, x, STEPS as f64)?;
    let mut sum = emit.unary(Unary::Log, far)?;
    let inverse = emit.unary(Unary::Reciprocal, far)?;
    let half = emit.with_scalar(Binary::Mul, inverse, 0.5)?;
    sum = emit.binary(Binary::Sub, sum, half)?;
    let square = emit.unary(Unary::Square, inverse)?;
    let mut power = square;
    for factor in SERIES {
        let term = emit.with_scalar(Binary::Mul, power, factor)?;
        sum = emit.binary(Binary::Add, sum, term)?;
        power = emit.binary(Binary::Mul, power, square)?;
    }
    for step in 0..STEPS {
        let at = emit.with_scalar(Binary::Add, x, step as f64)?;
        let part = emit.unary(Unary::Reciprocal, at)?;
        sum = emit.binary(Binary::Sub, sum, part)?;
    }
    Ok(sum)
}

/// Bessel functions of whole order: the first and second kind of imaginary arguments, and the first of real ones.
pub(in crate::import) fn bessel(call: &mut Call) -> Result<ValueId> {
    let (x, dtype) = wide(call)?;
    let name = call.op_type.trim_start_matches("Bessel");
    let order = f64::from(u8::from(name.contains('1')));
    let scaled = name.ends_with('e');
    let y = match name.chars().next() {
        Some('J') => oscillating(call.emit, x, order)?,
        Some('I') => growing(call.emit, x, order, scaled)?,
        _ => decaying(call.emit, x, order, scaled)?,
    };
    call.emit.cast(y, dtype)
}

/// The sum over nodes of `f(x, node) * weight(node)`; `f` gets x with a new last axis, and a vector of nodes.
fn summed(
    emit: &mut Emitter,
    x: ValueId,
    nodes: &[f64],
    weights: &[f64],
    f: impl FnOnce(&mut Emitter, ValueId, ValueId) -> Result<ValueId>,
) -> Result<ValueId> {
    let dims = emit.dims(x)?;
    let apart = emit.reshape(x, [&dims[..], &[Dim::from(1)]].concat())?;
    let vector = |emit: &mut Emitter, values: &[f64]| {
        let tensor = Tensor::from_vec(values.to_vec(), &[values.len()]);
        Ok::<_, crate::Error>(emit.builder.constant("", tensor.map_err(|e| emit.invalid(e.to_string()))?))
    };
    let (nodes, weights) = (vector(emit, nodes)?, vector(emit, weights)?);
    let y = f(emit, apart, nodes)?;
    let y = emit.binary(Binary::Mul, y, weights)?;
    emit.reduce(ReduceKind::Sum, y, vec![dims.len()], false)
}

/// Nodes of the trapezoidal rule over half a period, which is exact for what is periodic and smooth.
const PERIODIC: usize = 512;

fn periodic(f: impl Fn(f64) -> f64) -> (Vec<f64>, Vec<f64>) {
    let nodes: Vec<f64> = (0..=PERIODIC).map(|i| std::f64::consts::PI * i as f64 / PERIODIC as f64).collect();
    let end = |i: usize| if i == 0 || i == PERIODIC { 0.5 } else { 1.0 };
    let weights = nodes.iter().enumerate().map(|(i, &t)| end(i) * f(t) / PERIODIC as f64).collect();
    (nodes, weights)
}

/// `1 / pi * integral of cos(n t - x sin t)` over half a period.
fn oscillating(emit: &mut Emitter, x: ValueId, order: f64) -> Result<ValueId> {
    let (nodes, weights) = periodic(|_| 1.0);
    let turns: Vec<f64> = nodes.iter().map(|t| order * t).collect();
    let sines: Vec<f64> = nodes.iter().map(|t| t.sin()).collect();
    summed(emit, x, &sines, &weights, |emit, x, sines| {
        let tensor = Tensor::from_vec(turns, &[PERIODIC + 1]).map_err(|e| emit.invalid(e.to_string()))?;
        let turns = emit.builder.constant("", tensor);
        let moved = emit.binary(Binary::Mul, x, sines)?;
        let angle = emit.binary(Binary::Sub, turns, moved)?;
        emit.unary(Unary::Cos, angle)
    })
}

/// `1 / pi * integral of exp(x cos t) cos(n t)` over half a period, times `exp(-|x|)` if scaled.
fn growing(emit: &mut Emitter, x: ValueId, order: f64, scaled: bool) -> Result<ValueId> {
    let (nodes, weights) = periodic(|t| (order * t).cos());
    let cosines: Vec<f64> = nodes.iter().map(|t| t.cos()).collect();
    let size = emit.unary(Unary::Abs, x)?;
    let y = summed(emit, x, &cosines, &weights, |emit, x, cosines| {
        let size = emit.unary(Unary::Abs, x)?;
        let product = emit.binary(Binary::Mul, x, cosines)?;
        let less = emit.binary(Binary::Sub, product, size)?;
        emit.unary(Unary::Exp, less)
    })?;
    if scaled {
        return Ok(y);
    }
    let growth = emit.unary(Unary::Exp, size)?;
    emit.binary(Binary::Mul, y, growth)
}

/// `integral of exp(-x cosh t) cosh(n t)` from 0 on, times `exp(x)` if scaled.
fn decaying(emit: &mut Emitter, x: ValueId, order: f64, scaled: bool) -> Result<ValueId> {
    const STEP: f64 = 1.0 / 16.0;
    let nodes: Vec<f64> = (0..512).map(|i| STEP * f64::from(i)).collect();
    let weights: Vec<f64> =
        nodes.iter().map(|&t| if t == 0.0 { STEP / 2.0 } else { STEP * (order * t).cosh() }).collect();
    let less: Vec<f64> = nodes.iter().map(|&t| if scaled { t.cosh() - 1.0 } else { t.cosh() }).collect();
    summed(emit, x, &less, &weights, |emit, x, less| {
        let product = emit.binary(Binary::Mul, x, less)?;
        let negative = emit.unary(Unary::Neg, product)?;
        emit.unary(Unary::Exp, negative)
    })
}
