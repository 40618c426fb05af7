use mslite_graph_opt::Op;
use mslite_graph_opt::ir::op::{Binary, Gather, Pad, PadMode, ScatterKind, Slice, TopK, Triangle};
use mslite_tensor::{DType, Dim, Tensor};

use super::run::GraphCase;
use crate::generate::{Generator, whole};

const TYPES: [DType; 9] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::F64,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::Bool,
    DType::C64,
];

pub(super) fn cases() -> Vec<GraphCase> {
    let mut cases = Vec::new();
    views(&mut cases);
    slices(&mut cases);
    pads(&mut cases);
    gathers(&mut cases);
    scatters(&mut cases);
    others(&mut cases);
    cases.into_iter().map(GraphCase::exact).collect()
}

fn any(dtype: DType, dims: &[usize]) -> Tensor {
    Generator::new(21 + dims.len() as u64).tensor(dtype, dims, 0.0, 100.0)
}

fn ints(values: &[i32], dims: &[usize]) -> Tensor {
    Tensor::from_vec(values.to_vec(), dims).expect("the case's own shape")
}

fn extents(dims: &[usize]) -> Vec<Dim> {
    dims.iter().map(|&n| Dim::from(n)).collect()
}

/// Operations that only move whole tensors, for every type.
fn views(cases: &mut Vec<GraphCase>) {
    for dtype in TYPES {
        let x = any(dtype, &[2, 3, 5]);
        let mut push = |name: &str, op: Op, operands: Vec<Tensor>| {
            cases.push(GraphCase::op(format!("{name}/{dtype}"), op, operands));
        };
        push("reshape", Op::Reshape(extents(&[5, 6])), vec![x.clone()]);
        push("transpose", Op::Transpose(vec![2, 0, 1]), vec![x.clone()]);
        push("broadcast_to", Op::Broadcast(extents(&[4, 2, 3, 5])), vec![x.clone()]);
        push("concat", Op::Concat { axis: 1 }, vec![x.clone(), any(dtype, &[2, 1, 5]), x.clone()]);
        let slice = Slice { starts: extents(&[0, 1, 4]), sizes: extents(&[2, 2, 3]), steps: vec![1, 1, -2] };
        push("slice", Op::Slice(slice), vec![x]);
    }
    let mut push =
        |name: String, op: Op, operands: Vec<Tensor>| cases.push(GraphCase::op(name, op, operands));
    for (from, to) in [(&[][..], &[1, 1][..]), (&[1], &[]), (&[0, 3], &[5, 0]), (&[4, 6], &[2, 2, 2, 3])] {
        push(format!("reshape/{from:?}_to_{to:?}"), Op::Reshape(extents(to)), vec![any(DType::F32, from)]);
    }
    for perm in [&[][..], &[0], &[1, 0], &[0, 2, 1], &[0, 2, 1, 3], &[3, 2, 1, 0], &[4, 0, 3, 1, 2]] {
        let dims = &[3, 4, 2, 5, 1][..perm.len()];
        push(format!("transpose/{perm:?}"), Op::Transpose(perm.to_vec()), vec![any(DType::F32, dims)]);
    }
    push("transpose/empty".to_owned(), Op::Transpose(vec![1, 0]), vec![any(DType::F32, &[0, 3])]);
    for (from, to) in [(&[][..], &[3][..]), (&[3, 1], &[3, 4]), (&[1], &[0]), (&[2, 1, 3], &[5, 2, 4, 3])] {
        push(
            format!("broadcast_to/{from:?}_{to:?}"),
            Op::Broadcast(extents(to)),
            vec![any(DType::F32, from)],
        );
    }
    for axis in [0, 1, 2] {
        let part = |extent: usize| {
            let mut dims = [2, 3, 4];
            dims[axis] = extent;
            any(DType::F32, &dims)
        };
        push(format!("concat/axis{axis}"), Op::Concat { axis }, vec![part(1), part(4), part(0), part(2)]);
    }
    push("concat/one".to_owned(), Op::Concat { axis: 0 }, vec![any(DType::F32, &[2])]);
}

fn slices(cases: &mut Vec<GraphCase>) {
    let kinds = [
        ("whole", [0, 0], [5, 7], [1, 1]),
        ("rows", [1, 0], [3, 7], [1, 1]),
        ("columns", [0, 2], [5, 4], [1, 1]),
        ("strided", [1, 0], [2, 3], [2, 3]),
        ("reversed", [4, 6], [5, 7], [-1, -1]),
        ("empty", [0, 3], [5, 0], [1, 1]),
    ];
    for (name, starts, sizes, steps) in kinds {
        let slice = Slice { starts: extents(&starts), sizes: extents(&sizes), steps: steps.to_vec() };
        cases.push(GraphCase::op(format!("slice/{name}"), Op::Slice(slice), vec![any(DType::F32, &[5, 7])]));
    }
}

fn pads(cases: &mut Vec<GraphCase>) {
    let modes = [
        ("constant", PadMode::Constant),
        ("reflect", PadMode::Reflect),
        ("symmetric", PadMode::Symmetric),
        ("edge", PadMode::Edge),
    ];
    for (name, mode) in modes {
        for dtype in [DType::F32, DType::F16, DType::I32] {
            let mut operands = vec![any(dtype, &[3, 4])];
            if mode == PadMode::Constant {
                operands.push(any(dtype, &[]));
            }
            let pad = Pad { low: vec![1, 0], high: vec![2, 3], mode };
            cases.push(GraphCase::op(format!("pad/{name}/{dtype}"), Op::Pad(pad), operands));
        }
    }
    let pad = Pad { low: vec![-1, 2], high: vec![0, -3], mode: PadMode::Constant };
    cases.push(GraphCase::op("pad/cuts", Op::Pad(pad), vec![any(DType::F32, &[3, 4]), any(DType::F32, &[])]));
}

