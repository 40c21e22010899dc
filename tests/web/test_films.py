"""Films for the viewer: the right pixels, and a clear word where there are none."""

import json
import os
import signal
import socket
import threading
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest
from PIL import Image

from hipedge.dicom.read import Payload
from hipedge.errors import Code
from hipedge.pipeline.workers import Limits
from hipedge.types import Mark, Refusal
from hipedge.web.decoder import MAX_WAITING, Busy, Decoder
from hipedge.web.levels import (
    MAX_LEVEL_PIXELS,
    Level,
    LevelRequest,
    Unavailable,
    finest_halvings,
    first_halvings,
)
from tests.builders import content, screened
from tests.dicom.dicom_films import JPEG_2000_LOSSLESS
from tests.dicom.dicom_films import film as dicom_film

from .conftest import PASSWORD, served


def level_of(response):
    assert response.status_code == 200, response.text
    about = json.loads(response.headers["x-level"])
    values = np.frombuffer(response.content, "<u2")
    pixels = values[about["curve"] :].reshape(about["rows"], about["columns"])
    return pixels, values[: about["curve"]], about


def on_disk(place, name, data, **values):
    path = place.folder / name
    path.write_bytes(data)
    return place.described(path, **values)


def stretched(film):
    """The pixels of a picture (H, W), its range stretched to 16 bits."""
    with Image.open(film.source) as picture:
        values = np.asarray(picture).astype(float)
    return np.rint((values - values.min()) / (values.max() - values.min()) * 65535)


def test_the_finest_level_is_the_film_itself(place):
    film = place.fracture()
    pixels, curve, about = level_of(place.client("vera").get("/film/1/0"))
    assert np.array_equal(pixels, stretched(film))
    assert len(curve) == 0
    assert (about["step"], about["origin"]) == (1, [0, 0])


@pytest.mark.parametrize("halvings", [0, 1])
def test_a_jpeg_2000_film_is_decoded_at_the_resolution_that_is_asked_for(place, halvings):
    values = np.arange(1200 * 1000).reshape(1200, 1000) // 400
    film = dicom_film(values.astype(np.uint16), JPEG_2000_LOSSLESS, bits=12,
                      WindowCenter=1500, WindowWidth=2000)  # fmt: skip
    place.record(screened(on_disk(place, "film.dcm", film)))
    pixels, curve, about = level_of(place.client("vera").get(f"/film/1/{halvings}"))
    assert pixels.shape == (1200 >> halvings, 1000 >> halvings)
    assert about["step"] == 1 << halvings
    assert len(curve) == 1025
    expected = np.rint(values[:: 1 << halvings, :: 1 << halvings] / 4095 * 65535)
    assert np.abs(pixels.astype(int) - expected).max() <= 65535 / 4095 * 2


def test_a_film_that_was_turned_is_shown_as_it_was_turned(place):
    film = place.film(shape=(200, 300))
    turned = replace(film, shape=(300, 200))
    place.record(screened(turned, marks=[Mark.TURNED_90]))
    pixels, _, _ = level_of(place.client("vera").get("/film/1/0"))
    assert np.array_equal(pixels, np.rot90(stretched(film)))


def test_a_film_that_was_not_read_is_shown_where_it_can_be_decoded(place):
    film = place.film()
    place.record(Refusal(film.source, Code.NO_HIP_FOUND, content_hash=film.content_hash, film=film))
    pixels, _, _ = level_of(place.client("vera").get("/film/1/0"))
    assert pixels.shape == film.shape


def test_a_film_that_has_vanished_is_said_to_be_gone(place):
    place.fracture().source.unlink()
    response = place.client("vera").get("/film/1/0")
    assert response.status_code == 410
    assert "no longer where it was" in response.text


def test_a_film_that_is_back_is_shown_again(place):
    film = place.fracture()
    content = film.source.read_bytes()
    film.source.unlink()
    client = place.client("vera")
    assert client.get("/film/1/0").status_code == 410
    film.source.write_bytes(content)
    assert client.get("/film/1/0").status_code == 200


def test_a_path_that_holds_another_film_shows_none(place):
    film = place.fracture()
    Image.new("L", (200, 240)).save(film.source)
    response = place.client("vera").get("/film/1/0")
    assert response.status_code == 410
    assert "another film" in response.text


