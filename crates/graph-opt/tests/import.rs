//! Imports real models and compares with what MindSpore computed for them.
#![allow(clippy::print_stdout, reason = "tests say what they skip")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mslite_collective::CollectiveKind;
use mslite_graph_opt::ir::op::Collective;
use mslite_graph_opt::{Graph, ImportOptions, Op, import, ir, specialise};
use mslite_mindir::{Model, OpenOptions};
use mslite_tensor::{DType, Tensor, TensorSpec, npz};
use serde_json::Value as Json;

fn models() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    if !path.is_dir() {
        println!("skipped: there is no {}", path.display());
        return None;
    }
    Some(path)
}

/// The types of the arrays `PREFIX_0`, `PREFIX_1`, ... of an archive.
fn arrays(path: &Path, prefix: &str) -> Vec<TensorSpec> {
    let tensors = npz::read_numbered(path, &format!("{prefix}_")).unwrap();
    tensors.iter().map(Tensor::spec).collect()
}

/// How numpy stores a type: it has no bfloat16.
fn stored(spec: &TensorSpec) -> TensorSpec {
    let dtype = if spec.dtype == DType::BF16 { DType::F32 } else { spec.dtype };
    TensorSpec::new(dtype, spec.shape.clone())
}

fn open(path: &Path) -> Option<Model> {
    Model::open(path, &OpenOptions::new()).map_err(|error| println!("{error}")).ok()
}

