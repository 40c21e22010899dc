"""Every transfer syntax gives the pixels that went into it, or the film is refused."""

import struct
from itertools import pairwise

import numpy as np
import pytest
from dicom_films import (
    BIG_ENDIAN,
    EXPLICIT,
    HTJ2K_LOSSLESS,
    JPEG_2000,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LS,
    JPEG_LS_NEAR,
    LOSSLESS,
    NATIVE,
    RLE,
    encapsulate,
    encode,
    film,
    native_bytes,
)

from hipedge.dicom.header import read_header
from hipedge.dicom.pixels import checked_format, decode
from hipedge.dicom.read import hash_pixels
from hipedge.errors import Code, Refused

COMPRESSED = tuple(syntax for syntax in LOSSLESS if syntax not in NATIVE)
CODESTREAMS = tuple(syntax for syntax in COMPRESSED if syntax != RLE)


def stored_values(data):
    header = read_header(data)
    return decode(header.pixels, checked_format(header.image_pixel), header.transfer_syntax_uid)[0]


def refusal(data):
    with pytest.raises(Refused) as info:
        stored_values(data)
    return info.value.code


def decoded_or_refused(data):
    try:
        return stored_values(data).shape
    except Refused as refused:
        return refused.code


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("bits", range(2, 17))
def test_a_lossless_syntax_keeps_every_bit(syntax, bits, noise):
    array = noise(bits)
    values = stored_values(film(array, syntax, bits=bits))
    assert values.dtype == np.uint16
    np.testing.assert_array_equal(values, array)


@pytest.mark.parametrize("syntax", NATIVE)
def test_a_native_film_may_have_one_bit(syntax, noise):
    array = noise(1)
    np.testing.assert_array_equal(stored_values(film(array, syntax, bits=1)), array)


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_a_lossless_syntax_keeps_the_sign(syntax, bits, noise):
    array = noise(bits, signed=True)
    values = stored_values(film(array, syntax, bits=bits))
    assert values.dtype == np.int16
    np.testing.assert_array_equal(values, array)


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (17, 33), (64, 64)])
def test_a_film_may_have_any_size(syntax, shape, noise):
    array = noise(12, shape=shape)
    np.testing.assert_array_equal(stored_values(film(array, syntax, bits=12)), array)


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_colour_is_stored_by_pixel(syntax, noise):
    array = noise(8, shape=(33, 47, 3))
    np.testing.assert_array_equal(stored_values(film(array, syntax)), array)


def test_colour_may_be_stored_by_plane(noise):
    array = noise(8, shape=(33, 47, 3))
    data = film(
        array, PlanarConfiguration=1, pixel_data=np.moveaxis(array, -1, 0).tobytes() + b"\0"
    )
    np.testing.assert_array_equal(stored_values(data), array)


@pytest.mark.parametrize("bits", [8, 12])
def test_all_lossless_encodings_of_a_film_have_one_hash(bits, noise):
    array = noise(bits).astype(np.uint16)
    hashes = {hash_pixels(stored_values(film(array, syntax, bits=bits))) for syntax in LOSSLESS}
    assert len(hashes) == 1


def test_other_pixels_shape_or_sign_have_another_hash(noise):
    array = noise(12)
    other = array.copy()
    other[3, 5] ^= 1
    hashes = {hash_pixels(a) for a in (array, other, array.T, array.view(np.int16))}
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("syntax", "bits", "tolerance"),
    [
        (JPEG_BASELINE, 8, 12),
        (JPEG_EXTENDED, 12, 200),
        (JPEG_LS_NEAR, 12, 2),
        (JPEG_2000, 12, 40),
    ],
)
def test_a_lossy_syntax_comes_near(syntax, bits, tolerance):
    y, x = np.mgrid[:64, :48]
    array = ((np.sin(y / 9) + np.cos(x / 7) + 2) / 4 * ((1 << bits) - 1)).astype(
        np.uint8 if bits == 8 else np.uint16
    )
    values = stored_values(film(array, syntax, bits=bits))
    assert np.abs(values.astype(int) - array).max() <= tolerance


