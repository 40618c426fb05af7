//! Memory and streams of an Ascend device, through AscendCL.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use mslite_tensor::{DeviceApi, HostSpan};

use super::HcclOptions;
use super::functions::AclFunctions;
use crate::device::Driver;
use crate::device::library::Search;
use crate::{Error, Result};

const INITIALIZED_BEFORE: c_int = 100_002;
const HOST_TO_DEVICE: c_int = 1;
const DEVICE_TO_HOST: c_int = 2;
const DEVICE_TO_DEVICE: c_int = 3;
/// Pages of the largest size, where there are some.
const HUGE_FIRST: c_int = 0;
const FAST_LAUNCH_AND_SYNC: u32 = 3;
const COMPLETE: c_int = 0;

/// One device, with its default context.
#[derive(Debug)]
pub(super) struct Acl {
    functions: AclFunctions,
    context: usize,
}

impl Acl {
    pub(super) fn open(options: &HcclOptions) -> Result<Arc<Acl>> {
        let search = Search {
            what: "AscendCL",
            names: &["libascendcl.so"],
            file: options.driver.as_deref(),
            hint: "CANN has it; its set_env.sh makes it known",
        };
        let functions = AclFunctions::load(&search.open()?)?;
        // SAFETY: no configuration file is given.
        let code = unsafe { (functions.init)(ptr::null()) };
        functions.check("aclInit", if code == INITIALIZED_BEFORE { 0 } else { code })?;
        let device = i32::try_from(options.device).unwrap_or(i32::MAX);
        let before = functions.context();
        let mut context = ptr::null_mut();
        // SAFETY: the out-pointer is valid; a device that was set has a default context.
        unsafe {
            functions.check(&format!("aclrtSetDevice({device})"), (functions.set_device)(device))?;
            functions.check("aclrtGetCurrentContext", (functions.current_context)(&mut context))?;
        }
        functions.restore(before);
        Ok(Arc::new(Acl { functions, context: context as usize }))
    }

    /// Does something while this device is the calling thread's.
    pub(super) fn within<R>(&self, work: impl FnOnce() -> R) -> Result<R> {
        let before = self.functions.context();
        // SAFETY: the device's default context lives as long as the process uses the device.
        let set = unsafe { (self.functions.set_context)(self.context as *mut c_void) };
        self.functions.check("aclrtSetCurrentContext", set)?;
        let result = work();
        self.functions.restore(before);
        Ok(result)
    }

    fn call(&self, name: &str, work: impl FnOnce(&AclFunctions) -> c_int) -> Result<()> {
        self.within(|| self.functions.check(name, work(&self.functions)))?
    }

    /// Enqueues a copy on the device.
    pub(super) fn copy(&self, from: usize, to: usize, len: usize, stream: usize) -> Result<()> {
        // SAFETY: the contract of `Buffer` keeps both spans valid.
        self.call("aclrtMemcpyAsync", |acl| unsafe {
            (acl.copy_on)(to as _, len, from as _, len, DEVICE_TO_DEVICE, stream as _)
        })
    }
}

impl AclFunctions {
    /// The calling thread's context; null where it has none.
    fn context(&self) -> *mut c_void {
        let mut context = ptr::null_mut();
        // SAFETY: the out-pointer is valid.
        let code = unsafe { (self.current_context)(&mut context) };
        if code == 0 { context } else { ptr::null_mut() }
    }

    fn restore(&self, context: *mut c_void) {
        if !context.is_null() {
            // SAFETY: it was the thread's own.
            unsafe { (self.set_context)(context) };
        }
    }

    fn check(&self, call: &str, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: AscendCL gives a text that ends, or none.
        let text = unsafe {
            let text = (self.last_error)();
            if text.is_null() { "".into() } else { CStr::from_ptr(text).to_string_lossy() }
        };
        let detail = if text.is_empty() { String::new() } else { format!(": {}", text.trim()) };
        Err(Error::Library { call: call.to_owned(), reason: format!("AscendCL error {code}{detail}") })
    }
}

impl Driver for Acl {
    fn api(&self) -> DeviceApi {
        DeviceApi::Ascend
    }

    fn allocate(&self, len: usize) -> Result<usize> {
        let mut address = ptr::null_mut();
        // SAFETY: the out-pointer is valid.
        self.call("aclrtMalloc", |acl| unsafe { (acl.allocate)(&mut address, len, HUGE_FIRST) })?;
        Ok(address as usize)
    }

    fn free(&self, address: usize) {
        // A failure here is one that work on the memory has reported before.
        // SAFETY: `allocate` gave the address, and its owner frees it once.
        let _ = self.call("aclrtFree", |acl| unsafe { (acl.free)(address as _) });
    }

    fn upload(&self, from: HostSpan, to: usize, _: usize) -> Result<()> {
        let from_ptr = from.ptr.as_ptr().cast();
        // SAFETY: the contract of `Buffer` keeps both spans valid.
        self.call("aclrtMemcpy", |acl| unsafe {
            (acl.copy)(to as _, from.len, from_ptr, from.len, HOST_TO_DEVICE)
        })
    }

    fn download(&self, from: usize, to: HostSpan, _: usize) -> Result<()> {
        let to_ptr = to.ptr.as_ptr().cast();
        // SAFETY: as for `upload`.
        self.call("aclrtMemcpy", |acl| unsafe {
            (acl.copy)(to_ptr, to.len, from as _, to.len, DEVICE_TO_HOST)
        })
    }

    fn create_stream(&self) -> Result<usize> {
        let mut stream = ptr::null_mut();
        // SAFETY: the out-pointer is valid.
        self.call("aclrtCreateStreamWithConfig", |acl| unsafe {
            (acl.create_stream)(&mut stream, 0, FAST_LAUNCH_AND_SYNC)
        })?;
        Ok(stream as usize)
    }

    fn destroy_stream(&self, stream: usize) {
        // SAFETY: `create_stream` gave it, and its owner destroys it once.
        let _ = self.call("aclrtDestroyStream", |acl| unsafe { (acl.destroy_stream)(stream as _) });
    }

    fn is_idle(&self, stream: usize) -> Result<bool> {
        let mut status = COMPLETE;
        // SAFETY: the out-pointer is valid, and the stream's owner keeps it.
        self.call("aclrtStreamQuery", |acl| unsafe { (acl.query_stream)(stream as _, &mut status) })?;
        Ok(status == COMPLETE)
    }
}
