//! Kernels that follow indices.

use std::ops::Range;

use mslite_graph_opt::ir::op::{Gather, ScatterKind};
use mslite_runtime::{Error, ErrorKind, Result};
use mslite_tensor::{DType, contiguous_strides};

use super::copy::with_size;
use super::{BoxKernel, Build, Kernel};
use crate::arena::Args;
use crate::loops::{Around, Axis, Loops};
use crate::scalar::{Scalar, Sum, with_type};

/// Integers of any type, read from bytes of any alignment.
#[derive(Debug, Clone, Copy)]
struct Reader {
    size: usize,
    read: fn(&[u8]) -> i64,
}

impl Reader {
    fn new(dtype: DType) -> Option<Self> {
        fn read<T: Scalar>(bytes: &[u8]) -> i64
        where
            i64: TryFrom<T>,
        {
            i64::try_from(bytemuck::pod_read_unaligned::<T>(bytes)).unwrap_or(i64::MAX)
        }
        with_type!(dtype, T in int => Reader { size: size_of::<T>(), read: read::<T> })
    }

    fn at(&self, bytes: &[u8], index: usize) -> i64 {
        (self.read)(&bytes[index * self.size..][..self.size])
    }

    /// Element `index` as a position along an axis; a negative one counts from the end.
    fn position(&self, bytes: &[u8], index: usize, extent: usize) -> Option<usize> {
        let value = i128::from(self.at(bytes, index));
        let value = if value < 0 { value + extent as i128 } else { value };
        usize::try_from(value).ok().filter(|&at| at < extent)
    }

    /// # Errors
    /// [`ErrorKind::InvalidArgument`] naming the first index outside the axis.
    fn check(&self, bytes: &[u8], range: Range<usize>, extent: usize) -> Result<()> {
        match range.into_iter().find(|&i| self.position(bytes, i, extent).is_none()) {
            None => Ok(()),
            Some(i) => Err(outside(self.at(bytes, i), i, extent)),
        }
    }
}

fn outside(value: i64, at: usize, extent: usize) -> Error {
    let reason = format!("index {value} (element {at} of the indices) is outside an axis of {extent}");
    Error::new(ErrorKind::InvalidArgument, reason)
}

pub(super) fn gather(gather: &Gather, cx: &Build<'_>) -> Option<BoxKernel> {
    let [x, indices] = cx.inputs else { return None };
    let batch: usize = x.dims[..gather.batch_dims].iter().product();
    let Around { extent, inner, .. } = Around::new(&x.dims, gather.axis);
    Some(Box::new(Rows {
        reader: Reader::new(indices.dtype)?,
        outer: x.dims[gather.batch_dims..gather.axis].iter().product(),
        extent,
        width: inner * x.dtype.size(),
        count: indices.len().checked_div(batch).unwrap_or(0),
    }))
}

/// Copies rows of bytes: result `[batch, outer, count, width]`, operand `[batch, outer, extent, width]`, indices
/// `[batch, count]`.
#[derive(Debug)]
struct Rows {
    reader: Reader,
    outer: usize,
    extent: usize,
    width: usize,
    count: usize,
}

impl Kernel for Rows {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let (x, indices) = (args.input_bytes(0), args.input_bytes(1));
        let y = args.output_bytes(0);
        self.reader.check(indices, 0..indices.len() / self.reader.size, self.extent)?;
        if y.is_empty() {
            return Ok(());
        }
        args.team.split(y, self.width, |at, part| {
            for (i, row) in part.chunks_mut(self.width).enumerate() {
                let i = at / self.width + i;
                let (block, column) = (i / self.count, i % self.count);
                let index = block / self.outer * self.count + column;
                let Some(position) = self.reader.position(indices, index, self.extent) else { continue };
                let from = (block * self.extent + position) * self.width;
                row.copy_from_slice(&x[from..from + self.width]);
            }
        });
        Ok(())
    }
}

