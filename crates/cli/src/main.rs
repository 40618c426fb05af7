#![doc = include_str!("../README.md")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command prints")]

mod fill;
mod inspect;
mod launch;
mod report;
mod run;

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
    #[command(about = "Start any program as N ranks")]
    Launch(launch::LaunchArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Launch(args) => launch::launch(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}: {error}", error.kind());
            ExitCode::FAILURE
        }
    }
}
