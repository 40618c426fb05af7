//! What a run does for given extents: which kernels, in which order, on which memory.

use mslite_graph_opt::ir::Def;
use mslite_graph_opt::{Graph, NodeId, ValueId};
use mslite_runtime::memory::{Lifetime, plan};
use mslite_runtime::{Error, ErrorKind, Groups, Result};
use mslite_tensor::Bindings;

use crate::arena::{Operands, Place};
use crate::constants::Constants;
use crate::execution::Compiled;
use crate::kernels::{self, BoxKernel, Build, Type};

/// Where the values of a region's inputs come from: the caller, or the constants.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    Input(usize),
    Constant(usize),
}

/// The table of memory that places refer to: the arena, then constants, then inputs, then outputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bases {
    pub(crate) constants: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}

impl Bases {
    pub(crate) fn new(constants: usize, inputs: usize) -> Self {
        Bases { constants: 1, inputs: 1 + constants, outputs: 1 + constants + inputs }
    }
}

/// What a run does.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// Bytes of the arena.
    pub(crate) arena: usize,
    /// Types of the outputs.
    pub(crate) outputs: Vec<Type>,
}

/// One kernel and where it works.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) kernel: BoxKernel,
    pub(crate) operands: Operands,
    /// The node, or none for a copy to an output.
    pub(crate) node: Option<NodeId>,
}

/// What a plan is made from.
#[derive(Debug)]
pub(crate) struct Planner<'a> {
    /// The region with fixed extents, in which constants are inputs.
    pub(crate) graph: &'a Graph,
    pub(crate) sources: &'a [Source],
    pub(crate) constants: &'a Constants,
    pub(crate) bases: Bases,
    pub(crate) groups: &'a Groups,
    /// By node: the graphs inside its operation.
    pub(crate) bodies: &'a [Vec<Compiled>],
    /// Values of symbols.
    pub(crate) bindings: &'a Bindings,
    pub(crate) threads: usize,
}

impl Planner<'_> {
    /// Builds the kernels and lays the values out.
    ///
    /// # Errors
    /// Those of building kernels; `OutOfMemory` for values that are too large.
    pub(crate) fn plan(&self) -> Result<Plan> {
        let specs = self.graph.values().map(|(_, value)| Type::of(&value.spec));
        let types: Vec<Type> = specs.collect::<Result<_>>()?;
        let aliases = self.aliases(&types);
        let work = self.kernels(&types, &aliases)?;
        let mut homes = Homes::new(self, &types, &aliases);
        homes.lay_out(self, &types, &aliases, &work);
        let mut steps = Vec::with_capacity(work.len());
        for (at, (node, kernel)) in work.into_iter().enumerate() {
            let place = |value: &ValueId| homes.place(&aliases, &types, *value);
            let operands = self.graph.node(node).operands.iter().map(place).collect();
            let results = self.graph.node(node).results.iter().map(place).collect();
            let operands = Operands::new(operands, results, homes.scratch[at])?;
            steps.push(Step { kernel, operands, node: Some(node) });
        }
        self.copy_outputs(&homes, &types, &aliases, &mut steps)?;
        let outputs = self.graph.outputs().iter().map(|port| types[port.value.index()].clone()).collect();
        Ok(Plan { steps, arena: homes.arena, outputs })
    }

    /// For each value, the value whose bytes it shares (perhaps itself), and where among them it starts.
    fn aliases(&self, types: &[Type]) -> Vec<(ValueId, usize)> {
        let mut aliases: Vec<(ValueId, usize)> = self.graph.values().map(|(id, _)| (id, 0)).collect();
        for (_, node) in self.graph.nodes() {
            let (Some(&x), Some(&y)) = (node.operands.first(), node.results.first()) else { continue };
            if let Some(offset) = kernels::alias_offset(&node.op, &types[x.index()], &types[y.index()]) {
                let (root, start) = aliases[x.index()];
                aliases[y.index()] = (root, start + offset);
            }
        }
        aliases
    }

    /// The kernels of the nodes that need one.
    fn kernels(&self, types: &[Type], aliases: &[(ValueId, usize)]) -> Result<Vec<(NodeId, BoxKernel)>> {
        let mut work = Vec::new();
        for (id, node) in self.graph.nodes() {
            let is_alias = node.results.first().is_some_and(|y| aliases[y.index()].0 != *y);
            if is_alias {
                continue;
            }
            let of = |values: &[ValueId]| values.iter().map(|v| types[v.index()].clone()).collect::<Vec<_>>();
            let (inputs, outputs) = (of(&node.operands), of(&node.results));
            let cx = Build {
                inputs: &inputs,
                outputs: &outputs,
                weights: self.constants.packed(id.index()),
                groups: self.groups,
                bodies: &self.bodies[id.index()],
                bindings: self.bindings,
            };
            let kernel = kernels::build(&node.op, &cx);
            work.push((id, kernel.map_err(|e| e.with("node", &node.origin).with("op", node.op.name()))?));
        }
        Ok(work)
    }

    /// Copies the outputs whose values live elsewhere.
    fn copy_outputs(
        &self,
        homes: &Homes,
        types: &[Type],
        aliases: &[(ValueId, usize)],
        steps: &mut Vec<Step>,
    ) -> Result<()> {
        let nothing = Place { base: 0, offset: 0, len: 0 };
        for (i, port) in self.graph.outputs().iter().enumerate() {
            let from = homes.place(aliases, types, port.value);
            let to = Place { base: self.bases.outputs + i, offset: 0, len: from.len };
            if from != to {
                let operands = Operands::new(vec![from], vec![to], nothing)?;
                steps.push(Step { kernel: kernels::whole_copy(), operands, node: None });
            }
        }
        Ok(())
    }
}

