"""A film for a viewer: all its values, and the curve by which the header wants them shown."""

import numpy as np
import pytest
from dicom_films import EXPLICIT, JPEG_2000_LOSSLESS, film

from hipedge.dicom.display import read_for_display
from hipedge.dicom.read import Payload, read
from hipedge.errors import Code, Refused
from hipedge.types import Box

WINDOW = {"WindowCenter": 1800, "WindowWidth": 1800}


@pytest.fixture
def ramp():
    rng = np.random.default_rng(1)
    return np.sort(rng.integers(0, 4096, (256, 300)), axis=1).astype(np.uint16)


def displayed(data):
    shown = read_for_display(Payload(data))
    height, width = shown.shape
    return shown, shown.pixels.area(Box(0, 0, width, height), 2.0).pixels


@pytest.mark.parametrize("syntax", [EXPLICIT, JPEG_2000_LOSSLESS])
@pytest.mark.parametrize("inverted", [False, True])
def test_values_beyond_the_window_are_kept_and_the_curve_gives_what_is_read(
    tmp_path, ramp, syntax, inverted
):
    values = {"PhotometricInterpretation": "MONOCHROME1"} if inverted else {}
    data = film(ramp, syntax, bits=12, **WINDOW, **values)
    shown, pixels = displayed(data)
    assert len(np.unique(pixels)) == len(np.unique(ramp))
    as_sent = shown.curve[np.rint(pixels / 65535 * (len(shown.curve) - 1)).astype(int)]
    path = tmp_path / "film.dcm"
    path.write_bytes(data)
    # Half of a step of the curve, at a window that is less than half of the range wide.
    assert np.abs(as_sent.astype(int) - read(path).pixels).max() < 65535 / 100


@pytest.mark.parametrize("syntax", [EXPLICIT, JPEG_2000_LOSSLESS])
def test_a_film_is_linear_over_all_that_can_be_stored(ramp, syntax):
    _, pixels = displayed(film(ramp, syntax, bits=12))
    assert np.array_equal(pixels, np.rint(ramp / 4095 * 65535))


def test_without_a_window_there_is_no_curve(ramp):
    shown, _ = displayed(film(ramp, bits=12))
    assert shown.curve is None


def test_a_window_that_shows_nothing_gives_no_curve(ramp):
    shown, _ = displayed(film(ramp, bits=12, WindowCenter=60000, WindowWidth=1))
    assert shown.curve is None


def test_padding_is_black_and_the_window_still_moves(ramp):
    padded = ramp.copy()
    padded[:, :20] = 4095
    shown, pixels = displayed(film(padded, bits=12, PixelPaddingValue=4095, **WINDOW))
    assert pixels[:, :20].max() == 0
    assert len(np.unique(pixels)) > 2000
    assert shown.curve is not None


def test_what_the_gate_refuses_is_shown(ramp):
    data = film(ramp, bits=12, BodyPartExamined="CHEST")
    with pytest.raises(Refused, match=r"wrong_body_part"):
        read("film.dcm", Payload(data))
    assert displayed(data)[1].shape == ramp.shape


@pytest.mark.parametrize("data", [b"nothing", b"\x89PNG\r\n\x1a\n" + b"x" * 50])
def test_what_cannot_be_read_is_refused(data):
    with pytest.raises(Refused) as refused:
        read_for_display(Payload(data))
    assert refused.value.code in (Code.NOT_AN_IMAGE, Code.DECODE_FAILED)
