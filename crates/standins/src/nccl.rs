//! The part of NCCL that is called. Communicators do not block.
#![allow(unsafe_code, reason = "functions with the names and types of NCCL")]
#![allow(non_snake_case, reason = "the names are NCCL's")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void};
use std::sync::{Arc, Mutex};

use crate::comm::{Comm, Operation};
use crate::cuda::current_device;
use crate::device::{Pin, Stream};
use crate::faults::{Fault, fault, lock, violation};
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

type Handle = *mut c_void;

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

static COMMS: Mutex<Option<HashMap<usize, Arc<Comm>>>> = Mutex::new(None);

/// How often `ncclGroupStart` was called, and the operations since.
type Group = (usize, Vec<(Arc<Comm>, Operation)>);

thread_local! {
    static GROUP: RefCell<Group> = const { RefCell::new((0, Vec::new())) };
}

fn with_comm(what: &str, handle: Handle, work: impl FnOnce(&Arc<Comm>) -> c_int) -> c_int {
    let found = lock(&COMMS).get_or_insert_default().get(&(handle as usize)).cloned();
    let Some(comm) = found else {
        violation(format!("{what}: {handle:?} is no communicator, or has ended"));
        return INVALID_ARGUMENT;
    };
    let Some(_turn) = comm.turn() else {
        violation(format!("{what}: two threads use a communicator at the same time"));
        return INVALID_USAGE;
    };
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
    let name = hub::new_name();
    hub::start(&name);
    let mut bytes = [0; 128];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the caller's promise.
    unsafe { *id = UniqueId { bytes } };
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
    let Some(device) = current_device() else {
        violation("ncclCommInitRankConfig without a current device");
        return INVALID_USAGE;
    };
    // SAFETY: the caller's promise.
    if !unsafe { check_config("ncclCommInitRankConfig", config) } || !(0..size).contains(&rank) {
        return INVALID_ARGUMENT;
    }
    let hub = String::from_utf8_lossy(&id.bytes).trim_end_matches('\0').to_owned();
    let made = Comm::new(device, &hub);
    made.join("world".to_owned(), rank as usize, size as usize);
    // SAFETY: the caller's promise.
    unsafe { *comm = register(made) as Handle };
    IN_PROGRESS
}

fn register(comm: Arc<Comm>) -> usize {
    comm.hand_out();
    let handle = comm.handle;
    lock(&COMMS).get_or_insert_default().insert(handle, comm);
    handle
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
        unsafe { *made = part.map_or(0, register) as Handle };
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
        end(comm)
    })
}

/// # Safety
/// As NCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommAbort(comm: Handle) -> c_int {
    with_comm("ncclCommAbort", comm, end)
}

fn end(comm: &Arc<Comm>) -> c_int {
    lock(&COMMS).get_or_insert_default().remove(&comm.handle);
    comm.end();
    SUCCESS
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

/// What the arguments of an operation say.
struct Call {
    what: &'static str,
    act: Act,
    number: c_int,
    combine: c_int,
    peer: c_int,
    count: usize,
    /// Address and blocks.
    send: Option<(usize, usize)>,
    recv: Option<(usize, usize)>,
}

impl Call {
    /// Now, or when the group of calls ends.
    fn issue(self, comm: Handle, stream: Handle) -> c_int {
        with_comm(self.what, comm, |comm| {
            let Some(operation) = self.check(comm, stream) else { return INVALID_ARGUMENT };
            match fault(comm.device) {
                Some(Fault::Refuse(after)) if comm.operations() >= after => return UNHANDLED_CUDA_ERROR,
                Some(Fault::Die(after)) if comm.operations() >= after => std::process::abort(),
                _ => {}
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

    fn check(&self, comm: &Arc<Comm>, stream: Handle) -> Option<Operation> {
        let is_grouped = GROUP.with_borrow(|(depth, _)| *depth > 0);
        if !comm.is_ready(self.what) && !is_grouped {
            return None;
        }
        let number = usize::try_from(self.number).ok().and_then(|number| NUMBERS.get(number));
        let combine = usize::try_from(self.combine).ok().and_then(|combine| COMBINES.get(combine));
        let (Some(&number), Some(&combine)) = (number, combine) else {
            violation(format!(
                "{}: type {} or reduction {} is unknown",
                self.what, self.number, self.combine
            ));
            return None;
        };
        if !(0..comm.size() as c_int).contains(&self.peer) {
            violation(format!("{}: there is no rank {}", self.what, self.peer));
            return None;
        }
        if self.count == 0 {
            violation(format!("{}: nothing to do", self.what));
            return None;
        }
        let stream = Stream::find(self.what, stream as usize)?;
        if stream.device != comm.device {
            violation(format!("{}: a stream of device {}, not {}", self.what, stream.device, comm.device));
            return None;
        }
        let block = self.count * number.size();
        let pin = |place: Option<(usize, usize)>| match place {
            Some((address, blocks)) => {
                Pin::new(self.what, comm.device, address, block * blocks).map(Some).ok_or(())
            }
            None => Ok(None),
        };
        let sends = pin(self.send).ok()?.into_iter().collect();
        let receives = pin(self.recv).ok()?.into_iter().collect();
        let (act, peer, count, header) = (self.act, self.peer as usize, self.count, Vec::new());
        Some(Operation { stream, act, peer, number, combine, count, header, sends, receives })
    }
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
    let (send, recv) = (Some((send as usize, 1)), Some((recv as usize, 1)));
    Call { what: "ncclAllReduce", act: Act::AllReduce, number, combine, peer: 0, count, send, recv }
        .issue(comm, stream)
}

fn size_of_group(comm: Handle) -> usize {
    lock(&COMMS).get_or_insert_default().get(&(comm as usize)).map_or(1, |comm| comm.size())
}

fn rank_in_group(comm: Handle) -> c_int {
    lock(&COMMS).get_or_insert_default().get(&(comm as usize)).map_or(0, |comm| comm.rank() as c_int)
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
    let (send, recv) = (Some((send as usize, 1)), Some((recv as usize, size_of_group(comm))));
    Call { what: "ncclAllGather", act: Act::AllGather, number, combine: 0, peer: 0, count, send, recv }
        .issue(comm, stream)
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
    let (send, recv) = (Some((send as usize, size_of_group(comm))), Some((recv as usize, 1)));
    Call { what: "ncclReduceScatter", act: Act::ReduceScatter, number, combine, peer: 0, count, send, recv }
        .issue(comm, stream)
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
    let send = (rank_in_group(comm) == root).then_some((send as usize, 1));
    let recv = Some((recv as usize, 1));
    Call { what: "ncclBroadcast", act: Act::Broadcast, number, combine: 0, peer: root, count, send, recv }
        .issue(comm, stream)
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
    let recv = (rank_in_group(comm) == root).then_some((recv as usize, 1));
    let send = Some((send as usize, 1));
    Call { what: "ncclReduce", act: Act::Reduce, number, combine, peer: root, count, send, recv }
        .issue(comm, stream)
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
    let send = Some((send as usize, 1));
    Call { what: "ncclSend", act: Act::Send, number, combine: 0, peer, count, send, recv: None }
        .issue(comm, stream)
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
    let recv = Some((recv as usize, 1));
    Call { what: "ncclRecv", act: Act::Receive, number, combine: 0, peer, count, send: None, recv }
        .issue(comm, stream)
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
