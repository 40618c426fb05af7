//! Every real file of the corpus, built and run, held against the outputs stored beside it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mslite::{BuildOptions, Context, DType, Key, Model, ModelType, Ranks, Tensor, World};
use mslite_tensor::{Tensor as Data, npz};
use mslite_testkit::{Tolerance, compare};
use serde_json::Value;

/// Files that do not run, and why. One that runs after all fails the test.
const NOT_YET: &[(&str, &str)] = &[
    ("const_out", "an output is a text, which MindSpore gives to Python, and no tensor holds"),
    // std::nth_element and std::sort by value alone leave them at the stored places; MindSpore promises no order.
    (
        "detection_post",
        "TopK of equal elements: MindSpore's order follows from its C++ library, ours from the index",
    ),
    // Its own results differ from run to run: zeros, or what was in memory.
    ("ops/BatchNormPrim", "MindSpore leaves two of its five results unset when it trains"),
    ("ops/CTCGreedy", "the extents of its results follow from data"),
    // MindSpore adds in place, so that the archive's input is the one after the run, equal to its output.
    ("ops/IndexAdd", "MindSpore changed the stored input, which has the sum already"),
    ("ops/PagedAttention", "its query is half as wide as its heads; MindSpore exported, but cannot run it"),
    ("ops/Unique", "the extents of its result follow from data"),
];

/// Keys of the encrypted files; the others have the first.
const KEYS: &[(&str, &str)] = &[
    ("", "0123456789abcdef"),
    ("split/enc_aes_cbc_graph", "0123456789abcdef01234567"),
    ("lite_converter/mlp_encrypted", "0123456789ABCDEF"),
];

/// A model with all its ranks.
struct Case {
    name: String,
    ranks: Vec<Files>,
}

struct Files {
    model: PathBuf,
    arrays: Option<PathBuf>,
    key: Option<Key>,
    /// The export kept no input; what the archive has was constant.
    takes_nothing: bool,
}

#[test]
#[allow(clippy::print_stderr, reason = "says what was not tested, and why")]
fn real_files_give_the_outputs_of_mindspore() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models/format");
    let Ok(index) = std::fs::read_to_string(folder.join("index.json")) else {
        eprintln!("skipped: there is no corpus in {}", folder.display());
        return;
    };
    let cases = cases(&folder, &serde_json::from_str(&index).unwrap());
    let unknown = NOT_YET.iter().filter(|(name, _)| cases.iter().all(|case| case.name != *name));
    let mut wrong: Vec<String> = unknown.map(|(name, _)| format!("{name}: listed, but absent")).collect();
    let mut passed = 0;
    for case in &cases {
        let known = NOT_YET.iter().find(|(name, _)| *name == case.name);
        match (run(case), known) {
            (Ok(()), None) => passed += 1,
            (Err(reason), None) => wrong.push(format!("{}: {reason}", case.name)),
            (Ok(()), Some(_)) => wrong.push(format!("{}: it works; take it off the table", case.name)),
            (Err(reason), Some((_, why))) => eprintln!("{}: {why} ({reason})", case.name),
        }
    }
    eprintln!("{passed} of {} cases", cases.len());
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

fn cases(folder: &Path, index: &Value) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for entry in index.as_array().unwrap() {
        let file = entry["file"].as_str().unwrap();
        let stem = file.strip_suffix(".mindir").unwrap();
        let encrypted = entry["note"].as_str().is_some_and(|note| note.contains("encrypted"));
        let files = Files {
            model: folder.join(file),
            arrays: entry["npz"].as_str().map(|npz| folder.join(npz)),
            key: (encrypted || stem.ends_with("encrypted")).then(|| key(stem)),
            takes_nothing: entry["inputs"].as_array().is_some_and(Vec::is_empty),
        };
        match stem.split_once("_rank") {
            Some((name, "1")) => {
                let pair = cases.iter_mut().find(|case| case.name == name).unwrap();
                pair.ranks.push(files);
            }
            Some((name, _)) => cases.push(Case { name: name.to_owned(), ranks: vec![files] }),
            None => cases.push(Case { name: stem.to_owned(), ranks: vec![files] }),
        }
    }
    cases
}

fn key(stem: &str) -> Key {
    let (_, key) = KEYS.iter().find(|(name, _)| *name == stem).unwrap_or(&KEYS[0]);
    Key::new(key.as_bytes())
}

