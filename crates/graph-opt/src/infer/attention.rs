use mslite_tensor::{DType, Dim, Shape, TensorSpec};

use super::{Inferred, broadcast, float, may_equal, same_dtype, unranked};
use crate::ir::op::Attention;

pub(super) fn rope([x, cos, sin]: [&TensorSpec; 3]) -> Inferred<TensorSpec> {
    float(x)?;
    for factor in [cos, sin] {
        same_dtype(x, factor)?;
        let (Some(dims), Some(own)) = (x.shape.dims(), factor.shape.dims()) else { continue };
        let (Some(width), Some(own_width)) = (dims.last(), own.last()) else {
            return Err("its operands must have an axis".to_owned());
        };
        if width.as_fixed().is_some_and(|n| n % 2 != 0) || !may_equal(width, own_width) {
            return Err(format!("{factor} does not rotate pairs of {x}"));
        }
        if own.len() > dims.len() || broadcast(&x.shape, &factor.shape)? != x.shape {
            return Err(format!("{factor} does not broadcast to {x}"));
        }
    }
    Ok(x.clone())
}

pub(super) fn attention(op: &Attention, operands: &[&TensorSpec]) -> Inferred<TensorSpec> {
    let (query, key, value, mask) = match operands {
        [query, key, value] => (query, key, value, None),
        [query, key, value, mask] => (query, key, value, Some(mask)),
        _ => return Err(format!("it takes 3 or 4 operands, not {}", operands.len())),
    };
    float(query)?;
    same_dtype(query, key)?;
    same_dtype(query, value)?;
    if op.heads.iter().any(|axis| !matches!(axis, 1 | 2)) {
        return Err(format!("heads are axis 1 or 2, not {:?}", op.heads));
    }
    let scores = if query.dtype == DType::F64 { DType::F64 } else { DType::F32 };
    if let Some(mask) = mask.filter(|mask| mask.dtype != scores && mask.dtype != DType::Bool) {
        return Err(format!("its mask is {}, not {scores} or bool", mask.dtype));
    }
    let ([Some(q), Some(k), Some(v)], true) = (
        [heads_first(query, op.heads[0])?, heads_first(key, op.heads[1])?, heads_first(value, op.heads[2])?],
        mask.is_none_or(|mask| mask.shape.rank().is_some()),
    ) else {
        return Ok(unranked(query.dtype));
    };
    let [[batch, heads, rows, width], [_, shared, columns, _]] = [&q, &k];
    let fit = may_equal(batch, &k[0])
        && may_equal(batch, &v[0])
        && may_equal(shared, &v[1])
        && may_equal(columns, &v[2])
        && may_equal(width, &k[3]);
    if !fit {
        return Err(format!("{query}, {key} and {value} do not fit each other"));
    }
    if let (Some(heads), Some(shared)) = (heads.as_fixed(), shared.as_fixed())
        && (shared < 1 || heads % shared != 0)
    {
        return Err(format!("{heads} heads cannot share {shared}"));
    }
    if let Some(mask) = mask {
        let full = Shape::ranked([batch.clone(), heads.clone(), rows.clone(), columns.clone()]);
        if broadcast(&full, &mask.shape)? != full {
            return Err(format!("{mask} does not broadcast to the scores, {full}"));
        }
    }
    let mut dims = [batch.clone(), heads.clone(), rows.clone(), v[3].clone()];
    dims.swap(1, op.heads[3]);
    Ok(TensorSpec::new(query.dtype, Shape::ranked(dims)))
}

/// Extents as [batch, heads, length, width].
fn heads_first(x: &TensorSpec, axis: usize) -> Inferred<Option<[Dim; 4]>> {
    let Some(dims) = x.shape.dims() else { return Ok(None) };
    let mut dims = <[Dim; 4]>::try_from(dims.to_vec()).map_err(|_| format!("{x} has not 4 axes"))?;
    dims.swap(1, axis);
    Ok(Some(dims))
}
