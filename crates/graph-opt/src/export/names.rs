use std::collections::HashMap;

use mslite_mindir::{Callee, Graph, Model, NodeKind, Symbol};

/// A name for a graph: in symbols a colon follows it.
pub(super) fn plain(name: &str) -> String {
    let name = name.replace(':', "_");
    if name.is_empty() { "graph".to_owned() } else { name }
}

/// Names the nodes of the entry graph that make outputs after these.
pub(super) fn rename(model: &mut Model, outputs: &[(Symbol, String)]) {
    let graph = &mut model.graph;
    let mut new: HashMap<Symbol, Symbol> = HashMap::new();
    for (symbol, name) in outputs {
        let is_node = symbol.starts_with(&format!("{}:CNode_", graph.name));
        if let (true, Some((_, number))) = (is_node, symbol.rsplit_once(':')) {
            new.entry(symbol.clone()).or_insert_with(|| format!("{}:{name}:{number}", graph.name).into());
        }
    }
    for node in &mut graph.nodes {
        if let Some(symbol) = new.get(&node.symbol) {
            node.name = symbol[graph.name.len() + 1..].rsplit_once(':').map_or("", |(name, _)| name).into();
        }
    }
    symbols(graph).filter_map(|symbol| Some((new.get(symbol)?.clone(), symbol))).for_each(|(new, symbol)| {
        *symbol = new;
    });
}

/// Every place where a graph has the symbol of a node.
fn symbols(graph: &mut Graph) -> impl Iterator<Item = &mut Symbol> {
    let nodes = graph.nodes.iter_mut().flat_map(|node| {
        let callee = match &mut node.kind {
            NodeKind::Call(Callee::Closure(symbol)) => Some(symbol),
            _ => None,
        };
        node.inputs.iter_mut().chain([&mut node.symbol]).chain(callee)
    });
    nodes.chain(graph.outputs.iter_mut().map(|output| &mut output.symbol))
}
