//! The real files.

use std::fs;
use std::path::{Path, PathBuf};

use mslite_mindir::{Key, OpenOptions};
use serde_json::Value as Json;

/// A model file and how to open it.
pub(crate) struct Case {
    pub(crate) path: PathBuf,
    pub(crate) options: OpenOptions,
}

/// Every model of the corpus; none, with a message, when it is absent.
pub(crate) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    if !folder.exists() {
        println!("{} is not there: nothing is tested", folder.display());
        return Vec::new();
    }
    let mut cases = format_cases(&folder.join("format"));
    cases.extend(network_cases(&folder.join("dev")));
    cases
}

fn format_cases(folder: &Path) -> Vec<Case> {
    let index = json(&folder.join("index.json"));
    let entries = index.as_array().into_iter().flatten();
    entries
        .map(|entry| {
            let path = folder.join(entry["file"].as_str().unwrap());
            Case { path, options: with_key(described_key(entry)) }
        })
        .collect()
}

fn network_cases(folder: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    for case in fs::read_dir(folder).unwrap() {
        let case = case.unwrap().path();
        let meta = json(&case.join("meta.json"));
        let files = meta["files"].as_array().unwrap().iter().map(|file| case.join(file.as_str().unwrap()));
        cases.extend(
            files
                .filter(|path| path.extension().is_some_and(|e| e == "mindir"))
                .map(|path| Case { path, options: with_key(meta["encryption"]["key_ascii"].as_str()) }),
        );
    }
    cases
}

fn json(path: &Path) -> Json {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The key of an encrypted file, which the index names in words.
fn described_key(entry: &Json) -> Option<&'static str> {
    let shows = entry["shows"].as_str().unwrap_or_default();
    let keys = ["0123456789abcdef01234567", "0123456789abcdef", "0123456789ABCDEF"];
    keys.into_iter().find(|key| shows.contains(key))
}

fn with_key(key: Option<&str>) -> OpenOptions {
    key.map_or(OpenOptions::new(), |key| OpenOptions::new().key(Key::new(key)))
}
