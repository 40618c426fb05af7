//! Networks whose path depends on data, exported and run by MindSpore (`control_flow/export.py`).

use std::path::Path;

use mslite::{Context, DType, Model, ModelType, Ranks, Tensor};
use mslite_graph_opt::Op;
use mslite_tensor::{Tensor as Data, npz};
use mslite_testkit::{Tolerance, compare};

/// The arrays `PREFIX_CALL_0`, `PREFIX_CALL_1`, ... of an archive.
fn arrays(all: &[(String, Data)], prefix: &str, call: usize) -> Vec<Data> {
    let named = |i: usize| all.iter().find(|(name, _)| *name == format!("{prefix}_{call}_{i}"));
    (0..).map_while(|i| named(i).map(|(_, data)| data.clone())).collect()
}

/// Makes all calls in one session, whose state lives on; what is wrong, if anything.
fn check(path: &Path) -> Result<usize, String> {
    let mut context = Context::new();
    context.ranks = Ranks::Alone;
    let model = Model::build_from_file(path, ModelType::MindIr, &context).map_err(|e| e.to_string())?;
    let all = npz::read(path.with_extension("npz")).map_err(|e| e.to_string())?;
    let mut call = 0;
    loop {
        let given = arrays(&all, "in", call);
        if given.is_empty() {
            return Ok(call);
        }
        let mut inputs: Vec<Tensor> = model.inputs();
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
            let tolerance = Tolerance::of(DType::F32).times(10.0);
            compare(data, expected, tolerance).map_err(|e| format!("call {call}, output {i}: {e}"))?;
        }
        call += 1;
    }
}

#[test]
fn the_path_is_that_of_mindspore() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control_flow");
    let mut wrong = Vec::new();
    let mut calls = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "mindir") {
            match check(&path) {
                Ok(n) => calls += n,
                Err(reason) => wrong.push(format!("{}: {reason}", path.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(calls >= 40, "{calls}");
}

/// What follows an `if` stands once in the graph, not once on each way.
#[test]
fn ways_meet_again() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control_flow/manyifs.mindir");
    let mut context = Context::new();
    context.ranks = Ranks::Alone;
    let model = Model::build_from_file(path, ModelType::MindIr, &context).unwrap();
    let branches = model.graph().nodes_within().filter(|(_, node)| matches!(node.op, Op::If(_))).count();
    assert_eq!(branches, 12);
}
