r"""Right and wrong cases with their heat maps, as contact sheets to look at.

    python -m benchmarks.reference.gallery MODEL --manifest truth.csv --cache DIR \
        --predictions predictions.csv -o docs/img
    python -m benchmarks.reference.gallery MODEL --real DATA -o FOLDER

Of phantoms one sheet inside and one outside: by row the truth, at the left cases that the model got
right, the surest, the middle and the least sure, and at the right those that it got wrong, surest
first. Each is shown plain and under the heat map of what the model said. The sheet of real films is
for eyes, not for a repository: a folder inside one is refused.
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
from hipedge.locate import GivenHips
from hipedge.model import ModelFolder, open_model
from hipedge.review.picture import blend_heat
from hipedge.rules.flags import softmax
from hipedge.study.inputs import Prediction, read_predictions
from hipedge.train.data import prepare_crops
from hipedge.train.manifest import Row, read_manifest
from hipedge.types import CATEGORIES, Box, Category, Sample, Scores

TILE_PX = 104
CAPTION_PX = 18
GAP_PX = 10
HEADING_PX = 150
EACH = 3
MOST_BYTES = 300_000
RIGHT, WRONG = (0, 158, 115), (213, 94, 0)
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
    """A crop uint8 (S, S), the map (h, w) of what was said of it, that in words, and if right."""

    pixels: NDArray[np.uint8]
    heat: NDArray[np.float32]
    words: str
    right: bool


def tile_of(sample: Sample, scores: Scores, temperature: float, truth: Category | None) -> Tile:
    """Return the tile of one sample; without a truth it is neither right nor wrong: right."""
    probabilities = softmax(scores.logits, temperature)
    said = int(probabilities.argmax())
    words = f"{SHORT[CATEGORIES[said]]} {probabilities[said]:.0%}"
    right = truth is None or CATEGORIES[said] is truth
    return Tile(sample.pixels[0], scores.maps[said], words, right)


def draw_sheet(rows: Sequence[tuple[str, Sequence[Tile | None]]]) -> Image.Image:
    """Draw tiles under one another, each row behind its heading; None leaves its place free."""
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
            colour = RIGHT if tile.right else WRONG
            draw.text((left, top + 1), tile.words, fill=colour, font=font)
            sheet.paste(Image.fromarray(both_ways(tile)), (left, top + CAPTION_PX))
    return sheet


def both_ways(tile: Tile) -> NDArray[np.uint8]:
    """Return a tile plain, and beside that under its heat map: uint8 (T, 2 T, 3)."""
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


def choose(truth: Category, rows: Sequence[tuple[Row, Prediction]]) -> list[Row | None]:
    """Return the rows to show of one category: `EACH` that were right, then as many wrong."""
    of_it = [(row, said) for row, said in rows if row.category is truth]
    k = CATEGORIES.index(truth)
    right = sorted((one for one in of_it if one[1].category == k), key=sureness, reverse=True)
    wrong = sorted((one for one in of_it if one[1].category != k), key=sureness, reverse=True)
    spread = np.linspace(0, len(right) - 1, min(EACH, len(right))).round().astype(int)
    chosen: list[Row | None] = [right[i][0] for i in spread]
    chosen += [None] * (EACH - len(chosen))
    return [*chosen, *(row for row, _ in wrong[:EACH])]


def sureness(one: tuple[Row, Prediction]) -> float:
    """Return the probability of what was said."""
    assert one[1].probabilities is not None
    return max(one[1].probabilities)


def draw_phantoms(
    model: ModelFolder,
    backend: Backend,
    manifest_path: Path,
    predictions: Path,
    cache: Path,
    folder: Path,
) -> None:
    """Write the sheets inside and outside."""
    manifest = read_manifest(manifest_path)
    said = {(one.film.path, one.side): one for one in read_predictions(predictions)}
    for name, split in SPLITS.items():
        rows = []
        for row in manifest.of(split):
            key = str(row.path.relative_to(manifest_path.parent)), row.side
            if key in said:
                rows.append((row, said[key]))
        chosen = {truth: choose(truth, rows) for truth in CATEGORIES}
        shown = [row for of_truth in chosen.values() for row in of_truth if row is not None]
        crops = prepare_crops(shown, model.card.input, cache)
        samples = [Sample(np.array(pixels), np.eye(3)) for pixels in crops.pixels]
        scores = infer(samples, backend)
        tiles = {
            id(row): tile_of(sample, score, model.card.temperature, row.category)
            for row, sample, score in zip(shown, samples, scores, strict=True)
        }
        sheet = [
            (SHORT[truth], [tiles.get(id(row)) if row else None for row in of_truth])
            for truth, of_truth in chosen.items()
        ]
        save(draw_sheet(sheet), folder / f"reference-{name}.jpg")


def draw_real(model: ModelFolder, backend: Backend, data: Path, folder: Path) -> None:
    """Write the sheet of real films, as found: flagged and not, by what is on them."""
    films = real.read_films(real.paths_of(data), model, backend, GivenHips())
    point = "specific" if "specific" in model.card.operating_points else "sensitive"

    def row(heading: str, chosen: Callable[[real.RealFilm], bool]) -> tuple[str, list[Tile | None]]:
        hips = [hip for film in films if film.hips and chosen(film) for hip in film.hips]
        return heading, [of_hip(hip, model) for hip in hips[: 2 * EACH]]

    def neither(film: real.RealFilm) -> bool:
        return not real.of_hardware(film) and not real.of_fracture(film)

    rows = [
        row("hardware", real.of_hardware),
        row("fracture,\nflagged", lambda f: real.of_fracture(f) and f.is_flagged(point)),
        row("fracture,\nnot flagged", lambda f: real.of_fracture(f) and not f.is_flagged(point)),
        row("neither,\nnot flagged", lambda f: neither(f) and not f.is_flagged(point)),
        row("neither,\nflagged", lambda f: neither(f) and f.is_flagged(point)),
    ]
    save(draw_sheet([one for one in rows if one[1]]), folder / "reference-real.jpg")


def of_hip(hip: real.RealHip, model: ModelFolder) -> Tile:
    """Return the tile of a real hip; of two ways that it was seen, the one that says it louder."""
    ways: Iterable[tuple[Sample, Scores]] = zip(hip.samples, hip.scores, strict=True)
    said = CATEGORIES.index(next(iter(hip.findings.values())).category)
    sample, scores = max(ways, key=lambda way: softmax(way[1].logits, 1.0)[said])
    return tile_of(sample, scores, model.card.temperature, None)


def is_in_a_repository(folder: Path) -> bool:
    """Say whether a folder lies in a checkout, where a real radiograph must not."""
    whole = folder.resolve()
    return any((parent / ".git").exists() for parent in (whole, *whole.parents))


def main() -> None:
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--predictions", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--backend", default="onnxruntime")
    given = parser.parse_args()
    if given.real and is_in_a_repository(given.output):
        parser.error(f"{given.output} is in a repository: real radiographs must not be")
    given.output.mkdir(parents=True, exist_ok=True)
    model = open_model(given.model)
    with backends.open_backend(given.backend, model) as backend:
        if given.real:
            draw_real(model, backend, given.real, given.output)
        if given.manifest:
            draw_phantoms(
                model, backend, given.manifest, given.predictions, given.cache, given.output
            )


if __name__ == "__main__":
    main()
