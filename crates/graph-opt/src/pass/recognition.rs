use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use mslite_tensor::{DType, Tensor};
use smallvec::SmallVec;

use super::rule::{self, Expr, Rule, Site};
use super::{Pass, PassContext, Patch};
use crate::ir::op::{Binary, Norm, Op, Reduce, ReduceKind, Softmax, Unary};
use crate::ir::{Node, ValueId};
use crate::{Graph, Result};

/// Finds functions that a model spells out, and makes each one operation.
///
/// - `x * sigmoid(x)`: SiLU; `x * sigmoid(1.702 * x)`: the fast GELU
/// - `x * (1 + erf(x / sqrt 2)) / 2` and `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))`: GELU, its
///   factors in any order, cubes and squares as powers or products
/// - `exp(x - max x) / sum`: softmax
/// - `x / sqrt(mean(x^2) + epsilon) * gamma`: RMS normalisation; in f16 with the root in f32 between two casts
/// - `(x - mean x) / sqrt(mean((x - mean x)^2) + epsilon)`: layer normalisation; then `* gamma + beta`
/// - rows of a constant table times a truth value: a selection between them and 0, whose sign is lost; the elements of
///   the table are finite
///
/// It does not fire where a part between has another reader (the whole would be computed besides), where constants
/// differ from these by more than 1e-5 of their size, where the mean is not over trailing axes, and where a type of
/// 16 bits would be rounded at other places: so GELU, softmax and the mean of a layer normalisation stay as they
/// are in 16 bits, and all forms do in bf16.
///
/// ```text
/// %1 = square %0 : f32[2, 64]                                       |
/// %2 = reduce(kind=mean, axes=[1], keep_dims=true) %1 : f32[2, 1]   |
/// %3 = add %2, 1e-6 : f32[2, 1]                                     |
/// %4 = rsqrt %3 : f32[2, 1]                                         |
/// %5 = mul %0, %4 : f32[2, 64]                                      |
/// %6 = mul %5, %gamma : f32[2, 64]                                  |  %1 = rms_norm(axis=1, epsilon=1e-6) %0, %gamma
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Recognition;

impl Pass for Recognition {
    fn name(&self) -> &'static str {
        "recognition"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        rule::apply(RULES, graph, cx)
    }
}

const RULES: &[Rule] = &[
    Rule { name: "sigmoid_product", rewrite: sigmoid_product },
    Rule { name: "gelu", rewrite: gelu },
    Rule { name: "softmax", rewrite: softmax },
    Rule { name: "rms_norm", rewrite: rms_norm },
    Rule { name: "layer_norm", rewrite: layer_norm },
    Rule { name: "affine", rewrite: affine },
    Rule { name: "masked_rows", rewrite: masked_rows },
];

/// Whether elementary steps may be joined without rounding elsewhere.
fn is_wide(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64)
}

/// Whether two numbers are one, written with a few digits.
fn near(x: f64, y: f64) -> bool {
    (x - y).abs() <= 1e-5 * y.abs()
}

/// A product: tensors, and a number for all scalars.
#[derive(Default)]
struct Factors {
    tensors: SmallVec<[ValueId; 4]>,
    scalar: f64,
}

/// The factors of a node that is a product or a power, through factors that only it reads.
fn factors(site: &Site, node: &Node) -> Factors {
    let mut factors = Factors { tensors: SmallVec::new(), scalar: 1.0 };
    if !expand(site, node, &mut factors) {
        factors.tensors.extend(node.results.first().copied());
    }
    factors
}

/// Adds the factors of a node, if it is a product.
fn expand(site: &Site, node: &Node, into: &mut Factors) -> bool {
    match (&node.op, node.operands.as_slice()) {
        (Op::Binary(Binary::Mul), &[x, y]) => {
            add_factor(site, x, into);
            add_factor(site, y, into);
        }
        (Op::Binary(Binary::Div), &[x, y]) => match site.scalar(y) {
            Some(divisor) => {
                into.scalar /= divisor;
                add_factor(site, x, into);
            }
            None => return false,
        },
        (Op::Binary(Binary::Pow), &[x, exponent]) => match site.scalar(exponent) {
            Some(n @ (2.0 | 3.0)) => into.tensors.extend(std::iter::repeat_n(x, n as usize)),
            _ => return false,
        },
        (Op::Unary(Unary::Square), &[x]) => into.tensors.extend([x, x]),
        _ => return false,
    }
    true
}

fn add_factor(site: &Site, value: ValueId, into: &mut Factors) {
    // More factors than any form has are not worth looking at.
    if into.tensors.len() > 8 {
        into.tensors.push(value);
    } else if let Some(scalar) = site.scalar(value) {
        into.scalar *= scalar;
    } else if !site.sole_producer(value).is_some_and(|node| expand(site, node, into)) {
        into.tensors.push(value);
    }
}

