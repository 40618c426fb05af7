use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mslite_tensor::{Tensor, TensorSpec};
use smallvec::SmallVec;

use crate::infer::infer_node;
use crate::ir::op::Op;
use crate::ir::{Constant, Def, Node, NodeId, ValueId};
use crate::{Error, Graph, GraphBuilder, Result};

/// A change to a graph: new nodes among the old ones, and values that take the place of others.
///
/// New values have ids behind those of the graph, so that operands of new nodes may be old and new values alike.
/// Applying a patch also drops what nobody needs any more: nodes without effects whose results are not used, and
/// constants that are not read.
#[derive(Debug, Clone)]
pub struct Patch {
    /// Number of values and nodes of the graph that it changes.
    base: (usize, usize),
    specs: Vec<TensorSpec>,
    constants: Vec<(ValueId, Arc<Constant>)>,
    nodes: Vec<(NodeId, Node)>,
    /// The old nodes in another order.
    order: Option<Vec<NodeId>>,
    replacements: BTreeMap<ValueId, ValueId>,
    removed: BTreeSet<NodeId>,
}

/// A state of a patch to return to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark(usize, usize, usize);

impl Patch {
    /// A patch that changes nothing yet.
    pub fn new(graph: &Graph) -> Self {
        Patch {
            base: (graph.values().len(), graph.nodes().len()),
            specs: Vec::new(),
            constants: Vec::new(),
            nodes: Vec::new(),
            order: None,
            replacements: BTreeMap::new(),
            removed: BTreeSet::new(),
        }
    }

    /// A patch that lets the nodes of a graph, by their positions, run in another order.
    pub fn reorder(graph: &Graph, order: impl IntoIterator<Item = usize>) -> Self {
        Patch { order: Some(order.into_iter().map(NodeId::new).collect()), ..Patch::new(graph) }
    }

    /// Whether nothing is replaced, removed or moved; dead parts are dropped all the same.
    pub fn is_empty(&self) -> bool {
        self.replacements.is_empty() && self.removed.is_empty() && self.order.is_none()
    }

    /// The patch, unless it is empty.
    pub fn into_change(self) -> Option<Self> {
        (!self.is_empty()).then_some(self)
    }

    /// Adds a constant; the name may be empty.
    pub fn constant(&mut self, name: impl Into<Arc<str>>, tensor: Tensor) -> ValueId {
        self.shared_constant(Arc::new(Constant { name: name.into(), tensor: tensor.into_shared() }))
    }

    /// Adds a constant that another graph has, too.
    pub(super) fn shared_constant(&mut self, constant: Arc<Constant>) -> ValueId {
        let value = self.value(constant.tensor.spec());
        self.constants.push((value, constant));
        value
    }

    /// Adds a node that runs before an old one, behind those added before the same one earlier. `before` may be
    /// one past the last node. Operands are values of the graph or of the patch.
    ///
    /// # Errors
    /// [`Error::Infer`] when the operands do not fit the operation.
    pub fn push(
        &mut self,
        graph: &Graph,
        before: NodeId,
        op: Op,
        operands: &[ValueId],
        origin: &Arc<str>,
    ) -> Result<SmallVec<[ValueId; 1]>> {
        let results = {
            let specs: SmallVec<[&TensorSpec; 3]> = operands.iter().map(|&v| self.spec(graph, v)).collect();
            infer_node(&op, &specs, origin)?
        };
        let results: SmallVec<[ValueId; 1]> = results.into_iter().map(|spec| self.value(spec)).collect();
        let operands = operands.iter().copied().collect();
        let node = Node { op, operands, results: results.clone(), origin: origin.clone() };
        self.nodes.push((before, node));
        Ok(results)
    }

    /// Lets a value of the patch or the graph take the place of one of the graph, wherever that is read.
    pub fn replace(&mut self, old: ValueId, new: ValueId) {
        self.replacements.insert(old, new);
    }

    /// Drops a node whose results have been replaced, although it may have effects: new nodes have them.
    pub fn remove(&mut self, node: NodeId) {
        self.removed.insert(node);
    }

    /// What is read in place of a value of the graph, as far as this patch says.
    pub fn resolve(&self, mut value: ValueId) -> ValueId {
        // A cycle ends after as many steps as there are replacements, and is found when the patch is applied.
        for _ in 0..=self.replacements.len() {
            match self.replacements.get(&value) {
                Some(&next) => value = next,
                None => break,
            }
        }
        value
    }

    /// Type and shape of a value of the graph or the patch.
    pub fn spec<'a>(&'a self, graph: &'a Graph, value: ValueId) -> &'a TensorSpec {
        match value.index().checked_sub(self.base.0) {
            Some(new) => &self.specs[new],
            None => graph.spec(value),
        }
    }

