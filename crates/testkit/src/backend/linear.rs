use mslite_graph_opt::Op;
use mslite_graph_opt::ir::op::{
    AddNorm, ArgReduce, Conv2d, Cumulative, MatMul, Norm, Padding2d, Pool2d, Reduce, ReduceKind, Softmax,
    Unary,
};
use mslite_tensor::{DType, Tensor};

use super::elementwise::FLOATS;
use super::run::GraphCase;
use crate::Tolerance;
use crate::generate::{Generator, whole};

pub(super) fn cases() -> Vec<GraphCase> {
    let mut cases = Vec::new();
    reductions(&mut cases);
    arg_reductions(&mut cases);
    cumulative(&mut cases);
    softmax(&mut cases);
    norms(&mut cases);
    gates(&mut cases);
    matmuls(&mut cases);
    convolutions(&mut cases);
    pools(&mut cases);
    cases
}

/// For sums of a handful of terms, whose order is free.
fn summed(dtype: DType) -> Tolerance {
    Tolerance::of(dtype).times(4.0)
}

fn reductions(cases: &mut Vec<GraphCase>) {
    let mut generator = Generator::new(11);
    let kinds = [ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Max, ReduceKind::Min, ReduceKind::Prod];
    let case = |kind: ReduceKind, x: Tensor, axes: &[usize], keep_dims: bool| {
        let name = format!("reduce/{}/{}/{:?}_over_{axes:?}", kind.name(), x.dtype(), x.dims());
        let name = if keep_dims { format!("{name}_kept") } else { name };
        let tolerance = summed(x.dtype());
        let op = Op::Reduce(Reduce { kind, axes: axes.to_vec(), keep_dims });
        GraphCase::op(name, op, vec![x]).tolerance(tolerance)
    };
    for kind in kinds {
        for axes in [&[0][..], &[1], &[2], &[0, 2], &[0, 1, 2], &[]] {
            for keep_dims in [false, true] {
                let x = generator.tensor(DType::F32, &[3, 5, 4], 0.5, 1.75);
                cases.push(case(kind, x, axes, keep_dims));
            }
        }
        for dtype in [DType::F16, DType::BF16, DType::F64] {
            cases.push(case(kind, generator.tensor(dtype, &[6, 8], 0.5, 1.75), &[1], false));
        }
        for dtype in [DType::I32, DType::I64] {
            if kind != ReduceKind::Mean {
                cases.push(case(kind, generator.tensor(dtype, &[4, 6], -4.0, 5.0), &[0], false));
            }
        }
    }
    for kind in [ReduceKind::All, ReduceKind::Any] {
        cases.push(case(kind, generator.tensor(DType::Bool, &[9, 3], 0.0, 1.0), &[1], false));
    }
    for kind in [ReduceKind::Sum, ReduceKind::Prod] {
        cases.push(case(kind, generator.tensor(DType::F32, &[0, 3], 0.0, 1.0), &[0], false));
        cases.push(case(kind, generator.tensor(DType::F32, &[3, 0], 0.0, 1.0), &[0], false));
    }
    cases.push(case(ReduceKind::Sum, generator.tensor(DType::F32, &[], 0.0, 1.0), &[], false));
    let small = Tensor::from_vec(vec![mslite_tensor::f16::ONE; 4096], &[4096]).expect("one axis");
    let mut accumulates = case(ReduceKind::Sum, small, &[0], false).exact();
    "reduce/sum/f16/accumulates_in_f32".clone_into(&mut accumulates.name);
    cases.push(accumulates);
}

fn arg_reductions(cases: &mut Vec<GraphCase>) {
    for largest in [true, false] {
        for dtype in [DType::F32, DType::F16, DType::I32] {
            for (axis, index) in [(0, DType::I32), (1, DType::I64), (2, DType::I32)] {
                // Few distinct values: ties are the rule.
                let x = whole(dtype, &[3, 6, 5], 12 + axis as u64);
                let op = ArgReduce { largest, axis, keep_dims: axis == 1, dtype: index };
                let name = if largest { "largest" } else { "smallest" };
                let name = format!("arg_reduce/{name}/{dtype}/axis{axis}_{index}");
                cases.push(GraphCase::op(name, Op::ArgReduce(op), vec![x]).exact());
            }
        }
    }
}

fn cumulative(cases: &mut Vec<GraphCase>) {
    let mut generator = Generator::new(13);
    for product in [false, true] {
        for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
            for (dtype, axis) in [(DType::F32, 0), (DType::F32, 1), (DType::I32, 1), (DType::F16, 1)] {
                let range = if dtype.is_float() { (0.5, 1.5) } else { (-2.0, 3.0) };
                let x = generator.tensor(dtype, &[4, 6], range.0, range.1);
                let kind = if product { "product" } else { "sum" };
                let name = format!("cumulative/{kind}/{dtype}/axis{axis}_{exclusive}_{reverse}");
                let op = Cumulative { product, axis, exclusive, reverse };
                cases.push(GraphCase::op(name, Op::Cumulative(op), vec![x]).tolerance(summed(dtype)));
            }
        }
    }
}

