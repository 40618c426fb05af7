//! Element types as kernels see them.

use std::fmt::Debug;

use bytemuck::{Pod, Zeroable};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Elements that are converted at once between a narrow type and the one it is computed in.
pub(crate) const CHUNK: usize = 256;

/// A truth value in a byte: anything but 0 is true.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct Bit(pub(crate) u8);

impl Bit {
    pub(crate) fn new(value: bool) -> Self {
        Bit(u8::from(value))
    }

    pub(crate) fn is_set(self) -> bool {
        self.0 != 0
    }
}

impl Debug for Bit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Debug::fmt(&self.is_set(), f)
    }
}

impl PartialEq for Bit {
    fn eq(&self, other: &Self) -> bool {
        self.is_set() == other.is_set()
    }
}

impl PartialOrd for Bit {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.is_set().partial_cmp(&other.is_set())
    }
}

/// An element type.
pub(crate) trait Scalar: Pod + Default + Debug + PartialOrd + Send + Sync {
    /// What it is computed in: `f32` for floats of 16 bits, else the type itself.
    type Work: Scalar<Work = Self::Work>;
    /// What it is cast through: holds every value exactly.
    type Wide: Wide;
    /// What it is accumulated in.
    type Sum: Sum;

    /// Whether `Work` is another type.
    const NARROW: bool = false;

    /// Whether functions made of several elementary steps round after each of them, as MindSpore's kernels for
    /// f16 do (read off MindSpore 2.10: layer normalisation, softmax, sigmoid, SiLU, reciprocal square root).
    const STEPWISE: bool = false;

    /// A result between two elementary steps: rounded if the type is stepwise.
    #[inline(always)]
    fn step(value: Self::Work) -> Self::Work {
        value
    }

    fn widen(self) -> Self::Wide;
    fn narrow<W: Wide>(wide: W) -> Self;
    fn to_sum(self) -> Self::Sum;
    fn from_sum(sum: Self::Sum) -> Self;

    /// `from` in the type it is computed in; `buffer` is used if that is another type.
    fn load<'a>(from: &'a [Self], buffer: &'a mut [Self::Work]) -> &'a [Self::Work];

    /// A copy of `from` in the type it is computed in.
    fn copy<'a>(from: &[Self], buffer: &'a mut [Self::Work]) -> &'a [Self::Work];

    /// Lets `write` fill `to`, through `buffer` if the type it is computed in is another one.
    fn store(to: &mut [Self], buffer: &mut [Self::Work], write: impl FnOnce(&mut [Self::Work]));

    fn to_work(self) -> Self::Work;
}

/// Types that casts go through.
pub(crate) trait Wide: Copy + Default + Debug + Send + Sync + 'static {
    fn as_f32(self) -> f32;
    fn as_f64(self) -> f64;
    fn as_bit(self) -> bool;
    fn to_i8(self) -> i8;
    fn to_i16(self) -> i16;
    fn to_i32(self) -> i32;
    fn to_i64(self) -> i64;
    fn to_u8(self) -> u8;
    fn to_u16(self) -> u16;
    fn to_u32(self) -> u32;
    fn to_u64(self) -> u64;
}

macro_rules! wide {
    ($($ty:ty, $zero:literal;)*) => {
        $(impl Wide for $ty {
            fn as_f32(self) -> f32 { self as f32 }
            fn as_f64(self) -> f64 { self as f64 }
            fn as_bit(self) -> bool { self != $zero }
            fn to_i8(self) -> i8 { self as i8 }
            fn to_i16(self) -> i16 { self as i16 }
            fn to_i32(self) -> i32 { self as i32 }
            fn to_i64(self) -> i64 { self as i64 }
            fn to_u8(self) -> u8 { self as u8 }
            fn to_u16(self) -> u16 { self as u16 }
            fn to_u32(self) -> u32 { self as u32 }
            fn to_u64(self) -> u64 { self as u64 }
        })*
    };
}

wide! { f32, 0.0; f64, 0.0; i64, 0; u64, 0; }

/// Types that sums are accumulated in.
pub(crate) trait Sum: Copy + Default + PartialOrd + Send + Sync + 'static {
    const ONE: Self;
    const LOWEST: Self;
    const HIGHEST: Self;
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    /// The sum of `count` elements as their mean.
    fn mean(self, count: usize) -> Self;
}

impl Sum for f64 {
    const ONE: Self = 1.0;
    const LOWEST: Self = f64::NEG_INFINITY;
    const HIGHEST: Self = f64::INFINITY;
    fn plus(self, other: Self) -> Self {
        self + other
    }
    fn times(self, other: Self) -> Self {
        self * other
    }
    fn mean(self, count: usize) -> Self {
        self / count as f64
    }
}

macro_rules! int_sum {
    ($($ty:ty),*) => {
        $(impl Sum for $ty {
            const ONE: Self = 1;
            const LOWEST: Self = <$ty>::MIN;
            const HIGHEST: Self = <$ty>::MAX;
            fn plus(self, other: Self) -> Self { self.wrapping_add(other) }
            fn times(self, other: Self) -> Self { self.wrapping_mul(other) }
            fn mean(self, count: usize) -> Self { self.checked_div(count as $ty).unwrap_or(0) }
        })*
    };
}

int_sum!(i64, u64);

