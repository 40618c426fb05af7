use mslite_tensor::{DType, Dim};

use super::rule::{self, Expr, Rule, Site};
use super::{Pass, PassContext, Patch};
use crate::ir::op::{Attention as Heads, Binary, MatMul, Op, Packed, Slice, Softmax, Unary};
use crate::ir::{Node, ValueId};
use crate::{Graph, Result};

/// Finds rotary position embedding and attention that a model spells out, and makes each one operation.
///
/// - `x * cos + concat(-x2, x1) * sin` of the halves x1 and x2 of the last axis
/// - `softmax(mask(scale * q @ k^T)) @ v` of tensors of rank 4, where the scale is a product or a quotient with a
///   number, and the mask a sum or a selection of the lowest number; scores of f16 in f32 between two casts
/// - heads of key and value that are repeated for groups of heads of the query are read where they are
/// - transposes of heads and lengths before and behind attention, which reads and writes both orders, go; a
///   transpose before an embedding moves behind it
/// - reshapes that take heads out of columns before attention, and put them back behind it, go, as do slices of
///   columns before: attention reads and writes packed heads; a reshape before an embedding moves behind it
///
/// It does not fire where a part between has another reader, for f64 and bf16, nor for f16 when scores or weights
/// are computed in f16: they would be rounded at other places.
///
/// ```text
/// %3 = matmul(transpose_b=true) %0, %1 : f32[2, 4, n, n]     |
/// %4 = mul %3, 0.25 : f32[2, 4, n, n]                        |
/// %5 = add %4, %mask : f32[2, 4, n, n]                       |
/// %6 = softmax(axis=3) %5 : f32[2, 4, n, n]                  |
/// %7 = matmul %6, %2 : f32[2, 4, n, 16]                      |  %3 = attention(heads=[1, 1, 1, 1], scale=0.25) %0, %1, %2, %mask
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Attention;

impl Pass for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        rule::apply(RULES, graph, cx)
    }
}

const RULES: &[Rule] = &[
    Rule { name: "rope", rewrite: rope },
    Rule { name: "attention", rewrite: attention },
    Rule { name: "repeated_heads", rewrite: repeated_heads },
    Rule { name: "transposed_heads", rewrite: transposed_heads },
    Rule { name: "transposed_result", rewrite: transposed_result },
    Rule { name: "transposed_rope", rewrite: transposed_rope },
    Rule { name: "packed_heads", rewrite: packed_heads },
    Rule { name: "packed_result", rewrite: packed_result },
    Rule { name: "packed_rope", rewrite: packed_rope },
];

/// Types whose roundings the operations keep.
fn is_exact(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16)
}

fn rope(site: &Site) -> Option<Expr> {
    let (Op::Binary(Binary::Add), &[a, b]) = (&site.node.op, site.node.operands.as_slice()) else {
        return None;
    };
    let form = |straight: ValueId, turned: ValueId| {
        let [straight, turned] = [product(site, straight)?, product(site, turned)?];
        let (rotated, sin) = turned.into_iter().find_map(|(x, sin)| Some((rotated(site, x)?, sin)))?;
        let (_, cos) = straight.into_iter().find(|(x, _)| *x == rotated)?;
        Some(Expr::node(Op::Rope, [rotated, cos, sin]))
    };
    if !is_exact(site.result().dtype) {
        return None;
    }
    form(a, b).or_else(|| form(b, a))
}

/// The operands of a product that nobody else reads, in both orders.
fn product(site: &Site, value: ValueId) -> Option<[(ValueId, ValueId); 2]> {
    let node = site.sole_producer(value).filter(|node| node.op == Op::Binary(Binary::Mul))?;
    let [x, y] = [node.operands[0], node.operands[1]];
    Some([(x, y), (y, x)])
}

/// The x of which a value is `concat(-x2, x1)`.
fn rotated(site: &Site, value: ValueId) -> Option<ValueId> {
    let node = site.sole_producer(value)?;
    let (Op::Concat { axis }, &[high, low]) = (&node.op, node.operands.as_slice()) else { return None };
    let negated = site.sole_producer(high).filter(|node| node.op == Op::Unary(Unary::Neg))?;
    let (x, low) = site.half(low)?;
    let (same, high) = site.half(negated.operands[0])?;
    let fits = x == same && (low, high) == (0, 1) && *axis + 1 == site.dims(x)?.len();
    fits.then_some(x)
}

