//! Compiled regions and the state of their callers.

use std::sync::Arc;

use mslite_collective::CollectiveOp;
use mslite_graph_opt::ir::{Def, Node, Port};
use mslite_graph_opt::{Graph, GraphBuilder, NodeId, Op, specialise_within};
use mslite_runtime::memory::MemoryUsage;
use mslite_runtime::{Error, ErrorKind, Executable, Execution, Groups, Result, Signature};
use mslite_tensor::{Bindings, Buffer, Dims, Stream, TensorSpec};

use crate::arena::{Args, Memory, Spans};
use crate::backend::Crews;
use crate::constants::Constants;
use crate::crew::Team;
use crate::kernels::{Type, communicator};
use crate::plan::{Bases, Plan, Planner, Source, Step, check_stateless};
use crate::stages::{StagedExecution, Stages};

/// A compiled region all of whose extents follow from those of its inputs, and from symbols known from outside.
#[derive(Debug)]
pub(crate) struct CpuExecutable {
    interface: Interface,
    /// The region, in which constants are inputs, so that it does not keep their bytes.
    graph: Graph,
    sources: Vec<Source>,
    constants: Constants,
    bases: Bases,
    /// By node: the graphs inside its operation.
    bodies: Vec<Vec<Compiled>>,
    crews: Arc<Crews>,
}

/// Types of the inputs and outputs, and their names for messages.
#[derive(Debug)]
struct Interface {
    signature: Signature,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl Interface {
    fn of(region: &Graph) -> Self {
        let names = |ports: &[Port]| ports.iter().map(|port| port.name.clone()).collect();
        Interface {
            signature: Signature::of(region),
            inputs: names(region.inputs()),
            outputs: names(region.outputs()),
        }
    }

    fn check_inputs(&self, inputs: &[&dyn Buffer]) -> Result<()> {
        check_count("inputs", inputs.len(), self.inputs.len())?;
        inputs.iter().zip(&self.signature.inputs).zip(&self.inputs).try_for_each(|((buffer, spec), name)| {
            let ranks_differ = spec.shape.rank().is_some_and(|rank| rank != buffer.dims().len());
            if buffer.dtype() != spec.dtype || ranks_differ {
                return Err(misfit("input", name, *buffer, &spec.to_string()));
            }
            Ok(())
        })
    }

    fn check_outputs(&self, outputs: &[&dyn Buffer], expected: &[Type]) -> Result<()> {
        check_count("outputs", outputs.len(), expected.len())?;
        outputs.iter().zip(expected).zip(&self.outputs).try_for_each(|((buffer, expected), name)| {
            if buffer.dtype() != expected.dtype || buffer.dims() != &expected.dims[..] {
                let spec = TensorSpec::fixed(expected.dtype, &expected.dims);
                return Err(misfit("output", name, *buffer, &spec.to_string()));
            }
            Ok(())
        })
    }
}

/// A region, compiled.
#[derive(Debug, Clone)]
pub(crate) enum Compiled {
    /// All extents follow from those of the inputs.
    Whole(Arc<CpuExecutable>),
    /// Some extents follow from data.
    Staged(Arc<Stages>),
}

impl Compiled {
    /// # Errors
    /// `Unsupported` for a node that no kernel evaluates, `OutOfMemory`.
    pub(crate) fn compile(region: &Graph, crews: &Arc<Crews>) -> Result<Self> {
        Ok(match region.bound_symbols().is_empty() {
            true => Compiled::Whole(Arc::new(CpuExecutable::compile(region, crews)?)),
            false => Compiled::Staged(Arc::new(Stages::compile(region, crews)?)),
        })
    }

    /// The state of a caller; `known` are values of symbols that are known from outside.
    pub(crate) fn caller(&self, groups: &Groups, known: Bindings) -> Caller {
        match self {
            Compiled::Whole(executable) => {
                Caller::Whole(CpuExecution::new(executable.clone(), groups.clone(), known))
            }
            Compiled::Staged(stages) => Caller::Staged(StagedExecution::new(stages.clone(), groups, known)),
        }
    }
}

/// The state of one caller of a region.
#[derive(Debug)]
pub(crate) enum Caller {
    Whole(CpuExecution),
    Staged(StagedExecution),
}

impl Caller {
    /// Makes the plan for these extents, unless it is there, or extents that follow from data must be known before.
    pub(crate) fn prepare<'d>(&mut self, dims: impl Iterator<Item = &'d [usize]> + Clone) -> Result<()> {
        match self {
            Caller::Whole(execution) => execution.prepare(dims),
            Caller::Staged(_) => Ok(()),
        }
    }