    /// The changed graph. Old and new nodes keep their order, unless the patch is about that; constants share their
    /// bytes.
    ///
    /// # Errors
    /// [`Error::Verify`] when the graph is not the one that the patch was made for, a replacement has another
    /// type than what it replaces, an order lacks nodes, or a node would read what is made after it.
    pub fn apply(self, graph: &Graph) -> Result<Graph> {
        self.check(graph)?;
        let schedule = self.schedule(graph);
        let live = self.live(graph, &schedule);
        let mut builder = GraphBuilder::new(graph.name());
        let mut ids = self.sources(graph, &live, &mut builder);
        for node in schedule.iter().filter(|node| is_needed(node, &live)) {
            self.copy(graph, node, &mut builder, &mut ids)?;
        }
        for (i, state) in graph.states().iter().enumerate() {
            builder.set_next(i, self.lookup(&ids, state.next)?)?;
        }
        for port in graph.outputs() {
            builder.output(port.name.clone(), self.lookup(&ids, port.value)?);
        }
        Ok(builder.into_graph())
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.specs.len(), self.constants.len(), self.nodes.len())
    }

    /// Forgets the values and nodes added since a mark.
    pub(super) fn rewind(&mut self, Mark(specs, constants, nodes): Mark) {
        self.specs.truncate(specs);
        self.constants.truncate(constants);
        self.nodes.truncate(nodes);
    }

    fn value(&mut self, spec: TensorSpec) -> ValueId {
        self.specs.push(spec);
        ValueId::new(self.base.0 + self.specs.len() - 1)
    }

    fn check(&self, graph: &Graph) -> Result<()> {
        let fail = |reason: String| Err(Error::Verify(reason));
        if self.base != (graph.values().len(), graph.nodes().len()) {
            return fail("the patch was made for another graph".to_owned());
        }
        if let Some(order) = &self.order {
            let nodes: BTreeSet<NodeId> = order.iter().copied().collect();
            let all = nodes.len() == order.len() && nodes.iter().copied().eq(graph.nodes().map(|(id, _)| id));
            if !all || !self.nodes.is_empty() {
                return fail("the patch's order is not one of all nodes".to_owned());
            }
        }
        let count = self.base.0 + self.specs.len();
        for (&old, &new) in &self.replacements {
            if old.index() >= self.base.0 || new.index() >= count {
                return fail(format!("the patch replaces {old} by {new}, one of which does not exist"));
            }
            let (old_spec, new_spec) = (graph.spec(old), self.spec(graph, new));
            if old_spec != new_spec {
                return fail(format!("the patch replaces {old}, which is {old_spec}, by a {new_spec}"));
            }
        }
        Ok(())
    }

    /// Old and new nodes in their order.
    fn schedule<'a>(&'a self, graph: &'a Graph) -> Vec<&'a Node> {
        if let Some(order) = &self.order {
            return order.iter().filter(|id| !self.removed.contains(id)).map(|&id| graph.node(id)).collect();
        }
        let mut new: Vec<&(NodeId, Node)> = self.nodes.iter().collect();
        new.sort_by_key(|(before, _)| *before);
        let mut new = new.into_iter().peekable();
        let mut schedule = Vec::with_capacity(graph.nodes().len() + self.nodes.len());
        for (id, node) in graph.nodes() {
            while let Some((_, node)) = new.next_if(|(before, _)| *before <= id) {
                schedule.push(node);
            }
            if !self.removed.contains(&id) {
                schedule.push(node);
            }
        }
        schedule.extend(new.map(|(_, node)| node));
        schedule
    }

    /// Which values are needed.
    fn live(&self, graph: &Graph, schedule: &[&Node]) -> Vec<bool> {
        let mut live = vec![false; self.base.0 + self.specs.len()];
        for value in graph.results() {
            live[self.resolve(value).index()] = true;
        }
        for node in schedule.iter().rev() {
            if is_needed(node, &live) {
                for &operand in &node.operands {
                    live[self.resolve(operand).index()] = true;
                }
            }
        }
        live
    }

    /// Adds inputs, states and the constants that are needed; new ids by old ones.
    fn sources(&self, graph: &Graph, live: &[bool], builder: &mut GraphBuilder) -> Vec<Option<ValueId>> {
        let mut ids = vec![None; live.len()];
        for (id, value) in graph.values() {
            ids[id.index()] = match &value.def {
                Def::Input(n) => Some(builder.input(graph.inputs()[*n].name.clone(), value.spec.clone())),
                Def::State(n) => {
                    let state = &graph.states()[*n];
                    Some(builder.state(state.name.clone(), state.initial.clone()))
                }
                Def::Constant(constant) if live[id.index()] => {
                    Some(builder.shared_constant(constant.clone()))
                }
                Def::Constant(_) | Def::Node(..) => None,
            };
        }
        for (id, constant) in self.constants.iter().filter(|(id, _)| live[id.index()]) {
            ids[id.index()] = Some(builder.shared_constant(constant.clone()));
        }
        ids
    }

    fn copy(
        &self,
        graph: &Graph,
        node: &Node,
        builder: &mut GraphBuilder,
        ids: &mut [Option<ValueId>],
    ) -> Result<()> {
        let operands: SmallVec<[ValueId; 3]> =
            node.operands.iter().map(|&value| self.lookup(ids, value)).collect::<Result<_>>()?;
        let specs = node.results.iter().map(|&value| self.spec(graph, value).clone()).collect();
        let results = builder.push_typed(node.op.clone(), &operands, specs, &node.origin);
        for (old, new) in node.results.iter().zip(results) {
            ids[old.index()] = Some(new);
        }
        Ok(())
    }

    fn lookup(&self, ids: &[Option<ValueId>], value: ValueId) -> Result<ValueId> {
        ids[self.resolve(value).index()]
            .ok_or_else(|| Error::Verify(format!("the patch makes what is read as {value} too late")))
    }
}

