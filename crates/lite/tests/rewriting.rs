//! Random networks, put together from the parts that real ones have, compute at O2 what they compute at O0. Parts are
//! spelled in many ways, some of which are not what they look like, and values within them may be outputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use mslite_backend_cpu::CpuEvaluator;
use mslite_graph_opt::ir::op::{
    Binary, Conv2d, MatMul, Op, Pad, PadMode, Padding2d, Reduce, ReduceKind, Slice, Softmax, Unary,
};
use mslite_graph_opt::pass::{Level, OptimiseOptions, optimise};
use mslite_graph_opt::{Graph, GraphBuilder, ValueId};
use mslite_tensor::{DType, Dim, Tensor, TensorSpec};
use mslite_testkit::{Generator, Tolerance, compare, reference};

/// Graphs that are compared; `MSLITE_REWRITING_GRAPHS` changes it.
const GRAPHS: u64 = 10_000;

#[test]
#[allow(clippy::print_stdout, reason = "says how often each rule was applied")]
fn optimised_networks_compute_the_same() {
    let graphs = std::env::var("MSLITE_REWRITING_GRAPHS").ok().and_then(|n| n.parse().ok()).unwrap_or(GRAPHS);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let work = |first: u64| {
        let mut rules = BTreeMap::new();
        for seed in (first..graphs).step_by(threads as usize) {
            check(seed, &mut rules);
        }
        rules
    };
    let mut rules: BTreeMap<String, usize> = BTreeMap::new();
    std::thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = (0..threads).map(|first| scope.spawn(move || work(first))).collect();
        for worker in workers {
            for (rule, count) in worker.join().unwrap() {
                *rules.entry(rule).or_default() += count;
            }
        }
    });
    println!("{graphs} graphs, rewrites by rule: {rules:#?}");
    if graphs >= 1000 {
        for rule in REACHED {
            assert!(rules.contains_key(*rule), "no graph has exercised {rule}");
        }
    }
}

/// What only networks of this kind exercise.
const REACHED: &[&str] = &[
    "attention: attention",
    "attention: rope",
    "recognition: gelu",
    "recognition: layer_norm",
    "recognition: rms_norm",
    "recognition: sigmoid_product",
    "recognition: softmax",
];

fn check(seed: u64, rules: &mut BTreeMap<String, usize>) {
    let (graph, inputs) = Network::new(seed).build();
    let evaluator = Some(Arc::new(CpuEvaluator) as _);
    let (optimised, report) =
        optimise(&graph, &OptimiseOptions { evaluator, ..OptimiseOptions::at(Level::O2) }).unwrap();
    for rewrite in &report.rewrites {
        *rules.entry(format!("{}: {}", rewrite.pass, rewrite.rule)).or_default() += 1;
    }
    assert!(report.converged, "seed {seed}: passes do not come to an end\n{graph}");
    let before = reference::evaluate(&graph, &inputs).unwrap();
    let after = reference::evaluate(&optimised, &inputs)
        .unwrap_or_else(|reason| panic!("seed {seed}: {reason}\n{graph}\n{optimised}"));
    for (n, (before, after)) in before.iter().zip(&after).enumerate() {
        compare(after, before, Tolerance { rtol: 1e-3, atol: 1e-4 })
            .unwrap_or_else(|reason| panic!("seed {seed}, output {n}: {reason}\n{graph}\n{optimised}"));
    }
}

/// A network in the making.
struct Network {
    builder: GraphBuilder,
    random: Generator,
    inputs: Vec<Tensor>,
    batch: usize,
    length: usize,
    heads: usize,
    width: usize,
    values: Vec<ValueId>,
}

impl Network {
    fn new(seed: u64) -> Self {
        let mut random = Generator::new(seed);
        let mut size = |most: u64| 1 + (random.bits() % most) as usize;
        let (batch, length, heads, width) = (size(2), size(4), size(2), 2 * size(2));
        let (builder, inputs, values) = (GraphBuilder::new("network"), Vec::new(), Vec::new());
        Network { builder, random, inputs, batch, length, heads, width, values }
    }

    fn build(mut self) -> (Graph, Vec<Tensor>) {
        if self.chance(5) {
            self.image();
        } else {
            self.sequence();
        }
        (self.builder.finish().unwrap(), self.inputs)
    }

    fn sequence(&mut self) {
        let mut x = self.input(&[self.batch, self.length, self.all()]);
        for _ in 0..1 + self.below(4) {
            let y = match self.below(9) {
                0 => self.rms_norm(x),
                1 => self.layer_norm(x),
                2 => self.gelu(x),
                3 => self.silu(x),
                4 => self.gated(x),
                5 | 6 => self.attention(x),
                7 => self.shuffled(x),
                _ => self.dense(x, self.all()),
            };
            x = if self.chance(3) { self.binary(Binary::Add, x, y) } else { y };
        }
        self.outputs(x);
    }

