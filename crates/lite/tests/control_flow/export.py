"""Exports the networks of this folder with MindSpore 2.10, and what it computes for them on the CPU.

    python export.py [NAME...]

writes NAME.mindir and NAME.npz with the arrays in_CALL_INDEX and out_CALL_INDEX of successive calls.
"""

import sys

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

ms.set_context(mode=ms.GRAPH_MODE)
rng = np.random.RandomState(0)


def P(*s, name=None):
    return Parameter(Tensor((rng.randn(*s) * 0.3).astype(np.float32)), name=name)


def F(*s):
    return Tensor(rng.randn(*s).astype(np.float32))


def I(v):
    return Tensor(np.array(v, np.int32))


def Fs(v):
    return Tensor(np.array(v, np.float32))


class Elif(nn.Cell):
    def construct(self, x, n):
        if n == 0:
            y = x + 1.0
        elif n == 1:
            y = x * 2.0
        elif n == 2:
            y = ops.tanh(x)
        else:
            y = -x
        return y * 3.0


class ManyIfs(nn.Cell):
    def construct(self, x, n):
        if n > 0:
            x = x + 1.0
        if n > 1:
            x = x * 2.0
        else:
            x = x - 0.5
        if n > 2:
            x = ops.tanh(x)
        if n > 3:
            x = x - 3.0
        if n > 4:
            x = ops.relu(x)
        if n > 5:
            x = x + 0.25
        if n > 6:
            x = ops.sigmoid(x)
        if n > 7:
            x = x * x
        if n > 8:
            x = x + 1.0
        if n > 9:
            x = x / 2.0
        if n > 10:
            x = x + 1.0
        if n > 11:
            x = x / 2.0
        return x


class NestedIf(nn.Cell):
    def construct(self, x, a, b):
        if a > 0:
            if b > 0:
                y = x + 1.0
            else:
                y = x - 1.0
            y = y * 2.0
        else:
            y = x
            if b > 0:
                y = y * 5.0
        return y, y + 1.0


class EarlyReturn(nn.Cell):
    def construct(self, x, a):
        if a > 2:
            return x * 10.0
        x = x + 1.0
        if a > 1:
            return x * 20.0
        x = x + 1.0
        return x


class Break(nn.Cell):
    def construct(self, x, n, lim):
        i = Tensor(0, ms.int32)
        while i < n:
            x = x * 1.5 + 1.0
            i = i + 1
            if x.sum() > lim:
                break
            x = x - 0.25
        return x, i


class Continue(nn.Cell):
    def construct(self, x, n):
        i = Tensor(0, ms.int32)
        while i < n:
            i = i + 1
            if i % 2 == 0:
                continue
            x = x + ops.cast(i, ms.float32)
        return x, i


class NestedWhile(nn.Cell):
    def construct(self, x, n, m):
        i = Tensor(0, ms.int32)
        while i < n:
            j = Tensor(0, ms.int32)
            while j < m:
                x = x * 1.01 + 0.5
                j = j + 1
            x = x - 1.0
            i = i + 1
        return x


class ReturnInLoop(nn.Cell):
    def construct(self, x, n, m, lim):
        i = Tensor(0, ms.int32)
        while i < n:
            j = Tensor(0, ms.int32)
            while j < m:
                x = x * 1.5 + 0.5
                j = j + 1
                if x.sum() > lim:
                    return x * 100.0
            i = i + 1
        return x - 7.0


class AssignIf(nn.Cell):
    def __init__(self):
        super().__init__()
        self.p = Parameter(Tensor(np.zeros(3, np.float32)), name="p")
        self.q = Parameter(Tensor(np.ones(3, np.float32)), name="q")

    def construct(self, x, a):
        if a > 0:
            self.p = self.p + x
        else:
            ops.assign(self.q, self.q * 2.0)
        return self.p * 1.0, self.q * 1.0


class AssignWhile(nn.Cell):
    def __init__(self):
        super().__init__()
        self.p = Parameter(Tensor(np.zeros(3, np.float32)), name="p")
        self.c = Parameter(Tensor(np.array(0, np.int32)), name="c")

    def construct(self, x, n):
        i = Tensor(0, ms.int32)
        while i < n:
            self.p = self.p + x
            i = i + 1
            if i > 2:
                self.c = self.c + 1
        return self.p + 0.0, self.c + 0


class Newton(nn.Cell):
    def __init__(self):
        super().__init__()
        self.w = P(4, 4, name="w")

    def construct(self, x, eps):
        d = eps + 1.0
        k = Tensor(0, ms.int32)
        while d > eps:
            y = ops.tanh(ops.matmul(x, self.w))
            d = ops.abs(y - x).max()
            x = y
            k = k + 1
        return x, k


class IfTuple(nn.Cell):
    def construct(self, x, a):
        if a:
            y, z = x + 1.0, x * 2.0
        else:
            y, z = x * 2.0, x + 1.0
        return y - z, z


class WhileIfElse(nn.Cell):
    def construct(self, x, n):
        i = Tensor(0, ms.int32)
        acc = x * 0.0
        while i < n:
            if i % 2 == 0:
                acc = acc + x
            else:
                acc = acc - x * 0.5
            i = i + 1
        if acc.sum() > 0:
            acc = acc + 100.0
        return acc


