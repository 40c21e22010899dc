"""Temperature scaling: Guo et al., On Calibration of Modern Neural Networks, ICML 2017."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TEMPERATURES = (0.05, 20.0)
# Width of the final bracket, in the logarithm of the temperature.
TOLERANCE = 1e-4


def fit_temperature(logits: NDArray[np.floating], truth: NDArray[np.integer]) -> float:
    """Return the temperature that minimises the negative log-likelihood, within `TEMPERATURES`.

    `logits` (N, K) may be log-probabilities: the result is then a factor on the temperature with
    which they were computed. The likelihood is unimodal in the temperature, so a ternary search
    finds its maximum. If every hip is classified correctly there is no maximum, and the lower bound
    is returned.
    """
    low, high = np.log(TEMPERATURES)
    while high - low > TOLERANCE:
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if mean_nll(logits, truth, np.exp(left)) <= mean_nll(logits, truth, np.exp(right)):
            high = right
        else:
            low = left
    return float(np.exp(low))


def mean_nll(logits: NDArray[np.floating], truth: NDArray[np.integer], temperature: float) -> float:
    """Return the mean negative log-likelihood of logits (N, K) at a temperature."""
    scores = logits.astype(np.float64) / temperature
    scores -= scores.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(scores).sum(axis=1))
    return float(np.mean(log_sum - scores[np.arange(len(truth)), truth]))
