use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use mslite_tensor::{Symbol, Tensor, TensorSpec};
use smallvec::SmallVec;

use super::op::Op;
use super::verify::verify;
use crate::infer::infer_node;
use crate::{Error, Result};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal;)*) => {
        $($(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u32);

        impl $name {
            /// From its position.
            pub fn new(index: usize) -> Self {
                $name(u32::try_from(index).expect("a graph has fewer than 2^32 of them"))
            }

            /// Its position.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        })*
    };
}

ids! {
    /// A node of a graph: its position in execution order.
    NodeId "n";
    /// A value of a graph.
    ValueId "%";
}

/// A computation in single-assignment form.
///
/// Nodes stand in execution order. Nodes with effects (collectives) run in exactly that order; the others depend
/// only on their operands. State that a model keeps between runs is explicit: a [`State`] is read as a value and
/// its next value is another one, so that nothing is ever written twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    pub(super) name: String,
    pub(super) nodes: Vec<Node>,
    pub(super) values: Vec<Value>,
    pub(super) inputs: Vec<Port>,
    pub(super) states: Vec<State>,
    pub(super) outputs: Vec<Port>,
}

/// An operation applied to values.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// What it reads.
    pub operands: SmallVec<[ValueId; 3]>,
    /// What it defines.
    pub results: SmallVec<[ValueId; 1]>,
    /// Where it came from: the MindIR scope, such as `Default/d1-Dense/MatMul-op0`.
    pub origin: Arc<str>,
}

/// Something a node can read.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Type and shape.
    pub spec: TensorSpec,
    /// Where it comes from.
    pub def: Def,
}

/// Definition of a value.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Def {
    /// The n-th input.
    Input(usize),
    /// What the n-th state holds when the run begins.
    State(usize),
    /// Known already; the bytes are shared, usually a window of the model's file.
    Constant(Arc<Constant>),
    /// The n-th result of a node.
    Node(NodeId, usize),
}

/// A value known before the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// Name of the parameter, or empty.
    pub name: Arc<str>,
    /// Its value.
    pub tensor: Tensor,
}

/// A named input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name as users see it.
    pub name: String,
    /// The value.
    pub value: ValueId,
}

/// A tensor that lives between runs.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Name of the parameter.
    pub name: Arc<str>,
    /// What it holds before the first run.
    pub initial: Tensor,
    /// What it holds when a run begins.
    pub value: ValueId,
    /// What it holds when a run has ended.
    pub next: ValueId,
}

impl Graph {
    /// Name of the graph.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The nodes in execution order.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeId, &Node)> + DoubleEndedIterator {
        self.nodes.iter().enumerate().map(|(i, node)| (NodeId::new(i), node))
    }

    /// All nodes, those of graphs inside operations included, each behind the node whose operation it is in, with
    /// the graph that has it.
    pub fn nodes_within(&self) -> Box<dyn Iterator<Item = (&Graph, &Node)> + '_> {
        Box::new(self.nodes.iter().flat_map(move |node| {
            let within = node.op.bodies().flat_map(|body| body.nodes_within());
            std::iter::once((self, node)).chain(within)
        }))
    }

    /// The values, those of inputs, states and constants included.
    pub fn values(&self) -> impl ExactSizeIterator<Item = (ValueId, &Value)> + DoubleEndedIterator {
        self.values.iter().enumerate().map(|(i, value)| (ValueId::new(i), value))
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// One value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// Type and shape of a value.
    pub fn spec(&self, id: ValueId) -> &TensorSpec {
        &self.values[id.index()].spec
    }

    /// The node that defines a value, if one does.
    pub fn producer(&self, id: ValueId) -> Option<(NodeId, &Node)> {
        match self.value(id).def {
            Def::Node(node, _) => Some((node, self.node(node))),
            _ => None,
        }
    }

    /// The constant that a value is, if it is one.
    pub fn constant(&self, id: ValueId) -> Option<&Arc<Constant>> {
        match &self.value(id).def {
            Def::Constant(constant) => Some(constant),
            _ => None,
        }
    }

    /// Inputs in the order of the model.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// Outputs in the order of the model.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// State kept between runs.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// Values that must exist when a run has ended: outputs, and what states hold next.
    pub fn results(&self) -> impl Iterator<Item = ValueId> {
        self.outputs.iter().map(|port| port.value).chain(self.states.iter().map(|state| state.next))
    }

    /// Changes the graphs inside operations, which must keep their types; the first error ends it.
    pub(crate) fn try_change_bodies<E>(
        &mut self,
        mut change: impl FnMut(&Arc<Graph>) -> Result<Arc<Graph>, E>,
    ) -> Result<(), E> {
        for node in self.nodes.iter_mut().filter(|node| node.op.bodies().next().is_some()) {
            node.op = node.op.try_map_bodies(&mut change)?;
        }
        Ok(())
    }

    /// The types of the results that an operation would have here.
    ///
    /// # Errors
    /// [`Error::Infer`] when the operands do not fit the operation.
    pub fn result_specs(&self, op: &Op, operands: &[ValueId], origin: &str) -> Result<Vec<TensorSpec>> {
        let specs: SmallVec<[&TensorSpec; 3]> = operands.iter().map(|&v| self.spec(v)).collect();
        infer_node(op, &specs, origin)
    }

    /// Symbols that its nodes give values, those of graphs inside operations aside.
    pub fn bound_symbols(&self) -> HashSet<&Symbol> {
        let symbols = self.nodes.iter().filter_map(|node| match &node.op {
            Op::Bind(symbols) => Some(symbols),
            _ => None,
        });
        symbols.flatten().collect()
    }

    /// How often each value is read by nodes, outputs and states, indexed by value.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.values.len()];
        let operands = self.nodes.iter().flat_map(|node| node.operands.iter().copied());
        for value in operands.chain(self.results()) {
            counts[value.index()] += 1;
        }
        counts
    }
}