fn softmax(cases: &mut Vec<GraphCase>) {
    let mut generator = Generator::new(14);
    for log in [false, true] {
        let kind = if log { "log_softmax" } else { "softmax" };
        let mut push = |name: String, x: Tensor, axis: usize| {
            let tolerance = summed(x.dtype());
            let op = Op::Softmax(Softmax { axis, log });
            cases.push(GraphCase::op(format!("{kind}/{name}"), op, vec![x]).tolerance(tolerance));
        };
        for dtype in FLOATS {
            push(format!("{dtype}"), generator.tensor(dtype, &[3, 17], -4.0, 4.0), 1);
        }
        for axis in [0, 1, 2] {
            push(format!("axis{axis}"), generator.tensor(DType::F32, &[3, 5, 7], -4.0, 4.0), axis);
        }
        push("large".to_owned(), generator.tensor(DType::F32, &[2, 9], 900.0, 910.0), 1);
        push("one".to_owned(), generator.tensor(DType::F32, &[4, 1], -4.0, 4.0), 1);
        push("empty".to_owned(), generator.tensor(DType::F32, &[0, 4], -4.0, 4.0), 1);
    }
    let masked = vec![1.0f32, f32::NEG_INFINITY, 2.0, f32::NEG_INFINITY];
    let x = Tensor::from_vec(masked, &[1, 4]).expect("4 values");
    cases.push(GraphCase::op("softmax/masked", Op::Softmax(Softmax { axis: 1, log: false }), vec![x]));
}

fn norms(cases: &mut Vec<GraphCase>) {
    let mut generator = Generator::new(15);
    for dtype in FLOATS {
        for (dims, axis) in [(&[4, 24][..], 1), (&[2, 3, 8], 2), (&[2, 3, 8], 1), (&[1, 1], 1)] {
            let mut tensor = |dims: &[usize]| generator.tensor(dtype, dims, -2.0, 3.0);
            let (x, gamma, beta) = (tensor(dims), tensor(&dims[axis..]), tensor(&dims[axis..]));
            let norm = Norm { axis, epsilon: 1e-3 };
            let name = |kind: &str| format!("{kind}/{dtype}/{dims:?}_from_{axis}");
            let tolerance = summed(dtype);
            let op = Op::LayerNorm(norm.clone());
            let operands = vec![x.clone(), gamma.clone(), beta];
            cases.push(GraphCase::op(name("layer_norm"), op.clone(), operands).tolerance(tolerance));
            cases.push(GraphCase::op(name("layer_norm/plain"), op, vec![x.clone()]).tolerance(tolerance));
            let op = Op::RmsNorm(norm);
            cases.push(GraphCase::op(name("rms_norm"), op, vec![x, gamma]).tolerance(tolerance));
        }
    }
    for dtype in FLOATS {
        for addends in [&[&[2, 3, 8][..]][..], &[&[8]], &[&[8], &[2, 3, 8]], &[&[3, 8], &[2, 1, 1]]] {
            sums(cases, &mut generator, dtype, addends);
        }
    }
    let far = generator.tensor(DType::F32, &[2, 64], 999.0, 1001.0);
    let op = Op::LayerNorm(Norm { axis: 1, epsilon: 1e-5 });
    let case = GraphCase::op("layer_norm/far_from_zero", op, vec![far]);
    cases.push(case.tolerance(Tolerance { rtol: 1e-3, atol: 1e-3 }));
}

/// Normalised sums of a tensor and addends that broadcast against it.
fn sums(cases: &mut Vec<GraphCase>, generator: &mut Generator, dtype: DType, addends: &[&[usize]]) {
    for (centred, sum) in [(true, true), (true, false), (false, true), (false, false)] {
        let factors = if centred { 2 } else { 1 };
        let dims = [&[2, 3, 8][..]].into_iter().chain(addends.iter().copied());
        let dims = dims.chain(std::iter::repeat_n(&[8][..], factors));
        let mut operands: Vec<Tensor> = dims.map(|dims| generator.tensor(dtype, dims, -2.0, 3.0)).collect();
        let op = Op::AddNorm(AddNorm { axis: 2, epsilon: 1e-3, centred, sum });
        let name = format!("add_norm/{dtype}/{addends:?}_{centred}_{sum}");
        cases.push(GraphCase::op(&name, op.clone(), operands.clone()).tolerance(summed(dtype)));
        if dtype.size() == 2 {
            operands[0] = generator.tensor(DType::F32, &[2, 3, 8], -2.0, 3.0);
            cases.push(GraphCase::op(format!("{name}_wide"), op, operands).tolerance(summed(dtype)));
        }
    }
}

