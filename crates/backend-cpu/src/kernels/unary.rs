use std::marker::PhantomData;

use bytemuck::Zeroable;
use mslite_graph_opt::ir::op::Unary;
use mslite_runtime::Result;
use mslite_tensor::DType;

use super::math::Real;
use super::{BoxKernel, Build, Kernel};
use crate::arena::Args;
use crate::scalar::{Bit, CHUNK, Scalar, with_type};
use crate::simd::map;

pub(super) fn build(f: Unary, cx: &Build<'_>) -> Option<BoxKernel> {
    let dtype = cx.inputs[0].dtype;
    if dtype.is_complex() {
        return super::complex::unary(f, dtype);
    }
    if f.is_predicate() && dtype.is_float() {
        return with_type!(dtype, T in float => Box::new(Predicate::<T>(f, PhantomData)) as BoxKernel);
    }
    if dtype.is_float() {
        return with_type!(dtype, T in float => Box::new(Floats::<T>(f, PhantomData)) as BoxKernel);
    }
    if dtype == DType::Bool && f == Unary::Not {
        return Some(Box::new(Not));
    }
    if !is_integral(f) {
        return None;
    }
    with_type!(dtype, T in int => Box::new(Integers::<T>(f, PhantomData)) as BoxKernel)
}

/// Whether a function is defined for integers.
pub(super) fn is_integral(f: Unary) -> bool {
    use Unary::{
        Abs, Ceil, Clip, Floor, IsFinite, IsInf, IsNan, Neg, Not, Relu, Relu6, Round, Sign, Square, Trunc,
    };
    matches!(
        f,
        Abs | Ceil
            | Clip { .. }
            | Floor
            | IsFinite
            | IsInf
            | IsNan
            | Neg
            | Not
            | Relu
            | Relu6
            | Round
            | Sign
            | Square
            | Trunc
    )
}

#[derive(Debug)]
struct Floats<T>(Unary, PhantomData<T>);

impl<T: Scalar<Work: Real>> Kernel for Floats<T> {
    fn in_place(&self, _operand: usize) -> bool {
        true
    }

    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let x = args.elements::<T>(0);
        let y = args.output::<T>(0);
        args.team.split_costly(y, CHUNK, cost(self.0), |at, part| {
            let (mut from, mut to) = ([T::Work::zeroed(); CHUNK], [T::Work::zeroed(); CHUNK]);
            for (i, y) in part.chunks_mut(CHUNK).enumerate() {
                let x = x.load(at + i * CHUNK, y, &mut from);
                T::store(y, &mut to, |y| apply(self.0, x, y, T::step));
            }
        });
        Ok(())
    }
}

pub(super) fn gated(f: Unary, cx: &Build<'_>) -> Option<BoxKernel> {
    let half = *cx.outputs[0].dims.last()?;
    with_type!(cx.inputs[0].dtype, T in float => Box::new(Gated::<T> { f, half, element: PhantomData }) as BoxKernel)
}

/// `f(a) * b` of the halves of rows.
#[derive(Debug)]
struct Gated<T> {
    f: Unary,
    half: usize,
    element: PhantomData<T>,
}

impl<T: Scalar<Work: Real>> Kernel for Gated<T> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let x = args.input::<T>(0);
        let y = args.output::<T>(0);
        if y.is_empty() {
            return Ok(());
        }
        args.team.split_costly(y, self.half, cost(self.f), |at, part| {
            for (x, y) in x[2 * at..].chunks(2 * self.half).zip(part.chunks_mut(self.half)) {
                let (a, b) = x.split_at(self.half);
                self.row(a, b, y);
            }
        });
        Ok(())
    }
}

