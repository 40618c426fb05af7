//! Systems of linear equations, by elimination in loops.

use mslite_tensor::{DType, Dim};

use crate::Result;
use crate::import::call::{ATTRIBUTE, Call};
use crate::import::emit::{Emitter, product};
use crate::import::item::Item;
use crate::ir::ValueId;
use crate::ir::op::{ArgReduce, Binary, Gather, MatMul, Op, Triangle, Unary};

/// Matrices as `[batch, n, m]`, and the axes before the last two.
fn batched(call: &mut Call, x: ValueId) -> Result<(ValueId, Vec<Dim>)> {
    let dims = call.emit.dims(x)?;
    let Some(at) = dims.len().checked_sub(2) else { return Err(call.invalid("it needs matrices")) };
    let (lead, tail) = dims.split_at(at);
    let flat = vec![product(lead), tail[0].clone(), tail[1].clone()];
    Ok((call.emit.reshape(x, flat)?, lead.to_vec()))
}

fn side(call: &Call, x: ValueId) -> Result<Dim> {
    match &call.emit.dims(x)?[..] {
        [.., rows, columns] if rows == columns => Ok(rows.clone()),
        _ => Err(call.invalid("the matrix must be square")),
    }
}

fn transposed(call: &mut Call, x: ValueId) -> Result<ValueId> {
    let rank = call.emit.rank(x)?;
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 1, rank - 2);
    call.emit.transpose(x, perm)
}

fn triangle(call: &mut Call, x: ValueId, upper: bool) -> Result<ValueId> {
    call.emit.op(Op::Triangle(Triangle { upper, diagonal: 0 }), &[x])
}

/// Ones on the diagonal: `[1, n, n]`.
fn identity(call: &mut Call, n: &Dim, dtype: DType) -> Result<ValueId> {
    let one = call.emit.scalar(1.0, dtype)?;
    let ones = call.emit.broadcast(one, vec![Dim::from(1), n.clone(), n.clone()])?;
    let lower = triangle(call, ones, false)?;
    triangle(call, lower, true)
}

/// 0, 1, 2, ... along an axis of three.
fn places(call: &mut Call, n: &Dim, axis: usize) -> Result<ValueId> {
    let counter = super::create::counter(call, n.clone())?;
    let mut dims = vec![Dim::from(1); 3];
    dims[axis] = n.clone();
    call.emit.reshape(counter, dims)
}

/// One place of an axis, which stays with extent 1.
fn at(emit: &mut Emitter, x: ValueId, axis: usize, number: ValueId) -> Result<ValueId> {
    let number = emit.reshape(number, vec![Dim::from(1)])?;
    emit.op(Op::Gather(Gather { axis, batch_dims: 0 }), &[x, number])
}

/// `(input_x, upper=False)`: the triangular matrix L of which x is `L L^T`; only one triangle of x is read.
pub(in crate::import) fn cholesky(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "input_x")?;
    let upper = call.flag(1, "upper")?;
    let n = side(call, x)?;
    let dims = call.emit.dims(x)?;
    let (x, _) = batched(call, x)?;
    let (rows, columns) = (places(call, &n, 1)?, places(call, &n, 2)?);
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let shape = call.emit.dims(x)?;
    let start = call.emit.broadcast(zero, shape)?;
    let results = call.emit.turns(&n, &[x, start], |emit, number, carried| {
        let column = at(emit, carried[0], 2, number)?;
        let pivot = at(emit, column, 1, number)?;
        let root = emit.unary(Unary::Sqrt, pivot)?;
        let scaled = emit.binary(Binary::Div, column, root)?;
        let below = emit.binary(Binary::GreaterEqual, rows, number)?;
        let factor = emit.select(below, scaled, zero)?;
        let across = emit.transpose(factor, vec![0, 2, 1])?;
        let outer = emit.binary(Binary::Mul, factor, across)?;
        let rest = emit.binary(Binary::Sub, carried[0], outer)?;
        let here = emit.binary(Binary::Equal, columns, number)?;
        Ok(vec![rest, emit.select(here, factor, carried[1])?])
    })?;
    let y = if upper { transposed(call, results[1])? } else { results[1] };
    call.emit.reshape(y, dims)
}

