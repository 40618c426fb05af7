//! Losses.

use mslite_tensor::{DType, Dim};

use super::opaque;
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, Op, ReduceKind, Softmax, Unary};

/// The sum, the mean, or all of them, as the argument says.
fn reduced(call: &mut Call, losses: ValueId, position: usize) -> Result<ValueId> {
    let kind = match call.choice(position, "reduction", &["sum", "mean", "none"], 1)? {
        0 => ReduceKind::Sum,
        1 => ReduceKind::Mean,
        _ => return Ok(losses),
    };
    let axes = (0..call.emit.rank(losses)?).collect();
    call.emit.reduce(kind, losses, axes, false)
}

fn weighted(call: &mut Call, losses: ValueId, position: usize) -> Result<ValueId> {
    match call.tensor_of(position, "weight", call.emit.dtype(losses))? {
        Some(weight) => call.emit.binary(Binary::Mul, losses, weight),
        None => Ok(losses),
    }
}

/// `(input, target, reduction)`: squares of differences.
pub(in crate::import) fn squared(call: &mut Call) -> Result<ValueId> {
    let (x, y) = (call.tensor(0, "input")?, call.tensor(1, "target")?);
    let losses = call.emit.binary(Binary::SquaredDifference, x, y)?;
    reduced(call, losses, 2)
}

/// `(input, target, reduction)`: sizes of differences.
pub(in crate::import) fn absolute(call: &mut Call) -> Result<ValueId> {
    let (x, y) = (call.tensor(0, "input")?, call.tensor(1, "target")?);
    let apart = call.emit.binary(Binary::Sub, x, y)?;
    let losses = call.emit.unary(Unary::Abs, apart)?;
    reduced(call, losses, 2)
}

/// `sum(x^2) / 2`
pub(in crate::import) fn half_square(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input_x")?;
    let squares = call.emit.unary(Unary::Square, x)?;
    let axes = (0..call.emit.rank(x)?).collect();
    let sum = call.emit.reduce(ReduceKind::Sum, squares, axes, false)?;
    call.emit.with_scalar(Binary::Mul, sum, 0.5)
}

/// `(prediction, target, beta=1, reduction=none)`: half the square over beta of what is less than beta, else the size
/// less half beta.
pub(in crate::import) fn smooth(call: &mut Call) -> Result<ValueId> {
    let (x, y) = (call.tensor(0, "prediction")?, call.tensor(1, "target")?);
    let beta = match call.attribute("sigma") {
        Some(Item::Float(sigma)) => sigma,
        _ => call.float_or(2, "beta", 1.0)?,
    };
    let apart = call.emit.binary(Binary::Sub, x, y)?;
    let size = call.emit.unary(Unary::Abs, apart)?;
    let square = call.emit.unary(Unary::Square, apart)?;
    let square = call.emit.with_scalar(Binary::Mul, square, 0.5 / beta)?;
    let linear = call.emit.with_scalar(Binary::Sub, size, 0.5 * beta)?;
    let is_small = call.emit.with_scalar(Binary::Less, size, beta)?;
    let losses = call.emit.select(is_small, square, linear)?;
    match call.arg(3, "reduction") {
        Some(_) => reduced(call, losses, 3),
        None => Ok(losses),
    }
}

/// `(input, target, reduction)`: `log(1 + exp(-x y))`
pub(in crate::import) fn soft_margin(call: &mut Call) -> Result<ValueId> {
    let (x, y) = (call.tensor(0, "input")?, call.tensor(1, "target")?);
    let product = call.emit.binary(Binary::Mul, x, y)?;
    let product = call.emit.unary(Unary::Neg, product)?;
    let losses = call.emit.unary(Unary::Softplus, product)?;
    reduced(call, losses, 2)
}

/// `(input, target, weight=None, reduction)` of probabilities.
pub(in crate::import) fn binary_cross_entropy(call: &mut Call) -> Result<ValueId> {
    let (x, y) = (call.tensor(0, "input")?, call.tensor(1, "target")?);
    let one = call.emit.scalar(1.0, call.emit.dtype(x))?;
    let (rest, other) = (call.emit.binary(Binary::Sub, one, x)?, call.emit.binary(Binary::Sub, one, y)?);
    let mut terms = Vec::new();
    for (probability, share) in [(x, y), (rest, other)] {
        let moved = call.emit.with_scalar(Binary::Add, probability, 1e-12)?;
        let log = call.emit.unary(Unary::Log, moved)?;
        terms.push(call.emit.binary(Binary::Mul, share, log)?);
    }
    let sum = call.emit.binary(Binary::Add, terms[0], terms[1])?;
    let losses = call.emit.unary(Unary::Neg, sum)?;
    let losses = weighted(call, losses, 2)?;
    reduced(call, losses, 3)
}

