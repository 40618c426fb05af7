use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mslite_tensor::Tensor;

use crate::names::Names;
use crate::{Attributes, DataType, Mode, QuantParam, RawTensor, TensorLayout, Type, Value};

/// Name of a primitive, function, input, parameter or node; unique in a model.
pub type Symbol = Arc<str>;

/// A model: an entry graph, and the functions and primitives that it uses.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Model {
    /// Textual version of the format (`ir_version`), such as `1.1`; may be empty.
    pub format_version: Arc<str>,
    /// Program that wrote the file, such as `MindSpore`; may be empty.
    pub producer: Arc<str>,
    /// Version of that program, rarely written.
    pub producer_version: Arc<str>,
    /// MindSpore release that wrote the file, such as `2.10.0`; may be empty.
    pub model_version: Arc<str>,
    /// Feature level (`mind_ir_version`), 0 to [`Model::MAX_LEVEL`]; inferred when the file does not say.
    pub level: i64,
    /// The entry graph.
    pub graph: Graph,
    /// Every other graph, in file order.
    pub functions: Vec<Graph>,
    /// Primitive table, in file order; primitives of nodes that carry their own attributes are not in it.
    pub primitives: Vec<Arc<Primitive>>,
    /// Free metadata.
    pub user_info: BTreeMap<String, String>,
    /// Description of a data pipeline, not decoded: see [`Model::preprocessing`].
    pub preprocessor: Option<Bytes>,
    /// How tensors are spread over devices, in caches of the compiler.
    pub layouts: Vec<TensorLayout>,
    /// How the file was encrypted, if it was.
    pub encryption: Option<Mode>,
    /// Oddities that do not keep the model from being used.
    pub warnings: Vec<String>,
    /// Encoded fields that this type has no place for, written back as they are; so in all other types.
    pub extra: Bytes,
    pub(crate) names: Names,
}

/// A function: inputs, nodes in topological order, outputs.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Graph {
    /// Symbol by which nodes call it.
    pub name: Symbol,
    /// Formal parameters, in call order.
    pub inputs: Vec<Input>,
    /// Weights; of the entry graph only.
    pub parameters: Vec<Parameter>,
    /// Weights that are hash maps; of the entry graph only.
    pub map_parameters: Vec<MapParameter>,
    /// Nodes, operands first.
    pub nodes: Vec<Node>,
    /// Results. Files from MindSpore have one, a tuple when there are several results; more than one stand for
    /// a tuple of them.
    pub outputs: Vec<Output>,
    /// Flags of the front end.
    pub attributes: Attributes,
    /// Encoded fields that this type has no place for.
    pub extra: Bytes,
}

/// A formal parameter of a graph.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Input {
    /// Symbol.
    pub symbol: Symbol,
    /// Name for users.
    pub name: Arc<str>,
    /// Type, if the file states one.
    pub ty: Option<Type>,
    /// What the file calls the type in words, such as `Tuple`; usually empty for tensors.
    pub denotation: Arc<str>,
    /// Encoded fields that this type has no place for.
    pub extra: Bytes,
}

/// A result of a graph.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Output {
    /// Symbol of the node, constant or input that is the result.
    pub symbol: Symbol,
    /// Name for users.
    pub name: Arc<str>,
    /// Type, if the file states one.
    pub ty: Option<Type>,
    /// What the file calls the type in words, such as `Tuple`; usually empty for tensors.
    pub denotation: Arc<str>,
    /// Encoded fields that this type has no place for.
    pub extra: Bytes,
}

/// A weight.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Parameter {
    /// Symbol.
    pub symbol: Symbol,
    /// Plain name, as in the network.
    pub name: Arc<str>,
    /// Element type, extents and bytes.
    pub data: RawTensor,
    /// Name by which types refer to it, usually its plain name; files of the Lite converter have none.
    pub ref_key: Option<Symbol>,
    /// How it was quantised; empty when it was not.
    pub quantization: Vec<QuantParam>,
    /// Encoded fields that this type has no place for.
    pub extra: Bytes,
}

/// A weight that is a hash map.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MapParameter {
    /// Symbol.
    pub symbol: Symbol,
    /// Plain name.
    pub name: Arc<str>,
    /// Value of absent keys: a number, or text such as `zeros`.
    pub default: Value,
    /// Keys.
    pub keys: RawTensor,
    /// One row per key.
    pub values: RawTensor,
    /// State per key.
    pub status: RawTensor,
    /// Encoded fields that this type has no place for.
    pub extra: Bytes,
}

/// A constant, or the application of a primitive or function.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Node {
    /// Symbol.
    pub symbol: Symbol,
    /// The symbol without the graph before it and the number after it.
    pub name: Arc<str>,
    /// Operands, in order. Constants may belong to another graph: see [`Model::definition`].
    pub inputs: Vec<Symbol>,
    /// What it computes.
    pub kind: NodeKind,
    /// Scoped name such as `Default/d1-Dense/MatMul-op0`; may be empty.
    pub scope: Arc<str>,
    /// Type of the result, if the file states one.
    pub ty: Option<Type>,
    /// Flags of the front end.
    pub attributes: Attributes,
    /// Notes of the front end about what the node was made from.
    pub primal_attributes: Attributes,
    /// Encoded fields that this type has no place for.
    pub extra: Bytes,
}

/// What a node computes.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeKind {
    /// A constant.
    Constant(Value),
    /// The result of a call with the node's inputs as arguments.
    Call(Callee),
}

