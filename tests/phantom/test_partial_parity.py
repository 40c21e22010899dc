"""What the network says of a film does not depend on how much of the film was decoded."""

from dataclasses import replace

import numpy as np
import pytest

from hipedge.backends.onnxruntime import OnnxRuntimeBackend
from hipedge.backends.parity import PROBABILITY_TOLERANCE, compare
from hipedge.dicom.read import read
from hipedge.imaging.geometry import is_mirrored
from hipedge.imaging.prepare import prepare_hips
from hipedge.model import Golden
from hipedge.phantom import develop, draw_film, write_film
from hipedge.phantom.hospitals import EXTERNAL
from hipedge.types import Area, Hip, Radiograph

# Transfer syntax and bits stored: the outside hospital's own are 10.
ENCODINGS = {
    "explicit": ("1.2.840.10008.1.2.1", 10),
    "explicit, 8 bits": ("1.2.840.10008.1.2.1", 8),
    "JPEG-LS": ("1.2.840.10008.1.2.4.80", 10),
    "JPEG 2000": ("1.2.840.10008.1.2.4.90", 10),
    "JPEG 2000, 8 bits": ("1.2.840.10008.1.2.4.90", 8),
}
FILMS = 8


class Exact:
    """A film's pixels without a shortcut: areas are the whole film at its own resolution."""

    def __init__(self, radiograph):
        self._pixels = radiograph.pixels

    def area(self, box, step_px):
        return Area(self._pixels)


@pytest.fixture(scope="module")
def crops(reference_model, tmp_path_factory):
    """Crops (N, 1, S, S) of films of the outside hospital: as they are, and without a shortcut."""
    folder = tmp_path_factory.mktemp("outside")
    found = {name: ([], []) for name in ENCODINGS}
    for seed in range(FILMS):
        film = draw_film(seed, hospital=EXTERNAL)
        picture = develop(film)
        for name, (syntax, bits) in ENCODINGS.items():
            path = folder / f"{seed}.dcm"
            hospital = replace(film.hospital, bits_stored=bits)
            encoded = replace(film, transfer_syntax_uid=syntax, hospital=hospital)
            write_film(path, encoded, picture)
            radiograph = read(path)
            hips = hips_of(film, radiograph, reference_model.card.input)
            exact = Radiograph(radiograph.film, Exact(radiograph))
            for shown, into in zip((radiograph, exact), found[name], strict=True):
                samples = prepare_hips(shown, hips, reference_model.card.input.size_px)
                into.extend(sample.pixels for (sample,) in samples)
    return {name: (np.stack(partial), np.stack(exact)) for name, (partial, exact) in found.items()}


def hips_of(film, radiograph, geometry):
    orientation = radiograph.film.orientation
    return [
        Hip(side, film.centre_px(side), film.box(side, geometry), 1.0,
            is_mirrored(side, orientation))
        for side in film.sides
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_results_stay_within_the_parity_gate(encoding, crops, reference_model):
    partial, exact = crops[encoding]
    with OnnxRuntimeBackend.open(reference_model, threads=1) as backend:
        expected, found = (
            (np.stack([s.logits for s in scores]), np.stack([s.maps for s in scores]))
            for scores in (backend.infer(exact), backend.infer(partial))
        )
    parity = compare(Golden(exact, *expected), [found], reference_model.card)
    assert parity.probability_difference <= PROBABILITY_TOLERANCE
    assert (parity.category_changes, parity.flag_changes) == (0, 0)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_crops_differ_by_their_noise_alone(encoding, crops):
    partial, exact = crops[encoding]
    apart = np.abs(partial.astype(int) - exact)
    assert np.median(apart) <= 1
    assert np.percentile(apart, 99) <= 8
