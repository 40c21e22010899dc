"""Milliseconds from a file to two hip crops, for each transfer syntax, beside what others do.

    python -m benchmarks.decoding [--before CHECKOUT] [--turns 7] [--json FILE]

Ways:

- ours: `Preprocessor`, which reads, hashes, gates, decodes, locates (the hips are given) and
  prepares;
- decoding: ours without the reading and hashing of the file, which the others do not hash;
- before: ours as another checkout of hipedge does it;
- careful: the frame decoded whole, two crops resized by OpenCV and stretched. The decoder is
  pydicom's where it has one (pylibjpeg's plugins, if they are installed), else imagecodecs';
- naive: `dcmread`, `pixel_array`, `apply_voi_lut`, and a resize by scikit-image.

Each way is a process of its own, on one core; they take turns, so that what else the machine does
meets all. Times are of the processor: medians over the turns. The films are a real radiograph of
the NEMA samples in the syntaxes it comes in, and a drawn one of about 2500 × 3000 pixels in all.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import apply_voi_lut, get_decoder

from benchmarks.environment import environment

PITCH_MM = 0.14
CROP_MM = 160.0
SIZES_PX = (384, 128)
RG2 = {
    "RG2_UNC": "explicit little endian",
    "RG2_RLE": "RLE lossless",
    "RG2_JPLL": "JPEG lossless",
    "RG2_JLSL": "JPEG-LS lossless",
    "RG2_J2KR": "JPEG 2000 lossless",
    "RG2_J2KI": "JPEG 2000",
    "RG2_JPLY": "JPEG extended, 12 bit",
}
# About where the heads' centres are on RG2.
RG2_HIPS = ((620.0, 960.0), (1080.0, 940.0))


def draw_phantom(folder: Path):
    """Write a drawn film in each syntax; return the files and where its hips are."""
    from hipedge.phantom import develop, draw_film, write_film

    films = (draw_film(seed, hospital="north") for seed in range(50))
    film = next(film for film in films if len(film.sides) == 2)
    zoom = PITCH_MM / film.view.pixel_mm
    shape = tuple(round(length / zoom) for length in film.view.shape)
    film = replace(film, view=film.view.window(0, 0, shape, zoom))
    plain = folder / "plain.dcm"
    write_film(plain, replace(film, transfer_syntax_uid="1.2.840.10008.1.2.1"), develop(film))
    pixels = pydicom.dcmread(plain).pixel_array
    files = {}
    for name, (syntax, frame) in encoded(pixels, film.hospital.bits_stored).items():
        files[name] = folder / f"{len(files)}.dcm"
        write_encoded(plain, syntax, frame, files[name])
    return files, tuple(film.centre_px(side) for side in film.sides)


def encoded(pixels, bits):
    """Return the transfer syntax and the frame of each encoding; None where pydicom encodes."""
    eight = (pixels >> (bits - 8)).astype(np.uint8)
    j2k = {"codecformat": "J2K", "bitspersample": bits}
    uid = "1.2.840.10008.1.2"
    return {
        "explicit little endian": (f"{uid}.1", None),
        "RLE lossless": (f"{uid}.5", None),
        "JPEG lossless": (
            f"{uid}.4.70",
            imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=bits),
        ),
        "JPEG-LS lossless": (f"{uid}.4.80", imagecodecs.jpegls_encode(pixels)),
        "JPEG 2000 lossless": (
            f"{uid}.4.90",
            imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, **j2k),
        ),
        "JPEG 2000": (
            f"{uid}.4.91",
            imagecodecs.jpeg2k_encode(pixels, level=60, reversible=False, **j2k),
        ),
        "HTJ2K lossless": (f"{uid}.4.201", imagecodecs.htj2k_encode(pixels, reversible=True)),
        "JPEG, 8 bit": (f"{uid}.4.50", imagecodecs.jpeg8_encode(eight, level=95)),
        "JPEG extended, 12 bit": (
            f"{uid}.4.51",
            imagecodecs.jpeg8_encode(pixels, level=95, bitspersample=12),
        ),
    }


def write_encoded(plain, syntax, frame, path):
    dataset = pydicom.dcmread(plain)
    if frame is not None:
        dataset.PixelData = encapsulate([bytes(frame)])
        dataset["PixelData"].is_undefined_length = True
    elif pydicom.uid.UID(syntax).is_compressed:
        dataset.compress(syntax, encoding_plugin="pydicom")
    if syntax.endswith(".50"):
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        dataset.WindowCenter, dataset.WindowWidth = 128, 256
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True)


def ours(path, hips, size_px):
    """Return the time of the line's front half, and that without loading the file."""
    from hipedge.dicom.read import load
    from hipedge.locate.given import GivenHip, GivenHips
    from hipedge.pipeline.preprocessor import Prepared, Preprocessor
    from hipedge.types import CropGeometry, Side

    given = [GivenHip(side, hip) for side, hip in zip((Side.RIGHT, Side.LEFT), hips, strict=True)]
    front = Preprocessor(
        CropGeometry(size_px, CROP_MM, 0.0, 0.0),
        GivenHips({str(path.resolve()): tuple(given)}),
        frozenset(),
    )
    total_ms, prepared = timed(lambda: front(path))
    if not isinstance(prepared, Prepared):
        raise SystemExit(f"{path}: {prepared}")
    load_ms, _ = timed(lambda: load(path))
    return {"ours": total_ms, "decoding": total_ms - load_ms}


