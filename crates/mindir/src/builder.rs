//! Making models from scratch.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mslite_tensor::Tensor;

use crate::names::{Names, names};
use crate::{
    Attributes, Callee, Graph, Input, Model, Node, NodeKind, Output, Parameter, Primitive, RawTensor, Result,
    Symbol, Type, Value,
};

/// The release whose conventions (operands, type numbers) built models follow.
const MODEL_VERSION: &str = "2.10.0";

/// Makes a model, which MindSpore 2.10 loads if it knows the operators and their operands are as it expects.
///
/// Symbols that the methods return are operands of later calls; nothing is checked before
/// [`ModelBuilder::finish`].
#[derive(Debug)]
pub struct ModelBuilder {
    model: Model,
    /// Number in the symbols of nodes and primitives.
    count: usize,
    scope: Arc<str>,
}

/// Adds to one graph of a model.
#[derive(Debug)]
pub struct GraphBuilder<'a> {
    model: &'a mut ModelBuilder,
    /// 0 for the entry graph.
    number: usize,
}

impl ModelBuilder {
    /// A model whose entry graph has this name.
    pub fn new(name: &str) -> Self {
        let model = Model {
            format_version: "1.1".into(),
            producer: "MindSpore".into(),
            producer_version: "".into(),
            model_version: MODEL_VERSION.into(),
            level: Model::MAX_LEVEL,
            graph: empty_graph(name),
            functions: Vec::new(),
            primitives: Vec::new(),
            user_info: BTreeMap::new(),
            preprocessor: None,
            layouts: Vec::new(),
            encryption: None,
            warnings: Vec::new(),
            extra: Bytes::new(),
            names: Names::default(),
        };
        ModelBuilder { model, count: 0, scope: "".into() }
    }

    /// The entry graph.
    pub fn entry(&mut self) -> GraphBuilder<'_> {
        GraphBuilder { model: self, number: 0 }
    }

    /// A new function. Other graphs can refer to it by its name, also before it has a body.
    pub fn function(&mut self, name: &str) -> GraphBuilder<'_> {
        self.model.functions.push(empty_graph(name));
        let number = self.model.functions.len();
        GraphBuilder { model: self, number }
    }

    /// The graph of a number: 0 is the entry graph, `i + 1` the i-th function.
    ///
    /// # Panics
    /// When there are not so many functions.
    pub fn graph(&mut self, number: usize) -> GraphBuilder<'_> {
        assert!(number <= self.model.functions.len(), "there is no graph {number}");
        GraphBuilder { model: self, number }
    }

    /// The scope of the calls that follow.
    pub fn scope(&mut self, scope: impl Into<Arc<str>>) {
        self.scope = scope.into();
    }

    /// Free metadata.
    pub fn user_info(&mut self, key: &str, value: &str) {
        self.model.user_info.insert(key.to_owned(), value.to_owned());
    }

    /// The model, checked.
    ///
    /// # Errors
    /// [`Error::Inconsistent`](crate::Error::Inconsistent): see [`Model::check`].
    pub fn finish(mut self) -> Result<Model> {
        self.model.names = names(&self.model)?;
        Ok(self.model)
    }

    fn number(&mut self) -> usize {
        self.count += 1;
        self.count
    }

    /// The entry of the table that is like `primitive`, but for its symbol.
    fn in_table(&mut self, primitive: &Primitive) -> Arc<Primitive> {
        let like = |entry: &&Arc<Primitive>| {
            let Primitive { symbol: _, op_type, promotes, kind, attributes, instance_name, extra } =
                &***entry;
            *op_type == primitive.op_type
                && (*promotes, *kind) == (primitive.promotes, primitive.kind)
                && *attributes == primitive.attributes
                && *instance_name == primitive.instance_name
                && *extra == primitive.extra
        };
        if let Some(entry) = self.model.primitives.iter().find(like) {
            return entry.clone();
        }
        let symbol = format!("{}:{}", primitive.op_type, self.number()).into();
        let entry = Arc::new(Primitive { symbol, ..primitive.clone() });
        self.model.primitives.push(entry.clone());
        entry
    }
}

