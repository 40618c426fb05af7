//! Reductions of contributions in the order of the ranks.

use bytemuck::{Pod, Zeroable};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use mslite_tensor::{Complex, DType};

use crate::Reduction;
use crate::shared::{MAX_RANKS, Span, vectorise};

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
    /// Whether results go past the caches, as there are more than fit.
    pub(crate) streams: bool,
}

/// Spans by number.
type Spans<'a> = &'a dyn Fn(usize) -> Span;

impl Combine {
    /// Reduces `source(0)`, `source(1)`, ... to each of `out(0)` to `out(outs - 1)`, all of one length; what is written
    /// may be one of those that are read.
    pub(crate) fn run(&self, source: Spans<'_>, outs: usize, out: Spans<'_>) {
        match self.ranks.max(outs) {
            0..=4 => self.arrays::<4>(source, outs, out),
            _ => self.arrays::<MAX_RANKS>(source, outs, out),
        }
    }

    fn arrays<const MOST: usize>(&self, source: Spans<'_>, outs: usize, out: Spans<'_>) {
        let mut spans = ([Span::EMPTY; MOST], [Span::EMPTY; MOST]);
        (0..self.ranks).for_each(|n| spans.0[n] = source(n));
        (0..outs).for_each(|n| spans.1[n] = out(n));
        let (sources, outs) = (&spans.0[..self.ranks], &spans.1[..outs]);
        match self.dtype {
            DType::Bool => self.elements::<Flag>(sources, outs),
            DType::I8 => self.elements::<i8>(sources, outs),
            DType::I16 => self.elements::<i16>(sources, outs),
            DType::I32 => self.elements::<i32>(sources, outs),
            DType::I64 => self.elements::<i64>(sources, outs),
            DType::U8 => self.elements::<u8>(sources, outs),
            DType::U16 => self.elements::<u16>(sources, outs),
            DType::U32 => self.elements::<u32>(sources, outs),
            DType::U64 => self.elements::<u64>(sources, outs),
            DType::F16 => self.elements::<f16>(sources, outs),
            DType::BF16 => self.elements::<bf16>(sources, outs),
            DType::F32 => self.elements::<f32>(sources, outs),
            DType::F64 => self.elements::<f64>(sources, outs),
            DType::C64 => self.elements::<Complex<f32>>(sources, outs),
            DType::C128 => self.elements::<Complex<f64>>(sources, outs),
            _ => unreachable!("every dtype of the tensor crate is listed"),
        }
    }

    fn elements<T: Number>(&self, sources: &[Span], outs: &[Span]) {
        let same = |x| x;
        match self.reduction {
            Reduction::Sum => self.fold::<T>(sources, outs, T::sum, same),
            Reduction::Mean => self.fold::<T>(sources, outs, T::sum, |sum| T::divide(sum, sources.len())),
            Reduction::Prod => self.fold::<T>(sources, outs, T::prod, same),
            Reduction::Max => self.fold::<T>(sources, outs, T::max, same),
            Reduction::Min => self.fold::<T>(sources, outs, T::min, same),
        }
    }

    fn fold<T: Number>(
        &self,
        sources: &[Span],
        outs: &[Span],
        combine: impl Fn(T::Wide, T::Wide) -> T::Wide + Copy,
        end: impl Fn(T::Wide) -> T::Wide + Copy,
    ) {
        let fold = Fold { sources, outs };
        let streams = self.streams && outs.iter().all(|out| out.starts_a_line());
        let count = outs[0].len() / size_of::<T>();
        let whole = count / LANES * LANES;
        if whole > 0 {
            vectorise(
                #[inline(always)]
                || match streams {
                    true => fold.arrays::<T, true>(whole, combine, end),
                    false => fold.arrays::<T, false>(whole, combine, end),
                },
            );
        }
        (whole..count).for_each(|at| fold.array::<T, 1, false>(at, combine, end));
        if streams {
            Span::end_streams();
        }
    }
}

/// Elements that are reduced at once: a few of the widest vectors.
const LANES: usize = 64;

struct Fold<'a> {
    sources: &'a [Span],
    outs: &'a [Span],
}

impl Fold<'_> {
    /// Reduces the first so many elements, [`LANES`] at once.
    #[inline(always)]
    fn arrays<T: Number, const STREAMS: bool>(
        &self,
        count: usize,
        combine: impl Fn(T::Wide, T::Wide) -> T::Wide + Copy,
        end: impl Fn(T::Wide) -> T::Wide + Copy,
    ) {
        for index in 0..count / LANES {
            self.array::<T, LANES, STREAMS>(index * LANES, combine, end);
        }
    }

    /// Reduces the `N` elements from `at` on, in registers; the results go past the caches if they stream.
    #[inline(always)]
    fn array<T: Number, const N: usize, const STREAMS: bool>(
        &self,
        at: usize,
        combine: impl Fn(T::Wide, T::Wide) -> T::Wide,
        end: impl Fn(T::Wide) -> T::Wide,
    ) {
        let mut wide = T::widen::<N>(self.sources[0].get(at));
        for source in &self.sources[1..] {
            let next = T::widen::<N>(source.get(at));
            for (a, b) in wide.iter_mut().zip(next) {
                *a = combine(*a, b);
            }
        }
        let result = T::narrow::<N>(wide.map(end));
        for out in self.outs {
            if STREAMS { out.stream(at, result) } else { out.set(at, result) }
        }
    }
}

