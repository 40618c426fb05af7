//! What the passes make of transformers.

mod common;

use std::sync::Arc;

use common::models;
use mslite_backend_cpu::CpuEvaluator;
use mslite_graph_opt::pass::{OptimiseOptions, optimise};
use mslite_graph_opt::{ImportOptions, import};
use mslite_mindir::{Model, OpenOptions};
use mslite_testkit::cases::discover;

#[test]
fn dump() {
    let Some(folder) = models() else { return };
    for case in discover(folder.join("dev")).unwrap() {
        if case.encryption.is_some() {
            continue;
        }
        let model = Model::open(&case.models[0], &OpenOptions::new()).unwrap();
        let graph = import(&model, &ImportOptions::default()).unwrap();
        let options =
            OptimiseOptions { evaluator: Some(Arc::new(CpuEvaluator)), ..OptimiseOptions::default() };
        let (after, report) = optimise(&graph, &options).unwrap();
        let (a, b) = (graph.nodes().len(), after.nodes().len());
        println!(
            "{} {a} {b} {:.1}% rounds {} converged {}",
            case.name,
            100.0 * b as f64 / a as f64,
            report.rounds,
            report.converged
        );
        println!("   {:?}", after.op_counts());
        if let Ok(out) = std::env::var("OUT") {
            std::fs::write(format!("{out}/{}.before", case.name), graph.summary().to_string()).unwrap();
            std::fs::write(format!("{out}/{}.after", case.name), after.summary().to_string()).unwrap();
        }
    }
}
