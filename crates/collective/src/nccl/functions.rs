//! The functions of NCCL and of CUDA's driver that are used here.
//!
//! Types are cudarc's. Its own tables are not used: they look for `libnccl.so`, which installations by pip lack, end
//! the program where a function is absent, and take numbers of newer results for values of an enumeration. So
//! results are plain numbers here.

use std::ffi::{c_char, c_int, c_uint, c_void};

use cudarc::nccl::sys::{ncclConfig_t, ncclUniqueId};

use crate::device::library::functions;

/// An `ncclComm_t`.
pub(super) type Comm = *mut c_void;
/// A `CUstream` or `cudaStream_t`.
pub(super) type Stream = *mut c_void;

functions! {
    /// NCCL, from 2.18 on.
    NcclFunctions {
        version = "ncclGetVersion": fn(*mut c_int) -> c_int;
        error_string = "ncclGetErrorString": fn(c_int) -> *const c_char;
        last_error = "ncclGetLastError": fn(Comm) -> *const c_char;
        unique_id = "ncclGetUniqueId": fn(*mut ncclUniqueId) -> c_int;
        init = "ncclCommInitRankConfig": fn(*mut Comm, c_int, ncclUniqueId, c_int, *mut ncclConfig_t) -> c_int;
        split = "ncclCommSplit": fn(Comm, c_int, c_int, *mut Comm, *mut ncclConfig_t) -> c_int;
        finalize = "ncclCommFinalize": fn(Comm) -> c_int;
        destroy = "ncclCommDestroy": fn(Comm) -> c_int;
        abort = "ncclCommAbort": fn(Comm) -> c_int;
        async_error = "ncclCommGetAsyncError": fn(Comm, *mut c_int) -> c_int;
        all_reduce = "ncclAllReduce": fn(*const c_void, *mut c_void, usize, c_int, c_int, Comm, Stream) -> c_int;
        all_gather = "ncclAllGather": fn(*const c_void, *mut c_void, usize, c_int, Comm, Stream) -> c_int;
        reduce_scatter = "ncclReduceScatter":
            fn(*const c_void, *mut c_void, usize, c_int, c_int, Comm, Stream) -> c_int;
        broadcast = "ncclBroadcast": fn(*const c_void, *mut c_void, usize, c_int, c_int, Comm, Stream) -> c_int;
        reduce = "ncclReduce":
            fn(*const c_void, *mut c_void, usize, c_int, c_int, c_int, Comm, Stream) -> c_int;
        send = "ncclSend": fn(*const c_void, usize, c_int, c_int, Comm, Stream) -> c_int;
        recv = "ncclRecv": fn(*mut c_void, usize, c_int, c_int, Comm, Stream) -> c_int;
        group_start = "ncclGroupStart": fn() -> c_int;
        group_end = "ncclGroupEnd": fn() -> c_int;
    }
}

functions! {
    /// CUDA's driver.
    CudaFunctions {
        init = "cuInit": fn(c_uint) -> c_int;
        error_string = "cuGetErrorString": fn(c_int, *mut *const c_char) -> c_int;
        device = "cuDeviceGet": fn(*mut c_int, c_int) -> c_int;
        retain_context = "cuDevicePrimaryCtxRetain": fn(*mut *mut c_void, c_int) -> c_int;
        release_context = "cuDevicePrimaryCtxRelease_v2": fn(c_int) -> c_int;
        push_context = "cuCtxPushCurrent_v2": fn(*mut c_void) -> c_int;
        pop_context = "cuCtxPopCurrent_v2": fn(*mut *mut c_void) -> c_int;
        allocate = "cuMemAlloc_v2": fn(*mut u64, usize) -> c_int;
        free = "cuMemFree_v2": fn(u64) -> c_int;
        upload = "cuMemcpyHtoDAsync_v2": fn(u64, *const c_void, usize, Stream) -> c_int;
        download = "cuMemcpyDtoHAsync_v2": fn(*mut c_void, u64, usize, Stream) -> c_int;
        create_stream = "cuStreamCreate": fn(*mut Stream, c_uint) -> c_int;
        destroy_stream = "cuStreamDestroy_v2": fn(Stream) -> c_int;
        query_stream = "cuStreamQuery": fn(Stream) -> c_int;
    }
}
