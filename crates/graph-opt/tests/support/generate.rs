//! Random valid graphs.

use std::collections::BTreeMap;

use mslite_collective::{CollectiveKind, CollectiveOp, Reduction};
use mslite_graph_opt::ir::op::*;
use mslite_graph_opt::{Graph, GraphBuilder, ValueId};
use mslite_tensor::{Bytes, DType, Dim, Shape, Tensor, TensorSpec};
use proptest::prelude::*;

/// A node to try: what does not fit is left out, so that every recipe makes a graph.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    op: usize,
    operand: usize,
    arguments: [u8; 4],
}

/// Which graphs to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Palette {
    /// Every operation, every element type, symbolic and unknown shapes.
    All,
    /// What [`super::evaluate`] can run: fixed shapes of f32, i64 and bool.
    Runnable,
    /// The same with extents `n` and `m`, for which runnable graphs follow by specialisation.
    Symbolic,
}

/// Graphs with up to so many nodes.
pub(crate) fn graphs(palette: Palette, steps: usize) -> impl Strategy<Value = Graph> {
    let step = (0..1usize << 16, 0..1usize << 16, any::<[u8; 4]>())
        .prop_map(|(op, operand, arguments)| Step { op, operand, arguments });
    prop::collection::vec(step, 1..steps).prop_map(move |steps| graph(palette, &steps))
}

/// The graph of a recipe.
pub(crate) fn graph(palette: Palette, steps: &[Step]) -> Graph {
    let mut maker = Maker { builder: GraphBuilder::new("random \"graph\"\n"), values: Vec::new(), palette };
    maker.sources();
    for (n, step) in steps.iter().enumerate() {
        maker.step(n, *step);
    }
    maker.finish()
}

struct Maker {
    builder: GraphBuilder,
    values: Vec<ValueId>,
    palette: Palette,
}

const UNKNOWN: [&str; 4] = ["f32[batch, 3]", "f16[2, 2*s + 1]", "i32[*]", "f32[n, 4, h, w]"];
const SYMBOLIC: [&str; 5] = ["f32[n, 3]", "f32[n, m]", "f32[1, 2, n, m]", "bool[n, 1]", "f32[3, n]"];
const FIXED: [&str; 7] =
    ["f32[2, 2, 2]", "f32[2, 3]", "f32[3, 2]", "f32[1, 2, 4, 4]", "i64[2, 3]", "bool[2, 3]", "f32[]"];

impl Maker {
    fn sources(&mut self) {
        let more: &[&str] = match self.palette {
            Palette::All => &UNKNOWN,
            Palette::Runnable => &[],
            Palette::Symbolic => &SYMBOLIC,
        };
        for (i, text) in FIXED.iter().chain(more).enumerate() {
            let value = self.builder.input(format!("in {i}"), spec(text));
            self.values.push(value);
        }
        let state = Tensor::from_vec(vec![0.5f32, -0.0, 3.0], &[3]).unwrap();
        let state = self.builder.state("memory", state);
        let weight = (0..36).map(|i| i as f32 / 8.0 - 2.0).collect::<Vec<_>>();
        let weight = Tensor::from_vec(weight, &[2, 2, 3, 3]).unwrap();
        let weight = self.builder.constant("weight", weight);
        let zero = self.builder.constant("", Tensor::scalar(0.0f32));
        let one = self.builder.constant("", Tensor::scalar(1i64));
        self.values.extend([state, weight, zero, one]);
    }

    fn step(&mut self, n: usize, step: Step) {
        let x = match step.operand.is_multiple_of(2) {
            true => self.values[self.values.len() - 1],
            false => self.values[step.operand / 2 % self.values.len()],
        };
        if step.arguments[3].is_multiple_of(3) && self.with_constant(n, x, step).is_some() {
            return;
        }
        let (op, count) = match self.palette {
            Palette::All => any_op(self.builder.graph(), x, step),
            Palette::Runnable | Palette::Symbolic => runnable_op(self.builder.graph(), x, step),
        };
        if self.palette == Palette::All && step.op.is_multiple_of(37) {
            self.constant(step);
        }
        let Some(operands) = self.operands(&op, x, count, step) else { return };
        let origin = format!("Default/é \"{n}\"/{}-op{n}", op.name()).into();
        let results = self.builder.push(op, &operands, &origin).unwrap();
        self.values.extend(results);
    }

