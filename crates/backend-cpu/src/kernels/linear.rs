//! Matrix products of `f32`, on packed weights where there are any.

use std::borrow::Cow;

use mslite_graph_opt::Op;
use mslite_runtime::{Error, ErrorKind, Result};
use mslite_tensor::Tensor;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedAMatrix, PackedBMatrix};
use rten_tensor::NdTensorView;

use crate::crew::Team;
use crate::scalar::{Scalar, with_type};

/// Constant operands, rearranged once for the kernels that read them.
#[derive(Debug)]
pub(crate) enum Weights {
    /// Of a matrix product: the right operand.
    Right(PackedRight),
    /// Of a convolution: a matrix for each group.
    Filters(PackedFilters),
}

impl Weights {
    /// Packs operand `index` of `op` if its kernel can use that. 16-bit floats are packed as `f32`.
    pub(crate) fn pack(op: &Op, index: usize, tensor: &Tensor, threads: usize) -> Option<Weights> {
        match op {
            Op::MatMul(matmul) if index == 1 => {
                let [lead @ .., rows, columns] = tensor.dims() else { return None };
                if lead.iter().any(|&d| d != 1) {
                    return None;
                }
                let (values, view) = (to_f32(tensor)?, [*rows, *columns]);
                PackedRight::new(&View::matrix(&values, view, matmul.transpose_b), threads)
                    .map(Weights::Right)
            }
            Op::Conv2d(conv) if index == 1 => {
                let [out, depth, kh, kw] = *tensor.dims() else { return None };
                if depth == 1 && conv.groups > 1 {
                    return None;
                }
                let values = to_f32(tensor)?;
                PackedFilters::new(&values, conv.groups, out, depth * kh * kw).map(Weights::Filters)
            }
            _ => None,
        }
    }
}

/// The elements as `f32`; copied unless they are that already, and aligned.
fn to_f32(tensor: &Tensor) -> Option<Cow<'_, [f32]>> {
    if let Ok(values) = tensor.as_slice::<f32>() {
        return Some(Cow::Borrowed(values));
    }
    fn convert<T: Scalar<Work = f32>>(bytes: &[u8]) -> Vec<f32> {
        bytes.chunks_exact(size_of::<T>()).map(|b| bytemuck::pod_read_unaligned::<T>(b).to_work()).collect()
    }
    with_type!(tensor.dtype(), T in single => Cow::Owned(convert::<T>(tensor.bytes())))
}

/// A matrix in memory: rows, columns, and the distances between neighbours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) dims: [usize; 2],
    pub(crate) strides: [usize; 2],
}

impl<'a> View<'a> {
    /// A dense matrix of `dims`, transposed if `transposed` says so.
    pub(crate) fn matrix(data: &'a [f32], [rows, columns]: [usize; 2], transposed: bool) -> Self {
        if transposed {
            View { data, dims: [columns, rows], strides: [1, columns] }
        } else {
            View { data, dims: [rows, columns], strides: [columns, 1] }
        }
    }

    /// Some of its rows.
    pub(crate) fn rows(&self, from: usize, count: usize) -> Self {
        View {
            data: &self.data[from * self.strides[0]..],
            dims: [count, self.dims[1]],
            strides: self.strides,
        }
    }

    fn columns(&self, from: usize, count: usize) -> Self {
        View {
            data: &self.data[from * self.strides[1]..],
            dims: [self.dims[0], count],
            strides: self.strides,
        }
    }

    fn as_rten(&self) -> Result<NdTensorView<'a, f32, 2>> {
        NdTensorView::from_slice_with_strides(self.dims, self.data, self.strides).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, format!("a matrix product failed: {error}"))
}

/// The right operand of a product.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Right<'a> {
    View(View<'a>),
    Packed(&'a PackedMatrix),
}

/// `out = a b`, on this thread.
pub(crate) fn product(out: &mut [f32], a: &View<'_>, b: Right<'_>) -> Result<()> {
    let a = GemmInputA::Unpacked(a.as_rten()?);
    let b = match b {
        Right::View(view) => GemmInputB::Unpacked(view.as_rten()?),
        Right::Packed(packed) => GemmInputB::Packed(&packed.0),
    };
    GemmExecutor::<f32>::new().gemm(out, a, b, GemmOptions::default()).map_err(failed)
}

/// A packed matrix.
pub(crate) struct PackedMatrix(PackedBMatrix<f32>);

impl std::fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedMatrix({} x {})", self.0.rows(), self.0.cols())
    }
}

/// Columns below which a matrix is not divided among threads by columns.
const NARROWEST_SLAB: usize = 128;

/// Rows of a product that are computed and finished at a time, so that they are still in the cache.
pub(crate) const ROW_BLOCK: usize = 256;

/// A packed right operand, divided by columns into as many slabs as there are threads, so that each thread reads
/// its own part only; or in one slab, when that would be too narrow.
#[derive(Debug)]
pub(crate) struct PackedRight {
    pub(crate) slabs: Vec<PackedMatrix>,
    /// Columns of every slab but the last, which may have fewer.
    pub(crate) width: usize,
    pub(crate) dims: [usize; 2],
}

impl PackedRight {
    fn new(b: &View<'_>, threads: usize) -> Option<Self> {
        let [rows, columns] = b.dims;
        if rows == 0 || columns == 0 {
            return None;
        }
        let slabs = if columns >= threads * NARROWEST_SLAB { threads } else { 1 };
        // Wide vector code computes up to 64 columns at once.
        let width = if slabs == 1 { columns } else { columns.div_ceil(slabs).next_multiple_of(64) };
        let gemm = GemmExecutor::<f32>::new();
        let slabs = (0..columns.div_ceil(width)).map(|i| {
            let slab = b.columns(i * width, width.min(columns - i * width));
            slab.as_rten().ok().map(|slab| PackedMatrix(gemm.prepack_b(slab)))
        });
        Some(PackedRight { slabs: slabs.collect::<Option<_>>()?, width, dims: b.dims })
    }

