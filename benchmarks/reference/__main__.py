r"""The reference model's results, from predictions to its card, a page and the README, at once.

    python -m benchmarks.reference MODEL --manifest truth.csv --predictions predictions.csv \
        --cache DIR [--real DATA] [--page docs/reference_model.md] [--readme README.md]

MODEL's card and README.md are written anew with the numbers, so its identifier changes. DATA is the
folder of real radiographs; without it their tables are left out.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.environment import environment
from benchmarks.reference import real, simulated
from benchmarks.reference.markdown import markdown, replace_part
from hipedge import backends
from hipedge.locate import GivenHips
from hipedge.model import ModelFolder, open_model
from hipedge.model.folder import write_card
from hipedge.study.estimates import Table
from hipedge.study.report.export import write_json

ROOT = Path(__file__).parents[2]
CENTRES = ROOT / "tests/data/fracatlas_centres.csv"
PAGE = "docs/reference_model.md"
RESULTS = ROOT / "benchmarks/results/reference.json"
# What the training itself measured on the same hips, and what this command did before.
REPLACED = ("test_", "external_", "inside_", "outside_", "real_")
GALLERY = """### Right and wrong, {name}

By row the truth; at the left the surest, the middle and the least sure of the hips that were called
right (green), at the right the surest of those called wrong. Beside each what spoke for the answer.

![right and wrong cases, {name}]({folder}/reference-{name}.jpg)"""
HEAD = (
    "The reference model was trained on simulated radiographs alone. These are its results on"
    " simulated hips that it has not seen, and on real films. **None of them is diagnostic"
    " accuracy**: the first are of drawings, and the second have labels for two questions only."
)


def main() -> None:
    """Measure, and write the numbers wherever they are shown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--predictions", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder for crops")
    parser.add_argument("--real", type=Path, help="folder of real radiographs")
    parser.add_argument("--page", type=Path, default=ROOT / PAGE)
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--replicates", type=int, default=2000)
    given = parser.parse_args()
    model = open_model(given.model)
    found = simulated.measure_simulated(
        given.manifest,
        given.predictions,
        given.cache,
        model.card,
        replicates=given.replicates,
    )
    overall = simulated.overall_table(found)
    tables, short = [overall, *simulated.category_tables(found)], [markdown(overall)]
    metrics = simulated.metrics_of(found)
    if given.real:
        ways = read_both_ways(given.real, model, given.backend)
        tables += [real.real_table(ways), real.unread_table(ways)]
        short.append(real.in_words(ways))
        for name, estimate in real.metrics_of(ways).items():
            metrics |= simulated.with_interval(name, estimate)
    kept = {k: v for k, v in model.card.metrics.items() if not k.startswith(REPLACED)}
    write_card(given.model, replace(model.card, metrics=kept | metrics))
    text = page(open_model(given.model), tables, given.page.parent / "img")
    given.page.write_text(text, encoding="utf-8")
    shown = [f"{HEAD} Category by category: [{PAGE}]({PAGE}).", *short]
    replace_part(given.readme, "reference results", "\n\n".join(shown))
    write_json(given.results, {"environment": environment()}, {"reference": tables})
    print(json.dumps(metrics, indent=2))


def read_both_ways(
    data: Path, model: ModelFolder, backend: str
) -> dict[str, Sequence[real.RealFilm]]:
    """Read the real films whose heads were marked by eye: by the marks, and by the locator.

    The others lent the locator their looks (`hipedge train --locator --appearance`).
    """
    with CENTRES.open(encoding="utf-8", newline="") as file:
        kept = {row["file"] for row in csv.DictReader(file)}
    paths = [path for path in real.paths_of(data) if path.name in kept]
    marked = real.read_centres(CENTRES, paths)
    by_eye = [path for path in paths if str(path.resolve()) in marked.by_film]
    found = "found by the locator" if model.locator else "found by a drawn pelvis"
    with backends.open_backend(backend, model) as opened:
        return {
            "marked by eye": real.read_films(by_eye, model, opened, marked),
            found: real.read_films(paths, model, opened, GivenHips()),
        }


def page(model: ModelFolder, tables: Sequence[Table], pictures: Path) -> str:
    """Return the page of results, with the gallery's sheets if they are among the pictures."""
    card = model.card
    sheets = [name for name in simulated.SPLITS if (pictures / f"reference-{name}.jpg").exists()]
    parts = [
        "# The reference model's results",
        "Made by `python -m benchmarks.reference`, which writes the same numbers into the card.",
        f"{card.name} {card.version}, {card.input.size_px} pixels. {card.status_text}",
        HEAD,
        card.training_data,
        *map(markdown, tables),
        *(GALLERY.format(name=name, folder=pictures.name) for name in sheets),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
