"""Stored values become P-values as PS3.3 C.11 says, with bone bright."""

from io import BytesIO

import numpy as np
import pydicom
import pytest
from dicom_films import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_LOSSLESS,
    RLE,
    encode,
    film,
)
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from hipedge.dicom.grayscale import render
from hipedge.dicom.header import read_header
from hipedge.dicom.pixels import checked_format, decode
from hipedge.errors import Code, Refused
from hipedge.types import Mark


def ramp(bits=12, *, signed=False):
    """Every value that so many bits can have, once or more."""
    low = -(1 << (bits - 1)) if signed else 0
    values = np.arange(low, low + (1 << bits)).reshape(-1, 8)
    return values.astype(("i" if signed else "u") + ("1" if bits <= 8 else "2"))


def lut_item(entries, first, bits, *, vr="US"):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 65536, first & 0xFFFF, bits])
    data = np.asarray(entries, "<u2")
    item.add_new("LUTData", vr, data.tobytes() if vr == "OW" else data.tolist())
    return item


def rendered(data):
    """Render all of a film as its header says, whether that shows anything of it or not."""
    header = read_header(data)
    form = checked_format(header.image_pixel)
    gray = decode(header.pixels, form, header.transfer_syntax_uid).gray
    return render(gray, form.bits_stored, header.grayscale)


def expected(array, white):
    return np.rint(np.clip(white, 0, 1) * 65535).astype(int)


WINDOWS = [
    ("LINEAR", 2048, 4096),
    ("LINEAR", 1000.5, 300),
    ("LINEAR", 5000, 100),
    ("LINEAR_EXACT", 2048, 4096),
    ("LINEAR_EXACT", 700, 0.5),
    ("SIGMOID", 2048, 1000),
    ("SIGMOID", 2048, 0.25),
]


@pytest.mark.parametrize(("function", "centre", "width"), WINDOWS)
@pytest.mark.parametrize("signed", [False, True])
def test_a_window_does_what_pydicom_does(function, centre, width, signed):
    array = ramp(signed=signed)
    centre -= 2048 if signed else 0
    header = {"WindowCenter": centre, "WindowWidth": width, "VOILUTFunction": function}
    dataset = Dataset()
    dataset.PhotometricInterpretation, dataset.BitsStored = "MONOCHROME2", 12
    dataset.PixelRepresentation = int(signed)
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    with np.errstate(over="ignore"):
        windowed = apply_voi_lut(array, dataset)
    low, high = (-2048, 2047) if signed else (0, 4095)
    pixels = rendered(film(array, bits=12, **header))
    assert np.abs(pixels - expected(array, (windowed - low) / (high - low))).max() <= 1


def test_a_window_of_width_one_is_a_threshold():
    pixels = rendered(film(ramp(), bits=12, WindowCenter=100, WindowWidth=1)).ravel()
    assert set(pixels[:100]) == {0}
    assert set(pixels[100:]) == {65535}


def test_the_first_of_several_windows_is_used():
    single = rendered(film(ramp(), bits=12, WindowCenter=1000, WindowWidth=500))
    first = rendered(film(ramp(), bits=12, WindowCenter=[1000, 7], WindowWidth=[500, 9]))
    np.testing.assert_array_equal(single, first)


NOTHING_SHOWN = {
    "width 1": {"WindowCenter": 500, "WindowWidth": 1},
    "of 8 bits for 10": {"WindowCenter": 128, "WindowWidth": 256},
    "far above": {"WindowCenter": 30000, "WindowWidth": 1000},
    "a LUT of 8 bits for 10": {"VOILUTSequence": [lut_item(np.arange(256), 0, 8)]},
    "a LUT of one entry": {"VOILUTSequence": [lut_item([7], 0, 8)]},
}


