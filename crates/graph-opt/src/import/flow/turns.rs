//! Functions that ways lead back to.

use std::collections::{BTreeMap, BTreeSet};

use mslite_tensor::{DType, TensorSpec};

use super::super::item::{Binding, Item};
use super::super::walk::Importer;
use super::join::{Joined, JoinedWay, Leaf};
use super::leaves::{flatten, rebuild, same, same_pattern};
use super::{Outcome, Scope, Target, table_lookup, without};
use crate::ir::ValueId;
use crate::ir::op::{Binary, Loop, Op};
use crate::{Error, Result};

/// What changes from turn to turn.
#[derive(Debug, Default)]
struct Carried {
    /// Leaves of the arguments, by position.
    leaves: BTreeMap<usize, TensorSpec>,
    /// Parameters.
    states: BTreeSet<usize>,
}

/// A turn that has been walked, before it is cut out.
struct Turn {
    /// Number of the function.
    function: usize,
    scope: Scope,
    outcome: Outcome,
    leaves: Vec<Vec<Leaf>>,
    /// Which way leads back.
    again: usize,
}

impl<'m> Importer<'m> {
    /// Walks a function that ways lead back to, until all ways come to `stops` or to what follows the loop.
    ///
    /// What changes from turn to turn is found by walking the function: first as if nothing did, then again with
    /// what has come back changed, until nothing more does.
    pub(super) fn turns(
        &mut self,
        function: usize,
        arguments: Vec<Binding>,
        stops: &[usize],
    ) -> Result<Outcome> {
        let within: Vec<usize> =
            stops.iter().copied().chain([function]).chain(self.tails.merge(function)).collect();
        let mut carried = Carried::default();
        loop {
            let Some(turn) = self.turn(function, &arguments, &carried, &within)? else {
                return self.enter(function, arguments, stops);
            };
            if !self.extend(&mut carried, &turn, &arguments)? {
                return self.repeat(turn, &carried, &arguments);
            }
            self.emit.builder.rewind(turn.scope.mark);
            self.close(&turn.scope);
        }
    }

    /// One turn; nothing if it does not come back.
    fn turn(
        &mut self,
        function: usize,
        arguments: &[Binding],
        carried: &Carried,
        within: &[usize],
    ) -> Result<Option<Turn>> {
        let scope = self.open()?;
        let (origin, active) = (self.emit.origin.clone(), self.active.len());
        let arguments = self.carry(arguments, carried)?;
        let outcome = self.enter(function, arguments, within)?;
        let mut outcome = self.follow(outcome, within)?;
        self.active.truncate(active);
        self.emit.origin = origin;
        self.complete(&mut outcome, &scope);
        let Some(again) = outcome.ways.iter().position(|way| way.target == Target::Call(function)) else {
            self.emit.builder.rewind(scope.mark);
            self.close(&scope);
            return Ok(None);
        };
        let leaves = outcome.ways.iter().map(|way| self.leaves(way)).collect::<Result<_>>()?;
        Ok(Some(Turn { function, scope, outcome, leaves, again }))
    }

    /// The arguments of a turn: inputs for what changes.
    fn carry(&mut self, arguments: &[Binding], carried: &Carried) -> Result<Vec<Binding>> {
        let mut leaves = flatten(arguments);
        for (number, (&at, spec)) in carried.leaves.iter().enumerate() {
            let input = self.emit.builder.input(format!("carried{}", number + 1), spec.clone());
            leaves[at] = Item::Tensor(input);
        }
        for &parameter in &carried.states {
            let held = self.value_at(parameter, self.clock)?;
            let spec = self.emit.spec(held).clone();
            let input = self.emit.builder.input(format!("state{}", parameter + 1), spec);
            self.clock += 1;
            self.push_version(parameter, self.clock, input);
        }
        self.floor = self.clock;
        Ok(rebuild(arguments, &mut leaves.into_iter(), self.clock))
    }

    /// Adds what has come back changed; whether anything has.
    fn extend(&mut self, carried: &mut Carried, turn: &Turn, arguments: &[Binding]) -> Result<bool> {
        let again = &turn.outcome.ways[turn.again];
        if !same_pattern(&again.values, arguments) {
            return Err(self.no_loop(turn.function, "what is carried changes its structure"));
        }
        let before = (carried.leaves.len(), carried.states.len());
        for (at, (first, next)) in flatten(arguments).iter().zip(&turn.leaves[turn.again]).enumerate() {
            if !carried.leaves.contains_key(&at) && !same(first, &next.item) {
                let spec = self.carried_spec(turn.function, first, next)?;
                carried.leaves.insert(at, spec);
            }
        }
        for &(parameter, value) in &again.states {
            if !turn.scope.mark.is_behind(value) {
                carried.states.insert(parameter);
            }
        }
        Ok((carried.leaves.len(), carried.states.len()) != before)
    }

