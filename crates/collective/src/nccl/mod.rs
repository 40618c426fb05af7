//! Worlds whose data go through NCCL, between GPUs.

#[allow(unsafe_code, reason = "calls functions of NCCL")]
mod communicator;
#[allow(unsafe_code, reason = "calls functions of CUDA's driver")]
mod cuda;
#[allow(unsafe_code, reason = "declares functions of NCCL and CUDA's driver")]
mod functions;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mslite_tensor::DType;

use self::communicator::Nccl as Library;
use crate::device::DeviceWorld;
use crate::{Cancellation, Collective, DeviceBuffer, Group, Result, Transport, WatchedStream, World};

/// How a rank uses NCCL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NcclOptions {
    /// Which GPU, counted as CUDA does. Ranks do not share one, unless NCCL is told to allow it.
    pub device: usize,
    /// NCCL's file; where it is not given, the system's loader looks for `libnccl.so.2`.
    pub library: Option<PathBuf>,
    /// The file of CUDA's driver; where it is not given, the system's loader looks for `libcuda.so.1`.
    pub driver: Option<PathBuf>,
    /// Compare every operation between its members before it is enqueued, over the control world. Then operations that
    /// do not fit are an error that says so instead of a timeout, and a rank that does not come is named. The price
    /// is a small operation of the control world for each one, and that `enqueue` waits for the other members;
    /// graphs of CUDA cannot be recorded so. All ranks give the same.
    pub compare: bool,
}

/// A transport over NCCL. What ranks say to each other goes through a *control* world: how to find each other in NCCL,
/// [`World::exchange`], who has aborted. Copies are the same transport; the rank leaves when all are dropped.
///
/// Operations on buffers and streams of CUDA (see [`Buffer::device`](mslite_tensor::Buffer::device) and
/// [`Stream::device`](mslite_tensor::Stream::device)) are enqueued and not waited for: who waits calls
/// [`Collective::watch`] meanwhile, as [`WatchedStream`] does. On the host's stream, operations wait and copy what is
/// in host memory to the GPU and back.
///
/// ```no_run
/// use mslite_collective::nccl::{Nccl, NcclOptions};
/// use mslite_collective::{CollectiveExt, JoinOptions, Reduction, World};
///
/// let options = JoinOptions::from_env()?.expect("started by a launcher");
/// let gpu = NcclOptions { device: options.rank, ..NcclOptions::default() };
/// let world = World::over(Nccl::new(World::join(&options)?, &gpu)?)?;
/// world.everybody().all_reduce(&mut [1.0f32; 1024], Reduction::Sum)?;
/// # Ok::<(), mslite_collective::Error>(())
/// ```
#[derive(Clone)]
pub struct Nccl {
    world: DeviceWorld,
    version: i32,
}

impl Nccl {
    /// Opens the libraries. Ranks meet in NCCL when [`World::over`] makes the group of all ranks.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) when a library is not there or too old, saying where it
    /// was looked for; [`Error::Library`](crate::Error::Library) when there is no such GPU.
    pub fn new(control: World, options: &NcclOptions) -> Result<Nccl> {
        let library = Library::open(options)?;
        let version = library.version();
        Ok(Nccl { world: DeviceWorld::new(control, library, options.compare), version })
    }

    /// NCCL's version, as NCCL counts: 22809 is 2.28.9.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// A buffer on the GPU, for callers that have no memory there themselves. Its bytes are not set.
    ///
    /// # Errors
    /// [`Error::Library`](crate::Error::Library) when there is not as much memory.
    pub fn buffer(&self, dtype: DType, dims: &[usize]) -> Result<DeviceBuffer> {
        self.world.buffer(dtype, dims)
    }

    /// A stream of the GPU, which watches all groups of this rank while it is waited for.
    ///
    /// # Errors
    /// [`Error::Library`](crate::Error::Library).
    pub fn stream(&self) -> Result<WatchedStream> {
        self.world.stream()
    }
}

impl Transport for Nccl {
    fn rank(&self) -> usize {
        self.world.control().rank()
    }

    fn size(&self) -> usize {
        self.world.control().size()
    }

    fn timeout(&self) -> Duration {
        self.world.control().timeout()
    }

    fn open(&self, group: Group) -> Result<Arc<dyn Collective>> {
        self.world.open(group)
    }

    fn split(&self, part: Option<Group>) -> Result<Option<Arc<dyn Collective>>> {
        self.world.split(part)
    }

    fn exchange(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.world.control().exchange(bytes)
    }

    fn abort(&self, reason: &str) {
        self.world.abort(reason);
    }

    fn cancellation(&self) -> Option<&Cancellation> {
        Some(self.world.control().cancellation())
    }

    fn cancel(&self, by: &str) {
        self.world.cancel(by);
    }
}

impl fmt::Debug for Nccl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nccl").field("world", &self.world).field("version", &self.version).finish()
    }
}