fn gates(cases: &mut Vec<GraphCase>) {
    let mut generator = Generator::new(18);
    for dtype in FLOATS {
        for f in [Unary::Silu, Unary::Gelu, Unary::Sigmoid, Unary::Relu] {
            for dims in [&[2, 3, 8][..], &[1, 600], &[2, 2], &[0, 4]] {
                let x = generator.tensor(dtype, dims, -3.0, 3.0);
                let name = format!("gated/{}/{dtype}/{dims:?}", f.name());
                cases.push(GraphCase::op(name, Op::Gated(f), vec![x]).tolerance(summed(dtype)));
            }
        }
    }
}

fn matmuls(cases: &mut Vec<GraphCase>) {
    let mut generator = Generator::new(16);
    let shapes: [(&[usize], &[usize]); 14] = [
        (&[1, 1], &[1, 1]),
        (&[2, 3], &[3, 4]),
        (&[17, 33], &[33, 9]),
        (&[1, 64], &[64, 48]),
        (&[5, 1], &[1, 7]),
        (&[2, 3, 4], &[2, 4, 5]),
        (&[3, 2, 4], &[4, 5]),
        (&[2, 1, 3, 4], &[5, 4, 2]),
        (&[1, 3, 4], &[6, 4, 2]),
        (&[4], &[4, 3]),
        (&[2, 4], &[4]),
        (&[4], &[4]),
        (&[0, 4], &[4, 3]),
        (&[3, 0], &[0, 2]),
    ];
    for (a, b) in shapes {
        let operands =
            vec![generator.tensor(DType::F32, a, -1.0, 1.0), generator.tensor(DType::F32, b, -1.0, 1.0)];
        for constants in [&[][..], &[1]] {
            let kind = if constants.is_empty() { "inputs" } else { "weight" };
            let name = format!("matmul/{kind}/{a:?}_{b:?}");
            let op = Op::MatMul(MatMul::default());
            let case = GraphCase::with_constants(name, op, operands.clone(), constants);
            cases.push(case.tolerance(summed(DType::F32)));
        }
    }
    for (transpose_a, transpose_b) in [(true, false), (false, true), (true, true)] {
        for dtype in FLOATS {
            let dims =
                |swap: bool, rows: usize, cols: usize| if swap { [2, cols, rows] } else { [2, rows, cols] };
            let a = generator.tensor(dtype, &dims(transpose_a, 5, 19), -1.0, 1.0);
            let b = generator.tensor(dtype, &dims(transpose_b, 19, 6), -1.0, 1.0);
            let op = Op::MatMul(MatMul { transpose_a, transpose_b, ..MatMul::default() });
            let name = format!("matmul/transposed/{transpose_a}_{transpose_b}/{dtype}");
            cases.push(GraphCase::op(name, op, vec![a, b]).tolerance(summed(dtype)));
        }
    }
    for dtype in FLOATS.into_iter().chain([DType::I32]) {
        let tensor = |generator: &mut Generator, dims: &[usize]| generator.tensor(dtype, dims, -3.0, 3.0);
        let (a, b) = (tensor(&mut generator, &[4, 21]), tensor(&mut generator, &[21, 10]));
        let op = Op::MatMul(MatMul::default());
        let name = format!("matmul/{dtype}");
        cases.push(GraphCase::op(name, op, vec![a, b]).tolerance(summed(dtype)));
    }
    for dtype in [DType::F16, DType::BF16] {
        for constants in [&[][..], &[1]] {
            let a = generator.tensor(dtype, &[2, 5, 40], -1.0, 1.0);
            let b = generator.tensor(dtype, &[9, 40], -1.0, 1.0);
            let op = Op::MatMul(MatMul { transpose_b: true, wide: true, ..MatMul::default() });
            let kind = if constants.is_empty() { "inputs" } else { "weight" };
            let case =
                GraphCase::with_constants(format!("matmul/wide/{kind}/{dtype}"), op, vec![a, b], constants);
            cases.push(case.tolerance(summed(DType::F32)));
        }
    }
    fused_matmuls(cases, &mut generator);
}

