use std::collections::BTreeMap;

use mslite_tensor::Dim;

use super::rule::{self, Expr, Rule, Site};
use super::{Pass, PassContext, Patch};
use crate::ir::op::{Attention, Binary, MatMul, Op, Packed, Slice, Unary};
use crate::ir::{Node, NodeId, ValueId};
use crate::{Graph, Result};

/// Computes products of one tensor with several weights as one product, where who reads the parts reads them where
/// they are.
///
/// - query, key and value of attention, or only the last two, perhaps after rotary embedding
/// - a gate and what it is multiplied by
/// - all products of a tensor of few rows, as decoding steps have: at most an eighth of its columns; slices of the columns
///   take their place, which copy next to nothing beside the weights that are read
///
/// The weights are joined column by column, as are the biases: a [`Concat`](Op::Concat) of constants that the pass
/// `constant_folding` computes. It waits until other passes have nothing left to do.
///
/// It does not fire where a product of more rows has another reader, as its columns would have to be copied; where one
/// has a bias and another has none, or their flags or activations differ; where weights are not constant matrices, or together
/// are larger than [`FoldLimits::joined`](super::FoldLimits::joined), as joining copies them; nor without an evaluator.
///
/// ```text
/// %1 = matmul(activation=silu) %0, %gate : f32[8, 64]     |
/// %2 = matmul %0, %up : f32[8, 64]                        |  %1 = matmul %0, %gate_up : f32[8, 128]
/// %3 = mul %1, %2 : f32[8, 64]                            |  %2 = gated(f=silu) %1 : f32[8, 64]
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct JoinedProducts;

impl Pass for JoinedProducts {
    fn name(&self) -> &'static str {
        "joined_products"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        if cx.evaluator().is_none() || !cx.is_settled() {
            return Ok(None);
        }
        match rule::apply(RULES, graph, cx)? {
            None => few_rows(graph, cx),
            patch => Ok(patch),
        }
    }
}

const RULES: &[Rule] = &[
    Rule { name: "gate", rewrite: gate },
    Rule { name: "gated_halves", rewrite: gated_halves },
    Rule { name: "heads", rewrite: heads },
];

/// A product of a tensor and a constant matrix that nobody else reads.
struct Product<'a> {
    node: &'a Node,
    matmul: &'a MatMul,
    columns: usize,
}

impl<'a> Product<'a> {
    fn find(site: &Site<'a>, value: ValueId) -> Option<Self> {
        let node = site.sole_producer(value)?;
        let Op::MatMul(matmul) = &node.op else { return None };
        let are_known = node.operands[1..].iter().all(|&value| site.constant(value).is_some());
        let fits =
            are_known && !matmul.transpose_a && !matmul.wide && site.dims(node.operands[1])?.len() == 2;
        let columns = site.dims(value)?.last()?.as_usize()?;
        fits.then_some(Product { node, matmul, columns })
    }

    fn x(&self) -> ValueId {
        self.node.operands[0]
    }

    fn is_alike(&self, other: &Product) -> bool {
        self.x() == other.x()
            && self.matmul.transpose_b == other.matmul.transpose_b
            && self.node.operands.len() == other.node.operands.len()
    }
}

/// One product instead of several; their activations are left out.
fn joined(site: &Site, products: &[&Product]) -> Option<Expr> {
    let (first, rest) = products.split_first()?;
    if !rest.iter().all(|other| first.is_alike(other)) {
        return None;
    }
    let operands = |n: usize| products.iter().map(move |product| product.node.operands[n]);
    if !site.may_join(operands(1)) {
        return None;
    }
    let matmul = MatMul { activation: None, ..first.matmul.clone() };
    let axis = if matmul.transpose_b { 0 } else { 1 };
    let mut all = vec![first.x().into(), Expr::node(Op::Concat { axis }, operands(1))];
    if first.node.operands.len() > 2 {
        all.push(Expr::node(Op::Concat { axis: 0 }, operands(2)));
    }
    Some(Expr::node(Op::MatMul(matmul), all).with_origin_of(first.node))
}

