//! Optimised graphs compute what the imported ones do.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{models, on_ranks};
use mslite::Ranks;
use mslite_backend_cpu::{CpuBackend, CpuEvaluator};
use mslite_graph_opt::pass::{OptimiseOptions, optimise};
use mslite_graph_opt::{Error, Graph, ImportOptions, import};
use mslite_mindir::{Model, OpenOptions};
use mslite_runtime::{DeviceOptions, Registry, Session, SessionOptions};
use mslite_tensor::Tensor;
use mslite_testkit::cases::{Case, discover};
use mslite_testkit::{Generator, compare};

#[test]
fn optimised_models_agree_with_imported_ones() {
    let Some(folder) = models() else { return };
    let mut cases = discover(folder.join("dev")).unwrap();
    // The key makes no difference to the graph.
    cases.retain(|case| case.encryption.is_none());
    let compared = cases.iter().filter(|case| {
        on_ranks(case.ranks, |rank, ranks| agree(case, &case.models[rank], &ranks))
            .into_iter()
            .all(|done| done)
    });
    let compared = compared.count();
    assert!(2 * compared > cases.len(), "{compared} of {} models were compared", cases.len());
}

/// Whether the model was compared; one that cannot be imported is not.
fn agree(case: &Case, path: &Path, ranks: &Ranks) -> bool {
    let model = Model::open(path, &OpenOptions::new()).unwrap();
    let imported = match import(&model, &ImportOptions::default()) {
        Err(Error::Unsupported { .. }) => return false,
        imported => imported.unwrap(),
    };
    let options = OptimiseOptions { evaluator: Some(Arc::new(CpuEvaluator)), ..OptimiseOptions::default() };
    let (optimised, _) = optimise(&imported, &options).unwrap();
    let sessions = [imported, optimised].map(|graph| session(graph, ranks));
    for (seed, call) in case.calls.iter().enumerate() {
        for inputs in variations(&call.read_inputs().unwrap(), seed as u64) {
            let inputs: Vec<&Tensor> = inputs.iter().collect();
            let [expected, actual] = sessions.each_ref().map(|session| session.run(&inputs).unwrap());
            for (n, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
                let compared = compare(actual, expected, case.tolerance);
                compared.unwrap_or_else(|mismatch| panic!("{}: output {n}: {mismatch}", case.name));
            }
        }
    }
    true
}

fn session(graph: Graph, ranks: &Ranks) -> Session {
    let registry = Registry::new().with(Arc::new(CpuBackend));
    let device = registry.open("cpu", 0, &DeviceOptions::default().with_threads(1)).unwrap();
    let mut options = SessionOptions::default();
    if let Ranks::World(world) = ranks {
        options = options.with_world(world.clone());
    }
    Session::build(graph, vec![device], options).unwrap()
}

/// The inputs of a call, and the same with other floats.
fn variations(inputs: &[Tensor], seed: u64) -> [Vec<Tensor>; 2] {
    let mut generator = Generator::new(seed);
    let other = |x: &Tensor| match x.dtype().is_float() {
        true => generator.tensor(x.dtype(), x.dims(), -1.0, 1.0),
        false => x.clone(),
    };
    [inputs.to_vec(), inputs.iter().map(other).collect()]
}
