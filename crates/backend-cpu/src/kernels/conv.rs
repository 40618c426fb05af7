use std::marker::PhantomData;
use std::sync::Arc;

use mslite_graph_opt::ir::op::{Conv2d, Padding2d};
use mslite_runtime::Result;

use super::linear::{Failure, Right, View, Weights, product};
use super::matmul::{Pieces, activate, rounded};
use super::{BoxKernel, Build, Kernel};
use crate::arena::Args;
use crate::scalar::{Scalar, with_type};

pub(super) fn build(conv: &Conv2d, cx: &Build<'_>) -> Option<BoxKernel> {
    let ([n, c, h, w], [out, depth, kh, kw]) = (four(&cx.inputs[0].dims)?, four(&cx.inputs[1].dims)?);
    let [_, _, oh, ow] = four(&cx.outputs[0].dims)?;
    if !out.is_multiple_of(conv.groups) || conv.dilations.contains(&0) {
        return None;
    }
    let before = padding_before(conv.padding, [h, w], [oh, ow], [kh, kw], conv.strides, conv.dilations);
    let geometry = Geometry {
        batch: n,
        channels: c,
        size: [h, w],
        out,
        depth,
        kernel: [kh, kw],
        result: [oh, ow],
        before,
        op: conv.clone(),
        has_bias: cx.inputs.len() == 3,
    };
    let weights = cx.weights.cloned();
    with_type!(cx.inputs[0].dtype, T in single => {
        Box::new(Convolution::<T> { geometry, weights, element: PhantomData }) as BoxKernel
    })
}

pub(super) fn four(dims: &[usize]) -> Option<[usize; 4]> {
    dims.try_into().ok()
}

/// Cells added at the top and at the left.
pub(super) fn padding_before(
    padding: Padding2d,
    size: [usize; 2],
    result: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
) -> [usize; 2] {
    match padding {
        Padding2d::Explicit([top, _, left, _]) => [top, left],
        Padding2d::Same => std::array::from_fn(|i| {
            let extent = (kernel[i].max(1) - 1) * dilations[i] + 1;
            let covered = result[i].max(1).saturating_sub(1) * strides[i] + extent;
            covered.saturating_sub(size[i]) / 2
        }),
    }
}

#[derive(Debug)]
struct Geometry {
    batch: usize,
    channels: usize,
    /// Height and width of the operand.
    size: [usize; 2],
    /// Channels of the result.
    out: usize,
    /// Channels that a filter reads.
    depth: usize,
    kernel: [usize; 2],
    /// Height and width of the result.
    result: [usize; 2],
    before: [usize; 2],
    op: Conv2d,
    has_bias: bool,
}

impl Geometry {
    /// Whether every filter reads one channel.
    fn is_depthwise(&self) -> bool {
        self.depth == 1 && self.op.groups > 1
    }

    fn area(&self) -> usize {
        self.result[0] * self.result[1]
    }

    fn window(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn filters(&self) -> usize {
        self.out / self.op.groups.max(1)
    }

    /// The range of positions along an axis whose kernel element `k` lies inside the operand.
    fn inside(&self, axis: usize, k: usize) -> std::ops::Range<usize> {
        let stride = self.op.strides[axis];
        let shift = k * self.op.dilations[axis];
        let first = self.before[axis].saturating_sub(shift).div_ceil(stride);
        let end = (self.size[axis] + self.before[axis]).saturating_sub(shift).div_ceil(stride);
        let end = end.min(self.result[axis]);
        first.min(end)..end
    }

    /// Where kernel element `k` at position `i` lies along an axis; it must be inside.
    fn source(&self, axis: usize, i: usize, k: usize) -> usize {
        i * self.op.strides[axis] + k * self.op.dilations[axis] - self.before[axis]
    }

    /// Row `row` of the matrix of windows: what kernel element `row` of a group meets at every position.
    fn fill_row(&self, image: &[f32], row: usize, to: &mut [f32]) {
        let (channel, element) = (row / self.window(), row % self.window());
        let (ky, kx) = (element / self.kernel[1], element % self.kernel[1]);
        let plane = &image[channel * self.size[0] * self.size[1]..];
        to.fill(0.0);
        let columns = self.inside(1, kx);
        if columns.is_empty() {
            return;
        }
        for y in self.inside(0, ky) {
            let line = &plane[self.source(0, y, ky) * self.size[1]..];
            let from = line[self.source(1, columns.start, kx)..].iter().step_by(self.op.strides[1]);
            let to = &mut to[y * self.result[1]..][columns.clone()];
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from;
            }
        }
    }

