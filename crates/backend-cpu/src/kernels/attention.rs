//! Attention, block by block, and rotary position embedding.

use std::marker::PhantomData;
use std::sync::{Mutex, TryLockError};

use mslite_graph_opt::ir::op::{Attention, Packed};
use mslite_runtime::Result;
use mslite_tensor::DType;
use smallvec::SmallVec;

use super::linear::{Failure, Right, View, product};
use super::math::Real;
use super::matmul::{Pieces, rounded};
use super::norm::weigh;
use super::{BoxKernel, Build, Kernel, Type};
use crate::arena::Args;
use crate::loops::{Loops, broadcast_strides};
use crate::scalar::{Bit, CHUNK, Scalar, with_type};
use crate::simd::{Loop, vectorised};

pub(super) fn attention(op: &Attention, cx: &Build<'_>) -> Option<BoxKernel> {
    let heads = |n: usize, x: &Type| match op.packed[n] {
        Some(packed) => Layout::packed(&x.dims, packed),
        None => Layout::new(&x.dims, op.heads[n]),
    };
    let layouts = [heads(0, &cx.inputs[0])?, heads(1, &cx.inputs[1])?, heads(2, &cx.inputs[2])?];
    let mut result = heads(3, &cx.outputs[0])?;
    if result.length == 1 {
        // One row: heads behind each other are heads before it.
        result = Layout { is_last: false, pitch: result.width, ..result };
    }
    let [query, key, _] = &layouts;
    let full = [query.batch, query.heads, query.length, key.length];
    let mask = cx.inputs.get(3).map(|mask| Mask {
        is_bool: mask.dtype == DType::Bool,
        strides: std::array::from_fn(|i| broadcast_strides(&full, &mask.dims)[i].cast_unsigned()),
    });
    let geometry = Geometry { layouts, result, mask, scale: op.scale as f32 };
    with_type!(cx.inputs[0].dtype, T in single => {
        Box::new(Heads::<T> { geometry, element: PhantomData }) as BoxKernel
    })
}

/// Where the rows of heads are.
#[derive(Debug, Clone, Copy)]
struct Layout {
    batch: usize,
    heads: usize,
    length: usize,
    width: usize,
    /// Whether heads come behind the length.
    is_last: bool,
    /// The first element, and the distance between rows of the same head.
    start: usize,
    pitch: usize,
}

impl Layout {
    fn new(dims: &[usize], heads: usize) -> Option<Self> {
        let &[batch, a, b, width] = dims else { return None };
        let is_last = heads == 2;
        let (heads, length) = if is_last { (b, a) } else { (a, b) };
        let pitch = if is_last { heads * width } else { width };
        Some(Layout { batch, heads, length, width, is_last, start: 0, pitch })
    }

    fn packed(dims: &[usize], Packed { start, heads, width }: Packed) -> Option<Self> {
        let &[batch, length, pitch] = dims else { return None };
        (start + heads * width <= pitch).then_some(Layout {
            batch,
            heads,
            length,
            width,
            is_last: true,
            start,
            pitch,
        })
    }

    /// Elements of the tensor.
    fn len(&self) -> usize {
        let heads = if self.is_last { 1 } else { self.heads };
        self.batch * self.length * heads * self.pitch
    }

    /// First element of a row of a head, and the distance to the next one.
    fn row(&self, batch: usize, head: usize, row: usize) -> (usize, usize) {
        let Layout { heads, length, width, is_last, start, pitch, .. } = *self;
        let from = match is_last {
            true => start + (batch * length + row) * pitch + head * width,
            false => ((batch * heads + head) * length + row) * width,
        };
        (from, pitch)
    }

    /// Rows of a head as a matrix.
    fn matrix<'a>(&self, x: &'a [f32], batch: usize, head: usize, first: usize, count: usize) -> View<'a> {
        let (from, step) = self.row(batch, head, first);
        View { data: &x[from..], dims: [count, self.width], strides: [step, 1] }
    }
}

