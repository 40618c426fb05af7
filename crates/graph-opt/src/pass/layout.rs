use mslite_tensor::Dim;

use super::rule::{self, Expr, Rule, Site};
use super::{Pass, PassContext, Patch};
use crate::ir::op::{MatMul, Op, Slice};
use crate::ir::{Node, ValueId};
use crate::{Graph, Result};

/// Removes and joins transposes and reshapes.
///
/// - a transpose or reshape that changes nothing goes
/// - a transpose of a transpose, or a reshape of a reshape, becomes one
/// - a transpose that moves only axes of extent 1 becomes a reshape
/// - a transpose of the last two axes of an operand of a matrix product becomes its flag
/// - a matrix product of rows that a reshape has joined, reshaped again, takes the rows as they were
/// - a reshape of a matrix product's rows moves before the product where it meets another, or another product
/// - a sum, product or the like of two tensors reshaped or transposed alike, each read once, is reshaped or
///   transposed instead
/// - all parts of a tensor along an axis, joined along another, are a transpose between two reshapes; joined along the
///   same axis, they are the tensor
/// - element-wise functions of one operand between two of a kind, each read once, move behind both, so that
///   these become one
///
/// It does not fire where an extent that matters is not known to be equal or 1, nor for other products of
/// permuted axes, nor where the value between has another reader: both layouts would be computed.
///
/// ```text
/// %1 = transpose(perm=[1, 0]) %0 : f32[3, 2]     |
/// %2 = relu %1 : f32[3, 2]                       |
/// %3 = transpose(perm=[1, 0]) %2 : f32[2, 3]     |  %1 = relu %0 : f32[2, 3]
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Layout;

impl Pass for Layout {
    fn name(&self) -> &'static str {
        "layout"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        rule::apply(RULES, graph, cx)
    }
}

const RULES: &[Rule] = &[
    Rule { name: "same_layout", rewrite: same_layout },
    Rule { name: "transpose_chain", rewrite: transpose_chain },
    Rule { name: "reshape_chain", rewrite: reshape_chain },
    Rule { name: "transpose_to_reshape", rewrite: transpose_to_reshape },
    Rule { name: "transposed_operand", rewrite: transposed_operand },
    Rule { name: "joined_rows", rewrite: joined_rows },
    Rule { name: "split_rows", rewrite: split_rows },
    Rule { name: "reshaped_operands", rewrite: reshaped_operands },
    Rule { name: "transposed_operands", rewrite: transposed_operands },
    Rule { name: "joined_parts", rewrite: joined_parts },
    Rule { name: "function_between", rewrite: function_between },
];

fn same_layout(site: &Site) -> Option<Expr> {
    let same = match &site.node.op {
        Op::Transpose(perm) => perm.iter().enumerate().all(|(i, &axis)| i == axis),
        Op::Reshape(_) => site.operand(0) == site.result(),
        _ => false,
    };
    same.then(|| site.node.operands[0].into())
}

fn transpose_chain(site: &Site) -> Option<Expr> {
    matches!(site.node.op, Op::Transpose(_)).then(|| chain(site))?
}

fn reshape_chain(site: &Site) -> Option<Expr> {
    matches!(site.node.op, Op::Reshape(_)).then(|| chain(site))?
}

fn chain(site: &Site) -> Option<Expr> {
    let inner = site.producer(site.node.operands[0])?;
    Some(Expr::node(join(&site.node.op, &inner.op)?, [inner.operands[0]]))
}

/// One operation that does what two of a kind do after each other.
fn join(outer: &Op, inner: &Op) -> Option<Op> {
    match (outer, inner) {
        (Op::Transpose(outer), Op::Transpose(inner)) => {
            let perm = outer.iter().map(|&axis| inner.get(axis).copied()).collect::<Option<_>>()?;
            Some(Op::Transpose(perm))
        }
        (Op::Reshape(_), Op::Reshape(_)) => Some(outer.clone()),
        _ => None,
    }
}

