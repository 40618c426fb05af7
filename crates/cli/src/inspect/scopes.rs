//! The tree of scopes of a model.

use std::collections::{BTreeMap, HashMap};

use mslite_mindir::{Definition, Model, Node, Type};
use serde::Serialize;

use super::links::{Links, Place, operator};
use super::type_text;

/// Scopes are not followed deeper: what is below counts for the last level.
const MAX_DEPTH: usize = 64;

/// How many outputs of a scope are named.
const NAMED_OUTPUTS: usize = 4;

/// A scope with what is in it and below; graphs are the scopes at the top.
#[derive(Debug, Serialize)]
pub(crate) struct Scope {
    /// Number of the graph; 0 is the entry graph.
    pub(crate) graph: usize,
    /// The scope around it, by number; less than its own.
    pub(crate) parent: Option<usize>,
    /// Levels below the graph.
    pub(crate) depth: usize,
    /// Last part of the path; the name of the graph at the top.
    pub(crate) name: String,
    /// Such as `Default/blocks-CellList`; empty at the top.
    pub(crate) path: String,
    /// Nodes that are no constants.
    pub(crate) operations: usize,
    /// Collectives among them.
    pub(crate) collectives: usize,
    /// Operators among them, with their counts.
    pub(crate) operators: BTreeMap<String, usize>,
    /// Parameters that nothing outside reads.
    pub(crate) parameters: usize,
    /// Their bytes.
    pub(crate) parameter_bytes: u64,
    /// Types of what is read outside; the first few.
    pub(crate) outputs: Vec<String>,
    /// How many values are read outside.
    pub(crate) output_count: usize,
    #[serde(skip)]
    pub(crate) children: Vec<usize>,
}

/// The scopes, each after the one around it, and where nodes are.
#[derive(Debug)]
pub(crate) struct Scopes {
    pub(crate) list: Vec<Scope>,
    /// Scope of each node of each graph.
    of_node: Vec<Vec<usize>>,
    roots: Vec<usize>,
}

impl Scopes {
    pub(crate) fn of(model: &Model, links: &Links<'_>) -> Self {
        let mut builder = Builder::default();
        for (g, graph) in model.graphs().enumerate() {
            builder.graph(g, graph);
        }
        let mut scopes = Scopes { list: builder.list, of_node: builder.of_node, roots: builder.roots };
        scopes.count_nodes(model);
        scopes.find_outputs(model, links);
        scopes
    }

    /// The scope of a node.
    pub(crate) fn at(&self, (graph, node): Place) -> usize {
        self.of_node[graph][node]
    }

    /// The scope that is a graph.
    pub(crate) fn root(&self, graph: usize) -> usize {
        self.roots[graph]
    }

    /// Counts a parameter for the innermost scope that has all of its readers; answers with that scope.
    pub(crate) fn add_parameter(&mut self, readers: &[Place], bytes: u64) -> usize {
        let mut home = None;
        for &reader in readers {
            let scope = self.at(reader);
            home = match home {
                None => Some(scope),
                Some(home) => self.common(home, scope),
            };
            if home.is_none() {
                break;
            }
        }
        let home = home.unwrap_or(self.roots[0]);
        self.up(home, |scope| {
            scope.parameters += 1;
            scope.parameter_bytes += bytes;
        });
        home
    }

    fn up(&mut self, from: usize, mut visit: impl FnMut(&mut Scope)) {
        let mut at = Some(from);
        while let Some(i) = at {
            visit(&mut self.list[i]);
            at = self.list[i].parent;
        }
    }

    /// The innermost scope that contains both; none when they are in different graphs.
    fn common(&self, mut a: usize, mut b: usize) -> Option<usize> {
        while a != b {
            let deeper = if self.list[a].depth >= self.list[b].depth { &mut a } else { &mut b };
            *deeper = self.list[*deeper].parent?;
        }
        Some(a)
    }

    fn count_nodes(&mut self, model: &Model) {
        for (g, graph) in model.graphs().enumerate() {
            for (n, node) in graph.nodes.iter().enumerate().filter(|(_, node)| node.constant().is_none()) {
                let name = operator(node);
                let collective = usize::from(node.primitive().is_some_and(|p| p.is_collective()));
                self.up(self.at((g, n)), |scope| {
                    scope.operations += 1;
                    scope.collectives += collective;
                    *scope.operators.entry(name.clone()).or_default() += 1;
                });
            }
        }
    }

