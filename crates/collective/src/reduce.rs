//! Reductions of contributions in the order of the ranks.

use bytemuck::{Pod, Zeroable};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use mslite_tensor::{Complex, DType};

use crate::Reduction;
use crate::shared::Span;

/// Whether a reduction is defined for an element type.
pub(crate) fn supports(dtype: DType, reduction: Reduction) -> bool {
    match reduction {
        Reduction::Sum | Reduction::Prod => true,
        Reduction::Max | Reduction::Min => !dtype.is_complex(),
        Reduction::Mean => dtype != DType::Bool,
    }
}

/// A reduction of as many contributions as there are ranks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Combine {
    pub(crate) dtype: DType,
    pub(crate) reduction: Reduction,
    pub(crate) ranks: usize,
}

impl Combine {
    /// Reduces `source(0)`, `source(1)`, ... to `out`, all of one length; `out` may be one of them.
    pub(crate) fn run(&self, source: &dyn Fn(usize) -> Span, out: Span) {
        match self.dtype {
            DType::Bool => self.elements::<Flag>(source, out),
            DType::I8 => self.elements::<i8>(source, out),
            DType::I16 => self.elements::<i16>(source, out),
            DType::I32 => self.elements::<i32>(source, out),
            DType::I64 => self.elements::<i64>(source, out),
            DType::U8 => self.elements::<u8>(source, out),
            DType::U16 => self.elements::<u16>(source, out),
            DType::U32 => self.elements::<u32>(source, out),
            DType::U64 => self.elements::<u64>(source, out),
            DType::F16 => self.elements::<f16>(source, out),
            DType::BF16 => self.elements::<bf16>(source, out),
            DType::F32 => self.elements::<f32>(source, out),
            DType::F64 => self.elements::<f64>(source, out),
            DType::C64 => self.elements::<Complex<f32>>(source, out),
            DType::C128 => self.elements::<Complex<f64>>(source, out),
            _ => unreachable!("every dtype of the tensor crate is listed"),
        }
    }

    fn elements<T: Number>(&self, source: &dyn Fn(usize) -> Span, out: Span) {
        if out.len() <= 16 * size_of::<T>() { self.blocks::<T, 16>(source, out) } else { self.blocks::<T, 1024>(source, out) }
    }

    /// Works block by block, so that the accumulator stays in the first cache.
    fn blocks<T: Number, const BLOCK: usize>(&self, source: &dyn Fn(usize) -> Span, out: Span) {
        let mut accumulator = [T::Wide::zeroed(); BLOCK];
        let mut values = [T::zeroed(); BLOCK];
        for start in (0..out.len()).step_by(BLOCK * size_of::<T>()) {
            let range = start..out.len().min(start + BLOCK * size_of::<T>());
            let count = range.len() / size_of::<T>();
            let (accumulator, values) = (&mut accumulator[..count], &mut values[..count]);
            for rank in 0..self.ranks {
                source(rank).part(range.clone()).read(values);
                match rank {
                    0 => T::widen(values, accumulator),
                    _ => T::combine(self.reduction, accumulator, values),
                }
            }
            if self.reduction == Reduction::Mean {
                T::divide(accumulator, self.ranks);
            }
            T::narrow(accumulator, values);
            out.part(range).write(values);
        }
    }
}

/// An element type with the type in which it is accumulated.
trait Number: Pod {
    type Wide: Pod;
    fn widen(values: &[Self], wide: &mut [Self::Wide]);
    fn combine(reduction: Reduction, accumulator: &mut [Self::Wide], values: &[Self]);
    fn divide(accumulator: &mut [Self::Wide], ranks: usize);
    fn narrow(wide: &[Self::Wide], values: &mut [Self]);
}

fn zip<A: Copy, B: Copy>(accumulator: &mut [A], values: &[B], f: impl Fn(A, B) -> A) {
    for (a, &b) in accumulator.iter_mut().zip(values) {
        *a = f(*a, b);
    }
}

/// The methods of types that accumulate in themselves.
macro_rules! own_width {
    () => {
        type Wide = Self;

        fn widen(values: &[Self], wide: &mut [Self]) {
            wide.copy_from_slice(values);
        }

        fn narrow(wide: &[Self], values: &mut [Self]) {
            values.copy_from_slice(wide);
        }
    };
}