fn transpose_to_reshape(site: &Site) -> Option<Expr> {
    let Op::Transpose(perm) = &site.node.op else { return None };
    let x = site.node.operands[0];
    let dims = site.dims(x)?;
    let keeps_order = perm.iter().filter(|&&axis| dims[axis] != Dim::from(1)).is_sorted();
    let result = site.result().shape.dims()?;
    keeps_order.then(|| Expr::node(Op::Reshape(result.to_vec()), [x]))
}

fn transposed_operand(site: &Site) -> Option<Expr> {
    let Op::MatMul(matmul) = &site.node.op else { return None };
    let mut operands = site.node.operands.clone();
    let direct = |value: ValueId| {
        let node = site.producer(value)?;
        matches!(&node.op, Op::Transpose(perm) if swaps_last_two(perm)).then(|| node.operands[0])
    };
    let MatMul { mut transpose_a, mut transpose_b, activation, wide } = *matmul;
    if let Some(a) = direct(operands[0]) {
        transpose_a = !transpose_a;
        operands[0] = a;
    } else {
        operands[1] = direct(operands[1])?;
        transpose_b = !transpose_b;
    }
    Some(Expr::node(Op::MatMul(MatMul { transpose_a, transpose_b, activation, wide }), operands))
}

fn swaps_last_two(perm: &[usize]) -> bool {
    let Some(lead) = perm.len().checked_sub(2) else { return false };
    perm[lead..] == [lead + 1, lead] && perm[..lead].iter().copied().eq(0..lead)
}

/// `reshape(matmul(reshape x, matrix))`, where the inner reshape keeps the last axis.
fn joined_rows(site: &Site) -> Option<Expr> {
    let Op::Reshape(_) = site.node.op else { return None };
    let product = site.sole_producer(site.node.operands[0])?;
    let Op::MatMul(MatMul { transpose_a: false, .. }) = product.op else { return None };
    let rows = site.producer(product.operands[0]).filter(|node| matches!(node.op, Op::Reshape(_)))?;
    let x = rows.operands[0];
    let (before, after) = (site.dims(x)?, site.dims(product.operands[0])?);
    let is_matrix = after.len() == 2 && site.dims(product.operands[1])?.len() == 2;
    if !is_matrix || before.len() < 2 || before.last() != after.last() {
        return None;
    }
    let mut operands = product.operands.clone();
    operands[0] = x;
    let direct = Expr::node(product.op.clone(), operands).with_origin_of(product);
    Some(Expr::node(site.node.op.clone(), [direct]))
}

/// `reshape(matmul(x, matrix))` of rows, where x is a reshape or such a product itself, and the last axis stays.
fn split_rows(site: &Site) -> Option<Expr> {
    let Op::Reshape(_) = site.node.op else { return None };
    let product = site.sole_producer(site.node.operands[0]).filter(|node| is_rows(site, node))?;
    let x = product.operands[0];
    let meets = match site.producer(x) {
        Some(node) if matches!(node.op, Op::Reshape(_)) => true,
        Some(node) => site.sole_producer(x).is_some() && is_rows(site, node),
        None => false,
    };
    let (last, lead) = site.result().shape.dims()?.split_last()?;
    if !meets || lead.is_empty() || Some(last) != site.dims(product.results[0])?.last() {
        return None;
    }
    let dims = [lead, &site.dims(x)?[1..]].concat();
    let mut operands: Vec<Expr> = product.operands.iter().map(|&value| value.into()).collect();
    operands[0] = Expr::node(Op::Reshape(dims), [x]);
    Some(Expr::node(product.op.clone(), operands).with_origin_of(product))
}

/// Whether a node is a product of two matrices, the first of which may get more axes.
fn is_rows(site: &Site, node: &Node) -> bool {
    let rank = |n: usize| site.dims(node.operands[n]).map(<[Dim]>::len);
    let is_plain = matches!(node.op, Op::MatMul(MatMul { transpose_a: false, .. }));
    is_plain && rank(0) == Some(2) && rank(1) == Some(2)
}

/// `f(transpose x, transpose y)` of tensors of one shape.
fn transposed_operands(site: &Site) -> Option<Expr> {
    let (Op::Binary(_), &[x, y]) = (&site.node.op, site.node.operands.as_slice()) else { return None };
    let [a, b] = [site.sole_producer(x)?, site.sole_producer(y)?];
    let alike = matches!(a.op, Op::Transpose(_)) && a.op == b.op && site.dims(x)? == site.dims(y)?;
    alike
        .then(|| Expr::node(a.op.clone(), [Expr::node(site.node.op.clone(), [a.operands[0], b.operands[0]])]))
}

