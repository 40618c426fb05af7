//! Reductions, normalisations, products and windows.

use mslite_graph_opt::ir::op::{
    AddNorm, ArgReduce, Conv2d, Cumulative, MatMul, Norm, Padding2d, Pool2d, Reduce, ReduceKind, Softmax,
    Unary,
};
use mslite_tensor::{Complex, DType};

use super::array::{Array, Scalar, broadcast_dims, complex, float, indices, int, with};
use super::elementwise;

type Answer = Result<Array, String>;

pub(super) fn reduce(reduce: &Reduce, x: &Array) -> Answer {
    let (dims, groups) = grouped(x, &reduce.axes, reduce.keep_dims);
    let values = groups.iter().map(|group| reduced(reduce.kind, group, x.dtype)).collect::<Result<_, _>>()?;
    Ok(Array::new(x.dtype, &dims, values))
}

/// The elements that fall together when `axes` are reduced, each group in row-major order.
fn grouped(x: &Array, axes: &[usize], keep_dims: bool) -> (Vec<usize>, Vec<Vec<Scalar>>) {
    let kept: Vec<usize> = (0..x.dims.len()).map(|a| if axes.contains(&a) { 1 } else { x.dims[a] }).collect();
    let mut groups = Vec::new();
    for lead in indices(&kept) {
        let inner: Vec<usize> = axes.iter().map(|&a| x.dims[a]).collect();
        let members = indices(&inner).into_iter().map(|offsets| {
            let index = axes.iter().zip(offsets).fold(lead.clone(), |index, (&a, i)| with(&index, a, i));
            x.at(&index)
        });
        groups.push(members.collect());
    }
    let dims =
        kept.iter().enumerate().filter(|(a, _)| keep_dims || !axes.contains(a)).map(|(_, &n)| n).collect();
    (dims, groups)
}

fn reduced(kind: ReduceKind, group: &[Scalar], dtype: DType) -> Result<Scalar, String> {
    let extreme = |better: fn(f64, f64) -> bool| -> Result<Scalar, String> {
        let mut best = *group.first().ok_or("nothing has an extreme element")?;
        for &value in group {
            let wins = match (value, best) {
                (Scalar::Int(a), Scalar::Int(b)) => better((a - b) as f64, 0.0),
                (a, b) => better(float(a), float(b)) || float(a).is_nan(),
            };
            if wins {
                best = value;
            }
        }
        Ok(best)
    };
    Ok(match kind {
        ReduceKind::Sum => sum(group, dtype),
        ReduceKind::Prod => product(group, dtype),
        ReduceKind::Mean => mean(group, dtype)?,
        ReduceKind::Max => extreme(|a, b| a > b)?,
        ReduceKind::Min => extreme(|a, b| a < b)?,
        ReduceKind::All => Scalar::from(group.iter().all(|&v| int(v) != 0)),
        ReduceKind::Any => Scalar::from(group.iter().any(|&v| int(v) != 0)),
        other => return Err(format!("{} has no reference", other.name())),
    })
}

fn sum(group: &[Scalar], dtype: DType) -> Scalar {
    match dtype {
        d if d.is_float() => Scalar::Float(group.iter().map(|&v| float(v)).sum()),
        d if d.is_complex() => Scalar::Complex(group.iter().map(|&v| complex(v)).sum()),
        _ => Scalar::Int(group.iter().map(|&v| int(v)).sum()),
    }
}

fn product(group: &[Scalar], dtype: DType) -> Scalar {
    match dtype {
        d if d.is_float() => Scalar::Float(group.iter().map(|&v| float(v)).product()),
        d if d.is_complex() => Scalar::Complex(group.iter().map(|&v| complex(v)).product()),
        _ => Scalar::Int(group.iter().fold(1, |product, &v| product.wrapping_mul(int(v)))),
    }
}

