from collections import Counter

import numpy as np
import pytest
from PIL import Image

from hipedge.dicom.read import load, read
from hipedge.dicom.whole import ends_in_zeros, is_whole
from tests.dicom import dicom_films

PIXELS = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48) % 4096


@pytest.fixture
def file(tmp_path):
    def write(data):
        path = tmp_path / "film"
        path.write_bytes(data)
        return path

    return write


def parts(data):
    """Cuts at every header, then at some places all over the file, the last byte too."""
    ends = {*range(1, 2000, 37), *range(2000, len(data), 397), len(data) - 9, len(data) - 1}
    return [data[:end] for end in sorted(ends) if end < len(data)]


@pytest.mark.parametrize("syntax", dicom_films.LOSSLESS)
def test_a_film_is_whole_and_no_part_of_it_is(file, syntax):
    film = dicom_films.film(PIXELS, syntax, bits=12)
    assert is_whole(file(film))
    # The delimiter after the last fragment may be missing, where the stream has its own end.
    limit = len(film) - 8 if syntax not in dicom_films.NATIVE else len(film)
    if syntax == dicom_films.DEFLATED:
        limit = len(film) - 1  # an even length is padded with a zero after the end
    assert not any(is_whole(file(part)) for part in parts(film) if len(part) < limit)


def test_a_dataset_without_preamble_is_whole_and_no_part_of_it_is(file):
    film = dicom_films.film(PIXELS)[132:]
    assert is_whole(file(film))
    assert not any(is_whole(file(part)) for part in parts(film))


NOISE = np.random.default_rng(0).integers(1, 4096, (256, 512), np.uint16)
ROOM = 64 * 1024


@pytest.mark.parametrize("syntax", dicom_films.LOSSLESS)
def test_a_part_in_the_room_reserved_for_its_film_is_seen_to_be_one(file, syntax):
    film = dicom_films.film(NOISE, syntax, bits=12)
    assert not ends_in_zeros(file(film))
    cuts = [*range(0, 2000, 37), *range(2000, len(film) - ROOM, 9973), len(film) - ROOM]
    assert all(ends_in_zeros(file(film[:cut] + bytes(len(film) - cut))) for cut in cuts)


@pytest.mark.parametrize("syntax", sorted({*dicom_films.LOSSLESS} - {*dicom_films.NATIVE}))
def test_fragments_that_zeros_follow_are_whole_only_if_the_last_has_its_end(file, syntax):
    film = dicom_films.film(PIXELS, syntax, bits=12)
    end = film.rindex(b"\xfe\xff\xdd\xe0")
    of_stream = end if syntax == dicom_films.RLE else len(film[:end].rstrip(b"\0"))
    for cut in range(PIXELS.nbytes // 2, of_stream - 1, 41):
        assert not is_whole(file(film[:cut] + bytes(len(film) - cut)))
    # As without a delimiter: what is coded as JPEG or JPEG 2000 has an end of its own.
    assert is_whole(file(film[:end] + bytes(8))) == (syntax != dicom_films.RLE)


@pytest.mark.parametrize("syntax", [dicom_films.IMPLICIT, dicom_films.EXPLICIT])
def test_a_header_that_zeros_follow_is_a_part(file, syntax):
    film = dicom_films.film(PIXELS, syntax)
    pixels = film.rindex(b"\xe0\x7f\x10\x00")
    assert not is_whole(file(film[:pixels] + bytes(len(film) - pixels)))


def test_a_black_border_is_not_taken_for_room_and_a_wider_one_is(file):
    for rows, is_room in ((63, False), (64, True)):
        pixels = NOISE.copy()
        pixels[-rows:] = 0
        assert ends_in_zeros(file(dicom_films.film(pixels, bits=12))) == is_room


def test_no_real_film_ends_in_nearly_so_much_of_one_grey(shared_data):
    films = [*(shared_data / "wg04").glob("*.dcm"), *(shared_data / "radoss_ddh").glob("*.dcm")]
    films = [path for path in films if "chest" not in path.name]  # refused for its body part
    assert len(films) > 10
    for path in films:
        pixels = read(path, load(path)).pixels.ravel()
        border = pixels.size - 1 - np.flatnonzero(pixels != pixels[-1])[-1]
        assert border * 2 < ROOM / 16
        assert not ends_in_zeros(path)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_picture_is_whole_and_no_part_of_it_is(file, tmp_path, form):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 48), np.uint8)).save(
        tmp_path / "picture", form
    )
    picture = (tmp_path / "picture").read_bytes()
    assert is_whole(file(picture))
    # The last four bytes of a PNG are the checksum of its last chunk, which has nothing in it.
    limit = len(picture) - 4 if form == "PNG" else len(picture)
    assert not any(is_whole(file(part)) for part in parts(picture) if len(part) < limit)


def test_an_empty_file_may_be_the_beginning_of_one(file):
    assert not is_whole(file(b""))


def test_of_what_is_no_film_nothing_can_be_told(file):
    assert is_whole(file(b"nothing that we know" * 100))


def test_of_the_malformed_files_those_are_parts_whose_elements_go_on_after_their_end(shared_data):
    files = [path for path in (shared_data / "malformed").rglob("*.dcm") if path.stat().st_size]
    assert len(files) > 300
    parts = Counter(path.parent.name for path in files if not is_whole(path))
    assert parts == {
        "cat02_vr_mismatch": 4,
        "cat03_sequence_nesting": 1,
        "cat05_transfer_syntax": 2,
        "cat07_file_meta": 5,
        "cat10_cve_2026_3650": 34,
    }


def test_the_real_films_are_whole(shared_data):
    films = [*(shared_data / "wg04").glob("*.dcm"), *(shared_data / "radoss_ddh").glob("*.dcm")]
    assert [path.name for path in films if not is_whole(path)] == []
