//! Kernels that move elements without looking at them.

use mslite_graph_opt::Op;
use mslite_graph_opt::ir::op::{Slice, Triangle};
use mslite_runtime::{Error, ErrorKind, Result};
use mslite_tensor::{Dim, contiguous_strides};
use smallvec::SmallVec;

use super::{BoxKernel, Build, Kernel, Type};
use crate::arena::Args;
use crate::loops::{Around, Axis, Loops, broadcast_strides};

/// Evaluates an expression for the size of an element as a constant.
macro_rules! with_size {
    ($size:expr, $s:ident => $body:expr) => {
        match $size {
            1 => Some({
                const $s: usize = 1;
                $body
            }),
            2 => Some({
                const $s: usize = 2;
                $body
            }),
            4 => Some({
                const $s: usize = 4;
                $body
            }),
            8 => Some({
                const $s: usize = 8;
                $body
            }),
            16 => Some({
                const $s: usize = 16;
                $body
            }),
            _ => None,
        }
    };
}

pub(super) use with_size;

/// If the result is a run of the operand's bytes, where it starts: such a node needs no kernel.
pub(crate) fn alias_offset(op: &Op, x: &Type, y: &Type) -> Option<usize> {
    match op {
        Op::Reshape(_) => Some(0),
        Op::Cast(to) => (*to == x.dtype).then_some(0),
        Op::Broadcast(_) => (x.len() == y.len()).then_some(0),
        Op::Concat { .. } => (x.len() == y.len()).then_some(0),
        Op::Transpose(perm) => keeps_order(perm, &x.dims).then_some(0),
        Op::Slice(slice) => slice_offset(slice, x),
        _ => None,
    }
}

/// Whether an operation puts its operands behind each other.
pub(crate) fn is_stack(op: &Op, y: &Type) -> bool {
    matches!(op, Op::Concat { axis } if y.dims[..*axis].iter().all(|&d| d == 1))
}

/// Whether only axes of extent 1 move.
fn keeps_order(perm: &[usize], dims: &[usize]) -> bool {
    perm.iter().filter(|&&axis| dims[axis] != 1).is_sorted()
}

/// Where the result of a slice starts, if it is contiguous: it takes all of each axis after the first of which it
/// takes more than one element.
fn slice_offset(slice: &Slice, x: &Type) -> Option<usize> {
    let strides = contiguous_strides(&x.dims);
    let mut offset = 0;
    let mut whole_from_here = false;
    for (axis, &extent) in x.dims.iter().enumerate() {
        let (start, size) = (slice.starts[axis].as_usize()?, slice.sizes[axis].as_usize()?);
        if size == 0 {
            return Some(0);
        }
        if (whole_from_here && size != extent) || (size > 1 && slice.steps[axis] != 1) {
            return None;
        }
        whole_from_here |= size > 1;
        offset += start * strides[axis];
    }
    Some(offset * x.dtype.size())
}

/// A copy of the whole operand.
pub(super) fn whole(cx: &Build<'_>) -> Option<BoxKernel> {
    (cx.inputs[0].len() == cx.outputs[0].len()).then(whole_copy)
}

/// A kernel that copies its operand.
pub(crate) fn whole_copy() -> BoxKernel {
    Box::new(Whole)
}

#[derive(Debug)]
struct Whole;

impl Kernel for Whole {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let x = args.input_bytes(0);
        let y = args.output_bytes(0);
        args.team.split(y, 64, |at, part| part.copy_from_slice(&x[at..at + part.len()]));
        Ok(())
    }
}

pub(super) fn transpose(perm: &[usize], cx: &Build<'_>) -> Option<BoxKernel> {
    let dense = contiguous_strides(&cx.inputs[0].dims);
    let strides: SmallVec<[isize; 6]> = perm.iter().map(|&axis| dense[axis].cast_signed()).collect();
    strided(cx, &strides, 0)
}

pub(super) fn broadcast(cx: &Build<'_>) -> Option<BoxKernel> {
    strided(cx, &broadcast_strides(&cx.outputs[0].dims, &cx.inputs[0].dims), 0)
}

pub(super) fn slice(slice: &Slice, cx: &Build<'_>) -> Result<Option<BoxKernel>> {
    let x = &cx.inputs[0];
    let dense = contiguous_strides(&x.dims);
    let mut base = 0;
    let mut strides: SmallVec<[isize; 6]> = SmallVec::new();
    for (axis, &extent) in x.dims.iter().enumerate() {
        let start = slice.starts[axis].as_fixed().unwrap_or(-1);
        let size = cx.outputs[0].dims[axis];
        let step = slice.steps[axis];
        let last = i128::from(start) + (size as i128 - 1).max(0) * i128::from(step);
        let inside = |at: i128| (0..extent as i128).contains(&at);
        let is_empty = cx.outputs[0].dims.contains(&0);
        if !(is_empty || inside(i128::from(start)) && inside(last)) {
            let reason = format!("{size} elements from {start} by {step} leave axis {axis} of {:?}", x.dims);
            return Err(Error::new(ErrorKind::InvalidArgument, reason));
        }
        let stride = dense[axis].cast_signed();
        base += start as isize * stride;
        strides.push(if size > 1 { step as isize * stride } else { 0 });
    }
    Ok(strided(cx, &strides, base))
}

