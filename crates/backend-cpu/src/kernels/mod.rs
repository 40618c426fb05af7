//! Kernels: one operation each, for fixed types and shapes.

mod attention;
mod binary;
mod cast;
mod collective;
mod complex;
mod control;
mod conv;
mod copy;
mod index;
mod linear;
mod math;
mod matmul;
mod norm;
mod pad;
mod pool;
mod random;
mod reduce;
mod select;
mod sort;
mod unary;

use std::fmt::Debug;
use std::sync::Arc;

use mslite_graph_opt::Op;
use mslite_graph_opt::ir::op::{Binary, MatMul, ReduceKind, Unary};
use mslite_runtime::{Error, ErrorKind, Groups, Result};
use mslite_tensor::{Bindings, DType, Dims, TensorSpec, num_elements};

use crate::arena::Args;
use crate::execution::Compiled;

pub(crate) use collective::{communicator, start};
pub(crate) use copy::{alias_offset, is_stack, whole_copy};
pub(crate) use linear::Weights;

/// One operation for fixed types and shapes. Running it allocates nothing after the first time.
pub(crate) trait Kernel: Debug + Send + Sync {
    /// Bytes of scratch memory it needs when run by so many threads.
    fn scratch(&self, threads: usize) -> usize {
        let _ = threads;
        0
    }

    /// Whether the first result may lie where an operand does, which is then read through [`Args::elements`] only.
    fn in_place(&self, operand: usize) -> bool {
        let _ = operand;
        false
    }

    /// Computes the results from the operands.
    ///
    /// # Errors
    /// What depends on the elements: an index outside a tensor; what a collective returns.
    fn run(&self, args: &mut Args<'_>) -> Result<()>;
}

/// Element type and extents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Type {
    pub(crate) dtype: DType,
    pub(crate) dims: Dims,
}

impl Type {
    /// # Errors
    /// [`ErrorKind::Internal`] for a symbolic shape, [`ErrorKind::OutOfMemory`] for one that is too large, even
    /// if it has no elements because one of its extents is 0.
    pub(crate) fn of(spec: &TensorSpec) -> Result<Self> {
        let dims = spec
            .shape
            .as_fixed()
            .ok_or_else(|| Error::new(ErrorKind::Internal, format!("the shape of {spec} is not fixed")))?;
        let nonzero: Dims = dims.iter().map(|&d| d.max(1)).collect();
        TensorSpec::fixed(spec.dtype, &nonzero).size_bytes()?;
        Ok(Type { dtype: spec.dtype, dims })
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        num_elements(&self.dims).unwrap_or(0)
    }

    /// Number of bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.len() * self.dtype.size()
    }
}

/// What a kernel is built from.
#[derive(Debug)]
pub(crate) struct Build<'a> {
    pub(crate) inputs: &'a [Type],
    pub(crate) outputs: &'a [Type],
    /// The constant operands that were prepared at compile time.
    pub(crate) weights: Option<&'a Arc<Weights>>,
    pub(crate) groups: &'a Groups,
    /// The graphs inside the operation.
    pub(crate) bodies: &'a [Compiled],
    /// Values of symbols.
    pub(crate) bindings: &'a Bindings,
}

pub(crate) type BoxKernel = Box<dyn Kernel>;

