#![doc = include_str!("../README.md")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command prints")]

mod bench;
mod check;
mod convert;
mod diff;
mod fill;
mod inspect;
mod launch;
mod opt;
mod output;
mod plot;
mod rank_table;
mod report;
mod run;
mod signals;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Distributed inference of MindIR models.
#[derive(Debug, Parser)]
#[command(name = "mslite", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(about = "Run a model, or one slice of it for each rank, and print its outputs")]
    Run(run::RunArgs),
    #[command(about = "Show what is in a model file")]
    Inspect(inspect::InspectArgs),
    #[command(about = "Compare two model files")]
    Diff(diff::DiffArgs),
    #[command(about = "Write a model in another layout: split or not, encrypted or not")]
    Convert(convert::ConvertArgs),
    #[command(about = "Optimise a model, write it, and say what each pass has changed")]
    Opt(opt::OptArgs),
    #[command(about = "Prove from files alone that the slices of N ranks fit each other")]
    Check(check::CheckArgs),
    #[command(about = "Make, merge, print and check rank tables")]
    RankTable(rank_table::RankTableArgs),
    #[command(about = "Start any program as N ranks")]
    Launch(launch::LaunchArgs),
    #[command(about = "Measure how fast this machine does what models need")]
    Bench(bench::BenchArgs),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let result = match &command {
        Command::Run(args) => run::run(args),
        Command::Inspect(args) => inspect::inspect(args),
        Command::Diff(args) => diff::diff(args),
        Command::Convert(args) => convert::convert(args),
        Command::Opt(args) => opt::opt(args),
        Command::Check(args) => check::check(args),
        Command::RankTable(args) => rank_table::rank_table(args),
        Command::Launch(args) => launch::launch(args),
        Command::Bench(args) => bench::bench(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {}: {error}", error.kind());
        match command {
            Command::Diff(_) | Command::Check(_) => ExitCode::from(2),
            _ => signals::code_of(&error),
        }
    })
}
