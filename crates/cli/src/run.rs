use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::error::ErrorKind as UsageError;
use clap::{Args, CommandFactory};
use mslite::{
    BuildOptions, Context, DType, Error, ErrorKind, Key, MemoryUsage, Mode, Model, ModelType, Ranks, Result,
    Tensor, TransportKind, World, bf16,
};
use mslite_tensor::{Tensor as Data, npz};
use serde_json::json;

use crate::fill::Fill;
use crate::launch::{MARKED_VARIABLE, start};
use crate::report::{Timing, outputs_as_json, outputs_as_text};
use crate::signals::{cancel_on_signals, code_of, say};

/// Most ranks of a world.
pub(crate) const MAX_RANKS: i64 = mslite_collective::MAX_RANKS as i64;

/// Bounds of --timeout, in seconds: a millisecond, and a year.
const MIN_TIMEOUT: f64 = 1e-3;
const MAX_TIMEOUT: f64 = 365.0 * 24.0 * 3600.0;

/// Runs a model and prints its outputs.
///
/// With --ranks N it starts N processes, each with its own slice: MODEL and other paths contain `{rank}`. Without
/// --ranks the process is one rank if a launcher (`mslite launch`, mpirun, srun, torchrun, msrun, an indexed job
/// of Kubernetes) or the environment (RANK_ID, RANK_SIZE) says so, else it is alone.
///
/// Examples:
///   mslite run net.mindir
///   mslite run slice{rank}.mindir --ranks 2 --inputs in.npz --outputs out{rank}.npz
///   mpirun -n 2 mslite run slice{rank}.mindir
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RunArgs {
    /// Model file; `{rank}` stands for the rank
    #[arg(value_name = "MODEL")]
    model: String,
    /// Start so many ranks
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_RANKS))]
    ranks: Option<u16>,
    /// Run the ranks as threads of this process
    #[arg(long, requires = "ranks")]
    in_process: bool,
    /// Archive with the inputs in_0, in_1, ... in flattened order; given several times: successive calls, between
    /// which the model keeps its state
    #[arg(long, value_name = "F.npz")]
    inputs: Vec<String>,
    /// Where to write the outputs out_0, out_1, ...; as often as --inputs. Without `{rank}` rank 0 writes
    #[arg(long, value_name = "F.npz")]
    outputs: Vec<String>,
    /// Without --inputs: what inputs hold (ones, zeros, random:SEED)
    #[arg(long, value_name = "HOW", default_value = "ones", conflicts_with = "inputs")]
    fill: Fill,
    /// Threads that compute, for each rank; by default the cores, shared among the ranks
    #[arg(long, value_name = "T", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Configuration file, as MindSpore Lite has it; the CPU has no settings in it
    #[arg(long, value_name = "F.ini")]
    config: Option<String>,
    /// File with the ranks of named communication groups
    #[arg(long, value_name = "F")]
    group_file: Option<String>,
    /// Key of an encrypted model: text, or hex digits after `hex:`
    #[arg(long, value_name = "K", value_parser = parse_key)]
    key: Option<Key>,
    /// Encryption mode of the model: AES-GCM, AES-CBC or SM4-CBC; by default the one that the file names
    #[arg(long, value_name = "M", requires = "key")]
    dec_mode: Option<Mode>,
    /// Make each call so often, print the last outputs and how long the calls took
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true,
        value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// What ranks that a launcher has started exchange data through: `shared` memory, by default on one host, or
    /// `mpi`, by default on several
    #[arg(long, value_name = "T", conflicts_with = "ranks")]
    transport: Option<TransportKind>,
    /// Seconds that a rank waits for others before it gives up [default: 30]
    #[arg(long, value_name = "S", value_parser = parse_timeout)]
    timeout: Option<f64>,
    /// Print a JSON object for each rank, on a line of its own
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    check(args);
    match args.ranks {
        Some(ranks) if args.in_process => run_threads(args, ranks),
        Some(ranks) => start(ranks, own_command()?, !args.json, args.timeout),
        None => {
            let context = context(args, Ranks::Environment)?;
            let rank = context.rank_id()?;
            let alone = context.group_size()? == 1;
            let marked = std::env::var_os(MARKED_VARIABLE).is_some() || alone;
            let print = move |line: &str| say(&mark(line, rank, marked));
            let cancel = || cancel_on_signals(&context.cancellation, rank, print);
            let work = (!alone).then(cancel).transpose()?;
            let result = run_rank(args, rank, &context);
            drop(work);
            finish(&[(rank, result)], marked)
        }
    }
}