/// `(input, target, weight=None, posWeight=None, reduction)` of logits.
pub(in crate::import) fn with_logits(call: &mut Call) -> Result<ValueId> {
    let (x, y) = (call.tensor(0, "input")?, call.tensor(1, "target")?);
    let dtype = call.emit.dtype(x);
    let one = call.emit.scalar(1.0, dtype)?;
    let negative = call.emit.unary(Unary::Neg, x)?;
    let mut log = call.emit.unary(Unary::Softplus, negative)?;
    if let Some(weight) = call.tensor_of(3, "posWeight", dtype)? {
        let more = call.emit.binary(Binary::Sub, weight, one)?;
        let more = call.emit.binary(Binary::Mul, more, y)?;
        let factor = call.emit.binary(Binary::Add, more, one)?;
        log = call.emit.binary(Binary::Mul, log, factor)?;
    }
    let other = call.emit.binary(Binary::Sub, one, y)?;
    let linear = call.emit.binary(Binary::Mul, other, x)?;
    let losses = call.emit.binary(Binary::Add, linear, log)?;
    let losses = weighted(call, losses, 2)?;
    reduced(call, losses, 4)
}

/// `(logits, label)`: `max(x, 0) - x y + log(1 + exp(-|x|))`
pub(in crate::import) fn sigmoid_cross_entropy(call: &mut Call) -> Result<ValueId> {
    let (x, y) = (call.tensor(0, "predict")?, call.tensor(1, "target")?);
    let soft = call.emit.unary(Unary::Softplus, x)?;
    let product = call.emit.binary(Binary::Mul, x, y)?;
    call.emit.binary(Binary::Sub, soft, product)
}

/// `(input, target, reduction, log_target=False)`: `y (log y - x)`, 0 where y is 0.
pub(in crate::import) fn divergence(call: &mut Call) -> Result<ValueId> {
    let (x, y) = (call.tensor(0, "input")?, call.tensor(1, "target")?);
    let is_log = call.flag(3, "log_target")?;
    let losses = match is_log {
        true => {
            let (apart, share) = (call.emit.binary(Binary::Sub, y, x)?, call.emit.unary(Unary::Exp, y)?);
            call.emit.binary(Binary::Mul, share, apart)?
        }
        false => {
            let log = call.emit.unary(Unary::Log, y)?;
            let apart = call.emit.binary(Binary::Sub, log, x)?;
            let losses = call.emit.binary(Binary::Mul, y, apart)?;
            let zero = call.emit.scalar(0.0, call.emit.dtype(losses))?;
            let is_positive = call.emit.with_scalar(Binary::Greater, y, 0.0)?;
            call.emit.select(is_positive, losses, zero)?
        }
    };
    match call.arg(2, "reduction") {
        Some(Item::Text(kind)) if &*kind == "batchmean" => {
            let axes = (0..call.emit.rank(losses)?).collect();
            let sum = call.emit.reduce(ReduceKind::Sum, losses, axes, false)?;
            let batch = call.emit.dims(x)?.first().cloned().unwrap_or(Dim::from(1));
            let batch = call.emit.dim(&batch, call.emit.dtype(sum))?;
            call.emit.binary(Binary::Div, sum, batch)
        }
        _ => reduced(call, losses, 2),
    }
}

/// `(logits [n, classes], labels [n, classes]) -> (loss [n], gradient)`
pub(in crate::import) fn softmax_cross_entropy(call: &mut Call) -> Result<Item> {
    let (x, y) = (call.tensor(0, "logits")?, call.tensor(1, "labels")?);
    let axis = call.emit.axis(-1, call.emit.rank(x)?)?;
    let log = call.emit.op(Op::Softmax(Softmax { axis, log: true }), &[x])?;
    let terms = call.emit.binary(Binary::Mul, y, log)?;
    let sum = call.emit.reduce(ReduceKind::Sum, terms, vec![axis], false)?;
    let loss = call.emit.unary(Unary::Neg, sum)?;
    let softmax = call.emit.op(Op::Softmax(Softmax { axis, log: false }), &[x])?;
    let gradient = call.emit.binary(Binary::Sub, softmax, y)?;
    Ok(Item::tensors([loss, gradient]))
}

