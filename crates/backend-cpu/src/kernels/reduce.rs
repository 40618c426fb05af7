use std::marker::PhantomData;

use mslite_graph_opt::ir::op::{Cumulative, Reduce, ReduceKind};
use mslite_runtime::Result;
use mslite_tensor::contiguous_strides;

use super::{BoxKernel, Build, Kernel};
use crate::arena::Args;
use crate::loops::{Around, Axis, Loops};
use crate::scalar::{Scalar, Sum, with_type};
use crate::simd::fold;

pub(super) fn build(reduce: &Reduce, cx: &Build<'_>) -> Option<BoxKernel> {
    let x = &cx.inputs[0];
    let dense = contiguous_strides(&x.dims);
    let axes = |reduced: bool| {
        let chosen = (0..x.dims.len()).filter(move |axis| reduce.axes.contains(axis) == reduced);
        chosen.map(|axis| Axis { extent: x.dims[axis], strides: [dense[axis].cast_signed()] })
    };
    let count = axes(true).map(|axis| axis.extent).product();
    let (kept, reduced) = (Loops::new(axes(false), [0]), Loops::new(axes(true), [0]));
    let kind = reduce.kind;
    with_type!(x.dtype, T in real => {
        Box::new(Reduction::<T> { kind, kept, reduced, count, element: PhantomData }) as BoxKernel
    })
}

#[derive(Debug)]
struct Reduction<T> {
    kind: ReduceKind,
    /// The axes that stay.
    kept: Loops<1>,
    /// The axes that go.
    reduced: Loops<1>,
    /// Elements that are combined into one.
    count: usize,
    element: PhantomData<T>,
}

impl<T: Scalar> Kernel for Reduction<T> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        match self.kind {
            ReduceKind::Sum => self.fold(args, T::Sum::default(), T::Sum::plus, |sum| sum),
            ReduceKind::Mean => {
                self.fold(args, T::Sum::default(), T::Sum::plus, |sum| sum.mean(self.count));
            }
            ReduceKind::Prod => self.fold(args, T::Sum::ONE, T::Sum::times, |sum| sum),
            ReduceKind::Max | ReduceKind::Any => self.fold(args, T::Sum::LOWEST, larger, |x| x),
            // Min and All; `refusal` lets no others through.
            _ => self.fold(args, T::Sum::HIGHEST, smaller, |x| x),
        }
        Ok(())
    }
}

/// Columns that are accumulated side by side.
const COLUMNS: usize = 64;

impl<T: Scalar> Reduction<T> {
    fn fold(
        &self,
        args: &mut Args<'_>,
        start: T::Sum,
        combine: impl Fn(T::Sum, T::Sum) -> T::Sum + Sync,
        finish: impl Fn(T::Sum) -> T::Sum + Sync,
    ) {
        let x = args.input::<T>(0);
        let y = args.output::<T>(0);
        let by_columns = self.kept.inner().strides[0] == 1 && self.reduced.inner().strides[0] != 1;
        args.team.split_costly(y, 1, self.count, |at, part| {
            let mut done = 0;
            self.kept.rows(at..at + part.len(), |[from], count| {
                let y = &mut part[done..done + count];
                done += count;
                if by_columns {
                    self.fold_columns(&x[from..], y, start, &combine, &finish);
                    return;
                }
                let stride = self.kept.inner().strides[0].cast_unsigned();
                for (i, y) in y.iter_mut().enumerate() {
                    let sum = self.fold_one(&x[(from + i * stride).min(x.len())..], start, &combine);
                    *y = T::from_sum(finish(sum));
                }
            });
        });
    }

    /// Combines the elements that belong to one result, the first of which is `x[0]`.
    fn fold_one(&self, x: &[T], start: T::Sum, combine: &impl Fn(T::Sum, T::Sum) -> T::Sum) -> T::Sum {
        let stride = self.reduced.inner().strides[0].cast_unsigned();
        let mut result = start;
        self.reduced.rows(0..self.count, |[from], count| {
            let part = match stride {
                1 => fold(&x[from..from + count], start, T::to_sum, combine),
                _ => (0..count).fold(start, |sum, i| combine(sum, x[from + i * stride].to_sum())),
            };
            result = combine(result, part);
        });
        result
    }

    /// Combines the elements that belong to each of neighbouring results, the first of which is `x[0]`.
    fn fold_columns(
        &self,
        x: &[T],
        y: &mut [T],
        start: T::Sum,
        combine: &impl Fn(T::Sum, T::Sum) -> T::Sum,
        finish: &impl Fn(T::Sum) -> T::Sum,
    ) {
        let stride = self.reduced.inner().strides[0].cast_unsigned();
        for (block, y) in y.chunks_mut(COLUMNS).enumerate() {
            let mut sums = [start; COLUMNS];
            self.reduced.rows(0..self.count, |[from], count| {
                for i in 0..count {
                    let row = from + i * stride + block * COLUMNS;
                    for (sum, x) in sums.iter_mut().zip(&x[row..row + y.len()]) {
                        *sum = combine(*sum, x.to_sum());
                    }
                }
            });
            for (y, sum) in y.iter_mut().zip(sums) {
                *y = T::from_sum(finish(sum));
            }
        }
    }
}

#[allow(clippy::eq_op, reason = "NaN differs from itself, and stays")]
fn larger<S: PartialOrd + Copy>(x: S, y: S) -> S {
    if x > y || x != x { x } else { y }
}

#[allow(clippy::eq_op, reason = "NaN differs from itself, and stays")]
fn smaller<S: PartialOrd + Copy>(x: S, y: S) -> S {
    if x < y || x != x { x } else { y }
}

pub(super) fn cumulative(cumulative: &Cumulative, cx: &Build<'_>) -> Option<BoxKernel> {
    let around = Around::new(&cx.inputs[0].dims, cumulative.axis);
    let op = cumulative.clone();
    with_type!(cx.inputs[0].dtype, T in number => {
        Box::new(Running::<T> { op, around, element: PhantomData }) as BoxKernel
    })
}

#[derive(Debug)]
struct Running<T> {
    op: Cumulative,
    around: Around,
    element: PhantomData<T>,
}

impl<T: Scalar> Kernel for Running<T> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let x = args.input::<T>(0);
        let y = args.output::<T>(0);
        let Around { extent, inner, .. } = self.around;
        args.team.split_costly(y, extent * inner, 4, |at, part| {
            let blocks = x[at..].chunks(extent * inner).zip(part.chunks_mut(extent * inner));
            for (x, y) in blocks {
                for column in 0..inner {
                    self.run_along(x, y, column);
                }
            }
        });
        Ok(())
    }
}

impl<T: Scalar> Running<T> {
    fn run_along(&self, x: &[T], y: &mut [T], column: usize) {
        let Around { extent, inner, .. } = self.around;
        let mut sum = if self.op.product { T::Sum::ONE } else { T::Sum::default() };
        for i in 0..extent {
            let i = if self.op.reverse { extent - 1 - i } else { i };
            let at = i * inner + column;
            let element = x[at].to_sum();
            let next = if self.op.product { sum.times(element) } else { sum.plus(element) };
            y[at] = T::from_sum(if self.op.exclusive { sum } else { next });
            sum = next;
        }
    }
}
