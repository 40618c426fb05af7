//! `mslite bench collective`.

mod implementation;
mod operation;
mod rank;
mod report;
mod row;
mod tune;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use mslite::{DType, Error, ErrorKind, Result, World};
use mslite_collective::{JoinOptions, Reduction};

use self::implementation::{Implementation, Peer};
use self::operation::{Case, Operation};
use self::rank::{Effort, Placement};
use self::report::Quantity;
use self::row::Row;
use crate::output::{print, print_styled, write};
use crate::run::MAX_RANKS;
use crate::signals::{cancel_on_signals, say};

/// What our own implementation is called.
const OWN_NAME: &str = "mslite";

/// Whether it is ours, with buffers wherever.
fn is_own(implementation: &str) -> bool {
    Placement::ALL.iter().any(|placement| placement.name() == implementation)
}

/// Measures collectives: time and bandwidth by operation, size and number of ranks.
///
/// Ranks are processes, which it starts; where a launcher (`mslite launch`, mpirun, srun, torchrun, msrun) has
/// started it as one rank, it measures that job, and rank 0 prints. Sizes are those of the larger buffer of a rank, as
/// nccl-tests count them: what AllGather receives, what ReduceScatter sends.
///
/// A batch repeats an operation; its time counts until the last rank is through. min, avg, median and max are over
/// the ranks, and of each the median over all batches is printed. algbw is size / max; busbw is algbw times
/// 2(n-1)/n for AllReduce, (n-1)/n for gathering, scattering and all to all, and 1 for the others.
///
/// With --peer another program stands beside: in each round its command is run by `sh`, and it prints JSON lines such as
///   {"op": "allreduce", "ranks": 2, "bytes": 8, "us": 0.5}
/// Its command may contain {ranks}, {ops}, {sizes}, {min}, {max}, {dtype}, {reduction}, {batches} and {time}.
///
/// With --tune nothing of this is printed: sizes at which collectives over shared memory go another way are measured for
/// each number of ranks, and those that save time are noted in a file, which ranks use that find it in MSLITE_TUNING.
///
/// Examples:
///   mslite bench collective --ranks 2,4 --sizes 8,4K,64K,1M,16M --check
///   mslite bench collective --ops all_reduce,all_gather --json
///   mslite bench collective --ranks 2,4 --tune tuning.json && export MSLITE_TUNING=$PWD/tuning.json
///   mslite bench collective --peer 'openmpi=mpirun -n {ranks} ./peer {ops} {sizes}' --svg times.svg
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CollectiveArgs {
    /// Operations: all_reduce, all_gather, reduce_scatter, broadcast, reduce, gather, scatter, all_to_all, ping_pong,
    /// barrier
    #[arg(long, value_name = "OP,...", value_delimiter = ',', default_value = "all_reduce")]
    ops: Vec<Operation>,
    /// Numbers of ranks [default: 2]
    #[arg(long, short = 'n', value_name = "N,...", value_delimiter = ',',
        value_parser = clap::value_parser!(u16).range(1..=MAX_RANKS))]
    ranks: Vec<u16>,
    /// Sizes in bytes, such as 8,4K,1M
    #[arg(long, value_name = "SIZE,...", value_delimiter = ',', value_parser = parse_size,
        conflicts_with_all = ["min", "max", "factor"])]
    sizes: Vec<usize>,
    /// Without --sizes: the smallest
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "4")]
    min: usize,
    /// Without --sizes: the largest
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "64M")]
    max: usize,
    /// Without --sizes: what one is multiplied by to get the next
    #[arg(long, value_name = "F", default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..))]
    factor: u32,
    /// Element type
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    dtype: DType,
    /// How contributions are combined: sum, max, min, prod, mean
    #[arg(long, value_name = "HOW", default_value = "sum")]
    reduction: Reduction,
    /// Ranks are threads of this process
    #[arg(long)]
    threads: bool,
    /// Where buffers are; both are measured beside each other
    #[arg(
        long,
        value_name = "WHERE,...",
        value_delimiter = ',',
        default_value = "private",
        conflicts_with = "threads"
    )]
    buffers: Vec<Placement>,
    /// Compare results with what they must be; wrong ones are counted, and make the exit code 1
    #[arg(long)]
    check: bool,
    /// Rounds; each runs every implementation with all operations and sizes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Batches of an operation and size in each round
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    batches: u32,
    /// Milliseconds that a batch takes, about
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    time: u32,
    /// Another program to measure in the same rounds; several times for several
    #[arg(long, value_name = "NAME=COMMAND")]
    peer: Vec<Peer>,
    /// Print a JSON object for each operation, size, number of ranks and implementation, on a line of its own
    #[arg(long)]
    json: bool,
    /// Also draw a plot with logarithmic axes
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// What the plot shows by size
    #[arg(long, value_name = "WHAT", default_value = "time", requires = "svg")]
    plot: Quantity,
    /// Measure which tuning is best here, and write it to this file; entries for other numbers of ranks stay
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ops", "sizes", "min", "max", "factor", "dtype", "reduction",
        "threads", "buffers", "check", "peer", "svg", "plot"])]
    tune: Option<PathBuf>,
}

pub(crate) fn collective(args: &CollectiveArgs) -> Result<ExitCode> {
    match JoinOptions::from_env()? {
        Some(options) => measure_job(args, &options),
        None => measure_here(args),
    }
}

/// Measures ranks that this process starts.
fn measure_here(args: &CollectiveArgs) -> Result<ExitCode> {
    let ranks = if args.ranks.is_empty() { &[2][..] } else { &args.ranks };
    match &args.tune {
        Some(path) => tune::tune(args, ranks, path),
        None => measure_all(args, ranks),
    }
}

