//! Worlds over stand-ins, for the conformance suite.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use mslite_collective::{Collective, Result, World};
use mslite_testkit::collective::{KnownFailures, Rank, Report};

/// Ranks that meet when each has a thread of its own: at the first group.
pub(crate) fn ranks(
    size: usize,
    timeout: Duration,
    library: &Path,
    make: fn(World, &Path) -> Result<World>,
) -> Result<Vec<Rank>> {
    let rank = |control: World| -> Rank {
        let (control, library) = (Mutex::new(Some(control)), library.to_owned());
        let world: OnceLock<Result<World>> = OnceLock::new();
        Box::new(move |name, ranks| -> Result<Arc<dyn Collective>> {
            let meet = || make(control.lock().unwrap().take().unwrap(), &library);
            world.get_or_init(meet).as_ref().map_err(Clone::clone)?.group(name, ranks)
        })
    };
    Ok(World::threads(size, timeout)?.into_iter().map(rank).collect())
}

/// Exactly the reductions that the library does not have are skipped.
pub(crate) fn assert_skipped(report: &Report, known: &KnownFailures, is_unsupported: fn(&str, &str) -> bool) {
    for (name, _) in &report.outcomes {
        let reduction = ["all_reduce_", "reduce_scatter_", "reduce_"]
            .iter()
            .find_map(|kind| name.strip_prefix(kind)?.split_once('/'));
        let expected = reduction.is_some_and(|(reduction, dtype)| is_unsupported(reduction, dtype))
            || known.iter().any(|(known, _)| known == name);
        let is_skipped = report.skipped().any(|(skipped, _)| skipped == name);
        assert_eq!(is_skipped, expected, "{name} is skipped");
    }
}
