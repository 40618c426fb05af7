//! Imports real models and compares with what MindSpore computed for them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use mslite_graph_opt::{Error, Graph, ImportOptions, Op, import, ir, specialise};
use mslite_mindir::{Model, OpenOptions};
use serde_json::Value as Json;

fn models() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    if !path.is_dir() {
        println!("skipped: there is no {}", path.display());
        return None;
    }
    Some(path)
}

/// Name, extents and numpy type of an array.
type Array = (String, Vec<usize>, String);

/// The arrays of an archive whose names begin with a prefix and a number, in the order of the numbers.
fn arrays(path: &Path, prefix: &str) -> Vec<Array> {
    let mut archive = npyz::npz::NpzArchive::new(File::open(path).unwrap()).unwrap();
    let mut found = Vec::new();
    for i in 0.. {
        let name = format!("{prefix}_{i}");
        let Some(array) = archive.by_name(&name).unwrap() else { return found };
        let shape = array.shape().iter().map(|&n| usize::try_from(n).unwrap()).collect();
        found.push((name, shape, array.dtype().descr()));
    }
    found
}

/// How numpy stores an element type; bfloat16 is stored as float32.
fn numpy_name(dtype: mslite_tensor::DType) -> &'static str {
    use mslite_tensor::DType as D;
    match dtype {
        D::Bool => "'|b1'",
        D::I8 => "'|i1'",
        D::I16 => "'<i2'",
        D::I32 => "'<i4'",
        D::I64 => "'<i8'",
        D::U8 => "'|u1'",
        D::U16 => "'<u2'",
        D::U32 => "'<u4'",
        D::U64 => "'<u8'",
        D::F16 => "'<f2'",
        D::BF16 | D::F32 => "'<f4'",
        D::F64 => "'<f8'",
        D::C64 => "'<c8'",
        D::C128 => "'<c16'",
        other => panic!("{other} is new"),
    }
}

fn open(path: &Path) -> Option<Model> {
    Model::open(path, &OpenOptions::new()).map_err(|error| println!("{}: {error}", path.display())).ok()
}

/// Imports, verifies, and compares outputs after specialisation with arrays; the difference, if there is one.
fn check(model: &Model, inputs: &[Array], outputs: &[Array]) -> Result<Graph, String> {
    let graph = import(model, &ImportOptions::default()).map_err(|error| error.to_string())?;
    ir::verify(&graph).map_err(|error| error.to_string())?;
    let dims: Vec<&[usize]> = inputs.iter().map(|(_, dims, _)| dims.as_slice()).collect();
    let graph = specialise(&graph, &dims).map_err(|error| error.to_string())?;
    ir::verify(&graph).map_err(|error| error.to_string())?;
    let actual: Vec<(Option<Vec<usize>>, &str)> = graph
        .outputs()
        .iter()
        .map(|port| graph.spec(port.value))
        .map(|spec| (spec.shape.as_fixed().map(|dims| dims.to_vec()), numpy_name(spec.dtype)))
        .collect();
    let expected: Vec<(Option<Vec<usize>>, &str)> =
        outputs.iter().map(|(_, dims, dtype)| (Some(dims.clone()), dtype.as_str())).collect();
    if actual == expected { Ok(graph) } else { Err(format!("outputs {actual:?}, not {expected:?}")) }
}

/// The models of a case: one file, or one per rank.
fn case_models(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "mindir"))
        .collect();
    paths.sort();
    paths
}

const CONTROL_FLOW: &[&str] = &["w_if", "w_while"];

#[test]
fn development_models_import_with_the_outputs_of_mindspore() {
    let Some(models) = models() else { return };
    let mut failures = Vec::new();
    for entry in fs::read_dir(models.join("dev")).unwrap() {
        let folder = entry.unwrap().path();
        let case = folder.file_name().unwrap().to_string_lossy().into_owned();
        if CONTROL_FLOW.contains(&&*case) || case.contains("enc") {
            continue;
        }
        let (inputs, outputs) =
            (arrays(&folder.join("inputs.npz"), "in"), arrays(&folder.join("outputs.npz"), "out"));
        for path in case_models(&folder) {
            let model = Model::open(&path, &OpenOptions::new()).unwrap();
            if let Err(error) = check(&model, &inputs, &outputs) {
                failures.push(format!("{case} {}: {error}", path.file_name().unwrap().display()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn control_flow_names_its_place() {
    let Some(models) = models() else { return };
    for case in CONTROL_FLOW {
        let model = open(&models.join("dev").join(case).join("model.mindir")).unwrap();
        let error = import(&model, &ImportOptions::default()).unwrap_err();
        assert!(matches!(&error, Error::Unsupported { origin, .. } if !origin.is_empty()), "{case}: {error}");
    }
}

#[test]
fn format_models_import_with_the_outputs_of_mindspore() {
    let Some(models) = models() else { return };
    let format = models.join("format");
    let index: Json = serde_json::from_slice(&fs::read(format.join("index.json")).unwrap()).unwrap();
    let mut failures = Vec::new();
    for case in index.as_array().unwrap() {
        let file = case["file"].as_str().unwrap();
        let npz = case["npz"].as_str().map(|npz| format.join(npz)).filter(|npz| npz.is_file());
        let (Some(npz), Some(model)) = (npz, open(&format.join(file))) else { continue };
        if let Err(error) = check(&model, &arrays(&npz, "in"), &arrays(&npz, "out")) {
            failures.push(format!("{file}: {error}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Prints what is carried verbatim and what is refused; run with `--ignored --nocapture`.
#[test]
#[ignore = "a report, not a check"]
fn report_of_what_is_not_known() {
    let Some(models) = models() else { return };
    for path in walk(&models) {
        let Some(model) = open(&path) else { continue };
        let name = path.strip_prefix(&models).unwrap().display();
        match import(&model, &ImportOptions::default()) {
            Err(error) => println!("{name}: {error}"),
            Ok(graph) => {
                for (_, node) in graph.nodes() {
                    if let Op::Opaque(opaque) = &node.op {
                        println!("{name}: {} is carried verbatim", opaque.primitive);
                    }
                }
            }
        }
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths.extend(walk(&path));
        } else if path.extension().is_some_and(|extension| extension == "mindir") {
            paths.push(path);
        }
    }
    paths.sort();
    paths
}
