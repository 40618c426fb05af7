use std::marker::PhantomData;
use std::sync::Arc;

use mslite_graph_opt::ir::op::{MatMul, Unary};
use mslite_runtime::Result;
use mslite_tensor::DType;

use super::linear::{Failure, PackedRight, Right, View, Weights, product};
use super::unary::apply;
use super::{BoxKernel, Build, Kernel};
use crate::arena::Args;
use crate::crew::Team;
use crate::loops::Loops;
use crate::scalar::{CHUNK, Scalar, Sum, with_type};
use crate::simd::map;

pub(super) fn build(matmul: &MatMul, cx: &Build<'_>) -> Option<BoxKernel> {
    let geometry = Geometry::new(matmul, cx);
    let dtype = cx.inputs[0].dtype;
    if let Some(Weights::Right(_)) = cx.weights.map(AsRef::as_ref) {
        let weights = cx.weights.cloned()?;
        return with_type!(dtype, T in single => {
            Box::new(Packed::<T> { geometry, weights, element: PhantomData }) as BoxKernel
        });
    }
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => with_type!(dtype, T in single => {
            Box::new(Unpacked::<T> { geometry, element: PhantomData }) as BoxKernel
        }),
        DType::F64 => {
            let activate: Activate<f64> = |f, x, y| apply(f, x, y, |v| v);
            Some(Box::new(Simple::<f64> { geometry, activate: Some(activate), element: PhantomData }))
        }
        _ if matmul.activation.is_some() => None,
        _ => with_type!(dtype, T in int => {
            Box::new(Simple::<T> { geometry, activate: None, element: PhantomData }) as BoxKernel
        }),
    }
}

/// Sizes of a batch of products `[m, k] x [k, n]`.
#[derive(Debug)]
struct Geometry {
    m: usize,
    k: usize,
    n: usize,
    transpose_a: bool,
    transpose_b: bool,
    /// For each product, which matrix of each operand it takes.
    batch: Vec<[usize; 2]>,
    /// Matrices that each operand has.
    matrices: [usize; 2],
    has_bias: bool,
    activation: Option<Unary>,
    /// The result is f32, whatever the operands are.
    wide: bool,
}

impl Geometry {
    fn new(matmul: &MatMul, cx: &Build<'_>) -> Self {
        let [a, b] = [&cx.inputs[0].dims[..], &cx.inputs[1].dims[..]];
        let (a_lead, [m, k], transpose_a) = matrix(a, true, matmul.transpose_a);
        let (b_lead, [_, n], transpose_b) = matrix(b, false, matmul.transpose_b);
        let outer = usize::from(a.len() > 1) + usize::from(b.len() > 1);
        let result = &cx.outputs[0].dims;
        let lead = &result[..result.len() - outer];
        let mut batch = Vec::new();
        let loops = Loops::broadcast(lead, [a_lead, b_lead]);
        loops.rows(0..lead.iter().product(), |[i, j], count| {
            let [s, t] = loops.inner().strides.map(isize::cast_unsigned);
            batch.extend((0..count).map(|c| [i + c * s, j + c * t]));
        });
        Geometry {
            m,
            k,
            n,
            transpose_a,
            transpose_b,
            batch,
            matrices: [a_lead.iter().product(), b_lead.iter().product()],
            has_bias: cx.inputs.len() == 3,
            activation: matmul.activation,
            wide: matmul.wide,
        }
    }

    fn len(&self) -> usize {
        self.batch.len() * self.m * self.n
    }

    fn a<'a>(&self, a: &'a [f32], index: usize) -> View<'a> {
        let dims = if self.transpose_a { [self.k, self.m] } else { [self.m, self.k] };
        View::matrix(&a[index * self.m * self.k..][..self.m * self.k], dims, self.transpose_a)
    }

    fn b<'a>(&self, b: &'a [f32], index: usize) -> View<'a> {
        let dims = if self.transpose_b { [self.n, self.k] } else { [self.k, self.n] };
        View::matrix(&b[index * self.k * self.n..][..self.k * self.n], dims, self.transpose_b)
    }

    /// Lets `compute` write the sums, and rounds them unless the result is wide.
    fn write<T: Scalar<Work = f32>>(
        &self,
        args: &mut Args<'_>,
        pieces: &mut Pieces<'_>,
        compute: impl FnOnce(&mut [f32], &mut Pieces<'_>) -> Result<()>,
    ) -> Result<()> {
        match self.wide {
            true => compute(args.output::<f32>(0), pieces),
            false => rounded(args.team, args.output::<T>(0), pieces, compute),
        }
    }

    /// Adds the bias to elements of rows, from column `at` on, and applies the activation.
    fn finish<T: Scalar<Work = f32>>(&self, bias: &[f32], at: usize, part: &mut [f32]) {
        if self.has_bias {
            for row in part.chunks_mut(self.n) {
                for (y, b) in row.iter_mut().zip(&bias[at..]) {
                    *y = T::step(*y) + b;
                }
            }
        }
        if let Some(activation) = self.activation {
            activate::<T>(activation, part);
        }
    }
}