/// `f(x @ gate) * (x @ up)`
fn gate(site: &Site) -> Option<Expr> {
    let (Op::Binary(Binary::Mul), &[a, b]) = (&site.node.op, site.node.operands.as_slice()) else {
        return None;
    };
    let form = |gate: ValueId, up: ValueId| {
        let (gate, up) = (Product::find(site, gate)?, Product::find(site, up)?);
        let f = gate.matmul.activation.filter(|_| up.matmul.activation.is_none())?;
        let fits = gate.columns == up.columns && is_gate(f);
        Some(Expr::node(Op::Gated(f), [joined(site, &[&gate, &up])?])).filter(|_| fits)
    };
    form(a, b).or_else(|| form(b, a))
}

fn is_gate(f: Unary) -> bool {
    !f.is_predicate() && f != Unary::Not
}

/// `f(a) * b` of the halves of a tensor along its last axis.
fn gated_halves(site: &Site) -> Option<Expr> {
    let (Op::Binary(Binary::Mul), &[a, b]) = (&site.node.op, site.node.operands.as_slice()) else {
        return None;
    };
    let form = |gate: ValueId, up: ValueId| {
        let function = site.sole_producer(gate)?;
        let Op::Unary(f) = function.op else { return None };
        let (x, low) = site.half(function.operands[0])?;
        let (same, high) = site.half(up)?;
        let fits = x == same && (low, high) == (0, 1) && is_gate(f) && site.result().dtype.is_float();
        fits.then(|| Expr::node(Op::Gated(f), [x]))
    };
    form(a, b).or_else(|| form(b, a))
}

/// Where attention gets an operand: columns of a product, perhaps after rotary embedding.
struct Source<'a> {
    product: Product<'a>,
    packed: Packed,
    /// The extents but columns; the product may have its rows joined.
    rows: &'a [Dim],
    /// cos and sin.
    rotation: Option<[ValueId; 2]>,
}

impl<'a> Source<'a> {
    fn find(site: &Site<'a>, value: ValueId, packed: Option<Packed>) -> Option<Self> {
        let packed = packed.filter(|packed| packed.start == 0)?;
        let rope = site.sole_producer(value).filter(|node| node.op == Op::Rope);
        let heads = rope.map_or(value, |node| node.operands[0]);
        let (columns, rows) = site.dims(heads)?.split_last()?;
        let reshape = site.sole_producer(heads).filter(|node| matches!(node.op, Op::Reshape(_)));
        let product = Product::find(site, reshape.map_or(heads, |node| node.operands[0]))?;
        let rotation = rope.map(|node| [node.operands[1], node.operands[2]]);
        let is_whole =
            product.columns == packed.heads * packed.width && *columns == Dim::from(product.columns);
        let fits = is_whole && product.matmul.activation.is_none();
        fits.then_some(Source { product, packed, rows, rotation })
    }
}

/// Query, key and value, or key and value, that are products of one tensor.
fn heads(site: &Site) -> Option<Expr> {
    let Op::Attention(attention) = &site.node.op else { return None };
    let source = |n: usize| Source::find(site, site.node.operands[n], attention.packed[n]);
    let (key, value) = (source(1)?, source(2)?);
    match source(0).filter(|query| query.product.is_alike(&key.product)) {
        Some(query) => attend(site, attention, 0, &[query, key, value]),
        None => attend(site, attention, 1, &[key, value]),
    }
}

/// The attention whose operands from `first` on are columns of one product.
fn attend(site: &Site, attention: &Attention, first: usize, sources: &[Source]) -> Option<Expr> {
    let Source { rows, rotation, .. } = sources[0];
    // Those that are rotated alike come first.
    let is_rotated = |source: &&Source| rotation.is_some() && source.rotation == rotation;
    let rotated = sources.iter().take_while(is_rotated).count();
    let rest = &sources[rotated..];
    if sources.iter().any(|source| source.rows != rows) || rest.iter().any(|source| source.rotation.is_some())
    {
        return None;
    }
    let columns = |sources: &[Source]| sources.iter().map(|source| source.product.columns).sum::<usize>();
    let extents = |columns: usize| rows.iter().cloned().chain([columns.into()]).collect::<Vec<Dim>>();
    let product = joined(site, &sources.iter().map(|source| &source.product).collect::<Vec<_>>())?;
    let product = Expr::node(Op::Reshape(extents(columns(sources))), [product]).shared();
    let turned = rotation.map(|[cos, sin]| {
        let part = Op::Slice(first_columns(extents(columns(&sources[..rotated]))));
        Expr::node(Op::Rope, [Expr::node(part, [product.clone()]), cos.into(), sin.into()]).shared()
    });
    let mut op = *attention;
    let mut operands: Vec<Expr> = site.node.operands.iter().map(|&value| value.into()).collect();
    for (i, source) in sources.iter().enumerate() {
        op.packed[first + i] = Some(Packed { start: columns(&sources[..i]), ..source.packed });
        operands[first + i] = turned.clone().filter(|_| i < rotated).unwrap_or_else(|| product.clone());
    }
    Some(Expr::node(Op::Attention(op), operands))
}

