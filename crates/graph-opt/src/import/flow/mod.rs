//! Calls, branches and loops.
//!
//! A call is inlined. A function that ends with a call hands over to it: what it computes goes on there. Where
//! the condition of a branch is only known when the model runs, both ways are walked as far as the function where
//! they meet, and become the graphs of an [`If`]; a function that a way leads back to becomes the body of a
//! [`Loop`](crate::ir::op::Loop). Both are walked in place and cut out afterwards.

mod join;
mod leaves;
mod tails;
mod turns;

use std::sync::Arc;

use mslite_mindir::{Callee, NodeKind};
use mslite_tensor::{DType, Dim, Tensor};

use super::emit::Emitter;
use super::item::{Binding, Choice, Closure, Item, last};
use super::walk::Importer;
use crate::Result;
use crate::ir::op::{Binary, Gather, Op};
use crate::ir::{MAX_NESTING, Mark, ValueId};

pub(super) use tails::Tails;

/// Where a function comes to, by one of several ways.
#[derive(Debug)]
struct Outcome {
    /// Index of the way that is taken, as an i32 of rank 0; `None` when there is one way.
    which: Option<ValueId>,
    ways: Vec<Way>,
}

/// One way.
#[derive(Debug)]
struct Way {
    target: Target,
    /// The arguments of the function that is called, or the results.
    values: Vec<Binding>,
    /// What parameters hold there, as far as they were written on the way.
    states: Vec<(usize, ValueId)>,
}

/// Where a way ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    /// The caller gets the results.
    Return,
    /// A function of this number is called.
    Call(usize),
}

impl Outcome {
    fn one(target: Target, values: Vec<Binding>) -> Self {
        Outcome { which: None, ways: vec![Way { target, values, states: Vec::new() }] }
    }
}

/// What to return to when a part has been walked.
#[derive(Debug)]
struct Scope {
    mark: Mark,
    clock: u64,
    floor: u64,
    bound: usize,
    log: usize,
}

impl<'m> Importer<'m> {
    /// Evaluates a call whose results are used here.
    pub(super) fn call(&mut self, function: &Item, operands: Vec<Binding>) -> Result<Binding> {
        let (origin, before, active) = (self.emit.origin.clone(), self.clock, self.active.len());
        self.depth += 1;
        if self.depth > self.options.max_depth {
            let reason = format!("calls nest deeper than {}", self.options.max_depth);
            return Err(self.emit.unsupported("a call", reason));
        }
        let outcome = self.apply(function, operands, &[])?;
        self.depth -= 1;
        self.active.truncate(active);
        self.emit.origin = origin;
        let Some(Way { target: Target::Return, mut values, .. }) = outcome.ways.into_iter().next() else {
            return Err(self.emit.invalid("a call does not return"));
        };
        let written = if self.clock > before { self.clock } else { 0 };
        let time = last(&values).max(written);
        let item = match values.len() {
            1 => values.remove(0).item,
            _ => Item::tuple(values.into_iter().map(|binding| binding.item)),
        };
        Ok(Binding { item, time })
    }

    /// Calls what an item is, and follows it up to the functions in `stops`.
    fn apply(&mut self, function: &Item, operands: Vec<Binding>, stops: &[usize]) -> Result<Outcome> {
        match function {
            Item::Function(closure) => self.follow(handed_over(closure, operands), stops),
            Item::Choice(choice) => {
                let outcome = self.choose(choice, &operands, stops)?;
                self.follow(outcome, stops)
            }
            item => Err(self.emit.invalid(format!("a {} is called", item.kind()))),
        }
    }

    /// Goes on from an outcome until every way returns or comes to one of `stops`.
    fn follow(&mut self, mut outcome: Outcome, stops: &[usize]) -> Result<Outcome> {
        let goes_on = |way: &Way| matches!(way.target, Target::Call(to) if !stops.contains(&to));
        while let Some(at) = outcome.ways.iter().position(goes_on) {
            outcome = match outcome.ways.len() {
                1 => self.advance(outcome.ways.remove(0), stops)?,
                _ => self.separate(outcome, at, stops)?,
            };
        }
        Ok(outcome)
    }

    /// Walks the function that a way calls.
    fn advance(&mut self, way: Way, stops: &[usize]) -> Result<Outcome> {
        let Target::Call(function) = way.target else {
            return Ok(Outcome { which: None, ways: vec![way] });
        };
        if self.active.contains(&function) {
            return Err(self.emit.unsupported(
                "recursion",
                "a function calls itself other than at its end; MindSpore's loops do not",
            ));
        }
        match self.tails.loops_back(function, stops) {
            true => self.turns(function, way.values, stops),
            false => self.enter(function, way.values, stops),
        }
    }

