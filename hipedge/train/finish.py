"""From trained weights to a checkpoint: calibrated, measured, and with a card that says how."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from hipedge.model.card import Card, Status
from hipedge.model.folder import GOLDEN_SAMPLES
from hipedge.model.untrained import synthetic_crops
from hipedge.train.calibrate import Calibration, calibrate, choose_golden
from hipedge.train.classifier import score_crops
from hipedge.train.evaluate import measure, probabilities_of, write_predictions
from hipedge.train.manifest import TRAIN, VAL
from hipedge.train.network import Checkpoint, HipNet
from hipedge.train.settings import Run

CHECKPOINT = "checkpoint.pt"
PREDICTIONS = "predictions.csv"


def finish(run: Run, network: HipNet, device: torch.device) -> Checkpoint:
    """Calibrate on validation, measure on every split outside training, write the checkpoint.

    The golden samples are crops of the validation split, filled up with random fields.
    """
    crops = run.crops
    held_out = [split for split in run.report.hips if split != TRAIN]
    rows = {split: [crops.rows[i] for i in crops.of(split)] for split in held_out}
    logits = {s: score_crops(network, crops.pixels[crops.of(s)], device) for s in held_out}
    val = crops.of(VAL)
    calibration = calibrate(logits[VAL], crops.categories[val])
    probabilities = {s: probabilities_of(logits[s], calibration.temperature) for s in held_out}
    write_predictions(
        run.folder / PREDICTIONS,
        [row for split in held_out for row in rows[split]],
        np.concatenate([probabilities[split] for split in held_out]),
        run.manifest.path.parent,
    )
    metrics = {"val_nll_before_calibration": calibration.nll[0], "val_nll": calibration.nll[1]}
    for split in held_out:
        measured = measure(rows[split], probabilities[split], calibration)
        metrics |= {f"{split}_{name}": value for name, value in measured.items()}
    golden = crops.pixels[val[choose_golden(crops.categories[val], GOLDEN_SAMPLES)]]
    filling = synthetic_crops(run.settings.geometry.size_px)[len(golden) :]
    checkpoint = Checkpoint(
        network.cpu(), _card(run, calibration, metrics), np.concatenate([golden, filling])
    )
    checkpoint.save(run.folder / CHECKPOINT)
    return checkpoint


def _card(run: Run, calibration: Calibration, metrics: Mapping[str, float]) -> Card:
    settings, ages = run.settings, run.report.ages_years
    return Card(
        name=settings.name,
        version=settings.version,
        status=Status.TRAINED,
        status_text=settings.about,
        input=settings.geometry,
        temperature=calibration.temperature,
        operating_points=calibration.operating_points,
        min_confidence=calibration.min_confidence,
        age_range_years=None if ages is None else (ages[0], ages[2]),
        training_data=_training_data(run, calibration),
        metrics=metrics,
    )


def _training_data(run: Run, calibration: Calibration) -> str:
    """Say what was learned from, and how, in sentences."""
    settings, report = run.settings, run.report
    hips = {split: sum(counts.values()) for split, counts in report.hips.items()}
    parts = [
        ", ".join(f"{n} hips of {report.patients[s]} patients in {s}" for s, n in hips.items()),
        "Sites: " + ", ".join(f"{site} ({n} hips)" for site, n in sorted(report.sites.items())),
    ]
    if settings.phantom_pool:
        parts.append(f"{settings.phantom_pool} simulated hips drawn while training")
    parts += [
        f"Backbone {settings.backbone}, CBAM, GeM and class-balanced focal loss,"
        f" {settings.epochs} epochs, batches of {settings.batch_size},"
        f" AdamW at {settings.learning_rate:g}, seed {settings.seed}",
        f"Manifest SHA-256 {run.manifest.sha256}",
    ]
    if calibration.borrowed:
        names = ", ".join(category.value for category in calibration.borrowed)
        parts.append(f"Too few hips in val for thresholds of their own, so borrowed: {names}")
    return ". ".join(parts) + "."
