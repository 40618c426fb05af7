//! Softmax, layer and RMS normalisation.

use std::marker::PhantomData;

use bytemuck::Zeroable;
use mslite_graph_opt::ir::op::{AddNorm, Norm, Softmax};
use mslite_runtime::Result;

use super::math::Real;
use super::{BoxKernel, Build, Kernel, Type};
use crate::arena::Args;
use crate::loops::{Around, Loops};
use crate::scalar::{CHUNK, Scalar, with_type};
use crate::simd::{LANES, Loop, fold, map, vectorised};

pub(super) fn softmax(softmax: &Softmax, cx: &Build<'_>) -> Option<BoxKernel> {
    let around = Around::new(&cx.inputs[0].dims, softmax.axis);
    let log = softmax.log;
    with_type!(cx.inputs[0].dtype, T in float => {
        Box::new(SoftmaxKernel::<T> { around, log, element: PhantomData }) as BoxKernel
    })
}

#[derive(Debug)]
struct SoftmaxKernel<T> {
    around: Around,
    log: bool,
    element: PhantomData<T>,
}

impl<T: Scalar<Work: Real>> Kernel for SoftmaxKernel<T> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let x = args.input::<T>(0);
        let y = args.output::<T>(0);
        let Around { extent, inner, .. } = self.around;
        if y.is_empty() {
            return Ok(());
        }
        args.team.split_costly(y, extent * inner, 8, |at, part| {
            for (x, y) in x[at..].chunks(extent * inner).zip(part.chunks_mut(extent * inner)) {
                if inner == 1 {
                    self.row(x, y);
                } else {
                    self.columns(x, y);
                }
            }
        });
        Ok(())
    }
}

/// Columns that are computed side by side.
const COLUMNS: usize = 64;

impl<T: Scalar<Work: Real>> SoftmaxKernel<T> {
    fn row(&self, x: &[T], y: &mut [T]) {
        let top = maximum::<T>(x);
        let total = exp_sum::<T>(x, top);
        let (shift, scale) = self.constants(top, total);
        let (mut from, mut to) = buffers::<T>();
        for (x, y) in x.chunks(CHUNK).zip(y.chunks_mut(CHUNK)) {
            let x = T::load(x, &mut from);
            T::store(y, &mut to, |y| {
                if self.log {
                    map(x, y, |x| x.sub(shift).sub(scale));
                } else if T::STEPWISE {
                    map(x, y, |x| weight::<T>(x, shift).div(scale));
                } else {
                    vectorised(ScaledExp { x, y, shift, scale });
                }
            });
        }
    }

    /// What is subtracted from the elements, and what is subtracted then, for the logarithm, or what the
    /// exponential is multiplied by, or divided by if the type is stepwise.
    fn constants(&self, top: T::Work, total: f64) -> (T::Work, T::Work) {
        let float = T::Work::from_f64;
        match (self.log, T::STEPWISE) {
            (true, _) => (top, float(total.ln())),
            (false, true) => (top, T::step(float(total))),
            (false, false) => (top, float(1.0 / total)),
        }
    }

    #[inline(always)]
    fn value(&self, x: T::Work, shift: T::Work, scale: T::Work) -> T::Work {
        match (self.log, T::STEPWISE) {
            (true, _) => x.sub(shift).sub(scale),
            (false, true) => weight::<T>(x, shift).div(scale),
            (false, false) => weight::<T>(x, shift).mul(scale),
        }
    }

