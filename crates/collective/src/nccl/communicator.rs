//! A group in NCCL.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use cudarc::nccl::sys::{ncclConfig_t, ncclDataType_t, ncclRedOp_t, ncclUniqueId};
use mslite_tensor::DType;

use super::NcclOptions;
use super::cuda::Cuda;
use super::functions::{Comm, NcclFunctions};
use crate::device::library::Search;
use crate::device::{Communicator, Driver, Part, Task, Units, Vendor, Wait, wait_until};
use crate::{CollectiveKind, Error, Group, Reduction, Result};

const SUCCESS: c_int = 0;
const IN_PROGRESS: c_int = 7;
const CONFIG_MAGIC: c_uint = 0xcafe_beef;
/// That of the layout of [`ncclConfig_t`].
const CONFIG_VERSION: c_uint = 22_800;
const UNSET: c_int = c_int::MIN;
const NO_COLOR: c_int = -1;
/// The first with all functions that are needed here.
const OLDEST: c_int = 21_800;
/// How long the end of a group waits for the other members before it aborts.
const FAREWELL: Duration = Duration::from_secs(2);

/// NCCL with one GPU.
#[derive(Debug)]
pub(super) struct Nccl {
    library: Arc<NcclFunctions>,
    cuda: Arc<Cuda>,
    driver: Arc<dyn Driver>,
}

impl Nccl {
    pub(super) fn open(options: &NcclOptions) -> Result<Nccl> {
        let search = Search {
            what: "NCCL",
            names: &["libnccl.so.2", "libnccl.so"],
            file: options.library.as_deref(),
            hint: "install it (the packages libnccl2, nvidia-nccl-cu12 and others have it), and either name the file \
                   in NcclOptions::library or put its folder in LD_LIBRARY_PATH",
        };
        let library = Arc::new(NcclFunctions::load(&search.open()?)?);
        let mut version = 0;
        // SAFETY: the out-pointer is valid.
        library.check(&"ncclGetVersion", ptr::null_mut(), unsafe { (library.version)(&mut version) })?;
        if version < OLDEST {
            return Err(Error::Unsupported(format!("NCCL {version} is too old; from {OLDEST} on it serves")));
        }
        let cuda = Cuda::open(options)?;
        Ok(Nccl { library, driver: Arc::clone(&cuda) as _, cuda })
    }
}

impl Vendor for Nccl {
    fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    fn units(&self, kind: &CollectiveKind, dtype: DType) -> Result<Units, String> {
        let units = Units::of(kind, dtype).filter(|units| data_type(units.dtype).is_some());
        units.ok_or_else(|| format!("NCCL has nothing like it for {dtype}"))
    }

    fn invite(&self, _: &Group) -> Result<Vec<u8>> {
        let mut id = ncclUniqueId { internal: [0; 128] };
        // SAFETY: the out-pointer is valid.
        let code = self.cuda.within(|| unsafe { (self.library.unique_id)(&mut id) })?;
        self.library.check(&"ncclGetUniqueId", ptr::null_mut(), code)?;
        Ok(id.internal.iter().map(|&c| c.cast_unsigned()).collect())
    }

    fn join(&self, group: &Group, invitation: &[u8], wait: Wait<'_>) -> Result<Box<dyn Communicator>> {
        let mut id = ncclUniqueId { internal: [0; 128] };
        for (to, from) in id.internal.iter_mut().zip(invitation) {
            *to = from.cast_signed() as c_char;
        }
        let (size, rank) = (group.size() as c_int, group.rank as c_int);
        let mut joining = NcclCommunicator::empty(&self.library, &self.cuda);
        // SAFETY: the configuration and the place for the handle outlive the call; the handle is written before
        // it returns.
        let code = self
            .cuda
            .within(|| unsafe { (self.library.init)(&mut *joining.comm, size, id, rank, &mut config()) })?;
        joining.finish_making(&"ncclCommInitRankConfig", code, wait)
    }
}

