use mslite_mindir::{Symbol, Type};
use mslite_tensor::{DType, Dim, Shape, TensorSpec};

use crate::Result;
use crate::export::writer::{Arg, Item, Writer, tensor_type};
use crate::ir::op::{AddNorm, Binary, Norm, Op, Reduce, ReduceKind, Unary};

/// The primitive takes scale and shift of the normalised shape; others follow it.
pub(in crate::export) fn layer_norm(
    w: &mut Writer,
    op: &Norm,
    x: &[Item],
    spec: &TensorSpec,
) -> Result<Item> {
    let dims = w.dims(&x[0])?;
    let normalised = dims[op.axis..].to_vec();
    if let [x, gamma, beta] = x {
        let fits = |item: &Item| item.spec.shape.dims() == Some(&normalised);
        if fits(gamma) && fits(beta) {
            return Ok(primitive(w, op, [x, gamma, beta], spec));
        }
        let plain = w.op(Op::LayerNorm(op.clone()), &[x])?;
        let scaled = w.binary(Binary::Mul, &plain, gamma)?;
        return w.binary(Binary::Add, &scaled, beta);
    }
    let gamma = filled(w, 1.0, &x[0], &normalised)?;
    let beta = filled(w, 0.0, &x[0], &normalised)?;
    Ok(primitive(w, op, [&x[0], &gamma, &beta], spec))
}

fn filled(w: &mut Writer, value: f64, x: &Item, dims: &[Dim]) -> Result<Item> {
    let value = w.scalar(value, x.spec.dtype)?;
    w.op(Op::Broadcast(dims.to_vec()), &[&value])
}

fn primitive(w: &mut Writer, op: &Norm, [x, gamma, beta]: [&Item; 3], spec: &TensorSpec) -> Item {
    let axis = op.axis as i64;
    let mut args: Vec<Arg> = vec![x.into(), gamma.into(), beta.into(), axis.into(), axis.into()];
    args.push((op.epsilon as f32).into());
    let statistics = statistics(spec, op.axis);
    let ty = Type::tuple(vec![tensor_type(spec), statistics.clone(), statistics]);
    let primitive = w.of_function("LayerNorm");
    let tuple = w.call(&primitive, &args, Some(ty));
    Item { symbol: w.element(&tuple, 0, tensor_type(spec)), spec: spec.clone() }
}

/// The type of mean and variance.
fn statistics(spec: &TensorSpec, axis: usize) -> Type {
    let dims = spec.shape.dims().unwrap_or_default().iter().enumerate();
    let dims = dims.map(|(i, dim)| if i < axis { dim.clone() } else { Dim::from(1) });
    tensor_type(&TensorSpec::new(DType::F32, Shape::ranked(dims)))
}

/// `x / sqrt(mean(x * x) + epsilon) * gamma`, the quotient in f32.
pub(in crate::export) fn rms_norm(w: &mut Writer, op: &Norm, x: &Item, gamma: &Item) -> Result<Item> {
    let dtype = x.spec.dtype;
    let wide = w.cast(x, if dtype == DType::F64 { dtype } else { DType::F32 })?;
    let rank = w.dims(x)?.len();
    let squares = w.op(Op::Unary(Unary::Square), &[&wide])?;
    let mean = Reduce { kind: ReduceKind::Mean, axes: (op.axis..rank).collect(), keep_dims: true };
    let mean = w.op(Op::Reduce(mean), &[&squares])?;
    let moved = w.with_scalar(Binary::Add, &mean, op.epsilon)?;
    let root = w.op(Op::Unary(Unary::Rsqrt), &[&moved])?;
    let quotient = w.binary(Binary::Mul, &wide, &root)?;
    if dtype == DType::BF16 {
        let gamma = w.cast(gamma, DType::F32)?;
        let y = w.binary(Binary::Mul, &quotient, &gamma)?;
        return w.cast(&y, dtype);
    }
    let quotient = w.cast(&quotient, dtype)?;
    w.binary(Binary::Mul, &quotient, gamma)
}

/// The sums, and the normalisation of the last one.
pub(in crate::export) fn add_norm(w: &mut Writer, op: &AddNorm, x: &[Item]) -> Result<Vec<Option<Symbol>>> {
    let weights = if op.centred { 2 } else { 1 };
    let (terms, weights) = x.split_at(x.len() - weights);
    let mut sum = w.cast(&terms[0], weights[0].spec.dtype)?;
    for term in &terms[1..] {
        sum = w.binary(Binary::Add, &sum, term)?;
    }
    let norm = Norm { axis: op.axis, epsilon: op.epsilon };
    let norm = if op.centred { Op::LayerNorm(norm) } else { Op::RmsNorm(norm) };
    let operands: Vec<&Item> = std::iter::once(&sum).chain(weights).collect();
    let y = w.op(norm, &operands)?;
    let mut results = vec![Some(y.symbol)];
    if op.sum {
        results.push(Some(sum.symbol));
    }
    Ok(results)
}
