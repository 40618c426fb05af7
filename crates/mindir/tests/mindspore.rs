//! MindSpore loads what is written, and computes the same.
//!
//! `MSLITE_PYTHON` names a Python that has MindSpore; by default `python3` is tried. Without MindSpore nothing is
//! tested. `MSLITE_STRIDE=n` takes every n-th model of the corpus only.
#![allow(clippy::print_stdout, reason = "tests say what they skip, and how many models ran")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use mslite_mindir::{
    Attributes, DataType, Key, Layout, Mode, Model, ModelBuilder, OpenOptions, Primitive, PrimitiveKind,
    SaveOptions, Type, Value,
};
use mslite_tensor::Tensor;
use serde_json::{Value as Json, json};

const KEY: &str = "0123456789abcdef";

/// A Python that can import MindSpore.
fn python() -> Option<PathBuf> {
    let python = PathBuf::from(env::var_os("MSLITE_PYTHON").unwrap_or("python3".into()));
    let imports = Command::new(&python).args(["-c", "import mindspore"]).output();
    if imports.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    println!("{} cannot import mindspore: nothing is tested", python.display());
    None
}

/// Runs the models of `cases`, none of which may fail; how many passed.
fn run(python: &Path, folder: &Path, cases: &[Json]) -> usize {
    let list = folder.join("cases.json");
    fs::write(&list, serde_json::to_vec(cases).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/run_models.py");
    let output = Command::new(python).arg(script).arg(&list).current_dir(folder).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let results: Vec<Json> =
        stdout.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("RESULT ")?).ok()).collect();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(results.len(), cases.len(), "the script ended early: {stderr}");
    let with = |outcome: &str| {
        let results = results.iter().filter(|result| result["outcome"] == outcome);
        results.map(|result| format!("{}: {}", result["name"], result["error"])).collect::<Vec<_>>()
    };
    let (passed, skipped, failed) = (with("passed"), with("skipped"), with("failed"));
    println!("{} passed, {} skipped, {} failed", passed.len(), skipped.len(), failed.len());
    println!("skipped, since the original does not run:\n{}", skipped.join("\n"));
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    passed.len()
}

/// The layouts and encryptions, in turn.
fn save_options(i: usize) -> (SaveOptions, Option<Mode>) {
    let layout = if i.is_multiple_of(2) { Layout::Single } else { Layout::SPLIT };
    let mode = [None, Some(Mode::AesGcm), None, Some(Mode::AesCbc), None, Some(Mode::Sm4Cbc)][i / 2 % 6];
    let options = SaveOptions::new().layout(layout);
    match mode {
        Some(mode) => (options.encrypt(mode, Key::new(KEY)), Some(mode)),
        None => (options, None),
    }
}

/// Writes a model in the i-th way and describes it for the script.
fn case(model: &Model, name: &str, npz: &Path, dtypes: &[&str], folder: &Path, i: usize) -> Json {
    let (options, mode) = save_options(i);
    let file = model.save(folder.join(format!("m{i}.mindir")), &options).unwrap().graph;
    json!({
        "name": format!("{name} {:?} {mode:?}", options.layout), "file": file, "original": null, "npz": npz, "dtypes": dtypes,
        "key": KEY, "mode": mode.map(Mode::name),
    })
}

