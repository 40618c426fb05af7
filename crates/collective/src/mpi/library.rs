//! MPI's C interface, as far as it is used here, in safe terms: messages own their memory until MPI has done with
//! it, and one thread at a time is inside MPI. This is the module that opts out of `unsafe_code = "deny"`: a foreign
//! library is called.
#![allow(unsafe_code, reason = "MPI is a C library")]

use std::ffi::{c_char, c_int, c_void};
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mpi_sys as ffi;

use crate::{CollectiveOp, Error, Result};

/// Only who has the turn calls MPI, so that MPI need not be safe for threads by itself.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who has to finalize MPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// We have initialised it.
    Us,
    /// The program had done so before.
    Program,
}

/// Initialises MPI unless the program has. The thread that calls this calls [`finalize`].
pub(super) fn initialize() -> Result<Owner> {
    let _turn = turn();
    let (mut done, mut over, mut level) = (0, 0, 0);
    // SAFETY: these may be called at any time; the pointers are to live integers, and no arguments are handed on.
    let (owner, code) = unsafe {
        ffi::MPI_Initialized(&mut done);
        ffi::MPI_Finalized(&mut over);
        if over != 0 {
            return Err(Error::Unsupported(
                "MPI has been finalized already, and starts only once".to_owned(),
            ));
        }
        match done {
            0 => {
                let wanted = ffi::RSMPI_THREAD_SERIALIZED;
                let code = ffi::MPI_Init_thread(ptr::null_mut(), ptr::null_mut(), wanted, &mut level);
                (Owner::Us, code)
            }
            _ => (Owner::Program, ffi::MPI_Query_thread(&mut level)),
        }
    };
    check(code, "MPI_Init_thread")?;
    // SAFETY: a constant of the library.
    if level < unsafe { ffi::RSMPI_THREAD_SERIALIZED } {
        return Err(Error::Unsupported(
            "MPI runs without support for threads: initialise it with MPI_THREAD_SERIALIZED or more"
                .to_owned(),
        ));
    }
    Ok(owner)
}

/// Ends MPI for good; waits for all ranks to do so. Nobody else gets a turn afterwards.
pub(super) fn finalize() {
    std::mem::forget(turn());
    // SAFETY: MPI is initialised, and nobody calls it afterwards.
    unsafe { ffi::MPI_Finalize() };
}

/// Has a function called when the process ends, by return from `main` or by `exit`.
pub(super) fn at_exit(run: extern "C" fn()) {
    unsafe extern "C" {
        fn atexit(run: extern "C" fn()) -> c_int;
    }
    // SAFETY: the C library calls the function once, on the thread that ends the process. It has room for it.
    unsafe { atexit(run) };
}

/// Ends all processes of the job. Does not wait for a turn: another thread may be stuck in MPI.
pub(super) fn abort(code: i32) {
    // SAFETY: MPI is initialised.
    unsafe { ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, code) };
}

fn is_running() -> bool {
    let (mut done, mut over) = (0, 0);
    // SAFETY: as for `initialize`.
    unsafe {
        ffi::MPI_Initialized(&mut done);
        ffi::MPI_Finalized(&mut over);
    }
    done != 0 && over == 0
}

/// Name and version of the library, in a line.
pub(super) fn version() -> String {
    let mut text = vec![0u8; 16 << 10];
    let mut len = 0;
    // SAFETY: the buffer is longer than any MPI's longest version.
    unsafe { ffi::MPI_Get_library_version(text.as_mut_ptr().cast::<c_char>(), &mut len) };
    let text = String::from_utf8_lossy(&text[..len as usize]).replace('\0', "");
    let first = text.lines().next().unwrap_or_default().replace('\t', " ");
    first.split(", package").next().unwrap_or_default().to_owned()
}

/// The error for buffers in the memory of a device. Even an MPI that takes them leaves the order of additions to chance.
pub(super) fn beyond_host(op: &CollectiveOp) -> Error {
    let knows = if knows_cuda() {
        "knows CUDA, but its reductions differ from run to run"
    } else {
        "does not know CUDA"
    };
    Error::Unsupported(format!(
        "{op} on buffers that the host cannot address: this MPI {knows}. Copy them to the host, or use the library of \
         their device"
    ))
}

/// Whether the library says that it takes addresses of CUDA's memory.
fn knows_cuda() -> bool {
    unsafe extern "C" {
        fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    }
    // SAFETY: the name ends with a zero, and the null handle stands for all libraries of the process. MPIs that have the
    // function have it with this signature.
    unsafe {
        let found = dlsym(ptr::null_mut(), c"MPIX_Query_cuda_support".as_ptr());
        !found.is_null() && std::mem::transmute::<*mut c_void, extern "C" fn() -> c_int>(found)() == 1
    }
}

