//! Expected values are worked out by hand or known from numpy.

use mslite_graph_opt::GraphBuilder;
use mslite_graph_opt::ir::op::{
    ArgReduce, Binary, Conv2d, Cumulative, Gather, MatMul, Norm, Pad, PadMode, Padding2d, Pool2d, Reduce,
    ReduceKind, ScatterKind, Slice, Softmax, TopK, Triangle, Unary,
};
use mslite_tensor::Dim;

use super::*;
use crate::{Tolerance, assert_close};

fn f(values: &[f64], dims: &[usize]) -> Tensor {
    Tensor::from_vec(values.to_vec(), dims).unwrap()
}

fn i(values: &[i32], dims: &[usize]) -> Tensor {
    Tensor::from_vec(values.to_vec(), dims).unwrap()
}

fn count(dims: &[usize]) -> Tensor {
    f(&(0..dims.iter().product()).map(|n| n as f64).collect::<Vec<_>>(), dims)
}

fn run(op: Op, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let mut builder = GraphBuilder::new("op");
    let ids: Vec<_> =
        inputs.iter().enumerate().map(|(n, t)| builder.input(format!("x{n}"), t.spec())).collect();
    for (n, id) in builder.push(op, &ids, &"op".into()).map_err(|e| e.to_string())?.into_iter().enumerate() {
        builder.output(format!("y{n}"), id);
    }
    evaluate(&builder.finish().map_err(|e| e.to_string())?, inputs)
}

#[track_caller]
fn check(op: Op, inputs: &[Tensor], expected: &Tensor) {
    assert_close(&run(op, inputs).unwrap()[0], expected, Tolerance { rtol: 1e-12, atol: 1e-12 });
}

#[test]
fn unary_functions() {
    let x = f(&[-2.0, -0.5, 0.0, 1.5, 2.5], &[5]);
    let on = |function| run(Op::Unary(function), std::slice::from_ref(&x)).unwrap().remove(0);
    let is = |function, values: [f64; 5]| {
        assert_close(&on(function), &f(&values, &[5]), Tolerance { rtol: 1e-9, atol: 1e-9 });
    };
    is(Unary::Round, [-2.0, -0.0, 0.0, 2.0, 2.0]);
    is(Unary::Relu6, [0.0, 0.0, 0.0, 1.5, 2.5]);
    is(Unary::Sign, [-1.0, -1.0, 0.0, 1.0, 1.0]);
    is(Unary::LeakyRelu { alpha: 0.1 }, [-0.2, -0.05, 0.0, 1.5, 2.5]);
    is(Unary::HardSigmoid, [1.0 / 6.0, 5.0 / 12.0, 0.5, 0.75, 11.0 / 12.0]);
    is(Unary::HardSwish, [-1.0 / 3.0, -5.0 / 24.0, 0.0, 1.125, 2.5 * 5.5 / 6.0]);
    is(Unary::Sigmoid, [0.119202922, 0.377540669, 0.5, 0.817574476, 0.924141820]);
    is(Unary::Gelu, [-0.045500264, -0.154268769, 0.0, 1.399789198, 2.484475837]);
    is(Unary::GeluTanh, [-0.045402306, -0.154285990, 0.0, 1.399571577, 2.484915734]);
    is(Unary::Softplus, [0.126928011, 0.474076984, std::f64::consts::LN_2, 1.701413278, 2.578889734]);
    is(Unary::Clip { low: -1.0, high: 2.0 }, [-1.0, -0.5, 0.0, 1.5, 2.0]);
    check(Op::Unary(Unary::Not), &[i(&[0, -1, 5], &[3])], &i(&[-1, 0, -6], &[3]));
}

