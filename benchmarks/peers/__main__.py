"""hipedge beside what people run today, for each transfer syntax, side by side in one run.

    pip install -r benchmarks/peers/requirements.txt
    python -m benchmarks.peers --model DIR --json benchmarks/results/peers.json

Films: phantoms of 2500×3043 pixels, 12 bits, and WG04's real film (its own files where it has the
syntax), each in ten transfer syntaxes. Figures are films a second, first from a file to the
network's crops, then with the network on the CPU. hipedge finds the hips itself; the others are
given their boxes, since none of them can find one. What hipedge takes for the same work as they do
is measured too.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

from benchmarks.environment import environment
from benchmarks.peers.decoders import FASTEST, decoders, use_decoders
from benchmarks.peers.films import SYNTAXES, Film, Syntax, in_syntax, phantoms, real_film
from benchmarks.peers.loops import LOOPS, Loop
from benchmarks.peers.measure import (
    Rate,
    alternating,
    front_rate,
    loop_rate,
    median,
    same_work_rate,
    screen_folders,
    screen_rate,
)
from benchmarks.peers.names import (
    CAREFUL,
    CAREFUL_FASTEST,
    CAREFUL_ORT,
    HIPEDGE,
    ONE_PROCESS,
    SAME_WORK,
)
from benchmarks.peers.networks import Infer, onnx_runtime, torch_eager
from hipedge.backends import choose, open_backend
from hipedge.model import ModelFolder, open_model
from hipedge.pipeline.preprocessor import Prepared, Preprocessor
from hipedge.train.backbones import BACKBONES

PACKAGES = (
    "monai",
    "torchxrayvision",
    "scikit-image",
    "opencv-python-headless",
    "torch",
    "onnxruntime",
)


def main() -> None:
    """Measure, print as it goes, and write the figures with their environment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--backend", default="auto")
    parser.add_argument(
        "--backbone", default="efficientnet_lite0", choices=BACKBONES, help="that of the model"
    )
    parser.add_argument("--phantoms", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="at least, for one measurement")
    parser.add_argument("--screened", type=int, default=18, help="films that `screen` is timed on")
    parser.add_argument("--syntax", action="append", choices=SYNTAXES, help="only these")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of pydicom and MONAI, about values they will not use
    use_decoders()
    where = environment()
    for name, value in where.items():
        print(f"{name}: {value}")
    model = open_model(arguments.model)
    backend, _ = choose(arguments.backend)
    content = {
        "environment": where,
        "load_average": os.getloadavg()[0],
        "command": shlex.join(sys.argv[1:]),
        "peers": {name: version(name) for name in PACKAGES},
        "model": {"id": model.model_id, "size_px": model.card.input.size_px},
        "repeats": arguments.repeats,
        "syntaxes": {},
    }
    with open_backend(backend, model) as opened:
        content["backend"] = str(opened.fingerprint)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(
            model,
            backend,
            arguments.backbone,
            arguments.repeats,
            arguments.seconds,
            arguments.screened,
        )
        films = bench.films(Path(scratch) / "films", arguments.phantoms)
        content["films"] = [film.path.name for film in films]
        for name in arguments.syntax or SYNTAXES:
            folder = Path(scratch) / "syntax"
            figures = bench.syntax(SYNTAXES[name], films, folder)
            content["syntaxes"][name] = {"decoders": decoders(SYNTAXES[name].uid), **figures}
            shutil.rmtree(folder)
            show(name, figures)
            if arguments.json:
                arguments.json.write_text(json.dumps(content, indent=2) + "\n")


class Bench:
    """All contenders, on one machine with one model."""

    def __init__(
        self,
        model: ModelFolder,
        backend: str,
        backbone: str,
        repeats: int,
        seconds: float,
        screened: int,
    ) -> None:
        self.model = model
        self.options = ["--model", str(model.path), "--backend", backend]
        self.repeats, self.seconds, self.screened = repeats, seconds, screened
        self.front = Preprocessor.for_model(model)
        self.eager, self.onnx = torch_eager(model, backbone), onnx_runtime(model)
        self.wg04 = Path(os.environ.get("HIPEDGE_SHARED_DATA", "../shared/data")) / "wg04"

    def films(self, folder: Path, count: int) -> list[Film]:
        """Return the films, uncompressed."""
        folder.mkdir()
        real = real_film(self.wg04 / f"{SYNTAXES['uncompressed'].wg04}.dcm", self.front)
        return [*phantoms(folder, count, self.model.card.input), real]

    def syntax(self, syntax: Syntax, films: list[Film], folder: Path) -> dict[str, object]:
        """Measure all contenders on the films in one transfer syntax."""
        *simulated, real = films
        encoded = [in_syntax(film, syntax, folder / "films") for film in simulated]
        if syntax.wg04:
            encoded.append(Film(self.wg04 / f"{syntax.wg04}.dcm", real.looks))
        else:
            encoded.append(in_syntax(real, syntax, folder / "films"))
        folders = screen_folders(encoded, self.screened, folder)
        loops = dict(LOOPS)
        if syntax.uid not in FASTEST:
            del loops[CAREFUL_FASTEST]  # which is then the careful loop
        return {
            "megabytes": [round(film.path.stat().st_size / 1e6, 2) for film in encoded],
            "crops": {
                HIPEDGE: [self._crops(film) for film in encoded],
                "peers": [len(film.looks) for film in encoded],
            },
            "crops_per_s": alternating(self._to_crops(encoded, loops), self.repeats),
            "screened_per_s": alternating(self._to_scores(encoded, folders, loops), self.repeats),
        }

    def _crops(self, film: Film) -> int:
        prepared = self.front(film.path)
        if not isinstance(prepared, Prepared):
            raise ValueError(f"hipedge refused {film.path.name}: {prepared}")
        return sum(len(samples) for _, samples in prepared.hips)

    def _to_crops(self, films: list[Film], loops: Mapping[str, Loop]) -> dict[str, Rate]:
        cores = len(os.sched_getaffinity(0))
        rates: dict[str, Rate] = {
            SAME_WORK: partial(same_work_rate, self.front, films, cores, self.seconds),
            HIPEDGE: partial(front_rate, self.front, films, cores, self.seconds),
            ONE_PROCESS: partial(
                loop_rate, lambda film: self.front(film.path), films, self.seconds
            ),
        }
        for name, loop in loops.items():
            rates[name] = self._rate(films, loop)
        return rates

    def _to_scores(
        self, films: list[Film], folders: tuple[Path, Path], loops: Mapping[str, Loop]
    ) -> dict[str, Rate]:
        rates: dict[str, Rate] = {
            HIPEDGE: partial(screen_rate, folders, self.options),
            CAREFUL_ORT: self._rate(films, LOOPS[CAREFUL], self.onnx),
        }
        for name, loop in loops.items():
            rates[f"{name} + PyTorch"] = self._rate(films, loop, self.eager)
        return rates

    def _rate(self, films: list[Film], loop: Loop, infer: Infer | None = None) -> Rate:
        size_px = self.model.card.input.size_px

        def step(film: Film) -> None:
            crops = loop(film, size_px)
            if infer is not None:
                infer(crops)

        return partial(loop_rate, step, films, self.seconds)


def show(name: str, figures: dict[str, object]) -> None:
    """Print the medians of one syntax."""
    for kind in ("crops_per_s", "screened_per_s"):
        rates = median(figures[kind])
        shown = "  ".join(f"{contender} {rate:.1f}" for contender, rate in rates.items())
        print(f"{name:22} {kind:15} {shown}", flush=True)


if __name__ == "__main__":
    main()
