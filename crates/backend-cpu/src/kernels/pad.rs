use mslite_graph_opt::ir::op::{Pad, PadMode};
use mslite_runtime::{Error, ErrorKind, Result};

use super::copy::with_size;
use super::{BoxKernel, Build, Kernel};
use crate::arena::Args;

pub(super) fn build(pad: &Pad, cx: &Build<'_>) -> Result<Option<BoxKernel>> {
    let (x, y) = (&cx.inputs[0], &cx.outputs[0]);
    let mut maps = Vec::with_capacity(x.dims.len());
    for (axis, &extent) in x.dims.iter().enumerate() {
        if extent == 0 && y.dims[axis] > 0 && pad.mode != PadMode::Constant {
            let reason = format!("axis {axis} has no elements to pad with");
            return Err(Error::new(ErrorKind::InvalidArgument, reason));
        }
        let source = |i: usize| source(i as i64 - pad.low[axis], extent as i64, pad.mode);
        maps.push((0..y.dims[axis]).map(source).collect::<Vec<_>>());
    }
    let last = maps.pop().unwrap_or_else(|| vec![Some(0)]);
    let width = x.dims.last().copied().unwrap_or(1);
    let (outer, filled) = (maps, pad.mode == PadMode::Constant);
    let extents = x.dims[..x.dims.len().saturating_sub(1)].to_vec();
    Ok(with_size!(x.dtype.size(), S => {
        Box::new(Padding::<S> { outer, extents, runs: runs(&last), width, filled }) as BoxKernel
    }))
}

/// Which element of an axis lies at place `at` of the padded one, counted from its first element.
fn source(at: i64, extent: i64, mode: PadMode) -> Option<usize> {
    let folded = match mode {
        PadMode::Reflect if extent == 1 => 0,
        PadMode::Reflect => {
            let period = 2 * (extent - 1);
            let at = at.rem_euclid(period);
            at.min(period - at)
        }
        PadMode::Symmetric => {
            let at = at.rem_euclid(2 * extent);
            at.min(2 * extent - 1 - at)
        }
        PadMode::Edge => at.clamp(0, extent - 1),
        _ => at,
    };
    (0..extent).contains(&folded).then_some(folded.cast_unsigned() as usize)
}

/// Neighbouring elements that are copied at once: where from, or `None` for the value; and how many.
type Run = (Option<usize>, usize);

fn runs(map: &[Option<usize>]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for &source in map {
        match (runs.last_mut(), source) {
            (Some((Some(start), count)), Some(source)) if *start + *count == source => *count += 1,
            (Some((None, count)), None) => *count += 1,
            _ => runs.push((source, 1)),
        }
    }
    runs
}

/// Pads elements of `S` bytes.
#[derive(Debug)]
struct Padding<const S: usize> {
    /// For each axis but the last: where each row comes from.
    outer: Vec<Vec<Option<usize>>>,
    /// Extents of the operand's axes but the last.
    extents: Vec<usize>,
    /// The last axis.
    runs: Vec<Run>,
    /// Extent of the operand's last axis.
    width: usize,
    /// Whether there is a value, in the second operand.
    filled: bool,
}

impl<const S: usize> Kernel for Padding<S> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let x = args.input_bytes(0).as_chunks::<S>().0;
        let value = if self.filled { args.input_bytes(1).as_chunks::<S>().0[0] } else { [0; S] };
        let y = args.output_bytes(0).as_chunks_mut::<S>().0;
        let width: usize = self.runs.iter().map(|run| run.1).sum();
        if y.is_empty() {
            return Ok(());
        }
        args.team.split(y, width, |at, part| {
            for (i, row) in part.chunks_mut(width).enumerate() {
                match self.source_row(at / width + i) {
                    Some(from) => self.row(&x[from * self.width..][..self.width], value, row),
                    None => row.fill(value),
                }
            }
        });
        Ok(())
    }
}

impl<const S: usize> Padding<S> {
    fn source_row(&self, mut row: usize) -> Option<usize> {
        let (mut from, mut stride) = (0, 1);
        for (map, extent) in self.outer.iter().zip(&self.extents).rev() {
            from += map[row % map.len()]? * stride;
            row /= map.len();
            stride *= extent;
        }
        Some(from)
    }

    fn row(&self, x: &[[u8; S]], value: [u8; S], row: &mut [[u8; S]]) {
        let mut rest = row;
        for &(source, count) in &self.runs {
            let (part, later) = rest.split_at_mut(count);
            match source {
                Some(from) => part.copy_from_slice(&x[from..from + count]),
                None => part.fill(value),
            }
            rest = later;
        }
    }
}
