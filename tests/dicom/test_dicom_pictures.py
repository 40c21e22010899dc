"""PNG, JPEG and TIFF files are read as films without a header."""

import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from hipedge.errors import Code, Refused
from hipedge.types import Film

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
    assert film == Film(film.source, film.sha256, film.pixel_hash, (32, 48))


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


def test_pages_are_several_frames(read_bytes):
    page = Image.fromarray(gray(8))
    data = encoded(page, "TIFF", save_all=True, append_images=[page])
    assert refusal(read_bytes, data) is Code.MULTI_FRAME


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