    /// Operands that fit, the first given.
    fn operands(&self, op: &Op, x: ValueId, count: usize, step: Step) -> Option<Vec<ValueId>> {
        let graph = self.builder.graph();
        let fits = |operands: &[ValueId]| match graph.result_specs(op, operands, "") {
            Ok(specs) => specs.iter().all(is_small),
            Err(_) => false,
        };
        let n = self.values.len();
        let candidates = |salt: usize| (0..n).map(move |i| self.values[(i + salt) % n]);
        let first = step.arguments[3] as usize;
        match count {
            0 => fits(&[]).then(Vec::new),
            1 => fits(&[x]).then(|| vec![x]),
            2 => candidates(first).map(|y| vec![x, y]).find(|operands| fits(operands)),
            _ => candidates(first)
                .flat_map(|y| candidates(first / 2).map(move |z| vec![x, y, z]))
                .find(|operands| fits(operands)),
        }
    }

    /// A binary operation of a value and a new constant: a scalar, or what broadcasts like a bias.
    fn with_constant(&mut self, n: usize, x: ValueId, step: Step) -> Option<()> {
        let spec = self.builder.spec(x).clone();
        let dims: Vec<usize> = spec.shape.dims()?.iter().map(|dim| dim.as_usize().unwrap_or(1)).collect();
        let [a, b, c, _] = step.arguments.map(usize::from);
        let shape = match (b % 3, &dims[..]) {
            (0, [_, channels, _, _]) => vec![*channels, 1, 1],
            (1, [_, channels, _, _]) => vec![1, *channels, 1, 1],
            (1, [.., n]) => vec![1, *n],
            (_, [.., n]) => vec![*n],
            _ => vec![],
        };
        let count = shape.iter().product();
        let tensor = match spec.dtype {
            DType::F32 => {
                let number = |i| [0.0, -0.0, 1.0, i as f32 * 0.5][c % 4];
                Tensor::from_vec((0..count).map(number).collect(), &shape)
            }
            DType::I64 => Tensor::from_vec((0..count).map(|i| [0, 1, -1, i as i64][c % 4]).collect(), &shape),
            _ => Tensor::from_vec(vec![c % 2 == 0; count], &shape),
        };
        let f = BINARY[a % BINARY.len()];
        let constant = self.builder.constant("", tensor.ok().filter(|t| t.dtype() == spec.dtype)?);
        self.values.push(constant);
        let result =
            self.builder.push(Op::Binary(f), &[x, constant], &format!("{n}/{}", f.name()).into()).ok()?;
        self.values.extend(result);
        Some(())
    }

    fn constant(&mut self, step: Step) {
        let dtype = DType::ALL[step.arguments[0] as usize % DType::ALL.len()];
        let count = step.arguments[1] as usize % 24;
        let bytes: Vec<u8> = (0..count * dtype.size())
            .map(|i| (i as u8).wrapping_mul(step.arguments[2] | 1).wrapping_add(step.arguments[3]))
            .collect();
        let tensor = Tensor::from_bytes(dtype, &[count], Bytes::from(bytes)).unwrap();
        let value = self.builder.constant(format!("c{}", step.op), tensor);
        self.values.push(value);
    }

    fn finish(mut self) -> Graph {
        let graph = self.builder.graph();
        let counts = graph.use_counts();
        let unused: Vec<ValueId> = graph
            .nodes()
            .flat_map(|(_, node)| node.results.clone())
            .filter(|v| counts[v.index()] == 0)
            .collect();
        let state = graph.states()[0].value;
        let fits = |value: &ValueId| graph.spec(*value) == graph.spec(state);
        let next = graph.nodes().rev().find_map(|(_, node)| node.results.iter().copied().find(fits));
        let next = next.unwrap_or(state);
        for (i, value) in unused.into_iter().enumerate() {
            self.builder.output(format!("out {i}"), value);
        }
        self.builder.set_next(0, next).unwrap();
        self.builder.finish().unwrap()
    }
}

