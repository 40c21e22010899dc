"""Damaged frames are refused or marked; sound ones are neither."""

from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from dicom_films import (
    EXPLICIT,
    HAS_HTJ2K,
    HTJ2K,
    HTJ2K_LOSSLESS,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    JPEG_LS_NEAR,
    NATIVE,
    RLE,
    encode,
    film,
)
from PIL import Image

from hipedge.dicom import read
from hipedge.dicom.seams import has_seam
from hipedge.errors import Code, Refused
from hipedge.types import Mark

JPEG = (JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1)
WAVELET = (JPEG_2000_LOSSLESS, JPEG_2000, *((HTJ2K_LOSSLESS, HTJ2K) if HAS_HTJ2K else ()))
COMPRESSED = (*JPEG, JPEG_LS, JPEG_LS_NEAR, RLE, *WAVELET)
WRONG = 0.01


def bits_of(syntax):
    return 8 if syntax == JPEG_BASELINE else 12


def body(syntax, shape=(401, 362)):
    """A soft shape before dark air, with the noise of a detector."""
    y, x = (2 * index / length - 1 for index, length in zip(np.indices(shape), shape, strict=True))
    values = np.clip(1.2 - x**2 - y**2, 0.02, 0.95) * (1 + 0.2 * np.sin(9 * x) * np.cos(7 * y))
    values += np.random.default_rng(1).normal(0, 0.006, shape)
    bits = bits_of(syntax)
    scaled = np.rint(np.clip(values / 1.2, 0, 1) * ((1 << bits) - 1))
    return scaled.astype(np.uint8 if bits == 8 else np.uint16)


def as_film(syntax, frame):
    return film(body(syntax), syntax, bits=bits_of(syntax), fragments=[frame])


def outcome(read_bytes, data):
    """Return the refusal's code, or the film's marks once all of it is decoded, and its pixels."""
    try:
        radiograph = read_bytes(data)
        pixels = radiograph.pixels
    except Refused as refused:
        return refused.code, None
    return radiograph.marks, pixels


@pytest.mark.promise(18)
@pytest.mark.parametrize("syntax", [*NATIVE, *COMPRESSED])
def test_a_sound_film_is_not_marked(syntax, read_bytes):
    array = body(syntax)
    marks, _ = outcome(read_bytes, film(array, syntax, bits=bits_of(syntax)))
    assert marks == frozenset()


@pytest.mark.parametrize("syntax", JPEG)
@pytest.mark.parametrize("shape", [(16, 16), (17, 33), (64, 8), (7, 100), (203, 1)])
@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_a_flat_or_small_film_is_not_marked(syntax, shape, value, read_bytes):
    array = np.full(shape, value, np.uint8)
    assert outcome(read_bytes, film(array, syntax, bits=8))[0] == frozenset()


@pytest.mark.promise(18)
@pytest.mark.parametrize("syntax", JPEG)
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9])
def test_a_jpeg_that_is_closed_too_early_is_refused(syntax, share, read_bytes):
    frame = encode(body(syntax), syntax, bits_of(syntax))
    cut = frame[: int(share * len(frame))] + b"\xff\xd9"
    assert outcome(read_bytes, as_film(syntax, cut))[0] in (Code.TRUNCATED, Code.DECODE_FAILED)


@pytest.mark.parametrize("syntax", JPEG)
def test_a_jpeg_whose_last_row_is_incomplete_is_marked(syntax, read_bytes):
    frame = encode(body(syntax), syntax, bits_of(syntax))
    end = frame.rindex(b"\xff\xd9")
    marks, _ = outcome(read_bytes, as_film(syntax, frame[: end - 12] + b"\xff\xd9"))
    assert marks == {Mark.DAMAGED_PIXELS}
    # Known with the film, so that a refusal by a later stage keeps it.
    film_read = read_bytes(as_film(syntax, frame[: end - 12] + b"\xff\xd9")).film
    assert film_read.marks == {Mark.DAMAGED_PIXELS}


@pytest.mark.parametrize("syntax", JPEG)
def test_a_jpeg_with_more_data_than_rows_is_marked(syntax, read_bytes):
    array = body(syntax)
    taller = np.concatenate([array, array[:8]])
    frame = bytearray(encode(taller, syntax, bits_of(syntax)))
    height = len(taller).to_bytes(2, "big") + array.shape[1].to_bytes(2, "big")
    frame[frame.index(height) : frame.index(height) + 2] = len(array).to_bytes(2, "big")
    assert outcome(read_bytes, as_film(syntax, bytes(frame)))[0] == {Mark.DAMAGED_PIXELS}


def test_jpeg_restart_markers_must_be_in_order(read_bytes):
    buffer = BytesIO()
    Image.fromarray(body(JPEG_BASELINE)).save(buffer, "JPEG", quality=95, restart_marker_rows=5)
    frame = buffer.getvalue()
    assert outcome(read_bytes, as_film(JPEG_BASELINE, frame))[0] == frozenset()
    for number in (0xD1, 0xD4):
        at = frame.index(bytes([0xFF, number]))
        exchanged = frame[: at + 1] + bytes([0xD0 + (number + 2) % 8]) + frame[at + 2 :]
        damaged, _ = outcome(read_bytes, as_film(JPEG_BASELINE, exchanged))
        assert damaged in ({Mark.DAMAGED_PIXELS}, Code.TRUNCATED)


