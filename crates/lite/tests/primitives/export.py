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
    "one_hot": ("mint.nn.functional.one_hot(a, 4)", I([0, 2, 1], np.int64)),
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


def spelled(folder, name, expression, count):
    """A network from the text of what it returns: MindSpore reads the source of `construct`."""
    arguments = ", ".join("abcd"[:count])
    with open(os.path.join(folder, f"net_{name}.py"), "w") as file:
        file.write("import mindspore as ms\nimport mindspore.scipy\nfrom mindspore import mint, nn, ops\n\n\n")
        file.write(f"class Net(nn.Cell):\n    def construct(self, {arguments}):\n        return {expression}\n")
    return importlib.import_module(f"net_{name}").Net()


def flat(value):
    if isinstance(value, (tuple, list)):
        return [y for x in value for y in flat(x)]
    return [value.asnumpy() if isinstance(value, Tensor) else np.array(value)]


def export(name, net, inputs):
    net.set_train(False)
    ms.export(net, *inputs, file_name=name, file_format="MINDIR")
    arrays = {}
    for call in range(2 if name == "written" else 1):
        arrays.update({f"in_{call}_{i}": np.array(x.asnumpy()) for i, x in enumerate(inputs)})
        arrays.update({f"out_{call}_{i}": y for i, y in enumerate(flat(net(*inputs)))})
    np.savez_compressed(f"{name}.npz", **arrays)


def main():
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, folder)
        networks = cells()
        for name, (expression, *inputs) in EXPRESSIONS.items():
            networks[name] = (spelled(folder, name, expression, len(inputs)), *inputs)
        for name, (net, *inputs) in networks.items():
            if not sys.argv[1:] or name in sys.argv[1:]:
                try:
                    export(name, net, inputs)
                except Exception as error:
                    print(name, str(error).strip().splitlines()[0][:150], flush=True)


if __name__ == "__main__":
    main()