    /// The axis is not the last one: neighbouring columns go together.
    fn columns(&self, x: &[T], y: &mut [T]) {
        let inner = self.around.inner;
        for first in (0..inner).step_by(COLUMNS) {
            let columns = first..inner.min(first + COLUMNS);
            let mut tops = [T::Work::from_f64(f64::NEG_INFINITY); COLUMNS];
            let mut totals = [0.0f64; COLUMNS];
            for x in x.chunks(inner) {
                for (top, x) in tops.iter_mut().zip(&x[columns.clone()]) {
                    *top = larger(*top, x.to_work());
                }
            }
            for x in x.chunks(inner) {
                for ((total, top), x) in totals.iter_mut().zip(tops).zip(&x[columns.clone()]) {
                    *total += weight::<T>(x.to_work(), top).to_f64();
                }
            }
            for (x, y) in x.chunks(inner).zip(y.chunks_mut(inner)) {
                let pairs = x[columns.clone()].iter().zip(&mut y[columns.clone()]);
                for ((x, y), (top, total)) in pairs.zip(tops.into_iter().zip(totals)) {
                    let (shift, scale) = self.constants(top, total);
                    *y = narrow::<T>(self.value(x.to_work(), shift, scale));
                }
            }
        }
    }
}

/// The exponential of the difference to the largest element.
#[inline(always)]
fn weight<T: Scalar<Work: Real>>(x: T::Work, top: T::Work) -> T::Work {
    T::step(T::step(x.sub(top)).exp())
}

fn narrow<T: Scalar<Work: Real>>(value: T::Work) -> T {
    T::narrow(value.widen())
}

fn buffers<T: Scalar>() -> ([T::Work; CHUNK], [T::Work; CHUNK]) {
    ([T::Work::zeroed(); CHUNK], [T::Work::zeroed(); CHUNK])
}

#[inline(always)]
#[allow(clippy::eq_op, reason = "NaN differs from itself, and stays")]
fn larger<W: PartialOrd + Copy>(x: W, y: W) -> W {
    if x > y || x != x { x } else { y }
}

/// Sum of `f` of all elements, in blocks whose sums are added in `f64`.
fn sum<T: Scalar<Work: Real>>(x: &[T], f: impl Fn(T::Work) -> T::Work) -> f64 {
    let mut buffer = [T::Work::zeroed(); CHUNK];
    let blocks = x.chunks(CHUNK);
    blocks.map(|x| fold(T::load(x, &mut buffer), T::Work::zeroed(), &f, T::Work::add).to_f64()).sum()
}

fn maximum<T: Scalar<Work: Real>>(x: &[T]) -> T::Work {
    let lowest = T::Work::from_f64(f64::NEG_INFINITY);
    let mut buffer = [T::Work::zeroed(); CHUNK];
    let blocks = x.chunks(CHUNK);
    blocks.map(|x| fold(T::load(x, &mut buffer), lowest, |x| x, larger)).fold(lowest, larger)
}

/// Sum of the exponentials of the differences to `top`.
fn exp_sum<T: Scalar<Work: Real>>(x: &[T], top: T::Work) -> f64 {
    let mut buffer = [T::Work::zeroed(); CHUNK];
    let mut total = 0.0;
    for x in x.chunks(CHUNK) {
        let (blocks, rest) = T::load(x, &mut buffer).as_chunks::<LANES>();
        let tail = rest.iter().map(|&x| weight::<T>(x, top).to_f64()).sum::<f64>();
        let lanes = vectorised(ExpLanes::<T> { blocks, top });
        total += tail + lanes.into_iter().map(T::Work::to_f64).sum::<f64>();
    }
    total
}

/// Softmax of a row, in its place.
pub(super) fn weigh(row: &mut [f32]) {
    let top = maximum::<f32>(row);
    vectorised(Exp { row, top });
    let scale = (1.0 / sum(row, |x| x)) as f32;
    vectorised(Scale { row, scale });
}

struct Exp<'a> {
    row: &'a mut [f32],
    top: f32,
}

impl Loop for Exp<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for x in self.row {
            *x = Real::exp(*x - self.top);
        }
    }
}

/// `1 / sqrt(mean + epsilon)`, rounded after each step.
fn inverse_root<T: Scalar<Work: Real>>(mean: f64, epsilon: f64) -> T::Work {
    let float = T::Work::from_f64;
    float(1.0).div(float(mean).add(float(epsilon)).sqrt())
}

struct Scale<'a> {
    row: &'a mut [f32],
    scale: f32,
}

