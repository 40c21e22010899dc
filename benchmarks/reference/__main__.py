r"""Write the reference model's results into its card, a page and the README, from one measurement.

    python -m benchmarks.reference MODEL --manifest truth.csv --predictions predictions.csv \
        --cache DIR [--real DATA] [--page docs/reference_model.md] [--readme README.md]

MODEL's card and README.md are rewritten with the numbers, so its identifier changes. DATA is the
folder of real radiographs; without it their tables are left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.environment import environment
from benchmarks.reference import real, simulated
from benchmarks.reference.markdown import markdown, replace_part
from hipedge import backends
from hipedge.locate.given import GivenHips
from hipedge.model import ModelFolder, open_model
from hipedge.model.folder import write_card
from hipedge.study.estimates import Table
from hipedge.study.report.export import write_json

ROOT = Path(__file__).parents[2]
CENTRES = ROOT / "tests/data/fracatlas_centres.csv"
PAGE = "docs/reference_model.md"
RESULTS = ROOT / "benchmarks/results/reference.json"
# Metrics on the card that this command replaces: the training's on the same hips, and its own.
REPLACED = ("test_", "external_", "inside_", "outside_", "real_")
GALLERY = """### Correct and incorrect, {name}

Rows are true categories. At the left correctly classified hips (green) of the highest, the middle
and the lowest confidence, at the right incorrect ones (red) by falling confidence. Beside each crop
is the activation map of the predicted category.

![correct and incorrect cases, {name}]({folder}/reference-{name}.jpg)"""
HEAD = (
    "These are the reference model's results on simulated hips that it has not seen, and on real"
    " films that took no part in its training. **None of them is diagnostic accuracy**: the first"
    " are simulations, and the second have labels for two questions only, and were seen eleven"
    " times while the network's backbone, its padding and its last layers were chosen: confirm them"
    " on films that were never used."
)


def main() -> None:
    """Measure, and write the numbers to every place where they are shown."""
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
        on_real_films = real.real_table(ways)
        tables = [on_real_films, real.unread_table(ways), *tables]
        short = [markdown(on_real_films), real.in_words(ways), *short]
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
    """Read the real films outside training: with heads marked by eye, and by the locator."""
    kinds = real.films_outside_training(data)
    marks = real.read_marks(data, CENTRES)
    marked = {path: kind for path, kind in kinds.items() if str(path.resolve()) in marks.by_film}
    located = "found by the locator" if model.locator else "found by template matching"
    with backends.open_backend(backend, model) as opened:
        return {
            "marked by eye": real.read_films(marked, model, opened, marks),
            located: real.read_films(kinds, model, opened, GivenHips()),
        }


def page(model: ModelFolder, tables: Sequence[Table], pictures: Path) -> str:
    """Return the page of results, with those of the gallery's sheets that exist."""
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
