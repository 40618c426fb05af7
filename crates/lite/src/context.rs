use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use mslite_backend_cpu::CpuBackend;
use mslite_collective::{Cancellation, JoinOptions, TransportKind, World};
use mslite_runtime::{Backend, DeviceOptions, NamedDevice, Registry};

use crate::{Error, ErrorKind, Result};

/// Where and how models run.
///
/// The fields are MindSpore Lite's; the crate's documentation says which of its settings are not there. Whoever sets none of them gets the CPU with as many threads as suit the
/// machine, and the rank that the launcher has set in the environment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Context {
    /// Devices in order of preference. Building a model with one that is absent is the error `Unavailable`.
    pub target: Vec<Target>,
    /// Settings of the CPU.
    pub cpu: CpuSettings,
    /// Settings of NVIDIA GPUs.
    pub gpu: GpuSettings,
    /// Settings of Ascend devices.
    pub ascend: AscendSettings,
    /// File with the ranks of named communication groups (protobuf `ParallelGroupMap`).
    pub group_info_file: Option<PathBuf>,
    /// This process's place among the ranks.
    pub ranks: Ranks,
    /// How long a rank waits for others before it gives up; by default what the environment says
    /// (`MSLITE_TIMEOUT`, in seconds), else 30 s.
    ///
    /// With [`Ranks::Environment`] the process joins the others once, for all its models: the timeout of the
    /// context with which it does so holds for them all. A [`Ranks::World`] keeps the timeout that it was made with.
    pub timeout: Option<Duration>,
    /// What the ranks of [`Ranks::Environment`] exchange data through; by default what the environment says
    /// (`MSLITE_TRANSPORT`), else shared memory on one host, and MPI on several.
    pub transport: Option<TransportKind>,
    /// What ends the job of the ranks of [`Ranks::Environment`] from outside; as with the timeout, that of the context that
    /// joins. A [`Ranks::World`] has its own: [`World::cancellation`].
    pub cancellation: Cancellation,
    registry: Registry,
}

/// How long a rank that gives up waits for the others, to tell them.
const LAST_CALL: Duration = Duration::from_secs(1);

/// A kind of device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU, through TensorRT.
    Gpu,
    /// An Ascend device, through GE.
    Ascend,
    /// A backend that the program has registered under this name.
    Backend(String),
}

/// Settings of the CPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuSettings {
    /// Threads that compute; 0 for the number of cores divided by the number of ranks, at least 1.
    pub thread_num: usize,
}

/// Settings of NVIDIA GPUs. Rank and number of ranks are the context's: [`Context::rank_id`],
/// [`Context::group_size`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuSettings {
    /// Number of the device.
    pub device_id: usize,
    /// Library that runs models; empty for the default, `tensorrt`.
    pub provider: String,
}

/// Settings of Ascend devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AscendSettings {
    /// Number of the device.
    pub device_id: usize,
    /// Rank of this process in the rank table; other devices take [`Context::rank_id`].
    pub rank_id: usize,
    /// Library that runs models: `ge`, or empty for ACL.
    pub provider: String,
}

/// This process's place among the ranks.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Ranks {
    /// What the launcher has set in the environment (`mslite launch`, mpirun, srun, torchrun, msrun, indexed jobs of
    /// Kubernetes); alone if none has.
    #[default]
    Environment,
    /// Alone, whatever the environment says.
    Alone,
    /// One rank of a world that the program has joined, or made for its threads.
    World(Arc<World>),
}

impl Default for Context {
    fn default() -> Self {
        Context {
            target: vec![Target::Cpu],
            cpu: CpuSettings::default(),
            gpu: GpuSettings::default(),
            ascend: AscendSettings::default(),
            group_info_file: None,
            ranks: Ranks::default(),
            timeout: None,
            transport: None,
            cancellation: Cancellation::new(),
            registry: Registry::new().with(Arc::new(CpuBackend)),
        }
    }
}

