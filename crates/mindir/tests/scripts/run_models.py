"""Loads the models listed in the JSON file argv[1] with MindSpore, runs them and compares with what the archives say.

A case that fails is skipped if its original does not run, or does not compute that, either. Prints one JSON object per
case: its name, the outcome, and the error if there is one. An archive has the arrays of one call; a list of archives
stands for successive calls of one cell. Narrow are models that compute in 16 bits somewhere.
"""

import json
import sys
import warnings

warnings.filterwarnings("ignore")

import mindspore as ms
import numpy as np
from mindspore import nn


def flat(value):
    if isinstance(value, (tuple, list)):
        return [leaf for element in value for leaf in flat(element)]
    return [value]


def as_array(value):
    if isinstance(value, ms.Tensor):
        value = value.astype(ms.float32) if value.dtype == ms.bfloat16 else value
        return value.asnumpy()
    return np.asarray(value)


def inputs(case, archive):
    arrays = []
    for i, dtype in enumerate(case["dtypes"]):
        array = ms.Tensor(archive[f"in_{i}"])
        arrays.append(array.astype(ms.bfloat16) if dtype == "BFLOAT16" else array)
    return arrays


def tolerance(array):
    if array.dtype.kind not in "fc":
        return 0, 0
    # Results of bfloat16 are stored in single precision.
    return (2e-2, 2e-2) if array.dtype == np.float16 else (1e-4, 1e-5)


def check(case, file, options):
    cell = nn.GraphCell(ms.load(file, **options))
    archives = case["npz"] if isinstance(case["npz"], list) else [case["npz"]]
    for path in archives:
        check_call(case, cell, np.load(path))


def check_call(case, cell, archive):
    results = [as_array(result) for result in flat(cell(*inputs(case, archive)))]
    expected = [archive[f"out_{i}"] for i in range(len([n for n in archive.files if n.startswith("out_")]))]
    if len(results) != len(expected):
        raise ValueError(f"{len(results)} results instead of {len(expected)}")
    for i, (result, want) in enumerate(zip(results, expected)):
        rtol, atol = tolerance(want)
        if "BFLOAT16" in case["dtypes"] or case.get("narrow"):
            rtol = atol = 2e-2
        np.testing.assert_allclose(result, want, rtol, atol, err_msg=f"result {i}")


def outcome(case):
    error = None
    try:
        if case["original"]:
            check(case, case["original"], {})
    except Exception as exception:
        error = str(exception)[:200]
    options = {"dec_key": case["key"].encode(), "dec_mode": case["mode"]} if case["mode"] else {}
    try:
        check(case, case["file"], options)
    except Exception as exception:
        if error:
            return "skipped", error
        return "failed", f"{type(exception).__name__}: {exception}"[:2000]
    return "passed", None


ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
for case in json.load(open(sys.argv[1])):
    result, error = outcome(case)
    print("RESULT " + json.dumps({"name": case["name"], "outcome": result, "error": error}), flush=True)
