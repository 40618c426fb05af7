use mslite_tensor::{DType, Dim, Shape, TensorSpec};

use super::{Inferred, broadcast, float, may_equal, same_dtype, unranked};
use crate::ir::op::{Attention, Packed};

pub(super) fn rope([x, cos, sin]: [&TensorSpec; 3]) -> Inferred<TensorSpec> {
    float(x)?;
    for factor in [cos, sin] {
        same_dtype(x, factor)?;
        let (Some(dims), Some(own)) = (x.shape.dims(), factor.shape.dims()) else { continue };
        let (Some(width), Some(own_width)) = (dims.last(), own.last()) else {
            return Err("its operands must have an axis".to_owned());
        };
        if own_width.as_fixed().is_some_and(|n| n % 2 != 0) || !is_multiple(width, own_width) {
            return Err(format!("{factor} does not rotate pairs of {x}"));
        }
        let lead = |dims: &[Dim]| Shape::ranked(dims[..dims.len() - 1].to_vec());
        if own.len() > dims.len() || broadcast(&lead(dims), &lead(own))? != lead(dims) {
            return Err(format!("{factor} does not broadcast to {x}"));
        }
    }
    Ok(x.clone())
}

/// Whether an extent may be a multiple of another.
fn is_multiple(x: &Dim, of: &Dim) -> bool {
    match (x.as_usize(), of.as_usize()) {
        (Some(x), Some(of)) => of > 0 && x.is_multiple_of(of) || x == of,
        _ => true,
    }
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
    let heads = |n: usize| match op.packed[n] {
        Some(packed) if op.heads[n] == 2 => unpacked(operands[n], packed),
        Some(_) => Err("packed heads are axis 2".to_owned()),
        None => heads_first(operands[n], op.heads[n]),
    };
    let ([Some(q), Some(k), Some(v)], true) =
        ([heads(0)?, heads(1)?, heads(2)?], mask.is_none_or(|mask| mask.shape.rank().is_some()))
    else {
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
    if let Some(packed) = op.packed[3] {
        let fits = packed.start == 0 && op.heads[3] == 2;
        if !fits || !may_equal(heads, &packed.heads.into()) || !may_equal(&v[3], &packed.width.into()) {
            return Err(format!("{heads} heads of {} columns cannot be packed as {packed}", v[3]));
        }
        let columns = columns_of(packed)?;
        return Ok(TensorSpec::new(query.dtype, Shape::ranked([dims[0].clone(), dims[2].clone(), columns])));
    }
    dims.swap(1, op.heads[3]);
    Ok(TensorSpec::new(query.dtype, Shape::ranked(dims)))
}

/// Extents of packed heads as [batch, heads, length, width].
fn unpacked(x: &TensorSpec, packed: Packed) -> Inferred<Option<[Dim; 4]>> {
    let Some(dims) = x.shape.dims() else { return Ok(None) };
    let [batch, length, columns] = dims else { return Err(format!("{x} has not 3 axes")) };
    let used =
        packed.start.checked_add(usize::try_from(columns_of(packed)?.as_fixed().unwrap_or(0)).unwrap_or(0));
    if used.is_none() || columns.as_usize().is_some_and(|n| used > Some(n)) {
        return Err(format!("{x} has no heads {packed}"));
    }
    Ok(Some([batch.clone(), packed.heads.into(), length.clone(), packed.width.into()]))
}

fn columns_of(packed: Packed) -> Inferred<Dim> {
    let columns = packed.heads.checked_mul(packed.width).filter(|&n| i64::try_from(n).is_ok());
    columns.map(Dim::from).ok_or_else(|| format!("{packed} are too many columns"))
}

/// Extents as [batch, heads, length, width].
fn heads_first(x: &TensorSpec, axis: usize) -> Inferred<Option<[Dim; 4]>> {
    let Some(dims) = x.shape.dims() else { return Ok(None) };
    let mut dims = <[Dim; 4]>::try_from(dims.to_vec()).map_err(|_| format!("{x} has not 4 axes"))?;
    dims.swap(1, axis);
    Ok(Some(dims))
}
