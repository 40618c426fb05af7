//! What callers of executables rely on.

mod common;

use std::sync::Arc;

use common::{LENGTH, WIDTH, device, execution, misaligned, one_op, refs, run, tensor, transformer};
use mslite_collective::{
    Collective as Communicator, CollectiveKind, CollectiveOp, Error as Failed, Group, GroupName, Reduction,
};
use mslite_graph_opt::ir::op::{
    Binary, Collective, Conv2d, MatMul, Opaque, Pad, PadMode, Padding2d, Reduce, ReduceKind, Slice, Softmax,
    Unary,
};
use mslite_graph_opt::{Graph, GraphBuilder, Op};
use mslite_runtime::{CompileOptions, ErrorKind, Groups};
use mslite_tensor::{Buffer, DType, Dim, HostBuffer, HostStream, Shape, Stream, Tensor, TensorSpec};

fn shape(batch: usize) -> [usize; 3] {
    [batch, LENGTH, WIDTH]
}

fn output(batch: usize) -> TensorSpec {
    TensorSpec::fixed(DType::F32, &shape(batch))
}

#[test]
fn callers_share_an_executable() {
    let graph = transformer();
    let executable = device(2).compile(&graph, &CompileOptions::default()).unwrap();
    let expect = |batch: usize| {
        let x = tensor(&shape(batch), batch as u64);
        run(&mut *execution(&graph, 2), &[&x], &[output(batch)]).unwrap().remove(0)
    };
    let expected: Vec<Tensor> = (1..=8).map(expect).collect();
    std::thread::scope(|scope| {
        for (batch, expected) in (1..=8).zip(&expected) {
            let executable = &executable;
            scope.spawn(move || {
                let mut execution = executable.instantiate(&Groups::none()).unwrap();
                let x = tensor(&shape(batch), batch as u64);
                for _ in 0..5 {
                    let y = run(&mut *execution, &[&x], &[output(batch)]).unwrap();
                    assert!(y[0] == *expected, "batch {batch}");
                }
            });
        }
    });
}

#[test]
fn extents_change_from_run_to_run() {
    let graph = transformer();
    let mut state = execution(&graph, 1);
    let x = tensor(&shape(5), 3);
    let first = run(&mut *state, &[&x], &[output(5)]).unwrap().remove(0);
    let all = first.to_vec::<f32>().unwrap();
    let per_row = LENGTH * WIDTH;
    for batch in [1, 5, 1, 0, 2] {
        let values = x.to_vec::<f32>().unwrap()[..batch * per_row].to_vec();
        let x = Tensor::from_vec(values, &shape(batch)).unwrap();
        let y = run(&mut *state, &[&x], &[output(batch)]).unwrap().remove(0).to_vec::<f32>().unwrap();
        for (a, b) in y.iter().zip(&all) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
        assert_eq!(y.len(), batch * per_row);
    }
}

#[test]
fn threads_do_not_change_the_result() {
    let graph = transformer();
    let x = tensor(&shape(3), 3);
    let one = run(&mut *execution(&graph, 1), &[&x], &[output(3)]).unwrap().remove(0);
    for threads in [2, 3, 5] {
        let more = run(&mut *execution(&graph, threads), &[&x], &[output(3)]).unwrap().remove(0);
        let pairs = one.as_slice::<f32>().unwrap().iter().zip(more.as_slice::<f32>().unwrap());
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-4));
    }
}

#[test]
fn buffers_that_do_not_fit_are_refused() {
    let spec = TensorSpec::new(DType::F32, Shape::ranked([Dim::symbol("n"), Dim::from(2)]));
    let mut state = execution(&one_op(Op::Unary(Unary::Exp), &[spec]), 1);
    let buffer = |dtype, dims: &[usize]| HostBuffer::zeroed(dtype, dims).unwrap();
    let mut refusal = |inputs: &[HostBuffer], outputs: &[HostBuffer]| {
        let error = state.enqueue(&refs(inputs), &refs(outputs), &HostStream).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        error.to_string()
    };
    let good = || [buffer(DType::F32, &[3, 2])];
    assert!(refusal(&[buffer(DType::F16, &[3, 2])], &good()).contains("\"x0\" is f16[3, 2]"));
    assert!(refusal(&[buffer(DType::F32, &[3])], &good()).contains("f32[n, 2]"));
    assert!(refusal(&[buffer(DType::F32, &[3, 3])], &good()).contains("x0"));
    assert!(
        refusal(&good(), &[buffer(DType::F32, &[2, 2])]).contains("\"y0\" is f32[2, 2], expected f32[3, 2]")
    );
    assert!(refusal(&good(), &[buffer(DType::F64, &[3, 2])]).contains("y0"));
    assert!(refusal(&[], &good()).contains("0 inputs"));
    assert!(refusal(&good(), &[]).contains("0 outputs"));
    let whole = buffer(DType::F32, &[6, 2]);
    let window = |offset| whole.window(DType::F32, &[3, 2], offset).unwrap();
    assert!(refusal(&[window(0)], &[window(8)]).contains("overlaps"));
    state.enqueue(&refs(&[window(0)]), &refs(&[window(24)]), &HostStream).unwrap();
}

