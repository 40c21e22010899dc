"""The card of a model: what it is, what input it expects, when it flags; read and written as JSON.

The schema at the end of this file lists the keys; msgspec validates a card against it.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from reprlib import repr as short_repr
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, defstruct
from msgspec.structs import asdict

from hipedge.errors import ModelError
from hipedge.types import ABNORMAL, CATEGORIES, Category, CropGeometry, FlagCriterion

# Cards of format 1 have no `flag_criterion`: their thresholds are compared with probabilities.
CARD_FORMATS = {FlagCriterion.PROBABILITY: 1, FlagCriterion.AGAINST_NORMAL: 2}
CLASSIFIER = "classifier.onnx"
LOCATOR = "locator.onnx"
GOLDEN = "golden.npz"
README = "README.md"
REQUIRED_FILES = (CLASSIFIER, GOLDEN, README)
OPTIONAL_FILES = (LOCATOR,)

OPERATING_POINTS = ("sensitive", "specific")

# The network halves the resolution of its input five times.
STRIDE_PX = 32

FINITE = sys.float_info.max


class Status(str, Enum):
    """Whether a model has been trained. Every output of an untrained model says that it is not."""

    UNTRAINED = "untrained"
    TRAINED = "trained"


@dataclass(frozen=True)
class Card:
    """What a model is, what input it expects, and at which thresholds it flags a hip.

    `operating_points` maps a name (`sensitive`, `specific`) to the threshold of each abnormal
    category: a hip is flagged for a category whose score, which `flag_criterion` defines, is at or
    above it. `temperature` divides the logits before the softmax. A finding is uncertain if its
    largest probability is below `min_confidence`. `age_range_years` is the lowest and the highest
    age in the training data, inclusive, or None if the card makes no claim. `metrics` are measured
    results by name; `files` maps the name of each other file of the folder to its SHA-256.
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
    flag_criterion: FlagCriterion = FlagCriterion.PROBABILITY