def test_lossless_values_beyond_the_frames_bits_are_damage(read_bytes):
    frame = bytearray(encode(body(JPEG_LOSSLESS_SV1), JPEG_LOSSLESS_SV1, 12))
    at = frame.index(b"\xff\xc3")
    assert frame[at + 4] == 12
    frame[at + 4] = 11  # the same data, for values half as large
    data = film(body(JPEG_LOSSLESS_SV1), JPEG_LOSSLESS_SV1, bits=11, fragments=[bytes(frame)])
    assert outcome(read_bytes, data)[0] == {Mark.DAMAGED_PIXELS}


def test_a_step_between_rows_of_blocks_is_a_seam_and_an_edge_is_none():
    array = body(JPEG_EXTENDED, (800, 640)).astype(int)
    assert not has_seam(array, 12)
    row, column = 400, 272
    stepped = array.copy()
    stepped[row : row + 8, column:] += 330
    stepped[row + 8 :] += 330
    assert has_seam(stepped, 12)
    shutter, shadow = array.copy(), array.copy()
    shutter[row:] = 0
    shadow[: row + 8] = 4000
    assert not has_seam(shutter, 12)
    assert not has_seam(shadow, 12)


@pytest.mark.parametrize("syntax", [JPEG_2000_LOSSLESS, JPEG_2000])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_damaged_code_block_is_noticed_when_it_is_decoded(syntax, share, read_bytes):
    frame = bytearray(encode(body(syntax), syntax, 12))
    at = int(share * len(frame))
    frame[at : at + 8] = bytes(byte ^ 0x5A for byte in frame[at : at + 8])
    found, _ = outcome(read_bytes, as_film(syntax, bytes(frame)))
    assert found in ({Mark.DAMAGED_PIXELS}, Code.DECODE_FAILED)


@pytest.mark.parametrize("syntax", WAVELET)
def test_bytes_inserted_before_the_end_marker_are_noticed(syntax, read_bytes):
    frame = encode(body(syntax), syntax, 12)
    at = len(frame) // 2
    found, _ = outcome(read_bytes, as_film(syntax, frame[:at] + b"\x12\x34" + frame[at:]))
    assert found in ({Mark.DAMAGED_PIXELS}, Code.DECODE_FAILED, Code.TRUNCATED)


def test_rle_segments_of_different_lengths_are_refused(read_bytes):
    """Their sum is right: each byte of the second plane would lie one sample off."""
    array = np.arange(64, dtype=np.uint16).reshape(8, 8)
    frame = encode(array, RLE, 16)
    offsets = np.frombuffer(frame, "<u4", 16)
    first, second = frame[64 : offsets[2]], frame[offsets[2] :]
    longer = first + bytes([0, 7])  # one literal byte more
    header = np.array([2, 64, 64 + len(longer), *[0] * 13], "<u4").tobytes()
    shorter = bytes([second[0] - 1]) + second[1 : 1 + second[0]] + second[2 + second[0] :]
    data = film(array, RLE, fragments=[header + longer + shorter])
    assert outcome(read_bytes, data)[0] in (Code.DECODE_FAILED, Code.TRUNCATED)


@pytest.mark.promise(18)
@pytest.mark.parametrize("syntax", COMPRESSED)
def test_nearly_every_frame_with_wrong_pixels_is_refused_or_marked(syntax, read_bytes):
    """A small part of `benchmarks.damaged_frames`, whose figures docs/safety.md has."""
    frame = encode(body(syntax), syntax, bits_of(syntax))
    _, true = outcome(read_bytes, as_film(syntax, frame))
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(40):
        damaged = bytearray(frame)
        start = int(rng.integers(len(frame) // 4, len(frame) - 80))
        length = int(rng.choice([1, 8, 64]))
        damaged[start : start + length] = rng.bytes(length)
        found, pixels = outcome(read_bytes, as_film(syntax, bytes(damaged)))
        if pixels is not None and Mark.DAMAGED_PIXELS not in found:
            wrong += np.abs(pixels.astype(int) - true).mean() / 65535 > WRONG
    # HTJ2K's code-blocks have nothing that a decoder can check.
    assert wrong <= (6 if syntax in (HTJ2K_LOSSLESS, HTJ2K) else 2)


@pytest.mark.promise(18)
def test_the_shared_films_are_neither_refused_nor_marked(shared_data):
    paths = [p for p in sorted((shared_data / "wg04").glob("*.dcm")) if "chest" not in p.name]
    paths += sorted((shared_data / "radoss_ddh").glob("*.dcm"))
    paths += sorted((shared_data / "fracatlas").glob("*/*.jpg"))[::20]
    assert len(paths) > 35
    for path in paths:
        radiograph = read(Path(path))
        assert radiograph.pixels.shape == radiograph.film.shape
        assert not radiograph.marks, path.name


def test_a_film_may_be_too_tall_for_its_end_to_be_checked(read_bytes):
    array = np.random.default_rng(0).integers(0, 255, (65_499, 2)).astype(np.uint8)
    frame = imagecodecs.jpeg8_encode(array, lossless=True, predictor=1)
    data = film(array, JPEG_LOSSLESS_SV1, fragments=[frame])
    marks, pixels = outcome(read_bytes, data)
    assert marks == frozenset()
    np.testing.assert_array_equal(pixels, outcome(read_bytes, film(array, EXPLICIT))[1])
