//! Where functions go when they end: the calls that stand last in them.
//!
//! MindSpore writes `while` as functions that call each other last, and what follows an `if` as a function that
//! both branches call last.

use std::collections::BTreeSet;

use mslite_mindir::{Callee, Definition, Graph as Function, Model, Node, NodeKind, Value};
use petgraph::algo::dominators::simple_fast;
use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::Reversed;

/// The calls that stand last, of all functions by number.
#[derive(Debug)]
pub(in super::super) struct Tails {
    /// Index of the node that calls last.
    calls: Vec<Option<usize>>,
    /// Functions that it may call.
    callees: Vec<Vec<usize>>,
    /// The first function that all ways from this one come to.
    merges: Vec<Option<usize>>,
    /// Whether some way leads back.
    cyclic: Vec<bool>,
}

impl Tails {
    pub(in super::super) fn new(model: &Model) -> Self {
        let calls: Vec<Option<usize>> = model.graphs().map(|graph| last_call(model, graph)).collect();
        let mut callees = Vec::with_capacity(calls.len());
        let mut edges: DiGraph<(), ()> = DiGraph::new();
        let nodes: Vec<NodeIndex> = calls.iter().map(|_| edges.add_node(())).collect();
        let end = edges.add_node(());
        for (number, (graph, call)) in model.graphs().zip(&calls).enumerate() {
            let mut targets = BTreeSet::new();
            let known = call.is_none_or(|at| collect_callees(model, &graph.nodes[at], &mut targets));
            if call.is_none() || !known {
                edges.add_edge(nodes[number], end, ());
            }
            for &target in &targets {
                edges.add_edge(nodes[number], nodes[target], ());
            }
            callees.push(targets.into_iter().collect::<Vec<usize>>());
        }
        let dominators = simple_fast(Reversed(&edges), end);
        let merge = |&node: &NodeIndex| dominators.immediate_dominator(node).filter(|&merge| merge != end);
        let merges = nodes.iter().map(|node| merge(node).map(NodeIndex::index)).collect();
        let mut cyclic: Vec<bool> = callees.iter().enumerate().map(|(i, next)| next.contains(&i)).collect();
        for component in kosaraju_scc(&edges).into_iter().filter(|component| component.len() > 1) {
            component.into_iter().for_each(|node| cyclic[node.index()] = true);
        }
        Tails { calls, callees, merges, cyclic }
    }

    /// Index of the node of a function that calls last, if one does.
    pub(super) fn last_call(&self, function: usize) -> Option<usize> {
        self.calls[function]
    }

    /// The function that all ways from this one come to.
    pub(super) fn merge(&self, function: usize) -> Option<usize> {
        self.merges[function]
    }

    /// Whether a way leads from a function back to it without any of `stops`.
    pub(super) fn loops_back(&self, function: usize, stops: &[usize]) -> bool {
        if !self.cyclic[function] {
            return false;
        }
        let mut seen: BTreeSet<usize> = stops.iter().copied().collect();
        let mut open = vec![function];
        while let Some(at) = open.pop() {
            for &next in &self.callees[at] {
                if next == function {
                    return true;
                }
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        false
    }
}

/// The call whose result is the function's, if nothing of consequence follows it.
fn last_call(model: &Model, graph: &Function) -> Option<usize> {
    let [output] = &graph.outputs[..] else { return None };
    let mut symbol = &output.symbol;
    let (index, node) = loop {
        let Some(Definition::Node { index, .. }) = model.definition(symbol) else { return None };
        let node = graph.nodes.get(index).filter(|node| node.symbol == *symbol)?;
        match node.op_type() {
            Some("Depend" | "depend") => symbol = node.inputs.first()?,
            _ => break (index, node),
        }
    };
    let calls = matches!(node.kind, NodeKind::Call(Callee::Graph(_) | Callee::Closure(_)));
    let only_orders = |node: &Node| {
        node.constant().is_some()
            || matches!(node.op_type(), Some("Depend" | "depend" | "UpdateState" | "MakeTuple"))
    };
    (calls && graph.nodes[index + 1..].iter().all(only_orders)).then_some(index)
}

/// Adds the functions that a call may call; whether these are all.
fn collect_callees(model: &Model, node: &Node, targets: &mut BTreeSet<usize>) -> bool {
    let NodeKind::Call(Callee::Graph(name) | Callee::Closure(name)) = &node.kind else { return false };
    let mut open: Vec<&str> = vec![name];
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut known = true;
    while let Some(name) = open.pop() {
        if seen.insert(name) {
            known &= step(model, name, targets, &mut open);
        }
    }
    known
}

/// Adds the function that a name stands for, or the names that it may stand for; whether these are all.
fn step<'m>(model: &'m Model, name: &'m str, targets: &mut BTreeSet<usize>, open: &mut Vec<&'m str>) -> bool {
    if let Some(Definition::Graph(number)) = model.definition(name) {
        targets.insert(number);
        return true;
    }
    let Some(node) = model.node(name) else { return false };
    match (node.constant(), node.op_type(), &node.inputs[..]) {
        (Some(Value::Function(function)), ..) => open.push(function),
        (None, Some("Partial"), [function, ..]) => open.push(function),
        (None, Some("Switch" | "switch"), [_, then, otherwise]) => {
            open.extend([&**then, &**otherwise]);
        }
        _ => return false,
    }
    true
}