    /// Elements of scratch memory that [`PackedRight::product`] needs for so many rows.
    pub(crate) fn scratch(&self, rows: usize) -> usize {
        if self.slabs.len() == 1 || rows <= 1 {
            return 0;
        }
        self.slabs.len() * rows.min(ROW_BLOCK) * self.width
    }

    /// `out = a b`; `finish` is called with finished rows, or with parts of a single one: the index of the first
    /// element within its row, and the elements.
    pub(crate) fn product(
        &self,
        team: &Team<'_>,
        out: &mut [f32],
        a: &View<'_>,
        scratch: &mut [f32],
        finish: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) -> Result<()> {
        let failure = Failure::default();
        if let [slab] = &self.slabs[..] {
            let columns = self.dims[1];
            // Packing the left operand pays for a few rows at least.
            let unit = columns * a.dims[0].div_ceil(team.threads()).max(8);
            team.split_costly(out, unit, self.cost(a.dims[0]), |at, part| {
                for (i, part) in part.chunks_mut(columns * ROW_BLOCK).enumerate() {
                    let rows = a.rows(at / columns + i * ROW_BLOCK, part.len() / columns);
                    failure.note(product(part, &rows, Right::Packed(slab)));
                    finish(0, part);
                }
            });
        } else if a.dims[0] == 1 {
            team.split_costly(out, self.width, self.cost(1), |at, part| {
                failure.note(self.slabs_from(at, part, a));
                finish(at, part);
            });
        } else {
            for first in (0..a.dims[0]).step_by(ROW_BLOCK) {
                let count = ROW_BLOCK.min(a.dims[0] - first);
                let out = &mut out[first * self.dims[1]..][..count * self.dims[1]];
                self.block(team, out, &a.rows(first, count), scratch, finish, &failure);
            }
        }
        failure.result()
    }

    /// What an element of the result costs, compared with an addition: arithmetic, or reading the weights.
    fn cost(&self, rows: usize) -> usize {
        self.dims[0].div_ceil(16).max(self.dims[0].div_ceil(rows))
    }

    /// The slabs from column `at` on, of a single row.
    fn slabs_from(&self, at: usize, out: &mut [f32], a: &View<'_>) -> Result<()> {
        let slabs = self.slabs[at / self.width..].iter();
        slabs.zip(out.chunks_mut(self.width)).try_for_each(|(slab, out)| product(out, a, Right::Packed(slab)))
    }

    fn block(
        &self,
        team: &Team<'_>,
        out: &mut [f32],
        a: &View<'_>,
        scratch: &mut [f32],
        finish: &(dyn Fn(usize, &mut [f32]) + Sync),
        failure: &Failure,
    ) {
        let rows = a.dims[0];
        let size = rows * self.width;
        let scratch = &mut scratch[..self.slabs.len() * size];
        team.split_costly(scratch, size, self.cost(rows), |at, part| {
            for (slab, part) in self.slabs[at / size..].iter().zip(part.chunks_mut(size)) {
                let part = &mut part[..rows * slab.0.cols()];
                failure.note(product(part, a, Right::Packed(slab)));
            }
        });
        let columns = self.dims[1];
        team.split_costly(out, columns, 4, |at, part| {
            for (i, row) in part.chunks_mut(columns).enumerate() {
                for (s, piece) in row.chunks_mut(self.width).enumerate() {
                    let from = s * size + (at / columns + i) * piece.len();
                    piece.copy_from_slice(&scratch[from..from + piece.len()]);
                }
            }
            finish(0, part);
        });
    }
}

/// The first failure among several threads.
#[derive(Default)]
pub(crate) struct Failure(std::sync::Mutex<Option<Error>>);

impl Failure {
    pub(crate) fn note(&self, result: Result<()>) {
        if let Err(error) = result {
            let mut first = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            first.get_or_insert(error);
        }
    }

    pub(crate) fn result(self) -> Result<()> {
        self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// The filters of a convolution as left operands, one matrix for each group.
pub(crate) struct PackedFilters(Vec<PackedAMatrix<f32>>);

impl std::fmt::Debug for PackedFilters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedFilters({} groups)", self.0.len())
    }
}

impl PackedFilters {
    fn new(values: &[f32], groups: usize, out: usize, depth: usize) -> Option<Self> {
        if groups == 0 || out == 0 || depth == 0 || !out.is_multiple_of(groups) {
            return None;
        }
        let gemm = GemmExecutor::<f32>::new();
        let rows = out / groups;
        let matrices = values
            .chunks(rows * depth)
            .map(|group| View::matrix(group, [rows, depth], false).as_rten().ok().map(|m| gemm.prepack_a(m)));
        Some(PackedFilters(matrices.collect::<Option<_>>()?))
    }

    /// `out = filters of the group * b`, on this thread.
    pub(crate) fn product(&self, out: &mut [f32], group: usize, b: &View<'_>) -> Result<()> {
        let b = GemmInputB::Unpacked(b.as_rten()?);
        let a = GemmInputA::Packed(&self.0[group]);
        GemmExecutor::<f32>::new().gemm(out, a, b, GemmOptions::default()).map_err(failed)
    }
}
