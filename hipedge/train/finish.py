"""From trained weights to a checkpoint: calibration, metrics and the model's card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from hipedge.model.card import Card, Status
from hipedge.model.folder import GOLDEN_SAMPLES
from hipedge.model.untrained import synthetic_crops
from hipedge.rules.joint_fit import CRITERION, JointFit
from hipedge.train.calibrate import Calibration, calibrate, choose_golden
from hipedge.train.classifier import score_crops
from hipedge.train.evaluate import measure, probabilities_of, write_predictions
from hipedge.train.manifest import SPLITS, VAL
from hipedge.train.network import Checkpoint, HipNet
from hipedge.train.settings import Run

CHECKPOINT = "checkpoint.pt"
PREDICTIONS = "predictions.csv"


def is_calibration(name: str) -> bool:
    """Say whether held-out hips of this name are for calibration."""
    return name.removeprefix("inserted_") == VAL


def finish(run: Run, network: HipNet, device: torch.device) -> Checkpoint:
    """Calibrate on validation, measure on all hips outside training, write the checkpoint.

    The golden samples are crops of the calibration hips, filled up with random fields.
    """
    held_out = run.held_out
    logits = {name: score_crops(network, c.pixels, device) for name, c in held_out.items()}
    chosen = [name for name in held_out if is_calibration(name)]
    truth = np.concatenate([held_out[name].categories for name in chosen])
    calibration = calibrate(
        np.concatenate([logits[name] for name in chosen]), truth, _films(run, chosen)
    )
    probabilities = {n: probabilities_of(logits[n], calibration.temperature) for n in held_out}
    if run.manifest is not None:
        labelled = [name for name in held_out if name in SPLITS]
        write_predictions(
            run.folder / PREDICTIONS,
            [row for name in labelled for row in held_out[name].rows],
            np.concatenate([probabilities[name] for name in labelled]),
            run.manifest.path.parent,
        )
    metrics = {"val_nll_before_calibration": calibration.nll[0], "val_nll": calibration.nll[1]}
    metrics |= _promises(calibration.fit)
    for name, crops in held_out.items():
        measured = measure(crops.rows, probabilities[name], calibration)
        metrics |= {f"{name}_{metric}": value for metric, value in measured.items()}
    pixels = np.concatenate([held_out[name].pixels for name in chosen])
    golden = pixels[choose_golden(truth, GOLDEN_SAMPLES)]
    filling = synthetic_crops(run.settings.geometry.size_px)[len(golden) :]
    checkpoint = Checkpoint(
        network.cpu(), _card(run, calibration, metrics), np.concatenate([golden, filling])
    )
    checkpoint.save(run.folder / CHECKPOINT)
    return checkpoint


def _films(run: Run, names: Sequence[str]) -> NDArray[np.int64]:
    """Return a number for the film of each hip (N,); every inserted lesion is a film of its own."""
    films = [
        f"{name} {row.path if name in SPLITS else index}"
        for name in names
        for index, row in enumerate(run.held_out[name].rows)
    ]
    return np.unique(films, return_inverse=True)[1].astype(np.int64)


def _promises(fit: JointFit | None) -> dict[str, float]:
    """Return what the operating points do on the hips that they were fitted to, as metrics."""
    if fit is None:
        return {}
    found: dict[str, float] = {"calibration_hips_without_finding": fit.hips_without_finding}
    for fitted in fit.points:
        name = f"calibration_{fitted.point.name}"
        found[f"{name}_reached"] = float(fitted.reached)
        found[f"{name}_flag_rate_without_finding"] = fitted.flag_rate
        if np.isfinite(fitted.film_flag_rate):
            found[f"{name}_film_flag_rate_without_finding"] = fitted.film_flag_rate
        found |= {f"{name}_{c.value}_found": value for c, value in fitted.sensitivity.items()}
    return found


def _calibration_text(calibration: Calibration) -> Iterator[str]:
    """Yield what a reader must know about the operating points, in sentences."""
    if calibration.fit is None:
        yield f"The operating points are placeholders: {calibration.too_few}"
        return
    for fitted in calibration.fit.points:
        yield (
            f"On the calibration hips the operating point {fitted.point.name} flags"
            f" {fitted.flag_rate:.1%} of hips without a finding"
            + ("" if fitted.reached else "; its aim cannot be had within its limit")
        )
    if calibration.fit.floored:
        names = ", ".join(category.value for category in calibration.fit.floored)
        yield f"Too few calibration hips for thresholds of their own: {names}"


def _card(run: Run, calibration: Calibration, metrics: Mapping[str, float]) -> Card:
    settings = run.settings
    ages = run.report.ages_years if run.report else None
    return Card(
        name=settings.name,
        version=settings.version,
        status=Status.TRAINED,
        status_text=settings.about,
        input=settings.geometry,
        temperature=calibration.temperature,
        operating_points={point.name: point.thresholds for point in calibration.operating_points},
        flag_criterion=CRITERION,
        min_confidence=calibration.min_confidence,
        age_range_years=None if ages is None else (ages[0], ages[2]),
        training_data=_training_data(run, calibration),
        metrics=metrics,
    )


def _training_data(run: Run, calibration: Calibration) -> str:
    """Describe the training data and the training, in sentences."""
    settings, report = run.settings, run.report
    parts = []
    if report is not None:
        hips = {split: sum(counts.values()) for split, counts in report.hips.items()}
        parts += [
            ", ".join(f"{n} hips of {report.patients[s]} patients in {s}" for s, n in hips.items()),
            "Sites: " + ", ".join(f"{site} ({n} hips)" for site, n in sorted(report.sites.items())),
        ]
    if settings.inserted_pool:
        parts.append(f"{settings.inserted_pool} lesions inserted into real hips while training")
        if settings.guidance and not settings.teacher:
            parts.append(f"Activation maps guided by their masks with weight {settings.guidance:g}")
        parts += run.sources
    if settings.phantom_pool:
        parts.append(f"{settings.phantom_pool} simulated hips drawn while training")
    learned = (
        f"distilled from the checkpoint with SHA-256 {settings.teacher}"
        if settings.teacher
        else "class-balanced focal loss"
    )
    parts.append(
        f"Backbone {settings.backbone}, CBAM, GeM and {learned},"
        f" {settings.epochs} epochs, batches of {settings.batch_size},"
        f" AdamW at {settings.learning_rate:g}, seed {settings.seed}"
    )
    if run.manifest is not None:
        parts.append(f"Manifest SHA-256 {run.manifest.sha256}")
    parts += _calibration_text(calibration)
    return ". ".join(parts) + "."