/// The tensor and the number of which a value is the product.
fn scaled(site: &Site, value: ValueId) -> (ValueId, f64) {
    let product = site.producer(value).map(|node| factors(site, node));
    match product {
        Some(Factors { tensors, scalar }) if tensors.len() == 1 && scalar != 1.0 => (tensors[0], scalar),
        _ => (value, 1.0),
    }
}

/// The other operand of a sum with a scalar.
fn plus_scalar(site: &Site, node: &Node) -> Option<(ValueId, f64)> {
    let (Op::Binary(Binary::Add), &[x, y]) = (&node.op, node.operands.as_slice()) else { return None };
    site.scalar(y).map(|scalar| (x, scalar)).or_else(|| site.scalar(x).map(|scalar| (y, scalar)))
}

fn unary_of(site: &Site, value: ValueId, f: Unary) -> Option<ValueId> {
    let node = site.sole_producer(value)?;
    (node.op == Op::Unary(f)).then(|| node.operands[0])
}

fn sigmoid_product(site: &Site) -> Option<Expr> {
    let Op::Binary(Binary::Mul) = site.node.op else { return None };
    let &[x, y] = site.node.operands.as_slice() else { return None };
    let dtype = site.result().dtype;
    let form = |x: ValueId, gate: ValueId| {
        let inner = unary_of(site, gate, Unary::Sigmoid)?;
        let (of, scale) = scaled(site, inner);
        let f = match () {
            () if inner == x && dtype != DType::BF16 => Unary::Silu,
            () if of == x && near(scale, 1.702) && is_wide(dtype) => Unary::FastGelu,
            () => return None,
        };
        Some(Expr::node(Op::Unary(f), [x]))
    };
    form(x, y).or_else(|| form(y, x))
}

fn gelu(site: &Site) -> Option<Expr> {
    let (Op::Binary(Binary::Mul | Binary::Div), true) = (&site.node.op, is_wide(site.result().dtype)) else {
        return None;
    };
    let Factors { tensors, scalar } = factors(site, site.node);
    let &[a, b] = tensors.as_slice() else { return None };
    if !near(scalar, 0.5) {
        return None;
    }
    let form = |x: ValueId, gate: ValueId| {
        let (function, one) = plus_scalar(site, site.sole_producer(gate)?)?;
        let inner = site.sole_producer(function)?;
        let argument = *inner.operands.first()?;
        let f = match inner.op {
            Op::Unary(Unary::Erf) if scales(site, argument, x, FRAC_1_SQRT_2) => Unary::Gelu,
            Op::Unary(Unary::Tanh) if is_cubic(site, argument, x) => Unary::GeluTanh,
            _ => return None,
        };
        (one == 1.0).then(|| Expr::node(Op::Unary(f), [x]))
    };
    form(a, b).or_else(|| form(b, a))
}

fn scales(site: &Site, value: ValueId, x: ValueId, by: f64) -> bool {
    let (of, scale) = scaled(site, value);
    of == x && near(scale, by)
}

/// Whether a value is `sqrt(2 / pi) * (x + 0.044715 * x^3)`, or with `x * (1 + 0.044715 * x^2)`.
fn is_cubic(site: &Site, value: ValueId, x: ValueId) -> bool {
    const CUBE: f64 = 0.044715;
    let root = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
    let Some(Factors { tensors, scalar }) = site.producer(value).map(|node| factors(site, node)) else {
        return false;
    };
    let is_power = |value: ValueId, n: usize| {
        let product = site.sole_producer(value).map(|node| factors(site, node));
        product.is_some_and(|product| {
            product.tensors.len() == n
                && product.tensors.iter().all(|&factor| factor == x)
                && near(product.scalar, CUBE)
        })
    };
    let sum = |value: ValueId| site.sole_producer(value).filter(|node| node.op == Op::Binary(Binary::Add));
    let holds = match *tensors.as_slice() {
        [whole] => sum(whole).is_some_and(|node| {
            let &[a, b] = node.operands.as_slice() else { return false };
            (a == x && is_power(b, 3)) || (b == x && is_power(a, 3))
        }),
        [a, b] => [(a, b), (b, a)].into_iter().any(|(first, rest)| {
            let square = sum(rest).and_then(|node| plus_scalar(site, node));
            first == x && square.is_some_and(|(square, one)| one == 1.0 && is_power(square, 2))
        }),
        _ => false,
    };
    holds && near(scalar, root)
}