/// Calls return at once, also those that wait for other ranks.
fn config() -> ncclConfig_t {
    ncclConfig_t {
        size: size_of::<ncclConfig_t>(),
        magic: CONFIG_MAGIC,
        version: CONFIG_VERSION,
        blocking: 0,
        cgaClusterSize: UNSET,
        minCTAs: UNSET,
        maxCTAs: UNSET,
        netName: ptr::null(),
        splitShare: UNSET,
        trafficClass: UNSET,
        commName: ptr::null(),
        collnetEnable: UNSET,
        CTAPolicy: UNSET,
        shrinkShare: UNSET,
        nvlsCTAs: UNSET,
        nChannelsPerNetPeer: UNSET,
        nvlinkCentricSched: UNSET,
    }
}

fn data_type(dtype: DType) -> Option<c_int> {
    Some(match dtype {
        DType::I8 => ncclDataType_t::ncclInt8,
        DType::U8 => ncclDataType_t::ncclUint8,
        DType::I32 => ncclDataType_t::ncclInt32,
        DType::U32 => ncclDataType_t::ncclUint32,
        DType::I64 => ncclDataType_t::ncclInt64,
        DType::U64 => ncclDataType_t::ncclUint64,
        DType::F16 => ncclDataType_t::ncclFloat16,
        DType::BF16 => ncclDataType_t::ncclBfloat16,
        DType::F32 => ncclDataType_t::ncclFloat32,
        DType::F64 => ncclDataType_t::ncclFloat64,
        _ => return None,
    } as c_int)
}

fn reduction(reduction: Option<Reduction>) -> c_int {
    (match reduction {
        None | Some(Reduction::Sum) => ncclRedOp_t::ncclSum,
        Some(Reduction::Prod) => ncclRedOp_t::ncclProd,
        Some(Reduction::Max) => ncclRedOp_t::ncclMax,
        Some(Reduction::Min) => ncclRedOp_t::ncclMin,
        Some(Reduction::Mean) => ncclRedOp_t::ncclAvg,
    }) as c_int
}

impl NcclFunctions {
    /// What NCCL says of a failure; `IN_PROGRESS` is none.
    fn check(&self, call: &dyn fmt::Display, comm: Comm, code: c_int) -> Result<()> {
        if code == SUCCESS || code == IN_PROGRESS {
            return Ok(());
        }
        // SAFETY: NCCL gives constant texts for all codes, and its last message for any communicator or none.
        let (what, last) = unsafe { (text((self.error_string)(code)), text((self.last_error)(comm))) };
        let last = if last.is_empty() { String::new() } else { format!(": {}", last.trim()) };
        let reason = format!("{what} ({code}){last}; {}", advice(code));
        Err(Error::Library { call: call.to_string(), reason })
    }
}

/// # Safety
/// `text` is null or a text that ends.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn advice(code: c_int) -> &'static str {
    match code {
        1 => "a GPU has failed, or this one is not usable",
        2 => "the system refused something; NCCL_DEBUG=INFO tells what",
        5 => "ranks may share a GPU, or use NCCL in a way that it does not allow",
        6 => "another rank has failed, or the network between them",
        _ => "NCCL_DEBUG=WARN makes NCCL tell more",
    }
}

/// One rank's end of a group in NCCL.
struct NcclCommunicator {
    library: Arc<NcclFunctions>,
    cuda: Arc<Cuda>,
    /// Null before it is made and after it has ended. NCCL may write it until the call that makes it is settled.
    comm: Box<Comm>,
}

#[allow(clippy::non_send_fields_in_send_ty, reason = "NCCL's handles may move between threads")]
// SAFETY: NCCL allows calls from any thread, one at a time, which `&mut` and the lock of the group see to.
unsafe impl Send for NcclCommunicator {}

impl NcclCommunicator {
    fn empty(library: &Arc<NcclFunctions>, cuda: &Arc<Cuda>) -> Self {
        NcclCommunicator {
            library: Arc::clone(library),
            cuda: Arc::clone(cuda),
            comm: Box::new(ptr::null_mut()),
        }
    }

