//! Rules: what stands at one node, and what may stand there instead.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use mslite_tensor::{DType, Dim, Tensor, TensorSpec, bf16, f16};

use super::{PassContext, Patch};
use crate::ir::op::{Op, Slice};
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
    /// A new constant.
    Constant(Tensor),
    /// A new node with one result.
    Node {
        op: Op,
        operands: Vec<Expr>,
        /// Where it comes from, if not from the node that is rewritten.
        origin: Option<Arc<str>>,
    },
    /// A node that is read several times: the expression, and its value when it has been built.
    Shared(Rc<(Expr, Cell<Option<ValueId>>)>),
}

impl Expr {
    /// A new node.
    pub(super) fn node(op: Op, operands: impl IntoIterator<Item = impl Into<Expr>>) -> Self {
        Expr::Node { op, operands: operands.into_iter().map(Into::into).collect(), origin: None }
    }

    /// The same, built once however often it is read.
    pub(super) fn shared(self) -> Self {
        Expr::Shared(Rc::new((self, Cell::new(None))))
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
    join_limit: usize,
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

    /// Whether constants may be joined into one.
    pub(super) fn may_join(&self, values: impl IntoIterator<Item = ValueId>) -> bool {
        let bytes = |value| self.constant(value).map(Tensor::size_bytes);
        values
            .into_iter()
            .map(bytes)
            .try_fold(0usize, |n, size| n.checked_add(size?))
            .is_some_and(|n| n <= self.join_limit)
    }

    /// Of which tensor a value is half along the last axis, and which half.
    pub(super) fn half(&self, value: ValueId) -> Option<(ValueId, usize)> {
        let node = self.sole_producer(value)?;
        let Op::Slice(Slice { starts, sizes, steps }) = &node.op else { return None };
        let x = node.operands[0];
        let (last, lead) = self.dims(x)?.split_last()?;
        let size = last.as_usize().filter(|n| n % 2 == 0)? / 2;
        let is_whole = (0..lead.len()).all(|i| starts[i] == Dim::from(0) && sizes[i] == lead[i]);
        let start = starts[lead.len()].as_usize()?;
        let fits = is_whole && steps.iter().all(|&n| n == 1) && sizes[lead.len()] == Dim::from(size);
        (fits && size > 0 && start % size == 0).then(|| (x, start / size))
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
        let site = Site { graph, node, uses: &uses, join_limit: cx.join_limit() };
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
            if node.op.has_effect() {
                // What takes its place has the effect.
                patch.remove(id);
            }
            break;
        }
    }
    Ok(patch.into_change())
}

/// Adds an expression to a patch, unless its operands do not fit.
fn build(patch: &mut Patch, graph: &Graph, at: NodeId, node: &Node, expr: Expr) -> Option<ValueId> {
    let (op, operands, origin) = match expr {
        Expr::Value(value) => return Some(value),
        Expr::Constant(tensor) => return Some(patch.constant("", tensor)),
        Expr::Shared(shared) => {
            let value = shared.1.get().or_else(|| build(patch, graph, at, node, shared.0.clone()))?;
            shared.1.set(Some(value));
            return Some(value);
        }
        Expr::Node { op, operands, origin } => (op, operands, origin),
    };
    let operands = operands
        .into_iter()
        .map(|operand| build(patch, graph, at, node, operand))
        .collect::<Option<Vec<ValueId>>>()?;
    let results = patch.push(graph, at, op, &operands, origin.as_ref().unwrap_or(&node.origin)).ok()?;
    results.first().copied()
}
