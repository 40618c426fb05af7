//! Worlds over stand-ins, for the conformance suite.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use mslite_collective::{Collective, DeviceTransport, Result, World};
use mslite_standins::Standins;
use mslite_testkit::collective::{KnownFailures, Rank, Report, conformance};

/// What NCCL and HCCL do otherwise.
const KNOWN_FAILURES: &KnownFailures = &[
    ("all_reduce_sum/f16", "each step is rounded"),
    ("all_reduce_sum/bf16", "each step is rounded"),
    ("reduce_scatter_sum/f16", "each step is rounded"),
    ("reduce_scatter_sum/bf16", "each step is rounded"),
    ("reduce_sum/f16", "each step is rounded"),
    ("reduce_sum/bf16", "each step is rounded"),
    ("sum/accumulates_in_f32", "each step is rounded"),
    ("max/nan", "a number wins over NaN"),
];

/// Opens a library for the rank of a control world.
type Open = fn(World, &Path) -> Result<DeviceTransport>;

/// Runs the suite over the stand-in of a library, which has no more reductions than it says.
pub(crate) fn conform(open: Open, is_unsupported: fn(&str, &str) -> bool) {
    let library = Standins::open().unwrap();
    let path = library.path().to_owned();
    let report = conformance(move |size, timeout| ranks(size, timeout, &path, open), KNOWN_FAILURES);
    assert!(report.is_success(), "{report}");
    assert_skipped(&report, is_unsupported);
    assert_eq!(library.violations(), "");
    assert_eq!((0..4).map(|device| library.alive(device)).sum::<usize>(), 0);
}

/// Ranks that meet when each has a thread of its own: at the first group.
fn ranks(size: usize, timeout: Duration, library: &Path, open: Open) -> Result<Vec<Rank>> {
    let rank = |control: World| -> Rank {
        let (control, library) = (Mutex::new(Some(control)), library.to_owned());
        let world: OnceLock<Result<World>> = OnceLock::new();
        Box::new(move |name, ranks| -> Result<Arc<dyn Collective>> {
            let meet = || World::over(open(control.lock().unwrap().take().unwrap(), &library)?);
            world.get_or_init(meet).as_ref().map_err(Clone::clone)?.group(name, ranks)
        })
    };
    Ok(World::threads(size, timeout)?.into_iter().map(rank).collect())
}

/// Exactly the reductions that the library does not have are skipped.
fn assert_skipped(report: &Report, is_unsupported: fn(&str, &str) -> bool) {
    for (name, _) in &report.outcomes {
        let reduction = ["all_reduce_", "reduce_scatter_", "reduce_"]
            .iter()
            .find_map(|kind| name.strip_prefix(kind)?.split_once('/'));
        let expected = reduction.is_some_and(|(reduction, dtype)| is_unsupported(reduction, dtype))
            || KNOWN_FAILURES.iter().any(|(known, _)| known == name);
        let is_skipped = report.skipped().any(|(skipped, _)| skipped == name);
        assert_eq!(is_skipped, expected, "{name} is skipped");
    }
}
