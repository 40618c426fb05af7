use mslite_tensor::{DType, Dim, Shape, TensorSpec};

use super::elementwise::unary;
use super::{Inferred, broadcast, check_axis, float, may_equal, same_dtype, unranked};
use crate::ir::op::{AddNorm, ArgReduce, Conv2d, MatMul, Norm, Padding2d, Pool2d, Reduce, ReduceKind, Unary};

pub(super) fn reduce(reduce: &Reduce, x: &TensorSpec) -> Inferred<TensorSpec> {
    let is_logic = matches!(reduce.kind, ReduceKind::All | ReduceKind::Any);
    if is_logic && x.dtype != DType::Bool {
        return Err(format!("it needs bool, not {}", x.dtype));
    }
    if !reduce.axes.is_sorted_by(|a, b| a < b) {
        return Err(format!("its axes {:?} are not sorted and distinct", reduce.axes));
    }
    let Some(dims) = x.shape.dims() else { return Ok(unranked(x.dtype)) };
    if let Some(&axis) = reduce.axes.last() {
        check_axis(x, axis)?;
    }
    Ok(TensorSpec::new(x.dtype, reduced(dims, &reduce.axes, reduce.keep_dims)))
}

pub(super) fn arg_reduce(reduce: &ArgReduce, x: &TensorSpec) -> Inferred<TensorSpec> {
    let Some(dims) = x.shape.dims() else { return Ok(unranked(reduce.dtype)) };
    check_axis(x, reduce.axis)?;
    Ok(TensorSpec::new(reduce.dtype, reduced(dims, &[reduce.axis], reduce.keep_dims)))
}

fn reduced(dims: &[Dim], axes: &[usize], keep_dims: bool) -> Shape {
    let kept = dims.iter().enumerate().filter_map(|(i, dim)| match (axes.contains(&i), keep_dims) {
        (true, true) => Some(Dim::from(1)),
        (true, false) => None,
        (false, _) => Some(dim.clone()),
    });
    Shape::ranked(kept)
}

pub(super) fn layer_norm(norm: &Norm, operands: &[&TensorSpec]) -> Inferred<TensorSpec> {
    match operands {
        [x] | [x, _, _] => normalised(norm, x, &operands[1..]),
        _ => Err(format!("it takes 1 or 3 operands, not {}", operands.len())),
    }
}

pub(super) fn rms_norm(norm: &Norm, [x, gamma]: [&TensorSpec; 2]) -> Inferred<TensorSpec> {
    normalised(norm, x, &[gamma])
}

pub(super) fn add_norm(norm: &AddNorm, operands: &[&TensorSpec]) -> Inferred {
    let factors = if norm.centred { 2 } else { 1 };
    let addends =
        operands.len().checked_sub(1 + factors).filter(|n| matches!(n, 1 | 2)).ok_or_else(|| {
            format!("it takes {} or {} operands, not {}", factors + 2, factors + 3, operands.len())
        })?;
    let AddNorm { axis, epsilon, .. } = *norm;
    let mut x = operands[0].clone();
    let others = operands[operands.len() - 1].dtype;
    if x.dtype == DType::F32 && matches!(others, DType::F16 | DType::BF16) {
        x.dtype = others;
    }
    let x = &x;
    for addend in &operands[1..=addends] {
        same_dtype(x, addend)?;
        if broadcast(&x.shape, &addend.shape)? != x.shape {
            return Err(format!("{addend} does not broadcast to {x}"));
        }
    }
    let y = normalised(&Norm { axis, epsilon }, x, &operands[1 + addends..])?;
    Ok(if norm.sum { vec![y, x.clone()] } else { vec![y] })
}

fn normalised(norm: &Norm, x: &TensorSpec, affine: &[&TensorSpec]) -> Inferred<TensorSpec> {
    float(x)?;
    check_axis(x, norm.axis)?;
    for factor in affine {
        same_dtype(x, factor)?;
        let shape = broadcast(&x.shape, &factor.shape)?;
        if shape.rank() != x.shape.rank() {
            return Err(format!("{factor} has more axes than {x}"));
        }
    }
    Ok(x.clone())
}

pub(super) fn matmul(matmul: &MatMul, operands: &[&TensorSpec]) -> Inferred<TensorSpec> {
    let (a, b, bias) = match operands {
        [a, b] => (a, b, None),
        [a, b, bias] => (a, b, Some(bias)),
        _ => return Err(format!("it takes 2 or 3 operands, not {}", operands.len())),
    };
    same_dtype(a, b)?;
    activated(matmul.activation, a)?;
    let dtype = match matmul.wide {
        true => wide_result(matmul, a, bias.is_some())?,
        false => a.dtype,
    };
    let (Some(a_dims), Some(b_dims)) = (a.shape.dims(), b.shape.dims()) else {
        return Ok(unranked(dtype));
    };
    if a_dims.is_empty() || b_dims.is_empty() {
        return Err("a scalar cannot be multiplied as a matrix".to_owned());
    }
    let (a_rows, a_cols) = matrix(a_dims, matmul.transpose_a, true);
    let (b_rows, b_cols) = matrix(b_dims, matmul.transpose_b, false);
    let (inner_a, inner_b) = (a_cols.unwrap_or(&a_dims[0]), b_rows.unwrap_or(&b_dims[0]));
    if !may_equal(inner_a, inner_b) {
        return Err(format!("the inner extents {inner_a} and {inner_b} differ"));
    }
    let batch = |dims: &[Dim]| Shape::ranked(dims[..dims.len().saturating_sub(2)].to_vec());
    let batch = broadcast(&batch(a_dims), &batch(b_dims))?;
    let outer = [a_rows, b_cols].into_iter().flatten().cloned();
    let shape = Shape::ranked(batch.dims().unwrap_or_default().iter().cloned().chain(outer));
    let result = TensorSpec::new(dtype, shape);
    match bias {
        Some(bias) => biased(result, bias),
        None => Ok(result),
    }
}

