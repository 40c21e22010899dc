r"""Contact sheets of correct and incorrect cases with their activation maps.

    python -m benchmarks.reference.gallery MODEL --manifest truth.csv --cache DIR -o docs/img
    python -m benchmarks.reference.gallery MODEL --real DATA -o FOLDER

Of phantoms one sheet inside and one outside: each row is a true category, at the left cases that
the model classified correctly, of the highest, the middle and the lowest confidence, and at the
right those that it did not, by falling confidence. Each is shown plain and under the activation map
of the predicted category. The sheet of real films is for eyes, not for a repository: an output
folder inside one is refused.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.reference import real
from benchmarks.reference.scoring import infer
from benchmarks.reference.simulated import SPLITS
from hipedge import backends
from hipedge.backends.base import Backend
from hipedge.locate.given import GivenHips
from hipedge.model import ModelFolder, open_model
from hipedge.review.picture import blend_heat
from hipedge.rules.flags import softmax
from hipedge.train.data import LabelledCrops, prepare_crops
from hipedge.train.manifest import read_manifest
from hipedge.types import CATEGORIES, Box, Category, Sample, Scores

TILE_PX = 104
CAPTION_PX = 18
GAP_PX = 10
HEADING_PX = 150
EACH = 3
MOST_BYTES = 300_000
CORRECT, INCORRECT = (0, 158, 115), (213, 94, 0)
SHORT = {
    Category.NORMAL: "normal",
    Category.OSTEOARTHRITIS: "arthritis",
    Category.FEMORAL_HEAD_OSTEONECROSIS: "necrosis",
    Category.FEMORAL_NECK_FRACTURE: "neck fracture",
    Category.INTERTROCHANTERIC_FRACTURE: "trochanteric",
    Category.DEVELOPMENTAL_DYSPLASIA: "dysplasia",
    Category.TOTAL_HIP_ARTHROPLASTY: "arthroplasty",
    Category.INTERNAL_FIXATION: "fixation",
}


@dataclass(frozen=True, eq=False)
class Tile:
    """A crop uint8 (S, S) and its prediction: map (h, w), caption, confidence, and if correct."""

    pixels: NDArray[np.uint8]
    heat: NDArray[np.float32]
    caption: str
    confidence: float
    correct: bool


def tile_of(sample: Sample, scores: Scores, temperature: float, truth: Category | None) -> Tile:
    """Return the tile of one sample; without a truth it counts as correct."""
    probabilities = softmax(scores.logits, temperature)
    predicted = int(probabilities.argmax())
    confidence = float(probabilities[predicted])
    caption = f"{SHORT[CATEGORIES[predicted]]} {confidence:.0%}"
    correct = truth is None or CATEGORIES[predicted] is truth
    return Tile(sample.pixels[0], scores.maps[predicted], caption, confidence, correct)


def draw_sheet(rows: Sequence[tuple[str, Sequence[Tile | None]]]) -> Image.Image:
    """Draw rows of tiles, each behind its heading; None leaves a place empty."""
    columns = max(len(tiles) for _, tiles in rows)
    pitch_x, pitch_y = 2 * TILE_PX + GAP_PX, TILE_PX + CAPTION_PX + GAP_PX // 2
    sheet = Image.new("RGB", (HEADING_PX + columns * pitch_x, len(rows) * pitch_y))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, (heading, tiles) in enumerate(rows):
        top = row * pitch_y
        draw.multiline_text((6, top + CAPTION_PX), heading, fill=(230, 230, 230), font=font)
        for column, tile in enumerate(tiles):
            if tile is None:
                continue
            left = HEADING_PX + column * pitch_x
            colour = CORRECT if tile.correct else INCORRECT
            draw.text((left, top + 1), tile.caption, fill=colour, font=font)
            sheet.paste(Image.fromarray(both_ways(tile)), (left, top + CAPTION_PX))
    return sheet


def both_ways(tile: Tile) -> NDArray[np.uint8]:
    """Return a tile plain, and beside it under its activation map: uint8 (T, 2 T, 3)."""
    square = Image.fromarray(tile.pixels).resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)
    plain = np.repeat(np.asarray(square, np.float32)[..., None], 3, axis=2)
    hot, evidence = plain.copy(), np.maximum(tile.heat, 0).astype(np.float32)
    evidence /= max(float(evidence.max()), 1e-9)
    blend_heat(hot, Box(0, 0, TILE_PX, TILE_PX), evidence)
    return np.asarray(np.rint(np.hstack([plain, hot])), np.uint8)


def save(sheet: Image.Image, path: Path) -> None:
    """Write a JPEG at the best quality that keeps it below `MOST_BYTES`."""
    for quality in range(90, 30, -5):
        buffer = io.BytesIO()
        sheet.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MOST_BYTES:
            break
    path.write_bytes(buffer.getvalue())
    print(f"{path}: {buffer.tell() // 1000} kB at quality {quality}")


def choose(tiles: Sequence[Tile]) -> list[Tile | None]:
    """Return the tiles to show of one category: `EACH` correct ones, then as many others."""
    ordered = sorted(tiles, key=lambda tile: tile.confidence, reverse=True)
    correct = [tile for tile in ordered if tile.correct]
    incorrect = [tile for tile in ordered if not tile.correct]
    spread = np.linspace(0, len(correct) - 1, min(EACH, len(correct))).round().astype(int)
    chosen: list[Tile | None] = [correct[i] for i in spread]
    chosen += [None] * (EACH - len(chosen))
    return [*chosen, *incorrect[:EACH]]


def draw_phantoms(
    model: ModelFolder, backend: Backend, manifest_path: Path, cache: Path, folder: Path
) -> None:
    """Write the sheets inside and outside."""
    manifest = read_manifest(manifest_path)
    for name, split in SPLITS.items():
        crops = prepare_crops(manifest.of(split), model.card.input, cache)
        save(draw_sheet(phantom_rows(crops, model, backend)), folder / f"reference-{name}.jpg")


def phantom_rows(
    crops: LabelledCrops, model: ModelFolder, backend: Backend
) -> list[tuple[str, list[Tile | None]]]:
    """Return the sheet's rows, one for each true category."""
    tiles: dict[Category, list[Tile]] = {category: [] for category in CATEGORIES}
    samples = [Sample(np.array(pixels), np.eye(3)) for _, pixels in crops]
    for row, sample, scores in zip(crops.rows, samples, infer(samples, backend), strict=True):
        tile = tile_of(sample, scores, model.card.temperature, row.category)
        tiles[row.category].append(tile)
    return [(SHORT[truth], choose(of_truth)) for truth, of_truth in tiles.items()]


