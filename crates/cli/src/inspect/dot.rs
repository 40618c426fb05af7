//! A model in Graphviz's language.

use std::collections::HashMap;
use std::fmt::Write as _;

use mslite_mindir::{Graph, Model};

use super::kind::Kind;
use super::links::Links;
use super::view::{NodeView, View};
use crate::output::size;

/// The graph: scopes are clusters, collectives stand out, and what only orders effects is left out.
pub(crate) fn dot(model: &Model, view: &View<'_>) -> String {
    let mut writer = Writer { view, text: String::new(), ids: HashMap::new(), parameters: HashMap::new() };
    writer.text += "digraph model {\n";
    writer.text += "  rankdir=TB; compound=true; fontname=\"Helvetica\"; fontsize=12;\n";
    writer.text += "  node [shape=box, style=\"rounded,filled\", fontname=\"Helvetica\", fontsize=11];\n";
    writer.text += "  edge [fontname=\"Helvetica\", fontsize=9, color=\"#666666\"];\n";
    writer.number_values();
    let nodes = writer.nodes_by_scope();
    for graph in &view.graphs {
        writer.cluster(graph.scope, &nodes, 1);
    }
    writer.edges(model);
    writer.text += "}\n";
    writer.text
}

struct Writer<'a> {
    view: &'a View<'a>,
    text: String,
    /// What is drawn, by symbol.
    ids: HashMap<&'a str, String>,
    /// Names and bytes of parameters, by symbol.
    parameters: HashMap<&'a str, (&'a str, u64)>,
}

fn is_drawn(node: &NodeView<'_>) -> bool {
    !matches!(node.kind, Kind::Order | Kind::Constant)
}

impl<'a> Writer<'a> {
    fn number_values(&mut self) {
        for (g, graph) in self.view.graphs.iter().enumerate() {
            for (i, input) in graph.inputs.iter().enumerate() {
                self.ids.insert(input.symbol, format!("i{g}_{i}"));
            }
            for (n, node) in graph.nodes.iter().enumerate().filter(|(_, node)| is_drawn(node)) {
                self.ids.insert(node.symbol, format!("n{g}_{n}"));
            }
        }
        for parameter in &self.view.parameters {
            self.parameters.insert(parameter.symbol, (parameter.name, parameter.bytes));
        }
    }

    fn nodes_by_scope(&self) -> Vec<Vec<&'a NodeView<'a>>> {
        let mut nodes = vec![Vec::new(); self.view.scopes.len()];
        for node in self.view.graphs.iter().flat_map(|graph| &graph.nodes).filter(|node| is_drawn(node)) {
            nodes[node.scope].push(node);
        }
        nodes
    }

    fn cluster(&mut self, scope: usize, nodes: &[Vec<&'a NodeView<'a>>], level: usize) {
        let view = self.view;
        let at = &view.scopes[scope];
        let pad = "  ".repeat(level);
        let mut label = at.name.clone();
        if at.parameters > 0 {
            let _ = write!(label, "\n{} parameters, {}", at.parameters, size(at.parameter_bytes));
        }
        let _ = writeln!(self.text, "{pad}subgraph cluster_{scope} {{");
        let _ = writeln!(self.text, "{pad}  label={}; style=rounded; color=\"#999999\";", quoted(&label));
        if at.parent.is_none() {
            self.ports(at.graph, &pad);
        }
        for node in &nodes[scope] {
            self.node(node, &pad);
        }
        for &child in &at.children {
            self.cluster(child, nodes, level + 1);
        }
        let _ = writeln!(self.text, "{pad}}}");
    }

    fn ports(&mut self, graph: usize, pad: &str) {
        let view = &self.view.graphs[graph];
        for (i, input) in view.inputs.iter().enumerate() {
            let label = quoted(&format!("{}\n{}", input.name, input.ty));
            let _ = writeln!(
                self.text,
                "{pad}  i{graph}_{i} [shape=oval, fillcolor=\"#dddddd\", label={label}];"
            );
        }
        for (i, output) in view.outputs.iter().enumerate() {
            let label = quoted(&format!("{}\n{}", output.name, output.ty));
            let _ = writeln!(
                self.text,
                "{pad}  o{graph}_{i} [shape=oval, fillcolor=\"#dddddd\", label={label}];"
            );
        }
    }

    fn node(&mut self, node: &NodeView<'_>, pad: &str) {
        let mut label = format!("{}\n{}", node.operator, node.ty);
        if let Some(group) = node.attributes.get("group").and_then(|group| group.as_str())
            && node.kind == Kind::Collective
        {
            let _ = write!(label, "\n{group}");
        }
        let id = &self.ids[node.symbol];
        let (label, tip) = (quoted(&label), quoted(node.name));
        let _ = writeln!(self.text, "{pad}  {id} [label={label}, tooltip={tip}, {}];", look(node.kind));
    }

    fn edges(&mut self, model: &'a Model) {
        let links = Links::of(model);
        for (g, graph) in model.graphs().enumerate() {
            for node in &graph.nodes {
                let Some(to) = self.ids.get(&*node.symbol).cloned() else { continue };
                for input in &node.inputs {
                    self.edge(&links, input, &to);
                }
            }
            self.results(&links, g, graph);
        }
    }

    fn results(&mut self, links: &Links<'a>, g: usize, graph: &'a Graph) {
        for (i, output) in graph.outputs.iter().enumerate() {
            self.edge(links, &output.symbol, &format!("o{g}_{i}"));
        }
    }

    /// An edge from a value, or a parameter beside its reader.
    fn edge(&mut self, links: &Links<'a>, symbol: &'a str, to: &str) {
        let Some(symbol) = links.resolved(symbol) else { return };
        if let Some(from) = self.ids.get(symbol) {
            let _ = writeln!(self.text, "  {from} -> {to};");
        } else if let Some(&(name, bytes)) = self.parameters.get(symbol) {
            let from = quoted(&format!("parameter {symbol}"));
            let label = quoted(&format!("{name}\n{}", size(bytes)));
            let _ = writeln!(
                self.text,
                "  {from} [shape=note, style=filled, fillcolor=\"#f5f0dc\", label={label}];"
            );
            let _ = writeln!(self.text, "  {from} -> {to} [style=dashed];");
        }
    }
}

fn look(kind: Kind) -> &'static str {
    match kind {
        Kind::Collective => "shape=octagon, style=filled, penwidth=3, fillcolor=\"#d6249f\", fontcolor=white",
        Kind::Contraction => "fillcolor=\"#9ec5fe\"",
        Kind::Reduction => "fillcolor=\"#a3e4c1\"",
        Kind::Elementwise => "fillcolor=\"#ffe08a\"",
        Kind::Movement => "fillcolor=\"#e2e3e5\"",
        Kind::State => "fillcolor=\"#ffb27a\"",
        Kind::Control => "fillcolor=\"#cdb4f6\"",
        Kind::Order | Kind::Constant | Kind::Other => "fillcolor=white",
    }
}

/// Text as a quoted string of the language; line breaks are those of labels.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            c if c.is_control() => quoted.push('\u{fffd}'),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_do_not_end_a_string() {
        assert_eq!(quoted("a\"b\\"), r#""a\"b\\""#);
        assert_eq!(quoted("a\nb\0"), "\"a\\nb\u{fffd}\"");
    }
}
