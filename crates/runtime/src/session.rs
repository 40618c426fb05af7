//! A built model: compiled once, run many times, by several callers at once.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mslite_collective::World;
use mslite_graph_opt::ir::Port;
use mslite_graph_opt::pass::{Level, OptimiseOptions, Pass, agreed_passes, optimise};
use mslite_graph_opt::{Graph, Op, specialise};
use mslite_tensor::{Dims, HostBuffer, Shape, Tensor, TensorSpec};

use crate::backend::Groups;
use crate::memory::MemoryUsage;
use crate::plan::{Fallback, NamedDevice, Plan};
use crate::program::{Program, RunState};
use crate::schedule::{Disagreement, GroupRanks, Schedule, Sends, compare, fault, group_ranks};
use crate::{Error, ErrorKind, Result};

/// How to build a session.
#[derive(Debug)]
#[non_exhaustive]
pub struct SessionOptions {
    /// What happens to nodes that the first device does not take.
    pub fallback: Fallback,
    /// This process's place among the ranks, for graphs with collectives.
    pub world: Option<Arc<World>>,
    /// World ranks of groups that the model names but does not list.
    pub groups: GroupRanks,
    /// What is done to the graphs of all ranks where all of them can, and to none otherwise.
    pub agreed_passes: Vec<Arc<dyn Pass>>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            fallback: Fallback::default(),
            world: None,
            groups: GroupRanks::new(),
            agreed_passes: agreed_passes(Level::default()),
        }
    }
}

impl SessionOptions {
    /// One rank of several.
    #[must_use]
    pub fn with_world(mut self, world: Arc<World>) -> Self {
        self.world = Some(world);
        self
    }

    /// Ranks of named groups.
    #[must_use]
    pub fn with_groups(mut self, groups: GroupRanks) -> Self {
        self.groups = groups;
        self
    }

    /// What happens to nodes that the first device does not take.
    #[must_use]
    pub fn with_fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }
}

/// A built model.
///
/// Runs of several threads go on at once, each with memory of its own, unless the model has state or collectives:
/// then they take turns.
#[derive(Debug)]
pub struct Session {
    graph: Arc<Graph>,
    plan: Plan,
    devices: Vec<NamedDevice>,
    groups: Groups,
    world: Option<Arc<World>>,
    base: Option<Arc<Program>>,
    idle: Mutex<Vec<RunState>>,
    turn: Mutex<States>,
    takes_turns: bool,
}

/// What the model keeps between runs: for each state what it holds, and memory for what it will hold next.
#[derive(Debug)]
pub(crate) struct States {
    pub(crate) current: Vec<HostBuffer>,
    pub(crate) next: Vec<HostBuffer>,
}

impl Session {
    /// Plans and compiles `graph` for `devices`, of which the first is preferred. Ranks compare what they will
    /// exchange before they compile.
    ///
    /// # Errors
    /// `Unsupported` when nodes are left over, `InvalidArgument` when the model needs ranks or groups that are
    /// not there, `PlanMismatch` when the ranks' models do not fit each other, `PeerLost` and `Timeout` when a
    /// rank does not come, and what the devices report.
    pub fn build(graph: Graph, devices: Vec<NamedDevice>, options: SessionOptions) -> Result<Session> {
        let rank = options.world.as_ref().map(|world| world.rank());
        let at_rank = |error: Error| match rank {
            Some(rank) => error.with("rank", rank),
            None => error,
        };
        let (graph, groups) = join_groups(graph, &devices, &options)?;
        let plan = Plan::new(&graph, &devices, options.fallback).map_err(at_rank)?;
        let states = States::new(&graph)?;
        let takes_turns = !graph.states().is_empty() || has_collectives(&graph);
        let mut session = Session {
            graph: Arc::new(graph),
            plan,
            devices,
            groups,
            world: options.world,
            base: None,
            idle: Mutex::default(),
            turn: Mutex::new(states),
            takes_turns,
        };
        if session.compiles_once() {
            let program = Program::compile(session.graph.clone(), &session.plan, &session.devices);
            session.base = Some(Arc::new(program.map_err(at_rank)?));
        }
        Ok(session)
    }

