use std::collections::HashSet;

use mslite_tensor::TensorSpec;

use super::graph::{Def, Graph, Node, NodeId, ValueId};
use crate::infer::infer;
use crate::{Error, Result};

/// Checks the invariants of a graph. They are the definition of the IR:
///
/// 1. Every operand, output and next state names a value of the graph.
/// 2. A node reads only inputs, states, constants and results of nodes before it.
/// 3. A value and its definition name each other: result `slot` of its node, its input, its state.
/// 4. The types of results are those that inference gives for the operation and its operands.
/// 5. A constant's type is fixed and is its tensor's type.
/// 6. A state's initial tensor, value and next value have one type.
/// 7. Names of inputs and of states are unique.
///
/// # Errors
/// [`Error::Verify`] with the first invariant that does not hold.
pub fn verify(graph: &Graph) -> Result<()> {
    let fail = |reason: String| Err(Error::Verify(reason));
    for (id, value) in graph.values() {
        if !is_defined(graph, id) {
            return fail(format!("{id} and its definition {:?} do not name each other", value.def));
        }
    }
    for (id, node) in graph.nodes() {
        verify_node(graph, id, node)?;
    }
    let count = graph.values().len();
    if let Some(value) = graph.results().find(|v| v.index() >= count) {
        return fail(format!("result {value} does not exist"));
    }
    for state in graph.states() {
        let types = [graph.spec(state.value), graph.spec(state.next)];
        if types.iter().any(|&spec| *spec != state.initial.spec()) {
            return fail(format!("state {:?} changes its type", state.name));
        }
    }
    let names = graph.inputs().iter().map(|port| port.name.as_str());
    unique("input", names)?;
    unique("state", graph.states().iter().map(|state| &*state.name))
}

fn is_defined(graph: &Graph, id: ValueId) -> bool {
    match &graph.value(id).def {
        Def::Input(n) => graph.inputs().get(*n).is_some_and(|port| port.value == id),
        Def::State(n) => graph.states().get(*n).is_some_and(|state| state.value == id),
        Def::Constant(constant) => *graph.spec(id) == constant.tensor.spec(),
        Def::Node(node, slot) => {
            node.index() < graph.nodes().len() && graph.node(*node).results.get(*slot) == Some(&id)
        }
    }
}

fn verify_node(graph: &Graph, id: NodeId, node: &Node) -> Result<()> {
    let fail = |reason: String| {
        Err(Error::Verify(format!("{id} ({} at {}): {reason}", node.op.name(), node.origin)))
    };
    for &operand in &node.operands {
        let exists = operand.index() < graph.values().len();
        let before = exists && graph.producer(operand).is_none_or(|(producer, _)| producer < id);
        if !before {
            return fail(format!("operand {operand} is not defined before it"));
        }
    }
    let operands: Vec<&TensorSpec> = node.operands.iter().map(|&v| graph.spec(v)).collect();
    let inferred = match infer(&node.op, &operands) {
        Ok(inferred) => inferred,
        Err(reason) => return fail(reason),
    };
    let results = node.results.iter().map(|&v| graph.spec(v));
    if !inferred.iter().eq(results.clone()) {
        let list =
            |specs: Vec<&TensorSpec>| specs.iter().map(|s| s.to_string()).collect::<Vec<_>>().join(", ");
        return fail(format!(
            "its results are ({}), not ({})",
            list(inferred.iter().collect()),
            list(results.collect())
        ));
    }
    Ok(())
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Error::Verify(format!("two {what}s are called {name:?}")));
        }
    }
    Ok(())
}
