//! The models of the corpus, with what MindSpore gave for them: those that show the format, and those of development.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mslite::{BuildOptions, Context, DType, Key, Model, ModelType, Ranks, Tensor, World};
use mslite_tensor::{Tensor as Data, npz};
use mslite_testkit::cases::discover;
use mslite_testkit::{Tolerance, distance};
use serde_json::Value;

/// Keys of the encrypted files; the others have the first.
const KEYS: &[(&str, &str)] = &[
    ("", "0123456789abcdef"),
    ("split/enc_aes_cbc_graph", "0123456789abcdef01234567"),
    ("lite_converter/mlp_encrypted", "0123456789ABCDEF"),
];

/// A model with all its ranks.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) ranks: Vec<Files>,
    /// How far outputs may differ, where the entry says so.
    tolerance: Option<Tolerance>,
}

/// What one rank has.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) model: PathBuf,
    pub(crate) key: Option<Key>,
    /// Archives of inputs and of outputs of successive calls.
    pub(crate) calls: Vec<(PathBuf, PathBuf)>,
    /// The export kept no input; what the archive has was constant.
    pub(crate) takes_nothing: bool,
}

/// What came of running a model.
pub(crate) struct Outcome {
    /// Largest difference to MindSpore's outputs, where 1 is what is allowed.
    pub(crate) error: f64,
    /// Nodes of rank 0, those of graphs inside operations included.
    pub(crate) nodes: usize,
}

/// All models in the folder of models.
pub(crate) fn entries(folder: &Path) -> Vec<Entry> {
    let format = folder.join("format");
    let index = std::fs::read_to_string(format.join("index.json")).unwrap();
    let mut entries = of_format(&format, &serde_json::from_str(&index).unwrap());
    entries.extend(of_development(&folder.join("dev")));
    entries
}

fn of_development(folder: &Path) -> Vec<Entry> {
    let cases = discover(folder).unwrap().into_iter();
    let entry = |case: mslite_testkit::cases::Case| Entry {
        name: format!("dev/{}", case.name),
        tolerance: Some(case.tolerance),
        ranks: (case.models.iter())
            .map(|model| Files {
                model: model.clone(),
                key: case.encryption.as_ref().map(|encryption| Key::new(encryption.key.as_bytes())),
                calls: case.calls.iter().map(|call| (call.inputs.clone(), call.outputs.clone())).collect(),
                takes_nothing: false,
            })
            .collect(),
    };
    cases.map(entry).collect()
}

fn of_format(folder: &Path, index: &Value) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for entry in index.as_array().unwrap() {
        let file = entry["file"].as_str().unwrap();
        let stem = file.strip_suffix(".mindir").unwrap();
        let encrypted = entry["note"].as_str().is_some_and(|note| note.contains("encrypted"));
        let arrays = entry["npz"].as_str().map(|npz| folder.join(npz));
        let files = Files {
            model: folder.join(file),
            key: (encrypted || stem.ends_with("encrypted")).then(|| key(stem)),
            calls: arrays.into_iter().map(|arrays| (arrays.clone(), arrays)).collect(),
            takes_nothing: entry["inputs"].as_array().is_some_and(Vec::is_empty),
        };
        match stem.split_once("_rank") {
            Some((name, "1")) => {
                let name = format!("format/{name}");
                entries.iter_mut().find(|entry| entry.name == name).unwrap().ranks.push(files);
            }
            rank => {
                let name = format!("format/{}", rank.map_or(stem, |(name, _)| name));
                entries.push(Entry { name, ranks: vec![files], tolerance: None });
            }
        }
    }
    entries
}

fn key(stem: &str) -> Key {
    let (_, key) = KEYS.iter().find(|(name, _)| *name == stem).unwrap_or(&KEYS[0]);
    Key::new(key.as_bytes())
}