/// Ends the program, as for any other wrong use, when options do not fit each other.
fn check(args: &RunArgs) {
    let (inputs, outputs) = (args.inputs.len().max(1), args.outputs.len());
    if outputs != 0 && outputs != inputs {
        let message = format!("{outputs} --outputs do not fit {inputs} calls: give one for each --inputs");
        crate::Cli::command().error(UsageError::WrongNumberOfValues, message).exit();
    }
}

fn parse_timeout(text: &str) -> Result<f64, String> {
    let seconds: Option<f64> = text.parse().ok().filter(|s| (MIN_TIMEOUT..=MAX_TIMEOUT).contains(s));
    seconds.ok_or_else(|| format!("it is not a number of seconds from {MIN_TIMEOUT} to {MAX_TIMEOUT}"))
}

/// This command without --ranks, for the processes of the ranks.
fn own_command() -> Result<Vec<OsString>> {
    let program = own_program()?.into_os_string();
    Ok(std::iter::once(program).chain(without_ranks(std::env::args_os().skip(1))).collect())
}

/// This program, to start it again.
pub(crate) fn own_program() -> Result<PathBuf> {
    std::env::current_exe().map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot find this program to start it again").caused_by(error)
    })
}

fn without_ranks(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            // What follows are no options.
            Some("--") => kept.extend(std::iter::once(argument).chain(&mut arguments)),
            Some("--ranks" | "-n") => drop(arguments.next()),
            Some(text) if text.starts_with("--ranks=") || text.starts_with("-n") => {}
            _ => kept.push(argument),
        }
    }
    kept
}

fn run_threads(args: &RunArgs, ranks: u16) -> Result<ExitCode> {
    let timeout =
        args.timeout.map_or(mslite_collective::JoinOptions::DEFAULT_TIMEOUT, Duration::from_secs_f64);
    let worlds = World::threads(usize::from(ranks), timeout)?;
    let results: Vec<(usize, Result<String>)> = std::thread::scope(|scope| {
        let start = |world: World| {
            let rank = world.rank();
            let run = move || run_rank(args, rank, &context(args, Ranks::World(Arc::new(world)))?);
            (rank, scope.spawn(run))
        };
        let threads: Vec<_> = worlds.into_iter().map(start).collect();
        let join = |(rank, thread): (usize, std::thread::ScopedJoinHandle<'_, Result<String>>)| {
            let panicked = |_| Err(Error::new(ErrorKind::Internal, "the rank panicked"));
            (rank, thread.join().unwrap_or_else(panicked))
        };
        threads.into_iter().map(join).collect()
    });
    finish(&results, ranks == 1)
}

/// A line with its rank, unless `marked` says that it is there already.
fn mark(line: &str, rank: usize, marked: bool) -> String {
    if marked || line.starts_with('{') { line.to_owned() } else { format!("[rank {rank}] {line}") }
}

/// Prints what the ranks have to say.
fn finish(results: &[(usize, Result<String>)], marked: bool) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for (rank, result) in results {
        let mark = |line: &str| mark(line, *rank, marked);
        match result {
            Ok(text) => {
                let lines: String = text.lines().map(|line| mark(line) + "\n").collect();
                let written = std::io::stdout().lock().write_all(lines.as_bytes());
                written
                    .map_err(|e| Error::new(ErrorKind::Internal, "cannot write the output").caused_by(e))?;
            }
            Err(error) => {
                eprintln!("{}", mark(&format!("error: {}: {error}", error.kind())));
                code = code_of(error);
            }
        }
    }
    Ok(code)
}

fn context(args: &RunArgs, ranks: Ranks) -> Result<Context> {
    let mut context = Context::new();
    context.cpu.thread_num = args.threads;
    context.timeout = args.timeout.map(Duration::from_secs_f64);
    context.ranks = ranks;
    context.transport = args.transport;
    let rank = context.rank_id()?;
    context.group_info_file = args.group_file.as_deref().map(|path| at_rank(path, rank));
    Ok(context)
}

