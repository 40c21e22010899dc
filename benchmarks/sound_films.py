"""How many sound films are refused or marked, in each encoding.

    python -m benchmarks.sound_films [--phantoms 500] [--json FILE]

The films are those of the shared data (hips, pelves and other body parts; none is a phantom) and
simulated ones. Each is encoded in every transfer syntax that hipedge reads, and read in full. None
should be refused, and none marked by the reader (`damaged_pixels`, `polarity_doubtful`,
`window_unusable`, ...). Each is also read as it is.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom

from benchmarks.damaged_frames import NAMES, NATIVE, encodings, shared, unread_source
from benchmarks.environment import environment
from hipedge.dicom.read import Payload, read
from hipedge.errors import Refused

RESULT = Path(__file__).parent / "results" / "sound_films.json"
# Larger films are sampled at a half, a quarter, ... of their resolution until they fit.
MAX_SIDE_PX = 1000
FIRST_SEED = 20_000
FILE = "film.dcm"
BITS = 12


def shared_files() -> list[Path]:
    """Return the films of the shared data, without the chest, which is no film for hipedge."""
    files = [p for p in sorted(shared().glob("wg04/*.dcm")) if "chest" not in p.name]
    files += sorted(shared().glob("radoss_ddh/*.dcm"))
    return files + sorted(shared().glob("fracatlas*/*/*.jpg"))


def phantom(seed: int, folder: Path, hospital: str | None = None) -> pydicom.Dataset:
    """Return a simulated film as a dataset without compression."""
    from hipedge.phantom import develop, draw_film, write_film

    film = replace(draw_film(seed, hospital=hospital), transfer_syntax_uid=NATIVE)
    zoom = max(1.0, max(film.view.shape) / MAX_SIDE_PX)
    shape = tuple(round(length / zoom) for length in film.view.shape)
    film = replace(film, view=film.view.window(0, 0, shape, zoom))
    path = folder / FILE
    write_film(path, film, develop(film))
    return pydicom.dcmread(path)


def of_values(template: pydicom.Dataset, values: np.ndarray) -> pydicom.Dataset:
    """Return a dataset with values (H, W) of `BITS` bits, shown over their own range."""
    step = -(-max(values.shape) // MAX_SIDE_PX)
    values = np.ascontiguousarray(values[::step, ::step])
    dataset = deepcopy(template)
    dataset.PixelRepresentation = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, BITS, BITS - 1
    dataset.Rows, dataset.Columns = values.shape
    dataset.PixelData = values.astype("<u2").tobytes()
    for keyword in ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"):
        if keyword in dataset:
            delattr(dataset, keyword)
    return dataset


def outcome(data: bytes) -> list[str]:
    """Return the code of a refusal, or the marks of a film that is read."""
    try:
        radiograph = read(Path("film"), Payload(data))
        _ = radiograph.pixels
    except Refused as refused:
        return [refused.code.value]
    return sorted(radiograph.marks)


def films(phantoms: int) -> Iterator[tuple[str, bytes, pydicom.Dataset]]:
    """Yield each film's name, its file, and a dataset of it without compression."""
    with tempfile.TemporaryDirectory() as folder:
        template = phantom(FIRST_SEED, Path(folder), "north")
        template.PhotometricInterpretation, template.PresentationLUTShape = (
            "MONOCHROME2",
            "IDENTITY",
        )
        for path in shared_files():
            data = path.read_bytes()
            gray = read(path, Payload(data)).pixels >> (16 - BITS)
            name = f"{path.parent.name}/{path.name}"
            yield name, data, of_values(template, gray)
        for seed in range(FIRST_SEED, FIRST_SEED + phantoms):
            drawn = phantom(seed, Path(folder))
            values = drawn.pixel_array >> max(0, drawn.BitsStored - BITS)
            data = (Path(folder) / FILE).read_bytes()
            yield f"phantom {seed}", data, of_values(drawn, values)


def in_each_encoding(dataset: pydicom.Dataset) -> Iterator[tuple[str, bytes]]:
    """Yield the name of each encoding, and the film in it."""
    for syntax, frame, depth in encodings(dataset.pixel_array, BITS):
        yield NAMES[syntax], unread_source(dataset, syntax, frame, depth).file(frame)


def run(phantoms: int) -> Iterator[dict]:
    """Yield the result so far after every 50 films, and at the end."""
    counts: dict[str, Counter] = defaultdict(Counter)
    conspicuous = []
    number = 0
    for name, data, dataset in films(phantoms):
        for encoding, content in (("as it is", data), *in_each_encoding(dataset)):
            found = outcome(content)
            counts[encoding]["films"] += 1
            counts[encoding]["refused or marked"] += bool(found)
            if found:
                conspicuous.append({"film": name, "encoding": encoding, "outcome": found})
        number += 1
        if number % 50 == 0:
            yield summary(number, counts, conspicuous)
    yield summary(number, counts, conspicuous)


def summary(number: int, counts: dict[str, Counter], conspicuous: list[dict]) -> dict:
    return {
        "films": number,
        "files": sum(c["films"] for c in counts.values()),
        "refused or marked": len(conspicuous),
        "encodings": {name: dict(c) for name, c in counts.items()},
        "conspicuous": conspicuous,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phantoms", type=int, default=500)
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    content = {"command": f"python -m benchmarks.sound_films --phantoms {arguments.phantoms}"}
    for result in run(arguments.phantoms):
        print(f"{result['films']} films, {result['files']} files: "
              f"{result['refused or marked']} refused or marked", flush=True)  # fmt: skip
        content |= {"environment": environment(), **result}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