impl GraphBuilder<'_> {
    /// Name, by which other graphs call it.
    pub fn name(&mut self) -> Symbol {
        self.graph().name.clone()
    }

    /// Number of the graph, 0 for the entry graph.
    pub fn number(&self) -> usize {
        self.number
    }

    /// A formal parameter.
    pub fn input(&mut self, name: &str, ty: Type) -> Symbol {
        let graph = self.graph();
        let symbol = owned(graph, name);
        let denotation = match &ty {
            Type::Tuple(_) => "Tuple",
            Type::List(_) => "List",
            Type::Monad(crate::Monad::Memory) => "UMonadType",
            Type::Monad(crate::Monad::Io) => "IOMonadType",
            _ => "",
        };
        graph.inputs.push(Input {
            symbol: symbol.clone(),
            name: name.into(),
            ty: Some(ty),
            denotation: denotation.into(),
            extra: Bytes::new(),
        });
        symbol
    }

    /// A weight. MindSpore knows those of the entry graph only.
    pub fn parameter(&mut self, name: &str, value: Tensor) -> Symbol {
        let graph = self.graph();
        let symbol = owned(graph, name);
        let (dtype, dims) = (value.dtype().into(), value.dims().to_vec());
        graph.parameters.push(Parameter {
            symbol: symbol.clone(),
            name: name.into(),
            data: RawTensor { dtype, dims, data: value.into_bytes() },
            ref_key: Some(name.into()),
            quantization: Vec::new(),
            extra: Bytes::new(),
        });
        symbol
    }

    /// A constant.
    pub fn constant(&mut self, value: impl Into<Value>) -> Symbol {
        let name = format!("ValueNode_{}", self.model.number());
        self.node(name.clone().into(), name.into(), NodeKind::Constant(value.into()), &[], None)
    }

    /// Applies a primitive, whose symbol does not matter: it takes part in the table.
    ///
    /// `ty` is the type of the result, which MindSpore does not need where it can infer it.
    pub fn apply(&mut self, primitive: &Primitive, operands: &[Symbol], ty: Option<Type>) -> Symbol {
        let primitive = self.model.in_table(primitive);
        self.call_node(Callee::Primitive(primitive), operands, ty)
    }

    /// Calls a function of the model.
    pub fn call(&mut self, function: &Symbol, arguments: &[Symbol], ty: Option<Type>) -> Symbol {
        self.call_node(Callee::Graph(function.clone()), arguments, ty)
    }

    /// Calls the function that `closure` evaluates to.
    pub fn call_closure(&mut self, closure: &Symbol, arguments: &[Symbol], ty: Option<Type>) -> Symbol {
        self.call_node(Callee::Closure(closure.clone()), arguments, ty)
    }

    /// Names the result of the graph. A graph with several results returns a tuple, the result of `MakeTuple`.
    pub fn output(&mut self, symbol: &Symbol, ty: Option<Type>) {
        let output = Output {
            symbol: symbol.clone(),
            name: symbol.split_once(':').map_or(&**symbol, |(_, name)| name).into(),
            ty,
            denotation: "".into(),
            extra: Bytes::new(),
        };
        self.graph().outputs.push(output);
    }

    fn call_node(&mut self, callee: Callee, operands: &[Symbol], ty: Option<Type>) -> Symbol {
        let number = self.model.number();
        let name = format!("CNode_{number}");
        let symbol = format!("{}:{number}", owned(self.graph(), &name)).into();
        self.node(symbol, name.into(), NodeKind::Call(callee), operands, ty)
    }

    fn node(
        &mut self,
        symbol: Symbol,
        name: Arc<str>,
        kind: NodeKind,
        operands: &[Symbol],
        ty: Option<Type>,
    ) -> Symbol {
        let scope = match kind {
            NodeKind::Constant(_) => "".into(),
            NodeKind::Call(_) => self.model.scope.clone(),
        };
        let node = Node {
            symbol: symbol.clone(),
            scope,
            name,
            inputs: operands.to_vec(),
            kind,
            ty,
            attributes: Attributes::new(symbol.clone(), []),
            primal_attributes: Attributes::new(symbol.clone(), []),
            extra: Bytes::new(),
        };
        self.graph().nodes.push(node);
        symbol
    }

    fn graph(&mut self) -> &mut Graph {
        let model = &mut self.model.model;
        match self.number.checked_sub(1) {
            None => &mut model.graph,
            Some(index) => &mut model.functions[index],
        }
    }
}

fn empty_graph(name: &str) -> Graph {
    let name: Symbol = name.into();
    Graph {
        attributes: Attributes::new(name.clone(), []),
        name,
        inputs: Vec::new(),
        parameters: Vec::new(),
        map_parameters: Vec::new(),
        nodes: Vec::new(),
        outputs: Vec::new(),
        extra: Bytes::new(),
    }
}

/// A symbol of a graph's own.
fn owned(graph: &Graph, name: &str) -> Symbol {
    format!("{}:{name}", graph.name).into()
}