impl Entry {
    /// The same with other files, in plain, for the models.
    pub(crate) fn with_models(
        &self,
        model: impl Fn(usize, &Files) -> Result<PathBuf, String>,
    ) -> Result<Entry, String> {
        let files = |(rank, files): (usize, &Files)| {
            Ok(Files { model: model(rank, files)?, key: None, ..files.clone() })
        };
        let ranks = self.ranks.iter().enumerate().map(files).collect::<Result<_, String>>()?;
        Ok(Entry { name: self.name.clone(), ranks, tolerance: self.tolerance })
    }

    /// Builds and runs it; ranks are threads.
    pub(crate) fn run(&self, options: &BuildOptions) -> Result<Outcome, String> {
        if let [alone] = &self.ranks[..] {
            return self.run_one(alone, crate::common::context(Ranks::Alone, 1), options);
        }
        let folder = tempfile::tempdir().map_err(text)?;
        let groups = folder.path().join("groups");
        std::fs::write(&groups, group_file()).map_err(text)?;
        let worlds = World::threads(self.ranks.len(), Duration::from_secs(20)).map_err(text)?;
        let outcomes: Vec<Result<Outcome, String>> = std::thread::scope(|scope| {
            let run = |(files, world): (_, World)| {
                let mut context = crate::common::context(Ranks::World(Arc::new(world)), 1);
                context.group_info_file = Some(groups.clone());
                scope.spawn(move || self.run_one(files, context, options))
            };
            let threads: Vec<_> = self.ranks.iter().zip(worlds).map(run).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut outcomes = outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;
        let error = outcomes.iter().map(|outcome| outcome.error).fold(0.0, f64::max);
        Ok(Outcome { error, ..outcomes.swap_remove(0) })
    }

    fn run_one(&self, files: &Files, context: Context, options: &BuildOptions) -> Result<Outcome, String> {
        let mut options = options.clone();
        options.key = files.key.clone();
        let model = Model::build_with(&files.model, ModelType::MindIr, &context, &options).map_err(text)?;
        let mut outcome = Outcome { error: 0.0, nodes: model.graph().unwrap().nodes_within().count() };
        for (call, (given, expected)) in files.calls.iter().enumerate() {
            let mut given = npz::read_numbered(given, "in_").map_err(text)?;
            if files.takes_nothing {
                given.clear();
            }
            let outputs = model.predict(&inputs(&model, given)?).map_err(text)?;
            let expected = npz::read_numbered(expected, "out_").map_err(text)?;
            let error = self.compare(&model, &outputs, &expected);
            outcome.error = outcome.error.max(error.map_err(|reason| format!("call {call}, {reason}"))?);
        }
        Ok(outcome)
    }

    fn compare(&self, model: &Model, outputs: &[Tensor], expected: &[Data]) -> Result<f64, String> {
        if expected.is_empty() {
            return Ok(0.0);
        }
        if outputs.len() != expected.len() {
            return Err(format!("{} outputs, expected {}", outputs.len(), expected.len()));
        }
        let narrow = |dtype: DType| matches!(dtype, DType::F16 | DType::BF16);
        let narrows = model.graph().unwrap().values().any(|(_, value)| narrow(value.spec.dtype));
        let mut worst: f64 = 0.0;
        for (i, (output, expected)) in outputs.iter().zip(expected).enumerate() {
            let data = output.data().ok_or("an output has no data")?;
            // numpy lacks bfloat16.
            let stored = if data.dtype() == DType::BF16 { DType::F32 } else { data.dtype() };
            if stored != expected.dtype() {
                return Err(format!("output {i} is {}, expected {}", data.dtype(), expected.dtype()));
            }
            let tolerance = match data.dtype() {
                dtype if !dtype.is_float() && !dtype.is_complex() => Tolerance::EXACT,
                _ if self.tolerance.is_some() => self.tolerance.unwrap_or(Tolerance::EXACT),
                _ if narrows => Tolerance { rtol: 2e-2, atol: 2e-3 },
                _ => Tolerance { rtol: 1e-4, atol: 1e-5 },
            };
            let error = distance(data, expected, tolerance).map_err(|e| format!("output {i}: {e}"))?;
            worst = worst.max(error);
        }
        Ok(worst)
    }
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

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