    fn find_outputs(&mut self, model: &Model, links: &Links<'_>) {
        for (g, graph) in model.graphs().enumerate() {
            for (n, node) in graph.nodes.iter().enumerate().filter(|(_, node)| is_value(node)) {
                let kept_below = self.kept_below(links, (g, n));
                let text = type_text(node.ty.as_ref());
                self.up(self.at((g, n)), |scope| {
                    if kept_below.is_some_and(|depth| scope.depth > depth) && scope.depth > 0 {
                        scope.add_output(&text);
                    }
                });
            }
            for output in &graph.outputs {
                self.leave(model, &output.symbol, g, output.ty.as_ref());
            }
        }
    }

    /// A result of a graph leaves all scopes around the node that computes it.
    fn leave(&mut self, model: &Model, symbol: &str, graph: usize, ty: Option<&Type>) {
        let text = type_text(ty);
        let from = match model.definition(symbol) {
            Some(Definition::Node { graph: g, index }) if g == graph => self.at((g, index)),
            _ => self.roots[graph],
        };
        self.up(from, |scope| scope.add_output(&text));
    }

    /// The depth of the outermost scope in which every reader of a node is, if there are readers.
    fn kept_below(&self, links: &Links<'_>, place: Place) -> Option<usize> {
        let scope = self.at(place);
        let readers = links.readers(&links.node(place).symbol).iter();
        let readers = readers.filter(|&&reader| links.node(reader).op_type() != Some("UpdateState"));
        readers.map(|&reader| self.common(scope, self.at(reader)).map_or(0, |s| self.list[s].depth)).min()
    }
}

fn is_value(node: &Node) -> bool {
    node.constant().is_none()
        && !matches!(node.op_type(), Some("Load" | "UpdateState"))
        && !matches!(node.ty, Some(Type::Monad(_)))
}

impl Scope {
    fn new(graph: usize, parent: Option<(usize, &Scope)>, name: &str) -> Self {
        let path = match parent {
            None => String::new(),
            Some((_, around)) if around.path.is_empty() => name.to_owned(),
            Some((_, around)) => format!("{}/{name}", around.path),
        };
        Scope {
            graph,
            parent: parent.map(|(index, _)| index),
            depth: parent.map_or(0, |(_, around)| around.depth + 1),
            name: name.to_owned(),
            path,
            operations: 0,
            collectives: 0,
            operators: BTreeMap::new(),
            parameters: 0,
            parameter_bytes: 0,
            outputs: Vec::new(),
            output_count: 0,
            children: Vec::new(),
        }
    }

    fn add_output(&mut self, ty: &str) {
        self.output_count += 1;
        if self.outputs.len() < NAMED_OUTPUTS {
            self.outputs.push(ty.to_owned());
        }
    }
}

#[derive(Default)]
struct Builder {
    list: Vec<Scope>,
    of_node: Vec<Vec<usize>>,
    roots: Vec<usize>,
    known: HashMap<(usize, String), usize>,
}

impl Builder {
    fn graph(&mut self, number: usize, graph: &mslite_mindir::Graph) {
        let root = self.list.len();
        self.list.push(Scope::new(number, None, &graph.name));
        self.roots.push(root);
        let of_node = graph.nodes.iter().map(|node| match node.constant() {
            Some(_) => root,
            None => self.scope(root, node),
        });
        let of_node = of_node.collect();
        self.of_node.push(of_node);
    }

    fn scope(&mut self, root: usize, node: &Node) -> usize {
        let Some((path, _)) = node.scope.rsplit_once('/') else { return root };
        path.split('/')
            .filter(|part| !part.is_empty())
            .take(MAX_DEPTH)
            .fold(root, |at, part| self.child(at, part))
    }

    fn child(&mut self, parent: usize, name: &str) -> usize {
        if let Some(&known) = self.known.get(&(parent, name.to_owned())) {
            return known;
        }
        let index = self.list.len();
        let around = &self.list[parent];
        let scope = Scope::new(around.graph, Some((parent, around)), name);
        self.list.push(scope);
        self.list[parent].children.push(index);
        self.known.insert((parent, name.to_owned()), index);
        index
    }
}
