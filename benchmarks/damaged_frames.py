"""How many damaged frames are refused or marked, in each encoding.

    python -m benchmarks.damaged_frames [--mutations 3000] [--seed 14] [--json FILE]

A real hip radiograph (every second pixel of RG2 of the NEMA samples, where the shared data are at
hand) and a simulated one are encoded in every transfer syntax that hipedge reads. Each mutation
damages one frame: its bytes are flipped, overwritten, zeroed, doubled, moved or left out, or it is
cut off, with and without an end marker. The file around the frame stays sound.

A mutated frame counts as wrong where its pixels differ from the true ones by more than 1 % of the
range from black to white, on average over the film. What `read` refuses is decoded by imagecodecs
instead, which fills in what is missing; where that fails too there are no pixels that could be
wrong, and the frame is counted apart. The share that is noticed is that of the wrong frames that
`read` refuses or marks `damaged_pixels`. Sound frames must neither be refused nor marked.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
from collections import Counter, defaultdict
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import UID, RLELossless

from benchmarks.decoding import encoded
from benchmarks.environment import environment
from hipedge.dicom.read import Payload, read
from hipedge.errors import Refused
from hipedge.types import Mark

RESULT = Path(__file__).parent / "results" / "damaged_frames.json"
WRONG = 0.01
NAMES = {
    "1.2.840.10008.1.2.1": "explicit little endian",
    "1.2.840.10008.1.2.5": "RLE lossless",
    "1.2.840.10008.1.2.4.50": "JPEG baseline",
    "1.2.840.10008.1.2.4.51": "JPEG extended",
    "1.2.840.10008.1.2.4.57": "JPEG lossless",
    "1.2.840.10008.1.2.4.70": "JPEG lossless SV1",
    "1.2.840.10008.1.2.4.80": "JPEG-LS lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS near-lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.201": "HTJ2K lossless",
    "1.2.840.10008.1.2.4.203": "HTJ2K",
}
NATIVE = "1.2.840.10008.1.2.1"
WITH_END_MARKER = frozenset(NAMES) - {NATIVE, "1.2.840.10008.1.2.5"}


@dataclass(frozen=True, eq=False)
class Source:
    """A film in one encoding: its header, its sound frame, and its pixels as `read` gives them.

    `plain` is the header of the same film without compression.
    """

    syntax: str
    header: bytes
    plain: bytes
    frame: bytes
    dtype: np.dtype
    pixels: np.ndarray

    def file(self, frame: bytes) -> bytes:
        """Return the film as a file, with another frame."""
        if self.syntax == NATIVE:
            return native_file(self.header, frame)
        return self.header + PIXEL_DATA + b"\xff" * 4 + encapsulate([frame]) + DELIMITER


PIXEL_DATA = b"\xe0\x7f\x10\x00OB\0\0"
DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"


def native_file(header: bytes, values: bytes) -> bytes:
    return header + PIXEL_DATA.replace(b"OB", b"OW") + struct.pack("<L", len(values)) + values


def sources() -> Iterator[Source]:
    """Yield each film in each encoding."""
    for dataset, pixels, bits in films():
        for syntax, frame, depth in encodings(pixels, bits):
            yield make_source(dataset, syntax, frame, depth)


def samples() -> Iterator[tuple[str, bytes]]:
    """Yield the real film as the NEMA samples encode it: transfer syntax and file."""
    for path in sorted(shared().glob("wg04/RG2_*.dcm")):
        yield str(pydicom.dcmread(path).file_meta.TransferSyntaxUID), path.read_bytes()


def shared() -> Path:
    return Path(os.environ.get("HIPEDGE_SHARED_DATA", "../shared/data")).resolve()


def films() -> Iterator[tuple[pydicom.Dataset, np.ndarray, int]]:
    """Yield a film's header, its stored values (H, W) and how many bits they have."""
    from hipedge.phantom import develop, draw_film, write_film

    path = shared() / "wg04" / "RG2_UNC.dcm"
    if path.exists():
        dataset = pydicom.dcmread(path)
        values = np.ascontiguousarray(dataset.pixel_array[::2, ::2])
        dataset.Rows, dataset.Columns = values.shape
        yield dataset, values, dataset.BitsStored
    film = replace(draw_film(0, hospital="north"), transfer_syntax_uid=NATIVE)
    drawn = Path(os.environ.get("TMPDIR", "/tmp")) / f"damaged-frames-{os.getpid()}.dcm"
    write_film(drawn, film, develop(film))
    dataset = pydicom.dcmread(drawn)
    pixels = dataset.pixel_array
    drawn.unlink()
    yield dataset, pixels, film.hospital.bits_stored


