use super::{Pass, PassContext, Patch};
use crate::ir::op::{AddNorm as Sum, Binary, Norm, Op};
use crate::ir::{Node, NodeId, ValueId};
use crate::{Graph, Result};

/// Lets normalisations add up what they normalise.
///
/// - `layer_norm(x + y)` and `rms_norm(x + y)`; others that read the sum get it as a second result
/// - also where x or y is a sum itself that nobody else reads: the result of a product that ranks have added up, its
///   bias, and what goes round the layer
///
/// Each sum is rounded as before, so every element stays as it is. It waits until other passes have nothing left
/// to do, and does not fire for layer normalisation without scale and shift, where the sum has more extents than
/// both that are added, or where the scale is computed behind the sum.
///
/// ```text
/// %4 = add %0, %1 : f32[8, 64]                     |
/// %5 = rms_norm(axis=1, epsilon=1e-6) %4, %gamma   |
/// %6 = add %4, ...                                 |  %4, %5 = add_norm(axis=1, epsilon=1e-6, sum=true) %0, %1, %gamma
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct AddNorm;

impl Pass for AddNorm {
    fn name(&self) -> &'static str {
        "add_norm"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        if !cx.is_settled() {
            return Ok(None);
        }
        let uses = graph.use_counts();
        let mut patch = Patch::new(graph);
        // A sum that two normalisations read goes to the first of them.
        let mut taken = vec![false; graph.values().len()];
        for (_, node) in graph.nodes() {
            let Some(found) = Found::at(graph, node, &uses) else { continue };
            let total = node.operands[0];
            if !taken[total.index()] && cx.spend("normalised_sum", &node.origin) {
                found.rewrite(graph, node, &mut patch)?;
                taken[total.index()] = true;
            }
        }
        Ok(patch.into_change())
    }
}

/// A normalised sum.
struct Found {
    /// The node that makes the sum.
    at: NodeId,
    op: Sum,
    operands: Vec<ValueId>,
}

impl Found {
    fn at(graph: &Graph, node: &Node, uses: &[usize]) -> Option<Self> {
        let (&Norm { axis, epsilon }, centred) = match &node.op {
            Op::LayerNorm(norm) if node.operands.len() == 3 => (norm, true),
            Op::RmsNorm(norm) => (norm, false),
            _ => return None,
        };
        let total = node.operands[0];
        let (at, sum) = graph.producer(total).filter(|(_, node)| is_sum(node))?;
        let is_known = |&factor: &ValueId| graph.producer(factor).is_none_or(|(id, _)| id < at);
        let mut operands = addends(graph, sum, uses)?;
        operands.extend(&node.operands[1..]);
        let op = Sum { axis, epsilon, centred, sum: uses[total.index()] > 1 };
        node.operands[1..].iter().all(is_known).then_some(Found { at, op, operands })
    }

    fn rewrite(&self, graph: &Graph, node: &Node, patch: &mut Patch) -> Result<()> {
        let results =
            patch.push(graph, self.at, Op::AddNorm(self.op.clone()), &self.operands, &node.origin)?;
        patch.replace(node.results[0], results[0]);
        if let Some(&total) = results.get(1) {
            patch.replace(node.operands[0], total);
        }
        Ok(())
    }
}

fn is_sum(node: &Node) -> bool {
    node.op == Op::Binary(Binary::Add)
}

/// What a sum adds up, the first of which has the extents of the sum.
fn addends(graph: &Graph, sum: &Node, uses: &[usize]) -> Option<Vec<ValueId>> {
    let shape = &graph.spec(sum.results[0]).shape;
    let is_whole = |value: ValueId| graph.spec(value).shape == *shape && shape.rank().is_some();
    let both = |node: &Node| {
        let &[x, y] = node.operands.as_slice() else { return None };
        if is_whole(x) { Some((x, y)) } else { is_whole(y).then_some((y, x)) }
    };
    let inner = |value: ValueId| {
        let (_, node) = graph.producer(value).filter(|(_, node)| is_sum(node) && uses[value.index()] == 1)?;
        both(node)
    };
    let &[x, y] = sum.operands.as_slice() else { return None };
    let nested = inner(x).map(|(a, b)| vec![a, b, y]).or_else(|| inner(y).map(|(a, b)| vec![a, b, x]));
    nested.or_else(|| both(sum).map(|(a, b)| vec![a, b]))
}
