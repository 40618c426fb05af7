"""Exports the networks of this folder with MindSpore 2.10, and what it computes for them on the CPU.

    python export.py [NAME...]

writes NAME.mindir and NAME.npz with the arrays in_CALL_INDEX and out_CALL_INDEX of successive calls.
"""

import importlib
import os
import sys
import tempfile

os.environ.setdefault("GLOG_v", "4")

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, mint, nn, ops

ms.set_context(mode=ms.GRAPH_MODE)
rng = np.random.RandomState(0)


def F(*s):
    return Tensor(rng.randn(*s).astype(np.float32))


def U(*s):
    return Tensor((rng.rand(*s) * 0.8 + 0.1).astype(np.float32))


def I(v, dtype=np.int32):
    return Tensor(np.array(v, dtype))


def A(*v):
    return Tensor(np.array(v, np.float32))


def B(*s):
    return Tensor(rng.rand(*s) > 0.5)


def positive(*s):
    m = rng.randn(*s)
    return Tensor((m @ m.swapaxes(-1, -2) + 3 * np.eye(s[-1])).astype(np.float32))


def H(*s):
    return Tensor(rng.randn(*s).astype(np.float16))


def Z(*s):
    return Tensor((rng.randn(*s) + 1j * rng.randn(*s)).astype(np.complex64))


def boxes(n, side=20):
    return np.sort(rng.rand(n, 2, 2) * side, 1).reshape(n, 4).astype(np.float32)


def scored(n):
    return Tensor(np.concatenate([boxes(n, 10), rng.rand(n, 1).astype(np.float32)], 1))