    /// The graph that it runs.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// How the graph is divided.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Inputs in the order of the model.
    pub fn inputs(&self) -> &[Port] {
        self.graph.inputs()
    }

    /// Outputs in the order of the model.
    pub fn outputs(&self) -> &[Port] {
        self.graph.outputs()
    }

    /// Memory that is kept for the values of runs, of all callers that have run and are not running now. Weights,
    /// inputs, outputs and states are not in it.
    pub fn memory(&self) -> MemoryUsage {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.iter().fold(MemoryUsage::default(), |all, state| all + state.memory())
    }

    /// Types of the outputs for inputs of these extents. Extents that follow from data remain symbols.
    ///
    /// # Errors
    /// `InvalidArgument` when the extents do not fit the model.
    pub fn output_specs(&self, dims: &[&[usize]]) -> Result<Vec<TensorSpec>> {
        let specs =
            |graph: &Graph| graph.outputs().iter().map(|port| graph.spec(port.value).clone()).collect();
        let fixed = self.graph.outputs().iter().all(|port| self.graph.spec(port.value).shape.is_fixed());
        Ok(if fixed { specs(&self.graph) } else { specs(&specialise(&self.graph, dims)?) })
    }

    /// Checks that the model takes inputs of these extents.
    ///
    /// # Errors
    /// `InvalidArgument` when it does not.
    pub fn resize(&self, dims: &[&[usize]]) -> Result<()> {
        specialise(&self.graph, dims)?;
        Ok(())
    }

    /// Runs once and gives new tensors.
    ///
    /// # Errors
    /// As [`Session::run_into`].
    pub fn run(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
        self.check_inputs(inputs)?;
        let dims: Vec<&[usize]> = inputs.iter().map(|tensor| tensor.dims()).collect();
        let mut outputs = Vec::with_capacity(self.outputs().len());
        for spec in self.output_specs(&dims)? {
            // What follows from data is replaced by the run.
            let dims = spec.shape.as_fixed().unwrap_or_else(|| Dims::from_slice(&[0]));
            outputs.push(Tensor::zeros(spec.dtype, &dims)?);
        }
        self.run_into(inputs, &mut outputs)?;
        Ok(outputs)
    }

    /// Runs once into tensors that the caller provides. With inputs of the same extents as before it allocates
    /// nothing. Outputs whose extents follow from data may be given with any extents; where they turn out to be others,
    /// new tensors take their place.
    ///
    /// # Errors
    /// `InvalidArgument` when tensors do not fit the model; `PeerLost`, `Timeout`, `PlanMismatch` from
    /// collectives; what the devices report. After a failure states hold what they held before.
    pub fn run_into(&self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        self.check_inputs(inputs)?;
        if self.takes_turns {
            let mut states = lock(&self.turn)?;
            let mut state = self.idle_state(inputs)?;
            let result = state.run(inputs, outputs, Some(&mut states));
            if let (Err(error), Some(world)) = (&result, &self.world) {
                world.abort(&error.to_string());
            }
            self.put_back(state, &result)?;
            return result.map_err(|error| self.at_rank(error));
        }
        let mut state = self.idle_state(inputs)?;
        let result = state.run(inputs, outputs, None);
        self.put_back(state, &result)?;
        result
    }

    fn at_rank(&self, error: Error) -> Error {
        match &self.world {
            Some(world) => error.with("rank", world.rank()),
            None => error,
        }
    }

    /// Whether one compilation serves inputs of all extents.
    fn compiles_once(&self) -> bool {
        let fixed = self.graph.values().all(|(_, value)| value.spec.shape.is_fixed());
        let one = self.plan.segments.len() <= 1;
        fixed || (one && self.devices.iter().all(|d| d.device.capability().symbolic_shapes))
    }

