"""Of JPEG 2000 and HTJ2K no more is decoded than is asked for, to the values of other encodings."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import dicom_films
import imagecodecs
import numpy as np
import PIL
import pytest
from dicom_films import (
    EXPLICIT,
    HAS_HTJ2K,
    HTJ2K,
    HTJ2K_LOSSLESS,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    encode,
    film,
)

from hipedge.dicom import openjpeg
from hipedge.dicom.codecs import CODECS
from hipedge.dicom.partial import FEWEST_BITS, CodedPixels
from hipedge.dicom.read import read
from hipedge.errors import Code, Refused
from hipedge.imaging.prepare import resample_area
from hipedge.types import Area, Box

pytestmark = pytest.mark.skipif(
    openjpeg.library() is None, reason="no OpenJPEG 2.5: films are decoded whole"
)

SHAPE = (1037, 1290)
PARTIAL = (JPEG_2000_LOSSLESS, JPEG_2000, *((HTJ2K_LOSSLESS, HTJ2K) if HAS_HTJ2K else ()))
LOSSLESS = (JPEG_2000_LOSSLESS, *((HTJ2K_LOSSLESS,) if HAS_HTJ2K else ()))
EVERY_LOSSLESS = dicom_films.LOSSLESS
SOMEWHERE = Box(301.3, 222.2, 799.0, 721.9)
EVERYWHERE = Box(0, 0, SHAPE[1], SHAPE[0])


def ramp(bits=12, *, signed=False, shape=SHAPE):
    """Values that say where they are: they grow evenly to the right and down."""
    y, x = np.indices(shape) + 0.5
    share = (2 * x / shape[1] + y / shape[0]) / 3
    values = np.rint((0.05 + 0.9 * share) * ((1 << bits) - 1)).astype(np.int32)
    return (values - (1 << bits - 1)).astype(np.int16) if signed else values.astype(np.uint16)


def texture(bits=12, shape=SHAPE):
    rng = np.random.default_rng(bits)
    noise = rng.normal(0, 0.01 * (1 << bits), shape)
    return np.clip(ramp(bits, shape=shape) + noise, 0, (1 << bits) - 1).astype(np.uint16)


@pytest.fixture
def by_openjpeg(tmp_path):
    """Encode 16 bits with OpenJPEG's own encoder, whose options lay the codestream out."""
    if not shutil.which("opj_compress"):
        pytest.skip("opj_compress (libopenjp2-tools) not installed")

    def encode_with(values, *options):
        height, width = values.shape
        source, target = tmp_path / "film.pgm", tmp_path / "film.j2k"
        source.write_bytes(b"P5\n%d %d\n65535\n" % (width, height) + values.astype(">u2").tobytes())
        command = ["opj_compress", "-i", source, "-o", target, *options]
        subprocess.run(command, check=True, capture_output=True)
        return target.read_bytes()

    return encode_with


def assert_lies_where_it_says(area, whole, *, tolerance):
    """Hold each pixel against the whole film's at the place where the area has it."""
    height, width = area.pixels.shape
    x0, y0 = area.on_film((0.5, 0.5))
    x = np.clip(x0 + area.step_px * np.arange(width), 0.5, whole.shape[1] - 0.5) - 0.5
    y = np.clip(y0 + area.step_px * np.arange(height), 0.5, whole.shape[0] - 0.5) - 0.5
    rows, columns = np.floor(y).astype(int), np.floor(x).astype(int)
    here = whole[np.ix_(rows, columns)].astype(float)
    after = whole[
        np.ix_(
            np.minimum(rows + 1, whole.shape[0] - 1), np.minimum(columns + 1, whole.shape[1] - 1)
        )
    ]
    expected = here + (after - here) * ((y - rows)[:, None] + (x - columns)) / 2
    # The filters reach over the film's border, where it is mirrored.
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(area.pixels - expected)[inner].max() <= tolerance


def assert_same_area(area, known):
    np.testing.assert_array_equal(area.pixels, known.pixels)
    assert (area.origin_px, area.step_px) == (known.origin_px, known.step_px)


