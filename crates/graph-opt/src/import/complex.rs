//! Complex numbers, taken apart where the IR has the function for real ones only.

use mslite_tensor::{Complex, DType, Tensor};

use super::emit::Emitter;
use crate::Result;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Cumulative, MatMul, Op, ReduceKind, Unary};

/// The type of the parts of a complex number, which is also that of its size.
pub(super) fn part_dtype(complex: DType) -> DType {
    if complex == DType::C64 { DType::F32 } else { DType::F64 }
}

/// The complex type with parts of this type.
pub(super) fn complex_dtype(part: DType) -> DType {
    if part == DType::F64 { DType::C128 } else { DType::C64 }
}

/// A constant with nothing but a real part.
pub(super) fn scalar(value: f64, dtype: DType) -> Tensor {
    match dtype {
        DType::C64 => Tensor::scalar(Complex::new(value as f32, 0.0)),
        _ => Tensor::scalar(Complex::new(value, 0.0)),
    }
}

impl Emitter {
    pub(super) fn real_part(&mut self, x: ValueId) -> Result<ValueId> {
        self.cast(x, part_dtype(self.dtype(x)))
    }

    pub(super) fn imaginary_part(&mut self, x: ValueId) -> Result<ValueId> {
        let swapped = self.op(Op::Unary(Unary::SwapParts), &[x])?;
        self.real_part(swapped)
    }

    /// The complex numbers with these parts, both f32 or both f64.
    pub(super) fn complex(&mut self, real: ValueId, imaginary: ValueId) -> Result<ValueId> {
        let dtype = complex_dtype(self.dtype(real));
        let (real, imaginary) = (self.cast(real, dtype)?, self.cast(imaginary, dtype)?);
        let imaginary = self.op(Op::Unary(Unary::SwapParts), &[imaginary])?;
        self.binary(Binary::Add, real, imaginary)
    }

    /// What `f` gives for each part, put together again.
    pub(super) fn by_parts(
        &mut self,
        x: ValueId,
        mut f: impl FnMut(&mut Self, ValueId) -> Result<ValueId>,
    ) -> Result<ValueId> {
        let (real, imaginary) = (self.real_part(x)?, self.imaginary_part(x)?);
        let (real, imaginary) = (f(self, real)?, f(self, imaginary)?);
        self.complex(real, imaginary)
    }

    /// The distance from 0; the square root is of parts over the larger of both, so that nothing overflows.
    pub(super) fn complex_size(&mut self, x: ValueId) -> Result<ValueId> {
        let (real, imaginary) = (self.real_part(x)?, self.imaginary_part(x)?);
        let (a, b) = (self.unary(Unary::Abs, real)?, self.unary(Unary::Abs, imaginary)?);
        let (large, small) = (self.binary(Binary::Maximum, a, b)?, self.binary(Binary::Minimum, a, b)?);
        let ratio = self.binary(Binary::Div, small, large)?;
        let square = self.unary(Unary::Square, ratio)?;
        let sum = self.with_scalar(Binary::Add, square, 1.0)?;
        let root = self.unary(Unary::Sqrt, sum)?;
        let size = self.binary(Binary::Mul, large, root)?;
        // 0 / 0 and inf / inf have no ratio.
        let plain = self.binary(Binary::Add, large, small)?;
        let is_plain = self.binary(Binary::Equal, large, plain)?;
        self.select(is_plain, plain, size)
    }

    /// The square of the distance, as a complex number.
    pub(super) fn complex_distance(&mut self, x: ValueId, y: ValueId) -> Result<ValueId> {
        let apart = self.binary(Binary::Sub, x, y)?;
        let size = self.complex_size(apart)?;
        let square = self.unary(Unary::Square, size)?;
        self.cast(square, self.dtype(x))
    }

