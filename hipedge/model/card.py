"""A model's card: what the model is, what it expects and when it flags; and its JSON, strictly."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from reprlib import repr as short_repr
from typing import NoReturn, TypeGuard

from hipedge.errors import ModelError
from hipedge.types import ABNORMAL, CATEGORIES, Category, CropGeometry

CARD_FORMAT = 1
CLASSIFIER = "classifier.onnx"
LOCATOR = "locator.onnx"
GOLDEN = "golden.npz"
README = "README.md"
REQUIRED_FILES = (CLASSIFIER, GOLDEN, README)
OPTIONAL_FILES = (LOCATOR,)

OPERATING_POINTS = ("sensitive", "specific")

# The network halves its input five times.
STRIDE_PX = 32


class Status(str, Enum):
    """Whether a model has learned anything. Every output of an untrained one says so."""

    UNTRAINED = "untrained"
    TRAINED = "trained"


@dataclass(frozen=True)
class Card:
    """What a model is, what it expects, and from which probabilities it flags.

    `operating_points` holds by name (`sensitive`, `specific`) the least probability of each
    abnormal category at which a hip is flagged for it. `temperature` divides the logits before
    the softmax. Under `min_confidence` the largest probability is uncertain. `age_range_years` is
    the ages that the model has seen, both included, or None where the card makes no claim.
    `metrics` are measured results by name; `files` is the SHA-256 of each other file.
    """

    name: str
    version: str
    status: Status
    status_text: str
    input: CropGeometry
    temperature: float
    operating_points: Mapping[str, Mapping[Category, float]]
    min_confidence: float
    age_range_years: tuple[float, float] | None
    training_data: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[Category, ...] = CATEGORIES


def card_json(card: Card) -> bytes:
    """Return the card as JSON: equal cards give equal bytes; the last key hashes the others."""
    geometry, ages = card.input, card.age_range_years
    content = {
        "format": CARD_FORMAT,
        "name": card.name,
        "version": card.version,
        "status": card.status.value,
        "status_text": card.status_text,
        "labels": [label.value for label in card.labels],
        "input": {
            "size_px": geometry.size_px,
            "crop_mm": float(geometry.crop_mm),
            "lateral_mm": float(geometry.lateral_mm),
            "distal_mm": float(geometry.distal_mm),
        },
        "temperature": float(card.temperature),
        "operating_points": {
            name: {category.value: float(value) for category, value in thresholds.items()}
            for name, thresholds in card.operating_points.items()
        },
        "min_confidence": float(card.min_confidence),
        "age_range_years": None if ages is None else [float(age) for age in ages],
        "training_data": card.training_data,
        "metrics": {name: float(value) for name, value in card.metrics.items()},
        "files": dict(card.files),
    }
    digest = hashlib.sha256(_dump(content)).hexdigest()
    return _dump({**content, "sha256": digest})


def card_id(card: Card) -> str:
    """Return the identifier of the model that a card describes: the SHA-256 of the card."""
    return hashlib.sha256(card_json(card)).hexdigest()


def _dump(content: Mapping[str, object]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def parse_card(data: bytes, source: str) -> Card:
    """Read a card from JSON; `source` names it in errors.

    Raises `ModelError`, naming the key, for one that is missing, unknown or of a wrong type or
    value, and for a card that differs in any byte from what `card_json` writes.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{source} is not JSON: {error}") from error
    top = _Object(content, source, "the card")
    if (found := top.take("format")) != CARD_FORMAT:
        top.fault("format", f"{CARD_FORMAT}, which this hipedge reads", found)
    card = Card(
        name=top.text("name"),
        version=top.text("version"),
        status=Status(top.choice("status", tuple(status.value for status in Status))),
        status_text=top.text("status_text"),
        labels=_labels(top),
        input=_geometry(top.object("input")),
        temperature=top.number("temperature", 0.01, 100),
        operating_points=_operating_points(top.object("operating_points")),
        min_confidence=top.number("min_confidence", 0, 1),
        age_range_years=_age_range(top),
        training_data=top.text("training_data"),
        metrics=_metrics(top.object("metrics")),
        files=_files(top.object("files")),
    )
    top.text("sha256")
    top.close()
    if card_json(card) != data:
        raise ModelError(
            f"{source} was changed after hipedge wrote it: restore it"
            " (a site's own thresholds belong in hipedge.toml)"
        )
    return card


