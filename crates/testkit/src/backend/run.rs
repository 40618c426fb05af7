//! Graphs on a device, and cases made of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use mslite_graph_opt::{Graph, GraphBuilder, Op, ValueId, specialise};
use mslite_runtime::{CompileOptions, Device, Executable, Execution, Groups, Result};
use mslite_tensor::{Buffer, Dims, HostBuffer, Tensor, TensorSpec};

use crate::suite::{Case, Stop, Verdict, ensure, fail};
use crate::{Tolerance, compare, reference};

/// A graph, inputs of one or more runs, and how exact its outputs must be.
pub(super) struct GraphCase {
    pub(super) name: String,
    pub(super) graph: Graph,
    pub(super) calls: Vec<Vec<Tensor>>,
    /// Of each output.
    pub(super) tolerance: Tolerance,
}

impl GraphCase {
    /// A case of one operation whose operands are inputs.
    pub(super) fn op(name: impl Into<String>, op: Op, inputs: Vec<Tensor>) -> Self {
        GraphCase::with_constants(name, op, inputs, &[])
    }

    /// A case of one operation; the operands at these places are constants.
    pub(super) fn with_constants(
        name: impl Into<String>,
        op: Op,
        operands: Vec<Tensor>,
        constants: &[usize],
    ) -> Self {
        let tolerance = Tolerance::of(operands.first().map_or(mslite_tensor::DType::I64, Tensor::dtype));
        let mut builder = GraphBuilder::new("case");
        let mut inputs = Vec::new();
        let mut ids = Vec::new();
        for (n, tensor) in operands.into_iter().enumerate() {
            if constants.contains(&n) {
                ids.push(builder.constant(format!("constant{n}"), tensor));
            } else {
                ids.push(builder.input(format!("input{n}"), tensor.spec()));
                inputs.push(tensor);
            }
        }
        let results = builder.push(op, &ids, &"case/op".into()).expect("the case fits its operands");
        GraphCase { name: name.into(), graph: finish(builder, &results), calls: vec![inputs], tolerance }
    }

    pub(super) fn tolerance(mut self, tolerance: Tolerance) -> Self {
        self.tolerance = tolerance;
        self
    }

    pub(super) fn exact(self) -> Self {
        self.tolerance(Tolerance::EXACT)
    }

    pub(super) fn on(self, device: &Arc<dyn Device>) -> Case {
        let device = device.clone();
        Case::new(self.name.clone(), move || check(&*device, &self))
    }
}

/// A graph with these outputs.
pub(super) fn finish(mut builder: GraphBuilder, outputs: &[ValueId]) -> Graph {
    for (n, &value) in outputs.iter().enumerate() {
        builder.output(format!("output{n}"), value);
    }
    builder.finish().expect("the case is a valid graph")
}

fn check(device: &dyn Device, case: &GraphCase) -> Verdict {
    let executable = compile(device, &case.graph)?;
    let mut execution = instantiate(&*executable)?;
    for (call, inputs) in case.calls.iter().enumerate() {
        let expected = reference::evaluate(&case.graph, inputs).map_err(fail("the reference"))?;
        let actual = run(device, &mut *execution, &case.graph, inputs)?;
        agree(&actual, &expected, case.tolerance).map_err(|stop| match stop {
            Stop::Fail(reason) if case.calls.len() > 1 => Stop::Fail(format!("run {call}: {reason}")),
            stop => stop,
        })?;
    }
    Ok(())
}

/// A failure unless the outputs are as expected.
pub(super) fn agree(actual: &[Tensor], expected: &[Tensor], tolerance: Tolerance) -> Verdict {
    for (n, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        compare(actual, expected, tolerance).map_err(fail(&format!("output {n}")))?;
    }
    Ok(())
}

/// Compiles a graph, unless the device refuses a node of it.
pub(super) fn compile(device: &dyn Device, graph: &Graph) -> Result<Arc<dyn Executable>, Stop> {
    claim(device, graph)?;
    device.compile(graph, &CompileOptions::default()).map_err(fail("compiling what was claimed"))
}

pub(super) fn instantiate(executable: &dyn Executable) -> Result<Box<dyn Execution>, Stop> {
    executable.instantiate(&Groups::none()).map_err(fail("instantiating"))
}

