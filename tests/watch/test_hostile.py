"""Promises 7, 8, 11, 12 and 14: what files can hold."""

import json
import random
import re
import shutil
import struct
import urllib.request
import zlib
from pathlib import Path

import pytest
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from hipedge.locate.given import GivenHips
from hipedge.pipeline.preprocessor import Preprocessor
from hipedge.pipeline.workers import Limits, WorkerCrash, Workers
from hipedge.types import Category, CropGeometry, Refusal
from hipedge.watch.settle import FileStat, Settled, SettledPreprocessor
from tests.dicom import dicom_films
from tests.watch.clinic import ROOT_UID, dicom, paint

GEOMETRY = CropGeometry(64, 160.0, 10.0, 20.0)


def read_all(paths, limits=None, count=1):
    """Yield the results of the service's workers for files that may wait no longer."""
    preprocess = SettledPreprocessor(Preprocessor(GEOMETRY, GivenHips(), frozenset()))
    items = [Settled(path, FileStat.at(path), last_chance=True) for path in paths]
    with Workers(preprocess, count, limits) as workers:
        yield from (pair for batch in workers.run(items, lambda _: None) for pair in batch)


def jpeg2000_bomb(side):
    """A small JPEG 2000 film that claims to be `side` pixels wide and high, in both headers."""
    film = bytearray(
        dicom_films.film(paint(Category.NORMAL), dicom_films.JPEG_2000_LOSSLESS, bits=12)
    )
    start = film.index(b"\xff\x4f\xff\x51")
    struct.pack_into(">2L", film, start + 8, side, side)
    for tag in (b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x11\x00US\x02\x00"):
        struct.pack_into("<H", film, film.index(tag) + 8, side)
    return bytes(film)


def nested(levels):
    """A dataset in a sequence in a sequence, all of undefined length."""
    film = dicom(1)
    start = dicom_films.after_file_meta(film)
    opening = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    return film[:start] + opening * levels


def png_bomb():
    header = struct.pack(">2L5B", 30_000, 30_000, 16, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20))
    chunks = [(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))
        for kind, data in chunks
    )


BOMBS = {
    "deflate": lambda: dicom_films.deflate_bomb(1 << 30),
    "JPEG 2000 that claims 15,000²": lambda: jpeg2000_bomb(15_000),
    "JPEG 2000 that claims 65,535²": lambda: jpeg2000_bomb(65_535),
    "RLE rows": lambda: dicom(1, syntax=dicom_films.RLE, Rows=65_535, Columns=1_500),
    "frames": lambda: dicom(1, NumberOfFrames=str(2**31)),
    "native rows": lambda: dicom(1, Rows=65_535, Columns=65_535),
    "nesting": lambda: nested(100_000),
    "PNG that claims 30,000²": png_bomb,
}


@pytest.mark.promise(7)
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_and_its_worker_stays_within_its_memory(tmp_path, bomb):
    path = tmp_path / "bomb"
    path.write_bytes(BOMBS[bomb]())
    limits = Limits(memory_bytes=1 << 30, wall_s=60.0)
    ((_, result),) = read_all([path], limits)
    assert isinstance(result, Refusal | WorkerCrash)
    peak_kb = peak_of_a_worker(path, limits)
    assert peak_kb < (1 << 20) + 200_000


def peak_of_a_worker(path, limits):
    """The most memory (VmHWM) that a worker held that read the file, or the limit if it died."""
    with Workers(front_and_peak, 1, limits) as workers:
        ((_, peak_kb),) = [pair for batch in workers.run([path], lambda _: None) for pair in batch]
    return limits.memory_bytes // 1024 if isinstance(peak_kb, WorkerCrash) else peak_kb