fn strided(cx: &Build<'_>, strides: &[isize], base: isize) -> Option<BoxKernel> {
    let y = &cx.outputs[0];
    let axes = y.dims.iter().zip(strides).map(|(&extent, &stride)| Axis { extent, strides: [stride] });
    let loops = Loops::new(axes, [base]);
    with_size!(y.dtype.size(), S => Box::new(Strided::<S> { loops }) as BoxKernel)
}

/// Gathers elements of `S` bytes.
#[derive(Debug)]
struct Strided<const S: usize> {
    loops: Loops<1>,
}

impl<const S: usize> Kernel for Strided<S> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let x = args.input_bytes(0).as_chunks::<S>().0;
        let y = args.output_bytes(0).as_chunks_mut::<S>().0;
        let stride = self.loops.inner().strides[0];
        args.team.split(y, 1, |at, part| {
            let mut done = 0;
            self.loops.rows(at..at + part.len(), |[from], count| {
                copy_row(x, from, stride, &mut part[done..done + count]);
                done += count;
            });
        });
        Ok(())
    }
}

fn copy_row<const S: usize>(x: &[[u8; S]], from: usize, stride: isize, row: &mut [[u8; S]]) {
    match stride {
        1 => row.copy_from_slice(&x[from..from + row.len()]),
        0 => row.fill(x[from]),
        2.. => {
            for (y, x) in row.iter_mut().zip(x[from..].iter().step_by(stride.cast_unsigned())) {
                *y = *x;
            }
        }
        _ => {
            for (y, x) in row.iter_mut().zip(x[..=from].iter().rev().step_by(stride.unsigned_abs())) {
                *y = *x;
            }
        }
    }
}

pub(super) fn concat(axis: usize, cx: &Build<'_>) -> Option<BoxKernel> {
    let y = &cx.outputs[0];
    let size = y.dtype.size();
    let widths = cx.inputs.iter().map(|x| Around::new(&x.dims, axis)).map(|a| a.extent * a.inner * size);
    Some(Box::new(Concat { widths: widths.collect() }))
}

/// Joins rows of bytes.
#[derive(Debug)]
struct Concat {
    /// Bytes that each operand contributes to a row.
    widths: Vec<usize>,
}

impl Kernel for Concat {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let width: usize = self.widths.iter().sum();
        let y = args.output_bytes(0);
        if y.is_empty() {
            return Ok(());
        }
        let args = &*args;
        args.team.split(y, width, |at, part| {
            for (row, y) in part.chunks_mut(width).enumerate() {
                let mut done = 0;
                for (operand, &own) in self.widths.iter().enumerate() {
                    let from = (at / width + row) * own;
                    y[done..done + own].copy_from_slice(&args.input_bytes(operand)[from..from + own]);
                    done += own;
                }
            }
        });
        Ok(())
    }
}

pub(super) fn triangle(triangle: &Triangle, cx: &Build<'_>) -> Option<BoxKernel> {
    let [.., rows, columns] = cx.inputs[0].dims[..] else { return None };
    let kernel = Keep { op: triangle.clone(), rows, columns, size: cx.inputs[0].dtype.size() };
    Some(Box::new(kernel))
}

#[derive(Debug)]
struct Keep {
    op: Triangle,
    rows: usize,
    columns: usize,
    size: usize,
}

impl Kernel for Keep {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let x = args.input_bytes(0);
        let y = args.output_bytes(0);
        let width = self.columns * self.size;
        if y.is_empty() {
            return Ok(());
        }
        args.team.split(y, width, |at, part| {
            for (i, (x, y)) in x[at..].chunks(width).zip(part.chunks_mut(width)).enumerate() {
                let row = (at / width + i) % self.rows;
                let diagonal = (row as i64).saturating_add(self.op.diagonal);
                let kept = if self.op.upper { diagonal } else { diagonal.saturating_add(1) };
                let split = kept.clamp(0, self.columns as i64) as usize * self.size;
                let range = if self.op.upper { split..width } else { 0..split };
                y.fill(0);
                y[range.clone()].copy_from_slice(&x[range]);
            }
        });
        Ok(())
    }
}

pub(super) fn extents(dims: &[Dim]) -> Result<Option<BoxKernel>> {
    let numbers: Option<Vec<i64>> = dims.iter().map(Dim::as_fixed).collect();
    let numbers =
        numbers.ok_or_else(|| Error::new(ErrorKind::Internal, "an extent has no value at run time"))?;
    Ok(Some(Box::new(Extents(numbers))))
}

#[derive(Debug)]
struct Extents(Vec<i64>);

impl Kernel for Extents {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        args.output(0).copy_from_slice(&self.0);
        Ok(())
    }
}