fn is_small(spec: &TensorSpec) -> bool {
    let bindings = ["n", "m"].map(|name| (name.into(), 3)).into_iter().collect();
    let bound = TensorSpec::new(spec.dtype, spec.shape.bind(&bindings));
    bound.size_bytes().unwrap_or_default() <= 1 << 12 && spec.to_string().len() < 200
}

/// A type from its text, such as `f32[2, n]`.
pub(crate) fn spec(text: &str) -> TensorSpec {
    let (dtype, dims) = text.strip_suffix(']').unwrap().split_once('[').unwrap();
    let dims = dims.trim();
    let shape = match dims {
        "*" => Shape::UNRANKED,
        "" => Shape::scalar(),
        dims => Shape::ranked(dims.split(',').map(|dim| dim.trim().parse::<Dim>().unwrap())),
    };
    TensorSpec::new(dtype.parse().unwrap(), shape)
}

const UNARY: [Unary; 9] = [
    Unary::Neg,
    Unary::Abs,
    Unary::Relu,
    Unary::Square,
    Unary::Sqrt,
    Unary::Exp,
    Unary::Tanh,
    Unary::Floor,
    Unary::Not,
];

const BINARY: [Binary; 9] = [
    Binary::Add,
    Binary::Add,
    Binary::Sub,
    Binary::Mul,
    Binary::Div,
    Binary::Maximum,
    Binary::Minimum,
    Binary::Less,
    Binary::And,
];

/// An operation that [`super::evaluate`] knows, and how many operands it takes.
fn runnable_op(graph: &Graph, x: ValueId, step: Step) -> (Op, usize) {
    let dims = graph.spec(x).shape.dims().unwrap_or_default();
    let one = Dim::from(1);
    let [a, b, c, _] = step.arguments.map(usize::from);
    match step.op % 18 {
        0 | 1 => (Op::Unary(UNARY[a % UNARY.len()]), 1),
        2 | 3 => (Op::Binary(BINARY[a % BINARY.len()]), 2),
        4 => (Op::Select, 3),
        5 => (Op::Cast([DType::F32, DType::I64, DType::Bool][a % 3]), 1),
        6..=8 if dims.len() != 4 => (matmul(step), 2 + c % 2),
        6..=8 => {
            let conv = Conv2d {
                strides: [1 + a % 2, 1],
                padding: Padding2d::Explicit([b % 2, 1, 0, c % 2]),
                dilations: [1, 1],
                groups: 1,
                activation: None,
            };
            (Op::Conv2d(conv), 2 + a % 2)
        }
        9 => (reduce(dims.len(), step, [ReduceKind::Sum, ReduceKind::Max][c % 2]), 1),
        10 | 11 => (Op::Reshape(regroup(dims, a)), 1),
        12 | 13 => (Op::Transpose(permutation(dims.len(), a)), 1),
        14 => {
            let lead = if a % 3 == 0 { vec![Dim::from(2)] } else { vec![] };
            let dims = dims.iter().map(|n| if *n == one && b % 2 == 0 { Dim::from(3) } else { n.clone() });
            (Op::Broadcast(lead.into_iter().chain(dims).collect()), 1)
        }
        15 => (Op::Concat { axis: a % 3 }, 1 + b % 2),
        16 => (slice(dims, step), 1),
        _ => (pad(dims.len(), step, PadMode::Constant), 2),
    }
}