def windowed(values, syntax, *, bits=16, **elements):
    """A film whose window is the range of all that can be stored, wherever it is decoded."""
    low = -(1 << bits - 1) if values.dtype.kind == "i" else 0
    width = 1 << bits
    window = {"WindowCenter": low + width // 2, "WindowWidth": width}
    return film(values, syntax, bits=bits, **window | elements)


@pytest.mark.parametrize("syntax", PARTIAL)
@pytest.mark.parametrize("step_px", [1.0, 2.9, 4.0])
@pytest.mark.parametrize("box", [EVERYWHERE, SOMEWHERE])
def test_pixels_lie_where_the_area_says(syntax, step_px, box, read_bytes):
    radiograph = read_bytes(windowed(ramp(16), syntax))
    assert isinstance(radiograph.source, CodedPixels)
    area = radiograph.source.area(box, step_px)
    assert area.step_px <= step_px
    # The film grows by 30 from pixel to pixel and by 19 from line to line: both half off is 24.
    assert_lies_where_it_says(area, radiograph.pixels, tolerance=3 if syntax in LOSSLESS else 12)


@pytest.mark.parametrize(
    "layout",
    [
        "-n 2",
        "-n 3 -b 32,32",
        "-d 5,3",
        "-d 6,1 -n 4",
        "-t 512,512",
        "-t 37,41 -n 4",
        "-t 16,16 -n 3",
        "-t 300,200 -d 5,3 -T 4,2",
        "-p RLCP",
        "-p RPCL -c [256,256]",
        "-p CPRL -TP R",
        "-t 400,400 -TP R -PLT",
        "-SOP -EPH",
    ],
)
def test_a_codestream_may_be_laid_out_in_any_way(layout, by_openjpeg, read_bytes):
    values = ramp(16)
    frame = by_openjpeg(values, *layout.split())
    radiograph = read_bytes(windowed(values, JPEG_2000_LOSSLESS, fragments=[frame]))
    # Tiles, and an image that begins elsewhere on the grid, have other lower resolutions.
    in_part = not {"-t", "-d"} & set(layout.split())
    assert isinstance(radiograph.source, CodedPixels) == in_part
    np.testing.assert_array_equal(radiograph.pixels, values)
    plain = read_bytes(windowed(values, EXPLICIT))
    for box in (EVERYWHERE, SOMEWHERE):
        for step_px in (1.0, 2.9, 4.0):
            area = radiograph.source.area(box, step_px)
            assert_lies_where_it_says(area, values, tolerance=3)
            assert_same_area(area, plain.source.area(box, step_px))


@pytest.mark.skipif(not HAS_HTJ2K, reason="this imagecodecs has no HTJ2K encoder")
@pytest.mark.parametrize("options", [{"tile": (300, 200)}, {"tilepart": 1}, {"resolutions": 2}])
def test_htj2k_may_be_laid_out_in_any_way(options, read_bytes):
    frame = imagecodecs.htj2k_encode(ramp(16), reversible=True, **options)
    radiograph = read_bytes(windowed(ramp(16), HTJ2K_LOSSLESS, fragments=[frame]))
    assert isinstance(radiograph.source, CodedPixels) == ("tile" not in options)
    plain = read_bytes(windowed(ramp(16), EXPLICIT))
    for step_px in (1.0, 2.0, 4.0):
        area = radiograph.source.area(SOMEWHERE, step_px)
        assert_lies_where_it_says(area, radiograph.pixels, tolerance=3)
        assert_same_area(area, plain.source.area(SOMEWHERE, step_px))


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", range(1, 17))
def test_a_film_may_have_any_bits_and_sign(syntax, bits, signed, read_bytes):
    shape = (301, 402)
    values = ramp(bits, signed=signed, shape=shape)
    radiograph = read_bytes(windowed(values, syntax, bits=bits))
    plain = read_bytes(windowed(values, EXPLICIT, bits=bits))
    np.testing.assert_array_equal(radiograph.pixels, plain.pixels)
    area = radiograph.source.area(Box(0, 0, 402, 301), 1.0)
    height, width = area.pixels.shape
    assert (height, width) == shape
    np.testing.assert_array_equal(area.pixels, plain.pixels)


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", range(FEWEST_BITS, 17))
def test_a_film_of_any_bits_and_sign_may_be_decoded_at_a_lower_resolution(
    syntax, bits, signed, read_bytes
):
    values = ramp(bits, signed=signed, shape=(601, 1100))
    radiograph = read_bytes(windowed(values, syntax, bits=bits))
    plain = read_bytes(windowed(values, EXPLICIT, bits=bits))
    # The encoder of HTJ2K writes 8 or 16 bits, whatever Bits Stored is.
    assert isinstance(radiograph.source, CodedPixels)
    for step_px, step in ((2.0, 1), (4.0, 2), (8.0, 2)):
        area = radiograph.source.area(Box(200, 100, 900, 500), step_px)
        assert area.step_px == step
        assert_same_area(area, plain.source.area(Box(200, 100, 900, 500), step_px))
        # Filtered values are whole numbers too, and of few bits each is far from the next.
        assert_lies_where_it_says(area, plain.pixels, tolerance=3 + 2 * (65536 >> bits))


@pytest.mark.skipif(not HAS_HTJ2K, reason="this imagecodecs has no HTJ2K encoder")
@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        (SHAPE, slice(300, 500), slice(400, 700)),
        (SHAPE, slice(10, 70), slice(10, 210)),  # dark: hardly above what can be stored
        (SHAPE, slice(900, 910), slice(1100, 1140)),  # small and bright
        ((200, 240), slice(50, 53), slice(50, 53)),  # not halved for the overview
    ],
)
def test_samples_that_use_bits_above_the_stored_ones_are_decoded_whole(
    shape, rows, columns, read_bytes
):
    clean = texture(shape=shape)
    values = clean.copy()
    values[rows, columns] |= 1 << 12
    frame = imagecodecs.htj2k_encode(values, reversible=True)
    radiograph = read_bytes(windowed(clean, HTJ2K_LOSSLESS, bits=12, fragments=[frame]))
    plain = read_bytes(windowed(clean, EXPLICIT, bits=12))
    np.testing.assert_array_equal(radiograph.pixels, plain.pixels)
    assert radiograph.film.pixel_hash == plain.film.pixel_hash
    assert_same_area(radiograph.source.area(SOMEWHERE, 4.0), plain.source.area(SOMEWHERE, 4.0))


