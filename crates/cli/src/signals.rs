//! Ranks that are told to end, by a person or by whoever has started them.

use std::error::Error as _;
use std::io::Write;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use mslite::{Cancellation, Error, ErrorKind, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

const ENDING: [i32; 2] = [SIGINT, SIGTERM];

/// How long a rank may take to notice by itself that its job has been cancelled. Whoever has started it may kill it after a
/// second.
const GRACE: Duration = Duration::from_millis(500);

/// Ends the job of this rank when such a signal comes. The others are told at once, whatever this rank does; if it computes,
/// instead of waiting for them, `print` gets an error for it, and the process ends.
pub(crate) fn cancel_on_signals(
    cancellation: &Cancellation,
    rank: usize,
    print: impl Fn(&str) + Send + 'static,
) -> Result<()> {
    let refused = |error| Error::new(ErrorKind::Internal, "cannot receive signals").caused_by(error);
    let mut signals = Signals::new(ENDING).map_err(refused)?;
    let cancellation = cancellation.clone();
    let work = move || {
        let Some(signal) = signals.forever().next() else { return };
        let name = signal_name(signal).unwrap_or("a signal");
        cancellation.cancel(name);
        let since = Instant::now();
        // Who asks twice does not want to wait.
        while since.elapsed() < GRACE && signals.pending().next().is_none() {
            thread::sleep(Duration::from_millis(10));
        }
        let kind = ErrorKind::Cancelled;
        print(&format!("error: {kind}: cancelled by {name} at rank {rank} while it computed"));
        std::process::exit(128 + signal);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(work).map_err(refused)?;
    Ok(())
}

/// Writes a line for people, unless nobody reads it any more.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The exit code for an error.
pub(crate) fn code_of(error: &Error) -> ExitCode {
    let signal = signal_of(error).and_then(|signal| u8::try_from(128 + signal).ok());
    signal.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The signal that has ended the job, if that is the error.
fn signal_of(error: &Error) -> Option<i32> {
    let cause = error.source()?.downcast_ref()?;
    let mslite_collective::Error::Cancelled { by, .. } = cause else { return None };
    ENDING.into_iter().find(|&signal| signal_name(signal) == Some(by))
}