    /// Walks a function as far as the call that it ends with, or to its end.
    fn enter(&mut self, function: usize, arguments: Vec<Binding>, stops: &[usize]) -> Result<Outcome> {
        let model = self.model;
        self.count()?;
        let graph = model
            .graph_at(function)
            .ok_or_else(|| self.emit.invalid("a function is called that does not exist"))?;
        if arguments.len() != graph.inputs.len() {
            return Err(self.emit.invalid(format!(
                "function {} takes {} arguments, not {}",
                graph.name,
                graph.inputs.len(),
                arguments.len()
            )));
        }
        let time = last(&arguments).max(self.floor);
        for (input, argument) in graph.inputs.iter().zip(arguments) {
            self.bind(&input.symbol, Binding { item: argument.item, time });
        }
        self.active.push(function);
        let tail = self.tails.last_call(function);
        self.walk(&graph.nodes[..tail.unwrap_or(graph.nodes.len())], time)?;
        let Some(tail) = tail.map(|at| &graph.nodes[at]) else {
            let results = graph.outputs.iter().map(|output| self.lookup(&output.symbol, time));
            let results = results.collect::<Result<Vec<Binding>>>()?;
            let results = results.into_iter().map(|r| Binding { time: r.time.max(time), ..r }).collect();
            return Ok(Outcome::one(Target::Return, results));
        };
        self.place(tail);
        let operands = self.operands(tail, time)?;
        match self.callee(tail, time)? {
            Item::Function(closure) => Ok(handed_over(&closure, operands)),
            Item::Choice(choice) => {
                let stops: Vec<usize> = stops.iter().copied().chain(self.tails.merge(function)).collect();
                self.choose(&choice, &operands, &stops)
            }
            item => Err(self.emit.invalid(format!("a {} is called", item.kind()))),
        }
    }

    /// What a node calls.
    pub(super) fn callee(&mut self, node: &'m mslite_mindir::Node, time: u64) -> Result<Item> {
        match &node.kind {
            NodeKind::Call(Callee::Graph(name)) => self.function(name).map(Item::Function),
            NodeKind::Call(Callee::Closure(name)) => Ok(self.lookup(name, time)?.item),
            _ => Err(self.emit.invalid("a node that calls nothing")),
        }
    }

    /// Both ways of a branch, up to `stops`.
    fn choose(&mut self, choice: &Choice, operands: &[Binding], stops: &[usize]) -> Result<Outcome> {
        let then = self.part("then", |cx| cx.apply(&choice.then, operands.to_vec(), stops))?;
        let otherwise = self.part("otherwise", |cx| cx.apply(&choice.otherwise, operands.to_vec(), stops))?;
        self.join(choice.condition, then, otherwise)
    }

    /// Goes on by one of several ways, and leaves the others as they are.
    fn separate(&mut self, outcome: Outcome, at: usize, stops: &[usize]) -> Result<Outcome> {
        let Outcome { which: Some(which), mut ways } = outcome else {
            return Err(self.emit.invalid("several ways, but none is chosen"));
        };
        let chosen = self.emit.int_scalar(at as i64, DType::I32)?;
        let condition = self.emit.binary(Binary::Equal, which, chosen)?;
        let way = ways.remove(at);
        let then = self.part("then", |cx| {
            let way = cx.adopt(way)?;
            let outcome = cx.advance(way, stops)?;
            cx.follow(outcome, stops)
        })?;
        let otherwise = self.part("otherwise", |cx| {
            if ways.len() == 1 {
                let way = cx.adopt(ways.remove(0))?;
                return Ok(Outcome { which: None, ways: vec![way] });
            }
            let which = cx.looked_up(which, without(at, ways.len() + 1))?;
            Ok(Outcome { which: Some(which), ways })
        })?;
        self.join(condition, then, otherwise)
    }

    /// Takes the only way that is left: parameters hold what they hold there.
    fn adopt(&mut self, mut way: Way) -> Result<Way> {
        for (parameter, value) in std::mem::take(&mut way.states) {
            if self.value_at(parameter, self.clock)? != value {
                self.write(parameter, value)?;
            }
        }
        let time = self.clock;
        way.values.iter_mut().for_each(|binding| binding.time = time);
        Ok(way)
    }

