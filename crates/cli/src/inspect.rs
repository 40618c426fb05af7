use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use mslite::{Error, ErrorKind, Key, Mode, Result};
use mslite_mindir::{Model, OpenOptions, Type};
use serde::Serialize;

use crate::run::parse_key;

/// Shows inputs, outputs, operators, parameters, collectives and functions of a model file, without running it.
///
/// Example:
///   mslite inspect slice0.mindir
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct InspectArgs {
    /// Model file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Key of an encrypted model: text, or hex digits after `hex:`
    #[arg(long, value_name = "K", value_parser = parse_key)]
    key: Option<Key>,
    /// Encryption mode of the model: AES-GCM, AES-CBC or SM4-CBC; by default the one that the file names
    #[arg(long, value_name = "M", requires = "key")]
    dec_mode: Option<Mode>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn inspect(args: &InspectArgs) -> Result<ExitCode> {
    let mut options = OpenOptions::new();
    options.key = args.key.clone();
    options.mode = args.dec_mode;
    let model =
        Model::open(&args.model, &options).map_err(|error| Error::new(kind(&error), error.to_string()))?;
    let contents = Contents::of(&model);
    match args.json {
        true => println!("{}", serde_json::to_string(&contents).unwrap_or_default()),
        false => print!("{}", contents.as_text()),
    }
    Ok(ExitCode::SUCCESS)
}

fn kind(error: &mslite_mindir::Error) -> ErrorKind {
    use mslite_mindir::Error as E;
    match error {
        E::Unsupported { .. } => ErrorKind::Unsupported,
        E::Invalid { .. } | E::External { .. } => ErrorKind::InvalidModel,
        _ => ErrorKind::InvalidArgument,
    }
}

/// What a model file holds, for people and programs.
#[derive(Debug, Serialize)]
struct Contents {
    name: String,
    format_version: String,
    model_version: String,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    nodes: usize,
    constants: usize,
    operators: Vec<Count>,
    parameters: Vec<Parameter>,
    parameter_bytes: u64,
    collectives: Vec<Exchange>,
    functions: Vec<Function>,
}

#[derive(Debug, Serialize)]
struct Port {
    name: String,
    #[serde(rename = "type")]
    ty: String,
}

#[derive(Debug, Serialize)]
struct Count {
    operator: String,
    count: usize,
}

#[derive(Debug, Serialize)]
struct Parameter {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    bytes: usize,
}

#[derive(Debug, Serialize)]
struct Exchange {
    operator: String,
    group: Option<String>,
    reduction: Option<String>,
    ranks: Option<Vec<i64>>,
    peer: Option<i64>,
    scope: String,
}

#[derive(Debug, Serialize)]
struct Function {
    name: String,
    nodes: usize,
}

impl Contents {
    fn of(model: &Model) -> Self {
        let summary = model.summary();
        let mut operators: Vec<Count> =
            summary.operators.iter().map(|(op, &count)| Count { operator: op.to_string(), count }).collect();
        operators.sort_by(|a, b| b.count.cmp(&a.count).then(a.operator.cmp(&b.operator)));
        let graph = &model.graph;
        let inputs = graph.inputs.iter().map(|i| Port { name: i.name.to_string(), ty: described(&i.ty) });
        let outputs = graph.outputs.iter().map(|o| Port { name: o.name.to_string(), ty: described(&o.ty) });
        Contents {
            name: graph.name.to_string(),
            format_version: model.format_version.to_string(),
            model_version: model.model_version.to_string(),
            inputs: inputs.collect(),
            outputs: outputs.collect(),
            nodes: summary.nodes,
            constants: summary.constants,
            operators,
            parameters: graph.parameters.iter().map(Parameter::of).collect(),
            parameter_bytes: summary.parameter_bytes,
            collectives: model.collectives().map(|c| Exchange::of(&c)).collect(),
            functions: model
                .functions
                .iter()
                .map(|f| Function { name: f.name.to_string(), nodes: f.nodes.len() })
                .collect(),
        }
    }

    fn as_text(&self) -> String {
        let mut text = String::new();
        let out = &mut text;
        let _ = writeln!(
            out,
            "model {} (MindSpore {}, format {})",
            self.name, self.model_version, self.format_version
        );
        section(out, "inputs", self.inputs.iter().map(|p| format!("{}: {}", p.name, p.ty)));
        section(out, "outputs", self.outputs.iter().map(|p| format!("{}: {}", p.name, p.ty)));
        let title = format!("operators ({} nodes and {} constants)", self.nodes, self.constants);
        section(out, &title, self.operators.iter().map(|c| format!("{:6} {}", c.count, c.operator)));
        let title = format!("parameters ({} of {} bytes)", self.parameters.len(), self.parameter_bytes);
        let parameter = |p: &Parameter| format!("{}: {}{:?}, {} bytes", p.name, p.dtype, p.shape, p.bytes);
        section(out, &title, self.parameters.iter().map(parameter));
        section(out, "collectives", self.collectives.iter().map(Exchange::as_text));
        section(out, "functions", self.functions.iter().map(|f| format!("{}: {} nodes", f.name, f.nodes)));
        text
    }
}

fn section(out: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        return;
    }
    let _ = writeln!(out, "{title}");
    for line in lines {
        let _ = writeln!(out, "  {line}");
    }
}

impl Parameter {
    fn of(parameter: &mslite_mindir::Parameter) -> Self {
        Parameter {
            name: parameter.name.to_string(),
            dtype: parameter.dtype().to_string(),
            shape: parameter.dims().to_vec(),
            bytes: parameter.data.data.len(),
        }
    }
}

impl Exchange {
    fn of(collective: &mslite_mindir::Collective<'_>) -> Self {
        let attributes = &collective.primitive.attributes;
        let ranks = ["group_rank_ids", "rank_list", "group_ranks"].into_iter();
        let peers = ["dest_rank", "src_rank", "root_rank"].into_iter();
        Exchange {
            operator: collective.primitive.op_type.to_string(),
            group: collective.group().map(str::to_owned),
            reduction: attributes.string("op").ok().map(str::to_owned),
            ranks: ranks.filter_map(|name| attributes.ints(name).ok()).next(),
            peer: peers.filter_map(|name| attributes.int(name).ok()).next(),
            scope: collective.node.scope.to_string(),
        }
    }

    fn as_text(&self) -> String {
        let mut text = self.operator.clone();
        for part in [&self.reduction, &self.group].into_iter().flatten() {
            let _ = write!(text, " {part}");
        }
        if let Some(peer) = self.peer {
            let _ = write!(text, " with rank {peer}");
        }
        if let Some(ranks) = &self.ranks {
            let _ = write!(text, " of ranks {ranks:?}");
        }
        let _ = write!(text, " at {}", self.scope);
        text
    }
}

fn described(ty: &Option<Type>) -> String {
    ty.as_ref().map_or_else(|| "unknown".to_owned(), Type::to_string)
}
