//! Worlds whose data go through NCCL, between GPUs.
//!
//! ```no_run
//! use mslite_collective::nccl::NcclOptions;
//! use mslite_collective::{CollectiveExt, JoinOptions, Reduction, World};
//!
//! let options = JoinOptions::from_env()?.expect("started by a launcher");
//! let gpu = NcclOptions { device: options.rank, ..NcclOptions::default() };
//! let world = World::over(gpu.open(World::join(&options)?)?)?;
//! world.everybody().all_reduce(&mut [1.0f32; 1024], Reduction::Sum)?;
//! # Ok::<(), mslite_collective::Error>(())
//! ```

#[allow(unsafe_code, reason = "calls functions of NCCL")]
mod communicator;
#[allow(unsafe_code, reason = "calls functions of CUDA's driver")]
mod cuda;
#[allow(unsafe_code, reason = "declares functions of NCCL and CUDA's driver")]
mod functions;

use std::path::PathBuf;

use self::communicator::Nccl;
use crate::{DeviceTransport, Result, World};

/// How a rank uses NCCL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NcclOptions {
    /// Which GPU, counted as CUDA does. Ranks do not share one, unless NCCL is told to allow it.
    pub device: usize,
    /// NCCL's file; where it is not given, the system's loader looks for `libnccl.so.2`.
    pub library: Option<PathBuf>,
    /// The file of CUDA's driver; where it is not given, the system's loader looks for `libcuda.so.1`.
    pub driver: Option<PathBuf>,
    /// Compare every operation between its members, as [`DeviceTransport`] says.
    pub compare: bool,
}

impl NcclOptions {
    /// Opens the libraries: NCCL and CUDA's driver.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) when a library is not there or too old, saying where it
    /// was looked for; [`Error::Library`](crate::Error::Library) when there is no such GPU.
    pub fn open(&self, control: World) -> Result<DeviceTransport> {
        Ok(DeviceTransport::new(control, Nccl::open(self)?, self.compare))
    }
}