def draw_real(model: ModelFolder, backend: Backend, data: Path, folder: Path) -> None:
    """Write the sheet of real films, hips found by the locator: flagged and not, by label."""
    films = real.read_films(real.films_outside_training(data), model, backend, GivenHips())
    point = "specific" if "specific" in model.card.operating_points else "sensitive"

    def row(heading: str, chosen: Callable[[real.RealFilm], bool]) -> tuple[str, list[Tile | None]]:
        hips = [hip for film in films if film.hips and chosen(film) for hip in film.hips]
        return heading, [of_hip(hip, model) for hip in hips[: 2 * EACH]]

    def neither(film: real.RealFilm) -> bool:
        return not real.has_hardware(film) and not real.has_fracture(film)

    rows = [
        row("hardware", real.has_hardware),
        row("fracture,\nflagged", lambda f: real.has_fracture(f) and f.is_flagged(point)),
        row("fracture,\nnot flagged", lambda f: real.has_fracture(f) and not f.is_flagged(point)),
        row("neither,\nnot flagged", lambda f: neither(f) and not f.is_flagged(point)),
        row("neither,\nflagged", lambda f: neither(f) and f.is_flagged(point)),
    ]
    save(draw_sheet([row for row in rows if row[1]]), folder / "reference-real.jpg")


def of_hip(hip: real.RealHip, model: ModelFolder) -> Tile:
    """Return the tile of a real hip; of two orientations, that of the higher probability."""
    orientations: Iterable[tuple[Sample, Scores]] = zip(hip.samples, hip.scores, strict=True)
    predicted = CATEGORIES.index(next(iter(hip.findings.values())).category)
    sample, scores = max(orientations, key=lambda o: softmax(o[1].logits, 1.0)[predicted])
    return tile_of(sample, scores, model.card.temperature, None)


def is_in_a_repository(folder: Path) -> bool:
    """Return whether a folder lies in a checkout, where no real radiograph may be written."""
    resolved = folder.resolve()
    return any((parent / ".git").exists() for parent in (resolved, *resolved.parents))


def main() -> None:
    """Draw the sheets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--backend", default="onnxruntime")
    given = parser.parse_args()
    if given.real and is_in_a_repository(given.output):
        parser.error(
            f"{given.output} is in a repository: real radiographs must not be written there"
        )
    given.output.mkdir(parents=True, exist_ok=True)
    model = open_model(given.model)
    with backends.open_backend(given.backend, model) as backend:
        if given.real:
            draw_real(model, backend, given.real, given.output)
        if given.manifest:
            draw_phantoms(model, backend, given.manifest, given.cache, given.output)


if __name__ == "__main__":
    main()