fn attention(site: &Site) -> Option<Expr> {
    let Op::MatMul(last) = &site.node.op else { return None };
    let &[weights, value] = site.node.operands.as_slice() else { return None };
    let dtype = site.result().dtype;
    if *last != MatMul::default() || !is_exact(dtype) || site.dims(value)?.len() != 4 {
        return None;
    }
    let softmax = uncast(site, weights, dtype)?;
    let Op::Softmax(Softmax { axis: 3, log: false }) = softmax.op else { return None };
    if site.graph.spec(softmax.operands[0]).dtype != DType::F32 {
        return None;
    }
    let (scores, mask) = unmasked(site, softmax.operands[0]);
    let (scores, scale) = unscaled(site, scores);
    let scores = uncast(site, scores, DType::F32)?;
    let &[query, key] = scores.operands.as_slice() else { return None };
    let Op::MatMul(first) = &scores.op else { return None };
    let is_plain = *first == MatMul { transpose_b: true, ..MatMul::default() };
    let ranks = [site.dims(query)?.len(), site.dims(key)?.len()];
    if !is_plain || ranks != [4, 4] || site.graph.spec(query).dtype != dtype {
        return None;
    }
    let op = Op::Attention(Heads { heads: [1; 4], scale, packed: [None; 4] });
    Some(Expr::node(op, [query, key, value].into_iter().chain(mask)))
}

/// The node that makes a value, perhaps cast from another type to `to`.
fn uncast<'a>(site: &Site<'a>, value: ValueId, to: DType) -> Option<&'a Node> {
    let node = site.sole_producer(value)?;
    match node.op {
        Op::Cast(dtype) if dtype == to => site.sole_producer(node.operands[0]),
        _ => Some(node),
    }
}

/// Scores before they are masked, and the mask.
fn unmasked(site: &Site, value: ValueId) -> (ValueId, Option<ValueId>) {
    let find = || {
        let node = site.sole_producer(value)?;
        match (&node.op, node.operands.as_slice()) {
            (Op::Binary(Binary::Add), &[x, y]) => {
                let is_score = |x: ValueId| site.dims(x) == site.dims(value) && is_scores(site, x);
                is_score(x).then_some((x, y)).or_else(|| is_score(y).then_some((y, x)))
            }
            (Op::Select, &[hidden, low, x]) => {
                (site.scalar(low)? == f64::from(f32::MIN) && is_scores(site, x)).then_some((x, hidden))
            }
            _ => None,
        }
    };
    find().map_or((value, None), |(scores, mask)| (scores, Some(mask)))
}

/// Whether a value is a matrix product, perhaps cast and scaled.
fn is_scores(site: &Site, value: ValueId) -> bool {
    let (value, _) = unscaled(site, value);
    uncast(site, value, DType::F32).is_some_and(|node| matches!(node.op, Op::MatMul(_)))
}

/// Scores before they are scaled, and the scale.
fn unscaled(site: &Site, value: ValueId) -> (ValueId, f64) {
    let find = || {
        let node = site.sole_producer(value)?;
        let &[x, y] = node.operands.as_slice() else { return None };
        match node.op {
            Op::Binary(Binary::Mul) => {
                site.scalar(y).map(|scale| (x, scale)).or_else(|| site.scalar(x).map(|scale| (y, scale)))
            }
            Op::Binary(Binary::Div) => site.scalar(y).map(|divisor| (x, 1.0 / divisor)),
            _ => None,
        }
    };
    find().unwrap_or((value, 1.0))
}

/// `reshape(broadcast x)` that repeats each head, of key and value.
fn repeated_heads(site: &Site) -> Option<Expr> {
    let Op::Attention(Heads { heads, .. }) = site.node.op else { return None };
    if heads[1..3] != [1, 1] {
        return None;
    }
    let mut operands: Vec<Expr> = site.node.operands.iter().map(|&value| value.into()).collect();
    for n in [1, 2] {
        operands[n] = single_heads(site, site.node.operands[n])?;
    }
    Some(Expr::node(site.node.op.clone(), operands))
}

