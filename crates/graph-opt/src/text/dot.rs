use std::fmt;

use super::ops;
use super::scan::quote;
use crate::Graph;
use crate::ir::{Def, ValueId};

/// Most characters of an operation in a picture.
const WIDTH: usize = 48;

impl Graph {
    /// The graph in Graphviz's language: nodes, inputs and states; graphs inside operations as clusters.
    pub fn dot(&self) -> Dot<'_> {
        Dot(self)
    }
}

/// A graph in Graphviz's language, see [`Graph::dot`].
#[derive(Debug, Clone, Copy)]
pub struct Dot<'a>(&'a Graph);

impl fmt::Display for Dot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "digraph {} {{", quote(self.0.name()))?;
        writeln!(f, "  node [shape=box, style=rounded, fontname=\"Helvetica\", fontsize=11];")?;
        Picture { graph: self.0, prefix: String::new() }.graph(f)?;
        writeln!(f, "}}")
    }
}

/// One graph, and what the names of its nodes begin with.
struct Picture<'a> {
    graph: &'a Graph,
    prefix: String,
}

impl Picture<'_> {
    fn graph(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for port in self.graph.inputs() {
            self.source(f, port.value, &port.name, "ellipse")?;
        }
        for state in self.graph.states() {
            self.source(f, state.value, &state.name, "cylinder")?;
        }
        for (id, node) in self.graph.nodes() {
            let name = format!("{}{id}", self.prefix);
            let text: String = ops::print(&node.op).chars().take(WIDTH).collect();
            let specs: Vec<String> =
                node.results.iter().map(|&value| self.graph.spec(value).to_string()).collect();
            let label = label(&text, &specs.join(", "));
            writeln!(f, "  {name} [label={label}, tooltip={}];", quote(&node.origin))?;
            for &operand in &node.operands {
                self.edge(f, operand, &name)?;
            }
            for (i, body) in node.op.bodies().enumerate() {
                writeln!(f, "  subgraph cluster_{name}_{i} {{\n  label={};", quote(body.name()))?;
                Picture { graph: body, prefix: format!("{name}_{i}_") }.graph(f)?;
                writeln!(f, "  }}")?;
            }
        }
        for (i, port) in self.graph.outputs().iter().enumerate() {
            let name = format!("{}out{i}", self.prefix);
            writeln!(f, "  {name} [label={}, shape=ellipse];", quote(&port.name))?;
            self.edge(f, port.value, &name)?;
        }
        Ok(())
    }

    fn source(&self, f: &mut fmt::Formatter<'_>, value: ValueId, name: &str, shape: &str) -> fmt::Result {
        let label = label(name, &self.graph.spec(value).to_string());
        writeln!(f, "  {}v{} [label={label}, shape={shape}];", self.prefix, value.index())
    }

    /// Constants are left out.
    fn edge(&self, f: &mut fmt::Formatter<'_>, from: ValueId, to: &str) -> fmt::Result {
        match self.graph.value(from).def {
            Def::Constant(_) => Ok(()),
            Def::Node(node, _) => writeln!(f, "  {}{node} -> {to};", self.prefix),
            Def::Input(_) | Def::State(_) => writeln!(f, "  {}v{} -> {to};", self.prefix, from.index()),
        }
    }
}

/// Two lines.
fn label(first: &str, second: &str) -> String {
    let (first, second) = (quote(first), quote(second));
    format!("{}\\n{}", &first[..first.len() - 1], &second[1..])
}

#[cfg(test)]
mod tests {
    use crate::Graph;

    #[test]
    fn nodes_and_edges_are_drawn() {
        let text = r#"graph "g" {
            input %x "x" : f32[2]
            constant %c "c" : f32[2] = [1.0, 2.0]
            %0 = exp %x @"first"
            %1 = add %0, %c @"second"
            output "y" %1
        }"#;
        let graph: Graph = text.parse().unwrap();
        let dot = graph.dot().to_string();
        for line in [
            "v0 [label=\"x\\nf32[2]\"",
            "n0 [label=\"exp\\nf32[2]\"",
            "v0 -> n0;",
            "n0 -> n1;",
            "n1 -> out0;",
        ] {
            assert!(dot.contains(line), "{line} is not in\n{dot}");
        }
        assert_eq!(dot.matches("->").count(), 3);
    }
}
