//! MindSpore loads optimised models, and computes the same.
//!
//! `MSLITE_PYTHON` names a Python that has MindSpore; by default `python3` is tried. Without MindSpore nothing is
//! tested. `MSLITE_STRIDE=n` takes every n-th model only.
#![allow(clippy::print_stderr, reason = "tests say what they skip, and how many models ran")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use common::corpus::{Entry, entries};
use common::models;
use common::rewrite::{rewrite, rewrite_file};
use mslite::Level;
use mslite_mindir::{DataType, Model, Node, OpenOptions, Type};
use mslite_tensor::npz;
use serde_json::{Value as Json, json};

/// Models that MindSpore does not run as they are written, and why. One that it runs after all fails the test.
const NOT_RUN: &[(&str, &str)] = &[(
    "format/mutable_scalar_in",
    "a number among the inputs is a tensor of rank 0 afterwards, of the type that it had",
)];

/// A Python that can import MindSpore.
fn python() -> Option<PathBuf> {
    let python = PathBuf::from(env::var_os("MSLITE_PYTHON").unwrap_or("python3".into()));
    let imports = Command::new(&python).args(["-c", "import mindspore"]).output();
    if imports.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    eprintln!("{} cannot import mindspore: nothing is tested", python.display());
    None
}

#[test]
fn mindspore_runs_what_is_written() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let stride = env::var("MSLITE_STRIDE").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let cases: Vec<Json> = cases(folder.path()).into_iter().step_by(stride).collect();
    let results = run(&python, folder.path(), &cases);
    let (mut passed, mut skipped, mut wrong) = (0, 0, Vec::new());
    for result in &results {
        let (name, error) = (result["name"].as_str().unwrap(), &result["error"]);
        let known = NOT_RUN.iter().find(|(listed, _)| *listed == name);
        match (result["outcome"].as_str(), known) {
            (Some("passed"), None) => passed += 1,
            (Some("skipped"), _) => skipped += 1,
            (Some("passed"), Some(_)) => wrong.push(format!("{name}: it runs; take it off the table")),
            (_, None) => wrong.push(format!("{name}: {error}")),
            (_, Some((_, why))) => eprintln!("{name}: {why}"),
        }
    }
    eprintln!("{passed} of {}; of {skipped} MindSpore does not run the original", cases.len());
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// An optimised model with its calls, as the script takes it. Collectives need as many processes as ranks.
fn case(entry: &Entry, i: usize, folder: &Path) -> Option<Json> {
    let [files] = &entry.ranks[..] else { return None };
    let to = folder.join(format!("model{i}.mindir"));
    let is_complete = !files.takes_nothing && !files.calls.is_empty();
    rewrite(files, Level::O2, &to).ok().filter(|()| is_complete)?;
    let archives = files.calls.iter().enumerate().map(|(call, (inputs, outputs))| {
        let archive = folder.join(format!("model{i}_{call}.npz"));
        let inputs = npz::read_numbered(inputs, "in_").ok()?;
        let outputs = npz::read_numbered(outputs, "out_").ok()?;
        let inputs = inputs.iter().enumerate().map(|(i, data)| (format!("in_{i}"), data));
        let outputs = outputs.iter().enumerate().map(|(i, data)| (format!("out_{i}"), data));
        npz::write(&archive, inputs.chain(outputs)).ok()?;
        Some(archive)
    });
    let archives: Vec<PathBuf> = archives.collect::<Option<_>>()?;
    let original = files.key.is_none().then(|| files.model.clone());
    Some(json!({
        "name": entry.name, "file": to, "original": original, "npz": archives,
        "dtypes": input_types(&to)?, "narrow": is_narrow(&to), "key": "", "mode": null,
    }))
}

/// The networks of a folder beside the tests, with their calls.
fn network(path: &Path, folder: &Path) -> Option<Json> {
    let name = path.file_stem()?.to_str()?;
    let to = folder.join(format!("{name}.mindir"));
    rewrite_file(path, &OpenOptions::new(), Level::O2, &to).ok()?;
    let all = npz::read(path.with_extension("npz")).ok()?;
    let mut archives = Vec::new();
    for call in 0.. {
        let arrays = |prefix: &str| {
            let named = format!("{prefix}_{call}_");
            let arrays = all.iter().filter_map(move |(name, data)| Some((name.strip_prefix(&named)?, data)));
            arrays.map(|(number, data)| (format!("{prefix}_{number}"), data)).collect::<Vec<_>>()
        };
        let (inputs, outputs) = (arrays("in"), arrays("out"));
        if inputs.is_empty() {
            break;
        }
        let archive = folder.join(format!("{name}_{call}.npz"));
        npz::write(&archive, inputs.into_iter().chain(outputs)).ok()?;
        archives.push(archive);
    }
    Some(json!({
        "name": name, "file": to, "original": path, "npz": archives,
        "dtypes": input_types(&to)?, "narrow": is_narrow(&to), "key": "", "mode": null,
    }))
}

/// Everything there is.
fn cases(folder: &Path) -> Vec<Json> {
    let entries = models().map(|models| entries(&models)).unwrap_or_default();
    let mut cases: Vec<Json> =
        entries.iter().enumerate().filter_map(|(i, entry)| case(entry, i, folder)).collect();
    for name in ["control_flow", "primitives", "data_extents"] {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
        let paths = fs::read_dir(tests).unwrap().map(|entry| entry.unwrap().path());
        let networks = paths.filter(|path| path.extension().is_some_and(|extension| extension == "mindir"));
        cases.extend(networks.filter_map(|path| network(&path, folder)));
    }
    cases
}

/// Element types of the inputs, as the script knows them.
fn input_types(model: &Path) -> Option<Vec<&'static str>> {
    let model = Model::open(model, &OpenOptions::new()).ok()?;
    let name = |ty: &Option<Type>| match ty.as_ref()?.as_tensor()?.dtype {
        DataType::Bfloat16 => Some("BFLOAT16"),
        _ => Some(""),
    };
    model.graph.inputs.iter().map(|input| name(&input.ty)).collect()
}

/// Whether a model computes in 16 bits somewhere.
fn is_narrow(model: &Path) -> bool {
    let model = Model::open(model, &OpenOptions::new()).unwrap();
    let dtype = |node: &Node| Some(node.ty.as_ref()?.as_tensor()?.dtype);
    let mut dtypes = model.graph.nodes.iter().filter_map(dtype);
    dtypes.any(|dtype| matches!(dtype, DataType::Float16 | DataType::Bfloat16))
}

fn run(python: &Path, folder: &Path, cases: &[Json]) -> Vec<Json> {
    let list = folder.join("cases.json");
    fs::write(&list, serde_json::to_vec(cases).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mindir/tests/scripts/run_models.py");
    let output = Command::new(python).arg(script).arg(&list).current_dir(folder).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let results: Vec<Json> =
        stdout.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("RESULT ")?).ok()).collect();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(results.len(), cases.len(), "the script ended early: {stderr}");
    results
}