impl Loop for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for x in self.row {
            *x *= self.scale;
        }
    }
}

struct ExpLanes<'a, T: Scalar> {
    blocks: &'a [[T::Work; LANES]],
    top: T::Work,
}

impl<T: Scalar<Work: Real>> Loop for ExpLanes<'_, T> {
    type Output = [T::Work; LANES];

    #[inline(always)]
    fn run(self) -> [T::Work; LANES] {
        let mut lanes = [T::Work::zeroed(); LANES];
        for block in self.blocks {
            for (lane, &x) in lanes.iter_mut().zip(block) {
                *lane = lane.add(weight::<T>(x, self.top));
            }
        }
        lanes
    }
}

/// `y = exp(x - shift) * scale`
struct ScaledExp<'a, W> {
    x: &'a [W],
    y: &'a mut [W],
    shift: W,
    scale: W,
}

impl<W: Real> Loop for ScaledExp<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (y, x) in self.y.iter_mut().zip(self.x) {
            *y = x.sub(self.shift).exp().mul(self.scale);
        }
    }
}

pub(super) fn layer_norm(norm: &Norm, cx: &Build<'_>) -> Option<BoxKernel> {
    normalise(norm, cx, true)
}

pub(super) fn rms_norm(norm: &Norm, cx: &Build<'_>) -> Option<BoxKernel> {
    normalise(norm, cx, false)
}

fn normalise(norm: &Norm, cx: &Build<'_>, centred: bool) -> Option<BoxKernel> {
    with_type!(cx.inputs[0].dtype, T in float => {
        Box::new(Normalise::<T>::new(norm, cx, centred, 1)) as BoxKernel
    })
}

pub(super) fn add_norm(norm: &AddNorm, cx: &Build<'_>) -> Option<BoxKernel> {
    let AddNorm { axis, epsilon, centred, sum } = *norm;
    let x = &cx.inputs[0];
    let first = cx.inputs.len() - if centred { 2 } else { 1 };
    let addends: Vec<Factor> =
        cx.inputs[1..first].iter().map(|addend| Factor::new(addend, x, axis)).collect();
    let wide = x.dtype != cx.outputs[0].dtype;
    with_type!(cx.outputs[0].dtype, T in float => {
        let normal = Normalise::<T>::new(&Norm { axis, epsilon }, cx, centred, first);
        Box::new(AddNormalise { normal, addends, sum, wide }) as BoxKernel
    })
}

/// `(x - mean) / sqrt(variance + epsilon)` of each row, times gamma, plus beta.
#[derive(Debug)]
struct Normalise<T> {
    width: usize,
    len: usize,
    epsilon: f64,
    /// Whether the mean is subtracted.
    centred: bool,
    /// Gamma and beta, or gamma, and the number of the operand that the first one is.
    factors: Vec<Factor>,
    first: usize,
    element: PhantomData<T>,
}

/// How gamma, beta or an addend belongs to the elements.
#[derive(Debug)]
enum Factor {
    /// An element for each column.
    Row,
    /// An element for each.
    Whole,
    /// Broadcast in another way: it is expanded to the shape of x first.
    Expanded(Loops<1>),
}

impl Factor {
    fn new(factor: &Type, x: &Type, axis: usize) -> Self {
        let ones = factor.dims.iter().take_while(|&&d| d == 1).count();
        let width: usize = x.dims[axis..].iter().product();
        let tail = &x.dims[axis..];
        let own = &factor.dims[ones.min(factor.dims.len().saturating_sub(tail.len()))..];
        if own == tail && factor.len() == width {
            return Factor::Row;
        }
        if factor.dims == x.dims {
            return Factor::Whole;
        }
        Factor::Expanded(Loops::broadcast(&x.dims, [&factor.dims]))
    }

