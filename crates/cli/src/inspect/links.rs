//! Who reads what.

use std::collections::{HashMap, HashSet};

use mslite_mindir::{Callee, Definition, Model, Node, NodeKind, Type};

/// A node by number of graph and of node.
pub(crate) type Place = (usize, usize);

/// The readers of every symbol of a model, and what operands stand for.
#[derive(Debug)]
pub(crate) struct Links<'a> {
    model: &'a Model,
    readers: HashMap<&'a str, Vec<Place>>,
    /// Tuples that only states of effects are made from.
    order_tuples: HashSet<&'a str>,
}

/// How many nodes that only order effects are seen through; more are not in models.
const MAX_CHAIN: usize = 256;

/// Operators that pass their first operand on, and only order what happens.
const PASSING: [&str; 2] = ["Depend", "Load"];

impl<'a> Links<'a> {
    pub(crate) fn of(model: &'a Model) -> Self {
        let mut readers: HashMap<&str, Vec<Place>> = HashMap::new();
        for (g, graph) in model.graphs().enumerate() {
            for (n, node) in graph.nodes.iter().enumerate() {
                for input in &node.inputs {
                    readers.entry(&**input).or_default().push((g, n));
                }
            }
        }
        let mut links = Links { model, readers, order_tuples: HashSet::new() };
        let nodes = model.graphs().flat_map(|graph| &graph.nodes);
        let tuples = nodes.filter(|node| node.op_type() == Some("MakeTuple"));
        links.order_tuples =
            tuples.map(|node| &*node.symbol).filter(|symbol| links.feeds_states(symbol)).collect();
        links
    }

    fn feeds_states(&self, symbol: &str) -> bool {
        let readers = self.readers(symbol);
        let is_state = |&reader: &Place| self.node(reader).op_type() == Some("UpdateState");
        !readers.is_empty() && readers.iter().all(is_state)
    }

    pub(crate) fn readers(&self, symbol: &str) -> &[Place] {
        self.readers.get(symbol).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn node(&self, (graph, node): Place) -> &'a Node {
        match graph.checked_sub(1) {
            None => &self.model.graph.nodes[node],
            Some(function) => &self.model.functions[function].nodes[node],
        }
    }

    /// Whether a node is there only to order effects.
    pub(crate) fn is_order(&self, node: &Node) -> bool {
        match node.op_type() {
            Some("UpdateState") => true,
            Some(op) if PASSING.contains(&op) => true,
            Some("MakeTuple") => self.order_tuples.contains(&*node.symbol),
            _ => false,
        }
    }

    /// The symbol whose value an operand has, seen through what only orders effects; `None` for a bare order.
    pub(crate) fn resolved(&self, symbol: &'a str) -> Option<&'a str> {
        let mut symbol = symbol;
        for _ in 0..MAX_CHAIN {
            match self.model.node(symbol) {
                Some(node) if node.op_type().is_some_and(|op| PASSING.contains(&op)) => {
                    symbol = node.inputs.first()?;
                }
                Some(node) if self.is_order(node) => return None,
                _ => return Some(symbol),
            }
        }
        Some(symbol)
    }

    /// The readers of a value that compute with it, seen through what only orders effects.
    pub(crate) fn real_readers(&self, symbol: &str) -> Vec<Place> {
        let (mut found, mut pending) = (Vec::new(), vec![symbol]);
        let mut budget = MAX_CHAIN;
        while let Some(symbol) = pending.pop() {
            for &place in self.readers(symbol) {
                let node = self.node(place);
                if !self.is_order(node) {
                    found.push(place);
                } else if node.op_type() != Some("UpdateState")
                    && node.inputs.first().is_some_and(|first| &**first == symbol)
                    && budget > 0
                {
                    budget -= 1;
                    pending.push(&node.symbol);
                }
            }
        }
        found
    }

    /// The type of whatever a symbol stands for.
    pub(crate) fn ty(&self, symbol: &str) -> Option<&'a Type> {
        match self.model.definition(symbol)? {
            Definition::Node { graph, index } => self.model.graph_at(graph)?.nodes.get(index)?.ty.as_ref(),
            Definition::Input { graph, index } => self.model.graph_at(graph)?.inputs.get(index)?.ty.as_ref(),
            _ => None,
        }
    }

    /// The plain name of the parameter that an operand is, if it is one.
    pub(crate) fn parameter(&self, symbol: &'a str) -> Option<&'a str> {
        let symbol = self.resolved(symbol)?;
        match self.model.definition(symbol)? {
            Definition::Parameter { graph, index } => {
                Some(&self.model.graph_at(graph)?.parameters.get(index)?.name)
            }
            Definition::MapParameter { graph, index } => {
                Some(&self.model.graph_at(graph)?.map_parameters.get(index)?.name)
            }
            _ => None,
        }
    }
}

/// What a node applies, in a word: an operator type, `call NAME` for a function, `call` for a closure.
pub(crate) fn operator(node: &Node) -> String {
    match &node.kind {
        NodeKind::Constant(_) => "constant".to_owned(),
        NodeKind::Call(Callee::Primitive(primitive)) => primitive.op_type.to_string(),
        NodeKind::Call(Callee::Graph(name)) => format!("call {name}"),
        NodeKind::Call(Callee::Closure(_)) => "call".to_owned(),
    }
}
