use mslite_collective::{CollectiveKind, CollectiveOp};
use mslite_tensor::Dim;

use super::{Pass, PassContext, Patch};
use crate::ir::op::{Collective, Op, Slice};
use crate::ir::{Node, NodeId, ValueId};
use crate::{Graph, Result};

/// Saves exchanges between ranks.
///
/// - what a group of one rank exchanges with itself is what it has
/// - a reduction that is scattered, and gathered again by the same group, is a reduction for all
/// - reductions for all of one kind, type and group that follow each other become one, of the operands behind each
///   other, if together they have at most 64 KiB: there the number of exchanges counts, not the number of bytes
///
/// All ranks must decide alike, so only the graph and the sizes in it decide. Nothing fires where the size of the
/// group is not known, where extents are not numbers, where another exchange stands between, where the scattered
/// part has another reader, or where the second reduction, or a node before it, reads the result of the first.
///
/// ```text
/// %2 = collective(op=all_reduce(sum) group="tp", size=2) %0 : f32[4]     |  %2 = concat(axis=0) %0, %1
/// %3 = collective(op=all_reduce(sum) group="tp", size=2) %1 : f32[4]     |  %3 = collective(op=all_reduce(sum) group="tp", size=2) %2
///                                                                        |  %4 = slice(starts=[0], ...) %3
///                                                                        |  %5 = slice(starts=[4], ...) %3
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Collectives;

/// Most bytes of reductions that are joined.
const SMALL: usize = 64 << 10;

impl Pass for Collectives {
    fn name(&self) -> &'static str {
        "collectives"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        let mut patch = Patch::new(graph);
        let uses = graph.use_counts();
        let exchanges = graph.nodes().filter(|(_, node)| node.op.has_effect());
        let mut last: Option<(NodeId, &Node)> = None;
        for (id, node) in exchanges {
            let has_changed = alone(node, &mut patch, id, cx)
                || gathered(graph, node, &uses, &mut patch, id, cx)?
                || match last {
                    Some(first) => joined(graph, first, (id, node), &mut patch, cx)?,
                    None => false,
                };
            last = if has_changed { None } else { Some((id, node)) };
        }
        Ok(patch.into_change())
    }
}

fn alone(node: &Node, patch: &mut Patch, id: NodeId, cx: &mut PassContext) -> bool {
    use CollectiveKind::{AllGather, AllReduce, AllToAll, Broadcast, ReduceScatter};
    let Op::Collective(Collective { op, size: Some(1), .. }) = &node.op else { return false };
    let (AllReduce(_) | AllGather | AllToAll | Broadcast { .. } | ReduceScatter(_)) = op.kind else {
        return false;
    };
    if !cx.spend("alone", &node.origin) {
        return false;
    }
    patch.replace(node.results[0], node.operands[0]);
    patch.remove(id);
    true
}

fn gathered(
    graph: &Graph,
    node: &Node,
    uses: &[usize],
    patch: &mut Patch,
    id: NodeId,
    cx: &mut PassContext,
) -> Result<bool> {
    let Op::Collective(gather) = &node.op else { return Ok(false) };
    if gather.op.kind != CollectiveKind::AllGather || gather.size.is_none() {
        return Ok(false);
    }
    let Some((first, scatter_node)) = graph.producer(node.operands[0]) else { return Ok(false) };
    let Op::Collective(scatter) = &scatter_node.op else { return Ok(false) };
    let CollectiveKind::ReduceScatter(reduction) = scatter.op.kind else { return Ok(false) };
    let between = graph.nodes().skip(first.index() + 1).take(id.index() - first.index() - 1);
    let fits = scatter.op.group == gather.op.group
        && (scatter.size, &scatter.ranks) == (gather.size, &gather.ranks)
        && uses[node.operands[0].index()] == 1
        && graph.spec(scatter_node.operands[0]) == graph.spec(node.results[0])
        && between.into_iter().all(|(_, node)| !node.op.has_effect());
    if !fits || !cx.spend("gathered_reduction", &node.origin) {
        return Ok(false);
    }
    let kind = CollectiveKind::AllReduce(reduction);
    let op = Collective { op: CollectiveOp { kind, ..scatter.op.clone() }, ..scatter.clone() };
    let new = patch.push(graph, id, Op::Collective(op), &scatter_node.operands, &scatter_node.origin)?;
    patch.replace(node.results[0], new[0]);
    patch.remove(first);
    patch.remove(id);
    Ok(true)
}

fn joined(
    graph: &Graph,
    (at, first): (NodeId, &Node),
    (id, second): (NodeId, &Node),
    patch: &mut Patch,
    cx: &mut PassContext,
) -> Result<bool> {
    let (Op::Collective(a), Op::Collective(b)) = (&first.op, &second.op) else { return Ok(false) };
    let is_reduction = matches!(a.op.kind, CollectiveKind::AllReduce(_));
    if !is_reduction || a != b || a.size.is_none() {
        return Ok(false);
    }
    let operands = [first.operands[0], second.operands[0]];
    let specs = operands.map(|value| graph.spec(value));
    let [Some(x), Some(y)] = specs.map(|spec| spec.shape.as_fixed()) else { return Ok(false) };
    let counts = [x, y].map(|dims| dims.iter().product::<usize>());
    let dtype = specs[0].dtype;
    let is_small = counts[0].saturating_add(counts[1]).saturating_mul(dtype.size()) <= SMALL;
    let mut between = graph.nodes().skip(at.index() + 1).take(id.index() - at.index());
    let is_read = between.any(|(_, node)| node.operands.contains(&first.results[0]));
    if dtype != specs[1].dtype || !is_small || is_read || !cx.spend("joined_reductions", &second.origin) {
        return Ok(false);
    }
    join(graph, patch, id, [first, second], counts)?;
    patch.remove(at);
    patch.remove(id);
    Ok(true)
}

/// One exchange of both operands, behind each other.
fn join(graph: &Graph, patch: &mut Patch, at: NodeId, nodes: [&Node; 2], counts: [usize; 2]) -> Result<()> {
    let origin = &nodes[0].origin;
    let mut push = |op: Op, operands: &[ValueId]| Ok(patch.push(graph, at, op, operands, origin)?[0]);
    let flat = |count: usize| Op::Reshape(vec![Dim::from(count)]);
    let x = push(flat(counts[0]), &nodes[0].operands)?;
    let y = push(flat(counts[1]), &nodes[1].operands)?;
    let both = push(Op::Concat { axis: 0 }, &[x, y])?;
    let reduced = push(nodes[0].op.clone(), &[both])?;
    let mut results = Vec::new();
    for (node, (start, count)) in nodes.iter().zip([(0, counts[0]), (counts[0], counts[1])]) {
        let (starts, sizes) = (vec![Dim::from(start)], vec![Dim::from(count)]);
        let part = push(Op::Slice(Slice { starts, sizes, steps: vec![1] }), &[reduced])?;
        let dims = graph.spec(node.results[0]).shape.dims().unwrap_or_default().to_vec();
        results.push((node.results[0], push(Op::Reshape(dims), &[part])?));
    }
    results.into_iter().for_each(|(old, new)| patch.replace(old, new));
    Ok(())
}