def careful(path, hips, size_px):
    import cv2

    cv2.setNumThreads(1)

    def work():
        dataset = pydicom.dcmread(path)
        pixels = decoded(dataset)
        for crop in crops(dataset, pixels, hips):
            small = cv2.resize(crop, (size_px, size_px), interpolation=cv2.INTER_AREA)
            low, high = np.percentile(small, (1, 99))
            np.clip((small - low) * (255 / max(high - low, 1)), 0, 255).astype(np.uint8)

    return {"careful": timed(work)[0]}


def naive(path, hips, size_px):
    from skimage.transform import resize

    def work():
        dataset = pydicom.dcmread(path)
        pixels = apply_voi_lut(decoded(dataset), dataset).astype(np.float32)
        pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min())
        for crop in crops(dataset, pixels, hips):
            (resize(crop, (size_px, size_px), anti_aliasing=True) * 255).astype(np.uint8)

    return {"naive": timed(work)[0]}


def timed(work):
    start = time.process_time()
    result = work()
    return (time.process_time() - start) * 1e3, result


def decoded(dataset):
    """Decode by pydicom where it has a decoder that takes the frame, else by imagecodecs."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or get_decoder(syntax).is_available:
        try:
            return dataset.pixel_array
        except RuntimeError:  # a plugin that does not take this depth
            pass
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    name = {"50": "jpeg8", "51": "jpeg8", "70": "jpeg8", "80": "jpegls"}[syntax.split(".")[-1]]
    return getattr(imagecodecs, f"{name}_decode")(frame)


def crops(dataset, pixels, hips):
    """Cut squares of `CROP_MM` around the hips out of a film, at its detector's spacing."""
    row_mm, _ = dataset.get("PixelSpacing") or dataset.ImagerPixelSpacing
    half = round(CROP_MM / 2 / float(row_mm))
    for x, y in hips:
        top, left = max(0, round(y) - half), max(0, round(x) - half)
        yield pixels[top : round(y) + half, left : round(x) + half]


WAYS = {"ours": ours, "before": ours, "careful": careful, "naive": naive}


class Runner:
    """A process that runs one way when told to, with the hipedge of one checkout."""

    def __init__(self, way: str, checkout: Path) -> None:
        self.way = way
        here = Path(__file__).resolve().parents[1]
        path = os.pathsep.join((str(checkout.resolve()), str(here)))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.decoding", "--serve", way],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            cwd=checkout,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, path: Path, hips, size_px: int) -> dict[str, float]:
        """Return the milliseconds that the way takes for a film."""
        self._process.stdin.write(json.dumps([str(path), hips, size_px]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.way} failed on {path.name}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def serve(way: str) -> None:
    for line in sys.stdin:
        path, hips, size_px = json.loads(line)
        times = WAYS[way](Path(path), hips, size_px)
        if way == "before":
            times = {"before": times["ours"]}
        print(json.dumps(times), flush=True)


def measure(runners, path, hips, size_px, turns):
    """Return each way's median, after a first turn that only warms up."""
    taken: dict[str, list[float]] = {}
    for turn in range(turns + 1):
        for runner in runners:
            for name, milliseconds in runner(path, hips, size_px).items():
                if turn:
                    taken.setdefault(name, []).append(milliseconds)
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="another checkout of hipedge")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    where = environment()
    for name, value in where.items():
        print(f"{name}: {value}")
    here = Path(__file__).resolve().parents[1]
    checkouts = dict.fromkeys(WAYS, here) | {"before": arguments.before}
    runners = [Runner(way, checkout) for way, checkout in checkouts.items() if checkout]
    with tempfile.TemporaryDirectory() as folder:
        drawn, drawn_hips = draw_phantom(Path(folder))
        films = [("drawn", name, path, drawn_hips) for name, path in drawn.items()]
        shared = Path(os.environ.get("HIPEDGE_SHARED_DATA", "../shared/data")).resolve()
        films += [
            ("RG2", name, shared / "wg04" / f"{stem}.dcm", RG2_HIPS) for stem, name in RG2.items()
        ]
        results = []
        for size_px in SIZES_PX:
            print(f"\n{size_px} px crops, ms a film")
            for film, name, path, hips in films:
                if not path.exists():
                    continue
                times = measure(runners, path, hips, size_px, arguments.turns)
                results.append({"size_px": size_px, "film": film, "syntax": name, "ms": times})
                figures = "".join(f"  {way} {ms:.1f}" for way, ms in times.items())
                ratios = "".join(
                    f"  {way}/decoding {times[way] / times['decoding']:.1f}"
                    for way in ("careful", "naive")
                )
                print(f"{film:6}{name:24}{figures}{ratios}", flush=True)
    for runner in runners:
        runner.close()
    if arguments.json:
        content = {
            "environment": where,
            "command": " ".join(sys.argv[1:]),
            "results": results,
        }
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
