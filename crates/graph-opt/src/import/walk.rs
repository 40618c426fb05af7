//! Walks the nodes of the entry graph and of what it calls, in file order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mslite_mindir::{Callee, Definition, Model, Node, NodeKind, Primitive, Value};
use mslite_tensor::{DType, Tensor};

use super::call::{Call, value_ints, value_item};
use super::emit::{Bound, Emitter};
use super::flow::Tails;
use super::item::{Binding, Closure, Item, last};
use super::known::known_ints;
use super::ports::{Inputs, Names, outputs};
use super::table::{self, Lowering, Written};
use super::{ImportOptions, ops};
use crate::Result;
use crate::ir::op::Binary;
use crate::ir::{Graph, GraphBuilder, ValueId};

/// One attempt to import a model, on the assumption that certain parameters are written.
pub(super) struct Importer<'m> {
    pub(super) model: &'m Model,
    pub(super) options: &'m ImportOptions,
    pub(super) emit: Emitter,
    pub(super) tails: Tails,
    pub(super) bindings: HashMap<&'m str, Binding>,
    /// What names stood for before, since the outermost part that is being walked began.
    pub(super) trail: Vec<(&'m str, Option<Binding>)>,
    /// Which results of a node are used, one bit each.
    uses: HashMap<&'m str, u64>,
    /// Names of what is written, and how many nodes read it.
    rewritten: HashMap<&'m str, usize>,
    pub(super) parameters: Vec<Slot>,
    /// States of random numbers, by node: the slot behind those of the parameters, and what it holds at first.
    generators: HashMap<&'m str, (usize, Tensor)>,
    /// The parameters that got a version, in order.
    pub(super) log: Vec<usize>,
    assumed: &'m BTreeSet<usize>,
    written: BTreeSet<usize>,
    /// State of the graph behind a parameter.
    states: BTreeMap<usize, usize>,
    symbols: Names,
    /// Writes so far.
    pub(super) clock: u64,
    /// Writes before the turn of a loop that is being walked: all of them come before it.
    pub(super) floor: u64,
    /// Graphs that are being walked, outermost first.
    pub(super) active: Vec<usize>,
    /// Parts that are being walked, each inside the one before.
    pub(super) scopes: usize,
    /// Calls that are being walked, each inside the one before.
    pub(super) depth: usize,
    nodes: usize,
}

/// A parameter: what it has held since which write.
pub(super) struct Slot {
    pub(super) versions: Vec<(u64, ValueId)>,
}

impl<'m> Importer<'m> {
    pub(super) fn new(model: &'m Model, options: &'m ImportOptions, assumed: &'m BTreeSet<usize>) -> Self {
        let generators = generators(model);
        let slots = model.graph.parameters.len() + generators.len();
        let slots = (0..slots).map(|_| Slot { versions: Vec::new() });
        Importer {
            model,
            options,
            emit: Emitter {
                builder: GraphBuilder::new(&*model.graph.name),
                origin: model.graph.name.clone(),
                operands: 0,
                bound: Bound::default(),
            },
            tails: Tails::new(model),
            bindings: HashMap::new(),
            trail: Vec::new(),
            uses: result_uses(model),
            rewritten: rewritten(model),
            parameters: slots.collect(),
            generators,
            log: Vec::new(),
            assumed,
            written: BTreeSet::new(),
            states: BTreeMap::new(),
            symbols: Names::default(),
            clock: 0,
            floor: 0,
            active: Vec::new(),
            scopes: 0,
            depth: 0,
            nodes: 0,
        }
    }

    /// The graph, and which parameters it turned out to write. If these are not those that were assumed, the graph
    /// is wrong, or is none.
    pub(super) fn run(mut self) -> (Result<Graph>, BTreeSet<usize>) {
        let result = self.walk_model();
        let written = std::mem::take(&mut self.written);
        (result.and_then(|()| self.emit.builder.finish()), written)
    }

