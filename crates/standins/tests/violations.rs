//! What is called wrongly is noted.
#![allow(unsafe_code, reason = "calls functions as C does, also wrongly")]

use std::ffi::{c_int, c_void};
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

use mslite_standins::{acl, cuda, device, faults, hccl, nccl};

/// What was noted since the last call in this process; tests here take turns.
fn noted() -> String {
    let mut text = vec![0; 1 << 16];
    // SAFETY: the buffer has as much room.
    let len = unsafe { faults::standins_violations(text.as_mut_ptr(), text.len()) };
    String::from_utf8_lossy(&text[..len]).into_owned()
}

/// Runs something that notes exactly one more line, which contains `text`.
#[track_caller]
fn notes<R>(text: &str, wrong: impl FnOnce() -> R) -> R {
    let before = noted();
    let result = wrong();
    let after = noted();
    let new = after.strip_prefix(&before).unwrap_or(&after);
    assert!(new.contains(text) && new.trim().lines().count() == 1, "{new:?} is not about {text:?}");
    result
}

/// A device with a context, a stream and memory.
struct Gpu {
    stream: *mut c_void,
    memory: u64,
}

unsafe fn gpu(ordinal: c_int) -> Gpu {
    let (mut context, mut stream, mut memory, mut number) = (null_mut(), null_mut(), 0, 0);
    // SAFETY: the out-pointers are valid.
    unsafe {
        assert_eq!(cuda::cuInit(0), 0);
        assert_eq!(cuda::cuDeviceGet(&mut number, ordinal), 0);
        assert_eq!(cuda::cuDevicePrimaryCtxRetain(&mut context, number), 0);
        assert_eq!(cuda::cuCtxPushCurrent_v2(context), 0);
        assert_eq!(cuda::cuStreamCreate(&mut stream, 1), 0);
        assert_eq!(cuda::cuMemAlloc_v2(&mut memory, 64), 0);
    }
    Gpu { stream, memory }
}

/// The bytes of an `ncclConfig_t` of 2.28.
fn config(blocking: c_int) -> [u64; 10] {
    let unset = u64::from(c_int::MIN.cast_unsigned());
    let two = unset << 32 | unset;
    let head = u64::from(blocking.cast_unsigned()) | unset << 32;
    [80, 0xcafe_beef | 22_809 << 32, head, two, 0, two, 0, two, two, two]
}

/// A group of one.
unsafe fn communicator() -> *mut c_void {
    // SAFETY: the out-pointers are valid, and the configuration has the layout that is looked for.
    unsafe {
        let mut id = std::mem::zeroed();
        assert_eq!(nccl::ncclGetUniqueId(&mut id), 0);
        let (mut comm, mut config) = (null_mut(), config(0));
        assert_eq!(nccl::ncclCommInitRankConfig(&mut comm, 1, id, 0, config.as_mut_ptr().cast()), 7);
        settle(comm);
        comm
    }
}

unsafe fn settle(comm: *mut c_void) {
    let (mut state, since) = (7, Instant::now());
    while state == 7 && since.elapsed() < Duration::from_secs(20) {
        // SAFETY: the communicator lives.
        assert_eq!(unsafe { nccl::ncclCommGetAsyncError(comm, &mut state) }, 0);
        std::thread::yield_now();
    }
    assert_eq!(state, 0);
}

unsafe fn sum(gpu: &Gpu, send: u64, count: usize, comm: *mut c_void) -> c_int {
    // SAFETY: wrong arguments are what is tested; nothing is followed.
    unsafe { nccl::ncclAllReduce(send as _, gpu.memory as _, count, 7, 0, comm, gpu.stream) }
}

/// One test, since notes are those of the whole process.
#[test]
fn wrong_calls_are_noted() {
    // SAFETY: as in `sum`.
    unsafe {
        let gpu = gpu(7);
        let comm = communicator();
        wrong_buffers(&gpu, comm);
        wrong_order(&gpu, comm);
        wrong_lifetimes(&gpu, comm);
        wrong_ascend();
    }
}

