//! The part of AscendCL that is called.
#![allow(unsafe_code, reason = "functions with the names and types of AscendCL")]
#![allow(non_snake_case, reason = "the names are AscendCL's")]

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::device::{self, DEVICES, Pin, Stream, is_device_address};
use crate::faults::violation;

const INVALID_PARAM: c_int = 100_000;
const UNINITIALIZED: c_int = 100_001;
const REPEATED: c_int = 100_002;
const NO_CONTEXT: c_int = 107_002;
const WRONG_STREAM: c_int = 107_003;

const HOST_TO_DEVICE: c_int = 1;
const DEVICE_TO_HOST: c_int = 2;
const DEVICE_TO_DEVICE: c_int = 3;

/// Default contexts are numbered by device.
const FIRST_CONTEXT: usize = 0x0b00_0000_0000_0000;

static IS_INITIALIZED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static CONTEXT: Cell<usize> = const { Cell::new(0) };
}

/// The device of the calling thread; a note where there is none.
pub(crate) fn current_device(what: &str) -> Option<usize> {
    let device = CONTEXT.get().checked_sub(FIRST_CONTEXT);
    if device.is_none() {
        violation(format!("{what} without a current context"));
    }
    device
}

fn with_device(what: &str, work: impl FnOnce(usize) -> c_int) -> c_int {
    current_device(what).map_or(NO_CONTEXT, work)
}

/// # Safety
/// As AscendCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclInit(_: *const c_char) -> c_int {
    if IS_INITIALIZED.swap(true, Ordering::AcqRel) { REPEATED } else { 0 }
}

/// # Safety
/// As AscendCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetRecentErrMsg() -> *const c_char {
    std::ptr::null()
}

/// # Safety
/// As AscendCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetDevice(device: i32) -> c_int {
    if !IS_INITIALIZED.load(Ordering::Acquire) {
        violation("aclrtSetDevice before aclInit");
        return UNINITIALIZED;
    }
    match usize::try_from(device).ok().filter(|device| *device < DEVICES) {
        Some(device) => {
            CONTEXT.set(FIRST_CONTEXT + device);
            0
        }
        None => INVALID_PARAM,
    }
}

/// # Safety
/// As AscendCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetCurrentContext(context: *mut *mut c_void) -> c_int {
    if CONTEXT.get() == 0 {
        return NO_CONTEXT;
    }
    // SAFETY: the caller's promise.
    unsafe { *context = CONTEXT.get() as *mut c_void };
    0
}

/// # Safety
/// As AscendCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetCurrentContext(context: *mut c_void) -> c_int {
    if !(FIRST_CONTEXT..FIRST_CONTEXT + DEVICES).contains(&(context as usize)) {
        violation("aclrtSetCurrentContext of what is no context");
        return INVALID_PARAM;
    }
    CONTEXT.set(context as usize);
    0
}

/// # Safety
/// As AscendCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMalloc(address: *mut *mut c_void, len: usize, policy: c_int) -> c_int {
    with_device("aclrtMalloc", |device| {
        if len == 0 || !(0..=5).contains(&policy) {
            return INVALID_PARAM;
        }
        // SAFETY: the caller's promise.
        unsafe { *address = device::allocate(device, len) as *mut c_void };
        0
    })
}

/// # Safety
/// As AscendCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtFree(address: *mut c_void) -> c_int {
    with_device("aclrtFree", |_| if device::free(address as usize) { 0 } else { INVALID_PARAM })
}

/// # Safety
/// As AscendCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemcpy(
    to: *mut c_void,
    room: usize,
    from: *const c_void,
    len: usize,
    kind: c_int,
) -> c_int {
    with_device("aclrtMemcpy", |device| {
        let is_device = |address: usize| is_device_address(address);
        let expected = (kind == DEVICE_TO_HOST, kind == HOST_TO_DEVICE);
        if (is_device(from as usize), is_device(to as usize)) != expected || room < len {
            violation(format!("aclrtMemcpy of kind {kind} from {from:?} to {to:?}, {len} bytes into {room}"));
            return INVALID_PARAM;
        }
        let place = if kind == HOST_TO_DEVICE { to as usize } else { from as usize };
        let Some(pin) = Pin::new("aclrtMemcpy", device, place, len) else { return INVALID_PARAM };
        // SAFETY: the caller's promise for the side of the host.
        unsafe {
            if kind == HOST_TO_DEVICE {
                pin.write(std::slice::from_raw_parts(from.cast(), len));
            } else {
                std::ptr::copy_nonoverlapping(pin.read().as_ptr(), to.cast(), len);
            }
        }
        0
    })
}

/// # Safety
/// As AscendCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemcpyAsync(
    to: *mut c_void,
    room: usize,
    from: *const c_void,
    len: usize,
    kind: c_int,
    stream: *mut c_void,
) -> c_int {
    const WHAT: &str = "aclrtMemcpyAsync";
    with_device(WHAT, |device| {
        if kind != DEVICE_TO_DEVICE || room < len {
            violation(format!("{WHAT} of kind {kind}, {len} bytes into {room}"));
            return INVALID_PARAM;
        }
        let Some(stream) = Stream::find(WHAT, stream as usize) else { return WRONG_STREAM };
        let pins = Pin::new(WHAT, device, from as usize, len).zip(Pin::new(WHAT, device, to as usize, len));
        let Some((from, to)) = pins else { return INVALID_PARAM };
        stream.enqueue(move || to.write(&from.read()));
        0
    })
}

/// # Safety
/// As AscendCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtCreateStreamWithConfig(
    stream: *mut *mut c_void,
    priority: u32,
    flag: u32,
) -> c_int {
    with_device("aclrtCreateStreamWithConfig", |device| {
        if priority > 7 || flag > 3 {
            return INVALID_PARAM;
        }
        // SAFETY: the caller's promise.
        unsafe { *stream = Stream::create(device) as *mut c_void };
        0
    })
}

/// # Safety
/// As AscendCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDestroyStream(stream: *mut c_void) -> c_int {
    with_device("aclrtDestroyStream", |_| if Stream::destroy(stream as usize) { 0 } else { WRONG_STREAM })
}

/// # Safety
/// As AscendCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtStreamQuery(stream: *mut c_void, status: *mut c_int) -> c_int {
    with_device("aclrtStreamQuery", |device| match Stream::find("aclrtStreamQuery", stream as usize) {
        Some(stream) => {
            if stream.device != device {
                violation(format!("aclrtStreamQuery of a stream of device {}, not {device}", stream.device));
            }
            // SAFETY: the caller's promise.
            unsafe { *status = c_int::from(!stream.is_idle()) };
            0
        }
        None => WRONG_STREAM,
    })
}
