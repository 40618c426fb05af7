//! Transformers of any number of layers, spelled out as MindSpore exports them.

use mslite_graph_opt::ir::op::{Binary, MatMul, Op, Reduce, ReduceKind, Slice, Softmax, Unary};
use mslite_graph_opt::{Graph, GraphBuilder, ValueId};
use mslite_tensor::{DType, Dim, Tensor, TensorSpec};

const BATCH: usize = 2;
const LENGTH: usize = 8;
const HEADS: usize = 4;
const WIDTH: usize = 16;
const ALL: usize = HEADS * WIDTH;

/// Nodes of a layer.
const LAYER: usize = 51;

struct Maker {
    builder: GraphBuilder,
    layer: usize,
}

impl Maker {
    fn push(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let origin = format!("Default/layers-CellList/{}-Layer/{}", self.layer, op.name()).into();
        self.builder.push1(op, operands, &origin).unwrap()
    }

    fn binary(&mut self, f: Binary, x: ValueId, y: ValueId) -> ValueId {
        self.push(Op::Binary(f), &[x, y])
    }

    fn constant(&mut self, dims: &[usize], value: f32) -> ValueId {
        let count = dims.iter().product();
        self.builder.constant("", Tensor::from_vec(vec![value; count], dims).unwrap())
    }

    fn weighted(&mut self, x: ValueId, name: &str) -> ValueId {
        let weight = Tensor::from_vec(vec![0.5f32; ALL * ALL], &[ALL, ALL]).unwrap();
        let weight = self.builder.constant(format!("{}.{name}", self.layer), weight);
        self.push(Op::MatMul(MatMul::default()), &[x, weight])
    }

    fn norm(&mut self, x: ValueId) -> ValueId {
        let (epsilon, gamma) = (self.constant(&[], 0.001), self.constant(&[ALL], 0.5));
        let square = self.push(Op::Unary(Unary::Square), &[x]);
        let mean = Op::Reduce(Reduce { kind: ReduceKind::Mean, axes: vec![1], keep_dims: true });
        let mean = self.push(mean, &[square]);
        let moved = self.binary(Binary::Add, mean, epsilon);
        let root = self.push(Op::Unary(Unary::Rsqrt), &[moved]);
        let normal = self.binary(Binary::Mul, x, root);
        self.binary(Binary::Mul, normal, gamma)
    }

    fn heads(&mut self, x: ValueId, name: &str) -> ValueId {
        let x = self.weighted(x, name);
        let x = self.push(Op::Reshape([BATCH, LENGTH, HEADS, WIDTH].map(Dim::from).to_vec()), &[x]);
        self.push(Op::Transpose(vec![0, 2, 1, 3]), &[x])
    }

    fn rope(&mut self, x: ValueId, cos: ValueId, sin: ValueId) -> ValueId {
        let half = |first: usize| {
            let dims =
                |last: usize, lead: [usize; 3]| lead.into_iter().chain([last]).map(Dim::from).collect();
            let (starts, sizes) = (dims(first, [0; 3]), dims(WIDTH / 2, [BATCH, HEADS, LENGTH]));
            Op::Slice(Slice { starts, sizes, steps: vec![1; 4] })
        };
        let straight = self.binary(Binary::Mul, x, cos);
        let high = self.push(half(WIDTH / 2), &[x]);
        let high = self.push(Op::Unary(Unary::Neg), &[high]);
        let low = self.push(half(0), &[x]);
        let turned = self.push(Op::Concat { axis: 3 }, &[high, low]);
        let turned = self.binary(Binary::Mul, turned, sin);
        self.binary(Binary::Add, straight, turned)
    }

    fn attention(&mut self, x: ValueId) -> ValueId {
        let factors = [0.25, 0.75].map(|value| self.constant(&[LENGTH, WIDTH], value));
        let (q, k, v) = (self.heads(x, "q"), self.heads(x, "k"), self.heads(x, "v"));
        let (q, k) = (self.rope(q, factors[0], factors[1]), self.rope(k, factors[0], factors[1]));
        let scores = self.push(Op::MatMul(MatMul { transpose_b: true, ..MatMul::default() }), &[q, k]);
        let scale = self.constant(&[], 0.25);
        let scores = self.binary(Binary::Mul, scores, scale);
        let weights = self.push(Op::Softmax(Softmax { axis: 3, log: false }), &[scores]);
        let y = self.push(Op::MatMul(MatMul::default()), &[weights, v]);
        let y = self.push(Op::Transpose(vec![0, 2, 1, 3]), &[y]);
        let y = self.push(Op::Reshape([BATCH * LENGTH, ALL].map(Dim::from).to_vec()), &[y]);
        self.weighted(y, "o")
    }

    fn gated(&mut self, x: ValueId) -> ValueId {
        let (gate, up) = (self.weighted(x, "gate"), self.weighted(x, "up"));
        let sigmoid = self.push(Op::Unary(Unary::Sigmoid), &[gate]);
        let gate = self.binary(Binary::Mul, gate, sigmoid);
        let product = self.binary(Binary::Mul, gate, up);
        self.weighted(product, "down")
    }
}

/// A transformer of about so many nodes.
pub(crate) fn transformer(nodes: usize) -> Graph {
    let mut maker = Maker { builder: GraphBuilder::new("transformer"), layer: 0 };
    let mut x = maker.builder.input("x", TensorSpec::fixed(DType::F32, &[BATCH * LENGTH, ALL]));
    for layer in 0..nodes.div_ceil(LAYER) {
        maker.layer = layer;
        let y = maker.norm(x);
        let y = maker.attention(y);
        x = maker.binary(Binary::Add, x, y);
        let y = maker.norm(x);
        let y = maker.gated(y);
        x = maker.binary(Binary::Add, x, y);
    }
    maker.builder.output("y", x);
    maker.builder.finish().unwrap()
}
