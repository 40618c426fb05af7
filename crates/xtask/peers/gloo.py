"""Times collectives of gloo, through torch, as `mslite bench collective` times ours, and prints lines that it reads.

Usage: mslite launch --unmarked -n N -- python gloo.py OPS SIZES BATCHES MILLISECONDS, with lists separated by commas.
"""

import contextlib
import json
import os
import statistics
import sys
import time

import torch
import torch.distributed as dist

MAX_ITERATIONS = 1_000_000


def operations(ranks, block):
    """For each operation, what makes it from its buffers, and these."""

    def ones(blocks):
        return torch.ones(blocks * block)

    send, everything = ones(1), ones(ranks)
    parts = list(everything.chunk(ranks))
    return {
        "all_reduce": lambda: dist.all_reduce(send),
        "all_gather": lambda: dist.all_gather(parts, send),
        "reduce_scatter": lambda: dist.reduce_scatter_tensor(send, everything),
        "broadcast": lambda: dist.broadcast(send, 0),
        "reduce": lambda: dist.reduce(send, 0),
        "barrier": dist.barrier,
    }


SPLIT = ("all_gather", "reduce_scatter")


def batch(run, iterations):
    """Microseconds of an operation in one batch, by rank."""
    dist.barrier()
    start = time.perf_counter()
    for _ in range(iterations):
        run()
    mine = torch.tensor([(time.perf_counter() - start) / iterations * 1e6], dtype=torch.float64)
    everybodys = [torch.zeros_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(everybodys, mine)
    return [float(us) for us in everybodys]


def calibrate(run, target):
    batch(run, 1)
    iterations = 1
    while True:
        # The fastest of a few batches counts: what else the machine does only ever adds.
        least = min(max(batch(run, iterations)) for _ in range(3))
        fitting = int(min(max(target / least, 1), MAX_ITERATIONS))
        if fitting <= 2 * iterations:
            return fitting
        iterations = min(fitting, 8 * iterations)


def measure(name, size, batches, target):
    ranks = dist.get_world_size()
    blocks = ranks if name in SPLIT else 1
    block = size // 4 // blocks
    run = operations(ranks, block).get(name)
    if run is None or (block == 0 and name != "barrier"):
        return
    iterations = calibrate(run, target)
    samples = []
    for _ in range(batches):
        us = batch(run, iterations)
        samples.append([min(us), statistics.mean(us), statistics.median(us), max(us)])
    if dist.get_rank() == 0:
        line = {"op": name, "ranks": ranks, "bytes": block * blocks * 4, "iterations": iterations}
        line |= {"us": statistics.median(s[3] for s in samples), "samples": samples}
        print(json.dumps(line), flush=True)


def main():
    names, sizes, batches, milliseconds = sys.argv[1:]
    torch.set_num_threads(1)
    meeting = os.environ["MSLITE_RENDEZVOUS"] + "-gloo"
    rank, ranks = int(os.environ["RANK_ID"]), int(os.environ["RANK_SIZE"])
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    try:
        for name in names.split(","):
            for size in [0] if name == "barrier" else map(int, sizes.split(",")):
                measure(name, size, int(batches), float(milliseconds) * 1e3)
        dist.barrier()
    finally:
        dist.destroy_process_group()
        # The last that leaves removes it, too.
        with contextlib.suppress(FileNotFoundError):
            os.remove(meeting)


main()
