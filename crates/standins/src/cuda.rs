//! The part of CUDA's driver that is called.
#![allow(unsafe_code, reason = "functions with the names and types of CUDA's driver")]
#![allow(non_snake_case, reason = "the names are CUDA's")]

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::device::{self, CONTEXTS, DEVICES, Pin, Stream, count, is_device_address};
use crate::faults::violation;

const INVALID_VALUE: c_int = 1;
const NOT_INITIALIZED: c_int = 3;
const INVALID_DEVICE: c_int = 101;
const INVALID_CONTEXT: c_int = 201;
const INVALID_HANDLE: c_int = 400;
const NOT_READY: c_int = 600;

/// Contexts are numbered by device.
const FIRST_CONTEXT: usize = 0x0c00_0000_0000_0000;

static IS_INITIALIZED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static CONTEXT_STACK: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The device of the calling thread; a note where there is none.
pub(crate) fn current_device(what: &str) -> Option<usize> {
    let device = CONTEXT_STACK.with_borrow(|stack| stack.last().map(|context| context - FIRST_CONTEXT));
    if device.is_none() {
        violation(format!("{what} without a current context"));
    }
    device
}

fn with_device(what: &str, work: impl FnOnce(usize) -> c_int) -> c_int {
    current_device(what).map_or(INVALID_CONTEXT, work)
}

/// A stream of the current device.
fn with_stream(what: &str, stream: *mut c_void, work: impl FnOnce(&Arc<Stream>) -> c_int) -> c_int {
    with_device(what, |device| match Stream::find(what, stream as usize) {
        Some(stream) => {
            if stream.device != device {
                violation(format!(
                    "{what}: a stream of device {} while device {device} is current",
                    stream.device
                ));
            }
            work(&stream)
        }
        None => INVALID_HANDLE,
    })
}

/// # Safety
/// As CUDA's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuInit(flags: c_uint) -> c_int {
    IS_INITIALIZED.store(true, Ordering::Release);
    if flags == 0 { 0 } else { INVALID_VALUE }
}

/// # Safety
/// As CUDA's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(code: c_int, text: *mut *const c_char) -> c_int {
    let known = match code {
        INVALID_VALUE => c"invalid argument",
        INVALID_DEVICE => c"invalid device ordinal",
        _ => c"an error of the stand-in",
    };
    // SAFETY: the caller's promise.
    unsafe { *text = known.as_ptr() };
    0
}

/// # Safety
/// As CUDA's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> c_int {
    if !IS_INITIALIZED.load(Ordering::Acquire) {
        violation("cuDeviceGet before cuInit");
        return NOT_INITIALIZED;
    }
    if usize::try_from(ordinal).is_ok_and(|ordinal| ordinal < DEVICES) {
        // SAFETY: the caller's promise.
        unsafe { *device = ordinal };
        return 0;
    }
    INVALID_DEVICE
}

/// # Safety
/// As CUDA's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, device: c_int) -> c_int {
    count(&CONTEXTS, device as usize, true);
    // SAFETY: the caller's promise.
    unsafe { *context = (FIRST_CONTEXT + device as usize) as *mut c_void };
    0
}

/// # Safety
/// As CUDA's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> c_int {
    count(&CONTEXTS, device as usize, false);
    0
}

/// # Safety
/// As CUDA's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxPushCurrent_v2(context: *mut c_void) -> c_int {
    let is_context = (FIRST_CONTEXT..FIRST_CONTEXT + DEVICES).contains(&(context as usize));
    if !is_context {
        violation("cuCtxPushCurrent of what is no context");
        return INVALID_CONTEXT;
    }
    CONTEXT_STACK.with_borrow_mut(|stack| stack.push(context as usize));
    0
}

/// # Safety
/// As CUDA's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxPopCurrent_v2(context: *mut *mut c_void) -> c_int {
    match CONTEXT_STACK.with_borrow_mut(Vec::pop) {
        Some(popped) => {
            // SAFETY: the caller's promise.
            unsafe { *context = popped as *mut c_void };
            0
        }
        None => {
            violation("cuCtxPopCurrent without cuCtxPushCurrent");
            INVALID_CONTEXT
        }
    }
}

/// # Safety
/// As CUDA's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(address: *mut u64, len: usize) -> c_int {
    with_device("cuMemAlloc", |device| {
        if len == 0 {
            return INVALID_VALUE;
        }
        // SAFETY: the caller's promise.
        unsafe { *address = device::allocate(device, len) as u64 };
        0
    })
}

/// # Safety
/// As CUDA's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemFree_v2(address: u64) -> c_int {
    with_device("cuMemFree", |_| if device::free(address as usize) { 0 } else { INVALID_VALUE })
}

/// # Safety
/// As CUDA's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoDAsync_v2(
    to: u64,
    from: *const c_void,
    len: usize,
    stream: *mut c_void,
) -> c_int {
    with_stream("cuMemcpyHtoDAsync", stream, |stream| {
        // SAFETY: the caller's promise.
        match unsafe { copy_in("cuMemcpyHtoDAsync", stream, to as usize, from as usize, len) } {
            true => 0,
            false => INVALID_VALUE,
        }
    })
}

/// # Safety
/// As CUDA's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: u64,
    len: usize,
    stream: *mut c_void,
) -> c_int {
    with_stream("cuMemcpyDtoHAsync", stream, |stream| {
        // SAFETY: the caller's promise.
        match unsafe { copy_out("cuMemcpyDtoHAsync", stream, to as usize, from as usize, len) } {
            true => 0,
            false => INVALID_VALUE,
        }
    })
}

/// Enqueues a copy from the host. The bytes are read when the stream comes to it.
///
/// # Safety
/// The host's bytes are valid until then.
pub(crate) unsafe fn copy_in(
    what: &'static str,
    stream: &Arc<Stream>,
    to: usize,
    from: usize,
    len: usize,
) -> bool {
    if is_device_address(from) {
        violation(format!("{what}: the source is device memory"));
        return false;
    }
    let Some(pin) = Pin::new(what, stream.device, to, len) else { return false };
    stream.enqueue(move || {
        // SAFETY: the caller's promise.
        let bytes = unsafe { std::slice::from_raw_parts(from as *const u8, len) };
        pin.write(bytes);
    });
    true
}

/// Enqueues a copy to the host, as [`copy_in`].
///
/// # Safety
/// The host's bytes are valid until then.
pub(crate) unsafe fn copy_out(
    what: &'static str,
    stream: &Arc<Stream>,
    to: usize,
    from: usize,
    len: usize,
) -> bool {
    if is_device_address(to) {
        violation(format!("{what}: the destination is device memory"));
        return false;
    }
    let Some(pin) = Pin::new(what, stream.device, from, len) else { return false };
    stream.enqueue(move || {
        let bytes = pin.read();
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, len) };
    });
    true
}

/// # Safety
/// As CUDA's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamCreate(stream: *mut *mut c_void, flags: c_uint) -> c_int {
    with_device("cuStreamCreate", |device| {
        if flags > 1 {
            return INVALID_VALUE;
        }
        // SAFETY: the caller's promise.
        unsafe { *stream = Stream::create(device) as *mut c_void };
        0
    })
}

/// # Safety
/// As CUDA's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamDestroy_v2(stream: *mut c_void) -> c_int {
    with_device("cuStreamDestroy", |_| if Stream::destroy(stream as usize) { 0 } else { INVALID_HANDLE })
}

/// # Safety
/// As CUDA's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamQuery(stream: *mut c_void) -> c_int {
    with_stream("cuStreamQuery", stream, |stream| if stream.is_idle() { 0 } else { NOT_READY })
}
