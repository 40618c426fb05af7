//! Planning of arenas for graphs of several sizes.
#![allow(missing_docs, reason = "criterion's macros define public items")]

use criterion::{Criterion, criterion_group, criterion_main};
use mslite_runtime::memory::{Lifetime, plan};

/// Lifetimes as a transformer has them: mostly short, some over a layer, a few over the whole run.
fn lifetimes(count: usize) -> Vec<Lifetime> {
    let mut seed = 1u64;
    let mut random = |n: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % n
    };
    let one = |first: usize| {
        let length = match random(1000) {
            0 => count,
            1..50 => random(40),
            _ => 1 + random(3),
        };
        Lifetime { size: 64 << random(12), first, last: (first + length).min(count) }
    };
    (0..count).map(one).collect()
}

fn planning(c: &mut Criterion) {
    for count in [1_000, 10_000, 100_000] {
        let values = lifetimes(count);
        let layout = plan(&values).unwrap();
        let ratio = layout.size as f64 / layout.lower_bound as f64;
        c.bench_function(&format!("plan {count} values (ratio {ratio:.3})"), |b| {
            b.iter(|| plan(&values).unwrap());
        });
    }
}

criterion_group!(benches, planning);
criterion_main!(benches);