/// What elimination gives: the solution, and the sign and the logarithm of the size of the determinant.
struct Solved {
    x: ValueId,
    sign: ValueId,
    log: ValueId,
}

/// Solves `a x = b` for `[batch, n, n]` and `[batch, n, m]` by Gauss-Jordan elimination with partial pivoting.
fn eliminated(call: &mut Call, a: ValueId, b: ValueId) -> Result<Solved> {
    let dtype = call.emit.dtype(a);
    let n = side(call, a)?;
    let (batch, m) = (call.emit.dims(a)?[0].clone(), call.emit.dims(b)?[2].clone());
    let joined = call.emit.concat(&[a, b], 2)?;
    let rows = places(call, &n, 1)?;
    let lowest = call.emit.scalar(-1.0, dtype)?;
    let (one, zero) = (call.emit.scalar(1.0, dtype)?, call.emit.scalar(0.0, dtype)?);
    let single = vec![batch.clone(), Dim::from(1), Dim::from(1)];
    let (sign, log) = (call.emit.broadcast(one, single.clone())?, call.emit.broadcast(zero, single.clone())?);
    let results = call.emit.turns(&n, &[joined, sign, log], |emit, number, carried| {
        let column = at(emit, carried[0], 2, number)?;
        let size = emit.unary(Unary::Abs, column)?;
        let open = emit.binary(Binary::GreaterEqual, rows, number)?;
        let size = emit.select(open, size, lowest)?;
        let best = ArgReduce { largest: true, axis: 1, keep_dims: true, dtype: DType::I64 };
        let best = emit.op(Op::ArgReduce(best), &[size])?;
        let flat = emit.reshape(best, vec![batch.clone(), Dim::from(1)])?;
        let pivot_row = emit.op(Op::Gather(Gather { axis: 1, batch_dims: 1 }), &[carried[0], flat])?;
        let other_row = at(emit, carried[0], 1, number)?;
        let is_best = emit.binary(Binary::Equal, rows, best)?;
        let swapped = emit.select(is_best, other_row, carried[0])?;
        let pivot = at(emit, pivot_row, 2, number)?;
        let scaled = emit.binary(Binary::Div, pivot_row, pivot)?;
        let factor = at(emit, swapped, 2, number)?;
        let taken = emit.binary(Binary::Mul, factor, scaled)?;
        let rest = emit.binary(Binary::Sub, swapped, taken)?;
        let here = emit.binary(Binary::Equal, rows, number)?;
        let next = emit.select(here, scaled, rest)?;
        let turned = emit.binary(Binary::NotEqual, best, number)?;
        let negative = emit.unary(Unary::Neg, carried[1])?;
        let sign = emit.select(turned, negative, carried[1])?;
        let direction = emit.unary(Unary::Sign, pivot)?;
        let sign = emit.binary(Binary::Mul, sign, direction)?;
        let length = emit.unary(Unary::Abs, pivot)?;
        let length = emit.unary(Unary::Log, length)?;
        Ok(vec![next, sign, emit.binary(Binary::Add, carried[2], length)?])
    })?;
    let x = call.emit.narrow(results[0], 2, n, m)?;
    Ok(Solved { x, sign: results[1], log: results[2] })
}

/// As [`eliminated`], for any number of leading axes, which both have.
fn solved(call: &mut Call, a: ValueId, b: ValueId) -> Result<ValueId> {
    let dims = call.emit.dims(b)?;
    let ((a, lead), (mut b, other)) = (batched(call, a)?, batched(call, b)?);
    if lead != other {
        let tail = call.emit.dims(b)?[1..].to_vec();
        if product(&other).as_fixed() != Some(1) {
            return Err(call.unsupported("its operands differ in their leading axes"));
        }
        b = call.emit.broadcast(b, [vec![product(&lead)], tail.clone()].concat())?;
        let x = eliminated(call, a, b)?.x;
        return call.emit.reshape(x, [lead, tail].concat());
    }
    let x = eliminated(call, a, b)?.x;
    call.emit.reshape(x, dims)
}