/// The type of sums that are not rounded.
fn wide_result(matmul: &MatMul, a: &TensorSpec, has_bias: bool) -> Inferred<DType> {
    match a.dtype {
        DType::F16 | DType::BF16 if !has_bias && matmul.activation.is_none() => Ok(DType::F32),
        DType::F16 | DType::BF16 => Err("a wide product has neither bias nor activation".to_owned()),
        dtype => Err(format!("the products of {dtype} are not added up in another type")),
    }
}

/// Extents of the last two axes as rows and columns; a vector on the left has only columns, on the right only
/// rows.
fn matrix(dims: &[Dim], transposed: bool, left: bool) -> (Option<&Dim>, Option<&Dim>) {
    match dims {
        [n] if left => (None, Some(n)),
        [n] => (Some(n), None),
        [.., rows, cols] if transposed => (Some(cols), Some(rows)),
        [.., rows, cols] => (Some(rows), Some(cols)),
        [] => (None, None),
    }
}

/// Checks that an activation is defined for a type and keeps it.
fn activated(activation: Option<Unary>, x: &TensorSpec) -> Inferred<()> {
    match activation {
        Some(f) if f.is_predicate() => Err(format!("{} is no activation", f.name())),
        Some(f) => unary(f, x).map(|_| ()),
        None => Ok(()),
    }
}

fn biased(result: TensorSpec, bias: &TensorSpec) -> Inferred<TensorSpec> {
    same_dtype(&result, bias)?;
    let last = result.shape.dims().and_then(|dims| dims.last());
    match (last, bias.shape.dims()) {
        (Some(n), Some([m])) if !may_equal(n, m) => Err(format!("a bias of {m} does not fit {result}")),
        (Some(_), Some([_])) => Ok(result),
        (_, None) => Ok(result),
        _ => Err(format!("the bias must be a vector, not {bias}")),
    }
}

pub(super) fn conv2d(conv: &Conv2d, operands: &[&TensorSpec]) -> Inferred<TensorSpec> {
    let (x, weight, bias) = match operands {
        [x, weight] => (x, weight, None),
        [x, weight, bias] => (x, weight, Some(bias)),
        _ => return Err(format!("it takes 2 or 3 operands, not {}", operands.len())),
    };
    same_dtype(x, weight)?;
    activated(conv.activation, x)?;
    let (Some(x_dims), Some(w_dims)) = (x.shape.dims(), weight.shape.dims()) else {
        return Ok(unranked(x.dtype));
    };
    let ([n, c, h, w], [out, c_group, kh, kw]) = (x_dims, w_dims) else {
        return Err(format!("{x} and {weight} must have rank 4"));
    };
    if conv.groups == 0 || !may_equal(c, &(c_group * &Dim::from(conv.groups))) {
        return Err(format!("{c} channels do not fit {} groups of {c_group}", conv.groups));
    }
    if let Some(bias) = bias {
        same_dtype(x, bias)?;
        if !matches!(bias.shape.dims(), Some([m]) if may_equal(m, out)) {
            return Err(format!("a bias {bias} does not fit {out} channels"));
        }
    }
    let window = |axis: usize, size: &Dim, kernel: &Dim| {
        let extent = &(&(kernel - &Dim::from(1)) * &Dim::from(conv.dilations[axis])) + &Dim::from(1);
        windows(size, &extent, conv.strides[axis], conv.padding, axis, false)
    };
    let dims = [n.clone(), out.clone(), window(0, h, kh)?, window(1, w, kw)?];
    Ok(TensorSpec::new(x.dtype, Shape::ranked(dims)))
}

pub(super) fn pool2d(pool: &Pool2d, x: &TensorSpec) -> Inferred<TensorSpec> {
    let Some(dims) = x.shape.dims() else { return Ok(unranked(x.dtype)) };
    let [n, c, h, w] = dims else { return Err(format!("{x} must have rank 4")) };
    let window = |axis: usize, size: &Dim| {
        let kernel = Dim::from(pool.kernel[axis]);
        windows(size, &kernel, pool.strides[axis], pool.padding, axis, pool.ceil_mode)
    };
    let dims = [n.clone(), c.clone(), window(0, h)?, window(1, w)?];
    Ok(TensorSpec::new(x.dtype, Shape::ranked(dims)))
}

/// How many windows of an extent fit.
fn windows(
    size: &Dim,
    extent: &Dim,
    stride: usize,
    padding: Padding2d,
    axis: usize,
    ceil: bool,
) -> Inferred<Dim> {
    if stride == 0 {
        return Err("the stride must not be 0".to_owned());
    }
    let stride = Dim::from(stride);
    let Padding2d::Explicit(sides) = padding else {
        return Ok(size.ceil_div(&stride));
    };
    let padded = &(size + &Dim::from(sides[2 * axis])) + &Dim::from(sides[2 * axis + 1]);
    let room = &padded - extent;
    if room.as_fixed().is_some_and(|n| n < 0) {
        return Err(format!("a window of {extent} does not fit {padded}"));
    }
    let steps = if ceil { room.ceil_div(&stride) } else { room.floor_div(&stride) };
    Ok(&steps + &Dim::from(1))
}
