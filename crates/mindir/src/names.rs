//! The names of a model: one flat table.

use std::collections::HashMap;
use std::sync::Arc;

use crate::{
    Callee, DataType, Definition, Error, Graph, Model, Node, NodeKind, Primitive, PrimitiveKind, RawTensor,
    Result, Symbol,
};

/// Where each symbol is defined.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Names(HashMap<Symbol, Definition>);

impl Names {
    /// Defines a symbol; says what is wrong with it if that is not possible.
    pub(crate) fn define(&mut self, symbol: &Symbol, definition: Definition) -> Result<(), String> {
        if symbol.is_empty() {
            return Err("it has no name".into());
        }
        match self.0.insert(symbol.clone(), definition) {
            None => Ok(()),
            Some(_) => Err(format!("the name {symbol:?} is defined twice")),
        }
    }

    /// The symbol of this name and its definition, which must come earlier.
    pub(crate) fn resolve(&self, name: &str) -> Result<(Symbol, Definition), String> {
        match self.0.get_key_value(name) {
            Some((symbol, &definition)) => Ok((symbol.clone(), definition)),
            None => Err(format!("{name:?} is not defined, or only further down")),
        }
    }

    pub(crate) fn definition(&self, name: &str) -> Option<Definition> {
        self.0.get(name).copied()
    }
}

impl Model {
    /// Checks that the model holds together after it was changed: names are defined once and before their use,
    /// calls pass as many arguments as functions take, weights have as many bytes as their extents say. Then
    /// [`Model::definition`] and the like know of the changes.
    ///
    /// # Errors
    /// [`Error::Inconsistent`].
    pub fn check(&mut self) -> Result<()> {
        self.names = names(self)?;
        Ok(())
    }
}

/// The names of a model, which is checked.
pub(crate) fn names(model: &Model) -> Result<Names> {
    let mut checker = Checker { model, names: Names::default() };
    for (i, primitive) in model.primitives.iter().enumerate() {
        checker.define(&primitive.symbol, Definition::Primitive(i))?;
    }
    for (number, graph) in model.graphs().enumerate() {
        checker.define(&graph.name, Definition::Graph(number))?;
    }
    for (number, graph) in model.graphs().enumerate() {
        checker.graph(number, graph)?;
    }
    Ok(checker.names)
}

struct Checker<'a> {
    model: &'a Model,
    names: Names,
}

impl Checker<'_> {
    fn graph(&mut self, number: usize, graph: &Graph) -> Result<()> {
        for (index, input) in graph.inputs.iter().enumerate() {
            self.define(&input.symbol, Definition::Input { graph: number, index })?;
        }
        for (index, parameter) in graph.parameters.iter().enumerate() {
            self.define(&parameter.symbol, Definition::Parameter { graph: number, index })?;
            check_size(&parameter.symbol, &parameter.data)?;
        }
        for (index, map) in graph.map_parameters.iter().enumerate() {
            self.define(&map.symbol, Definition::MapParameter { graph: number, index })?;
            [&map.keys, &map.values, &map.status].into_iter().try_for_each(|t| check_size(&map.symbol, t))?;
        }
        for (index, node) in graph.nodes.iter().enumerate() {
            self.node(node)?;
            self.define(&node.symbol, Definition::Node { graph: number, index })?;
        }
        if graph.outputs.is_empty() {
            return Err(inconsistent(&graph.name, "the graph has no output"));
        }
        graph.outputs.iter().try_for_each(|output| self.resolve(&graph.name, &output.symbol).map(drop))
    }

    fn node(&self, node: &Node) -> Result<()> {
        for input in &node.inputs {
            self.resolve(&node.symbol, input)?;
        }
        match &node.kind {
            NodeKind::Constant(_) => Ok(()),
            NodeKind::Call(Callee::Primitive(primitive)) => self.primitive(node, primitive),
            NodeKind::Call(Callee::Graph(callee)) => self.call(node, callee),
            NodeKind::Call(Callee::Closure(callee)) => self.resolve(&node.symbol, callee).map(drop),
        }
    }

    fn primitive(&self, node: &Node, primitive: &Arc<Primitive>) -> Result<()> {
        match in_table(self.model, &self.names, primitive) {
            Some(found) if Arc::ptr_eq(found, primitive) || found == primitive => Ok(()),
            Some(_) => {
                let reason = format!("its primitive {} is another one in the table", primitive.symbol);
                Err(inconsistent(&node.symbol, reason))
            }
            None if primitive.symbol == primitive.op_type && primitive.kind == PrimitiveKind::Attribute => {
                Ok(())
            }
            None => {
                let reason = format!("its primitive {} is not in the table", primitive.symbol);
                Err(inconsistent(&node.symbol, reason))
            }
        }
    }

    fn call(&self, node: &Node, callee: &Symbol) -> Result<()> {
        let graph = match self.resolve(&node.symbol, callee)? {
            Definition::Graph(number) => self.model.graph_at(number),
            _ => None,
        };
        let Some(graph) = graph else {
            return Err(inconsistent(&node.symbol, format!("{callee} is no graph")));
        };
        match (node.inputs.len(), graph.inputs.len()) {
            (given, taken) if given == taken => Ok(()),
            (given, taken) => {
                let reason = format!("the call passes {given} arguments, but {callee} takes {taken}");
                Err(inconsistent(&node.symbol, reason))
            }
        }
    }

    fn define(&mut self, symbol: &Symbol, definition: Definition) -> Result<()> {
        self.names.define(symbol, definition).map_err(|reason| inconsistent(symbol, reason))
    }

    fn resolve(&self, at: &Symbol, name: &str) -> Result<Definition> {
        Ok(self.names.resolve(name).map_err(|reason| inconsistent(at, reason))?.1)
    }
}

/// The entry of the primitive table that has this primitive's symbol.
pub(crate) fn in_table<'a>(
    model: &'a Model,
    names: &Names,
    primitive: &Primitive,
) -> Option<&'a Arc<Primitive>> {
    match names.definition(&primitive.symbol)? {
        Definition::Primitive(index) => model.primitives.get(index),
        _ => None,
    }
}

fn check_size(symbol: &Symbol, tensor: &RawTensor) -> Result<()> {
    let RawTensor { dtype, dims, data } = tensor;
    if *dtype == DataType::Undefined {
        return Err(inconsistent(symbol, "it has no element type"));
    }
    let Some(element) = dtype.dtype() else {
        return Ok(());
    };
    let size = mslite_tensor::num_elements(dims).and_then(|elements| elements.checked_mul(element.size()));
    if size == Some(data.len()) {
        return Ok(());
    }
    Err(inconsistent(symbol, format!("{dtype}{dims:?} does not fit its {} bytes", data.len())))
}

fn inconsistent(at: &Symbol, reason: impl Into<String>) -> Error {
    Error::Inconsistent { at: at.to_string(), reason: reason.into() }
}