/// Extents come from the caller; a tensor without elements may claim enormous ones.
#[test]
fn enormous_empty_tensors_are_harmless() {
    let spec = TensorSpec::new(DType::F32, Shape::ranked(["a", "b", "c"].map(Dim::symbol)));
    let huge = 1usize << 40;
    for op in [
        Op::Unary(Unary::Exp),
        Op::Softmax(Softmax { axis: 1, log: false }),
        Op::Transpose(vec![2, 0, 1]),
        Op::Reduce(Reduce { kind: ReduceKind::Sum, axes: vec![0, 1], keep_dims: true }),
        Op::Pad(Pad { low: vec![0; 3], high: vec![0; 3], mode: PadMode::Edge }),
    ] {
        let mut state = execution(&one_op(op.clone(), std::slice::from_ref(&spec)), 1);
        for dims in [[huge, huge, 0], [huge, 0, 1], [0, 5, huge]] {
            let x = HostBuffer::zeroed(DType::F32, &dims).unwrap();
            let reduced = matches!(op, Op::Reduce(_));
            let result = match op {
                Op::Reduce(_) => [1, 1, dims[2]],
                Op::Transpose(_) => [dims[2], dims[0], dims[1]],
                _ => dims,
            };
            if reduced && dims[2] > 1 {
                continue;
            }
            let y = HostBuffer::zeroed(DType::F32, &result).unwrap();
            let outcome = state.enqueue(&[&x], &[&y], &HostStream);
            assert!(outcome.is_ok() || outcome.is_err_and(|e| e.kind() == ErrorKind::OutOfMemory));
        }
    }
}

#[test]
fn inputs_need_no_alignment() {
    let x = Tensor::from_vec(vec![1.0f32, -2.0, 3.0], &[3]).unwrap();
    let mut state = execution(&one_op(Op::Unary(Unary::Neg), &[x.spec()]), 1);
    let y = run(&mut *state, &[&misaligned(&x)], &[x.spec()]).unwrap();
    assert_eq!(y[0].as_slice::<f32>().unwrap(), [-1.0, 2.0, -3.0]);
}

/// Outputs that are inputs, constants, parts of others, and the same value twice.
#[test]
fn outputs_may_be_anything() {
    let mut b = GraphBuilder::new("g");
    let origin = Arc::from("o");
    let x = b.input("x", TensorSpec::fixed(DType::F32, &[2, 2]));
    let c = b.constant("c", misaligned(&Tensor::from_vec(vec![7.0f32, 8.0], &[2]).unwrap()));
    let sum = b.push1(Op::Binary(Binary::Add), &[x, c], &origin).unwrap();
    let flat = b.push1(Op::Reshape(vec![Dim::from(4)]), &[sum], &origin).unwrap();
    let slice = Slice {
        starts: vec![Dim::from(1), Dim::from(0)],
        sizes: vec![Dim::from(1), Dim::from(2)],
        steps: vec![1, 1],
    };
    let row = b.push1(Op::Slice(slice), &[sum], &origin).unwrap();
    let negated = b.push1(Op::Unary(Unary::Neg), &[row], &origin).unwrap();
    for (name, value) in [
        ("flat", flat),
        ("sum", sum),
        ("x", x),
        ("c", c),
        ("row", row),
        ("negated", negated),
        ("again", negated),
    ] {
        b.output(name, value);
    }
    let graph = b.finish().unwrap();
    let specs: Vec<TensorSpec> = graph.outputs().iter().map(|p| graph.spec(p.value).clone()).collect();
    let x = Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 4.0], &[2, 2]).unwrap();
    let results = run(&mut *execution(&graph, 1), &[&x], &specs).unwrap();
    let values: Vec<Vec<f32>> = results.iter().map(|t| t.to_vec().unwrap()).collect();
    let expected: [&[f32]; 7] = [
        &[8.0, 10.0, 10.0, 12.0],
        &[8.0, 10.0, 10.0, 12.0],
        &[1.0, 2.0, 3.0, 4.0],
        &[7.0, 8.0],
        &[10.0, 12.0],
        &[-10.0, -12.0],
        &[-10.0, -12.0],
    ];
    assert_eq!(values, expected);
}

