//! Functions of several steps, of f16: each step rounds.

mod common;

use common::{apply, noise};
use mslite_graph_opt::Op;
use mslite_graph_opt::ir::op::{Norm, Softmax, Unary};
use mslite_tensor::{Tensor, f16};

const WIDTH: usize = 40;
const EPSILON: f64 = 1e-5;

/// Rounds to f16.
fn r(x: f64) -> f64 {
    f16::from_f32(x as f32).to_f64()
}

/// Rows of numbers that f16 has.
fn rows(count: usize, seed: u64, scale: f32) -> Vec<f64> {
    noise(count * WIDTH, seed).into_iter().map(|x| r(f64::from(x * scale))).collect()
}

fn tensor(values: &[f64], dims: &[usize]) -> Tensor {
    Tensor::from_vec(values.iter().map(|&x| f16::from_f64(x)).collect(), dims).unwrap()
}

/// Checks an operation against a formula in steps, and that without the steps other numbers come out.
fn assert_steps(op: &Op, operands: &[&Tensor], formula: impl Fn(fn(f64) -> f64) -> Vec<f64>) {
    let actual = apply(op.clone(), operands, 1).unwrap().remove(0).to_vec::<f16>().unwrap();
    let actual: Vec<f64> = actual.into_iter().map(f64::from).collect();
    assert_eq!(actual, formula(r), "{}", op.name());
    let once: Vec<f64> = formula(|x| x).into_iter().map(r).collect();
    assert_ne!(actual, once, "{}: no operand tells steps from one rounding", op.name());
}

fn sigmoid(x: f64, r: fn(f64) -> f64) -> f64 {
    r(1.0 / r(1.0 + r((-x).exp())))
}

#[test]
fn unary_functions() {
    let x = rows(4, 1, 6.0);
    let operand = tensor(&x, &[4, WIDTH]);
    let each = |f: fn(f64, fn(f64) -> f64) -> f64| {
        let x = x.clone();
        move |r: fn(f64) -> f64| x.iter().map(|&x| f(x, r)).collect::<Vec<f64>>()
    };
    assert_steps(&Op::Unary(Unary::Sigmoid), &[&operand], each(sigmoid));
    assert_steps(&Op::Unary(Unary::Silu), &[&operand], each(|x, r| r(x * sigmoid(x, r))));
    let x: Vec<f64> = x.iter().map(|x| x.abs() + 0.25).map(r).collect();
    let operand = tensor(&x, &[4, WIDTH]);
    let rsqrt = |r: fn(f64) -> f64| x.iter().map(|&x| r(1.0 / r(x.sqrt()))).collect();
    assert_steps(&Op::Unary(Unary::Rsqrt), &[&operand], rsqrt);
}

#[test]
fn softmax() {
    let x = rows(4, 2, 2.0);
    let row = |x: &[f64], r: fn(f64) -> f64| {
        let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = x.iter().map(|x| r(r(x - top).exp())).collect();
        let sum = r(powers.iter().sum());
        powers.into_iter().map(move |e| r(e / sum)).collect::<Vec<f64>>()
    };
    let op = Op::Softmax(Softmax { axis: 1, log: false });
    let rows = |r: fn(f64) -> f64| x.chunks(WIDTH).flat_map(|x| row(x, r)).collect();
    assert_steps(&op, &[&tensor(&x, &[4, WIDTH])], rows);
}

#[test]
fn layer_normalisation() {
    let (x, gamma, beta) = (rows(4, 3, 3.0), rows(1, 4, 2.0), rows(1, 5, 1.0));
    let row = |x: &[f64], r: fn(f64) -> f64| {
        let mean = x.iter().sum::<f64>() / WIDTH as f64;
        let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / WIDTH as f64;
        let deviation = r((variance + EPSILON).sqrt());
        let normal = |&x: &f64| r(r(x - r(mean)) / deviation);
        let factors = gamma.iter().zip(&beta);
        x.iter().map(normal).zip(factors).map(|(q, (g, b))| r(r(q * g) + b)).collect::<Vec<f64>>()
    };
    let op = Op::LayerNorm(Norm { axis: 1, epsilon: EPSILON });
    let operands = [tensor(&x, &[4, WIDTH]), tensor(&gamma, &[WIDTH]), tensor(&beta, &[WIDTH])];
    let rows = |r: fn(f64) -> f64| x.chunks(WIDTH).flat_map(|x| row(x, r)).collect();
    assert_steps(&op, &operands.each_ref(), rows);
}