def encodings(pixels: np.ndarray, bits: int) -> Iterator[tuple[str, bytes, int]]:
    """Yield transfer syntax, frame and bits stored of each encoding."""
    values = pixels.astype("<u2")
    yield NATIVE, values.tobytes(), bits
    for syntax, frame in encoded(values, bits).values():
        if frame is not None:
            yield syntax, frame, 8 if syntax.endswith(".50") else bits
    lossless = imagecodecs.jpeg8_encode(values, lossless=True, predictor=6, bitspersample=bits)
    yield "1.2.840.10008.1.2.4.57", lossless, bits
    yield "1.2.840.10008.1.2.4.81", imagecodecs.jpegls_encode(values, level=2), bits
    yield "1.2.840.10008.1.2.4.203", imagecodecs.htj2k_encode(values, reversible=False), bits
    yield "1.2.840.10008.1.2.5", rle(values), bits


def rle(values: np.ndarray) -> bytes:
    return get_encoder(RLELossless).encode(
        values,
        rows=values.shape[0],
        columns=values.shape[1],
        samples_per_pixel=1,
        bits_allocated=16,
        bits_stored=16,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
        encoding_plugin="pydicom",
    )


def make_source(dataset: pydicom.Dataset, syntax: str, frame: bytes, bits: int) -> Source:
    sound = unread_source(dataset, syntax, frame, bits)
    return replace(sound, pixels=read(Path("film.dcm"), Payload(sound.file(frame))).pixels)


def unread_source(dataset: pydicom.Dataset, syntax: str, frame: bytes, bits: int) -> Source:
    """Return a film in one encoding, without the pixels that `read` gives."""
    dataset = deepcopy(dataset)  # `Dataset.copy` would share the elements that are set here
    dataset.BitsAllocated = 8 if bits == 8 else 16
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    if syntax.endswith(".50"):
        dataset.WindowCenter, dataset.WindowWidth = 128, 256
    for tag in [element.tag for element in dataset if element.tag >= 0x7FE0_0010]:
        del dataset[tag]
    dtype = np.dtype("u1" if bits == 8 else "<u2")
    header, plain = header_bytes(dataset, syntax), header_bytes(dataset, NATIVE)
    return Source(syntax, header, plain, frame, dtype, np.empty(0))


def header_bytes(dataset: pydicom.Dataset, syntax: str) -> bytes:
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def flip(frame: bytearray, rng: np.random.Generator) -> None:
    for at in rng.integers(0, len(frame), rng.integers(1, 4)):
        frame[at] ^= 1 << rng.integers(8)


def overwrite(frame: bytearray, rng: np.random.Generator) -> None:
    for at in rng.integers(0, len(frame), rng.choice([1, 3, 20])):
        frame[at] = rng.integers(256)


def damage_beginning(frame: bytearray, rng: np.random.Generator) -> None:
    for at in rng.integers(0, min(400, len(frame)), rng.integers(1, 4)):
        frame[at] = rng.integers(256)


def zero(frame: bytearray, rng: np.random.Generator) -> None:
    length = int(rng.choice([16, 256, 2048, 16384]))
    at = int(rng.integers(0, max(1, len(frame) - length)))
    frame[at : at + length] = bytes(len(frame[at : at + length]))


def fill(frame: bytearray, rng: np.random.Generator) -> None:
    length = int(rng.choice([16, 512, 4096]))
    at = int(rng.integers(0, max(1, len(frame) - length)))
    frame[at : at + length] = rng.bytes(len(frame[at : at + length]))


def double(frame: bytearray, rng: np.random.Generator) -> None:
    length = int(rng.choice([64, 512, 4096]))
    at = int(rng.integers(0, max(1, len(frame) - 2 * length)))
    frame[at : at + length] = frame[at + length : at + 2 * length]


def leave_out(frame: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(0, len(frame) - 64))
    del frame[at : at + int(rng.choice([1, 2, 50, 4096]))]


def insert(frame: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(0, len(frame)))
    frame[at:at] = rng.bytes(int(rng.choice([1, 2, 50])))


def swap(frame: bytearray, rng: np.random.Generator) -> None:
    length = int(rng.choice([512, 4096]))
    a, b = (int(rng.integers(0, max(1, len(frame) - length))) for _ in range(2))
    frame[a : a + length], frame[b : b + length] = (
        frame[b : b + length],
        frame[a : a + length],
    )


def cut(frame: bytearray, rng: np.random.Generator) -> None:
    del frame[int(rng.uniform(0.02, 0.99) * len(frame)) :]


def cut_and_close(frame: bytearray, rng: np.random.Generator) -> None:
    cut(frame, rng)
    frame += b"\xff\xd9"


MUTATIONS = (
    flip, overwrite, damage_beginning, zero, fill, double, leave_out, insert, swap, cut,
    cut_and_close,
)  # fmt: skip


def outcome(source: Source, frame: bytes) -> tuple[str, str, float | None]:
    """Return what `read` made of a frame, the code of a refusal, and how far it is off."""
    data = source.file(frame)
    try:
        radiograph = read(Path("film.dcm"), Payload(data))
        pixels = radiograph.pixels
    except Refused as refused:
        return "refused", refused.code.value, leniently(source, frame)
    state = "marked" if Mark.DAMAGED_PIXELS in radiograph.marks else "silent"
    return state, "", difference(pixels, source.pixels)


