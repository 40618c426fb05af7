use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mslite_backend_cpu::CpuEvaluator;
use mslite_graph_opt::pass::{Evaluator, Level, OptimiseOptions, Pass, agreed_passes, optimise, passes};
use mslite_graph_opt::{Graph, ImportOptions, import};
use mslite_mindir::{GroupFile, Key, Mode, OpenOptions};
use mslite_runtime::Plan;
use mslite_runtime::memory::MemoryUsage;
use mslite_runtime::schedule::GroupRanks;
use smallvec::SmallVec;

use crate::sessions::{Recipe, Sessions};
use crate::{Config, Context, Error, ErrorKind, Result, Tensor};

/// How a model file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ModelType {
    /// MindIR, as MindSpore exports it.
    #[default]
    MindIr,
}

/// What a build may need beside path, type and context.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct BuildOptions {
    /// Configuration file, as [`Config`] reads it. No setting is in force on the CPU; the model keeps them all
    /// ([`Model::config`]), also for backends of the program.
    pub config: Option<PathBuf>,
    /// Key of an encrypted model.
    pub key: Option<Key>,
    /// Encryption mode that the model must have; by default the one that the file names.
    pub mode: Option<Mode>,
    /// How much the graph is optimised. All ranks of a job must choose alike.
    pub level: Level,
    /// Names of passes that do not run, as the documentation of `mslite-graph-opt` lists them.
    pub without_passes: BTreeSet<String>,
}

impl BuildOptions {
    /// The same with a configuration file.
    #[must_use]
    pub fn with_config(mut self, path: impl Into<PathBuf>) -> Self {
        self.config = Some(path.into());
        self
    }

    /// The same with the key of an encrypted model.
    #[must_use]
    pub fn with_key(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// The same with the encryption mode that the model must have.
    #[must_use]
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// The same with a level of optimisation.
    #[must_use]
    pub fn with_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// The same without a pass, to find one that does harm.
    #[must_use]
    pub fn without_pass(mut self, name: impl Into<String>) -> Self {
        self.without_passes.insert(name.into());
        self
    }
}

/// A model, built for the devices of a context.
///
/// A model that leaves the number of axes of an input open is compiled when that is known: by [`Model::resize`] or the
/// first [`Model::predict`], and again for each other number.
///
/// Several threads may call [`Model::predict`] at once. A model that exchanges data with other ranks, or keeps
/// state, answers them one after another; then all ranks must call in the same order.
#[derive(Debug)]
pub struct Model {
    path: PathBuf,
    sessions: Sessions,
    config: Config,
}

impl Model {
    /// Reads, optimises and compiles a model. With several ranks, all of them build at the same time.
    ///
    /// # Errors
    /// `InvalidArgument` for a missing file or a wrong option, `InvalidModel` for a damaged file, `Unsupported`
    /// for what no device runs, `Unavailable` for an absent device, `PlanMismatch` when the ranks' models do not
    /// fit each other, `PeerLost` and `Timeout` when a rank does not come.
    pub fn build_from_file(path: impl AsRef<Path>, model_type: ModelType, context: &Context) -> Result<Self> {
        Model::build_with(path, model_type, context, &BuildOptions::default())
    }

    /// As [`Model::build_from_file`], with a configuration file or the key of an encrypted model.
    ///
    /// # Errors
    /// As [`Model::build_from_file`].
    pub fn build_with(
        path: impl AsRef<Path>,
        model_type: ModelType,
        context: &Context,
        options: &BuildOptions,
    ) -> Result<Self> {
        let path = path.as_ref();
        let ModelType::MindIr = model_type;
        let config = options.config.as_ref().map(Config::open).transpose()?.unwrap_or_default();
        let devices = context.devices()?;
        let groups = groups_of(context.group_info_file.as_deref())?;
        let world = context.world()?;
        let source = open(path, options)?;
        let recipe =
            Recipe { source, path: path.to_owned(), options: options.clone(), devices, groups, world };
        Ok(Model { path: path.to_owned(), sessions: Sessions::new(recipe)?, config })
    }

    /// Where it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration that it was built with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How its graph is divided among devices; `None` while the number of axes of an input is not known.
    pub fn plan(&self) -> Option<&Plan> {
        self.sessions.first().map(|session| session.plan())
    }

    /// Its optimised graph; `None` while the number of axes of an input is not known.
    pub fn graph(&self) -> Option<&Graph> {
        self.sessions.first().map(|session| session.graph())
    }

    /// Memory that is kept for the values of runs, of all callers that have run: how much, and how little it could be.
    pub fn memory(&self) -> MemoryUsage {
        self.sessions.memory()
    }

    /// A tensor for each input, without data.
    pub fn inputs(&self) -> Vec<Tensor> {
        self.sessions.inputs.clone()
    }

    /// A tensor for each output, without data; as the file states them while the number of axes of an input is not
    /// known.
    pub fn outputs(&self) -> Vec<Tensor> {
        match self.sessions.first() {
            Some(session) => describe(session.graph(), session.outputs()),
            None => self.sessions.outputs.clone(),
        }
    }

