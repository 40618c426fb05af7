//! A matrix product, element-wise functions and a transformer block.
#![allow(missing_docs, reason = "criterion's macros define public items")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{LENGTH, WIDTH, execution, noise, tensor, transformer};
use criterion::{Criterion, criterion_group, criterion_main};
use mslite_graph_opt::ir::op::{MatMul, Reduce, ReduceKind, Softmax, Unary};
use mslite_graph_opt::{Graph, GraphBuilder, Op};
use mslite_tensor::{DType, HostBuffer, HostStream, Tensor, TensorSpec};

fn measure(c: &mut Criterion, name: &str, graph: &Graph, input: &Tensor, output: &[usize]) {
    for threads in [1, 2] {
        let mut execution = execution(graph, threads);
        let mut result = Tensor::zeros(DType::F32, output).unwrap();
        let (x, y) = (HostBuffer::reading(input), HostBuffer::writing(&mut result).unwrap());
        c.bench_function(&format!("{name}, {threads} threads"), |b| {
            b.iter(|| execution.enqueue(&[&x], &[&y], &HostStream).unwrap());
        });
    }
}

fn product(m: usize, k: usize, n: usize) -> Graph {
    let mut builder = GraphBuilder::new("product");
    let x = builder.input("x", TensorSpec::fixed(DType::F32, &[m, k]));
    let w = builder.constant("w", Tensor::from_vec(noise(k * n, 1), &[k, n]).unwrap());
    let y = builder.push1(Op::MatMul(MatMul::default()), &[x, w], &"bench".into()).unwrap();
    builder.output("y", y);
    builder.finish().unwrap()
}

fn benches(c: &mut Criterion) {
    for (m, k, n) in [(1, 4096, 4096), (32, 4096, 4096), (1024, 1024, 1024)] {
        measure(c, &format!("{m}x{k}x{n}"), &product(m, k, n), &tensor(&[m, k], 2), &[m, n]);
    }
    let dims = [512, 1024];
    let sum = Reduce { kind: ReduceKind::Sum, axes: vec![1], keep_dims: false };
    let softmax = Op::Softmax(Softmax { axis: 1, log: false });
    for (name, op, output) in [
        ("exp", Op::Unary(Unary::Exp), &dims[..]),
        ("gelu", Op::Unary(Unary::Gelu), &dims),
        ("softmax", softmax, &dims),
        ("sum", Op::Reduce(sum), &dims[..1]),
        ("transpose", Op::Transpose(vec![1, 0]), &[1024, 512]),
    ] {
        let graph = common::one_op(op, &[TensorSpec::fixed(DType::F32, &dims)]);
        measure(c, name, &graph, &tensor(&dims, 3), output);
    }
    for batch in [1, 8] {
        let dims = [batch, LENGTH, WIDTH];
        measure(c, &format!("transformer, batch {batch}"), &transformer(), &tensor(&dims, 4), &dims);
    }
}

criterion_group!(group, benches);
criterion_main!(group);
