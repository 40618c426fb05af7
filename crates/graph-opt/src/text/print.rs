use std::fmt;

use mslite_tensor::Tensor;

use super::data::Data;
use super::ops;
use super::scan::quote;
use crate::Graph;
use crate::ir::{Def, Node, Value, ValueId};

impl fmt::Display for Graph {
    /// The text form, in full.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printer { graph: self, brief: false, depth: 0 }.graph(f)
    }
}

impl Graph {
    /// The text form for people: without data that is too long to be read. It cannot be parsed.
    pub fn summary(&self) -> Summary<'_> {
        Summary(self)
    }
}

/// The text form for people, see [`Graph::summary`].
#[derive(Debug, Clone, Copy)]
pub struct Summary<'a>(&'a Graph);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printer { graph: self.0, brief: true, depth: 0 }.graph(f)
    }
}

struct Printer<'a> {
    graph: &'a Graph,
    brief: bool,
    /// How many graphs are around it.
    depth: usize,
}

impl Printer<'_> {
    fn graph(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let margin = self.margin(0);
        writeln!(f, "{margin}graph {} {{", quote(self.graph.name()))?;
        let mut nodes = self.graph.nodes();
        for (id, value) in self.graph.values() {
            let Def::Node(producer, slot) = value.def else {
                self.source(f, id, value)?;
                continue;
            };
            // Nodes without results stand between those with results.
            while slot == 0
                && let Some((at, node)) = nodes.next()
            {
                self.node(f, node)?;
                if at == producer {
                    break;
                }
            }
        }
        for (_, node) in nodes {
            self.node(f, node)?;
        }
        for port in self.graph.outputs() {
            writeln!(f, "{margin}  output {} {}", quote(&port.name), port.value)?;
        }
        for state in self.graph.states() {
            writeln!(f, "{margin}  next {} = {}", state.value, state.next)?;
        }
        writeln!(f, "{margin}}}")
    }

    fn margin(&self, further: usize) -> String {
        "  ".repeat(2 * self.depth + further)
    }

    /// A value that no node makes.
    fn source(&self, f: &mut fmt::Formatter<'_>, id: ValueId, value: &Value) -> fmt::Result {
        let (kind, name, tensor): (_, &str, Option<&Tensor>) = match &value.def {
            Def::Input(n) => ("input", &self.graph.inputs()[*n].name, None),
            Def::State(n) => {
                let state = &self.graph.states()[*n];
                ("state", &state.name, Some(&state.initial))
            }
            Def::Constant(constant) => ("constant", &constant.name, Some(&constant.tensor)),
            Def::Node(..) => return Ok(()),
        };
        write!(f, "{}{kind} {id} {} : {}", self.margin(1), quote(name), value.spec)?;
        match tensor {
            Some(tensor) => writeln!(f, " = {}", Data { tensor, brief: self.brief }),
            None => writeln!(f),
        }
    }

    fn node(&self, f: &mut fmt::Formatter<'_>, node: &Node) -> fmt::Result {
        f.write_str(&self.margin(1))?;
        if !node.results.is_empty() {
            write!(f, "{} = ", list(&node.results))?;
        }
        f.write_str(&ops::print(&node.op))?;
        if !node.operands.is_empty() {
            write!(f, " {}", list(&node.operands))?;
        }
        let types: Vec<_> = node.results.iter().map(|&value| self.graph.spec(value)).collect();
        if !types.is_empty() {
            write!(f, " : {}", list(&types))?;
        }
        if !node.origin.is_empty() {
            write!(f, " @{}", quote(&node.origin))?;
        }
        if node.op.bodies().next().is_none() {
            return writeln!(f);
        }
        writeln!(f, " {{")?;
        for body in node.op.bodies() {
            Printer { graph: body, brief: self.brief, depth: self.depth + 1 }.graph(f)?;
        }
        writeln!(f, "{}}}", self.margin(1))
    }
}

fn list(items: &[impl fmt::Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
