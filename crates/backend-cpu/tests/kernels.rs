//! Every family of operations against formulas written here.

mod common;

use common::{apply, noise, tensor};
use mslite_backend_cpu::evaluate;
use mslite_graph_opt::Op;
use mslite_graph_opt::ir::op::{
    ArgReduce, Binary, Conv2d, Cumulative, Distribution, Gather, MatMul, Norm, Pad, PadMode, Padding2d,
    Pool2d, Random, Reduce, ReduceKind, ScatterKind, Slice, Softmax, TopK, Triangle, Unary,
};
use mslite_runtime::ErrorKind;
use mslite_tensor::{Complex, DType, Dim, Element, Tensor, bf16, contiguous_strides, f16};

/// Runs an operation alone and on two threads, and through `evaluate`; all must agree.
fn eval(op: Op, operands: &[&Tensor]) -> Tensor {
    let mut one = apply(op.clone(), operands, 1).unwrap();
    let two = apply(op.clone(), operands, 2).unwrap();
    assert_eq!(one.len(), two.len());
    for (one, two) in one.iter().zip(&two) {
        assert_close(&floats(two), &floats(one), 1e-5);
    }
    if let Some(folded) = evaluate(&op, operands) {
        assert_eq!(folded, one[0]);
    }
    one.remove(0)
}

fn of<T: Element>(values: &[T], dims: &[usize]) -> Tensor {
    Tensor::from_vec(values.to_vec(), dims).unwrap()
}

fn cast(x: &Tensor, dtype: DType) -> Tensor {
    apply(Op::Cast(dtype), &[x], 1).unwrap().remove(0)
}

/// The elements as f64.
fn floats(x: &Tensor) -> Vec<f64> {
    cast(x, DType::F64).to_vec().unwrap()
}

fn assert_close(actual: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len());
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let close = (a - e).abs() <= tolerance * (1.0 + e.abs()) || a == e || (a.is_nan() && e.is_nan());
        assert!(close, "element {i}: {a}, expected {e}");
    }
}

fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-12,
        DType::F32 => 1e-6,
        DType::F16 => 1e-3,
        _ => 8e-3,
    }
}

const FLOATS: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];
const INTS: [DType; 8] =
    [DType::I8, DType::I16, DType::I32, DType::I64, DType::U8, DType::U16, DType::U32, DType::U64];

