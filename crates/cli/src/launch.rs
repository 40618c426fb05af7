use std::ffi::OsString;
use std::io::{Read, Seek};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use mslite::{Error, ErrorKind, Result};
use mslite_collective::launch::{LaunchOptions, run};

use crate::output::nameless;
use crate::run::own_program;
use crate::signals::{RanksFailed, catching};

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

/// Starts ranks of this program, waits for them, and gives what they print; `what` names what they do, should they fail.
pub(crate) fn output_of_ranks(
    ranks: usize,
    arguments: impl IntoIterator<Item = OsString>,
    environment: Vec<(OsString, OsString)>,
    what: &str,
) -> Result<Vec<u8>> {
    let failed =
        |error| Error::new(ErrorKind::Internal, format!("{what}: cannot keep its output")).caused_by(error);
    let printed = Arc::new(nameless(&[]).map_err(failed)?);
    let command = std::iter::once(own_program()?.into_os_string()).chain(arguments);
    let mut options = LaunchOptions::new(ranks, command);
    options.mark_lines = false;
    options.environment = environment;
    options.stdout = Some(Arc::clone(&printed));
    match catching(|| run(&options))? {
        0 => {
            let (mut printed, mut bytes) = (&*printed, Vec::new());
            printed.rewind().and_then(|()| printed.read_to_end(&mut bytes)).map_err(failed)?;
            Ok(bytes)
        }
        code => Err(RanksFailed::error(code, what)),
    }
}
