//! Rules: what stands at one node, and what may stand there instead.

use std::sync::Arc;

use mslite_tensor::{DType, Dim, Tensor, TensorSpec, bf16, f16};

use super::{PassContext, Patch};
use crate::ir::op::Op;
use crate::ir::{Node, NodeId, ValueId};
use crate::{Graph, Result};

/// A rule for nodes with one result.
pub(super) struct Rule {
    /// Name in reports.
    pub(super) name: &'static str,
    /// What may stand in place of the node's result. Where that turns out to have another type, the node stays.
    pub(super) rewrite: fn(&Site) -> Option<Expr>,
}

/// What takes a node's place.
#[derive(Debug, Clone)]
pub(super) enum Expr {
    /// A value of the graph.
    Value(ValueId),
    /// A new node with one result.
    Node {
        op: Op,
        operands: Vec<Expr>,
        /// Where it comes from, if not from the node that is rewritten.
        origin: Option<Arc<str>>,
    },
}

impl Expr {
    /// A new node.
    pub(super) fn node(op: Op, operands: impl IntoIterator<Item = impl Into<Expr>>) -> Self {
        Expr::Node { op, operands: operands.into_iter().map(Into::into).collect(), origin: None }
    }

    /// The same as a part of another node.
    pub(super) fn with_origin_of(self, node: &Node) -> Self {
        match self {
            Expr::Node { op, operands, .. } => Expr::Node { op, operands, origin: Some(node.origin.clone()) },
            value => value,
        }
    }
}

impl From<ValueId> for Expr {
    fn from(value: ValueId) -> Self {
        Expr::Value(value)
    }
}

/// A node, and what rules ask about it.
pub(super) struct Site<'a> {
    pub(super) graph: &'a Graph,
    pub(super) node: &'a Node,
    uses: &'a [usize],
}

impl<'a> Site<'a> {
    /// Type of the node's result.
    pub(super) fn result(&self) -> &'a TensorSpec {
        self.graph.spec(self.node.results[0])
    }

    /// Type of an operand.
    pub(super) fn operand(&self, n: usize) -> &'a TensorSpec {
        self.graph.spec(self.node.operands[n])
    }

    /// Extents of a value, if its rank is known.
    pub(super) fn dims(&self, value: ValueId) -> Option<&'a [Dim]> {
        self.graph.spec(value).shape.dims()
    }

    /// The node that makes a value.
    pub(super) fn producer(&self, value: ValueId) -> Option<&'a Node> {
        self.graph.producer(value).map(|(_, node)| node)
    }

    /// The node that makes a value which is read here and nowhere else.
    pub(super) fn sole_producer(&self, value: ValueId) -> Option<&'a Node> {
        self.producer(value).filter(|node| node.results.len() == 1 && self.uses[value.index()] == 1)
    }

    /// The tensor that a value is known to be.
    pub(super) fn constant(&self, value: ValueId) -> Option<&'a Tensor> {
        self.graph.constant(value).map(|constant| &constant.tensor)
    }

    /// The number that a value is known to be: a constant float of one element.
    pub(super) fn scalar(&self, value: ValueId) -> Option<f64> {
        let tensor = self.constant(value).filter(|tensor| tensor.num_elements() == 1)?;
        Some(match tensor.dtype() {
            DType::F64 => tensor.to_vec::<f64>().ok()?[0],
            DType::F32 => tensor.to_vec::<f32>().ok()?[0].into(),
            DType::F16 => tensor.to_vec::<f16>().ok()?[0].to_f64(),
            DType::BF16 => tensor.to_vec::<bf16>().ok()?[0].to_f64(),
            _ => return None,
        })
    }

    /// How often a value is read.
    pub(super) fn uses(&self, value: ValueId) -> usize {
        self.uses[value.index()]
    }
}

/// Applies to each node the first rule that fits.
///
/// A rewrite must keep the type, which says nothing about broadcasting where the rank is unknown: such nodes stay.
pub(super) fn apply(rules: &[Rule], graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
    let uses = graph.use_counts();
    let mut patch = Patch::new(graph);
    for (id, node) in graph.nodes().filter(|(_, node)| node.results.len() == 1) {
        let site = Site { graph, node, uses: &uses };
        if site.result().shape.rank().is_none() {
            continue;
        }
        for rule in rules {
            let Some(expr) = (rule.rewrite)(&site) else { continue };
            let mark = patch.mark();
            let Some(new) = build(&mut patch, graph, id, node, expr) else {
                patch.rewind(mark);
                continue;
            };
            if patch.spec(graph, new) != site.result() || !cx.spend(rule.name, &node.origin) {
                patch.rewind(mark);
                continue;
            }
            patch.replace(node.results[0], new);
            break;
        }
    }
    Ok(patch.into_change())
}

/// Adds an expression to a patch, unless its operands do not fit.
fn build(patch: &mut Patch, graph: &Graph, at: NodeId, node: &Node, expr: Expr) -> Option<ValueId> {
    let (op, operands, origin) = match expr {
        Expr::Value(value) => return Some(value),
        Expr::Node { op, operands, origin } => (op, operands, origin),
    };
    let operands = operands
        .into_iter()
        .map(|operand| build(patch, graph, at, node, operand))
        .collect::<Option<Vec<ValueId>>>()?;
    let results = patch.push(graph, at, op, &operands, origin.as_ref().unwrap_or(&node.origin)).ok()?;
    results.first().copied()
}
