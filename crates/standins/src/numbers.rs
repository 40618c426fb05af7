//! Arithmetic on contributions, rounded at each step as GPUs do.

use half::{bf16, f16};

/// An element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    I8,
    U8,
    I16,
    I32,
    U32,
    I64,
    U64,
    F16,
    Bf16,
    F32,
    F64,
}

/// A reduction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Combine {
    Sum,
    Prod,
    Max,
    Min,
    Mean,
}

impl Number {
    pub(crate) const ALL: [Number; 11] = [
        Number::I8,
        Number::U8,
        Number::I16,
        Number::I32,
        Number::U32,
        Number::I64,
        Number::U64,
        Number::F16,
        Number::Bf16,
        Number::F32,
        Number::F64,
    ];

    pub(crate) fn size(self) -> usize {
        match self {
            Number::I8 | Number::U8 => 1,
            Number::I16 | Number::F16 | Number::Bf16 => 2,
            Number::I32 | Number::U32 | Number::F32 => 4,
            Number::I64 | Number::U64 | Number::F64 => 8,
        }
    }

    /// The reduction of `all`, of equal lengths.
    pub(crate) fn reduce(self, combine: Combine, all: &[&[u8]]) -> Vec<u8> {
        match self {
            Number::I8 => reduce::<i8, 1>(combine, all),
            Number::U8 => reduce::<u8, 1>(combine, all),
            Number::I16 => reduce::<i16, 2>(combine, all),
            Number::I32 => reduce::<i32, 4>(combine, all),
            Number::U32 => reduce::<u32, 4>(combine, all),
            Number::I64 => reduce::<i64, 8>(combine, all),
            Number::U64 => reduce::<u64, 8>(combine, all),
            Number::F16 => reduce::<f16, 2>(combine, all),
            Number::Bf16 => reduce::<bf16, 2>(combine, all),
            Number::F32 => reduce::<f32, 4>(combine, all),
            Number::F64 => reduce::<f64, 8>(combine, all),
        }
    }
}

impl Combine {
    pub(crate) const ALL: [Combine; 5] =
        [Combine::Sum, Combine::Prod, Combine::Max, Combine::Min, Combine::Mean];
}

fn reduce<T: Element<N>, const N: usize>(combine: Combine, all: &[&[u8]]) -> Vec<u8> {
    let element = |contribution: &[u8], i: usize| {
        let value = T::read(contribution[i * N..][..N].try_into().unwrap_or([0; N]));
        if combine == Combine::Mean { value.share(all.len()) } else { value }
    };
    let one = |i: usize| {
        let first = element(all[0], i);
        all[1..]
            .iter()
            .fold(first, |sum, contribution| sum.combine(element(contribution, i), combine))
            .write()
    };
    (0..all[0].len() / N).flat_map(one).collect()
}

trait Element<const N: usize>: Copy {
    fn read(bytes: [u8; N]) -> Self;
    fn write(self) -> [u8; N];
    fn combine(self, other: Self, how: Combine) -> Self;
    /// What it adds to a mean of so many.
    fn share(self, ranks: usize) -> Self;
}

macro_rules! integers {
    ($($type:ty, $size:literal;)*) => {$(
        impl Element<$size> for $type {
            fn read(bytes: [u8; $size]) -> Self {
                <$type>::from_ne_bytes(bytes)
            }

            fn write(self) -> [u8; $size] {
                self.to_ne_bytes()
            }

            fn combine(self, other: Self, how: Combine) -> Self {
                match how {
                    Combine::Sum | Combine::Mean => self.wrapping_add(other),
                    Combine::Prod => self.wrapping_mul(other),
                    Combine::Max => self.max(other),
                    Combine::Min => self.min(other),
                }
            }

            fn share(self, _: usize) -> Self {
                self
            }
        }
    )*};
}

macro_rules! floats {
    ($($type:ty, $size:literal, $wide:ty, $from:expr;)*) => {$(
        impl Element<$size> for $type {
            fn read(bytes: [u8; $size]) -> Self {
                <$type>::from_ne_bytes(bytes)
            }

            fn write(self) -> [u8; $size] {
                self.to_ne_bytes()
            }

            fn combine(self, other: Self, how: Combine) -> Self {
                let (a, b) = (<$wide>::from(self), <$wide>::from(other));
                // As `fmax`: a number wins over NaN.
                let result = match how {
                    Combine::Sum | Combine::Mean => a + b,
                    Combine::Prod => a * b,
                    Combine::Max => a.max(b),
                    Combine::Min => a.min(b),
                };
                $from(result)
            }

            fn share(self, ranks: usize) -> Self {
                $from(<$wide>::from(self) * (1.0 / ranks as $wide))
            }
        }
    )*};
}

integers! { i8, 1; u8, 1; i16, 2; i32, 4; u32, 4; i64, 8; u64, 8; }

floats! {
    f16, 2, f32, f16::from_f32;
    bf16, 2, f32, bf16::from_f32;
    f32, 4, f32, std::convert::identity;
    f64, 8, f64, std::convert::identity;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_at_each_step() {
        let bytes = |x: f32| f16::from_f32(x).to_ne_bytes();
        let (large, one) = (bytes(2048.0), bytes(1.0));
        let sum = Number::F16.reduce(Combine::Sum, &[&large, &one, &one]);
        assert_eq!(sum, large);
        let mean = Number::F32.reduce(Combine::Mean, &[&3f32.to_ne_bytes(), &5f32.to_ne_bytes()]);
        assert_eq!(mean, 4f32.to_ne_bytes());
        let max = Number::F32.reduce(Combine::Max, &[&f32::NAN.to_ne_bytes(), &5f32.to_ne_bytes()]);
        assert_eq!(max, 5f32.to_ne_bytes());
    }
}
