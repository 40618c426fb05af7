//! The conformance suite of collectives: every kind, type and size against naive reductions, groups of some ranks,
//! messages, and failures. Ranks are threads; all goes through [`Collective`].

mod exchanges;
mod failures;
mod ordering;
mod ranks;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use mslite_collective::{Collective, Error, Result};

use crate::suite::{self, Case, Expectations};
pub use crate::suite::{KnownFailures, Outcome, Report};

/// One rank of a world: gives its communicator in a group from the group's name and world ranks.
///
/// It does not wait for the other members. Dropping it and all its communicators leaves the world.
pub type Rank = Box<dyn Fn(&str, &[usize]) -> Result<Arc<dyn Collective>> + Send + Sync>;

/// Makes the ranks of a new world, from their number and how long a rank waits for another.
pub trait Provider: Fn(usize, Duration) -> Result<Vec<Rank>> + Send + Sync + 'static {}

impl<F: Fn(usize, Duration) -> Result<Vec<Rank>> + Send + Sync + 'static> Provider for F {}

/// Runs the suite.
///
/// ```
/// use mslite_collective::World;
/// use mslite_testkit::collective::{Rank, conformance};
///
/// let provider = |size, timeout| {
///     let rank = |world: World| -> Rank { Box::new(move |name, ranks| world.group(name, ranks)) };
///     Ok(World::threads(size, timeout)?.into_iter().map(rank).collect())
/// };
/// # if false {
/// let report = conformance(provider, &[]);
/// assert!(report.is_success(), "{report}");
/// # }
/// # let _: Vec<Rank> = provider(2, std::time::Duration::from_secs(1))?;
/// # Ok::<(), mslite_collective::Error>(())
/// ```
pub fn conformance(provider: impl Provider, known_failures: &'static KnownFailures) -> Report {
    suite::report(cases(provider), Expectations { known_failures, required: &[] })
}

/// Runs the suite as the `main` of a test with `harness = false`.
pub fn collective_main(provider: impl Provider, known_failures: &'static KnownFailures) -> ExitCode {
    suite::run_main(cases(provider), Expectations { known_failures, required: &[] })
}

/// Runs the suite where ranks are processes, of which this one is `rank`. All processes call this, take part in every
/// case, and judge what they see themselves.
///
/// The provider gives this process's rank of a new world of so many ranks, and is not called where there are too few
/// of them for this one. The processes come to a case at different times, which the provider has to wait for.
pub fn conformance_of_process(
    rank: usize,
    provider: impl Fn(usize, Duration) -> Result<Rank> + Send + Sync + 'static,
    known_failures: &'static KnownFailures,
) -> Report {
    let own = move |size, timeout| {
        let own = (rank < size).then(|| Ok((rank, provider(size, timeout)?)));
        own.into_iter().collect()
    };
    suite::report(shared_cases(Arc::new(own)), Expectations { known_failures, required: &[] })
}

fn cases(provider: impl Provider) -> Vec<Case> {
    shared_cases(Arc::new(move |size, timeout| {
        let ranks: Vec<(usize, Rank)> = provider(size, timeout)?.into_iter().enumerate().collect();
        match ranks.len() == size {
            true => Ok(ranks),
            false => {
                Err(Error::InvalidArgument(format!("{} ranks were made instead of {size}", ranks.len())))
            }
        }
    }))
}

fn shared_cases(provider: ranks::SharedProvider) -> Vec<Case> {
    [exchanges::cases(&provider), ordering::cases(&provider), failures::cases(&provider)]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests;
