//! MPI's life in this process: it starts with the first world that needs it, and ends when the process does.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::join::joining;
use super::library::{self, Owner};
use super::member::Member;
use crate::{Error, JoinOptions, Result};

/// How long a rank that has failed gives the others to say so, too, before it ends the job.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How often a rank that starts MPI looks whether it is to end.
const TICK: Duration = Duration::from_millis(20);

static PROCESS: OnceLock<Result<Process>> = OnceLock::new();

/// The members of worlds that this process is in, or that have failed: they matter when it ends.
static MEMBERS: Mutex<Vec<Arc<Member>>> = Mutex::new(Vec::new());

/// Why a world has not come about, if so.
static FAILURE: OnceLock<Error> = OnceLock::new();

/// What is known about MPI in this process.
#[derive(Debug)]
pub(super) struct Process {
    /// Name and version of the library.
    pub(super) version: String,
    /// The thread that has initialised MPI and finalizes it, unless the program does.
    keeper: Option<Keeper>,
}

/// MPI starts and ends on a thread of its own: neither can be interrupted, and nobody is to wait for ever.
#[derive(Debug)]
struct Keeper {
    finalize: Mutex<Sender<()>>,
    finalized: Mutex<Receiver<()>>,
}

/// MPI, initialised at the first call.
///
/// # Errors
/// [`Error::Timeout`] when the other ranks do not start MPI in time, [`Error::Unsupported`] when it is over or
/// does not support threads, [`Error::Io`] when it fails.
pub(super) fn process(options: &JoinOptions) -> Result<&'static Process> {
    PROCESS.get_or_init(|| start(options)).as_ref().map_err(Clone::clone)
}

/// Takes note that a world has not come about: the others may still wait for it, or for MPI's end.
pub(super) fn note_failure(error: &Error) {
    FAILURE.get_or_init(|| error.clone());
}

/// Takes note of a member, for the end of the process.
pub(super) fn remember(member: &Arc<Member>) {
    MEMBERS.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(member));
}

/// Forgets a member that has left in peace.
pub(super) fn forget(member: &Arc<Member>) {
    let mut members = MEMBERS.lock().unwrap_or_else(PoisonError::into_inner);
    members.retain(|other| !Arc::ptr_eq(other, member));
}

fn start(options: &JoinOptions) -> Result<Process> {
    let (tell, started) = channel();
    let (finalize, asked) = channel();
    let (done, finalized) = channel();
    let keep = move || {
        let owner = library::initialize();
        let is_ours = owner == Ok(Owner::Us);
        // Nobody listens any more if it took too long; then nobody asks for the end either.
        let _ = tell.send(owner);
        if is_ours && asked.recv().is_ok() {
            library::finalize();
            let _ = done.send(());
        }
    };
    let thread = std::thread::Builder::new().name("mpi".to_owned()).spawn(keep);
    thread.map_err(|e| Error::io("cannot start a thread for MPI", e))?;
    let owner = wait_for_start(&started, options)?;
    let keeper = Keeper { finalize: Mutex::new(finalize), finalized: Mutex::new(finalized) };
    let keeper = (owner == Owner::Us).then_some(keeper);
    if keeper.is_some() {
        library::at_exit(end);
    }
    Ok(Process { version: library::version(), keeper })
}

fn wait_for_start(started: &Receiver<Result<Owner>>, options: &JoinOptions) -> Result<Owner> {
    let since = Instant::now();
    loop {
        match started.recv_timeout(TICK.min(options.timeout)) {
            Ok(owner) => return owner,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::Unsupported("MPI has panicked while it started".to_owned()));
            }
            Err(RecvTimeoutError::Timeout) => options.cancellation.check(options.rank, &joining)?,
        }
        if since.elapsed() >= options.timeout {
            return Err(late(options));
        }
    }
}

fn late(options: &JoinOptions) -> Error {
    Error::Timeout {
        missing: (0..options.size).filter(|&rank| rank != options.rank).collect(),
        waited: options.timeout,
        operation: joining(),
        detail: "MPI_Init_thread has not returned: some rank has not started MPI".to_owned(),
    }
}

/// Leaves all worlds and ends MPI. If something has failed, and the others do not come to their end too, that ends
/// the job, since finalizing would wait for them.
extern "C" fn end() {
    let Some(Ok(Process { keeper: Some(keeper), .. })) = PROCESS.get() else { return };
    let members = std::mem::take(&mut *MEMBERS.lock().unwrap_or_else(PoisonError::into_inner));
    members.iter().for_each(|member| member.leave());
    let mut failures: Vec<Error> = members.iter().filter_map(|member| member.failure()).collect();
    failures.extend(FAILURE.get().cloned());
    let has_failed = !failures.is_empty();
    let all_ended = !has_failed || members.iter().all(|member| member.wait_until_all_left(LAST_WORDS));
    if !all_ended || !keeper.finalize(has_failed.then_some(LAST_WORDS)) {
        let signal = failures.iter().find_map(Error::signal);
        library::abort(signal.map_or(1, |signal| 128 + signal));
    }
}

impl Keeper {
    /// Whether MPI has ended in time.
    fn finalize(&self, limit: Option<Duration>) -> bool {
        let asked = self.finalize.lock().unwrap_or_else(PoisonError::into_inner).send(());
        let finalized = self.finalized.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = match limit {
            Some(limit) => finalized.recv_timeout(limit).is_ok(),
            None => finalized.recv().is_ok(),
        };
        asked.is_ok() && ended
    }
}
