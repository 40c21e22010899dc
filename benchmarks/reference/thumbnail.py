"""What can be told without knowing what a hip is: a logistic regression on thumbnails of crops.

It is fitted to the hips that the manifest has in train; a classifier may have had phantoms besides.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hipedge.study.estimator import K
from hipedge.study.inputs import FilmName, Prediction
from hipedge.train.data import prepare_crops
from hipedge.train.manifest import TRAIN, Manifest
from hipedge.types import CropGeometry

THUMBNAIL_PX = 64


def predict_by_thumbnail(
    manifest: Manifest, geometry: CropGeometry, cache: Path
) -> Iterator[Prediction]:
    """Fit the thumbnail model to the manifest's train; yield what it says of every other hip."""
    crops = prepare_crops(manifest.rows, replace(geometry, size_px=THUMBNAIL_PX), cache)
    train = crops.of(TRAIN)
    others = np.array([i for i, row in enumerate(crops.rows) if row.split != TRAIN])
    linear = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=1e-3, max_iter=100, tol=1e-3, class_weight="balanced"),
    )
    with warnings.catch_warnings():
        # More steps than these no longer help on hips that it has not seen.
        warnings.simplefilter("ignore", ConvergenceWarning)
        linear.fit(_flat(crops.pixels[train]), crops.categories[train])
    probabilities = np.zeros((len(others), K))
    probabilities[:, linear.classes_] = linear.predict_proba(_flat(crops.pixels[others]))
    for index, values in zip(others, probabilities, strict=True):
        row = crops.rows[index]
        name = row.path.relative_to(manifest.path.parent)
        yield Prediction(
            FilmName(path=str(name)), row.side, int(values.argmax()), tuple(values.tolist())
        )


def _flat(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(pixels.reshape(len(pixels), -1) / 255, np.float32)
