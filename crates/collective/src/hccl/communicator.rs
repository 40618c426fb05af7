//! A group in HCCL.

use std::ffi::{CString, c_int, c_void};
use std::fmt;
use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::Duration;

use mslite_tensor::DType;

use super::HcclOptions;
use super::acl::Acl;
use super::functions::{Comm, Config, HcclFunctions, RootInfo};
use crate::device::library::Search;
use crate::device::{Communicator, Driver, Part, Task, Units, Vendor, Wait, wait_until};
use crate::{CollectiveKind, Error, Group, Reduction, Result};

/// What a rank without a part gives as number of its part.
const NO_PART: u64 = 0xffff_ffff;
/// How long the end of a group may take before it is left to itself.
const FAREWELL: Duration = Duration::from_secs(2);

/// HCCL with one device.
#[derive(Debug)]
pub(super) struct Hccl {
    libraries: Libraries,
    driver: Arc<dyn Driver>,
    rank_table: Option<PathBuf>,
    deterministic: bool,
}

#[derive(Debug, Clone)]
struct Libraries {
    hccl: Arc<HcclFunctions>,
    acl: Arc<Acl>,
}

impl Hccl {
    pub(super) fn open(options: &HcclOptions) -> Result<Hccl> {
        let search = Search {
            what: "HCCL",
            names: &["libhccl.so"],
            file: options.library.as_deref(),
            hint: "CANN has it from version 8.0 on; its set_env.sh makes it known",
        };
        let hccl = Arc::new(HcclFunctions::load(&search.open()?)?);
        let acl = Acl::open(options)?;
        Ok(Hccl {
            driver: Arc::clone(&acl) as _,
            libraries: Libraries { hccl, acl },
            rank_table: options.rank_table.clone(),
            deterministic: options.deterministic,
        })
    }

    /// The rank table, of the group that is made by it.
    fn table_of(&self, group: &Group) -> Option<&PathBuf> {
        self.rank_table.as_ref().filter(|_| group.name.is_world())
    }
}

impl Vendor for Hccl {
    fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    fn units(&self, kind: &CollectiveKind, dtype: DType) -> Result<Units, String> {
        let is_known = |units: &Units| {
            let reduces = units.reduction.is_none_or(|r| reduction(r).is_some() && can_reduce(units.dtype));
            data_type(units.dtype).is_some() && reduces
        };
        Units::of(kind, dtype).filter(is_known).ok_or_else(|| format!("HCCL has nothing like it for {dtype}"))
    }

    fn invite(&self, group: &Group) -> Result<Vec<u8>> {
        if self.table_of(group).is_some() {
            return Ok(Vec::new());
        }
        let mut info = RootInfo { bytes: [0; 4108] };
        // SAFETY: the out-pointer is valid.
        let code = self.libraries.acl.within(|| unsafe { (self.libraries.hccl.root_info)(&mut info) })?;
        check(&"HcclGetRootInfo", code)?;
        Ok(info.bytes.to_vec())
    }

    fn join(&self, group: &Group, invitation: &[u8], wait: Wait<'_>) -> Result<Box<dyn Communicator>> {
        let (size, rank, deterministic) = (group.size() as u32, group.rank as u32, self.deterministic);
        let made = match self.table_of(group) {
            Some(table) => {
                let path = table.to_str().and_then(|path| CString::new(path).ok());
                let path = path.ok_or_else(|| {
                    Error::InvalidArgument(format!("{}: HCCL takes no such path", table.display()))
                })?;
                self.libraries.make("HcclCommInitClusterInfoConfig", wait, move |hccl, comm| {
                    let mut config = Config::new(deterministic, "");
                    // SAFETY: everything that is pointed to outlives the call.
                    unsafe { (hccl.init_table)(path.as_ptr(), rank, &mut config, comm) }
                })
            }
            None => {
                let mut info = RootInfo { bytes: [0; 4108] };
                info.bytes.iter_mut().zip(invitation).for_each(|(to, from)| *to = *from);
                self.libraries.make("HcclCommInitRootInfoConfig", wait, move |hccl, comm| {
                    let config = Config::new(deterministic, "");
                    // SAFETY: everything that is pointed to outlives the call.
                    unsafe { (hccl.init_root)(size, &info, rank, &config, comm) }
                })
            }
        }?;
        made.check_place(group)?;
        Ok(Box::new(made))
    }
}