def front_and_peak(path):
    Preprocessor(GEOMETRY, GivenHips(), frozenset())(path)
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def mutations(film, count, seed=0):
    """Damage of many kinds: bytes, words, lengths, cuts, pieces twice or gone."""
    chance = random.Random(seed)
    for _ in range(count):
        data = bytearray(film)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(132, min(len(data), 4000 if chance.random() < 0.7 else 10**9))
            kind = chance.randrange(6)
            if kind == 0:
                data[place] = chance.randrange(256)
            elif kind == 1:
                data[place : place + 4] = chance.choice(
                    [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\x80"]
                )
            elif kind == 2:
                del data[place : place + chance.randint(1, 64)]
            elif kind == 3:
                data[place:place] = data[place : place + chance.randint(1, 64)]
            elif kind == 4:
                data[place : place + 2] = chance.choice([b"SQ", b"UN", b"OB", b"US", b"??"])
            else:
                del data[max(place, len(data) // 2) :]
        yield bytes(data)


FRAMES = ("RG2_RLE", "RG2_JPLL", "RG2_JLSL", "RG2_J2KR", "RG2_JPLY")


@pytest.mark.promise(8)
@pytest.mark.parametrize("name", FRAMES)
def test_no_mutation_of_a_real_film_does_more_than_end_its_own_reading(name, shared_data, tmp_path):
    check_mutations(shared_data, name, 8, tmp_path)


@pytest.mark.slow
@pytest.mark.promise(8)
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FRAMES)
def test_hundreds_of_mutations_of_a_real_film(name, shared_data, tmp_path):
    check_mutations(shared_data, name, 400, tmp_path)


def check_mutations(shared_data, name, count, tmp_path):
    film, ended = (shared_data / "wg04" / f"{name}.dcm").read_bytes(), 0
    paths = []
    for number, data in enumerate(mutations(film, count, seed=len(name))):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(data)
        paths.append(path)
        if len(paths) == 50 or number == count - 1:
            results = list(read_all(paths, count=2))
            assert len(results) == len(paths)
            ended += len(results)
            for path in paths:
                path.unlink()
            paths = []
    assert ended == count


@pytest.mark.promise(8)
def test_the_malformed_corpus_comes_to_an_end_each_without_a_restart(new_clinic, shared_data):
    clinic = new_clinic(workers=2, patience_s=0.1)
    folder = shared_data / "malformed"
    files = [path for path in folder.rglob("*") if path.suffix == ".dcm" or not path.suffix]
    files = [path for path in files if path.is_file()]
    with clinic.service() as service:
        shutil.copytree(folder, clinic.incoming / "corpus")
        clinic.wait(lambda: len(clinic.outcomes()) >= 355)
        clinic.wait_for(len(clinic.outcomes()), timeout_s=100)
        assert service.is_alive()
    assert clinic.rows("select count(*) from runs") == [(1,)]
    assert len(files) >= 355
    assert clinic.rows("select count(*) from paths where file_id is null") == [(0,)]


CANARY = "CANARY^JANE"
TEXT_VRS = {"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT", "CS"}


def canaries():
    """Every text element there is of the patient, the study, the equipment and the image."""
    keep = {"Modality", "BodyPartExamined", "PhotometricInterpretation"}
    found = {}
    for tag in [*range(0x00080005, 0x00083000), *range(0x00100010, 0x00104500),
                *range(0x00180010, 0x00181500), *range(0x00200010, 0x00204100)]:  # fmt: skip
        keyword = keyword_for_tag(tag)
        if not keyword or keyword in keep or tag_for_keyword(keyword) != tag:
            continue
        if dictionary_VR(tag) in TEXT_VRS:
            found[keyword] = CANARY
    return found


@pytest.mark.promise(11)
def test_nothing_out_of_a_film_is_ever_in_a_log_a_metric_or_a_message(new_clinic, free_port):
    clinic = new_clinic(metrics_port=free_port, patience_s=0.1)
    elements = canaries()
    assert len(elements) > 150
    elements.pop("SpecificCharacterSet")
    pixels_say = paint(Category.FEMORAL_NECK_FRACTURE)
    pixels_say.view("u1").reshape(-1)[-len(CANARY) :] = list(CANARY.encode())
    uid = f"{ROOT_UID}.1"
    with disable_value_validation():
        film = dicom_films.film(pixels_say, bits=16, SOPInstanceUID=uid, **elements)
    clinic.drop(f"{CANARY}.dcm", film)
    clinic.drop(f"{CANARY}-half.dcm", film[:3000])
    clinic.drop(f"{CANARY}.json", CANARY.encode())
    clinic.drop(f"{CANARY}-text.dcm", CANARY.encode() * 100)
    with clinic.service():
        clinic.wait_for(3)
        clinic.wait(clinic.messages)
        metrics = get(free_port, "/metrics")
        assert get(free_port, "/healthz") == "ok"
    assert clinic.outcomes()[f"{CANARY}.dcm"] == "screened"
    assert 'hipedge_files_total{code="",state="screened"} 1.0' in metrics
    said = clinic.log.read_text() + metrics + json.dumps(clinic.messages())
    assert "screened" in said
    assert "recorded" in said
    for secret in ("CANARY", "JANE", uid):
        assert secret not in said
    details = clinic.rows("select group_concat(coalesce(detail, '') || timings_ms) from files")
    assert "CANARY" not in str(details)


def get(port, page):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=10) as answer:
        return answer.read().decode()


# Names and labels of ours are small letters: no film has a say in them.
SAMPLE = re.compile(r'hipedge_[a-z_]+({[a-z]+="[a-z_]*"(,[a-z]+="[a-z_]*")*})? [0-9.e+-]+')
EVIL = ("../../x", "a\0b", ";id", "$(id)", "a\nlevel=error", "%s%n", "x" * 1_000_000)


@pytest.mark.promise(11)
def test_evil_values_are_never_a_path_a_command_a_line_or_a_label(new_clinic, free_port):
    clinic = new_clinic(metrics_port=free_port)
    for number, evil in enumerate(EVIL):
        names = dict.fromkeys(("PatientName", "Manufacturer", "StudyInstanceUID"), evil)
        with disable_value_validation():
            # Only implicit VR has room for a text of 1 MB.
            film = dicom(number, syntax=dicom_films.IMPLICIT, ProtocolName=evil, **names)
        clinic.drop(f"{number}.dcm", film)
    for number, evil in enumerate(EVIL[1:6]):
        clinic.drop(f"{evil.replace(chr(0), '').replace('/', '')}{number}.dcm", dicom(20 + number))
    before = {path for path in clinic.folder.rglob("*") if path.is_file()}
    with clinic.service():
        clinic.wait_for(len(EVIL) + 5)
        metrics = get(free_port, "/metrics")
    made = {path.name for path in clinic.folder.rglob("*") if path.is_file()} - {
        path.name for path in before
    }
    assert made <= {"cases.db", "cases.db.lock", "cases.db-wal", "cases.db-shm"}
    lines = clinic.log.read_text().splitlines()
    assert not any(line.startswith("level") for line in lines)
    assert all(line.split()[0].isidentifier() for line in lines)
    samples = [line for line in metrics.splitlines() if not line.startswith("#")]
    assert len(samples) > 20
    assert [line for line in samples if not SAMPLE.fullmatch(line)] == []
    assert set(clinic.outcomes().values()) <= {"screened", "malformed_header"}
    assert clinic.rows("select max(length(manufacturer)) from files")[0][0] <= 64


@pytest.mark.promise(12)
@pytest.mark.parametrize(
    "magic",
    [
        b"MZ\x90\0",
        *(
            pytest.param(m, marks=pytest.mark.slow)
            for m in (b"\x7fELF", b"#!/bin/sh\n", b"PK\x03\x04")
        ),
    ],
)
def test_an_executable_that_is_a_film_too_is_marked_and_never_passed_on(new_clinic, magic):
    clinic = new_clinic()
    done = clinic.folder / "done"
    done.mkdir()
    object.__setattr__(clinic.settings, "done_dir", done)
    film = dicom(1, Category.FEMORAL_NECK_FRACTURE)
    clinic.drop("film.dcm", magic + film[len(magic) :])
    with clinic.service():
        clinic.wait(clinic.messages)
    assert clinic.rows("select state, marks from files") == [("screened", '["polyglot"]')]
    (message,) = clinic.messages()
    assert message["marks"] == ["polyglot"]
    told = b"".join(path.read_bytes() for path in clinic.spool.iterdir())
    assert magic not in told


@pytest.mark.promise(14)
def test_one_uid_with_two_images_is_a_conflict_and_both_are_screened(clinic):
    clinic.drop("one.dcm", dicom(1, noise=1))
    clinic.drop("two.dcm", dicom(1, noise=2))
    with clinic.service():
        clinic.wait_for(2)
    assert clinic.rows("select state, marks from files") == [("screened", '["conflict"]')] * 2


@pytest.mark.promise(14)
def test_one_file_under_two_names_is_one_result(clinic):
    film = dicom(1)
    clinic.drop("one.dcm", film)
    clinic.drop("two.dcm", film)
    with clinic.service():
        clinic.wait_for(2)
    assert clinic.rows("select state from files") == [("screened",)]
    assert clinic.rows("select count(*) from hips") == [(1,)]
    assert clinic.rows("select count(distinct file_id), count(*) from paths") == [(1, 2)]