#[test]
fn binary_functions_broadcast() {
    let (x, y) = (i(&[7, -7], &[2, 1]), i(&[2, -2, 3], &[3]));
    let on = |function, values: [i32; 6]| {
        check(Op::Binary(function), &[x.clone(), y.clone()], &i(&values, &[2, 3]))
    };
    on(Binary::FloorDiv, [3, -4, 2, -4, 3, -3]);
    on(Binary::TruncDiv, [3, -3, 2, -3, 3, -2]);
    on(Binary::FloorMod, [1, -1, 1, 1, -1, 2]);
    on(Binary::TruncMod, [1, 1, 1, -1, -1, -1]);
    on(Binary::SquaredDifference, [25, 81, 16, 81, 25, 100]);
    let big = i(&[i32::MAX, 1], &[2]);
    check(Op::Binary(Binary::Add), &[big.clone(), i(&[1], &[1])], &i(&[i32::MIN, 2], &[2]));
    check(Op::Binary(Binary::Pow), &[i(&[-3, 2], &[2]), i(&[3, 10], &[2])], &i(&[-27, 1024], &[2]));
    let less = Tensor::from_vec(vec![false, true], &[2]).unwrap();
    check(Op::Binary(Binary::Less), &[f(&[f64::NAN, 1.0], &[2]), f(&[2.0], &[])], &less);
    assert!(run(Op::Binary(Binary::FloorDiv), &[big, i(&[0], &[])]).is_err());
}

#[test]
fn reductions() {
    let x = count(&[2, 3]);
    let reduce =
        |kind, axes: &[usize], keep_dims| Op::Reduce(Reduce { kind, axes: axes.to_vec(), keep_dims });
    check(reduce(ReduceKind::Sum, &[0], false), std::slice::from_ref(&x), &f(&[3.0, 5.0, 7.0], &[3]));
    check(reduce(ReduceKind::Mean, &[1], true), std::slice::from_ref(&x), &f(&[1.0, 4.0], &[2, 1]));
    check(reduce(ReduceKind::Max, &[0, 1], false), std::slice::from_ref(&x), &f(&[5.0], &[]));
    check(reduce(ReduceKind::Prod, &[], false), std::slice::from_ref(&x), &x);
    check(reduce(ReduceKind::Sum, &[0], false), &[count(&[0, 2])], &f(&[0.0, 0.0], &[2]));
    let ties = f(&[1.0, 3.0, 3.0, 1.0], &[4]);
    for (largest, place) in [(true, 1), (false, 0)] {
        let op = ArgReduce { largest, axis: 0, keep_dims: false, dtype: DType::I32 };
        check(Op::ArgReduce(op), std::slice::from_ref(&ties), &i(&[place], &[]));
    }
    let running =
        |exclusive, reverse| Op::Cumulative(Cumulative { product: false, axis: 0, exclusive, reverse });
    check(running(false, false), std::slice::from_ref(&ties), &f(&[1.0, 4.0, 7.0, 8.0], &[4]));
    check(running(true, true), std::slice::from_ref(&ties), &f(&[7.0, 4.0, 1.0, 0.0], &[4]));
}

#[test]
fn normalisations() {
    let x = f(&[1.0, 3.0], &[1, 2]);
    let thirds = f(&[1.0 / 3.0, 2.0 / 3.0], &[2]);
    check(Op::Softmax(Softmax { axis: 0, log: false }), &[f(&[0.0, 2f64.ln()], &[2])], &thirds);
    let logs = f(&[(1.0f64 / 3.0).ln(), (2.0f64 / 3.0).ln()], &[2]);
    check(Op::Softmax(Softmax { axis: 0, log: true }), &[f(&[1000.0, 1000.0 + 2f64.ln()], &[2])], &logs);
    let norm = Norm { axis: 1, epsilon: 0.0 };
    check(Op::LayerNorm(norm.clone()), std::slice::from_ref(&x), &f(&[-1.0, 1.0], &[1, 2]));
    let affine = [x.clone(), f(&[2.0, 4.0], &[2]), f(&[0.5, 0.25], &[2])];
    check(Op::LayerNorm(norm.clone()), &affine, &f(&[-1.5, 4.25], &[1, 2]));
    let scaled = [x, f(&[5f64.sqrt(), 1.0], &[2])];
    check(Op::RmsNorm(norm), &scaled, &f(&[1.0, 3.0 / 5f64.sqrt()], &[1, 2]));
}

