//! Where the two ways of a branch meet.

use std::collections::BTreeSet;

use mslite_tensor::{DType, Dim, Shape, Tensor, TensorSpec};

use super::super::item::{Binding, Item};
use super::super::walk::Importer;
use super::leaves::{flatten, rebuild, same, same_pattern};
use super::{Outcome, Scope, Target, Way, table_lookup};
use crate::Result;
use crate::ir::op::{If, Op};
use crate::ir::{Nested, ValueId};

/// One way of a branch, cut out.
#[derive(Debug)]
pub(super) struct Part {
    nested: Nested,
    outcome: Outcome,
    /// By way of the outcome.
    leaves: Vec<Vec<Leaf>>,
}

/// An item, and the tensor that stands for it where another one is needed.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) item: Item,
    pub(super) tensor: Option<ValueId>,
}

/// What a leaf is after the branch.
#[derive(Debug)]
pub(super) enum Joined {
    /// The same on both ways.
    Same(Item),
    /// A result of the branch, by number.
    Result(usize),
}

/// The results of the branch: what each way gives for it; zeros where a way does not come there.
type Results = Vec<[Option<Leaf>; 2]>;

impl<'m> Importer<'m> {
    /// Walks what `walk` says, and cuts it out.
    pub(super) fn part(
        &mut self,
        name: &str,
        walk: impl FnOnce(&mut Self) -> Result<Outcome>,
    ) -> Result<Part> {
        let scope = self.open()?;
        let (origin, active) = (self.emit.origin.clone(), self.active.len());
        let mut outcome = walk(self)?;
        let mut leaves = Vec::with_capacity(outcome.ways.len());
        for way in &outcome.ways {
            leaves.push(self.leaves(way)?);
        }
        self.complete(&mut outcome, &scope);
        self.active.truncate(active);
        self.emit.origin = origin;
        let nested = self.emit.builder.cut(scope.mark, name);
        self.close(&scope);
        Ok(Part { nested, outcome, leaves })
    }

    /// The leaves of a way's values.
    pub(super) fn leaves(&mut self, way: &Way) -> Result<Vec<Leaf>> {
        let leaf = |item: Item| Ok(Leaf { tensor: self.stand_in(&item)?, item });
        flatten(&way.values).into_iter().map(leaf).collect()
    }

    /// A tensor that stands for an item, if one does.
    pub(super) fn stand_in(&mut self, item: &Item) -> Result<Option<ValueId>> {
        match item {
            Item::Parameter(parameter) => self.value_at(*parameter, self.clock).map(Some),
            item => self.emit.tensor(item),
        }
    }

    /// Adds to each way what parameters hold that were written in a part, and not again on that way.
    pub(super) fn complete(&self, outcome: &mut Outcome, scope: &Scope) {
        let logged: BTreeSet<usize> = self.log[scope.log..].iter().copied().collect();
        for parameter in logged {
            let Some((since, value)) = self.parameters[parameter].versions.last() else { continue };
            if *since <= scope.clock {
                continue;
            }
            for way in &mut outcome.ways {
                if way.states.iter().all(|(i, _)| *i != parameter) {
                    way.states.push((parameter, *value));
                }
            }
        }
    }

