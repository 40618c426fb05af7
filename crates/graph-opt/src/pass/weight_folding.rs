use mslite_tensor::{DType, Dim};

use super::rule::{self, Expr, Rule, Site};
use super::{Pass, PassContext, Patch};
use crate::ir::op::{Binary, MatMul, Op};
use crate::ir::{Node, ValueId};
use crate::{Graph, Result};

/// Lets the weights of matrix products and convolutions take in constant factors and shifts: a batch
/// normalisation behind a convolution, as a rule.
///
/// - `conv2d(x, weight) * scale` and `conv2d(x, weight, bias) * scale` where the scale has an element for each
///   channel, or one in all
/// - `matmul(x, weight) * scale` and `matmul(x, weight, bias) * scale`, by columns
/// - `conv2d(x, weight, bias) + shift`, and the same of products: the shift joins the bias
///
/// Weights, biases, scales and shifts must be constants of f32 or f64, and there must be an evaluator, which
/// computes the new weights once, in [constant folding](super::ConstantFolding). It does not fire when the product
/// or the weight has another reader, when the product has an activation, or when the scale varies along another
/// axis. Types of 16 bits stay as they are: their weights would be rounded again.
///
/// ```text
/// %1 = conv2d(...) %0, %weight : f32[n, 8, h, w]     |  %1 = mul %weight, %scales : f32[8, 3, 3, 3]
/// %2 = mul %1, %scale : f32[n, 8, h, w]              |  %2 = conv2d(...) %0, %1 : f32[n, 8, h, w]
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct WeightFolding;

impl Pass for WeightFolding {
    fn name(&self) -> &'static str {
        "weight_folding"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        match cx.evaluator() {
            Some(_) => rule::apply(RULES, graph, cx),
            None => Ok(None),
        }
    }
}

const RULES: &[Rule] = &[Rule { name: "scale", rewrite: scale }, Rule { name: "shift", rewrite: shift }];

fn scale(site: &Site) -> Option<Expr> {
    let Op::Binary(Binary::Mul) = site.node.op else { return None };
    folded(site, |product, scale| {
        let by = |x: ValueId, factor: Expr| Expr::node(Op::Binary(Binary::Mul), [x.into(), factor]);
        let along = Expr::node(Op::Reshape(product.along_weights(&scale.count)), [scale.value]);
        let mut operands = vec![product.node.operands[0].into(), by(product.node.operands[1], along)];
        operands.extend(product.node.operands.get(2).map(|&bias| by(bias, scale.vector())));
        Some(operands)
    })
}

fn shift(site: &Site) -> Option<Expr> {
    let Op::Binary(Binary::Add) = site.node.op else { return None };
    folded(site, |product, shift| {
        let &[x, weight, bias] = product.node.operands.as_slice() else { return None };
        let bias = Expr::node(Op::Binary(Binary::Add), [bias.into(), shift.vector()]);
        Some(vec![x.into(), weight.into(), bias])
    })
}

/// The product that one operand of a node is, with operands that make up for the other, a constant.
fn folded(site: &Site, operands: fn(&Product, &PerChannel) -> Option<Vec<Expr>>) -> Option<Expr> {
    let &[x, y] = site.node.operands.as_slice() else { return None };
    let form = |product: ValueId, constant: ValueId| {
        let product = Product::find(site, product)?;
        let operands = operands(&product, &PerChannel::find(site, &product, constant)?)?;
        Some(Expr::node(product.node.op.clone(), operands).with_origin_of(product.node))
    };
    form(x, y).or_else(|| form(y, x))
}

/// A product of constant weights that nobody else reads.
struct Product<'a> {
    node: &'a Node,
    /// The axes of its result.
    dims: &'a [Dim],
    /// The one that its bias belongs to.
    axis: usize,
}

impl<'a> Product<'a> {
    fn find(site: &Site<'a>, value: ValueId) -> Option<Self> {
        let node = site.sole_producer(value)?;
        let dims = site.dims(value)?;
        let (axis, activation) = match &node.op {
            Op::MatMul(matmul) if site.dims(node.operands[1])?.len() == 2 => {
                (dims.len().checked_sub(1)?, matmul.activation)
            }
            Op::Conv2d(conv) => (1, conv.activation),
            _ => return None,
        };
        let is_wide = matches!(site.result().dtype, DType::F32 | DType::F64);
        let are_known = node.operands[1..].iter().all(|&value| site.constant(value).is_some());
        let fits = is_wide && are_known && activation.is_none() && site.uses(node.operands[1]) == 1;
        fits.then_some(Product { node, dims, axis })
    }

    /// The shape in which so many numbers belong to the channels of the weights.
    fn along_weights(&self, count: &Dim) -> Vec<Dim> {
        let one = Dim::from(1);
        match &self.node.op {
            Op::MatMul(MatMul { transpose_b: false, .. }) => vec![count.clone()],
            Op::MatMul(_) => vec![count.clone(), one],
            _ => vec![count.clone(), one.clone(), one.clone(), one],
        }
    }
}

/// A constant with a number for each channel, or one for all.
struct PerChannel {
    value: ValueId,
    count: Dim,
}

impl PerChannel {
    fn find(site: &Site, product: &Product, value: ValueId) -> Option<Self> {
        site.constant(value)?;
        let dims = site.dims(value)?;
        let lead = product.dims.len().checked_sub(dims.len())?;
        let one = Dim::from(1);
        let mut count = one.clone();
        for (axis, dim) in dims.iter().enumerate().filter(|(_, dim)| **dim != one) {
            if lead + axis != product.axis || *dim != product.dims[product.axis] {
                return None;
            }
            count = dim.clone();
        }
        Some(PerChannel { value, count })
    }

    fn vector(&self) -> Expr {
        Expr::node(Op::Reshape(vec![self.count.clone()]), [self.value])
    }
}
