use std::any::Any;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::shape::size_bytes;
use crate::{DType, Dims, Error, Result, Tensor};

/// A dense row-major tensor in the memory of some device.
///
/// Work that reads or writes a buffer is enqueued on a [`Stream`]. Between enqueueing and the stream's reaching
/// that work, whoever enqueued it keeps the buffer alive and lets nothing else write what it reads, or touch
/// what it writes.
pub trait Buffer: Any + fmt::Debug + Send + Sync {
    /// Element type.
    fn dtype(&self) -> DType;

    /// Extents.
    fn dims(&self) -> &[usize];

    /// Where the bytes are, if the CPU can address them.
    fn host(&self) -> Option<HostSpan>;

    /// Where the bytes are, if a device can address them; memory that both can has both.
    fn device(&self) -> Option<DeviceSpan> {
        None
    }
}

/// Host memory that a buffer occupies. Reading and writing go through raw pointers, under [`Buffer`]'s contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostSpan {
    /// First byte; dangling when `len` is 0.
    pub ptr: NonNull<u8>,
    /// Number of bytes.
    pub len: usize,
}

/// Device memory that a buffer occupies, as the functions of the device's vendor take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceSpan {
    /// Whose memory.
    pub api: DeviceApi,
    /// Address of the first byte (CUDA: a `CUdeviceptr`); any number when `len` is 0.
    pub address: usize,
    /// Number of bytes.
    pub len: usize,
}

/// Whose functions take an address or a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceApi {
    /// CUDA's driver and runtime.
    Cuda,
    /// AscendCL.
    Ascend,
}

impl fmt::Display for DeviceApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceApi::Cuda => "CUDA",
            DeviceApi::Ascend => "Ascend",
        })
    }
}

/// An ordered queue of work on a device.
pub trait Stream: Any + fmt::Debug + Send + Sync {
    /// Waits until everything enqueued so far has finished.
    ///
    /// # Errors
    /// The text of the first failure among that work.
    fn synchronize(&self) -> Result<(), String>;

    /// The stream as its vendor knows it, for libraries that enqueue work of their own on it.
    fn device(&self) -> Option<DeviceStream> {
        None
    }
}

/// A vendor's stream. It stays valid until the [`Stream`] that told of it is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceStream {
    /// Whose stream.
    pub api: DeviceApi,
    /// The pointer that stands for it (CUDA: a `CUstream`, 0 for the default stream; Ascend: an `aclrtStream`).
    pub handle: usize,
}

/// The stream of the host: work has finished when the call that enqueues it returns.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostStream;

