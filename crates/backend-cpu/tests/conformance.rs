//! The conformance suite. Every case must run, so that a claim that refuses fails.

use std::process::ExitCode;

use mslite_backend_cpu::CpuBackend;
use mslite_testkit::backend::{KnownFailures, Options, backend_main};

/// All that the CPU does not do.
const KNOWN_FAILURES: &KnownFailures =
    &[("serialize/round_trip", "executables of the CPU are not serialised")];

fn main() -> ExitCode {
    let options = Options::default().with_required(&[""]).with_known_failures(KNOWN_FAILURES);
    backend_main(&CpuBackend, &options)
}