/// Imports, verifies, and compares outputs after specialisation with arrays; the difference, if there is one.
fn check(model: &Model, inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Result<Graph, String> {
    let graph = import(model, &ImportOptions::default()).map_err(|error| error.to_string())?;
    let dims: Vec<_> = inputs.iter().map(|spec| spec.shape.as_fixed().unwrap()).collect();
    let dims: Vec<&[usize]> = dims.iter().map(|dims| &dims[..]).collect();
    let graph = specialise(&graph, &dims).map_err(|error| error.to_string())?;
    ir::verify(&graph).map_err(|error| error.to_string())?;
    let actual: Vec<TensorSpec> = graph.outputs().iter().map(|port| stored(graph.spec(port.value))).collect();
    let text =
        |specs: &[TensorSpec]| specs.iter().map(|spec| spec.to_string()).collect::<Vec<_>>().join(", ");
    if actual == outputs {
        Ok(graph)
    } else {
        Err(format!("the outputs are {}, not {}", text(&actual), text(outputs)))
    }
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

#[test]
fn development_models_import_with_the_outputs_of_mindspore() {
    let Some(models) = models() else { return };
    let mut failures = Vec::new();
    for entry in fs::read_dir(models.join("dev")).unwrap() {
        let folder = entry.unwrap().path();
        let case = folder.file_name().unwrap().to_string_lossy().into_owned();
        if case.contains("enc") {
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

/// Files of the format corpus whose outputs cannot be compared, or that are refused, with part of the reason.
const REFUSED: &[(&str, &str)] = &[
    ("const_out.mindir", "it is a text"),
    // The export baked the inputs in.
    ("tuple_input.mindir", "the model takes 0"),
    // The length is known only when it has run.
    ("ops/CTCGreedy.mindir", "the outputs are"),
    ("ops/Unique.mindir", "the outputs are"),
    // Only rank 1 gets the result; MindSpore gives a dummy elsewhere.
    ("distributed/reduce_to1_rank0.mindir", "the outputs are"),
];

#[test]
fn format_models_import_with_the_outputs_of_mindspore() {
    let Some(models) = models() else { return };
    let format = models.join("format");
    let index: Json = serde_json::from_slice(&fs::read(format.join("index.json")).unwrap()).unwrap();
    let (mut failures, mut compared) = (Vec::new(), 0);
    for case in index.as_array().unwrap() {
        let file = case["file"].as_str().unwrap();
        let npz = case["npz"].as_str().map(|npz| format.join(npz)).filter(|npz| npz.is_file());
        let (Some(npz), Some(model)) = (npz, open(&format.join(file))) else { continue };
        // Numbers that are no tensors, and outputs that could not be computed, are not in the archive.
        let Ok(outputs) = npz::read_numbered(&npz, "out_") else { continue };
        let outputs: Vec<TensorSpec> = outputs.iter().map(Tensor::spec).collect();
        if outputs.is_empty() {
            import(&model, &ImportOptions::default()).unwrap();
            continue;
        }
        compared += 1;
        let outcome = check(&model, &arrays(&npz, "in"), &outputs);
        let refused = REFUSED.iter().find(|(name, _)| *name == file);
        match (outcome, refused) {
            (Ok(_), None) => {}
            (Err(error), Some((_, reason))) if error.contains(reason) => {}
            (Ok(_), Some(_)) => failures.push(format!("{file} imports, but is listed as refused")),
            (Err(error), _) => failures.push(format!("{file}: {error}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(compared > 200, "only {compared} files were compared");
}

#[test]
fn collectives_stand_in_the_order_of_the_file() {
    let Some(models) = models() else { return };
    for entry in fs::read_dir(models.join("dev")).unwrap() {
        let folder = entry.unwrap().path();
        let meta: Json = serde_json::from_slice(&fs::read(folder.join("meta.json")).unwrap()).unwrap();
        let Some(ranks) = meta["collectives"].as_object() else { continue };
        for (rank, expected) in ranks {
            let path = folder.join(format!("{rank}.mindir"));
            let graph = import(&open(&path).unwrap(), &ImportOptions::default()).unwrap();
            let in_file: Vec<&str> =
                collectives(&graph).iter().map(|collective| mindspore_name(collective)).collect();
            let mut total = BTreeMap::new();
            // One entry per difference in attributes; the count is that of the primitive.
            for entry in expected.as_array().unwrap() {
                let op = entry["op"].as_str().unwrap();
                total.insert(op, entry["count"].as_u64().unwrap() as usize);
                let ranks = entry["rank_list"].as_array().or(entry["group_rank_ids"].as_array());
                let ranks = ranks.map(|ranks| ranks.iter().map(|n| n.as_u64().unwrap() as usize).collect());
                let same = |collective: &Collective| {
                    mindspore_name(collective) == op
                        && Some(collective.op.group.as_str()) == entry["group"].as_str()
                        && collective.op.kind.reduction().map(|reduction| reduction.name())
                            == entry["reduce"].as_str()
                        && collective.ranks == ranks
                };
                assert!(collectives(&graph).iter().any(same), "{}: {entry}", path.display());
            }
            for (op, count) in &total {
                assert_eq!(
                    in_file.iter().filter(|name| name == &op).count(),
                    *count,
                    "{}: {op}",
                    path.display()
                );
            }
            assert_eq!(in_file, primitives(&open(&path).unwrap(), &in_file), "{}", path.display());
        }
    }
}

fn collectives(graph: &Graph) -> Vec<Collective> {
    let of = |op: &Op| match op {
        Op::Collective(collective) => Some(collective.clone()),
        _ => None,
    };
    graph.nodes().filter_map(|(_, node)| of(&node.op)).collect()
}

fn mindspore_name(collective: &Collective) -> &'static str {
    match collective.op.kind {
        CollectiveKind::AllReduce(_) => "AllReduce",
        CollectiveKind::AllGather => "AllGather",
        CollectiveKind::ReduceScatter(_) => "ReduceScatter",
        CollectiveKind::Broadcast { .. } => "Broadcast",
        CollectiveKind::AllToAll => "AlltoAll",
        CollectiveKind::Send { .. } => "Send",
        CollectiveKind::Receive { .. } => "Receive",
        CollectiveKind::Barrier => "Barrier",
        ref other => panic!("{other} is new"),
    }
}

/// The primitives of certain types, in the order of the file.
fn primitives<'m>(model: &'m Model, types: &[&'m str]) -> Vec<&'m str> {
    let nodes = model.graph.nodes.iter().filter_map(|node| node.op_type());
    nodes.filter_map(|op| types.iter().find(|name| **name == op).copied()).collect()
}

/// Flips bits of small real files: whatever still decodes must be imported or refused, without a panic.
#[test]
fn damaged_models_do_not_panic() {
    let Some(models) = models() else { return };
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let mut imported = 0;
    for path in walk(&models.join("format")) {
        let bytes = fs::read(&path).unwrap();
        for _ in 0..DAMAGES {
            let mut bytes = bytes.clone();
            for _ in 0..1 + next(3) {
                let at = next(bytes.len());
                bytes[at] ^= 1 << next(8);
            }
            let Ok(model) = Model::from_bytes(bytes.into(), &path, &OpenOptions::new()) else { continue };
            imported += usize::from(import(&model, &ImportOptions::default()).is_ok());
        }
    }
    assert!(imported > 0, "some damage is harmless");
}

const DAMAGES: usize = 40;

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