    /// A function of one complex tensor.
    pub(super) fn complex_unary(&mut self, f: Unary, x: ValueId) -> Result<ValueId> {
        match f {
            Unary::Abs => self.complex_size(x),
            Unary::Sign => {
                let size = self.complex_size(x)?;
                let size = self.cast(size, self.dtype(x))?;
                let direction = self.binary(Binary::Div, x, size)?;
                let is_zero = self.with_scalar(Binary::Equal, x, 0.0)?;
                self.select(is_zero, x, direction)
            }
            Unary::IsNan | Unary::IsInf | Unary::IsFinite => {
                let (real, imaginary) = (self.real_part(x)?, self.imaginary_part(x)?);
                let (a, b) = (self.unary(f, real)?, self.unary(f, imaginary)?);
                self.binary(if f == Unary::IsFinite { Binary::And } else { Binary::Or }, a, b)
            }
            Unary::Floor | Unary::Ceil | Unary::Round | Unary::Trunc => {
                self.by_parts(x, |emit, part| emit.unary(f, part))
            }
            _ => self.op(Op::Unary(f), &[x]),
        }
    }

    /// Sums and means.
    pub(super) fn complex_reduce(
        &mut self,
        kind: ReduceKind,
        x: ValueId,
        axes: &[usize],
        keep_dims: bool,
    ) -> Result<ValueId> {
        match kind {
            ReduceKind::Sum | ReduceKind::Mean => {
                self.by_parts(x, |emit, part| emit.reduce(kind, part, axes.to_vec(), keep_dims))
            }
            ReduceKind::Prod => self.complex_product(x, axes, keep_dims),
            _ => Err(self.unsupported("a reduction", "complex numbers have no order")),
        }
    }

    /// The product of sizes, in the direction that the sum of angles gives.
    fn complex_product(&mut self, x: ValueId, axes: &[usize], keep_dims: bool) -> Result<ValueId> {
        let (size, angle) = (self.complex_size(x)?, self.angle(x)?);
        let size = self.reduce(ReduceKind::Prod, size, axes.to_vec(), keep_dims)?;
        let angle = self.reduce(ReduceKind::Sum, angle, axes.to_vec(), keep_dims)?;
        self.polar(size, angle)
    }

    /// The direction from 0.
    pub(super) fn angle(&mut self, x: ValueId) -> Result<ValueId> {
        let (real, imaginary) = (self.real_part(x)?, self.imaginary_part(x)?);
        self.binary(Binary::Atan2, imaginary, real)
    }

    /// The numbers of these sizes in the directions of these angles.
    pub(super) fn polar(&mut self, size: ValueId, angle: ValueId) -> Result<ValueId> {
        let (cos, sin) = (self.unary(Unary::Cos, angle)?, self.unary(Unary::Sin, angle)?);
        let (real, imaginary) = (self.binary(Binary::Mul, size, cos)?, self.binary(Binary::Mul, size, sin)?);
        self.complex(real, imaginary)
    }

    /// Running sums or products.
    pub(super) fn cumulative(&mut self, op: Cumulative, x: ValueId) -> Result<ValueId> {
        if !self.dtype(x).is_complex() {
            return self.op(Op::Cumulative(op), &[x]);
        }
        if !op.product {
            return self.by_parts(x, |emit, part| emit.op(Op::Cumulative(op.clone()), &[part]));
        }
        let (size, angle) = (self.complex_size(x)?, self.angle(x)?);
        let size = self.op(Op::Cumulative(op.clone()), &[size])?;
        let angle = self.op(Op::Cumulative(Cumulative { product: false, ..op.clone() }), &[angle])?;
        self.polar(size, angle)
    }

    /// A matrix product, of four products of real ones.
    pub(super) fn matmul(&mut self, op: MatMul, a: ValueId, b: ValueId) -> Result<ValueId> {
        if !self.dtype(a).is_complex() || self.dtype(a) != self.dtype(b) {
            return self.op(Op::MatMul(op), &[a, b]);
        }
        let op = Op::MatMul(op);
        let (ar, ai) = (self.real_part(a)?, self.imaginary_part(a)?);
        let (br, bi) = (self.real_part(b)?, self.imaginary_part(b)?);
        let (rr, ii) = (self.op(op.clone(), &[ar, br])?, self.op(op.clone(), &[ai, bi])?);
        let (ri, ir) = (self.op(op.clone(), &[ar, bi])?, self.op(op, &[ai, br])?);
        let (real, imaginary) = (self.binary(Binary::Sub, rr, ii)?, self.binary(Binary::Add, ri, ir)?);
        self.complex(real, imaginary)
    }
}