/// Name of this host, as MPI has it.
pub(super) fn host() -> String {
    let mut text = vec![0u8; 4 << 10];
    let mut len = 0;
    // SAFETY: the buffer is longer than any MPI's longest name.
    unsafe { ffi::MPI_Get_processor_name(text.as_mut_ptr().cast::<c_char>(), &mut len) };
    String::from_utf8_lossy(&text[..len as usize]).into_owned()
}

fn check(code: c_int, what: &str) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    let mut text = vec![0u8; 4 << 10];
    let mut len = 0;
    // SAFETY: the buffer is longer than any MPI's longest text.
    unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast::<c_char>(), &mut len) };
    let reason = String::from_utf8_lossy(&text[..len as usize]).into_owned();
    Err(Error::Io { what: what.to_owned(), reason, kind: std::io::ErrorKind::Other })
}

/// A communicator. Errors in it are returned; by default MPI would end the process. It is never freed, since messages
/// that nobody has received may come at any time.
pub(super) struct Communicator {
    handle: ffi::MPI_Comm,
    pub(super) rank: usize,
    pub(super) size: usize,
}

// SAFETY: a handle is a name, valid in all threads; it is only used by who has the turn.
unsafe impl Send for Communicator {}
// SAFETY: as above.
unsafe impl Sync for Communicator {}

impl Communicator {
    /// All processes of the job.
    pub(super) fn world() -> Result<Self> {
        let _turn = turn();
        // SAFETY: a constant of the library.
        Communicator::from_handle(unsafe { ffi::RSMPI_COMM_WORLD })
    }

    /// A new communicator of the first `size` processes of this one. They call it together, and wait for each other.
    pub(super) fn of_first(&self, size: usize, tag: i32) -> Result<Self> {
        let _turn = turn();
        let ranks: Vec<c_int> = (0..size as c_int).collect();
        let mut handles = MaybeUninit::<(ffi::MPI_Group, ffi::MPI_Group, ffi::MPI_Comm)>::uninit();
        let out = handles.as_mut_ptr();
        // SAFETY: each call gets handles that the one before has written, and stops at the first that fails.
        let handle = unsafe {
            let (all, some, new) = (&raw mut (*out).0, &raw mut (*out).1, &raw mut (*out).2);
            check(ffi::MPI_Comm_group(self.handle, all), "MPI_Comm_group")?;
            check(ffi::MPI_Group_incl(*all, ranks.len() as c_int, ranks.as_ptr(), some), "MPI_Group_incl")?;
            check(ffi::MPI_Comm_create_group(self.handle, *some, tag, new), "MPI_Comm_create_group")?;
            ffi::MPI_Group_free(some);
            ffi::MPI_Group_free(all);
            *new
        };
        Communicator::from_handle(handle)
    }

    fn from_handle(handle: ffi::MPI_Comm) -> Result<Self> {
        let (mut rank, mut size) = (0, 0);
        // SAFETY: the handle is a communicator's.
        unsafe {
            let code = ffi::MPI_Comm_set_errhandler(handle, ffi::RSMPI_ERRORS_RETURN);
            check(code, "MPI_Comm_set_errhandler")?;
            check(ffi::MPI_Comm_rank(handle, &mut rank), "MPI_Comm_rank")?;
            check(ffi::MPI_Comm_size(handle, &mut size), "MPI_Comm_size")?;
        }
        Ok(Communicator { handle, rank: rank as usize, size: size as usize })
    }

    /// The largest tag.
    pub(super) fn largest_tag(&self) -> i32 {
        /// What every MPI has at least.
        const LEAST: i32 = 32767;
        let _turn = turn();
        let (mut value, mut is_set) = (ptr::null_mut::<c_int>(), 0);
        // SAFETY: MPI writes a pointer to an integer of its own.
        unsafe {
            let out = (&raw mut value).cast::<c_void>();
            ffi::MPI_Comm_get_attr(ffi::RSMPI_COMM_WORLD, ffi::MPI_TAG_UB as c_int, out, &mut is_set);
            if is_set == 0 || value.is_null() { LEAST } else { (*value).max(LEAST) }
        }
    }

