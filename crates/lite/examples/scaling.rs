//! How the time of the optimiser grows with the graph: a table, and a plot if a file is named.
//!
//! ```text
//! cargo run --release -p mslite --example scaling -- scaling.svg
//! ```
#![allow(clippy::print_stdout, reason = "the table is its result")]

#[path = "../../graph-opt/benches/transformer/mod.rs"]
mod transformer;

#[path = "../../cli/src/plot.rs"]
mod plot;

use std::time::Instant;

use plot::{Chart, Line};

use mslite_graph_opt::pass::{OptimiseOptions, optimise};

/// Repetitions, of which the fastest counts: what else the machine does only ever adds.
const REPETITIONS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = OptimiseOptions { evaluator: Some(mslite::evaluator()), ..OptimiseOptions::default() };
    let mut points = Vec::new();
    println!("{:>8} {:>8} {:>10} {:>22}", "nodes", "after", "seconds", "ns / (n log2 n)");
    for target in [1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000] {
        let graph = transformer::transformer(target);
        let (mut seconds, mut after) = (f64::INFINITY, 0);
        for _ in 0..REPETITIONS {
            let start = Instant::now();
            let (optimised, _) = optimise(&graph, &options)?;
            seconds = seconds.min(start.elapsed().as_secs_f64());
            after = optimised.nodes().len();
        }
        let nodes = graph.nodes().len() as f64;
        let unit = seconds * 1e9 / (nodes * nodes.log2());
        println!("{nodes:>8} {after:>8} {seconds:>10.4} {unit:>22.1}");
        points.push((nodes, seconds));
    }
    if let Some(path) = std::env::args().nth(1) {
        std::fs::write(path, plot(points))?;
    }
    Ok(())
}

/// Also the line `n log n` through the first point.
fn plot(points: Vec<(f64, f64)>) -> String {
    let first = points[0];
    let growth = |n: f64| first.1 * n * n.log2() / (first.0 * first.0.log2());
    let guide = points.iter().map(|&(n, _)| (n, growth(n))).collect();
    let lines = vec![
        Line { label: "n log n".into(), points: guide, is_guide: true },
        Line { label: "measured".into(), points, is_guide: false },
    ];
    Chart { title: "Optimiser at O2: seconds by nodes", lines, x_text: |n| n.to_string() }.as_svg()
}