    /// A run state for inputs of these extents: an idle one if there is one.
    fn idle_state(&self, inputs: &[&Tensor]) -> Result<RunState> {
        let mut idle = lock(&self.idle)?;
        if let Some(at) = idle.iter().rposition(|state| state.fits(inputs)) {
            return Ok(idle.swap_remove(at));
        }
        let reusable = self.base.is_some().then(|| idle.pop()).flatten();
        drop(idle);
        match (&self.base, reusable) {
            (Some(_), Some(mut state)) => {
                state.resize(inputs)?;
                Ok(state)
            }
            (Some(program), None) => RunState::new(program.clone(), &self.groups, inputs),
            (None, _) => {
                let dims: Vec<&[usize]> = inputs.iter().map(|tensor| tensor.dims()).collect();
                let graph = Arc::new(specialise(&self.graph, &dims)?);
                let program = Program::compile(graph, &self.plan, &self.devices)?;
                RunState::new(Arc::new(program), &self.groups, inputs)
            }
        }
    }

    /// Keeps a state for later runs; one that failed may hold anything, so it goes.
    fn put_back(&self, state: RunState, result: &Result<()>) -> Result<()> {
        if result.is_ok() {
            lock(&self.idle)?.push(state);
        }
        Ok(())
    }

    fn check_inputs(&self, inputs: &[&Tensor]) -> Result<()> {
        let fail = |message: String| Err(Error::new(ErrorKind::InvalidArgument, message));
        let ports = self.inputs();
        if inputs.len() != ports.len() {
            let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
            return fail(format!(
                "the model takes {} inputs ({}), not {}",
                ports.len(),
                names.join(", "),
                inputs.len()
            ));
        }
        for (i, (port, tensor)) in ports.iter().zip(inputs).enumerate() {
            let spec = self.graph.spec(port.value);
            if spec.dtype != tensor.dtype() || !may_have_dims(&spec.shape, tensor.dims()) {
                return fail(format!("input {i} {:?} takes {spec}, not {}", port.name, tensor.spec()));
            }
        }
        Ok(())
    }
}

/// Whether fixed extents agree; what symbols stand for is checked when the graph is specialised.
fn may_have_dims(shape: &Shape, dims: &[usize]) -> bool {
    shape.dims().is_none_or(|expected| {
        expected.len() == dims.len()
            && expected.iter().zip(dims).all(|(e, &d)| e.as_usize().is_none_or(|e| e == d))
    })
}

fn has_collectives(graph: &Graph) -> bool {
    graph.nodes_within().any(|(_, node)| matches!(node.op, Op::Collective(_)))
}

impl States {
    fn new(graph: &Graph) -> Result<Self> {
        let buffers = || -> Result<Vec<HostBuffer>> {
            let zeroed = |state: &mslite_graph_opt::ir::State| {
                HostBuffer::zeroed(state.initial.dtype(), state.initial.dims())
            };
            Ok(graph.states().iter().map(zeroed).collect::<Result<_, _>>()?)
        };
        let states = States { current: buffers()?, next: buffers()? };
        for (state, buffer) in graph.states().iter().zip(&states.current) {
            crate::program::copy_into(state.initial.bytes(), buffer);
        }
        Ok(states)
    }
}

/// The communicators of all groups that the graph names, after the ranks have compared their schedules. A rank
/// whose model has no collectives compares, too: the others' models may have some.
///
/// Gives the graph as it runs: changed by the passes on which all ranks must agree, if they do.
fn join_groups(graph: Graph, devices: &[NamedDevice], options: &SessionOptions) -> Result<(Graph, Groups)> {
    let Some(world) = &options.world else {
        if !has_collectives(&graph) {
            return Ok((graph, Groups::none()));
        }
        let message = "the model exchanges data with other ranks, but this process is alone; start all ranks \
                       (`mslite run --ranks N`, `mslite launch`, mpirun)";
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    };
    let proposal = proposal(&graph, options)?.filter(|graph| runs_on_first(graph, devices));
    let refused = |error| refuse(error, world);
    let ranks = group_ranks(&graph, &options.groups, world.rank(), world.size()).map_err(refused)?;
    let schedule = |graph: &Graph| Schedule::new(graph, &ranks, world.rank()).map_err(refused);
    let own = schedule(&graph)?;
    let proposed = proposal.as_ref().map(schedule).transpose()?;
    let agreed = agree([&own, proposed.as_ref().unwrap_or(&own)], world)?;
    let graph = proposal.filter(|_| agreed).unwrap_or(graph);
    let mut groups = Groups::none();
    for (name, ranks) in ranks {
        let collective = world.group(name.as_str(), &ranks)?;
        groups.insert(name, collective);
    }
    Ok((graph, groups))
}