fn mean(group: &[Scalar], dtype: DType) -> Result<Scalar, String> {
    let count = group.len();
    Ok(match sum(group, dtype) {
        Scalar::Float(total) => Scalar::Float(total / count as f64),
        Scalar::Complex(total) => Scalar::Complex(total / Complex::from(count as f64)),
        Scalar::Int(total) => Scalar::Int(total.checked_div(count as i128).ok_or("nothing has no mean")?),
    })
}

pub(super) fn arg_reduce(reduce: &ArgReduce, x: &Array) -> Answer {
    let (dims, groups) = grouped(x, &[reduce.axis], reduce.keep_dims);
    let values = groups.iter().map(|group| {
        let order = sorted(group, reduce.largest);
        order.first().map(|&i| Scalar::Int(i as i128)).ok_or_else(|| "nothing has no extreme".to_owned())
    });
    Ok(Array::new(reduce.dtype, &dims, values.collect::<Result<_, _>>()?))
}

/// Positions from the most extreme element on; of equal elements the first stands first.
pub(super) fn sorted(group: &[Scalar], largest: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..group.len()).collect();
    order.sort_by(|&i, &j| {
        let by_value = match (group[i], group[j]) {
            (Scalar::Int(a), Scalar::Int(b)) => a.cmp(&b),
            (a, b) => float(a).total_cmp(&float(b)),
        };
        if largest { by_value.reverse() } else { by_value }
    });
    order
}

pub(super) fn cumulative(cumulative: &Cumulative, x: &Array) -> Answer {
    let axis = cumulative.axis;
    let extent = x.dims[axis];
    Array::build(x.dtype, &x.dims, |index| {
        let here = index[axis];
        let members: Vec<Scalar> = (0..extent)
            .filter(|&i| if cumulative.reverse { i >= here } else { i <= here })
            .filter(|&i| i != here || !cumulative.exclusive)
            .map(|i| x.at(&with(index, axis, i)))
            .collect();
        Ok(if cumulative.product { product(&members, x.dtype) } else { sum(&members, x.dtype) })
    })
}

pub(super) fn softmax(softmax: &Softmax, x: &Array) -> Answer {
    let axis = softmax.axis;
    Array::build(x.dtype, &x.dims, |index| {
        let line: Vec<f64> = (0..x.dims[axis]).map(|i| float(x.at(&with(index, axis, i)))).collect();
        let max = line.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = line.iter().map(|v| (v - max).exp()).sum();
        let shifted = float(x.at(index)) - max;
        Ok(Scalar::Float(if softmax.log { shifted - total.ln() } else { shifted.exp() / total }))
    })
}

pub(super) fn layer_norm(norm: &Norm, x: &Array, affine: Option<(&Array, &Array)>) -> Answer {
    Array::build(x.dtype, &x.dims, |index| {
        let row = row(x, norm.axis, index);
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / row.len() as f64;
        let normal = (float(x.at(index)) - mean) / (variance + norm.epsilon).sqrt();
        Ok(Scalar::Float(match affine {
            Some((gamma, beta)) => {
                normal * float(gamma.at_broadcast(index)) + float(beta.at_broadcast(index))
            }
            None => normal,
        }))
    })
}

pub(super) fn rms_norm(norm: &Norm, x: &Array, gamma: &Array) -> Answer {
    Array::build(x.dtype, &x.dims, |index| {
        let row = row(x, norm.axis, index);
        let mean_square = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
        let normal = float(x.at(index)) / (mean_square + norm.epsilon).sqrt();
        Ok(Scalar::Float(normal * float(gamma.at_broadcast(index))))
    })
}

pub(super) fn add_norm(norm: &AddNorm, operands: &[&Array]) -> Result<Vec<Array>, String> {
    let (&x, rest) = operands.split_first().ok_or("it has operands")?;
    let (addends, factors) = rest.split_at(rest.len() - if norm.centred { 2 } else { 1 });
    let dtype = factors[0].dtype;
    let mut sum = Array::new(dtype, &x.dims, x.values.clone());
    for addend in addends {
        sum = Array::build(dtype, &x.dims, |index| {
            Ok(Scalar::Float(float(sum.at(index)) + float(addend.at_broadcast(index))))
        })?;
    }
    let own = Norm { axis: norm.axis, epsilon: norm.epsilon };
    let y = match factors {
        [gamma, beta] => layer_norm(&own, &sum, Some((gamma, beta)))?,
        _ => rms_norm(&own, &sum, factors[0])?,
    };
    Ok(if norm.sum { vec![y, sum] } else { vec![y] })
}