/// Why an operation with operands of these types is not evaluated, if it is not.
pub(crate) fn refusal(op: &Op, operands: &[DType]) -> Option<String> {
    let first = operands.first().copied();
    let supported = match op {
        Op::Opaque(opaque) => {
            let refusal = format!("the CPU does not evaluate the primitive {}", opaque.primitive);
            return Some(match mslite_graph_opt::alternative(&opaque.primitive) {
                Some(instead) => format!("{refusal}; use {instead} instead"),
                None => refusal,
            });
        }
        Op::Extents(_) | Op::Random(_) | Op::Bind(_) | Op::Collective(_) | Op::If(_) | Op::Loop(_) => true,
        Op::Cast(to) => {
            first.is_some_and(|t| is_real(t) || t.is_complex() && *to != DType::Bool)
                && (is_real(*to) || to.is_complex())
        }
        Op::Reduce(reduce) => first.is_some_and(|t| reduce_supports(reduce.kind, t)),
        Op::ArgReduce(reduce) => {
            first.is_some_and(is_number) && matches!(reduce.dtype, DType::I32 | DType::I64)
        }
        Op::Unary(f) => first.is_some_and(|t| unary_supports(*f, t)),
        Op::Binary(f) => first.is_some_and(|t| binary_supports(*f, t)),
        Op::MatMul(MatMul { activation: Some(f), .. }) if !first.is_some_and(DType::is_float) => {
            let dtype = first.map_or("nothing", DType::name);
            return Some(format!("the CPU does not evaluate matmul of {dtype} followed by {}", f.name()));
        }
        Op::Cumulative(_) | Op::TopK(_) | Op::MatMul(_) => first.is_some_and(is_number),
        Op::Softmax(_) | Op::LayerNorm(_) | Op::RmsNorm(_) | Op::AddNorm(_) | Op::Gated(_) => {
            first.is_some_and(DType::is_float)
        }
        Op::Rope => first.is_some_and(DType::is_float),
        Op::Pool2d(_) => first.is_some_and(DType::is_float),
        Op::Attention(_) | Op::Conv2d(_) => first.is_some_and(|t| t.is_float() && t != DType::F64),
        Op::ScatterNd(kind) => copies(*kind) || first.is_some_and(is_number),
        Op::Select
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Broadcast(_)
        | Op::Concat { .. }
        | Op::Slice(_)
        | Op::Pad(_)
        | Op::Gather(_)
        | Op::GatherElements { .. }
        | Op::GatherNd
        | Op::OneHot { .. }
        | Op::Triangle(_) => true,
        _ => false,
    };
    let types: Vec<&str> = operands.iter().map(|t| t.name()).collect();
    (!supported).then(|| format!("the CPU does not evaluate {} of {}", op.name(), types.join(", ")))
}

/// Why an operation whose types are supported is not evaluated with operands of these extents, as far as they are
/// known.
pub(crate) fn extents_refusal(op: &Op, operands: &[&TensorSpec]) -> Option<String> {
    let Op::Conv2d(conv) = op else { return None };
    let out = operands.get(1)?.shape.dims()?.first()?.as_usize();
    if let Some(out) = out.filter(|out| !out.is_multiple_of(conv.groups)) {
        return Some(format!("{out} output channels are not divisible by {} groups", conv.groups));
    }
    conv.dilations.contains(&0).then(|| "a convolution's dilation is 0".to_owned())
}

/// Builds the kernel of an operation.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for what [`refusal`] refuses, [`ErrorKind::InvalidArgument`] when a group is missing
/// or extents do not fit.
pub(crate) fn build(op: &Op, cx: &Build<'_>) -> Result<BoxKernel> {
    let is_empty = !cx.outputs.is_empty() && cx.outputs.iter().all(|y| y.len() == 0);
    if is_empty && !op.has_effect() {
        return Ok(Box::new(Nothing));
    }
    let kernel = match op {
        Op::Unary(f) => unary::build(*f, cx),
        Op::Binary(f) => binary::build(*f, cx),
        Op::Select => select::build(cx),
        Op::Cast(_) => cast::build(cx),
        Op::Reduce(reduce) => reduce::build(reduce, cx),
        Op::ArgReduce(reduce) => sort::arg_reduce(reduce, cx),
        Op::Cumulative(cumulative) => reduce::cumulative(cumulative, cx),
        Op::Softmax(softmax) => norm::softmax(softmax, cx),
        Op::LayerNorm(norm) => norm::layer_norm(norm, cx),
        Op::RmsNorm(norm) => norm::rms_norm(norm, cx),
        Op::AddNorm(norm) => norm::add_norm(norm, cx),
        Op::Gated(f) => unary::gated(*f, cx),
        Op::Rope => attention::rope(cx),
        Op::Attention(op) => attention::attention(op, cx),
        Op::MatMul(matmul) => matmul::build(matmul, cx),
        Op::Conv2d(conv) => conv::build(conv, cx),
        Op::Pool2d(pool) => pool::build(pool, cx),
        Op::Reshape(_) => copy::whole(cx),
        Op::Transpose(perm) => copy::transpose(perm, cx),
        Op::Broadcast(_) => copy::broadcast(cx),
        Op::Concat { axis } => copy::concat(*axis, cx),
        Op::Slice(slice) => copy::slice(slice, cx)?,
        Op::Pad(pad) => pad::build(pad, cx)?,
        Op::Gather(gather) => index::gather(gather, cx),
        Op::GatherElements { axis } => index::gather_elements(*axis, cx)?,
        Op::GatherNd => index::gather_nd(cx),
        Op::ScatterNd(kind) => index::scatter_nd(*kind, cx),
        Op::OneHot { axis, .. } => index::one_hot(*axis, cx),
        Op::TopK(top_k) => sort::top_k(top_k, cx),
        Op::Triangle(triangle) => copy::triangle(triangle, cx),
        Op::Extents(dims) => copy::extents(dims)?,
        Op::Random(op) => Some(random::build(op)),
        Op::Collective(exchange) => Some(collective::build(exchange, cx)?),
        Op::If(branch) => Some(control::branch(branch, cx)?),
        Op::Loop(turns) => Some(control::turns(turns, cx)?),
        _ => None,
    };
    kernel.ok_or_else(|| {
        let types: Vec<DType> = cx.inputs.iter().map(|t| t.dtype).collect();
        let reason = refusal(op, &types).unwrap_or_else(|| format!("{} is not evaluated", op.name()));
        Error::new(ErrorKind::Unsupported, reason)
    })
}