fn is_needed(node: &Node, live: &[bool]) -> bool {
    node.op.has_effect() || node.results.iter().any(|value| live[value.index()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::op::Unary;
    use crate::ir::verify;

    const TEXT: &str = r#"graph "g" {
  input %0 "x" : f32[2]
  constant %1 "c" : f32[2] = [1.0, 2.0]
  %2 = neg %0 : f32[2] @"a"
  %3 = add %2, %1 : f32[2] @"b"
  %4 = exp %3 : f32[2] @"c"
  collective(op=send(dest=1, tag=0) group="g") %2 @"d"
  output "y" %4
}
"#;

    fn graph() -> Graph {
        TEXT.parse().unwrap()
    }

    fn value(n: usize) -> ValueId {
        ValueId::new(n)
    }

    #[test]
    fn an_empty_patch_changes_nothing() {
        let graph = graph();
        assert_eq!(Patch::new(&graph).apply(&graph).unwrap().to_string(), TEXT);
    }

    #[test]
    fn dead_parts_go_and_effects_stay() {
        let graph = graph();
        let mut patch = Patch::new(&graph);
        let new =
            patch.push(&graph, NodeId::new(2), Op::Unary(Unary::Abs), &[value(2)], &"n".into()).unwrap();
        patch.replace(value(3), new[0]);
        let changed = patch.apply(&graph).unwrap();
        verify(&changed).unwrap();
        let expected = r#"graph "g" {
  input %0 "x" : f32[2]
  %1 = neg %0 : f32[2] @"a"
  %2 = abs %1 : f32[2] @"n"
  %3 = exp %2 : f32[2] @"c"
  collective(op=send(dest=1, tag=0) group="g") %1 @"d"
  output "y" %3
}
"#;
        assert_eq!(changed.to_string(), expected);
    }

    #[test]
    fn nodes_run_in_another_order() {
        let graph = graph();
        let changed = Patch::reorder(&graph, [0, 3, 1, 2]).apply(&graph).unwrap();
        verify(&changed).unwrap();
        let names: Vec<&str> = changed.nodes().map(|(_, node)| &*node.origin).collect();
        assert_eq!(names, ["a", "d", "b", "c"]);
        assert_eq!(changed.outputs()[0].value, value(4));
    }

    #[test]
    fn replacements_follow_each_other() {
        let graph = graph();
        let mut patch = Patch::new(&graph);
        patch.replace(value(4), value(3));
        patch.replace(value(3), value(2));
        let changed = patch.apply(&graph).unwrap();
        assert_eq!(changed.outputs()[0].value, value(1));
    }

    #[test]
    fn wrong_patches_are_refused() {
        let graph = graph();
        let refused = |build: &dyn Fn(&mut Patch), reason: &str| {
            let mut patch = Patch::new(&graph);
            build(&mut patch);
            let error = patch.apply(&graph).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        };
        refused(
            &|patch| {
                let new = patch.constant("", Tensor::scalar(1f32));
                patch.replace(value(2), new)
            },
            "by a f32[]",
        );
        refused(&|patch| patch.replace(value(2), value(4)), "too late");
        refused(&|patch| patch.replace(value(2), value(9)), "does not exist");
        refused(
            &|patch| {
                patch.replace(value(2), value(3));
                patch.replace(value(3), value(2))
            },
            "too late",
        );
        for order in [vec![0, 1, 2], vec![0, 1, 1, 3], vec![1, 0, 2, 3], vec![0, 1, 2, 3, 4]] {
            assert!(Patch::reorder(&graph, order).apply(&graph).is_err());
        }
        let other: Graph = "graph \"h\" {\n}".parse().unwrap();
        assert!(Patch::new(&graph).apply(&other).is_err());
    }
}