/// The elements that share the axes before `axis` with an index.
fn row(x: &Array, axis: usize, index: &[usize]) -> Vec<f64> {
    indices(&x.dims[axis..]).iter().map(|tail| float(x.at(&[&index[..axis], tail].concat()))).collect()
}

pub(super) fn matmul(matmul: &MatMul, a: &Array, b: &Array, bias: Option<&Array>) -> Answer {
    let (a_vector, b_vector) = (a.dims.len() == 1, b.dims.len() == 1);
    let a_dims = if a_vector { vec![1, a.dims[0]] } else { swapped(&a.dims, matmul.transpose_a) };
    let b_dims = if b_vector { vec![b.dims[0], 1] } else { swapped(&b.dims, matmul.transpose_b) };
    let (a_batch, [rows, inner]) = split(&a_dims);
    let (b_batch, [_, cols]) = split(&b_dims);
    let batch = broadcast_dims(a_batch, b_batch);
    let mut dims = batch.clone();
    dims.extend([(!a_vector).then_some(rows), (!b_vector).then_some(cols)].into_iter().flatten());

    let element = |x: &Array, vector: bool, transposed: bool, batch: &[usize], own: &[usize], i, j| {
        let at = match (vector, transposed) {
            (true, _) => vec![usize::max(i, j)],
            (false, false) => [clamped(batch, own), vec![i, j]].concat(),
            (false, true) => [clamped(batch, own), vec![j, i]].concat(),
        };
        x.at(&at)
    };
    let dtype = if matmul.wide { DType::F32 } else { a.dtype };
    Array::build(dtype, &dims, |index| {
        let (lead, outer) = index.split_at(batch.len());
        let mut outer = outer.iter().copied();
        let i = if a_vector { 0 } else { outer.next().unwrap_or(0) };
        let j = if b_vector { 0 } else { outer.next().unwrap_or(0) };
        let terms: Vec<(Scalar, Scalar)> = (0..inner)
            .map(|k| {
                let left = element(a, a_vector, matmul.transpose_a, lead, a_batch, i, k);
                (left, element(b, b_vector, matmul.transpose_b, lead, b_batch, k, j))
            })
            .collect();
        let bias = bias.map(|bias| bias.at(&[index.last().copied().unwrap_or(0)]));
        activated(matmul.activation, dot(&terms, bias, dtype), dtype)
    })
}

fn swapped(dims: &[usize], swap: bool) -> Vec<usize> {
    let mut dims = dims.to_vec();
    let rank = dims.len();
    if swap {
        dims.swap(rank - 2, rank - 1);
    }
    dims
}

fn split(dims: &[usize]) -> (&[usize], [usize; 2]) {
    let (batch, matrix) = dims.split_at(dims.len() - 2);
    (batch, [matrix[0], matrix[1]])
}

/// An index of the broadcast batch as an index of an operand's own batch.
fn clamped(index: &[usize], own: &[usize]) -> Vec<usize> {
    let lead = index.len() - own.len();
    index[lead..].iter().zip(own).map(|(&i, &n)| if n == 1 { 0 } else { i }).collect()
}

fn dot(terms: &[(Scalar, Scalar)], bias: Option<Scalar>, dtype: DType) -> Scalar {
    match dtype {
        d if d.is_float() => {
            let total: f64 = terms.iter().map(|&(a, b)| float(a) * float(b)).sum();
            Scalar::Float(total + bias.map_or(0.0, float))
        }
        d if d.is_complex() => {
            let total: Complex<f64> = terms.iter().map(|&(a, b)| complex(a) * complex(b)).sum();
            Scalar::Complex(total + bias.map_or(Complex::default(), complex))
        }
        _ => {
            let total = terms.iter().fold(0i128, |t, &(a, b)| t.wrapping_add(int(a).wrapping_mul(int(b))));
            Scalar::Int(total.wrapping_add(bias.map_or(0, int)))
        }
    }
}

