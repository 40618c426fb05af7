use mslite_graph_opt::Op;
use mslite_graph_opt::ir::op::{Binary, Unary};
use mslite_tensor::{DType, Tensor, bf16, f16};

use super::run::GraphCase;
use crate::generate::Generator;
use crate::reference::array::{Array, Scalar};

pub(super) const FLOATS: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];

pub(super) fn cases() -> Vec<GraphCase> {
    let mut cases = Vec::new();
    unary(&mut cases);
    special_values(&mut cases);
    binary(&mut cases);
    broadcasting(&mut cases);
    select(&mut cases);
    casts(&mut cases);
    cases
}

fn all_unary() -> Vec<Unary> {
    let with_parameters =
        [Unary::Elu { alpha: 0.75 }, Unary::LeakyRelu { alpha: 0.2 }, Unary::Clip { low: -0.5, high: 1.25 }];
    let for_reals = Unary::PLAIN.iter().copied().filter(|f| *f != Unary::SwapParts);
    for_reals.chain(with_parameters).collect()
}

fn unary(cases: &mut Vec<GraphCase>) {
    let mut generator = Generator::new(1);
    for f in all_unary() {
        for dtype in FLOATS {
            if f != Unary::Not {
                let (low, high) = domain(f);
                let x = generator.tensor(dtype, &[3, 7, 5], low, high);
                cases.push(GraphCase::op(format!("unary/{}/{dtype}", f.name()), Op::Unary(f), vec![x]));
            }
        }
        for dtype in [DType::I32, DType::I64, DType::I8, DType::U8] {
            if is_for_ints(f) {
                let low = if dtype.is_signed_int() { -9.0 } else { 0.0 };
                let x = generator.tensor(dtype, &[37], low, 10.0);
                cases.push(GraphCase::op(format!("unary/{}/{dtype}", f.name()), Op::Unary(f), vec![x]));
            }
        }
    }
    let x = generator.tensor(DType::Bool, &[2, 9], 0.0, 1.0);
    cases.push(GraphCase::op("unary/not/bool", Op::Unary(Unary::Not), vec![x]));
    for dims in [&[][..], &[0], &[2, 0, 3], &[1], &[1, 1, 1, 1, 1, 1], &[1031]] {
        let x = generator.tensor(DType::F32, dims, -2.0, 2.0);
        cases.push(GraphCase::op(format!("unary/shape/{dims:?}"), Op::Unary(Unary::Relu), vec![x]));
    }
}

/// Where a function is defined and smooth enough for 16 bits.
fn domain(f: Unary) -> (f64, f64) {
    match f {
        Unary::Log | Unary::Sqrt | Unary::Rsqrt | Unary::Reciprocal => (0.25, 4.0),
        Unary::Log1p => (-0.5, 4.0),
        Unary::Asin | Unary::Acos => (-0.875, 0.875),
        Unary::Tan => (-1.25, 1.25),
        Unary::Relu6 | Unary::HardSwish | Unary::HardSigmoid => (-8.0, 8.0),
        _ => (-3.0, 3.0),
    }
}

fn is_for_ints(f: Unary) -> bool {
    matches!(f, Unary::Abs | Unary::Neg | Unary::Sign | Unary::Square | Unary::Relu | Unary::Not)
}

/// Values at which implementations go wrong.
fn special_values(cases: &mut Vec<GraphCase>) {
    let case = |name: &str, f: Unary, values: &[f32]| {
        let x = Tensor::from_vec(values.to_vec(), &[values.len()]).expect("one axis");
        GraphCase::op(format!("unary/{name}"), Op::Unary(f), vec![x])
    };
    let limits = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, f32::MAX, f32::MIN_POSITIVE, 1e-40];
    for f in [Unary::IsNan, Unary::IsInf, Unary::IsFinite] {
        cases.push(case(&format!("{}/limits", f.name()), f, &limits));
    }
    let halves = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 8_388_609.0, -8_388_607.5];
    cases.push(case("round/half_to_even", Unary::Round, &halves));
    let far = [-1000.0, -100.0, -30.0, 30.0, 100.0, 1000.0];
    for f in [Unary::Sigmoid, Unary::Tanh, Unary::Erf, Unary::Gelu, Unary::GeluTanh, Unary::Silu] {
        cases.push(case(&format!("{}/saturates", f.name()), f, &far));
    }
    for f in [Unary::Softplus, Unary::Mish, Unary::HardSwish, Unary::Expm1, Unary::Elu { alpha: 1.0 }] {
        cases.push(case(&format!("{}/saturates", f.name()), f, &far[..4]));
    }
    let near = [-1e-6, -1e-4, 1e-7, 1e-5, 1e-3];
    for f in [Unary::Expm1, Unary::Log1p] {
        let x = case(&format!("{}/near_zero", f.name()), f, &near);
        cases.push(x.tolerance(crate::Tolerance { rtol: 1e-5, atol: 0.0 }));
    }
}

