import numpy as np
import pytest
from PIL import Image

from hipedge.dicom import is_whole
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


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_picture_is_whole_and_no_part_of_it_is(file, tmp_path, form):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 48), np.uint8)).save(
        tmp_path / "picture", form
    )
    picture = (tmp_path / "picture").read_bytes()
    assert is_whole(file(picture))
    assert [len(part) for part in parts(picture) if is_whole(file(part))] == [] or form == "PNG"
    assert not is_whole(file(picture[: len(picture) // 2]))


def test_an_empty_file_may_be_the_beginning_of_one(file):
    assert not is_whole(file(b""))


def test_of_what_is_no_film_nothing_can_be_told(file):
    assert is_whole(file(b"nothing that we know" * 100))


def test_every_malformed_file_gets_an_answer(shared_data):
    files = [path for path in (shared_data / "malformed").rglob("*") if path.is_file()]
    assert len(files) > 300
    assert all(is_whole(path) in (True, False) for path in files if path.stat().st_size)


def test_the_real_films_are_whole(shared_data):
    films = [*(shared_data / "wg04").glob("*.dcm"), *(shared_data / "radoss_ddh").glob("*.dcm")]
    assert [path.name for path in films if not is_whole(path)] == []