# What construct returns, of arguments a, b, c, d.
EXPRESSIONS = {
    "inverse": ("ops.inverse(a)", F(2, 4, 4)),
    "determinant": ("ops.det(a), ops.slogdet(a)", F(2, 4, 4)),
    "cholesky": ("ops.cholesky(a), ops.cholesky(a, True)", positive(2, 4, 4)),
    "solve": ("ops.matrix_solve(a, b)", F(2, 4, 4), F(2, 4, 2)),
    "triangular": ("ms.scipy.linalg.solve_triangular(a, b, lower=True)", positive(4, 4), F(4)),
    "band": ("ops.matrix_band_part(a, 1, 2)", F(5, 6)),
    "products": ("ops.outer(a, b), ops.mv(c, b), ops.addmv(a, c, b, beta=0.5, alpha=2.0), ops.addr(c, a, b)", F(3), F(4), F(3, 4)),
    "addbmm": ("ops.addbmm(a, b, c)", F(3, 5), F(2, 3, 4), F(2, 4, 5)),
    "cross": ("ops.cross(a, b)", F(3, 2), F(3, 2)),
    "moments": ("ops.var(a, 1), ops.std_mean(a, 1), ops.norm(a, ord=2, dim=1)", F(3, 4)),
    "median": ("ops.median(a, axis=1)", F(3, 5)),
    "running": ("ops.cummax(a, 1), ops.cummin(a, 0)", Tensor(np.array([[1, 3, 2, 3], [4, 4, 1, 5]], np.float32))),
    "cdist": ("ops.cdist(a, b, 2.0), ops.cdist(a, b, 1.0)", F(2, 3, 4), F(2, 5, 4)),
    "in_top_k": ("ops.intopk(a, b, 2)", F(3, 5), I([1, 0, 4])),
    "logs": ("ops.xlogy(a, b), ops.logaddexp(a, b), ops.logaddexp2(a, b), ops.logit(b, 1e-3)", F(3, 4), U(3, 4)),
    "shift": ("ops.bitwise_left_shift(a, b), ops.bitwise_right_shift(a, b)", I([5, -6, 7]), I([1, 2, 0])),
    "heaviside": ("ops.heaviside(a, b)", A(-1, 0, 2), F(3)),
    "erfinv": ("ops.erfinv(a)", Tensor(np.linspace(-0.99, 0.99, 21).astype(np.float32))),
    "sinc": ("ops.sinc(a), ops.frac(a), ops.isclose(a, a)", F(3, 4)),
    "sequence_mask": ("ops.sequence_mask(a, 5)", I([1, 3, 5])),
    "bucketize": ("ops.bucketize(a, [0.0, 0.5, 1.0])", F(3, 4)),
    "triangles": ("a, ops.tril_indices(3, 4, 1), ops.triu_indices(3, 4, -1)", F(1)),
    "adaptive1d": ("ops.adaptive_avg_pool1d(a, 3)", F(1, 2, 9)),
    "adaptive2d": ("ops.AdaptiveAvgPool2D((3, 2))(a)", F(1, 2, 7, 5)),
    "bicubic": ("ops.ResizeBicubic(False, False)(a, (5, 7)), ops.ResizeBicubic(False, True)(a, (5, 7))", F(1, 2, 3, 4)),
    "grid_sample": ("ops.grid_sample(a, b), ops.grid_sample(a, b, padding_mode='border', align_corners=True)", F(1, 2, 4, 5), Tensor((rng.rand(1, 3, 3, 2) * 2.4 - 1.2).astype(np.float32))),
    "affine_grid": ("ops.affine_grid(a, (2, 3, 4, 5), True), ops.affine_grid(a, (2, 3, 4, 5), False)", F(2, 2, 3)),
    "space_to_batch": ("ops.space_to_batch_nd(a, [2, 2], [[1, 1], [0, 2]])", F(1, 2, 4, 6)),
    "batch_to_space": ("ops.batch_to_space_nd(a, [2, 2], [[1, 0], [0, 1]])", F(4, 2, 3, 4)),
    "lrn": ("ops.lrn(a, 2, 1.5, 0.5, 0.75)", F(1, 8, 3, 3)),
    "fold": ("ops.fold(a, ms.Tensor([4, 4], ms.int32), (2, 2), 1, 0, 1)", F(1, 2, 4, 9)),
    "iou": ("ops.iou(a, b), ops.iou(a, b, 'iof')", Tensor(boxes(4)), Tensor(boxes(3))),
    "nms": ("ops.NMSWithMask(0.3)(a)", scored(24)),
    "check_valid": ("ops.check_valid(a, b)", Tensor(boxes(5)), A(15, 12, 1)),
    "box_decode": ("ops.BoundingBoxDecode(max_shape=(20, 15), means=(0.1, 0.2, 0.0, 0.1), stds=(0.5, 0.4, 2.0, 1.0))(a, b)", Tensor(boxes(6)), F(6, 4)),
    "box_encode": ("ops.BoundingBoxEncode(means=(0.1, 0.2, 0.0, 0.1), stds=(0.5, 0.4, 2.0, 1.0))(a, b)", Tensor(boxes(6)), Tensor(boxes(6))),
    "crop": ("ops.crop_and_resize(a, b, c, (3, 2))", F(2, 5, 6, 3), U(3, 4), I([0, 1, 1])),
    "scatter_add": ("ops.tensor_scatter_add(a, b, c), ops.tensor_scatter_sub(a, b, c)", F(4, 3), I([[0], [2], [0]]), F(3, 3)),
    "scatter_max": ("ops.tensor_scatter_max(a, b, c), ops.tensor_scatter_min(a, b, c)", F(4, 3), I([[0], [2], [0]]), F(3, 3)),
    "scatter_mul": ("ops.tensor_scatter_mul(a, b, c), ops.tensor_scatter_div(a, b, c)", F(4, 3), I([[0], [2], [0]]), F(3, 3)),
    "segments": ("ops.unsorted_segment_sum(a, b, 3), ops.unsorted_segment_max(a, b, 3), ops.unsorted_segment_min(a, b, 3), ops.unsorted_segment_prod(a, b, 3)", F(4, 3), I([0, 2, 0, 0])),
    "segments_outside": ("ops.unsorted_segment_sum(a, b, 3)", F(2, 3, 2), I([[0, 2, -1], [0, 1, 1]])),
    "reverse_sequence": ("ops.reverse_sequence(a, b, 1, 0)", F(3, 5), I([2, 5, 1])),
    "masked_scatter": ("a.masked_scatter(b, c)", F(4, 3), B(4, 3), F(12)),
    "scatter_dim": ("mint.scatter(a, 1, b, 2.0), mint.scatter(a, 1, b, c)", F(4, 3), I([[0, 1, 2]], np.int64), F(1, 3)),
    "index_put": ("a.index_put((b, c), d)", F(4, 3), I([0, 1], np.int64), I([1, 2], np.int64), F(2)),
    "indexing": ("a[b], a[:, b], a[b, c], a[1:, b], a[[0, 2]], a[-1, ::2], a[None, ..., 1:3]", F(3, 4), I([2, 0]), I([1, 3])),
    "complex": ("ops.conj(a) * a - a / (a + 2), ops.exp(a), ops.log(a), ops.sqrt(a), ops.matmul(a, ops.conj(a).T), P.ReduceSum()(a, 1), P.CumSum()(a, 1), P.ComplexAbs()(a), ops.angle(a), ops.imag(a)", Z(3, 4)),
    "complex_of": ("ops.polar(a, b), P.Cast()(a, ms.complex64), P.Cast()(c, ms.bool_)", U(3, 4), F(3, 4), Z(3, 4)),
    "whole_numbers": ("P.RealDiv()(a, b), P.Inv()(b), P.HSigmoid()(a)", I([[7, -7, 9]]), I([[2, 2, -4]])),
    "spaced": ("P.LinSpace()(a, b, 4), ops.logspace(a, b, 5)", Tensor(np.float32(0.5)), Tensor(np.float32(2.0))),
    "fourier": ("ops.fft(a), ops.ifft(a, norm='ortho'), ops.fft2(a), ops.fftn(a, norm='forward'), ops.fftshift(a), ops.ifftshift(a), ops.hfft(a), ops.irfft(a), ops.irfft2(a, (3, 7)), ops.FFTWithSize(2, True, True, signal_sizes=(3, 8))(a)", Z(3, 5)),
    "fourier_real": ("ops.rfft(a), ops.rfft2(a), ops.rfftn(a, norm='ortho'), ops.ihfft(a), ops.fft(a, 7), ops.FFTWithSize(2, False, True)(a)", F(3, 6)),
    "losses": ("ops.mse_loss(a, b), ops.l1_loss(a, b, 'sum'), ops.smooth_l1_loss(a, b, 0.5), ops.kl_div(a, c), ops.kl_div(a, c, 'batchmean'), ops.binary_cross_entropy(c, d), ops.binary_cross_entropy_with_logits(a, d, c, d), P.L2Loss()(a), P.SoftmaxCrossEntropyWithLogits()(a, d), P.SigmoidCrossEntropyWithLogits()(a, d)", F(3, 4), F(3, 4), U(3, 4), U(3, 4)),
    "losses_of_labels": ("ops.nll_loss(a, b, c, 0), ops.nll_loss(a, b, reduction='none'), ops.cross_entropy(a, b), P.SparseSoftmaxCrossEntropyWithLogits()(a, b), ops.cosine_embedding_loss(a, a * a, d, 0.1)", F(3, 4), I([1, 0, 3]), U(4), I([1, -1, 1])),
    "counts": ("ops.histc(a, 5), ops.histc(a, 5, -1.0, 1.0), SegmentSum()(a, Tensor([0] * 10 + [2] * 10, ms.int32)), SegmentMean()(a, Tensor([0] * 10 + [2] * 10, ms.int32)), SegmentMin()(a, Tensor([0] * 10 + [2] * 10, ms.int32)), SegmentProd()(a, Tensor([0] * 10 + [2] * 10, ms.int32))", F(20)),
    "diagonals": ("ops.matrix_diag(a, 1, 4, 4), ops.matrix_set_diag(b, c), ops.matrix_diag_part(b, Tensor([-1, 1], ms.int32), Tensor(0.0)), ops.matrix_diag_part(b, Tensor(1, ms.int32), Tensor(0.0)), DiagPart()(a[:, :2])", F(2, 3), F(2, 3, 4), F(2, 3)),
    "special": ("ops.lgamma(a), ops.digamma(a), ops.mvlgamma(ops.abs(a) + 2.5, 3), ops.bessel_i0(a), ops.bessel_i1e(a), ops.bessel_j0(a), ops.bessel_j1(a), ops.bessel_k0(ops.abs(a)), ops.bessel_k1e(ops.abs(a))", A(0.5, 1, 2.5, 7, 20, -0.5, -1.7, 1e-2)),
    "divisors": ("ops.gcd(a, b), ops.lcm(a, b), PopulationCount()(P.Cast()(a, ms.int16))", I([12, 18, -8, 7]), I([8, 27, 12, 0])),
    "rows": ("ops.renorm(a, 2, 0, 1.0), ops.logcumsumexp(a, 1), ops.pdist(a), P.InvertPermutation()((2, 0, 1))", F(3, 4)),
    "unpool": ("ops.max_unpool2d(a, b, 2), DataFormatDimMap()(c), DataFormatVecPermute()(c)", F(1, 1, 2, 2), I([[[[0, 3], [8, 15]]]], np.int64), I([0, 1, 2, 3])),
    "roi_align": ("P.ROIAlign(2, 3, 0.5, 2)(a, b), P.ROIAlign(3, 2, 0.25, 3, 0)(a, b)", F(2, 2, 6, 6), A([0, 1, 1, 8, 9], [1, 0, 2, 15, 7])),
    "lstm_layers": ("P.LSTM(3, 3, 2, True, False, 0.0)(a, b, c, d)[:3]", F(5, 2, 3), F(2, 2, 3), F(2, 2, 3), F(168, 1, 1)),
    "lstm_directions": ("P.LSTM(3, 4, 1, True, True, 0.0)(a, b, c, d)[:3]", F(5, 2, 3), F(2, 2, 4), F(2, 2, 4), F(256, 1, 1)),
    "lstm_long": ("P.LSTM(2, 1, 1, True, False, 0.0)(a, b, c, d)[1:3]", F(270, 1, 2), F(1, 1, 1), F(1, 1, 1), F(16, 1, 1)),
    "random_normal": ("a + P.StandardNormal(1, 2)((3, 5)), P.StandardNormal(0, 7)((2, 2))", F(3, 5)),
    "random_uniform": ("a + P.UniformReal(3, 4)((3, 5)), P.StandardLaplace(3, 4)((2, 3))", F(3, 5)),
    "random_integers": ("P.UniformInt(3, 4)((3, 5), a, b), P.UniformInt(0, 1)((400,), Tensor(0, ms.int32), Tensor(9, ms.int32))", I(-5), I(1610612736)),
    "random_classes": ("P.Multinomial(3, 4)(a, 6), P.Multinomial(0, 9, ms.int64)(a[0], 4)", U(2, 5)),
    "one_hot": ("mint.nn.functional.one_hot(a, 4)", I([0, 2, 1], np.int64)),
}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def dynamic_rnn(x, w, b, h, c):
    ys, cs = [], []
    h, c = h[0], c[0]
    for now in x:
        i, j, f, o = np.split(np.concatenate([now, h], 1) @ w + b, 4, 1)
        c = sigmoid(f + 0.5) * c + sigmoid(i) * np.tanh(j)
        h = sigmoid(o) * np.tanh(c)
        ys.append(h)
        cs.append(c)
    return np.stack(ys), np.stack(cs)


