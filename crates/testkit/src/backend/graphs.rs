use std::sync::Arc;

use mslite_graph_opt::ir::op::{Binary, MatMul, Norm, Reduce, ReduceKind, Slice, Softmax, Unary};
use mslite_graph_opt::{Graph, GraphBuilder, Op, ValueId};
use mslite_tensor::{DType, Dim, Shape, Tensor, TensorSpec};

use super::run::{GraphCase, finish};
use crate::Tolerance;
use crate::generate::Generator;

pub(super) fn cases() -> Vec<GraphCase> {
    let mut cases = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        let tolerance = Tolerance::of(dtype).times(10.0);
        let x = |dims: &[usize]| Generator::new(50).tensor(dtype, dims, -1.0, 1.0);
        let mut push = |name: &str, graph: Graph, calls: Vec<Vec<Tensor>>| {
            cases.push(GraphCase { name: format!("{name}/{dtype}"), graph, calls, tolerance });
        };
        push("graph/mlp", mlp(dtype, Dim::from(3)), vec![vec![x(&[3, 12])]]);
        push("graph/attention", attention(dtype, &Dim::from(5)), vec![vec![x(&[2, 5, 16])]]);
        push("graph/intermediate_output", intermediate_output(dtype), vec![vec![x(&[4, 3])]]);
        push("graph/diamond", diamond(dtype), vec![vec![x(&[4, 3])]]);
        push("graph/unused_nodes", unused_nodes(dtype), vec![vec![x(&[4, 3])]]);
        let batches = [1, 7, 3, 0, 7].map(|batch| vec![x(&[batch, 12])]);
        push("symbolic/mlp", mlp(dtype, Dim::symbol("batch")), batches.to_vec());
        let sequences = [5, 1, 9].map(|length| vec![x(&[2, length, 16])]);
        push("symbolic/attention", attention(dtype, &Dim::symbol("length")), sequences.to_vec());
        let halves = [2, 8, 4].map(|n| vec![x(&[n, 3]), x(&[3])]);
        push("symbolic/layout", symbolic_layout(dtype), halves.to_vec());
        let parts =
            [2_i64, 0, 5, 3].map(|n| vec![x(&[5, 3]), Tensor::from_vec(vec![n], &[1]).expect("one number")]);
        push("symbolic/data", extents_from_data(dtype), parts.to_vec());
    }
    cases
}

/// Adds nodes one after another.
pub(super) struct Chain {
    pub(super) builder: GraphBuilder,
    generator: Generator,
    dtype: DType,
}

impl Chain {
    pub(super) fn new(dtype: DType) -> Self {
        Chain { builder: GraphBuilder::new("case"), generator: Generator::new(51), dtype }
    }

    pub(super) fn input(&mut self, dims: Vec<Dim>) -> ValueId {
        let name = format!("input{}", self.builder.graph().inputs().len());
        self.builder.input(name, TensorSpec::new(self.dtype, Shape::ranked(dims)))
    }

    pub(super) fn weight(&mut self, dims: &[usize]) -> ValueId {
        let scale = 1.0 / (dims[0] as f64).sqrt();
        let tensor = self.generator.tensor(self.dtype, dims, -scale, scale);
        self.builder.constant(format!("weight{}", self.builder.graph().values().len()), tensor)
    }

    pub(super) fn node(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let origin: Arc<str> = format!("case/{}{}", op.name(), self.builder.graph().nodes().len()).into();
        self.builder.push1(op, operands, &origin).expect("the case fits its operands")
    }

    pub(super) fn dense(&mut self, x: ValueId, inner: usize, outer: usize) -> ValueId {
        let (weight, bias) = (self.weight(&[inner, outer]), self.weight(&[outer]));
        let product = self.node(Op::MatMul(MatMul::default()), &[x, weight]);
        self.node(Op::Binary(Binary::Add), &[product, bias])
    }
}

fn mlp(dtype: DType, batch: Dim) -> Graph {
    let mut chain = Chain::new(dtype);
    let x = chain.input(vec![batch, Dim::from(12)]);
    let hidden = chain.dense(x, 12, 20);
    let hidden = chain.node(Op::Unary(Unary::Relu), &[hidden]);
    let y = chain.dense(hidden, 20, 5);
    finish(chain.builder, &[y])
}