pub(super) fn gather_elements(axis: usize, cx: &Build<'_>) -> Result<Option<BoxKernel>> {
    let [x, index] = cx.inputs else { return Ok(None) };
    let dense = contiguous_strides(&x.dims);
    let fits = x.dims.iter().zip(&index.dims).enumerate().all(|(i, (a, b))| i == axis || b <= a);
    if !fits && index.len() > 0 {
        let reason = format!("indices of shape {:?} leave a tensor of shape {:?}", index.dims, x.dims);
        return Err(Error::new(ErrorKind::InvalidArgument, reason));
    }
    let loops = Loops::new(
        index.dims.iter().enumerate().map(|(i, &extent)| {
            let stride = if i == axis { 0 } else { dense[i].cast_signed() };
            Axis { extent, strides: [stride] }
        }),
        [0],
    );
    let Some(reader) = Reader::new(index.dtype) else { return Ok(None) };
    let (extent, stride) = (x.dims[axis], dense[axis]);
    Ok(with_size!(x.dtype.size(), S => {
        Box::new(Elements::<S> { reader, loops, extent, stride }) as BoxKernel
    }))
}

#[derive(Debug)]
struct Elements<const S: usize> {
    reader: Reader,
    /// Over the indices; the operand does not move along the axis.
    loops: Loops<1>,
    extent: usize,
    stride: usize,
}

impl<const S: usize> Kernel for Elements<S> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let x = args.input_bytes(0).as_chunks::<S>().0;
        let indices = args.input_bytes(1);
        let y = args.output_bytes(0).as_chunks_mut::<S>().0;
        self.reader.check(indices, 0..y.len(), self.extent)?;
        let step = self.loops.inner().strides[0].cast_unsigned();
        let mut done = 0;
        self.loops.rows(0..y.len(), |[from], count| {
            for (i, y) in y[done..done + count].iter_mut().enumerate() {
                if let Some(position) = self.reader.position(indices, done + i, self.extent) {
                    *y = x[from + i * step + position * self.stride];
                }
            }
            done += count;
        });
        Ok(())
    }
}

/// Indices whose last axis points into the first axes of a tensor.
#[derive(Debug)]
struct Pointers {
    reader: Reader,
    /// Extents of the axes that are pointed into, and how many blocks one step along each is.
    axes: Vec<(usize, usize)>,
}

impl Pointers {
    fn new(dims: &[usize], indices: &super::Type) -> Option<Self> {
        let depth = *indices.dims.last()?;
        let strides = contiguous_strides(&dims[..depth]);
        let axes = dims[..depth].iter().copied().zip(strides).collect();
        Some(Pointers { reader: Reader::new(indices.dtype)?, axes })
    }

    /// The block that pointer `n` points at.
    fn block(&self, indices: &[u8], n: usize) -> Result<usize> {
        let mut block = 0;
        for (axis, &(extent, stride)) in self.axes.iter().enumerate() {
            let i = n * self.axes.len() + axis;
            let position = self.reader.position(indices, i, extent);
            block += position.ok_or_else(|| outside(self.reader.at(indices, i), i, extent))? * stride;
        }
        Ok(block)
    }
}

pub(super) fn gather_nd(cx: &Build<'_>) -> Option<BoxKernel> {
    let [x, indices] = cx.inputs else { return None };
    let pointers = Pointers::new(&x.dims, indices)?;
    let width = x.dims[pointers.axes.len()..].iter().product::<usize>() * x.dtype.size();
    Some(Box::new(GatherNd { pointers, width }))
}

#[derive(Debug)]
struct GatherNd {
    pointers: Pointers,
    /// Bytes of a block.
    width: usize,
}

impl Kernel for GatherNd {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let (x, indices) = (args.input_bytes(0), args.input_bytes(1));
        let y = args.output_bytes(0);
        if y.is_empty() {
            return Ok(());
        }
        for (n, row) in y.chunks_mut(self.width).enumerate() {
            let from = self.pointers.block(indices, n)? * self.width;
            row.copy_from_slice(&x[from..from + self.width]);
        }
        Ok(())
    }
}

