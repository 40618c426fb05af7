//! What values share memory, and that they do so without harm.

mod common;

use common::{execution, run, tensor};
use mslite_graph_opt::ir::op::{Binary, Slice, Unary};
use mslite_graph_opt::{Graph, GraphBuilder, Op, ValueId};
use mslite_runtime::memory::MemoryUsage;
use mslite_tensor::{DType, Dim, Shape, Tensor, TensorSpec, f16};

struct Maker(GraphBuilder);

impl Maker {
    fn new() -> Self {
        Maker(GraphBuilder::new("memory"))
    }

    fn input(&mut self, name: &str, dims: &[usize]) -> ValueId {
        self.0.input(name, TensorSpec::fixed(DType::F32, dims))
    }

    fn push(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        self.0.push1(op, operands, &"test/op".into()).unwrap()
    }

    fn neg(&mut self, x: ValueId) -> ValueId {
        self.push(Op::Unary(Unary::Neg), &[x])
    }

    fn add(&mut self, x: ValueId, y: ValueId) -> ValueId {
        self.push(Op::Binary(Binary::Add), &[x, y])
    }

    fn finish(mut self, outputs: &[ValueId]) -> Graph {
        for (i, &output) in outputs.iter().enumerate() {
            self.0.output(format!("y{i}"), output);
        }
        self.0.finish().unwrap()
    }
}

/// The outputs of a run on so many threads, and what its arena takes.
fn outputs(graph: &Graph, inputs: &[&Tensor], threads: usize) -> (Vec<Vec<f32>>, MemoryUsage) {
    let mut execution = execution(graph, threads);
    let dims: Vec<&[usize]> = inputs.iter().map(|tensor| tensor.dims()).collect();
    let graph = mslite_graph_opt::specialise(graph, &dims).unwrap();
    let specs: Vec<TensorSpec> = graph.outputs().iter().map(|port| graph.spec(port.value).clone()).collect();
    let results = run(&mut *execution, inputs, &specs).unwrap();
    (results.iter().map(|y| y.to_vec::<f32>().unwrap()).collect(), execution.memory())
}

/// More than one chunk, more than one thread's share, and a rest.
const COUNT: usize = 70_001;

/// Bytes of so many values in the arena.
fn arena(values: usize) -> usize {
    values * (COUNT * 4).next_multiple_of(64)
}

fn map(x: &Tensor, f: impl Fn(f32) -> f32) -> Vec<f32> {
    x.as_slice::<f32>().unwrap().iter().map(|&x| f(x)).collect()
}

#[test]
fn a_result_takes_the_place_of_an_operand_that_ends() {
    let mut m = Maker::new();
    let (x, row) = (m.input("x", &[COUNT]), m.input("row", &[1]));
    let mut y = m.neg(x);
    for _ in 0..3 {
        y = m.add(y, row);
        y = m.push(Op::Binary(Binary::Sub), &[row, y]);
    }
    let graph = m.finish(&[y]);
    let (x, row) = (tensor(&[COUNT], 1), Tensor::from_vec(vec![0.5f32], &[1]).unwrap());
    for threads in [1, 3] {
        let (y, memory) = outputs(&graph, &[&x, &row], threads);
        let expected = map(&x, |x| (0..3).fold(-x, |y, _| 0.5 - (y + 0.5)));
        assert_eq!(y[0], expected);
        // All of it in the memory of the output.
        assert_eq!(memory.arena, 0);
    }
}

#[test]
fn an_operand_that_is_read_again_stays() {
    let mut m = Maker::new();
    let x = m.input("x", &[COUNT]);
    let a = m.neg(x);
    let twice = m.add(a, a);
    let b = m.add(a, twice);
    let c = m.neg(b);
    let d = m.add(b, c);
    let graph = m.finish(&[d, b]);
    let x = tensor(&[COUNT], 2);
    let (y, memory) = outputs(&graph, &[&x], 1);
    assert_eq!(y[0], vec![0.0; COUNT]);
    assert_eq!(y[1], map(&x, |x| -x + (-x + -x)));
    // The outputs are elsewhere; `a` and `twice` become `b`, one of them in its memory.
    assert_eq!(memory.arena, arena(1));
}

#[test]
fn an_input_is_not_overwritten() {
    let mut m = Maker::new();
    let x = m.input("x", &[COUNT]);
    let a = m.neg(x);
    let b = m.add(x, a);
    let graph = m.finish(&[b]);
    let x = tensor(&[COUNT], 3);
    let before = x.to_vec::<f32>().unwrap();
    assert_eq!(outputs(&graph, &[&x], 1).0[0], vec![0.0; COUNT]);
    assert_eq!(x.to_vec::<f32>().unwrap(), before);
}

