//! Element-wise functions of complex numbers, and conversions to and from them.

use std::ops::{Add, Div, Mul, Sub};

use bytemuck::Pod;
use mslite_graph_opt::ir::op::{Binary, Unary};
use mslite_runtime::Result;
use mslite_tensor::{Complex, DType};

use super::{BoxKernel, Build, Kernel};
use crate::arena::Args;
use crate::loops::Loops;
use crate::scalar::{Bit, Scalar, Wide, with_type};
use crate::simd::map;

/// Whether a function of one number is evaluated.
pub(super) fn unary_supports(f: Unary) -> bool {
    <Complex<f32> as Number>::unary(f).is_some()
}

/// Whether a function of two numbers is evaluated.
pub(super) fn binary_supports(f: Binary) -> bool {
    matches!(f, Binary::Equal | Binary::NotEqual) || <Complex<f32> as Number>::binary(f).is_some()
}

pub(super) fn unary(f: Unary, dtype: DType) -> Option<BoxKernel> {
    fn kernel<N: Number>(f: Unary) -> Option<BoxKernel> {
        N::unary(f).map(|f| Box::new(Function::<N>(f)) as BoxKernel)
    }
    if dtype == DType::C64 { kernel::<Complex<f32>>(f) } else { kernel::<Complex<f64>>(f) }
}

pub(super) fn binary(f: Binary, cx: &Build<'_>) -> Option<BoxKernel> {
    match cx.inputs[0].dtype {
        DType::C64 => pair::<Complex<f32>>(f, cx),
        _ => pair::<Complex<f64>>(f, cx),
    }
}

fn pair<N: Number>(f: Binary, cx: &Build<'_>) -> Option<BoxKernel> {
    let loops = Loops::broadcast(&cx.outputs[0].dims, [&cx.inputs[0].dims, &cx.inputs[1].dims]);
    Some(match f {
        Binary::Equal => Box::new(Zip::<N, Bit> { f: |x, y| Bit::new(x == y), loops }),
        Binary::NotEqual => Box::new(Zip::<N, Bit> { f: |x, y| Bit::new(x != y), loops }),
        _ => Box::new(Zip::<N, N> { f: N::binary(f)?, loops }),
    })
}

/// To or from a complex type. A real number has no imaginary part, and of a complex one the real part stays.
pub(super) fn cast(from: DType, to: DType) -> Option<BoxKernel> {
    match (from, to) {
        (DType::C64, DType::C128) => Some(Box::new(Cast::<[f32; 2], [f64; 2]>(|v| v.map(f64::from)))),
        (DType::C128, DType::C64) => {
            Some(Box::new(Cast::<[f64; 2], [f32; 2]>(|v| v.map(|part| part as f32))))
        }
        (DType::C64, _) => real_part::<f32>(to),
        (DType::C128, _) => real_part::<f64>(to),
        (_, DType::C64) => with_type!(from, T in real => {
            Box::new(Cast::<T, [f32; 2]>(|v| [v.widen().as_f32(), 0.0])) as BoxKernel
        }),
        _ => with_type!(from, T in real => {
            Box::new(Cast::<T, [f64; 2]>(|v| [v.widen().as_f64(), 0.0])) as BoxKernel
        }),
    }
}

fn real_part<P: Scalar>(to: DType) -> Option<BoxKernel> {
    with_type!(to, R in number => Box::new(Cast::<[P; 2], R>(|v| R::narrow(v[0].widen()))) as BoxKernel)
}

/// A complex type.
trait Number: Pod + PartialEq + Send + Sync + std::fmt::Debug {
    /// How a function of one number is computed, if it is.
    fn unary(f: Unary) -> Option<fn(Self) -> Self>;
    /// How a function of two numbers is computed, if it is.
    fn binary(f: Binary) -> Option<fn(Self, Self) -> Self>;
}

macro_rules! numbers {
    ($($part:ty),*) => {
        $(impl Number for Complex<$part> {
            fn unary(f: Unary) -> Option<fn(Self) -> Self> {
                use Unary as U;
                Some(match f {
                    U::Neg => |v| -v,
                    U::Square => |v| v * v,
                    U::Reciprocal => |v| v.inv(),
                    U::Exp => |v| v.exp(),
                    U::Expm1 => |v| v.exp() - 1.0,
                    U::Log => |v| v.ln(),
                    U::Log1p => |v| (v + 1.0).ln(),
                    U::Sqrt => |v| v.sqrt(),
                    U::Rsqrt => |v| v.sqrt().inv(),
                    U::Sin => |v| v.sin(),
                    U::Cos => |v| v.cos(),
                    U::Tan => |v| v.tan(),
                    U::Asin => |v| v.asin(),
                    U::Acos => |v| v.acos(),
                    U::Atan => |v| v.atan(),
                    U::Sinh => |v| v.sinh(),
                    U::Cosh => |v| v.cosh(),
                    U::Tanh => |v| v.tanh(),
                    U::SwapParts => |v| Self::new(v.im, v.re),
                    U::Sigmoid => |v| ((-v).exp() + 1.0).inv(),
                    _ => return None,
                })
            }

            fn binary(f: Binary) -> Option<fn(Self, Self) -> Self> {
                Some(match f {
                    Binary::Add => Add::add,
                    Binary::Sub => Sub::sub,
                    Binary::Mul => Mul::mul,
                    Binary::Div => Div::div,
                    Binary::Pow => |x, y| x.powc(y),
                    Binary::SquaredDifference => |x, y| (x - y) * (x - y),
                    _ => return None,
                })
            }
        })*
    };
}

numbers!(f32, f64);

#[derive(Debug)]
struct Function<N>(fn(N) -> N);

impl<N: Number> Kernel for Function<N> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        map(args.input::<N>(0), args.output::<N>(0), self.0);
        Ok(())
    }
}

#[derive(Debug)]
struct Zip<N, R> {
    f: fn(N, N) -> R,
    loops: Loops<2>,
}

impl<N: Number, R: Pod + Send + Sync + std::fmt::Debug> Kernel for Zip<N, R> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let (x, y) = (args.input::<N>(0), args.input::<N>(1));
        let z = args.output::<R>(0);
        let strides = self.loops.inner().strides.map(isize::cast_unsigned);
        let mut results = z.iter_mut();
        self.loops.rows(0..results.len(), |[i, j], count| {
            for (n, z) in (0..count).zip(&mut results) {
                *z = (self.f)(x[i + n * strides[0]], y[j + n * strides[1]]);
            }
        });
        Ok(())
    }
}

#[derive(Debug)]
struct Cast<T, R>(fn(T) -> R);

impl<T: Pod + Send + Sync + std::fmt::Debug, R: Pod + Send + Sync + std::fmt::Debug> Kernel for Cast<T, R> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        map(args.input::<T>(0), args.output::<R>(0), self.0);
        Ok(())
    }
}