class CondCell(nn.Cell):
    def __init__(self):
        super().__init__()
        self.a = nn.Dense(4, 4)
        self.b = nn.SequentialCell(nn.Dense(4, 8), nn.ReLU(), nn.Dense(8, 4))

    def construct(self, x, c):
        h = self.a(x)
        h = self.b(h) if c else self.a(h)
        return ops.softmax(h, -1)


class ScalarIf(nn.Cell):
    def construct(self, x, a):
        k = 0
        if a > 0:
            k = 2
        else:
            k = 1
        return x * k


class Decode(nn.Cell):
    """greedy decode with a growing position in a fixed buffer"""

    def __init__(self):
        super().__init__()
        self.e = P(10, 8, name="e")
        self.w = P(8, 10, name="w")

    def construct(self, buf, n):
        i = Tensor(1, ms.int32)
        while i < n:
            t = ops.gather(buf, i - 1, 0)
            l = ops.matmul(ops.gather(self.e, t, 0).reshape(1, 8), self.w)
            nx = ops.argmax(l, -1).astype(ms.int32)
            buf = ops.tensor_scatter_elements(buf, i.reshape(1), nx, 0)
            i = i + 1
            if nx[0] == 3:
                break
        return buf, i


def B(v):
    return Tensor(np.array(v, np.bool_))



class Ref(nn.Cell):
    def __init__(self):
        super().__init__()
        self.p = Parameter(Tensor(np.zeros(3, np.float32)), name="p")

    def construct(self, x, n):
        a = ops.assign_add(self.p, x)
        if n > 0:
            ops.assign(self.p, x * 5.0)
        return a * 1.0


class Layers(nn.Cell):
    def __init__(self):
        super().__init__()
        self.l = nn.CellList([nn.ReLU(), nn.Tanh(), nn.Sigmoid()])

    def construct(self, x, n):
        return self.l[n](x)


CASES = {
    "elif": (Elif(), [(F(3), I(k)) for k in (0, 1, 2, 3)]),
    "manyifs": (ManyIfs(), [(F(3), I(k)) for k in (0, 1, 3, 5, 9, 12)]),
    "nestedif": (NestedIf(), [(F(3), I(a), I(b)) for a in (0, 1) for b in (0, 1)]),
    "earlyreturn": (EarlyReturn(), [(F(3), I(k)) for k in (1, 2, 3)]),
    "break": (Break(), [(F(3), I(6), Fs(10)), (F(3), I(3), Fs(1000)), (F(3), I(0), Fs(10))]),
    "continue": (Continue(), [(F(3), I(5)), (F(3), I(0))]),
    "nestedwhile": (NestedWhile(), [(F(3), I(3), I(2)), (F(3), I(0), I(2)), (F(3), I(2), I(0))]),
    "returninloop": (
        ReturnInLoop(),
        [(F(3), I(3), I(2), Fs(8)), (F(3), I(2), I(1), Fs(1e6)), (F(3), I(0), I(2), Fs(0))],
    ),
    "assignif": (AssignIf(), [(F(3), I(1)), (F(3), I(0)), (F(3), I(1)), (F(3), I(0))]),
    "assignwhile": (AssignWhile(), [(F(3), I(1)), (F(3), I(4)), (F(3), I(0))]),
    "newton": (Newton(), [(F(2, 4), Fs(1e-3))]),
    "iftuple": (IfTuple(), [(F(3), B(True)), (F(3), B(False))]),
    "whileifelse": (WhileIfElse(), [(F(3), I(0)), (F(3), I(1)), (F(3), I(4))]),
    "condcell": (CondCell(), [(F(2, 4), B(True)), (F(2, 4), B(False))]),
    "scalarif": (ScalarIf(), [(F(3), I(1)), (F(3), I(0))]),
    "decode": (
        Decode(),
        [
            (Tensor(np.array([1, 0, 0, 0, 0, 0, 0, 0], np.int32)), I(8)),
            (Tensor(np.array([5, 0, 0, 0, 0, 0, 0, 0], np.int32)), I(4)),
        ],
    ),
    "ref": (Ref(), [(F(3), I(1)), (F(3), I(0)), (F(3), I(1))]),
    "layers": (Layers(), [(F(3), I(0)), (F(3), I(1)), (F(3), I(2)), (F(3), I(-2))]),
}


def run(name, net, calls):
    net.set_train(False)
    ms.export(net, *calls[0], file_name=name, file_format="MINDIR")
    graph = nn.GraphCell(ms.load(f"{name}.mindir"))
    arrays = {}
    for call, inputs in enumerate(calls):
        outputs = graph(*inputs)
        outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        arrays.update({f"in_{call}_{i}": x.asnumpy() for i, x in enumerate(inputs)})
        arrays.update({f"out_{call}_{i}": x.asnumpy() for i, x in enumerate(outputs)})
    np.savez_compressed(f"{name}.npz", **arrays)


for name, (net, calls) in CASES.items():
    if len(sys.argv) == 1 or name in sys.argv[1:]:
        run(name, net, calls)