fn binary(cases: &mut Vec<GraphCase>) {
    let mut generator = Generator::new(2);
    let ints = [DType::I32, DType::I64, DType::I16, DType::I8, DType::U8, DType::U16, DType::U32, DType::U64];
    for &f in Binary::PLAIN {
        for dtype in FLOATS.into_iter().chain(ints).chain([DType::Bool]) {
            if !is_binary_for(f, dtype) {
                continue;
            }
            let dims = [3, 11, 4];
            let operands = operands(f, dtype, &dims, &mut generator);
            cases.push(GraphCase::op(format!("binary/{}/{dtype}", f.name()), Op::Binary(f), operands));
        }
    }
    for f in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
        let operands = (0..2).map(|_| generator.tensor(DType::C64, &[3, 4], 0.5, 2.0)).collect();
        cases.push(GraphCase::op(format!("binary/{}/c64", f.name()), Op::Binary(f), operands));
    }
    let values = |v: &[f32]| Tensor::from_vec(v.to_vec(), &[v.len()]).expect("one axis");
    for f in [Binary::Equal, Binary::NotEqual, Binary::Less, Binary::LessEqual, Binary::Greater] {
        let x = values(&[f32::NAN, 1.0, f32::NAN, f32::INFINITY, 0.0, 2.0]);
        let y = values(&[f32::NAN, f32::NAN, 1.0, f32::INFINITY, -0.0, 1.0]);
        cases.push(GraphCase::op(format!("binary/{}/nan", f.name()), Op::Binary(f), vec![x, y]));
    }
}

fn is_binary_for(f: Binary, dtype: DType) -> bool {
    let is_bitwise = matches!(f, Binary::And | Binary::Or | Binary::Xor);
    match dtype {
        DType::Bool => is_bitwise || matches!(f, Binary::Equal | Binary::NotEqual),
        d if d.is_float() => !is_bitwise,
        _ => !matches!(f, Binary::Div | Binary::Atan2),
    }
}

fn operands(f: Binary, dtype: DType, dims: &[usize], generator: &mut Generator) -> Vec<Tensor> {
    let divides =
        matches!(f, Binary::Div | Binary::FloorDiv | Binary::TruncDiv | Binary::FloorMod | Binary::TruncMod);
    let signed = !dtype.is_unsigned_int();
    let (x, y) = match f {
        Binary::Pow => ((if dtype.is_float() { 0.25 } else { 1.0 }, 4.0), (0.0, 3.0)),
        // The smaller of two unsigned numbers first would wrap; that is another case's business.
        Binary::Sub | Binary::SquaredDifference if !signed => ((10.0, 16.0), (0.0, 10.0)),
        _ if divides && dtype.is_float() => ((-8.0, 8.0), (0.75, 2.5)),
        _ if dtype.is_float() => ((-3.0, 3.0), (-3.0, 3.0)),
        _ => ((if signed { -10.0 } else { 0.0 }, 11.0), (if signed { -7.0 } else { 0.0 }, 8.0)),
    };
    let x = generator.tensor(dtype, dims, x.0, x.1);
    let y = generator.tensor(dtype, dims, y.0, y.1);
    if divides && dtype.is_int() { vec![x, without_zeros(&y)] } else { vec![x, y] }
}

fn without_zeros(x: &Tensor) -> Tensor {
    let mut array = Array::from_tensor(x).expect("generated");
    for value in &mut array.values {
        if *value == Scalar::Int(0) {
            *value = Scalar::Int(3);
        }
    }
    array.to_tensor()
}

