use std::fmt;

use mslite_tensor::{DType, Tensor};

use crate::reference::array::{Array, Scalar, complex};

/// How far two numbers may lie apart: `|actual - expected| <= atol + rtol * |expected|`, numpy's `allclose`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Relative to the expected value.
    pub rtol: f64,
    /// Absolute.
    pub atol: f64,
}

impl Tolerance {
    /// Equal numbers only.
    pub const EXACT: Tolerance = Tolerance { rtol: 0.0, atol: 0.0 };

    /// What elementary functions of this type may differ by; integers and truth values are exact.
    pub const fn of(dtype: DType) -> Self {
        match dtype {
            DType::F64 | DType::C128 => Tolerance { rtol: 1e-9, atol: 1e-12 },
            DType::F32 | DType::C64 => Tolerance { rtol: 1e-5, atol: 1e-6 },
            DType::F16 => Tolerance { rtol: 4e-3, atol: 1e-3 },
            DType::BF16 => Tolerance { rtol: 2e-2, atol: 8e-3 },
            _ => Tolerance::EXACT,
        }
    }

    /// A wider one, for sums of several terms.
    #[must_use]
    pub const fn times(self, factor: f64) -> Self {
        Tolerance { rtol: self.rtol * factor, atol: self.atol * factor }
    }
}

/// Why two tensors are not close.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// Other extents.
    #[error("the shape is {actual:?}, expected {expected:?}")]
    Shape {
        /// What there is.
        actual: Vec<usize>,
        /// What should be there.
        expected: Vec<usize>,
    },
    /// Other values.
    #[error("{0}")]
    Values(Box<Difference>),
    /// Bytes that are no values, such as a bool that is neither 0 nor 1.
    #[error("{0}")]
    Invalid(String),
}

/// Where and how much two tensors of one shape differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Index of the first element that differs.
    pub index: Vec<usize>,
    /// What there is.
    pub actual: Value,
    /// What should be there.
    pub expected: Value,
    /// How many differ.
    pub count: usize,
    /// How many there are.
    pub total: usize,
    /// Largest absolute difference.
    pub largest: f64,
    /// What was allowed.
    pub tolerance: Tolerance,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { index, actual, expected, count, total, largest, tolerance } = self;
        write!(
            f,
            "{count} of {total} elements differ, the first at {index:?}: {actual} instead of {expected}; "
        )?;
        let Tolerance { rtol, atol } = tolerance;
        write!(f, "the largest difference is {largest:e} (rtol {rtol:e}, atol {atol:e})")
    }
}

/// A number for messages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Value(Scalar);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Scalar::Int(v) => v.fmt(f),
            Scalar::Float(v) => v.fmt(f),
            Scalar::Complex(v) => v.fmt(f),
        }
    }
}

fn check_dims(actual: &Tensor, expected: &Tensor) -> Result<(), Mismatch> {
    if actual.dims() == expected.dims() {
        return Ok(());
    }
    let (actual, expected) = (actual.dims().to_vec(), expected.dims().to_vec());
    Err(Mismatch::Shape { actual, expected })
}