    /// The state of what was called last.
    fn state(&self) -> Result<c_int> {
        let mut state = SUCCESS;
        // SAFETY: the handle lives, and the out-pointer is valid.
        let code = unsafe { (self.library.async_error)(*self.comm, &mut state) };
        self.library.check(&"ncclCommGetAsyncError", *self.comm, code)?;
        Ok(state)
    }

    /// Waits until a call that has answered `code` has really ended.
    fn settle(&self, call: &dyn fmt::Display, code: c_int, wait: Wait<'_>) -> Result<()> {
        self.library.check(call, *self.comm, code)?;
        if code == SUCCESS {
            return Ok(());
        }
        wait(call, &mut || {
            let state = self.state()?;
            self.library.check(call, *self.comm, state)?;
            Ok(state == SUCCESS)
        })
    }

    /// What is half made cannot end in good order.
    fn finish_making(
        mut self,
        call: &dyn fmt::Display,
        code: c_int,
        wait: Wait<'_>,
    ) -> Result<Box<dyn Communicator>> {
        match self.settle(call, code, wait) {
            Ok(()) => Ok(Box::new(self)),
            Err(error) => {
                self.abort();
                Err(error)
            }
        }
    }

    /// Calls something of NCCL for this group, and waits until it has ended.
    fn call(
        &self,
        name: &dyn fmt::Display,
        wait: Wait<'_>,
        work: impl FnOnce(&NcclFunctions, Comm) -> c_int,
    ) -> Result<()> {
        let code = self.cuda.within(|| work(&self.library, *self.comm))?;
        self.settle(name, code, wait)
    }

    /// Messages between members, all at the same time. The own block is one to oneself.
    fn exchange(&self, task: &Task<'_>) -> Result<()> {
        let block = task.count;
        let everybody = 0..task.size;
        let only = |root: usize| root..root + 1;
        let (to, from) = match *task.kind {
            CollectiveKind::Gather { root } if task.rank == root => (only(root), everybody),
            CollectiveKind::Gather { root } => (only(root), 0..0),
            CollectiveKind::Scatter { root } if task.rank == root => (everybody, only(root)),
            CollectiveKind::Scatter { root } => (0..0, only(root)),
            CollectiveKind::Send { dest, .. } => (only(dest), 0..0),
            CollectiveKind::Receive { src, .. } => (0..0, only(src)),
            _ => (everybody.clone(), everybody),
        };
        // A single block stands at the beginning; several by rank.
        let place = |base: usize, peers: &std::ops::Range<usize>, peer: usize| match peers.len() {
            1 => base,
            _ => base + peer * block,
        };
        let messages = to
            .clone()
            .map(|peer| (true, peer, place(task.send, &to, peer)))
            .chain(from.clone().map(|peer| (false, peer, place(task.recv, &from, peer))));
        let own = |peers: &std::ops::Range<usize>, base| {
            peers.contains(&task.rank).then(|| place(base, peers, task.rank))
        };
        let in_place = own(&to, task.send).is_some() && own(&to, task.send) == own(&from, task.recv);
        let messages = messages.filter(|&(_, peer, _)| !(in_place && peer == task.rank));
        self.call(task.kind, task.wait, |nccl, comm| {
            let dtype = ncclDataType_t::ncclInt8 as c_int;
            let stream = task.stream as *mut c_void;
            // SAFETY: addresses and stream are the caller's, valid by the contract of `Buffer`.
            unsafe {
                let mut code = (nccl.group_start)();
                for (sends, peer, address) in messages {
                    if code != SUCCESS && code != IN_PROGRESS {
                        break;
                    }
                    code = match sends {
                        true => (nccl.send)(address as _, block, dtype, peer as c_int, comm, stream),
                        false => (nccl.recv)(address as _, block, dtype, peer as c_int, comm, stream),
                    };
                }
                // What was started ends, also after a failure.
                let end = (nccl.group_end)();
                if code == SUCCESS || code == IN_PROGRESS { end } else { code }
            }
        })
    }

