//! A backend in one file: the walk-through of "write a backend".
//!
//! It computes with `f32` of fixed shapes and knows `relu`, `add`, `mul` and the product of two matrices; it refuses
//! everything else, with a reason, and interprets its nodes one by one. Five small types make a backend:
//!
//! 1. [`Toy`], the [`Backend`]: which devices are there, and opening one;
//! 2. [`ToyDevice`], the [`Device`]: which nodes it takes ([`Device::claim`]), and compiling them;
//! 3. [`ToyExecutable`], the [`Executable`]: the compiled region, immutable, shared by all callers;
//! 4. [`ToyExecution`], the [`Execution`]: the scratch memory of one caller, and running;
//! 5. `main`, which lets the conformance suite judge the whole.

use std::process::ExitCode;
use std::sync::Arc;

use mslite_runtime::graph_opt::ir::op::{Binary, MatMul, Unary};
use mslite_runtime::graph_opt::ir::{Def, Node, Port};
use mslite_runtime::graph_opt::{Graph, Op, ValueId};
use mslite_runtime::memory::MemoryUsage;
use mslite_runtime::tensor::{Buffer, DType, Dims, HostBuffer, HostStream, Stream, TensorSpec};
use mslite_runtime::{
    Backend, Capability, Claim, CompileOptions, Device, DeviceInfo, DeviceOptions, Error, ErrorKind,
    Executable, Execution, Groups, Result, Signature,
};
use mslite_testkit::backend::{Options, backend_main};

/// Runs the conformance suite: `cargo test` runs this, and so does `cargo run --example toy_backend`.
///
/// The capability picks the cases; cases with nodes that the claim refuses are skipped. Naming cases as required
/// keeps a slip in the claim from skipping everything.
fn main() -> ExitCode {
    let required = &["matmul/f32", "binary/add/f32", "binary/mul/f32", "unary/relu/f32", "graph/mlp/f32"];
    backend_main(&Toy, &Options::default().with_required(required))
}

/// Step 1: the backend. It holds nothing; a vendor's backend would open its library here and answer
/// `Unavailable` where there is none.
#[derive(Debug)]
struct Toy;