impl<T: Scalar<Work: Real>> Gated<T> {
    fn row(&self, a: &[T], b: &[T], y: &mut [T]) {
        let (mut from, mut to) = ([T::Work::zeroed(); CHUNK], [T::Work::zeroed(); CHUNK]);
        let mut gates = [T::Work::zeroed(); CHUNK];
        for ((a, b), y) in a.chunks(CHUNK).zip(b.chunks(CHUNK)).zip(y.chunks_mut(CHUNK)) {
            let gates = &mut gates[..y.len()];
            apply(self.f, T::load(a, &mut from), gates, T::step);
            let b = T::load(b, &mut from);
            T::store(y, &mut to, |y| {
                for ((y, gate), &b) in y.iter_mut().zip(&*gates).zip(b) {
                    *y = T::narrow(gate.widen()).to_work().mul(b);
                }
            });
        }
    }
}

/// Roughly, how long a function takes, compared with an addition.
fn cost(f: Unary) -> usize {
    use Unary::{Abs, Neg, Relu, Square};
    if matches!(f, Abs | Neg | Relu | Square) { 1 } else { 8 }
}

/// Applies the function to every element of `x`; `step` is taken between the steps of composed functions.
pub(super) fn apply<T: Real>(f: Unary, x: &[T], y: &mut [T], step: impl Fn(T) -> T + Copy) {
    use Unary as U;
    let c = T::from_f64;
    match f {
        U::Abs => map(x, y, T::abs),
        U::Neg => map(x, y, |v| c(-1.0).mul(v)),
        U::Sign => map(x, y, |v| {
            if v > c(0.0) {
                c(1.0)
            } else if v < c(0.0) {
                c(-1.0)
            } else {
                v
            }
        }),
        U::Exp => map(x, y, T::exp),
        U::Expm1 => map(x, y, T::expm1),
        U::Log => map(x, y, T::ln),
        U::Log1p => map(x, y, T::ln_1p),
        U::Sqrt => map(x, y, T::sqrt),
        U::Rsqrt => map(x, y, |v| c(1.0).div(step(v.sqrt()))),
        U::Square => map(x, y, |v| v.mul(v)),
        U::Reciprocal => map(x, y, |v| c(1.0).div(v)),
        U::Floor => map(x, y, T::floor),
        U::Ceil => map(x, y, T::ceil),
        U::Round => map(x, y, T::round_even),
        U::Trunc => map(x, y, T::trunc),
        U::Sin => map(x, y, T::sin),
        U::Cos => map(x, y, T::cos),
        U::Tan => map(x, y, T::tan),
        U::Asin => map(x, y, T::asin),
        U::Acos => map(x, y, T::acos),
        U::Atan => map(x, y, T::atan),
        U::Sinh => map(x, y, T::sinh),
        U::Cosh => map(x, y, T::cosh),
        U::Tanh => map(x, y, T::tanh),
        U::Erf => map(x, y, T::erf),
        U::Erfc => map(x, y, T::erfc),
        U::Sigmoid => map(x, y, |v| sigmoid(v, step)),
        U::Relu => map(x, y, |v| if v < c(0.0) { c(0.0) } else { v }),
        U::Relu6 => map(x, y, |v| clip(v, c(0.0), c(6.0))),
        U::Gelu => map(x, y, gelu::<T>),
        U::GeluTanh => map(x, y, gelu_tanh::<T>),
        U::FastGelu => map(x, y, fast_gelu::<T>),
        U::Silu => map(x, y, |v| v.mul(step(sigmoid(v, step)))),
        U::Mish => map(x, y, |v| v.mul(softplus(v).tanh())),
        U::HardSwish => map(x, y, |v| v.mul(clip(v.add(c(3.0)), c(0.0), c(6.0))).div(c(6.0))),
        U::HardSigmoid => map(x, y, |v| clip(v.div(c(6.0)).add(c(0.5)), c(0.0), c(1.0))),
        U::Softplus => map(x, y, softplus),
        U::Softsign => map(x, y, |v| v.div(c(1.0).add(v.abs()))),
        U::Elu { alpha } => map(x, y, |v| if v > c(0.0) { v } else { c(alpha).mul(v.expm1()) }),
        U::LeakyRelu { alpha } => map(x, y, |v| if v > c(0.0) { v } else { c(alpha).mul(v) }),
        U::Clip { low, high } => map(x, y, |v| clip(v, c(low), c(high))),
        // The others are refused for floats, or are predicates; a new one must be added here.
        _ => y.copy_from_slice(x),
    }
}