    fn carried_spec(&self, function: usize, first: &Item, next: &Leaf) -> Result<TensorSpec> {
        let refuse = |reason: String| Err(self.no_loop(function, reason));
        if let Some(reason) = [first, &next.item].into_iter().find_map(|item| self.read_too_early(item)) {
            return refuse(reason);
        }
        let Some(value) = next.tensor else {
            return refuse(format!("a {} changes from turn to turn", next.item.kind()));
        };
        let spec = self.emit.spec(value).clone();
        match first {
            Item::Tensor(first) if *self.emit.spec(*first) != spec => {
                refuse(format!("a value is {} in the first turn and then {spec}", self.emit.spec(*first)))
            }
            Item::Float(_) if !spec.dtype.is_float() => refuse(format!("a number becomes {spec}")),
            Item::Int(_) | Item::Float(_) | Item::Bool(_) if spec.shape.rank() != Some(0) => {
                refuse(format!("a number becomes {spec}"))
            }
            _ => Ok(spec),
        }
    }

    /// Cuts a turn out and repeats it.
    fn repeat(&mut self, turn: Turn, carried: &Carried, arguments: &[Binding]) -> Result<Outcome> {
        let Turn { function, scope, outcome, leaves, again } = turn;
        let Some(which) = outcome.which else {
            return Err(self.no_loop(function, "it never ends"));
        };
        let number = self.emit.int_scalar(again as i64, DType::I32)?;
        let mut outputs = vec![self.emit.binary(Binary::Equal, which, number)?];
        outputs.extend(self.carried_on(&outcome, &leaves, again, carried)?);
        let mut exits = Vec::new();
        let mut results = Vec::new();
        for (at, way) in outcome.ways.iter().enumerate().filter(|(at, _)| *at != again) {
            let mut keep = |item: &Item, value: Option<ValueId>| match (item, value) {
                (Item::Tensor(x), _) if scope.mark.is_behind(*x) => Joined::Same(item.clone()),
                (Item::Tensor(_), Some(value)) => {
                    results.push(value);
                    Joined::Result(results.len() - 1)
                }
                _ => Joined::Same(item.clone()),
            };
            exits.push(JoinedWay {
                target: way.target,
                pattern: way.values.clone(),
                leaves: leaves[at].iter().map(|leaf| keep(&leaf.item, leaf.tensor)).collect(),
                states: way.states.iter().map(|&(i, x)| (i, keep(&Item::Tensor(x), Some(x)))).collect(),
            });
        }
        if exits.len() > 1 {
            results.push(self.looked_up(which, without(again, exits.len() + 1))?);
        }
        let count = outputs.len() - 1;
        let body_outputs: Vec<ValueId> = outputs.into_iter().chain(results).collect();
        let mut nested = self.emit.builder.cut(scope.mark, "body");
        self.close(&scope);
        for value in body_outputs {
            let value = nested.read(self.emit.builder.graph(), value);
            nested.output(value);
        }
        let (body, captured) = nested.finish();
        let mut operands = self.first_values(arguments, carried)?;
        operands.extend(captured);
        let values = self.emit.push(Op::Loop(Loop { body, carried: count }), &operands)?;
        let which = (exits.len() > 1).then(|| values[values.len() - 1]);
        let ways = exits.into_iter().map(|exit| exit.resolve(&values, self.clock)).collect();
        self.settled(Outcome { which, ways })
    }

    /// What is carried into the next turn.
    fn carried_on(
        &mut self,
        outcome: &Outcome,
        leaves: &[Vec<Leaf>],
        again: usize,
        carried: &Carried,
    ) -> Result<Vec<ValueId>> {
        let mut values = Vec::new();
        for (&at, spec) in &carried.leaves {
            let leaf = &leaves[again][at];
            let value = leaf.tensor.ok_or_else(|| self.no_tensor(&leaf.item))?;
            values.push(self.emit.cast(value, spec.dtype)?);
        }
        for parameter in &carried.states {
            let states = &outcome.ways[again].states;
            match states.iter().find(|(i, _)| i == parameter) {
                Some((_, value)) => values.push(*value),
                None => values.push(self.value_at(*parameter, self.clock)?),
            }
        }
        Ok(values)
    }

    /// What is carried into the first turn.
    fn first_values(&mut self, arguments: &[Binding], carried: &Carried) -> Result<Vec<ValueId>> {
        let leaves = flatten(arguments);
        let mut values = Vec::new();
        for (&at, spec) in &carried.leaves {
            let value = self.stand_in(&leaves[at])?;
            let value = value.ok_or_else(|| self.no_tensor(&leaves[at]))?;
            values.push(self.emit.cast(value, spec.dtype)?);
        }
        for &parameter in &carried.states {
            values.push(self.value_at(parameter, self.clock)?);
        }
        Ok(values)
    }

    fn no_loop(&self, function: usize, reason: impl Into<String>) -> Error {
        let name = self.model.graph_at(function).map_or("", |graph| &*graph.name);
        self.emit.unsupported(&format!("the loop through function {name}"), reason)
    }

    fn no_tensor(&self, item: &Item) -> Error {
        self.emit.unsupported("a loop", format!("a {} changes from turn to turn", item.kind()))
    }

    /// A number looked up in a table.
    pub(super) fn looked_up(&mut self, which: ValueId, table: Vec<i32>) -> Result<ValueId> {
        let (op, table) = table_lookup(&self.emit, table)?;
        let table = self.emit.builder.constant("", table);
        self.emit.op(op, &[table, which])
    }
}
