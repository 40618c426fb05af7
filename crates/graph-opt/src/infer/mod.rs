//! Types of results from operations and their operands. The rules are those of MindSpore, read from its exports;
//! extents may be symbolic, and an operand of unknown rank makes results of unknown rank.

mod attention;
mod control;
mod elementwise;
mod layout;
mod linear;

pub use elementwise::broadcast;
use mslite_collective::CollectiveKind;
use mslite_tensor::{DType, Dim, Shape, TensorSpec};

use crate::ir::op::{Collective, Distribution, Op, Random};

/// A rule's answer: the types of the results, or what is wrong.
pub type Inferred<T = Vec<TensorSpec>> = Result<T, String>;

/// The types of an operation's results.
///
/// # Errors
/// A sentence that says why the operands do not fit.
pub fn infer(op: &Op, operands: &[&TensorSpec]) -> Inferred {
    let results = infer_op(op, operands)?;
    let negative = |spec: &&TensorSpec| {
        spec.shape.dims().is_some_and(|dims| dims.iter().any(|d| d.as_fixed().is_some_and(|n| n < 0)))
    };
    match results.iter().find(negative) {
        Some(result) => Err(format!("the result {result} has a negative extent")),
        None => Ok(results),
    }
}

/// As [`infer`], with an error that names the node.
pub(crate) fn infer_node(op: &Op, operands: &[&TensorSpec], origin: &str) -> crate::Result<Vec<TensorSpec>> {
    infer(op, operands).map_err(|reason| crate::Error::Infer {
        op: op.name().to_owned(),
        origin: origin.to_owned(),
        operands: operands.iter().map(|spec| spec.to_string()).collect::<Vec<_>>().join(", "),
        reason,
    })
}

fn infer_op(op: &Op, operands: &[&TensorSpec]) -> Inferred {
    use layout as l;
    let one = |spec: Inferred<TensorSpec>| spec.map(|spec| vec![spec]);
    match op {
        Op::Unary(f) => one(elementwise::unary(*f, unary(operands)?)),
        Op::Binary(f) => one(elementwise::binary(*f, exactly(operands)?)),
        Op::Select => one(elementwise::select(exactly(operands)?)),
        Op::Cast(dtype) => one(Ok(TensorSpec::new(*dtype, unary(operands)?.shape.clone()))),
        Op::Reduce(reduce) => one(linear::reduce(reduce, unary(operands)?)),
        Op::ArgReduce(reduce) => one(linear::arg_reduce(reduce, unary(operands)?)),
        Op::Cumulative(cumulative) => one(same(unary(operands)?, cumulative.axis)),
        Op::Softmax(softmax) => one(float(unary(operands)?).and_then(|x| same(x, softmax.axis))),
        Op::LayerNorm(norm) => one(linear::layer_norm(norm, operands)),
        Op::RmsNorm(norm) => one(linear::rms_norm(norm, exactly(operands)?)),
        Op::AddNorm(norm) => linear::add_norm(norm, operands),
        Op::Gated(f) => one(elementwise::gated(*f, unary(operands)?)),
        Op::Rope => one(attention::rope(exactly(operands)?)),
        Op::Attention(op) => one(attention::attention(op, operands)),
        Op::MatMul(matmul) => one(linear::matmul(matmul, operands)),
        Op::Conv2d(conv) => one(linear::conv2d(conv, operands)),
        Op::Pool2d(pool) => one(linear::pool2d(pool, unary(operands)?)),
        Op::Reshape(dims) => one(l::reshape(dims, unary(operands)?)),
        Op::Transpose(perm) => one(l::transpose(perm, unary(operands)?)),
        Op::Broadcast(dims) => one(l::broadcast_to(dims, unary(operands)?)),
        Op::Concat { axis } => one(l::concat(*axis, operands)),
        Op::Slice(slice) => one(l::slice(slice, unary(operands)?)),
        Op::Pad(pad) => one(l::pad(pad, operands)),
        Op::Gather(gather) => one(l::gather(gather, exactly(operands)?)),
        Op::GatherElements { axis } => one(l::gather_elements(*axis, exactly(operands)?)),
        Op::GatherNd => one(l::gather_nd(exactly(operands)?)),
        Op::ScatterNd(_) => one(l::scatter_nd(exactly(operands)?)),
        Op::OneHot { depth, axis } => one(l::one_hot(depth, *axis, exactly(operands)?)),
        Op::TopK(top_k) => l::top_k(top_k, unary(operands)?),
        Op::Triangle(_) => one(l::triangle(unary(operands)?)),
        Op::Extents(dims) => {
            exactly::<0>(operands)?;
            one(Ok(TensorSpec::fixed(DType::I64, &[dims.len()])))
        }
        Op::Bind(symbols) => bind(symbols.len(), unary(operands)?),
        Op::Random(op) => random(op, operands),
        Op::Collective(collective) => exchange(collective, operands),
        Op::If(branch) => control::branch(branch, operands),
        Op::Loop(turns) => control::turns(turns, operands),
        Op::Opaque(opaque) => Ok(opaque.results.clone()),
    }
}