pub(super) fn scatter_nd(kind: ScatterKind, cx: &Build<'_>) -> Option<BoxKernel> {
    let [x, indices, _] = cx.inputs else { return None };
    let pointers = Pointers::new(&x.dims, indices)?;
    let size = x.dtype.size();
    let width = x.dims[pointers.axes.len()..].iter().product::<usize>() * size;
    let combine: fn(&mut [u8], &[u8]) = match kind {
        ScatterKind::Update => <[u8]>::copy_from_slice,
        ScatterKind::Add => with_type!(x.dtype, T in number => add::<T> as fn(&mut [u8], &[u8]))?,
        ScatterKind::Mul => with_type!(x.dtype, T in number => multiply::<T> as fn(&mut [u8], &[u8]))?,
        ScatterKind::Max => with_type!(x.dtype, T in number => raise::<T> as fn(&mut [u8], &[u8]))?,
        ScatterKind::Min => with_type!(x.dtype, T in number => lower::<T> as fn(&mut [u8], &[u8]))?,
        _ => return None,
    };
    Some(Box::new(ScatterNd { pointers, width, combine }))
}

fn add<T: Scalar>(to: &mut [u8], from: &[u8]) {
    each(to, from, |to: T, from| T::from_sum(to.to_sum().plus(from.to_sum())));
}

fn multiply<T: Scalar>(to: &mut [u8], from: &[u8]) {
    each(to, from, |to: T, from| T::from_sum(to.to_sum().times(from.to_sum())));
}

fn raise<T: Scalar>(to: &mut [u8], from: &[u8]) {
    each(to, from, |to: T, from| if from > to { from } else { to });
}

fn lower<T: Scalar>(to: &mut [u8], from: &[u8]) {
    each(to, from, |to: T, from| if from < to { from } else { to });
}

fn each<T: Scalar>(to: &mut [u8], from: &[u8], f: impl Fn(T, T) -> T) {
    let (to, from) = (bytemuck::cast_slice_mut::<u8, T>(to), bytemuck::cast_slice::<u8, T>(from));
    for (to, &from) in to.iter_mut().zip(from) {
        *to = f(*to, from);
    }
}

#[derive(Debug)]
struct ScatterNd {
    pointers: Pointers,
    /// Bytes of a block.
    width: usize,
    combine: fn(&mut [u8], &[u8]),
}

impl Kernel for ScatterNd {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let (indices, updates) = (args.input_bytes(1), args.input_bytes(2));
        let y = args.output_bytes(0);
        y.copy_from_slice(args.input_bytes(0));
        if updates.is_empty() {
            return Ok(());
        }
        for (n, update) in updates.chunks(self.width).enumerate() {
            let to = self.pointers.block(indices, n)? * self.width;
            (self.combine)(&mut y[to..to + self.width], update);
        }
        Ok(())
    }
}

pub(super) fn one_hot(axis: usize, cx: &Build<'_>) -> Option<BoxKernel> {
    let [indices, on, _] = cx.inputs else { return None };
    let around = Around::new(&cx.outputs[0].dims, axis);
    let reader = Reader::new(indices.dtype)?;
    with_size!(on.dtype.size(), S => Box::new(OneHot::<S> { reader, around }) as BoxKernel)
}

/// An index outside the new axis sets nothing, and a negative one is outside.
#[derive(Debug)]
struct OneHot<const S: usize> {
    reader: Reader,
    around: Around,
}

impl<const S: usize> Kernel for OneHot<S> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let indices = args.input_bytes(0);
        let value = |operand: usize| args.input_bytes(operand).as_chunks::<S>().0.first().copied();
        let (Some(on), Some(off)) = (value(1), value(2)) else { return Ok(()) };
        let y = args.output_bytes(0).as_chunks_mut::<S>().0;
        y.fill(off);
        let Around { outer, extent, inner } = self.around;
        for i in 0..outer * inner {
            let at = self.reader.at(indices, i);
            if let Some(at) = usize::try_from(at).ok().filter(|&at| at < extent) {
                y[(i / inner * extent + at) * inner + i % inner] = on;
            }
        }
        Ok(())
    }
}
