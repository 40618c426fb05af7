//! The part of NCCL that is called. Communicators do not block.
#![allow(unsafe_code, reason = "functions with the names and types of NCCL")]
#![allow(non_snake_case, reason = "the names are NCCL's")]

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;
use std::sync::Arc;

use crate::call::{Call, Comms, Handle};
use crate::comm::{Comm, Operation};
use crate::cuda::current_device;
use crate::faults::violation;
use crate::hub::{self, Act};
use crate::numbers::{Combine, Number};

const SUCCESS: c_int = 0;
const UNHANDLED_CUDA_ERROR: c_int = 1;
const INVALID_ARGUMENT: c_int = 4;
const INVALID_USAGE: c_int = 5;
const REMOTE_ERROR: c_int = 6;
const IN_PROGRESS: c_int = 7;

const NUMBERS: [Number; 10] = [
    Number::I8,
    Number::U8,
    Number::I32,
    Number::U32,
    Number::I64,
    Number::U64,
    Number::F16,
    Number::F32,
    Number::F64,
    Number::Bf16,
];
const COMBINES: [Combine; 5] = [Combine::Sum, Combine::Prod, Combine::Max, Combine::Min, Combine::Mean];

/// An `ncclUniqueId`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct UniqueId {
    bytes: [u8; 128],
}

/// The layout of `ncclConfig_t` of 2.28, as far as it is looked at.
#[repr(C)]
#[derive(Debug)]
pub struct Config {
    size: usize,
    magic: u32,
    version: u32,
    blocking: c_int,
    rest: [c_int; 3],
    net_name: *const c_char,
    rest_2: [c_int; 2],
    name: *const c_char,
    rest_3: [c_int; 6],
}

static COMMS: Comms = Comms::new();

/// How often `ncclGroupStart` was called, and the operations since.
type Group = (usize, Vec<(Arc<Comm>, Operation)>);

thread_local! {
    static GROUP: RefCell<Group> = const { RefCell::new((0, Vec::new())) };
}

fn with_comm(what: &str, handle: Handle, work: impl FnOnce(&Arc<Comm>) -> c_int) -> c_int {
    let Some(comm) = COMMS.find(what, handle) else { return INVALID_ARGUMENT };
    let Some(_turn) = comm.turn(what) else { return INVALID_USAGE };
    work(&comm)
}

