"""A backend that knows the golden scores by heart, and errs as it is told to."""

import numpy as np

from hipedge.backends.base import Backend, Fingerprint


class GoldenBackend(Backend):
    """`err` takes logits (N, K) and maps (N, K, h, w) of a batch and changes them in place."""

    def __init__(self, golden, err=lambda logits, maps: None):
        super().__init__(golden.samples.shape[-1])
        self.golden, self.err, self.batches = golden, err, []
        self.known = {sample.tobytes(): i for i, sample in enumerate(golden.samples)}

    @classmethod
    def open(cls, model, *, threads=None):
        return cls(model.golden())

    @property
    def fingerprint(self):
        return Fingerprint("golden", "1", "none", "none", "fp32")

    def _infer(self, batch):
        self.batches.append(len(batch))
        rows = np.array([self.known[sample.tobytes()] for sample in batch])
        logits, maps = self.golden.logits[rows].copy(), self.golden.maps[rows].copy()
        self.err(logits, maps)
        return logits, maps


class WrongBackend(GoldenBackend):
    """One that is sure of osteoarthritis."""

    @classmethod
    def open(cls, model, *, threads=None):
        def err(logits, maps):
            logits[:, 1] += 5

        return cls(model.golden(), err)