@pytest.mark.skipif(not HAS_HTJ2K, reason="this imagecodecs has no HTJ2K encoder")
def test_white_letters_on_black_use_no_bits_above_the_stored_ones(read_bytes):
    values = np.zeros(SHAPE, np.uint16)
    values[100:116:4, 100:300] = 4095
    values[130:160, 100:300:6] = 4095
    values[200:400, 300:600] = 4095
    radiograph = read_bytes(windowed(values, HTJ2K_LOSSLESS, bits=12))
    assert isinstance(radiograph.source, CodedPixels)
    plain = read_bytes(windowed(values, EXPLICIT, bits=12))
    assert_same_area(radiograph.source.area(SOMEWHERE, 4.0), plain.source.area(SOMEWHERE, 4.0))


@pytest.mark.parametrize("syntax", EVERY_LOSSLESS)
@pytest.mark.parametrize(
    ("photometric", "window"),
    [
        ("MONOCHROME1", {"WindowCenter": 2000, "WindowWidth": 1000}),
        pytest.param("MONOCHROME1", {}, marks=pytest.mark.slow),
        ("MONOCHROME2", {}),
        pytest.param(
            *("MONOCHROME2", {"WindowCenter": 2000, "WindowWidth": 1000}), marks=pytest.mark.slow
        ),
    ],
)
def test_every_lossless_encoding_has_the_same_overview_and_crops(
    syntax, window, photometric, read_bytes
):
    values = texture(12, shape=(1701, 1530))
    header = window | {"PhotometricInterpretation": photometric}
    coded = read_bytes(film(values, syntax, bits=12, **header))
    plain = read_bytes(film(values, EXPLICIT, bits=12, **header))
    assert_same_area(coded.overview, plain.overview)
    for step_px in (1.0, 3.1, 4.0, 9.0):
        for box in (Box(-90, -50, 400, 500), Box(301.3, 222.2, 1300.7, 1700.9)):
            assert_same_area(coded.source.area(box, step_px), plain.source.area(box, step_px))


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_bits_above_those_stored_are_no_part_of_a_value_in_any_path(syntax, read_bytes):
    """PS3.5 8.1.1: they may hold an old overlay, which no 60xx element announces."""
    clean = texture(10)
    overlaid = clean.copy()
    overlaid[300:500, 300:800] |= 1 << 10
    frame = encode(overlaid, syntax, 16)
    radiograph = read_bytes(windowed(clean, syntax, bits=10, fragments=[frame]))
    plain = read_bytes(windowed(clean, EXPLICIT, bits=10))
    assert_same_area(radiograph.overview, plain.overview)
    for step_px in (1.0, 4.0):
        assert_same_area(
            radiograph.source.area(SOMEWHERE, step_px), plain.source.area(SOMEWHERE, step_px)
        )
    np.testing.assert_array_equal(radiograph.pixels, plain.pixels)
    assert radiograph.film.pixel_hash == plain.film.pixel_hash