    fn expand<'a, T: Scalar>(&self, factor: &'a [T], scratch: &'a mut [T]) -> &'a [T] {
        let Factor::Expanded(loops) = self else { return factor };
        let stride = loops.inner().strides[0].cast_unsigned();
        let mut done = 0;
        loops.rows(0..scratch.len(), |[from], count| {
            for (i, to) in scratch[done..done + count].iter_mut().enumerate() {
                *to = factor[from + i * stride];
            }
            done += count;
        });
        scratch
    }
}

impl<T: Scalar<Work: Real>> Kernel for Normalise<T> {
    fn scratch(&self, _threads: usize) -> usize {
        count_expanded(&self.factors) * self.len * size_of::<T>()
    }

    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let x = args.input::<T>(0);
        let y = args.output::<T>(0);
        if y.is_empty() {
            return Ok(());
        }
        let mut scratch = args.scratch::<T>();
        let factors = expanded(&self.factors, self.first, self.len, args, &mut scratch);
        args.team.split_costly(y, self.width, 4, |at, part| {
            for (i, y) in part.chunks_mut(self.width).enumerate() {
                let from = at + i * self.width;
                let own = rows_of(&self.factors, factors, from, self.width);
                self.row(&x[from..from + self.width], own, y);
            }
        });
        Ok(())
    }
}

fn count_expanded(factors: &[Factor]) -> usize {
    factors.iter().filter(|f| matches!(f, Factor::Expanded(_))).count()
}

/// One or two factors, which are the operands from `first` on, with an element for each column or each element.
fn expanded<'a, T: Scalar>(
    factors: &[Factor],
    first: usize,
    len: usize,
    args: &Args<'a>,
    scratch: &mut &'a mut [T],
) -> [&'a [T]; 2] {
    let mut all: [&[T]; 2] = [&[], &[]];
    for (i, factor) in factors.iter().enumerate() {
        let len = if matches!(factor, Factor::Expanded(_)) { len } else { 0 };
        let (own, rest) = std::mem::take(scratch).split_at_mut(len);
        *scratch = rest;
        all[i] = factor.expand(args.input(first + i), own);
    }
    all
}

/// What belongs to the row that starts at element `from`.
fn rows_of<'a, T>(factors: &[Factor], all: [&'a [T]; 2], from: usize, width: usize) -> [&'a [T]; 2] {
    std::array::from_fn(|i| match factors.get(i) {
        None => &[],
        Some(Factor::Row) => all[i],
        Some(Factor::Whole | Factor::Expanded(_)) => &all[i][from..from + width],
    })
}

impl<T: Scalar<Work: Real>> Normalise<T> {
    fn new(norm: &Norm, cx: &Build<'_>, centred: bool, first: usize) -> Self {
        let x = &cx.inputs[0];
        let width = x.dims[norm.axis..].iter().product();
        let factors = cx.inputs[first..].iter().map(|factor| Factor::new(factor, x, norm.axis)).collect();
        let (epsilon, len) = (norm.epsilon, x.len());
        Normalise { width, len, epsilon, centred, factors, first, element: PhantomData }
    }

    fn row(&self, x: &[T], [gamma, beta]: [&[T]; 2], y: &mut [T]) {
        let count = x.len() as f64;
        let mean = T::Work::from_f64(if self.centred { sum(x, |x| x) / count } else { 0.0 });
        let squares = sum(x, |x| x.sub(mean).mul(x.sub(mean)));
        let deviation = (squares / count + self.epsilon).sqrt();
        let stepwise = T::STEPWISE && self.centred;
        let (mean, scale) = match stepwise {
            true => (T::step(mean), T::step(T::Work::from_f64(deviation))),
            // As networks compute it that spell it out, in f32 throughout.
            false if T::STEPWISE => (mean, inverse_root::<T>(squares / count, self.epsilon)),
            false => (mean, T::Work::from_f64(1.0 / deviation)),
        };
        let (mut from, mut to) = buffers::<T>();
        let (mut gammas, mut betas) = buffers::<T>();
        for (i, (x, y)) in x.chunks(CHUNK).zip(y.chunks_mut(CHUNK)).enumerate() {
            let columns = i * CHUNK..i * CHUNK + x.len();
            let x = T::load(x, &mut from);
            let gamma = gamma.get(columns.clone()).map(|g| T::load(g, &mut gammas));
            let beta = beta.get(columns).map(|b| T::load(b, &mut betas));
            T::store(y, &mut to, |y| {
                match stepwise {
                    true => map(x, y, |x| T::step(T::step(x.sub(mean)).div(scale))),
                    false => map(x, y, |x| T::step(x.sub(mean).mul(scale))),
                }
                for (y, &g) in y.iter_mut().zip(gamma.unwrap_or_default()) {
                    *y = T::step(y.mul(g));
                }
                for (y, &b) in y.iter_mut().zip(beta.unwrap_or_default()) {
                    *y = y.add(b);
                }
            });
        }
    }
}

