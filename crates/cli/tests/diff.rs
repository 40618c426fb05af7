//! What `mslite diff` finds, and its exit status.
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use mslite_mindir::{
    Attributes, DataType, GraphBuilder, Model, ModelBuilder, OpenOptions, Primitive, PrimitiveKind,
    SaveOptions, Symbol, Type, Value,
};
use serde_json::{Value as Json, json};
use support::{errors, models, mslite};

fn diff(a: &Path, b: &Path, further: &[&str]) -> Output {
    mslite().arg("diff").arg(a).arg(b).args(further).output().unwrap()
}

fn differences(a: &Path, b: &Path) -> Json {
    let output = diff(a, b, &["--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models").join(name)
}

#[test]
fn a_model_is_equal_to_itself() {
    let path = example("matmul_row_tp2/rank0.mindir");
    let output = diff(&path, &path, &[]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{}", errors(&output));
    let output = diff(&path, &path, &["--json"]);
    let json: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &json["equal"]), (Some(0), &json!(true)));
}

#[test]
fn every_model_is_equal_to_itself() {
    let Ok(folders) = std::fs::read_dir(models().join("dev")) else {
        println!("skipped: no models beside the checkout");
        return;
    };
    for folder in folders.map(|folder| folder.unwrap().path()).filter(|folder| !folder.ends_with("w_enc_gcm"))
    {
        for name in ["model.mindir", "rank0.mindir"] {
            let path = folder.join(name);
            if path.exists() {
                let output = diff(&path, &path, &[]);
                assert_eq!(output.status.code(), Some(0), "{}: {}", path.display(), errors(&output));
            }
        }
    }
}

/// `w` is 24x16 in the whole model and 12x16 in a slice, which has an AllReduce besides.
#[test]
fn a_slice_differs_from_the_whole() {
    let (whole, slice) = (example("matmul_row_tp2/model.mindir"), example("matmul_row_tp2/rank0.mindir"));
    let found = differences(&whole, &slice);
    let operators = found["operators"].as_array().unwrap();
    assert!(operators.contains(&json!({ "operator": "AllReduce", "a": 0, "b": 1 })), "{found}");
    let changed = &found["changed_parameters"][0];
    assert_eq!((&changed["a"], &changed["b"]), (&json!("f32[24, 16]"), &json!("f32[12, 16]")), "{found}");
    let nodes = found["nodes"]["only_b"].as_array().unwrap();
    assert!(nodes.iter().any(|node| node.as_str().unwrap().contains("AllReduce")), "{found}");
}

/// The file with its one weight changed: elements 5 and 7 by 0.5 and 2.
fn changed_copy(path: &Path, folder: &Path) -> PathBuf {
    let mut bytes = std::fs::read(path).unwrap();
    let model = Model::open(path, &OpenOptions::new()).unwrap();
    let weight = &model.graph.parameters[0].data.data;
    let start = bytes.windows(weight.len()).position(|window| window == &weight[..]).unwrap();
    for (element, by) in [(5, 0.5f32), (7, -2.0)] {
        let at = start + 4 * element;
        let value = f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        bytes[at..at + 4].copy_from_slice(&(value + by).to_le_bytes());
    }
    let copy = folder.join("changed.mindir");
    std::fs::write(&copy, bytes).unwrap();
    copy
}

#[test]
fn changed_weights_are_counted_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = example("matmul_row_tp2/model.mindir");
    let copy = changed_copy(&path, folder.path());
    let found = differences(&path, &copy);
    let value = &found["values"][0];
    assert_eq!((&value["elements"], &value["differing"]), (&json!(24 * 16), &json!(2)));
    assert!((value["max_abs"].as_f64().unwrap() - 2.0).abs() < 1e-6, "{value}");
    for list in ["header", "inputs", "outputs", "operators", "changed_nodes", "changed_parameters"] {
        assert_eq!(found[list], json!([]), "{list}");
    }
    let text = String::from_utf8(diff(&path, &copy, &[]).stdout).unwrap();
    assert!(text.contains("2 of 384 elements, at most 2.000e0") && !text.contains('\u{1b}'), "{text}");
    assert_eq!(diff(&path, &copy, &["--structure"]).status.code(), Some(0));
}