unsafe fn wrong_buffers(gpu: &Gpu, comm: *mut c_void) {
    let host = [0u8; 64];
    // SAFETY: as in `sum`.
    unsafe {
        assert_ne!(notes("not device memory", || sum(gpu, host.as_ptr() as u64, 8, comm)), 0);
        assert_ne!(notes("not device memory", || sum(gpu, gpu.memory, 17, comm)), 0);
        assert_ne!(notes("nothing to do", || sum(gpu, gpu.memory, 0, comm)), 0);
        let unknown = || nccl::ncclAllReduce(null(), null_mut(), 1, 12, 0, comm, gpu.stream);
        assert_ne!(notes("type 12", unknown), 0);
        let copy = || cuda::cuMemcpyHtoDAsync_v2(gpu.memory, gpu.memory as _, 4, gpu.stream);
        assert_ne!(notes("the source is device memory", copy), 0);
        let absent = || nccl::ncclSend(gpu.memory as _, 1, 0, 1, comm, gpu.stream);
        assert_ne!(notes("there is no rank 1", absent), 0);
    }
}

unsafe fn wrong_order(gpu: &Gpu, comm: *mut c_void) {
    // SAFETY: as in `sum`.
    unsafe {
        assert_eq!(sum(gpu, gpu.memory, 8, comm), 7);
        assert_ne!(notes("while an earlier call goes on", || sum(gpu, gpu.memory, 8, comm)), 0);
        settle(comm);
        assert_ne!(notes("without ncclGroupStart", || nccl::ncclGroupEnd()), 0);
        notes("not finalized", || nccl::ncclCommDestroy(communicator()));
        let mut id = std::mem::zeroed();
        nccl::ncclGetUniqueId(&mut id);
        for mut wrong in [config(1), [79; 10]] {
            let mut made = null_mut();
            let init = || nccl::ncclCommInitRankConfig(&mut made, 1, id, 0, wrong.as_mut_ptr().cast());
            assert_ne!(notes("the configuration", init), 0);
        }
        let other = std::thread::spawn(|| notes("without a current context", || cuda::cuMemFree_v2(1)));
        assert_ne!(other.join().unwrap(), 0);
    }
}

unsafe fn wrong_lifetimes(gpu: &Gpu, comm: *mut c_void) {
    // SAFETY: as in `sum`.
    unsafe {
        faults::standins_fault(c"7 hang 0".as_ptr());
        assert_eq!(sum(gpu, gpu.memory, 8, comm), 7);
        assert_eq!(cuda::cuStreamQuery(gpu.stream), 600);
        assert_eq!(notes("2 operations use it", || cuda::cuMemFree_v2(gpu.memory)), 0);
        notes("freed, but is no device memory", || cuda::cuMemFree_v2(gpu.memory));
        assert_eq!(nccl::ncclCommAbort(comm), 0);
        let since = Instant::now();
        while cuda::cuStreamQuery(gpu.stream) != 0 && since.elapsed() < Duration::from_secs(20) {
            std::thread::yield_now();
        }
        assert_ne!(notes("has ended", || nccl::ncclCommAbort(comm)), 0);
        assert_eq!(device::standins_alive(7), 2);
        assert_eq!(cuda::cuStreamDestroy_v2(gpu.stream), 0);
        assert_ne!(notes("is no stream", || cuda::cuStreamQuery(gpu.stream)), 0);
        assert_eq!(cuda::cuDevicePrimaryCtxRelease_v2(7), 0);
        notes("was not taken", || cuda::cuDevicePrimaryCtxRelease_v2(7));
        assert_eq!(device::standins_alive(7), 0);
    }
}

unsafe fn wrong_ascend() {
    // SAFETY: as in `sum`.
    unsafe {
        assert_ne!(notes("before aclInit", || acl::aclrtSetDevice(3)), 0);
        assert_eq!([acl::aclInit(null()), acl::aclInit(null())], [0, 100_002]);
        let mut info = std::mem::zeroed();
        assert_ne!(notes("without a current context", || hccl::HcclGetRootInfo(&mut info)), 0);
        assert_eq!(acl::aclrtSetDevice(3), 0);
        assert_eq!(hccl::HcclGetRootInfo(&mut info), 0);
        let (wrong, mut made) = ([0u64; 20], null_mut());
        let init = || hccl::HcclCommInitRootInfoConfig(1, &info, 0, wrong.as_ptr().cast(), &mut made);
        assert_ne!(notes("another size, mark or version", init), 0);
        assert_ne!(notes("is no communicator", || hccl::HcclCommDestroy(8 as _)), 0);
        let (mut memory, host) = (null_mut(), [0u8; 8]);
        assert_eq!(acl::aclrtMalloc(&mut memory, 8, 0), 0);
        let copy = || acl::aclrtMemcpy(memory, 8, host.as_ptr().cast(), 8, 2);
        assert_ne!(notes("of kind 2", copy), 0);
        assert_eq!(acl::aclrtFree(memory), 0);
    }
}