/// Conversions of types that are computed in themselves.
macro_rules! own_work {
    () => {
        type Work = Self;

        fn load<'a>(from: &'a [Self], _: &'a mut [Self]) -> &'a [Self] {
            from
        }

        fn copy<'a>(from: &[Self], buffer: &'a mut [Self]) -> &'a [Self] {
            let buffer = &mut buffer[..from.len()];
            buffer.copy_from_slice(from);
            buffer
        }

        fn store(to: &mut [Self], _: &mut [Self], write: impl FnOnce(&mut [Self])) {
            write(to);
        }

        fn to_work(self) -> Self {
            self
        }
    };
}

macro_rules! plain {
    ($($ty:ty, $wide:ty, $sum:ty, $from:ident;)*) => {
        $(impl Scalar for $ty {
            type Wide = $wide;
            type Sum = $sum;
            own_work!();

            fn widen(self) -> $wide { self as $wide }
            fn narrow<W: Wide>(wide: W) -> Self { wide.$from() }
            fn to_sum(self) -> $sum { self as $sum }
            fn from_sum(sum: $sum) -> Self { sum as $ty }
        })*
    };
}

plain! {
    f32, f32, f64, as_f32;
    f64, f64, f64, as_f64;
    i8, i64, i64, to_i8;
    i16, i64, i64, to_i16;
    i32, i64, i64, to_i32;
    i64, i64, i64, to_i64;
    u8, u64, u64, to_u8;
    u16, u64, u64, to_u16;
    u32, u64, u64, to_u32;
    u64, u64, u64, to_u64;
}

impl Scalar for Bit {
    type Wide = u64;
    type Sum = u64;
    own_work!();

    fn widen(self) -> u64 {
        u64::from(self.is_set())
    }
    fn narrow<W: Wide>(wide: W) -> Self {
        Bit::new(wide.as_bit())
    }
    fn to_sum(self) -> u64 {
        self.widen()
    }
    fn from_sum(sum: u64) -> Self {
        Bit::new(sum != 0)
    }
}

macro_rules! narrow {
    ($($ty:ty, $stepwise:literal;)*) => {
        $(impl Scalar for $ty {
            type Work = f32;
            type Wide = f32;
            type Sum = f64;
            const NARROW: bool = true;
            const STEPWISE: bool = $stepwise;

            #[inline(always)]
            fn step(value: f32) -> f32 {
                if $stepwise { <$ty>::from_f32(value).to_f32() } else { value }
            }

            fn widen(self) -> f32 { self.to_f32() }
            fn narrow<W: Wide>(wide: W) -> Self { <$ty>::from_f32(wide.as_f32()) }
            fn to_sum(self) -> f64 { f64::from(self.to_f32()) }
            fn from_sum(sum: f64) -> Self { <$ty>::from_f32(sum as f32) }

            fn load<'a>(from: &'a [Self], buffer: &'a mut [f32]) -> &'a [f32] {
                Self::copy(from, buffer)
            }

            fn copy<'a>(from: &[Self], buffer: &'a mut [f32]) -> &'a [f32] {
                let buffer = &mut buffer[..from.len()];
                from.convert_to_f32_slice(buffer);
                buffer
            }

            fn store(to: &mut [Self], buffer: &mut [f32], write: impl FnOnce(&mut [f32])) {
                let buffer = &mut buffer[..to.len()];
                write(buffer);
                to.convert_from_f32_slice(buffer);
            }

            fn to_work(self) -> f32 { self.to_f32() }
        })*
    };
}

narrow! {
    f16, true;
    bf16, false;
}

/// Evaluates an expression for the Rust type of an element type: `with_type!(dtype, T in [f32, f64] => expr)`
/// gives `Some(expr)` for those listed, else `None`.
macro_rules! with_type {
    ($dtype:expr, $t:ident in real => $body:expr) => {
        with_type!(@ $dtype, $t, $body, F32 f32, F64 f64, F16 half::f16, BF16 half::bf16, I8 i8, I16 i16, I32 i32,
            I64 i64, U8 u8, U16 u16, U32 u32, U64 u64, Bool $crate::scalar::Bit)
    };
    ($dtype:expr, $t:ident in number => $body:expr) => {
        with_type!(@ $dtype, $t, $body, F32 f32, F64 f64, F16 half::f16, BF16 half::bf16, I8 i8, I16 i16, I32 i32,
            I64 i64, U8 u8, U16 u16, U32 u32, U64 u64)
    };
    ($dtype:expr, $t:ident in float => $body:expr) => {
        with_type!(@ $dtype, $t, $body, F32 f32, F64 f64, F16 half::f16, BF16 half::bf16)
    };
    ($dtype:expr, $t:ident in narrow => $body:expr) => {
        with_type!(@ $dtype, $t, $body, F16 half::f16, BF16 half::bf16)
    };
    ($dtype:expr, $t:ident in single => $body:expr) => {
        with_type!(@ $dtype, $t, $body, F32 f32, F16 half::f16, BF16 half::bf16)
    };
    ($dtype:expr, $t:ident in int => $body:expr) => {
        with_type!(@ $dtype, $t, $body, I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64)
    };
    (@ $dtype:expr, $t:ident, $body:expr, $($variant:ident $ty:ty),*) => {
        match $dtype {
            $(mslite_tensor::DType::$variant => {
                type $t = $ty;
                Some($body)
            })*
            _ => None,
        }
    };
}

pub(crate) use with_type;