#[test]
fn changed_attributes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = example("matmul_row_tp2/rank0.mindir");
    let mut bytes = std::fs::read(&path).unwrap();
    let group = b"hccl_world_group";
    let places: Vec<usize> =
        (0..bytes.len() - group.len()).filter(|&at| bytes[at..].starts_with(group)).collect();
    places.iter().for_each(|&at| bytes[at..at + group.len()].copy_from_slice(b"other_world_team"));
    let copy = folder.path().join("other.mindir");
    std::fs::write(&copy, bytes).unwrap();
    let found = differences(&path, &copy);
    let changes = found["changed_nodes"][0]["changes"].as_array().unwrap();
    let expected =
        json!({ "what": "attribute group", "a": "\"hccl_world_group\"", "b": "\"other_world_team\"" });
    assert!(changes.contains(&expected), "{found}");
}

#[test]
fn encryption_and_layout_are_no_difference() {
    let folder = models().join("format/by_version");
    if !folder.exists() {
        println!("skipped: no models beside the checkout");
        return;
    }
    let (plain, encrypted) = (folder.join("mlp_2.10.0.mindir"), folder.join("mlp_2.10.0_gcm.mindir"));
    let output = diff(&plain, &encrypted, &["--structure", "--key", "0123456789abcdef"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let output = diff(&plain, &encrypted, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("give the key"));
}

#[test]
fn trouble_is_told_from_a_difference() {
    let output = diff(&example("matmul_row_tp2/model.mindir"), Path::new("absent.mindir"), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).starts_with("error: ") && errors(&output).contains("absent.mindir"));
}

/// Writes a model with two functions, whose entry graph has the input `x` and the output that `body` returns.
fn written(path: &Path, info: &str, body: impl Fn(&mut GraphBuilder<'_>, Symbol) -> Symbol) {
    let mut builder = ModelBuilder::new("net");
    for (name, operator) in [("first", "Abs"), ("second", "Neg")] {
        let mut function = builder.function(name);
        let x = function.input("x", ty());
        let y = apply(&mut function, operator, &x);
        function.output(&y, Some(ty()));
    }
    builder.user_info("author", info);
    let mut graph = builder.entry();
    let x = graph.input("x", ty());
    let y = body(&mut graph, x);
    graph.output(&y, Some(ty()));
    builder.finish().unwrap().save(path, &SaveOptions::new()).unwrap();
}

fn ty() -> Type {
    Type::tensor(DataType::Float32, [2])
}

fn apply(graph: &mut GraphBuilder<'_>, operator: &str, x: &Symbol) -> Symbol {
    let primitive = Primitive::new(operator, PrimitiveKind::Function, Attributes::default());
    graph.apply(&primitive, std::slice::from_ref(x), Some(ty()))
}

#[test]
fn outputs_are_compared_by_their_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let nodes = |graph: &mut GraphBuilder<'_>, x: Symbol| (apply(graph, "Exp", &x), apply(graph, "Log", &x));
    written(&at("a"), "me", |graph, x| nodes(graph, x).0);
    written(&at("b"), "me", |graph, x| nodes(graph, x).1);
    written(&at("renumbered"), "me", |graph, x| {
        graph.constant(Value::Bool(true));
        nodes(graph, x).0
    });
    let found = differences(&at("a"), &at("b"));
    assert_eq!(found["outputs"], json!([{ "what": "output 0", "a": "Exp", "b": "Log" }]), "{found}");
    let output = diff(&at("a"), &at("renumbered"), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn called_functions_and_user_info_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let calls = |graph: &mut GraphBuilder<'_>, x: Symbol, called: usize| {
        let functions = ["first", "second"].map(|name| graph.constant(Value::Function(name.into())));
        let chosen = functions.map(|function| apply(graph, "Identity", &function));
        graph.call_closure(&chosen[called], &[x], Some(ty()))
    };
    written(&at("a"), "me", |graph, x| calls(graph, x, 0));
    written(&at("b"), "you", |graph, x| calls(graph, x, 1));
    let found = differences(&at("a"), &at("b"));
    let changes = json!([{ "node": "call", "changes": [{ "what": "called function", "a": "Identity", "b": "Identity #2" }] }]);
    assert_eq!(found["changed_nodes"], changes, "{found}");
    assert_eq!(found["header"], json!([{ "what": "user info author", "a": "me", "b": "you" }]));
}