#[test]
fn constants_need_no_alignment() {
    let mut builder = GraphBuilder::new("g");
    let x = builder.input("x", TensorSpec::fixed(DType::F32, &[4]));
    let constant = builder.constant("c", misaligned(&tensor(&[2, 2], 5)));
    let flat = builder.push1(Op::Reshape(vec![Dim::from(4)]), &[constant], &"flat".into()).unwrap();
    let sum = builder.push1(Op::Binary(Binary::Add), &[x, flat], &"sum".into()).unwrap();
    builder.output("y", sum);
    let graph = builder.finish().unwrap();
    let zeros = Tensor::zeros(DType::F32, &[4]).unwrap();
    let y = run(&mut *execution(&graph, 1), &[&zeros], &[zeros.spec()]).unwrap();
    assert_eq!(y[0].bytes(), tensor(&[2, 2], 5).bytes());
}

#[test]
fn refusals_name_the_operation() {
    let opaque = Opaque {
        primitive: "Frobnicate".into(),
        attributes: Default::default(),
        results: vec![TensorSpec::fixed(DType::F32, &[1])],
        effect: false,
    };
    let spec = TensorSpec::fixed(DType::F32, &[1]);
    let complex = TensorSpec::fixed(DType::C64, &[1]);
    let ints = TensorSpec::fixed(DType::I32, &[2, 2]);
    let activated = MatMul { activation: Some(Unary::Relu), ..MatMul::default() };
    let grouped =
        Conv2d { strides: [1, 1], padding: Padding2d::Same, dilations: [1, 1], groups: 2, activation: None };
    let [image, weight] = [[1, 4, 3, 3], [3, 2, 1, 1]].map(|dims| TensorSpec::fixed(DType::F32, &dims));
    for (op, operands, words) in [
        (Op::MatMul(activated), vec![ints.clone(), ints], vec!["matmul", "relu", "i32"]),
        (Op::Conv2d(grouped), vec![image, weight], vec!["3 output channels", "2 groups"]),
        (Op::Opaque(opaque), vec![spec.clone()], vec!["Frobnicate"]),
        (Op::Binary(Binary::Maximum), vec![complex.clone(), complex], vec!["maximum", "c64"]),
    ] {
        let graph = one_op(op, &operands);
        let claim = device(1).claim(&graph);
        assert!(claim.regions.is_empty());
        assert!(words.iter().all(|word| claim.refused[0].1.contains(word)), "{:?}", claim.refused);
        let error = device(1).compile(&graph, &CompileOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

/// A communicator of one rank that does nothing, or fails.
#[derive(Debug)]
struct Mute {
    group: Group,
    failure: Option<Failed>,
}

impl Communicator for Mute {
    fn group(&self) -> &Group {
        &self.group
    }

    fn supports(&self, _op: &CollectiveOp) -> bool {
        true
    }

    fn enqueue(
        &self,
        op: &CollectiveOp,
        send: &dyn Buffer,
        recv: &dyn Buffer,
        _stream: &dyn Stream,
    ) -> Result<(), Failed> {
        assert_eq!(op.kind, CollectiveKind::AllReduce(Reduction::Sum));
        assert_eq!((send.dtype(), send.dims()), (recv.dtype(), recv.dims()));
        self.failure.clone().map_or(Ok(()), Err)
    }

    fn abort(&self) {}
}

fn all_reduce() -> Graph {
    let op = CollectiveOp::new(CollectiveKind::AllReduce(Reduction::Sum), "nccl_world_group");
    let op = Op::Collective(Collective { op, size: Some(1), ranks: None, receives: None });
    one_op(op, &[TensorSpec::fixed(DType::F32, &[2])])
}

#[test]
fn collectives_need_their_group_and_pass_failures_on() {
    let x = tensor(&[2], 1);
    let executable = device(1).compile(&all_reduce(), &CompileOptions::default()).unwrap();
    let error = executable.instantiate(&Groups::none()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("nccl_world_group"), "{error}");
    let lost = Failed::PeerLost { rank: 3, reason: "it died".to_owned(), operation: "all_reduce".to_owned() };
    for (failure, kind) in [
        (None, None),
        (Some(lost), Some(ErrorKind::PeerLost)),
        (Some(Failed::Aborted { reason: String::new() }), Some(ErrorKind::PeerLost)),
        (
            Some(Failed::Mismatch { ranks: [0, 1], operations: [String::new(), String::new()] }),
            Some(ErrorKind::PlanMismatch),
        ),
    ] {
        let group = Group { name: GroupName::world(), ranks: vec![0], rank: 0 };
        let mut groups = Groups::none();
        groups.insert(GroupName::world(), Arc::new(Mute { group, failure }));
        let mut state = executable.instantiate(&groups).unwrap();
        let outcome = run(&mut *state, &[&x], &[x.spec()]);
        assert_eq!(outcome.as_ref().err().map(|e| e.kind()), kind);
        if let Err(error) = outcome {
            assert!(error.to_string().contains("all_reduce(sum)") && error.to_string().contains("test/op"));
        }
    }
}