/// `(x)`
pub(in crate::import) fn inverse(call: &mut Call) -> Result<ValueId> {
    let x = call.tensor(0, "x")?;
    let x = if call.flag(ATTRIBUTE, "adjoint")? { transposed(call, x)? } else { x };
    inverted(call, x)
}

fn inverted(call: &mut Call, x: ValueId) -> Result<ValueId> {
    let n = side(call, x)?;
    let dims = call.emit.dims(x)?;
    let (x, _) = batched(call, x)?;
    let ones = identity(call, &n, call.emit.dtype(x))?;
    let shape = call.emit.dims(x)?;
    let ones = call.emit.broadcast(ones, shape)?;
    let y = eliminated(call, x, ones)?.x;
    call.emit.reshape(y, dims)
}

/// `(matrix, rhs)`
pub(in crate::import) fn solve(call: &mut Call) -> Result<ValueId> {
    let (a, b) = (call.tensor(0, "matrix")?, call.tensor(1, "rhs")?);
    let a = if call.flag(ATTRIBUTE, "adjoint")? { transposed(call, a)? } else { a };
    solved(call, a, b)
}

/// `(x)`
pub(in crate::import) fn determinant(call: &mut Call) -> Result<ValueId> {
    let (sign, log) = log_size(call)?;
    let size = call.emit.unary(Unary::Exp, log)?;
    let y = call.emit.binary(Binary::Mul, sign, size)?;
    // The logarithm of 0 times the sign of 0 is no number, but the determinant is 0.
    let is_zero = call.emit.with_scalar(Binary::Equal, sign, 0.0)?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(y))?;
    call.emit.select(is_zero, zero, y)
}

/// `(x) -> (sign, logarithm of the size)`
pub(in crate::import) fn log_determinant(call: &mut Call) -> Result<Item> {
    log_size(call).map(|(sign, log)| Item::tensors([sign, log]))
}

fn log_size(call: &mut Call) -> Result<(ValueId, ValueId)> {
    let x = call.tensor(0, "input")?;
    let (x, lead) = batched(call, x)?;
    let rows = call.emit.dims(x)?;
    let zero = call.emit.scalar(0.0, call.emit.dtype(x))?;
    let nothing = call.emit.broadcast(zero, vec![rows[0].clone(), rows[1].clone(), Dim::from(1)])?;
    let Solved { sign, log, .. } = eliminated(call, x, nothing)?;
    Ok((call.emit.reshape(sign, lead.clone())?, call.emit.reshape(log, lead)?))
}