/// Compares values; the element types may differ. NaN equals NaN, an infinity equals itself.
///
/// # Errors
/// [`Mismatch`], with the first index that differs and both values there.
pub fn compare(actual: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Result<(), Mismatch> {
    check_dims(actual, expected)?;
    let actual = Array::from_tensor(actual).map_err(Mismatch::Invalid)?;
    let expected = Array::from_tensor(expected).map_err(Mismatch::Invalid)?;
    let pairs = || actual.values.iter().zip(&expected.values);
    let differing: Vec<usize> =
        pairs().enumerate().filter(|(_, (a, e))| !is_close(**a, **e, tolerance)).map(|(at, _)| at).collect();
    let Some(&first) = differing.first() else { return Ok(()) };
    Err(Mismatch::Values(Box::new(Difference {
        index: index_of(first, &expected.dims),
        actual: Value(actual.values[first]),
        expected: Value(expected.values[first]),
        count: differing.len(),
        total: expected.values.len(),
        largest: pairs().map(|(a, e)| (complex(*a) - complex(*e)).norm()).fold(0.0, f64::max),
        tolerance,
    })))
}

/// The largest `|actual - expected| / (atol + rtol * |expected|)`: at most 1 where [`compare`] finds no difference.
///
/// # Errors
/// [`Mismatch`] for other extents, and for bytes that are no values.
pub fn distance(actual: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Result<f64, Mismatch> {
    check_dims(actual, expected)?;
    let actual = Array::from_tensor(actual).map_err(Mismatch::Invalid)?;
    let expected = Array::from_tensor(expected).map_err(Mismatch::Invalid)?;
    let ratio = |(a, e): (&Scalar, &Scalar)| {
        if is_close(*a, *e, Tolerance::EXACT) {
            return 0.0;
        }
        let (a, e) = (complex(*a), complex(*e));
        let ratio = (a - e).norm() / (tolerance.atol + tolerance.rtol * e.norm());
        if ratio.is_nan() { f64::INFINITY } else { ratio }
    };
    Ok(actual.values.iter().zip(&expected.values).map(ratio).fold(0.0, f64::max))
}

/// Panics unless the tensors are close.
///
/// # Panics
/// With the message of the [`Mismatch`].
#[track_caller]
pub fn assert_close(actual: &Tensor, expected: &Tensor, tolerance: Tolerance) {
    if let Err(mismatch) = compare(actual, expected, tolerance) {
        panic!("{mismatch}");
    }
}

fn is_close(actual: Scalar, expected: Scalar, tolerance: Tolerance) -> bool {
    if let (Scalar::Int(a), Scalar::Int(e)) = (actual, expected)
        && tolerance == Tolerance::EXACT
    {
        return a == e;
    }
    let (a, e) = (complex(actual), complex(expected));
    let part = |a: f64, e: f64, bound: f64| {
        a == e || (a.is_nan() && e.is_nan()) || (e.is_finite() && (a - e).abs() <= bound)
    };
    let bound = tolerance.atol + tolerance.rtol * e.norm();
    part(a.re, e.re, bound) && part(a.im, e.im, bound)
}

fn index_of(mut at: usize, dims: &[usize]) -> Vec<usize> {
    let mut index = vec![0; dims.len()];
    for (i, &extent) in index.iter_mut().zip(dims).rev() {
        *i = at % extent;
        at /= extent;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::array::indices;

    fn f(values: &[f32]) -> Tensor {
        Tensor::from_vec(values.to_vec(), &[values.len()]).unwrap()
    }

    #[test]
    fn the_rule_is_that_of_allclose() {
        let tolerance = Tolerance { rtol: 0.125, atol: 0.5 };
        assert_eq!(compare(&f(&[9.5, f32::NAN]), &f(&[8.0, f32::NAN]), tolerance), Ok(()));
        assert!(compare(&f(&[9.75]), &f(&[8.0]), tolerance).is_err());
        assert_eq!(compare(&f(&[f32::INFINITY]), &f(&[f32::INFINITY]), tolerance), Ok(()));
        for (actual, expected) in [(f32::NAN, 1.0), (1.0, f32::NAN), (1.0, f32::INFINITY)] {
            assert!(compare(&f(&[actual]), &f(&[expected]), tolerance).is_err());
        }
    }

    #[test]
    fn types_may_differ_and_the_message_names_the_place() {
        let actual = Tensor::from_vec(vec![1i64, 2, 7, 4], &[2, 2]).unwrap();
        let expected = f(&[1.0, 2.0, 3.0, 4.0]).reshape(&[2, 2]).unwrap();
        let message = compare(&actual, &expected, Tolerance::EXACT).unwrap_err().to_string();
        assert!(
            message.starts_with("1 of 4 elements differ, the first at [1, 0]: 7 instead of 3"),
            "{message}"
        );
        let shape = compare(&actual, &f(&[0.0; 4]), Tolerance::EXACT);
        assert!(matches!(shape, Err(Mismatch::Shape { .. })));
    }

    #[test]
    fn large_integers_are_compared_exactly() {
        let x = |v: u64| Tensor::from_vec(vec![v], &[1]).unwrap();
        assert!(compare(&x(u64::MAX), &x(u64::MAX - 1), Tolerance::EXACT).is_err());
    }

    #[test]
    fn indices_count_row_major() {
        let dims = [2, 3, 4];
        for (at, index) in indices(&dims).into_iter().enumerate() {
            assert_eq!(index_of(at, &dims), index);
        }
    }
}