    /// A branch with these ways.
    pub(super) fn join(&mut self, condition: ValueId, then: Part, otherwise: Part) -> Result<Outcome> {
        let mut parts = [then, otherwise];
        let targets: BTreeSet<Target> =
            parts.iter().flat_map(|part| part.outcome.ways.iter().map(|way| way.target)).collect();
        let targets: Vec<Target> = targets.into_iter().collect();
        let mut results = Results::new();
        let mut joined = Vec::with_capacity(targets.len());
        for &target in &targets {
            joined.push(self.join_way(&parts, target, &mut results)?);
        }
        let open = self.add_outputs(&mut parts, &results)?;
        if targets.len() > 1 {
            parts.iter_mut().try_for_each(|part| self.add_choice(part, &targets))?;
        }
        for result in &open {
            parts
                .iter_mut()
                .zip(&result.extents)
                .try_for_each(|(part, dims)| self.add_extents(part, dims))?;
        }
        let ([then, otherwise], mut operands) = (parts, vec![condition]);
        let ((then, captured), (otherwise, more)) = (then.nested.finish(), otherwise.nested.finish());
        operands.extend(captured.into_iter().chain(more));
        let op = Op::If(If { then, otherwise });
        let needed = targets.len() > 1 || !results.is_empty() || op.has_effect();
        let mut values = if needed { self.emit.push(op, &operands)? } else { Default::default() };
        let first = values.len() - open.len();
        for (i, result) in open.iter().enumerate() {
            let extents = values[first + i];
            values[result.number] = self.emit.cut_to(values[result.number], &result.axes, extents)?;
        }
        let ways = joined.into_iter().map(|way| way.resolve(&values, self.clock)).collect();
        let outcome = Outcome { which: values.get(results.len()).copied(), ways };
        self.settled(outcome)
    }

    /// Lets parameters hold what they hold on the only way, if there is one.
    pub(super) fn settled(&mut self, outcome: Outcome) -> Result<Outcome> {
        let Outcome { which, mut ways } = outcome;
        if ways.len() == 1 {
            let way = self.adopt(ways.remove(0))?;
            return Ok(Outcome { which: None, ways: vec![way] });
        }
        Ok(Outcome { which, ways })
    }

    fn join_way(&mut self, parts: &[Part; 2], target: Target, results: &mut Results) -> Result<JoinedWay> {
        let found = [0, 1].map(|side| parts[side].way(target));
        let pattern = match found {
            [Some((a, _)), Some((b, _))] if !same_pattern(&a.values, &b.values) => {
                return Err(self.emit.unsupported(
                    "control flow (Switch)",
                    "its ways give results of different structure; return the same kind of result on both",
                ));
            }
            [Some((way, _)), _] | [None, Some((way, _))] => way.values.clone(),
            [None, None] => Vec::new(),
        };
        let count = found.iter().flatten().map(|(_, leaves)| leaves.len()).max().unwrap_or(0);
        let mut leaves = Vec::with_capacity(count);
        for i in 0..count {
            let pair = found.map(|way| way.map(|(_, leaves)| leaves[i].clone()));
            leaves.push(self.join_leaf(parts, pair, results)?);
        }
        let parameters: BTreeSet<usize> =
            found.iter().flatten().flat_map(|(way, _)| way.states.iter().map(|(i, _)| *i)).collect();
        let mut states = Vec::with_capacity(parameters.len());
        for parameter in parameters {
            let mut pair = [None, None];
            for (side, way) in found.iter().enumerate() {
                let Some((way, _)) = way else { continue };
                let held = way.states.iter().find(|(i, _)| *i == parameter).map(|(_, value)| *value);
                let value = held.map_or_else(|| self.value_at(parameter, self.clock), Ok)?;
                pair[side] = Some(Leaf { item: Item::Tensor(value), tensor: Some(value) });
            }
            states.push((parameter, self.join_leaf(parts, pair, results)?));
        }
        Ok(JoinedWay { target, pattern, leaves, states })
    }

    fn join_leaf(&self, parts: &[Part; 2], pair: [Option<Leaf>; 2], results: &mut Results) -> Result<Joined> {
        let outside = |side: usize, leaf: &Leaf| match leaf.item {
            Item::Tensor(value) => parts[side].nested.is_around(value),
            _ => true,
        };
        match &pair {
            [Some(a), Some(b)] if outside(0, a) && outside(1, b) && same(&a.item, &b.item) => {
                return Ok(Joined::Same(a.item.clone()));
            }
            [Some(a), None] if outside(0, a) => return Ok(Joined::Same(a.item.clone())),
            [None, Some(b)] if outside(1, b) => return Ok(Joined::Same(b.item.clone())),
            _ => {}
        }
        if let Some(reason) = pair.iter().flatten().find_map(|leaf| self.read_too_early(&leaf.item)) {
            return Err(self.emit.unsupported("control flow (Switch)", reason));
        }
        if let Some(leaf) = pair.iter().flatten().find(|leaf| leaf.tensor.is_none()) {
            let reason = format!("its ways give a {} where they differ", leaf.item.kind());
            return Err(self.emit.unsupported("control flow (Switch)", reason));
        }
        results.push(pair);
        Ok(Joined::Result(results.len() - 1))
    }

