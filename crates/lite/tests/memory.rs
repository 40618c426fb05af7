//! Arenas are close to what lives at once, and models need no more when their inputs are resized.

mod common;

use std::path::Path;

use common::{context, models, on_ranks};
use mslite::{BuildOptions, Key, MemoryUsage, Model, ModelType, Ranks, Result};
use mslite_tensor::{Tensor, npz};
use mslite_testkit::cases::{self, Case};
use serde_json::Value;

/// How much larger than its lower bound an arena may be.
const WORST: f64 = 1.10;

#[test]
#[allow(clippy::print_stderr, reason = "prints the table")]
fn arenas_are_close_to_their_lower_bound() {
    let Some(folder) = models() else { return };
    let mut table: Vec<(String, MemoryUsage)> = Vec::new();
    for case in cases::discover(folder.join("dev")).unwrap() {
        let usage = on_ranks(case.ranks, |rank, ranks| of_case(&case, rank, ranks));
        table.extend(
            usage.into_iter().enumerate().map(|(rank, usage)| (format!("{}[{rank}]", case.name), usage)),
        );
    }
    table.extend(of_format(&folder.join("format")));
    table.sort_by(|(_, a), (_, b)| b.ratio().total_cmp(&a.ratio()));
    for (name, usage) in &table {
        eprintln!("{:>12} {:>12} {:.3} {name}", usage.arena, usage.lower_bound, usage.ratio());
    }
    let middle = &table[table.len() / 2].1;
    eprintln!("{} models: median {:.3}, worst {:.3}", table.len(), middle.ratio(), table[0].1.ratio());
    for (name, usage) in &table {
        assert!(usage.ratio() <= WORST, "{name}: {usage:?}");
    }
}

fn of_case(case: &Case, rank: usize, ranks: Ranks) -> MemoryUsage {
    let mut options = BuildOptions::default();
    options.key = case.encryption.as_ref().map(|encryption| Key::new(encryption.key.as_bytes()));
    let data = case.calls[0].read_inputs().unwrap();
    after_run(&case.models[rank], ranks, &options, data).unwrap()
}

/// The models of one rank that are not encrypted and that run.
fn of_format(folder: &Path) -> Vec<(String, MemoryUsage)> {
    let Ok(index) = std::fs::read_to_string(folder.join("index.json")) else { return Vec::new() };
    let index: Value = serde_json::from_str(&index).unwrap();
    let usage = |entry: &Value| {
        let file = entry["file"].as_str()?;
        let arrays = npz::read_numbered(folder.join(entry["npz"].as_str()?), "in_").ok()?;
        let usage = after_run(&folder.join(file), Ranks::Alone, &BuildOptions::default(), arrays);
        usage.ok().map(|usage| (file.to_owned(), usage))
    };
    index.as_array().unwrap().iter().filter_map(usage).collect()
}

fn after_run(path: &Path, ranks: Ranks, options: &BuildOptions, data: Vec<Tensor>) -> Result<MemoryUsage> {
    let model = Model::build_with(path, ModelType::MindIr, &context(ranks, 1), options)?;
    let mut inputs = model.inputs();
    for (input, data) in inputs.iter_mut().zip(data) {
        input.set_tensor(data)?;
    }
    model.predict(&inputs)?;
    Ok(model.memory())
}