/// `(logits [n, classes], labels [n])`: the logarithm of the softmax at the labels, negative, and the softmax less 1 there.
fn sparse(call: &mut Call) -> Result<(ValueId, ValueId)> {
    let (x, labels) = (call.tensor(0, "features")?, call.tensor(1, "labels")?);
    let dims = call.emit.dims(x)?;
    let axis = call.emit.axis(-1, dims.len())?;
    let log = call.emit.op(Op::Softmax(Softmax { axis, log: true }), &[x])?;
    let at = super::index::rows(call, labels)?;
    let chosen = call.emit.op(Op::GatherElements { axis }, &[log, at])?;
    let chosen = call.emit.reshape(chosen, dims[..axis].to_vec())?;
    let loss = call.emit.unary(Unary::Neg, chosen)?;
    let softmax = call.emit.op(Op::Softmax(Softmax { axis, log: false }), &[x])?;
    let (on, off) = (call.emit.scalar(1.0, call.emit.dtype(x))?, call.emit.scalar(0.0, call.emit.dtype(x))?);
    let one_hot = Op::OneHot { depth: dims[axis].clone(), axis };
    let one_hot = call.emit.op(one_hot, &[labels, on, off])?;
    Ok((loss, call.emit.binary(Binary::Sub, softmax, one_hot)?))
}

/// The mean loss, or the gradient of it.
pub(in crate::import) fn sparse_cross_entropy(call: &mut Call) -> Result<ValueId> {
    let (loss, gradient) = sparse(call)?;
    if call.flag(ATTRIBUTE, "is_grad")? {
        let count = call.emit.dims(loss)?.first().cloned().unwrap_or(Dim::from(1));
        let count = call.emit.dim(&count, call.emit.dtype(gradient))?;
        return call.emit.binary(Binary::Div, gradient, count);
    }
    call.emit.reduce(ReduceKind::Mean, loss, vec![0], false)
}

/// `-> (losses, gradients)`
pub(in crate::import) fn sparse_cross_entropy_v2(call: &mut Call) -> Result<Item> {
    let (loss, gradient) = sparse(call)?;
    Ok(Item::tensors([loss, gradient]))
}

/// `(log probabilities [n, classes, ..], labels [n, ..], weight=None, reduction, ignore_index=-100)
/// -> (loss, total weight)`
pub(in crate::import) fn negative_log_likelihood(call: &mut Call) -> Result<Item> {
    let (x, labels) = (call.tensor(0, "logits")?, call.tensor(1, "labels")?);
    let ignored = call.int_or(4, "ignore_index", -100)?;
    let kind = call.choice(3, "reduction", &["sum", "mean", "none"], 1)?;
    let axis = if call.emit.rank(x)? > 1 { 1 } else { 0 };
    let weight = call.tensor_of(2, "weight", call.emit.dtype(x))?;
    let (losses, weights) = picked(call, x, labels, axis, weight, ignored)?;
    let axes: Vec<usize> = (0..call.emit.rank(losses)?).collect();
    let total = call.emit.reduce(ReduceKind::Sum, weights, axes.clone(), false)?;
    let loss = match kind {
        2 => losses,
        _ => call.emit.reduce(ReduceKind::Sum, losses, axes, false)?,
    };
    let loss = if kind == 1 { call.emit.binary(Binary::Div, loss, total)? } else { loss };
    Ok(Item::tensors([loss, total]))
}

