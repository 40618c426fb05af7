//! The sessions of a model: one, unless the model leaves the number of axes of an input open.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use mslite_collective::World;
use mslite_graph_opt::import_inputs;
use mslite_graph_opt::pass::agreed_passes;
use mslite_runtime::memory::MemoryUsage;
use mslite_runtime::schedule::GroupRanks;
use mslite_runtime::{NamedDevice, Session, SessionOptions};
use mslite_tensor::{Dim, Dims};

use crate::model::{read, wanted};
use crate::{BuildOptions, Error, ErrorKind, Result, Tensor};

/// What sessions are built from.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) source: mslite_mindir::Model,
    pub(crate) path: PathBuf,
    pub(crate) options: BuildOptions,
    pub(crate) devices: Vec<NamedDevice>,
    pub(crate) groups: GroupRanks,
    pub(crate) world: Option<Arc<World>>,
}

impl Recipe {
    /// A session; `axes` has the numbers of axes that the model leaves open.
    fn build(&self, axes: BTreeMap<String, usize>) -> Result<Session> {
        let rank = self.world.as_ref().map(|world| world.rank());
        let graph = read(&self.source, &self.path, &self.options, axes, rank)?;
        let mut options = SessionOptions::default().with_groups(self.groups.clone());
        options.agreed_passes = wanted(agreed_passes(self.options.level), &self.options);
        if let Some(world) = &self.world {
            options = options.with_world(world.clone());
        }
        Session::build(graph, self.devices.clone(), options)
    }
}

/// The sessions of a model.
#[derive(Debug)]
pub(crate) struct Sessions {
    first: OnceLock<Arc<Session>>,
    /// What is built when it is needed, if the model leaves a number of axes open.
    open: Option<Open>,
    /// Without data.
    pub(crate) inputs: Vec<Tensor>,
    /// Without data, as the file states them; of the first session there is better.
    pub(crate) outputs: Vec<Tensor>,
}

#[derive(Debug)]
struct Open {
    recipe: Recipe,
    /// By the numbers of axes of all inputs.
    built: Mutex<BTreeMap<Dims, Arc<Session>>>,
}

impl Sessions {
    pub(crate) fn new(recipe: Recipe) -> Result<Self> {
        let inputs = import_inputs(&recipe.source)
            .map_err(|error| Error::from(error).with("model", recipe.path.display()))?;
        let described = inputs.iter().map(|(name, spec)| Tensor::described(name, spec)).collect();
        let mut sessions =
            Sessions { first: OnceLock::new(), open: None, inputs: described, outputs: Vec::new() };
        if inputs.iter().all(|(_, spec)| spec.shape.rank().is_some()) {
            let _ = sessions.first.set(Arc::new(recipe.build(BTreeMap::new())?));
        } else {
            sessions.outputs = stated_outputs(&recipe.source);
            sessions.open = Some(Open { recipe, built: Mutex::default() });
        }
        Ok(sessions)
    }

    /// The session that was built first.
    pub(crate) fn first(&self) -> Option<&Arc<Session>> {
        self.first.get()
    }

    /// Memory that is kept for the values of runs, in all sessions.
    pub(crate) fn memory(&self) -> MemoryUsage {
        let Some(open) = &self.open else {
            return self.first().map(|session| session.memory()).unwrap_or_default();
        };
        let built = open.built.lock().unwrap_or_else(PoisonError::into_inner);
        built.values().fold(MemoryUsage::default(), |all, session| all + session.memory())
    }

    /// The session for inputs with these numbers of axes; it is built if it is not there.
    pub(crate) fn fitting(&self, axes: impl Iterator<Item = usize>) -> Result<Arc<Session>> {
        let Some(open) = &self.open else {
            let missing = || Error::new(ErrorKind::Internal, "the model has no session");
            return self.first.get().cloned().ok_or_else(missing);
        };
        let axes: Dims = axes.collect();
        if axes.len() != self.inputs.len() {
            let message = format!("the model takes {} inputs, not {}", self.inputs.len(), axes.len());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let mut built = open.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = built.get(&axes) {
            return Ok(session.clone());
        }
        if self.first().is_some_and(|first| !first.graph().states().is_empty()) {
            let message = "a model that keeps state runs with one number of axes for each input only";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let names = self.inputs.iter().map(|input| input.name().to_owned());
        let session = Arc::new(open.recipe.build(names.zip(axes.iter().copied()).collect())?);
        built.insert(axes, session.clone());
        let _ = self.first.set(session.clone());
        Ok(session)
    }
}

/// The outputs as the file states them.
fn stated_outputs(model: &mslite_mindir::Model) -> Vec<Tensor> {
    let outputs = model.graph.outputs.iter().filter_map(|output| {
        let spec = output.ty.as_ref()?.as_tensor()?.spec(|axis| Dim::symbol(&format!("_{axis}")))?;
        Some(Tensor::described(&output.name, &spec))
    });
    outputs.collect()
}
