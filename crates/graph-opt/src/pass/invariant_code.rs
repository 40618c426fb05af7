use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mslite_tensor::Dim;

use super::{Pass, PassContext, Patch};
use crate::ir::op::{Loop, Op};
use crate::ir::{Def, Node, NodeId, ValueId};
use crate::{Error, Graph, GraphBuilder, Result};

/// Moves what a loop computes anew in each turn, although it is the same, before the loop.
///
/// A node of the body moves when it reads only inputs that are not carried, constants, and results of nodes that
/// move. What the rest of the body reads of them becomes an input that is not carried. A body runs at least once,
/// so nothing is computed that was not. It does not fire for effects, for opaque nodes, which may be random, for
/// nodes with graphs inside, for extents that are bound in the body, and for nodes that read nothing but constants:
/// they are for constant folding.
///
/// ```text
/// %2 = loop(carried=1) %0, %1 {     |  %2 = exp %1
///   input %0 "x" : f32[2]           |  %3 = loop(carried=1) %0, %2 {
///   input %1 "w" : f32[2]           |    input %0 "x" : f32[2]
///   %2 = exp %1                     |    input %1 "" : f32[2]
///   %3 = mul %0, %2                 |    %2 = mul %0, %1
///   ...                             |    ...
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct InvariantCode;

impl Pass for InvariantCode {
    fn name(&self) -> &'static str {
        "invariant_code"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        let mut patch = Patch::new(graph);
        for (id, node) in graph.nodes() {
            let Op::Loop(turns) = &node.op else { continue };
            let moving = moving(turns);
            if moving.contains(&true) && cx.spend("loop_invariant", &node.origin) {
                hoist(graph, &mut patch, id, node, turns, &moving)?;
            }
        }
        Ok(patch.into_change())
    }
}

/// Which nodes of a body move.
fn moving(turns: &Loop) -> Vec<bool> {
    let body = &turns.body;
    let bound = body.bound_symbols();
    let mut moving = vec![false; body.nodes().len()];
    for (id, node) in body.nodes() {
        let fixed = |value: &ValueId| match &body.value(*value).def {
            Def::Input(n) => *n >= turns.carried,
            Def::Constant(_) => true,
            Def::Node(id, _) => moving[id.index()],
            Def::State(_) => false,
        };
        let is_bound = node.op.extents().flat_map(Dim::symbols).any(|symbol| bound.contains(&symbol));
        let stays =
            is_bound || node.op.has_effect() || matches!(node.op, Op::Opaque(_) | Op::If(_) | Op::Loop(_));
        let is_known = node.operands.iter().all(|&value| body.constant(value).is_some());
        moving[id.index()] = !stays && !is_known && node.operands.iter().all(fixed);
    }
    moving
}

fn hoist(
    graph: &Graph,
    patch: &mut Patch,
    at: NodeId,
    node: &Node,
    turns: &Loop,
    moving: &[bool],
) -> Result<()> {
    let body = &turns.body;
    let outside = move_out(graph, patch, at, node, body, moving)?;
    let mut operands = node.operands.to_vec();
    let mut builder = GraphBuilder::new(body.name());
    let mut ids: HashMap<ValueId, ValueId> = HashMap::new();
    for port in body.inputs() {
        ids.insert(port.value, builder.input(port.name.clone(), body.spec(port.value).clone()));
    }
    for (id, value) in body.values() {
        if let Def::Constant(constant) = &value.def {
            ids.insert(id, builder.shared_constant(constant.clone()));
        }
    }
    let stays = || body.nodes().filter(|(id, _)| !moving[id.index()]);
    let read: Vec<ValueId> = stays()
        .flat_map(|(_, node)| node.operands.iter().copied())
        .chain(body.outputs().iter().map(|port| port.value))
        .collect();
    for value in read {
        if let (Some(&operand), false) = (outside.get(&value), ids.contains_key(&value)) {
            let name = free_name(builder.graph());
            ids.insert(value, builder.input(name, body.spec(value).clone()));
            operands.push(operand);
        }
    }
    for (_, inner) in stays() {
        let read: Vec<ValueId> = inner.operands.iter().map(|value| ids[value]).collect();
        let specs = inner.results.iter().map(|&value| body.spec(value).clone()).collect();
        let results = builder.push_typed(inner.op.clone(), &read, specs, &inner.origin);
        ids.extend(inner.results.iter().copied().zip(results));
    }
    for port in body.outputs() {
        builder.output(port.name.clone(), ids[&port.value]);
    }
    let op = Op::Loop(Loop { body: Arc::new(builder.into_graph()), carried: turns.carried });
    let results = patch.push(graph, at, op, &operands, &node.origin)?;
    node.results.iter().zip(results).for_each(|(&old, new)| patch.replace(old, new));
    patch.remove(at);
    Ok(())
}

/// A name that no input has.
fn free_name(graph: &Graph) -> String {
    let names = graph.inputs().iter().map(|port| port.name.as_str());
    let names: HashSet<&str> = names.collect();
    let candidates = (0..).map(|n| format!("invariant.{n}"));
    candidates.into_iter().find(|name| !names.contains(name.as_str())).unwrap_or_default()
}

/// Adds the nodes that move before the loop; their results outside by those inside.
fn move_out(
    graph: &Graph,
    patch: &mut Patch,
    at: NodeId,
    node: &Node,
    body: &Graph,
    moving: &[bool],
) -> Result<HashMap<ValueId, ValueId>> {
    let mut outside: HashMap<ValueId, ValueId> = HashMap::new();
    for (_, inner) in body.nodes().filter(|(id, _)| moving[id.index()]) {
        let mut operands = Vec::new();
        for value in &inner.operands {
            operands.push(match (&body.value(*value).def, outside.get(value)) {
                (_, Some(&made)) => made,
                (Def::Input(n), None) => node.operands[*n],
                (Def::Constant(constant), None) => patch.shared_constant(constant.clone()),
                _ => return Err(Error::Verify(format!("{value} does not move"))),
            });
        }
        let results = patch.push(graph, at, inner.op.clone(), &operands, &inner.origin)?;
        outside.extend(inner.results.iter().copied().zip(results));
    }
    Ok(outside)
}