    /// Starts to send the first `len` bytes of a block.
    pub(super) fn send(&self, block: &Arc<[u8]>, len: usize, dest: usize, tag: i32) -> Result<Sending> {
        assert!(len <= block.len() && len <= c_int::MAX as usize, "a message lies in its block");
        let _turn = turn();
        let mut request = MaybeUninit::uninit();
        let bytes = block.as_ptr().cast::<c_void>();
        // SAFETY: the block is kept until the request has ended.
        let code = unsafe {
            let (kind, out) = (ffi::RSMPI_UINT8_T, request.as_mut_ptr());
            ffi::MPI_Isend(bytes, len as c_int, kind, dest as c_int, tag, self.handle, out)
        };
        check(code, "MPI_Isend")?;
        // SAFETY: the call has succeeded, and with that written the request.
        Ok(Sending { request: Request(unsafe { request.assume_init() }), block: Some(Arc::clone(block)) })
    }

    /// Starts to receive a message, of any length up to that of the block, from a rank or from anyone.
    pub(super) fn receive(&self, block: Box<[u8]>, src: Option<usize>, tag: i32) -> Result<Receiving> {
        let len = block.len().min(c_int::MAX as usize);
        let block = NonNull::from(Box::leak(block));
        let _turn = turn();
        let mut request = MaybeUninit::uninit();
        // SAFETY: the block is kept until the request has ended, and not touched meanwhile.
        let code = unsafe {
            let (kind, out) = (ffi::RSMPI_UINT8_T, request.as_mut_ptr());
            let src = src.map_or(ffi::RSMPI_ANY_SOURCE, |src| src as c_int);
            let bytes = block.cast::<c_void>().as_ptr();
            ffi::MPI_Irecv(bytes, len as c_int, kind, src, tag, self.handle, out)
        };
        check(code, "MPI_Irecv")?;
        // SAFETY: the call has succeeded, and with that written the request.
        Ok(Receiving { request: Request(unsafe { request.assume_init() }), block: Some(block) })
    }
}

impl fmt::Debug for Communicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Communicator")
            .field("rank", &self.rank)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// The handle of a message under way.
struct Request(ffi::MPI_Request);

// SAFETY: as for communicators.
unsafe impl Send for Request {}

impl Request {
    /// The status of the message, once it has ended.
    fn test(&mut self) -> Result<Option<ffi::MPI_Status>> {
        let _turn = turn();
        let (mut done, mut status) = (0, MaybeUninit::uninit());
        // SAFETY: the request is live, or null, for which the answer is yes.
        let code = unsafe { ffi::MPI_Test(&mut self.0, &mut done, status.as_mut_ptr()) };
        check(code, "MPI_Test")?;
        // SAFETY: MPI has written the status when the message has ended.
        Ok((done != 0).then(|| unsafe { status.assume_init() }))
    }

    fn cancel(&mut self) {
        let _turn = turn();
        // SAFETY: the request is live.
        unsafe { ffi::MPI_Cancel(&mut self.0) };
    }
}

/// A message on its way to another rank.
pub(super) struct Sending {
    request: Request,
    block: Option<Arc<[u8]>>,
}

impl Sending {
    /// Whether MPI needs the block no more.
    pub(super) fn is_done(&mut self) -> Result<bool> {
        if self.block.is_some() && self.request.test()?.is_some() {
            self.block = None;
        }
        Ok(self.block.is_none())
    }
}

impl Drop for Sending {
    /// What MPI may still read is never freed.
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            std::mem::forget(block);
        }
    }
}

/// A message that is waited for.
pub(super) struct Receiving {
    request: Request,
    block: Option<NonNull<[u8]>>,
}

// SAFETY: the block is owned, and MPI lets any thread ask for it.
unsafe impl Send for Receiving {}

/// A message that has come.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) block: Box<[u8]>,
    /// Bytes of the block that it has filled.
    pub(super) len: usize,
    pub(super) src: usize,
}

impl Receiving {
    /// The message, when it has come; asked for until then.
    pub(super) fn poll(&mut self) -> Result<Option<Received>> {
        let Some(status) = self.request.test()? else { return Ok(None) };
        let Some(block) = self.block.take() else { return Ok(None) };
        let mut len = 0;
        // SAFETY: MPI has written the status; the block came from a box, and MPI has done with it.
        let block = unsafe {
            ffi::MPI_Get_count(&status, ffi::RSMPI_UINT8_T, &mut len);
            Box::from_raw(block.as_ptr())
        };
        let len = usize::try_from(len).unwrap_or(0).min(block.len());
        Ok(Some(Received { block, len, src: usize::try_from(status.MPI_SOURCE).unwrap_or(0) }))
    }
}

impl Drop for Receiving {
    /// Takes the wish back; what MPI may still write is never freed.
    fn drop(&mut self) {
        const TRIES: usize = 100;
        if self.block.is_none() || !is_running() {
            return;
        }
        self.request.cancel();
        for _ in 0..TRIES {
            if !matches!(self.poll(), Ok(None)) {
                return;
            }
        }
    }
}
