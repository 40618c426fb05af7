//! What the tests share: running graphs, and a transformer block.
#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::Arc;

use mslite_backend_cpu::CpuBackend;
use mslite_graph_opt::ir::op::{Binary, MatMul, Norm, Softmax, Unary};
use mslite_graph_opt::{Graph, GraphBuilder, Op, ValueId};
use mslite_runtime::{Backend, CompileOptions, Device, DeviceOptions, Execution, Groups, Result};
use mslite_tensor::{Buffer, Bytes, DType, Dim, HostBuffer, HostStream, Shape, Tensor, TensorSpec};

/// A device of so many threads.
pub(crate) fn device(threads: usize) -> Arc<dyn Device> {
    let info = &CpuBackend.devices().unwrap()[0];
    CpuBackend.open(info, &DeviceOptions::default().with_threads(threads)).unwrap()
}

/// A state of one caller.
pub(crate) fn execution(graph: &Graph, threads: usize) -> Box<dyn Execution> {
    let device = device(threads);
    assert_eq!(device.claim(graph).refused, []);
    device.compile(graph, &CompileOptions::default()).unwrap().instantiate(&Groups::none()).unwrap()
}

/// One run into new tensors of these types.
pub(crate) fn run(
    execution: &mut dyn Execution,
    inputs: &[&Tensor],
    outputs: &[TensorSpec],
) -> Result<Vec<Tensor>> {
    let mut results: Vec<Tensor> = outputs
        .iter()
        .map(|spec| Tensor::zeros(spec.dtype, &spec.shape.as_fixed().unwrap()).unwrap())
        .collect();
    let inputs: Vec<HostBuffer> = inputs.iter().map(|t| HostBuffer::reading(t)).collect();
    let buffers: Vec<HostBuffer> = results.iter_mut().map(|t| HostBuffer::writing(t).unwrap()).collect();
    execution.enqueue(&refs(&inputs), &refs(&buffers), &HostStream)?;
    Ok(results)
}

/// Buffers as the trait takes them.
pub(crate) fn refs(buffers: &[HostBuffer]) -> Vec<&dyn Buffer> {
    buffers.iter().map(|b| b as &dyn Buffer).collect()
}

/// A graph of one operation, all of whose operands are inputs.
pub(crate) fn one_op(op: Op, operands: &[TensorSpec]) -> Graph {
    let mut builder = GraphBuilder::new("one");
    let values: Vec<ValueId> =
        operands.iter().enumerate().map(|(i, spec)| builder.input(format!("x{i}"), spec.clone())).collect();
    let results = builder.push(op, &values, &"test/op".into()).unwrap();
    for (i, result) in results.into_iter().enumerate() {
        builder.output(format!("y{i}"), result);
    }
    builder.finish().unwrap()
}

/// Runs one operation on a device of so many threads.
pub(crate) fn apply(op: Op, operands: &[&Tensor], threads: usize) -> Result<Vec<Tensor>> {
    let specs: Vec<TensorSpec> = operands.iter().map(|t| t.spec()).collect();
    let graph = one_op(op, &specs);
    let outputs: Vec<TensorSpec> = graph.outputs().iter().map(|p| graph.spec(p.value).clone()).collect();
    run(&mut *execution(&graph, threads), operands, &outputs)
}

/// Runs one operation of which the operands at `constants` are constants, with bytes that are not aligned.
pub(crate) fn with_constants(op: Op, operands: &[&Tensor], constants: &[usize], threads: usize) -> Tensor {
    let mut builder = GraphBuilder::new("constants");
    let mut values = Vec::new();
    for (i, operand) in operands.iter().enumerate() {
        values.push(if constants.contains(&i) {
            builder.constant(format!("c{i}"), misaligned(operand))
        } else {
            builder.input(format!("x{i}"), operand.spec())
        });
    }
    let result = builder.push1(op, &values, &"test/op".into()).unwrap();
    builder.output("y", result);
    let graph = builder.finish().unwrap();
    let inputs: Vec<&Tensor> =
        operands.iter().enumerate().filter(|(i, _)| !constants.contains(i)).map(|(_, t)| *t).collect();
    let spec = graph.spec(graph.outputs()[0].value).clone();
    run(&mut *execution(&graph, threads), &inputs, &[spec]).unwrap().remove(0)
}

