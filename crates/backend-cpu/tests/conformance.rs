//! The conformance suite. What the CPU evaluates is named here, so that a claim that refuses fails.

use std::process::ExitCode;

use mslite_backend_cpu::CpuBackend;
use mslite_testkit::backend::{Options, backend_main};

/// Beginnings of names; what is missing is complex numbers, and convolutions and pooling of `f64`.
const REQUIRED: &[&str] = &[
    "arg_reduce/",
    "broadcast/",
    "broadcast_to/",
    "cast/",
    "claim/",
    "collective/",
    "concat/",
    "cumulative/",
    "executable/",
    "execution/",
    "extents",
    "gather",
    "graph/",
    "layer_norm/",
    "log_softmax/",
    "matmul/",
    "memory/",
    "one_hot/",
    "pad/",
    "reduce/",
    "refuses/",
    "reshape/",
    "rms_norm/",
    "scatter_nd/",
    "select/",
    "slice/",
    "softmax/",
    "symbolic/",
    "top_k/",
    "transpose/",
    "triangle/",
    "unary/",
];

fn main() -> ExitCode {
    backend_main(&CpuBackend::default(), &Options::default().with_required(REQUIRED))
}