impl Libraries {
    /// Makes a communicator by a call that returns when all members have come, or HCCL's own time is over: in a thread
    /// that is left to itself when nobody can wait any longer.
    fn make(
        &self,
        call: &'static str,
        wait: Wait<'_>,
        work: impl FnOnce(&HcclFunctions, *mut Comm) -> c_int + Send + 'static,
    ) -> Result<HcclCommunicator> {
        let (sender, receiver) = channel();
        let libraries = self.clone();
        thread::spawn(move || {
            let mut comm = ptr::null_mut();
            let code = libraries.acl.within(|| work(&libraries.hccl, &mut comm));
            let made = HcclCommunicator { libraries, comm: comm as usize };
            // Nobody may want it any more; then it ends here.
            let _ = sender.send((code, made));
        });
        let mut answer = None;
        wait(&call, &mut || match receiver.try_recv() {
            Ok(made) => {
                answer = Some(made);
                Ok(true)
            }
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Disconnected) => {
                Err(Error::Library { call: call.to_owned(), reason: "its thread has ended".to_owned() })
            }
        })?;
        let gone = || Error::Library { call: call.to_owned(), reason: "nothing was made".to_owned() };
        let (code, made) = answer.ok_or_else(gone)?;
        check(&call, code?)?;
        Ok(made)
    }
}

fn data_type(dtype: DType) -> Option<c_int> {
    Some(match dtype {
        DType::I8 => 0,
        DType::I16 => 1,
        DType::I32 => 2,
        DType::F16 => 3,
        DType::F32 => 4,
        DType::I64 => 5,
        DType::U64 => 6,
        DType::U8 => 7,
        DType::U16 => 8,
        DType::U32 => 9,
        DType::F64 => 10,
        DType::BF16 => 11,
        _ => return None,
    })
}

fn can_reduce(dtype: DType) -> bool {
    dtype.is_signed_int() || matches!(dtype, DType::F16 | DType::BF16 | DType::F32)
}

fn reduction(reduction: Reduction) -> Option<c_int> {
    match reduction {
        Reduction::Sum => Some(0),
        Reduction::Prod => Some(1),
        Reduction::Max => Some(2),
        Reduction::Min => Some(3),
        Reduction::Mean => None,
    }
}

fn check(call: &dyn fmt::Display, code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    let (name, advice) = describe(code);
    Err(Error::Library { call: call.to_string(), reason: format!("HCCL error {code}, {name}; {advice}") })
}

/// The name of a result, and what may be done.
fn describe(code: c_int) -> (&'static str, &'static str) {
    const LOGS: &str = "ASCEND_GLOBAL_LOG_LEVEL=1 makes the logs in ~/ascend/log tell more";
    const NETWORK: &str =
        "see whether the devices reach each other (hccn_tool), and the addresses in the rank table";
    match code {
        1 => ("a wrong parameter", "see the rank table, and whether this chip knows type and reduction"),
        2 => ("a null pointer", LOGS),
        3 => ("not enough memory", "HCCL_BUFFSIZE makes HCCL's buffers smaller"),
        4 => ("an internal error", LOGS),
        5 => ("not supported", "this chip or version of CANN does not have it"),
        6 => ("not found", LOGS),
        7 => ("unavailable", "see whether another process holds the device (npu-smi info)"),
        8 => ("a system call has failed", LOGS),
        9 => ("timeout", "a rank is late or gone; HCCL_CONNECT_TIMEOUT and HCCL_EXEC_TIMEOUT give more time"),
        10 => ("a file does not open", "see the path of the rank table"),
        11 => ("no TCP connection", "see HCCL_IF_IP, HCCL_SOCKET_IFNAME and HCCL_WHITELIST_DISABLE"),
        12 => ("no RoCE connection", NETWORK),
        13 => ("a TCP transfer has failed", NETWORK),
        14 => ("a RoCE transfer has failed", NETWORK),
        15 => ("the runtime has failed", LOGS),
        16 => ("the driver has failed", "npu-smi info tells of the devices"),
        19 => ("the network has failed", NETWORK),
        20 => ("try again", LOGS),
        21 => ("another rank has failed", "see the logs of the other ranks"),
        22 => ("suspending", LOGS),
        24 => ("not enough memory", "HCCL_BUFFSIZE makes HCCL's buffers smaller"),
        _ => ("an error", LOGS),
    }
}

