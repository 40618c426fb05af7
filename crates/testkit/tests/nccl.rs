//! NCCL over the stand-in keeps the contract of collectives.

mod standins;

use std::time::Duration;

use mslite_collective::nccl::NcclOptions;
use mslite_collective::{Result, World};
use mslite_standins::Standins;
use mslite_testkit::collective::{KnownFailures, Rank, conformance};

/// What NCCL does otherwise.
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

/// What NCCL does not have.
fn is_unsupported(reduction: &str, dtype: &str) -> bool {
    match dtype {
        "i16" | "u16" => true,
        "c64" | "c128" => reduction == "prod",
        _ => reduction == "mean" && (dtype.starts_with('i') || dtype.starts_with('u')),
    }
}

#[test]
fn the_standin_conforms() {
    let library = Standins::open().unwrap();
    let path = library.path().to_owned();
    let report = conformance(move |size, timeout| ranks(size, timeout, &path), KNOWN_FAILURES);
    assert!(report.is_success(), "{report}");
    standins::assert_skipped(&report, KNOWN_FAILURES, is_unsupported);
    assert_eq!(library.violations(), "");
    assert_eq!((0..4).map(|device| library.alive(device)).sum::<usize>(), 0);
}

fn ranks(size: usize, timeout: Duration, library: &std::path::Path) -> Result<Vec<Rank>> {
    standins::ranks(size, timeout, library, |control, library| {
        let options = NcclOptions {
            device: control.rank(),
            library: Some(library.to_owned()),
            driver: Some(library.to_owned()),
            compare: true,
        };
        World::over(options.open(control)?)
    })
}
