use std::fmt;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::{Error, Result, Transport};

/// Ends a job from outside of what its ranks do: from another thread, or a signal's handler. Clones are the same.
///
/// It is given to [`World::join`](crate::World::join) in the options, so that it ends waiting for the others, too, or
/// comes from [`World::cancellation`](crate::World::cancellation). Whatever this rank or another one waits for then
/// fails with [`Error::Cancelled`], as do later operations. This crate installs no handlers of signals.
///
/// ```
/// use mslite_collective::{CollectiveExt, Error, JoinOptions, World};
///
/// let worlds = World::threads(2, JoinOptions::DEFAULT_TIMEOUT)?;
/// worlds[1].cancellation().cancel("the user");
/// let error = worlds[0].everybody().barrier().unwrap_err();
/// assert!(error.to_string().starts_with("cancelled by the user at rank 1 during barrier"));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Cancellation(Arc<State>);

#[derive(Default)]
struct State {
    /// The signal that has come, or 0.
    signal: AtomicI32,
    by: OnceLock<String>,
    worlds: Mutex<Vec<Weak<dyn Transport>>>,
}

impl Cancellation {
    /// One that has not been cancelled.
    pub fn new() -> Self {
        Cancellation::default()
    }

    /// Ends the job now, whatever this rank does; `by` says who or what wants it, as `the user`. From any thread; only
    /// the first time counts.
    pub fn cancel(&self, by: &str) {
        // A signal that has come before comes first.
        let by = self.by().unwrap_or_else(|| self.0.by.get_or_init(|| by.to_owned()));
        let worlds: Vec<_> = self.worlds().iter().filter_map(Weak::upgrade).collect();
        worlds.iter().for_each(|world| world.cancel(by));
    }

    /// Ends the job because of a signal, from its handler: it only takes a note. A rank that waits for others finds it
    /// within a fraction of a second, and tells them; one that computes, at its next operation. Transports that others have
    /// written may not look for it: there, let a thread [`cancel`](Cancellation::cancel) when a signal comes.
    pub fn signal(&self, signal: i32) {
        // Without what may allocate or wait.
        let _ = self.0.signal.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Who or what has cancelled the job here, if so: a signal by its name, as `SIGTERM`.
    pub fn by(&self) -> Option<&str> {
        let signal = self.0.signal.load(Ordering::Relaxed);
        if signal != 0 {
            self.0.by.get_or_init(|| name_of(signal));
        }
        self.0.by.get().map(String::as_str)
    }

    /// Fails if it has been cancelled, at this rank.
    pub(crate) fn check(&self, rank: usize, operation: &dyn Fn() -> String) -> Result<()> {
        self.by().map_or(Ok(()), |by| Err(cancelled(rank, by, operation())))
    }

    /// Makes it end this world, too.
    pub(crate) fn attach(&self, world: &Arc<dyn Transport>) {
        let mut worlds = self.worlds();
        worlds.retain(|world| world.strong_count() > 0);
        worlds.push(Arc::downgrade(world));
        drop(worlds);
        if let Some(by) = self.by() {
            world.cancel(by);
        }
    }

    fn worlds(&self) -> MutexGuard<'_, Vec<Weak<dyn Transport>>> {
        self.0.worlds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn cancelled(rank: usize, by: &str, operation: String) -> Error {
    Error::Cancelled { rank, by: by.to_owned(), operation }
}

/// A signal as those name it who are told of it.
pub(crate) fn name_of(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
}

/// The same one, not one in the same state.
impl PartialEq for Cancellation {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Cancellation {}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancellation").field("by", &self.by()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let [first, second] = [Cancellation::new(), Cancellation::new()];
        assert!(first.by().is_none() && first == first.clone() && first != second);
        first.cancel("the user");
        first.signal(15);
        assert_eq!(first.by(), Some("the user"));
        second.signal(15);
        second.signal(2);
        second.cancel("the user");
        assert_eq!(second.clone().by(), Some("SIGTERM"));
    }

    #[test]
    fn errors_know_the_signal() {
        for (by, signal) in
            [("SIGTERM", Some(15)), ("SIGINT", Some(2)), ("signal 40", Some(40)), ("the user", None)]
        {
            assert_eq!(cancelled(1, by, String::new()).signal(), signal);
        }
        assert_eq!(Error::Aborted { reason: "SIGTERM".to_owned() }.signal(), None);
    }
}
