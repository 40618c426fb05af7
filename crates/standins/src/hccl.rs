//! The part of HCCL that is called.
#![allow(unsafe_code, reason = "functions with the names and types of HCCL")]
#![allow(non_snake_case, reason = "the names are HCCL's")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ptr::null;
use std::time::Duration;

use crate::acl::current_device;
use crate::call::{Call, Comms, Handle};
use crate::comm::Comm;
use crate::faults::{Fault, fault, violation};
use crate::hub::{self, Act, Request};
use crate::numbers::{Combine, Number};

const SUCCESS: c_int = 0;
const PARAMETER: c_int = 1;
const NULL_POINTER: c_int = 2;
const INTERNAL: c_int = 4;
const TIMEOUT: c_int = 9;
const OPEN_FILE: c_int = 10;
const TCP_CONNECT: c_int = 11;
const REMOTE: c_int = 21;

/// How long a rank waits for the others; with hardware that is set by `HCCL_CONNECT_TIMEOUT`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// By HCCL's number; what is not known there is absent here.
const NUMBERS: [Option<Number>; 12] = [
    Some(Number::I8),
    Some(Number::I16),
    Some(Number::I32),
    Some(Number::F16),
    Some(Number::F32),
    Some(Number::I64),
    Some(Number::U64),
    Some(Number::U8),
    None,
    Some(Number::U32),
    Some(Number::F64),
    Some(Number::Bf16),
];
const COMBINES: [Combine; 4] = [Combine::Sum, Combine::Prod, Combine::Max, Combine::Min];

/// An `HcclRootInfo`.
#[repr(C)]
#[derive(Debug)]
pub struct RootInfo {
    bytes: [u8; 4108],
}

/// Version 2 of an `HcclCommConfig`.
#[repr(C)]
#[derive(Debug)]
pub struct Config {
    size: usize,
    magic: u32,
    version: u32,
    reserved: u64,
    buffer_size: u32,
    deterministic: u32,
    name: [u8; 128],
}

static COMMS: Comms = Comms::new();

/// # Safety
/// `config` is null or valid.
unsafe fn is_config(what: &str, config: *const Config) -> bool {
    // SAFETY: the caller's promise.
    let fits = unsafe { config.as_ref() }.is_some_and(|config| {
        config.size == size_of::<Config>()
            && config.magic == 0xf0f0_f0f0
            && config.version == 2
            && config.reserved == 0
            && config.buffer_size > 0
            && config.deterministic <= 1
            && config.name[127] == 0
    });
    if !fits {
        violation(format!("{what}: the configuration has another size, mark or version"));
    }
    fits
}