#[test]
fn products() {
    let (a, b) = (count(&[2, 3]), count(&[3, 2]));
    let op = |transpose_a, transpose_b, activation| {
        Op::MatMul(MatMul { transpose_a, transpose_b, activation, wide: false })
    };
    check(op(false, false, None), &[a.clone(), b.clone()], &f(&[10.0, 13.0, 28.0, 40.0], &[2, 2]));
    check(op(true, true, None), &[b.clone(), a.clone()], &f(&[10.0, 28.0, 13.0, 40.0], &[2, 2]));
    let biased = [a.clone(), b.clone(), f(&[-20.0, -20.0], &[2])];
    check(op(false, false, Some(Unary::Relu)), &biased, &f(&[0.0, 0.0, 8.0, 20.0], &[2, 2]));
    check(op(false, false, None), &[f(&[1.0, 2.0, 3.0], &[3]), b.clone()], &f(&[16.0, 22.0], &[2]));
    check(op(false, false, None), &[a.clone(), f(&[1.0, 2.0, 3.0], &[3])], &f(&[8.0, 26.0], &[2]));
    let batched = run(op(false, false, None), &[count(&[2, 1, 1, 3]), count(&[4, 3, 2])]).unwrap();
    assert_eq!(batched[0].dims(), [2, 4, 1, 2]);
    assert_eq!(batched[0].as_slice::<f64>().unwrap()[8 + 6..], [244.0, 256.0]);
}

#[test]
fn windows() {
    let conv =
        Conv2d { strides: [1, 1], padding: Padding2d::Same, dilations: [1, 1], groups: 1, activation: None };
    let ones = f(&[1.0; 4], &[1, 1, 2, 2]);
    let expected = f(&[8.0, 12.0, 7.0, 20.0, 24.0, 13.0, 13.0, 15.0, 8.0], &[1, 1, 3, 3]);
    check(Op::Conv2d(conv.clone()), &[count(&[1, 1, 3, 3]), ones], &expected);
    let grouped = Conv2d { groups: 2, padding: Padding2d::Explicit([0; 4]), ..conv };
    let weight = f(&[2.0, 10.0], &[2, 1, 1, 1]);
    check(
        Op::Conv2d(grouped),
        &[f(&[1.0, 2.0, 3.0, 4.0], &[1, 2, 1, 2]), weight, f(&[0.5, 0.0], &[2])],
        &f(&[2.5, 4.5, 30.0, 40.0], &[1, 2, 1, 2]),
    );
    let pool = |average, count_padding| {
        let padding = Padding2d::Explicit([1, 0, 1, 0]);
        let (kernel, strides) = ([2, 2], [2, 2]);
        Op::Pool2d(Pool2d { average, kernel, strides, padding, ceil_mode: false, count_padding })
    };
    let x = count(&[1, 1, 3, 3]);
    check(pool(false, false), std::slice::from_ref(&x), &f(&[0.0, 2.0, 6.0, 8.0], &[1, 1, 2, 2]));
    check(pool(true, false), std::slice::from_ref(&x), &f(&[0.0, 1.5, 4.5, 6.0], &[1, 1, 2, 2]));
    check(pool(true, true), std::slice::from_ref(&x), &f(&[0.0, 0.75, 2.25, 6.0], &[1, 1, 2, 2]));
}

