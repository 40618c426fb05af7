//! Attention and rotary position embedding.

use mslite_graph_opt::ir::op::Attention;

use super::array::{Array, Scalar, float, with};

type Answer = Result<Array, String>;

pub(super) fn rope(x: &Array, cos: &Array, sin: &Array) -> Answer {
    let axis = x.dims.len() - 1;
    let width = cos.dims[cos.dims.len() - 1];
    let half = width / 2;
    Array::build(x.dtype, &x.dims, |index| {
        let at = |i: usize| float(x.at(&with(index, axis, i)));
        let here = index[axis];
        let rotated = if here % width < half { -at(here + half) } else { at(here - half) };
        let factor = with(index, axis, here % width);
        let (cos, sin) = (float(cos.at_broadcast(&factor)), float(sin.at_broadcast(&factor)));
        Ok(Scalar::Float(at(here) * cos + rotated * sin))
    })
}

pub(super) fn attention(
    op: &Attention,
    [query, key, value]: [&Array; 3],
    mask: Option<&Array>,
    dims: &[usize],
) -> Answer {
    let at = |x: &Array, n: usize, [batch, head, row, column]: [usize; 4]| {
        let mut index = [batch, head, row, column];
        index.swap(1, op.heads[n]);
        float(match op.packed[n] {
            Some(packed) => x.at(&[batch, row, packed.start + head * packed.width + column]),
            None => x.at(&index),
        })
    };
    let count = |x: &Array, n: usize| match op.packed[n] {
        Some(packed) => (packed.heads, x.dims[1]),
        None => (x.dims[op.heads[n]], x.dims[3 - op.heads[n]]),
    };
    let width = op.packed[0].map_or(query.dims[query.dims.len() - 1], |packed| packed.width);
    let ((heads, _), (shared, columns)) = (count(query, 0), count(key, 1));
    Array::build(query.dtype, dims, |index| {
        let [batch, head, row, column] = match op.packed[3] {
            Some(packed) => [index[0], index[2] / packed.width, index[1], index[2] % packed.width],
            None => [index[0], index[op.heads[3]], index[3 - op.heads[3]], index[3]],
        };
        let of = head / (heads / shared);
        let mut scores: Vec<f64> = Vec::with_capacity(columns);
        for column in 0..columns {
            let terms =
                (0..width).map(|i| at(query, 0, [batch, head, row, i]) * at(key, 1, [batch, of, column, i]));
            let score = terms.sum::<f64>() * op.scale;
            scores.push(match mask.map(|mask| mask.at_broadcast(&[batch, head, row, column])) {
                None => score,
                Some(Scalar::Int(0)) => score,
                Some(Scalar::Int(_)) => f64::from(f32::MIN),
                Some(added) => score + float(added),
            });
        }
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
        let total: f64 = weights.iter().sum();
        let terms = weights.iter().enumerate();
        let sum: f64 = terms.map(|(j, weight)| weight * at(value, 2, [batch, of, j, column])).sum();
        Ok(Scalar::Float(sum / total))
    })
}
