//! A plan compiled for certain shapes, and the memory of one caller that runs it.

use std::collections::HashMap;
use std::sync::Arc;

use mslite_collective::CollectiveOp;
use mslite_graph_opt::ir::Def;
use mslite_graph_opt::{Graph, Op, ValueId, specialise};
use mslite_tensor::{Buffer, DType, Dims, HostBuffer, HostStream, Tensor, TensorSpec};
use smallvec::SmallVec;

use crate::backend::{CompileOptions, Executable, Execution, Groups};
use crate::memory::{Lifetime, MemoryUsage, plan as plan_memory};
use crate::plan::{NamedDevice, Plan, Segment};
use crate::region::Region;
use crate::session::{States, dims_of};
use crate::{Error, ErrorKind, Result};

/// A plan compiled.
#[derive(Debug)]
pub(crate) struct Program {
    graph: Arc<Graph>,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    action: Action,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    /// Where it runs, for errors.
    place: String,
}

#[derive(Debug)]
enum Action {
    Execute(Arc<dyn Executable>),
    Exchange(CollectiveOp),
}

impl Program {
    pub(crate) fn compile(graph: Arc<Graph>, plan: &Plan, devices: &[NamedDevice]) -> Result<Self> {
        let mut steps = Vec::with_capacity(plan.segments.len());
        for segment in &plan.segments {
            steps.push(compile_segment(&graph, plan, segment, devices)?);
        }
        Ok(Program { graph, steps })
    }

    /// When each value that crosses a border between steps lives, and how many bytes it has.
    fn lifetimes(&self, concrete: &Graph) -> Result<(Vec<ValueId>, Vec<Lifetime>)> {
        let mut values: Vec<ValueId> = Vec::new();
        let mut lifetimes: Vec<Lifetime> = Vec::new();
        let mut at: HashMap<ValueId, usize> = HashMap::new();
        for (i, step) in self.steps.iter().enumerate() {
            for &value in &step.outputs {
                at.insert(value, values.len());
                values.push(value);
                let spec = concrete.spec(value);
                // What has no size yet is an output, or will be refused where it needs a place.
                let size = if spec.shape.is_fixed() { spec.size_bytes()? } else { 0 };
                lifetimes.push(Lifetime { size, first: i, last: i });
            }
            for value in &step.inputs {
                if let Some(&k) = at.get(value) {
                    lifetimes[k].last = i;
                }
            }
        }
        for value in self.graph.results() {
            if let Some(&k) = at.get(&value) {
                lifetimes[k].last = self.steps.len();
            }
        }
        Ok((values, lifetimes))
    }
}

fn compile_segment(graph: &Graph, plan: &Plan, segment: &Segment, devices: &[NamedDevice]) -> Result<Step> {
    match segment {
        Segment::Region { device, .. } => {
            let NamedDevice { name, device } = &devices[*device];
            if !device.capability().host_memory {
                let message =
                    format!("{name} computes in memory of its own, which sessions do not copy to yet");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            let Region { graph, inputs, outputs } = plan.region(graph, segment)?;
            let executable = device.compile(&graph, &CompileOptions::default());
            let executable = executable.map_err(|error| error.with("backend", name))?;
            Ok(Step { action: Action::Execute(executable), inputs, outputs, place: name.clone() })
        }
        Segment::Collective(id) => {
            let node = graph.node(*id);
            let Op::Collective(collective) = &node.op else {
                return Err(Error::new(ErrorKind::Internal, format!("{id} is no collective")));
            };
            Ok(Step {
                action: Action::Exchange(collective.op.clone()),
                inputs: node.operands.to_vec(),
                outputs: node.results.to_vec(),
                place: node.origin.to_string(),
            })
        }
    }
}

/// The memory of one caller.
#[derive(Debug)]
pub(crate) struct RunState {
    program: Arc<Program>,
    actions: Vec<Running>,
    dims: Vec<Dims>,
    /// Types of the outputs for these extents; no extents where they follow from data.
    output_specs: Vec<(DType, Option<Dims>)>,
    /// Outputs whose extents follow from data, and where they are made: step, and place among its outputs.
    made_late: Vec<(usize, usize, usize)>,
    /// One buffer for each value that crosses a border; those of callers' tensors and states change every run.
    slots: Vec<HostBuffer>,
    sources: Vec<Source>,
    /// Slots of each step's inputs and outputs.
    steps: Vec<(Vec<usize>, Vec<usize>)>,
    output_slots: Vec<usize>,
    next_slots: Vec<usize>,
    /// What the arena takes of values that cross a border.
    borders: MemoryUsage,
    /// Nothing, for operands and results that a collective lacks.
    nothing: HostBuffer,
}

#[derive(Debug)]
enum Running {
    Execute(Box<dyn Execution>),
    Exchange(CollectiveOp, Arc<dyn mslite_collective::Collective>),
}

/// Whose memory a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Input(usize),
    Output(usize),
    State(usize),
    NextState(usize),
    Own,
}