impl Stream for HostStream {
    fn synchronize(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A buffer in host memory.
#[derive(Debug)]
pub struct HostBuffer {
    dtype: DType,
    dims: Dims,
    span: HostSpan,
    /// Keeps the memory alive; `None` when the maker promised to.
    _owner: Option<Arc<Block>>,
}

#[allow(unsafe_code, reason = "buffers are views of memory that streams, not borrows, protect")]
mod span {
    use super::{Block, Buffer, HostBuffer, HostSpan, Result, Tensor};

    // SAFETY: a span is an address; `Buffer`'s contract orders the accesses made through it.
    unsafe impl Send for HostSpan {}
    // SAFETY: as above.
    unsafe impl Sync for HostSpan {}

    // SAFETY: a block is plain memory whose accesses `Buffer`'s contract orders.
    unsafe impl Send for Block {}
    // SAFETY: as above.
    unsafe impl Sync for Block {}

    impl Tensor {
        /// A copy of a buffer; `None` when the CPU cannot address its bytes.
        ///
        /// # Errors
        /// [`Error::TooLarge`](crate::Error::TooLarge) when there is not as much memory.
        ///
        /// # Safety
        /// No work that writes the buffer may run or be enqueued meanwhile.
        pub unsafe fn copy_of(buffer: &dyn Buffer) -> Result<Option<Tensor>> {
            let mut tensor = Tensor::zeros(buffer.dtype(), buffer.dims())?;
            let bytes = tensor.bytes_mut()?;
            let Some(span) = buffer.host().filter(|span| span.len >= bytes.len()) else { return Ok(None) };
            // SAFETY: the span is valid by `Buffer`'s contract and as long as the tensor; the caller excludes writers.
            bytes.copy_from_slice(unsafe { std::slice::from_raw_parts(span.ptr.as_ptr(), bytes.len()) });
            Ok(Some(tensor))
        }
    }

    impl HostBuffer {
        /// The bytes, while nothing writes them.
        ///
        /// # Safety
        /// No work that writes the buffer may run or be enqueued while the slice lives.
        pub unsafe fn bytes(&self) -> &[u8] {
            // SAFETY: the span is valid by construction; the caller excludes writers.
            unsafe { std::slice::from_raw_parts(self.span.ptr.as_ptr(), self.span.len) }
        }

        /// The bytes, for writing, while nothing else touches them.
        ///
        /// # Safety
        /// No other access to the memory may happen while the slice lives.
        #[allow(clippy::mut_from_ref, reason = "the caller promises exclusive access")]
        pub unsafe fn bytes_mut(&self) -> &mut [u8] {
            // SAFETY: the span is valid by construction; the caller excludes all others.
            unsafe { std::slice::from_raw_parts_mut(self.span.ptr.as_ptr(), self.span.len) }
        }

        /// A view of memory that somebody else owns.
        ///
        /// # Safety
        /// `span` must hold exactly a tensor of this type and shape and stay valid while the buffer is used,
        /// for writing too if it serves as an output.
        pub unsafe fn from_span(dtype: crate::DType, dims: &[usize], span: HostSpan) -> Self {
            HostBuffer { dtype, dims: crate::Dims::from_slice(dims), span, _owner: None }
        }
    }
}

/// Memory of 64-byte alignment, zeroed when allocated.
struct Block {
    lines: Box<[Line]>,
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Block {
    fn zeroed(len: usize) -> Option<Self> {
        let lines = bytemuck::allocation::try_zeroed_slice_box(len.div_ceil(64)).ok()?;
        Some(Block { lines })
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes)", self.lines.len() * 64)
    }
}

impl HostBuffer {
    /// A buffer of zeros with memory of its own, aligned to 64 bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when there is not as much memory.
    pub fn zeroed(dtype: DType, dims: &[usize]) -> Result<Self> {
        let len = size_bytes(dtype, dims)?;
        let mut block = Block::zeroed(len).ok_or_else(|| Error::TooLarge { dims: dims.to_vec() })?;
        let ptr = NonNull::from(&mut *block.lines).cast::<u8>();
        let span = HostSpan { ptr, len };
        Ok(HostBuffer { dtype, dims: Dims::from_slice(dims), span, _owner: Some(Arc::new(block)) })
    }

    /// A part of this buffer's memory as a tensor of its own, kept alive by it.
    ///
    /// # Errors
    /// [`Error::Size`] when the part does not lie inside the buffer.
    pub fn window(&self, dtype: DType, dims: &[usize], offset: usize) -> Result<Self> {
        let len = size_bytes(dtype, dims)?;
        if offset.checked_add(len).is_none_or(|end| end > self.span.len) {
            return Err(Error::Size {
                dtype,
                dims: dims.to_vec(),
                expected: len,
                actual: self.span.len.saturating_sub(offset),
            });
        }
        let start = NonNull::new(self.span.ptr.as_ptr().wrapping_add(offset)).unwrap_or(self.span.ptr);
        let span = HostSpan { ptr: start, len };
        Ok(HostBuffer { dtype, dims: Dims::from_slice(dims), span, _owner: self._owner.clone() })
    }

    /// A view for reading.
    ///
    /// The caller keeps `tensor` alive and unwritten while enqueued work uses the buffer; dereferencing it is
    /// what needs `unsafe`, not making it.
    pub fn reading(tensor: &Tensor) -> Self {
        let bytes = tensor.bytes();
        let span = HostSpan { ptr: NonNull::from(bytes).cast(), len: bytes.len() };
        HostBuffer { dtype: tensor.dtype(), dims: Dims::from_slice(tensor.dims()), span, _owner: None }
    }

    /// A view for writing, under the same duty as [`HostBuffer::reading`].
    ///
    /// # Errors
    /// [`Error::Shared`] when others may see the tensor's bytes.
    pub fn writing(tensor: &mut Tensor) -> Result<Self> {
        let (dtype, dims) = (tensor.dtype(), Dims::from_slice(tensor.dims()));
        let bytes = tensor.bytes_mut()?;
        let span = HostSpan { len: bytes.len(), ptr: NonNull::from(bytes).cast() };
        Ok(HostBuffer { dtype, dims, span, _owner: None })
    }
}

impl Buffer for HostBuffer {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn dims(&self) -> &[usize] {
        &self.dims
    }

    fn host(&self) -> Option<HostSpan> {
        Some(self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_windows_stay_inside() {
        let buffer = HostBuffer::zeroed(DType::U8, &[200]).unwrap();
        assert_eq!(buffer.host().unwrap().ptr.as_ptr() as usize % 64, 0);
        let window = buffer.window(DType::F32, &[2, 4], 64).unwrap();
        assert_eq!(window.host().unwrap().len, 32);
        assert!(buffer.window(DType::F32, &[50], 4).is_err());
        assert!(buffer.window(DType::F32, &[1], usize::MAX).is_err());
    }

    #[test]
    fn only_owned_tensors_serve_as_outputs() {
        let mut tensor = Tensor::zeros(DType::F32, &[2]).unwrap();
        assert!(HostBuffer::writing(&mut tensor).is_ok());
        assert_eq!(HostBuffer::writing(&mut tensor.into_shared()).err(), Some(Error::Shared));
    }
}
