//! Ranks as threads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use mslite_collective::{Collective, CollectiveExt, CollectiveKind, Error, Result, WORLD_GROUP};
use mslite_tensor::Tensor;

use super::Rank;
use crate::suite::{Case, Stop, Verdict, fail};

/// Makes those ranks of a new world that are in this process, with their numbers.
pub(super) type SharedProvider = Arc<dyn Fn(usize, Duration) -> Result<Vec<(usize, Rank)>> + Send + Sync>;

/// How long ranks wait for each other where nobody is meant to be late.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// When a case that has not ended counts as hanging.
const HANG: Duration = Duration::from_secs(60);

/// One rank of a case.
pub(super) struct Seat {
    pub(super) rank: usize,
    pub(super) size: usize,
    make: Rank,
}

impl Seat {
    /// The group of all ranks.
    pub(super) fn world(&self) -> Result<Arc<dyn Collective>> {
        self.group(WORLD_GROUP, &(0..self.size).collect::<Vec<_>>())
    }

    pub(super) fn group(&self, name: &str, ranks: &[usize]) -> Result<Arc<dyn Collective>> {
        (self.make)(name, ranks)
    }
}

/// A case in which every rank does the same.
pub(super) fn case(
    provider: &SharedProvider,
    name: impl Into<String>,
    sizes: &'static [usize],
    body: impl Fn(&Seat) -> Verdict + Clone + Send + Sync + 'static,
) -> Case {
    let provider = provider.clone();
    Case::new(name, move || {
        for &size in sizes {
            for (rank, verdict) in together(&provider, size, PATIENCE, body.clone())? {
                verdict.map_err(|stop| match stop {
                    Stop::Fail(reason) => Stop::Fail(format!("rank {rank} of {size}: {reason}")),
                    skip => skip,
                })?;
            }
        }
        Ok(())
    })
}

/// What each rank of this process answers. Each rank leaves its world when its body has ended.
pub(super) fn together<T: Send + 'static>(
    provider: &SharedProvider,
    size: usize,
    timeout: Duration,
    body: impl Fn(&Seat) -> T + Clone + Send + 'static,
) -> Result<Vec<(usize, T)>, Stop> {
    let ranks = provider(size, timeout).map_err(fail("making ranks"))?;
    let mut missing: BTreeSet<usize> = ranks.iter().map(|(rank, _)| *rank).collect();
    let (sender, receiver) = mpsc::channel();
    for (rank, make) in ranks {
        let (sender, body) = (sender.clone(), body.clone());
        std::thread::spawn(move || {
            let seat = Seat { rank, size, make };
            let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&seat)));
            drop(seat);
            // Nobody listens any more when another rank hangs.
            let _ = sender.send((rank, answer));
        });
    }
    let mut answers = Vec::new();
    while !missing.is_empty() {
        match receiver.recv_timeout(HANG) {
            Ok((rank, Ok(answer))) => answers.push((rank, answer)),
            Ok((rank, Err(_))) => return Err(Stop::Fail(format!("rank {rank} panicked"))),
            Err(_) => return Err(Stop::Fail(format!("ranks {missing:?} hang"))),
        }
        missing.retain(|rank| answers.iter().all(|(answered, _)| answered != rank));
    }
    answers.sort_by_key(|(rank, _)| *rank);
    Ok(answers)
}

/// Runs an operation on a tensor of its own for what comes back.
pub(super) fn exchange(
    group: &dyn Collective,
    kind: &CollectiveKind,
    send: &Tensor,
    received: &Tensor,
) -> Result<Tensor, Error> {
    let mut recv = received.clone();
    group.run(kind.clone(), send, &mut recv)?;
    Ok(recv)
}