/// # Safety
/// `config` is null or valid.
unsafe fn check_config(what: &str, config: *const Config) -> bool {
    // SAFETY: the caller's promise.
    let Some(config) = (unsafe { config.as_ref() }) else {
        violation(format!("{what}: without a configuration, communicators block"));
        return false;
    };
    let fits = config.size == size_of::<Config>()
        && config.magic == 0xcafe_beef
        && (22_800..22_900).contains(&config.version)
        && config.blocking == 0
        && config.rest.iter().chain(&config.rest_2).chain(&config.rest_3).all(|&field| field == c_int::MIN)
        && config.net_name.is_null()
        && config.name.is_null();
    if !fits {
        violation(format!(
            "{what}: the configuration is not one of a communicator that does not block: {config:?}"
        ));
    }
    fits
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetVersion(version: *mut c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { *version = 22_809 };
    SUCCESS
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetErrorString(code: c_int) -> *const c_char {
    let text = match code {
        SUCCESS => c"no error",
        UNHANDLED_CUDA_ERROR => c"unhandled cuda error",
        INVALID_ARGUMENT => c"invalid argument",
        INVALID_USAGE => c"invalid usage",
        REMOTE_ERROR => c"remote process exited or there was a network error",
        IN_PROGRESS => c"operation in progress",
        _ => c"unknown result code",
    };
    text.as_ptr()
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetLastError(_: Handle) -> *const c_char {
    c"".as_ptr()
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetUniqueId(id: *mut UniqueId) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { *id = UniqueId { bytes: hub::invite() } };
    SUCCESS
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommInitRankConfig(
    comm: *mut Handle,
    size: c_int,
    id: UniqueId,
    rank: c_int,
    config: *mut Config,
) -> c_int {
    let Some(device) = current_device("ncclCommInitRankConfig") else { return INVALID_USAGE };
    // SAFETY: the caller's promise.
    if !unsafe { check_config("ncclCommInitRankConfig", config) } || !(0..size).contains(&rank) {
        return INVALID_ARGUMENT;
    }
    let made = Comm::new(device, &hub::invited(&id.bytes));
    made.join("world".to_owned(), rank as usize, size as usize);
    // SAFETY: the caller's promise.
    unsafe { *comm = COMMS.hand_out(made) };
    IN_PROGRESS
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommSplit(
    comm: Handle,
    color: c_int,
    key: c_int,
    made: *mut Handle,
    config: *mut Config,
) -> c_int {
    with_comm("ncclCommSplit", comm, |comm| {
        // SAFETY: the caller's promise.
        if !unsafe { check_config("ncclCommSplit", config) } || !comm.is_ready("ncclCommSplit") {
            return INVALID_USAGE;
        }
        let part = comm.split(color.into(), key.into());
        // SAFETY: the caller's promise.
        unsafe { *made = part.map_or(null_mut(), |part| COMMS.hand_out(part)) };
        IN_PROGRESS
    })
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommFinalize(comm: Handle) -> c_int {
    with_comm("ncclCommFinalize", comm, |comm| {
        if !comm.is_ready("ncclCommFinalize") {
            return INVALID_USAGE;
        }
        comm.finalize();
        IN_PROGRESS
    })
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommDestroy(comm: Handle) -> c_int {
    with_comm("ncclCommDestroy", comm, |comm| {
        if comm.is_ready("ncclCommDestroy") && !comm.has_finalized() {
            violation("ncclCommDestroy of a communicator that was not finalized blocks");
        }
        COMMS.end(comm);
        SUCCESS
    })
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommAbort(comm: Handle) -> c_int {
    with_comm("ncclCommAbort", comm, |comm| {
        COMMS.end(comm);
        SUCCESS
    })
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommGetAsyncError(comm: Handle, state: *mut c_int) -> c_int {
    with_comm("ncclCommGetAsyncError", comm, |comm| {
        let code = match comm.state() {
            None => IN_PROGRESS,
            Some(Ok(())) => SUCCESS,
            Some(Err(())) => REMOTE_ERROR,
        };
        // SAFETY: the caller's promise.
        unsafe { *state = code };
        SUCCESS
    })
}

/// Now, or when the group of calls ends.
fn issue(call: Call, comm: Handle, stream: Handle) -> c_int {
    let what = call.what;
    with_comm(what, comm, |comm| {
        let is_grouped = GROUP.with_borrow(|(depth, _)| *depth > 0);
        if !comm.is_ready(what) && !is_grouped {
            return INVALID_ARGUMENT;
        }
        if call.count == 0 {
            violation(format!("{what}: nothing to do"));
            return INVALID_ARGUMENT;
        }
        let number = |code| NUMBERS.get(usize::try_from(code).ok()?).copied();
        let Some(operation) = call.check(comm, stream, number, &COMBINES) else { return INVALID_ARGUMENT };
        if comm.refuses() {
            return UNHANDLED_CUDA_ERROR;
        }
        GROUP.with_borrow_mut(|(depth, operations)| {
            if *depth > 0 {
                operations.push((Arc::clone(comm), operation));
                return SUCCESS;
            }
            comm.enqueue(vec![operation]);
            // As a call that goes on in the background.
            comm.delay();
            IN_PROGRESS
        })
    })
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclAllReduce(
    send: *const c_void,
    recv: *mut c_void,
    count: usize,
    number: c_int,
    combine: c_int,
    comm: Handle,
    stream: Handle,
) -> c_int {
    let call = Call::new("ncclAllReduce", Act::AllReduce, send, recv, count as u64, number);
    issue(call.reduces(combine), comm, stream)
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclAllGather(
    send: *const c_void,
    recv: *mut c_void,
    count: usize,
    number: c_int,
    comm: Handle,
    stream: Handle,
) -> c_int {
    let call = Call::new("ncclAllGather", Act::AllGather, send, recv, count as u64, number);
    issue(call, comm, stream)
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclReduceScatter(
    send: *const c_void,
    recv: *mut c_void,
    count: usize,
    number: c_int,
    combine: c_int,
    comm: Handle,
    stream: Handle,
) -> c_int {
    let call = Call::new("ncclReduceScatter", Act::ReduceScatter, send, recv, count as u64, number);
    issue(call.reduces(combine), comm, stream)
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclBroadcast(
    send: *const c_void,
    recv: *mut c_void,
    count: usize,
    number: c_int,
    root: c_int,
    comm: Handle,
    stream: Handle,
) -> c_int {
    let call = Call::new("ncclBroadcast", Act::Broadcast, send, recv, count as u64, number);
    issue(call.peer(root), comm, stream)
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclReduce(
    send: *const c_void,
    recv: *mut c_void,
    count: usize,
    number: c_int,
    combine: c_int,
    root: c_int,
    comm: Handle,
    stream: Handle,
) -> c_int {
    let call = Call::new("ncclReduce", Act::Reduce, send, recv, count as u64, number);
    issue(call.reduces(combine).peer(root), comm, stream)
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclSend(
    send: *const c_void,
    count: usize,
    number: c_int,
    peer: c_int,
    comm: Handle,
    stream: Handle,
) -> c_int {
    let call = Call::new("ncclSend", Act::Send, send, send, count as u64, number);
    issue(call.peer(peer), comm, stream)
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclRecv(
    recv: *mut c_void,
    count: usize,
    number: c_int,
    peer: c_int,
    comm: Handle,
    stream: Handle,
) -> c_int {
    let call = Call::new("ncclRecv", Act::Receive, recv, recv, count as u64, number);
    issue(call.peer(peer), comm, stream)
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGroupStart() -> c_int {
    GROUP.with_borrow_mut(|(depth, _)| *depth += 1);
    SUCCESS
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGroupEnd() -> c_int {
    let ended = GROUP.with_borrow_mut(|(depth, operations)| {
        *depth = depth.checked_sub(1)?;
        Some(if *depth == 0 { std::mem::take(operations) } else { Vec::new() })
    });
    let Some(mut operations) = ended else {
        violation("ncclGroupEnd without ncclGroupStart");
        return INVALID_USAGE;
    };
    let mut code = SUCCESS;
    while let Some(comm) = operations.first().map(|(comm, _)| Arc::clone(comm)) {
        let is_its = |(of, _): &mut (Arc<Comm>, Operation)| Arc::ptr_eq(of, &comm);
        let its = operations.extract_if(.., is_its).map(|(_, operation)| operation).collect();
        comm.enqueue(its);
        comm.delay();
        code = IN_PROGRESS;
    }
    code
}
