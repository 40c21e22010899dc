"""The peers' loops do the same work as hipedge: the same crops, from each transfer syntax."""

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("monai", reason="pip install -r benchmarks/peers/requirements.txt")
pytest.importorskip("torchxrayvision", reason="pip install -r benchmarks/peers/requirements.txt")

from pydicom.pixels import get_decoder

from benchmarks.peers.decoders import decoders, use_decoders
from benchmarks.peers.films import SYNTAXES, in_syntax, pelvis, real_film
from benchmarks.peers.loops import LOOPS
from benchmarks.peers.measure import alternating, loop_rate, screen_folders
from hipedge.locate.given import GivenHips
from hipedge.pipeline.preprocessor import Preprocessor
from hipedge.types import CropGeometry

GEOMETRY = CropGeometry(64, 160.0, 10.0, 20.0)
FRONT = Preprocessor(GEOMETRY, GivenHips(), frozenset())

pytestmark = pytest.mark.filterwarnings("ignore")  # MONAI's and torchxrayvision's own


@pytest.fixture(scope="module", autouse=True)
def plugins():
    use_decoders()


@pytest.fixture(scope="module")
def real(shared_data):
    return real_film(shared_data / "wg04/RG2_UNC.dcm", FRONT)


def crops_of_hipedge(film):
    return np.stack([one.pixels for _, samples in FRONT(film.path).hips for one in samples])


def likeness(crops, others):
    return [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(crops, others, strict=True)]


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_makes_hipedges_crops(real, name):
    crops = LOOPS[name](real, GEOMETRY.size_px)
    expected = crops_of_hipedge(real)
    assert crops.shape == expected.shape
    assert crops.dtype == np.uint8
    assert min(likeness(crops, expected)) > 0.99


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_all_loops_read_every_syntax(real, tmp_path, syntax):
    encoded = in_syntax(real, SYNTAXES[syntax], tmp_path)
    plain = LOOPS["careful loop"](real, GEOMETRY.size_px)
    for loop in LOOPS.values():
        assert min(likeness(loop(encoded, GEOMETRY.size_px), plain)) > 0.99
    assert len(crops_of_hipedge(encoded)) == len(plain)


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES)
def test_the_loops_decode_with_what_the_figures_name(syntax):
    plugins = set(get_decoder(syntax.uid).available_plugins) if syntax.encode else {"pydicom"}
    packages = {package.split()[0] for package in decoders(syntax.uid).values()}
    assert {re.sub("^pylibjpeg-.*", "pylibjpeg", package) for package in packages} == plugins


def test_hipedge_does_not_need_the_decoder_under_the_gpl():
    project = Path(__file__).parents[1] / "pyproject.toml"
    assert "pylibjpeg" not in project.read_text(encoding="utf-8")


def test_a_phantom_of_finer_pixels_shows_the_same_hips():
    coarse, fine = pelvis(1, 0.4), pelvis(1, 0.2)
    assert fine.view.shape == tuple(2 * pixels for pixels in coarse.view.shape)
    for side in coarse.sides:
        assert fine.centre_px(side) == pytest.approx(np.multiply(coarse.centre_px(side), 2))


def test_contenders_take_turns():
    calls = []
    contenders = {name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    assert alternating(contenders, 3) == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert "".join(calls) == "ababab"


def test_a_rate_is_over_whole_rounds_of_the_films():
    seen = []
    assert loop_rate(seen.append, ["one", "two", "three"], 0.0) > 0
    assert seen == ["one", "two", "three"]
    loop_rate(seen.append, ["one", "two", "three"], 1e-3)
    assert len(seen) % 3 == 0


def test_the_folders_to_screen_differ_by_the_films_that_count(real, tmp_path):
    few, many = screen_folders([real], 3, tmp_path)
    assert len(list(few.rglob("*.dcm"))) == 1
    contents = {path.read_bytes() for path in many.rglob("*.dcm")}
    assert len(contents) == 4