def dynamic_gru(x, wi, wh, bi, bh, h):
    ys = []
    for now in x:
        (ri, zi, ni), (rh, zh, nh) = np.split(now @ wi + bi, 3, 1), np.split(h @ wh + bh, 3, 1)
        z, n = sigmoid(zi + zh), np.tanh(ni + sigmoid(ri + rh) * nh)
        h = (1 - z) * n + z * h
        ys.append(h)
    return (np.stack(ys),)


def turned(x, cos, sin):
    x = x.reshape(*x.shape[:2], -1, cos.shape[-1])
    first, second = np.split(x, 2, -1)
    y = x * cos[..., None, :] + np.concatenate([-second, first], -1) * sin[..., None, :]
    return y.reshape(*y.shape[:2], -1)


def rotary(q, k, cos, sin, at):
    return turned(q, cos[at][None], sin[at][None]), turned(k, cos[at][None], sin[at][None])


def init_routing(x, rows, experts):
    order = np.argsort(experts.reshape(-1), kind="stable")
    rows = rows.reshape(-1)[order]
    return x[rows % len(x)], np.argsort(rows, kind="stable").astype(np.int32), experts.reshape(-1)[order]


def finalize_routing(rows, x1, bias, scales, went, experts):
    n, k = scales.shape
    y = x1.copy()
    for i in range(n):
        for j in range(k):
            y[i] += scales[i, j] * (rows[went[i + j * n]] + bias[experts[i, j]])
    return (y,)