/// The heads of which a value has several copies in a row.
fn single_heads(site: &Site, value: ValueId) -> Option<Expr> {
    let repeated = site.producer(value).filter(|node| matches!(node.op, Op::Reshape(_)))?;
    let broadcast = site.producer(repeated.operands[0])?;
    let (Op::Broadcast(copies), [single]) = (&broadcast.op, broadcast.operands.as_slice()) else {
        return None;
    };
    let ([a, b, one, c, d], [_, _, times, ..]) = (site.dims(*single)?, copies.as_slice()) else {
        return None;
    };
    let fits = *one == Dim::from(1)
        && *copies == [a, b, times, c, d].map(Dim::clone)
        && *site.dims(value)? == [a.clone(), b * times, c.clone(), d.clone()];
    fits.then(|| Expr::node(Op::Reshape([a, b, c, d].map(Dim::clone).to_vec()), [*single]))
}

const SWAP: [usize; 4] = [0, 2, 1, 3];

fn transposed_heads(site: &Site) -> Option<Expr> {
    let Op::Attention(Heads { mut heads, scale, packed }) = site.node.op else { return None };
    let mut operands = site.node.operands.clone();
    let direct = |value: ValueId| {
        let node = site.producer(value)?;
        matches!(&node.op, Op::Transpose(perm) if perm[..] == SWAP).then(|| node.operands[0])
    };
    let mut changed = false;
    for n in 0..3 {
        if let Some(x) = direct(operands[n]) {
            operands[n] = x;
            heads[n] = 3 - heads[n];
            changed = true;
        }
    }
    changed.then(|| Expr::node(Op::Attention(Heads { heads, scale, packed }), operands))
}

fn transposed_result(site: &Site) -> Option<Expr> {
    let Op::Transpose(perm) = &site.node.op else { return None };
    let attention = site.sole_producer(site.node.operands[0])?;
    let Op::Attention(Heads { mut heads, scale, packed }) = attention.op else { return None };
    heads[3] = 3 - heads[3];
    let op = Op::Attention(Heads { heads, scale, packed });
    (perm[..] == SWAP).then(|| Expr::node(op, attention.operands.clone()).with_origin_of(attention))
}

/// `rope(transpose x)`, where cos and sin are the same for all heads.
fn transposed_rope(site: &Site) -> Option<Expr> {
    let (Op::Rope, &[x, cos, sin]) = (&site.node.op, site.node.operands.as_slice()) else { return None };
    let transpose = site.sole_producer(x)?;
    if !matches!(&transpose.op, Op::Transpose(perm) if perm[..] == SWAP) {
        return None;
    }
    let one = Dim::from(1);
    let moved = |factor: ValueId| {
        let (lead, [length, width]) = site.dims(factor)?.split_last_chunk()?;
        let shape = vec![length.clone(), one.clone(), width.clone()];
        lead.iter().all(|dim| *dim == one).then(|| Expr::node(Op::Reshape(shape), [factor]))
    };
    let rope = Expr::node(Op::Rope, [transpose.operands[0].into(), moved(cos)?, moved(sin)?]);
    Some(Expr::node(Op::Transpose(SWAP.to_vec()), [rope]))
}

/// Heads that a reshape takes out of columns, or a slice out of more columns.
fn packed_heads(site: &Site) -> Option<Expr> {
    let Op::Attention(Heads { mut heads, scale, mut packed }) = site.node.op else { return None };
    let mut operands: Vec<Expr> = site.node.operands.iter().map(|&value| value.into()).collect();
    let mut changed = false;
    for (n, &value) in site.node.operands[..3].iter().enumerate() {
        let found = match packed[n] {
            None => unpacked(site, value, heads[n]),
            Some(packed) => sliced(site, value, packed),
        };
        if let Some((x, columns)) = found {
            (operands[n], heads[n], packed[n]) = (x, 2, Some(columns));
            changed = true;
        }
    }
    changed.then(|| Expr::node(Op::Attention(Heads { heads, scale, packed }), operands))
}