/// Sums, and their normalisation.
#[derive(Debug)]
struct AddNormalise<T> {
    normal: Normalise<T>,
    /// What is added to the first operand: the operands that follow it.
    addends: Vec<Factor>,
    /// Whether the sum is a result.
    sum: bool,
    /// Whether the first operand is f32, and rounded.
    wide: bool,
}

impl<T: Scalar<Work: Real>> Kernel for AddNormalise<T> {
    fn scratch(&self, _threads: usize) -> usize {
        let own = count_expanded(&self.addends) + usize::from(!self.sum);
        self.normal.scratch(1) + own * self.normal.len * size_of::<T>()
    }

    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let Normalise { width, len, first, ref factors, .. } = self.normal;
        let (own, wide): (&[T], &[f32]) = match self.wide {
            true => (&[], args.input(0)),
            false => (args.input(0), &[]),
        };
        let y = args.output::<T>(0);
        if y.is_empty() {
            return Ok(());
        }
        let mut scratch = args.scratch::<T>();
        let sums = match self.sum {
            true => args.output::<T>(1),
            false => scratch.split_off_mut(..len).unwrap_or_default(),
        };
        let addends = expanded(&self.addends, 1, len, args, &mut scratch);
        let scales = expanded(factors, first, len, args, &mut scratch);
        args.team.split_pair([y, sums], width, 5, |at, part, sums| {
            for (i, (y, sum)) in part.chunks_mut(width).zip(sums.chunks_mut(width)).enumerate() {
                let from = at + i * width;
                let x = match self.wide {
                    true => Row::Wide(&wide[from..from + width]),
                    false => Row::Own(&own[from..from + width]),
                };
                add_rows(x, rows_of(&self.addends, addends, from, width), sum);
                self.normal.row(sum, rows_of(factors, scales, from, width), y);
            }
        });
        Ok(())
    }
}

/// A row of the first operand.
enum Row<'a, T> {
    Own(&'a [T]),
    Wide(&'a [f32]),
}

/// `x` and the addends that are there, rounded after each addition.
fn add_rows<T: Scalar<Work: Real>>(x: Row<'_, T>, addends: [&[T]; 2], sum: &mut [T]) {
    let (mut total, mut to) = buffers::<T>();
    let mut from = [T::Work::zeroed(); CHUNK];
    for (i, sum) in sum.chunks_mut(CHUNK).enumerate() {
        let columns = i * CHUNK..i * CHUNK + sum.len();
        let total = &mut total[..sum.len()];
        match x {
            Row::Own(x) => total.copy_from_slice(T::load(&x[columns.clone()], &mut from)),
            Row::Wide(x) => {
                for (total, &x) in total.iter_mut().zip(&x[columns.clone()]) {
                    *total = narrow::<T>(T::Work::from_f64(f64::from(x))).to_work();
                }
            }
        }
        for addend in addends.iter().filter_map(|addend| addend.get(columns.clone())) {
            for (total, &a) in total.iter_mut().zip(T::load(addend, &mut from)) {
                *total = narrow::<T>(total.add(a)).to_work();
            }
        }
        T::store(sum, &mut to, |sum| sum.copy_from_slice(total));
    }
}
