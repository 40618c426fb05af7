//! Ranks that are told to end, by a person or by whoever has started them.

use std::error::Error as _;
use std::fmt;
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mslite::{Cancellation, Error, ErrorKind, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_default;
use signal_hook::iterator::Signals;
use signal_hook::low_level::{exit, signal_name};

const ENDING: [i32; 2] = [SIGINT, SIGTERM];

/// How long a rank may take to notice by itself that its job has been cancelled. Whoever has started it may kill it after a
/// second.
const GRACE: Duration = Duration::from_millis(500);

/// What a rank does. When this is dropped, the work is over: from then on nobody but the caller says how it has ended.
#[derive(Debug, Default)]
#[must_use = "signals cancel the work until this is dropped"]
pub(crate) struct Work {
    is_over: Arc<Mutex<bool>>,
}

impl Drop for Work {
    /// Waits for ever where the process is being ended already.
    fn drop(&mut self) {
        *lock(&self.is_over) = true;
    }
}

fn lock(is_over: &Mutex<bool>) -> MutexGuard<'_, bool> {
    is_over.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the job of this rank when such a signal comes. The others are told at once, whatever this rank does; if it computes,
/// instead of waiting for them, `print` gets an error for it, and the process ends. Once the work is over, signals end the
/// process at once.
pub(crate) fn cancel_on_signals(
    cancellation: &Cancellation,
    rank: usize,
    print: impl Fn(&str) + Send + 'static,
) -> Result<Work> {
    let refused = |error| Error::new(ErrorKind::Internal, "cannot receive signals").caused_by(error);
    let mut signals = Signals::new(ENDING).map_err(refused)?;
    let cancellation = cancellation.clone();
    let work = Work::default();
    let is_over = Arc::clone(&work.is_over);
    let obey = move || {
        let Some(signal) = signals.forever().next() else { return };
        if !*lock(&is_over) {
            let name = signal_name(signal).unwrap_or("a signal");
            cancellation.cancel(name);
            wait_for_end(&is_over, &mut signals);
            let is_over = lock(&is_over);
            if !*is_over {
                let kind = ErrorKind::Cancelled;
                print(&format!("error: {kind}: cancelled by {name} at rank {rank} while it computed"));
                std::process::exit(128 + signal);
            }
            drop(is_over);
            // What is left to do, as MPI's end, may take its time. Who asks twice does not want to wait for it.
            let _ = signals.forever().next();
        }
        exit(128 + signal);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(obey).map_err(refused)?;
    Ok(work)
}

/// Waits until the work is over, for a while. Who asks twice does not want to wait.
fn wait_for_end(is_over: &Mutex<bool>, signals: &mut Signals) {
    let since = Instant::now();
    while !*lock(is_over) && since.elapsed() < GRACE && signals.pending().next().is_none() {
        thread::sleep(Duration::from_millis(10));
    }
}

/// Writes a line for people, unless nobody reads it any more.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Does what catches signals that end this process. Otherwise, before and after, they end it at once.
pub(crate) fn catching<T>(run: impl FnOnce() -> T) -> T {
    static ENDS: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| {
        let ends = Arc::new(AtomicBool::new(true));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // Only of signals that nobody may catch this fails.
            let _ = register_conditional_default(signal, Arc::clone(&ends));
        }
        ends
    });
    ENDS.store(false, Ordering::Relaxed);
    let result = run();
    ENDS.store(true, Ordering::Relaxed);
    result
}

/// That ranks have failed, which have said why.
#[derive(Debug)]
pub(crate) struct RanksFailed(i32);

impl RanksFailed {
    /// The error for ranks that have ended with this code.
    pub(crate) fn error(code: i32, what: impl fmt::Display) -> Error {
        let kind = if ENDING.contains(&(code - 128)) { ErrorKind::Cancelled } else { ErrorKind::Internal };
        Error::new(kind, what.to_string()).caused_by(RanksFailed(code))
    }
}

impl fmt::Display for RanksFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its ranks have ended with code {}", self.0)
    }
}

impl std::error::Error for RanksFailed {}

/// The exit code for an error.
pub(crate) fn code_of(error: &Error) -> ExitCode {
    let code = error.source().and_then(|cause| match cause.downcast_ref() {
        Some(RanksFailed(code)) => Some(*code),
        None => cause.downcast_ref::<mslite_collective::Error>()?.signal().map(|signal| 128 + signal),
    });
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