fn activated(activation: Option<Unary>, value: Scalar, dtype: DType) -> Result<Scalar, String> {
    match activation {
        Some(f) => elementwise::unary(f, value, dtype),
        None => Ok(value),
    }
}

pub(super) fn conv2d(
    conv: &Conv2d,
    x: &Array,
    weight: &Array,
    bias: Option<&Array>,
    dims: &[usize],
) -> Answer {
    let [out, c_group, kh, kw] = weight.dims[..] else { return Err("the weight has rank 4".to_owned()) };
    let extent = |axis: usize, k: usize| (k - 1) * conv.dilations[axis] + 1;
    let before = [
        padding_before(conv.padding, 0, x.dims[2], extent(0, kh), conv.strides[0]),
        padding_before(conv.padding, 1, x.dims[3], extent(1, kw), conv.strides[1]),
    ];
    Array::build(x.dtype, dims, |index| {
        let [n, o, oy, ox] = index else { return Err("the result has rank 4".to_owned()) };
        let first_channel = o / (out / conv.groups) * c_group;
        let mut terms = Vec::new();
        for tap in indices(&[c_group, kh, kw]) {
            let y = inside(oy * conv.strides[0] + tap[1] * conv.dilations[0], before[0], x.dims[2]);
            let z = inside(ox * conv.strides[1] + tap[2] * conv.dilations[1], before[1], x.dims[3]);
            if let (Some(y), Some(z)) = (y, z) {
                let taken = x.at(&[*n, first_channel + tap[0], y, z]);
                terms.push((taken, weight.at(&[*o, tap[0], tap[1], tap[2]])));
            }
        }
        let bias = bias.map(|bias| bias.at(&[*o]));
        activated(conv.activation, dot(&terms, bias, x.dtype), x.dtype)
    })
}

/// Zeros before the first element along an axis (0 height, 1 width).
fn padding_before(padding: Padding2d, axis: usize, size: usize, extent: usize, stride: usize) -> usize {
    match padding {
        Padding2d::Explicit(sides) => sides[2 * axis],
        Padding2d::Same => ((size.div_ceil(stride) - 1) * stride + extent).saturating_sub(size) / 2,
    }
}

/// A padded position as a position in the tensor, if it lies there.
fn inside(padded: usize, before: usize, size: usize) -> Option<usize> {
    padded.checked_sub(before).filter(|&at| at < size)
}

pub(super) fn pool2d(pool: &Pool2d, x: &Array, dims: &[usize]) -> Answer {
    let before: Vec<usize> = (0..2)
        .map(|a| padding_before(pool.padding, a, x.dims[2 + a], pool.kernel[a], pool.strides[a]))
        .collect();
    let after = |axis: usize| match pool.padding {
        Padding2d::Explicit(sides) => sides[2 * axis + 1],
        Padding2d::Same => usize::MAX / 2,
    };
    Array::build(x.dtype, dims, |index| {
        let (mut members, mut padded) = (Vec::new(), 0);
        for tap in indices(&pool.kernel) {
            let at: Vec<usize> = (0..2).map(|a| index[2 + a] * pool.strides[a] + tap[a]).collect();
            let within = |a: usize| at[a] < x.dims[2 + a] + before[a] + after(a);
            padded += usize::from(within(0) && within(1));
            let cell = (inside(at[0], before[0], x.dims[2]), inside(at[1], before[1], x.dims[3]));
            if let (Some(y), Some(z)) = cell {
                members.push(x.at(&[index[0], index[1], y, z]));
            }
        }
        if !pool.average {
            return reduced(ReduceKind::Max, &members, x.dtype);
        }
        let count = if pool.count_padding { padded } else { members.len() };
        Ok(Scalar::Float(float(sum(&members, DType::F64)) / count as f64))
    })
}
