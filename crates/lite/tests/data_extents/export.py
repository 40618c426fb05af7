"""Exports the networks of this folder with MindSpore 2.10, and what it computes for them on the CPU.

    python export.py [NAME...]

writes NAME.mindir and NAME.npz with the arrays in_CALL_INDEX and out_CALL_INDEX of successive calls.
"""

import os
import sys

os.environ.setdefault("GLOG_v", "4")

import mindspore as ms
import numpy as np
from mindspore import Tensor, mint, nn, ops

ms.set_context(mode=ms.GRAPH_MODE)
rng = np.random.RandomState(0)


def F(*s):
    return Tensor(rng.randn(*s).astype(np.float32))


def I(v, dtype=np.int32):
    return Tensor(np.array(v, dtype))


def cell(function):
    class Net(nn.Cell):
        def construct(self, *args):
            return function(*args)

    return Net()


class NonZero(nn.Cell):
    def construct(self, x):
        return ops.nonzero(x)


class Masked(nn.Cell):
    def construct(self, x, mask):
        y = ops.masked_select(x, mask)
        return y, (y * y).sum()


class Unique(nn.Cell):
    def construct(self, x):
        y, index = ops.unique(x)
        return y, index


class UniqueFloat(nn.Cell):
    def construct(self, x):
        y, index = ops.unique(x)
        return y * 2, index


class Consecutive(nn.Cell):
    def construct(self, x):
        return ops.unique_consecutive(x, True, True)


class Unique2(nn.Cell):
    def construct(self, x):
        return mint.unique(x, return_inverse=True, return_counts=True)


