//! Graphs inside operations, built in place: what is appended to a graph after a mark is cut out of it.

use std::collections::HashMap;
use std::sync::Arc;

use mslite_tensor::{DType, Shape, Tensor, TensorSpec};

use super::graph::{Def, Graph, GraphBuilder, Node, Value, ValueId};
use super::op::Op;
use crate::{Error, Result};

/// How far a graph has been built.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    nodes: usize,
    values: usize,
    inputs: usize,
}

impl Mark {
    /// Whether a value was there already.
    pub(crate) fn is_behind(&self, value: ValueId) -> bool {
        value.index() < self.values
    }
}

impl GraphBuilder {
    /// How far it has come.
    pub(crate) fn mark(&self) -> Mark {
        let Graph { nodes, values, inputs, .. } = self.graph();
        Mark { nodes: nodes.len(), values: values.len(), inputs: inputs.len() }
    }

    /// Forgets what was appended since a mark.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        let graph = self.graph_mut();
        graph.nodes.truncate(mark.nodes);
        graph.values.truncate(mark.values);
        graph.inputs.truncate(mark.inputs);
    }

    /// Takes out what was appended since a mark. Inputs among it stay inputs; other values that it reads are
    /// captured.
    pub(crate) fn cut(&mut self, mark: Mark, name: &str) -> Nested {
        let graph = self.graph_mut();
        let nodes = graph.nodes.split_off(mark.nodes);
        let mut nested = Nested {
            builder: GraphBuilder::new(name),
            mark,
            values: graph.values.split_off(mark.values),
            ids: HashMap::new(),
            captures: Vec::new(),
        };
        for port in graph.inputs.split_off(mark.inputs) {
            let spec = nested.values[port.value.index() - mark.values].spec.clone();
            let id = nested.builder.input(port.name, spec);
            nested.ids.insert(port.value, id);
        }
        nodes.iter().for_each(|node| nested.append(self.graph(), node));
        nested
    }
}

/// A graph that was cut out of another one.
#[derive(Debug)]
pub(crate) struct Nested {
    builder: GraphBuilder,
    mark: Mark,
    /// The values that were cut out.
    values: Vec<Value>,
    /// Its values by those of the graph around it.
    ids: HashMap<ValueId, ValueId>,
    captures: Vec<ValueId>,
}

impl Nested {
    fn append(&mut self, around: &Graph, node: &Node) {
        let operands: Vec<ValueId> = node.operands.iter().map(|&value| self.read(around, value)).collect();
        let specs = node.results.iter().map(|&value| self.cut_value(value).spec.clone()).collect();
        let results = self.builder.push_typed(node.op.clone(), &operands, specs, &node.origin);
        self.ids.extend(node.results.iter().copied().zip(results));
    }

    fn cut_value(&self, value: ValueId) -> &Value {
        &self.values[value.index() - self.mark.values]
    }

    /// Its value for one that was cut out, or for one of the graph around it, which it captures unless that is
    /// constant.
    pub(crate) fn read(&mut self, around: &Graph, value: ValueId) -> ValueId {
        if let Some(&id) = self.ids.get(&value) {
            return id;
        }
        let found = if self.mark.is_behind(value) { around.value(value) } else { self.cut_value(value) };
        let id = match &found.def {
            Def::Constant(constant) => self.builder.shared_constant(constant.clone()),
            _ => {
                let spec = found.spec.clone();
                self.captures.push(value);
                self.builder.input(format!("captured{}", self.captures.len()), spec)
            }
        };
        self.ids.insert(value, id);
        id
    }

    /// The graph as it is.
    pub(crate) fn graph(&self) -> &Graph {
        self.builder.graph()
    }

    /// Appends a node with one result; operands are its own values.
    pub(crate) fn push1(&mut self, op: Op, operands: &[ValueId], origin: &Arc<str>) -> Result<ValueId> {
        self.builder.push1(op, operands, origin)
    }

    /// One of its values in another element type.
    pub(crate) fn cast(&mut self, value: ValueId, dtype: DType, origin: &Arc<str>) -> Result<ValueId> {
        if self.graph().spec(value).dtype == dtype {
            Ok(value)
        } else {
            self.push1(Op::Cast(dtype), &[value], origin)
        }
    }

    /// Zeros.
    pub(crate) fn zeros(&mut self, spec: &TensorSpec, origin: &Arc<str>) -> Result<ValueId> {
        let Some(dims) = spec.shape.dims() else {
            return Err(Error::Unsupported {
                what: "control flow".to_owned(),
                origin: origin.to_string(),
                reason: format!(
                    "a way does not give a {spec} that another one gives, and its rank is not known"
                ),
            });
        };
        let zero = Tensor::zeros(spec.dtype, &[]).map_err(|e| Error::Verify(e.to_string()))?;
        let zero = self.constant(zero);
        if dims.is_empty() { Ok(zero) } else { self.push1(Op::Broadcast(dims.to_vec()), &[zero], origin) }
    }

    /// One of its values with zeros behind its elements, where `spec` has room for more.
    pub(crate) fn padded(&mut self, value: ValueId, spec: &TensorSpec, origin: &Arc<str>) -> Result<ValueId> {
        let mut value = value;
        for (axis, extent) in spec.shape.dims().unwrap_or_default().iter().enumerate() {
            let own = self.graph().spec(value).shape.dims().unwrap_or_default();
            if own.get(axis).is_some_and(|own| own != extent) {
                let mut dims = own.to_vec();
                dims[axis] = extent - &dims[axis];
                let zeros = self.zeros(&TensorSpec::new(spec.dtype, Shape::ranked(dims)), origin)?;
                value = self.push1(Op::Concat { axis }, &[value, zeros], origin)?;
            }
        }
        Ok(value)
    }

    /// Whether a value is one of the graph around it.
    pub(crate) fn is_around(&self, value: ValueId) -> bool {
        self.mark.is_behind(value)
    }

    /// Adds a constant.
    pub(crate) fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.builder.constant("", tensor)
    }

    /// Adds an output.
    pub(crate) fn output(&mut self, value: ValueId) {
        let name = format!("result{}", self.graph().outputs().len());
        self.builder.output(name, value);
    }

    /// The graph, and the values around it that its last inputs stand for.
    pub(crate) fn finish(self) -> (Arc<Graph>, Vec<ValueId>) {
        (Arc::new(self.builder.into_graph()), self.captures)
    }
}
