//! Optimisation of transformers of several sizes, and each pass alone.
#![allow(missing_docs, reason = "criterion's macros define public items")]

mod transformer;

use criterion::{Criterion, criterion_group, criterion_main};
use mslite_graph_opt::pass::{OptimiseOptions, optimise, standard_passes};

use transformer::transformer;

fn optimisation(c: &mut Criterion) {
    let mut group = c.benchmark_group("optimise");
    group.sample_size(10);
    for nodes in [1_000, 10_000, 20_000, 100_000] {
        let graph = transformer(nodes);
        group.bench_function(format!("{nodes} nodes"), |b| {
            b.iter(|| optimise(&graph, &OptimiseOptions::default()).unwrap());
        });
    }
    let graph = transformer(20_000);
    for pass in standard_passes() {
        let name = format!("20000 nodes, {} alone", pass.name());
        let options = OptimiseOptions { passes: vec![pass], ..OptimiseOptions::default() };
        group.bench_function(name, |b| b.iter(|| optimise(&graph, &options).unwrap()));
    }
}

criterion_group!(benches, optimisation);
criterion_main!(benches);