    /// Gives inputs other extents and drops their data.
    ///
    /// # Errors
    /// `InvalidArgument` when the model does not take these extents; the inputs are then as they were.
    pub fn resize(&self, inputs: &mut [Tensor], dims: &[&[usize]]) -> Result<()> {
        if inputs.len() != dims.len() {
            let message = format!("{} inputs cannot have {} shapes", inputs.len(), dims.len());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        self.sessions.fitting(dims.iter().map(|dims| dims.len()))?.resize(dims)?;
        for (input, dims) in inputs.iter_mut().zip(dims) {
            input.set_shape(dims);
        }
        Ok(())
    }

    /// Runs the model.
    ///
    /// # Errors
    /// `InvalidArgument` when inputs do not fit; `PeerLost` and `Timeout` when another rank fails.
    pub fn predict(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let inputs = data(inputs)?;
        let session = self.sessions.fitting(inputs.iter().map(|tensor| tensor.dims().len()))?;
        let outputs = session.run(&inputs)?;
        let names = session.outputs().iter().map(|port| port.name.as_str());
        Ok(names.zip(outputs).map(|(name, tensor)| Tensor::new(name, tensor)).collect())
    }

    /// Runs the model into tensors of an earlier run. With inputs of the same extents it allocates nothing.
    ///
    /// # Errors
    /// As [`Model::predict`]; also when an output has no data or another type.
    pub fn predict_into(&self, inputs: &[Tensor], outputs: &mut [mslite_tensor::Tensor]) -> Result<()> {
        let inputs = data(inputs)?;
        let session = self.sessions.fitting(inputs.iter().map(|tensor| tensor.dims().len()))?;
        session.run_into(&inputs, outputs)
    }
}

fn data(inputs: &[Tensor]) -> Result<SmallVec<[&mslite_tensor::Tensor; 16]>> {
    inputs.iter().map(Tensor::expect_data).collect()
}

fn describe(graph: &Graph, ports: &[mslite_graph_opt::ir::Port]) -> Vec<Tensor> {
    ports.iter().map(|port| Tensor::described(&port.name, graph.spec(port.value))).collect()
}

pub(crate) fn open(path: &Path, options: &BuildOptions) -> Result<mslite_mindir::Model> {
    let mut open = OpenOptions::new();
    open.key = options.key.clone();
    open.mode = options.mode;
    mslite_mindir::Model::open(path, &open).map_err(not_read)
}

/// A model as an optimised graph for a rank; `axes` has the numbers of axes that it leaves open.
pub(crate) fn read(
    model: &mslite_mindir::Model,
    path: &Path,
    options: &BuildOptions,
    axes: BTreeMap<String, usize>,
    rank: Option<usize>,
) -> Result<Graph> {
    let in_file = |error: mslite_graph_opt::Error| Error::from(error).with("model", path.display());
    let mut importing = ImportOptions::default();
    importing.axes = axes;
    importing.rank = rank;
    let graph = import(model, &importing).map_err(in_file)?;
    let known = [passes(Level::O2), agreed_passes(Level::O2)].concat();
    let known = known.into_iter().map(|pass| pass.name().to_owned()).collect();
    if let Some(name) = options.without_passes.difference(&known).next() {
        let message = format!("there is no pass {name:?}, only {known:?}");
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let passes = wanted(passes(options.level), options);
    let evaluator = Some(evaluator());
    let options = OptimiseOptions { passes, evaluator, ..OptimiseOptions::default() };
    let (graph, _) = optimise(&graph, &options).map_err(in_file)?;
    Ok(graph)
}

/// What runs operations on constants when a model is built, for who optimises a graph by hand.
pub fn evaluator() -> Arc<dyn Evaluator> {
    Arc::new(CpuEvaluator)
}

/// The passes that the caller has not switched off.
pub(crate) fn wanted(mut passes: Vec<Arc<dyn Pass>>, options: &BuildOptions) -> Vec<Arc<dyn Pass>> {
    passes.retain(|pass| !options.without_passes.contains(pass.name()));
    passes
}

fn not_read(error: mslite_mindir::Error) -> Error {
    let kind = match &error {
        mslite_mindir::Error::Unsupported { .. } => ErrorKind::Unsupported,
        mslite_mindir::Error::Invalid { .. } | mslite_mindir::Error::External { .. } => {
            ErrorKind::InvalidModel
        }
        _ => ErrorKind::InvalidArgument,
    };
    match error {
        mslite_mindir::Error::Io { file, action, source } => {
            Error::new(kind, format!("{}: cannot {action}", file.display())).caused_by(source)
        }
        error => Error::new(kind, error.to_string()),
    }
}

/// The groups of a group file.
pub(crate) fn groups_of(file: Option<&Path>) -> Result<GroupRanks> {
    let Some(path) = file else { return Ok(GroupRanks::new()) };
    let file = GroupFile::open(path).map_err(not_read)?;
    let ranks = |ranks: &[u32]| ranks.iter().map(|&rank| rank as usize).collect();
    Ok(file.groups.iter().map(|(name, members)| (name.as_str().into(), ranks(members))).collect())
}
