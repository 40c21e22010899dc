"""Agreement between the readers of a study, alone and assisted."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np

from hipedge.study.agreement import (
    RaterCounts,
    agreement_by_formula,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac1,
)
from hipedge.study.estimates import PLAIN, Cell, Estimate, Table
from hipedge.study.estimator import K
from hipedge.study.paired import count_cells, paired_difference
from hipedge.study.reader_study import ReaderStudy
from hipedge.study.resampling import Array, bootstrap

_MEASURES = {"Fleiss' κ": "fleiss", "Gwet's AC1": "gwet"}


class Agreement:
    """Pairwise Cohen's κ, Fleiss' κ and Gwet's AC1 in each phase, with joint replicates."""

    def __init__(self, study: ReaderStudy, *, replicates: int, seed: int) -> None:
        self._study = study
        self._pairs = list(combinations(range(len(study.readers)), 2))
        units, unit = np.unique(study.cases.patients, return_inverse=True)
        self._counts = [
            np.stack([np.sum(study.answers[:, p] == k, axis=0) for k in range(K)], axis=1)
            for p in range(len(study.phases))
        ]
        terms = np.column_stack([RaterCounts(counts).terms() for counts in self._counts])
        of_units = np.zeros((units.size, terms.shape[1]))
        np.add.at(of_units, unit, terms)
        pairs = np.stack(
            [
                count_cells(study.answers[a, p], study.answers[b, p], unit, units.size)
                for p in range(len(study.phases))
                for a, b in self._pairs
            ],
            axis=1,
        ).reshape(units.size, -1)

        def statistic(weights: Array) -> Array:
            sums = np.split(weights @ of_units, len(study.phases), axis=1)
            coefficients = [measure(part) for part in sums for measure in (fleiss_kappa, gwet_ac1)]
            kappas = cohen_kappa((weights @ pairs).reshape(-1, K, K))
            return np.column_stack([*coefficients, kappas.reshape(len(weights), -1)])

        self._result = bootstrap(
            statistic,
            np.ones(units.size, dtype=np.int64),
            replicates=replicates,
            seed=seed,
        )

    def _estimate(self, column: int) -> Estimate:
        return Estimate(
            float(self._result.values[column]), self._result.intervals(column), unit=PLAIN
        )

    def _pair_column(self, phase: int, pair: int) -> int:
        return len(_MEASURES) * len(self._study.phases) + phase * len(self._pairs) + pair

    def table(self) -> Table:
        """Report the agreement of all readers, its range over pairs, and its change."""
        rows = []
        for p in range(len(self._study.phases)):
            rows += [*self._all_readers(p), *self._range(p)]
        if len(self._study.phases) == 2:
            rows += self._change()
        independent = not self._study.cases.clustered
        return Table(
            "agreement",
            "Agreement between readers",
            ("phase", "measure", "value", "between"),
            tuple(rows),
            "Bootstrap by patient"
            + (", and Gwet's formula for independent cases." if independent else "."),
        )

    def _all_readers(self, p: int) -> list[tuple[Cell, ...]]:
        """Return the rows of the measures over all readers in a phase."""
        rows: list[tuple[Cell, ...]] = []
        for m, (name, chance) in enumerate(_MEASURES.items()):
            estimate = self._estimate(len(_MEASURES) * p + m)
            if not self._study.cases.clustered:
                formula = agreement_by_formula(RaterCounts(self._counts[p]), chance=chance)[2]
                intervals = {**estimate.intervals, "formula": formula}
                estimate = replace(estimate, intervals=intervals)
            rows.append((self._study.phases[p], name, estimate, "all readers"))
        return rows

    def _range(self, p: int) -> list[tuple[Cell, ...]]:
        """Return the rows of the pairs with the lowest and the highest κ in a phase."""
        columns = [self._pair_column(p, pair) for pair in range(len(self._pairs))]
        defined = [i for i in range(len(columns)) if np.isfinite(self._result.values[columns[i]])]
        by_value = sorted(defined, key=lambda i: float(self._result.values[columns[i]]))
        rows: list[tuple[Cell, ...]] = []
        for name, pair in zip(("lowest", "highest"), (by_value[:1], by_value[-1:]), strict=True):
            for i in pair:
                between = " and ".join(self._study.readers[r] for r in self._pairs[i])
                estimate = self._estimate(columns[i])
                rows.append((self._study.phases[p], f"{name} Cohen's κ", estimate, between))
        return rows

    def _change(self) -> list[tuple[Cell, ...]]:
        """Return the rows of assisted less alone."""
        rows: list[tuple[Cell, ...]] = []
        for m, name in enumerate(_MEASURES):
            alone, assisted = (
                (float(self._result.values[column]), self._result.replicates[:, column])
                for column in (m, len(_MEASURES) + m)
            )
            difference, _ = paired_difference(assisted, alone)
            difference = replace(difference, unit=PLAIN)
            rows.append(("assisted less alone", name, difference, "all readers"))
        return rows

    def pair_table(self) -> Table:
        """Report Cohen's κ of every pair."""
        rows: list[tuple[Cell, ...]] = [
            (self._study.readers[a], self._study.readers[b],
             *(self._estimate(self._pair_column(p, i)) for p in range(len(self._study.phases))))
            for i, (a, b) in enumerate(self._pairs)
        ]  # fmt: skip
        return Table(
            "pairwise-kappa",
            "Cohen's κ of each pair of readers",
            ("reader", "and", *self._study.phases),
            tuple(rows),
        )

    def matrices(self) -> Array:
        """Return the pairwise κ (P, R, R)."""
        n = len(self._study.readers)
        kappas = np.full((len(self._study.phases), n, n), np.nan)
        for p in range(len(self._study.phases)):
            for i, (a, b) in enumerate(self._pairs):
                kappas[p, [a, b], [b, a]] = self._result.values[self._pair_column(p, i)]
        return kappas