/// An element type with the type in which it is accumulated.
trait Number: Pod {
    type Wide: Pod;

    fn widen<const N: usize>(values: [Self; N]) -> [Self::Wide; N];
    fn narrow<const N: usize>(values: [Self::Wide; N]) -> [Self; N];

    fn sum(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    fn prod(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    fn max(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    fn min(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    fn divide(sum: Self::Wide, ranks: usize) -> Self::Wide;
}

/// The methods of types that accumulate in themselves.
macro_rules! own_width {
    () => {
        type Wide = Self;

        #[inline(always)]
        fn widen<const N: usize>(values: [Self; N]) -> [Self; N] {
            values
        }

        #[inline(always)]
        fn narrow<const N: usize>(values: [Self; N]) -> [Self; N] {
            values
        }
    };
}

/// The methods that combine two values to one.
macro_rules! pairs {
    ($ty:ty: $($name:ident = $f:expr),*) => {
        $(#[inline(always)]
        fn $name(a: $ty, b: $ty) -> $ty {
            $f(a, b)
        })*
    };
}

macro_rules! integers {
    ($($ty:ty as $wide:ty),* $(,)?) => {
        $(impl Number for $ty {
            own_width!();
            pairs!($ty: sum = <$ty>::wrapping_add, prod = <$ty>::wrapping_mul, max = Ord::max, min = Ord::min);

            fn divide(sum: $ty, ranks: usize) -> $ty {
                (sum as $wide / ranks as $wide) as $ty
            }
        })*
    };
}

integers! {
    i8 as i64, i16 as i64, i32 as i64, i64 as i64,
    u8 as u64, u16 as u64, u32 as u64, u64 as u64,
}

/// The methods of types that accumulate in a floating-point type.
macro_rules! accumulate_in {
    ($ty:ty) => {
        pairs!($ty:
            sum = |a, b| a + b,
            prod = |a, b| a * b,
            max = |a: $ty, b: $ty| if a.is_nan() || a > b { a } else { b },
            min = |a: $ty, b: $ty| if a.is_nan() || a < b { a } else { b }
        );

        #[inline(always)]
        fn divide(sum: $ty, ranks: usize) -> $ty {
            sum / ranks as $ty
        }
    };
}

impl Number for f32 {
    own_width!();
    accumulate_in!(f32);
}

impl Number for f64 {
    own_width!();
    accumulate_in!(f64);
}

macro_rules! halves {
    ($($ty:ty),*) => {
        $(impl Number for $ty {
            type Wide = f32;

            #[inline(always)]
            fn widen<const N: usize>(values: [Self; N]) -> [f32; N] {
                let mut wide = [0.0; N];
                values.convert_to_f32_slice(&mut wide);
                wide
            }

            #[inline(always)]
            fn narrow<const N: usize>(values: [f32; N]) -> [Self; N] {
                let mut narrow = [Self::ZERO; N];
                narrow.convert_from_f32_slice(&values);
                narrow
            }

            accumulate_in!(f32);
        })*
    };
}

halves!(f16, bf16);

macro_rules! complexes {
    ($($ty:ty),*) => {
        $(impl Number for Complex<$ty> {
            own_width!();
            // There is no order among them: see `supports`.
            pairs!(Complex<$ty>: sum = |a, b| a + b, prod = |a, b| a * b, max = |a, _| a, min = |a, _| a);

            fn divide(sum: Self, ranks: usize) -> Self {
                sum / ranks as $ty
            }
        })*
    };
}

complexes!(f32, f64);

/// A bool that another process wrote: any byte but 0 is true.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(transparent)]
struct Flag(u8);

impl Flag {
    fn or(self, other: Flag) -> Flag {
        Flag(u8::from(self.0 != 0) | u8::from(other.0 != 0))
    }

    fn and(self, other: Flag) -> Flag {
        Flag(u8::from(self.0 != 0) & u8::from(other.0 != 0))
    }
}

impl Number for Flag {
    own_width!();
    pairs!(Flag: sum = Flag::or, max = Flag::or, prod = Flag::and, min = Flag::and);

    fn divide(sum: Flag, _: usize) -> Flag {
        sum
    }
}
