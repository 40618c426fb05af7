use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use super::failure::FailureRecord;
use super::handle::Handle;
use super::layout::{header, rank as slot, rank_slot};
use super::memory::Region;
use super::process::Process;
use super::segments::Placed;
use super::wait::Patience;
use crate::cancellation::cancelled;
use crate::{Cancellation, Error, Result, Tuning};

/// States of the slot of a rank.
pub(super) const ABSENT: u32 = 0;
pub(super) const JOINED: u32 = 1;
pub(super) const LEFT: u32 = 2;
pub(super) const PANICKED: u32 = 3;

/// One rank's place in a world. Dropping it leaves the world: whoever needs this rank later is told.
#[derive(Debug)]
pub(crate) struct Member {
    pub(super) region: Arc<Region>,
    pub(crate) rank: usize,
    pub(crate) size: usize,
    pub(crate) timeout: Duration,
    pub(super) patience: Patience,
    pub(crate) cancellation: Cancellation,
    /// The other ranks' processes; `None` for ranks in this one.
    pub(super) peers: Vec<Option<Process>>,
    /// The same at all ranks.
    pub(super) tuning: Tuning,
    /// Whether all ranks are in this process.
    pub(super) is_one_process: bool,
    /// This rank's registered memory.
    pub(super) placed: RwLock<Vec<Placed>>,
}

impl Member {
    /// The failure that concerns the whole world.
    pub(super) fn failure(&self) -> FailureRecord<'_> {
        FailureRecord::at(&self.region, header::FAILURE)
    }

    /// Ends the world: pending and later operations of every rank fail with [`Error::PeerLost`] naming this one.
    pub(crate) fn abort(&self, reason: &str) {
        self.failure().set(&lost(self.rank, reason, String::new()), self.rank);
    }

    /// Ends the world as [`Cancellation::cancel`] does.
    pub(crate) fn cancel(&self, by: &str) {
        self.failure().set(&cancelled(self.rank, by, String::new()), self.rank);
    }

    /// Fails if the world has failed, or this rank is to end it.
    pub(super) fn check_world(&self, operation: &dyn Fn() -> String) -> Result<()> {
        if let Some(by) = self.cancellation.by() {
            self.cancel(by);
        }
        self.failure().check(self.rank, operation)
    }

    /// Makes an error that this rank found everybody's.
    pub(super) fn report(&self, error: &Error) {
        match error {
            // The others wait for this rank.
            Error::Io { .. } => self.abort(&error.to_string()),
            _ => self.failure().set(error, self.rank),
        }
    }

    /// Opens memory that a rank keeps for the others.
    pub(super) fn open_handle(
        &self,
        handle: Handle<'_>,
        len: usize,
        owner: usize,
        operation: &dyn Fn() -> String,
    ) -> Result<Arc<Region>> {
        let since = Instant::now();
        loop {
            let error = match handle.open(len) {
                Ok(region) => return Ok(region),
                Err(error) => error,
            };
            // A process that ends closes its files some time before it is seen to have ended.
            self.check_world(operation)?;
            self.check_alive(owner, operation)?;
            if since.elapsed() >= self.timeout {
                return Err(Error::io(format!("{}: cannot open memory of rank {owner}", operation()), error));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Fails if a rank will never answer.
    pub(super) fn check_alive(&self, rank: usize, operation: &dyn Fn() -> String) -> Result<()> {
        self.loss(rank).map_or(Ok(()), |reason| Err(lost(rank, &reason, operation())))
    }

    fn loss(&self, rank: usize) -> Option<String> {
        loss(&self.region, rank, |_| self.peers[rank].as_ref().is_none_or(Process::is_alive))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let state = if std::thread::panicking() { PANICKED } else { LEFT };
        self.region.word(rank_slot(self.rank) + slot::STATE).store(state, Ordering::Release);
    }
}

/// Why a rank that has joined will never answer, if so.
pub(super) fn loss(region: &Region, rank: usize, is_alive: impl FnOnce(u32) -> bool) -> Option<String> {
    let at = rank_slot(rank);
    match region.word(at + slot::STATE).load(Ordering::Acquire) {
        LEFT => Some("it has left the world".to_owned()),
        PANICKED => Some("it panicked".to_owned()),
        _ => {
            let pid = region.word(at + slot::PID).load(Ordering::Relaxed);
            (!is_alive(pid)).then(|| format!("its process {pid} has died"))
        }
    }
}

pub(super) fn lost(rank: usize, reason: &str, operation: String) -> Error {
    Error::PeerLost { rank, reason: reason.to_owned(), operation }
}