@pytest.mark.parametrize("shape", [(257, 1), (1, 600), (512, 512), (513, 1023), (1029, 259)])
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_a_film_may_have_any_size(syntax, shape, read_bytes):
    radiograph = read_bytes(windowed(ramp(16, shape=shape), syntax))
    overview = radiograph.overview
    assert max(overview.pixels.shape) >= 256
    np.testing.assert_array_equal(
        radiograph.source.area(Box(0, 0, shape[1], shape[0]), 1.0).pixels, radiograph.pixels
    )


def test_a_codestream_without_levels_is_decoded_whole(read_bytes):
    values = texture(16)
    frame = imagecodecs.jpeg2k_encode(values, codecformat="J2K", reversible=True, resolutions=1)
    radiograph = read_bytes(windowed(values, JPEG_2000_LOSSLESS, fragments=[frame]))
    assert not isinstance(radiograph.source, CodedPixels)
    np.testing.assert_array_equal(radiograph.pixels, read_bytes(windowed(values, EXPLICIT)).pixels)


@pytest.mark.parametrize("syntax", PARTIAL)
def test_a_frame_may_lie_in_several_fragments(syntax, read_bytes):
    frame = encode(texture(), syntax, 12)
    bounds = [0, 2, 1000, 1002, len(frame)]
    fragments = [frame[a:b] for a, b in pairwise(bounds)]
    joined = read_bytes(film(texture(), syntax, bits=12, fragments=fragments))
    single = read_bytes(film(texture(), syntax, bits=12))
    np.testing.assert_array_equal(joined.overview.pixels, single.overview.pixels)
    assert joined.film.pixel_hash == single.film.pixel_hash


@pytest.mark.parametrize("syntax", PARTIAL)
def test_an_end_marker_may_be_missing(syntax, read_bytes):
    frame = encode(texture(), syntax, 12)
    assert frame.rstrip(b"\0").endswith(b"\xff\xd9")
    cut = frame.rstrip(b"\0")[:-2]
    radiograph = read_bytes(film(texture(), syntax, bits=12, fragments=[cut]))
    whole = read_bytes(film(texture(), syntax, bits=12))
    np.testing.assert_array_equal(radiograph.overview.pixels, whole.overview.pixels)


@pytest.mark.parametrize("syntax", PARTIAL)
def test_the_whole_film_is_not_decoded_for_its_crops(syntax, read_bytes, monkeypatch):
    def never(coded):
        raise AssertionError("decoded in full")

    monkeypatch.setattr("hipedge.dicom.partial.decode_codestream", never)
    source = read_bytes(film(texture(16), syntax)).source
    source.area(SOMEWHERE, 4.0)
    with pytest.raises(AssertionError, match="in full"):
        source.whole()


@pytest.mark.parametrize("syntax", PARTIAL)
def test_the_hash_is_of_the_codestream_whatever_the_header(syntax, read_bytes):
    frame = encode(texture(16), syntax, 16)
    known, renamed, other = (
        read_bytes(film(texture(16), syntax, fragments=[data], Manufacturer=name)).film
        for data, name in ((frame, "A"), (frame, "B"), (frame + b"\0\0", "A"))
    )
    assert known.pixel_hash == renamed.pixel_hash != other.pixel_hash


