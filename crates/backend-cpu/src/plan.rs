//! What a run does for given extents: which kernels, in which order, on which memory.

use mslite_graph_opt::ir::Def;
use mslite_graph_opt::{Graph, NodeId, Op, ValueId};
use mslite_runtime::memory::{self, Lifetime, MemoryUsage};
use mslite_runtime::{Error, ErrorKind, Groups, Result};
use mslite_tensor::Bindings;

use crate::arena::Operands;
use crate::buffers::{Buffers, Piece};
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
    /// What the arena takes.
    pub(crate) usage: MemoryUsage,
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

/// A kernel, and the pieces of memory that it reads and writes.
#[derive(Debug)]
struct Work {
    kernel: BoxKernel,
    /// The node, or none for a copy to an output.
    node: Option<NodeId>,
    reads: Vec<Piece>,
    writes: Vec<Piece>,
    scratch: Piece,
    /// The operand in whose memory the first result lies.
    in_place: Option<usize>,
}

impl Planner<'_> {
    /// Builds the kernels and lays the values out.
    ///
    /// # Errors
    /// Those of building kernels; `OutOfMemory` for values that are too large.
    pub(crate) fn plan(&self) -> Result<Plan> {
        let specs = self.graph.values().map(|(_, value)| Type::of(&value.spec));
        let types: Vec<Type> = specs.collect::<Result<_>>()?;
        let mut draft = Draft { planner: self, buffers: Buffers::default(), work: Vec::new(), started: None };
        draft.settle_inputs(&types);
        for (id, _) in self.graph.nodes() {
            draft.add_node(id, &types)?;
        }
        draft.finish_started();
        draft.settle_outputs();
        let usage = draft.lay_out()?;
        let outputs = self.graph.outputs().iter().map(|port| types[port.value.index()].clone()).collect();
        Ok(Plan { steps: draft.steps()?, usage, outputs })
    }

    fn kernel(&self, id: NodeId, types: &[Type]) -> Result<BoxKernel> {
        let node = self.graph.node(id);
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
        kernels::build(&node.op, &cx).map_err(|e| e.with("node", &node.origin).with("op", node.op.name()))
    }
}

/// A plan in the making. The first pieces of memory are the values of the graph, by their numbers.
#[derive(Debug)]
struct Draft<'a> {
    planner: &'a Planner<'a>,
    buffers: Buffers,
    work: Vec<Work>,
    /// An exchange that was started.
    started: Option<Started>,
}

/// An exchange that others need not wait for, and this rank only where it reads the result.
#[derive(Debug)]
struct Started {
    kernel: BoxKernel,
    node: NodeId,
    operand: Piece,
    result: Piece,
    /// The step that starts it.
    step: usize,
}

