//! Every real file opens, and holds what MindSpore's exporter was asked to put there.

use std::fs;
use std::path::{Path, PathBuf};

use mslite_mindir::{Key, Model, OpenOptions, Type};
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

/// Keys of the encrypted files, as the index describes them in words.
fn options(entry: &Json) -> OpenOptions {
    let shows = entry["shows"].as_str().unwrap_or_default();
    let key = ["0123456789abcdef01234567", "0123456789abcdef", "0123456789ABCDEF"]
        .into_iter()
        .find(|key| shows.contains(key) && shows.contains("ey"));
    key.map_or(OpenOptions::new(), |key| OpenOptions::new().key(Key::new(key)))
}

fn check_inputs(model: &Model, entry: &Json, file: &str) {
    let Some(inputs) = entry["inputs"].as_array() else { return };
    assert_eq!(model.graph.inputs.len(), inputs.len(), "{file}: inputs");
    for (input, expected) in model.graph.inputs.iter().zip(inputs) {
        assert_eq!(&*input.symbol, expected["name"].as_str().unwrap(), "{file}");
        if let Some(public) = expected["public_name"].as_str() {
            assert_eq!(&*input.name, public, "{file}");
        }
        let (Some(Type::Tensor(tensor)), Some(dims)) = (&input.ty, expected["dims"].as_array()) else { continue };
        let dims: Vec<i64> = dims.iter().map(|dim| dim.as_i64().unwrap()).collect();
        assert_eq!(tensor.dims, dims, "{file}: {}", input.name);
    }
}

#[test]
fn every_file_of_the_format_corpus_opens_and_agrees_with_the_index() {
    let Some(models) = models() else { return };
    let folder = models.join("format");
    let index = json(&folder.join("index.json"));
    let mut failures = Vec::new();
    for entry in index.as_array().unwrap() {
        let file = entry["file"].as_str().unwrap();
        let model = match Model::open(folder.join(file), &options(entry)) {
            Ok(model) => model,
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        check_inputs(&model, entry, file);
        println!("{file} {} {:?} {:?}", model.level, model.graph.inputs.iter().map(|i|(&i.name, &i.ty)).collect::<Vec<_>>(), model.graph.outputs);
        println!("   {} {} {} {} : {}", entry["nodes"], entry["params"], entry["functions"], model.graphs().map(|g| g.nodes.len()).sum::<usize>(), model.graph.parameters.len());
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn every_file_of_the_network_corpus_opens() {
    let Some(models) = models() else { return };
    let mut opened = 0;
    for case in fs::read_dir(models.join("dev")).unwrap() {
        let case = case.unwrap().path();
        let meta = json(&case.join("meta.json"));
        let key = meta["encryption"]["key_ascii"].as_str();
        let options = key.map_or(OpenOptions::new(), |key| OpenOptions::new().key(Key::new(key)));
        for file in meta["files"].as_array().unwrap() {
            let file = file.as_str().unwrap();
            if file.ends_with(".mindir") {
                let model = Model::open(case.join(file), &options).unwrap();
                println!("{file} {} {:?} {:?}", model.level, model.graph.inputs.iter().map(|i|(&i.name, &i.ty)).collect::<Vec<_>>(), model.graph.outputs);
                opened += 1;
            }
        }
    }
    assert!(opened > 0);
}
