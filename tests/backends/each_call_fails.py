"""Let each call of CUDA and TensorRT in the life of a backend fail, and print what follows.

    python -m tests.backends.each_call_fails FOLDER

A line of JSON for each life. It runs in a process of its own, since what is tested for is that a
failure does not end the process. FOLDER is for files.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hipedge.backends.fake import FakeBackend
from tests.backends.cuda_driver import FOREVER, load_driver
from tests.backends.gpu import backend_on, in_thread, logits, samples
from tests.backends.tensorrt_double import TensorRt

BATCHES = (2, 2, 2, 9)
EXPECTED = {count: logits(FakeBackend(64).infer(samples(count))) for count in BATCHES}

# Names, and what differs: CUDA graphs, the flavour, whether the GPU recovers.
LIVES = {
    "plain": {"graphs": False, "flavour": "tensorrt", "until": 1},
    "graphs": {"graphs": True, "flavour": "tensorrt", "until": 1},
    "graphs, for ever": {"graphs": True, "flavour": "tensorrt", "until": FOREVER},
    "rtx": {"graphs": False, "flavour": "rtx", "until": 1},
}


def live(tensorrt, kernels, graphs, flavour):
    """Load, score and close; return the stage that was reached."""
    with backend_on(tensorrt, graphs=graphs, flavour=flavour, kernels=kernels) as backend:
        tensorrt.stage = "inference"
        for count in BATCHES:
            np.testing.assert_array_equal(logits(backend.infer(samples(count))), EXPECTED[count])
        tensorrt.stage = "closing"


def fails(driver, kernels, number, graphs, flavour, until):
    """Let the call with this number fail in a life; return a record, or None without that call."""
    driver.start()
    tensorrt = TensorRt(driver)
    tensorrt.stage = "loading"
    driver.fail(number, number + until)
    error = None
    try:
        in_thread(lambda: live(tensorrt, kernels, graphs, flavour))
    except Exception as raised:
        error = type(raised).__name__
    driver.heal()
    if driver.call_count() <= number:
        return None
    return {
        "number": number,
        "call": driver.names()[number],
        "stage": tensorrt.stage,
        "error": error,
        "tensorrt_faults": tensorrt.faults,
        **asdict(driver.counts),
    }


def main():
    folder = Path(sys.argv[1])
    driver = load_driver(folder)
    sys.modules.update(driver.modules)
    for name, life in LIVES.items():
        number = 0
        while (record := fails(driver, folder / "kernels", number, **life)) is not None:
            print(json.dumps({"life": name, **record}), flush=True)
            number += 1


if __name__ == "__main__":
    main()
