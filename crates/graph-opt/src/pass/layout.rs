use mslite_tensor::Dim;

use super::rule::{self, Expr, Rule, Site};
use super::{Pass, PassContext, Patch};
use crate::ir::op::{MatMul, Op};
use crate::ir::{Node, ValueId};
use crate::{Graph, Result};

/// Removes and joins transposes and reshapes.
///
/// - a transpose or reshape that changes nothing goes
/// - a transpose of a transpose, or a reshape of a reshape, becomes one
/// - a transpose that moves only axes of extent 1 becomes a reshape
/// - a transpose of the last two axes of an operand of a matrix product becomes its flag
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
