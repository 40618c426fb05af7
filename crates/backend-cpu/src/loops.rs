//! Iteration over operands that are broadcast, permuted or strided against a dense result.

use std::ops::Range;

use mslite_tensor::contiguous_strides;
use smallvec::SmallVec;

/// Nested loops over a dense row-major result and `N` strided operands. Neighbouring axes that one stride covers
/// are merged, so that the innermost loop is as long as it can be.
#[derive(Debug, Clone)]
pub(crate) struct Loops<const N: usize> {
    outer: SmallVec<[Axis<N>; 6]>,
    inner: Axis<N>,
    base: [isize; N],
}

/// One loop: how often, and how far each operand moves each time, in elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis<const N: usize> {
    pub(crate) extent: usize,
    pub(crate) strides: [isize; N],
}

impl<const N: usize> Loops<N> {
    /// Loops from axes in the order of the result; operand `i` starts at element `base[i]`.
    pub(crate) fn new(axes: impl IntoIterator<Item = Axis<N>>, base: [isize; N]) -> Self {
        let mut merged: SmallVec<[Axis<N>; 6]> = SmallVec::new();
        for axis in axes {
            if axis.extent == 1 {
                continue;
            }
            match merged.last_mut() {
                Some(last) if continues(last, &axis) => {
                    last.extent *= axis.extent;
                    last.strides = axis.strides;
                }
                _ => merged.push(axis),
            }
        }
        let inner = merged.pop().unwrap_or(Axis { extent: 1, strides: [0; N] });
        Loops { outer: merged, inner, base }
    }

    /// Loops over operands that are broadcast to the result as in numpy.
    pub(crate) fn broadcast(result: &[usize], operands: [&[usize]; N]) -> Self {
        let strides = operands.map(|dims| broadcast_strides(result, dims));
        let axes = (0..result.len())
            .map(|axis| Axis { extent: result[axis], strides: std::array::from_fn(|i| strides[i][axis]) });
        Loops::new(axes, [0; N])
    }

    /// The innermost loop.
    pub(crate) fn inner(&self) -> &Axis<N> {
        &self.inner
    }

    /// Calls `row` for each row, or part of a row, of the elements `range` of the result: with the first element
    /// of each operand, and the number of elements.
    pub(crate) fn rows(&self, range: Range<usize>, mut row: impl FnMut([usize; N], usize)) {
        if range.is_empty() || self.inner.extent == 0 {
            return;
        }
        let mut cursor = Cursor::new(self, range.start / self.inner.extent);
        let mut column = range.start % self.inner.extent;
        let mut left = range.len();
        loop {
            let count = left.min(self.inner.extent - column);
            row(cursor.at(column, &self.inner), count);
            left -= count;
            if left == 0 {
                return;
            }
            column = 0;
            cursor.advance(&self.outer);
        }
    }
}

/// Whether one loop over both visits the same elements as `outer` around `inner`.
fn continues<const N: usize>(outer: &Axis<N>, inner: &Axis<N>) -> bool {
    let extent = inner.extent.cast_signed();
    (0..N).all(|i| outer.strides[i] == inner.strides[i] * extent)
}

/// Strides of an operand against each axis of the result: 0 where it is repeated.
pub(crate) fn broadcast_strides(result: &[usize], dims: &[usize]) -> SmallVec<[isize; 6]> {
    let lead = result.len() - dims.len();
    let dense = contiguous_strides(dims);
    let own = dims.iter().zip(&dense).map(|(&d, &s)| if d == 1 { 0 } else { s.cast_signed() });
    std::iter::repeat_n(0, lead).chain(own).collect()
}

/// Position in the outer loops.
struct Cursor<const N: usize> {
    index: SmallVec<[usize; 6]>,
    offsets: [isize; N],
}

impl<const N: usize> Cursor<N> {
    fn new(loops: &Loops<N>, mut row: usize) -> Self {
        let mut cursor = Cursor { index: SmallVec::from_elem(0, loops.outer.len()), offsets: loops.base };
        for (axis, index) in loops.outer.iter().zip(&mut cursor.index).rev() {
            *index = row % axis.extent;
            row /= axis.extent;
            for (offset, stride) in cursor.offsets.iter_mut().zip(axis.strides) {
                *offset += stride * index.cast_signed();
            }
        }
        cursor
    }

    fn at(&self, column: usize, inner: &Axis<N>) -> [usize; N] {
        std::array::from_fn(|i| (self.offsets[i] + inner.strides[i] * column.cast_signed()).cast_unsigned())
    }

    fn advance(&mut self, outer: &[Axis<N>]) {
        for (axis, index) in outer.iter().zip(&mut self.index).rev() {
            *index += 1;
            let wraps = *index == axis.extent;
            let steps = if wraps { 1 - axis.extent.cast_signed() } else { 1 };
            for (offset, stride) in self.offsets.iter_mut().zip(axis.strides) {
                *offset += stride * steps;
            }
            if !wraps {
                return;
            }
            *index = 0;
        }
    }
}

/// A shape seen from one axis: the product of the extents before it, its own, and the product of those after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Around {
    pub(crate) outer: usize,
    pub(crate) extent: usize,
    pub(crate) inner: usize,
}

impl Around {
    pub(crate) fn new(dims: &[usize], axis: usize) -> Self {
        Around {
            outer: dims[..axis].iter().product(),
            extent: dims[axis],
            inner: dims[axis + 1..].iter().product(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visits<const N: usize>(loops: &Loops<N>, range: Range<usize>) -> Vec<[usize; N]> {
        let mut all = Vec::new();
        loops.rows(range, |at, count| {
            for i in 0..count {
                all.push(std::array::from_fn(|n| {
                    (at[n].cast_signed() + loops.inner().strides[n] * i.cast_signed()).cast_unsigned()
                }));
            }
        });
        all
    }

    #[test]
    fn broadcasting_repeats_operands() {
        let loops = Loops::broadcast(&[2, 3], [&[3], &[2, 1]]);
        assert_eq!(visits(&loops, 0..6), [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]);
        assert_eq!(visits(&loops, 2..5), [[2, 0], [0, 1], [1, 1]]);
    }

    #[test]
    fn dense_axes_are_merged() {
        let loops = Loops::broadcast(&[2, 1, 3, 4], [&[2, 1, 3, 4], &[3, 4]]);
        assert_eq!(loops.inner().extent, 12);
        assert_eq!(Loops::broadcast(&[], [&[], &[]]).inner().extent, 1);
        assert!(visits(&Loops::broadcast(&[0, 3], [&[0, 3]]), 0..0).is_empty());
    }

    #[test]
    fn negative_strides_run_backwards() {
        let loops = Loops::new([Axis { extent: 3, strides: [-2] }], [5]);
        assert_eq!(visits(&loops, 0..3), [[5], [3], [1]]);
    }
}
