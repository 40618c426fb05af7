#![doc = include_str!("../README.md")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool prints")]

mod bench_collective;
mod npz;
mod programs;
mod run_distributed;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use workspace::Workspace;

/// House-keeping of the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build `mslite` in release and run a sliced model; without --model, a shipped example and its checks.
    RunDistributed(run_distributed::Args),
    /// Build `mslite` in release and measure its collectives, with the MPIs and gloo of this machine beside them.
    BenchCollective(bench_collective::Args),
    /// Format, lints, tidy, tests, documentation and the shipped examples: all that must hold.
    Test,
    /// Check what compiler and clippy cannot: floors, sizes, documents, paths.
    Tidy(tidy::Args),
}

/// Result of a command; the text is for the user.
type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    match &cli.command {
        Command::RunDistributed(args) => run_distributed::run(&workspace, args),
        Command::BenchCollective(args) => bench_collective::run(&workspace, args),
        Command::Test => test::run(&workspace),
        Command::Tidy(args) => tidy::run(&workspace, args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn further_flags_may_follow_with_or_without_dashes() {
        for line in [&["--threads", "1"][..], &["--", "--threads", "1"]] {
            let head = ["cargo xtask", "run-distributed", "--ranks", "2", "--model", "m{rank}.mindir"];
            let cli = Cli::try_parse_from(head.iter().chain(line)).unwrap();
            let Command::RunDistributed(args) = cli.command else { panic!("{cli:?}") };
            assert_eq!((args.ranks, args.model.as_deref()), (2, Some("m{rank}.mindir")));
            assert_eq!(args.flags, ["--threads", "1"]);
        }
    }
}
