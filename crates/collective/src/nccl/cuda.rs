//! Memory and streams of a GPU, through CUDA's driver.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use mslite_tensor::{DeviceApi, HostSpan};

use super::NcclOptions;
use super::functions::CudaFunctions;
use crate::device::Driver;
use crate::device::library::Search;
use crate::{Error, Result};

const NOT_READY: c_int = 600;
/// No implicit waiting for work on the default stream.
const STREAM_NON_BLOCKING: u32 = 1;

/// One GPU, with its primary context, which CUDA's runtime and NCCL use too.
#[derive(Debug)]
pub(super) struct Cuda {
    functions: CudaFunctions,
    device: c_int,
    context: usize,
}

impl Cuda {
    pub(super) fn open(options: &NcclOptions) -> Result<Arc<Cuda>> {
        let search = Search {
            what: "CUDA's driver",
            names: &["libcuda.so.1", "libcuda.so"],
            file: options.driver.as_deref(),
            hint: "it comes with the driver of NVIDIA's GPUs",
        };
        let functions = CudaFunctions::load(&search.open()?)?;
        let ordinal = c_int::try_from(options.device).unwrap_or(c_int::MAX);
        let (mut device, mut context) = (0, ptr::null_mut());
        // SAFETY: out-pointers are valid; the order is that of CUDA's documentation.
        unsafe {
            functions.check("cuInit", (functions.init)(0))?;
            functions.check(&format!("cuDeviceGet({ordinal})"), (functions.device)(&mut device, ordinal))?;
            functions.check("cuDevicePrimaryCtxRetain", (functions.retain_context)(&mut context, device))?;
        }
        Ok(Arc::new(Cuda { functions, device, context: context as usize }))
    }

    /// Does something while this GPU is the calling thread's.
    pub(super) fn within<R>(&self, work: impl FnOnce() -> R) -> Result<R> {
        // SAFETY: the context is retained while `self` lives.
        let pushed = unsafe { (self.functions.push_context)(self.context as *mut c_void) };
        self.functions.check("cuCtxPushCurrent", pushed)?;
        let result = work();
        let mut context = ptr::null_mut();
        // SAFETY: the out-pointer is valid; the context on top is the one that was pushed.
        let popped = unsafe { (self.functions.pop_context)(&mut context) };
        self.functions.check("cuCtxPopCurrent", popped)?;
        Ok(result)
    }

    fn call(&self, name: &str, work: impl FnOnce(&CudaFunctions) -> c_int) -> Result<()> {
        let code = self.within(|| work(&self.functions))?;
        self.functions.check(name, code)
    }
}

impl CudaFunctions {
    fn check(&self, call: &str, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        let mut text = ptr::null();
        // SAFETY: the out-pointer is valid; CUDA gives a constant text, or none for unknown codes.
        let text = unsafe {
            (self.error_string)(code, &mut text);
            if text.is_null() { "unknown".into() } else { CStr::from_ptr(text).to_string_lossy() }
        };
        Err(Error::Library { call: call.to_owned(), reason: format!("CUDA error {code}: {text}") })
    }
}

impl Driver for Cuda {
    fn api(&self) -> DeviceApi {
        DeviceApi::Cuda
    }

    fn allocate(&self, len: usize) -> Result<usize> {
        let mut address = 0;
        // SAFETY: the out-pointer is valid.
        self.call("cuMemAlloc", |cuda| unsafe { (cuda.allocate)(&mut address, len) })?;
        Ok(address as usize)
    }

    fn free(&self, address: usize) {
        // A failure here is one that work on the memory has reported before.
        // SAFETY: `allocate` gave the address, and its owner frees it once.
        let _ = self.call("cuMemFree", |cuda| unsafe { (cuda.free)(address as u64) });
    }

    fn upload(&self, from: HostSpan, to: usize, stream: usize) -> Result<()> {
        let from_ptr = from.ptr.as_ptr().cast();
        // SAFETY: the contract of `Buffer` keeps both spans valid.
        self.call("cuMemcpyHtoDAsync", |cuda| unsafe {
            (cuda.upload)(to as u64, from_ptr, from.len, stream as *mut c_void)
        })
    }

    fn download(&self, from: usize, to: HostSpan, stream: usize) -> Result<()> {
        let to_ptr = to.ptr.as_ptr().cast();
        // SAFETY: as for `upload`.
        self.call("cuMemcpyDtoHAsync", |cuda| unsafe {
            (cuda.download)(to_ptr, from as u64, to.len, stream as *mut c_void)
        })
    }

    fn create_stream(&self) -> Result<usize> {
        let mut stream = ptr::null_mut();
        // SAFETY: the out-pointer is valid.
        self.call("cuStreamCreate", |cuda| unsafe {
            (cuda.create_stream)(&mut stream, STREAM_NON_BLOCKING)
        })?;
        Ok(stream as usize)
    }

    fn destroy_stream(&self, stream: usize) {
        // SAFETY: `create_stream` gave it, and its owner destroys it once.
        let _ = self.call("cuStreamDestroy", |cuda| unsafe { (cuda.destroy_stream)(stream as *mut c_void) });
    }

    fn is_idle(&self, stream: usize) -> Result<bool> {
        // SAFETY: the stream's owner keeps it.
        let code = self.within(|| unsafe { (self.functions.query_stream)(stream as *mut c_void) })?;
        if code == NOT_READY { Ok(false) } else { self.functions.check("cuStreamQuery", code).map(|()| true) }
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // SAFETY: `open` has retained it.
        unsafe { (self.functions.release_context)(self.device) };
    }
}