/// The negative elements at the labels times their weights, and these weights; both 0 where a label is ignored.
fn picked(
    call: &mut Call,
    x: ValueId,
    labels: ValueId,
    axis: usize,
    weight: Option<ValueId>,
    ignored: i64,
) -> Result<(ValueId, ValueId)> {
    let dtype = call.emit.dtype(x);
    let labels = call.emit.cast(labels, DType::I64)?;
    let keeps = call.emit.with_scalar(Binary::NotEqual, labels, ignored as f64)?;
    let zero = call.emit.int_scalar(0, DType::I64)?;
    let labels = call.emit.select(keeps, labels, zero)?;
    let dims = call.emit.dims(labels)?;
    let mut apart = dims.clone();
    apart.insert(axis.min(dims.len()), Dim::from(1));
    let at = call.emit.reshape(labels, apart)?;
    let chosen = call.emit.op(Op::GatherElements { axis }, &[x, at])?;
    let chosen = call.emit.reshape(chosen, dims.clone())?;
    let keeps = call.emit.cast(keeps, dtype)?;
    let weights = match weight {
        Some(weight) => {
            let op = Op::Gather(crate::ir::op::Gather { axis: 0, batch_dims: 0 });
            let weights = call.emit.op(op, &[weight, labels])?;
            call.emit.binary(Binary::Mul, weights, keeps)?
        }
        None => keeps,
    };
    let losses = call.emit.binary(Binary::Mul, chosen, weights)?;
    Ok((call.emit.unary(Unary::Neg, losses)?, weights))
}

/// `(input [n, classes, ..], target, weight=None, reduction, ignore_index=-100, label_smoothing=0, ..)
/// -> (loss, log probabilities, ..)` for targets that are labels.
pub(in crate::import) fn cross_entropy(call: &mut Call) -> Result<Item> {
    let (x, target) = (call.tensor(0, "input")?, call.tensor(1, "target")?);
    let is_plain = call.float_or(5, "label_smoothing", 0.0)? == 0.0
        && call.float_or(6, "lse_square_scale_for_zloss", 0.0)? == 0.0
        && !call.flag(7, "return_zloss")?;
    if !is_plain || !call.emit.dtype(target).is_int() {
        return opaque::lower(call);
    }
    let axis = if call.emit.rank(x)? > 1 { 1 } else { 0 };
    let log = call.emit.op(Op::Softmax(Softmax { axis, log: true }), &[x])?;
    call.args[0] = Item::Tensor(log);
    let Item::Tuple(results) = negative_log_likelihood(call)? else {
        return Err(call.invalid("it has no loss"));
    };
    Ok(Item::tuple([results[0].clone(), Item::Tensor(log), Item::UNMADE, Item::UNMADE]))
}

/// `(input1, input2, target, margin=0, reduction)`: the cosine of rows, less 1 where the target is 1, above the margin
/// where it is -1.
pub(in crate::import) fn cosine_embedding(call: &mut Call) -> Result<ValueId> {
    let (a, b) = (call.tensor(0, "input1")?, call.tensor(1, "input2")?);
    let target = call.tensor(2, "target")?;
    let margin = call.float_or(3, "margin", 0.0)?;
    let axis = call.emit.axis(-1, call.emit.rank(a)?)?;
    let dot = |call: &mut Call, a: ValueId, b: ValueId| {
        let product = call.emit.binary(Binary::Mul, a, b)?;
        call.emit.reduce(ReduceKind::Sum, product, vec![axis], false)
    };
    let (ab, aa, bb) = (dot(call, a, b)?, dot(call, a, a)?, dot(call, b, b)?);
    let (aa, bb) =
        (call.emit.with_scalar(Binary::Add, aa, 1e-12)?, call.emit.with_scalar(Binary::Add, bb, 1e-12)?);
    let sizes = call.emit.binary(Binary::Mul, aa, bb)?;
    let sizes = call.emit.unary(Unary::Sqrt, sizes)?;
    let cosine = call.emit.binary(Binary::Div, ab, sizes)?;
    let dtype = call.emit.dtype(cosine);
    let (one, zero) = (call.emit.scalar(1.0, dtype)?, call.emit.scalar(0.0, dtype)?);
    let near = call.emit.binary(Binary::Sub, one, cosine)?;
    let far = call.emit.with_scalar(Binary::Sub, cosine, margin)?;
    let far = call.emit.unary(Unary::Relu, far)?;
    let is_near = call.emit.with_scalar(Binary::Equal, target, 1.0)?;
    let is_far = call.emit.with_scalar(Binary::Equal, target, -1.0)?;
    let rest = call.emit.select(is_far, far, zero)?;
    let losses = call.emit.select(is_near, near, rest)?;
    reduced(call, losses, 4)
}