    /// Runs as a part of another run, on its threads, for the extents that were prepared.
    pub(crate) fn run(
        &mut self,
        inputs: &[&dyn Buffer],
        outputs: &[&dyn Buffer],
        team: &Team<'_>,
    ) -> Result<()> {
        match self {
            Caller::Whole(execution) => execution.run(inputs, outputs, team),
            Caller::Staged(execution) => execution.run(inputs, outputs, team),
        }
    }

    /// As [`Caller::run`], in an arena of [`Caller::scratch`] bytes.
    pub(crate) fn run_within(
        &mut self,
        arena: &mut [u8],
        inputs: &[&dyn Buffer],
        outputs: &[&dyn Buffer],
        team: &Team<'_>,
    ) -> Result<()> {
        match self {
            Caller::Whole(execution) => execution.run_within(arena, inputs, outputs, team),
            Caller::Staged(execution) => execution.run(inputs, outputs, team),
        }
    }

    /// Bytes of the arena for the extents that were prepared, unless it is only known during a run.
    pub(crate) fn scratch(&self) -> usize {
        match self {
            Caller::Whole(execution) => execution.memory().arena,
            Caller::Staged(_) => 0,
        }
    }

    fn memory(&self) -> MemoryUsage {
        match self {
            Caller::Whole(execution) => execution.memory(),
            Caller::Staged(execution) => execution.memory(),
        }
    }
}

impl CpuExecutable {
    /// # Errors
    /// `Unsupported` for a node that no kernel evaluates, `OutOfMemory`.
    pub(crate) fn compile(region: &Graph, crews: &Arc<Crews>) -> Result<Self> {
        check_stateless(region)?;
        let constants = Constants::prepare(region, crews.threads())?;
        let bodies =
            |op: &Op| -> Result<Vec<_>> { op.bodies().map(|body| Compiled::compile(body, crews)).collect() };
        let bodies = region.nodes().map(|(_, node)| bodies(&node.op)).collect::<Result<_>>()?;
        let (graph, sources) = without_constants(region, &constants)?;
        Ok(CpuExecutable {
            interface: Interface::of(region),
            graph,
            sources,
            bases: Bases::new(constants.values().len(), region.inputs().len()),
            constants,
            bodies,
            crews: crews.clone(),
        })
    }

    /// The plan for inputs of these extents.
    fn plan(&self, dims: &[Dims], groups: &Groups, known: &Bindings) -> Result<Plan> {
        let fixed: Vec<Dims> = self
            .sources
            .iter()
            .zip(self.graph.inputs())
            .map(|(source, port)| match *source {
                Source::Input(i) => dims[i].clone(),
                Source::Constant(_) => self.graph.spec(port.value).shape.as_fixed().unwrap_or_default(),
            })
            .collect();
        let fixed: Vec<&[usize]> = fixed.iter().map(|d| &d[..]).collect();
        let (graph, bindings) = specialise_within(&self.graph, &fixed, known).map_err(invalid_extents)?;
        Planner {
            graph: &graph,
            sources: &self.sources,
            constants: &self.constants,
            bases: self.bases,
            groups,
            bodies: &self.bodies,
            bindings: &bindings,
            threads: self.crews.threads(),
        }
        .plan()
    }

    fn locate(&self, step: &Step, error: Error) -> Error {
        match step.node.map(|id| self.graph.node(id)) {
            Some(node) => error.with("node", &node.origin).with("op", node.op.name()),
            None => error,
        }
    }
}

/// Extents come from the caller: that a node does not work for them is the caller's mistake.
fn invalid_extents(error: mslite_graph_opt::Error) -> Error {
    match error {
        mslite_graph_opt::Error::Infer { .. } => Error::new(ErrorKind::InvalidArgument, error.to_string()),
        other => other.into(),
    }
}

/// The region with every constant turned into an input; values and nodes keep their numbers.
fn without_constants(region: &Graph, constants: &Constants) -> Result<(Graph, Vec<Source>)> {
    let mut builder = GraphBuilder::new(region.name());
    let mut sources = Vec::new();
    let mut nodes = region.nodes();
    for (id, value) in region.values() {
        if id.index() < builder.graph().values().len() {
            continue;
        }
        let (name, source) = match &value.def {
            Def::Input(n) => (region.inputs()[*n].name.clone(), Source::Input(*n)),
            Def::Constant(_) => (format!("constant {id}"), constant_source(constants, id)),
            Def::Node(node, _) => {
                push_through(&mut builder, &mut nodes, *node)?;
                continue;
            }
            _ => continue,
        };
        builder.input(name, value.spec.clone());
        sources.push(source);
    }
    for (_, node) in nodes {
        builder.push(node.op.clone(), &node.operands, &node.origin)?;
    }
    for port in region.outputs() {
        builder.output(port.name.clone(), port.value);
    }
    Ok((builder.finish()?, sources))
}