fn run(case: &Case) -> Result<(), String> {
    let [alone] = &case.ranks[..] else { return run_ranks(&case.ranks) };
    let mut context = Context::new();
    context.ranks = Ranks::Alone;
    run_one(alone, context)
}

fn run_ranks(ranks: &[Files]) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(text)?;
    let groups = folder.path().join("groups");
    std::fs::write(&groups, group_file()).map_err(text)?;
    let worlds = World::threads(ranks.len(), Duration::from_secs(20)).map_err(text)?;
    std::thread::scope(|scope| {
        let run = |(files, world): (_, World)| {
            let mut context = Context::new();
            context.cpu.thread_num = 1;
            context.group_info_file = Some(groups.clone());
            context.ranks = Ranks::World(Arc::new(world));
            scope.spawn(move || run_one(files, context))
        };
        let threads: Vec<_> = ranks.iter().zip(worlds).map(run).collect();
        let results: Vec<Result<(), String>> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        results.into_iter().collect()
    })
}

/// A `ParallelGroupMap` in which group "sub0" has ranks 0 and 1.
fn group_file() -> Vec<u8> {
    let ranks = [0x08, 0, 0x08, 1];
    let mut item = vec![0x0a, 4];
    item.extend(b"sub0");
    item.extend([0x12, ranks.len() as u8]);
    item.extend(ranks);
    [vec![0x0a, item.len() as u8], item].concat()
}

fn run_one(files: &Files, context: Context) -> Result<(), String> {
    let mut options = BuildOptions::default();
    options.key = files.key.clone();
    let model = Model::build_with(&files.model, ModelType::MindIr, &context, &options).map_err(text)?;
    let Some(arrays) = &files.arrays else { return Ok(()) };
    let mut given = npz::read_numbered(arrays, "in_").map_err(text)?;
    if files.takes_nothing {
        given.clear();
    }
    let expected = expected(arrays).map_err(text)?;
    let inputs = inputs(&model, given)?;
    let outputs = model.predict(&inputs).map_err(text)?;
    if expected.is_empty() {
        return Ok(());
    }
    if outputs.len() != expected.len() {
        return Err(format!("{} outputs, expected {}", outputs.len(), expected.len()));
    }
    let narrow = |dtype: DType| matches!(dtype, DType::F16 | DType::BF16);
    let narrows = model.graph().values().any(|(_, value)| narrow(value.spec.dtype));
    for (i, (output, expected)) in outputs.iter().zip(&expected).enumerate() {
        check(output, expected, narrows).map_err(|reason| format!("output {i}: {reason}"))?;
    }
    Ok(())
}

fn expected(arrays: &Path) -> io::Result<Vec<Data>> {
    npz::read_numbered(arrays, "out_")
}

/// The arrays as the model's inputs; numbers, which numpy has in 64 bits, in the type that the input has.
fn inputs(model: &Model, given: Vec<Data>) -> Result<Vec<Tensor>, String> {
    let mut inputs = model.inputs();
    if inputs.len() != given.len() {
        return Err(format!("{} inputs, given {}", inputs.len(), given.len()));
    }
    for (input, mut data) in inputs.iter_mut().zip(given) {
        if (input.dtype(), data.dtype(), data.dims()) == (DType::F32, DType::F64, &[][..]) {
            data = Data::scalar(data.to_vec::<f64>().map_err(text)?[0] as f32);
        }
        input.set_tensor(data).map_err(text)?;
    }
    Ok(inputs)
}

/// `narrows`: the model computes in 16 bits somewhere.
fn check(output: &Tensor, expected: &Data, narrows: bool) -> Result<(), String> {
    let data = output.data().ok_or("it has no data")?;
    // numpy lacks bfloat16.
    let stored = if data.dtype() == DType::BF16 { DType::F32 } else { data.dtype() };
    if stored != expected.dtype() {
        return Err(format!("it is {}, expected {}", data.dtype(), expected.dtype()));
    }
    let tolerance = match data.dtype() {
        dtype if !dtype.is_float() && !dtype.is_complex() => Tolerance::EXACT,
        _ if narrows => Tolerance { rtol: 2e-2, atol: 2e-3 },
        _ => Tolerance { rtol: 1e-4, atol: 1e-5 },
    };
    compare(data, expected, tolerance).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
