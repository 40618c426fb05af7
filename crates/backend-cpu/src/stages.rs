//! Regions in which extents follow from data run in stages, each of them when the stages before it have found the
//! extents that it needs.

use std::collections::HashMap;
use std::sync::Arc;

use mslite_graph_opt::ir::{Constant, Def};
use mslite_graph_opt::{Graph, NodeId, Op, ValueId};
use mslite_runtime::memory::MemoryUsage;
use mslite_runtime::{Error, ErrorKind, Groups, Region, Result};
use mslite_tensor::{Bindings, Buffer, Dim, HostBuffer, Symbol};
use smallvec::SmallVec;

use crate::arena::{copy_bytes, read_ints};
use crate::backend::Crews;
use crate::crew::Team;
use crate::execution::{CpuExecutable, CpuExecution};
use crate::plan::check_stateless;

/// A region in stages.
#[derive(Debug)]
pub(crate) struct Stages {
    stages: Vec<Stage>,
    places: HashMap<ValueId, Place>,
    /// What `places` has buffers of.
    _constants: Vec<Arc<Constant>>,
    /// The region's outputs.
    outputs: Vec<Output>,
}

#[derive(Debug)]
struct Stage {
    executable: Arc<CpuExecutable>,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    /// Tensors to read when it has run, and the symbols of their elements.
    binds: Vec<(ValueId, Vec<Symbol>)>,
}

#[derive(Debug)]
struct Output {
    value: ValueId,
    /// Whether its extents are only known when the run has come to it.
    follows_from_data: bool,
}

type Buffers<'a> = SmallVec<[&'a dyn Buffer; 16]>;

/// Where a value of the region is while it runs.
#[derive(Debug)]
enum Place {
    Input(usize),
    Constant(HostBuffer),
    /// The caller's buffer.
    Output(usize),
    /// A buffer of the execution: by stage, and place among its outputs.
    Made(usize, usize),
}

/// What belongs to one stage.
#[derive(Debug, Default)]
struct Part {
    nodes: Vec<NodeId>,
    binds: Vec<(ValueId, Vec<Symbol>)>,
}

impl Stages {
    /// # Errors
    /// As [`CpuExecutable::compile`].
    pub(crate) fn compile(region: &Graph, crews: &Arc<Crews>) -> Result<Self> {
        check_stateless(region)?;
        let bound = region.bound_symbols();
        let follows_from_data = |value: ValueId| {
            let dims = region.spec(value).shape.dims().unwrap_or_default();
            dims.iter().flat_map(Dim::symbols).any(|symbol| bound.contains(&symbol))
        };
        let ports = region.outputs().iter();
        let outputs: Vec<Output> = ports
            .map(|port| Output { value: port.value, follows_from_data: follows_from_data(port.value) })
            .collect();
        let mut stages = Vec::new();
        for Part { nodes, binds } in partition(region) {
            let Region { graph, inputs, outputs } = Region::extract(region, &nodes)?;
            let executable = Arc::new(CpuExecutable::compile(&graph, crews)?);
            stages.push(Stage { executable, inputs, outputs, binds });
        }
        let places = places(region, &stages, &outputs);
        let constants = region.values().filter_map(|(id, _)| region.constant(id).cloned());
        Ok(Stages { stages, places, _constants: constants.collect(), outputs })
    }
}

/// Divides the nodes: each is in the first stage in which its operands and its extents are there, and effects keep
/// their order.
fn partition(graph: &Graph) -> Vec<Part> {
    let mut parts: Vec<Part> = vec![Part::default()];
    let mut made = vec![0; graph.values().len()];
    let mut bound: HashMap<Symbol, usize> = HashMap::new();
    let mut last_effect = 0;
    for (id, node) in graph.nodes() {
        let operands = node.operands.iter().map(|value| made[value.index()]);
        let symbols = node.op.extents().flat_map(Dim::symbols);
        let symbols = symbols.map(|symbol| bound.get(&symbol).copied().unwrap_or(0));
        let mut at = operands.chain(symbols).max().unwrap_or(0);
        if let Op::Bind(symbols) = &node.op {
            bound.extend(symbols.iter().map(|symbol| (symbol.clone(), at + 1)));
            parts.resize_with(parts.len().max(at + 2), Part::default);
            parts[at].binds.push((node.operands[0], symbols.clone()));
            continue;
        }
        if node.op.has_effect() {
            at = at.max(last_effect);
            last_effect = at;
        }
        node.results.iter().for_each(|value| made[value.index()] = at);
        parts[at].nodes.push(id);
    }
    parts
}

fn places(region: &Graph, stages: &[Stage], outputs: &[Output]) -> HashMap<ValueId, Place> {
    let mut places = HashMap::new();
    for (id, value) in region.values() {
        match &value.def {
            Def::Input(n) => places.insert(id, Place::Input(*n)),
            Def::Constant(constant) => {
                let buffer = HostBuffer::reading(&constant.tensor);
                places.insert(id, Place::Constant(buffer))
            }
            _ => None,
        };
    }
    for (stage, outputs) in stages.iter().map(|stage| &stage.outputs).enumerate() {
        places.extend(outputs.iter().enumerate().map(|(i, value)| (*value, Place::Made(stage, i))));
    }
    for (i, output) in outputs.iter().enumerate().filter(|(_, output)| !output.follows_from_data) {
        if let Some(place @ Place::Made(..)) = places.get_mut(&output.value) {
            *place = Place::Output(i);
        }
    }
    places
}