def test_what_a_lossy_decoder_overshoots_is_limited_and_not_wrapped():
    # A 12-bit stream whose values reach beyond the 10 bits that the header promises.
    array = np.full((16, 16), 1100, np.uint16)
    array[:, 8:] = 900
    frame = encode(array, JPEG_EXTENDED, 12)
    values = stored_values(film(array, JPEG_EXTENDED, bits=10, fragments=[frame]))
    assert values[:, 0].min() == values.max() == 1023


def test_a_lossy_frame_may_have_fewer_bits_than_are_stored():
    array = np.full((16, 16), 200, np.uint8)
    frame = encode(array, JPEG_BASELINE, 8)
    data = film(array.astype(np.uint16), JPEG_BASELINE, bits=12, fragments=[frame])
    np.testing.assert_allclose(stored_values(data), array, atol=2)


def test_an_overlay_in_the_unused_bits_is_no_pixel(noise):
    array = noise(12)
    with_overlay = array | 0x8000
    np.testing.assert_array_equal(stored_values(film(with_overlay, bits=12)), array)


def test_stored_bits_may_lie_high_in_the_word(noise):
    array = noise(12)
    data = film(array << 4, bits=12, HighBit=15)
    np.testing.assert_array_equal(stored_values(data), array)


@pytest.mark.parametrize("syntax", COMPRESSED)
@pytest.mark.parametrize("cuts", [(1000,), (2, 500, 501)])
def test_a_frame_may_lie_in_several_fragments(syntax, cuts, noise):
    array = noise(12)
    frame = encode(array, syntax, 12)
    bounds = [0, *(2 * (cut // 2) or 2 for cut in cuts), len(frame)]
    fragments = [frame[a:b] for a, b in pairwise(bounds)]
    np.testing.assert_array_equal(
        stored_values(film(array, syntax, bits=12, fragments=fragments)), array
    )


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_the_basic_offset_table_may_be_filled(syntax, noise):
    array = noise(12)
    value = encapsulate([encode(array, syntax, 12)], offset_table=struct.pack("<L", 0))
    data = film(array, syntax, bits=12)
    filled = data[: data.index(b"\xfe\xff\x00\xe0")] + value + data[-8:]
    np.testing.assert_array_equal(stored_values(filled), array)


@pytest.mark.parametrize("syntax", COMPRESSED)
@pytest.mark.parametrize("offsets", ["end of the frame", "each fragment", "only zeros"])
def test_the_basic_offset_table_may_have_more_offsets_than_the_frame(syntax, offsets, noise):
    array = noise(12)
    frame = encode(array, syntax, 12)
    fragments = [frame[:1000], frame[1000:]]
    starts = [0, 1008] if offsets == "each fragment" else [0, len(frame) + 16]
    if offsets == "only zeros":
        starts = [0, 0, 0]
    table = struct.pack(f"<{len(starts)}L", *starts)
    data = film(array, syntax, bits=12)
    value = encapsulate(fragments, offset_table=table)
    data = data[: data.index(b"\xfe\xff\x00\xe0")] + value + data[-8:]
    np.testing.assert_array_equal(stored_values(data), array)


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_the_sequence_delimiter_may_be_missing(syntax, noise):
    array = noise(12)
    np.testing.assert_array_equal(stored_values(film(array, syntax, bits=12)[:-8]), array)


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_offsets_of_several_frames_are_refused(syntax, noise):
    array = noise(12)
    frame = encode(array, syntax, 12)
    value = encapsulate([frame, frame], offset_table=struct.pack("<2L", 0, len(frame) + 8))
    data = film(array, syntax, bits=12)
    data = data[: data.index(b"\xfe\xff\x00\xe0")] + value + data[-8:]
    assert refusal(data) is Code.UNSUPPORTED_PIXELS


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_a_file_cut_short_is_truncated(syntax, noise):
    assert refusal(film(noise(12), syntax, bits=12)[:-200]) is Code.TRUNCATED


@pytest.mark.parametrize("syntax", CODESTREAMS)
def test_a_codestream_cut_short_in_whole_fragments_is_never_padded(syntax, noise):
    array = noise(12)
    frame = encode(array, syntax, 12)
    data = film(array, syntax, bits=12, fragments=[frame[: len(frame) // 2 * 2 - 400]])
    assert refusal(data) in (Code.TRUNCATED, Code.DECODE_FAILED)


@pytest.mark.parametrize("syntax", CODESTREAMS)
@pytest.mark.parametrize("rows", [32, 34])
def test_a_codestream_of_another_size_than_the_header_is_refused(syntax, rows, noise):
    data = film(noise(12), syntax, bits=12, Rows=rows)
    assert refusal(data) is Code.UNSUPPORTED_PIXELS


@pytest.mark.parametrize("syntax", CODESTREAMS)
def test_a_codestream_deeper_than_allocated_is_refused(syntax, noise):
    array = noise(12)
    data = film(noise(8), syntax, fragments=[encode(array, syntax, 12)])
    assert refusal(data) is Code.UNSUPPORTED_PIXELS


def test_a_codestream_with_more_components_than_the_header_is_refused(noise):
    frame = encode(noise(8, shape=(33, 47, 3)), JPEG_LS, 8)
    assert refusal(film(noise(8), JPEG_LS, fragments=[frame])) is Code.UNSUPPORTED_PIXELS


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_a_frame_of_nonsense_is_refused(syntax, noise):
    data = film(noise(8), syntax, fragments=[b"not a frame at all" * 10])
    assert refusal(data) is Code.DECODE_FAILED


@pytest.mark.parametrize("syntax", CODESTREAMS)
def test_a_damaged_codestream_decodes_or_is_refused(syntax, noise):
    array = noise(12)
    frame = encode(array, syntax, 12)
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(frame)
        for position in rng.integers(0, len(frame), 3):
            damaged[position] = rng.integers(256)
        outcome = decoded_or_refused(film(array, syntax, bits=12, fragments=[bytes(damaged)]))
        assert outcome in (
            array.shape,
            Code.DECODE_FAILED,
            Code.UNSUPPORTED_PIXELS,
            Code.TRUNCATED,
        )


@pytest.mark.parametrize("missing", [2, 1000])
def test_a_native_film_with_too_few_bytes_is_truncated(missing, noise):
    array = noise(12)
    data = film(array, bits=12, pixel_data=native_bytes(array, EXPLICIT)[:-missing])
    assert refusal(data) is Code.TRUNCATED


def test_rle_segments_with_too_few_bytes_are_truncated(noise):
    array = noise(16)
    frame = encode(array[:-1], RLE, 16)
    assert refusal(film(array, RLE, fragments=[frame])) is Code.TRUNCATED


def test_rle_segments_that_swell_beyond_the_film_are_refused():
    frame = encode(np.zeros((1000, 1000), np.uint16), RLE, 16)
    data = film(np.zeros((8, 8), np.uint16), RLE, fragments=[frame])
    assert refusal(data) is Code.DECODE_FAILED


def test_more_native_bytes_than_pixels_are_ignored(noise):
    array = noise(12)
    data = film(array, bits=12, pixel_data=native_bytes(array, EXPLICIT) + b"\xff" * 64)
    np.testing.assert_array_equal(stored_values(data), array)


def test_an_unknown_transfer_syntax_is_refused(noise):
    data = film(noise(8), "1.2.840.10008.1.2.4.100", fragments=[b"MPEG2!"])
    assert refusal(data) is Code.UNSUPPORTED_TRANSFER_SYNTAX


def test_native_bytes_in_a_compressed_syntax_are_refused(noise):
    explicit = film(noise(8), EXPLICIT)
    data = explicit.replace(EXPLICIT.encode() + b"\0", JPEG_LS[:19].encode() + b".")
    assert refusal(data) in (Code.UNSUPPORTED_TRANSFER_SYNTAX, Code.UNSUPPORTED_PIXELS)


def words_of_bytes(array):
    """Return 8-bit pixels in Explicit VR Big Endian as OW, whose bytes are swapped in pairs."""
    flat = array.tobytes() + b"\0" * (array.size % 2)
    value = np.frombuffer(flat, "<u2").astype(">u2").tobytes()
    data = film(array, BIG_ENDIAN, pixel_data=value)
    return data.replace(b"\x7f\xe0\x00\x10OB", b"\x7f\xe0\x00\x10OW")


@pytest.mark.parametrize("shape", [(33, 48), (33, 47)])
def test_words_of_bytes_are_swapped_in_big_endian(shape, noise):
    array = noise(8, shape=shape)
    np.testing.assert_array_equal(stored_values(words_of_bytes(array)), array)


def test_half_a_word_is_truncated(noise):
    assert refusal(words_of_bytes(noise(8))[:-1]) is Code.TRUNCATED


def test_htj2k_is_read_where_it_cannot_be_written():
    """By OpenJPH from `np.arange(64).reshape(8, 8) * 61`, for imagecodecs without it."""
    frame = bytes.fromhex(
        "ff4fff510029400000000008000000080000000000000000000000080000000800000000000000000001"
        "0f0101ff50000800020000000aff52000c00020001000504044001ff5c00132088909090909090909090"
        "909090888888ff64001700014f70656e4a50482056657220302e32362e332eff90000a00000000005a00"
        "01ff93c0002635f6050774000000c00013400013002afe0207740064f103877400c00013400013801010"
        "0182740092288900c35400c0002a20001560388ee3aa70827500ce3b77eefcc04201ecb600ffd9"
    )
    array = (np.arange(64).reshape(8, 8) * 61).astype(np.uint16)
    data = film(array, HTJ2K_LOSSLESS, bits=12, fragments=[frame])
    np.testing.assert_array_equal(stored_values(data), array)


@pytest.mark.parametrize(
    ("name", "same"),
    [("RLE", True), ("JPLL", True), ("JLSL", True), ("J2KR", True), ("JLSN", False)],
)
def test_rg2_is_the_same_film_in_every_lossless_syntax(name, same, shared_data):
    plain = stored_values((shared_data / "wg04" / "RG2_UNC.dcm").read_bytes())
    coded = stored_values((shared_data / "wg04" / f"RG2_{name}.dcm").read_bytes())
    assert np.array_equal(coded, plain) is same
    assert (hash_pixels(coded) == hash_pixels(plain)) is same


@pytest.mark.parametrize(
    ("name", "tolerance"), [("JLSN", 4), ("J2KI", 87), ("JPLY", 101), ("JPLY_broken_scan", 101)]
)
def test_rg2_comes_near_in_every_lossy_syntax(name, tolerance, shared_data):
    """The broken scan header (spectral selection, T.81 B.2.3) does not keep libjpeg from it."""
    plain = stored_values((shared_data / "wg04" / "RG2_UNC.dcm").read_bytes())
    coded = stored_values((shared_data / "wg04" / f"RG2_{name}.dcm").read_bytes())
    difference = np.abs(coded.astype(int) - plain)
    assert difference.max() <= tolerance
    assert difference.mean() < 4


def test_the_broken_scan_decodes_as_the_sound_one(shared_data):
    sound, broken = (
        stored_values((shared_data / "wg04" / f"RG2_{name}.dcm").read_bytes())
        for name in ("JPLY", "JPLY_broken_scan")
    )
    np.testing.assert_array_equal(broken, sound)