/// `concat(slices of x)`, all of the same size, in order.
fn joined_parts(site: &Site) -> Option<Expr> {
    let Op::Concat { axis } = site.node.op else { return None };
    let (x, along, width) = all_parts(site)?;
    if axis == along {
        return Some(x.into());
    }
    let mut split = site.dims(x)?.to_vec();
    split.splice(along..=along, [site.node.operands.len(), width].map(Dim::from));
    // The number of the part goes before the axis along which the parts are joined.
    let to = if axis < along { axis } else { axis + 1 };
    let mut perm: Vec<usize> = (0..split.len()).filter(|&i| i != along).collect();
    perm.insert(perm.iter().position(|&i| i == to)?, along);
    let parts = Expr::node(Op::Transpose(perm), [Expr::node(Op::Reshape(split), [x])]);
    Some(Expr::node(Op::Reshape(site.result().shape.dims()?.to_vec()), [parts]))
}

/// The tensor that all operands of a node are parts of, in order, along which axis, and the extent of a part.
fn all_parts(site: &Site) -> Option<(ValueId, usize, usize)> {
    let operands = &site.node.operands;
    let part = |&value: &ValueId| match site.sole_producer(value) {
        Some(Node { op: Op::Slice(slice), operands, .. }) => Some((slice, operands[0])),
        _ => None,
    };
    let (first, x) = part(operands.first()?)?;
    let (dims, size) = (site.dims(x)?, &first.sizes);
    let along = (0..dims.len()).find(|&i| size[i] != dims[i])?;
    let width = size[along].as_usize()?;
    let is_next = |(n, value): (usize, &ValueId)| {
        let start = |i: usize| Dim::from(if i == along { n * width } else { 0 });
        part(value).is_some_and(|(slice, of)| {
            let Slice { starts, sizes, steps } = slice;
            let fits = of == x && sizes == size && steps.iter().all(|&step| step == 1);
            fits && (0..dims.len()).all(|i| starts[i] == start(i))
        })
    };
    let is_whole = dims[along] == Dim::from(operands.len().checked_mul(width)?)
        && (0..dims.len()).all(|i| i == along || size[i] == dims[i]);
    (is_whole && operands.len() > 1 && operands.iter().enumerate().all(is_next)).then_some((x, along, width))
}

/// `f(reshape x, reshape y)` of tensors of one shape.
fn reshaped_operands(site: &Site) -> Option<Expr> {
    let (Op::Binary(_), &[x, y]) = (&site.node.op, site.node.operands.as_slice()) else { return None };
    let inner = |value: ValueId| {
        let node = site.sole_producer(value).filter(|node| matches!(node.op, Op::Reshape(_)))?;
        Some(node.operands[0])
    };
    let (a, b) = (inner(x)?, inner(y)?);
    let dims = site.result().shape.dims()?;
    let alike = site.dims(x)? == dims && site.dims(y)? == dims && site.dims(a)? == site.dims(b)?;
    alike.then(|| Expr::node(Op::Reshape(dims.to_vec()), [Expr::node(site.node.op.clone(), [a, b])]))
}

fn function_between(site: &Site) -> Option<Expr> {
    let (Op::Transpose(_) | Op::Reshape(_)) = site.node.op else { return None };
    let mut functions = Vec::new();
    let mut value = site.node.operands[0];
    while let Some(function) = site.sole_producer(value).filter(|node| is_function(&node.op)) {
        functions.push(function);
        value = function.operands[0];
    }
    let inner = site.producer(value).filter(|_| !functions.is_empty())?;
    let joined = Expr::node(join(&site.node.op, &inner.op)?, [inner.operands[0]]);
    let apply = |x, function: &&Node| Expr::node(function.op.clone(), [x]).with_origin_of(function);
    Some(functions.iter().rev().fold(joined, apply))
}

fn is_function(op: &Op) -> bool {
    matches!(op, Op::Unary(_) | Op::Cast(_))
}
