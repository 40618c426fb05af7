use std::sync::{Arc, Mutex, PoisonError};

use mslite_graph_opt::Graph;
use mslite_graph_opt::ir::Node;
use mslite_runtime::{
    Backend, Capability, Claim, CompileOptions, Device, DeviceInfo, DeviceOptions, Error, ErrorKind,
    Executable, Result,
};
use mslite_tensor::{Buffer, DType, HostBuffer, HostStream, Stream, TensorSpec};

use crate::crew::{Crew, Team};
use crate::execution::Shared;
use crate::kernels::{extents_refusal, refusal};

/// The CPU of this machine, as a backend with one device.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuBackend;

impl Backend for CpuBackend {
    fn name(&self) -> &str {
        "cpu"
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>> {
        Ok(vec![DeviceInfo { id: 0, name: format!("{} CPU", std::env::consts::ARCH) }])
    }

    fn open(&self, device: &DeviceInfo, options: &DeviceOptions) -> Result<Arc<dyn Device>> {
        if device.id != 0 {
            let reason = format!("there is one CPU device, number 0, not {}", device.id);
            return Err(Error::new(ErrorKind::Unavailable, reason));
        }
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n if n <= MAX_THREADS => n,
            n => {
                let reason = format!("{n} threads are more than the {MAX_THREADS} that a device takes");
                return Err(Error::new(ErrorKind::InvalidArgument, reason));
            }
        };
        let mut capability = Capability::host(&DType::ALL);
        capability.symbolic_shapes = true;
        capability.collectives = true;
        Ok(Arc::new(CpuDevice { capability, crews: Arc::new(Crews::new(threads)) }))
    }
}

/// Threads that a device can be asked for.
const MAX_THREADS: usize = 1024;

#[derive(Debug)]
struct CpuDevice {
    capability: Capability,
    crews: Arc<Crews>,
}

impl Device for CpuDevice {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    fn claim(&self, graph: &Graph) -> Claim {
        Claim::of_nodes(graph, |id| {
            let node = graph.node(id);
            let within = node.op.bodies().flat_map(|body| body.nodes_within());
            std::iter::once((graph, node)).chain(within).find_map(|(graph, node)| node_refusal(graph, node))
        })
    }

    fn compile(&self, region: &Graph, _options: &CompileOptions) -> Result<Arc<dyn Executable>> {
        if let Some((node, reason)) = self.claim(region).refused.into_iter().next() {
            let node = region.node(node);
            return Err(Error::new(ErrorKind::Unsupported, reason).with("node", &node.origin));
        }
        Ok(Arc::new(Shared::compile(region, &self.crews)?))
    }

    fn load(&self, _blob: &[u8]) -> Result<Arc<dyn Executable>> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "executables of the CPU are not serialised: compile the graph",
        ))
    }

    fn allocate(&self, spec: &TensorSpec) -> Result<Arc<dyn Buffer>> {
        spec.size_bytes()?;
        let dims = spec.shape.as_fixed().unwrap_or_default();
        Ok(Arc::new(HostBuffer::zeroed(spec.dtype, &dims)?))
    }

    fn stream(&self) -> Result<Arc<dyn Stream>> {
        Ok(Arc::new(HostStream))
    }
}

/// Why a node is not evaluated, if it is not.
fn node_refusal(graph: &Graph, node: &Node) -> Option<String> {
    let operands: Vec<&TensorSpec> = node.operands.iter().map(|&v| graph.spec(v)).collect();
    let dtypes: Vec<DType> = operands.iter().map(|spec| spec.dtype).collect();
    refusal(&node.op, &dtypes).or_else(|| extents_refusal(&node.op, &operands))
}

/// The crews of a device. Each run takes one, so that callers do not wait for each other.
#[derive(Debug)]
pub(crate) struct Crews {
    threads: usize,
    idle: Mutex<Vec<Crew>>,
}

impl Crews {
    pub(crate) fn new(threads: usize) -> Self {
        Crews { threads, idle: Mutex::new(Vec::new()) }
    }

    /// Threads of each crew.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `work` on an idle crew, or a new one.
    ///
    /// # Errors
    /// As [`Crew::start`] and [`Crew::run`].
    pub(crate) fn run<R: Send>(&self, work: impl FnOnce(&Team<'_>) -> R + Send) -> Result<R> {
        let idle = self.lock().pop();
        let crew = idle.map_or_else(|| Crew::start(self.threads), Ok)?;
        let result = crew.run(work);
        self.lock().push(crew);
        result
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Crew>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
