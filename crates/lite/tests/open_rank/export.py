"""Exports networks whose input has any number of axes with MindSpore 2.10, and what it computes for them on the CPU.

    python export.py [NAME...]

writes NAME.mindir and NAME.npz with the arrays in_CALL_INDEX and out_CALL_INDEX of successive calls.
"""

import os
import sys

os.environ.setdefault("GLOG_v", "4")

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

ms.set_context(mode=ms.GRAPH_MODE)
rng = np.random.RandomState(0)


def F(*s):
    return rng.randn(*s).astype(np.float32)


class Plain(nn.Cell):
    def construct(self, x):
        return ops.relu(x) * 2 + ops.shape(x)[0]


class Dense(nn.Cell):
    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(4, 3)

    def construct(self, x):
        return self.dense(x)


class Axes(nn.Cell):
    def construct(self, x):
        return ops.softmax(x, -1), x.sum(0), ops.reduce_mean(x)


class Flat(nn.Cell):
    def construct(self, x):
        return x.reshape((-1,)), ops.relu(x).shape


class Image(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def construct(self, x):
        return ops.relu(self.norm(self.conv(x))).mean((2, 3))


class Tuples(nn.Cell):
    def construct(self, x):
        s = ops.shape(x)
        y = x * len(s)
        if 2 in s:
            y = y + s.index(2)
        if s < (3, 1):
            y = y * 3
        return ops.reshape(y, s[1:] + s[:1]), y + (s * 2)[-1], y * s.count(2), s[::-1]


NETWORKS = {
    "plain": (Plain(), F(2, 3), F(4), F(2, 3), F(1, 2, 3)),
    "dense": (Dense(), F(2, 4), F(2, 3, 4), F(5, 4)),
    "axes": (Axes(), F(2, 3, 4), F(3, 2), F(2, 2, 3, 2)),
    "flat": (Flat(), F(2, 3), F(2, 3, 2)),
    "tuples": (Tuples(), F(2, 3), F(3, 2, 2), F(4), F(4, 2)),
    "image": (Image(), F(2, 3, 8, 8), F(1, 3, 6, 6)),
}


def flat(y):
    if isinstance(y, (tuple, list)):
        return [z for x in y for z in flat(x)]
    return [y.asnumpy() if isinstance(y, Tensor) else np.array(y)]


for name, (net, *calls) in NETWORKS.items():
    if sys.argv[1:] and name not in sys.argv[1:]:
        continue
    net.set_train(False)
    any_rank = Tensor(shape=None, dtype=ms.float32)
    net.set_inputs(any_rank)
    ms.export(net, any_rank, file_name=name, file_format="MINDIR")
    arrays = {}
    for call, x in enumerate(calls):
        arrays[f"in_{call}_0"] = x
        arrays.update({f"out_{call}_{i}": y for i, y in enumerate(flat(net(Tensor(x))))})
    np.savez_compressed(f"{name}.npz", **arrays)
