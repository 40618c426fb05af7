//! AllReduce of `F32` between ranks that are threads: time of one operation, by bytes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mslite_collective::{CollectiveExt, Reduction, World};

fn all_reduce(ranks: usize, elements: usize, iterations: u64) -> Duration {
    let worlds = World::threads(ranks, Duration::from_secs(60)).expect("threads can be ranks");
    let rank = |world: World| {
        let group = world.everybody();
        let mut data = vec![0f32; elements];
        let mut repeat = |times: u64| {
            for _ in 0..times {
                group.all_reduce(black_box(&mut data), Reduction::Sum).expect("all ranks are here");
            }
        };
        repeat(iterations.min(3));
        let start = Instant::now();
        repeat(iterations);
        start.elapsed()
    };
    std::thread::scope(|scope| {
        let ranks: Vec<_> = worlds.into_iter().map(|world| scope.spawn(move || rank(world))).collect();
        ranks.into_iter().map(|rank| rank.join().expect("ranks do not panic")).max().unwrap_or_default()
    })
}

fn bench(criterion: &mut Criterion) {
    for ranks in [2, 4] {
        let mut group = criterion.benchmark_group(format!("all_reduce/{ranks} ranks"));
        group.sample_size(20);
        for bytes in [4, 64 << 10, 1 << 20, 16 << 20] {
            group.throughput(Throughput::Bytes(bytes as u64));
            group.bench_with_input(BenchmarkId::from_parameter(bytes), &bytes, |bencher, &bytes| {
                bencher.iter_custom(|iterations| all_reduce(ranks, bytes / 4, iterations));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
