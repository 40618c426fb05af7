//! What inputs hold when no file gives them.

use std::fmt;
use std::str::FromStr;

use mslite::{DType, Error, ErrorKind, Result, Tensor, bf16, f16};
use mslite_tensor::{Complex, Tensor as Data};

/// How to fill inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    Ones,
    Zeros,
    Random(u64),
}

impl FromStr for Fill {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("random:")) {
            ("ones", _) => Ok(Fill::Ones),
            ("zeros", _) => Ok(Fill::Zeros),
            (_, Some(seed)) if !seed.starts_with('+') => {
                let wrong = |_| format!("the seed {seed:?} is not a whole number from 0 to {}", u64::MAX);
                seed.parse().map(Fill::Random).map_err(wrong)
            }
            _ => Err("it is one of: ones, zeros, random:SEED".to_owned()),
        }
    }
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fill::Ones => f.write_str("ones"),
            Fill::Zeros => f.write_str("zeros"),
            Fill::Random(seed) => write!(f, "random:{seed}"),
        }
    }
}

impl Fill {
    /// Data for an input: floats uniform in [0, 1), integers and booleans 0 or 1.
    pub(crate) fn data(self, input: &Tensor) -> Result<Data> {
        let dims: Option<Vec<usize>> = input.shape().iter().map(|&d| usize::try_from(d).ok()).collect();
        let dims = dims.ok_or_else(|| {
            let message = format!("input {input} has extents that are not known; give data (--inputs F.npz)");
            Error::new(ErrorKind::InvalidArgument, message)
        })?;
        let mut data = Data::zeros(input.dtype(), &dims)?;
        let mut random = Random(if let Fill::Random(seed) = self { seed } else { 0 });
        let is_whole = !(data.dtype().is_float() || data.dtype().is_complex());
        let mut value = || match self {
            Fill::Zeros => 0.0,
            Fill::Ones => 1.0,
            Fill::Random(_) if is_whole => random.unit().round(),
            Fill::Random(_) => random.unit(),
        };
        set_values(&mut data, |_| value())?;
        Ok(data)
    }
}

/// Sets each element to a value; integers wrap, and take whole values.
pub(crate) fn set_values(data: &mut Data, mut value: impl FnMut(usize) -> f64) -> Result<()> {
    macro_rules! set {
        ($ty:ty, $from:expr) => {{
            let from: fn(f64) -> $ty = $from;
            data.as_mut_slice::<$ty>()?.iter_mut().enumerate().for_each(|(i, x)| *x = from(value(i)));
        }};
    }
    match data.dtype() {
        DType::Bool => set!(bool, |v| v != 0.0),
        DType::I8 => set!(i8, |v| v as i64 as i8),
        DType::I16 => set!(i16, |v| v as i64 as i16),
        DType::I32 => set!(i32, |v| v as i64 as i32),
        DType::I64 => set!(i64, |v| v as i64),
        DType::U8 => set!(u8, |v| v as i64 as u8),
        DType::U16 => set!(u16, |v| v as i64 as u16),
        DType::U32 => set!(u32, |v| v as i64 as u32),
        DType::U64 => set!(u64, |v| v as u64),
        DType::F16 => set!(f16, f16::from_f64),
        DType::BF16 => set!(bf16, bf16::from_f64),
        DType::F32 => set!(f32, |v| v as f32),
        DType::F64 => set!(f64, |v| v),
        DType::C64 => set!(Complex<f32>, |v| Complex::new(v as f32, 0.0)),
        DType::C128 => set!(Complex<f64>, |v| Complex::new(v, 0.0)),
        other => return Err(Error::new(ErrorKind::Unsupported, format!("{other} cannot be filled"))),
    }
    Ok(())
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers on every rank and machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1), a multiple of 2^-24 so that f32 holds it exactly.
    fn unit(&mut self) -> f64 {
        (self.next() >> 40) as f64 / f64::from(1 << 24)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_are_those_of_the_paper() {
        let mut random = Random(0);
        assert_eq!([random.next(), random.next()], [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4]);
    }

    #[test]
    fn names_are_checked() {
        assert_eq!("random:7".parse(), Ok(Fill::Random(7)));
        assert_eq!("random:18446744073709551615".parse(), Ok(Fill::Random(u64::MAX)));
        for fill in [Fill::Ones, Fill::Zeros, Fill::Random(7)] {
            assert_eq!(fill.to_string().parse(), Ok(fill));
        }
        for text in ["", "One", "random", "random:", "random:x", "random:+1", "random:-1", "random:1.5"] {
            assert!(text.parse::<Fill>().is_err(), "{text}");
        }
    }
}
