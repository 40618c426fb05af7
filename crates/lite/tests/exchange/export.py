"""Exports the networks of this folder with MindSpore 2.10: exchanges of various lengths between two ranks.

    python export.py

MindSpore runs them on devices only, so the test has the results. Nor does it know its ranks without one.
"""

import os

os.environ.setdefault("GLOG_v", "4")

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from mindspore.ops.operations import comm_ops

ms.set_context(mode=ms.GRAPH_MODE)
GROUP = "hccl_world_group"


class Net(nn.Cell):
    def __init__(self, primitive, *counts):
        super().__init__()
        self.primitive = primitive
        self.counts = counts

    def construct(self, x):
        return self.primitive(x, *self.counts)


class Neighbors(nn.Cell):
    def __init__(self, rank):
        super().__init__()
        shapes = ([3 - rank],), ([2 + rank],)
        self.primitive = comm_ops.NeighborExchange([1 - rank], [1 - rank], *shapes, ms.float32, group=GROUP)

    def construct(self, x):
        return self.primitive((x,))[0]


def main():
    for rank in range(2):
        comm_ops.get_group_size = lambda group: 2
        comm_ops.get_rank = lambda group: rank
        counts = [[1, 2], [2, 1]][rank]
        networks = {
            "neighbors": (Neighbors(rank), 2 + rank),
            "all_to_all_v": (Net(comm_ops.AlltoAllV(GROUP), counts, counts), 3),
            "all_to_all_vc": (Net(comm_ops.AlltoAllVC(GROUP), [1, 2, 3, 0]), 3),
            "reduce_scatter_v": (Net(comm_ops.ReduceScatterV(group=GROUP), [3, 1]), 4),
        }
        for name, (net, length) in networks.items():
            x = Tensor(np.zeros(length, np.float32))
            ms.export(net, x, file_name=f"{name}_rank{rank}", file_format="MINDIR")


if __name__ == "__main__":
    main()