impl Backend for Toy {
    fn name(&self) -> &str {
        "toy"
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>> {
        Ok(vec![DeviceInfo { id: 0, name: "interpreter".to_owned() }])
    }

    fn open(&self, device: &DeviceInfo, _options: &DeviceOptions) -> Result<Arc<dyn Device>> {
        if device.id != 0 {
            let message = format!("there is no toy device {}; its only one is 0", device.id);
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(Arc::new(ToyDevice { capability: Capability::host(&[DType::F32]) }))
    }
}

/// Step 2: the device. `Capability::host` says that it computes in host memory, so that callers' tensors serve as
/// buffers, and that it has no symbolic shapes, no collectives and no serialisation.
#[derive(Debug)]
struct ToyDevice {
    capability: Capability,
}

impl Device for ToyDevice {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    /// A claim depends on nothing but the graph: all ranks of a distributed model must arrive at the same plan.
    fn claim(&self, graph: &Graph) -> Claim {
        Claim::of_nodes(graph, |id| Kernel::of(graph, graph.node(id)).err())
    }

    fn compile(&self, region: &Graph, _options: &CompileOptions) -> Result<Arc<dyn Executable>> {
        let program = Program::new(region)?;
        Ok(Arc::new(ToyExecutable { signature: Signature::of(region), program: Arc::new(program) }))
    }

    fn load(&self, _blob: &[u8]) -> Result<Arc<dyn Executable>> {
        Err(cannot_serialise())
    }

    fn allocate(&self, spec: &TensorSpec) -> Result<Arc<dyn Buffer>> {
        let dims = fixed(spec).map_err(|reason| Error::new(ErrorKind::InvalidArgument, reason))?;
        Ok(Arc::new(HostBuffer::zeroed(spec.dtype, &dims)?))
    }

    /// Work is done when `enqueue` returns, so the stream has nothing to wait for.
    fn stream(&self) -> Result<Arc<dyn Stream>> {
        Ok(Arc::new(HostStream))
    }
}

fn cannot_serialise() -> Error {
    Error::new(ErrorKind::Unsupported, "the toy backend does not serialise; compile the model again")
}

fn fixed(spec: &TensorSpec) -> Result<Dims, String> {
    spec.shape.as_fixed().ok_or_else(|| format!("the shape of {spec} is not fixed"))
}

/// What a node does, with all decisions made. `claim` and `compile` ask the same function, so that they cannot
/// disagree about what is supported.
#[derive(Debug)]
enum Kernel {
    Relu,
    /// For each element of the result, the elements of both operands: broadcasting as a table.
    Binary(fn(f32, f32) -> f32, Vec<[usize; 2]>),
    MatMul {
        rows: usize,
        inner: usize,
        cols: usize,
    },
}

impl Kernel {
    /// The kernel of a node, or the reason why there is none.
    fn of(graph: &Graph, node: &Node) -> Result<Kernel, String> {
        for &value in node.operands.iter().chain(&node.results) {
            let spec = graph.spec(value);
            if spec.dtype != DType::F32 {
                return Err(format!("it computes with f32, not {}", spec.dtype));
            }
        }
        let operands = node.operands.iter().map(|&value| fixed(graph.spec(value)));
        let operands = operands.collect::<Result<Vec<Dims>, String>>()?;
        match (&node.op, &operands[..]) {
            (Op::Unary(Unary::Relu), _) => Ok(Kernel::Relu),
            (Op::Binary(Binary::Add), [x, y]) => Ok(Kernel::Binary(|x, y| x + y, broadcast(x, y))),
            (Op::Binary(Binary::Mul), [x, y]) => Ok(Kernel::Binary(|x, y| x * y, broadcast(x, y))),
            (Op::MatMul(matmul), [a, b]) if *matmul == MatMul::default() => match (&a[..], &b[..]) {
                (&[rows, inner], &[_, cols]) => Ok(Kernel::MatMul { rows, inner, cols }),
                _ => Err("its matrices have rank 2".to_owned()),
            },
            (Op::MatMul(_), _) => Err("its products have no transposition, bias or activation".to_owned()),
            (op, _) => Err(format!("it has no kernel for {}", op.name())),
        }
    }

    fn run(&self, operands: &[&[f32]], result: &mut [f32]) {
        match *self {
            Kernel::Relu => {
                for (y, &x) in result.iter_mut().zip(operands[0]) {
                    *y = x.max(0.0);
                }
            }
            Kernel::Binary(function, ref table) => {
                for (z, &[x, y]) in result.iter_mut().zip(table) {
                    *z = function(operands[0][x], operands[1][y]);
                }
            }
            Kernel::MatMul { rows, inner, cols } => {
                for (row, column) in (0..rows).flat_map(|row| (0..cols).map(move |column| (row, column))) {
                    let terms =
                        (0..inner).map(|k| operands[0][row * inner + k] * operands[1][k * cols + column]);
                    result[row * cols + column] = terms.sum();
                }
            }
        }
    }
}

/// The table of [`Kernel::Binary`], by numpy's rule; the type rules have checked that the shapes fit.
fn broadcast(x: &[usize], y: &[usize]) -> Vec<[usize; 2]> {
    let rank = x.len().max(y.len());
    // Extents counted from the last axis, 1 where an operand has no such axis.
    let extent = |dims: &[usize], axis: usize| dims.iter().rev().nth(axis).copied().unwrap_or(1);
    let mut table = vec![[0, 0]];
    let mut strides = [1, 1];
    for axis in 0..rank {
        let (m, n) = (extent(x, axis), extent(y, axis));
        let steps = [if m == 1 { 0 } else { strides[0] }, if n == 1 { 0 } else { strides[1] }];
        let count = if m == 1 { n } else { m };
        let moved = |i: usize, [a, b]: [usize; 2]| [a + i * steps[0], b + i * steps[1]];
        table = (0..count).flat_map(|i| table.iter().map(move |&at| moved(i, at))).collect();
        strides = [strides[0] * m, strides[1] * n];
    }
    table
}

/// A compiled region: kernels in order, over values that are numbered as in the graph.
#[derive(Debug)]
struct Program {
    steps: Vec<Step>,
    /// What each value holds before the first run: constants their elements, the others zeros.
    values: Vec<Vec<f32>>,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
}

#[derive(Debug)]
struct Step {
    kernel: Kernel,
    operands: Vec<ValueId>,
    result: ValueId,
}

impl Program {
    /// # Errors
    /// `Unsupported` for nodes that `claim` refuses.
    fn new(region: &Graph) -> Result<Self> {
        let mut steps = Vec::new();
        for (id, node) in region.nodes() {
            let kernel = Kernel::of(region, node).map_err(|reason| {
                Error::new(ErrorKind::Unsupported, reason).with("node", id).with("op", node.op.name())
            })?;
            steps.push(Step { kernel, operands: node.operands.to_vec(), result: node.results[0] });
        }
        let mut values = Vec::new();
        for (_, value) in region.values() {
            values.push(match &value.def {
                Def::Constant(constant) => constant.tensor.to_vec::<f32>()?,
                _ => vec![0.0; value.spec.size_bytes()? / size_of::<f32>()],
            });
        }
        let ids = |ports: &[Port]| ports.iter().map(|port| port.value).collect();
        Ok(Program { steps, values, inputs: ids(region.inputs()), outputs: ids(region.outputs()) })
    }
}

/// Step 3: the executable. All callers share it, so nothing in it changes.
#[derive(Debug)]
struct ToyExecutable {
    signature: Signature,
    program: Arc<Program>,
}

impl Executable for ToyExecutable {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// `groups` matters to devices whose [`Capability::collectives`] is true.
    fn instantiate(&self, _groups: &Groups) -> Result<Box<dyn Execution>> {
        Ok(Box::new(ToyExecution {
            signature: self.signature.clone(),
            program: self.program.clone(),
            values: self.program.values.clone(),
        }))
    }

    fn serialize(&self) -> Result<Vec<u8>> {
        Err(cannot_serialise())
    }
}

/// Step 4: the state of one caller. All memory is allocated here, none during a run.
#[derive(Debug)]
struct ToyExecution {
    signature: Signature,
    program: Arc<Program>,
    values: Vec<Vec<f32>>,
}

impl Execution for ToyExecution {
    fn enqueue(
        &mut self,
        inputs: &[&dyn Buffer],
        outputs: &[&dyn Buffer],
        _stream: &dyn Stream,
    ) -> Result<()> {
        check("input", &self.signature.inputs, inputs)?;
        check("output", &self.signature.outputs, outputs)?;
        for (&value, buffer) in self.program.inputs.iter().zip(inputs) {
            host::read(*buffer, &mut self.values[value.index()])?;
        }
        for step in &self.program.steps {
            // The result is taken out while its step writes it: no step reads what it defines.
            let mut result = std::mem::take(&mut self.values[step.result.index()]);
            let operands: Vec<&[f32]> =
                step.operands.iter().map(|value| self.values[value.index()].as_slice()).collect();
            step.kernel.run(&operands, &mut result);
            self.values[step.result.index()] = result;
        }
        for (&value, buffer) in self.program.outputs.iter().zip(outputs) {
            host::write(&self.values[value.index()], *buffer)?;
        }
        Ok(())
    }

    fn output(&self, _index: usize) -> Option<&dyn Buffer> {
        None
    }

    /// Every value has memory of its own, which is as much as values that live for the whole run need.
    fn memory(&self) -> MemoryUsage {
        let bytes = self.values.iter().map(|value| size_of_val(value.as_slice())).sum();
        MemoryUsage { arena: bytes, lower_bound: bytes }
    }
}

/// Refuses buffers that do not fit the signature, before anything is touched.
fn check(what: &str, specs: &[TensorSpec], buffers: &[&dyn Buffer]) -> Result<()> {
    let refuse = |message: String| Err(Error::new(ErrorKind::InvalidArgument, message));
    if specs.len() != buffers.len() {
        return refuse(format!("there are {} {what}s, the region has {}", buffers.len(), specs.len()));
    }
    for (n, (spec, buffer)) in specs.iter().zip(buffers).enumerate() {
        let fits = buffer.dtype() == spec.dtype && spec.shape.as_fixed().as_deref() == Some(buffer.dims());
        if !fits {
            let actual = TensorSpec::fixed(buffer.dtype(), buffer.dims());
            return refuse(format!("{what} {n} is {actual}, the region has {spec}"));
        }
    }
    Ok(())
}

/// The one place that follows addresses. [`Buffer`]'s contract is what makes it sound: whoever enqueues work keeps
/// the buffers alive, and keeps everybody else from writing what it reads and from touching what it writes.
#[allow(unsafe_code, reason = "buffers are addresses")]
mod host {
    use super::{Buffer, Error, ErrorKind, Result};
    use mslite_runtime::tensor::HostSpan;

    fn span(buffer: &dyn Buffer, elements: usize) -> Result<HostSpan> {
        buffer.host().filter(|span| span.len == elements * size_of::<f32>()).ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument, format!("{buffer:?} is not in host memory"))
        })
    }

    /// Copies a buffer of as many `f32` as `values` has; it need not be aligned.
    pub(super) fn read(buffer: &dyn Buffer, values: &mut [f32]) -> Result<()> {
        let span = span(buffer, values.len())?;
        // SAFETY: the span is alive and unwritten during the run, and as long as `values`, which is not part of it.
        unsafe { std::ptr::copy_nonoverlapping(span.ptr.as_ptr(), values.as_mut_ptr().cast(), span.len) };
        Ok(())
    }

    /// Copies `values` to a buffer of as many `f32`; it need not be aligned.
    pub(super) fn write(values: &[f32], buffer: &dyn Buffer) -> Result<()> {
        let span = span(buffer, values.len())?;
        // SAFETY: the span is alive and untouched during the run, and as long as `values`, which is not part of it.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr().cast(), span.ptr.as_ptr(), span.len) };
        Ok(())
    }
}
