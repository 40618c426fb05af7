//! `mslite bench`: how fast this machine does what models need.

mod collective;
mod model;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use mslite::Result;

/// Measures how fast this machine does what models need.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    #[command(about = "Time and bandwidth of collectives, by size")]
    Collective(collective::CollectiveArgs),
    #[command(about = "Calls in a second, latency and share of collectives, of models on ranks and threads")]
    Model(model::ModelArgs),
}

pub(crate) fn bench(args: &BenchArgs) -> Result<ExitCode> {
    match &args.what {
        What::Collective(args) => collective::collective(args),
        What::Model(args) => model::model(args),
    }
}