/// Goes on if the device takes the whole graph as one region.
pub(super) fn claim(device: &dyn Device, graph: &Graph) -> Verdict {
    let capability = device.capability();
    for (_, value) in graph.values() {
        let dtype = value.spec.dtype;
        if !capability.dtypes.contains(&dtype) {
            return Err(Stop::Skip(format!("it does not compute with {dtype}")));
        }
        if !value.spec.shape.is_fixed() && !capability.symbolic_shapes {
            return Err(Stop::Skip("it has no symbolic shapes".to_owned()));
        }
    }
    let claim = device.claim(graph);
    let named: Vec<_> =
        claim.regions.iter().flatten().chain(claim.refused.iter().map(|(id, _)| id)).collect();
    let distinct: BTreeSet<_> = named.iter().collect();
    ensure(distinct.len() == named.len(), || format!("a claim names a node twice: {claim:?}"))?;
    ensure(named.len() == graph.nodes().len(), || format!("a claim leaves nodes out: {claim:?}"))?;
    ensure(device.claim(graph) == claim, || "the same graph gives another claim".to_owned())?;
    if let Some((id, reason)) = claim.refused.first() {
        ensure(!reason.is_empty(), || format!("{id} is refused without a reason"))?;
        return Err(Stop::Skip(format!("{} is refused: {reason}", graph.node(*id).op.name())));
    }
    match claim.regions.len() {
        0 | 1 => Ok(()),
        count => Err(Stop::Skip(format!("it is claimed as {count} regions"))),
    }
}

/// Runs once and waits; the outputs begin as bytes that no run leaves there by chance. Those whose extents follow from
/// data are the execution's.
pub(super) fn run(
    device: &dyn Device,
    execution: &mut dyn Execution,
    graph: &Graph,
    inputs: &[Tensor],
) -> Result<Vec<Tensor>, Stop> {
    let specs = output_specs(graph, inputs)?;
    let mut outputs: Vec<Tensor> = specs.iter().map(unwritten).collect::<Result<_, _>>()?;
    launch(device, execution, inputs, &mut outputs).map_err(fail("running"))?;
    for (n, (output, spec)) in outputs.iter_mut().zip(&specs).enumerate() {
        if !spec.shape.is_fixed() {
            let made = execution.output(n).ok_or_else(|| format!("output {n} was not made"))?;
            *output = copied(made)?.ok_or_else(|| format!("output {n} is not in host memory"))?;
        }
    }
    Ok(outputs)
}

/// Runs once with these tensors as buffers and waits.
pub(super) fn launch(
    device: &dyn Device,
    execution: &mut dyn Execution,
    inputs: &[Tensor],
    outputs: &mut [Tensor],
) -> Result<()> {
    let inputs: Vec<HostBuffer> = inputs.iter().map(HostBuffer::reading).collect();
    let outputs = outputs.iter_mut().map(HostBuffer::writing).collect::<mslite_tensor::Result<Vec<_>>>()?;
    let stream = device.stream()?;
    execution.enqueue(&views(&inputs), &views(&outputs), &*stream)?;
    stream
        .synchronize()
        .map_err(|reason| mslite_runtime::Error::new(mslite_runtime::ErrorKind::Internal, reason))
}

fn views(buffers: &[HostBuffer]) -> Vec<&dyn Buffer> {
    buffers.iter().map(|buffer| buffer as &dyn Buffer).collect()
}

/// Types of the outputs for these inputs.
pub(super) fn output_specs(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<TensorSpec>, Stop> {
    let dims: Vec<&[usize]> = inputs.iter().map(Tensor::dims).collect();
    let graph = specialise(graph, &dims).map_err(fail("the case"))?;
    Ok(graph.outputs().iter().map(|port| graph.spec(port.value).clone()).collect())
}

fn unwritten(spec: &TensorSpec) -> Result<Tensor, Stop> {
    // What follows from data is not written here.
    let dims = spec.shape.as_fixed().unwrap_or_else(|| Dims::from_slice(&[0]));
    let mut tensor = Tensor::zeros(spec.dtype, &dims).map_err(fail("the case"))?;
    tensor.bytes_mut().map_err(fail("the case"))?.fill(0xff);
    Ok(tensor)
}

#[allow(unsafe_code, reason = "reads what an execution has made")]
fn copied(made: &dyn Buffer) -> Result<Option<Tensor>, Stop> {
    // SAFETY: the stream has reached the run, and no other one is enqueued.
    unsafe { Tensor::copy_of(made) }.map_err(fail("copying an output"))
}