/// Measures the job that this process is a rank of.
fn measure_job(args: &CollectiveArgs, options: &JoinOptions) -> Result<ExitCode> {
    if !args.ranks.is_empty() || args.threads || !args.peer.is_empty() || args.tune.is_some() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "a launcher has started this as one of {} ranks: --ranks, --threads, --peer and --tune have no place",
                options.size
            ),
        ));
    }
    args.check(options.size)?;
    let cancel = || cancel_on_signals(&options.cancellation, options.rank, say);
    let work = (options.size > 1).then(cancel).transpose()?;
    let world = World::join(options)?;
    let measured = rank::measure(&world, &args.cases(options.size), &args.effort(args.rounds as usize));
    let rows = measured.inspect_err(|error| world.abort(error.message()))?;
    drop(work);
    if options.rank == 0 { finish(args, &rows) } else { Ok(exit_code(&rows)) }
}

/// Measures all implementations with all numbers of ranks, in rounds.
fn measure_all(args: &CollectiveArgs, ranks: &[u16]) -> Result<ExitCode> {
    let own = if args.threads { Implementation::Threads } else { Implementation::Processes };
    let peers = args.peer.iter().cloned().map(Implementation::Peer);
    let mut implementations: Vec<Implementation> = std::iter::once(own).chain(peers).collect();
    ranks.iter().try_for_each(|&ranks| args.check(usize::from(ranks)))?;
    let mut rows = Vec::new();
    for _ in 0..args.rounds {
        for &ranks in ranks {
            for implementation in &implementations {
                match implementation.round(args, usize::from(ranks)) {
                    Ok(measured) => add(&mut rows, measured),
                    Err(error) if implementation.is_peer() => eprintln!("warning: {ranks} ranks: {error}"),
                    Err(error) => return Err(error),
                }
            }
        }
        // Nobody always runs after the same one.
        implementations.rotate_left(1);
    }
    finish(args, &in_order(args, rows))
}

fn add(rows: &mut Vec<Row>, measured: Vec<Row>) {
    for row in measured {
        let is_it = |there: &&mut Row| there.is_same_case(&row) && there.implementation == row.implementation;
        match rows.iter_mut().find(is_it) {
            Some(there) => there.merge(row),
            None => rows.push(row),
        }
    }
}

/// Rows by operation and number of ranks as they were asked for, size, and implementation with ours first; what nobody
/// asked for is left out.
fn in_order(args: &CollectiveArgs, mut rows: Vec<Row>) -> Vec<Row> {
    let place = |row: &Row| {
        let operation = args.ops.iter().position(|op| *op == row.operation);
        let own = Placement::ALL.iter().position(|placement| placement.name() == row.implementation);
        (operation, row.ranks, row.bytes, own.unwrap_or(usize::MAX))
    };
    rows.sort_by_key(place);
    for row in &mut rows {
        let cases = args.cases(row.ranks);
        row.case =
            cases.into_iter().find(|case| (case.operation, case.bytes()) == (row.operation, row.bytes));
    }
    rows.retain(|row| row.case.is_some());
    rows
}

fn finish(args: &CollectiveArgs, rows: &[Row]) -> Result<ExitCode> {
    let is_registered = |row: &Row| row.implementation == Placement::Registered.name();
    if args.buffers.contains(&Placement::Registered) && !rows.iter().any(is_registered) {
        eprintln!("warning: nothing is gained by registered buffers here, so that they are not measured");
    }
    if args.json {
        print(&rows.iter().map(|row| row.as_json().to_string() + "\n").collect::<String>())?;
    } else {
        print_styled(&report::as_text(rows, if args.threads { "threads" } else { "processes" }))?;
    }
    if let Some(path) = &args.svg {
        write(path, report::as_svg(rows, args.plot).as_bytes())?;
    }
    Ok(exit_code(rows))
}

fn exit_code(rows: &[Row]) -> ExitCode {
    let is_wrong = rows.iter().any(|row| row.wrong.is_some_and(|wrong| wrong > 0));
    if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

impl CollectiveArgs {
    fn sizes(&self) -> Vec<usize> {
        if !self.sizes.is_empty() {
            return self.sizes.clone();
        }
        let next = |size: &usize| size.checked_mul(self.factor as usize);
        std::iter::successors(Some(self.min), next).take_while(|&size| size <= self.max).collect()
    }

    /// What is measured with so many ranks.
    fn cases(&self, ranks: usize) -> Vec<Case> {
        Case::all(&self.ops, &self.sizes(), ranks, self.dtype, self.reduction)
    }

    fn check(&self, ranks: usize) -> Result<()> {
        match self.cases(ranks).is_empty() {
            true => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "nothing to measure with {ranks} ranks: a size must have an element of {} for each, and ping_pong takes 2",
                    self.dtype
                ),
            )),
            false => Ok(()),
        }
    }

    fn effort(&self, rounds: usize) -> Effort {
        let batch = Duration::from_millis(self.time.into());
        let placements = self.buffers.clone();
        Effort { rounds, batches: self.batches as usize, batch, check: self.check, placements }
    }
}

/// Reads `8`, `4K`, `1M` or `1MiB`.
fn parse_size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err("it is no size such as 8, 4K, 1M or 1G".to_owned()),
    };
    let bytes: Option<usize> = digits.parse().ok().and_then(|number: usize| number.checked_mul(1 << shift));
    bytes.filter(|&bytes| bytes > 0).ok_or_else(|| "it is no size such as 8, 4K, 1M or 1G".to_owned())
}
