use std::sync::OnceLock;

use mslite_graph_opt::Op;
use mslite_graph_opt::infer::infer;
use mslite_graph_opt::pass::Evaluator;
use mslite_runtime::{Groups, Result};
use mslite_tensor::{Bindings, DType, HostBuffer, Tensor, TensorSpec};

use crate::arena::{Args, Memory, Operands, Place, Spans};
use crate::backend::Crews;
use crate::kernels::{BoxKernel, Build, Type, build, refusal};

/// Folds constants with the kernels that would run them.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuEvaluator;

impl Evaluator for CpuEvaluator {
    fn evaluate(&self, op: &Op, operands: &[&Tensor]) -> Option<Tensor> {
        evaluate(op, operands)
    }
}

/// Evaluates an operation on known tensors, with the kernels that a compiled graph would use: for folding
/// constants. `None` when the operation has effects, several results, a type that the CPU does not evaluate, or
/// operands that it fails for.
///
/// ```
/// use mslite_backend_cpu::evaluate;
/// use mslite_graph_opt::Op;
/// use mslite_graph_opt::ir::op::Binary;
/// use mslite_tensor::Tensor;
///
/// let two = Tensor::scalar(2.0f32);
/// let four = evaluate(&Op::Binary(Binary::Add), &[&two, &two]).ok_or("not evaluated")?;
/// assert_eq!(four.as_slice::<f32>()?, [4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn evaluate(op: &Op, operands: &[&Tensor]) -> Option<Tensor> {
    let dtypes: Vec<DType> = operands.iter().map(|x| x.dtype()).collect();
    if op.has_effect() || op.bodies().next().is_some() || refusal(op, &dtypes).is_some() {
        return None;
    }
    let specs: Vec<TensorSpec> = operands.iter().map(|x| x.spec()).collect();
    let results = infer(op, &specs.iter().collect::<Vec<_>>()).ok()?;
    let [result] = &results[..] else { return None };
    let inputs: Vec<Type> = specs.iter().map(Type::of).collect::<Result<_>>().ok()?;
    let output = Type::of(result).ok()?;
    let cx = Build {
        inputs: &inputs,
        outputs: std::slice::from_ref(&output),
        weights: None,
        groups: &Groups::none(),
        bodies: &[],
        bindings: &Bindings::new(),
    };
    let kernel = build(op, &cx).ok()?;
    run(&kernel, operands, &output).ok()
}

fn run(kernel: &BoxKernel, operands: &[&Tensor], output: &Type) -> Result<Tensor> {
    static CREWS: OnceLock<Crews> = OnceLock::new();
    let mut result = Tensor::zeros(output.dtype, &output.dims)?;
    let scratch = kernel.scratch(1);
    let mut arena = Memory::zeroed(scratch)?;
    let mut staged: Vec<Memory> = operands.iter().map(|_| Memory::default()).collect();
    let mut spans = Spans::default();
    spans.begin(arena.bytes_mut(), std::iter::empty());
    for (operand, staged) in operands.iter().zip(&mut staged) {
        spans.input(&HostBuffer::reading(operand), staged)?;
    }
    spans.output(&HostBuffer::writing(&mut result)?)?;
    let whole = |base: usize, len: usize| Place { base, offset: 0, len };
    let inputs = operands.iter().enumerate().map(|(i, x)| whole(i + 1, x.size_bytes())).collect();
    let results = vec![whole(operands.len() + 1, output.bytes())];
    let places = Operands::new(inputs, results, whole(0, scratch), None)?;
    let crews = CREWS.get_or_init(|| Crews::new(1));
    crews.run(|team| kernel.run(&mut Args::new(&spans, &places, team)))??;
    Ok(result)
}