/// Computes results of no elements.
#[derive(Debug)]
struct Nothing;

impl Kernel for Nothing {
    fn run(&self, _args: &mut Args<'_>) -> Result<()> {
        Ok(())
    }
}

/// Whether an operand is read as bytes, so that it needs no alignment by itself; its aliases may.
pub(crate) fn reads_bytes(op: &Op, operand: usize) -> bool {
    match op {
        Op::Select
        | Op::Pad(_)
        | Op::Gather(_)
        | Op::GatherElements { .. }
        | Op::GatherNd
        | Op::OneHot { .. }
        | Op::Triangle(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Broadcast(_)
        | Op::Concat { .. }
        | Op::Slice(_) => true,
        Op::ScatterNd(kind) => operand == 1 || copies(*kind),
        _ => false,
    }
}

/// Whether the result can be the operand's bytes under another shape, for some types.
pub(crate) fn may_alias(op: &Op) -> bool {
    use Op::{Broadcast, Cast, Concat, Reshape, Slice, Transpose};
    matches!(op, Reshape(_) | Cast(_) | Broadcast(_) | Concat { .. } | Transpose(_) | Slice(_))
}

fn copies(kind: mslite_graph_opt::ir::op::ScatterKind) -> bool {
    kind == mslite_graph_opt::ir::op::ScatterKind::Update
}

fn is_number(dtype: DType) -> bool {
    dtype.is_float() || dtype.is_int()
}

fn is_real(dtype: DType) -> bool {
    is_number(dtype) || dtype == DType::Bool
}

fn reduce_supports(kind: ReduceKind, dtype: DType) -> bool {
    match kind {
        ReduceKind::All | ReduceKind::Any => dtype == DType::Bool,
        ReduceKind::Mean => is_number(dtype),
        ReduceKind::Sum | ReduceKind::Max | ReduceKind::Min | ReduceKind::Prod => is_real(dtype),
        _ => false,
    }
}

fn unary_supports(f: Unary, dtype: DType) -> bool {
    match f {
        Unary::Not => dtype.is_int() || dtype == DType::Bool,
        _ if dtype.is_complex() => complex::unary_supports(f),
        Unary::SwapParts => false,
        _ if dtype.is_float() => true,
        _ => dtype.is_int() && unary::is_integral(f),
    }
}

fn binary_supports(f: Binary, dtype: DType) -> bool {
    use Binary::{Add, And, Atan2, Div, Maximum, Minimum, Mul, Or, Xor};
    match f {
        _ if dtype.is_complex() => complex::binary_supports(f),
        Div | Atan2 => dtype.is_float(),
        And | Or | Xor => dtype.is_int() || dtype == DType::Bool,
        Add | Mul | Maximum | Minimum => is_real(dtype),
        _ if f.is_comparison() => is_real(dtype),
        _ => is_number(dtype),
    }
}