#[derive(Debug)]
struct Mask {
    is_bool: bool,
    /// Distance along batch, heads, rows and columns.
    strides: [usize; 4],
}

impl Mask {
    fn at(&self, batch: usize, head: usize, row: usize) -> usize {
        batch * self.strides[0] + head * self.strides[1] + row * self.strides[2]
    }
}

/// The elements of a mask.
#[derive(Clone, Copy)]
enum Masking<'a> {
    None,
    Added(&'a [f32]),
    Hidden(&'a [Bit]),
}

#[derive(Debug)]
struct Geometry {
    /// Query, key and value.
    layouts: [Layout; 3],
    result: Layout,
    mask: Option<Mask>,
    scale: f32,
}

/// A block's scores stay in a cache.
const SCORES: usize = 1 << 16;

impl Geometry {
    fn columns(&self) -> usize {
        self.layouts[1].length
    }

    /// Rows that are computed together.
    fn rows(&self) -> usize {
        (SCORES / self.columns().max(1)).clamp(8, 128).min(self.result.length.max(1))
    }

    /// Elements of scratch memory for one block of one head: scores, and products where heads come last.
    fn block(&self) -> usize {
        self.rows() * (self.columns() + self.result.width)
    }

    /// Elements of the result that one thread computes at a time.
    fn unit(&self) -> usize {
        let heads = if self.result.is_last { self.result.heads } else { 1 };
        self.rows() * heads * self.result.width
    }
}

#[derive(Debug)]
struct Heads<T> {
    geometry: Geometry,
    element: PhantomData<T>,
}

impl<T: Scalar<Work = f32>> Kernel for Heads<T> {
    fn scratch(&self, threads: usize) -> usize {
        let g = &self.geometry;
        let wide = g.layouts.iter().map(Layout::len).sum::<usize>() + g.result.len();
        (threads * g.block() + if T::NARROW { wide } else { 0 }) * size_of::<f32>()
    }

    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let g = &self.geometry;
        let out = args.output::<T>(0);
        if out.is_empty() {
            return Ok(());
        }
        let mut pieces = Pieces(args.scratch());
        let team = args.team;
        let mut operands: [&[f32]; 3] = [&[]; 3];
        for n in 0..3 {
            // Packed operands may be one tensor.
            let same = (0..n).find(|&m| std::ptr::eq(args.input::<T>(m), args.input::<T>(n)));
            operands[n] = same.map_or_else(|| pieces.load(team, args.input::<T>(n)), |m| operands[m]);
        }
        let masking = match &g.mask {
            None => Masking::None,
            Some(mask) if mask.is_bool => Masking::Hidden(args.input(3)),
            Some(_) => Masking::Added(args.input(3)),
        };
        let work = Work::<T> { geometry: g, operands, masking, element: PhantomData };
        rounded(team, out, &mut pieces, |out, pieces| {
            let slots = Slots::new(pieces.cut(team.threads() * g.block()), g.block());
            let failure = Failure::default();
            let cost = (g.columns() / 8).max(1);
            team.split_costly(out, g.unit(), cost, |at, part| {
                slots.with(|scratch| failure.note(work.part(at, part, scratch)));
            });
            failure.result()
        })
    }
}

/// Scratch memory for several threads, a piece for each that asks at the same time.
struct Slots<'a>(SmallVec<[Mutex<&'a mut [f32]>; 32]>);

impl<'a> Slots<'a> {
    fn new(all: &'a mut [f32], size: usize) -> Self {
        Slots(all.chunks_mut(size.max(1)).map(Mutex::new).collect())
    }

