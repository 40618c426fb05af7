use mslite_collective::{CollectiveKind, Reduction};
use mslite_tensor::DType;

use super::{Pass, PassContext, Patch};
use crate::ir::op::{Collective, MatMul, Op};
use crate::ir::{Node, NodeId, ValueId};
use crate::{Graph, Result};

/// Adds up products of 16-bit floats among ranks before they are rounded.
///
/// A matrix product whose rows are divided among ranks is a sum over ranks. Rounding each rank's part to 16 bits, and
/// their sum again, loses what the undivided product keeps in f32 up to its end. Where a product goes straight into
/// a sum over ranks, the parts travel as f32, and the sum is rounded, once: results do not depend on the number
/// of ranks. Twice as many bytes travel. What adds the sum up and normalises it ([`Op::AddNorm`]) rounds it, too.
///
/// It does not fire for products with bias or activation, nor where the part is read by others, too. Every rank
/// of a group must do the same, which no rank can know by itself: it is not among the standard passes, and
/// sessions ask the other ranks first.
///
/// ```text
/// %2 = matmul %0, %1 : f16[8, 4]          |  %2 = matmul(wide=true) %0, %1 : f32[8, 4]
/// %3 = collective(all_reduce(sum)) %2     |  %3 = collective(all_reduce(sum)) %2
///                                         |  %4 = cast(to=f16) %3
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct WideSums;

impl Pass for WideSums {
    fn name(&self) -> &'static str {
        "wide_sums"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        let uses = graph.use_counts();
        let mut patch = Patch::new(graph);
        for (id, node) in graph.nodes() {
            if let Some(sum) = rounded_addend(graph, node, &uses)
                && cx.spend("rounded_where_it_is_added", &node.origin)
            {
                let operands = [&[sum], &node.operands[1..]].concat();
                let results = patch.push(graph, id, node.op.clone(), &operands, &node.origin)?;
                node.results.iter().zip(results).for_each(|(&old, new)| patch.replace(old, new));
                patch.remove(id);
            }
            let Op::Collective(collective) = &node.op else { continue };
            let Some(product) = rounded_product(graph, node, collective, &uses) else { continue };
            if cx.spend("sum_before_rounding", &node.origin) {
                widen(graph, &mut patch, id, node, product)?;
            }
        }
        Ok(patch.into_change())
    }
}

/// A sum over ranks in f32 that is only rounded to be added up and normalised.
fn rounded_addend(graph: &Graph, node: &Node, uses: &[usize]) -> Option<ValueId> {
    let first = *node.operands.first().filter(|_| matches!(node.op, Op::AddNorm(_)))?;
    let (_, cast) = graph.producer(first).filter(|(_, node)| matches!(node.op, Op::Cast(_)))?;
    let (_, sum) = graph.producer(cast.operands[0])?;
    let is_wide = graph.spec(cast.operands[0]).dtype == DType::F32;
    (matches!(sum.op, Op::Collective(_)) && is_wide && uses[first.index()] == 1).then_some(cast.operands[0])
}

/// The product that is rounded before it is added to those of other ranks.
fn rounded_product<'a>(
    graph: &'a Graph,
    node: &Node,
    collective: &Collective,
    uses: &[usize],
) -> Option<&'a Node> {
    let sums = matches!(
        collective.op.kind,
        CollectiveKind::AllReduce(Reduction::Sum) | CollectiveKind::ReduceScatter(Reduction::Sum)
    );
    let &[part] = &node.operands[..] else { return None };
    let is_narrow = matches!(graph.spec(part).dtype, DType::F16 | DType::BF16);
    let (_, product) = graph.producer(part).filter(|_| sums && is_narrow && uses[part.index()] == 1)?;
    let plain = matches!(product.op, Op::MatMul(MatMul { activation: None, wide: false, .. }));
    (plain && product.operands.len() == 2).then_some(product)
}

fn widen(graph: &Graph, patch: &mut Patch, at: NodeId, node: &Node, product: &Node) -> Result<()> {
    let Op::MatMul(matmul) = &product.op else { return Ok(()) };
    let matmul = Op::MatMul(MatMul { wide: true, ..matmul.clone() });
    let one = |values: &[ValueId]| values[0];
    let part = one(&patch.push(graph, at, matmul, &product.operands, &product.origin)?);
    let sum = one(&patch.push(graph, at, node.op.clone(), &[part], &node.origin)?);
    let dtype = graph.spec(node.results[0]).dtype;
    let rounded = one(&patch.push(graph, at, Op::Cast(dtype), &[sum], &node.origin)?);
    patch.replace(node.results[0], rounded);
    patch.remove(at);
    Ok(())
}