#[inline(always)]
fn sigmoid<T: Real>(v: T, step: impl Fn(T) -> T) -> T {
    let one = T::from_f64(1.0);
    let power = step(T::from_f64(0.0).sub(v).exp());
    one.div(step(one.add(power)))
}

#[inline(always)]
fn gelu<T: Real>(v: T) -> T {
    let scale = T::from_f64(-std::f64::consts::FRAC_1_SQRT_2);
    T::from_f64(0.5).mul(v).mul(v.mul(scale).erfc())
}

/// By `(1 + tanh z) / 2 = sigmoid(2 z)`, which keeps its precision where tanh is close to -1.
#[inline(always)]
fn gelu_tanh<T: Real>(v: T) -> T {
    let scale = T::from_f64(std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::SQRT_2);
    let cube = v.mul(v.mul(v));
    v.mul(sigmoid(scale.mul(v.add(T::from_f64(0.044_715).mul(cube))), |v| v))
}

#[inline(always)]
fn fast_gelu<T: Real>(v: T) -> T {
    v.mul(sigmoid(T::from_f64(1.702).mul(v), |v| v))
}

/// `log(1 + exp(v))` without overflow.
fn softplus<T: Real>(v: T) -> T {
    let zero = T::from_f64(0.0);
    let positive = if v > zero { v } else { zero };
    let folded = zero.sub(v.abs()).exp().ln_1p();
    if v.is_nan() { v } else { positive.add(folded) }
}

fn clip<T: PartialOrd>(v: T, low: T, high: T) -> T {
    let v = if v < low { low } else { v };
    if v > high { high } else { v }
}

#[derive(Debug)]
struct Predicate<T>(Unary, PhantomData<T>);

impl<T: Scalar<Work: Real>> Kernel for Predicate<T> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let x = args.input::<T>(0);
        let y = args.output::<Bit>(0);
        let holds: fn(T::Work) -> bool = match self.0 {
            Unary::IsNan => |v| v.is_nan(),
            Unary::IsInf => |v| v.is_infinite(),
            _ => |v| v.is_finite(),
        };
        map(x, y, |v| Bit::new(holds(v.to_work())));
        Ok(())
    }
}

#[derive(Debug)]
struct Not;

impl Kernel for Not {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let x = args.input::<Bit>(0);
        map(x, args.output(0), |v: Bit| Bit::new(!v.is_set()));
        Ok(())
    }
}

#[derive(Debug)]
struct Integers<T>(Unary, PhantomData<T>);

impl<T: super::binary::Integer> Kernel for Integers<T> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        use Unary as U;
        let x = args.input::<T>(0);
        if self.0.is_predicate() {
            args.output::<Bit>(0).fill(Bit::new(self.0 == U::IsFinite));
            return Ok(());
        }
        let y = args.output::<T>(0);
        let zero = T::default();
        let c = T::narrow::<f64>;
        match self.0 {
            U::Abs => map(x, y, |v| if v < zero { zero.sub(v) } else { v }),
            U::Neg => map(x, y, |v| zero.sub(v)),
            U::Sign => {
                map(x, y, |v| if v < zero { zero.sub(c(1.0)) } else { T::narrow(f64::from(v > zero)) })
            }
            U::Square => map(x, y, |v| v.mul(v)),
            U::Relu => map(x, y, |v| if v < zero { zero } else { v }),
            U::Relu6 => map(x, y, |v| clip(v, zero, c(6.0))),
            U::Clip { low, high } => map(x, y, |v| clip(v, c(low.ceil()), c(high.floor()))),
            U::Not => map(x, y, T::not),
            _ => y.copy_from_slice(x),
        }
        Ok(())
    }
}