fn softmax(site: &Site) -> Option<Expr> {
    let (Op::Binary(Binary::Div), true) = (&site.node.op, is_wide(site.result().dtype)) else { return None };
    let [weights, sum] = [site.node.operands[0], site.node.operands[1]];
    let axis = reduced_axis(site, sum, ReduceKind::Sum, weights)?;
    let exponential = site.producer(weights).filter(|node| node.op == Op::Unary(Unary::Exp))?;
    let difference = site.sole_producer(exponential.operands[0])?;
    let (Op::Binary(Binary::Sub), &[x, top]) = (&difference.op, difference.operands.as_slice()) else {
        return None;
    };
    let same = reduced_axis(site, top, ReduceKind::Max, x)? == axis;
    same.then(|| Expr::node(Op::Softmax(Softmax { axis, log: false }), [x]))
}

/// The one axis over which a value reduces another, and keeps it.
fn reduced_axis(site: &Site, value: ValueId, kind: ReduceKind, x: ValueId) -> Option<usize> {
    let node = site.sole_producer(value)?;
    match &node.op {
        Op::Reduce(Reduce { kind: found, axes, keep_dims: true }) if *found == kind => {
            (node.operands[0] == x && axes.len() == 1).then(|| axes[0])
        }
        _ => None,
    }
}

fn rms_norm(site: &Site) -> Option<Expr> {
    let Op::Binary(Binary::Mul) = site.node.op else { return None };
    let &[x, y] = site.node.operands.as_slice() else { return None };
    let form = |normal: ValueId, gamma: ValueId| {
        let node = site.sole_producer(normal)?;
        let (node, to) = match node.op {
            Op::Cast(DType::F16) => (site.sole_producer(node.operands[0])?, DType::F16),
            _ => (node, site.graph.spec(normal).dtype),
        };
        let (wide, divisor) = quotient(site, node)?;
        let (squares, norm) = mean_plus_epsilon(site, divisor)?;
        let is_square = site.sole_producer(squares).is_some_and(|node| square_of(node) == Some(wide));
        let dtype = site.graph.spec(wide).dtype;
        let x = match to {
            DType::F16 => {
                let cast = site.producer(wide)?;
                let from = site.graph.spec(*cast.operands.first()?).dtype;
                let fits = cast.op == Op::Cast(DType::F32) && from == DType::F16;
                fits.then(|| cast.operands[0])?
            }
            _ => (to == dtype).then_some(wide)?,
        };
        let fits = is_square && is_wide(dtype) && centred_norm(site, node).is_none();
        fits.then(|| Expr::node(Op::RmsNorm(norm), [x, gamma]))
    };
    form(x, y).or_else(|| form(y, x))
}

