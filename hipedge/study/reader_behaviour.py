"""Effects of assistance on readers: reading time and automation bias."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hipedge.study.estimates import PLAIN, Cell, Estimate, Table
from hipedge.study.intervals import clustered_wilson
from hipedge.study.metrics import ratio
from hipedge.study.reader_study import ReaderStudy
from hipedge.study.resampling import Array, bootstrap


def reading_time_tables(study: ReaderStudy, *, replicates: int, seed: int) -> list[Table]:
    """Report reading times, if recorded: medians, and the ratio of geometric means."""
    if study.seconds is None:
        return []
    readers = list(range(len(study.readers)))
    groups = {study.readers[r]: [r] for r in readers} | {"all readers": readers}
    units, unit = np.unique(study.cases.patients, return_inverse=True)
    rows: list[tuple[Cell, ...]] = []
    for name, chosen in groups.items():
        seconds = study.seconds[chosen].transpose(1, 0, 2)
        timed = np.asarray((np.isfinite(seconds) & (seconds > 0)).all(axis=0))
        logs = np.log(np.where(timed, seconds, 1.0))
        change = np.bincount(unit, (logs[1] - logs[0]).sum(axis=0), units.size)
        number = np.bincount(unit, timed.sum(axis=0), units.size)
        drawn = bootstrap(
            _geometric_ratio(np.column_stack([change, number])),
            np.ones(units.size, dtype=np.int64),
            replicates=replicates,
            seed=seed,
        )
        n = int(timed.sum())
        medians = [float(np.median(phase[timed])) if n else np.nan for phase in seconds]
        time_ratio = Estimate(float(drawn.values[0]), drawn.intervals(0), n, unit=PLAIN)
        rows.append((name, n, *(Estimate(median, unit=PLAIN) for median in medians), time_ratio))
    return [
        Table(
            "reading-time",
            "Reading time",
            ("reader", "reads timed twice", "median alone (s)", "median assisted (s)",
             "ratio of geometric means"),
            tuple(rows),
            "Assisted over alone, of the reads timed in both phases; below 1 is faster.",
        )
    ]  # fmt: skip


def _geometric_ratio(sums: Array) -> Callable[[Array], Array]:
    """Return the statistic exp(sum of log ratios / number) of the units' sums (U, 2)."""

    def statistic(weights: Array) -> Array:
        total = weights @ sums
        return np.exp(ratio(total[:, :1], total[:, 1:]))

    return statistic


def automation_bias_table(study: ReaderStudy) -> Table:
    """Report automation bias: reads that changed from alone to assisted, by the model's answer."""
    model, (alone, assisted) = study.model_correct, study.correct.transpose(1, 0, 2)
    rows: list[tuple[Cell, ...]] = []
    for r, reader in enumerate(study.readers):
        misled = _proportion(~assisted[r], alone[r] & ~model, study.cases.patients)
        helped = _proportion(assisted[r], ~alone[r] & model, study.cases.patients)
        rows.append((reader, study.grades[r], *misled, *helped))
    return Table(
        "automation-bias",
        "Automation bias",
        ("reader", "grade", "misled", "proportion misled", "helped", "proportion helped"),
        tuple(rows),
        "Misled: of the hips answered correctly alone and wrongly by the model, those answered "
        "wrongly when assisted. Helped: of the hips answered wrongly alone and correctly by the "
        "model, those answered correctly when assisted.",
    )


def _proportion(
    happened: NDArray[np.bool_], among: NDArray[np.bool_], patients: NDArray[np.int64]
) -> tuple[str, Estimate]:
    """Return the events among some hips (N,), as text and as a proportion."""
    n, events = int(among.sum()), int((among & happened).sum())
    interval = clustered_wilson(happened[among], patients[among])
    return f"{events} of {n}", Estimate(events / n if n else np.nan, {"wilson": interval}, n)