impl Context {
    /// The default context.
    pub fn new() -> Self {
        Context::default()
    }

    /// The same context with one more backend, to be chosen by [`Target::Backend`].
    #[must_use]
    pub fn with_backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.registry = self.registry.with(backend);
        self
    }

    /// Rank of this process: 0 if it is alone.
    ///
    /// # Errors
    /// As [`Context::group_size`].
    pub fn rank_id(&self) -> Result<usize> {
        Ok(self.place()?.0)
    }

    /// Number of ranks: 1 if this process is alone.
    ///
    /// # Errors
    /// `InvalidArgument` when the environment contradicts itself.
    pub fn group_size(&self) -> Result<usize> {
        Ok(self.place()?.1)
    }

    fn place(&self) -> Result<(usize, usize)> {
        Ok(match &self.ranks {
            Ranks::Alone => (0, 1),
            Ranks::World(world) => (world.rank(), world.size()),
            Ranks::Environment => {
                let options = JoinOptions::from_env_over(self.transport)?;
                options.map_or((0, 1), |options| (options.rank, options.size))
            }
        })
    }

    /// Tells the other ranks that this one gives up because of `error`: they get `PeerLost` with the reason, and
    /// need not wait for the timeout. Nothing can be exchanged afterwards.
    ///
    /// A rank that has not joined the others yet joins for that, and gives them one second to come.
    pub fn abort(&self, error: &Error) {
        let world = match &self.ranks {
            Ranks::Environment => self.world_of_environment(Some(LAST_CALL)),
            _ => self.world(),
        };
        // Ranks that do not come have nothing to be told.
        if let Ok(Some(world)) = world {
            world.abort(&format!("{}: {error}", error.kind()));
        }
    }

    /// The world of this process, joined at the first call.
    pub(crate) fn world(&self) -> Result<Option<Arc<World>>> {
        match &self.ranks {
            Ranks::Alone => Ok(None),
            Ranks::World(world) => Ok(Some(world.clone())),
            Ranks::Environment => self.world_of_environment(self.timeout),
        }
    }

    /// One world for the process: a process is one rank, however many models it builds.
    fn world_of_environment(&self, timeout: Option<Duration>) -> Result<Option<Arc<World>>> {
        static WORLD: OnceLock<Mutex<Option<Arc<World>>>> = OnceLock::new();
        let Some(mut options) = JoinOptions::from_env_over(self.transport)? else { return Ok(None) };
        options.timeout = timeout.unwrap_or(options.timeout);
        options.cancellation = self.cancellation.clone();
        let mut joined =
            WORLD.get_or_init(Mutex::default).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if joined.is_none() {
            *joined = Some(Arc::new(World::join(&options)?));
        }
        Ok(joined.clone())
    }

    /// Opens the devices of the targets.
    pub(crate) fn devices(&self) -> Result<Vec<NamedDevice>> {
        if self.target.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, "the context has no target"));
        }
        self.target.iter().map(|target| self.device(target)).collect()
    }

    fn device(&self, target: &Target) -> Result<NamedDevice> {
        let unavailable = |what: &str| {
            let message = format!("{what} is not part of this build; use the target cpu");
            Err(Error::new(ErrorKind::Unavailable, message))
        };
        match target {
            Target::Cpu => {
                self.registry.open("cpu", 0, &DeviceOptions::default().with_threads(self.threads()?))
            }
            Target::Backend(name) => self.registry.open(name, 0, &DeviceOptions::default()),
            Target::Gpu => unavailable("target gpu (TensorRT)"),
            Target::Ascend => unavailable("target ascend (GE)"),
        }
    }

    /// Threads of the CPU that compute for this rank: its share of the cores unless [`CpuSettings`] say how many.
    ///
    /// # Errors
    /// As [`Context::group_size`].
    pub fn threads(&self) -> Result<usize> {
        if self.cpu.thread_num > 0 {
            return Ok(self.cpu.thread_num);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok((cores / self.group_size()?).max(1))
    }
}
