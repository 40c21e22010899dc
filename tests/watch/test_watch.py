"""The service without faults."""

import json
import os
import signal
import time
from pathlib import Path

from hipedge.pipeline.preprocessor import Preprocessor
from hipedge.types import ABNORMAL, Category
from hipedge.watch import service as watch_service
from tests.watch.clinic import Clinic, dicom


def test_what_lies_there_and_what_comes_is_screened_and_told_of(clinic):
    clinic.drop("early.dcm", dicom(1))
    with clinic.service():
        clinic.wait_for(1)
        clinic.drop("deep/er/late.dcm", dicom(2, Category.FEMORAL_NECK_FRACTURE))
        clinic.drop("chest.dcm", dicom(3, BodyPartExamined="CHEST"))
        clinic.drop("notes.pdf", b"no image, by its name")
        clinic.wait_for(3)
        clinic.wait(clinic.messages)
    assert clinic.outcomes() == {
        "early.dcm": "screened",
        "late.dcm": "screened",
        "chest.dcm": "wrong_body_part",
    }
    (message,) = clinic.messages()
    assert message["priority"] == "urgent"
    assert message["hips"][0]["category"] == "femoral_neck_fracture"
    assert not {"path", "sop_instance_uid"} & set(message)


def test_the_watched_folder_is_only_read(clinic):
    path = clinic.drop("film.dcm", dicom(1))
    before = path.stat()
    with clinic.service():
        clinic.wait_for(1)
    assert [path.name for path in clinic.incoming.iterdir()] == ["film.dcm"]
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_restart_does_nothing_twice(clinic):
    clinic.drop("film.dcm", dicom(1))
    for _ in range(2):
        with clinic.service() as service:
            clinic.wait_until_up(service)
            clinic.wait_for(1)
    assert clinic.rows("select count(*), max(attempts) from files") == [(1, 1)]


def test_a_second_service_on_the_same_database_is_refused(clinic):
    with clinic.service() as service:
        clinic.wait_until_up(service)
        second = clinic.start()
        second.join(60)
        assert second.exitcode == 1
        assert "another `hipedge watch` is running" in clinic.log.read_text()


def test_finished_films_are_moved_by_name_and_overwrite_nothing(clinic_with_done_dir):
    clinic, done = clinic_with_done_dir()
    (done / "film.dcm").write_text("one of yesterday")
    clinic.drop("film.dcm", dicom(1))
    clinic.drop("a/film.dcm", dicom(2))
    with clinic.service():
        clinic.wait(lambda: len(list(done.rglob("*.dcm"))) == 3)
    assert list(clinic.incoming.rglob("*.dcm")) == []
    assert (done / "film.dcm").read_text() == "one of yesterday"
    stored = {path for (path,) in clinic.rows("select path from files")}
    assert stored == {str(done / "film-2.dcm"), str(done / "a/film.dcm")}


def test_a_name_that_a_recorded_film_has_is_not_given_again_though_done_dir_was_emptied(
    clinic_with_done_dir,
):
    clinic, done = clinic_with_done_dir(patience_s=0.1)
    with clinic.service() as service:
        for moved_to in ("IM1", "IM1-2"):
            clinic.drop("IM1", b"")
            clinic.wait((done / moved_to).exists)
            (done / moved_to).unlink()
        clinic.drop("IM1", dicom(1))
        clinic.wait((done / "IM1-3").exists)
        assert service.is_alive()
    stored = clinic.rows("select path, coalesce(code, state) from files")
    assert [(Path(path).name, end) for path, end in stored] == [
        ("IM1", "empty_file"),
        ("IM1-2", "empty_file"),
        ("IM1-3", "screened"),
    ]


def test_a_film_that_can_get_no_name_in_done_dir_stays_with_an_alarm_and_the_rest_is_moved(
    clinic_with_done_dir,
):
    clinic, done = clinic_with_done_dir()
    name = "JANE" * 63 + ".7c"  # the longest that a file system allows
    (done / name).write_text("one of yesterday")
    clinic.drop(name, dicom(1))
    clinic.drop("film.dcm", dicom(2))
    with clinic.service():
        clinic.wait((done / "film.dcm").exists)
        clinic.wait(lambda: clinic.rows("select name from alarms") == [("done_dir",)])
    assert [path.name for path in clinic.incoming.iterdir()] == [name]
    assert "JANE" not in clinic.log.read_text()


def test_sighup_applies_new_thresholds_without_inference_and_tells_of_what_they_flag(
    new_clinic,
):
    clinic = new_clinic(thresholds=dict.fromkeys(ABNORMAL, 1.0))
    nothing = {category.value: 1.0 for category in ABNORMAL}
    thresholds = clinic.folder / "thresholds.json"
    clinic.drop("film.dcm", dicom(1, Category.OSTEOARTHRITIS))
    with clinic.service() as service:
        clinic.wait_for(1)
        assert clinic.rows("select count(*) from outbox") == [(0,)]
        steps = ({"osteoarthritis": 0.9}, nothing, {"osteoarthritis": 0.8})
        for reloads, values in enumerate(steps, start=1):
            thresholds.write_text(json.dumps(values))
            os.kill(service.pid, signal.SIGHUP)
            clinic.wait(lambda n=reloads: clinic.log.read_text().count("reloaded") == n)
            clinic.wait(clinic.messages)
    assert clinic.rows("select count(*), sum(attempts) from outbox") == [(1, 1)]
    assert clinic.rows("select count(*) from hips") == [(1,)]
    assert clinic.rows("select count(*) from decisions") == [(3,)]


def test_settings_that_cannot_be_read_again_are_an_alarm_and_the_old_ones_stay(clinic):
    clinic.drop("film.dcm", dicom(1, Category.OSTEOARTHRITIS))
    with clinic.service() as service:
        clinic.wait_until_up(service)
        (clinic.folder / "thresholds.json").write_text('{"operating_point": "lucky"}')
        os.kill(service.pid, signal.SIGHUP)
        clinic.wait(lambda: clinic.rows("select name from alarms") == [("reload_failed",)])
        clinic.wait_for(1)
    assert clinic.rows("select count(*) from rules") == [(1,)]


class SlowPreprocessor(Preprocessor):
    """Takes its time, so that films are in progress when the service is stopped."""

    def __call__(self, path):
        time.sleep(0.1)
        return super().__call__(path)


def slowly():
    watch_service.Preprocessor = SlowPreprocessor


def test_sigterm_finishes_what_was_taken_and_gives_the_rest_back_untried(clinic):
    for number in range(40):
        clinic.drop(f"{number}.dcm", dicom(number))
    with clinic.service(slowly):
        clinic.wait(lambda: clinic.states().get("screened", 0) > 3)
    assert clinic.states()["settling"] > 0
    assert "claimed" not in clinic.states()
    assert clinic.rows("select max(attempts) from paths where file_id is null") in (
        [(0,)],
        [(None,)],
    )
    with clinic.service() as service:
        clinic.wait_until_up(service)
        clinic.wait_for(40)
    assert clinic.rows("select max(attempts) from files") == [(1,)]


def test_the_models_locator_looks_for_hips_where_none_is_marked(
    tmp_path, reference_model, shared_data
):
    clinic = Clinic(tmp_path, reference_model.path)
    (tibia,) = (shared_data / "wg04").glob("RG3*")
    clinic.drop("tibia.dcm", tibia.read_bytes())
    with clinic.service():
        clinic.wait_for(1)
    assert clinic.outcomes() == {"tibia.dcm": "no_hip_found"}