/// Any operation, and how many operands it takes.
fn any_op(graph: &Graph, x: ValueId, step: Step) -> (Op, usize) {
    let rank = graph.spec(x).shape.rank().unwrap_or(2);
    let [a, b, c, d] = step.arguments.map(usize::from);
    let float = |n: usize| if n == 0 { f64::NEG_INFINITY } else { n as f64 / 7.0 - 3.0 };
    let axis = a % rank.max(1);
    let dtypes = DType::ALL;
    match step.op % 39 {
        0..=15 => runnable_op(graph, x, Step { op: step.op / 39, ..step }),
        16 => (Op::Unary(any_unary(step)), 1),
        17 => (Op::Binary(Binary::PLAIN[a % Binary::PLAIN.len()]), 2),
        18 => (Op::Cast(dtypes[a % dtypes.len()]), 1),
        19 => (reduce(rank, step, ReduceKind::PLAIN[c % ReduceKind::PLAIN.len()]), 1),
        20 => {
            let dtype = [DType::I32, DType::I64][b % 2];
            (Op::ArgReduce(ArgReduce { largest: c % 2 == 0, axis, keep_dims: d % 2 == 0, dtype }), 1)
        }
        21 => {
            let [product, exclusive, reverse] = [b, c, d].map(|n| n % 2 == 0);
            (Op::Cumulative(Cumulative { product, axis, exclusive, reverse }), 1)
        }
        22 => (Op::Softmax(Softmax { axis, log: b % 2 == 0 }), 1),
        23 => (Op::LayerNorm(Norm { axis, epsilon: float(b) }), 1 + 2 * (c % 2)),
        24 => (Op::RmsNorm(Norm { axis, epsilon: 1e-5 }), 2),
        25 => {
            let pool = Pool2d {
                average: a % 2 == 0,
                kernel: [1 + b % 3, 2],
                strides: [1, 1 + c % 2],
                padding: if d % 3 == 0 { Padding2d::Same } else { Padding2d::Explicit([0, 1, b % 2, 0]) },
                ceil_mode: b % 2 == 0,
                count_padding: c % 3 == 0,
            };
            (Op::Pool2d(pool), 1)
        }
        26 => (Op::Gather(Gather { axis, batch_dims: b % 2 }), 2),
        27 => (Op::GatherElements { axis }, 2),
        28 => (Op::GatherNd, 2),
        29 => (
            Op::ScatterNd([ScatterKind::Update, ScatterKind::Add, ScatterKind::Mul, ScatterKind::Max][a % 4]),
            3,
        ),
        30 => (Op::OneHot { depth: Dim::from(b % 5), axis }, 3),
        31 => (Op::TopK(TopK { k: Dim::from(b % 3), axis, largest: c % 2 == 0 }), 1),
        32 => (Op::Triangle(Triangle { upper: a % 2 == 0, diagonal: b as i64 - 100 }), 1),
        33 => {
            let dims = vec![Dim::symbol("batch"), Dim::from(a), &Dim::symbol("h") * &Dim::symbol("w")];
            (Op::Extents(dims), 0)
        }
        34 => any_collective(step),
        35 => {
            let (centred, sum) = (b % 2 == 0, c % 2 == 0);
            (Op::AddNorm(AddNorm { axis, epsilon: 1e-5, centred, sum }), 3 + usize::from(centred) + d % 2)
        }
        36 => (Op::Gated(any_unary(step)), 1),
        37 => {
            let packed = Packed { start: c % 3, heads: 1 + b % 2, width: d % 4 };
            let packed = std::array::from_fn(|n| (a >> n & 1 == 1).then_some(packed));
            (Op::Attention(Attention { heads: [1 + a % 2, 2, 1, 2], scale: float(b), packed }), 3)
        }
        _ => (any_opaque(step), b % 3),
    }
}

fn any_unary(step: Step) -> Unary {
    let [a, b, c, _] = step.arguments;
    match a % 5 {
        0 => Unary::Elu { alpha: f64::from(b) / 3.0 },
        1 => Unary::LeakyRelu { alpha: -f64::from(b) },
        2 => {
            Unary::Clip { low: -f64::from(b) / 7.0, high: if c == 0 { f64::INFINITY } else { f64::from(c) } }
        }
        _ => Unary::PLAIN[usize::from(b) % Unary::PLAIN.len()],
    }
}

fn any_collective(step: Step) -> (Op, usize) {
    let [a, b, c, d] = step.arguments.map(usize::from);
    let (root, tag, reduction) = (b % 4, c as i64 - 9, Reduction::ALL[c % 5]);
    let kinds = [
        CollectiveKind::AllReduce(reduction),
        CollectiveKind::AllGather,
        CollectiveKind::ReduceScatter(reduction),
        CollectiveKind::Broadcast { root },
        CollectiveKind::Reduce { root, reduction },
        CollectiveKind::AllToAll,
        CollectiveKind::Send { dest: root, tag },
        CollectiveKind::Receive { src: root, tag },
        CollectiveKind::Barrier,
    ];
    let collective = Collective {
        op: CollectiveOp::new(kinds[a % kinds.len()].clone(), ["world", "a \"b\", (c)\\"][b % 2]),
        size: Some(1 + d % 2),
        ranks: (d % 3 == 0).then(|| vec![4, 0]),
        receives: (b % 3 != 0).then(|| spec("bf16[2, n]")),
    };
    let count = collective.arity().0;
    (Op::Collective(collective), count)
}