    fn walk_model(&mut self) -> Result<()> {
        let model = self.model;
        self.bind_inputs()?;
        for &parameter in self.assumed {
            self.value_at(parameter, 0)?;
        }
        self.start_generators();
        self.active.push(0);
        self.walk(&model.graph.nodes, 0)?;
        self.emit.origin = model.graph.name.clone();
        self.end()?;
        self.set_next()
    }

    /// A graph that has the inputs only.
    pub(super) fn inputs(mut self) -> Result<Graph> {
        self.bind_inputs()?;
        Ok(self.emit.builder.into_graph())
    }

    /// Gives each generator of random numbers a state.
    fn start_generators(&mut self) {
        let mut generators: Vec<_> = self.generators.iter().map(|(name, (slot, _))| (*slot, *name)).collect();
        generators.sort_unstable();
        for (slot, name) in generators {
            let first = self.generators[name].1.clone();
            self.states.insert(slot, self.emit.graph().states().len());
            let value = self.emit.builder.state(format!("{name}.random"), first);
            self.push_version(slot, 0, value);
        }
    }

    fn bind_inputs(&mut self) -> Result<()> {
        let model = self.model;
        let mut inputs = Inputs {
            emit: &mut self.emit,
            axes: &self.options.axes,
            names: Names::default(),
            symbols: std::mem::take(&mut self.symbols),
        };
        for input in &model.graph.inputs {
            inputs.emit.origin = input.name.clone();
            let item = inputs.add(&input.name, input.ty.as_ref())?;
            self.bindings.insert(&input.symbol, Binding { item, time: 0 });
        }
        self.symbols = inputs.symbols;
        for input in &model.graph.inputs {
            if let Some(binding) = self.bindings.remove(&*input.symbol) {
                let binding = self.rewritable(&input.symbol, binding)?;
                self.bindings.insert(&input.symbol, binding);
            }
        }
        for (i, parameter) in model.graph.parameters.iter().enumerate() {
            self.bindings.insert(&parameter.symbol, Binding { item: Item::Parameter(i), time: 0 });
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let model = self.model;
        for output in &model.graph.outputs {
            let item = self.lookup(&output.symbol, 0)?.item;
            let ports = outputs(model, &output.symbol, &item)
                .ok_or_else(|| self.emit.unsupported("the output", "it is a tuple too large or too deep"))?;
            for (name, item) in ports {
                let item = self.read(item, self.clock)?;
                let value = self.emit.tensor(&item)?.ok_or_else(|| {
                    self.emit.unsupported(
                        &format!("output {name:?}"),
                        format!("it is a {}; return tensors and numbers only", item.kind()),
                    )
                })?;
                self.emit.builder.output(name, value);
            }
        }
        Ok(())
    }

    fn set_next(&mut self) -> Result<()> {
        for (parameter, state) in &self.states {
            if let Some((_, value)) = self.parameters[*parameter].versions.last() {
                self.emit.builder.set_next(*state, *value)?;
            }
        }
        Ok(())
    }

    /// Evaluates nodes; `time` is that of the call.
    pub(super) fn walk(&mut self, nodes: &'m [Node], time: u64) -> Result<()> {
        for node in nodes {
            let NodeKind::Call(callee) = &node.kind else { continue };
            self.place(node);
            self.count()?;
            let operands = self.operands(node, time)?;
            let binding = match callee {
                Callee::Primitive(primitive) => self.primitive(node, primitive, operands)?,
                _ => {
                    let function = self.callee(node, time)?;
                    self.call(&function, operands)?
                }
            };
            let binding = self.rewritable(&node.symbol, binding)?;
            self.bind(&node.symbol, binding);
        }
        Ok(())
    }

    /// Counts a node, or a call: inlining must end.
    pub(super) fn count(&mut self) -> Result<()> {
        self.nodes += 1;
        if self.nodes <= self.options.max_nodes {
            return Ok(());
        }
        let reason = format!("calls inline to more than {} nodes", self.options.max_nodes);
        Err(self.emit.unsupported("the model", reason))
    }

    /// A tensor that is written later becomes a slot like that of a parameter, but without a state behind it. Where
    /// ways part, there are none: a tensor is then only written if nobody else reads it.
    fn rewritable(&mut self, name: &'m str, binding: Binding) -> Result<Binding> {
        let Binding { item: Item::Tensor(value), time } = binding else { return Ok(binding) };
        if self.scopes > 0 || !self.rewritten.contains_key(name) {
            return Ok(binding);
        }
        self.parameters.push(Slot { versions: vec![(time, value)] });
        Ok(Binding { item: Item::Parameter(self.parameters.len() - 1), time })
    }

    /// Names a node as the origin of what is appended. Calls have a number for a scope.
    pub(super) fn place(&mut self, node: &Node) {
        let has_scope = node.scope.contains(char::is_alphabetic);
        self.emit.origin = if has_scope { node.scope.clone() } else { node.name.clone() };
    }

    pub(super) fn operands(&mut self, node: &'m Node, time: u64) -> Result<Vec<Binding>> {
        node.inputs.iter().map(|name| self.lookup(name, time)).collect()
    }

    /// What a name stands for. Constants may be in any graph.
    pub(super) fn lookup(&mut self, name: &'m str, time: u64) -> Result<Binding> {
        if let Some(binding) = self.bindings.get(name) {
            return Ok(binding.clone());
        }
        let model = self.model;
        match model.definition(name) {
            Some(Definition::Node { .. }) => match model.node(name).and_then(Node::constant) {
                Some(value) => self.constant(name, value, time),
                None => Err(self.emit.invalid(format!("{name} is used before it is computed"))),
            },
            Some(Definition::Graph(graph)) => {
                let closure = Closure::new(graph, Vec::new());
                Ok(Binding { item: Item::Function(Arc::new(closure)), time: 0 })
            }
            Some(Definition::MapParameter { .. }) => {
                Err(self.emit.unsupported(&format!("parameter {name}"), "hash maps are not supported yet"))
            }
            _ => Err(self.emit.invalid(format!("{name} is not defined where it is used"))),
        }
    }

    fn constant(&mut self, name: &'m str, value: &'m Value, time: u64) -> Result<Binding> {
        if let Value::Function(symbol) = value {
            return Ok(Binding { item: Item::Function(self.function(symbol)?), time: 0 });
        }
        let item = value_item(value, &mut self.emit);
        if matches!(item, Item::Monad) {
            return Ok(Binding { item, time });
        }
        let binding = Binding { item, time: 0 };
        self.bind(name, binding.clone());
        Ok(binding)
    }

    pub(super) fn function(&self, name: &str) -> Result<Arc<Closure>> {
        match self.model.definition(name) {
            Some(Definition::Graph(graph)) => Ok(Arc::new(Closure::new(graph, Vec::new()))),
            _ => Err(self.emit.invalid(format!("{name} is called, but is no function"))),
        }
    }

    fn primitive(
        &mut self,
        node: &'m Node,
        primitive: &'m Primitive,
        operands: Vec<Binding>,
    ) -> Result<Binding> {
        let time = last(&operands);
        let op_type = primitive.op_type.strip_prefix("S-Prim-").unwrap_or(&primitive.op_type);
        let item = match op_type {
            "MakeTuple" | "make_tuple" | "make_list" | "MakeList" => {
                Item::tuple(operands.into_iter().map(|operand| operand.item))
            }
            "TupleGetItem" | "tuple_getitem" | "list_getitem" | "ListGetItem" | "RealTupleGetItem" => {
                self.element(&operands)?
            }
            "Depend" | "depend" => self.first(operands)?,
            "Load" | "load" => {
                let item = self.first(operands)?;
                self.read(item, time)?
            }
            // What is printed is for people who train; no result depends on it.
            "UpdateState" | "Print" => Item::Monad,
            "Partial" => partial(operands)
                .ok_or_else(|| self.emit.invalid("it needs a function, and not ever more arguments"))?,
            "Switch" | "switch" => self.switch(operands)?,
            "SwitchLayer" | "switch_layer" => self.switch_layer(operands)?,
            _ => return self.lower(node, primitive, op_type, operands, time),
        };
        if !item.is_reasonable() {
            return Err(self.emit.unsupported(op_type, "tuples or closures nest too deep or are too large"));
        }
        Ok(Binding { item, time })
    }

    fn first(&self, operands: Vec<Binding>) -> Result<Item> {
        let first = operands.into_iter().next().map(|operand| operand.item);
        first.ok_or_else(|| self.emit.invalid("an operand is missing"))
    }

    fn element(&mut self, operands: &[Binding]) -> Result<Item> {
        let [Binding { item: Item::Tuple(items), .. }, Binding { item: index, .. }] = operands else {
            return Err(self.emit.invalid("an element is taken of what is no tuple"));
        };
        let Some(index) = self.known_int(index) else {
            return Err(self.emit.unsupported("TupleGetItem", "the index is computed from data"));
        };
        let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
        let at = usize::try_from(if index < 0 { index + len } else { index }).ok();
        at.and_then(|at| items.get(at).cloned())
            .ok_or_else(|| self.emit.invalid(format!("element {index} of a tuple of {len}")))
    }

    fn switch(&mut self, operands: Vec<Binding>) -> Result<Item> {
        let [condition, then, otherwise] = <[Binding; 3]>::try_from(operands)
            .map_err(|_| self.emit.invalid("Switch needs a condition and two branches"))?;
        let item = self.read(condition.item, condition.time)?;
        match self.known_int(&item) {
            Some(0) => Ok(otherwise.item),
            Some(_) => Ok(then.item),
            None => self.choice(&item, then, otherwise),
        }
    }

    /// One of several functions, by its number.
    fn switch_layer(&mut self, operands: Vec<Binding>) -> Result<Item> {
        let [index, Binding { item: Item::Tuple(functions), time }] = &operands[..] else {
            return Err(self.emit.invalid("SwitchLayer needs an index and a tuple of functions"));
        };
        let count = i64::try_from(functions.len()).unwrap_or(i64::MAX);
        let index = self.read(index.item.clone(), index.time)?;
        if let Some(at) = self.known_int(&index) {
            let at = usize::try_from(if at < 0 { at + count } else { at }).ok();
            let function = at.and_then(|at| functions.get(at)).cloned();
            return function.ok_or_else(|| self.emit.invalid("the index is outside the tuple"));
        }
        let Some((last, others)) = functions.split_last() else {
            return Err(self.emit.invalid("the tuple is empty"));
        };
        let bound = |item: Item| Binding { item, time: *time };
        let mut chosen = last.clone();
        for (at, function) in others.iter().enumerate().rev() {
            let is_it = self.is_index(&index, at as i64, count)?;
            chosen = self.choice(&Item::Tensor(is_it), bound(function.clone()), bound(chosen))?;
        }
        Ok(chosen)
    }

    /// Whether an index is `at`, counted from either end.
    fn is_index(&mut self, index: &Item, at: i64, count: i64) -> Result<ValueId> {
        let index = self.emit.tensor(index)?;
        let index = index.ok_or_else(|| self.emit.invalid("the index is no number"))?;
        let index = self.emit.cast(index, DType::I64)?;
        let mut equals = |n: i64| {
            let n = self.emit.int_scalar(n, DType::I64)?;
            self.emit.binary(Binary::Equal, index, n)
        };
        let (front, back) = (equals(at)?, equals(at - count)?);
        self.emit.binary(Binary::Or, front, back)
    }

    fn known_int(&self, item: &Item) -> Option<i64> {
        match item {
            Item::Int(dim) => dim.as_fixed(),
            Item::Bool(value) => Some(i64::from(*value)),
            Item::Tensor(x) => match known_ints(self.emit.graph(), *x)?.as_slice() {
                [dim] => dim.as_fixed(),
                _ => None,
            },
            _ => None,
        }
    }

    fn lower(
        &mut self,
        node: &'m Node,
        primitive: &'m Primitive,
        op_type: &'m str,
        mut operands: Vec<Binding>,
        time: u64,
    ) -> Result<Binding> {
        if operands.last().is_some_and(|operand| matches!(operand.item, Item::Monad)) {
            operands.pop();
        }
        let targets: Vec<Option<usize>> = operands
            .iter()
            .map(|operand| match operand.item {
                Item::Parameter(parameter) => Some(parameter),
                _ => None,
            })
            .collect();
        let target = targets.first().copied().flatten();
        let lowering = table::find(op_type);
        if primitive.has_side_effect() && target.is_some() && lowering.is_none() {
            let reason = "it writes a parameter in a way that is not supported yet";
            return Err(self.emit.unsupported(op_type, reason));
        }
        let args: Result<Vec<Item>> =
            operands.into_iter().map(|operand| self.read(operand.item, time)).collect();
        let generator = self.generators.get(&*node.symbol).map(|(slot, _)| *slot);
        let (item, held) = self.lowered(node, primitive, op_type, args?, generator)?;
        let mut binding = Binding { item, time };
        if let (Some(slot), &[next]) = (generator, &held[..]) {
            self.write(slot, next)?;
            return Ok(binding);
        }
        if let Some(Lowering::WriteAt(positions, _)) = lowering {
            for (&position, value) in positions.iter().zip(held) {
                match targets.get(position) {
                    Some(&Some(parameter)) => {
                        self.write(parameter, value)?;
                        binding.time = self.clock;
                    }
                    _ => self.check_sole_reader(node, position)?,
                }
            }
            return Ok(binding);
        }
        if !lowering.is_some_and(Lowering::writes) {
            return Ok(binding);
        }
        self.check_view(node)?;
        if let (Some(parameter), Item::Tensor(value)) = (target, &binding.item) {
            self.write(parameter, *value)?;
            // The result is the parameter, not its value: later writes show.
            return Ok(Binding { item: Item::Parameter(parameter), time: self.clock });
        }
        self.check_sole_reader(node, 0)?;
        Ok(binding)
    }

    /// What a primitive gives, and what parameters, or its generator of random numbers, hold afterwards.
    fn lowered(
        &mut self,
        node: &'m Node,
        primitive: &'m Primitive,
        op_type: &'m str,
        args: Vec<Item>,
        generator: Option<usize>,
    ) -> Result<Written> {
        let state = generator.map(|slot| self.value_at(slot, self.clock)).transpose()?;
        let mut call = Call {
            emit: &mut self.emit,
            op_type,
            args,
            attributes: &primitive.attributes,
            ty: node.ty.as_ref(),
            used: self.uses.get(&*node.symbol).copied().unwrap_or(0),
            model_version: &self.model.model_version,
            effect: primitive.has_side_effect(),
            rank: self.options.rank,
            symbols: &mut self.symbols,
            name: &node.name,
        };
        let plain = |item| (item, Vec::new());
        match table::find(op_type) {
            Some(Lowering::WriteAt(_, lower)) => lower(&mut call),
            Some(Lowering::Draw(_, draw)) => {
                let state = state.ok_or_else(|| call.invalid("it has no state"))?;
                draw(&mut call, state).map(|(item, next)| (item, vec![next]))
            }
            Some(lowering) => lowering.apply(&mut call).map(plain),
            None => ops::opaque::lower(&mut call).map(plain),
        }
    }

    /// Whether a slot is that of a tensor which is no parameter.
    fn is_local(&self, slot: usize) -> bool {
        slot >= self.model.graph.parameters.len() + self.generators.len()
    }

    /// Refuses a write to a tensor that others read, too, where no slot keeps what they shall see.
    fn check_sole_reader(&self, node: &'m Node, position: usize) -> Result<()> {
        let readers = node.inputs.get(position).and_then(|name| self.rewritten.get(&**name));
        if readers.is_none_or(|&readers| readers <= 1) {
            return Ok(());
        }
        let reason =
            "it writes a tensor in place that others read, inside a function; assign the result instead";
        Err(self.emit.unsupported(node.op_type().unwrap_or("a write"), reason))
    }

    /// Refuses a write to a view of a tensor that others read, too: views are tensors of their own here.
    fn check_view(&self, node: &'m Node) -> Result<()> {
        let written = node.inputs.first().and_then(|name| self.model.node(name));
        let is_view = written.and_then(Node::op_type).is_some_and(|op_type| op_type.ends_with("View"));
        if !is_view {
            return Ok(());
        }
        let reason = "it writes a view, which changes the tensor behind it; assign the result instead";
        Err(self.emit.unsupported(node.op_type().unwrap_or("a write"), reason))
    }

    /// An item with parameters replaced by what they held after the write at `time`.
    pub(super) fn read(&mut self, item: Item, time: u64) -> Result<Item> {
        match item {
            Item::Parameter(parameter) => self.value_at(parameter, time).map(Item::Tensor),
            Item::Tuple(items)
                if items.iter().any(|item| matches!(item, Item::Parameter(_) | Item::Tuple(_))) =>
            {
                let items: Result<Vec<Item>> =
                    items.iter().map(|item| self.read(item.clone(), time)).collect();
                Ok(Item::tuple(items?))
            }
            item => Ok(item),
        }
    }

    pub(super) fn value_at(&mut self, parameter: usize, time: u64) -> Result<ValueId> {
        if self.parameters[parameter].versions.is_empty() {
            let value = self.initial(parameter)?;
            self.push_version(parameter, 0, value);
        }
        let versions = &self.parameters[parameter].versions;
        let known = versions.iter().rev().find(|(since, _)| *since <= time);
        Ok(known.unwrap_or(&versions[0]).1)
    }

    fn initial(&mut self, parameter: usize) -> Result<ValueId> {
        let stated = &self.model.graph.parameters[parameter];
        let tensor: Tensor = stated.tensor().ok_or_else(|| {
            let reason = format!("its elements are {}, which tensors do not have", stated.dtype());
            self.emit.unsupported(&format!("parameter {}", stated.name), reason)
        })?;
        if !self.assumed.contains(&parameter) {
            return Ok(self.emit.builder.constant(stated.name.clone(), tensor));
        }
        self.states.insert(parameter, self.emit.graph().states().len());
        Ok(self.emit.builder.state(stated.name.clone(), tensor))
    }

    pub(super) fn write(&mut self, parameter: usize, value: ValueId) -> Result<()> {
        let is_local = self.is_local(parameter);
        if is_local && self.scopes > 0 {
            let reason = "it writes a tensor from outside the branch or loop; assign the result instead";
            return Err(self.emit.unsupported("a write in place", reason));
        }
        if !is_local && !self.is_generator(parameter) {
            self.written.insert(parameter);
        }
        if self.scopes > 0 && !self.is_written(parameter) {
            // The graph is wrong already; the walk goes on to find what else is written.
            return Ok(());
        }
        let before = self.value_at(parameter, self.clock)?;
        let (held, new) = (self.emit.spec(before), self.emit.spec(value));
        if held != new {
            let name = self.model.graph.parameters.get(parameter).map_or("of the graph", |p| &*p.name);
            return Err(self.emit.invalid(format!("parameter {name} is {held}, but is given {new}")));
        }
        self.clock += 1;
        self.push_version(parameter, self.clock, value);
        Ok(())
    }

    /// Lets a parameter hold a value from a time on.
    pub(super) fn push_version(&mut self, parameter: usize, time: u64, value: ValueId) {
        self.parameters[parameter].versions.push((time, value));
        self.log.push(parameter);
    }

    /// Whether something in the model writes a parameter, as far as is known.
    pub(super) fn is_written(&self, parameter: usize) -> bool {
        self.assumed.contains(&parameter) || self.is_generator(parameter)
    }

    fn is_generator(&self, slot: usize) -> bool {
        slot >= self.model.graph.parameters.len() && !self.is_local(slot)
    }
}

fn partial(operands: Vec<Binding>) -> Option<Item> {
    let mut operands = operands.into_iter();
    /// Most arguments that are bound one after the other.
    const MAX_BOUND: usize = 256;
    let Item::Function(function) = operands.next()?.item else { return None };
    if operands.len() == 0 {
        return Some(Item::Function(function));
    }
    if !function.bound.is_empty() && function.bound.len() + operands.len() > MAX_BOUND {
        return None;
    }
    let bound = function.bound.iter().cloned().chain(operands).collect();
    Some(Item::Function(Arc::new(Closure::new(function.graph, bound))))
}

/// The nodes that draw random numbers, each with its slot and first state.
fn generators(model: &Model) -> HashMap<&str, (usize, Tensor)> {
    let mut generators = HashMap::new();
    for node in model.graphs().flat_map(|graph| &graph.nodes) {
        let NodeKind::Call(Callee::Primitive(primitive)) = &node.kind else { continue };
        if let Some(Lowering::Draw(distribution, _)) = node.op_type().and_then(table::find) {
            let slot = model.graph.parameters.len() + generators.len();
            let first = ops::random::first_state(distribution, &primitive.attributes);
            generators.entry(&*node.symbol).or_insert((slot, first));
        }
    }
    generators
}

/// The operands that are written, and how many read each, the writes among them.
fn rewritten(model: &Model) -> HashMap<&str, usize> {
    let mut readers: HashMap<&str, usize> = HashMap::new();
    for node in model.graphs().flat_map(|graph| &graph.nodes) {
        let positions: &[usize] = match node.op_type().and_then(table::find) {
            Some(Lowering::WriteAt(positions, _)) => positions,
            Some(lowering) if lowering.writes() => &[0],
            _ => continue,
        };
        readers.extend(positions.iter().filter_map(|&at| Some((&**node.inputs.get(at)?, 0))));
    }
    for graph in model.graphs() {
        let nodes = graph.nodes.iter().filter(|node| node.op_type() != Some("UpdateState"));
        let inputs = nodes.flat_map(|node| &node.inputs);
        for name in inputs.chain(graph.outputs.iter().map(|output| &output.symbol)) {
            if let Some(count) = readers.get_mut(&**name) {
                *count += 1;
            }
        }
    }
    readers
}

/// Which results of nodes are used: those that `TupleGetItem` with a constant index names, or all.
fn result_uses(model: &Model) -> HashMap<&str, u64> {
    let mut uses: HashMap<&str, u64> = HashMap::new();
    for graph in model.graphs() {
        for node in &graph.nodes {
            let element = element_bit(model, node);
            for (i, input) in node.inputs.iter().enumerate() {
                *uses.entry(input).or_default() |=
                    if i == 0 { element.unwrap_or(u64::MAX) } else { u64::MAX };
            }
        }
        for output in &graph.outputs {
            uses.insert(&output.symbol, u64::MAX);
        }
    }
    uses
}

fn element_bit(model: &Model, node: &Node) -> Option<u64> {
    let ([_, index], Some("TupleGetItem")) = (&node.inputs[..], node.op_type()) else { return None };
    let index = value_ints(model.node(index)?.constant()?)?;
    let index = u32::try_from(*index.first()?).ok()?;
    1u64.checked_shl(index)
}
