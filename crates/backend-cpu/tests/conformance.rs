//! The conformance suite. Every case must run, so that a claim that refuses fails.

use std::process::ExitCode;

use mslite_backend_cpu::CpuBackend;
use mslite_testkit::backend::{KnownFailures, Options, backend_main};

const COMPLEX: &str = "the CPU does not compute with complex numbers";

/// All that the CPU does not do.
const KNOWN_FAILURES: &KnownFailures = &[
    ("binary/add/c64", COMPLEX),
    ("binary/sub/c64", COMPLEX),
    ("binary/mul/c64", COMPLEX),
    ("binary/div/c64", COMPLEX),
    ("reshape/c64", COMPLEX),
    ("transpose/c64", COMPLEX),
    ("broadcast_to/c64", COMPLEX),
    ("concat/c64", COMPLEX),
    ("slice/c64", COMPLEX),
    ("gather/c64", COMPLEX),
    ("serialize/round_trip", "executables of the CPU are not serialised"),
];

fn main() -> ExitCode {
    let options = Options::default().with_required(&[""]).with_known_failures(KNOWN_FAILURES);
    backend_main(&CpuBackend, &options)
}