def test_a_file_that_cannot_be_decoded_is_said_to_be_damaged(place):
    data = dicom_film(np.zeros((200, 200), np.uint16), fragments=[b"no codestream"],
                      syntax=JPEG_2000_LOSSLESS)  # fmt: skip
    path = place.folder / "damaged.dcm"
    path.write_bytes(data)
    film = replace(place.film(), source=path, content_hash=Payload(data).content_hash)
    place.record(screened(film))
    response = place.client("vera").get("/film/1/0")
    assert response.status_code == 410
    assert "cannot be decoded" in response.text


def test_a_file_without_a_film_has_none(place):
    place.record(Refusal(place.folder / "x.dcm", Code.NOT_AN_IMAGE, content_hash=content("x")))
    assert place.client("vera").get("/film/1/0").status_code == 404


@pytest.mark.parametrize("halvings", ["1", "8", "99", "-1", "x"])
def test_resolutions_that_a_film_does_not_have_are_not_found(place, halvings):
    place.fracture()
    assert place.client("vera").get(f"/film/1/{halvings}").status_code == 404


@pytest.mark.slow
def test_a_film_of_100_megapixels_is_shown_at_half_of_its_resolution(place):
    picture = BytesIO()
    Image.new("L", (8_000, 12_499), 77).save(picture, "PNG", compress_level=1)
    place.record(screened(on_disk(place, "large.png", picture.getvalue())))
    client = place.client("vera")
    assert '"finest": 1' in client.get("/case/1").text
    assert client.get("/film/1/0").status_code == 404
    pixels, _, about = level_of(client.get("/film/1/4"))
    assert pixels.shape == (782, 500)
    assert about["step"] == 16


@pytest.mark.parametrize("shape", [(1, 1), (3000, 2500), (9_999, 10_000), (100, 1_000_000)])
def test_no_level_is_larger_than_what_is_sent(shape):
    finest, first = finest_halvings(shape), first_halvings(shape)
    assert (shape[0] >> finest) * (shape[1] >> finest) <= MAX_LEVEL_PIXELS
    assert finest <= first <= 7


def test_a_decoder_that_dies_costs_one_answer_and_not_the_next(place):
    film = place.film()
    request = LevelRequest(film.source, film.content_hash, 0, 0)
    with Decoder(1, Limits(wall_s=3, cpu_s=3)) as decoder:
        assert isinstance(decoder.submit(request).result(60), Level)
        children = {
            int(path.name)
            for path in Path("/proc").iterdir()
            if path.name.isdigit() and _is_worker(path)
        }
        for child in children:
            os.kill(child, signal.SIGKILL)
        other = replace(request, halvings=1)
        result = decoder.submit(other).result(60)
        assert isinstance(result, (Level, Unavailable))
        assert isinstance(decoder.submit(replace(request, halvings=2)).result(60), Level)


def _is_worker(process):
    """Whether a process is a worker of a fork server that this test's process started."""
    try:
        parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        grandparent = (process.parent / parent / "stat").read_text().rpartition(")")[2].split()[1]
    except OSError:
        return False
    return int(grandparent) == os.getpid()


def test_more_requests_than_anybody_waits_for_are_refused(place):
    film = place.film()
    decoder = Decoder(1, Limits())  # which has not been started
    for halvings in range(MAX_WAITING):
        decoder.submit(LevelRequest(film.source, film.content_hash, 0, halvings))
    with pytest.raises(Busy):
        decoder.submit(LevelRequest(film.source, film.content_hash, 0, MAX_WAITING))


def test_a_client_that_never_reads_keeps_nobody_waiting(place):
    picture = BytesIO()
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (3000, 3000), dtype=np.uint8)
    Image.fromarray(noise).save(picture, "PNG", compress_level=1)
    place.record(screened(on_disk(place, "noise.png", picture.getvalue())))
    threads = threading.active_count()
    with (
        served(place.app(send_timeout_s=2.0)) as address,
        httpx2.Client(base_url=address) as client,
    ):
        assert client.post("/login", data={"user": "vera", "password": PASSWORD}).status_code == 303
        (cookie,) = client.cookies.items()
        server = urlsplit(address)
        stuck = []
        for _ in range(20):
            one = socket.create_connection((server.hostname, server.port))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lines = ("GET /film/1/0 HTTP/1.1", "Host: 127.0.0.1", f"Cookie: {'='.join(cookie)}")
            one.sendall("\r\n".join((*lines, "", "")).encode())
            stuck.append(one)
        time.sleep(0.5)
        start = time.monotonic()
        assert client.get("/case/1", timeout=30).status_code == 200
        assert len(client.get("/film/1/1", timeout=30).content) == 2 * 1500 * 1500
        assert time.monotonic() - start < 20
        for one in stuck:
            one.close()
    assert threading.active_count() <= threads + 45