fn constant_source(constants: &Constants, id: mslite_graph_opt::ValueId) -> Source {
    Source::Constant(constants.position(id).unwrap_or_default())
}

fn push_through<'a>(
    builder: &mut GraphBuilder,
    nodes: &mut impl Iterator<Item = (NodeId, &'a Node)>,
    last: NodeId,
) -> Result<()> {
    for (id, node) in nodes {
        builder.push(node.op.clone(), &node.operands, &node.origin)?;
        if id == last {
            break;
        }
    }
    Ok(())
}

/// A region as others see it.
#[derive(Debug)]
pub(crate) struct Shared {
    interface: Arc<Interface>,
    compiled: Compiled,
    /// Its exchanges, each with its node.
    exchanges: Vec<(CollectiveOp, Arc<str>)>,
    crews: Arc<Crews>,
}

impl Shared {
    /// # Errors
    /// As [`Compiled::compile`].
    pub(crate) fn compile(region: &Graph, crews: &Arc<Crews>) -> Result<Self> {
        let exchanges = region.nodes_within().filter_map(|(_, node)| match &node.op {
            Op::Collective(collective) => Some((collective.op.clone(), node.origin.clone())),
            _ => None,
        });
        Ok(Shared {
            interface: Arc::new(Interface::of(region)),
            exchanges: exchanges.collect(),
            compiled: Compiled::compile(region, crews)?,
            crews: crews.clone(),
        })
    }
}

impl Executable for Shared {
    fn signature(&self) -> &Signature {
        &self.interface.signature
    }

    fn instantiate(&self, groups: &Groups) -> Result<Box<dyn Execution>> {
        for (op, origin) in &self.exchanges {
            communicator(op, groups).map_err(|e| e.with("node", origin))?;
        }
        let caller = self.compiled.caller(groups, Bindings::new());
        Ok(Box::new(SharedExecution { interface: self.interface.clone(), crews: self.crews.clone(), caller }))
    }

    fn serialize(&self) -> Result<Vec<u8>> {
        Err(Error::new(ErrorKind::Unsupported, "executables of the CPU are not serialised: compile again"))
    }
}

/// The state of one caller, as others see it.
#[derive(Debug)]
struct SharedExecution {
    interface: Arc<Interface>,
    crews: Arc<Crews>,
    caller: Caller,
}

impl Execution for SharedExecution {
    fn enqueue(
        &mut self,
        inputs: &[&dyn Buffer],
        outputs: &[&dyn Buffer],
        _stream: &dyn Stream,
    ) -> Result<()> {
        self.interface.check_inputs(inputs)?;
        match &mut self.caller {
            Caller::Whole(execution) => {
                execution.prepare(inputs.iter().map(|buffer| buffer.dims()))?;
                execution.check_outputs(outputs)?;
            }
            Caller::Staged(_) => check_count("outputs", outputs.len(), self.interface.outputs.len())?,
        }
        self.crews.run(|team| self.caller.run(inputs, outputs, team))?
    }

    fn output(&self, index: usize) -> Option<&dyn Buffer> {
        match &self.caller {
            Caller::Whole(_) => None,
            Caller::Staged(execution) => execution.output(index),
        }
    }

    fn memory(&self) -> MemoryUsage {
        self.caller.memory()
    }
}

/// The state of one caller.
#[derive(Debug)]
pub(crate) struct CpuExecution {
    executable: Arc<CpuExecutable>,
    groups: Groups,
    /// Values of symbols that are known from outside.
    known: Bindings,
    /// Extents of the inputs that the plan is for.
    extents: Vec<Dims>,
    plan: Option<Plan>,
    arena: Memory,
    /// Aligned copies of inputs that are not aligned.
    staged: Vec<Memory>,
    /// Memory of the current run.
    spans: Spans,
}