fn gathers(cases: &mut Vec<GraphCase>) {
    for dtype in TYPES {
        let gather = Op::Gather(Gather { axis: 0, batch_dims: 0 });
        let at = ints(&[3, 0, -1, 3], &[2, 2]);
        cases.push(GraphCase::op(format!("gather/{dtype}"), gather, vec![any(dtype, &[4, 3]), at]));
    }
    let mut push = |name: &str, op: Op, operands: Vec<Tensor>| {
        cases.push(GraphCase::op(name.to_owned(), op, operands));
    };
    let gather = |axis, batch_dims| Op::Gather(Gather { axis, batch_dims });
    push("gather/axis1", gather(1, 0), vec![any(DType::F32, &[2, 5, 3]), ints(&[4, 1, 1], &[3])]);
    push("gather/last_axis", gather(2, 0), vec![any(DType::F32, &[2, 5, 3]), ints(&[2, 0], &[2, 1])]);
    push("gather/scalar", gather(0, 0), vec![any(DType::F32, &[4, 3]), ints(&[2], &[])]);
    push("gather/none", gather(0, 0), vec![any(DType::F32, &[4, 3]), ints(&[], &[0])]);
    push("gather/batched", gather(1, 1), vec![any(DType::F32, &[2, 4, 3]), ints(&[0, 3, 2, 2], &[2, 2])]);
    let wide = Tensor::from_vec(vec![3i64, 0, -4], &[3]).expect("3 values");
    push("gather/i64", gather(0, 0), vec![any(DType::F32, &[4, 3]), wide]);
    for axis in [0, 1] {
        let at = ints(&[1, 0, -1, 1, 0, 1], &[2, 3]);
        push(
            &format!("gather_elements/axis{axis}"),
            Op::GatherElements { axis },
            vec![any(DType::F32, &[2, 3]), at],
        );
    }
    push("gather_nd/elements", Op::GatherNd, vec![any(DType::F32, &[3, 4]), ints(&[2, 3, 0, 1], &[2, 2])]);
    push("gather_nd/rows", Op::GatherNd, vec![any(DType::I32, &[3, 4]), ints(&[2, 0, 2], &[3, 1])]);
}

fn scatters(cases: &mut Vec<GraphCase>) {
    let kinds = [
        ("update", ScatterKind::Update),
        ("add", ScatterKind::Add),
        ("mul", ScatterKind::Mul),
        ("max", ScatterKind::Max),
        ("min", ScatterKind::Min),
    ];
    for (name, kind) in kinds {
        for dtype in [DType::F32, DType::I32, DType::F16] {
            let mut push = |shape: &str, at: Tensor, updates: &[usize]| {
                let updates = whole(dtype, updates, 31);
                let x = whole(dtype, &[4, 3], 32);
                let name = format!("scatter_nd/{name}/{shape}/{dtype}");
                cases.push(GraphCase::op(name, Op::ScatterNd(kind), vec![x, at, updates]));
            };
            push("rows", ints(&[2, 0], &[2, 1]), &[2, 3]);
            push("elements", ints(&[3, 2, 0, 0, 1, 1], &[3, 2]), &[3]);
            push("repeated", ints(&[1, 1, 1], &[3, 1]), &[3, 3]);
        }
    }
}

fn others(cases: &mut Vec<GraphCase>) {
    for axis in [0, 1, 2] {
        let at = ints(&[0, 3, 1, 7, -1, 2], &[2, 3]);
        let one_hot = Op::OneHot { depth: Dim::from(4), axis };
        for dtype in [DType::F32, DType::I32] {
            let name = format!("one_hot/axis{axis}/{dtype}");
            let (on, off) = (any(dtype, &[]), Generator::new(1).tensor(dtype, &[], 0.0, 3.0));
            cases.push(GraphCase::op(name, one_hot.clone(), vec![at.clone(), on, off]));
        }
    }
    for largest in [true, false] {
        for (dims, axis, k) in [(&[3, 8][..], 1, 3), (&[5, 2], 0, 5), (&[6], 0, 0)] {
            for dtype in [DType::F32, DType::I32, DType::F16] {
                let top = TopK { k: Dim::from(k as i64), axis, largest };
                let x = whole(dtype, dims, 41);
                let name = if largest { "largest" } else { "smallest" };
                let name = format!("top_k/{name}/{k}_of_{dims:?}/{dtype}");
                cases.push(GraphCase::op(name, Op::TopK(top), vec![x]));
            }
        }
    }
    for upper in [false, true] {
        for diagonal in [-2, 0, 1, 9] {
            let name = format!("triangle/{}_{diagonal}", if upper { "upper" } else { "lower" });
            let op = Op::Triangle(Triangle { upper, diagonal });
            cases.push(GraphCase::op(name, op, vec![any(DType::F32, &[2, 4, 5])]));
        }
    }
    cases.push(extents_case());
}

/// A vector of extents, added to an input so that the graph has one.
fn extents_case() -> GraphCase {
    let mut builder = mslite_graph_opt::GraphBuilder::new("case");
    let x = any(DType::I64, &[3]);
    let input = builder.input("input0", x.spec());
    let op = Op::Extents(extents(&[4, 0, 7]));
    let shape = builder.push1(op, &[], &"case/extents".into()).expect("it takes nothing");
    let sum = builder.push1(Op::Binary(Binary::Add), &[input, shape], &"case/add".into());
    let graph = super::run::finish(builder, &[sum.expect("both are vectors of 3")]);
    GraphCase { name: "extents".to_owned(), graph, calls: vec![vec![x]], tolerance: crate::Tolerance::EXACT }
}