class _Object:
    """A JSON object of the card, of which each key is taken once and none may be left."""

    def __init__(self, value: object, source: str, path: str) -> None:
        self.source, self.path = source, path
        if not isinstance(value, dict):
            raise ModelError(f"{source}: {path} must be an object, not {short_repr(value)}")
        self.left = dict(value)

    def key(self, key: str) -> str:
        return key if self.path == "the card" else f"{self.path}.{key}"

    def fault(self, key: str, expected: str, value: object) -> NoReturn:
        found = short_repr(value)
        raise ModelError(f"{self.source}: '{self.key(key)}' must be {expected}, not {found}")

    def take(self, key: str) -> object:
        if key not in self.left:
            raise ModelError(f"{self.source}: key '{self.key(key)}' is missing")
        return self.left.pop(key)

    def close(self) -> None:
        for key in self.left:
            raise ModelError(f"{self.source}: key '{self.key(key)}' is unknown")

    def object(self, key: str) -> _Object:
        return _Object(self.take(key), self.source, self.key(key))

    def text(self, key: str) -> str:
        value = self.take(key)
        if not isinstance(value, str) or not value.strip():
            self.fault(key, "a text", value)
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.take(key)
        if value not in choices:
            self.fault(key, " or ".join(choices), value)
        return str(value)

    def number(self, key: str, low: float, high: float) -> float:
        value = self.take(key)
        if not _is_number(value, low, high):
            self.fault(key, f"a number from {low:g} to {high:g}", value)
        return float(value)


def _is_number(value: object, low: float, high: float) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return low <= value <= high  # which NaN never is


def _labels(top: _Object) -> tuple[Category, ...]:
    labels = [category.value for category in CATEGORIES]
    if (found := top.take("labels")) != labels:
        top.fault("labels", f"{', '.join(labels)}, in this order", found)
    return CATEGORIES


def _geometry(fields: _Object) -> CropGeometry:
    size_px = fields.take("size_px")
    if not isinstance(size_px, int) or size_px % STRIDE_PX or not 0 < size_px <= 1024:
        fields.fault("size_px", f"a multiple of {STRIDE_PX} up to 1024", size_px)
    geometry = CropGeometry(
        size_px=size_px,
        crop_mm=fields.number("crop_mm", 10, 1000),
        lateral_mm=fields.number("lateral_mm", -500, 500),
        distal_mm=fields.number("distal_mm", -500, 500),
    )
    fields.close()
    return geometry


def _operating_points(points: _Object) -> Mapping[str, Mapping[Category, float]]:
    thresholds: dict[str, Mapping[Category, float]] = {}
    for name in OPERATING_POINTS:
        fields = points.object(name)
        thresholds[name] = {category: fields.number(category.value, 0, 1) for category in ABNORMAL}
        fields.close()
    points.close()
    return thresholds


def _age_range(top: _Object) -> tuple[float, float] | None:
    match top.take("age_range_years"):
        case None:
            return None
        case [low, high] if _is_number(low, 0, 150) and _is_number(high, low, 150):
            return float(low), float(high)
        case other:
            top.fault("age_range_years", "null or the youngest and the oldest age in years", other)


def _metrics(fields: _Object) -> Mapping[str, float]:
    limit = sys.float_info.max
    return {name: fields.number(name, -limit, limit) for name in tuple(fields.left)}


def _files(fields: _Object) -> Mapping[str, str]:
    files = {name: fields.text(name) for name in tuple(fields.left)}
    for name, sha256 in files.items():
        if name not in (*REQUIRED_FILES, *OPTIONAL_FILES):
            raise ModelError(f"{fields.source}: key '{fields.key(name)}' is unknown")
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            fields.fault(name, "a SHA-256 in hexadecimal", sha256)
    return files
