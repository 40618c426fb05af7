//! What the traits promise beside right numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use mslite_graph_opt::ir::op::{Binary, Gather, Opaque, Unary};
use mslite_graph_opt::{Graph, GraphBuilder, Op};
use mslite_runtime::{Device, ErrorKind, Executable, Result, Signature};
use mslite_tensor::{Buffer, DType, Dim, HostBuffer, Shape, Tensor, TensorSpec};

use super::graphs::Chain;
use super::run::{agree, compile, finish, instantiate, launch, run};
use crate::Tolerance;
use crate::generate::Generator;
use crate::reference;
use crate::suite::{Case, Stop, Verdict, ensure, fail};

pub(super) fn cases(device: &Arc<dyn Device>) -> Vec<Case> {
    type Body = fn(&Arc<dyn Device>) -> Verdict;
    let bodies: [(&str, Body); 16] = [
        ("claim/unknown_primitive", unknown_primitive),
        ("claim/empty_graph", empty_graph),
        ("executable/signature", signature),
        ("executable/repeats_bits", repeats_bits),
        ("execution/outlives_executable", outlives_executable),
        ("executable/shared_by_threads", shared_by_threads),
        ("executable/instances_are_independent", instances_are_independent),
        ("refuses/counts", refuses_counts),
        ("refuses/types", refuses_types),
        ("refuses/shapes", refuses_shapes),
        ("refuses/symbolic_shapes", refuses_symbolic_shapes),
        ("refuses/index_outside", refuses_index_outside),
        ("memory/allocated_buffers", allocated_buffers),
        ("memory/symbolic_shape", symbolic_allocation),
        ("serialize/round_trip", serialize_round_trip),
        ("serialize/damaged", serialize_damaged),
    ];
    bodies
        .into_iter()
        .map(|(name, body)| {
            let device = device.clone();
            Case::new(name, move || body(&device))
        })
        .collect()
}

/// `relu(x @ w + b)`: what nearly every backend can do.
struct Sample {
    graph: Graph,
    executable: Arc<dyn Executable>,
}

const ROWS: usize = 6;
const WIDTH: usize = 10;

impl Sample {
    fn compile(device: &Arc<dyn Device>) -> Result<Self, Stop> {
        let dtype = if device.capability().dtypes.contains(&DType::F32) {
            DType::F32
        } else {
            *device.capability().dtypes.iter().find(|d| d.is_float()).ok_or_else(no_float)?
        };
        let mut chain = Chain::new(dtype);
        let x = chain.input(vec![Dim::from(ROWS), Dim::from(WIDTH)]);
        let dense = chain.dense(x, WIDTH, 8);
        let y = chain.node(Op::Unary(Unary::Relu), &[dense]);
        let graph = finish(chain.builder, &[y]);
        Ok(Sample { executable: compile(&**device, &graph)?, graph })
    }

    fn dtype(&self) -> DType {
        self.graph.spec(self.graph.inputs()[0].value).dtype
    }

    fn input(&self, seed: u64) -> Vec<Tensor> {
        vec![Generator::new(seed).tensor(self.dtype(), &[ROWS, WIDTH], -1.0, 1.0)]
    }