fn any_opaque(step: Step) -> Op {
    let [a, b, c, d] = step.arguments;
    let text = format!("{}\t\"{}\"", char::from(a), char::from(c));
    let list = vec![Attribute::Text(text.clone()), Attribute::Float(f64::from(a) / 3.0), Attribute::None];
    let attributes = BTreeMap::from([
        (text, Attribute::List(vec![Attribute::List(list), Attribute::Bool(b % 2 == 0)])),
        ("dtype".to_owned(), Attribute::DType(DType::ALL[usize::from(b) % 15])),
        ("n".to_owned(), Attribute::Int(-i64::from(c))),
        ("exact".to_owned(), Attribute::Float(f64::from(c))),
    ]);
    let results = ["f32[batch, 2]", "i64[*]", "bool[]"].map(spec)[..usize::from(d % 4)].to_vec();
    let primitive = ["Custom", "add", "odd name"][usize::from(a) % 3].into();
    Op::Opaque(Opaque { primitive, attributes, results, effect: d % 2 == 0 })
}

fn matmul(step: Step) -> Op {
    let [a, b, _, d] = step.arguments;
    let activation = (d % 4 == 0).then_some(Unary::Relu);
    Op::MatMul(MatMul { transpose_a: a % 2 == 0, transpose_b: b % 2 == 0, activation, wide: false })
}

fn reduce(rank: usize, step: Step, kind: ReduceKind) -> Op {
    let [a, b, ..] = step.arguments;
    let axes = (0..rank).filter(|axis| a >> axis & 1 == 1).collect();
    Op::Reduce(Reduce { kind, axes, keep_dims: b % 2 == 0 })
}

/// The extents in another grouping: flattened, with 1 added or taken away, or two joined.
fn regroup(dims: &[Dim], how: usize) -> Vec<Dim> {
    let mut dims = dims.to_vec();
    match how % 4 {
        0 => dims = vec![dims.iter().fold(Dim::from(1), |n, dim| &n * dim)],
        1 => dims.insert(how / 4 % (dims.len() + 1), Dim::from(1)),
        2 => dims.retain(|n| *n != Dim::from(1)),
        _ if dims.len() > 1 => {
            let at = how / 4 % (dims.len() - 1);
            let removed = dims.remove(at + 1);
            dims[at] = &dims[at] * &removed;
        }
        _ => {}
    }
    dims
}

fn permutation(rank: usize, seed: usize) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).collect();
    if rank > 1 {
        perm.swap(seed % rank, seed / 4 % rank);
        perm.rotate_left(seed / 16 % rank);
    }
    perm
}

fn slice(dims: &[Dim], step: Step) -> Op {
    let [a, b, c, _] = step.arguments.map(usize::from);
    let reversed = |axis: usize| c >> axis & 3 == 3;
    let cut = |n: &Dim| usize::from(n.as_fixed() != Some(0)) * (a % 2).max(b % 2);
    let first = |(axis, n): (usize, &Dim)| if reversed(axis) { n - &Dim::from(1) } else { Dim::from(a % 2) };
    Op::Slice(Slice {
        starts: dims.iter().enumerate().map(first).collect(),
        sizes: dims.iter().map(|n| n - &Dim::from(cut(n))).collect(),
        steps: (0..dims.len()).map(|axis| if reversed(axis) { -1 } else { 1 }).collect(),
    })
}

fn pad(rank: usize, step: Step, mode: PadMode) -> Op {
    let [a, b, ..] = step.arguments.map(i64::from);
    let side = |n: i64| (0..rank).map(|axis| (n >> (2 * axis) & 3) - 1).collect();
    Op::Pad(Pad { low: side(a), high: side(b), mode })
}
