"""What every backend promises, whatever runs below it."""

import numpy as np
import pytest

from hipedge.backends import Fingerprint
from hipedge.backends.fake import FakeBackend
from hipedge.errors import BackendError


class Canned(FakeBackend):
    """Returns what it was given, as a runtime that misbehaves would."""

    def __init__(self, logits, maps):
        super().__init__(32)
        self.scores = logits, maps

    def _infer(self, batch):
        return self.scores


def batch(n=2, size_px=32):
    return np.zeros((n, 1, size_px, size_px), np.uint8)


def scores(n=2, dtype=np.float32):
    return np.zeros((n, 8), dtype), np.zeros((n, 8, 4, 4), dtype)


@pytest.mark.parametrize(
    "wrong",
    [
        batch(0),
        batch(size_px=64),
        batch()[0],
        batch().astype(np.float32),
        np.repeat(batch(), 3, axis=1),
        batch()[..., ::-1],
        batch(4)[::2],
    ],
    ids=["empty", "size", "no batch", "float", "colour", "mirrored view", "every second"],
)
def test_a_batch_of_another_shape_type_or_layout_is_refused(wrong):
    with FakeBackend(32) as backend, pytest.raises(BackendError, match=r"\(N ≥ 1, 1, 32, 32\)"):
        backend.infer(wrong)


@pytest.mark.parametrize(
    ("logits", "maps"),
    [
        scores(3),
        scores(dtype=np.float16),
        (scores()[0][:, :7], scores()[1]),
        (scores()[0], scores()[1][:, :7]),
        (scores()[0], scores()[1][:, :, 0]),
    ],
    ids=["count", "half", "seven logits", "seven maps", "flat maps"],
)
def test_scores_of_another_shape_or_type_are_an_error(logits, maps):
    with Canned(logits, maps) as backend, pytest.raises(BackendError, match="the model returned"):
        backend.infer(batch())


def test_each_sample_gets_its_own_scores_in_order():
    logits, maps = scores()
    logits[1], maps[1] = 1, 2
    with Canned(logits, maps) as backend:
        first, second = backend.infer(batch())
    assert first.logits.tolist() == [0] * 8
    assert second.logits.tolist() == [1] * 8
    assert second.maps.shape == (8, 4, 4)
    assert (second.maps == 2).all()


def test_the_caller_owns_the_scores():
    logits, maps = scores()
    with Canned(logits, maps) as backend:
        (first, _) = backend.infer(batch())
    logits[:], maps[:] = 9, 9  # a runtime that reuses its buffers
    assert not first.logits.any()
    assert not first.maps.any()
    assert first.logits.flags.owndata
    assert first.maps.flags.owndata


def test_scores_that_are_not_finite_are_passed_on():
    logits, maps = scores()
    logits[0, 0], maps[1, 0] = np.nan, np.inf
    with Canned(logits, maps) as backend:
        first, second = backend.infer(batch())
    assert np.isnan(first.logits[0])
    assert np.isinf(second.maps[0]).all()


def test_a_closed_backend_says_so():
    with FakeBackend(32) as backend:
        pass
    with pytest.raises(BackendError, match="is closed"):
        backend.infer(batch())


def test_a_fingerprint_is_one_line_that_names_all_it_knows():
    fingerprint = Fingerprint("onnxruntime", "1.23.2", "CPUExecutionProvider", "x86_64", "fp16", 2)
    assert str(fingerprint) == (
        "onnxruntime=1.23.2 provider=CPUExecutionProvider device=x86_64 precision=fp16 threads=2"
    )
    assert str(Fingerprint("fake", "0", "none", "none", "none")).endswith("precision=none")


def test_the_runtime_is_released_once_and_in_any_case():
    released = []

    class Counting(FakeBackend):
        def _release(self):
            released.append(self)

    with pytest.raises(ValueError, match="of the caller"), Counting(32) as backend:
        raise ValueError("of the caller")
    assert released == [backend]
    backend.close()
    assert released == [backend]


def test_a_batch_of_the_wrong_shape_never_reaches_the_runtime():
    class Untouchable(FakeBackend):
        def _infer(self, batch):
            raise AssertionError("was called")

    with Untouchable(32) as backend, pytest.raises(BackendError):
        backend.infer(batch(size_px=64))