impl RunState {
    pub(crate) fn new(program: Arc<Program>, groups: &Groups, inputs: &[&Tensor]) -> Result<Self> {
        let mut actions = Vec::with_capacity(program.steps.len());
        for step in &program.steps {
            actions.push(match &step.action {
                Action::Execute(executable) => Running::Execute(executable.instantiate(groups)?),
                Action::Exchange(op) => {
                    let group = groups.collective(&op.group).ok_or_else(|| {
                        Error::new(
                            ErrorKind::Internal,
                            format!("group {:?} was not joined", op.group.as_str()),
                        )
                    })?;
                    Running::Exchange(op.clone(), group.clone())
                }
            });
        }
        let mut state = RunState {
            program,
            actions,
            dims: Vec::new(),
            output_specs: Vec::new(),
            made_late: Vec::new(),
            slots: Vec::new(),
            sources: Vec::new(),
            steps: Vec::new(),
            output_slots: Vec::new(),
            next_slots: Vec::new(),
            borders: MemoryUsage::default(),
            nothing: HostBuffer::zeroed(DType::U8, &[0])?,
        };
        state.resize(inputs)?;
        Ok(state)
    }

    /// Whether the memory is laid out for inputs of these extents.
    pub(crate) fn fits(&self, inputs: &[&Tensor]) -> bool {
        self.dims.len() == inputs.len()
            && self.dims.iter().zip(inputs).all(|(dims, t)| dims.as_slice() == t.dims())
    }

    /// Lays the memory out for inputs of these extents.
    pub(crate) fn resize(&mut self, inputs: &[&Tensor]) -> Result<()> {
        let program = self.program.clone();
        let fixed = program.graph.values().all(|(_, value)| value.spec.shape.is_fixed());
        let specialised;
        let concrete = if fixed {
            &*program.graph
        } else {
            let dims: Vec<&[usize]> = inputs.iter().map(|tensor| tensor.dims()).collect();
            specialised = specialise(&program.graph, &dims)?;
            &specialised
        };
        let mut layout = SlotLayout::new(&program, concrete)?;
        self.output_slots = slots_of(&mut layout, concrete.outputs().iter().map(|port| port.value))?;
        self.next_slots = slots_of(&mut layout, concrete.states().iter().map(|state| state.next))?;
        self.steps.clear();
        for step in &program.steps {
            let inputs = slots_of(&mut layout, step.inputs.iter().copied())?;
            self.steps.push((inputs, slots_of(&mut layout, step.outputs.iter().copied())?));
        }
        let specs = concrete.outputs().iter().map(|port| concrete.spec(port.value));
        self.output_specs = specs.map(|spec| (spec.dtype, spec.shape.as_fixed())).collect();
        self.made_late = late_outputs(&program, concrete)?;
        (self.slots, self.sources, self.borders) = (layout.slots, layout.sources, layout.usage);
        self.dims = dims_of(inputs);
        Ok(())
    }

    pub(crate) fn run(
        &mut self,
        inputs: &[&Tensor],
        outputs: &mut [Tensor],
        states: Option<&mut States>,
    ) -> Result<()> {
        self.check_outputs(outputs)?;
        self.bind(inputs, outputs, states.as_deref())?;
        for (i, action) in self.actions.iter_mut().enumerate() {
            let (from, to) = &self.steps[i];
            let buffers = |slots: &[usize]| -> SmallVec<[&dyn Buffer; 64]> {
                slots.iter().map(|&slot| &self.slots[slot] as &dyn Buffer).collect()
            };
            let (from, to) = (buffers(from), buffers(to));
            match action {
                Running::Execute(execution) => execution.enqueue(&from, &to, &HostStream),
                Running::Exchange(op, collective) => {
                    let nothing: &dyn Buffer = &self.nothing;
                    let (send, recv) = (from.first().unwrap_or(&nothing), to.first().unwrap_or(&nothing));
                    let done = collective.enqueue(op, *send, *recv, &HostStream);
                    done.map_err(|error| Error::from(error).with("op", op))
                }
            }
            .map_err(|error| error.with("at", &self.program.steps[i].place))?;
        }
        self.copy_results(outputs);
        self.copy_late(outputs)?;
        if let Some(states) = states {
            self.advance(states);
        }
        Ok(())
    }

    /// Memory that it keeps for values.
    pub(crate) fn memory(&self) -> MemoryUsage {
        let executions = self.actions.iter().map(|action| match action {
            Running::Execute(execution) => execution.memory(),
            Running::Exchange(..) => MemoryUsage::default(),
        });
        executions.fold(self.borders, |all, one| all + one)
    }

