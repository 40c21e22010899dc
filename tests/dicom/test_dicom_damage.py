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
from PIL import Image, ImageDraw

from hipedge.dicom import jpeg
from hipedge.dicom.read import read
from hipedge.dicom.ripples import has_ripples
from hipedge.dicom.seams import has_seam
from hipedge.dicom.stairs import has_stair
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


@pytest.mark.parametrize("name", ["IMG0002180.jpg", "IMG0000945.jpg"])
def test_a_whole_film_after_which_no_row_is_half_decoded_is_not_marked(shared_data, name):
    """About one lossless frame in 400 ends in bits that libjpeg does not take for a further row."""
    (path,) = (shared_data / "fracatlas").glob(f"*/{name}")
    values = read(path).pixels >> 4
    frame = imagecodecs.jpeg8_encode(values, lossless=True, predictor=1, bitspersample=12)
    samples, damaged = jpeg.decode(frame, 1)
    np.testing.assert_array_equal(samples, values)
    assert not damaged


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


def with_stair(array, row, column, step):
    """Return a film whose blocks are brighter from one on, in the order in which they are coded."""
    damaged = array.astype(int)
    damaged[row : row + 8, column:] += step
    damaged[row + 8 :] += step
    return np.clip(damaged, 0, 4095)


@pytest.mark.parametrize("column", [72, 320, 560])
@pytest.mark.parametrize("step", [-120, 60, 1500])
def test_where_the_brightness_of_blocks_changes_within_a_row_is_a_stair(column, step):
    array = body(JPEG_EXTENDED, (800, 640))
    assert not has_stair(array, 12, (8, 8))
    assert has_stair(with_stair(array, 400, column, step), 12, (8, 8))


def test_an_edge_across_the_film_is_no_stair():
    array = body(JPEG_EXTENDED, (800, 640))
    straight, oblique = array.copy(), array.copy()
    straight[400:] = 0
    y, x = np.indices(array.shape)
    oblique[y > 400 + x * 12 / 640] = 0
    assert not has_stair(straight, 12, (8, 8))
    assert not has_stair(oblique, 12, (8, 8))


@pytest.mark.parametrize("syntax", [JPEG_BASELINE, JPEG_EXTENDED])
@pytest.mark.parametrize(("entry", "value"), [(0, 197), (14, 252), (54, 0)])
def test_a_damaged_quantisation_table_is_marked(syntax, entry, value, read_bytes):
    frame = bytearray(encode(body(syntax), syntax, bits_of(syntax)))
    at = frame.index(b"\xff\xdb") + 5
    frame[at + entry] = value
    assert Mark.DAMAGED_PIXELS in outcome(read_bytes, as_film(syntax, bytes(frame)))[0]


def test_a_huffman_table_with_two_codes_for_a_value_is_marked(read_bytes):
    frame = bytearray(encode(body(JPEG_LOSSLESS_SV1), JPEG_LOSSLESS_SV1, 12))
    values = frame.index(b"\xff\xc4") + 21
    frame[values] = frame[values + 1]
    data = as_film(JPEG_LOSSLESS_SV1, bytes(frame))
    found, _ = outcome(read_bytes, data)
    assert found in ({Mark.DAMAGED_PIXELS}, Code.TRUNCATED)


def progressive(*, colour, **options):
    image = Image.fromarray(body(JPEG_BASELINE))
    buffer = BytesIO()
    image.convert("RGB" if colour else "L").save(
        buffer, "JPEG", quality=90, progressive=True, **options
    )
    return buffer.getvalue()


@pytest.mark.promise(18)
@pytest.mark.parametrize("colour", [False, True])
def test_a_progressive_jpeg_that_is_closed_too_early_is_refused_or_marked(colour, read_bytes):
    picture = progressive(colour=colour)
    marks, true = outcome(read_bytes, picture)
    assert marks == frozenset()
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.98):
        found, pixels = outcome(read_bytes, picture[: int(share * len(picture))] + b"\xff\xd9")
        if pixels is None:
            assert found in (Code.TRUNCATED, Code.DECODE_FAILED)
        else:
            assert found == {Mark.DAMAGED_PIXELS} or np.array_equal(pixels, true), share