#[test]
fn models_of_the_corpus_compute_the_same() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models/format");
    if !corpus.exists() {
        println!("{} is not there: nothing is tested", corpus.display());
        return;
    }
    let Some(python) = python() else { return };
    let stride = env::var("MSLITE_STRIDE").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let index: Json = serde_json::from_slice(&fs::read(corpus.join("index.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut cases = Vec::new();
    for (i, entry) in index.as_array().unwrap().iter().enumerate().step_by(stride) {
        let Some(inputs) = entry["inputs"].as_array() else { continue };
        let file = entry["file"].as_str().unwrap();
        // Collectives need as many processes as ranks.
        let alone = !file.starts_with("distributed/") && inputs.iter().all(|input| input["dims"].is_array());
        let Some(npz) = entry["npz"].as_str().filter(|_| alone) else { continue };
        let Ok(model) = Model::open(corpus.join(file), &OpenOptions::new()) else { continue };
        let dtypes: Vec<_> = inputs.iter().map(|input| input["dtype"].as_str().unwrap_or_default()).collect();
        let mut case = case(&model, file, &corpus.join(npz), &dtypes, folder.path(), i);
        case["original"] = json!(corpus.join(file));
        cases.push(case);
    }
    assert!(run(&python, folder.path(), &cases) >= 30 / stride);
}

fn attributes(op_type: &str, values: &[(&str, Value)]) -> Attributes {
    Attributes::new(op_type, values.iter().map(|(name, value)| ((*name).into(), value.clone())))
}

/// A primitive that takes its options as operands.
fn function(op_type: &str) -> Primitive {
    Primitive::new(op_type, PrimitiveKind::Function, attributes(op_type, &[]))
}

fn f32s(dims: &[usize], value: impl Fn(usize) -> f32) -> Tensor {
    Tensor::from_vec((0..dims.iter().product()).map(value).collect(), dims).unwrap()
}

/// Softmax(ReLU(x w1 + b1) w2 + b2), and the result for x.
fn mlp(inputs: usize, hidden: usize, outputs: usize) -> (Model, Vec<(Tensor, Tensor)>) {
    let w1 = f32s(&[inputs, hidden], |i| ((i * 7 % 11) as f32 - 5.0) / 10.0);
    let b1 = f32s(&[hidden], |i| i as f32 / 10.0);
    let w2 = f32s(&[hidden, outputs], |i| ((i * 5 % 13) as f32 - 6.0) / 10.0);
    let x = f32s(&[2, inputs], |i| ((i * 3 % 7) as f32 - 3.0) / 3.0);

    let mut model = ModelBuilder::new("mlp");
    let mut graph = model.entry();
    let ty = |columns: usize| Some(Type::tensor(DataType::Float32, [2, columns as i64]));
    let input = graph.input("x", Type::tensor(DataType::Float32, [2, inputs as i64]));
    let no = graph.constant(false);
    let axis = graph.constant(&[-1i64][..]);
    let p1 = graph.parameter("fc1.weight", w1.clone());
    let p2 = graph.parameter("fc1.bias", b1.clone());
    let p3 = graph.parameter("fc2.weight", w2.clone());
    let h = graph.apply(&function("MatMul"), &[input, p1, no.clone(), no.clone()], ty(hidden));
    let h = graph.apply(&function("Add"), &[h, p2], ty(hidden));
    let h = graph.apply(&function("ReLU"), &[h], ty(hidden));
    let y = graph.apply(&function("MatMul"), &[h, p3, no.clone(), no], ty(outputs));
    let y = graph.apply(&function("Softmax"), &[y, axis], ty(outputs));
    graph.output(&y, ty(outputs));

    let hidden_row = |row: usize| -> Vec<f32> {
        let dot = |j: usize| -> f32 {
            (0..inputs).map(|k| at(&x, row * inputs + k) * at(&w1, k * hidden + j)).sum()
        };
        (0..hidden).map(|j| (dot(j) + at(&b1, j)).max(0.0)).collect()
    };
    let y = (0..2).flat_map(|row| {
        let h = hidden_row(row);
        let dot = |j: usize| -> f32 { (0..hidden).map(|k| h[k] * at(&w2, k * outputs + j)).sum() };
        let exp: Vec<f32> = (0..outputs).map(|j| dot(j).exp()).collect();
        let sum: f32 = exp.iter().sum();
        exp.into_iter().map(move |value| value / sum)
    });
    let y = Tensor::from_vec(y.collect(), &[2, outputs]).unwrap();
    (model.finish().unwrap(), vec![(x, y)])
}

fn at(tensor: &Tensor, i: usize) -> f32 {
    tensor.as_slice::<f32>().unwrap()[i]
}

/// `if sum(x) > 0 { 2 x } else { -x }`, with both branches as functions, and a tuple for the result.
fn branches() -> (Model, Vec<(Tensor, Tensor)>) {
    let ty = || Some(Type::tensor(DataType::Float32, [3]));
    let mut model = ModelBuilder::new("branches");
    let mut function_of = |name: &str, op: &str, factor: Option<f32>| {
        let mut graph = model.function(name);
        let x = graph.input("x", ty().unwrap());
        let mut operands = vec![x];
        operands.extend(factor.map(|factor| graph.constant(Tensor::scalar(factor))));
        let y = graph.apply(&function(op), &operands, ty());
        graph.output(&y, ty());
        graph.name()
    };
    let twice = function_of("twice", "Mul", Some(2.0));
    let negated = function_of("negated", "Neg", None);
    let mut graph = model.entry();
    let x = graph.input("x", ty().unwrap());
    let (all, no, zero) =
        (graph.constant(Value::Tuple(vec![])), graph.constant(false), graph.constant(Tensor::scalar(0.0f32)));
    let sum = graph.apply(
        &function("ReduceSum"),
        &[x.clone(), all, no.clone(), no],
        Some(Type::tensor(DataType::Float32, [])),
    );
    let positive = graph.apply(&function("Greater"), &[sum, zero], Some(Type::tensor(DataType::Bool, [])));
    let switch = Primitive::new("Switch", PrimitiveKind::Attribute, attributes("Switch", &[]));
    let partial = Primitive::new("Partial", PrimitiveKind::Attribute, attributes("Partial", &[]));
    let closures = [twice, negated].map(|name| {
        let ty = Some(Type::Function(name.clone()));
        graph.apply(&partial, &[name, x.clone()], ty)
    });
    let [yes, otherwise] = closures;
    let chosen = graph.apply(&switch, &[positive, yes, otherwise], None);
    let y = graph.call_closure(&chosen, &[], ty());
    graph.output(&y, ty());
    let case = |x: [f32; 3], factor: f32| {
        let tensor = |values: [f32; 3]| Tensor::from_vec(values.to_vec(), &[3]).unwrap();
        (tensor(x), tensor(x.map(|value| value * factor)))
    };
    (model.finish().unwrap(), vec![case([1.0, -2.0, 4.0], 2.0), case([1.0, -5.0, 2.0], -1.0)])
}

/// A function that is called twice, constants of several kinds, and options that are attributes.
fn calls() -> (Model, Vec<(Tensor, Tensor)>) {
    let ty = |dims: &[i64]| Some(Type::tensor(DataType::Float32, dims));
    let mut model = ModelBuilder::new("calls");
    let mut graph = model.function("square");
    let x = graph.input("x", ty(&[2, 3]).unwrap());
    let y = graph.apply(&function("Mul"), &[x.clone(), x], ty(&[2, 3]));
    graph.output(&y, ty(&[2, 3]));
    let square = graph.name();
    let mut graph = model.entry();
    let x = graph.input("x", ty(&[2, 3]).unwrap());
    let once = graph.call(&square, &[x], ty(&[2, 3]));
    let again = graph.call(&square, &[once], ty(&[2, 3]));
    let perm = graph.constant(&[1i64, 0][..]);
    let turned = graph.apply(&function("Transpose"), &[again, perm], ty(&[3, 2]));
    let shape = graph.constant(&[6i64][..]);
    let flat = graph.apply(&function("Reshape"), &[turned, shape], ty(&[6]));
    graph.output(&flat, ty(&[6]));
    let x = f32s(&[2, 3], |i| i as f32 / 2.0);
    let y = f32s(&[6], |i| at(&x, i % 2 * 3 + i / 2).powi(4));
    (model.finish().unwrap(), vec![(x, y)])
}

#[test]
fn built_models_compute_what_they_should() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let models =
        [("mlp", mlp(4, 8, 3)), ("wide mlp", mlp(16, 32, 10)), ("branches", branches()), ("calls", calls())];
    let mut cases = Vec::new();
    for (name, (model, runs)) in &models {
        for (x, y) in runs {
            let npz = folder.path().join(format!("{}.npz", cases.len()));
            mslite_tensor::npz::write(&npz, [("in_0".to_owned(), x), ("out_0".to_owned(), y)]).unwrap();
            // Single, split, and each encryption.
            for _ in 0..12 {
                cases.push(case(model, name, &npz, &["FLOAT"], folder.path(), cases.len()));
            }
        }
    }
    assert_eq!(run(&python, folder.path(), &cases), cases.len());
}