    /// Why an item cannot be replaced by what it holds now, if so.
    pub(super) fn read_too_early(&self, item: &Item) -> Option<String> {
        let Item::Parameter(parameter) = *item else { return None };
        let name = self.model.graph.parameters.get(parameter).map_or("a tensor", |p| &*p.name);
        self.is_written(parameter).then(|| {
            format!("it chooses among parameters, and {name} is written; choose among their values instead")
        })
    }

    /// Adds the outputs of both ways: zeros where one does not come. Gives those whose extents depend on the way; they
    /// have zeros behind their elements.
    fn add_outputs(&self, parts: &mut [Part; 2], results: &Results) -> Result<Vec<OpenResult>> {
        let (around, origin) = (self.emit.builder.graph(), &self.emit.origin);
        let mut open = Vec::new();
        for (number, pair) in results.iter().enumerate() {
            let mut values = [None, None];
            for (side, leaf) in pair.iter().enumerate() {
                let value = leaf.as_ref().and_then(|leaf| leaf.tensor);
                values[side] = value.map(|value| parts[side].nested.read(around, value));
            }
            let spec = |side: usize| values[side].map(|value| parts[side].nested.graph().spec(value).clone());
            let specs = [spec(0), spec(1)];
            let result = self.open_result(number, parts, &specs);
            let spec = match &result {
                Some(result) => result.spec.clone(),
                None => self.common_spec(pair, specs)?,
            };
            for (part, value) in parts.iter_mut().zip(values) {
                let value = match value {
                    Some(value) => part.nested.cast(value, spec.dtype, origin)?,
                    None => part.nested.zeros(&spec, origin)?,
                };
                let value = part.nested.padded(value, &spec, origin)?;
                part.nested.output(value);
            }
            open.extend(result);
        }
        Ok(open)
    }

    /// A result of one type and number of axes whose extents depend on the way.
    fn open_result(
        &self,
        number: usize,
        parts: &[Part; 2],
        specs: &[Option<TensorSpec>; 2],
    ) -> Option<OpenResult> {
        let known = specs.iter().flatten().next()?;
        let rank = known.shape.rank()?;
        if specs.iter().flatten().any(|s| s.dtype != known.dtype || s.shape.rank() != Some(rank)) {
            return None;
        }
        let mut room: Option<Vec<Dim>> = None;
        let mut extents = [0, 1].map(|_| vec![Dim::from(0); rank]);
        let mut differs = vec![false; rank];
        for (side, spec) in specs.iter().enumerate() {
            let Some(dims) = spec.as_ref().and_then(|spec| spec.shape.dims()) else { continue };
            let inner = parts[side].nested.graph().bound_symbols();
            let most: Vec<Dim> = dims.iter().map(|dim| self.emit.most(dim, &inner)).collect::<Option<_>>()?;
            for (axis, (dim, most)) in dims.iter().zip(&most).enumerate() {
                differs[axis] |= dim != most || room.as_ref().is_some_and(|room| room[axis] != *most);
            }
            room = Some(match room {
                Some(room) => room.iter().zip(&most).map(|(a, b)| a.maximum(b)).collect(),
                None => most,
            });
            extents[side] = dims.to_vec();
        }
        let axes: Vec<usize> = (0..rank).filter(|&axis| differs[axis]).collect();
        let along = |dims: Vec<Dim>| axes.iter().map(|&axis| dims[axis].clone()).collect();
        let extents = extents.map(along);
        let spec = TensorSpec::new(known.dtype, Shape::ranked(room?));
        (!axes.is_empty()).then_some(OpenResult { number, spec, axes, extents })
    }