/// Builds a [`Graph`] from the front: what a node reads must exist before it.
#[derive(Debug)]
pub struct GraphBuilder {
    graph: Graph,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        GraphBuilder {
            graph: Graph {
                name: name.into(),
                nodes: Vec::new(),
                values: Vec::new(),
                inputs: Vec::new(),
                states: Vec::new(),
                outputs: Vec::new(),
            },
        }
    }

    /// What has been built so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    pub(super) fn graph_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }

    /// Adds an input.
    pub fn input(&mut self, name: impl Into<String>, spec: TensorSpec) -> ValueId {
        let value = self.value(spec, Def::Input(self.graph.inputs.len()));
        self.graph.inputs.push(Port { name: name.into(), value });
        value
    }

    /// Adds a state; until [`GraphBuilder::set_next`] says otherwise it keeps what it holds.
    pub fn state(&mut self, name: impl Into<Arc<str>>, initial: Tensor) -> ValueId {
        let value = self.value(initial.spec(), Def::State(self.graph.states.len()));
        let initial = initial.into_shared();
        self.graph.states.push(State { name: name.into(), initial, value, next: value });
        value
    }

    /// Says what the n-th state holds after the run.
    ///
    /// # Errors
    /// [`Error::Verify`] when the type differs from the state's.
    pub fn set_next(&mut self, state: usize, next: ValueId) -> Result<()> {
        let (expected, actual) = (self.spec(self.graph.states[state].value), self.spec(next));
        if expected != actual {
            let name = &self.graph.states[state].name;
            return Err(Error::Verify(format!(
                "state {name:?} is {expected}, its next value {next} is {actual}"
            )));
        }
        self.graph.states[state].next = next;
        Ok(())
    }

    /// Adds a constant; the name may be empty.
    pub fn constant(&mut self, name: impl Into<Arc<str>>, tensor: Tensor) -> ValueId {
        self.shared_constant(Arc::new(Constant { name: name.into(), tensor: tensor.into_shared() }))
    }

    /// Adds a constant that another graph has, too.
    pub fn shared_constant(&mut self, constant: Arc<Constant>) -> ValueId {
        self.value(constant.tensor.spec(), Def::Constant(constant))
    }

    /// Appends a node; the types of its results follow from the operation and its operands.
    ///
    /// # Errors
    /// [`Error::Infer`] when the operands do not fit the operation.
    pub fn push(
        &mut self,
        op: Op,
        operands: &[ValueId],
        origin: &Arc<str>,
    ) -> Result<SmallVec<[ValueId; 1]>> {
        let results = self.graph.result_specs(&op, operands, origin)?;
        Ok(self.push_typed(op, operands, results, origin))
    }

    /// Appends a node that has exactly one result.
    ///
    /// # Errors
    /// As [`GraphBuilder::push`].
    ///
    /// # Panics
    /// When the operation has another number of results.
    pub fn push1(&mut self, op: Op, operands: &[ValueId], origin: &Arc<str>) -> Result<ValueId> {
        let results = self.push(op, operands, origin)?;
        assert_eq!(results.len(), 1, "the operation has one result");
        Ok(results[0])
    }

    /// Appends a node whose result types are known.
    pub(crate) fn push_typed(
        &mut self,
        op: Op,
        operands: &[ValueId],
        specs: Vec<TensorSpec>,
        origin: &Arc<str>,
    ) -> SmallVec<[ValueId; 1]> {
        let id = NodeId::new(self.graph.nodes.len());
        let results: SmallVec<[ValueId; 1]> =
            specs.into_iter().enumerate().map(|(slot, spec)| self.value(spec, Def::Node(id, slot))).collect();
        self.graph.nodes.push(Node {
            op,
            operands: operands.iter().copied().collect(),
            results: results.clone(),
            origin: origin.clone(),
        });
        results
    }

    /// Adds an output.
    pub fn output(&mut self, name: impl Into<String>, value: ValueId) {
        self.graph.outputs.push(Port { name: name.into(), value });
    }

    /// Type and shape of a value.
    pub fn spec(&self, value: ValueId) -> &TensorSpec {
        self.graph.spec(value)
    }

    /// The finished graph.
    ///
    /// # Errors
    /// [`Error::Verify`] when an invariant does not hold.
    pub fn finish(self) -> Result<Graph> {
        verify(&self.graph)?;
        Ok(self.graph)
    }

    /// The graph, unchecked: for whoever keeps the invariants by construction.
    pub(crate) fn into_graph(self) -> Graph {
        self.graph
    }

    fn value(&mut self, spec: TensorSpec, def: Def) -> ValueId {
        self.graph.values.push(Value { spec, def });
        ValueId::new(self.graph.values.len() - 1)
    }
}