fn bind(count: usize, x: &TensorSpec) -> Inferred {
    let expected = TensorSpec::fixed(DType::I64, &[count]);
    if *x == expected { Ok(Vec::new()) } else { Err(format!("it takes {expected}, not {x}")) }
}

fn random(op: &Random, operands: &[&TensorSpec]) -> Inferred {
    let state = match (op.distribution, operands) {
        (Distribution::Integers, [state, low, high]) => {
            let bound = TensorSpec::fixed(DType::I32, &[]);
            if **low != bound || **high != bound {
                return Err(format!("its bounds must be {bound}, not {low} and {high}"));
            }
            state
        }
        (Distribution::Normal | Distribution::Uniform | Distribution::FineUniform, [state]) => state,
        _ => return Err(format!("it does not take {} operands", operands.len())),
    };
    let expected = TensorSpec::fixed(DType::U32, &[op.distribution.words()]);
    if **state != expected {
        return Err(format!("its state must be {expected}, not {state}"));
    }
    Ok(vec![TensorSpec::new(op.distribution.dtype(), Shape::ranked(op.dims.clone())), expected])
}

fn exchange(collective: &Collective, operands: &[&TensorSpec]) -> Inferred {
    if operands.len() != collective.arity().0 {
        return Err(format!("it takes {} operands, not {}", collective.arity().0, operands.len()));
    }
    let resized = |scale: fn(&Dim, &Dim) -> Inferred<Dim>| -> Inferred {
        let x = operands[0];
        let size = collective.size.filter(|&n| n > 0).ok_or("the size of the group is not known")?;
        let Some(dims) = x.shape.dims() else { return Ok(vec![x.clone()]) };
        let mut dims = dims.to_vec();
        let first = dims.first_mut().ok_or("a tensor of rank 0 has no blocks")?;
        *first = scale(first, &Dim::from(size))?;
        Ok(vec![TensorSpec::new(x.dtype, Shape::ranked(dims))])
    };
    let divided = |dim: &Dim, size: &Dim| match (dim.as_fixed(), size.as_fixed()) {
        (Some(n), Some(s)) if n % s != 0 => Err(format!("{n} rows cannot be divided among {s} ranks")),
        _ => Ok(dim.floor_div(size)),
    };
    match collective.op.kind {
        CollectiveKind::AllGather | CollectiveKind::Gather { .. } => resized(|dim, size| Ok(dim * size)),
        CollectiveKind::ReduceScatter(_) | CollectiveKind::Scatter { .. } => resized(divided),
        CollectiveKind::AllToAll => {
            resized(divided)?;
            Ok(vec![operands[0].clone()])
        }
        CollectiveKind::Send { .. } | CollectiveKind::Barrier => Ok(Vec::new()),
        CollectiveKind::Receive { .. } => collective
            .receives
            .clone()
            .map(|spec| vec![spec])
            .ok_or_else(|| "its type is not known".to_owned()),
        _ => Ok(vec![operands[0].clone()]),
    }
}

fn exactly<'a, const N: usize>(operands: &[&'a TensorSpec]) -> Inferred<[&'a TensorSpec; N]> {
    <[&TensorSpec; N]>::try_from(operands)
        .map_err(|_| format!("it takes {N} operands, not {}", operands.len()))
}

fn unary<'a>(operands: &[&'a TensorSpec]) -> Inferred<&'a TensorSpec> {
    exactly::<1>(operands).map(|[x]| x)
}

fn same(x: &TensorSpec, axis: usize) -> Inferred<TensorSpec> {
    check_axis(x, axis)?;
    Ok(x.clone())
}

fn float(x: &TensorSpec) -> Inferred<&TensorSpec> {
    if x.dtype.is_float() { Ok(x) } else { Err(format!("it needs a float, not {}", x.dtype)) }
}

fn check_axis(x: &TensorSpec, axis: usize) -> Inferred<()> {
    match x.shape.rank() {
        Some(rank) if axis >= rank => Err(format!("axis {axis} is outside {x}")),
        _ => Ok(()),
    }
}

fn same_dtype(x: &TensorSpec, y: &TensorSpec) -> Inferred<()> {
    if x.dtype == y.dtype { Ok(()) } else { Err(format!("{} and {} differ in type", x.dtype, y.dtype)) }
}

fn unranked(dtype: DType) -> TensorSpec {
    TensorSpec::new(dtype, Shape::UNRANKED)
}

/// Whether two extents may be the same number.
fn may_equal(a: &Dim, b: &Dim) -> bool {
    match (a.as_fixed(), b.as_fixed()) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}
