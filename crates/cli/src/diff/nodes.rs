//! Which nodes two models have, and what differs about those of both.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mslite_mindir::{Callee, Definition, Graph, Model, Node, NodeKind, Type, Value};

use super::{Change, Difference, NodeChange, Only, change};
use crate::inspect::{preview, type_text};

/// Compares graphs, scopes and nodes.
pub(super) fn compare(a: &Model, b: &Model, difference: &mut Difference) {
    let names =
        |model: &Model| model.functions.iter().map(|graph| graph.name.to_string()).collect::<Vec<_>>();
    difference.functions = match a.functions.len() == b.functions.len() {
        true => Only::default(),
        false => Only::of(names(a), names(b)),
    };
    let (a, b) = (Named::of(a), Named::of(b));
    difference.outputs = outputs(&a, &b);
    difference.scopes = Only::of(a.scopes(), b.scopes());
    let missing = |from: &Named<'_>, other: &Named<'_>| -> Vec<String> {
        from.order.iter().filter(|key| !other.nodes.contains_key(*key)).cloned().collect()
    };
    difference.nodes = Only { only_a: missing(&a, &b), only_b: missing(&b, &a) };
    for key in &a.order {
        let (Some(node), Some(other)) = (a.nodes.get(key), b.nodes.get(key)) else { continue };
        let changes = node_changes(&a, node, &b, other);
        if !changes.is_empty() {
            difference.changed_nodes.push(NodeChange { node: key.clone(), changes });
        }
    }
}

/// The nodes of a model under names that another export of the same network has, too: symbols are numbered anew
/// by each export.
struct Named<'a> {
    model: &'a Model,
    nodes: HashMap<String, &'a Node>,
    names: HashMap<&'a str, String>,
    order: Vec<String>,
}

impl<'a> Named<'a> {
    fn of(model: &'a Model) -> Self {
        let mut named = Named { model, nodes: HashMap::new(), names: HashMap::new(), order: Vec::new() };
        for (g, graph) in model.graphs().enumerate() {
            named.add(g, graph);
        }
        named
    }

    fn add(&mut self, number: usize, graph: &'a Graph) {
        let mut occurrences: HashMap<String, usize> = HashMap::new();
        for node in graph.nodes.iter().filter(|node| node.constant().is_none()) {
            let base = match &*node.scope {
                "" => self.operator(node),
                scope => self.plain_scope(node, scope),
            };
            let count = occurrences.entry(base.clone()).or_default();
            *count += 1;
            let base = if *count > 1 { format!("{base} #{count}") } else { base };
            let key = if number == 0 { base } else { format!("function {number}: {base}") };
            self.names.insert(&node.symbol, key.clone());
            self.nodes.insert(key.clone(), node);
            self.order.push(key);
        }
    }

    /// The scoped name; that of a call ends in the function's name, which is numbered anew by each export.
    fn plain_scope(&self, node: &Node, scope: &str) -> String {
        match &node.kind {
            NodeKind::Call(Callee::Graph(name)) => scope.replace(&**name, &self.graph_name(name)),
            _ => scope.to_owned(),
        }
    }

    /// What a node applies.
    fn operator(&self, node: &Node) -> String {
        match &node.kind {
            NodeKind::Constant(_) => "constant".to_owned(),
            NodeKind::Call(Callee::Primitive(primitive)) => primitive.op_type.to_string(),
            NodeKind::Call(Callee::Graph(name)) => format!("call {}", self.graph_name(name)),
            NodeKind::Call(Callee::Closure(_)) => "call".to_owned(),
        }
    }

    /// Functions go by number.
    fn graph_name(&self, name: &str) -> String {
        match self.model.definition(name) {
            Some(Definition::Graph(number)) => format!("function {number}"),
            Some(Definition::Primitive(index)) => self.model.primitives[index].op_type.to_string(),
            _ => "function".to_owned(),
        }
    }

    fn scopes(&self) -> BTreeSet<String> {
        let mut scopes = BTreeSet::new();
        for key in &self.order {
            if let Some((scope, _)) = key.rsplit_once('/') {
                scopes.insert(scope.to_owned());
            }
        }
        scopes
    }

    /// What an operand is, in words that do not depend on numbering.
    fn operand(&self, symbol: &str) -> String {
        if let Some(name) = self.names.get(symbol) {
            return name.clone();
        }
        match self.model.definition(symbol) {
            Some(Definition::Input { graph, index }) => format!("input {index} of graph {graph}"),
            Some(Definition::Parameter { graph, index }) => {
                let parameter = self.model.graph_at(graph).and_then(|graph| graph.parameters.get(index));
                format!("parameter {}", parameter.map_or("?", |parameter| &parameter.name))
            }
            Some(Definition::MapParameter { graph, index }) => {
                let parameter = self.model.graph_at(graph).and_then(|graph| graph.map_parameters.get(index));
                format!("parameter {}", parameter.map_or("?", |parameter| &parameter.name))
            }
            Some(Definition::Graph(_) | Definition::Primitive(_)) => self.graph_name(symbol),
            _ => match self.model.node(symbol).and_then(Node::constant) {
                Some(Value::Function(name)) => self.graph_name(name),
                Some(value) => format!("constant {}", preview(value)),
                None => "?".to_owned(),
            },
        }
    }

