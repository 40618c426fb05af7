use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Callee, Graph, Model, Node, NodeKind, Parameter, Primitive};

/// Operator types that exchange data between ranks.
const COLLECTIVES: [&str; 20] = [
    "AllGather",
    "AllGatherV",
    "AllReduce",
    "AlltoAll",
    "AlltoAllV",
    "AlltoAllVC",
    "Barrier",
    "BatchISendIRecv",
    "Broadcast",
    "CollectiveGather",
    "CollectiveScatter",
    "NeighborExchange",
    "NeighborExchangeV2",
    "Receive",
    "Reduce",
    "ReduceScatter",
    "ReduceScatterV",
    "Send",
    "_HostAllGather",
    "_HostReduceScatter",
];

/// What a model consists of, in numbers. Counts are over all graphs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Summary {
    /// Nodes of every kind.
    pub nodes: usize,
    /// Constants.
    pub constants: usize,
    /// Applications of primitives, by operator type.
    pub operators: BTreeMap<Arc<str>, usize>,
    /// Calls of graphs and closures.
    pub calls: usize,
    /// Graphs besides the entry graph.
    pub functions: usize,
    /// Weights.
    pub parameters: usize,
    /// Their bytes.
    pub parameter_bytes: u64,
}

/// An application of a collective.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Collective<'a> {
    /// Graph that holds the node.
    pub graph: &'a Graph,
    /// The node.
    pub node: &'a Node,
    /// Its primitive.
    pub primitive: &'a Arc<Primitive>,
}

impl Model {
    /// Counts nodes, operators and weights.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary { functions: self.functions.len(), ..Summary::default() };
        for graph in self.graphs() {
            summary.nodes += graph.nodes.len();
            summary.parameters += graph.parameters.len();
            let bytes = graph.parameters.iter().map(|parameter| parameter.data.data.len() as u64);
            summary.parameter_bytes += bytes.sum::<u64>();
            graph.nodes.iter().for_each(|node| summary.count(node));
        }
        summary
    }

    /// The nodes with their graphs, in file order: the entry graph's, then each function's.
    pub fn nodes(&self) -> impl Iterator<Item = (&Graph, &Node)> {
        self.graphs().flat_map(|graph| graph.nodes.iter().map(move |node| (graph, node)))
    }

    /// The weights, in file order.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.graphs().flat_map(|graph| &graph.parameters)
    }

    /// The collectives, in file order: the entry graph's, then each function's.
    pub fn collectives(&self) -> impl Iterator<Item = Collective<'_>> {
        self.nodes().filter_map(|(graph, node)| {
            let primitive = node.primitive()?;
            primitive.is_collective().then_some(Collective { graph, node, primitive })
        })
    }
}

impl Summary {
    fn count(&mut self, node: &Node) {
        match &node.kind {
            NodeKind::Constant(_) => self.constants += 1,
            NodeKind::Call(Callee::Primitive(primitive)) => {
                *self.operators.entry(primitive.op_type.clone()).or_default() += 1;
            }
            NodeKind::Call(Callee::Graph(_) | Callee::Closure(_)) => self.calls += 1,
        }
    }
}

impl Collective<'_> {
    /// The reduction (`sum`, `max`, ...), if it reduces.
    pub fn reduction(&self) -> Option<&str> {
        self.primitive.attributes.value("op").and_then(crate::Value::as_str)
    }

    /// Name of the communication group, if the primitive names one.
    pub fn group(&self) -> Option<&str> {
        self.primitive.attributes.value("group").and_then(crate::Value::as_str)
    }
}

impl Primitive {
    /// Whether it exchanges data between ranks.
    pub fn is_collective(&self) -> bool {
        COLLECTIVES.binary_search(&&*self.op_type).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_for_searching() {
        assert!(COLLECTIVES.is_sorted());
    }
}