    fn expected(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Stop> {
        reference::evaluate(&self.graph, inputs).map_err(fail("the reference"))
    }

    fn agrees(&self, actual: &[Tensor], inputs: &[Tensor]) -> Verdict {
        agree(actual, &self.expected(inputs)?, Tolerance::of(self.dtype()).times(4.0))
    }

    /// The right answer still comes.
    fn works(&self, device: &Arc<dyn Device>) -> Verdict {
        let inputs = self.input(7);
        let mut execution = instantiate(&*self.executable)?;
        let actual = run(&**device, &mut *execution, &self.graph, &inputs)?;
        self.agrees(&actual, &inputs)
    }
}

fn no_float() -> Stop {
    Stop::Skip("it does not compute with floats".to_owned())
}

fn unknown_primitive(device: &Arc<dyn Device>) -> Verdict {
    let spec = TensorSpec::fixed(DType::F32, &[2]);
    let mut builder = GraphBuilder::new("case");
    let x = builder.input("x", spec.clone());
    let opaque = Opaque {
        primitive: "NobodyHasThisPrimitive".into(),
        attributes: BTreeMap::new(),
        results: vec![spec],
        effect: false,
    };
    let y = builder.push1(Op::Opaque(opaque), &[x], &"case/opaque".into()).map_err(fail("the case"))?;
    let claim = device.claim(&finish(builder, &[y]));
    ensure(claim.regions.iter().all(Vec::is_empty), || format!("it was claimed: {claim:?}"))?;
    let reasons: Vec<&str> = claim.refused.iter().map(|(_, reason)| reason.as_str()).collect();
    ensure(reasons.len() == 1 && !reasons[0].is_empty(), || format!("one reason is due, not {reasons:?}"))
}

fn empty_graph(device: &Arc<dyn Device>) -> Verdict {
    let claim = device.claim(&finish(GraphBuilder::new("case"), &[]));
    let is_empty = claim.regions.iter().all(Vec::is_empty) && claim.refused.is_empty();
    ensure(is_empty, || format!("there is nothing to claim: {claim:?}"))
}

fn signature(device: &Arc<dyn Device>) -> Verdict {
    let sample = Sample::compile(device)?;
    let (actual, expected) = (sample.executable.signature(), Signature::of(&sample.graph));
    ensure(*actual == expected, || format!("the signature is {actual:?}, not {expected:?}"))
}

fn repeats_bits(device: &Arc<dyn Device>) -> Verdict {
    let sample = Sample::compile(device)?;
    let inputs = sample.input(1);
    let mut execution = instantiate(&*sample.executable)?;
    let first = run(&**device, &mut *execution, &sample.graph, &inputs)?;
    sample.agrees(&first, &inputs)?;
    for round in 1..6 {
        let again = run(&**device, &mut *execution, &sample.graph, &inputs)?;
        ensure(again == first, || format!("run {round} gives other bits than run 0"))?;
    }
    Ok(())
}

fn outlives_executable(device: &Arc<dyn Device>) -> Verdict {
    let sample = Sample::compile(device)?;
    let mut execution = instantiate(&*sample.executable)?;
    let Sample { graph, executable } = sample;
    let inputs =
        vec![Generator::new(1).tensor(executable.signature().inputs[0].dtype, &[ROWS, WIDTH], -1.0, 1.0)];
    drop(executable);
    let actual = run(&**device, &mut *execution, &graph, &inputs)?;
    let expected = reference::evaluate(&graph, &inputs).map_err(fail("the reference"))?;
    agree(&actual, &expected, Tolerance::of(inputs[0].dtype()).times(4.0))
}

fn shared_by_threads(device: &Arc<dyn Device>) -> Verdict {
    let sample = &Sample::compile(device)?;
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|caller| {
                scope.spawn(move || {
                    let mut execution = instantiate(&*sample.executable)?;
                    for round in 0..8 {
                        let inputs = sample.input(100 * caller + round);
                        let actual = run(&**device, &mut *execution, &sample.graph, &inputs)?;
                        sample.agrees(&actual, &inputs)?;
                    }
                    Ok(())
                })
            })
            .collect();
        callers.into_iter().try_for_each(|caller| caller.join().map_err(|_| "a caller panicked")?)
    })
}

fn instances_are_independent(device: &Arc<dyn Device>) -> Verdict {
    let sample = Sample::compile(device)?;
    let (mut one, mut other) = (instantiate(&*sample.executable)?, instantiate(&*sample.executable)?);
    let (x, y) = (sample.input(1), sample.input(2));
    for _ in 0..2 {
        sample.agrees(&run(&**device, &mut *one, &sample.graph, &x)?, &x)?;
        sample.agrees(&run(&**device, &mut *other, &sample.graph, &y)?, &y)?;
    }
    drop(one);
    sample.agrees(&run(&**device, &mut *other, &sample.graph, &y)?, &y)
}

fn is_refused(what: &str, kind: ErrorKind, result: Result<()>) -> Verdict {
    match result {
        Ok(()) => Err(Stop::Fail(format!("{what} is not refused"))),
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => Err(Stop::Fail(format!("{what} is refused as {}, not {kind}: {error}", error.kind()))),
    }
}

/// Runs the sample with these buffers, which do not fit it; it must work as before afterwards.
fn is_misfit(device: &Arc<dyn Device>, what: &str, inputs: &[Tensor], outputs: &[Tensor]) -> Verdict {
    let sample = Sample::compile(device)?;
    let mut execution = instantiate(&*sample.executable)?;
    let mut outputs = outputs.to_vec();
    let result = launch(&**device, &mut *execution, inputs, &mut outputs);
    is_refused(what, ErrorKind::InvalidArgument, result)?;
    let inputs = sample.input(3);
    sample.agrees(&run(&**device, &mut *execution, &sample.graph, &inputs)?, &inputs)?;
    sample.works(device)
}