#[test]
fn movements() {
    let x = i(&[0, 1, 2, 3, 4, 5], &[2, 3]);
    check(Op::Transpose(vec![1, 0]), std::slice::from_ref(&x), &i(&[0, 3, 1, 4, 2, 5], &[3, 2]));
    let slice = Slice {
        starts: vec![Dim::from(1), Dim::from(2)],
        sizes: vec![Dim::from(1), Dim::from(2)],
        steps: vec![1, -2],
    };
    check(Op::Slice(slice), std::slice::from_ref(&x), &i(&[5, 3], &[1, 2]));
    check(Op::Concat { axis: 1 }, &[x.clone(), i(&[8, 9], &[2, 1])], &i(&[0, 1, 2, 8, 3, 4, 5, 9], &[2, 4]));
    let pad = |mode, low, high| Op::Pad(Pad { low: vec![low], high: vec![high], mode });
    let line = i(&[1, 2, 3], &[3]);
    check(pad(PadMode::Reflect, 2, 2), std::slice::from_ref(&line), &i(&[3, 2, 1, 2, 3, 2, 1], &[7]));
    check(pad(PadMode::Symmetric, 2, 1), std::slice::from_ref(&line), &i(&[2, 1, 1, 2, 3, 3], &[6]));
    check(pad(PadMode::Edge, 1, 2), std::slice::from_ref(&line), &i(&[1, 1, 2, 3, 3, 3], &[6]));
    check(pad(PadMode::Constant, -1, 1), &[line, i(&[7], &[])], &i(&[2, 3, 7], &[3]));
    for (upper, kept) in [(false, [0, 1, 0, 3, 4, 5]), (true, [0, 1, 2, 0, 4, 5])] {
        let diagonal = if upper { 0 } else { 1 };
        check(Op::Triangle(Triangle { upper, diagonal }), std::slice::from_ref(&x), &i(&kept, &[2, 3]));
    }
}

#[test]
fn choices() {
    let x = i(&[0, 1, 2, 3, 4, 5], &[3, 2]);
    let rows = Op::Gather(Gather { axis: 0, batch_dims: 0 });
    check(rows.clone(), &[x.clone(), i(&[-1, 0], &[2])], &i(&[4, 5, 0, 1], &[2, 2]));
    check(rows.clone(), &[x.clone(), i(&[1], &[])], &i(&[2, 3], &[2]));
    assert!(run(rows, &[x.clone(), i(&[3], &[1])]).is_err());
    let batched = Op::Gather(Gather { axis: 1, batch_dims: 1 });
    check(batched, &[x.clone(), i(&[1, 0, 1], &[3, 1])], &i(&[1, 2, 5], &[3, 1]));
    check(Op::GatherElements { axis: 0 }, &[x.clone(), i(&[2, 0], &[1, 2])], &i(&[4, 1], &[1, 2]));
    check(Op::GatherNd, &[x.clone(), i(&[2, 1, 0, 0], &[2, 2])], &i(&[5, 0], &[2]));
    let twice = [x, i(&[1, 1], &[2, 1]), i(&[10, 20, 30, 40], &[2, 2])];
    check(Op::ScatterNd(ScatterKind::Update), &twice, &i(&[0, 1, 30, 40, 4, 5], &[3, 2]));
    check(Op::ScatterNd(ScatterKind::Add), &twice, &i(&[0, 1, 42, 63, 4, 5], &[3, 2]));
    let hot = [i(&[1, 5], &[2]), i(&[9], &[]), i(&[0], &[])];
    check(Op::OneHot { depth: Dim::from(2), axis: 0 }, &hot, &i(&[0, 0, 9, 0], &[2, 2]));
    let top = Op::TopK(TopK { k: Dim::from(2), axis: 0, largest: true });
    let both = run(top, &[i(&[3, 7, 1, 7], &[4])]).unwrap();
    assert_eq!(both[0].to_vec::<i32>().unwrap(), [7, 7]);
    assert_eq!(both[1].to_vec::<i32>().unwrap(), [1, 3]);
    let condition = Tensor::from_vec(vec![true, false], &[2]).unwrap();
    check(Op::Select, &[condition, i(&[1], &[]), i(&[2, 3], &[2])], &i(&[1, 3], &[2]));
}

#[test]
fn states_are_stepped() {
    let mut builder = GraphBuilder::new("counter");
    let state = builder.state("count", i(&[10], &[]));
    let x = builder.input("x", i(&[0], &[]).spec());
    let next = builder.push1(Op::Binary(Binary::Add), &[state, x], &"add".into()).unwrap();
    builder.set_next(0, next).unwrap();
    builder.output("before", state);
    let graph = builder.finish().unwrap();
    let mut states = vec![graph.states()[0].initial.clone()];
    for (x, before) in [(1, 10), (5, 11), (0, 16)] {
        let outputs = step(&graph, &[i(&[x], &[])], &mut states).unwrap();
        assert_eq!(outputs[0].to_vec::<i32>().unwrap(), [before]);
    }
}