/// The same tensor over bytes that start at an odd address.
pub(crate) fn misaligned(tensor: &Tensor) -> Tensor {
    let mut bytes = vec![0u8; tensor.size_bytes() + 2];
    let start = 1 + bytes.as_ptr().addr() % 2;
    bytes[start..start + tensor.size_bytes()].copy_from_slice(tensor.bytes());
    let bytes = Bytes::from(bytes).slice(start..start + tensor.size_bytes());
    Tensor::from_bytes(tensor.dtype(), tensor.dims(), bytes).unwrap()
}

/// Numbers that look random, in `-1..1`, the same for the same seed.
pub(crate) fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

pub(crate) fn tensor(dims: &[usize], seed: u64) -> Tensor {
    Tensor::from_vec(noise(dims.iter().product(), seed), dims).unwrap()
}

/// Extents of [`transformer`].
pub(crate) const WIDTH: usize = 256;
pub(crate) const HEADS: usize = 4;
pub(crate) const LENGTH: usize = 24;

/// An attention block and a feed-forward block on `[batch, LENGTH, WIDTH]`.
pub(crate) fn transformer() -> Graph {
    let mut b = Block { builder: GraphBuilder::new("block"), seed: 1 };
    let batch = Dim::symbol("batch");
    let shape = [batch.clone(), Dim::from(LENGTH), Dim::from(WIDTH)];
    let x = b.builder.input("x", TensorSpec::new(DType::F32, Shape::ranked(shape.clone())));
    let normed = b.norm(x);
    let [q, k, v] = [(); 3].map(|()| {
        let projected = b.dense(normed, WIDTH, WIDTH, None);
        b.heads(projected, &batch)
    });
    let scores = b.push(Op::MatMul(MatMul { transpose_b: true, ..MatMul::default() }), &[q, k]);
    let scale = b.builder.constant("", Tensor::scalar(1.0 / ((WIDTH / HEADS) as f32).sqrt()));
    let scores = b.push(Op::Binary(Binary::Mul), &[scores, scale]);
    let weights = b.push(Op::Softmax(Softmax { axis: 3, log: false }), &[scores]);
    let mixed = b.push(Op::MatMul(MatMul::default()), &[weights, v]);
    let mixed = b.push(Op::Transpose(vec![0, 2, 1, 3]), &[mixed]);
    let mixed = b.push(Op::Reshape(shape.to_vec()), &[mixed]);
    let attended = b.dense(mixed, WIDTH, WIDTH, None);
    let x = b.push(Op::Binary(Binary::Add), &[x, attended]);
    let normed = b.norm(x);
    let hidden = b.dense(normed, WIDTH, 4 * WIDTH, Some(Unary::Gelu));
    let out = b.dense(hidden, 4 * WIDTH, WIDTH, None);
    let y = b.push(Op::Binary(Binary::Add), &[x, out]);
    b.builder.output("y", y);
    b.builder.finish().unwrap()
}

struct Block {
    builder: GraphBuilder,
    seed: u64,
}

impl Block {
    fn push(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        self.builder.push1(op, operands, &"block/op".into()).unwrap()
    }

    fn constant(&mut self, dims: &[usize], scale: f32) -> ValueId {
        self.seed += 1;
        let values = noise(dims.iter().product(), self.seed).into_iter().map(|x| x * scale).collect();
        self.builder.constant(format!("w{}", self.seed), Tensor::from_vec(values, dims).unwrap())
    }

    fn dense(&mut self, x: ValueId, from: usize, to: usize, activation: Option<Unary>) -> ValueId {
        let weight = self.constant(&[to, from], 0.1);
        let bias = self.constant(&[to], 0.1);
        let op = MatMul { transpose_b: true, activation, ..MatMul::default() };
        self.push(Op::MatMul(op), &[x, weight, bias])
    }

    fn norm(&mut self, x: ValueId) -> ValueId {
        let (gamma, beta) = (self.constant(&[WIDTH], 1.0), self.constant(&[WIDTH], 0.1));
        self.push(Op::LayerNorm(Norm { axis: 2, epsilon: 1e-5 }), &[x, gamma, beta])
    }

    fn heads(&mut self, x: ValueId, batch: &Dim) -> ValueId {
        let dims = vec![batch.clone(), Dim::from(LENGTH), Dim::from(HEADS), Dim::from(WIDTH / HEADS)];
        let x = self.push(Op::Reshape(dims), &[x]);
        self.push(Op::Transpose(vec![0, 2, 1, 3]), &[x])
    }
}