def infer_attention(q, k, v):
    heads = lambda x: x.reshape(2, -1, 2, 3).swapaxes(1, 2)
    y = softmax(heads(q) @ heads(k).swapaxes(2, 3) * 0.5) @ heads(v)
    return (y.swapaxes(1, 2).reshape(q.shape),)


def feed_forward(x, w1, w2, b1, b2):
    y = x @ w1 + b1
    return (y * sigmoid(y) @ w2 + b2,)


def bincount(x):
    return (np.bincount(x, minlength=6)[:6].astype(np.float32),)


def sparse_segments(x):
    a, b = x[0] + x[1], x[3]
    return np.stack([a, b]), np.stack([a / 2, b]), np.stack([a / np.sqrt(2), b])


# What construct returns, and the same in numpy, of arguments a, b, .. : MindSpore has no kernel on the CPU.
FORMULAS = {
    "dynamic_rnn": ("pick(ops.DynamicRNN(forget_bias=0.5)(a, b, c, None, d, e), 0, 2)", dynamic_rnn, H(4, 2, 3), H(5, 8), H(8), H(1, 2, 2), H(1, 2, 2)),
    "dynamic_gru": ("ops.DynamicGRUV2()(a, b, c, d, e, None, f)[0]", dynamic_gru, H(4, 2, 3), H(3, 6), H(2, 6), H(6), H(6), H(2, 2)),
    "rotary_positions": ("ops.ApplyRotaryPosEmb(0)(a, b, c, d, e)", rotary, H(2, 3, 8), H(2, 3, 4), H(5, 4), H(5, 4), I([4, 0, 2])),
    "init_routing": ("G.MoeInitRouting()(a, b, c, 3)", init_routing, F(3, 2), I([[0, 3], [1, 4], [2, 5]]), I([[1, 0], [2, 1], [0, 2]])),
    "finalize_routing": ("G.MoeFinalizeRouting()(a, b, None, c, d, e, f)", finalize_routing, F(6, 2), F(3, 2), F(3, 2), U(3, 2), I([2, 4, 0, 1, 3, 5]), I([[1, 0], [2, 1], [0, 2]])),
    "expert_tokens": ("G.MoeComputeExpertTokens()(a, 4)", lambda x: (np.searchsorted(x, np.arange(4), "right").astype(np.int32),), I([0, 0, 1, 3, 3])),
    "infer_attention": ("G.FusedInferAttentionScore(2, 0.5)(a, (b,), (c,))[0]", infer_attention, F(2, 4, 6), F(2, 5, 6), F(2, 5, 6)),
    "feed_forward": ("G.FFNExt('silu')(a, b, c, None, d, e)", feed_forward, H(3, 2), H(2, 4), H(4, 2), H(4), H(2)),
    "bincount": ("P.Bincount()(a, Tensor(6, ms.int32), Tensor([], ms.float32))", bincount, I([1, 2, 2, 0, 7, 5])),
    "sparse_segments": ("sparse(a)", sparse_segments, F(4, 3)),
    "histogram_fixed": ("P.HistogramFixedWidth(5)(a, Tensor([-1.0, 1.0]))", lambda x: (np.histogram(np.clip(x, -1, 1), 5, (-1, 1))[0].astype(np.int32),), F(20)),
}