/// Buffers that fit the sample.
fn fitting(device: &Arc<dyn Device>) -> Result<(Tensor, Tensor), Stop> {
    let sample = Sample::compile(device)?;
    let x = sample.input(1).remove(0);
    let y = Tensor::zeros(sample.dtype(), &[ROWS, 8]).map_err(fail("the case"))?;
    Ok((x, y))
}

fn zeros(dtype: DType, dims: &[usize]) -> Result<Tensor, Stop> {
    Tensor::zeros(dtype, dims).map_err(fail("the case"))
}

fn refuses_counts(device: &Arc<dyn Device>) -> Verdict {
    let (x, y) = fitting(device)?;
    is_misfit(device, "a run without inputs", &[], std::slice::from_ref(&y))?;
    is_misfit(device, "a second input", &[x.clone(), x.clone()], std::slice::from_ref(&y))?;
    is_misfit(device, "a run without outputs", std::slice::from_ref(&x), &[])?;
    is_misfit(device, "a second output", &[x], &[y.clone(), y])
}

fn refuses_types(device: &Arc<dyn Device>) -> Verdict {
    let (x, y) = fitting(device)?;
    let other = if x.dtype() == DType::F32 { DType::I32 } else { DType::U8 };
    is_misfit(device, "an input of another type", &[zeros(other, x.dims())?], std::slice::from_ref(&y))?;
    is_misfit(device, "an output of another type", &[x], &[zeros(other, y.dims())?])
}

fn refuses_shapes(device: &Arc<dyn Device>) -> Verdict {
    let (x, y) = fitting(device)?;
    let dtype = x.dtype();
    for dims in
        [&[ROWS - 1, WIDTH][..], &[ROWS, WIDTH + 1], &[WIDTH, ROWS], &[ROWS * WIDTH], &[1, ROWS, WIDTH], &[]]
    {
        let what = format!("an input of shape {dims:?}");
        is_misfit(device, &what, &[zeros(dtype, dims)?], std::slice::from_ref(&y))?;
    }
    for dims in [&[ROWS + 1, 8][..], &[ROWS, 7], &[8, ROWS], &[ROWS * 8]] {
        let what = format!("an output of shape {dims:?}");
        is_misfit(device, &what, std::slice::from_ref(&x), &[zeros(dtype, dims)?])?;
    }
    Ok(())
}

fn refuses_symbolic_shapes(device: &Arc<dyn Device>) -> Verdict {
    let mut chain = Chain::new(DType::F32);
    let n = Dim::symbol("n");
    let x = chain.input(vec![n.clone(), Dim::from(3)]);
    let y = chain.input(vec![n, Dim::from(3)]);
    let sum = chain.node(Op::Binary(Binary::Add), &[x, y]);
    let graph = finish(chain.builder, &[sum]);
    let executable = compile(&**device, &graph)?;
    let mut execution = instantiate(&*executable)?;
    let f = |rows: usize, cols: usize| zeros(DType::F32, &[rows, cols]);
    let misfits = [
        ("two values of one symbol", [f(4, 3)?, f(5, 3)?], f(4, 3)?),
        ("another fixed extent", [f(4, 2)?, f(4, 2)?], f(4, 2)?),
        ("an output of another extent", [f(4, 3)?, f(4, 3)?], f(3, 3)?),
    ];
    for (what, inputs, output) in misfits {
        let result = launch(&**device, &mut *execution, &inputs, &mut [output]);
        is_refused(what, ErrorKind::InvalidArgument, result)?;
    }
    let inputs = [f(2, 3)?, f(2, 3)?];
    run(&**device, &mut *execution, &graph, &inputs).map(|_| ())
}

fn refuses_index_outside(device: &Arc<dyn Device>) -> Verdict {
    for at in [4, -5, i32::MAX, i32::MIN] {
        let mut builder = GraphBuilder::new("case");
        let x = builder.input("x", TensorSpec::fixed(DType::F32, &[4, 2]));
        let index = builder.input("index", TensorSpec::fixed(DType::I32, &[1]));
        let gather = Op::Gather(Gather { axis: 0, batch_dims: 0 });
        let y = builder.push1(gather, &[x, index], &"case/gather".into()).map_err(fail("the case"))?;
        let executable = compile(&**device, &finish(builder, &[y]))?;
        let mut execution = instantiate(&*executable)?;
        let index = Tensor::from_vec(vec![at], &[1]).map_err(fail("the case"))?;
        let inputs = [zeros(DType::F32, &[4, 2])?, index];
        let result = launch(&**device, &mut *execution, &inputs, &mut [zeros(DType::F32, &[1, 2])?]);
        ensure(result.is_err(), || format!("index {at} into 4 rows gives no error"))?;
    }
    Ok(())
}

