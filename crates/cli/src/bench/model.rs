//! `mslite bench model`.

mod measure;
mod rank;
mod report;
mod setup;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;
use mslite::{Error, ErrorKind, Result};
use mslite_collective::JoinOptions;

use self::measure::{Measure, Row};
use self::setup::{Setup, Shapes};
use crate::fill::Fill;
use crate::launch::output_of_ranks;
use crate::output::{print, print_styled};
use crate::run::{MAX_RANKS, parse_key};
use crate::signals::{cancel_on_signals, say};

/// Measures models: calls in a second, latency, share of the time in collectives.
///
/// Each MODEL may say on how many ranks, and with how many threads each, it is measured. All are measured
/// in turns, in rounds, so that what else the machine does meanwhile meets all of them; what is printed are medians
/// over the rounds. In each round the ranks are started anew, as processes, and build the model. Where a
/// launcher (`mslite launch`, mpirun, srun, torchrun, msrun) has started this as one rank, it measures that job, and
/// rank 0 prints.
///
/// ratio compares with the first model, round by round. The time of a call is that at the rank where it took longest. cores
/// are those that were kept busy. The time in collectives is that which a rank spends inside their calls, waiting for
/// other ranks included; of several ranks, the least and the most.
///
/// Examples:
///   mslite bench model net.mindir --threads 2
///   mslite bench model net.mindir,threads=1 net.mindir,threads=2
///   mslite bench model net.mindir,threads=2 slice{rank}.mindir,ranks=2,threads=1 --shapes 32,1024
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ModelArgs {
    /// Model files; `{rank}` stands for the rank
    #[arg(value_name = "MODEL[,ranks=N][,threads=T]", required = true)]
    models: Vec<Setup>,
    /// Ranks of models that do not say how many [default: 1]
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_RANKS))]
    ranks: Option<u16>,
    /// Threads for each rank of models that do not say how many; by default the cores, shared among the ranks
    #[arg(long, value_name = "T", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Extents of all inputs, such as 1,32,32,1:1,1; several times to measure with several. By default those that the
    /// model states
    #[arg(long, value_name = "D,D:D,D")]
    shapes: Vec<Shapes>,
    /// What inputs hold (ones, zeros, random:SEED)
    #[arg(long, value_name = "HOW", default_value = "random:0")]
    fill: Fill,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Calls before those that count, in each round
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    warm_up: u32,
    /// Milliseconds that a model is measured in each round with each shape, about; at least one call
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    time: u32,
    /// File with the ranks of named communication groups
    #[arg(long, value_name = "F")]
    group_file: Option<String>,
    /// Key of encrypted models: text, or hex digits after `hex:`
    #[arg(long, value_name = "K", value_parser = as_key)]
    key: Option<String>,
    /// Print a JSON object for each model and shape, on a line of its own
    #[arg(long)]
    json: bool,
}

pub(crate) fn model(args: &ModelArgs) -> Result<ExitCode> {
    match JoinOptions::from_env()? {
        Some(options) => measure_job(args, &options),
        None => measure_all(args),
    }
}

/// Measures the job that this process is a rank of.
fn measure_job(args: &ModelArgs, options: &JoinOptions) -> Result<ExitCode> {
    let [setup] = &args.models[..] else {
        let message = "a launcher has started this as one rank of a job, which measures one model";
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    };
    if let Some(ranks) = setup.ranks.or(args.ranks).filter(|&ranks| usize::from(ranks) != options.size) {
        let message = format!("a launcher has started {} ranks, not {ranks}", options.size);
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let setup = Setup { ranks: u16::try_from(options.size).ok(), ..args.complete(setup) };
    let cancel = || cancel_on_signals(&options.cancellation, options.rank, say);
    let work = (options.size > 1).then(cancel).transpose()?;
    let rows = rank::measure(args, &setup, options)?;
    drop(work);
    if options.rank == 0 { finish(args, &rows) } else { Ok(ExitCode::SUCCESS) }
}

/// Measures all models, in rounds.
fn measure_all(args: &ModelArgs) -> Result<ExitCode> {
    let setups: Vec<Setup> = args.models.iter().map(|setup| args.complete(setup)).collect();
    setups.iter().try_for_each(Setup::check)?;
    let mut order: Vec<usize> = (0..setups.len()).collect();
    let mut rows: Vec<Vec<Row>> = vec![Vec::new(); setups.len()];
    for _ in 0..args.rounds {
        for &at in &order {
            let measured = in_processes(args, &setups[at])?;
            match &mut rows[at][..] {
                [] => rows[at] = measured,
                there => {
                    there.iter_mut().zip(measured).for_each(|(row, more)| row.rounds.extend(more.rounds))
                }
            }
        }
        // Nobody always runs after the same one.
        order.rotate_left(1);
    }
    finish(args, &rows.concat())
}

/// One round on ranks that this starts.
fn in_processes(args: &ModelArgs, setup: &Setup) -> Result<Vec<Row>> {
    let name = setup.to_string();
    let arguments = ["bench", "model", "--json", "--rounds", "1"].map(OsString::from);
    let model = ["--".into(), OsString::from(&name)];
    let arguments = arguments.into_iter().chain(args.of_a_rank()).chain(model);
    let output = output_of_ranks(setup.ranks.unwrap_or(1).into(), arguments, Vec::new(), &name)?;
    let failed = |what: String| Error::new(ErrorKind::Internal, format!("{name}: {what}"));
    let rounds = Measure::read(&output)
        .map_err(|error| failed("it says what is no measure".to_owned()).caused_by(error))?;
    if rounds.len() != args.shapes().len() {
        return Err(failed(format!("it has measured {} of {} shapes", rounds.len(), args.shapes().len())));
    }
    let row = |(shapes, round)| Row { setup: setup.clone(), shapes, rounds: vec![round] };
    Ok(args.shapes().into_iter().zip(rounds).map(row).collect())
}

fn finish(args: &ModelArgs, rows: &[Row]) -> Result<ExitCode> {
    match args.json {
        true => print(&report::as_json(rows))?,
        false => print_styled(&report::as_text(rows))?,
    }
    Ok(ExitCode::SUCCESS)
}

impl ModelArgs {
    /// The setup with what it leaves to flags.
    fn complete(&self, setup: &Setup) -> Setup {
        let ranks = setup.ranks.or(self.ranks).or(Some(1));
        let threads = setup.threads.or(Some(self.threads).filter(|&threads| threads > 0));
        Setup { ranks, threads, ..setup.clone() }
    }

    /// What each model is measured with; `None` for what it states.
    fn shapes(&self) -> Vec<Option<Shapes>> {
        match &self.shapes[..] {
            [] => vec![None],
            shapes => shapes.iter().cloned().map(Some).collect(),
        }
    }

    /// The flags of a rank that measures a round.
    fn of_a_rank(&self) -> Vec<OsString> {
        let mut flags: Vec<OsString> = Vec::new();
        let mut flag = |name: &str, value: String| flags.push(format!("--{name}={value}").into());
        self.shapes.iter().for_each(|shapes| flag("shapes", shapes.to_string()));
        flag("fill", self.fill.to_string());
        flag("warm-up", self.warm_up.to_string());
        flag("time", self.time.to_string());
        self.group_file.iter().for_each(|file| flag("group-file", file.clone()));
        self.key.iter().for_each(|key| flag("key", key.clone()));
        flags
    }
}

/// The text of a key, to be given to the ranks.
fn as_key(text: &str) -> Result<String, String> {
    parse_key(text).map(|_| text.to_owned())
}
