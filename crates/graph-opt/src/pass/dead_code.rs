use std::collections::HashSet;

use mslite_tensor::{Dim, Symbol};

use super::{Pass, PassContext, Patch};
use crate::ir::op::Op;
use crate::ir::{Node, NodeId};
use crate::{Graph, Result};

/// Drops nodes without effects whose results are not used, constants that nobody reads, and binds of symbols that no
/// attribute has.
///
/// Inputs, outputs and states stay, and so do collectives and opaque nodes with effects. Applying any patch does
/// this; the pass finds dead parts that were there from the beginning.
///
/// ```text
/// %1 = exp %0        |
/// %2 = neg %0        |  %1 = neg %0
/// output "y" %2      |  output "y" %1
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct DeadCode;

impl Pass for DeadCode {
    fn name(&self) -> &'static str {
        "dead_code"
    }

    fn run(&self, graph: &Graph, cx: &mut PassContext) -> Result<Option<Patch>> {
        let mut patch = Patch::new(graph);
        for (id, node) in unused_binds(graph) {
            if cx.spend("unused_bind", &node.origin) {
                patch.remove(id);
            }
        }
        if !patch.is_empty() {
            return Ok(Some(patch));
        }
        let counts = graph.use_counts();
        let node = graph.nodes().find(|(_, node)| {
            !node.op.has_effect() && node.results.iter().all(|value| counts[value.index()] == 0)
        });
        let mut constants = graph.values().filter(|(id, _)| counts[id.index()] == 0);
        let constant = constants.find_map(|(id, _)| graph.constant(id));
        let origin = node.map(|(_, node)| &node.origin).or(constant.map(|constant| &constant.name));
        Ok(origin.filter(|origin| cx.spend("unused", origin)).map(|_| Patch::new(graph)))
    }
}

fn unused_binds(graph: &Graph) -> Vec<(NodeId, &Node)> {
    let binds = graph.nodes().filter_map(|(id, node)| match &node.op {
        Op::Bind(symbols) => Some((id, node, symbols)),
        _ => None,
    });
    let mut binds: Vec<_> = binds.collect();
    if !binds.is_empty() {
        let used: HashSet<Symbol> =
            graph.nodes().flat_map(|(_, node)| node.op.extents().flat_map(Dim::symbols)).collect();
        binds.retain(|(_, _, symbols)| symbols.iter().all(|symbol| !used.contains(symbol)));
    }
    binds.into_iter().map(|(id, node, _)| (id, node)).collect()
}