    fn constant(&self, symbol: &str) -> Option<&'a Value> {
        self.model.node(symbol).and_then(Node::constant)
    }
}

/// Outputs by what they are: their own names hold the numbers of nodes.
fn outputs(a: &Named<'_>, b: &Named<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    for (number, (graph, other)) in a.model.graphs().zip(b.model.graphs()).enumerate() {
        let prefix = if number == 0 { String::new() } else { format!("function {number}: ") };
        for i in 0..graph.outputs.len().max(other.outputs.len()) {
            let (x, y) = (graph.outputs.get(i), other.outputs.get(i));
            let what = format!("{prefix}output {i}");
            changes.extend(operand_change(&what, (a, x.map(|x| &*x.symbol)), (b, y.map(|y| &*y.symbol))));
            if let (Some(x), Some(y)) = (x, y) {
                changes.extend(type_change(&format!("type of {what}"), x.ty.as_ref(), y.ty.as_ref()));
            }
        }
    }
    changes
}

fn node_changes(a: &Named<'_>, node: &Node, b: &Named<'_>, other: &Node) -> Vec<Change> {
    let mut changes = Vec::new();
    changes.extend(change("operator", Some(a.operator(node)), Some(b.operator(other))));
    if let (Some(x), Some(y)) = (closure(node), closure(other)) {
        changes.extend(operand_change("called function", (a, Some(x)), (b, Some(y))));
    }
    changes.extend(type_change("type", node.ty.as_ref(), other.ty.as_ref()));
    attributes(node, other, &mut changes);
    operands(a, node, b, other, &mut changes);
    changes
}

/// The symbol of the function that a node calls, if it has to be evaluated.
fn closure(node: &Node) -> Option<&str> {
    match &node.kind {
        NodeKind::Call(Callee::Closure(symbol)) => Some(symbol),
        _ => None,
    }
}

fn type_change(what: &str, a: Option<&Type>, b: Option<&Type>) -> Option<Change> {
    if is_function(a) && is_function(b) {
        return None;
    }
    change(what, Some(type_text(a)), Some(type_text(b)))
}

/// Types of functions hold symbols, which are numbered anew.
fn is_function(ty: Option<&Type>) -> bool {
    matches!(ty, Some(Type::Function(_) | Type::Union(_)))
}

fn attributes(a: &Node, b: &Node, changes: &mut Vec<Change>) {
    let of = |node: &Node| -> BTreeMap<String, Value> {
        let attributes = node.primitive().map(|primitive| primitive.attributes.iter());
        attributes.into_iter().flatten().map(|(name, value)| (name.to_owned(), value.clone())).collect()
    };
    let (a, b) = (of(a), of(b));
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for name in names {
        let (x, y) = (a.get(name), b.get(name));
        if !same(x, y) {
            changes.push(Change { what: format!("attribute {name}"), a: x.map(preview), b: y.map(preview) });
        }
    }
}

fn operands(a: &Named<'_>, node: &Node, b: &Named<'_>, other: &Node, changes: &mut Vec<Change>) {
    for i in 0..node.inputs.len().max(other.inputs.len()) {
        let (x, y) = (node.inputs.get(i), other.inputs.get(i));
        changes.extend(operand_change(&format!("operand {i}"), (a, x.map(|x| &**x)), (b, y.map(|y| &**y))));
    }
}

/// A change, if symbols of two models do not stand for the same.
fn operand_change(
    what: &str,
    (a, x): (&Named<'_>, Option<&str>),
    (b, y): (&Named<'_>, Option<&str>),
) -> Option<Change> {
    let constants = (x.and_then(|x| a.constant(x)), y.and_then(|y| b.constant(y)));
    if let (Some(x), Some(y)) = constants
        && same(Some(x), Some(y))
    {
        return None;
    }
    let is_constant = constants.0.is_some() && constants.1.is_some();
    let (x, y) = (x.map(|x| a.operand(x)), y.map(|y| b.operand(y)));
    let functions = |text: &Option<String>| text.as_ref().is_some_and(|text| text.starts_with("function "));
    (x != y || is_constant && !functions(&x)).then(|| Change { what: what.to_owned(), a: x, b: y })
}

/// Whether values are equal; a NaN equals a NaN.
fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(Value::Float(x, _)), Some(Value::Float(y, _))) if x.is_nan() && y.is_nan() => true,
        (a, b) => a == b,
    }
}