/// Joins a room, and hands the communicator out.
///
/// # Safety
/// `made` is valid for writing.
unsafe fn join(
    hub: &str,
    room: &str,
    (rank, size): (usize, usize),
    device: usize,
    made: *mut Handle,
) -> c_int {
    let comm = Comm::new(device, hub);
    if !comm.join_now(room, rank, size, Some(CONNECT_TIMEOUT)) {
        return if fault(device) == Some(Fault::JoinFails) { TCP_CONNECT } else { TIMEOUT };
    }
    // SAFETY: the caller's promise.
    unsafe { *made = COMMS.hand_out(comm) };
    SUCCESS
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGetRootInfo(info: *mut RootInfo) -> c_int {
    if current_device("HcclGetRootInfo").is_none() {
        return PARAMETER;
    }
    // SAFETY: the caller's promise.
    unsafe { *info = RootInfo { bytes: hub::invite() } };
    SUCCESS
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclCommInitRootInfoConfig(
    size: u32,
    info: *const RootInfo,
    rank: u32,
    config: *const Config,
    made: *mut Handle,
) -> c_int {
    const WHAT: &str = "HcclCommInitRootInfoConfig";
    // SAFETY: the caller's promise.
    let (Some(device), true) = (current_device(WHAT), unsafe { is_config(WHAT, config) }) else {
        return PARAMETER;
    };
    if rank >= size {
        return PARAMETER;
    }
    // SAFETY: the caller's promise.
    let hub = hub::invited(unsafe { &(*info).bytes });
    // SAFETY: the caller's promise.
    unsafe { join(&hub, "world", (rank as usize, size as usize), device, made) }
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclCommInitClusterInfoConfig(
    table: *const c_char,
    rank: u32,
    config: *mut Config,
    made: *mut Handle,
) -> c_int {
    const WHAT: &str = "HcclCommInitClusterInfoConfig";
    // SAFETY: the caller's promise.
    let (Some(device), true) = (current_device(WHAT), unsafe { is_config(WHAT, config) }) else {
        return PARAMETER;
    };
    // SAFETY: the caller's promise.
    let path = unsafe { CStr::from_ptr(table) }.to_string_lossy().into_owned();
    let Ok(text) = std::fs::read_to_string(path) else { return OPEN_FILE };
    let size = text.matches("\"rank_id\"").count();
    if rank as usize >= size || !text.contains("\"completed\"") {
        return PARAMETER;
    }
    // All ranks have the same text, and the first one is there.
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let hub = format!("table-{:x}", hasher.finish());
    if rank == 0 && !hub::start(&hub) {
        return TCP_CONNECT;
    }
    // SAFETY: the caller's promise.
    unsafe { join(&hub, "world", (rank as usize, size), device, made) }
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclCreateSubCommConfig(
    parent: *mut Handle,
    size: u32,
    ranks: *mut u32,
    id: u64,
    rank: u32,
    config: *mut Config,
    made: *mut Handle,
) -> c_int {
    const WHAT: &str = "HcclCreateSubCommConfig";
    // SAFETY: the caller's promise.
    let (Some(device), true) = (current_device(WHAT), unsafe { is_config(WHAT, config) }) else {
        return PARAMETER;
    };
    // SAFETY: the caller's promise.
    let Some(comm) = COMMS.find(WHAT, unsafe { *parent }) else { return PARAMETER };
    let is_in = !ranks.is_null();
    if is_in == (id == 0xffff_ffff) {
        violation(format!("{WHAT}: ranks and number of the part do not fit"));
        return PARAMETER;
    }
    let color = if is_in { id as i64 } else { -1 };
    if is_in {
        // SAFETY: the caller's promise.
        let ranks = unsafe { std::slice::from_raw_parts(ranks, size as usize) };
        if ranks.get(rank as usize).copied() != Some(comm.rank() as u32) {
            violation(format!("{WHAT}: rank {} is not number {rank} of {ranks:?}", comm.rank()));
            return PARAMETER;
        }
    }
    // All ranks of the parent take part.
    let data = [color, rank.into()].into_iter().flat_map(i64::to_le_bytes).collect();
    let Some(answer) = comm.ask(Request { data, ..Request::bare(Act::Split) }) else { return REMOTE };
    if !is_in {
        return SUCCESS;
    }
    let room = String::from_utf8_lossy(answer.get(16..).unwrap_or_default()).into_owned();
    // SAFETY: the caller's promise.
    unsafe { join(comm.hub(), &room, (rank as usize, size as usize), device, made) }
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGetRankSize(comm: Handle, size: *mut u32) -> c_int {
    let Some(comm) = COMMS.find("HcclGetRankSize", comm) else { return PARAMETER };
    // SAFETY: the caller's promise.
    unsafe { *size = comm.size() as u32 };
    SUCCESS
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGetRankId(comm: Handle, rank: *mut u32) -> c_int {
    let Some(comm) = COMMS.find("HcclGetRankId", comm) else { return PARAMETER };
    // SAFETY: the caller's promise.
    unsafe { *rank = comm.rank() as u32 };
    SUCCESS
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGetCommName(comm: Handle, name: *mut c_char) -> c_int {
    let Some(comm) = COMMS.find("HcclGetCommName", comm) else { return PARAMETER };
    let text = comm.name();
    // SAFETY: the caller's promise: 128 bytes.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr(), name.cast(), text.len().min(127));
        *name.add(text.len().min(127)) = 0;
    }
    SUCCESS
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGetCommAsyncError(comm: Handle, state: *mut c_int) -> c_int {
    let Some(comm) = COMMS.find("HcclGetCommAsyncError", comm) else { return PARAMETER };
    let code = if comm.state() == Some(Err(())) { REMOTE } else { SUCCESS };
    // SAFETY: the caller's promise.
    unsafe { *state = code };
    SUCCESS
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclCommDestroy(comm: Handle) -> c_int {
    let Some(comm) = COMMS.find("HcclCommDestroy", comm) else { return PARAMETER };
    if current_device("HcclCommDestroy") != Some(comm.device) {
        violation("HcclCommDestroy while another device is current");
    }
    COMMS.end(&comm);
    SUCCESS
}

/// The element type of a number; `None` for what is not known here.
fn number(code: c_int) -> Option<Number> {
    *NUMBERS.get(usize::try_from(code).ok()?)?
}

fn issue(call: Call, comm: Handle, stream: Handle) -> c_int {
    let what = call.what;
    let Some(comm) = COMMS.find(what, comm) else { return PARAMETER };
    let Some(_turn) = comm.turn(what) else { return PARAMETER };
    if current_device(what) != Some(comm.device) || !comm.is_ready(what) {
        return PARAMETER;
    }
    if call.has_null() {
        return NULL_POINTER;
    }
    let Some(operation) = call.check(&comm, stream, number, &COMBINES) else { return PARAMETER };
    let reduces = matches!(operation.act, Act::AllReduce | Act::ReduceScatter | Act::Reduce);
    if reduces && matches!(operation.number, Number::U8 | Number::U32 | Number::U64 | Number::F64) {
        violation(format!("{what}: no reduction of {:?}", operation.number));
        return PARAMETER;
    }
    if comm.refuses() {
        return INTERNAL;
    }
    comm.enqueue(vec![operation]);
    SUCCESS
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclAllReduce(
    send: *mut c_void,
    recv: *mut c_void,
    count: u64,
    number: c_int,
    combine: c_int,
    comm: Handle,
    stream: Handle,
) -> c_int {
    let call = Call::new("HcclAllReduce", Act::AllReduce, send, recv, count, number);
    issue(call.reduces(combine), comm, stream)
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclBroadcast(
    data: *mut c_void,
    count: u64,
    number: c_int,
    root: u32,
    comm: Handle,
    stream: Handle,
) -> c_int {
    let call = Call::new("HcclBroadcast", Act::Broadcast, data, data, count, number);
    issue(call.peer(root), comm, stream)
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclReduceScatter(
    send: *mut c_void,
    recv: *mut c_void,
    count: u64,
    number: c_int,
    combine: c_int,
    comm: Handle,
    stream: Handle,
) -> c_int {
    let call = Call::new("HcclReduceScatter", Act::ReduceScatter, send, recv, count, number);
    issue(call.reduces(combine), comm, stream)
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclAllGather(
    send: *mut c_void,
    recv: *mut c_void,
    count: u64,
    number: c_int,
    comm: Handle,
    stream: Handle,
) -> c_int {
    let call = Call::new("HcclAllGather", Act::AllGather, send, recv, count, number);
    issue(call, comm, stream)
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclReduce(
    send: *mut c_void,
    recv: *mut c_void,
    count: u64,
    number: c_int,
    combine: c_int,
    root: u32,
    comm: Handle,
    stream: Handle,
) -> c_int {
    let call = Call::new("HcclReduce", Act::Reduce, send, recv, count, number);
    issue(call.reduces(combine).peer(root), comm, stream)
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclScatter(
    send: *mut c_void,
    recv: *mut c_void,
    count: u64,
    number: c_int,
    root: u32,
    comm: Handle,
    stream: Handle,
) -> c_int {
    let call = Call::new("HcclScatter", Act::Scatter, send, recv, count, number);
    issue(call.peer(root), comm, stream)
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclSend(
    send: *mut c_void,
    count: u64,
    number: c_int,
    peer: u32,
    comm: Handle,
    stream: Handle,
) -> c_int {
    let call = Call::new("HcclSend", Act::Send, send, send, count, number);
    issue(call.peer(peer), comm, stream)
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclRecv(
    recv: *mut c_void,
    count: u64,
    number: c_int,
    peer: u32,
    comm: Handle,
    stream: Handle,
) -> c_int {
    let call = Call::new("HcclRecv", Act::Receive, recv, recv, count, number);
    issue(call.peer(peer), comm, stream)
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclAlltoAll(
    send: *const c_void,
    count: u64,
    number: c_int,
    recv: *const c_void,
    recv_count: u64,
    recv_number: c_int,
    comm: Handle,
    stream: Handle,
) -> c_int {
    if (count, number) != (recv_count, recv_number) {
        violation("HcclAlltoAll: what is sent does not fit what is received");
        return PARAMETER;
    }
    let call = Call::new("HcclAlltoAll", Act::AllToAll, send, recv, count, number);
    issue(call, comm, stream)
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclAlltoAllV(
    send: *const c_void,
    send_counts: *const c_void,
    send_places: *const c_void,
    number: c_int,
    recv: *const c_void,
    recv_counts: *const c_void,
    recv_places: *const c_void,
    recv_number: c_int,
    comm: Handle,
    stream: Handle,
) -> c_int {
    const WHAT: &str = "HcclAlltoAllV";
    let size = self::number(number).map(Number::size);
    let (Some(size), true) = (size, number == recv_number) else { return PARAMETER };
    let Some(n) = COMMS.find(WHAT, comm).map(|comm| comm.size()) else { return PARAMETER };
    // SAFETY: the caller's promise.
    let list = |pointer: *const c_void| unsafe { std::slice::from_raw_parts(pointer.cast::<u64>(), n) };
    let parts = |base: *const c_void, counts: &[u64], places: &[u64]| {
        let part = |(&count, &place): (&u64, &u64)| (base as usize + place as usize * size, count);
        counts.iter().zip(places).map(part).filter(|(_, count)| *count > 0).collect()
    };
    let (sent, received) = (list(send_counts), list(recv_counts));
    let bytes = sent.iter().chain(received).map(|count| count * size as u64);
    let header = bytes.flat_map(u64::to_le_bytes).collect();
    let (sends, receives) = (parts(send, sent, list(send_places)), parts(recv, received, list(recv_places)));
    let call = Call::new(WHAT, Act::AllToAllV, send, recv, 0, number);
    issue(call.parts(header, sends, receives), comm, stream)
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclBarrier(comm: Handle, stream: Handle) -> c_int {
    issue(Call::new("HcclBarrier", Act::Barrier, null(), null(), 0, 0), comm, stream)
}