/// One rank's end of a group in HCCL.
struct HcclCommunicator {
    libraries: Libraries,
    /// 0 where there is none, or none any more.
    comm: usize,
}

impl HcclCommunicator {
    fn handle(&self) -> Comm {
        self.comm as Comm
    }

    /// What a rank table says is not what the control world says by itself.
    fn check_place(&self, group: &Group) -> Result<()> {
        let (mut size, mut rank) = (0, 0);
        // SAFETY: the handle lives, and the out-pointers are valid.
        unsafe {
            check(&"HcclGetRankSize", (self.libraries.hccl.rank_size)(self.handle(), &mut size))?;
            check(&"HcclGetRankId", (self.libraries.hccl.rank_id)(self.handle(), &mut rank))?;
        }
        if (rank as usize, size as usize) == (group.rank, group.size()) {
            return Ok(());
        }
        Err(Error::Library {
            call: "making a group".to_owned(),
            reason: format!(
                "HCCL counts this rank as {rank} of {size}, the control world as {} of {}; see the rank table",
                group.rank,
                group.size()
            ),
        })
    }

    fn call(&self, name: &dyn fmt::Display, work: impl FnOnce(&HcclFunctions, Comm) -> c_int) -> Result<()> {
        check(name, self.libraries.acl.within(|| work(&self.libraries.hccl, self.handle()))?)
    }

    /// Broadcasts are in place.
    fn broadcast(&self, task: &Task<'_>, root: usize) -> Result<()> {
        if task.rank == root && task.send != task.recv {
            self.libraries.acl.copy(task.send, task.recv, task.count, task.stream)?;
        }
        let (count, stream) = (task.count as u64, task.stream as *mut c_void);
        // SAFETY: addresses and stream are the caller's, valid by the contract of `Buffer`.
        self.call(task.kind, |hccl, comm| unsafe {
            (hccl.broadcast)(task.recv as _, count, 0, root as u32, comm, stream)
        })
    }

    /// HCCL has no gather: everybody has something for the root only.
    fn gather(&self, task: &Task<'_>, root: usize) -> Result<()> {
        let block = task.count as u64;
        let in_place = task.rank == root && task.send == task.recv + task.rank * task.count;
        let comes = |peer: usize| task.rank == root && !(in_place && peer == root);
        let part = |has: bool| if has { block } else { 0 };
        let sends: Vec<u64> = (0..task.size).map(|peer| part(peer == root && !in_place)).collect();
        let receives: Vec<u64> = (0..task.size).map(|peer| part(comes(peer))).collect();
        let here = vec![0u64; task.size];
        let there: Vec<u64> = (0..task.size as u64).map(|peer| peer * block).collect();
        let pointer = |values: &[u64]| values.as_ptr().cast::<c_void>();
        // A rank that gets nothing has no memory for it, but HCCL wants an address.
        let recv = if task.recv == 0 { task.scratch } else { task.recv };
        // SAFETY: as for `broadcast`; HCCL reads the counts before it returns.
        self.call(task.kind, |hccl, comm| unsafe {
            (hccl.all_to_all_v)(
                task.send as _,
                pointer(&sends),
                pointer(&here),
                0,
                recv as _,
                pointer(&receives),
                pointer(&there),
                0,
                comm,
                task.stream as _,
            )
        })
    }