class Augmented(nn.Cell):
    def construct(self, x, z):
        y = x * 2
        y += 1
        y -= 0.5
        y *= 3
        y /= 2
        y += z
        y -= x
        y *= z
        y /= z * z + 1
        return y


class InPlace(nn.Cell):
    def construct(self, x):
        y = x * 1.0
        before = y * 3
        y.add_(1.0)
        z = y * 2
        y.mul_(x)
        y.sub_(0.5)
        return y, z, before


class InPlaceInput(nn.Cell):
    def construct(self, x, z):
        y = x * 2
        x.add_(z)
        if z.sum() > 0:
            y += x
        else:
            y -= x
        return x, y


class Assigned(nn.Cell):
    def construct(self, x, v, i, m):
        x[1] = v
        x[:, 2] = 0.0
        x[0, 1:3] = 5.0
        x[i] = v
        x[m] = -1.0
        return x


class Written(nn.Cell):
    def __init__(self):
        super().__init__()
        self.p = Parameter(F(3, 4), name="p")

    def construct(self, x):
        self.p += x
        self.p *= 2.0
        self.p[1] = 0.5
        return self.p + 1


class One(nn.Cell):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def construct(self, x):
        return self.cell(x)


def cells():
    return {
        "augmented": (Augmented(), F(3, 4), F(3, 4)),
        "in_place": (InPlace(), F(3, 4)),
        "in_place_input": (InPlaceInput(), F(3, 4), F(3, 4)),
        "assigned": (Assigned(), F(3, 4), F(4), I([2, 0]), B(3, 4)),
        "written": (Written(), F(3, 4)),
        "conv3d": (One(nn.Conv3d(4, 6, 3, pad_mode="pad", padding=1, group=2)), F(1, 4, 4, 4, 4)),
        "conv3d_same": (One(nn.Conv3d(2, 3, 3, pad_mode="same", stride=2, has_bias=True)), F(2, 2, 5, 6, 7)),
        "conv3d_dilated": (One(nn.Conv3d(2, 3, 3, pad_mode="valid", dilation=2)), F(1, 2, 6, 6, 6)),
        "conv3d_transpose": (One(nn.Conv3dTranspose(3, 4, 3, stride=2, pad_mode="pad", padding=1, output_padding=1)), F(1, 3, 3, 4, 3)),
        "conv1d_transpose": (One(nn.Conv1dTranspose(3, 4, 3, stride=2, pad_mode="same")), F(1, 3, 7)),
        "max_pool3d": (One(nn.MaxPool3d(3, 2, pad_mode="same")), F(1, 2, 5, 5, 5)),
        "avg_pool3d": (One(nn.AvgPool3d(3, 2, pad_mode="pad", padding=1)), F(1, 2, 5, 5, 5)),
        "adaptive3d": (One(nn.AdaptiveAvgPool3d((2, 3, 2))), F(1, 2, 4, 7, 4)),
        "batch_norm3d": (One(nn.BatchNorm3d(3)), F(1, 3, 2, 3, 3)),
        "linear1d": (One(nn.Upsample(size=7, mode="linear", align_corners=True)), F(1, 2, 4)),
        "reflection": (One(nn.ReflectionPad2d((1, 2, 1, 0))), F(1, 2, 4, 5)),
        "lstm": (One(nn.LSTM(3, 4, num_layers=2)), F(5, 2, 3)),
        "encoder": (One(nn.TransformerEncoderLayer(8, 2, 16)), F(2, 5, 8)),
    }