def reads_unmarked(data: bytes) -> bool:
    try:
        radiograph = read(Path("film.dcm"), Payload(data))
        _ = radiograph.pixels
    except Refused:
        return False
    return Mark.DAMAGED_PIXELS not in radiograph.marks


def difference(pixels: np.ndarray, true: np.ndarray) -> float | None:
    if pixels.shape != true.shape:
        return None
    return float(np.abs(pixels.astype(np.int32) - true).mean() / 65535)


def leniently(source: Source, frame: bytes) -> float | None:
    """Return how far off a refused frame would be if imagecodecs decoded it, None if it cannot."""
    decode = {"4": jpeg_family, "5": rle_frame, "1": native_frame}[source.syntax.split(".")[6]]
    try:
        values = decode(source, frame)
    except Exception:  # whatever the decoders raise means that there are no pixels
        return None
    if values is None or values.shape != source.pixels.shape:
        return None
    plain = native_file(source.plain, np.ascontiguousarray(values, source.dtype).tobytes())
    try:
        pixels = read(Path("film.dcm"), Payload(plain)).pixels
    except Refused:
        return None
    return difference(pixels, source.pixels)


def jpeg_family(source: Source, frame: bytes) -> np.ndarray:
    number = int(source.syntax.split(".")[7])
    if number >= 90:
        return imagecodecs.jpeg2k_decode(frame)
    if number in (80, 81):
        return imagecodecs.jpegls_decode(frame)
    return imagecodecs.jpeg8_decode(frame)


def rle_frame(source: Source, frame: bytes) -> np.ndarray:
    count = source.pixels.size
    room = bytearray(2 * count)
    decoded = imagecodecs.dicomrle_decode(frame, np.dtype("<u2"), out=room)
    values = np.zeros(count, "<u2")
    found = np.frombuffer(decoded, "<u2")[:count]
    values[: len(found)] = found
    return values.reshape(source.pixels.shape)


def native_frame(source: Source, frame: bytes) -> np.ndarray:
    size = source.pixels.size * 2
    return np.frombuffer(frame[:size].ljust(size, b"\0"), "<u2").reshape(source.pixels.shape)


def run(mutations: int, seed: int) -> Iterator[dict]:
    """Yield the result so far, after every 500 mutations and at the end."""
    rng = np.random.default_rng(seed)
    films = list(sources())
    counts: dict[str, Counter] = defaultdict(Counter)
    silent: list[dict] = []
    sound = [(source.syntax, source.file(source.frame)) for source in films]
    for syntax, data in [*sound, *samples()]:
        counts[syntax]["sound"] += 1
        counts[syntax]["sound refused or marked"] += not reads_unmarked(data)
    for number in range(mutations):
        source = films[number % len(films)]
        mutate = MUTATIONS[rng.integers(len(MUTATIONS))]
        frame = bytearray(source.frame)
        mutate(frame, rng)
        state, _, off = outcome(source, bytes(frame))
        tally = counts[source.syntax]
        tally["mutated"] += 1
        tally[state] += 1
        if off is None:
            tally["no pixels"] += 1
        elif off > WRONG:
            tally["wrong"] += 1
            tally["wrong, noticed"] += state != "silent"
        if state == "silent" and off is not None and off > WRONG:
            silent.append(
                {
                    "number": number,
                    "syntax": NAMES[source.syntax],
                    "mutation": mutate.__name__,
                    "off": round(off, 4),
                }
            )
        if (number + 1) % 500 == 0 or number + 1 == mutations:
            encodings = {NAMES[s]: summary(counts[s]) for s in NAMES if s in counts}
            yield {"mutations": number + 1, "encodings": encodings, "silent": silent}


def summary(tally: Counter) -> dict:
    wrong, noticed = tally["wrong"], tally["wrong, noticed"]
    share = round(noticed / wrong, 3) if wrong else None
    return dict(tally) | {"share of wrong that is noticed": share}


def table(result: dict) -> str:
    columns = ("mutated", "refused", "marked", "wrong", "wrong, noticed")
    lines = [f"{'encoding':24}" + "".join(f"{c:>16}" for c in columns) + f"{'share':>8}"]
    for name, row in result["encodings"].items():
        share = row["share of wrong that is noticed"]
        cells = "".join(f"{row.get(c, 0):16}" for c in columns)
        lines.append(f"{name:24}{cells}{'' if share is None else format(share, '8.1%')}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    command = f"--mutations {arguments.mutations} --seed {arguments.seed}"
    for result in run(arguments.mutations, arguments.seed):
        print(f"{result['mutations']} of {arguments.mutations}\n{table(result)}", flush=True)
        content = {
            "command": f"python -m benchmarks.damaged_frames {command}",
            "environment": environment(),
            "wrong_above": WRONG,
            **result,
        }
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