/// `MatrixTriangularSolve(matrix, rhs)` with attributes, `SolveTriangular(a, b, trans=0, lower=False,
/// unit_diagonal=False)`, `TriangularSolve(b, a, upper=True, transpose=False, unitriangular=False) -> (x, a)`.
pub(in crate::import) fn triangular(call: &mut Call) -> Result<Item> {
    let (a, b, lower, turned, unit) = match call.op_type {
        "TriangularSolve" => {
            let (b, a) = (call.tensor(0, "b")?, call.tensor(1, "A")?);
            let upper = call.bool_opt(2, "upper")?.unwrap_or(true);
            (a, b, !upper, call.flag(3, "transpose")?, call.flag(4, "unitriangular")?)
        }
        "SolveTriangular" => {
            let (a, b) = (call.tensor(0, "a")?, call.tensor(1, "b")?);
            let turned = call.choice(2, "trans", &["N", "T", "C"], 0)? != 0;
            (a, b, call.flag(3, "lower")?, turned, call.flag(4, "unit_diagonal")?)
        }
        _ => {
            let (a, b) = (call.tensor(0, "matrix")?, call.tensor(1, "rhs")?);
            let lower = call.bool_opt(ATTRIBUTE, "lower")?.unwrap_or(true);
            (a, b, lower, call.flag(ATTRIBUTE, "adjoint")?, false)
        }
    };
    let mut matrix = triangle(call, a, !lower)?;
    if unit {
        let n = side(call, a)?;
        let ones = identity(call, &n, call.emit.dtype(a))?;
        let ones = call.emit.reshape(ones, vec![n.clone(), n])?;
        let is_diagonal = call.emit.cast(ones, DType::Bool)?;
        matrix = call.emit.select(is_diagonal, ones, matrix)?;
    }
    if turned {
        matrix = transposed(call, matrix)?;
    }
    let is_vector = call.emit.rank(b)? + 1 == call.emit.rank(a)?;
    let mut dims = call.emit.dims(b)?;
    let rhs = match is_vector {
        true => {
            dims.push(Dim::from(1));
            call.emit.reshape(b, dims.clone())?
        }
        false => b,
    };
    let mut x = solved(call, matrix, rhs)?;
    if is_vector {
        dims.pop();
        x = call.emit.reshape(x, dims)?;
    }
    Ok(if call.op_type == "TriangularSolve" { Item::tensors([x, a]) } else { Item::Tensor(x) })
}

/// `(input_x, upper=False)`: the inverse of the matrix of which this is the Cholesky factor.
pub(in crate::import) fn cholesky_inverse(call: &mut Call) -> Result<ValueId> {
    let factor = call.tensor(0, "input_x")?;
    let upper = call.flag(1, "upper")?;
    let whole = squared(call, factor, upper)?;
    inverted(call, whole)
}

/// `(b, factor)`, upper as an attribute.
pub(in crate::import) fn cholesky_solve(call: &mut Call) -> Result<ValueId> {
    let (b, factor) = (call.tensor(0, "x1")?, call.tensor(1, "x2")?);
    let upper = call.flag(ATTRIBUTE, "upper")?;
    let whole = squared(call, factor, upper)?;
    solved(call, whole, b)
}

/// `L L^T`, or `U^T U`.
fn squared(call: &mut Call, factor: ValueId, upper: bool) -> Result<ValueId> {
    let factor = triangle(call, factor, upper)?;
    let op = MatMul { transpose_a: upper, transpose_b: !upper, ..MatMul::default() };
    call.emit.op(Op::MatMul(op), &[factor, factor])
}

/// `(x)`, n as an attribute.
pub(in crate::import) fn power(call: &mut Call) -> Result<ValueId> {
    let mut x = call.tensor(0, "x")?;
    let mut n = call.int_or(ATTRIBUTE, "n", 1)?;
    if !(-64..=64).contains(&n) {
        return Err(call.unsupported(format!("the power {n} is not known")));
    }
    if n < 0 {
        x = inverted(call, x)?;
        n = -n;
    }
    let side = side(call, x)?;
    let ones = identity(call, &side, call.emit.dtype(x))?;
    let dims = call.emit.dims(x)?;
    let ones = call.emit.reshape(ones, vec![side.clone(), side])?;
    let mut y = call.emit.broadcast(ones, dims)?;
    for _ in 0..n {
        y = call.emit.op(Op::MatMul(MatMul::default()), &[y, x])?;
    }
    Ok(y)
}

/// `(x, lower, upper)`: what lies in a band around the diagonal; a negative number keeps that side whole.
pub(in crate::import) fn band(call: &mut Call) -> Result<ValueId> {
    let mut x = call.tensor(0, "x")?;
    let (lower, upper) = (call.required_int(1, "lower")?, call.required_int(2, "upper")?);
    if lower >= 0 {
        x = call.emit.op(Op::Triangle(Triangle { upper: true, diagonal: -lower }), &[x])?;
    }
    if upper >= 0 {
        x = call.emit.op(Op::Triangle(Triangle { upper: false, diagonal: upper }), &[x])?;
    }
    Ok(x)
}
