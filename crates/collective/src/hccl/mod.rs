//! Worlds whose data go through HCCL, between Ascend devices.

#[allow(unsafe_code, reason = "calls functions of AscendCL")]
mod acl;
#[allow(unsafe_code, reason = "calls functions of HCCL")]
mod communicator;
#[allow(unsafe_code, reason = "declares functions of HCCL and AscendCL")]
mod functions;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mslite_tensor::DType;

use self::communicator::Hccl as Library;
use crate::device::DeviceWorld;
use crate::{
    Cancellation, Collective, DeviceBuffer, Group, GroupName, Result, Transport, WatchedStream, World,
};

/// How a rank uses HCCL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HcclOptions {
    /// Which device, counted as AscendCL does.
    pub device: usize,
    /// A rank table, by which the group of all ranks is made. Without one, ranks find each other by what the first
    /// one tells. Other groups are made so in any case.
    pub rank_table: Option<PathBuf>,
    /// HCCL's file; where it is not given, the system's loader looks for `libhccl.so`.
    pub library: Option<PathBuf>,
    /// AscendCL's file; where it is not given, the system's loader looks for `libascendcl.so`.
    pub driver: Option<PathBuf>,
    /// Let HCCL add up in the same order in every run.
    pub deterministic: bool,
    /// Compare every operation between its members, as [`NcclOptions::compare`] of the module for NCCL says.
    ///
    /// [`NcclOptions::compare`]: https://docs.rs/mslite-collective/latest/mslite_collective/nccl/struct.NcclOptions.html#structfield.compare
    pub compare: bool,
}

/// A transport over HCCL. What ranks say to each other goes through a *control* world: how to find each other in HCCL,
/// [`World::exchange`], who has aborted. Copies are the same transport; the rank leaves when all are dropped.
///
/// Operations on buffers and streams of AscendCL (see [`Buffer::device`](mslite_tensor::Buffer::device) and
/// [`Stream::device`](mslite_tensor::Stream::device)) are enqueued and not waited for: who waits calls
/// [`Collective::watch`] meanwhile, as [`WatchedStream`] does. On the host's stream, operations wait and copy what is
/// in host memory to the device and back.
///
/// HCCL's own limits are read from the environment, in seconds: `HCCL_CONNECT_TIMEOUT` for meeting and
/// `HCCL_EXEC_TIMEOUT` for operations. The control world's timeout ends a wait of ours before, if it is shorter.
#[derive(Clone)]
pub struct Hccl {
    world: DeviceWorld,
}

impl Hccl {
    /// Opens the libraries. Ranks meet in HCCL when [`World::over`] makes the group of all ranks.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) when a library is not there or too old, saying where it
    /// was looked for; [`Error::Library`](crate::Error::Library) when there is no such device.
    pub fn new(control: World, options: &HcclOptions) -> Result<Hccl> {
        let library = Library::open(options)?;
        Ok(Hccl { world: DeviceWorld::new(control, library, options.compare) })
    }

    /// What HCCL calls a group of this rank: the `group` of exchanges in graphs for GE. `None` for groups that are not
    /// there, or have failed.
    pub fn name_of(&self, group: &GroupName) -> Option<String> {
        self.world.name_of(group)
    }

    /// A buffer on the device, for callers that have no memory there themselves. Its bytes are not set.
    ///
    /// # Errors
    /// [`Error::Library`](crate::Error::Library) when there is not as much memory.
    pub fn buffer(&self, dtype: DType, dims: &[usize]) -> Result<DeviceBuffer> {
        self.world.buffer(dtype, dims)
    }

    /// A stream of the device, which watches all groups of this rank while it is waited for.
    ///
    /// # Errors
    /// [`Error::Library`](crate::Error::Library).
    pub fn stream(&self) -> Result<WatchedStream> {
        self.world.stream()
    }
}

impl Transport for Hccl {
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

impl fmt::Debug for Hccl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hccl").field("world", &self.world).finish()
    }
}
