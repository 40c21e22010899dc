"""PNG, JPEG and TIFF files are read as films without a header."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from hipedge.errors import Code, Refused
from hipedge.types import Film, Mark

RAMP = np.arange(32 * 48).reshape(32, 48)


def encoded(image, kind, **options):
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gray(bits):
    array = RAMP * ((1 << bits) - 1) // RAMP.max()
    return array.astype(np.uint8 if bits == 8 else np.uint16)


def refusal(read_bytes, data):
    with pytest.raises(Refused) as info:
        read_bytes(data)
    return info.value.code


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 16])
def test_gray_of_8_and_16_bits_is_kept(kind, bits, read_bytes):
    array = gray(bits)
    radiograph = read_bytes(encoded(Image.fromarray(array), kind))
    scale = 257 if bits == 8 else 1
    np.testing.assert_array_equal(radiograph.pixels, array.astype(np.uint16) * scale)


def test_the_films_own_range_is_spread(read_bytes):
    array = (RAMP // 8 + 20).astype(np.uint8)
    pixels = read_bytes(encoded(Image.fromarray(array), "PNG")).pixels
    assert (pixels.min(), pixels.max()) == (0, 65535)


def test_a_picture_has_no_header(read_bytes):
    film = read_bytes(encoded(Image.fromarray(gray(8)), "PNG")).film
    assert film == Film(film.source, film.content_hash, film.pixel_hash, (32, 48))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_colour_becomes_luminance(kind, read_bytes):
    rgb = np.stack([gray(8), gray(8)[::-1], np.full_like(gray(8), 128)], -1)
    pixels = read_bytes(encoded(Image.fromarray(rgb), kind)).pixels
    luminance = np.asarray(Image.fromarray(rgb).convert("L")).astype(float)
    spread = (luminance - luminance.min()) / np.ptp(luminance) * 65535
    np.testing.assert_allclose(pixels, spread, atol=1)


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "1", "CMYK"])
def test_palettes_and_transparency_become_gray(mode, read_bytes):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    image = Image.fromarray(gray(8)).convert("RGB").convert(mode)
    pixels = read_bytes(encoded(image, kind)).pixels
    assert pixels.shape == (32, 48)
    assert pixels[-1].mean() > pixels[0].mean()


def test_a_jpeg_comes_near(read_bytes):
    pixels = read_bytes(encoded(Image.fromarray(gray(8)), "JPEG", quality=95)).pixels
    assert np.abs(pixels / 257 - gray(8)).max() < 8


def test_a_turned_photograph_is_turned_upright(read_bytes):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    pixels = read_bytes(encoded(Image.fromarray(gray(8)), "JPEG", exif=exif)).pixels
    assert pixels.shape == (48, 32)
    assert pixels[:, -1].mean() < pixels[:, 0].mean()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_a_picture_cut_short_is_refused(kind, read_bytes):
    data = encoded(Image.fromarray(gray(8)), kind)
    assert refusal(read_bytes, data[: len(data) * 2 // 3]) is Code.DECODE_FAILED


@pytest.mark.parametrize("magic", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*"])
def test_a_picture_in_name_only_is_refused(magic, read_bytes):
    assert refusal(read_bytes, magic + b"and then nothing of the kind") is Code.DECODE_FAILED


def test_an_animation_has_several_frames(read_bytes):
    frame = Image.fromarray(gray(8))
    other = Image.fromarray(gray(8)[::-1])
    data = encoded(frame, "PNG", save_all=True, append_images=[other])
    assert refusal(read_bytes, data) is Code.MULTI_FRAME


@pytest.mark.parametrize("kind", ["TIFF", "MPO"])
@pytest.mark.parametrize("others", ["none", "preview", "another of its size"])
def test_the_first_of_several_pictures_is_read(kind, others, read_bytes):
    """A phone's multi-picture JPEG, and a scan with more pages than one."""
    first = Image.fromarray(gray(8))
    more = {"none": [], "preview": [first.resize((12, 8))], "another of its size": [first.copy()]}
    data = encoded(first, kind, save_all=True, append_images=more[others])
    radiograph = read_bytes(data)
    np.testing.assert_allclose(radiograph.pixels / 257, gray(8), atol=8 if kind == "MPO" else 0)
    expected = {Mark.MORE_PICTURES} if others == "another of its size" else set()
    assert radiograph.marks == expected


