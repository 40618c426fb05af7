use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;
use mslite::Result;
use mslite_collective::launch::{LaunchOptions, run};

/// Tells a rank that whoever started it marks its lines already.
pub(crate) const MARKED_VARIABLE: &str = "MSLITE_LINES_MARKED";

/// Starts COMMAND N times, as ranks 0 to N-1 of one job.
///
/// Each rank finds its place in the environment: RANK_ID, RANK_SIZE, LOCAL_RANK, and in MSLITE_RENDEZVOUS where
/// the ranks meet. When one fails, the others are ended, and its exit code is returned. Ctrl-C ends all.
///
/// Example:
///   mslite launch --ranks 2 -- ./my-program its-argument
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct LaunchArgs {
    /// Number of ranks
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    ranks: u16,
    /// Do not mark output lines with the rank
    #[arg(long)]
    unmarked: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn launch(args: &LaunchArgs) -> Result<ExitCode> {
    start(args.ranks, args.command.clone(), !args.unmarked, None)
}

/// Starts ranks and waits for them; the code is that of the first that failed.
pub(crate) fn start(
    ranks: u16,
    command: Vec<OsString>,
    mark: bool,
    timeout: Option<f64>,
) -> Result<ExitCode> {
    let mut options = LaunchOptions::new(usize::from(ranks), command);
    options.mark_lines = mark;
    if mark {
        options.environment.push((MARKED_VARIABLE.into(), "1".into()));
    }
    if let Some(seconds) = timeout {
        options.environment.push((mslite_collective::TIMEOUT_VARIABLE.into(), seconds.to_string().into()));
    }
    let code = run(&options)?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