fn broadcasting(cases: &mut Vec<GraphCase>) {
    let mut generator = Generator::new(3);
    let shapes: [(&[usize], &[usize]); 12] = [
        (&[], &[]),
        (&[], &[5]),
        (&[4, 3], &[]),
        (&[4, 3], &[3]),
        (&[4, 1], &[1, 7]),
        (&[2, 1, 5], &[3, 1]),
        (&[1], &[2, 2]),
        (&[2, 3, 4, 5], &[3, 1, 5]),
        (&[0], &[1]),
        (&[2, 0, 3], &[1, 3]),
        (&[1, 1, 1], &[1]),
        (&[3, 1, 2, 1, 2, 3], &[2, 1, 4, 1, 3]),
    ];
    for (x, y) in shapes {
        for (f, dtype) in [(Binary::Add, DType::F32), (Binary::Sub, DType::F16), (Binary::Less, DType::I32)] {
            let operands = vec![generator.tensor(dtype, x, -3.0, 3.0), generator.tensor(dtype, y, -3.0, 3.0)];
            let name = format!("broadcast/{}/{x:?}_{y:?}", f.name());
            cases.push(GraphCase::op(name, Op::Binary(f), operands));
        }
    }
    let operands =
        vec![generator.tensor(DType::F32, &[5, 6], -3.0, 3.0), generator.tensor(DType::F32, &[6], -3.0, 3.0)];
    cases.push(GraphCase::with_constants("broadcast/constant", Op::Binary(Binary::Mul), operands, &[1]));
}

fn select(cases: &mut Vec<GraphCase>) {
    let mut generator = Generator::new(4);
    for dtype in [DType::F32, DType::F16, DType::I32, DType::I64, DType::Bool] {
        let condition = generator.tensor(DType::Bool, &[4, 5], 0.0, 1.0);
        let x = generator.tensor(dtype, &[4, 5], 0.0, 9.0);
        let y = generator.tensor(dtype, &[4, 5], 0.0, 9.0);
        cases.push(GraphCase::op(format!("select/{dtype}"), Op::Select, vec![condition, x, y]).exact());
    }
    let shapes: [[&[usize]; 3]; 3] =
        [[&[3, 1], &[4], &[]], [&[], &[2, 3], &[3]], [&[2, 1, 1], &[1, 3, 1], &[4]]];
    for [condition, x, y] in shapes {
        let name = format!("select/broadcast/{condition:?}_{x:?}_{y:?}");
        let operands = vec![
            generator.tensor(DType::Bool, condition, 0.0, 1.0),
            generator.tensor(DType::F32, x, -1.0, 1.0),
            generator.tensor(DType::F32, y, -1.0, 1.0),
        ];
        cases.push(GraphCase::op(name, Op::Select, operands).exact());
    }
    let condition = Tensor::from_vec(vec![true, false], &[2]).expect("one axis");
    let chosen = Tensor::from_vec(vec![1.0f32, f32::NAN], &[2]).expect("one axis");
    let other = Tensor::from_vec(vec![f32::NAN, 2.0], &[2]).expect("one axis");
    cases.push(GraphCase::op("select/ignores_nan", Op::Select, vec![condition, chosen, other]).exact());
}

fn casts(cases: &mut Vec<GraphCase>) {
    let mut generator = Generator::new(5);
    let types = [
        DType::Bool,
        DType::I8,
        DType::I32,
        DType::I64,
        DType::U8,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
    ];
    for from in types {
        for to in types {
            let low = if from.is_unsigned_int() || to.is_unsigned_int() { 0.0 } else { -9.0 };
            let x = generator.tensor(from, &[5, 9], low, 9.0);
            cases.push(GraphCase::op(format!("cast/{from}_to_{to}"), Op::Cast(to), vec![x]).exact());
        }
    }
    let mut special = |name: &str, to: DType, x: Tensor| {
        cases.push(GraphCase::op(format!("cast/{name}"), Op::Cast(to), vec![x]).exact());
    };
    let vector = |values: Vec<f32>| Tensor::from_vec(values, &[4]).expect("4 values");
    special("truncates", DType::I32, vector(vec![-1.9, -0.5, 0.99, 2.5]));
    special("to_bool", DType::Bool, vector(vec![0.0, -0.0, 1e-30, f32::NAN]));
    special("rounds_to_f16", DType::F16, vector(vec![1.000_488_3, 65519.0, 65520.0, 5.96e-8]));
    special("rounds_to_bf16", DType::BF16, vector(vec![1.003_906_3, 1.011_718_8, f32::NAN, f32::INFINITY]));
    special("wraps", DType::I8, Tensor::from_vec(vec![127i32, 128, -129, 1000], &[4]).expect("4 values"));
    let halves = vec![f16::MAX, f16::MIN_POSITIVE_SUBNORMAL, f16::NAN, f16::NEG_INFINITY];
    special("from_f16", DType::F32, Tensor::from_vec(halves, &[4]).expect("4 values"));
    let brains = vec![bf16::MAX, bf16::MIN_POSITIVE_SUBNORMAL, bf16::NAN, bf16::NEG_INFINITY];
    special("from_bf16", DType::F32, Tensor::from_vec(brains, &[4]).expect("4 values"));
}
