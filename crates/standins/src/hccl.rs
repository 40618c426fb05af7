//! The part of HCCL that is called.
#![allow(unsafe_code, reason = "functions with the names and types of HCCL")]
#![allow(non_snake_case, reason = "the names are HCCL's")]

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::acl::current_device;
use crate::comm::{Comm, Operation};
use crate::device::{Pin, Stream};
use crate::faults::{Fault, fault, lock, violation};
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

type Handle = *mut c_void;

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

/// Communicators and their names.
type Comms = HashMap<usize, (Arc<Comm>, String)>;

static COMMS: Mutex<Option<Comms>> = Mutex::new(None);

fn find(what: &str, handle: Handle) -> Option<Arc<Comm>> {
    let found =
        lock(&COMMS).get_or_insert_default().get(&(handle as usize)).map(|(comm, _)| Arc::clone(comm));
    if found.is_none() {
        violation(format!("{what}: {handle:?} is no communicator, or was destroyed"));
    }
    found
}

fn device(what: &str) -> Option<usize> {
    let device = current_device();
    if device.is_none() {
        violation(format!("{what} without a current context"));
    }
    device
}

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
    comm.hand_out();
    let (handle, name) = (comm.handle, format!("{hub}/{room}"));
    lock(&COMMS).get_or_insert_default().insert(handle, (comm, name));
    // SAFETY: the caller's promise.
    unsafe { *made = handle as Handle };
    SUCCESS
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGetRootInfo(info: *mut RootInfo) -> c_int {
    if device("HcclGetRootInfo").is_none() {
        return PARAMETER;
    }
    let name = hub::new_name();
    hub::start(&name);
    let mut bytes = [0; 4108];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the caller's promise.
    unsafe { *info = RootInfo { bytes } };
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
    let (Some(device), true) = (device(WHAT), unsafe { is_config(WHAT, config) }) else { return PARAMETER };
    if rank >= size {
        return PARAMETER;
    }
    // SAFETY: the caller's promise.
    let hub = unsafe { String::from_utf8_lossy(&(*info).bytes).trim_end_matches('\0').to_owned() };
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
    let (Some(device), true) = (device(WHAT), unsafe { is_config(WHAT, config) }) else { return PARAMETER };
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
    let (Some(device), true) = (device(WHAT), unsafe { is_config(WHAT, config) }) else { return PARAMETER };
    // SAFETY: the caller's promise.
    let Some(comm) = find(WHAT, unsafe { *parent }) else { return PARAMETER };
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
    let Some(comm) = find("HcclGetRankSize", comm) else { return PARAMETER };
    // SAFETY: the caller's promise.
    unsafe { *size = comm.size() as u32 };
    SUCCESS
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGetRankId(comm: Handle, rank: *mut u32) -> c_int {
    let Some(comm) = find("HcclGetRankId", comm) else { return PARAMETER };
    // SAFETY: the caller's promise.
    unsafe { *rank = comm.rank() as u32 };
    SUCCESS
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGetCommName(comm: Handle, name: *mut c_char) -> c_int {
    let comms = lock(&COMMS);
    let found = comms.as_ref().and_then(|comms| comms.get(&(comm as usize)));
    let Some((_, text)) = found else { return PARAMETER };
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
    let Some(comm) = find("HcclGetCommAsyncError", comm) else { return PARAMETER };
    let code = if comm.state() == Some(Err(())) { REMOTE } else { SUCCESS };
    // SAFETY: the caller's promise.
    unsafe { *state = code };
    SUCCESS
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclCommDestroy(comm: Handle) -> c_int {
    let Some(comm) = find("HcclCommDestroy", comm) else { return PARAMETER };
    if device("HcclCommDestroy") != Some(comm.device) {
        violation("HcclCommDestroy while another device is current");
    }
    lock(&COMMS).get_or_insert_default().remove(&comm.handle);
    comm.end();
    SUCCESS
}

/// What the arguments of an operation say.
struct Call {
    what: &'static str,
    act: Act,
    number: c_int,
    combine: c_int,
    peer: u32,
    count: u64,
    header: Vec<u8>,
    /// Addresses and elements.
    sends: Vec<(usize, u64)>,
    receives: Vec<(usize, u64)>,
}

impl Call {
    fn new(what: &'static str, act: Act, number: c_int, count: u64) -> Call {
        let (sends, receives, header) = (Vec::new(), Vec::new(), Vec::new());
        Call { what, act, number, combine: 0, peer: 0, count, header, sends, receives }
    }

    fn issue(self, comm: Handle, stream: Handle) -> c_int {
        let what = self.what;
        let Some(comm) = find(what, comm) else { return PARAMETER };
        let Some(_turn) = comm.turn() else {
            violation(format!("{what}: two threads use a communicator at the same time"));
            return PARAMETER;
        };
        if device(what) != Some(comm.device) || !comm.is_ready(what) {
            return PARAMETER;
        }
        match self.check(&comm, stream) {
            Ok(operation) => {
                match fault(comm.device) {
                    Some(Fault::Refuse(after)) if comm.operations() >= after => return INTERNAL,
                    Some(Fault::Die(after)) if comm.operations() >= after => std::process::abort(),
                    _ => comm.enqueue(vec![operation]),
                }
                SUCCESS
            }
            Err(code) => code,
        }
    }

    fn check(self, comm: &Arc<Comm>, stream: Handle) -> Result<Operation, c_int> {
        let wrong = |text: String| {
            violation(format!("{}: {text}", self.what));
            PARAMETER
        };
        let number = usize::try_from(self.number).ok().and_then(|n| *NUMBERS.get(n)?);
        let number = number.ok_or_else(|| wrong(format!("type {} is unknown", self.number)))?;
        let combine = usize::try_from(self.combine).ok().and_then(|n| COMBINES.get(n)).copied();
        let combine = combine.ok_or_else(|| wrong(format!("reduction {} is unknown", self.combine)))?;
        let reduces = matches!(self.act, Act::AllReduce | Act::ReduceScatter | Act::Reduce);
        if reduces && matches!(number, Number::U8 | Number::U32 | Number::U64 | Number::F64) {
            return Err(wrong(format!("no reduction of {number:?}")));
        }
        if self.peer as usize >= comm.size() {
            return Err(wrong(format!("there is no rank {}", self.peer)));
        }
        let stream = Stream::find(self.what, stream as usize).ok_or(PARAMETER)?;
        if stream.device != comm.device {
            return Err(wrong(format!("a stream of device {}, not {}", stream.device, comm.device)));
        }
        let pin = |&(address, count): &(usize, u64)| match address {
            0 => Err(NULL_POINTER),
            _ => {
                let len = count as usize * number.size();
                Pin::new(self.what, comm.device, address, len).ok_or(PARAMETER)
            }
        };
        let sends = self.sends.iter().map(pin).collect::<Result<_, _>>()?;
        let receives = self.receives.iter().map(pin).collect::<Result<_, _>>()?;
        let (act, peer, count) = (self.act, self.peer as usize, self.count as usize);
        Ok(Operation { stream, act, peer, number, combine, count, header: self.header, sends, receives })
    }
}

fn place(comm: Handle) -> (u32, u64) {
    let comms = lock(&COMMS);
    let comm = comms.as_ref().and_then(|comms| comms.get(&(comm as usize)));
    comm.map_or((0, 1), |(comm, _)| (comm.rank() as u32, comm.size() as u64))
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
    let (sends, receives) = (vec![(send as usize, count)], vec![(recv as usize, count)]);
    let call = Call::new("HcclAllReduce", Act::AllReduce, number, count);
    Call { combine, sends, receives, ..call }.issue(comm, stream)
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
    let all = vec![(data as usize, count)];
    let sends = if place(comm).0 == root { all.clone() } else { Vec::new() };
    let call = Call::new("HcclBroadcast", Act::Broadcast, number, count);
    Call { peer: root, sends, receives: all, ..call }.issue(comm, stream)
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
    let (sends, receives) = (vec![(send as usize, count * place(comm).1)], vec![(recv as usize, count)]);
    let call = Call::new("HcclReduceScatter", Act::ReduceScatter, number, count);
    Call { combine, sends, receives, ..call }.issue(comm, stream)
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
    let (sends, receives) = (vec![(send as usize, count)], vec![(recv as usize, count * place(comm).1)]);
    Call { sends, receives, ..Call::new("HcclAllGather", Act::AllGather, number, count) }.issue(comm, stream)
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
    if recv.is_null() {
        return NULL_POINTER;
    }
    let receives = if place(comm).0 == root { vec![(recv as usize, count)] } else { Vec::new() };
    let sends = vec![(send as usize, count)];
    let call = Call::new("HcclReduce", Act::Reduce, number, count);
    Call { combine, peer: root, sends, receives, ..call }.issue(comm, stream)
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
    let (rank, size) = place(comm);
    let sends = if rank == root { vec![(send as usize, count * size)] } else { Vec::new() };
    let receives = vec![(recv as usize, count)];
    let call = Call::new("HcclScatter", Act::Scatter, number, count);
    Call { peer: root, sends, receives, ..call }.issue(comm, stream)
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
    let sends = vec![(send as usize, count)];
    Call { peer, sends, ..Call::new("HcclSend", Act::Send, number, count) }.issue(comm, stream)
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
    let receives = vec![(recv as usize, count)];
    Call { peer, receives, ..Call::new("HcclRecv", Act::Receive, number, count) }.issue(comm, stream)
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
    let all = count * place(comm).1;
    let (sends, receives) = (vec![(send as usize, all)], vec![(recv as usize, all)]);
    Call { sends, receives, ..Call::new("HcclAlltoAll", Act::AllToAll, number, count) }.issue(comm, stream)
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
    if send.is_null() || recv.is_null() {
        return NULL_POINTER;
    }
    let size = usize::try_from(number).ok().and_then(|n| *NUMBERS.get(n)?).map(Number::size);
    let (Some(size), true) = (size, number == recv_number) else { return PARAMETER };
    let n = place(comm).1 as usize;
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
    Call { header, sends, receives, ..Call::new(WHAT, Act::AllToAllV, number, 0) }.issue(comm, stream)
}

/// # Safety
/// As HCCL's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclBarrier(comm: Handle, stream: Handle) -> c_int {
    Call::new("HcclBarrier", Act::Barrier, 0, 0).issue(comm, stream)
}
