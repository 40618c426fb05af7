use std::collections::HashMap;

use mslite_collective::CollectiveKind;
use mslite_tensor::Dim;
use smallvec::SmallVec;

use super::{Pass, PassContext, Patch};
use crate::ir::op::{Collective, Gather, MatMul, Norm, Op};
use crate::ir::{Node, NodeId, ValueId};
use crate::{Graph, Result};

/// Moves reshapes that join rows behind what works on each row by itself, where they meet others or the end.
///
/// A reshape joins rows when its result has fewer axes than its operand, but at least two, and the same last one.
/// It moves behind
///
/// - products with a constant matrix on the right
/// - normalisation of the last axis, with factors that are vectors
/// - element-wise functions of one tensor, of two that are joined alike, and of one and a vector
/// - gathers of rows, by indices that any reshape to fewer axes has joined
/// - reductions and gathers for all ranks: the bytes that are exchanged stay the same
///
/// A reshape that splits the rows again goes. So a model that works on matrices between reshapes, as exports do, keeps
/// batch and length apart all the way, and who needs them, such as attention, finds them. It waits until other passes
/// have nothing left to do, as it would change some parts of what they recognise, and does not fire for products of
/// two computed tensors, nor where an axis other than the last is normalised.
///
/// ```text
/// %1 = reshape(dims=[32, 96]) %0 : f32[32, 96]            |
/// %2 = matmul %1, %w : f32[32, 64]                        |
/// %3 = reshape(dims=[2, 16, 64]) %2 : f32[2, 16, 64]      |  %1 = matmul %0, %w : f32[2, 16, 64]
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct RowMotion;

impl Pass for RowMotion {
    fn name(&self) -> &'static str {
        "row_motion"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        if !cx.is_settled() {
            return Ok(None);
        }
        let mut walk = Walk { graph, patch: Patch::new(graph), rows: HashMap::new(), flat: HashMap::new() };
        for (id, node) in graph.nodes() {
            if let Op::Reshape(_) = node.op {
                walk.reshape(node, cx);
            } else if let Some((op, operands)) = walk.on_rows(node)
                && cx.spend("rows_behind", &node.origin)
            {
                walk.replace(id, node, op, &operands)?;
            }
        }
        Ok(walk.patch.into_change())
    }
}

struct Walk<'a> {
    graph: &'a Graph,
    patch: Patch,
    /// Values whose rows a reshape has joined: what they are with their rows apart.
    rows: HashMap<ValueId, ValueId>,
    /// Values that a reshape has given fewer axes: what they are without it.
    flat: HashMap<ValueId, ValueId>,
}

impl Walk<'_> {
    fn dims(&self, value: ValueId) -> Option<&[Dim]> {
        self.patch.spec(self.graph, value).shape.dims()
    }

    fn reshape(&mut self, node: &Node, cx: &mut PassContext) {
        let (operand, result) = (node.operands[0], node.results[0]);
        let x = self.rows.get(&operand).copied().unwrap_or(operand);
        let (Some(before), Some(after)) = (self.dims(x), self.dims(result)) else { return };
        let (joins, flattens) =
            (before.len() > after.len(), before.last() == after.last() && after.len() >= 2);
        if x != operand && before == after {
            if cx.spend("rows_apart_again", &node.origin) {
                self.patch.replace(result, x);
            }
        } else if joins {
            self.flat.insert(result, x);
            if flattens {
                self.rows.insert(result, x);
            }
        }
    }

    /// A node's operation and operands with the rows apart.
    fn on_rows(&self, node: &Node) -> Option<(Op, SmallVec<[ValueId; 3]>)> {
        let mut operands: SmallVec<[ValueId; 3]> = node.operands.iter().copied().collect();
        let mut op = node.op.clone();
        let is_vector = |value: &ValueId| self.dims(*value).is_some_and(|dims| dims.len() < 2);
        match &mut op {
            Op::Binary(_) => {
                let both = self.both(operands[0], operands[1])?;
                operands.copy_from_slice(&both);
                return Some((op, operands));
            }
            Op::Gather(Gather { axis: 0, batch_dims: 0 }) => {
                // Of a table that is a vector there are no rows.
                operands[1] = *self.flat.get(&operands[1])?;
                return (self.dims(node.results[0])?.len() >= 2).then_some((op, operands));
            }
            Op::Unary(_) | Op::Cast(_) => {}
            Op::MatMul(MatMul { transpose_a: false, .. }) if self.is_matrix(operands[1]) => {}
            Op::LayerNorm(norm) | Op::RmsNorm(norm) if operands[1..].iter().all(is_vector) => {
                let rank = |value| self.dims(value).map(<[Dim]>::len);
                let Norm { axis, .. } = norm;
                if Some(*axis + 1) != rank(operands[0]) {
                    return None;
                }
                *axis = rank(*self.rows.get(&operands[0])?)? - 1;
            }
            Op::Collective(Collective { op, .. })
                if matches!(op.kind, CollectiveKind::AllReduce(_) | CollectiveKind::AllGather) => {}
            _ => return None,
        }
        operands[0] = *self.rows.get(&operands[0])?;
        Some((op, operands))
    }

    fn is_matrix(&self, value: ValueId) -> bool {
        self.graph.constant(value).is_some() && self.dims(value).is_some_and(|dims| dims.len() == 2)
    }

    /// The operands of a function of two tensors, with their rows apart.
    fn both(&self, x: ValueId, y: ValueId) -> Option<[ValueId; 2]> {
        let few = |value| self.dims(value).is_some_and(|dims| dims.len() < 2);
        match (self.rows.get(&x), self.rows.get(&y)) {
            (Some(&a), Some(&b)) if self.dims(x) == self.dims(y) && self.dims(a) == self.dims(b) => {
                Some([a, b])
            }
            (Some(&a), None) if few(y) => Some([a, y]),
            (None, Some(&b)) if few(x) => Some([x, b]),
            _ => None,
        }
    }

    fn replace(&mut self, at: NodeId, node: &Node, op: Op, operands: &[ValueId]) -> Result<()> {
        let new = self.patch.push(self.graph, at, op, operands, &node.origin)?[0];
        let dims = self.graph.spec(node.results[0]).shape.dims().unwrap_or_default().to_vec();
        let joined = self.patch.push(self.graph, at, Op::Reshape(dims), &[new], &node.origin)?[0];
        self.patch.replace(node.results[0], joined);
        if node.op.has_effect() {
            self.patch.remove(at);
        }
        self.rows.insert(node.results[0], new);
        Ok(())
    }
}
