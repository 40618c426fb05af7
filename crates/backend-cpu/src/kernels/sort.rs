//! Kernels that compare elements along an axis.

use std::cmp::Ordering;
use std::marker::PhantomData;

use mslite_graph_opt::ir::op::{ArgReduce, TopK};
use mslite_runtime::{Error, ErrorKind, Result};
use mslite_tensor::DType;

use super::{BoxKernel, Build, Kernel};
use crate::arena::Args;
use crate::loops::Around;
use crate::scalar::{Scalar, with_type};

pub(super) fn arg_reduce(reduce: &ArgReduce, cx: &Build<'_>) -> Option<BoxKernel> {
    let around = Around::new(&cx.inputs[0].dims, reduce.axis);
    let op = reduce.clone();
    with_type!(cx.inputs[0].dtype, T in number => {
        Box::new(Extreme::<T> { op, around, element: PhantomData }) as BoxKernel
    })
}

#[derive(Debug)]
struct Extreme<T> {
    op: ArgReduce,
    around: Around,
    element: PhantomData<T>,
}

impl<T: Scalar> Kernel for Extreme<T> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let x = args.input::<T>(0);
        if self.around.extent == 0 && self.around.outer * self.around.inner > 0 {
            return Err(Error::new(ErrorKind::InvalidArgument, "an axis of no elements has no extreme one"));
        }
        if self.op.dtype == DType::I32 {
            let y = args.output::<i32>(0);
            args.team.split_costly(y, 1, self.around.extent, |at, part| {
                self.each(x, at, part, |i| i.try_into().unwrap_or(i32::MAX));
            });
        } else {
            let y = args.output::<i64>(0);
            args.team.split_costly(y, 1, self.around.extent, |at, part| {
                self.each(x, at, part, |i| i.try_into().unwrap_or(i64::MAX));
            });
        }
        Ok(())
    }
}

impl<T: Scalar> Extreme<T> {
    fn each<I>(&self, x: &[T], at: usize, part: &mut [I], convert: impl Fn(usize) -> I) {
        let Around { extent, inner, .. } = self.around;
        for (i, y) in part.iter_mut().enumerate() {
            let (block, column) = ((at + i) / inner, (at + i) % inner);
            let line = x[block * extent * inner + column..].iter().step_by(inner).take(extent);
            *y = convert(self.position(line));
        }
    }

    fn position<'a>(&self, mut line: impl Iterator<Item = &'a T>) -> usize
    where
        T: 'a,
    {
        let Some(mut best) = line.next() else { return 0 };
        let mut at = 0;
        for (i, x) in line.enumerate() {
            if if self.op.largest { x > best } else { x < best } {
                (best, at) = (x, i + 1);
            }
        }
        at
    }
}

pub(super) fn top_k(top_k: &TopK, cx: &Build<'_>) -> Option<BoxKernel> {
    let around = Around::new(&cx.inputs[0].dims, top_k.axis);
    let (k, largest) = (cx.outputs[0].dims[top_k.axis], top_k.largest);
    if k > around.extent || u32::try_from(around.extent).is_err() {
        return None;
    }
    with_type!(cx.inputs[0].dtype, T in number => {
        Box::new(Top::<T> { around, k, largest, element: PhantomData }) as BoxKernel
    })
}

#[derive(Debug)]
struct Top<T> {
    around: Around,
    k: usize,
    largest: bool,
    element: PhantomData<T>,
}

impl<T: Scalar> Kernel for Top<T> {
    fn scratch(&self, _threads: usize) -> usize {
        self.around.extent * size_of::<u32>()
    }

    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let x = args.input::<T>(0);
        let (values, indices) = (args.output::<T>(0), args.output::<i32>(1));
        let order = args.scratch::<u32>();
        let Around { extent, inner, .. } = self.around;
        if values.is_empty() {
            return Ok(());
        }
        for line in 0..self.around.outer * inner {
            let (block, column) = (line / inner, line % inner);
            let x = &x[block * extent * inner + column..];
            self.sort(x, order);
            for (rank, &from) in order[..self.k].iter().enumerate() {
                let to = (block * self.k + rank) * inner + column;
                values[to] = x[from as usize * inner];
                indices[to] = from.cast_signed();
            }
        }
        Ok(())
    }
}

impl<T: Scalar> Top<T> {
    /// Brings the positions of the first `k` elements to the front of `order`, sorted.
    fn sort(&self, x: &[T], order: &mut [u32]) {
        let inner = self.around.inner;
        let compare =
            |&a: &u32, &b: &u32| self.compare(x[a as usize * inner], x[b as usize * inner]).then(a.cmp(&b));
        for (i, position) in (0u32..).zip(order.iter_mut()) {
            *position = i;
        }
        if self.k < order.len() {
            order.select_nth_unstable_by(self.k, compare);
        }
        order[..self.k].sort_unstable_by(compare);
    }

    /// The order of the result; NaN comes last.
    fn compare(&self, a: T, b: T) -> Ordering {
        let order = a.partial_cmp(&b).unwrap_or_else(|| {
            let is_nan = |x: T| x.partial_cmp(&x).is_none();
            let order = is_nan(a).cmp(&is_nan(b));
            if self.largest { order.reverse() } else { order }
        });
        if self.largest { order.reverse() } else { order }
    }
}