macro_rules! integers {
    ($($ty:ty as $wide:ty),* $(,)?) => {
        $(impl Number for $ty {
            own_width!();

            fn combine(reduction: Reduction, accumulator: &mut [Self], values: &[Self]) {
                match reduction {
                    Reduction::Sum | Reduction::Mean => zip(accumulator, values, <$ty>::wrapping_add),
                    Reduction::Prod => zip(accumulator, values, <$ty>::wrapping_mul),
                    Reduction::Max => zip(accumulator, values, Ord::max),
                    Reduction::Min => zip(accumulator, values, Ord::min),
                }
            }

            fn divide(accumulator: &mut [Self], ranks: usize) {
                for value in accumulator {
                    *value = (*value as $wide / ranks as $wide) as $ty;
                }
            }
        })*
    };
}

integers! {
    i8 as i64, i16 as i64, i32 as i64, i64 as i64,
    u8 as u64, u16 as u64, u32 as u64, u64 as u64,
}

macro_rules! floats {
    ($($ty:ty),*) => {
        $(impl Number for $ty {
            own_width!();

            fn combine(reduction: Reduction, accumulator: &mut [Self], values: &[Self]) {
                match reduction {
                    Reduction::Sum | Reduction::Mean => zip(accumulator, values, |a, b| a + b),
                    Reduction::Prod => zip(accumulator, values, |a, b| a * b),
                    Reduction::Max => zip(accumulator, values, |a, b| if a.is_nan() || a > b { a } else { b }),
                    Reduction::Min => zip(accumulator, values, |a, b| if a.is_nan() || a < b { a } else { b }),
                }
            }

            fn divide(accumulator: &mut [Self], ranks: usize) {
                for value in accumulator {
                    *value /= ranks as $ty;
                }
            }
        })*
    };
}

floats!(f32, f64);

macro_rules! halves {
    ($($ty:ty),*) => {
        $(impl Number for $ty {
            type Wide = f32;

            fn widen(values: &[Self], wide: &mut [f32]) {
                values.convert_to_f32_slice(wide);
            }

            fn combine(reduction: Reduction, accumulator: &mut [f32], values: &[Self]) {
                const PART: usize = 64;
                let mut wide = [0f32; PART];
                for (accumulator, values) in accumulator.chunks_mut(PART).zip(values.chunks(PART)) {
                    values.convert_to_f32_slice(&mut wide[..values.len()]);
                    f32::combine(reduction, accumulator, &wide[..values.len()]);
                }
            }

            fn divide(accumulator: &mut [f32], ranks: usize) {
                f32::divide(accumulator, ranks);
            }

            fn narrow(wide: &[f32], values: &mut [Self]) {
                values.convert_from_f32_slice(wide);
            }
        })*
    };
}

halves!(f16, bf16);

macro_rules! complexes {
    ($($ty:ty),*) => {
        $(impl Number for Complex<$ty> {
            own_width!();

            fn combine(reduction: Reduction, accumulator: &mut [Self], values: &[Self]) {
                match reduction {
                    Reduction::Prod => zip(accumulator, values, |a, b| a * b),
                    _ => zip(accumulator, values, |a, b| a + b),
                }
            }

            fn divide(accumulator: &mut [Self], ranks: usize) {
                for value in accumulator {
                    *value /= ranks as $ty;
                }
            }
        })*
    };
}

complexes!(f32, f64);

/// A bool that another process wrote: any byte but 0 is true.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(transparent)]
struct Flag(u8);

impl Number for Flag {
    own_width!();

    fn combine(reduction: Reduction, accumulator: &mut [Self], values: &[Self]) {
        let truth = |flag: Flag| u8::from(flag.0 != 0);
        match reduction {
            Reduction::Prod | Reduction::Min => zip(accumulator, values, |a, b| Flag(truth(a) & truth(b))),
            _ => zip(accumulator, values, |a, b| Flag(truth(a) | truth(b))),
        }
    }

    fn divide(_: &mut [Self], _: usize) {}
}
