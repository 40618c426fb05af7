//! Complex numbers and Fourier transforms.

use mslite_tensor::{DType, Dim, Tensor};

use super::opaque;
use crate::Result;
use crate::import::call::Call;
use crate::import::emit::Emitter;
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{Binary, MatMul, Op, Pad, PadMode, Unary};

/// `(real, imag)`
pub(in crate::import) fn complex(call: &mut Call) -> Result<ValueId> {
    let (real, imaginary) = (call.tensor(0, "real")?, call.tensor(1, "imag")?);
    call.emit.complex(real, imaginary)
}

/// `(abs, angle)`
pub(in crate::import) fn polar(call: &mut Call) -> Result<ValueId> {
    let (size, angle) = (call.tensor(0, "abs")?, call.tensor(1, "angle")?);
    call.emit.polar(size, angle)
}

/// The real part, which is all that there is of a real number.
pub(in crate::import) fn real_part(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    if call.emit.dtype(x).is_complex() { call.emit.real_part(x) } else { Ok(x) }
}

/// The imaginary part; of a real number it is 0.
pub(in crate::import) fn imaginary_part(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    if call.emit.dtype(x).is_complex() {
        return call.emit.imaginary_part(x);
    }
    let (dims, zero) = (call.emit.dims(x)?, call.emit.scalar(0.0, call.emit.dtype(x))?);
    call.emit.broadcast(zero, dims)
}

pub(in crate::import) fn conjugate(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    conjugated(call.emit, x)
}

pub(super) fn conjugated(emit: &mut Emitter, x: ValueId) -> Result<ValueId> {
    if !emit.dtype(x).is_complex() {
        return Ok(x);
    }
    let (real, imaginary) = (emit.real_part(x)?, emit.imaginary_part(x)?);
    let imaginary = emit.unary(Unary::Neg, imaginary)?;
    emit.complex(real, imaginary)
}

/// `(x, perm)`
pub(in crate::import) fn conjugate_transpose(call: &mut Call) -> Result<ValueId> {
    let y = super::shape::transpose(call)?;
    conjugated(call.emit, y)
}

/// The distance from 0, which is real.
pub(in crate::import) fn size(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    call.emit.unary(Unary::Abs, x)
}

/// The direction from 0 in radians.
pub(in crate::import) fn angle(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input")?;
    if call.emit.dtype(x).is_complex() {
        return call.emit.angle(x);
    }
    let x = super::arith::real(call, x)?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    call.emit.binary(Binary::Atan2, zero, x)
}

/// Longest transform that is computed as a product of matrices.
const MAX_LENGTH: i64 = 4096;

/// What a transform takes and gives.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// Complex to complex.
    Full,
    /// Real to the first half of what is symmetric.
    FromReal,
    /// The first half of what is symmetric to real.
    ToReal,
}

/// One transform: `exp(sign * 2 pi i j k / n)`, along some axes.
struct Transform {
    sign: f64,
    form: Form,
    /// Which of the normalisations backward, forward, ortho divides: by n, by 1, or by its root.
    divides: [f64; 3],
}

/// The transforms by the name of their primitives, without the number of axes.
fn transform(op_type: &str) -> Transform {
    let inverse = op_type.starts_with('I');
    let name = op_type.trim_start_matches('I').trim_end_matches(['2', 'N']);
    let backward = [0.0, 1.0, 0.5];
    let forward = [1.0, 0.0, 0.5];
    let (sign, form, divides) = match (name, inverse) {
        ("RFFT", false) => (-1.0, Form::FromReal, backward),
        ("RFFT", true) => (1.0, Form::ToReal, forward),
        // The transform of what is symmetric is real: that of a signal is the inverse one of its conjugate.
        ("HFFT", false) => (-1.0, Form::ToReal, backward),
        ("HFFT", true) => (1.0, Form::FromReal, forward),
        (_, false) => (-1.0, Form::Full, backward),
        (_, true) => (1.0, Form::Full, forward),
    };
    Transform { sign, form, divides }
}