    fn with(&self, work: impl FnOnce(&mut [f32])) {
        for slot in self.0.iter().cycle() {
            match slot.try_lock() {
                Ok(mut slot) => return work(&mut slot),
                Err(TryLockError::Poisoned(slot)) => return work(&mut slot.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
        }
    }
}

struct Work<'a, T> {
    geometry: &'a Geometry,
    operands: [&'a [f32]; 3],
    masking: Masking<'a>,
    element: PhantomData<T>,
}

impl<T: Scalar<Work = f32>> Work<'_, T> {
    /// A part of the result, from element `at` on.
    fn part(&self, at: usize, out: &mut [f32], scratch: &mut [f32]) -> Result<()> {
        let Geometry { result, .. } = self.geometry;
        let heads = if result.is_last { result.heads } else { 1 };
        let (scores, product) = scratch.split_at_mut(self.geometry.rows() * self.geometry.columns());
        let (mut row, mut rest) = (at / (result.width * heads), out);
        while !rest.is_empty() {
            let (outer, first) = (row / result.length, row % result.length);
            let left = (result.length - first).min(rest.len() / (result.width * heads));
            let count = left.min(self.geometry.rows());
            let (block, later) = std::mem::take(&mut rest).split_at_mut(count * result.width * heads);
            if result.is_last {
                for head in 0..heads {
                    let product = &mut product[..count * result.width];
                    self.block([outer, head, first, count], scores, product)?;
                    scatter(product, &mut block[head * result.width..], result.width, heads);
                }
            } else {
                self.block([outer / result.heads, outer % result.heads, first, count], scores, block)?;
            }
            row += count;
            rest = later;
        }
        Ok(())
    }

    /// Some rows of one head.
    fn block(
        &self,
        [batch, head, first, count]: [usize; 4],
        scores: &mut [f32],
        out: &mut [f32],
    ) -> Result<()> {
        let [query, key, value] = &self.geometry.layouts;
        let columns = key.length;
        let shared = head / (query.heads / key.heads);
        if columns == 0 {
            out.fill(f32::NAN);
            return Ok(());
        }
        let scores = &mut scores[..count * columns];
        let keys = key.matrix(self.operands[1], batch, shared, 0, columns);
        let keys = View { data: keys.data, dims: [key.width, columns], strides: [1, keys.strides[0]] };
        match query.width {
            0 => scores.fill(0.0),
            _ => {
                let rows = query.matrix(self.operands[0], batch, head, first, count);
                product(scores, &rows, Right::View(keys))?;
            }
        }
        for (i, row) in scores.chunks_mut(columns).enumerate() {
            self.mask(row, [batch, head, first + i]);
            weigh(row);
            round::<T>(row);
        }
        let weights = View { data: scores, dims: [count, columns], strides: [columns, 1] };
        product(out, &weights, Right::View(value.matrix(self.operands[2], batch, shared, 0, columns)))
    }

    /// Rounds and scales a row of scores, and masks it.
    fn mask(&self, row: &mut [f32], [batch, head, at]: [usize; 3]) {
        let scale = self.geometry.scale;
        round::<T>(row);
        vectorised(Scaled { row, scale });
        let Some(mask) = &self.geometry.mask else { return };
        let (from, step) = (mask.at(batch, head, at), mask.strides[3]);
        match self.masking {
            Masking::None => {}
            Masking::Added(added) if step == 1 => {
                vectorised(Add { to: row, from: &added[from..] });
            }
            Masking::Added(added) => {
                for (i, score) in row.iter_mut().enumerate() {
                    *score += added[from + i * step];
                }
            }
            Masking::Hidden(hidden) => {
                for (i, score) in row.iter_mut().enumerate() {
                    *score = if hidden[from + i * step].is_set() { f32::MIN } else { *score };
                }
            }
        }
    }
}

/// Copies rows to places `heads` rows apart.
fn scatter(rows: &[f32], to: &mut [f32], width: usize, heads: usize) {
    for (row, to) in rows.chunks(width.max(1)).zip(to.chunks_mut((width * heads).max(1))) {
        to[..width].copy_from_slice(row);
    }
}

/// Rounds elements to those of a stepwise type.
fn round<T: Scalar<Work = f32>>(row: &mut [f32]) {
    if !T::STEPWISE {
        return;
    }
    let (mut narrow, mut wide) = ([T::default(); CHUNK], [0.0; CHUNK]);
    for part in row.chunks_mut(CHUNK) {
        let narrow = &mut narrow[..part.len()];
        T::store(narrow, &mut wide, |wide| wide.copy_from_slice(part));
        T::load(narrow, part);
    }
}

struct Scaled<'a> {
    row: &'a mut [f32],
    scale: f32,
}