/// Where values live.
struct Homes {
    /// By value: where its bytes start, unless it shares those of another.
    starts: Vec<Option<Place>>,
    /// By step.
    scratch: Vec<Place>,
    arena: usize,
}

impl Homes {
    /// Values that live outside the arena.
    fn new(planner: &Planner<'_>, types: &[Type], aliases: &[(ValueId, usize)]) -> Self {
        let mut starts = vec![None; types.len()];
        for (id, value) in planner.graph.values() {
            if let Def::Input(n) = value.def {
                let base = match planner.sources[n] {
                    Source::Input(i) => planner.bases.inputs + i,
                    Source::Constant(i) => planner.bases.constants + i,
                };
                starts[id.index()] = Some(Place { base, offset: 0, len: types[id.index()].bytes() });
            }
        }
        for (i, port) in planner.graph.outputs().iter().enumerate() {
            let (root, start) = aliases[port.value.index()];
            let len = types[port.value.index()].bytes();
            let whole = start == 0 && len == types[root.index()].bytes();
            if whole && starts[root.index()].is_none() {
                starts[root.index()] = Some(Place { base: planner.bases.outputs + i, offset: 0, len });
            }
        }
        Homes { starts, scratch: Vec::new(), arena: 0 }
    }

    /// Gives every other value, and the scratch memory of every step, a place in the arena.
    fn lay_out(
        &mut self,
        planner: &Planner<'_>,
        types: &[Type],
        aliases: &[(ValueId, usize)],
        work: &[(NodeId, BoxKernel)],
    ) {
        let last = last_reads(planner.graph, aliases, work);
        let mut lifetimes = Vec::new();
        let mut owners = Vec::new();
        for (first, (node, kernel)) in work.iter().enumerate() {
            for &value in &planner.graph.node(*node).results {
                if self.starts[value.index()].is_none() {
                    let size = types[value.index()].bytes();
                    lifetimes.push(Lifetime { size, first, last: last[value.index()].max(first) });
                    owners.push(Some(value));
                }
            }
            let size = kernel.scratch(planner.threads);
            lifetimes.push(Lifetime { size, first, last: first });
            owners.push(None);
        }
        let layout = plan(&lifetimes);
        for ((owner, lifetime), offset) in owners.into_iter().zip(&lifetimes).zip(layout.offsets) {
            let place = Place { base: 0, offset, len: lifetime.size };
            match owner {
                Some(value) => self.starts[value.index()] = Some(place),
                None => self.scratch.push(place),
            }
        }
        self.arena = layout.size;
    }

    fn place(&self, aliases: &[(ValueId, usize)], types: &[Type], value: ValueId) -> Place {
        let (root, start) = aliases[value.index()];
        let home = self.starts[root.index()].unwrap_or(Place { base: 0, offset: 0, len: 0 });
        Place { base: home.base, offset: home.offset + start, len: types[value.index()].bytes() }
    }
}

/// By value: the last step that reads it, or anything that shares its bytes. Outputs are read after all steps.
fn last_reads(graph: &Graph, aliases: &[(ValueId, usize)], work: &[(NodeId, BoxKernel)]) -> Vec<usize> {
    let mut last = vec![0; aliases.len()];
    for (step, (node, _)) in work.iter().enumerate() {
        for operand in &graph.node(*node).operands {
            last[aliases[operand.index()].0.index()] = step;
        }
    }
    for port in graph.outputs() {
        last[aliases[port.value.index()].0.index()] = work.len();
    }
    last
}

/// # Errors
/// `Internal` for a graph with states.
pub(crate) fn check_stateless(graph: &Graph) -> Result<()> {
    if graph.states().is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Internal, "a region has states; the session keeps them, not the backend"))
}