    /// One channel of a depthwise convolution.
    fn plane(&self, image: &[f32], filter: &[f32], out: &mut [f32]) {
        out.fill(0.0);
        for (element, &weight) in filter.iter().enumerate() {
            let (ky, kx) = (element / self.kernel[1], element % self.kernel[1]);
            let columns = self.inside(1, kx);
            if columns.is_empty() {
                continue;
            }
            for y in self.inside(0, ky) {
                let line = &image[self.source(0, y, ky) * self.size[1]..];
                let from = line[self.source(1, columns.start, kx)..].iter().step_by(self.op.strides[1]);
                let to = &mut out[y * self.result[1]..][columns.clone()];
                for (to, from) in to.iter_mut().zip(from) {
                    *to += from * weight;
                }
            }
        }
    }

    /// Adds the bias of channels from `channel` on, and applies the activation.
    fn finish<T: Scalar<Work = f32>>(&self, bias: &[f32], channel: usize, out: &mut [f32]) {
        if self.has_bias {
            for (i, plane) in out.chunks_mut(self.area()).enumerate() {
                let bias = bias[(channel + i) % self.out];
                plane.iter_mut().for_each(|y| *y = T::step(*y) + bias);
            }
        }
        if let Some(f) = self.op.activation {
            activate::<T>(f, out);
        }
    }
}

/// Depthwise directly, others as products of the filters and the matrix of windows.
#[derive(Debug)]
struct Convolution<T> {
    geometry: Geometry,
    weights: Option<Arc<Weights>>,
    element: PhantomData<T>,
}

impl<T: Scalar<Work = f32>> Convolution<T> {
    /// Elements of the matrix of windows of a group.
    fn windows(&self) -> usize {
        let g = &self.geometry;
        if g.is_depthwise() { 0 } else { g.depth * g.window() * g.area() }
    }
}

impl<T: Scalar<Work = f32>> Kernel for Convolution<T> {
    fn scratch(&self, _threads: usize) -> usize {
        let g = &self.geometry;
        let image = g.batch * g.channels * g.size[0] * g.size[1];
        let filters = if self.weights.is_some() { 0 } else { g.out * g.depth * g.window() };
        let narrow = image + filters + g.out + g.batch * g.out * g.area();
        (self.windows() + if T::NARROW { narrow } else { 0 }) * size_of::<f32>()
    }

    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let g = &self.geometry;
        let out = args.output::<T>(0);
        if out.is_empty() {
            return Ok(());
        }
        let mut pieces = Pieces(args.scratch());
        let team = args.team;
        let x = pieces.load(team, args.input::<T>(0));
        let filters = match self.weights {
            Some(_) => &[],
            None => pieces.load(team, args.input::<T>(1)),
        };
        let bias = if g.has_bias { pieces.load(team, args.input::<T>(2)) } else { &[] };
        rounded(team, out, &mut pieces, |out, pieces| {
            if g.is_depthwise() {
                let per_channel = g.out / g.channels;
                team.split_costly(out, g.area(), g.window(), |at, part| {
                    for (i, plane) in part.chunks_mut(g.area()).enumerate() {
                        let index = at / g.area() + i;
                        let (image, filter) = (index / per_channel, index % g.out);
                        let size = g.size[0] * g.size[1];
                        let x = &x[image * size..][..size];
                        g.plane(x, &filters[filter * g.window()..][..g.window()], plane);
                    }
                    g.finish::<T>(bias, at / g.area(), part);
                });
                return Ok(());
            }
            self.products(args, x, filters, bias, out, pieces.cut(self.windows()))
        })
    }
}

impl<T: Scalar<Work = f32>> Convolution<T> {
    fn products(
        &self,
        args: &Args<'_>,
        x: &[f32],
        filters: &[f32],
        bias: &[f32],
        out: &mut [f32],
        windows: &mut [f32],
    ) -> Result<()> {
        let g = &self.geometry;
        let (area, depth) = (g.area(), g.depth * g.window());
        let size = g.depth * g.size[0] * g.size[1];
        for (index, out) in out.chunks_mut(g.filters() * area).enumerate() {
            let group = index % g.op.groups;
            let image = &x[index * size..][..size];
            args.team.split(windows, area, |at, part| {
                for (i, row) in part.chunks_mut(area).enumerate() {
                    g.fill_row(image, at / area + i, row);
                }
            });
            let windows = View::matrix(windows, [depth, area], false);
            let failure = Failure::default();
            if let Some(Weights::Filters(packed)) = self.weights.as_deref() {
                failure.note(packed.product(out, group, &windows));
                g.finish::<T>(bias, group * g.filters(), out);
            } else {
                let filters = &filters[group * g.filters() * depth..][..g.filters() * depth];
                let filters = View::matrix(filters, [g.filters(), depth], false);
                let unit = area * g.filters().div_ceil(args.team.threads());
                args.team.split_costly(out, unit, depth.div_ceil(16), |at, part| {
                    let rows = filters.rows(at / area, part.len() / area);
                    failure.note(product(part, &rows, Right::View(windows)));
                    g.finish::<T>(bias, group * g.filters() + at / area, part);
                });
            }
            failure.result()?;
        }
        Ok(())
    }
}
