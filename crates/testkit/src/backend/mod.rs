//! The conformance suite of backends.
//!
//! Each case builds a graph, asks the device for its claim, compiles, runs, and compares with
//! [`reference`](crate::reference). [`Capability`] picks the cases; a case with a node that the device refuses is
//! skipped with the device's reason.
//!
//! [`Capability`]: mslite_runtime::Capability

mod attention;
mod collectives;
mod contract;
mod control;
mod elementwise;
mod graphs;
mod layout;
mod linear;
mod run;

use std::process::ExitCode;
use std::sync::Arc;

use mslite_runtime::{Backend, Device, DeviceOptions, Error, ErrorKind};

use crate::suite::{self, Case, Expectations, Stop};
pub use crate::suite::{KnownFailures, Outcome, Report};

/// How to run the suite.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// Cases that are known to fail.
    pub known_failures: &'static KnownFailures,
    /// Beginnings of the names of cases that must run: being skipped fails them.
    pub required: &'static [&'static str],
    /// Settings of the device.
    pub device: DeviceOptions,
}

impl Options {
    /// The same options with a table of known failures.
    #[must_use]
    pub fn with_known_failures(mut self, table: &'static KnownFailures) -> Self {
        self.known_failures = table;
        self
    }

    /// The same options with beginnings of names of cases that must not be skipped, such as `matmul/`.
    #[must_use]
    pub fn with_required(mut self, starts: &'static [&'static str]) -> Self {
        self.required = starts;
        self
    }

    /// The same options with other settings of the device.
    #[must_use]
    pub fn with_device(mut self, device: DeviceOptions) -> Self {
        self.device = device;
        self
    }

    fn expectations(&self) -> Expectations {
        Expectations { known_failures: self.known_failures, required: self.required }
    }
}

/// Runs the suite on an open device.
pub fn conformance(device: &Arc<dyn Device>, options: &Options) -> Report {
    suite::report(cases(device), options.expectations())
}

/// Runs the suite on a backend's first device as the `main` of a test with `harness = false`: it understands the
/// arguments of `cargo test -- ...` (filters, `--list`, `--exact`), and its exit code says whether all went well.
/// Where the backend is `Unavailable`, the whole suite is skipped.
pub fn backend_main(backend: &dyn Backend, options: &Options) -> ExitCode {
    let cases = match open(backend, &options.device) {
        Ok(device) => cases(&device),
        Err(error) => {
            let stop = match error.kind() {
                ErrorKind::Unavailable => Stop::Skip(error.to_string()),
                _ => Stop::Fail(error.to_string()),
            };
            return suite::run_main(vec![Case::new("open", move || Err(stop))], Expectations::default());
        }
    };
    suite::run_main(cases, options.expectations())
}

fn open(backend: &dyn Backend, options: &DeviceOptions) -> Result<Arc<dyn Device>, Error> {
    let devices = backend.devices()?;
    let first = devices.first().ok_or_else(|| {
        let message = format!("backend {:?} has no devices and does not say why", backend.name());
        Error::new(ErrorKind::Internal, message)
    })?;
    backend.open(first, options)
}

fn cases(device: &Arc<dyn Device>) -> Vec<Case> {
    let graphs = [
        elementwise::cases(),
        linear::cases(),
        attention::cases(),
        layout::cases(),
        graphs::cases(),
        control::cases(),
    ];
    let mut cases: Vec<Case> = graphs.into_iter().flatten().map(|case| case.on(device)).collect();
    cases.extend(contract::cases(device));
    cases.extend(collectives::cases(device));
    cases
}