/// A path with the rank in it.
pub(crate) fn at_rank(path: &str, rank: usize) -> PathBuf {
    PathBuf::from(path.replace("{rank}", &rank.to_string()))
}

/// Builds and runs the model of one rank; the text is what it prints. A rank that fails tells the others why.
fn run_rank(args: &RunArgs, rank: usize, context: &Context) -> Result<String> {
    let result = build_and_run(args, rank, context);
    if let Err(error) = &result
        && !concerns_all(error.kind())
    {
        context.abort(error);
    }
    result
}

/// Whether the other ranks find out by themselves.
pub(crate) fn concerns_all(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::PlanMismatch | ErrorKind::PeerLost | ErrorKind::Cancelled | ErrorKind::Timeout)
}

fn build_and_run(args: &RunArgs, rank: usize, context: &Context) -> Result<String> {
    let mut options = BuildOptions::default();
    options.config = args.config.as_deref().map(|path| at_rank(path, rank));
    options.key = args.key.clone();
    options.mode = args.dec_mode;
    let model = Model::build_with(at_rank(&args.model, rank), ModelType::MindIr, context, &options)?;
    warn_of_unused_settings(args, rank, &model);
    let mut timing = Vec::new();
    let mut printed: Vec<Vec<Tensor>> = Vec::new();
    for call in 0..args.inputs.len().max(1) {
        let inputs = inputs(args, &model, call, rank)?;
        let outputs = predict(&model, &inputs, args.repeat, &mut timing)?;
        if let Some(path) = args.outputs.get(call).filter(|path| rank == 0 || path.contains("{rank}")) {
            write(&at_rank(path, rank), &outputs)?;
        }
        printed.push(outputs);
    }
    let timing = (args.repeat > 1).then(|| Timing::new(timing));
    Ok(match args.json {
        true => as_json(rank, &printed, model.memory(), timing.as_ref()),
        false => as_text(&printed, timing.as_ref()),
    })
}

/// The CPU, the only device of this command, takes its settings from flags.
fn warn_of_unused_settings(args: &RunArgs, rank: usize, model: &Model) {
    let sections: Vec<&str> = model.config().sections().collect();
    if let (Some(path), 0, false) = (&args.config, rank, sections.is_empty()) {
        eprintln!("warning: {path}: the CPU has no use for [{}]", sections.join("], ["));
    }
}

fn predict(model: &Model, inputs: &[Tensor], repeat: u32, timing: &mut Vec<Duration>) -> Result<Vec<Tensor>> {
    let mut outputs = Vec::new();
    for _ in 0..repeat {
        let start = Instant::now();
        outputs = model.predict(inputs)?;
        timing.push(start.elapsed());
    }
    Ok(outputs)
}

fn as_text(calls: &[Vec<Tensor>], timing: Option<&Timing>) -> String {
    let outputs: String = calls.iter().map(|outputs| outputs_as_text(outputs)).collect();
    outputs + &timing.map(Timing::as_text).unwrap_or_default()
}

fn as_json(rank: usize, calls: &[Vec<Tensor>], memory: MemoryUsage, timing: Option<&Timing>) -> String {
    let calls: Vec<_> = calls.iter().map(|outputs| json!({ "outputs": outputs_as_json(outputs) })).collect();
    let memory = json!({ "arena": memory.arena, "lower_bound": memory.lower_bound });
    let mut report = json!({ "rank": rank, "calls": calls, "memory": memory });
    if let Some(timing) = timing {
        report["timing"] = timing.as_json();
    }
    report.to_string() + "\n"
}