#[test]
fn halves_are_computed_in_place_as_elsewhere() {
    let build = |reads_again: bool| {
        let mut b = GraphBuilder::new("halves");
        let x = b.input("x", TensorSpec::fixed(DType::F16, &[1001]));
        let mut push = |op: Op, operands: &[ValueId]| b.push1(op, operands, &"test/op".into()).unwrap();
        let a = push(Op::Unary(Unary::Exp), &[x]);
        let y = push(Op::Unary(Unary::Sigmoid), &[a]);
        let y = push(Op::Binary(Binary::Mul), &[x, y]);
        b.output("y", y);
        if reads_again {
            b.output("a", a);
        }
        b.finish().unwrap()
    };
    let values = common::noise(1001, 9).into_iter().map(f16::from_f32).collect();
    let x = Tensor::from_vec::<f16>(values, &[1001]).unwrap();
    let spec = TensorSpec::fixed(DType::F16, &[1001]);
    let one = run(&mut *execution(&build(false), 1), &[&x], std::slice::from_ref(&spec)).unwrap();
    let two = run(&mut *execution(&build(true), 1), &[&x], &[spec.clone(), spec]).unwrap();
    assert_eq!(one[0], two[0]);
}

#[test]
fn operands_are_computed_inside_what_they_are_joined_to() {
    let mut m = Maker::new();
    let x = m.input("x", &[1, COUNT]);
    let (a, b) = (m.neg(x), m.add(x, x));
    let b = m.push(Op::Reshape([1, 1, COUNT].map(Dim::from).to_vec()), &[b]);
    let b = m.push(Op::Reshape([1, COUNT].map(Dim::from).to_vec()), &[b]);
    let inner = m.push(Op::Concat { axis: 1 }, &[a, b]);
    // An input, a part that is there already, and one that has a reader of its own.
    let outer = m.push(Op::Concat { axis: 0 }, &[inner, inner]);
    let last = m.push(Op::Concat { axis: 1 }, &[x, inner]);
    let sum = m.add(a, b);
    let graph = m.finish(&[outer, last, sum]);
    let x = tensor(&[1, COUNT], 4);
    for threads in [1, 2] {
        let (y, memory) = outputs(&graph, &[&x], threads);
        let pair = [map(&x, |x| -x), map(&x, |x| x + x)].concat();
        assert_eq!(y[0], [pair.clone(), pair.clone()].concat());
        assert_eq!(y[1], [x.to_vec::<f32>().unwrap(), pair].concat());
        assert_eq!(y[2], map(&x, |x| x));
        // `outer` holds all but `last` and `sum`, and all three are the caller's memory.
        assert_eq!(memory.arena, 0);
    }
}

#[test]
fn joining_along_an_inner_axis_copies() {
    let mut m = Maker::new();
    let x = m.input("x", &[2, 3]);
    let (a, b) = (m.neg(x), m.add(x, x));
    let joined = m.push(Op::Concat { axis: 1 }, &[a, b, a]);
    let y = m.neg(joined);
    let graph = m.finish(&[y]);
    let x = Tensor::from_vec((0..6).map(|x| x as f32).collect(), &[2, 3]).unwrap();
    let expected = [0, 1, 2, 0, -2, -4, 0, 1, 2, 3, 4, 5, -6, -8, -10, 3, 4, 5].map(|x| x as f32);
    assert_eq!(outputs(&graph, &[&x], 1).0[0], expected);
}

#[test]
fn parts_are_read_where_they_are() {
    let mut m = Maker::new();
    let x = m.input("x", &[4, COUNT]);
    let x = m.neg(x);
    let part = |m: &mut Maker, from: usize| {
        let (starts, sizes) = ([from, 0].map(Dim::from).to_vec(), [2, COUNT].map(Dim::from).to_vec());
        m.push(Op::Slice(Slice { starts, sizes, steps: vec![1, 1] }), &[x])
    };
    let (low, high) = (part(&mut m, 0), part(&mut m, 2));
    let y = m.add(low, high);
    let graph = m.finish(&[y]);
    let x = tensor(&[4, COUNT], 5);
    let (y, memory) = outputs(&graph, &[&x], 2);
    let negated = map(&x, |x| -x);
    let (low, high) = negated.split_at(2 * COUNT);
    assert_eq!(y[0], low.iter().zip(high).map(|(x, y)| x + y).collect::<Vec<_>>());
    assert_eq!(memory.arena, (16 * COUNT).next_multiple_of(64));
}

#[test]
fn memory_follows_the_extents() {
    let mut b = GraphBuilder::new("rows");
    let shape = Shape::ranked([Dim::symbol("rows"), Dim::from(64)]);
    let x = b.input("x", TensorSpec::new(DType::F32, shape));
    let mut m = Maker(b);
    let (a, b) = (m.neg(x), m.push(Op::Unary(Unary::Exp), &[x]));
    let mean = m.push(Op::Transpose(vec![1, 0]), &[a]);
    let other = m.push(Op::Transpose(vec![1, 0]), &[b]);
    let y = m.add(mean, other);
    let graph = m.finish(&[y]);
    let mut execution = execution(&graph, 1);
    for rows in [3, 50, 2, 3] {
        let x = tensor(&[rows, 64], rows as u64);
        let y = run(&mut *execution, &[&x], &[TensorSpec::fixed(DType::F32, &[64, rows])]).unwrap();
        let x = x.as_slice::<f32>().unwrap();
        for (i, y) in y[0].as_slice::<f32>().unwrap().iter().enumerate() {
            let x = x[i % rows * 64 + i / rows];
            assert!((y - (x.exp() - x)).abs() < 1e-5);
        }
        let memory = execution.memory();
        assert_eq!((memory.arena, memory.lower_bound), (2 * rows * 256, 2 * rows * 256));
    }
}