    fn direct(&self, task: &Task<'_>) -> Result<()> {
        let dtype = data_type(task.units.dtype).unwrap_or_default();
        let op = task.units.reduction.and_then(reduction).unwrap_or_default();
        // HCCL wants addresses also where nothing is read or written.
        let or = |address: usize, other: usize| if address == 0 { other } else { address };
        let (send, recv) = (or(task.send, task.recv) as *mut c_void, or(task.recv, task.send) as *mut c_void);
        let (count, stream) = (task.count as u64, task.stream as *mut c_void);
        // SAFETY: as for `broadcast`.
        self.call(task.kind, |hccl, comm| unsafe {
            match *task.kind {
                CollectiveKind::AllReduce(_) => (hccl.all_reduce)(send, recv, count, dtype, op, comm, stream),
                CollectiveKind::AllGather => (hccl.all_gather)(send, recv, count, dtype, comm, stream),
                CollectiveKind::ReduceScatter(_) => {
                    (hccl.reduce_scatter)(send, recv, count, dtype, op, comm, stream)
                }
                CollectiveKind::Reduce { root, .. } => {
                    (hccl.reduce)(send, recv, count, dtype, op, root as u32, comm, stream)
                }
                CollectiveKind::Scatter { root } => {
                    (hccl.scatter)(send, recv, count, dtype, root as u32, comm, stream)
                }
                CollectiveKind::AllToAll => {
                    (hccl.all_to_all)(send, count, dtype, recv, count, dtype, comm, stream)
                }
                CollectiveKind::Send { dest, .. } => {
                    (hccl.send)(send, count, dtype, dest as u32, comm, stream)
                }
                CollectiveKind::Receive { src, .. } => {
                    (hccl.receive)(recv, count, dtype, src as u32, comm, stream)
                }
                _ => (hccl.barrier)(comm, stream),
            }
        })
    }

    /// Ends the communicator, in a thread that is left to itself if that takes long.
    fn destroy(&mut self) {
        let comm = std::mem::take(&mut self.comm);
        if comm == 0 {
            return;
        }
        let libraries = self.libraries.clone();
        let ending = thread::spawn(move || {
            // SAFETY: the handle lives, and is not used any more.
            let destroy = || unsafe { (libraries.hccl.destroy)(comm as Comm) };
            libraries.acl.within(destroy).is_ok()
        });
        let late = |waited| match waited < FAREWELL {
            true => Ok(()),
            false => Err(Error::Aborted { reason: String::new() }),
        };
        // Nothing is left to be done about a failure.
        let _ = wait_until(&mut || Ok(ending.is_finished()), &late);
    }
}

impl Communicator for HcclCommunicator {
    fn issue(&mut self, task: &Task<'_>) -> Result<()> {
        match *task.kind {
            CollectiveKind::Broadcast { root } => self.broadcast(task, root),
            CollectiveKind::Gather { root } => self.gather(task, root),
            _ => self.direct(task),
        }
    }

    fn split(&mut self, part: Option<&Part<'_>>, wait: Wait<'_>) -> Result<Option<Box<dyn Communicator>>> {
        let is_in = part.is_some();
        let (mut ranks, rank, id) = match part {
            // Parts of one division differ in their first rank, divisions in their number.
            Some(part) => {
                let ranks: Vec<u32> = part.ranks.iter().map(|&rank| rank as u32).collect();
                let id = (part.number as u64) << 20 | u64::from(ranks[0]);
                (ranks, part.rank as u32, id)
            }
            None => (Vec::new(), 0, NO_PART),
        };
        let parent = self.comm;
        let made = self.libraries.make("HcclCreateSubCommConfig", wait, move |hccl, comm| {
            let mut parent = parent as Comm;
            let mut config = Config::new(false, "");
            let list = if is_in { ranks.as_mut_ptr() } else { ptr::null_mut() };
            // SAFETY: the parent lives until this is over, or for ever; the rest outlives the call.
            unsafe { (hccl.split)(&mut parent, ranks.len() as u32, list, id, rank, &mut config, comm) }
        });
        if made.is_err() {
            // The call may go on, and use it.
            self.comm = 0;
        }
        Ok(is_in.then_some(Box::new(made?) as _))
    }

    fn check(&self) -> Result<()> {
        let mut state = 0;
        // SAFETY: the handle lives, and the out-pointer is valid.
        let code = unsafe { (self.libraries.hccl.async_error)(self.handle(), &mut state) };
        check(&"HcclGetCommAsyncError", code)?;
        check(&"an operation of HCCL", state)
    }

    fn abort(&mut self) {
        self.destroy();
    }

    fn name(&self) -> Option<String> {
        let mut name = [0; 128];
        // SAFETY: the handle lives, and names have at most 128 bytes.
        let code = unsafe { (self.libraries.hccl.name)(self.handle(), name.as_mut_ptr().cast()) };
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        (code == 0).then(|| String::from_utf8_lossy(&name[..end]).into_owned())
    }
}

impl Drop for HcclCommunicator {
    fn drop(&mut self) {
        self.destroy();
    }
}

impl fmt::Debug for HcclCommunicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HcclCommunicator").finish_non_exhaustive()
    }
}
