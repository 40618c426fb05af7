use mslite_tensor::Dim;

use super::rule::{self, Expr, Rule, Site};
use super::{Pass, PassContext, Patch};
use crate::ir::op::{Binary, Op, Unary};
use crate::ir::{Node, ValueId};
use crate::{Graph, Result};

/// Lets matrix products and convolutions add their bias and apply their activation.
///
/// - `matmul(a, b) + bias` where the bias has as many elements as the product's last axis, and only that axis
/// - `conv2d(x, weight) + bias` where the bias is `[C, 1, 1]` or `[1, C, 1, 1]`
/// - a unary function of either
///
/// It does not fire when the product has another reader or is an output, when it has a bias (for the bias) or an
/// activation already, when the sum broadcasts the product, or for functions that are not floating-point. Types
/// of 16 bits are rounded once instead of after each step.
///
/// ```text
/// %3 = matmul %0, %1 : f32[batch, 4]     |
/// %4 = add %3, %2 : f32[batch, 4]        |
/// %5 = relu %4 : f32[batch, 4]           |  %3 = matmul(activation=relu) %0, %1, %2 : f32[batch, 4]
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Fusion;

impl Pass for Fusion {
    fn name(&self) -> &'static str {
        "fusion"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        rule::apply(RULES, graph, cx)
    }
}

const RULES: &[Rule] = &[
    Rule { name: "matmul_bias", rewrite: matmul_bias },
    Rule { name: "conv2d_bias", rewrite: conv2d_bias },
    Rule { name: "activation", rewrite: activation },
];

fn matmul_bias(site: &Site) -> Option<Expr> {
    biased(site, |op, result, bias| match op {
        Op::MatMul(matmul) if matmul.activation.is_none() => {
            let last = result.last()?;
            let (size, lead) = bias.split_last()?;
            (size == last && lead.iter().all(is_one)).then(|| last.clone())
        }
        _ => None,
    })
}

fn conv2d_bias(site: &Site) -> Option<Expr> {
    biased(site, |op, result, bias| match (op, bias) {
        (Op::Conv2d(conv), [channels, h, w] | [Dim::Fixed(1), channels, h, w]) => {
            let fits = conv.activation.is_none() && is_one(h) && is_one(w) && result.get(1) == Some(channels);
            fits.then(|| channels.clone())
        }
        _ => None,
    })
}

fn is_one(dim: &Dim) -> bool {
    *dim == Dim::from(1)
}

/// A sum of a product and a bias as one node. `size` tells the bias's number of elements from the product's
/// operation, the extents of its result and those of the bias, if they fit.
fn biased(site: &Site, size: fn(&Op, &[Dim], &[Dim]) -> Option<Dim>) -> Option<Expr> {
    let Op::Binary(Binary::Add) = site.node.op else { return None };
    let &[x, y] = site.node.operands.as_slice() else { return None };
    let fused = |product: ValueId, bias: ValueId| {
        let node = site.sole_producer(product).filter(|node| node.operands.len() == 2)?;
        let size = size(&node.op, site.dims(product)?, site.dims(bias)?)?;
        let vector = match site.dims(bias)? {
            [_] => Expr::Value(bias),
            _ => Expr::node(Op::Reshape(vec![size]), [bias]),
        };
        let [a, b] = [node.operands[0], node.operands[1]].map(Expr::Value);
        Some(Expr::node(node.op.clone(), [a, b, vector]).with_origin_of(node))
    };
    fused(x, y).or_else(|| fused(y, x))
}

fn activation(site: &Site) -> Option<Expr> {
    let Op::Unary(f) = site.node.op else { return None };
    if f.is_predicate() || f == Unary::Not || !site.result().dtype.is_float() {
        return None;
    }
    let product = site.sole_producer(site.node.operands[0])?;
    let op = activated(product, f)?;
    Some(Expr::node(op, product.operands.clone()).with_origin_of(product))
}

/// The operation of a product with an activation, if it can have one.
fn activated(product: &Node, f: Unary) -> Option<Op> {
    let mut op = product.op.clone();
    let slot = match &mut op {
        Op::MatMul(matmul) => &mut matmul.activation,
        Op::Conv2d(conv) => &mut conv.activation,
        _ => return None,
    };
    slot.is_none().then(|| *slot = Some(f))?;
    Some(op)
}