@pytest.mark.parametrize("syntax", EVERY_LOSSLESS)
def test_the_hash_at_a_low_resolution_is_one_in_every_lossless_encoding(syntax, read_bytes):
    values = texture(16)
    plain, coded = (read_bytes(film(values, *s)).film for s in ((), (syntax,)))
    assert coded.overview_hash == plain.overview_hash is not None
    values[:64, :64] ^= 255
    other = read_bytes(film(values, syntax)).film
    assert other.overview_hash != coded.overview_hash


@pytest.mark.parametrize("share", np.linspace(0.02, 0.99, 25))
@pytest.mark.parametrize("syntax", PARTIAL)
def test_a_codestream_cut_short_is_refused_when_it_is_read(syntax, share, read_bytes):
    frame = encode(texture(), syntax, 12)
    cut = frame[: 2 * int(share * len(frame) / 2)]
    with pytest.raises(Refused) as refused:
        read_bytes(film(texture(), syntax, bits=12, fragments=[cut]))
    assert refused.value.code in (Code.TRUNCATED, Code.DECODE_FAILED)


@pytest.mark.skipif(not HAS_HTJ2K, reason="this imagecodecs has no HTJ2K encoder")
@pytest.mark.parametrize("options", [{"tile": (300, 200)}, {"tilepart": 1}])
def test_a_codestream_that_lacks_whole_tile_parts_is_truncated(options, read_bytes):
    frame = imagecodecs.htj2k_encode(texture(), reversible=True, **options)
    last = frame.rindex(b"\xff\x90\x00\x0a")
    for end in (frame[last:last], b"\xff\xd9"):
        data = film(texture(), HTJ2K_LOSSLESS, bits=12, fragments=[frame[:last] + end])
        with pytest.raises(Refused) as refused:
            read_bytes(data)
        assert refused.value.code is Code.TRUNCATED


def test_damage_to_finer_levels_is_not_seen_at_coarser_ones(read_bytes):
    """No codestream has a checksum: a full decoder shows what is damaged, this one sees none."""
    frame = bytearray(encode(texture(), JPEG_2000_LOSSLESS, 12))
    sound = read_bytes(film(texture(), JPEG_2000_LOSSLESS, bits=12))
    frame[int(0.9 * len(frame))] ^= 0x55  # coarser levels come first
    damaged = read_bytes(film(texture(), JPEG_2000_LOSSLESS, bits=12, fragments=[bytes(frame)]))
    np.testing.assert_array_equal(damaged.overview.pixels, sound.overview.pixels)
    assert not np.array_equal(damaged.pixels, sound.pixels)


def test_what_openjpeg_refuses_is_not_tried_with_another_decoder(read_bytes, monkeypatch):
    def refuse(*_):
        raise openjpeg.OpenJpegError("refused")

    def never(coded):
        raise AssertionError("tried again")

    monkeypatch.setattr("hipedge.dicom.partial.decode_codestream", never)
    codec = replace(CODECS[JPEG_2000_LOSSLESS], decode_area=refuse)
    monkeypatch.setattr("hipedge.dicom.pixels.CODECS", {JPEG_2000_LOSSLESS: codec})
    with pytest.raises(Refused) as refused:
        read_bytes(film(texture(), JPEG_2000_LOSSLESS, bits=12))
    assert refused.value.code is Code.DECODE_FAILED


def test_without_openjpeg_the_film_is_decoded_whole(read_bytes, monkeypatch):
    codec = replace(CODECS[JPEG_2000_LOSSLESS], decode_area=None)
    monkeypatch.setattr("hipedge.dicom.pixels.CODECS", {JPEG_2000_LOSSLESS: codec})
    radiograph = read_bytes(film(texture(), JPEG_2000_LOSSLESS, bits=12))
    plain = read_bytes(film(texture(), EXPLICIT, bits=12))
    assert not isinstance(radiograph.source, CodedPixels)
    np.testing.assert_array_equal(radiograph.overview.pixels, plain.overview.pixels)
    assert radiograph.film.pixel_hash == plain.film.pixel_hash