def test_a_progressive_jpeg_without_its_last_scan_is_marked(read_bytes):
    picture = progressive(colour=False)
    last = picture.rindex(b"\xff\xda")
    assert outcome(read_bytes, picture[:last] + b"\xff\xd9")[0] == {Mark.DAMAGED_PIXELS}


@pytest.mark.promise(18)
@pytest.mark.skipif(not HAS_HTJ2K, reason="imagecodecs without HTJ2K")
@pytest.mark.parametrize("syntax", [HTJ2K_LOSSLESS, HTJ2K])
def test_most_damaged_code_blocks_of_htj2k_are_noticed_by_their_ripples(syntax, read_bytes):
    # Which blocks are wrong differs by the encoder's instructions (AVX2, AVX-512): hence a share.
    frame = encode(body(syntax), syntax, 12)
    _, true = outcome(read_bytes, as_film(syntax, frame))
    wrong = []
    for share in np.linspace(0.05, 0.6, 40):
        damaged = bytearray(frame)
        at = int(share * len(frame))
        damaged[at : at + 40] = bytes(byte ^ 0x5A for byte in damaged[at : at + 40])
        found, pixels = outcome(read_bytes, as_film(syntax, bytes(damaged)))
        if pixels is not None and np.abs(pixels.astype(int) - true).mean() / 65535 > WRONG:
            wrong.append(found)
    assert set(wrong) <= {frozenset(), frozenset({Mark.DAMAGED_PIXELS})}
    assert len(wrong) >= 5
    assert wrong.count(frozenset()) < len(wrong) / 2


def test_printed_letters_are_no_ripples():
    array = body(JPEG_EXTENDED)
    image = Image.fromarray((array >> 4).astype(np.uint8))
    ImageDraw.Draw(image).text((8, 8), "AP PELVIS  SUPINE  R\n2026-11-30  HHH MMM WWW", fill=255)
    assert not has_ripples(np.asarray(image))
    stripes = array.copy()
    stripes[100:140:2, 100:140] = 4095
    assert has_ripples(stripes)


@pytest.mark.promise(18)
@pytest.mark.parametrize("inserted", [1, 50, 51])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_bytes_inserted_into_an_uncompressed_film_are_marked(inserted, share, read_bytes):
    array = body(EXPLICIT)
    values = array.astype("<u2").tobytes()
    at = int(share * len(values))
    shifted = (values[:at] + bytes(inserted) + values[at:])[: len(values)]
    damaged = np.frombuffer(shifted, "<u2").reshape(array.shape)
    assert outcome(read_bytes, film(damaged, EXPLICIT, bits=12))[0] == {Mark.DAMAGED_PIXELS}
    lost = values[:at] + values[at + inserted :] + bytes(inserted)
    damaged = np.frombuffer(lost, "<u2").reshape(array.shape)
    assert outcome(read_bytes, film(damaged, EXPLICIT, bits=12))[0] == {Mark.DAMAGED_PIXELS}


@pytest.mark.parametrize("value", [0, 4095])
@pytest.mark.parametrize(("start", "stop"), [(0.3, 0.4), (0.4, 1), (0, 0.5)])
def test_blanked_bytes_of_an_uncompressed_film_are_marked(value, start, stop, read_bytes):
    array = body(EXPLICIT)
    values = array.reshape(-1)
    values[int(start * values.size) : int(stop * values.size)] = value
    marks, _ = outcome(read_bytes, film(array, EXPLICIT, bits=12))
    assert Mark.DAMAGED_PIXELS in marks


@pytest.mark.parametrize("slope", [0, 0.01, 0.05, 1])
def test_a_shutter_or_a_black_end_is_no_damage(slope, read_bytes):
    array = body(EXPLICIT)
    y, x = np.indices(array.shape)
    array[y > 300 - slope * x] = 0
    array[:, 340:] = 0
    array[y < 40 - slope * x] = 0
    assert outcome(read_bytes, film(array, EXPLICIT, bits=12))[0] == frozenset()


def test_two_films_in_one_picture_are_no_damage(read_bytes):
    array = body(EXPLICIT, (300, 362))
    both = np.concatenate([array, np.zeros((40, 362), np.uint16), np.roll(array, 9, axis=1)])
    assert outcome(read_bytes, film(both, EXPLICIT, bits=12))[0] == frozenset()


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
    assert wrong <= 2


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
