//! Numbers that look random and are the same in every run.

use mslite_tensor::{DType, Tensor};

use crate::reference::array::{Array, Scalar};

/// A deterministic source of tensors (SplitMix64).
#[derive(Debug, Clone)]
pub struct Generator(u64);

impl Generator {
    /// A source; another seed gives other numbers.
    pub fn new(seed: u64) -> Self {
        Generator(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `[low, high)`.
    pub fn number(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A tensor of numbers in `[low, high)`: floats rounded to the type, integers rounded down, complex numbers
    /// with both parts in the range, truth values at random.
    pub fn tensor(&mut self, dtype: DType, dims: &[usize], low: f64, high: f64) -> Tensor {
        let count = dims.iter().product();
        let values = (0..count)
            .map(|_| match dtype {
                DType::Bool => Scalar::Int(i128::from(self.bits() >> 63)),
                d if d.is_float() => Scalar::Float(self.number(low, high)),
                d if d.is_complex() => {
                    let (re, im) = (self.number(low, high), self.number(low, high));
                    Scalar::Complex(mslite_tensor::Complex::new(re, im))
                }
                _ => Scalar::Int(self.number(low, high).floor() as i128),
            })
            .collect();
        Array::new(dtype, dims, values).to_tensor()
    }
}

/// Whole numbers from 0 to 5 in any type: sums are exact, ties are the rule.
pub(crate) fn whole(dtype: DType, dims: &[usize], seed: u64) -> Tensor {
    let mut generator = Generator::new(seed);
    let count = dims.iter().product();
    let values = (0..count).map(|_| Scalar::Int((generator.bits() % 6).into())).collect();
    Array::new(dtype, dims, values).to_tensor()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_in_their_range_and_differ() {
        let mut generator = Generator::new(1);
        let values = generator.tensor(DType::F64, &[1000], -2.0, 3.0).to_vec::<f64>().unwrap();
        assert!(values.iter().all(|v| (-2.0..3.0).contains(v)));
        assert!(values.iter().any(|&v| v < -1.9) && values.iter().any(|&v| v > 2.9));
        let again = Generator::new(1).tensor(DType::F64, &[1000], -2.0, 3.0);
        assert_eq!(again.to_vec::<f64>().unwrap(), values);
        let integers = generator.tensor(DType::I8, &[100], -3.0, 3.0).to_vec::<i8>().unwrap();
        assert!(integers.iter().all(|v| (-3..3).contains(v)));
    }
}