impl CpuExecution {
    pub(crate) fn new(executable: Arc<CpuExecutable>, groups: Groups, known: Bindings) -> Self {
        CpuExecution {
            executable,
            groups,
            known,
            extents: Vec::new(),
            plan: None,
            arena: Memory::default(),
            staged: Vec::new(),
            spans: Spans::default(),
        }
    }

    /// Runs as a part of another run, on its threads, for the extents that were prepared.
    pub(crate) fn run(
        &mut self,
        inputs: &[&dyn Buffer],
        outputs: &[&dyn Buffer],
        team: &Team<'_>,
    ) -> Result<()> {
        let bytes = self.memory().arena;
        if self.arena.len() < bytes {
            self.arena = Memory::default();
            let group = self.groups.iter().next().map(|(_, group)| &**group);
            self.arena = Memory::exchanged(bytes, group)?;
        }
        let mut arena = std::mem::take(&mut self.arena);
        let result = self.run_within(arena.bytes_mut(), inputs, outputs, team);
        self.arena = arena;
        result
    }

    /// As [`CpuExecution::run`], in this arena.
    fn run_within(
        &mut self,
        arena: &mut [u8],
        inputs: &[&dyn Buffer],
        outputs: &[&dyn Buffer],
        team: &Team<'_>,
    ) -> Result<()> {
        self.gather_spans(arena, inputs, outputs)?;
        self.run_steps(team)
    }

    fn run_steps(&self, team: &Team<'_>) -> Result<()> {
        let Some(plan) = &self.plan else { return Ok(()) };
        plan.steps.iter().try_for_each(|step| {
            let mut args = Args::new(&self.spans, &step.operands, team);
            step.kernel.run(&mut args).map_err(|error| self.executable.locate(step, error))
        })
    }

    /// What the arena takes for the extents that were prepared.
    pub(crate) fn memory(&self) -> MemoryUsage {
        self.plan.as_ref().map(|plan| plan.usage).unwrap_or_default()
    }

    /// Takes over values of symbols that are known from outside.
    pub(crate) fn rebind(&mut self, known: &Bindings) {
        if self.known != *known {
            self.known.clone_from(known);
            self.plan = None;
        }
    }

    /// Types of the outputs for the extents that were prepared.
    pub(crate) fn outputs(&self) -> &[Type] {
        self.plan.as_ref().map(|plan| &plan.outputs[..]).unwrap_or_default()
    }

    /// # Errors
    /// `InvalidArgument` when these are not the outputs of the extents that were prepared.
    pub(crate) fn check_outputs(&self, outputs: &[&dyn Buffer]) -> Result<()> {
        self.executable.interface.check_outputs(outputs, self.outputs())
    }

    /// Makes the plan for these extents, unless it is there.
    pub(crate) fn prepare<'d>(&mut self, dims: impl Iterator<Item = &'d [usize]> + Clone) -> Result<()> {
        let same = self.extents.iter().map(|d| &d[..]).eq(dims.clone());
        if same && self.plan.is_some() {
            return Ok(());
        }
        self.plan = None;
        self.extents = dims.map(Dims::from_slice).collect();
        let plan = self.executable.plan(&self.extents, &self.groups, &self.known)?;
        self.staged = self.extents.iter().map(|_| Memory::default()).collect();
        self.plan = Some(plan);
        Ok(())
    }

    /// Fills the table of memory.
    fn gather_spans(
        &mut self,
        arena: &mut [u8],
        inputs: &[&dyn Buffer],
        outputs: &[&dyn Buffer],
    ) -> Result<()> {
        let names = &self.executable.interface;
        self.spans.begin(arena, self.executable.constants.spans());
        for ((buffer, staged), name) in inputs.iter().zip(&mut self.staged).zip(&names.inputs) {
            self.spans.input(*buffer, staged).map_err(|e| e.with("input", name))?;
        }
        for (buffer, name) in outputs.iter().zip(&names.outputs) {
            self.spans.output(*buffer).map_err(|e| e.with("output", name))?;
        }
        Ok(())
    }
}

fn check_count(what: &str, actual: usize, expected: usize) -> Result<()> {
    if actual == expected {
        return Ok(());
    }
    let reason = format!("{actual} {what} were given, the graph has {expected}");
    Err(Error::new(ErrorKind::InvalidArgument, reason))
}

fn misfit(what: &str, name: &str, buffer: &dyn Buffer, expected: &str) -> Error {
    let actual = TensorSpec::fixed(buffer.dtype(), buffer.dims());
    let reason = format!("{what} {name:?} is {actual}, expected {expected}");
    Error::new(ErrorKind::InvalidArgument, reason)
}