/// Buffers of the device begin as zeros and pass from run to run in the order of the stream.
fn allocated_buffers(device: &Arc<dyn Device>) -> Verdict {
    let spec = TensorSpec::fixed(DType::F32, &[3, 5]);
    let mut chain = Chain::new(DType::F32);
    let x = chain.input(vec![Dim::from(3), Dim::from(5)]);
    let y = chain.input(vec![Dim::from(3), Dim::from(5)]);
    let sum = chain.node(Op::Binary(Binary::Add), &[x, y]);
    let executable = compile(&**device, &finish(chain.builder, &[sum]))?;
    let mut execution = instantiate(&*executable)?;
    let allocate = || device.allocate(&spec).map_err(fail("allocating"));
    let (zero, middle) = (allocate()?, allocate()?);
    ensure(zero.dtype() == DType::F32 && *zero.dims() == [3, 5], || format!("{zero:?} is not {spec}"))?;
    let x = Generator::new(1).tensor(DType::F32, &[3, 5], -1.0, 1.0);
    let mut result = zeros(DType::F32, &[3, 5])?;
    let (reading, writing) =
        (HostBuffer::reading(&x), HostBuffer::writing(&mut result).map_err(fail("the case"))?);
    let stream = device.stream().map_err(fail("making a stream"))?;
    let first: [&dyn Buffer; 2] = [&reading, &*zero];
    let second: [&dyn Buffer; 2] = [&*middle, &*zero];
    execution.enqueue(&first, &[&*middle], &*stream).map_err(fail("running into a buffer"))?;
    execution.enqueue(&second, &[&writing], &*stream).map_err(fail("running from a buffer"))?;
    stream.synchronize().map_err(fail("waiting"))?;
    agree(&[result], &[x], Tolerance::EXACT)
}

fn symbolic_allocation(device: &Arc<dyn Device>) -> Verdict {
    let symbolic = TensorSpec::new(DType::F32, Shape::ranked([Dim::symbol("n")]));
    let unranked = TensorSpec::new(DType::F32, Shape::UNRANKED);
    for spec in [symbolic, unranked] {
        let result = device.allocate(&spec).map(|_| ());
        is_refused(&format!("memory for {spec}"), ErrorKind::InvalidArgument, result)?;
    }
    Ok(())
}

fn serialize_round_trip(device: &Arc<dyn Device>) -> Verdict {
    let sample = Sample::compile(device)?;
    if !device.capability().serialize {
        let result = sample.executable.serialize().map(|_| ());
        is_refused("serialising, which the capability denies,", ErrorKind::Unsupported, result)?;
        return Err(Stop::Skip("it does not serialise".to_owned()));
    }
    let blob = sample.executable.serialize().map_err(fail("serialising"))?;
    let executable = device.load(&blob).map_err(fail("loading"))?;
    let loaded = Sample { graph: sample.graph.clone(), executable };
    ensure(loaded.executable.signature() == sample.executable.signature(), || {
        "the signature has changed".to_owned()
    })?;
    let inputs = sample.input(5);
    let both = [&sample, &loaded]
        .map(|s| run(&**device, &mut *instantiate(&*s.executable)?, &sample.graph, &inputs));
    let [before, after] = both;
    ensure(before? == after?, || "the loaded executable gives other bits".to_owned())?;
    loaded.works(device)
}

fn serialize_damaged(device: &Arc<dyn Device>) -> Verdict {
    let capable = device.capability().serialize;
    let kind = if capable { ErrorKind::InvalidArgument } else { ErrorKind::Unsupported };
    for blob in [&b""[..], b"no executable", &[0xff; 300]] {
        is_refused("nonsense", kind, device.load(blob).map(|_| ()))?;
    }
    if capable {
        let blob = Sample::compile(device)?.executable.serialize().map_err(fail("serialising"))?;
        for end in [1, blob.len() / 2, blob.len() - 1] {
            is_refused("a truncated executable", kind, device.load(&blob[..end]).map(|_| ()))?;
        }
    }
    Ok(())
}