HELPERS = """
from mindspore.ops.auto_generate import gen_ops_prim as G
from mindspore.ops.operations.sparse_ops import *
from mindspore.ops.operations.math_ops import *


def pick(results, i, j):
    return results[i], results[j]


def sparse(x):
    at = Tensor([0, 1, 3], ms.int32), Tensor([0, 0, 1], ms.int32)
    return SparseSegmentSum()(x, *at), SparseSegmentMean()(x, *at), SparseSegmentSqrtN()(x, *at)


"""


def spelled(folder, name, expression, count):
    """A network from the text of what it returns: MindSpore reads the source of `construct`."""
    arguments = ", ".join("abcdef"[:count])
    with open(os.path.join(folder, f"net_{name}.py"), "w") as file:
        file.write("import mindspore as ms\nimport mindspore.scipy\nfrom mindspore import Tensor, mint, nn, ops\n")
        file.write("from mindspore.ops import operations as P\n")
        file.write("from mindspore.ops.operations.array_ops import DiagPart, PopulationCount, SegmentMean, SegmentMin, SegmentProd, SegmentSum\n")
        file.write("from mindspore.ops.operations.nn_ops import DataFormatDimMap, DataFormatVecPermute\n" + HELPERS)
        file.write(f"class Net(nn.Cell):\n    def construct(self, {arguments}):\n        return {expression}\n")
    return importlib.import_module(f"net_{name}").Net()