/// `(input, n=None, dim=-1, norm=None)` along one axis, `(input, s=None, dim=(-2, -1) or all, norm=None)` along several.
pub(in crate::import) fn fourier(call: &mut Call) -> Result<Item> {
    let x = call.tensor(0, "input")?;
    let dims = call.emit.dims(x)?;
    let sizes = call.ints(1, "n")?;
    let axes: Vec<usize> = match call.ints(2, "dim")? {
        Some(axes) => axes.into_iter().map(|axis| call.emit.axis(axis, dims.len())).collect::<Result<_>>()?,
        None if call.op_type.ends_with('N') => {
            let count = sizes.as_ref().map_or(dims.len(), Vec::len);
            (dims.len().saturating_sub(count)..dims.len()).collect()
        }
        None => {
            let count = if call.op_type.ends_with('2') { 2 } else { 1 };
            (dims.len().saturating_sub(count)..dims.len()).collect()
        }
    };
    let norm = call.choice(3, "norm", &["backward", "forward", "ortho"], 0)?;
    let Some(lengths) = lengths(call, &axes, &dims, sizes)? else { return opaque::lower(call) };
    let transform = transform(call.op_type);
    let Some((&last, others)) = axes.split_last() else { return Ok(Item::Tensor(x)) };
    let emit = &mut *call.emit;
    let mut x = match transform.form {
        // The real axis comes first, then the others, which are complex.
        Form::FromReal => along(emit, x, last, lengths[axes.len() - 1], &transform, transform.form, norm)?,
        _ => as_complex(emit, x)?,
    };
    for (&axis, &length) in others.iter().zip(&lengths) {
        x = along(emit, x, axis, length, &transform, Form::Full, norm)?;
    }
    if transform.form != Form::FromReal {
        x = along(emit, x, last, lengths[axes.len() - 1], &transform, transform.form, norm)?;
    }
    Ok(Item::Tensor(x))
}

/// Lengths of the signals along the axes, as far as they are known and not too large.
fn lengths(call: &Call, axes: &[usize], dims: &[Dim], sizes: Option<Vec<i64>>) -> Result<Option<Vec<i64>>> {
    let to_real = transform(call.op_type).form == Form::ToReal;
    let mut lengths = Vec::new();
    for (i, &axis) in axes.iter().enumerate() {
        let length = match (&sizes, dims[axis].as_fixed()) {
            (Some(sizes), _) if sizes.get(i).is_some_and(|&n| n > 0) => sizes[i],
            (_, Some(n)) if to_real && i + 1 == axes.len() => 2 * (n - 1),
            (_, Some(n)) => n,
            _ => return Ok(None),
        };
        if !(1..=MAX_LENGTH).contains(&length) {
            return Ok(None);
        }
        lengths.push(length);
    }
    Ok(Some(lengths))
}

fn as_complex(emit: &mut Emitter, x: ValueId) -> Result<ValueId> {
    match emit.dtype(x) {
        dtype if dtype.is_complex() => Ok(x),
        DType::F64 => emit.cast(x, DType::C128),
        _ => emit.cast(x, DType::C64),
    }
}

