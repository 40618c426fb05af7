use mslite_tensor::{DType, Dim, Shape, TensorSpec};

use super::{Inferred, same_dtype};
use crate::ir::op::{Binary, Unary};

pub(super) fn unary(f: Unary, x: &TensorSpec) -> Inferred<TensorSpec> {
    let wants_float = !matches!(
        f,
        Unary::Abs
            | Unary::Neg
            | Unary::Sign
            | Unary::Square
            | Unary::Relu
            | Unary::Relu6
            | Unary::Clip { .. }
            | Unary::Not
            | Unary::Floor
            | Unary::Ceil
            | Unary::Round
            | Unary::Trunc
            | Unary::IsNan
            | Unary::IsInf
            | Unary::IsFinite
    );
    let fits = match f {
        Unary::Not => x.dtype == DType::Bool || x.dtype.is_int(),
        Unary::SwapParts => x.dtype.is_complex(),
        _ if wants_float => x.dtype.is_float() || x.dtype.is_complex(),
        _ => x.dtype != DType::Bool,
    };
    if !fits {
        return Err(format!("it is not defined for {}", x.dtype));
    }
    let dtype = if f.is_predicate() { DType::Bool } else { x.dtype };
    Ok(TensorSpec::new(dtype, x.shape.clone()))
}

pub(super) fn gated(f: Unary, x: &TensorSpec) -> Inferred<TensorSpec> {
    let y = unary(f, x)?;
    let Some((last, lead)) =
        x.shape.dims().map(|dims| dims.split_last().ok_or("a scalar has no halves")).transpose()?
    else {
        return Ok(y);
    };
    if f.is_predicate() || last.as_fixed().is_some_and(|n| n % 2 != 0) {
        return Err(format!("{x} has no halves, one of which {} is applied to", f.name()));
    }
    let half = last.floor_div(&Dim::from(2));
    Ok(TensorSpec::new(x.dtype, Shape::ranked(lead.iter().cloned().chain([half]))))
}

pub(super) fn binary(f: Binary, [x, y]: [&TensorSpec; 2]) -> Inferred<TensorSpec> {
    same_dtype(x, y)?;
    let fits = match f {
        Binary::Div | Binary::Atan2 => x.dtype.is_float() || x.dtype.is_complex(),
        Binary::And | Binary::Or | Binary::Xor => x.dtype == DType::Bool || x.dtype.is_int(),
        Binary::Equal | Binary::NotEqual => true,
        Binary::Add | Binary::Mul | Binary::Maximum | Binary::Minimum => true,
        _ => x.dtype != DType::Bool,
    };
    if !fits {
        return Err(format!("it is not defined for {}", x.dtype));
    }
    let dtype = if f.is_comparison() { DType::Bool } else { x.dtype };
    Ok(TensorSpec::new(dtype, broadcast(&x.shape, &y.shape)?))
}

pub(super) fn select([condition, x, y]: [&TensorSpec; 3]) -> Inferred<TensorSpec> {
    if condition.dtype != DType::Bool {
        return Err(format!("the condition must be bool, not {}", condition.dtype));
    }
    same_dtype(x, y)?;
    let shape = broadcast(&broadcast(&condition.shape, &x.shape)?, &y.shape)?;
    Ok(TensorSpec::new(x.dtype, shape))
}

/// numpy broadcasting. Of two different symbolic extents the larger is taken: one of them must turn out to be 1.
///
/// # Errors
/// A sentence that names two extents that cannot agree.
pub fn broadcast(x: &Shape, y: &Shape) -> Inferred<Shape> {
    let (Some(x_dims), Some(y_dims)) = (x.dims(), y.dims()) else {
        return Ok(Shape::UNRANKED);
    };
    let (long, short) = if x_dims.len() >= y_dims.len() { (x_dims, y_dims) } else { (y_dims, x_dims) };
    let lead = long.len() - short.len();
    let mut dims = long[..lead].to_vec();
    for (a, b) in long[lead..].iter().zip(short) {
        dims.push(
            broadcast_dim(a, b).ok_or_else(|| format!("{x} and {y} do not broadcast: {a} against {b}"))?,
        );
    }
    Ok(Shape::ranked(dims))
}

pub(super) fn broadcast_dim(a: &Dim, b: &Dim) -> Option<Dim> {
    match (a.as_fixed(), b.as_fixed()) {
        _ if a == b => Some(a.clone()),
        (Some(1), _) => Some(b.clone()),
        (_, Some(1)) => Some(a.clone()),
        (Some(_), Some(_)) => None,
        (Some(_), None) => Some(a.clone()),
        (None, Some(_)) => Some(b.clone()),
        (None, None) => Some(a.maximum(b)),
    }
}
