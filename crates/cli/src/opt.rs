//! `mslite opt`: a model, optimised, as a model file.

mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use mslite::{Error, ErrorKind, Key, Level, Mode, Result};
use mslite_graph_opt::pass::{Measure, OptimiseOptions, Pass, Precision, Report, optimise, passes};
use mslite_graph_opt::{Graph, ImportOptions, export, import};
use mslite_mindir::{Model, OpenOptions, SaveOptions, Saved};

use crate::inspect::as_error;
use crate::output;
use crate::run::{MAX_RANKS, at_rank, parse_key};

/// Optimises a model as a build would, writes it as MindIR, and prints what each pass has changed: nodes, arithmetic
/// operations, bytes that nodes read and write, the most memory that values take at a time, and the time it took.
///
/// What is written computes what MODEL does. It has primitives that MindSpore runs, too: an operation that MindSpore does
/// not have on every device is spelt out, and is found again when the model is built. An encrypted model is written
/// encrypted in the same way.
///
/// With --ranks N the slices of N ranks are optimised one after the other: MODEL, OUT and DIR contain `{rank}`.
///
/// Examples:
///   mslite opt net.mindir -o fast.mindir
///   mslite opt net.mindir -o fast.mindir --without attention --dump steps --dot
///   mslite opt net.mindir -o fast.mindir --fuel 100
///   mslite opt net.mindir -o small.mindir --precision f16 --keep 'Default/head*',softmax
///   mslite opt slice{rank}.mindir -o fast{rank}.mindir --ranks 2
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct OptArgs {
    /// Model file; `{rank}` stands for the rank
    #[arg(value_name = "MODEL")]
    model: String,
    /// Where to write the optimised model
    #[arg(long, short, value_name = "OUT")]
    out: String,
    /// How much is done. O0: nothing, O1: what keeps every element to the bit, O2: also what rounds otherwise
    #[arg(long, value_name = "L", default_value = "O2", value_parser = parse_level)]
    level: Level,
    /// Run these passes only, in this order
    #[arg(long, value_name = "A,B", value_delimiter = ',', conflicts_with = "level")]
    passes: Vec<String>,
    /// Do not run these passes
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    without: Vec<String>,
    /// Compute products, convolutions and what stands between them in f16 or bf16
    #[arg(long, value_name = "T", value_parser = parse_precision)]
    precision: Option<Precision>,
    /// With --precision: keep nodes as they are, by the name of their operation or a pattern for their scope (`*` stands
    /// for anything)
    #[arg(long, value_name = "A,B", value_delimiter = ',', requires = "precision")]
    keep: Vec<String>,
    /// Most rewrites. To find one that does harm, halve it until the harm has gone
    #[arg(long, value_name = "N")]
    fuel: Option<u64>,
    /// Write the graph's text, as imported and after each pass that changed it, to numbered files in a folder
    #[arg(long, value_name = "DIR")]
    dump: Option<String>,
    /// With --dump: also in Graphviz's language
    #[arg(long, requires = "dump")]
    dot: bool,
    /// Optimise the slices of so many ranks
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_RANKS))]
    ranks: Option<u16>,
    /// Key of an encrypted MODEL: text, or hex digits after `hex:`
    #[arg(long, value_name = "K", value_parser = parse_key)]
    key: Option<Key>,
    /// Encryption mode of MODEL: AES-GCM, AES-CBC or SM4-CBC; by default the one that the file names
    #[arg(long, value_name = "M", requires = "key")]
    dec_mode: Option<Mode>,
    /// Print a JSON object for each model, as the README of mslite-cli describes it
    #[arg(long)]
    json: bool,
}

/// What has been done to one model.
struct Outcome {
    model: PathBuf,
    saved: Saved,
    before: Measure,
    after: Measure,
    report: Report,
    /// Names of the passes, in their order.
    passes: Vec<&'static str>,
}

