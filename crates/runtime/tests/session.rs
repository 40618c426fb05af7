//! Sessions over small devices that interpret `add`, `mul` and `relu` of f32 vectors.

use std::sync::Arc;

use mslite_graph_opt::ir::op::{Binary, Op, Unary};
use mslite_graph_opt::{Graph, GraphBuilder, ValueId};
use mslite_runtime::memory::MemoryUsage;
use mslite_runtime::{
    Capability, Claim, CompileOptions, Device, ErrorKind, Executable, Execution, Fallback, Groups,
    NamedDevice, Result, Session, SessionOptions, Signature,
};
use mslite_tensor::{Buffer, DType, Dim, HostStream, Shape, Stream, Tensor, TensorSpec};

/// Takes the operations whose names are in the list.
#[derive(Debug)]
struct Toy {
    ops: &'static [&'static str],
    capability: Capability,
}

#[derive(Debug)]
struct Compiled(Arc<Graph>, Signature);

#[derive(Debug)]
struct Running(Arc<Graph>);

impl Device for Toy {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    fn claim(&self, graph: &Graph) -> Claim {
        Claim::of_nodes(graph, |id| {
            let name = graph.node(id).op.name();
            (!self.ops.contains(&name)).then(|| format!("{name} is not in {:?}", self.ops))
        })
    }

    fn compile(&self, region: &Graph, _: &CompileOptions) -> Result<Arc<dyn Executable>> {
        Ok(Arc::new(Compiled(Arc::new(region.clone()), Signature::of(region))))
    }

    fn load(&self, _: &[u8]) -> Result<Arc<dyn Executable>> {
        unreachable!("not serialisable")
    }

    fn allocate(&self, _: &TensorSpec) -> Result<Arc<dyn Buffer>> {
        unreachable!("sessions of host devices allocate themselves")
    }

    fn stream(&self) -> Result<Arc<dyn Stream>> {
        Ok(Arc::new(HostStream))
    }
}

impl Executable for Compiled {
    fn signature(&self) -> &Signature {
        &self.1
    }

    fn instantiate(&self, _: &Groups) -> Result<Box<dyn Execution>> {
        Ok(Box::new(Running(self.0.clone())))
    }

    fn serialize(&self) -> Result<Vec<u8>> {
        unreachable!("not serialisable")
    }
}

#[allow(clippy::mut_from_ref, reason = "a buffer is memory that streams protect, not borrows")]
#[allow(unsafe_code, reason = "a test device reads and writes host buffers")]
fn floats(buffer: &dyn Buffer) -> &mut [f32] {
    let span = buffer.host().unwrap();
    // SAFETY: sessions hand out valid spans of f32 and touch them from one thread at a time.
    unsafe { std::slice::from_raw_parts_mut(span.ptr.as_ptr().cast(), span.len / 4) }
}

impl Execution for Running {
    fn enqueue(&mut self, inputs: &[&dyn Buffer], outputs: &[&dyn Buffer], _: &dyn Stream) -> Result<()> {
        let graph = &self.0;
        let mut values: Vec<Vec<f32>> = vec![Vec::new(); graph.values().len()];
        for (id, _) in graph.values() {
            if let Some(constant) = graph.constant(id) {
                values[id.index()] = constant.tensor.to_vec().unwrap();
            }
        }
        for (port, input) in graph.inputs().iter().zip(inputs) {
            values[port.value.index()] = floats(*input).to_vec();
        }
        for (_, node) in graph.nodes() {
            let operand = |i: usize| values[node.operands[i].index()].iter().copied();
            let result: Vec<f32> = match &node.op {
                Op::Unary(Unary::Relu) => operand(0).map(|x| x.max(0.0)).collect(),
                Op::Binary(Binary::Add) => operand(0).zip(operand(1)).map(|(x, y)| x + y).collect(),
                Op::Binary(Binary::Mul) => operand(0).zip(operand(1)).map(|(x, y)| x * y).collect(),
                other => unreachable!("{} was not claimed", other.name()),
            };
            values[node.results[0].index()] = result;
        }
        for (port, output) in graph.outputs().iter().zip(outputs) {
            floats(*output).copy_from_slice(&values[port.value.index()]);
        }
        Ok(())
    }

    fn output(&self, _index: usize) -> Option<&dyn Buffer> {
        None
    }

    fn memory(&self) -> MemoryUsage {
        MemoryUsage::default()
    }
}

fn device(name: &str, ops: &'static [&'static str]) -> NamedDevice {
    let capability = Capability::host(&[DType::F32]);
    NamedDevice { name: name.to_owned(), device: Arc::new(Toy { ops, capability }) }
}

fn builder(dims: &[Dim]) -> (GraphBuilder, ValueId) {
    let mut builder = GraphBuilder::new("g");
    let x = builder.input("x", TensorSpec::new(DType::F32, Shape::ranked(dims.to_vec())));
    (builder, x)
}

fn vector(values: &[f32]) -> Tensor {
    Tensor::from_vec(values.to_vec(), &[values.len()]).unwrap()
}

fn add(builder: &mut GraphBuilder, x: ValueId, y: ValueId) -> ValueId {
    builder.push1(Op::Binary(Binary::Add), &[x, y], &"add".into()).unwrap()
}

fn relu(builder: &mut GraphBuilder, x: ValueId) -> ValueId {
    builder.push1(Op::Unary(Unary::Relu), &[x], &"relu".into()).unwrap()
}

const ALL: &[&str] = &["add", "mul", "relu"];

