//! Optimised graphs compute what the imported ones do.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{case, context, models, on_ranks};
use mslite::{BuildOptions, Level, ModelType, Ranks};
use mslite_backend_cpu::{CpuBackend, CpuEvaluator};
use mslite_graph_opt::pass::{OptimiseOptions, Pass, optimise, standard_passes};
use mslite_graph_opt::{Error, Graph, ImportOptions, Op, import};
use mslite_mindir::{Model, OpenOptions};
use mslite_runtime::{DeviceOptions, Registry, Session, SessionOptions};
use mslite_tensor::{Dim, Tensor};
use mslite_testkit::cases::{Case, discover};
use mslite_testkit::{Generator, Tolerance, compare};

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

#[test]
fn levels_and_passes_are_chosen() {
    let Some(case) = case("w_mlp") else { return };
    let nodes = |options: &BuildOptions| {
        let context = context(Ranks::Alone, 1);
        let model = mslite::Model::build_with(&case.models[0], ModelType::MindIr, &context, options);
        model.unwrap().graph().unwrap().nodes().len()
    };
    let plain = nodes(&BuildOptions::default().with_level(Level::O0));
    let without = nodes(&BuildOptions::default().without_pass("fusion"));
    let all = nodes(&BuildOptions::default());
    assert!(all < without && without <= plain, "{all} {without} {plain}");
}

/// Whether the model was compared; one that cannot be imported is not.
fn agree(case: &Case, path: &Path, ranks: &Ranks) -> bool {
    let model = Model::open(path, &OpenOptions::new()).unwrap();
    let imported = match import(&model, &ImportOptions::default()) {
        Err(Error::Unsupported { .. }) => return false,
        imported => imported.unwrap(),
    };
    let original = session(imported.clone(), ranks);
    let calls: Vec<Vec<Tensor>> = (case.calls.iter().enumerate())
        .flat_map(|(seed, call)| variations(&call.read_inputs().unwrap(), seed as u64))
        .collect();
    let answers = |session: &Session| -> Vec<Vec<Tensor>> {
        calls.iter().map(|inputs| session.run(&inputs.iter().collect::<Vec<_>>()).unwrap()).collect()
    };
    let expected = answers(&original);
    for (name, passes) in selections() {
        let actual = answers(&session(optimised(&imported, passes), ranks));
        for (actual, expected) in actual.iter().flatten().zip(expected.iter().flatten()) {
            let compared = compare(actual, expected, case.tolerance);
            compared.unwrap_or_else(|mismatch| panic!("{} after {name}: {mismatch}", case.name));
        }
    }
    true
}

/// All passes, and each alone.
fn selections() -> Vec<(&'static str, Vec<Arc<dyn Pass>>)> {
    let all = standard_passes();
    let mut selections = vec![("all", all.clone())];
    selections.extend(all.into_iter().map(|pass| (pass.name(), vec![pass])));
    selections
}

fn optimised(graph: &Graph, passes: Vec<Arc<dyn Pass>>) -> Graph {
    let evaluator = Some(Arc::new(CpuEvaluator) as _);
    let options = OptimiseOptions { evaluator, passes, ..OptimiseOptions::default() };
    optimise(graph, &options).unwrap().0
}

/// What the tests of the passes write down as equal computes the same.
#[test]
fn graphs_of_the_golden_tests_agree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../graph-opt/tests/passes");
    let mut compared = 0;
    for pass in standard_passes() {
        for file in std::fs::read_dir(root.join(pass.name())).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let (before, after) = text.split_once("---\n").unwrap();
            compared += usize::from(compare_texts([before, after], &path.display().to_string()));
        }
    }
    assert!(compared > 40, "{compared} graphs were compared");
}

/// Whether two graphs were run; those that need other ranks or primitives are not.
fn compare_texts(texts: [&str; 2], name: &str) -> bool {
    let [before, after] = texts.map(|text| text.parse::<Graph>().unwrap());
    let extent =
        |dim: &Dim| dim.bind(&dim.symbols().into_iter().map(|symbol| (symbol, 3)).collect()).as_usize();
    let dims = |graph: &Graph, value| graph.spec(value).shape.dims()?.iter().map(extent).collect();
    let dims: Option<Vec<Vec<usize>>> =
        before.inputs().iter().map(|port| dims(&before, port.value)).collect();
    let Some(dims) = dims else { return false };
    let mut generator = Generator::new(7);
    let specs = before.inputs().iter().map(|port| before.spec(port.value).dtype);
    let inputs: Vec<Tensor> =
        specs.zip(&dims).map(|(dtype, dims)| generator.tensor(dtype, dims, 0.5, 1.5)).collect();
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let runnable = |node: &mslite_graph_opt::ir::Node| !matches!(node.op, Op::Opaque(_) | Op::Collective(_));
    if !before.nodes_within().all(|(_, node)| runnable(node)) {
        return false;
    }
    let [Ok(expected), Ok(actual)] = [before, after].map(|graph| {
        let registry = Registry::new().with(Arc::new(CpuBackend));
        let device = registry.open("cpu", 0, &DeviceOptions::default().with_threads(1))?;
        Session::build(graph, vec![device], SessionOptions::default())?.run(&inputs)
    }) else {
        return false;
    };
    for (n, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
        let tolerance = if expected.dtype().size() == 2 { 2e-3 } else { 1e-5 };
        let compared = compare(actual, expected, Tolerance { rtol: tolerance, atol: tolerance });
        compared.unwrap_or_else(|mismatch| panic!("{name}: output {n}: {mismatch}"));
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
