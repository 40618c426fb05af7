//! The conformance suite of collectives: every kind, type and size against naive reductions, groups of some ranks,
//! messages, and failures. Ranks are threads; all goes through [`Collective`].

mod exchanges;
mod failures;
mod ordering;
mod ranks;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use mslite_collective::{Collective, Result};

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

fn cases(provider: impl Provider) -> Vec<Case> {
    let provider: ranks::SharedProvider = Arc::new(provider);
    [exchanges::cases(&provider), ordering::cases(&provider), failures::cases(&provider)]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests;