/// A transform along one axis: products with matrices of cosines and sines.
fn along(
    emit: &mut Emitter,
    x: ValueId,
    axis: usize,
    length: i64,
    transform: &Transform,
    form: Form,
    norm: usize,
) -> Result<ValueId> {
    let rank = emit.rank(x)?;
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(axis, rank - 1);
    let x = emit.transpose(x, perm.clone())?;
    let half = length / 2 + 1;
    let taken = if form == Form::ToReal { half } else { length };
    let x = resized(emit, x, rank - 1, taken)?;
    let scale = (length as f64).powf(-transform.divides[norm]);
    let given = if form == Form::FromReal { half } else { length };
    let angle =
        |j: i64, k: i64| transform.sign * std::f64::consts::TAU * (j * k % length) as f64 / length as f64;
    // Places that are left out have the same real part as those that are there, and are counted twice.
    let weight = |j: i64| match form {
        Form::ToReal if j > 0 && 2 * j != length => 2.0 * scale,
        _ => scale,
    };
    let wide = matches!(emit.dtype(x), DType::F64 | DType::C128);
    let part = if wide { DType::F64 } else { DType::F32 };
    let cos = matrix(emit, taken, given, part, |j, k| weight(j) * angle(j, k).cos())?;
    let sin = matrix(emit, taken, given, part, |j, k| weight(j) * angle(j, k).sin())?;
    let times = |emit: &mut Emitter, a: ValueId, b: ValueId| emit.op(Op::MatMul(MatMul::default()), &[a, b]);
    let y = match form {
        Form::FromReal => {
            let x = emit.cast(x, part)?;
            let (real, imaginary) = (times(emit, x, cos)?, times(emit, x, sin)?);
            emit.complex(real, imaginary)?
        }
        _ => {
            let (real, imaginary) = (emit.real_part(x)?, emit.imaginary_part(x)?);
            let (a, b) = (times(emit, real, cos)?, times(emit, imaginary, sin)?);
            let y = emit.binary(Binary::Sub, a, b)?;
            if form == Form::ToReal {
                return emit.transpose(y, perm);
            }
            let (a, b) = (times(emit, real, sin)?, times(emit, imaginary, cos)?);
            let imaginary = emit.binary(Binary::Add, a, b)?;
            emit.complex(y, imaginary)?
        }
    };
    emit.transpose(y, perm)
}

/// A tensor cut, or filled with zeros, along an axis.
fn resized(emit: &mut Emitter, x: ValueId, axis: usize, length: i64) -> Result<ValueId> {
    let dims = emit.dims(x)?;
    let Some(extent) = dims[axis].as_fixed() else {
        return emit.narrow(x, axis, Dim::from(0), Dim::from(length));
    };
    if extent >= length {
        return emit.narrow(x, axis, Dim::from(0), Dim::from(length));
    }
    let mut high = vec![0; dims.len()];
    high[axis] = length - extent;
    let zero = emit.scalar(0.0, emit.dtype(x))?;
    let pad = Pad { low: vec![0; dims.len()], high, mode: PadMode::Constant };
    emit.op(Op::Pad(pad), &[x, zero])
}

fn matrix(
    emit: &mut Emitter,
    rows: i64,
    columns: i64,
    dtype: DType,
    element: impl Fn(i64, i64) -> f64,
) -> Result<ValueId> {
    let element = &element;
    let elements = (0..rows).flat_map(|j| (0..columns).map(move |k| element(j, k)));
    let dims = [rows as usize, columns as usize];
    let tensor = match dtype {
        DType::F64 => Tensor::from_vec(elements.collect::<Vec<f64>>(), &dims),
        _ => Tensor::from_vec(elements.map(|v| v as f32).collect(), &dims),
    };
    Ok(emit.builder.constant("", tensor.map_err(|e| emit.invalid(e.to_string()))?))
}

/// `(input, dim=None)`: the halves of each axis change places, so that what is in the middle comes first (inverse), or
/// what is first comes into the middle.
pub(in crate::import) fn shifted(call: &mut Call) -> Result<ValueId> {
    let mut x = call.tensor(0, "input")?;
    let dims = call.emit.dims(x)?;
    let axes = call.axes(1, "dim", dims.len())?.unwrap_or_else(|| (0..dims.len()).collect());
    for axis in axes {
        let half = match call.op_type {
            "IFFTShift" => dims[axis].floor_div(&Dim::from(2)),
            _ => (&dims[axis] + &Dim::from(1)).floor_div(&Dim::from(2)),
        };
        let rest = &dims[axis] - &half;
        let first = call.emit.narrow(x, axis, Dim::from(0), half.clone())?;
        let second = call.emit.narrow(x, axis, half, rest)?;
        x = call.emit.concat(&[second, first], axis)?;
    }
    Ok(x)
}

