//! Folders with a model, its inputs and its expected outputs.
//!
//! A case is a folder with `meta.json`, `model.mindir` (or `model_graph.mindir` beside its weights, or
//! `rank0.mindir`, `rank1.mindir`, ...), and for each successive call of one session `inputs.npz`,
//! `inputs_1.npz`, ... with arrays `in_0`, `in_1`, ... and `outputs.npz`, `outputs_1.npz`, ... with `out_0`,
//! `out_1`, ... in flattened order.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mslite_tensor::Tensor;
use serde::Deserialize;

use crate::{Tolerance, npz};

/// A model with inputs and expected outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Name of the folder.
    pub name: String,
    /// What it shows.
    pub description: String,
    /// The folder.
    pub folder: PathBuf,
    /// Number of ranks; 1 for models that are not distributed.
    pub ranks: usize,
    /// The file of each rank.
    pub models: Vec<PathBuf>,
    /// The model before slicing; for cases of one rank, its file.
    pub whole: Option<PathBuf>,
    /// Successive calls of one session.
    pub calls: Vec<Call>,
    /// How far outputs may differ from what is expected.
    pub tolerance: Tolerance,
    /// How the model is encrypted, if it is.
    pub encryption: Option<Encryption>,
}

/// Files of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Arrays `in_0`, `in_1`, ...
    pub inputs: PathBuf,
    /// Arrays `out_0`, `out_1`, ...
    pub outputs: PathBuf,
}

/// How a model is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Encryption {
    /// MindSpore's name of the mode: `AES-GCM`.
    pub mode: String,
    /// The key, as text.
    #[serde(rename = "key_ascii")]
    pub key: String,
}

impl Call {
    /// The inputs, in order.
    ///
    /// # Errors
    /// As [`npz::read`].
    pub fn read_inputs(&self) -> io::Result<Vec<Tensor>> {
        npz::read_numbered(&self.inputs, "in_")
    }

    /// The expected outputs, in order.
    ///
    /// # Errors
    /// As [`npz::read`].
    pub fn read_outputs(&self) -> io::Result<Vec<Tensor>> {
        npz::read_numbered(&self.outputs, "out_")
    }
}

/// The cases in the folders of `root`, sorted by name; none when `root` does not exist.
///
/// # Errors
/// When a folder cannot be read, or its meta.json is not as described above; the message has the path.
pub fn discover(root: impl AsRef<Path>) -> io::Result<Vec<Case>> {
    let root = root.as_ref();
    if !root.is_dir() {
        return Ok(Vec::new());
    }
    let mut folders = Vec::new();
    for entry in fs::read_dir(root)? {
        let folder = entry?.path();
        if folder.join("meta.json").is_file() {
            folders.push(folder);
        }
    }
    folders.sort();
    folders.iter().map(|folder| read(folder)).collect()
}

/// The case in a folder.
///
/// # Errors
/// As [`discover`].
pub fn read(folder: &Path) -> io::Result<Case> {
    let path = folder.join("meta.json");
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let text = fs::read_to_string(&path).map_err(at)?;
    let meta: Meta = serde_json::from_str(&text).map_err(|error| at(error.into()))?;
    let existing = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    let whole = existing("model.mindir").or_else(|| existing("model_graph.mindir"));
    let slices: Option<Vec<PathBuf>> =
        (0..meta.ranks).map(|rank| existing(&format!("rank{rank}.mindir"))).collect();
    let models = slices.filter(|slices| !slices.is_empty()).or_else(|| whole.clone().map(|path| vec![path]));
    Ok(Case {
        models: models.filter(|models| models.len() == meta.ranks).ok_or_else(|| {
            at(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no model file for each of {} ranks", meta.ranks),
            ))
        })?,
        name: meta.name,
        description: meta.description,
        folder: folder.to_owned(),
        ranks: meta.ranks,
        whole,
        calls: calls(folder),
        tolerance: Tolerance { rtol: meta.tolerance.rtol, atol: meta.tolerance.atol },
        encryption: meta.encryption,
    })
}

fn calls(folder: &Path) -> Vec<Call> {
    let call = |n: usize| {
        let suffix = if n == 0 { String::new() } else { format!("_{n}") };
        Call {
            inputs: folder.join(format!("inputs{suffix}.npz")),
            outputs: folder.join(format!("outputs{suffix}.npz")),
        }
    };
    (0..).map(call).take_while(|call| call.inputs.is_file() && call.outputs.is_file()).collect()
}

#[derive(Deserialize)]
struct Meta {
    name: String,
    #[serde(default)]
    description: String,
    ranks: usize,
    tolerance: MetaTolerance,
    encryption: Option<Encryption>,
}

#[derive(Deserialize)]
struct MetaTolerance {
    rtol: f64,
    atol: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> Option<Vec<Case>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models/dev");
        let cases = discover(&root).unwrap();
        (!cases.is_empty()).then_some(cases)
    }

    #[test]
    #[allow(clippy::print_stderr, reason = "says why nothing was tested")]
    fn the_models_are_found_with_all_their_arrays() {
        let Some(cases) = models() else {
            eprintln!("skipped: there is no folder of models");
            return;
        };
        for case in &cases {
            assert_eq!(case.models.len(), case.ranks, "{}", case.name);
            assert!(!case.calls.is_empty(), "{}", case.name);
            for call in &case.calls {
                assert!(!call.read_inputs().unwrap().is_empty(), "{}", case.name);
                assert!(!call.read_outputs().unwrap().is_empty(), "{}", case.name);
            }
        }
        let find = |name: &str| cases.iter().find(|case| case.name == name).unwrap();
        assert_eq!(find("d_block_tp4").ranks, 4);
        assert_eq!(find("w_state_counter").calls.len(), 3);
        assert_eq!(find("w_enc_gcm").encryption.as_ref().unwrap().key, "0123456789ABCDEF");
        assert!(find("w_split_one_file").models[0].ends_with("model_graph.mindir"));
    }

    #[test]
    fn a_broken_description_is_named() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("broken");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("meta.json"), "{\"name\": 1}").unwrap();
        assert!(discover(root.path()).unwrap_err().to_string().contains("meta.json"));
        assert_eq!(discover(root.path().join("none")).unwrap(), []);
    }
}
