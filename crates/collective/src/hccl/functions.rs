//! The functions of HCCL and AscendCL that are used here, with types written from their documentation.

use std::ffi::{c_char, c_int, c_void};

use crate::device::library::functions;

/// An `HcclComm`.
pub(super) type Comm = *mut c_void;
/// An `aclrtStream`.
pub(super) type Stream = *mut c_void;

/// An `HcclRootInfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct RootInfo {
    pub(super) bytes: [u8; 4108],
}

/// Version 2 of an `HcclCommConfig`; libraries fill in what later versions have more.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Config {
    size: usize,
    magic: u32,
    version: u32,
    reserved: u64,
    /// In MB.
    buffer_size: u32,
    deterministic: u32,
    name: [u8; 128],
}

impl Config {
    pub(super) fn new(deterministic: bool, name: &str) -> Self {
        let mut bytes = [0; 128];
        let len = name.len().min(127);
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        Config {
            size: size_of::<Config>(),
            magic: 0xf0f0_f0f0,
            version: 2,
            reserved: 0,
            buffer_size: 200,
            deterministic: u32::from(deterministic),
            name: bytes,
        }
    }
}

functions! {
    /// HCCL, from CANN 8.0 on.
    HcclFunctions {
        root_info = "HcclGetRootInfo": fn(*mut RootInfo) -> c_int;
        init_root = "HcclCommInitRootInfoConfig":
            fn(u32, *const RootInfo, u32, *const Config, *mut Comm) -> c_int;
        init_table = "HcclCommInitClusterInfoConfig":
            fn(*const c_char, u32, *mut Config, *mut Comm) -> c_int;
        split = "HcclCreateSubCommConfig":
            fn(*mut Comm, u32, *mut u32, u64, u32, *mut Config, *mut Comm) -> c_int;
        rank_size = "HcclGetRankSize": fn(Comm, *mut u32) -> c_int;
        rank_id = "HcclGetRankId": fn(Comm, *mut u32) -> c_int;
        name = "HcclGetCommName": fn(Comm, *mut c_char) -> c_int;
        async_error = "HcclGetCommAsyncError": fn(Comm, *mut c_int) -> c_int;
        destroy = "HcclCommDestroy": fn(Comm) -> c_int;
        all_reduce = "HcclAllReduce": fn(*mut c_void, *mut c_void, u64, c_int, c_int, Comm, Stream) -> c_int;
        broadcast = "HcclBroadcast": fn(*mut c_void, u64, c_int, u32, Comm, Stream) -> c_int;
        reduce_scatter = "HcclReduceScatter":
            fn(*mut c_void, *mut c_void, u64, c_int, c_int, Comm, Stream) -> c_int;
        all_gather = "HcclAllGather": fn(*mut c_void, *mut c_void, u64, c_int, Comm, Stream) -> c_int;
        reduce = "HcclReduce":
            fn(*mut c_void, *mut c_void, u64, c_int, c_int, u32, Comm, Stream) -> c_int;
        scatter = "HcclScatter": fn(*mut c_void, *mut c_void, u64, c_int, u32, Comm, Stream) -> c_int;
        send = "HcclSend": fn(*mut c_void, u64, c_int, u32, Comm, Stream) -> c_int;
        receive = "HcclRecv": fn(*mut c_void, u64, c_int, u32, Comm, Stream) -> c_int;
        all_to_all = "HcclAlltoAll":
            fn(*const c_void, u64, c_int, *const c_void, u64, c_int, Comm, Stream) -> c_int;
        all_to_all_v = "HcclAlltoAllV":
            fn(
                *const c_void, *const c_void, *const c_void, c_int,
                *const c_void, *const c_void, *const c_void, c_int,
                Comm, Stream,
            ) -> c_int;
        barrier = "HcclBarrier": fn(Comm, Stream) -> c_int;
    }
}

functions! {
    /// AscendCL.
    AclFunctions {
        init = "aclInit": fn(*const c_char) -> c_int;
        last_error = "aclGetRecentErrMsg": fn() -> *const c_char;
        set_device = "aclrtSetDevice": fn(i32) -> c_int;
        current_context = "aclrtGetCurrentContext": fn(*mut *mut c_void) -> c_int;
        set_context = "aclrtSetCurrentContext": fn(*mut c_void) -> c_int;
        allocate = "aclrtMalloc": fn(*mut *mut c_void, usize, c_int) -> c_int;
        free = "aclrtFree": fn(*mut c_void) -> c_int;
        copy = "aclrtMemcpy": fn(*mut c_void, usize, *const c_void, usize, c_int) -> c_int;
        copy_on = "aclrtMemcpyAsync": fn(*mut c_void, usize, *const c_void, usize, c_int, Stream) -> c_int;
        create_stream = "aclrtCreateStreamWithConfig": fn(*mut Stream, u32, u32) -> c_int;
        destroy_stream = "aclrtDestroyStream": fn(Stream) -> c_int;
        query_stream = "aclrtStreamQuery": fn(Stream, *mut c_int) -> c_int;
    }
}
