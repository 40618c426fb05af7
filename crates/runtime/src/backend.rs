//! What a backend implements: backend -> device -> immutable executable -> execution state of one caller.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use mslite_collective::{Collective, GroupName};
use mslite_graph_opt::{Graph, NodeId};
use mslite_tensor::{Buffer, DType, Stream, TensorSpec};

use crate::Result;
use crate::memory::MemoryUsage;

/// A way to run graphs: the CPU, a vendor's library.
///
/// All traits of this chain are used through `Arc<dyn ...>` and from several threads.
pub trait Backend: Debug + Send + Sync {
    /// Short name, in lower case: `cpu`.
    fn name(&self) -> &str;

    /// The devices that are there now.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable) when the machine lacks the library or the hardware; the
    /// message says what is missing and how to get it.
    fn devices(&self) -> Result<Vec<DeviceInfo>>;

    /// Opens a device.
    ///
    /// # Errors
    /// `Unavailable` when it is not there (any more), `InvalidArgument` for options that do not fit it.
    fn open(&self, device: &DeviceInfo, options: &DeviceOptions) -> Result<Arc<dyn Device>>;
}

/// A device that a backend can open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Number within the backend, from 0.
    pub id: usize,
    /// Name for people.
    pub name: String,
}

/// Settings of an open device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceOptions {
    /// Threads that compute, 0 for as many as suit the machine. For backends that use the CPU.
    pub threads: usize,
}

impl DeviceOptions {
    /// The same options with another number of threads.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }
}

/// An open device.
pub trait Device: Debug + Send + Sync {
    /// What it can do.
    fn capability(&self) -> &Capability;

    /// Which nodes it takes. Pure: the same graph gives the same claim on every rank and in every run.
    fn claim(&self, graph: &Graph) -> Claim;

    /// Compiles a graph whose nodes it has claimed. The graph has no states; its shapes may be symbolic if
    /// [`Capability::symbolic_shapes`] says so.
    ///
    /// # Errors
    /// `Unsupported` when the claim was too generous, `OutOfMemory`, `Internal`.
    fn compile(&self, region: &Graph, options: &CompileOptions) -> Result<Arc<dyn Executable>>;

    /// Restores what [`Executable::serialize`] gave.
    ///
    /// # Errors
    /// `InvalidArgument` when the bytes are damaged or of another version, `Unsupported` when the backend
    /// cannot serialise.
    fn load(&self, blob: &[u8]) -> Result<Arc<dyn Executable>>;

    /// Memory for a tensor of fixed shape, zeroed.
    ///
    /// # Errors
    /// `OutOfMemory`; `InvalidArgument` for a symbolic shape.
    fn allocate(&self, spec: &TensorSpec) -> Result<Arc<dyn Buffer>>;

    /// A new queue of work.
    ///
    /// # Errors
    /// `DeviceLost`, `OutOfMemory`.
    fn stream(&self) -> Result<Arc<dyn Stream>>;
}

/// What a device can do; selects the cases of the conformance suite.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capability {
    /// Element types that it computes with.
    pub dtypes: Vec<DType>,
    /// Whether executables take inputs of several shapes.
    pub symbolic_shapes: bool,
    /// Whether collectives may be part of a region.
    pub collectives: bool,
    /// Whether executables can be serialised.
    pub serialize: bool,
    /// Whether it computes in host memory, so that tensors serve as buffers as they are.
    pub host_memory: bool,
}

impl Capability {
    /// A device in host memory that computes with `dtypes` and has none of the other abilities.
    pub fn host(dtypes: &[DType]) -> Self {
        Capability {
            dtypes: dtypes.to_vec(),
            symbolic_shapes: false,
            collectives: false,
            serialize: false,
            host_memory: true,
        }
    }
}

/// A device's answer to a graph.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// Nodes that it takes, as groups that it wants to compile together. A node is in one group at most.
    pub regions: Vec<Vec<NodeId>>,
    /// Nodes that it does not take, each with the reason.
    pub refused: Vec<(NodeId, String)>,
}

impl Claim {
    /// A claim of all nodes for which `refusal` gives no reason, as one region.
    pub fn of_nodes(graph: &Graph, mut refusal: impl FnMut(NodeId) -> Option<String>) -> Self {
        let mut claim = Claim::default();
        let mut region = Vec::new();
        for (id, _) in graph.nodes() {
            match refusal(id) {
                None => region.push(id),
                Some(reason) => claim.refused.push((id, reason)),
            }
        }
        if !region.is_empty() {
            claim.regions.push(region);
        }
        claim
    }
}

/// How to compile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompileOptions {}

/// A compiled region: immutable, shared by all callers.
pub trait Executable: Debug + Send + Sync {
    /// Types of what goes in and comes out, in the order of the region's inputs and outputs.
    fn signature(&self) -> &Signature;

    /// The state of one caller. `groups` holds a communicator for each group whose collectives the region has.
    ///
    /// # Errors
    /// `OutOfMemory`; `InvalidArgument` when a group is missing.
    fn instantiate(&self, groups: &Groups) -> Result<Box<dyn Execution>>;

    /// Bytes from which [`Device::load`] restores it.
    ///
    /// # Errors
    /// `Unsupported` when the backend cannot.
    fn serialize(&self) -> Result<Vec<u8>>;
}

/// Types of an executable's inputs and outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Of the inputs.
    pub inputs: Vec<TensorSpec>,
    /// Of the outputs.
    pub outputs: Vec<TensorSpec>,
}

impl Signature {
    /// The signature of a region.
    pub fn of(region: &Graph) -> Self {
        let specs = |ports: &[mslite_graph_opt::ir::Port]| {
            ports.iter().map(|port| region.spec(port.value).clone()).collect()
        };
        Signature { inputs: specs(region.inputs()), outputs: specs(region.outputs()) }
    }
}

/// The state of one caller of an executable: its scratch memory, its communicators.
pub trait Execution: Debug + Send {
    /// Enqueues one run. Extents of the inputs may differ from run to run within the signature; the outputs
    /// have the extents that follow from them. The buffers must live until the stream has reached the work.
    ///
    /// # Errors
    /// `InvalidArgument` when buffers do not fit the signature, `PeerLost` and `Timeout` from collectives,
    /// `DeviceLost`, `Internal`.
    fn enqueue(&mut self, inputs: &[&dyn Buffer], outputs: &[&dyn Buffer], stream: &dyn Stream)
    -> Result<()>;

    /// An output whose extents follow from data, when the stream has reached a run; it stays until the next one.
    /// What was given for it to [`Execution::enqueue`] is not used. `None` for all other outputs.
    fn output(&self, index: usize) -> Option<&dyn Buffer>;

    /// Memory that it keeps for values, for the extents of the last run.
    fn memory(&self) -> MemoryUsage;
}

/// Communicators by the name of their group.
#[derive(Debug, Clone, Default)]
pub struct Groups(BTreeMap<GroupName, Arc<dyn Collective>>);

impl Groups {
    /// No groups: one rank alone.
    pub fn none() -> Self {
        Groups::default()
    }

    /// Adds a communicator under the name of its group.
    pub fn insert(&mut self, name: GroupName, collective: Arc<dyn Collective>) {
        self.0.insert(name, collective);
    }

    /// The communicator of a group.
    pub fn collective(&self, name: &GroupName) -> Option<&Arc<dyn Collective>> {
        self.0.get(name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&GroupName, &Arc<dyn Collective>)> {
        self.0.iter()
    }
}
