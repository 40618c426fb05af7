//! Models that are read, optimised and written again.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use mslite::Level;
use mslite_backend_cpu::CpuEvaluator;
use mslite_graph_opt::ir::Port;
use mslite_graph_opt::pass::{OptimiseOptions, optimise};
use mslite_graph_opt::{Graph, ImportOptions, export, import};
use mslite_mindir::{Model, OpenOptions, SaveOptions};

use super::corpus::Files;

/// Operations that are written as several primitives which no pass joins again.
const SPELT_OUT: &[&str] = &["clip", "elu", "leaky_relu", "swap_parts", "top_k"];

/// Reads a model, optimises it, and writes it to another file. What is read again has to be the same graph, as far as
/// names and operations tell.
pub(crate) fn rewrite(files: &Files, level: Level, to: &Path) -> Result<(), String> {
    let mut open = OpenOptions::new();
    open.key = files.key.clone();
    rewrite_file(&files.model, &open, level, to)
}

/// The same for one file.
pub(crate) fn rewrite_file(from: &Path, open: &OpenOptions, level: Level, to: &Path) -> Result<(), String> {
    let graph = optimised(from, open, level)?;
    let written = export(&graph).map_err(text)?;
    written.save(to, &SaveOptions::new()).map_err(text)?;
    let again = optimised(to, &OpenOptions::new(), level).map_err(|error| format!("read again: {error}"))?;
    let names = |ports: &[Port]| -> Vec<String> { ports.iter().map(|port| port.name.clone()).collect() };
    let (before, after) = (names(graph.inputs()), names(again.inputs()));
    if before != after {
        return Err(format!("inputs {before:?} became {after:?}"));
    }
    let (before, after) = (names(graph.outputs()), names(again.outputs()));
    let distinct = before.iter().collect::<HashSet<_>>().len() == before.len();
    if distinct && before != after {
        return Err(format!("outputs {before:?} became {after:?}"));
    }
    let (before, after) = (graph.op_counts(), again.op_counts());
    let spelt_out = SPELT_OUT.iter().any(|op| before.contains_key(op));
    if level == Level::O2 && !spelt_out && before != after {
        return Err(format!("operations {before:?} became {after:?}"));
    }
    Ok(())
}

fn optimised(path: &Path, open: &OpenOptions, level: Level) -> Result<Graph, String> {
    let model = Model::open(path, open).map_err(text)?;
    let graph = import(&model, &ImportOptions::default()).map_err(text)?;
    let evaluator = Some(Arc::new(CpuEvaluator) as _);
    let options = OptimiseOptions { evaluator, ..OptimiseOptions::at(level) };
    Ok(optimise(&graph, &options).map_err(text)?.0)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