def test_a_reduced_page_before_the_scan_is_not_read(read_bytes):
    preview, page = Image.new("L", (12, 8)), Image.fromarray(gray(8))
    data = encoded(preview, "TIFF", save_all=True, append_images=[page], tiffinfo={254: 1})
    reduced = struct.pack("<HHL", 254, 4, 1) + b"\1"
    second = data.rindex(reduced)
    assert data.index(reduced) < second
    radiograph = read_bytes(data[: second + 8] + b"\0" + data[second + 9 :])
    assert radiograph.film.shape == (32, 48)
    assert not radiograph.marks


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("order", "<>")
def test_a_tiff_says_whether_0_is_white(bits, photometric, order, read_bytes):
    values = gray(16) >> (16 - bits)
    known = values if photometric else (1 << bits) - 1 - values
    data = tiff(values, bits, photometric, order)
    if (bits, photometric, order) == (16, 0, ">"):  # Pillow does not open it
        assert refusal(read_bytes, data) is Code.DECODE_FAILED
        return
    pixels = read_bytes(data).pixels
    np.testing.assert_allclose(pixels, known / ((1 << bits) - 1) * 65535, atol=1)


def tiff(values, bits, photometric, order):
    """Return an uncompressed TIFF 6.0 of one strip."""
    height, width = values.shape
    if bits == 16:
        strip = values.astype(f"{order}u2").tobytes()
    else:
        each = (values[..., None] >> np.arange(bits)[::-1]) & 1
        strip = np.packbits(each.reshape(height, -1).astype(np.uint8), axis=1).tobytes()
    entries = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric)]
    entries += [(273, 8 + 2 + 12 * 9 + 4), (277, 1), (278, height), (279, len(strip))]
    directory = b"".join(
        struct.pack(f"{order}HHLHH", tag, 3, 1, value, 0) for tag, value in entries
    )
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}L", 8)
    return start + struct.pack(f"{order}H", 9) + directory + bytes(4) + strip


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpegs_colour_space_does_not_turn_it_over(mode, read_bytes):
    image = Image.fromarray(gray(8)).convert("RGB").convert(mode)
    pixels = read_bytes(encoded(image, "JPEG", quality=95)).pixels
    assert pixels[-4:].mean() > 3 * pixels[:4].mean()


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_colour_jpegs_gray_is_its_luminance(subsampling, read_bytes):
    rgb = np.stack([gray(8), gray(8)[::-1], np.full_like(gray(8), 128)], -1)
    data = encoded(Image.fromarray(rgb), "JPEG", quality=98, subsampling=subsampling)
    luminance = np.asarray(Image.open(BytesIO(data)).convert("L")).astype(float)
    spread = (luminance - luminance.min()) / np.ptp(luminance) * 65535
    assert np.abs(read_bytes(data).pixels - spread).max() < 4 * 65535 / np.ptp(luminance)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_picture_that_is_closed_too_early_is_refused(share, mode, read_bytes):
    rng = np.random.default_rng(0)
    values = (128 + 30 * rng.standard_normal((320, 240))).clip(0, 255).astype(np.uint8)
    data = encoded(Image.fromarray(values).convert(mode), "JPEG", quality=95)
    assert refusal(read_bytes, data[: int(share * len(data))] + b"\xff\xd9") is Code.TRUNCATED


def test_floating_point_pixels_are_refused(read_bytes):
    data = encoded(Image.fromarray(gray(8).astype(np.float32)), "TIFF")
    assert refusal(read_bytes, data) is Code.UNSUPPORTED_PIXELS


@pytest.mark.parametrize("side", [12_000, 40_000])
def test_a_bomb_is_refused_by_its_size_alone(side, read_bytes):
    """12,000 squared makes Pillow warn, 40,000 squared makes it refuse."""
    data = bytearray(encoded(Image.fromarray(gray(8)), "PNG"))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    assert refusal(read_bytes, bytes(data)) is Code.TOO_LARGE


def test_every_fracatlas_film_is_read(shared_data, read_bytes):
    paths = sorted((shared_data / "fracatlas_hip").glob("fractured*/*.jpg"))
    assert len(paths) == 23
    for path in paths:
        radiograph = read_bytes(path.read_bytes())
        assert radiograph.pixels.shape == radiograph.film.shape
        assert np.ptp(radiograph.pixels) == 65535
