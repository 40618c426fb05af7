use std::collections::HashMap;
use std::sync::Arc;

use super::{Pass, PassContext, Patch};
use crate::ir::op::{If, Loop, Op};
use crate::ir::{Def, Node, NodeId, ValueId};
use crate::{Graph, GraphBuilder, Result};

/// Simplifies branches and loops.
///
/// A branch whose condition is constant becomes the nodes of the graph that runs. Graphs inside operations get
/// constants instead of inputs where an operand is constant, and lose inputs that they do not read and results that
/// nobody uses. Carried values of loops stay.
///
/// ```text
/// constant %1 "" : bool[] = [true]   |  %2 = exp %0
/// %2 = if %1, %0, %0 {               |
///   graph "then" {                   |
///     input %0 "x" : f32[2]          |
///     %1 = exp %0                    |
///     output "y" %1                  |
///   }                                |
///   ...                              |
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct ControlFlow;

impl Pass for ControlFlow {
    fn name(&self) -> &'static str {
        "control_flow"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        let uses = graph.use_counts();
        let mut patch = Patch::new(graph);
        for (id, node) in graph.nodes().filter(|(_, node)| node.op.bodies().next().is_some()) {
            match chosen(graph, node) {
                Some((body, operands)) => {
                    if cx.spend("known_condition", &node.origin) {
                        inline(graph, &mut patch, id, node, body, operands)?;
                    }
                }
                None => slim(graph, &mut patch, id, node, &uses, cx)?,
            }
        }
        Ok(patch.into_change())
    }
}

/// The graph that runs, and what it reads, where the condition is constant.
fn chosen<'a>(graph: &Graph, node: &'a Node) -> Option<(&'a Graph, &'a [ValueId])> {
    let Op::If(If { then, otherwise }) = &node.op else { return None };
    let holds = graph.constant(node.operands[0])?.tensor.bytes() != [0];
    let (first, second) = node.operands[1..].split_at(then.inputs().len());
    Some(if holds { (then, first) } else { (otherwise, second) })
}

fn inline(
    graph: &Graph,
    patch: &mut Patch,
    at: NodeId,
    node: &Node,
    body: &Graph,
    operands: &[ValueId],
) -> Result<()> {
    let mut ids: HashMap<ValueId, ValueId> = HashMap::new();
    for (id, value) in body.values() {
        match &value.def {
            Def::Input(n) => ids.insert(id, operands[*n]),
            Def::Constant(constant) => ids.insert(id, patch.shared_constant(constant.clone())),
            Def::State(_) | Def::Node(..) => None,
        };
    }
    for (_, inner) in body.nodes() {
        let operands: Vec<ValueId> = inner.operands.iter().map(|value| ids[value]).collect();
        let results = patch.push(graph, at, inner.op.clone(), &operands, &inner.origin)?;
        ids.extend(inner.results.iter().copied().zip(results));
    }
    for (&result, port) in node.results.iter().zip(body.outputs()) {
        patch.replace(result, ids[&port.value]);
    }
    patch.remove(at);
    Ok(())
}

/// Takes constants in and leaves out what is not needed, if anything.
fn slim(
    graph: &Graph,
    patch: &mut Patch,
    at: NodeId,
    node: &Node,
    uses: &[usize],
    cx: &mut PassContext,
) -> Result<()> {
    let used: Vec<bool> = node.results.iter().map(|value| uses[value.index()] > 0).collect();
    let (op, operands) = match &node.op {
        Op::If(If { then, otherwise }) => {
            let (first, second) = node.operands[1..].split_at(then.inputs().len());
            let then = Slim { graph, body: then, fixed: 0, kept_outputs: 0, used: &used }.run(first);
            let otherwise =
                Slim { graph, body: otherwise, fixed: 0, kept_outputs: 0, used: &used }.run(second);
            let operands = [&node.operands[..1], &then.1, &otherwise.1].concat();
            (Op::If(If { then: then.0, otherwise: otherwise.0 }), operands)
        }
        Op::Loop(Loop { body, carried }) => {
            let slim = Slim { graph, body, fixed: *carried, kept_outputs: 1 + carried, used: &used };
            let (body, operands) = slim.run(&node.operands);
            (Op::Loop(Loop { body, carried: *carried }), operands)
        }
        _ => return Ok(()),
    };
    let has_changed = operands.len() != node.operands.len() || used.contains(&false);
    if !has_changed || !cx.spend("unneeded", &node.origin) {
        return Ok(());
    }
    let results = patch.push(graph, at, op, &operands, &node.origin)?;
    let kept = node.results.iter().zip(&used).filter(|(_, used)| **used).map(|(value, _)| value);
    kept.zip(results).for_each(|(&old, new)| patch.replace(old, new));
    patch.remove(at);
    Ok(())
}

/// A graph inside an operation, to be made smaller.
struct Slim<'a> {
    /// The graph around it.
    graph: &'a Graph,
    body: &'a Arc<Graph>,
    /// Number of inputs that stay as they are.
    fixed: usize,
    /// Number of outputs that stay, before the results.
    kept_outputs: usize,
    /// Which results are used.
    used: &'a [bool],
}

impl Slim<'_> {
    /// The smaller graph, and the operands of the inputs that are left.
    fn run(&self, operands: &[ValueId]) -> (Arc<Graph>, Vec<ValueId>) {
        let reads = self.body.use_counts();
        let mut builder = GraphBuilder::new(self.body.name());
        let mut ids: HashMap<ValueId, ValueId> = HashMap::new();
        let mut kept = Vec::new();
        for (n, (port, &operand)) in self.body.inputs().iter().zip(operands).enumerate() {
            let id = match self.graph.constant(operand) {
                Some(constant) if n >= self.fixed => builder.shared_constant(constant.clone()),
                _ if n >= self.fixed && reads[port.value.index()] == 0 => continue,
                _ => {
                    kept.push(operand);
                    builder.input(port.name.clone(), self.body.spec(port.value).clone())
                }
            };
            ids.insert(port.value, id);
        }
        for (id, value) in self.body.values() {
            if let Def::Constant(constant) = &value.def {
                ids.insert(id, builder.shared_constant(constant.clone()));
            }
        }
        for (_, node) in self.body.nodes() {
            let operands: Vec<ValueId> = node.operands.iter().map(|value| ids[value]).collect();
            let specs = node.results.iter().map(|&value| self.body.spec(value).clone()).collect();
            let results = builder.push_typed(node.op.clone(), &operands, specs, &node.origin);
            ids.extend(node.results.iter().copied().zip(results));
        }
        for (n, port) in self.body.outputs().iter().enumerate() {
            if n.checked_sub(self.kept_outputs).is_none_or(|result| self.used[result]) {
                builder.output(port.name.clone(), ids[&port.value]);
            }
        }
        (Arc::new(builder.into_graph()), kept)
    }
}