/// What a node calls.
#[derive(Debug, Clone, PartialEq)]
pub enum Callee {
    /// A primitive.
    Primitive(Arc<Primitive>),
    /// A graph of the model, by name.
    Graph(Symbol),
    /// The function that a node, input or parameter evaluates to.
    Closure(Symbol),
}

/// An operator with its attributes; may serve many nodes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Primitive {
    /// Symbol in the primitive table; the operator type for primitives of nodes that carry their own attributes.
    pub symbol: Symbol,
    /// Operator type, such as `MatMul`.
    pub op_type: Arc<str>,
    /// Whether operands of different element types are converted to a common one first (`S-Prim-` before the
    /// operator type in the file).
    pub promotes: bool,
    /// Where its arguments are.
    pub kind: PrimitiveKind,
    /// Attributes.
    pub attributes: Attributes,
    /// Name of the member that made it; may be empty.
    pub instance_name: Arc<str>,
    /// Encoded fields that this type has no place for.
    pub extra: Bytes,
}

/// Where a primitive has its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrimitiveKind {
    /// Options are attributes; trailing constant operands may be there, too.
    Attribute,
    /// All arguments are operands, in the order of the operator's definition.
    Function,
}

/// Where a symbol is defined. Graphs count from 0, the entry graph; function `i` is graph `i + 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Definition {
    /// Index into [`Model::primitives`].
    Primitive(usize),
    /// Number of a graph.
    Graph(usize),
    /// A formal parameter.
    Input {
        /// Graph.
        graph: usize,
        /// Index into [`Graph::inputs`].
        index: usize,
    },
    /// A weight.
    Parameter {
        /// Graph.
        graph: usize,
        /// Index into [`Graph::parameters`].
        index: usize,
    },
    /// A weight that is a hash map.
    MapParameter {
        /// Graph.
        graph: usize,
        /// Index into [`Graph::map_parameters`].
        index: usize,
    },
    /// A node.
    Node {
        /// Graph.
        graph: usize,
        /// Index into [`Graph::nodes`].
        index: usize,
    },
}

impl Model {
    /// Highest feature level that is understood.
    pub const MAX_LEVEL: i64 = 3;

    /// The entry graph and the functions.
    pub fn graphs(&self) -> impl Iterator<Item = &Graph> {
        std::iter::once(&self.graph).chain(&self.functions)
    }

    /// The graph of a number: 0 is the entry graph, `i + 1` function `i`.
    pub fn graph_at(&self, number: usize) -> Option<&Graph> {
        match number.checked_sub(1) {
            None => Some(&self.graph),
            Some(index) => self.functions.get(index),
        }
    }

    /// The graph of this name.
    pub fn graph_named(&self, name: &str) -> Option<&Graph> {
        match self.definition(name)? {
            Definition::Graph(number) => self.graph_at(number),
            _ => None,
        }
    }

    /// Where a symbol is defined. Every symbol that occurs as an operand, callee or output has a definition.
    pub fn definition(&self, symbol: &str) -> Option<Definition> {
        self.names.definition(symbol)
    }

    /// The node of this symbol, in whichever graph.
    pub fn node(&self, symbol: &str) -> Option<&Node> {
        match self.definition(symbol)? {
            Definition::Node { graph, index } => self.graph_at(graph)?.nodes.get(index),
            _ => None,
        }
    }

    /// The weight of this symbol.
    pub fn parameter(&self, symbol: &str) -> Option<&Parameter> {
        match self.definition(symbol)? {
            Definition::Parameter { graph, index } => self.graph_at(graph)?.parameters.get(index),
            _ => None,
        }
    }
}

impl Parameter {
    /// Element type.
    pub fn dtype(&self) -> DataType {
        self.data.dtype
    }

    /// Extents.
    pub fn dims(&self) -> &[usize] {
        &self.data.dims
    }

    /// The weight as a tensor over the same bytes; `None` when tensors do not have its element type.
    pub fn tensor(&self) -> Option<Tensor> {
        self.data.tensor()
    }
}

impl RawTensor {
    /// A tensor over the same bytes; `None` when tensors do not have this element type.
    pub fn tensor(&self) -> Option<Tensor> {
        Tensor::from_bytes(self.dtype.dtype()?, &self.dims, self.data.clone()).ok()
    }
}

impl Node {
    /// The constant, if it is one.
    pub fn constant(&self) -> Option<&Value> {
        match &self.kind {
            NodeKind::Constant(value) => Some(value),
            NodeKind::Call(_) => None,
        }
    }

    /// The primitive, if it applies one.
    pub fn primitive(&self) -> Option<&Arc<Primitive>> {
        match &self.kind {
            NodeKind::Call(Callee::Primitive(primitive)) => Some(primitive),
            _ => None,
        }
    }

    /// Operator type, if it applies a primitive.
    pub fn op_type(&self) -> Option<&str> {
        self.primitive().map(|primitive| &*primitive.op_type)
    }
}

impl Primitive {
    /// A primitive outside any table: its symbol is its operator type.
    pub fn new(op_type: impl Into<Arc<str>>, kind: PrimitiveKind, attributes: Attributes) -> Self {
        let op_type = op_type.into();
        Primitive {
            symbol: op_type.clone(),
            attributes: attributes.owned_by(&op_type),
            op_type,
            promotes: false,
            kind,
            instance_name: "".into(),
            extra: Bytes::new(),
        }
    }

    /// Whether it writes to memory or does input or output, so that its place in the order matters.
    pub fn has_side_effect(&self) -> bool {
        ["side_effect_mem", "side_effect_io"]
            .iter()
            .any(|name| self.attributes.value(name).and_then(Value::as_bool) == Some(true))
    }
}
