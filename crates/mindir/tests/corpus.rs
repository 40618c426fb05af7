//! Every real file opens, and holds what MindSpore's exporter put there.
#![allow(clippy::print_stdout, reason = "tests say when the files are absent")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mslite_mindir::{
    Collective, Definition, Key, Mode, Model, NodeKind, OpenOptions, PrimitiveKind, Type, Value,
};
use mslite_tensor::Tensor;
use serde_json::Value as Json;

fn models() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    if !folder.exists() {
        println!("{} is not there: nothing is tested", folder.display());
        return None;
    }
    Some(folder)
}

fn json(path: &Path) -> Json {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn with_key(key: Option<&str>) -> OpenOptions {
    key.map_or(OpenOptions::new(), |key| OpenOptions::new().key(Key::new(key)))
}

/// Keys of the encrypted files, as the index describes them in words.
fn options(entry: &Json) -> OpenOptions {
    let shows = entry["shows"].as_str().unwrap_or_default();
    let keys = ["0123456789abcdef01234567", "0123456789abcdef", "0123456789ABCDEF"];
    with_key(keys.into_iter().find(|key| shows.contains(key)))
}

fn open(file: &str, key: Option<&str>) -> Option<Model> {
    Some(Model::open(models()?.join(file), &with_key(key)).unwrap())
}

fn check_inputs(model: &Model, entry: &Json, file: &str) {
    let Some(inputs) = entry["inputs"].as_array() else { return };
    assert_eq!(model.graph.inputs.len(), inputs.len(), "{file}: inputs");
    for (input, expected) in model.graph.inputs.iter().zip(inputs) {
        assert_eq!(&*input.symbol, expected["name"].as_str().unwrap(), "{file}");
        if let Some(public) = expected["public_name"].as_str() {
            assert_eq!(&*input.name, public, "{file}");
        }
        let Some(dims) = expected["dims"].as_array() else { continue };
        let dims: Vec<i64> = dims.iter().map(|dim| dim.as_i64().unwrap()).collect();
        match &input.ty {
            Some(Type::Tensor(tensor)) => assert_eq!(tensor.dims, dims, "{file}: {}", input.name),
            ty => assert!(ty.is_some(), "{file}: {} has no type", input.name),
        }
    }
}

fn check_counts(model: &Model, entry: &Json, file: &str) {
    let summary = model.summary();
    let expected = |name: &str| entry[name].as_u64().map(|n| n as usize);
    // The index counts what the graph file has; these weights are all elsewhere.
    let params = if file == "legacy/split_1x_graph.mindir" { Some(1) } else { expected("params") };
    for (what, actual, expected) in [
        ("nodes", summary.nodes, expected("nodes")),
        ("functions", summary.functions, expected("functions")),
        ("parameters", summary.parameters, params),
    ] {
        assert!(
            expected.is_none_or(|expected| expected == actual),
            "{file}: {actual} {what}, not {expected:?}"
        );
    }
    if let Some(op_types) = entry["op_types"].as_array() {
        let expected: BTreeSet<_> = op_types.iter().map(|op| op.as_str().unwrap()).collect();
        let actual: BTreeSet<_> = summary.operators.keys().map(|op| &**op).collect();
        let missing: Vec<_> = expected.difference(&actual).collect();
        assert!(missing.is_empty(), "{file}: {missing:?} of {actual:?}");
    }
}

/// Nothing in real files needs the variants that keep what is not understood.
fn check_understood(model: &Model, file: &str) {
    for node in model.graphs().flat_map(|graph| &graph.nodes) {
        if let NodeKind::Constant(value) = &node.kind {
            assert!(!matches!(value, Value::Opaque { .. }), "{file}: {}", node.symbol);
        }
        assert!(!matches!(node.ty, Some(Type::Other(_))), "{file}: {}", node.symbol);
        assert!(matches!(model.definition(&node.symbol), Some(Definition::Node { .. })), "{file}");
        assert_eq!(model.node(&node.symbol).unwrap().symbol, node.symbol);
    }
}

#[test]
fn every_file_of_the_format_corpus_agrees_with_the_index() {
    let Some(models) = models() else { return };
    let folder = models.join("format");
    let index = json(&folder.join("index.json"));
    for entry in index.as_array().unwrap() {
        let file = entry["file"].as_str().unwrap();
        let model = Model::open(folder.join(file), &options(entry)).unwrap();
        check_inputs(&model, entry, file);
        check_counts(&model, entry, file);
        check_understood(&model, file);
    }
}

#[test]
fn every_file_of_the_network_corpus_agrees_with_its_description() {
    let Some(models) = models() else { return };
    let mut opened = 0;
    for case in fs::read_dir(models.join("dev")).unwrap() {
        let case = case.unwrap().path();
        let meta = json(&case.join("meta.json"));
        let options = with_key(meta["encryption"]["key_ascii"].as_str());
        for file in meta["files"].as_array().unwrap() {
            let path = case.join(file.as_str().unwrap());
            if path.extension().is_none_or(|extension| extension != "mindir") {
                continue;
            }
            let model = Model::open(&path, &options).unwrap();
            check_understood(&model, &path.display().to_string());
            opened += 1;
            check_description(&model, &meta, &path);
        }
    }
    assert!(opened > 0);
}

/// Distributed cases describe each rank's file, the others the only one.
fn check_description(model: &Model, meta: &Json, path: &Path) {
    let shown = path.display();
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let part = |name: &str| {
        let whole = &meta[name];
        if whole.get("rank0").is_some() { whole[stem].clone() } else { whole.clone() }
    };
    let (io, ops) = (part("io"), part("ops"));
    let summary = model.summary();
    if let Some(parameters) = io["parameters"].as_u64() {
        assert_eq!(summary.parameters as u64, parameters, "{shown}");
        assert_eq!(Some(summary.parameter_bytes), io["param_bytes"].as_u64(), "{shown}");
        assert_eq!(Some(summary.functions as u64), io["functions"].as_u64(), "{shown}");
        assert_eq!(Some(model.level), io["mind_ir_version"].as_i64(), "{shown}");
    }
    let (calls, ops): (Vec<_>, Vec<_>) =
        ops.as_object().into_iter().flatten().partition(|(op, _)| op.starts_with("call:"));
    for (op, count) in &ops {
        let actual = summary.operators.get(&***op).copied().unwrap_or(0) as u64;
        assert_eq!(Some(actual), count.as_u64(), "{shown}: {op}");
    }
    if !ops.is_empty() {
        let calls: u64 = calls.iter().map(|(_, count)| count.as_u64().unwrap()).sum();
        assert_eq!(summary.calls as u64, calls, "{shown}: calls");
    }
    for (i, input) in io["inputs"].as_array().into_iter().flatten().enumerate() {
        assert_eq!(&*model.graph.inputs[i].name, input["name"].as_str().unwrap(), "{shown}");
    }
    for (i, output) in io["outputs"].as_array().into_iter().flatten().enumerate() {
        assert_eq!(&*model.graph.outputs[i].name, output["name"].as_str().unwrap(), "{shown}");
    }
    for expected in meta["collectives"][stem].as_array().into_iter().flatten() {
        let same = |c: &Collective<'_>| Some(&*c.primitive.op_type) == expected["op"].as_str();
        let collectives: Vec<_> = model.collectives().filter(same).collect();
        assert_eq!(Some(collectives.len() as u64), expected["count"].as_u64(), "{shown}: {expected}");
        assert!(collectives.iter().any(|c| c.group() == expected["group"].as_str()), "{shown}: {expected}");
    }
}

#[test]
fn encrypted_and_split_models_hold_the_weights_of_the_plain_ones() {
    let weights = |model: Model| -> Vec<(String, Tensor)> {
        let parameters = model.graph.parameters.iter();
        let mut weights: Vec<_> = parameters.map(|p| (p.name.to_string(), p.tensor().unwrap())).collect();
        weights.sort_by(|a, b| a.0.cmp(&b.0));
        weights
    };
    let key = Some("0123456789abcdef");
    let Some(one) = open("format/split/one_graph.mindir", None) else { return };
    let one = weights(one);
    for (file, key, mode) in [
        ("format/split/many_graph.mindir", None, None),
        ("format/split/enc_aes_gcm_graph.mindir", key, Some(Mode::AesGcm)),
        ("format/split/enc_aes_cbc_graph.mindir", Some("0123456789abcdef01234567"), Some(Mode::AesCbc)),
        ("format/split/enc_sm4_cbc_graph.mindir", key, Some(Mode::Sm4Cbc)),
    ] {
        let model = open(file, key).unwrap();
        assert_eq!(model.encryption, mode, "{file}");
        assert_eq!(weights(model), one, "{file}");
    }
    let plain = weights(open("format/by_version/mlp_2.7.0.mindir", None).unwrap());
    let encrypted = weights(open("format/by_version/mlp_2.7.0_gcm.mindir", key).unwrap());
    assert_eq!(plain, encrypted);
}

#[test]
fn a_split_model_opens_by_its_plain_name() {
    let Some(model) = open("dev/w_split_one_file/model.mindir", None) else { return };
    assert_eq!(model.graph.parameters.len(), 10);
}

#[test]
fn textual_files_hold_the_same_as_structured_ones() {
    let Some(model) = open("format/legacy/synthetic_1x_form.mindir", None) else { return };
    assert_eq!((model.level, &*model.model_version), (0, "1.2.0"));
    let primitives: Vec<_> = model.graph.nodes.iter().filter_map(|node| node.primitive()).collect();
    let types: Vec<_> = primitives.iter().map(|p| &*p.op_type).collect();
    assert_eq!(types, ["MatMul", "Softmax", "Reshape", "ReduceSum"]);
    assert!(primitives.iter().all(|p| p.kind == PrimitiveKind::Attribute));
    assert!(primitives[0].attributes.bool("transpose_b").unwrap());
    assert!(!primitives[0].attributes.bool("transpose_a").unwrap());
    assert_eq!(primitives[1].attributes.ints("axis").unwrap(), [-1]);
    let constants: Vec<_> = model.graph.nodes.iter().filter_map(|node| node.constant()).collect();
    assert_eq!(constants[0].as_ints().unwrap(), [3, 2]);
    assert_eq!(constants[1].as_ints().unwrap(), [0]);
    let dims: Vec<_> = model.graph.nodes.iter().filter_map(|node| node.ty.as_ref()?.as_tensor()).collect();
    assert_eq!(dims[0].dims, [2, 3]);

    let split = open("format/legacy/split_1x_graph.mindir", None).unwrap();
    assert_eq!(split.graph.parameters[0].tensor(), model.graph.parameters[0].tensor());
}

#[test]
fn lite_files_have_public_names_and_level_one() {
    let Some(model) = open("format/lite_converter/cnn_fused.mindir", None) else { return };
    assert_eq!(model.level, 1);
    assert_eq!((&*model.graph.inputs[0].name, &*model.graph.outputs[0].name), ("x", "y"));
    let conv = model.graph.nodes.iter().find(|node| node.op_type() == Some("Conv2DFusion")).unwrap();
    let conv = conv.primitive().unwrap();
    assert_eq!(conv.attributes.ints("kernel_size").unwrap().len(), 2);
    assert!(conv.attributes.int("activation_type").is_ok());
}

#[test]
fn collectives_name_their_groups() {
    let Some(model) = open("format/distributed/allreduce_subgroup_rank1.mindir", None) else { return };
    let collectives: Vec<_> = model.collectives().collect();
    let [collective] = &*collectives else { panic!("{collectives:?}") };
    assert_eq!(&*collective.primitive.op_type, "AllReduce");
    assert!(!collective.group().unwrap().ends_with("_world_group"));
    let model = open("dev/d_matmul_row_tp2/rank0.mindir", None).unwrap();
    let is_world =
        |group: &str| matches!(group, "hccl_world_group" | "nccl_world_group" | "mccl_world_group");
    assert!(model.collectives().all(|c| c.group().is_some_and(is_world)));
    assert!(model.collectives().count() > 0);
}

#[test]
fn weights_are_windows_of_the_mapped_file() {
    let Some(models) = models() else { return };
    for (file, mapped) in [
        ("dev/w_mlp/model.mindir", "dev/w_mlp/model.mindir"),
        ("dev/w_split_one_file/model_graph.mindir", "dev/w_split_one_file/model_variables/data_0"),
    ] {
        let model = Model::open(models.join(file), &OpenOptions::new()).unwrap();
        let mapped = models.join(mapped).canonicalize().unwrap();
        let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
        let ranges: Vec<_> = maps.lines().filter(|line| line.ends_with(mapped.to_str().unwrap())).collect();
        let within = |address: usize| {
            ranges.iter().any(|line| {
                let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
                let parse = |hex| usize::from_str_radix(hex, 16).unwrap();
                (parse(start)..parse(end)).contains(&address)
            })
        };
        assert!(!model.graph.parameters.is_empty());
        for parameter in &model.graph.parameters {
            let tensor = parameter.tensor().unwrap();
            assert!(within(tensor.bytes().as_ptr() as usize), "{file}: {}", parameter.name);
        }
    }
}
