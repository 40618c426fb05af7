use std::collections::BTreeSet;

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
/// - an element-wise function of gathered parts, or a cast to a type of no more bytes, is applied to the own part before;
///   a cast to a type of more bytes to the gathered parts behind, so that fewer bytes travel
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
        if patch.is_empty() {
            move_gathers(graph, &uses, &mut patch, cx)?;
        }
        Ok(patch.into_change())
    }
}

/// Moves functions and casts to the side of a gather where they cost less, one for each gather.
fn move_gathers(graph: &Graph, uses: &[usize], patch: &mut Patch, cx: &mut PassContext) -> Result<()> {
    let mut moved = BTreeSet::new();
    for (id, node) in graph.nodes() {
        let found = larger_before(graph, id, node, uses).or_else(|| smaller_behind(graph, node, uses));
        let Some((at, gather, function, rule)) = found.filter(|(at, ..)| !moved.contains(at)) else {
            continue;
        };
        if !cx.spend(rule, &node.origin) {
            continue;
        }
        let order = if rule == "before_gather" { [function, gather] } else { [gather, function] };
        let mut value = if rule == "before_gather" { gather.operands[0] } else { function.operands[0] };
        for part in order {
            value = patch.push(graph, at, part.op.clone(), &[value], &part.origin)?[0];
        }
        patch.replace(node.results[0], value);
        patch.remove(at);
        moved.insert(at);
    }
    Ok(())
}

/// A gather, what changes places with it, and the name of the rule.
type Move<'a> = (NodeId, &'a Node, &'a Node, &'static str);

/// `f(all_gather x)`, where f does not make elements larger: each rank applies it to its own part only.
fn smaller_behind<'a>(graph: &'a Graph, node: &'a Node, uses: &[usize]) -> Option<Move<'a>> {
    let &[gathered] = node.operands.as_slice() else { return None };
    let (at, gather) = graph.producer(gathered).filter(|(_, node)| is_gather(node))?;
    let fits = match node.op {
        Op::Unary(_) => true,
        Op::Cast(to) => to.size() <= graph.spec(gathered).dtype.size(),
        _ => false,
    };
    (fits && uses[gathered.index()] == 1).then_some((at, gather, node, "before_gather"))
}

/// `all_gather(cast x)`, where the cast makes elements larger: behind it fewer bytes travel.
fn larger_before<'a>(graph: &'a Graph, at: NodeId, node: &'a Node, uses: &[usize]) -> Option<Move<'a>> {
    let &operand = node.operands.first().filter(|_| is_gather(node))?;
    let (_, cast) = graph.producer(operand)?;
    let Op::Cast(to) = cast.op else { return None };
    let grows = to.size() > graph.spec(cast.operands[0]).dtype.size();
    (grows && uses[operand.index()] == 1).then_some((at, node, cast, "behind_gather"))
}

fn is_gather(node: &Node) -> bool {
    matches!(&node.op, Op::Collective(Collective { op, .. }) if op.kind == CollectiveKind::AllGather)
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