/// `(x, signal_ndim, inverse, real, norm=backward, onesided=True, signal_sizes=())`
pub(in crate::import) fn fft_with_size(call: &mut Call) -> Result<Item> {
    let count = call.required_int(1, "signal_ndim")?;
    let (inverse, real) = (call.flag(2, "inverse")?, call.flag(3, "real")?);
    let norm = call.choice(4, "norm", &["backward", "forward", "ortho"], 0)?;
    let one_sided = call.bool_opt(5, "onesided")?.unwrap_or(true);
    let sizes = call.ints(6, "signal_sizes")?.filter(|sizes| !sizes.is_empty());
    let x = call.tensor(0, "x")?;
    let dims = call.emit.dims(x)?;
    let count = call.to_usize(count, "signal_ndim")?;
    if real && !one_sided || count == 0 || count > dims.len() {
        return opaque::lower(call);
    }
    let axes: Vec<Item> = (dims.len() - count..dims.len()).map(|axis| Item::Int(Dim::from(axis))).collect();
    call.op_type = match (inverse, real) {
        (false, false) => "FFTN",
        (true, false) => "IFFTN",
        (false, true) => "RFFTN",
        (true, true) => "IRFFTN",
    };
    // Sizes are those of a real result only.
    let sizes = sizes.filter(|_| inverse && real);
    let sizes =
        sizes.map_or(Item::None, |sizes| Item::tuple(sizes.into_iter().map(|n| Item::Int(Dim::from(n)))));
    call.args = vec![Item::Tensor(x), sizes, Item::tuple(axes), Item::Int(Dim::from(norm))];
    fourier(call)
}

/// `(x, type=2, n=None, axis=-1, norm=None)` along one axis, `(x, type=2, s=None, axes=None, norm=None)` along several:
/// sums with cosines.
pub(in crate::import) fn cosine(call: &mut Call) -> Result<Item> {
    let mut x = call.tensor(0, "x")?;
    let dims = call.emit.dims(x)?;
    let kind = call.int_or(1, "type", 2)?;
    let sizes = call.ints(2, "n")?;
    let several = call.op_type.ends_with('N');
    let default = if several { None } else { Some(vec![dims.len().saturating_sub(1)]) };
    let axes = call.axes(3, "axis", dims.len())?.or(default).unwrap_or_else(|| (0..dims.len()).collect());
    let norm = call.choice(4, "norm", &["backward", "forward", "ortho"], 0)?;
    let Some(lengths) = lengths(call, &axes, &dims, sizes)? else { return opaque::lower(call) };
    let inverse = call.op_type.starts_with('I');
    if kind != 2 || norm == 1 || call.emit.dtype(x).is_complex() {
        return opaque::lower(call);
    }
    let part = if call.emit.dtype(x) == DType::F64 { DType::F64 } else { DType::F32 };
    x = call.emit.cast(x, part)?;
    let ortho = norm == 2;
    for (axis, length) in axes.into_iter().zip(lengths) {
        x = cosines(call.emit, x, axis, length, inverse, ortho)?;
    }
    Ok(Item::Tensor(x))
}

/// `2 * sum(x[j] * cos(pi * k * (2 j + 1) / (2 n)))` along an axis, or its inverse; orthogonal on demand.
fn cosines(
    emit: &mut Emitter,
    x: ValueId,
    axis: usize,
    length: i64,
    inverse: bool,
    ortho: bool,
) -> Result<ValueId> {
    let n = length as f64;
    let wave = |j: i64, k: i64| (std::f64::consts::PI * (k * (2 * j + 1)) as f64 / (2.0 * n)).cos();
    let factor = |k: i64| match (ortho, inverse, k) {
        (true, _, 0) => n.sqrt().recip(),
        (true, _, _) => (2.0 / n).sqrt(),
        (false, false, _) => 2.0,
        (false, true, 0) => 0.5 / n,
        (false, true, _) => n.recip(),
    };
    let rank = emit.rank(x)?;
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(axis, rank - 1);
    let x = emit.transpose(x, perm.clone())?;
    let x = resized(emit, x, rank - 1, length)?;
    let weights = match inverse {
        false => matrix(emit, length, length, emit.dtype(x), |j, k| factor(k) * wave(j, k))?,
        true => matrix(emit, length, length, emit.dtype(x), |k, j| factor(k) * wave(j, k))?,
    };
    let y = emit.op(Op::MatMul(MatMul::default()), &[x, weights])?;
    emit.transpose(y, perm)
}