    fn open(&mut self) -> Result<Scope> {
        if self.scopes == MAX_NESTING {
            let reason = format!("they nest deeper than {MAX_NESTING}");
            return Err(self.emit.unsupported("branches and loops", reason));
        }
        self.scopes += 1;
        Ok(Scope {
            mark: self.emit.builder.mark(),
            clock: self.clock,
            floor: self.floor,
            bound: self.trail.len(),
            log: self.log.len(),
        })
    }

    /// Forgets names and writes of a part; its nodes stay.
    fn close(&mut self, scope: &Scope) {
        self.scopes -= 1;
        self.clock = scope.clock;
        self.floor = scope.floor;
        for (name, before) in self.trail.drain(scope.bound..).rev() {
            match before {
                Some(binding) => self.bindings.insert(name, binding),
                None => self.bindings.remove(name),
            };
        }
        for parameter in self.log.drain(scope.log..) {
            self.parameters[parameter].versions.pop();
        }
    }

    /// What a name stands for from now on, until the part that is being walked ends.
    pub(super) fn bind(&mut self, name: &'m str, binding: Binding) {
        let before = self.bindings.insert(name, binding);
        if self.scopes > 0 {
            self.trail.push((name, before));
        }
    }

    /// One of two items, by a condition that is only known when the model runs.
    pub(super) fn choice(&mut self, condition: &Item, then: Binding, otherwise: Binding) -> Result<Item> {
        let condition = self.condition(condition)?;
        let is_function = |item: &Item| matches!(item, Item::Function(_) | Item::Choice(_));
        if is_function(&then.item) && is_function(&otherwise.item) {
            return Ok(Item::Choice(Arc::new(Choice::new(condition, then.item, otherwise.item))));
        }
        let (then, otherwise) =
            (self.read(then.item, then.time)?, self.read(otherwise.item, otherwise.time)?);
        self.select(condition, then, otherwise)
    }

    /// One of two items of the same structure that are both there.
    fn select(&mut self, condition: ValueId, then: Item, otherwise: Item) -> Result<Item> {
        let one = |item: Item| [Binding { item, time: 0 }];
        let (then, otherwise) = (one(then), one(otherwise));
        if !leaves::same_pattern(&then, &otherwise) {
            return Err(self.emit.unsupported("control flow (Switch)", "its values differ in structure"));
        }
        let mut selected = Vec::new();
        for (a, b) in leaves::flatten(&then).into_iter().zip(leaves::flatten(&otherwise)) {
            if leaves::same(&a, &b) {
                selected.push(a);
                continue;
            }
            let (Some(a), Some(b)) = (self.emit.tensor(&a)?, self.emit.tensor(&b)?) else {
                let reason = format!("it chooses between a {} and a {}", a.kind(), b.kind());
                return Err(self.emit.unsupported("control flow (Switch)", reason));
            };
            selected.push(Item::Tensor(self.emit.op(Op::Select, &[condition, a, b])?));
        }
        let [selected] = &leaves::rebuild(&then, &mut selected.into_iter(), 0)[..] else {
            return Err(self.emit.invalid("nothing is chosen"));
        };
        Ok(selected.item.clone())
    }

    fn condition(&mut self, item: &Item) -> Result<ValueId> {
        let value = self.emit.tensor(item)?;
        let value = value.ok_or_else(|| self.emit.invalid(format!("a {} is no condition", item.kind())))?;
        let value = self.emit.cast(value, DType::Bool)?;
        self.emit.reshape(value, Vec::<Dim>::new())
    }
}

fn handed_over(closure: &Closure, operands: Vec<Binding>) -> Outcome {
    let values = closure.bound.iter().cloned().chain(operands).collect();
    Outcome::one(Target::Call(closure.graph), values)
}

/// The operation that looks a number up in a table, and the table.
fn table_lookup(emit: &Emitter, table: Vec<i32>) -> Result<(Op, Tensor)> {
    let len = table.len();
    let table = Tensor::from_vec(table, &[len]).map_err(|e| emit.invalid(e.to_string()))?;
    Ok((Op::Gather(Gather { axis: 0, batch_dims: 0 }), table))
}

/// Numbers of ways when way `at` is left out of `count`.
fn without(at: usize, count: usize) -> Vec<i32> {
    (0..count).map(|i| (i - usize::from(i > at)) as i32).collect()
}