/// Leading axes, rows and columns of an operand, and whether it is still to be transposed. A vector is a row on
/// the left and a column on the right.
fn matrix(dims: &[usize], left: bool, transposed: bool) -> (&[usize], [usize; 2], bool) {
    match *dims {
        [n] if left => (&[], [1, n], false),
        [n] => (&[], [n, 1], false),
        [ref lead @ .., rows, columns] if transposed => (lead, [columns, rows], true),
        [ref lead @ .., rows, columns] => (lead, [rows, columns], false),
        [] => (&[], [1, 1], false),
    }
}

/// Applies a function in place.
pub(super) fn activate<T: Scalar<Work = f32>>(f: Unary, values: &mut [f32]) {
    let mut copy = [0.0; CHUNK];
    for part in values.chunks_mut(CHUNK) {
        let x = &mut copy[..part.len()];
        map(part, x, T::step);
        apply(f, x, part, T::step);
    }
}

/// Scratch memory that is cut into pieces from the front.
pub(super) struct Pieces<'a>(pub(super) &'a mut [f32]);

impl<'a> Pieces<'a> {
    pub(super) fn cut(&mut self, len: usize) -> &'a mut [f32] {
        let (piece, rest) = std::mem::take(&mut self.0).split_at_mut(len);
        self.0 = rest;
        piece
    }

    /// The elements as `f32`, converted if they are narrower.
    pub(super) fn load<T: Scalar<Work = f32>>(&mut self, team: &Team<'_>, from: &'a [T]) -> &'a [f32] {
        if !T::NARROW {
            return T::load(from, &mut []);
        }
        let to = self.cut(from.len());
        team.split(to, CHUNK, |at, part| {
            T::load(&from[at..at + part.len()], part);
        });
        to
    }
}

/// Lets `compute` write `f32`, and rounds the result to what `out` holds.
pub(super) fn rounded<T: Scalar<Work = f32>>(
    team: &Team<'_>,
    out: &mut [T],
    pieces: &mut Pieces<'_>,
    compute: impl FnOnce(&mut [f32], &mut Pieces<'_>) -> Result<()>,
) -> Result<()> {
    let mut outcome = Ok(());
    if !T::NARROW {
        T::store(out, &mut [], |wide| outcome = compute(wide, pieces));
        return outcome;
    }
    let wide = pieces.cut(out.len());
    compute(wide, pieces)?;
    let wide = &*wide;
    team.split(out, CHUNK, |at, part| {
        let from = &wide[at..at + part.len()];
        let mut buffer = [0.0; CHUNK];
        for (to, from) in part.chunks_mut(CHUNK).zip(from.chunks(CHUNK)) {
            T::store(to, &mut buffer, |to| to.copy_from_slice(from));
        }
    });
    Ok(())
}

/// The right operand is a packed constant.
#[derive(Debug)]
struct Packed<T> {
    geometry: Geometry,
    weights: Arc<Weights>,
    element: PhantomData<T>,
}

impl<T: Scalar<Work = f32>> Packed<T> {
    fn right(&self) -> Option<&PackedRight> {
        if let Weights::Right(right) = &*self.weights { Some(right) } else { None }
    }

    /// Products, and rows of each: the batch counts as rows where the rows follow each other in memory.
    fn products(&self) -> (usize, usize) {
        let Geometry { m, batch, transpose_a, .. } = &self.geometry;
        if *transpose_a { (batch.len(), *m) } else { (1, m * batch.len()) }
    }
}

impl<T: Scalar<Work = f32>> Kernel for Packed<T> {
    fn scratch(&self, _threads: usize) -> usize {
        let g = &self.geometry;
        let narrow = g.matrices[0] * g.m * g.k + g.n + g.len();
        let slabs = self.right().map_or(0, |right| right.scratch(self.products().1));
        (slabs + if T::NARROW { narrow } else { 0 }) * size_of::<f32>()
    }

    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let g = &self.geometry;
        let Some(right) = self.right() else { return Ok(()) };
        let team = args.team;
        if g.len() == 0 {
            return Ok(());
        }
        let mut pieces = Pieces(args.scratch());
        let a = pieces.load(args.team, args.input::<T>(0));
        let bias = if g.has_bias { pieces.load(args.team, args.input::<T>(2)) } else { &[] };
        g.write::<T>(args, &mut pieces, |out, pieces| {
            let (products, rows) = self.products();
            let slabs = pieces.cut(right.scratch(rows));
            for (i, out) in out.chunks_mut(rows * g.n).enumerate().take(products) {
                let a = match products {
                    1 if !g.transpose_a => View::matrix(a, [rows, g.k], false),
                    _ => g.a(a, g.batch[i][0]),
                };
                right.product(team, out, &a, slabs, &|at, part| g.finish::<T>(bias, at, part))?;
            }
            Ok(())
        })
    }
}

