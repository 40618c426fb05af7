//! Who is measured: ranks of this program, and other programs.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::str::FromStr;

use clap::ValueEnum;
use mslite::{Error, ErrorKind, Result, World};
use mslite_collective::JoinOptions;
use serde_json::Value;

use super::operation::Case;
use super::rank::{Effort, Placement, measure};
use super::row::Row;
use super::{CollectiveArgs, OWN_NAME, is_own};
use crate::launch::output_of_ranks;

/// What runs the operations.
#[derive(Debug, Clone)]
pub(super) enum Implementation {
    Processes,
    Threads,
    Peer(Peer),
}

/// A program that prints lines such as ours.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    name: String,
    command: String,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, command)) if !name.is_empty() && !is_own(name) && !command.is_empty() => {
                Ok(Peer { name: name.to_owned(), command: command.to_owned() })
            }
            _ => Err(format!("it is no NAME=COMMAND with a name other than {OWN_NAME}")),
        }
    }
}

impl Implementation {
    /// Measures one round of all cases with so many ranks.
    pub(super) fn round(&self, args: &CollectiveArgs, ranks: usize) -> Result<Vec<Row>> {
        match self {
            Implementation::Processes => on_processes(args, ranks, Vec::new()),
            Implementation::Threads => on_threads(&args.cases(ranks), &args.effort(1), ranks),
            Implementation::Peer(peer) => {
                let mut command = Command::new("sh");
                command.arg("-c").arg(args.fill_in(&peer.command, ranks));
                of_peer(&mut command, &peer.name)
            }
        }
    }

    /// Whether a failure is no reason to stop.
    pub(super) fn is_peer(&self) -> bool {
        matches!(self, Implementation::Peer(_))
    }
}

/// Measures one round with so many ranks of ours, which find these variables in their environment.
pub(super) fn on_processes(
    args: &CollectiveArgs,
    ranks: usize,
    variables: Vec<(OsString, OsString)>,
) -> Result<Vec<Row>> {
    let arguments = ["bench", "collective", "--json", "--rounds", "1"].map(OsString::from);
    let arguments = arguments.into_iter().chain(args.of_a_rank());
    read_rows(&output_of_ranks(ranks, arguments, variables, OWN_NAME)?, None)
}

fn on_threads(cases: &[Case], effort: &Effort, ranks: usize) -> Result<Vec<Row>> {
    let worlds = World::threads(ranks, JoinOptions::DEFAULT_TIMEOUT)?;
    std::thread::scope(|scope| {
        let start = |world: World| {
            scope.spawn(move || {
                measure(&world, cases, effort).inspect_err(|error| world.abort(error.message()))
            })
        };
        let threads: Vec<_> = worlds.into_iter().map(start).collect();
        let panicked = |_| Err(Error::new(ErrorKind::Internal, "a rank panicked"));
        let mut results = threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked));
        let first = results.next().unwrap_or_else(|| Ok(Vec::new()));
        results.fold(first, |first, other| other.and(first))
    })
}

/// Runs the command of a peer.
fn of_peer(command: &mut Command, name: &str) -> Result<Vec<Row>> {
    let failed = |what: String| Error::new(ErrorKind::Internal, format!("{name}: {what}"));
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed("its command does not start".to_owned()).caused_by(error))?;
    if !output.status.success() {
        return Err(failed(format!("its command has ended with {}", output.status)));
    }
    read_rows(&output.stdout, Some(name))
}

/// Reads those lines of an output that are JSON; a name where a peer has printed it.
fn read_rows(output: &[u8], name: Option<&str>) -> Result<Vec<Row>> {
    let text = String::from_utf8_lossy(output);
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| {
            let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            Row::from_json(&value, name)
        })
        .collect::<Result<_, String>>()
        .map_err(|error| {
            let name = name.unwrap_or(OWN_NAME);
            Error::new(ErrorKind::Internal, format!("{name}: cannot read what it prints: {error}"))
        })
}

impl CollectiveArgs {
    /// What a rank of ours is told, besides the number of rounds.
    fn of_a_rank(&self) -> Vec<OsString> {
        let mut flags: Vec<OsString> = Vec::new();
        for (flag, value) in [
            ("--ops", self.list_of_operations()),
            ("--sizes", self.list_of_sizes()),
            ("--dtype", self.dtype.name().to_owned()),
            ("--reduction", self.reduction.name().to_owned()),
            ("--batches", self.batches.to_string()),
            ("--time", self.time.to_string()),
            ("--buffers", self.list_of_buffers()),
        ] {
            flags.extend([flag.into(), value.into()]);
        }
        flags.extend(self.check.then(|| "--check".into()));
        flags
    }

    /// A peer's command with what it is to measure.
    fn fill_in(&self, command: &str, ranks: usize) -> String {
        let sizes = self.sizes();
        let end = |size: Option<&usize>| size.copied().unwrap_or_default().to_string();
        [
            ("{ranks}", ranks.to_string()),
            ("{ops}", self.list_of_operations()),
            ("{sizes}", self.list_of_sizes()),
            ("{min}", end(sizes.iter().min())),
            ("{max}", end(sizes.iter().max())),
            ("{dtype}", self.dtype.name().to_owned()),
            ("{reduction}", self.reduction.name().to_owned()),
            ("{batches}", self.batches.to_string()),
            ("{time}", self.time.to_string()),
        ]
        .iter()
        .fold(command.to_owned(), |command, (mark, value)| command.replace(mark, value))
    }

    fn list_of_operations(&self) -> String {
        self.ops.iter().map(|op| op.name()).collect::<Vec<_>>().join(",")
    }

    fn list_of_buffers(&self) -> String {
        let names = self.buffers.iter().filter_map(Placement::to_possible_value);
        names.map(|value| value.get_name().to_owned()).collect::<Vec<_>>().join(",")
    }

    fn list_of_sizes(&self) -> String {
        self.sizes().iter().map(usize::to_string).collect::<Vec<_>>().join(",")
    }
}
