use std::marker::PhantomData;
use std::ops::Range;

use mslite_graph_opt::ir::op::{Padding2d, Pool2d};
use mslite_runtime::Result;

use super::conv::{four, padding_before};
use super::{BoxKernel, Build, Kernel};
use crate::arena::Args;
use crate::scalar::{Scalar, with_type};

pub(super) fn build(pool: &Pool2d, cx: &Build<'_>) -> Option<BoxKernel> {
    let ([_, _, h, w], [_, _, oh, ow]) = (four(&cx.inputs[0].dims)?, four(&cx.outputs[0].dims)?);
    let before = padding_before(pool.padding, [h, w], [oh, ow], pool.kernel, pool.strides, [1, 1]);
    let padded = match pool.padding {
        Padding2d::Explicit([top, bottom, left, right]) => {
            [h.saturating_add(top + bottom), w.saturating_add(left + right)]
        }
        // The last window ends where the padding does.
        Padding2d::Same => std::array::from_fn(|i| {
            let windows = [oh, ow][i].max(1);
            ((windows - 1) * pool.strides[i] + pool.kernel[i]).max([h, w][i])
        }),
    };
    let (op, size, result) = (pool.clone(), [h, w], [oh, ow]);
    with_type!(cx.inputs[0].dtype, T in float => {
        Box::new(Pooling::<T> { op, size, result, before, padded, element: PhantomData }) as BoxKernel
    })
}

/// NaN stays NaN.
#[allow(clippy::eq_op, reason = "NaN differs from itself")]
fn larger<T: PartialOrd + Copy>(x: T, top: T) -> T {
    if x > top || x != x { x } else { top }
}

#[derive(Debug)]
struct Pooling<T> {
    op: Pool2d,
    /// Height and width of the operand.
    size: [usize; 2],
    /// Height and width of the result.
    result: [usize; 2],
    before: [usize; 2],
    /// Height and width with padding.
    padded: [usize; 2],
    element: PhantomData<T>,
}

impl<T: Scalar<Sum = f64>> Kernel for Pooling<T> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let x = args.input::<T>(0);
        let y = args.output::<T>(0);
        let (from, to) = (self.size[0] * self.size[1], self.result[0] * self.result[1]);
        if y.is_empty() {
            return Ok(());
        }
        args.team.split_costly(y, to, self.op.kernel[0] * self.op.kernel[1], |at, part| {
            for (i, plane) in part.chunks_mut(to).enumerate() {
                self.plane(&x[(at / to + i) * from..][..from], plane);
            }
        });
        Ok(())
    }
}

impl<T: Scalar<Sum = f64>> Pooling<T> {
    fn plane(&self, x: &[T], y: &mut [T]) {
        for (i, y) in y.iter_mut().enumerate() {
            let (rows, height) = self.window(0, i / self.result[1]);
            let (columns, width) = self.window(1, i % self.result[1]);
            let cells = rows.clone().flat_map(|row| &x[row * self.size[1]..][columns.clone()]);
            *y = if self.op.average {
                let inside = rows.len() * columns.len();
                let divisor = if self.op.count_padding { height * width } else { inside };
                T::from_sum(cells.map(|x| x.to_sum()).sum::<f64>() / divisor as f64)
            } else {
                cells.fold(T::narrow(f64::NEG_INFINITY), |top, &x| larger(x, top))
            };
        }
    }

    /// Along an axis: the cells of a window that lie inside, and how many there are with padding.
    fn window(&self, axis: usize, i: usize) -> (Range<usize>, usize) {
        let start = i * self.op.strides[axis];
        let end = (start + self.op.kernel[axis]).min(self.padded[axis]);
        let inside = |at: usize| at.saturating_sub(self.before[axis]).min(self.size[axis]);
        (inside(start)..inside(end).max(inside(start)), end.saturating_sub(start))
    }
}