    fn check_outputs(&self, outputs: &[Tensor]) -> Result<()> {
        let fail = |message: String| Err(Error::new(ErrorKind::InvalidArgument, message));
        if outputs.len() != self.output_specs.len() {
            return fail(format!(
                "the model gives {} outputs, not {}",
                self.output_specs.len(),
                outputs.len()
            ));
        }
        for (i, ((dtype, dims), tensor)) in self.output_specs.iter().zip(outputs).enumerate() {
            let Some(dims) = dims else { continue };
            if *dtype != tensor.dtype() || dims.as_slice() != tensor.dims() {
                return fail(format!("output {i} is {dtype}{:?}, not {}", dims.as_slice(), tensor.spec()));
            }
        }
        Ok(())
    }

    /// Points the slots of callers' tensors and states to this run's memory.
    fn bind(&mut self, inputs: &[&Tensor], outputs: &mut [Tensor], states: Option<&States>) -> Result<()> {
        for (slot, source) in self.slots.iter_mut().zip(&self.sources) {
            match (*source, states) {
                (Source::Input(i), _) => *slot = HostBuffer::reading(inputs[i]),
                (Source::Output(i), _) if self.output_specs[i].1.is_none() => {}
                (Source::Output(i), _) => *slot = HostBuffer::writing(&mut outputs[i])?,
                (Source::State(i), Some(states)) => *slot = view(&states.current[i])?,
                (Source::NextState(i), Some(states)) => *slot = view(&states.next[i])?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Copies outputs that no step has written in place: inputs, constants, values that are two outputs.
    fn copy_results(&self, outputs: &mut [Tensor]) {
        for (i, &slot) in self.output_slots.iter().enumerate() {
            if self.sources[slot] != Source::Output(i) && self.output_specs[i].1.is_some() {
                copy_out(&self.slots[slot], &mut outputs[i]);
            }
        }
    }

    /// Puts outputs whose extents followed from data in the place of what the caller gave.
    fn copy_late(&self, outputs: &mut [Tensor]) -> Result<()> {
        for &(output, step, place) in &self.made_late {
            let made = match &self.actions[step] {
                Running::Execute(execution) => execution.output(place),
                Running::Exchange(..) => None,
            };
            let made = made.ok_or_else(|| {
                let place = &self.program.steps[step].place;
                Error::new(ErrorKind::Internal, format!("{place} did not make output {output}"))
            })?;
            outputs[output] = copy_made(made)?;
        }
        Ok(())
    }

    fn advance(&self, states: &mut States) {
        for (i, &slot) in self.next_slots.iter().enumerate() {
            match self.sources[slot] {
                Source::State(same) if same == i => {}
                Source::NextState(same) if same == i => {
                    std::mem::swap(&mut states.current[i], &mut states.next[i])
                }
                _ => {
                    copy_between(&self.slots[slot], &states.next[i]);
                    std::mem::swap(&mut states.current[i], &mut states.next[i]);
                }
            }
        }
    }
}

/// Where outputs whose extents follow from data are made.
fn late_outputs(program: &Program, concrete: &Graph) -> Result<Vec<(usize, usize, usize)>> {
    let ports = concrete.outputs().iter().enumerate();
    let late = ports.filter(|(_, port)| !concrete.spec(port.value).shape.is_fixed());
    late.map(|(i, port)| {
        let mut steps = program.steps.iter().enumerate();
        let made = steps.find_map(|(at, step)| {
            step.outputs.iter().position(|value| *value == port.value).map(|place| (i, at, place))
        });
        made.ok_or_else(|| Error::new(ErrorKind::Internal, format!("output {:?} is not made", port.name)))
    })
    .collect()
}

fn fixed_spec(spec: &TensorSpec) -> Result<(DType, Dims)> {
    let dims = spec.shape.as_fixed().ok_or_else(|| {
        let message = format!(
            "a tensor {spec} whose extents follow from data crosses a border between devices or operations of \
             the session; let one device take all nodes"
        );
        Error::new(ErrorKind::Unsupported, message)
    })?;
    Ok((spec.dtype, dims))
}

/// Gives every value that crosses a border a slot.
struct SlotLayout<'a> {
    graph: &'a Graph,
    slots: Vec<HostBuffer>,
    sources: Vec<Source>,
    by_value: HashMap<ValueId, usize>,
    arena: HostBuffer,
    usage: MemoryUsage,
    offsets: HashMap<ValueId, usize>,
    outputs: HashMap<ValueId, usize>,
    next_states: HashMap<ValueId, usize>,
}

impl<'a> SlotLayout<'a> {
    fn new(program: &Program, graph: &'a Graph) -> Result<Self> {
        let first = |values: Vec<ValueId>| -> HashMap<ValueId, usize> {
            values.into_iter().enumerate().rev().map(|(i, value)| (value, i)).collect()
        };
        let outputs = first(graph.outputs().iter().map(|port| port.value).collect());
        let next_states = first(graph.states().iter().map(|state| state.next).collect());
        let (values, lifetimes) = program.lifetimes(graph)?;
        let own = |value: &ValueId| !outputs.contains_key(value) && !next_states.contains_key(value);
        let kept: Vec<(ValueId, Lifetime)> =
            values.into_iter().zip(lifetimes).filter(|(value, _)| own(value)).collect();
        let layout = plan_memory(&kept.iter().map(|(_, lifetime)| *lifetime).collect::<Vec<_>>())?;
        Ok(SlotLayout {
            graph,
            slots: Vec::new(),
            sources: Vec::new(),
            by_value: HashMap::new(),
            arena: HostBuffer::zeroed(DType::U8, &[layout.size])?,
            usage: MemoryUsage { arena: layout.size, lower_bound: layout.lower_bound },
            offsets: kept.iter().map(|(value, _)| *value).zip(layout.offsets).collect(),
            outputs,
            next_states,
        })
    }

    fn slot(&mut self, value: ValueId) -> Result<usize> {
        if let Some(&slot) = self.by_value.get(&value) {
            return Ok(slot);
        }
        let spec = self.graph.spec(value);
        let is_late = self.outputs.contains_key(&value) && !spec.shape.is_fixed();
        let (dtype, dims) = if is_late { (spec.dtype, Dims::new()) } else { fixed_spec(spec)? };
        let empty = || HostBuffer::zeroed(dtype, &[0]);
        let (source, buffer) = match (&self.graph.value(value).def, self.offsets.get(&value)) {
            (Def::Input(i), _) => (Source::Input(*i), empty()?),
            (Def::State(i), _) => (Source::State(*i), empty()?),
            (Def::Constant(constant), _) => (Source::Own, HostBuffer::reading(&constant.tensor)),
            (_, Some(&offset)) => (Source::Own, self.arena.window(dtype, &dims, offset)?),
            (_, None) => match (self.outputs.get(&value), self.next_states.get(&value)) {
                (Some(&i), _) => (Source::Output(i), empty()?),
                (None, Some(&i)) => (Source::NextState(i), empty()?),
                (None, None) => return Err(Error::new(ErrorKind::Internal, format!("{value} has no place"))),
            },
        };
        let slot = self.slots.len();
        self.slots.push(buffer);
        self.sources.push(source);
        self.by_value.insert(value, slot);
        Ok(slot)
    }
}

fn slots_of(layout: &mut SlotLayout<'_>, values: impl Iterator<Item = ValueId>) -> Result<Vec<usize>> {
    values.map(|value| layout.slot(value)).collect()
}

/// The same memory under the same type.
fn view(buffer: &HostBuffer) -> Result<HostBuffer> {
    Ok(buffer.window(buffer.dtype(), buffer.dims(), 0)?)
}

pub(crate) use copies::{copy_between, copy_into, copy_made, copy_out};

#[allow(unsafe_code, reason = "reads and writes buffers between runs, when no work is enqueued")]
mod copies {
    use mslite_tensor::{Buffer, HostBuffer, Tensor};

    use crate::{Error, ErrorKind, Result};

    /// Copies bytes into a buffer that no enqueued work uses.
    pub(crate) fn copy_into(from: &[u8], to: &HostBuffer) {
        // SAFETY: a session calls this for memory of its own, with its lock held and no work enqueued.
        unsafe { to.bytes_mut() }.copy_from_slice(from);
    }

    /// Copies a buffer's bytes into a tensor.
    pub(crate) fn copy_out(from: &HostBuffer, to: &mut Tensor) {
        if let Ok(to) = to.bytes_mut() {
            // SAFETY: all work of the run has finished; `to` is exclusively borrowed, so `from` is not it.
            to.copy_from_slice(unsafe { from.bytes() });
        }
    }

    /// A copy of what an execution has made.
    ///
    /// # Errors
    /// `Unsupported` when it is not in host memory.
    pub(crate) fn copy_made(made: &dyn Buffer) -> Result<Tensor> {
        // SAFETY: all work of the run has finished, and the execution, which owns the buffer, is borrowed.
        unsafe { Tensor::copy_of(made) }?.ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "an output whose extents follow from data is not in host memory",
            )
        })
    }

    /// Copies a buffer's bytes into another buffer.
    pub(crate) fn copy_between(from: &HostBuffer, to: &HostBuffer) {
        // SAFETY: all work of the run has finished; next states are no other slot's memory.
        unsafe { to.bytes_mut() }.copy_from_slice(unsafe { from.bytes() });
    }
}