fn fused_matmuls(cases: &mut Vec<GraphCase>, generator: &mut Generator) {
    let activations = [None, Some(Unary::Relu), Some(Unary::Gelu), Some(Unary::Silu), Some(Unary::Tanh)];
    for activation in activations {
        for (dtype, transpose_b) in
            [(DType::F32, false), (DType::F32, true), (DType::F16, true), (DType::BF16, false)]
        {
            let b = if transpose_b { [12, 20] } else { [20, 12] };
            let operands = vec![
                generator.tensor(dtype, &[2, 5, 20], -1.0, 1.0),
                generator.tensor(dtype, &b, -1.0, 1.0),
                generator.tensor(dtype, &[12], -1.0, 1.0),
            ];
            let name = activation.map_or("none", Unary::name);
            let op = Op::MatMul(MatMul { transpose_b, activation, ..MatMul::default() });
            let name = format!("matmul/biased/{name}_{transpose_b}/{dtype}");
            let case = GraphCase::with_constants(name, op, operands, &[1, 2]);
            cases.push(case.tolerance(summed(dtype)));
        }
    }
}

fn convolutions(cases: &mut Vec<GraphCase>) {
    let mut generator = Generator::new(17);
    let plain = Conv2d {
        strides: [1, 1],
        padding: Padding2d::Explicit([0; 4]),
        dilations: [1, 1],
        groups: 1,
        activation: None,
    };
    let kinds = [
        ("plain", plain.clone(), [2, 3, 7, 6], [4, 3, 3, 3]),
        ("pointwise", plain.clone(), [1, 5, 4, 4], [6, 5, 1, 1]),
        ("same", Conv2d { padding: Padding2d::Same, ..plain.clone() }, [1, 2, 6, 5], [3, 2, 4, 3]),
        (
            "same_strided",
            Conv2d { padding: Padding2d::Same, strides: [2, 3], ..plain.clone() },
            [1, 2, 7, 8],
            [3, 2, 3, 3],
        ),
        (
            "padded",
            Conv2d { padding: Padding2d::Explicit([1, 2, 0, 3]), strides: [2, 1], ..plain.clone() },
            [2, 2, 6, 5],
            [3, 2, 3, 2],
        ),
        ("dilated", Conv2d { dilations: [2, 3], ..plain.clone() }, [1, 2, 9, 11], [3, 2, 3, 3]),
        ("grouped", Conv2d { groups: 2, ..plain.clone() }, [1, 4, 5, 5], [6, 2, 3, 3]),
        (
            "depthwise",
            Conv2d { groups: 4, padding: Padding2d::Explicit([1; 4]), ..plain.clone() },
            [2, 4, 6, 6],
            [4, 1, 3, 3],
        ),
    ];
    for (name, conv, x, weight) in kinds {
        for (dtype, biased) in [(DType::F32, false), (DType::F32, true), (DType::F16, true)] {
            let mut operands =
                vec![generator.tensor(dtype, &x, -1.0, 1.0), generator.tensor(dtype, &weight, -1.0, 1.0)];
            let mut conv = conv.clone();
            if biased {
                operands.push(generator.tensor(dtype, &weight[..1], -1.0, 1.0));
                conv.activation = Some(Unary::Relu);
            }
            let name = format!("conv2d/{name}/{dtype}{}", if biased { "_biased" } else { "" });
            let case = GraphCase::with_constants(name, Op::Conv2d(conv), operands, &[1, 2]);
            cases.push(case.tolerance(summed(dtype)));
        }
    }
}

fn pools(cases: &mut Vec<GraphCase>) {
    let mut generator = Generator::new(18);
    let paddings = [
        ("valid", Padding2d::Explicit([0; 4])),
        ("same", Padding2d::Same),
        ("padded", Padding2d::Explicit([1, 0, 1, 1])),
    ];
    for (padding_name, padding) in paddings {
        for (average, count_padding) in [(false, false), (true, false), (true, true)] {
            for (kernel, strides) in [([2, 2], [2, 2]), ([3, 2], [1, 2])] {
                for dtype in [DType::F32, DType::F16] {
                    let x = generator.tensor(dtype, &[2, 3, 7, 6], -3.0, -0.5);
                    let kind = match (average, count_padding) {
                        (false, _) => "max",
                        (true, false) => "average",
                        (true, true) => "average_of_all",
                    };
                    if padding == Padding2d::Same && count_padding {
                        continue;
                    }
                    let pool = Pool2d { average, kernel, strides, padding, ceil_mode: false, count_padding };
                    let name = format!("pool2d/{kind}/{padding_name}/{kernel:?}_by_{strides:?}/{dtype}");
                    cases.push(GraphCase::op(name, Op::Pool2d(pool), vec![x]).tolerance(summed(dtype)));
                }
            }
        }
    }
    for average in [false, true] {
        let padding = Padding2d::Explicit([0; 4]);
        let (kernel, strides) = ([3, 3], [2, 2]);
        let pool = Pool2d { average, kernel, strides, padding, ceil_mode: true, count_padding: false };
        let x = generator.tensor(DType::F32, &[1, 2, 6, 8], -1.0, 1.0);
        let name = format!("pool2d/ceil/{}", if average { "average" } else { "max" });
        cases.push(GraphCase::op(name, Op::Pool2d(pool), vec![x]));
    }
}
