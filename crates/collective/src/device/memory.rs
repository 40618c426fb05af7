//! Memory and streams of a device that this crate makes itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mslite_tensor::{
    Buffer, DType, DeviceSpan, DeviceStream, Dims, HostBuffer, HostSpan, Stream, Tensor, TensorSpec,
};

use super::driver::{Driver, SCRATCH};
use super::wait::wait_until;
use crate::{Error, Result};

/// A tensor in the memory of a device, for callers that have no memory of the device themselves.
#[derive(Debug, Clone)]
pub struct DeviceBuffer {
    memory: Arc<Memory>,
    stream: Arc<OwnStream>,
    dtype: DType,
    dims: Dims,
}

impl DeviceBuffer {
    pub(crate) fn new(driver: &Arc<dyn Driver>, dtype: DType, dims: &[usize]) -> Result<Self> {
        let spec = TensorSpec::fixed(dtype, dims);
        let len = spec.size_bytes().map_err(|e| Error::InvalidArgument(e.to_string()))?;
        let memory = Arc::new(Memory::new(driver, len.max(1))?);
        let stream = Arc::new(OwnStream::new(driver)?);
        Ok(DeviceBuffer { memory, stream, dtype, dims: Dims::from_slice(dims) })
    }

    /// Copies a tensor of the same type and size to the device, and waits for that.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for another size, [`Error::Library`].
    pub fn write(&self, tensor: &Tensor) -> Result<()> {
        let from = self.same_size(&HostBuffer::reading(tensor))?;
        self.memory.driver.upload(from, self.memory.address, self.stream.handle)?;
        self.stream.wait()
    }

    /// Copies the bytes to a new tensor, and waits for that. Work of other streams that writes the buffer must
    /// have finished.
    ///
    /// # Errors
    /// [`Error::Library`], [`Error::InvalidArgument`] when there is no memory for the copy.
    pub fn read(&self) -> Result<Tensor> {
        let invalid = |e: mslite_tensor::Error| Error::InvalidArgument(e.to_string());
        let mut tensor = Tensor::zeros(self.dtype, &self.dims).map_err(invalid)?;
        let to = self.same_size(&HostBuffer::writing(&mut tensor).map_err(invalid)?)?;
        self.memory.driver.download(self.memory.address, to, self.stream.handle)?;
        self.stream.wait()?;
        Ok(tensor)
    }

    fn same_size(&self, other: &HostBuffer) -> Result<HostSpan> {
        let span = other.host().filter(|_| other.dtype() == self.dtype && other.dims() == self.dims());
        span.ok_or_else(|| {
            Error::InvalidArgument(format!(
                "a tensor of {}{:?} does not fit a buffer of {}{:?}",
                other.dtype(),
                other.dims(),
                self.dtype,
                self.dims()
            ))
        })
    }
}

impl Buffer for DeviceBuffer {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn dims(&self) -> &[usize] {
        &self.dims
    }

    fn host(&self) -> Option<HostSpan> {
        None
    }

    fn device(&self) -> Option<DeviceSpan> {
        let len = self.dims.iter().product::<usize>() * self.dtype.size();
        Some(DeviceSpan { api: self.memory.driver.api(), address: self.memory.address, len })
    }
}

/// A stream of a device whose waits end when a rank is lost.
pub struct WatchedStream {
    stream: OwnStream,
    watch: Box<dyn Fn(Duration) -> Result<()> + Send + Sync>,
}

impl WatchedStream {
    /// `watch` is told again and again how long a wait has taken, and ends it by an error.
    pub(crate) fn new(
        driver: &Arc<dyn Driver>,
        watch: impl Fn(Duration) -> Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        Ok(WatchedStream { stream: OwnStream::new(driver)?, watch: Box::new(watch) })
    }

    /// As [`Stream::synchronize`].
    ///
    /// # Errors
    /// As [`Collective::enqueue`](crate::Collective::enqueue).
    pub fn wait(&self) -> Result<()> {
        wait_until(&mut || self.stream.is_idle(), &*self.watch)
    }
}

impl Stream for WatchedStream {
    fn synchronize(&self) -> std::result::Result<(), String> {
        self.wait().map_err(|error| error.to_string())
    }

    fn device(&self) -> Option<DeviceStream> {
        Some(DeviceStream { api: self.stream.driver.api(), handle: self.stream.handle })
    }
}

impl fmt::Debug for WatchedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedStream").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Memory of a device, given back when dropped.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) driver: Arc<dyn Driver>,
    pub(super) address: usize,
    len: usize,
}

impl Memory {
    pub(super) fn new(driver: &Arc<dyn Driver>, len: usize) -> Result<Self> {
        Ok(Memory { driver: Arc::clone(driver), address: driver.allocate(len)?, len })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.driver.free(self.address);
    }
}

/// A stream of our own.
#[derive(Debug)]
pub(super) struct OwnStream {
    driver: Arc<dyn Driver>,
    pub(super) handle: usize,
}

impl OwnStream {
    fn new(driver: &Arc<dyn Driver>) -> Result<Self> {
        Ok(OwnStream { driver: Arc::clone(driver), handle: driver.create_stream()? })
    }

    pub(super) fn is_idle(&self) -> Result<bool> {
        self.driver.is_idle(self.handle)
    }

    /// For copies, which wait for no other rank.
    fn wait(&self) -> Result<()> {
        wait_until(&mut || self.is_idle(), &|_| Ok(()))
    }
}

impl Drop for OwnStream {
    fn drop(&mut self) {
        self.driver.destroy_stream(self.handle);
    }
}

/// What a group has for operations on host memory.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) stream: OwnStream,
    pub(super) scratch: Memory,
    memory: Option<Memory>,
}

impl Staging {
    pub(super) fn new(driver: &Arc<dyn Driver>) -> Result<Self> {
        Ok(Staging { stream: OwnStream::new(driver)?, scratch: Memory::new(driver, SCRATCH)?, memory: None })
    }

    /// Address of at least `len` bytes.
    pub(super) fn reserve(&mut self, len: usize) -> Result<usize> {
        match &self.memory {
            Some(memory) if memory.len >= len => Ok(memory.address),
            _ => {
                self.memory = None;
                let memory = Memory::new(&self.scratch.driver, len.max(SCRATCH).next_power_of_two())?;
                Ok(self.memory.insert(memory).address)
            }
        }
    }
}