def test_pillows_library_is_preferred_to_the_systems(tmp_path):
    """Debian's has assertions, which end the process on damaged HTJ2K."""
    bundled = list((Path(PIL.__file__).parents[1] / "pillow.libs").glob("libopenjp2-*.so*"))
    if not bundled:
        pytest.skip("this Pillow brings no OpenJPEG")
    shutil.copy(bundled[0], tmp_path / openjpeg.SONAME)
    code = (
        "from hipedge.dicom import openjpeg; print(openjpeg.version());"
        "print(open('/proc/self/maps').read())"
    )
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    loaded = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert loaded.startswith("2.")
    assert str(bundled[0]) in loaded
    assert str(tmp_path) not in loaded


@pytest.mark.parametrize("syntax", PARTIAL)
def test_a_damaged_codestream_is_decoded_or_refused(syntax, read_bytes):
    values = texture(shape=(520, 530))
    frame = encode(values, syntax, 12)
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(frame)
        for position in rng.integers(0, len(frame) if rng.random() < 0.5 else 200, 3):
            damaged[position] = rng.integers(256)
        data = film(values, syntax, bits=12, fragments=[bytes(damaged)])
        assert outcome(data, read_bytes) in (
            "decoded",
            Code.DECODE_FAILED,
            Code.UNSUPPORTED_PIXELS,
            Code.TRUNCATED,
        )


def outcome(data, read_bytes):
    try:
        read_bytes(data).source.area(Box(100, 100, 300, 300), 1.0)
    except Refused as refused:
        return refused.code
    return "decoded"


@pytest.mark.parametrize(
    "elements",
    [{"PixelPaddingValue": 0}, {"OverlayBitPosition": 12}, {"PixelRepresentation": 1}],
    ids=str,
)
def test_what_cannot_be_averaged_is_decoded_whole(elements, read_bytes):
    frame = encode(texture(16), JPEG_2000_LOSSLESS, 16)
    position = elements.pop("OverlayBitPosition", None)
    if position:
        values = texture(12) | 0x1000
        data = with_overlay_bit(film(values, EXPLICIT, bits=12), position)
        encoded = encode(values, JPEG_2000_LOSSLESS, 13)
        coded = with_overlay_bit(
            film(values, JPEG_2000_LOSSLESS, bits=12, fragments=[encoded]), position
        )
    else:
        data = film(texture(16), EXPLICIT, bits=16, **elements)
        coded = film(texture(16), JPEG_2000_LOSSLESS, bits=16, fragments=[frame], **elements)
    plain, radiograph = read_bytes(data), read_bytes(coded)
    assert not isinstance(radiograph.source, CodedPixels)
    np.testing.assert_array_equal(radiograph.pixels, plain.pixels)
    np.testing.assert_array_equal(
        radiograph.source.area(SOMEWHERE, 4.0).pixels, plain.source.area(SOMEWHERE, 4.0).pixels
    )


def with_overlay_bit(data, position):
    """Put Overlay Bit Position (6000,0102) before Pixel Data of a film in Explicit VR."""
    element = b"\x00\x60\x02\x01US\x02\x00" + position.to_bytes(2, "little")
    at = data.index(b"\xe0\x7f\x10\x00O")
    return data[:at] + element + data[at:]


@pytest.mark.parametrize("name", ["J2KR", "J2KI"])
def test_rg2s_pixels_lie_where_the_area_says(name, shared_data):
    coded, plain = (read(shared_data / "wg04" / f"RG2_{n}.dcm") for n in (name, "UNC"))
    assert isinstance(coded.source, CodedPixels)
    box = Box(302, 301, 1102, 1101)
    for step_px in (2.0, 4.0, 8.0):
        area, known = coded.source.area(box, step_px), plain.source.area(box, 1.0)
        moved = [
            np.abs(seen_through(area, box, shift) - seen_through(known, box, 0.0)).mean()
            for shift in (-1.0, -0.5, 0.0, 0.5, 1.0)
        ]
        assert int(np.argmin(moved)) == 2, moved


def seen_through(area, box, shift_px):
    """An area averaged over cells of 25 pixels of the film, as if it lay elsewhere by a shift."""
    moved = Area(area.pixels, tuple(o + shift_px for o in area.origin_px), area.step_px)
    return resample_area(moved, box, (2140, 1760), 32)