/// x -> (x, c, relu(x + c), relu(x + c)): outputs that are an input, a constant, and one value twice.
fn awkward_outputs() -> Graph {
    let (mut b, x) = builder(&[Dim::from(2)]);
    let c = b.constant("c", vector(&[1.0, -5.0]));
    let sum = add(&mut b, x, c);
    let y = relu(&mut b, sum);
    for (name, value) in [("x", x), ("c", c), ("y", y), ("again", y)] {
        b.output(name, value);
    }
    b.finish().unwrap()
}

#[test]
fn outputs_may_be_inputs_constants_and_repeated() {
    let session =
        Session::build(awkward_outputs(), vec![device("toy:0", ALL)], SessionOptions::default()).unwrap();
    let outputs = session.run(&[&vector(&[1.0, 2.0])]).unwrap();
    let expected = [vector(&[1.0, 2.0]), vector(&[1.0, -5.0]), vector(&[2.0, 0.0]), vector(&[2.0, 0.0])];
    assert_eq!(outputs, expected);
}

#[test]
fn refused_nodes_fail_or_fall_back_by_policy() {
    let devices = || vec![device("first:0", &["relu"]), device("second:0", ALL)];
    let denied = Session::build(awkward_outputs(), devices(), SessionOptions::default()).unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Unsupported);
    let text = denied.to_string();
    assert!(text.contains("no device runs add") && text.contains("first:0: add is not in"), "{text}");
    let allow = |max_segments| SessionOptions::default().with_fallback(Fallback::Allow { max_segments });
    let session = Session::build(awkward_outputs(), devices(), allow(2)).unwrap();
    assert_eq!(session.plan().segments.len(), 2);
    assert!(session.plan().to_string().contains("segment 0: second:0 runs 1 nodes"));
    assert_eq!(session.run(&[&vector(&[1.0, 2.0])]).unwrap()[2], vector(&[2.0, 0.0]));
    let crowded = Session::build(awkward_outputs(), devices(), allow(1)).unwrap_err();
    assert!(crowded.to_string().contains("2 segments"), "{crowded}");
}

/// total += x; swapped with `last`, which takes the total of before; output relu(total).
#[test]
fn states_live_between_runs_and_apart_between_sessions() {
    let (mut b, x) = builder(&[Dim::from(2)]);
    let total = b.state("total", vector(&[10.0, -10.0]));
    let last = b.state("last", vector(&[0.0, 0.0]));
    let sum = add(&mut b, total, x);
    let y = relu(&mut b, sum);
    b.set_next(0, sum).unwrap();
    b.set_next(1, total).unwrap();
    b.output("y", y);
    b.output("last", last);
    let graph = b.finish().unwrap();
    let build =
        || Session::build(graph.clone(), vec![device("toy:0", ALL)], SessionOptions::default()).unwrap();
    let session = build();
    let x = vector(&[1.0, 1.0]);
    let expected = [([11.0, 0.0], [0.0, 0.0]), ([12.0, 0.0], [10.0, -10.0]), ([13.0, 0.0], [11.0, -9.0])];
    for (y, last) in expected {
        assert_eq!(session.run(&[&x]).unwrap(), [vector(&y), vector(&last)]);
    }
    assert_eq!(build().run(&[&x]).unwrap()[0], vector(&[11.0, 0.0]));
}

#[test]
fn symbolic_extents_follow_the_inputs() {
    let (mut b, x) = builder(&[Dim::symbol("n")]);
    let sum = add(&mut b, x, x);
    let y = relu(&mut b, sum);
    b.output("y", y);
    let session =
        Session::build(b.finish().unwrap(), vec![device("toy:0", ALL)], SessionOptions::default()).unwrap();
    for n in [3, 1, 5, 3] {
        let x = vector(&vec![2.0; n]);
        assert_eq!(session.run(&[&x]).unwrap(), [vector(&vec![4.0; n])]);
    }
}

#[test]
fn wrong_tensors_are_refused_with_what_is_expected() {
    let session =
        Session::build(awkward_outputs(), vec![device("toy:0", ALL)], SessionOptions::default()).unwrap();
    let refused = |inputs: &[&Tensor], expected: &str| {
        let error = session.run(inputs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(error.to_string(), expected);
    };
    refused(&[], "the model takes 1 inputs (x), not 0");
    refused(&[&vector(&[1.0])], "input 0 \"x\" takes f32[2], not f32[1]");
    refused(&[&Tensor::zeros(DType::F16, &[2]).unwrap()], "input 0 \"x\" takes f32[2], not f16[2]");
    let mut outputs = [Tensor::zeros(DType::F32, &[2]).unwrap()];
    let error = session.run_into(&[&vector(&[1.0, 2.0])], &mut outputs).unwrap_err();
    assert_eq!(error.to_string(), "the model gives 4 outputs, not 1");
}

#[test]
fn several_threads_run_at_once() {
    let devices = vec![device("first:0", &["relu"]), device("second:0", ALL)];
    let options = SessionOptions::default().with_fallback(Fallback::Allow { max_segments: 4 });
    let session = Session::build(awkward_outputs(), devices, options).unwrap();
    std::thread::scope(|scope| {
        for i in 0..8u8 {
            let session = &session;
            scope.spawn(move || {
                for _ in 0..200 {
                    let x = f32::from(i);
                    let outputs = session.run(&[&vector(&[x, x])]).unwrap();
                    assert_eq!(outputs[2], vector(&[x + 1.0, (x - 5.0).max(0.0)]));
                }
            });
        }
    });
}