/// What this rank would like to run, if that is not what it was given.
fn proposal(graph: &Graph, options: &SessionOptions) -> Result<Option<Graph>> {
    let passes = OptimiseOptions { passes: options.agreed_passes.clone(), ..OptimiseOptions::default() };
    let (proposal, report) = optimise(graph, &passes)?;
    Ok((!report.rewrites.is_empty()).then_some(proposal))
}

/// Whether the preferred device takes every node but exchanges.
fn runs_on_first(graph: &Graph, devices: &[NamedDevice]) -> bool {
    let refused = devices.first().map(|first| first.device.claim(graph).refused);
    refused
        .is_some_and(|refused| refused.iter().all(|(id, _)| matches!(graph.node(*id).op, Op::Collective(_))))
}

/// Compares the schedules of all ranks, and then those that they would like instead: whether these fit, too. When a
/// rank has found a fault in its own, all end.
fn agree(mine: [&Schedule; 2], world: &World) -> Result<bool> {
    let [own, proposed] = mine.map(Schedule::encode);
    let length = (own.len() as u64).to_le_bytes();
    let all = world.exchange(&[b"+".as_slice(), &length, &own, &proposed].concat())?;
    if let Some(faults) = Disagreement::of_texts(&faults(&all)) {
        return Err(faults.into());
    }
    let (mut own, mut proposed) = (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()));
    for (rank, bytes) in all.iter().enumerate() {
        let [a, b] = decode(bytes).ok_or_else(|| {
            let message =
                format!("rank {rank} speaks another version of the protocol; use one version everywhere");
            Error::new(ErrorKind::PlanMismatch, message)
        })?;
        own.push(a);
        proposed.push(b);
    }
    let sends = match world.send_capacity() {
        0 => Sends::Wait,
        bytes => Sends::Keep(bytes),
    };
    compare(&own, sends)?;
    Ok(compare(&proposed, sends).is_ok())
}

fn decode(bytes: &[u8]) -> Option<[Schedule; 2]> {
    let (length, rest) = bytes.strip_prefix(b"+")?.split_first_chunk()?;
    let (own, proposed) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    Some([Schedule::decode(own)?, Schedule::decode(proposed)?])
}

/// Tells the other ranks of a fault in this one's model, where they compare schedules.
fn refuse(error: Error, world: &World) -> Error {
    let told = format!("-{}", fault(world.rank(), &error));
    // Where the others cannot be told, this is still the reason.
    let all = world.exchange(told.as_bytes()).unwrap_or_default();
    let of_plan = error.kind() == ErrorKind::PlanMismatch;
    Disagreement::of_texts(&faults(&all)).filter(|_| of_plan).map_or(error, Error::from)
}

/// What ranks have found wrong with their own models.
fn faults(all: &[Vec<u8>]) -> Vec<Cow<'_, str>> {
    all.iter().filter_map(|bytes| bytes.strip_prefix(b"-")).map(String::from_utf8_lossy).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    mutex
        .lock()
        .map_err(|_| Error::new(ErrorKind::Internal, "an earlier run panicked; build the model again"))
}

/// Extents of tensors, kept inline.
pub(crate) fn dims_of(tensors: &[&Tensor]) -> Vec<Dims> {
    tensors.iter().map(|tensor| Dims::from_slice(tensor.dims())).collect()
}