impl Draft<'_> {
    /// A buffer for each value; inputs lie outside the arena.
    fn settle_inputs(&mut self, types: &[Type]) {
        let bases = self.planner.bases;
        for (id, value) in self.planner.graph.values() {
            let piece = self.buffers.push(types[id.index()].bytes());
            if let Def::Input(n) = value.def {
                let base = match self.planner.sources[n] {
                    Source::Input(i) => bases.inputs + i,
                    Source::Constant(i) => bases.constants + i,
                };
                self.buffers.settle(piece, base, 0);
            }
        }
    }

    /// The work of a node, unless its result is in memory without any.
    fn add_node(&mut self, id: NodeId, types: &[Type]) -> Result<()> {
        let node = self.planner.graph.node(id);
        let pieces = |values: &[ValueId]| values.iter().map(|v| v.index()).collect::<Vec<Piece>>();
        let (reads, writes) = (pieces(&node.operands), pieces(&node.results));
        let ends = reads.first().copied().zip(writes.first().copied());
        let view =
            ends.and_then(|(x, y)| Some((x, y, kernels::alias_offset(&node.op, &types[x], &types[y])?)));
        if let Some((x, y, offset)) = view {
            self.buffers.join(y, x, offset);
            return Ok(());
        }
        self.finish_before(&node.op, &reads);
        if let Some((_, y)) = ends.filter(|(_, y)| kernels::is_stack(&node.op, &types[*y])) {
            self.stack(id, &reads, y);
            return Ok(());
        }
        let kernel = self.planner.kernel(id, types)?;
        match (&node.op, &reads[..], &writes[..]) {
            (Op::Collective(exchange), &[operand], &[result]) => {
                let start = kernels::start(exchange, &types[operand], self.planner.groups)?;
                self.started = Some(Started { kernel, node: id, operand, result, step: self.work.len() });
                self.push(start, Some(id), reads, Vec::new());
            }
            _ => self.push(kernel, Some(id), reads, writes),
        }
        Ok(())
    }

    /// Finishes an exchange before its result is read, and before the next effect.
    fn finish_before(&mut self, op: &Op, reads: &[Piece]) {
        let Some(result) = self.started.as_ref().map(|started| started.result) else { return };
        let buffer = self.buffers.find(result).0;
        if op.has_effect() || reads.iter().any(|&read| self.buffers.find(read).0 == buffer) {
            self.finish_started();
        }
    }

    /// Finishes an exchange that was started; if nothing has come between, in one step.
    fn finish_started(&mut self) {
        let Some(Started { kernel, node, operand, result, step }) = self.started.take() else { return };
        if step + 1 == self.work.len() {
            self.work.truncate(step);
        }
        self.push(kernel, Some(node), vec![operand], vec![result]);
    }

    /// Operands that lie behind each other in the result: those that fill a buffer of the arena are computed there,
    /// the others are copied.
    fn stack(&mut self, id: NodeId, operands: &[Piece], result: Piece) {
        let mut at = 0;
        for &operand in operands {
            let size = self.buffers.size(operand);
            let own = self.buffers.filled_free(operand).filter(|&buffer| buffer != result);
            if let Some(buffer) = own {
                self.buffers.join(buffer, result, at);
            } else if size > 0 {
                let part = self.buffers.push_part(result, at, size);
                self.push(kernels::whole_copy(), Some(id), vec![operand], vec![part]);
            }
            at += size;
        }
    }

    /// Outputs are computed in the caller's memory, or copied to it if their values live elsewhere.
    fn settle_outputs(&mut self) {
        for (i, port) in self.planner.graph.outputs().iter().enumerate() {
            let value = port.value.index();
            let base = self.planner.bases.outputs + i;
            if let Some(buffer) = self.buffers.filled_free(value) {
                self.buffers.settle(buffer, base, 0);
                continue;
            }
            let output = self.buffers.push(self.buffers.size(value));
            self.buffers.settle(output, base, 0);
            self.push(kernels::whole_copy(), None, vec![value], vec![output]);
        }
    }

    fn push(&mut self, kernel: BoxKernel, node: Option<NodeId>, reads: Vec<Piece>, writes: Vec<Piece>) {
        let scratch = self.buffers.push(kernel.scratch(self.planner.threads));
        self.work.push(Work { kernel, node, reads, writes, scratch, in_place: None });
    }

    /// Gives everything that has no home yet a place in the arena.
    fn lay_out(&mut self) -> Result<MemoryUsage> {
        let mut lives = self.lives();
        self.reuse_operands(&mut lives);
        let (mut owners, mut lifetimes) = (Vec::new(), Vec::new());
        for (buffer, life) in lives.iter().enumerate() {
            if let Some((first, last)) = life.filter(|_| self.buffers.is_free(buffer)) {
                owners.push(buffer);
                lifetimes.push(Lifetime { size: self.buffers.size(buffer), first, last });
            }
        }
        let layout = memory::plan(&lifetimes)?;
        for (buffer, offset) in owners.into_iter().zip(layout.offsets) {
            self.buffers.settle(buffer, 0, offset);
        }
        Ok(MemoryUsage { arena: layout.size, lower_bound: layout.lower_bound })
    }

    /// By buffer: the first and the last step that uses it, if any does.
    fn lives(&mut self) -> Vec<Option<(usize, usize)>> {
        let mut lives: Vec<Option<(usize, usize)>> = vec![None; self.buffers.count()];
        for (step, work) in self.work.iter().enumerate() {
            for &piece in work.reads.iter().chain(&work.writes).chain([&work.scratch]) {
                let life = &mut lives[self.buffers.find(piece).0];
                *life = Some((life.map_or(step, |(first, _)| first), step));
            }
        }
        lives
    }

    /// Puts results into the memory of operands that nobody reads later, where kernels can do with that.
    fn reuse_operands(&mut self, lives: &mut [Option<(usize, usize)>]) {
        for step in 0..self.work.len() {
            let Some((operand, from, to)) = self.reusable(step, lives) else { continue };
            self.work[step].in_place = Some(operand);
            let life = lives[from].zip(lives[to]).map(|((first, _), (_, last))| (first, last));
            let (inner, outer) = if self.buffers.is_free(to) { (to, from) } else { (from, to) };
            self.buffers.join(inner, outer, 0);
            (lives[inner], lives[outer]) = (None, life);
        }
    }

    /// An operand of a step that ends there, its buffer, and the buffer of the first result, which begins there.
    fn reusable(&mut self, step: usize, lives: &[Option<(usize, usize)>]) -> Option<(usize, Piece, Piece)> {
        let Draft { buffers, work, .. } = self;
        let Work { kernel, reads, writes, .. } = &work[step];
        let to = buffers.filled(*writes.first()?)?;
        if lives[to].is_none_or(|(first, _)| first != step) {
            return None;
        }
        (0..reads.len()).filter(|&operand| kernel.in_place(operand)).find_map(|operand| {
            let from = buffers.filled_free(reads[operand])?;
            let ends = lives[from].is_some_and(|(_, last)| last == step);
            let fits = from != to && buffers.size(from) == buffers.size(to);
            let alone = reads.iter().filter(|&&read| buffers.find(read).0 == from).count() == 1;
            (ends && fits && alone).then_some((operand, from, to))
        })
    }

    fn steps(self) -> Result<Vec<Step>> {
        let Draft { mut buffers, work, .. } = self;
        let mut places =
            |pieces: &[Piece]| pieces.iter().map(|&piece| buffers.place(piece)).collect::<Vec<_>>();
        let step = |work: Work| {
            let scratch = places(&[work.scratch])[0];
            let operands = Operands::new(places(&work.reads), places(&work.writes), scratch, work.in_place)?;
            Ok(Step { kernel: work.kernel, operands, node: work.node })
        };
        work.into_iter().map(step).collect()
    }
}

/// # Errors
/// `Internal` for a graph with states.
pub(crate) fn check_stateless(graph: &Graph) -> Result<()> {
    if graph.states().is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Internal, "a region has states; the session keeps them, not the backend"))
}