#[test]
fn unary_functions_of_floats() {
    type Case = (Unary, fn(f64) -> f64);
    let cases: &[Case] = &[
        (Unary::Abs, f64::abs),
        (Unary::Neg, |x| -x),
        (Unary::Sign, |x| if x == 0.0 { 0.0 } else { x.signum() }),
        (Unary::Exp, f64::exp),
        (Unary::Expm1, f64::exp_m1),
        (Unary::Square, |x| x * x),
        (Unary::Reciprocal, |x| 1.0 / x),
        (Unary::Floor, f64::floor),
        (Unary::Ceil, f64::ceil),
        (Unary::Round, f64::round_ties_even),
        (Unary::Trunc, f64::trunc),
        (Unary::Sin, f64::sin),
        (Unary::Cos, f64::cos),
        (Unary::Tan, f64::tan),
        (Unary::Atan, f64::atan),
        (Unary::Sinh, f64::sinh),
        (Unary::Cosh, f64::cosh),
        (Unary::Tanh, f64::tanh),
        (Unary::Erf, libm::erf),
        (Unary::Erfc, libm::erfc),
        (Unary::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
        (Unary::Relu, |x| x.max(0.0)),
        (Unary::Relu6, |x| x.clamp(0.0, 6.0)),
        (Unary::Gelu, |x| x * (1.0 + libm::erf(x / 2f64.sqrt())) / 2.0),
        (Unary::GeluTanh, |x| {
            x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }),
        (Unary::FastGelu, |x| x / (1.0 + (-1.702 * x).exp())),
        (Unary::Silu, |x| x / (1.0 + (-x).exp())),
        (Unary::Mish, |x| x * x.exp().ln_1p().tanh()),
        (Unary::HardSwish, |x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0),
        (Unary::HardSigmoid, |x| (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        (Unary::Softplus, |x| x.exp().ln_1p()),
        (Unary::Softsign, |x| x / (1.0 + x.abs())),
        (Unary::Elu { alpha: 0.5 }, |x| if x > 0.0 { x } else { 0.5 * x.exp_m1() }),
        (Unary::LeakyRelu { alpha: 0.1 }, |x| if x > 0.0 { x } else { 0.1 * x }),
        (Unary::Clip { low: -1.0, high: 2.5 }, |x| x.clamp(-1.0, 2.5)),
    ];
    // 16-bit floats hold these exactly, and 2.5 and 0.5 are ties.
    let values: Vec<f32> = (-40..=40).map(|i| i as f32 / 8.0).filter(|&x| x != 0.0).collect();
    for &(f, exact) in cases {
        check_unary(f, exact, &values);
    }
    let positive: Vec<f32> = (1..=80).map(|i| i as f32 / 8.0).collect();
    let positive_cases: &[Case] = &[
        (Unary::Log, f64::ln),
        (Unary::Log1p, f64::ln_1p),
        (Unary::Sqrt, f64::sqrt),
        (Unary::Rsqrt, |x| 1.0 / x.sqrt()),
    ];
    for &(f, exact) in positive_cases {
        check_unary(f, exact, &positive);
    }
    let inside: Vec<f32> = (-8..=8).map(|i| i as f32 / 8.0).collect();
    check_unary(Unary::Asin, f64::asin, &inside);
    check_unary(Unary::Acos, f64::acos, &inside);
}

fn check_unary(f: Unary, exact: fn(f64) -> f64, values: &[f32]) {
    let expected: Vec<f64> = values.iter().map(|&x| exact(f64::from(x))).collect();
    for dtype in FLOATS {
        let x = cast(&of(values, &[values.len()]), dtype);
        let y = apply(Op::Unary(f), &[&x], 1).unwrap().remove(0);
        assert_eq!(y.dtype(), dtype);
        for (a, e) in floats(&y).iter().zip(&expected) {
            assert!(
                (a - e).abs() <= tolerance(dtype) * e.abs().max(1e-3),
                "{f:?} {dtype}: {a}, expected {e}"
            );
        }
    }
}

#[test]
fn unary_functions_of_other_types() {
    for dtype in INTS {
        let x = cast(&of(&[0i64, 1, 5, 100], &[4]), dtype);
        assert_eq!(floats(&eval(Op::Unary(Unary::Square), &[&x]))[2], 25.0, "{dtype}");
        let clip = Op::Unary(Unary::Clip { low: 0.5, high: 50.5 });
        assert_eq!(floats(&eval(clip, &[&x])), [1.0, 1.0, 5.0, 50.0], "{dtype}");
    }
    let x = of(&[-3i32, 0, 7, i32::MIN], &[4]);
    let same =
        |f, expected: [i32; 4]| assert_eq!(eval(Op::Unary(f), &[&x]).to_vec::<i32>().unwrap(), expected);
    same(Unary::Abs, [3, 0, 7, i32::MIN]);
    same(Unary::Neg, [3, 0, -7, i32::MIN]);
    same(Unary::Sign, [-1, 0, 1, -1]);
    same(Unary::Relu, [0, 0, 7, 0]);
    same(Unary::Not, [2, -1, -8, i32::MAX]);
    let flags = eval(Op::Unary(Unary::Not), &[&of(&[true, false], &[2])]);
    assert_eq!(flags.to_vec::<bool>().unwrap(), [false, true]);
    let odd = of(&[f32::NAN, f32::INFINITY, 1.0], &[3]);
    let predicate = |f| eval(Op::Unary(f), &[&odd]).to_vec::<bool>().unwrap();
    assert_eq!(predicate(Unary::IsNan), [true, false, false]);
    assert_eq!(predicate(Unary::IsInf), [false, true, false]);
    assert_eq!(predicate(Unary::IsFinite), [false, false, true]);
}

#[test]
fn arithmetic_of_every_type() {
    use Binary as B;
    type Case = (B, fn(f64, f64) -> f64);
    let cases: &[Case] = &[
        (B::Add, |x, y| x + y),
        (B::Sub, |x, y| x - y),
        (B::Mul, |x, y| x * y),
        (B::FloorDiv, |x, y| (x / y).floor()),
        (B::TruncDiv, |x, y| (x / y).trunc()),
        (B::FloorMod, |x, y| x - (x / y).floor() * y),
        (B::TruncMod, |x, y| x - (x / y).trunc() * y),
        (B::Pow, f64::powf),
        (B::Maximum, f64::max),
        (B::Minimum, f64::min),
        (B::SquaredDifference, |x, y| (x - y) * (x - y)),
    ];
    for dtype in FLOATS.into_iter().chain(INTS) {
        let signed = !dtype.is_unsigned_int();
        let xs = if signed { [7.0, -7.0, 5.0, 1.0] } else { [7.0, 9.0, 5.0, 3.0] };
        let ys = [2.0f64, 2.0, 3.0, 1.0];
        let (x, y) = (cast(&of(&xs, &[4]), dtype), cast(&of(&ys, &[4]), dtype));
        for &(f, exact) in cases {
            let expected: Vec<f64> = xs.iter().zip(ys).map(|(&x, y)| exact(x, y)).collect();
            let actual = floats(&eval(Op::Binary(f), &[&x, &y]));
            assert_close(&actual, &expected, tolerance(dtype));
        }
        let less = eval(Op::Binary(B::Less), &[&x, &y]).to_vec::<bool>().unwrap();
        assert_eq!(less, xs.iter().zip(ys).map(|(&x, y)| x < y).collect::<Vec<_>>());
    }
    let (x, y) = (of(&[-7i32, 7, -8, i32::MIN], &[4]), of(&[2i32, -2, 0, -1], &[4]));
    let ints = |f| eval(Op::Binary(f), &[&x, &y]).to_vec::<i32>().unwrap();
    assert_eq!(ints(B::FloorDiv), [-4, -4, 0, i32::MIN]);
    assert_eq!(ints(B::TruncDiv), [-3, -3, 0, i32::MIN]);
    assert_eq!(ints(B::FloorMod), [1, -1, 0, 0]);
    assert_eq!(ints(B::Xor), [-7 ^ 2, 7 ^ -2, -8, i32::MIN ^ -1]);
    let div = eval(Op::Binary(B::Div), &[&of(&[1.0f32, -1.0], &[2]), &Tensor::scalar(0.0f32)]);
    assert_eq!(div.to_vec::<f32>().unwrap(), [f32::INFINITY, f32::NEG_INFINITY]);
    let powers =
        eval(Op::Binary(B::Pow), &[&of(&[2i32, -1, -1, 1, 5], &[5]), &of(&[-1i32, -3, -2, -9, 0], &[5])]);
    assert_eq!(powers.to_vec::<i32>().unwrap(), [0, -1, 1, 1, 1]);
}

#[test]
fn comparisons_and_logic() {
    use Binary as B;
    let (x, y) = (of(&[1.0f32, 2.0, f32::NAN], &[3]), of(&[1.0f32, 1.0, 1.0], &[3]));
    let cases = [
        (B::Equal, [true, false, false]),
        (B::NotEqual, [false, true, true]),
        (B::Less, [false, false, false]),
        (B::LessEqual, [true, false, false]),
        (B::Greater, [false, true, false]),
        (B::GreaterEqual, [true, true, false]),
    ];
    for (f, expected) in cases {
        assert_eq!(eval(Op::Binary(f), &[&x, &y]).to_vec::<bool>().unwrap(), expected, "{f:?}");
    }
    let (x, y) = (of(&[true, true, false, false], &[4]), of(&[true, false, true, false], &[4]));
    for (f, expected) in [
        (B::And, [true, false, false, false]),
        (B::Or, [true, true, true, false]),
        (B::Xor, [false, true, true, false]),
    ] {
        assert_eq!(eval(Op::Binary(f), &[&x, &y]).to_vec::<bool>().unwrap(), expected, "{f:?}");
    }
    for f in [B::Maximum, B::Minimum] {
        let z = eval(Op::Binary(f), &[&of(&[f32::NAN, 1.0], &[2]), &of(&[1.0f32, f32::NAN], &[2])]);
        assert!(z.to_vec::<f32>().unwrap().iter().all(|x| x.is_nan()));
    }
}

/// Element of a broadcast operand that meets element `index` of the result.
fn broadcast_index(index: usize, result: &[usize], dims: &[usize]) -> usize {
    let (to, own) = (contiguous_strides(result), contiguous_strides(dims));
    let lead = result.len() - dims.len();
    (0..dims.len())
        .map(|axis| {
            let at = index / to[axis + lead] % result[axis + lead];
            if dims[axis] == 1 { 0 } else { at * own[axis] }
        })
        .sum()
}

#[test]
fn broadcasting() {
    let cases: &[(&[usize], &[usize], &[usize])] = &[
        (&[2, 3, 4], &[4], &[2, 3, 4]),
        (&[2, 3, 4], &[3, 1], &[2, 3, 4]),
        (&[2, 1, 4], &[1, 3, 1], &[2, 3, 4]),
        (&[], &[3, 2], &[3, 2]),
        (&[5], &[], &[5]),
        (&[], &[], &[]),
        (&[0, 3], &[1, 3], &[0, 3]),
        (&[7, 1, 5, 1], &[6, 1, 9], &[7, 6, 5, 9]),
        (&[300, 70], &[300, 1], &[300, 70]),
    ];
    for &(a, b, result) in cases {
        let (x, y) = (tensor(a, 3), tensor(b, 4));
        let (xs, ys) = (x.to_vec::<f32>().unwrap(), y.to_vec::<f32>().unwrap());
        let count: usize = result.iter().product();
        let pairs =
            (0..count).map(|i| (xs[broadcast_index(i, result, a)], ys[broadcast_index(i, result, b)]));
        let z = eval(Op::Binary(Binary::Sub), &[&x, &y]);
        assert_eq!(z.dims(), result);
        assert_eq!(z.to_vec::<f32>().unwrap(), pairs.clone().map(|(x, y)| x - y).collect::<Vec<_>>());
        let condition = eval(Op::Binary(Binary::Less), &[&x, &y]);
        let z = eval(Op::Select, &[&condition, &x, &y]);
        assert_eq!(z.to_vec::<f32>().unwrap(), pairs.map(|(x, y)| x.min(y)).collect::<Vec<_>>());
        let dims = result.iter().map(|&d| Dim::from(d)).collect();
        let spread = eval(Op::Broadcast(dims), &[&x]).to_vec::<f32>().unwrap();
        assert_eq!(spread, (0..count).map(|i| xs[broadcast_index(i, result, a)]).collect::<Vec<_>>());
    }
}

#[test]
fn casts_between_all_types() {
    let all: Vec<DType> = FLOATS.into_iter().chain(INTS).chain([DType::Bool]).collect();
    for &from in &all {
        let x = cast(&of(&[0.0f64, 1.0, 3.0, 100.0], &[4]), from);
        for &to in &all {
            let one = from == DType::Bool || to == DType::Bool;
            let expected = if one { [0.0, 1.0, 1.0, 1.0] } else { [0.0, 1.0, 3.0, 100.0] };
            assert_eq!(floats(&eval(Op::Cast(to), &[&x])), expected, "{from} to {to}");
        }
    }
    let x = of(&[2.9f32, -2.9, 1e20, -1e20, f32::NAN], &[5]);
    assert_eq!(eval(Op::Cast(DType::I8), &[&x]).to_vec::<i8>().unwrap(), [2, -2, 127, -128, 0]);
    assert_eq!(eval(Op::Cast(DType::U8), &[&x]).to_vec::<u8>().unwrap(), [2, 0, 255, 0, 0]);
    let x = of(&[i64::MAX, -1], &[2]);
    assert_eq!(eval(Op::Cast(DType::I8), &[&x]).to_vec::<i8>().unwrap(), [-1, -1]);
    let x = of(&[1.0f32 + 1.0 / 2048.0, 65504.0], &[2]);
    assert_eq!(cast(&x, DType::F16).to_vec::<f16>().unwrap(), [f16::ONE, f16::MAX]);
    assert_eq!(cast(&x, DType::BF16).to_vec::<bf16>().unwrap()[0], bf16::ONE);
}

/// Groups of elements that a reduction over `axes` combines, by element of the result.
fn groups(x: &[f64], dims: &[usize], axes: &[usize]) -> Vec<Vec<f64>> {
    let strides = contiguous_strides(dims);
    let kept: Vec<usize> = (0..dims.len()).filter(|axis| !axes.contains(axis)).collect();
    let mut groups = vec![Vec::new(); kept.iter().map(|&axis| dims[axis]).product()];
    for (i, &x) in x.iter().enumerate() {
        let to = kept.iter().fold(0, |to, &axis| to * dims[axis] + i / strides[axis] % dims[axis]);
        groups[to].push(x);
    }
    groups
}

#[test]
fn reductions() {
    let shapes: &[(&[usize], &[usize])] = &[
        (&[4, 5], &[1]),
        (&[4, 5], &[0]),
        (&[3, 70, 5], &[1]),
        (&[3, 4, 5, 6], &[0, 2]),
        (&[3, 4, 5, 6], &[1, 3]),
        (&[3, 1, 200], &[0, 1, 2]),
        (&[2, 3], &[]),
        (&[], &[]),
        (&[0, 3], &[0]),
        (&[3, 0], &[0]),
        (&[40, 1000], &[1]),
    ];
    let kinds = [ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Max, ReduceKind::Min, ReduceKind::Prod];
    for &(dims, axes) in shapes {
        for dtype in [DType::F32, DType::F16, DType::F64, DType::I32, DType::U8] {
            let count = dims.iter().product();
            let values: Vec<f32> = match dtype.is_float() {
                true => noise(count, 5),
                false => (0..count).map(|i| (i % 3) as f32).collect(),
            };
            let x = cast(&of(&values, dims), dtype);
            let expected = groups(&floats(&x), dims, axes);
            for kind in kinds {
                let op = Op::Reduce(Reduce { kind, axes: axes.to_vec(), keep_dims: false });
                let y = eval(op, &[&x]);
                if dtype.is_int() && (kind == ReduceKind::Mean || count > 300 || count == 0) {
                    continue;
                }
                let expected: Vec<f64> = expected.iter().map(|group| combine(kind, group)).collect();
                assert_close(&floats(&y), &expected, tolerance(dtype));
            }
        }
    }
    let x = of(&[true, false, true, true], &[2, 2]);
    let logic = |kind| {
        let op = Op::Reduce(Reduce { kind, axes: vec![1], keep_dims: true });
        let y = eval(op, &[&x]);
        assert_eq!(y.dims(), [2, 1]);
        y.to_vec::<bool>().unwrap()
    };
    assert_eq!(logic(ReduceKind::All), [false, true]);
    assert_eq!(logic(ReduceKind::Any), [true, true]);
}

fn combine(kind: ReduceKind, group: &[f64]) -> f64 {
    match kind {
        ReduceKind::Sum => group.iter().sum(),
        ReduceKind::Mean => group.iter().sum::<f64>() / group.len() as f64,
        ReduceKind::Max => group.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ReduceKind::Min => group.iter().copied().fold(f64::INFINITY, f64::min),
        _ => group.iter().product(),
    }
}

#[test]
fn long_sums_are_exact_to_the_last_bits() {
    let x = of(&vec![0.1f32; 1_000_000], &[1000, 1000]);
    for axes in [vec![0], vec![1], vec![0, 1]] {
        let count = if axes.len() == 2 { 1e6 } else { 1e3 };
        let y = eval(Op::Reduce(Reduce { kind: ReduceKind::Sum, axes, keep_dims: false }), &[&x]);
        assert_close(&floats(&y)[..1], &[f64::from(0.1f32) * count], 1e-7);
    }
}

#[test]
fn extremes_and_running_sums() {
    let x = of(&[3.0f32, 1.0, 3.0, 0.0, 5.0, 5.0], &[2, 3]);
    let arg = |largest, axis, dtype| {
        eval(Op::ArgReduce(ArgReduce { largest, axis, keep_dims: false, dtype }), &[&x])
    };
    assert_eq!(arg(true, 1, DType::I32).to_vec::<i32>().unwrap(), [0, 1]);
    assert_eq!(arg(false, 1, DType::I64).to_vec::<i64>().unwrap(), [1, 0]);
    assert_eq!(arg(true, 0, DType::I64).to_vec::<i64>().unwrap(), [0, 1, 1]);
    let x = of(&[1i32, 2, 3, 4, 5, 6], &[2, 3]);
    let running = |product, axis, exclusive, reverse| {
        let op = Cumulative { product, axis, exclusive, reverse };
        eval(Op::Cumulative(op), &[&x]).to_vec::<i32>().unwrap()
    };
    assert_eq!(running(false, 1, false, false), [1, 3, 6, 4, 9, 15]);
    assert_eq!(running(false, 1, true, false), [0, 1, 3, 0, 4, 9]);
    assert_eq!(running(false, 1, true, true), [5, 3, 0, 11, 6, 0]);
    assert_eq!(running(true, 0, false, false), [1, 2, 3, 4, 10, 18]);
    assert_eq!(running(true, 1, true, false), [1, 1, 2, 1, 4, 20]);
}

#[test]
fn largest_elements() {
    let x = of(&[1.0f32, 9.0, f32::NAN, 9.0, 4.0], &[5]);
    let top = |k: usize, largest| {
        let op = Op::TopK(TopK { k: Dim::from(k), axis: 0, largest });
        let results = apply(op, &[&x], 2).unwrap();
        (results[0].to_vec::<f32>().unwrap(), results[1].to_vec::<i32>().unwrap())
    };
    assert_eq!(top(3, true), (vec![9.0, 9.0, 4.0], vec![1, 3, 4]));
    assert_eq!(top(2, false), (vec![1.0, 4.0], vec![0, 4]));
    assert_eq!(top(5, false).1, [0, 4, 1, 3, 2]);
    assert!(top(0, true).1.is_empty());
    let x = of(&[1i64, 5, 4, 2, 3, 6], &[3, 2]);
    let results = apply(Op::TopK(TopK { k: Dim::from(2), axis: 0, largest: true }), &[&x], 1).unwrap();
    assert_eq!(results[0].to_vec::<i64>().unwrap(), [4, 6, 3, 5]);
    assert_eq!(results[1].to_vec::<i32>().unwrap(), [1, 2, 2, 0]);
}

#[test]
fn softmax_along_any_axis() {
    let shapes: &[(&[usize], usize)] =
        &[(&[5], 0), (&[3, 7], 1), (&[3, 7], 0), (&[2, 300, 70], 1), (&[2, 3, 700], 2), (&[0, 3], 1)];
    for &(dims, axis) in shapes {
        for dtype in FLOATS {
            let x = cast(&tensor(dims, 9), dtype);
            let xs = floats(&x);
            let inner: usize = dims[axis + 1..].iter().product();
            let same_line = |i: usize, j: usize| {
                i % inner == j % inner && i / (inner * dims[axis]) == j / (inner * dims[axis])
            };
            let y = floats(&eval(Op::Softmax(Softmax { axis, log: false }), &[&x]));
            let log = floats(&eval(Op::Softmax(Softmax { axis, log: true }), &[&x]));
            for i in (0..xs.len()).step_by(xs.len().div_ceil(50).max(1)) {
                let total: f64 = (0..xs.len()).filter(|&j| same_line(i, j)).map(|j| xs[j].exp()).sum();
                assert_close(&[y[i]], &[xs[i].exp() / total], tolerance(dtype));
                assert_close(&[log[i]], &[xs[i] - total.ln()], tolerance(dtype));
            }
        }
    }
    let masked = of(&[1.0f32, f32::NEG_INFINITY, 1.0], &[3]);
    let y = eval(Op::Softmax(Softmax { axis: 0, log: false }), &[&masked]);
    assert_close(&floats(&y), &[0.5, 0.0, 0.5], 1e-7);
}

#[test]
fn normalisation() {
    for dtype in FLOATS {
        for (dims, axis, affine) in [
            (&[4usize, 300][..], 1usize, &[300usize][..]),
            (&[2, 3, 10], 1, &[3, 10]),
            (&[2, 3, 10], 2, &[1, 1, 10]),
            (&[2, 3, 10], 2, &[3, 1]),
            (&[2, 3, 10], 2, &[]),
        ] {
            let x = cast(&tensor(dims, 1), dtype);
            let (gamma, beta) = (cast(&tensor(affine, 2), dtype), cast(&tensor(affine, 3), dtype));
            let (xs, gs, bs) = (floats(&x), floats(&gamma), floats(&beta));
            let width: usize = dims[axis..].iter().product();
            let expect = |centred: bool| -> Vec<f64> {
                (0..xs.len())
                    .map(|i| {
                        let row = &xs[i / width * width..][..width];
                        let n = width as f64;
                        let mean = if centred { row.iter().sum::<f64>() / n } else { 0.0 };
                        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                        let at = broadcast_index(i, dims, affine);
                        let scaled = (xs[i] - mean) / (variance + 1e-5).sqrt() * gs[at];
                        if centred { scaled + bs[at] } else { scaled }
                    })
                    .collect()
            };
            let op = Norm { axis, epsilon: 1e-5 };
            let y = eval(Op::LayerNorm(op.clone()), &[&x, &gamma, &beta]);
            assert_close(&floats(&y), &expect(true), 2.0 * tolerance(dtype));
            let y = eval(Op::RmsNorm(op), &[&x, &gamma]);
            assert_close(&floats(&y), &expect(false), 2.0 * tolerance(dtype));
        }
    }
    let y = eval(Op::LayerNorm(Norm { axis: 0, epsilon: 0.0 }), &[&of(&[1.0f64, 3.0], &[2])]);
    assert_eq!(y.to_vec::<f64>().unwrap(), [-1.0, 1.0]);
}

/// `a b` of matrices by definition, with the sizes of [`matmul_case`].
fn naive_product(a: &[f64], b: &[f64], [m, k, n]: [usize; 3], [ta, tb]: [bool; 2]) -> Vec<f64> {
    let at = |i: usize, p: usize| a[if ta { p * m + i } else { i * k + p }];
    let bt = |p: usize, j: usize| b[if tb { j * k + p } else { p * n + j }];
    (0..m * n).map(|ij| (0..k).map(|p| at(ij / n, p) * bt(p, ij % n)).sum()).collect()
}

#[test]
fn matrix_products() {
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32, DType::U8] {
        for sizes in [
            [1, 1, 1],
            [3, 5, 7],
            [1, 300, 500],
            [65, 260, 33],
            [17, 0, 3],
            [0, 4, 4],
            [70, 129, 300],
            [600, 9, 1],
            [300, 64, 300],
        ] {
            for transposed in [[false, false], [true, false], [false, true], [true, true]] {
                for constant in [false, true] {
                    matmul_case(dtype, sizes, transposed, constant);
                }
            }
        }
    }
}

fn matmul_case(dtype: DType, sizes: [usize; 3], transposed: [bool; 2], constant: bool) {
    let [m, k, n] = sizes;
    let order = |dims: [usize; 2], swap: bool| if swap { [dims[1], dims[0]] } else { dims };
    let numbers = |dims: &[usize], seed| {
        let x = tensor(dims, seed);
        let small = apply(Op::Unary(Unary::Abs), &[&x], 1).unwrap().remove(0);
        let scale = Tensor::scalar(if dtype.is_int() { 3.0f32 } else { 1.0 });
        let x = if dtype.is_float() { x } else { small };
        cast(&apply(Op::Binary(Binary::Mul), &[&x, &scale], 1).unwrap()[0], dtype)
    };
    let a = numbers(&order([m, k], transposed[0]), 11);
    let b = numbers(&order([k, n], transposed[1]), 12);
    let bias = numbers(&[n], 13);
    let op = MatMul { transpose_a: transposed[0], transpose_b: transposed[1], ..MatMul::default() };
    let mut expected = naive_product(&floats(&a), &floats(&b), sizes, transposed);
    let biases = floats(&bias);
    for (i, y) in expected.iter_mut().enumerate() {
        *y += biases[i % n];
    }
    let y = if constant {
        common::with_constants(Op::MatMul(op), &[&a, &b, &bias], &[1, 2], 2)
    } else {
        eval(Op::MatMul(op), &[&a, &b, &bias])
    };
    if dtype != DType::U8 || expected.iter().all(|&x| x < 256.0) {
        assert_close(&floats(&y), &expected, 20.0 * tolerance(dtype));
    }
}

#[test]
fn batches_of_products_broadcast() {
    let cases: &[(&[usize], &[usize], &[usize])] = &[
        (&[2, 3, 4, 5], &[5, 6], &[2, 3, 4, 6]),
        (&[2, 1, 4, 5], &[3, 5, 6], &[2, 3, 4, 6]),
        (&[5], &[5, 6], &[6]),
        (&[4, 5], &[5], &[4]),
        (&[5], &[5], &[]),
        (&[3, 4, 5], &[5], &[3, 4]),
        (&[0, 4, 5], &[5, 6], &[0, 4, 6]),
        (&[8, 40, 64], &[8, 64, 40], &[8, 40, 40]),
    ];
    for &(a_dims, b_dims, result) in cases {
        let (a, b) = (tensor(a_dims, 1), tensor(b_dims, 2));
        let k = *a_dims.last().unwrap();
        let m = if a_dims.len() > 1 { a_dims[a_dims.len() - 2] } else { 1 };
        let n = if b_dims.len() > 1 { b_dims[b_dims.len() - 1] } else { 1 };
        let lead = |dims: &[usize]| dims[..dims.len().saturating_sub(2)].to_vec();
        let batch = if lead(a_dims).len() >= lead(b_dims).len() { lead(a_dims) } else { lead(b_dims) };
        let batch: Vec<usize> = if a_dims == [2, 1, 4, 5] { vec![2, 3] } else { batch };
        let mut expected = Vec::new();
        for i in 0..batch.iter().product() {
            let (x, y) = (
                broadcast_index(i, &batch, &lead(a_dims)) * m * k,
                broadcast_index(i, &batch, &lead(b_dims)) * k * n,
            );
            let (a, b) = (&floats(&a)[x..x + m * k], &floats(&b)[y..y + k * n]);
            expected.extend(naive_product(a, b, [m, k, n], [false; 2]));
        }
        for y in [
            eval(Op::MatMul(MatMul::default()), &[&a, &b]),
            common::with_constants(Op::MatMul(MatMul::default()), &[&a, &b], &[1], 2),
        ] {
            assert_eq!(y.dims(), result);
            assert_close(&floats(&y), &expected, 1e-5);
        }
    }
    let op = MatMul { activation: Some(Unary::Relu), ..MatMul::default() };
    let y = eval(Op::MatMul(op), &[&of(&[-1.0f32, 2.0], &[2, 1]), &of(&[1.0f32], &[1, 1])]);
    assert_eq!(y.to_vec::<f32>().unwrap(), [0.0, 2.0]);
}

fn naive_conv(x: &Tensor, w: &Tensor, conv: &Conv2d, [top, left]: [usize; 2], y: &[usize]) -> Vec<f64> {
    let (xs, ws, xd, wd) = (floats(x), floats(w), x.dims(), w.dims());
    let mut out = Vec::new();
    for i in 0..y.iter().product() {
        let (ox, oy) = (i % y[3], i / y[3] % y[2]);
        let (o, b) = (i / (y[3] * y[2]) % y[1], i / (y[3] * y[2] * y[1]));
        let group = o / (y[1] / conv.groups);
        let mut sum = 0.0;
        for c in 0..wd[1] {
            for ky in 0..wd[2] {
                for kx in 0..wd[3] {
                    let py = (oy * conv.strides[0] + ky * conv.dilations[0]).wrapping_sub(top);
                    let px = (ox * conv.strides[1] + kx * conv.dilations[1]).wrapping_sub(left);
                    if py < xd[2] && px < xd[3] {
                        let channel = group * wd[1] + c;
                        sum += xs[((b * xd[1] + channel) * xd[2] + py) * xd[3] + px]
                            * ws[((o * wd[1] + c) * wd[2] + ky) * wd[3] + kx];
                    }
                }
            }
        }
        out.push(sum);
    }
    out
}

#[test]
fn convolutions() {
    let plain = Conv2d {
        strides: [1, 1],
        padding: Padding2d::Explicit([0; 4]),
        dilations: [1, 1],
        groups: 1,
        activation: None,
    };
    let padded = Padding2d::Explicit([1, 2, 0, 1]);
    let cases = [
        (plain.clone(), [2, 3, 7, 6], [4, 3, 3, 2]),
        (Conv2d { padding: padded, strides: [2, 3], ..plain.clone() }, [2, 3, 7, 6], [4, 3, 3, 2]),
        (Conv2d { padding: padded, dilations: [2, 2], ..plain.clone() }, [1, 4, 9, 8], [6, 4, 2, 3]),
        (Conv2d { groups: 2, ..plain.clone() }, [2, 4, 5, 5], [6, 2, 3, 3]),
        (Conv2d { groups: 4, padding: padded, ..plain.clone() }, [2, 4, 5, 5], [8, 1, 3, 3]),
        (
            Conv2d { groups: 4, padding: Padding2d::Same, strides: [2, 2], ..plain.clone() },
            [1, 4, 6, 6],
            [4, 1, 3, 3],
        ),
        (Conv2d { padding: Padding2d::Same, strides: [2, 1], ..plain.clone() }, [1, 2, 7, 6], [3, 2, 3, 2]),
        (Conv2d { padding: Padding2d::Explicit([5; 4]), ..plain.clone() }, [1, 1, 2, 2], [1, 1, 2, 2]),
    ];
    for (conv, x_dims, w_dims) in cases {
        for dtype in [DType::F32, DType::F16] {
            let (x, w) = (cast(&tensor(&x_dims, 1), dtype), cast(&tensor(&w_dims, 2), dtype));
            let bias = cast(&tensor(&w_dims[..1], 3), dtype);
            let y = eval(Op::Conv2d(conv.clone()), &[&x, &w, &bias]);
            // Same padding puts the odd cell at the end.
            let before = match conv.padding {
                Padding2d::Explicit([top, _, left, _]) => [top, left],
                Padding2d::Same => [0, 1].map(|i| {
                    ((y.dims()[i + 2] - 1) * conv.strides[i] + w_dims[i + 2]).saturating_sub(x_dims[i + 2])
                        / 2
                }),
            };
            let mut expected = naive_conv(&x, &w, &conv, before, y.dims());
            let area = y.dims()[2] * y.dims()[3];
            let biases = floats(&bias);
            for (i, y) in expected.iter_mut().enumerate() {
                *y += biases[i / area % w_dims[0]];
            }
            assert_close(&floats(&y), &expected, 10.0 * tolerance(dtype));
            let packed = common::with_constants(Op::Conv2d(conv.clone()), &[&x, &w, &bias], &[1, 2], 2);
            assert_close(&floats(&packed), &expected, 10.0 * tolerance(dtype));
        }
    }
}

#[test]
fn pooling() {
    let x = of(&(1..=16).map(|i| i as f32).collect::<Vec<_>>(), &[1, 1, 4, 4]);
    let plain = Pool2d {
        average: false,
        kernel: [2, 2],
        strides: [2, 2],
        padding: Padding2d::Explicit([0; 4]),
        ceil_mode: false,
        count_padding: false,
    };
    let pool = |op: Pool2d| eval(Op::Pool2d(op), &[&x]).to_vec::<f32>().unwrap();
    assert_eq!(pool(plain.clone()), [6.0, 8.0, 14.0, 16.0]);
    assert_eq!(pool(Pool2d { average: true, ..plain.clone() }), [3.5, 5.5, 11.5, 13.5]);
    let padded = Pool2d { padding: Padding2d::Explicit([1; 4]), ..plain.clone() };
    assert_eq!(pool(padded.clone()), [1.0, 3.0, 4.0, 9.0, 11.0, 12.0, 13.0, 15.0, 16.0]);
    let average = Pool2d { average: true, ..padded };
    assert_eq!(pool(average.clone()), [1.0, 2.5, 4.0, 7.0, 8.5, 10.0, 13.0, 14.5, 16.0]);
    let counted = Pool2d { count_padding: true, ..average };
    assert_eq!(pool(counted), [0.25, 1.25, 1.0, 3.5, 8.5, 5.0, 3.25, 7.25, 4.0]);
    let ceil = Pool2d { ceil_mode: true, kernel: [3, 3], ..plain.clone() };
    assert_eq!(pool(ceil.clone()), [11.0, 12.0, 15.0, 16.0]);
    // A window that sticks out of the padded tensor counts its cells inside.
    let ceil = Pool2d { average: true, count_padding: true, ..ceil };
    assert_eq!(pool(ceil), [6.0, 7.5, 12.0, 13.5]);
    let same = Pool2d { padding: Padding2d::Same, kernel: [3, 3], ..plain };
    assert_eq!(pool(same), [11.0, 12.0, 15.0, 16.0]);
}

#[test]
fn moving_elements_of_every_type() {
    let all = FLOATS.into_iter().chain(INTS).chain([DType::Bool]);
    for dtype in all {
        let x = cast(&of(&(0..24).map(|i| i as f32).collect::<Vec<_>>(), &[2, 3, 4]), dtype);
        let xs = floats(&x);
        let y = eval(Op::Transpose(vec![2, 0, 1]), &[&x]);
        assert_eq!(y.dims(), [4, 2, 3]);
        let expected: Vec<f64> = (0..24).map(|i| xs[(i / 3 % 2) * 12 + (i % 3) * 4 + i / 6]).collect();
        assert_eq!(floats(&y), expected, "{dtype}");
        let both = eval(Op::Concat { axis: 1 }, &[&x, &x]);
        assert_eq!(floats(&both)[12..24], xs[..12]);
        let numbers = |list: [i64; 3]| list.map(Dim::from).to_vec();
        let op = Slice { starts: numbers([1, 2, 3]), sizes: numbers([1, 2, 2]), steps: vec![1, -2, -3] };
        let y = eval(Op::Slice(op), &[&x]);
        assert_eq!(floats(&y), [xs[23], xs[20], xs[15], xs[12]], "{dtype}");
        let lower = eval(Op::Triangle(Triangle { upper: false, diagonal: 0 }), &[&x]);
        assert_eq!(floats(&lower)[..8], [xs[0], 0.0, 0.0, 0.0, xs[4], xs[5], 0.0, 0.0]);
        let upper = eval(Op::Triangle(Triangle { upper: true, diagonal: 1 }), &[&x]);
        assert_eq!(floats(&upper)[..8], [0.0, xs[1], xs[2], xs[3], 0.0, 0.0, xs[6], xs[7]]);
        let reshaped = eval(Op::Reshape(vec![Dim::from(24)]), &[&x]);
        assert_eq!(floats(&reshaped), xs);
    }
    let extents = eval(Op::Extents(vec![Dim::from(3), Dim::from(9)]), &[]);
    assert_eq!(extents.to_vec::<i64>().unwrap(), [3, 9]);
    let empty = tensor(&[2, 0], 1);
    assert_eq!(eval(Op::Concat { axis: 1 }, &[&empty, &tensor(&[2, 3], 2)]).dims(), [2, 3]);
    assert_eq!(eval(Op::Transpose(vec![1, 0]), &[&empty]).dims(), [0, 2]);
}

#[test]
fn padding_modes() {
    let x = of(&[1i32, 2, 3, 4, 5, 6], &[2, 3]);
    let pad = |mode, low: [i64; 2], high: [i64; 2]| {
        let op = Op::Pad(Pad { low: low.to_vec(), high: high.to_vec(), mode });
        let value = Tensor::scalar(9i32);
        let operands: &[&Tensor] = if mode == PadMode::Constant { &[&x, &value] } else { &[&x] };
        eval(op, operands).to_vec::<i32>().unwrap()
    };
    assert_eq!(pad(PadMode::Constant, [1, 0], [0, 1]), [9, 9, 9, 9, 1, 2, 3, 9, 4, 5, 6, 9]);
    assert_eq!(pad(PadMode::Constant, [0, -1], [-1, 0]), [2, 3]);
    assert_eq!(pad(PadMode::Reflect, [0, 2], [0, 1]), [3, 2, 1, 2, 3, 2, 6, 5, 4, 5, 6, 5]);
    assert_eq!(pad(PadMode::Symmetric, [0, 2], [0, 1]), [2, 1, 1, 2, 3, 3, 5, 4, 4, 5, 6, 6]);
    assert_eq!(pad(PadMode::Edge, [1, 1], [0, 0]), [1, 1, 2, 3, 1, 1, 2, 3, 4, 4, 5, 6]);
}

#[test]
fn following_indices() {
    let x = of(&(0..24).collect::<Vec<i16>>(), &[2, 3, 4]);
    for dtype in INTS {
        let last = if dtype.is_unsigned_int() { 2.0f32 } else { -1.0 };
        let indices = cast(&of(&[0.0, last], &[1, 2]), dtype);
        let y = eval(Op::Gather(Gather { axis: 1, batch_dims: 0 }), &[&x, &indices]);
        assert_eq!(y.dims(), [2, 1, 2, 4]);
        assert_eq!(y.to_vec::<i16>().unwrap(), [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 20, 21, 22, 23]);
    }
    let indices = of(&[0i32, 2, 1, 1], &[2, 2]);
    let y = eval(Op::Gather(Gather { axis: 2, batch_dims: 1 }), &[&x, &indices]);
    assert_eq!(y.to_vec::<i16>().unwrap(), [0, 2, 4, 6, 8, 10, 13, 13, 17, 17, 21, 21]);
    let index = of(&[2i64, 0, -1, 1], &[1, 1, 4]);
    let y = eval(Op::GatherElements { axis: 1 }, &[&x, &index]);
    assert_eq!(y.to_vec::<i16>().unwrap(), [8, 1, 10, 7]);
    let pointers = of(&[1i32, 2, 0, 0], &[2, 2]);
    let y = eval(Op::GatherNd, &[&x, &pointers]);
    assert_eq!(y.to_vec::<i16>().unwrap(), [20, 21, 22, 23, 0, 1, 2, 3]);
    let base = of(&[1.0f32; 4], &[4]);
    let (at, new) = (of(&[1i32, 3, 1], &[3, 1]), of(&[5.0f32, 6.0, 7.0], &[3]));
    let y = eval(Op::ScatterNd(ScatterKind::Update), &[&base, &at, &new]);
    assert_eq!(y.to_vec::<f32>().unwrap(), [1.0, 7.0, 1.0, 6.0]);
    let y = eval(Op::ScatterNd(ScatterKind::Add), &[&base, &at, &new]);
    assert_eq!(y.to_vec::<f32>().unwrap(), [1.0, 13.0, 1.0, 7.0]);
    let op = Op::OneHot { depth: Dim::from(3), axis: 0 };
    let y = eval(op, &[&of(&[2i32, 5], &[2]), &Tensor::scalar(1u8), &Tensor::scalar(7u8)]);
    assert_eq!(y.to_vec::<u8>().unwrap(), [7, 7, 7, 7, 1, 7]);
}

#[test]
fn indices_outside_are_errors() {
    let x = tensor(&[3, 2], 1);
    let cases = [
        (Op::Gather(Gather { axis: 0, batch_dims: 0 }), of(&[0i32, 3], &[2])),
        (Op::Gather(Gather { axis: 0, batch_dims: 0 }), of(&[0i64, -4], &[2])),
        (Op::GatherElements { axis: 0 }, of(&[0i32, 3], &[1, 2])),
        (Op::GatherNd, of(&[i64::MIN, 0], &[1, 2])),
    ];
    for (op, indices) in cases {
        let error = apply(op.clone(), &[&x, &indices], 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let text = error.to_string();
        assert!(text.contains("test/op") && text.contains("outside an axis of 3"), "{text}");
        assert!(evaluate(&op, &[&x, &indices]).is_none());
    }
    let update = Op::ScatterNd(ScatterKind::Update);
    assert!(apply(update, &[&x, &of(&[7i32], &[1, 1]), &tensor(&[1, 2], 1)], 1).is_err());
}

fn random(distribution: Distribution, count: usize, operands: &[&Tensor]) -> Vec<Tensor> {
    let op = Op::Random(Random { distribution, dims: vec![Dim::from(count)] });
    apply(op, operands, 1).unwrap()
}

#[test]
fn random_numbers_go_on_where_they_ended() {
    // The standard says that the 10,000th number of minstd_rand0 with seed 1 is 1043618065.
    let seed = of(&[1u32], &[1]);
    let results = random(Distribution::Uniform, 10_000, &[&seed]);
    assert_eq!(results[1].to_vec::<u32>().unwrap(), [1_043_618_065]);
    let first = random(Distribution::Uniform, 4_000, &[&seed]);
    let second = random(Distribution::Uniform, 6_000, &[&first[1]]);
    assert_eq!(second[1], results[1]);
    let all: Vec<f32> = results[0].to_vec().unwrap();
    let parts = [first[0].to_vec::<f32>().unwrap(), second[0].to_vec::<f32>().unwrap()].concat();
    assert_eq!(all, parts);
    assert!(all.iter().all(|x| (0.0..1.0).contains(x)));
}

#[test]
fn random_integers_are_those_of_the_standard() {
    // The state of mt19937 with its default seed; the 10,000th number is 4123659995.
    let mut words = vec![5489u32];
    for i in 1..624u32 {
        let last = words[i as usize - 1];
        words.push(1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i));
    }
    words.push(624);
    let state = of(&words, &[625]);
    let (low, high) = (Tensor::scalar(i32::MIN), Tensor::scalar(i32::MAX));
    // All but one of 2^32 numbers lie between the bounds, so that each is a number of the engine.
    let results = random(Distribution::Integers, 10_000, &[&state, &low, &high]);
    let last = results[0].to_vec::<i32>().unwrap()[9_999];
    assert_eq!(last.wrapping_sub(i32::MIN).cast_unsigned(), 4_123_659_995);
    let none = Op::Random(Random { distribution: Distribution::Integers, dims: vec![Dim::from(1)] });
    let error = apply(none, &[&state, &high, &low], 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn normal_numbers_have_mean_0_and_variance_1() {
    let values = floats(&random(Distribution::Normal, 100_000, &[&of(&[7u32], &[1])])[0]);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64;
    assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean}, {variance}");
}

#[test]
fn complex_numbers() {
    let x = of(&[Complex::new(3.0f32, 4.0), Complex::new(0.0, -1.0)], &[2]);
    let y = of(&[Complex::new(1.0f32, 2.0)], &[1]);
    let of_two = |f| eval(Op::Binary(f), &[&x, &y]).to_vec::<Complex<f32>>().unwrap();
    assert_eq!(of_two(Binary::Mul), [Complex::new(-5.0, 10.0), Complex::new(2.0, -1.0)]);
    assert_eq!(of_two(Binary::Sub), [Complex::new(2.0, 2.0), Complex::new(-1.0, -3.0)]);
    assert_eq!(of_two(Binary::Div)[0], Complex::new(2.2, -0.4));
    let swapped = eval(Op::Unary(Unary::SwapParts), &[&x]).to_vec::<Complex<f32>>().unwrap();
    assert_eq!(swapped, [Complex::new(4.0, 3.0), Complex::new(-1.0, 0.0)]);
    let root = eval(Op::Unary(Unary::Sqrt), &[&x]).to_vec::<Complex<f32>>().unwrap();
    assert!((root[0] - Complex::new(2.0, 1.0)).norm() < 1e-6);
    let same = eval(Op::Binary(Binary::Equal), &[&x, &x]);
    assert_eq!(same.to_vec::<bool>().unwrap(), [true, true]);
    let wide = cast(&x, DType::C128).to_vec::<Complex<f64>>().unwrap();
    assert_eq!(wide[0], Complex::new(3.0, 4.0));
    let from_real = cast(&of(&[5i32], &[1]), DType::C64).to_vec::<Complex<f32>>().unwrap();
    assert_eq!(from_real, [Complex::new(5.0, 0.0)]);
    assert_eq!(cast(&x, DType::I32).to_vec::<i32>().unwrap(), [3, 0]);
}
