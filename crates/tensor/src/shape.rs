use std::fmt;

use smallvec::SmallVec;

use crate::{Bindings, DType, Dim, Error, Result};

/// Concrete extents, held inline up to rank six.
pub type Dims = SmallVec<[usize; 6]>;

/// Product of the extents, or `None` when it does not fit.
pub fn num_elements(dims: &[usize]) -> Option<usize> {
    if dims.contains(&0) {
        return Some(0);
    }
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

/// Row-major strides, in elements.
pub fn contiguous_strides(dims: &[usize]) -> Dims {
    let mut strides = Dims::from_elem(1, dims.len());
    for axis in (0..dims.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1].saturating_mul(dims[axis + 1]);
    }
    strides
}

/// Shape of a value: extents that may be symbolic, or not even a known rank.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(Option<Vec<Dim>>);

impl Shape {
    /// A shape whose rank is unknown (MindIR: a single -2).
    pub const UNRANKED: Shape = Shape(None);

    /// A shape of known rank.
    pub fn ranked(dims: impl IntoIterator<Item = Dim>) -> Self {
        Shape(Some(dims.into_iter().collect()))
    }

    /// The shape of a single element.
    pub fn scalar() -> Self {
        Shape(Some(Vec::new()))
    }

    /// A shape whose extents are all known.
    pub fn fixed(dims: &[usize]) -> Self {
        Shape(Some(dims.iter().map(|&d| Dim::from(d)).collect()))
    }

    /// Extents, or `None` when the rank is unknown.
    pub fn dims(&self) -> Option<&[Dim]> {
        self.0.as_deref()
    }

    /// Number of axes, if known.
    pub fn rank(&self) -> Option<usize> {
        self.0.as_ref().map(Vec::len)
    }

    /// Extents as numbers, if every one of them is known and not negative.
    pub fn as_fixed(&self) -> Option<Dims> {
        self.dims()?.iter().map(Dim::as_usize).collect()
    }

    /// Whether every extent is a number.
    pub fn is_fixed(&self) -> bool {
        self.dims().is_some_and(|dims| dims.iter().all(|d| d.as_usize().is_some()))
    }

    /// The shape with the symbols that `bindings` knows replaced by their values.
    pub fn bind(&self, bindings: &Bindings) -> Shape {
        Shape(self.0.as_ref().map(|dims| dims.iter().map(|d| d.bind(bindings)).collect()))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(dims) = self.dims() else {
            return f.write_str("[*]");
        };
        f.write_str("[")?;
        for (i, dim) in dims.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{dim}")?;
        }
        f.write_str("]")
    }
}

/// Element type and shape: the type of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorSpec {
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Shape,
}

impl TensorSpec {
    /// A specification from its parts.
    pub fn new(dtype: DType, shape: Shape) -> Self {
        TensorSpec { dtype, shape }
    }

    /// A specification whose extents are all known.
    pub fn fixed(dtype: DType, dims: &[usize]) -> Self {
        TensorSpec { dtype, shape: Shape::fixed(dims) }
    }

    /// Bytes of such a tensor, if the shape is fixed and its size fits the address space.
    ///
    /// # Errors
    /// [`Error::Unbound`] for a symbolic or unranked shape, [`Error::TooLarge`] on overflow.
    pub fn size_bytes(&self) -> Result<usize> {
        let dims = self.shape.as_fixed().ok_or_else(|| Error::Unbound(self.shape.to_string()))?;
        size_bytes(self.dtype, &dims)
    }
}

/// Bytes of a dense tensor, checked against overflow.
pub(crate) fn size_bytes(dtype: DType, dims: &[usize]) -> Result<usize> {
    num_elements(dims)
        .and_then(|n| n.checked_mul(dtype.size()))
        .filter(|&n| isize::try_from(n).is_ok())
        .ok_or_else(|| Error::TooLarge { dims: dims.to_vec() })
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert_eq!(num_elements(&[]), Some(1));
        assert_eq!(num_elements(&[usize::MAX, 2, 0]), Some(0));
        assert_eq!(num_elements(&[usize::MAX, 2]), None);
        assert!(matches!(
            TensorSpec::fixed(DType::F64, &[1 << 61]).size_bytes(),
            Err(Error::TooLarge { .. })
        ));
        assert!(matches!(TensorSpec::new(DType::F64, Shape::UNRANKED).size_bytes(), Err(Error::Unbound(_))));
        assert_eq!(TensorSpec::fixed(DType::F64, &[2, 3]).size_bytes(), Ok(48));
    }

    #[test]
    fn strides_are_row_major() {
        assert_eq!(contiguous_strides(&[2, 3, 4]).as_slice(), &[12, 4, 1]);
        assert!(contiguous_strides(&[]).is_empty());
    }
}