pub(crate) fn opt(args: &OptArgs) -> Result<ExitCode> {
    let paths = [Some(&args.model), Some(&args.out), args.dump.as_ref()];
    let varies = |path: &&String| path.contains("{rank}");
    let ranks = args.ranks.unwrap_or(1);
    let message = match (args.ranks, paths.into_iter().flatten().all(|path| varies(&path))) {
        (Some(2..), false) => "with --ranks, MODEL, OUT and DIR need `{rank}`, which stands for the rank",
        (None, _) if paths.into_iter().flatten().any(|path| varies(&path)) => {
            "`{rank}` stands for the rank: say with --ranks how many there are"
        }
        _ => "",
    };
    if !message.is_empty() {
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    for rank in 0..usize::from(ranks) {
        let outcome = optimise_one(args, rank)?;
        match args.json {
            true => output::print(&format!("{}\n", table::json(&outcome)))?,
            false => output::print_styled(&table::text(&outcome))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn optimise_one(args: &OptArgs, rank: usize) -> Result<Outcome> {
    let path = at_rank(&args.model, rank);
    let mut open = OpenOptions::new();
    open.key = args.key.clone();
    open.mode = args.dec_mode;
    let model = Model::open(&path, &open).map_err(as_error)?;
    for warning in &model.warnings {
        eprintln!("warning: {warning}");
    }
    let in_file = |error: mslite_graph_opt::Error| Error::from(error).with("model", path.display());
    let imported = import(&model, &ImportOptions::default()).map_err(in_file)?;
    let options = options(args)?;
    let (optimised, report) = optimise(&imported, &options).map_err(in_file)?;
    if let Some(folder) = &args.dump {
        dump(&at_rank(folder, rank), &imported, &report, args.dot)?;
    }
    let mut save = SaveOptions::new();
    if let (Some(mode), Some(key)) = (model.encryption, &args.key) {
        save = save.encrypt(mode, key.clone());
    }
    let written = export(&optimised).map_err(in_file)?;
    let saved = written.save(at_rank(&args.out, rank), &save).map_err(as_error)?;
    let (before, after) = (Measure::of(&imported), Measure::of(&optimised));
    let passes = options.passes.iter().map(|pass| pass.name()).collect();
    Ok(Outcome { model: path, saved, before, after, report, passes })
}

fn parse_level(text: &str) -> Result<Level, String> {
    text.parse().map_err(|error: mslite_graph_opt::Error| error.to_string())
}

fn parse_precision(text: &str) -> Result<Precision, String> {
    let dtype = text.parse().map_err(|error: mslite_tensor::Error| error.to_string())?;
    Precision::new(dtype).map_err(|error| error.to_string())
}

fn options(args: &OptArgs) -> Result<OptimiseOptions> {
    let without: BTreeSet<String> = args.without.iter().cloned().collect();
    let mut selected = match args.passes.is_empty() {
        true => passes(args.level),
        false => args.passes.iter().map(|name| named(name)).collect::<Result<_>>()?,
    };
    for name in &without {
        named(name)?;
    }
    selected.retain(|pass| !without.contains(pass.name()));
    if let Some(precision) = args.precision.clone() {
        selected.push(Arc::new(args.keep.iter().fold(precision, Precision::keeping)));
    }
    Ok(OptimiseOptions {
        passes: selected,
        fuel: args.fuel,
        evaluator: Some(mslite::evaluator()),
        dump: args.dump.is_some(),
        measure: true,
        ..OptimiseOptions::default()
    })
}

/// The pass of this name.
fn named(name: &str) -> Result<Arc<dyn Pass>> {
    let all = passes(Level::O2);
    let names: Vec<&str> = all.iter().map(|pass| pass.name()).collect();
    let message = format!("there is no pass {name:?}; there are {}", names.join(", "));
    let pass = all.iter().find(|pass| pass.name() == name).cloned();
    pass.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, message))
}

/// Writes the graph as imported and after each pass that changed it.
fn dump(folder: &Path, imported: &Graph, report: &Report, with_dot: bool) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| {
        let message = format!("cannot make the folder {}", folder.display());
        Error::new(ErrorKind::InvalidArgument, message).caused_by(error)
    })?;
    let steps = report.dumps.iter().map(|dump| (dump.pass, &dump.graph));
    for (i, (name, graph)) in std::iter::once(("import", imported)).chain(steps).enumerate() {
        let file = |extension: &str| folder.join(format!("{i:03}-{name}.{extension}"));
        output::write(&file("txt"), graph.summary().to_string().as_bytes())?;
        if with_dot {
            output::write(&file("dot"), graph.dot().to_string().as_bytes())?;
        }
    }
    Ok(())
}

impl Outcome {
    /// Everything that one pass has done, over all rounds: its rewrites, its time, and the graph before and after
    /// each time that it changed it.
    fn of_pass(&self, name: &str) -> (usize, Duration, Vec<[Measure; 2]>) {
        let steps = || self.report.steps.iter().filter(|step| step.pass == name);
        let hits = steps().map(|step| step.hits).sum();
        (hits, steps().map(|step| step.elapsed).sum(), steps().filter_map(|step| step.change).collect())
    }
}