fn first_columns(sizes: Vec<Dim>) -> Slice {
    Slice { starts: vec![Dim::from(0); sizes.len()], steps: vec![1; sizes.len()], sizes }
}

/// Products that may become one: they have these in common.
type Common = (ValueId, bool, usize);

/// Rows of a tensor that are few for so many columns.
const COLUMNS_PER_ROW: usize = 8;

/// Joins products of one tensor that has few rows.
fn few_rows(graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
    let mut groups: BTreeMap<Common, Vec<(NodeId, &Node, &MatMul)>> = BTreeMap::new();
    for (id, node) in graph.nodes() {
        if let Some(matmul) = of_few_rows(graph, node) {
            let common = (node.operands[0], matmul.transpose_b, node.operands.len());
            groups.entry(common).or_default().push((id, node, matmul));
        }
    }
    let mut patch = Patch::new(graph);
    for products in groups.into_values().filter(|products| products.len() > 1) {
        let is_alike = |(_, _, matmul): &(_, _, &MatMul)| matmul.activation == products[0].2.activation;
        let weights = products.iter().filter_map(|(_, node, _)| graph.constant(node.operands[1]));
        let bytes: usize = weights.map(|constant| constant.tensor.size_bytes()).sum();
        let fits = products.iter().all(is_alike) && bytes <= cx.join_limit();
        if fits && cx.spend("few_rows", &products[0].1.origin) {
            join_few(graph, &mut patch, &products)?;
        }
    }
    Ok(patch.into_change())
}

/// The operation of a product of few rows with a constant matrix.
fn of_few_rows<'a>(graph: &Graph, node: &'a Node) -> Option<&'a MatMul> {
    let Op::MatMul(matmul) = &node.op else { return None };
    let dims = graph.spec(node.operands[0]).shape.as_fixed()?;
    let (columns, lead) = dims.split_last()?;
    let rows = lead.iter().try_fold(1usize, |rows, &n| rows.checked_mul(n))?;
    let are_known = node.operands[1..].iter().all(|&value| graph.constant(value).is_some());
    let fits = !matmul.transpose_a
        && !matmul.wide
        && !lead.is_empty()
        && rows.checked_mul(COLUMNS_PER_ROW)? <= *columns
        && graph.spec(node.operands[1]).shape.rank() == Some(2);
    (fits && are_known).then_some(matmul)
}

/// One product, and slices in place of the results.
fn join_few(graph: &Graph, patch: &mut Patch, products: &[(NodeId, &Node, &MatMul)]) -> Result<()> {
    let (at, first, matmul) = products[0];
    let mut push = |op: Op, operands: &[ValueId], origin| Ok(patch.push(graph, at, op, operands, origin)?[0]);
    let mut operands = vec![first.operands[0]];
    for n in 1..first.operands.len() {
        let axis = if n == 1 && !matmul.transpose_b { 1 } else { 0 };
        let parts: Vec<ValueId> = products.iter().map(|(_, node, _)| node.operands[n]).collect();
        operands.push(push(Op::Concat { axis }, &parts, &first.origin)?);
    }
    let product = push(first.op.clone(), &operands, &first.origin)?;
    let (mut start, mut results) = (Dim::from(0), Vec::new());
    for (_, node, _) in products {
        let sizes = graph.spec(node.results[0]).shape.dims().unwrap_or_default().to_vec();
        let mut part = first_columns(sizes);
        if let (Some(at), Some(columns)) = (part.starts.last_mut(), part.sizes.last()) {
            *at = start.clone();
            start = &start + columns;
        }
        results.push((node.results[0], push(Op::Slice(part), &[product], &node.origin)?));
    }
    results.into_iter().for_each(|(old, new)| patch.replace(old, new));
    Ok(())
}