class After(nn.Cell):
    """Goes on with what was selected."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(4, 3)

    def construct(self, x):
        rows = ops.nonzero(x.sum(1) > 0).reshape(-1)
        chosen = ops.gather(x, rows, 0)
        y = self.dense(chosen)
        return ops.softmax(y, -1), y.sum(0), ops.relu(y - y.mean())


class Twice(nn.Cell):
    """Selects from what was selected."""

    def construct(self, x, mask):
        y = ops.masked_select(x, mask)
        z = ops.masked_select(y, y > 0)
        return z, ops.nonzero(z > 1)


class SliceTo(nn.Cell):
    def construct(self, x, n):
        return x[:, :n]


class SliceBetween(nn.Cell):
    def construct(self, x, a, b):
        return x[a:b], x[a:b] + x[a:b] * 2


class Step(nn.Cell):
    def construct(self, x, a, b):
        return x[a:b:2]


class Window(nn.Cell):
    """A window that moves with the turn of a loop."""

    def construct(self, x, n):
        i = n * 0
        y = x[:, 0] * 0.0
        while i < n:
            y = y + x[:, i : i + 2].sum(1)
            i = i + 1
        return y


class InBranch(nn.Cell):
    def construct(self, x, n):
        if n > 2:
            y = x[:n].sum(0)
        else:
            y = x[n:].sum(0) * 2.0
        return y


class Ways(nn.Cell):
    """Ways that give tensors of other extents."""

    def construct(self, x, n):
        if n > 2:
            y = x[:2]
        else:
            y = x[:4]
        return y * 2, y.sum(0)


class WaysTwice(nn.Cell):
    def construct(self, x, n):
        if n > 2:
            y = ops.concat((x, x))
            z = y[:, :1]
        elif n > 1:
            y = x
            z = y
        else:
            y = x[:n]
            z = x
        return y, z


class Ranged(nn.Cell):
    def construct(self, x, n):
        return ops.range(I(0), n, I(1)) * 2


class Shaped(nn.Cell):
    def construct(self, x, shape):
        return ops.reshape(x, ops.TensorToTuple()(shape)) if False else ops.Reshape()(x, shape)


class Spread(nn.Cell):
    def construct(self, x, shape):
        return ops.BroadcastTo((3, 4))(x) if False else ops.DynamicBroadcastTo()(x, shape)


class Indexed(nn.Cell):
    def construct(self, x):
        return x[x > 0]


class Decode(nn.Cell):
    def __init__(self, merge):
        super().__init__()
        self.op = ops.CTCGreedyDecoder(merge_repeated=merge)

    def construct(self, x, n):
        return self.op(x, n)


class Repeated(nn.Cell):
    def construct(self, x, repeats):
        return mint.repeat_interleave(x, repeats, 0)


def mask(*s):
    return Tensor(rng.rand(*s) > 0.5)


NETWORKS = {
    "nonzero": (NonZero(), [F(3, 4) > 0, ], [Tensor(np.zeros((3, 4), bool))], [Tensor(np.ones((3, 4), bool))]),
    "nonzero3": (NonZero(), [I(rng.randint(0, 3, (2, 3, 4)))], [I(rng.randint(0, 2, (2, 3, 4)))]),
    "masked": (Masked(), [F(3, 4), mask(3, 4)], [F(3, 4), mask(3, 4)]),
    "masked_broadcast": (Masked(), [F(3, 4), mask(4)], [F(3, 4), mask(4)]),
    "unique": (Unique(), [I([3, 1, 3, 2, 1, 3, 7, 2])], [I([5, 5, 5, 5, 5, 5, 5, 5])], [I([8, 7, 6, 5, 4, 3, 2, 1])]),
    "unique_float": (UniqueFloat(), [Tensor(np.array([0.5, -1, 0.5, 2, 2, -1], np.float32))]),
    "consecutive": (Consecutive(), [I([1, 1, 2, 2, 3, 1, 1, 2])], [I([1, 2, 3, 4, 5, 6, 7, 8])]),
    "after": (After(), [F(5, 4)], [F(5, 4)]),
    "twice": (Twice(), [F(4, 5), mask(4, 5)], [F(4, 5), mask(4, 5)]),
    "slice_to": (SliceTo(), [F(2, 6), I(3)], [F(2, 6), I(5)], [F(2, 6), I(9)], [F(2, 6), I(-2)]),
    "slice_between": (SliceBetween(), [F(6, 2), I(1), I(4)], [F(6, 2), I(-3), I(-1)], [F(6, 2), I(2), I(100)]),
    "step": (Step(), [F(9), I(1), I(8)], [F(9), I(0), I(-2)]),
    "window": (Window(), [F(3, 6), I(4)], [F(3, 6), I(1)], [F(3, 6), I(6)]),
    "in_branch": (InBranch(), [F(6, 2), I(4)], [F(6, 2), I(1)]),
    "ways": (Ways(), [F(6, 2), I(4)], [F(6, 2), I(1)], [F(6, 2), I(3)]),
    "ways_twice": (WaysTwice(), [F(6, 2), I(4)], [F(6, 2), I(1)], [F(6, 2), I(2)]),
    "ranged": (Ranged(), [F(1), I(5)], [F(1), I(2)]),
    "shaped": (Shaped(), [F(2, 6), I([3, 4])], [F(2, 6), I([12, 1])]),
    "indexed": (Indexed(), [F(3, 4)], [F(3, 4)]),
    "decode": (Decode(True), [F(6, 2, 3), I([6, 4])], [F(6, 2, 3), I([5, 6])]),
    "decode_repeats": (Decode(False), [F(6, 2, 3), I([6, 4])]),
}


def flat(y):
    return [z for x in y for z in flat(x)] if isinstance(y, (tuple, list)) else [y.asnumpy()]


def export(name, net, calls):
    net.set_train(False)
    ms.export(net, *calls[0], file_name=name, file_format="MINDIR")
    arrays = {}
    for call, inputs in enumerate(calls):
        arrays.update({f"in_{call}_{i}": np.array(x.asnumpy()) for i, x in enumerate(inputs)})
        arrays.update({f"out_{call}_{i}": y for i, y in enumerate(flat(net(*inputs)))})
    np.savez_compressed(f"{name}.npz", **arrays)


for name, (net, *calls) in NETWORKS.items():
    if not sys.argv[1:] or name in sys.argv[1:]:
        try:
            export(name, net, calls)
        except Exception as error:
            print(name, str(error).strip().splitlines()[0][:300], flush=True)
