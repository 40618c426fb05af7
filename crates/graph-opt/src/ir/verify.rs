use std::collections::{HashMap, HashSet};

use mslite_tensor::{Dim, TensorSpec};

use super::graph::{Def, Graph, Node, NodeId, ValueId};
use super::op::Op;
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
/// 8. Graphs inside operations are valid themselves, have no states, and nest at most [`MAX_NESTING`] deep.
/// 9. A symbol is bound once, and attributes have it only after that.
///
/// # Errors
/// [`Error::Verify`] with the first invariant that does not hold.
pub fn verify(graph: &Graph) -> Result<()> {
    verify_nested(graph, 0)
}

/// Deepest nesting of graphs in operations of graphs.
pub const MAX_NESTING: usize = 32;

fn verify_nested(graph: &Graph, depth: usize) -> Result<()> {
    let fail = |reason: String| Err(Error::Verify(reason));
    for (id, value) in graph.values() {
        if !is_defined(graph, id) {
            return fail(format!("{id} and its definition {:?} do not name each other", value.def));
        }
    }
    let count = graph.values().len();
    if let Some(reason) = first_stray_source(graph) {
        return fail(reason);
    }
    for (id, node) in graph.nodes() {
        for body in node.op.bodies() {
            if depth == MAX_NESTING || !body.states().is_empty() {
                return fail(format!("a graph inside {id} has states, or is too deep"));
            }
            verify_nested(body, depth + 1)?;
        }
        verify_node(graph, id, node)?;
    }
    verify_bindings(graph)?;
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

/// An input or state whose value has another definition.
fn first_stray_source(graph: &Graph) -> Option<String> {
    let def = |id: ValueId| (id.index() < graph.values().len()).then(|| &graph.value(id).def);
    let mut inputs = graph.inputs().iter().enumerate();
    let input = inputs.find(|(i, port)| !matches!(def(port.value), Some(Def::Input(n)) if n == i));
    let mut states = graph.states().iter().enumerate();
    let state = states.find(|(i, state)| !matches!(def(state.value), Some(Def::State(n)) if n == i));
    input
        .map(|(_, port)| format!("{} is not defined by input {:?}", port.value, port.name))
        .or(state.map(|(_, state)| format!("{} is not defined by state {:?}", state.value, state.name)))
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
    for (slot, &result) in node.results.iter().enumerate() {
        let defined = result.index() < graph.values().len()
            && matches!(graph.value(result).def, Def::Node(node, n) if (node, n) == (id, slot));
        if !defined {
            return fail(format!("result {result} has another definition"));
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

fn verify_bindings(graph: &Graph) -> Result<()> {
    let mut bound = HashMap::new();
    for (id, node) in graph.nodes() {
        let Op::Bind(symbols) = &node.op else { continue };
        if let Some(symbol) = symbols.iter().find(|symbol| bound.insert(*symbol, id).is_some()) {
            return Err(Error::Verify(format!("{id} (bind at {}): {symbol} is bound before", node.origin)));
        }
    }
    if bound.is_empty() {
        return Ok(());
    }
    for (id, node) in graph.nodes() {
        let mut symbols = node.op.extents().flat_map(Dim::symbols);
        if let Some(symbol) = symbols.find(|symbol| bound.get(symbol).is_some_and(|at| *at >= id)) {
            let name = node.op.name();
            return Err(Error::Verify(format!(
                "{id} ({name} at {}): {symbol} is not bound yet",
                node.origin
            )));
        }
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

#[cfg(test)]
mod tests {
    use mslite_tensor::{DType, Tensor};

    use super::*;

    fn graph() -> Graph {
        let text = r#"graph "g" {
            input %0 "x" : f32[2]
            input %1 "y" : f32[2]
            state %2 "s" : f32[2] = [1, 2]
            state %3 "t" : f32[2] = [1, 2]
            constant %4 "c" : f32[2] = [3, 4]
            %5 = add %0, %4 @"a"
            %6, %7 = top_k(k=1, axis=0) %5 @"b"
            output "z" %6
            next %2 = %5
        }"#;
        text.parse().unwrap()
    }

    /// Checks that a change makes the graph invalid.
    fn refuses(change: impl FnOnce(&mut Graph), reason: &str) {
        let mut graph = graph();
        change(&mut graph);
        let error = verify(&graph).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }

    fn id(n: usize) -> ValueId {
        ValueId::new(n)
    }

    #[test]
    fn values_exist() {
        refuses(|g| g.nodes[0].operands[1] = id(99), "operand %99 is not defined before it");
        refuses(|g| g.outputs[0].value = id(99), "result %99 does not exist");
        refuses(|g| g.states[0].next = id(99), "result %99 does not exist");
        refuses(|g| g.states[0].value = id(99), "do not name each other");
        refuses(|g| g.nodes[1].results[1] = id(99), "do not name each other");
        refuses(|g| g.nodes[1].results.push(id(99)), "result %99 has another definition");
    }

    #[test]
    fn nodes_read_what_was_made_before() {
        refuses(|g| g.nodes[0].operands[0] = id(5), "n0 (add at a): operand %5 is not defined before it");
        refuses(|g| g.nodes[0].operands[0] = id(6), "operand %6 is not defined before it");
        refuses(|g| g.nodes.swap(0, 1), "do not name each other");
    }

    #[test]
    fn definitions_and_values_name_each_other() {
        refuses(|g| g.values[5].def = Def::Input(0), "do not name each other");
        refuses(|g| g.values[5].def = Def::Node(NodeId::new(9), 0), "do not name each other");
        refuses(|g| g.values[6].def = Def::Node(NodeId::new(1), 1), "do not name each other");
        refuses(|g| g.values[0].def = Def::Input(7), "do not name each other");
        let again = |g: &mut Graph| {
            let port = g.inputs[0].clone();
            g.inputs.push(crate::ir::Port { name: "again".into(), ..port });
        };
        refuses(again, "%0 is not defined by input \"again\"");
        let again = |g: &mut Graph| {
            let state = g.states[0].clone();
            g.states.push(crate::ir::State { name: "again".into(), ..state });
        };
        refuses(again, "%2 is not defined by state \"again\"");
        refuses(|g| g.nodes.push(g.nodes[0].clone()), "n2 (add at a): result %5 has another definition");
    }

    #[test]
    fn types_are_those_of_inference() {
        refuses(|g| g.values[5].spec.dtype = DType::F16, "its results are (f32[2]), not (f16[2])");
        refuses(|g| g.values[0].spec.dtype = DType::F16, "f16 and f32 differ in type");
        refuses(|g| g.values[4].spec = TensorSpec::fixed(DType::F32, &[1, 2]), "do not name each other");
    }

    #[test]
    fn states_keep_their_type() {
        refuses(|g| g.states[0].next = id(6), "state \"s\" changes its type");
        refuses(|g| g.states[1].initial = Tensor::scalar(1f32), "state \"t\" changes its type");
    }

    #[test]
    fn symbols_are_bound_once_and_before_they_are_used() {
        let text = r#"graph "g" {
            input %0 "x" : f32[8]
            input %1 "n" : i64[1]
            bind(symbols=["n"]) %1 @"count"
            %2 = slice(starts=[0], sizes=[n], steps=[1]) %0 @"cut"
            output "y" %2
        }"#;
        let graph: Graph = text.parse().unwrap();
        assert_eq!(graph.spec(graph.outputs()[0].value).to_string(), "f32[n]");
        let mut early = graph.clone();
        early.nodes.swap(0, 1);
        early.values[2].def = Def::Node(NodeId::new(0), 0);
        assert!(verify(&early).unwrap_err().to_string().contains("n0 (slice at cut): n is not bound yet"));
        let mut twice = graph;
        twice.nodes.push(twice.nodes[0].clone());
        assert!(verify(&twice).unwrap_err().to_string().contains("n2 (bind at count): n is bound before"));
    }

    #[test]
    fn names_are_unique() {
        refuses(|g| g.inputs[1].name = "x".into(), "two inputs are called \"x\"");
        refuses(|g| g.states[1].name = "s".into(), "two states are called \"s\"");
    }
}