@pytest.mark.parametrize("name", NOTHING_SHOWN)
@pytest.mark.parametrize("syntax", [EXPLICIT, JPEG_2000_LOSSLESS])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_or_lut_that_shows_nothing_is_not_used(name, syntax, photometric, read_bytes):
    header = {"PhotometricInterpretation": photometric}
    usual = read_bytes(film(radiograph_like(), syntax, bits=10, **header))
    data = film(radiograph_like(), syntax, bits=10, **header, **NOTHING_SHOWN[name])
    film_read = read_bytes(data)
    assert film_read.marks - usual.marks == {Mark.WINDOW_UNUSABLE}
    np.testing.assert_array_equal(film_read.pixels, usual.pixels)
    np.testing.assert_array_equal(film_read.overview.pixels, usual.overview.pixels)


@pytest.mark.parametrize(
    "header",
    [
        {"WindowCenter": 511, "WindowWidth": 1024},
        {"WindowCenter": 600, "WindowWidth": 500},
        {"WindowCenter": 32768, "WindowWidth": 65536},
        {"VOILUTSequence": [lut_item(np.arange(1024) // 4, 0, 8)]},
        {"WindowCenter": 500, "WindowWidth": 0},
        {},
    ],
    ids=str,
)
def test_a_window_that_shows_the_film_is_used_without_a_mark(header, read_bytes):
    data = film(radiograph_like(), bits=10, **header)
    assert not read_bytes(data).marks
    np.testing.assert_array_equal(read_bytes(data).pixels, rendered(data))


def radiograph_like(bits=10, shape=(600, 520)):
    """Bones within a body before dark air, with noise."""
    y, x = (index / length for index, length in zip(np.indices(shape), shape, strict=True))
    body = np.clip(3.0 - np.abs(x - 0.5) * 8, 0, 1) * (0.28 + 0.15 * y)
    bones = np.where(np.abs(np.abs(x - 0.5) - 0.15) < 0.05, 0.5, 0.0)
    noise = np.random.default_rng(3).normal(0, 0.01, shape)
    values = np.where(body > 0, body + bones + noise, 0.0)
    return np.rint(np.clip(values, 0, 1) * ((1 << bits) - 1)).astype(np.uint16)


@pytest.mark.parametrize("kind", ["DICOM", "JPEG 2000", "PNG"])
def test_a_film_whose_pixels_contradict_its_polarity_is_marked(kind, read_bytes):
    shown = radiograph_like()
    for values, marks in [(shown, set()), (1023 - shown, {Mark.POLARITY_DOUBTFUL})]:
        if kind == "PNG":
            buffer = BytesIO()
            Image.fromarray((values >> 2).astype(np.uint8)).save(buffer, "PNG")
            data = buffer.getvalue()
        else:
            data = film(values, EXPLICIT if kind == "DICOM" else JPEG_2000_LOSSLESS, bits=10)
        assert read_bytes(data).marks == marks
        if kind != "PNG":  # and turned over by its header it is right
            other = film(values, bits=10, PhotometricInterpretation="MONOCHROME1")
            assert read_bytes(other).marks == {Mark.POLARITY_DOUBTFUL} - marks


def test_no_true_film_is_marked_for_its_polarity_and_most_that_are_turned_over_are(
    shared_data, read_bytes
):
    paths = sorted((shared_data / "fracatlas").glob("*/*.jpg"))[::8]
    turned = []
    for path in paths:
        assert not read_bytes(path.read_bytes()).marks, path.name
        values = 255 - np.asarray(Image.open(path).convert("L"))
        turned.append(Mark.POLARITY_DOUBTFUL in read_bytes(film(values)).marks)
    assert len(turned) > 50
    assert np.mean(turned) > 0.6


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 9, "WindowWidth": 0}, {"WindowWidth": 9}])
def test_without_a_usable_window_the_films_own_range_is_spread(window, read_bytes):
    array = (ramp() // 4 + 100).astype(np.uint16)
    pixels = read_bytes(film(array, bits=12, **window)).pixels
    np.testing.assert_array_equal(
        pixels, expected(array, (array - array.min()) / (int(array.max()) - array.min()))
    )


def test_a_film_of_one_value_is_black(read_bytes):
    assert read_bytes(film(np.full((8, 8), 700, np.uint16))).pixels.max() == 0


@pytest.mark.parametrize("shape", [None, "INVERSE"])
def test_monochrome1_is_turned_over_once(shape, read_bytes):
    header = {"PresentationLUTShape": shape} if shape else {}
    bright = read_bytes(film(ramp(), bits=12, WindowCenter=1000, WindowWidth=500)).pixels
    dark = read_bytes(
        film(
            ramp(),
            bits=12,
            WindowCenter=1000,
            WindowWidth=500,
            PhotometricInterpretation="MONOCHROME1",
            **header,
        )
    ).pixels
    np.testing.assert_array_equal(dark, 65535 - bright)


def test_an_inverse_presentation_lut_turns_monochrome2_over(read_bytes):
    bright = read_bytes(film(ramp(), bits=12)).pixels
    dark = read_bytes(film(ramp(), bits=12, PresentationLUTShape="INVERSE")).pixels
    np.testing.assert_array_equal(dark, 65535 - bright)


def test_the_window_applies_to_rescaled_values():
    header = {"RescaleSlope": 2.5, "RescaleIntercept": -1000}
    pixels = rendered(film(ramp(), bits=12, WindowCenter=1000.5, WindowWidth=2001, **header))
    rescaled = ramp() * 2.5 - 1000
    np.testing.assert_allclose(pixels, expected(ramp(), rescaled / 2000), atol=1)


def test_a_falling_rescale_turns_the_film_over(read_bytes):
    pixels = read_bytes(film(ramp(), bits=12, RescaleSlope=-1, RescaleIntercept=4095)).pixels
    np.testing.assert_array_equal(pixels, expected(ramp(), (4095 - ramp()) / 4095))


@pytest.mark.parametrize("slope", ["0", "nan", "inf"])
def test_a_rescale_slope_that_is_none_is_refused(slope, read_bytes):
    data = film(ramp(), bits=12, RescaleSlope="7.25", RescaleIntercept="0")
    with pytest.raises(Refused) as info:
        read_bytes(data.replace(b"7.25", slope.ljust(4).encode()))
    assert info.value.code is Code.UNSUPPORTED_PIXELS


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("first", [0, 1000])
def test_a_voi_lut_does_what_pydicom_does(syntax, first, read_bytes):
    item = lut_item(np.arange(2048) ** 2 % 65536, first, 16)
    dataset = Dataset()
    dataset.PixelRepresentation, dataset.BitsStored = 0, 12
    dataset.VOILUTSequence = [item]
    looked_up = apply_voi_lut(ramp(), dataset)
    pixels = read_bytes(film(ramp(), syntax, bits=12, VOILUTSequence=[item])).pixels
    np.testing.assert_array_equal(pixels, looked_up)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_lut_data_may_be_words_in_bytes(syntax, read_bytes):
    entries = np.arange(4096)[::-1]
    plain = film(ramp(), syntax, bits=12, VOILUTSequence=[lut_item(entries, 0, 12)])
    packed = film(ramp(), syntax, bits=12, VOILUTSequence=[lut_item(entries, 0, 12, vr="OW")])
    np.testing.assert_array_equal(read_bytes(plain).pixels, read_bytes(packed).pixels)
    np.testing.assert_array_equal(
        read_bytes(plain).pixels, expected(ramp(), (4095 - ramp()) / 4095)
    )


def test_lut_data_of_8_bits_may_be_packed_two_to_a_word(read_bytes):
    array = ramp(8)
    packed = Dataset()
    packed.add_new("LUTDescriptor", "US", [256, 0, 8])
    packed.add_new("LUTData", "OW", bytes(range(256))[::-1])
    pixels = read_bytes(film(array, VOILUTSequence=[packed])).pixels
    np.testing.assert_array_equal(pixels, expected(array, (255 - array) / 255))


def test_a_voi_lut_goes_before_a_window(read_bytes):
    item = lut_item(np.arange(4096), 0, 12)
    both = film(ramp(), bits=12, VOILUTSequence=[item], WindowCenter=9, WindowWidth=2)
    np.testing.assert_array_equal(read_bytes(both).pixels, expected(ramp(), ramp() / 4095))


def test_a_voi_lut_of_signed_values_starts_below_zero(read_bytes):
    array = ramp(signed=True)
    item = lut_item(np.arange(4096), -2048, 12)
    pixels = read_bytes(film(array, bits=12, VOILUTSequence=[item])).pixels
    np.testing.assert_array_equal(pixels, expected(array, (array + 2048) / 4095))


def test_a_modality_lut_does_what_pydicom_does(read_bytes):
    item = lut_item(np.sqrt(np.arange(4096)) * 1000, 0, 16)
    item.ModalityLUTType = "US"
    dataset = Dataset()
    dataset.PixelRepresentation, dataset.BitsStored = 0, 12
    dataset.ModalityLUTSequence = [item]
    looked_up = apply_modality_lut(ramp(), dataset).astype(float)
    pixels = read_bytes(film(ramp(), bits=12, ModalityLUTSequence=[item])).pixels
    np.testing.assert_array_equal(
        pixels, expected(ramp(), (looked_up - looked_up.min()) / np.ptp(looked_up))
    )


def test_a_lut_without_entries_is_as_none(read_bytes):
    item = lut_item([1], 0, 16)
    del item.LUTData
    pixels = read_bytes(film(ramp(), bits=12, VOILUTSequence=[item])).pixels
    np.testing.assert_array_equal(pixels, expected(ramp(), ramp() / 4095))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
def test_padding_is_black_and_not_part_of_the_range(photometric, signed, read_bytes):
    padding = -2000 if signed else 4000
    array = np.full((8, 8), padding, np.int16 if signed else np.uint16)
    array[2:6, 2:6] = np.arange(16).reshape(4, 4) + 100
    data = film(array, bits=12, PhotometricInterpretation=photometric)
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
    dataset.add_new("PixelPaddingValue", "SS" if signed else "US", padding)
    buffer = pydicom.filebase.DicomBytesIO()
    dataset.save_as(buffer)
    pixels = read_bytes(buffer.getvalue()).pixels
    inside = pixels[2:6, 2:6].ravel().astype(int)
    assert pixels[0].max() == pixels[:, 7].max() == 0
    assert sorted(inside[[0, -1]]) == [0, 65535]
    assert bool(inside[0] == 0) == (photometric == "MONOCHROME2")


def test_padding_may_be_a_range_in_either_order(read_bytes):
    array = ramp()
    for value, limit in [(0, 50), (50, 0)]:
        pixels = read_bytes(
            film(array, bits=12, PixelPaddingValue=value, PixelPaddingRangeLimit=limit)
        ).pixels
        flat = pixels.ravel()
        assert flat[:52].max() == 0
        assert flat[52] == round(65535 / (4095 - 51))
        assert flat[-1] == 65535


def test_a_film_that_is_all_padding_is_black(read_bytes):
    data = film(np.full((8, 8), 9, np.uint16), PixelPaddingValue=9)
    assert read_bytes(data).pixels.max() == 0


@pytest.fixture
def colours():
    y, x = np.mgrid[:32, :48]
    return np.stack([y * 7, x * 5, (x + y) * 3], -1).astype(np.uint8)


def spread(luminance):
    low, high = float(luminance.min()), float(luminance.max())
    return (luminance - low) / (high - low) * 65535


@pytest.mark.parametrize("syntax", [EXPLICIT, RLE, JPEG_LOSSLESS, JPEG_2000_LOSSLESS])
def test_rgb_becomes_luminance(syntax, colours, read_bytes):
    luminance = np.rint(colours @ [0.299, 0.587, 0.114])
    pixels = read_bytes(film(colours, syntax)).pixels
    np.testing.assert_allclose(pixels, spread(luminance), atol=1)


def test_the_first_component_of_ybr_is_luminance(colours, read_bytes):
    data = film(colours, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(read_bytes(data).pixels, spread(colours[..., 0]), atol=1)


def test_subsampled_native_ybr_has_two_luminances_to_a_pair(colours, read_bytes):
    luminance = colours[..., 0]
    pairs = np.zeros((luminance.size // 2, 4), np.uint8)
    pairs[:, :2] = luminance.reshape(-1, 2)
    data = film(colours, PhotometricInterpretation="YBR_FULL_422", pixel_data=pairs.tobytes())
    np.testing.assert_allclose(read_bytes(data).pixels, spread(luminance), atol=1)


@pytest.mark.parametrize(
    ("columns", "missing", "code"), [(47, 0, Code.UNSUPPORTED_PIXELS), (48, 4, Code.TRUNCATED)]
)
def test_subsampled_ybr_comes_in_whole_pairs(columns, missing, code, read_bytes):
    array = np.zeros((31, columns, 3), np.uint8)
    value = bytes(31 * columns * 2 - missing)
    with pytest.raises(Refused) as info:
        read_bytes(film(array, PhotometricInterpretation="YBR_FULL_422", pixel_data=value))
    assert info.value.code is code


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "YBR_FULL", "RGB"])
def test_a_jpegs_own_markers_say_what_its_components_are(photometric, colours, read_bytes):
    """JFIF means YCbCr, also where a header says RGB, as converters write it."""
    data = film(colours, JPEG_BASELINE, PhotometricInterpretation=photometric)
    luminance = np.rint(colours @ [0.299, 0.587, 0.114])
    np.testing.assert_allclose(read_bytes(data).pixels, spread(luminance), atol=6 * 257)


def test_jpeg_2000s_own_colour_transform_is_undone(colours, read_bytes):
    frame = encode(colours, JPEG_2000_LOSSLESS, 8)
    for photometric in ("YBR_RCT", "RGB", "YBR_FULL"):
        data = film(
            colours,
            JPEG_2000_LOSSLESS,
            PhotometricInterpretation=photometric,
            fragments=[frame],
        )
        luminance = np.rint(colours @ [0.299, 0.587, 0.114])
        np.testing.assert_allclose(read_bytes(data).pixels, spread(luminance), atol=1)


def palette(bits):
    scale = 1 if bits == 8 else 257
    reds, greens, blues = (np.arange(256)[::-1], np.arange(256), np.full(256, 128))
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, entries in [("Red", reds), ("Green", greens), ("Blue", blues)]:
        prefix = f"{name}PaletteColorLookupTable"
        elements[f"{prefix}Descriptor"] = [256, 0, bits]
        data = entries.astype(np.uint8) if bits == 8 else (entries * scale).astype("<u2")
        elements[f"{prefix}Data"] = data.tobytes()
    return elements, 0.299 * reds + 0.587 * greens + 0.114 * blues


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_becomes_luminance(bits, read_bytes):
    elements, luminance = palette(bits)
    array = ramp(8)
    pixels = read_bytes(film(array, **elements)).pixels
    np.testing.assert_allclose(pixels, spread(luminance[array]), atol=1)


def test_a_palette_that_is_missing_is_refused(read_bytes):
    with pytest.raises(Refused) as info:
        read_bytes(film(ramp(8), PhotometricInterpretation="PALETTE COLOR"))
    assert info.value.code is Code.UNSUPPORTED_PIXELS


def test_rg2_is_windowed_as_its_header_says(shared_data, read_bytes):
    path = shared_data / "wg04" / "RG2_UNC.dcm"
    dataset = pydicom.dcmread(path)
    windowed = apply_voi_lut(dataset.pixel_array, dataset, prefer_lut=False)
    pixels = read_bytes(path.read_bytes()).pixels
    assert np.abs(pixels - windowed / 1023 * 65535).max() < 1


def test_bone_is_bright_on_a_monochrome1_film(shared_data, read_bytes):
    pixels = read_bytes((shared_data / "wg04" / "RG3_JPLL_tibia.dcm").read_bytes()).pixels
    tibia, air = pixels[400:900, 800:860], pixels[400:900, 470:530]
    assert np.median(tibia) > 2 * np.median(air)
