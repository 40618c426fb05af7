//! How the time of the optimiser grows with the graph: a table, and a plot if a file is named.
//!
//! ```text
//! cargo run --release -p mslite --example scaling -- scaling.svg
//! ```
#![allow(clippy::print_stdout, reason = "the table is its result")]

#[path = "../../graph-opt/benches/transformer/mod.rs"]
mod transformer;

use std::fmt::Write;
use std::time::Instant;

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
        std::fs::write(path, plot(&points))?;
    }
    Ok(())
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 420.0;
const MARGIN: f64 = 60.0;

/// Both axes are logarithmic; the grey line is `n log n` through the first point.
fn plot(points: &[(f64, f64)]) -> String {
    let (first, last) = (points[0], points[points.len() - 1]);
    let growth = |n: f64| first.1 * n * n.log2() / (first.0 * first.0.log2());
    let (low, high) = (first.1.log10().floor(), last.1.max(growth(last.0)).log10().ceil());
    let x = |n: f64| MARGIN + (n / first.0).ln() / (last.0 / first.0).ln() * (WIDTH - 2.0 * MARGIN);
    let y = |s: f64| HEIGHT - MARGIN - (s.log10() - low) / (high - low) * (HEIGHT - 2.0 * MARGIN);
    let line = |value: &dyn Fn(f64, f64) -> f64| {
        points.iter().map(|&(n, s)| format!("{:.1},{:.1} ", x(n), y(value(n, s)))).collect::<String>()
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"24\" font-size=\"15\">Optimiser at O2: seconds by nodes</text>\n"
    );
    let labels = (low as i32..=high as i32).map(|power| 10f64.powi(power));
    for seconds in labels {
        let at = y(seconds);
        let _ = writeln!(
            svg,
            "<line x1=\"{MARGIN}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"8\" y=\"{:.1}\">{seconds}</text>",
            WIDTH - MARGIN,
            at + 4.0
        );
    }
    let _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"#999\"/>", line(&|n, _| growth(n)));
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#06c\" stroke-width=\"2\"/>",
        line(&|_, s| s)
    );
    for &(n, seconds) in points {
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"#06c\"/>\
             <text x=\"{0:.1}\" y=\"{2}\" text-anchor=\"middle\">{n}</text>",
            x(n),
            y(seconds),
            HEIGHT - MARGIN + 20.0
        );
    }
    svg + "</svg>\n"
}
