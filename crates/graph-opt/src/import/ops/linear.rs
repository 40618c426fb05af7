use mslite_tensor::Dim;

use super::elementwise::activated;
use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::product;
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, MatMul, Op};

/// `(input, mat2, transpose_a=False, transpose_b=False)`
pub(in crate::import) fn matmul(call: &mut Call) -> Result<ValueId> {
    let (x, y) = (call.tensor(0, "input")?, call.tensor(1, "mat2")?);
    let transpose_a = transposes(call, 2, ["transpose_a", "transpose_x1", "adj_x1"])?;
    let transpose_b = transposes(call, 3, ["transpose_b", "transpose_x2", "adj_x2"])?;
    call.emit.matmul(MatMul { transpose_a, transpose_b, ..MatMul::default() }, x, y)
}

fn transposes(call: &mut Call, position: usize, names: [&str; 3]) -> Result<bool> {
    for name in names {
        if call.flag(position, name)? {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(in crate::import) fn matmul_ext(call: &mut Call) -> Result<ValueId> {
    let (x, y) = (call.tensor(0, "input")?, call.tensor(1, "other")?);
    call.emit.matmul(MatMul::default(), x, y)
}

/// `input @ weight^T + bias`
pub(in crate::import) fn dense(call: &mut Call) -> Result<ValueId> {
    let (x, weight) = (call.tensor(0, "input")?, call.tensor(1, "weight")?);
    let bias = call.tensor_opt(2, "bias")?;
    let transpose_b = call.emit.rank(weight)? > 1;
    let op = Op::MatMul(MatMul { transpose_b, ..MatMul::default() });
    match bias {
        Some(bias) if transpose_b => call.emit.op(op, &[x, weight, bias]),
        Some(bias) => {
            let y = call.emit.op(op, &[x, weight])?;
            call.emit.binary(Binary::Add, y, bias)
        }
        None => call.emit.op(op, &[x, weight]),
    }
}

/// `(input_x, bias, data_format='NCHW')`
pub(in crate::import) fn bias_add(call: &mut Call) -> Result<ValueId> {
    let (x, bias) = (call.tensor(0, "input_x")?, call.tensor(1, "bias")?);
    let channels_last = is_channels_last(call, 2, "data_format")?;
    let rank = call.emit.rank(x)?;
    let bias = if channels_last { bias } else { along_channels(call, bias, rank)? };
    call.emit.binary(Binary::Add, x, bias)
}

/// Whether a format, given by name or number, has the channels last.
pub(super) fn is_channels_last(call: &mut Call, position: usize, name: &str) -> Result<bool> {
    match call.arg(position, name) {
        Some(Item::Text(format)) => Ok(matches!(&*format, "NHWC" | "NDHWC" | "NWC" | "NLC")),
        Some(_) => Ok(matches!(call.required_int(position, name)?, 1 | 17)),
        None => Ok(false),
    }
}

/// A vector of one number per channel, shaped to broadcast against axis 1 of a tensor of this rank.
pub(super) fn along_channels(call: &mut Call, x: ValueId, rank: usize) -> Result<ValueId> {
    let mut dims = vec![product(&call.emit.dims(x)?)];
    dims.resize(rank.saturating_sub(1).max(1), Dim::from(1));
    call.emit.reshape(x, dims)
}

/// `(x, w, [bias])` with an activation, from the Lite converter.
pub(in crate::import) fn matmul_fusion(call: &mut Call) -> Result<ValueId> {
    let (x, weight) = (call.tensor(0, "x")?, call.tensor(1, "w")?);
    let bias = call.tensor_opt(2, "bias")?;
    let transpose_a = call.flag(ATTRIBUTE, "transpose_a")?;
    let transpose_b = call.flag(ATTRIBUTE, "transpose_b")?;
    let y =
        call.emit.op(Op::MatMul(MatMul { transpose_a, transpose_b, ..MatMul::default() }), &[x, weight])?;
    biased(call, y, bias)
}

/// `x`, flattened to two axes, times `w^T`, from the Lite converter.
pub(in crate::import) fn full_connection(call: &mut Call) -> Result<ValueId> {
    let (x, weight) = (call.tensor(0, "x")?, call.tensor(1, "w")?);
    let bias = call.tensor_opt(2, "bias")?;
    let dims = call.emit.dims(x)?;
    let at = if call.flag(ATTRIBUTE, "use_axis")? { call.axis(ATTRIBUTE, "axis", 1, dims.len())? } else { 1 };
    let at = at.min(dims.len());
    let x = call.emit.reshape(x, vec![product(&dims[..at]), product(&dims[at..])])?;
    let y = call.emit.op(Op::MatMul(MatMul { transpose_b: true, ..MatMul::default() }), &[x, weight])?;
    biased(call, y, bias)
}

fn biased(call: &mut Call, y: ValueId, bias: Option<ValueId>) -> Result<ValueId> {
    let y = match bias {
        Some(bias) => call.emit.binary(Binary::Add, y, bias)?,
        None => y,
    };
    activated(call, y)
}

/// `beta * input + alpha * (a @ b)`
pub(in crate::import) fn addmm(call: &mut Call) -> Result<ValueId> {
    let mut input = call.tensor(0, "input")?;
    let (a, b) = (call.tensor(1, "mat1")?, call.tensor(2, "mat2")?);
    let (beta, alpha) = (call.float_or(3, "beta", 1.0)?, call.float_or(4, "alpha", 1.0)?);
    let mut product = call.emit.op(Op::MatMul(MatMul::default()), &[a, b])?;
    if alpha != 1.0 {
        product = call.emit.with_scalar(Binary::Mul, product, alpha)?;
    }
    if beta != 1.0 {
        input = call.emit.with_scalar(Binary::Mul, input, beta)?;
    }
    call.emit.binary(Binary::Add, input, product)
}
