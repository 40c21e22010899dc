"""A simulated reader study, for tests, examples and coverage simulations.

    python -m benchmarks.simulated_study FOLDER

writes `labels.csv`, `predictions.csv` and `reads.csv`.

Each answer, of the model or of a reader, is the category with the largest latent score: the
evidence for the truth, a fraction of it for similar categories, and noise with three components:
a case component that model and readers share, a reader component that is the same in both phases,
and an independent component. Errors are therefore correlated between readers and between phases.
In the assisted phase a reader adds a fraction of the model's score. The parameters are not
estimated from real readers.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hipedge.study.inputs import PHASES
from hipedge.study.resampling import SEED, Array
from hipedge.types import CATEGORIES, Category, Side

K = len(CATEGORIES)
SHARES = (0.40, 0.17, 0.09, 0.07, 0.08, 0.06, 0.08, 0.05)

# The similarity of two categories, as a fraction of the evidence for the truth.
_SIMILARITY = {
    (Category.NORMAL, Category.FEMORAL_NECK_FRACTURE): 0.35,
    (Category.NORMAL, Category.FEMORAL_HEAD_OSTEONECROSIS): 0.35,
    (Category.NORMAL, Category.DEVELOPMENTAL_DYSPLASIA): 0.30,
    (Category.NORMAL, Category.OSTEOARTHRITIS): 0.35,
    (Category.OSTEOARTHRITIS, Category.FEMORAL_HEAD_OSTEONECROSIS): 0.45,
    (Category.OSTEOARTHRITIS, Category.DEVELOPMENTAL_DYSPLASIA): 0.40,
    (Category.FEMORAL_NECK_FRACTURE, Category.INTERTROCHANTERIC_FRACTURE): 0.40,
    (Category.TOTAL_HIP_ARTHROPLASTY, Category.INTERNAL_FIXATION): 0.25,
}


@dataclass(frozen=True)
class Reader:
    """A simulated reader.

    `skill` is the evidence for the truth; `trust` is the fraction of the model's score that the
    reader adds when assisted.
    """

    name: str
    grade: str
    skill: float
    trust: float


READERS = (
    Reader("R1", "junior", 2.6, 0.55),
    Reader("R2", "junior", 2.8, 0.45),
    Reader("R3", "attending", 3.2, 0.40),
    Reader("R4", "attending", 3.4, 0.35),
    Reader("R5", "senior", 3.9, 0.30),
    Reader("R6", "senior", 4.2, 0.20),
)
MODEL_SKILL = 3.7
SHARED_NOISE, READER_NOISE, INDEPENDENT_NOISE = 0.8, 0.45, 0.4
OVERCONFIDENCE = 4.0
UNREAD_FRACTION = 0.01


@dataclass(frozen=True, eq=False)
class SimulatedStudy:
    """Truth (N,), patients (N,), the model's probabilities (N, K), reads (R, 2, N).

    `confidence` and `seconds` are shaped as `answers`, whose phases are alone, then assisted.
    """

    truth: NDArray[np.int64]
    patients: NDArray[np.int64]
    probabilities: Array
    answers: NDArray[np.int64]
    confidence: Array
    seconds: Array


def simulate_study(
    n_hips: int, readers: Sequence[Reader] = READERS, *, seed: int = SEED
) -> SimulatedStudy:
    """Simulate a study of `n_hips` hips; one patient in three contributes both hips."""
    rng = np.random.default_rng(seed)
    patients = _patients(n_hips, rng)
    truth = rng.choice(K, n_hips, p=SHARES)
    evidence = _evidence()[truth]
    case_noise = rng.normal(scale=SHARED_NOISE, size=(n_hips, K))
    own = rng.normal(scale=READER_NOISE, size=(n_hips, K))
    model = MODEL_SKILL * evidence + case_noise + own

    answers = np.empty((len(readers), len(PHASES), n_hips), dtype=np.int64)
    confidence = np.empty(answers.shape)
    seconds = np.empty(answers.shape)
    for r, reader in enumerate(readers):
        own = rng.normal(scale=READER_NOISE, size=(n_hips, K))
        for phase in range(len(PHASES)):
            independent = rng.normal(scale=INDEPENDENT_NOISE, size=(n_hips, K))
            score = reader.skill * evidence + case_noise + own + independent
            score += phase * reader.trust * model
            answers[r, phase] = score.argmax(axis=1)
            certainty = _softmax(score).max(axis=1)
            confidence[r, phase] = np.clip(np.round(certainty * 10) * 10, 10, 100)
            slow = 2.6 + 0.5 * (1 - certainty) - 0.2 * phase
            seconds[r, phase] = np.round(np.exp(slow + rng.normal(scale=0.35, size=n_hips)), 1)
    return SimulatedStudy(
        truth, patients, _softmax(OVERCONFIDENCE * model), answers, confidence, seconds
    )


def write_study(study: SimulatedStudy, folder: Path, *, n_read: int, seed: int = SEED) -> None:
    """Write the three CSV tables; the readers read the first `n_read` hips."""
    rng = np.random.default_rng([seed, 1])
    folder.mkdir(parents=True, exist_ok=True)
    n_patients = int(study.patients.max()) + 1
    site = rng.choice(["hospital 1", "hospital 2", "hospital 3"], n_patients, p=[0.4, 0.3, 0.3])
    sex = rng.choice(["F", "M"], n_patients, p=[0.6, 0.4])
    age = np.clip(rng.normal(64, 17, n_patients).round(), 18, 98).astype(int)
    vendor = rng.choice(["vendor A", "vendor B"], n_patients)
    cases = [(f"case{p:05d}", *_sides(study.patients, i)) for i, p in enumerate(study.patients)]
    missing = rng.random(len(cases)) < UNREAD_FRACTION
    missing[:n_read] = False

    labels = (
        (case, side, CATEGORIES[study.truth[i]].value, f"patient{p:05d}", site[p],
         "external" if site[p] == "hospital 3" else "internal", sex[p], age[p], vendor[p])
        for i, ((case, side), p) in enumerate(zip(cases, study.patients, strict=True))
    )  # fmt: skip
    _write(
        folder / "labels.csv",
        ("case", "side", "category", "patient", "site", "split", "sex", "age", "vendor"),
        labels,
    )
    rounded = study.probabilities.round(5)
    _write(
        folder / "predictions.csv",
        ("case", "side", *(c.value for c in CATEGORIES), "code"),
        ((case, side, *([""] * K if missing[i] else rounded[i].tolist()),
          "hip_not_found" if missing[i] else "")
         for i, (case, side) in enumerate(cases)),
    )  # fmt: skip
    _write(
        folder / "reads.csv",
        ("reader", "grade", "phase", "case", "side", "answer", "confidence", "seconds"),
        (
            (reader.name, reader.grade, phase, *cases[i],
             CATEGORIES[study.answers[r, p, i]].value,
             int(study.confidence[r, p, i]), study.seconds[r, p, i])
            for r, reader in enumerate(READERS)
            for p, phase in enumerate(PHASES)
            for i in range(n_read)
        ),
    )  # fmt: skip


def _evidence() -> Array:
    """Return the evidence (K, K) for each category (column) given the true one (row)."""
    evidence = np.eye(K)
    for (a, b), share in _SIMILARITY.items():
        i, j = CATEGORIES.index(a), CATEGORIES.index(b)
        evidence[i, j] = evidence[j, i] = share
    return evidence


def _patients(n_hips: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return each hip's patient: one in three has two consecutive hips."""
    hips_of = 1 + (rng.random(n_hips) < 1 / 3).astype(np.int64)
    return np.repeat(np.arange(n_hips), hips_of)[:n_hips]


def _sides(patients: NDArray[np.int64], i: int) -> tuple[str]:
    """Return a hip's side: right, or left for the second hip of a patient."""
    second = i > 0 and patients[i - 1] == patients[i]
    return (Side.LEFT.value if second else Side.RIGHT.value,)


def _softmax(logits: Array) -> Array:
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponential / exponential.sum(axis=1, keepdims=True))


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Write a simulated reader study.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hips", type=int, default=3000, help="labelled hips (default 3000)")
    parser.add_argument("--read", type=int, default=400, help="hips that are read (default 400)")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    study = simulate_study(arguments.hips, seed=arguments.seed)
    write_study(study, arguments.folder, n_read=arguments.read, seed=arguments.seed)


if __name__ == "__main__":
    _main()