/// The tensor of 3 axes whose columns a value has as heads, which are axis `at`.
fn unpacked(site: &Site, value: ValueId, at: usize) -> Option<(Expr, Packed)> {
    let reshape = site.producer(value).filter(|node| matches!(node.op, Op::Reshape(_)))?;
    let x = reshape.operands[0];
    let mut dims = <[Dim; 4]>::try_from(site.dims(value)?.to_vec()).ok()?;
    dims.swap(1, at);
    let [batch, heads, length, width] = dims;
    let (columns, lead) = site.dims(x)?.split_last()?;
    let (one, packed) = (Dim::from(1), packed_as(&heads, &width)?);
    let keeps_order = at == 2 || heads == one || length == one;
    if !keeps_order || *columns != &heads * &width {
        return None;
    }
    let x = match lead {
        [a, b] if (a, b) == (&batch, &length) => x.into(),
        _ => Expr::node(Op::Reshape(vec![batch, length, columns.clone()]), [x]),
    };
    Some((x, packed))
}

fn packed_as(heads: &Dim, width: &Dim) -> Option<Packed> {
    Some(Packed { start: 0, heads: heads.as_usize()?, width: width.as_usize()? })
}

/// The tensor of which a value with packed heads is some columns.
fn sliced(site: &Site, value: ValueId, packed: Packed) -> Option<(Expr, Packed)> {
    let node = site.producer(value)?;
    let Op::Slice(Slice { starts, sizes, steps }) = &node.op else { return None };
    let x = node.operands[0];
    let lead = site.dims(x)?.split_last()?.1;
    let is_whole = (0..lead.len()).all(|i| starts[i] == Dim::from(0) && sizes[i] == lead[i]);
    let start = packed.start.checked_add(starts.last()?.as_usize()?)?;
    (is_whole && steps.iter().all(|&n| n == 1)).then(|| (x.into(), Packed { start, ..packed }))
}

/// A reshape of the result that puts heads back into columns.
fn packed_result(site: &Site) -> Option<Expr> {
    let Op::Reshape(_) = site.node.op else { return None };
    let attention = site.sole_producer(site.node.operands[0])?;
    let Op::Attention(Heads { mut heads, scale, mut packed }) = attention.op else { return None };
    let mut dims = <[Dim; 4]>::try_from(site.operand(0).shape.dims()?.to_vec()).ok()?;
    dims.swap(1, heads[3]);
    let [_, count, length, width] = dims;
    let one = Dim::from(1);
    let keeps_order = heads[3] == 2 || count == one || length == one;
    let fits = keeps_order && site.result().shape.dims()?.last() == Some(&(&count * &width));
    (heads[3], packed[3]) = (2, Some(packed_as(&count, &width).filter(|_| fits)?));
    let op = Op::Attention(Heads { heads, scale, packed });
    let direct = Expr::node(op, attention.operands.clone()).with_origin_of(attention);
    Some(Expr::node(site.node.op.clone(), [direct]))
}

/// `rope(reshape x)` that takes heads out of columns, where cos and sin are the same for all heads.
fn packed_rope(site: &Site) -> Option<Expr> {
    let (Op::Rope, &[value, cos, sin]) = (&site.node.op, site.node.operands.as_slice()) else { return None };
    let (at, (x, _)) = [2, 1].into_iter().find_map(|at| Some((at, unpacked(site, value, at)?)))?;
    let dims = site.result().shape.dims()?;
    let moved = |factor: ValueId| {
        let (width, rest) = site.dims(factor)?.split_last()?;
        let one = Dim::from(1);
        let mut from_last = rest.iter().rev().chain(std::iter::repeat(&one));
        let (near, far) = (from_last.next()?, from_last.next()?);
        let (heads, length) = if at == 1 { (far, near) } else { (near, far) };
        let same_for_all = *heads == one && rest.iter().rev().skip(2).all(|dim| *dim == one);
        let fits = same_for_all && Some(width) == dims.last() && (*length == one || *length == dims[3 - at]);
        fits.then(|| Expr::node(Op::Reshape(vec![length.clone(), width.clone()]), [factor]))
    };
    let rope = Expr::node(Op::Rope, [x, moved(cos)?, moved(sin)?]);
    Some(Expr::node(Op::Reshape(dims.to_vec()), [rope]))
}
