"""How fast the study's bootstrap is, beside a loop over scikit-learn doing the same work.

    OMP_NUM_THREADS=1 python -m benchmarks.resampling            # 10,000 replicates, 5,000 cases
    OMP_NUM_THREADS=1 python -m benchmarks.resampling --million  # a million cases, and its memory

Ours is timed over all replicates, the loop over a few; the ratio is of the time for one replicate,
in the same run. Both compute the same metrics of the same data, and are checked to agree. Times
are of the processor, on one core: what else the machine does hardly matters.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time

import numpy as np
import scipy
import sklearn
from sklearn import metrics as sk

from benchmarks.environment import environment
from benchmarks.simulated_study import simulate_study
from hipedge.study import scores
from hipedge.study.metrics import bootstrap_confusion, confusion_cells, patterns_of
from hipedge.study.resampling import bootstrap, draw_weights

K = 8


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5_000)
    parser.add_argument("--replicates", type=int, default=10_000)
    parser.add_argument("--loop", type=int, default=30, help="replicates of the loop")
    parser.add_argument("--million", action="store_true")
    arguments = parser.parse_args()
    print_environment()
    if arguments.million:
        run_a_million()
    else:
        compare(arguments.cases, arguments.replicates, arguments.loop)


def print_environment():
    here = environment() | {"scikit-learn": sklearn.__version__, "scipy": scipy.__version__}
    for name, value in here.items():
        print(f"{name}: {value}")
    print(f"OMP_NUM_THREADS: {os.environ.get('OMP_NUM_THREADS', 'unset')}")


def compare(n_cases, replicates, loop):
    study = simulate_study(n_cases)
    truth, probabilities = study.truth, study.probabilities
    answer = probabilities.argmax(axis=1)
    print(f"{n_cases:,} cases of {len(np.unique(study.patients)):,} patients, {K} categories, "
          f"{replicates:,} replicates, by patient")  # fmt: skip

    confusion_s, confusion = timed(lambda: our_confusion(study, answer, replicates))
    scores_s, drawn = timed(lambda: our_scores(study, replicates))
    draws = [np.random.default_rng(r).integers(0, n_cases, n_cases) for r in range(loop)]
    loop_confusion_s, _ = timed(lambda: [their_confusion(truth[d], answer[d]) for d in draws])
    loop_scores_s, _ = timed(lambda: [their_scores(truth[d], probabilities[d]) for d in draws])

    assert np.isclose(confusion.value("macro F1"), their_confusion(truth, answer)["macro F1"])
    assert np.isclose(drawn.values[0], their_scores(truth, probabilities)["macro AUC"])
    print_row("confusion-matrix metrics", confusion_s, replicates, loop_confusion_s, loop)
    print_row("all metrics", confusion_s + scores_s, replicates,
              loop_confusion_s + loop_scores_s, loop)  # fmt: skip


def our_confusion(study, answer, replicates):
    """43 statistics: accuracy, balanced accuracy, macro-F1, and five for each category."""
    cells = confusion_cells(study.truth, answer, K)
    patterns = patterns_of(cells, study.patients, K * (K + 1))
    return bootstrap_confusion(patterns, K, replicates=replicates)


def our_scores(study, replicates):
    """Twenty: AUC and average precision by category and macro, Brier score, ECE."""
    tables = scores.score_tables(study.probabilities, study.truth, patients=study.patients)
    units = np.ones(int(study.patients.max()) + 1, dtype=np.int64)
    return bootstrap(
        lambda weights: scores.score_statistic(weights, tables), units, replicates=replicates
    )


def their_confusion(truth, answer):
    matrix = sk.confusion_matrix(truth, answer, labels=range(K))
    right, total = np.diag(matrix), matrix.sum()
    rejected = total - matrix.sum(axis=0) - matrix.sum(axis=1) + right
    return {
        "accuracy": sk.accuracy_score(truth, answer),
        "balanced accuracy": sk.balanced_accuracy_score(truth, answer),
        "macro F1": sk.f1_score(truth, answer, average="macro"),
        "by category": sk.precision_recall_fscore_support(
            truth, answer, labels=range(K), zero_division=np.nan
        ),
        "specificity": rejected / (total - matrix.sum(axis=1)),
        "NPV": rejected / (total - matrix.sum(axis=0)),
    }


def their_scores(truth, probabilities):
    one_hot = np.eye(K)[truth]
    areas = [sk.roc_auc_score(one_hot[:, k], probabilities[:, k]) for k in range(K)]
    precisions = [sk.average_precision_score(one_hot[:, k], probabilities[:, k]) for k in range(K)]
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    bins = scores.calibration_bins(confidence)
    gaps = np.bincount(bins, right - confidence, scores.N_BINS)
    return {
        "AUC": areas,
        "macro AUC": np.mean(areas),
        "average precision": precisions,
        "Brier": sum(sk.brier_score_loss(one_hot[:, k], probabilities[:, k]) for k in range(K)),
        "ECE": np.abs(gaps).sum() / truth.size,
    }


def run_a_million():
    study = simulate_study(1_000_000, readers=())
    answer = study.probabilities.argmax(axis=1)
    print("1,000,000 cases")
    confusion_s, _ = timed(lambda: our_confusion(study, answer, 10_000))
    print(f"confusion-matrix metrics, 10,000 replicates: {confusion_s:.1f} s")
    print(f"peak memory so far, of the simulation mostly: {peak_mib():,.0f} MiB")
    for replicates in (10, 40):
        scores_s, _ = timed(lambda n=replicates: scores_only(study, n))
        print(f"score metrics, {replicates} replicates: {scores_s:.1f} s")
        print(f"peak memory so far: {peak_mib():,.0f} MiB")


def scores_only(study, replicates):
    """Like `our_scores`, replicates only: the BCa's jackknife takes a thousand more."""
    tables = scores.score_tables(study.probabilities, study.truth, patients=study.patients)
    units = np.ones(int(study.patients.max()) + 1, dtype=np.int64)
    for r in range(replicates):
        scores.score_statistic(draw_weights(units, r, r + 1), tables)


def timed(work):
    """Return the seconds of processor time that work took, and its result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def peak_mib():
    """Peak memory of this process; ru_maxrss is in KiB on Linux, in bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def print_row(name, ours_s, replicates, loop_s, loop):
    each, theirs = ours_s / replicates, loop_s / loop
    print(f"{name}: {ours_s:.2f} s; scikit-learn {1000 * theirs:.1f} ms a replicate, "
          f"ours {1000 * each:.3f} ms: {theirs / each:.0f} times faster")  # fmt: skip


if __name__ == "__main__":
    main()