/// Both operands are computed.
#[derive(Debug)]
struct Unpacked<T> {
    geometry: Geometry,
    element: PhantomData<T>,
}

impl<T: Scalar<Work = f32>> Kernel for Unpacked<T> {
    fn scratch(&self, _threads: usize) -> usize {
        let g = &self.geometry;
        let [a, b] = [g.matrices[0] * g.m * g.k, g.matrices[1] * g.k * g.n];
        if T::NARROW { (a + b + g.n + g.len()) * size_of::<f32>() } else { 0 }
    }

    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let g = &self.geometry;
        if g.len() == 0 {
            return Ok(());
        }
        let mut pieces = Pieces(args.scratch());
        let a = pieces.load(args.team, args.input::<T>(0));
        let b = pieces.load(args.team, args.input::<T>(1));
        let bias = if g.has_bias { pieces.load(args.team, args.input::<T>(2)) } else { &[] };
        let team = args.team;
        g.write::<T>(args, &mut pieces, |out, _| {
            let failure = Failure::default();
            team.split_costly(out, self.unit(team.threads()), g.k.div_ceil(16), |at, part| {
                failure.note(self.rows(at / g.n, a, b, part));
                g.finish::<T>(bias, 0, part);
            });
            failure.result()
        })
    }
}

impl<T> Unpacked<T> {
    /// Elements that stay on one thread: whole products if there are enough of them, else a few rows.
    fn unit(&self, threads: usize) -> usize {
        let Geometry { m, n, batch, .. } = &self.geometry;
        let whole = batch.len().is_multiple_of(threads) || batch.len() >= 4 * threads;
        n * if whole { *m } else { m.div_ceil(threads).clamp(1, 16) }
    }

    /// The rows of all products from row `first` on.
    fn rows(&self, first: usize, a: &[f32], b: &[f32], out: &mut [f32]) -> Result<()> {
        let g = &self.geometry;
        if g.k == 0 {
            out.fill(0.0);
            return Ok(());
        }
        let (mut row, mut rest) = (first, out);
        while !rest.is_empty() {
            let [i, j] = g.batch[row / g.m];
            let count = (g.m - row % g.m).min(rest.len() / g.n);
            let (part, later) = std::mem::take(&mut rest).split_at_mut(count * g.n);
            product(part, &g.a(a, i).rows(row % g.m, count), Right::View(g.b(b, j)))?;
            row += count;
            rest = later;
        }
        Ok(())
    }
}

type Activate<T> = fn(Unary, &[T], &mut [T]);

/// Types without packed kernels: one sum of products after the other.
#[derive(Debug)]
struct Simple<T: Scalar> {
    geometry: Geometry,
    activate: Option<Activate<T>>,
    element: PhantomData<T>,
}

impl<T: Scalar> Kernel for Simple<T> {
    fn run(&self, args: &mut Args<'_>) -> Result<()> {
        let g = &self.geometry;
        let (a, b) = (args.input::<T>(0), args.input::<T>(1));
        let bias = if g.has_bias { args.input::<T>(2) } else { &[] };
        let out = args.output::<T>(0);
        if out.is_empty() {
            return Ok(());
        }
        args.team.split_costly(out, g.n, g.k, |at, part| {
            for (i, row) in part.chunks_mut(g.n).enumerate() {
                self.row(at / g.n + i, a, b, row);
                for (y, b) in row.iter_mut().zip(bias) {
                    *y = T::from_sum(y.to_sum().plus(b.to_sum()));
                }
                self.activate(row);
            }
        });
        Ok(())
    }
}

impl<T: Scalar> Simple<T> {
    fn row(&self, row: usize, a: &[T], b: &[T], out: &mut [T]) {
        let g = &self.geometry;
        let ([i, j], row) = (g.batch[row / g.m], row % g.m);
        let (a, b) = (&a[i * g.m * g.k..], &b[j * g.k * g.n..]);
        let (a_first, a_step) = if g.transpose_a { (row, g.m) } else { (row * g.k, 1) };
        for (column, y) in out.iter_mut().enumerate() {
            let (b_first, b_step) = if g.transpose_b { (column * g.k, 1) } else { (column, g.n) };
            let terms =
                (0..g.k).map(|p| a[a_first + p * a_step].to_sum().times(b[b_first + p * b_step].to_sum()));
            *y = T::from_sum(terms.fold(T::Sum::default(), T::Sum::plus));
        }
    }

    fn activate(&self, row: &mut [T]) {
        let (Some(apply), Some(f)) = (self.activate, self.geometry.activation) else { return };
        let mut copy = [T::default(); CHUNK];
        for part in row.chunks_mut(CHUNK) {
            let x = &mut copy[..part.len()];
            x.copy_from_slice(part);
            apply(f, x, part);
        }
    }
}