/// The state of one caller of a region in stages.
#[derive(Debug)]
pub(crate) struct StagedExecution {
    executions: Vec<CpuExecution>,
    /// Values of symbols that are known from outside.
    known: Bindings,
    between: Between,
}

/// Memory of values that go from stage to stage.
#[derive(Debug)]
struct Between {
    stages: Arc<Stages>,
    /// By stage: what it gave.
    made: Vec<Vec<HostBuffer>>,
}

/// What the caller gives for a run.
#[derive(Clone, Copy)]
struct Ports<'a> {
    inputs: &'a [&'a dyn Buffer],
    outputs: &'a [&'a dyn Buffer],
}

impl StagedExecution {
    pub(crate) fn new(stages: Arc<Stages>, groups: &Groups, known: Bindings) -> Self {
        let execution =
            |stage: &Stage| CpuExecution::new(stage.executable.clone(), groups.clone(), Bindings::new());
        let executions: Vec<CpuExecution> = stages.stages.iter().map(execution).collect();
        let made = stages.stages.iter().map(|_| Vec::new()).collect();
        StagedExecution { executions, known, between: Between { stages, made } }
    }

    /// An output whose extents followed from data in the last run.
    pub(crate) fn output(&self, index: usize) -> Option<&dyn Buffer> {
        let output = self.between.stages.outputs.get(index).filter(|output| output.follows_from_data)?;
        self.between.buffer(output.value, Ports { inputs: &[], outputs: &[] }).ok()
    }

    /// What arenas take, and the values that go from stage to stage.
    pub(crate) fn memory(&self) -> MemoryUsage {
        let between: usize =
            self.between.made.iter().flatten().filter_map(|buffer| Some(buffer.host()?.len)).sum();
        let between = MemoryUsage { arena: between, lower_bound: between };
        self.executions.iter().fold(between, |all, execution| all + execution.memory())
    }

    /// Runs all stages. Buffers of outputs whose extents follow from data are not used.
    pub(crate) fn run<'a>(
        &'a mut self,
        inputs: &'a [&'a dyn Buffer],
        outputs: &'a [&'a dyn Buffer],
        team: &Team<'_>,
    ) -> Result<()> {
        let stages = self.between.stages.clone();
        let ports = Ports { inputs, outputs };
        let mut known = self.known.clone();
        for (execution, (at, stage)) in self.executions.iter_mut().zip(stages.stages.iter().enumerate()) {
            execution.rebind(&known);
            self.between.prepare(at, execution, ports)?;
            let read = self.between.buffers(&stage.inputs, ports)?;
            let written = self.between.buffers(&stage.outputs, ports)?;
            execution.check_outputs(&written)?;
            execution.run(&read, &written, team)?;
            for (value, symbols) in &stage.binds {
                let numbers = read_ints(self.between.buffer(*value, ports)?)?;
                known.extend(symbols.iter().cloned().zip(numbers));
            }
        }
        self.between.copy_outputs(ports)
    }
}

impl Between {
    /// Plans a stage, and makes room for what it gives.
    fn prepare(&mut self, at: usize, execution: &mut CpuExecution, ports: Ports<'_>) -> Result<()> {
        let stage = &self.stages.stages[at];
        let read = self.buffers(&stage.inputs, ports)?;
        execution.prepare(read.iter().map(|buffer| buffer.dims()))?;
        drop(read);
        let made = &mut self.made[at];
        for (i, ty) in execution.outputs().iter().enumerate() {
            let is_direct = matches!(self.stages.places.get(&stage.outputs[i]), Some(Place::Output(_)));
            let dims: &[usize] = if is_direct { &[0] } else { &ty.dims };
            match made.get_mut(i) {
                Some(buffer) if buffer.dims() == dims => {}
                Some(buffer) => *buffer = HostBuffer::zeroed(ty.dtype, dims)?,
                None => made.push(HostBuffer::zeroed(ty.dtype, dims)?),
            }
        }
        Ok(())
    }

    fn buffers<'a>(&'a self, values: &[ValueId], ports: Ports<'a>) -> Result<Buffers<'a>> {
        values.iter().map(|value| self.buffer(*value, ports)).collect()
    }

    fn buffer<'a>(&'a self, value: ValueId, ports: Ports<'a>) -> Result<&'a dyn Buffer> {
        Ok(match self.stages.places.get(&value) {
            Some(Place::Input(n)) => ports.inputs[*n],
            Some(Place::Output(n)) => ports.outputs[*n],
            Some(Place::Made(stage, i)) => &self.made[*stage][*i],
            Some(Place::Constant(buffer)) => buffer,
            None => return Err(Error::new(ErrorKind::Internal, format!("{value} is not made by a stage"))),
        })
    }

    /// Copies outputs that no stage has written in place: inputs, constants, values that are two outputs.
    fn copy_outputs(&self, ports: Ports<'_>) -> Result<()> {
        for (i, output) in self.stages.outputs.iter().enumerate() {
            let is_direct =
                matches!(self.stages.places.get(&output.value), Some(Place::Output(at)) if *at == i);
            if !is_direct && !output.follows_from_data {
                copy_bytes(self.buffer(output.value, ports)?, ports.outputs[i])?;
            }
        }
        Ok(())
    }
}