/// Numerator, and what stands below the root of the denominator.
fn quotient(site: &Site, node: &Node) -> Option<(ValueId, ValueId)> {
    let (Op::Binary(f @ (Binary::Mul | Binary::Div)), &[x, y]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let inverse = |value| unary_of(site, value, Unary::Rsqrt).or_else(|| inverse_root(site, value));
    match f {
        Binary::Div => unary_of(site, y, Unary::Sqrt).map(|under| (x, under)),
        _ => inverse(y).map(|under| (x, under)).or_else(|| inverse(x).map(|under| (y, under))),
    }
}

fn inverse_root(site: &Site, value: ValueId) -> Option<ValueId> {
    if let Some(root) = unary_of(site, value, Unary::Reciprocal) {
        return unary_of(site, root, Unary::Sqrt);
    }
    let node = site.sole_producer(value)?;
    let (Op::Binary(f), &[x, y]) = (&node.op, node.operands.as_slice()) else { return None };
    match f {
        Binary::Div if site.scalar(x) == Some(1.0) => unary_of(site, y, Unary::Sqrt),
        Binary::Pow if site.scalar(y) == Some(-0.5) => Some(x),
        _ => None,
    }
}

/// What the mean is taken of, over trailing axes, before a small number is added.
fn mean_plus_epsilon(site: &Site, value: ValueId) -> Option<(ValueId, Norm)> {
    let (mean, epsilon) = plus_scalar(site, site.sole_producer(value)?)?;
    let (of, axis) = trailing_mean(site, site.sole_producer(mean)?)?;
    (epsilon >= 0.0).then_some((of, Norm { axis, epsilon }))
}

/// What a mean over trailing axes is taken of, and the first of them.
fn trailing_mean(site: &Site, node: &Node) -> Option<(ValueId, usize)> {
    let Op::Reduce(Reduce { kind: ReduceKind::Mean, axes, keep_dims: true }) = &node.op else { return None };
    let rank = site.dims(node.operands[0])?.len();
    let first = *axes.first()?;
    axes.iter().copied().eq(first..rank).then_some((node.operands[0], first))
}

fn square_of(node: &Node) -> Option<ValueId> {
    match (&node.op, node.operands.as_slice()) {
        (Op::Unary(Unary::Square), &[x]) => Some(x),
        (Op::Binary(Binary::Mul), &[x, y]) if x == y => Some(x),
        _ => None,
    }
}

fn layer_norm(site: &Site) -> Option<Expr> {
    let (x, norm) = centred_norm(site, site.node)?;
    is_wide(site.result().dtype).then(|| Expr::node(Op::LayerNorm(norm), [x]))
}

/// What a node normalises after its mean is subtracted, if it does.
fn centred_norm(site: &Site, node: &Node) -> Option<(ValueId, Norm)> {
    let (centred, under) = quotient(site, node)?;
    let (squares, norm) = mean_plus_epsilon(site, under)?;
    let (x, mean) = difference(site.producer(centred)?)?;
    let (of, axis) = trailing_mean(site, site.producer(mean)?)?;
    let squares = site.sole_producer(squares)?;
    let is_variance = match (&squares.op, squares.operands.as_slice()) {
        (Op::Binary(Binary::SquaredDifference), &[a, b]) => (a, b) == (x, mean) || (b, a) == (x, mean),
        _ => {
            let again = square_of(squares)?;
            again == centred || difference(site.producer(again)?) == Some((x, mean))
        }
    };
    (is_variance && of == x && axis == norm.axis).then_some((x, norm))
}

fn difference(node: &Node) -> Option<(ValueId, ValueId)> {
    match (&node.op, node.operands.as_slice()) {
        (Op::Binary(Binary::Sub), &[x, y]) => Some((x, y)),
        _ => None,
    }
}

/// `gather(table, i) * cast(truth)`, perhaps reshaped between.
fn masked_rows(site: &Site) -> Option<Expr> {
    let (Op::Binary(Binary::Mul), &[x, y]) = (&site.node.op, site.node.operands.as_slice()) else {
        return None;
    };
    let dtype = site.result().dtype;
    let form = |rows: ValueId, mask: ValueId| {
        let mut cast = site.sole_producer(mask)?;
        let reshape = matches!(cast.op, Op::Reshape(_)).then(|| cast.op.clone());
        if reshape.is_some() {
            cast = site.sole_producer(cast.operands[0])?;
        }
        let truth = matches!(cast.op, Op::Cast(_)).then(|| cast.operands[0])?;
        let gather = site.producer(rows).filter(|node| matches!(node.op, Op::Gather(_)))?;
        let table = site.constant(gather.operands[0])?;
        let fits = site.graph.spec(truth).dtype == DType::Bool && dtype.is_float() && is_finite(table);
        let zero = Expr::Constant(Tensor::zeros(dtype, &[]).ok()?);
        let condition = match reshape {
            Some(reshape) => Expr::node(reshape, [truth]),
            None => truth.into(),
        };
        fits.then(|| Expr::node(Op::Select, [condition, rows.into(), zero]))
    };
    form(x, y).or_else(|| form(y, x))
}

/// Whether all elements of a tensor of floats are finite: their exponents are not the largest ones.
fn is_finite(tensor: &Tensor) -> bool {
    let (size, exponent): (usize, &[u8]) = match tensor.dtype() {
        DType::F64 => (8, &[0xf0, 0x7f]),
        DType::F32 => (4, &[0x80, 0x7f]),
        DType::BF16 => (2, &[0x80, 0x7f]),
        DType::F16 => (2, &[0x00, 0x7c]),
        _ => return false,
    };
    let is_large = |bytes: &[u8]| bytes.iter().zip(exponent).all(|(byte, mask)| byte & mask == *mask);
    cfg!(target_endian = "little")
        && !tensor.bytes().chunks_exact(size).any(|bytes| is_large(&bytes[size - 2..]))
}

fn affine(site: &Site) -> Option<Expr> {
    let Op::Binary(Binary::Add) = site.node.op else { return None };
    let &[x, y] = site.node.operands.as_slice() else { return None };
    if site.result().dtype == DType::BF16 {
        return None;
    }
    let form = |product: ValueId, beta: ValueId| {
        let product = site.sole_producer(product).filter(|node| node.op == Op::Binary(Binary::Mul))?;
        let &[x, y] = product.operands.as_slice() else { return None };
        let normalised = |normal: ValueId, gamma: ValueId| {
            let node = site.sole_producer(normal).filter(|node| node.operands.len() == 1)?;
            let Op::LayerNorm(_) = node.op else { return None };
            Some(Expr::node(node.op.clone(), [node.operands[0], gamma, beta]).with_origin_of(node))
        };
        normalised(x, y).or_else(|| normalised(y, x))
    };
    form(x, y).or_else(|| form(y, x))
}
