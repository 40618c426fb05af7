//! Import of transformers of several sizes, and writing them.
#![allow(missing_docs, reason = "criterion's macros define public items")]

mod transformer;

use criterion::{Criterion, criterion_group, criterion_main};
use mslite_graph_opt::{ImportOptions, export, import};

use transformer::transformer;

fn translation(c: &mut Criterion) {
    let mut group = c.benchmark_group("translate");
    group.sample_size(10);
    for nodes in [1_000, 20_000] {
        let graph = transformer(nodes);
        let model = export(&graph).unwrap();
        group.bench_function(format!("import of {nodes} nodes"), |b| {
            b.iter(|| import(&model, &ImportOptions::default()).unwrap());
        });
        group.bench_function(format!("export of {nodes} nodes"), |b| b.iter(|| export(&graph).unwrap()));
    }
}

criterion_group!(benches, translation);
criterion_main!(benches);