def card_json(card: Card) -> bytes:
    """Return the card as JSON. Equal cards give equal bytes; the last key hashes the others."""
    geometry, ages = card.input, card.age_range_years
    criterion = {"flag_criterion": card.flag_criterion.value}
    content = {
        "format": CARD_FORMATS[card.flag_criterion],
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
        **({} if card.flag_criterion is FlagCriterion.PROBABILITY else criterion),
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
    """Parse a card; `source` names it in error messages.

    Raises `ModelError` naming the key that is missing, unknown or has a wrong type or value, and
    for data that differ in any byte from what `card_json` writes.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{source} is not JSON: {error}") from error
    is_latest = isinstance(content, dict) and content.get("format") == max(_SCHEMAS)
    checked = _convert(content, _SCHEMAS[max(_SCHEMAS) if is_latest else 1], source)
    if checked.labels != list(CATEGORIES):
        raise _invalid(source, "labels", content["labels"], _LABELS)
    youngest, oldest = checked.age_range_years or (0, 150)
    if not 0 <= youngest <= oldest <= 150:
        raise _invalid(source, "age_range_years", content["age_range_years"], _AGES)
    for name, value in checked.metrics.items():
        _convert(value, _number(-FINITE, FINITE), source, f"metrics.{name}")
    for name, value in checked.files.items():
        if name not in (*REQUIRED_FILES, *OPTIONAL_FILES):
            raise ModelError(f"{source}: key 'files.{name}' is unknown")
        _convert(value, _SHA256, source, f"files.{name}")
    values = asdict(checked)
    for key in ("format", "labels", "sha256"):
        del values[key]
    values["flag_criterion"] = FlagCriterion(
        values.get("flag_criterion", FlagCriterion.PROBABILITY)
    )
    values["input"] = CropGeometry(**asdict(checked.input))
    values["operating_points"] = {
        name: {category: getattr(thresholds, category.value) for category in ABNORMAL}
        for name, thresholds in asdict(checked.operating_points).items()
    }
    card = Card(**values)
    if card_json(card) != data:
        raise ModelError(
            f"{source} was changed after hipedge wrote it: restore it"
            " (a site's own thresholds belong in hipedge.toml)"
        )
    return card


def _number(low: float, high: float) -> Any:
    return Annotated[float, Meta(ge=low, le=high, description=f"a number from {low:g} to {high:g}")]


def _object(**keys: Any) -> Any:
    """Return the type of a JSON object that has exactly these keys."""
    return defstruct("Object", list(keys.items()), forbid_unknown_fields=True)


_TEXT = Annotated[str, Meta(pattern=r"\S", description="a text")]
_SHA256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="a SHA-256 in hexadecimal")]
_LABELS = f"{', '.join(category.value for category in CATEGORIES)}, in this order"
_AGES = "null or the youngest and the oldest age in years"
_SIZE_PX = Meta(
    ge=1, le=1024, multiple_of=STRIDE_PX, description=f"a multiple of {STRIDE_PX} up to 1024"
)
_THRESHOLDS = _object(**{category.value: _number(0, 1) for category in ABNORMAL})
_KEYS: dict[str, Any] = {
    "name": _TEXT,
    "version": _TEXT,
    "status": Annotated[Status, Meta(description=" or ".join(status.value for status in Status))],
    "status_text": _TEXT,
    "labels": Annotated[list[Category], Meta(description=_LABELS)],
    "input": _object(
        size_px=Annotated[int, _SIZE_PX],
        crop_mm=_number(10, 1000),
        lateral_mm=_number(-500, 500),
        distal_mm=_number(-500, 500),
    ),
    "temperature": _number(0.01, 100),
    "operating_points": _object(**dict.fromkeys(OPERATING_POINTS, _THRESHOLDS)),
    "min_confidence": _number(0, 1),
    "age_range_years": Annotated[tuple[float, float] | None, Meta(description=_AGES)],
    "training_data": _TEXT,
    # `parse_card` checks the values of these two one by one: msgspec does not name a dict's key.
    "metrics": dict[str, Any],
    "files": dict[str, Any],
    "sha256": _TEXT,
}
_FORMAT_1 = {"format": Annotated[Literal[1], Meta(description="1 or 2, which this hipedge reads")]}
_FORMAT_2 = {
    "format": Literal[2],
    "flag_criterion": Annotated[
        Literal["against_normal"], Meta(description=FlagCriterion.AGAINST_NORMAL.value)
    ],
}
_SCHEMAS = {1: _object(**_FORMAT_1, **_KEYS), 2: _object(**_FORMAT_2, **_KEYS)}
_KEY_ERROR = re.compile(
    r"Object (missing|contains unknown) (?:required )?field `(.*?)`(?: - at `\$\.(.*)`)?",
    re.DOTALL,
)


def _convert(value: Any, schema: Any, source: str, path: str = "") -> Any:
    """Convert JSON to the types of a schema; translate msgspec's error to a `ModelError`."""
    try:
        return msgspec.convert(value, schema)
    except msgspec.ValidationError as error:
        if found := _KEY_ERROR.fullmatch(str(error)):
            problem, key, parent = found.groups(default="")
            problem = "is missing" if problem == "missing" else "is unknown"
            raise ModelError(f"{source}: key '{parent and parent + '.'}{key}' {problem}") from None
        location = re.search(r"at `\$\.([^`\[]*)", str(error))
        for key in location[1].split(".") if location else ():
            value, schema = value[key], schema.__annotations__[key]
            path = f"{path}.{key}" if path else key
        is_object = not hasattr(schema, "__metadata__")
        expected = "an object" if is_object else schema.__metadata__[0].description
        raise _invalid(source, path, value, expected) from None


def _invalid(source: str, path: str, value: object, expected: str) -> ModelError:
    where = f"'{path}'" if path else "the card"
    return ModelError(f"{source}: {where} must be {expected}, not {short_repr(value)}")