/// The inputs of one call.
fn inputs(args: &RunArgs, model: &Model, call: usize, rank: usize) -> Result<Vec<Tensor>> {
    let mut inputs = model.inputs();
    let Some(path) = args.inputs.get(call) else {
        for input in &mut inputs {
            let data = args.fill.data(input)?;
            input.set_tensor(data)?;
        }
        return Ok(inputs);
    };
    let path = at_rank(path, rank);
    let invalid = |message: String| Error::new(ErrorKind::InvalidArgument, message);
    let arrays =
        npz::read_numbered(&path, "in_").map_err(|error| invalid(format!("cannot read inputs: {error}")))?;
    if arrays.len() != inputs.len() {
        let names: Vec<&str> = inputs.iter().map(Tensor::name).collect();
        return Err(invalid(format!(
            "{} has {} inputs (in_0, in_1, ...), the model takes {} ({})",
            path.display(),
            arrays.len(),
            inputs.len(),
            names.join(", ")
        )));
    }
    for (i, (input, array)) in inputs.iter_mut().zip(arrays).enumerate() {
        let array = narrowed(array, input.dtype())?;
        let given = array.spec();
        let describe =
            |_| invalid(format!("input {i} is {input}, but in_{i} of {} is {given}", path.display()));
        input.clone().set_tensor(array.clone()).map_err(describe)?;
        input.set_tensor(array)?;
    }
    Ok(inputs)
}

/// numpy has no bfloat16: f32 stands for it.
fn narrowed(array: Data, dtype: DType) -> Result<Data> {
    if (array.dtype(), dtype) != (DType::F32, DType::BF16) {
        return Ok(array);
    }
    let values = array.as_slice::<f32>()?.iter().map(|&x| bf16::from_f32(x)).collect();
    Ok(Data::from_vec::<bf16>(values, array.dims())?)
}

fn write(path: &Path, outputs: &[Tensor]) -> Result<()> {
    let arrays = outputs.iter().filter_map(Tensor::data).enumerate();
    let named = arrays.map(|(i, data)| (format!("out_{i}"), data));
    npz::write(path, named)
        .map_err(|error| Error::new(ErrorKind::InvalidArgument, format!("cannot write outputs: {error}")))
}

pub(crate) fn parse_key(text: &str) -> Result<Key, String> {
    let Some(digits) = text.strip_prefix("hex:") else {
        return if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(Key::new(text.as_bytes())) };
    };
    if let Some(other) = digits.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(format!("{other:?} is no hexadecimal digit"));
    }
    match digits.len() {
        0 => return Err("no digits follow `hex:`".to_owned()),
        count if count % 2 == 1 => return Err(format!("{count} digits are no whole bytes: one is missing")),
        _ => {}
    }
    let byte = |i: usize| u8::from_str_radix(&digits[i..i + 2], 16).map_err(|error| error.to_string());
    (0..digits.len()).step_by(2).map(byte).collect::<Result<Vec<u8>, String>>().map(Key::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_text_or_whole_bytes_in_hexadecimal() {
        assert_eq!(parse_key("+1 key"), Ok(Key::new("+1 key")));
        assert_eq!(parse_key("hex:00fFa1"), Ok(Key::new([0x00, 0xFF, 0xA1])));
        for (text, reason) in [
            ("", "empty"),
            ("hex:", "no digits"),
            ("hex:abc", "3 digits"),
            ("hex:+1", "'+' is no"),
            ("hex:0x12", "'x' is no"),
            ("hex:é1", "'é' is no"),
            ("hex:12 34", "' ' is no"),
        ] {
            let error = parse_key(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn timeouts_are_positive_and_finite() {
        assert_eq!(parse_timeout("0.5"), Ok(0.5));
        for text in ["", "0", "-1", "nan", "inf", "1e-9", "1e9", "30s"] {
            assert!(parse_timeout(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ranks_are_as_many_as_a_world_takes() {
        let world = |ranks: i64| World::threads(usize::try_from(ranks).unwrap(), Duration::from_secs(1));
        assert!(world(MAX_RANKS).is_ok() && world(MAX_RANKS + 1).is_err());
    }

    #[test]
    fn only_the_number_of_ranks_is_left_out() {
        let kept = |arguments: &[&str]| without_ranks(arguments.iter().map(OsString::from));
        for ranks in [&["-n", "2"][..], &["-n2"], &["-n=2"], &["--ranks", "2"], &["--ranks=2"]] {
            assert_eq!(kept(&[&["run"], ranks, &["m", "--json"]].concat()), ["run", "m", "--json"]);
        }
        assert_eq!(kept(&["run", "-n2", "--", "-net", "--ranks"]), ["run", "--", "-net", "--ranks"]);
    }
}
