//! What the tests share: models with inputs and expected outputs, and ranks as threads.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod broken;
pub(crate) mod corpus;
pub(crate) mod rewrite;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mslite::{Context, DType, Model, ModelType, Ranks, World};
use mslite_tensor::{Tensor as Data, npz};
use mslite_testkit::cases::{self, Case};
use mslite_testkit::{Tolerance, assert_close, compare};

/// How long ranks wait for each other.
const PATIENCE: Duration = Duration::from_secs(60);

/// The folder of models.
#[allow(clippy::print_stderr, reason = "says why nothing is tested")]
pub(crate) fn models() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    if !folder.is_dir() {
        eprintln!("skipped: there is no folder of models");
        return None;
    }
    Some(folder)
}

/// One of the models for development.
pub(crate) fn case(name: &str) -> Option<Case> {
    Some(cases::read(&models()?.join("dev").join(name)).unwrap())
}

/// A context of so many threads.
pub(crate) fn context(ranks: Ranks, threads: usize) -> Context {
    let mut context = Context::new();
    context.ranks = ranks;
    context.cpu.thread_num = threads;
    context
}

/// What each rank answers; ranks are threads.
pub(crate) fn on_ranks<T: Send>(size: usize, body: impl Fn(usize, Ranks) -> T + Sync) -> Vec<T> {
    if size == 1 {
        return vec![body(0, Ranks::Alone)];
    }
    let worlds = World::threads(size, PATIENCE).unwrap();
    std::thread::scope(|scope| {
        let body = &body;
        let start = |(rank, world)| scope.spawn(move || body(rank, Ranks::World(Arc::new(world))));
        let ranks: Vec<_> = worlds.into_iter().enumerate().map(start).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// The inputs of a model with these data.
pub(crate) fn inputs(model: &Model, data: Vec<mslite_tensor::Tensor>) -> Vec<mslite::Tensor> {
    let mut inputs = model.inputs();
    assert_eq!(inputs.len(), data.len());
    for (input, data) in inputs.iter_mut().zip(data) {
        input.set_tensor(data).unwrap();
    }
    inputs
}

/// Runs one call of a case.
pub(crate) fn predict(model: &Model, case: &Case, call: usize) -> Vec<mslite_tensor::Tensor> {
    let inputs = inputs(model, case.calls[call].read_inputs().unwrap());
    let outputs = model.predict(&inputs).unwrap();
    outputs.iter().map(|output| output.data().unwrap().clone()).collect()
}

/// Checks the outputs of one call of a case.
pub(crate) fn check(outputs: &[mslite_tensor::Tensor], case: &Case, call: usize) {
    let expected = case.calls[call].read_outputs().unwrap();
    assert_eq!(outputs.len(), expected.len());
    for (output, expected) in outputs.iter().zip(&expected) {
        assert_close(output, expected, case.tolerance);
    }
}

/// Runs every network of a folder beside the tests as its calls say, and compares with what MindSpore gave; the number of
/// calls.
pub(crate) fn replay_folder(name: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    let (mut wrong, mut calls) = (Vec::new(), 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "mindir") {
            match replay(&path) {
                Ok(n) => calls += n,
                Err(reason) => wrong.push(format!("{}: {reason}", path.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    calls
}

/// The arrays `PREFIX_CALL_0`, `PREFIX_CALL_1`, ... of an archive.
fn arrays(all: &[(String, Data)], prefix: &str, call: usize) -> Vec<Data> {
    let named = |i: usize| all.iter().find(|(name, _)| *name == format!("{prefix}_{call}_{i}"));
    (0..).map_while(|i| named(i).map(|(_, data)| data.clone())).collect()
}

/// Makes all calls in one session, whose state lives on; what is wrong, if anything.
pub(crate) fn replay(path: &Path) -> Result<usize, String> {
    let context = context(Ranks::Alone, 1);
    let model = Model::build_from_file(path, ModelType::MindIr, &context).map_err(|e| e.to_string())?;
    let all = npz::read(path.with_extension("npz")).map_err(|e| e.to_string())?;
    let mut call = 0;
    loop {
        let given = arrays(&all, "in", call);
        if given.is_empty() {
            return Ok(call);
        }
        let mut inputs: Vec<mslite::Tensor> = model.inputs();
        for (input, data) in inputs.iter_mut().zip(given) {
            input.set_tensor(data).map_err(|e| e.to_string())?;
        }
        let outputs = model.predict(&inputs).map_err(|e| format!("call {call}: {e}"))?;
        let expected = arrays(&all, "out", call);
        if outputs.len() != expected.len() || expected.is_empty() {
            return Err(format!("call {call}: {} outputs, expected {}", outputs.len(), expected.len()));
        }
        for (i, (output, expected)) in outputs.iter().zip(&expected).enumerate() {
            let data = output.data().ok_or("an output has no data")?;
            let unit = if data.dtype() == DType::F16 { DType::F16 } else { DType::F32 };
            let tolerance = Tolerance::of(unit).times(10.0);
            compare(data, expected, tolerance).map_err(|e| format!("call {call}, output {i}: {e}"))?;
        }
        call += 1;
    }
}
