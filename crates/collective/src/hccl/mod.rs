//! Worlds whose data go through HCCL, between Ascend devices.

#[allow(unsafe_code, reason = "calls functions of AscendCL")]
mod acl;
#[allow(unsafe_code, reason = "calls functions of HCCL")]
mod communicator;
#[allow(unsafe_code, reason = "declares functions of HCCL and AscendCL")]
mod functions;

use std::path::PathBuf;

use self::communicator::Hccl;
use crate::{DeviceTransport, Result, World};

/// How a rank uses HCCL.
///
/// HCCL's own limits are read from the environment, in seconds: `HCCL_CONNECT_TIMEOUT` for meeting and
/// `HCCL_EXEC_TIMEOUT` for operations. The control world's timeout ends a wait of ours before, if it is shorter.
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
    /// Compare every operation between its members, as [`DeviceTransport`] says.
    pub compare: bool,
}

impl HcclOptions {
    /// Opens the libraries: HCCL and AscendCL.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) when a library is not there or too old, saying where it
    /// was looked for; [`Error::Library`](crate::Error::Library) when there is no such device.
    pub fn open(&self, control: World) -> Result<DeviceTransport> {
        Ok(DeviceTransport::new(control, Hccl::open(self)?, self.compare))
    }
}
