"""Every photometric interpretation, at every depth and in every syntax that may have it."""

import numpy as np
import pytest
from dicom_films import (
    EXPLICIT,
    IMPLICIT,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LS,
    LOSSLESS,
    RLE,
    film,
)

from hipedge.errors import Code, Refused

RED, GREEN, BLUE = 0.299, 0.587, 0.114


def gradient(bits, *, signed=False):
    y, x = np.indices((48, 64))
    values = np.rint((x + y) / 110 * ((1 << bits) - 1)).astype(np.int64)
    values -= (1 << (bits - 1)) if signed else 0
    return values.astype(("i" if signed else "u") + ("1" if bits <= 8 else "2"))


def colours(bits):
    y, x = np.indices((48, 64))
    planes = [y / 47, x / 63, (x + y) / 110]
    return np.rint(np.stack(planes, -1) * ((1 << bits) - 1)).astype("u1" if bits <= 8 else "u2")


def spread(values):
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) * 65535


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [2, 7, 8, 9, 10, 12, 14, 15, 16])
def test_bone_is_bright_at_every_depth(syntax, photometric, signed, bits, read_bytes):
    values = gradient(bits, signed=signed)
    data = film(values, syntax, bits=bits, PhotometricInterpretation=photometric)
    shown = spread(values.astype(float))
    expected = 65535 - shown if photometric == "MONOCHROME1" else shown
    np.testing.assert_allclose(read_bytes(data).pixels, expected, atol=1)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("syntax", "bits"), [(JPEG_BASELINE, 8), (JPEG_EXTENDED, 12)])
def test_bone_is_bright_in_lossy_jpeg(syntax, bits, photometric, read_bytes):
    values = gradient(bits)
    data = film(values, syntax, bits=bits, PhotometricInterpretation=photometric)
    expected = spread(values.astype(float))
    expected = 65535 - expected if photometric == "MONOCHROME1" else expected
    assert np.abs(read_bytes(data).pixels - expected).max() < 3000


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize(
    "syntax", [EXPLICIT, IMPLICIT, RLE, JPEG_LOSSLESS, JPEG_LS, JPEG_2000_LOSSLESS]
)
def test_rgb_becomes_luminance_at_every_depth(syntax, bits, read_bytes):
    values = colours(bits)
    luminance = values @ [RED, GREEN, BLUE]
    pixels = read_bytes(film(values, syntax, bits=bits)).pixels
    a_gray = 65535 / ((1 << bits) - 1)
    np.testing.assert_allclose(pixels, spread(luminance), atol=a_gray + 1)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, RLE, JPEG_LS])
@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422"])
def test_the_first_component_of_ybr_is_luminance_at_every_depth(
    photometric, syntax, bits, read_bytes
):
    values = colours(bits)
    data = film(values, syntax, bits=bits, PhotometricInterpretation=photometric)
    np.testing.assert_allclose(
        read_bytes(data).pixels, spread(values[..., 0].astype(float)), atol=1
    )


@pytest.mark.parametrize("bits", [8, 16])
def test_subsampled_native_ybr_is_read_at_every_depth(bits, read_bytes):
    values = colours(bits)
    pairs = np.zeros((values[..., 0].size // 2, 4), values.dtype)
    pairs[:, :2] = values[..., 0].reshape(-1, 2)
    data = film(values, PhotometricInterpretation="YBR_FULL_422", pixel_data=pairs.tobytes())
    np.testing.assert_allclose(
        read_bytes(data).pixels, spread(values[..., 0].astype(float)), atol=1
    )


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", ["YBR_RCT", "YBR_ICT", "RGB"])
def test_jpeg_2000s_own_transform_is_undone_at_every_depth(photometric, bits, read_bytes):
    values = colours(bits)
    data = film(values, JPEG_2000_LOSSLESS, bits=bits, PhotometricInterpretation=photometric)
    luminance = values @ [RED, GREEN, BLUE]
    a_gray = 65535 / ((1 << bits) - 1)
    np.testing.assert_allclose(read_bytes(data).pixels, spread(luminance), atol=a_gray + 1)


@pytest.mark.parametrize("entry_bits", [8, 16])
@pytest.mark.parametrize("bits", [8, 10, 16])
@pytest.mark.parametrize("syntax", [EXPLICIT, RLE, JPEG_LS, JPEG_2000_LOSSLESS])
def test_a_palette_is_looked_up_at_every_depth(syntax, bits, entry_bits, read_bytes):
    values = gradient(bits)
    count = 1 << bits
    reds = np.linspace(0, 1, count) ** 2
    entries = np.rint(reds * ((1 << entry_bits) - 1))
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        prefix = f"{colour}PaletteColorLookupTable"
        elements[f"{prefix}Descriptor"] = [count % 65536, 0, entry_bits]
        elements[f"{prefix}Data"] = entries.astype("u1" if entry_bits == 8 else "<u2").tobytes()
    pixels = read_bytes(film(values, syntax, bits=bits, **elements)).pixels
    np.testing.assert_allclose(pixels, spread(entries[values]), atol=65535 / 255 + 1)


@pytest.mark.parametrize(
    "photometric",
    ["YBR_PARTIAL_422", "YBR_PARTIAL_420", "HSV", "ARGB", "CMYK", "XYB", "MONOCHROME3", ""],
)
def test_other_photometric_interpretations_are_refused(photometric, read_bytes):
    for values in (gradient(8), colours(8)):
        with pytest.raises(Refused) as info:
            read_bytes(film(values, PhotometricInterpretation=photometric))
        assert info.value.code is Code.UNSUPPORTED_PIXELS