    /// Adds the output that says how large a result is.
    fn add_extents(&self, part: &mut Part, dims: &[Dim]) -> Result<()> {
        let extents = part.nested.push1(Op::Extents(dims.to_vec()), &[], &self.emit.origin)?;
        part.nested.output(extents);
        Ok(())
    }

    /// The type that both ways give: that of the tensor where the other one is a number that it can hold.
    fn common_spec(&self, pair: &[Option<Leaf>; 2], specs: [Option<TensorSpec>; 2]) -> Result<TensorSpec> {
        let [a, b] = match specs {
            [Some(a), Some(b)] => [a, b],
            [Some(spec), None] | [None, Some(spec)] => return Ok(spec),
            [None, None] => return Err(self.emit.invalid("a result of no way")),
        };
        if a == b {
            return Ok(a);
        }
        let is_number = |side: usize| {
            pair[side].as_ref().is_some_and(|leaf| !matches!(leaf.item, Item::Tensor(_) | Item::Parameter(_)))
        };
        let holds = |tensor: DType, number: DType| {
            tensor == number || tensor.is_float() || (tensor.is_int() && !number.is_float())
        };
        match (is_number(0), is_number(1)) {
            _ if a.shape != b.shape => {}
            (_, true) if holds(a.dtype, b.dtype) => return Ok(a),
            (true, _) if holds(b.dtype, a.dtype) => return Ok(b),
            _ => {}
        }
        Err(self.emit.unsupported(
            "control flow (Switch)",
            format!("one way gives {a}, the other {b}; give results of one shape and type on both"),
        ))
    }

    /// Adds the output that says which way is taken.
    fn add_choice(&self, part: &mut Part, targets: &[Target]) -> Result<()> {
        let number = |way: &Way| targets.iter().position(|target| *target == way.target).unwrap_or_default();
        let numbers: Vec<i32> = part.outcome.ways.iter().map(|way| number(way) as i32).collect();
        let value = match part.outcome.which {
            None => part.nested.constant(Tensor::scalar(numbers[0])),
            Some(which) => {
                let which = part.nested.read(self.emit.builder.graph(), which);
                let (op, table) = table_lookup(&self.emit, numbers)?;
                let table = part.nested.constant(table);
                part.nested.push1(op, &[table, which], &self.emit.origin)?
            }
        };
        part.nested.output(value);
        Ok(())
    }
}

/// A result of a branch whose extents depend on the way.
#[derive(Debug)]
struct OpenResult {
    number: usize,
    /// The type that has room for both.
    spec: TensorSpec,
    /// Axes along which the ways differ.
    axes: Vec<usize>,
    /// The extents along these axes, by way.
    extents: [Vec<Dim>; 2],
}

impl Part {
    fn way(&self, target: Target) -> Option<(&Way, &[Leaf])> {
        let at = self.outcome.ways.iter().position(|way| way.target == target)?;
        Some((&self.outcome.ways[at], &self.leaves[at]))
    }
}

/// A way after the branch, in terms of the branch's results.
#[derive(Debug)]
pub(super) struct JoinedWay {
    pub(super) target: Target,
    pub(super) pattern: Vec<Binding>,
    pub(super) leaves: Vec<Joined>,
    pub(super) states: Vec<(usize, Joined)>,
}

impl JoinedWay {
    /// The way, given the results.
    pub(super) fn resolve(self, results: &[ValueId], time: u64) -> Way {
        let item = |joined: Joined| match joined {
            Joined::Same(item) => item,
            Joined::Result(n) => Item::Tensor(results[n]),
        };
        let mut leaves = self.leaves.into_iter().map(item);
        let values = rebuild(&self.pattern, &mut leaves, time);
        let states = self.states.into_iter().filter_map(|(parameter, joined)| match item(joined) {
            Item::Tensor(value) => Some((parameter, value)),
            _ => None,
        });
        Way { target: self.target, values, states: states.collect() }
    }
}