    fn reduce_or_copy(&self, task: &Task<'_>) -> Result<()> {
        let (dtype, op) = (data_type(task.units.dtype).unwrap_or_default(), reduction(task.units.reduction));
        let (send, recv, count) = (task.send as *const c_void, task.recv as *mut c_void, task.count);
        let stream = task.stream as *mut c_void;
        let scratch = task.scratch as *mut c_void;
        self.call(task.kind, task.wait, |nccl, comm| {
            // SAFETY: addresses and stream are the caller's, valid by the contract of `Buffer`.
            unsafe {
                match *task.kind {
                    CollectiveKind::AllReduce(_) => {
                        (nccl.all_reduce)(send, recv, count, dtype, op, comm, stream)
                    }
                    CollectiveKind::AllGather => (nccl.all_gather)(send, recv, count, dtype, comm, stream),
                    CollectiveKind::ReduceScatter(_) => {
                        (nccl.reduce_scatter)(send, recv, count, dtype, op, comm, stream)
                    }
                    CollectiveKind::Broadcast { root } => {
                        (nccl.broadcast)(send, recv, count, dtype, root as c_int, comm, stream)
                    }
                    CollectiveKind::Reduce { root, .. } => {
                        (nccl.reduce)(send, recv, count, dtype, op, root as c_int, comm, stream)
                    }
                    _ => (nccl.all_reduce)(scratch, scratch, 1, dtype, op, comm, stream),
                }
            }
        })
    }
}

impl Communicator for NcclCommunicator {
    fn issue(&mut self, task: &Task<'_>) -> Result<()> {
        match task.kind {
            CollectiveKind::Gather { .. }
            | CollectiveKind::Scatter { .. }
            | CollectiveKind::AllToAll
            | CollectiveKind::Send { .. }
            | CollectiveKind::Receive { .. } => self.exchange(task),
            _ => self.reduce_or_copy(task),
        }
    }

    fn split(&mut self, part: Option<&Part<'_>>, wait: Wait<'_>) -> Result<Option<Box<dyn Communicator>>> {
        let color = part.map_or(NO_COLOR, |part| part.ranks[0] as c_int);
        let key = part.map_or(0, |part| part.rank as c_int);
        let mut made = NcclCommunicator::empty(&self.library, &self.cuda);
        let place: *mut Comm = &mut *made.comm;
        // SAFETY: the place outlives the wait for the call, in which NCCL writes it, and the abort.
        let split = self.call(&"ncclCommSplit", wait, |nccl, comm| unsafe {
            (nccl.split)(comm, color, key, place, &mut config())
        });
        if let Err(error) = split {
            self.abort();
            return Err(error);
        }
        part.map(|_| made.finish_making(&"ncclCommSplit", IN_PROGRESS, wait)).transpose()
    }

    fn check(&self) -> Result<()> {
        self.library.check(&"an operation of NCCL", *self.comm, self.state()?)
    }

    fn abort(&mut self) {
        let comm = std::mem::replace(&mut *self.comm, ptr::null_mut());
        if !comm.is_null() {
            // Nothing is left to be done about a failure.
            // SAFETY: the handle lives, and is not used any more.
            let _ = self.cuda.within(|| unsafe { (self.library.abort)(comm) });
        }
    }

    fn name(&self) -> Option<String> {
        None
    }
}

impl Drop for NcclCommunicator {
    /// In good order while all members do so; others may stay for long.
    fn drop(&mut self) {
        if self.comm.is_null() {
            return;
        }
        let late = |waited| match waited < FAREWELL {
            true => Ok(()),
            false => Err(Error::Aborted { reason: String::new() }),
        };
        let wait =
            |_: &dyn fmt::Display, is_done: &mut dyn FnMut() -> Result<bool>| wait_until(is_done, &late);
        // SAFETY: the handle lives.
        let finalized = self.call(&"ncclCommFinalize", &wait, |nccl, comm| unsafe { (nccl.finalize)(comm) });
        if finalized.is_err() {
            return self.abort();
        }
        let comm = std::mem::replace(&mut *self.comm, ptr::null_mut());
        // SAFETY: the handle lives, and is not used any more.
        let _ = self.cuda.within(|| unsafe { (self.library.destroy)(comm) });
    }
}

impl fmt::Debug for NcclCommunicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NcclCommunicator").finish_non_exhaustive()
    }
}