impl Loop for Scaled<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for x in self.row {
            *x *= self.scale;
        }
    }
}

struct Add<'a> {
    to: &'a mut [f32],
    from: &'a [f32],
}

impl Loop for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            *to += from;
        }
    }
}

pub(super) fn rope(cx: &Build<'_>) -> Option<BoxKernel> {
    let (&columns, lead) = cx.inputs[0].dims.split_last()?;
    let (&width, cos) = cx.inputs[1].dims.split_last()?;
    let (_, sin) = cx.inputs[2].dims.split_last().filter(|(last, _)| **last == width)?;
    if !columns.is_multiple_of(width) {
        return None;
    }
    let loops = Loops::broadcast(lead, [cos, sin]);
    with_type!(cx.inputs[0].dtype, T in float => {
        Box::new(Rope::<T> { columns, width, loops, element: PhantomData }) as BoxKernel
    })
}

#[derive(Debug)]
struct Rope<T> {
    columns: usize,
    /// Columns that are rotated together.
    width: usize,
    /// Rows of cos and sin for the rows of the result.
    loops: Loops<2>,
    element: PhantomData<T>,
}

impl<T: Scalar<Work: Real>> Kernel for Rope<T> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let [x, cos, sin] = [0, 1, 2].map(|n| args.input::<T>(n));
        let y = args.output::<T>(0);
        let Rope { columns, width, .. } = *self;
        if y.is_empty() {
            return Ok(());
        }
        args.team.split_costly(y, columns, 2, |at, part| {
            let [s, t] = self.loops.inner().strides.map(isize::cast_unsigned);
            let first = at / columns;
            let (x, mut row) = (&x[at..at + part.len()], 0);
            self.loops.rows(first..first + part.len() / columns, |[i, j], count| {
                for n in 0..count {
                    let (cos, sin) =
                        (&cos[(i + n * s) * width..][..width], &sin[(j + n * t) * width..][..width]);
                    let own = row * columns..(row + 1) * columns;
                    for (x, y) in x[own.clone()].chunks(width).zip(part[own].chunks_mut(width)) {
                        rotate::<T>(x, cos, sin, y);
                    }
                    row += 1;
                }
            });
        });
        Ok(())
    }
}

fn rotate<T: Scalar<Work: Real>>(x: &[T], cos: &[T], sin: &[T], y: &mut [T]) {
    let half = x.len() / 2;
    vectorised(Rotate { x, cos, sin, y, half });
}

struct Rotate<'a, T> {
    x: &'a [T],
    cos: &'a [T],
    sin: &'a [T],
    y: &'a mut [T],
    half: usize,
}

impl<T: Scalar<Work: Real>> Loop for Rotate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (low, high) = self.x.split_at(self.half);
        let (y_low, y_high) = self.y.split_at_mut(self.half);
        let (cos_low, cos_high) = self.cos.split_at(self.half);
        let (sin_low, sin_high) = self.sin.split_at(self.half);
        let zero = T::Work::from_f64(0.0);
        for i in 0..self.half {
            let (a, b) = (low[i].to_work(), high[i].to_work());
            let first = T::step(a.mul(cos_low[i].to_work()));
            let second = T::step(zero.sub(b).mul(sin_low[i].to_work()));
            y_low[i] = T::narrow(first.add(second).widen());
            let first = T::step(b.mul(cos_high[i].to_work()));
            let second = T::step(a.mul(sin_high[i].to_work()));
            y_high[i] = T::narrow(first.add(second).widen());
        }
    }
}
