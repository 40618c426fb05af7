//! How fast models are decoded and decrypted. Run with `cargo bench -p mslite-mindir`.
#![allow(missing_docs, reason = "made by criterion's macros")]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mslite_mindir::{
    Attributes, Bytes, DataType, Key, Layout, Mode, Model, ModelBuilder, OpenOptions, Primitive,
    PrimitiveKind, SaveOptions, Type,
};
use mslite_tensor::Tensor;

/// A chain of additions.
fn chain(nodes: usize) -> Model {
    let add = Primitive::new("Add", PrimitiveKind::Function, Attributes::default());
    let ty = || Type::tensor(DataType::Float32, [64, 64]);
    let mut builder = ModelBuilder::new("chain");
    let mut graph = builder.entry();
    let mut x = graph.input("x", ty());
    for _ in 0..nodes {
        x = graph.apply(&add, &[x.clone(), x], Some(ty()));
    }
    graph.output(&x, Some(ty()));
    builder.finish().expect("a chain is consistent")
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    let mut bench = |name: &str, bytes: Bytes, nodes: usize| {
        group.throughput(Throughput::Elements(nodes as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| Model::from_bytes(black_box(bytes.clone()), "m", &OpenOptions::new()).unwrap());
        });
    };
    for nodes in [10_000, 100_000] {
        let model = chain(nodes);
        bench(&format!("chain of {nodes}"), model.to_bytes().unwrap(), nodes);
    }
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models/dev");
    for name in ["w_bert/model", "w_vit/model", "d_llama_tp4_fp32/rank0"] {
        let Ok(model) = Model::open(models.join(format!("{name}.mindir")), &OpenOptions::new()) else {
            continue;
        };
        bench(name, model.to_bytes().unwrap(), model.nodes().count());
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let nodes = 100_000;
    let model = chain(nodes);
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(nodes as u64));
    group.bench_function("chain of 100000", |bencher| {
        bencher.iter(|| black_box(&model).to_bytes().unwrap());
    });
    group.finish();
}

/// An encrypted file of one weight.
fn encrypted(mib: usize, mode: Mode, key: &Key) -> Bytes {
    let folder = std::env::temp_dir().join(format!("mindir-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut builder = ModelBuilder::new("big");
    let mut graph = builder.entry();
    let weight = graph.parameter("w", Tensor::from_vec(vec![7u8; mib << 20], &[mib << 20]).unwrap());
    graph.output(&weight, None);
    let options = SaveOptions::new().layout(Layout::Single).encrypt(mode, key.clone());
    let path = builder.finish().unwrap().save(folder.join("m.mindir"), &options).unwrap().graph;
    let bytes = std::fs::read(&path).unwrap();
    let _ = std::fs::remove_dir_all(&folder);
    bytes.into()
}

/// One thread decrypts a record of up to 64 MiB; as many as there are cores, several.
fn decrypt(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decrypt");
    group.sample_size(10);
    for (mode, key_size, mib) in [
        (Mode::AesGcm, 16, 60),
        (Mode::AesGcm, 32, 60),
        (Mode::AesGcm, 24, 60),
        (Mode::AesGcm, 16, 512),
        (Mode::AesCbc, 16, 512),
        (Mode::Sm4Cbc, 16, 60),
    ] {
        group.throughput(Throughput::Bytes((mib << 20) as u64));
        let records = if mib > 64 { "records in parallel" } else { "one record, one core" };
        group.bench_function(format!("{mode}-{} {records}", key_size * 8), |bencher| {
            let key = Key::new(vec![1; key_size]);
            let bytes = encrypted(mib, mode, &key);
            let options = OpenOptions::new().key(key);
            bencher.iter(|| Model::from_bytes(bytes.clone(), "m", &options).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, decode, encode, decrypt);
criterion_main!(benches);