def flat(value):
    if isinstance(value, (tuple, list)):
        return [y for x in value for y in flat(x)]
    return [value.asnumpy() if isinstance(value, Tensor) else np.array(value)]


def computed(formula, inputs):
    """Of halves in single precision, then rounded."""
    arrays = [x.asnumpy() for x in inputs]
    is_half = any(x.dtype == np.float16 for x in arrays)
    outputs = formula(*(x.astype(np.float32) if x.dtype == np.float16 else x for x in arrays))
    return [y.astype(np.float16) if is_half else y for y in outputs]


def export(name, net, inputs, formula=None):
    """`formula` computes the outputs instead of the network."""
    net.set_train(False)
    ms.export(net, *inputs, file_name=name, file_format="MINDIR")
    arrays = {}
    for call in range(2 if name == "written" else 3 if name.startswith("random") else 1):
        arrays.update({f"in_{call}_{i}": np.array(x.asnumpy()) for i, x in enumerate(inputs)})
        outputs = computed(formula, inputs) if formula else flat(net(*inputs))
        arrays.update({f"out_{call}_{i}": y for i, y in enumerate(outputs)})
    np.savez_compressed(f"{name}.npz", **arrays)


def main():
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, folder)
        networks = cells()
        for name, (expression, *inputs) in EXPRESSIONS.items():
            networks[name] = (spelled(folder, name, expression, len(inputs)), *inputs)
        formulas = {}
        for name, (expression, formula, *inputs) in FORMULAS.items():
            networks[name] = (spelled(folder, name, expression, len(inputs)), *inputs)
            formulas[name] = formula
        for name, (net, *inputs) in networks.items():
            if not sys.argv[1:] or name in sys.argv[1:]:
                try:
                    export(name, net, inputs, formulas.get(name))
                except Exception as error:
                    print(name, str(error).strip().splitlines()[0][:150], flush=True)


if __name__ == "__main__":
    main()