    /// Some of the values that were made, and the last one.
    fn outputs(&mut self, last: ValueId) {
        self.builder.output("y", last);
        let values = std::mem::take(&mut self.values);
        for (n, value) in values.into_iter().enumerate() {
            if self.chance(40) && value != last {
                self.builder.output(format!("y{n}"), value);
            }
        }
    }

    fn all(&self) -> usize {
        self.heads * self.width
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.random.bits() >> 16) % n
    }

    /// Once in `n` times.
    fn chance(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn input(&mut self, dims: &[usize]) -> ValueId {
        let tensor = self.random.tensor(DType::F32, dims, -1.0, 1.0);
        let id = self.builder.input(format!("x{}", self.inputs.len()), tensor.spec());
        self.inputs.push(tensor);
        id
    }

    fn weight(&mut self, dims: &[usize]) -> ValueId {
        let tensor = self.random.tensor(DType::F32, dims, -0.5, 0.5);
        self.builder.constant("w", tensor)
    }

    fn number(&mut self, value: f32) -> ValueId {
        let dims: &[usize] = [&[][..], &[1], &[1, 1]][self.below(3) as usize];
        self.builder.constant("", Tensor::from_vec(vec![value], dims).unwrap())
    }

    fn push(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let id = self.builder.push1(op, operands, &"network/node".into()).unwrap();
        self.values.push(id);
        id
    }

    fn spec(&self, x: ValueId) -> &TensorSpec {
        self.builder.spec(x)
    }

    fn unary(&mut self, f: Unary, x: ValueId) -> ValueId {
        self.push(Op::Unary(f), &[x])
    }

    /// The operands of what may be swapped are, now and then.
    fn binary(&mut self, f: Binary, x: ValueId, y: ValueId) -> ValueId {
        let swapped = f.is_commutative() && self.chance(2);
        self.push(Op::Binary(f), &if swapped { [y, x] } else { [x, y] })
    }

    fn with(&mut self, f: Binary, x: ValueId, value: f32) -> ValueId {
        let value = self.number(value);
        self.binary(f, x, value)
    }

    fn reshape(&mut self, x: ValueId, dims: &[usize]) -> ValueId {
        self.push(Op::Reshape(dims.iter().copied().map(Dim::from).collect()), &[x])
    }

    fn mean(&mut self, x: ValueId) -> ValueId {
        // Now and then over another axis.
        let axis = if self.chance(12) { 1 } else { 2 };
        self.push(Op::Reduce(Reduce { kind: ReduceKind::Mean, axes: vec![axis], keep_dims: true }), &[x])
    }

    fn squared(&mut self, x: ValueId) -> ValueId {
        match self.below(3) {
            0 => self.unary(Unary::Square, x),
            1 => self.with(Binary::Pow, x, 2.0),
            _ => self.binary(Binary::Mul, x, x),
        }
    }

    /// `x / sqrt(variance + epsilon)`
    fn divided(&mut self, x: ValueId, variance: ValueId) -> ValueId {
        let epsilon = [1e-2, 1e-3][self.below(2) as usize];
        let sum = self.with(Binary::Add, variance, epsilon);
        match self.below(3) {
            0 => {
                let root = self.unary(Unary::Rsqrt, sum);
                self.binary(Binary::Mul, x, root)
            }
            1 => {
                let root = self.unary(Unary::Sqrt, sum);
                self.binary(Binary::Div, x, root)
            }
            _ => {
                let root = self.with(Binary::Pow, sum, 0.5);
                self.binary(Binary::Div, x, root)
            }
        }
    }

    fn rms_norm(&mut self, x: ValueId) -> ValueId {
        let square = self.squared(x);
        let mean = self.mean(square);
        let normal = self.divided(x, mean);
        let gamma = self.weight(&[self.all()]);
        self.binary(Binary::Mul, normal, gamma)
    }

    fn layer_norm(&mut self, x: ValueId) -> ValueId {
        let mean = self.mean(x);
        let centred = self.binary(Binary::Sub, x, mean);
        let square = match self.below(2) {
            0 => self.squared(centred),
            _ => self.binary(Binary::SquaredDifference, x, mean),
        };
        let variance = self.mean(square);
        let mut y = self.divided(centred, variance);
        if !self.chance(3) {
            let gamma = self.weight(&[self.all()]);
            y = self.binary(Binary::Mul, y, gamma);
            let beta = self.weight(&[self.all()]);
            y = self.binary(Binary::Add, y, beta);
        }
        y
    }

    fn gelu(&mut self, x: ValueId) -> ValueId {
        let inner = if self.chance(2) {
            let scaled = match self.below(2) {
                0 => self.with(Binary::Div, x, std::f32::consts::SQRT_2),
                _ => self.with(Binary::Mul, x, std::f32::consts::FRAC_1_SQRT_2),
            };
            self.unary(Unary::Erf, scaled)
        } else {
            let cube = match self.below(2) {
                0 => self.with(Binary::Pow, x, 3.0),
                _ => {
                    let square = self.squared(x);
                    self.binary(Binary::Mul, square, x)
                }
            };
            let part = self.with(Binary::Mul, cube, 0.044_715);
            let sum = self.binary(Binary::Add, x, part);
            // Now and then it is no GELU.
            let factor = if self.chance(8) { 0.8 } else { 0.797_884_6 };
            let scaled = self.with(Binary::Mul, sum, factor);
            self.unary(Unary::Tanh, scaled)
        };
        let more = self.with(Binary::Add, inner, 1.0);
        if self.chance(2) {
            let half = self.with(Binary::Mul, x, 0.5);
            self.binary(Binary::Mul, half, more)
        } else {
            let twice = self.binary(Binary::Mul, x, more);
            self.with(Binary::Mul, twice, 0.5)
        }
    }

    fn silu(&mut self, x: ValueId) -> ValueId {
        let gate = match self.below(3) {
            0 => self.with(Binary::Mul, x, 1.702),
            _ => x,
        };
        let gate = self.unary(Unary::Sigmoid, gate);
        self.binary(Binary::Mul, x, gate)
    }

    /// `down(silu(gate(x)) * up(x))`
    fn gated(&mut self, x: ValueId) -> ValueId {
        let (gate, up) = (self.dense(x, 6), self.dense(x, 6));
        let gate = self.silu(gate);
        let product = self.binary(Binary::Mul, gate, up);
        self.dense(product, self.all())
    }

    /// `x @ w + b`, perhaps as a product of matrices.
    fn dense(&mut self, x: ValueId, outer: usize) -> ValueId {
        let dims = self.spec(x).shape.as_fixed().unwrap();
        let [batch, length, inner] = dims[..] else { panic!("dense takes three axes") };
        let flat = self.chance(2);
        let x = if flat { self.reshape(x, &[batch * length, inner]) } else { x };
        let transpose_b = self.chance(2);
        let weight = self.weight(&if transpose_b { [outer, inner] } else { [inner, outer] });
        let mut y = self.push(Op::MatMul(MatMul { transpose_b, ..MatMul::default() }), &[x, weight]);
        if !self.chance(3) {
            let bias = self.weight(&[outer]);
            y = self.binary(Binary::Add, y, bias);
        }
        if self.chance(6) {
            y = self.unary(Unary::Relu, y);
        }
        if flat { self.reshape(y, &[batch, length, outer]) } else { y }
    }

    /// `[batch, heads, length, width]`
    fn split_heads(&mut self, x: ValueId) -> ValueId {
        let x = self.reshape(x, &[self.batch, self.length, self.heads, self.width]);
        self.push(Op::Transpose(vec![0, 2, 1, 3]), &[x])
    }

    fn attention(&mut self, x: ValueId) -> ValueId {
        let [q, k, v] = [0; 3].map(|_| {
            let y = self.dense(x, self.all());
            self.split_heads(y)
        });
        let (q, k) = if self.chance(2) { self.rotated(q, k) } else { (q, k) };
        let scale = 1.0 / (self.width as f32).sqrt();
        let early = self.chance(3);
        let q = if early { self.with(Binary::Mul, q, scale) } else { q };
        let mut scores = match self.below(2) {
            0 => {
                let k = self.push(Op::Transpose(vec![0, 1, 3, 2]), &[k]);
                self.push(Op::MatMul(MatMul::default()), &[q, k])
            }
            _ => self.push(Op::MatMul(MatMul { transpose_b: true, ..MatMul::default() }), &[q, k]),
        };
        if !early {
            scores = match self.below(2) {
                0 => self.with(Binary::Mul, scores, scale),
                _ => self.with(Binary::Div, scores, 1.0 / scale),
            };
        }
        if self.chance(2) {
            let mask = self.input(&[1, 1, self.length, self.length]);
            scores = self.binary(Binary::Add, scores, mask);
        }
        let weights = self.softmax(scores);
        let y = self.push(Op::MatMul(MatMul::default()), &[weights, v]);
        let y = self.push(Op::Transpose(vec![0, 2, 1, 3]), &[y]);
        let y = self.reshape(y, &[self.batch, self.length, self.all()]);
        if self.chance(4) { y } else { self.dense(y, self.all()) }
    }

    fn softmax(&mut self, x: ValueId) -> ValueId {
        if !self.chance(3) {
            return self.push(Op::Softmax(Softmax { axis: 3, log: false }), &[x]);
        }
        let over = |kind| Op::Reduce(Reduce { kind, axes: vec![3], keep_dims: true });
        let most = self.push(over(ReduceKind::Max), &[x]);
        let apart = self.binary(Binary::Sub, x, most);
        let exp = self.unary(Unary::Exp, apart);
        let sum = self.push(over(ReduceKind::Sum), &[exp]);
        self.binary(Binary::Div, exp, sum)
    }

    fn rotated(&mut self, q: ValueId, k: ValueId) -> (ValueId, ValueId) {
        let (cos, sin) = (self.weight(&[self.length, self.width]), self.weight(&[self.length, self.width]));
        let [q, k] = [q, k].map(|x| {
            let half = self.width / 2;
            let (low, high) = (self.part(x, 3, 0, half), self.part(x, 3, half, half));
            let high = self.unary(Unary::Neg, high);
            let turned = self.push(Op::Concat { axis: 3 }, &[high, low]);
            let (straight, turned) =
                (self.binary(Binary::Mul, x, cos), self.binary(Binary::Mul, turned, sin));
            self.binary(Binary::Add, straight, turned)
        });
        (q, k)
    }

    /// `size` elements from `start` along an axis.
    fn part(&mut self, x: ValueId, axis: usize, start: usize, size: usize) -> ValueId {
        let dims = self.spec(x).shape.as_fixed().unwrap();
        let mut slice = Slice {
            starts: vec![Dim::from(0); dims.len()],
            sizes: dims.iter().copied().map(Dim::from).collect(),
            steps: vec![1; dims.len()],
        };
        (slice.starts[axis], slice.sizes[axis]) = (Dim::from(start), Dim::from(size));
        self.push(Op::Slice(slice), &[x])
    }

    /// Moved about, and back to the old shape.
    fn shuffled(&mut self, x: ValueId) -> ValueId {
        let dims = [self.batch, self.length, self.all()];
        match self.below(5) {
            0 => {
                let y = self.push(Op::Transpose(vec![1, 2, 0]), &[x]);
                let y = self.unary(Unary::Tanh, y);
                self.push(Op::Transpose(vec![2, 0, 1]), &[y])
            }
            1 => {
                let (low, high) = (self.part(x, 2, 0, 1), self.part(x, 2, 1, self.all() - 1));
                let high = self.with(Binary::Mul, high, 0.5);
                self.push(Op::Concat { axis: 2 }, &[high, low])
            }
            2 => {
                let y = self.reshape(x, &[self.batch * self.length, self.all()]);
                let y = self.unary(Unary::Relu, y);
                self.reshape(y, &dims)
            }
            3 => {
                let row = self.weight(&[self.all()]);
                let dims = dims.iter().copied().map(Dim::from).collect();
                let row = self.push(Op::Broadcast(dims), &[row]);
                self.binary(Binary::Add, x, row)
            }
            _ => {
                let y = self.with(Binary::Mul, x, 2.0);
                let y = self.with(Binary::Mul, y, 0.25);
                self.with(Binary::Add, y, 0.0)
            }
        }
    }

    /// Convolutions with what comes behind and before them.
    fn image(&mut self) {
        let mut x = self.input(&[self.batch, 2, 5, 4]);
        let mut channels = 2;
        for _ in 0..1 + self.below(3) {
            let pads = self.chance(3);
            if pads {
                let pad = Pad { low: vec![0, 0, 1, 1], high: vec![0, 0, 1, 1], mode: PadMode::Constant };
                let zero = self.builder.constant("", Tensor::scalar(0.0f32));
                x = self.push(Op::Pad(pad), &[x, zero]);
            }
            let groups = if self.chance(3) { channels } else { 1 };
            let padding = Padding2d::Explicit(if pads { [0; 4] } else { [1; 4] });
            let (strides, dilations) = ([1; 2], [1; 2]);
            let weight = self.weight(&[2 * channels, channels / groups, 3, 3]);
            let conv = Conv2d { strides, padding, dilations, groups, activation: None };
            let y = self.push(Op::Conv2d(conv), &[x, weight]);
            channels *= 2;
            let (scale, shift) = (self.weight(&[channels, 1, 1]), self.weight(&[1, channels, 1, 1]));
            let y = self.binary(Binary::Mul, y, scale);
            let y = self.binary(Binary::Add, y, shift);
            x = match self.below(3) {
                0 => self.unary(Unary::Relu, y),
                1 => self.silu(y),
                _ => y,
            };
        }
        self.outputs(x);
    }
}