/// Pre-norm self-attention with 2 heads of 8 and a residual, on `[2, length, 16]`.
fn attention(dtype: DType, length: &Dim) -> Graph {
    let mut chain = Chain::new(dtype);
    let x = chain.input(vec![Dim::from(2), length.clone(), Dim::from(16)]);
    let (gamma, beta) = (chain.weight(&[16]), chain.weight(&[16]));
    let normal = chain.node(Op::LayerNorm(Norm { axis: 2, epsilon: 1e-5 }), &[x, gamma, beta]);
    let heads = vec![Dim::from(2), length.clone(), Dim::from(2), Dim::from(8)];
    let [query, key, value] = [(); 3].map(|()| {
        let projected = chain.dense(normal, 16, 16);
        let split = chain.node(Op::Reshape(heads.clone()), &[projected]);
        chain.node(Op::Transpose(vec![0, 2, 1, 3]), &[split])
    });
    let product = MatMul { transpose_b: true, ..MatMul::default() };
    let scores = chain.node(Op::MatMul(product), &[query, key]);
    let scale = Generator::new(1).tensor(dtype, &[], 0.353, 0.354);
    let scale = chain.builder.constant("scale", scale);
    let scores = chain.node(Op::Binary(Binary::Mul), &[scores, scale]);
    let weights = chain.node(Op::Softmax(Softmax { axis: 3, log: false }), &[scores]);
    let mixed = chain.node(Op::MatMul(MatMul::default()), &[weights, value]);
    let joined = chain.node(Op::Transpose(vec![0, 2, 1, 3]), &[mixed]);
    let joined = chain.node(Op::Reshape(vec![Dim::from(2), length.clone(), Dim::from(16)]), &[joined]);
    let projected = chain.dense(joined, 16, 16);
    let y = chain.node(Op::Binary(Binary::Add), &[x, projected]);
    finish(chain.builder, &[y])
}

/// A value that is an output and an operand.
fn intermediate_output(dtype: DType) -> Graph {
    let mut chain = Chain::new(dtype);
    let x = chain.input(vec![Dim::from(4), Dim::from(3)]);
    let sum = chain.node(Op::Binary(Binary::Add), &[x, x]);
    let relu = chain.node(Op::Unary(Unary::Relu), &[sum]);
    finish(chain.builder, &[relu, sum])
}

/// A value that two nodes read and a third brings together again.
fn diamond(dtype: DType) -> Graph {
    let mut chain = Chain::new(dtype);
    let x = chain.input(vec![Dim::from(4), Dim::from(3)]);
    let left = chain.node(Op::Unary(Unary::Relu), &[x]);
    let right = chain.node(Op::Binary(Binary::Mul), &[x, left]);
    let both = chain.node(Op::Binary(Binary::Add), &[left, right]);
    let y = chain.node(Op::Binary(Binary::Mul), &[both, x]);
    finish(chain.builder, &[y])
}

fn unused_nodes(dtype: DType) -> Graph {
    let mut chain = Chain::new(dtype);
    let x = chain.input(vec![Dim::from(4), Dim::from(3)]);
    let _unused = chain.node(Op::Binary(Binary::Mul), &[x, x]);
    let y = chain.node(Op::Unary(Unary::Relu), &[x]);
    finish(chain.builder, &[y])
}

/// Extents in attributes: half of the rows, a row repeated as often, both together, their mean and their number.
fn symbolic_layout(dtype: DType) -> Graph {
    let mut chain = Chain::new(dtype);
    let rows = Dim::symbol("rows");
    let half = rows.floor_div(&Dim::from(2));
    let x = chain.input(vec![rows.clone(), Dim::from(3)]);
    let row = chain.input(vec![Dim::from(3)]);
    let slice = Slice {
        starts: vec![&rows - &half, Dim::from(0)],
        sizes: vec![half.clone(), Dim::from(3)],
        steps: vec![1, 1],
    };
    let lower = chain.node(Op::Slice(slice), &[x]);
    let repeated = chain.node(Op::Broadcast(vec![half, Dim::from(3)]), &[row]);
    let joined = chain.node(Op::Concat { axis: 0 }, &[lower, repeated, x]);
    let mean = Reduce { kind: ReduceKind::Mean, axes: vec![0], keep_dims: true };
    let mean = chain.node(Op::Reduce(mean), &[joined]);
    let count = chain.node(Op::Extents(vec![rows]), &[]);
    finish(chain.builder, &[joined, mean, count])
}

/// As many rows as a tensor says; as many of their sums as an element of what was computed with them says.
fn extents_from_data(dtype: DType) -> Graph {
    let mut chain = Chain::new(dtype);
    let x = chain.input(vec![Dim::from(5), Dim::from(3)]);
    let count = chain.builder.input("count", TensorSpec::fixed(DType::I64, &[1]));
    let symbol = |chain: &mut Chain, name: &str, count: ValueId| {
        let bind = Op::Bind(vec![name.into()]);
        chain.builder.push(bind, &[count], &"case/bind".into()).expect("the case fits its operands");
        Dim::symbol(name)
    };
    let rows = symbol(&mut chain, "rows", count);
    let slice = |sizes: Vec<Dim>| {
        let rank = sizes.len();
        Op::Slice(Slice { starts: vec![Dim::from(0); rank], sizes, steps: vec![1; rank] })
    };
    let part = chain.node(slice(vec![rows.clone(), Dim::from(3)]), &[x]);
    let sums = Reduce { kind: ReduceKind::Sum, axes: vec![1], keep_dims: false };
    let sums = chain.node(Op::Reduce(sums), &[part]);
    let extents = chain.node(Op::Extents(vec![rows.floor_div(&Dim::from(2))]), &[]);
    let half = symbol(&mut chain, "half", extents);
    let upper = chain.node(slice(vec![half]), &[sums]);
    let twice = chain.node(Op::Binary(Binary::Add), &[x, x]);
    finish(chain.builder, &[part, upper, twice])
}
